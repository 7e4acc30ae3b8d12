//! Messages by where they stand and by their event, without looking at all of them.

use sea_orm_migration::prelude::*;

use crate::columns::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_index(index("message_state", "message", ["tenant", "state", "created_at"])).await?;
        manager.create_index(index("message_event", "message", ["event_id"])).await
    }
}
