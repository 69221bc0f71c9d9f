//! Training, and the test of the kernels: what a page downloads apart.

use std::ops::ControlFlow;

use js_sys::{Reflect, Uint8Array};
use serde::Deserialize;
use serde_json::{Map, Value, json as object};
use siskin_engine::Adapter;
use siskin_train::{Dataset, Example, LossOn, Record, Tokens, TrainOptions, Trainer, TrainingPlan};
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid, to_js, train_to_js};
use crate::session::Session;
use crate::{json, parse};

/// The examples in a file's text, as JSON: `{ format, records, bad }`.
#[wasm_bindgen(js_name = parseDataset)]
pub fn parse_dataset(name: &str, text: &str) -> Result<String> {
    json(&Dataset::parse(name, text).map_err(train_to_js)?)
}

/// Tests every kernel against its CPU counterpart; `on_result` receives each result as JSON.
#[wasm_bindgen(js_name = selfTest)]
pub async fn self_test(profile: Option<String>, on_result: &js_sys::Function) -> Result<()> {
    let profile = profile.map(|p| crate::session::profile(&p)).transpose()?;
    let mut report = |result| {
        if let Ok(json) = json(&result) {
            let _ = on_result.call1(&JsValue::NULL, &json.into());
        }
    };
    siskin_engine::self_test::certify(None, profile, &mut report)
        .await
        .map_err(to_js)
}

#[derive(Deserialize)]
struct PreviewOptions {
    loss_on: LossOn,
    max_seq_len: usize,
}

/// Fields of an example: those of a conversation, or its text; and its position in the file.
const FIELDS: [&str; 6] = [
    "messages",
    "tools",
    "chat_template_kwargs",
    "is_completion",
    "text",
    "line",
];

/// Fields of preferences and of prompts.
const OTHER_FIELDS: [&str; 4] = ["chosen", "rejected", "label", "prompt"];

fn read_example(json: Value, place: &str) -> Result<Example> {
    let mut fields = json.as_object().into_iter().flat_map(|o| o.keys());
    // These are checked as those of a file are.
    if fields
        .clone()
        .any(|key| OTHER_FIELDS.contains(&key.as_str()))
    {
        let mut json = json;
        json.as_object_mut().map(|fields| fields.remove("line"));
        let example = Example::read(&json);
        return example.map_err(|what| invalid(&format!("{place}: {what}")));
    }
    if let Some(key) = fields.find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(invalid(&format!("{place} has an unknown field `{key}`")));
    }
    if let (None, Some(text)) = (json.get("messages"), json["text"].as_str()) {
        return Ok(Example::Text { text: text.into() });
    }
    let conversation = serde_json::from_value(json).map(Example::Chat);
    conversation.map_err(|_| invalid(&format!("{place} has neither `messages` nor `text`")))
}

fn read_records(examples: Vec<Value>, name: &str) -> Result<Vec<Record>> {
    let mut records = vec![];
    for (i, json) in examples.into_iter().enumerate() {
        records.push(Record {
            line: i + 1,
            example: read_example(json, &format!("{name}[{i}]"))?,
        });
    }
    Ok(records)
}

/// A training run as it is asked for.
struct Asked {
    records: Vec<Record>,
    /// What is held out, if that is given.
    validation: Vec<Record>,
    options: TrainOptions,
}

impl Asked {
    fn read(records: &str, options: &str) -> Result<Self> {
        let mut options: Map<String, Value> = parse(options)?;
        let validation = match options.remove("validation_data") {
            Some(Value::Array(examples)) if !examples.is_empty() => {
                if options.contains_key("validation") {
                    return Err(invalid(
                        "`validation` and `validationData` are given; give one of them",
                    ));
                }
                read_records(examples, "validationData")?
            }
            Some(_) => return Err(invalid("`validationData` is no list of examples")),
            None => vec![],
        };
        Ok(Self {
            records: read_records(parse(records)?, "examples")?,
            validation,
            options: parse(&Value::Object(options).to_string())?,
        })
    }

    fn plan(self, session: &siskin_engine::Session) -> Result<TrainingPlan> {
        let Self {
            records,
            validation,
            options,
        } = self;
        TrainingPlan::with_validation(session, &records, &validation, options).map_err(train_to_js)
    }
}

/// Both files of an adapter, as PEFT saves them.
fn files(adapter: &Adapter) -> Result<JsValue> {
    let out = js_sys::Object::new();
    let [(_, config), (_, weights)] = adapter.to_peft().map_err(to_js)?;
    let config = String::from_utf8_lossy(&config).into_owned();
    Reflect::set(&out, &"config".into(), &config.into())?;
    Reflect::set(&out, &"weights".into(), &Uint8Array::from(&weights[..]))?;
    Ok(out.into())
}

#[wasm_bindgen]
impl Session {
    /// An example's tokens, as JSON: `{ tokens: [{ id, piece, learned }], cut }` or `{ reason }`.
    pub fn preview(&self, example: &str, options: &str) -> Result<String> {
        let example = read_example(parse(example)?, "the example")?;
        let options: PreviewOptions = parse(options)?;
        let text = &self.session.text;
        let found = Tokens::of(text, &example, options.loss_on, options.max_seq_len);
        let tokens = match found.map_err(train_to_js)? {
            Ok(tokens) => tokens,
            Err(reason) => return json(&object!({ "reason": reason })),
        };
        let shown: Vec<_> = tokens
            .ids
            .iter()
            .zip(&tokens.learned)
            .map(
                |(id, learned)| object!({ "id": id, "piece": text.piece(*id), "learned": learned }),
            )
            .collect();
        json(&object!({ "tokens": shown, "cut": tokens.cut }))
    }

    /// What a training run would do and need, as JSON; nothing runs.
    #[wasm_bindgen(js_name = trainPlan)]
    pub fn train_plan(&self, records: &str, options: &str) -> Result<String> {
        let plan = Asked::read(records, options)?.plan(&self.session)?;
        json(plan.summary())
    }

    /// Prepares to train a new adapter, or to resume from a checkpoint; returns the summary as JSON.
    #[wasm_bindgen(js_name = trainStart)]
    pub async fn train_start(
        &mut self,
        records: String,
        options: String,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<String> {
        let asked = Asked::read(&records, &options)?;
        self.trainer = None;
        let plan = asked.plan(&self.session)?;
        let begun = plan.begin(&mut self.session).await;
        let mut trainer = begun.map_err(train_to_js)?;
        if let Some(bytes) = checkpoint {
            trainer
                .resume(&mut self.session, &bytes)
                .map_err(train_to_js)?;
        }
        let summary = json(&object!({
            "summary": trainer.summary(),
            "done": trainer.done(),
            "heldOut": trainer.held_out(),
        }));
        self.trainer = Some(trainer);
        summary
    }

    /// A step's report as JSON; `null` after the last.
    #[wasm_bindgen(js_name = trainStep)]
    pub async fn train_step(&mut self) -> Result<String> {
        let (trainer, session) = self.training()?;
        if trainer.is_finished() {
            return Ok("null".into());
        }
        json(&trainer.step(session).await.map_err(train_to_js)?)
    }

    /// The answers of the next step, or to the held-out prompts, as JSON; `null` after the last step.
    #[wasm_bindgen(js_name = trainDraw)]
    pub async fn train_draw(&mut self, held_out: bool) -> Result<String> {
        let (trainer, session) = self.training()?;
        if trainer.is_finished() && !held_out {
            return Ok("null".into());
        }
        let go_on = &mut |_| ControlFlow::Continue(());
        let drawn = match held_out {
            true => trainer.answer_held_out(session, go_on).await,
            false => trainer.roll_out(session, go_on).await,
        };
        let drawn = drawn.map_err(train_to_js)?.unwrap_or_default();
        let out = json(&drawn);
        if !held_out {
            self.drawn = drawn;
        }
        out
    }

    /// The report of a step on the answers that were drawn, as JSON.
    #[wasm_bindgen(js_name = trainLearn)]
    pub async fn train_learn(&mut self, rewards: Vec<f32>) -> Result<String> {
        let drawn = std::mem::take(&mut self.drawn);
        let (trainer, session) = self.training()?;
        let report = trainer.learn(session, &drawn, &rewards).await;
        json(&report.map_err(train_to_js)?)
    }

    /// Seconds per step, measured without an update.
    #[wasm_bindgen(js_name = trainMeasure)]
    pub async fn train_measure(&mut self) -> Result<f64> {
        let (trainer, session) = self.training()?;
        trainer.measure(session).await.map_err(train_to_js)
    }

    /// Mean loss of the held-out examples.
    #[wasm_bindgen(js_name = trainScore)]
    pub async fn train_score(&mut self) -> Result<Option<f32>> {
        let (trainer, session) = self.training()?;
        let score = trainer.score(session).await.map_err(train_to_js)?;
        Ok(score.map(|s| s.loss))
    }

    #[wasm_bindgen(js_name = trainCheckpoint)]
    pub async fn train_checkpoint(&mut self) -> Result<Vec<u8>> {
        let (trainer, session) = self.training()?;
        trainer.checkpoint(session).await.map_err(train_to_js)
    }

    /// `{ config, weights }` of the current adapter.
    #[wasm_bindgen(js_name = trainAdapter)]
    pub async fn train_adapter(&mut self) -> Result<JsValue> {
        let (trainer, session) = self.training()?;
        files(&trainer.adapter(session).await.map_err(train_to_js)?)
    }
}

impl Session {
    fn training(&mut self) -> Result<(&mut Trainer, &mut siskin_engine::Session)> {
        let trainer = self.trainer.as_mut();
        let trainer = trainer.ok_or_else(|| invalid("there is no training run in progress"))?;
        Ok((trainer, &mut self.session))
    }
}
