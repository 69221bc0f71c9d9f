//! Chat templates with pieces of others spliced in: they render or are refused, quickly and without a panic.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, json};
use siskin_text::{ChatTemplate, Message, RenderRequest};

/// The templates of the other tests.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let folders = ["fixtures/templates", "conformance/templates"].map(|f| root.join(f));
    let mut all = vec![];
    let mut pending: Vec<_> = folders.into();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "jinja") {
                all.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(all.len() >= 10, "{} templates", all.len());
    all
}

/// The nearest character boundary.
fn boundary(text: &str, at: prop::sample::Index) -> usize {
    let mut at = at.index(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Snippets that tend to be large, deep or unusual.
const PIECES: [&str; 12] = [
    "{% for i in range(99999) %}",
    "{{ messages * 9999 }}",
    "{{ ('x' * 99999) * 99999 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% endfor %}",
    "{% if",
    "{{ messages | tojson(indent=99999999) }}",
    "{{ '%s' % messages }}",
    "|length",
    "[-9223372036854775808:]",
    "{{ 9 ** 9 ** 9 }}",
    "{{ ('a' ~ 'b').split('')}}",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutants_render_or_are_refused(
        base in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 6),
        piece in prop::option::of(prop::sample::select(&PIECES[..])),
    ) {
        let all = sources();
        let (base, other) = (base.get(&all), other.get(&all));
        let mut cut = [boundary(base, places[0]), boundary(base, places[1])];
        cut.sort_unstable();
        let mut taken = [boundary(other, places[2]), boundary(other, places[3])];
        taken.sort_unstable();
        let mut source = [&base[..cut[0]], &other[taken[0]..taken[1]], &base[cut[1]..]].concat();
        if let Some(piece) = piece {
            let at = boundary(&source, places[4]);
            source.insert_str(at, piece);
        }
        let start = Instant::now();
        if let Ok(template) = ChatTemplate::new(&source, Map::new()) {
            let messages = [
                Message::new("system", "Be brief."),
                Message::new("user", "What is <|im_end|>?"),
                Message::new("assistant", "<think>\nhm\n</think>\n\nA token."),
                Message::new("user", "Thanks"),
            ];
            let tools = [json!({"type": "function", "function": {"name": "f", "parameters": {}}})];
            let _ = template.render(&RenderRequest {
                messages: &messages,
                tools: &tools,
                add_generation_prompt: true,
                ..RenderRequest::default()
            });
        }
        prop_assert!(start.elapsed() < Duration::from_secs(5), "{source}");
    }
}
