//! One way to split work over threads: rayon natively, in turn where there are none.

/// Runs `f` on one of the threads that share its work: each time that work comes from another thread, that one sleeps
/// and is woken, which for a token of a small model took a fifth of the time.
pub(crate) fn within<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "threads")]
    return rayon::scope(|_| f());
    #[cfg(not(feature = "threads"))]
    f()
}

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

/// Length of the pieces, at most about `most` and a multiple of `unit`, into which `n` is cut so that all
/// threads have as much to do.
pub(crate) fn share(n: usize, most: usize, unit: usize) -> usize {
    #[cfg(feature = "threads")]
    let threads = rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    let threads = 1;
    let pieces = threads * n.div_ceil(threads * most.max(1));
    n.div_ceil(pieces).next_multiple_of(unit)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn pieces_are_even() {
        for n in [1, 31, 96, 576, 49_152] {
            for (most, unit) in [(96, 1), (300, 32), (300, 256)] {
                let len = share(n, most, unit);
                assert!(
                    len.is_multiple_of(unit) && len < most + unit && len >= 1,
                    "{n} {most} {unit}"
                );
            }
        }
    }
}
