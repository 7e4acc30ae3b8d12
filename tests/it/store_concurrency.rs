//! Two processes and many tasks on one database: nothing is lost, and nobody hears that it was busy.

use std::collections::BTreeSet;

use counterpart::store::{Incoming, Store, StreamState};

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
