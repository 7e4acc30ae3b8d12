//! Records: what was last observed of one object of one vendor.

use std::collections::BTreeSet;

use counterpart_core::Fields;
use counterpart_core::identity::Evidence;
use counterpart_core::merge::Agreed;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, DeriveActiveEnum, EntityTrait, EnumIter,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use super::load::{load, whole};
use super::sequence::{Sequence, draw, hold_records, next};
use super::tables::{link, record, record_key};
use super::{BATCH, Millis, Result, Store, of_tenant};

/// Whether the object still exists at its vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum RecordState {
    /// Seen when last looked for.
    Live,
    /// Not seen by the last complete scan.
    Missing,
    /// Gone, and that was accepted.
    Deleted,
    /// Merged into another object at the vendor.
    Merged,
}

/// One object of one vendor as last observed, and what it was taken to mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Number of the record.
    pub id: i64,
    /// The connection.
    pub connection: String,
    /// The stream.
    pub stream: String,
    /// The vendor's id.
    pub external_id: String,
    /// The entity it stands for.
    pub entity_id: Option<i64>,
    /// Whether it still exists.
    pub state: RecordState,
    /// What it says, in the common model.
    pub fields: Fields,
    /// What it and the engine last agreed on.
    pub agreed: Agreed,
    /// What the vendor sent.
    pub remote: Value,
    /// Hash of what it says.
    pub fingerprint: String,
    /// When the vendor says it changed.
    pub remote_updated_at: Option<Millis>,
    /// The vendor's token for this state of it.
    pub version: Option<String>,
    /// When this state of it was first seen.
    pub observed_at: Millis,
    /// Whether it waits for reconciling.
    pub dirty: bool,
    /// When it was last made dirty, as a [`Store::revision`].
    pub revision: i64,
    /// In how many complete scans in a row it was missing.
    pub missing_scans: i32,
    /// Why it is linked.
    pub evidence: Option<Evidence>,
    /// Since when it is linked.
    pub linked_at: Option<Millis>,
    /// Entities a person said it is not.
    pub apart: BTreeSet<i64>,
}

/// How many records a stream has, by standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Existing ones.
    pub live: u64,
    /// Not seen by the last complete scan.
    pub missing: u64,
    /// Gone.
    pub deleted: u64,
    /// Existing ones that stand for no entity yet.
    pub unlinked: u64,
    /// Waiting for reconciling.
    pub dirty: u64,
}

impl Store {
    /// Records of a stream that wait for reconciling, by number.
    pub async fn dirty_records(
        &self,
        stream: &str,
        connections: &[String],
        after_id: i64,
        limit: u64,
    ) -> Result<Vec<Record>> {
        let found = self
            .dirty(stream, connections)
            .filter(record::Column::Id.gt(after_id))
            .order_by_asc(record::Column::Id)
            .limit(limit);
        whole(self.reader(), found).await
    }

    /// The number of the last touch that made any record dirty.
    ///
    /// Read it before reading records that are to be reconciled, and hand it to
    /// [`Reconciled::as_of`](super::Reconciled::as_of): what was touched later stays dirty.
    pub async fn revision(&self) -> Result<i64> {
        Ok(next(self.reader(), Sequence::Revision).await? - 1)
    }

    /// How many records of a stream wait for reconciling.
    pub async fn count_dirty(&self, stream: &str, connections: &[String]) -> Result<u64> {
        Ok(self.dirty(stream, connections).count(self.reader()).await?)
    }

    fn dirty(&self, stream: &str, connections: &[String]) -> sea_orm::Select<record::Entity> {
        record::Entity::find()
            .filter(record::Column::Tenant.eq(self.tenant()))
            .filter(record::Column::Stream.eq(stream))
            .filter(record::Column::Dirty.eq(true))
            .filter(record::Column::Connection.is_in(connections))
            .filter(record::Column::State.ne(RecordState::Merged))
    }

    /// These records, by number; unknown numbers are left out.
    pub async fn records(&self, ids: &[i64]) -> Result<Vec<Record>> {
        load(self.reader(), self.tenant(), ids).await
    }

    /// The record a vendor's id stands for today: one that was merged is followed to the survivor.
    pub async fn record(&self, connection: &str, stream: &str, external_id: &str) -> Result<Option<Record>> {
        let db = self.reader();
        let mut external_id = external_id.to_owned();
        for _ in 0..MAX_MERGES {
            let Some(row) = self.find(db, connection, stream, &external_id).await? else {
                return Ok(None);
            };
            match row.merged_into {
                Some(next) => external_id = next,
                None => return Ok(load(db, self.tenant(), &[row.id]).await?.pop()),
            }
        }
        Ok(None)
    }

    /// Whether an object was ever observed, whatever became of it.
    pub async fn is_observed(&self, connection: &str, stream: &str, external_id: &str) -> Result<bool> {
        Ok(self.find(self.reader(), connection, stream, external_id).await?.is_some())
    }

    /// The row with exactly this vendor's id.
    pub(super) async fn find<C: ConnectionTrait>(
        &self,
        db: &C,
        connection: &str,
        stream: &str,
        external_id: &str,
    ) -> Result<Option<record::Model>> {
        Ok(record::Entity::find()
            .filter(record::Column::Tenant.eq(self.tenant()))
            .filter(record::Column::Connection.eq(connection))
            .filter(record::Column::Stream.eq(stream))
            .filter(record::Column::ExternalId.eq(external_id))
            .one(db)
            .await?)
    }

    /// Records of a stream that stand for these entities, by number; merged ones are left out.
    pub async fn records_of_entities(&self, stream: &str, entities: &[i64]) -> Result<Vec<Record>> {
        let mut ids = Vec::new();
        for part in entities.chunks(BATCH) {
            let some: Vec<i64> = link::Entity::find()
                .select_only()
                .column(link::Column::RecordId)
                .filter(link::Column::EntityId.is_in(part.iter().copied()))
                .filter(link::Column::Tenant.eq(self.tenant()))
                .into_tuple()
                .all(self.reader())
                .await?;
            ids.extend(some);
        }
        let mut records = self.records(&ids).await?;
        records.retain(|record| record.stream == stream && record.state != RecordState::Merged);
        Ok(records)
    }

    /// Records that wait for reconciling and were not there when they were last asked for, fewer than so many times in a row
    /// and before `before`; at most `limit` of them, after `after_id`.
    pub async fn absent_records(
        &self,
        stream: &str,
        connections: &[String],
        absences: i32,
        before: Millis,
        after_id: i64,
        limit: u64,
    ) -> Result<Vec<Record>> {
        let found = self
            .dirty(stream, connections)
            .filter(record::Column::State.eq(RecordState::Missing))
            .filter(record::Column::MissingScans.lt(absences))
            .filter(record::Column::ObservedAt.lt(before))
            .filter(record::Column::Id.gt(after_id))
            .order_by_asc(record::Column::Id)
            .limit(limit);
        whole(self.reader(), found).await
    }

    /// How many records of a stream were absent from at least so many complete scans in a row.
    pub async fn count_missing(&self, connection: &str, stream: &str, min_scans: i32) -> Result<u64> {
        Ok(record::Entity::find()
            .filter(record::Column::Tenant.eq(self.tenant()))
            .filter(record::Column::Connection.eq(connection))
            .filter(record::Column::Stream.eq(stream))
            .filter(record::Column::State.eq(RecordState::Missing))
            .filter(record::Column::MissingScans.gte(min_scans))
            .count(self.reader())
            .await?)
    }

    /// How many records a stream has, by standing.
    pub async fn counts(&self, connection: &str, stream: &str) -> Result<RecordCounts> {
        let of_stream = || {
            record::Entity::find()
                .filter(record::Column::Tenant.eq(self.tenant()))
                .filter(record::Column::Connection.eq(connection))
                .filter(record::Column::Stream.eq(stream))
        };
        let by_state: Vec<(RecordState, i64)> = of_stream()
            .select_only()
            .column(record::Column::State)
            .column_as(record::Column::Id.count(), "n")
            .group_by(record::Column::State)
            .into_tuple()
            .all(self.reader())
            .await?;
        let mut counts = RecordCounts::default();
        for (state, n) in by_state {
            let n = n.unsigned_abs();
            match state {
                RecordState::Live => counts.live = n,
                RecordState::Missing => counts.missing = n,
                RecordState::Deleted => counts.deleted = n,
                RecordState::Merged => {}
            }
        }
        let linked = link::Entity::find()
            .select_only()
            .column(link::Column::RecordId)
            .filter(link::Column::EntityId.is_not_null());
        counts.unlinked = of_stream()
            .filter(record::Column::State.eq(RecordState::Live))
            .filter(record::Column::Id.not_in_subquery(sea_orm::QueryTrait::into_query(linked)))
            .count(self.reader())
            .await?;
        counts.dirty = self.dirty(stream, &[connection.to_owned()]).count(self.reader()).await?;
        Ok(counts)
    }

    /// Notes that a vendor merged `old_id` into `new_id`.
    ///
    /// The old record keeps its history, is never matched or written again, and every later mention of its
    /// id means the survivor. The survivor takes over the link when it has none, and is looked at again.
    pub async fn set_alias(
        &self,
        connection: &str,
        stream: &str,
        old_id: &str,
        new_id: &str,
        now: Millis,
    ) -> Result<()> {
        if old_id == new_id {
            return Ok(());
        }
        let tx = self.begin().await?;
        hold_records(&tx).await?;
        let Some(old) = self.find(&tx, connection, stream, old_id).await? else {
            return Ok(());
        };
        record::Entity::update_many()
            .col_expr(record::Column::State, Expr::value(RecordState::Merged))
            .col_expr(record::Column::MergedInto, Expr::value(new_id))
            .col_expr(record::Column::Dirty, Expr::value(false))
            .col_expr(record::Column::ObservedAt, Expr::value(now))
            .filter(record::Column::Id.eq(old.id))
            .exec(&tx)
            .await?;
        record_key::Entity::delete_many().filter(record_key::Column::RecordId.eq(old.id)).exec(&tx).await?;
        if let Some(survivor) = self.find(&tx, connection, stream, new_id).await? {
            self.inherit_link(&tx, old.id, survivor.id).await?;
            mark_dirty(&tx, self.tenant(), &[survivor.id]).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn inherit_link<C: ConnectionTrait>(&self, tx: &C, old: i64, survivor: i64) -> Result<()> {
        let Some(from) = link::Entity::find_by_id(old).one(tx).await? else {
            return Ok(());
        };
        let row = link::ActiveModel {
            record_id: Set(survivor),
            tenant: Set(self.tenant().to_owned()),
            entity_id: Set(from.entity_id),
            linked_at: Set(from.linked_at),
            evidence: Set(from.evidence),
            agreed: NotSet,
            apart: NotSet,
        };
        let keep_own =
            |column: link::Column| Expr::col((link::Entity, column)).if_null(Expr::col(("excluded", column)));
        link::Entity::insert(row)
            .on_conflict(
                OnConflict::column(link::Column::RecordId)
                    .value(link::Column::LinkedAt, keep_own(link::Column::LinkedAt))
                    .value(link::Column::Evidence, keep_own(link::Column::Evidence))
                    .value(link::Column::EntityId, keep_own(link::Column::EntityId))
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}

/// A chain of merges longer than this is a circle.
pub const MAX_MERGES: usize = 16;

/// Makes records wait for reconciling; merged ones never do.
pub async fn mark_dirty<C: ConnectionTrait>(tx: &C, tenant: &str, ids: &[i64]) -> Result<()> {
    for part in ids.chunks(BATCH) {
        mark_dirty_where(tx, tenant, record::Column::Id.is_in(part.iter().copied())).await?;
    }
    Ok(())
}

/// Makes the records that a condition tells by their numbers wait for reconciling.
pub async fn mark_dirty_where<C: ConnectionTrait>(tx: &C, tenant: &str, condition: Expr) -> Result<()> {
    let revision = draw(tx, Sequence::Revision, 1).await?;
    record::Entity::update_many()
        .col_expr(record::Column::Dirty, Expr::value(true))
        .col_expr(record::Column::Revision, Expr::value(revision))
        .filter(condition)
        .filter(of_tenant(record::Column::Tenant, tenant))
        .filter(record::Column::State.ne(RecordState::Merged))
        .exec(tx)
        .await?;
    Ok(())
}
