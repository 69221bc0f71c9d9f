//! Examples as an objective sees them: one text or several that belong together.

use siskin_text::TextModel;

use crate::objective::DataKind;
use crate::prompt::prompt_tokens;
use crate::{Error, Example, Limit, Objective, Record, Result, Tokens, TrainOptions};

/// An example's texts, which run together.
#[derive(Debug, Clone)]
pub struct Item {
    /// One to be learned; or the chosen and the rejected answer; or an answer with a label.
    pub texts: Vec<Tokens>,
    /// Whether the answer is desirable.
    pub label: Option<bool>,
    /// The prompt with the answer to another one, by which KTO estimates the divergence from the reference.
    pub mismatched: Option<Tokens>,
    /// The most tokens that an answer to a prompt may have.
    pub completion: usize,
}

impl Item {
    /// `Ok(Err(reason))` states why the objective cannot learn from an example.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(crate) fn of(
        model: &TextModel,
        example: &Example,
        options: &TrainOptions,
        limit: Limit,
    ) -> Result<std::result::Result<Self, String>> {
        let item = |texts, label| Self {
            texts,
            label,
            mismatched: None,
            completion: 0,
        };
        match (options.objective.data(), example) {
            (DataKind::Answers, Example::Chat(_) | Example::Text { .. }) => {
                let tokens = Tokens::of(model, example, options.loss_on, limit)?;
                Ok(tokens.map(|t| item(vec![t], None)))
            }
            (DataKind::Pairs, Example::Preference(preference)) => {
                let mut texts = vec![];
                for (key, answer) in ["chosen", "rejected"].into_iter().zip(preference.answers()) {
                    match Tokens::of_answer(model, &answer, limit)? {
                        Ok(tokens) => texts.push(tokens),
                        Err(reason) => return Ok(Err(format!("`{key}`: {reason}"))),
                    }
                }
                if texts[0].ids == texts[1].ids {
                    let kept = limit.tokens;
                    return Ok(Err(format!(
                        "`chosen` and `rejected` are the same to the model, which sees {kept} tokens at most"
                    )));
                }
                Ok(Ok(item(texts, None)))
            }
            (DataKind::Rated, Example::Rated(rated)) => {
                let tokens = Tokens::of_answer(model, &rated.answered(), limit)?;
                let tokens = tokens.map_err(|reason| format!("`completion`: {reason}"));
                Ok(tokens.map(|t| item(vec![t], Some(rated.label))))
            }
            (DataKind::Prompts, Example::Chat(_) | Example::Prompt(_)) => {
                let most = options.max_completion_length();
                Ok(
                    prompt_tokens(model, example, most, limit)?.map(|tokens| Self {
                        completion: most,
                        ..item(vec![tokens], None)
                    }),
                )
            }
            _ => Ok(Err(other_data(options.objective, example))),
        }
    }

    /// All of an example: several of a text that is cut into chunks.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(crate) fn all_of(
        model: &TextModel,
        example: &Example,
        options: &TrainOptions,
        limit: Limit,
    ) -> Result<std::result::Result<Vec<Self>, String>> {
        if let (Some(overlap), Example::Text { text }) = (options.chunk_overlap, example) {
            let chunks = Tokens::chunks_of(model, text, limit.tokens, overlap)?;
            if chunks.len() > 1 {
                let item = |tokens| Self {
                    texts: vec![tokens],
                    label: None,
                    mismatched: None,
                    completion: 0,
                };
                return Ok(Ok(chunks.into_iter().map(item).collect()));
            }
        }
        let item = Self::of(model, example, options, limit)?;
        Ok(item.map(|item| vec![item]))
    }

    /// Rows of a run that it takes.
    pub fn rows(&self) -> usize {
        self.texts.iter().map(Tokens::rows).sum::<usize>() + self.completion
    }
}

/// Why an example is not for the objective.
fn other_data(objective: Objective, example: &Example) -> String {
    let columns = match example {
        Example::Prompt(p) if !p.columns.is_empty() => {
            let names: Vec<&str> = p.columns.keys().map(String::as_str).collect();
            format!(" (its other fields are {})", names.join(", "))
        }
        _ => String::new(),
    };
    let has = match example {
        Example::Chat(_) => "an answer without a `label`, which is for the objective sft",
        Example::Text { .. } => "`text`, which is for the objective sft",
        Example::Preference(_) => {
            "`chosen` and `rejected`, which are for the objectives dpo, orpo, simpo and cpo"
        }
        Example::Rated(_) => "a `label`, which is for the objective kto",
        Example::Prompt(_) => "no answer, which is for the objectives grpo and rloo",
    };
    let needs = match objective.data() {
        DataKind::Answers => "answers without a `label`",
        DataKind::Pairs => "`chosen` and `rejected`",
        DataKind::Rated => "`prompt`, `completion` and `label`",
        DataKind::Prompts => "prompts, with or without an answer",
    };
    format!(
        "it has {has}{columns}; the objective {} needs {needs}",
        objective.name()
    )
}

/// KTO needs answers of both kinds.
///
/// # Errors
/// If there is only one.
pub(crate) fn check_labels(items: &[(&Record, &Item)]) -> Result<()> {
    let labels = || items.iter().filter_map(|i| i.1.label);
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return Ok(());
    };
    let Some(only) = labels()
        .next()
        .filter(|first| labels().all(|l| l == *first))
    else {
        return Ok(());
    };
    Err(Error::OneLabel {
        name: "the data".into(),
        first: first.0.line,
        last: last.0.line,
        label: only,
    })
}

/// Gives each item the answer of another one of its group, the one before it, as TRL does: examples are in groups of a
/// step's size. The answer of one that is alone in the last group is from the group before.
pub(crate) fn mismatch(items: &mut [Item], group: usize, limit: Limit) {
    let texts: Vec<Tokens> = items.iter().map(|i| i.texts[0].clone()).collect();
    if items.len() < 2 {
        return;
    }
    for (i, item) in items.iter_mut().enumerate() {
        let start = i / group * group;
        let last = (start + group).min(texts.len()) - 1;
        let other = match i == start && last > start {
            true => last,
            false => i - 1,
        };
        item.mismatched = Some(texts[i].with_answer_of(&texts[other], limit));
    }
}
