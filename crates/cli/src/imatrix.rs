//! `siskin imatrix`: the importance of a model's columns, measured on a text.

use std::io::BufWriter;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use siskin_engine::{Squares, read_text_of};

use crate::args::ImatrixArgs;
use crate::importance::Sums;
use crate::{open, output, stop};

pub async fn imatrix(args: ImatrixArgs) -> Result<()> {
    stop::install()?;
    output::check(&args.out, args.force)?;
    let path = open::resolve(&args.model.model)?;
    output::apart(&args.out, &path)?;
    output::apart(&args.out, &args.data)?;
    let data = args.data.display();
    let text =
        std::fs::read_to_string(&args.data).with_context(|| format!("cannot read {data}"))?;
    let tokenizer = read_text_of(&path)?;
    let tokens: Vec<u32> = tokenizer.encode(&text)?.iter().map(|t| t.id).collect();
    let mut session = open::open(&args.model).await?;
    let size = args.chunk.min(tokens.len());
    if size == 0 || args.chunk > session.context() {
        bail!(
            "{data} has {} tokens, of which --chunk {} are read at once; it must be from 1 to the context, {}",
            tokens.len(),
            args.chunk,
            session.context()
        );
    }
    // Of a tokenizer that puts a token before texts, each chunk begins with it.
    let first = tokenizer.named_token("bos_token");
    let first = first.filter(|bos| tokens.first() == Some(bos));
    let chunks = tokens.chunks_exact(size);
    let style = ProgressStyle::with_template("reading {bar:30} {pos}/{len} chunks, {eta} left")?;
    let bar = ProgressBar::new(chunks.len() as u64).with_style(style);
    let mut squares = Squares::new();
    let n = chunks.len();
    for chunk in chunks {
        if stop::flow().is_break() {
            bail!("stopped; nothing was written");
        }
        let mut chunk = chunk.to_vec();
        if let Some(bos) = first {
            chunk[0] = bos;
        }
        session.add_column_squares(&chunk, &mut squares).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let name = args.data.file_name().unwrap_or_default();
    let sums = Sums {
        tensors: squares
            .into_iter()
            .map(|(name, of)| (name, of.sums, of.counts))
            .collect(),
        dataset: name.to_string_lossy().into_owned(),
        chunks: n as u64,
        chunk_size: size as u64,
    };
    output::whole(&args.out, |part| {
        sums.write(&mut BufWriter::new(std::fs::File::create(part)?))
    })?;
    println!("{}", args.out.display());
    Ok(())
}
