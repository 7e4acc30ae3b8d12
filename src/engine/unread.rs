//! Streams that could not be read as far as was due: how the last try ended is kept, so that every process can tell.

use counterpart_connectors::{Connection, Millis};
use serde::{Deserialize, Serialize};

use super::report::StreamReport;
use super::{Engine, EngineError, flow_streams};
use crate::config::Config;
use crate::store::{Result, Store};

/// A stream whose last reading did not go as far as was due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The connection.
    pub connection: String,
    /// The stream.
    pub stream: String,
    /// The first of the tries in a row that ended so.
    pub since: Millis,
    /// What the last of them said.
    pub why: String,
}

/// The same as it is stored, under a key that says where.
#[derive(Serialize, Deserialize)]
struct Trouble {
    since: Millis,
    why: String,
}

fn key(connection: &str, stream: &str) -> String {
    format!("unread:{connection}:{stream}")
}

/// What is kept of one stream; none while it can be read.
pub async fn unread_stream(store: &Store, connection: &str, stream: &str) -> Result<Option<Unread>> {
    let kept = store.meta_get(&key(connection, stream)).await?;
    let trouble = kept.and_then(|text| serde_json::from_str::<Trouble>(&text).ok());
    let (connection, stream) = (connection.to_owned(), stream.to_owned());
    Ok(trouble.map(|Trouble { since, why }| Unread { connection, stream, since, why }))
}

/// The streams that flows live on and that could not be read.
pub async fn unread_streams(store: &Store, config: &Config) -> Result<Vec<Unread>> {
    let mut unread = Vec::new();
    for (connection, stream) in flow_streams(config) {
        unread.extend(unread_stream(store, &connection, &stream).await?);
    }
    Ok(unread)
}

/// The streams of a connection that are read for the flows.
pub fn streams_for_flows(config: &Config, connection: &Connection) -> Vec<String> {
    let here = flow_streams(config).into_iter().filter(|(name, _)| name == connection.name());
    here.map(|(_, stream)| stream).filter(|stream| is_read(connection, stream)).collect()
}

/// Whether a stream is read as a whole, and not record by record with what it hangs on.
pub(super) fn is_read(connection: &Connection, stream: &str) -> bool {
    let hangs = || connection.manifest().stream(stream).is_some_and(|facts| facts.parent.is_some());
    connection.capabilities_of(stream).is_some() && !hangs()
}

impl std::fmt::Display for Unread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {} cannot be read completely: {}", self.stream, self.connection, self.why)
    }
}

impl Engine {
    /// Keeps how a reading ended that nobody stopped.
    pub(super) async fn keep_outcome(&self, report: &StreamReport) -> std::result::Result<(), EngineError> {
        let StreamReport { connection, stream, .. } = report;
        let before = unread_stream(&self.store, connection, stream).await?;
        if report.complete || report.more {
            if before.is_some() {
                self.store.meta_delete(&key(connection, stream)).await?;
            }
            return Ok(());
        }
        let why = report.why.clone().unwrap_or_else(|| "no reason is known".to_owned());
        if before.as_ref().is_none_or(|before| before.why != why) {
            let since = before.map_or_else(|| self.clock.now(), |before| before.since);
            let trouble = serde_json::json!(Trouble { since, why });
            self.store.meta_set(&key(connection, stream), &trouble.to_string()).await?;
        }
        Ok(())
    }
}
