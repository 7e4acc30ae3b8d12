//! What can be done in a conversation (write to the customer, write a note, close it, open it again) and at a desk (open a
//! ticket, set its fields).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::Manifest;
use super::settings;

/// Something that can be done in a conversation or with a ticket.
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
    /// Opens a ticket.
    OpenTicket,
    /// Sets fields of a ticket.
    SetTicket,
}

/// One call in a conversation or at a desk.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActFacts {
    /// `POST /messages`; the path knows `{conversation}`, that of `set_ticket` `{ticket}`.
    pub call: String,
    /// The body; its texts know `{conversation}` (for `open` the contact), `{text}` and `{mark}`, our own mark on a message.
    /// For `open_ticket` texts and names know `{subject}`, `{text}`, `{mark}`, `{requester}` (an e-mail address),
    /// `{requester_name}`, and of a ticket that is made from a conversation `{conversation}` and `{field}`, the item of a
    /// list in which the mapping of tickets reads it; a member that comes out empty is not sent, nor is an item of a list
    /// that lacks one. An act whose settings are empty is one that the connection cannot do.
    #[serde(default)]
    pub body: serde_json::Map<String, Value>,
    /// Where the answer says the new message's id.
    pub answer_id: Option<String>,
    /// The fields that `set_ticket` can set, by the name that flows use.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldFacts>,
    /// What else happens at the vendor, a sentence each.
    #[serde(default)]
    pub effects: Vec<String>,
}

/// A field of a ticket that can be set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldFacts {
    /// Where a ticket says it; the call puts it there too, below the first `record` of the stream.
    pub at: String,
    /// The values it may have, by the word that flows use; any text without them.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

impl FieldFacts {
    /// A value as the vendor calls it; none when it may not be set.
    pub fn value<'a>(&'a self, word: &'a str) -> Option<&'a str> {
        match self.values.is_empty() {
            true => Some(word),
            false => self.values.get(word).map(String::as_str),
        }
    }
}

impl ActFacts {
    /// Names of the settings that the call takes.
    pub(crate) fn settings(&self) -> Vec<String> {
        let whole = format!("{} {}", self.call, Value::Object(self.body.clone()));
        settings::names(&whole).filter(|name| !PLACEHOLDERS.contains(name)).map(str::to_owned).collect()
    }
}

impl Manifest {
    /// The settings without which a connection with these cannot do something.
    pub fn unset(&self, act: ActKind, given: &serde_json::Map<String, Value>) -> Vec<String> {
        let is_empty = |value: Option<&Value>| {
            value.is_none_or(|value| value.is_null() || value.as_str().is_some_and(str::is_empty))
        };
        let needed = self.actions.get(&act).map(ActFacts::settings).unwrap_or_default();
        let default = |name: &String| self.settings.get(name).and_then(|facts| facts.default.as_ref());
        needed.into_iter().filter(|name| is_empty(given.get(name).or_else(|| default(name)))).collect()
    }
}

/// Placeholders that are no settings.
pub(crate) const PLACEHOLDERS: [&str; 8] =
    ["conversation", "text", "mark", "subject", "requester", "requester_name", "field", "ticket"];

impl ActKind {
    /// All of them.
    pub const ALL: [ActKind; 7] = {
        use ActKind::{Note, Open, OpenTicket, Reopen, Resolve, Send, SetTicket};
        [Send, Open, Note, Resolve, Reopen, OpenTicket, SetTicket]
    };

    /// Whether it is done at a desk, not in a conversation.
    pub fn is_at_desk(self) -> bool {
        matches!(self, ActKind::OpenTicket | ActKind::SetTicket)
    }

    /// The word the manifest uses.
    pub fn word(self) -> &'static str {
        match self {
            ActKind::Send => "send",
            ActKind::Open => "open",
            ActKind::Note => "note",
            ActKind::Resolve => "resolve",
            ActKind::Reopen => "reopen",
            ActKind::OpenTicket => "open_ticket",
            ActKind::SetTicket => "set_ticket",
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

/// A ticket that is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct NewTicket<'a> {
    /// What it is about, one line.
    pub subject: &'a str,
    /// What it says.
    pub text: &'a str,
    /// E-mail address of the person it is for.
    pub requester: &'a str,
    /// That person's name.
    pub requester_name: &'a str,
    /// Our own mark on it: the same for every attempt.
    pub mark: &'a str,
    /// The conversation it is made from.
    pub conversation: Option<&'a str>,
    /// The item of a list in which the mapping of tickets reads the conversation.
    pub field: Option<&'a str>,
}

/// What an act led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// The vendor's id of the message that was written; for [`ActKind::Open`] of the conversation, for
    /// [`ActKind::OpenTicket`] of the ticket.
    pub made: Option<String>,
}
