//! The settings of projects for TRL and Unsloth: `config.json`, which `train.py` reads.

use anyhow::{Result, bail};
use serde_json::{Value as Json, json};
use siskin_train::{Objective, Optim, TrainOptions};

use super::Plan;
use super::base::PROBE;

/// As JSON, in the fewest digits that are this number in f32.
pub fn number(value: f32) -> Json {
    value
        .to_string()
        .parse::<f64>()
        .map_or(Json::Null, Json::from)
}

/// The name of a variant, as recipes have it.
pub fn named(value: impl serde::Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// The objective's part of the project.
pub fn objective_file(objective: Objective) -> Result<&'static str> {
    let files = [
        (Objective::Sft, include_str!("files/sft.py")),
        (Objective::Dpo, include_str!("files/dpo.py")),
        (Objective::Kto, include_str!("files/kto.py")),
        (Objective::Cpo, include_str!("files/cpo.py")),
        (Objective::Simpo, include_str!("files/cpo.py")),
        (Objective::Orpo, include_str!("files/orpo.py")),
    ];
    match files.iter().find(|f| f.0 == objective) {
        Some((_, file)) => Ok(file),
        None => bail!(
            "a project cannot have the objective {}; train it with `siskin train`",
            objective.name()
        ),
    }
}

/// The options that projects have, in their configuration or in their data.
const KNOWN: [&str; 40] = [
    "objective",
    "beta",
    "loss_type",
    "label_smoothing",
    "simpo_gamma",
    "cpo_alpha",
    "desirable_weight",
    "undesirable_weight",
    "rank",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "target_modules",
    "lora_dropout",
    "optim",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "warmup_ratio",
    "num_cycles",
    "num_decay_steps",
    "min_lr_rate",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "weight_decay",
    "max_grad_norm",
    "epochs",
    "steps",
    "batch_size",
    "eval_every",
    "early_stopping_patience",
    "load_best_model_at_end",
    "gradient_checkpointing",
    "seed",
    // In the data.
    "max_seq_len",
    "loss_on",
    "validation",
    "chunk_overlap",
    // Changes no loss.
    "packing",
];

/// An option that projects do not have is refused, unless it is off.
pub fn check_known(options: &TrainOptions) -> Result<()> {
    let (given, off) = (named(options), named(TrainOptions::default()));
    let mut given = given.as_object().into_iter().flatten();
    let lost = given.find(|(key, value)| !KNOWN.contains(&key.as_str()) && off[*key] != **value);
    match lost {
        Some((key, value)) => bail!("`{key}` is {value}, which a project cannot have; omit it"),
        None => Ok(()),
    }
}

pub fn config(plan: &Plan<'_>) -> Result<Json> {
    let o = &plan.options;
    let optim = match o.optim {
        Optim::AdamW => "adamw_torch",
        Optim::AdamW8bit => "adamw_8bit",
    };
    let loss_type = match o.objective {
        Objective::Simpo => json!("simpo"),
        _ => o.loss_type.map_or(Json::Null, named),
    };
    let optional = |v: Option<f32>| v.map_or(Json::Null, number);
    Ok(json!({
        "base_model": plan.base.name,
        "probe": {"text": PROBE, "ids": plan.base.probe},
        "load_in_4bit": plan.base.in_4bit,
        "objective": o.objective.name(),
        "beta": optional(o.beta),
        "loss_type": loss_type,
        "label_smoothing": number(o.label_smoothing),
        "simpo_gamma": optional(o.simpo_gamma),
        "cpo_alpha": optional(o.cpo_alpha),
        "desirable_weight": optional(o.desirable_weight),
        "undesirable_weight": optional(o.undesirable_weight),
        "lora": {
            "r": o.rank,
            "lora_alpha": optional(o.lora_alpha),
            "lora_dropout": number(o.lora_dropout),
            "target_modules": plan.base.targets,
            "use_rslora": o.use_rslora,
            "use_dora": o.use_dora,
            "bias": "none",
        },
        "batch_size": o.batch_size,
        "steps": o.steps,
        "max_seq_len": plan.prepared.max_len,
        "optim": optim,
        "learning_rate": optional(o.learning_rate),
        "schedule": named(o.schedule),
        "warmup_steps": o.warmup_steps,
        "num_cycles": o.num_cycles,
        "num_decay_steps": o.num_decay_steps,
        "min_lr_rate": number(o.min_lr_rate),
        "adam_beta1": number(o.adam_beta1),
        "adam_beta2": number(o.adam_beta2),
        "adam_epsilon": number(o.adam_epsilon),
        "weight_decay": number(o.weight_decay),
        "max_grad_norm": number(o.max_grad_norm),
        "gradient_checkpointing": o.gradient_checkpointing > 0,
        "eval_steps": plan.eval_steps(),
        "save_steps": plan.save_steps(),
        "load_best_model_at_end": o.load_best_model_at_end,
        "early_stopping_patience": o.early_stopping_patience,
        "seed": o.seed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_exist() {
        let all = named(TrainOptions::default());
        let all = all.as_object().unwrap();
        assert!(KNOWN.iter().all(|key| all.contains_key(*key)));
        assert!(check_known(&TrainOptions::default()).is_ok());
    }
}
