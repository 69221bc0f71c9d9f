//! The input of a step: rows of one or several sequences, whose keys and values are in blocks of the caches.

use std::ops::Range;

use crate::{Capacity, Rows, Sampling};

/// Tokens of one block of a KV cache. A sequence's keys and values are in blocks that can be anywhere in the caches, and
/// that sequences with the same beginning share (W. Kwon et al., "Efficient Memory Management for Large Language Model
/// Serving with PagedAttention", 2023).
pub const BLOCK_TOKENS: usize = 16;

/// In a sequence's list, a block that holds nothing of it any more.
pub const NO_BLOCK: u32 = u32::MAX;

/// What is added to the logit of a token that must not be chosen.
pub const BANNED: f32 = -1e30;

/// Rows of one sequence in a step: consecutive tokens of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceRows {
    /// How many rows they are.
    pub rows: usize,
    /// The first one's position in the sequence.
    pub position: usize,
    /// Which set of tokens is the sequence's, for the repeat penalty. No two sequences of a step have the same.
    pub slot: usize,
    /// The blocks of the caches that hold the sequence, first to last; those of these rows too.
    pub blocks: Vec<u32>,
    /// The same for caches that hold a window ([`Capacity::windowed`]); empty if there are none. Blocks that none of these
    /// rows sees may be [`NO_BLOCK`].
    pub windowed: Vec<u32>,
    /// How many of the last rows choose the token after them: 1, or more if guesses of the next tokens are among the rows,
    /// to be compared with what is chosen. 0 if the sequence goes on in a later step.
    pub choices: usize,
    /// How these tokens are chosen.
    pub sampling: Sampling,
    /// The tokens that may be chosen, a bit each; `None` for all. Only with a single choice.
    pub allowed: Option<Vec<u32>>,
    /// For each choice, tokens and what is added to their logits before all else ([`BANNED`] bans them), each token once;
    /// choices without an entry add nothing.
    pub added: Vec<Vec<(u32, f32)>>,
    /// Which of the graph's adapters is for these rows ([`crate::Lora::adapter`]), apart from those that are for all.
    pub adapter: Option<u32>,
}

/// A row after which a step chooses a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled<'a> {
    /// The row, among all of the step.
    pub row: usize,
    /// The position that the chosen token will have.
    pub position: usize,
    /// The sequence's slot.
    pub slot: usize,
    /// How the token is chosen.
    pub sampling: &'a Sampling,
    /// The tokens that it may be, a bit each; `None` for all.
    pub allowed: Option<&'a [u32]>,
    /// Tokens and what is added to their logits.
    pub added: &'a [(u32, f32)],
}

impl SequenceRows {
    /// The position after the last of these rows.
    pub fn end(&self) -> usize {
        self.position + self.rows
    }

    /// Its blocks of a cache that holds all tokens, or a window.
    pub fn list(&self, windowed: bool) -> &[u32] {
        if windowed {
            &self.windowed
        } else {
            &self.blocks
        }
    }
}

/// What a step runs: the rows of each sequence, one sequence after another.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInput {
    /// One token for each row; `None` for those that the step before chose, each of whose sequences then has one row.
    pub tokens: Option<Vec<u32>>,
    /// The sequences, in the order of their rows.
    pub sequences: Vec<SequenceRows>,
}

impl StepInput {
    /// A step of a single sequence, which has slot 0 and the caches' first blocks. Without `sampling`, no token is chosen.
    pub fn alone(tokens: &[u32], position: usize, sampling: Option<Sampling>) -> Self {
        let rows = tokens.len();
        Self {
            tokens: Some(tokens.into()),
            sequences: vec![SequenceRows {
                rows,
                position,
                slot: 0,
                blocks: (0..(position + rows).div_ceil(BLOCK_TOKENS) as u32).collect(),
                windowed: vec![],
                choices: usize::from(sampling.is_some()),
                sampling: sampling.unwrap_or_default(),
                allowed: None,
                added: vec![],
                adapter: None,
            }],
        }
    }

    /// The same over caches of which some hold a window: their blocks are used again and again.
    #[must_use]
    pub fn within(mut self, capacity: Capacity) -> Self {
        if let Some(windowed) = capacity.windowed {
            for s in &mut self.sequences {
                let n = s.blocks.len() as u32;
                s.windowed = (0..n).map(|i| i % windowed.blocks as u32).collect();
            }
        }
        self
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.sequences.iter().map(|s| s.rows).sum()
    }

    /// How many tokens it chooses.
    pub fn samples(&self) -> usize {
        self.sequences.iter().map(|s| s.choices).sum()
    }

    /// The rows after which it chooses a token.
    pub fn sampled(&self) -> impl Iterator<Item = Sampled<'_>> {
        let ends = self.sequences.iter().scan(0, |end, s| {
            *end += s.rows;
            Some((*end, s))
        });
        ends.flat_map(|(end, s)| {
            (0..s.choices).rev().map(move |back| Sampled {
                row: end - 1 - back,
                position: s.end() - back,
                slot: s.slot,
                sampling: &s.sampling,
                allowed: s.allowed.as_deref(),
                added: (s.added.get(s.choices - 1 - back)).map_or(&[][..], Vec::as_slice),
            })
        })
    }

    /// The rows with an adapter, in runs of consecutive ones: of all rows, or only of those after which a token is chosen.
    pub fn rows_with(&self, adapter: u32, rows: Rows) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = vec![];
        let mut end = 0;
        for s in &self.sequences {
            let start = end;
            end += if rows == Rows::Last {
                s.choices
            } else {
                s.rows
            };
            if s.adapter != Some(adapter) || start == end {
                continue;
            }
            match runs.last_mut().filter(|run| run.end == start) {
                Some(run) => run.end = end,
                None => runs.push(start..end),
            }
        }
        runs
    }

    /// Each row's position in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        let of = |s: &SequenceRows| s.position as u32..s.end() as u32;
        self.sequences.iter().flat_map(of).collect()
    }

    /// Whether every sequence has blocks for its rows and what they see, of those that the caches have.
    pub fn fits(&self, capacity: Capacity) -> bool {
        let is_in = |list: &[u32], from: usize, end: usize, blocks: usize| {
            let seen = list.get(from..end.div_ceil(BLOCK_TOKENS));
            seen.is_some_and(|seen| seen.iter().all(|b| (*b as usize) < blocks))
        };
        self.sequences.iter().all(|s| {
            is_in(&s.blocks, 0, s.end(), capacity.blocks)
                && capacity.windowed.is_none_or(|windowed| {
                    let from = windowed.first_block(s.position);
                    is_in(&s.windowed, from, s.end(), windowed.blocks)
                })
        })
    }
}
