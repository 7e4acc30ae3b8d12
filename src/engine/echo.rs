//! Which of the things that happen are our own doing: they fire no flow, so that two flows never answer each other.

use std::collections::BTreeMap;

use counterpart_connectors::{ActKind, Millis};
use counterpart_core::business::{Conversation, EventKind, Subject, Ticket, TicketStatus};
use counterpart_core::event::Happened;
use serde_json::Value;

use super::EngineError;
use super::session::Source;
use super::worker::Worker;
use crate::store::{Message, MessageState};

/// What a vendor says that it did may be this far from when we asked for it, after the difference of the clocks.
const SAME_TIME_MS: Millis = 60_000;
/// An attempt without an answer may have its effect this late.
const LATE_MS: Millis = 10 * 60_000;
/// A reading that was under way while we wrote is stored within this time.
const IN_FLIGHT_MS: Millis = 2 * 60_000;
/// The difference of the clocks is known this well: vendors tell their time in whole seconds.
const CLOCK_STEP_MS: Millis = 2_000;
/// To set a ticket once is one of these, and only one: who opens it again meanwhile did that themselves.
const SET: [EventKind; 3] = [EventKind::TicketUpdated, EventKind::TicketClosed, EventKind::TicketReopened];

impl Worker<'_> {
    /// The intent of which an event is the echo.
    pub(super) async fn own_act(
        &self,
        source: &Source,
        subject: &Subject,
        happened: &Happened,
        now: Millis,
    ) -> Result<Option<i64>, EngineError> {
        match subject {
            Subject::Ticket(ticket) if ticket.status != TicketStatus::Deleted => {
                self.own_act_at_desk(source, ticket, happened, now).await
            }
            Subject::Conversation(chat) => self.own_resolve(source, chat).await,
            Subject::Ticket(_) | Subject::Order(_) | Subject::Shipment(_) => Ok(None),
        }
    }

    /// Conversations that are open were opened by somebody since we resolved them: what is resolved after this is not our
    /// doing.
    pub(super) async fn note_undone(
        &self,
        source: &Source,
        open: &[&Conversation],
        now: Millis,
    ) -> Result<(), EngineError> {
        let ids: Vec<&str> = open.iter().map(|chat| chat.id.as_str()).collect();
        let acts = self.engine.store.standing_resolves(&source.wired.name, &ids).await?;
        if acts.is_empty() {
            return Ok(());
        }
        let offset = self.clock_offset(source).await?;
        // A reading that was under way while we wrote shows what was.
        let is_newer = |act: &Message, chat: &Conversation| match chat.updated_at {
            Some(at) => at - offset > ended(act) + CLOCK_STEP_MS,
            None => now - act.updated_at > IN_FLIGHT_MS,
        };
        let shows = |act: &&Message| {
            let chat = open.iter().find(|chat| act.conversation.as_ref() == Some(&chat.id));
            chat.is_some_and(|chat| is_newer(act, chat))
        };
        let undone: Vec<i64> = acts.iter().filter(shows).map(|act| act.id).collect();
        if undone.is_empty() {
            return Ok(());
        }
        Ok(self.engine.store.acts_undone(&undone, now).await?)
    }

    async fn own_resolve(&self, source: &Source, chat: &Conversation) -> Result<Option<i64>, EngineError> {
        let acts = self.engine.store.standing_resolves(&source.wired.name, &[&chat.id]).await?;
        let Some(act) = acts.first() else { return Ok(None) };
        let offset = self.clock_offset(source).await?;
        let is_later = chat.resolved_at.is_some_and(|at| at - offset > ended(act) + SAME_TIME_MS);
        Ok((!is_later).then_some(act.id))
    }

    async fn own_act_at_desk(
        &self,
        source: &Source,
        ticket: &Ticket,
        happened: &Happened,
        now: Millis,
    ) -> Result<Option<i64>, EngineError> {
        let store = &self.engine.store;
        let at = happened.at.unwrap_or(now) - self.clock_offset(source).await?;
        let (since, until) = (at - LATE_MS, at + LATE_MS);
        let (connection, stream) = (source.wired.name.as_str(), source.stream.as_str());
        let alike = if SET.contains(&happened.kind) { &SET[..] } else { &[happened.kind] };
        for act in store.acts_at_desk(connection, ticket.mark.as_deref(), since, until).await? {
            if self.may_have_caused(source, &act, ticket, happened.kind, at).await?
                && !store.has_echo(connection, stream, &ticket.id, alike, act.id).await?
            {
                return Ok(Some(act.id));
            }
        }
        Ok(None)
    }

    async fn may_have_caused(
        &self,
        source: &Source,
        act: &Message,
        ticket: &Ticket,
        kind: EventKind,
        at: Millis,
    ) -> Result<bool, EngineError> {
        let is_named = act.remote_id.as_deref().is_some_and(|ids| ids.split(',').any(|id| id == ticket.id));
        // Of several attempts an earlier one may have set it.
        let early = if is_named && act.attempts > 1 { LATE_MS } else { SAME_TIME_MS };
        let tried = act.attempted_at.unwrap_or(act.created_at);
        let in_time = (tried - early..=ended(act) + SAME_TIME_MS).contains(&at);
        if act.action == ActKind::OpenTicket {
            let is_ours = is_named || ticket.mark.as_deref() == Some(&act.mark);
            return Ok(is_ours && (kind == EventKind::TicketCreated || (kind == EventKind::TicketUpdated && in_time)));
        }
        let flow = self.engine.config.flow(&act.flow);
        if !in_time || !flow.map_or(SET.contains(&kind), |flow| looks_like(source, &flow.fields, kind)) {
            return Ok(false);
        }
        // Which tickets were set is only known of what was answered.
        if is_named || !matches!(act.state, MessageState::Sending | MessageState::Unknown) {
            return Ok(is_named);
        }
        if ticket.conversation.is_some() && act.conversation == ticket.conversation {
            return Ok(true);
        }
        let event = self.engine.store.event(act.event_id).await?;
        let about = event.filter(|_| flow.is_some_and(|flow| flow.from == source.wired.name));
        Ok(about.is_some_and(|event| event.subject.id() == ticket.id))
    }

    /// The vendor's clock minus ours.
    async fn clock_offset(&self, source: &Source) -> Result<Millis, EngineError> {
        let state = self.engine.store.stream_state(&source.wired.name, &source.stream).await?;
        Ok(state.clock_offset.unwrap_or(0))
    }
}

/// Whether to set these fields of a ticket can be seen as such an event.
fn looks_like(source: &Source, fields: &BTreeMap<String, String>, kind: EventKind) -> bool {
    let closes = match kind {
        EventKind::TicketUpdated => return true,
        EventKind::TicketClosed => true,
        EventKind::TicketReopened => false,
        _ => return false,
    };
    let is_possible = |status: TicketStatus| status.is_closed() == closes;
    fields.contains_key("status") && status_of(source, fields).is_none_or(is_possible)
}

/// The status that a ticket with these fields is read to have, or else the one that they name; none where neither is known.
fn status_of(source: &Source, fields: &BTreeMap<String, String>) -> Option<TicketStatus> {
    let shown = source.wired.connection.ticket_saying(fields).ok();
    let read = source.document.as_ref().zip(shown).and_then(|(document, shown)| {
        let ticket = document.value("", &shown);
        ticket.get("status").cloned()
    });
    let word = read.or_else(|| Some(Value::from(fields.get("status")?.as_str())))?;
    serde_json::from_value(word).ok()
}

/// When an attempt surely had the effect that it has.
fn ended(act: &Message) -> Millis {
    match act.state {
        MessageState::Sent | MessageState::Refused => act.updated_at,
        _ => act.attempted_at.unwrap_or(act.created_at) + LATE_MS,
    }
}
