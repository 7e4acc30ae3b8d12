//! What can be done in a conversation: write to the customer, write a note, close it, open it again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that can be done in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActKind {
    /// Writes to the customer.
    Send,
    /// Begins a conversation with a contact by writing to them, in one call.
    Open,
    /// Writes for agents only.
    Note,
    /// Closes it.
    Resolve,
    /// Opens it again.
    Reopen,
}

/// One call in a conversation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActFacts {
    /// `POST /messages`; the path knows `{conversation}`.
    pub call: String,
    /// The body; its texts know `{conversation}` (for `open` the contact), `{text}` and `{mark}`, our own mark on a message.
    /// An act whose settings are empty is one that the connection cannot do.
    #[serde(default)]
    pub body: serde_json::Map<String, serde_json::Value>,
    /// Where the answer says the new message's id.
    pub answer_id: Option<String>,
    /// What else happens at the vendor, a sentence each.
    #[serde(default)]
    pub effects: Vec<String>,
}

impl ActKind {
    /// The word the manifest uses.
    pub fn word(self) -> &'static str {
        match self {
            ActKind::Send => "send",
            ActKind::Open => "open",
            ActKind::Note => "note",
            ActKind::Resolve => "resolve",
            ActKind::Reopen => "reopen",
        }
    }
}

/// Something to be done in a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// What.
    pub kind: ActKind,
    /// The vendor's id of the conversation; for [`ActKind::Open`] of the contact.
    pub conversation: &'a str,
    /// The message, for those that write one.
    pub text: &'a str,
    /// Our mark on the message, where the vendor keeps one: the same for every attempt.
    pub mark: &'a str,
}

/// What an act led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// The vendor's id of the message that was written; for [`ActKind::Open`] of the conversation.
    pub made: Option<String>,
}
