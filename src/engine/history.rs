//! The messages of conversations, read beside everything else with whatever calls are left.

use std::sync::Arc;

use counterpart_connectors::{ConnectorError, ErrorKind, Lane, Millis, PullMode, PullRequest, RemoteRecord};
use counterpart_core::{Document, business};
use serde::Serialize;

use super::EngineError;
use super::observe::observe_document;
use super::session::Wired;
use super::worker::Worker;
use crate::store::{Incoming, Message, MessageState, Unread};

/// What reading history brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct History {
    /// Conversations that were read to their end.
    pub conversations: u64,
    /// Messages in them.
    pub messages: u64,
    /// Messages of ours that the channel says it could not deliver.
    pub undelivered: u64,
    /// Conversations that could not be read now.
    pub failed: u64,
}

/// For how long it is looked for what became of a message before older conversations are read.
const AWAITED_MS: Millis = 3 * 86_400_000;
const DELIVERY: &str = "delivery";
/// How long a conversation that could not be read is left alone: while the vendor is busy, and where it refused.
const BUSY_MS: Millis = 10 * 60_000;
const REFUSED_MS: Millis = 3_600_000;

/// What became of one conversation.
enum Thread {
    Read {
        messages: u64,
        undelivered: u64,
    },
    /// The vendor did not let us read to the end.
    Failed,
    /// We are to stop.
    Stopped,
}

impl Worker<'_> {
    /// Reads the messages of conversations that changed since they were last read, at most of `most` of them at each
    /// connection, in the slowest lane, those first into which something was sent lately. What was read is kept whatever ends
    /// it; nothing that is read here reaches anybody.
    pub async fn history(&self, most: u64) -> Result<History, EngineError> {
        let mut found = History::default();
        for (name, wired) in &self.wired {
            let Some(document) = self.engine.document(name, "message") else { continue };
            let mut conversations = self.awaited(name, most).await?;
            let others = self.engine.store.unread(name, self.engine.clock.now(), most).await?;
            conversations.extend(others.into_iter().filter(|other| !conversations.contains(other)).collect::<Vec<_>>());
            conversations.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            self.read_threads(wired, document, conversations, &mut found).await?;
        }
        Ok(found)
    }

    /// Reads the conversations into which something was sent lately, where the vendor says what became of it: what `sync` does
    /// beside its contacts. At most `most` of them at each connection.
    pub async fn follow_up(&self, most: u64) -> Result<History, EngineError> {
        let mut found = History::default();
        for (name, wired) in &self.wired {
            let Some(document) = self.engine.document(name, "message").filter(|document| document.reads(DELIVERY))
            else {
                continue;
            };
            self.read_threads(wired, document, self.awaited(name, most).await?, &mut found).await?;
        }
        Ok(found)
    }

    async fn awaited(&self, connection: &str, most: u64) -> Result<Vec<Unread>, EngineError> {
        let now = self.engine.clock.now();
        Ok(self.engine.store.unread_with_ours(connection, now - AWAITED_MS, now, most).await?)
    }

    async fn read_threads(
        &self,
        wired: &Arc<Wired>,
        document: &Document,
        conversations: Vec<Unread>,
        found: &mut History,
    ) -> Result<(), EngineError> {
        for conversation in conversations {
            if self.engine.is_stopped() {
                return Ok(());
            }
            match self.read_thread(wired, document, &conversation).await? {
                Thread::Read { messages, undelivered } => {
                    found.conversations += 1;
                    found.messages += messages;
                    found.undelivered += undelivered;
                }
                Thread::Failed => found.failed += 1,
                Thread::Stopped => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether a message that the vendor shows is one of ours of which it is news that it was not delivered.
    async fn note_delivery(
        &self,
        wired: &Wired,
        document: &Document,
        ours: &mut [Message],
        record: &RemoteRecord,
        now: Millis,
    ) -> Result<bool, EngineError> {
        // Most conversations hold nothing of ours.
        if ours.is_empty() {
            return Ok(false);
        }
        let said: business::Message = document.read(&record.id, &record.body);
        let is_it = |row: &&mut Message| match &row.remote_id {
            Some(id) => *id == record.id,
            None => said.mark.as_deref() == Some(&row.mark),
        };
        let Some(row) = ours.iter_mut().find(is_it) else { return Ok(false) };
        let undelivered = said.undelivered();
        let was = row.reason.as_deref().is_some_and(|reason| reason.starts_with(business::UNDELIVERED));
        let is_news = match row.state {
            MessageState::Sent => undelivered.is_some(),
            // Somebody of the team sent it again.
            _ => was && undelivered.is_none(),
        };
        if !is_news || !self.engine.store.message_delivery(row, &record.id, undelivered.as_deref(), now).await? {
            return Ok(false);
        }
        row.remote_id = Some(record.id.clone());
        if let Some(why) = &undelivered {
            tracing::warn!(connection = %wired.name, message = row.id, "{why}");
        }
        Ok(undelivered.is_some())
    }

    /// Reads the messages of one conversation: all of them, or what came since it was read last, where the vendor goes on from
    /// there and nothing is awaited of what stands before.
    async fn read_thread(
        &self,
        wired: &Arc<Wired>,
        document: &Document,
        conversation: &Unread,
    ) -> Result<Thread, EngineError> {
        let store = &self.engine.store;
        let mut ours = match document.reads(DELIVERY) {
            true => store.said_in(&wired.name, &conversation.external_id).await?,
            false => Vec::new(),
        };
        let since = self.engine.clock.now() - AWAITED_MS;
        let is_awaited = ours.iter().any(|row| row.attempted_at.is_some_and(|at| at >= since));
        let mut cursor = conversation.cursor.clone().filter(|_| !is_awaited);
        let known = if cursor.is_some() { conversation.messages } else { 0 };
        let (mut messages, mut undelivered, mut steady) = (0, 0, true);
        loop {
            let parent = Some(conversation.external_id.as_str());
            let request = PullRequest { stream: "message", mode: PullMode::Full, cursor: cursor.as_deref(), parent };
            let page = match wired.connection.pull(Lane::Backfill, request).await {
                Ok(page) => page,
                Err(error) => return self.not_read(wired, conversation, &error).await,
            };
            messages += page.records.len() as u64;
            steady &= page.steady;
            let now = self.engine.clock.now();
            for record in &page.records {
                undelivered += u64::from(self.note_delivery(wired, document, &mut ours, record, now).await?);
            }
            let rows: Vec<Incoming> =
                page.records.into_iter().map(|record| observe_document(document, record).row).collect();
            store.keep_messages(&wired.name, conversation, &rows, now).await?;
            if page.next.is_none() {
                let count = known.saturating_add_unsigned(messages);
                let resume = cursor.as_deref().filter(|_| steady);
                store.read_through(conversation, count, resume, self.engine.clock.now()).await?;
                return Ok(Thread::Read { messages, undelivered });
            }
            cursor = page.next;
        }
    }

    /// A conversation that could not be read waits, so that the others are. One that the vendor does not know any more is gone:
    /// some delete conversations without telling anybody.
    async fn not_read(
        &self,
        wired: &Arc<Wired>,
        conversation: &Unread,
        error: &ConnectorError,
    ) -> Result<Thread, EngineError> {
        if error.kind == ErrorKind::Stopped {
            return Ok(Thread::Stopped);
        }
        let id = &conversation.external_id;
        tracing::warn!(connection = %wired.name, conversation = %id, "{}", error.message);
        if matches!(error.status, Some(404 | 410)) && is_gone(wired, id).await {
            self.forget(wired, id).await?;
            return Ok(Thread::Failed);
        }
        let pause = match error.kind {
            ErrorKind::Unavailable | ErrorKind::RateLimited { .. } => BUSY_MS,
            _ => REFUSED_MS,
        };
        self.engine.store.not_read(conversation, self.engine.clock.now() + pause).await?;
        Ok(Thread::Failed)
    }
}

/// Whether the vendor says so of the conversation itself: that its messages are not there may mean something else.
async fn is_gone(wired: &Wired, conversation: &str) -> bool {
    if !wired.connection.capabilities_of("conversation").is_some_and(|can| can.fetch) {
        return false;
    }
    match wired.connection.fetch(Lane::Backfill, "conversation", conversation).await {
        Ok(record) => record.deleted,
        Err(error) => error.kind == ErrorKind::NotFound,
    }
}
