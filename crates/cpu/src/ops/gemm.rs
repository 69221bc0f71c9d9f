//! Matrix products in f32, by the `gemm` crate.

/// A matrix to read: `[rows, cols]`, steps in values.
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

    /// One row, whose values stand side by side.
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

/// What is done with what stands in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    Store,
    Add,
}

/// `c = alpha · a · b`, or added to c, whose rows are `stride` apart.
pub fn gemm(c: &mut [f32], stride: usize, how: Into, alpha: f32, a: Mat<'_>, b: Mat<'_>) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(k, b.rows, "inner dimensions");
    assert!(a.fits() && b.fits() && n <= stride && (m - 1) * stride + n <= c.len());
    // SAFETY: the asserts above say that every value the strides reach lies in its slice, and `c` is
    // borrowed apart from `a` and `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride as isize,
            how == Into::Add,
            a.data.as_ptr(),
            a.col_step as isize,
            a.row_step as isize,
            b.data.as_ptr(),
            b.col_step as isize,
            b.row_step as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
