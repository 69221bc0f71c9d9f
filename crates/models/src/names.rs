//! How tensor names map. Graphs name tensors as Hugging Face does; this finds them in a file, and
//! says what must be done to their bytes so that every file gives the same weights.

use siskin_formats::{Checkpoint, TensorInfo};

use crate::families::Architecture;

/// What must be done to a tensor's values to get the graph's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    None,
    /// llama.cpp stores q and k of llama with the two halves of each head interleaved; rows go
    /// back to `half · head_dim / 2 + i` from `2 i + half`.
    UnpermuteRope {
        /// Rows of each head.
        head_dim: usize,
    },
    /// Gemma multiplies by 1 + w; its GGUF files store the sum already.
    AddOne,
    /// State space models decay by −exp(w); their GGUF files store that already.
    NegExp,
    /// xIELU's constants are ln(1 + exp(w)).
    Softplus,
    /// GPT-2 stores matrices `[in, out]`.
    Transpose,
    /// GGUF files store DeepSeek's projection of keys transposed, head by head.
    TransposeHeads {
        /// How many heads it is for.
        n_heads: usize,
    },
}

impl Transform {
    /// The row of the file that becomes the graph's row `row`.
    pub fn source_row(self, row: usize) -> usize {
        match self {
            Self::UnpermuteRope { head_dim } => {
                let (head, at) = (row / head_dim, row % head_dim);
                let (half, i) = (at / (head_dim / 2), at % (head_dim / 2));
                head * head_dim + 2 * i + half
            }
            Self::None
            | Self::AddOne
            | Self::NegExp
            | Self::Softplus
            | Self::Transpose
            | Self::TransposeHeads { .. } => row,
        }
    }

    /// A file's values `[rows, cols]` from the graph's.
    pub fn undo(self, values: Vec<f32>, cols: usize) -> Vec<f32> {
        match self {
            Self::None => values,
            Self::AddOne => values.into_iter().map(|v| v - 1.0).collect(),
            Self::NegExp => values.into_iter().map(|v| (-v).ln()).collect(),
            Self::Softplus => values.into_iter().map(|v| v.exp_m1().ln()).collect(),
            Self::Transpose => transposed(&values, cols),
            Self::TransposeHeads { n_heads } => transposed_heads(&values, n_heads, cols),
            Self::UnpermuteRope { .. } => {
                let mut out = vec![0.0; values.len()];
                for (row, values) in values.chunks_exact(cols).enumerate() {
                    out[self.source_row(row) * cols..][..cols].copy_from_slice(values);
                }
                out
            }
        }
    }

    /// The graph's values `[rows, cols]` from a file's.
    pub fn apply(self, values: Vec<f32>, cols: usize) -> Vec<f32> {
        match self {
            Self::None => values,
            Self::AddOne => values.into_iter().map(|v| v + 1.0).collect(),
            Self::NegExp => values.into_iter().map(|v| -v.exp()).collect(),
            Self::Softplus => values.into_iter().map(|v| v.exp().ln_1p()).collect(),
            Self::Transpose => transposed(&values, values.len() / cols),
            Self::TransposeHeads { n_heads } => {
                transposed_heads(&values, n_heads, values.len() / cols / n_heads)
            }
            Self::UnpermuteRope { .. } => (0..values.len() / cols)
                .flat_map(|row| &values[self.source_row(row) * cols..][..cols])
                .copied()
                .collect(),
        }
    }
}

/// What folders of different families have before a layer's number.
const LAYERS: [&str; 2] = [".layers.", ".h."];

/// Whether a tensor, by its name in graphs, is a layer's.
pub fn is_in_layer(tensor: &str) -> bool {
    LAYERS.iter().any(|name| tensor.contains(name))
}

/// `[cols, rows]` from `[rows, cols]`.
pub(crate) fn transposed<T: Copy>(values: &[T], cols: usize) -> Vec<T> {
    let column = |c: usize| values.iter().skip(c).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}

/// `[n_heads, cols, rows]` from `[n_heads, rows, cols]`.
pub(crate) fn transposed_heads<T: Copy>(values: &[T], n_heads: usize, cols: usize) -> Vec<T> {
    let heads = values.chunks_exact((values.len() / n_heads).max(1));
    heads.flat_map(|head| transposed(head, cols)).collect()
}

/// Names within a layer: Hugging Face's and GGUF's, where a family does not say otherwise.
const LAYER_NAMES: [(&str, &str); 26] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.router", "ffn_gate_inp"),
    ("mlp.exp_probs_b", "exp_probs_b"),
    ("mlp.gate_exps", "ffn_gate_exps"),
    ("mlp.up_exps", "ffn_up_exps"),
    ("mlp.gate_up_exps", "ffn_gate_up_exps"),
    ("mlp.down_exps", "ffn_down_exps"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("per_layer_input_gate", "inp_gate"),
    ("per_layer_projection", "proj"),
    ("post_per_layer_input_norm", "post_norm"),
];

/// The name a tensor has in the file.
pub(crate) fn in_file(arch: &Architecture, tensor: &str, gguf: bool) -> String {
    let mut names = match gguf {
        true => arch.gguf_top_names.iter(),
        false => arch.top_names.iter(),
    };
    let own = names.find_map(|(graph, file)| Some((file, tensor.strip_prefix(graph)?)));
    match own {
        Some((file, rest)) => return format!("{file}{rest}"),
        None if !gguf => return tensor.into(),
        None => {}
    }
    match tensor {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "model.norm.bias" => return "output_norm.bias".into(),
        "model.embed_positions.weight" => return "position_embd.weight".into(),
        "model.embed_kinds.weight" => return "token_types.weight".into(),
        "model.embed_norm.weight" => return "token_embd_norm.weight".into(),
        "model.embed_norm.bias" => return "token_embd_norm.bias".into(),
        "lm_head.bias" => return "output.bias".into(),
        "lm_head.weight" => return "output.weight".into(),
        _ => {}
    }
    for (module, in_gguf) in [
        ("model.embed_tokens_per_layer", "per_layer_token_embd"),
        ("model.per_layer_model_projection", "per_layer_model_proj"),
        ("model.per_layer_projection_norm", "per_layer_proj_norm"),
        ("2_Dense/linear", "dense_2"),
        ("3_Dense/linear", "dense_3"),
        ("score.dense", "cls"),
        ("score.norm", "cls.norm"),
        ("score.out", "cls.output"),
    ] {
        if let Some(suffix) = tensor.strip_prefix(module) {
            return format!("{in_gguf}{suffix}");
        }
    }
    let layered = || {
        let (_, rest) = LAYERS.iter().find_map(|name| tensor.split_once(name))?;
        let (layer, rest) = rest.split_once('.')?;
        // A tensor that is not a weight or a bias has a name of its own.
        if let Some((_, own)) = arch.layer_names.iter().find(|n| n.0 == rest) {
            return Some(format!("blk.{layer}.{own}"));
        }
        let (part, suffix) = rest.rsplit_once('.')?;
        let mut names = arch.layer_names.iter().chain(&LAYER_NAMES);
        let name = names.find(|n| n.0 == part)?.1;
        Some(format!("blk.{layer}.{name}.{suffix}"))
    };
    layered().unwrap_or_else(|| tensor.into())
}

pub(crate) fn find<'a>(
    arch: &Architecture,
    checkpoint: &'a Checkpoint,
    tensor: &str,
    gguf: bool,
) -> Option<&'a TensorInfo> {
    if !gguf {
        // Each of the names that the architecture's files may have for it.
        let mut own = arch.top_names.iter().filter_map(|(graph, file)| {
            let rest = tensor.strip_prefix(graph)?;
            checkpoint.find(&format!("{file}{rest}"))
        });
        if let Some(found) = own.next() {
            return Some(found);
        }
        let own = in_file(arch, tensor, false);
        let tensor = own.as_str();
        // A language model within one for images, as transformers 4 and 5 save it, and a base model without head.
        let within = tensor.replacen("model.", "model.language_model.", 1);
        let base = tensor.strip_prefix("model.").unwrap_or(tensor);
        return checkpoint
            .find(tensor)
            .or_else(|| checkpoint.find(&format!("language_model.{tensor}")))
            .or_else(|| checkpoint.find(&within))
            .or_else(|| checkpoint.find(base));
    }
    checkpoint.find(&in_file(arch, tensor, true))
}
