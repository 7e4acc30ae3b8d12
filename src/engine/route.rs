//! Who a message is for, and the conversation it goes to.

use std::collections::BTreeSet;
use std::sync::Arc;

use counterpart_connectors::{ActKind, ConnectorError, ErrorKind, Lane, Millis};
use counterpart_core::business::{self, Author, Conversation, Party, Ticket, Topic};
use counterpart_core::identity::{self, IdentityRules, Key, KeyKind, Member};
use counterpart_core::{FieldName, Fields, PersonName, Slot, Value, normalize};

use super::EngineError;
use super::aftermath::is_it;
use super::deliver::{ASK_AGAIN_MS, BATCH, GIVEN_UP, Todo, Verdict};
use super::happen::{CONTACT, CONVERSATION, REQUESTER};
use super::session::{STREAM, Wired};
use super::worker::Worker;
use crate::config::{FlowConfig, Link};
use crate::store::{Message, MessageState, Record};

/// When a person's conversation is looked for again.
pub(super) const NO_ROUTE_MS: Millis = 10 * 60_000;
pub(super) const NO_ROUTE: &str = "no_route";
const WHOSE_NUMBER: &str = "no_route: whose the phone number is, is not clear";
/// Stands before why no conversation can be begun with somebody: that way is no way.
pub(super) const CANNOT_BEGIN: &str = "no_route: no conversation can be begun: ";
const SEVERAL: &str = "no_route: what is known of the person leads to several people";
/// Why a message waits for another one's outcome.
const MAY_BE_BEGUN: &str = "a conversation with them may have been begun: it is looked for first";
/// Stands before the contact's id where a conversation with them is being begun.
pub(super) const BEGUN: &str = "contact:";
/// The number of a record that is none: what an event says of its person.
const ASKED: i64 = -1;

/// Who a message is for.
pub(super) struct Known {
    /// The records of that person; nobody's where it is in doubt who that is.
    pub people: Vec<Record>,
    /// The records of everybody who has the address or the number: whoever of them wants no messages gets none.
    pub everybody: Vec<Record>,
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

impl Worker<'_> {
    /// The records of the person a message concerns, at all systems. Only the strongest key leads to somebody: a number is
    /// asked for where nobody has the address, and may be a household's or a company's. Who is known by neither address nor
    /// number is looked for where the event happened.
    pub(super) async fn known_as(&self, wired: &Wired, flow: &FlowConfig, row: &Message) -> Result<Known, EngineError> {
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
    pub(super) async fn way(
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
    pub(super) async fn conversations(
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
    pub(super) async fn sent_to(
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
                let marked = self.engine.reads_marks(&wired.name);
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

/// Whether a reason says that there is no way to the customer.
pub(super) fn is_no_route(reason: &str) -> bool {
    reason.strip_prefix(NO_ROUTE).is_some_and(|more| more.is_empty() || more.starts_with(": "))
}

/// Whether the last public word is the customer's. What a flow wrote answers nobody.
fn waits_for_an_answer(thread: &[business::Message], is_ours: impl Fn(&business::Message) -> bool) -> bool {
    let mut said = thread.iter().rev().filter(|message| !message.private && message.author != Author::System);
    said.find(|message| !is_ours(message)).is_some_and(|message| message.author == Author::Customer)
}

pub(super) fn parsed(value: serde_json::Value) -> Conversation {
    serde_json::from_value(value).unwrap_or_default()
}
