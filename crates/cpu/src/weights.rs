use std::collections::HashMap;

use siskin_formats::TensorType;
use siskin_graph::{Graph, WeightId, WeightKind};

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
