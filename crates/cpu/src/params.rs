//! Parameters of adapters, and what comes of them.

use siskin_graph::{Graph, LoraId, Moments};

use crate::Result;
use crate::ops::dora;
use crate::weights::Weights;

/// Of all adapters together, in the order of `siskin_graph::Lora`.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pub values: Vec<f32>,
    pub grads: Vec<f32>,
    pub moments: Moments,
    /// What magnitudes multiply columns by, as the parameters are now unless they are stale.
    pub factors: Vec<f32>,
    pub are_stale: bool,
}

impl Params {
    /// The factors of all columns of an adapter's weight.
    pub fn factors_of(&self, graph: &Graph, lora: LoraId) -> Option<&[f32]> {
        let dora = graph.lora(lora).dora.as_ref()?;
        self.factors.get(dora.factors..)?.get(..dora.n)
    }

    /// Makes the factors again if parameters have changed since.
    pub fn refresh_factors(&mut self, graph: &Graph, weights: &Weights) -> Result<()> {
        let Self {
            values,
            factors,
            are_stale,
            ..
        } = self;
        // A graph without magnitudes leaves them to the one that has them.
        if !*are_stale || graph.factors_len() == 0 {
            return Ok(());
        }
        let places = weights.places(graph);
        factors.resize(graph.factors_len(), 1.0);
        for lora in &graph.loras {
            let Some(dora) = &lora.dora else { continue };
            let (parts, _) = weights.of(graph, &places).matrix(dora.weight)?;
            let out = &mut factors[dora.factors..][..dora.n];
            dora::factors(lora, dora, values, parts, out);
        }
        // Only now: what failed half way is to be made again.
        *are_stale = false;
        Ok(())
    }
}
