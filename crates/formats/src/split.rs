//! GGUF files in several parts, as llama.cpp's `gguf-split` makes them: `NAME-00001-of-00003.gguf` and so on.
//! The first part has the metadata; tensors are in all.

use std::path::Path;

use crate::order::sort_by;
use crate::{ByteSource, Error, FileSource, Gguf, Result};

type Part = (Gguf, Box<dyn ByteSource>);

/// Which part of how many a file is, counted from 0; `None` if it was not split.
pub fn part_of(gguf: &Gguf) -> Option<(u64, u64)> {
    let count = gguf.uint("split.count").filter(|n| *n > 1)?;
    Some((gguf.uint("split.no").unwrap_or(0), count))
}

/// The names of all parts, from that of any; `None` for a name that is not of this form.
fn part_names(name: &str) -> Option<Vec<String>> {
    let stem = name.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, part) = rest.rsplit_once('-')?;
    let is_number = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(part) || !is_number(count) {
        return None;
    }
    let n: usize = count.parse().ok()?;
    Some(
        (1..=n)
            .map(|i| format!("{prefix}-{i:05}-of-{count}.gguf"))
            .collect(),
    )
}

fn incomplete(gguf: &Gguf, why: String) -> Error {
    let (part, count) = part_of(gguf).unwrap_or((0, 1));
    Error::Split {
        name: gguf.name.clone(),
        part: part + 1,
        count,
        why,
    }
}

/// A GGUF file, with the other parts where it is one of several.
pub(crate) fn open(path: &Path) -> Result<Vec<Part>> {
    let read = |path: &Path| -> Result<Part> {
        let source = FileSource::open(path)?;
        Ok((Gguf::read(&source)?, Box::new(source)))
    };
    let first = read(path)?;
    let Some((_, count)) = part_of(&first.0) else {
        return Ok(vec![first]);
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names = part_names(&name).filter(|names| names.len() as u64 == count);
    let names = names.ok_or_else(|| {
        let why = format!("and its name does not end in -00001-of-{count:05}.gguf");
        incomplete(&first.0, why)
    })?;
    let mut parts = vec![];
    for name in names {
        let path = path.with_file_name(&name);
        if !path.exists() {
            return Err(incomplete(
                &first.0,
                format!("and {name} is not next to it"),
            ));
        }
        parts.push(read(&path)?);
    }
    Ok(parts)
}

/// One header and its files, from all parts in any order.
pub(crate) fn join(mut parts: Vec<Part>) -> Result<(Gguf, Vec<Box<dyn ByteSource>>)> {
    let number = |part: &Part| part_of(&part.0).map_or(0, |part| part.0);
    sort_by(&mut parts, &mut |a, b| number(a).cmp(&number(b)));
    let numbers: Vec<u64> = parts
        .iter()
        .map(|p| part_of(&p.0).map_or(0, |p| p.0))
        .collect();
    let mut parts = parts.into_iter();
    let Some((mut gguf, file)) = parts.next() else {
        return Err(Error::MissingTensor {
            name: "no file".into(),
            tensor: "token_embd.weight".into(),
        });
    };
    let count = part_of(&gguf).map_or(1, |p| p.1);
    if numbers != (0..count).collect::<Vec<_>>() {
        return Err(incomplete(&gguf, "and other parts are missing".into()));
    }
    let mut files = vec![file];
    for (part, file) in parts {
        if part_of(&part).is_none_or(|p| p.1 != count) {
            return Err(incomplete(&part, format!("next to one of {count}")));
        }
        let tensors = part.header.tensors.into_iter();
        let at = files.len();
        gguf.header.tensors.extend(tensors.map(|mut t| {
            t.file = at;
            t
        }));
        gguf.header.unread.extend(part.header.unread);
        files.push(file);
    }
    let wanted = gguf.uint("split.tensors.count");
    let found = (gguf.header.tensors.len() + gguf.header.unread.len()) as u64;
    if wanted.is_some_and(|n| n != found) {
        return Err(incomplete(
            &gguf,
            format!("whose parts hold {found} tensors"),
        ));
    }
    // What is in memory is one model; what is written of it is one file.
    gguf.header
        .metadata
        .retain(|key, _| !key.starts_with("split."));
    Ok((gguf, files))
}
