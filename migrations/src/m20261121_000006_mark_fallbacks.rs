//! Whether a message took the other way that its flow names: where it goes does not tell, once somebody edits the flow.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let fell_back = boolean("fell_back").default(false).take();
        manager.alter_table(Table::alter().table("message").add_column(fell_back).take()).await
    }
}
