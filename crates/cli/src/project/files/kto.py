"""KTO over answers that are tokens already. KL_completion_ids is the answer to another prompt."""
from trl import KTOConfig as Config
from trl import KTOTrainer as Trainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference


def settings(c):
    return dict(max_length=None, beta=c["beta"], desirable_weight=c["desirable_weight"],
                undesirable_weight=c["undesirable_weight"], disable_dropout=False)


def collator(tokenizer):
    return DataCollatorForUnpairedPreference(pad_token_id=tokenizer.pad_token_id, max_length=None)
