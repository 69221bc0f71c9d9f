//! Which type each tensor of a file gets: most files are mixtures, in which some tensors have a larger type, as
//! llama.cpp's recipes have it (`src/llama-quant.cpp`), by which its files are known.

use std::collections::HashMap;

use siskin_formats::TensorType::{
    F16, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};
use siskin_formats::{TensorType, Value};

use crate::file_type::FileType;

/// What a tensor does, as far as mixtures treat it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Output,
    Embedding,
    Key,
    Value,
    FusedQkv,
    AttentionOutput,
    Down,
    Other,
}

impl Role {
    /// By GGUF's name.
    fn of(name: &str) -> Self {
        let parts = [
            ("attn_qkv.weight", Self::FusedQkv),
            ("attn_kv_b.weight", Self::Value),
            ("attn_v.weight", Self::Value),
            ("attn_k.weight", Self::Key),
            ("attn_output.weight", Self::AttentionOutput),
            ("ffn_down", Self::Down),
        ];
        match name {
            "output.weight" => Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Self::Embedding,
            _ => parts
                .into_iter()
                .find(|p| name.contains(p.0))
                .map_or(Self::Other, |p| p.1),
        }
    }

    /// Whether errors in it count as much as in an attention's values.
    fn is_value(self) -> bool {
        matches!(self, Self::Value | Self::FusedQkv)
    }
}

/// What is small, or sensitive, and never quantised.
const KEPT: [&str; 29] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types",
    "attn_rel_b.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    ".patch_embd",
];

/// Whether a tensor takes the file's type, and does not keep its own.
pub fn is_stored_so(name: &str, shape: &[usize]) -> bool {
    // ggml does not count outer dimensions of 1.
    let dims = shape.iter().skip_while(|n| **n == 1).count();
    dims >= 2 && name.ends_with("weight") && !KEPT.iter().any(|part| name.contains(part))
}

/// What mixtures depend on, besides the tensors.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    is_falcon: bool,
    layers: usize,
    experts: u64,
    /// Query heads for each head of keys and values.
    grouping: u64,
    /// The large models whose values are shared by many heads.
    is_large: bool,
    pub has_importance: bool,
}

impl Facts {
    /// From GGUF metadata.
    pub fn new<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Self {
        let arch = match get("general.architecture") {
            Some(Value::String(s)) => s.as_str(),
            _ => "",
        };
        // Of one for each layer, the first.
        let uint = |key: &str| match get(&format!("{arch}.{key}"))? {
            Value::Uint(n) => Some(*n),
            Value::Int(n) => u64::try_from(*n).ok(),
            Value::Array(siskin_formats::Array::Int(n)) => u64::try_from(*n.first()?).ok(),
            _ => None,
        };
        let layers = uint("block_count").unwrap_or(0) as usize;
        let heads = uint("attention.head_count").unwrap_or(0);
        let kv_heads = uint("attention.head_count_kv").unwrap_or(heads);
        Self {
            is_falcon: arch == "falcon",
            layers,
            experts: uint("expert_count").unwrap_or(0),
            grouping: heads.checked_div(kv_heads).unwrap_or(0),
            is_large: match arch {
                "llama" => layers == 80 && heads != kv_heads,
                "qwen2" | "deci" | "olmo" => layers == 80,
                _ => false,
            },
            has_importance: false,
        }
    }
}

/// The layer that GGUF's name is of.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The type of each tensor, given by GGUF's name and shape; `None` for those that keep their own.
pub fn types(
    file: &FileType,
    facts: &Facts,
    tensors: &[(&str, &[usize])],
) -> Vec<Option<TensorType>> {
    let is_tied = !tensors.iter().any(|t| t.0 == "output.weight");
    let n_values = tensors.iter().filter(|t| Role::of(t.0).is_value()).count();
    // Counted by layer.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|i| (layer_of(tensors[*i].0), tensors[*i].0));
    let (mut values, mut downs) = (0, 0);
    let mut out = vec![None; tensors.len()];
    for i in order {
        let (name, shape) = tensors[i];
        if !is_stored_so(name, shape) {
            continue;
        }
        let cols = shape.last().copied().unwrap_or(0);
        if !file.ty.is_quantised() {
            out[i] = Some(file.ty);
            continue;
        }
        let role = Role::of(name);
        let place = Place {
            value: (values, n_values),
            down: match facts.experts {
                0 | 1 => downs,
                // A layer has several.
                _ => layer_of(name).unwrap_or(0),
            },
        };
        values += usize::from(role.is_value());
        downs += usize::from(role == Role::Down);
        let ty = match role {
            Role::Output => of_output(file, facts, cols),
            Role::Embedding if is_tied => of_output(file, facts, cols),
            _ => larger(file.name, role, facts, &place).unwrap_or(file.ty),
        };
        out[i] = Some(fitting(ty, cols));
    }
    out
}

/// The layer that also is, or may be, the embedding.
fn of_output(file: &FileType, facts: &Facts, cols: usize) -> TensorType {
    if facts.is_falcon || !cols.is_multiple_of(file.ty.block_len()) || file.ty == Q8_0 {
        Q8_0
    } else {
        Q6_K
    }
}

/// Where a tensor is among those of its role.
struct Place {
    /// Which of how many.
    value: (usize, usize),
    down: usize,
}

/// The first and the last eighth, and of the others every third.
fn is_one_of_more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// What a mixture has for a tensor instead of its own type.
fn larger(file: &str, role: Role, facts: &Facts, at: &Place) -> Option<TensorType> {
    match role {
        Role::Value | Role::FusedQkv => of_values(file, facts, at.value),
        Role::Key if facts.experts == 8 => Some(Q8_0),
        Role::Down => of_down(file, facts, at.down),
        Role::AttentionOutput => of_attention_output(file, facts),
        _ => None,
    }
}

fn of_values(file: &str, facts: &Facts, (i, n): (usize, usize)) -> Option<TensorType> {
    let is_grouped = facts.grouping >= 4;
    let ty = match file {
        "q2_k" if is_grouped => Some(Q4_K),
        "q2_k" => Some(Q3_K),
        "q3_k_m" if i < 2 => Some(Q5_K),
        "q3_k_m" => Some(Q4_K),
        "q3_k_l" => Some(Q5_K),
        "iq4_nl" | "iq4_xs" if is_grouped => Some(Q5_K),
        "q4_k_m" | "q5_k_m" if is_one_of_more_bits(i, n) => Some(Q6_K),
        "q4_k_s" if i < 4 => Some(Q5_K),
        _ => None,
    };
    let own = match file {
        "q3_k_s" => Some(Q3_K),
        "q4_k_s" | "q4_k_m" => Some(Q4_K),
        _ => None,
    };
    match ty.or(own) {
        _ if facts.experts == 8 => Some(Q8_0),
        Some(Q3_K | Q4_K) if facts.is_large => Some(Q5_K),
        _ => ty,
    }
}

fn of_down(file: &str, facts: &Facts, i: usize) -> Option<TensorType> {
    let n = facts.layers;
    let is_early = i < n / 8;
    let more = is_one_of_more_bits(i, n);
    match file {
        "q2_k" => Some(Q3_K),
        "q3_k_m" if i < n / 16 => Some(Q5_K),
        "q3_k_m" if !facts.is_falcon || more => Some(Q4_K),
        "q3_k_l" if facts.is_falcon => Some(Q4_K),
        "q3_k_l" => Some(Q5_K),
        "q4_k_m" if facts.is_falcon && i >= n / 16 => more.then_some(Q5_K),
        "q4_k_m" if more => Some(Q6_K),
        "iq4_nl" | "iq4_xs" if is_early && !facts.has_importance => Some(Q5_K),
        "q5_k_m" if more => Some(Q6_K),
        "q4_k_s" if is_early && !facts.is_falcon => Some(Q5_K),
        "q4_0" if is_early && facts.has_importance => Some(Q4_1),
        "q5_0" if is_early && facts.has_importance => Some(Q5_1),
        _ => None,
    }
}

fn of_attention_output(file: &str, facts: &Facts) -> Option<TensorType> {
    const OF_EXPERTS: [&str; 7] = [
        "q2_k", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq4_xs",
    ];
    match file {
        "q3_k_l" if facts.is_falcon => Some(Q4_K),
        _ if facts.is_falcon => None,
        _ if facts.experts == 8 => OF_EXPERTS.contains(&file).then_some(Q5_K),
        "q2_k" => Some(Q3_K),
        "q3_k_m" => Some(Q4_K),
        "q3_k_l" => Some(Q5_K),
        _ => None,
    }
}

/// The type, or one of nearly as many bits in shorter blocks if rows are not whole blocks of it.
fn fitting(ty: TensorType, cols: usize) -> TensorType {
    let fits = |ty: TensorType| cols.is_multiple_of(ty.block_len());
    let shorter = match ty {
        _ if fits(ty) => ty,
        Q2_K | Q3_K => Q4_0,
        IQ4_XS => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    };
    if fits(shorter) { shorter } else { F16 }
}

/// The types by name.
pub fn by_name(
    file: &FileType,
    facts: &Facts,
    tensors: &[(&str, &[usize])],
) -> HashMap<String, TensorType> {
    let found = types(file, facts, tensors).into_iter().zip(tensors);
    found
        .filter_map(|(ty, t)| Some((t.0.to_string(), ty?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use siskin_formats::Array;

    use super::*;

    fn facts(case: &serde_json::Value) -> Facts {
        let arch = case["arch"].as_str().unwrap();
        let uint = |key: &str| Value::Uint(case[key].as_u64().unwrap());
        let keys = [
            ("general.architecture".into(), Value::String(arch.into())),
            (format!("{arch}.block_count"), uint("layers")),
            (format!("{arch}.expert_count"), uint("experts")),
            // One for each layer, as some files have it.
            (
                format!("{arch}.attention.head_count"),
                Value::Array(Array::Int(vec![case["heads"].as_i64().unwrap(); 2])),
            ),
            (format!("{arch}.attention.head_count_kv"), uint("kv_heads")),
        ];
        Facts::new(|key| keys.iter().find(|k| k.0 == key).map(|k| &k.1))
    }

    /// What llama.cpp's quantiser gives each tensor of files of several shapes, with an importance and without.
    #[test]
    fn mixtures_are_those_of_llama_cpp() {
        let text = include_str!("../../../tests/fixtures/mixtures.json");
        let all: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut n = 0;
        for (name, case) in all.as_object().unwrap() {
            let layers = case["layers"].as_u64().unwrap();
            let mut tensors: Vec<(String, Vec<usize>)> = vec![];
            for (tensor, shape) in case["shapes"].as_object().unwrap() {
                let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
                match tensor.strip_prefix("blk.0.") {
                    None => tensors.push((tensor.clone(), shape)),
                    Some(part) => (0..layers)
                        .for_each(|i| tensors.push((format!("blk.{i}.{part}"), shape.clone()))),
                }
            }
            let given: Vec<(&str, &[usize])> =
                tensors.iter().map(|t| (t.0.as_str(), &t.1[..])).collect();
            for (file, wanted) in case["types"].as_object().unwrap() {
                let mut facts = facts(case);
                facts.has_importance = file.ends_with("+importance");
                let file_type = FileType::parse(file.trim_end_matches("+importance")).unwrap();
                let found = types(&file_type, &facts, &given);
                for ((tensor, _), ty) in given.iter().zip(found) {
                    let layer = layer_of(tensor).unwrap_or(0) as u64;
                    let part = tensor.splitn(3, '.').nth(2);
                    let part = part
                        .filter(|_| tensor.starts_with("blk."))
                        .unwrap_or(tensor);
                    // Runs of layers with one type, by their first layer.
                    let runs = wanted.get(part).and_then(|runs| runs.as_array());
                    let run = |r: &&serde_json::Value| r[0].as_u64().unwrap() <= layer;
                    let wanted = runs.and_then(|runs| runs.iter().rev().find(run));
                    let wanted = wanted.map(|r| r[1].as_str().unwrap());
                    assert_eq!(ty.map(TensorType::name), wanted, "{name} {file} {tensor}");
                    n += 1;
                }
            }
        }
        assert!(n > 10_000, "{n}");
    }
}
