//! Tasks: mappings with the keys of lm-evaluation-harness's task files. What is not read is refused by name.

use serde_json::Value as Json;

use crate::Result;
use crate::error::bad;
use crate::field::{Document, Field};
use crate::fields::Fields;
use crate::filter::Filter;
use crate::generation::Generation;
use crate::metric::Metric;
use crate::windows::Windows;

/// What is asked of the model: `output_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The log-likelihood of a continuation.
    LogLikelihood,
    /// The log-likelihood of a whole text, in windows.
    Rolling,
    /// The log-likelihoods of several continuations.
    MultipleChoice,
    /// An answer.
    Generate,
    /// The perplexity of one text, in windows that transformers' guide or llama-perplexity uses. (Not one of
    /// lm-evaluation-harness's.)
    Perplexity,
}

/// A file format of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFormat {
    /// JSON lines, or a JSON array.
    Json,
    /// Text, each line a record with the field `text`.
    Lines,
    /// Text, each file a record with the field `text`.
    Whole,
}

/// Where the data is.
#[derive(Debug)]
pub struct DataSource {
    /// The task's `dataset_path`.
    pub path: String,
    /// `None` if the path is a data set's name on a hub.
    pub format: Option<DataFormat>,
    /// Files by split. Those without a split are the one that is evaluated.
    pub files: Vec<(Option<String>, String)>,
}

/// How examples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampler {
    Default,
    FirstN,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What is asked of the model.
    pub kind: Kind,
    /// Where the data is.
    pub data: DataSource,
    pub(crate) splits: Splits,
    pub(crate) text: Option<Field>,
    pub(crate) target: Option<Field>,
    pub(crate) choice: Option<Field>,
    pub(crate) description: Option<Field>,
    pub(crate) target_delimiter: String,
    pub(crate) fewshot_delimiter: String,
    pub(crate) num_fewshot: usize,
    pub(crate) sampler: Sampler,
    pub(crate) samples: Option<Vec<Document>>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) generation: Generation,
    pub(crate) repeats: usize,
    pub(crate) windows: Windows,
}

/// The names of the data's splits.
#[derive(Debug)]
pub(crate) struct Splits {
    pub training: Option<String>,
    pub validation: Option<String>,
    pub test: Option<String>,
    pub fewshot: Option<String>,
}

impl Splits {
    /// The one that is evaluated.
    pub fn evaluated(&self) -> Option<&str> {
        self.test.as_deref().or(self.validation.as_deref())
    }

    /// The one that examples are from.
    pub fn examples(&self) -> Option<&str> {
        let training = self.training.as_deref();
        let fewshot = self.fewshot.as_deref();
        fewshot
            .or(training)
            .or(self.validation.as_deref())
            .or(self.test.as_deref())
    }
}

/// Keys that run Python or read something else than text, with what to do instead.
const REFUSED: [(&str, &str); 7] = [
    (
        "process_docs",
        "is Python; give data that it has been applied to, and leave the key out",
    ),
    (
        "process_results",
        "is Python; use `metric_list` (for TruthfulQA's mc2: `metric: mc2` with `labels`)",
    ),
    ("custom_dataset", "is Python; give a file of data"),
    ("class", "is Python"),
    (
        "use_prompt",
        "needs promptsource; write the template into `doc_to_text`",
    ),
    ("doc_to_image", "is for models that read images"),
    ("doc_to_audio", "is for models that read sound"),
];

/// Keys without influence on scores.
const HARMLESS: [&str; 7] = [
    "task_alias",
    "tag",
    "group",
    "metadata",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "dataset_name",
];

impl Task {
    /// Reads a task. `num_fewshot` replaces the task's own.
    ///
    /// # Errors
    /// If a key is missing, or its value is not understood, or it is not supported.
    pub fn parse(json: Json, num_fewshot: Option<usize>) -> Result<Self> {
        let mut fields = Fields::of(json, "")?;
        for (key, what) in REFUSED {
            if fields.take(key).is_some() {
                return bad(key, what);
            }
        }
        fields.ignore(&HARMLESS);
        if let Some(Json::Array(_)) = fields.peek("task") {
            return bad(
                "task",
                "is a list, as groups have; give the files of its tasks",
            );
        }
        let Some(name) = fields.text("task")? else {
            return fields.missing("task");
        };
        let kind = kind(&mut fields)?;
        let data = data(&mut fields)?;
        let repeats = fields.count("repeats")?.unwrap_or(1);
        if repeats == 0 || repeats > 1 && kind != Kind::Generate {
            return bad("repeats", "must be 1, or more for generate_until");
        }
        let fewshot_delimiter = fields.text("fewshot_delimiter")?.unwrap_or("\n\n".into());
        let metrics = fields.mappings("metric_list")?;
        let filters = match fields.mappings("filter_list")? {
            Some(_) if kind != Kind::Generate => {
                return bad("filter_list", "is for generate_until only");
            }
            Some(all) => {
                let filters = all.into_iter().map(|f| Filter::parse(f, repeats));
                filters.collect::<Result<_>>()?
            }
            None => vec![Filter::none()],
        };
        let (sampler, samples) = fewshot_config(&mut fields)?;
        let own = fields.count("num_fewshot")?.unwrap_or(0);
        let task = Self {
            name,
            kind,
            data,
            splits: Splits {
                training: fields.text("training_split")?,
                validation: fields.text("validation_split")?,
                test: fields.text("test_split")?,
                fewshot: fields.text("fewshot_split")?,
            },
            text: Field::take(&mut fields, "doc_to_text")?,
            target: Field::take(&mut fields, "doc_to_target")?,
            choice: Field::take(&mut fields, "doc_to_choice")?,
            description: Field::take(&mut fields, "description")?,
            target_delimiter: fields.text("target_delimiter")?.unwrap_or(" ".into()),
            num_fewshot: num_fewshot.unwrap_or(own),
            sampler,
            samples,
            metrics: Metric::parse_all(metrics, kind)?,
            filters,
            generation: Generation::take(&mut fields, kind, &fewshot_delimiter)?,
            fewshot_delimiter,
            repeats,
            windows: Windows::take(&mut fields, kind)?,
        };
        let needed = match kind {
            Kind::MultipleChoice => vec!["doc_to_text", "doc_to_target", "doc_to_choice"],
            Kind::LogLikelihood => vec!["doc_to_text", "doc_to_target"],
            Kind::Generate if task.metrics.iter().any(|m| m.name == "exact_match") => {
                vec!["doc_to_text", "doc_to_target"]
            }
            Kind::Generate | Kind::Perplexity => vec!["doc_to_text"],
            Kind::Rolling => vec!["doc_to_target"],
        };
        for key in needed {
            let field = match key {
                "doc_to_text" => &task.text,
                "doc_to_target" => &task.target,
                _ => &task.choice,
            };
            if field.is_none() {
                return bad(key, "is missing");
            }
        }
        fields.finish()?;
        Ok(task)
    }

    /// The splits of the data that it needs; `None` for the one without a name.
    pub fn needed_splits(&self) -> Vec<Option<&str>> {
        let mut all = vec![self.splits.evaluated()];
        if self.num_fewshot > 0 && (self.splits.fewshot.is_some() || self.samples.is_none()) {
            all.push(self.splits.examples());
        }
        all.dedup();
        all
    }
}

fn kind(fields: &mut Fields) -> Result<Kind> {
    let given = fields.text("output_type")?;
    Ok(match given.as_deref().unwrap_or("generate_until") {
        "loglikelihood" => Kind::LogLikelihood,
        "loglikelihood_rolling" => Kind::Rolling,
        "multiple_choice" => Kind::MultipleChoice,
        "generate_until" => Kind::Generate,
        "perplexity" => Kind::Perplexity,
        other => {
            return bad(
                "output_type",
                format!(
                    "is `{other}`; use multiple_choice, loglikelihood, loglikelihood_rolling, generate_until or \
                     perplexity"
                ),
            );
        }
    })
}

fn data(fields: &mut Fields) -> Result<DataSource> {
    let Some(path) = fields.text("dataset_path")? else {
        return fields.missing("dataset_path");
    };
    let mut files = vec![];
    let mut format = match path.as_str() {
        "json" => Some(DataFormat::Json),
        "text" => Some(DataFormat::Lines),
        _ => None,
    };
    if let Some(given) = fields.take("dataset_kwargs") {
        let mut given = Fields::of(given, "dataset_kwargs.")?;
        given.ignore(&["trust_remote_code"]);
        if let Some(by) = given.text("sample_by")? {
            format = match (by.as_str(), format) {
                ("line", Some(DataFormat::Lines)) => format,
                ("document", Some(DataFormat::Lines)) => Some(DataFormat::Whole),
                _ => {
                    return bad(
                        "dataset_kwargs.sample_by",
                        "must be line or document, of text",
                    );
                }
            };
        }
        let wrong = "is neither a file, nor files by split";
        match given.take("data_files") {
            None => {}
            Some(Json::String(file)) => files.push((None, file)),
            Some(Json::Array(list)) => {
                for file in list {
                    match file {
                        Json::String(file) => files.push((None, file)),
                        _ => return bad("dataset_kwargs.data_files", wrong),
                    }
                }
            }
            Some(Json::Object(map)) => {
                let mut splits =
                    Fields::of(Json::Object(map.clone()), "dataset_kwargs.data_files.")?;
                for split in map.keys() {
                    let of = splits.texts(split)?.unwrap_or_default();
                    files.extend(of.into_iter().map(|f| (Some(split.clone()), f)));
                }
            }
            Some(_) => return bad("dataset_kwargs.data_files", wrong),
        }
        given.finish()?;
    }
    Ok(DataSource {
        path,
        format,
        files,
    })
}

fn fewshot_config(fields: &mut Fields) -> Result<(Sampler, Option<Vec<Document>>)> {
    let Some(given) = fields.take("fewshot_config") else {
        return Ok((Sampler::Default, None));
    };
    let mut given = Fields::of(given, "fewshot_config.")?;
    let sampler = match given.text("sampler")?.as_deref() {
        None | Some("default") => Sampler::Default,
        Some("first_n") => Sampler::FirstN,
        Some(other) => {
            return bad(
                "fewshot_config.sampler",
                format!("is `{other}`; use default or first_n"),
            );
        }
    };
    let mut samples = None;
    if let Some(list) = given.list("samples")? {
        let document = |v: Json| match v {
            Json::Object(map) => Ok(map),
            _ => bad(
                "fewshot_config.samples",
                "has an example that is not a mapping",
            ),
        };
        samples = Some(list.into_iter().map(document).collect::<Result<_>>()?);
    }
    given.finish()?;
    Ok((sampler, samples))
}
