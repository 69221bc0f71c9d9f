//! GGUF versions 2 and 3. Format: ggml's `docs/gguf.md`.

use std::collections::HashMap;

use crate::gguf_header::{Parsed, parse_header};
use crate::{ByteSource, Error, Result, TensorInfo, UnreadTensor};

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    Uint(u64),
    /// An f32 or f64.
    Float(f64),
    /// A byte other than 0, or 0.
    Bool(bool),
    /// UTF-8; bytes that are not are replaced by U+FFFD.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// A metadata array, stored in the type of its elements, since vocabularies have hundreds of thousands of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Integers of any width, signed or not.
    Int(Vec<i64>),
    /// f32, or f64 rounded to f32.
    Float(Vec<f32>),
    /// Bytes other than 0, or 0.
    Bool(Vec<bool>),
    /// UTF-8, as in [`Value::String`].
    String(Vec<String>),
    /// Arrays, up to 8 deep.
    Nested(Vec<Array>),
}

/// Everything before the tensor data.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// The format's version: 2 or 3.
    pub version: u32,
    /// All metadata, by key.
    pub metadata: HashMap<String, Value>,
    /// In the order of the file; offsets are from the beginning of the file.
    pub tensors: Vec<TensorInfo>,
    /// Tensors of types that are not supported.
    pub unread: Vec<UnreadTensor>,
}

/// A GGUF header with typed access to its metadata.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// The file, for error messages.
    pub name: String,
    /// Metadata and tensors.
    pub header: Header,
}

impl Gguf {
    /// Reads as much of `source` as the header takes.
    ///
    /// # Errors
    /// As [`parse_header`], and if the source cannot be read.
    pub fn read(source: &dyn ByteSource) -> Result<Self> {
        let len = source.len();
        let mut want = (1 << 20).min(len);
        loop {
            let mut prefix = vec![0; want as usize];
            source.read_at(0, &mut prefix)?;
            match parse_header(source.name(), &prefix, len)? {
                Parsed::Header(header) => {
                    return Ok(Self {
                        name: source.name().into(),
                        header: *header,
                    });
                }
                Parsed::NeedMore(n) => want = n.max(want * 2).min(len),
            }
        }
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// A key's value if it is a string.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// A key's value if it is an integer that is not negative.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Uint(v) => Some(*v),
            Value::Int(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// A key's value if it is a float.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// A key's value if it is a bool.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// A key's value if it is an array.
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.get(key)? {
            Value::Array(a) => Some(a),
            _ => None,
        }
    }

    /// A key's value if it is an array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.array(key)? {
            Array::String(a) => Some(a),
            _ => None,
        }
    }

    /// The error for a metadata key that is missing or not `expected`.
    pub fn missing(&self, key: &str, expected: &'static str) -> Error {
        Error::Metadata {
            name: self.name.clone(),
            key: key.into(),
            expected,
        }
    }
}
