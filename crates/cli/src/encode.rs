//! Encodes tensors on all processors.

use anyhow::Result;
use siskin_formats::{TensorType, encode_rows};

/// The blocks of a matrix `[rows, cols]`, or of several of the same size. `importance` has a weight for each column, of
/// each matrix if there are several.
pub fn encode(
    ty: TensorType,
    values: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
) -> siskin_formats::Result<Vec<u8>> {
    let cols = cols.max(1);
    let matrices = importance.map_or(1, |w| (w.len() / cols).max(1));
    let mut out = vec![];
    for (i, matrix) in values
        .chunks(values.len().div_ceil(matrices).max(1))
        .enumerate()
    {
        let weights = importance.map(|w| &w[i * cols..w.len().min((i + 1) * cols)]);
        out.extend(in_parts(ty, matrix, cols, weights)?);
    }
    Ok(out)
}

/// Some rows for each processor.
fn in_parts(
    ty: TensorType,
    values: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
) -> siskin_formats::Result<Vec<u8>> {
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = values.len() / cols;
    if rows < n || !values.len().is_multiple_of(cols) {
        return encode_rows(ty, values, cols, importance);
    }
    let parts = values.chunks(rows.div_ceil(n) * cols);
    let made: Vec<_> = std::thread::scope(|scope| {
        let encode = |part| scope.spawn(move || encode_rows(ty, part, cols, importance));
        let running: Vec<_> = parts.map(encode).collect();
        running.into_iter().map(|t| t.join()).collect()
    });
    let mut out = vec![];
    for part in made {
        out.extend(part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
    }
    Ok(out)
}

/// The progress bar of commands that write tensors.
pub fn bar(tensors: usize) -> Result<indicatif::ProgressBar> {
    let style = indicatif::ProgressStyle::with_template("writing {bar:30} {pos}/{len} tensors")?;
    Ok(indicatif::ProgressBar::new(tensors as u64).with_style(style))
}
