//! Opening a store and bringing its tables up to date.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use counterpart_migrations::Migrator;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection, PgConnection};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, EntityTrait};
use sea_orm_migration::{MigratorTrait, seaql_migrations};
use tokio::sync::Mutex;

use super::error::database_code;
use super::{BATCH, Inner, Result, Store, StoreError};

/// How long a statement waits for another process that is writing.
const BUSY: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection of the pool; on SQLite, how long the first of the writers in line does.
const POOL: Duration = Duration::from_secs(60);
/// Connections on PostgreSQL.
const POOL_SIZE: u32 = 8;
/// Reading connections on SQLite: each is a thread with a cache and prepared statements of its own.
const READERS: u32 = 3;
/// Pages in the write-ahead log before they are moved into the database: pages of an index that many commits touch are
/// moved once instead of every time. 16 MiB of disk, and more only while somebody reads for long.
const CHECKPOINT_PAGES: &str = "4000";
/// The same where each commit is on the disk before it returns: the one that comes to the end of the log moves them, while
/// webhooks wait. It is short, and often.
const CHECKPOINT_PAGES_DURABLE: &str = "1000";
/// Page cache of the writing SQLite connection, in KiB, and of each reading one. Every one of them fills its own as the
/// database grows: that is what memory grows by.
const WRITE_CACHE_KIB: u32 = 8 * 1024;
const READ_CACHE_KIB: u32 = 1024;
/// Prepared statements that an SQLite connection keeps. One over a batch of rows takes hundreds of kilobytes, and batches
/// of every size make one of their own.
const STATEMENTS: usize = 24;
/// The same where the database itself is memory: a demonstration or a test is short of time, not of memory.
const STATEMENTS_OF_MEMORY: usize = 256;

/// Where the store is and whose rows to show.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `sqlite://file`, `sqlite::memory:` or `postgres://…`.
    pub url: String,
    /// The tenant; `default` for a single one.
    pub tenant: String,
}

/// How the tables compare with what this program needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaState {
    /// Migrations this program has and the database has not.
    pub pending: Vec<String>,
    /// Migrations the database has and this program does not know.
    pub newer: Vec<String>,
}

impl Store {
    /// Opens the store, creating the database file if needed; does not migrate.
    ///
    /// A commit survives the end of the process however it comes. After a power cut an SQLite store may be as it was a
    /// few commits earlier: what was read is read again. See [`Store::open_durable`] for when that is not enough.
    pub async fn open(options: &StoreOptions) -> Result<Store> {
        Store::open_with(options, SqliteSynchronous::Normal).await
    }

    /// The same, where a commit survives a power cut as well: it is on the disk when it returns. For whoever answers
    /// for what it has stored (webhooks), or does what must not be done twice (messages).
    pub async fn open_durable(options: &StoreOptions) -> Result<Store> {
        Store::open_with(options, SqliteSynchronous::Full).await
    }

    async fn open_with(options: &StoreOptions, synchronous: SqliteSynchronous) -> Result<Store> {
        let url = options.url.trim();
        let (writer, reader, line) =
            if let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) {
                let pool = open_postgres(rest).await?;
                (pool.clone(), pool, None)
            } else if url.starts_with("sqlite:") {
                let (writer, reader) = open_sqlite(url, synchronous).await?;
                (writer, reader, Some(Mutex::default()))
            } else {
                return Err(StoreError::BadUrl {
                    url: without_password(url),
                    why: "it must begin with sqlite: or postgres://".into(),
                });
            };
        Ok(Store { inner: Arc::new(Inner { tenant: options.tenant.clone(), writer, reader, line }) })
    }

    /// Applies all missing migrations and returns their names.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        // Two processes may start on an empty PostgreSQL at the same moment; the one that comes second
        // finds tables where it expected none, and everything done when it looks again.
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            match self.try_migrate().await {
                Err(StoreError::Db(_)) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_migrate(&self) -> Result<Vec<String>> {
        let tx = self.begin().await?;
        Migrator::install(&tx).await?;
        let state = compare(&tx).await?;
        refuse_newer(&state)?;
        Migrator::up(&tx, None).await?;
        tx.commit().await?;
        Ok(state.pending)
    }

    /// Compares the tables with what this program needs, without changing anything.
    pub async fn schema(&self) -> Result<SchemaState> {
        compare(self.reader()).await
    }

    /// Fails unless the tables are exactly what this program needs.
    pub async fn require_schema(&self) -> Result<()> {
        let state = self.schema().await?;
        refuse_newer(&state)?;
        if state.pending.is_empty() { Ok(()) } else { Err(StoreError::NotMigrated) }
    }
}

async fn compare<C: sea_orm::ConnectionTrait>(db: &C) -> Result<SchemaState> {
    let applied = match seaql_migrations::Entity::find().all(db).await {
        Ok(rows) => rows.into_iter().map(|row| row.version).collect::<Vec<_>>(),
        Err(error) => match StoreError::from(error) {
            StoreError::NotMigrated => Vec::new(),
            other => return Err(other),
        },
    };
    let known = counterpart_migrations::names();
    Ok(SchemaState { pending: missing(&known, &applied), newer: missing(&applied, &known) })
}

fn missing(from: &[String], other: &[String]) -> Vec<String> {
    let mut names: Vec<String> = from.iter().filter(|name| !other.contains(name)).cloned().collect();
    names.sort();
    names
}

fn refuse_newer(state: &SchemaState) -> Result<()> {
    if state.newer.is_empty() {
        return Ok(());
    }
    Err(StoreError::Newer {
        found: state.newer.clone(),
        known: counterpart_migrations::names().pop().unwrap_or_default(),
    })
}

async fn open_postgres(rest: &str) -> Result<DatabaseConnection> {
    let url = format!("postgres://{rest}");
    // A pool tries again until its patience ends; a wrong address or password should be told at once.
    let probe = PgConnection::connect(&url)
        .await
        .map_err(|error| StoreError::Refused { url: without_password(&url), why: error.to_string() })?;
    let _ = probe.close().await;
    let mut options = ConnectOptions::new(url.clone());
    options.max_connections(POOL_SIZE).acquire_timeout(POOL).sqlx_logging(false).set_application_name("counterpart");
    Database::connect(options).await.map_err(|error| refused(&url, &error))
}

/// Finds what keeps a store from being opened without opening it; what only a server can say is not asked.
pub fn inspect(url: &str) -> Result<()> {
    let is_in_memory = url.contains(":memory:") || url.contains("mode=memory");
    if !url.starts_with("sqlite:") || is_in_memory {
        return Ok(());
    }
    inspect_file(sqlite(url)?.get_filename(), url)
}

fn sqlite(url: &str) -> Result<SqliteConnectOptions> {
    url.parse().map_err(|error| StoreError::BadUrl { url: url.to_owned(), why: format!("{error}") })
}

async fn open_sqlite(url: &str, synchronous: SqliteSynchronous) -> Result<(DatabaseConnection, DatabaseConnection)> {
    let parsed = sqlite(url)?;
    if url.contains(":memory:") || url.contains("mode=memory") {
        let only = connect_sqlite(url, 1, SqliteUse::Memory, synchronous).await?;
        return Ok((only.clone(), only));
    }
    inspect_file(parsed.get_filename(), url)?;
    create_private(parsed.get_filename(), url)?;
    let writer = connect_sqlite(url, 1, SqliteUse::Write, synchronous).await?;
    let reader = connect_sqlite(url, READERS, SqliteUse::Read, synchronous).await?;
    Ok((writer, reader))
}

/// Makes a new store for its owner only: it holds names, addresses and messages. SQLite gives the files beside it the same rights.
fn create_private(path: &Path, url: &str) -> Result<()> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Refused { url: url.to_owned(), why: error.to_string() })
        }
        _ => Ok(()),
    }
}

/// Looks before SQLite does, whose own messages name neither the folder nor the file.
fn inspect_file(path: &Path, url: &str) -> Result<()> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    if path.as_os_str().is_empty() {
        return Err(StoreError::BadUrl { url: url.to_owned(), why: "it names no file".into() });
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        return Err(StoreError::NoDirectory { folder: folder.display().to_string() });
    }
    let refused = |error: std::io::Error| StoreError::Refused { url: url.to_owned(), why: error.to_string() };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    let mut head = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, MAGIC.len() as u64), &mut head).map_err(refused)?;
    if head.is_empty() || head == MAGIC {
        return Ok(());
    }
    Err(StoreError::NotADatabase { path: path.display().to_string() })
}

/// What a SQLite connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SqliteUse {
    Read,
    Write,
    /// Both, in memory.
    Memory,
}

async fn connect_sqlite(
    url: &str,
    size: u32,
    usage: SqliteUse,
    synchronous: SqliteSynchronous,
) -> Result<DatabaseConnection> {
    let checkpoint_pages = match synchronous {
        SqliteSynchronous::Full => CHECKPOINT_PAGES_DURABLE,
        _ => CHECKPOINT_PAGES,
    };
    let mut options = ConnectOptions::new(url);
    options
        .min_connections(1)
        .max_connections(size)
        .acquire_timeout(POOL)
        // A connection of `sqlite::memory:` is the database: it must never be replaced.
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |options| {
            let options = options
                .create_if_missing(usage != SqliteUse::Read)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(synchronous)
                .busy_timeout(BUSY)
                .foreign_keys(true)
                // A whole batch of rows crosses over from SQLite's thread without waiting.
                .row_buffer_size(2 * BATCH)
                .statement_cache_capacity(if usage == SqliteUse::Memory { STATEMENTS_OF_MEMORY } else { STATEMENTS })
                .pragma(
                    "cache_size",
                    format!("-{}", if usage == SqliteUse::Read { READ_CACHE_KIB } else { WRITE_CACHE_KIB }),
                )
                .pragma("wal_autocheckpoint", checkpoint_pages);
            match usage {
                SqliteUse::Read => options.pragma("query_only", "1"),
                SqliteUse::Write | SqliteUse::Memory => options,
            }
        });
    // Changing a new file to WAL does not wait for another process that writes just then.
    #[expect(clippy::disallowed_methods, reason = "waiting for another process's lock happens in the machine's time")]
    let now = Instant::now;
    let deadline = now() + BUSY;
    loop {
        match Database::connect(options.clone()).await.map_err(|error| refused(url, &error)) {
            Err(StoreError::Locked) if now() < deadline => tokio::time::sleep(BUSY / 100).await,
            outcome => return outcome,
        }
    }
}

fn refused(url: &str, error: &DbErr) -> StoreError {
    // 26: SQLITE_NOTADB, a file that has the right first bytes and nothing else of a database.
    if database_code(error).as_deref() == Some("26") {
        return StoreError::NotADatabase { path: url.to_owned() };
    }
    match StoreError::from(error.clone()) {
        StoreError::Db(cause) => StoreError::Refused { url: without_password(url), why: cause.to_string() },
        other => other,
    }
}

/// The URL as it may be shown: without a password, and without settings, one of which may be a password.
fn without_password(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // The last @ ends the credentials: a password may contain one that was not escaped.
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("postgres://ann:s3:cr@t@db.example/x"), "postgres://ann@db.example/x");
        assert_eq!(without_password("postgres://db.example/x?password=s3cr3t"), "postgres://db.example/x");
        assert_eq!(without_password("sqlite://x.db"), "sqlite://x.db");
    }
}
