use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, TensorView};

use crate::args::LogitsArgs;
use crate::open;

pub async fn logits(args: LogitsArgs) -> Result<()> {
    let mut session = open::open(&args.model).await?;
    let values = session.logits(&args.tokens).await?;
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = vec![args.tokens.len(), values.len() / args.tokens.len()];
    let view = TensorView::new(Dtype::F32, shape, &bytes)?;
    safetensors::serialize_to_file([("logits", view)], None, &args.out)
        .with_context(|| format!("cannot write {}", args.out.display()))
}
