//! llguidance, which compiles grammars and follows them.

use std::fmt;
use std::sync::Arc;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::{TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};

use serde_json::Value;

use crate::source::{Notation, TOOLS};
use crate::vocabulary::SPECIAL;
use crate::{Error, Source, Vocabulary};

/// A model's own tokens of some bytes; `None` if they are not text, or the tokenizer adds something to it.
pub type Tokenize = Box<dyn Fn(&[u8]) -> Option<Vec<u32>> + Send + Sync>;

/// Compiles grammars for a vocabulary.
pub struct Compiler(ParserFactory);

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

impl Compiler {
    /// Reads the vocabulary, which takes a fraction of a second.
    ///
    /// # Errors
    /// If llguidance cannot use it.
    pub fn new(vocabulary: &Vocabulary, tokenize: Tokenize) -> Result<Self, Error> {
        const { assert!(TokTrie::SPECIAL_TOKEN_MARKER == SPECIAL) };
        let tokens = vocabulary.tokens();
        let info = TokRxInfo::new(tokens.len() as u32, vocabulary.ends[0]);
        let trie = TokTrie::from(&info, &tokens).with_eos_tokens(&vocabulary.ends);
        let environment = Environment { trie, tokenize };
        let mut factory = ParserFactory::new_simple(&(Arc::new(environment) as _))
            .map_err(|e| Error::Vocabulary(e.to_string()))?;
        factory.quiet();
        Ok(Self(factory))
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// If it is not valid, or has what is not supported.
    pub fn compile(&self, source: &Source) -> Result<Compiled, Error> {
        let grammar = TopLevelGrammar {
            grammars: parts(&source.grammar),
            max_tokens: None,
        };
        let matcher = Matcher::new(self.0.create_parser(grammar));
        let Some(what) = matcher.get_error() else {
            return Ok(Compiled(matcher));
        };
        let mut kind = source.kind.clone();
        if let Notation::Around(_, shape) = &source.grammar {
            // Which of the two is wrong?
            let grammar = (**shape).clone();
            self.compile(&Source { kind, grammar })?;
            kind = TOOLS.into();
        }
        let what = in_words(&source.grammar, &first_line(&what));
        Err(Error::Shape { kind, what })
    }
}

/// A grammar, and what it refers to.
fn parts(grammar: &Notation) -> Vec<GrammarWithLexer> {
    let first = match grammar {
        Notation::JsonSchema(schema) => GrammarWithLexer::from_json_schema(schema.clone()),
        Notation::Lark(lark) => GrammarWithLexer::from_lark(lark.clone()),
        Notation::Regex(regex) => GrammarWithLexer::from_regex(regex),
        Notation::Around(lark, shape) => {
            let mut all = vec![GrammarWithLexer::from_lark(lark.clone())];
            all.extend(parts(shape));
            all[1].name = Some("shape".into());
            return all;
        }
    };
    vec![first]
}

/// With the places of keys that are not supported.
fn in_words(grammar: &Notation, what: &str) -> String {
    let keys = what.strip_prefix("Unimplemented keys: ");
    let keys = keys.and_then(|keys| serde_json::from_str::<Vec<String>>(keys).ok());
    let (Notation::JsonSchema(schema), Some(keys)) = (grammar, keys) else {
        return what.into();
    };
    let places = keys.iter().map(|key| {
        let place = place_of(schema, key, false).unwrap_or_else(|| format!("/{key}"));
        format!("`#{place}`")
    });
    let places: Vec<String> = places.collect();
    format!("{} is not supported", places.join(" and "))
}

/// Where a key stands in a schema, as a JSON pointer. The keys of `properties` and the like are names, not keys of a schema.
fn place_of(schema: &Value, key: &str, are_names: bool) -> Option<String> {
    let parts: Vec<(String, &Value)> = match schema {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(all) => (all.iter().enumerate())
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => return None,
    };
    if !are_names && schema.get(key).is_some() {
        return Some(format!("/{key}"));
    }
    const NAMES: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
    parts.into_iter().find_map(|(name, part)| {
        let are_names = !are_names && NAMES.contains(&&*name);
        let place = place_of(part, key, are_names)?;
        Some(format!("/{name}{place}"))
    })
}

struct Environment {
    trie: TokTrie,
    tokenize: Tokenize,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the model's tokenizer does it, where that is possible.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let own = (self.tokenize)(bytes);
        own.unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().into()
}

/// A grammar at its beginning.
pub struct Compiled(Matcher);

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Compiled {
    /// The beginning of an answer.
    pub fn begin(&self) -> Following {
        Following(self.0.deep_clone())
    }
}

/// A grammar after some tokens.
pub struct Following(Matcher);

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Following {
    /// The tokens that may come next, a bit each: `allowed[id / 32] >> (id % 32)`.
    ///
    /// # Errors
    /// Says why there are none.
    pub fn allowed(&mut self) -> Result<Vec<u32>, String> {
        let mask = self
            .0
            .compute_mask_or_eos()
            .map_err(|e| first_line(&e.to_string()))?;
        match mask.is_zero() {
            true => Err("no token may follow".into()),
            false => Ok(mask.as_slice().to_vec()),
        }
    }

    /// Adds a token, which must have been allowed; and, if `may_force`, those that must come after it, which are returned.
    ///
    /// # Errors
    /// If it was not allowed.
    pub fn add(&mut self, token: u32, may_force: bool) -> Result<Vec<u32>, String> {
        let added = self.0.consume_token(token);
        added.map_err(|e| first_line(&e.to_string()))?;
        Ok(match may_force && !self.0.is_stopped() {
            true => self.0.consume_ff_tokens(),
            false => vec![],
        })
    }

    /// Whether nothing may follow but the end.
    pub fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }
}
