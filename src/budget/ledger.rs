//! The ledger as the connectors see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use counterpart_connectors::{Call, Clock, Gate, GateError, Millis, Purpose, RateSignal};

use super::EVERY_CALL;
use super::draw::Drawn;
use super::learn::TOO_FAST;
use super::pool::Pool;
use super::queue::Queue;
use crate::store::{SpentKey, Store, StoreError, Tally};

/// Calls without a budget that are counted before the count is stored.
const UNSTORED_CALLS: i64 = 256;
/// Tokens per second above which they are drawn several at a time, and how often per second then.
const DRAWS_PER_SECOND: i64 = 20;

/// One window of one connection's vendor account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountBudget {
    /// Name of the connection.
    pub connection: String,
    /// The account; connections that share it share its budget.
    pub account: String,
    /// Class of endpoint; `all` counts every call.
    pub class: String,
    /// Calls per window.
    pub requests: u32,
    /// Length of the window.
    pub per_ms: i64,
}

/// Gives permits for calls out of the durable budget.
pub struct Ledger {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) run_id: i64,
    pub(super) holder: String,
    /// The account of each connection that has a budget.
    accounts: BTreeMap<String, String>,
    /// By account and class.
    buckets: BTreeMap<(String, String), Arc<Bucket>>,
    permits: Mutex<BTreeMap<u64, Permit>>,
    last_permit: AtomicU64,
    /// What was spent since it was stored last.
    pub(super) spent: Mutex<BTreeMap<SpentKey, Tally>>,
    stopped: AtomicBool,
}

/// What calls of one class at one account draw from.
pub(super) struct Bucket {
    pub account: String,
    pub class: String,
    /// Class, length and limit of every window that counts such a call.
    pub windows: Vec<(String, i64, i64)>,
    /// The longest window of the account.
    pub longest_ms: i64,
    /// The second longest, if there is one: draws older than that are kept for the longest only.
    pub exact_ms: Option<i64>,
    /// Tokens of one draw; more than one only for fast accounts.
    pub portion: i64,
    pub queue: Queue,
    pub pool: Mutex<Pool>,
    /// Whether a window has learned something, as of the last draw.
    pub learning: AtomicBool,
    /// The lowest limit of any window, as of the last draw.
    pub lowest: AtomicI64,
}

impl Bucket {
    fn new(account: &str, class: &str, windows: Vec<(String, i64, i64)>, lengths: &BTreeSet<i64>) -> Bucket {
        let per_second = windows.iter().map(|(_, per_ms, limit)| limit * 1000 / per_ms.max(&1));
        let portion = per_second.min().unwrap_or(0) / DRAWS_PER_SECOND;
        let lowest = windows.iter().map(|(.., limit)| *limit).min().unwrap_or(1);
        Bucket {
            account: account.to_owned(),
            class: class.to_owned(),
            windows,
            longest_ms: lengths.last().copied().unwrap_or(0),
            exact_ms: lengths.iter().rev().nth(1).copied(),
            portion: portion.max(1),
            queue: Queue::default(),
            pool: Mutex::default(),
            learning: AtomicBool::new(false),
            lowest: AtomicI64::new(lowest),
        }
    }

    pub fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a permit stands for.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    pub grant: i64,
    pub cost: i64,
    pub at: Millis,
    pub from_pool: bool,
}

impl Ledger {
    /// A ledger for the calls of one run; `holder` names the process.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        budgets: Vec<AccountBudget>,
        run_id: i64,
        holder: String,
    ) -> Ledger {
        let mut accounts = BTreeMap::new();
        let mut windows: BTreeMap<String, BTreeMap<(String, i64), i64>> = BTreeMap::new();
        for budget in budgets {
            let limit = i64::from(budget.requests).max(1);
            let window = (budget.class, budget.per_ms.max(1));
            let known = windows.entry(budget.account.clone()).or_default();
            // Two connections that disagree about their common account: the careful one is believed.
            let lowest = known.entry(window).or_insert(limit);
            *lowest = limit.min(*lowest);
            accounts.insert(budget.connection, budget.account);
        }
        Ledger {
            store,
            clock,
            run_id,
            holder,
            accounts,
            buckets: buckets(&windows),
            permits: Mutex::default(),
            last_permit: AtomicU64::new(0),
            spent: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Refuses everything from now on; who waits is sent away.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        for bucket in self.buckets.values() {
            bucket.queue.stir();
        }
    }

    /// Stores what was counted but not stored yet; [`Store::spent`] is exact afterwards.
    pub async fn flush(&self) -> Result<(), StoreError> {
        if self.spent().is_empty() {
            return Ok(());
        }
        let tx = self.store.account("").await?;
        let spent = self.take_spent();
        if let Err(error) = tx.spend(self.run_id, &spent).await {
            self.put_back(spent);
            return Err(error);
        }
        tx.commit().await
    }

    /// Stops, gives unspent tokens back and stores everything that was counted.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.stop();
        for bucket in self.buckets.values() {
            let finished = bucket.pool().finished(self.clock.now(), true);
            if finished.is_empty() {
                continue;
            }
            let tx = self.store.account(&bucket.account).await?;
            for draw in finished {
                tx.settle(draw.grant, draw.used, draw.last_end).await?;
            }
            tx.commit().await?;
        }
        self.flush().await
    }

    /// What calls like this one draw from; none when nothing limits them.
    fn bucket(&self, call: &Call<'_>) -> Option<&Arc<Bucket>> {
        let account = self.accounts.get(call.connection)?;
        let of = |class: &str| self.buckets.get(&(account.clone(), class.to_owned()));
        of(call.class).or_else(|| of(EVERY_CALL))
    }

    async fn wait_for_tokens(&self, bucket: &Bucket, call: &Call<'_>) -> Result<Permit, GateError> {
        let cost = i64::from(call.cost.max(1));
        let ticket = bucket.queue.join(call.lane);
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(GateError::Stopped);
            }
            let (next, seen) = ticket.look();
            if !next {
                ticket.wait_behind(&*self.clock, seen).await;
                continue;
            }
            let at = self.clock.now();
            if let Some(grant) = bucket.pool().take(cost, at) {
                self.count(call, Tally { n: cost, limited: 0 });
                return Ok(Permit { grant, cost, at, from_pool: true });
            }
            match self.draw(bucket, call, cost).await {
                Ok(Drawn::Granted { grant, n, at }) if bucket.portion > 1 && n < cost => {
                    // It has the window to itself, and is more than the window: a pool would never hold so much.
                    self.count(call, Tally { n: cost, limited: 0 });
                    return Ok(Permit { grant, cost, at, from_pool: false });
                }
                Ok(Drawn::Granted { grant, n, at }) if bucket.portion > 1 => {
                    bucket.pool().add(grant, n, at);
                }
                Ok(Drawn::Granted { grant, at, .. }) => {
                    return Ok(Permit { grant, cost, at, from_pool: false });
                }
                Ok(Drawn::NotBefore(at)) => {
                    ticket.wait_until(&*self.clock, seen, at).await;
                }
                Err(error) => return Err(GateError::Store(error.to_string())),
            }
        }
    }

    fn issue(&self, permit: Permit) -> u64 {
        let number = self.last_permit.fetch_add(1, Ordering::Relaxed) + 1;
        self.permits().insert(number, permit);
        number
    }

    fn permits(&self) -> MutexGuard<'_, BTreeMap<u64, Permit>> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spent(&self) -> MutexGuard<'_, BTreeMap<SpentKey, Tally>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts calls that the store will hear of later.
    pub(super) fn count(&self, call: &Call<'_>, tally: Tally) {
        add(&mut self.spent(), spent_key(call), tally);
    }

    /// Takes what the store has not heard of yet.
    pub(super) fn take_spent(&self) -> BTreeMap<SpentKey, Tally> {
        std::mem::take(&mut *self.spent())
    }

    /// Puts back what could not be stored.
    pub(super) fn put_back(&self, spent: BTreeMap<SpentKey, Tally>) {
        let mut now = self.spent();
        for (key, tally) in spent {
            add(&mut now, key, tally);
        }
    }

    fn is_much_unstored(&self) -> bool {
        self.spent().values().map(|tally| tally.n).sum::<i64>() >= UNSTORED_CALLS
    }
}

#[async_trait]
impl Gate for Ledger {
    async fn acquire(&self, call: &Call<'_>) -> Result<u64, GateError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(GateError::Stopped);
        }
        let Some(bucket) = self.bucket(call) else {
            let cost = i64::from(call.cost.max(1));
            self.count(call, Tally { n: cost, limited: 0 });
            return Ok(self.issue(Permit { grant: 0, cost, at: self.clock.now(), from_pool: false }));
        };
        let permit = self.wait_for_tokens(bucket, call).await?;
        Ok(self.issue(permit))
    }

    async fn settle(&self, permit: u64, call: &Call<'_>, signal: &RateSignal) {
        let Some(permit) = self.permits().remove(&permit) else {
            return;
        };
        let limited = i64::from(signal.status == Some(TOO_FAST));
        let unsent = if signal.surely_unsent { permit.cost } else { 0 };
        if limited + unsent > 0 {
            self.count(call, Tally { n: -unsent, limited });
        }
        let outcome = match self.bucket(call) {
            Some(bucket) => {
                let outcome = self.settle_draw(bucket, call, &permit, signal).await;
                bucket.queue.stir();
                outcome
            }
            None if self.is_much_unstored() => self.flush().await,
            None => Ok(()),
        };
        if let Err(error) = outcome {
            // The draw goes on counting as if the answer came as late as it can: slow, never too fast.
            tracing::warn!(connection = call.connection, %error, "an answer could not be entered in the ledger");
        }
    }
}

fn buckets(accounts: &BTreeMap<String, BTreeMap<(String, i64), i64>>) -> BTreeMap<(String, String), Arc<Bucket>> {
    let mut buckets = BTreeMap::new();
    for (account, windows) in accounts {
        let lengths: BTreeSet<i64> = windows.keys().map(|(_, per_ms)| *per_ms).collect();
        for (class, _) in windows.keys() {
            let counts = |of: &String| of == class || of == EVERY_CALL;
            let counting = windows
                .iter()
                .filter(|((of, _), _)| counts(of))
                .map(|((of, per_ms), limit)| (of.clone(), *per_ms, *limit))
                .collect();
            let bucket = Bucket::new(account, class, counting, &lengths);
            buckets.insert((account.clone(), class.clone()), Arc::new(bucket));
        }
    }
    buckets
}

fn add(to: &mut BTreeMap<SpentKey, Tally>, key: SpentKey, tally: Tally) {
    let sum = to.entry(key).or_default();
    sum.n += tally.n;
    sum.limited += tally.limited;
}

pub(super) fn spent_key(call: &Call<'_>) -> SpentKey {
    (call.connection.to_owned(), call.lane.name(), purpose_name(call.purpose))
}

pub(super) fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Pull => "pull",
        Purpose::Fetch => "fetch",
        Purpose::Find => "find",
        Purpose::Create => "create",
        Purpose::Update => "update",
        Purpose::Delete => "delete",
        Purpose::Act => "act",
        Purpose::Check => "check",
    }
}
