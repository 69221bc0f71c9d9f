//! A tiny random model of each encoder family, on every device, against transformers' hidden states and
//! sentence-transformers' embeddings and scores.

use std::path::Path;

use pollster::block_on;
use siskin_engine::{
    CacheType, DeviceRequest, EmbedOptions, GenerateOptions, OpenOptions, Pooling, Precision,
    Session,
};
use siskin_gpu::Profile;
use siskin_models::{Head, Model};
use siskin_tests::{Tensors, assert_close, devices, fixture, is_first_driver, tolerance};
use std::ops::ControlFlow;
use tempfile::TempDir;

const EMBED: [&str; 7] = [
    "bert",
    "gemma_embedding",
    "modernbert",
    "nomic_bert",
    "qwen3_embedding",
    "roberta",
    "xlm-roberta",
];
const RERANK: [&str; 3] = ["bert_rerank", "modernbert_rerank", "xlm-roberta_rerank"];

/// As in `generate_encoders.py`.
const TEXTS: [&str; 5] = [
    "How do I reset my password?",
    "Password recovery",
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium, which was further away than he had thought, and came too late for the match.",
];
const QUERY: &str = "Where is the stadium?";

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_all(&path, &to),
            false => {
                std::fs::copy(path, to).unwrap();
            }
        }
    }
}

/// The folder's files, with the tokenizer that all of them share.
fn folder(name: &str) -> TempDir {
    let (from, dir) = (fixture("encoders"), tempfile::tempdir().unwrap());
    copy_all(&from.join(name), dir.path());
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn expected(name: &str) -> Tensors {
    Tensors::open(&format!("encoders/{name}/expected.safetensors"))
}

fn open(path: &Path, device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: None,
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    block_on(Session::open(path, &options, &mut |_| ()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The CPU, every profile of the first driver, and one of another.
fn requests() -> Vec<(DeviceRequest, Profile)> {
    let gpus = devices().into_iter().filter_map(|(index, profile)| {
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        (is_first_driver(index) || profile == Profile::BASE).then_some((device, profile))
    });
    std::iter::once((DeviceRequest::Cpu, Profile::BASE))
        .chain(gpus)
        .collect()
}

/// The folder on every device, and the GGUF file, whose graph is the same, on the CPU.
fn each(name: &str, check: impl Fn(&mut Session, &str, Profile)) {
    let dir = folder(name);
    for (device, profile) in requests() {
        let what = format!("{name} {device:?}");
        check(&mut open(dir.path(), device), &what, profile);
    }
    let gguf = fixture("encoders").join(name).join("model.gguf");
    if gguf.exists() {
        let mut session = open(&gguf, DeviceRequest::Cpu);
        check(&mut session, &format!("{name} GGUF"), Profile::BASE);
    }
}

#[test]
fn hidden_states_are_those_of_transformers() {
    for name in EMBED {
        let t = expected(name);
        let (ids, wanted) = (t.u32("ids"), t.f32("hidden"));
        each(name, |session, what, profile| {
            let hidden = block_on(session.hidden(&ids)).unwrap();
            assert_close(what, &hidden, &wanted, tolerance("model", profile) / 2.0);
        });
    }
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    for name in EMBED {
        let wanted = expected(name).f32("embeddings");
        each(name, |session, what, profile| {
            let is_gguf = what.ends_with("GGUF");
            let tolerance = tolerance("model", profile) / 2.0;
            // The last text has more tokens than the folder's files allow; GGUF files do not say how many.
            let options = EmbedOptions {
                truncate: true,
                ..EmbedOptions::default()
            };
            let all = block_on(session.embed(&TEXTS, &options)).unwrap();
            let compared = if is_gguf {
                TEXTS.len() - 1
            } else {
                TEXTS.len()
            };
            let found = all.vectors[..compared].concat();
            // Nor whether embeddings keep their length.
            if !(is_gguf && name == "xlm-roberta") {
                assert_close(what, &found, &wanted[..found.len()], tolerance);
            }
            for (text, vector) in TEXTS.iter().zip(&all.vectors) {
                let one = block_on(session.embed(&[text], &options)).unwrap();
                assert_close(what, &one.vectors[0], vector, tolerance);
            }
        });
    }
}

#[test]
fn scores_are_those_of_cross_encoders() {
    for name in RERANK {
        let wanted = expected(name).f32("scores");
        each(name, |session, what, profile| {
            let scores = block_on(session.rerank(QUERY, &TEXTS, false)).unwrap();
            assert_close(what, &scores, &wanted, tolerance("model", profile) / 2.0);
        });
    }
}

#[test]
fn prompts_dimensions_and_long_texts() {
    let dir = folder("bert");
    let mut session = open(dir.path(), DeviceRequest::Cpu);
    let prompted = EmbedOptions {
        prompt: Some("query".into()),
        ..EmbedOptions::default()
    };
    let found = block_on(session.embed(&TEXTS[..1], &prompted)).unwrap();
    let wanted = expected("bert").f32("prompted");
    assert_close("prompt", &found.vectors[0], &wanted, 1e-4);
    let whole = block_on(session.embed(&TEXTS[..1], &EmbedOptions::default())).unwrap();
    let few = EmbedOptions {
        dimensions: Some(8),
        ..EmbedOptions::default()
    };
    let few = block_on(session.embed(&TEXTS[..1], &few)).unwrap().vectors;
    let length = whole.vectors[0][..8].iter().map(|v| v * v).sum::<f32>();
    let wanted: Vec<f32> = whole.vectors[0][..8]
        .iter()
        .map(|v| v / length.sqrt())
        .collect();
    assert_close("dimensions", &few[0], &wanted, 1e-6);
    // 40 tokens are the most, by sentence_bert_config.json, of which two are [CLS] and [SEP].
    let long = "password ".repeat(50);
    let texts = ["short", long.as_str()];
    let error = block_on(session.embed(&texts, &EmbedOptions::default())).unwrap_err();
    assert!(
        error.to_string().starts_with("text 2 has ") && error.to_string().ends_with("takes 40"),
        "{error}"
    );
    let cut = EmbedOptions {
        truncate: true,
        ..EmbedOptions::default()
    };
    let found = block_on(session.embed(&texts, &cut)).unwrap();
    assert_eq!(
        found.tokens,
        40 + session.text.encode("short").unwrap().len()
    );
    let refused = |options: EmbedOptions| {
        block_on(session.embed(&["a"], &options))
            .unwrap_err()
            .to_string()
    };
    let mut refused = refused;
    let error = refused(EmbedOptions {
        prompt: Some("passage".into()),
        ..EmbedOptions::default()
    });
    assert!(
        error.contains("`passage`") && error.contains("query"),
        "{error}"
    );
    let error = refused(EmbedOptions {
        dimensions: Some(33),
        ..EmbedOptions::default()
    });
    assert!(error.contains("33") && error.contains("32"), "{error}");
}

#[test]
fn what_a_model_is_not_for_is_refused() {
    let dir = folder("bert");
    let mut session = open(dir.path(), DeviceRequest::Cpu);
    let go_on = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
    let error = block_on(session.generate(&[2, 9], &GenerateOptions::default(), go_on));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("bert is an encoder"), "{error}");
    let error = block_on(session.trace(&[2, 9], &[], 8)).unwrap_err();
    assert!(error.to_string().contains("bert is an encoder"), "{error}");
    let error = block_on(session.rerank("a", &["b"], false)).unwrap_err();
    assert!(error.to_string().contains("no scores"), "{error}");
    let dir = folder("bert_rerank");
    let mut session = open(dir.path(), DeviceRequest::Cpu);
    let error = block_on(session.embed(&["a"], &EmbedOptions::default())).unwrap_err();
    assert!(error.to_string().contains("makes scores"), "{error}");
    let mut llama = open(&fixture("tiny/llama"), DeviceRequest::Cpu);
    let error = block_on(llama.embed(&["a"], &EmbedOptions::default())).unwrap_err();
    assert!(error.to_string().contains("pooling"), "{error}");
    let config = std::fs::read_to_string(fixture("encoders/bert/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let model = Model::from_config(config.clone()).unwrap();
    assert!(model.graph(Head::Loss).is_err());
    config["position_embedding_type"] = "relative_key".into();
    let error = Model::from_config(config).unwrap_err().to_string();
    assert!(error.contains("position_embedding_type"), "{error}");
}

/// A model for text has embeddings too: those of the last token see the whole text, and are what decoding had.
#[test]
fn a_chat_model_is_pooled_as_asked() {
    let folder = fixture("tiny/llama");
    for (device, profile) in requests() {
        let mut session = open(&folder, device);
        let ids: Vec<u32> = session
            .text
            .encode(TEXTS[2])
            .unwrap()
            .iter()
            .map(|t| t.id)
            .collect();
        let names = ["model.norm".to_string()];
        let traced = block_on(session.trace(&ids, &names, 16)).unwrap();
        let tolerance = tolerance("model", profile);
        let hidden = block_on(session.hidden(&ids)).unwrap();
        assert_close("hidden", &hidden, &traced[1].values, tolerance);
        let options = EmbedOptions {
            pooling: Some(Pooling::Last),
            ..EmbedOptions::default()
        };
        let found = block_on(session.embed(&TEXTS[1..4], &options)).unwrap();
        let last = &hidden[hidden.len() - session.model.dims().hidden_size..];
        let length = last.iter().map(|v| v * v).sum::<f32>().sqrt();
        let wanted: Vec<f32> = last.iter().map(|v| v / length).collect();
        assert_close("last", &found.vectors[1], &wanted, tolerance);
    }
}
