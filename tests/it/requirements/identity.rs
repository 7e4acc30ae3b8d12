//! Who is who, and one record for each of them.

use counterpart::store::{ConflictState, RecordState, Store, StoreOptions};
use counterpart_connectors::Clock;
use counterpart_sandbox::{NewPerson, Vendor};

use super::lab::{DAY, HOUR, Lab, someone};

/// Given pairs of one person's phone numbers as two systems write them (Brazilian mobiles with and without the ninth
/// digit, `+` and `00`), then each pair is linked, nobody is doubled, and nobody is taken for somebody else.
#[tokio::test]
async fn r28_phone_numbers_in_other_forms_make_no_duplicates() {
    const PAIRS: u32 = 1_212;
    let lab = Lab::new(&[("house", Vendor::Crm), ("shop", Vendor::Woocommerce)]).await;
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let (area, line) = (11 + number % 9, 81_234_567 + number * 7_919);
        let (one, other) = match number % 4 {
            0 => (format!("+55 {area} 9{line}"), format!("+55{area}{line}")),
            1 => (format!("0055 {area} {line}"), format!("+55 ({area}) 9{line}")),
            2 => (format!("+55{area}9{line}"), format!("0055{area}9{line}")),
            _ => (format!("+46 70-{:07}", number * 61), format!("004670{:07}", number * 61)),
        };
        let mut person = someone("Maria", &format!("Silva{number}"), "");
        person.email = None;
        let there = NewPerson { phone: Some(other), ..person.clone() };
        person.phone = Some(one);
        pairs.push((lab.add("house", &person), lab.add("shop", &there)));
    }
    let plan = lab.engine(lab.network()).plan(&[]).await.expect("a plan is made");
    assert!(plan.counts.iter().all(|count| count.action != "create"), "{:?}", plan.counts);
    assert_eq!(plan.conflicts, 0);
    for (house, shop) in pairs {
        let (one, other) = (lab.record("house", &house).await, lab.record("shop", &shop).await);
        assert!(one.entity_id.is_some() && one.entity_id == other.entity_id, "{one:?} {other:?}");
    }
}

/// Given several workers that create the same person at one system at the same time, then one record is left there, and
/// the worker that was refused links to it.
#[tokio::test]
async fn r29_concurrent_creates_leave_one_record() {
    for vendor in [Vendor::Chatwoot, Vendor::Chatway, Vendor::Hubspot, Vendor::Woocommerce, Vendor::Crm] {
        let lab = Lab::new(&[("house", Vendor::Crm), ("there", vendor)]).await;
        lab.add("house", &someone("Ana", "Lind", "ana@example.test"));
        // Everybody else has read the list, too, and is faster by one call.
        let (sandbox, mut done) = (lab.sandbox.clone(), false);
        lab.clock.on_tick(move |now| {
            if !done && sandbox.log().iter().any(|call| call.instance == "there") {
                done = true;
                sandbox.create(now - DAY, "there", &someone("Ana", "Lind", "ana@example.test"));
            }
        });
        lab.run().await;
        lab.run_days(2).await;
        let person = lab.person("there", "ana@example.test");
        let here = lab.person("house", "ana@example.test");
        let (one, other) = (lab.record("house", &here.id).await, lab.record("there", &person.id).await);
        assert!(one.entity_id.is_some() && one.entity_id == other.entity_id, "{vendor:?}: {one:?} {other:?}");
        let queue = lab.queue().await;
        assert!(queue.iter().all(|entry| entry.state == ConflictState::Resolved), "{vendor:?}: {queue:?}");
        lab.assert_quiet().await;
    }
}

/// The same with two engines that know nothing of each other, each with its own store and its own source.
#[tokio::test]
async fn r29_two_engines_create_a_person_once() {
    let systems = [("house", Vendor::Crm), ("mill", Vendor::Crm), ("support", Vendor::Chatwoot)];
    let mut lab = Lab::new(&systems).await;
    for system in ["house", "mill"] {
        lab.people_at(system, 20, 0);
    }
    let options = StoreOptions { url: "sqlite::memory:".to_owned(), tenant: "default".to_owned() };
    let second = Store::open(&options).await.expect("an embedded store opens");
    second.migrate().await.expect("the schema applies");
    lab.config.syncs[0].between = vec!["house".to_owned(), "support".to_owned()];
    let one = lab.engine(lab.network());
    lab.config.syncs[0].between = vec!["mill".to_owned(), "support".to_owned()];
    let first = std::mem::replace(&mut lab.store, second);
    let two = lab.engine(lab.network());
    for _ in 0..2 {
        let (one, two) = tokio::join!(one.sync(&[]), two.sync(&[]));
        for outcome in [one, two] {
            outcome.expect("the run ends");
        }
        lab.clock.advance(DAY);
    }
    assert_eq!(lab.people("support").len(), 20);
    for (store, system) in [(&first, "house"), (&lab.store, "mill")] {
        for person in lab.people(system) {
            let there = lab.person("support", person.email.as_deref().expect("everybody has one"));
            let record = async |name, id: &str| {
                store.record(name, "contact", id).await.expect("the store answers").expect("a known record").entity_id
            };
            let (here, there) = (record(system, &person.id).await, record("support", &there.id).await);
            assert!(here.is_some() && here == there, "{:?} of {system}", person.email);
        }
    }
    lab.sandbox.clear_log();
    let (one, two) = tokio::join!(one.sync(&[]), two.sync(&[]));
    assert_eq!(one.expect("the run ends").verdict.exit_code(), 0);
    assert_eq!(two.expect("the run ends").verdict.exit_code(), 0);
    assert_eq!(lab.writes(), 0);
}

/// Given B merged into A at the far end, then B lives on as A: nobody is created again, nobody is deleted elsewhere.
#[tokio::test]
async fn r31_a_merge_at_the_far_end_leaves_no_ghost() {
    let lab = Lab::new(&[("crm", Vendor::Hubspot), ("house", Vendor::Crm)]).await;
    lab.people_at("crm", 12, 0);
    lab.run().await;
    let (kept, gone) = (lab.people("crm")[3].clone(), lab.people("crm")[8].clone());
    lab.clock.advance(HOUR);
    lab.sandbox.merge(lab.clock.now(), "crm", &kept.id, &gone.id);
    lab.run_days(3).await;
    assert_eq!(lab.people("crm").len(), 11);
    assert_eq!(lab.people("house").len(), 12);
    // Whoever asks for the old id is led to the heir.
    let (heir, ghost) = (lab.record("crm", &kept.id).await, lab.record("crm", &gone.id).await);
    assert_eq!((heir.state, ghost.id), (RecordState::Live, heir.id));
    lab.assert_quiet().await;
}

/// Given a create whose answer was lost and a search that finds everything that contains the address, then only the one
/// with exactly that address counts as the one created.
#[tokio::test]
async fn r32_a_look_up_takes_only_the_exact_match() {
    let lab = Lab::new(&[("house", Vendor::Crm), ("support", Vendor::Chatwoot)]).await;
    for (given, email) in [("Joann", "joann@example.test"), ("Ann", "ann@example.test.org")] {
        lab.add("support", &someone(given, "Near", email));
    }
    lab.run().await;
    lab.clock.advance(HOUR);
    let ann = lab.add("house", &someone("Ann", "Near", "ann@example.test"));
    lab.faults("error_after=1");
    lab.run().await;
    lab.faults("none");
    lab.run_days(2).await;
    let there = lab.person("support", "ann@example.test");
    let (one, other) = (lab.record("house", &ann).await, lab.record("support", &there.id).await);
    assert!(one.entity_id.is_some() && one.entity_id == other.entity_id, "{one:?} {other:?}");
    assert_eq!((lab.people("support").len(), lab.people("house").len()), (3, 3));
    lab.assert_quiet().await;
}
