"""Processor time per step of DPO beside that of supervised training on the same tokens: SmolLM2-135M-Instruct on the CPU, a
pair of 128 + 128 tokens a step, rank 16. Where each pair is new, its reference is computed in the step; later it is known.
Run with Python 3.11 and
    cargo build --release && python benches/objectives.py
Five steps less one step of each, so that loading the model does not count.
"""
import json
import pathlib
import resource
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 5


def records(n):
    words = (ROOT / "ARCHITECTURE.md").read_text().split()
    texts = [" ".join(words[i * 110:][:110]) for i in range(2 * n)]
    return [(f"Passage {i}?", texts[2 * i], texts[2 * i + 1]) for i in range(n)]


def processor_time(folder, objective, pairs, steps):
    if objective == "dpo":
        lines = [{"prompt": p, "chosen": a, "rejected": b} for p, a, b in records(pairs)]
    else:
        lines = [{"prompt": p, "completion": c} for p, a, b in records(pairs) for c in (a, b)]
    data = folder / f"{objective}.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Answers are cut, so that each text has 128 rows.
    flags = ["--objective", objective, "--batch-size", "1" if objective == "dpo" else "2", "--steps", str(steps), "--rank", "16",
             "--max-seq-len", "129", "--validation", "0", "--device", "cpu", "--force", "--checkpoint-every", "100"]
    command = [ROOT / "target/release/siskin", "train", "--model", ROOT / "models/smollm2-135m-instruct.gguf", "--data", data]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command + ["--out", folder / "out"] + flags, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    tokens = [json.loads(line)["tokens"] for line in (folder / "out/metrics.jsonl").read_text().splitlines()[1:]]
    assert tokens == [256] * steps, tokens
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def per_step(objective, pairs):
    with tempfile.TemporaryDirectory() as folder:
        few, many = (processor_time(pathlib.Path(folder), objective, pairs, n) for n in (1, STEPS))
    return (many - few) / (STEPS - 1)


if __name__ == "__main__":
    sft = per_step("sft", STEPS)
    print(f"sft {sft:.2f} s a step", flush=True)
    for name, pairs in (("new pairs", STEPS), ("known pairs", 1)):
        dpo = per_step("dpo", pairs)
        print(f"dpo, {name}: {dpo:.2f} s a step, ratio {dpo / sft:.2f}", flush=True)
