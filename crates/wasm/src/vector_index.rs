//! Exact search among vectors.

use siskin_engine::VectorIndex as Index;
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid};

/// Vectors, and which of them are nearest to another.
#[wasm_bindgen]
#[derive(Debug)]
pub struct VectorIndex(Index);

#[wasm_bindgen]
impl VectorIndex {
    #[wasm_bindgen(constructor)]
    pub fn new(columns: u32) -> Result<Self> {
        if columns == 0 {
            return Err(invalid("vectors have at least one column"));
        }
        Ok(Self(Index::new(columns as usize)))
    }

    /// Vectors, one after another.
    pub fn push(&mut self, vectors: &[f32]) -> Result<()> {
        let columns = self.0.columns();
        if !vectors.len().is_multiple_of(columns) {
            let values = vectors.len();
            return Err(invalid(&format!(
                "{values} values are no vectors of {columns}"
            )));
        }
        self.0.push(vectors);
        Ok(())
    }

    pub fn remove(&mut self, from: u32, to: u32) -> Result<()> {
        let len = self.0.len();
        let rows = from as usize..to as usize;
        if rows.start > rows.end || rows.end > len {
            return Err(invalid(&format!(
                "there are no vectors {from} to {to} among {len}"
            )));
        }
        self.0.remove(rows);
        Ok(())
    }

    /// The numbers of the nearest and their cosines, in turn, the nearest first.
    pub fn nearest(&self, query: &[f32], count: u32) -> Result<Vec<f64>> {
        let columns = self.0.columns();
        if query.len() != columns {
            let values = query.len();
            return Err(invalid(&format!(
                "{values} values are not a vector of {columns}"
            )));
        }
        let found = self.0.nearest(query, count as usize);
        let pairs = found.iter().flat_map(|n| [n.row as f64, n.cosine.into()]);
        Ok(pairs.collect())
    }
}
