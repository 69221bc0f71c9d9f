//! Tasks and their data, from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value as Json};
use siskin_eval::{Data, DataFormat, Document, Error, Task};

use super::yaml;

/// Files that include each other.
const MAX_INCLUDES: usize = 8;

/// A task with its data.
#[derive(Debug)]
pub struct TaskFile {
    pub path: PathBuf,
    /// What the file says, with what it includes.
    pub json: Json,
    pub task: Task,
    pub data: Data,
    /// Where the records of each split are: a file, and a line for each of its records.
    places: BTreeMap<Option<String>, Vec<(PathBuf, usize)>>,
}

/// `[SPLIT=]FILE`s of the command line.
pub type GivenData = Vec<(Option<String>, PathBuf)>;

/// A split's name has nothing of a path.
pub fn given_data(given: &[String]) -> GivenData {
    let one = |given: &String| match given.split_once('=') {
        Some((split, file)) if !split.contains(['/', '\\', '.']) => {
            (Some(split.to_string()), file.into())
        }
        _ => (None, given.into()),
    };
    given.iter().map(one).collect()
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        anyhow!("{}, line {line}: not UTF-8", path.display())
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), String::from))
}

/// A task's mapping, on top of those that it includes.
fn read_mapping(path: &Path, depth: usize) -> Result<Map<String, Json>> {
    let name = path.display();
    if depth > MAX_INCLUDES {
        bail!("{name}: `include` goes around in a circle");
    }
    let text = read(path)?;
    let is_json = path.extension().is_some_and(|e| e == "json");
    let json = match is_json {
        true => serde_json::from_str(&text).with_context(|| format!("{name}: not JSON"))?,
        false => yaml::parse(&text).with_context(|| name.to_string())?,
    };
    let Json::Object(mut own) = json else {
        bail!("{name} is not a task: it is not a mapping of keys");
    };
    let included = match own.shift_remove("include") {
        None => vec![],
        Some(Json::String(file)) => vec![file],
        Some(Json::Array(files)) => {
            let file = |f: &Json| f.as_str().map(String::from);
            let files: Option<Vec<String>> = files.iter().map(file).collect();
            files.with_context(|| format!("{name}: `include` is not a list of files"))?
        }
        Some(_) => bail!("{name}: `include` is neither a file nor a list of files"),
    };
    let mut all = Map::new();
    for file in included {
        all.extend(read_mapping(&path.with_file_name(file), depth + 1)?);
    }
    all.extend(own);
    Ok(all)
}

/// Names the file, and the line if it is that of a key.
fn placed(path: &Path, error: Error) -> anyhow::Error {
    let name = path.display();
    if let Error::Key { key, .. } = &error {
        let last = key.rsplit('.').next().unwrap_or(key);
        let last = last.split('[').next().unwrap_or(last);
        let begins = |line: &str| {
            let line = line.trim_start_matches([' ', '-', '{', '"', '\'']);
            line.strip_prefix(last)
                .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
        };
        let text = read(path).unwrap_or_default();
        if let Some(line) = text.lines().position(begins) {
            return anyhow!("{name}, line {}: {error}", line + 1);
        }
    }
    anyhow!(error).context(name.to_string())
}

impl TaskFile {
    pub fn open(path: &Path, given: &GivenData, num_fewshot: Option<usize>) -> Result<Self> {
        let json = Json::Object(read_mapping(path, 0)?);
        let task = Task::parse(json.clone(), num_fewshot).map_err(|e| placed(path, e))?;
        let mut file = Self {
            path: path.into(),
            json,
            task,
            data: Data::new(),
            places: BTreeMap::new(),
        };
        file.read_data(given)?;
        Ok(file)
    }

    fn read_data(&mut self, given: &GivenData) -> Result<()> {
        let source = &self.task.data;
        let needed = self.task.needed_splits();
        let is_needed = |split: &Option<String>| {
            split.is_none() || needed.iter().any(|n| n.is_none() || *n == split.as_deref())
        };
        let from_task: GivenData = source
            .files
            .iter()
            .map(|(split, file)| (split.clone(), self.path.with_file_name("").join(file)))
            .collect();
        let files = if given.is_empty() { &from_task } else { given };
        if files.is_empty() {
            let split = needed.first().copied().flatten();
            let what = format!(
                "is `{}`, which is not a file; give its records as JSON lines with --data {}FILE",
                source.path,
                split.map_or(String::new(), |split| format!("{split}="))
            );
            let key = "dataset_path".into();
            return Err(placed(&self.path, Error::Key { key, what }));
        }
        let format = match (source.format, given.is_empty()) {
            (Some(format), _) => format,
            (None, false) => DataFormat::Json,
            (None, true) => {
                let what = format!(
                    "is `{}`, whose files are not read from a hub; use json or text, or --data",
                    source.path
                );
                let key = "dataset_path".into();
                return Err(placed(&self.path, Error::Key { key, what }));
            }
        };
        for (split, file) in files.iter().filter(|(split, _)| is_needed(split)) {
            let records = records(file, format)?;
            let places = records.iter().map(|(line, _)| (file.clone(), *line));
            self.places.entry(split.clone()).or_default().extend(places);
            let documents = records.into_iter().map(|(_, document)| document);
            self.data
                .entry(split.clone())
                .or_default()
                .extend(documents);
        }
        Ok(())
    }

    /// Names the file of an error, and the line of a record.
    pub fn placed(&self, error: Error) -> anyhow::Error {
        let Error::Record { number, what } = &error else {
            return placed(&self.path, error);
        };
        let split = self.task.needed_splits()[0].map(String::from);
        let places = self.places.get(&split).or(self.places.get(&None));
        let only = || self.places.values().next();
        match places.or_else(only).and_then(|p| p.get(number - 1)) {
            Some((file, line)) => {
                let task = self.path.display();
                anyhow!("{}, line {line}: {what} ({task})", file.display())
            }
            None => placed(&self.path, error),
        }
    }
}

/// Records with their lines.
fn records(path: &Path, format: DataFormat) -> Result<Vec<(usize, Document)>> {
    let name = path.display();
    if path.extension().is_some_and(|e| e == "parquet") {
        bail!(
            "{name} is Parquet, which is not read; write it as JSON lines (in pandas, `to_json(orient=\"records\", lines=True)`)"
        );
    }
    let text = read(path)?;
    let text_record = |text: &str| Map::from_iter([("text".to_string(), Json::from(text))]);
    match format {
        DataFormat::Whole => return Ok(vec![(1, text_record(&text))]),
        DataFormat::Lines => {
            let lines = text.lines().enumerate();
            return Ok(lines.map(|(i, line)| (i + 1, text_record(line))).collect());
        }
        DataFormat::Json => {}
    }
    let not_object = |line: usize| anyhow!("{name}, line {line}: not a JSON object");
    if text.trim_start().starts_with('[') {
        let list: Vec<Json> =
            serde_json::from_str(&text).with_context(|| format!("{name}: not JSON"))?;
        // All begin at the list's line.
        let object = |v| match v {
            Json::Object(map) => Ok((1, map)),
            _ => Err(not_object(1)),
        };
        return list.into_iter().map(object).collect();
    }
    let mut out = vec![];
    for (i, line) in text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let json = serde_json::from_str(line);
        match json.with_context(|| format!("{name}, line {}: not JSON", i + 1))? {
            Json::Object(map) => out.push((i + 1, map)),
            _ => return Err(not_object(i + 1)),
        }
    }
    Ok(out)
}
