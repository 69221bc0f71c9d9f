"""Records the logits that transformers gives for the cases of this folder, from the same files:
    pip install torch transformers==5.24.0 safetensors
    python record.py [CASE…]
Cases whose `source` is another program's are left as they are.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

HERE = pathlib.Path(__file__).parent


def record(folder):
    case = json.loads((folder / "case.json").read_text())
    if "logits" not in case or not case["source"].startswith("transformers"):
        return
    args = case["args"]
    path = args[1].replace("{case}", str(folder)).replace("{models}", str(HERE / "models"))
    # Of GGUF files, transformers drops biases: the folder with the same weights is named.
    path = case.get("same_as", path).replace("{models}", str(HERE / "models"))
    # A GGUF file is named beside its folder.
    where = pathlib.Path(path)
    args_of = {"gguf_file": where.name} if where.suffix == ".gguf" else {}
    path = where.parent if args_of else where
    ids = torch.tensor([[int(t) for t in args[args.index("--tokens") + 1].split(",")]])
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **args_of)
    except ValueError:
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    save_file({"logits": logits.contiguous()}, folder / case["logits"])
    print(folder.name, logits.abs().max().item())


if __name__ == "__main__":
    cases = [pathlib.Path(a) for a in sys.argv[1:]] or [p.parent for p in sorted(HERE.glob("*/*/case.json"))]
    for folder in cases:
        record(folder)
