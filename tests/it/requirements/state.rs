//! State, recovery, and the way back.

use std::collections::BTreeMap;

use counterpart::engine::{Decision, EngineError, PlanHeader, Verdict, last_audits};
use counterpart::store::{ConflictState, Store, StoreOptions};
use counterpart_connectors::Millis;
use counterpart_sandbox::Vendor;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use serde_json::json;

use super::lab::{DAY, HOUR, Lab, START, someone};
use crate::sim::Death;

/// Earlier than everything that is known of anybody.
const BEFORE: Millis = START - 3 * DAY;
const HOUSE_AND_SHOP: [(&str, Vendor); 2] = [("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];

/// Given a value that changed at one side without a new time of change, so that no reading of changes shows it, then the
/// audit finds it within a day and heals it.
#[tokio::test]
async fn r50_a_silent_difference_is_found_and_healed() {
    let lab = Lab::new(&[("crm", Vendor::Hubspot), ("house", Vendor::Crm)]).await;
    lab.people_at("crm", 10, 0);
    lab.run().await;
    lab.clock.advance(HOUR);
    lab.run().await;
    for (system, at) in [("crm", 2), ("house", 5)] {
        let person = lab.people(system)[at].clone();
        lab.sandbox.edit(BEFORE, system, &person.id, "company", Some(&format!("Silent at {system}")));
    }
    lab.clock.advance(HOUR);
    lab.run().await;
    assert_eq!(lab.writes(), 0, "no reading of changes shows it");
    lab.run_days(1).await;
    for (system, at) in [("crm", 2), ("house", 5)] {
        let email = lab.people(system)[at].email.clone().expect("everybody has one");
        for other in ["crm", "house"] {
            assert_eq!(lab.company(other, &email), Some(format!("Silent at {system}")), "{email} at {other}");
        }
    }
    lab.assert_quiet().await;
}

/// The same at vendors without a change cursor of which a run reads a few pages only: the deep scan comes past in as many
/// runs as there are pages.
#[tokio::test]
async fn r50_the_deep_scan_finds_a_silent_difference() {
    for (system, vendor) in [("shop", Vendor::Woocommerce), ("chat", Vendor::Chatway)] {
        let mut lab = Lab::with_fakes(&[("house", Vendor::Crm), (system, vendor)], &[(system, "page_size", "5")]).await;
        lab.set(system, "page_size", json!(5));
        if vendor == Vendor::Chatway {
            lab.set(system, "list_order", json!("newest_first"));
        }
        lab.config.connections.get_mut(system).expect("configured").deep_pages = Some(1);
        lab.people_at("house", 20, 0);
        lab.people_at(system, 20, 0);
        lab.run().await;
        // On none of the pages that the search for what is new looks at.
        let person = lab.people(system)[8].clone();
        lab.sandbox.edit(BEFORE, system, &person.id, "phone", Some("+46701740123"));
        let mut reads = Vec::new();
        while lab.people("house")[8].phone.as_deref() != Some("+46701740123") {
            assert!(reads.len() < 4, "{system}: {reads:?}");
            lab.clock.advance(HOUR);
            reads.push(lab.run().await.syncs[0].calls[system]);
        }
        assert!(reads.len() > 1 && reads.iter().all(|calls| *calls <= 2), "{system}: {reads:?}");
        lab.assert_quiet().await;
    }
}

/// The same where both sides differ silently: the policy decides, and the losing value is kept where one can see it.
#[tokio::test]
async fn r50_where_both_sides_differ_silently_the_policy_decides() {
    let lab = Lab::new(&[("crm", Vendor::Hubspot), ("house", Vendor::Crm)]).await;
    lab.people_at("crm", 10, 0);
    lab.run().await;
    let email = lab.people("crm")[4].email.clone().expect("everybody has one");
    for system in ["crm", "house"] {
        let person = lab.person(system, &email);
        lab.sandbox.edit(BEFORE, system, &person.id, "company", Some(&format!("Silent at {system}")));
    }
    lab.run_days(1).await;
    for system in ["crm", "house"] {
        assert_eq!(lab.company(system, &email).as_deref(), Some("Silent at crm"), "{system}");
    }
    let queue = lab.queue().await;
    assert_eq!(queue.len(), 1, "{queue:?}");
    assert_eq!((queue[0].kind.as_str(), queue[0].state), ("field", ConflictState::Resolved));
    assert!(queue[0].settled.is_some() && queue[0].detail.to_string().contains("Silent at house"), "{queue:?}");
    lab.assert_quiet().await;
}

/// What somebody sees of a system: company by address.
fn companies(lab: &Lab, system: &str) -> Vec<(String, Option<String>)> {
    let people = lab.people(system).into_iter();
    let mut seen: Vec<_> = people.map(|person| (person.email.unwrap_or_default(), person.company)).collect();
    seen.sort();
    seen
}

/// Given a process that dies before or after any of its calls, when the next one starts, then it goes on by itself, and
/// the end is the same: nothing is lost and nothing is done twice.
#[tokio::test]
async fn r52_a_run_that_dies_anywhere_is_taken_up() {
    let mut expected = None;
    for at_call in 0.. {
        let mut died = false;
        for after_effect in [false, true] {
            let lab = Lab::new(&[("house", Vendor::Crm), ("support", Vendor::Chatwoot)]).await;
            lab.people_at("house", 4, 0);
            lab.people_at("support", 4, 2);
            lab.run().await;
            lab.clock.advance(HOUR);
            lab.edit("house", &lab.people("house")[1].id, "company", Some("Edited"));
            lab.edit("support", &lab.people("support")[2].id, "company", Some("Edited, too"));
            lab.add("house", &someone("New", "Comer", "new@example.test"));
            died |= lab.run_and_die(Death { at_call, after_effect }).await.is_none();
            lab.bury().await;
            lab.run_days(1).await;
            let end = (companies(&lab, "house"), companies(&lab, "support"));
            let expected = expected.get_or_insert_with(|| end.clone());
            assert_eq!(end, *expected, "died at call {at_call}, after its effect: {after_effect}");
            assert_eq!((end.0.len(), end.0), (7, end.1));
            lab.assert_quiet().await;
        }
        if !died {
            assert!(at_call > 5, "{at_call} calls");
            break;
        }
    }
}

/// Counts every row that is written to any table, also where nothing is different afterwards.
async fn watch(url: &str) -> DatabaseConnection {
    let raw = Database::connect(url).await.expect("the database opens");
    let run = async |sql: &str| raw.execute_unprepared(sql).await.expect("the statement is right");
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let tables = raw.query_all_raw(Statement::from_string(raw.get_database_backend(), names)).await;
    run("CREATE TABLE written (name TEXT PRIMARY KEY, n INTEGER NOT NULL)").await;
    for row in tables.expect("the statement is right") {
        let table: String = row.try_get("", "name").expect("a name");
        run(&format!("INSERT INTO written VALUES ('{table}', 0)")).await;
        for event in ["INSERT", "UPDATE", "DELETE"] {
            run(&format!(
                "CREATE TRIGGER count_{table}_{event} AFTER {event} ON \"{table}\" \
                 BEGIN UPDATE written SET n = n + 1 WHERE name = '{table}'; END"
            ))
            .await;
        }
    }
    raw
}

/// Rows written by table, and starts to count anew.
async fn written(raw: &DatabaseConnection) -> BTreeMap<String, i64> {
    let all = Statement::from_string(raw.get_database_backend(), "SELECT name, n FROM written WHERE n > 0");
    let rows = raw.query_all_raw(all).await.expect("the statement is right");
    raw.execute_unprepared("UPDATE written SET n = 0").await.expect("the statement is right");
    let cell = |row: &sea_orm::QueryResult| Some((row.try_get("", "name").ok()?, row.try_get("", "n").ok()?));
    rows.iter().filter_map(cell).collect()
}

/// Given many people and few changes, then what a run writes about people follows the changes, never the number of people:
/// a run without changes writes nothing about any of them, and its books grow with the pages read alone.
#[tokio::test]
async fn r53_a_run_writes_as_much_state_as_there_are_changes() {
    const EDITS: usize = 5;
    const BOOKS: [&str; 9] = [
        "budget_account",
        "budget_grant",
        "budget_spent",
        "lease",
        "run",
        "scan",
        "scan_mark",
        "sequence",
        "stream_state",
    ];
    let mut about_changes = Vec::new();
    for people in [100, 400] {
        let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
        let url = format!("sqlite://{}", lab.folder.path().join("counterpart.db").display());
        let options = StoreOptions { url: url.clone(), tenant: "default".to_owned() };
        lab.store = Store::open(&options).await.expect("the store opens");
        lab.store.migrate().await.expect("the schema applies");
        lab.people_at("house", people, 0);
        lab.people_at("shop", people, 0);
        lab.run().await;
        let raw = watch(&url).await;
        for edits in [0, EDITS, 0] {
            lab.clock.advance(DAY);
            for person in lab.people("house").iter().take(edits) {
                lab.edit("house", &person.id, "company", Some("Edited"));
            }
            let report = lab.run().await;
            let read: Vec<_> = report.syncs[0].streams.iter().map(|stream| stream.pulled).collect();
            assert_eq!((read, lab.writes()), (vec![people as u64; 2], edits), "everything is read");
            let (books, about): (BTreeMap<_, _>, BTreeMap<_, _>) =
                written(&raw).await.into_iter().partition(|(table, _)| BOOKS.contains(&table.as_str()));
            let calls = lab.sandbox.log().len() as i64;
            assert!(books.values().sum::<i64>() <= 30 + 12 * calls, "{calls} calls for {people} people: {books:?}");
            assert!(about.values().sum::<i64>() <= 20 * edits as i64, "{edits} edits of {people} people: {about:?}");
            if edits > 0 {
                about_changes.push(about);
            }
        }
        lab.store.close().await.expect("the store closes");
    }
    assert_eq!(about_changes[0], about_changes[1], "four times the people, the same changes");
    assert!(about_changes[0]["record"] >= EDITS as i64, "the watch sees what is written");
}

/// Given a run of updates, some of which were edited since, then taking it back restores all that nobody has touched, and
/// lists the rest.
#[tokio::test]
async fn r55_a_run_is_taken_back_except_for_what_was_edited_since() {
    const PEOPLE: usize = 60;
    let lab = Lab::new(&HOUSE_AND_SHOP).await;
    lab.people_at("house", PEOPLE, 0);
    lab.run().await;
    let before: BTreeMap<_, _> = companies(&lab, "shop").into_iter().collect();
    lab.clock.advance(HOUR);
    for person in lab.people("house") {
        lab.edit("house", &person.id, "company", Some("A mistake"));
    }
    let report = lab.run().await;
    assert_eq!(report.syncs[0].operations.updated as usize, PEOPLE);
    lab.clock.advance(HOUR);
    let touched: Vec<_> = lab.people("shop").into_iter().step_by(20).collect();
    for person in &touched {
        lab.edit("shop", &person.id, "company", Some("Edited since"));
    }
    let engine = lab.engine(lab.network());
    engine.read(&[]).await.expect("everything is read");
    let plan = engine.revert_plan(report.run).await.expect("a plan is made");
    assert_eq!((plan.counts[0].operations as usize, plan.notes.len()), (PEOPLE - touched.len(), touched.len()));
    assert!(plan.notes.iter().all(|note| note.contains("edited since")), "{:?}", plan.notes);
    let header = PlanHeader { kind: plan.kind, syncs: plan.syncs, hash: plan.hash };
    engine.apply(&header).await.expect("the world has not moved");
    for (email, company) in companies(&lab, "shop") {
        let is_touched = touched.iter().any(|person| person.email.as_deref() == Some(email.as_str()));
        let expected = if is_touched { Some("Edited since".to_owned()) } else { before[&email].clone() };
        assert_eq!(company, expected, "{email}");
    }
}

/// Taking a run back, as `revert --out` and `apply` do it; the verdict of `apply`, and what was noted.
async fn take_back(lab: &Lab, run: i64) -> (Verdict, Vec<String>) {
    lab.sandbox.clear_log();
    let engine = lab.engine(lab.network());
    engine.read(&[]).await.expect("everything is read");
    let plan = engine.revert_plan(run).await.expect("a plan is made");
    let header = PlanHeader { kind: plan.kind, syncs: plan.syncs, hash: plan.hash };
    let report = engine.apply(&header).await.expect("the world has not moved");
    (report.verdict, plan.notes)
}

/// Given a value that came with one run and was replaced by a later one, when the first is taken back, then the later value
/// stays: the edit was synced since, and counts no less for that.
#[tokio::test]
async fn a_run_taken_back_leaves_what_a_later_run_wrote() {
    let lab = Lab::new(&HOUSE_AND_SHOP).await;
    lab.people_at("house", 3, 0);
    lab.run().await;
    let person = lab.people("house")[1].clone();
    let email = person.email.clone().expect("everybody has one");
    let mut runs = Vec::new();
    for company in ["AAA", "BBB"] {
        lab.clock.advance(HOUR);
        lab.edit("house", &person.id, "company", Some(company));
        lab.edit("house", &person.id, "city", Some("Ghent"));
        runs.push(lab.run().await.run);
    }
    lab.clock.advance(HOUR);
    let (_, notes) = take_back(&lab, runs[0]).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("company") && notes[0].contains("edited since"), "{notes:?}");
    assert_eq!(lab.company("shop", &email).as_deref(), Some("BBB"));
    assert_ne!(lab.person("shop", &email).city.as_deref(), Some("Ghent"), "nobody has touched the city");
}

/// Given an update that was taken back, then the two systems that differ by it wait for a person, no run decides it, and the answer,
/// whichever it is, or an edit, makes them agree.
#[tokio::test]
async fn what_was_taken_back_waits_for_a_person() {
    for answer in ["shop", "house", "edit"] {
        let lab = Lab::new(&HOUSE_AND_SHOP).await;
        lab.people_at("house", 3, 0);
        lab.run().await;
        let person = lab.people("house")[1].clone();
        let email = person.email.clone().expect("everybody has one");
        let before = lab.company("shop", &email);
        lab.clock.advance(HOUR);
        lab.edit("house", &person.id, "company", Some("A mistake"));
        let run = lab.run().await.run;
        lab.clock.advance(HOUR);
        assert_eq!(take_back(&lab, run).await, (Verdict::Partial, Vec::new()));
        assert_eq!(lab.company("shop", &email), before);
        for _ in 0..2 {
            lab.clock.advance(HOUR);
            let report = lab.run().await;
            assert_eq!((lab.writes(), report.verdict, report.syncs[0].conflicts), (0, Verdict::Partial, 1));
        }
        let engine = lab.engine(lab.network());
        let entry = lab.queue().await.into_iter().find(|entry| entry.closed_at.is_none()).expect("it waits");
        assert_eq!((entry.kind.as_str(), entry.field.as_deref()), ("field", Some("company")), "{entry:?}");
        assert_eq!(entry.detail["candidates"].as_array().map(Vec::len), Some(2), "{entry:?}");
        let entity = lab.store.entities(&[entry.entity_id.expect("a person")]).await.expect("the store answers");
        let records = lab.store.records_of_entities("contact", &[entity[0].id]).await.expect("the store answers");
        let left = engine.why_left_alone(&entity[0], &records, std::slice::from_ref(&entry)).await.expect("it is told");
        let left: Vec<_> =
            left.into_iter().flat_map(|(_, left)| left).filter(|l| l.field.as_str() == "company").collect();
        assert_eq!(left.iter().map(|left| left.conflict).collect::<Vec<_>>(), [Some(entry.id)], "{left:?}");
        assert!(left[0].why.contains("taken back"), "{left:?}");
        engine.decide(entry.id, &Decision::Done).await.expect_err("it is no answer");
        let expected = match answer {
            "edit" => {
                lab.edit("house", &person.id, "company", Some("The right one"));
                Some("The right one".to_owned())
            }
            system => {
                engine.decide(entry.id, &Decision::Take(system.to_owned())).await.expect("it is answered");
                if system == "shop" { before } else { Some("A mistake".to_owned()) }
            }
        };
        lab.clock.advance(HOUR);
        let report = lab.run().await;
        assert_eq!((lab.writes(), report.verdict), (1, Verdict::Ok), "{answer}: {report:?}");
        assert_eq!(
            [lab.company("house", &email), lab.company("shop", &email)],
            [expected.clone(), expected],
            "{answer}"
        );
        lab.assert_quiet().await;
    }
}

/// Given a run that was taken back, when it is taken back once more, then nothing is planned: what was created is gone, what was
/// updated shows what it did before; and a plan made earlier is refused, because the world has moved.
#[tokio::test]
async fn a_run_is_taken_back_once() {
    let lab = Lab::new(&HOUSE_AND_SHOP).await;
    lab.people_at("house", 3, 0);
    lab.people_at("shop", 1, 0);
    let run = lab.run().await.run;
    lab.clock.advance(HOUR);
    let engine = lab.engine(lab.network());
    let plan = engine.revert_plan(run).await.expect("a plan is made");
    let header = PlanHeader { kind: plan.kind, syncs: plan.syncs, hash: plan.hash };
    let report = engine.apply(&header).await.expect("the world has not moved");
    assert_eq!(report.syncs[0].operations.deleted, 2, "{report:?}");
    let again = engine.apply(&header).await;
    assert!(matches!(again, Err(EngineError::Moved { .. })), "{again:?}");
    let plan = engine.revert_plan(run).await.expect("a plan is made");
    assert!(plan.counts.is_empty(), "{plan:?}");
    assert_eq!(plan.notes.iter().filter(|note| note.ends_with("it is gone already")).count(), 2, "{:?}", plan.notes);

    lab.clock.advance(HOUR);
    let person = lab.people("shop")[0].clone();
    lab.edit("shop", &person.id, "company", Some("A mistake"));
    let run = lab.run().await.run;
    lab.clock.advance(HOUR);
    take_back(&lab, run).await;
    let plan = engine.revert_plan(run).await.expect("a plan is made");
    assert_eq!((plan.counts.len(), plan.notes.len()), (0, 1), "{plan:?}");
    assert!(plan.notes[0].contains("what it did before"), "{:?}", plan.notes);
    let nothing = engine.revert_plan(plan.run).await;
    assert!(matches!(nothing, Err(EngineError::WroteNobody { .. })), "{nothing:?}");
}

/// Given systems whose lists leave a fifth of their people out, and count as whole, when a sample of the people that the one
/// knows is looked up at the other, then the audit's figure is within three points of the truth and it names who is missing;
/// lists that are whole are told to be.
#[tokio::test]
async fn r72_a_sampled_audit_finds_what_lists_leave_out() {
    const PEOPLE: usize = 900;
    for (omitted, asked) in [("omit=0", 20), ("omit=0.2", 500)] {
        let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
        lab.config.syncs[0].create = Some(Vec::new());
        lab.people_at("house", PEOPLE, 0);
        lab.people_at("shop", PEOPLE, PEOPLE / 10);
        lab.faults(omitted);
        let report = lab.run().await;
        assert!(report.syncs[0].streams.iter().all(|stream| stream.complete), "{omitted}: {report:?}");
        let audits = lab.engine(lab.network()).audit(asked as usize).await.expect("it ends");
        assert_eq!(audits.len(), 2);
        for audit in audits {
            let name = &audit.connection;
            let known = lab.store.counts(name, "contact").await.expect("the store answers").live;
            assert_eq!(known == PEOPLE as u64, omitted == "omit=0", "{name}: {known}");
            let truth = known as f64 / PEOPLE as f64;
            let (share, low, high) = audit.share().expect("many are at both");
            assert!((share - truth).abs() < 0.03, "{name}: {share}, not {truth}");
            assert!(low <= truth && truth <= high, "{name}: {low} to {high}, not {truth}");
            assert_eq!(
                (audit.asked, audit.there),
                (asked, audit.known + audit.lost.len() as u64),
                "{:?}",
                audit.why_not
            );
            let there = lab.people(name);
            for lost in &audit.lost {
                assert!(there.iter().any(|person| person.id == lost.external_id), "{lost:?} at {name}");
                let known = lab.store.record(name, "contact", &lost.external_id).await.expect("the store answers");
                assert!(known.is_none() && !lost.by.starts_with(name), "{lost:?} at {name}");
            }
        }
    }
}

/// Given an audit, then who came after the last reading is not among the lost, a vendor that cannot be asked says so, its calls are
/// drawn from the lane of audits, and what a later reading shows is lost no more.
#[tokio::test]
async fn an_audit_accuses_nobody_who_is_not_due() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatway), ("crm", Vendor::Hubspot), ("house", Vendor::Crm)]).await;
    lab.config.syncs[0].create = Some(Vec::new());
    for system in ["chat", "crm", "house"] {
        lab.people_at(system, 30, 0);
    }
    lab.faults("omit=0.3");
    lab.run().await;
    lab.clock.advance(HOUR);
    // Known at HubSpot, and at the CRM only since its last reading.
    lab.add("crm", &someone("Late", "Comer", "late@example.test"));
    lab.clock.advance(HOUR);
    lab.run().await;
    lab.clock.advance(HOUR);
    lab.add("house", &someone("Late", "Comer", "late@example.test"));
    let audits = lab.engine(lab.network()).audit(10_000).await.expect("it ends");
    let of = |name: &str| audits.iter().find(|audit| audit.connection == name).expect("an audit").clone();
    assert_eq!(of("chat").why_not.as_deref(), Some("it cannot be asked for anybody by address"));
    let house = of("house");
    assert_eq!((house.not_due, house.asked), (1, 31), "{house:?}");
    assert!(!house.lost.is_empty() && of("crm").lost.is_empty(), "{audits:?}");
    assert_eq!(last_audits(&lab.store, &lab.config).await.expect("the store answers"), audits);

    let run = lab.store.runs(1).await.expect("the store answers").remove(0);
    assert_eq!((run.kind.as_str(), run.verdict.as_deref()), ("audit", Some("partial")));
    let spent = lab.store.spent(run.id).await.expect("the store answers");
    assert!(spent.iter().all(|spent| spent.lane == "audit"), "{spent:?}");
    assert_eq!(spent.iter().filter(|spent| spent.connection == "house").map(|spent| spent.n).sum::<u64>(), 31);

    lab.faults("none");
    lab.run_days(1).await;
    let later = last_audits(&lab.store, &lab.config).await.expect("the store answers");
    assert!(later.iter().all(|audit| audit.lost.is_empty()), "{later:?}");
}

/// Given a store that keeps what is over for thirty days, when there were readings every day for months, then those of the last thirty
/// days are there, and everything goes on as before.
#[tokio::test]
async fn what_is_over_is_forgotten_at_the_end_of_a_run() {
    let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
    lab.config.store.keep_ms = Some(30 * DAY);
    lab.people_at("house", 5, 0);
    lab.run_days(100).await;
    let runs = lab.store.runs(1000).await.expect("the store answers");
    assert!((30..=35).contains(&runs.len()), "{}", runs.len());
    assert_eq!(lab.store.run(1).await.expect("the store answers").map(|run| run.id), Some(1), "it has written");
    assert!(lab.store.scan(1).await.expect("the store answers").is_none());
    let person = lab.people("house")[2].clone();
    lab.edit("house", &person.id, "company", Some("Elsewhere"));
    lab.run_days(1).await;
    assert_eq!(lab.company("shop", &person.email.expect("everybody has one")), Some("Elsewhere".to_owned()));
    lab.assert_quiet().await;
}

/// Updates at one system are answered 422.
struct Denying {
    network: std::sync::Arc<crate::sim::InProcess>,
    system: &'static str,
}

#[async_trait::async_trait]
impl counterpart_connectors::Transport for Denying {
    async fn send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<bytes::Bytes>, counterpart_connectors::TransportError> {
        let is_there = request.uri().path().split('/').nth(1) == Some(self.system);
        if is_there && matches!(*request.method(), http::Method::PUT | http::Method::PATCH) {
            let answer = http::Response::builder().status(422).header("content-type", "application/json");
            return Ok(answer.body(bytes::Bytes::from_static(b"{\"message\":\"no\"}")).expect("an answer"));
        }
        self.network.send(request).await
    }
}

/// Given a value that a vendor refuses, then it is not sent again; when somebody says that the cause is mended, it is.
#[tokio::test]
async fn a_refused_value_is_tried_again_when_somebody_says_so() {
    let lab = Lab::new(&[("house", Vendor::Crm), ("support", Vendor::Chatwoot)]).await;
    let person = lab.add("house", &someone("Ana", "Lind", "ana@example.test"));
    lab.run().await;
    lab.edit("house", &person, "company", Some("Alpha"));
    lab.clock.advance(HOUR);
    let engine = lab.engine(std::sync::Arc::new(Denying { network: lab.network(), system: "support" }));
    engine.sync(&[]).await.expect("it ends");
    let entry = lab.queue().await.pop().expect("an entry");
    assert_eq!(entry.kind, "refused", "{entry:?}");
    lab.clock.advance(HOUR);
    lab.run().await;
    assert_eq!(lab.company("support", "ana@example.test"), None, "nobody has looked at it");
    engine.decide(entry.id, &Decision::Done).await.expect("an answer");
    lab.clock.advance(HOUR);
    lab.run().await;
    assert_eq!(lab.company("support", "ana@example.test").as_deref(), Some("Alpha"));
    let left = lab.queue().await;
    assert!(left.iter().all(|entry| entry.closed_at.is_some()), "{left:?}");
}
