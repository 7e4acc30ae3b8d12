//! Planned writes as values: deterministic, hashed, printable.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::field::Fields;

/// Urgency class of a call, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// A message a customer waits for.
    Customer,
    /// Resolving a conversation.
    Resolve,
    /// Reading again what a webhook hinted at.
    Repair,
    /// What changed since the last time.
    Incremental,
    /// Looking for what was missed.
    Audit,
    /// History.
    Backfill,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// A new record.
    Create,
    /// Changed fields of a record; a cleared slot clears.
    Update {
        /// The vendor's id.
        external_id: String,
    },
    /// A record goes.
    Delete {
        /// The vendor's id.
        external_id: String,
    },
}

impl Action {
    /// `create`, `update` or `delete`.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update { .. } => "update",
            Action::Delete { .. } => "delete",
        }
    }
}

/// One write at one connection, with everything a reader of the plan wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Hash over what the operation does; the same change has the same id.
    pub id: String,
    /// Where.
    pub connection: String,
    /// Which stream.
    pub stream: String,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// Canonical values to write.
    pub fields: Fields,
    /// What those fields show now.
    pub before: Fields,
    /// Calls it takes.
    pub cost: u32,
    /// Lane its calls are drawn from.
    pub lane: Lane,
    /// Why.
    pub reason: String,
    /// What else the vendor does when this is done.
    pub side_effects: Vec<String>,
    /// The person's records as `connection/external id`, sorted.
    pub sources: Vec<String>,
}

impl Operation {
    /// Makes an operation and computes its id.
    #[expect(clippy::too_many_arguments, reason = "an operation is the sum of its parts")]
    pub fn new(
        connection: String,
        stream: String,
        action: Action,
        fields: Fields,
        before: Fields,
        cost: u32,
        lane: Lane,
        reason: String,
        side_effects: Vec<String>,
        mut sources: Vec<String>,
    ) -> Operation {
        sources.sort();
        let mut op = Operation {
            id: String::new(),
            connection,
            stream,
            action,
            fields,
            before,
            cost,
            lane,
            reason,
            side_effects,
            sources,
        };
        op.id = hex(&Sha256::digest(op.line().as_bytes())[..16]);
        op
    }

    /// The operation as one line of canonical JSON.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("an operation has text keys and plain values")
    }
}

/// Hash over a plan: feed its operations in the order of their ids.
#[derive(Default)]
pub struct PlanHasher(Sha256);

impl PlanHasher {
    /// Takes the next operation.
    pub fn feed(&mut self, op: &Operation) {
        self.0.update(op.line().as_bytes());
        self.0.update(b"\n");
    }

    /// The hash in hexadecimal.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
