//! What goes wrong when a store is opened says what to do about it.

use counterpart::store::{Store, StoreError, StoreOptions};
use sea_orm::{ConnectionTrait, Database};

use crate::store_databases::{Home, Kind};

async fn open(url: &str) -> Result<Store, StoreError> {
    Store::open(&StoreOptions { url: url.into(), tenant: "default".into() }).await
}

#[tokio::test]
async fn an_unknown_kind_of_url() {
    let error = open("mysql://ann:secret@host/db").await.unwrap_err();
    assert!(matches!(error, StoreError::BadUrl { .. }));
    let text = error.to_string();
    assert!(text.contains("mysql://ann@host/db") && text.contains("sqlite://"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn an_unknown_setting_in_the_url() {
    let error = open("sqlite://counterpart.db?colour=red").await.unwrap_err();
    assert!(matches!(error, StoreError::BadUrl { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_folder() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = open(&format!("sqlite://{}/counterpart.db", missing.display())).await.unwrap_err();
    let StoreError::NoDirectory { folder } = error else { panic!("{error}") };
    assert_eq!(folder, missing.display().to_string());
}

#[tokio::test]
async fn a_file_that_is_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "these are my notes, not a database").unwrap();
    let error = open(&format!("sqlite://{}", path.display())).await.unwrap_err();
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "these are my notes, not a database");
}

#[tokio::test]
async fn an_existing_file_and_every_way_to_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counter part.db");
    for url in [
        format!("sqlite://{}", path.display()),
        format!("sqlite:{}", path.display()),
        format!("sqlite://{}?mode=rwc", path.display()),
    ] {
        let store = open(&url).await.unwrap();
        store.migrate().await.unwrap();
        store.meta_set("seen", "yes").await.unwrap();
        store.close().await.unwrap();
    }
    assert!(path.is_file());
}

#[tokio::test]
async fn tables_that_are_not_there_yet() {
    for kind in [Kind::Memory, Kind::Postgres] {
        let home = Home::new(kind).await;
        let store = open(&home.url).await.unwrap();
        assert_eq!(store.schema().await.unwrap().pending, counterpart_migrations::names());
        assert!(matches!(store.require_schema().await, Err(StoreError::NotMigrated)));
        let error = store.runs(1).await.unwrap_err();
        assert!(matches!(error, StoreError::NotMigrated), "{error}");
        assert_eq!(store.migrate().await.unwrap(), counterpart_migrations::names());
        assert!(store.runs(1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_database_that_is_newer_than_the_program() {
    for kind in [Kind::File, Kind::Postgres] {
        let home = Home::new(kind).await;
        home.open().await.close().await.unwrap();
        let raw = Database::connect(&home.url).await.unwrap();
        raw.execute_unprepared("INSERT INTO seaql_migrations VALUES ('m29990101_000001_from_the_future', 1)")
            .await
            .unwrap();
        let store = open(&home.url).await.unwrap();
        assert_eq!(store.schema().await.unwrap().newer, ["m29990101_000001_from_the_future"]);
        for outcome in [store.migrate().await.map(drop), store.require_schema().await] {
            let StoreError::Newer { found, known } = outcome.unwrap_err() else { panic!("{kind:?}") };
            assert_eq!(found, ["m29990101_000001_from_the_future"]);
            assert_eq!(Some(known), counterpart_migrations::names().pop());
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses() {
    let home = Home::new(Kind::Postgres).await;
    let (base, _) = home.url.rsplit_once('/').unwrap();
    let url = format!("{base}/no_such_database?sslmode=disable");
    let error = open(&url).await.unwrap_err();
    let StoreError::Refused { why, .. } = &error else { panic!("{error}") };
    assert!(why.contains("no_such_database"), "{why}");

    let error = open("postgres://ann:secret@127.0.0.1:1/x?sslmode=disable").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(!error.to_string().contains("secret"));
}
