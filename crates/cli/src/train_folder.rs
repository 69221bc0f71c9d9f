//! The output folder of a training run.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use siskin_engine::Session;
use siskin_train::Trainer;

/// Resumes from the newest intact checkpoint; damaged ones are reported.
pub fn resume(trainer: &mut Trainer, session: &mut Session, folder: &Path) -> Result<()> {
    let mut found = checkpoints(folder);
    found.reverse();
    let mut last = None;
    for path in found {
        let bytes = std::fs::read(&path);
        let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
        match trainer.resume(session, &bytes) {
            Ok(()) => {
                eprintln!("resuming after step {}", trainer.done());
                return Ok(());
            }
            Err(e @ siskin_train::Error::Checkpoint(_)) => {
                eprintln!("{}: {e}; trying the previous one", path.display());
                last = Some(e);
            }
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        }
    }
    match last {
        Some(e) => Err(e).context("no checkpoint is intact; use --force to start over"),
        None => bail!(
            "there is no checkpoint in {}; omit --resume",
            folder.display()
        ),
    }
}

/// Oldest first. Files with other names are ignored.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let step = name.to_str()?.strip_prefix("step-")?;
            Some((
                step.strip_suffix(".checkpoint")?.parse().ok()?,
                entry.path(),
            ))
        })
        .collect();
    found.sort();
    found.into_iter().map(|f| f.1).collect()
}

/// Writes under a temporary name first, so that a file under its final name is complete.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| {
        // A partial file is of no use and may take up the last free space.
        let _ = std::fs::remove_file(&part);
        format!("cannot write {}", path.display())
    })
}

const METRICS: &str = "metrics.jsonl";
/// Answers that were drawn, with their rewards.
const COMPLETIONS: &str = "completions.jsonl";
const LOCK: &str = "training.lock";
/// Files whose presence makes a folder an adapter folder.
const ADAPTER: [&str; 3] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
];

/// How to treat what the folder already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing is overwritten.
    New,
    /// Files of a training run are overwritten.
    Forced,
    Resumed,
}

/// Metrics, checkpoints and finally the adapter. The folder is locked against other processes.
pub struct TrainFolder {
    folder: PathBuf,
    /// Set once training has begun.
    metrics: Option<File>,
    /// Set once an answer was drawn.
    completions: Option<File>,
    lock: Option<File>,
    was_made: bool,
}

impl TrainFolder {
    /// Locks the folder for this process, creating it if necessary; nothing else is written yet.
    pub fn open(folder: &Path, start: Start) -> Result<Self> {
        let name = folder.display();
        let was_made = !folder.exists();
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {name}"))?;
        let mut this = Self {
            folder: folder.into(),
            metrics: None,
            completions: None,
            lock: None,
            was_made,
        };
        this.lock = Some(take_lock(folder)?);
        let has_adapter = ADAPTER.iter().any(|file| folder.join(file).exists());
        let has_checkpoint = !checkpoints(folder).is_empty();
        match start {
            Start::New if has_checkpoint => bail!(
                "{name} already holds a training run; use --resume to continue it, --force to replace it, or another --out"
            ),
            Start::New if has_adapter => bail!(
                "{name} already holds an adapter; use --force to replace it, or another --out"
            ),
            Start::Resumed if !has_checkpoint => {
                bail!("there is no checkpoint in {name}; omit --resume")
            }
            _ => Ok(this),
        }
    }

    /// Begins a new training run: what an earlier one left is removed, and the first checkpoint is written before any
    /// step, so that the run can be resumed from the start.
    pub async fn begin(&mut self, trainer: &Trainer, session: &mut Session) -> Result<()> {
        let ours = [
            "adapter_config.json",
            "adapter_model.safetensors",
            METRICS,
            COMPLETIONS,
        ];
        let old = ours.map(|file| self.folder.join(file));
        for path in old.into_iter().chain(checkpoints(&self.folder)) {
            if path.exists() {
                remove(&path)?;
            }
        }
        self.checkpoint(trainer, session).await?;
        self.open_metrics()
    }

    /// Drops what was written after the checkpoint from which training resumes.
    pub fn forget_after(&mut self, step: usize) -> Result<()> {
        for file in [METRICS, COMPLETIONS] {
            self.forget_lines_after(file, step)?;
        }
        self.open_metrics()
    }

    fn forget_lines_after(&self, file: &str, step: usize) -> Result<()> {
        let path = self.folder.join(file);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.with_context(|| format!("cannot read {file}"))?,
        };
        // The last line may be torn, within a character too.
        let text = String::from_utf8_lossy(&bytes);
        let is_kept = |line: &&str| {
            let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
            json.is_some_and(|j| j["step"].as_u64().is_some_and(|s| s <= step as u64))
        };
        let kept: String = text
            .lines()
            .filter(is_kept)
            .map(|l| format!("{l}\n"))
            .collect();
        write_whole(&path, kept.as_bytes())
    }

    fn append(&self, file: &str) -> Result<File> {
        let path = self.folder.join(file);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.with_context(|| format!("cannot write {}", path.display()))
    }

    fn open_metrics(&mut self) -> Result<()> {
        self.metrics = Some(self.append(METRICS)?);
        Ok(())
    }

    /// Adds an answer that was drawn.
    pub fn completion(&mut self, line: &impl serde::Serialize) -> Result<()> {
        let line = serde_json::to_string(line)?;
        if self.completions.is_none() {
            self.completions = Some(self.append(COMPLETIONS)?);
        }
        let Some(file) = &mut self.completions else {
            return Ok(());
        };
        writeln!(file, "{line}").context("cannot write completions.jsonl")
    }

    pub fn metric(&mut self, line: &impl serde::Serialize) -> Result<()> {
        let line = serde_json::to_string(line)?;
        let metrics = self
            .metrics
            .as_mut()
            .context("the training has not begun")?;
        writeln!(metrics, "{line}").context("cannot write metrics.jsonl")
    }

    /// Keeps the last two.
    pub async fn checkpoint(&self, trainer: &Trainer, session: &mut Session) -> Result<()> {
        let bytes = trainer.checkpoint(session).await?;
        let name = format!("step-{:07}.checkpoint", trainer.done());
        write_whole(&self.folder.join(name), &bytes)?;
        let all = checkpoints(&self.folder);
        for old in &all[..all.len().saturating_sub(2)] {
            remove(old)?;
        }
        Ok(())
    }

    /// Removes what a run wrote that has not taken a step.
    pub fn take_back(&mut self) -> Result<()> {
        (self.metrics, self.completions) = (None, None);
        let files = [METRICS, COMPLETIONS].map(|file| self.folder.join(file));
        for path in files.into_iter().chain(checkpoints(&self.folder)) {
            if path.exists() {
                remove(&path)?;
            }
        }
        Ok(())
    }

    pub async fn adapter(&self, trainer: &Trainer, session: &mut Session) -> Result<()> {
        for (name, bytes) in trainer.adapter(session).await?.to_peft()? {
            write_whole(&self.folder.join(name), &bytes)?;
        }
        Ok(())
    }

    /// What training can be resumed from, for the message when it ends early.
    pub fn kept(&self) -> String {
        let newest = checkpoints(&self.folder).pop();
        match newest.as_deref().and_then(Path::file_name) {
            Some(name) => format!(
                "{} has {}; use --resume to resume from it",
                self.folder.display(),
                name.to_string_lossy()
            ),
            None => format!("{} has no checkpoint", self.folder.display()),
        }
    }
}

impl Drop for TrainFolder {
    fn drop(&mut self) {
        // Removed while it is still locked: no other process can have locked it.
        if let Some(lock) = self.lock.take() {
            let _ = std::fs::remove_file(self.folder.join(LOCK));
            drop(lock);
        }
        // A failed start leaves nothing behind; a folder that is not empty is not removed.
        if self.was_made {
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// An operating system lock, which is released if the process is killed.
fn take_lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let name = folder.display();
    loop {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot write to {name}"))?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                bail!("another process is training in {name}")
            }
            // Not every file system has locks.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // The previous holder may have removed it between opening and locking.
        if is_same(&file, &path) {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same(_: &File, path: &Path) -> bool {
    path.exists()
}
