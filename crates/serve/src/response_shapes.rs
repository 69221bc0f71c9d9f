//! The shapes of `/v1/responses`.

use serde_json::{Value, json};
use siskin_engine::{Answer, FinishReason, TokenLogprob, TopLogprob};

use crate::answering::new_id;
use crate::app::now;

/// What all objects of a response have in common.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The response while it is answered.
    response: Value,
    pub item_id: String,
}

impl ResponseHead {
    /// From what the request says about it.
    pub fn new(request: Value) -> Self {
        let mut response = json!({
            "id": new_id("resp_"),
            "object": "response",
            "created_at": now(),
            "status": "in_progress",
            "error": null,
            "incomplete_details": null,
            "output": [],
            "usage": null,
            "background": false,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "tool_choice": "auto",
            "tools": [],
            "truncation": "disabled",
        });
        if let (Value::Object(to), Value::Object(from)) = (&mut response, request) {
            to.extend(from);
        }
        Self {
            response,
            item_id: new_id("msg_"),
        }
    }

    pub fn begun(&self) -> Value {
        self.response.clone()
    }

    /// The message, with its content if there is any yet.
    pub fn item(&self, status: &str, content: Option<Value>) -> Value {
        json!({
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content.into_iter().collect::<Vec<_>>(),
        })
    }

    /// The whole response.
    pub fn ended(&self, text: Value, answer: &Answer) -> Value {
        let status = status(answer);
        let mut response = self.begun();
        response["status"] = status.into();
        if status == "incomplete" {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["output"] = json!([self.item(status, Some(text))]);
        let (input, output) = (answer.prompt_tokens, answer.ids.len());
        response["usage"] = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + output,
        });
        response
    }

    /// A response that will not be completed.
    pub fn failed(&self, message: &str) -> Value {
        let mut response = self.begun();
        response["status"] = "failed".into();
        response["error"] = json!({"code": "server_error", "message": message});
        response
    }
}

pub fn status(answer: &Answer) -> &'static str {
    match answer.finish_reason {
        FinishReason::Stop => "completed",
        // A cancelled answer has nobody who reads it.
        FinishReason::Length | FinishReason::Cancelled => "incomplete",
    }
}

/// A message's text.
pub fn text_of(text: &str, logprobs: &[TokenLogprob]) -> Value {
    json!({
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": logprobs_of(logprobs),
    })
}

pub fn logprobs_of(logprobs: &[TokenLogprob]) -> Vec<Value> {
    let top = |t: &TopLogprob| json!({"token": t.text(), "bytes": t.bytes, "logprob": t.logprob});
    let one = |l: &TokenLogprob| {
        json!({
            "token": String::from_utf8_lossy(&l.bytes),
            "bytes": l.bytes,
            "logprob": l.logprob,
            "top_logprobs": l.top.iter().map(top).collect::<Vec<_>>(),
        })
    };
    logprobs.iter().map(one).collect()
}
