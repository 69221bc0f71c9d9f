//! Inputs of each layer's own, of Gemma 3n and 4: from a table of tokens and from the embedding.

use siskin_graph::{Activation, Graph, Map, NodeId, Result as GraphResult};

use crate::config::Source;
use crate::{Dims, Result, blocks};

#[derive(Debug)]
pub(crate) struct OwnInputs {
    dims: Dims,
    /// Columns of each layer's input.
    columns: usize,
    /// Rows of their table.
    rows: usize,
    activation: Activation,
}

impl OwnInputs {
    /// `None` where there are none.
    ///
    /// # Errors
    /// If a size is not a number.
    pub fn read(source: &Source<'_>, dims: &Dims, activation: Activation) -> Result<Option<Self>> {
        let key = "embedding_length_per_layer_input";
        let default = (!source.is_gguf()).then_some(256);
        let columns = source.uint("hidden_size_per_layer_input", key)?;
        let rows = source.uint("vocab_size_per_layer_input", "")?;
        let in_file = source.rows_of("per_layer_token_embd.weight");
        let own = Self {
            dims: dims.clone(),
            columns: columns.or(default).unwrap_or(0),
            rows: rows.or(in_file).unwrap_or(262_144),
            activation,
        };
        Ok(Some(own).filter(|own| own.columns > 0))
    }

    /// All layers' inputs side by side, `[T, n_layers · columns]`, from the embedding.
    pub fn build(&self, g: &mut Graph, x: NodeId) -> GraphResult<NodeId> {
        let (d, n, eps) = (self.dims.hidden_size, self.columns, self.dims.rms_norm_eps);
        let all = self.dims.n_layers * n;
        let table = "model.embed_tokens_per_layer.weight";
        let table = g.matrix(table, &[(table, self.rows)], all);
        let tokens = g.embed_known(table, (n as f32).sqrt());
        let projected = [("per_layer_model_projection", all)];
        let projected = blocks::stacked(g, x, "model", &projected, false)?;
        let projected = g.map(projected, Map::Scale(1.0 / (d as f32).sqrt()));
        let name = "model.per_layer_projection_norm";
        let projected = blocks::norm(g, projected, name, n, eps)?;
        let both = g.add(projected, tokens)?;
        Ok(g.map(both, Map::Scale(std::f32::consts::FRAC_1_SQRT_2)))
    }

    /// What layer i adds: its input, gated by x, projected and normalised.
    pub fn gated(&self, g: &mut Graph, x: NodeId, all: NodeId, i: usize) -> GraphResult<NodeId> {
        let (d, n, layer) = (
            self.dims.hidden_size,
            self.columns,
            format!("model.layers.{i}"),
        );
        let gate = blocks::stacked(g, x, &layer, &[("per_layer_input_gate", n)], false)?;
        let own = g.slice(all, i * n, n)?;
        let h = g.gated(gate, own, self.activation)?;
        let h = blocks::stacked(g, h, &layer, &[("per_layer_projection", d)], false)?;
        let name = format!("{layer}.post_per_layer_input_norm");
        blocks::norm(g, h, &name, d, self.dims.rms_norm_eps)
    }
}
