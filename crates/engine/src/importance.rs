//! What the matrices of a model's layers are multiplied by, over texts: the errors of a column count by the mean square
//! of its factor. The same sums as llama.cpp's `llama-imatrix` collects (`tools/imatrix/imatrix.cpp`).

use std::collections::BTreeMap;

use siskin_graph::{Experts, Graph, NodeId, Op, WeightId};
use siskin_models::Head;

use crate::trace::TRACE_ROWS;
use crate::{Error, Result, Session};

/// Sums of squares of what a tensor's matrices are multiplied by.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSquares {
    /// For each matrix (each expert) `[matrices, cols]`.
    pub sums: Vec<f32>,
    /// How many rows were summed for each matrix.
    pub counts: Vec<f32>,
}

/// Of each tensor, by its name in GGUF files.
pub type Squares = BTreeMap<String, ColumnSquares>;

/// A product whose factor is summed.
struct Product {
    weight: WeightId,
    /// The output of the graph that is its factor.
    factor: usize,
    experts: Option<Chosen>,
}

/// Which experts rows are multiplied by.
struct Chosen {
    /// The output of the graph that says it.
    route: usize,
    of: Experts,
    /// Whether each chosen expert has columns of its own.
    is_apart: bool,
}

/// The position of a node among the graph's outputs, of which it becomes one.
fn output(graph: &mut Graph, node: NodeId) -> usize {
    let found = graph.outputs.iter().position(|o| *o == node);
    found.unwrap_or_else(|| {
        graph.output(node);
        graph.outputs.len() - 1
    })
}

fn products(graph: &mut Graph) -> Vec<Product> {
    graph.outputs.clear();
    let mut out = vec![];
    for i in 0..graph.nodes.len() {
        let node = graph.nodes[i].clone();
        let experts = |of: Experts, is_apart, graph: &mut Graph| Chosen {
            route: output(graph, node.inputs[1]),
            of,
            is_apart,
        };
        let (weight, experts) = match node.op {
            Op::Linear { weight, .. } => (weight, None),
            Op::ExpertUp { experts: of, .. } => (of.weight, Some(experts(of, false, graph))),
            Op::ExpertDown { experts: of } => (of.weight, Some(experts(of, true, graph))),
            _ => continue,
        };
        out.push(Product {
            weight,
            factor: output(graph, node.inputs[0]),
            experts,
        });
    }
    out
}

impl Product {
    /// Adds a step's rows.
    fn add(&self, graph: &Graph, outputs: &[Vec<f32>], to: &mut ColumnSquares) {
        let cols = graph.node(graph.outputs[self.factor]).cols;
        let rows = outputs[self.factor].chunks_exact(cols);
        let mut add = |matrix: usize, row: &[f32]| {
            let sums = &mut to.sums[matrix * row.len()..][..row.len()];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
            to.counts[matrix] += 1.0;
        };
        let Some(chosen) = &self.experts else {
            return rows.for_each(|row| add(0, row));
        };
        let n_used = chosen.of.n_used;
        let routes = outputs[chosen.route].chunks_exact(2 * n_used);
        for (row, route) in rows.zip(routes) {
            for (i, expert) in route[..n_used].iter().enumerate() {
                let len = if chosen.is_apart { cols / n_used } else { cols };
                let at = if chosen.is_apart { i * len } else { 0 };
                add(*expert as usize, &row[at..at + len]);
            }
        }
    }

    fn zeros(&self, graph: &Graph) -> ColumnSquares {
        let cols = graph.node(graph.outputs[self.factor]).cols;
        let (matrices, cols) = match &self.experts {
            None => (1, cols),
            Some(c) if c.is_apart => (c.of.n_experts, cols / c.of.n_used),
            Some(c) => (c.of.n_experts, cols),
        };
        ColumnSquares {
            sums: vec![0.0; matrices * cols],
            counts: vec![0.0; matrices],
        }
    }
}

impl Session {
    /// Runs the tokens, from the beginning of the context, and adds to `squares` what each matrix of the layers was
    /// multiplied by: `[cols]` of a linear layer, `[experts, cols]` of experts, of which each row counts for those that
    /// were chosen. The embedding and the last layer are left out. The KV cache is cleared.
    ///
    /// # Errors
    /// If the tokens are empty or more than the context, a tensor has no name in GGUF files, or the device fails.
    pub async fn add_column_squares(
        &mut self,
        tokens: &[u32],
        squares: &mut Squares,
    ) -> Result<()> {
        let mut graph = self.graph(Head::AllLogits)?;
        let products = products(&mut graph);
        let mut found: Vec<ColumnSquares> = products.iter().map(|p| p.zeros(&graph)).collect();
        let steps = graph.clone();
        self.evaluate(&graph, tokens, TRACE_ROWS, &mut |_, outputs| {
            for (product, to) in products.iter().zip(&mut found) {
                product.add(&steps, &outputs, to);
            }
        })
        .await?;
        for (product, found) in products.iter().zip(found) {
            for part in &graph.weight(product.weight).parts {
                // Parts of one tensor have the same columns: the first says it all.
                if part.rows.start == 0 && siskin_models::is_in_layer(&part.tensor) {
                    add(squares, self.stacked_name(&part.tensor)?, &found);
                }
            }
        }
        Ok(())
    }

    /// A tensor's name in GGUF files, where those of all experts are one.
    fn stacked_name(&self, tensor: &str) -> Result<String> {
        let (name, _) = self.model.in_gguf(tensor.trim_end_matches(".weight"));
        match name.starts_with("blk.") && !tensor.contains(".experts.") {
            true => Ok(name),
            false => Err(Error::NoImportance {
                tensor: tensor.into(),
            }),
        }
    }
}

fn add(squares: &mut Squares, name: String, found: &ColumnSquares) {
    let to = squares.entry(name).or_insert_with(|| ColumnSquares {
        sums: vec![0.0; found.sums.len()],
        counts: vec![0.0; found.counts.len()],
    });
    let sums = to.sums.iter_mut().zip(&found.sums);
    let counts = to.counts.iter_mut().zip(&found.counts);
    sums.chain(counts).for_each(|(sum, more)| *sum += more);
}
