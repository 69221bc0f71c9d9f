use std::ops::Range;

/// A weight's index in [`crate::Graph::weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub usize);

/// What a weight is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightKind {
    /// `[rows, cols]`, possibly quantised; several tensors may be stacked by rows.
    Matrix,
    /// Plain f32; several tensors may be joined.
    Vector,
    /// Not in the file: computed from the configuration.
    Constant(Vec<f32>),
}

/// One tensor of the checkpoint, or a range of it, that makes up some rows of a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tensor's Hugging Face name.
    pub tensor: String,
    /// Rows and columns of the whole tensor; a vector is one column.
    pub shape: [usize; 2],
    /// The rows of it that are taken.
    pub rows: Range<usize>,
    /// The columns of these rows that are taken.
    pub cols: Range<usize>,
}

impl Part {
    /// All of a tensor.
    pub fn whole(tensor: impl Into<String>, shape: [usize; 2]) -> Self {
        Self {
            tensor: tensor.into(),
            shape,
            rows: 0..shape[0],
            cols: 0..shape[1],
        }
    }

    /// How many rows of the weight it makes up.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether it is all of the tensor.
    pub fn is_whole(&self) -> bool {
        (&self.rows, &self.cols) == (&(0..self.shape[0]), &(0..self.shape[1]))
    }

    pub(crate) fn is_sound(&self) -> bool {
        let within = |range: &Range<usize>, n| !range.is_empty() && range.end <= n;
        within(&self.rows, self.shape[0]) && within(&self.cols, self.shape[1])
    }
}

/// A weight as the graph uses it. Its name is the same in every graph of a model, so that devices
/// can hold it once.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Distinguishes the weights of a model.
    pub name: String,
    /// Matrix, vector or constant.
    pub kind: WeightKind,
    /// The tensors it is made of, from top to bottom; empty for a constant.
    pub parts: Vec<Part>,
    /// Columns of a matrix; 1 for a vector.
    pub cols: usize,
}

impl Weight {
    /// Rows of a matrix; the length of a vector.
    pub fn rows(&self) -> usize {
        match &self.kind {
            WeightKind::Constant(values) => values.len(),
            WeightKind::Vector => self.parts.iter().map(|p| p.n_rows() * p.cols.len()).sum(),
            WeightKind::Matrix => self.parts.iter().map(Part::n_rows).sum(),
        }
    }
}
