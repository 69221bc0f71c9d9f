"""Perplexity of a model as `siskin quantize` and as llama.cpp's quantiser store it, type by type. Run with
    pip install numpy safetensors
    cargo build --release --workspace --bins
    python quantised_perplexity.py MODEL.gguf TEXT FOLDER
FOLDER has llama.cpp's libraries, as those of the npm package @node-llama-cpp/linux-x64. The logits of both files are
siskin's, in f32 on the CPU; the text is read in windows of 512 tokens, and the first half of each is context alone.
"""
import ctypes
import glob
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

SISKIN = pathlib.Path(__file__).parent.parent / "target/release/siskin"
TYPES = {"q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_0": 8, "q4_k_m": 15, "q4_0": 2, "iq4_nl": 25, "q3_k_m": 12, "q2_k": 10}
WINDOW = 512


class Params(ctypes.Structure):
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int), ("output", ctypes.c_int), ("embedding", ctypes.c_int),
                ("flags", ctypes.c_bool * 6), ("imatrix", ctypes.c_void_p), ("rest", ctypes.c_void_p * 8)]


def quantiser(folder):
    for part in ("ggml-base", "ggml"):
        ctypes.CDLL(sorted(glob.glob(f"{folder}/lib{part}.*so*") or glob.glob(f"{folder}/lib{part}.so"))[0], mode=ctypes.RTLD_GLOBAL)
    llama = ctypes.CDLL(sorted(glob.glob(f"{folder}/libllama.*so*"))[0])
    llama.llama_model_quantize_default_params.restype = Params
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()

    def quantise(source, out, number):
        params = llama.llama_model_quantize_default_params()
        params.ftype, params.nthread = number, 2
        assert llama.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) == 0
    return quantise, quiet


def siskin(*args):
    return subprocess.run([SISKIN, *map(str, args)], check=True, capture_output=True, text=True).stdout


def perplexity(model, windows, out):
    total, count = 0.0, 0
    for ids in windows:
        siskin("logits", model, "--tokens", ",".join(map(str, ids)), "--device", "cpu", "--precision", "f32", "--out", out, "--force")
        logits = load_file(out)["logits"].astype(np.float64)[WINDOW // 2 - 1:-1]
        logits -= logits.max(axis=1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        wanted = ids[WINDOW // 2:]
        total -= logprobs[np.arange(len(wanted)), wanted].sum()
        count += len(wanted)
    return float(np.exp(total / count))


def main(model, text, folder):
    quantise, _keep = quantiser(folder)
    ids = [t["id"] for t in json.loads(siskin("tokenize", model, pathlib.Path(text).read_text(), "--json"))["tokens"]]
    windows = [ids[at:at + WINDOW] for at in range(0, len(ids) - WINDOW + 1, WINDOW)][:4]
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        base = tmp / "f16.gguf"
        siskin("quantize", model, "--type", "f16", "--out", base)
        out = tmp / "logits.safetensors"
        print(f"{len(windows)} windows; f16: {perplexity(base, windows, out):.4f}")
        print("| type | siskin | llama.cpp | ratio |\n|---|---|---|---|")
        for name, number in TYPES.items():
            ours, theirs = tmp / "ours.gguf", tmp / "theirs.gguf"
            siskin("quantize", base, "--type", name, "--out", ours, "--force")
            quantise(base, theirs, number)
            a, b = perplexity(ours, windows, out), perplexity(theirs, windows, out)
            print(f"| {name} | {a:.4f} | {b:.4f} | {a / b:.4f} |", flush=True)


main(*sys.argv[1:])
