//! Chat templates, as `transformers.PreTrainedTokenizerBase.apply_chat_template` runs them.

use daachorse::DoubleArrayAhoCorasick;
use serde_json::{Map, Value as Json};

use crate::added::finder;
use crate::jinja::{Cx, Fault, Kind, Mask, Template};
use crate::time::DateTime;
use crate::{Error, Message, RenderRequest, Rendered, Result};

/// A compiled chat template with the special tokens that it may use.
pub struct ChatTemplate {
    template: Template,
    source: String,
    /// `bos_token` and the like, under the names that templates use.
    special_tokens: Map<String, Json>,
    /// Finds control tokens in the text of messages.
    control: Option<DoubleArrayAhoCorasick<u32>>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables that it may use: `bos_token`, `eos_token`, ….
    ///
    /// # Errors
    /// [`Error::TemplateSyntax`] if it is not Jinja, [`Error::TemplateUnsupported`] if it uses what the interpreter
    /// does not have.
    pub fn new(source: &str, special_tokens: Map<String, Json>) -> Result<Self> {
        let template = Template::new(source).map_err(|f| error(*f))?;
        Ok(Self {
            template,
            source: source.into(),
            special_tokens,
            control: None,
        })
    }

    /// Sets the tokens that must not be parsed in messages.
    #[must_use]
    pub fn with_control_tokens(mut self, tokens: &[String]) -> Self {
        self.control = finder(tokens.iter().map(String::as_str));
        self
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation at the current local time, which templates can read.
    ///
    /// # Errors
    /// If the template rejects the conversation, exceeds a limit, or fails as it would in Python.
    pub fn render(&self, request: &RenderRequest<'_>) -> Result<Rendered> {
        self.render_at(request, DateTime::now())
    }

    /// Renders a conversation at a given time.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_at(&self, request: &RenderRequest<'_>, now: DateTime) -> Result<Rendered> {
        let messages = request.messages.iter().map(normalised).collect();
        let tools = match request.tools {
            [] => Json::Null,
            tools => Json::Array(tools.to_vec()),
        };
        let mut inputs = [
            Json::Array(messages),
            tools,
            Json::Object(request.kwargs.clone()),
        ];
        let mask = self.guard(&mut inputs, request.allow_special_tokens)?;
        let [messages, tools, kwargs] = inputs;
        let cx = Cx {
            budget: Default::default(),
            mask,
            now,
            strict: false,
        };
        let variable = |name: &str| match name {
            "messages" => Some(messages.clone()),
            "tools" => Some(tools.clone()),
            "add_generation_prompt" => Some(request.add_generation_prompt.into()),
            name => match (kwargs.get(name), self.special_tokens.get(name)) {
                (Some(v), _) | (None, Some(v)) => Some(v.clone()),
                (None, None) => (name == "documents").then_some(Json::Null),
            },
        };
        let output = self.template.render(cx, variable).map_err(|f| error(*f))?;
        let (text, plain) = mask.take(&output.text);
        // Marked characters may become shorter when the marks are removed.
        let place = |at: usize| {
            let at = floor_char(&output.text, at);
            mask.open_text(&output.text[..at]).len()
        };
        let generation = output.generation.map(|ranges| {
            let ranges = ranges.into_iter();
            ranges.map(|r| place(r.start)..place(r.end)).collect()
        });
        Ok(Rendered {
            text,
            plain,
            generation,
        })
    }

    /// Marks text in the inputs that spells a control token.
    fn guard(&self, inputs: &mut [Json], allowed: bool) -> Result<Mask> {
        let Some(control) = self.control.as_ref().filter(|_| !allowed) else {
            return Ok(Mask::NONE);
        };
        let mut planes = 0u32;
        let mut found = false;
        for input in inputs.iter_mut() {
            for_each_text(input, &mut |text| {
                found |= control.leftmost_find_iter(text.as_str()).next().is_some();
                for c in text.chars().filter(|c| *c as u32 >= 0x1_0000) {
                    planes |= 1 << (c as u32 >> 16);
                }
            });
        }
        if !found {
            return Ok(Mask::NONE);
        }
        for c in self.source.chars() {
            planes |= 1 << (c as u32 >> 16);
        }
        let Some(mask) = Mask::unused_by(|p| planes & 1 << p != 0) else {
            return Err(Error::TemplateFailed(
                "the text uses all unassigned planes of Unicode".into(),
            ));
        };
        for input in inputs {
            for_each_text(input, &mut |text| {
                let mut marked = String::new();
                let mut at = 0;
                for m in control.leftmost_find_iter(text.as_str()) {
                    marked.push_str(&text[at..m.start()]);
                    marked.push_str(&mask.mark(&text[m.start()..m.end()]));
                    at = m.end();
                }
                if at > 0 {
                    marked.push_str(&text[at..]);
                    *text = marked;
                }
            });
        }
        Ok(mask)
    }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn for_each_text(json: &mut Json, f: &mut impl FnMut(&mut String)) {
    match json {
        Json::String(s) => f(s),
        Json::Array(items) => items.iter_mut().for_each(|i| for_each_text(i, f)),
        Json::Object(map) => map.values_mut().for_each(|i| for_each_text(i, f)),
        _ => {}
    }
}

/// A message as transformers passes it on: without null values, and with its reasoning under the names that
/// templates read.
fn normalised(message: &Message) -> Json {
    let mut fields: Map<String, Json> = message
        .0
        .iter()
        .filter(|(_, v)| !v.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let names = ["reasoning_content", "thinking", "reasoning"];
    if let Some(reasoning) = names.iter().find_map(|n| fields.get(*n)).cloned() {
        let thinking = fields.get("thinking").unwrap_or(&reasoning).clone();
        let mut all = Map::new();
        all.insert("thinking".into(), thinking);
        all.extend(fields);
        all.insert("reasoning_content".into(), reasoning);
        fields = all;
    }
    Json::Object(fields)
}

fn error(fault: Fault) -> Error {
    let Fault {
        kind,
        message,
        line,
    } = fault;
    let message = message.replace('\n', " ");
    let placed = if line == 0 {
        message.clone()
    } else {
        format!("{message} (line {line})")
    };
    match kind {
        Kind::Syntax => Error::TemplateSyntax(placed),
        Kind::Raised => Error::TemplateRaised(message),
        Kind::Unsupported => Error::TemplateUnsupported(message),
        Kind::Limit => Error::TemplateLimit(message),
        Kind::Failed => Error::TemplateFailed(placed),
    }
}
