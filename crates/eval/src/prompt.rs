//! What a task asks about each record: contexts with their examples, and what is to follow them. As in
//! lm-evaluation-harness's `api/task.py`.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use siskin_engine::{ScoredText, Session};

use crate::encoding::prefix_token;
use crate::field::Document;
use crate::random::Random;
use crate::task::{Kind, Sampler, Task};
use crate::{Error, Result};

/// lm-evaluation-harness's own, with which it draws examples.
const FEWSHOT_SEED: u32 = 1234;

/// Records by split; those of the name `None` are of any split.
pub type Data = BTreeMap<Option<String>, Vec<Document>>;

/// A context and what is to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub context: String,
    pub continuation: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Pairs(Vec<Pair>),
    Rolling(String),
    Generate(String),
    Window(ScoredText),
}

/// What is asked about one record.
#[derive(Debug)]
pub struct Item {
    /// Which record it is, from 0 on.
    pub index: usize,
    pub(crate) document: Document,
    pub(crate) request: Request,
    /// The choices, if there are any.
    pub(crate) choices: Vec<String>,
    pub(crate) target: Json,
}

impl Item {
    /// The text that is put before the model, or the first of several.
    pub fn prompt(&self) -> &str {
        match &self.request {
            Request::Pairs(pairs) => pairs.first().map_or("", |p| &p.context),
            Request::Rolling(text) | Request::Generate(text) => text,
            Request::Window(_) => "",
        }
    }
}

type Told<T> = std::result::Result<T, String>;

impl Task {
    /// What is asked about each record. Sessions differ in tokens and context.
    ///
    /// # Errors
    /// If there is no data, or a record does not have what the task needs.
    pub fn items(&self, data: &Data, session: &Session) -> Result<Vec<Item>> {
        let documents = self.split(data, self.splits.evaluated())?;
        if documents.is_empty() {
            return Err(Error::Data("the data has no records".into()));
        }
        if self.kind == Kind::Perplexity {
            return self.window_items(documents, session);
        }
        let examples = match (&self.samples, &self.splits.fewshot) {
            _ if self.num_fewshot == 0 => &[],
            (Some(samples), None) => &samples[..],
            _ => self.split(data, self.splits.examples())?,
        };
        let mut random = Random::new(FEWSHOT_SEED);
        let is_multiple_input = self.is_multiple_input(&documents[0]);
        let mut out = vec![];
        for (index, document) in documents.iter().enumerate() {
            let found = self
                .examples(document, examples, &mut random)
                .and_then(|examples| self.context(document, &examples, is_multiple_input))
                .and_then(|context| self.item(index, document, &context, is_multiple_input));
            out.push(found.map_err(|what| Error::record(index, what))?);
        }
        Ok(out)
    }

    /// The records of a split. Those without a split are the ones that are evaluated: as examples, they would tell answers.
    fn split<'a>(&self, data: &'a Data, name: Option<&str>) -> Result<&'a [Document]> {
        let is_evaluated = name == self.splits.evaluated();
        let unnamed = || data.get(&None).filter(|_| is_evaluated);
        let found = data.get(&name.map(String::from)).or_else(unnamed);
        // Without a split of the task, that of the data.
        let only = || {
            let has_one = name.is_none() && data.len() == 1;
            data.values().next().filter(|_| has_one)
        };
        let found = found.or_else(only);
        found.map(Vec::as_slice).ok_or_else(|| {
            Error::Data(match name {
                Some(name) => format!("there is no data of the split `{name}`"),
                None => "it does not say which split is evaluated (`test_split`)".into(),
            })
        })
    }

    /// The text as one, in windows.
    fn window_items(&self, documents: &[Document], session: &Session) -> Result<Vec<Item>> {
        let mut texts = vec![];
        for (i, document) in documents.iter().enumerate() {
            if let Some(field) = &self.text {
                let text = field
                    .text(document)
                    .map_err(|what| Error::record(i, what))?;
                texts.push(text);
            }
        }
        let text = texts.join(&self.windows.separator);
        let tokens = session.text.encode(&text)?;
        let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
        let bos = tokens
            .first()
            .filter(|t| t.end == 0 && t.special)
            .map(|t| t.id);
        let windows = self.windows.of(&ids, session.context(), bos)?;
        if windows.is_empty() {
            return Err(Error::Data("the text has no token to score".into()));
        }
        let item = |(index, window)| Item {
            index,
            document: Document::new(),
            request: Request::Window(window),
            choices: vec![],
            target: Json::Null,
        };
        Ok(windows.into_iter().enumerate().map(item).collect())
    }

    /// Whether `doc_to_text` says which of the choices is right, and these are contexts: WinoGrande's form.
    fn is_multiple_input(&self, first: &Document) -> bool {
        self.kind == Kind::MultipleChoice && self.text_of(first).is_ok_and(|text| text.is_i64())
    }

    fn text_of(&self, document: &Document) -> Told<Json> {
        match &self.text {
            Some(field) => field.text_or_index(document, self.choice.is_some()),
            None => Ok("".into()),
        }
    }

    fn target_of(&self, document: &Document) -> Told<Json> {
        match &self.target {
            Some(field) => field.target(document, self.choice.is_some()),
            None => Ok(Json::Null),
        }
    }

    fn choices_of(&self, document: &Document) -> Told<Option<Vec<String>>> {
        self.choice.as_ref().map(|c| c.texts(document)).transpose()
    }

    /// The examples before a record.
    fn examples<'a>(
        &self,
        document: &Document,
        all: &'a [Document],
        random: &mut Random,
    ) -> Told<Vec<&'a Document>> {
        let n = self.num_fewshot;
        if n == 0 {
            return Ok(vec![]);
        }
        // An example that is the record itself would tell the answer.
        let may_be_own = self.splits.fewshot == self.splits.test;
        let is_other = |d: &&Document| !may_be_own || *d != document;
        let drawn: Vec<&Document> = match self.sampler {
            Sampler::FirstN => all.iter().filter(is_other).take(n).collect(),
            Sampler::Default => {
                let k = n + usize::from(may_be_own);
                if k > all.len() {
                    return Err(format!(
                        "{k} examples are drawn, and there are {} (`num_fewshot`)",
                        all.len()
                    ));
                }
                let drawn = random.sample(all.len(), k);
                let drawn: Vec<&Document> = drawn.into_iter().map(|i| &all[i]).collect();
                let others: Vec<&Document> = drawn.into_iter().filter(is_other).take(n).collect();
                match others.len() == n {
                    true => others,
                    false => {
                        let pool: Vec<&Document> = all.iter().filter(is_other).collect();
                        if n > pool.len() {
                            return Err(format!("there are {} other examples", pool.len()));
                        }
                        let drawn = random.sample(pool.len(), n);
                        drawn.into_iter().map(|i| pool[i]).collect()
                    }
                }
            }
        };
        match drawn.len() == n {
            true => Ok(drawn),
            false => Err(format!(
                "there are {} examples, and `num_fewshot` is {n}",
                drawn.len()
            )),
        }
    }

    /// The contexts of a record: one for each choice if these are contexts themselves.
    fn context(
        &self,
        document: &Document,
        examples: &[&Document],
        is_multiple_input: bool,
    ) -> Told<Vec<String>> {
        let mut before = match &self.description {
            Some(description) => description.text(document)?,
            None => String::new(),
        };
        for example in examples {
            self.push_example(&mut before, example, is_multiple_input)?;
        }
        if is_multiple_input {
            let choices = self.choices_of(document)?.unwrap_or_default();
            return Ok(choices.iter().map(|c| format!("{before}{c}")).collect());
        }
        match self.text_of(document)? {
            Json::String(text) => Ok(vec![before + &text]),
            other => Err(format!("`doc_to_text` is {other}, which is not a text")),
        }
    }

    fn push_example(
        &self,
        to: &mut String,
        example: &Document,
        is_multiple_input: bool,
    ) -> Told<()> {
        let choices = self.choices_of(example)?;
        let choice = |i: &Json| {
            let place = i.as_u64().map(|i| i as usize);
            let found = place.and_then(|i| choices.as_ref()?.get(i).cloned());
            found.ok_or_else(|| format!("an example's choice {i} does not exist"))
        };
        let text = match self.text_of(example)? {
            Json::String(text) => text,
            index => choice(&index)?,
        };
        let answer = match self.target_of(example)? {
            Json::String(text) => text,
            index @ Json::Number(_) if !is_multiple_input => choice(&index)?,
            Json::Array(list) => match list.first() {
                Some(Json::String(text)) => text.clone(),
                _ => return Err("an example's first target is not a text".into()),
            },
            other => {
                return Err(format!(
                    "an example's target is {other}, which is not a text"
                ));
            }
        };
        to.push_str(&text);
        if !answer.is_empty() {
            to.push_str(&self.target_delimiter);
            to.push_str(&answer);
            to.push_str(&self.fewshot_delimiter);
        }
        Ok(())
    }

    fn item(
        &self,
        index: usize,
        document: &Document,
        contexts: &[String],
        is_multiple_input: bool,
    ) -> Told<Item> {
        let choices = self.choices_of(document)?.unwrap_or_default();
        let mut target = self.target_of(document)?;
        let context = contexts.first().cloned().unwrap_or_default();
        let text = |target: &Json| match target {
            Json::String(text) => Ok(text.clone()),
            other => Err(format!("`doc_to_target` is {other}, which is not a text")),
        };
        let delimiter = &self.target_delimiter;
        let request = match self.kind {
            Kind::LogLikelihood => Request::Pairs(vec![Pair {
                context,
                continuation: text(&target)?,
            }]),
            Kind::Rolling => Request::Rolling(text(&target)?),
            Kind::Generate | Kind::Perplexity => Request::Generate(context),
            Kind::MultipleChoice if choices.is_empty() => return Err("it has no choices".into()),
            Kind::MultipleChoice => {
                let pair = |context: &str, text: &str| Pair {
                    context: context.into(),
                    continuation: format!("{delimiter}{text}"),
                };
                let mut pairs: Vec<Pair> = match is_multiple_input {
                    true => {
                        let next = text(&target)?;
                        target = self.text_of(document)?;
                        contexts.iter().map(|c| pair(c, &next)).collect()
                    }
                    false => choices.iter().map(|c| pair(&context, c)).collect(),
                };
                if self.metrics.iter().any(|m| m.name == "acc_mutual_info") {
                    pairs.extend(choices.iter().map(|c| pair("", c)));
                }
                Request::Pairs(pairs)
            }
        };
        Ok(Item {
            index,
            document: document.clone(),
            request,
            choices,
            target,
        })
    }

    /// Refuses models without which a task has nothing to put before a text.
    pub(crate) fn check_prefix(&self, session: &Session) -> Result<u32> {
        prefix_token(&session.text).ok_or_else(|| {
            Error::Data(
                "the model has neither a token that begins a text nor one that ends it".into(),
            )
        })
    }
}
