//! One story of the store, told on SQLite in memory, on an SQLite file and on PostgreSQL.
//!
//! Every chapter works in streams, runs and leases of its own, so they can be read alone.

use std::collections::BTreeSet;

use counterpart::budget::Ledger;
use counterpart::store::{
    ConflictFilter, ConflictState, Entity, Incoming, MessageState, NewConflict, NewEvent, NewMessage, OpResult,
    OpState, PlannedOp, Pruned, Reconciled, Record, RecordCounts, RecordState, RecordUpdate, Restated, Scan, Store,
    StreamState,
};
use counterpart_connectors::{ActKind, Call, Gate, Purpose};
use counterpart_core::business::{EventKind, Party};
use counterpart_core::identity::Evidence;
use counterpart_core::merge::{Agreed, AgreedSlot, Clock, Golden, GoldenSlot};
use counterpart_core::plan::{Action, Lane, Operation};
use counterpart_core::{FieldName, Fields, Slot, Value};
use serde_json::json;

use crate::sim::{Dice, SimClock};
use crate::store_databases::{Home, Kind};

const NOON: i64 = 1_790_000_000_000;
const CONTACT: &str = "contact";

async fn tell(kind: Kind) {
    let home = Home::new(kind).await;
    let store = home.open().await;
    schema(&store).await;
    leases(&store).await;
    runs(&store).await;
    pages(&store).await;
    absences(&store).await;
    many_records(&store).await;
    merged_far_ends(&store).await;
    tombstones(&store).await;
    reconciling(&store).await;
    touched_meanwhile(&store).await;
    read_anew(&store).await;
    outbox(&store).await;
    finished_pushes(&store).await;
    discarded_operations(&store).await;
    conflicts(&store).await;
    identity_keys(&store).await;
    long_keys(&store).await;
    facts(&store).await;
    busy_hours(&store).await;
    events_and_messages(&store).await;
    pruning(&store).await;
    if kind != Kind::Memory {
        let other = home.open_as("another customer").await;
        tenants_do_not_meet(&store, &other).await;
    }
    store.close().await.expect("it closes");
}

/// Keys that are longer than an index takes are keys like any other.
async fn long_keys(store: &Store) {
    let mut dice = Dice::new(11);
    let mut noise = || (0..5_000).map(|_| char::from(b'a' + (dice.below(26) as u8))).collect::<String>();
    let id = store.observe_one("long", CONTACT, &row("1", "ann"), NOON).await.unwrap();
    let key = ("external".to_owned(), noise());
    for _ in 0..2 {
        store.replace_keys(&[(id, vec![key.clone()])]).await.unwrap();
        let found = store.records_by_keys(CONTACT, std::slice::from_ref(&key)).await.unwrap();
        assert_eq!(found.iter().map(|record| record.id).collect::<Vec<_>>(), [id]);
    }
    assert!(store.records_by_keys(CONTACT, &[("external".to_owned(), noise())]).await.unwrap().is_empty());
    let long = noise();
    for _ in 0..2 {
        let conflicts = vec![conflict(&long, None, &[id])];
        store.save_reconciled(&Reconciled { conflicts, ..Reconciled::default() }, NOON).await.unwrap();
        assert_eq!(store.open_conflicts_of(&[], &[id]).await.unwrap().len(), 1);
    }
    store.close_conflicts(&[long], NOON).await.unwrap();
    assert!(store.open_conflicts_of(&[], &[id]).await.unwrap().is_empty());
}

/// What records say is read in another way: that is no change of theirs, and what changed meanwhile stays.
async fn read_anew(store: &Store) {
    const TICKET: &str = "ticket";
    let row = |id: &str, says: &str| Incoming { fields: json!({ "is": says }).to_string(), ..row(id, says) };
    let mut ids = Vec::new();
    for id in ["1", "2"] {
        ids.push(store.observe_one("anew", TICKET, &row(id, "old"), NOON).await.unwrap());
    }
    let as_of = store.revision().await.unwrap();
    store.save_events("anew", &[], &ids, as_of, NOON).await.unwrap();
    store.observe_one("anew", TICKET, &row("2", "changed"), NOON + 1).await.unwrap();
    let again = row("1", "again");
    let restated =
        |id: &i64| Restated { id: *id, fields: again.fields.clone(), fingerprint: again.fingerprint.clone() };
    store.restate(&ids.iter().map(restated).collect::<Vec<_>>(), as_of).await.unwrap();
    let mut say = Vec::new();
    for id in ["1", "2"] {
        say.push(store.document("anew", TICKET, id).await.unwrap().unwrap()["is"].clone());
    }
    assert_eq!(say, ["again", "changed"]);
    // Whoever shows the same brings nothing new.
    store.observe_one("anew", TICKET, &again, NOON + 2).await.unwrap();
    let waiting = store.changed("anew", TICKET, 0, 10).await.unwrap();
    assert_eq!(waiting.into_iter().map(|row| row.external_id).collect::<Vec<_>>(), ["2"]);
}

/// What is over for long is forgotten; what something rests on stays.
async fn pruning(store: &Store) {
    const LONG_AGO: i64 = NOON - 300 * 86_400_000;
    const LIMIT: i64 = NOON - 200 * 86_400_000;
    let stream = Stream { store, connection: "old" };
    // Readings: one that certifies, one that goes on, some that are over or were given up, one that is recent.
    let mut scans = Vec::new();
    for (number, mode) in (0..).zip(["full", "deep", "since", "since", "head"]) {
        let mut scan = store.begin_scan("old", CONTACT, mode, LONG_AGO + number).await.unwrap();
        stream.page(&[row("1", "ann"), row("2", "bob")], &mut scan, &StreamState::default(), LONG_AGO).await;
        scan.finished_at = (number != 1 && number != 3).then_some(LONG_AGO + 10);
        store.finish_scan(&scan).await.unwrap();
        scans.push(scan.id);
    }
    let recent = store.begin_scan("old", CONTACT, "other", LIMIT).await.unwrap().id;
    let state = StreamState { last_complete_scan: Some(scans[0]), open_scan: Some(scans[1]), ..StreamState::default() };
    store.save_stream_state("old", CONTACT, &state).await.unwrap();
    // The queue: two that are settled, one long ago and one just now, and one that waits since long ago.
    let ann = stream.get("1").await;
    let told = [("settled", Some("latest")), ("waits", None)];
    let conflicts = told.map(|(key, settled)| NewConflict {
        settled: settled.map(str::to_owned),
        ..conflict(&format!("old:{key}"), None, &[ann.id])
    });
    let result = Reconciled { conflicts: conflicts.to_vec(), ..Reconciled::default() };
    store.save_reconciled(&result, LONG_AGO).await.unwrap();
    let fresh = NewConflict { settled: Some("latest".into()), ..conflict("old:fresh", None, &[ann.id]) };
    let result = Reconciled { conflicts: vec![fresh], ..Reconciled::default() };
    store.save_reconciled(&result, LIMIT).await.unwrap();
    // Runs: one with an operation, two idle ones of a sync of which the later is the last, one under way, one that is recent.
    let syncs = ["old".to_owned()];
    let mut runs = Vec::new();
    for number in 0..5 {
        let run = store.start_run("sync", &syncs, "", LONG_AGO + number).await.unwrap();
        if number != 3 {
            let at = if number == 4 { LIMIT } else { LONG_AGO + 20 };
            store.finish_run(run, if number == 4 { "failed" } else { "ok" }, &json!({}), at).await.unwrap();
        }
        runs.push(run);
        let ledger = Ledger::new(store.clone(), SimClock::at(NOON), Vec::new(), run, "somebody".into());
        let call = Call {
            connection: "old",
            class: "all",
            lane: counterpart_connectors::Lane::Audit,
            purpose: Purpose::Find,
            cost: 2,
        };
        ledger.acquire(&call).await.unwrap();
        ledger.flush().await.unwrap();
    }
    let person = stream.person(&ann).await;
    stream.plan(&[stream.planned(runs[0], person, "1", Lane::Incremental)]).await;

    let pruned = store.prune(LIMIT).await.unwrap();
    assert_eq!((pruned.scans, pruned.conflicts, pruned.runs, pruned.is_cut()), (3, 1, 1, false));
    assert_eq!(store.prune(LIMIT).await.unwrap(), Pruned::default());
    for (number, scan) in scans.iter().enumerate() {
        assert_eq!(store.scan(*scan).await.unwrap().is_some(), number < 2, "scan {number}");
    }
    assert!(store.scan(recent).await.unwrap().is_some());
    let all = ConflictFilter { limit: 10_000, ..ConflictFilter::default() };
    let left = store.conflicts(&all).await.unwrap();
    let left: BTreeSet<&str> = left.iter().filter_map(|c| c.key.strip_prefix("old:")).collect();
    assert_eq!(left, BTreeSet::from(["fresh", "waits"]));
    for (number, run) in runs.iter().enumerate() {
        assert_eq!(store.run(*run).await.unwrap().is_some(), number != 1, "run {number}");
    }
    assert_eq!(store.ops(runs[0], None, 10).await.unwrap().len(), 1, "it can be taken back");
    assert_eq!(store.spent_by_connection().await.unwrap()["old"], 10, "what was called is counted as ever");
    assert!(store.spent(runs[1]).await.unwrap().is_empty());

    // A batch at a time.
    for number in 0..501 {
        let mut scan = store.begin_scan("many", CONTACT, "since", LONG_AGO + number).await.unwrap();
        scan.finished_at = Some(LONG_AGO + number);
        store.finish_scan(&scan).await.unwrap();
    }
    let first = store.prune(LIMIT).await.unwrap();
    assert_eq!((first.scans, first.is_cut()), (500, true));
    assert_eq!(store.prune(LIMIT).await.unwrap().scans, 1);
}

/// However often and by how many an event is told of, it is stored once, with its own messages.
async fn events_and_messages(store: &Store) {
    const ORDERS: usize = 600;
    let message = |order: &str, flow: &str, nth: &str| NewMessage {
        key: format!("{flow}|{order}|{nth}"),
        flow: flow.to_owned(),
        action: ActKind::Send,
        connection: "nowhere".to_owned(),
        party: Party::default(),
        conversation: None,
        text: Some(nth.to_owned()),
        state: MessageState::Dropped,
        reason: None,
    };
    let event = |order: String, kind: EventKind, nth: &str| NewEvent {
        messages: ["thanks", "note"].map(|flow| message(&order, flow, nth)).to_vec(),
        subject: json!({ "order": { "id": order } }),
        external_id: order,
        kind,
        nth: nth.to_owned(),
        happened_at: NOON,
        live: true,
        caused_by: None,
    };
    let order = |number: usize| format!("busy {number}");
    let mut events: Vec<NewEvent> =
        (0..ORDERS).map(|number| event(order(number), EventKind::OrderCreated, "")).collect();
    events.push(event(order(0), EventKind::ShipmentCreated, "parcel"));
    // The same event with other messages: the first counts.
    let twice = NewEvent { messages: vec![message("twice", "thanks", "twice")], ..events[1].clone() };
    events.push(twice);
    let save = || store.save_events("busy shop", &events, &[], 0, NOON);
    let (one, other) = tokio::join!(save(), save());
    assert_eq!(one.unwrap() + other.unwrap(), ORDERS as u64 + 1);
    let messages = store.messages(None, 0, 10_000).await.unwrap();
    let ours: Vec<_> = messages.iter().filter(|message| message.connection == "nowhere").collect();
    assert_eq!(ours.len(), 2 * (ORDERS + 1));
    for message in ours {
        let event = store.event(message.event_id).await.unwrap().expect("its event is there");
        assert_eq!(message.key.split('|').nth(1), Some(event.subject.id()), "{}", message.key);
    }
}

/// In which hours anything happened in a stream, and when last.
async fn busy_hours(store: &Store) {
    const HOUR: i64 = 3_600_000;
    let event = |number: i64, happened_at: i64| NewEvent {
        external_id: number.to_string(),
        kind: EventKind::OrderCreated,
        nth: String::new(),
        happened_at,
        live: false,
        caused_by: None,
        subject: json!({ "order": { "id": number.to_string() } }),
        messages: Vec::new(),
    };
    let times = [NOON - 50 * HOUR, NOON - 2 * HOUR, NOON - 2 * HOUR + 1, NOON];
    let events: Vec<NewEvent> = (0..).zip(times).map(|(number, at)| event(number, at)).collect();
    assert_eq!(store.save_events("quiet shop", &events, &[], 0, NOON).await.unwrap(), 4);
    // Those that are known, and one that comes twice.
    let more = [event(0, NOON - 9 * HOUR), event(9, NOON), event(9, NOON)];
    assert_eq!(store.save_events("quiet shop", &more, &[], 0, NOON).await.unwrap(), 1);
    let hours = store.busy_hours("quiet shop", "order", NOON - 10 * HOUR).await.unwrap();
    assert_eq!(hours, [NOON / HOUR - 2, NOON / HOUR]);
    assert_eq!(store.last_event_at("quiet shop", "order").await.unwrap(), Some(NOON));
    assert_eq!(store.last_event_at("quiet shop", "ticket").await.unwrap(), None);
}

#[tokio::test]
async fn story_in_memory() {
    tell(Kind::Memory).await;
}

#[tokio::test]
async fn story_in_a_file() {
    tell(Kind::File).await;
}

#[tokio::test]
async fn story_on_postgres() {
    tell(Kind::Postgres).await;
}

// ---- chapters ------------------------------------------------------------------------------------

async fn schema(store: &Store) {
    let state = store.schema().await.unwrap();
    assert_eq!(state.pending, Vec::<String>::new());
    assert_eq!(state.newer, Vec::<String>::new());
    assert!(store.migrate().await.unwrap().is_empty(), "nothing is applied twice");
    store.require_schema().await.unwrap();
}

async fn leases(store: &Store) {
    let minute = 60_000;
    let take = |holder: &'static str, now| store.lease("chat", holder, now, minute);
    assert_eq!(take("a", NOON).await.unwrap(), Some(1));
    assert_eq!(take("b", NOON + 1).await.unwrap(), None);
    assert_eq!(take("a", NOON + 2).await.unwrap(), Some(1), "one's own is extended");
    assert!(store.renew_lease("chat", "a", NOON + 3, minute).await.unwrap());
    assert!(!store.renew_lease("chat", "b", NOON + 3, minute).await.unwrap());
    let holder = store.lease_holder("chat").await.unwrap();
    assert_eq!(holder, Some(("a".into(), NOON + 3 + minute)));

    let expired = NOON + 3 + minute;
    assert!(!store.renew_lease("chat", "a", expired, minute).await.unwrap());
    assert_eq!(take("b", expired).await.unwrap(), Some(2), "it changed hands");
    store.release_lease("chat", "a").await.unwrap();
    assert_eq!(take("a", expired + 1).await.unwrap(), None, "only the holder gives it back");
    store.release_lease("chat", "b").await.unwrap();
    assert_eq!(take("a", expired + 1).await.unwrap(), Some(3));
    assert_eq!(store.lease_holder("unknown").await.unwrap(), None);
}

async fn runs(store: &Store) {
    let people = ["people".to_owned()];
    let first = store.start_run("sync", &people, "abc", NOON).await.unwrap();
    let other = store.start_run("sync", &["orders".into()], "abc", NOON).await.unwrap();
    let failed = store.fail_orphaned_runs(&people, NOON + 5).await.unwrap();
    assert_eq!(failed, [first], "runs of other syncs may be alive");
    let run = store.run(first).await.unwrap().unwrap();
    assert_eq!((run.verdict.as_deref(), run.finished_at), (Some("failed"), Some(NOON + 5)));

    let second = store.start_run("sync", &people, "abc", NOON + 9).await.unwrap();
    let summary = json!({ "created": 3 });
    store.finish_run(second, "ok", &summary, NOON + 10).await.unwrap();
    let latest = store.runs(2).await.unwrap();
    assert_eq!(latest.iter().map(|run| run.id).collect::<Vec<_>>(), [second, other]);
    assert_eq!((latest[0].summary.clone(), latest[0].syncs.clone()), (summary, people.to_vec()));
    assert_eq!(store.run(first + 1_000).await.unwrap(), None);
}

async fn pages(store: &Store) {
    let stream = Stream { store, connection: "chat" };
    let mut scan = stream.begin(NOON).await;
    let state = StreamState { open_scan: Some(scan.id), ..StreamState::default() };
    scan.cursor = Some("page 2".into());
    let page = [row("1", "ann"), row("2", "bob"), row("1", "ann again")];
    let outcome = stream.page(&page, &mut scan, &state, NOON).await;
    assert_eq!((outcome.new, outcome.changed, outcome.same, outcome.first_seen), (2, 0, 0, 2));
    assert_eq!((scan.pages, scan.rows, scan.distinct), (1, 3, 2));
    assert_eq!(store.scan(scan.id).await.unwrap(), Some(scan.clone()));
    assert_eq!(store.stream_state("chat", CONTACT).await.unwrap(), state);
    let ann = stream.get("1").await;
    assert_eq!(ann.fields, fields("ann again"), "the last one on the page counts");
    assert_eq!(outcome.changed_ids, [ann.id, ann.id + 1], "numbers are dense");
    assert!(ann.dirty && ann.entity_id.is_none() && ann.agreed.is_empty());

    // The same again, somebody moved to the next page, and one has changed.
    stream.settle(&[&ann]).await;
    let page = [row("1", "ann again"), row("2", "bobby"), row("3", "cleo")];
    let outcome = stream.page(&page, &mut scan, &state, NOON + 1).await;
    assert_eq!((outcome.new, outcome.changed, outcome.same, outcome.first_seen), (1, 1, 1, 1));
    assert_eq!(scan.distinct, 3);
    let after = stream.get("1").await;
    assert_eq!(after.observed_at, NOON, "an unchanged record is not written");
    assert!(!after.dirty);
    assert_eq!(stream.get("2").await.fields, fields("bobby"));

    // Another token for the same content is kept, and is no reason to reconcile.
    let token = Incoming { version: Some("v2".into()), ..row("1", "ann again") };
    let outcome = stream.page(&[token], &mut scan, &state, NOON + 2).await;
    assert_eq!((outcome.changed, outcome.same), (0, 1));
    let after = stream.get("1").await;
    assert_eq!((after.version.as_deref(), after.dirty), (Some("v2"), false));

    let counts = store.counts("chat", CONTACT).await.unwrap();
    let expected = RecordCounts { live: 3, unlinked: 3, dirty: 2, ..RecordCounts::default() };
    assert_eq!(counts, expected);
    let connections = ["chat".to_owned()];
    assert_eq!(store.count_dirty(CONTACT, &connections).await.unwrap(), 2);
    let first = store.dirty_records(CONTACT, &connections, 0, 1).await.unwrap();
    assert_eq!(first[0].external_id, "2");
    let second = store.dirty_records(CONTACT, &connections, first[0].id, 5).await.unwrap();
    assert_eq!(second.iter().map(|r| r.external_id.as_str()).collect::<Vec<_>>(), ["3"]);
    assert!(store.dirty_records(CONTACT, &[], 0, 5).await.unwrap().is_empty());

    // A page that cannot be stored changes nothing, the counters in memory included.
    let mut unknown = Scan { id: scan.id + 1_000_000, ..scan.clone() };
    let failed = store.observe_page("chat", CONTACT, &[row("9", "x")], &mut unknown, &state, NOON).await;
    assert!(failed.is_err());
    assert_eq!(unknown.rows, scan.rows);
    assert_eq!(store.record("chat", CONTACT, "9").await.unwrap(), None);
    let empty = stream.page(&[], &mut scan, &state, NOON + 3).await;
    assert_eq!((empty.new, empty.first_seen), (0, 0));
}

async fn absences(store: &Store) {
    let stream = Stream { store, connection: "absent" };
    let state = StreamState::default();
    let mut first = stream.begin(NOON).await;
    stream.page(&[row("1", "a"), row("2", "b"), row("3", "c")], &mut first, &state, NOON).await;
    assert_eq!(store.sweep_missing(first.id, NOON + 1).await.unwrap(), (0, 0));
    stream.settle(&[&stream.get("1").await, &stream.get("2").await, &stream.get("3").await]).await;

    // A reading of another kind in between does not disturb the marks.
    let mut second = stream.begin(NOON + 10).await;
    stream.page(&[row("1", "a")], &mut second, &state, NOON + 11).await;
    store.begin_scan("absent", CONTACT, "head", NOON + 11).await.unwrap();
    // Seen by other means since the scan began: not absent, though no page showed it.
    store.observe_one("absent", CONTACT, &row("3", "c2"), NOON + 12).await.unwrap();
    assert_eq!(store.sweep_missing(second.id, NOON + 13).await.unwrap(), (1, 0));
    assert_eq!(store.sweep_missing(second.id, NOON + 14).await.unwrap(), (0, 0), "once is enough");
    let gone = stream.get("2").await;
    assert_eq!((gone.state, gone.missing_scans, gone.dirty), (RecordState::Missing, 1, false));
    assert_eq!(stream.get("3").await.state, RecordState::Live);
    assert_eq!(store.count_missing("absent", CONTACT, 1).await.unwrap(), 1);
    assert_eq!(store.count_missing("absent", CONTACT, 2).await.unwrap(), 0);

    let mut third = stream.begin(NOON + 20).await;
    stream.page(&[row("1", "a"), row("3", "c2")], &mut third, &state, NOON + 21).await;
    assert_eq!(store.sweep_missing(third.id, NOON + 22).await.unwrap(), (1, 1));
    let gone = stream.get("2").await;
    assert_eq!((gone.missing_scans, gone.dirty), (2, true));
    let mut fourth = stream.begin(NOON + 30).await;
    stream.page(&[row("1", "a"), row("3", "c2")], &mut fourth, &state, NOON + 31).await;
    assert_eq!(store.sweep_missing(fourth.id, NOON + 32).await.unwrap(), (0, 0), "known by now");

    let mut fifth = stream.begin(NOON + 40).await;
    let back = stream.page(&[row("2", "b")], &mut fifth, &state, NOON + 41).await;
    assert_eq!(back.changed, 1, "whoever shows up again is alive");
    let back = stream.get("2").await;
    assert_eq!((back.state, back.missing_scans, back.dirty), (RecordState::Live, 0, true));
    assert!(store.sweep_missing(fifth.id + 1_000_000, NOON).await.is_err());
}

/// More records than one batch of statements and one chunk of marks hold.
async fn many_records(store: &Store) {
    let stream = Stream { store, connection: "many" };
    let state = StreamState::default();
    let mut scan = stream.begin(NOON).await;
    let rows: Vec<Incoming> = (0..5_000).map(|n| row(&format!("{n:05}"), "x")).collect();
    for page in rows.chunks(1_250) {
        let outcome = stream.page(page, &mut scan, &state, NOON).await;
        assert_eq!((outcome.new, outcome.first_seen), (1_250, 1_250));
    }
    store.sweep_missing(scan.id, NOON + 1).await.unwrap();
    let mut again = stream.begin(NOON + 10).await;
    for page in rows[7..].chunks(1_250) {
        let outcome = stream.page(page, &mut again, &state, NOON + 11).await;
        assert_eq!(outcome.same, page.len() as u64);
    }
    assert_eq!(again.distinct, 4_993);
    assert_eq!(store.sweep_missing(again.id, NOON + 12).await.unwrap(), (7, 0));
    let connections = ["many".to_owned()];
    let (mut after, mut seen) = (0, BTreeSet::new());
    loop {
        let page = store.dirty_records(CONTACT, &connections, after, 700).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        seen.extend(page.into_iter().map(|record| record.external_id));
    }
    assert_eq!(seen.len(), 5_000);
}

async fn merged_far_ends(store: &Store) {
    let stream = Stream { store, connection: "merging" };
    let state = StreamState::default();
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("old", "ann"), row("new", "ann b")], &mut scan, &state, NOON).await;
    let (old, new) = (stream.get("old").await, stream.get("new").await);
    let person = stream.person(&old).await;
    stream.settle(&[&new]).await;
    store.set_alias("merging", CONTACT, "old", "new", NOON + 1).await.unwrap();

    assert_eq!(stream.get("old").await.id, new.id, "the old id means the survivor");
    let survivor = stream.get("new").await;
    assert_eq!((survivor.entity_id, survivor.dirty), (Some(person), true));
    let old = store.records(&[old.id]).await.unwrap().remove(0);
    assert_eq!((old.state, old.dirty), (RecordState::Merged, false));
    let members = store.records_of_entities(CONTACT, &[person]).await.unwrap();
    assert_eq!(members.iter().map(|record| record.id).collect::<Vec<_>>(), [new.id]);

    // A page that was read before the merge: a sighting of the survivor, and nothing else.
    let mut stale = stream.begin(NOON + 10).await;
    let outcome = stream.page(&[row("old", "stale")], &mut stale, &state, NOON + 11).await;
    assert_eq!((outcome.new, outcome.changed, outcome.first_seen), (0, 0, 1));
    assert_eq!(store.sweep_missing(stale.id, NOON + 12).await.unwrap(), (0, 0));
    assert_eq!(stream.get("new").await.fields, fields("ann b"));
    // Merged again, in a chain; and what cannot be followed ends.
    stream.page(&[row("newer", "ann c")], &mut stale, &state, NOON + 13).await;
    store.set_alias("merging", CONTACT, "new", "newer", NOON + 14).await.unwrap();
    assert_eq!(stream.get("old").await.external_id, "newer");
    store.set_alias("merging", CONTACT, "newer", "old", NOON + 15).await.unwrap();
    assert_eq!(store.record("merging", CONTACT, "old").await.unwrap(), None);
    store.set_alias("merging", CONTACT, "nobody", "old", NOON + 16).await.unwrap();
}

async fn tombstones(store: &Store) {
    let stream = Stream { store, connection: "graves" };
    let state = StreamState::default();
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("1", "ann")], &mut scan, &state, NOON).await;
    stream.settle(&[&stream.get("1").await]).await;
    let gone = |id: &str| Incoming { deleted: true, ..row(id, "nothing") };
    let outcome = stream.page(&[gone("1"), gone("2")], &mut scan, &state, NOON + 1).await;
    assert_eq!(outcome.changed, 1);
    let ann = stream.get("1").await;
    assert_eq!((ann.state, ann.missing_scans, ann.dirty), (RecordState::Missing, 2, true));
    assert_eq!(ann.fields, fields("ann"), "what it said last is kept");
    let unknown = stream.get("2").await;
    assert_eq!((unknown.state, unknown.dirty), (RecordState::Deleted, false));
    let outcome = stream.page(&[gone("1")], &mut scan, &state, NOON + 2).await;
    assert_eq!(outcome.same, 1);
}

async fn reconciling(store: &Store) {
    let stream = Stream { store, connection: "meeting" };
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("1", "ann"), row("2", "ann")], &mut scan, &StreamState::default(), NOON).await;
    let (one, two) = (stream.get("1").await, stream.get("2").await);
    let ids = store.new_entity_ids(3).await.unwrap();
    assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
    let entity = Entity { id: ids[0], kind: CONTACT.into(), golden: golden("ann"), created_at: NOON };
    let evidence = Evidence { keys: Vec::new(), by: "rule".into() };
    let update = |record: &Record| RecordUpdate {
        entity_id: Some(entity.id),
        agreed: Some(agreed("ann")),
        evidence: Some(evidence.clone()),
        linked_at: Some(NOON),
        apart: Some([ids[1]].into()),
        ..RecordUpdate::settled(record.id)
    };
    let result = Reconciled {
        entities: vec![entity.clone()],
        records: vec![update(&one), update(&two)],
        ..Reconciled::default()
    };
    store.save_reconciled(&result, NOON + 1).await.unwrap();
    assert_eq!(store.entities(&[ids[0], ids[0], ids[2]]).await.unwrap(), std::slice::from_ref(&entity));
    let linked = store.records_of_entities(CONTACT, &[entity.id]).await.unwrap();
    assert_eq!(linked.len(), 2);
    let one = &linked[0];
    assert_eq!((one.entity_id, one.dirty, one.linked_at), (Some(entity.id), false, Some(NOON)));
    assert_eq!((one.agreed.clone(), one.evidence.clone()), (agreed("ann"), Some(evidence)));
    assert_eq!(one.apart, [ids[1]].into());

    // What an update does not name stays; the last version of anything counts.
    let newer = Entity { golden: golden("anna"), ..entity.clone() };
    let result = Reconciled {
        entities: vec![entity.clone(), newer.clone()],
        records: vec![RecordUpdate {
            state: Some(RecordState::Deleted),
            agreed: Some(agreed("anna")),
            ..RecordUpdate::due(one.id)
        }],
        ..Reconciled::default()
    };
    store.save_reconciled(&result, NOON + 2).await.unwrap();
    let one = stream.get("1").await;
    assert_eq!((one.entity_id, one.state, one.dirty), (Some(entity.id), RecordState::Deleted, true));
    assert_eq!(one.agreed, agreed("anna"));
    assert!(one.evidence.is_some());
    assert_eq!(store.entities(&[entity.id]).await.unwrap(), [newer]);

    // All or nothing: a record cannot be linked to an entity that is not there.
    let broken = Reconciled {
        entities: vec![Entity { id: ids[1], ..entity.clone() }],
        records: vec![RecordUpdate { entity_id: Some(ids[2]), ..RecordUpdate::settled(two.id) }],
        ..Reconciled::default()
    };
    assert!(store.save_reconciled(&broken, NOON + 3).await.is_err());
    assert!(store.entities(&[ids[1]]).await.unwrap().is_empty());
}

/// A record that changes while it is being reconciled is looked at again.
async fn touched_meanwhile(store: &Store) {
    let stream = Stream { store, connection: "busy" };
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("1", "ann"), row("2", "bob")], &mut scan, &StreamState::default(), NOON).await;
    let as_of = store.revision().await.unwrap();
    let due = store.dirty_records(CONTACT, &["busy".into()], 0, 10).await.unwrap();
    store.observe_one("busy", CONTACT, &row("1", "ann, edited"), NOON + 1).await.unwrap();
    let result = Reconciled {
        records: due.iter().map(|record| RecordUpdate::settled(record.id)).collect(),
        as_of: Some(as_of),
        ..Reconciled::default()
    };
    store.save_reconciled(&result, NOON + 2).await.unwrap();
    assert!(stream.get("1").await.dirty);
    assert!(!stream.get("2").await.dirty);
}

async fn outbox(store: &Store) {
    let stream = Stream { store, connection: "sending" };
    let run = store.start_run("sync", &["people".into()], "", NOON).await.unwrap();
    let mut ops = vec![
        stream.planned(run, 1, "a", Lane::Backfill),
        stream.planned(run, 2, "b", Lane::Incremental),
        stream.planned(run, 3, "c", Lane::Incremental),
    ];
    stream.plan(&ops).await;
    let ids: BTreeSet<String> = ops.iter().map(|op| format!("{run}-{}", op.op.id)).collect();
    let first = store.ops(run, None, 2).await.unwrap();
    let rest = store.ops(run, Some(&first[1].id), 2).await.unwrap();
    let listed: Vec<String> = first.iter().chain(&rest).map(|row| row.id.clone()).collect();
    assert_eq!(listed, ids.into_iter().collect::<Vec<_>>(), "by id, page by page");
    assert!(store.next_ops(run, "sending", 10).await.unwrap().is_empty(), "not approved yet");
    assert_eq!(store.promote(run).await.unwrap(), 3);
    let next = store.next_ops(run, "sending", 10).await.unwrap();
    assert_eq!(next.len(), 3);
    assert_eq!(next[2].op.lane, Lane::Backfill, "most urgent first");
    assert!(next[0].id < next[1].id);
    assert!(store.next_ops(run, "elsewhere", 10).await.unwrap().is_empty());

    let (one, two) = (next[0].clone(), next[1].clone());
    store.mark_sending(&one.id, NOON + 1).await.unwrap();
    let left = store.sending_left(&["sending".into()]).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].attempts, left[0].updated_at), (1, NOON + 1));
    assert!(store.has_open_op(one.entity_id, "sending").await.unwrap());
    assert!(!store.has_open_op(one.entity_id, "elsewhere").await.unwrap());
    store.set_op(&one.id, OpState::Unknown, Some("cut"), None, NOON + 2).await.unwrap();
    let unknown = store.open_unknown(&["sending".into()]).await.unwrap();
    assert_eq!(unknown[0].error.as_deref(), Some("cut"));
    store.set_op(&two.id, OpState::Done, None, Some(&json!({ "email": "x" })), NOON + 3).await.unwrap();
    let done = store.op(&two.id).await.unwrap().unwrap();
    assert_eq!((done.state, done.answer), (OpState::Done, Some(json!({ "email": "x" }))));
    assert!(!store.has_open_op(two.entity_id, "sending").await.unwrap());
    store.postpone_op(&next[2].id, NOON + 99, NOON + 4).await.unwrap();
    assert_eq!(store.op(&next[2].id).await.unwrap().unwrap().not_before, Some(NOON + 99));
    let counts = store.op_counts(run).await.unwrap();
    let states: Vec<_> = counts.iter().map(|c| (c.state, c.n, c.cost, c.cleared)).collect();
    let expected = [(OpState::Pending, 1, 2, 1), (OpState::Done, 1, 2, 1), (OpState::Unknown, 1, 2, 1)];
    assert_eq!(states, expected);

    // Planned again in the same run: what was given up starts anew, what is done stays done.
    stream.plan(&ops).await;
    assert_eq!(store.op(&one.id).await.unwrap().unwrap().state, OpState::Planned);
    assert_eq!(store.op(&two.id).await.unwrap().unwrap().state, OpState::Done);
    // In a later run it is another row.
    let later = store.start_run("sync", &["people".into()], "", NOON + 9).await.unwrap();
    ops.iter_mut().for_each(|op| op.run_id = later);
    stream.plan(&ops).await;
    assert_eq!(store.ops(later, None, 10).await.unwrap().len(), 3);
    assert_eq!(store.ops(run, None, 10).await.unwrap().len(), 3);
    let writes = store.last_writes(two.entity_id).await.unwrap();
    assert_eq!(writes.iter().map(|row| row.run_id).collect::<Vec<_>>(), [run]);
    assert!(store.mark_sending("unknown", NOON).await.is_err());
}

async fn finished_pushes(store: &Store) {
    let stream = Stream { store, connection: "answers" };
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("1", "ann")], &mut scan, &StreamState::default(), NOON).await;
    let ann = stream.get("1").await;
    let person = stream.person(&ann).await;
    let run = store.start_run("sync", &["people".into()], "", NOON).await.unwrap();
    let create = stream.planned(run, person, "new", Lane::Incremental);
    let mut update = stream.planned(run, person, "1", Lane::Incremental);
    update.record_id = Some(ann.id);
    stream.plan(&[create.clone(), update.clone()]).await;
    let finished = |op: &PlannedOp, record: Option<Incoming>| OpResult {
        op_id: format!("{run}-{}", op.op.id),
        state: OpState::Done,
        error: None,
        answer: None,
        connection: "answers".into(),
        stream: CONTACT.into(),
        record,
        entity_id: Some(person),
        deleted: false,
        absent: false,
        agreed: Some(agreed("anna")),
        dirty: false,
        conflict: None,
    };

    // A create: the record as answered is there, linked, with its base, and an echo is no change.
    let answer = row("77", "anna");
    store.finish_push(&finished(&create, Some(answer.clone())), NOON + 5).await.unwrap();
    let created = stream.get("77").await;
    assert_eq!((created.entity_id, created.dirty), (Some(person), false));
    assert_eq!((created.agreed.clone(), created.linked_at), (agreed("anna"), Some(NOON + 5)));
    let op = store.op(&format!("{run}-{}", create.op.id)).await.unwrap().unwrap();
    assert_eq!((op.state, op.record_id), (OpState::Done, Some(created.id)));
    let outcome = stream.page(&[answer], &mut scan, &StreamState::default(), NOON + 6).await;
    assert_eq!(outcome.same, 1);

    // An update whose answer shows nothing still moves the base.
    store.finish_push(&finished(&update, None), NOON + 7).await.unwrap();
    let ann = stream.get("1").await;
    assert_eq!((ann.agreed.clone(), ann.dirty), (agreed("anna"), false));
    assert_eq!(ann.linked_at, Some(NOON), "it was linked before");
    // Somebody edited it meanwhile: that is not wiped away by our own write.
    store.observe_one("answers", CONTACT, &row("1", "edited"), NOON + 8).await.unwrap();
    let refused = OpResult {
        state: OpState::Refused,
        error: Some("invalid".into()),
        conflict: Some(NewConflict { kind: "refused".into(), ..conflict("refused:1", Some(person), &[ann.id]) }),
        ..finished(&update, Some(row("1", "anna")))
    };
    store.finish_push(&refused, NOON + 9).await.unwrap();
    assert!(stream.get("1").await.dirty);
    let open = store.open_conflicts_of(&[person], &[]).await.unwrap();
    assert_eq!(open.iter().map(|conflict| conflict.kind.as_str()).collect::<Vec<_>>(), ["refused"]);
    // A deletion.
    let deleted = OpResult { deleted: true, agreed: None, ..finished(&update, None) };
    store.finish_push(&deleted, NOON + 10).await.unwrap();
    assert_eq!(stream.get("1").await.state, RecordState::Deleted);
    // All or nothing.
    let unknown = OpResult { op_id: "unknown".into(), ..finished(&create, Some(row("78", "x"))) };
    assert!(store.finish_push(&unknown, NOON + 11).await.is_err());
    assert_eq!(store.record("answers", CONTACT, "78").await.unwrap(), None);
}

async fn discarded_operations(store: &Store) {
    let stream = Stream { store, connection: "discarding" };
    let mut scan = stream.begin(NOON).await;
    let rows = [row("1", "ann"), row("2", "bob"), row("3", "cleo")];
    stream.page(&rows, &mut scan, &StreamState::default(), NOON).await;
    let mut people = Vec::new();
    for id in ["1", "2", "3"] {
        people.push(stream.person(&stream.get(id).await).await);
    }
    let run = store.start_run("plan", &["people".into()], "", NOON).await.unwrap();
    let ops = [
        stream.planned(run, people[0], "a", Lane::Incremental),
        stream.planned(run, people[1], "b", Lane::Incremental),
    ];
    stream.plan(&ops).await;
    let sent = format!("{run}-{}", ops[1].op.id);
    store.set_op(&sent, OpState::Done, None, None, NOON).await.unwrap();
    assert!(!stream.get("1").await.dirty);
    assert_eq!(store.discard_unsent(&["elsewhere".into()]).await.unwrap(), 0);
    assert_eq!(store.discard_unsent(&["discarding".into()]).await.unwrap(), 1);
    assert!(stream.get("1").await.dirty, "it still needs what was discarded");
    assert!(!stream.get("2").await.dirty, "what was done is not discarded");
    assert!(!stream.get("3").await.dirty);
    assert_eq!(store.ops(run, None, 10).await.unwrap().len(), 1);
}

async fn conflicts(store: &Store) {
    let stream = Stream { store, connection: "reviewing" };
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("1", "ann"), row("2", "bob")], &mut scan, &StreamState::default(), NOON).await;
    let (ann, bob) = (stream.get("1").await, stream.get("2").await);
    let person = stream.person(&ann).await;
    stream.settle(&[&bob]).await;
    let before = store.count_open().await.unwrap();
    let here = ["reviewing".to_owned()];
    assert_eq!(store.count_open_at(&here).await.unwrap(), 0);
    let result = Reconciled {
        conflicts: vec![
            conflict("ann:email", Some(person), &[]),
            NewConflict { kind: "possible".into(), ..conflict("bob", None, &[bob.id]) },
            NewConflict { settled: Some("latest".into()), ..conflict("ann:phone", Some(person), &[]) },
        ],
        ..Reconciled::default()
    };
    store.save_reconciled(&result, NOON + 1).await.unwrap();
    assert_eq!(store.count_open_at(&here).await.unwrap(), 2);
    assert_eq!(store.count_open_at(&["chat".into()]).await.unwrap(), 0);
    let count = store.count_open().await.unwrap();
    assert_eq!(count["field"] - before.get("field").unwrap_or(&0), 1);
    let open = store.open_conflicts_of(&[person], &[bob.id, ann.id]).await.unwrap();
    assert_eq!(open.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["ann:email", "bob"]);

    // The same again: the newest detail, one row.
    let again = NewConflict { detail: json!({ "seen": "twice" }), ..conflict("ann:email", Some(person), &[]) };
    let result = Reconciled { conflicts: vec![again.clone(), again], ..Reconciled::default() };
    store.save_reconciled(&result, NOON + 2).await.unwrap();
    let open = store.open_conflicts_of(&[person], &[]).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].detail.clone(), open[0].opened_at), (json!({ "seen": "twice" }), NOON + 1));

    // A person answers: the records are looked at again, and the answer waits until it was followed.
    let id = open[0].id;
    assert!(!stream.get("1").await.dirty);
    store.resolve_conflict(id, &json!({ "take": "chat" }), NOON + 3).await.unwrap();
    assert!(stream.get("1").await.dirty);
    let answered = store.open_conflicts_of(&[person], &[]).await.unwrap();
    assert_eq!(answered[0].resolution, Some(json!({ "take": "chat" })));
    assert_eq!(answered[0].state, ConflictState::Resolved);
    assert_eq!(store.count_open_at(&here).await.unwrap(), 1);
    let result = Reconciled { closed_conflicts: vec![id], ..Reconciled::default() };
    store.save_reconciled(&result, NOON + 4).await.unwrap();
    assert!(store.open_conflicts_of(&[person], &[]).await.unwrap().is_empty());
    assert!(store.resolve_conflict(id, &json!({}), NOON).await.is_err(), "it is over");
    let closed = store.conflict(id).await.unwrap().unwrap();
    assert_eq!((closed.closed_at, closed.resolution), (Some(NOON + 4), Some(json!({ "take": "chat" }))));
    // Once over, the same may come up again.
    let result = Reconciled { conflicts: vec![conflict("ann:email", Some(person), &[])], ..Reconciled::default() };
    store.save_reconciled(&result, NOON + 5).await.unwrap();
    store.close_conflicts(&["ann:email".into(), "unknown".into()], NOON + 6).await.unwrap();
    assert!(store.open_conflicts_of(&[person], &[]).await.unwrap().is_empty());

    let filter = ConflictFilter { open_only: true, kind: Some("possible".into()), limit: 10, after: None };
    let listed = store.conflicts(&filter).await.unwrap();
    assert_eq!(listed.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["bob"]);
    assert_eq!(listed[0].record_ids, [bob.id]);
    let filter = ConflictFilter { limit: 1, after: Some(id), ..ConflictFilter::default() };
    assert!(store.conflicts(&filter).await.unwrap()[0].id > id);
}

async fn identity_keys(store: &Store) {
    let stream = Stream { store, connection: "knowing" };
    let mut scan = stream.begin(NOON).await;
    stream.page(&[row("1", "ann"), row("2", "ann"), row("3", "x")], &mut scan, &StreamState::default(), NOON).await;
    let ids: Vec<i64> = vec![stream.get("1").await.id, stream.get("2").await.id, stream.get("3").await.id];
    let key = |kind: &str, value: &str| (kind.to_owned(), value.to_owned());
    let rows = [
        (ids[0], vec![key("email", "a@x.y"), key("phone", "+4612345")]),
        (ids[1], vec![key("email", "a@x.y"), key("email", "a@x.y")]),
        (ids[2], vec![key("phone", "a@x.y")]),
    ];
    store.replace_keys(&rows).await.unwrap();
    let find = async |keys: &[(String, String)]| {
        let found = store.records_by_keys(CONTACT, keys).await.unwrap();
        found.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(find(&[key("email", "a@x.y")]).await, [ids[0], ids[1]]);
    assert_eq!(find(&[key("email", "a@x.y"), key("phone", "a@x.y")]).await, ids);
    assert!(find(&[key("email", "A@x.y")]).await.is_empty());
    assert!(store.records_by_keys("order", &[key("email", "a@x.y")]).await.unwrap().is_empty());
    store.replace_keys(&[(ids[0], vec![key("email", "b@x.y")]), (ids[2], vec![])]).await.unwrap();
    assert_eq!(find(&[key("email", "a@x.y")]).await, [ids[1]]);
    assert_eq!(find(&[key("email", "b@x.y"), key("phone", "+4612345")]).await, [ids[0]]);
    let gone = RecordUpdate { state: Some(RecordState::Deleted), ..RecordUpdate::settled(ids[1]) };
    store.save_reconciled(&Reconciled { records: vec![gone], ..Reconciled::default() }, NOON).await.unwrap();
    assert!(find(&[key("email", "a@x.y")]).await.is_empty(), "the deleted are not met again");
}

async fn facts(store: &Store) {
    assert_eq!(store.meta_get("key").await.unwrap(), None);
    store.meta_set("key", "1").await.unwrap();
    store.meta_set("key", "2").await.unwrap();
    assert_eq!(store.meta_get("key").await.unwrap().as_deref(), Some("2"));
}

async fn tenants_do_not_meet(store: &Store, other: &Store) {
    let here = Stream { store, connection: "tenant" };
    let there = Stream { store: other, connection: "tenant" };
    let mut scan = here.begin(NOON).await;
    here.page(&[row("1", "ann")], &mut scan, &StreamState::default(), NOON).await;
    let mine = here.get("1").await;
    assert_eq!(other.record("tenant", CONTACT, "1").await.unwrap(), None);
    assert!(other.records(&[mine.id]).await.unwrap().is_empty());
    let mut scan = there.begin(NOON).await;
    there.page(&[row("1", "bob")], &mut scan, &StreamState::default(), NOON).await;
    assert_ne!(there.get("1").await.id, mine.id, "numbers are unique across tenants");
    assert_eq!(here.get("1").await.fields, fields("ann"));
    assert!(other.runs(10).await.unwrap().is_empty());
    assert_eq!(other.lease("chat", "x", NOON, 1).await.unwrap(), Some(1));
    assert_eq!(other.meta_get("key").await.unwrap(), None);
}

// ---- what the chapters share -----------------------------------------------------------------------

/// One connection's stream of contacts.
struct Stream<'a> {
    store: &'a Store,
    connection: &'static str,
}

impl Stream<'_> {
    async fn begin(&self, now: i64) -> Scan {
        self.store.begin_scan(self.connection, CONTACT, "full", now).await.unwrap()
    }

    async fn page(
        &self,
        rows: &[Incoming],
        scan: &mut Scan,
        state: &StreamState,
        now: i64,
    ) -> counterpart::store::PageOutcome {
        self.store.observe_page(self.connection, CONTACT, rows, scan, state, now).await.unwrap()
    }

    async fn get(&self, id: &str) -> Record {
        let record = self.store.record(self.connection, CONTACT, id).await.unwrap();
        record.expect("the record is there")
    }

    async fn settle(&self, records: &[&Record]) {
        let records = records.iter().map(|record| RecordUpdate::settled(record.id)).collect();
        let result = Reconciled { records, ..Reconciled::default() };
        self.store.save_reconciled(&result, NOON).await.unwrap();
    }

    /// Links a record to a person of its own and settles it.
    async fn person(&self, record: &Record) -> i64 {
        let id = self.store.new_entity_ids(1).await.unwrap()[0];
        let entity = Entity { id, kind: CONTACT.into(), golden: golden("ann"), created_at: NOON };
        let link = RecordUpdate { entity_id: Some(id), linked_at: Some(NOON), ..RecordUpdate::settled(record.id) };
        let result = Reconciled { entities: vec![entity], records: vec![link], ..Reconciled::default() };
        self.store.save_reconciled(&result, NOON).await.unwrap();
        id
    }

    /// An update of two calls that clears one field.
    fn planned(&self, run_id: i64, entity_id: i64, external_id: &str, lane: Lane) -> PlannedOp {
        let op = Operation::new(
            self.connection.into(),
            CONTACT.into(),
            Action::Update { external_id: external_id.into() },
            Fields::from([(field("email"), Slot::Cleared), (field("company"), text("x"))]),
            Fields::new(),
            2,
            lane,
            "because".into(),
            Vec::new(),
            Vec::new(),
        );
        PlannedOp { op, entity_id, record_id: None, sync: "people".into(), run_id }
    }

    async fn plan(&self, operations: &[PlannedOp]) {
        let result = Reconciled { operations: operations.to_vec(), ..Reconciled::default() };
        self.store.save_reconciled(&result, NOON).await.unwrap();
    }
}

fn field(name: &str) -> FieldName {
    FieldName::parse(name).expect("a known field")
}

fn text(text: &str) -> Slot {
    Slot::Set(Value::Text(text.into()))
}

fn fields(company: &str) -> Fields {
    Fields::from([(field("company"), text(company))])
}

fn agreed(company: &str) -> Agreed {
    let slot = AgreedSlot { here: text(company), means: text(company) };
    Agreed::from([(field("company"), slot)])
}

fn golden(company: &str) -> Golden {
    let slot =
        GoldenSlot { slot: text(company), from: "chat".into(), at: NOON, clock: Clock::Vendor, rule: "first".into() };
    Golden::from([(field("company"), slot)])
}

fn row(id: &str, company: &str) -> Incoming {
    Incoming {
        external_id: id.into(),
        remote: json!({ "id": id, "company": company }).to_string(),
        fields: serde_json::to_string(&fields(company)).expect("it is JSON"),
        fingerprint: format!("print of {company}"),
        remote_updated_at: Some(NOON - 1),
        version: None,
        deleted: false,
    }
}

fn conflict(key: &str, entity_id: Option<i64>, record_ids: &[i64]) -> NewConflict {
    NewConflict {
        kind: "field".into(),
        key: key.into(),
        entity_id,
        record_ids: record_ids.to_vec(),
        field: Some("email".into()),
        detail: json!({ "why": "two values" }),
        settled: None,
    }
}
