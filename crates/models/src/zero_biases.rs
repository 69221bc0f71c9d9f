//! Biases that packers of GPTQ write for every matrix they quantise, also where the architecture has none: zeros.

use std::collections::BTreeSet;

use siskin_formats::{Checkpoint, TensorInfo};

use crate::{Error, Model, Result};

/// Whether a tensor may be such a bias.
pub(crate) fn may_be(checkpoint: &Checkpoint, name: &str) -> bool {
    let module = name.strip_suffix(".bias");
    let weight = module.and_then(|m| checkpoint.find(&format!("{m}.weight")));
    weight.is_some_and(TensorInfo::is_of_integers)
}

impl Model {
    /// Biases of quantised matrices that no node takes. What runs or writes a model passes their values to
    /// [`Self::check_zero`] first.
    ///
    /// # Errors
    /// If a tensor of the model is missing.
    pub fn zero_biases<'a>(&self, checkpoint: &'a Checkpoint) -> Result<Vec<&'a TensorInfo>> {
        let all = checkpoint.tensors.iter();
        let found: Vec<_> = all.filter(|t| may_be(checkpoint, &t.name)).collect();
        if found.is_empty() {
            return Ok(found);
        }
        let used = self.used(checkpoint)?;
        let unused = |t: &&TensorInfo| !used.contains(t.name.as_str());
        Ok(found.into_iter().filter(unused).collect())
    }

    /// Refuses a bias that is not zero.
    ///
    /// # Errors
    /// If one of its values is not zero.
    pub fn check_zero(
        &self,
        checkpoint: &Checkpoint,
        bias: &TensorInfo,
        values: &[f32],
    ) -> Result<()> {
        match values.iter().all(|v| *v == 0.0) {
            true => Ok(()),
            false => Err(Error::UnusedTensor {
                name: checkpoint.name.clone(),
                tensor: bias.name.clone(),
                arch: self.arch_name.clone(),
                more: 0,
            }),
        }
    }

    /// The names of the tensors that the model's graph takes.
    pub(crate) fn used<'a>(&self, checkpoint: &'a Checkpoint) -> Result<BTreeSet<&'a str>> {
        let mut used = BTreeSet::new();
        for weight in self.graph(self.head())?.weights {
            for part in &weight.parts {
                used.insert(self.tensor(checkpoint, part)?.info.name.as_str());
            }
        }
        Ok(used)
    }
}
