//! Runs, the outbox, the queue of conflicts and reviews, and the leases.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

use crate::columns::{belongs_to, index, key, keyed_only, row_number};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        runs(manager).await?;
        outbox(manager).await?;
        conflicts(manager).await
    }
}

async fn runs(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("run")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("kind"))
                .col(text("syncs"))
                .col(text("config_hash"))
                .col(big_integer("started_at"))
                .col(big_integer_null("finished_at"))
                .col(text_null("verdict"))
                .col(text_null("summary"))
                .take(),
        )
        .await?;
    manager.create_index(index("run_finished", "run", ["tenant", "finished_at", "id"])).await?;
    manager
        .create_table(
            Table::create()
                .table("lease")
                .col(text("tenant"))
                .col(text("name"))
                .col(text("holder"))
                .col(big_integer("epoch"))
                .col(big_integer("until"))
                .primary_key(&mut key(["tenant", "name"]))
                .take(),
        )
        .await
}

/// The same operation can be needed again in a later run (somebody changed a value back and forth), so
/// the id of a row names the run too.
async fn outbox(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("outbox")
                .col(text("tenant"))
                .col(text("id"))
                .col(big_integer("run_id"))
                .col(text("sync"))
                .col(text("connection"))
                .col(text("action"))
                .col(small_integer("lane"))
                .col(integer("cost"))
                .col(integer("cleared"))
                .col(big_integer("entity_id"))
                .col(big_integer_null("record_id"))
                .col(text("state"))
                .col(integer("attempts"))
                .col(big_integer_null("not_before"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .col(text_null("error"))
                .col(text("op"))
                .col(text_null("answer"))
                .primary_key(&mut key(["tenant", "id"]))
                .foreign_key(&mut belongs_to("outbox", "run_id", "run"))
                .take(),
        )
        .await?;
    manager
        .create_index(index("outbox_next", "outbox", ["tenant", "connection", "state", "run_id", "lane", "id"]))
        .await?;
    manager.create_index(index("outbox_run", "outbox", ["tenant", "run_id", "id"])).await?;
    manager.create_index(index("outbox_entity", "outbox", ["tenant", "entity_id", "run_id"])).await
}

/// `open_key` is the key while the row waits and NULL afterwards: unique among the open ones only,
/// without an index that one of the two databases would spell differently.
async fn conflicts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("conflict")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("kind"))
                .col(text("key"))
                .col(text_null("open_key"))
                .col(text("state"))
                .col(big_integer_null("entity_id"))
                .col(text_null("field"))
                .col(text_null("settled"))
                .col(big_integer("opened_at"))
                .col(big_integer_null("closed_at"))
                .col(text("record_ids"))
                .col(text("detail"))
                .col(text_null("resolution"))
                .take(),
        )
        .await?;
    manager.create_index(index("conflict_open", "conflict", ["tenant", "open_key"]).unique().take()).await?;
    manager.create_index(index("conflict_entity", "conflict", ["tenant", "entity_id"])).await?;
    manager.create_index(index("conflict_state", "conflict", ["tenant", "state", "id"])).await?;
    let mut records = Table::create()
        .table("conflict_record")
        .col(big_integer("conflict_id"))
        .col(big_integer("record_id"))
        .col(text("tenant"))
        .primary_key(&mut key(["conflict_id", "record_id"]))
        .foreign_key(&mut belongs_to("conflict_record", "conflict_id", "conflict"))
        .take();
    keyed_only(manager, &mut records);
    manager.create_table(records).await?;
    manager.create_index(index("conflict_record_record", "conflict_record", ["record_id"])).await
}
