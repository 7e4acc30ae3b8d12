//! What flows do at desks: open a ticket, once, and set fields of tickets.

use counterpart_connectors::{Acted, ConnectorError, Lane, MatchKey, Millis, NewTicket};
use counterpart_core::business::{Party, Subject, Ticket, TicketStatus};
use counterpart_core::{Slot, Value};

use super::EngineError;
use super::deliver::{NO_ROUTE, NO_ROUTE_MS, Todo, Verdict};
use super::happen::CONVERSATION;
use super::session::Wired;
use super::worker::Worker;
use crate::config::FlowConfig;
use crate::store::{Message, Record, StoredEvent};

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
        let document = self.engine.documents.get(&(wired.name.clone(), "ticket".to_owned()));
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

    /// The ticket that carries the mark of an intent.
    pub(super) async fn marked_ticket(&self, wired: &Wired, row: &Message) -> Result<Option<String>, ConnectorError> {
        let key = MatchKey::External { namespace: MARK.to_owned(), value: row.mark.clone() };
        let found = wired.connection.find(Lane::Resolve, "ticket", &key).await?;
        Ok(found.into_iter().next().map(|record| record.id))
    }

    /// Sets the fields of each ticket; what is set already is left alone, so that a failure on the way costs nothing.
    pub(super) async fn set_tickets(
        &self,
        wired: &Wired,
        ids: &[String],
        fields: &std::collections::BTreeMap<String, String>,
    ) -> Result<Acted, ConnectorError> {
        for id in ids {
            wired.connection.set_ticket(Lane::Resolve, id, fields).await?;
        }
        Ok(Acted { made: Some(ids.join(",")) })
    }
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
