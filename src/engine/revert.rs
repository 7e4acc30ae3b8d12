//! Taking a run back: a plan of opposite operations for what nobody has touched since, and a list of the rest.

use counterpart_core::plan::{Action, Lane, Operation};
use counterpart_core::{Fields, agree};

use super::report::PlanReport;
use super::session::{STREAM, Session};
use super::{Engine, EngineError};
use crate::store::{OpState, OutboxRow, PlannedOp, Reconciled, Record};

/// Operations looked at at once.
const PAGE: u64 = 500;

impl Engine {
    /// Plans to take run `run` back. The plan is carried out by `apply`.
    pub async fn revert_plan(&self, run: i64) -> Result<PlanReport, EngineError> {
        let taken_back = self.store.run(run).await?.ok_or(EngineError::NoSuch { what: "run", id: run })?;
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
                match self.opposite(session, row).await? {
                    Ok(op) => out.operations.push(op),
                    Err(why) => notes.push(format!("{}: {why}", describe(row))),
                }
            }
            self.store.save_reconciled(&out, self.clock.now()).await?;
        }
    }

    async fn opposite(&self, session: &Session, row: &OutboxRow) -> Result<Result<PlannedOp, String>, EngineError> {
        let Some(wired) = session.wired.get(&row.op.connection) else {
            return Ok(Err("its connection is not part of this".to_owned()));
        };
        let Some(record) = self.written_record(row).await? else {
            return Ok(Err("the record is not known any more".to_owned()));
        };
        let untouched = |name: &counterpart_core::FieldName| {
            let agreed = record.agreed.get(name).map(|agreed| &agreed.here);
            match (record.fields.get(name), agreed) {
                (Some(now), Some(then)) => agree(now, then),
                (None, _) => true,
                (Some(_), None) => false,
            }
        };
        let capabilities = wired.capabilities();
        let (action, fields, cost) = match &row.op.action {
            Action::Delete { .. } => return Ok(Err("a deleted record does not come back under its id".to_owned())),
            Action::Create if !capabilities.delete => return Ok(Err("this vendor cannot delete".to_owned())),
            Action::Create => {
                if !row.op.fields.keys().all(untouched) {
                    return Ok(Err("edited since it was created".to_owned()));
                }
                (Action::Delete { external_id: record.external_id.clone() }, Fields::new(), 1)
            }
            Action::Update { .. } => {
                let fields: Fields = row
                    .op
                    .before
                    .iter()
                    .filter(|(name, _)| untouched(name))
                    .map(|(n, s)| (n.clone(), s.clone()))
                    .collect();
                if fields.is_empty() {
                    return Ok(Err("edited since it was updated".to_owned()));
                }
                (Action::Update { external_id: record.external_id.clone() }, fields, capabilities.calls_per_update + 1)
            }
        };
        let before: Fields =
            fields.keys().filter_map(|name| record.fields.get(name).map(|slot| (name.clone(), slot.clone()))).collect();
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
        Ok(Ok(PlannedOp {
            op,
            entity_id: row.entity_id,
            record_id: Some(record.id),
            sync: row.sync.clone(),
            run_id: session.run,
        }))
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

fn describe(row: &OutboxRow) -> String {
    match &row.op.action {
        Action::Create => format!("create at {}", row.op.connection),
        Action::Update { external_id } => format!("update of {external_id} at {}", row.op.connection),
        Action::Delete { external_id } => format!("delete of {external_id} at {}", row.op.connection),
    }
}
