//! Business events that reach the customer: once, in the right chat, or with a reason why not.

use counterpart::config::{FlowConfig, Link};
use counterpart::engine::Pass;
use counterpart::store::{Message, MessageState};
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_core::gate::Policy;
use counterpart_sandbox::{Author, NewOrder, Vendor};

use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone};

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
        template: template.map(str::to_owned),
        link: Link::Explicit,
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

/// Given a person with an open chat who orders, then the chat has one message for each milestone, whatever comes again.
#[tokio::test]
async fn an_order_is_told_of_once() {
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
