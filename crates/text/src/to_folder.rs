//! A GGUF file's tokenizer as the files of a Hugging Face folder.

use serde_json::{Value as Json, json};

use crate::{Error, Result, TextModel};

impl TextModel {
    /// `tokenizer.json`. Tokens around plain text become a post-processor, as in transformers.
    ///
    /// # Errors
    /// If the tokenizer cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let wrong = |what: String| Error::Tokenizer {
            name: "tokenizer".into(),
            what: format!("cannot be written ({what})"),
        };
        let mut json = self.json().map_err(|e| wrong(e.to_string()))?;
        let [before, after] = self.added_around();
        if before.or(after).is_some() && json["post_processor"].is_null() {
            json["post_processor"] = self.template_processing(before, after);
        }
        serde_json::to_string_pretty(&json).map_err(|e| wrong(e.to_string()))
    }

    fn template_processing(&self, before: Option<u32>, after: Option<u32>) -> Json {
        let token =
            |id: u32, part: u32| json!({"SpecialToken": {"id": self.piece(id), "type_id": part}});
        let around = |part: u32, name: &str| -> Vec<Json> {
            let text = json!({"Sequence": {"id": name, "type_id": part}});
            let before = before.map(|id| token(id, part));
            let after = after.map(|id| token(id, part));
            before.into_iter().chain([text]).chain(after).collect()
        };
        let mut special = serde_json::Map::new();
        for id in before.into_iter().chain(after) {
            let piece = self.piece(id);
            special.insert(
                piece.clone(),
                json!({"id": piece, "ids": [id], "tokens": [piece]}),
            );
        }
        let pair = [around(0, "A"), around(1, "B")].concat();
        json!({
            "type": "TemplateProcessing",
            "single": around(0, "A"),
            "pair": pair,
            "special_tokens": special,
        })
    }

    /// `tokenizer_config.json`: the special tokens by name, and the chat template.
    pub fn to_tokenizer_config(&self) -> Json {
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
        for (name, token) in self.named_tokens() {
            config[name] = token.clone();
        }
        if config["eos_token"].is_null()
            && let Some(id) = self.end_tokens().last()
        {
            config["eos_token"] = json!(self.piece(id));
        }
        if let Some(template) = self.template() {
            config["chat_template"] = json!(template);
        }
        config
    }
}
