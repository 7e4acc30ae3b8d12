//! What can go wrong in the store, by what the caller will do about it.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlxError};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL in the configuration is not one the store understands.
    #[error("store.url {url:?} cannot be used: {why}. Examples: sqlite://counterpart.db, postgres://user@host/name")]
    BadUrl {
        /// The URL as configured, without a password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder of the database file is missing.
    #[error("the folder {folder} for the store does not exist; create it or change store.url")]
    NoDirectory {
        /// The missing folder.
        folder: String,
    },
    /// The file exists and is something else.
    #[error("{path} is not an SQLite database; change store.url or move that file away")]
    NotADatabase {
        /// The file.
        path: String,
    },
    /// The database file or server refuses.
    #[error("the store {url} cannot be opened: {why}")]
    Refused {
        /// The URL without a password.
        url: String,
        /// What the database said.
        why: String,
    },
    /// Another process holds the database for longer than the store waits.
    #[error("the store is locked by another process; try again when it is done")]
    Locked,
    /// A later version of the program has migrated this database.
    #[error(
        "the store is newer than this program: it has {found:?}, this program knows up to {known}; use the newer program"
    )]
    Newer {
        /// Applied migrations this program does not know.
        found: Vec<String>,
        /// The last migration it knows.
        known: String,
    },
    /// The tables are missing or old.
    #[error("the store has no tables yet or old ones; run `counterpart migrate`")]
    NotMigrated,
    /// What was asked for is not there.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A row holds something this program cannot read.
    #[error("{what} {id} in the store cannot be read: {why}")]
    Corrupt {
        /// The kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// The file of the database is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(#[source] DbErr),
    /// Anything else the database reported.
    #[error("the store failed: {0}")]
    Db(#[source] DbErr),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
            return StoreError::Locked;
        }
        match database_code(&error).as_deref() {
            Some(code) if sqlite_primary(code) == Some(5) => StoreError::Locked,
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Some(code) if matches!(sqlite_primary(code), Some(11 | 26)) => StoreError::Damaged(error),
            Some("42P01") => StoreError::NotMigrated,
            Some("1") if error.to_string().contains("no such table") => StoreError::NotMigrated,
            _ => StoreError::Db(error),
        }
    }
}

/// SQLite's extended codes (517: busy snapshot) keep the plain one in the low byte.
fn sqlite_primary(code: &str) -> Option<u32> {
    // PostgreSQL's codes have five characters, SQLite's at most four digits.
    (code.len() < 5).then(|| code.parse::<u32>().ok()).flatten().map(|code| code & 0xff)
}

/// The database's own code of an error.
pub(super) fn database_code(error: &DbErr) -> Option<String> {
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return None;
    };
    match cause.as_ref() {
        SqlxError::Database(database) => database.code().map(|code| code.into_owned()),
        _ => None,
    }
}
