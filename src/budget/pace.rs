//! Spreads background calls evenly over a window. governor decides; its state is one number that lives in
//! the ledger, so that all processes share one pace and a restart goes on with it.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use counterpart_connectors::Millis;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// Lets `n` calls pass at `now` and returns the new state, or says when they may.
///
/// `calls` per `per_ms` in the long run, `burst` at once; `state` is what an earlier call returned.
pub fn pace(calls: i64, per_ms: i64, burst: i64, n: i64, state: i64, now: Millis) -> Result<i64, Millis> {
    let interval = Duration::from_nanos(nanos(per_ms) / calls.max(1).unsigned_abs());
    let Some(quota) = Quota::with_period(interval) else {
        return Ok(state);
    };
    let quota = quota.allow_burst(cells(burst));
    let time = LedgerClock(Cell::new(Nanos::new(0)));
    let cell = LedgerState(Cell::new(Nanos::new(state.max(0).unsigned_abs())));
    // The limiter counts from the moment it is made; made at the epoch, its state means the same to all.
    let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> = RateLimiter::new(quota, &cell, &time);
    time.0.set(Nanos::new(nanos(now)));
    match limiter.check_n(cells(n.min(burst))) {
        Ok(Ok(())) => Ok(i64::try_from(cell.0.get().as_u64()).unwrap_or(i64::MAX)),
        Ok(Err(not_until)) => {
            let at = not_until.earliest_possible().as_u64().div_ceil(1_000_000);
            Err(i64::try_from(at).unwrap_or(i64::MAX))
        }
        // Not reached: no more cells are asked for than the burst holds.
        Err(_) => Ok(state),
    }
}

fn nanos(ms: i64) -> u64 {
    ms.max(0).unsigned_abs().saturating_mul(1_000_000)
}

fn cells(n: i64) -> NonZeroU32 {
    let n = u32::try_from(n.max(1)).unwrap_or(u32::MAX);
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

struct LedgerClock(Cell<Nanos>);

impl Clock for &LedgerClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

struct LedgerState(Cell<Nanos>);

impl StateStore for &LedgerState {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = Some(self.0.get()).filter(|state| state.as_u64() > 0);
        let (outcome, after) = decide(before)?;
        self.0.set(after);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::pace;

    const NOON: i64 = 1_790_000_000_000;

    #[test]
    fn calls_come_evenly_and_the_state_carries_over() {
        let mut state = 0;
        let mut now = NOON;
        for _ in 0..14 {
            state = pace(14, 60_000, 1, 1, state, now).expect("it is time");
            now = pace(14, 60_000, 1, 1, state, now).expect_err("one at a time");
        }
        // Each wait ends at the next whole millisecond.
        assert!((NOON + 60_000..NOON + 60_014).contains(&now));
    }

    #[test]
    fn a_burst_passes_at_once() {
        let state = pace(100, 10_000, 10, 10, 0, NOON).expect("all ten");
        assert_eq!(pace(100, 10_000, 10, 1, state, NOON), Err(NOON + 100));
    }
}
