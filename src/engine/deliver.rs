//! What is done in chats: the gate, the way, one attempt, and the search for what may have arrived.
//!
//! Before an attempt its row says `sending`; whatever ends the program then leaves an attempt of which nobody knows, and
//! that one is looked for at the vendor before anything is sent again. It is sent again only when it is surely not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use counterpart_connectors::kit::TRACES;
use counterpart_connectors::{
    Act, ActKind, Acted, ConnectorError, ErrorKind, Lane, Millis, PullMode, PullRequest, RemoteRecord,
};
use counterpart_core::Slot;
use counterpart_core::business::{self, Author, Conversation, EventKind, Party, Ticket, Topic};
use counterpart_core::event::overtakes;
use counterpart_core::gate::{
    self, Consent, Decision, DropReason, Intent, LiveEvent, Origin, Purpose, Recipient, Session,
};
use counterpart_core::normalize;
use serde_json::Value;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::EngineError;
use super::happen::{CONTACT, CONVERSATION, REQUESTER, named};
use super::observe::observe_document;
use super::session::{STREAM, Wired};
use super::worker::{Pass, Worker};
use crate::config::{Fallback, FlowConfig, Link};
use crate::mutation::{self, Mutation};
use crate::store::{Message, MessageState, Record};

/// A far end's clock may differ from ours by this much when a message is recognised by its text.
const CLOCKS_DIFFER_MS: Millis = 5 * 60_000;
/// Rows taken at once.
const BATCH: u64 = 20;
/// Attempts before an unknown one is left to a person.
const MAX_ATTEMPTS: i32 = 5;
/// Pause after a failure that left nothing behind; it doubles.
const BACKOFF_MS: Millis = 5_000;
/// When a person's conversation is looked for again.
pub(super) const NO_ROUTE_MS: Millis = 10 * 60_000;
/// When the vendor is asked again about an attempt it could not be asked about.
pub(super) const ASK_AGAIN_MS: Millis = 60_000;
/// The same, once it has been asked for long: a conversation that is gone never answers.
const ASK_RARELY_MS: Millis = 6 * 3_600_000;
/// Pages of a conversation that are searched for an attempt.
const MAX_PAGES: usize = 200;
pub(super) const NO_ROUTE: &str = "no_route";
const GONE: &str = "its conversation is gone: it looks for another";
const FELL_BACK: &str = "it takes the fallback";
const SESSION_CLOSED: &str = "session_closed";
/// Stands before the contact's id where a conversation with them is being begun.
const BEGUN: &str = "contact:";
/// A ticket that opens again within this time after we wrote was opened by what we wrote.
const ECHO_MS: Millis = 10 * 60_000;

/// What is done about a row.
#[derive(Clone)]
pub(super) enum Todo {
    /// In this conversation.
    Talk { conversation: String },
    /// There is no conversation, and one can be begun with this contact.
    Begin { contact: String },
    /// At a desk, for this person.
    OpenTicket { party: Box<Party> },
    /// At a desk, with these tickets.
    SetTickets { ids: Vec<String>, fields: BTreeMap<String, String> },
}

impl Todo {
    /// The conversation that the row belongs to from now on.
    fn conversation(&self, row: &Message) -> Option<String> {
        match self {
            Todo::Talk { conversation } => Some(conversation.clone()),
            Todo::Begin { contact } => Some(format!("{BEGUN}{contact}")),
            Todo::OpenTicket { .. } | Todo::SetTickets { .. } => row.conversation.clone(),
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
    /// There is no way here, and why; the flow names another.
    Move(&'static str, Fallback),
}

/// What becomes of a message, for those who look at traces: not what it says, nor to whom.
fn message_span(wired: &Wired, row: &Message) -> Span {
    tracing::info_span!(target: TRACES, "message", connection = wired.name, message = row.id, flow = row.flow, action = row.action.word(),
        state = Empty)
}

impl Worker<'_> {
    /// Does everything that is due at one connection; says how many messages were looked at.
    pub(super) async fn deliver(&self, wired: &Arc<Wired>, pass: &mut Pass) -> Result<u64, EngineError> {
        // Nobody else sends here, so that an attempt which says it is under way was cut off: by the end of a process, or by
        // a store that did not take its outcome.
        let now = self.engine.clock.now();
        self.engine.store.orphan_messages(&wired.name, now + wired.config.settle_ms, now).await?;
        let mut tried = 0;
        loop {
            let rows = self.engine.store.next_messages(&wired.name, self.engine.clock.now(), BATCH).await?;
            if rows.is_empty() {
                return Ok(tried);
            }
            for row in rows {
                if self.engine.is_stopped() {
                    return Ok(tried);
                }
                tried += 1;
                let span = message_span(wired, &row);
                if row.state == MessageState::Unknown {
                    self.look_for(wired, &row, pass).instrument(span).await?;
                } else if !self.attempt(wired, &row, pass).instrument(span).await? {
                    return Ok(tried);
                }
            }
        }
    }

    /// One row that may go out. False when the vendor is not to be asked for now.
    async fn attempt(&self, wired: &Arc<Wired>, row: &Message, pass: &mut Pass) -> Result<bool, EngineError> {
        let todo = match self.judge(wired, row).await? {
            Verdict::Go(todo) => todo,
            Verdict::Hold { until, reason } => {
                self.set(row, MessageState::Held, Some(&reason), until, None).await?;
                return Ok(true);
            }
            Verdict::Drop { reason } => {
                pass.dropped += 1;
                self.set(row, MessageState::Dropped, Some(&reason), 0, None).await?;
                return Ok(true);
            }
            Verdict::Move(why, other) => {
                let (to, conversation) = (other.to.as_str(), other.conversation.as_deref());
                let now = self.engine.clock.now();
                let reason = format!("{why}: {FELL_BACK}");
                self.engine.store.message_moved(row, other.act, to, conversation, &reason, now).await?;
                return Ok(true);
            }
        };
        let conversation = todo.conversation(row);
        let conversation = conversation.as_deref();
        let late = mutation::is_planted(Mutation::SendsAreStoredAfterwards);
        if !late && !self.engine.store.message_sending(row.id, conversation, self.engine.clock.now()).await? {
            return Ok(true);
        }
        let outcome = self.act(wired, row, &todo).await?;
        if late {
            self.engine.store.message_sending(row.id, conversation, self.engine.clock.now()).await?;
        }
        match outcome {
            Ok(acted) => {
                count(row, pass);
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
                    return self.failed(wired, row, doubt, pass).await;
                }
                self.forget(wired, conversation).await?;
                self.engine.store.message_rerouted(row.id, GONE, self.engine.clock.now()).await?;
                Ok(true)
            }
            Err(error) => self.failed(wired, row, error, pass).await,
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
            Todo::Talk { conversation } => (row.action, conversation),
            Todo::Begin { contact } => (ActKind::Open, contact),
            Todo::OpenTicket { party } => return Ok(self.open_ticket(wired, row, party).await),
            Todo::SetTickets { ids, fields } => return self.set_tickets(wired, row, ids, fields).await,
        };
        let lane = match row.action {
            ActKind::Send | ActKind::Open | ActKind::Note => Lane::Customer,
            ActKind::Resolve | ActKind::Reopen | ActKind::OpenTicket | ActKind::SetTicket => Lane::Resolve,
        };
        let text = row.text.as_deref().unwrap_or_default();
        Ok(wired.connection.act(lane, Act { kind, conversation, text, mark: &row.mark }).await)
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
        let gone = RemoteRecord { id, body: Value::Null, updated_at: None, version: None, deleted: true };
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

    // ---- before ----------------------------------------------------------------------------------------------------

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
        let people = self.known_as(flow, row).await?;
        let late = now.saturating_sub(event.happened_at()) > flow.gate.max_age.ms();
        let way = match row.action {
            ActKind::OpenTicket => self.requester(row, &people, late, now).await?,
            ActKind::SetTicket => self.tickets(wired, flow, row, &stored, late, now).await?,
            _ => self.way(wired, flow, row, &people, late, now).await?,
        };
        if row.action != ActKind::Send {
            return Ok(way);
        }
        let conversation = match &way {
            Verdict::Go(todo) => todo.conversation(row).unwrap_or_default(),
            _ => String::new(),
        };
        let intent = Intent { event, purpose: Purpose::of(&stored.kind), overtaken_by };
        let sent_at = match &flow.gate.cap {
            Some(cap) => self.engine.store.sent_since(&wired.name, &conversation, now - cap.per.ms()).await?,
            _ => Vec::new(),
        };
        let mut recipient =
            Recipient { consent: consent(&people), zone: row.party.timezone.clone(), session: None, sent_at };
        let mut decision = gate::decide(&intent, &recipient, &flow.gate, now);
        // Only what would go out now is worth the question.
        if let (Decision::Pass, Verdict::Go(Todo::Talk { conversation })) = (&decision, &way) {
            recipient.session = match self.session(wired, conversation).await {
                Ok(session) => session,
                Err(error) => return Ok(Verdict::Hold { until: now + ASK_AGAIN_MS, reason: error.message }),
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
                reason: match (&way, row.reason.as_deref()) {
                    (Verdict::Hold { .. }, Some(NO_ROUTE)) => NO_ROUTE.to_owned(),
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

    /// The records of the person a message concerns, at all systems. Who is known by neither address nor number is looked for
    /// where the event happened.
    async fn known_as(&self, flow: &FlowConfig, row: &Message) -> Result<Vec<Record>, EngineError> {
        let store = &self.engine.store;
        let mut keys = Vec::new();
        if let Some(email) = &row.party.email {
            keys.push(("email".to_owned(), normalize::email(email)));
        }
        if let Some(phone) = &row.party.phone
            && let Ok(number) = normalize::phone(phone, row.party.country.as_deref())
        {
            keys.push(("phone".to_owned(), number));
        }
        let mut found = store.records_by_keys(STREAM, &keys).await?;
        if let Some(id) = row.party.id.as_deref().filter(|_| keys.is_empty()) {
            found.extend(store.record(&flow.from, STREAM, id).await?);
        }
        let entities: BTreeSet<i64> = found.iter().filter_map(|record| record.entity_id).collect();
        let entities: Vec<i64> = entities.into_iter().collect();
        found.extend(store.records_of_entities(STREAM, &entities).await?);
        found.sort_by_key(|record| record.id);
        found.dedup_by_key(|record| record.id);
        Ok(found)
    }

    /// The conversation it goes to: the one that is named, else the person's open one, else their newest.
    async fn way(
        &self,
        wired: &Arc<Wired>,
        flow: &FlowConfig,
        row: &Message,
        people: &[Record],
        late: bool,
        now: Millis,
    ) -> Result<Verdict, EngineError> {
        let mut found: Vec<(String, Conversation)> = Vec::new();
        let mut contact = None;
        let closes = matches!(row.action, ActKind::Resolve | ActKind::Reopen);
        if closes && row.conversation.is_none() && flow.on.topic() == Topic::Ticket && flow.link == Link::Explicit {
            let reason = "no link: the ticket names no conversation, and the flow does not say link = \"person\"";
            return Ok(Verdict::Drop { reason: reason.to_owned() });
        }
        if let Some(named) = row.conversation.as_ref().filter(|named| !named.starts_with(BEGUN)) {
            let known = self.engine.store.document(&wired.name, "conversation", named).await?;
            found.push((named.clone(), known.map(parsed).unwrap_or_default()));
        } else {
            for record in people.iter().filter(|record| record.connection == wired.name) {
                let there = self
                    .engine
                    .store
                    .documents_by_key(&wired.name, "conversation", CONTACT, &record.external_id)
                    .await?;
                found.extend(there.into_iter().map(|(id, value)| (id, parsed(value))));
                contact = Some(record.external_id.clone());
            }
        }
        found.sort_by(|(a, one), (b, other)| {
            (!one.resolved, one.updated_at.or(one.created_at), a).cmp(&(
                !other.resolved,
                other.updated_at.or(other.created_at),
                b,
            ))
        });
        let Some((conversation, known)) = found.pop() else {
            if let Some(contact) =
                contact.filter(|_| row.action == ActKind::Send && wired.connection.can(ActKind::Open))
            {
                return Ok(Verdict::Go(Todo::Begin { contact }));
            }
            return Ok(match late && row.action != ActKind::Send {
                true => Verdict::Drop { reason: NO_ROUTE.to_owned() },
                false => Verdict::Hold { until: now + NO_ROUTE_MS, reason: NO_ROUTE.to_owned() },
            });
        };
        if !closes {
            return Ok(Verdict::Go(Todo::Talk { conversation }));
        }
        match self.may_close(wired, flow, row, &conversation, known).await? {
            Ok(None) => Ok(Verdict::Go(Todo::Talk { conversation })),
            Ok(Some(reason)) => Ok(Verdict::Drop { reason: reason.to_owned() }),
            Err(error) if late => Ok(Verdict::Drop { reason: error.message }),
            Err(error) => Ok(Verdict::Hold { until: now + ASK_AGAIN_MS, reason: error.message }),
        }
    }

    /// Why a conversation is not to be closed or opened again, from what it is like now; none when it may be.
    async fn may_close(
        &self,
        wired: &Wired,
        flow: &FlowConfig,
        row: &Message,
        conversation: &str,
        known: Conversation,
    ) -> Result<Result<Option<&'static str>, ConnectorError>, EngineError> {
        if row.action == ActKind::Resolve && self.has_open_ticket(flow, row, conversation).await? {
            return Ok(Ok(Some("another ticket is open")));
        }
        let state = match self.conversation_now(wired, Lane::Resolve, conversation, known).await {
            Ok(state) => state,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Ok(Some("there is no such conversation"))),
            Err(error) => return Ok(Err(error)),
        };
        Ok(match (row.action, state.resolved) {
            (ActKind::Resolve, true) => Ok(Some("resolved already")),
            (ActKind::Resolve, false) => self
                .thread(wired, conversation)
                .await
                .map(|thread| waits_for_an_answer(&thread).then_some("unanswered")),
            // Of one that was never read it is not known.
            (_, false) if !state.id.is_empty() => Ok(Some("open already")),
            _ => Ok(None),
        })
    }

    /// Whether somebody still works on a ticket of this conversation; one that names none counts where the flow goes by
    /// the person.
    async fn has_open_ticket(&self, flow: &FlowConfig, row: &Message, conversation: &str) -> Result<bool, EngineError> {
        let mut keys = vec![(CONVERSATION, conversation.to_owned())];
        if let (Link::Person, Some(email)) = (flow.link, &row.party.email) {
            keys.push((REQUESTER, normalize::email(email)));
        }
        // A number that tickets of another chat's desk name is another conversation.
        let of_this_chat = |desk: &str| self.engine.config.chat_of(desk).is_none_or(|chat| chat == row.connection);
        for source in self.sources.iter().filter(|source| source.stream == "ticket") {
            let keys = keys.iter().filter(|(kind, _)| *kind != CONVERSATION || of_this_chat(&source.wired.name));
            for (kind, value) in keys {
                let found = self.engine.store.documents_by_key(&source.wired.name, "ticket", kind, value).await?;
                let open =
                    |value: Value| !serde_json::from_value::<Ticket>(value).unwrap_or_default().status.is_closed();
                if found.into_iter().any(|(_, value)| open(value)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A conversation as the vendor shows it now, where it shows a single one; else as it was last read.
    async fn conversation_now(
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

    // ---- afterwards ------------------------------------------------------------------------------------------------

    /// An attempt of which nobody knows: found at the vendor it is settled, surely not there it is made again.
    async fn look_for(&self, wired: &Arc<Wired>, row: &Message, pass: &mut Pass) -> Result<(), EngineError> {
        let now = self.engine.clock.now();
        if matches!(row.action, ActKind::Resolve | ActKind::Reopen) {
            return self.look_at_chat(wired, row, pass).await;
        }
        if row.action == ActKind::SetTicket {
            return self.look_at_tickets(wired, row, pass).await;
        }
        let settled = row.attempted_at.unwrap_or(row.created_at) + wired.config.settle_ms;
        if now < settled {
            return self.set(row, MessageState::Unknown, row.reason.as_deref(), settled, None).await;
        }
        let found = match row.action {
            ActKind::OpenTicket => self.marked_ticket(wired, row).await.map(|id| id.map(|id| (id, None))),
            _ => self.arrived(wired, row).await?.map(|message| message.map(|it| (it.id.clone(), it.undelivered()))),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let why = format!("whether it arrived could not be looked up: {}", error.message);
                let pause = ((now - settled) / 2).clamp(ASK_AGAIN_MS, ASK_RARELY_MS);
                return self.set(row, MessageState::Unknown, Some(&why), now + pause, None).await;
            }
        };
        match found {
            Some((id, None)) => {
                count(row, pass);
                self.set(row, MessageState::Sent, Some("found at the vendor"), 0, Some(&id)).await
            }
            Some((id, Some(undelivered))) => {
                pass.refused += 1;
                self.set(row, MessageState::Refused, Some(&undelivered), 0, Some(&id)).await
            }
            None if row.action == ActKind::OpenTicket && now < Self::shown_by(wired, row) => {
                let why = "not shown yet, and what was just made shows late there";
                self.set(row, MessageState::Unknown, Some(why), Self::shown_by(wired, row), None).await
            }
            None if row.attempts >= MAX_ATTEMPTS => {
                let why = "not there after several attempts";
                self.set(row, MessageState::Unknown, Some(why), now + 60 * ASK_AGAIN_MS, None).await
            }
            None => self.set(row, MessageState::Pending, Some("surely not there"), 0, None).await,
        }
    }

    /// Whether a conversation is closed or open as an attempt would have it. Where it is not, to do it once more does no harm.
    async fn look_at_chat(&self, wired: &Arc<Wired>, row: &Message, pass: &mut Pass) -> Result<(), EngineError> {
        let Some(conversation) = &row.conversation else {
            return self.set(row, MessageState::Pending, None, 0, None).await;
        };
        let known = self.engine.store.document(&wired.name, "conversation", conversation).await?;
        match self.conversation_now(wired, Lane::Resolve, conversation, known.map(parsed).unwrap_or_default()).await {
            Ok(state) if !state.id.is_empty() && state.resolved == (row.action == ActKind::Resolve) => {
                count(row, pass);
                self.set(row, MessageState::Sent, Some("found at the vendor"), 0, None).await
            }
            Err(error) if error.kind != ErrorKind::NotFound => {
                let why = format!("what became of it could not be looked up: {}", error.message);
                let until = self.engine.clock.now() + ASK_AGAIN_MS;
                self.set(row, MessageState::Unknown, Some(&why), until, None).await
            }
            Ok(_) | Err(_) => self.set(row, MessageState::Pending, None, 0, None).await,
        }
    }

    /// The message that an attempt left in its conversation.
    async fn arrived(
        &self,
        wired: &Wired,
        row: &Message,
    ) -> Result<Result<Option<business::Message>, ConnectorError>, EngineError> {
        let Some(conversation) = &row.conversation else { return Ok(Ok(None)) };
        let thread = match conversation.strip_prefix(BEGUN) {
            Some(contact) => {
                let since = row.attempted_at.unwrap_or(row.created_at) - CLOCKS_DIFFER_MS;
                self.recent_words(wired, contact, since).await
            }
            None => self.thread(wired, conversation).await,
        };
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => return Ok(Err(error)),
        };
        let own = self.engine.store.own_messages(&wired.name, conversation).await?;
        let marks = self.engine.document(&wired.name, "message");
        let marked = marks.is_some_and(|document| document.reads("mark"));
        let ours = thread.into_iter().filter(|message| !own.contains(&message.id) && is_it(message, row, marked));
        // Of several attempts the one counts that the customer has.
        Ok(Ok(ours.min_by_key(|message| message.undelivered().is_some())))
    }

    /// The messages of a contact's conversations in which anything happened since `since`: among them is one that an
    /// unknown attempt began.
    async fn recent_words(
        &self,
        wired: &Wired,
        contact: &str,
        since: Millis,
    ) -> Result<Vec<business::Message>, ConnectorError> {
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
                    words.extend(self.thread(wired, &record.id).await?);
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
    async fn thread(&self, wired: &Wired, conversation: &str) -> Result<Vec<business::Message>, ConnectorError> {
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
            let page = wired.connection.pull(Lane::Customer, request).await?;
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
}

/// That the vendor does not show the conversation either, where it shows a single one: a 404 to a message may mean
/// something else, such as a proxy or an inbox.
async fn confirm_gone(wired: &Wired, conversation: &str, error: &ConnectorError) -> Result<(), ConnectorError> {
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

fn parsed(value: Value) -> Conversation {
    serde_json::from_value(value).unwrap_or_default()
}

/// The other way that the flow names, once there was none for as long as it says. A row that took it never goes back.
fn or_fallback(way: Verdict, flow: &FlowConfig, row: &Message, now: Millis) -> Verdict {
    let (Verdict::Hold { until, reason }, Some(other)) = (&way, &flow.fallback) else { return way };
    if reason != NO_ROUTE || row.fell_back {
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
            Some(Slot::Set(counterpart_core::Value::Bool(false))) => return Consent::OptedOut,
            Some(Slot::Set(counterpart_core::Value::Bool(true))) => consent = Consent::Given,
            _ => {}
        }
    }
    consent
}

pub(super) fn count(row: &Message, pass: &mut Pass) {
    match row.action {
        ActKind::Send | ActKind::Open | ActKind::Note => pass.sent += 1,
        ActKind::Resolve | ActKind::Reopen => pass.resolved += 1,
        ActKind::OpenTicket | ActKind::SetTicket => pass.tickets += 1,
    }
}

/// Whether a message at the vendor is the one that was sent.
fn is_it(message: &business::Message, row: &Message, marked: bool) -> bool {
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

/// Whether the last public word is the customer's.
fn waits_for_an_answer(thread: &[business::Message]) -> bool {
    let last = thread.iter().rev().find(|message| !message.private && message.author != Author::System);
    last.is_some_and(|message| message.author == Author::Customer)
}
