//! YAML files of one level, and what the tools that read them have in common.

use anyhow::{Result, bail};
use serde_json::{Value as Json, json};
use siskin_train::{Schedule, TrainOptions};

use super::settings::{named, number};

/// A file in the order in which it is written. Values are JSON, which is YAML.
#[derive(Debug, Default)]
pub struct Yaml {
    pub text: String,
}

impl Yaml {
    pub fn set(&mut self, key: &str, value: impl serde::Serialize) {
        self.text += &format!("{key}: {}\n", scalar(&named(value)));
    }

    pub fn comment(&mut self, text: &str) {
        self.text += &format!("# {text}\n");
    }

    pub fn gap(&mut self) {
        self.text += "\n";
    }
}

/// JSON is YAML but for numbers with an exponent and no point, which YAML 1.1 takes for texts.
fn scalar(value: &Json) -> String {
    match value {
        Json::Number(_) => {
            let text = value.to_string();
            match text.split_once('e') {
                Some((digits, exponent)) if !digits.contains('.') => {
                    format!("{digits}.0e{exponent}")
                }
                _ => text,
            }
        }
        Json::Object(map) => {
            let all = map.iter().map(|(k, v)| format!("{k}: {}", scalar(v)));
            format!("{{{}}}", all.collect::<Vec<_>>().join(", "))
        }
        Json::Array(list) => {
            let all: Vec<String> = list.iter().map(scalar).collect();
            format!("[{}]", all.join(", "))
        }
        other => other.to_string(),
    }
}

/// The name and the parameters of transformers' scheduler.
pub fn scheduler(tool: &str, o: &TrainOptions) -> Result<(&'static str, Json)> {
    let least = o.min_lr_rate;
    Ok(match o.schedule {
        Schedule::Linear | Schedule::CosineWithRestarts if least > 0.0 => bail!(
            "{tool} has no min_lr_rate of the schedule {}; use the schedule cosine, or --to trl",
            named(o.schedule).as_str().unwrap_or_default()
        ),
        Schedule::Constant => ("constant_with_warmup", Json::Null),
        Schedule::Linear => ("linear", Json::Null),
        Schedule::Cosine if least > 0.0 => {
            ("cosine_with_min_lr", json!({"min_lr_rate": number(least)}))
        }
        Schedule::Cosine => ("cosine", Json::Null),
        Schedule::CosineWithRestarts => {
            ("cosine_with_restarts", json!({"num_cycles": o.num_cycles}))
        }
        Schedule::WarmupStableDecay => (
            "warmup_stable_decay",
            json!({
                "num_decay_steps": o.num_decay_steps, "min_lr_ratio": number(least), "decay_type": "cosine",
            }),
        ),
    })
}

/// The tools that read YAML take integers only.
pub fn whole_alpha(tool: &str, o: &TrainOptions) -> Result<u64> {
    let alpha = o.lora_alpha.unwrap_or_default();
    if alpha.fract() != 0.0 {
        bail!("lora_alpha is {alpha}; {tool} takes whole numbers only");
    }
    Ok(alpha as u64)
}
