"""ORPO over pairs that are tokens already."""
from trl.experimental.orpo import ORPOConfig as Config
from trl.experimental.orpo import ORPOTrainer


class Trainer(ORPOTrainer):
    def tokenize_row(self, feature, model=None):
        return {f"{side}_attention_mask": [1] * len(feature[f"{side}_input_ids"]) for side in ("chosen", "rejected")}


def settings(c):
    return dict(max_length=c["max_seq_len"], beta=c["beta"], disable_dropout=False)


def collator(tokenizer):
    return None  # The trainer's own.
