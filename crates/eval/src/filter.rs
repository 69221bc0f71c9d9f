//! What is taken from answers, and how it is compared: lm-evaluation-harness's filters and its `exact_match`.

use std::collections::HashMap;

use fancy_regex::Regex;
use serde_json::Value as Json;

use crate::error::bad;
use crate::fields::Fields;
use crate::{Error, Result};

/// An expression of Python's `re`.
pub(crate) fn regex(key: String, source: &str) -> Result<Regex> {
    Regex::new(&from_python(source)).map_err(|e| Error::Key {
        key,
        what: format!("is no regular expression: {e}"),
    })
}

/// Python's `$` also matches before a newline at the end.
fn from_python(source: &str) -> String {
    if source.contains("(?m") || source.contains("(?x") {
        return source.into();
    }
    let (mut out, mut in_class) = (String::new(), false);
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
            }
            '$' if !in_class => out.push_str(r"(?=\n?\z)"),
            c => {
                in_class = c == '[' || in_class && c != ']';
                out.push(c);
            }
        }
    }
    out
}

#[derive(Debug)]
enum Function {
    Regex {
        regex: Regex,
        group_select: i64,
        fallback: String,
    },
    Map {
        map: HashMap<String, String>,
        default: String,
    },
    TakeFirst,
    TakeFirstOf(usize),
    MajorityVote,
    Lowercase,
    Uppercase,
    RemoveWhitespace,
}

/// One way to a result from the answers to a record.
#[derive(Debug)]
pub(crate) struct Filter {
    /// `none` for the answer as it is.
    pub name: String,
    functions: Vec<Function>,
}

impl Filter {
    /// Takes the first answer as it is.
    pub fn none() -> Self {
        Self {
            name: "none".into(),
            functions: vec![Function::TakeFirst],
        }
    }

    pub fn parse(mut fields: Fields, repeats: usize) -> Result<Self> {
        let Some(name) = fields.text("name")? else {
            return fields.missing("name");
        };
        let Some(list) = fields.mappings("filter")? else {
            return fields.missing("filter");
        };
        let key = fields.key("filter");
        fields.finish()?;
        let mut functions = vec![];
        for fields in list {
            functions.push(Function::parse(fields, repeats)?);
        }
        match functions.last() {
            Some(Function::TakeFirst) => Ok(Self { name, functions }),
            _ => bad(key, "does not end with take_first, which leaves one result"),
        }
    }

    /// The result.
    pub fn apply(&self, answers: &[String]) -> String {
        let mut answers = answers.to_vec();
        for function in &self.functions {
            function.apply(&mut answers);
        }
        answers.into_iter().next().unwrap_or_default()
    }
}

impl Function {
    fn parse(mut fields: Fields, repeats: usize) -> Result<Self> {
        let Some(name) = fields.text("function")? else {
            return fields.missing("function");
        };
        let function = match name.as_str() {
            "regex" => {
                let source = fields.text("regex_pattern")?;
                let source = source.unwrap_or_else(|| r"#### (\-?[0-9\.\,]+)".into());
                Self::Regex {
                    regex: regex(fields.key("regex_pattern"), &source)?,
                    group_select: fields.int("group_select")?.unwrap_or(0),
                    fallback: fields.text("fallback")?.unwrap_or("[invalid]".into()),
                }
            }
            "map" => {
                let key = fields.key("mapping_dict");
                let map = match fields.take("mapping_dict") {
                    Some(Json::Object(map)) => map.into_iter(),
                    _ => return bad(key, "is not a mapping"),
                };
                let text = |(from, to): (String, Json)| match to {
                    Json::String(to) => Ok((from, to)),
                    Json::Number(to) => Ok((from, to.to_string())),
                    _ => bad(
                        key.clone(),
                        "has a value that is neither a text nor a number",
                    ),
                };
                Self::Map {
                    map: map.map(text).collect::<Result<_>>()?,
                    default: fields.text("default_value")?.unwrap_or("None".into()),
                }
            }
            "take_first" => Self::TakeFirst,
            "take_first_k" => {
                let Some(k) = fields.count("k")? else {
                    return fields.missing("k");
                };
                if k == 0 || k > repeats {
                    return bad(
                        fields.key("k"),
                        format!("is {k}, but `repeats` is {repeats}"),
                    );
                }
                Self::TakeFirstOf(k)
            }
            "majority_vote" => Self::MajorityVote,
            "lowercase" => Self::Lowercase,
            "uppercase" => Self::Uppercase,
            "remove_whitespace" => Self::RemoveWhitespace,
            other => {
                return bad(
                    fields.key("function"),
                    format!(
                        "is `{other}`; use regex, map, take_first, take_first_k, majority_vote, lowercase, \
                         uppercase or remove_whitespace"
                    ),
                );
            }
        };
        fields.finish()?;
        Ok(function)
    }

    fn apply(&self, answers: &mut Vec<String>) {
        match self {
            Self::TakeFirst => answers.truncate(1),
            Self::TakeFirstOf(k) => answers.truncate(*k),
            Self::MajorityVote => *answers = vec![majority(answers)],
            _ => answers.iter_mut().for_each(|a| *a = self.one(a)),
        }
    }

    fn one(&self, answer: &str) -> String {
        match self {
            Self::Regex {
                regex,
                group_select,
                fallback,
            } => selected(regex, *group_select, answer).unwrap_or_else(|| fallback.clone()),
            Self::Map { map, default } => map.get(answer).unwrap_or(default).clone(),
            Self::Lowercase => answer.to_lowercase(),
            Self::Uppercase => answer.to_uppercase(),
            Self::RemoveWhitespace => answer.trim().into(),
            Self::TakeFirst | Self::TakeFirstOf(_) | Self::MajorityVote => answer.into(),
        }
    }
}

/// The first of those that are most frequent.
fn majority(answers: &[String]) -> String {
    let votes = |answer: &String| answers.iter().filter(|a| *a == answer).count();
    let elected = answers.iter().rev().max_by_key(|a| votes(a));
    elected.cloned().unwrap_or_default()
}

/// One of the matches, as Python's `findall` lists them: of several groups, the first that is not empty.
fn selected(regex: &Regex, select: i64, answer: &str) -> Option<String> {
    let found: Vec<_> = regex.captures_iter(answer).map_while(|m| m.ok()).collect();
    let place = match select {
        0.. => select as usize,
        back => found.len().checked_sub(back.unsigned_abs() as usize)?,
    };
    let captures = found.get(place)?;
    let group = |i: usize| captures.get(i).map_or("", |m| m.as_str());
    let text = match captures.len() {
        1 => group(0),
        2 => group(1),
        n => (1..n).map(group).find(|g| !g.is_empty())?,
    };
    Some(text.trim().into())
}

/// How texts are compared.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    ignored: Vec<Regex>,
    ignore_case: bool,
    ignore_punctuation: bool,
    ignore_numbers: bool,
}

impl Comparison {
    pub fn take(fields: &mut Fields) -> Result<Self> {
        let key = fields.key("regexes_to_ignore");
        let ignored = fields.texts("regexes_to_ignore")?.unwrap_or_default();
        let ignored = ignored.iter().map(|source| regex(key.clone(), source));
        Ok(Self {
            ignored: ignored.collect::<Result<_>>()?,
            ignore_case: fields.flag("ignore_case")?.unwrap_or(false),
            ignore_punctuation: fields.flag("ignore_punctuation")?.unwrap_or(false),
            ignore_numbers: fields.flag("ignore_numbers")?.unwrap_or(false),
        })
    }

    fn reduced(&self, text: &str) -> String {
        let mut text = text.to_string();
        for regex in &self.ignored {
            text = regex.replace_all(&text, "").into_owned();
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        text.retain(|c| {
            !(self.ignore_punctuation && c.is_ascii_punctuation()
                || self.ignore_numbers && c.is_ascii_digit())
        });
        text
    }

    pub fn is_equal(&self, a: &str, b: &str) -> bool {
        self.reduced(a) == self.reduced(b)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{Comparison, Filter};
    use crate::fields::Fields;

    /// Of lm-evaluation-harness: `tests/fixtures/generate_eval.py`.
    const RECORDED: &str = include_str!("../../../tests/fixtures/eval/filters.json");

    fn texts(json: &Json) -> Vec<String> {
        serde_json::from_value(json.clone()).unwrap()
    }

    #[test]
    fn results_and_comparisons_are_the_recorded_ones() {
        let recorded: Json = serde_json::from_str(RECORDED).unwrap();
        for case in recorded["filters"].as_array().unwrap() {
            let filter = json!({"name": "x", "filter": case["filter"]});
            let filter = Filter::parse(Fields::of(filter, "").unwrap(), 5).unwrap();
            let result = filter.apply(&texts(&case["answers"]));
            assert_eq!(result, case["result"], "{case}");
        }
        for case in recorded["comparisons"].as_array().unwrap() {
            let mut options = Fields::of(case["options"].clone(), "").unwrap();
            let comparison = Comparison::take(&mut options).unwrap();
            options.finish().unwrap();
            let [a, b] = &texts(&case["texts"])[..] else {
                panic!("{case}");
            };
            assert_eq!(comparison.is_equal(a, b), case["equal"], "{case}");
        }
    }
}
