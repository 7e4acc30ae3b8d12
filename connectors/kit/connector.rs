//! The trait every vendor implements, and what goes in and out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

use super::act::{Act, Acted, NewTicket};
use super::clock::{Clock, Millis};
use super::error::ConnectorError;
use super::gate::Lane;
use super::hook::subscription::{self, Listed, Subscribe};
use super::http::Http;
use super::manifest::Manifest;
use super::settings::Settings;
use super::ticket;

/// One vendor object as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteRecord {
    /// The vendor's id.
    pub id: String,
    /// The object, in the shape the mapping's pointers expect.
    pub body: Value,
    /// When the vendor says it changed last.
    pub updated_at: Option<Millis>,
    /// Opaque change token, where the vendor has one.
    pub version: Option<String>,
    /// The vendor says it is gone (a tombstone).
    pub deleted: bool,
}

/// Which part of a stream to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullMode {
    /// Everything, in the steadiest order the vendor has.
    Full,
    /// Newest first; the caller stops when it has seen enough.
    Head,
    /// What changed since then, oldest change first.
    Since(Millis),
}

/// A request for one page.
#[derive(Clone, Copy, Debug)]
pub struct PullRequest<'a> {
    /// The stream, `contact` for example.
    pub stream: &'a str,
    /// Which part.
    pub mode: PullMode,
    /// `Page::next` of the page before; none starts anew.
    pub cursor: Option<&'a str>,
    /// The vendor's id of the record that the stream hangs on: a conversation's, for its messages.
    pub parent: Option<&'a str>,
}

/// One page of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The records, in the vendor's order.
    pub records: Vec<RemoteRecord>,
    /// Cursor of the next page; none when the walk is over.
    pub next: Option<String>,
    /// How many records there are in all, as the vendor announces.
    pub total: Option<u64>,
    /// The vendor's clock when it answered.
    pub server_time: Option<Millis>,
    /// The vendor cuts the result here although more exists.
    pub capped: bool,
    /// The walk goes on after the last record's key, so that no record slips between two pages while others change.
    pub steady: bool,
    /// Records of it that are not handed out, because nothing can keep ids as long as theirs.
    pub left_out: u64,
}

/// A key by which a record can be looked up exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchKey {
    /// An e-mail address.
    Email(String),
    /// A phone number, E.164.
    Phone(String),
    /// Our own or a third system's id.
    External {
        /// Whose id it is.
        namespace: String,
        /// The id.
        value: String,
    },
}

impl MatchKey {
    /// Name of the kind as capabilities list it: `email`, `phone` or `external`.
    pub fn kind(&self) -> &'static str {
        match self {
            MatchKey::Email(_) => "email",
            MatchKey::Phone(_) => "phone",
            MatchKey::External { .. } => "external",
        }
    }

    /// The value looked for.
    pub fn value(&self) -> &str {
        match self {
            MatchKey::Email(value) | MatchKey::Phone(value) | MatchKey::External { value, .. } => value,
        }
    }
}

/// One write.
#[derive(Clone, Copy, Debug)]
pub enum Push<'a> {
    /// A new record.
    Create {
        /// The remote object.
        body: &'a Value,
    },
    /// A change.
    Update {
        /// The vendor's id.
        id: &'a str,
        /// The changed remote fields only.
        body: &'a Value,
        /// The record as last read.
        current: Option<&'a Value>,
        /// Its change token as last read.
        version: Option<&'a str>,
    },
    /// A deletion.
    Delete {
        /// The vendor's id.
        id: &'a str,
    },
}

/// What a write led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The record as the vendor answered; none when it answered without a body.
    pub record: Option<RemoteRecord>,
    /// The vendor's id of the record.
    pub id: String,
    /// How many calls it took, retries not counted.
    pub calls: u32,
}

/// What a probe of the account found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Version of the far end, where it says so.
    pub version: Option<String>,
    /// Whose credentials these are, where the far end says so.
    pub identity: Option<String>,
    /// What works, and what is worth knowing, a sentence each.
    pub notes: Vec<String>,
}

/// What a connector works with during one call; nothing global.
#[derive(Clone)]
pub struct Cx {
    /// The one place that sends.
    pub http: Arc<Http>,
    /// The connection's settings.
    pub settings: Arc<Settings>,
    /// Urgency of what is being done.
    pub lane: Lane,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Knows one vendor's API.
#[async_trait]
pub trait Connector: Send + Sync {
    /// The facts.
    fn manifest(&self) -> &Manifest;
    /// Probes credentials, version and capabilities.
    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError>;
    /// Reads one page.
    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError>;
    /// Reads one record; under another id than asked for when the vendor merged it.
    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError>;
    /// Records that match `key` exactly, verified on this side.
    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError>;
    /// Writes; `idempotency_key` is the same for every attempt of one operation.
    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError>;
    /// Does something in a conversation, once: a failure after which it may have happened is
    /// [`OutcomeUnknown`](super::error::ErrorKind::OutcomeUnknown).
    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError>;
    /// The webhook subscriptions there are, whoever made them.
    async fn subscriptions(&self, cx: &Cx) -> Result<Vec<Listed>, ConnectorError> {
        subscription::list(self.manifest(), cx).await
    }
    /// Makes a webhook subscription, or changes one so that it delivers. A failure after which it may be there is
    /// [`OutcomeUnknown`](super::error::ErrorKind::OutcomeUnknown).
    async fn subscribe(&self, cx: &Cx, subscribe: Subscribe<'_>) -> Result<(), ConnectorError> {
        subscription::subscribe(self.manifest(), cx, subscribe).await
    }
    /// Deletes a webhook subscription.
    async fn unsubscribe(&self, cx: &Cx, id: &str) -> Result<(), ConnectorError> {
        subscription::unsubscribe(self.manifest(), cx, id).await
    }
    /// The secret of one of our own subscriptions, where the vendor made it and does not list it.
    async fn subscription_secret(&self, _cx: &Cx, _id: &str) -> Result<Option<SecretString>, ConnectorError> {
        Ok(None)
    }
    /// Whether a topic, as it is listed or delivered, is told of by rules that somebody made by hand at the vendor: such a
    /// topic is not subscribed to, and a subscription that has one is not ours to change.
    fn by_rule(&self, _topic: &str) -> bool {
        false
    }
    /// Opens a ticket, once, as `act` does; [`find`](Connector::find) finds it by its mark.
    async fn open_ticket(&self, cx: &Cx, new: NewTicket<'_>) -> Result<Acted, ConnectorError> {
        ticket::open(self.manifest(), cx, new).await
    }
    /// Sets fields of a ticket, in the vendor's words. Again it changes nothing.
    async fn set_ticket(&self, cx: &Cx, id: &str, fields: &BTreeMap<String, String>) -> Result<Acted, ConnectorError> {
        ticket::set(self, cx, id, fields).await
    }
}
