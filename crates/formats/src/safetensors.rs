//! Headers of safetensors files, by the `safetensors` crate; the data is read by range.

use safetensors::tensor::{Dtype, Metadata};

use crate::{ByteSource, Error, Result, TensorInfo, TensorType};

/// The tensors of one safetensors file; `file` is this file's index in its checkpoint.
pub(crate) fn read_header(source: &dyn ByteSource, file: usize) -> Result<Vec<TensorInfo>> {
    let (name, len) = (source.name().to_string(), source.len());
    let damaged = |what: String| Error::Damaged {
        name: name.clone(),
        what,
    };
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
    let mut header = vec![0; data as usize];
    source.read_at(0, &mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header[8..])
        .map_err(|e| damaged(format!("its safetensors header is not valid ({e})")))?;
    let mut tensors = Vec::new();
    for (tensor, info) in metadata.tensors() {
        let ty = match info.dtype {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            other => {
                let found = format!("{other:?}");
                return Err(Error::UnknownType {
                    name,
                    tensor,
                    found,
                });
            }
        };
        let (start, end) = info.data_offsets;
        if data + end as u64 > len {
            let what = format!("tensor `{tensor}`");
            return Err(Error::BeyondFile {
                name,
                what,
                offset: data + start as u64,
                len,
            });
        }
        if ty.bytes_of(info.shape.iter().product()) != Some(end - start) {
            return Err(damaged(format!(
                "tensor `{tensor}` has a size that is not its shape's"
            )));
        }
        tensors.push(TensorInfo {
            name: tensor,
            shape: info.shape.clone(),
            ty,
            file,
            offset: data + start as u64,
            bytes: (end - start) as u64,
        });
    }
    tensors.sort_by_key(|t| t.offset);
    Ok(tensors)
}
