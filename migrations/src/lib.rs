//! The schema of the state store, one for SQLite and PostgreSQL.
//!
//! Migrations only go forward and are never edited after a release: a change is a new file. Expand
//! first (add what the new program needs, in a form the old one can live with), contract in a later
//! release. They name tables and columns as texts and know nothing of the application's entities, so
//! an old migration keeps meaning what it meant.
//!
//! Rules that keep one schema good for both databases: times, due dates and counters are `BIGINT`
//! milliseconds, JSON is `TEXT` and never looked into by a query, every table carries its tenant
//! (except `sequence`: numbers are unique across tenants).

use sea_orm_migration::prelude::*;

mod columns;
mod m20260901_000001_create_records;
mod m20260901_000002_create_runs;
mod m20260901_000003_create_budget;
mod m20261121_000004_create_messages;
mod m20261121_000005_index_event_times;
mod m20261121_000006_mark_fallbacks;
mod m20261121_000007_mark_own_acts;
mod m20261121_000008_keep_contacts;
mod m20261121_000009_pace_histories;
mod m20261121_000010_index_messages;

/// All migrations in the order in which they are applied.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260901_000001_create_records::Migration),
            Box::new(m20260901_000002_create_runs::Migration),
            Box::new(m20260901_000003_create_budget::Migration),
            Box::new(m20261121_000004_create_messages::Migration),
            Box::new(m20261121_000005_index_event_times::Migration),
            Box::new(m20261121_000006_mark_fallbacks::Migration),
            Box::new(m20261121_000007_mark_own_acts::Migration),
            Box::new(m20261121_000008_keep_contacts::Migration),
            Box::new(m20261121_000009_pace_histories::Migration),
            Box::new(m20261121_000010_index_messages::Migration),
        ]
    }
}

/// Names of all migrations this program knows, oldest first.
pub fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}
