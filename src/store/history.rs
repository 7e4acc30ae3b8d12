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

/// A conversation whose messages are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Number of the conversation's record.
    pub record: i64,
    /// The vendor's id.
    pub external_id: String,
    /// The state of the conversation that the reading will be of.
    pub fingerprint: String,
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
    /// Conversations whose messages were not read as of their present state, in the order in which they were first seen.
    pub async fn unread(&self, connection: &str, limit: u64) -> Result<Vec<Unread>> {
        self.unread_among(self.conversations(connection), limit).await
    }

    /// Those of them into which something was sent since a time.
    pub async fn unread_with_ours(&self, connection: &str, since: Millis, limit: u64) -> Result<Vec<Unread>> {
        use message::Column;
        let mut sent = Query::select();
        sent.column(Column::Conversation).from(message::Entity);
        sent.and_where(Column::Tenant.eq(self.tenant())).and_where(Column::Connection.eq(connection));
        sent.and_where(Column::AttemptedAt.gte(since)).and_where(Column::State.eq(MessageState::Sent));
        sent.and_where(Column::Conversation.is_not_null());
        let among = self.conversations(connection).filter(record::Column::ExternalId.in_subquery(sent));
        self.unread_among(among, limit).await
    }

    async fn unread_among(&self, conversations: Select<record::Entity>, limit: u64) -> Result<Vec<Unread>> {
        let rows: Vec<(i64, String, String)> = conversations
            .select_only()
            .columns([record::Column::Id, record::Column::ExternalId, record::Column::Fingerprint])
            .join(JoinType::LeftJoin, to_history())
            .filter(Condition::any().add(Column::Fingerprint.is_null()).add(
                Expr::col((Entity, Column::Fingerprint)).ne(Expr::col((record::Entity, record::Column::Fingerprint))),
            ))
            .order_by_asc(record::Column::Id)
            .limit(limit)
            .into_tuple()
            .all(self.reader())
            .await?;
        let named = |(record, external_id, fingerprint)| Unread { record, external_id, fingerprint };
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

    /// The messages of a conversation were read to the end.
    pub async fn read_through(&self, conversation: &Unread, messages: i64, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        let row = ActiveModel {
            record_id: Set(conversation.record),
            tenant: Set(self.tenant().to_owned()),
            fingerprint: Set(conversation.fingerprint.clone()),
            messages: Set(messages),
            read_at: Set(now),
        };
        Entity::insert(row)
            .on_conflict(
                OnConflict::column(Column::RecordId)
                    .update_columns([Column::Fingerprint, Column::Messages, Column::ReadAt])
                    .to_owned(),
            )
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
