/// A weight's place in [`crate::Graph::weights`].
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

/// One tensor of the checkpoint that makes up some rows of a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tensor's Hugging Face name.
    pub tensor: String,
    pub rows: usize,
}

/// A weight as the graph uses it. Its name is the same in every graph of a model, so that devices
/// can hold it once.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    pub name: String,
    pub kind: WeightKind,
    /// Top to bottom; empty for a constant.
    pub parts: Vec<Part>,
    /// Columns of a matrix; 1 for a vector.
    pub cols: usize,
}

impl Weight {
    /// Rows of a matrix; the length of a vector.
    pub fn rows(&self) -> usize {
        match &self.kind {
            WeightKind::Constant(values) => values.len(),
            _ => self.parts.iter().map(|p| p.rows).sum(),
        }
    }
}
