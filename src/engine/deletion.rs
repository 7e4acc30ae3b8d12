//! Missing is not deleted: what it takes before a record counts as gone, and what follows.

use std::collections::BTreeSet;

use counterpart_connectors::{ErrorKind, Lane, Millis};
use counterpart_core::guard::{self, Counts, Tripped};
use serde_json::json;

use super::observe::observe;
use super::session::{STREAM, Session};
use super::{Engine, EngineError};
use crate::store::{NewConflict, Reconciled, Record, RecordState};

/// Complete readings in a row that must miss a record.
const SIGHTINGS: i32 = 2;

/// Records asked for again at once.
const BATCH: u64 = 500;
/// Records that are not there and that a report names.
const TOLD: usize = 20;

/// What the queue calls the news that a record has gone.
const GONE: &str = "deletion";

/// Whether the cap on deletions holds records back that are taken as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departing {
    /// More than the cap, and none of them goes.
    Capped,
    /// A person is to read the plan: all of them are shown, and none goes before that.
    Shown,
    /// A person has read the plan.
    Approved,
}

impl Departing {
    /// Leaves the records that a plan shows as gone to whoever carries it out.
    pub fn restrain(self, out: &mut Reconciled) {
        if self != Departing::Shown {
            return;
        }
        out.conflicts.retain(|conflict| conflict.kind != GONE);
        for update in out.records.iter_mut().filter(|update| update.state == Some(RecordState::Deleted)) {
            update.state = None;
            update.dirty = true;
        }
    }
}

/// Which records of a batch have left their system.
#[derive(Default)]
pub(super) struct Departures {
    left: BTreeSet<i64>,
    /// Missing ones of which that is not said yet.
    waiting: BTreeSet<i64>,
}

impl Departures {
    /// Whether the record takes part in merges.
    pub fn is_present(&self, record: &Record) -> bool {
        record.state == RecordState::Live && !self.left.contains(&record.id)
    }

    /// Whether this batch found out that the record is gone.
    pub fn leaves_now(&self, record: &Record) -> bool {
        self.left.contains(&record.id)
    }

    /// Whether it is left to a later run whether the record is gone.
    pub fn waits(&self, record: &Record) -> bool {
        self.waiting.contains(&record.id)
    }

    /// The state to store, where it changes.
    pub fn state_of(&self, record: &Record) -> Option<RecordState> {
        self.left.contains(&record.id).then_some(RecordState::Deleted)
    }

    /// What the queue says of a record that is gone.
    pub fn notice(&self, entity: i64, record: &Record) -> NewConflict {
        let consequence = "unlinked here and kept elsewhere; it is not created here again";
        NewConflict {
            kind: GONE.to_owned(),
            key: format!("deletion:{}", record.id),
            entity_id: Some(entity),
            record_ids: vec![record.id],
            field: None,
            detail: json!({
                "connection": record.connection, "external_id": record.external_id, "consequence": consequence,
            }),
            settled: Some(consequence.to_owned()),
        }
    }
}

impl Engine {
    /// Asks again for the records that were not there when something was to be written to them, in an earlier run. What is not
    /// there again has been missed often enough, and the guards count it.
    pub(super) async fn ask_again(&self, session: &Session) -> Result<(), EngineError> {
        let names: Vec<String> = session.wired.keys().cloned().collect();
        let before = session.started_at;
        let mut after = 0;
        // Whoever does not answer now is asked by the next run.
        let mut unasked = BTreeSet::new();
        loop {
            let found = self.store.absent_records(STREAM, &names, SIGHTINGS, before, after, BATCH).await?;
            let Some(last) = found.last() else { return Ok(()) };
            after = last.id;
            for record in found {
                let wired = &session.wired[&record.connection];
                if !wired.capabilities().fetch || unasked.contains(&record.connection) {
                    continue;
                }
                match wired.connection.fetch(Lane::Audit, STREAM, &record.external_id).await {
                    Ok(found) if !found.deleted => {
                        let row = observe(wired, found).row;
                        self.store.observe_one(&wired.name, STREAM, &row, self.clock.now()).await?;
                    }
                    Err(error) if error.kind != ErrorKind::NotFound => {
                        self.note(&format!("{}: {}", wired.name, error.message));
                        if error.kind.is_passing() {
                            unasked.insert(record.connection);
                        }
                    }
                    _ => self.store.absent(record.id, self.clock.now()).await?,
                }
            }
        }
    }

    /// What was to be written to records that were not there, and waits until that is sure: a sentence for each, and how many
    /// more there are.
    pub(super) async fn absences(&self, session: &Session) -> Result<Vec<String>, EngineError> {
        let names: Vec<String> = session.wired.keys().cloned().collect();
        let found = self.store.absent_records(STREAM, &names, SIGHTINGS, Millis::MAX, 0, BATCH).await?;
        let tell = |record: &Record| {
            let (connection, id) = (&record.connection, &record.external_id);
            format!(
                "{connection}/{id} is not there any more: the next run asks for it again, and then takes it as deleted"
            )
        };
        let mut told: Vec<String> = found.iter().take(TOLD).map(tell).collect();
        if found.len() > TOLD {
            let (more, plus) = (found.len() - TOLD, if found.len() as u64 == BATCH { " or more" } else { "" });
            told.push(format!("{more}{plus} other records are not there any more"));
        }
        Ok(told)
    }

    /// Decides which due records are gone. A vendor that can be asked for one record is asked; one that has merged it
    /// away says under which id it lives on.
    pub(super) async fn departures<'a>(
        &self,
        session: &Session,
        held: &BTreeSet<String>,
        due: &BTreeSet<i64>,
        records: impl Iterator<Item = &'a Record>,
    ) -> Result<Departures, EngineError> {
        let mut departures = Departures::default();
        for record in records.filter(|record| due.contains(&record.id)) {
            if record.state == RecordState::Deleted {
                departures.left.insert(record.id);
                continue;
            }
            if record.state != RecordState::Missing {
                continue;
            }
            let wired = session.wired.get(&record.connection).filter(|_| record.missing_scans >= SIGHTINGS);
            let Some(wired) = wired.filter(|wired| !held.contains(&wired.name)) else {
                departures.waiting.insert(record.id);
                continue;
            };
            if !wired.capabilities().fetch {
                departures.left.insert(record.id);
                continue;
            }
            match wired.connection.fetch(Lane::Audit, STREAM, &record.external_id).await {
                Ok(found) if found.deleted => {
                    departures.left.insert(record.id);
                }
                Ok(found) if found.id == record.external_id => {
                    let row = observe(wired, found).row;
                    self.store.observe_one(&wired.name, STREAM, &row, self.clock.now()).await?;
                    self.note(&format!("{}: {} was missing from the list and exists", wired.name, record.external_id));
                }
                Ok(found) => {
                    let now = self.clock.now();
                    self.store.set_alias(&wired.name, STREAM, &record.external_id, &found.id, now).await?;
                }
                Err(error) if error.kind == ErrorKind::NotFound => {
                    departures.left.insert(record.id);
                }
                Err(error) => {
                    departures.waiting.insert(record.id);
                    self.note(&format!("{}: {}", wired.name, error.message));
                }
            }
        }
        Ok(departures)
    }

    /// Guards that more missing records trip than a run may take as deleted.
    pub(super) async fn guard_departures(&self, session: &Session) -> Result<Vec<Tripped>, EngineError> {
        let mut tripped = Vec::new();
        for sync in &session.syncs {
            let mut counts = Vec::new();
            for name in &sync.between {
                let known = self.store.counts(name, STREAM).await?;
                counts.push(Counts {
                    connection: name.clone(),
                    known: known.live + known.missing,
                    live_now: known.live,
                    departures: self.store.count_missing(name, STREAM, SIGHTINGS).await?,
                    ..Counts::default()
                });
            }
            tripped.extend(guard::check(&sync.guard, &counts));
        }
        Ok(tripped)
    }
}
