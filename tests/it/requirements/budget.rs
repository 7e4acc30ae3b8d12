//! Rate limits and fairness.

use std::cell::RefCell;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::engine::{Engine, Pace, Silent};
use counterpart_connectors::{Clock, Millis, Transport, TransportError};
use counterpart_sandbox::{CallRecord, Reply, Sandbox, Vendor};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::lab::{HOUR, Lab, MINUTE};
use crate::budget_world::{NOON, Task, WorldClock, run};
use crate::sim::{Death, connection};

const CHAT_AND_HOUSE: [(&str, Vendor); 2] = [("chat", Vendor::Chatway), ("house", Vendor::Crm)];

/// The most calls of any minute.
fn busiest_minute(calls: &[&CallRecord]) -> usize {
    let within = |start: Millis| calls.iter().filter(|call| (start..start + MINUTE).contains(&call.at)).count();
    calls.iter().map(|call| within(call.at)).max().unwrap_or(0)
}

/// Given a vendor whose real limit is lower than the one it documents and who says nothing about it in its answers, when
/// a backfill runs, then after two minutes fewer than 1 % of the calls are too fast, and the run ends as it should.
#[tokio::test]
async fn r12_an_undocumented_lower_limit_does_not_end_the_run() {
    let fake = [("rate", "9"), ("send_x_ratelimit", "false"), ("send_retry_after", "false"), ("page_size", "1")];
    let mut lab = Lab::with_fakes(&CHAT_AND_HOUSE, &fake.map(|(name, value)| ("chat", name, value))).await;
    lab.set("chat", "page_size", json!(1));
    lab.people_at("chat", 400, 0);
    lab.people_at("house", 400, 0);
    let started = lab.clock.now();
    let report = lab.run().await;
    assert_eq!(report.verdict.exit_code(), 0, "{report:?}");
    let log = lab.sandbox.log();
    let calls: Vec<_> = log.iter().filter(|call| call.instance == "chat").collect();
    let later: Vec<_> = calls.iter().filter(|call| call.at > started + 2 * MINUTE).collect();
    let refused = later.iter().filter(|call| call.status == 429).count();
    assert!(calls.iter().any(|call| call.status == 429), "it had to be found out");
    assert!(later.len() > 300 && refused * 100 < later.len(), "{refused} of {} were too fast", later.len());
}

/// Given a process that dies with its 14th call of a minute under way, when it is started again at once, then no minute
/// sees more than the 15 calls that the vendor allows.
#[tokio::test]
async fn r16_the_budget_survives_a_crash() {
    for death in [4, 13] {
        let mut lab = Lab::with_fakes(&CHAT_AND_HOUSE, &[("chat", "page_size", "1")]).await;
        lab.set("chat", "page_size", json!(1));
        lab.people_at("chat", 40, 0);
        let dead = lab.run_and_die(Death { at_call: death, after_effect: true }).await;
        assert!(dead.is_none(), "the process died");
        let mut log = lab.sandbox.log();
        assert_eq!(log.len() as u64, death + 1);
        lab.bury().await;
        let report = lab.run().await;
        assert_eq!(report.verdict.exit_code(), 0, "{report:?}");
        log.extend(lab.sandbox.log());
        let calls: Vec<_> = log.iter().filter(|call| call.instance == "chat").collect();
        assert!(busiest_minute(&calls) <= 15 && calls.iter().all(|call| call.status != 429), "{calls:?}");
        assert_eq!(lab.people("house").len(), 40);
    }
}

/// Given two workers with connections of their own to one account, when both work at the same time, then the sum of
/// their calls obeys the account's limit, and both get on.
#[tokio::test]
async fn r17_two_workers_share_one_account() {
    let systems = [("chat", Vendor::Chatway), ("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];
    let mut lab = Lab::with_fakes(&systems, &[("chat", "page_size", "1")]).await;
    // The same address and key under another name.
    lab.config.connections.insert("talk".to_owned(), connection("chat", Vendor::Chatway));
    for name in ["chat", "talk"] {
        lab.set(name, "page_size", json!(1));
    }
    let mut other = lab.config.syncs[0].clone();
    lab.config.syncs[0].between = vec!["chat".to_owned(), "house".to_owned()];
    (other.name, other.between) = ("others".to_owned(), vec!["talk".to_owned(), "shop".to_owned()]);
    lab.config.syncs.push(other);
    lab.people_at("chat", 40, 0);
    let (one, two) = (lab.engine(lab.network()), lab.engine(lab.network()));
    let (first, second) = (["people".to_owned()], ["others".to_owned()]);
    let (first, second) = tokio::join!(one.sync(&first), two.sync(&second));
    for report in [first.expect("the run ends"), second.expect("the run ends")] {
        assert_eq!(report.verdict.exit_code(), 0, "{report:?}");
    }
    let log = lab.sandbox.log();
    let calls: Vec<_> = log.iter().filter(|call| call.instance == "chat").collect();
    assert!(calls.len() >= 80, "both read all of it: {}", calls.len());
    assert!(busiest_minute(&calls) <= 15 && calls.iter().all(|call| call.status != 429), "{calls:?}");
    assert_eq!((lab.people("house").len(), lab.people("shop").len()), (40, 40));
}

/// Calls the fakes in a world in which several processes live.
struct Line {
    sandbox: Arc<Sandbox>,
    clock: Arc<WorldClock>,
}

#[async_trait]
impl Transport for Line {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        match self.sandbox.handle(self.clock.now(), request.map(|body| body.to_vec())) {
            Reply::Answer { response, delay_ms } => {
                self.clock.sleep_until(self.clock.now() + delay_ms as Millis).await;
                Ok(response.map(Bytes::from))
            }
            Reply::Cut { .. } => Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() }),
        }
    }
}

/// How long the runs of 19 small customers' connections took, which share a database with one that has `people` to read.
async fn runs_beside(people: usize) -> Vec<i64> {
    const CUSTOMERS: usize = 20;
    let names: Vec<_> = (0..CUSTOMERS).map(|number| (format!("chat{number}"), format!("house{number}"))).collect();
    let systems: Vec<_> =
        names.iter().flat_map(|(chat, house)| [(&**chat, Vendor::Chatway), (&**house, Vendor::Crm)]).collect();
    let fakes: Vec<_> =
        names.iter().flat_map(|(chat, _)| [(&**chat, "page_size", "1"), (&**chat, "latency_ms", "200")]).collect();
    let mut lab = Lab::with_fakes(&systems, &fakes).await;
    let clock = WorldClock::at_noon();
    let line = Arc::new(Line { sandbox: lab.sandbox.clone(), clock: clock.clone() });
    let mut engines = Vec::new();
    for (number, (chat, house)) in names.iter().enumerate() {
        lab.set(chat, "page_size", json!(1));
        lab.people_at(chat, if number == 0 { people } else { 3 }, 0);
        let mut config = lab.config.clone();
        config.syncs[0].name = format!("customer{number}");
        config.syncs[0].between = vec![chat.clone(), house.clone()];
        let engine = Engine::new(
            Arc::new(config),
            lab.store.clone(),
            clock.clone(),
            line.clone(),
            Arc::new(Silent),
            CancellationToken::new(),
        );
        engines.push(engine.expect("the configuration is valid").with_pace(Pace::OneByOne));
    }
    let took = RefCell::new(Vec::new());
    let tasks = engines.iter().enumerate().map(|(customer, engine)| {
        let (took, clock) = (&took, &clock);
        Task::until(NOON + 24 * HOUR, async move {
            let started = clock.now();
            let report = engine.sync(&[]).await.expect("the run ends");
            assert_eq!(report.verdict.exit_code(), 0, "{report:?}");
            if customer > 0 {
                took.borrow_mut().push(clock.now() - started);
            }
        })
    });
    run(&clock, tasks.collect()).await;
    let mut took = took.into_inner();
    assert_eq!(took.len(), CUSTOMERS - 1);
    took.sort_unstable();
    took
}

/// Given 20 customers in one database, when one of them has a hundred times the work, then the runs of the others take as
/// long as without it (the slowest of them, 5 % at most being left out, within 10 %).
#[tokio::test]
async fn r13_one_busy_customer_does_not_slow_the_others() {
    let (alone, beside) = (runs_beside(3).await, runs_beside(300).await);
    let p95 = |took: &[i64]| took[took.len() * 95 / 100];
    let (alone, beside) = (p95(&alone), p95(&beside));
    assert!(alone > 0 && (beside - alone).abs() * 10 <= alone, "{alone} ms alone, {beside} ms beside the busy one");
}
