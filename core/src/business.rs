//! What business systems tell about: orders, shipments, tickets, conversations, and the events in their lives.
//!
//! One shape for every vendor. What a vendor leaves out is `None` (`null` in JSON, never a missing key when written);
//! times are Unix milliseconds; amounts and quantities are decimal text such as `"1234.50"`, never floats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the record of an order tells of its parcels.
pub const PARCELS: &str = "shipments";

/// A person as a business system knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// Their id there; guests have none.
    pub id: Option<String>,
    /// The full name as they write it.
    pub name: Option<String>,
    /// Given name.
    pub given_name: Option<String>,
    /// Family name.
    pub family_name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number, as the vendor gave it.
    pub phone: Option<String>,
    /// Language, BCP 47: `de`, `pt-BR`.
    pub language: Option<String>,
    /// Time zone, IANA: `Europe/Stockholm`.
    pub timezone: Option<String>,
    /// Country, ISO 3166 alpha-2.
    pub country: Option<String>,
}

/// One line of an order or a parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Item {
    /// What it is.
    pub name: String,
    /// Stock keeping unit.
    pub sku: Option<String>,
    /// How many, decimal text.
    pub quantity: Option<String>,
    /// Price of one, decimal text in the order's currency.
    pub price: Option<String>,
    /// Price of the line, decimal text in the order's currency.
    pub total: Option<String>,
}

/// How far an order is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Not placed yet, as a checkout page that is open: no news for its customer.
    Draft,
    /// Placed, not paid.
    #[default]
    Created,
    /// Paid.
    Paid,
    /// Everything has been done.
    Completed,
    /// Called off.
    Cancelled,
    /// All the money went back; an order of which a part did is what it was, with its `refunded_total`.
    Refunded,
    /// Thrown away by the shop, which says nothing about what became of the order.
    Deleted,
}

/// An order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    /// The vendor's id.
    pub id: String,
    /// The number its customer knows; the id where the vendor has no other.
    pub number: String,
    /// How far it is.
    pub status: OrderStatus,
    /// Currency of every amount, ISO 4217: `EUR`.
    pub currency: Option<String>,
    /// What is to be paid, decimal text.
    pub total: Option<String>,
    /// The items alone, decimal text.
    pub subtotal: Option<String>,
    /// Shipping, decimal text.
    pub shipping_total: Option<String>,
    /// Tax, decimal text.
    pub tax_total: Option<String>,
    /// What went back so far, decimal text, not negative.
    pub refunded_total: Option<String>,
    /// Its lines.
    pub items: Vec<Item>,
    /// Who ordered.
    pub customer: Party,
    /// When it was placed, Unix milliseconds.
    pub placed_at: Option<i64>,
    /// When it was paid, Unix milliseconds.
    pub paid_at: Option<i64>,
    /// When it was completed, Unix milliseconds.
    pub completed_at: Option<i64>,
    /// When it last changed, Unix milliseconds.
    pub updated_at: Option<i64>,
    /// Where its customer can look at it.
    pub url: Option<String>,
    /// What the customer wrote with it.
    pub note: Option<String>,
}

/// How far a parcel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentStatus {
    /// Being packed: no news for its customer yet.
    Pending,
    /// On its way, or announced to the carrier.
    #[default]
    Created,
    /// With the carrier.
    InTransit,
    /// Arrived.
    Delivered,
    /// Called off.
    Cancelled,
}

/// One parcel of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shipment {
    /// The vendor's id.
    pub id: String,
    /// The number of its order, as the customer knows it.
    pub order_number: Option<String>,
    /// How far it is.
    pub status: ShipmentStatus,
    /// Who carries it.
    pub carrier: Option<String>,
    /// The carrier's number for it.
    pub tracking_number: Option<String>,
    /// Where it can be followed.
    pub tracking_url: Option<String>,
    /// What is in it.
    pub items: Vec<Item>,
    /// Who gets it.
    pub customer: Party,
    /// When the carrier got it, Unix milliseconds.
    pub shipped_at: Option<i64>,
    /// When it arrived, Unix milliseconds.
    pub delivered_at: Option<i64>,
}

impl Shipment {
    /// The parcels that the record of an order tells of, each with its order's number and customer. Some shops number them
    /// within the order only, so its id stands before theirs; one without an id cannot be told from others and is left out.
    /// So is every parcel of an order that was thrown away.
    pub fn of_order(order: &Order, record: &Value) -> Vec<Shipment> {
        if order.status == OrderStatus::Deleted {
            return Vec::new();
        }
        let rows = record.get(PARCELS).and_then(Value::as_array).into_iter().flatten();
        let parcels = rows.filter_map(|row| serde_json::from_value::<Shipment>(row.clone()).ok());
        parcels
            .filter(|parcel| !parcel.id.is_empty())
            .map(|parcel| Shipment {
                id: format!("{}/{}", order.id, parcel.id),
                order_number: Some(order.number.clone()),
                customer: order.customer.clone(),
                ..parcel
            })
            .collect()
    }
}

/// How far a ticket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    /// Being worked on.
    #[default]
    Open,
    /// Waits for somebody.
    Pending,
    /// Answered, may open again.
    Solved,
    /// Done for good.
    Closed,
    /// Became part of another.
    Merged,
    /// Gone.
    Deleted,
}

impl TicketStatus {
    /// Whether nobody works on it any more; merged and deleted ones count as closed.
    pub fn is_closed(self) -> bool {
        match self {
            TicketStatus::Open | TicketStatus::Pending => false,
            TicketStatus::Solved | TicketStatus::Closed | TicketStatus::Merged | TicketStatus::Deleted => true,
        }
    }
}

/// A ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ticket {
    /// The vendor's id.
    pub id: String,
    /// The number its requester knows; the id where the vendor has no other.
    pub number: String,
    /// What it is about.
    pub subject: Option<String>,
    /// How far it is.
    pub status: TicketStatus,
    /// How urgent, in the vendor's words.
    pub priority: Option<String>,
    /// Where its requester can look at it.
    pub url: Option<String>,
    /// Who asked.
    pub requester: Party,
    /// Id of the conversation it belongs to, where the ticket itself says so.
    pub conversation: Option<String>,
    /// Our own mark on it, where a flow opened it and the vendor keeps one.
    pub mark: Option<String>,
    /// Id of the ticket it became part of.
    pub merged_into: Option<String>,
    /// When it was opened, Unix milliseconds.
    pub created_at: Option<i64>,
    /// When it last changed, Unix milliseconds.
    pub updated_at: Option<i64>,
    /// When it was closed, Unix milliseconds.
    pub closed_at: Option<i64>,
}

/// A conversation in a chat system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conversation {
    /// The vendor's id.
    pub id: String,
    /// Whom it is with.
    pub contact: Party,
    /// Where agents can look at it.
    pub url: Option<String>,
    /// Through what the customer writes, in the vendor's words.
    pub channel: Option<String>,
    /// Whether it is closed.
    pub resolved: bool,
    /// Whether a text that is written now reaches the customer, where the vendor says so: some channels take one only for a
    /// while after the customer's last message.
    pub can_reply: Option<bool>,
    /// The agent who has it.
    pub assignee: Option<String>,
    /// What it is labelled.
    pub labels: Vec<String>,
    /// The newest message, as far as the vendor shows one.
    pub latest: Option<String>,
    /// When it began, Unix milliseconds.
    pub created_at: Option<i64>,
    /// When it last changed, Unix milliseconds.
    pub updated_at: Option<i64>,
    /// When it was resolved, Unix milliseconds.
    pub resolved_at: Option<i64>,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The customer.
    Customer,
    /// Somebody of the team, or we in their name.
    Agent,
    /// The system itself.
    #[default]
    System,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// The vendor's id.
    pub id: String,
    /// Who wrote it.
    pub author: Author,
    /// For agents only: never to be shown to the customer.
    pub private: bool,
    /// What it says; none where it is an attachment alone.
    pub text: Option<String>,
    /// Our own mark on it, where the vendor keeps one.
    pub mark: Option<String>,
    /// How far it got, where the vendor says so.
    pub delivery: Option<DeliveryState>,
    /// Why it could not be delivered, in the channel's words.
    pub delivery_error: Option<String>,
    /// What is attached, by address.
    pub attachments: Vec<Attachment>,
    /// When it was written, Unix milliseconds.
    pub created_at: Option<i64>,
}

/// Stands before a channel's reason for not delivering a message.
pub const UNDELIVERED: &str = "not delivered: ";

impl Message {
    /// Why the customer does not have it; none while nobody says that it failed.
    pub fn undelivered(&self) -> Option<String> {
        let why = self.delivery_error.as_deref().unwrap_or("the channel does not say why");
        (self.delivery == Some(DeliveryState::Failed)).then(|| format!("{UNDELIVERED}{why}"))
    }
}

/// How far a message got on its way to the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// The channel has it.
    Sent,
    /// The customer's device has it.
    Delivered,
    /// The customer has seen it.
    Read,
    /// It does not reach the customer.
    Failed,
}

/// Something attached to a message, by reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Where it is.
    pub url: Option<String>,
    /// Its file name.
    pub name: Option<String>,
}

/// Makes an enum of names with dots, its text form and back.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal of $topic:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// As it is written in files: `order.completed`.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// What it tells about.
            pub fn topic(self) -> Topic {
                match self { $($name::$variant => Topic::$topic,)* }
            }
        }
    };
}

named! {
    /// Something that happened in a business or chat system.
    EventKind {
        /// An order was placed.
        OrderCreated = "order.created" of Order,
        /// An order was paid.
        OrderPaid = "order.paid" of Order,
        /// An order was completed.
        OrderCompleted = "order.completed" of Order,
        /// An order was called off.
        OrderCancelled = "order.cancelled" of Order,
        /// Money of an order went back.
        OrderRefunded = "order.refunded" of Order,
        /// A parcel left, or was announced.
        ShipmentCreated = "shipment.created" of Shipment,
        /// The tracking number of a parcel changed, or came later than the parcel.
        ShipmentUpdated = "shipment.updated" of Shipment,
        /// A parcel arrived.
        ShipmentDelivered = "shipment.delivered" of Shipment,
        /// A parcel that was on its way was called off.
        ShipmentCancelled = "shipment.cancelled" of Shipment,
        /// A ticket was opened.
        TicketCreated = "ticket.created" of Ticket,
        /// A ticket changed.
        TicketUpdated = "ticket.updated" of Ticket,
        /// A ticket was closed.
        TicketClosed = "ticket.closed" of Ticket,
        /// A closed ticket is open again.
        TicketReopened = "ticket.reopened" of Ticket,
        /// A conversation was resolved.
        ConversationResolved = "conversation.resolved" of Conversation,
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A text that names no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no event `{0}`")]
pub struct NoSuchEvent(pub String);

impl FromStr for EventKind {
    type Err = NoSuchEvent;

    fn from_str(text: &str) -> Result<EventKind, NoSuchEvent> {
        let found = EventKind::ALL.iter().find(|kind| kind.as_str() == text);
        found.copied().ok_or_else(|| NoSuchEvent(text.to_owned()))
    }
}

/// The kinds of things that events tell about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// `order.*`
    Order,
    /// `shipment.*`
    Shipment,
    /// `ticket.*`
    Ticket,
    /// `conversation.*`
    Conversation,
}

impl Topic {
    /// What stands before the dot of its events, which is also the name of the stream that tells of them.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Order => "order",
            Topic::Shipment => "shipment",
            Topic::Ticket => "ticket",
            Topic::Conversation => "conversation",
        }
    }
}

/// What an event tells about; in JSON `{"order": {…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An order.
    Order(Order),
    /// A parcel.
    Shipment(Shipment),
    /// A ticket.
    Ticket(Ticket),
    /// A conversation.
    Conversation(Conversation),
}

impl Subject {
    /// Which kind it is.
    pub fn topic(&self) -> Topic {
        match self {
            Subject::Order(_) => Topic::Order,
            Subject::Shipment(_) => Topic::Shipment,
            Subject::Ticket(_) => Topic::Ticket,
            Subject::Conversation(_) => Topic::Conversation,
        }
    }

    /// The vendor's id of it.
    pub fn id(&self) -> &str {
        match self {
            Subject::Order(order) => &order.id,
            Subject::Shipment(shipment) => &shipment.id,
            Subject::Ticket(ticket) => &ticket.id,
            Subject::Conversation(conversation) => &conversation.id,
        }
    }

    /// The person it concerns.
    pub fn party(&self) -> &Party {
        match self {
            Subject::Order(order) => &order.customer,
            Subject::Shipment(shipment) => &shipment.customer,
            Subject::Ticket(ticket) => &ticket.requester,
            Subject::Conversation(conversation) => &conversation.contact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_as_they_are_written() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.as_str());
            let topic = serde_json::to_value(kind.topic()).expect("JSON");
            assert_eq!(kind.as_str().split('.').next(), topic.as_str());
            assert_eq!(topic, kind.topic().as_str());
        }
        assert_eq!("order.eaten".parse::<EventKind>(), Err(NoSuchEvent("order.eaten".to_owned())));
    }

    #[test]
    fn what_a_vendor_leaves_out_is_null_and_reads_back() {
        let order: Subject = serde_json::from_str(r#"{"order": {"id": "7", "number": "1007"}}"#).expect("an order");
        let written = serde_json::to_value(&order).expect("JSON");
        assert!(written["order"].as_object().is_some_and(|order| order["total"].is_null() && order.len() == 17));
        assert_eq!(serde_json::from_value::<Subject>(written).expect("an order"), order);
        assert_eq!((order.id(), order.topic(), order.party()), ("7", Topic::Order, &Party::default()));
    }

    #[test]
    fn parcels_have_the_number_and_the_customer_of_their_order() {
        let record = serde_json::json!({
            "id": "7", "number": "1007", "customer": { "email": "ann@example.test" },
            "shipments": [{ "id": "1", "tracking_number": "A" }, { "tracking_number": "B" }, "odd"],
        });
        let order: Order = serde_json::from_value(record.clone()).expect("an order");
        let parcels = Shipment::of_order(&order, &record);
        assert_eq!(parcels.len(), 1, "what has no id is no parcel");
        assert_eq!((parcels[0].id.as_str(), parcels[0].order_number.as_deref()), ("7/1", Some("1007")));
        assert_eq!(parcels[0].customer, order.customer);
        assert_eq!(Shipment::of_order(&order, &serde_json::json!({ "shipments": 3 })), []);
    }
}
