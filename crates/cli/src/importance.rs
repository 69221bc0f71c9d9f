//! How much each column of a matrix matters: the mean square of what it is multiplied by, over some text. Files are those
//! of llama.cpp's `llama-imatrix`, in its GGUF form (`common/imatrix-loader.cpp` reads it): of each tensor the sums of
//! squares `NAME.in_sum2` and the number of rows summed `NAME.counts`, for each expert if there are several.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use siskin_formats::{Array, Checkpoint, GgufTensor, TensorType, Value, encode, write_gguf};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const DATASETS: &str = "imatrix.datasets";
const CHUNKS: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

/// The means of each tensor, by GGUF's name.
#[derive(Debug)]
pub struct Importance {
    name: String,
    /// Texts that it was made of, and into how many chunks they were cut.
    pub datasets: Vec<String>,
    pub chunks: u64,
    means: BTreeMap<String, Vec<f32>>,
}

impl Importance {
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if path.is_dir() {
            bail!(
                "{name} is a folder; an importance matrix is a file that `siskin imatrix` writes"
            );
        }
        let checkpoint = Checkpoint::open(path)
            .with_context(|| format!("{name} is not an importance matrix in GGUF form"))?;
        let gguf = checkpoint.gguf.as_ref().context("it is not a GGUF file")?;
        if gguf.str("general.type") != Some("imatrix") {
            bail!("{name} is not an importance matrix: its general.type is not `imatrix`");
        }
        const KEYS: [&str; 5] = [
            "general.type",
            "general.alignment",
            DATASETS,
            CHUNKS,
            CHUNK_SIZE,
        ];
        if let Some(key) = gguf
            .header
            .metadata
            .keys()
            .find(|k| !KEYS.contains(&k.as_str()))
        {
            bail!("{name} has the key `{key}`, which is not understood");
        }
        let mut means = BTreeMap::new();
        for t in &checkpoint.tensors {
            if let Some(of) = t.name.strip_suffix(SUMS) {
                let counts = checkpoint.read_f32(checkpoint.get(&format!("{of}{COUNTS}"))?)?;
                let sums = checkpoint.read_f32(t)?;
                let means_of = mean(sums, &counts)
                    .with_context(|| format!("{name} is damaged: `{}` and its counts", t.name))?;
                means.insert(of.to_string(), means_of);
            } else if !t.name.ends_with(COUNTS) {
                bail!(
                    "{name} has the tensor `{}`, which is not understood",
                    t.name
                );
            }
        }
        if means.is_empty() {
            bail!("{name} has no importance of any tensor");
        }
        Ok(Self {
            datasets: gguf.strings(DATASETS).unwrap_or_default().to_vec(),
            chunks: gguf.uint(CHUNKS).unwrap_or(0),
            name,
            means,
        })
    }

    /// The weights of a tensor's columns, of each expert's if there are several.
    pub fn of(&self, tensor: &str) -> Option<&[f32]> {
        self.means.get(tensor).map(Vec::as_slice)
    }

    pub fn len(&self) -> usize {
        self.means.len()
    }

    /// Checks that it is of the model with these tensors.
    pub fn check<'a>(&self, tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> Result<()> {
        let mut known = 0;
        for (tensor, shape) in tensors {
            let Some(found) = self.of(tensor) else {
                continue;
            };
            let cols = shape.last().copied().unwrap_or(0);
            let matrices: usize = shape.iter().rev().skip(2).product();
            if found.len() != cols * matrices {
                bail!(
                    "{} has {} columns of `{tensor}`, the model {}; make one of this model with `siskin imatrix`",
                    self.name,
                    found.len(),
                    cols * matrices
                );
            }
            known += 1;
        }
        if known == 0 {
            bail!(
                "{} has no tensor of this model; make one with `siskin imatrix`",
                self.name
            );
        }
        Ok(())
    }
}

/// Means of sums, whose rows have a count each. Columns of an expert that was never chosen all count alike. `None` if
/// counts do not fit the sums, or a mean would not be a finite number, or is negative.
fn mean(mut sums: Vec<f32>, counts: &[f32]) -> Option<Vec<f32>> {
    if counts.is_empty() || sums.is_empty() || !sums.len().is_multiple_of(counts.len()) {
        return None;
    }
    let cols = sums.len() / counts.len();
    for (sums, count) in sums.chunks_exact_mut(cols).zip(counts) {
        for sum in sums {
            *sum = if *count > 0.0 { *sum / count } else { 1.0 };
        }
    }
    let is_weight = |v: &f32| v.is_finite() && *v >= 0.0;
    sums.iter().all(is_weight).then_some(sums)
}

/// Sums of squares, and how many rows were summed, to be written.
pub struct Sums {
    /// By GGUF's name: the columns' sums of each matrix, and its rows.
    pub tensors: Vec<(String, Vec<f32>, Vec<f32>)>,
    pub dataset: String,
    pub chunks: u64,
    pub chunk_size: u64,
}

impl Sums {
    pub fn write(&self, out: &mut impl std::io::Write) -> Result<()> {
        let metadata = [
            ("general.type", Value::String("imatrix".into())),
            (
                DATASETS,
                Value::Array(Array::String(vec![self.dataset.clone()])),
            ),
            (CHUNKS, Value::Uint(self.chunks)),
            (CHUNK_SIZE, Value::Uint(self.chunk_size)),
        ]
        .map(|(key, value)| (key.to_string(), value));
        let mut all = vec![];
        for (name, sums, counts) in &self.tensors {
            let matrices = counts.len();
            for (suffix, values, cols) in [(SUMS, sums, sums.len() / matrices), (COUNTS, counts, 1)]
            {
                let tensor = GgufTensor {
                    name: format!("{name}{suffix}"),
                    shape: vec![matrices, cols],
                    ty: TensorType::F32,
                };
                all.push((tensor, values));
            }
        }
        let tensors: Vec<_> = all.iter().map(|t| t.0.clone()).collect();
        write_gguf(out, &metadata, &tensors, |i| {
            Ok(encode(TensorType::F32, all[i].1)?)
        })
    }
}
