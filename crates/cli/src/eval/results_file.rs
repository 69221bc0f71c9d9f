//! The file of results: a line for each record, so that an interrupted run loses nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use siskin_eval::ItemResult;

/// A task with a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    pub task: String,
    pub model: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    task: String,
    model: String,
    /// Of the task, its data and what else results depend on: before the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ItemResult>,
}

/// What a file has, and where more is written; nothing without a file.
#[derive(Debug)]
pub struct ResultsFile {
    path: PathBuf,
    file: Option<File>,
    found: BTreeMap<Run, (String, Vec<ItemResult>)>,
}

impl ResultsFile {
    /// Opens a file to be continued, or a new one.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let mut results = Self {
            path: path.map(PathBuf::from).unwrap_or_default(),
            file: None,
            found: BTreeMap::new(),
        };
        let Some(path) = path else {
            return Ok(results);
        };
        let name = path.display();
        let text = match path.exists() {
            true if !path.is_file() => bail!("{name} is not a regular file; choose another --out"),
            true => std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?,
            false => String::new(),
        };
        // A line without its end was being written when the run was interrupted.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (i, line) in text[..whole].lines().enumerate() {
            let line: Line = serde_json::from_str(line).with_context(|| {
                format!(
                    "{name}, line {}: no result of `siskin eval`; choose another --out",
                    i + 1
                )
            })?;
            results.add(line);
        }
        if whole == 0 && !text.is_empty() && !text.starts_with("{\"task\":") {
            bail!("{name} has no results of `siskin eval`; choose another --out");
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write {name}"))?;
        file.set_len(whole as u64)?;
        results.file = Some(file);
        Ok(results)
    }

    fn add(&mut self, line: Line) {
        let Line { task, model, .. } = line;
        let found = self.found.entry(Run { task, model }).or_default();
        if let Some(digest) = line.digest {
            found.0 = digest;
        }
        found.1.extend(line.result);
    }

    fn write(
        &mut self,
        run: &Run,
        digest: Option<&str>,
        result: Option<&ItemResult>,
    ) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let line = Line {
            task: run.task.clone(),
            model: run.model.clone(),
            digest: digest.map(String::from),
            result: result.cloned(),
        };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        let written = file.write_all(text.as_bytes());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Begins a run, or continues one: what is known of it.
    pub fn begin(&mut self, run: &Run, digest: &str) -> Result<Vec<ItemResult>> {
        if let Some((found, results)) = self.found.get(run) {
            if found != digest {
                bail!(
                    "{} has results of {} with {} that were made with another task, data or settings; choose another \
                     --out",
                    self.path.display(),
                    run.task,
                    run.model
                );
            }
            return Ok(results.clone());
        }
        self.write(run, Some(digest), None)?;
        Ok(vec![])
    }

    pub fn push(&mut self, run: &Run, result: &ItemResult) -> Result<()> {
        self.write(run, None, Some(result))
    }
}
