//! Pagination, cursors and time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::engine::{Engine, Event, Pace, Progress, RunReport};
use counterpart_connectors::{Clock, Transport, TransportError};
use counterpart_sandbox::Vendor;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::lab::{HOUR, Lab, MINUTE, START, someone};
use crate::sim::{Death, InProcess};

const HOUSE_AND_SHOP: [(&str, Vendor); 2] = [("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];

/// Given rows that jump to the front between pages, when the walk ends, then everybody has been seen, or the run says
/// that it was not whole; and nobody who was passed over is taken as gone.
#[tokio::test]
async fn r01_rows_that_move_between_pages_are_all_seen() {
    for share in ["shift=0.1", "shift=0.5", "shift=1"] {
        let lab = Lab::new(&[("chat", Vendor::Chatway), ("house", Vendor::Crm)]).await;
        lab.people_at("chat", 60, 0);
        lab.faults(share);
        let report = lab.run().await;
        let known = lab.store.counts("chat", "contact").await.expect("the store answers").live;
        let whole = report.syncs[0].streams.iter().all(|stream| stream.complete);
        assert!(known == 60 || !whole, "{share}: {known} of 60, and the reading counts as whole");
        lab.run_days(2).await;
        lab.faults("none");
        lab.run_days(1).await;
        let counts = lab.store.counts("chat", "contact").await.expect("the store answers");
        assert_eq!((counts.live, counts.missing, counts.deleted), (60, 0, 0), "{share}");
        assert_eq!(lab.people("house").len(), 60, "{share}");
    }
}

/// Given more rows of one instant than a search shows (2.5 times the cap), when what changed is read, then the walk ends,
/// by a second key, with everybody, and no search is refused.
#[tokio::test]
async fn r03_more_rows_of_one_instant_than_a_search_shows_end() {
    let systems = [("crm", Vendor::Hubspot), ("house", Vendor::Crm)];
    let mut lab = Lab::with_fakes(&systems, &[("crm", "search_cap", "60")]).await;
    lab.set("crm", "search_page_size", json!(20));
    lab.people_at("crm", 3, 0);
    lab.run().await;
    lab.clock.advance(HOUR);
    for number in 0..151 {
        lab.add("crm", &someone("Same", &format!("Instant{number}"), &format!("same{number}@example.test")));
    }
    lab.clock.advance(MINUTE);
    let report = lab.run().await;
    assert_eq!(report.verdict.exit_code(), 0, "{report:?}");
    let searches: Vec<_> = lab.sandbox.log().into_iter().filter(|call| call.path.ends_with("/search")).collect();
    assert!((8..=20).contains(&searches.len()) && searches.iter().all(|call| call.status == 200), "{searches:?}");
    assert_eq!(lab.people("house").len(), 154);
    lab.assert_quiet().await;
}

/// Given rows whose time of change is exactly where the reading starts, or exactly the newest that is known, then both
/// are included.
#[tokio::test]
async fn r04_rows_at_exactly_the_cursor_are_included() {
    for (system, vendor, page) in [("crm", Vendor::Hubspot, "search_page_size"), ("house", Vendor::Crm, "page_size")] {
        let mut lab = Lab::new(&[(system, vendor), ("shop", Vendor::Woocommerce)]).await;
        lab.set(system, page, json!(1));
        lab.add(system, &someone("Known", "Before", "known@example.test"));
        let newest = lab.clock.now();
        lab.clock.advance(MINUTE);
        lab.run().await;
        let state = lab.store.stream_state(system, "contact").await.expect("the store answers");
        assert_eq!(state.watermark, Some(newest), "{system}");
        lab.clock.advance(HOUR);
        // The reading starts as long before the newest as rows may become visible late.
        let cases = [("start", newest - 10 * MINUTE), ("newest", newest)];
        for (name, at) in cases {
            lab.sandbox.create(at, system, &someone("Exactly", name, &format!("{name}@example.test")));
        }
        lab.run().await;
        for (name, _) in cases {
            lab.person("shop", &format!("{name}@example.test"));
        }
    }
}

/// Given two edits of one record within one interval and one instant, then the later one arrives.
#[tokio::test]
async fn r06_the_later_of_two_edits_in_one_interval_wins() {
    let lab = Lab::new(&HOUSE_AND_SHOP).await;
    lab.people_at("house", 5, 0);
    lab.run().await;
    lab.clock.advance(HOUR);
    let person = lab.people("house")[1].clone();
    lab.edit("house", &person.id, "company", Some("First"));
    lab.run().await;
    // The same instant as the change that is known already.
    lab.sandbox.edit(START + HOUR, "house", &person.id, "company", Some("Second"));
    lab.sandbox.edit(START + HOUR, "house", &person.id, "company", Some("Third"));
    lab.clock.advance(HOUR);
    lab.run().await;
    assert_eq!(lab.company("shop", &person.email.expect("has one")).as_deref(), Some("Third"));
}

/// Given a changed configuration, then reading goes on from where it was.
#[tokio::test]
async fn r07_a_new_configuration_keeps_the_cursor() {
    let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
    lab.people_at("house", 5, 0);
    lab.run().await;
    lab.clock.advance(HOUR);
    let newcomer = someone("Ada", "Newcomer", "ada@example.test");
    lab.add("house", &newcomer);
    lab.config.syncs[0].conflict = counterpart_core::merge::Policies::default();
    lab.config.connections.get_mut("house").expect("configured").region = Some("DE".to_owned());
    lab.run().await;
    let log = lab.sandbox.log();
    let lists: Vec<_> = log.iter().filter(|c| c.instance == "house" && c.path.starts_with("/people?")).collect();
    assert!(!lists.is_empty() && lists.iter().all(|call| call.path.contains("updated_since=")), "{lists:?}");
    lab.person("shop", "ada@example.test");
}

/// Given a list that has no order of its own, then one is asked for on every page, and everybody is read.
#[tokio::test]
async fn r08_a_sort_is_pinned_where_the_list_has_none() {
    let lab = Lab::new(&[("house", Vendor::Crm), ("support", Vendor::Chatwoot)]).await;
    lab.people_at("support", 46, 0);
    lab.run().await;
    let log = lab.sandbox.log();
    let lists: Vec<_> = log.iter().filter(|c| c.instance == "support" && c.path.contains("/contacts?")).collect();
    assert!(lists.len() >= 4 && lists.iter().all(|call| call.path.contains("sort=")), "{lists:?}");
    assert_eq!(lab.people("house").len(), 46);
}

/// Given an engine whose clock is minutes or zones away from the vendor's, then no change is skipped or written twice.
#[tokio::test]
async fn r09_a_wrong_clock_skips_nothing() {
    for skew in [-11 * HOUR, -10 * MINUTE, 10 * MINUTE, 5 * HOUR + 45 * MINUTE, 14 * HOUR] {
        let mut lab =
            Lab::new(&[("crm", Vendor::Hubspot), ("house", Vendor::Crm), ("shop", Vendor::Woocommerce)]).await;
        lab.skew = skew;
        lab.people_at("crm", 12, 0);
        lab.people_at("house", 12, 4);
        lab.run().await;
        for round in 0..3 {
            lab.clock.advance(HOUR);
            for (system, at) in [("crm", 2), ("house", 9)] {
                let person = lab.people(system)[at].clone();
                lab.edit(system, &person.id, "company", Some(&format!("Round {round} at {system}")));
            }
            lab.clock.advance(MINUTE);
            lab.run().await;
            for (system, at) in [("crm", 2), ("house", 9)] {
                let person = lab.people(system)[at].clone();
                let email = person.email.expect("everybody has one");
                for other in ["crm", "house", "shop"] {
                    assert_eq!(lab.company(other, &email), person.company, "{email} at {other}, clock {skew} ms ahead");
                }
            }
        }
        lab.assert_quiet().await;
    }
}

/// Given a backfill that lasts for hours while people edit what it has passed and what it has not, then the reading of
/// changes that follows it finds every edit.
#[tokio::test]
async fn r10_nothing_falls_between_the_backfill_and_what_follows() {
    for minutes in ["1", "4"] {
        let latency = (minutes.parse::<i64>().expect("a number") * MINUTE).to_string();
        let systems = [("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];
        let mut lab = Lab::with_fakes(&systems, &[("house", "latency_ms", &latency)]).await;
        lab.set("house", "page_size", json!(3));
        lab.people_at("house", 60, 0);
        lab.people_at("shop", 60, 0);
        let (sandbox, mut edits) = (lab.sandbox.clone(), 0);
        lab.clock.on_tick(move |now| {
            // One edit with every page, at places all over the list; each person once.
            let people = sandbox.people("house");
            if edits < 20 && sandbox.log().iter().filter(|call| call.instance == "house").count() > edits {
                let person = &people[edits * 41 % 60];
                sandbox.edit(now, "house", &person.id, "company", Some(&format!("Edit {edits}")));
                edits += 1;
            }
        });
        lab.run().await;
        lab.clock.on_tick(|_| {});
        lab.clock.advance(HOUR);
        lab.run().await;
        for person in lab.people("house") {
            let email = person.email.expect("everybody has one");
            assert_eq!(lab.company("shop", &email), person.company, "{email}, {minutes} minutes a page");
        }
    }
}

/// Given a backlog of changes over hours, when rows that were read already change again while the rest is being read, so
/// that the rest moves up by a row, then everybody's change still arrives with the next reading.
#[tokio::test]
async fn r01_changes_that_move_up_while_they_are_read_are_all_seen() {
    for (system, vendor, page) in [("crm", Vendor::Hubspot, "search_page_size"), ("house", Vendor::Crm, "page_size")] {
        let mut lab = Lab::new(&[(system, vendor), ("shop", Vendor::Woocommerce)]).await;
        lab.people_at(system, 24, 0);
        lab.run().await;
        lab.set(system, page, json!(3));
        // The newest change that is known.
        lab.clock.advance(HOUR);
        lab.edit(system, &lab.people(system)[23].id, "company", Some("Known"));
        lab.run().await;
        for person in lab.people(system).iter().take(12) {
            lab.clock.advance(30 * MINUTE);
            lab.edit(system, &person.id, "company", Some(&format!("Changed {}", person.id)));
        }
        lab.clock.advance(HOUR);
        lab.sandbox.clear_log();
        let (sandbox, mut edits) = (lab.sandbox.clone(), 0);
        lab.clock.on_tick(move |now| {
            let pages = sandbox.log().iter().filter(|call| call.instance == system).count();
            if edits < pages.min(3) {
                let person = &sandbox.people(system)[edits];
                sandbox.edit(now, system, &person.id, "company", Some(&format!("Again {edits}")));
                edits += 1;
            }
        });
        lab.run().await;
        lab.clock.on_tick(|_| {});
        lab.clock.advance(HOUR);
        lab.run().await;
        for person in lab.people(system) {
            let email = person.email.expect("everybody has one");
            assert_eq!(lab.company("shop", &email), person.company, "{email} of {system}");
        }
    }
}

/// L9: given the same people at the same systems, when their records come in another order, on other pages, or in several
/// walks, then the plan is the same, byte for byte.
#[tokio::test]
async fn l9_the_order_in_which_records_come_does_not_matter() {
    let mut plans = std::collections::BTreeMap::new();
    for (size, faults) in [(50, "none"), (7, "none"), (3, "shift=1"), (5, "shift=0.5"), (50, "shift=1,5xx=0.2")] {
        let systems = [("chat", Vendor::Chatway), ("crm", Vendor::Hubspot), ("house", Vendor::Crm)];
        let mut lab = Lab::new(&systems).await;
        lab.people_at("chat", 40, 0);
        lab.people_at("crm", 40, 12);
        lab.people_at("house", 40, 25);
        for number in [13, 27, 30] {
            let person = lab.people("house")[number].clone();
            lab.edit("house", &person.id, "company", Some("Elsewhere & Co"));
        }
        for system in ["crm", "house"] {
            lab.set(system, "page_size", json!(size));
        }
        lab.faults(faults);
        let engine = lab.engine(lab.network());
        // Two readings, so that whoever slipped between pages in the first is there in the second.
        engine.read(&[]).await.expect("it reads");
        lab.faults("none");
        let plan = engine.plan(&[]).await.expect("a plan is made");
        let mut file = Vec::new();
        engine.write_plan(&plan, &mut file).await.expect("it is written");
        let document: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
        let operations = serde_json::to_string(&document["operations"]).expect("JSON");
        assert!(document["operations"].as_array().is_some_and(|list| list.len() > 50), "{:?}", plan.counts);
        plans.entry((plan.hash, operations)).or_insert_with(Vec::new).push((size, faults));
    }
    assert_eq!(plans.len(), 1, "{:?}", plans.into_values().collect::<Vec<_>>());
}

/// A way on which the vendor does not know any more, so many times, where a reading stopped.
struct Forgetting {
    network: Arc<InProcess>,
    cursor: &'static str,
    left: AtomicU64,
}

#[async_trait]
impl Transport for Forgetting {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let is_resumed =
            request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with(self.cursor)));
        if !is_resumed || self.left.swap(0, Ordering::SeqCst) == 0 {
            return self.network.send(request).await;
        }
        let answer = http::Response::builder().status(400).header("content-type", "application/json");
        Ok(answer.body(Bytes::from_static(b"{\"message\":\"no such cursor\"}")).expect("an answer"))
    }
}

/// What people are told while a run goes on.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn event(&self, event: Event<'_>) {
        if let Event::Note(text) = event {
            self.0.lock().expect("nobody panics").push(text.to_owned());
        }
    }
}

impl Lab {
    /// A run at a vendor that forgot the place with this parameter, and what was said of it.
    async fn run_forgotten(&self, cursor: &'static str) -> (RunReport, Vec<String>) {
        let network = Arc::new(Forgetting { network: self.network(), cursor, left: AtomicU64::new(1) });
        let (config, notes) = (Arc::new(self.config.clone()), Arc::new(Notes::default()));
        let (store, clock, stop) = (self.store.clone(), self.clock.clone(), CancellationToken::new());
        let engine =
            Engine::new(config, store, clock, network, notes.clone(), stop).expect("the configuration is valid");
        let report = engine.with_pace(Pace::OneByOne).sync(&[]).await.expect("the run ends");
        let said = notes.0.lock().expect("nobody panics").clone();
        (report, said)
    }
}

/// Given an interrupted reading whose place the vendor does not know any more, then it begins anew, and everybody is read.
#[tokio::test]
async fn a_place_that_the_vendor_forgot_begins_the_reading_anew() {
    let lab = Lab::new(&[("crm", Vendor::Hubspot), ("chat", Vendor::Chatwoot)]).await;
    lab.people_at("crm", 350, 0);
    // Dies on the way, again and again, until it stopped between two pages of the CRM.
    let mut at_call = 1;
    loop {
        lab.run_and_die(Death { at_call, after_effect: false }).await;
        lab.bury().await;
        let open = lab.store.stream_state("crm", "contact").await.expect("the store answers").open_scan;
        let scan = lab.store.scan(open.unwrap_or_default()).await.expect("the store answers");
        if scan.is_some_and(|scan| scan.cursor.is_some()) {
            break;
        }
        at_call += 1;
        assert!(at_call < 50, "it never stops there");
    }
    lab.clock.advance(2 * HOUR);
    let (report, notes) = lab.run_forgotten("after=").await;
    let streams: Vec<_> = report.syncs.iter().flat_map(|sync| &sync.streams).collect();
    assert!(streams.iter().all(|stream| stream.complete), "{report:?}");
    assert!(notes.iter().any(|note| note.starts_with("crm: ") && note.contains("begins anew")), "{notes:?}");
    assert_eq!(lab.store.counts("crm", "contact").await.expect("the store answers").live, 350);
}

/// Given a reading that goes on a few pages at a time, when the vendor does not know its place any more, then it begins anew.
#[tokio::test]
async fn a_forgotten_place_of_a_rolling_reading_begins_anew_too() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("crm", Vendor::Hubspot)]).await;
    lab.config.connections.get_mut("chat").expect("it is configured").deep_pages = Some(1);
    lab.people_at("chat", 60, 0);
    for _ in 0..2 {
        lab.run().await;
        lab.clock.advance(HOUR);
    }
    let place = |lab: &Lab| {
        let store = lab.store.clone();
        async move { store.stream_state("chat", "contact").await.expect("the store answers").deep_cursor }
    };
    let second = place(&lab).await;
    assert!(second.is_some());
    let (_, notes) = lab.run_forgotten("page=2").await;
    assert!(notes.iter().any(|note| note.starts_with("chat: ") && note.contains("begins anew")), "{notes:?}");
    assert_eq!(place(&lab).await, second, "its first page was read");
}
