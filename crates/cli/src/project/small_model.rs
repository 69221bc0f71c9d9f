//! A small random model of the architecture and the tokenizer of another one, which transformers makes.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};
use siskin_engine::ModelFiles;

use super::check::Python;
use crate::export_plan::{ExportPlan, Target};
use crate::{export_folder, output};

const LAYERS: usize = 2;
const HEADS: u64 = 2;
const INTERMEDIATE: u64 = 128;

/// Weights are larger than at the start of a training, so that what the model predicts depends on the tokens before.
const MAKE: &str = "
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
folder = sys.argv[1]
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float()
with torch.no_grad():
    for name, p in model.named_parameters():
        if p.dim() > 1:
            p.normal_(0, 0.3 if 'embed' in name else 1.5 * p.shape[-1] ** -0.5)
model.save_pretrained(folder)
";

/// Writes it to a folder.
pub fn make(files: &ModelFiles, python: &Python<'_>, folder: &Path) -> Result<()> {
    let plan = ExportPlan::new(files, None, Target::Folder, None, None)?;
    let (config, others) = export_folder::own_files(files, &plan.tensors)?;
    std::fs::create_dir_all(folder)?;
    let config = serde_json::to_string_pretty(&small(config)?)?;
    for (name, text) in others.into_iter().chain([("config.json", config)]) {
        // Only the tokenizer's files belong to another model as well.
        if !name.contains('/') && name != "model.safetensors.index.json" {
            output::whole(&folder.join(name), |part| Ok(std::fs::write(part, text)?))?;
        }
    }
    let name = &files.weights.checkpoint.name;
    python
        .run(&["-c", MAKE, &folder.display().to_string()])
        .with_context(|| {
            format!("cannot make a small model like {name}; name one with --model FOLDER")
        })
}

/// The same configuration with few layers, heads and columns.
fn small(mut config: Json) -> Result<Json> {
    let number = |config: &Json, key: &str| config[key].as_u64();
    let Some(heads) = number(&config, "num_attention_heads") else {
        bail!(
            "a small model of this architecture cannot be made here; name one with --model FOLDER"
        );
    };
    let hidden = number(&config, "hidden_size").context("config.json has no hidden_size")?;
    let head = number(&config, "head_dim").unwrap_or(hidden / heads.max(1));
    let is_grouped = number(&config, "num_key_value_heads").is_some_and(|kv| kv < heads);
    for (key, value) in [
        ("num_hidden_layers", LAYERS as u64),
        ("num_attention_heads", HEADS),
        ("num_key_value_heads", if is_grouped { 1 } else { HEADS }),
        ("hidden_size", HEADS * head),
        ("intermediate_size", INTERMEDIATE),
        ("moe_intermediate_size", INTERMEDIATE),
        ("shared_expert_intermediate_size", INTERMEDIATE),
    ] {
        if config[key].is_u64() {
            config[key] = json!(value);
        }
    }
    for key in ["layer_types", "no_rope_layers"] {
        if let Some(list) = config[key].as_array_mut() {
            list.truncate(LAYERS);
        }
    }
    for key in ["dtype", "torch_dtype"] {
        if config[key].is_string() {
            config[key] = json!("float32");
        }
    }
    if let Some(config) = config.as_object_mut() {
        config.shift_remove("quantization_config");
    }
    Ok(config)
}
