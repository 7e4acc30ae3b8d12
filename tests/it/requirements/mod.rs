//! What users of other tools suffered, one test for each: contacts that vanish, double, loop, or come back.
//!
//! By theme: `reading` (R1-R10), `budget` (R12, R13, R16, R17), `identity` (R28, R29, R31, R32), `mapping` (R41, R43),
//! `state` (R50, R52, R53, R55, R72's audit), and the rest here.
//! Proven in other places:
//!
//! | row | where |
//! |---|---|
//! | R14, R15 | `storefront`; the ledger's laws (`budget`), as far as calls go: an urgent one waits for one token |
//! | R18-R20, R37, R56-R59, R63, R72 | `flows` |
//! | R21, R22 | `message_worlds` |
//! | R23 | `captured` in the connectors' hooks |
//! | R24, R25, R75 | `serve` |
//! | R26 | `subscriptions` |
//! | R33, R35 | `acceptance` |
//! | R40, R42 | `core/tests` |
//! | R54 | `cli` |
//!
//! Rows with more proof than the test of their name: R1, R31 and R32 in the conformance suite (`connectors/tests`), R3 in
//! HubSpot's unit tests (10,001 rows), R12, R16 and R17 in the ledger's laws (`budget`), R52 in `kill` and `worlds`, R55
//! in `cli`.

mod budget;
mod identity;
pub mod lab;
mod mapping;
mod reading;
mod state;

use counterpart::engine::{EngineError, RunReport};
use counterpart::store::{ConflictFilter, RecordState};
use counterpart_connectors::Clock;
use counterpart_sandbox::{Faults, NewPerson, Vendor};

use self::lab::{Lab, someone};
use crate::acceptance::{Night, night};

const HOUR: i64 = 3_600_000;

async fn two(people: usize) -> Night {
    night(&[("house", Vendor::Crm), ("shop", Vendor::Woocommerce)], people, &[&["house", "shop"]]).await
}

impl Night {
    async fn run(&self) -> RunReport {
        self.sandbox.clear_log();
        let report = self.engine.sync(&[]).await.expect("the run ends");
        self.clock.advance(24 * HOUR);
        report
    }

    fn writes(&self) -> usize {
        self.sandbox.log().iter().filter(|call| call.effect).count()
    }

    async fn state(&self, connection: &str, id: &str) -> RecordState {
        self.store.record(connection, "contact", id).await.expect("the store answers").expect("a known record").state
    }

    async fn queue(&self, kind: &str) -> usize {
        let filter = ConflictFilter { open_only: true, kind: Some(kind.to_owned()), limit: 100, after: None };
        self.store.conflicts(&filter).await.expect("the store answers").len()
    }
}

/// A server that announces more than it shows: the run is incomplete, and nobody is taken as deleted.
#[tokio::test]
async fn r05_a_silent_cap_is_not_success() {
    let night = two(20).await;
    night.sandbox.set_faults(Faults::parse("total_lies=1").expect("a fault"));
    let report = night.run().await;
    assert_eq!(report.verdict.exit_code(), 3, "{report:?}");
    assert!(report.syncs[0].streams.iter().any(|stream| !stream.complete && stream.why.is_some()));
}

/// An address that changes at one side: the same link, no twin.
#[tokio::test]
async fn r30_a_changed_address_makes_no_twin() {
    let night = two(10).await;
    night.run().await;
    let person = night.sandbox.people("house")[5].clone();
    night.sandbox.edit(night.clock.now(), "house", &person.id, "email", Some("new.address@example.test"));
    night.clock.advance(HOUR);
    night.run().await;
    let there = night.sandbox.people("shop");
    assert_eq!(there.iter().filter(|p| p.email.as_deref() == Some("new.address@example.test")).count(), 1);
    assert!(there.iter().all(|p| p.email != person.email));
    night.run().await;
    assert_eq!(night.writes(), 0);
}

/// Two runs on the same connections: the second refuses.
#[tokio::test]
async fn r36_a_second_run_on_the_same_connections_refuses() {
    let night = two(3).await;
    let now = night.clock.now();
    night.store.lease("connection:shop", "elsewhere:1:0", now, HOUR).await.expect("the store answers").expect("free");
    let refused = night.engine.sync(&[]).await;
    assert!(matches!(refused, Err(EngineError::Busy { ref connection, .. }) if connection == "shop"), "{refused:?}");
    assert!(night.sandbox.log().is_empty());
}

/// A list that comes back short again and again: nobody is deleted, and the run says that it was not whole.
#[tokio::test]
async fn r44_a_list_cut_short_deletes_nobody() {
    let night = night(&[("chat", Vendor::Chatway), ("house", Vendor::Crm)], 40, &[&["chat", "house"]]).await;
    night.run().await;
    night.sandbox.set_faults(Faults::parse("empty_page=1").expect("a fault"));
    for _ in 0..3 {
        assert_ne!(night.run().await.verdict.exit_code(), 0);
    }
    night.sandbox.set_faults(Faults::none());
    night.run().await;
    let counts = night.store.counts("chat", "contact").await.expect("the store answers");
    assert_eq!((counts.missing, counts.deleted), (0, 0));
}

/// A deletion without an event: missing after one full cycle, deleted after the second, and not created again (R46).
#[tokio::test]
async fn r45_a_deletion_is_noticed_and_r46_nobody_comes_back() {
    let night = two(10).await;
    night.run().await;
    let gone = night.sandbox.people("shop")[4].clone();
    night.sandbox.delete(night.clock.now(), "shop", &gone.id);
    night.run().await;
    assert_eq!(night.state("shop", &gone.id).await, RecordState::Missing);
    night.run().await;
    assert_eq!(night.state("shop", &gone.id).await, RecordState::Deleted);
    let upper = gone.email.clone().unwrap_or_default().to_uppercase();
    if let Some(person) = night.sandbox.people("house").into_iter().find(|person| person.email == gone.email) {
        night.sandbox.edit(night.clock.now(), "house", &person.id, "email", Some(&upper));
    }
    for _ in 0..2 {
        night.run().await;
        assert_eq!(night.writes(), 0);
    }
    assert!(night.sandbox.people("shop").iter().all(|person| person.email != gone.email));
    assert!(night.sandbox.people("house").iter().any(|person| person.email.as_deref() == Some(upper.as_str())));
}

/// Deleted and made anew under another id with the same content: the same person, nothing doubled.
#[tokio::test]
async fn r48_a_new_id_with_the_same_content_is_a_move() {
    let night = two(10).await;
    night.run().await;
    let old = night.sandbox.people("shop")[6].clone();
    night.sandbox.delete(night.clock.now(), "shop", &old.id);
    let anew = NewPerson {
        given: old.given.clone(),
        family: old.family.clone(),
        email: old.email.clone(),
        phone: old.phone.clone(),
        company: old.company.clone(),
        city: old.city.clone(),
        country: old.country.clone(),
        ..NewPerson::default()
    };
    let id = night.sandbox.create(night.clock.now(), "shop", &anew);
    for _ in 0..3 {
        night.run().await;
    }
    let before = night.store.record("shop", "contact", &old.id).await.expect("the store answers").expect("known");
    let after = night.store.record("shop", "contact", &id).await.expect("the store answers").expect("known");
    assert_eq!(before.entity_id, after.entity_id);
    for name in ["house", "shop"] {
        assert_eq!(night.sandbox.people(name).iter().filter(|person| person.email == old.email).count(), 1, "{name}");
    }
}

/// Deleted at one side and edited at the other: the edit stays.
#[tokio::test]
async fn r49_an_edit_survives_a_deletion_elsewhere() {
    let night = two(10).await;
    night.run().await;
    let gone = night.sandbox.people("shop")[2].clone();
    night.sandbox.delete(night.clock.now(), "shop", &gone.id);
    let kept =
        night.sandbox.people("house").into_iter().find(|person| person.email == gone.email).expect("known there");
    night.sandbox.edit(night.clock.now(), "house", &kept.id, "company", Some("Still here"));
    for _ in 0..3 {
        night.run().await;
    }
    let kept = night.sandbox.people("house").into_iter().find(|person| person.id == kept.id).expect("still there");
    assert_eq!(kept.company.as_deref(), Some("Still here"));
}

/// Identical records in one system: reported, not multiplied.
#[tokio::test]
async fn r51_identical_twins_are_reported_and_not_multiplied() {
    let night = night(&[("chat", Vendor::Chatway), ("house", Vendor::Crm)], 0, &[&["chat", "house"]]).await;
    let twin = NewPerson {
        given: "Ana".to_owned(),
        family: "Lind".to_owned(),
        email: Some("ana@example.test".to_owned()),
        ..NewPerson::default()
    };
    for _ in 0..7 {
        night.sandbox.create(night.clock.now(), "chat", &twin);
    }
    night.run().await;
    assert_eq!(night.queue("duplicate").await, 1);
    assert_eq!(night.sandbox.people("house").len(), 0);
    night.run().await;
    assert_eq!((night.queue("duplicate").await, night.writes()), (1, 0));
}

/// A field that the far end drops although it says yes: nothing loops, nothing doubles.
#[tokio::test]
async fn r34_an_answer_that_lies_does_not_loop() {
    let night = two(10).await;
    night.run().await;
    for person in night.sandbox.people("house").iter().take(4) {
        night.sandbox.edit(night.clock.now(), "house", &person.id, "company", Some("Dropped Ltd"));
    }
    night.sandbox.set_faults(Faults::parse("drop_field=1").expect("a fault"));
    night.run().await;
    night.sandbox.set_faults(Faults::none());
    for _ in 0..3 {
        night.run().await;
    }
    assert_eq!(night.writes(), 0);
    for name in ["house", "shop"] {
        assert_eq!(night.sandbox.people(name).len(), 13, "{name}");
    }
}

/// Rows that share one instant across a page border, at the cursor's very instant: all are stored, none twice.
#[tokio::test]
async fn r02_and_r04_rows_of_one_instant_are_all_read() {
    let night = two(5).await;
    night.run().await;
    let instant = night.clock.now();
    for number in 0..160 {
        let person = NewPerson {
            given: format!("Given{number}"),
            family: "Instant".to_owned(),
            email: Some(format!("instant{number}@example.test")),
            ..NewPerson::default()
        };
        night.sandbox.create(instant, "house", &person);
    }
    night.clock.advance(HOUR);
    night.run().await;
    let there = night.sandbox.people("shop");
    assert_eq!(there.iter().filter(|person| person.family == "Instant").count(), 160);
    night.run().await;
    assert_eq!(night.writes(), 0);
}

/// A row that becomes visible only after its timestamp: the next look, which overlaps, collects it.
#[tokio::test]
async fn r11_rows_that_arrive_late_are_collected() {
    let night = night(&[("crm", Vendor::Hubspot), ("shop", Vendor::Woocommerce)], 8, &[&["crm", "shop"]]).await;
    night.run().await;
    // Made just now: the vendor's search does not show it yet.
    let late = NewPerson {
        given: "Late".to_owned(),
        family: "Riser".to_owned(),
        email: Some("late@example.test".to_owned()),
        ..NewPerson::default()
    };
    night.sandbox.create(night.clock.now(), "crm", &late);
    night.engine.sync(&[]).await.expect("the run ends");
    night.clock.advance(HOUR);
    night.engine.sync(&[]).await.expect("the run ends");
    assert!(night.sandbox.people("shop").iter().any(|person| person.email == late.email));
}

/// "Phone taken" without a name: the conversation partner is not lost, the case waits in the queue.
#[tokio::test]
async fn r27_a_phone_that_is_taken_waits_visibly() {
    let night = night(&[("house", Vendor::Crm), ("support", Vendor::Chatwoot)], 6, &[&["house", "support"]]).await;
    night.run().await;
    let holder = night.sandbox.people("support")[0].clone();
    let newcomer = NewPerson {
        given: "Wilhelmina".to_owned(),
        family: "Achterberg".to_owned(),
        email: Some("w.achterberg@example.test".to_owned()),
        phone: holder.phone.clone(),
        ..NewPerson::default()
    };
    night.sandbox.create(night.clock.now(), "house", &newcomer);
    let report = night.run().await;
    assert_eq!(report.verdict.exit_code(), 3);
    let mut waiting = 0;
    for kind in ["identity", "duplicate", "refused"] {
        waiting += night.queue(kind).await;
    }
    assert_eq!(waiting, 1);
    let people = night.sandbox.people("support");
    assert_eq!(people.iter().filter(|person| person.phone == holder.phone).count(), 1);
    night.run().await;
    assert_eq!(night.writes(), 0);
}

/// Somebody edits a record between our reading and our writing: their edit is seen and not written over.
#[tokio::test]
async fn r39_an_edit_made_meanwhile_is_not_written_over() {
    let night = two(10).await;
    night.run().await;
    let house = night.sandbox.people("house")[7].clone();
    let shop =
        night.sandbox.people("shop").into_iter().find(|person| person.email == house.email).expect("known there");
    night.sandbox.edit(night.clock.now(), "house", &house.id, "company", Some("From the house"));
    night.clock.advance(HOUR);
    let sandbox = night.sandbox.clone();
    let (id, mut done) = (shop.id.clone(), false);
    // The shop's list has been read by now; the edit falls into the time before the write.
    night.clock.on_tick(move |now| {
        let read = sandbox
            .log()
            .iter()
            .any(|call| call.instance == "shop" && call.path.starts_with("/wp-json/wc/v3/customers?"));
        if read && !done {
            done = true;
            sandbox.edit(now, "shop", &id, "company", Some("Typed in the shop"));
        }
    });
    night.run().await;
    night.run().await;
    let value = |name: &str| {
        let found = night.sandbox.people(name).into_iter().find(|person| person.email == house.email);
        found.expect("known everywhere").company.unwrap_or_default()
    };
    assert_eq!(value("house"), value("shop"));
    let settled = ConflictFilter { open_only: false, kind: Some("field".to_owned()), limit: 100, after: None };
    let kept = night.store.conflicts(&settled).await.expect("the store answers");
    assert!(
        kept.iter().any(|entry| entry.detail.to_string().contains("Typed in the shop")),
        "the losing value is kept"
    );
}

/// Given a field of somebody else's that is written beside ours between our reading and our writing, then it survives.
#[tokio::test]
async fn r38_a_foreign_key_beside_ours_survives() {
    for vendor in [Vendor::Chatwoot, Vendor::Chatway, Vendor::Woocommerce] {
        let lab = Lab::new(&[("house", Vendor::Crm), ("far", vendor)]).await;
        let house = lab.add("house", &someone("Ana", "Lind", "ana@example.test"));
        lab.edit("house", &house, "custom.plan", Some("small"));
        lab.run().await;
        lab.clock.advance(HOUR);
        let far = lab.person("far", "ana@example.test").id;
        lab.edit("house", &house, "custom.plan", Some("large"));
        let (sandbox, at, mut ticks) = (lab.sandbox.clone(), far.clone(), 0);
        // Whatever is being read or written just then.
        lab.clock.on_tick(move |now| {
            ticks += 1;
            sandbox.edit(now, "far", &at, "custom.other", Some(&format!("written {ticks} times")));
            sandbox.edit(now, "far", &at, &format!("custom.other{}", ticks % 4), Some("x"));
        });
        lab.run().await;
        lab.clock.on_tick(|_| {});
        let custom = lab.person("far", "ana@example.test").custom;
        lab.clock.advance(HOUR);
        lab.run().await;
        let after = lab.person("far", "ana@example.test").custom;
        assert_eq!(after.get("plan").map(String::as_str), Some("large"), "{vendor:?}");
        let foreign = |all: &std::collections::BTreeMap<String, String>| {
            all.iter().filter(|(name, _)| name.starts_with("other")).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(foreign(&after), foreign(&custom), "{vendor:?}");
        assert!(foreign(&after).len() > 2, "{vendor:?}: it was written meanwhile: {after:?}");
    }
}

/// A link to a record that is gone: the write finds nobody, nothing breaks, everybody else is served.
#[tokio::test]
async fn r47_a_dead_id_does_not_hold_up_the_others() {
    let night = two(10).await;
    night.run().await;
    let people = night.sandbox.people("house");
    let dead =
        night.sandbox.people("shop").into_iter().find(|person| person.email == people[8].email).expect("known there");
    for person in &people[7..9] {
        night.sandbox.edit(night.clock.now(), "house", &person.id, "company", Some("Both change"));
    }
    night.clock.advance(HOUR);
    let (sandbox, mut done) = (night.sandbox.clone(), false);
    let id = dead.id.clone();
    night.clock.on_tick(move |now| {
        let read = sandbox
            .log()
            .iter()
            .any(|call| call.instance == "shop" && call.path.starts_with("/wp-json/wc/v3/customers?"));
        if read && !done {
            done = true;
            sandbox.delete(now, "shop", &id);
        }
    });
    night.run().await;
    let other = night.sandbox.people("shop").into_iter().find(|person| person.email == people[7].email);
    assert_eq!(other.expect("still there").company.as_deref(), Some("Both change"));
    for _ in 0..3 {
        night.run().await;
    }
    assert_eq!(night.writes(), 0);
}
