//! Two processes and many tasks on one database: nothing is lost, and nobody hears that it was busy.

use std::collections::BTreeSet;

use counterpart::store::{Incoming, RecordState, Store, StreamState};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait};

use crate::store_databases::{Home, Kind};

const TASKS: usize = 8;
const ROUNDS: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost_in_a_file() {
    crowd(Kind::File).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost_on_postgres() {
    crowd(Kind::Postgres).await;
}

/// Numbers are drawn, leases change hands and pages are stored by all at once: each is a value that is read,
/// changed and written back.
async fn crowd(kind: Kind) {
    let home = Home::new(kind).await;
    // Both bring an empty database up to date at the same moment.
    let (one, two) = tokio::join!(home.open(), home.open());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = if task % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(work(store, task))
        })
        .collect();
    let (mut numbers, mut epochs) = (Vec::new(), Vec::new());
    for task in tasks {
        let (some, won) = task.await.expect("no task fails");
        numbers.extend(some);
        epochs.extend(won);
    }
    let drawn = TASKS * ROUNDS;
    let distinct: BTreeSet<i64> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), drawn, "every number once");
    assert_eq!(distinct.last().copied(), i64::try_from(drawn).ok(), "and none left out");
    let distinct: BTreeSet<i64> = epochs.iter().copied().collect();
    assert_eq!(distinct.len(), epochs.len(), "every change of hands has its own epoch");
    for task in 0..TASKS {
        let counts = one.counts(&format!("c{task}"), "contact").await.unwrap();
        assert_eq!(counts.live, ROUNDS as u64);
    }
}

async fn work(store: Store, task: usize) -> (Vec<i64>, Vec<i64>) {
    let (connection, holder) = (format!("c{task}"), format!("h{task}"));
    let state = StreamState::default();
    let mut scan = store.begin_scan(&connection, "contact", "full", 1).await.unwrap();
    let (mut numbers, mut epochs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        numbers.extend(store.new_entity_ids(1).await.unwrap());
        // A lease of no length: whoever comes next takes it over.
        epochs.extend(store.lease("shared", &holder, 1, 0).await.unwrap());
        let row = Incoming {
            external_id: round.to_string(),
            remote: "{}".into(),
            fields: "{}".into(),
            fingerprint: "same".into(),
            remote_updated_at: None,
            version: None,
            deleted: false,
        };
        store.observe_page(&connection, "contact", &[row], &mut scan, &state, 2).await.unwrap();
    }
    assert_eq!(scan.distinct, ROUNDS as i64);
    (numbers, epochs)
}

/// What a record of the desk says, as of a time at the desk.
fn ticket(says: &str, updated_at: i64) -> Incoming {
    Incoming {
        external_id: "1".into(),
        remote: "{}".into(),
        fields: "{}".into(),
        fingerprint: says.into(),
        remote_updated_at: Some(updated_at),
        version: None,
        deleted: false,
    }
}

/// Does `work` while a webhook's record is being stored elsewhere (`change` of its row), and lets that commit as soon as the
/// work waits for it.
async fn beside<T: Send + 'static>(home: &Home, change: &str, work: impl Future<Output = T> + Send + 'static) -> T {
    let hook = Database::connect(&home.url).await.expect("the server answers");
    let tx = hook.begin().await.expect("it begins");
    // As every writer of records does.
    tx.execute_unprepared("UPDATE sequence SET next = next + 1 WHERE name = 'revision'").await.unwrap();
    tx.execute_unprepared(&format!("UPDATE record SET {change} WHERE external_id = '1'")).await.unwrap();
    let looker = Database::connect(&home.url).await.expect("the server answers");
    let work = tokio::spawn(work);
    while !somebody_waits(&looker).await {
        assert!(!work.is_finished(), "nothing kept the two apart");
    }
    tx.commit().await.expect("it commits");
    work.await.expect("the work ends")
}

async fn somebody_waits(looker: &DatabaseConnection) -> bool {
    let waiting =
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let row = looker.query_one_raw(Statement::from_string(DbBackend::Postgres, waiting)).await.expect("it answers");
    row.expect("a count").try_get::<i64>("", "n").expect("a number") > 0
}

/// Given a page on which a ticket is open, when a webhook shows it closed while the page is being stored, then it stays closed.
#[tokio::test]
async fn a_page_never_puts_back_what_was_stored_beside_it() {
    let home = Home::new(Kind::Postgres).await;
    let store = home.open().await;
    let id = store.observe_one("desk", "ticket", &ticket("open", 10), 1).await.unwrap();
    let mut scan = store.begin_scan("desk", "ticket", "full", 2).await.unwrap();
    let page = {
        let store = store.clone();
        async move {
            let row = ticket("open, and touched", 20);
            store.observe_page("desk", "ticket", &[row], &mut scan, &StreamState::default(), 3).await.unwrap()
        }
    };
    let outcome = beside(&home, "fingerprint = 'closed', remote_updated_at = 30", page).await;
    let known = store.records(&[id]).await.unwrap();
    assert_eq!((known[0].fingerprint.as_str(), outcome.changed), ("closed", 0));
}

/// Given a whole reading without a record, when a webhook shows the record while absences are counted, then it is not absent.
#[tokio::test]
async fn a_record_that_shows_up_while_absences_are_counted_is_there() {
    let home = Home::new(Kind::Postgres).await;
    let store = home.open().await;
    let id = store.observe_one("desk", "ticket", &ticket("open", 10), 1).await.unwrap();
    let scan = store.begin_scan("desk", "ticket", "full", 2).await.unwrap();
    let sweep = {
        let store = store.clone();
        async move { store.sweep_missing(scan.id, 3).await.unwrap() }
    };
    let absent = beside(&home, "observed_at = 3", sweep).await;
    let known = store.records(&[id]).await.unwrap();
    assert_eq!((absent, known[0].state), ((0, 0), RecordState::Live));
}
