//! Weights that torchao quantised, as transformers saves them to safetensors (`torchao.prototype.safetensors`): the
//! metadata of the files has the class and the attributes of each tensor, as JSON, and its parts are tensors of their
//! own, such as `MODULE._weight_qdata`.

use std::collections::{HashMap, HashSet};

use safetensors::tensor::Dtype;
use serde_json::Value;

use crate::checkpoint::Apart;
use crate::integer_tensors::Parts;
use crate::integers::{Field, Integers, LEN, Scales};
use crate::offsets::Offsets;
use crate::quantisation::Table;
use crate::safetensors::{Entries, plain_type};
use crate::{Error, Result, TensorInfo, TensorType, fp8};

/// The metadata's list of all tensors.
const NAMES: &str = "tensor_names";

const CODES: &str = "_weight_qdata";
const SCALES: &str = "_weight_scale";
const ZEROS: &str = "_weight_zero_point";

/// A class of torchao's tensors.
struct Class {
    name: &'static str,
    /// What makes it so that only weights are quantised.
    config: &'static str,
    parts: &'static [&'static str],
    /// Attributes that are read here, or that change nothing where only weights are quantised.
    known: &'static [&'static str],
    /// How activations are quantised: null, or a type of floats that they have anyway.
    activations: &'static str,
}

const CLASSES: [Class; 4] = [
    Class {
        name: "Int4Tensor",
        config: "Int4WeightOnlyConfig with int4_packing_format=plain",
        parts: &["qdata", "scale", "zero_point"],
        known: &["block_size", "shape"],
        activations: "activation_dtype",
    },
    Class {
        name: "Int8Tensor",
        config: "Int8WeightOnlyConfig",
        parts: &["qdata", "scale", "zero_point"],
        known: &["block_size", "dtype", "reduce_range"],
        activations: "act_quant_kwargs",
    },
    Class {
        name: "IntxUnpackedToInt8Tensor",
        config: "IntxWeightOnlyConfig",
        parts: &["qdata", "scale", "zero_point"],
        known: &["block_size", "dtype", "target_dtype"],
        activations: "activation_quantization",
    },
    Class {
        name: "Float8Tensor",
        config: "Float8WeightOnlyConfig",
        parts: &["qdata", "scale"],
        known: &["block_size", "dtype", "kernel_preference", "mm_config"],
        activations: "act_quant_kwargs",
    },
];

/// The quantised matrices, and the names of the tensors that they are made of. `folder` is for error messages.
///
/// # Errors
/// If a tensor's class or attributes are not supported, one of its parts is missing, or has another type or shape than
/// the others ask for.
pub(crate) fn tensors(
    folder: &str,
    metadata: &HashMap<String, String>,
    entries: &Entries,
) -> Result<(Vec<TensorInfo>, HashSet<String>)> {
    let names = metadata.get(NAMES);
    let names = names.and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let Some(names) = names else {
        return Err(Error::Quantisation {
            name: folder.into(),
            key: format!("__metadata__.{NAMES}"),
            value: "missing".into(),
            supported: "what transformers 5 saves with torchao 0.15 and later".into(),
        });
    };
    let (mut tensors, mut used) = (vec![], HashSet::new());
    for name in names {
        let text = metadata.get(&name).map_or("", String::as_str);
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        if json["_type"] == "Tensor" {
            continue;
        }
        let state = Table {
            file: folder,
            name: name.clone(),
            json: &json,
        };
        let class = CLASSES.iter().find(|class| json["_type"] == class.name);
        let Some((class, module)) = class.zip(name.strip_suffix(".weight")) else {
            let known = CLASSES.map(|class| format!("{} ({})", class.name, class.config));
            let known = format!("for weights of modules {}", known.join(", "));
            return Err(state.refused("_type", &known));
        };
        class.check(&state)?;
        let names = state.get("_tensor_data_names").as_array();
        let has_zeros = names.is_some_and(|names| names.iter().any(|n| n == "zero_point"));
        let mut parts = Parts {
            folder,
            module,
            entries,
            used: &mut used,
        };
        let state = state.within("_data");
        tensors.push(match class.name {
            "Int4Tensor" => int4(&mut parts, &state)?,
            "Int8Tensor" => integers(&mut parts, &state, 8, has_zeros)?,
            "Float8Tensor" => float8(&mut parts, &state)?,
            _ => {
                let bits = bits(&state)?;
                integers(&mut parts, &state, bits, has_zeros)?
            }
        });
    }
    Ok((tensors, used))
}

impl Class {
    /// That there is nothing that is not understood.
    fn check(&self, state: &Table<'_>) -> Result<()> {
        let parts = state.get("_tensor_data_names").as_array();
        let is_known = |part: &Value| self.parts.iter().any(|known| part == known);
        if !parts.is_some_and(|parts| parts.iter().all(is_known)) {
            return Err(state.refused("_tensor_data_names", &self.parts.join(", ")));
        }
        let data = state.within("_data");
        let Some(attributes) = data.json.as_object() else {
            return Err(state.refused("_data", "an object"));
        };
        for (key, value) in attributes {
            let is_off = value.is_null() || value["_data"] == "bfloat16";
            if key == self.activations && !is_off {
                let only = format!("weights alone are quantised, as by {}", self.config);
                return Err(data.refused(key, &only));
            }
            if key != self.activations && !self.known.contains(&key.as_str()) {
                return Err(data.refused(key, "none"));
            }
        }
        Ok(())
    }
}

/// Rows and columns that share a scale.
fn block(state: &Table<'_>) -> Result<[usize; 2]> {
    let sizes = state.get("block_size").as_array();
    let sizes: Option<Vec<usize>> = sizes.and_then(|sizes| {
        let size = |v: &Value| usize::try_from(v.as_u64()?).ok().filter(|n| *n > 0);
        sizes.iter().map(size).collect()
    });
    match sizes.as_deref() {
        Some(&[rows, cols]) => Ok([rows, cols]),
        _ => Err(state.refused("block_size", "rows and columns")),
    }
}

/// Bits that codes are kept in, of those that they have.
fn bits(state: &Table<'_>) -> Result<u32> {
    let dtype = state.get("target_dtype")["_data"].as_str();
    let bits = dtype.and_then(|ty| ty.strip_prefix("int")?.parse().ok());
    match bits {
        Some(1..=4) => Ok(4),
        Some(5..=8) => Ok(8),
        _ => Err(state.refused("target_dtype", "int1 to int8")),
    }
}

/// Signed codes in bytes, `scale (code − zero)`.
fn integers(
    parts: &mut Parts<'_>,
    state: &Table<'_>,
    bits: u32,
    has_zeros: bool,
) -> Result<TensorInfo> {
    let ([rows, cols], codes) = parts.matrix(CODES, Dtype::I8)?;
    let [height, width] = block(state)?;
    if ![1, rows].contains(&height) || cols % width != 0 {
        return Err(state.refused("block_size", "parts of rows, rows, and all of them"));
    }
    let shape = [rows / height, cols / width];
    let row = if height == 1 { shape[1] } else { 0 };
    let (ty, scales) = parts.floats(SCALES, &shape)?;
    let zeros = match has_zeros {
        true => Some(parts.place(ZEROS, &[Dtype::I8], &shape)?),
        false => None,
    };
    let scales_of = Scales {
        ty,
        strides: [row, 1],
        divisor: 1.0,
    };
    let integers = Integers {
        name: parts.weight(),
        shape: [rows, cols],
        bits,
        group: width,
        codes: (Field::Bytes { stride: cols }, codes),
        scales: (scales_of, scales),
        zeros: zeros.map(|at| (Field::Bytes { stride: row }, at)),
        order: None,
        check: None,
    };
    parts.info(integers)
}

/// Signed codes, two in a byte, `scale code + zero`; scales and zeros have a row for each group.
fn int4(parts: &mut Parts<'_>, state: &Table<'_>) -> Result<TensorInfo> {
    let ([rows, bytes], codes) = parts.matrix(CODES, Dtype::I8)?;
    let cols = 2 * bytes;
    if state.get("shape") != &serde_json::json!([rows, cols]) {
        return Err(state.refused("shape", &format!("{rows} rows of {cols}, as its codes are")));
    }
    let [height, group] = block(state)?;
    if height != 1 {
        return Err(state.refused("block_size", "parts of one row"));
    }
    let groups = cols.div_ceil(group);
    let scales = parts.floats(SCALES, &[groups, rows])?;
    let zeros = parts.floats(ZEROS, &[groups, rows])?;
    let ty = TensorType::INT4_1;
    // The last group may be shorter.
    let in_blocks = cols.is_multiple_of(LEN) && (group.is_multiple_of(LEN) || groups == 1);
    let Some(bytes) = ty.bytes_of(rows * cols).filter(|_| in_blocks) else {
        return Err(Error::BlockShape {
            name: parts.folder.into(),
            tensor: parts.weight(),
            shape: vec![rows, groups, group],
            ty,
            block: LEN,
        });
    };
    Ok(TensorInfo {
        name: parts.weight(),
        shape: vec![rows, cols],
        ty,
        file: codes.file,
        offset: codes.offset,
        bytes: bytes as u64,
        apart: Some(Apart::Offsets(Box::new(Offsets {
            name: parts.weight(),
            shape: [rows, cols],
            group,
            codes,
            scales,
            zeros,
        }))),
    })
}

fn float8(parts: &mut Parts<'_>, state: &Table<'_>) -> Result<TensorInfo> {
    let (shape, codes) = parts.matrix(CODES, Dtype::F8_E4M3)?;
    let found = parts.get(SCALES)?;
    let ty = plain_type(found.dtype);
    let scales = ty.and_then(|ty| fp8::Scales::new(&shape, &found.shape, ty, found.at));
    let Some(scales) = scales else {
        return Err(parts.wrong(SCALES, found, "one for each row, or for all,"));
    };
    if block(state)? != scales.block {
        return Err(state.refused("block_size", "rows, all of them, and 128 × 128"));
    }
    Ok(scales.tensor(parts.weight(), shape.into(), codes))
}
