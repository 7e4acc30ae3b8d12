//! The messages of conversations: which were read, and as of which state of their conversation.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, RelationDef, Select,
};

use super::observe::{Incoming, Place, Then};
use super::tables::history::{ActiveModel, Column, Entity};
use super::tables::{message, record};
use super::{MessageState, Millis, RecordState, Result, Store};

/// No pause is longer: what waits for longer was put off by a clock that was ahead.
const LONGEST_PAUSE_MS: Millis = 2 * 3_600_000;

/// A conversation whose messages are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Number of the conversation's record.
    pub record: i64,
    /// The vendor's id.
    pub external_id: String,
    /// The state of the conversation that the reading will be of.
    pub fingerprint: String,
    /// Where the last reading of it ended, for vendors at which one can go on from there.
    pub cursor: Option<String>,
    /// How many messages were read by then.
    pub messages: i64,
}

/// How far the messages of a connection are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct HistoryCounts {
    /// Conversations there are.
    pub conversations: u64,
    /// Those whose messages are known as of their present state.
    pub covered: u64,
    /// Messages known.
    pub messages: u64,
}

impl Store {
    /// Conversations whose messages were not read as of their present state and may be read now: those first that were never
    /// tried, in the order in which they were first seen, then those that were tried longest ago.
    pub async fn unread(&self, connection: &str, now: Millis, limit: u64) -> Result<Vec<Unread>> {
        self.unread_among(self.conversations(connection), now, limit).await
    }

    /// Those of them into which something was sent since a time.
    pub async fn unread_with_ours(
        &self,
        connection: &str,
        since: Millis,
        now: Millis,
        limit: u64,
    ) -> Result<Vec<Unread>> {
        use message::Column;
        let mut sent = Query::select();
        sent.column(Column::Conversation).from(message::Entity);
        sent.and_where(Column::Tenant.eq(self.tenant())).and_where(Column::Connection.eq(connection));
        sent.and_where(Column::AttemptedAt.gte(since)).and_where(Column::State.eq(MessageState::Sent));
        sent.and_where(Column::Conversation.is_not_null());
        let among = self.conversations(connection).filter(record::Column::ExternalId.in_subquery(sent));
        self.unread_among(among, now, limit).await
    }

    async fn unread_among(
        &self,
        conversations: Select<record::Entity>,
        now: Millis,
        limit: u64,
    ) -> Result<Vec<Unread>> {
        type Row = (i64, String, String, Option<String>, Option<i64>);
        let tried = || Expr::col((Entity, Column::NotBefore)).if_null(0);
        let rows: Vec<Row> = conversations
            .select_only()
            .columns([record::Column::Id, record::Column::ExternalId, record::Column::Fingerprint])
            .column(Column::Cursor)
            .column(Column::Messages)
            .join(JoinType::LeftJoin, to_history())
            .filter(Condition::any().add(Column::Fingerprint.is_null()).add(
                Expr::col((Entity, Column::Fingerprint)).ne(Expr::col((record::Entity, record::Column::Fingerprint))),
            ))
            .filter(Condition::any().add(tried().lte(now)).add(tried().gt(now + LONGEST_PAUSE_MS)))
            .order_by_asc(tried())
            .order_by_asc(record::Column::Id)
            .limit(limit)
            .into_tuple()
            .all(self.reader())
            .await?;
        let named = |(record, external_id, fingerprint, cursor, messages): Row| {
            let messages = messages.unwrap_or_default();
            Unread { record, external_id, fingerprint, cursor, messages }
        };
        Ok(rows.into_iter().map(named).collect())
    }

    /// Takes in messages of a conversation; an id that is known is the same message, as it is now.
    pub async fn keep_messages(
        &self,
        connection: &str,
        conversation: &Unread,
        rows: &[Incoming],
        now: Millis,
    ) -> Result<()> {
        let tx = self.begin().await?;
        let place = Place { store: self, connection, stream: "message", now };
        let ids = place.keep(&tx, rows, Then::Rest).await?;
        tx.commit().await?;
        let key = ("conversation".to_owned(), conversation.external_id.clone());
        let keys: Vec<_> = ids.into_iter().map(|id| (id, vec![key.clone()])).collect();
        self.replace_keys(&keys).await
    }

    /// The messages of a conversation were read to the end, `messages` of them in all; the next reading may go on at `cursor`.
    pub async fn read_through(
        &self,
        conversation: &Unread,
        messages: i64,
        cursor: Option<&str>,
        now: Millis,
    ) -> Result<()> {
        let row = ActiveModel {
            record_id: Set(conversation.record),
            tenant: Set(self.tenant().to_owned()),
            fingerprint: Set(conversation.fingerprint.clone()),
            messages: Set(messages),
            read_at: Set(now),
            not_before: Set(now),
            cursor: Set(cursor.map(str::to_owned)),
        };
        let changed = [Column::Fingerprint, Column::Messages, Column::ReadAt, Column::NotBefore, Column::Cursor];
        self.save_history(row, &changed).await
    }

    /// The messages of a conversation could not be read: it is tried again later, and from its beginning.
    pub async fn not_read(&self, conversation: &Unread, not_before: Millis) -> Result<()> {
        let row = ActiveModel {
            record_id: Set(conversation.record),
            tenant: Set(self.tenant().to_owned()),
            // No conversation looks like that, so it is still to be read.
            fingerprint: Set(String::new()),
            messages: Set(0),
            read_at: Set(0),
            not_before: Set(not_before),
            cursor: Set(None),
        };
        self.save_history(row, &[Column::NotBefore, Column::Cursor]).await
    }

    async fn save_history(&self, row: ActiveModel, changed: &[Column]) -> Result<()> {
        let tx = self.begin().await?;
        Entity::insert(row)
            .on_conflict(OnConflict::column(Column::RecordId).update_columns(changed.iter().copied()).to_owned())
            .exec_without_returning(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// How far the messages of a connection are known.
    pub async fn history(&self, connection: &str) -> Result<HistoryCounts> {
        let conversations = self.conversations(connection).count(self.reader()).await?;
        let covered = self
            .conversations(connection)
            .join(JoinType::InnerJoin, to_history())
            .filter(
                Expr::col((Entity, Column::Fingerprint)).eq(Expr::col((record::Entity, record::Column::Fingerprint))),
            )
            .count(self.reader())
            .await?;
        let messages = record::Entity::find()
            .filter(record::Column::Tenant.eq(self.tenant()))
            .filter(record::Column::Connection.eq(connection))
            .filter(record::Column::Stream.eq("message"))
            .count(self.reader())
            .await?;
        Ok(HistoryCounts { conversations, covered, messages })
    }

    fn conversations(&self, connection: &str) -> sea_orm::Select<record::Entity> {
        record::Entity::find()
            .filter(record::Column::Tenant.eq(self.tenant()))
            .filter(record::Column::Connection.eq(connection))
            .filter(record::Column::Stream.eq("conversation"))
            .filter(record::Column::State.eq(RecordState::Live))
    }
}

fn to_history() -> RelationDef {
    record::Entity::belongs_to(Entity).from(record::Column::Id).to(Column::RecordId).into()
}
