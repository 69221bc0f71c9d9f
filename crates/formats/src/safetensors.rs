//! Headers of safetensors files, by the `safetensors` crate; the data is read by range.

use std::collections::{HashMap, HashSet};

use safetensors::tensor::{Dtype, Metadata, TensorInfo as Entry};

use crate::checkpoint::Apart;
use crate::mxfp4::{self, Scales};
use crate::nf4::{self, Nested, Peaks, Range};
use crate::order::sort_by;
use crate::{ByteSource, Error, Place, Result, TensorInfo, TensorType, UnreadTensor, fp8};

/// Bytes of a header, as the reference implementation limits them.
const MAX_HEADER: u64 = 100_000_000;

/// What the tensor is called that says how bitsandbytes quantised another one.
const STATE: &str = ".quant_state.bitsandbytes__";
/// What its parts are called.
const PARTS: [&str; 4] = [
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
];

/// A header that lies within its file, as all its tensors do.
pub(crate) struct Header {
    name: String,
    /// Where the data begins.
    data: u64,
    entries: HashMap<String, Entry>,
    /// What the file says about itself, or about its tensors.
    pub metadata: HashMap<String, String>,
}

impl Header {
    pub fn read(source: &dyn ByteSource) -> Result<Self> {
        let (name, len) = (source.name().to_string(), source.len());
        if len < 8 {
            return Err(Error::Truncated {
                name,
                what: "the header's length".into(),
                len,
            });
        }
        let mut size = [0; 8];
        source.read_at(0, &mut size)?;
        let header_len = u64::from_le_bytes(size);
        let Some(data) = header_len.checked_add(8).filter(|end| *end <= len) else {
            let what = format!("the header ({header_len} bytes)");
            return Err(Error::BeyondFile {
                name,
                what,
                offset: 0,
                len,
            });
        };
        if header_len > MAX_HEADER {
            return Err(Error::TooLarge {
                name,
                what: format!("a header of {header_len} bytes"),
            });
        }
        let mut header = vec![0; data as usize];
        source.read_at(0, &mut header)?;
        let metadata: Metadata =
            serde_json::from_slice(&header[8..]).map_err(|e| Error::Damaged {
                name: name.clone(),
                what: format!("its safetensors header is not valid ({e})"),
            })?;
        let entries = metadata.tensors();
        for (tensor, entry) in &entries {
            let (start, end) = entry.data_offsets;
            if data + end as u64 > len {
                return Err(Error::BeyondFile {
                    name,
                    what: format!("tensor `{tensor}`"),
                    offset: data + start as u64,
                    len,
                });
            }
        }
        let entries = entries.into_iter().map(|(name, e)| (name, e.clone()));
        Ok(Self {
            name,
            data,
            entries: entries.collect(),
            metadata: metadata.metadata().clone().unwrap_or_default(),
        })
    }

    fn range(&self, entry: &Entry) -> Range {
        let (start, end) = entry.data_offsets;
        (self.data + start as u64, (end - start) as u64)
    }

    fn place(&self, entry: &Entry, file: usize) -> Place {
        let (offset, bytes) = self.range(entry);
        Place {
            file,
            offset,
            bytes,
        }
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged {
            name: self.name.clone(),
            what,
        }
    }

    /// The tensor that this one is about.
    fn quantised(tensor: &str) -> Option<&str> {
        Some(tensor.split_once(STATE)?.0)
    }

    fn is_part(&self, tensor: &str) -> bool {
        let of = PARTS.iter().find_map(|part| tensor.strip_suffix(part));
        let scales = tensor.strip_suffix(mxfp4::SCALES);
        Self::quantised(tensor).is_some()
            || of.is_some_and(|t| self.entries.contains_key(t))
            || scales.is_some_and(|t| self.mxfp4(t, 0).is_some())
            || fp8::SCALES
                .iter()
                .filter_map(|part| tensor.strip_suffix(part))
                .any(|t| self.fp8(t, 0).is_some())
    }

    /// A tensor of MXFP4, if there are one of its codes and one of its scales.
    fn mxfp4(&self, tensor: &str, file: usize) -> Option<TensorInfo> {
        let entry = |part: &str| self.entries.get(&format!("{tensor}{part}"));
        let (codes, scales) = (entry(mxfp4::CODES)?, entry(mxfp4::SCALES)?);
        let shape = mxfp4::shape_of(&codes.shape, &scales.shape)?;
        let ty = TensorType::MXFP4;
        let (offset, code_bytes) = self.range(codes);
        let (scales_at, scale_bytes) = self.range(scales);
        let bytes = ty.bytes_of(shape.iter().product())? as u64;
        let is_u8 = (codes.dtype, scales.dtype) == (Dtype::U8, Dtype::U8);
        (is_u8 && code_bytes + scale_bytes == bytes).then(|| TensorInfo {
            name: tensor.into(),
            shape,
            ty,
            file,
            offset,
            bytes,
            apart: Some(Apart::Mxfp4(Scales { offset: scales_at })),
        })
    }

    /// A tensor of 8-bit floats, if there is one of its scales that is understood.
    fn fp8(&self, tensor: &str, file: usize) -> Option<TensorInfo> {
        let codes = self.entries.get(tensor)?;
        let mut names = fp8::SCALES.iter().map(|part| format!("{tensor}{part}"));
        let scales = names.find_map(|name| self.entries.get(&name))?;
        let ty = plain_type(scales.dtype)?;
        let at = self.place(scales, file);
        let scales = fp8::Scales::new(&codes.shape, &scales.shape, ty, at)?;
        let values = codes.shape.iter().product::<usize>();
        let (at, shape) = (self.place(codes, file), codes.shape.clone());
        (codes.dtype == Dtype::F8_E4M3 && at.bytes == values as u64)
            .then(|| scales.tensor(tensor.into(), shape, at))
    }

    fn plain(
        &self,
        tensor: &str,
        entry: &Entry,
        file: usize,
    ) -> Result<std::result::Result<TensorInfo, UnreadTensor>> {
        let Some(ty) = plain_type(entry.dtype) else {
            return Ok(Err(UnreadTensor {
                name: tensor.into(),
                ty: format!("{:?}", entry.dtype),
            }));
        };
        let (offset, bytes) = self.range(entry);
        if ty.bytes_of(entry.shape.iter().product()) != Some(bytes as usize) {
            return Err(self.damaged(format!(
                "tensor `{tensor}` has a size that is not its shape's"
            )));
        }
        Ok(Ok(TensorInfo {
            name: tensor.into(),
            shape: entry.shape.clone(),
            ty,
            file,
            offset,
            bytes,
            apart: None,
        }))
    }

    /// A tensor whose parts are apart; `state` says how.
    fn nf4(&self, tensor: &str, state: &[u8], file: usize) -> Result<TensorInfo> {
        let state = nf4::read_state(&self.name, tensor, state)?;
        let part = |part: &str, bytes: usize| {
            let found = self.entries.get(&format!("{tensor}{part}"));
            let range = found.map(|e| self.range(e));
            range.filter(|r| r.1 == bytes as u64).ok_or_else(|| {
                self.damaged(format!("`{tensor}{part}` does not have {bytes} bytes"))
            })
        };
        let ty = TensorType::NF4;
        let n = state
            .shape
            .iter()
            .try_fold(1usize, |a, d| a.checked_mul(*d));
        let cols = state.shape.last().copied().unwrap_or(0);
        let whole = n.filter(|_| cols.is_multiple_of(ty.block_len()));
        let Some((n, bytes)) = whole.and_then(|n| Some((n, ty.bytes_of(n)?))) else {
            return Err(Error::BlockShape {
                name: self.name.clone(),
                tensor: tensor.into(),
                shape: state.shape,
                ty,
                block: ty.block_len(),
            });
        };
        let peaks = n / ty.block_len();
        let nested = match state.nested_offset {
            None => None,
            Some(offset) => Some(Nested {
                scales: part(".nested_absmax", peaks.div_ceil(256) * 4)?,
                map: part(".nested_quant_map", 1024)?,
                offset,
            }),
        };
        let peak_bytes = if nested.is_some() { 1 } else { 4 };
        Ok(TensorInfo {
            name: tensor.into(),
            ty,
            file,
            offset: part("", n / 2)?.0,
            bytes: bytes as u64,
            apart: Some(Apart::Nf4(Box::new(Peaks {
                at: part(".absmax", peaks * peak_bytes)?,
                nested,
            }))),
            shape: state.shape,
        })
    }

    /// The tensors of the file, but for `parts`; `file` is its index in its checkpoint.
    pub fn tensors(
        &self,
        source: &dyn ByteSource,
        file: usize,
        parts: &HashSet<String>,
    ) -> Result<(Vec<TensorInfo>, Vec<UnreadTensor>)> {
        let mut states = HashMap::new();
        for (tensor, entry) in &self.entries {
            if let Some(of) = Self::quantised(tensor) {
                let (offset, bytes) = self.range(entry);
                let mut state = vec![0; bytes as usize];
                source.read_at(offset, &mut state)?;
                states.insert(of, state);
            }
        }
        let (mut tensors, mut unread) = (vec![], vec![]);
        for (tensor, entry) in &self.entries {
            if parts.contains(tensor) || self.is_part(tensor) {
                continue;
            }
            let codes = tensor.strip_suffix(mxfp4::CODES);
            if let Some(found) = codes.and_then(|t| self.mxfp4(t, file)) {
                tensors.push(found);
                continue;
            }
            if let Some(found) = self.fp8(tensor, file) {
                tensors.push(found);
                continue;
            }
            match states.get(tensor.as_str()) {
                Some(state) => tensors.push(self.nf4(tensor, state, file)?),
                None => match self.plain(tensor, entry, file)? {
                    Ok(tensor) => tensors.push(tensor),
                    Err(tensor) => unread.push(tensor),
                },
            }
        }
        sort_by(&mut tensors, &mut |a, b| a.offset.cmp(&b.offset));
        sort_by(&mut unread, &mut |a, b| a.name.cmp(&b.name));
        Ok((tensors, unread))
    }
}

pub(crate) fn plain_type(dtype: Dtype) -> Option<TensorType> {
    match dtype {
        Dtype::F32 => Some(TensorType::F32),
        Dtype::F16 => Some(TensorType::F16),
        Dtype::BF16 => Some(TensorType::BF16),
        _ => None,
    }
}

/// A tensor as its file has it.
pub(crate) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub at: Place,
}

/// What all files have, by name.
pub(crate) type Entries = HashMap<String, Stored>;

/// The tensors of all files.
pub(crate) fn entries(headers: &[Header]) -> Result<Entries> {
    let mut all = HashMap::new();
    for (file, header) in headers.iter().enumerate() {
        for (name, entry) in &header.entries {
            let stored = Stored {
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                at: header.place(entry, file),
            };
            if all.insert(name.clone(), stored).is_some() {
                return Err(header.damaged(format!("another file has its tensor `{name}`, too")));
            }
        }
    }
    Ok(all)
}

/// Offset and length of each range that [`crate::Checkpoint::from_safetensors`] reads beyond the header: the shapes of
/// tensors that bitsandbytes quantised.
///
/// # Errors
/// If the header is damaged.
pub fn quant_states(source: &dyn ByteSource) -> Result<Vec<(u64, u64)>> {
    let header = Header::read(source)?;
    let states = header
        .entries
        .iter()
        .filter(|(tensor, _)| Header::quantised(tensor).is_some());
    Ok(states.map(|(_, entry)| header.range(entry)).collect())
}
