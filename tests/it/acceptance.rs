//! What the first night must show: overlapping systems meet, nothing is doubled, the budget is kept to the call.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart::config::{Config, StoreConfig, SyncConfig};
use counterpart::engine::{Engine, Pace, PlanHeader, Silent};
use counterpart::store::{Store, StoreOptions};
use counterpart_connectors::Clock;
use counterpart_core::Policies;
use counterpart_core::guard::Guards;
use counterpart_core::identity::IdentityRules;
use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, Vendor};
use tokio_util::sync::CancellationToken;

use crate::sim::{InProcess, SimClock, connection};

const START: i64 = 1_790_000_000_000;

pub struct Night {
    pub clock: Arc<SimClock>,
    pub sandbox: Arc<Sandbox>,
    pub store: Store,
    pub engine: Engine,
}

/// Systems with `people` each, of which neighbours share 70 %.
pub async fn night(systems: &[(&str, Vendor)], people: usize, pairs: &[&[&str]]) -> Night {
    let clock = SimClock::at(START);
    let latency = BTreeMap::from([("latency_ms".to_owned(), "120".to_owned())]);
    let instances = systems
        .iter()
        .map(|(name, vendor)| InstanceSpec { name: (*name).to_owned(), vendor: *vendor, settings: latency.clone() })
        .collect();
    let sandbox = Arc::new(Sandbox::new(Options { seed: 7, faults: Faults::none(), instances }));
    for (index, (name, _)) in systems.iter().enumerate() {
        sandbox.seed_people(START - 86_400_000, name, people, index * people * 3 / 10);
    }
    let config = Config {
        store: StoreConfig { url: "sqlite::memory:".to_owned(), keep_ms: None },
        tenant: "default".to_owned(),
        serve: counterpart::config::ServeConfig::default(),
        telemetry: None,
        connections: systems.iter().map(|(name, vendor)| ((*name).to_owned(), connection(name, *vendor))).collect(),
        syncs: pairs.iter().enumerate().map(|(index, between)| sync(index, between)).collect(),
        connectors_dir: None,
        mappings_dir: None,
        flows: Vec::new(),
    };
    let store = Store::open(&StoreOptions { url: config.store.url.clone(), tenant: "default".to_owned() })
        .await
        .expect("an embedded store opens");
    store.migrate().await.expect("the schema applies");
    let transport = InProcess::new(sandbox.clone(), clock.clone(), None);
    let engine = Engine::new(
        Arc::new(config),
        store.clone(),
        clock.clone(),
        transport,
        Arc::new(Silent),
        CancellationToken::new(),
    )
    .expect("the configuration is valid")
    .with_pace(Pace::OneByOne);
    Night { clock, sandbox, store, engine }
}

fn sync(index: usize, between: &[&str]) -> SyncConfig {
    SyncConfig {
        name: format!("people{index}"),
        kind: "contact".to_owned(),
        between: between.iter().map(|name| (*name).to_owned()).collect(),
        create: None,
        conflict: Policies::default(),
        guard: Guards::default(),
        identity: IdentityRules::default(),
        schedule: None,
        timezone: None,
    }
}

/// Three systems of 200 with 70 % in common: what is missing is created, nobody twice, and the second run writes nothing.
#[tokio::test]
async fn r33_a_first_run_links_and_creates_only_the_rest() {
    let systems = [("crm", Vendor::Hubspot), ("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];
    let night = night(&systems, 200, &[&["crm", "house", "shop"]]).await;
    let first = night.engine.sync(&[]).await.expect("the first run ends");
    // People 0..200, 60..260 and 120..320 are 320 different ones.
    assert_eq!(first.syncs[0].operations.created, 3 * 320 - 3 * 200);
    for (name, _) in systems {
        assert_eq!(night.sandbox.people(name).len(), 320, "{name}");
    }
    night.clock.advance(3_600_000);
    night.sandbox.clear_log();
    let second = night.engine.sync(&[]).await.expect("the second run ends");
    assert_eq!(second.syncs[0].operations.writes(), 0);
    assert!(night.sandbox.log().iter().all(|call| !call.effect));
    assert_eq!(second.verdict.exit_code(), 0, "{second:?}");
}

/// Three syncs in a ring over three systems: an edit arrives everywhere once, and then there is silence.
#[tokio::test]
async fn r35_a_ring_of_three_settles() {
    let systems = [("crm", Vendor::Hubspot), ("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];
    let night = night(&systems, 30, &[&["crm", "house"], &["house", "shop"], &["shop", "crm"]]).await;
    night.engine.sync(&[]).await.expect("the first run ends");
    night.clock.advance(3_600_000);
    let person = night.sandbox.people("shop")[3].clone();
    night.sandbox.edit(night.clock.now(), "shop", &person.id, "company", Some("Ring & Sons"));
    night.clock.advance(3_600_000);
    night.sandbox.clear_log();
    night.engine.sync(&[]).await.expect("the run after the edit ends");
    assert_eq!(night.sandbox.log().iter().filter(|call| call.effect).count(), 2, "one write for each other system");
    for name in ["crm", "house"] {
        let there = night.sandbox.people(name).into_iter().find(|other| other.email == person.email);
        assert_eq!(there.expect("known everywhere").company.as_deref(), Some("Ring & Sons"));
    }
    for _ in 0..3 {
        night.clock.advance(3_600_000);
        night.sandbox.clear_log();
        night.engine.sync(&[]).await.expect("a quiet run ends");
        assert!(night.sandbox.log().iter().all(|call| !call.effect));
    }
}

/// 10,000 Chatway contacts at 15 calls a minute: calls and finishing time are what the plan said, and never a 429.
#[tokio::test]
async fn ten_thousand_chatway_contacts_cost_what_the_plan_says() {
    const PEOPLE: usize = 10_000;
    let night = night(&[("chat", Vendor::Chatway), ("house", Vendor::Crm)], PEOPLE, &[&["chat", "house"]]).await;
    let plan = night.engine.plan(&[]).await.expect("a plan is made");
    let read = calls(&night, "chat");
    assert_eq!(read, PEOPLE / 10, "one call for each page of ten");
    let forecast = plan.forecast.iter().find(|forecast| forecast.connection == "chat").expect("writes at the chat");
    let started = night.clock.now();
    let header = PlanHeader { kind: plan.kind.clone(), syncs: plan.syncs.clone(), hash: plan.hash.clone() };
    night.sandbox.clear_log();
    let report = night.engine.apply(&header).await.expect("the world has not moved");
    let created = report.syncs[0].operations.created;
    // `apply` reads once more to see that the world has not moved, then carries out the plan.
    let expected = (PEOPLE / 10) as f64 + forecast.calls as f64;
    let made = calls(&night, "chat") as f64;
    let reading_ms =
        counterpart::budget::forecast(&budget(), (PEOPLE / 10) as u64, counterpart_connectors::Lane::Backfill);
    // The simulation works on one connection after the other: what the other one takes is not the chat's time.
    let last = night.sandbox.log().iter().rev().find(|call| call.instance == "chat").map_or(started, |call| call.at);
    let took = (last - started) as f64;
    let foretold = (reading_ms + forecast.duration_ms) as f64;
    println!(
        "chat: {made} calls, {expected} foretold ({created} people created at both sides); {:.2} h, {:.2} h foretold",
        took / 3.6e6,
        foretold / 3.6e6
    );
    assert!((made - expected).abs() / expected <= 0.01);
    assert!((took - foretold).abs() / foretold <= 0.02, "took {took}, foretold {foretold}");
    assert!(night.sandbox.log().iter().all(|call| call.status != 429));
}

fn calls(night: &Night, instance: &str) -> usize {
    night.sandbox.log().iter().filter(|call| call.instance == instance).count()
}

fn budget() -> Vec<counterpart_connectors::BudgetFacts> {
    vec![counterpart_connectors::BudgetFacts { class: "all".to_owned(), requests: 15, per_ms: 60_000 }]
}
