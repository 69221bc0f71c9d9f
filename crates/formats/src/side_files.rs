use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::source::regular_file;
use crate::{Error, Result};

/// Bytes of a tokenizer; the largest take 40 MB. In memory its JSON takes several times as much.
const MAX_TOKENIZER: u64 = 64 << 20;
/// Bytes of any other side file.
const MAX_BYTES: u64 = 16 << 20;

/// The small files beside the weights in a Hugging Face folder: configuration, tokenizer, chat template.
#[derive(Debug, Clone, Default)]
pub struct SideFiles {
    /// The folder, for error messages.
    pub folder: String,
    files: HashMap<String, String>,
}

impl SideFiles {
    /// The names of the files that are read; a folder need not have all of them.
    pub const NAMES: [&str; 13] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ];

    /// No files yet of a folder of this name.
    pub fn new(folder: &str) -> Self {
        Self {
            folder: folder.into(),
            files: HashMap::new(),
        }
    }

    /// Reads those files that the folder contains.
    ///
    /// # Errors
    /// If one of them is not a regular file within the folder, is too large, or is not UTF-8.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut side = Self::new(&folder.display().to_string());
        for name in Self::NAMES {
            if let Some(text) = read_text(folder, name)? {
                side.add(name, text);
            }
        }
        for dense in side.dense_folders() {
            let name = format!("{dense}/config.json");
            if let Some(text) = read_text(folder, &name)? {
                side.add(&name, text);
            }
        }
        Ok(side)
    }

    /// Adds the contents of a file.
    pub fn add(&mut self, name: &str, text: String) {
        self.files.insert(name.into(), text);
    }

    /// Folders within this one with linears after pooling, each with a `config.json` and a `model.safetensors`:
    /// those of sentence-transformers' modules of the type `Dense`.
    pub fn dense_folders(&self) -> Vec<String> {
        let modules = self.get("modules.json").unwrap_or_default();
        let modules: serde_json::Value = serde_json::from_str(modules).unwrap_or_default();
        let is_dense = |m: &&serde_json::Value| {
            m["type"]
                .as_str()
                .is_some_and(|t| t.rsplit('.').next() == Some("Dense"))
        };
        let modules = modules.as_array().into_iter().flatten().filter(is_dense);
        let paths = modules.filter_map(|m| m["path"].as_str());
        // Nothing outside the folder.
        let inside = paths.filter(|p| !p.is_empty() && *p != ".." && !p.contains(['/', '\\']));
        inside.map(String::from).collect()
    }

    /// The contents of a file.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }
}

/// A text file of a folder; `None` where there is none.
pub(crate) fn read_text(folder: &Path, name: &str) -> Result<Option<String>> {
    let path = folder.join(name);
    // A link that leads nowhere is there, too.
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let io = |error| Error::Io {
        path: path.clone(),
        error,
    };
    let target = path.canonicalize().map_err(io)?;
    let inside = allowed(folder).map_err(io)?;
    if !inside.iter().any(|folder| target.starts_with(folder)) {
        return Err(Error::Outside { path, target });
    }
    let bytes = regular_file(&path)?;
    let max = match name {
        "tokenizer.json" => MAX_TOKENIZER,
        _ => MAX_BYTES,
    };
    if bytes > max {
        return Err(Error::TooLarge {
            name: path.display().to_string(),
            what: format!("{bytes} bytes"),
        });
    }
    Ok(Some(std::fs::read_to_string(&path).map_err(io)?))
}

/// Where a folder's files may be: within it, and for a snapshot of huggingface_hub's cache, whose files are
/// links, in the `blobs` beside it.
fn allowed(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folder = folder.canonicalize()?;
    let snapshots = folder.parent().filter(|p| p.ends_with("snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|p| p.join("blobs"));
    Ok(std::iter::once(folder).chain(blobs).collect())
}
