//! The tokenizer of a Hugging Face folder, read from all of its files as in transformers 5.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use siskin_formats::{SideFiles, sort_by};
use tokenizers::{AddedToken, Tokenizer};

use crate::tokenizer::{Parts, Templates};
use crate::{ChatTemplate, Error, Result, TextModel, check};

/// Special tokens that have names of their own.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

impl TextModel {
    /// Reads `tokenizer.json` and the files that accompany it.
    ///
    /// # Errors
    /// If there is no tokenizer or it is not valid.
    pub fn from_side_files(side: &SideFiles) -> Result<Self> {
        let missing = || Error::NoTokenizer(side.folder.clone());
        let text = side.get("tokenizer.json").ok_or_else(missing)?;
        let wrong = |what: String| Error::Tokenizer {
            name: format!("{}/tokenizer.json", side.folder),
            what: format!("not a valid tokenizer ({})", check::one_line(&what)),
        };
        let mut tokenizer = check::tokenizer(text).map_err(wrong)?;
        let config = json(side, "tokenizer_config.json");
        let special = special_tokens(side, &config);
        check::guarded(|| add_tokens(side, &config, &special, &mut tokenizer))
            .and_then(|added| added)
            .map_err(wrong)?;
        let templates = Templates::of(sources(side, &config), &special);
        let named = special.get("eos_token").and_then(Json::as_str);
        let mut eos_token = named.and_then(|t| tokenizer.token_to_id(t));
        let mut eos: BTreeSet<u32> = eos_token.into_iter().collect();
        for file in ["config.json", "generation_config.json"] {
            let file = json(side, file);
            for v in [&file["eos_token_id"], &file["text_config"]["eos_token_id"]] {
                let ids = v.as_array().cloned().unwrap_or_else(|| vec![v.clone()]);
                let ids = ids.iter().filter_map(Json::as_u64);
                let ids: Vec<u32> = ids.filter_map(|id| u32::try_from(id).ok()).collect();
                eos_token = eos_token.or(ids.first().copied());
                eos.extend(ids);
            }
        }
        Ok(Self::new(Parts {
            templates,
            eos,
            named: special,
            eos_token,
            kind: "tokenizer.json".into(),
            ..Parts::of(tokenizer)
        }))
    }
}

fn json(side: &SideFiles, file: &str) -> Json {
    serde_json::from_str(side.get(file).unwrap_or_default()).unwrap_or_default()
}

/// A token is a string, or an object with its flags.
fn content(value: &Json) -> Option<&str> {
    value.as_str().or(value["content"].as_str())
}

/// The special tokens by name, with unnamed ones under `additional_special_tokens`. Older folders, whose
/// configuration does not list the added tokens, have a separate file that takes precedence over the configuration.
fn special_tokens(side: &SideFiles, config: &Json) -> Map<String, Json> {
    let mut out = Map::new();
    let mut nameless: Vec<Json> = vec![];
    let mut read = |from: &Json| {
        for (name, value) in from.as_object().into_iter().flatten() {
            let listed = matches!(
                name.as_str(),
                "additional_special_tokens" | "extra_special_tokens"
            );
            match value {
                Json::Array(list) if listed => {
                    nameless.extend(list.iter().filter_map(content).map(Json::from));
                }
                Json::Object(map) if listed => {
                    for (name, value) in map {
                        if let Some(t) = content(value) {
                            out.insert(name.clone(), t.into());
                        }
                    }
                }
                _ if NAMED.contains(&name.as_str()) => {
                    if let Some(t) = content(value) {
                        out.insert(name.clone(), t.into());
                    }
                }
                _ => {}
            }
        }
    };
    read(config);
    if config["added_tokens_decoder"].is_null() {
        let map = json(side, "special_tokens_map.json");
        read(&map);
        for (name, value) in map.as_object().into_iter().flatten() {
            if name.ends_with("_token")
                && let Some(t) = content(value)
            {
                out.insert(name.clone(), t.into());
            }
        }
    }
    if !nameless.is_empty() {
        out.insert("additional_special_tokens".into(), Json::Array(nameless));
    }
    out
}

fn add_tokens(
    side: &SideFiles,
    config: &Json,
    special: &Map<String, Json>,
    tokenizer: &mut Tokenizer,
) -> std::result::Result<(), String> {
    let named = special.values().filter_map(Json::as_str);
    let nameless = special
        .get("additional_special_tokens")
        .and_then(Json::as_array);
    let nameless = nameless.into_iter().flatten().filter_map(Json::as_str);
    let all_special: Vec<&str> = named.chain(nameless).collect();
    let mut listed: Vec<(u64, AddedToken)> = vec![];
    if let Some(decoder) = config["added_tokens_decoder"].as_object() {
        for (id, token) in decoder {
            let mut token = token.clone();
            token["id"] = id.parse().unwrap_or(0u64).into();
            let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"];
            let Some(text) = token["content"].as_str() else {
                continue;
            };
            let is = flags.map(|f| token[f].as_bool());
            let special = is[4].unwrap_or(false);
            let added = AddedToken::from(text.to_string(), special)
                .single_word(is[0].unwrap_or(false))
                .lstrip(is[1].unwrap_or(false))
                .rstrip(is[2].unwrap_or(false))
                .normalized(is[3].unwrap_or(!special));
            listed.push((token["id"].as_u64().unwrap_or(0), added));
        }
    } else {
        let file = json(side, "added_tokens.json");
        for (text, id) in file.as_object().into_iter().flatten() {
            let special = all_special.contains(&text.as_str());
            let added = AddedToken::from(text.clone(), special).normalized(!special);
            listed.push((id.as_u64().unwrap_or(0), added));
        }
    }
    sort_by(&mut listed, &mut |a, b| a.0.cmp(&b.0));
    let known =
        |t: &Tokenizer, token: &str| t.get_added_vocabulary().get_vocab().contains_key(token);
    // Listed tokens take precedence over those that are only named, except in older folders.
    let listed = listed.into_iter().map(|(_, token)| token);
    tokenizer.add_tokens(listed).map_err(|e| e.to_string())?;
    let missing: Vec<AddedToken> = all_special
        .iter()
        .filter(|t| !known(tokenizer, t))
        .map(|t| AddedToken::from((*t).to_string(), true).normalized(false))
        .collect();
    tokenizer
        .add_special_tokens(missing)
        .map_err(|e| e.to_string())?;
    Ok(())
}

/// The default template and the one for tools.
fn sources(side: &SideFiles, config: &Json) -> [Option<String>; 2] {
    let file = side.get("chat_template.jinja").map(String::from);
    let tools = side
        .get("additional_chat_templates/tool_use.jinja")
        .map(String::from);
    if file.is_some() || tools.is_some() {
        return [file, tools];
    }
    // Image processors store theirs in a JSON file.
    let processor = json(side, "chat_template.json");
    for value in [&config["chat_template"], &processor["chat_template"]] {
        if let Some(s) = value.as_str() {
            return [Some(s.into()), None];
        }
        let named = |name: &str| match value {
            Json::Array(list) => list
                .iter()
                .find(|t| t["name"] == name)
                .and_then(|t| t["template"].as_str()),
            Json::Object(map) => map.get(name).and_then(Json::as_str),
            _ => None,
        };
        let found = [named("default"), named("tool_use")];
        if found.iter().any(Option::is_some) {
            return found.map(|f| f.map(String::from));
        }
    }
    [None, None]
}

impl Templates {
    /// Compiles the templates; a broken one is an error only when it is needed.
    pub fn of(sources: [Option<String>; 2], special: &Map<String, Json>) -> Self {
        let variables: Map<String, Json> = special
            .iter()
            .filter(|(_, v)| v.is_string())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let [default, tools] = sources.map(|s| s.map(|s| ChatTemplate::new(&s, variables.clone())));
        Self {
            default: default.unwrap_or(Err(Error::NoTemplate)),
            tools,
        }
    }
}
