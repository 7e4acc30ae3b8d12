//! Taking a run back: a plan of opposite operations for what nobody has touched since, and a list of the rest.

use std::collections::{BTreeMap, BTreeSet};

use counterpart_core::merge::Candidate;
use counterpart_core::plan::{Action, Lane, Operation};
use counterpart_core::{FieldName, Fields, Slot, agree};
use serde_json::json;

use super::reconcile::field_key;
use super::report::PlanReport;
use super::session::{STREAM, Session, Wired};
use super::{Engine, EngineError};
use crate::store::{Entity, NewConflict, OpState, OutboxRow, PlannedOp, Reconciled, Record, RecordState};

/// Operations looked at at once.
const PAGE: u64 = 500;

impl Engine {
    /// Plans to take run `run` back. The plan is carried out by `apply`.
    pub async fn revert_plan(&self, run: i64) -> Result<PlanReport, EngineError> {
        let taken_back = self.store.run(run).await?.ok_or(EngineError::NoSuch { what: "run", id: run })?;
        // Messages, webhooks and readings have no way back, and a plan has written nothing yet.
        if !matches!(taken_back.kind.as_str(), "sync" | "apply") {
            return Err(EngineError::WroteNobody { run, kind: taken_back.kind });
        }
        let session = self.begin("revert", &taken_back.syncs).await?;
        let result = self.revert_inner(&session, run).await;
        self.end_plan(session, result).await
    }

    async fn revert_inner(&self, session: &Session, run: i64) -> Result<PlanReport, EngineError> {
        let group: Vec<String> = session.group.iter().cloned().collect();
        self.store.discard_unsent(&group).await?;
        let notes = self.plan_revert(session, run).await?;
        self.plan_report(session, &format!("revert:{run}"), Vec::new(), Vec::new(), notes).await
    }

    /// Plans the opposite of every operation of `run` that still stands; returns what cannot be taken back, and why.
    pub(super) async fn plan_revert(&self, session: &Session, run: i64) -> Result<Vec<String>, EngineError> {
        let mut notes = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.ops(run, after.as_deref(), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(notes) };
            after = Some(last.id.clone());
            let mut out = Reconciled::default();
            for row in rows.iter().filter(|row| row.state == OpState::Done) {
                let opposite = self.opposite(session, row).await?;
                out.operations.extend(opposite.op);
                notes.extend(opposite.notes);
            }
            self.store.save_reconciled(&out, self.clock.now()).await?;
        }
    }

    async fn opposite(&self, session: &Session, row: &OutboxRow) -> Result<Opposite, EngineError> {
        let Some(wired) = session.wired.get(&row.op.connection) else {
            return Ok(Opposite::impossible(row, None, "its connection is not part of this"));
        };
        let Some(record) = self.written_record(row).await? else {
            return Ok(Opposite::impossible(row, None, "the record is not known any more"));
        };
        let opposite = match &row.op.action {
            Action::Delete { .. } => Err("a deleted record does not come back under its id".to_owned()),
            _ if wired.config.read_only => Err("its connection is `read_only`".to_owned()),
            _ if record.state == RecordState::Deleted => Err("it is gone already".to_owned()),
            _ if record.state != RecordState::Live => Err("the last reading did not show it".to_owned()),
            Action::Create => delete(wired, row, &record).map(|action| (action, Fields::new(), Vec::new())),
            Action::Update { .. } => update(wired, row, &record),
        };
        let (action, fields, notes) = match opposite {
            Ok(opposite) => opposite,
            Err(why) => return Ok(Opposite::impossible(row, Some(&record), &why)),
        };
        let before: Fields =
            fields.keys().filter_map(|name| record.fields.get(name).map(|slot| (name.clone(), slot.clone()))).collect();
        let cost = match &action {
            Action::Update { .. } => wired.capabilities().calls_per_update + 1,
            _ => 1,
        };
        let notes = notes.into_iter().map(|why| format!("{}: {why}", describe(row, Some(&record)))).collect();
        let op = Operation::new(
            row.op.connection.clone(),
            STREAM.to_owned(),
            action,
            fields,
            before,
            cost,
            Lane::Incremental,
            format!("takes back run {}", row.run_id),
            Vec::new(),
            row.op.sources.clone(),
        );
        let op = PlannedOp {
            op,
            entity_id: row.entity_id,
            record_id: Some(record.id),
            sync: row.sync.clone(),
            run_id: session.run,
        };
        Ok(Opposite { op: Some(op), notes })
    }

    /// Puts into the queue what taking `run` back makes different for good. Which value is to stand everywhere is not known: the
    /// one that was there before may be nothing, or all that this system could hold of it. So a person decides.
    pub(super) async fn ask_about_revert(&self, session: &Session, run: i64) -> Result<(), EngineError> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.ops(session.run, after.as_deref(), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.id.clone());
            let people: BTreeSet<i64> = rows.iter().map(|row| row.entity_id).collect();
            let mut out = Reconciled::default();
            for entity in self.store.entities(&people.into_iter().collect::<Vec<_>>()).await? {
                out.conflicts.extend(self.questions(session, run, &entity).await?);
            }
            self.store.save_reconciled(&out, self.clock.now()).await?;
        }
    }

    /// One question for each of a person's fields that will differ from the golden value, with what every record then shows.
    async fn questions(&self, session: &Session, run: i64, entity: &Entity) -> Result<Vec<NewConflict>, EngineError> {
        let mut planned = self.store.planned_writes(entity.id).await?;
        planned.retain(|row| row.run_id == session.run);
        let records = self.store.records_of_entities(STREAM, &[entity.id]).await?;
        let names: BTreeSet<&FieldName> = planned.iter().flat_map(|row| row.op.fields.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            let Some(golden) = entity.golden.get(name) else { continue };
            if planned.iter().filter_map(|row| row.op.fields.get(name)).all(|slot| agree(slot, &golden.slot)) {
                continue;
            }
            let written = |record: &Record| {
                planned.iter().find(|row| row.record_id == Some(record.id)).and_then(|row| row.op.fields.get(name))
            };
            let shows = |record: &Record| {
                let slot = written(record).or_else(|| record.fields.get(name))?.clone();
                let (connection, external_id) = (record.connection.clone(), record.external_id.clone());
                Some(Candidate { connection, external_id, slot, changed_at: None })
            };
            let live = records.iter().filter(|record| record.state == RecordState::Live);
            let candidates: Vec<Candidate> = live.filter_map(shows).collect();
            found.push(NewConflict {
                kind: "field".to_owned(),
                key: field_key(entity.id, name.as_str()),
                entity_id: Some(entity.id),
                record_ids: Vec::new(),
                field: Some(name.to_string()),
                detail: json!({
                    "candidates": candidates, "winner": null, "rule": format!("run {run} was taken back"),
                    "taken_back": golden.slot,
                }),
                settled: None,
            });
        }
        Ok(found)
    }

    /// The record an operation wrote to.
    async fn written_record(&self, row: &OutboxRow) -> Result<Option<Record>, EngineError> {
        Ok(match (&row.op.action, row.record_id) {
            (_, Some(id)) => self.store.records(&[id]).await?.pop(),
            (Action::Update { external_id } | Action::Delete { external_id }, None) => {
                self.store.record(&row.op.connection, STREAM, external_id).await?
            }
            (Action::Create, None) => self
                .store
                .records_of_entities(STREAM, &[row.entity_id])
                .await?
                .into_iter()
                .find(|record| record.connection == row.op.connection),
        })
    }
}

/// What takes one operation back, and what of it cannot be.
struct Opposite {
    op: Option<PlannedOp>,
    notes: Vec<String>,
}

impl Opposite {
    fn impossible(row: &OutboxRow, record: Option<&Record>, why: &str) -> Opposite {
        Opposite { op: None, notes: vec![format!("{}: {why}", describe(row, record))] }
    }
}

/// What is known of what a record showed right after an operation: what the far end answered, else what it was given, as far
/// as it can hold that.
fn shown_then(wired: &Wired, row: &OutboxRow, record: &Record) -> Fields {
    let answer = row.answer.clone().and_then(|answer| serde_json::from_value::<Fields>(answer).ok());
    let mut shown = answer.unwrap_or_default();
    for (name, slot) in &row.op.fields {
        let given = || wired.mapping.project(name, slot, Some(&record.remote));
        shown.entry(name.clone()).or_insert_with(given);
    }
    shown
}

/// The deletion of a record that a run created, where it shows exactly what it did then.
fn delete(wired: &Wired, row: &OutboxRow, record: &Record) -> Result<Action, String> {
    if !wired.capabilities().delete {
        return Err("this vendor cannot delete".to_owned());
    }
    let then = shown_then(wired, row, record);
    let nothing = Slot::Cleared;
    let stands = |(name, now): (&FieldName, &Slot)| match then.get(name) {
        Some(then) => agree(now, then),
        // Without an answer nothing is known of what was not sent.
        None => row.answer.is_none() || agree(now, &nothing),
    };
    if !record.fields.iter().all(stands) {
        return Err("edited since it was created".to_owned());
    }
    Ok(Action::Delete { external_id: record.external_id.clone() })
}

/// The fields of an update that still show what it made of them, as they were before it, and why the others stay.
fn update(wired: &Wired, row: &OutboxRow, record: &Record) -> Result<(Action, Fields, Vec<String>), String> {
    let then = shown_then(wired, row, record);
    let nothing = Slot::Cleared;
    let mut fields = Fields::new();
    let mut kept: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, before) in &row.op.before {
        let now = record.fields.get(name).unwrap_or(&nothing);
        let why = if !wired.mapping.provides(name) {
            "what was there before could not be seen"
        } else if agree(now, before) {
            "it shows what it did before"
        } else if !agree(now, then.get(name).unwrap_or(&nothing)) {
            "edited since it was updated"
        } else {
            fields.insert(name.clone(), before.clone());
            continue;
        };
        kept.entry(why).or_default().push(name.as_str());
    }
    let notes: Vec<String> = kept.into_iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
    if fields.is_empty() {
        return Err(notes.join("; "));
    }
    Ok((Action::Update { external_id: record.external_id.clone() }, fields, notes))
}

fn describe(row: &OutboxRow, record: Option<&Record>) -> String {
    match (&row.op.action, record) {
        (Action::Create, Some(record)) => format!("create of {} at {}", record.external_id, row.op.connection),
        (Action::Create, None) => format!("create at {}", row.op.connection),
        (Action::Update { external_id }, _) => format!("update of {external_id} at {}", row.op.connection),
        (Action::Delete { external_id }, _) => format!("delete of {external_id} at {}", row.op.connection),
    }
}
