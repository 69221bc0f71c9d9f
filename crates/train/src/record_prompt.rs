//! Reads a record that asks without an answer.

use serde_json::{Map, Value as Json};

use crate::record::{ANSWER, Fields, PROMPT, Result, is_empty};
use crate::record_preference::{inputs, is_answer, prompt, with_system};
use crate::turns::turns;
use crate::{Example, Prompt, Said};

/// Fields that belong to records of other forms.
const OTHERS: [&str; 7] = [
    "chosen",
    "conversation",
    "conversations",
    "history",
    "instruction",
    "rejected",
    "text",
];

/// What a drawn answer has itself.
const RESERVED: [&str; 5] = ["answer", "completion", "line", "prompt", "truncated"];

/// Whether the record has a prompt, and nothing that could be an answer.
pub(crate) fn is_prompt(fields: &Fields) -> bool {
    if OTHERS
        .iter()
        .chain(&ANSWER)
        .any(|key| fields.0.contains_key(*key))
    {
        return false;
    }
    let asks = |key: &&str| fields.0.get(*key).is_some_and(|v| !is_empty(v));
    match fields.0.get("messages") {
        Some(list) => {
            let turns = list.as_array().and_then(|list| turns(list).ok());
            turns.is_some_and(|t| !t.is_empty() && !t.iter().any(|t| is_answer(Some(t))))
        }
        None => PROMPT.iter().any(asks),
    }
}

/// What is not read for the prompt is for rewards.
pub(crate) fn read(fields: &mut Fields) -> Result<Example> {
    let asked = match fields.0.remove("messages") {
        Some(Json::Array(list)) => Said::Turns(turns(&list)?),
        _ => prompt(fields)?.ok_or("it has no `prompt`")?.1,
    };
    let prompt = with_system(fields, asked)?;
    if let Said::Turns(turns) = &prompt
        && is_answer(turns.last())
    {
        return Err("the prompt ends with an answer, and nothing is left to be answered".into());
    }
    let inputs = inputs(fields)?;
    let columns: Map<String, Json> = std::mem::take(&mut fields.0);
    if let Some(key) = RESERVED.iter().find(|key| columns.contains_key(**key)) {
        return Err(format!(
            "its field `{key}` has a name that rewards use for something else; rename it"
        ));
    }
    Ok(Example::Prompt(Prompt {
        prompt,
        columns,
        inputs,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::example;

    #[test]
    fn what_has_no_answer_is_a_prompt() {
        let user = json!({"role": "user", "content": "q"});
        let (_, found) = example(&json!({"prompt": "q", "solution": 4, "task": "sum"})).unwrap();
        let Example::Prompt(found) = found else {
            panic!("not a prompt");
        };
        assert_eq!(found.prompt, Said::Text("q".into()));
        assert_eq!(found.columns["solution"], 4);
        for given in [
            json!({"prompt": [user]}),
            json!({"messages": [user]}),
            json!({"question": "q", "system": "s"}),
        ] {
            let (_, found) = example(&given).unwrap();
            assert!(matches!(found, Example::Prompt(_)), "{given}");
        }
        for (given, wanted) in [
            (json!({"prompt": "q", "completion": ""}), "no answer"),
            (json!({"prompt": ""}), "`prompt` is empty"),
            (json!({"prompt": "q", "line": 9}), "`line` has a name"),
            (json!({"messages": []}), "no turns"),
        ] {
            let error = example(&given).unwrap_err();
            assert!(error.contains(wanted), "{given}: {error}");
        }
    }
}
