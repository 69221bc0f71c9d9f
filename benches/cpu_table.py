"""siskin and llama.cpp on the CPU, model by model: prefill of 512 tokens, and decoding of 64 tokens after these. Run with
    cargo build --release --workspace --bins
    python cpu_table.py LLAMA_BENCH MODEL.gguf …
LLAMA_BENCH is llama.cpp's own tool, built for this machine. Its source is in the sdist llama-cpp-python of PyPI, in
vendor/llama.cpp; there
    cmake -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF
    cmake --build build --target llama-bench llama-quantize
The programs take turns; what counts is the best of all turns of each, as other work on the machine only ever slows them.
"""
import argparse
import json
import os
import pathlib
import subprocess

SISKIN = pathlib.Path(__file__).parent.parent / "target/release/siskin"

parser = argparse.ArgumentParser()
parser.add_argument("llama_bench")
parser.add_argument("models", nargs="+", type=pathlib.Path)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--depth", type=int, default=512, help="tokens of the prompt")
parser.add_argument("--turns", type=int, default=3)
args = parser.parse_args()


def run(*command):
    return json.loads(subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout)


def llama(model):
    def rate(*what):
        rows = run(args.llama_bench, "-m", model, "-t", args.threads, "-ngl", 0, "-r", 1, "-o", "json", *what)
        return rows[0]["avg_ts"]
    return rate("-p", args.depth, "-n", 0), rate("-p", 0, "-n", 64, "-d", args.depth)


def siskin(model):
    rates = run(SISKIN, "bench", model, "--device", "cpu", "--threads", args.threads, "-p", args.depth, "-n", 64, "--runs", 1, "--json")
    return rates["prefill_tok_s"], rates["decode_tok_s"]


print(f"| {args.threads} threads, tokens/s | prefill {args.depth}: siskin | llama.cpp | ratio | decode 64: siskin | llama.cpp | ratio |")
print("|---|---|---|---|---|---|---|", flush=True)
for model in args.models:
    best = {siskin: (0, 0), llama: (0, 0)}
    for _ in range(args.turns):
        for tool in best:
            best[tool] = tuple(map(max, best[tool], tool(model)))
    cells = [model.stem]
    for ours, theirs in zip(best[siskin], best[llama]):
        cells += [f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)
