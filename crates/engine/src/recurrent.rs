//! What the recurrent states of a model stand for.

use crate::backend::Backend;
use crate::store::{Found, Store, common};

/// Recurrent states cannot be cut back to any token, only to where a copy was kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StateMarks {
    /// Tokens that the states have absorbed: more than are in the cache if steps were started whose tokens were dropped.
    pub fed: usize,
    /// Tokens that the kept copy has absorbed.
    pub kept: Option<usize>,
}

impl StateMarks {
    /// As [`Store::find`], in the sequence that ran last, to which the states belong; and cuts the states back to what is
    /// found.
    pub fn find(
        &mut self,
        store: &mut Store,
        prompt: &[u32],
        adapter: Option<u32>,
        device: &mut dyn Backend,
    ) -> Found {
        let mut last = store.take_last().unwrap_or_default();
        let same = match last.adapter == adapter {
            true => common(&last.tokens, &prompt[..prompt.len() - 1]),
            false => 0,
        };
        let tokens = self.within(same, device);
        last.tokens.truncate(tokens);
        store.clear();
        store.keep(last);
        let blocks = store.take_last().unwrap_or_default().blocks;
        Found {
            tokens,
            blocks,
            copies: [None; 2],
        }
    }

    /// The most tokens, up to `wanted`, that the states can be cut back to; and cuts them back.
    fn within(&mut self, wanted: usize, device: &mut dyn Backend) -> usize {
        // The cache may have been cleared since.
        self.kept = self.kept.filter(|kept| *kept <= wanted);
        if self.fed != wanted {
            if self.kept.is_some() {
                device.restore_states();
            }
            self.fed = self.kept.unwrap_or(0);
        }
        self.fed
    }
}
