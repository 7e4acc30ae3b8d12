//! The result of reconciling some people, as one commit.

use std::collections::{BTreeMap, BTreeSet};

use counterpart_core::identity::Evidence;
use counterpart_core::merge::Agreed;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::json::to_text;
use super::record::mark_dirty;
use super::sequence::hold_records;
use super::tables::{link, record};
use super::{
    BATCH, Entity, Millis, NewConflict, PlannedOp, RecordState, Result, Store, conflict, entity, of_tenant, outbox,
};

/// Everything that reconciling some people changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    /// New and changed entities.
    pub entities: Vec<Entity>,
    /// Records with their links, bases and standing.
    pub records: Vec<RecordUpdate>,
    /// What is to be written at the vendors.
    pub operations: Vec<PlannedOp>,
    /// Conflicts and reviews that were found.
    pub conflicts: Vec<NewConflict>,
    /// Conflicts that are gone or whose answer was followed.
    pub closed_conflicts: Vec<i64>,
    /// The [`Store::revision`] before the records were read: one that was touched since stays dirty
    /// whatever its update says. None wipes the dirt off in any case.
    pub as_of: Option<i64>,
}

/// What reconciling decided about one record; none leaves a column as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordUpdate {
    /// Number of the record.
    pub id: i64,
    /// The entity it stands for.
    pub entity_id: Option<i64>,
    /// Its new base.
    pub agreed: Option<Agreed>,
    /// Why it is linked.
    pub evidence: Option<Evidence>,
    /// Since when it is linked.
    pub linked_at: Option<Millis>,
    /// Its new state.
    pub state: Option<RecordState>,
    /// Entities a person said it is not.
    pub apart: Option<BTreeSet<i64>>,
    /// Whether it still waits for something.
    pub dirty: bool,
}

impl RecordUpdate {
    /// Nothing more is to be done about this record.
    pub fn settled(id: i64) -> Self {
        RecordUpdate { id, ..RecordUpdate::default() }
    }

    /// This record is to be looked at again.
    pub fn due(id: i64) -> Self {
        RecordUpdate { id, dirty: true, ..RecordUpdate::default() }
    }

    fn links(&self) -> bool {
        self.entity_id.is_some()
            || self.agreed.is_some()
            || self.evidence.is_some()
            || self.linked_at.is_some()
            || self.apart.is_some()
    }
}

impl Store {
    /// Stores the result of reconciling; all of it or nothing.
    pub async fn save_reconciled(&self, result: &Reconciled, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        hold_records(&tx).await?;
        let tenant = self.tenant();
        entity::save(&tx, tenant, &result.entities, now).await?;
        let updates = last_of_each(&result.records);
        save_links(&tx, tenant, &updates).await?;
        save_states(&tx, tenant, &updates).await?;
        save_dirty(&tx, tenant, &updates, result.as_of).await?;
        outbox::insert(&tx, tenant, &result.operations, now).await?;
        conflict::close(&tx, tenant, &result.closed_conflicts, now).await?;
        conflict::open(&tx, tenant, &result.conflicts, now).await?;
        Ok(tx.commit().await?)
    }
}

fn last_of_each(updates: &[RecordUpdate]) -> Vec<&RecordUpdate> {
    let by_id: BTreeMap<i64, &RecordUpdate> = updates.iter().map(|update| (update.id, update)).collect();
    by_id.into_values().collect()
}

async fn save_links<C: ConnectionTrait>(tx: &C, tenant: &str, updates: &[&RecordUpdate]) -> Result<()> {
    use link::Column;
    let updates: Vec<_> = updates.iter().filter(|update| update.links()).collect();
    let mut on_conflict = OnConflict::column(Column::RecordId);
    for column in [Column::EntityId, Column::LinkedAt, Column::Evidence, Column::Agreed, Column::Apart] {
        on_conflict.value(column, new_or_old(column));
    }
    for part in updates.chunks(BATCH) {
        let rows = part.iter().map(|update| link::ActiveModel {
            record_id: Set(update.id),
            tenant: Set(tenant.to_owned()),
            entity_id: Set(update.entity_id),
            linked_at: Set(update.linked_at),
            evidence: Set(update.evidence.as_ref().map(to_text)),
            agreed: Set(update.agreed.as_ref().map(to_text)),
            apart: Set(update.apart.as_ref().map(to_text)),
        });
        link::Entity::insert_many(rows).on_conflict(on_conflict.clone()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// In an upsert of a link: the new value, or what is there when the new one is NULL.
pub(super) fn new_or_old(column: link::Column) -> Expr {
    Expr::col(("excluded", column)).if_null(Expr::col((link::Entity, column)))
}

async fn save_states<C: ConnectionTrait>(tx: &C, tenant: &str, updates: &[&RecordUpdate]) -> Result<()> {
    let mut by_state: BTreeMap<RecordState, Vec<i64>> = BTreeMap::new();
    for update in updates {
        if let Some(state) = update.state {
            by_state.entry(state).or_default().push(update.id);
        }
    }
    for (state, ids) in by_state {
        for part in ids.chunks(BATCH) {
            record::Entity::update_many()
                .col_expr(record::Column::State, Expr::value(state))
                .filter(record::Column::Id.is_in(part.iter().copied()))
                .filter(of_tenant(record::Column::Tenant, tenant))
                .exec(tx)
                .await?;
        }
    }
    Ok(())
}

async fn save_dirty<C: ConnectionTrait>(
    tx: &C,
    tenant: &str,
    updates: &[&RecordUpdate],
    as_of: Option<i64>,
) -> Result<()> {
    let ids = |dirty: bool| -> Vec<i64> {
        let some = updates.iter().filter(|update| update.dirty == dirty);
        some.map(|update| update.id).collect()
    };
    let (due, settled) = (ids(true), ids(false));
    if !due.is_empty() {
        mark_dirty(tx, tenant, &due).await?;
    }
    for part in settled.chunks(BATCH) {
        let mut wipe = record::Entity::update_many()
            .col_expr(record::Column::Dirty, Expr::value(false))
            .filter(record::Column::Id.is_in(part.iter().copied()))
            .filter(of_tenant(record::Column::Tenant, tenant))
            .filter(record::Column::Dirty.eq(true));
        if let Some(as_of) = as_of {
            wipe = wipe.filter(record::Column::Revision.lte(as_of));
        }
        wipe.exec(tx).await?;
    }
    Ok(())
}
