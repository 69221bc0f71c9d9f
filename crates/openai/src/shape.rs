//! What an answer must look like: `response_format`, and beyond OpenAI's fields `grammar`, `regex` and `choice`.

use serde_json::{Map, Value, json};
use siskin_grammar::{Shape, Source};

use crate::error::{ApiError, Result};
use crate::fields::Fields;

const FORMAT: &str = "response_format";

/// The grammar of the shape that a request wants, with the field that says so.
pub type Wanted = (&'static str, Source);

fn with_field(field: &'static str, shape: &Shape) -> Result<Wanted> {
    let source = shape.source();
    let source = source.map_err(|e| ApiError::field(field, format!("`{field}`: {e}")))?;
    Ok((field, source))
}

pub fn wanted(fields: &mut Fields) -> Result<Option<Wanted>> {
    let format = fields.take::<Map<String, Value>>(FORMAT)?;
    let format = format.map(|f| of_format(f, FORMAT)).transpose()?.flatten();
    let given = [
        (FORMAT, format),
        ("grammar", fields.take("grammar")?.map(Shape::Grammar)),
        ("regex", fields.take("regex")?.map(Shape::Regex)),
        ("choice", fields.take("choice")?.map(Shape::Choice)),
    ];
    let mut given = given
        .into_iter()
        .filter_map(|(field, shape)| Some((field, shape?)));
    let first = given.next();
    match (&first, given.next()) {
        (Some((one, _)), Some((other, _))) => {
            let message = format!("`{other}` cannot be combined with `{one}`");
            Err(ApiError::field(other, message))
        }
        _ => first
            .map(|(field, shape)| with_field(field, &shape))
            .transpose(),
    }
}

/// The shape that `text.format` of a response wants, and that format. Other keys of `text` may say nothing.
pub fn of_text(fields: &mut Fields) -> Result<(Option<Wanted>, Value)> {
    let mut text = fields
        .take::<Map<String, Value>>("text")?
        .unwrap_or_default();
    let format = text.remove("format").filter(|f| !f.is_null());
    if let Some((key, value)) = text.iter().find(|(_, v)| !v.is_null()) {
        let message = format!("`text`: `{key}` is {value}, which is not supported");
        return Err(ApiError::field("text", message));
    }
    let Some(format) = format else {
        return Ok((None, json!({"type": "text"})));
    };
    let Value::Object(mut given) = format.clone() else {
        let message = "`text`: `format` must be an object";
        return Err(ApiError::field("text", message));
    };
    // The schema stands beside the type here.
    if given.get("type").is_some_and(|t| t == "json_schema") {
        given.remove("type");
        let wrapped = json!({"type": "json_schema", "json_schema": given});
        given = wrapped.as_object().cloned().unwrap_or_default();
    }
    let shape = of_format(given, "text")?;
    let shape = shape.map(|shape| with_field("text", &shape));
    Ok((shape.transpose()?, format))
}

/// `{"type": "text" | "json_object"}`, or `{"type": "json_schema", "json_schema": {"name", "schema", …}}`.
fn of_format(mut format: Map<String, Value>, field: &str) -> Result<Option<Shape>> {
    let refused = |what: String| ApiError::field(field, format!("`{field}`: {what}"));
    let kind = format.remove("type");
    let shape = match kind.as_ref().and_then(Value::as_str) {
        Some("text") => None,
        Some("json_object") => Some(Shape::JsonObject),
        Some("json_schema") => {
            let given = format.remove("json_schema");
            let Some(Value::Object(given)) = given else {
                return Err(refused("`json_schema` must be an object".into()));
            };
            Some(of_schema(given, &refused)?)
        }
        _ => {
            let kind = kind.unwrap_or_default();
            let message = format!("`type` is {kind}; use text, json_object or json_schema");
            return Err(refused(message));
        }
    };
    match format.keys().next() {
        Some(key) => Err(refused(format!("there is no `{key}`"))),
        None => Ok(shape),
    }
}

/// A schema with its name, as OpenAI wraps it. It is always strict.
fn of_schema(
    mut given: Map<String, Value>,
    refused: &impl Fn(String) -> ApiError,
) -> Result<Shape> {
    for harmless in ["name", "description", "strict"] {
        given.remove(harmless);
    }
    let schema = given.remove("schema");
    if let Some(key) = given.keys().next() {
        return Err(refused(format!("`json_schema` has no `{key}`")));
    }
    schema
        .filter(|s| s.is_object() || s.is_boolean())
        .map(Shape::JsonSchema)
        .ok_or_else(|| refused("`schema` must be an object".into()))
}
