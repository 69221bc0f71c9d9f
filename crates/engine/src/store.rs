//! What is in the KV caches: which sequence has which blocks. Sequences with the same beginning share its blocks, and an
//! answered one stays until its blocks are needed.

use siskin_graph::BLOCK_TOKENS;

/// Tokens whose keys and values are in the caches, and the blocks that hold them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cached {
    /// With which they were computed.
    pub adapter: Option<u32>,
    pub tokens: Vec<u32>,
    pub blocks: Vec<u32>,
}

/// The beginning of a prompt that was found in the caches.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How many tokens.
    pub tokens: usize,
    pub blocks: Vec<u32>,
    /// A block that must be copied over another one, since its sequences go on differently.
    pub copy: Option<(u32, u32)>,
}

/// All blocks of the caches.
#[derive(Debug)]
pub(crate) struct Store {
    /// How many sequences have each block.
    users: Vec<u32>,
    free: Vec<u32>,
    /// Sequences that nobody runs, the least recently used first.
    kept: Vec<Cached>,
}

/// How many tokens both begin with.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Store {
    pub fn new(blocks: usize) -> Self {
        Self {
            users: vec![0; blocks],
            free: (0..blocks as u32).rev().collect(),
            kept: vec![],
        }
    }

    pub fn blocks(&self) -> usize {
        self.users.len()
    }

    /// Blocks that no sequence has.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The sequence that was used last, of those that nobody runs.
    pub fn last(&self) -> Option<&Cached> {
        self.kept.last()
    }

    /// Keeps a sequence until its blocks are needed.
    pub fn keep(&mut self, mut sequence: Cached) {
        let needed = sequence.tokens.len().div_ceil(BLOCK_TOKENS);
        let rest = sequence.blocks.split_off(needed.min(sequence.blocks.len()));
        self.give_back(&rest);
        if !sequence.tokens.is_empty() {
            self.kept.push(sequence);
        }
    }

    /// Takes back the sequence that was used last.
    pub fn take_last(&mut self) -> Option<Cached> {
        self.kept.pop()
    }

    /// Drops all sequences that nobody runs.
    pub fn clear(&mut self) {
        for sequence in std::mem::take(&mut self.kept) {
            self.give_back(&sequence.blocks);
        }
    }

    pub fn give_back(&mut self, blocks: &[u32]) {
        for block in blocks {
            let users = &mut self.users[*block as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(*block);
            }
        }
    }

    /// A block for a sequence of its own; those of kept sequences only if no other is free.
    pub fn take(&mut self) -> Option<u32> {
        while self.free.is_empty() && !self.kept.is_empty() {
            let oldest = self.kept.remove(0);
            self.give_back(&oldest.blocks);
        }
        let block = self.free.pop()?;
        self.users[block as usize] = 1;
        Some(block)
    }

    fn share(&mut self, blocks: &[u32]) {
        for block in blocks {
            self.users[*block as usize] += 1;
        }
    }

    /// The longest beginning of `prompt` that is in the caches, without its last token, whose logits are needed.
    /// Only what was computed with the same adapter counts; `running` are the sequences of it that are not kept.
    pub fn find<'a>(
        &mut self,
        prompt: &[u32],
        adapter: Option<u32>,
        running: impl Iterator<Item = (&'a [u32], &'a [u32])>,
    ) -> Found {
        let wanted = &prompt[..prompt.len() - 1];
        let kept = self.kept.iter().enumerate();
        let kept = kept.filter(|(_, s)| s.adapter == adapter);
        let kept = kept.map(|(i, s)| (common(&s.tokens, wanted), Some(i), &s.blocks[..]));
        let running = running.map(|(tokens, blocks)| (common(tokens, wanted), None, blocks));
        let best = running.chain(kept).max_by_key(|(n, ..)| *n);
        let Some((tokens, place, blocks)) = best.filter(|(n, ..)| *n > 0) else {
            return Found::default();
        };
        let needed = tokens.div_ceil(BLOCK_TOKENS);
        let (whole, rest) = (tokens / BLOCK_TOKENS, tokens % BLOCK_TOKENS);
        // What the prompt continues is not needed any more; otherwise another prompt may begin like it.
        let ends = |i: &usize| self.kept[*i].tokens.len() - tokens < BLOCK_TOKENS;
        if let Some(i) = place.filter(ends) {
            let mut sequence = self.kept.remove(i);
            let after = sequence.blocks.split_off(needed);
            self.give_back(&after);
            let is_shared = rest > 0 && self.users[sequence.blocks[whole] as usize] > 1;
            if !is_shared {
                return Found {
                    tokens,
                    blocks: sequence.blocks,
                    copy: None,
                };
            }
            let partial = sequence.blocks.split_off(whole);
            let found = self.with_copy(tokens, sequence.blocks, partial[0]);
            self.give_back(&partial);
            return found;
        }
        let (shared, partial) = (blocks[..whole].to_vec(), blocks.get(whole).copied());
        self.share(&shared);
        if let Some(i) = place {
            let used = self.kept.remove(i);
            self.kept.push(used);
        }
        match partial.filter(|_| rest > 0) {
            Some(partial) => {
                // Not to be dropped to make room for its own copy.
                self.share(&[partial]);
                let found = self.with_copy(tokens, shared, partial);
                self.give_back(&[partial]);
                found
            }
            None => Found {
                tokens: whole * BLOCK_TOKENS,
                blocks: shared,
                copy: None,
            },
        }
    }

    /// Whole blocks and, if there is room, a copy of the one after them.
    fn with_copy(&mut self, tokens: usize, mut blocks: Vec<u32>, partial: u32) -> Found {
        let Some(copy) = self.take() else {
            return Found {
                tokens: blocks.len() * BLOCK_TOKENS,
                blocks,
                copy: None,
            };
        };
        blocks.push(copy);
        Found {
            tokens,
            blocks,
            copy: Some((partial, copy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cached, Found, Store};

    /// A sequence of these tokens in blocks of its own.
    fn sequence(store: &mut Store, tokens: impl Iterator<Item = u32>) -> Cached {
        let tokens: Vec<u32> = tokens.collect();
        let blocks = (0..tokens.len().div_ceil(16)).map(|_| store.take().unwrap());
        Cached {
            adapter: None,
            blocks: blocks.collect(),
            tokens,
        }
    }

    fn find(store: &mut Store, prompt: impl Iterator<Item = u32>) -> Found {
        let prompt: Vec<u32> = prompt.collect();
        store.find(&prompt, None, std::iter::empty())
    }

    #[test]
    fn what_a_prompt_continues_is_taken_over() {
        let mut store = Store::new(4);
        let kept = sequence(&mut store, 0..40);
        store.keep(kept.clone());
        let found = find(&mut store, 0..60);
        assert_eq!((found.tokens, found.copy), (40, None));
        assert_eq!(found.blocks, kept.blocks);
        assert!(store.last().is_none());
        store.give_back(&found.blocks);
        assert_eq!(store.free(), 4);
    }

    #[test]
    fn prompts_that_begin_alike_share_blocks() {
        let mut store = Store::new(8);
        let kept = sequence(&mut store, 0..70);
        store.keep(kept.clone());
        let prompt = || (0..37).chain(500..510);
        let [one, two] = [(); 2].map(|()| find(&mut store, prompt()));
        for found in [&one, &two] {
            assert_eq!(found.tokens, 37);
            assert_eq!(found.blocks[..2], kept.blocks[..2]);
            assert_eq!(found.copy, Some((kept.blocks[2], found.blocks[2])));
        }
        assert_ne!(one.blocks[2], two.blocks[2]);
        assert_eq!(store.free(), 8 - 5 - 2);
        // Others' blocks stay when the first owner is dropped.
        store.clear();
        assert_eq!(store.free(), 8 - 4);
        store.give_back(&one.blocks);
        store.give_back(&two.blocks);
        assert_eq!(store.free(), 8);
    }

    #[test]
    fn a_whole_prompt_is_not_found_since_its_logits_are_needed() {
        let mut store = Store::new(4);
        let kept = sequence(&mut store, 0..32);
        store.keep(kept);
        assert_eq!(find(&mut store, 0..32).tokens, 31);
        assert_eq!(find(&mut Store::new(4), 0..32).tokens, 0);
    }

    #[test]
    fn what_was_used_least_recently_is_dropped_when_blocks_are_needed() {
        let mut store = Store::new(6);
        for start in [100, 200, 300] {
            let kept = sequence(&mut store, start..start + 32);
            store.keep(kept);
        }
        assert_eq!(store.free(), 0);
        // The first one is used again, so that the second goes.
        let found = find(&mut store, (100..110).chain(0..5));
        assert_eq!((found.tokens, found.blocks.len()), (10, 1));
        assert_eq!(find(&mut store, 200..240).tokens, 0);
        assert_eq!(find(&mut store, 100..140).tokens, 32);
        // No room for a copy: whole blocks only.
        let mut store = Store::new(2);
        let running = sequence(&mut store, 0..32);
        let prompt: Vec<u32> = (0..20).chain(50..60).collect();
        let running = [(&running.tokens[..], &running.blocks[..])];
        let found = store.find(&prompt, None, running.into_iter());
        assert_eq!((found.tokens, found.copy), (16, None));
    }
}
