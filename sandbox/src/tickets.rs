//! Tickets as a vendor holds them: the truth behind the APIs of the ticket systems.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Millis;
use crate::instance::stored;

/// What is known of a ticket before a vendor gives an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTicket {
    /// Subject.
    pub subject: String,
    /// E-mail address of whom it is for.
    pub email: Option<String>,
    /// Explicit link to a conversation, kept in a field of the ticket.
    pub chat: Option<String>,
}

/// A ticket as a vendor holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The vendor's id.
    pub id: String,
    /// Status in the vendor's words.
    pub status: String,
    /// Subject.
    pub subject: String,
    /// Priority in the vendor's words.
    pub priority: Option<String>,
    /// Custom fields that say something, by id or by name.
    pub fields: BTreeMap<String, String>,
    /// When it last changed.
    pub updated_at: Millis,
}

/// Something that was done to a ticket.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: u64,
    pub ticket: u64,
    /// In the words of Request Tracker: Create, Correspond, Comment, Status, Set, CustomField, EmailRecord.
    pub kind: &'static str,
    pub public: bool,
    pub text: Option<String>,
    pub field: Option<String>,
    pub old: Option<String>,
    pub new: Option<String>,
    pub at: Millis,
}

/// A ticket with everything a vendor keeps of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub id: u64,
    pub subject: String,
    pub status: String,
    pub email: Option<String>,
    pub requester: Option<u64>,
    pub external_id: Option<String>,
    pub priority: Value,
    pub tags: Vec<String>,
    /// Custom fields, by id or by name.
    pub fields: BTreeMap<String, Value>,
    pub resolved_at: Option<Millis>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// A created ticket that a repeated call with the same key gets again.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub at: Millis,
    pub request: Value,
    pub answer: Value,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    pub rows: BTreeMap<u64, Row>,
    pub entries: BTreeMap<u64, Entry>,
    pub keys: BTreeMap<String, Kept>,
    by_ticket: BTreeMap<u64, Vec<u64>>,
    last: u64,
    last_entry: u64,
}

impl Tickets {
    pub fn open(&mut self, now: Millis, row: Row) -> u64 {
        self.last += 1;
        let id = self.last;
        self.rows.insert(id, Row { id, created_at: now, updated_at: now, ..row });
        id
    }

    /// Notes what was done; the ticket counts as changed.
    pub fn note(&mut self, now: Millis, ticket: u64, kind: &'static str) -> &mut Entry {
        self.last_entry += 1;
        let id = self.last_entry;
        if let Some(row) = self.rows.get_mut(&ticket) {
            row.updated_at = now;
        }
        let blank = Entry { id, ticket, kind, public: true, text: None, field: None, old: None, new: None, at: now };
        self.by_ticket.entry(ticket).or_default().push(id);
        self.entries.entry(id).or_insert(blank)
    }

    /// What was done to a ticket, oldest first.
    pub fn of(&self, ticket: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        self.by_ticket.get(&ticket).into_iter().flatten().filter_map(|id| self.entries.get(id))
    }

    pub fn list(&self) -> Vec<Ticket> {
        let shown = |row: &Row| Ticket {
            id: row.id.to_string(),
            status: row.status.clone(),
            subject: row.subject.clone(),
            priority: stored(&row.priority),
            fields: row.fields.iter().filter_map(|(name, value)| Some((name.clone(), stored(value)?))).collect(),
            updated_at: row.updated_at,
        };
        self.rows.values().map(shown).collect()
    }
}
