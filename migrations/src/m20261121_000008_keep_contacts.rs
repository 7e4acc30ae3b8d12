//! Whom a message was written to: the next one goes into the conversation that it began, and a cap counts for the person.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

use crate::columns::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let contact = text_null("contact");
        manager.alter_table(Table::alter().table("message").add_column(contact).take()).await?;
        manager.create_index(index("message_contact", "message", ["tenant", "connection", "contact"])).await
    }
}
