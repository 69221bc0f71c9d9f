"""DPO over pairs that are tokens already. Labels of -100 are tokens of the prompt."""
import torch
from torch.nn.utils.rnn import pad_sequence
from trl import DPOConfig as Config
from trl import DPOTrainer as Trainer


def settings(c):
    return dict(max_length=None, beta=c["beta"], loss_type=[c["loss_type"]], label_smoothing=c["label_smoothing"],
                disable_dropout=False)


def collator(tokenizer):
    def collate(examples):
        """The chosen answers, then the rejected ones."""
        rows = [(e[f"{side}_input_ids"], e[f"{side}_labels"]) for side in ("chosen", "rejected") for e in examples]
        padded = lambda lists, value: pad_sequence([torch.tensor(l) for l in lists], True, value)
        return {
            "input_ids": padded([ids for ids, _ in rows], tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(ids) for ids, _ in rows], 0),
            "completion_mask": padded([[int(label != -100) for label in labels] for _, labels in rows], 0),
        }

    return collate
