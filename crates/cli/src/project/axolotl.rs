//! The configuration of Axolotl. Keys are those of its `AxolotlInputConfig` (0.19).

use anyhow::{Result, bail};
use serde_json::{Value as Json, json};
use siskin_train::{Objective, Optim};

use super::Plan;
use super::settings::number;
use super::yaml::{Yaml, scheduler, whole_alpha};

pub fn config(plan: &Plan<'_>) -> Result<String> {
    let o = &plan.options;
    if o.objective != Objective::Sft {
        bail!(
            "Axolotl takes preferences as texts, which it tokenises in its own way, so the objective {} would not learn from \
             the same tokens; use --to trl",
            o.objective.name()
        );
    }
    let data =
        |file: &str| json!([{"path": file, "ds_type": "json", "split": "train", "type": null}]);
    let (schedule, parameters) = scheduler("Axolotl", o)?;
    let mut y = Yaml::default();
    y.set("base_model", &plan.base.name);
    y.set("load_in_4bit", plan.base.in_4bit);
    y.set("bf16", "auto");
    y.gap();
    y.set("adapter", if plan.base.in_4bit { "qlora" } else { "lora" });
    y.set("lora_r", o.rank);
    y.set("lora_alpha", whole_alpha("Axolotl", o)?);
    y.set("lora_dropout", number(o.lora_dropout));
    y.set("lora_target_modules", json!(plan.base.targets));
    y.set("peft_use_dora", o.use_dora);
    y.set("peft_use_rslora", o.use_rslora);
    y.gap();
    y.comment("Tokens and labels: nothing is rendered or tokenised again.");
    y.set("datasets", data("data.jsonl"));
    if plan.eval_steps().is_some() {
        y.set("test_datasets", data("validation.jsonl"));
    }
    y.set("val_set_size", 0);
    y.set("dataset_prepared_path", "prepared");
    y.set("sequence_len", plan.prepared.max_len);
    y.set("sample_packing", false);
    y.set("pad_to_sequence_len", false);
    y.comment("The order of the file, which is that of siskin's first epoch.");
    y.set("shuffle_merged_datasets", false);
    y.set("curriculum_sampling", true);
    y.gap();
    y.comment(
        "On N GPUs: micro_batch_size × gradient_accumulation_steps × N is the recipe's batch_size.",
    );
    y.set("micro_batch_size", o.batch_size);
    y.set("gradient_accumulation_steps", 1);
    y.set("num_epochs", plan.epochs());
    y.set("max_steps", o.steps);
    y.set("learning_rate", o.learning_rate.map(number));
    y.set("lr_scheduler", schedule);
    if parameters != Json::Null {
        y.set("lr_scheduler_kwargs", parameters);
    }
    y.set("warmup_steps", o.warmup_steps);
    y.set(
        "optimizer",
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
    y.set("gradient_checkpointing", o.gradient_checkpointing > 0);
    y.gap();
    match plan.eval_steps() {
        Some(steps) => {
            y.set("eval_strategy", "steps");
            y.set("eval_steps", steps);
        }
        None => y.set("eval_strategy", "no"),
    }
    y.set("save_strategy", "steps");
    y.set("save_steps", plan.save_steps());
    y.set("save_total_limit", 2);
    y.set("load_best_model_at_end", o.load_best_model_at_end);
    if let Some(patience) = o.early_stopping_patience {
        y.set("early_stopping_patience", patience);
    }
    y.set("logging_steps", 1);
    y.set("seed", o.seed);
    y.set("output_dir", "adapter");
    Ok(y.text)
}
