//! From changed business records to events, and from events to what the flows do about them.

use counterpart_connectors::Millis;
use counterpart_core::business::{Conversation, Order, Party, Shipment, Subject, Ticket, TicketStatus, Topic};
use counterpart_core::event::{self, Happened};
use counterpart_core::normalize;
use serde_json::Value;

use super::EngineError;
use super::session::Source;
use super::worker::{Pass, Worker};
use crate::config::{Config, FlowConfig};
use crate::store::{Changed, MessageState, NewEvent, NewMessage};
use crate::templates::Reader;

/// Kinds of keys by which business records are found again.
pub(super) const CONTACT: &str = "contact";
pub(super) const CONVERSATION: &str = "conversation";
pub(super) const REQUESTER: &str = "requester";

/// Records looked at in one commit: few, because webhooks wait for it before they are answered.
const BATCH: u64 = 20;

impl Worker<'_> {
    /// Stores what happened to the records of a stream since they were last looked at.
    pub(super) async fn derive(&self, source: &Source, pass: &mut Pass) -> Result<(), EngineError> {
        let store = &self.engine.store;
        let (connection, stream) = (source.wired.name.as_str(), source.stream.as_str());
        let mut after = 0;
        loop {
            let as_of = store.revision().await?;
            let rows = store.changed(connection, stream, after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            self.index(stream, &rows).await?;
            let now = self.engine.clock.now();
            let events = self.events(source, &rows, false, now).await?;
            let looked_at: Vec<i64> = rows.iter().map(|row| row.id).collect();
            pass.events += store.save_events(connection, &events, &looked_at, as_of, now).await?;
        }
    }

    /// What happened to these records that is not known yet. Of history nothing is news.
    pub(super) async fn events(
        &self,
        source: &Source,
        rows: &[Changed],
        is_history: bool,
        now: Millis,
    ) -> Result<Vec<NewEvent>, EngineError> {
        let store = &self.engine.store;
        let (connection, stream) = (source.wired.name.as_str(), source.stream.as_str());
        let live = self.live_since(source).await?;
        let ids: Vec<&str> = rows.iter().map(|row| row.external_id.as_str()).collect();
        let known = store.known_events(connection, stream, &ids).await?;
        let told: Vec<Told> = rows.iter().filter_map(|row| told(stream, row)).collect();
        let ids: Vec<&str> = told.iter().flat_map(|told| &told.parcels).map(Subject::id).collect();
        let known_parcels = store.known_events(connection, Topic::Shipment.as_str(), &ids).await?;
        let parcels_live = match ids.is_empty() {
            true => live,
            false => self.since(connection, Topic::Shipment.as_str(), live).await?,
        };
        let open: Vec<&Conversation> = told.iter().filter_map(Told::open_conversation).collect();
        if !open.is_empty() && !is_history {
            self.note_undone(source, &open, now).await?;
        }
        let mut events = Vec::new();
        for Told { subject, parcels } in &told {
            let news =
                News { began: event::began(subject), first_seen: !known.contains_key(subject.id()), since: live };
            let of_parcels = News {
                // Of an order that did not change since parcels are told of, none came since.
                first_seen: news.first_seen || (parcels_live > live && !changed_since(subject, parcels_live)),
                since: parcels_live,
                ..news
            };
            let of_parcels = parcels.iter().map(|parcel| (parcel, &known_parcels, of_parcels));
            for (subject, known, news) in std::iter::once((subject, &known, news)).chain(of_parcels) {
                let known = known.get(subject.id()).map(Vec::as_slice).unwrap_or_default();
                for one in event::happened(subject, known) {
                    let is_live = !is_history && news.is_live(&one);
                    // That a conversation is still as we left it is no resolve of somebody's in history either.
                    let may_be_ours = is_live || (is_history && matches!(subject, Subject::Conversation(_)));
                    let caused_by = match may_be_ours {
                        true => self.own_act(source, subject, &one, now).await?,
                        false => None,
                    };
                    events.push(self.event(source, subject, one, is_live, caused_by, now));
                }
            }
        }
        Ok(events)
    }

    /// Makes conversations findable by the contact they are with, and tickets by the conversation they name, or else by
    /// their requester. Nothing else is looked for.
    pub(super) async fn index(&self, stream: &str, rows: &[Changed]) -> Result<(), EngineError> {
        if !matches!(stream, "conversation" | "ticket") {
            return Ok(());
        }
        let key = |row: &Changed| {
            let text = |place: &str| row.value.pointer(place).and_then(Value::as_str).map(str::to_owned);
            let key = match stream {
                "conversation" => text("/contact/id").map(|id| (CONTACT.to_owned(), id)),
                _ => text("/conversation")
                    .map(|id| (CONVERSATION.to_owned(), id))
                    .or_else(|| text("/requester/email").map(|email| (REQUESTER.to_owned(), normalize::email(&email)))),
            };
            (row.id, key.into_iter().collect())
        };
        let keys: Vec<(i64, Vec<(String, String)>)> = rows.iter().map(key).collect();
        Ok(self.engine.store.replace_keys(&keys).await?)
    }

    fn event(
        &self,
        source: &Source,
        subject: &Subject,
        mut happened: Happened,
        live: bool,
        caused_by: Option<i64>,
        now: Millis,
    ) -> NewEvent {
        if let (Subject::Conversation(_), Some(act)) = (subject, caused_by) {
            // Somebody may resolve it after us, which is another event.
            happened.nth = format!("ours {act}");
        }
        let mut messages = Vec::new();
        if live && !happened.quiet {
            let flows = self.engine.config.flows.iter();
            let asked = flows.filter(|flow| flow.on == happened.kind && flow.from == source.wired.name);
            messages.extend(asked.filter_map(|flow| self.intent(flow, source, subject, &happened)));
        }
        if let Some(act) = caused_by {
            for message in &mut messages {
                message.state = MessageState::Dropped;
                message.reason = Some(format!("an echo: message {act} of ours did it"));
            }
        }
        NewEvent {
            external_id: subject.id().to_owned(),
            kind: happened.kind,
            nth: happened.nth,
            happened_at: happened.at.unwrap_or(now),
            live,
            caused_by,
            subject: serde_json::json!(subject),
            messages,
        }
    }

    /// What a flow does about an event; nothing where its condition does not hold.
    fn intent(&self, flow: &FlowConfig, source: &Source, subject: &Subject, happened: &Happened) -> Option<NewMessage> {
        let mut problem = None;
        match flow.when.as_ref().map(|condition| condition.holds(subject)) {
            Some(Ok(false)) => return None,
            Some(Err(why)) => problem = Some(why),
            Some(Ok(true)) | None => {}
        }
        let party = subject.party();
        let mut text = None;
        if let Some(template) = &flow.template {
            match self.engine.templates.render(template, subject, &Reader::of(party)) {
                Ok(message) => text = Some(message.text),
                Err(error) => problem = Some(error.to_string()),
            }
        }
        Some(NewMessage {
            key: format!(
                "{}|{}/{}/{}|{}|{}",
                flow.name,
                source.wired.name,
                subject.topic().as_str(),
                subject.id(),
                happened.kind,
                happened.nth
            ),
            flow: flow.name.clone(),
            action: flow.act,
            connection: flow.to.clone(),
            party: Party { language: None, ..party.clone() },
            conversation: named(&self.engine.config, flow, subject),
            text,
            state: if problem.is_some() { MessageState::Refused } else { MessageState::Pending },
            reason: problem,
        })
    }
}

/// What a stored record tells about.
struct Told {
    subject: Subject,
    /// The parcels that an order tells of; what of them has no time of its own is news when it would be of the order.
    parcels: Vec<Subject>,
}

impl Told {
    fn open_conversation(&self) -> Option<&Conversation> {
        match &self.subject {
            Subject::Conversation(chat) if !chat.resolved => Some(chat),
            _ => None,
        }
    }
}

fn told(stream: &str, row: &Changed) -> Option<Told> {
    let subject = subject(stream, row)?;
    let parcels = match &subject {
        Subject::Order(order) => Shipment::of_order(order, &row.value).into_iter().map(Subject::Shipment).collect(),
        _ => Vec::new(),
    };
    Some(Told { subject, parcels })
}

/// The conversation that an event itself names: for what is done there, or for the tickets that belong to it.
///
/// A ticket names one by its number: it is one of the chat to which the flows link its desk, and of no other.
pub(super) fn named(config: &Config, flow: &FlowConfig, subject: &Subject) -> Option<String> {
    match subject {
        Subject::Ticket(ticket) if flow.act.is_at_desk() || config.chat_of(&flow.from) == Some(flow.to.as_str()) => {
            ticket.conversation.clone()
        }
        Subject::Conversation(conversation) if flow.from == flow.to || flow.act.is_at_desk() => {
            Some(conversation.id.clone())
        }
        _ => None,
    }
}

/// What a stored record is in the common model; none for what only other streams hang on.
fn subject(stream: &str, row: &Changed) -> Option<Subject> {
    fn read<T: serde::de::DeserializeOwned + Default>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap_or_default()
    }
    if row.gone && stream != "ticket" {
        return None;
    }
    match stream {
        "order" => Some(Subject::Order(read::<Order>(&row.value))),
        "shipment" => Some(Subject::Shipment(read::<Shipment>(&row.value))),
        "ticket" => {
            let mut ticket = read::<Ticket>(&row.value);
            if row.gone {
                ticket.status = TicketStatus::Deleted;
                // It says when it last changed, not when it went.
                (ticket.updated_at, ticket.closed_at) = (None, None);
            }
            Some(Subject::Ticket(ticket))
        }
        "conversation" => Some(Subject::Conversation(read::<Conversation>(&row.value))),
        _ => None,
    }
}

/// Whether an order changed after a time, as far as it says.
fn changed_since(subject: &Subject, since: Millis) -> bool {
    match subject {
        Subject::Order(order) => order.updated_at.is_none_or(|at| at >= since),
        Subject::Shipment(_) | Subject::Ticket(_) | Subject::Conversation(_) => true,
    }
}

/// By what it is told whether something is news.
#[derive(Clone, Copy)]
struct News {
    /// When the record began, where it says so.
    began: Option<Millis>,
    /// Whether nothing is known of it yet.
    first_seen: bool,
    /// Since when anything is.
    since: Millis,
}

impl News {
    /// What has no time of its own is news when its record was known before or began since.
    fn is_live(&self, happened: &Happened) -> bool {
        match happened.at {
            Some(at) => at >= self.since,
            None => !self.first_seen || self.began.is_some_and(|began| began >= self.since),
        }
    }
}
