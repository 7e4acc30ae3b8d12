//! Identity keys of records, for finding the others that share one.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect};

use super::tables::record_key::{Column, Entity, Model};
use super::{BATCH, Record, RecordState, Result, Store};

impl Store {
    /// Replaces the keys of these records; keys that stay are not written again.
    pub async fn replace_keys(&self, keys: &[(i64, Vec<(String, String)>)]) -> Result<()> {
        let tx = self.begin().await?;
        for part in keys.chunks(BATCH) {
            let ids: Vec<i64> = part.iter().map(|(id, _)| *id).collect();
            let wanted: BTreeSet<(i64, &str, &str)> =
                part.iter().flat_map(|(id, keys)| keys.iter().map(|(k, v)| (*id, k.as_str(), v.as_str()))).collect();
            let rows = Entity::find().filter(Column::RecordId.is_in(ids)).all(&tx).await?;
            let present: BTreeSet<(i64, &str, &str)> =
                rows.iter().map(|row| (row.record_id, row.kind.as_str(), row.value.as_str())).collect();
            let gone: Vec<_> = present.difference(&wanted).collect();
            // Each key is three terms of an expression whose depth SQLite limits.
            for some in gone.chunks(100) {
                let any = some.iter().fold(Condition::any(), |any, (id, kind, value)| {
                    any.add(
                        Condition::all()
                            .add(Column::RecordId.eq(*id))
                            .add(Column::Kind.eq(*kind))
                            .add(Column::Value.eq(*value)),
                    )
                });
                Entity::delete_many().filter(Column::Tenant.eq(self.tenant())).filter(any).exec(&tx).await?;
            }
            let new: Vec<_> = wanted
                .difference(&present)
                .map(|(id, kind, value)| {
                    Model {
                        tenant: self.tenant().to_owned(),
                        kind: (*kind).to_owned(),
                        value: (*value).to_owned(),
                        record_id: *id,
                    }
                    .into_active_model()
                })
                .collect();
            for some in new.chunks(BATCH) {
                Entity::insert_many(some.to_vec()).exec_without_returning(&tx).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Records of a stream that have any of these keys, by number; merged and deleted ones are left out.
    pub async fn records_by_keys(&self, stream: &str, keys: &[(String, String)]) -> Result<Vec<Record>> {
        let mut by_kind: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (kind, value) in keys {
            by_kind.entry(kind).or_default().insert(value);
        }
        let mut ids: Vec<i64> = Vec::new();
        for (kind, values) in by_kind {
            let values: Vec<&str> = values.into_iter().collect();
            for part in values.chunks(BATCH) {
                let some: Vec<i64> = Entity::find()
                    .select_only()
                    .column(Column::RecordId)
                    .filter(Column::Tenant.eq(self.tenant()))
                    .filter(Column::Kind.eq(kind))
                    .filter(Column::Value.is_in(part.iter().copied()))
                    .into_tuple()
                    .all(self.reader())
                    .await?;
                ids.extend(some);
            }
        }
        let mut records = self.records(&ids).await?;
        records.retain(|record| {
            record.stream == stream && matches!(record.state, RecordState::Live | RecordState::Missing)
        });
        Ok(records)
    }
}
