//! A model's files, on disk or read asynchronously in a page.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use siskin_formats::{
    ByteSource, Checkpoint, Gguf, Parsed, SideFiles, TensorInfo, Value, decode, parse_header,
    part_of, quant_states, sort_by,
};
use siskin_models::{Model, RopeScaling};
use siskin_text::TextModel;

use crate::Result;
use crate::backend::Movable;

/// The bytes of a range, when they have arrived.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>>> + 'a>>;

/// Bytes that can be read by range, but not at once: a page's Blob, or HTTP.
pub trait AsyncSource: Movable {
    /// A name for error messages.
    fn name(&self) -> &str;
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads `bytes` bytes from `offset`; an error, if there are fewer.
    fn read(&self, offset: u64, bytes: u64) -> Reading<'_>;
}

/// The tensors of a model, and where to read them.
pub struct WeightFiles {
    /// Names, shapes and places of the tensors.
    pub checkpoint: Checkpoint,
    /// The files, if the checkpoint itself cannot read them.
    sources: Vec<Box<dyn AsyncSource>>,
}

impl std::fmt::Debug for WeightFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeightFiles({})", self.checkpoint.name)
    }
}

impl WeightFiles {
    /// Reads one tensor, as blocks of its type.
    ///
    /// # Errors
    /// If its file cannot be read, or parts of the tensor contradict each other.
    pub async fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let mut parts = vec![];
        for place in info.ranges() {
            let Some(source) = self.sources.get(place.file) else {
                return Ok(self.checkpoint.read(info)?);
            };
            parts.push(source.read(place.offset, place.bytes).await?);
        }
        Ok(info.join(parts)?)
    }

    /// Reads and decodes one tensor.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub async fn read_f32(&self, info: &TensorInfo) -> Result<Vec<f32>> {
        let bytes = self.read(info).await?;
        let mut out = vec![0.0; info.shape.iter().product()];
        decode(info.ty, &bytes, &mut out);
        Ok(out)
    }
}

/// What is known of a model before its weights are loaded.
#[derive(Debug)]
pub struct ModelFiles {
    /// The configuration.
    pub model: Model,
    /// Tokenizer and chat templates.
    pub text: Arc<TextModel>,
    /// The tensors, which are read when a session is opened.
    pub weights: WeightFiles,
}

impl ModelFiles {
    /// Reads the headers of a GGUF file or a Hugging Face folder on disk.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the model is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(Checkpoint::open(path)?, vec![])
    }

    /// The same, with another scaling of rotary frequencies than the model's own.
    ///
    /// # Errors
    /// As [`Self::open`], and if the scaling is not possible.
    pub fn open_scaled(path: &Path, scaling: &RopeScaling) -> Result<Self> {
        let mut checkpoint = Checkpoint::open(path)?;
        scaling.apply(&mut checkpoint)?;
        Self::new(checkpoint, vec![])
    }

    /// Reads the header of a GGUF file, or of all parts of a split one, in any order.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn fetch_gguf(sources: Vec<Box<dyn AsyncSource>>) -> Result<Self> {
        let mut parts: Vec<(Gguf, Box<dyn ByteSource>, _)> = vec![];
        for source in sources {
            let mut ahead = Ahead::of(&*source);
            let header = loop {
                match parse_header(&ahead.name, &ahead.prefix, ahead.len)? {
                    Parsed::Header(header) => break header,
                    Parsed::NeedMore(n) => {
                        let want = n.max(2 * ahead.prefix.len() as u64).max(1 << 20);
                        ahead.read_until(&*source, want.min(ahead.len)).await?;
                    }
                }
            };
            // The only tensor that the configuration depends on.
            let mut tensors = header.tensors.iter();
            if let Some(info) = tensors.find(|t| t.name == "rope_freqs.weight") {
                let bytes = source.read(info.offset, info.bytes).await?;
                ahead.pieces.push((info.offset, bytes));
            }
            let gguf = Gguf {
                name: ahead.name.clone(),
                header: *header,
            };
            parts.push((gguf, Box::new(ahead), source));
        }
        // In the order of the checkpoint's files.
        let number = |gguf: &Gguf| part_of(gguf).map_or(0, |part| part.0);
        sort_by(&mut parts, &mut |a, b| number(&a.0).cmp(&number(&b.0)));
        let (mut headers, mut sources) = (vec![], vec![]);
        for (gguf, ahead, source) in parts {
            headers.push((gguf, ahead));
            sources.push(source);
        }
        Self::new(Checkpoint::with_ggufs(headers)?, sources)
    }

    /// Reads the headers of safetensors files; `side` is the rest of their folder.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn fetch_safetensors(
        sources: Vec<Box<dyn AsyncSource>>,
        side: SideFiles,
    ) -> Result<Self> {
        let mut files: Vec<Box<dyn ByteSource>> = vec![];
        for source in &sources {
            let mut ahead = Ahead::of(&**source);
            ahead.read_until(&**source, 8.min(ahead.len)).await?;
            if let Ok(size) = ahead.prefix[..].try_into().map(u64::from_le_bytes) {
                let end = size.saturating_add(8);
                // The reader refuses a header that reaches beyond the file.
                if end <= ahead.len {
                    ahead.read_until(&**source, end).await?;
                }
            }
            // The shapes of quantised tensors.
            for (offset, bytes) in quant_states(&ahead)? {
                let piece = source.read(offset, bytes).await?;
                ahead.pieces.push((offset, piece));
            }
            files.push(Box::new(ahead));
        }
        Self::new(Checkpoint::from_safetensors(files, side)?, sources)
    }

    fn new(mut checkpoint: Checkpoint, sources: Vec<Box<dyn AsyncSource>>) -> Result<Self> {
        let model = Model::open(&checkpoint)?;
        let text = Arc::new(read_text(&checkpoint)?);
        // The tokenizer contains the vocabulary now.
        if let Some(gguf) = &mut checkpoint.gguf {
            let small = |v: &Value| !matches!(v, Value::Array(_));
            gguf.header.metadata.retain(|_, v| small(v));
        }
        let weights = WeightFiles {
            checkpoint,
            sources,
        };
        Ok(Self {
            model,
            text,
            weights,
        })
    }
}

/// The tokenizer and chat templates of a GGUF file, or of a folder, which needs no weights for this.
///
/// # Errors
/// If they are missing, damaged or not supported.
pub fn read_text_of(path: &Path) -> Result<TextModel> {
    if path.is_dir() {
        return Ok(TextModel::from_side_files(&SideFiles::read(path)?)?);
    }
    read_text(&Checkpoint::open(path)?)
}

/// The tokenizer and chat templates of a model.
///
/// # Errors
/// As [`read_text_of`].
pub fn read_text(checkpoint: &Checkpoint) -> Result<TextModel> {
    Ok(match &checkpoint.gguf {
        Some(gguf) => TextModel::from_gguf(gguf)?,
        None => TextModel::from_side_files(&checkpoint.side)?,
    })
}

/// The parts of a file that were read before it is parsed: its beginning, and ranges from within.
struct Ahead {
    name: String,
    len: u64,
    prefix: Vec<u8>,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Ahead {
    fn of(source: &dyn AsyncSource) -> Self {
        Self {
            name: source.name().into(),
            len: source.len(),
            prefix: vec![],
            pieces: vec![],
        }
    }

    async fn read_until(&mut self, source: &dyn AsyncSource, end: u64) -> Result<()> {
        let at = self.prefix.len() as u64;
        if end > at {
            self.prefix.extend(source.read(at, end - at).await?);
        }
        Ok(())
    }
}

impl ByteSource for Ahead {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> siskin_formats::Result<()> {
        let prefix = (0, &self.prefix);
        let pieces = self.pieces.iter().map(|(at, bytes)| (*at, bytes));
        let found = pieces.chain([prefix]).find_map(|(at, bytes)| {
            let from = usize::try_from(offset.checked_sub(at)?).ok()?;
            bytes.get(from..from.checked_add(buf.len())?)
        });
        match found {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(siskin_formats::Error::Truncated {
                name: self.name.clone(),
                what: format!("{} bytes at {offset}", buf.len()),
                len: self.len,
            }),
        }
    }
}
