//! The rate budget as the kit sees it; the application implements it over its ledger.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::clock::Millis;

/// Urgency of a call, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// A message to a customer.
    Customer,
    /// Resolving a conversation.
    Resolve,
    /// Repairing what a webhook pointed at.
    Repair,
    /// The scheduled sync.
    Incremental,
    /// The slow comparison that finds what was missed.
    Audit,
    /// The first, long read.
    Backfill,
}

impl Lane {
    /// Short stable name.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Customer => "customer",
            Lane::Resolve => "resolve",
            Lane::Repair => "repair",
            Lane::Incremental => "incremental",
            Lane::Audit => "audit",
            Lane::Backfill => "backfill",
        }
    }
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A page of a list.
    Pull,
    /// One record by id.
    Fetch,
    /// Records by a key.
    Find,
    /// A new record.
    Create,
    /// A change of a record.
    Update,
    /// A deletion.
    Delete,
    /// A message, a note, or the closing of a conversation.
    Act,
    /// A probe of credentials and version.
    Check,
}

impl Purpose {
    /// Whether a repetition can change anything at the vendor.
    pub fn writes(self) -> bool {
        matches!(self, Purpose::Create | Purpose::Update | Purpose::Delete | Purpose::Act)
    }
}

/// One call that wants to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name of the connection.
    pub connection: &'a str,
    /// Class of endpoint the vendor limits apart; `all` when there is none.
    pub class: &'a str,
    /// Urgency.
    pub lane: Lane,
    /// What it is for.
    pub purpose: Purpose,
    /// How many calls it counts as at the vendor.
    pub cost: u32,
}

/// Why no permit was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The program is shutting down.
    #[error("stopped")]
    Stopped,
    /// The ledger itself failed.
    #[error("the call budget cannot be read or written: {0}")]
    Store(String),
}

/// What an answer, or its absence, says about the vendor's limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateSignal {
    /// Status of the answer; none when there was no answer.
    pub status: Option<u16>,
    /// Calls per window, as announced.
    pub limit: Option<u32>,
    /// Calls left in the window, as announced.
    pub remaining: Option<u32>,
    /// When the window starts anew, as announced.
    pub reset_at: Option<Millis>,
    /// Not before this time again (`Retry-After`, or the kit's guess for a bare 429).
    pub retry_at: Option<Millis>,
    /// The request surely never reached the vendor, so nothing was spent.
    pub surely_unsent: bool,
}

/// Gives permits; every request of the kit passes it exactly once.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Waits until `call` may be made and returns a permit number.
    async fn acquire(&self, call: &Call<'_>) -> Result<u64, GateError>;
    /// Reports what became of the call with that permit.
    async fn settle(&self, permit: u64, call: &Call<'_>, signal: &RateSignal);
}

/// A gate without limits, for tools and the conformance suite.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn acquire(&self, _call: &Call<'_>) -> Result<u64, GateError> {
        Ok(0)
    }

    async fn settle(&self, _permit: u64, _call: &Call<'_>, _signal: &RateSignal) {}
}
