//! Chats as a vendor holds them: the truth behind the APIs of the chat systems.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Millis;

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Author {
    /// The person at the other end.
    Customer,
    /// Somebody of the staff, or a program with the staff's credential.
    Agent,
    /// The chat system by itself.
    Bot,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The vendor's id, as its API shows it.
    pub id: String,
    /// Id of the person it is with; empty when that person is gone.
    pub person: String,
    /// Whether it is closed.
    pub resolved: bool,
    /// Labels.
    pub labels: Vec<String>,
    /// When it was opened.
    pub created_at: Millis,
    /// When it last changed, by a message or by its status.
    pub updated_at: Millis,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// The vendor's id.
    pub id: String,
    /// Id of the conversation.
    pub chat: String,
    /// Who wrote it.
    pub author: Author,
    /// Whether only the staff sees it.
    pub private: bool,
    /// What it says.
    pub text: String,
    /// When it was written.
    pub at: Millis,
}

/// A conversation with everything a vendor keeps of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thread {
    pub id: u64,
    pub person: Option<u64>,
    pub status: String,
    pub labels: Vec<String>,
    pub unread: u64,
    pub messages: Vec<u64>,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// When somebody last wrote.
    pub active_at: Millis,
    /// Chatwoot's id of the person in the inbox.
    pub source: String,
    pub custom: Map<String, Value>,
    pub additional: Map<String, Value>,
    pub priority: Option<String>,
    pub snoozed_until: Option<Millis>,
    pub waiting_since: Option<Millis>,
    pub first_reply_at: Option<Millis>,
}

/// A message with everything a vendor keeps of it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub id: u64,
    pub chat: u64,
    pub author: Author,
    pub private: bool,
    pub text: String,
    pub at: Millis,
    /// What only one vendor knows, by that vendor's names.
    pub more: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub(crate) struct Chats {
    pub threads: BTreeMap<u64, Thread>,
    pub said: BTreeMap<u64, Said>,
    /// Source ids of the inbox, and whose they are.
    pub sources: BTreeMap<String, u64>,
    /// When somebody was last heard of.
    pub seen: BTreeMap<u64, Millis>,
    next_thread: u64,
    next_said: u64,
}

impl Chats {
    pub fn new(first_thread: u64, first_said: u64) -> Chats {
        Chats {
            threads: BTreeMap::new(),
            said: BTreeMap::new(),
            sources: BTreeMap::new(),
            seen: BTreeMap::new(),
            next_thread: first_thread,
            next_said: first_said,
        }
    }

    pub fn open(&mut self, now: Millis, person: u64) -> &mut Thread {
        let id = self.next_thread;
        self.next_thread += 1;
        self.threads.entry(id).or_insert(Thread {
            id,
            person: Some(person),
            status: "open".to_owned(),
            created_at: now,
            updated_at: now,
            active_at: now,
            ..Thread::default()
        })
    }

    /// Somebody deletes a conversation with all that was said in it.
    pub fn delete(&mut self, chat: u64) {
        self.threads.remove(&chat);
        self.said.retain(|_, said| said.chat != chat);
    }

    /// Adds a message, and counts what the staff has not answered yet. The status is the vendor's affair.
    pub fn write(&mut self, now: Millis, chat: u64, author: Author, private: bool, text: &str) -> Option<&mut Said> {
        let thread = self.threads.get_mut(&chat)?;
        let id = self.next_said;
        self.next_said += 1;
        thread.messages.push(id);
        thread.updated_at = now;
        match author {
            Author::Customer => thread.unread += 1,
            Author::Agent if !private => thread.unread = 0,
            Author::Agent | Author::Bot => {}
        }
        let said = Said { id, chat, author, private, text: text.to_owned(), at: now, more: Map::new() };
        Some(self.said.entry(id).or_insert(said))
    }

    /// The messages of a conversation, oldest first.
    pub fn of(&self, thread: &Thread) -> impl DoubleEndedIterator<Item = &Said> {
        thread.messages.iter().filter_map(|id| self.said.get(id))
    }

    /// A source id of somebody.
    pub fn source_of(&self, person: u64) -> Option<String> {
        self.sources.iter().find(|(_, holder)| **holder == person).map(|(source, _)| source.clone())
    }

    /// Somebody is gone with all that was said.
    pub fn forget(&mut self, gone: u64) {
        self.threads.retain(|_, thread| thread.person != Some(gone));
        self.said.retain(|_, said| self.threads.contains_key(&said.chat));
        self.sources.retain(|_, holder| *holder != gone);
    }

    /// Somebody is gone: what they wrote stays, and goes to the heir if there is one.
    pub fn hand_over(&mut self, gone: u64, heir: Option<u64>) {
        match heir {
            Some(heir) => self.sources.values_mut().filter(|holder| **holder == gone).for_each(|holder| *holder = heir),
            None => self.sources.retain(|_, holder| *holder != gone),
        }
        for thread in self.threads.values_mut().filter(|thread| thread.person == Some(gone)) {
            thread.person = heir;
        }
    }

    pub fn list(&self) -> Vec<Chat> {
        let shown = |thread: &Thread| Chat {
            id: thread.id.to_string(),
            person: thread.person.map(|id| id.to_string()).unwrap_or_default(),
            resolved: thread.status == "resolved",
            labels: thread.labels.clone(),
            created_at: thread.created_at,
            updated_at: thread.updated_at,
        };
        self.threads.values().map(shown).collect()
    }

    pub fn messages(&self) -> Vec<ChatMessage> {
        let shown = |said: &Said| ChatMessage {
            id: said.id.to_string(),
            chat: said.chat.to_string(),
            author: said.author,
            private: said.private,
            text: said.text.clone(),
            at: said.at,
        };
        self.said.values().map(shown).collect()
    }
}
