//! A model's files as one set of named tensors, whichever format they are in.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use crate::integers::Integers;
use crate::mxfp4::Scales;
use crate::nf4::Peaks;
use crate::offsets::Offsets;
use crate::quantisation::Method;
use crate::safetensors::Header;
use crate::{
    ByteSource, Error, FileSource, Gguf, Result, SideFiles, TensorType, fp8, integer_tensors,
    mxfp4, torchao,
};

/// Bytes of one of a checkpoint's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The file's index.
    pub file: usize,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}

/// A tensor's name, shape and type, and where its bytes are.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// As the file has it: `model.layers.0.mlp.up_proj.weight`, or `blk.0.ffn_up.weight` in GGUF.
    pub name: String,
    /// Outermost dimension first: a matrix is `[rows, columns]`, a row is contiguous.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub ty: TensorType,
    /// The index of its file within the checkpoint.
    pub file: usize,
    /// Where it begins in its file, in bytes.
    pub offset: u64,
    /// Length in bytes of the blocks that [`Self::join`] returns.
    pub bytes: u64,
    /// Of a type whose parts are apart in its file.
    pub(crate) apart: Option<Apart>,
}

/// What is apart from a tensor's codes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Apart {
    Nf4(Box<Peaks>),
    Mxfp4(Scales),
    Fp8(fp8::Scales),
    Integers(Box<Integers>),
    Offsets(Box<Offsets>),
}

impl TensorInfo {
    /// The smallest tensor that can be read by itself and contains some rows of a matrix (or some values of a vector)
    /// of `n_rows` rows, and the row of it at which they begin. Matrices of experts count as one.
    pub fn around(&self, rows: Range<usize>, n_rows: usize) -> (Self, usize) {
        // Peaks that are quantised, and 8-bit floats, share scales across rows; integers, words.
        let is_whole = matches!(
            self.apart,
            Some(Apart::Nf4(_) | Apart::Fp8(_) | Apart::Integers(_) | Apart::Offsets(_))
        );
        if is_whole || rows == (0..n_rows) {
            return (self.clone(), rows.start);
        }
        let row_bytes = self.bytes / n_rows as u64;
        let cols = self.shape.iter().product::<usize>() / n_rows;
        let mut piece = self.clone();
        piece.shape = vec![rows.len(), cols];
        piece.bytes = rows.len() as u64 * row_bytes;
        match &mut piece.apart {
            Some(Apart::Mxfp4(scales)) => {
                let before = mxfp4::bytes_of(rows.start * cols);
                piece.offset += before[0];
                scales.offset += before[1];
            }
            _ => piece.offset += rows.start as u64 * row_bytes,
        }
        (piece, 0)
    }

    /// Each range of bytes that makes up the tensor: one, but for types whose parts are apart.
    pub fn ranges(&self) -> Vec<Place> {
        let values: usize = self.shape.iter().product();
        let own = |(offset, bytes)| Place {
            file: self.file,
            offset,
            bytes,
        };
        match &self.apart {
            None => vec![own((self.offset, self.bytes))],
            Some(Apart::Nf4(peaks)) => {
                let codes = (self.offset, values as u64 / 2);
                let all = std::iter::once(codes).chain(peaks.ranges());
                all.map(own).collect()
            }
            Some(Apart::Mxfp4(scales)) => {
                let [codes, bytes] = mxfp4::bytes_of(values);
                vec![own((self.offset, codes)), own((scales.offset, bytes))]
            }
            Some(Apart::Fp8(scales)) => vec![own((self.offset, values as u64)), scales.at],
            Some(Apart::Integers(integers)) => integers.places(),
            Some(Apart::Offsets(offsets)) => offsets.places(),
        }
    }

    /// The tensor's blocks, from the bytes of each range of [`Self::ranges`].
    ///
    /// # Errors
    /// If parts contradict each other.
    ///
    /// # Panics
    /// If `parts` are not the bytes of these ranges.
    pub fn join(&self, mut parts: Vec<Vec<u8>>) -> Result<Vec<u8>> {
        Ok(match &self.apart {
            None => parts.swap_remove(0),
            Some(Apart::Nf4(peaks)) => peaks.blocks(&parts),
            Some(Apart::Mxfp4(_)) => mxfp4::blocks(&parts[0], &parts[1]),
            Some(Apart::Fp8(scales)) => scales.values(&parts[0], &parts[1]),
            Some(Apart::Integers(integers)) => integers.blocks(&parts)?,
            Some(Apart::Offsets(offsets)) => offsets.blocks(&parts)?,
        })
    }

    /// Whether it was quantised to integers by a method that keeps them in tensors of their own, such as GPTQ.
    pub fn is_of_integers(&self) -> bool {
        matches!(self.apart, Some(Apart::Integers(_)))
    }

    /// What is in the file, where that is smaller than the type that it is read as.
    pub fn widened_from(&self) -> Option<&'static str> {
        match &self.apart {
            Some(Apart::Fp8(_)) => Some("8-bit floats (FP8)"),
            Some(Apart::Integers(i)) if self.ty == TensorType::F16 => Some(match i.bits {
                4 => "4-bit integers whose groups are of columns that are apart (act-order)",
                _ => "8-bit integers whose groups are of columns that are apart (act-order)",
            }),
            _ => None,
        }
    }
}

/// A tensor of a type that is not supported, such as a buffer of integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadTensor {
    /// As the file has it.
    pub name: String,
    /// The type's name in the file's format.
    pub ty: String,
}

/// The weights of a model: a GGUF file, or the safetensors files of a Hugging Face folder.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file or folder, for error messages.
    pub name: String,
    /// The metadata, if it is a GGUF file.
    pub gguf: Option<Gguf>,
    /// Configuration and tokenizer, if it is a folder.
    pub side: SideFiles,
    /// The tensors of all files.
    pub tensors: Vec<TensorInfo>,
    /// Tensors of types that are not supported.
    pub unread: Vec<UnreadTensor>,
    by_name: HashMap<String, usize>,
    files: Vec<Box<dyn ByteSource>>,
}

impl Checkpoint {
    /// Opens a GGUF file (of a split one, any part), or a folder with `*.safetensors`. Only headers are read.
    ///
    /// # Errors
    /// If a file is missing, damaged or not of these formats, or two tensors have one name.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            Self::open_folder(path)
        } else {
            Self::with_ggufs(crate::split::open(path)?)
        }
    }

    /// A GGUF file that is not on disk.
    ///
    /// # Errors
    /// If its header is damaged, or it is one part of a split file.
    pub fn from_gguf(source: Box<dyn ByteSource>) -> Result<Self> {
        Self::with_ggufs(vec![(Gguf::read(&*source)?, source)])
    }

    /// A GGUF file whose header was read already, or all parts of a split one, in order.
    ///
    /// # Errors
    /// If a part is missing, or two tensors have one name.
    pub fn with_ggufs(parts: Vec<(Gguf, Box<dyn ByteSource>)>) -> Result<Self> {
        let (gguf, files) = crate::split::join(parts)?;
        let (tensors, unread) = (gguf.header.tensors.clone(), gguf.header.unread.clone());
        Self::new(Some(gguf), SideFiles::default(), tensors, unread, files)
    }

    /// The safetensors files of a folder, and the small files beside them. The last ones are those of
    /// [`SideFiles::dense_folders`], in that order, whose folders are a part of their tensors' names.
    ///
    /// # Errors
    /// If a header is damaged, or two tensors have one name.
    pub fn from_safetensors(files: Vec<Box<dyn ByteSource>>, side: SideFiles) -> Result<Self> {
        let dense = side.dense_folders();
        let own = files.len().saturating_sub(dense.len());
        let mut headers = vec![];
        for source in &files {
            headers.push(Header::read(&**source)?);
        }
        let entries = crate::safetensors::entries(&headers[..own])?;
        let (mut tensors, parts) = match Method::of(&side)? {
            Some(Method::Integers(scheme)) => scheme.tensors(&side.folder, &entries)?,
            Some(Method::Torchao) => {
                let all = headers[..own].iter().flat_map(|h| h.metadata.clone());
                torchao::tensors(&side.folder, &all.collect(), &entries)?
            }
            None if integer_tensors::is_quantised(&entries) => return Err(Method::missing(&side)),
            None => (vec![], HashSet::new()),
        };
        let mut unread = vec![];
        for (i, (header, source)) in headers.iter().zip(&files).enumerate() {
            let mut found = header.tensors(&**source, i, &parts)?;
            if let Some(folder) = i.checked_sub(own).and_then(|at| dense.get(at)) {
                for tensor in &mut found.0 {
                    tensor.name = format!("{folder}/{}", tensor.name);
                }
            }
            tensors.extend(found.0);
            unread.extend(found.1);
        }
        Self::new(None, side, tensors, unread, files)
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let paths = if index.exists() {
            let text = crate::side_files::read_text(folder, "model.safetensors.index.json")?;
            let text = text.unwrap_or_default();
            shard_names(&index.display().to_string(), &text)?
                .iter()
                .map(|n| folder.join(n))
                .collect()
        } else {
            vec![single]
        };
        let side = SideFiles::read(folder)?;
        let dense = side.dense_folders().into_iter();
        let dense = dense.map(|name| folder.join(name).join("model.safetensors"));
        let mut files: Vec<Box<dyn ByteSource>> = vec![];
        for path in paths.into_iter().chain(dense) {
            files.push(Box::new(FileSource::open(&path)?));
        }
        Self::from_safetensors(files, side)
    }

    fn new(
        gguf: Option<Gguf>,
        side: SideFiles,
        tensors: Vec<TensorInfo>,
        unread: Vec<UnreadTensor>,
        files: Vec<Box<dyn ByteSource>>,
    ) -> Result<Self> {
        let name = gguf.as_ref().map_or(&side.folder, |g| &g.name).clone();
        let mut by_name = HashMap::new();
        for (i, t) in tensors.iter().enumerate() {
            if by_name.insert(t.name.clone(), i).is_some() {
                let what = format!("it has two tensors `{}`", t.name);
                return Err(Error::Damaged { name, what });
            }
        }
        Ok(Self {
            name,
            gguf,
            side,
            tensors,
            unread,
            by_name,
            files,
        })
    }

    /// The tensor of this name.
    pub fn find(&self, tensor: &str) -> Option<&TensorInfo> {
        self.by_name.get(tensor).map(|i| &self.tensors[*i])
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// As [`Self::missing`].
    pub fn get(&self, tensor: &str) -> Result<&TensorInfo> {
        self.find(tensor).ok_or_else(|| self.missing(tensor))
    }

    /// The error for a tensor that [`Self::find`] does not return: it is missing, or of a type that is not supported.
    pub fn missing(&self, tensor: &str) -> Error {
        let name = self.name.clone();
        match self.unread.iter().find(|t| t.name == tensor) {
            Some(t) => Error::UnknownType {
                name,
                tensor: tensor.into(),
                found: t.ty.clone(),
            },
            None => Error::MissingTensor {
                name,
                tensor: tensor.into(),
            },
        }
    }

    /// Reads one tensor, as blocks of its type.
    ///
    /// # Errors
    /// If the file cannot be read, or parts of the tensor contradict each other.
    pub fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let mut parts = vec![];
        for place in info.ranges() {
            let mut bytes = vec![0; place.bytes as usize];
            self.files[place.file].read_at(place.offset, &mut bytes)?;
            parts.push(bytes);
        }
        info.join(parts)
    }

    /// Reads and decodes one tensor, row by row.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_f32(&self, info: &TensorInfo) -> Result<Vec<f32>> {
        let bytes = self.read(info)?;
        let mut out = vec![0.0; info.shape.iter().product()];
        crate::decode(info.ty, &bytes, &mut out);
        Ok(out)
    }

    /// Bytes of all tensors together.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes).sum()
    }
}

/// The names of the safetensors files that `text`, the contents of a `model.safetensors.index.json`, lists. `name` is
/// for error messages.
///
/// # Errors
/// If it is not JSON with a `weight_map`, or names a file outside its folder.
pub fn shard_names(name: &str, text: &str) -> Result<BTreeSet<String>> {
    let damaged = |what: &str| Error::Damaged {
        name: name.into(),
        what: what.into(),
    };
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|e| damaged(&format!("it is not JSON ({e})")))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| damaged("it has no `weight_map`"))?;
    let names: BTreeSet<String> = map
        .values()
        .filter_map(|v| v.as_str())
        .map(String::from)
        .collect();
    let inside = |n: &String| !n.contains(['/', '\\']) && n != "..";
    if names.is_empty() || !names.iter().all(inside) {
        return Err(damaged("its `weight_map` names no file of this folder"));
    }
    Ok(names)
}
