//! A conversation in a file, with its keys and values: it continues where it was.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use siskin_engine::{Session, saved_note};
use siskin_text::Message;

use crate::{output, remedy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    messages: Vec<Message>,
}

/// The messages of the file, if it is there. If its keys and values are of another model, the messages run again.
pub async fn load(session: &mut Session, path: &Path) -> Result<Vec<Message>> {
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    let name = || path.display().to_string();
    let note = saved_note(&file).with_context(name)?;
    let note: Note = serde_json::from_str(&note).with_context(name)?;
    if let Err(e) = session.restore(&file).await {
        eprintln!("note: {}; its messages run again", remedy::line(&e.into()));
    }
    Ok(note.messages)
}

pub async fn save(session: &mut Session, path: &Path, messages: &[Message]) -> Result<()> {
    let note = json!({ "messages": messages }).to_string();
    let file = session.save(&note).await?;
    output::whole(path, |part| Ok(std::fs::write(part, &file)?))
}
