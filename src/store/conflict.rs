//! Conflicts and reviews: one queue of what waits for a person, and the log of what a rule settled.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query, SelectStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DeriveActiveEnum, EntityTrait, EnumIter,
    IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use serde_json::{Value, json};

use super::json::{from_optional, from_text, to_text};
use super::keys::indexed;
use super::record::{mark_dirty, mark_dirty_where};
use super::sequence::{Sequence, draw, hold_records};
use super::tables::conflict::{Column, Entity, Model};
use super::tables::{conflict_record, link, record};
use super::{BATCH, Millis, Result, Store, StoreError, of_tenant};

/// Whether a conflict waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum ConflictState {
    /// It waits.
    Open,
    /// A person or a rule has answered.
    Resolved,
}

/// Something that one value or one link could not be decided about.
#[derive(Clone, Debug, PartialEq)]
pub struct NewConflict {
    /// `field`, `identity`, `possible`, `duplicate`, `refused`, `rewritten`, `invalid`, `unknown`, `deletion` or `moved`.
    pub kind: String,
    /// Says the same thing only once while it is open, `<entity>:<field>` for instance.
    pub key: String,
    /// The entity it is about.
    pub entity_id: Option<i64>,
    /// The records it is about.
    pub record_ids: Vec<i64>,
    /// The field it is about.
    pub field: Option<String>,
    /// What a person needs to see in order to decide.
    pub detail: Value,
    /// The rule that settled it at once; none when it waits.
    pub settled: Option<String>,
}

/// A conflict or review and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// Number of the conflict.
    pub id: i64,
    /// What it is about; see [`NewConflict::kind`].
    pub kind: String,
    /// See [`NewConflict::key`].
    pub key: String,
    /// The entity it is about.
    pub entity_id: Option<i64>,
    /// The records it is about.
    pub record_ids: Vec<i64>,
    /// The field it is about.
    pub field: Option<String>,
    /// What a person needs to see.
    pub detail: Value,
    /// The rule that settled it at once.
    pub settled: Option<String>,
    /// Whether it waits for a person.
    pub state: ConflictState,
    /// The answer.
    pub resolution: Option<Value>,
    /// When it was found.
    pub opened_at: Millis,
    /// When it was over; none while it waits, or while its answer was not followed yet.
    pub closed_at: Option<Millis>,
}

/// Which conflicts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictFilter {
    /// Only those that wait for a person.
    pub open_only: bool,
    /// Only those of one kind.
    pub kind: Option<String>,
    /// At most this many.
    pub limit: u64,
    /// Only numbers above this one.
    pub after: Option<i64>,
}

impl Store {
    /// Conflicts about these entities or records that are not over: waiting ones, and those whose answer
    /// (`resolution`) is still to be followed. By number.
    pub async fn open_conflicts_of(&self, entities: &[i64], records: &[i64]) -> Result<Vec<Conflict>> {
        let mut found = BTreeMap::new();
        for part in entities.chunks(BATCH) {
            let about = Column::EntityId.is_in(part.iter().copied()).and(Column::Tenant.eq(self.tenant()));
            self.collect_open(about, &mut found).await?;
        }
        for part in records.chunks(BATCH) {
            let ids = conflict_record::Entity::find()
                .select_only()
                .column(conflict_record::Column::ConflictId)
                .filter(conflict_record::Column::RecordId.is_in(part.iter().copied()));
            let about = Column::Id.in_subquery(ids.into_query()).and(of_tenant(Column::Tenant, self.tenant()));
            self.collect_open(about, &mut found).await?;
        }
        Ok(found.into_values().collect())
    }

    async fn collect_open(&self, about: Expr, found: &mut BTreeMap<i64, Conflict>) -> Result<()> {
        let rows = Entity::find().filter(Column::ClosedAt.is_null()).filter(about).all(self.reader()).await?;
        for row in rows {
            found.insert(row.id, Conflict::try_from(row)?);
        }
        Ok(())
    }

    /// A page of conflicts by number.
    pub async fn conflicts(&self, filter: &ConflictFilter) -> Result<Vec<Conflict>> {
        let found = Entity::find().filter(self.matching(filter)).order_by_asc(Column::Id).limit(filter.limit);
        found.all(self.reader()).await?.into_iter().map(Conflict::try_from).collect()
    }

    /// How many conflicts there are on this page and all that follow.
    pub async fn count_conflicts(&self, filter: &ConflictFilter) -> Result<u64> {
        Ok(Entity::find().filter(self.matching(filter)).count(self.reader()).await?)
    }

    fn matching(&self, filter: &ConflictFilter) -> Condition {
        let mut condition =
            Condition::all().add(Column::Tenant.eq(self.tenant())).add(Column::Id.gt(filter.after.unwrap_or_default()));
        if filter.open_only {
            condition = condition.add(Column::State.eq(ConflictState::Open));
        }
        if let Some(kind) = &filter.kind {
            condition = condition.add(Column::Kind.eq(kind.as_str()));
        }
        condition
    }

    /// One conflict.
    pub async fn conflict(&self, id: i64) -> Result<Option<Conflict>> {
        let row = Entity::find_by_id(id).filter(Column::Tenant.eq(self.tenant())).one(self.reader()).await?;
        row.map(Conflict::try_from).transpose()
    }

    /// Stores a person's answer; the records it is about are looked at again and follow it.
    pub async fn resolve_conflict(&self, id: i64, resolution: &Value, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        hold_records(&tx).await?;
        let row = Entity::find_by_id(id)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::ClosedAt.is_null())
            .one(&tx)
            .await?
            .ok_or_else(|| StoreError::NotFound { what: "open conflict", id: id.to_string() })?;
        let records: Vec<i64> = from_text("conflict", &id.to_string(), &row.record_ids)?;
        Entity::update_many()
            .col_expr(Column::State, Expr::value(ConflictState::Resolved))
            .col_expr(Column::Resolution, Expr::value(to_text(resolution)))
            .filter(Column::Id.eq(id))
            .exec(&tx)
            .await?;
        mark_dirty(&tx, self.tenant(), &records).await?;
        let mut followers = records.len();
        if let Some(entity) = row.entity_id {
            let of_entity = link::Entity::find()
                .select_only()
                .column(link::Column::RecordId)
                .filter(link::Column::EntityId.eq(entity));
            mark_dirty_where(&tx, self.tenant(), record::Column::Id.in_subquery(of_entity.into_query())).await?;
            followers += 1;
        }
        if followers == 0 {
            // Nothing will be looked at again, so nothing else would ever close it.
            close(&tx, self.tenant(), &[id], now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Ends the conflicts that wait under these keys: what they were about is over.
    pub async fn close_conflicts(&self, keys: &[String], now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        for part in keys.chunks(BATCH) {
            let ids: Vec<i64> = Entity::find()
                .select_only()
                .column(Column::Id)
                .filter(Column::Tenant.eq(self.tenant()))
                .filter(Column::OpenKey.is_in(part.iter().map(|key| indexed(key))))
                .into_tuple()
                .all(&tx)
                .await?;
            close(&tx, self.tenant(), &ids, now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// How many conflicts wait for a person that are about records, or about entities with records, at any
    /// of these connections.
    pub async fn count_open_at(&self, connections: &[String]) -> Result<u64> {
        Ok(self.open_at(connections).count(self.reader()).await?)
    }

    /// The same by kind.
    pub async fn count_open_kinds_at(&self, connections: &[String]) -> Result<BTreeMap<String, u64>> {
        self.by_kind(self.open_at(connections)).await
    }

    fn open_at(&self, connections: &[String]) -> Select<Entity> {
        let there = |records: SelectStatement| {
            Query::select()
                .expr(Expr::value(1))
                .from(record::Entity)
                .and_where(Expr::col((record::Entity, record::Column::Id)).in_subquery(records))
                .and_where(Expr::col((record::Entity, record::Column::Connection)).is_in(connections))
                .take()
        };
        let own = Query::select()
            .column((conflict_record::Entity, conflict_record::Column::RecordId))
            .from(conflict_record::Entity)
            .and_where(
                Expr::col((conflict_record::Entity, conflict_record::Column::ConflictId)).equals((Entity, Column::Id)),
            )
            .take();
        let of_entity = Query::select()
            .column((link::Entity, link::Column::RecordId))
            .from(link::Entity)
            .and_where(Expr::col((link::Entity, link::Column::EntityId)).equals((Entity, Column::EntityId)))
            .take();
        self.waiting().filter(Condition::any().add(Expr::exists(there(own))).add(Expr::exists(there(of_entity))))
    }

    /// How many conflicts wait for a person, by kind.
    pub async fn count_open(&self) -> Result<BTreeMap<String, u64>> {
        self.by_kind(self.waiting()).await
    }

    /// What waits for a decision. A value that is not one of its kind is told in the list and needs none: it stays
    /// where it is, and real data is full of them.
    fn waiting(&self) -> Select<Entity> {
        Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.eq(ConflictState::Open))
            .filter(Column::Kind.ne("invalid"))
    }

    async fn by_kind(&self, found: Select<Entity>) -> Result<BTreeMap<String, u64>> {
        let rows: Vec<(String, i64)> = found
            .select_only()
            .column(Column::Kind)
            .column_as(Column::Id.count(), "n")
            .group_by(Column::Kind)
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(rows.into_iter().map(|(kind, n)| (kind, n.unsigned_abs())).collect())
    }
}

/// Ends conflicts inside the caller's transaction.
pub async fn close<C: ConnectionTrait>(tx: &C, tenant: &str, ids: &[i64], now: Millis) -> Result<()> {
    for part in ids.chunks(BATCH) {
        Entity::update_many()
            .col_expr(Column::State, Expr::value(ConflictState::Resolved))
            .col_expr(Column::ClosedAt, Expr::value(now))
            .col_expr(Column::OpenKey, Expr::value(Option::<String>::None))
            .filter(Column::Id.is_in(part.iter().copied()))
            .filter(of_tenant(Column::Tenant, tenant))
            .filter(Column::ClosedAt.is_null())
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Adds conflicts inside the caller's transaction; what waits already gets the new detail and keeps its answer.
pub async fn open<C: ConnectionTrait>(tx: &C, tenant: &str, conflicts: &[NewConflict], now: Millis) -> Result<()> {
    let (settled, waiting): (Vec<_>, Vec<_>) = conflicts.iter().partition(|conflict| conflict.settled.is_some());
    let waiting: BTreeMap<&str, &NewConflict> =
        waiting.into_iter().map(|conflict| (conflict.key.as_str(), conflict)).collect();
    let known = open_by_key(tx, tenant, &waiting).await?;
    let mut new = settled;
    for (key, conflict) in waiting {
        match known.get(key) {
            Some(&id) => refresh(tx, tenant, id, conflict).await?,
            None => new.push(conflict),
        }
    }
    insert(tx, tenant, &new, now).await
}

async fn open_by_key<C: ConnectionTrait>(
    tx: &C,
    tenant: &str,
    waiting: &BTreeMap<&str, &NewConflict>,
) -> Result<BTreeMap<String, i64>> {
    let keys: Vec<&str> = waiting.keys().copied().collect();
    let mut known = BTreeMap::new();
    for part in keys.chunks(BATCH) {
        let rows: Vec<(String, i64)> = Entity::find()
            .select_only()
            .columns([Column::Key, Column::Id])
            .filter(Column::Tenant.eq(tenant))
            .filter(Column::OpenKey.is_in(part.iter().map(|key| indexed(key))))
            .into_tuple()
            .all(tx)
            .await?;
        known.extend(rows);
    }
    Ok(known)
}

async fn refresh<C: ConnectionTrait>(tx: &C, tenant: &str, id: i64, conflict: &NewConflict) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::Detail, Expr::value(to_text(&conflict.detail)))
        .col_expr(Column::RecordIds, Expr::value(to_text(&conflict.record_ids)))
        .filter(Column::Id.eq(id))
        .exec(tx)
        .await?;
    conflict_record::Entity::delete_many().filter(conflict_record::Column::ConflictId.eq(id)).exec(tx).await?;
    insert_records(tx, tenant, [(id, conflict)].into_iter()).await
}

async fn insert<C: ConnectionTrait>(tx: &C, tenant: &str, conflicts: &[&NewConflict], now: Millis) -> Result<()> {
    let n = i64::try_from(conflicts.len()).expect("they are in memory");
    if n == 0 {
        return Ok(());
    }
    let first = draw(tx, Sequence::Conflict, n).await?;
    let numbered: Vec<(i64, &NewConflict)> = (first..).zip(conflicts.iter().copied()).collect();
    for part in numbered.chunks(BATCH) {
        let rows = part.iter().map(|(id, conflict)| row(tenant, *id, conflict, now).into_active_model());
        Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    insert_records(tx, tenant, numbered.into_iter()).await
}

fn row(tenant: &str, id: i64, conflict: &NewConflict, now: Millis) -> Model {
    let waits = conflict.settled.is_none();
    Model {
        id,
        tenant: tenant.to_owned(),
        kind: conflict.kind.clone(),
        key: conflict.key.clone(),
        open_key: waits.then(|| indexed(&conflict.key).into_owned()),
        state: if waits { ConflictState::Open } else { ConflictState::Resolved },
        entity_id: conflict.entity_id,
        field: conflict.field.clone(),
        settled: conflict.settled.clone(),
        opened_at: now,
        closed_at: (!waits).then_some(now),
        record_ids: to_text(&conflict.record_ids),
        detail: to_text(&conflict.detail),
        resolution: conflict.settled.as_ref().map(|rule| to_text(&json!({ "rule": rule }))),
    }
}

async fn insert_records<'a, C: ConnectionTrait>(
    tx: &C,
    tenant: &str,
    conflicts: impl Iterator<Item = (i64, &'a NewConflict)>,
) -> Result<()> {
    let mut rows = Vec::new();
    for (conflict_id, conflict) in conflicts {
        let records: std::collections::BTreeSet<i64> = conflict.record_ids.iter().copied().collect();
        for record_id in records {
            rows.push(conflict_record::ActiveModel {
                record_id: Set(record_id),
                conflict_id: Set(conflict_id),
                tenant: Set(tenant.to_owned()),
            });
        }
    }
    for part in rows.chunks(BATCH) {
        conflict_record::Entity::insert_many(part.to_vec())
            .on_conflict(
                OnConflict::columns([conflict_record::Column::RecordId, conflict_record::Column::ConflictId])
                    .do_nothing()
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

impl TryFrom<Model> for Conflict {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Conflict> {
        let id = row.id.to_string();
        Ok(Conflict {
            record_ids: from_text("conflict", &id, &row.record_ids)?,
            detail: from_text("conflict", &id, &row.detail)?,
            resolution: from_optional("conflict", &id, row.resolution.as_deref())?,
            id: row.id,
            kind: row.kind,
            key: row.key,
            entity_id: row.entity_id,
            field: row.field,
            settled: row.settled,
            state: row.state,
            opened_at: row.opened_at,
            closed_at: row.closed_at,
        })
    }
}
