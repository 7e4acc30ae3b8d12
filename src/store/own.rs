//! What of what happens is our own doing.

use counterpart_connectors::ActKind;
use counterpart_core::business::EventKind;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::message::{Message, MessageState};
use super::tables::event;
use super::tables::message::{Column, Entity};
use super::{BATCH, Millis, Result, Store};

/// States of what was done or may have been.
const TRIED: [MessageState; 3] = [MessageState::Sending, MessageState::Sent, MessageState::Unknown];

impl Store {
    /// What was done at a desk, or may have been, that bears this mark or was tried between two times; the latest first.
    pub async fn acts_at_desk(
        &self,
        connection: &str,
        mark: Option<&str>,
        since: Millis,
        until: Millis,
    ) -> Result<Vec<Message>> {
        let at_desk = [ActKind::OpenTicket, ActKind::SetTicket].map(ActKind::word);
        let mut which = Condition::any().add(Column::AttemptedAt.between(since, until));
        if let Some(mark) = mark {
            which = which.add(Column::Mark.eq(mark));
        }
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Action.is_in(at_desk))
            // What refused, or waits to be tried again, may have changed something all the same.
            .filter(
                Condition::any()
                    .add(Column::State.is_in(TRIED.into_iter().chain([MessageState::Refused])))
                    .add(Column::RemoteId.is_not_null()),
            )
            .filter(which)
            .order_by_desc(Column::Id)
            .all(self.reader())
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// Our resolves of these conversations, done or perhaps done, that were not seen undone; the latest first.
    pub async fn standing_resolves(&self, connection: &str, conversations: &[&str]) -> Result<Vec<Message>> {
        let mut found = Vec::new();
        for part in conversations.chunks(BATCH) {
            let rows = Entity::find()
                .filter(Column::Tenant.eq(self.tenant()))
                .filter(Column::Connection.eq(connection))
                .filter(Column::Conversation.is_in(part.iter().copied()))
                .filter(Column::Action.eq(ActKind::Resolve.word()))
                .filter(Column::State.is_in(TRIED))
                .filter(Column::UndoneAt.is_null())
                .order_by_desc(Column::Id)
                .all(self.reader())
                .await?;
            for row in rows {
                found.push(Message::try_from(row)?);
            }
        }
        Ok(found)
    }

    /// What these intents did was seen undone.
    pub async fn acts_undone(&self, ids: &[i64], now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        for part in ids.chunks(BATCH) {
            Entity::update_many()
                .col_expr(Column::UndoneAt, Expr::value(now))
                .filter(Column::Tenant.eq(self.tenant()))
                .filter(Column::Id.is_in(part.iter().copied()))
                .exec(&tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// An intent that is not done, or never will be, has changed these tickets.
    pub async fn tickets_changed(&self, intent: i64, ids: &str) -> Result<()> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::RemoteId, Expr::value(ids))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(intent))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Whether an event of one of these kinds is stored already as the echo of an intent at this record.
    pub async fn has_echo(
        &self,
        connection: &str,
        stream: &str,
        external_id: &str,
        kinds: &[EventKind],
        intent: i64,
    ) -> Result<bool> {
        // In the order of the index `event_known`.
        let found = event::Entity::find()
            .filter(event::Column::Tenant.eq(self.tenant()))
            .filter(event::Column::Connection.eq(connection))
            .filter(event::Column::Stream.eq(stream))
            .filter(event::Column::ExternalId.eq(external_id))
            .filter(event::Column::Kind.is_in(kinds.iter().map(|kind| kind.as_str())))
            .filter(event::Column::CausedBy.eq(intent))
            .count(self.reader())
            .await?;
        Ok(found > 0)
    }
}
