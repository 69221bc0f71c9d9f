use siskin_graph::{
    BLOCK_TOKENS, Cache, CacheBytes, CacheTypes, Capacity, Graph, NodeId, Rows, StepInput,
};

use crate::nodes::{At, Over, Run, State};
use crate::plan::CpuPlan;
use crate::threads::within;
use crate::{CpuWeight, Error, KvCache, Precision, Result};

/// Weights and KV caches in memory, and the ops over them.
#[derive(Debug)]
pub struct CpuDevice {
    /// The arithmetic of linears over quantised weights.
    pub precision: Precision,
    pub(crate) state: State,
    capacity: Capacity,
    /// The recurrent states of [`Self::keep_states`].
    kept_states: Vec<Vec<f32>>,
}

impl CpuDevice {
    /// A device without weights.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            state: State::default(),
            capacity: Capacity::alone(0),
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
        self.plan_sequences(graph, rows, 1)
    }

    /// As [`Self::plan`], for runs that choose up to `samples` tokens, each of another sequence.
    pub fn plan_sequences(&self, graph: Graph, rows: usize, samples: usize) -> CpuPlan {
        let places = self.state.weights.places(&graph);
        CpuPlan::new(graph, [rows, samples], places)
    }

    /// Creates empty caches and recurrent states.
    ///
    /// # Panics
    /// If a type cannot store the heads of one ([`siskin_graph::CacheType::stores`]).
    pub fn set_caches(&mut self, graph: &Graph, capacity: Capacity, types: CacheTypes) {
        self.capacity = capacity;
        let cache = |(shape, window): (&Cache, Option<usize>)| {
            let windowed = capacity.is_windowed(window);
            let mut cache = KvCache::new(*shape, capacity.blocks_of(windowed), types);
            cache.windowed = windowed;
            cache
        };
        let caches = graph.caches.iter().zip(graph.windows());
        self.state.caches = caches.map(cache).collect();
        self.state.states = graph.states.iter().map(|len| vec![0.0; *len]).collect();
        self.kept_states.clear();
    }

    /// What the caches have room for.
    pub fn capacity(&self) -> Capacity {
        self.capacity
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

    /// Copies a block of all caches that hold a window, or all tokens, over another one.
    pub fn copy_block(&mut self, windowed: bool, from: u32, to: u32) {
        let caches = self.state.caches.iter_mut();
        let caches = caches.filter(|cache| cache.windowed == windowed);
        caches.for_each(|cache| cache.copy_block(from, to));
    }

    /// What some blocks hold, and the recurrent states: blocks of caches that hold all tokens, and of those that hold a
    /// window.
    pub fn cache_bytes(&self, [all, windowed]: [&[u32]; 2]) -> CacheBytes {
        let of = |c: &KvCache| c.block_bytes(if c.windowed { windowed } else { all });
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let caches = self.state.caches.iter();
        let states = self.state.states.iter().enumerate();
        CacheBytes {
            caches: caches.map(of).collect(),
            states: states
                .map(|(i, state)| {
                    let kept = self.kept_states.get(i).map_or(&[][..], |kept| kept);
                    [bytes(state), bytes(kept)]
                })
                .collect(),
        }
    }

    /// Sets them to what [`Self::cache_bytes`] returned.
    ///
    /// # Errors
    /// If that is of other caches.
    pub fn set_cache_bytes(
        &mut self,
        [all, windowed]: [&[u32]; 2],
        bytes: &CacheBytes,
    ) -> Result<()> {
        let State { caches, states, .. } = &mut self.state;
        let values = |bytes: &[u8]| -> Vec<f32> {
            let values = bytes.as_chunks().0.iter();
            values.map(|b| f32::from_le_bytes(*b)).collect()
        };
        let read: Vec<[Vec<f32>; 2]> = (bytes.states.iter())
            .map(|both| [&both[0], &both[1]].map(|b| values(b)))
            .collect();
        let is_state = |(ours, [now, kept]): (&Vec<f32>, &[Vec<f32>; 2])| {
            now.len() == ours.len() && [0, ours.len()].contains(&kept.len())
        };
        let fits = caches.len() == bytes.caches.len()
            && states.len() == read.len()
            && states.iter().zip(&read).all(is_state);
        let mut caches = caches.iter_mut().zip(&bytes.caches);
        let mut set = |(cache, bytes): (&mut KvCache, _)| {
            cache.set_block_bytes(if cache.windowed { windowed } else { all }, bytes)
        };
        if !fits || !caches.all(&mut set) {
            return Err(Error::OtherCaches);
        }
        self.kept_states = read.iter().map(|[_, kept]| kept.clone()).collect();
        self.state.states = read.into_iter().map(|[now, _]| now).collect();
        Ok(())
    }

    /// Sets which tokens are in the sequence of a slot, for the repeat penalty.
    pub fn set_seen(&mut self, slot: usize, tokens: &[u32]) {
        if let Some(seen) = self.state.seen.get_mut(slot) {
            seen.clear();
        }
        self.mark_seen(slot, tokens);
    }

    fn mark_seen(&mut self, slot: usize, tokens: &[u32]) {
        let slots = &mut self.state.seen;
        if slots.len() <= slot {
            slots.resize(slot + 1, vec![]);
        }
        let seen = &mut slots[slot];
        for id in tokens {
            let word = *id as usize / 32;
            if seen.len() <= word {
                seen.resize(word + 1, 0);
            }
            seen[word] |= 1 << (id % 32);
        }
    }

    /// Runs the plan for a step. If it chooses no token, stops before the steps for last rows. Recurrent states must be
    /// those after the tokens before, and are cleared at position 0.
    ///
    /// # Errors
    /// If the step does not fit the plan or the caches, or a weight is missing.
    pub fn run(&mut self, plan: &CpuPlan, step: &StepInput) -> Result<()> {
        let (rows, samples) = (step.rows(), step.samples());
        let has_room = plan.graph.caches.is_empty() || step.fits(self.capacity);
        let tokens = match &step.tokens {
            Some(tokens) => tokens.clone(),
            None => self.state.chosen.clone(),
        };
        let fits_plan = rows <= plan.max_rows && samples <= plan.max_samples;
        if tokens.len() != rows || !fits_plan || !has_room {
            return Err(Error::ContextFull {
                rows,
                position: step.sequences.first().map_or(0, |s| s.position),
                context: self.capacity.blocks * BLOCK_TOKENS,
            });
        }
        let State {
            weights,
            params,
            states,
            ..
        } = &mut self.state;
        if !states.is_empty() && step.sequences.len() != 1 {
            return Err(Error::OneState);
        }
        params.refresh_factors(&plan.graph, weights)?;
        if step.sequences.iter().any(|s| s.position == 0) {
            states.iter_mut().for_each(|s| s.fill(0.0));
        }
        let mut rest = &tokens[..];
        for s in &step.sequences {
            let (here, after) = rest.split_at(s.rows);
            self.mark_seen(s.slot, here);
            rest = after;
        }
        self.state.arena.reserve(plan.arena_len);
        let run = Run {
            tokens: &tokens,
            positions: &step.positions(),
            precision: self.precision,
            over: Over::Step(step),
        };
        within(|| {
            for id in plan.nodes() {
                let at = At::new(plan, *id);
                if samples == 0 && at.node.rows == Rows::Last {
                    break;
                }
                self.state.run_node(at, run)?;
            }
            Ok(())
        })
    }

    /// The tokens that the last run chose.
    pub fn chosen(&self) -> &[u32] {
        &self.state.chosen
    }

    /// A value of the last run, `[rows, columns]`; of a value that only last rows have, at most these.
    pub fn read(&self, plan: &CpuPlan, id: NodeId, rows: usize) -> Vec<f32> {
        let rows = match plan.graph.node(id).rows {
            Rows::Last => rows.min(plan.max_samples),
            Rows::All | Rows::Segments => rows,
        };
        let value = self.state.arena.read(plan.view(id));
        (0..rows).flat_map(|r| value.row(r)).copied().collect()
    }
}
