//! JSON schemas and grammars with texts that they allow and forbid: of llama.cpp's own tests
//! (`tests/fixtures/generate_gbnf.py`), and of JSON Schema's test suite (`generate_json_schema.py`).

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::Value;
use siskin_grammar::{Compiled, Compiler, Shape, Vocabulary};
use siskin_tests::fixture;

const END: u32 = 256;

/// For a vocabulary with a token for each byte, and one that ends an answer.
fn compiler() -> Compiler {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend(b"\xff<end>");
    let mut offsets: Vec<u32> = (1..=256).collect();
    offsets.push(bytes.len() as u32);
    let vocabulary = Vocabulary {
        bytes,
        offsets,
        ends: vec![END],
    };
    Compiler::new(&vocabulary, Box::new(|_| None)).unwrap()
}

/// Whether an answer may be this text.
fn accepts(grammar: &Compiled, text: &str) -> bool {
    let mut following = grammar.begin();
    let tokens = text.bytes().map(u32::from).chain([END]);
    tokens.into_iter().all(|token| {
        let allowed = following.allowed().unwrap_or_default();
        let word = allowed.get(token as usize / 32).copied().unwrap_or(0);
        (word >> (token % 32)) & 1 == 1 && (token == END || following.add(token, false).is_ok())
    })
}

fn compiled(compiler: &Compiler, shape: Shape) -> Result<Compiled, String> {
    let source = shape.source().map_err(|e| e.to_string())?;
    compiler.compile(&source).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
struct Case {
    name: String,
    grammar: String,
    accepted: Vec<String>,
    refused: Vec<String>,
}

#[derive(Deserialize)]
struct Cases {
    gbnf: Vec<Case>,
    schemas: Vec<Case>,
}

fn cases() -> Cases {
    serde_json::from_slice(&fs::read(fixture("gbnf.json")).unwrap()).unwrap()
}

#[test]
fn gbnf_allows_what_llama_cpp_allows() {
    let compiler = compiler();
    let cases = cases().gbnf;
    assert!(cases.len() > 10);
    for case in cases {
        let grammar = compiled(&compiler, Shape::Grammar(case.grammar)).unwrap();
        for text in case.accepted {
            assert!(accepts(&grammar, &text), "{}: {text}", case.name);
        }
        for text in case.refused {
            assert!(!accepts(&grammar, &text), "{}: {text}", case.name);
        }
    }
}

#[test]
fn gbnf_with_and_without_recursion() {
    let compiler = compiler();
    let grammar = |text: &str| compiled(&compiler, Shape::Grammar(text.into()));
    let list = "# a list\nroot ::= \"[\" (item (\",\" item)*)? \"]\" # ends\nitem ::= root |\n  [0-9]{1,2}\n";
    let nested = grammar(list).unwrap();
    for text in ["[]", "[1,[22,[]],3]"] {
        assert!(accepts(&nested, text), "{text}");
    }
    for text in ["[1,]", "[123]", "[[]", "1", ""] {
        assert!(!accepts(&nested, text), "{text}");
    }
    // The longest terminal would otherwise take what follows.
    let greedy = grammar("root ::= word \"b\" root?\nword ::= [a-z]*").unwrap();
    assert!(accepts(&greedy, "aab") && accepts(&greedy, "b") && !accepts(&greedy, "ba"));
    let escapes = grammar(r#"root ::= "\x41\u00fc\U0001F426\"" [^\]\-a-c]{2} ."#).unwrap();
    assert!(accepts(&escapes, "Aü🐦\"de\n") && !accepts(&escapes, "Aü🐦\"d-x"));
    let wrong = [
        ("root ::= \"a", "line 1: it ends too early"),
        ("root ::= a\n", "the rule `a` is not defined"),
        ("a ::= \"b\"", "there is no rule `root`"),
        ("root ::= (\"a\"", "line 1: `)` is missing"),
        ("root ::= \"a\"{3,1}", "`{3,1}` must be"),
        ("root ::= [b-a]", "the range b-a is empty"),
        ("root ::= \"\\q\"", "`\\q` is unknown"),
        ("root ::= !<think>", "not supported"),
        ("root ::= \"a\" ;", "`;` is not expected here"),
    ];
    for (text, what) in wrong {
        let error = grammar(text).unwrap_err();
        assert!(error.contains(what), "{text}: {error}");
    }
}

/// llama.cpp's grammars refuse these, and JSON Schema allows them: numbers of more than 16 digits, what is no array under a
/// schema about arrays, and further properties.
const WIDER: [&str; 3] = ["min 0", "min 2", "min+max items"];

#[test]
fn schemas_allow_and_forbid_what_llama_cpp_s_tests_do() {
    let compiler = compiler();
    let cases = cases().schemas;
    assert!(cases.len() > 30);
    for case in cases {
        let name = &case.name;
        let schema = serde_json::from_str(&case.grammar).unwrap();
        let grammar = match compiled(&compiler, Shape::JsonSchema(schema)) {
            Ok(grammar) => grammar,
            Err(e) => {
                assert!(e.ends_with("/uniqueItems` is not supported"), "{name}: {e}");
                continue;
            }
        };
        for text in &case.accepted {
            assert!(accepts(&grammar, text), "{name}: {text}");
        }
        let wide = (case.refused.iter()).filter(|text| accepts(&grammar, text));
        let most = usize::from(WIDER.contains(&&**name) || name == "object properties");
        assert!(wide.count() <= most, "{name}");
    }
}

#[derive(Deserialize)]
struct Group {
    about: String,
    schema: Value,
    /// Values, and whether they are valid.
    tests: Vec<(Value, bool)>,
}

#[derive(Deserialize)]
struct Suite {
    groups: BTreeMap<String, Vec<Group>>,
    /// By the key that is not supported.
    refused: BTreeMap<String, Value>,
}

#[test]
fn what_a_schema_forbids_is_never_written() {
    let suite = fs::read(fixture("json_schema.json")).unwrap();
    let suite: Suite = serde_json::from_slice(&suite).unwrap();
    let compiler = compiler();
    let (mut compiled_groups, mut valid, mut allowed, mut forbidden) = (0, 0, 0, 0);
    for (file, group) in suite
        .groups
        .iter()
        .flat_map(|(f, g)| g.iter().map(move |g| (f, g)))
    {
        let Ok(grammar) = compiled(&compiler, Shape::JsonSchema(group.schema.clone())) else {
            continue;
        };
        compiled_groups += 1;
        for (value, is_valid) in &group.tests {
            let text = value.to_string();
            let is_allowed = accepts(&grammar, &text);
            assert!(*is_valid || !is_allowed, "{file}: {}: {text}", group.about);
            valid += usize::from(*is_valid);
            allowed += usize::from(*is_valid && is_allowed);
            forbidden += usize::from(!is_valid);
        }
    }
    // Of valid values, some are written in another way: properties in the schema's order, 1 and not 1.0, formats as told.
    assert_eq!(
        [compiled_groups, valid, allowed, forbidden],
        [130, 315, 293, 197]
    );
    for (key, schema) in suite.refused {
        let error = compiled(&compiler, Shape::JsonSchema(schema)).unwrap_err();
        let key = if key == "if-then-else" { "if" } else { &*key };
        assert!(error.contains(&format!("/{key}`")), "{key}: {error}");
    }
}

#[test]
fn keys_that_are_not_supported_are_named_with_their_place() {
    let schema = serde_json::json!({"type": "object", "properties": {
        "uniqueItems": {"type": "string"},
        "tags": {"anyOf": [{"type": "null"}, {"type": "array", "uniqueItems": true}]},
    }});
    let error = compiled(&compiler(), Shape::JsonSchema(schema)).unwrap_err();
    let what = "`#/properties/tags/anyOf/1/uniqueItems` is not supported";
    assert_eq!(error, format!("the JSON schema cannot be used: {what}"));
}
