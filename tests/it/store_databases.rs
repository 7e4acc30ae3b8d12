//! The three kinds of database every store test runs on.

use counterpart::store::{Store, StoreOptions};
use tempfile::TempDir;

use crate::postgres::{self, TestDatabase};

/// Kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    File,
    Postgres,
}

/// A database that goes away after the test.
pub struct Home {
    pub url: String,
    _folder: Option<TempDir>,
    _database: Option<TestDatabase>,
}

impl Home {
    pub async fn new(kind: Kind) -> Home {
        match kind {
            Kind::Memory => Home { url: "sqlite::memory:".into(), _folder: None, _database: None },
            Kind::File => {
                let folder = tempfile::tempdir().expect("the temporary folder is writable");
                Home {
                    url: format!("sqlite://{}", folder.path().join("counterpart.db").display()),
                    _folder: Some(folder),
                    _database: None,
                }
            }
            Kind::Postgres => {
                let database = postgres::database().await;
                Home { url: database.url.clone(), _folder: None, _database: Some(database) }
            }
        }
    }

    /// Opens it as one tenant; the tables are there.
    pub async fn open_as(&self, tenant: &str) -> Store {
        let options = StoreOptions { url: self.url.clone(), tenant: tenant.into() };
        let store = Store::open(&options).await.expect("the store opens");
        store.migrate().await.expect("the store migrates");
        store
    }

    pub async fn open(&self) -> Store {
        self.open_as("default").await
    }
}
