//! What became of an attempt of which nobody knows: it is looked for at the vendor before anything is sent again.

use std::sync::Arc;

use counterpart_connectors::{ActKind, ConnectorError, ErrorKind, Lane, Millis, PullMode, PullRequest};
use counterpart_core::business::{self, Author, Conversation};
use counterpart_core::normalize;

use super::EngineError;
use super::deliver::{CLOCKS_DIFFER_MS, count};
use super::route::{BEGUN, parsed};
use super::session::Wired;
use super::worker::{Pass, Worker};
use crate::store::{Message, MessageState};

/// The longest pause between two look-ups: a conversation that is gone never answers.
const ASK_RARELY_MS: Millis = 6 * 3_600_000;
/// Pages of a conversation that are searched for an attempt.
const MAX_PAGES: usize = 200;

/// Whether what became of an attempt could be looked up.
pub(super) type Looked = Result<(), ConnectorError>;

impl Worker<'_> {
    /// An attempt of which nobody knows: found at the vendor it is settled, surely not there it is made again. False when the
    /// vendor is not to be asked for now.
    pub(super) async fn look_for(
        &self,
        wired: &Arc<Wired>,
        row: &Message,
        pass: &mut Pass,
    ) -> Result<bool, EngineError> {
        let asked_at = self.engine.clock.now();
        let looked = match row.action {
            ActKind::Resolve | ActKind::Reopen => self.look_at_chat(wired, row, pass).await?,
            ActKind::SetTicket => self.look_at_tickets(wired, row, pass).await?,
            _ => self.look_for_text(wired, row, pass).await?,
        };
        let Err(error) = looked else { return Ok(true) };
        if let Some(soonest) = self.ask_again_at(&error) {
            let why = format!("what became of it could not be looked up: {}", error.message);
            let tried_for = asked_at - row.attempted_at.unwrap_or(row.created_at);
            let rarely = self.engine.clock.now() + (tried_for / 2).min(ASK_RARELY_MS);
            self.set(row, MessageState::Unknown, Some(&why), rarely.max(soonest), None).await?;
        }
        Ok(!error.kind.is_passing())
    }

    /// What was to be said, or the ticket that was to be opened.
    async fn look_for_text(&self, wired: &Arc<Wired>, row: &Message, pass: &mut Pass) -> Result<Looked, EngineError> {
        let now = self.engine.clock.now();
        let settled = row.attempted_at.unwrap_or(row.created_at) + wired.config.settle_ms;
        if now < settled {
            self.set(row, MessageState::Unknown, row.reason.as_deref(), settled, None).await?;
            return Ok(Ok(()));
        }
        let found = match row.action {
            ActKind::OpenTicket => self.marked_ticket(wired, row).await.map(|id| id.map(|id| (id, None))),
            _ => match self.arrived(wired, row).await? {
                Ok(Some((conversation, message))) => {
                    self.engine.store.message_opened(row.id, &conversation).await?;
                    Ok(Some((message.id.clone(), message.undelivered())))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
        };
        match found {
            Err(error) => return Ok(Err(error)),
            Ok(Some((id, None))) => {
                count(row, pass);
                self.set(row, MessageState::Sent, Some("found at the vendor"), 0, Some(&id)).await?;
            }
            Ok(Some((id, Some(undelivered)))) => {
                pass.refused += 1;
                self.set(row, MessageState::Refused, Some(&undelivered), 0, Some(&id)).await?;
            }
            Ok(None) if row.action == ActKind::OpenTicket && now < Self::shown_by(wired, row) => {
                let why = "not shown yet, and what was just made shows late there";
                self.set(row, MessageState::Unknown, Some(why), Self::shown_by(wired, row), None).await?;
            }
            Ok(None) => self.again(row, Some("surely not there")).await?,
        }
        Ok(Ok(()))
    }

    /// Whether a conversation is closed or open as an attempt would have it. Where it is not, to do it once more does no harm.
    async fn look_at_chat(&self, wired: &Arc<Wired>, row: &Message, pass: &mut Pass) -> Result<Looked, EngineError> {
        let Some(conversation) = &row.conversation else {
            self.again(row, None).await?;
            return Ok(Ok(()));
        };
        let known = self.engine.store.document(&wired.name, "conversation", conversation).await?;
        match self.conversation_now(wired, Lane::Resolve, conversation, known.map(parsed).unwrap_or_default()).await {
            Ok(state) if !state.id.is_empty() && state.resolved == (row.action == ActKind::Resolve) => {
                count(row, pass);
                self.set(row, MessageState::Sent, Some("found at the vendor"), 0, None).await?;
            }
            Err(error) if error.kind != ErrorKind::NotFound => return Ok(Err(error)),
            Ok(_) | Err(_) => self.again(row, None).await?,
        }
        Ok(Ok(()))
    }

    /// The message that an attempt left, and its conversation.
    pub(super) async fn arrived(
        &self,
        wired: &Wired,
        row: &Message,
    ) -> Result<Result<Option<(String, business::Message)>, ConnectorError>, EngineError> {
        let Some(conversation) = &row.conversation else { return Ok(Ok(None)) };
        let thread = match conversation.strip_prefix(BEGUN) {
            Some(contact) => {
                let since = row.attempted_at.unwrap_or(row.created_at) - CLOCKS_DIFFER_MS;
                self.recent_words(wired, contact, since).await
            }
            None => self
                .thread(wired, Lane::Customer, conversation)
                .await
                .map(|thread| within(conversation, thread).collect()),
        };
        let thread: Vec<_> = match thread {
            Ok(thread) => thread,
            Err(error) => return Ok(Err(error)),
        };
        let own = self.engine.store.own_messages(&wired.name, conversation).await?;
        let marked = self.engine.reads_marks(&wired.name);
        let ours = thread.into_iter().filter(|(_, message)| !own.contains(&message.id) && is_it(message, row, marked));
        // Of several attempts the one counts that the customer has.
        Ok(Ok(ours.min_by_key(|(_, message)| message.undelivered().is_some())))
    }

    /// The messages of a contact's conversations in which anything happened since `since`: among them is one that an
    /// unknown attempt began.
    async fn recent_words(
        &self,
        wired: &Wired,
        contact: &str,
        since: Millis,
    ) -> Result<Vec<(String, business::Message)>, ConnectorError> {
        let of = |kind: &str| self.engine.document(&wired.name, kind);
        let document = of("conversation")
            .ok_or_else(|| ConnectorError::unsupported(format!("{}: conversations cannot be read", wired.name)))?;
        let mut words = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let cursor_now = cursor.as_deref();
            let request =
                PullRequest { stream: "conversation", mode: PullMode::Head, cursor: cursor_now, parent: None };
            let page = wired.connection.pull(Lane::Customer, request).await?;
            let mut all_older = !page.records.is_empty();
            for record in &page.records {
                let conversation: Conversation = document.read(&record.id, &record.body);
                let at = record.updated_at.or(conversation.updated_at);
                if at.is_some_and(|at| at < since) {
                    continue;
                }
                all_older = false;
                if conversation.contact.id.as_deref() == Some(contact) {
                    words.extend(within(&record.id, self.thread(wired, Lane::Customer, &record.id).await?));
                }
            }
            cursor = page.next;
            // The newest come first.
            if all_older || cursor.is_none() {
                return Ok(words);
            }
        }
        Err(ConnectorError::contract(format!("{}: there are too many conversations to look through", wired.name)))
    }

    /// All messages of a conversation as the vendor shows them now.
    pub(super) async fn thread(
        &self,
        wired: &Wired,
        lane: Lane,
        conversation: &str,
    ) -> Result<Vec<business::Message>, ConnectorError> {
        let document = self
            .engine
            .document(&wired.name, "message")
            .ok_or_else(|| ConnectorError::unsupported(format!("{}: messages cannot be read", wired.name)))?;
        let mut thread = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let request = PullRequest {
                stream: "message",
                mode: PullMode::Full,
                cursor: cursor.as_deref(),
                parent: Some(conversation),
            };
            let page = wired.connection.pull(lane, request).await?;
            thread
                .extend(page.records.iter().map(|record| document.read::<business::Message>(&record.id, &record.body)));
            cursor = page.next;
            if cursor.is_none() {
                thread.sort_by_key(|message| message.created_at);
                return Ok(thread);
            }
        }
        Err(ConnectorError::contract(format!("{}: the conversation has no end", wired.name)))
    }

    /// A conversation as the vendor shows it now, where it shows a single one; else as it was last read.
    pub(super) async fn conversation_now(
        &self,
        wired: &Wired,
        lane: Lane,
        conversation: &str,
        known: Conversation,
    ) -> Result<Conversation, ConnectorError> {
        let document = self.engine.document(&wired.name, "conversation");
        let can = wired.connection.capabilities_of("conversation").is_some_and(|can| can.fetch);
        let (true, Some(document)) = (can, document) else { return Ok(known) };
        let record = wired.connection.fetch(lane, "conversation", conversation).await?;
        Ok(document.read(&record.id, &record.body))
    }
}

/// Whether a message at the vendor is the one that was sent.
pub(super) fn is_it(message: &business::Message, row: &Message, marked: bool) -> bool {
    if message.author == Author::Customer || message.private != (row.action == ActKind::Note) {
        return false;
    }
    if marked {
        return message.mark.as_deref() == Some(&row.mark);
    }
    let since = row.attempted_at.unwrap_or(row.created_at) - CLOCKS_DIFFER_MS;
    let same = |text: &str| normalize::spaces(text) == normalize::spaces(row.text.as_deref().unwrap_or_default());
    message.created_at.is_none_or(|at| at >= since) && message.text.as_deref().is_some_and(same)
}

/// Messages with the conversation that they are in.
pub(super) fn within(
    conversation: &str,
    thread: Vec<business::Message>,
) -> impl Iterator<Item = (String, business::Message)> {
    let conversation = conversation.to_owned();
    thread.into_iter().map(move |message| (conversation.clone(), message))
}

/// That the vendor does not show the conversation either, where it shows a single one: a 404 to a message may mean
/// something else, such as a proxy or an inbox.
pub(super) async fn confirm_gone(
    wired: &Wired,
    conversation: &str,
    error: &ConnectorError,
) -> Result<(), ConnectorError> {
    let can = wired.connection.capabilities_of("conversation").is_some_and(|can| can.fetch);
    if !can {
        return Ok(());
    }
    let doubt = |why: &str| ConnectorError::new(ErrorKind::Unavailable, format!("{}; {why}", error.message));
    match wired.connection.fetch(Lane::Customer, "conversation", conversation).await {
        Ok(record) if record.deleted => Ok(()),
        Ok(_) => Err(doubt("and yet the conversation is there")),
        Err(gone) if gone.kind == ErrorKind::NotFound => Ok(()),
        Err(stopped) if stopped.kind == ErrorKind::Stopped => Err(stopped),
        Err(other) => Err(doubt(&format!("whether the conversation is there is not known: {}", other.message))),
    }
}
