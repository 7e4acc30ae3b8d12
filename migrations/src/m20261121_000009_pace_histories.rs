//! When the messages of a conversation may be read again, and from where on: so that none keeps the others from being read.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let not_before = big_integer("not_before").default(0).take();
        manager.alter_table(Table::alter().table("history").add_column(not_before).take()).await?;
        let cursor = text_null("cursor");
        manager.alter_table(Table::alter().table("history").add_column(cursor).take()).await
    }
}
