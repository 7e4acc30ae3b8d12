//! When something happened in a stream last, without looking at all of its events.

use sea_orm_migration::prelude::*;

use crate::columns::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_index(index("event_time", "event", ["tenant", "connection", "stream", "happened_at"])).await
    }
}
