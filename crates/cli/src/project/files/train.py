"""Trains the adapter of this project: settings in config.json, examples as tokens in data.jsonl, their order in order.json.

python train.py [--resume] [--micro-batch-size N]; README.md has the launch lines for several GPUs.
"""
import argparse
import json
import math
import os
import pathlib
import sys

import model as models  # Before the others: Unsloth changes what is imported after it.

import torch
from datasets import load_dataset
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

import objective

HERE = pathlib.Path(__file__).resolve().parent


def arguments(given=None):
    parser = argparse.ArgumentParser(description="Trains the adapter of this project.")
    parser.add_argument("--model", help="the base model, or a folder with it, instead of config.json's")
    parser.add_argument("--out", default=str(HERE / "adapter"), help="the adapter's folder")
    parser.add_argument("--micro-batch-size", type=int, help="examples at once on a device; more of a step are accumulated")
    parser.add_argument("--steps", type=int, help="end after so many steps")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], help="of the base model")
    parser.add_argument("--initial-adapter", help="the folder of an adapter to begin with")
    parser.add_argument("--no-dropout", action="store_true", help="to compare with another training run")
    parser.add_argument("--resume", action="store_true", help="from the last checkpoint, if there is one")
    return parser.parse_args(given)


class Order(torch.utils.data.Sampler):
    """The examples of each epoch, in the order in which siskin learns from them."""

    def __init__(self, epochs):
        self.epochs, self.epoch = epochs, 0

    def __iter__(self):
        return iter(self.epochs[self.epoch % len(self.epochs)])

    def __len__(self):
        return len(self.epochs[0])


def rate(step, total, c):
    """The learning rate of a step, counted from 0, as a fraction of the peak."""
    warmup = c["warmup_steps"]
    if step < warmup:
        return (step + 1) / (warmup + 1)
    after = max(total - warmup, 1)
    done = min((step - warmup) / after, 1.0)
    cosine = lambda x: 0.5 * (1.0 + math.cos(math.pi * x))
    if c["schedule"] == "constant":
        return 1.0
    if c["schedule"] == "linear":
        factor = 1.0 - done
    elif c["schedule"] == "cosine":
        factor = cosine(done)
    elif c["schedule"] == "cosine_with_restarts":
        factor = cosine(done * c["num_cycles"] % 1.0) if done < 1.0 else 0.0
    elif c["schedule"] == "warmup_stable_decay":
        decay = min(c["num_decay_steps"], after)
        factor = cosine(min(max(step - warmup - (after - decay), 0) / max(decay, 1), 1.0))
    else:
        sys.exit(f"config.json: the schedule {c['schedule']} is unknown")
    return c["min_lr_rate"] + (1.0 - c["min_lr_rate"]) * factor


class Watch(TrainerCallback):
    """Writes what is logged to metrics.jsonl, gives each epoch its order, and scores the last step, too."""

    def __init__(self, path, order, steps_per_epoch):
        self.path, self.order, self.steps_per_epoch = path, order, steps_per_epoch

    def on_train_begin(self, args, state, control, **others):
        if state.is_world_process_zero and state.global_step == 0:
            self.path.unlink(missing_ok=True)

    def on_epoch_begin(self, args, state, control, **others):
        self.order.epoch = state.global_step // self.steps_per_epoch

    def on_log(self, args, state, control, logs=None, **others):
        if state.is_world_process_zero:
            with open(self.path, "a") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")

    def on_step_end(self, args, state, control, **others):
        if state.global_step >= state.max_steps:
            control.should_evaluate = args.eval_strategy != "no"
        return control


def trainer_of(base, c, order):
    class RecipeTrainer(base):
        # The examples are tokens already.
        def _prepare_dataset(self, dataset, *others, **more):
            return dataset

        def _get_train_sampler(self, *others, **more):
            return order

        def create_scheduler(self, num_training_steps, optimizer=None):
            # The planned steps, of which a run may take fewer.
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: rate(step, c["steps"], c))
            self._created_lr_scheduler = True
            return self.lr_scheduler

    return RecipeTrainer


def begin_with(model, adapter):
    found = set_peft_model_state_dict(model, load_file(pathlib.Path(adapter) / "adapter_model.safetensors"))
    if found.unexpected_keys:
        sys.exit(f"{adapter} has weights that the model has not: {found.unexpected_keys[0]}")


def main(given=None):
    args = arguments(given)
    c = json.loads((HERE / "config.json").read_text())
    if args.no_dropout:
        c["lora"]["lora_dropout"] = 0.0
    world = int(os.environ.get("WORLD_SIZE", 1))
    batch = c["batch_size"]
    micro = args.micro_batch_size or batch // world
    if micro < 1 or batch % (micro * world):
        sys.exit(f"batch_size is {batch}, which {world} processes cannot share with {micro or 1} examples each; change "
                 "batch_size in config.json, --micro-batch-size, or the number of processes")
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    on_gpu = torch.cuda.is_available()
    dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    files = {"train": str(HERE / "data.jsonl")}
    if c["eval_steps"]:
        files["validation"] = str(HERE / "validation.jsonl")
    data = load_dataset("json", data_files=files)
    name = args.model or c["base_model"]
    model, tokenizer, more = models.load(name, c, getattr(torch, dtype))
    if tokenizer(c["probe"]["text"], add_special_tokens=False)["input_ids"] != c["probe"]["ids"]:
        sys.exit(f"the tokenizer of {name} is not the one with which data.jsonl was written; use a base model that has it")
    evaluation = dict(eval_strategy="steps", eval_steps=c["eval_steps"]) if c["eval_steps"] else dict(eval_strategy="no")
    config = objective.Config(
        output_dir=str(out), per_device_train_batch_size=micro, per_device_eval_batch_size=micro,
        gradient_accumulation_steps=batch // (micro * world), max_steps=min(args.steps or c["steps"], c["steps"]),
        learning_rate=c["learning_rate"], lr_scheduler_type="constant", optim=c["optim"], adam_beta1=c["adam_beta1"],
        adam_beta2=c["adam_beta2"], adam_epsilon=c["adam_epsilon"], weight_decay=c["weight_decay"],
        max_grad_norm=c["max_grad_norm"], gradient_checkpointing=c["gradient_checkpointing"], seed=c["seed"],
        bf16=on_gpu and dtype == "bfloat16", fp16=on_gpu and dtype == "float16", use_cpu=not on_gpu, logging_steps=1,
        save_steps=c["save_steps"], save_total_limit=2, load_best_model_at_end=c["load_best_model_at_end"],
        metric_for_best_model="loss" if c["eval_steps"] else None, remove_unused_columns=False, report_to="none",
        **evaluation, **objective.settings(c))
    order = Order(json.loads((HERE / "order.json").read_text()))
    callbacks = [Watch(out / "metrics.jsonl", order, math.ceil(len(order) / batch))]
    if c["early_stopping_patience"]:
        callbacks.append(EarlyStoppingCallback(c["early_stopping_patience"]))
    trainer = trainer_of(objective.Trainer, c, order)(
        model=model, args=config, train_dataset=data["train"], eval_dataset=data.get("validation"),
        processing_class=tokenizer, data_collator=objective.collator(tokenizer), callbacks=callbacks, **more)
    if args.initial_adapter:
        begin_with(trainer.model, args.initial_adapter)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if args.resume else None)
    trainer.save_model(str(out))


if __name__ == "__main__":
    main()
