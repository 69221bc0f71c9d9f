use siskin_formats::TensorType;

/// Some rows of a matrix, as the file stores them.
#[derive(Debug, Clone)]
pub struct CpuPart {
    pub ty: TensorType,
    pub rows: usize,
    /// `rows` times the bytes of a row.
    pub bytes: Vec<u8>,
}

/// A weight in memory.
#[derive(Debug, Clone)]
pub enum CpuWeight {
    Matrix { parts: Vec<CpuPart>, cols: usize },
    Vector(Vec<f32>),
}

impl CpuPart {
    pub fn row(&self, r: usize) -> &[u8] {
        let n = self.bytes.len() / self.rows;
        &self.bytes[r * n..][..n]
    }
}

impl CpuWeight {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Matrix { parts, .. } => parts.iter().map(|p| p.bytes.len()).sum(),
            Self::Vector(v) => v.len() * 4,
        }
    }
}
