//! Identity keys of records, for finding the others that share one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect};
use sha2::{Digest, Sha256};

use super::tables::record;
use super::tables::record_key::{Column, Entity, Model};
use super::{BATCH, Record, RecordState, Result, Store};

/// Bytes of a text that the indexes of both databases hold beside the other columns.
const LONGEST: usize = 1_000;

/// A text as it stands in an index: its hash, where it is too long for one.
pub(super) fn indexed(text: &str) -> Cow<'_, str> {
    match text.len() > LONGEST {
        true => Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        false => text.into(),
    }
}

/// A record that is there and has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key's value.
    pub value: String,
    /// The connection.
    pub connection: String,
    /// The vendor's id.
    pub external_id: String,
}

/// A page of keys, by value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The last value on it; none when there are no more.
    pub last: Option<String>,
    /// Who holds them.
    pub holders: Vec<KeyHolder>,
}

impl Store {
    /// The live records of a stream that have a key of this kind above a value. Of several that share the last value of the page
    /// some may be passed over.
    pub async fn key_holders(&self, stream: &str, kind: &str, after: &str, limit: u64) -> Result<KeyPage> {
        let keys: Vec<(String, i64)> = Entity::find()
            .select_only()
            .columns([Column::Value, Column::RecordId])
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Kind.eq(kind))
            .filter(Column::Value.gt(after))
            .order_by_asc(Column::Value)
            .order_by_asc(Column::RecordId)
            .limit(limit)
            .into_tuple()
            .all(self.reader())
            .await?;
        let mut records: BTreeMap<i64, (String, String)> = BTreeMap::new();
        for part in keys.chunks(BATCH) {
            let rows: Vec<(i64, String, String)> = record::Entity::find()
                .select_only()
                .columns([record::Column::Id, record::Column::Connection, record::Column::ExternalId])
                .filter(record::Column::Id.is_in(part.iter().map(|(_, id)| *id)))
                .filter(record::Column::Stream.eq(stream))
                .filter(record::Column::State.eq(RecordState::Live))
                .into_tuple()
                .all(self.reader())
                .await?;
            records.extend(rows.into_iter().map(|(id, connection, external_id)| (id, (connection, external_id))));
        }
        let last = keys.last().map(|(value, _)| value.clone());
        let holder = |(value, id): (String, i64)| {
            let (connection, external_id) = records.get(&id)?.clone();
            Some(KeyHolder { value, connection, external_id })
        };
        Ok(KeyPage { last, holders: keys.into_iter().filter_map(holder).collect() })
    }

    /// Replaces the keys of these records; keys that stay are not written again.
    pub async fn replace_keys(&self, keys: &[(i64, Vec<(String, String)>)]) -> Result<()> {
        let tx = self.begin().await?;
        for part in keys.chunks(BATCH) {
            let ids: Vec<i64> = part.iter().map(|(id, _)| *id).collect();
            let wanted: BTreeSet<(i64, &str, Cow<'_, str>)> =
                part.iter().flat_map(|(id, keys)| keys.iter().map(|(k, v)| (*id, k.as_str(), indexed(v)))).collect();
            let rows = Entity::find().filter(Column::RecordId.is_in(ids)).all(&tx).await?;
            let present: BTreeSet<(i64, &str, Cow<'_, str>)> =
                rows.iter().map(|row| (row.record_id, row.kind.as_str(), row.value.as_str().into())).collect();
            let gone: Vec<_> = present.difference(&wanted).collect();
            // Each key is three terms of an expression whose depth SQLite limits.
            for some in gone.chunks(100) {
                let any = some.iter().fold(Condition::any(), |any, (id, kind, value)| {
                    any.add(
                        Condition::all()
                            .add(Column::RecordId.eq(*id))
                            .add(Column::Kind.eq(*kind))
                            .add(Column::Value.eq(value.as_ref())),
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
                        value: value.clone().into_owned(),
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
        let mut by_kind: BTreeMap<&str, BTreeSet<Cow<'_, str>>> = BTreeMap::new();
        for (kind, value) in keys {
            by_kind.entry(kind).or_default().insert(indexed(value));
        }
        let mut ids: Vec<i64> = Vec::new();
        for (kind, values) in by_kind {
            let values: Vec<Cow<'_, str>> = values.into_iter().collect();
            for part in values.chunks(BATCH) {
                let some: Vec<i64> = Entity::find()
                    .select_only()
                    .column(Column::RecordId)
                    .filter(Column::Tenant.eq(self.tenant()))
                    .filter(Column::Kind.eq(kind))
                    .filter(Column::Value.is_in(part.iter().map(Cow::as_ref)))
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
