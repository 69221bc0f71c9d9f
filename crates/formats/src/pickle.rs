//! The tensors of a file that `torch.save` wrote from a dictionary: a zip archive of a pickle and its storages.
//! A pickle is a program; the few instructions are followed that describe such a dictionary, and nothing is called.
//! Formats: APPNOTE.TXT (zip), Python's `pickletools`, `torch/_utils.py` (`_rebuild_tensor_v2`).

use std::collections::{BTreeMap, HashMap};

use crate::{TensorType, decode};

/// A tensor of a file that `torch.save` wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct TorchTensor {
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Row by row, converted from f32, f16 or bf16.
    pub values: Vec<f32>,
}

/// Reads all tensors of a file that `torch.save` wrote from a dictionary. Nothing in the file is executed.
///
/// # Errors
/// If it contains anything but a dictionary of tensors of f32, f16 or bf16; the text names what.
pub fn read_torch(file: &[u8]) -> Result<BTreeMap<String, TorchTensor>, String> {
    let entries = entries(file).ok_or("it is not a zip archive as torch.save writes it")?;
    let pickle = entries.iter().find(|e| e.0.ends_with("/data.pkl"));
    let (name, pickle) = pickle.ok_or("it has no data.pkl")?;
    let folder = name.trim_end_matches("data.pkl");
    let mut out = BTreeMap::new();
    let Object::Dict(items) = Machine::run(pickle)? else {
        return Err("it does not contain a dictionary".into());
    };
    for (key, value) in items {
        let (Object::Text(key), Object::Tensor(t)) = (key, value) else {
            return Err("its dictionary contains something other than named tensors".into());
        };
        let storage = entries.get(&format!("{folder}data/{}", t.storage));
        let values = storage.and_then(|s| t.read(s));
        let values = values.ok_or_else(|| format!("the values of `{key}` are missing"))?;
        let shape = t.shape;
        out.insert(key, TorchTensor { shape, values });
    }
    Ok(out)
}

fn u16_at(b: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?).into())
}

fn u32_at(b: &[u8], at: usize) -> Option<usize> {
    let bytes = b.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// Names and bytes of an archive's entries, which torch stores uncompressed.
fn entries(file: &[u8]) -> Option<HashMap<String, &[u8]>> {
    let end = file.windows(4).rposition(|w| w == b"PK\x05\x06")?;
    let (count, mut at) = (u16_at(file, end + 10)?, u32_at(file, end + 16)?);
    let mut out = HashMap::new();
    for _ in 0..count {
        if file.get(at..at + 4)? != b"PK\x01\x02" || u16_at(file, at + 10)? != 0 {
            return None;
        }
        let size = u32_at(file, at + 24)?;
        let (name, extra, comment) = (
            u16_at(file, at + 28)?,
            u16_at(file, at + 30)?,
            u16_at(file, at + 32)?,
        );
        let local = u32_at(file, at + 42)?;
        let text = std::str::from_utf8(file.get(at + 46..at + 46 + name)?).ok()?;
        let data = local + 30 + u16_at(file, local + 26)? + u16_at(file, local + 28)?;
        out.insert(text.to_string(), file.get(data..data.checked_add(size)?)?);
        at += 46 + name + extra + comment;
    }
    Some(out)
}

#[derive(Debug, Clone)]
struct Tensor {
    storage: String,
    ty: TensorType,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

impl Tensor {
    fn read(&self, storage: &[u8]) -> Option<Vec<f32>> {
        let n = self
            .shape
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let mut all = vec![0.0; storage.len() / self.ty.block_bytes()];
        decode(
            self.ty,
            &storage[..all.len() * self.ty.block_bytes()],
            &mut all,
        );
        if n > all.len() {
            return None;
        }
        let value = |i: usize| {
            let (mut rest, mut at) = (i, self.offset);
            for (d, s) in self.shape.iter().zip(&self.stride).rev() {
                at = at.checked_add((rest % d).checked_mul(*s)?)?;
                rest /= d;
            }
            all.get(at).copied()
        };
        (0..n).map(value).collect()
    }
}

#[derive(Debug, Clone)]
enum Object {
    Mark,
    None,
    Int(i64),
    Text(String),
    Global(String),
    Tuple(Vec<Object>),
    Dict(Vec<(Object, Object)>),
    Storage(String, TensorType),
    Tensor(Tensor),
}

struct Machine<'a> {
    code: &'a [u8],
    stack: Vec<Object>,
    memo: HashMap<usize, Object>,
}

type Step<T> = Option<T>;

impl<'a> Machine<'a> {
    fn run(code: &'a [u8]) -> Result<Object, String> {
        let mut machine = Machine {
            code,
            stack: vec![],
            memo: HashMap::new(),
        };
        loop {
            let op = machine.byte().ok_or("its pickle ends early")?;
            if op == b'.' {
                return machine.stack.pop().ok_or("its pickle is empty".into());
            }
            machine.step(op).ok_or_else(|| {
                format!("its pickle uses an operation that a dictionary of tensors does not need (0x{op:02x})")
            })?;
        }
    }

    fn byte(&mut self) -> Step<u8> {
        Some(self.take(1)?[0])
    }

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let (taken, rest) = self.code.split_at_checked(n)?;
        self.code = rest;
        Some(taken)
    }

    fn line(&mut self) -> Step<String> {
        let n = self.code.iter().position(|b| *b == b'\n')?;
        let line = String::from_utf8(self.take(n)?.to_vec()).ok()?;
        self.take(1)?;
        Some(line)
    }

    /// What is above the last mark.
    fn above_mark(&mut self) -> Step<Vec<Object>> {
        let mark = self.stack.iter().rposition(|o| matches!(o, Object::Mark))?;
        let above = self.stack.split_off(mark + 1);
        self.stack.pop();
        Some(above)
    }

    fn last(&mut self, n: usize) -> Step<Vec<Object>> {
        let at = self.stack.len().checked_sub(n)?;
        Some(self.stack.split_off(at))
    }

    fn step(&mut self, op: u8) -> Step<()> {
        let object = match op {
            0x80 => return self.byte().map(|_| ()),
            // FRAME
            0x95 => return self.take(8).map(|_| ()),
            b'(' => Object::Mark,
            b'N' => Object::None,
            0x88 | 0x89 => Object::Int((op == 0x88).into()),
            b'}' => Object::Dict(vec![]),
            b')' | b']' => Object::Tuple(vec![]),
            b'K' => Object::Int(self.byte()?.into()),
            b'M' => Object::Int(u16::from_le_bytes(self.take(2)?.try_into().ok()?).into()),
            b'J' => Object::Int(i32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            0x8a => {
                let n = self.byte()? as usize;
                let mut bytes = [0; 8];
                bytes.get_mut(..n)?.copy_from_slice(self.take(n)?);
                Object::Int(i64::from_le_bytes(bytes))
            }
            b'X' | 0x8c => {
                let n = match op {
                    b'X' => u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize,
                    _ => self.byte()? as usize,
                };
                Object::Text(String::from_utf8(self.take(n)?.to_vec()).ok()?)
            }
            b'c' => Object::Global(format!("{}.{}", self.line()?, self.line()?)),
            0x93 => match &self.last(2)?[..] {
                [Object::Text(module), Object::Text(name)] => {
                    Object::Global(format!("{module}.{name}"))
                }
                _ => return None,
            },
            b't' => Object::Tuple(self.above_mark()?),
            0x85..=0x87 => Object::Tuple(self.last((op - 0x84) as usize)?),
            b'Q' => storage(self.stack.pop()?)?,
            b'R' => call(&self.last(2)?)?,
            b's' | b'u' => {
                let items = match op {
                    b's' => self.last(2)?,
                    _ => self.above_mark()?,
                };
                let Some(Object::Dict(dict)) = self.stack.last_mut() else {
                    return None;
                };
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push((key, value));
                }
                return Some(());
            }
            // BUILD: an ordered dictionary's attributes, of which tensors need none.
            b'b' => return self.stack.pop().map(|_| ()),
            b'q' | b'r' | 0x94 => {
                let at = match op {
                    b'q' => self.byte()? as usize,
                    b'r' => u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize,
                    _ => self.memo.len(),
                };
                // Dictionaries are not looked up again, and would be copied.
                let kept = match self.stack.last()? {
                    Object::Dict(_) => Object::None,
                    other => other.clone(),
                };
                self.memo.insert(at, kept);
                return Some(());
            }
            b'h' => {
                let at = self.byte()? as usize;
                self.memo.get(&at)?.clone()
            }
            b'j' => {
                let at = u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize;
                self.memo.get(&at)?.clone()
            }
            _ => return None,
        };
        self.stack.push(object);
        Some(())
    }
}

/// `("storage", torch.FloatStorage, "0", "cpu", 256)`.
fn storage(id: Object) -> Step<Object> {
    let Object::Tuple(parts) = id else {
        return None;
    };
    let [_, Object::Global(class), Object::Text(key), ..] = &parts[..] else {
        return None;
    };
    let ty = match class.as_str() {
        "torch.FloatStorage" => TensorType::F32,
        "torch.HalfStorage" => TensorType::F16,
        "torch.BFloat16Storage" => TensorType::BF16,
        _ => return None,
    };
    Some(Object::Storage(key.clone(), ty))
}

fn sizes(object: &Object) -> Step<Vec<usize>> {
    let Object::Tuple(parts) = object else {
        return None;
    };
    let size = |o: &Object| match o {
        Object::Int(v) => usize::try_from(*v).ok(),
        _ => None,
    };
    parts.iter().map(size).collect()
}

/// The two functions that such a pickle calls.
fn call(pair: &[Object]) -> Step<Object> {
    let [Object::Global(function), Object::Tuple(args)] = pair else {
        return None;
    };
    match (function.as_str(), &args[..]) {
        ("collections.OrderedDict", []) => Some(Object::Dict(vec![])),
        ("torch._utils._rebuild_tensor_v2", [storage, Object::Int(offset), shape, stride, ..]) => {
            let Object::Storage(storage, ty) = storage else {
                return None;
            };
            let (shape, stride) = (sizes(shape)?, sizes(stride)?);
            (shape.len() == stride.len()).then(|| {
                Object::Tensor(Tensor {
                    storage: storage.clone(),
                    ty: *ty,
                    offset: usize::try_from(*offset).unwrap_or(usize::MAX),
                    shape,
                    stride,
                })
            })
        }
        _ => None,
    }
}
