//! The state store: everything Counterpart remembers, in SQLite or PostgreSQL.
//!
//! What was observed is stored; what to do is derived from it. Three rules hold for every function here:
//!
//! - One call is one transaction, and no transaction is open while anything else happens. A page, its
//!   counters and its cursor are one commit; so are the results of reconciling, and so is a finished write.
//! - Seeing an unchanged record again writes no record.
//! - Lists are paged by key, so that nothing in memory grows with the number of records.
//!
//! [`Store`] is cheap to clone. On SQLite there is one writing connection (its transactions begin as
//! `IMMEDIATE`, so that two processes wait for each other instead of failing) and a few reading ones; on
//! PostgreSQL one pool serves both.

mod budget;
mod conflict;
mod entity;
mod error;
mod event;
mod history;
mod hook;
mod json;
mod keys;
mod lease;
mod load;
mod message;
mod meta;
mod observe;
mod open;
mod outbox;
mod own;
mod prune;
mod push;
mod reconcile;
mod record;
mod run;
mod scan;
mod sequence;
mod stream;
mod sweep;
pub(crate) mod tables;

use std::sync::Arc;

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::sync::Mutex;

pub use budget::Spent;
pub(crate) use budget::{AccountTx, Grant, SpentKey, Tally, Window};
pub use conflict::{Conflict, ConflictFilter, ConflictState, NewConflict};
pub use counterpart_connectors::Millis;
pub use entity::Entity;
pub use error::StoreError;
pub use event::{Changed, NewEvent, StoredEvent};
pub use history::{HistoryCounts, Unread};
pub use hook::{DueHook, Hook, HookState, NewHook};
pub use keys::{KeyHolder, KeyPage};
pub use message::{Message, MessageState, NewMessage};
pub use observe::{Incoming, PageOutcome, Restated};
pub use open::{SchemaState, StoreOptions, inspect};
pub use outbox::{OpCount, OpState, OutboxRow, PlannedOp};
pub use prune::Pruned;
pub use push::OpResult;
pub use reconcile::{Reconciled, RecordUpdate};
pub use record::{Record, RecordCounts, RecordState};
pub use run::Run;
pub use scan::Scan;
pub use stream::{StreamAge, StreamState};

/// What every function of the store returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Rows per statement: near the best on both databases and far below their bind limits.
pub(crate) const BATCH: usize = 500;

/// An open state store, seen as one tenant.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tenant: String,
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// Where those of this process stand in line who write to SQLite, which takes one at a time.
    line: Option<Mutex<()>>,
}

/// Whose rows, where the rows are known by number already.
///
/// SQLite, which has no statistics here, takes an index that begins with the tenant for better than many numbers and
/// goes through all rows of the tenant. No index knows an expression.
pub(crate) fn of_tenant(column: impl ColumnTrait, tenant: &str) -> Expr {
    column.into_expr().if_null("").eq(tenant)
}

impl Store {
    /// The tenant whose rows this store shows.
    pub fn tenant(&self) -> &str {
        &self.inner.tenant
    }

    /// Closes the connections; other clones of this store stop working too.
    pub async fn close(&self) -> Result<()> {
        self.inner.reader.close_by_ref().await?;
        self.inner.writer.close_by_ref().await?;
        Ok(())
    }

    /// Where reads outside a transaction go.
    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.inner.reader
    }

    /// Begins a writing transaction.
    pub(crate) async fn begin(&self) -> Result<DatabaseTransaction> {
        // The first in line alone waits for the connection itself: whoever begins next has no more than that one before it,
        // and the one who writes.
        let _first = match &self.inner.line {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        self.begin_next().await
    }

    /// Begins a writing transaction before those that stand in line: for what somebody outside waits for. Other processes
    /// that write to the same file know of no line.
    pub(crate) async fn begin_next(&self) -> Result<DatabaseTransaction> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(self.inner.writer.begin_with_options(options).await?)
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryTrait};

    use super::tables::record::{Column, Entity};
    use super::{Store, StoreOptions, of_tenant};

    /// Many rows known by number are looked up by number, whatever indexes begin with the tenant.
    #[tokio::test]
    async fn rows_known_by_number_are_not_searched_for() {
        let options = StoreOptions { url: "sqlite::memory:".to_owned(), tenant: "default".to_owned() };
        let store = Store::open(&options).await.expect("it opens");
        store.migrate().await.expect("the schema applies");
        let mut update = Entity::update_many()
            .col_expr(Column::Dirty, false.into())
            .filter(Column::Id.is_in(1..=500))
            .filter(of_tenant(Column::Tenant, store.tenant()))
            .filter(Column::Dirty.eq(true))
            .build(DbBackend::Sqlite);
        update.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
        let steps = store.reader().query_all_raw(update).await.expect("it is explained");
        let steps: Vec<String> = steps.iter().map(|step| step.try_get("", "detail").expect("a text")).collect();
        assert_eq!(steps, ["SEARCH record USING INTEGER PRIMARY KEY (rowid=?)"]);
    }
}
