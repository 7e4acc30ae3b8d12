//! Reading whole records: the three rows of each in one query, so that they are of one moment.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder, QuerySelect,
    RelationDef, Select,
};

use super::json::{from_optional, from_text};
use super::tables::{body, link, record};
use super::{BATCH, Record, RecordState, Result, StoreError, of_tenant};

/// Reads whole records by number, in that order.
pub async fn load<C: ConnectionTrait>(db: &C, tenant: &str, ids: &[i64]) -> Result<Vec<Record>> {
    let ids: BTreeSet<i64> = ids.iter().copied().collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let mut records = Vec::with_capacity(ids.len());
    for part in ids.chunks(BATCH) {
        let found = record::Entity::find()
            .filter(record::Column::Id.is_in(part.iter().copied()))
            .filter(of_tenant(record::Column::Tenant, tenant))
            .order_by_asc(record::Column::Id);
        records.extend(whole(db, found).await?);
    }
    Ok(records)
}

/// Reads the whole of the records that a query finds.
pub async fn whole<C: ConnectionTrait>(db: &C, found: Select<record::Entity>) -> Result<Vec<Record>> {
    use record::Column;
    let rows = found
        .select_only()
        .columns([
            Column::Id,
            Column::Connection,
            Column::Stream,
            Column::ExternalId,
            Column::State,
            Column::Dirty,
            Column::Revision,
            Column::MissingScans,
            Column::Fingerprint,
            Column::ObservedAt,
            Column::RemoteUpdatedAt,
            Column::Version,
        ])
        .columns([body::Column::Fields, body::Column::Remote])
        .columns([
            link::Column::EntityId,
            link::Column::LinkedAt,
            link::Column::Evidence,
            link::Column::Agreed,
            link::Column::Apart,
        ])
        .join(JoinType::LeftJoin, to_body())
        .join(JoinType::LeftJoin, to_link())
        .into_model::<Row>()
        .all(db)
        .await?;
    rows.into_iter().map(Record::try_from).collect()
}

fn to_body() -> RelationDef {
    record::Entity::belongs_to(body::Entity).from(record::Column::Id).to(body::Column::RecordId).into()
}

fn to_link() -> RelationDef {
    record::Entity::belongs_to(link::Entity).from(record::Column::Id).to(link::Column::RecordId).into()
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    connection: String,
    stream: String,
    external_id: String,
    state: RecordState,
    dirty: bool,
    revision: i64,
    missing_scans: i32,
    fingerprint: String,
    observed_at: i64,
    remote_updated_at: Option<i64>,
    version: Option<String>,
    fields: Option<String>,
    remote: Option<String>,
    entity_id: Option<i64>,
    linked_at: Option<i64>,
    evidence: Option<String>,
    agreed: Option<String>,
    apart: Option<String>,
}

impl TryFrom<Row> for Record {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Record> {
        let id = row.id.to_string();
        let (Some(fields), Some(remote)) = (&row.fields, &row.remote) else {
            return Err(StoreError::Corrupt { what: "record", id, why: "its body is missing".into() });
        };
        Ok(Record {
            fields: from_text("record", &id, fields)?,
            remote: from_text("record", &id, remote)?,
            agreed: from_optional("record", &id, row.agreed.as_deref())?.unwrap_or_default(),
            evidence: from_optional("record", &id, row.evidence.as_deref())?,
            apart: from_optional("record", &id, row.apart.as_deref())?.unwrap_or_default(),
            entity_id: row.entity_id,
            linked_at: row.linked_at,
            id: row.id,
            connection: row.connection,
            stream: row.stream,
            external_id: row.external_id,
            state: row.state,
            fingerprint: row.fingerprint,
            remote_updated_at: row.remote_updated_at,
            version: row.version,
            observed_at: row.observed_at,
            dirty: row.dirty,
            revision: row.revision,
            missing_scans: row.missing_scans,
        })
    }
}
