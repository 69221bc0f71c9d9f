//! The folder of a training.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use siskin_engine::Session;
use siskin_train::Trainer;

/// The newest checkpoint that is whole; those that are not are named.
pub fn resume(trainer: &mut Trainer, session: &mut Session, folder: &Path) -> Result<()> {
    let mut found = checkpoints(folder);
    found.reverse();
    let mut last = None;
    for path in found {
        let bytes = std::fs::read(&path);
        let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
        match trainer.resume(session, &bytes) {
            Ok(()) => {
                eprintln!("going on after step {}", trainer.done());
                return Ok(());
            }
            Err(e @ siskin_train::Error::Checkpoint(_)) => {
                eprintln!("{}: {e}; trying the one before", path.display());
                last = Some(e);
            }
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        }
    }
    match last {
        Some(e) => Err(e).context("no checkpoint is whole"),
        None => bail!(
            "there is no checkpoint in {}; leave --resume out",
            folder.display()
        ),
    }
}

/// Oldest first.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_checkpoint = |p: &PathBuf| p.extension().is_some_and(|e| e == "checkpoint");
    let mut found: Vec<_> = entries.map(|e| e.path()).filter(is_checkpoint).collect();
    found.sort();
    found
}

/// Writes under another name first, so that a file under its own name is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| {
        // What there is of it is of no use, and may take the last room.
        let _ = std::fs::remove_file(&part);
        format!("cannot write {}", path.display())
    })
}

/// Metrics, checkpoints and, in the end, the adapter.
pub struct TrainFolder {
    folder: PathBuf,
    metrics: std::fs::File,
}

impl TrainFolder {
    /// Nothing that is there is overwritten.
    pub fn check(folder: &Path, is_resumed: bool) -> Result<()> {
        if folder.join("metrics.jsonl").exists() && !is_resumed {
            bail!(
                "{} holds a training already; give --resume to go on, or another --out",
                folder.display()
            );
        }
        Ok(())
    }

    pub fn create(folder: &Path) -> Result<Self> {
        let name = folder.display();
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {name}"))?;
        let metrics = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("metrics.jsonl"))
            .with_context(|| format!("cannot write to {name}"))?;
        Ok(Self {
            folder: folder.into(),
            metrics,
        })
    }

    /// Leaves out what was written after the checkpoint from which the training goes on.
    pub fn forget_after(&mut self, step: usize) -> Result<()> {
        let path = self.folder.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).context("cannot read metrics.jsonl")?;
        let is_kept = |line: &&str| {
            let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
            json.is_some_and(|j| j["step"].as_u64().is_some_and(|s| s <= step as u64))
        };
        let kept: String = text
            .lines()
            .filter(is_kept)
            .map(|l| format!("{l}\n"))
            .collect();
        write_whole(&path, kept.as_bytes())?;
        self.metrics = std::fs::OpenOptions::new().append(true).open(path)?;
        Ok(())
    }

    pub fn metric(&mut self, line: &impl serde::Serialize) -> Result<()> {
        let line = serde_json::to_string(line)?;
        writeln!(self.metrics, "{line}").context("cannot write metrics.jsonl")
    }

    /// Keeps the last two.
    pub async fn checkpoint(&self, trainer: &Trainer, session: &mut Session) -> Result<()> {
        let bytes = trainer.checkpoint(session).await?;
        let name = format!("step-{:07}.checkpoint", trainer.done());
        write_whole(&self.folder.join(name), &bytes).context(
            "no checkpoint was kept; mend what is wrong, then --resume goes on from the one before",
        )?;
        let all = checkpoints(&self.folder);
        for old in &all[..all.len().saturating_sub(2)] {
            std::fs::remove_file(old)
                .with_context(|| format!("cannot remove {}", old.display()))?;
        }
        Ok(())
    }

    pub async fn adapter(&self, trainer: &Trainer, session: &mut Session) -> Result<()> {
        for (name, bytes) in trainer.adapter(session).await?.to_peft()? {
            write_whole(&self.folder.join(name), &bytes)?;
        }
        Ok(())
    }
}
