//! A world for the ledger: time that only passes when everybody waits for it, and a vendor that counts.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use async_trait::async_trait;
use counterpart::budget::Ledger;
use counterpart_connectors::{Call, Clock, Gate, GateError, Lane, Millis, Purpose, RateSignal};

/// A full minute, so that fixed windows are easy to reason about.
pub const NOON: Millis = 1_790_000_040_000;

/// A clock that is moved by [`run`].
#[derive(Default)]
pub struct WorldClock(Mutex<Time>);

#[derive(Default)]
struct Time {
    now: Millis,
    sleepers: BTreeMap<(Millis, u64), Waker>,
    sleeps: u64,
}

impl WorldClock {
    pub fn at_noon() -> Arc<WorldClock> {
        let time = Time { now: NOON, ..Time::default() };
        Arc::new(WorldClock(Mutex::new(time)))
    }

    /// A clock that shows another time.
    pub fn at(now: Millis) -> Arc<WorldClock> {
        Arc::new(WorldClock(Mutex::new(Time { now, ..Time::default() })))
    }

    /// Moves on to the next time somebody waits for, at most to `limit`.
    fn advance(&self, limit: Millis) {
        let mut time = self.0.lock().unwrap();
        let next = time.sleepers.keys().next().map_or(limit, |(at, _)| *at);
        time.now = time.now.max(next.min(limit));
        let due: Vec<_> = time.sleepers.range(..=(time.now, u64::MAX)).map(|(key, _)| *key).collect();
        let wakers: Vec<Waker> = due.iter().filter_map(|key| time.sleepers.remove(key)).collect();
        drop(time);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn sleeping(&self) -> usize {
        self.0.lock().unwrap().sleepers.len()
    }
}

#[async_trait]
impl Clock for WorldClock {
    fn now(&self) -> Millis {
        self.0.lock().unwrap().now
    }

    async fn sleep_until(&self, at: Millis) {
        let mut sleep = Sleep { clock: self, at, key: None };
        poll_fn(|cx| sleep.poll(cx)).await;
    }
}

/// The clock on the wall of a world: what it shows may be set, and time passes all the same.
pub struct WallClock {
    world: Arc<WorldClock>,
    ahead: AtomicI64,
}

impl WallClock {
    pub fn of(world: &Arc<WorldClock>) -> Arc<WallClock> {
        Arc::new(WallClock { world: world.clone(), ahead: AtomicI64::new(0) })
    }

    /// Sets it to be this much ahead of the world.
    pub fn set(&self, ahead_ms: Millis) {
        self.ahead.store(ahead_ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for WallClock {
    fn now(&self) -> Millis {
        self.world.now() + self.ahead.load(Ordering::SeqCst)
    }

    async fn sleep_until(&self, at: Millis) {
        self.world.sleep_until(at - self.ahead.load(Ordering::SeqCst)).await;
    }
}

struct Sleep<'a> {
    clock: &'a WorldClock,
    at: Millis,
    key: Option<(Millis, u64)>,
}

impl Sleep<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().unwrap();
        if time.now >= self.at {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            time.sleeps += 1;
            (self.at, time.sleeps)
        });
        time.sleepers.insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.0.lock().unwrap().sleepers.remove(&key);
        }
    }
}

/// Something that happens in the world, one thing after the other.
pub struct Task<'a> {
    work: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// When it is killed.
    death: Millis,
    signal: Arc<Signal>,
}

impl<'a> Task<'a> {
    /// A task that is killed at `death` unless it is done by then.
    pub fn until(death: Millis, work: impl Future<Output = ()> + 'a) -> Task<'a> {
        Task { work: Box::pin(work), death, signal: Arc::new(Signal::new()) }
    }

    /// Goes on with the work if there is something to go on with; true when it is done.
    fn poll(&mut self, executor: &Waker, worked: &mut bool) -> bool {
        self.signal.listen(executor);
        if !self.signal.take() {
            return false;
        }
        *worked = true;
        let waker = Waker::from(self.signal.clone());
        self.work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }
}

/// Runs tasks one at a time until all are done or dead. Killing is dropping: nothing is said good-bye to.
pub async fn run(clock: &WorldClock, mut tasks: Vec<Task<'_>>) {
    poll_fn(move |cx| {
        loop {
            let mut worked = false;
            tasks.retain_mut(|task| !task.poll(cx.waker(), &mut worked));
            if worked {
                continue;
            }
            // Whoever is not asleep waits for the database, which takes no time in this world.
            if clock.sleeping() < tasks.len() {
                return Poll::Pending;
            }
            let Some(next_death) = tasks.iter().map(|task| task.death).min() else {
                return Poll::Ready(());
            };
            clock.advance(next_death);
            let now = clock.now();
            tasks.retain(|task| task.death > now);
        }
    })
    .await;
}

/// Wakes a task, and the executor with it.
struct Signal {
    woken: AtomicBool,
    executor: Mutex<Option<Waker>>,
}

impl Signal {
    fn new() -> Signal {
        Signal { woken: AtomicBool::new(true), executor: Mutex::new(None) }
    }

    fn listen(&self, executor: &Waker) {
        *self.executor.lock().unwrap() = Some(executor.clone());
    }

    fn take(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if let Some(executor) = &*self.executor.lock().unwrap() {
            executor.wake_by_ref();
        }
    }
}

/// A vendor that notes when it processed what, and refuses what is too much for it.
#[derive(Default)]
pub struct Vendor {
    seen: Mutex<Vec<Seen>>,
    /// Limit and window it really has.
    pub hidden: Option<(usize, i64)>,
}

/// A call as the vendor saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub at: Millis,
    pub search: bool,
    pub refused: bool,
}

impl Vendor {
    /// Processes a call now and returns the status of the answer.
    fn process(&self, now: Millis, class: &str) -> u16 {
        let mut seen = self.seen.lock().unwrap();
        let refused = self.hidden.is_some_and(|(limit, per_ms)| {
            let counted = |call: &&Seen| call.at > now - per_ms && !call.refused;
            seen.iter().filter(counted).count() >= limit
        });
        seen.push(Seen { at: now, search: class == "search", refused });
        if refused { 429 } else { 200 }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The most calls in any window of this length, both ends included.
    pub fn busiest(&self, per_ms: i64, counted: impl Fn(&Seen) -> bool) -> usize {
        let mut at: Vec<Millis> = self.seen().iter().filter(|call| counted(call)).map(|call| call.at).collect();
        at.sort_unstable();
        let mut first = 0;
        let mut most = 0;
        for (last, end) in at.iter().enumerate() {
            while at[first] < end - per_ms {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most
    }
}

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is processed after the first time and answered after the second.
    Answered { processed_ms: i64, answered_ms: i64 },
    /// It is processed, and the answer never comes.
    Cut { processed_ms: i64, noticed_ms: i64 },
    /// It surely never arrived.
    Unsent,
}

/// Makes one call and returns how long it waited for its permit.
pub async fn call(
    clock: &dyn Clock,
    ledger: &Ledger,
    vendor: &Vendor,
    call: &Call<'_>,
    fate: Fate,
) -> Result<i64, GateError> {
    let asked = clock.now();
    let permit = ledger.acquire(call).await?;
    let granted = clock.now();
    let (processed_ms, end_ms) = match fate {
        Fate::Answered { processed_ms, answered_ms } => (processed_ms, answered_ms),
        Fate::Cut { processed_ms, noticed_ms } => (processed_ms, noticed_ms),
        Fate::Unsent => {
            let signal = RateSignal { surely_unsent: true, ..RateSignal::default() };
            ledger.settle(permit, call, &signal).await;
            return Ok(granted - asked);
        }
    };
    // A cut may be noticed before the vendor gets to it.
    let status = if processed_ms <= end_ms {
        clock.sleep_until(granted + processed_ms).await;
        let status = vendor.process(clock.now(), call.class);
        clock.sleep_until(granted + end_ms).await;
        status
    } else {
        clock.sleep_until(granted + end_ms).await;
        0
    };
    let answered = matches!(fate, Fate::Answered { .. });
    let signal = RateSignal { status: answered.then_some(status), ..RateSignal::default() };
    ledger.settle(permit, call, &signal).await;
    if status == 0 {
        clock.sleep_until(granted + processed_ms).await;
        vendor.process(clock.now(), call.class);
    }
    Ok(granted - asked)
}

/// A call of one connection.
pub fn to(class: &'static str, lane: Lane) -> Call<'static> {
    Call { connection: "chat", class, lane, purpose: Purpose::Pull, cost: 1 }
}
