//! The laws of the ledger: never more than the limit, whoever dies when; urgent calls wait for one token.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart::budget::{AccountBudget, Ledger, forecast};
use counterpart::store::{Spent, Store};
use counterpart_connectors::{BudgetFacts, Call, Clock, Gate, GateError, Lane, Purpose, RateSignal};
use proptest::prelude::*;

use crate::budget_world::{Fate, NOON, Task, Vendor, WallClock, WorldClock, call, run, to};
use crate::store_databases::{Home, Kind};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// A usual answer.
const USUAL: Fate = Fate::Answered { processed_ms: 100, answered_ms: 200 };

/// A store, a clock and a vendor.
struct World {
    _home: Home,
    store: Store,
    clock: Arc<WorldClock>,
    /// What the ledgers go by.
    wall: Arc<WallClock>,
    vendor: Vendor,
    windows: Vec<(&'static str, u32, i64)>,
}

impl World {
    async fn new(windows: &[(&'static str, u32, i64)]) -> World {
        let home = Home::new(Kind::Memory).await;
        let store = home.open().await;
        let clock = WorldClock::at_noon();
        let wall = WallClock::of(&clock);
        World { _home: home, store, clock, wall, vendor: Vendor::default(), windows: windows.to_vec() }
    }

    fn ledger(&self, run: i64, holder: &str) -> Ledger {
        ledger(&self.store, self.wall.clone(), &self.windows, run, holder)
    }

    /// Calls one after the other until noon plus `until_ms`.
    fn endless<'a>(&'a self, ledger: &'a Ledger, lane: Lane, until_ms: i64) -> Task<'a> {
        Task::until(NOON + until_ms, async move { while self.call(ledger, &to("all", lane), USUAL).await.is_ok() {} })
    }

    async fn call(&self, ledger: &Ledger, what: &Call<'_>, fate: Fate) -> Result<i64, GateError> {
        call(&*self.clock, ledger, &self.vendor, what, fate).await
    }

    fn keeps_the_law(&self) -> Result<(), String> {
        for &(class, limit, per_ms) in &self.windows {
            let busiest = self.vendor.busiest(per_ms, |call| class == "all" || call.search);
            if busiest > limit as usize {
                return Err(format!("{busiest} calls of {class} in {per_ms} ms, {limit} are allowed"));
            }
        }
        Ok(())
    }
}

fn ledger(
    store: &Store,
    clock: Arc<dyn Clock>,
    windows: &[(&'static str, u32, i64)],
    run: i64,
    holder: &str,
) -> Ledger {
    let budgets = windows.iter().map(|&(class, requests, per_ms)| AccountBudget {
        connection: "chat".into(),
        account: "chatway/42".into(),
        class: class.into(),
        requests,
        per_ms,
    });
    Ledger::new(store.clone(), clock, budgets.collect(), run, holder.into())
}

// ---- the limit ------------------------------------------------------------------------------------

/// What one worker of a process does.
#[derive(Clone, Debug)]
struct Step {
    pause_ms: i64,
    lane: Lane,
    search: bool,
    fate: Fate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = prop_oneof![
        1 => Just(Lane::Customer),
        1 => Just(Lane::Repair),
        1 => Just(Lane::Incremental),
        3 => Just(Lane::Backfill)
    ];
    let fate = prop_oneof![
        6 => (0..400i64, 0..400i64).prop_map(|(a, b)| Fate::Answered { processed_ms: a, answered_ms: a + b }),
        2 => (0..20_000i64, 0..10_000i64).prop_map(|(a, b)| Fate::Answered { processed_ms: a, answered_ms: a + b }),
        1 => (0..30_000i64, 0..30_000i64).prop_map(|(a, b)| Fate::Cut { processed_ms: a, noticed_ms: b }),
        1 => Just(Fate::Unsent),
    ];
    let pause = prop_oneof![3 => Just(0), 1 => 0..5_000i64];
    let step = (pause, lane, prop::bool::weighted(0.3), fate).prop_map(|(pause_ms, lane, search, fate)| Step {
        pause_ms,
        lane,
        search,
        fate,
    });
    prop::collection::vec(step, 1..25)
}

/// Two processes with some workers each; the times at which the first is killed and started again.
#[derive(Clone, Debug)]
struct History {
    windows: Vec<(&'static str, u32, i64)>,
    workers: [Vec<Vec<Step>>; 2],
    deaths_ms: Vec<i64>,
    /// How far ahead the clock is at first, and when it is set right.
    ahead_ms: i64,
    set_right_ms: i64,
}

fn history() -> impl Strategy<Value = History> {
    let windows = prop_oneof![
        (1..20u32, 1..60i64).prop_map(|(limit, seconds)| vec![("all", limit, seconds * 1000)]),
        (1..6u32, 5..30u32).prop_map(|(short, long)| vec![("all", short, 2_000), ("all", long, MINUTE)]),
        (1..5u32, 2..12u32).prop_map(|(search, all)| vec![("search", search, 3_000), ("all", all, 10_000)]),
        (80..200u32).prop_map(|limit| vec![("all", limit, 1_000)]),
    ];
    let workers = || prop::collection::vec(steps(), 1..4);
    let ahead = prop_oneof![Just(0), 1..MINUTE, 1..3 * HOUR];
    let deaths = prop::collection::vec(1..40_000i64, 0..4);
    (windows, workers(), workers(), deaths, ahead, 0..MINUTE).prop_map(
        |(windows, one, two, deaths_ms, ahead_ms, set_right_ms)| History {
            windows,
            workers: [one, two],
            deaths_ms,
            ahead_ms,
            set_right_ms,
        },
    )
}

async fn live(history: &History) -> Result<(), String> {
    let world = World::new(&history.windows).await;
    let end = NOON + HOUR;
    let other = world.ledger(2, "other");
    // The first process is killed without a word, started again at once, and does the same again.
    let mut deaths: Vec<i64> = history.deaths_ms.iter().map(|ms| NOON + ms).collect();
    deaths.sort_unstable();
    let lives: Vec<Ledger> = (0..=deaths.len()).map(|life| world.ledger(1, &format!("life {life}"))).collect();
    world.wall.set(history.ahead_ms);
    let mut tasks = vec![Task::until(end, async {
        world.clock.sleep_until(NOON + history.set_right_ms).await;
        world.wall.set(0);
    })];
    for (life, ledger) in lives.iter().enumerate() {
        let birth = if life == 0 { NOON } else { deaths[life - 1] };
        let death = deaths.get(life).copied().unwrap_or(end);
        for steps in &history.workers[0] {
            tasks.push(Task::until(death, follow(&world, ledger, birth, steps)));
        }
    }
    for steps in &history.workers[1] {
        tasks.push(Task::until(end, follow(&world, &other, NOON, steps)));
    }
    run(&world.clock, tasks).await;
    world.keeps_the_law()
}

async fn follow(world: &World, ledger: &Ledger, birth: i64, steps: &[Step]) {
    world.clock.sleep_until(birth).await;
    for step in steps {
        world.clock.sleep_until(world.clock.now() + step.pause_ms).await;
        let class = if step.search { "search" } else { "all" };
        world.call(ledger, &to(class, step.lane), step.fate).await.expect("the ledger works");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// L6: in every sliding window calls <= limit, across processes, restarts and latencies.
    #[test]
    fn no_window_ever_sees_more_than_its_limit(history in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(live(&history));
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

/// The law above would notice a ledger that forgets calls under way.
#[cfg(feature = "mutants")]
#[tokio::test]
async fn mutant_ledger_is_caught() {
    let slow = Fate::Answered { processed_ms: 1_900, answered_ms: 2_000 };
    let step = |fate| vec![Step { pause_ms: 0, lane: Lane::Customer, search: false, fate }];
    let history = History {
        windows: vec![("all", 1, 1_000)],
        workers: [vec![step(slow)], vec![step(USUAL)]],
        deaths_ms: vec![],
        ahead_ms: 0,
        set_right_ms: 0,
    };
    assert_eq!(live(&history).await, Ok(()));
    counterpart::mutation::plant(Some(counterpart::mutation::Mutation::LedgerForgetsCallsUnderWay));
    assert!(live(&history).await.is_err());
}

#[tokio::test]
async fn a_restart_right_after_a_crash_does_not_exceed() {
    let world = World::new(&[("all", 15, MINUTE)]).await;
    let lives: Vec<Ledger> = (0..6).map(|life| world.ledger(1, &format!("life {life}"))).collect();
    let mut tasks = Vec::new();
    for (life, ledger) in (0..).zip(&lives) {
        // Each life draws what it can, for urgent calls that nothing paces, and dies with all of them under way.
        let (birth, death) = (NOON + life * 5_000, NOON + (life + 1) * 5_000);
        for _ in 0..15 {
            let world = &world;
            tasks.push(Task::until(death, async move {
                world.clock.sleep_until(birth).await;
                let late = Fate::Answered { processed_ms: 4_000, answered_ms: 6_000 };
                let _ = world.call(ledger, &to("all", Lane::Customer), late).await;
            }));
        }
    }
    run(&world.clock, tasks).await;
    assert_eq!(world.vendor.seen().len(), 15, "the first life took all there was");
    world.keeps_the_law().unwrap();
}

#[tokio::test]
async fn two_processes_share_one_account() {
    let home = Home::new(Kind::File).await;
    let (one, two) = (home.open().await, home.open().await);
    let world = World::new(&[("all", 15, MINUTE)]).await;
    let ledgers = [
        ledger(&one, world.clock.clone(), &world.windows, 1, "one"),
        ledger(&two, world.clock.clone(), &world.windows, 2, "two"),
    ];
    let made = [Cell::new(0), Cell::new(0)];
    let mut tasks = Vec::new();
    for (ledger, made) in ledgers.iter().zip(&made) {
        let world = &world;
        tasks.push(Task::until(NOON + HOUR, async move {
            while world.call(ledger, &to("all", Lane::Backfill), USUAL).await.is_ok() {
                made.set(made.get() + 1);
            }
        }));
    }
    run(&world.clock, tasks).await;
    world.keeps_the_law().unwrap();
    let made = made.map(|made| made.get());
    let total: i32 = made.iter().sum();
    assert!((830..=840).contains(&total), "14 a minute, and no more: {total}");
    assert!(made.iter().all(|made| *made > 50), "nobody starves: {made:?}");
}

// ---- urgency --------------------------------------------------------------------------------------

/// L7: whatever the backfill, also of another process, urgent calls that come no faster than tokens do wait for
/// one token at most.
#[tokio::test]
async fn an_urgent_call_waits_for_one_token() {
    const ONE_TOKEN: i64 = MINUTE / 14 + 250;
    let world = World::new(&[("all", 15, MINUTE)]).await;
    let (here, there) = (world.ledger(1, "here"), world.ledger(2, "there"));
    let waits = RefCell::new(Vec::new());
    let mut tasks = vec![
        world.endless(&here, Lane::Backfill, HOUR),
        world.endless(&here, Lane::Incremental, HOUR),
        world.endless(&there, Lane::Backfill, HOUR),
    ];
    tasks.push(Task::until(NOON + HOUR, async {
        let mut pause = 7_000;
        loop {
            pause = (pause * 31 + 11) % 20_000;
            world.clock.sleep_until(world.clock.now() + ONE_TOKEN + pause).await;
            let waited = world.call(&here, &to("all", Lane::Customer), USUAL).await;
            waits.borrow_mut().push(waited.expect("the ledger works"));
        }
    }));
    run(&world.clock, tasks).await;
    world.keeps_the_law().unwrap();
    let waits = waits.into_inner();
    assert!(waits.len() > 200);
    let longest = waits.iter().max().copied().unwrap_or_default();
    assert!(longest <= ONE_TOKEN, "{longest} ms");
}

#[tokio::test]
async fn who_waits_is_served_by_urgency_and_then_by_arrival() {
    let world = World::new(&[("all", 1, 10_000)]).await;
    let ledger = world.ledger(1, "here");
    let served = RefCell::new(Vec::new());
    let callers = [
        ("first", 0, Lane::Backfill),
        ("backfill", 1, Lane::Backfill),
        ("audit", 2, Lane::Audit),
        ("customer", 3, Lane::Customer),
        ("incremental", 4, Lane::Incremental),
        ("second customer", 5, Lane::Customer),
    ];
    let tasks = callers.map(|(name, after, lane)| {
        let (world, ledger, served) = (&world, &ledger, &served);
        Task::until(NOON + HOUR, async move {
            world.clock.sleep_until(NOON + after).await;
            world.call(ledger, &to("all", lane), USUAL).await.expect("the ledger works");
            served.borrow_mut().push(name);
        })
    });
    run(&world.clock, tasks.into()).await;
    let expected = ["first", "customer", "second customer", "incremental", "audit", "backfill"];
    assert_eq!(served.into_inner(), expected);
}

// ---- learning -------------------------------------------------------------------------------------

/// R12: the vendor's real limit is lower than what it says.
#[tokio::test]
async fn a_hidden_lower_limit_is_learned_within_two_minutes() {
    let mut world = World::new(&[("all", 15, MINUTE)]).await;
    world.vendor.hidden = Some((10, MINUTE));
    let ledger = world.ledger(1, "here");
    let tasks = vec![world.endless(&ledger, Lane::Backfill, 6 * HOUR)];
    run(&world.clock, tasks).await;
    let seen = world.vendor.seen();
    let later: Vec<_> = seen.iter().filter(|call| call.at > NOON + 2 * MINUTE).collect();
    let refused = later.iter().filter(|call| call.refused).count();
    assert!(seen.iter().any(|call| call.refused), "it had to be found out");
    assert!(refused * 100 < later.len(), "{refused} of {} were too fast", later.len());
    // And it did not stay afraid: after six hours it uses most of what there is.
    let last_hour = seen.iter().filter(|call| call.at > NOON + 5 * HOUR).count();
    assert!(last_hour > 7 * 60, "{last_hour} calls in the last hour");
    ledger.close().await.unwrap();
    let limited = world.store.rate_limited(1).await.unwrap();
    let all_refused = seen.iter().filter(|call| call.refused).count() as u64;
    assert_eq!(limited, BTreeMap::from([("chat".to_owned(), all_refused)]));
}

#[tokio::test]
async fn what_was_learned_outlives_the_process_until_the_setting_changes() {
    let world = World::new(&[("all", 15, MINUTE)]).await;
    let first = world.ledger(1, "first");
    let urgent = to("all", Lane::Customer);
    let permit = first.acquire(&urgent).await.unwrap();
    let announced = RateSignal { status: Some(200), limit: Some(3), ..RateSignal::default() };
    first.settle(permit, &urgent, &announced).await;
    let count = async |ledger: &Ledger| {
        let before = world.vendor.seen().len();
        let end = world.clock.now() + 1_000;
        let tasks = (0..20).map(|_| {
            Task::until(end, async {
                let _ = world.call(ledger, &urgent, Fate::Answered { processed_ms: 0, answered_ms: 1 }).await;
            })
        });
        run(&world.clock, tasks.collect()).await;
        world.vendor.seen().len() - before
    };
    assert_eq!(count(&world.ledger(2, "second")).await, 2);
    let windows = [("all", 10, MINUTE)];
    let changed = ledger(&world.store, world.clock.clone(), &windows, 3, "third");
    assert_eq!(count(&changed).await, 7, "ten, less the three that were made");
}

#[tokio::test]
async fn a_vendor_that_asks_for_patience_gets_it() {
    let world = World::new(&[("all", 15, MINUTE)]).await;
    let ledger = world.ledger(1, "here");
    let urgent = to("all", Lane::Customer);
    let permit = ledger.acquire(&urgent).await.unwrap();
    let busy = RateSignal { status: Some(503), retry_at: Some(NOON + 90_000), ..RateSignal::default() };
    ledger.settle(permit, &urgent, &busy).await;
    let again = Task::until(NOON + HOUR, async {
        assert_eq!(world.call(&ledger, &urgent, USUAL).await, Ok(90_000));
    });
    run(&world.clock, vec![again]).await;
    assert_eq!(world.vendor.seen().len(), 1);
}

// ---- forecast, counting, closing ------------------------------------------------------------------

#[tokio::test]
async fn the_forecast_comes_true() {
    let cases = [
        (vec![("all", 15, MINUTE)], 1_000, Lane::Backfill),
        (vec![("all", 15, MINUTE)], 100, Lane::Customer),
        (vec![("all", 60, MINUTE), ("all", 300, HOUR)], 700, Lane::Incremental),
        (vec![("all", 2, 5_000)], 60, Lane::Audit),
    ];
    for (windows, calls, lane) in cases {
        let world = World::new(&windows).await;
        let ledger = world.ledger(1, "here");
        let work = Task::until(NOON + 100 * HOUR, async {
            for _ in 0..calls {
                world.call(&ledger, &to("all", lane), USUAL).await.expect("the ledger works");
            }
        });
        run(&world.clock, vec![work]).await;
        let facts: Vec<BudgetFacts> = windows
            .iter()
            .map(|&(class, requests, per_ms)| BudgetFacts { class: class.into(), requests, per_ms })
            .collect();
        let (expected, real) = (forecast(&facts, calls, lane), world.clock.now() - NOON);
        let off = (real - expected).abs() * 100;
        assert!(off <= real * 2 || off <= 100 * 1_000, "{windows:?}: {expected} was forecast, {real} it took");
        world.keeps_the_law().unwrap();
    }
}

/// A call that costs more than what can wait may use waits for an empty window, and then is made.
#[tokio::test]
async fn a_call_that_is_larger_than_its_share_is_made_alone() {
    let world = World::new(&[("all", 1_000, 10_000)]).await;
    let ledger = world.ledger(7, "here");
    let large = Call { cost: 990, ..to("all", Lane::Incremental) };
    let work = Task::until(NOON + HOUR, async {
        for _ in 0..3 {
            world.call(&ledger, &large, USUAL).await.expect("the ledger works");
        }
    });
    run(&world.clock, vec![work]).await;
    ledger.flush().await.unwrap();
    assert_eq!(world.store.spent(7).await.unwrap().iter().map(|spent| spent.n).sum::<u64>(), 3 * 990);
    let waited = world.clock.now() - NOON;
    assert!((20_000..MINUTE).contains(&waited), "{waited} ms for three calls of a window each");
}

#[tokio::test]
async fn calls_are_counted_by_what_they_were_for() {
    let world = World::new(&[("all", 1_000, MINUTE)]).await;
    let ledger = world.ledger(7, "here");
    let pull = to("all", Lane::Backfill);
    let create = Call { purpose: Purpose::Create, cost: 3, ..to("all", Lane::Incremental) };
    let unlimited = Call { connection: "house", purpose: Purpose::Find, ..to("all", Lane::Audit) };
    let work = Task::until(NOON + HOUR, async {
        for what in [&pull, &pull, &create, &unlimited] {
            world.call(&ledger, what, USUAL).await.expect("the ledger works");
        }
        for what in [&pull, &unlimited] {
            world.call(&ledger, what, Fate::Unsent).await.expect("the ledger works");
        }
    });
    run(&world.clock, vec![work]).await;
    ledger.flush().await.unwrap();
    let spent = |connection: &str, lane: &str, purpose: &str, n| Spent {
        connection: connection.into(),
        lane: lane.into(),
        purpose: purpose.into(),
        n,
    };
    let expected = [
        spent("chat", "backfill", "pull", 2),
        spent("chat", "incremental", "create", 3),
        spent("house", "audit", "find", 1),
    ];
    assert_eq!(world.store.spent(7).await.unwrap(), expected);
    assert!(world.store.spent(8).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_surely_never_arrived_costs_nothing() {
    let world = World::new(&[("all", 1, HOUR)]).await;
    let ledger = world.ledger(1, "here");
    let work = Task::until(NOON + MINUTE, async {
        let urgent = to("all", Lane::Customer);
        for _ in 0..5 {
            assert_eq!(world.call(&ledger, &urgent, Fate::Unsent).await, Ok(0));
        }
        assert_eq!(world.call(&ledger, &urgent, USUAL).await, Ok(0));
        let _ = world.call(&ledger, &urgent, USUAL).await;
    });
    run(&world.clock, vec![work]).await;
    assert_eq!(world.vendor.seen().len(), 1);
}

/// A clock that was hours ahead when it filled the window, and is set right: calls wait for a window, not for hours.
#[tokio::test]
async fn a_clock_that_is_set_back_does_not_freeze_an_account() {
    for (limit, per_ms) in [(15, MINUTE), (200, 1_000)] {
        for lane in [Lane::Customer, Lane::Backfill] {
            let world = World::new(&[("all", limit, per_ms)]).await;
            world.wall.set(2 * HOUR);
            let (first, second) = (world.ledger(1, "first"), world.ledger(2, "second"));
            run(&world.clock, vec![world.endless(&first, lane, 3 * MINUTE)]).await;
            world.wall.set(0);
            let set_right = world.clock.now();
            for ledger in [&second, &first] {
                let before = world.vendor.seen().len();
                let lasts = set_right - NOON + 10 * MINUTE;
                let work = Task::until(NOON + lasts, async {
                    world.call(ledger, &to("all", lane), USUAL).await.expect("the ledger works");
                });
                run(&world.clock, vec![work]).await;
                let waited = world.clock.now() - set_right;
                assert_eq!(world.vendor.seen().len(), before + 1, "{lane:?} {per_ms}");
                assert!(waited < 2 * per_ms + 2 * MINUTE, "{lane:?} {per_ms}: {waited} ms");
            }
            world.keeps_the_law().unwrap();
        }
    }
}

/// A fast account draws several tokens at a time; closing gives back what was not spent.
#[tokio::test]
async fn unspent_tokens_are_given_back() {
    let world = World::new(&[("all", 200, 1_000), ("all", 6_000, MINUTE)]).await;
    let first = world.ledger(1, "first");
    let second = world.ledger(2, "second");
    let fast = Fate::Answered { processed_ms: 0, answered_ms: 1 };
    let work = Task::until(NOON + HOUR, async {
        for _ in 0..57 {
            world.call(&first, &to("all", Lane::Backfill), fast).await.expect("the ledger works");
        }
        first.close().await.expect("the store works");
        assert_eq!(first.acquire(&to("all", Lane::Backfill)).await, Err(GateError::Stopped));
    });
    run(&world.clock, vec![work]).await;
    // All at the same moment, in the window that the first has used 57 calls of.
    let rest: Vec<_> = (0..300)
        .map(|_| {
            Task::until(NOON + 900, async {
                let _ = world.call(&second, &to("all", Lane::Customer), fast).await;
            })
        })
        .collect();
    run(&world.clock, rest).await;
    assert_eq!(world.vendor.seen().len(), 200);
    assert_eq!(world.store.spent(1).await.unwrap()[0].n, 57);
    world.keeps_the_law().unwrap();
}

/// A window of a day and more is added up in slices; the limit holds all the same.
#[tokio::test]
async fn a_long_window_is_kept_in_slices() {
    let world = World::new(&[("all", 20, 1_000), ("all", 1_300, HOUR)]).await;
    let ledger = world.ledger(1, "here");
    let tasks = vec![world.endless(&ledger, Lane::Customer, 2 * HOUR + MINUTE)];
    run(&world.clock, tasks).await;
    world.keeps_the_law().unwrap();
    assert!(world.vendor.seen().len() > 2 * 1_300, "{}", world.vendor.seen().len());
}

#[tokio::test]
async fn who_waits_is_sent_away_when_it_stops() {
    let world = World::new(&[("all", 1, HOUR)]).await;
    let ledger = world.ledger(1, "here");
    let urgent = to("all", Lane::Customer);
    let mut tasks: Vec<_> = (0..3)
        .map(|caller| {
            let (world, ledger) = (&world, &ledger);
            Task::until(NOON + 24 * HOUR, async move {
                let outcome = world.call(ledger, &urgent, USUAL).await;
                let expected = if caller == 0 { Ok(0) } else { Err(GateError::Stopped) };
                assert_eq!(outcome, expected);
            })
        })
        .collect();
    tasks.push(Task::until(NOON + 24 * HOUR, async {
        world.clock.sleep_until(NOON + MINUTE).await;
        ledger.stop();
    }));
    run(&world.clock, tasks).await;
    assert_eq!(world.clock.now(), NOON + MINUTE);
}
