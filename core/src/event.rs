//! What happened in the life of an order, a parcel, a ticket or a conversation, seen from what it looks like now.
//!
//! A vendor's webhook is a hint and its body may be old, so events are derived from the record as it was read, compared
//! with the events that are known of it. Each has a name of its own (`kind` and `nth`): an order that passes the same
//! state twice, or is told of five times, has one `order.paid`; three parcels have three `shipment.created`.

use sha2::{Digest, Sha256};

use crate::business::{Conversation, EventKind, Order, OrderStatus, Shipment, ShipmentStatus, Subject, Ticket};

/// One event in the life of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Happened {
    /// What.
    pub kind: EventKind,
    /// Which of several of that kind; empty where there is one at most.
    pub nth: String,
    /// When, Unix milliseconds, where the record says so.
    pub at: Option<i64>,
    /// Whether it is kept only so that it is not taken for news later: another event of the same look tells of it.
    pub quiet: bool,
}

/// An event that is known of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What.
    pub kind: EventKind,
    /// Which of several of that kind.
    pub nth: String,
    /// When, as the record said, or when it was seen.
    pub at: i64,
    /// Whether it was our own doing.
    pub is_ours: bool,
}

/// What happened to `subject` that is not among `known` (in the order in which they happened), oldest first.
pub fn happened(subject: &Subject, known: &[Known]) -> Vec<Happened> {
    let found = match subject {
        Subject::Order(order) => of_order(order, known),
        Subject::Shipment(shipment) => of_shipment(shipment, known),
        Subject::Ticket(ticket) => of_ticket(ticket, known),
        Subject::Conversation(conversation) => of_conversation(conversation, known),
    };
    found
        .into_iter()
        .filter(|event| !known.iter().any(|known| (known.kind, &known.nth) == (event.kind, &event.nth)))
        .collect()
}

/// When the record itself began, where it says so.
pub fn began(subject: &Subject) -> Option<i64> {
    match subject {
        Subject::Order(order) => order.placed_at,
        Subject::Shipment(shipment) => shipment.shipped_at,
        Subject::Ticket(ticket) => ticket.created_at,
        Subject::Conversation(conversation) => conversation.created_at,
    }
}

/// Whether an event makes an earlier one of the same record old news: who was not told of that one is not told any more.
pub fn overtakes(later: EventKind, earlier: EventKind) -> bool {
    use EventKind::{
        OrderCancelled, OrderCreated, OrderPaid, ShipmentCancelled, ShipmentCreated, ShipmentDelivered,
        ShipmentUpdated, TicketClosed, TicketReopened, TicketUpdated,
    };
    matches!(
        (later, earlier),
        (ShipmentDelivered, ShipmentCreated | ShipmentUpdated)
            | (ShipmentCancelled, ShipmentCreated | ShipmentUpdated | ShipmentDelivered)
            // Of two numbers only the newer one leads anywhere.
            | (ShipmentUpdated, ShipmentUpdated)
            | (OrderCancelled, OrderCreated | OrderPaid)
            | (TicketReopened, TicketClosed)
            | (TicketClosed, TicketReopened)
            | (TicketClosed | TicketUpdated, TicketUpdated)
    )
}

fn one(kind: EventKind, nth: impl Into<String>, at: Option<i64>) -> Happened {
    Happened { kind, nth: short(nth.into()), at, quiet: false }
}

/// A name that an index can hold: what is too long for one is told by its hash.
fn short(nth: String) -> String {
    const LONGEST: usize = 200;
    match nth.len() > LONGEST {
        true => Sha256::digest(nth).iter().map(|byte| format!("{byte:02x}")).collect(),
        false => nth,
    }
}

fn count(known: &[Known], kind: EventKind) -> usize {
    known.iter().filter(|known| known.kind == kind).count()
}

/// Which `order.created` stands for a draft: kept so that the order of it does not count as placed when its draft was.
const DRAFT: &str = "draft";

fn of_order(order: &Order, known: &[Known]) -> Vec<Happened> {
    match order.status {
        OrderStatus::Draft => {
            return vec![Happened { quiet: true, ..one(EventKind::OrderCreated, DRAFT, order.placed_at) }];
        }
        // A shop that tidies up calls nothing off.
        OrderStatus::Deleted => return Vec::new(),
        OrderStatus::Created
        | OrderStatus::Paid
        | OrderStatus::Completed
        | OrderStatus::Cancelled
        | OrderStatus::Refunded => {}
    }
    let was_draft = known.iter().any(|known| known.kind == EventKind::OrderCreated && known.nth == DRAFT);
    let placed_at = match was_draft {
        // Shops keep the time of the draft. It was placed between that and what is known to have come after.
        true => order.paid_at.or(order.updated_at),
        false => order.placed_at,
    };
    let mut found = vec![one(EventKind::OrderCreated, "", placed_at)];
    let completed = order.completed_at.is_some() || order.status == OrderStatus::Completed;
    if order.paid_at.is_some() || completed || order.status == OrderStatus::Paid {
        found.push(one(EventKind::OrderPaid, "", order.paid_at));
    }
    if completed {
        found.push(one(EventKind::OrderCompleted, "", order.completed_at));
    }
    if order.status == OrderStatus::Cancelled {
        found.push(one(EventKind::OrderCancelled, "", order.updated_at));
    }
    if let Some(nth) = refund(order, known) {
        found.push(one(EventKind::OrderRefunded, nth, order.updated_at));
    }
    found
}

/// Which refund is news: one by which more has gone back than is known of, whatever the order's status says besides. One
/// without an amount is news where none is known.
fn refund(order: &Order, known: &[Known]) -> Option<String> {
    let told = || known.iter().filter(|known| known.kind == EventKind::OrderRefunded);
    let Some(total) = &order.refunded_total else {
        return (order.status == OrderStatus::Refunded && told().next().is_none()).then(String::new);
    };
    let (whole, rest) = total.split_once('.').unwrap_or((total, ""));
    let rest = rest.trim_end_matches('0');
    let amount = if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") };
    let value = |text: &str| text.parse::<f64>().ok();
    let less = |known: &Known| match (value(&known.nth), value(&amount)) {
        (Some(before), Some(now)) => before < now,
        _ => false,
    };
    (value(&amount) != Some(0.0) && told().all(less)).then_some(amount)
}

fn of_shipment(shipment: &Shipment, known: &[Known]) -> Vec<Happened> {
    let is_known = count(known, EventKind::ShipmentCreated) > 0;
    match shipment.status {
        ShipmentStatus::Pending => return Vec::new(),
        // Who never heard of a parcel need not hear that there is none.
        ShipmentStatus::Cancelled if !is_known => return Vec::new(),
        ShipmentStatus::Cancelled => return vec![one(EventKind::ShipmentCancelled, "", None)],
        ShipmentStatus::Created | ShipmentStatus::InTransit | ShipmentStatus::Delivered => {}
    }
    let mut found = vec![one(EventKind::ShipmentCreated, "", shipment.shipped_at)];
    if let Some(number) = &shipment.tracking_number {
        // The number that a parcel begins with is no change.
        found.push(Happened { quiet: !is_known, ..one(EventKind::ShipmentUpdated, number.clone(), None) });
    }
    if shipment.status == ShipmentStatus::Delivered || shipment.delivered_at.is_some() {
        found.push(one(EventKind::ShipmentDelivered, "", shipment.delivered_at));
    }
    found
}

/// Closing and opening again take turns, as often as they happen; every other change of an open ticket is an update.
fn of_ticket(ticket: &Ticket, known: &[Known]) -> Vec<Happened> {
    let mut found = vec![one(EventKind::TicketCreated, "", ticket.created_at)];
    let (closed, reopened) = (count(known, EventKind::TicketClosed), count(known, EventKind::TicketReopened));
    let is_closed = ticket.status.is_closed();
    if is_closed && closed == reopened {
        let at = ticket.closed_at.or(ticket.updated_at);
        found.push(one(EventKind::TicketClosed, (closed + 1).to_string(), at));
    } else if !is_closed && closed > reopened {
        found.push(one(EventKind::TicketReopened, (reopened + 1).to_string(), ticket.updated_at));
    } else if !is_closed && let Some(at) = ticket.updated_at.filter(|at| is_change(ticket, known, *at)) {
        found.push(one(EventKind::TicketUpdated, at.to_string(), Some(at)));
    }
    found
}

/// Whether a state of this time is news: later than the ticket began and than every change that is known of it, so that a
/// state that is told of again, or after a later one, is none.
fn is_change(ticket: &Ticket, known: &[Known], at: i64) -> bool {
    ticket.created_at.is_none_or(|created| at > created) && known.iter().all(|known| at > known.at)
}

fn of_conversation(conversation: &Conversation, known: &[Known]) -> Vec<Happened> {
    // What we resolve ourselves is no time that somebody did.
    let times = known.iter().filter(|known| known.kind == EventKind::ConversationResolved && !known.is_ours).count();
    // Without an event for opening again, a conversation is resolved once for every time it says of.
    let nth = conversation.resolved_at.map_or_else(|| "1".to_owned(), |at| at.to_string());
    match conversation.resolved && (times == 0 || conversation.resolved_at.is_some()) {
        true => {
            let at = conversation.resolved_at.or(conversation.updated_at);
            vec![one(EventKind::ConversationResolved, nth, at)]
        }
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::business::TicketStatus;

    /// Looks at a record again and again, remembering what happened.
    fn watch(states: &[Subject]) -> Vec<String> {
        let mut known = Vec::new();
        for state in states {
            for event in happened(state, &known) {
                known.push(Known { kind: event.kind, nth: event.nth, at: event.at.unwrap_or(0), is_ours: false });
            }
        }
        known.iter().map(|known| format!("{} {}", known.kind, known.nth).trim().to_owned()).collect()
    }

    fn order(status: OrderStatus) -> Subject {
        Subject::Order(Order { id: "7".to_owned(), status, ..Order::default() })
    }

    fn ticket(status: TicketStatus) -> Subject {
        Subject::Ticket(Ticket { id: "7".to_owned(), status, ..Ticket::default() })
    }

    #[test]
    fn an_order_that_passes_a_state_twice_has_one_event_of_it() {
        use OrderStatus::{Completed, Created, Paid};
        let states = [Created, Paid, Created, Paid, Completed, Paid, Completed].map(order);
        assert_eq!(watch(&states), ["order.created", "order.paid", "order.completed"]);
        // What was skipped between two looks happened too.
        assert_eq!(watch(&[order(Completed)]), ["order.created", "order.paid", "order.completed"]);
    }

    #[test]
    fn a_draft_is_no_order_until_it_is_placed_and_the_trash_is_no_event() {
        use OrderStatus::{Cancelled, Created, Deleted, Draft, Paid};
        let at = |status, updated_at| {
            let order = Order { status, placed_at: Some(10), updated_at: Some(updated_at), ..Order::default() };
            Subject::Order(order)
        };
        let draft = happened(&at(Draft, 20), &[]);
        assert!(draft.iter().all(|event| event.quiet), "{draft:?}");
        let known = [Known { kind: EventKind::OrderCreated, nth: draft[0].nth.clone(), at: 10, is_ours: false }];
        assert_eq!(happened(&at(Draft, 30), &known), []);
        assert_eq!(happened(&at(Created, 40), &known), [one(EventKind::OrderCreated, "", Some(40))]);
        let paid = Order { status: Paid, paid_at: Some(35), updated_at: Some(40), ..Order::default() };
        assert_eq!(happened(&Subject::Order(paid), &known)[0], one(EventKind::OrderCreated, "", Some(35)));
        let placed = [one(EventKind::OrderCreated, "", Some(10))];
        assert_eq!(happened(&at(Created, 40), &[]), placed);
        let states = [Created, Deleted, Created, Deleted, Cancelled].map(order);
        assert_eq!(watch(&states), ["order.created", "order.cancelled"]);
        assert_eq!(watch(&[order(Deleted)]), [""; 0]);
    }

    #[test]
    fn every_partial_refund_counts_once() {
        let back = |status, amount: &str| {
            Subject::Order(Order { status, refunded_total: Some(amount.to_owned()), ..Order::default() })
        };
        let states = [
            back(OrderStatus::Paid, "3"),
            back(OrderStatus::Paid, "5"),
            back(OrderStatus::Paid, "5"),
            // An older state, and the same amount in other words and under other states.
            back(OrderStatus::Paid, "3.00"),
            back(OrderStatus::Refunded, "9.50"),
            back(OrderStatus::Cancelled, "9.5"),
            back(OrderStatus::Paid, "8"),
        ];
        let refunds: Vec<_> = watch(&states).into_iter().filter(|event| event.starts_with("order.refunded")).collect();
        assert_eq!(refunds, ["order.refunded 3", "order.refunded 5", "order.refunded 9.5"]);
    }

    #[test]
    fn a_ticket_closes_and_opens_in_turns() {
        use TicketStatus::{Closed, Open, Pending, Solved};
        let states = [Open, Solved, Closed, Open, Pending, Closed, Open].map(ticket);
        let expected =
            ["ticket.created", "ticket.closed 1", "ticket.reopened 1", "ticket.closed 2", "ticket.reopened 2"];
        assert_eq!(watch(&states), expected);
    }

    #[test]
    fn every_change_of_an_open_ticket_is_told_of_once() {
        use TicketStatus::{Open, Pending, Solved};
        let at = |status, updated_at| {
            let ticket = Ticket { status, created_at: Some(10), updated_at: Some(updated_at), ..Ticket::default() };
            Subject::Ticket(ticket)
        };
        // Told again, and an older state after a newer one.
        let states = [(Open, 10), (Pending, 20), (Pending, 20), (Open, 10), (Open, 30), (Pending, 20), (Open, 30)];
        let updates = watch(&states.map(|(status, time)| at(status, time)));
        assert_eq!(updates, ["ticket.created", "ticket.updated 20", "ticket.updated 30"]);
        // Closing and opening again are no updates, and neither is what happens to a closed ticket.
        let states = [(Open, 10), (Solved, 20), (Solved, 25), (Open, 30), (Open, 30), (Open, 20), (Pending, 40)];
        let events = watch(&states.map(|(status, time)| at(status, time)));
        assert_eq!(events, ["ticket.created", "ticket.closed 1", "ticket.reopened 1", "ticket.updated 40"],);
    }

    #[test]
    fn a_conversation_is_resolved_when_it_changed_last() {
        let chat =
            |resolved| Subject::Conversation(Conversation { resolved, updated_at: Some(7), ..Conversation::default() });
        assert_eq!(happened(&chat(false), &[]), []);
        assert_eq!(happened(&chat(true), &[]), [one(EventKind::ConversationResolved, "1", Some(7))]);
        assert_eq!(watch(&[chat(true), chat(false), chat(true)]), ["conversation.resolved 1"]);
    }

    #[test]
    fn a_parcel_is_told_of_once_and_a_cancelled_one_not_at_all() {
        let parcel = |status| Subject::Shipment(Shipment { status, ..Shipment::default() });
        assert_eq!(watch(&[parcel(ShipmentStatus::Pending), parcel(ShipmentStatus::Cancelled)]), [""; 0]);
        let states = [ShipmentStatus::Created, ShipmentStatus::InTransit, ShipmentStatus::Delivered].map(parcel);
        assert_eq!(watch(&states), ["shipment.created", "shipment.delivered"]);
        let states = [ShipmentStatus::Created, ShipmentStatus::Cancelled, ShipmentStatus::Cancelled].map(parcel);
        assert_eq!(watch(&states), ["shipment.created", "shipment.cancelled"]);
        use EventKind::{ShipmentCancelled, ShipmentCreated, ShipmentDelivered};
        assert!(overtakes(ShipmentCancelled, ShipmentCreated) && !overtakes(ShipmentCreated, ShipmentDelivered));
    }

    #[test]
    fn a_changed_tracking_number_is_news_and_the_first_one_is_not() {
        let numbered = |number: Option<&str>| {
            Subject::Shipment(Shipment { tracking_number: number.map(str::to_owned), ..Shipment::default() })
        };
        let news = |states: &[Option<&str>]| {
            let (mut known, mut news) = (Vec::new(), Vec::new());
            for state in states {
                let found = happened(&numbered(*state), &known);
                news.extend(
                    found.iter().filter(|event| !event.quiet).map(|event| format!("{} {}", event.kind, event.nth)),
                );
                known.extend(found.into_iter().map(|event| Known {
                    kind: event.kind,
                    nth: event.nth,
                    at: 0,
                    is_ours: false,
                }));
            }
            news
        };
        assert_eq!(news(&[Some("A"), Some("A")]), ["shipment.created "]);
        assert_eq!(news(&[Some("A"), Some("B"), Some("B"), Some("A")]), ["shipment.created ", "shipment.updated B"]);
        assert_eq!(news(&[None, Some("A")]), ["shipment.created ", "shipment.updated A"]);
        // Two that are longer than an index holds are two, and each of them is short.
        let (long, other) = ("1".repeat(5_000), "1".repeat(4_999) + "2");
        let told = news(&[None, Some(&long), Some(&other), Some(&long)]);
        assert!(told.len() == 3 && told.iter().all(|event| event.len() < 100), "{told:?}");
    }
}
