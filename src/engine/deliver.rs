//! What is done in chats: the gate, and one attempt.
//!
//! Before an attempt its row says `sending`; whatever ends the program then leaves an attempt of which nobody knows, and
//! that one is looked for at the vendor before anything is sent again. It is sent again only when it is surely not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart_connectors::kit::TRACES;
use counterpart_connectors::{Act, ActKind, Acted, ConnectorError, ErrorKind, Lane, Millis, RemoteRecord};
use counterpart_core::business::{Conversation, EventKind, Party};
use counterpart_core::event::overtakes;
use counterpart_core::gate::{
    self, Consent, Decision, DropReason, Intent, LiveEvent, Origin, Purpose, Recipient, Session,
};
use counterpart_core::{Slot, Value};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::EngineError;
use super::aftermath::confirm_gone;
use super::happen::named;
use super::observe::observe_document;
use super::route::{BEGUN, CANNOT_BEGIN, NO_ROUTE, is_no_route};
use super::session::Wired;
use super::worker::{Pass, Turn, Worker};
use crate::config::{Fallback, FlowConfig};
use crate::mutation::{self, Mutation};
use crate::store::{Message, MessageState, Record};

/// A far end's clock may differ from ours by this much when a message is recognised by its text.
pub(super) const CLOCKS_DIFFER_MS: Millis = 5 * 60_000;
/// Rows taken at once.
pub(super) const BATCH: u64 = 20;
/// Attempts before an unknown one is left to a person.
const MAX_ATTEMPTS: i32 = 5;
/// Pause after a failure that left nothing behind; it doubles.
const BACKOFF_MS: Millis = 5_000;
/// When the vendor is asked again about an attempt it could not be asked about.
pub(super) const ASK_AGAIN_MS: Millis = 60_000;
pub(super) const GIVEN_UP: &str = "not there after several attempts";
const GONE: &str = "its conversation is gone: it looks for another";
const FELL_BACK: &str = "it takes the fallback";
const SESSION_CLOSED: &str = "session_closed";
/// A ticket that opens again within this time after we wrote was opened by what we wrote.
const ECHO_MS: Millis = 10 * 60_000;

/// What is done about a row.
#[derive(Clone)]
pub(super) enum Todo {
    /// In this conversation; with that contact, where it is known.
    Talk { conversation: String, contact: Option<String> },
    /// There is no conversation, and one can be begun with this contact.
    Begin { contact: String },
    /// At a desk, for this person.
    OpenTicket { party: Box<Party> },
    /// At a desk, with these tickets.
    SetTickets { ids: Vec<String>, fields: BTreeMap<String, String> },
}

impl Todo {
    /// The conversation that the row belongs to from now on.
    pub(super) fn conversation(&self, row: &Message) -> Option<String> {
        match self {
            Todo::Talk { conversation, .. } => Some(conversation.clone()),
            Todo::Begin { contact } => Some(format!("{BEGUN}{contact}")),
            Todo::OpenTicket { .. } | Todo::SetTickets { .. } => row.conversation.clone(),
        }
    }

    /// The contact who is written to.
    pub(super) fn contact(&self) -> Option<&str> {
        match self {
            Todo::Talk { contact, .. } => contact.as_deref(),
            Todo::Begin { contact } => Some(contact),
            Todo::OpenTicket { .. } | Todo::SetTickets { .. } => None,
        }
    }
}

/// What to do with a row now.
pub(super) enum Verdict {
    Go(Todo),
    Hold {
        until: Millis,
        reason: String,
    },
    Drop {
        reason: String,
    },
    /// The vendor could not be asked what there is to know first.
    Unasked(ConnectorError),
    /// There is no way here, and why; the flow names another.
    Move(&'static str, Fallback),
}

/// What becomes of a message, for those who look at traces: not what it says, nor to whom.
fn message_span(wired: &Wired, row: &Message) -> Span {
    tracing::info_span!(target: TRACES, "message", connection = wired.name, message = row.id, flow = row.flow, action = row.action.word(),
        state = Empty)
}

impl Worker<'_> {
    /// Does some of what is due at one connection, what a customer waits for first. Ends where the vendor is not to be asked
    /// for now, and after each thing for which nobody waits: something more urgent may have come meanwhile.
    pub(super) async fn deliver(&self, wired: &Arc<Wired>) -> Result<Turn, EngineError> {
        let mut turn = Turn::default();
        // Nobody else sends here, so that an attempt which says it is under way was cut off: by the end of a process, or by
        // a store that did not take its outcome.
        let now = self.engine.clock.now();
        self.engine.store.orphan_messages(&wired.name, now + wired.config.settle_ms, now).await?;
        let rows = self.engine.store.next_messages(&wired.name, self.engine.clock.now(), BATCH).await?;
        for row in rows {
            if self.engine.is_stopped() {
                return Ok(turn);
            }
            turn.tried += 1;
            let span = message_span(wired, &row);
            let go_on = match row.state {
                MessageState::Unknown => self.look_for(wired, &row, &mut turn.pass).instrument(span).await?,
                _ => self.attempt(wired, &row, &mut turn).instrument(span).await?,
            };
            if !go_on {
                turn.resting.insert(wired.name.clone());
                return Ok(turn);
            }
            // What was looked at may be due again at once.
            turn.more = true;
            if lane(row.action) != Lane::Customer {
                return Ok(turn);
            }
        }
        Ok(turn)
    }

    /// One row that may go out. False when the vendor is not to be asked for now.
    async fn attempt(&self, wired: &Arc<Wired>, row: &Message, turn: &mut Turn) -> Result<bool, EngineError> {
        let todo = match self.judge(wired, row).await? {
            Verdict::Go(todo) => todo,
            Verdict::Hold { until, reason } => {
                self.set(row, MessageState::Held, Some(&reason), until, None).await?;
                return Ok(true);
            }
            Verdict::Drop { reason } => {
                turn.pass.dropped += 1;
                self.set(row, MessageState::Dropped, Some(&reason), 0, None).await?;
                return Ok(true);
            }
            Verdict::Unasked(error) => {
                if let Some(until) = self.ask_again_at(&error) {
                    self.set(row, MessageState::Held, Some(&error.message), until, None).await?;
                }
                return Ok(!error.kind.is_passing());
            }
            Verdict::Move(why, other) => {
                let (to, conversation) = (other.to.as_str(), other.conversation.as_deref());
                let now = self.engine.clock.now();
                let reason = format!("{why}: {FELL_BACK}");
                self.engine.store.message_moved(row, other.act, to, conversation, &reason, now).await?;
                turn.more = true;
                return Ok(true);
            }
        };
        let conversation = todo.conversation(row);
        let conversation = conversation.as_deref();
        let late = mutation::is_planted(Mutation::SendsAreStoredAfterwards);
        if !late
            && !self.engine.store.message_sending(row.id, conversation, todo.contact(), self.engine.clock.now()).await?
        {
            return Ok(true);
        }
        let outcome = self.act(wired, row, &todo).await?;
        if late {
            self.engine.store.message_sending(row.id, conversation, todo.contact(), self.engine.clock.now()).await?;
        }
        match outcome {
            Ok(acted) => {
                count(row, &mut turn.pass);
                let mut made = acted.made;
                if matches!(todo, Todo::Begin { .. })
                    && let Some(conversation) = made.take()
                {
                    self.engine.store.message_opened(row.id, &conversation).await?;
                }
                self.set(row, MessageState::Sent, None, 0, made.as_deref()).await?;
                Ok(true)
            }
            Err(error) if error.kind == ErrorKind::NotFound && self.may_go_elsewhere(row, &todo).await? => {
                let conversation = conversation.unwrap_or_default();
                if let Err(doubt) = confirm_gone(wired, conversation, &error).await {
                    return self.failed(wired, row, doubt, &mut turn.pass).await;
                }
                self.forget(wired, conversation).await?;
                self.engine.store.message_rerouted(row.id, GONE, self.engine.clock.now()).await?;
                Ok(true)
            }
            Err(error) if error.kind == ErrorKind::Unsupported && matches!(todo, Todo::Begin { .. }) => {
                let reason = format!("{CANNOT_BEGIN}{}", error.message);
                self.set(row, MessageState::Held, Some(&reason), self.engine.clock.now(), None).await?;
                Ok(true)
            }
            Err(error) => self.failed(wired, row, error, &mut turn.pass).await,
        }
    }

    /// The call itself, once.
    async fn act(
        &self,
        wired: &Wired,
        row: &Message,
        todo: &Todo,
    ) -> Result<Result<Acted, ConnectorError>, EngineError> {
        let (kind, conversation) = match todo {
            Todo::Talk { conversation, .. } => (row.action, conversation),
            Todo::Begin { contact } => (ActKind::Open, contact),
            Todo::OpenTicket { party } => return Ok(self.open_ticket(wired, row, party).await),
            Todo::SetTickets { ids, fields } => return self.set_tickets(wired, row, ids, fields).await,
        };
        let text = row.text.as_deref().unwrap_or_default();
        Ok(wired.connection.act(lane(row.action), Act { kind, conversation, text, mark: &row.mark }).await)
    }

    /// Whether a message whose conversation is gone may look for another one: once, and only where we chose the conversation.
    async fn may_go_elsewhere(&self, row: &Message, todo: &Todo) -> Result<bool, EngineError> {
        let writes = matches!(row.action, ActKind::Send | ActKind::Note) && matches!(todo, Todo::Talk { .. });
        if !writes || row.reason.as_deref() == Some(GONE) {
            return Ok(false);
        }
        let Some(flow) = self.engine.config.flow(&row.flow) else { return Ok(false) };
        if row.fell_back {
            return Ok(flow.fallback.as_ref().is_some_and(|fallback| fallback.conversation.is_none()));
        }
        let event = self.engine.store.event(row.event_id).await?;
        Ok(event.is_some_and(|event| named(&self.engine.config, flow, &event.subject).is_none()))
    }

    /// A conversation that the vendor does not know any more is not chosen again, until a reading shows it.
    pub(super) async fn forget(&self, wired: &Wired, conversation: &str) -> Result<(), EngineError> {
        let Some(document) = self.engine.document(&wired.name, "conversation") else {
            return Ok(());
        };
        let id = conversation.to_owned();
        let gone = RemoteRecord { id, body: serde_json::Value::Null, updated_at: None, version: None, deleted: true };
        let row = observe_document(document, gone).row;
        self.engine.store.observe_one(&wired.name, "conversation", &row, self.engine.clock.now()).await?;
        Ok(())
    }

    /// Sorts a failure into what surely did not happen, what never will, and what nobody knows.
    async fn failed(
        &self,
        wired: &Wired,
        row: &Message,
        error: ConnectorError,
        pass: &mut Pass,
    ) -> Result<bool, EngineError> {
        let now = self.engine.clock.now();
        let pause = BACKOFF_MS << row.attempts.clamp(0, 10);
        let text = error.message.as_str();
        let (state, until, go_on) = match error.kind {
            ErrorKind::OutcomeUnknown if mutation::is_planted(Mutation::UnknownIsSentAgain) => {
                (MessageState::Pending, 0, true)
            }
            ErrorKind::OutcomeUnknown => {
                pass.unknown += 1;
                (MessageState::Unknown, now + wired.config.settle_ms, true)
            }
            ErrorKind::RateLimited { until } => (MessageState::Held, until.unwrap_or(now + pause), false),
            ErrorKind::Unavailable | ErrorKind::Unauthorized => (MessageState::Held, now + pause, false),
            ErrorKind::Stopped => (MessageState::Pending, 0, false),
            // A right that is missing is missing until a person gives it, and tries again then.
            ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Invalid { .. }
            | ErrorKind::Conflict { .. }
            | ErrorKind::Unsupported
            | ErrorKind::Contract => {
                pass.refused += 1;
                (MessageState::Refused, 0, true)
            }
        };
        self.set(row, state, Some(text), until, None).await?;
        Ok(go_on)
    }

    /// When a vendor that could not be asked is asked again; none when the work only ends.
    pub(super) fn ask_again_at(&self, error: &ConnectorError) -> Option<Millis> {
        let soon = self.engine.clock.now() + ASK_AGAIN_MS;
        match error.kind {
            ErrorKind::Stopped => None,
            ErrorKind::RateLimited { until } => Some(until.unwrap_or(soon)),
            _ => Some(soon),
        }
    }

    /// An attempt that left nothing is made again, later each time; what was attempted often is left to a person.
    pub(super) async fn again(&self, row: &Message, why: Option<&str>) -> Result<(), EngineError> {
        let now = self.engine.clock.now();
        if row.attempts >= MAX_ATTEMPTS {
            return self.set(row, MessageState::Unknown, Some(GIVEN_UP), now + 60 * ASK_AGAIN_MS, None).await;
        }
        let until = if row.attempts > 1 { now + (BACKOFF_MS << row.attempts) } else { 0 };
        self.set(row, MessageState::Pending, why, until, None).await
    }

    pub(super) async fn set(
        &self,
        row: &Message,
        state: MessageState,
        reason: Option<&str>,
        until: Millis,
        remote_id: Option<&str>,
    ) -> Result<(), EngineError> {
        let now = self.engine.clock.now();
        Span::current().record("state", state.as_str());
        Ok(self.engine.store.set_message(row.id, state, reason, until, remote_id, now).await?)
    }

    async fn judge(&self, wired: &Arc<Wired>, row: &Message) -> Result<Verdict, EngineError> {
        let now = self.engine.clock.now();
        let dropped = |reason: &str| Ok(Verdict::Drop { reason: reason.to_owned() });
        let Some(flow) = self.engine.config.flow(&row.flow) else {
            return dropped("the flow is gone");
        };
        let Some(stored) = self.engine.store.event(row.event_id).await? else {
            return dropped("the event is gone");
        };
        let origin = if stored.live { Origin::Live } else { Origin::Backfill };
        let Ok(event) = LiveEvent::new(origin, stored.happened_at, stored.seen_at) else { return dropped("backfill") };
        let overtaken_by = self.overtaken_by(row, &stored.kind).await?;
        if self.is_echo(flow, row, &stored.kind).await? {
            return dropped("an echo: what was written the last time opened the ticket again");
        }
        if row.action != ActKind::Send
            && let Some(by) = overtaken_by
        {
            return dropped(&format!("overtaken by {by}"));
        }
        let known = self.known_as(wired, flow, row).await?;
        let late = now.saturating_sub(event.happened_at()) > flow.gate.max_age.ms();
        let way = match row.action {
            ActKind::OpenTicket => self.requester(row, &known.people, late, now).await?,
            ActKind::SetTicket => self.tickets(wired, flow, row, &stored, late, now).await?,
            _ => self.way(wired, flow, row, &known, late, now).await?,
        };
        if row.action != ActKind::Send {
            return Ok(way);
        }
        let intent = Intent { event, purpose: Purpose::of(&stored.kind), overtaken_by };
        let sent_at = match &flow.gate.cap {
            Some(cap) => self.sent_to(wired, row, &known, &way, now - cap.per.ms()).await?,
            _ => Vec::new(),
        };
        let mut recipient =
            Recipient { consent: consent(&known.everybody), zone: row.party.timezone.clone(), session: None, sent_at };
        let mut decision = gate::decide(&intent, &recipient, &flow.gate, now);
        // Only what would go out now is worth the question.
        if let (Decision::Pass, Verdict::Go(Todo::Talk { conversation, .. })) = (&decision, &way) {
            recipient.session = match self.session(wired, conversation).await {
                Ok(session) => session,
                Err(error) => return Ok(Verdict::Unasked(error)),
            };
            decision = gate::decide(&intent, &recipient, &flow.gate, now);
        }
        let reason = decision.reason().to_owned();
        let way = match decision {
            // The customer may never write again: there is no use in waiting.
            Decision::Drop(DropReason::SessionClosed) => match &flow.fallback {
                Some(other) if !row.fell_back => Verdict::Move(SESSION_CLOSED, other.clone()),
                _ => way,
            },
            Decision::Drop(_) => way,
            Decision::Pass | Decision::Hold { .. } => or_fallback(way, flow, row, now),
        };
        if matches!(way, Verdict::Move(..)) {
            return Ok(way);
        }
        match decision {
            Decision::Pass => Ok(way),
            Decision::Hold { until, .. } => Ok(match way {
                Verdict::Hold { until: later, reason } if later > until => Verdict::Hold { until: later, reason },
                _ => Verdict::Hold { until, reason },
            }),
            Decision::Drop(_) => Ok(Verdict::Drop {
                // What could not be sent in time for want of a conversation says so.
                reason: match way {
                    Verdict::Hold { reason: why, .. }
                        if is_no_route(&why) && row.reason.as_deref().is_some_and(is_no_route) =>
                    {
                        why
                    }
                    _ => reason,
                },
            }),
        }
    }

    /// Whether the conversation takes a text now. The vendor is asked anew: it closes by itself, and opens when the customer
    /// writes. None where the vendor does not say.
    async fn session(&self, wired: &Wired, conversation: &str) -> Result<Option<Session>, ConnectorError> {
        let document = self.engine.document(&wired.name, "conversation");
        if !document.is_some_and(|document| document.reads("can_reply")) {
            return Ok(None);
        }
        let session = |is_open| if is_open { Session::Open } else { Session::Closed };
        match self.conversation_now(wired, Lane::Customer, conversation, Conversation::default()).await {
            Ok(now) => Ok(now.can_reply.map(session)),
            // The attempt finds that out, and looks for another one.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A later event of the same record that makes this one old news.
    async fn overtaken_by(&self, row: &Message, kind: &str) -> Result<Option<String>, EngineError> {
        let Ok(kind) = kind.parse::<EventKind>() else { return Ok(None) };
        let later = self.engine.store.events_after(row.event_id).await?;
        Ok(later.into_iter().find(|later| later.parse().is_ok_and(|later| overtakes(later, kind))))
    }

    /// Whether a ticket only closes again because what we wrote at its last close had opened it: to write once more would
    /// open it once more, and so on.
    async fn is_echo(&self, flow: &FlowConfig, row: &Message, kind: &str) -> Result<bool, EngineError> {
        let opens = match row.action {
            ActKind::Send | ActKind::Note => true,
            // Nothing else that is set opens a ticket.
            ActKind::SetTicket => flow.fields.contains_key("status"),
            _ => false,
        };
        if !opens || kind != EventKind::TicketClosed.as_str() {
            return Ok(false);
        }
        let written = self.engine.store.sent_like(&row.key).await?;
        if written.is_empty() {
            return Ok(false);
        }
        let opened = self.engine.store.times_of(row.event_id, EventKind::TicketReopened).await?;
        let follows =
            |opened: &Millis| written.iter().any(|at| (at - CLOCKS_DIFFER_MS..=at + ECHO_MS).contains(opened));
        Ok(opened.iter().any(follows))
    }
}

/// The other way that the flow names, once there was none for as long as it says. A row that took it never goes back.
fn or_fallback(way: Verdict, flow: &FlowConfig, row: &Message, now: Millis) -> Verdict {
    let (Verdict::Hold { until, reason }, Some(other)) = (&way, &flow.fallback) else { return way };
    if !is_no_route(reason) || row.fell_back {
        return way;
    }
    let due = row.created_at + other.after_ms;
    if now >= due {
        return Verdict::Move(NO_ROUTE, other.clone());
    }
    Verdict::Hold { until: due.min(*until), reason: reason.clone() }
}

/// What the person is known to want: an opt-out at any system counts.
fn consent(people: &[Record]) -> Consent {
    let mut consent = Consent::Unknown;
    for record in people {
        let given = record.fields.iter().find(|(name, _)| name.as_str() == "consent.marketing");
        match given.map(|(_, slot)| slot) {
            Some(Slot::Set(Value::Bool(false))) => return Consent::OptedOut,
            Some(Slot::Set(Value::Bool(true))) => consent = Consent::Given,
            _ => {}
        }
    }
    consent
}

fn lane(action: ActKind) -> Lane {
    match action {
        ActKind::Send | ActKind::Open | ActKind::Note => Lane::Customer,
        ActKind::Resolve | ActKind::Reopen | ActKind::OpenTicket | ActKind::SetTicket => Lane::Resolve,
    }
}

pub(super) fn count(row: &Message, pass: &mut Pass) {
    match row.action {
        ActKind::Send | ActKind::Open | ActKind::Note => pass.sent += 1,
        ActKind::Resolve | ActKind::Reopen => pass.resolved += 1,
        ActKind::OpenTicket | ActKind::SetTicket => pass.tickets += 1,
    }
}
