"""Cross-entropy of the learned tokens: those whose label is not -100."""
from transformers import DataCollatorForSeq2Seq
from trl import SFTConfig as Config
from trl import SFTTrainer as Trainer


def settings(c):
    return dict(max_length=None, packing=False)


def collator(tokenizer):
    return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
