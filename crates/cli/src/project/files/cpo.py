"""CPO, or SimPO, over pairs that are tokens already."""
from trl.experimental.cpo import CPOConfig as Config
from trl.experimental.cpo import CPOTrainer


class Trainer(CPOTrainer):
    def tokenize_row(self, feature, model=None):
        return {f"{side}_attention_mask": [1] * len(feature[f"{side}_input_ids"]) for side in ("chosen", "rejected")}


def settings(c):
    return dict(max_length=c["max_seq_len"], beta=c["beta"], loss_type=c["loss_type"], cpo_alpha=c["cpo_alpha"],
                label_smoothing=c["label_smoothing"], simpo_gamma=c["simpo_gamma"] or 0.0, disable_dropout=False)


def collator(tokenizer):
    return None  # The trainer's own.
