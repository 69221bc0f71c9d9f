"""Trained tokens per second and peak memory: siskin on the CPU compared with PEFT and PyTorch in f32, on the same
model and tokens. Rank 16, every projection, 256 tokens per step. Run with Python 3.11 and
    pip install torch==2.* transformers==4.57.6 peft==0.21.* gguf
    cargo build --release && python benches/training.py
Each runs in a separate process; the first step is excluded.
"""
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "smollm2-135m-instruct.gguf"
STEPS, TOKENS, RANK = 6, 256, 16


def words():
    return " ".join((ROOT / "ARCHITECTURE.md").read_text().split()[:600])


def siskin():
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data.txt"
        data.write_text(words())
        out = pathlib.Path(folder) / "out"
        command = [ROOT / "target/release/siskin", "train", "--model", MODEL, "--data", data, "--out", out, "--device", "cpu",
                   "--steps", str(STEPS), "--rank", str(RANK), "--batch-size", "1", "--max-seq-len", str(TOKENS + 1),
                   "--validation", "0", "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][2:]
    return sum(line["tokens"] for line in lines) / sum(line["seconds"] for line in lines)


def peft():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    ids = torch.tensor([tokenizer(words())["input_ids"][:TOKENS + 1]])
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    seconds = 0.0
    for step in range(STEPS):
        start = time.perf_counter()
        model(ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step > 0:
            seconds += time.perf_counter() - start
    return (STEPS - 1) * TOKENS / seconds


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rate = {"siskin": siskin, "peft": peft}[sys.argv[1]]()
        children = sys.argv[1] == "siskin"
        usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
        print(json.dumps({"rate": rate, "peak": usage.ru_maxrss * 1024}))
    else:
        for name in ("siskin", "peft"):
            run = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
            found = json.loads(run.stdout.splitlines()[-1])
            print(f"{name}: {found['rate']:.0f} trained tokens/s, {found['peak'] / 1e9:.2f} GB at most")
