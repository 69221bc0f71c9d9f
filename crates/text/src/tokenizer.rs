use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value as Json;
use siskin_formats::{Gguf, SideFiles};
use tokenizers::Tokenizer;

use crate::merges::Merges;
use crate::{ChatTemplate, Error, MergedWord, Message, RenderRequest, Rendered, Result, gguf};

/// A token and the bytes of the text that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    pub id: u32,
    /// As the vocabulary writes it.
    pub piece: String,
    /// Byte span in the text.
    pub start: usize,
    pub end: usize,
    pub special: bool,
}

/// All that a model knows of text: tokenizer, chat template, and the tokens that end an answer.
#[derive(Debug)]
pub struct TextModel {
    tokenizer: Tokenizer,
    template: std::result::Result<ChatTemplate, Error>,
    /// Put before plain text, for the tokenizers that do not do so themselves.
    bos: Option<u32>,
    eos: BTreeSet<u32>,
    /// The one that the tokenizer itself calls its end of text.
    eos_token: Option<u32>,
    kind: String,
    /// Read when first asked for.
    merges: OnceLock<Option<Merges>>,
}

/// Special tokens that end an answer in one family or another; a model's metadata often names
/// only one of its own.
const END_TOKENS: [&str; 7] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
];

impl TextModel {
    /// From `tokenizer.json` and what stands beside it.
    pub fn from_side_files(side: &SideFiles) -> Result<Self> {
        let missing = || Error::NoTokenizer(side.folder.clone());
        let text = side.get("tokenizer.json").ok_or_else(missing)?;
        let tokenizer = Tokenizer::from_bytes(text).map_err(|e| Error::Tokenizer {
            name: format!("{}/tokenizer.json", side.folder),
            what: format!("not a valid tokenizer ({e})"),
        })?;
        let json = |file: &str| -> Json {
            serde_json::from_str(side.get(file).unwrap_or_default()).unwrap_or_default()
        };
        let config = json("tokenizer_config.json");
        let special = |key: &str| -> String {
            let v = &config[key];
            v.as_str()
                .or(v["content"].as_str())
                .unwrap_or_default()
                .to_string()
        };
        let source = side
            .get("chat_template.jinja")
            .map(String::from)
            .or_else(|| named_template(&config["chat_template"]));
        let template = match source {
            Some(s) => ChatTemplate::new(&s, Default::default()),
            None => Err(Error::NoTemplate),
        };
        let mut eos: BTreeSet<u32> = tokenizer
            .token_to_id(&special("eos_token"))
            .into_iter()
            .collect();
        let from_map = || {
            let v = &json("special_tokens_map.json")["eos_token"];
            let text = v.as_str().or(v["content"].as_str())?;
            tokenizer.token_to_id(text)
        };
        let mut eos_token = tokenizer
            .token_to_id(&special("eos_token"))
            .or_else(from_map);
        for file in ["config.json", "generation_config.json"] {
            let v = &json(file)["eos_token_id"];
            let ids = v.as_array().cloned().unwrap_or_else(|| vec![v.clone()]);
            let ids = ids.iter().filter_map(Json::as_u64).map(|id| id as u32);
            let ids: Vec<u32> = ids.collect();
            eos_token = eos_token.or(ids.first().copied());
            eos.extend(ids);
        }
        let mut model = Self::new(tokenizer, template, None, eos, "tokenizer.json".into());
        model.eos_token = eos_token;
        Ok(model)
    }

    /// Built from a GGUF file's metadata.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let tokenizer = gguf::tokenizer(file)?;
        let id = |key: &str| {
            file.uint(&format!("tokenizer.ggml.{key}"))
                .map(|id| id as u32)
        };
        let piece = |id: Option<u32>| {
            id.and_then(|id| tokenizer.id_to_token(id))
                .unwrap_or_default()
        };
        let bos = id("bos_token_id");
        let template = match file.str("tokenizer.chat_template") {
            Some(s) => ChatTemplate::new(s, Default::default()),
            None => Err(Error::NoTemplate),
        };
        let ends = ["eos_token_id", "eot_token_id", "eom_token_id"];
        let eos = ends.iter().filter_map(|key| id(key)).collect();
        let bos = bos.filter(|_| gguf::adds_bos(file));
        let kind = file.str("tokenizer.ggml.model").unwrap_or_default();
        let pre = file
            .str("tokenizer.ggml.pre")
            .map_or(String::new(), |p| format!(" ({p})"));
        let mut model = Self::new(tokenizer, template, bos, eos, format!("{kind}{pre}"));
        model.eos_token = id("eos_token_id");
        Ok(model)
    }

    fn new(
        tokenizer: Tokenizer,
        template: Result<ChatTemplate>,
        bos: Option<u32>,
        mut eos: BTreeSet<u32>,
        kind: String,
    ) -> Self {
        let special = tokenizer.get_added_tokens_decoder();
        eos.extend(
            special
                .iter()
                .filter(|(_, t)| END_TOKENS.contains(&t.content.as_str()))
                .map(|(id, _)| *id),
        );
        Self {
            tokenizer,
            template,
            bos,
            eos,
            eos_token: None,
            kind,
            merges: OnceLock::new(),
        }
    }

    /// Tokens of plain text, with the beginning-of-text token where the model wants one.
    pub fn encode(&self, text: &str) -> Result<Vec<Token>> {
        let mut tokens = self.encode_with(text, true)?;
        if let Some(id) = self.bos {
            tokens.insert(
                0,
                Token {
                    id,
                    piece: self.piece(id),
                    start: 0,
                    end: 0,
                    special: true,
                },
            );
        }
        Ok(tokens)
    }

    /// Tokens of a rendered chat template, which has its special tokens in itself.
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<Token>> {
        self.encode_with(&rendered.text, false)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<Token>> {
        let encoding = self
            .tokenizer
            .encode(text, add_special_tokens)
            .map_err(|e| Error::Tokenizer {
                name: "tokenizer".into(),
                what: format!("cannot encode the text ({e})"),
            })?;
        let spans = encoding.get_offsets();
        Ok(encoding
            .get_ids()
            .iter()
            .zip(encoding.get_tokens())
            .zip(spans)
            .map(|((&id, piece), &(start, end))| Token {
                id,
                piece: piece.clone(),
                start,
                end,
                special: self.is_special(id),
            })
            .collect())
    }

    /// Text of tokens; special tokens have none.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }

    /// How each word of a text was built; empty for a tokenizer that is no BPE.
    pub fn merges(&self, text: &str) -> Vec<MergedWord> {
        let merges = self.merges.get_or_init(|| Merges::of(&self.tokenizer));
        merges
            .as_ref()
            .map_or(vec![], |m| m.words(&self.tokenizer, text))
    }

    /// The conversation as the model was taught to read it.
    pub fn render(&self, request: &RenderRequest<'_>) -> Result<Rendered> {
        match &self.template {
            Ok(template) => template.render(request),
            Err(e) => Err(e.of_template()),
        }
    }

    /// Tokens of a conversation up to where the assistant's answer begins.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let rendered = self.render(&RenderRequest {
            messages,
            add_generation_prompt: true,
            ..RenderRequest::default()
        })?;
        Ok(self
            .encode_rendered(&rendered)?
            .iter()
            .map(|t| t.id)
            .collect())
    }

    pub fn piece(&self, id: u32) -> String {
        self.tokenizer.id_to_token(id).unwrap_or_default()
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.tokenizer
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|t| t.special)
    }

    /// Whether this token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// The token that ends a text, as the tokenizer itself has it.
    pub fn eos_token(&self) -> Option<u32> {
        self.eos_token
    }

    /// Tokens that end an answer.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> {
        self.eos.iter().copied()
    }

    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// As `tokenizer.json` has it.
    pub fn to_json(&self) -> Result<String> {
        self.tokenizer
            .to_string(true)
            .map_err(|e| Error::Tokenizer {
                name: "tokenizer".into(),
                what: format!("cannot be written ({e})"),
            })
    }

    /// Where the tokenizer came from, for people.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The chat template's source, where there is a valid one.
    pub fn template(&self) -> Option<&str> {
        self.template.as_ref().ok().map(ChatTemplate::source)
    }
}

/// `chat_template` is a string, or a list of named ones.
fn named_template(value: &Json) -> Option<String> {
    if let Some(s) = value.as_str() {
        return Some(s.into());
    }
    let list = value.as_array()?;
    let chosen = list
        .iter()
        .find(|t| t["name"] == "default")
        .or(list.first())?;
    chosen["template"].as_str().map(String::from)
}
