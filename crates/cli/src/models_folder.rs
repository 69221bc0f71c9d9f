//! The models of a folder, by name: for `siskin serve --models DIR`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pollster::block_on;
use siskin_engine::Session;
use siskin_serve::Library;

use crate::args::DeviceArgs;
use crate::open::Opening;
use crate::{remedy, serve, stop};

/// A folder with GGUF files and Hugging Face folders.
pub struct ModelsFolder {
    dir: PathBuf,
    opening: Opening,
}

/// The name that a model is served under: that of its file or folder.
pub fn model_name(path: &Path) -> String {
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether it is a part of a split GGUF file other than the first, which opens all of them.
fn is_later_part(stem: &str) -> bool {
    let part = stem
        .rsplit_once("-of-")
        .and_then(|(rest, _)| rest.rsplit_once('-'));
    part.is_some_and(|(_, number)| number.len() == 5 && number.parse::<u32>().is_ok_and(|n| n > 1))
}

fn is_model(path: &Path) -> bool {
    if model_name(path).starts_with('.') {
        return false;
    }
    match path.is_dir() {
        true => path.join("config.json").is_file(),
        false => path.extension().is_some_and(|e| e == "gguf") && !is_later_part(&model_name(path)),
    }
}

/// What ends the loading of a model when the program is to stop.
struct Stopped;

impl ModelsFolder {
    pub fn open(dir: &Path, on: &DeviceArgs, sequences: usize) -> Result<Self> {
        fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
        Ok(Self {
            dir: dir.into(),
            opening: Opening::of(on, sequences)?,
        })
    }

    fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.retain(|path| is_model(path));
        paths.sort();
        paths
    }
}

impl Library for ModelsFolder {
    fn names(&self) -> Vec<String> {
        self.paths().iter().map(|path| model_name(path)).collect()
    }

    fn open(&self, name: &str) -> Result<Session, String> {
        let mut paths = self.paths();
        paths.retain(|path| model_name(path) == name);
        let path = match &paths[..] {
            [path] => path,
            [] => return Err("its file is gone".into()),
            _ => return Err("a file and a folder have this name; rename one".into()),
        };
        // Opening has no other way to end before it is complete.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            block_on(self.opening.open(path, &mut |_| {
                if stop::flow().is_break() {
                    resume_unwind(Box::new(Stopped));
                }
            }))
        }));
        let session = match opened {
            Ok(opened) => opened.map_err(|e| remedy::line(&e.into()))?,
            Err(payload) if payload.is::<Stopped>() => {
                return Err("the server is stopping".into());
            }
            Err(payload) => resume_unwind(payload),
        };
        serve::report(name, &session);
        Ok(session)
    }
}
