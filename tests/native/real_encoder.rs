//! all-MiniLM-L6-v2 against sentence-transformers. `cargo xtask encoder` fetches it and runs this.

use std::path::Path;

use pollster::block_on;
use serde_json::Value as Json;
use siskin_engine::{DeviceRequest, EmbedOptions, OpenOptions, Precision, Session};
use siskin_tests::{assert_close, devices, fixture, is_first_driver};

#[test]
#[ignore = "needs a model of 91 MB, which `cargo xtask encoder` fetches"]
fn similarities_are_those_of_sentence_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/all-minilm-l6-v2");
    let recorded = std::fs::read_to_string(fixture("real/minilm.json")).unwrap();
    let recorded: Json = serde_json::from_str(&recorded).unwrap();
    let list = |json: &Json| json.as_array().unwrap().clone();
    let floats = |json: &Json| -> Vec<f32> {
        let values = list(json).into_iter();
        values.map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let texts = list(&recorded["texts"]);
    let texts: Vec<&str> = texts.iter().map(|t| t.as_str().unwrap()).collect();
    let wanted: Vec<Vec<f32>> = list(&recorded["cosines"]).iter().map(floats).collect();
    let gpus = devices().into_iter().filter(|d| is_first_driver(d.0));
    let gpus = gpus.map(|(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    });
    for device in std::iter::once(DeviceRequest::Cpu).chain(gpus) {
        let options = OpenOptions {
            precision: Precision::Fast,
            ..OpenOptions::on(device)
        };
        let mut session = block_on(Session::open(&folder, &options, &mut |_| ())).unwrap();
        let options = EmbedOptions {
            truncate: true,
            ..EmbedOptions::default()
        };
        let found = block_on(session.embed(&texts, &options)).unwrap().vectors;
        let what = format!("{device:?}");
        assert_close(&what, &found[0], &floats(&recorded["first"]), 1e-4);
        for (a, wanted) in found.iter().zip(&wanted) {
            let cosines: Vec<f32> = found
                .iter()
                .map(|b| a.iter().zip(b).map(|(a, b)| a * b).sum())
                .collect();
            assert_close(&what, &cosines, wanted, 1e-4);
        }
    }
}
