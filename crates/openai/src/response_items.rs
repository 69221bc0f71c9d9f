//! The items of a response's output as they come: reasoning, the message, calls of tools.

use serde_json::{Value, json};
use siskin_engine::{Answer, TokenLogprob};
use siskin_text::{AnswerParser, Part, ToolCall};

use crate::exchange::new_id;
use crate::parsing::Parsing;
use crate::response_shapes::{logprobs_of, text_of};
use crate::tools::call_of_answer;

/// An event of a stream: its type, and its fields.
pub type ItemEvent = (&'static str, Value);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

/// An item that has not ended.
#[derive(Debug)]
struct Open {
    kind: Kind,
    id: String,
    text: String,
    logprobs: Vec<TokenLogprob>,
}

impl Open {
    fn item(&self, status: &str) -> Value {
        let content = |part: Value| {
            if self.text.is_empty() && status == "in_progress" {
                json!([])
            } else {
                json!([part])
            }
        };
        match self.kind {
            Kind::Reasoning => json!({
                "id": self.id, "type": "reasoning", "status": status, "summary": [],
                "content": content(json!({"type": "reasoning_text", "text": self.text})),
            }),
            Kind::Message => json!({
                "id": self.id, "type": "message", "role": "assistant", "status": status,
                "content": content(text_of(&self.text, &self.logprobs)),
            }),
        }
    }
}

/// The output so far.
#[derive(Debug)]
pub struct Items {
    parser: Option<AnswerParser>,
    done: Vec<Value>,
    open: Option<Open>,
}

impl Items {
    pub fn new(parsing: Option<&Parsing>) -> Self {
        Self {
            parser: parsing.map(Parsing::parser),
            done: vec![],
            open: None,
        }
    }

    /// The items that have ended.
    pub fn output(&self) -> &[Value] {
        &self.done
    }

    /// What new text adds.
    pub fn push(&mut self, text: &str, logprob: Option<&TokenLogprob>) -> Vec<ItemEvent> {
        let mut events = vec![];
        let mut parts = match &mut self.parser {
            Some(parser) => parser.push(text),
            None if text.is_empty() => vec![],
            None => vec![Part::Content(text.into())],
        };
        let is_message = self.open.as_ref().is_some_and(|o| o.kind == Kind::Message);
        if parts.is_empty() && logprob.is_some() && (is_message || self.parser.is_none()) {
            parts.push(Part::Content(String::new()));
        }
        let mut logprob = logprob;
        for part in parts {
            let logprob = matches!(part, Part::Content(_))
                .then(|| logprob.take())
                .flatten();
            self.take(part, logprob, &mut events);
        }
        events
    }

    /// The rest, when the answer has ended.
    pub fn finish(&mut self, status: &str) -> Vec<ItemEvent> {
        let mut events = vec![];
        let parts = self.parser.as_mut().map(AnswerParser::finish);
        for part in parts.unwrap_or_default() {
            self.take(part, None, &mut events);
        }
        if self.done.is_empty() && self.open.is_none() {
            self.begin(Kind::Message, &mut events);
        }
        self.close(status, &mut events);
        events
    }

    fn take(&mut self, part: Part, logprob: Option<&TokenLogprob>, events: &mut Vec<ItemEvent>) {
        let (kind, name, text) = match part {
            Part::Content(text) => (Kind::Message, "response.output_text.delta", text),
            Part::Reasoning(text) => (Kind::Reasoning, "response.reasoning_text.delta", text),
            Part::Call(call) => {
                self.close("completed", events);
                return self.call(&call, events);
            }
        };
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close("completed", events);
            self.begin(kind, events);
        }
        let index = self.done.len();
        let Some(open) = &mut self.open else { return };
        open.text.push_str(&text);
        open.logprobs.extend(logprob.cloned());
        let mut fields = json!({
            "item_id": open.id, "output_index": index, "content_index": 0, "delta": text,
        });
        if kind == Kind::Message {
            fields["logprobs"] = logprobs_of(logprob.map_or(&[], std::slice::from_ref)).into();
        }
        events.push((name, fields));
    }

    fn begin(&mut self, kind: Kind, events: &mut Vec<ItemEvent>) {
        let open = Open {
            kind,
            id: new_id(match kind {
                Kind::Reasoning => "rs_",
                Kind::Message => "msg_",
            }),
            text: String::new(),
            logprobs: vec![],
        };
        let index = self.done.len();
        let item = open.item("in_progress");
        events.push((
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        ));
        if kind == Kind::Message {
            let fields = json!({
                "item_id": open.id, "output_index": index, "content_index": 0, "part": text_of("", &[]),
            });
            events.push(("response.content_part.added", fields));
        }
        self.open = Some(open);
    }

    fn close(&mut self, status: &str, events: &mut Vec<ItemEvent>) {
        let Some(open) = self.open.take() else { return };
        let index = self.done.len();
        let item = open.item(status);
        let place = |more: Value| {
            let mut fields = json!({"item_id": open.id, "output_index": index, "content_index": 0});
            if let (Value::Object(to), Value::Object(from)) = (&mut fields, more) {
                to.extend(from);
            }
            fields
        };
        match open.kind {
            Kind::Reasoning => {
                let fields = place(json!({"text": open.text}));
                events.push(("response.reasoning_text.done", fields));
            }
            Kind::Message => {
                let logprobs = logprobs_of(&open.logprobs);
                let fields = place(json!({"text": open.text, "logprobs": logprobs}));
                events.push(("response.output_text.done", fields));
                let part = text_of(&open.text, &open.logprobs);
                events.push(("response.content_part.done", place(json!({"part": part}))));
            }
        }
        events.push((
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        ));
        self.done.push(item);
    }

    /// A call comes whole.
    fn call(&mut self, call: &ToolCall, events: &mut Vec<ItemEvent>) {
        let index = self.done.len();
        let id = new_id("fc_");
        let mut item = json!({
            "id": id, "type": "function_call", "status": "in_progress",
            "call_id": call_of_answer(call)["id"], "name": call.name, "arguments": "",
        });
        events.push((
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        ));
        let place = json!({"item_id": id, "output_index": index});
        let mut fields = place.clone();
        fields["delta"] = call.arguments.clone().into();
        events.push(("response.function_call_arguments.delta", fields));
        let mut fields = place;
        fields["arguments"] = call.arguments.clone().into();
        fields["name"] = call.name.clone().into();
        events.push(("response.function_call_arguments.done", fields));
        item["status"] = "completed".into();
        item["arguments"] = call.arguments.clone().into();
        events.push((
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        ));
        self.done.push(item);
    }

    /// The items of a whole answer.
    pub fn of(parsing: Option<&Parsing>, answer: &Answer, status: &str) -> Self {
        let mut items = Self::new(parsing);
        items.push(&answer.text, None);
        items.finish(status);
        // Only of answers that are their text.
        if parsing.is_none()
            && let Some(message) = items.done.last_mut()
        {
            message["content"][0]["logprobs"] = logprobs_of(&answer.logprobs).into();
        }
        items
    }
}
