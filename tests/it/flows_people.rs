//! Whom a message goes to: the person whom the address names, and nobody by guessing; and how many messages they get.

use counterpart::store::MessageState;
use counterpart_connectors::Clock;
use counterpart_core::gate::Policy;
use counterpart_sandbox::{Author, NewOrder, NewPerson, Vendor};

use crate::flows::{order, shop_and_chat};
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone};

/// The number that several people have.
const NUMBER: &str = "+46701740605";
/// Why a message does not go by a number alone.
const WHOSE: &str = "no_route: whose the phone number is, is not clear";

fn with_number(person: NewPerson) -> NewPerson {
    NewPerson { phone: Some(NUMBER.to_owned()), country: Some("SE".to_owned()), ..person }
}

fn nameless(given: &str, family: &str) -> NewPerson {
    NewPerson { email: None, ..with_number(someone(given, family, "")) }
}

fn order_with_number(email: Option<&str>, given: &str) -> NewOrder {
    let phone = Some(NUMBER.to_owned());
    NewOrder { email: email.map(str::to_owned), phone, given: given.to_owned(), ..order("", "pending") }
}

impl Lab {
    /// Somebody with a chat, open or not.
    fn chatting(&self, person: &NewPerson, open: bool) -> String {
        let id = self.add("chat", person);
        let chat = self.sandbox.open_chat(self.clock.now(), "chat", &id, Some("Hello?"));
        if !open {
            self.sandbox.say(self.clock.now(), "chat", &chat, Author::Agent, "Hello!");
            self.sandbox.resolve_chat(self.clock.now(), "chat", &chat, true);
        }
        chat
    }

    /// Everybody is known, and what was there is history.
    async fn settle(&self) {
        self.run().await;
        self.work().await;
        self.clock.advance(HOUR);
    }

    /// The chats in which something was said about orders.
    fn told_in(&self) -> Vec<String> {
        let said = self.sandbox.chat_messages("chat").into_iter();
        said.filter(|message| message.author != Author::Customer && message.text != "Hello!").map(|m| m.chat).collect()
    }
}

/// Given an e-mail address and a phone number that lead to two people, then the message goes to the one with the address, also
/// where only the other one has an open chat.
#[tokio::test]
async fn an_address_is_stronger_than_a_number() {
    for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
        let lab = shop_and_chat(vendor).await;
        let ann = lab.chatting(&someone("Ann", "Berg", "ann@corp.example"), false);
        lab.chatting(&with_number(someone("Bob", "Dahl", "bob@corp.example")), true);
        lab.settle().await;
        lab.sandbox.place_order(
            lab.clock.now(),
            "shop",
            &NewOrder { family: "Berg".to_owned(), ..order_with_number(Some("ann@corp.example"), "Ann") },
        );
        lab.work().await;
        assert_eq!(lab.told_in(), [ann], "{vendor:?} {:?}", lab.intents().await);
    }
}

/// Given an address that nobody has and a number that is somebody's with another address, or with another name, or that of two
/// people, then the message goes to none of them and says why; it goes to the one whose it can be.
#[tokio::test]
async fn a_number_alone_leads_to_one_person_or_to_nobody() {
    let bob = || with_number(someone("Bob", "Dahl", "bob@corp.example"));
    let cases = [
        ("another address", vec![bob()], Some("ann@corp.example"), "Bob Dahl"),
        ("another name", vec![nameless("Bob", "Dahl")], None, "Ann Berg"),
        ("a household", vec![nameless("Ann", "Dahl"), nameless("Bob", "Dahl")], Some("ann@corp.example"), "Ann Dahl"),
        ("the only one", vec![nameless("Bob", "Dahl")], Some("bob@corp.example"), "Bob Dahl"),
        ("the only one, without an address", vec![bob()], None, "Bob Dahl"),
    ];
    for (case, people, email, name) in cases {
        let lab = shop_and_chat(Vendor::Chatway).await;
        people.iter().for_each(|person| drop(lab.chatting(person, true)));
        lab.settle().await;
        let (given, family) = name.split_once(' ').expect("two names");
        let order = NewOrder { family: family.to_owned(), ..order_with_number(email, given) };
        lab.sandbox.place_order(lab.clock.now(), "shop", &order);
        lab.work().await;
        let intent = lab.intents().await.remove(0);
        let expected = match case.starts_with("the only one") {
            true => (MessageState::Sent, None),
            false => (MessageState::Held, Some(WHOSE)),
        };
        assert_eq!((intent.state, intent.reason.as_deref()), expected, "{case}");
        assert_eq!(lab.told_in().len(), usize::from(expected.1.is_none()), "{case}");
        // Why it never went out is still said when it is too old.
        lab.clock.advance(25 * HOUR);
        lab.work().await;
        let intent = lab.intents().await.remove(0);
        assert!(intent.state == MessageState::Sent || intent.reason.as_deref() == Some(WHOSE), "{case} {intent:?}");
    }
}

/// Given somebody who opted out, then no order with their number is told of, whoever's the address is.
#[tokio::test]
async fn an_opt_out_counts_by_the_number_too() {
    let mut lab = shop_and_chat(Vendor::Chatwoot).await;
    let shipped = include_str!("../../mappings/contact/chatwoot.toml");
    lab.map("chat", &format!("{shipped}\"consent.marketing\" = {{ remote = \"/custom_attributes/news\" }}\n"));
    lab.chatting(&someone("Ann", "Berg", "ann@corp.example"), true);
    let mut bob = with_number(someone("Bob", "Dahl", "bob@corp.example"));
    bob.custom.insert("news".to_owned(), "no".to_owned());
    lab.chatting(&bob, true);
    lab.settle().await;
    lab.sandbox.place_order(lab.clock.now(), "shop", &order_with_number(Some("ann@corp.example"), "Ann"));
    lab.work().await;
    let intent = lab.intents().await.remove(0);
    assert_eq!((intent.state, intent.reason.as_deref()), (MessageState::Dropped, Some("opted_out")), "{intent:?}");
}

/// A chat in which conversations can be begun, with Ana, who never wrote.
async fn silent_ana() -> Lab {
    let mut lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.set("chat", "inbox_id", serde_json::json!("1"));
    lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
    lab.settle().await;
    lab
}

/// Given two milestones in one look at somebody who never wrote, then one conversation is begun, and both go there, also when
/// nobody knows whether the first attempt began it.
#[tokio::test]
async fn two_milestones_at_once_begin_one_conversation() {
    for faults in ["none", "cut_after=1", "error_after=1", "cut_before=1"] {
        let lab = silent_ana().await;
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "processing"));
        lab.ailing(faults).await;
        assert!(lab.sandbox.chats("chat").len() <= 1, "{faults}: {:?}", lab.intents().await);
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        for _ in 0..6 {
            // Without reading: what was begun is known all the same.
            lab.clock.advance(10 * MINUTE);
            worker.pass().await.expect("it works");
        }
        worker.close().await.expect("it ends");
        assert_eq!(
            (lab.told("chat").len(), lab.sandbox.chats("chat").len()),
            (2, 1),
            "{faults}: {:?}",
            lab.intents().await
        );
        let chat = lab.sandbox.chats("chat").remove(0).id;
        let kept: Vec<_> = lab.intents().await.into_iter().map(|intent| (intent.state, intent.conversation)).collect();
        assert!(kept.iter().all(|it| *it == (MessageState::Sent, Some(chat.clone()))), "{faults}: {kept:?}");
    }
}

/// Given a conversation that was begun and deleted before it was read, then another one is begun.
#[tokio::test]
async fn a_begun_conversation_that_is_gone_is_not_used() {
    let lab = silent_ana().await;
    let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
    assert_eq!(lab.work().await.sent, 1);
    let chat = lab.sandbox.chats("chat").remove(0).id;
    lab.sandbox.delete_chat(lab.clock.now(), "chat", &chat);
    lab.clock.advance(MINUTE);
    lab.sandbox.set_order(lab.clock.now(), "shop", &id, "processing");
    lab.work().await;
    lab.work().await;
    assert_eq!(lab.told("chat").len(), 1, "{:?}", lab.intents().await);
    assert_ne!(lab.sandbox.chats("chat").remove(0).id, chat);
}

/// Given a cap of one message a day, then it counts for the person: in a conversation that was begun, and in another one that
/// they opened since.
#[tokio::test]
async fn the_cap_is_for_a_person() {
    let gate: Policy = toml::from_str("max_age = '72h'\ncap = { messages = 1, per = '24h' }").expect("a policy");
    for begun in [true, false] {
        let mut lab = silent_ana().await;
        lab.config.flows.iter_mut().for_each(|flow| flow.gate = gate.clone());
        let person = lab.person("chat", "ana@example.test").id;
        if !begun {
            lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?"));
        }
        let id = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        assert_eq!(lab.work().await.sent, 1);
        if !begun {
            lab.clock.advance(MINUTE);
            lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("And my order?"));
        }
        lab.clock.advance(MINUTE);
        lab.sandbox.set_order(lab.clock.now(), "shop", &id, "processing");
        assert_eq!(lab.work().await.sent, 0, "{:?}", lab.intents().await);
        let held = lab.intents().await.pop().expect("an intent");
        assert_eq!((held.state, held.reason.as_deref()), (MessageState::Held, Some("cap")), "{held:?}");
        lab.clock.advance(held.until - lab.clock.now());
        assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
    }
}
