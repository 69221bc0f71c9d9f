"""Many clients on a server with OpenAI's API, siskin's or another: python3 benches/serve_load.py URL MODEL.

Each client asks one question after another, streamed, with a prompt of its own; with --leave, some leave in the middle of
an answer. Prints JSON: answers, errors, tokens per second, and times to the first token.
"""

import argparse
import json
import random
import threading
import time
import urllib.request

WORDS = "river market apple bridge lantern winter engine garden letter copper violin harbour meadow thunder candle".split()


def ask(args, noise, result):
    text = " ".join(noise.choice(WORDS) for _ in range(noise.randint(10, 60)))
    request = {
        "model": args.model,
        "messages": [{"role": "user", "content": f"Write a short story with these words: {text}"}],
        "max_tokens": args.tokens,
        "temperature": 0.8,
        "seed": noise.randrange(1 << 30),
        "stream": True,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {args.key}"}
    leaves_after = noise.randint(0, args.tokens) if noise.random() < args.leave else None
    begin, first, tokens, is_done = time.monotonic(), None, 0, False
    with urllib.request.urlopen(
        urllib.request.Request(f"{args.url}/chat/completions", json.dumps(request).encode(), headers), timeout=300
    ) as response:
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                is_done = True
                break
            choices = json.loads(data).get("choices") or [{}]
            if choices[0].get("delta", {}).get("content"):
                first = first or time.monotonic() - begin
                tokens += 1
                if leaves_after is not None and tokens > leaves_after:
                    result["left"] += 1
                    return
    if not is_done:
        raise RuntimeError("a stream ended without [DONE]")
    result["answers"] += 1
    result["tokens"] += tokens
    result["first"].append(first if first is not None else time.monotonic() - begin)


def client(args, seed, end, results, lock):
    noise = random.Random(seed)
    result = {"answers": 0, "left": 0, "tokens": 0, "first": [], "errors": []}
    while time.monotonic() < end:
        try:
            ask(args, noise, result)
        except Exception as e:  # Whatever it is, it is counted.
            result["errors"].append(repr(e))
            time.sleep(0.2)
    with lock:
        results.append(result)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="such as http://127.0.0.1:8080/v1")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=32, help="the most of an answer")
    parser.add_argument("--leave", type=float, default=0, help="the part of answers that clients do not wait for")
    parser.add_argument("--key", default="none")
    args = parser.parse_args()
    begin = time.monotonic()
    results, lock = [], threading.Lock()
    threads = [
        threading.Thread(target=client, args=(args, seed, begin + args.seconds, results, lock))
        for seed in range(args.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begin
    first = sorted(t for r in results for t in r["first"])
    errors = [e for r in results for e in r["errors"]]
    at = lambda part: round(first[min(len(first) - 1, int(part * len(first)))], 3) if first else None
    print(
        json.dumps(
            {
                "answers": sum(r["answers"] for r in results),
                "left": sum(r["left"] for r in results),
                "errors": len(errors),
                "first_errors": errors[:3],
                "tokens_per_second": round(sum(r["tokens"] for r in results) / seconds, 1),
                "first_token_p50": at(0.5),
                "first_token_p95": at(0.95),
                "seconds": round(seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
