use std::collections::HashMap;

use siskin_formats::TensorType;
use siskin_graph::{Experts, Graph, WeightId, WeightKind};

use crate::ops::experts::Matrices;
use crate::{Error, Result};

/// Some rows of a matrix, stored as in the file.
#[derive(Debug, Clone)]
pub struct CpuPart {
    /// Their type.
    pub ty: TensorType,
    /// How many rows they are.
    pub rows: usize,
    /// The blocks of all rows, one row after another.
    pub bytes: Vec<u8>,
}

/// A weight in memory.
#[derive(Debug, Clone)]
pub enum CpuWeight {
    /// Rows of one type or of several.
    Matrix {
        /// From top to bottom.
        parts: Vec<CpuPart>,
        /// Weights of a row.
        cols: usize,
    },
    /// A norm or a bias.
    Vector(Vec<f32>),
}

impl CpuPart {
    /// The blocks of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, r: usize) -> &[u8] {
        let n = self.bytes.len() / self.rows;
        &self.bytes[r * n..][..n]
    }

    pub(crate) fn all(&self) -> PartRows<'_> {
        PartRows {
            ty: self.ty,
            rows: self.rows,
            bytes: &self.bytes,
        }
    }
}

/// Some rows of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartRows<'a> {
    pub ty: TensorType,
    pub rows: usize,
    pub bytes: &'a [u8],
}

impl<'a> PartRows<'a> {
    pub fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows
    }

    /// The blocks of `n` rows.
    pub fn blocks(&self, first: usize, n: usize) -> &'a [u8] {
        let row_bytes = self.row_bytes();
        &self.bytes[first * row_bytes..][..n * row_bytes]
    }
}

/// Rows `first .. first + n` of a matrix.
pub(crate) fn rows_of(parts: &[CpuPart], first: usize, n: usize) -> Vec<PartRows<'_>> {
    let (mut out, mut at) = (vec![], 0);
    for part in parts {
        let (from, to) = (first.max(at), (first + n).min(at + part.rows));
        if from < to {
            out.push(PartRows {
                ty: part.ty,
                rows: to - from,
                bytes: part.all().blocks(from - at, to - from),
            });
        }
        at += part.rows;
    }
    out
}

impl CpuWeight {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Matrix { parts, .. } => parts.iter().map(|p| p.bytes.len()).sum(),
            Self::Vector(v) => v.len() * 4,
        }
    }
}

/// All weights of a device. A weight keeps its place when another of its name is put there.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    by_name: HashMap<String, usize>,
    all: Vec<CpuWeight>,
}

impl Weights {
    pub fn add(&mut self, name: &str, weight: CpuWeight) {
        match self.by_name.get(name) {
            Some(at) => self.all[*at] = weight,
            None => {
                self.by_name.insert(name.into(), self.all.len());
                self.all.push(weight);
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.all.iter().map(CpuWeight::bytes).sum()
    }

    /// Where the graph's weights are; `None` for those that are not there.
    pub fn places(&self, graph: &Graph) -> Vec<Option<usize>> {
        let place = |w: &siskin_graph::Weight| self.by_name.get(&w.name).copied();
        graph.weights.iter().map(place).collect()
    }

    /// The weights of a graph, by where they are.
    pub fn of<'a>(&'a self, graph: &'a Graph, places: &'a [Option<usize>]) -> GraphWeights<'a> {
        GraphWeights {
            all: &self.all,
            graph,
            places,
        }
    }
}

/// The weights of one graph.
#[derive(Clone, Copy)]
pub(crate) struct GraphWeights<'a> {
    all: &'a [CpuWeight],
    graph: &'a Graph,
    places: &'a [Option<usize>],
}

impl<'a> GraphWeights<'a> {
    fn get(self, id: WeightId) -> Option<&'a CpuWeight> {
        self.places[id.0].and_then(|at| self.all.get(at))
    }

    fn missing(self, id: WeightId) -> Error {
        Error::MissingWeight(self.graph.weight(id).name.clone())
    }

    /// A matrix's parts, and its columns.
    pub fn matrix(self, id: WeightId) -> Result<(&'a [CpuPart], usize)> {
        match self.get(id) {
            Some(CpuWeight::Matrix { parts, cols }) => Ok((parts, *cols)),
            _ => Err(self.missing(id)),
        }
    }

    /// The matrices of experts.
    pub fn experts(self, of: &Experts) -> Result<Matrices<'a>> {
        let (parts, k) = self.matrix(of.weight)?;
        Ok(Matrices {
            parts,
            k,
            bias: of.bias.map(|b| self.vector(b)).transpose()?,
            n: self.graph.expert_rows(of),
            n_experts: of.n_experts,
        })
    }

    pub fn vector(self, id: WeightId) -> Result<&'a [f32]> {
        if let WeightKind::Constant(values) = &self.graph.weight(id).kind {
            return Ok(values);
        }
        match self.get(id) {
            Some(CpuWeight::Vector(values)) => Ok(values),
            _ => Err(self.missing(id)),
        }
    }
}
