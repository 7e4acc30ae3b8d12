//! Who is next: callers of one process that wait for the same tokens, by urgency and arrival.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use counterpart_connectors::{Clock, Lane, Millis};
use tokio::sync::Notify;

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
    /// Whether it is this caller's turn, and the state of affairs to hand to the waiting functions.
    pub fn look(&self) -> (bool, u64) {
        let state = self.queue.state();
        (state.waiting.first() == Some(&self.place), state.version)
    }

    /// Waits, as the one who is next, until `at` or until something has changed since `seen`.
    pub async fn wait_until(&self, clock: &dyn Clock, seen: u64, at: Millis) {
        self.queue.state().next_try = at;
        // The others go to sleep on the clock as well.
        self.queue.changed.notify_waiters();
        self.wait(clock, seen, Some(at)).await;
    }

    /// Waits behind the one who is next until something has changed since `seen`.
    ///
    /// While that one sleeps on the clock so does everybody behind, so that a world driven by its clock sees
    /// all of them wait.
    pub async fn wait_behind(&self, clock: &dyn Clock, seen: u64) {
        let next_try = self.queue.state().next_try;
        let at = (next_try > clock.now()).then_some(next_try);
        self.wait(clock, seen, at).await;
    }

    async fn wait(&self, clock: &dyn Clock, seen: u64, at: Option<Millis>) {
        let changed = self.queue.changed.notified();
        tokio::pin!(changed);
        // From here on no change is missed, and one that came before shows in the version.
        changed.as_mut().enable();
        if self.queue.state().version != seen {
            return;
        }
        match at {
            Some(at) => tokio::select! {
                biased;
                () = changed => {}
                () = clock.sleep_until(at) => {}
            },
            None => changed.await,
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting.remove(&self.place);
        self.queue.stir();
    }
}
