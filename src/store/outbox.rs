//! The outbox: operations that are planned, under way and done.
//!
//! An operation's id is derived from its effect, so the same one may be needed again in a later run; the
//! id of its row names the run too: `<run>-<operation>`.

use std::collections::BTreeMap;

use counterpart_core::field::Slot;
use counterpart_core::plan::{Action, Operation};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DeriveActiveEnum, EntityTrait, EnumIter, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use serde_json::Value;

use super::json::{from_optional, from_text, to_text};
use super::record::mark_dirty_where;
use super::tables::outbox::{ActiveModel, Column, Entity, Model};
use super::tables::{link, record};
use super::{BATCH, Millis, Result, Store, StoreError};

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum OpState {
    /// Part of a plan nobody has approved yet.
    Planned,
    /// To be sent.
    Pending,
    /// Sent, or about to be: after a crash nobody knows.
    Sending,
    /// Done and answered.
    Done,
    /// It may have happened; to be looked up before anything else.
    Unknown,
    /// The vendor refused it.
    Refused,
    /// It will not be sent.
    Dropped,
}

impl OpState {
    /// The word used in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            OpState::Planned => "planned",
            OpState::Pending => "pending",
            OpState::Sending => "sending",
            OpState::Done => "done",
            OpState::Unknown => "unknown",
            OpState::Refused => "refused",
            OpState::Dropped => "dropped",
        }
    }

    /// Whether something still has to happen.
    pub fn is_open(self) -> bool {
        matches!(self, OpState::Planned | OpState::Pending | OpState::Sending | OpState::Unknown)
    }
}

/// Open states, for queries.
const OPEN: [OpState; 4] = [OpState::Planned, OpState::Pending, OpState::Sending, OpState::Unknown];

/// An operation that reconciling wants.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedOp {
    /// What is to be done.
    pub op: Operation,
    /// For whom.
    pub entity_id: i64,
    /// At which record; none for a create.
    pub record_id: Option<i64>,
    /// In which sync.
    pub sync: String,
    /// In which run.
    pub run_id: i64,
}

/// An operation and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// Id of the row: `<run>-<operation>`.
    pub id: String,
    /// The run it belongs to.
    pub run_id: i64,
    /// The sync it belongs to.
    pub sync: String,
    /// For whom.
    pub entity_id: i64,
    /// At which record; none for a create that was not done yet.
    pub record_id: Option<i64>,
    /// What is to be done.
    pub op: Operation,
    /// Where it stands.
    pub state: OpState,
    /// How often it was sent.
    pub attempts: i32,
    /// Why it is not done.
    pub error: Option<String>,
    /// Not to be sent before this time.
    pub not_before: Option<Millis>,
    /// When it was planned.
    pub created_at: Millis,
    /// When its state changed last.
    pub updated_at: Millis,
    /// What the far end showed afterwards.
    pub answer: Option<Value>,
}

/// How many operations of one kind stand where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpCount {
    /// The sync.
    pub sync: String,
    /// The connection.
    pub connection: String,
    /// `create`, `update` or `delete`.
    pub action: String,
    /// Where they stand.
    pub state: OpState,
    /// How many.
    pub n: u64,
    /// How many calls they take together.
    pub cost: u64,
    /// How many fields they clear.
    pub cleared: u64,
}

impl Store {
    /// Releases the planned operations of a run for sending and returns how many.
    pub async fn promote(&self, run_id: i64) -> Result<u64> {
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::State, Expr::value(OpState::Pending))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::RunId.eq(run_id))
            .filter(Column::State.eq(OpState::Planned))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected)
    }

    /// Deletes what was never sent to these connections, in any run, and has the records it was for looked
    /// at again. Returns how many operations went.
    pub async fn discard_unsent(&self, connections: &[String]) -> Result<u64> {
        let unsent = || {
            Column::Tenant
                .eq(self.tenant())
                .and(Column::Connection.is_in(connections))
                .and(Column::State.is_in([OpState::Planned, OpState::Pending]))
        };
        let tx = self.begin().await?;
        let entities = Entity::find().select_only().column(Column::EntityId).filter(unsent());
        let records = link::Entity::find()
            .select_only()
            .column(link::Column::RecordId)
            .filter(link::Column::EntityId.in_subquery(entities.into_query()));
        mark_dirty_where(&tx, self.tenant(), record::Column::Id.in_subquery(records.into_query())).await?;
        let done = Entity::delete_many().filter(unsent()).exec(&tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected)
    }

    /// Operations that were being sent when a process died: whether they happened is unknown.
    pub async fn sending_left(&self, connections: &[String]) -> Result<Vec<OutboxRow>> {
        self.in_state(OpState::Sending, connections).await
    }

    /// Operations that may have happened and wait to be looked up.
    pub async fn open_unknown(&self, connections: &[String]) -> Result<Vec<OutboxRow>> {
        self.in_state(OpState::Unknown, connections).await
    }

    async fn in_state(&self, state: OpState, connections: &[String]) -> Result<Vec<OutboxRow>> {
        let found = Entity::find()
            .filter(Column::Connection.is_in(connections))
            .filter(Column::State.eq(state))
            .order_by_asc(Column::RunId)
            .order_by_asc(Column::Id);
        self.rows(found).await
    }

    /// The next operations of a run to send to a connection, most urgent first.
    pub async fn next_ops(&self, run_id: i64, connection: &str, limit: u64) -> Result<Vec<OutboxRow>> {
        let found = Entity::find()
            .filter(Column::RunId.eq(run_id))
            .filter(Column::Connection.eq(connection))
            .filter(Column::State.eq(OpState::Pending))
            .order_by_asc(Column::Lane)
            .order_by_asc(Column::Id)
            .limit(limit);
        self.rows(found).await
    }

    /// Notes, before the call, that an operation is about to be sent.
    pub async fn mark_sending(&self, id: &str, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        let row = find(&tx, self.tenant(), id).await?;
        Entity::update_many()
            .col_expr(Column::State, Expr::value(OpState::Sending))
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(row_named(&row))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Sets where an operation stands. Putting one back to pending keeps its attempts.
    pub async fn set_op(
        &self,
        id: &str,
        state: OpState,
        error: Option<&str>,
        answer: Option<&Value>,
        now: Millis,
    ) -> Result<()> {
        let tx = self.begin().await?;
        let row = find(&tx, self.tenant(), id).await?;
        settle(&tx, &row, state, error, answer, now).await?;
        Ok(tx.commit().await?)
    }

    /// Keeps a pending operation back until a time.
    pub async fn postpone_op(&self, id: &str, not_before: Millis, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        let row = find(&tx, self.tenant(), id).await?;
        Entity::update_many()
            .col_expr(Column::NotBefore, Expr::value(not_before))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(row_named(&row))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// One row of the outbox.
    pub async fn op(&self, id: &str) -> Result<Option<OutboxRow>> {
        let found = Entity::find().filter(Column::Id.eq(id));
        Ok(self.rows(found).await?.pop())
    }

    /// Operations of a run by id, the next page after `after`.
    pub async fn ops(&self, run_id: i64, after: Option<&str>, limit: u64) -> Result<Vec<OutboxRow>> {
        let found = Entity::find()
            .filter(Column::RunId.eq(run_id))
            .filter(Column::Id.gt(after.unwrap_or_default()))
            .order_by_asc(Column::Id)
            .limit(limit);
        self.rows(found).await
    }

    /// How many operations of a run come after `after`.
    pub async fn count_ops(&self, run_id: i64, after: Option<&str>) -> Result<u64> {
        Ok(Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::RunId.eq(run_id))
            .filter(Column::Id.gt(after.unwrap_or_default()))
            .count(self.reader())
            .await?)
    }

    /// How many operations of a run stand where.
    pub async fn op_counts(&self, run_id: i64) -> Result<Vec<OpCount>> {
        let rows: Vec<(String, String, String, OpState, i64, i64, i64)> = Entity::find()
            .select_only()
            .columns([Column::Sync, Column::Connection, Column::Action, Column::State])
            .column_as(Column::Id.count(), "n")
            .column_as(Column::Cost.sum(), "cost")
            .column_as(Column::Cleared.sum(), "cleared")
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::RunId.eq(run_id))
            .group_by(Column::Sync)
            .group_by(Column::Connection)
            .group_by(Column::Action)
            .group_by(Column::State)
            .into_tuple()
            .all(self.reader())
            .await?;
        let mut counts: Vec<OpCount> = rows
            .into_iter()
            .map(|(sync, connection, action, state, n, cost, cleared)| OpCount {
                sync,
                connection,
                action,
                state,
                n: n.unsigned_abs(),
                cost: cost.unsigned_abs(),
                cleared: cleared.unsigned_abs(),
            })
            .collect();
        counts.sort();
        Ok(counts)
    }

    /// Whether something still has to happen for an entity at a connection.
    pub async fn has_open_op(&self, entity_id: i64, connection: &str) -> Result<bool> {
        let found: Option<String> = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::EntityId.eq(entity_id))
            .filter(Column::Connection.eq(connection))
            .filter(Column::State.is_in(OPEN))
            .limit(1)
            .into_tuple()
            .one(self.reader())
            .await?;
        Ok(found.is_some())
    }

    /// What was last written for an entity, newest first; at most a hundred rows.
    pub async fn last_writes(&self, entity_id: i64) -> Result<Vec<OutboxRow>> {
        let found = Entity::find()
            .filter(Column::EntityId.eq(entity_id))
            .filter(Column::State.ne(OpState::Planned))
            .order_by_desc(Column::RunId)
            .order_by_asc(Column::Id)
            .limit(100);
        self.rows(found).await
    }

    /// What is planned for a person and not under way.
    pub async fn planned_writes(&self, entity_id: i64) -> Result<Vec<OutboxRow>> {
        let found = Entity::find()
            .filter(Column::EntityId.eq(entity_id))
            .filter(Column::State.eq(OpState::Planned))
            .order_by_asc(Column::Id)
            .limit(100);
        self.rows(found).await
    }

    async fn rows(&self, found: Select<Entity>) -> Result<Vec<OutboxRow>> {
        let rows = found.filter(Column::Tenant.eq(self.tenant())).all(self.reader()).await?;
        rows.into_iter().map(OutboxRow::try_from).collect()
    }
}

/// Adds operations inside the caller's transaction.
///
/// One that the run has given up on already is planned again; one that waits or is done stays as it is.
pub async fn insert<C: ConnectionTrait>(tx: &C, tenant: &str, operations: &[PlannedOp], now: Millis) -> Result<()> {
    let operations: BTreeMap<String, &PlannedOp> =
        operations.iter().map(|planned| (format!("{}-{}", planned.run_id, planned.op.id), planned)).collect();
    let operations: Vec<_> = operations.into_iter().collect();
    let given_up = [OpState::Dropped, OpState::Refused, OpState::Unknown];
    let mut again = OnConflict::columns([Column::Tenant, Column::Id]);
    again
        .update_columns([Column::State, Column::Error, Column::NotBefore, Column::UpdatedAt])
        .action_and_where(Expr::col((Entity, Column::State)).is_in(given_up));
    for part in operations.chunks(BATCH) {
        let rows = part.iter().map(|(id, planned)| ActiveModel {
            tenant: Set(tenant.to_owned()),
            run_id: Set(planned.run_id),
            id: Set(id.clone()),
            sync: Set(planned.sync.clone()),
            connection: Set(planned.op.connection.clone()),
            action: Set(action_name(&planned.op.action).to_owned()),
            lane: Set(planned.op.lane as i16),
            cost: Set(i32::try_from(planned.op.cost).unwrap_or(i32::MAX)),
            cleared: Set(cleared(&planned.op)),
            entity_id: Set(planned.entity_id),
            record_id: Set(planned.record_id),
            state: Set(OpState::Planned),
            attempts: Set(0),
            not_before: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
            error: Set(None),
            op: Set(to_text(&planned.op)),
            answer: Set(None),
        });
        Entity::insert_many(rows).on_conflict(again.clone()).exec_without_returning(tx).await?;
    }
    Ok(())
}

fn cleared(op: &Operation) -> i32 {
    let cleared = op.fields.values().filter(|slot| **slot == Slot::Cleared);
    i32::try_from(cleared.count()).unwrap_or(i32::MAX)
}

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update { .. } => "update",
        Action::Delete { .. } => "delete",
    }
}

/// The row with this id, for changing it.
pub async fn find<C: ConnectionTrait>(tx: &C, tenant: &str, id: &str) -> Result<Model> {
    Entity::find_by_id((tenant.to_owned(), id.to_owned()))
        .one(tx)
        .await?
        .ok_or_else(|| StoreError::NotFound { what: "operation", id: id.to_owned() })
}

/// Sets where an operation stands inside the caller's transaction.
pub async fn settle<C: ConnectionTrait>(
    tx: &C,
    row: &Model,
    state: OpState,
    error: Option<&str>,
    answer: Option<&Value>,
    now: Millis,
) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::State, Expr::value(state))
        .col_expr(Column::Error, Expr::value(error))
        .col_expr(Column::Answer, Expr::value(answer.map(to_text)))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(row_named(row))
        .exec(tx)
        .await?;
    Ok(())
}

/// The one row with this key.
pub fn row_named(row: &Model) -> Expr {
    Column::Tenant.eq(row.tenant.as_str()).and(Column::Id.eq(row.id.as_str()))
}

impl TryFrom<Model> for OutboxRow {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<OutboxRow> {
        Ok(OutboxRow {
            op: from_text("operation", &row.id, &row.op)?,
            answer: from_optional("operation", &row.id, row.answer.as_deref())?,
            id: row.id,
            run_id: row.run_id,
            sync: row.sync,
            entity_id: row.entity_id,
            record_id: row.record_id,
            state: row.state,
            attempts: row.attempts,
            error: row.error,
            not_before: row.not_before,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
