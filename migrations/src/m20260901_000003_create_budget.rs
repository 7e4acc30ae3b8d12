//! The call ledger: what each vendor account allows, what was drawn, and totals per run.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

use crate::columns::{index, key};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("budget_account")
                    .col(text("tenant"))
                    .col(text("account"))
                    .col(text("class"))
                    .col(big_integer("per_ms"))
                    .col(big_integer("configured"))
                    .col(big_integer_null("learned"))
                    .col(big_integer("paced_until").default(0))
                    .col(big_integer("not_before").default(0))
                    .col(big_integer("learned_at").default(0))
                    .col(big_integer("answers").default(0))
                    .primary_key(&mut key(["tenant", "account", "class", "per_ms"]))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("budget_grant")
                    .col(ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key())
                    .col(text("tenant"))
                    .col(text("account"))
                    .col(text("class"))
                    .col(text("lane"))
                    .col(text("purpose"))
                    .col(text("connection"))
                    .col(big_integer("run_id"))
                    .col(text("holder"))
                    .col(integer("n"))
                    .col(big_integer("at_ms"))
                    .col(big_integer("until_ms"))
                    .take(),
            )
            .await?;
        manager
            .create_index(index("budget_grant_window", "budget_grant", ["tenant", "account", "until_ms", "class", "n"]))
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("budget_spent")
                    .col(text("tenant"))
                    .col(big_integer("run_id"))
                    .col(text("connection"))
                    .col(text("lane"))
                    .col(text("purpose"))
                    .col(big_integer("n"))
                    .col(big_integer("limited"))
                    .primary_key(&mut key(["tenant", "run_id", "connection", "lane", "purpose"]))
                    .take(),
            )
            .await
    }
}
