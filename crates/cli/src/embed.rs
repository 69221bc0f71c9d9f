use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use siskin_engine::{EmbedOptions, Pooling};

use crate::args::{EmbedArgs, PoolingArg, RerankArgs};
use crate::{open, stop};

pub async fn embed(args: EmbedArgs) -> Result<()> {
    stop::install()?;
    let texts = texts(&args.texts, args.file.as_deref())?;
    let mut session = open::open(&args.model).await?;
    let options = EmbedOptions {
        pooling: args.pooling.map(|p| match p {
            PoolingArg::Mean => Pooling::Mean,
            PoolingArg::Cls => Pooling::First,
            PoolingArg::Last => Pooling::Last,
        }),
        dimensions: args.dimensions,
        prompt: args.prompt,
        truncate: args.truncate,
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = session.embed(&texts, &options).await?;
    let mut out = std::io::stdout().lock();
    if !args.json {
        for vector in &found.vectors {
            let values: Vec<String> = vector.iter().map(f32::to_string).collect();
            writeln!(out, "{}", values.join(" "))?;
        }
        return Ok(());
    }
    // https://platform.openai.com/docs/api-reference/embeddings
    let data = found.vectors.iter().enumerate();
    let data = data.map(|(i, v)| json!({"object": "embedding", "index": i, "embedding": v}));
    let answer = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": session.files().checkpoint.name,
        "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
    });
    writeln!(out, "{answer}")?;
    Ok(())
}

pub async fn rerank(args: RerankArgs) -> Result<()> {
    stop::install()?;
    let texts = texts(&args.texts, args.file.as_deref())?;
    let mut session = open::open(&args.model).await?;
    let given: Vec<&str> = texts.iter().map(String::as_str).collect();
    let scores = session.rerank(&args.query, &given, args.truncate).await?;
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut out = std::io::stdout().lock();
    if args.json {
        let result = |i: &usize| json!({"index": i, "relevance_score": scores[*i], "document": {"text": texts[*i]}});
        let results: Vec<_> = order.iter().map(result).collect();
        let model = &session.files().checkpoint.name;
        writeln!(out, "{}", json!({"model": model, "results": results}))?;
        return Ok(());
    }
    for i in order {
        writeln!(out, "{:.4}  {}", scores[i], texts[i])?;
    }
    Ok(())
}

/// Those of the command line, then the lines of a file.
fn texts(given: &[String], file: Option<&Path>) -> Result<Vec<String>> {
    let mut texts = given.to_vec();
    if let Some(path) = file {
        let lines = std::fs::read_to_string(path);
        let lines = lines.with_context(|| format!("cannot read {}", path.display()))?;
        let lines = lines.lines().filter(|l| !l.trim().is_empty());
        texts.extend(lines.map(String::from));
    }
    if texts.is_empty() {
        bail!("there is no text; give some, or a --file with one per line");
    }
    Ok(texts)
}
