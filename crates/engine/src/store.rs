//! What is in the KV caches: which sequence has which blocks. Sequences with the same beginning share its blocks, and an
//! answered one stays until its blocks are needed.
//!
//! Caches of layers with a window have blocks of their own, which hold the same tokens of a sequence as the others. A
//! sequence gives back those that its window has left, but not before they are needed, since until then it can be cut
//! back, and prompts that begin like it can share them.

use siskin_graph::{BLOCK_TOKENS, Capacity, NO_BLOCK, Windowed};

/// The blocks of a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// First to last: of caches that hold all tokens, and of those that hold a window, where [`NO_BLOCK`] stands for what
    /// was given back.
    pub lists: [Vec<u32>; 2],
    /// The first position that may run next.
    pub next: usize,
    /// Where its prompt ends. What a token there sees is given back last.
    pub mark: usize,
}

impl Blocks {
    /// Those of the first `tokens` tokens.
    pub fn of(&self, tokens: usize) -> [Vec<u32>; 2] {
        let needed = tokens.div_ceil(BLOCK_TOKENS);
        let of = |list: &Vec<u32>| list[..needed.min(list.len())].to_vec();
        self.lists.each_ref().map(of)
    }
}

/// Tokens whose keys and values are in the caches, and the blocks that hold them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cached {
    /// With which they were computed.
    pub adapter: Option<u32>,
    pub tokens: Vec<u32>,
    pub blocks: Blocks,
}

/// The beginning of a prompt that was found in the caches.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How many tokens.
    pub tokens: usize,
    pub blocks: Blocks,
    /// A block that must be copied over another one, since its sequences go on differently; and one of those of windows.
    pub copies: [Option<(u32, u32)>; 2],
}

/// The blocks of some caches.
#[derive(Debug)]
struct Pool {
    /// How many sequences have each block.
    users: Vec<u32>,
    free: Vec<u32>,
}

/// All blocks of the caches.
#[derive(Debug)]
pub(crate) struct Store {
    /// Of caches that hold all tokens, and of those that hold a window.
    pools: [Pool; 2],
    windowed: Option<Windowed>,
    /// Sequences that nobody runs, the least recently used first.
    kept: Vec<Cached>,
}

/// How many tokens both begin with.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Pool {
    fn new(blocks: usize) -> Self {
        Self {
            users: vec![0; blocks],
            free: (0..blocks as u32).rev().collect(),
        }
    }

    fn give_back(&mut self, blocks: &[u32]) {
        for block in blocks.iter().filter(|b| **b != NO_BLOCK) {
            let users = &mut self.users[*block as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(*block);
            }
        }
    }

    fn share(&mut self, blocks: &[u32]) {
        for block in blocks.iter().filter(|b| **b != NO_BLOCK) {
            self.users[*block as usize] += 1;
        }
    }
}

impl Store {
    pub fn new(capacity: Capacity) -> Self {
        let of_windows = capacity.windowed.map_or(0, |w| w.blocks);
        Self {
            pools: [capacity.blocks, of_windows].map(Pool::new),
            windowed: capacity.windowed,
            kept: vec![],
        }
    }

    /// Forgets all sequences, also those that run.
    pub fn reset(&mut self) {
        for pool in &mut self.pools {
            *pool = Pool::new(pool.users.len());
        }
        self.kept.clear();
    }

    /// Blocks of each cache that holds all tokens.
    pub fn blocks(&self) -> usize {
        self.pools[0].users.len()
    }

    /// Those of them that no sequence has.
    pub fn free(&self) -> usize {
        self.pools[0].free.len()
    }

    /// The part of all blocks that no sequence has.
    pub fn free_part(&self) -> f64 {
        let of = |len: fn(&Pool) -> usize| self.pools.iter().map(len).sum::<usize>();
        of(|p| p.free.len()) as f64 / of(|p| p.users.len()).max(1) as f64
    }

    /// The sequence that was used last, of those that nobody runs.
    pub fn last(&self) -> Option<&Cached> {
        self.kept.last()
    }

    /// Keeps a sequence until its blocks are needed.
    pub fn keep(&mut self, mut sequence: Cached) {
        sequence.blocks.next = sequence.tokens.len();
        self.cut(&mut sequence.blocks, sequence.tokens.len());
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
        while self.drop_oldest() {}
    }

    /// Gives back all blocks.
    pub fn give_back(&mut self, mut blocks: Blocks) {
        self.cut(&mut blocks, 0);
    }

    /// Gives back the blocks behind the first `tokens` tokens.
    fn cut(&mut self, blocks: &mut Blocks, tokens: usize) {
        let needed = tokens.div_ceil(BLOCK_TOKENS);
        for (pool, list) in self.pools.iter_mut().zip(&mut blocks.lists) {
            pool.give_back(&list.split_off(needed.min(list.len())));
        }
    }

    fn drop_oldest(&mut self) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        let oldest = self.kept.remove(0);
        self.give_back(oldest.blocks);
        true
    }

    /// A block for a sequence of its own; those of kept sequences only if no other is free.
    pub fn take(&mut self) -> Option<u32> {
        self.take_of(0)
    }

    fn take_of(&mut self, pool: usize) -> Option<u32> {
        while self.pools[pool].free.is_empty() && self.drop_oldest() {}
        let pool = &mut self.pools[pool];
        let block = pool.free.pop()?;
        pool.users[block as usize] = 1;
        Some(block)
    }

    /// Lets the `i`-th of the sequences that run have blocks for `tokens` tokens; `false` if there are too few.
    pub fn extend(&mut self, running: &mut [&mut Blocks], i: usize, tokens: usize) -> bool {
        let needed = tokens.div_ceil(BLOCK_TOKENS);
        while running[i].lists[0].len() < needed {
            let Some(block) = self.take() else {
                return false;
            };
            running[i].lists[0].push(block);
        }
        while self.windowed.is_some() && running[i].lists[1].len() < needed {
            let Some(block) = self.take_windowed(running) else {
                return false;
            };
            running[i].lists[1].push(block);
        }
        true
    }

    /// A block of windows for one of the sequences that run.
    fn take_windowed(&mut self, running: &mut [&mut Blocks]) -> Option<u32> {
        // Kept sequences are dropped rather than the places where the prompts of those that run end.
        [true, false].into_iter().find_map(|keeps_marks| {
            self.trim(running, keeps_marks);
            self.take_of(1)
        })
    }

    /// If no block of windows is free: gives back some that the windows of kept sequences have left, and then those of
    /// sequences that run.
    pub fn trim(&mut self, running: &mut [&mut Blocks], keeps_marks: bool) {
        let (Some(windowed), pool) = (self.windowed, &mut self.pools[1]) else {
            return;
        };
        let kept = self.kept.iter_mut().map(|s| &mut s.blocks);
        for blocks in kept.chain(running.iter_mut().map(|b| &mut **b)) {
            if !pool.free.is_empty() {
                return;
            }
            let Blocks { lists, next, mark } = blocks;
            // A block more than what a token there sees, as texts seldom go on just where they were left.
            let first = |position: usize| windowed.first_block(position).saturating_sub(1);
            let marked = match keeps_marks {
                true => first(*mark)..mark.div_ceil(BLOCK_TOKENS),
                false => 0..0,
            };
            for (i, block) in lists[1].iter_mut().enumerate().take(first(*next)) {
                if !marked.contains(&i) {
                    pool.give_back(&[std::mem::replace(block, NO_BLOCK)]);
                }
            }
        }
    }

    /// The first block of windows that a token at this position sees; 0 if no cache holds a window.
    pub fn first_block(&self, position: usize) -> usize {
        self.windowed.map_or(0, |w| w.first_block(position))
    }

    /// The most tokens, up to `wanted`, behind which a sequence can go on: what the next token sees must be there.
    pub fn reach(&self, blocks: &Blocks, wanted: usize) -> usize {
        let mut tokens = wanted;
        while let Some(windowed) = self.windowed.filter(|_| tokens > 0) {
            let seen = windowed.first_block(tokens)..tokens.div_ceil(BLOCK_TOKENS);
            let missing = |i: &usize| blocks.lists[1].get(*i).is_none_or(|b| *b == NO_BLOCK);
            match seen.rev().find(missing) {
                Some(i) => tokens = i * BLOCK_TOKENS,
                None => break,
            }
        }
        tokens
    }

    /// The longest beginning of `prompt` that is in the caches, without its last token, whose logits are needed.
    /// Only what was computed with the same adapter counts; `running` are the sequences of it that are not kept.
    pub fn find<'a>(
        &mut self,
        prompt: &[u32],
        adapter: Option<u32>,
        running: impl Iterator<Item = (&'a [u32], &'a Blocks)>,
    ) -> Found {
        let wanted = &prompt[..prompt.len() - 1];
        let kept = self.kept.iter().enumerate();
        let kept = kept.filter(|(_, s)| s.adapter == adapter);
        let kept = kept.map(|(i, s)| (&s.tokens[..], Some(i), &s.blocks));
        let running = running.map(|(tokens, blocks)| (tokens, None, blocks));
        let reached = running.chain(kept).map(|(tokens, place, blocks)| {
            let tokens = self.reach(blocks, common(tokens, wanted));
            (tokens, place, blocks)
        });
        let best = reached.max_by_key(|(n, ..)| *n);
        let Some((tokens, place, blocks)) = best.filter(|(n, ..)| *n > 0) else {
            return Found::default();
        };
        // What the prompt continues is not needed any more; otherwise another prompt may begin like it.
        let ends = |i: &usize| self.kept[*i].tokens.len() - tokens < BLOCK_TOKENS;
        if let Some(i) = place.filter(ends) {
            let mut blocks = self.kept.remove(i).blocks;
            self.cut(&mut blocks, tokens);
            return self.with_copies(tokens, blocks);
        }
        let mut blocks = blocks.clone();
        let first = self.first_block(tokens);
        let before = blocks.lists[1].iter_mut().take(first.saturating_sub(1));
        before.for_each(|b| *b = NO_BLOCK);
        for (pool, list) in self.pools.iter_mut().zip(&mut blocks.lists) {
            list.truncate(tokens.div_ceil(BLOCK_TOKENS));
            pool.share(list);
        }
        if let Some(i) = place {
            let used = self.kept.remove(i);
            self.kept.push(used);
        }
        self.with_copies(tokens, blocks)
    }

    /// The found blocks, with a copy of the last one if other sequences have it and go on differently; without it if there
    /// is no room for the copy.
    fn with_copies(&mut self, tokens: usize, mut blocks: Blocks) -> Found {
        blocks.next = tokens;
        let mut copies = [None; 2];
        for (i, copy) in copies.iter_mut().enumerate() {
            let last = blocks.lists[i].last().copied();
            let is_shared = |b: &u32| self.pools[i].users[*b as usize] > 1;
            let is_part = !tokens.is_multiple_of(BLOCK_TOKENS);
            let Some(from) = last.filter(|b| is_part && is_shared(b)) else {
                continue;
            };
            // The shared one is ours until then: not to be dropped to make room for its own copy.
            let Some(to) = self.take_of(i) else {
                let tokens = self.reach(&blocks, tokens / BLOCK_TOKENS * BLOCK_TOKENS);
                self.cut(&mut blocks, tokens);
                blocks.next = tokens;
                return Found {
                    tokens,
                    blocks,
                    copies: [None; 2],
                };
            };
            self.pools[i].give_back(&[from]);
            blocks.lists[i].pop();
            blocks.lists[i].push(to);
            *copy = Some((from, to));
        }
        Found {
            tokens,
            blocks,
            copies,
        }
    }
}

#[cfg(test)]
mod tests;
