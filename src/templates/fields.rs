//! What each event offers to a text, told by examples: one with every field, one with almost none.

use counterpart_core::business::{
    Conversation, Item, Order, OrderStatus, Party, Shipment, ShipmentStatus, Subject, Ticket, TicketStatus, Topic,
};
use serde_json::Value as Json;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn party() -> Party {
    Party {
        id: some("31"),
        name: some("Anna Öberg"),
        given_name: some("Anna"),
        family_name: some("Öberg"),
        email: some("anna@example.com"),
        phone: some("+46701740605"),
        language: some("sv"),
        timezone: some("Europe/Stockholm"),
        country: some("SE"),
    }
}

fn items() -> Vec<Item> {
    let item = |name: &str, quantity: &str, price: &str, total: &str| Item {
        name: name.to_owned(),
        sku: some("MUG-1"),
        quantity: some(quantity),
        price: some(price),
        total: some(total),
    };
    vec![item("Stoneware mug", "2", "24.50", "49.00"), item("Teapot", "1", "1150.00", "1150.00")]
}

/// An example in which every field is filled.
pub fn full(topic: Topic) -> Subject {
    // 2026-03-04 09:15:00 UTC and days after it.
    let at = |days: i64| Some(1_772_615_700_000 + days * 86_400_000);
    match topic {
        Topic::Order => Subject::Order(Order {
            id: "1007".to_owned(),
            number: "1007".to_owned(),
            status: OrderStatus::Completed,
            currency: some("EUR"),
            total: some("1234.50"),
            subtotal: some("1199.00"),
            shipping_total: some("35.50"),
            tax_total: some("246.90"),
            refunded_total: some("49.00"),
            items: items(),
            customer: party(),
            placed_at: at(0),
            paid_at: at(0),
            completed_at: at(2),
            updated_at: at(2),
            url: some("https://shop.example/orders/1007"),
            note: some("Please ring twice."),
        }),
        Topic::Shipment => Subject::Shipment(Shipment {
            id: "77".to_owned(),
            order_number: some("1007"),
            status: ShipmentStatus::InTransit,
            carrier: some("DHL"),
            tracking_number: some("JD014600006281230704"),
            tracking_url: some("https://track.example/JD014600006281230704"),
            items: items(),
            customer: party(),
            shipped_at: at(1),
            delivered_at: at(3),
        }),
        Topic::Ticket => Subject::Ticket(Ticket {
            id: "5120".to_owned(),
            number: "5120".to_owned(),
            subject: some("The lid does not fit"),
            status: TicketStatus::Closed,
            priority: some("normal"),
            url: some("https://desk.example/tickets/5120"),
            requester: party(),
            conversation: some("88"),
            mark: some("0f1e2d3c4b5a69788796a5b4"),
            merged_into: some("5100"),
            created_at: at(0),
            updated_at: at(1),
            closed_at: at(1),
        }),
        Topic::Conversation => Subject::Conversation(Conversation {
            id: "88".to_owned(),
            contact: party(),
            url: some("https://chat.example/88"),
            channel: some("website"),
            resolved: true,
            can_reply: Some(true),
            assignee: some("Ola"),
            labels: vec!["vip".to_owned()],
            latest: some("Thank you!"),
            created_at: at(0),
            updated_at: at(1),
            resolved_at: at(1),
        }),
    }
}

/// An example in which everything is missing that a vendor may leave out.
pub fn minimal(topic: Topic) -> Subject {
    match topic {
        Topic::Order => Subject::Order(Order { id: "7".to_owned(), number: "7".to_owned(), ..Order::default() }),
        Topic::Shipment => Subject::Shipment(Shipment { id: "7".to_owned(), ..Shipment::default() }),
        Topic::Ticket => Subject::Ticket(Ticket { id: "7".to_owned(), number: "7".to_owned(), ..Ticket::default() }),
        Topic::Conversation => Subject::Conversation(Conversation { id: "7".to_owned(), ..Conversation::default() }),
    }
}

/// The full example with one field missing at a time, then with all of them missing.
pub(super) fn gaps(topic: Topic) -> Vec<Json> {
    let whole = json(&full(topic));
    let mut bare = minimal(topic);
    // Lines without their optional fields, which an empty list would hide.
    let line = vec![Item { name: "Teapot".to_owned(), ..Item::default() }];
    match &mut bare {
        Subject::Order(order) => order.items = line,
        Subject::Shipment(shipment) => shipment.items = line,
        Subject::Ticket(_) | Subject::Conversation(_) => {}
    }
    let bare = json(&bare);
    let mut paths = Vec::new();
    optional(&bare, &mut Vec::new(), &mut paths);
    let mut all: Vec<Json> = paths
        .iter()
        .map(|path| {
            let mut gap = whole.clone();
            clear(&mut gap, path);
            gap
        })
        .collect();
    all.extend([bare, json(&minimal(topic))]);
    all
}

/// The subject as a text sees it.
pub(super) fn json(subject: &Subject) -> Json {
    // Plain structs with text keys always become JSON.
    serde_json::to_value(subject).unwrap_or_default()
}

fn optional<'a>(bare: &'a Json, path: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    match bare {
        Json::Null => found.push(path.clone()),
        Json::Object(members) => {
            for (key, value) in members {
                path.push(key);
                optional(value, path, found);
                path.pop();
            }
        }
        Json::Array(list) => {
            if let Some(first) = list.first() {
                optional(first, path, found);
            }
        }
        _ => {}
    }
}

fn clear(value: &mut Json, path: &[&str]) {
    match (value, path) {
        (Json::Array(list), _) => list.iter_mut().for_each(|item| clear(item, path)),
        (Json::Object(members), [key, rest @ ..]) => {
            if let Some(member) = members.get_mut(*key) {
                clear(member, rest);
            }
        }
        (value, []) => *value = Json::Null,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: [Topic; 4] = [Topic::Order, Topic::Shipment, Topic::Ticket, Topic::Conversation];

    /// A field added to a type and not to the example would be unknown to every text.
    #[test]
    fn the_full_example_leaves_nothing_out() {
        for topic in TOPICS {
            let mut gaps = Vec::new();
            let whole = json(&full(topic));
            optional(&whole, &mut Vec::new(), &mut gaps);
            assert!(gaps.is_empty(), "{topic:?}: {gaps:?}");
        }
    }

    #[test]
    fn each_gap_lacks_one_field() {
        let gaps = gaps(Topic::Order);
        assert!(gaps.len() > 20);
        assert!(gaps.iter().any(|gap| gap["order"]["note"].is_null() && gap["order"]["url"].is_string()));
        assert!(gaps.iter().any(|gap| gap["order"]["items"][1]["sku"].is_null() && gap["order"]["url"].is_string()));
        assert!(gaps.iter().any(|gap| gap["order"]["customer"]["name"].is_null() && gap["order"]["url"].is_string()));
    }

    #[test]
    fn every_field_is_documented() {
        fn names(value: &Json, found: &mut Vec<String>) {
            match value {
                Json::Object(members) => {
                    for (key, value) in members {
                        found.push(key.clone());
                        names(value, found);
                    }
                }
                Json::Array(list) => list.iter().for_each(|item| names(item, found)),
                _ => {}
            }
        }
        let document = include_str!("../../docs/messages.md");
        for topic in TOPICS {
            let mut found = Vec::new();
            names(&json(&full(topic)), &mut found);
            for name in found {
                assert!(document.contains(&format!("`{name}`")), "docs/messages.md does not know `{name}`");
            }
        }
    }
}
