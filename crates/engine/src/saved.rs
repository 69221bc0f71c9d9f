//! A sequence with its keys and values, in a file: a later session continues where this one was, without running its tokens
//! again. The file is safetensors, whose metadata says what it is of.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use siskin_graph::{CacheBytes, Part, WeightKind};

use crate::load::{WeightSource, read_part};
use crate::store::Cached;
use crate::{Error, Result, Session};

/// Of the form of the file, and of what computes the keys.
const VERSION: &str = concat!("siskin ", env!("CARGO_PKG_VERSION"));

/// What must be the same in the session that reads a file, by its key in the metadata; for messages, what differs.
const SAME: [(&str, &str); 3] = [
    ("version", "by another version of siskin"),
    ("cache", "with a KV cache of another type or device"),
    ("model", "with another model, adapter or rope scaling"),
];

/// The sequence of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How many tokens are in the KV cache now.
    pub tokens: usize,
    /// The note that it was saved with.
    pub note: String,
}

fn refused(what: impl Into<String>) -> Error {
    Error::Saved { what: what.into() }
}

fn damaged(what: impl std::fmt::Display) -> Error {
    refused(format!("the file is damaged: {what}"))
}

fn metadata_of(file: &[u8]) -> Result<HashMap<String, String>> {
    let (_, header) = SafeTensors::read_metadata(file).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.contains_key("version") {
        true => Ok(metadata),
        false => Err(refused("the file is of something else")),
    }
}

/// The note that a sequence was saved with, whatever the model.
///
/// # Errors
/// If the file is damaged or of something else.
pub fn saved_note(file: &[u8]) -> Result<String> {
    Ok(metadata_of(file)?.remove("note").unwrap_or_default())
}

impl Session {
    /// The sequence of the request that ended last, with its keys and values, as the contents of a file; and a note, which
    /// [`Self::restore`] returns.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn save(&mut self, note: &str) -> Result<Vec<u8>> {
        let empty = Cached::default();
        let store = &self.schedule.store;
        let mut last = store.last().unwrap_or(&empty).clone();
        last.tokens
            .truncate(store.reach(&last.blocks, last.tokens.len()));
        let [all, windowed] = last.blocks.of(last.tokens.len());
        // Of windows what the next token sees.
        let seen = store.first_block(last.tokens.len()).min(windowed.len());
        let bytes = self.device.cache_bytes([&all, &windowed[seen..]]).await?;
        let mut metadata = self.identity(last.adapter).await?;
        metadata.insert("note".into(), note.into());
        if let Some(states) = self.states {
            metadata.insert("fed".into(), states.fed.to_string());
            let kept = states.kept.map(|n| n.to_string());
            metadata.extend(kept.map(|n| ("kept".to_string(), n)));
        }
        let tokens: Vec<u8> = last.tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        let view = |dtype, n, data| TensorView::new(dtype, vec![n], data);
        let named = |name: &str, both: &'_ [Vec<u8>; 2], i: usize| {
            let [a, b] = both.each_ref().map(|bytes| bytes.clone());
            [(format!("{name}.{i}.0"), a), (format!("{name}.{i}.1"), b)]
        };
        let caches = bytes.caches.iter().enumerate();
        let states = bytes.states.iter().enumerate();
        let parts: Vec<(String, Vec<u8>)> = caches
            .flat_map(|(i, both)| named("cache", both, i))
            .chain(states.flat_map(|(i, both)| named("state", both, i)))
            .collect();
        let mut tensors = vec![];
        let error = |e: safetensors::SafeTensorError| refused(e.to_string());
        tensors.push((
            "tokens".to_string(),
            view(Dtype::U32, last.tokens.len(), &tokens).map_err(error)?,
        ));
        for (name, data) in &parts {
            let tensor = view(Dtype::U8, data.len(), data).map_err(error)?;
            tensors.push((name.clone(), tensor));
        }
        serialize(tensors, Some(metadata)).map_err(error)
    }

    /// Puts a saved sequence into the KV cache, where a prompt that continues it finds it.
    ///
    /// # Errors
    /// If the file is damaged, or was saved with another model, adapter, cache type or version, or is longer than the
    /// context.
    pub async fn restore(&mut self, file: &[u8]) -> Result<Restored> {
        let metadata = metadata_of(file)?;
        let adapter = metadata.get("adapter");
        let adapter = self.adapters.find(adapter.map(String::as_str))?;
        let own = self.identity(adapter).await?;
        if let Some((_, what)) = SAME.iter().find(|(k, _)| own.get(*k) != metadata.get(*k)) {
            return Err(refused(format!("it was saved {what}")));
        }
        let tensors = SafeTensors::deserialize(file).map_err(damaged)?;
        let data = |name: &str| -> Result<Vec<u8>> {
            Ok(tensors.tensor(name).map_err(damaged)?.data().to_vec())
        };
        let tokens = data("tokens")?;
        let tokens = tokens.as_chunks().0.iter();
        let tokens: Vec<u32> = tokens.map(|b| u32::from_le_bytes(*b)).collect();
        if !tokens.is_empty() {
            self.check_tokens(&tokens)?;
            self.check_length(tokens.len())?;
        }
        let all = |name: &str| -> Result<Vec<[Vec<u8>; 2]>> {
            let count = tensors.names().into_iter();
            let count = count.filter(|n| n.starts_with(&format!("{name}.")) && n.ends_with(".0"));
            let both = |i| {
                Ok([
                    data(&format!("{name}.{i}.0"))?,
                    data(&format!("{name}.{i}.1"))?,
                ])
            };
            (0..count.count()).map(both).collect()
        };
        let bytes = CacheBytes {
            caches: all("cache")?,
            states: all("state")?,
        };
        let number = |key: &str| {
            let n = metadata.get(key).map(|n| n.parse());
            n.transpose().map_err(|_| damaged(key))
        };
        let (fed, kept) = (number("fed")?, number("kept")?);
        if self.states.is_some() {
            // There is one set of states.
            self.forget().await?;
        }
        let Some((blocks, seen)) = self.schedule.place(tokens.len()) else {
            return Err(refused("running requests leave no room for it"));
        };
        let [all, windowed] = &blocks.lists;
        let set = (self.device).set_cache_bytes([all, &windowed[seen..]], &bytes);
        if let Err(e) = set {
            self.schedule.store.give_back(blocks);
            return Err(e);
        }
        if let Some(states) = &mut self.states {
            (states.fed, states.kept) = (fed.unwrap_or(0), kept);
        }
        let n = tokens.len();
        self.schedule.store.keep(Cached {
            adapter,
            tokens,
            blocks,
        });
        Ok(Restored {
            tokens: n,
            note: metadata.get("note").cloned().unwrap_or_default(),
        })
    }

    /// What the keys and values of a sequence depend on, apart from its tokens.
    async fn identity(&self, adapter: Option<u32>) -> Result<HashMap<String, String>> {
        let types = self.options.cache_types;
        let is_quantised = types.keys.is_quantised() || types.values.is_quantised();
        // Devices arrange quantised rows differently.
        let place = match (is_quantised, self.device.is_gpu()) {
            (false, _) => "",
            (true, true) => " gpu",
            (true, false) => " cpu",
        };
        let mut identity = HashMap::from([
            ("version".to_string(), VERSION.to_string()),
            ("cache".to_string(), format!("{types}{place}")),
            (
                "model".to_string(),
                format!("{:016x}", self.fingerprint().await?),
            ),
        ]);
        let name = self.adapters.name(adapter).map(String::from);
        identity.extend(name.map(|name| ("adapter".to_string(), name)));
        Ok(identity)
    }

    /// A hash of a row of each matrix, of the adapters, and of constants such as frequencies.
    async fn fingerprint(&self) -> Result<u64> {
        let mut hash = DefaultHasher::new();
        let graph = self.adapters.step_graph(&self.model)?;
        let source = WeightSource {
            model: &self.model,
            files: &self.files,
            adapter: self.adapters.all(),
        };
        for weight in &graph.weights {
            weight.name.hash(&mut hash);
            if let WeightKind::Constant(values) = &weight.kind {
                values.iter().for_each(|v| v.to_bits().hash(&mut hash));
                continue;
            }
            for part in &weight.parts {
                part.shape.hash(&mut hash);
                let row = Part {
                    rows: part.rows.start..part.rows.start + 1,
                    ..part.clone()
                };
                // Of a type that cannot be read by rows.
                if let Ok(bytes) = read_part(&source, &row).await {
                    bytes.hash(&mut hash);
                }
            }
        }
        let params = self.adapters.params(&graph)?;
        params.iter().for_each(|v| v.to_bits().hash(&mut hash));
        Ok(hash.finish())
    }
}
