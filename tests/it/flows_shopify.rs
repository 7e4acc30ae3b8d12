//! Orders of a Shopify shop that reach the customer in a chat: once, whatever the webhooks and the limit do.

use std::sync::Arc;

use counterpart::engine::Pass;
use counterpart::store::NewHook;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{ActKind, Clock, Connection, ConnectionSpec, Delivery, OpenGate};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{HookDelivery, Vendor};

use crate::flows::{flow, order};
use crate::requirements::lab::{HOUR, Lab, MINUTE};

const SECRET: &str = "s3cret";
const TOPICS: &str = "orders/create,orders/updated,orders/paid,orders/cancelled,orders/fulfilled";

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
