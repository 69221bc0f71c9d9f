//! The parser of a GGUF header.
//!
//! It does no I/O: it takes the first bytes of a file and says how many more it needs, so a file, a
//! buffer and an HTTP range reader all drive the same code.

use std::collections::HashMap;

use crate::gguf::{Array, Header, Value};
use crate::order::sort_by;
use crate::{Error, Result, TensorInfo, TensorType, UnreadTensor, ggml_types};

/// Bytes that metadata and tensor names may take together. The largest vocabularies take 20 MB.
const MAX_HEADER: u64 = 128 << 20;
/// Elements of an array: each takes up to three times its bytes in the file.
const MAX_ELEMENTS: usize = 4 << 20;
/// Arrays within arrays.
const MAX_DEPTH: usize = 8;

/// What [`parse_header`] made of the first bytes of a file.
#[derive(Debug)]
pub enum Parsed {
    /// The header is complete.
    Header(Box<Header>),
    /// The header continues: call again with at least this many of the file's first bytes.
    NeedMore(u64),
}

/// Parses a header from `prefix`, the first bytes of a file of `file_len` bytes called `name`.
///
/// # Errors
/// Whatever is wrong with the file, found before anything large is allocated.
pub fn parse_header(name: &str, prefix: &[u8], file_len: u64) -> Result<Parsed> {
    let mut cursor = Cursor {
        name,
        bytes: prefix,
        at: 0,
        file_len,
    };
    match cursor.header() {
        Ok(header) => Ok(Parsed::Header(Box::new(header))),
        Err(Stop::Need(n)) => Ok(Parsed::NeedMore(n)),
        Err(Stop::Error(e)) => Err(e),
    }
}

enum Stop {
    Need(u64),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

type Step<T> = std::result::Result<T, Stop>;

struct Cursor<'a> {
    name: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Length of the whole file, of which `bytes` is a prefix.
    file_len: u64,
}

impl<'a> Cursor<'a> {
    fn damaged<T>(&self, what: impl Into<String>) -> Step<T> {
        Err(Stop::Error(Error::Damaged {
            name: self.name.into(),
            what: what.into(),
        }))
    }

    fn too_large<T>(&self, what: String) -> Step<T> {
        Err(Stop::Error(Error::TooLarge {
            name: self.name.into(),
            what,
        }))
    }

    fn take(&mut self, n: u64, what: &str) -> Step<&'a [u8]> {
        let end = (self.at as u64)
            .checked_add(n)
            .filter(|end| *end <= self.file_len);
        let Some(end) = end else {
            let (name, what) = (self.name.into(), what.into());
            // A short field at the very end is a cut file; a long one is a lying length.
            return Err(Stop::Error(if n <= 8 {
                Error::Truncated {
                    name,
                    what,
                    len: self.file_len,
                }
            } else {
                Error::BeyondFile {
                    name,
                    what,
                    offset: self.at as u64,
                    len: self.file_len,
                }
            }));
        };
        if end > MAX_HEADER {
            return self.too_large(format!("more than {MAX_HEADER} bytes of metadata"));
        }
        let Some(slice) = usize::try_from(end)
            .ok()
            .and_then(|end| self.bytes.get(self.at..end))
        else {
            return Err(Stop::Need(end));
        };
        self.at += slice.len();
        Ok(slice)
    }

    fn fixed<const N: usize>(&mut self, what: &str) -> Step<[u8; N]> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().unwrap_or([0; N]))
    }

    fn u32(&mut self, what: &str) -> Step<u32> {
        self.fixed(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Step<u64> {
        self.fixed(what).map(u64::from_le_bytes)
    }

    /// A count of things of at least `min_bytes` each: must fit into the rest of the file.
    fn count(&mut self, min_bytes: u64, what: &str) -> Step<usize> {
        let offset = self.at as u64;
        let n = self.u64(what)?;
        let rest = self.file_len - self.at as u64;
        match n.checked_mul(min_bytes).filter(|bytes| *bytes <= rest) {
            Some(_) => Ok(n as usize),
            None => Err(Stop::Error(Error::BeyondFile {
                name: self.name.into(),
                what: format!("{what} ({n})"),
                offset,
                len: self.file_len,
            })),
        }
    }

    fn string(&mut self, what: &str) -> Step<String> {
        let n = self.count(1, what)? as u64;
        let bytes = self.take(n, what)?;
        // A token of a vocabulary may be cut UTF-8: keep what can be kept.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn value(&mut self, ty: u32, key: &str) -> Step<Value> {
        Ok(match ty {
            0 => Value::Uint(self.fixed::<1>(key)?[0].into()),
            1 => Value::Int(i8::from_le_bytes(self.fixed(key)?).into()),
            2 => Value::Uint(u16::from_le_bytes(self.fixed(key)?).into()),
            3 => Value::Int(i16::from_le_bytes(self.fixed(key)?).into()),
            4 => Value::Uint(self.u32(key)?.into()),
            5 => Value::Int(i32::from_le_bytes(self.fixed(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.fixed(key)?).into()),
            7 => Value::Bool(self.fixed::<1>(key)?[0] != 0),
            8 => Value::String(self.string(key)?),
            9 => Value::Array(self.array(key, 1)?),
            10 => Value::Uint(self.u64(key)?),
            11 => Value::Int(i64::from_le_bytes(self.fixed(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.fixed(key)?)),
            other => return self.damaged(format!("metadata `{key}` has the unknown type {other}")),
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Step<Array> {
        let ty = self.u32(key)?;
        let min = match ty {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 if depth == MAX_DEPTH => {
                return self.too_large(format!("`{key}` with arrays {depth} deep"));
            }
            9 => 12,
            other => {
                return self.damaged(format!(
                    "array `{key}` has elements of the unknown type {other}"
                ));
            }
        };
        let n = self.count(min, key)?;
        if n > MAX_ELEMENTS {
            return self.too_large(format!(
                "`{key}` with {n} elements, of at most {MAX_ELEMENTS}"
            ));
        }
        if ty == 9 {
            let arrays: Step<Vec<_>> = (0..n).map(|_| self.array(key, depth + 1)).collect();
            return Ok(Array::Nested(arrays?));
        }
        // Strings are not pre-allocated: 8 bytes in the file are 24 here.
        let mut out = match ty {
            6 | 12 => Array::Float(Vec::with_capacity(n)),
            7 => Array::Bool(Vec::with_capacity(n)),
            8 => Array::String(Vec::new()),
            _ => Array::Int(Vec::with_capacity(n)),
        };
        for _ in 0..n {
            match (&mut out, self.value(ty, key)?) {
                (Array::Int(a), Value::Int(v)) => a.push(v),
                (Array::Int(a), Value::Uint(v)) => a.push(v as i64),
                (Array::Float(a), Value::Float(v)) => a.push(v as f32),
                (Array::Bool(a), Value::Bool(v)) => a.push(v),
                (Array::String(a), Value::String(v)) => a.push(v),
                _ => return self.damaged(format!("array `{key}` mixes types")),
            }
        }
        Ok(out)
    }

    fn tensor(&mut self) -> Step<std::result::Result<TensorInfo, UnreadTensor>> {
        let name = self.string("a tensor's name")?;
        let n_dims = self.u32(&name)?;
        if n_dims == 0 || n_dims > 4 {
            return self.damaged(format!("tensor `{name}` has {n_dims} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..n_dims {
            let dim = self.u64(&name)?;
            match usize::try_from(dim) {
                Ok(dim) if dim > 0 => shape.insert(0, dim),
                _ => return self.damaged(format!("tensor `{name}` has a dimension of {dim}")),
            }
        }
        let number = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let Some(ty) = TensorType::from_ggml(number) else {
            return match ggml_types::name(number) {
                Some(ty) => Ok(Err(UnreadTensor {
                    name,
                    ty: ty.into(),
                })),
                None => Err(Stop::Error(Error::UnknownType {
                    name: self.name.into(),
                    tensor: name,
                    found: format!("{number} (unknown to ggml)"),
                })),
            };
        };
        let Some(n) = shape.iter().try_fold(1usize, |a, d| a.checked_mul(*d)) else {
            return self.damaged(format!("tensor `{name}` of shape {shape:?} is too large"));
        };
        let row = shape.last().copied().unwrap_or(1);
        let bytes = ty
            .bytes_of(n)
            .filter(|_| row.is_multiple_of(ty.block_len()));
        let Some(bytes) = bytes else {
            return Err(Stop::Error(Error::BlockShape {
                name: self.name.into(),
                tensor: name,
                shape,
                ty,
                block: ty.block_len(),
            }));
        };
        Ok(Ok(TensorInfo {
            name,
            shape,
            ty,
            file: 0,
            offset,
            bytes: bytes as u64,
            apart: None,
        }))
    }

    fn header(&mut self) -> Step<Header> {
        let version = self.version()?;
        let n_tensors = self.count(24, "the number of tensors")?;
        let n_metadata = self.count(13, "the number of metadata entries")?;
        let metadata = self.metadata(n_metadata)?;
        let (mut tensors, mut unread) = (vec![], vec![]);
        for _ in 0..n_tensors {
            match self.tensor()? {
                Ok(tensor) => tensors.push(tensor),
                Err(tensor) => unread.push(tensor),
            }
        }
        self.locate(&mut tensors, metadata.get("general.alignment"))?;
        self.check_overlaps(&tensors)?;
        Ok(Header {
            version,
            metadata,
            tensors,
            unread,
        })
    }

    fn version(&mut self) -> Step<u32> {
        if self.file_len < 4 || self.take(4, "the magic")? != b"GGUF" {
            let found = self.bytes[..self.bytes.len().min(4)].to_vec();
            return Err(Stop::Error(Error::NotGguf {
                name: self.name.into(),
                found,
            }));
        }
        let version = self.u32("the version")?;
        if (2..=3).contains(&version.swap_bytes()) {
            return Err(Stop::Error(Error::BigEndian(self.name.into())));
        }
        if !(2..=3).contains(&version) {
            return Err(Stop::Error(Error::GgufVersion {
                name: self.name.into(),
                version,
            }));
        }
        Ok(version)
    }

    fn metadata(&mut self, n: usize) -> Step<HashMap<String, Value>> {
        let mut metadata = HashMap::new();
        for _ in 0..n {
            let key = self.string("a metadata key")?;
            let ty = self.u32(&key)?;
            let value = self.value(ty, &key)?;
            if metadata.contains_key(&key) {
                return self.damaged(format!("it has the metadata key `{key}` twice"));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    /// Makes the tensors' offsets absolute: their data begins at the next aligned byte.
    fn locate(&self, tensors: &mut [TensorInfo], alignment: Option<&Value>) -> Step<()> {
        let align = match alignment {
            None => 32,
            Some(Value::Uint(a)) if a.is_power_of_two() && (8..=1 << 20).contains(a) => *a,
            Some(other) => return self.damaged(format!("the alignment is {other:?}")),
        };
        let data = (self.at as u64).next_multiple_of(align);
        for t in tensors {
            if !t.offset.is_multiple_of(align) {
                return self.damaged(format!(
                    "tensor `{}` begins at {}, which is not a multiple of the alignment {align}",
                    t.name, t.offset
                ));
            }
            let start = data.checked_add(t.offset);
            let end = start.and_then(|s| s.checked_add(t.bytes));
            match (start, end) {
                (Some(start), Some(end)) if end <= self.file_len => t.offset = start,
                _ => {
                    return Err(Stop::Error(Error::BeyondFile {
                        name: self.name.into(),
                        what: format!("tensor `{}` ({} bytes)", t.name, t.bytes),
                        offset: start.unwrap_or(u64::MAX),
                        len: self.file_len,
                    }));
                }
            }
        }
        Ok(())
    }

    fn check_overlaps(&self, tensors: &[TensorInfo]) -> Step<()> {
        let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
        sort_by(&mut in_order, &mut |a, b| a.offset.cmp(&b.offset));
        for pair in in_order.windows(2) {
            if pair[0].offset + pair[0].bytes > pair[1].offset {
                let (a, b) = (&pair[0].name, &pair[1].name);
                return self.damaged(format!("the tensors `{a}` and `{b}` overlap"));
            }
        }
        Ok(())
    }
}
