//! A person's answers to what waits in the queue.

use std::collections::BTreeSet;

use counterpart_core::merge::{self, AgreedSlot, Clock, GoldenSlot};
use counterpart_core::{FieldName, Slot, Value};
use serde_json::{Value as Json, json};

use super::reconcile::is_question_of_revert;
use super::session::STREAM;
use super::{Engine, EngineError};
use crate::store::{Conflict, Entity, Reconciled, Record, RecordState, RecordUpdate};

/// What a person decided about one entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The field gets what this connection shows.
    Take(String),
    /// The field gets this text; `None` clears it.
    Value(Option<String>),
    /// The records are the same person.
    Same,
    /// The records are different people.
    Different,
    /// Nothing more is to be done; for what was refused, it is tried again.
    Done,
}

impl Engine {
    /// Carries a decision into the store. What follows from it is written by the next run.
    pub async fn decide(&self, conflict: i64, decision: &Decision) -> Result<(), EngineError> {
        let found =
            self.store.conflict(conflict).await?.ok_or(EngineError::NoSuch { what: "conflict", id: conflict })?;
        match (found.kind.as_str(), decision) {
            ("field", Decision::Take(_) | Decision::Value(_)) => self.decide_field(&found, decision).await?,
            ("identity" | "possible" | "duplicate", Decision::Same) => self.decide_same(&found).await?,
            ("identity" | "possible" | "duplicate", Decision::Different) => self.decide_different(&found).await?,
            // Without an answer the next run would write again what was taken back.
            (_, Decision::Done) if !is_question_of_revert(&found) => {}
            (kind, _) => {
                return Err(EngineError::Decision(format!(
                    "a {kind} entry takes {}",
                    match kind {
                        "field" => "--take CONNECTION, --value TEXT or --clear",
                        "identity" | "possible" | "duplicate" => "--same or --different",
                        _ => "--done",
                    }
                )));
            }
        }
        self.store.resolve_conflict(conflict, &describe(decision), self.clock.now()).await?;
        Ok(())
    }

    async fn decide_field(&self, conflict: &Conflict, decision: &Decision) -> Result<(), EngineError> {
        let (Some(entity), Some(field)) = (conflict.entity_id, conflict.field.as_deref()) else {
            return Err(EngineError::Decision("this entry names no field".to_owned()));
        };
        let field = FieldName::parse(field).map_err(|error| EngineError::Decision(error.to_string()))?;
        let records = self.live_records(entity).await?;
        let slot = match decision {
            Decision::Value(Some(text)) => Slot::Set(Value::parse(field.kind(), text)),
            Decision::Value(None) => Slot::Cleared,
            Decision::Take(connection) => records
                .iter()
                .find(|record| record.connection == *connection)
                .and_then(|record| record.fields.get(&field).cloned())
                .ok_or_else(|| {
                    EngineError::Decision(format!("connection `{connection}` shows no {field} for this person"))
                })?,
            _ => return Ok(()),
        };
        if let Some(why) = merge::verdict(&field, &slot) {
            return Err(EngineError::Decision(format!("{field}: {why}, so no system could be given it")));
        }
        let mut entity = self.one_entity(entity).await?;
        let now = self.clock.now();
        let chosen = GoldenSlot {
            slot,
            from: "operator".to_owned(),
            at: now,
            clock: Clock::Ours,
            rule: "decided by a person".to_owned(),
        };
        entity.golden.insert(field.clone(), chosen);
        // What every side shows is now known and no change any more; whoever shows something else is written to.
        let updates = records
            .into_iter()
            .map(|record| {
                let mut agreed = record.agreed;
                if let Some(here) = record.fields.get(&field) {
                    agreed.insert(field.clone(), AgreedSlot { here: here.clone(), means: here.clone() });
                }
                RecordUpdate { entity_id: Some(entity.id), agreed: Some(agreed), ..RecordUpdate::due(record.id) }
            })
            .collect();
        let out = Reconciled { entities: vec![entity], records: updates, ..Reconciled::default() };
        self.store.save_reconciled(&out, now).await?;
        Ok(())
    }

    /// Puts all records of the entry under one person; the values meet as at a first meeting.
    async fn decide_same(&self, conflict: &Conflict) -> Result<(), EngineError> {
        let records = self.store.records(&conflict.record_ids).await?;
        let entity = match records.iter().filter_map(|record| record.entity_id).min() {
            Some(id) => self.one_entity(id).await?,
            None => self.fresh_entity().await?,
        };
        let now = self.clock.now();
        let moving: BTreeSet<i64> =
            records.iter().filter_map(|record| record.entity_id).filter(|id| *id != entity.id).collect();
        let moving: Vec<i64> = moving.into_iter().collect();
        let mut updates: Vec<RecordUpdate> = Vec::new();
        for record in records.into_iter().chain(self.store.records_of_entities(STREAM, &moving).await?) {
            updates.push(RecordUpdate {
                entity_id: Some(entity.id),
                agreed: (record.entity_id != Some(entity.id)).then(Default::default),
                linked_at: Some(now),
                ..RecordUpdate::due(record.id)
            });
        }
        let out = Reconciled { entities: vec![entity], records: updates, ..Reconciled::default() };
        self.store.save_reconciled(&out, now).await?;
        Ok(())
    }

    /// Gives every record of the entry its own person, and remembers that they are not each other.
    async fn decide_different(&self, conflict: &Conflict) -> Result<(), EngineError> {
        let records = self.store.records(&conflict.record_ids).await?;
        let now = self.clock.now();
        let mut entities = Vec::new();
        let mut placed: Vec<(Record, i64)> = Vec::new();
        let mut taken = BTreeSet::new();
        for record in records {
            let entity = match record.entity_id {
                Some(id) if taken.insert(id) => id,
                _ => {
                    let entity = self.fresh_entity().await?;
                    taken.insert(entity.id);
                    let id = entity.id;
                    entities.push(entity);
                    id
                }
            };
            placed.push((record, entity));
        }
        let updates = placed
            .iter()
            .map(|(record, entity)| RecordUpdate {
                entity_id: Some(*entity),
                apart: Some(taken.iter().copied().filter(|other| other != entity).collect()),
                linked_at: (record.entity_id != Some(*entity)).then_some(now),
                ..RecordUpdate::due(record.id)
            })
            .collect();
        let out = Reconciled { entities, records: updates, ..Reconciled::default() };
        self.store.save_reconciled(&out, now).await?;
        Ok(())
    }

    async fn live_records(&self, entity: i64) -> Result<Vec<Record>, EngineError> {
        let mut records = self.store.records_of_entities(STREAM, &[entity]).await?;
        records.retain(|record| record.state == RecordState::Live);
        Ok(records)
    }

    async fn one_entity(&self, id: i64) -> Result<Entity, EngineError> {
        self.store.entities(&[id]).await?.pop().ok_or(EngineError::NoSuch { what: "person", id })
    }

    async fn fresh_entity(&self) -> Result<Entity, EngineError> {
        let id = self.store.new_entity_ids(1).await?[0];
        let created_at = self.clock.now();
        Ok(Entity { id, kind: "contact".to_owned(), golden: Default::default(), created_at })
    }
}

fn describe(decision: &Decision) -> Json {
    match decision {
        Decision::Take(connection) => json!({ "take": connection }),
        Decision::Value(value) => json!({ "value": value }),
        Decision::Same => json!({ "decided": "same" }),
        Decision::Different => json!({ "decided": "different" }),
        Decision::Done => json!({ "decided": "done" }),
    }
}
