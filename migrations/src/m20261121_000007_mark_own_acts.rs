//! What of what happens is our own doing: which intent an event is the echo of, and when a conversation that we resolved was
//! seen open again.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

use crate::columns::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let caused_by = big_integer_null("caused_by");
        manager.alter_table(Table::alter().table("event").add_column(caused_by).take()).await?;
        let undone_at = big_integer_null("undone_at");
        manager.alter_table(Table::alter().table("message").add_column(undone_at).take()).await?;
        manager.create_index(index("message_mark", "message", ["tenant", "mark"])).await?;
        manager.create_index(index("message_attempt", "message", ["tenant", "connection", "attempted_at"])).await
    }
}
