//! The shapes of `/v1/responses`.

use serde_json::{Value, json};
use siskin_engine::{Answer, FinishReason, TokenLogprob, TopLogprob};

use crate::ends::Ends;
use crate::exchange::{new_id, now};
use crate::parsing::Parsing;
use crate::response_items::Items;

/// What all objects of a response have in common.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The response while it is answered.
    response: Value,
    /// How its answer is taken apart.
    pub parsing: Option<Parsing>,
    ends: Ends,
}

impl ResponseHead {
    /// From what the request says about it.
    pub fn new(request: Value, parsing: Option<Parsing>, ends: Ends) -> Self {
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
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "truncation": "disabled",
        });
        if let (Value::Object(to), Value::Object(from)) = (&mut response, request) {
            to.extend(from);
        }
        Self {
            response,
            parsing,
            ends,
        }
    }

    pub fn begun(&self) -> Value {
        self.response.clone()
    }

    /// The whole response.
    pub fn ended(&self, output: &[Value], answer: &Answer) -> Value {
        let status = status(answer);
        let mut response = self.begun();
        response["status"] = status.into();
        if status == "incomplete" {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["output"] = output.into();
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

    /// The response to the only answer.
    pub fn whole(&self, answers: &[Answer]) -> Value {
        match answers {
            [answer, ..] => {
                let mut answer = answer.clone();
                self.ends.leave_out(&mut answer);
                let items = Items::of(self.parsing.as_ref(), &answer, status(&answer));
                self.ended(items.output(), &answer)
            }
            [] => self.failed("there is no answer"),
        }
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
