//! Rate limits the way vendors count.

use std::collections::VecDeque;

use crate::Millis;

/// How a vendor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// So many in any stretch of time.
    Sliding,
    /// So many from one full window to the next.
    Fixed,
}

/// One limit and what it has seen.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    pub requests: usize,
    pub per_ms: Millis,
    pub window: Window,
    seen: VecDeque<Millis>,
}

impl Limiter {
    pub fn new(requests: usize, per_ms: Millis, window: Window) -> Limiter {
        Limiter { requests, per_ms, window, seen: VecDeque::new() }
    }

    /// Counts one call; when it is one too many, says when the next would pass.
    pub fn admit(&mut self, now: Millis) -> Result<(), Millis> {
        let start = match self.window {
            Window::Sliding => now - self.per_ms + 1,
            Window::Fixed => now.div_euclid(self.per_ms) * self.per_ms,
        };
        while self.seen.front().is_some_and(|at| *at < start) {
            self.seen.pop_front();
        }
        if self.seen.len() < self.requests {
            self.seen.push_back(now);
            return Ok(());
        }
        Err(match self.window {
            Window::Sliding => self.seen.front().map_or(now, |at| at + self.per_ms),
            Window::Fixed => start + self.per_ms,
        })
    }

    pub fn remaining(&self) -> usize {
        self.requests.saturating_sub(self.seen.len())
    }
}
