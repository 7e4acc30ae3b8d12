//! Drawing from an account and entering the answers: each is one short transaction that holds the account.

use std::sync::atomic::Ordering;

use counterpart_connectors::{Call, Millis, RateSignal};

use super::learn::{TOO_FAST, is_lesson, learn};
use super::ledger::{Bucket, Ledger, Permit, purpose_name, spent_key};
use super::pace::pace;
use super::pool::{Finished, KEEP_MS};
use super::window::{Urgency, allowance, burst};
use crate::mutation::{self, Mutation};
use crate::store::{AccountTx, Grant, StoreError, Window};

/// Slices of the longest window that old draws are added up in.
const SLICES: i64 = 250;

/// How long after its permit a call may still be processed by the vendor: the transport's time limit and some
/// seconds on the way. A call without a recorded answer counts as long as this.
fn under_way_ms() -> i64 {
    if mutation::is_planted(Mutation::LedgerForgetsCallsUnderWay) { 0 } else { 35_000 }
}

/// How far apart the clocks of two machines on one account may be before the draws of one look wrong to the other.
const CLOCKS_APART_MS: i64 = 60_000;

/// What a draw came to.
pub(super) enum Drawn {
    /// Tokens were drawn at this time.
    Granted { grant: i64, n: i64, at: Millis },
    /// There are none before this time.
    NotBefore(Millis),
}

impl Ledger {
    /// Draws tokens for a call, or says when to try again.
    pub(super) async fn draw(&self, bucket: &Bucket, call: &Call<'_>, cost: i64) -> Result<Drawn, StoreError> {
        let tx = self.store.account(&bucket.account).await?;
        // A store that others write to may have been waited for.
        let now = self.clock.now();
        let finished = bucket.pool().finished(now, false);
        settle_all(&tx, &finished).await?;
        let mut windows = tx.windows(&bucket.windows).await?;
        for window in &mut windows {
            let was_ahead = window.set_right(now);
            if window.raise(now) || was_ahead {
                tx.save(window).await?;
            }
        }
        bucket.note(&windows);
        let urgency = Urgency::from(call.lane);
        let room = match self.room(&tx, &windows, urgency, cost, now).await? {
            Ok(room) => room,
            Err(at) => {
                // A later end was written by a clock that was ahead. No call that was made before now lasts longer.
                tx.end_by(now + KEEP_MS + under_way_ms() + CLOCKS_APART_MS).await?;
                tx.commit().await?;
                return Ok(Drawn::NotBefore(at));
            }
        };
        let n = cost.max(bucket.portion).min(room);
        if urgency == Urgency::Background
            && let Err(at) = self.paced(&tx, &mut windows, n, now).await?
        {
            tx.commit().await?;
            return Ok(Drawn::NotBefore(at));
        }
        // A call that is more than its share is entered as what it costs.
        let grant = self.enter(&tx, bucket, call, n.max(cost), now).await?;
        let mut spent = self.take_spent();
        if bucket.portion == 1 {
            spent.entry(spent_key(call)).or_default().n += cost;
        }
        tx.prune(since(now, bucket.longest_ms)).await?;
        if let Some(exact_ms) = bucket.exact_ms {
            let over = now - exact_ms - under_way_ms() - KEEP_MS;
            tx.compact(over, (bucket.longest_ms / SLICES).max(1)).await?;
        }
        tx.spend(self.run_id, &spent).await?;
        tx.commit().await?;
        Ok(Drawn::Granted { grant, n, at: now })
    }

    /// How many calls all windows still allow, at least `cost`; or when they will.
    async fn room(
        &self,
        tx: &AccountTx<'_>,
        windows: &[Window],
        urgency: Urgency,
        cost: i64,
        now: Millis,
    ) -> Result<Result<i64, Millis>, StoreError> {
        let mut room = i64::MAX;
        let mut at = now;
        for window in windows {
            at = at.max(window.not_before);
            let allowed = allowance(window.limit(), urgency);
            let since = since(now, window.per_ms);
            let used = tx.used(&window.class, since).await?;
            // A call that costs more than a window holds waits for an empty one.
            let excess = used + cost.min(allowed) - allowed;
            if excess > 0 {
                let end = tx.nth_end(&window.class, since, excess).await?;
                // One under way may end any moment; it cannot be free earlier than a window from now.
                at = at.max(end.min(now) + window.per_ms + 1);
            }
            room = room.min((allowed - used).max(cost.min(allowed)));
        }
        Ok(if at > now { Err(at) } else { Ok(room) })
    }

    /// Lets `n` paced calls pass in all windows, or says when they may in the slowest.
    async fn paced(
        &self,
        tx: &AccountTx<'_>,
        windows: &mut [Window],
        n: i64,
        now: Millis,
    ) -> Result<Result<(), Millis>, StoreError> {
        let mut at = now;
        for window in windows.iter_mut() {
            let limit = window.limit();
            let calls = allowance(limit, Urgency::Background);
            match pace(calls, window.per_ms, burst(limit), n, window.paced_until, now) {
                Ok(state) => window.paced_until = state,
                Err(later) => at = at.max(later),
            }
        }
        if at > now {
            return Ok(Err(at));
        }
        for window in windows.iter() {
            tx.save(window).await?;
        }
        Ok(Ok(()))
    }

    async fn enter(
        &self,
        tx: &AccountTx<'_>,
        bucket: &Bucket,
        call: &Call<'_>,
        n: i64,
        now: Millis,
    ) -> Result<i64, StoreError> {
        let kept = if bucket.portion > 1 { KEEP_MS } else { 0 };
        tx.grant(&Grant {
            class: &bucket.class,
            lane: call.lane.name(),
            purpose: purpose_name(call.purpose),
            connection: call.connection,
            run_id: self.run_id,
            holder: &self.holder,
            n,
            at: now,
            until: now + kept + under_way_ms(),
        })
        .await
    }

    /// Enters what became of a call.
    pub(super) async fn settle_draw(
        &self,
        bucket: &Bucket,
        call: &Call<'_>,
        permit: &Permit,
        signal: &RateSignal,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        // Without an answer the vendor may still be at it.
        let end = match signal.status {
            Some(_) => now,
            None => now.max(permit.at + under_way_ms()),
        };
        let unsent = if signal.surely_unsent { permit.cost } else { 0 };
        let lesson = is_lesson(signal, bucket.lowest.load(Ordering::Relaxed));
        let good = signal.status.is_some_and(|status| status != TOO_FAST) && bucket.learning.load(Ordering::Relaxed);
        if permit.from_pool {
            bucket.pool().end(permit.grant, unsent, end);
            if !lesson && !good {
                return Ok(());
            }
        }
        let tx = self.store.account(&bucket.account).await?;
        if !permit.from_pool {
            let made = permit.cost - unsent;
            if !tx.settle(permit.grant, made, end).await? {
                // It took so long that its draw was dropped already, and may be counted only now.
                let late = self.enter(&tx, bucket, call, made, now).await?;
                tx.settle(late, made, end).await?;
            }
        }
        if good {
            tx.answered(1).await?;
        }
        if lesson {
            self.take_lesson(&tx, bucket, permit, signal, now).await?;
        }
        tx.commit().await
    }

    async fn take_lesson(
        &self,
        tx: &AccountTx<'_>,
        bucket: &Bucket,
        permit: &Permit,
        signal: &RateSignal,
        now: Millis,
    ) -> Result<(), StoreError> {
        let mut windows = tx.windows(&bucket.windows).await?;
        let mut used = Vec::with_capacity(windows.len());
        for window in &windows {
            used.push(tx.used(&window.class, since(now, window.per_ms)).await?);
        }
        let changed = learn(&mut windows, &used, &bucket.class, signal, permit.at, now);
        for (window, _) in windows.iter().zip(changed).filter(|(_, changed)| *changed) {
            tx.save(window).await?;
        }
        bucket.note(&windows);
        Ok(())
    }
}

impl Bucket {
    /// Remembers what is asked about the windows between two draws.
    fn note(&self, windows: &[Window]) {
        let learning = windows.iter().any(|window| window.learned.is_some());
        let lowest = windows.iter().map(Window::limit).min().unwrap_or(1);
        self.learning.store(learning, Ordering::Relaxed);
        self.lowest.store(lowest, Ordering::Relaxed);
    }
}

/// Calls that ended after this time are in the window that ends now. Both ends of a window belong to it: a
/// vendor that counts so is believed too.
pub(super) fn since(now: Millis, per_ms: i64) -> Millis {
    now - per_ms - 1
}

async fn settle_all(tx: &AccountTx<'_>, finished: &[Finished]) -> Result<(), StoreError> {
    for draw in finished {
        tx.settle(draw.grant, draw.used, draw.last_end).await?;
    }
    Ok(())
}
