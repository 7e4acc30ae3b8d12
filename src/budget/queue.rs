//! Who is next: callers of one process that wait for the same tokens, by urgency and arrival.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use counterpart_connectors::{Clock, Lane, Millis};
use tokio::sync::Notify;

/// How often somebody who is not next looks again when nothing is known about the one before.
const LOOK_AGAIN_MS: i64 = 10;

/// The waiting callers of one account and class.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeSet<(Lane, u64)>,
    arrivals: u64,
    /// Grows with everything that may let somebody go on.
    version: u64,
    /// When the one who is next will try again.
    next_try: Millis,
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub struct Ticket<'a> {
    queue: &'a Queue,
    place: (Lane, u64),
}

impl Queue {
    /// Joins the queue.
    pub fn join(&self, lane: Lane) -> Ticket<'_> {
        let mut state = self.state();
        let place = (lane, state.arrivals);
        state.arrivals += 1;
        state.waiting.insert(place);
        drop(state);
        // Whoever was next may not be any more.
        self.stir();
        Ticket { queue: self, place }
    }

    /// Has everybody look again.
    pub fn stir(&self) {
        self.state().version += 1;
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Whether it is this caller's turn, and the state of affairs to hand to [`wait`](Ticket::wait).
    pub fn look(&self) -> (bool, u64) {
        let state = self.queue.state();
        (state.waiting.first() == Some(&self.place), state.version)
    }

    /// Waits until something has changed since `seen`, at most until `at`, when the caller is next and knows
    /// when to try again; those who are not wait with the one who is. Everybody who waits sleeps on the
    /// clock too, so that a world driven by its clock sees all of them.
    pub async fn wait(&self, clock: &dyn Clock, seen: u64, at: Option<Millis>) {
        let changed = self.queue.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let until = {
            let mut state = self.queue.state();
            if state.version != seen {
                return;
            }
            match at {
                Some(at) => {
                    state.next_try = at;
                    at
                }
                None => state.next_try.max(clock.now() + LOOK_AGAIN_MS),
            }
        };
        tokio::select! {
            biased;
            () = changed => {}
            () = clock.sleep_until(until) => {}
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting.remove(&self.place);
        self.queue.stir();
    }
}
