//! Renders what it reads, for `tests/fixtures/check_templates.py`: a JSON object a line in, one a line out.

use std::io::BufRead;

use serde_json::{Value, json};
use siskin_text::{ChatTemplate, DateTime, Message, RenderRequest};

fn answer(line: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let asked: Value = serde_json::from_str(line)?;
    let object = |name: &str| asked[name].as_object().cloned().unwrap_or_default();
    let messages: Vec<Message> = serde_json::from_value(asked["messages"].clone())?;
    let source = asked["template"].as_str().unwrap_or_default();
    let template = ChatTemplate::new(source, object("special_tokens"))?;
    let request = RenderRequest {
        messages: &messages,
        tools: asked["tools"].as_array().map_or(&[], Vec::as_slice),
        add_generation_prompt: asked["add_generation_prompt"] == true,
        kwargs: object("kwargs"),
        allow_special_tokens: true,
    };
    // The moment that the script gives to the reference, too.
    let now = DateTime {
        year: 2025,
        month: 3,
        day: 7,
        hour: 15,
        minute: 4,
        second: 5,
        microsecond: 0,
    };
    let rendered = template.render_at(&request, now)?;
    let chars = |at: usize| rendered.text[..at].chars().count();
    let generation = rendered.generation.as_ref().map(|g| {
        let ranges = g.iter().map(|r| json!([chars(r.start), chars(r.end)]));
        ranges.collect::<Vec<_>>()
    });
    Ok(json!({"text": rendered.text, "generation": generation}))
}

fn main() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = answer(&line).unwrap_or_else(|e| json!({"error": e.to_string()}));
        println!("{answer}");
    }
}
