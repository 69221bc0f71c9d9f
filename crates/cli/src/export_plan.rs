//! The tensors that an export writes, and their types.

use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use siskin_engine::{Adapter, ModelFiles};
use siskin_formats::{TensorType, encode};
use siskin_models::{Change, Exported, Head};

/// Types that can be written.
const TYPES: &str = "f32, f16, bf16, q8_0, q4_0, q4_1, nf4";

pub fn parse_type(name: &str) -> Result<TensorType> {
    let mut all = TensorType::ALL.into_iter();
    let ty = all.find(|t| t.name().eq_ignore_ascii_case(name) && encode(*t, &[]).is_ok());
    ty.with_context(|| format!("cannot write the type `{name}`; use one of {TYPES}"))
}

/// What is written: a GGUF file, or a Hugging Face folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Gguf,
    Folder,
}

impl Target {
    pub fn of(out: &Path) -> Self {
        match out.extension().is_some_and(|e| e == "gguf") {
            true => Self::Gguf,
            false => Self::Folder,
        }
    }
}

pub struct ExportPlan<'a> {
    pub files: &'a ModelFiles,
    pub target: Target,
    pub tensors: Vec<Exported>,
    adapter: Option<&'a Adapter>,
    bar: ProgressBar,
}

impl<'a> ExportPlan<'a> {
    pub fn new(
        files: &'a ModelFiles,
        adapter: Option<&'a Adapter>,
        target: Target,
        ty: Option<TensorType>,
    ) -> Result<Self> {
        if let Some(adapter) = adapter {
            if adapter.replaces_weights() {
                bail!(
                    "{} replaces whole weights, and such adapters cannot be merged here; merge it with PEFT",
                    adapter.name
                );
            }
            // Checks every module's shape against the model's.
            adapter.spec(&files.model.graph(Head::Next)?)?;
        }
        let tensors = tensors(files, adapter, target, ty)?;
        let is_written = |m: &str| tensors.iter().any(|t| t.module() == m);
        let mut modules = adapter.iter().flat_map(|a| &a.modules);
        if let Some(lost) = modules.find(|m| !is_written(&m.name)) {
            bail!(
                "the adapter changes `{}`, which the model shares with its embedding; merge it with PEFT",
                lost.name
            );
        }
        let bar = ProgressBar::new(tensors.len() as u64).with_style(ProgressStyle::with_template(
            "writing {bar:30} {pos}/{len} tensors",
        )?);
        Ok(Self {
            files,
            target,
            tensors,
            adapter,
            bar,
        })
    }

    /// The bytes of the i-th tensor.
    pub fn bytes(&self, i: usize) -> Result<Vec<u8>> {
        self.bar.set_position(i as u64);
        let tensor = &self.tensors[i];
        let merged = self.adapter.and_then(|a| {
            let module = a.modules.iter().find(|m| m.name == tensor.module())?;
            Some(|weights: &mut [f32]| a.merge_into(module, weights))
        });
        let change = merged.as_ref().map(|f| f as Change<'_>);
        let (model, checkpoint) = (&self.files.model, &self.files.weights.checkpoint);
        Ok(model.export_bytes(checkpoint, tensor, self.target == Target::Gguf, change)?)
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn tensors(
    files: &ModelFiles,
    adapter: Option<&Adapter>,
    target: Target,
    ty: Option<TensorType>,
) -> Result<Vec<Exported>> {
    let plain = |ty: TensorType| matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::BF16);
    let to_gguf = target == Target::Gguf;
    if to_gguf && ty == Some(TensorType::NF4) {
        bail!("GGUF has no type NF4; use an --out that does not end in .gguf, to write a folder");
    }
    let mut tensors = files
        .model
        .exports(&files.weights.checkpoint, to_gguf, ty)?;
    for t in &mut tensors {
        if !to_gguf && !plain(t.ty) && t.ty != TensorType::NF4 {
            match ty {
                Some(ty) => bail!(
                    "a Hugging Face folder cannot hold {}; use f32, f16, bf16 or nf4, or an --out that ends in .gguf",
                    ty.name()
                ),
                // Quantised tensors are dequantised.
                None => t.ty = TensorType::F16,
            }
        }
        // GGUF does not have NF4 either.
        if to_gguf && t.ty == TensorType::NF4 {
            t.ty = TensorType::F16;
        }
        // What an adapter adds is smaller than a 4-bit quantisation step: requantising would lose most of it.
        let changes = adapter.is_some_and(|a| a.modules.iter().any(|m| m.name == t.module()));
        if changes && t.ty.is_quantised() && ty.is_none() {
            t.ty = match target {
                Target::Gguf => TensorType::Q8_0,
                Target::Folder => TensorType::F16,
            };
        }
    }
    Ok(tensors)
}
