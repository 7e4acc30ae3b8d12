//! What flows do at desks: open a ticket, once, and set fields of tickets.

use std::collections::BTreeMap;

use counterpart_connectors::{Acted, ConnectorError, ErrorKind, Lane, MatchKey, Millis, NewTicket};
use counterpart_core::business::{Party, Subject, Ticket, TicketStatus};
use counterpart_core::{Slot, Value};

use super::EngineError;
use super::aftermath::Looked;
use super::deliver::{Todo, Verdict, count};
use super::happen::CONVERSATION;
use super::route::{NO_ROUTE, NO_ROUTE_MS};
use super::session::Wired;
use super::worker::{Pass, Worker};
use crate::config::FlowConfig;
use crate::store::{Message, MessageState, Record, StoredEvent};

/// A longer first line is no subject: Request Tracker keeps 200 characters, our mark among them.
const SUBJECT: usize = 150;
/// Who made the mark by which a ticket is found.
const MARK: &str = "counterpart";

impl Worker<'_> {
    /// Whether a ticket can be opened: somebody's e-mail address is known. It is stored with the intent, so that every attempt
    /// asks for the same ticket.
    pub(super) async fn requester(
        &self,
        row: &Message,
        people: &[Record],
        late: bool,
        now: Millis,
    ) -> Result<Verdict, EngineError> {
        if row.party.email.is_some() {
            return Ok(Verdict::Go(Todo::OpenTicket { party: Box::new(row.party.clone()) }));
        }
        let Some(email) = people.iter().find_map(email) else {
            return Ok(match late {
                true => Verdict::Drop { reason: NO_ROUTE.to_owned() },
                false => Verdict::Hold { until: now + NO_ROUTE_MS, reason: NO_ROUTE.to_owned() },
            });
        };
        let party = Party { email: Some(email), ..row.party.clone() };
        self.engine.store.message_is_for(row.id, &party).await?;
        Ok(Verdict::Go(Todo::OpenTicket { party: Box::new(party) }))
    }

    /// The tickets that an event leads to: the one that it is about, else those that name its conversation and are not done
    /// for good.
    pub(super) async fn tickets(
        &self,
        wired: &Wired,
        flow: &FlowConfig,
        row: &Message,
        event: &StoredEvent,
        late: bool,
        now: Millis,
    ) -> Result<Verdict, EngineError> {
        let mut ids = Vec::new();
        match (&event.subject, &row.conversation) {
            (Subject::Ticket(ticket), _) if flow.from == wired.name => ids.push(ticket.id.clone()),
            (_, Some(conversation)) => {
                let linked =
                    self.engine.store.documents_by_key(&wired.name, "ticket", CONVERSATION, conversation).await?;
                let open = linked.into_iter().filter(|(_, value)| {
                    let ticket: Ticket = serde_json::from_value(value.clone()).unwrap_or_default();
                    matches!(ticket.status, TicketStatus::Open | TicketStatus::Pending | TicketStatus::Solved)
                });
                ids.extend(open.map(|(id, _)| id));
            }
            (_, None) => {}
        }
        let reason = "no ticket names this conversation".to_owned();
        Ok(match (ids.is_empty(), late || row.conversation.is_none()) {
            (false, _) => Verdict::Go(Todo::SetTickets { ids, fields: flow.fields.clone() }),
            (true, true) => Verdict::Drop { reason },
            // One that was opened a moment ago is read in a minute.
            (true, false) => Verdict::Hold { until: now + NO_ROUTE_MS, reason },
        })
    }

    /// One attempt to open a ticket.
    pub(super) async fn open_ticket(
        &self,
        wired: &Wired,
        row: &Message,
        party: &Party,
    ) -> Result<Acted, ConnectorError> {
        let document = self.engine.document(&wired.name, "ticket");
        let (subject, text) = subject_and_text(row.text.as_deref().unwrap_or_default());
        let requester = party.email.as_deref().unwrap_or_default();
        let new = NewTicket {
            subject: &subject,
            text,
            requester,
            requester_name: party.name.as_deref().unwrap_or(requester),
            mark: &row.mark,
            conversation: row.conversation.as_deref(),
            field: document.and_then(|document| document.item("conversation")),
        };
        wired.connection.open_ticket(Lane::Resolve, new).await
    }

    /// When an attempt to open a ticket of which nothing shows surely opened none: look-ups may lag behind.
    pub(super) fn shown_by(wired: &Wired, row: &Message) -> Millis {
        row.attempted_at.unwrap_or(row.created_at) + wired.connection.find_lag("ticket", &marked(row))
    }

    /// The ticket that carries the mark of an intent.
    pub(super) async fn marked_ticket(&self, wired: &Wired, row: &Message) -> Result<Option<String>, ConnectorError> {
        let key = marked(row);
        let found = wired.connection.find(Lane::Resolve, "ticket", &key).await?;
        Ok(found.into_iter().next().map(|record| record.id))
    }

    /// Sets the fields of each ticket; what is set already is left alone, so that a failure on the way costs nothing. A ticket
    /// that refuses keeps nobody from the others. Which ones were changed is kept, whatever becomes of the attempt: what is read
    /// of those is our own doing.
    pub(super) async fn set_tickets(
        &self,
        wired: &Wired,
        row: &Message,
        ids: &[String],
        fields: &BTreeMap<String, String>,
    ) -> Result<Result<Acted, ConnectorError>, EngineError> {
        // Some may have been changed by an attempt before this one.
        let mut changed: Vec<String> = row.remote_id.iter().flat_map(|ids| ids.split(',')).map(str::to_owned).collect();
        let mut failure = None;
        for id in ids {
            match wired.connection.set_ticket(Lane::Resolve, id, fields).await {
                Ok(acted) => changed.extend(acted.made.filter(|id| !changed.contains(id))),
                Err(error) if is_about_one(&error.kind) => failure = failure.or(Some(error)),
                Err(error) => {
                    // All are set again later.
                    failure = Some(error);
                    break;
                }
            }
        }
        let made = (!changed.is_empty()).then(|| changed.join(","));
        let Some(error) = failure else { return Ok(Ok(Acted { made })) };
        if let Some(ids) = made {
            self.engine.store.tickets_changed(row.id, &ids).await?;
        }
        Ok(Err(error))
    }

    /// An attempt to set fields of which nobody knows: what is there already is done; what somebody changed since is not
    /// written over; else it is made again.
    pub(super) async fn look_at_tickets(
        &self,
        wired: &Wired,
        row: &Message,
        pass: &mut Pass,
    ) -> Result<Looked, EngineError> {
        let Some((ids, fields)) = self.asked_for(wired, row, self.engine.clock.now()).await? else {
            // To judge it says why there is nothing (more) to set.
            self.set(row, MessageState::Pending, None, 0, None).await?;
            return Ok(Ok(()));
        };
        match self.found(wired, row, &ids, &fields).await {
            Ok(Found::Set) => {
                count(row, pass);
                self.set(row, MessageState::Sent, Some("found at the vendor"), 0, Some(&ids.join(","))).await?;
            }
            Ok(Found::Changed(id)) => {
                pass.dropped += 1;
                let why = format!("somebody changed ticket {id} meanwhile");
                self.set(row, MessageState::Dropped, Some(&why), 0, None).await?;
            }
            Ok(Found::Unset) => self.again(row, Some("surely not there")).await?,
            // The next attempt says what is wrong with that ticket.
            Err(error) if is_about_one(&error.kind) => self.again(row, None).await?,
            Err(error) => return Ok(Err(error)),
        }
        Ok(Ok(()))
    }

    /// The tickets and fields of an intent; none where it has none (any more).
    async fn asked_for(
        &self,
        wired: &Wired,
        row: &Message,
        now: Millis,
    ) -> Result<Option<(Vec<String>, BTreeMap<String, String>)>, EngineError> {
        let Some(flow) = self.engine.config.flow(&row.flow) else { return Ok(None) };
        let Some(event) = self.engine.store.event(row.event_id).await? else { return Ok(None) };
        Ok(match self.tickets(wired, flow, row, &event, true, now).await? {
            Verdict::Go(Todo::SetTickets { ids, fields }) => Some((ids, fields)),
            _ => None,
        })
    }

    async fn found(
        &self,
        wired: &Wired,
        row: &Message,
        ids: &[String],
        fields: &BTreeMap<String, String>,
    ) -> Result<Found, ConnectorError> {
        let document = self.engine.document(&wired.name, "ticket");
        let tried_at = row.attempted_at.unwrap_or(row.created_at);
        let mut found = Found::Set;
        for id in ids {
            let record = wired.connection.fetch(Lane::Resolve, "ticket", id).await?;
            if wired.connection.is_ticket_set(&record, fields)? {
                continue;
            }
            let ticket: Ticket = document.map(|document| document.read(&record.id, &record.body)).unwrap_or_default();
            if ticket.updated_at.is_some_and(|at| at > tried_at) {
                return Ok(Found::Changed(id.clone()));
            }
            found = Found::Unset;
        }
        Ok(found)
    }
}

fn marked(row: &Message) -> MatchKey {
    MatchKey::External { namespace: MARK.to_owned(), value: row.mark.clone() }
}

/// What an attempt to set fields left.
enum Found {
    /// All tickets say what they should.
    Set,
    /// Some do not, and nobody touched them since.
    Unset,
    /// Somebody changed this one since.
    Changed(String),
}

/// Whether a failure says something about one ticket, and nothing about the others.
fn is_about_one(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Invalid { .. } | ErrorKind::Conflict { .. })
}

fn email(record: &Record) -> Option<String> {
    match record.fields.iter().find(|(name, _)| name.as_str() == "email")? {
        (_, Slot::Set(Value::Text(email))) => Some(email.clone()),
        _ => None,
    }
}

/// The first line is the subject, what follows is the text; the whole is, where nothing follows or the line is too long.
fn subject_and_text(whole: &str) -> (String, &str) {
    let (first, rest) = whole.split_once('\n').unwrap_or((whole, ""));
    let subject: String = first.trim().chars().take(SUBJECT).collect();
    let text = if rest.trim().is_empty() || first.trim().chars().count() > SUBJECT { whole } else { rest.trim() };
    (subject, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_subject() {
        assert_eq!(subject_and_text("Refund\n\nOrder 7\n"), ("Refund".to_owned(), "Order 7"));
        assert_eq!(subject_and_text("Refund"), ("Refund".to_owned(), "Refund"));
        let long = "ö".repeat(200);
        let whole = format!("{long}\nOrder 7");
        assert_eq!(subject_and_text(&whole), ("ö".repeat(150), whole.as_str()));
    }
}
