"""Writes the tokens of data.jsonl (and validation.jsonl) to the folder that LLaMA-Factory's `tokenized_path` names."""
import json
import pathlib

from datasets import Dataset, DatasetDict

HERE = pathlib.Path(__file__).resolve().parent


def read(name):
    rows = [json.loads(line) for line in (HERE / name).read_text().splitlines()]
    for row in rows:
        for side in ("chosen", "rejected"):
            if f"{side}_input_ids" in row:
                row[f"{side}_attention_mask"] = [1] * len(row[f"{side}_input_ids"])
        row.update(images=None, videos=None, audios=None)
    return Dataset.from_list(rows)


parts = {"train": read("data.jsonl")}
if (HERE / "validation.jsonl").exists():
    parts["validation"] = read("validation.jsonl")
DatasetDict(parts).save_to_disk(str(HERE / "tokenized"))
