//! Entities: the people (later conversations, orders, tickets) that records stand for.

use counterpart_core::merge::Golden;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use super::json::{from_text, to_text};
use super::sequence::{Sequence, draw};
use super::tables::entity;
use super::{BATCH, Millis, Result, Store};

/// One person and the values that stand for them everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Number of the entity.
    pub id: i64,
    /// What it is, `contact` for instance.
    pub kind: String,
    /// Its values, each with where it came from.
    pub golden: Golden,
    /// When it was first known.
    pub created_at: Millis,
}

impl Store {
    /// These entities, by number; unknown numbers are left out.
    pub async fn entities(&self, ids: &[i64]) -> Result<Vec<Entity>> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::with_capacity(ids.len());
        for part in ids.chunks(BATCH) {
            let rows = entity::Entity::find()
                .filter(entity::Column::Id.is_in(part.iter().copied()))
                .filter(entity::Column::Tenant.eq(self.tenant()))
                .order_by_asc(entity::Column::Id)
                .all(self.reader())
                .await?;
            for row in rows {
                found.push(Entity {
                    golden: from_text("entity", &row.id.to_string(), &row.golden)?,
                    id: row.id,
                    kind: row.kind,
                    created_at: row.created_at,
                });
            }
        }
        Ok(found)
    }

    /// Numbers for `n` new entities.
    pub async fn new_entity_ids(&self, n: u64) -> Result<Vec<i64>> {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        let tx = self.begin().await?;
        let first = draw(&tx, Sequence::Entity, n).await?;
        tx.commit().await?;
        Ok((first..first + n).collect())
    }
}

/// Writes entities inside the caller's transaction.
pub async fn save<C: ConnectionTrait>(tx: &C, tenant: &str, entities: &[Entity], now: Millis) -> Result<()> {
    let mut entities: Vec<&Entity> = entities.iter().collect();
    entities.sort_by_key(|entity| entity.id);
    // Of several versions in one batch the last one given stands: the sort is stable.
    entities.reverse();
    entities.dedup_by_key(|entity| entity.id);
    entities.reverse();
    for part in entities.chunks(BATCH) {
        let rows = part.iter().map(|entity| entity::ActiveModel {
            id: Set(entity.id),
            tenant: Set(tenant.to_owned()),
            kind: Set(entity.kind.clone()),
            created_at: Set(entity.created_at),
            updated_at: Set(now),
            golden: Set(to_text(&entity.golden)),
        });
        entity::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::column(entity::Column::Id)
                    .update_columns([entity::Column::UpdatedAt, entity::Column::Golden])
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}
