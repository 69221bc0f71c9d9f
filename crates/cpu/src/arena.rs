//! The plan's arena: every value of a run in one allocation.

use siskin_graph::View;

use crate::ops::gemm::Mat;

/// Rows of a value, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    data: &'a [f32],
    start: usize,
    stride: usize,
    pub cols: usize,
}

impl<'a> Rows<'a> {
    pub fn row(&self, r: usize) -> &'a [f32] {
        &self.data[r * self.stride + self.start..][..self.cols]
    }

    /// The first rows as a matrix.
    pub fn mat(&self, rows: usize) -> Mat<'a> {
        Mat::new(&self.data[self.start..], rows, self.cols, self.stride)
    }

    /// All rows as one slice, when they are contiguous.
    pub fn dense(&self, rows: usize) -> &'a [f32] {
        assert_eq!(self.cols, self.stride, "a view with gaps is not dense");
        &self.data[..rows * self.cols]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Arena {
    data: Vec<f32>,
}

impl Arena {
    /// Makes room for `len` values.
    pub fn reserve(&mut self, len: usize) {
        if self.data.len() < len {
            self.data.resize(len, 0.0);
        }
    }

    /// A value to write, dense, of `rows` rows, and the values to read meanwhile. The plan never
    /// lets a result share storage with what its step reads.
    pub fn io<const N: usize>(
        &mut self,
        out: View,
        rows: usize,
        inputs: [View; N],
    ) -> (&mut [f32], [Rows<'_>; N]) {
        let end = out.offset + rows * out.stride;
        let (left, rest) = self.data.split_at_mut(out.offset);
        let (out_data, right) = rest.split_at_mut(end - out.offset);
        let (left, right) = (&*left, &*right);
        let inputs = inputs.map(|v| Rows {
            data: if v.offset < out.offset {
                &left[v.offset..]
            } else {
                &right[v.offset - end..]
            },
            start: v.start,
            stride: v.stride,
            cols: v.cols,
        });
        (out_data, inputs)
    }

    pub fn read(&self, v: View) -> Rows<'_> {
        Rows {
            data: &self.data[v.offset..],
            start: v.start,
            stride: v.stride,
            cols: v.cols,
        }
    }
}
