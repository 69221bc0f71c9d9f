//! Which tensors of a folder make up its matrices of integers, by the methods that [`Scheme`] knows.

use std::collections::HashSet;

use safetensors::tensor::Dtype;

use crate::checkpoint::Apart;
use crate::integers::{Axis, Check, Field, Integers, LEN, Order, Scales};
use crate::order::sort_by;
use crate::quantisation::Scheme;
use crate::safetensors::{Entries, Stored, plain_type};
use crate::{Error, Place, Result, TensorInfo, TensorType};

const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

/// Whether there are tensors that only a configuration explains.
pub(crate) fn is_quantised(entries: &Entries) -> bool {
    let named = |n: &String| n.ends_with(".qweight") || n.ends_with(".weight_packed");
    entries.keys().any(named)
}

impl Scheme {
    /// The matrices of integers, and the names of the tensors that they are made of. `folder` is for error messages.
    ///
    /// # Errors
    /// If one of a matrix's tensors is missing, or has another type or shape than the others ask for.
    pub fn tensors(
        self,
        folder: &str,
        entries: &Entries,
    ) -> Result<(Vec<TensorInfo>, HashSet<String>)> {
        let (mut tensors, mut used) = (vec![], HashSet::new());
        let mut names: Vec<_> = entries.keys().collect();
        sort_by(&mut names, &mut |a, b| a.cmp(b));
        for name in names {
            let has = |module: &str, part: &str| entries.contains_key(&format!("{module}.{part}"));
            let codes = match self {
                Self::Gptq { .. } | Self::Awq { .. } => "qweight",
                Self::Compressed { .. } if name.ends_with(".weight_packed") => "weight_packed",
                Self::Compressed { .. } | Self::Int8 => "weight",
            };
            let module = name.strip_suffix(codes).and_then(|m| m.strip_suffix('.'));
            let Some(module) = module else { continue };
            let scales = match self {
                Self::Int8 => "SCB",
                _ => "weight_scale",
            };
            if codes == "weight" && (entries[name].dtype != Dtype::I8 || !has(module, scales)) {
                continue;
            }
            let mut parts = Parts {
                folder,
                module,
                entries,
                used: &mut used,
            };
            let integers = match self {
                Self::Gptq {
                    bits,
                    group,
                    minus_one,
                    act_order,
                } => parts.gptq(bits, group, minus_one, act_order)?,
                Self::Awq { group } => parts.awq(group)?,
                Self::Compressed { packed, has_zeros } => {
                    let bits = if codes == "weight" { None } else { packed };
                    parts.compressed(codes, bits, has_zeros)?
                }
                Self::Int8 => parts.int8()?,
            };
            tensors.push(parts.info(integers)?);
        }
        Ok((tensors, used))
    }
}

/// The tensors of one matrix.
pub(crate) struct Parts<'a> {
    pub folder: &'a str,
    /// The name that theirs begin with.
    pub module: &'a str,
    pub entries: &'a Entries,
    /// The names of those that were found.
    pub used: &'a mut HashSet<String>,
}

impl<'a> Parts<'a> {
    fn find(&mut self, part: &str) -> Option<&'a Stored> {
        let name = format!("{}.{part}", self.module);
        let found = self.entries.get(&name)?;
        self.used.insert(name);
        Some(found)
    }

    pub fn get(&mut self, part: &str) -> Result<&'a Stored> {
        let missing = Error::MissingTensor {
            name: self.folder.into(),
            tensor: format!("{}.{part}", self.module),
        };
        self.find(part).ok_or(missing)
    }

    pub fn wrong(&self, part: &str, found: &Stored, wanted: &str) -> Error {
        Error::Damaged {
            name: self.folder.into(),
            what: format!(
                "`{}.{part}` is {:?} {:?}, but {wanted} is needed",
                self.module, found.dtype, found.shape
            ),
        }
    }

    /// A part, if it has one of these types and this shape.
    pub fn checked(
        &self,
        part: &str,
        found: &Stored,
        types: &[Dtype],
        shape: &[usize],
    ) -> Result<Place> {
        let bits = found.dtype.bitsize();
        let n = shape.iter().try_fold(bits, |n, d| n.checked_mul(*d));
        let is_whole = n.is_some_and(|n| n as u64 / 8 == found.at.bytes);
        if types.contains(&found.dtype) && found.shape == shape && is_whole {
            return Ok(found.at);
        }
        Err(self.wrong(part, found, &format!("{types:?} {shape:?}")))
    }

    pub fn place(&mut self, part: &str, types: &[Dtype], shape: &[usize]) -> Result<Place> {
        let found = self.get(part)?;
        self.checked(part, found, types, shape)
    }

    /// The rows and columns of the tensor with the codes.
    pub fn matrix(&mut self, part: &str, ty: Dtype) -> Result<([usize; 2], Place)> {
        let found = self.get(part)?;
        let &[a, b] = &found.shape[..] else {
            return Err(self.wrong(part, found, "a matrix"));
        };
        let at = self.checked(part, found, &[ty], &[a, b])?;
        match a.checked_mul(b).and_then(|n| n.checked_mul(32)) {
            Some(1..) => Ok(([a, b], at)),
            _ => Err(self.wrong(part, found, "a matrix")),
        }
    }

    pub fn floats(&mut self, part: &str, shape: &[usize]) -> Result<(TensorType, Place)> {
        let found = self.get(part)?;
        let at = self.checked(part, found, &FLOATS, shape)?;
        match plain_type(found.dtype) {
            Some(ty) => Ok((ty, at)),
            None => Err(self.wrong(part, found, "a float")),
        }
    }

    fn gptq(
        &mut self,
        bits: u32,
        group: Option<usize>,
        minus_one: bool,
        act_order: bool,
    ) -> Result<Integers> {
        let per_word = 32 / bits as usize;
        let ([words, rows], codes) = self.matrix("qweight", Dtype::I32)?;
        let cols = words * per_word;
        let group = group.unwrap_or(cols).min(cols);
        let groups = cols.div_ceil(group);
        let packed_rows = rows.div_ceil(per_word);
        let zeros = self.place("qzeros", &[Dtype::I32], &[groups, packed_rows])?;
        let order = match self.find("g_idx") {
            Some(found) => Some(self.checked("g_idx", found, &[Dtype::I32], &[cols])?),
            None if act_order => Some(self.get("g_idx")?.at),
            None => None,
        };
        let zero_field = Field::Words {
            rows: Axis::packed(per_word, 1),
            cols: Axis::apart(packed_rows),
            interleaved: false,
            // Whole words, so that a 0 that was stored as −1 becomes 0 again.
            plus: match (minus_one, bits) {
                (false, _) => 0,
                (true, 4) => 0x1111_1111,
                (true, _) => 0x0101_0101,
            },
        };
        let code_field = Field::Words {
            rows: Axis::apart(1),
            cols: Axis::packed(per_word, rows),
            interleaved: false,
            plus: 0,
        };
        Ok(Integers {
            name: self.weight(),
            shape: [rows, cols],
            bits,
            group,
            codes: (code_field, codes),
            scales: self.scales_by_group("scales", rows, groups)?,
            zeros: Some((zero_field, zeros)),
            order: order.map(|at| match act_order {
                true => (Order::Any, at),
                false => (Order::Checked, at),
            }),
            check: None,
        })
    }

    fn awq(&mut self, group: Option<usize>) -> Result<Integers> {
        let ([cols, words], codes) = self.matrix("qweight", Dtype::I32)?;
        let rows = 8 * words;
        let group = group.unwrap_or(cols).min(cols);
        let groups = cols.div_ceil(group);
        let zeros = self.place("qzeros", &[Dtype::I32], &[groups, words])?;
        let field = Field::Words {
            rows: Axis::packed(8, 1),
            cols: Axis::apart(words),
            interleaved: true,
            plus: 0,
        };
        Ok(Integers {
            name: self.weight(),
            shape: [rows, cols],
            bits: 4,
            group,
            codes: (field, codes),
            scales: self.scales_by_group("scales", rows, groups)?,
            zeros: Some((field, zeros)),
            order: None,
            check: None,
        })
    }

    /// `packed` is the bits of packed codes.
    fn compressed(&mut self, part: &str, packed: Option<u32>, has_zeros: bool) -> Result<Integers> {
        let (bits, ty) = match packed {
            Some(bits) => (bits, Dtype::I32),
            None => (8, Dtype::I8),
        };
        let per_word = 32 / bits as usize;
        let ([rows, width], codes) = self.matrix(part, ty)?;
        let (cols, field, check) = match packed {
            None => (width, Field::Bytes { stride: width }, None),
            Some(_) => {
                let field = Field::Words {
                    rows: Axis::apart(width),
                    cols: Axis::packed(per_word, 1),
                    interleaved: false,
                    plus: 0,
                };
                let at = self.place("weight_shape", &[Dtype::I64], &[2])?;
                (width * per_word, field, Some((Check::Shape, at)))
            }
        };
        let found = self.get("weight_scale")?;
        let groups = match found.shape[..] {
            // One for all.
            [] | [1] => 0,
            [n] if n == rows => 1,
            [n, groups] if n == rows && groups > 0 && cols % groups == 0 => groups,
            _ => return Err(self.wrong("weight_scale", found, "one for each row's groups")),
        };
        let (scale_ty, scales) = self.floats("weight_scale", &found.shape)?;
        let zeros = match self.find("weight_zero_point") {
            None if has_zeros => Some(self.get("weight_zero_point")?),
            found => found,
        };
        let zeros = match zeros {
            None => None,
            Some(zeros) if zeros.dtype == Dtype::I32 && groups > 0 => {
                let shape = [rows.div_ceil(per_word), groups];
                let at = self.checked("weight_zero_point", zeros, &[Dtype::I32], &shape)?;
                let field = Field::Words {
                    rows: Axis::packed(per_word, groups),
                    cols: Axis::apart(1),
                    interleaved: false,
                    plus: 0,
                };
                Some((field, at))
            }
            Some(zeros) => {
                let at = self.checked("weight_zero_point", zeros, &[Dtype::I8], &found.shape)?;
                Some((Field::Bytes { stride: groups }, at))
            }
        };
        let order = match self.find("weight_g_idx") {
            Some(found) => {
                let at = self.checked("weight_g_idx", found, &[Dtype::I32], &[cols])?;
                Some((Order::Any, at))
            }
            None => None,
        };
        let scales_of = Scales {
            ty: scale_ty,
            strides: [groups, usize::from(groups > 0)],
            divisor: 1.0,
        };
        Ok(Integers {
            name: self.weight(),
            shape: [rows, cols],
            bits,
            group: cols / groups.max(1),
            codes: (field, codes),
            scales: (scales_of, scales),
            zeros,
            order,
            check,
        })
    }

    fn int8(&mut self) -> Result<Integers> {
        let ([rows, cols], codes) = self.matrix("weight", Dtype::I8)?;
        let scales = self.place("SCB", &[Dtype::F32], &[rows])?;
        let check = match self.find("weight_format") {
            Some(found) if found.at.bytes == 1 => Some((Check::RowFormat, found.at)),
            Some(found) => return Err(self.wrong("weight_format", found, "a byte")),
            None => None,
        };
        let scales_of = Scales {
            ty: TensorType::F32,
            strides: [1, 0],
            divisor: 127.0,
        };
        Ok(Integers {
            name: self.weight(),
            shape: [rows, cols],
            bits: 8,
            group: cols,
            codes: (Field::Bytes { stride: cols }, codes),
            scales: (scales_of, scales),
            zeros: None,
            order: None,
            check,
        })
    }

    /// A row of scales for each group.
    fn scales_by_group(
        &mut self,
        part: &str,
        rows: usize,
        groups: usize,
    ) -> Result<(Scales, Place)> {
        let (ty, at) = self.floats(part, &[groups, rows])?;
        let scales = Scales {
            ty,
            strides: [1, rows],
            divisor: 1.0,
        };
        Ok((scales, at))
    }

    pub fn weight(&self) -> String {
        format!("{}.weight", self.module)
    }

    pub fn info(&self, integers: Integers) -> Result<TensorInfo> {
        let (ty, [rows, cols]) = (integers.ty(), integers.shape);
        let in_blocks = cols.is_multiple_of(LEN) && integers.group.is_multiple_of(LEN);
        let in_blocks = in_blocks || ty == TensorType::F16;
        match ty.bytes_of(rows * cols).filter(|_| in_blocks) {
            Some(bytes) => Ok(TensorInfo {
                name: self.weight(),
                shape: vec![rows, cols],
                ty,
                file: integers.codes.1.file,
                offset: integers.codes.1.offset,
                bytes: bytes as u64,
                apart: Some(Apart::Integers(Box::new(integers))),
            }),
            None => Err(Error::BlockShape {
                name: self.folder.into(),
                tensor: self.weight(),
                shape: vec![rows, cols / integers.group, integers.group],
                ty,
                block: LEN,
            }),
        }
    }
}
