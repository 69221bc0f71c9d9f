//! Fingerprints of a training run's model and examples.

use sha2::{Digest, Sha256};
use siskin_engine::Session;
use siskin_formats::{TensorInfo, sort_by};

use crate::{Record, Result};

/// The number of tensors whose bytes are sampled, and the maximum from each.
const TENSORS: usize = 8;
const BYTES: usize = 4096;
/// Larger tensors are not sampled.
const LARGEST: u64 = 1 << 24;

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A hash of the records as given, of those that were given to be held out, and of the template that renders them.
pub(crate) fn examples_sum(
    records: &[Record],
    validation: &[Record],
    template: Option<&str>,
) -> String {
    let mut sum = Sha256::new();
    for (place, record) in records.iter().chain(validation).enumerate() {
        if place == records.len() {
            sum.update("validation");
        }
        let json = serde_json::to_vec(&record.example).unwrap_or_default();
        sum.update((json.len() as u64).to_le_bytes());
        sum.update(json);
    }
    sum.update(template.unwrap_or_default());
    hex(sum)
}

/// A hash of the names, types and shapes of all weights, and of some of their bytes.
pub(crate) async fn model_sum(session: &Session) -> Result<String> {
    let files = session.files();
    let mut tensors: Vec<&TensorInfo> = files.checkpoint.tensors.iter().collect();
    sort_by(&mut tensors, &mut |a, b| a.name.cmp(&b.name));
    let mut sum = Sha256::new();
    for tensor in &tensors {
        sum.update(format!(
            "{} {:?} {:?}\n",
            tensor.name, tensor.ty, tensor.shape
        ));
    }
    // Vectors are often identical across models: scales of 1.
    let is_told_by = |t: &&&TensorInfo| t.bytes <= LARGEST && t.shape.len() > 1;
    let small: Vec<_> = tensors.iter().filter(is_told_by).collect();
    let every = small.len().div_ceil(TENSORS).max(1);
    for tensor in small.iter().step_by(every) {
        let bytes = files.read(tensor).await?;
        let apart = bytes.len().div_ceil(BYTES).max(1);
        let sample: Vec<u8> = bytes.iter().step_by(apart).copied().collect();
        sum.update(sample);
    }
    Ok(hex(sum))
}
