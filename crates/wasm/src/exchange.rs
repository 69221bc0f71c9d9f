//! Requests in OpenAI's shapes, and what is sent back.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use siskin_engine::{Answer, RequestEvent};
use siskin_openai::{ApiError, Fields, Prompt, Request, Route, Stream, StreamEvent};
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid, to_js};
use crate::json;
use crate::tokenizer::Tokenizer;

/// A request with its answers so far. A clone is the same one.
#[wasm_bindgen]
#[derive(Debug, Clone)]
pub struct Exchange(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    exchange: siskin_openai::Exchange,
    /// If it is streamed.
    stream: Option<Box<dyn Stream>>,
    answers: Vec<Option<Answer>>,
}

#[wasm_bindgen]
impl Exchange {
    /// Of a route of OpenAI's API, such as `/v1/chat/completions`, to a model that is known by this name.
    #[wasm_bindgen(constructor)]
    pub fn new(tokenizer: &Tokenizer, route: &str, name: &str, body: &str) -> Result<Self> {
        let route = match route {
            "/v1/chat/completions" => Route::Chat,
            "/v1/completions" => Route::Text,
            "/v1/responses" => Route::Responses,
            _ => return Err(invalid(&format!("there is no `{route}`"))),
        };
        let body = serde_json::from_str(body);
        let body = body.map_err(|e| invalid(&format!("the body is not JSON: {e}")))?;
        let fields = Fields::of(body).map_err(thrown)?;
        let request = Request::read(route, fields).map_err(thrown)?;
        let exchange = request.exchange(&tokenizer.0, name).map_err(thrown)?;
        let answers = vec![None; exchange.prompts.len()];
        let stream = exchange.is_stream.then(|| exchange.stream());
        let state = State {
            exchange,
            stream,
            answers,
        };
        Ok(Self(Rc::new(RefCell::new(state))))
    }

    /// How many answers there will be.
    #[wasm_bindgen(getter)]
    pub fn answers(&self) -> usize {
        self.0.borrow().answers.len()
    }

    /// What each answer must look like, for the wasm that compiles grammars; as JSON.
    #[wasm_bindgen(getter)]
    pub fn grammar(&self) -> Result<Option<String>> {
        let state = self.0.borrow();
        let grammar = state.exchange.grammar.as_ref();
        grammar.map(|(_, source)| json(source)).transpose()
    }

    /// The field that asks for the grammar.
    #[wasm_bindgen(getter, js_name = grammarField)]
    pub fn grammar_field(&self) -> Option<String> {
        let state = self.0.borrow();
        let grammar = state.exchange.grammar.as_ref();
        grammar.map(|(field, _)| (*field).into())
    }

    /// What is sent before the answers have begun.
    pub fn begin(&self) -> Vec<String> {
        let mut ready = VecDeque::new();
        if let Some(stream) = &mut self.0.borrow_mut().stream {
            stream.begin(&mut ready);
        }
        data(ready)
    }

    /// What is sent at the end, if all have been answered and it is not streamed; as JSON.
    pub fn whole(&self) -> Result<Option<String>> {
        let state = self.0.borrow();
        if state.stream.is_some() {
            return Ok(None);
        }
        let answers: Option<Vec<Answer>> = state.answers.iter().cloned().collect();
        let answers = answers.ok_or_else(|| invalid("not all answers have ended"))?;
        json(&state.exchange.whole(&answers)).map(Some)
    }
}

impl Exchange {
    /// The prompt of an answer.
    pub(crate) fn prompt(&self, index: usize) -> Result<Prompt> {
        let state = self.0.borrow();
        let prompt = state.exchange.prompts.get(index).cloned();
        prompt.ok_or_else(|| invalid(&format!("there is no answer {index}")))
    }

    /// What is sent because of an event.
    pub(crate) fn take(&self, index: usize, event: &RequestEvent) -> Vec<String> {
        let state = &mut *self.0.borrow_mut();
        let mut ready = VecDeque::new();
        match (&mut state.stream, event) {
            (Some(stream), event) => drop(stream.take(index, event, &mut ready)),
            (None, RequestEvent::Done(answer)) => {
                state.answers[index] = Some((**answer).clone());
            }
            (None, _) => {}
        }
        data(ready)
    }
}

/// Names are in the data, too.
fn data(events: VecDeque<StreamEvent>) -> Vec<String> {
    events.into_iter().map(|event| event.data).collect()
}

fn thrown(e: ApiError) -> JsValue {
    let message = e.message().to_string();
    e.cause().map_or_else(|| invalid(&message), to_js)
}
