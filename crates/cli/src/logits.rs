use anyhow::Result;
use safetensors::tensor::{Dtype, TensorView};

use crate::args::LogitsArgs;
use crate::{open, output};

pub async fn logits(args: LogitsArgs) -> Result<()> {
    output::check(&args.out, args.force)?;
    output::apart(&args.out, &open::resolve(&args.model.model)?)?;
    let mut session = open::open_adapted(&args.model, &args.adapter).await?;
    let names = if args.trace {
        session.trace_names()?
    } else {
        vec![]
    };
    let traced = session.trace(&args.tokens, &names, args.rows).await?;
    let bytes: Vec<Vec<u8>> = traced
        .iter()
        .map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let mut views = vec![];
    for (t, bytes) in traced.iter().zip(&bytes) {
        let shape = vec![args.tokens.len(), t.cols];
        views.push((t.name.as_str(), TensorView::new(Dtype::F32, shape, bytes)?));
    }
    let file = safetensors::serialize(views, None)?;
    output::whole(&args.out, |part| Ok(std::fs::write(part, file)?))
}
