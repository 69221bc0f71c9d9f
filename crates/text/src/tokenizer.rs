use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tokenizers::{Encoding, Tokenizer};

use crate::bytes::Decoding;
use crate::ends::END_TOKENS;
use crate::merges::Merges;
use crate::{
    ChatTemplate, Error, MergedWord, Message, RenderRequest, Rendered, Result, check, encode,
};

/// A token and its byte range in the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: u32,
    /// As written in the vocabulary.
    pub piece: String,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// Where it ends in the text, in bytes.
    pub end: usize,
    /// Whether it is a control token, which decoding omits.
    pub special: bool,
}

/// The text side of a model: tokenizer, chat templates, and the tokens that end an answer.
///
/// ```
/// use siskin_formats::SideFiles;
/// use siskin_text::TextModel;
///
/// # fn main() -> siskin_text::Result<()> {
/// // `SideFiles::read(folder)` reads a Hugging Face folder; `TextModel::from_gguf` takes a GGUF file's header.
/// let mut side = SideFiles::new("example");
/// side.add(
///     "tokenizer.json",
///     r#"{
///         "version": "1.0", "added_tokens": [],
///         "pre_tokenizer": {"type": "Whitespace"},
///         "model": {"type": "WordLevel", "vocab": {"?": 0, "hello": 1, "world": 2}, "unk_token": "?"}
///     }"#
///     .into(),
/// );
/// let model = TextModel::from_side_files(&side)?;
/// let ids: Vec<u32> = model.encode("hello world")?.iter().map(|t| t.id).collect();
/// assert_eq!(ids, [1, 2]);
/// assert_eq!(model.decode(&ids), "hello world");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TextModel {
    tokenizer: Tokenizer,
    pub(crate) templates: Templates,
    before: Option<u32>,
    after: Option<u32>,
    between: Option<u32>,
    eos: BTreeSet<u32>,
    named: Map<String, Json>,
    eos_token: Option<u32>,
    special: HashSet<u32>,
    twins: HashMap<u32, u32>,
    decoding: Decoding,
    kind: String,
    /// Computed on first use.
    merges: OnceLock<Merges>,
}

/// A model's chat templates, compiled.
#[derive(Debug)]
pub(crate) struct Templates {
    pub default: Result<ChatTemplate>,
    /// For conversations with tools, if different.
    pub tools: Option<Result<ChatTemplate>>,
}

/// The parts of a text model.
#[derive(Debug)]
pub(crate) struct Parts {
    pub tokenizer: Tokenizer,
    pub templates: Templates,
    /// Put before plain text, for tokenizers that do not do so themselves.
    pub before: Option<u32>,
    /// Put after plain text.
    pub after: Option<u32>,
    /// Put between two texts that are read together, after what is put after the first.
    pub between: Option<u32>,
    pub eos: BTreeSet<u32>,
    /// `bos_token`, `eos_token` and so on, as text.
    pub named: Map<String, Json>,
    /// The tokenizer's own end-of-text token, which is one of them.
    pub eos_token: Option<u32>,
    /// Ids whose text the tokenizer knows under another id.
    pub twins: HashMap<u32, u32>,
    pub kind: String,
}

impl Parts {
    pub fn of(tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            templates: Templates {
                default: Err(Error::NoTemplate),
                tools: None,
            },
            before: None,
            after: None,
            between: None,
            eos: BTreeSet::new(),
            named: Map::new(),
            eos_token: None,
            twins: HashMap::new(),
            kind: String::new(),
        }
    }
}

impl TextModel {
    pub(crate) fn new(parts: Parts) -> Self {
        let added = parts.tokenizer.get_added_tokens_decoder();
        let mut eos = parts.eos;
        let ends = added
            .iter()
            .filter(|(_, t)| t.special && END_TOKENS.contains(&t.content.as_str()));
        eos.extend(ends.map(|(id, _)| *id));
        let special = added.iter().filter(|(_, t)| t.special);
        let (special, control): (HashSet<u32>, Vec<String>) =
            special.map(|(id, t)| (*id, t.content.clone())).unzip();
        let guarded = |t: ChatTemplate| t.with_control_tokens(&control);
        let decoder = serde_json::to_value(parts.tokenizer.get_decoder()).unwrap_or_default();
        let mut model = Self {
            templates: Templates {
                default: parts.templates.default.map(guarded),
                tools: parts.templates.tools.map(|t| t.map(guarded)),
            },
            tokenizer: parts.tokenizer,
            before: parts.before,
            after: parts.after,
            between: parts.between,
            named: parts.named,
            eos,
            eos_token: parts.eos_token,
            special,
            twins: parts.twins,
            decoding: Decoding::of(&decoder),
            kind: parts.kind,
            merges: OnceLock::new(),
        };
        model.eos.extend(model.template_end());
        model.remove_ends_of_messages();
        model
    }

    /// Where answers are messages in channels, `<|end|>` ends a message, not the answer.
    fn remove_ends_of_messages(&mut self) {
        let id = |token| self.tokenizer.token_to_id(token);
        let has = |token| id(token).is_some();
        let ends_answers =
            has("<|return|>") && has("<|call|>") || has("<|flush|>") && has("<|calls|>");
        if let Some(end) = id("<|end|>").filter(|_| ends_answers) {
            self.eos.remove(&end);
        }
    }

    /// The special token that the template puts after an answer.
    fn template_end(&self) -> Option<u32> {
        let answer = "xyz";
        let messages = [Message::new("user", "a"), Message::new("assistant", answer)];
        let rendered = self
            .render(&RenderRequest {
                messages: &messages,
                ..RenderRequest::default()
            })
            .ok()?;
        let after = rendered.text.rfind(answer)? + answer.len();
        let tokens = self.encode_rendered(&rendered).ok()?;
        let next = tokens.iter().find(|t| t.start >= after)?;
        next.special.then_some(next.id)
    }

    /// Tokens of plain text, with the tokens that the model expects at its ends.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<Token>> {
        let encoding = self.encoded(|| self.tokenizer.encode(text, true))?;
        let mut tokens = self.tokens(&encoding);
        if let Some(id) = self.before {
            tokens.insert(0, self.added(id, 0));
        }
        if let Some(id) = self.after {
            tokens.push(self.added(id, text.len()));
        }
        Ok(tokens)
    }

    /// A token that is not in the text, at this place.
    pub(crate) fn added(&self, id: u32, at: usize) -> Token {
        Token {
            id,
            piece: self.piece(id),
            start: at,
            end: at,
            special: true,
        }
    }

    /// Tokens of two texts that are read together, put together by the tokenizer, and to which text each belongs.
    pub(crate) fn encode_two(&self, first: &str, second: &str) -> Result<(Vec<Token>, Vec<u32>)> {
        let encoding = self.encoded(|| self.tokenizer.encode((first, second), true))?;
        Ok((self.tokens(&encoding), encoding.get_type_ids().to_vec()))
    }

    /// What is put between two texts, if the tokenizer does not do so itself.
    pub(crate) fn between(&self) -> Option<u32> {
        self.between
    }

    /// Tokens of a rendered chat template, which already contains its special tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<Token>> {
        let text = rendered.text.as_str();
        let encoding = self.encoded(|| match rendered.plain.as_slice() {
            [] => self.tokenizer.encode(text, false),
            plain => encode::encode(&self.tokenizer, text, plain),
        })?;
        Ok(self.tokens(&encoding))
    }

    fn encoded(&self, run: impl FnOnce() -> tokenizers::Result<Encoding>) -> Result<Encoding> {
        let wrong = |what: String| Error::Tokenizer {
            name: "tokenizer".into(),
            what: format!("cannot encode the text ({})", check::one_line(&what)),
        };
        check::guarded(run)
            .map_err(wrong)?
            .map_err(|e| wrong(e.to_string()))
    }

    fn tokens(&self, encoding: &Encoding) -> Vec<Token> {
        let ids = encoding.get_ids().iter().zip(encoding.get_tokens());
        ids.zip(encoding.get_offsets())
            .map(|((&id, piece), &(start, end))| Token {
                id,
                piece: piece.clone(),
                start,
                end,
                special: self.is_special(id),
            })
            .collect()
    }

    /// Text of tokens; special tokens are omitted.
    pub fn decode(&self, ids: &[u32]) -> String {
        let ids: Vec<u32> = ids.iter().map(|id| self.own(*id)).collect();
        let text = check::guarded(|| self.tokenizer.decode(&ids, true));
        text.ok().and_then(|t| t.ok()).unwrap_or_default()
    }

    /// The id under which the tokenizer knows a token's text.
    fn own(&self, id: u32) -> u32 {
        self.twins.get(&id).copied().unwrap_or(id)
    }

    /// How another tokenizer's vocabulary differs from this one; `None` if it does not.
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        let [n, theirs] = [self, other].map(Self::vocab_size);
        if n != theirs {
            return Some(format!("its vocabulary has {theirs} tokens instead of {n}"));
        }
        let mut ids = (0..n as u32).map(|id| (id, self.piece(id), other.piece(id)));
        let (id, own, its) = ids.find(|(_, own, its)| own != its)?;
        Some(format!("its token {id} is `{its}` instead of `{own}`"))
    }

    /// The bytes of a token's text, which may be partial characters; special tokens are spelled out.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        if self.is_special(id) {
            return self.piece(id).into_bytes();
        }
        if let Decoding::WordPiece { prefix } = &self.decoding
            && let Some(rest) = self.piece(id).strip_prefix(prefix)
        {
            return rest.into();
        }
        self.text_bytes(id)
            .unwrap_or_else(|| self.decode(&[id]).into_bytes())
    }

    /// The bytes of an ordinary token; `None` if only the tokenizer's decoder can tell.
    pub(crate) fn text_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.decoding.bytes(&self.piece(id))
    }

    /// Whether a text's first space was added by the tokenizer.
    pub(crate) fn strips_first_space(&self) -> bool {
        matches!(self.decoding, Decoding::Spaces { strips: true, .. })
    }

    /// How each word of a text is assembled; empty for a text that the tokenizer cannot encode.
    pub fn merges(&self, text: &str) -> Vec<MergedWord> {
        let merges = self.merges.get_or_init(|| Merges::of(&self.tokenizer));
        let words = check::guarded(|| merges.words(&self.tokenizer, text));
        words.ok().and_then(|w| w.ok()).unwrap_or_default()
    }

    /// A token as written in the vocabulary (`Ġhello`); empty for an id that the vocabulary does not have.
    pub fn piece(&self, id: u32) -> String {
        self.tokenizer.id_to_token(self.own(id)).unwrap_or_default()
    }

    /// The token that is written so in the vocabulary.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        self.tokenizer.token_to_id(piece)
    }

    /// Whether a token is a control token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&self.own(id))
    }

    /// Whether this token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// The token with one of transformers' names: `bos_token`, `eos_token`, `pad_token`, `unk_token`, ….
    pub fn named_token(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(self.named.get(name)?.as_str()?)
    }

    /// Tokens that are put before and after plain text where the tokenizer itself does not add them.
    pub(crate) fn added_around(&self) -> [Option<u32>; 2] {
        [self.before, self.after]
    }

    /// The tokenizer's own end-of-text token.
    pub fn eos_token(&self) -> Option<u32> {
        self.eos_token
    }

    /// Tokens that end an answer.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> {
        self.eos.iter().copied()
    }

    /// Tokens of the tokenizer, which may be fewer than the model's embedding has rows.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// In the form of `tokenizer.json`.
    pub(crate) fn json(&self) -> serde_json::Result<Json> {
        serde_json::to_value(&self.tokenizer)
    }

    pub(crate) fn named_tokens(&self) -> &Map<String, Json> {
        &self.named
    }

    /// The kind of tokenizer, for display: `tokenizer.json`, or GGUF's names of model and pre-tokenizer.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The source of the chat template, if there is a valid one.
    pub fn template(&self) -> Option<&str> {
        self.templates
            .default
            .as_ref()
            .ok()
            .map(ChatTemplate::source)
    }
}
