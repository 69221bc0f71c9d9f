//! Matrix products in f32, by the `gemm` crate.

use crate::threads::each_chunk;

/// A matrix that is read: `[rows, cols]`, with a stride for each, in values.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a> Mat<'a> {
    /// Rows of `cols` values, `stride` apart, the first of them at the slice's start.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            data,
            rows,
            cols,
            row_step: stride,
            col_step: 1,
        }
    }

    /// As many rows of `cols` values as there are.
    pub fn dense(data: &'a [f32], cols: usize) -> Self {
        Self::new(data, data.len() / cols.max(1), cols, cols)
    }

    /// Transposed.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_step: self.col_step,
            col_step: self.row_step,
            ..self
        }
    }

    /// How many rows it has.
    pub fn n_rows(&self) -> usize {
        self.rows
    }

    /// How many columns it has.
    pub fn n_cols(&self) -> usize {
        self.cols
    }

    /// Some of the rows.
    pub fn rows(self, first: usize, n: usize) -> Self {
        assert!(
            first + n <= self.rows,
            "rows {first}..{} of {}",
            first + n,
            self.rows
        );
        Self {
            data: &self.data[(first * self.row_step).min(self.data.len())..],
            rows: n,
            ..self
        }
    }

    /// Some of the columns.
    pub fn cols(self, first: usize, n: usize) -> Self {
        self.t().rows(first, n).t()
    }

    /// One row, whose values are side by side.
    pub fn row(&self, r: usize) -> &'a [f32] {
        assert_eq!(self.col_step, 1, "a column is not a slice");
        &self.data[r * self.row_step..][..self.cols]
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.cols == 0
            || (self.rows - 1) * self.row_step + (self.cols - 1) * self.col_step < self.data.len()
    }
}

/// How a product gets into the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// In place of what is there.
    Set,
    /// Added to what is there.
    Add,
}

/// `c = alpha · a · b`, or added to c, whose rows are `stride` apart.
pub(crate) fn gemm(c: &mut [f32], stride: usize, how: Output, alpha: f32, a: Mat<'_>, b: Mat<'_>) {
    let (m, n) = (a.rows, b.cols);
    assert!(m == 0 || n == 0 || (n <= stride && (m - 1) * stride + n <= c.len()));
    // SAFETY: the assert above says that the result lies in `c`, which is borrowed apart from a and b.
    unsafe { gemm_at(c.as_mut_ptr(), stride, how, alpha, a, b) }
}

/// # Safety
/// `c` must be valid for `a.rows` rows of `b.cols` values, `stride` apart, which nobody else reads or
/// writes meanwhile.
unsafe fn gemm_at(c: *mut f32, stride: usize, how: Output, alpha: f32, a: Mat<'_>, b: Mat<'_>) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(k, b.rows, "inner dimensions");
    assert!(a.fits() && b.fits());
    // SAFETY: `fits` says that every value the strides reach lies in its slice; for c the caller does.
    unsafe {
        // It prefers results by columns: the transposed product of the transposed matrices.
        gemm_f32::gemm::f32::get_gemm_fn()(
            n,
            m,
            k,
            c,
            stride as isize,
            1,
            how == Output::Add,
            b.data.as_ptr(),
            b.row_step as isize,
            b.col_step as isize,
            a.data.as_ptr(),
            a.row_step as isize,
            a.col_step as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

/// Some columns of a matrix whose other columns other threads have.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    data: *mut f32,
    rows: usize,
    /// How many there are.
    pub len: usize,
    stride: usize,
    matrix: std::marker::PhantomData<&'a mut [f32]>,
}

impl Columns<'_> {
    /// `self = a · b`, or added to it.
    pub fn gemm(&mut self, how: Output, a: Mat<'_>, b: Mat<'_>) {
        assert!(a.rows == self.rows && b.cols == self.len);
        // SAFETY: `each_columns` gives no two blocks the same columns, all within the matrix.
        unsafe { gemm_at(self.data, self.stride, how, 1.0, a, b) }
    }

    /// The columns' values in one row.
    pub fn row(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows);
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(r * self.stride), self.len) }
    }
}

/// Columns `first .. first + n` of a matrix `[rows, stride]`, in blocks of `wide` columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    pub stride: usize,
    pub first: usize,
    pub n: usize,
    pub wide: usize,
}

/// Divides columns of a matrix among the threads: `f` gets where each block begins, counted from the first
/// column, and the block.
pub(crate) fn each_columns(
    matrix: &mut [f32],
    blocks: Blocks,
    f: impl Fn(usize, Columns<'_>) + Sync + Send,
) {
    let Blocks {
        stride,
        first,
        n,
        wide,
    } = blocks;
    struct Start(*mut f32);
    // SAFETY: each block of columns is computed from it by one thread alone.
    unsafe impl Sync for Start {}
    impl Start {
        fn at(&self, column: usize) -> *mut f32 {
            self.0.wrapping_add(column)
        }
    }
    assert!(first + n <= stride && matrix.len().is_multiple_of(stride));
    let (rows, start) = (matrix.len() / stride, Start(matrix.as_mut_ptr()));
    let mut blocks = vec![0u8; n.div_ceil(wide)];
    each_chunk(&mut blocks, 1, |i, _| {
        let at = i * wide;
        let block = Columns {
            data: start.at(first + at),
            rows,
            len: wide.min(n - at),
            stride,
            matrix: std::marker::PhantomData,
        };
        f(at, block);
    });
}
