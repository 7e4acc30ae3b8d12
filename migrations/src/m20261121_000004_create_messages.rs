//! What came in from outside (`hook`), what happened (`event`), and what is done about it in chats (`message`).

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

use crate::columns::{belongs_to, index, row_number};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        hooks(manager).await?;
        events(manager).await?;
        messages(manager).await?;
        history(manager).await
    }
}

/// What was read of a conversation's messages, and as of which state of the conversation.
async fn history(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("history")
                .col(row_number(manager, "record_id").primary_key())
                .col(text("tenant"))
                .col(text("fingerprint"))
                .col(big_integer("messages"))
                .col(big_integer("read_at"))
                .foreign_key(&mut belongs_to("history", "record_id", "record"))
                .take(),
        )
        .await
}

async fn hooks(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("hook")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("connection"))
                .col(big_integer("received_at"))
                .col(text("hints"))
                .col(text("body"))
                .col(text("state"))
                .col(integer("attempts"))
                .col(big_integer("not_before"))
                .col(big_integer_null("done_at"))
                .col(text_null("error"))
                .take(),
        )
        .await?;
    manager.create_index(index("hook_next", "hook", ["tenant", "state", "connection", "id"])).await
}

/// An event is known by what it is about, its kind, and which of several it is: the same one is never stored twice.
async fn events(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("event")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("connection"))
                .col(text("stream"))
                .col(text("external_id"))
                .col(text("kind"))
                .col(text("nth"))
                .col(big_integer("happened_at"))
                .col(big_integer("seen_at"))
                .col(boolean("live"))
                .col(text("subject"))
                .take(),
        )
        .await?;
    let known = ["tenant", "connection", "stream", "external_id", "kind", "nth"];
    manager.create_index(index("event_known", "event", known).unique().take()).await
}

/// `key` is the intent: one event, one flow, one recipient. `state` and `until` are what the sender asks for.
async fn messages(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("message")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("key"))
                .col(text("flow"))
                .col(big_integer("event_id"))
                .col(text("action"))
                .col(text("connection"))
                .col(text("party"))
                .col(text_null("conversation"))
                .col(text_null("text"))
                .col(text("mark"))
                .col(text("state"))
                .col(text_null("reason"))
                .col(big_integer("until"))
                .col(integer("attempts"))
                .col(big_integer_null("attempted_at"))
                .col(text_null("remote_id"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .take(),
        )
        .await?;
    manager.create_index(index("message_key", "message", ["tenant", "key"]).unique().take()).await?;
    manager.create_index(index("message_next", "message", ["tenant", "connection", "state", "until", "id"])).await?;
    manager.create_index(index("message_person", "message", ["tenant", "connection", "conversation", "id"])).await
}
