//! Events and what is to be done about them: stored together, each of them once.

use std::collections::{BTreeMap, BTreeSet};

use counterpart_core::business::{EventKind, Subject};
use counterpart_core::event::Known;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
};
use serde_json::Value;

use super::json::to_text;
use super::message::{self, NewMessage};
use super::sequence::{Sequence, draw, hold_records};
use super::tables::event::{ActiveModel, Column, Entity};
use super::tables::{body, record};
use super::{BATCH, Millis, Result, Store, StoreError, of_tenant};

/// A business record that changed since its events were derived.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Number of the record.
    pub id: i64,
    /// The vendor's id.
    pub external_id: String,
    /// What it says, in the model of its kind, or in the vendor's words.
    pub value: Value,
    /// Whether the vendor says that it is gone, or it was missing from two complete scans.
    pub gone: bool,
}

/// Something that happened, and what is done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// The vendor's id of the record.
    pub external_id: String,
    /// What happened.
    pub kind: EventKind,
    /// Which of several.
    pub nth: String,
    /// When, as the vendor says, or when it was seen.
    pub happened_at: Millis,
    /// Whether it may reach a customer: it did not happen before the stream was first read.
    pub live: bool,
    /// The intent whose doing it is: our own.
    pub caused_by: Option<i64>,
    /// The record as it was then.
    pub subject: Value,
    /// What is to be done about it.
    pub messages: Vec<NewMessage>,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// What happened.
    pub kind: String,
    /// When, as the vendor says, or when it was seen.
    pub happened_at: Millis,
    /// When it was seen.
    pub seen_at: Millis,
    /// Whether it may reach a customer.
    pub live: bool,
    /// The record as it was then.
    pub subject: Subject,
}

impl Store {
    /// Business records of a stream that changed, by number.
    pub async fn changed(&self, connection: &str, stream: &str, after_id: i64, limit: u64) -> Result<Vec<Changed>> {
        use record::Column;
        type Row = (i64, String, super::RecordState, Option<String>);
        let rows: Vec<Row> = self
            .business_records(JoinType::LeftJoin, connection, stream, after_id, limit)
            .columns([Column::Id, Column::ExternalId, Column::State])
            .column(body::Column::Fields)
            .filter(Column::Dirty.eq(true))
            .into_tuple()
            .all(self.reader())
            .await?;
        let read = |(id, external_id, state, fields): Row| {
            let text = fields.ok_or_else(|| StoreError::Corrupt {
                what: "record",
                id: id.to_string(),
                why: "its body is missing".into(),
            })?;
            let value = super::json::from_text("record", &id.to_string(), &text)?;
            Ok(Changed { id, external_id, value, gone: state != super::RecordState::Live })
        };
        rows.into_iter().map(read).collect()
    }

    /// Business records of a stream that are there, by number, each as the vendor last showed it.
    pub async fn as_last_shown(
        &self,
        connection: &str,
        stream: &str,
        after_id: i64,
        limit: u64,
    ) -> Result<Vec<Changed>> {
        use record::Column;
        let rows: Vec<(i64, String, String)> = self
            .business_records(JoinType::InnerJoin, connection, stream, after_id, limit)
            .columns([Column::Id, Column::ExternalId])
            .column(body::Column::Remote)
            .filter(Column::State.eq(super::RecordState::Live))
            .into_tuple()
            .all(self.reader())
            .await?;
        let read = |(id, external_id, remote): (i64, String, String)| {
            let value = super::json::from_text("record", &id.to_string(), &remote)?;
            Ok(Changed { id, external_id, value, gone: false })
        };
        rows.into_iter().map(read).collect()
    }

    /// Records of a stream above a number, with their bodies; what is selected of them is for the caller to say.
    fn business_records(
        &self,
        bodies: JoinType,
        connection: &str,
        stream: &str,
        after_id: i64,
        limit: u64,
    ) -> Select<record::Entity> {
        use record::Column;
        let body = record::Entity::belongs_to(body::Entity).from(Column::Id).to(body::Column::RecordId).into();
        record::Entity::find()
            .select_only()
            .join(bodies, body)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Stream.eq(stream))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Id.gt(after_id))
            .order_by_asc(Column::Id)
            .limit(limit)
    }

    /// What one business record says.
    pub async fn document(&self, connection: &str, stream: &str, external_id: &str) -> Result<Option<Value>> {
        let Some(row) = self.find(self.reader(), connection, stream, external_id).await? else { return Ok(None) };
        let body = body::Entity::find_by_id(row.id).one(self.reader()).await?;
        body.map(|body| super::json::from_text("record", &row.id.to_string(), &body.fields)).transpose()
    }

    /// Business records of a stream that have this key, newest first: the vendor's id, and what each says.
    pub async fn documents_by_key(
        &self,
        connection: &str,
        stream: &str,
        kind: &str,
        value: &str,
    ) -> Result<Vec<(String, Value)>> {
        use super::tables::record_key as key;
        let ids: Vec<i64> = key::Entity::find()
            .select_only()
            .column(key::Column::RecordId)
            .filter(key::Column::Tenant.eq(self.tenant()))
            .filter(key::Column::Kind.eq(kind))
            .filter(key::Column::Value.eq(super::keys::indexed(value).as_ref()))
            .into_tuple()
            .all(self.reader())
            .await?;
        let rows: Vec<(i64, String, Option<String>)> = record::Entity::find()
            .select_only()
            .columns([record::Column::Id, record::Column::ExternalId])
            .column(body::Column::Fields)
            .join(
                sea_orm::JoinType::LeftJoin,
                record::Entity::belongs_to(body::Entity).from(record::Column::Id).to(body::Column::RecordId).into(),
            )
            .filter(record::Column::Id.is_in(ids))
            .filter(record::Column::Connection.eq(connection))
            .filter(record::Column::Stream.eq(stream))
            .filter(record::Column::State.eq(super::RecordState::Live))
            .order_by_desc(record::Column::Id)
            .into_tuple()
            .all(self.reader())
            .await?;
        let read = |(id, external_id, fields): (i64, String, Option<String>)| {
            let text = fields.unwrap_or_else(|| "{}".to_owned());
            Ok((external_id, super::json::from_text("record", &id.to_string(), &text)?))
        };
        rows.into_iter().map(read).collect()
    }

    /// The events that are known of these records, in the order in which they were stored.
    pub async fn known_events(
        &self,
        connection: &str,
        stream: &str,
        external_ids: &[&str],
    ) -> Result<BTreeMap<String, Vec<Known>>> {
        let mut known: BTreeMap<String, Vec<Known>> = BTreeMap::new();
        for part in external_ids.chunks(BATCH) {
            let rows = Entity::find()
                .filter(Column::Tenant.eq(self.tenant()))
                .filter(Column::Connection.eq(connection))
                .filter(Column::Stream.eq(stream))
                .filter(Column::ExternalId.is_in(part.iter().copied()))
                .order_by_asc(Column::Id)
                .all(self.reader())
                .await?;
            for row in rows {
                if let Ok(kind) = row.kind.parse() {
                    let event = Known { kind, nth: row.nth, at: row.happened_at, is_ours: row.caused_by.is_some() };
                    known.entry(row.external_id).or_default().push(event);
                }
            }
        }
        Ok(known)
    }

    /// Stores events with what is done about them, and that these records were looked at (as of a
    /// [`revision`](Store::revision)), in one commit. An event that is known is left alone, with its messages.
    pub async fn save_events(
        &self,
        connection: &str,
        events: &[NewEvent],
        looked_at: &[i64],
        as_of: i64,
        now: Millis,
    ) -> Result<u64> {
        if events.is_empty() && looked_at.is_empty() {
            return Ok(0);
        }
        let tx = self.begin().await?;
        hold_records(&tx).await?;
        let new = self.unknown(&tx, connection, events).await?;
        for part in new.chunks(BATCH) {
            let first = draw(&tx, Sequence::Event, i64::try_from(part.len()).expect("a part is short")).await?;
            let numbered = || (first..).zip(part.iter().copied());
            let rows = numbered().map(|(id, event)| self.event_row(id, connection, event, now));
            Entity::insert_many(rows).exec_without_returning(&tx).await?;
            let messages: Vec<_> =
                numbered().flat_map(|(id, event)| event.messages.iter().map(move |message| (id, message))).collect();
            message::insert(&tx, self.tenant(), &messages, now).await?;
        }
        for part in looked_at.chunks(BATCH) {
            record::Entity::update_many()
                .col_expr(record::Column::Dirty, Expr::value(false))
                .filter(of_tenant(record::Column::Tenant, self.tenant()))
                .filter(record::Column::Id.is_in(part.iter().copied()))
                .filter(record::Column::Revision.lte(as_of))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        Ok(new.len() as u64)
    }

    /// Those that are not stored yet, each once. Records are held, so that nobody else stores events now, and what they stored
    /// before is seen (PostgreSQL: at READ COMMITTED, its default).
    async fn unknown<'e, C: ConnectionTrait>(
        &self,
        tx: &C,
        connection: &str,
        events: &'e [NewEvent],
    ) -> Result<Vec<&'e NewEvent>> {
        let mut known = BTreeSet::new();
        for part in events.chunks(BATCH) {
            let streams: BTreeSet<&str> = part.iter().map(|event| event.kind.topic().as_str()).collect();
            let ids: BTreeSet<&str> = part.iter().map(|event| event.external_id.as_str()).collect();
            let rows: Vec<(String, String, String)> = Entity::find()
                .select_only()
                .columns([Column::ExternalId, Column::Kind, Column::Nth])
                .filter(Column::Tenant.eq(self.tenant()))
                .filter(Column::Connection.eq(connection))
                .filter(Column::Stream.is_in(streams))
                .filter(Column::ExternalId.is_in(ids))
                .into_tuple()
                .all(tx)
                .await?;
            known.extend(rows);
        }
        // The kind says the stream.
        let key = |event: &NewEvent| (event.external_id.clone(), event.kind.as_str().to_owned(), event.nth.clone());
        Ok(events.iter().filter(|event| known.insert(key(event))).collect())
    }

    fn event_row(&self, id: i64, connection: &str, event: &NewEvent, now: Millis) -> ActiveModel {
        ActiveModel {
            id: Set(id),
            tenant: Set(self.tenant().to_owned()),
            connection: Set(connection.to_owned()),
            stream: Set(event.kind.topic().as_str().to_owned()),
            external_id: Set(event.external_id.clone()),
            kind: Set(event.kind.as_str().to_owned()),
            nth: Set(event.nth.clone()),
            happened_at: Set(event.happened_at),
            seen_at: Set(now),
            live: Set(event.live),
            caused_by: Set(event.caused_by),
            subject: Set(to_text(&event.subject)),
        }
    }

    /// The events of a record that came after one of them: kinds in the order in which they were stored.
    pub async fn events_after(&self, event: i64) -> Result<Vec<String>> {
        let Some(row) = Entity::find_by_id(event).filter(Column::Tenant.eq(self.tenant())).one(self.reader()).await?
        else {
            return Ok(Vec::new());
        };
        let kinds = Entity::find()
            .select_only()
            .column(Column::Kind)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(row.connection))
            .filter(Column::Stream.eq(row.stream))
            .filter(Column::ExternalId.eq(row.external_id))
            .filter(Column::Id.gt(event))
            .order_by_asc(Column::Id)
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(kinds)
    }

    /// How many events are stored.
    pub async fn count_events(&self) -> Result<u64> {
        Ok(Entity::find().filter(Column::Tenant.eq(self.tenant())).count(self.reader()).await?)
    }

    /// When something of a kind happened to the record of an event, as the vendor says.
    pub async fn times_of(&self, event: i64, kind: EventKind) -> Result<Vec<Millis>> {
        let Some(row) = Entity::find_by_id(event).filter(Column::Tenant.eq(self.tenant())).one(self.reader()).await?
        else {
            return Ok(Vec::new());
        };
        let times = Entity::find()
            .select_only()
            .column(Column::HappenedAt)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(row.connection))
            .filter(Column::Stream.eq(row.stream))
            .filter(Column::ExternalId.eq(row.external_id))
            .filter(Column::Kind.eq(kind.as_str()))
            .order_by_asc(Column::Id)
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(times)
    }

    /// The hours since 1970 in which anything happened in a stream, from `since` on, in order.
    pub async fn busy_hours(&self, connection: &str, stream: &str, since: Millis) -> Result<Vec<i64>> {
        let mut hours: Vec<i64> = Entity::find()
            .select_only()
            .expr_as(Expr::col(Column::HappenedAt).div(3_600_000), "hour")
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Stream.eq(stream))
            .filter(Column::HappenedAt.gte(since))
            .distinct()
            .into_tuple()
            .all(self.reader())
            .await?;
        hours.sort_unstable();
        Ok(hours)
    }

    /// When anything happened in a stream last.
    pub async fn last_event_at(&self, connection: &str, stream: &str) -> Result<Option<Millis>> {
        let latest = Entity::find()
            .select_only()
            .column(Column::HappenedAt)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Stream.eq(stream))
            .order_by_desc(Column::HappenedAt)
            .into_tuple()
            .one(self.reader())
            .await?;
        Ok(latest)
    }

    /// One event.
    pub async fn event(&self, id: i64) -> Result<Option<StoredEvent>> {
        let row = Entity::find_by_id(id).filter(Column::Tenant.eq(self.tenant())).one(self.reader()).await?;
        let read = |row: super::tables::event::Model| {
            Ok(StoredEvent {
                subject: super::json::from_text("event", &row.id.to_string(), &row.subject)?,
                kind: row.kind,
                happened_at: row.happened_at,
                seen_at: row.seen_at,
                live: row.live,
            })
        };
        row.map(read).transpose()
    }
}
