//! A model's tensors on their way into a file of either kind.

use siskin_formats::{Checkpoint, TensorType, Value};
use siskin_graph::{Activation, Part, WeightKind};

use crate::{Error, Head, Model, Result, names};

/// A tensor that is to be written, as [`Model::exports`] lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Its name in the file that is written.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its type in the file that is written.
    pub ty: TensorType,
    /// Columns: values that share a row's blocks.
    pub cols: usize,
    part: Part,
}

/// Keys and values of a GGUF file.
type Metadata = Vec<(String, Value)>;

/// Changes a tensor's values `[rows, cols]` on the way, in Hugging Face's order of rows.
pub type Change<'a> = &'a dyn Fn(&mut [f32]);

/// Encodes a tensor's values `[rows, cols]`, in the order of the file that is written.
pub type EncodeTensor<'a> = &'a dyn Fn(&Exported, &[f32]) -> siskin_formats::Result<Vec<u8>>;

/// Why a configuration cannot become a GGUF file.
pub(crate) fn no_gguf(key: &str, needed: &'static str) -> Error {
    Error::NoGguf {
        key: key.into(),
        needed,
    }
}

/// Of families whose GGUF files say nothing of the activation.
///
/// # Errors
/// If it is not SiLU.
pub(crate) fn check_silu(activation: Activation) -> Result<()> {
    match activation {
        Activation::Silu => Ok(()),
        _ => Err(no_gguf("hidden_act", "silu")),
    }
}

/// Of families whose files are written without what rotated dimensions are multiplied by.
///
/// # Errors
/// If it is not 1.
pub(crate) fn check_rope_scale(scale: f32) -> Result<()> {
    match scale == 1.0 {
        true => Ok(()),
        false => Err(no_gguf("rope_scaling", "without an attention factor")),
    }
}

impl Exported {
    /// The projection: its Hugging Face name without `.weight`.
    pub fn module(&self) -> &str {
        self.part.tensor.trim_end_matches(".weight")
    }
}

impl Model {
    /// Every tensor that the model uses, as a GGUF file or a Hugging Face folder would have it. Matrices become `ty`,
    /// or keep their type where that is `None`; vectors are f32.
    ///
    /// Matrices whose rows are not whole blocks of the type become f16.
    ///
    /// # Errors
    /// If a tensor is missing, or one that is left out is not zero.
    pub fn exports(
        &self,
        checkpoint: &Checkpoint,
        to_gguf: bool,
        ty: Option<TensorType>,
    ) -> Result<Vec<Exported>> {
        for bias in self.zero_biases(checkpoint)? {
            self.check_zero(checkpoint, bias, &checkpoint.read_f32(bias)?)?;
        }
        let mut out: Vec<Exported> = vec![];
        for weight in self.graph(Head::Next)?.weights {
            let is_vector = weight.kind == WeightKind::Vector;
            for part in weight.parts {
                // Of a tensor in several parts, all at the first.
                let part = Part::whole(part.tensor, part.shape);
                if out.iter().any(|done| done.part == part) {
                    continue;
                }
                let info = self.tensor(checkpoint, &part)?.info;
                let name = names::in_file(self.arch, &part.tensor, to_gguf);
                let wanted = ty.unwrap_or(info.ty);
                let in_layer = part.tensor.starts_with("model.layers.");
                let wanted = match wanted {
                    _ if is_vector => TensorType::F32,
                    // As transformers has it: only linears of layers are bitsandbytes'.
                    TensorType::NF4 if !in_layer => TensorType::F16,
                    other => other,
                };
                let cols = part.shape[1];
                let fits = cols.is_multiple_of(wanted.block_len());
                let ty = if fits { wanted } else { TensorType::F16 };
                out.push(Exported {
                    name,
                    shape: info.shape.clone(),
                    ty,
                    cols,
                    part,
                });
            }
        }
        Ok(out)
    }

    /// A tensor's bytes for the file that is written, as `encode` makes them. `change` is applied to its values; without
    /// it, a tensor that keeps type and order is copied.
    ///
    /// # Errors
    /// If the tensor cannot be read, or there is no encoder for its type.
    pub fn export_bytes(
        &self,
        checkpoint: &Checkpoint,
        tensor: &Exported,
        to_gguf: bool,
        change: Option<Change<'_>>,
        encode: EncodeTensor<'_>,
    ) -> Result<Vec<u8>> {
        let found = self.tensor(checkpoint, &tensor.part)?;
        let (info, from) = (found.info, found.transform);
        let to = self.transform(&tensor.part.tensor, to_gguf);
        if change.is_none() && from == to && info.ty == tensor.ty {
            return Ok(checkpoint.read(info)?);
        }
        let mut values = from.apply(checkpoint.read_f32(info)?, tensor.cols);
        if let Some(change) = change {
            change(&mut values);
        }
        Ok(encode(tensor, &to.undo(values, tensor.cols))?)
    }

    /// The GGUF metadata of a Hugging Face folder's model, without its tokenizer; and the factors of its rotary
    /// frequencies, if they are to become the tensor `rope_freqs.weight`.
    ///
    /// # Errors
    /// If its frequencies or its activation are such that the architecture's GGUF files cannot express them.
    pub fn to_gguf(&self) -> Result<(Metadata, Option<Vec<f32>>)> {
        let d = self.dims();
        let arch = self.gguf_arch().ok_or(Error::NoConversion {
            arch: self.arch.names[0],
        })?;
        let mut out: Vec<(String, Value)> =
            vec![("general.architecture".into(), Value::String(arch.into()))];
        let mut set = |key: &str, value: Value| out.push((format!("{arch}.{key}"), value));
        for (key, n) in [
            ("block_count", d.n_layers),
            ("context_length", d.context_length),
            ("embedding_length", d.hidden_size),
            ("feed_forward_length", d.intermediate_size),
            ("attention.head_count", d.n_heads),
            ("attention.head_count_kv", d.n_kv_heads),
            ("attention.key_length", d.head_dim),
            ("attention.value_length", d.head_dim),
            ("rope.dimension_count", d.head_dim),
            ("vocab_size", d.vocab_size),
        ] {
            set(key, Value::Uint(n as u64));
        }
        set(
            "attention.layer_norm_rms_epsilon",
            Value::Float(d.rms_norm_eps.into()),
        );
        set("rope.freq_base", Value::Float(d.rope_theta.into()));
        for (key, value) in self.family.in_gguf()? {
            set(key, value);
        }
        let factors = self.rope_factors()?;
        let first = factors.first().copied().unwrap_or(1.0);
        if factors.iter().all(|f| (f / first - 1.0).abs() < 1e-5) {
            if (first - 1.0).abs() > 1e-5 {
                set("rope.scaling.type", Value::String("linear".into()));
                set("rope.scaling.factor", Value::Float(first.into()));
            }
            return Ok((out, None));
        }
        if !self.arch.has_rope_factors {
            return Err(no_gguf("rope_scaling", "linear"));
        }
        Ok((out, Some(factors)))
    }

    /// What the rotary frequencies are divided by.
    pub(crate) fn rope_factors(&self) -> Result<Vec<f32>> {
        let d = self.dims();
        let graph = self.graph(Head::Next)?;
        let found = graph.weights.iter().find_map(|w| match &w.kind {
            WeightKind::Constant(values) if w.name == "inv_freq" => Some(values),
            _ => None,
        });
        let plain = |i: usize| 1.0 / d.rope_theta.powf(2.0 * i as f32 / d.head_dim as f32);
        let factors = found.into_iter().flatten().enumerate();
        Ok(factors.map(|(i, f)| plain(i) / f).collect())
    }
}
