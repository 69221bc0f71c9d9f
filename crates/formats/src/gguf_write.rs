//! Writes GGUF files, version 3 (ggml's `docs/gguf.md`), one tensor at a time.

use std::io::{self, Write};

use crate::{Array, TensorType, Value};

/// Tensors begin at multiples of this, which is the format's default.
const ALIGNMENT: u64 = 32;

fn string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// A value with the number of its type before it.
fn value(out: &mut Vec<u8>, value: &Value) {
    let number = |out: &mut Vec<u8>, n: u32| out.extend(n.to_le_bytes());
    match value {
        Value::Uint(v) => match u32::try_from(*v) {
            Ok(v) => {
                number(out, 4);
                out.extend(v.to_le_bytes());
            }
            Err(_) => {
                number(out, 10);
                out.extend(v.to_le_bytes());
            }
        },
        Value::Int(v) => match i32::try_from(*v) {
            Ok(v) => {
                number(out, 5);
                out.extend(v.to_le_bytes());
            }
            Err(_) => {
                number(out, 11);
                out.extend(v.to_le_bytes());
            }
        },
        Value::Float(v) => {
            number(out, 6);
            out.extend((*v as f32).to_le_bytes());
        }
        Value::Bool(v) => {
            number(out, 7);
            out.push(u8::from(*v));
        }
        Value::String(s) => {
            number(out, 8);
            string(out, s);
        }
        Value::Array(array) => {
            number(out, 9);
            elements(out, array);
        }
    }
}

/// The number of the elements' type, how many there are, and the elements.
fn elements(out: &mut Vec<u8>, array: &Array) {
    let is_small = |v: &[i64]| v.iter().all(|v| i32::try_from(*v).is_ok());
    let (ty, len): (u32, usize) = match array {
        Array::Int(v) => (if is_small(v) { 5 } else { 11 }, v.len()),
        Array::Float(v) => (6, v.len()),
        Array::Bool(v) => (7, v.len()),
        Array::String(v) => (8, v.len()),
        Array::Nested(v) => (9, v.len()),
    };
    out.extend(ty.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
    match array {
        Array::Int(v) if ty == 11 => v.iter().for_each(|v| out.extend(v.to_le_bytes())),
        Array::Int(v) => v.iter().for_each(|v| out.extend((*v as i32).to_le_bytes())),
        Array::Float(v) => v.iter().for_each(|v| out.extend(v.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|v| u8::from(*v))),
        Array::String(v) => v.iter().for_each(|s| string(out, s)),
        Array::Nested(v) => v.iter().for_each(|a| elements(out, a)),
    }
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTensor {
    /// As the file shall have it.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub ty: TensorType,
}

/// Writes a file. `bytes(i)` returns the blocks of the i-th tensor, and is called for each in turn, so that one is in
/// memory at a time.
///
/// # Errors
/// What writing or `bytes` fails with; a type that GGUF does not have; bytes whose length is not that of the tensor's
/// shape.
pub fn write_gguf<E: From<io::Error>>(
    out: &mut impl Write,
    metadata: &[(String, Value)],
    tensors: &[GgufTensor],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, v) in metadata {
        string(&mut head, key);
        value(&mut head, v);
    }
    let mut offset = 0u64;
    let mut lengths = vec![];
    for t in tensors {
        string(&mut head, &t.name);
        head.extend((t.shape.len() as u32).to_le_bytes());
        for d in t.shape.iter().rev() {
            head.extend((*d as u64).to_le_bytes());
        }
        let ty = t.ty.ggml();
        let ty = ty.ok_or_else(|| io::Error::other(format!("GGUF has no type {}", t.ty)))?;
        head.extend(ty.to_le_bytes());
        head.extend(offset.to_le_bytes());
        let len = t.ty.bytes_of(t.shape.iter().product());
        let len = len.ok_or_else(|| {
            io::Error::other(format!("`{}` is not a whole number of blocks", t.name))
        })?;
        lengths.push(len);
        offset = (offset + len as u64).next_multiple_of(ALIGNMENT);
    }
    let pad = |len: usize| vec![0u8; len.next_multiple_of(ALIGNMENT as usize) - len];
    head.extend(pad(head.len()));
    out.write_all(&head)?;
    for (i, len) in lengths.into_iter().enumerate() {
        let bytes = bytes(i)?;
        if bytes.len() != len {
            let what = format!("`{}` has {} bytes, not {len}", tensors[i].name, bytes.len());
            return Err(io::Error::other(what).into());
        }
        out.write_all(&bytes)?;
        out.write_all(&pad(len))?;
    }
    out.flush()?;
    Ok(())
}
