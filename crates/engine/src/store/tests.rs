//! What prompts find in the caches, and what sequences give back.

use siskin_graph::{Capacity, NO_BLOCK, Windowed};

use super::{Blocks, Cached, Found, Store};

fn unwindowed(blocks: usize) -> Store {
    Store::new(Capacity::alone(16 * blocks))
}

/// A sequence of these tokens in blocks of its own.
fn sequence(store: &mut Store, tokens: impl Iterator<Item = u32>) -> Cached {
    let tokens: Vec<u32> = tokens.collect();
    let mut blocks = Blocks::default();
    assert!(store.extend(&mut [&mut blocks], 0, tokens.len()));
    Cached {
        adapter: None,
        blocks,
        tokens,
    }
}

fn find(store: &mut Store, prompt: impl Iterator<Item = u32>) -> Found {
    let prompt: Vec<u32> = prompt.collect();
    store.find(&prompt, None, std::iter::empty())
}

#[test]
fn what_a_prompt_continues_is_taken_over() {
    let mut store = unwindowed(4);
    let kept = sequence(&mut store, 0..40);
    store.keep(kept.clone());
    let found = find(&mut store, 0..60);
    assert_eq!((found.tokens, found.copies), (40, [None; 2]));
    assert_eq!(found.blocks.lists, kept.blocks.lists);
    assert!(store.last().is_none());
    store.give_back(found.blocks);
    assert_eq!(store.free(), 4);
}

#[test]
fn prompts_that_begin_alike_share_blocks() {
    let mut store = unwindowed(8);
    let kept = sequence(&mut store, 0..70);
    store.keep(kept.clone());
    let prompt = || (0..37).chain(500..510);
    let [one, two] = [(); 2].map(|()| find(&mut store, prompt()));
    for found in [&one, &two] {
        assert_eq!(found.tokens, 37);
        let [found_blocks, kept_blocks] = [&found.blocks, &kept.blocks].map(|b| &b.lists[0]);
        assert_eq!(found_blocks[..2], kept_blocks[..2]);
        assert_eq!(found.copies[0], Some((kept_blocks[2], found_blocks[2])));
    }
    assert_ne!(one.blocks.lists[0][2], two.blocks.lists[0][2]);
    assert_eq!(store.free(), 8 - 5 - 2);
    // Others' blocks stay when the first owner is dropped.
    store.clear();
    assert_eq!(store.free(), 8 - 4);
    store.give_back(one.blocks);
    store.give_back(two.blocks);
    assert_eq!(store.free(), 8);
}

#[test]
fn a_whole_prompt_is_not_found_since_its_logits_are_needed() {
    let mut store = unwindowed(4);
    let kept = sequence(&mut store, 0..32);
    store.keep(kept);
    assert_eq!(find(&mut store, 0..32).tokens, 31);
    assert_eq!(find(&mut unwindowed(4), 0..32).tokens, 0);
}

#[test]
fn what_was_used_least_recently_is_dropped_when_blocks_are_needed() {
    let mut store = unwindowed(6);
    for start in [100, 200, 300] {
        let kept = sequence(&mut store, start..start + 32);
        store.keep(kept);
    }
    assert_eq!(store.free(), 0);
    // The first one is used again, so that the second goes.
    let found = find(&mut store, (100..110).chain(0..5));
    assert_eq!((found.tokens, found.blocks.lists[0].len()), (10, 1));
    assert_eq!(find(&mut store, 200..240).tokens, 0);
    assert_eq!(find(&mut store, 100..140).tokens, 32);
    // No room for a copy: whole blocks only.
    let mut store = unwindowed(2);
    let running = sequence(&mut store, 0..32);
    let prompt: Vec<u32> = (0..20).chain(50..60).collect();
    let running = [(&running.tokens[..], &running.blocks)];
    let found = store.find(&prompt, None, running.into_iter());
    assert_eq!((found.tokens, found.copies), (16, [None; 2]));
}

/// For sequences of up to 160 tokens, of which layers with a window of 20 see that many.
fn windowed(blocks: usize) -> Store {
    Store::new(Capacity {
        blocks: 20,
        windowed: Some(Windowed { window: 20, blocks }),
        ..Capacity::alone(160)
    })
}

fn present(blocks: &Blocks) -> Vec<usize> {
    let there = blocks.lists[1].iter().enumerate();
    let there = there.filter(|(_, b)| **b != NO_BLOCK);
    there.map(|(i, _)| i).collect()
}

#[test]
fn windows_give_back_what_they_have_left() {
    let mut store = windowed(7);
    let mut one = Blocks::default();
    for tokens in 1..=160 {
        one.next = tokens - 1;
        assert!(store.extend(&mut [&mut one], 0, tokens));
        // Nothing is given back before it is needed.
        assert!(tokens > 7 * 16 || present(&one).len() == one.lists[1].len());
    }
    assert_eq!(one.lists[0].len(), 10);
    // When the token at 112 found no block free, it saw those from 93 on, in block 5; and one more block is kept.
    assert_eq!(present(&one), [4, 5, 6, 7, 8, 9]);
    let tokens: Vec<u32> = (0..160).collect();
    assert_eq!(store.reach(&one, 160), 160);
    // The token at 83 sees those from 64 on.
    assert_eq!(store.reach(&one, 83), 83);
    assert_eq!(store.reach(&one, 82), 0);
    store.keep(Cached {
        adapter: None,
        tokens,
        blocks: one,
    });
    let found = find(&mut store, (0..160).chain(500..510));
    assert_eq!(found.tokens, 160);
    store.give_back(found.blocks);
    assert_eq!(store.free_part(), 1.0);
}

#[test]
fn where_a_prompt_ends_is_kept_as_long_as_there_is_room() {
    let mut store = windowed(8);
    let mut one = Blocks {
        mark: 50,
        ..Blocks::default()
    };
    for tokens in 1..=160 {
        one.next = tokens - 1;
        assert!(store.extend(&mut [&mut one], 0, tokens));
    }
    let tokens: Vec<u32> = (0..160).collect();
    store.keep(Cached {
        adapter: None,
        tokens,
        blocks: one,
    });
    // Another answer to the prompt, which then has two, with a part of a block copied in both groups of caches.
    let found = find(&mut store, 0..51);
    assert_eq!(found.tokens, 50);
    assert!(found.copies.iter().all(Option::is_some));
    assert_eq!(present(&found.blocks).last(), Some(&3));
    // A sequence that needs room takes it from the kept one first, then from marks.
    let (mut found, mut other) = (found.blocks, Blocks::default());
    found.mark = 50;
    for tokens in 1..=100 {
        other.next = tokens - 1;
        assert!(store.extend(&mut [&mut found, &mut other], 1, tokens));
    }
    assert_eq!(store.reach(&found, 50), 50);
    store.give_back(found);
    store.give_back(other);
    store.clear();
    assert_eq!(store.free_part(), 1.0);
}

#[test]
fn what_rows_of_the_same_step_see_stays() {
    let mut store = windowed(12);
    let mut all = [Blocks::default(), Blocks::default()];
    let [one, other] = &mut all;
    assert!(store.extend(&mut [one, other], 0, 100));
    // A step with 60 rows of the first, of which the first row sees the token at 81, in block 5, and 48 of the other.
    one.next = 100;
    assert!(store.extend(&mut [one, other], 0, 160));
    assert!(store.extend(&mut [one, other], 1, 48));
    assert_eq!(present(one), [4, 5, 6, 7, 8, 9]);
    assert_eq!(present(other), [0, 1, 2]);
}
