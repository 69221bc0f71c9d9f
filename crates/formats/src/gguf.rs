//! GGUF versions 2 and 3. Format: ggml's `docs/gguf.md`.

use std::collections::HashMap;

use crate::gguf_header::{Parsed, parse_header};
use crate::{ByteSource, Error, Result, TensorInfo, UnreadTensor};

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A metadata array, kept in its element's own type: vocabularies hold hundreds of thousands.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    Int(Vec<i64>),
    Float(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Nested(Vec<Array>),
}

/// All that is before the tensor data.
#[derive(Debug, Clone, Default)]
pub struct Header {
    pub version: u32,
    pub metadata: HashMap<String, Value>,
    /// In the file's order; offsets are absolute.
    pub tensors: Vec<TensorInfo>,
    /// Tensors of types that are not read.
    pub unread: Vec<UnreadTensor>,
}

/// A GGUF header with typed access to its metadata.
#[derive(Debug, Clone)]
pub struct Gguf {
    pub name: String,
    pub header: Header,
}

impl Gguf {
    /// Reads just as much of `source` as the header takes.
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

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn uint(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Uint(v) => Some(*v),
            Value::Int(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.get(key)? {
            Value::Array(a) => Some(a),
            _ => None,
        }
    }

    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.array(key)? {
            Array::String(a) => Some(a),
            _ => None,
        }
    }

    /// The error for a metadata key that is missing or of another kind.
    pub fn missing(&self, key: &str, expected: &'static str) -> Error {
        Error::Metadata {
            name: self.name.clone(),
            key: key.into(),
            expected,
        }
    }
}
