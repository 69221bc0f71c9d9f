//! Reads a record of preferences, in TRL's forms: prompt and both answers, both answers that begin with the prompt, or an
//! answer with a label. Answers are texts or lists of turns.

use serde_json::Value as Json;
use siskin_text::Message;

use crate::preference::{Preference, Rated, Said, TemplateInputs};
use crate::record::{Fields, PROMPT, Result, SYSTEM, is_empty, put_system, template_inputs};
use crate::turns::turns;
use crate::{Example, RecordFormat};

/// Fields that say how the answers were chosen, and by whom they are.
const ABOUT_THE_CHOICE: [&str; 18] = [
    "chosen-model",
    "chosen-rating",
    "chosen_avg_rating",
    "chosen_model",
    "chosen_rating",
    "chosen_score",
    "margin",
    "rating",
    "ratings",
    "rejected-model",
    "rejected-rating",
    "rejected_avg_rating",
    "rejected_model",
    "rejected_rating",
    "rejected_score",
    "score_chosen",
    "score_rejected",
    "scores",
];

/// Whether the record is one of preferences: `None` if not.
pub(crate) fn format(fields: &Fields) -> Option<RecordFormat> {
    let has = |key: &str| fields.0.contains_key(key);
    if has("chosen") || has("rejected") {
        return Some(RecordFormat::Preference);
    }
    (has("completion") && has("label")).then_some(RecordFormat::Rated)
}

pub(crate) fn read(fields: &mut Fields, format: RecordFormat) -> Result<Example> {
    for key in ABOUT_THE_CHOICE {
        fields.0.remove(key);
    }
    match format {
        RecordFormat::Rated => rated(fields),
        _ => pair(fields),
    }
}

/// A field that must be there: a text, a turn, or a list of turns.
fn said(fields: &mut Fields, key: &str) -> Result<Said> {
    match fields.0.remove(key) {
        None | Some(Json::Null) => Err(format!("it has no `{key}`")),
        Some(value) if is_empty(&value) => Err(format!("`{key}` is empty")),
        Some(Json::String(text)) => Ok(Said::Text(text)),
        Some(Json::Array(list)) => as_turns(key, &list),
        Some(turn @ Json::Object(_)) => as_turns(key, &[turn]),
        Some(_) => Err(format!("`{key}` is neither a string nor a list of turns")),
    }
}

fn as_turns(key: &str, list: &[Json]) -> Result<Said> {
    let turns = turns(list).map_err(|what| format!("`{key}`: {what}"))?;
    match turns.iter().position(|t| t.0.contains_key("weight")) {
        Some(at) => Err(format!(
            "`{key}`: turn {} is marked as not learned, which preferences do not have",
            at + 1
        )),
        None => Ok(Said::Turns(turns)),
    }
}

pub(crate) fn prompt(fields: &mut Fields) -> Result<Option<(String, Said)>> {
    let keys = PROMPT.into_iter().chain(["instruction"]);
    for key in keys {
        if fields.0.get(key).is_some_and(|v| !is_empty(v)) {
            return Ok(Some((key.into(), said(fields, key)?)));
        }
    }
    Ok(None)
}

/// Puts the text of a field for the system in front of the prompt.
pub(crate) fn with_system(fields: &mut Fields, prompt: Said) -> Result<Said> {
    let Some(system) = fields.text(&SYSTEM)? else {
        return Ok(prompt);
    };
    let mut turns = match prompt {
        Said::Text(text) => vec![Message::new("user", &text)],
        Said::Turns(turns) => turns,
    };
    put_system(&system, &mut turns)?;
    Ok(Said::Turns(turns))
}

pub(crate) fn is_answer(turn: Option<&Message>) -> bool {
    turn.is_some_and(|t| t.role() == "assistant")
}

/// An answer of turns must begin with the assistant's, and the prompt not end with one.
fn check_turns(prompt: &Said, key: &str, answer: &Said) -> Result<()> {
    if let Said::Turns(turns) = prompt
        && is_answer(turns.last())
    {
        return Err(format!(
            "the prompt ends with an answer; it belongs to `{key}`"
        ));
    }
    match answer {
        Said::Turns(turns) if !is_answer(turns.first()) => Err(format!(
            "`{key}` does not begin with an answer after the prompt"
        )),
        _ => Ok(()),
    }
}

fn pair(fields: &mut Fields) -> Result<Example> {
    let given = prompt(fields)?;
    let [chosen, rejected] = ["chosen", "rejected"].map(|key| said(fields, key));
    let (chosen, rejected) = (chosen?, rejected?);
    if chosen == rejected {
        return Err("`chosen` and `rejected` are the same".into());
    }
    let (prompt, chosen, rejected) = match (chosen, rejected) {
        (Said::Turns(chosen), Said::Turns(rejected)) => {
            let (prompt, chosen, rejected) = split(given, chosen, rejected)?;
            (Some(prompt), Said::Turns(chosen), Said::Turns(rejected))
        }
        (chosen @ Said::Text(_), rejected @ Said::Text(_)) => {
            (given.map(|g| g.1), chosen, rejected)
        }
        _ => return Err("one of `chosen` and `rejected` is a text, the other has turns".into()),
    };
    let prompt = match prompt {
        Some(prompt) => {
            let prompt = with_system(fields, prompt)?;
            check_turns(&prompt, "chosen", &chosen)?;
            check_turns(&prompt, "rejected", &rejected)?;
            Some(prompt)
        }
        None => None,
    };
    let is_implicit = prompt.is_none();
    let preference = Preference {
        prompt,
        chosen,
        rejected,
        inputs: inputs(fields)?,
    };
    if is_implicit {
        check_texts(&preference)?;
    }
    Ok(Example::Preference(preference))
}

/// Whole texts must have a beginning in common, and each something of its own.
fn check_texts(preference: &Preference) -> Result<()> {
    let shared = preference.shared();
    if shared == 0 {
        return Err(
            "the prompts of `chosen` and `rejected` differ: there is no `prompt`, and they do not begin with the same \
             text"
                .into(),
        );
    }
    for (key, said) in [
        ("chosen", &preference.chosen),
        ("rejected", &preference.rejected),
    ] {
        if matches!(said, Said::Text(text) if text.len() == shared) {
            return Err(format!("`{key}` has no answer of its own after the prompt"));
        }
    }
    Ok(())
}

type Split = (Said, Vec<Message>, Vec<Message>);

/// The prompt and what follows it, where both answers may begin with it.
fn split(
    given: Option<(String, Said)>,
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> Result<Split> {
    let both = chosen.iter().zip(&rejected);
    let shared = both.take_while(|(a, b)| a == b).count();
    let begin_with_it = chosen.first().is_some_and(|t| t.role() != "assistant")
        || rejected.first().is_some_and(|t| t.role() != "assistant");
    if let (Some((_, prompt)), false) = (&given, begin_with_it) {
        return Ok((prompt.clone(), chosen, rejected));
    }
    let differ = |sides: [&[Message]; 2]| {
        let is_prompt = |side: &[Message]| side.get(shared).is_some_and(|t| !is_answer(Some(t)));
        sides.into_iter().any(is_prompt)
    };
    if differ([&chosen, &rejected]) {
        return Err(format!(
            "the prompts of `chosen` and `rejected` differ at turn {}",
            shared + 1
        ));
    }
    let rest = rejected.split_off(shared);
    let (prompt, rejected) = (rejected, rest);
    let chosen = chosen.split_off(shared);
    for (key, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
        if answer.is_empty() {
            return Err(format!("`{key}` has no answer of its own after the prompt"));
        }
    }
    let is_that = match &given {
        None => true,
        Some((_, Said::Turns(turns))) => *turns == prompt,
        // Some data sets repeat the question.
        Some((_, Said::Text(text))) => prompt
            .iter()
            .any(|t| t.role() == "user" && t.content().trim() == text.trim()),
    };
    match given {
        Some((key, _)) if !is_that => Err(format!(
            "`{key}` is not the prompt with which `chosen` and `rejected` begin"
        )),
        _ if prompt.is_empty() => Err("there is no prompt".into()),
        _ => Ok((Said::Turns(prompt), chosen, rejected)),
    }
}

fn rated(fields: &mut Fields) -> Result<Example> {
    let label = match fields.0.remove("label") {
        Some(Json::Bool(label)) => label,
        Some(Json::Number(n)) if [0.0, 1.0].map(Some).contains(&n.as_f64()) => {
            n.as_f64() == Some(1.0)
        }
        // Tables have text only.
        Some(Json::String(text)) => match text.trim().to_lowercase().as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(format!("`label` is \"{text}\"; use true or false")),
        },
        other => {
            let other = other.unwrap_or_default();
            return Err(format!("`label` is {other}; use true or false"));
        }
    };
    let (_, prompt) = prompt(fields)?.ok_or("it has no `prompt`")?;
    let completion = said(fields, "completion")?;
    let prompt = with_system(fields, prompt)?;
    check_turns(&prompt, "completion", &completion)?;
    Ok(Example::Rated(Rated {
        prompt,
        completion,
        label,
        inputs: inputs(fields)?,
    }))
}

pub(crate) fn inputs(fields: &mut Fields) -> Result<TemplateInputs> {
    let (tools, chat_template_kwargs) = template_inputs(fields)?;
    Ok(TemplateInputs {
        tools,
        chat_template_kwargs,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::example;

    fn read(json: Json) -> Result<Json> {
        let (_, example) = example(&json)?;
        Ok(serde_json::to_value(example).unwrap())
    }

    fn user(text: &str) -> Json {
        json!({"role": "user", "content": text})
    }

    fn answer(text: &str) -> Json {
        json!({"role": "assistant", "content": text})
    }

    #[test]
    fn forms_of_pairs_are_one() {
        let wanted =
            json!({"prompt": [user("q")], "chosen": [answer("a")], "rejected": [answer("b")]});
        for given in [
            wanted.clone(),
            json!({"chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")]}),
            json!({"prompt": "q", "chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")],
                "score_chosen": 8.0, "score_rejected": 2.0, "prompt_id": "x"}),
            json!({"prompt": [user("q")], "chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")]}),
            json!({"question": [user("q")], "chosen": answer("a"), "rejected": {"from": "gpt", "value": "b"}}),
        ] {
            assert_eq!(read(given.clone()).unwrap(), wanted, "{given}");
        }
        let text = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
        assert_eq!(read(text.clone()).unwrap(), text);
        let system = json!({"system": "s", "question": "q", "chosen": "a", "rejected": "b"});
        let turns = json!([{"role": "system", "content": "s"}, user("q")]);
        assert_eq!(read(system).unwrap()["prompt"], turns);
        let rated = json!({"prompt": "q", "completion": "a", "label": true});
        assert_eq!(read(rated.clone()).unwrap(), rated);
        let table = json!({"prompt": "q", "completion": "a", "label": "True"});
        assert_eq!(read(table).unwrap(), rated);
    }

    #[test]
    fn the_prompt_of_whole_texts_is_what_they_share() {
        let json = json!({"chosen": "The sky is blue.", "rejected": "The sky is green."});
        let (_, example) = example(&json).unwrap();
        let Example::Preference(preference) = example else {
            panic!("not a preference");
        };
        assert_eq!(preference.shared(), "The sky is".len());
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for (given, wanted) in [
            (
                json!({"prompt": "q", "chosen": "a", "rejected": "a"}),
                "the same",
            ),
            (json!({"prompt": "q", "chosen": "a"}), "no `rejected`"),
            (
                json!({"prompt": "q", "chosen": "a", "rejected": " "}),
                "`rejected` is empty",
            ),
            (json!({"chosen": "a", "rejected": "b"}), "prompts"),
            (
                json!({"chosen": "q a", "rejected": "q a b"}),
                "`chosen` has no answer",
            ),
            (
                json!({"chosen": [user("q"), answer("a")], "rejected": [user("p"), answer("b")]}),
                "differ at turn 1",
            ),
            (
                json!({"prompt": "p", "chosen": [user("q"), answer("a")], "rejected": [user("q"), answer("b")]}),
                "`prompt` is not the prompt",
            ),
            (
                json!({"prompt": "q", "chosen": "a", "rejected": [answer("b")]}),
                "the other has turns",
            ),
            (
                json!({"prompt": [user("q"), answer("a")], "chosen": [answer("a")], "rejected": [answer("b")]}),
                "ends with an answer",
            ),
            (
                json!({"chosen": [user("q"), answer("a")], "rejected": [user("q")]}),
                "`rejected` has no answer",
            ),
            (
                json!({"prompt": "q", "chosen": "a", "rejected": "b", "critique": "c"}),
                "`critique`",
            ),
            (
                json!({"prompt": "q", "completion": "a", "label": 2}),
                "`label` is 2",
            ),
            (json!({"completion": "a", "label": true}), "no `prompt`"),
        ] {
            let error = read(given.clone()).unwrap_err();
            assert!(error.contains(wanted), "{given}: {error}");
        }
    }
}
