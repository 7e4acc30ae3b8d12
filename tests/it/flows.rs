//! Business events that reach the customer: once, in the right chat, or with a reason why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::config::{Config, FlowConfig, Link};
use counterpart::engine::{Pass, silent_streams};
use counterpart::store::{Message, MessageState, NewHook};
use counterpart_connectors::{ActKind, Clock, Transport, TransportError};
use counterpart_core::business::EventKind;
use counterpart_core::gate::Policy;
use counterpart_sandbox::{Author, Faults, NewOrder, NewShipment, Sandbox, Vendor};
use serde_json::json;

use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone};
use crate::sim::InProcess;

/// A shop whose orders are told of in a chat.
pub async fn shop_and_chat(chat: Vendor) -> Lab {
    let mut lab = Lab::new(&[("chat", chat), ("shop", Vendor::Woocommerce)]).await;
    lab.config.flows = vec![
        flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation")),
        flow(EventKind::OrderPaid, ActKind::Send, Some("payment-received")),
        flow(EventKind::OrderCancelled, ActKind::Send, Some("order-cancelled")),
    ];
    lab
}

pub fn flow(on: EventKind, act: ActKind, template: Option<&str>) -> FlowConfig {
    FlowConfig {
        name: format!("{on} {}", act.word()),
        on,
        from: "shop".to_owned(),
        act,
        to: "chat".to_owned(),
        fields: std::collections::BTreeMap::new(),
        template: template.map(str::to_owned),
        link: Link::Explicit,
        fallback: None,
        when: None,
        gate: Policy::default(),
    }
}

pub fn order(email: &str, status: &str) -> NewOrder {
    NewOrder {
        email: Some(email.to_owned()),
        phone: None,
        given: "Ana".to_owned(),
        family: "Lind".to_owned(),
        customer: None,
        status: status.to_owned(),
        currency: "EUR".to_owned(),
        items: vec![("Cup".to_owned(), 2, "12.50".to_owned())],
        country: Some("SE".to_owned()),
    }
}

impl Lab {
    /// Reads what the flows live on and does what is due.
    pub async fn work(&self) -> Pass {
        self.sandbox.clear_log();
        let engine = self.engine(self.network());
        let worker = engine.worker().await.expect("nobody else works");
        worker.read().await.expect("it reads");
        let pass = worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
        pass
    }

    /// A pass of which only what comes after the reading goes through `faults`.
    pub async fn faulty(&self, faults: &str) {
        let engine = self.engine(self.network());
        let worker = engine.worker().await.expect("nobody else works");
        worker.read().await.expect("it reads");
        self.faults(faults);
        worker.pass().await.expect("it works");
        self.faults("none");
        worker.close().await.expect("it ends");
    }

    /// The same, where only what is written goes through `faults`.
    pub async fn ailing(&self, faults: &'static str) {
        let ailing = Ailing { network: self.network(), sandbox: self.sandbox.clone(), faults };
        let engine = self.engine(Arc::new(ailing));
        let worker = engine.worker().await.expect("nobody else works");
        worker.read().await.expect("it reads");
        worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
    }

    /// Public words of the team in a chat.
    pub fn told(&self, system: &str) -> Vec<String> {
        let all = self.sandbox.chat_messages(system).into_iter();
        all.filter(|message| !message.private && message.author != Author::Customer).map(|m| m.text).collect()
    }

    pub async fn intents(&self) -> Vec<Message> {
        self.store.messages(None, 0, 10_000).await.expect("the store answers")
    }

    /// Ana, who is known at both and has written in the chat.
    pub async fn ana(&self) -> String {
        let person = self.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        let chat = self.sandbox.open_chat(self.clock.now(), "chat", &person, Some("Hello?"));
        self.run().await;
        self.work().await;
        self.clock.advance(HOUR);
        chat
    }
}

/// Given a checkout page that somebody left open, then nobody is thanked; when the order is placed at last, they are, although
/// the order is as old as its draft.
#[tokio::test]
async fn a_draft_of_a_checkout_is_no_order_yet() {
    let (lists, empty): (&[_], &[_]) = (&[("shop", "lists_drafts", "true")], &[]);
    for (settings, drafts) in [(lists, 2), (empty, 0)] {
        let systems = [("chat", Vendor::Chatway), ("shop", Vendor::Woocommerce)];
        let mut lab = Lab::with_fakes(&systems, settings).await;
        lab.config.flows = shop_and_chat(Vendor::Chatway).await.config.flows;
        let history = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "checkout-draft"));
        lab.ana().await;
        let abandoned = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "checkout-draft"));
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "auto-draft"));
        let pass = lab.work().await;
        assert_eq!((pass.events, pass.sent), (drafts, 0), "{pass:?} {:?}", lab.intents().await);
        lab.clock.advance(20 * HOUR);
        lab.sandbox.set_order(lab.clock.now(), "shop", &abandoned, "pending");
        assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
        assert!(lab.told("chat")[0].contains(&abandoned));
        if drafts > 0 {
            // Draft and order are more than the longest age of a message apart.
            lab.clock.advance(2 * DAY);
            lab.sandbox.set_order(lab.clock.now(), "shop", &history, "pending");
            assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
        }
        lab.clock.advance(HOUR);
        assert_eq!(lab.work().await, Pass::default());
    }
}

/// Given orders that the shop throws into its trash, then no customer hears that theirs was cancelled, nor when they come back.
#[tokio::test]
async fn the_trash_is_no_cancellation() {
    let lab = shop_and_chat(Vendor::Chatway).await;
    lab.ana().await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "processing"));
    lab.work().await;
    let told = lab.told("chat").len();
    for status in ["trash", "processing"] {
        lab.clock.advance(HOUR);
        lab.sandbox.set_order(lab.clock.now(), "shop", &id, status);
        let hints = json!([{ "stream": "order", "external_id": id, "topic": "order.deleted", "deleted": true }]);
        let hook = NewHook { connection: "shop".to_owned(), hints, body: String::new() };
        lab.store.receive(&[hook], lab.clock.now()).await.expect("the store takes it");
        let pass = lab.work().await;
        assert_eq!((pass.hooks, pass.events, lab.told("chat").len()), (1, 0, told), "{status}: {pass:?}");
    }
    lab.clock.advance(HOUR);
    lab.sandbox.set_order(lab.clock.now(), "shop", &id, "cancelled");
    assert_eq!(lab.work().await.sent, 1);
}

/// Given a person with an open chat who orders, then the chat has one message for each milestone, whatever comes again.
#[tokio::test]
async fn r57_an_order_that_passes_a_state_twice_is_told_of_once() {
    for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
        let lab = shop_and_chat(vendor).await;
        lab.ana().await;
        let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
        let pass = lab.work().await;
        assert_eq!((pass.events, pass.sent), (1, 1), "{vendor:?} {pass:?} {:?}", lab.intents().await);
        for status in ["processing", "pending", "processing", "processing"] {
            lab.clock.advance(MINUTE);
            lab.sandbox.set_order(lab.clock.now(), "shop", &id, status);
            lab.work().await;
        }
        let told = lab.told("chat");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains(&id) && told[1].contains("25.00"), "{told:?}");
        lab.clock.advance(DAY);
        assert_eq!(lab.work().await, Pass::default());
    }
}

/// Given a shop with years of orders, when it is first connected, then nobody is told of anything.
#[tokio::test]
async fn r59_history_reaches_nobody() {
    let lab = shop_and_chat(Vendor::Chatway).await;
    let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
    lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?"));
    for status in ["pending", "processing", "completed", "cancelled", "refunded"] {
        lab.sandbox.place_order(lab.clock.now() - DAY, "shop", &order("ana@example.test", status));
    }
    lab.run().await;
    let first = lab.work().await;
    assert!(first.events >= 8 && first.sent == 0, "{first:?}");
    assert!(lab.intents().await.is_empty() && lab.told("chat").is_empty());
    lab.clock.advance(HOUR);
    assert_eq!(lab.work().await, Pass::default());
}

/// Given nobody to write to, then the message waits with its reason, goes out when they come, and is dropped when it is old.
#[tokio::test]
async fn a_message_waits_for_its_reader() {
    let lab = shop_and_chat(Vendor::Chatway).await;
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("bob@example.test", "pending"));
    lab.work().await;
    let waiting = lab.intents().await;
    assert!(
        waiting.iter().all(|m| m.state == MessageState::Held && m.reason.as_deref() == Some("no_route")),
        "{waiting:?}"
    );
    let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
    lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Where is my order?"));
    lab.run().await;
    lab.clock.advance(HOUR);
    lab.work().await;
    assert_eq!(lab.told("chat").len(), 1);
    lab.clock.advance(DAY);
    lab.work().await;
    let states: Vec<_> = lab.intents().await.into_iter().map(|m| (m.state, m.reason)).collect();
    assert_eq!(states[0].0, MessageState::Sent);
    assert_eq!(states[1], (MessageState::Dropped, Some("no_route".to_owned())));
}

/// Given a person whom the chat knows and who never wrote, then a conversation is begun where the inbox for it is set, and
/// only one, also when nobody knows whether the first attempt arrived.
#[tokio::test]
async fn a_conversation_is_begun_where_that_is_set() {
    for faults in ["none", "cut_after=1", "error_after=1"] {
        let mut lab = shop_and_chat(Vendor::Chatwoot).await;
        lab.set("chat", "inbox_id", serde_json::json!("1"));
        lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        lab.run().await;
        lab.work().await;
        lab.clock.advance(HOUR);
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.ailing(faults).await;
        assert_eq!(lab.sandbox.chats("chat").len(), 1, "{faults}: {:?}", lab.intents().await);
        lab.clock.advance(10 * MINUTE);
        lab.work().await;
        assert_eq!(lab.told("chat").len(), 1, "{faults}: {:?}", lab.intents().await);
        assert_eq!(lab.sandbox.chats("chat").len(), 1);
        assert_eq!(lab.intents().await[0].state, MessageState::Sent);
        // The next milestone goes into the conversation that was begun.
        lab.sandbox.set_order(lab.clock.now(), "shop", &lab.sandbox.orders("shop")[0].id, "processing");
        lab.clock.advance(MINUTE);
        lab.work().await;
        assert_eq!((lab.told("chat").len(), lab.sandbox.chats("chat").len()), (2, 1), "{faults}");
    }
}

/// Given webhooks that are all lost, and no further event of those orders, then reading what changed finds every one.
#[tokio::test]
async fn r18_r19_r20_what_webhooks_lost_is_found() {
    let lab = shop_and_chat(Vendor::Chatway).await;
    lab.ana().await;
    for _ in 0..7 {
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.clock.advance(10 * MINUTE);
    }
    assert!(lab.sandbox.take_hooks().is_empty(), "nothing is registered: nothing was ever told");
    let pass = lab.work().await;
    assert_eq!((pass.events, pass.sent), (7, 7));
}

/// Only messages, and conversations that begin with one, meet these faults; what is asked before them is answered.
pub struct Ailing {
    pub network: Arc<InProcess>,
    pub sandbox: Arc<Sandbox>,
    pub faults: &'static str,
}

#[async_trait]
impl Transport for Ailing {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let path = request.uri().path();
        let writes = path.ends_with("/messages") || path.ends_with("/conversations");
        if request.method() != http::Method::POST || !writes {
            return self.network.send(request).await;
        }
        self.sandbox.set_faults(Faults::parse(self.faults).expect("faults by their names"));
        let answer = self.network.send(request).await;
        self.sandbox.set_faults(Faults::none());
        answer
    }
}

/// Given a send whose answer never comes, or is a 500, then there is one attempt, no blind retry, and one message.
#[tokio::test]
async fn r56_r58_a_send_without_an_answer_is_looked_for_first() {
    for (faults, arrived) in [("cut_after=1", 1), ("error_after=1", 1), ("cut_before=1", 0), ("5xx=1", 0)] {
        for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
            let lab = shop_and_chat(vendor).await;
            lab.ana().await;
            lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
            lab.sandbox.clear_log();
            lab.ailing(faults).await;
            let posts = |lab: &Lab| {
                let is_send = |path: &str| path.ends_with("/messages");
                lab.sandbox.log().iter().filter(|call| call.method == "POST" && is_send(&call.path)).count()
            };
            assert_eq!((posts(&lab), lab.told("chat").len()), (1, arrived), "{vendor:?} {faults}");
            let state = lab.intents().await[0].state;
            assert_eq!(state, MessageState::Unknown, "{vendor:?} {faults}");
            let engine = lab.engine(lab.network());
            let worker = engine.worker().await.expect("nobody else works");
            worker.pass().await.expect("it works");
            assert_eq!(posts(&lab), 1, "it is too early to tell");
            lab.clock.advance(10 * MINUTE);
            worker.pass().await.expect("it works");
            worker.close().await.expect("it ends");
            assert_eq!((posts(&lab), lab.told("chat").len()), (2 - arrived, 1), "{vendor:?} {faults}");
            assert_eq!(lab.intents().await[0].state, MessageState::Sent);
        }
    }
}

/// Messages in a chat are answered with a status although the chat is there.
struct Denying {
    network: Arc<InProcess>,
    status: u16,
    denied: AtomicU64,
}

#[async_trait]
impl Transport for Denying {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        if request.method() != http::Method::POST || !request.uri().path().ends_with("/messages") {
            return self.network.send(request).await;
        }
        self.denied.fetch_add(1, Ordering::SeqCst);
        let answer = http::Response::builder().status(self.status).header("content-type", "application/json");
        Ok(answer.body(Bytes::from_static(b"{\"error\":\"no\"}")).expect("an answer"))
    }
}

impl Lab {
    /// A pass in which messages are answered with this status; how many were.
    async fn denied(&self, status: u16) -> (Pass, u64) {
        let network = Arc::new(Denying { network: self.network(), status, denied: AtomicU64::new(0) });
        let engine = self.engine(network.clone());
        let worker = engine.worker().await.expect("nobody else works");
        worker.read().await.expect("it reads");
        let pass = worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
        (pass, network.denied.load(Ordering::SeqCst))
    }
}

/// Given a message that is answered 404 although its chat is there, then the chat is not forgotten, and the message goes there
/// later.
#[tokio::test]
async fn a_chat_that_is_there_is_not_forgotten() {
    let lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.ana().await;
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    assert_eq!(lab.denied(404).await.1, 1);
    let held = lab.intents().await.remove(0);
    assert_eq!(held.state, MessageState::Held, "{held:?}");
    assert!(held.reason.as_deref().is_some_and(|reason| reason.contains("the conversation is there")), "{held:?}");
    lab.clock.advance(HOUR);
    assert_eq!((lab.work().await.sent, lab.told("chat").len()), (1, 1), "{:?}", lab.intents().await);
}

/// Given a right that is missing, then the message is refused with the reason, for a person to see, and tried no more.
#[tokio::test]
async fn a_missing_right_is_told_of() {
    for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
        let lab = shop_and_chat(vendor).await;
        lab.ana().await;
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
        let (pass, denied) = lab.denied(403).await;
        assert_eq!((pass.refused, denied), (1, 1), "{vendor:?} {pass:?}");
        let refused = lab.intents().await.remove(0);
        assert_eq!(refused.state, MessageState::Refused);
        assert!(refused.reason.as_deref().is_some_and(|reason| reason.contains("403")), "{refused:?}");
        lab.clock.advance(HOUR);
        assert_eq!(lab.denied(403).await.1, 0, "{vendor:?}");
    }
}

/// Given an order at night, then its message waits for the first minute of the morning, where the customer is.
#[tokio::test]
async fn r63_a_message_waits_for_the_morning() {
    let mut lab = shop_and_chat(Vendor::Chatway).await;
    let quiet =
        toml::from_str("quiet = { hours = '21:00-08:00', fallback_zone = 'Europe/Stockholm' }").expect("a policy");
    lab.config.flows.iter_mut().for_each(|flow| flow.gate = Policy::clone(&quiet));
    lab.ana().await;
    // 23:30 in Stockholm.
    let midnight = lab.clock.now() / DAY * DAY + DAY;
    lab.clock.advance(midnight + 21 * HOUR + 30 * MINUTE - lab.clock.now());
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
    lab.work().await;
    let held = lab.intents().await.remove(0);
    assert_eq!((held.state, held.reason.as_deref()), (MessageState::Held, Some("quiet_hours")));
    assert_eq!(held.until, midnight + 30 * HOUR, "eight o'clock there is six o'clock UTC in summer");
    lab.clock.advance(held.until - lab.clock.now() - 1);
    lab.work().await;
    assert!(lab.told("chat").is_empty());
    lab.clock.advance(1);
    lab.work().await;
    assert_eq!(lab.told("chat").len(), 1);
    assert!(lab.told("chat")[0].contains(&id));
}

/// Given our own message coming back as news of its conversation, then nothing follows from it.
#[tokio::test]
async fn r37_our_own_message_is_no_event() {
    let mut lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.config
        .flows
        .push(FlowConfig { from: "chat".to_owned(), ..flow(EventKind::ConversationResolved, ActKind::Note, None) });
    lab.ana().await;
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
    assert_eq!(lab.work().await.sent, 1);
    for _ in 0..3 {
        lab.clock.advance(HOUR);
        assert_eq!(lab.work().await, Pass::default());
        assert_eq!(lab.writes(), 0);
    }
}

/// Given a page that was on its way while a webhook's record was read again, then the older state does not come back.
#[tokio::test]
async fn an_old_page_does_not_undo_a_newer_reading() {
    let lab = shop_and_chat(Vendor::Chatway).await;
    let now = lab.clock.now();
    let row = |status: &str, at| counterpart::store::Incoming {
        external_id: "7".to_owned(),
        remote: "{}".to_owned(),
        fields: format!("{{\"id\":\"7\",\"status\":\"{status}\"}}"),
        fingerprint: status.to_owned(),
        remote_updated_at: Some(at),
        version: None,
        deleted: false,
    };
    for (shown, at, kept) in [("created", 1_000, "created"), ("paid", 3_000, "paid"), ("created", 2_000, "paid")] {
        lab.store.observe_one("shop", "order", &row(shown, at), now).await.expect("it is stored");
        let known = lab.store.document("shop", "order", "7").await.expect("the store answers").expect("a known order");
        assert_eq!(known["status"], kept, "{shown} at {at}");
    }
}

/// Given a shop that always had orders and tells of none any more, then that is said until it does again.
#[tokio::test]
async fn r72_a_source_that_falls_silent_is_told_of() {
    let lab = shop_and_chat(Vendor::Chatway).await;
    lab.ana().await;
    let silent = async || {
        let found = silent_streams(&lab.store, &lab.config, lab.clock.now()).await.expect("the store answers");
        found.into_iter().map(|silence| (silence.connection, silence.stream, silence.usual_ms)).collect::<Vec<_>>()
    };
    let ordered = async |hours: i64| {
        lab.clock.advance(hours * HOUR);
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        lab.work().await;
    };
    for _ in 0..25 {
        ordered(8).await;
        assert_eq!(silent().await, []);
    }
    lab.clock.advance(16 * HOUR);
    lab.work().await;
    assert_eq!(silent().await, []);
    lab.clock.advance(HOUR);
    lab.work().await;
    assert_eq!(silent().await, [("shop".to_owned(), "order".to_owned(), 8 * HOUR)]);
    ordered(0).await;
    assert_eq!(silent().await, []);
}

/// Given tracking numbers that the extension Shipment Tracking keeps in an order, then each is a parcel that is told of once;
/// those of orders from before are not.
#[tokio::test]
async fn tracking_numbers_in_an_order_are_parcels() {
    let mut lab = shop_and_chat(Vendor::Chatway).await;
    lab.config.flows = vec![
        flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")),
        flow(EventKind::ShipmentUpdated, ActKind::Send, Some("shipped")),
    ];
    let parcel = |number: &str, url: Option<&str>| NewShipment {
        number: Some(number.to_owned()),
        carrier: Some("Bring".to_owned()),
        url: url.map(str::to_owned),
        ..NewShipment::default()
    };
    let id = lab.sandbox.place_order(lab.clock.now() - DAY, "shop", &order("ana@example.test", "processing"));
    lab.sandbox.ship_order(lab.clock.now() - HOUR, "shop", &id, &parcel("OLD", None));
    lab.ana().await;
    lab.sandbox.ship_order(lab.clock.now(), "shop", &id, &parcel("A1", None));
    let wrong = lab.sandbox.ship_order(lab.clock.now(), "shop", &id, &parcel("A2", Some("https://track.example/A2")));
    lab.clock.advance(MINUTE);
    assert_eq!(lab.work().await.sent, 2);
    let said = lab.told("chat");
    assert!(said[0].contains("A1") && said[0].contains("bring") && said[0].contains(&id), "{said:?}");
    assert!(said[1].contains("https://track.example/A2") && said[1].contains("Bring"), "{said:?}");
    // A number is corrected by taking it away and adding another.
    lab.sandbox.set_shipment(lab.clock.now(), "shop", &id, &wrong, "number=A3");
    lab.clock.advance(MINUTE);
    assert_eq!(lab.work().await.sent, 1);
    assert!(lab.told("chat")[2].contains("A3"));
    lab.clock.advance(HOUR);
    assert_eq!(lab.work().await, Pass::default());
}

/// Given two partial refunds, whose amounts the shop tells one by one, then each is told with what went back so far; the rest
/// of the money is one more.
#[tokio::test]
async fn every_refund_is_told_once() {
    let mut lab = shop_and_chat(Vendor::Chatway).await;
    lab.config.flows = vec![flow(EventKind::OrderRefunded, ActKind::Send, Some("order-refunded"))];
    lab.ana().await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "completed"));
    for (at, (amount, so_far)) in [("3.00", "3.00"), ("5.00", "8.00"), ("17.00", "25.00")].into_iter().enumerate() {
        lab.sandbox.refund_order(lab.clock.now(), "shop", &id, amount);
        lab.clock.advance(MINUTE);
        lab.work().await;
        lab.work().await;
        let said = lab.told("chat");
        assert!(said.len() == 1 + at && said[at].contains(so_far), "{said:?}");
    }
}

/// Given a flow on parcels, then it is accepted from the shops whose orders tell of them, and from others refused with the
/// reason.
#[test]
fn a_flow_on_parcels_needs_a_shop_that_tells_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("own/mine");
    std::fs::create_dir_all(&own).expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(own.join(name), text).expect("a file");
    let secret = "{ env = \"PATH\" }";
    let check = |shop: &str| {
        let config = format!(
            "connectors_dir = \"own\"\n[store]\nurl = \"sqlite::memory:\"\n\
             [connections.chat]\nconnector = \"chatway\"\napi_key = {secret}\n\
             [connections.shop]\nbase_url = \"https://shop.example\"\n{shop}\n\
             [[flows]]\non = \"shipment.created\"\nfrom = \"shop\"\nsend = \"shipped\"\nto = \"chat\"\n"
        );
        let path = folder.path().join("counterpart.toml");
        std::fs::write(&path, config).expect("the configuration is written");
        Config::load(&path).map(|config| config.flows.len()).map_err(|error| error.problems)
    };
    let keys = format!("consumer_key = {secret}\nconsumer_secret = {secret}");
    for shop in [
        format!("connector = \"shopify\"\naccess_token = {secret}"),
        format!("connector = \"medusa\"\napi_key = {secret}"),
        format!("connector = \"woocommerce\"\n{keys}"),
    ] {
        assert_eq!(check(&shop), Ok(1), "{shop}");
    }
    let refused = check(&format!("connector = \"hubspot\"\naccess_token = {secret}")).expect_err("it has no orders");
    assert!(refused[0].message.contains("`shop` (hubspot) tells of no shipment"), "{refused:?}");
    // A shop of the operator's own, whose orders do not say where their parcels are, and then do.
    let mine = format!("connector = \"mine\"\n{keys}");
    let facts = include_str!("../../connectors/woocommerce/connector.toml");
    put("connector.toml", &facts.replace("name = \"woocommerce\"", "name = \"mine\""));
    let reading = include_str!("../../mappings/order/woocommerce.toml").replace("\"woocommerce\"", "\"mine\"");
    let (orders, _) = reading.split_once("[lists.shipments]").expect("the shipped file tells of parcels");
    put("order.toml", orders);
    let refused = check(&mine).expect_err("it does not say where parcels are");
    assert!(refused.len() == 1 && refused[0].help.contains("[lists.shipments]"), "{refused:?}");
    put("order.toml", &reading);
    assert_eq!(check(&mine), Ok(1));
}

/// Given a flow whose text is not there, or is about something else, then that is said with its place before anything runs.
#[test]
fn a_flow_needs_a_text_that_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = "{ env = \"PATH\" }";
    let mistake = |text: &str| {
        let config = format!(
            "[store]\nurl = \"sqlite::memory:\"\n[connections.chat]\nconnector = \"chatway\"\napi_key = {secret}\n\
             [connections.shop]\nconnector = \"woocommerce\"\nbase_url = \"https://shop.example\"\n\
             consumer_key = {secret}\nconsumer_secret = {secret}\n\
             [[flows]]\non = \"order.created\"\nfrom = \"shop\"\nto = \"chat\"\nsend = \"{text}\"\n"
        );
        let path = folder.path().join("counterpart.toml");
        std::fs::write(&path, config).expect("the configuration is written");
        let problems = Config::load(&path).err().map_or_else(Vec::new, |error| error.problems);
        problems.into_iter().map(|problem| (problem.line, problem.message)).collect::<Vec<_>>()
    };
    assert_eq!(mistake("order-confirmation"), []);
    let absent = mistake("order-konfirmation");
    assert!(absent.len() == 1 && absent[0].0 == 15 && absent[0].1.contains("order-konfirmation"), "{absent:?}");
    let other = mistake("shipped");
    assert!(other.len() == 1 && other[0].1.contains("`shipment.created`"), "{other:?}");
}
