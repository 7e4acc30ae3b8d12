//! Missing is not deleted: what it takes before a record counts as gone, and what follows.

use std::collections::BTreeSet;

use counterpart_connectors::{ErrorKind, Lane};
use counterpart_core::guard::{self, Counts, Tripped};
use serde_json::json;

use super::observe::observe;
use super::session::{STREAM, Session};
use super::{Engine, EngineError};
use crate::config::{OnDelete, SyncConfig};
use crate::store::{NewConflict, Record, RecordState};

/// Complete readings in a row that must miss a record.
const SIGHTINGS: i32 = 2;

/// Whether the cap on deletions holds records back that are taken as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departing {
    /// More than the cap, and none of them goes.
    Capped,
    /// A person reads the plan.
    Approved,
}

/// Which records of a batch have left their system.
#[derive(Default)]
pub(super) struct Departures {
    left: BTreeSet<i64>,
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

    /// The state to store, where it changes.
    pub fn state_of(&self, record: &Record) -> Option<RecordState> {
        self.left.contains(&record.id).then_some(RecordState::Deleted)
    }

    /// What the queue says of a record that is gone.
    pub fn notice(&self, entity: i64, record: &Record, policy: &SyncConfig) -> NewConflict {
        let consequence = match policy.on_delete {
            OnDelete::Unlink => "unlinked here and kept elsewhere; it is not created here again",
            OnDelete::Delete => "deleted elsewhere too, unless somebody edited it there meanwhile",
        };
        NewConflict {
            kind: "deletion".to_owned(),
            key: format!("deletion:{}", record.id),
            entity_id: Some(entity),
            record_ids: vec![record.id],
            field: None,
            detail: json!({
                "connection": record.connection, "external_id": record.external_id, "consequence": consequence,
            }),
            settled: Some(format!("on_delete: {consequence}")),
        }
    }
}

impl Engine {
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
            if record.state != RecordState::Missing || record.missing_scans < SIGHTINGS {
                continue;
            }
            let Some(wired) = session.wired.get(&record.connection) else { continue };
            if held.contains(&record.connection) {
                continue;
            }
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
                Err(error) => self.note(&format!("{}: {}", wired.name, error.message)),
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
                    deletes: self.store.count_missing(name, STREAM, SIGHTINGS).await?,
                    ..Counts::default()
                });
            }
            tripped.extend(guard::check(&sync.guard, &counts));
        }
        Ok(tripped)
    }
}
