//! Beam search.

use std::ops::ControlFlow;

use pollster::block_on;
use siskin_engine::{BeamOptions, CacheType, FinishReason, OpenOptions, Precision, Session};
use siskin_tests::{copy_of, fixture};

use crate::sequences::{CONTEXT, requests};

/// Recorded by tests/fixtures/generate_beams.py.
#[test]
fn beams_are_those_of_transformers() {
    let text = std::fs::read_to_string(fixture("tiny/llama/beams.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<u32> {
        let ids = v.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let folder = copy_of("tiny/llama");
    let (mut cut, mut ended) = (0, 0);
    for end in [&[0, 2][..], &[0, 2, 12, 43, 118, 285]] {
        let config = serde_json::json!({ "eos_token_id": end }).to_string();
        std::fs::write(folder.path().join("generation_config.json"), config).unwrap();
        for (device, sequences) in requests().into_iter().take(2).zip([1, 3]) {
            let options = OpenOptions {
                context: Some(CONTEXT),
                sequences,
                cache_types: CacheType::F32.into(),
                precision: Precision::F32,
                ..OpenOptions::on(device)
            };
            let mut session =
                block_on(Session::open(folder.path(), &options, &mut |_| ())).unwrap();
            let cases = cases.as_array().unwrap().iter();
            for case in cases.filter(|c| ids(&c["end"]) == end) {
                let options = BeamOptions {
                    beams: case["beams"].as_u64().unwrap() as usize,
                    max_tokens: 14,
                    length_penalty: case["length_penalty"].as_f64().unwrap() as f32,
                };
                let prompt = ids(&case["prompt"]);
                let search = session.beam_search(&prompt, &options, |_| ControlFlow::Continue(()));
                let found = block_on(search).unwrap();
                let wanted = case["answers"].as_array().unwrap();
                assert_eq!(found.len(), wanted.len(), "{case}");
                for (found, wanted) in found.iter().zip(wanted) {
                    assert_eq!(found.ids, ids(&wanted["ids"]), "{device:?} {case}");
                    let score = wanted["score"].as_f64().unwrap() as f32;
                    assert!(
                        (found.score - score).abs() < 1e-3,
                        "{} {score}",
                        found.score
                    );
                    match found.finish_reason {
                        FinishReason::Stop => ended += 1,
                        _ => cut += 1,
                    }
                }
            }
            session.reset();
            assert_eq!(session.cache_free(), 1.0);
        }
    }
    assert!(cut > 20 && ended > 20, "{cut} {ended}");
}
