//! Orders of a Shopify shop that reach the customer in a chat: once, whatever the webhooks and the limit do.

use std::sync::Arc;

use counterpart::engine::Pass;
use counterpart::store::{MessageState, NewHook};
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{ActKind, Clock, Connection, ConnectionSpec, Delivery, OpenGate};
use counterpart_core::business::EventKind;
use counterpart_core::gate::Policy;
use counterpart_sandbox::{HookDelivery, NewOrder, NewShipment, Vendor};

use crate::flows::{flow, order};
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE};
use crate::sim::Dice;

const SECRET: &str = "s3cret";
const TOPICS: &str = "orders/create,orders/updated,orders/paid,orders/cancelled,orders/fulfilled,fulfillments/create,\
                      fulfillments/update,refunds/create";

/// Ana, known in the chat, and a shop where she orders.
async fn shop_and_chat(settings: &[(&str, &str)]) -> Lab {
    let mut fakes = vec![("shop", "webhook_secret", SECRET), ("shop", "webhook_topics", TOPICS)];
    fakes.extend(settings.iter().map(|(name, value)| ("shop", *name, *value)));
    let mut lab = Lab::with_fakes(&[("chat", Vendor::Chatway), ("shop", Vendor::Shopify)], &fakes).await;
    lab.config.flows = vec![
        flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation")),
        flow(EventKind::OrderPaid, ActKind::Send, Some("payment-received")),
        flow(EventKind::OrderCancelled, ActKind::Send, Some("order-cancelled")),
        flow(EventKind::OrderRefunded, ActKind::Send, Some("order-refunded")),
        flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentUpdated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentDelivered, ActKind::Send, Some("delivered")),
    ];
    lab.ana().await;
    lab.sandbox.take_hooks();
    lab
}

/// The shop's connection as the webhook receiver has it.
fn receiver(lab: &Lab) -> Connection {
    let config = &lab.config.connections["shop"];
    let mut secrets = config.secrets.clone();
    secrets.insert("webhook_secret".to_owned(), SECRET.into());
    let spec = ConnectionSpec {
        name: "shop".to_owned(),
        connector: config.connector.clone(),
        settings: config.settings.clone(),
        secrets,
        manifest_dirs: Vec::new(),
    };
    let silent = Arc::new(Script::always(200, &[], "{}"));
    Connection::open(spec, silent, Arc::new(OpenGate), lab.clock.clone()).expect("the spec is complete")
}

/// The worker does what webhooks asked for, and reads nothing else.
async fn pass(lab: &Lab) -> Pass {
    let engine = lab.engine(lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    let pass = worker.pass().await.expect("it works");
    worker.close().await.expect("it ends");
    pass
}

/// Every delivery, so many times over, put where the worker finds it.
async fn deliver(lab: &Lab, told: &[HookDelivery], times: usize) {
    let shop = receiver(lab);
    for delivery in told.iter().flat_map(|delivery| std::iter::repeat_n(delivery, times)) {
        let mut headers = http::HeaderMap::new();
        for (name, value) in &delivery.headers {
            let name: http::HeaderName = name.parse().expect("a header");
            headers.insert(name, value.parse().expect("a value"));
        }
        let url = "https://counterpart.example/hooks/shop";
        let taken = Delivery { method: "POST", url, headers: &headers, path_secret: None, body: &delivery.body };
        let intake = shop.hook(&taken, lab.clock.now()).expect("the fake signs as Shopify does");
        let mut forged = delivery.body.clone();
        forged.push(b' ');
        shop.hook(&Delivery { body: &forged, ..taken }, lab.clock.now()).expect_err("another body is not signed");
        let hook = NewHook {
            connection: "shop".to_owned(),
            hints: serde_json::to_value(&intake.hints).expect("hints are JSON"),
            body: String::from_utf8_lossy(&delivery.body).into_owned(),
        };
        lab.store.receive(&[hook], lab.clock.now()).await.expect("the store takes it");
    }
}

/// Given webhooks that all come twice, then each milestone has one message, with the number the customer knows.
#[tokio::test]
async fn an_order_is_told_of_once_whatever_comes_again() {
    let lab = shop_and_chat(&[]).await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    let placed = lab.sandbox.take_hooks();
    assert_eq!(placed.len(), 2);
    deliver(&lab, &placed, 2).await;
    let done = pass(&lab).await;
    assert_eq!((done.events, done.sent), (1, 1), "{done:?} {:?}", lab.intents().await);
    let told = lab.told("chat");
    assert!(told[0].contains("#1001") && told[0].contains("25.00"), "{told:?}");

    // The same again, later, by webhook and by reading what changed.
    lab.clock.advance(10 * MINUTE);
    deliver(&lab, &placed, 2).await;
    assert_eq!((pass(&lab).await.sent, lab.work().await.sent), (0, 0));

    for (status, messages) in [("processing", 2), ("processing", 2), ("completed", 2), ("refunded", 3)] {
        lab.sandbox.set_order(lab.clock.now(), "shop", &id, status);
        deliver(&lab, &lab.sandbox.take_hooks(), 2).await;
        pass(&lab).await;
        lab.clock.advance(MINUTE);
        lab.work().await;
        assert_eq!(lab.told("chat").len(), messages, "{status}: {:?}", lab.told("chat"));
    }
    lab.clock.advance(HOUR);
    assert_eq!(lab.work().await, Pass::default());
}

/// Given no webhook at all, then reading what changed finds orders, and cancelled ones are told of as that.
#[tokio::test]
async fn what_webhooks_lost_is_found() {
    let lab = shop_and_chat(&[]).await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    lab.clock.advance(MINUTE);
    assert_eq!(lab.work().await.sent, 1);
    lab.sandbox.set_order(lab.clock.now(), "shop", &id, "cancelled");
    lab.clock.advance(MINUTE);
    assert_eq!(lab.work().await.sent, 1);
    assert_eq!(lab.told("chat").len(), 2);
}

/// Given a bucket of points that is too small for what is read, then it is waited for and nothing is lost.
#[tokio::test]
async fn an_empty_bucket_is_waited_out() {
    let lab = shop_and_chat(&[("points_bucket", "1000"), ("points_restore", "20")]).await;
    for _ in 0..30 {
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    }
    lab.clock.advance(MINUTE);
    let before = lab.clock.now();
    let pass = lab.work().await;
    assert_eq!((pass.events, pass.sent), (30, 30), "{pass:?}");
    assert!(lab.clock.now() - before > 20_000, "two pages ask for more than the bucket holds");
}

/// A parcel with some lines of its order.
fn parcel(number: &str, items: &[(usize, u32)]) -> NewShipment {
    NewShipment {
        number: Some(number.to_owned()),
        carrier: Some("DHL".to_owned()),
        url: Some(format!("https://track.example/{number}")),
        items: items.to_vec(),
        packed: false,
    }
}

/// An order of three things, which was told of.
async fn three_things(lab: &Lab) -> String {
    let items = ["Cup", "Pot", "Jug"].map(|name| (name.to_owned(), 1, "12.50".to_owned()));
    let new = NewOrder { items: items.to_vec(), ..order("ana@example.test", "pending") };
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &new);
    deliver(lab, &lab.sandbox.take_hooks(), 1).await;
    pass(lab).await;
    lab.clock.advance(HOUR);
    id
}

/// What the chat was told since there were so many words.
fn since(lab: &Lab, before: usize) -> Vec<String> {
    lab.told("chat").split_off(before)
}

/// Given an order that leaves in one parcel, then it is told of once, with what the customer needs to follow it, and once more
/// when it has arrived; reading it costs no call but the order's.
#[tokio::test]
async fn a_parcel_is_told_of_when_it_leaves_and_when_it_arrives() {
    let lab = shop_and_chat(&[]).await;
    let order = three_things(&lab).await;
    let sent = lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &parcel("JD0146", &[]));
    let told = lab.sandbox.take_hooks();
    deliver(&lab, &told, 3).await;
    lab.sandbox.clear_log();
    pass(&lab).await;
    let reads = lab.sandbox.log().iter().filter(|call| call.path.contains("graphql")).count();
    assert_eq!(reads, 1, "three topics, three times each, are one order");
    let said = since(&lab, 1);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["#1001", "DHL", "JD0146", "https://track.example/JD0146", "3 different items", "1 × Pot"] {
        assert!(said[0].contains(part), "{part}: {said:?}");
    }
    for _ in 0..2 {
        lab.clock.advance(HOUR);
        deliver(&lab, &told, 1).await;
        assert_eq!((pass(&lab).await.sent, lab.work().await.sent), (0, 0));
    }
    for _ in 0..2 {
        lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, &sent, "delivered");
        deliver(&lab, &lab.sandbox.take_hooks(), 2).await;
        pass(&lab).await;
        lab.clock.advance(HOUR);
    }
    let said = since(&lab, 2);
    assert!(said.len() == 1 && said[0].contains("was delivered"), "{said:?}");
    lab.clock.advance(DAY);
    assert_eq!(lab.work().await, Pass::default());
}

/// Given three parcels at different times, whose webhooks come twice and in the wrong order, then each is told of once, with
/// what is in it.
#[tokio::test]
async fn three_parcels_are_three_messages() {
    let lab = shop_and_chat(&[]).await;
    let order = three_things(&lab).await;
    let mut told = Vec::new();
    for (line, name) in ["Cup", "Pot", "Jug"].into_iter().enumerate() {
        lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &parcel(&format!("A{line}"), &[(line, 1)]));
        told.extend(lab.sandbox.take_hooks());
        told.rotate_left(1);
        deliver(&lab, &told.iter().rev().cloned().collect::<Vec<_>>(), 2).await;
        pass(&lab).await;
        let said = since(&lab, 1 + line);
        assert!(said.len() == 1 && said[0].contains(name) && said[0].contains(&format!("A{line}")), "{said:?}");
        lab.clock.advance(HOUR);
    }
    assert_eq!(lab.work().await.sent, 0);
}

/// Given a corrected tracking number, then the customer gets the new one, once.
#[tokio::test]
async fn a_changed_tracking_number_is_told() {
    let lab = shop_and_chat(&[]).await;
    let order = three_things(&lab).await;
    let sent = lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &parcel("A1", &[]));
    deliver(&lab, &lab.sandbox.take_hooks(), 1).await;
    assert_eq!(pass(&lab).await.sent, 1, "the first number is told with the parcel, not as a change of it");
    lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, &sent, "number=B2");
    deliver(&lab, &lab.sandbox.take_hooks(), 2).await;
    assert_eq!((pass(&lab).await.sent, pass(&lab).await.sent), (1, 0));
    assert!(lab.told("chat")[2].contains("B2"), "{:?}", lab.told("chat"));
}

/// Given a parcel of which the first news is that it has arrived, then nobody is told that it left.
#[tokio::test]
async fn who_has_a_parcel_is_not_told_that_it_is_on_its_way() {
    let lab = shop_and_chat(&[]).await;
    let order = three_things(&lab).await;
    let sent = lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &parcel("A1", &[]));
    lab.clock.advance(HOUR);
    lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, &sent, "delivered");
    let mut told = lab.sandbox.take_hooks();
    told.reverse();
    deliver(&lab, &told, 1).await;
    pass(&lab).await;
    let said = since(&lab, 1);
    assert!(said.len() == 1 && said[0].contains("was delivered"), "{said:?}");
    let dropped = lab.intents().await.into_iter().find(|one| one.state == MessageState::Dropped).expect("one of them");
    assert!(dropped.flow.starts_with("shipment.created"), "{dropped:?}");
}

/// Given a parcel that is called off before its message could go out, then nothing goes out, also not that it was.
#[tokio::test]
async fn a_parcel_that_was_called_off_is_not_told_of() {
    let mut lab = shop_and_chat(&[]).await;
    let order = three_things(&lab).await;
    let quiet = toml::from_str("quiet = { hours = '21:00-08:00', fallback_zone = 'UTC' }").expect("a policy");
    lab.config.flows.iter_mut().for_each(|flow| flow.gate = Policy::clone(&quiet));
    let midnight = lab.clock.now() / DAY * DAY + DAY;
    lab.clock.advance(midnight - lab.clock.now());
    let sent = lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &parcel("A1", &[]));
    deliver(&lab, &lab.sandbox.take_hooks(), 1).await;
    pass(&lab).await;
    assert_eq!(lab.intents().await.last().expect("a message").state, MessageState::Held);
    lab.clock.advance(HOUR);
    lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, &sent, "cancelled");
    deliver(&lab, &lab.sandbox.take_hooks(), 2).await;
    pass(&lab).await;
    lab.clock.advance(8 * HOUR);
    pass(&lab).await;
    assert!(since(&lab, 1).is_empty(), "{:?}", lab.told("chat"));
    let last = lab.intents().await.pop().expect("a message");
    assert_eq!((last.state, last.reason.as_deref()), (MessageState::Dropped, Some("overtaken")));
    // A parcel that is first seen as called off is nothing at all.
    let events = lab.store.count_events().await.expect("the store answers");
    let gone = lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &parcel("B2", &[]));
    lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, &gone, "cancelled");
    deliver(&lab, &lab.sandbox.take_hooks(), 1).await;
    pass(&lab).await;
    assert_eq!(lab.store.count_events().await.expect("the store answers"), events);
}

/// Given a shop with parcels from before, then nobody is told of them, and of what becomes of them only what is new.
#[tokio::test]
async fn parcels_of_the_past_reach_nobody() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatway), ("shop", Vendor::Shopify)]).await;
    lab.config.flows = vec![
        flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentUpdated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentDelivered, ActKind::Send, Some("delivered")),
    ];
    let before = lab.clock.now() - 3 * DAY;
    let id = lab.sandbox.place_order(before, "shop", &order("ana@example.test", "processing"));
    let sent: Vec<String> = ["A1", "A2"]
        .map(|number| lab.sandbox.ship_order(before + HOUR, "shop", &id, &parcel(number, &[(0, 1)])))
        .to_vec();
    lab.sandbox.set_shipment(before + DAY, "shop", &id, &sent[0], "delivered");
    lab.ana().await;
    assert!(lab.intents().await.is_empty());
    // The other one arrives now; the order itself changes for another reason.
    lab.sandbox.set_shipment(lab.clock.now(), "shop", &id, &sent[1], "delivered");
    lab.sandbox.refund_order(lab.clock.now(), "shop", &id, "5.00");
    lab.clock.advance(MINUTE);
    lab.work().await;
    let said = lab.told("chat");
    assert!(said.len() == 1 && said[0].contains("was delivered"), "{said:?}");
}

/// Given two partial refunds and then the rest, told of more than once, then there are three messages, each with what went
/// back so far; the order is not taken for unpaid or new meanwhile.
#[tokio::test]
async fn every_refund_is_told_once() {
    let lab = shop_and_chat(&[]).await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "processing"));
    deliver(&lab, &lab.sandbox.take_hooks(), 1).await;
    pass(&lab).await;
    for (amount, so_far) in [("3.00", "3.00"), ("5.00", "8.00"), ("17.00", "25.00")] {
        lab.clock.advance(HOUR);
        let before = lab.told("chat").len();
        lab.sandbox.refund_order(lab.clock.now(), "shop", &id, amount);
        deliver(&lab, &lab.sandbox.take_hooks(), 2).await;
        pass(&lab).await;
        lab.work().await;
        let said = since(&lab, before);
        assert!(said.len() == 1 && said[0].contains(so_far), "{amount}: {said:?}");
    }
    assert_eq!(lab.told("chat").len(), 5);
}

/// Given parcels that leave, change, arrive and are called off while webhooks are doubled, reordered and lost, then at the end
/// each was told of once at most, none that it left after it arrived, and everyone whose parcel arrived knows it.
#[tokio::test]
async fn whatever_is_lost_each_parcel_is_told_of_once() {
    for seed in 0..12 {
        let mut dice = Dice::new(seed);
        let lab = shop_and_chat(&[]).await;
        let order = three_things(&lab).await;
        let mut parcels: Vec<String> = Vec::new();
        let mut under_way = Vec::new();
        for step in 0..25 {
            match dice.below(6) {
                0 if parcels.len() < 4 => {
                    let new = parcel(&format!("N{step}"), &[(0, 1)]);
                    parcels.push(lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &new));
                }
                1 | 2 if !parcels.is_empty() => {
                    let number = format!("number=C{step}");
                    let state = *dice.pick(&["delivered", "delivered", "cancelled", number.as_str()]);
                    let one = dice.pick(&parcels).clone();
                    lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, &one, state);
                }
                3 => {
                    lab.work().await;
                }
                _ => {
                    under_way.extend(lab.sandbox.take_hooks());
                    under_way.retain(|_| dice.below(3) > 0);
                    under_way.reverse();
                    deliver(&lab, &under_way, 1 + dice.below(2) as usize).await;
                    pass(&lab).await;
                }
            }
            lab.clock.advance(MINUTE);
        }
        // Somebody touches the order, so that reading what changed finds everything that was lost.
        lab.sandbox.refund_order(lab.clock.now(), "shop", &order, "1.00");
        lab.clock.advance(MINUTE);
        lab.work().await;
        let sent: Vec<_> = lab.intents().await.into_iter().filter(|one| one.state == MessageState::Sent).collect();
        let place = |kind: &str, parcel: &str| {
            let key = format!("/{order}/{parcel}|shipment.{kind}|");
            let at: Vec<usize> = (0..sent.len()).filter(|at| sent[*at].key.ends_with(&key)).collect();
            assert!(at.len() <= 1, "seed {seed}: {key} twice");
            at.first().copied()
        };
        for one in &parcels {
            let (left, arrived) = (place("created", one), place("delivered", one));
            assert!(arrived.is_none() || left < arrived, "seed {seed}: {one} left after it arrived");
            assert!(left.is_some() || arrived.is_some() || dropped(&lab, &order, one).await, "seed {seed}: {one}");
        }
        lab.clock.advance(DAY);
        assert_eq!(lab.work().await, Pass::default(), "seed {seed}");
    }
}

/// Whether a parcel was called off before anybody was told of it: there is no message, or it was dropped.
async fn dropped(lab: &Lab, order: &str, parcel: &str) -> bool {
    let shown = lab.store.document("shop", "order", order).await.expect("the store answers").expect("a known order");
    let shipments = shown["shipments"].as_array().cloned().unwrap_or_default();
    shipments.iter().any(|one| one["id"] == parcel && one["status"] == "cancelled")
}
