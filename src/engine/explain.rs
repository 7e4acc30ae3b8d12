//! Why a record does not show what its person should show: the merge made once more from what is stored, and what stands
//! between its result and a write.

use std::collections::BTreeSet;

use counterpart_core::merge::{self, SideResult};
use counterpart_core::{Action, FieldName};

use super::reconcile::{refusal, taken_back};
use super::session::policy_for;
use super::{Engine, EngineError, Verdict};
use crate::store::{Conflict, Entity, OutboxRow, Record, RecordState};

/// A field of a record that is left as it is, although it does not show the golden value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftAlone {
    /// The field.
    pub field: FieldName,
    /// Why.
    pub why: String,
    /// The entry of the queue that it waits for.
    pub conflict: Option<i64>,
}

/// What a person's writes meet besides the merge.
struct Obstacles<'a> {
    entity: i64,
    open: &'a [Conflict],
    is_unsettled: bool,
    /// What a guard keeps from being written.
    guarded: &'a [OutboxRow],
}

impl Engine {
    /// What every record of a person leaves alone, by the record's number; `open` are the entries that wait for them.
    pub async fn why_left_alone(
        &self,
        entity: &Entity,
        records: &[Record],
        open: &[Conflict],
    ) -> Result<Vec<(i64, Vec<LeftAlone>)>, EngineError> {
        let unknown = self.store.open_unknown(&names(records)).await?;
        let is_ours = |row: &OutboxRow| row.entity_id == entity.id && matches!(row.op.action, Action::Update { .. });
        let guarded = self.guarded(entity.id).await?;
        let obstacles =
            Obstacles { entity: entity.id, open, is_unsettled: unknown.iter().any(is_ours), guarded: &guarded };
        let live: Vec<&Record> = records.iter().filter(|record| record.state == RecordState::Live).collect();
        let mut found = Vec::new();
        for group in self.groups(&live) {
            let together: Vec<&Record> =
                live.iter().copied().filter(|record| group.contains(&record.connection)).collect();
            found.extend(self.left_alone_by(entity, &together, &obstacles)?);
        }
        Ok(found)
    }

    /// What a guard keeps from being written; the next run plans it anew.
    async fn guarded(&self, entity: i64) -> Result<Vec<OutboxRow>, EngineError> {
        let mut found = Vec::new();
        for row in self.store.planned_writes(entity).await? {
            let run = self.store.run(row.run_id).await?;
            if run.is_some_and(|run| run.verdict.as_deref() == Some(Verdict::Guarded.as_str())) {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// The sets of connections that are merged with each other, of those in which these records are.
    fn groups(&self, records: &[&Record]) -> BTreeSet<BTreeSet<String>> {
        let synced = |name: &String| self.config.syncs.iter().any(|sync| sync.between.contains(name));
        let names = records.iter().map(|record| &record.connection).filter(|name| synced(name));
        names.map(|name| self.group_of(&BTreeSet::from([name.clone()]))).collect()
    }

    fn left_alone_by(
        &self,
        entity: &Entity,
        records: &[&Record],
        obstacles: &Obstacles<'_>,
    ) -> Result<Vec<(i64, Vec<LeftAlone>)>, EngineError> {
        let (records, sides): (Vec<&Record>, Vec<_>) =
            records.iter().filter_map(|record| Some((*record, self.side(record)?))).unzip();
        let connections: BTreeSet<&str> = sides.iter().map(|side| side.connection).collect();
        let policies = policy_for(&self.config.syncs, &connections).map(|sync| sync.conflict.clone());
        let merged = merge::merge(&entity.golden, &sides, &policies.unwrap_or_default());
        let left = merge::left_alone(&entity.golden, &sides, &merged);
        let mut found = Vec::new();
        for ((record, side), left) in records.into_iter().zip(&merged.sides).zip(left) {
            let waits = |field: FieldName, why: merge::LeftAlone| {
                let conflict = obstacles.entry(&field, &why, record);
                LeftAlone { field, why: why.to_string(), conflict }
            };
            let mut lines: Vec<LeftAlone> = left.into_iter().map(|(field, why)| waits(field, why)).collect();
            lines.extend(self.held_back(record, side, obstacles)?);
            lines.sort_by(|a, b| a.field.cmp(&b.field));
            found.push((record.id, lines));
        }
        Ok(found)
    }

    /// What the merge wants written to a record and no run would write now.
    fn held_back(
        &self,
        record: &Record,
        side: &SideResult,
        obstacles: &Obstacles<'_>,
    ) -> Result<Vec<LeftAlone>, EngineError> {
        if side.write.is_empty() {
            return Ok(Vec::new());
        }
        let wired = self.wire(&record.connection, std::sync::Arc::new(counterpart_connectors::OpenGate))?;
        let mut found = Vec::new();
        for (field, slot) in &side.write {
            let refused = refusal(obstacles.open, obstacles.entity, &record.connection, field.as_str(), slot);
            let taken_back = taken_back(obstacles.open, obstacles.entity, field.as_str(), slot);
            let guarded = obstacles.guarded.iter().find(|row| {
                row.op.fields.get(field) == Some(slot)
                    && row.op.connection == record.connection
                    && matches!(&row.op.action, Action::Update { external_id } if *external_id == record.external_id)
            });
            let why = if wired.config.read_only {
                "its connection is `read_only`".to_owned()
            } else if !wired.capabilities().update {
                "the vendor has no call that changes a record".to_owned()
            } else if refused.is_some() {
                "the vendor has refused this value".to_owned()
            } else if taken_back.is_some() {
                "a run that wrote this value was taken back; a person decides which one stands".to_owned()
            } else if obstacles.is_unsettled {
                "what became of an earlier write is not known yet".to_owned()
            } else if let Some(row) = guarded {
                format!("a guard stopped run {} before it was written", row.run_id)
            } else {
                continue;
            };
            found.push(LeftAlone { field: field.clone(), why, conflict: refused.or(taken_back).map(|entry| entry.id) });
        }
        Ok(found)
    }
}

impl Obstacles<'_> {
    /// The entry of the queue that tells of the same.
    fn entry(&self, field: &FieldName, why: &merge::LeftAlone, record: &Record) -> Option<i64> {
        let found = self.open.iter().find(|entry| {
            let is_field = entry.field.as_deref() == Some(field.as_str());
            match why {
                merge::LeftAlone::Waits => is_field && entry.kind == "field",
                merge::LeftAlone::Invalid(_) => {
                    is_field && entry.kind == "invalid" && entry.record_ids.contains(&record.id)
                }
                _ => false,
            }
        });
        found.map(|entry| entry.id)
    }
}

fn names(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.connection.clone()).collect()
}
