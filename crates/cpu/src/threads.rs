//! One way to split work over threads: rayon natively, in turn where there are none.

/// Calls `f(i, chunk)` for the `i`-th run of `len` values of `out`.
pub(crate) fn each_chunk<T: Send>(
    out: &mut [T],
    len: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    #[cfg(feature = "threads")]
    if out.len() > len {
        use rayon::prelude::*;
        out.par_chunks_mut(len)
            .enumerate()
            .for_each(|(i, chunk)| f(i, chunk));
        return;
    }
    out.chunks_mut(len)
        .enumerate()
        .for_each(|(i, chunk)| f(i, chunk));
}
