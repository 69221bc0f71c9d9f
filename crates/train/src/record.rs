//! Reads one record of a file as an example: every field must be understood, or the record is refused.

use serde_json::{Map, Value as Json};
use siskin_text::Message;

use crate::turns::turns;
use crate::{Conversation, Example, RecordFormat, record_preference, record_prompt};

pub(crate) type Result<T> = std::result::Result<T, String>;

/// Fields that describe a record's origin rather than content to learn.
const ABOUT_THE_RECORD: [&str; 56] = [
    "_id",
    "__index_level_0__",
    "annotator",
    "author",
    "categories",
    "category",
    "conv_id",
    "conversation_hash",
    "conversation_id",
    "created",
    "created_at",
    "data_source",
    "dataset",
    "dataset_name",
    "date",
    "difficulty",
    "domain",
    "hash",
    "id",
    "idx",
    "index",
    "is_english",
    "lang",
    "language",
    "length",
    "license",
    "link",
    "message_id",
    "meta",
    "metadata",
    "model",
    "model_id",
    "model_name",
    "num_tokens",
    "num_turns",
    "origin",
    "original_index",
    "parallel_tool_calls",
    "prompt_id",
    "quality",
    "row_id",
    "session_id",
    "source",
    "sources",
    "split",
    "subset",
    "tags",
    "task",
    "task_name",
    "task_type",
    "timestamp",
    "token_count",
    "topic",
    "type",
    "url",
    "uuid",
];

/// Whether a field of a record or a message is metadata, with nothing to learn.
pub(crate) fn is_about_the_record(key: &str) -> bool {
    let key = key.trim().to_lowercase();
    // Tables that were saved with row numbers have a column without a name.
    key.is_empty() || key.starts_with("unnamed: ") || ABOUT_THE_RECORD.contains(&key.as_str())
}

pub(crate) const SYSTEM: [&str; 3] = ["system", "system_prompt", "system_message"];
pub(crate) const PROMPT: [&str; 5] = ["prompt", "question", "query", "user", "input"];
pub(crate) const ANSWER: [&str; 5] = ["completion", "response", "output", "answer", "assistant"];

/// A record's fields that have not been read yet.
pub(crate) struct Fields(pub Map<String, Json>);

impl Fields {
    /// The first of the keys that is not empty.
    fn find(&mut self, keys: &[&str]) -> Option<(String, Json)> {
        let full = |key: &&&str| self.0.get(**key).is_some_and(|v| !is_empty(v));
        let key = keys.iter().find(full)?;
        self.0.remove_entry(*key)
    }

    pub fn text(&mut self, keys: &[&str]) -> Result<Option<String>> {
        match self.find(keys) {
            Some((_, Json::String(s))) => Ok(Some(s)),
            Some((key, _)) => Err(format!("`{key}` is not a string")),
            None => Ok(None),
        }
    }

    /// JSON, which tables hold as a string.
    fn json(&mut self, key: &str) -> Result<Option<Json>> {
        match self.find(&[key]) {
            Some((_, Json::String(s))) => serde_json::from_str(&s)
                .map(Some)
                .map_err(|e| format!("`{key}` is a string that is not valid JSON ({e})")),
            found => Ok(found.map(|f| f.1)),
        }
    }

    /// A list, empty or not.
    fn list(&mut self, key: &str) -> Result<Option<Vec<Json>>> {
        if self.0.get(key).is_some_and(Json::is_array) {
            return Ok(self.0.remove(key).and_then(|v| v.as_array().cloned()));
        }
        match self.json(key)? {
            Some(Json::Array(list)) => Ok(Some(list)),
            Some(_) => Err(format!("`{key}` is not a list")),
            None => Ok(None),
        }
    }

    /// No field may be left over and lost. Some data sets repeat an example in another form.
    fn nothing_is_left(&self, example: &Example) -> Result<()> {
        let messages = match example {
            Example::Chat(c) => &c.messages[..],
            _ => &[],
        };
        let is_copy = |key: &str, value: &Json| {
            let Some(value) = value.as_str() else {
                return false;
            };
            let answer = messages.iter().rfind(|m| m.role() == "assistant");
            messages.iter().any(|m| m.content().trim() == value.trim())
                || key == "text" && answer.is_some_and(|a| value.contains(a.content().trim()))
        };
        let mut left = self.0.iter();
        let lost = left.find(|(k, v)| !is_empty(v) && !is_about_the_record(k) && !is_copy(k, v));
        match lost {
            None => Ok(()),
            Some((key, _)) if IMAGES.contains(&key.as_str()) => {
                Err(format!("`{key}`: only text can be learned from"))
            }
            Some((key, _)) => Err(format!(
                "its field `{key}` is not understood and would be lost; rename or remove it"
            )),
        }
    }
}

const IMAGES: [&str; 6] = ["image", "images", "audio", "audios", "video", "videos"];

pub(crate) fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(s) => s.trim().is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

pub(crate) fn example(json: &Json) -> Result<(RecordFormat, Example)> {
    let record = match json {
        Json::Object(record) => record.clone(),
        // A conversation given as a bare list of turns.
        Json::Array(_) => Map::from_iter([("messages".to_string(), json.clone())]),
        _ => return Err("it is not an object with named fields".into()),
    };
    let mut fields = Fields(record);
    let (format, example) = match record_preference::format(&fields) {
        Some(format) => (format, record_preference::read(&mut fields, format)?),
        None if record_prompt::is_prompt(&fields) => {
            (RecordFormat::Prompt, record_prompt::read(&mut fields)?)
        }
        None => read(&mut fields)?,
    };
    fields.nothing_is_left(&example)?;
    Ok((format, example))
}

fn read(fields: &mut Fields) -> Result<(RecordFormat, Example)> {
    for (key, format) in [
        ("messages", RecordFormat::Messages),
        ("conversations", RecordFormat::ShareGpt),
        ("conversation", RecordFormat::ShareGpt),
    ] {
        if let Some(list) = fields.list(key)? {
            return Ok((format, chat(fields, turns(&list)?)?));
        }
    }
    if let Some(instruction) = fields.text(&["instruction"])? {
        let more = fields.text(&["input", "context"])?;
        let prompt = match more {
            Some(more) => format!("{instruction}\n\n{more}"),
            None => instruction,
        };
        return Ok((RecordFormat::Alpaca, pair(fields, prompt)?));
    }
    let is_list = |key| fields.0.get(key).is_some_and(Json::is_array);
    if is_list("prompt") || is_list("completion") {
        return Ok((RecordFormat::PromptCompletion, conversational(fields)?));
    }
    let is_completion = ["prompt", "completion"].map(|k| fields.0.contains_key(k)) == [true; 2];
    if let Some(mut prompt) = fields.text(&PROMPT)? {
        if let Some(context) = fields.text(&["context"])? {
            prompt = format!("{prompt}\n\n{context}");
        }
        let mut example = pair(fields, prompt)?;
        if let Example::Chat(c) = &mut example {
            c.is_completion = is_completion && c.messages.len() == 2;
        }
        return Ok((RecordFormat::PromptCompletion, example));
    }
    match fields.0.remove("text") {
        Some(Json::String(text)) if text.trim().is_empty() => Err("the text is empty".into()),
        Some(Json::String(text)) => Ok((RecordFormat::Text, Example::Text { text })),
        Some(_) => Err("`text` is not a string".into()),
        None if let Some(key) = question(&fields.0) => Err(format!("`{key}` is empty")),
        None => {
            let keys: Vec<&str> = fields.0.keys().map(String::as_str).collect();
            Err(format!(
                "none of its fields ({}) is messages, conversations, instruction, prompt or text",
                keys.join(", ")
            ))
        }
    }
}

/// The field for the question, if present but empty.
fn question(fields: &Map<String, Json>) -> Option<&str> {
    let mut keys = PROMPT.into_iter().chain(["instruction"]);
    keys.find(|key| fields.get(*key).is_some_and(is_empty))
}

/// A conversation with the fields that accompany its turns.
fn chat(fields: &mut Fields, mut messages: Vec<Message>) -> Result<Example> {
    if let Some(system) = fields.text(&SYSTEM)? {
        put_system(&system, &mut messages)?;
    }
    let answers = || messages.iter().filter(|m| m.role() == "assistant");
    if answers().next().is_none() {
        return Err("there is no assistant turn to learn from".into());
    }
    if answers().all(|m| m.0.contains_key("weight")) {
        return Err("none of its assistant turns is marked as learned".into());
    }
    let (tools, chat_template_kwargs) = template_inputs(fields)?;
    Ok(Example::Chat(Conversation {
        messages,
        tools,
        chat_template_kwargs,
        is_completion: false,
    }))
}

/// Puts a system message in front of turns that have none.
pub(crate) fn put_system(system: &str, messages: &mut Vec<Message>) -> Result<()> {
    match messages.first() {
        Some(first) if first.role() == "system" && first.content().trim() != system.trim() => {
            return Err("it has a system message and a different one among its turns".into());
        }
        Some(first) if first.role() == "system" => (),
        _ => messages.insert(0, Message::new("system", system)),
    }
    Ok(())
}

/// Tools and what else the chat template reads.
pub(crate) fn template_inputs(fields: &mut Fields) -> Result<(Vec<Json>, Map<String, Json>)> {
    let mut tools = fields.list("tools")?.unwrap_or_default();
    for tool in &mut tools {
        if let Json::String(text) = tool {
            *tool = serde_json::from_str(text).unwrap_or_default();
        }
        if !tool.is_object() {
            return Err("`tools` has an entry that is not an object".into());
        }
    }
    let chat_template_kwargs = match fields.json("chat_template_kwargs")? {
        None => Map::new(),
        Some(Json::Object(map)) => map,
        Some(_) => return Err("`chat_template_kwargs` is not an object".into()),
    };
    Ok((tools, chat_template_kwargs))
}

/// A question and its answer, optionally after earlier ones.
fn pair(fields: &mut Fields, prompt: String) -> Result<Example> {
    // Numbers, as results of sums are.
    for key in ANSWER {
        if let Some(Json::Number(n)) = fields.0.get(key) {
            let text = n.to_string();
            fields.0.insert(key.into(), text.into());
        }
    }
    let answer = fields.text(&ANSWER)?;
    let answer = answer.ok_or("there is no answer to learn from")?;
    let mut messages = vec![];
    for (i, turn) in fields.list("history")?.iter().flatten().enumerate() {
        let pair = match turn.as_array().map(Vec::as_slice) {
            Some([Json::String(question), Json::String(answer)]) => [question, answer],
            _ => {
                return Err(format!(
                    "entry {} of `history` is not a question and its answer",
                    i + 1
                ));
            }
        };
        messages.push(Message::new("user", pair[0]));
        messages.push(Message::new("assistant", pair[1]));
    }
    messages.push(Message::new("user", &prompt));
    messages.push(Message::new("assistant", &answer));
    chat(fields, messages)
}

/// TRL's lists of turns for `prompt` and `completion`; only the completion's turns are learned.
fn conversational(fields: &mut Fields) -> Result<Example> {
    let mut side = |key: &str, role: &str| match fields.find(&[key]) {
        Some((_, Json::Array(list))) => turns(&list).map_err(|what| format!("`{key}`: {what}")),
        Some((_, Json::String(text))) => Ok(vec![Message::new(role, &text)]),
        Some(_) => Err(format!("`{key}` is neither a string nor a list of turns")),
        None => Ok(vec![]),
    };
    let mut messages = side("prompt", "user")?;
    let completion = side("completion", "assistant")?;
    for message in &mut messages {
        if message.role() == "assistant" {
            message.0.insert("weight".into(), 0.into());
        }
    }
    if completion.is_empty() {
        return Err("there is no answer to learn from".into());
    }
    messages.extend(completion);
    chat(fields, messages)
}
