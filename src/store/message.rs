//! What is done in chats because of an event: one row for each intent, and where it stands.

use std::collections::{BTreeMap, BTreeSet};

use counterpart_connectors::ActKind;
use counterpart_core::business::Party;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, OnConflict, Query, SelectStatement, SimpleExpr};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DeriveActiveEnum, EntityTrait, EnumIter, Order,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};

use super::json::{from_text, to_text};
use super::sequence::{Sequence, draw};
use super::tables::message::{ActiveModel, Column, Entity, Model};
use super::{BATCH, Millis, Result, Store, StoreError, of_tenant};

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum MessageState {
    /// To be sent.
    Pending,
    /// Not before a time, with the reason.
    Held,
    /// Being sent: after a crash nobody knows.
    Sending,
    /// The chat system has it, and nobody says that it could not be delivered.
    Sent,
    /// The customer may have it or not; it is looked for before anything else.
    Unknown,
    /// The vendor refused it.
    Refused,
    /// It will not be sent, with the reason.
    Dropped,
}

impl MessageState {
    /// All of them.
    pub const ALL: [MessageState; 7] = {
        use MessageState::{Dropped, Held, Pending, Refused, Sending, Sent, Unknown};
        [Pending, Held, Sending, Sent, Unknown, Refused, Dropped]
    };

    /// The word that the store and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            MessageState::Pending => "pending",
            MessageState::Held => "held",
            MessageState::Sending => "sending",
            MessageState::Sent => "sent",
            MessageState::Unknown => "unknown",
            MessageState::Refused => "refused",
            MessageState::Dropped => "dropped",
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<MessageState> {
        MessageState::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// States of what is neither done nor given up.
const OPEN: [MessageState; 4] =
    [MessageState::Pending, MessageState::Held, MessageState::Sending, MessageState::Unknown];

/// An intent that is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The intent: the same one is stored once, whatever leads to it.
    pub key: String,
    /// Name of the flow.
    pub flow: String,
    /// What is done.
    pub action: ActKind,
    /// Where.
    pub connection: String,
    /// Whom it concerns.
    pub party: Party,
    /// The conversation, where the event itself names it.
    pub conversation: Option<String>,
    /// What it says.
    pub text: Option<String>,
    /// Where it stands at first, and why when it will not be sent.
    pub state: MessageState,
    /// See `state`.
    pub reason: Option<String>,
}

/// A stored intent.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its number.
    pub id: i64,
    /// The intent.
    pub key: String,
    /// Name of the flow.
    pub flow: String,
    /// The event that led to it.
    pub event_id: i64,
    /// What is done.
    pub action: ActKind,
    /// Where.
    pub connection: String,
    /// Whom it concerns.
    pub party: Party,
    /// The conversation, once one is found.
    pub conversation: Option<String>,
    /// Whom it was written to last, by the id at the chat system, where that is known.
    pub contact: Option<String>,
    /// What it says.
    pub text: Option<String>,
    /// Our mark on it at the vendor.
    pub mark: String,
    /// Whether it took the other way that its flow named.
    pub fell_back: bool,
    /// Where it stands.
    pub state: MessageState,
    /// Why.
    pub reason: Option<String>,
    /// Not before.
    pub until: Millis,
    /// How often it was sent or may have been.
    pub attempts: i32,
    /// When it was last sent or may have been.
    pub attempted_at: Option<Millis>,
    /// The vendor's id of the message.
    pub remote_id: Option<String>,
    /// When it was stored.
    pub created_at: Millis,
    /// When its state changed last.
    pub updated_at: Millis,
}

/// Stores intents that are not known yet, each with the number of its event.
pub(super) async fn insert<C: ConnectionTrait>(
    tx: &C,
    tenant: &str,
    messages: &[(i64, &NewMessage)],
    now: Millis,
) -> Result<()> {
    for part in messages.chunks(BATCH) {
        let first = draw(tx, Sequence::Message, i64::try_from(part.len()).expect("a part is short")).await?;
        let rows = (first..).zip(part).map(|(id, (event_id, message))| ActiveModel {
            id: Set(id),
            tenant: Set(tenant.to_owned()),
            key: Set(message.key.clone()),
            flow: Set(message.flow.clone()),
            event_id: Set(*event_id),
            action: Set(message.action.word().to_owned()),
            connection: Set(message.connection.clone()),
            party: Set(to_text(&message.party)),
            conversation: Set(message.conversation.clone()),
            contact: Set(None),
            text: Set(message.text.clone()),
            mark: Set(mark(tenant, &message.key)),
            fell_back: Set(false),
            state: Set(message.state),
            reason: Set(message.reason.clone()),
            until: Set(0),
            attempts: Set(0),
            attempted_at: Set(None),
            undone_at: Set(None),
            remote_id: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
        });
        Entity::insert_many(rows)
            .on_conflict(OnConflict::columns([Column::Tenant, Column::Key]).do_nothing().to_owned())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// The same for the same intent in every store, so that a restored store still knows its messages.
fn mark(tenant: &str, key: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("{tenant}\n{key}"));
    hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// What is to be done at a connection now, what a customer is to read before all else and then by age: pending and due, and
    /// unknown ones that may be looked for.
    pub async fn next_messages(&self, connection: &str, now: Millis, limit: u64) -> Result<Vec<Message>> {
        let due = [MessageState::Pending, MessageState::Held, MessageState::Unknown];
        let read_by_people = [ActKind::Send, ActKind::Open, ActKind::Note].map(ActKind::word);
        let urgency: SimpleExpr = Expr::case(Column::Action.is_in(read_by_people), 0).finally(1).into();
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::State.is_in(due))
            .filter(Column::Until.lte(now))
            .order_by(urgency, Order::Asc)
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(self.reader())
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// When the next held or unknown message at a connection is due.
    pub async fn next_message_at(&self, connection: &str) -> Result<Option<Millis>> {
        let due = [MessageState::Pending, MessageState::Held, MessageState::Unknown];
        let next: Option<Option<Millis>> = Entity::find()
            .select_only()
            .column_as(Column::Until.min(), "until")
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::State.is_in(due))
            .into_tuple()
            .one(self.reader())
            .await?;
        Ok(next.flatten())
    }

    /// Messages that were being sent when their process died may have arrived.
    pub async fn orphan_messages(&self, connection: &str, until: Millis, now: Millis) -> Result<u64> {
        let sending = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::State.eq(MessageState::Sending));
        if sending.count(self.reader()).await? == 0 {
            return Ok(0);
        }
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::State, Expr::value(MessageState::Unknown))
            .col_expr(Column::Reason, Expr::value("the program ended while sending it"))
            .col_expr(Column::Until, Expr::value(until))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::State.eq(MessageState::Sending))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected)
    }

    /// The connections at which something still has to happen.
    pub async fn open_message_connections(&self) -> Result<Vec<String>> {
        let rows = Entity::find()
            .select_only()
            .column(Column::Connection)
            .distinct()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.is_in(OPEN))
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(rows)
    }

    /// Nothing can be done at a connection any more: what surely was not sent is dropped, of the rest nobody will know.
    pub async fn message_connection_gone(&self, connection: &str, reason: &str, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        for (from, to) in [
            ([MessageState::Pending, MessageState::Held], MessageState::Dropped),
            ([MessageState::Sending, MessageState::Unknown], MessageState::Unknown),
        ] {
            Entity::update_many()
                .col_expr(Column::State, Expr::value(to))
                .col_expr(Column::Reason, Expr::value(reason))
                .col_expr(Column::Until, Expr::value(0))
                .col_expr(Column::UpdatedAt, Expr::value(now))
                .filter(Column::Tenant.eq(self.tenant()))
                .filter(Column::Connection.eq(connection))
                .filter(Column::State.is_in(from))
                .exec(&tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// It is about to be sent: from here on it may have arrived. False when it is not to be sent any more.
    pub async fn message_sending(
        &self,
        id: i64,
        conversation: Option<&str>,
        contact: Option<&str>,
        now: Millis,
    ) -> Result<bool> {
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::State, Expr::value(MessageState::Sending))
            .col_expr(Column::Conversation, Expr::value(conversation))
            .col_expr(Column::Contact, Expr::value(contact))
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .col_expr(Column::AttemptedAt, Expr::value(now))
            .col_expr(Column::UndoneAt, Expr::value(None::<Millis>))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .filter(Column::State.is_in([MessageState::Pending, MessageState::Held]))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected == 1)
    }

    /// Whom it is for is known better now. Every attempt says the same from here on.
    pub async fn message_is_for(&self, id: i64, party: &Party) -> Result<()> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::Party, Expr::value(to_text(party)))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// A message whose attempt surely left nothing looks for another conversation.
    pub async fn message_rerouted(&self, id: i64, reason: &str, now: Millis) -> Result<()> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::Conversation, Expr::value(None::<String>))
            .col_expr(Column::State, Expr::value(MessageState::Pending))
            .col_expr(Column::Reason, Expr::value(reason))
            .col_expr(Column::Until, Expr::value(0))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .filter(Column::State.eq(MessageState::Sending))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// A message falls back to another way: from here on it belongs there, and to no other. False when it is not waiting for the
    /// first one (any more): an attempt may be under way.
    pub async fn message_moved(
        &self,
        message: &Message,
        action: ActKind,
        connection: &str,
        conversation: Option<&str>,
        reason: &str,
        now: Millis,
    ) -> Result<bool> {
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::Action, Expr::value(action.word()))
            .col_expr(Column::Connection, Expr::value(connection))
            .col_expr(Column::Conversation, Expr::value(conversation))
            .col_expr(Column::FellBack, Expr::value(true))
            .col_expr(Column::State, Expr::value(MessageState::Pending))
            .col_expr(Column::Reason, Expr::value(reason))
            .col_expr(Column::Until, Expr::value(0))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(message.id))
            .filter(Column::Connection.eq(message.connection.as_str()))
            .filter(Column::State.is_in([MessageState::Pending, MessageState::Held]))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected == 1)
    }

    /// The conversation in which a message is after all, which may be one that it began.
    pub async fn message_opened(&self, id: i64, conversation: &str) -> Result<()> {
        let tx = self.begin().await?;
        Entity::update_many()
            .col_expr(Column::Conversation, Expr::value(conversation))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .exec(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Where a message stands now. One that is done with, by an operator's word meanwhile perhaps, stays as it is.
    pub async fn set_message(
        &self,
        id: i64,
        state: MessageState,
        reason: Option<&str>,
        until: Millis,
        remote_id: Option<&str>,
        now: Millis,
    ) -> Result<()> {
        let tx = self.begin().await?;
        let mut update = Entity::update_many()
            .col_expr(Column::State, Expr::value(state))
            .col_expr(Column::Reason, Expr::value(reason))
            .col_expr(Column::Until, Expr::value(until))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .filter(Column::State.is_not_in([MessageState::Sent, MessageState::Refused, MessageState::Dropped]));
        if let Some(remote_id) = remote_id {
            update = update.col_expr(Column::RemoteId, Expr::value(remote_id));
        }
        update.exec(&tx).await?;
        Ok(tx.commit().await?)
    }

    /// What was said in a conversation, as far as we know that it arrived or that its channel could not deliver it.
    pub async fn said_in(&self, connection: &str, conversation: &str) -> Result<Vec<Message>> {
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Conversation.eq(conversation))
            .filter(Column::Action.is_in([ActKind::Send, ActKind::Note].map(ActKind::word)))
            .filter(Column::State.is_in([MessageState::Sent, MessageState::Refused]))
            .all(self.reader())
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// What the channel says of a message that it took: that it does not reach the customer, and why, or that it does after
    /// all. Whether the message still stood where it was looked at.
    pub async fn message_delivery(
        &self,
        message: &Message,
        remote_id: &str,
        undelivered: Option<&str>,
        now: Millis,
    ) -> Result<bool> {
        let state = if undelivered.is_some() { MessageState::Refused } else { MessageState::Sent };
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::State, Expr::value(state))
            .col_expr(Column::Reason, Expr::value(undelivered))
            .col_expr(Column::RemoteId, Expr::value(remote_id))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(message.id))
            .filter(Column::State.eq(message.state))
            .filter(Column::UpdatedAt.eq(message.updated_at))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected > 0)
    }

    /// When messages were last sent for one record because of one flow and kind of event, whichever time it happened:
    /// `key` is that of another such intent.
    pub async fn sent_like(&self, key: &str) -> Result<Vec<Millis>> {
        let Some((prefix, _)) = key.rsplit_once('|') else { return Ok(Vec::new()) };
        let this = Entity::find().filter(Column::Tenant.eq(self.tenant())).filter(Column::Key.eq(key));
        let Some(this) = this.one(self.reader()).await? else { return Ok(Vec::new()) };
        let rows: Vec<(String, Option<Millis>)> =
            self.sent_for(self.events_like(this.event_id)).into_tuple().all(self.reader()).await?;
        // Other flows on the same event are other intents.
        let same = |row: &(String, _)| row.0 != key && row.0.rsplit_once('|').is_some_and(|(start, _)| start == prefix);
        Ok(rows.into_iter().filter(same).filter_map(|(_, at)| at).collect())
    }

    /// The events of the same record and kind. By its events a record's messages are found in an index; by the beginning of
    /// their keys they would not be.
    fn events_like(&self, id: i64) -> SelectStatement {
        use super::tables::event::{Column, Entity};
        let (this, other) = (Alias::new("this"), Alias::new("other"));
        let mut found = Query::select();
        found.column((other.clone(), Column::Id)).from_as(Entity, this.clone());
        let same = [Column::Tenant, Column::Connection, Column::Stream, Column::ExternalId, Column::Kind];
        let same = same.into_iter().fold(Condition::all(), |all, column| {
            all.add(Expr::col((other.clone(), column)).equals((this.clone(), column)))
        });
        found.join_as(sea_orm::JoinType::InnerJoin, Entity, other.clone(), same);
        found.and_where(Expr::col((this.clone(), Column::Id)).eq(id));
        found.and_where(Expr::col((this, Column::Tenant)).eq(self.tenant()));
        found
    }

    /// Messages that may have arrived because of events, with when they were sent.
    fn sent_for(&self, events: SelectStatement) -> Select<Entity> {
        Entity::find()
            .select_only()
            .columns([Column::Key, Column::AttemptedAt])
            .filter(of_tenant(Column::Tenant, self.tenant()))
            .filter(Column::EventId.in_subquery(events))
            .filter(Column::State.is_in([MessageState::Sent, MessageState::Unknown]))
    }

    /// The vendor's ids of messages that we know to be ours in a conversation.
    pub async fn own_messages(&self, connection: &str, conversation: &str) -> Result<Vec<String>> {
        let ids: Vec<Option<String>> = Entity::find()
            .select_only()
            .column(Column::RemoteId)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Conversation.eq(conversation))
            .filter(Column::RemoteId.is_not_null())
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// What was ever written in a conversation, or may have been.
    pub async fn written_in(&self, connection: &str, conversation: &str) -> Result<Vec<Message>> {
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Conversation.eq(conversation))
            .filter(Column::Action.is_in([ActKind::Send, ActKind::Note].map(ActKind::word)))
            .filter(Column::Attempts.gt(0))
            .all(self.reader())
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// When messages were sent since a time into a conversation or to any of these contacts, both with their connection,
    /// oldest first.
    pub async fn sent_since(
        &self,
        conversation: Option<(&str, &str)>,
        contacts: &BTreeSet<(String, String)>,
        since: Millis,
    ) -> Result<Vec<Millis>> {
        let at = |connection: &str, rest| Condition::all().add(Column::Connection.eq(connection)).add(rest);
        let mut to = Condition::any();
        if let Some((connection, conversation)) = conversation {
            to = to.add(at(connection, Column::Conversation.eq(conversation)));
        }
        let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (connection, contact) in contacts {
            ids.entry(connection).or_default().push(contact);
        }
        for (connection, ids) in ids {
            to = to.add(at(connection, Column::Contact.is_in(ids)));
        }
        if to.is_empty() {
            return Ok(Vec::new());
        }
        let times: Vec<Option<Millis>> = Entity::find()
            .select_only()
            .column(Column::AttemptedAt)
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(to)
            .filter(Column::Action.eq(ActKind::Send.word()))
            .filter(Column::State.is_in([MessageState::Sent, MessageState::Unknown]))
            .filter(Column::AttemptedAt.gte(since))
            .order_by_asc(Column::AttemptedAt)
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(times.into_iter().flatten().collect())
    }

    /// What was last written to these contacts, or may have been; the latest first.
    pub async fn written_to(&self, connection: &str, contacts: &[&str], limit: u64) -> Result<Vec<Message>> {
        let tried = [MessageState::Sending, MessageState::Unknown, MessageState::Sent];
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Contact.is_in(contacts.iter().copied()))
            .filter(Column::State.is_in(tried))
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(self.reader())
            .await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// A page of messages above a number.
    pub async fn messages(&self, state: Option<MessageState>, after: i64, limit: u64) -> Result<Vec<Message>> {
        let mut condition = Condition::all().add(Column::Tenant.eq(self.tenant())).add(Column::Id.gt(after));
        if let Some(state) = state {
            condition = condition.add(Column::State.eq(state));
        }
        let rows = Entity::find().filter(condition).order_by_asc(Column::Id).limit(limit).all(self.reader()).await?;
        rows.into_iter().map(Message::try_from).collect()
    }

    /// How many messages there are above a number.
    pub async fn count_messages_after(&self, state: Option<MessageState>, after: i64) -> Result<u64> {
        let mut found = Entity::find().filter(Column::Tenant.eq(self.tenant())).filter(Column::Id.gt(after));
        if let Some(state) = state {
            found = found.filter(Column::State.eq(state));
        }
        Ok(found.count(self.reader()).await?)
    }

    /// When the oldest message was stored that is neither sent nor given up.
    pub async fn oldest_message(&self) -> Result<Option<Millis>> {
        let oldest: Option<Option<Millis>> = self.waiting_since().into_tuple().one(self.reader()).await?;
        Ok(oldest.flatten())
    }

    fn waiting_since(&self) -> Select<Entity> {
        Entity::find()
            .select_only()
            .column_as(Column::CreatedAt.min(), "oldest")
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::State.is_in(OPEN))
    }

    /// A person decides about a message; false when it is not in one of these states (any more).
    pub async fn decide_message(
        &self,
        id: i64,
        from: &[MessageState],
        state: MessageState,
        reason: &str,
        now: Millis,
    ) -> Result<bool> {
        let tx = self.begin().await?;
        let done = Entity::update_many()
            .col_expr(Column::State, Expr::value(state))
            .col_expr(Column::Reason, Expr::value(reason))
            .col_expr(Column::Until, Expr::value(0))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Id.eq(id))
            .filter(Column::State.is_in(from.iter().copied()))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected == 1)
    }

    /// One message.
    pub async fn message(&self, id: i64) -> Result<Option<Message>> {
        let row = Entity::find_by_id(id).filter(Column::Tenant.eq(self.tenant())).one(self.reader()).await?;
        row.map(Message::try_from).transpose()
    }

    /// How many messages stand where.
    pub async fn count_messages(&self) -> Result<BTreeMap<MessageState, u64>> {
        let rows: Vec<(MessageState, i64)> = self.by_state().into_tuple().all(self.reader()).await?;
        Ok(rows.into_iter().map(|(state, n)| (state, n.unsigned_abs())).collect())
    }

    fn by_state(&self) -> Select<Entity> {
        Entity::find()
            .select_only()
            .column(Column::State)
            .column_as(Column::State.count(), "n")
            .filter(Column::Tenant.eq(self.tenant()))
            .group_by(Column::State)
    }
}

impl TryFrom<Model> for Message {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Message> {
        let id = row.id.to_string();
        let action = ActKind::ALL.into_iter().find(|act| act.word() == row.action).ok_or_else(|| {
            StoreError::Corrupt { what: "message", id: id.clone(), why: format!("there is no act `{}`", row.action) }
        })?;
        Ok(Message {
            party: from_text("message", &id, &row.party)?,
            action,
            id: row.id,
            key: row.key,
            flow: row.flow,
            event_id: row.event_id,
            connection: row.connection,
            conversation: row.conversation,
            contact: row.contact,
            text: row.text,
            mark: row.mark,
            fell_back: row.fell_back,
            state: row.state,
            reason: row.reason,
            until: row.until,
            attempts: row.attempts,
            attempted_at: row.attempted_at,
            remote_id: row.remote_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, DbBackend, QueryTrait, Select};

    use super::Entity;
    use crate::store::{Store, StoreOptions};

    async fn plan(store: &Store, query: Select<Entity>) -> String {
        let mut query = query.build(DbBackend::Sqlite);
        query.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
        let steps = store.reader().query_all_raw(query).await.expect("it is explained");
        steps.iter().map(|step| step.try_get::<String>("", "detail").expect("a text") + "\n").collect()
    }

    /// What is asked for at every look at the metrics, and before every message, goes through no whole table.
    #[tokio::test]
    async fn messages_are_found_in_an_index() {
        let options = StoreOptions { url: "sqlite::memory:".to_owned(), tenant: "default".to_owned() };
        let store = Store::open(&options).await.expect("it opens");
        store.migrate().await.expect("the schema applies");
        let waiting = plan(&store, store.waiting_since()).await;
        assert!(waiting.contains("COVERING INDEX message_state (tenant=? AND state=?"), "{waiting}");
        let counted = plan(&store, store.by_state()).await;
        assert!(counted.contains("COVERING INDEX message_state"), "{counted}");
        let sent = plan(&store, store.sent_for(store.events_like(1))).await;
        assert!(sent.contains("INDEX message_event (event_id=?)") && !sent.contains("SCAN"), "{sent}");
    }
}
