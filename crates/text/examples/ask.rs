//! Renders and tokenises its input, for `tests/fixtures/check_*.py`: one JSON object per line in, one per line out.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use serde_json::{Value, json};
use siskin_formats::Checkpoint;
use siskin_text::{
    ChatTemplate, DateTime, Message, RenderRequest, Rendered, TextModel, TextStream,
};

type Answer = Result<Value, Box<dyn std::error::Error>>;
type Models = HashMap<String, TextModel>;

fn open(path: &str) -> Result<TextModel, Box<dyn std::error::Error>> {
    if Path::new(path).is_dir() {
        let side = siskin_formats::SideFiles::read(Path::new(path))?;
        return Ok(TextModel::from_side_files(&side)?);
    }
    let checkpoint = Checkpoint::open(Path::new(path))?;
    let gguf = checkpoint.gguf.as_ref().ok_or("no GGUF file")?;
    Ok(TextModel::from_gguf(gguf)?)
}

/// `tokenizer` is a path; `text` is encoded, `plain` text without special tokens, too, and assembled; `messages` are
/// rendered and encoded, `ids` are decoded.
fn tokens(models: &mut Models, path: &str, asked: &Value) -> Answer {
    if !models.contains_key(path) {
        models.insert(path.into(), open(path)?);
    }
    let model = &models[path];
    let mut out = json!({"ends": model.end_tokens().collect::<Vec<_>>(), "kind": model.kind()});
    if let Some(text) = asked["text"].as_str() {
        let tokens = model.encode(text)?;
        out["ids"] = tokens.iter().map(|t| t.id).collect();
    }
    if let Some(text) = asked["plain"].as_str() {
        let tokens = model.encode_rendered(&Rendered {
            text: text.into(),
            plain: std::iter::once(0..text.len()).collect(),
            generation: None,
        })?;
        out["ids"] = tokens.iter().map(|t| t.id).collect();
        out["pieces"] = tokens.iter().map(|t| t.piece.as_str()).collect();
        let words = model.merges(text);
        let last = words.iter().filter_map(|w| w.steps.last());
        out["merged"] = last.flatten().map(String::as_str).collect();
    }
    if asked["messages"].is_array() {
        let messages: Vec<Message> = serde_json::from_value(asked["messages"].clone())?;
        let rendered = model.render(&RenderRequest {
            messages: &messages,
            tools: asked["tools"].as_array().map_or(&[], Vec::as_slice),
            add_generation_prompt: asked["add_generation_prompt"] == true,
            allow_special_tokens: asked["allow_special_tokens"] == true,
            ..RenderRequest::default()
        })?;
        let tokens = model.encode_rendered(&rendered)?;
        out["ids"] = tokens.iter().map(|t| t.id).collect();
        let spans = tokens.iter().map(|t| &rendered.text[t.start..t.end]);
        out["spans"] = spans.collect();
        let plain = rendered.plain.iter().map(|r| &rendered.text[r.clone()]);
        out["plain"] = plain.collect();
        out["text"] = rendered.text.as_str().into();
    }
    if let Some(ids) = asked["ids"].as_array() {
        let ids: Vec<u32> = ids
            .iter()
            .filter_map(Value::as_u64)
            .map(|i| i as u32)
            .collect();
        let mut stream = TextStream::new(&[]);
        let mut streamed: String = ids.iter().map(|id| stream.push(model, *id).text).collect();
        streamed.push_str(&stream.finish(model));
        out["decoded"] = model.decode(&ids).into();
        out["streamed"] = streamed.into();
        out["bytes"] = ids.iter().map(|id| model.token_bytes(*id)).collect();
        out["pieces"] = ids.iter().map(|id| model.piece(*id)).collect();
    }
    Ok(out)
}

fn answer(models: &mut Models, line: &str) -> Answer {
    let asked: Value = serde_json::from_str(line)?;
    if let Some(path) = asked["tokenizer"].as_str() {
        return tokens(models, path, &asked);
    }
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
    // The same time as the script passes to the reference.
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
    let mut models = Models::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = answer(&mut models, &line).unwrap_or_else(|e| json!({"error": e.to_string()}));
        println!("{answer}");
    }
}
