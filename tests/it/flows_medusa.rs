//! A Medusa shop: its forwarded events reach the customer once, and its customers are kept in agreement.

use std::sync::Arc;

use counterpart::config::{load_document, load_mapping};
use counterpart::engine::Pass;
use counterpart::store::NewHook;
use counterpart_connectors::{ActKind, Clock, Connection, ConnectionSpec, Delivery, Hint, OpenGate, RefusalKind};
use counterpart_core::business::{EventKind, Order, OrderStatus};
use counterpart_sandbox::{HookDelivery, NewShipment, Vendor};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::flows::{flow, order};
use crate::real_conversations::data;
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone};

const SECRET: &str = "in-the-path";

/// A shop whose subscriber forwards its events, and a chat in which its orders are told of.
async fn shop_and_chat() -> Lab {
    let systems = [("chat", Vendor::Chatway), ("shop", Vendor::Medusa)];
    let mut lab = Lab::with_fakes(&systems, &[("shop", "webhook_secret", SECRET)]).await;
    lab.config.flows = vec![
        flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation")),
        flow(EventKind::OrderPaid, ActKind::Send, Some("payment-received")),
    ];
    lab
}

/// What receives the shop's events.
fn receiver(lab: &Lab) -> Connection {
    let config = &lab.config.connections["shop"];
    let mut secrets = config.secrets.clone();
    secrets.insert("webhook_secret".to_owned(), SecretString::from(SECRET));
    let spec = ConnectionSpec {
        name: "shop".to_owned(),
        connector: config.connector.clone(),
        settings: config.settings.clone(),
        secrets,
        manifest_dirs: Vec::new(),
    };
    Connection::open(spec, lab.network(), Arc::new(OpenGate), lab.clock.clone()).expect("the shop opens")
}

fn taken(lab: &Lab, told: &HookDelivery, secret: Option<&str>) -> Result<Vec<Hint>, RefusalKind> {
    let headers = http::HeaderMap::new();
    let url = "https://counterpart.example/hooks/shop";
    let delivery = Delivery { method: "POST", url, headers: &headers, path_secret: secret, body: &told.body };
    receiver(lab).hook(&delivery, lab.clock.now()).map(|intake| intake.hints).map_err(|refusal| refusal.kind)
}

/// Every delivery arrives twice, and only what the deliveries point at is read.
async fn twice(lab: &Lab, told: &[HookDelivery]) -> Pass {
    let mut hooks = Vec::new();
    for told in told {
        let hints = taken(lab, told, told.path_secret.as_deref()).expect("the address has the secret");
        let hints = serde_json::to_value(&hints).expect("hints are JSON");
        let body = String::from_utf8_lossy(&told.body).into_owned();
        let hook = NewHook { connection: "shop".to_owned(), hints, body };
        hooks.extend([hook.clone(), hook]);
    }
    lab.store.receive(&hooks, lab.clock.now()).await.expect("the store takes it");
    lab.sandbox.clear_log();
    let engine = lab.engine(lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    let pass = worker.pass().await.expect("it works");
    worker.close().await.expect("it ends");
    pass
}

/// Given an order whose events come twice, and come again later, then the chat has one message.
#[tokio::test]
async fn an_order_is_told_of_once_however_often_its_events_come() {
    let lab = shop_and_chat().await;
    lab.ana().await;
    lab.sandbox.take_hooks();
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    let told = lab.sandbox.take_hooks();
    let pass = twice(&lab, &told).await;
    assert_eq!((pass.events, pass.sent), (1, 1), "{pass:?} {:?}", lab.intents().await);
    let reads = lab.sandbox.log().iter().filter(|call| call.path.contains(&id)).count();
    assert_eq!(reads, 1, "an event that comes twice costs one read");
    let said = lab.told("chat");
    assert!(said.len() == 1 && said[0].contains("Ana") && said[0].contains("25.00"), "{said:?}");
    for _ in 0..3 {
        lab.clock.advance(MINUTE);
        let pass = twice(&lab, &told).await;
        assert_eq!((pass.events, pass.sent), (0, 0), "{pass:?}");
        assert_eq!(lab.writes(), 0);
        assert_eq!(lab.work().await, Pass::default(), "reading what changed finds nothing that was not known");
    }
    assert_eq!(lab.told("chat").len(), 1);
}

/// Given events that are all lost, then reading what changed finds the orders.
#[tokio::test]
async fn what_the_event_bus_lost_is_found() {
    let lab = shop_and_chat().await;
    lab.ana().await;
    for _ in 0..3 {
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
        lab.clock.advance(10 * MINUTE);
    }
    let pass = lab.work().await;
    assert_eq!((pass.events, pass.sent), (3, 3), "{pass:?}");
}

/// Given the events of a parcel and of a refund, all of them lost, then reading what changed finds both, since they touch their
/// order.
#[tokio::test]
async fn lost_events_of_parcels_and_refunds_are_found() {
    let mut lab = shop_and_chat().await;
    lab.config.flows.extend([
        flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")),
        flow(EventKind::OrderRefunded, ActKind::Send, Some("order-refunded")),
    ]);
    lab.ana().await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    assert_eq!(lab.work().await.sent, 1);
    lab.sandbox.set_order(lab.clock.now(), "shop", &id, "captured");
    assert_eq!(lab.work().await.sent, 1);
    lab.clock.advance(DAY);
    let parcel = NewShipment { number: Some("A1".to_owned()), ..NewShipment::default() };
    lab.sandbox.ship_order(lab.clock.now(), "shop", &id, &parcel);
    lab.work().await;
    assert_eq!(lab.told("chat").len(), 3, "{:?}", lab.told("chat"));
    lab.clock.advance(HOUR);
    lab.sandbox.refund_order(lab.clock.now(), "shop", &id, "5");
    lab.work().await;
    let said = lab.told("chat");
    assert!(said.len() == 4 && said[3].contains("5.00"), "{said:?}");
}

/// Given a payment, which leaves its order untouched, then it is told of with the order's next event; and nobody is
/// thanked for a payment where an order was completed without one.
#[tokio::test]
async fn a_payment_is_told_of_with_the_next_event() {
    let lab = shop_and_chat().await;
    lab.ana().await;
    let place = || lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    let (paid, unpaid) = (place(), place());
    assert_eq!(lab.work().await.sent, 2);
    for (id, status) in [(&paid, "captured"), (&paid, "completed"), (&unpaid, "completed")] {
        lab.clock.advance(MINUTE);
        lab.sandbox.set_order(lab.clock.now(), "shop", id, status);
    }
    lab.work().await;
    assert_eq!(lab.told("chat").len(), 3, "{:?}", lab.told("chat"));
}

/// Given a parcel that is packed, leaves and arrives, then it is told of when it leaves and when it arrives; what was packed and
/// called off is told to nobody.
#[tokio::test]
async fn a_parcel_is_told_of_when_it_leaves_and_not_when_it_is_packed() {
    let mut lab = shop_and_chat().await;
    lab.config.flows.extend([
        flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentUpdated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentDelivered, ActKind::Send, Some("delivered")),
    ]);
    lab.ana().await;
    let order = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    twice(&lab, &lab.sandbox.take_hooks()).await;
    let packed = |number: &str| NewShipment {
        number: Some(number.to_owned()),
        url: Some(format!("https://track.example/{number}")),
        items: vec![(0, 1)],
        packed: true,
        ..NewShipment::default()
    };
    let parcels = ["A1", "A2", "A3"].map(|number| {
        lab.clock.advance(MINUTE);
        lab.sandbox.ship_order(lab.clock.now(), "shop", &order, &packed(number))
    });
    for (parcel, state, says) in [
        (&parcels[2], "cancelled", None),
        (&parcels[0], "shipped", Some("A1")),
        (&parcels[1], "shipped", Some("https://track.example/A2")),
        (&parcels[0], "delivered", Some("was delivered")),
        (&parcels[0], "delivered", None),
    ] {
        lab.clock.advance(HOUR);
        let before = lab.told("chat").len();
        lab.sandbox.set_shipment(lab.clock.now(), "shop", &order, parcel, state);
        let mut told = lab.sandbox.take_hooks();
        told.reverse();
        twice(&lab, &told).await;
        let said = lab.told("chat").split_off(before);
        assert_eq!(said.len(), usize::from(says.is_some()), "{state}: {said:?}");
        assert!(says.is_none_or(|says| said[0].contains(says) && said[0].contains("Ana")), "{said:?}");
    }
    lab.clock.advance(DAY);
    assert_eq!(lab.work().await, Pass::default());
}

/// Given refunds, then the payment's event tells of each.
#[tokio::test]
async fn every_refund_is_told_once() {
    let mut lab = shop_and_chat().await;
    lab.config.flows.push(flow(EventKind::OrderRefunded, ActKind::Send, Some("order-refunded")));
    lab.ana().await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "captured"));
    twice(&lab, &lab.sandbox.take_hooks()).await;
    assert_eq!(lab.told("chat").len(), 2);
    for (at, (amount, so_far)) in [("3", "3.00"), ("5", "8.00"), ("17", "25.00")].into_iter().enumerate() {
        lab.clock.advance(HOUR);
        lab.sandbox.refund_order(lab.clock.now(), "shop", &id, amount);
        twice(&lab, &lab.sandbox.take_hooks()).await;
        let said = lab.told("chat");
        assert!(said.len() == 3 + at && said[2 + at].contains(so_far), "{said:?}");
    }
}

/// Given a wrong address, then nothing is taken.
#[tokio::test]
async fn an_event_without_the_secret_is_refused() {
    let lab = shop_and_chat().await;
    lab.add("shop", &someone("Ana", "Lind", "ana@example.test"));
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    let told = lab.sandbox.take_hooks();
    assert_eq!(taken(&lab, &told[0], None), Err(RefusalKind::MissingSignature));
    assert_eq!(taken(&lab, &told[0], Some("in-the-pat")), Err(RefusalKind::WrongSignature));
    let hints: Vec<Hint> = told.iter().flat_map(|told| taken(&lab, told, Some(SECRET)).expect("it is taken")).collect();
    let streams: Vec<&str> = hints.iter().map(|hint| hint.stream.as_str()).collect();
    assert_eq!(streams, ["contact", "order"]);
}

/// Given people on both sides, then everybody is everywhere, edits go both ways, and a run without news writes nothing.
#[tokio::test]
async fn customers_are_kept_in_agreement_both_ways() {
    let lab = Lab::new(&[("house", Vendor::Crm), ("shop", Vendor::Medusa)]).await;
    lab.people_at("house", 6, 0);
    lab.people_at("shop", 6, 3);
    // The shop has her in its own spelling.
    lab.add("house", &someone("Ana", "Lind", "ana@example.test"));
    lab.add("shop", &someone("Ana", "Lind", "Ana@Example.test"));
    lab.run().await;
    assert_eq!((lab.people("house").len(), lab.people("shop").len()), (10, 10));
    lab.clock.advance(HOUR);
    lab.run().await;
    assert_eq!(lab.writes(), 0, "{:?}", lab.sandbox.log());

    let (house, shop) = ("person1@example.test", "person8@example.test");
    lab.edit("house", &lab.person("house", house).id, "company", Some("Fjord AB"));
    lab.edit("shop", &lab.person("shop", shop).id, "phone", Some("+46701112233"));
    lab.clock.advance(HOUR);
    lab.run().await;
    assert_eq!(lab.writes(), 2);
    assert_eq!(lab.company("shop", house).as_deref(), Some("Fjord AB"));
    assert_eq!(lab.person("house", shop).phone.as_deref(), Some("+46701112233"));
    lab.clock.advance(DAY);
    lab.assert_quiet().await;
}

/// A record as a real server answered it, read as an order: its draft, which has everything but currency and payment.
#[tokio::test]
async fn the_captured_order_is_read() {
    let lab = shop_and_chat().await;
    let shop = &lab.config.connections["shop"];
    assert!(load_mapping(&lab.config, shop).is_ok());
    let document = load_document(&lab.config, shop, "order").expect("it is sound").expect("it is shipped");
    let Some(path) = data("captured/medusa_draft_order_response.json") else { return };
    let answer = std::fs::read_to_string(path).expect("readable");
    let mut body: Value = serde_json::from_str(&answer).expect("it is JSON");
    let mut record = body["draft_order"].take();
    record["currency_code"] = json!("brl");
    record["payment_status"] = json!("captured");
    let draft: Order = document.read("order_01M7X74MC1WCBC86NKT972ZBV4", &record);
    assert_eq!(draft.status, OrderStatus::Draft);
    record["status"] = json!("pending");
    let order: Order = document.read("order_01M7X74MC1WCBC86NKT972ZBV4", &record);
    assert_eq!((order.number.as_str(), order.status), ("1", OrderStatus::Paid));
    assert_eq!((order.total.as_deref(), order.currency.as_deref()), (Some("39.8"), Some("BRL")));
    assert_eq!((order.placed_at, order.refunded_total), (Some(1_795_203_158_405), None));
    let customer = order.customer;
    assert_eq!(customer.email.as_deref(), Some("ana@example.test"));
    assert_eq!((customer.given_name.as_deref(), customer.country.as_deref()), (Some("Ana"), Some("BR")));
    assert_eq!(customer.phone.as_deref(), Some("+55 11 91234-5678"));
    let item = &order.items[0];
    assert_eq!(
        (item.name.as_str(), item.quantity.as_deref(), item.price.as_deref()),
        ("Widget", Some("2"), Some("19.9"))
    );
}
