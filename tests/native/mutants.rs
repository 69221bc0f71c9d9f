//! Files with one thing changed, by their structure: they are read or refused, and never more than that.
//! `PROPTEST_CASES=100000 cargo test --release -p siskin-tests --test mutants` runs more of them.

use proptest::prelude::*;
use serde_json::{Value, json};
use siskin_engine::Adapter;
use siskin_formats::{Gguf, read_torch};
use siskin_models::{Head, Model};
use siskin_tests::fixture;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Values that configurations are not made for.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..100_000u32).prop_map(Value::from),
        any::<f64>().prop_map(|v| serde_json::Number::from_f64(v).map_or(Value::Null, Value::from)),
        ".{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!([1, 2])),
        Just(json!({})),
        Just(json!({"rope_type": "linear", "factor": -1e300})),
        Just(json!(1e308)),
        Just(json!(u64::MAX)),
    ]
}

/// Every place of a JSON value, as a path of keys.
fn places(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                out.push(path.clone());
                places(value, &path, out);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                places(value, &format!("{path}/{i}"), out);
            }
        }
        _ => {}
    }
}

/// With the value at some of its places changed.
fn mutated(base: &Value, changes: &[(prop::sample::Index, Value)]) -> Value {
    let mut all = vec![];
    places(base, "", &mut all);
    let mut out = base.clone();
    for (at, value) in changes {
        if let Some(place) = out.pointer_mut(&all[at.index(all.len())]) {
            *place = value.clone();
        }
    }
    out
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Value)>> {
    prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configurations(
        family in prop::sample::select(&["llama", "mistral", "qwen2", "qwen3", "gemma3"][..]),
        changes in changes(),
    ) {
        let base = serde_json::from_slice(&read(&format!("tiny/{family}/config.json"))).unwrap();
        if let Ok(model) = Model::from_config(mutated(&base, &changes)) {
            let _ = model.graph(Head::Next);
        }
    }

    #[test]
    fn adapters(changes in changes()) {
        let folder = "../conformance/adapters/rank_pattern";
        let base = serde_json::from_slice(&read(&format!("{folder}/adapter_config.json"))).unwrap();
        let weights = read(&format!("{folder}/adapter_model.safetensors"));
        let config = mutated(&base, &changes).to_string();
        if let Ok(adapter) = Adapter::from_peft("adapter", config.as_bytes(), &weights) {
            let model = serde_json::from_slice(&read("tiny/llama/config.json")).unwrap();
            let graph = Model::from_config(model).unwrap().graph(Head::Next).unwrap();
            let _ = adapter.spec(&graph);
            let _ = adapter.to_peft();
        }
    }

    #[test]
    fn pickles(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut file = read("../conformance/adapters/bin/adapter_model.bin");
        let n = file.len();
        file[at.index(n)] = byte;
        let _ = read_torch(&file);
        file.truncate(cut.index(n));
        let _ = read_torch(&file);
    }

    #[test]
    fn headers(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 1..9usize), 1..4)) {
        let mut file = read("tiny/llama/model.gguf");
        // Where metadata and tensors are described.
        let header = 12_000.min(file.len() - 8);
        for (at, value, n) in changes {
            let at = at.index(header);
            file[at..at + n].copy_from_slice(&value.to_le_bytes()[..n]);
        }
        let _ = Gguf::read(&file);
    }
}
