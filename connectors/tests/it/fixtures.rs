//! Every file in `<vendor>/fixtures/`: what is asked for, what goes over the wire, what comes out.

use std::path::Path;
use std::sync::Arc;

use counterpart_connectors::kit::recording::{Recording, Replay};
use counterpart_connectors::{
    Connection, ConnectorError, ErrorKind, Lane, MatchKey, PullMode, PullRequest, Push, registry,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{open, spec_with};

#[derive(Deserialize)]
struct Fixture {
    #[serde(default)]
    settings: Value,
    steps: Vec<Step>,
    #[serde(flatten)]
    recording: Recording,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    r#do: Do,
    expect: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Do {
    Check,
    Pull(Mode),
    /// The page after the one pulled before.
    Next(Mode),
    Fetch(String),
    FindEmail(String),
    FindPhone(String),
    FindExternal(String),
    Create(Value),
    Update {
        id: String,
        body: Value,
        current: Option<Value>,
    },
    Delete(String),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Full,
    Head,
    Since(i64),
}

impl Mode {
    fn mode(self) -> PullMode {
        match self {
            Mode::Full => PullMode::Full,
            Mode::Head => PullMode::Head,
            Mode::Since(at) => PullMode::Since(at),
        }
    }
}

#[tokio::test]
async fn every_fixture_holds() {
    let mut files = 0;
    for connector in registry() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(connector).join("fixtures");
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{connector} has no fixtures");
        for path in paths {
            let source = std::fs::read_to_string(&path).unwrap();
            let fixture: Fixture =
                serde_json::from_str(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!fixture.recording.note.is_empty(), "{}: a note says where it comes from", path.display());
            play(connector, fixture, &path).await;
            files += 1;
        }
    }
    assert!(files >= registry().len());
}

async fn play(connector: &str, fixture: Fixture, path: &Path) {
    let spec = spec_with(connector, fixture.settings);
    let replay = Arc::new(Replay::new(fixture.recording, spec.secrets.values()));
    let connection = open(spec, replay.clone());
    let mut cursor = None;
    for (at, step) in fixture.steps.into_iter().enumerate() {
        let outcome = perform(&connection, step.r#do, &mut cursor).await;
        let (mut found, message) = match outcome {
            Ok(found) => (found, String::new()),
            Err(error) => (failure(&error), error.message),
        };
        let mut expected = step.expect;
        let said = expected.as_object_mut().and_then(|object| object.remove("says"));
        if let Some(says) = said.as_ref().and_then(Value::as_str) {
            assert!(message.contains(says), "{} step {}: the message is {message}", path.display(), at + 1);
        }
        // A body is compared only where the fixture says one.
        if let (Some(object), None) = (found.as_object_mut(), expected.get("body")) {
            object.remove("body");
        }
        assert_eq!(found, expected, "{} step {}: {message}", path.display(), at + 1);
    }
    replay.finish().unwrap_or_else(|left| panic!("{}: {left}", path.display()));
}

async fn perform(connection: &Connection, step: Do, cursor: &mut Option<String>) -> Result<Value, ConnectorError> {
    let (lane, stream) = (Lane::Incremental, connection.manifest().first_stream());
    Ok(match step {
        Do::Check => {
            let report = connection.check(lane).await?;
            json!({ "version": report.version, "identity": report.identity, "notes": report.notes })
        }
        Do::Pull(mode) => pull(connection, mode, None, cursor).await?,
        Do::Next(mode) => {
            let before = cursor.take();
            pull(connection, mode, before.as_deref(), cursor).await?
        }
        Do::Fetch(id) => {
            let record = connection.fetch(lane, stream, &id).await?;
            json!({ "id": record.id, "updated_at": record.updated_at, "deleted": record.deleted, "body": record.body })
        }
        Do::FindEmail(email) => find(connection, MatchKey::Email(email)).await?,
        Do::FindPhone(phone) => find(connection, MatchKey::Phone(phone)).await?,
        Do::FindExternal(value) => find(connection, MatchKey::External { namespace: "shop".into(), value }).await?,
        Do::Create(body) => written(connection.push(lane, stream, Push::Create { body: &body }, "key").await?),
        Do::Update { id, body, current } => {
            let push = Push::Update { id: &id, body: &body, current: current.as_ref(), version: None };
            written(connection.push(lane, stream, push, "key").await?)
        }
        Do::Delete(id) => written(connection.push(lane, stream, Push::Delete { id: &id }, "key").await?),
    })
}

async fn pull(
    connection: &Connection,
    mode: Mode,
    from: Option<&str>,
    cursor: &mut Option<String>,
) -> Result<Value, ConnectorError> {
    let request =
        PullRequest { stream: connection.manifest().first_stream(), mode: mode.mode(), cursor: from, parent: None };
    let page = connection.pull(Lane::Incremental, request).await?;
    let ids: Vec<&str> = page.records.iter().map(|record| record.id.as_str()).collect();
    let body = page.records.first().map(|record| record.body.clone());
    let summary = json!({ "ids": ids, "total": page.total, "more": page.next.is_some(), "body": body });
    *cursor = page.next;
    Ok(summary)
}

async fn find(connection: &Connection, key: MatchKey) -> Result<Value, ConnectorError> {
    let found = connection.find(Lane::Incremental, connection.manifest().first_stream(), &key).await?;
    Ok(json!(found.iter().map(|record| record.id.as_str()).collect::<Vec<_>>()))
}

fn written(written: counterpart_connectors::Written) -> Value {
    let body = written.record.map(|record| record.body);
    json!({ "id": written.id, "calls": written.calls, "answered": body.is_some(), "body": body })
}

fn failure(error: &ConnectorError) -> Value {
    match &error.kind {
        ErrorKind::Conflict { holder, keys } => json!({ "error": "conflict", "holder": holder, "keys": keys }),
        ErrorKind::Invalid { fields } => json!({ "error": "invalid", "fields": fields }),
        kind => json!({ "error": kind.name() }),
    }
}
