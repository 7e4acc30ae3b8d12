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
use counterpart_core::identity::{self, IdentityRules, Key, KeyKind, Member};
use counterpart_core::{FieldName, Fields, PersonName, Value, normalize};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::EngineError;
use super::happen::{CONTACT, CONVERSATION, REQUESTER, named};
use super::observe::observe_document;
use super::session::{STREAM, Wired};
use super::worker::{Pass, Turn, Worker};
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
const ASK_AGAIN_MS: Millis = 60_000;
/// The same, once it has been asked for long: a conversation that is gone never answers.
const ASK_RARELY_MS: Millis = 6 * 3_600_000;
/// Pages of a conversation that are searched for an attempt.
const MAX_PAGES: usize = 200;
pub(super) const NO_ROUTE: &str = "no_route";
const WHOSE_NUMBER: &str = "no_route: whose the phone number is, is not clear";
/// Stands before why no conversation can be begun with somebody: that way is no way.
const CANNOT_BEGIN: &str = "no_route: no conversation can be begun: ";
const SEVERAL: &str = "no_route: what is known of the person leads to several people";
/// Why a message waits for another one's outcome.
const MAY_BE_BEGUN: &str = "a conversation with them may have been begun: it is looked for first";
const GIVEN_UP: &str = "not there after several attempts";
/// The number of a record that is none: what an event says of its person.
const ASKED: i64 = -1;
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
    fn conversation(&self, row: &Message) -> Option<String> {
        match self {
            Todo::Talk { conversation, .. } => Some(conversation.clone()),
            Todo::Begin { contact } => Some(format!("{BEGUN}{contact}")),
            Todo::OpenTicket { .. } | Todo::SetTickets { .. } => row.conversation.clone(),
        }
    }

    /// The contact who is written to.
    fn contact(&self) -> Option<&str> {
        match self {
            Todo::Talk { contact, .. } => contact.as_deref(),
            Todo::Begin { contact } => Some(contact),
            Todo::OpenTicket { .. } | Todo::SetTickets { .. } => None,
        }
    }
}

/// Who a message is for.
struct Known {
    /// The records of that person; nobody's where it is in doubt who that is.
    people: Vec<Record>,
    /// The records of everybody who has the address or the number: whoever of them wants no messages gets none.
    everybody: Vec<Record>,
    /// Why nobody is taken for that person although there are some.
    doubt: Option<&'static str>,
}

impl Known {
    /// The person's ids at a connection.
    fn contacts(&self, connection: &str) -> impl Iterator<Item = &str> {
        self.people
            .iter()
            .filter(move |record| record.connection == connection)
            .map(|record| record.external_id.as_str())
    }
}

/// Whether what became of an attempt could be looked up.
pub(super) type Looked = Result<(), ConnectorError>;

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
    pub(super) async fn deliver(&self, wired: &Arc<Wired>, turn: &mut Turn) -> Result<(), EngineError> {
        // Nobody else sends here, so that an attempt which says it is under way was cut off: by the end of a process, or by
        // a store that did not take its outcome.
        let now = self.engine.clock.now();
        self.engine.store.orphan_messages(&wired.name, now + wired.config.settle_ms, now).await?;
        let rows = self.engine.store.next_messages(&wired.name, self.engine.clock.now(), BATCH).await?;
        for row in rows {
            if self.engine.is_stopped() {
                return Ok(());
            }
            turn.tried += 1;
            let span = message_span(wired, &row);
            let go_on = match row.state {
                MessageState::Unknown => self.look_for(wired, &row, &mut turn.pass).instrument(span).await?,
                _ => self.attempt(wired, &row, turn).instrument(span).await?,
            };
            if !go_on {
                turn.resting.insert(wired.name.clone());
                return Ok(());
            }
            // What was looked at may be due again at once.
            turn.more = true;
            if lane(row.action) != Lane::Customer {
                return Ok(());
            }
        }
        Ok(())
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
    fn ask_again_at(&self, error: &ConnectorError) -> Option<Millis> {
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

    /// The records of the person a message concerns, at all systems. Only the strongest key leads to somebody: a number is
    /// asked for where nobody has the address, and may be a household's or a company's. Who is known by neither address nor
    /// number is looked for where the event happened.
    async fn known_as(&self, wired: &Wired, flow: &FlowConfig, row: &Message) -> Result<Known, EngineError> {
        let store = &self.engine.store;
        let rules = self.engine.config.syncs.first().map(|sync| sync.identity.clone()).unwrap_or_default();
        let party = said_of(&row.party);
        let keys = identity::keys(&party, &rules);
        let of = |kind: KeyKind| keys.iter().filter(|key| key.kind == kind).map(Key::to_parts).collect::<Vec<_>>();
        let by_address = self.completed(store.records_by_keys(STREAM, &of(KeyKind::Email)).await?).await?;
        let holders = store.records_by_keys(STREAM, &of(KeyKind::Phone)).await?;
        let by_number = self.completed(holders.clone()).await?;
        let mut doubt = None;
        let mut people = match &row.party.id {
            _ if !by_address.is_empty() => by_address,
            Some(id) if keys.is_empty() => {
                self.completed(store.record(&flow.from, STREAM, id).await?.into_iter().collect()).await?
            }
            _ => {
                // Nobody has the address of the event, so that any address is another one.
                let contradicted =
                    row.party.email.is_some() && by_number.iter().any(|record| has_address(record, &rules));
                if !holders.is_empty() && (contradicted || !is_one_person(&party, &holders, &rules)) {
                    doubt = Some(WHOSE_NUMBER);
                }
                by_number.clone()
            }
        };
        let here = people.iter().filter(|record| record.connection == wired.name);
        if doubt.is_none() && here.filter_map(|record| record.entity_id).collect::<BTreeSet<i64>>().len() > 1 {
            doubt = Some(SEVERAL);
        }
        let everybody = people.iter().cloned().chain(by_number).collect();
        if doubt.is_some() {
            people.clear();
        }
        Ok(Known { people, everybody, doubt })
    }

    /// These records, and all others that stand for the same people.
    async fn completed(&self, mut found: Vec<Record>) -> Result<Vec<Record>, EngineError> {
        let entities: BTreeSet<i64> = found.iter().filter_map(|record| record.entity_id).collect();
        let entities: Vec<i64> = entities.into_iter().collect();
        found.extend(self.engine.store.records_of_entities(STREAM, &entities).await?);
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
        person: &Known,
        late: bool,
        now: Millis,
    ) -> Result<Verdict, EngineError> {
        let closes = matches!(row.action, ActKind::Resolve | ActKind::Reopen);
        if closes && row.conversation.is_none() && flow.on.topic() == Topic::Ticket && flow.link == Link::Explicit {
            let reason = "no link: the ticket names no conversation, and the flow does not say link = \"person\"";
            return Ok(Verdict::Drop { reason: reason.to_owned() });
        }
        let mut found = self.conversations(wired, row, person).await?;
        found.sort_by(|(a, one), (b, other)| {
            (!one.resolved, one.updated_at.or(one.created_at), a).cmp(&(
                !other.resolved,
                other.updated_at.or(other.created_at),
                b,
            ))
        });
        let Some((conversation, known)) = found.pop() else {
            let contact = person.contacts(&wired.name).last();
            let tried = row.reason.as_deref().filter(|reason| reason.starts_with(CANNOT_BEGIN));
            let may_begin = row.action == ActKind::Send && wired.connection.can(ActKind::Open) && tried.is_none();
            return match contact.filter(|_| may_begin) {
                Some(contact) => self.beginning(wired, person, contact, now).await,
                None => {
                    let reason = tried.or(person.doubt).unwrap_or(NO_ROUTE).to_owned();
                    Ok(match late && row.action != ActKind::Send {
                        true => Verdict::Drop { reason },
                        false => Verdict::Hold { until: now + NO_ROUTE_MS, reason },
                    })
                }
            };
        };
        let talk = Verdict::Go(Todo::Talk { conversation: conversation.clone(), contact: known.contact.id.clone() });
        if !closes {
            return Ok(talk);
        }
        match self.may_close(wired, flow, row, &conversation, known).await? {
            Ok(None) => Ok(talk),
            Ok(Some(reason)) => Ok(Verdict::Drop { reason: reason.to_owned() }),
            Err(error) if late && !error.kind.is_passing() => Ok(Verdict::Drop { reason: error.message }),
            Err(error) => Ok(Verdict::Unasked(error)),
        }
    }

    /// The conversations a message may go to: the one that is named, else those of the person as far as they were read, else
    /// the one that we began with them and did not read yet.
    async fn conversations(
        &self,
        wired: &Wired,
        row: &Message,
        person: &Known,
    ) -> Result<Vec<(String, Conversation)>, EngineError> {
        let store = &self.engine.store;
        if let Some(named) = row.conversation.as_ref().filter(|named| !named.starts_with(BEGUN)) {
            let known = store.document(&wired.name, "conversation", named).await?;
            return Ok(vec![(named.clone(), known.map(parsed).unwrap_or_default())]);
        }
        let mut found = Vec::new();
        for contact in person.contacts(&wired.name) {
            let there = store.documents_by_key(&wired.name, "conversation", CONTACT, contact).await?;
            found.extend(there.into_iter().map(|(id, value)| (id, parsed(value))));
        }
        if !found.is_empty() {
            return Ok(found);
        }
        for message in self.written_to(wired, person).await? {
            let (Some(conversation), Some(contact)) = (message.conversation, message.contact) else { continue };
            let is_begun = message.state == MessageState::Sent && !conversation.starts_with(BEGUN);
            // One that was read is no longer there, or no longer theirs.
            if is_begun && !store.is_observed(&wired.name, "conversation", &conversation).await? {
                let contact = Party { id: Some(contact), ..Party::default() };
                return Ok(vec![(conversation, Conversation { contact, ..Conversation::default() })]);
            }
        }
        Ok(found)
    }

    /// Begins a conversation, unless an attempt of which nobody knows may have begun one.
    async fn beginning(
        &self,
        wired: &Wired,
        person: &Known,
        contact: &str,
        now: Millis,
    ) -> Result<Verdict, EngineError> {
        let may_begin = |message: &Message| {
            message.state != MessageState::Sent
                && message.reason.as_deref() != Some(GIVEN_UP)
                && message.conversation.as_deref().is_some_and(|named| named.starts_with(BEGUN))
        };
        if self.written_to(wired, person).await?.iter().any(may_begin) {
            return Ok(Verdict::Hold { until: now + ASK_AGAIN_MS, reason: MAY_BE_BEGUN.to_owned() });
        }
        Ok(Verdict::Go(Todo::Begin { contact: contact.to_owned() }))
    }

    /// What was last written to a person at a chat system, or may have been; the latest first.
    async fn written_to(&self, wired: &Wired, person: &Known) -> Result<Vec<Message>, EngineError> {
        let contacts: Vec<&str> = person.contacts(&wired.name).collect();
        Ok(self.engine.store.written_to(&wired.name, &contacts, BATCH).await?)
    }

    /// When messages went out to the person of this one since a time, wherever they did.
    async fn sent_to(
        &self,
        wired: &Wired,
        row: &Message,
        person: &Known,
        way: &Verdict,
        since: Millis,
    ) -> Result<Vec<Millis>, EngineError> {
        let mut contacts: BTreeSet<(String, String)> =
            person.people.iter().map(|record| (record.connection.clone(), record.external_id.clone())).collect();
        let mut conversation = None;
        if let Verdict::Go(todo) = way {
            contacts.extend(todo.contact().map(|contact| (wired.name.clone(), contact.to_owned())));
            conversation = todo.conversation(row);
        }
        let conversation = conversation.as_deref().map(|conversation| (wired.name.as_str(), conversation));
        Ok(self.engine.store.sent_since(conversation, &contacts, since).await?)
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
            (ActKind::Resolve, false) => {
                let own = self.engine.store.written_in(&wired.name, conversation).await?;
                let marked =
                    self.engine.document(&wired.name, "message").is_some_and(|document| document.reads("mark"));
                let is_ours = |message: &business::Message| {
                    let is = |row: &Message| row.remote_id.as_ref() == Some(&message.id) || is_it(message, row, marked);
                    message.mark.is_some() || own.iter().any(is)
                };
                let thread = self.thread(wired, Lane::Resolve, conversation).await;
                thread.map(|thread| waits_for_an_answer(&thread, is_ours).then_some("unanswered"))
            }
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
                let open = |value: serde_json::Value| {
                    !serde_json::from_value::<Ticket>(value).unwrap_or_default().status.is_closed()
                };
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

    /// An attempt of which nobody knows: found at the vendor it is settled, surely not there it is made again. False when the
    /// vendor is not to be asked for now.
    async fn look_for(&self, wired: &Arc<Wired>, row: &Message, pass: &mut Pass) -> Result<bool, EngineError> {
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
    async fn arrived(
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
        let marks = self.engine.document(&wired.name, "message");
        let marked = marks.is_some_and(|document| document.reads("mark"));
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
    async fn thread(
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

fn parsed(value: serde_json::Value) -> Conversation {
    serde_json::from_value(value).unwrap_or_default()
}

/// Whether a reason says that there is no way to the customer.
fn is_no_route(reason: &str) -> bool {
    reason.strip_prefix(NO_ROUTE).is_some_and(|more| more.is_empty() || more.starts_with(": "))
}

/// What an event says of its person, as a record would.
fn said_of(party: &Party) -> Fields {
    let email = party.email.as_deref().map(|email| Value::Text(normalize::email(email)));
    let phone = party.phone.as_deref().and_then(|phone| normalize::phone(phone, party.country.as_deref()).ok());
    let parts = [&party.given_name, &party.family_name].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
    let name = party.name.clone().or_else(|| (!parts.is_empty()).then(|| parts.join(" ")));
    let name = name.map(|name| Value::Name(PersonName::whole(&name)));
    let said = [("email", email), ("phone", phone.map(Value::Text)), ("name", name)];
    said.into_iter().filter_map(|(field, value)| Some((FieldName::parse(field).ok()?, Slot::Set(value?)))).collect()
}

/// Whether the records with a number can be those of one person, the one of the event.
fn is_one_person(party: &Fields, holders: &[Record], rules: &IdentityRules) -> bool {
    let nobody = BTreeSet::new();
    let asked = Member { id: ASKED, connection: "", external_id: "", entity: None, fields: party, apart: &nobody };
    let member = |record| -> Member<'_> {
        let Record { id, connection, external_id, entity_id, fields, apart, .. }: &Record = record;
        Member { id: *id, connection, external_id, entity: *entity_id, fields, apart }
    };
    let members: Vec<Member<'_>> = holders.iter().map(member).chain([asked]).collect();
    identity::resolve(&members, rules).groups.iter().any(|group| group.members.contains(&ASKED))
}

fn has_address(record: &Record, rules: &IdentityRules) -> bool {
    identity::keys(&record.fields, rules).iter().any(|key| key.kind == KeyKind::Email)
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

/// Messages with the conversation that they are in.
fn within(conversation: &str, thread: Vec<business::Message>) -> impl Iterator<Item = (String, business::Message)> {
    let conversation = conversation.to_owned();
    thread.into_iter().map(move |message| (conversation.clone(), message))
}

/// Whether the last public word is the customer's. What a flow wrote answers nobody.
fn waits_for_an_answer(thread: &[business::Message], is_ours: impl Fn(&business::Message) -> bool) -> bool {
    let mut said = thread.iter().rev().filter(|message| !message.private && message.author != Author::System);
    said.find(|message| !is_ours(message)).is_some_and(|message| message.author == Author::Customer)
}
