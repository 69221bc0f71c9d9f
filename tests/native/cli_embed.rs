//! `embed` and `rerank`, run as a user runs them, on GGUF files, which have their tokenizer.

use siskin_tests::command::{fails, json, ok, path, tiny};
use siskin_tests::{Tensors, assert_close, fixture};

const TEXTS: [&str; 2] = ["How do I reset my password?", "Password recovery"];

fn gguf(name: &str) -> String {
    let file = fixture(&format!("encoders/{name}/model.gguf"));
    file.display().to_string()
}

/// Embeddings in OpenAI's shape.
fn vectors(args: &[&str]) -> Vec<Vec<f32>> {
    let answer = json(&[&["embed"], args, &["--json"]].concat());
    assert_eq!(answer["object"], "list");
    assert_eq!(
        answer["usage"]["prompt_tokens"],
        answer["usage"]["total_tokens"]
    );
    let data = answer["data"].as_array().unwrap();
    let vector = |(i, d): (usize, &serde_json::Value)| {
        assert_eq!(
            (&d["object"], &d["index"]),
            (&"embedding".into(), &i.into())
        );
        let values = d["embedding"].as_array().unwrap().iter();
        values.map(|v| v.as_f64().unwrap() as f32).collect()
    };
    data.iter().enumerate().map(vector).collect()
}

#[test]
fn vectors_by_line_and_in_json() {
    let model = gguf("bert");
    let wanted = Tensors::open("encoders/bert/expected.safetensors").f32("embeddings");
    for device in ["cpu", "gpu"] {
        let args = [&model, TEXTS[0], TEXTS[1], "--device", device];
        let found = vectors(&args);
        assert_close(device, &found.concat(), &wanted[..64], 2e-3);
        let lines = ok(&[&["embed"], &args[..]].concat());
        let printed: Vec<Vec<f32>> = lines
            .lines()
            .map(|l| l.split(' ').map(|v| v.parse().unwrap()).collect())
            .collect();
        assert_eq!(printed, found);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "texts.txt");
    std::fs::write(&file, format!("{}\n\n{}\n", TEXTS[0], TEXTS[1])).unwrap();
    let from_file = vectors(&[&model, "--file", &file, "--device", "cpu"]);
    assert_close("file", &from_file.concat(), &wanted[..64], 2e-3);
    let few = vectors(&[&model, TEXTS[0], "--dimensions", "8", "--device", "cpu"]);
    let length = few[0].iter().map(|v| v * v).sum::<f32>();
    assert_eq!(few[0].len(), 8);
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    let cls = vectors(&[&model, TEXTS[0], "--pooling", "cls", "--device", "cpu"]);
    assert_ne!(cls[0], from_file[0]);
}

#[test]
fn texts_sorted_by_their_scores() {
    let model = gguf("xlm-roberta_rerank");
    let texts = ["The weather is lovely today.", TEXTS[0], TEXTS[1]];
    let wanted = Tensors::open("encoders/xlm-roberta_rerank/expected.safetensors").f32("scores");
    // In the order of the recorded texts.
    let wanted = [wanted[2], wanted[0], wanted[1]];
    let args = [&["rerank", &model, "Where is the stadium?"], &texts[..]].concat();
    let args = [&args[..], &["--device", "cpu"]].concat();
    let answer = json(&[&args[..], &["--json"]].concat());
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    let mut last = f64::INFINITY;
    for result in results {
        let score = result["relevance_score"].as_f64().unwrap();
        let i = result["index"].as_u64().unwrap() as usize;
        assert!(score <= last, "{answer}");
        assert_eq!(result["document"]["text"], texts[i]);
        assert_close("score", &[score as f32], &[wanted[i]], 2e-3);
        last = score;
    }
    let lines = ok(&args);
    let best = texts[results[0]["index"].as_u64().unwrap() as usize];
    assert!(lines.lines().next().unwrap().ends_with(best), "{lines}");
}

#[test]
fn refusals_name_the_remedy() {
    let (bert, rerank, llama) = (gguf("bert"), gguf("modernbert_rerank"), tiny("llama"));
    let long = "password ".repeat(80);
    for (args, part) in [
        (["run", &bert, "Hi"], "`siskin embed`"),
        (["embed", &rerank, "Hi"], "`siskin rerank`"),
        (["embed", &llama, "Hi"], "--pooling mean, cls or last"),
        (
            ["embed", &bert, &long],
            "takes 64; shorten it, or use --truncate",
        ),
    ] {
        let args = [&args[..], &["--device", "cpu"]].concat();
        let error = fails(&args);
        assert!(
            error.starts_with("error: ") && error.contains(part),
            "{error}"
        );
    }
    let error = fails(&["rerank", &bert, "a", "b", "--device", "cpu"]);
    assert!(error.contains("no scores"), "{error}");
    let error = fails(&["embed", &bert, "--device", "cpu"]);
    assert!(error.contains("--file"), "{error}");
    let pooled = ok(&[
        "embed",
        &llama,
        "Hi",
        "--pooling",
        "last",
        "--device",
        "cpu",
    ]);
    assert_eq!(pooled.lines().count(), 1);
    let cut = ok(&["embed", &bert, &long, "--truncate", "--device", "cpu"]);
    assert_eq!(cut.split(' ').count(), 32);
}

#[test]
fn inspect_says_what_an_encoder_makes() {
    let text = ok(&["inspect", &gguf("modernbert")]);
    assert!(
        text.contains("embeddings by cls pooling, of length 1"),
        "{text}"
    );
    assert!(text.contains("tokens see the whole text"), "{text}");
    let bert = json(&["inspect", &gguf("bert"), "--json"]);
    assert_eq!(bert["embeddings"]["pooling"], "mean");
    assert_eq!(bert["embeddings"]["bidirectional"], true);
    assert_eq!(bert["memory"]["figure"]["kv_cache"], 0);
    assert!(ok(&["inspect", &gguf("bert")]).contains("learned positions"));
    let rerank = json(&["inspect", &gguf("xlm-roberta_rerank"), "--json"]);
    assert_eq!(rerank["embeddings"]["classes"], 1);
    let llama = json(&["inspect", &tiny("llama"), "--json"]);
    assert!(llama["embeddings"].is_null());
}
