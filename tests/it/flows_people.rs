//! Whom a message goes to: the person whom the address names, and nobody by guessing.

use counterpart::store::MessageState;
use counterpart_connectors::Clock;
use counterpart_sandbox::{Author, NewOrder, NewPerson, Vendor};

use crate::flows::{order, shop_and_chat};
use crate::requirements::lab::{HOUR, Lab, someone};

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
