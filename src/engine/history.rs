//! The messages of conversations, read beside everything else with whatever calls are left.

use std::sync::Arc;

use counterpart_connectors::{Lane, PullMode, PullRequest};
use counterpart_core::{Document, business};
use serde::Serialize;

use super::EngineError;
use super::observe::observe_document;
use super::session::Wired;
use super::worker::Worker;
use crate::store::{Incoming, Unread};

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

impl Worker<'_> {
    /// Reads the messages of conversations that changed since they were last read, at most of `most` of them at each
    /// connection, in the slowest lane. What was read is kept whatever ends it; nothing that is read here reaches anybody.
    pub async fn history(&self, most: u64) -> Result<History, EngineError> {
        let mut found = History::default();
        for (name, wired) in &self.wired {
            let Some(document) = self.engine.documents.get(&(name.clone(), "message".to_owned())) else { continue };
            for conversation in self.engine.store.unread(name, most).await? {
                if self.engine.is_stopped() {
                    return Ok(found);
                }
                match self.read_thread(wired, document, &conversation).await? {
                    Some((messages, undelivered)) => {
                        found.conversations += 1;
                        found.messages += messages;
                        found.undelivered += undelivered;
                    }
                    None => found.failed += 1,
                }
            }
        }
        Ok(found)
    }

    /// The messages there are, and those of ours that were not delivered. None when the vendor did not let us read to the end.
    async fn read_thread(
        &self,
        wired: &Arc<Wired>,
        document: &Document,
        conversation: &Unread,
    ) -> Result<Option<(u64, u64)>, EngineError> {
        let store = &self.engine.store;
        let (mut messages, mut undelivered) = (0, 0);
        let mut cursor: Option<String> = None;
        loop {
            let parent = Some(conversation.external_id.as_str());
            let request = PullRequest { stream: "message", mode: PullMode::Full, cursor: cursor.as_deref(), parent };
            let page = match wired.connection.pull(Lane::Backfill, request).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(connection = %wired.name, conversation = %conversation.external_id, "{}", error.message);
                    return Ok(None);
                }
            };
            messages += page.records.len() as u64;
            let now = self.engine.clock.now();
            for record in &page.records {
                let message: business::Message = document.read(&record.id, &record.body);
                let Some(why) = message.undelivered() else { continue };
                if store.message_undelivered(&wired.name, &record.id, message.mark.as_deref(), &why, now).await? {
                    tracing::warn!(connection = %wired.name, message = %record.id, "{why}");
                    undelivered += 1;
                }
            }
            let rows: Vec<Incoming> =
                page.records.into_iter().map(|record| observe_document(document, record).row).collect();
            store.keep_messages(&wired.name, conversation, &rows, now).await?;
            cursor = page.next;
            if cursor.is_none() {
                let count = i64::try_from(messages).unwrap_or(i64::MAX);
                store.read_through(conversation, count, self.engine.clock.now()).await?;
                return Ok(Some((messages, undelivered)));
            }
        }
    }
}
