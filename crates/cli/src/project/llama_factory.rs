//! The configuration of LLaMA-Factory. Keys are those of its argument classes (0.9.5).

use anyhow::{Result, bail};
use serde_json::Value as Json;
use siskin_train::{LossType, Objective, Optim, TrainOptions};

use super::Plan;
use super::settings::number;
use super::yaml::{Yaml, scheduler, whole_alpha};

/// The stage, and the name of the loss of preferences, if it computes the same.
fn stage(o: &TrainOptions) -> Result<(&'static str, Option<&'static str>)> {
    let refuse = |what: &str| bail!("LLaMA-Factory {what}; use --to trl");
    Ok(match (o.objective, o.loss_type) {
        (Objective::Sft, _) => ("sft", None),
        (Objective::Kto, _) => ("kto", None),
        (Objective::Dpo, Some(LossType::Hinge)) => ("dpo", Some("hinge")),
        (Objective::Dpo, Some(LossType::Ipo)) => ("dpo", Some("ipo")),
        (Objective::Dpo, Some(LossType::Robust)) => {
            return refuse("has no loss_type robust of the objective dpo");
        }
        (Objective::Dpo, _) => ("dpo", Some("sigmoid")),
        (Objective::Simpo, _) if o.cpo_alpha != Some(0.0) => {
            return refuse(
                "weighs the cross-entropy that cpo_alpha adds to simpo by answers, not by tokens",
            );
        }
        (Objective::Simpo, _) if o.label_smoothing > 0.0 => {
            return refuse("has no label_smoothing of the objective simpo");
        }
        (Objective::Simpo, _) => ("dpo", Some("simpo")),
        (Objective::Orpo, _) => {
            return refuse("computes the cross-entropy of the objective orpo without the prompts");
        }
        (other, _) => return refuse(&format!("has no objective {}", other.name())),
    })
}

pub fn config(plan: &Plan<'_>) -> Result<String> {
    let o = &plan.options;
    let (stage, loss) = stage(o)?;
    let (schedule, parameters) = scheduler("LLaMA-Factory", o)?;
    let mut y = Yaml::default();
    y.set("model_name_or_path", &plan.base.name);
    if plan.base.in_4bit {
        y.set("quantization_method", "bnb");
        y.set("quantization_bit", 4);
        y.set("quantization_type", "nf4");
        y.set("double_quantization", true);
    }
    y.gap();
    y.set("stage", stage);
    y.set("do_train", true);
    y.set("finetuning_type", "lora");
    y.set("lora_rank", o.rank);
    y.set("lora_alpha", whole_alpha("LLaMA-Factory", o)?);
    y.set("lora_dropout", number(o.lora_dropout));
    y.set("lora_target", plan.base.targets.join(","));
    y.set("use_dora", o.use_dora);
    y.set("use_rslora", o.use_rslora);
    if let Some(loss) = loss {
        y.set("pref_loss", loss);
        y.set("dpo_label_smoothing", number(o.label_smoothing));
    }
    if let Some(beta) = o.beta {
        y.set("pref_beta", number(beta));
    }
    for (key, value) in [
        ("simpo_gamma", o.simpo_gamma),
        ("kto_chosen_weight", o.desirable_weight),
        ("kto_rejected_weight", o.undesirable_weight),
    ] {
        if let Some(value) = value {
            y.set(key, number(value));
        }
    }
    y.gap();
    y.comment("Tokens and labels, which prepare.py puts there: the other names are not looked up.");
    y.set("tokenized_path", "tokenized");
    y.set("dataset", "recipe");
    if plan.eval_steps().is_some() {
        y.set("eval_dataset", "recipe_validation");
    }
    y.set("template", "empty");
    y.set("cutoff_len", plan.prepared.max_len);
    y.set("packing", false);
    y.comment("The order of the file, which is that of siskin's first epoch.");
    y.set("disable_shuffling", true);
    y.gap();
    y.comment("On N GPUs: per_device_train_batch_size × gradient_accumulation_steps × N is the recipe's batch_size.");
    y.set("per_device_train_batch_size", o.batch_size);
    y.set("gradient_accumulation_steps", 1);
    y.set("max_steps", o.steps);
    y.set("learning_rate", o.learning_rate.map(number));
    y.set("lr_scheduler_type", schedule);
    if parameters != Json::Null {
        y.set("lr_scheduler_kwargs", parameters);
    }
    y.set("warmup_steps", o.warmup_steps);
    y.set(
        "optim",
        match o.optim {
            Optim::AdamW => "adamw_torch",
            Optim::AdamW8bit => "adamw_8bit",
        },
    );
    y.set("adam_beta1", number(o.adam_beta1));
    y.set("adam_beta2", number(o.adam_beta2));
    y.set("adam_epsilon", number(o.adam_epsilon));
    y.set("weight_decay", number(o.weight_decay));
    y.set("max_grad_norm", number(o.max_grad_norm));
    y.set(
        "disable_gradient_checkpointing",
        o.gradient_checkpointing == 0,
    );
    y.set("bf16", true);
    y.gap();
    match plan.eval_steps() {
        Some(steps) => {
            y.set("eval_strategy", "steps");
            y.set("eval_steps", steps);
            y.set("per_device_eval_batch_size", o.batch_size);
        }
        None => y.set("eval_strategy", "no"),
    }
    y.set("save_strategy", "steps");
    y.set("save_steps", plan.save_steps());
    y.set("save_total_limit", 2);
    y.set("load_best_model_at_end", o.load_best_model_at_end);
    if let Some(patience) = o.early_stopping_patience {
        y.set("early_stopping_steps", patience);
        y.set("metric_for_best_model", "loss");
    }
    y.set("logging_steps", 1);
    y.set("seed", o.seed);
    y.set("report_to", "none");
    y.set("output_dir", "adapter");
    Ok(y.text)
}
