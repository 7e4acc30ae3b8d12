//! The end of a write: the operation, the record as the vendor answered and its new base are one commit.

use counterpart_core::merge::Agreed;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::Value;

use super::json::to_text;
use super::observe::{Place, Then};
use super::reconcile::new_or_old;
use super::record::mark_dirty;
use super::sequence::hold_records;
use super::tables::{link, outbox as table, record};
use super::{Incoming, Millis, NewConflict, OpState, RecordState, Result, Store, conflict, outbox};

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub struct OpResult {
    /// Id of the outbox row.
    pub op_id: String,
    /// Where it stands now.
    pub state: OpState,
    /// Why it is not done.
    pub error: Option<String>,
    /// What the far end showed afterwards.
    pub answer: Option<Value>,
    /// The connection that was written to.
    pub connection: String,
    /// The stream that was written to.
    pub stream: String,
    /// The record as the vendor answered; none when nothing was shown.
    pub record: Option<Incoming>,
    /// Whom the record stands for; none keeps its link.
    pub entity_id: Option<i64>,
    /// Whether the record is gone now, by this write.
    pub deleted: bool,
    /// Whether the vendor said that there is no such record: one sighting of many that it takes to count as gone.
    pub absent: bool,
    /// The record's new base; none keeps the old one.
    pub agreed: Option<Agreed>,
    /// Whether the record is to be looked at again; one that was touched meanwhile is in any case.
    pub dirty: bool,
    /// What a person has to know or decide.
    pub conflict: Option<NewConflict>,
}

impl Store {
    /// Stores what became of a write, at once: a create's record is inserted and linked.
    pub async fn finish_push(&self, result: &OpResult, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        hold_records(&tx).await?;
        let row = outbox::find(&tx, self.tenant(), &result.op_id).await?;
        let (state, error) = (result.state, result.error.as_deref());
        outbox::settle(&tx, &row, state, error, result.answer.as_ref(), now).await?;
        let record = match &result.record {
            Some(incoming) => {
                let place = Place { store: self, connection: &result.connection, stream: &result.stream, now };
                Some(place.take_in_one(&tx, incoming, Then::Rest).await?)
            }
            None => row.record_id,
        };
        if let Some(record) = record {
            self.settle_record(&tx, &row, record, result, now).await?;
        }
        conflict::open(&tx, self.tenant(), result.conflict.as_slice(), now).await?;
        Ok(tx.commit().await?)
    }

    async fn settle_record<C: ConnectionTrait>(
        &self,
        tx: &C,
        row: &table::Model,
        record: i64,
        result: &OpResult,
        now: Millis,
    ) -> Result<()> {
        table::Entity::update_many()
            .col_expr(table::Column::RecordId, Expr::value(record))
            .filter(outbox::row_named(row))
            .exec(tx)
            .await?;
        if result.entity_id.is_some() || result.agreed.is_some() {
            self.link(tx, record, result, now).await?;
        }
        if result.deleted {
            record::Entity::update_many()
                .col_expr(record::Column::State, Expr::value(RecordState::Deleted))
                .filter(record::Column::Id.eq(record))
                .exec(tx)
                .await?;
        }
        if result.absent {
            self.count_absence(tx, record, now).await?;
        }
        if result.dirty {
            mark_dirty(tx, self.tenant(), &[record]).await?;
        }
        Ok(())
    }

    /// A vendor that was asked for one record said that it is not there: the record is missing, and that is counted.
    pub async fn absent(&self, record: i64, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        self.count_absence(&tx, record, now).await?;
        Ok(tx.commit().await?)
    }

    async fn count_absence<C: ConnectionTrait>(&self, tx: &C, record: i64, now: Millis) -> Result<()> {
        record::Entity::update_many()
            .col_expr(record::Column::State, Expr::value(RecordState::Missing))
            .col_expr(record::Column::MissingScans, Expr::col(record::Column::MissingScans).add(1))
            .col_expr(record::Column::ObservedAt, Expr::value(now))
            .filter(record::Column::Id.eq(record))
            .filter(record::Column::State.is_in([RecordState::Live, RecordState::Missing]))
            .exec(tx)
            .await?;
        Ok(())
    }

    async fn link<C: ConnectionTrait>(&self, tx: &C, record: i64, result: &OpResult, now: Millis) -> Result<()> {
        let row = link::ActiveModel {
            record_id: Set(record),
            tenant: Set(self.tenant().to_owned()),
            entity_id: Set(result.entity_id),
            linked_at: Set(result.entity_id.map(|_| now)),
            evidence: NotSet,
            agreed: Set(result.agreed.as_ref().map(to_text)),
            apart: NotSet,
        };
        let since =
            Expr::col((link::Entity, link::Column::LinkedAt)).if_null(Expr::col(("excluded", link::Column::LinkedAt)));
        link::Entity::insert(row)
            .on_conflict(
                OnConflict::column(link::Column::RecordId)
                    .value(link::Column::EntityId, new_or_old(link::Column::EntityId))
                    .value(link::Column::LinkedAt, since)
                    .value(link::Column::Agreed, new_or_old(link::Column::Agreed))
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}
