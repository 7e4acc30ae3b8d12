//! Tokens of fast accounts, drawn several at a time to spare the store.

use std::collections::BTreeMap;

use counterpart_connectors::Millis;

/// How long drawn tokens may wait for their calls.
pub const KEEP_MS: i64 = 5_000;

/// Tokens drawn at once and not all spent and answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    left: i64,
    used: i64,
    open: i64,
    last_end: Millis,
    expires_at: Millis,
}

impl Chunk {
    /// Whether its tokens are good no more. Those that a clock that was ahead drew would be good for hours, while their draw is
    /// counted no longer than any other.
    fn is_over(&self, now: Millis) -> bool {
        !(now + 1..=now + KEEP_MS).contains(&self.expires_at)
    }
}

/// A draw as it turned out: how many calls were made and when the last one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    pub grant: i64,
    pub used: i64,
    pub last_end: Millis,
}

/// The drawn tokens of one account and class.
#[derive(Debug, Default)]
pub struct Pool {
    chunks: BTreeMap<i64, Chunk>,
}

impl Pool {
    /// Adds tokens that were drawn at `now`.
    pub fn add(&mut self, grant: i64, n: i64, now: Millis) {
        let chunk = Chunk { left: n, used: 0, open: 0, last_end: now, expires_at: now + KEEP_MS };
        self.chunks.insert(grant, chunk);
    }

    /// Takes `cost` tokens for one call, of those that are good at `now`, and returns the draw they are from.
    pub fn take(&mut self, cost: i64, now: Millis) -> Option<i64> {
        let (grant, chunk) = self.chunks.iter_mut().find(|(_, chunk)| chunk.left >= cost && !chunk.is_over(now))?;
        chunk.left -= cost;
        chunk.used += cost;
        chunk.open += 1;
        Some(*grant)
    }

    /// Notes the end of a call; `unsent` tokens were not spent after all.
    pub fn end(&mut self, grant: i64, unsent: i64, at: Millis) {
        if let Some(chunk) = self.chunks.get_mut(&grant) {
            chunk.open -= 1;
            chunk.used -= unsent;
            chunk.last_end = chunk.last_end.max(at);
        }
    }

    /// Removes and returns the draws that nothing more will happen to; `closing` gives up unspent tokens.
    pub fn finished(&mut self, now: Millis, closing: bool) -> Vec<Finished> {
        let over = |chunk: &Chunk| chunk.open == 0 && (chunk.left == 0 || chunk.is_over(now) || closing);
        let mut finished = Vec::new();
        self.chunks.retain(|&grant, chunk| {
            if over(chunk) {
                finished.push(Finished { grant, used: chunk.used, last_end: chunk.last_end });
            }
            !over(chunk)
        });
        finished
    }
}
