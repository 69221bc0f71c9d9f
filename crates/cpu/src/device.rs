use siskin_graph::{Graph, NodeId, Rows, Sampling};

use crate::nodes::{At, Run, State};
use crate::plan::CpuPlan;
use crate::threads::within;
use crate::{CacheType, CpuWeight, Error, KvCache, Precision, Result};

/// Weights and KV caches in memory, and the ops over them.
#[derive(Debug)]
pub struct CpuDevice {
    /// The arithmetic of linears over quantised weights.
    pub precision: Precision,
    pub(crate) state: State,
    context: usize,
    last_rows: usize,
    /// The recurrent states of [`Self::keep_states`].
    kept_states: Vec<Vec<f32>>,
}

impl CpuDevice {
    /// A device without weights.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            state: State::default(),
            context: 0,
            last_rows: 0,
            kept_states: vec![],
        }
    }

    /// Adds a weight, or replaces the one of that name.
    pub fn add_weight(&mut self, name: &str, weight: CpuWeight) {
        self.state.weights.add(name, weight);
    }

    /// Prepares a graph for runs of up to `rows` tokens. Weights are looked up by name once, so they must have been
    /// added before.
    pub fn plan(&self, graph: Graph, rows: usize) -> CpuPlan {
        let places = self.state.weights.places(&graph);
        CpuPlan::new(graph, rows, places)
    }

    /// Creates empty caches for `context` tokens, and recurrent states.
    pub fn set_context(&mut self, graph: &Graph, context: usize, ty: CacheType) {
        self.context = context;
        self.state.caches = graph
            .caches
            .iter()
            .map(|c| KvCache::new(*c, context, ty))
            .collect();
        self.state.states = graph.states.iter().map(|len| vec![0.0; *len]).collect();
        self.kept_states.clear();
    }

    /// Keeps a copy of the recurrent states, in place of the one before.
    pub fn keep_states(&mut self) {
        self.kept_states.clone_from(&self.state.states);
    }

    /// Sets the recurrent states to those that were kept last.
    pub fn restore_states(&mut self) {
        self.state.states.clone_from(&self.kept_states);
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        self.state.weights.bytes()
    }

    /// Sets which tokens are in the context, for the repeat penalty.
    pub fn set_seen(&mut self, tokens: &[u32]) {
        self.state.seen.clear();
        self.mark_seen(tokens);
    }

    fn mark_seen(&mut self, tokens: &[u32]) {
        let seen = &mut self.state.seen;
        for id in tokens {
            let word = *id as usize / 32;
            if seen.len() <= word {
                seen.resize(word + 1, 0);
            }
            seen[word] |= 1 << (id % 32);
        }
    }

    /// Runs the plan for `tokens`, the first of them at `position`; recurrent states must be those after the tokens before
    /// it, and are cleared at position 0. Without `head`, stops before
    /// the steps for the last row alone.
    ///
    /// # Errors
    /// If the tokens do not fit the context, or a weight is missing.
    pub fn run(
        &mut self,
        plan: &CpuPlan,
        tokens: &[u32],
        position: usize,
        sampling: &Sampling,
        head: bool,
    ) -> Result<()> {
        let rows = tokens.len();
        if rows > plan.max_rows || (!plan.graph.caches.is_empty() && position + rows > self.context)
        {
            return Err(Error::ContextFull {
                rows,
                position,
                context: self.context,
            });
        }
        let State {
            weights, params, ..
        } = &mut self.state;
        params.refresh_factors(&plan.graph, weights)?;
        if position == 0 {
            self.state.states.iter_mut().for_each(|s| s.fill(0.0));
        }
        self.mark_seen(tokens);
        self.last_rows = rows;
        self.state.arena.reserve(plan.arena_len);
        let run = Run {
            tokens,
            position,
            sampling,
            precision: self.precision,
            batch: None,
        };
        within(|| {
            for id in plan.nodes() {
                let at = At::new(plan, *id);
                if !head && at.node.rows == Rows::Last {
                    break;
                }
                self.state.run_node(at, run)?;
            }
            Ok(())
        })
    }

    /// The token that the last run chose, if it had a head.
    pub fn chosen(&self) -> u32 {
        self.state.chosen
    }

    /// How many tokens the last run had.
    pub fn last_rows(&self) -> usize {
        self.last_rows
    }

    /// A value of the last run, which had `rows` tokens: `[rows, columns]`, or `[1, columns]` if only the last row has
    /// one.
    pub fn read(&self, plan: &CpuPlan, id: NodeId, rows: usize) -> Vec<f32> {
        let rows = if plan.graph.node(id).rows == Rows::Last {
            1
        } else {
            rows
        };
        let value = self.state.arena.read(plan.view(id));
        (0..rows).flat_map(|r| value.row(r)).copied().collect()
    }
}
