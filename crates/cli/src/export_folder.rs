//! A model as a Hugging Face folder: one safetensors file and the files that accompany it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, View};
use serde_json::json;
use siskin_engine::ModelFiles;
use siskin_formats::{Nf4Parts, SideFiles, TensorType, nf4_codes};
use siskin_models::Exported;

use crate::export_plan::ExportPlan;
use crate::output::whole;

/// Where an entry's bytes come from.
enum Source {
    /// The bytes of a tensor to be written.
    Tensor(usize),
    /// The codes of its blocks.
    Codes(usize),
    Ready(Vec<u8>),
}

/// A tensor in the file.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    source: Source,
}

impl Entry {
    fn plain(i: usize, tensor: &Exported) -> Self {
        Self {
            name: tensor.name.clone(),
            dtype: match tensor.ty {
                TensorType::F16 => Dtype::F16,
                TensorType::BF16 => Dtype::BF16,
                _ => Dtype::F32,
            },
            shape: tensor.shape.clone(),
            source: Source::Tensor(i),
        }
    }

    /// The tensors that bitsandbytes stores for one tensor.
    fn nf4(i: usize, tensor: &Exported, blocks: &[u8]) -> Vec<Self> {
        let ready = |part: &str, dtype, n, bytes| Self {
            name: format!("{}.{part}", tensor.name),
            dtype,
            shape: vec![n],
            source: Source::Ready(bytes),
        };
        let floats = |part: &str, values: &[f32]| {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            ready(part, Dtype::F32, values.len(), bytes)
        };
        let parts = Nf4Parts::of(blocks, &tensor.shape);
        let [values, map] = Nf4Parts::maps();
        let state = parts.state.into_bytes();
        let codes = Self {
            name: tensor.name.clone(),
            dtype: Dtype::U8,
            shape: vec![tensor.shape.iter().product::<usize>() / 2, 1],
            source: Source::Codes(i),
        };
        vec![
            codes,
            ready("absmax", Dtype::U8, parts.peaks.len(), parts.peaks),
            floats("nested_absmax", &parts.scales),
            floats("nested_quant_map", &map),
            floats("quant_map", &values),
            ready(
                "quant_state.bitsandbytes__nf4",
                Dtype::U8,
                state.len(),
                state,
            ),
        ]
    }
}

/// An entry whose bytes are produced on demand: the whole model is never in memory.
struct Lazy<'a> {
    entry: Entry,
    plan: &'a ExportPlan<'a>,
    failed: &'a RefCell<Option<anyhow::Error>>,
}

impl Lazy<'_> {
    fn of(&self, i: usize) -> Option<Vec<u8>> {
        let made = self.plan.bytes(i);
        made.map_err(|e| self.failed.borrow_mut().get_or_insert(e).to_string())
            .ok()
    }
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let made = match &self.entry.source {
            Source::Ready(bytes) => return Cow::Borrowed(bytes),
            Source::Tensor(i) => self.of(*i),
            Source::Codes(i) => self.of(*i).map(|blocks| nf4_codes(&blocks)),
        };
        Cow::Owned(made.unwrap_or_else(|| vec![0; self.data_len()]))
    }

    fn data_len(&self) -> usize {
        let n: usize = self.entry.shape.iter().product();
        n * self.entry.dtype.bitsize() / 8
    }
}

/// Files that other programs need in a folder and that are not read here.
const COPIED: [&str; 7] = [
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
];

pub fn write(plan: &ExportPlan<'_>, out: &Path) -> Result<()> {
    let files = plan.files;
    let beside = side_files(files, &plan.tensors)?;
    let mut entries = vec![];
    for (i, tensor) in plan.tensors.iter().enumerate() {
        if tensor.ty == TensorType::NF4 {
            entries.extend(Entry::nf4(i, tensor, &plan.bytes(i)?));
        } else {
            entries.push(Entry::plain(i, tensor));
        }
    }
    let from = Path::new(&files.weights.checkpoint.side.folder);
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for (name, text) in beside {
        if let Some(parent) = out.join(name).parent() {
            std::fs::create_dir_all(parent)?;
        }
        whole(&out.join(name), |part| Ok(std::fs::write(part, text)?))?;
    }
    for name in COPIED {
        let file = from.join(name);
        if files.weights.checkpoint.gguf.is_none() && file.is_file() {
            whole(&out.join(name), |part| {
                std::fs::copy(&file, part)?;
                Ok(())
            })?;
        }
    }
    whole(&out.join("model.safetensors"), |part| {
        let failed = RefCell::new(None);
        let views = entries.into_iter().map(|entry| {
            let lazy = Lazy {
                entry,
                plan,
                failed: &failed,
            };
            (lazy.entry.name.clone(), lazy)
        });
        let format = [("format".to_string(), "pt".to_string())].into();
        safetensors::serialize_to_file(views, Some(format), part)?;
        failed.into_inner().map_or(Ok(()), Err)
    })
}

const CONFIG: &str = "config.json";

/// Configuration and tokenizer: the folder's own, or derived from a GGUF file's metadata.
pub fn own_files(files: &ModelFiles, tensors: &[Exported]) -> Result<(serde_json::Value, Named)> {
    let checkpoint = &files.weights.checkpoint;
    if checkpoint.gguf.is_none() {
        let side = |name| Some((name, checkpoint.side.get(name)?.to_string()));
        let names = SideFiles::NAMES.into_iter().filter(|n| *n != CONFIG);
        let config = checkpoint
            .side
            .get(CONFIG)
            .context("config.json is missing")?;
        Ok((
            files.model.own_config(serde_json::from_str(config)?),
            names.filter_map(side).collect(),
        ))
    } else {
        from_gguf(files, tensors)
    }
}

fn side_files(files: &ModelFiles, tensors: &[Exported]) -> Result<Named> {
    let (mut config, mut others) = own_files(files, tensors)?;
    if tensors.iter().any(|t| t.ty == TensorType::NF4) {
        config["quantization_config"] = json!({
            "quant_method": "bitsandbytes",
            "load_in_4bit": true,
            "load_in_8bit": false,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": true,
            "bnb_4bit_compute_dtype": "float32",
            "bnb_4bit_quant_storage": "uint8",
        });
    } else if let Some(config) = config.as_object_mut() {
        // The weights are no longer quantised.
        config.shift_remove("quantization_config");
    }
    others.push((CONFIG, serde_json::to_string_pretty(&config)?));
    Ok(others)
}

/// Files by their names.
type Named = Vec<(&'static str, String)>;

fn from_gguf(files: &ModelFiles, tensors: &[Exported]) -> Result<(serde_json::Value, Named)> {
    let is_tied = !tensors.iter().any(|t| t.name == "lm_head.weight");
    let mut config = files.model.to_config(&files.weights.checkpoint, is_tied)?;
    let text = &files.text;
    // The tokenizer's own end-of-text token first, then the other tokens that end an answer.
    let eos = text.eos_token();
    let others = text.end_tokens().filter(|id| Some(*id) != eos);
    let ends: Vec<u32> = eos.into_iter().chain(others).collect();
    let mut generation = json!({"eos_token_id": ends});
    config["eos_token_id"] = json!(ends);
    for name in ["bos", "pad"] {
        if let Some(id) = text.named_token(&format!("{name}_token")) {
            config[format!("{name}_token_id")] = json!(id);
            generation[format!("{name}_token_id")] = json!(id);
        }
    }
    let others = vec![
        ("tokenizer.json", text.to_json()?),
        (
            "tokenizer_config.json",
            serde_json::to_string_pretty(&text.to_tokenizer_config())?,
        ),
        (
            "generation_config.json",
            serde_json::to_string_pretty(&generation)?,
        ),
    ];
    Ok((config, others))
}
