//! What was observed (`record`, `record_body`, scans) and what it was taken to mean (`record_link`, `entity`).
//!
//! A record is three rows on purpose: the narrow one is read for every row of every page, the body is
//! written only when something changed, the link is written only by reconciling. So a page of known,
//! unchanged rows touches no wide row at all.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

use crate::columns::{belongs_to, index, key, keyed_only, row_number};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        numbers(manager).await?;
        entities(manager).await?;
        records(manager).await?;
        scans(manager).await
    }
}

async fn numbers(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(Table::create().table("sequence").col(text("name").primary_key()).col(big_integer("next")).take())
        .await?;
    manager
        .create_table(
            Table::create()
                .table("meta")
                .col(text("tenant"))
                .col(text("key"))
                .col(text("value"))
                .primary_key(&mut key(["tenant", "key"]))
                .take(),
        )
        .await
}

async fn entities(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("entity")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("kind"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .col(text("golden"))
                .take(),
        )
        .await
}

async fn records(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("record")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("connection"))
                .col(text("stream"))
                .col(text("external_id"))
                .col(text("state"))
                .col(boolean("dirty"))
                .col(big_integer("revision").default(0))
                .col(integer("missing_scans").default(0))
                .col(text("fingerprint"))
                .col(big_integer("observed_at"))
                .col(big_integer_null("remote_updated_at"))
                .col(text_null("version"))
                .col(text_null("merged_into"))
                .take(),
        )
        .await?;
    manager
        .create_index(
            index("record_external", "record", ["tenant", "connection", "stream", "external_id"]).unique().take(),
        )
        .await?;
    manager.create_index(index("record_dirty", "record", ["tenant", "stream", "dirty", "id"])).await?;
    manager.create_index(index("record_state", "record", ["tenant", "connection", "stream", "state", "id"])).await?;
    manager
        .create_table(
            Table::create()
                .table("record_body")
                .col(row_number(manager, "record_id").primary_key())
                .col(text("tenant"))
                .col(text("fields"))
                .col(text("remote"))
                .foreign_key(&mut belongs_to("record_body", "record_id", "record"))
                .take(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("record_link")
                .col(row_number(manager, "record_id").primary_key())
                .col(text("tenant"))
                .col(big_integer_null("entity_id"))
                .col(big_integer_null("linked_at"))
                .col(text_null("evidence"))
                .col(text_null("agreed"))
                .col(text_null("apart"))
                .foreign_key(&mut belongs_to("record_link", "record_id", "record"))
                .foreign_key(
                    ForeignKey::create()
                        .name("fk_record_link_entity_id")
                        .from("record_link", "entity_id")
                        .to("entity", "id"),
                )
                .take(),
        )
        .await?;
    manager.create_index(index("record_link_entity", "record_link", ["entity_id"])).await?;
    let mut keys = Table::create()
        .table("record_key")
        .col(text("tenant"))
        .col(text("kind"))
        .col(text("value"))
        .col(big_integer("record_id"))
        .primary_key(&mut key(["tenant", "kind", "value", "record_id"]))
        .foreign_key(&mut belongs_to("record_key", "record_id", "record"))
        .take();
    keyed_only(manager, &mut keys);
    manager.create_table(keys).await?;
    manager.create_index(index("record_key_record", "record_key", ["record_id"])).await
}

async fn scans(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("stream_state")
                .col(text("tenant"))
                .col(text("connection"))
                .col(text("stream"))
                .col(big_integer_null("watermark"))
                .col(big_integer_null("clock_offset"))
                .col(text_null("deep_cursor"))
                .col(big_integer_null("open_scan"))
                .col(big_integer_null("last_complete_scan"))
                .col(big_integer_null("last_pull_at"))
                .col(big_integer_null("typical_rows"))
                .primary_key(&mut key(["tenant", "connection", "stream"]))
                .take(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("scan")
                .col(row_number(manager, "id").primary_key())
                .col(text("tenant"))
                .col(text("connection"))
                .col(text("stream"))
                .col(text("mode"))
                .col(big_integer("started_at"))
                .col(big_integer_null("finished_at"))
                .col(big_integer("pages"))
                .col(big_integer("rows"))
                .col(big_integer("distinct"))
                .col(big_integer_null("total"))
                .col(text_null("cursor"))
                .col(big_integer("passes"))
                .col(boolean("complete"))
                .col(text_null("why"))
                .col(boolean("swept").default(false))
                .take(),
        )
        .await?;
    manager.create_index(index("scan_stream", "scan", ["tenant", "connection", "stream", "id"])).await?;
    let mut marks = Table::create()
        .table("scan_mark")
        .col(big_integer("scan_id"))
        .col(big_integer("chunk"))
        .col(text("tenant"))
        .col(blob("bits"))
        .primary_key(&mut key(["scan_id", "chunk"]))
        .foreign_key(&mut belongs_to("scan_mark", "scan_id", "scan"))
        .take();
    keyed_only(manager, &mut marks);
    manager.create_table(marks).await
}
