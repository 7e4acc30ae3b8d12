//! A vendor that hangs, a backlog for which nobody waits, and a long first reading keep no customer waiting elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::store::{HookState, MessageState};
use counterpart_connectors::{ActKind, Clock, Transport, TransportError};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, Vendor};

use crate::flows::{flow, order, shop_and_chat};
use crate::flows_tickets::{chat_and_desk, on};
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone};
use crate::sim::{InProcess, SimClock};
use crate::storefront::hook;

/// Calls to one system time out after half a minute each.
struct Hanging {
    network: Arc<InProcess>,
    clock: Arc<SimClock>,
    system: &'static str,
    calls: AtomicU64,
}

impl Hanging {
    fn at(lab: &Lab, system: &'static str) -> Arc<Hanging> {
        Arc::new(Hanging { network: lab.network(), clock: lab.clock.clone(), system, calls: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Transport for Hanging {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        if request.uri().path().split('/').nth(1) != Some(self.system) {
            return self.network.send(request).await;
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.clock.advance(MINUTE / 2);
        Err(TransportError::NoAnswer { reason: "timed out".to_owned() })
    }
}

/// Given a chat that hangs, with thirty messages due, then a pass asks it about one of them and ends, and what is due at
/// another chat is sent.
#[tokio::test]
async fn a_chat_that_hangs_holds_up_no_other() {
    let mut lab =
        Lab::new(&[("chat", Vendor::Chatwoot), ("other", Vendor::Chatway), ("shop", Vendor::Woocommerce)]).await;
    let send = flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"));
    let mut elsewhere = send.clone();
    elsewhere.name = "elsewhere".to_owned();
    elsewhere.to = "other".to_owned();
    lab.config.flows = vec![send, elsewhere];
    for system in ["chat", "other"] {
        let person = lab.add(system, &someone("Ana", "Lind", "ana@example.test"));
        lab.sandbox.open_chat(lab.clock.now(), system, &person, Some("Hello?"));
    }
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    for _ in 0..30 {
        let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.store.receive(&[hook("shop", "order", &id)], lab.clock.now()).await.expect("on disk");
    }
    let hanging = Hanging::at(&lab, "chat");
    let engine = lab.engine(hanging.clone());
    let worker = engine.worker().await.expect("nobody else works");
    let pass = worker.pass().await.expect("it works");
    assert_eq!((pass.hooks, pass.sent), (30, 30), "{pass:?}");
    let calls = hanging.calls.load(Ordering::SeqCst);
    assert!(calls <= 5, "one question, with its repetitions: {calls}");
    worker.close().await.expect("it ends");
    lab.clock.advance(HOUR);
    assert_eq!(lab.work().await.sent, 30, "{:?}", lab.intents().await);
    assert_eq!((lab.told("chat").len(), lab.told("other").len()), (30, 30));
}

/// Given a shop that answers nothing for three hours, then no webhook is given up, and each pass asks for one record.
#[tokio::test]
async fn webhooks_outlast_an_outage() {
    let lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.ana().await;
    for _ in 0..5 {
        let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.store.receive(&[hook("shop", "order", &id)], lab.clock.now()).await.expect("on disk");
    }
    let hanging = Hanging::at(&lab, "shop");
    let engine = lab.engine(hanging.clone());
    let worker = engine.worker().await.expect("nobody else works");
    let dawn = lab.clock.now() + 3 * HOUR;
    while lab.clock.now() < dawn {
        let before = hanging.calls.load(Ordering::SeqCst);
        worker.pass().await.expect("it works");
        assert!(hanging.calls.load(Ordering::SeqCst) - before <= 5, "a vendor that hangs is asked once");
        lab.clock.advance(MINUTE);
    }
    worker.close().await.expect("it ends");
    let failed = lab.store.hooks(Some(HookState::Failed), 0, 100).await.expect("the store answers");
    assert!(failed.is_empty(), "{failed:?}");
    lab.clock.advance(5 * MINUTE);
    let pass = lab.work().await;
    assert_eq!((pass.hooks, pass.sent), (5, 5), "{pass:?}");
}

/// Given twenty chats that are to be resolved at a slow vendor, when somebody orders meanwhile, then they are told before the
/// next chat is resolved.
#[tokio::test]
async fn a_customer_is_told_before_chats_are_resolved() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatway), ("desk", Vendor::Rt), ("shop", Vendor::Woocommerce)]).await;
    lab.config.flows = vec![
        on(EventKind::TicketClosed, ActKind::Resolve),
        flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation")),
    ];
    let chat = lab.ana().await;
    let ana = lab.sandbox.chats("chat")[0].person.clone();
    let mut tickets = Vec::new();
    for _ in 0..20 {
        let chat = lab.sandbox.open_chat(lab.clock.now(), "chat", &ana, Some("Hello?"));
        lab.clock.advance(MINUTE);
        lab.says(&chat, Author::Agent);
        tickets.push(lab.ticket(Some(&chat)));
    }
    lab.later().await;
    tickets.iter().for_each(|ticket| lab.desk(ticket, "solved"));
    lab.clock.advance(3 * MINUTE);
    let engine = lab.engine(lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    worker.read().await.expect("it reads");
    worker.turn("desk").await.expect("it works");
    let resolved = worker.turn("chat").await.expect("it works");
    assert!(resolved.pass.resolved == 1 && resolved.more, "{resolved:?} {chat}");
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
    lab.store.receive(&[hook("shop", "order", &id)], lab.clock.now()).await.expect("on disk");
    worker.turn("shop").await.expect("it works");
    let told = worker.turn("chat").await.expect("it works");
    assert_eq!((told.pass.sent, lab.told("chat").len()), (1, 21), "{told:?}");
    assert_eq!(worker.pass().await.expect("it works").resolved, 18);
    worker.close().await.expect("it ends");
}

/// Given a vendor that fails to resolve one chat each time, then it is tried a few times, later each time, and left to a person.
#[tokio::test]
async fn what_never_works_is_left_to_a_person() {
    let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Rt).await;
    lab.set("desk", "queue", "General".into());
    let chat = lab.answered_chat().await;
    let ticket = lab.ticket(Some(&chat));
    lab.later().await;
    lab.desk(&ticket, "solved");
    for _ in 0..40 {
        lab.clock.advance(5 * MINUTE);
        let engine = lab.engine(Arc::new(Refusing { network: lab.network() }));
        let worker = engine.worker().await.expect("nobody else works");
        worker.read().await.expect("it reads");
        worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
    }
    let intent = lab.intents().await.pop().expect("an intent");
    assert_eq!((intent.state, intent.attempts), (MessageState::Unknown, 5), "{intent:?}");
    // Somebody does it by hand.
    lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
    lab.clock.advance(2 * HOUR);
    assert_eq!(lab.work().await.resolved, 1, "{:?}", lab.last().await);
}

/// A chat that cannot be resolved.
struct Refusing {
    network: Arc<InProcess>,
}

#[async_trait]
impl Transport for Refusing {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        if request.method() == http::Method::POST && request.uri().path().ends_with("/toggle_status") {
            let answer = http::Response::builder().status(500).header("content-type", "application/json");
            return Ok(answer.body(Bytes::from_static(b"{\"error\":\"no\"}")).expect("an answer"));
        }
        self.network.send(request).await
    }
}

/// Given a shop whose first reading takes hundreds of pages, when somebody orders meanwhile and no webhook tells of it, then
/// the order is told of long before everything has been read, and nothing of the history is.
#[tokio::test]
async fn a_long_first_reading_hides_no_news() {
    for shop in [Vendor::Woocommerce, Vendor::Medusa, Vendor::Shopify] {
        let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("shop", shop)]).await;
        lab.config.flows = vec![flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"))];
        lab.set("shop", "page_size", 2.into());
        let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?"));
        lab.run().await;
        for _ in 0..200 {
            lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
            lab.clock.advance(MINUTE);
        }
        lab.clock.advance(HOUR);
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        worker.read_some("chat", None).await.expect("it reads");
        assert!(!worker.read_some("shop", None).await.expect("it reads").is_empty(), "there is more to be read");
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.clock.advance(MINUTE);
        let mut more = worker.read_some("shop", None).await.expect("it reads");
        assert_eq!(worker.pass().await.expect("it works").sent, 1, "{shop:?} {:?}", lab.intents().await);
        while !more.is_empty() {
            more = worker.read_some("shop", Some(&more)).await.expect("it reads");
        }
        worker.pass().await.expect("it works");
        assert_eq!(lab.told("chat").len(), 1, "{shop:?}: history reaches nobody");
        lab.clock.advance(MINUTE);
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.clock.advance(MINUTE);
        assert!(worker.read_some("shop", None).await.expect("it reads").is_empty(), "{shop:?}: all is read");
        worker.pass().await.expect("it works");
        assert_eq!(lab.told("chat").len(), 2, "{shop:?}");
        worker.close().await.expect("it ends");
    }
}

/// Given a system that hangs, then a reading of it is over, and begins anew with the next poll.
#[tokio::test]
async fn a_reading_that_fails_is_not_made_again_at_once() {
    let lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.ana().await;
    let hanging = Hanging::at(&lab, "shop");
    let engine = lab.engine(hanging.clone());
    let worker = engine.worker().await.expect("nobody else works");
    let more = worker.read_some("shop", None).await.expect("it is told in the report");
    assert!(more.is_empty() && hanging.calls.load(Ordering::SeqCst) > 0, "{more:?}");
    worker.close().await.expect("it ends");
}

/// Given a chat with a thousand conversations that are read for the first time, then each page is read once, and between
/// portions only the newest pages are.
#[tokio::test]
async fn what_is_read_in_portions_is_read_once() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("shop", Vendor::Woocommerce)]).await;
    lab.config.flows = vec![flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"))];
    let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
    for _ in 0..1_000 {
        lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?"));
        lab.clock.advance(MINUTE / 30);
    }
    lab.run().await;
    lab.sandbox.clear_log();
    let engine = lab.engine(lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    let (mut portions, mut more) = (0, vec!["conversation".to_owned()]);
    while !more.is_empty() {
        more = worker.read_some("chat", Some(&more)).await.expect("it reads");
        portions += 1;
    }
    worker.close().await.expect("it ends");
    let known = lab.store.counts("chat", "conversation").await.expect("a count");
    let calls = lab.sandbox.log().iter().filter(|call| call.instance == "chat").count();
    assert_eq!(known.live, 1_000);
    assert!(portions >= 2 && calls <= 1_000 / 25 + 3 * portions, "{calls} calls in {portions} portions");
}
