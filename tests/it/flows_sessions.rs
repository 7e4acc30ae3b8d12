//! Channels that take a text only for a while after the customer's last message, and messages that a chat system takes and its
//! channel then does not deliver.

use counterpart::config::{Fallback, FlowConfig};
use counterpart::engine::History;
use counterpart::store::MessageState;
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, NewPerson, Reply, Vendor};

use crate::flows::{flow, order};
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone};

/// A chat whose customers write by WhatsApp, and a shop.
async fn whatsapp(fallback: Option<Fallback>) -> Lab {
    let systems = [("chat", Vendor::Chatwoot), ("chat2", Vendor::Chatway), ("shop", Vendor::Woocommerce)];
    let mut lab = Lab::with_fakes(&systems, &[("chat", "channel", "Whatsapp")]).await;
    let send = flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"));
    lab.config.flows = vec![FlowConfig { fallback, ..send }];
    lab
}

/// A chat of this channel in which conversations are begun, a shop, and Ana, who never wrote.
async fn ana_never_wrote(channel: &[(&str, &str)], fallback: Option<Fallback>) -> Lab {
    let systems = [("chat", Vendor::Chatwoot), ("chat2", Vendor::Chatway), ("shop", Vendor::Woocommerce)];
    let settings: Vec<_> = channel.iter().map(|(name, value)| ("chat", *name, *value)).collect();
    let mut lab = Lab::with_fakes(&systems, &settings).await;
    let send = flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"));
    lab.config.flows = vec![FlowConfig { fallback, ..send }];
    lab.set("chat", "inbox_id", serde_json::json!("1"));
    let phone = Some("+46701740605".to_owned());
    lab.add("chat", &NewPerson { phone, ..someone("Ana", "Lind", "ana@example.test") });
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    lab
}

/// Ana by text message, whose first one goes out, and to nobody: she does not want any before she wrote.
const UNSUBSCRIBED: [(&str, &str); 2] = [("channel", "TwilioSms"), ("unsubscribed", "1")];

impl Lab {
    fn ana_orders(&self) {
        self.sandbox.place_order(self.clock.now(), "shop", &order("ana@example.test", "on-hold"));
    }

    async fn read_history(&self) -> History {
        let engine = self.engine(self.network());
        let worker = engine.worker().await.expect("nobody else works");
        let history = worker.history(100).await.expect("it reads");
        worker.close().await.expect("it ends");
        history
    }
}

/// Given a channel that takes texts for a day after the customer's last one, then one goes out to the last minute of it, none
/// after that, and again once the customer has written; the vendor is asked each time, also where its last word was another.
#[tokio::test]
async fn a_closed_session_takes_no_message() {
    let lab = whatsapp(None).await;
    let chat = lab.ana().await;
    lab.clock.advance(23 * HOUR - 10 * MINUTE);
    lab.ana_orders();
    assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
    lab.clock.advance(10 * MINUTE);
    lab.ana_orders();
    let pass = lab.work().await;
    let last = lab.intents().await.pop().expect("an intent");
    assert_eq!((pass.sent, pass.dropped), (0, 1), "{last:?}");
    assert_eq!((last.state, last.reason.as_deref()), (MessageState::Dropped, Some("session_closed")));
    lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Customer, "And where is it?");
    lab.ana_orders();
    assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
    assert_eq!(lab.told("chat").len(), 2);
}

/// Given a closed session and a flow that names another way, then the message takes it at once, and once.
#[tokio::test]
async fn a_closed_session_makes_a_message_take_the_other_way() {
    let fallback = Fallback { act: ActKind::Send, to: "chat2".to_owned(), conversation: None, after_ms: HOUR };
    let lab = whatsapp(Some(fallback)).await;
    let person = lab.add("chat2", &someone("Ana", "Lind", "ana@example.test"));
    lab.sandbox.open_chat(lab.clock.now(), "chat2", &person, Some("Hello?"));
    lab.ana().await;
    lab.clock.advance(24 * HOUR);
    lab.ana_orders();
    lab.work().await;
    for _ in 0..3 {
        lab.clock.advance(HOUR);
        lab.work().await;
    }
    let intent = lab.intents().await.remove(0);
    assert_eq!((intent.connection.as_str(), intent.state), ("chat2", MessageState::Sent), "{intent:?}");
    assert_eq!((lab.told("chat").len(), lab.told("chat2").len()), (0, 1));
}

/// Given the vendor cannot be asked whether the session is open, then the message waits for the answer.
#[tokio::test]
async fn a_message_waits_while_nobody_says_whether_the_session_is_open() {
    let lab = whatsapp(None).await;
    lab.ana().await;
    let engine = lab.engine(lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    lab.ana_orders();
    worker.read().await.expect("it reads");
    lab.faults("5xx=1");
    worker.pass().await.expect("it works");
    let waiting = lab.intents().await.remove(0);
    assert_eq!((waiting.state, waiting.attempts), (MessageState::Held, 0), "{waiting:?}");
    lab.faults("none");
    lab.clock.advance(10 * MINUTE);
    assert_eq!(worker.pass().await.expect("it works").sent, 1, "{:?}", lab.intents().await);
    worker.close().await.expect("it ends");
}

/// Given a message that the chat system takes and its channel then does not deliver, whether we had an answer or not, then it
/// counts as refused with the channel's reason, and is not sent again.
#[tokio::test]
async fn a_message_that_is_not_delivered_is_not_sent() {
    for (faults, found_by_reading) in [("none", 1), ("cut_after=1", 0)] {
        let lab = ana_never_wrote(&UNSUBSCRIBED, None).await;
        lab.ana_orders();
        lab.ailing(faults).await;
        let mut undelivered = 0;
        for _ in 0..3 {
            lab.clock.advance(HOUR);
            lab.work().await;
            undelivered += lab.read_history().await.undelivered;
        }
        let intent = lab.intents().await.remove(0);
        let reason = intent.reason.as_deref().unwrap_or_default();
        assert_eq!((intent.state, undelivered), (MessageState::Refused, found_by_reading), "{faults} {intent:?}");
        assert!(reason.starts_with("not delivered: 21610"), "{faults} {reason}");
        assert_eq!(lab.told("chat").len(), 1, "{faults}");
    }
}

/// Given a message that was not delivered and that an operator lets go out again, once the customer can be reached, then the
/// second one counts, whatever becomes of the answer, and the first one no longer does.
#[tokio::test]
async fn what_was_not_delivered_can_be_sent_again_once() {
    for faults in ["none", "cut_after=1"] {
        let lab = ana_never_wrote(&UNSUBSCRIBED, None).await;
        lab.ana_orders();
        assert_eq!(lab.work().await.sent, 1);
        lab.clock.advance(HOUR);
        // What `sync` does beside its contacts finds it.
        lab.engine(lab.network()).work().await.expect("it works");
        let refused = lab.intents().await.remove(0);
        assert_eq!(refused.state, MessageState::Refused, "{refused:?}");

        let chat = lab.sandbox.chats("chat").remove(0).id;
        lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Customer, "Did you get my order?");
        let again = (&[MessageState::Refused][..], MessageState::Pending);
        let now = lab.clock.now();
        assert!(lab.store.decide_message(refused.id, again.0, again.1, "again", now).await.expect("it is stored"));
        {
            let ailing = crate::flows::Ailing { network: lab.network(), sandbox: lab.sandbox.clone(), faults };
            let engine = lab.engine(std::sync::Arc::new(ailing));
            let worker = engine.worker().await.expect("nobody else works");
            worker.pass().await.expect("it works");
            worker.close().await.expect("it ends");
        }
        for _ in 0..3 {
            lab.clock.advance(HOUR);
            lab.work().await;
            assert_eq!(lab.read_history().await.undelivered, 0);
        }
        let sent = lab.intents().await.remove(0);
        assert_eq!(sent.state, MessageState::Sent, "{faults} {sent:?}");
        assert_ne!(sent.remote_id, refused.remote_id, "{faults}");
        assert_eq!(lab.told("chat").len(), 2, "{faults}: one that failed and one that arrived");
    }
}

/// Given a message that was not delivered and that an agent sends again in the chat system, then it is the same message, and
/// sent after all.
#[tokio::test]
async fn what_an_agent_sends_again_is_sent() {
    let lab = ana_never_wrote(&UNSUBSCRIBED, None).await;
    lab.ana_orders();
    assert_eq!(lab.work().await.sent, 1);
    lab.clock.advance(HOUR);
    lab.work().await;
    assert_eq!(lab.read_history().await.undelivered, 1);
    let refused = lab.intents().await.remove(0);
    let chat = lab.sandbox.chats("chat").remove(0).id;
    lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Customer, "Did you get my order?");
    let id = refused.remote_id.clone().expect("it is known which one");
    let again = http::Request::post(format!(
        "http://127.0.0.1:9/chat/api/v1/accounts/1/conversations/{chat}/messages/{id}/retry"
    ));
    let again = again.header("api_access_token", counterpart_sandbox::TOKEN).body(Vec::new()).expect("a request");
    assert!(
        matches!(lab.sandbox.handle(lab.clock.now(), again), Reply::Answer { response, .. } if response.status() == 200)
    );
    lab.clock.advance(HOUR);
    lab.work().await;
    assert_eq!(lab.read_history().await.undelivered, 0);
    let sent = lab.intents().await.remove(0);
    assert_eq!((sent.state, &sent.remote_id), (MessageState::Sent, &refused.remote_id), "{sent:?}");
    assert_eq!(lab.told("chat").len(), 1);
}

/// Settings of an inbox and words that `check` says of it: to whom the team can write first there, or why to nobody.
type Channel = (&'static [(&'static str, &'static str)], Result<&'static str, &'static str>);

/// What somebody who has an address and a number meets.
const CHANNELS: [Channel; 9] = [
    (&[], Ok("with everybody")),
    (&[("channel", "Email")], Ok("who has an e-mail address")),
    (&[("channel", "Sms")], Ok("who has a phone number")),
    (&[("channel", "TwilioSms")], Ok("who has a phone number")),
    (&[("channel", "Whatsapp")], Err("only a template")),
    (&[("channel", "TwilioSms"), ("medium", "whatsapp")], Err("only a template")),
    (&[("channel", "FacebookPage")], Err("only the customer begins")),
    (&[("channel", "Telegram")], Err("only the customer begins")),
    (&[("channel", "Tiktok")], Err("only the customer begins")),
];

/// Given an inbox of each channel, then a conversation is begun by the id that the channel has for the customer, and where the team
/// cannot write first the message takes the other way when it is due, like any without a way, and `check` says so.
#[tokio::test]
async fn a_conversation_is_begun_where_the_channel_lets_us() {
    for (channel, expected) in CHANNELS {
        let fallback = Fallback { act: ActKind::Send, to: "chat2".to_owned(), conversation: None, after_ms: HOUR };
        let lab = ana_never_wrote(channel, Some(fallback)).await;
        let person = lab.add("chat2", &someone("Ana", "Lind", "ana@example.test"));
        lab.sandbox.open_chat(lab.clock.now(), "chat2", &person, Some("Hello?"));
        lab.run().await;
        lab.ana_orders();
        lab.work().await;
        let intent = lab.intents().await.remove(0);
        match expected {
            Ok(_) => assert_eq!(intent.state, MessageState::Sent, "{channel:?} {intent:?}"),
            Err(_) => {
                let reason = intent.reason.clone().unwrap_or_default();
                assert_eq!(
                    (intent.state, intent.connection.as_str()),
                    (MessageState::Held, "chat"),
                    "{channel:?} {intent:?}"
                );
                assert!(reason.starts_with("no_route: no conversation can be begun: "), "{channel:?} {reason}");
            }
        }
        for _ in 0..2 {
            lab.clock.advance(HOUR);
            lab.work().await;
        }
        let told = (lab.told("chat").len(), lab.told("chat2").len());
        assert_eq!(told, if expected.is_ok() { (1, 0) } else { (0, 1) }, "{channel:?} {:?}", lab.intents().await);

        let checked = lab.engine(lab.network()).check_online().await.expect("the store answers");
        let chat = checked.into_iter().find(|(name, _)| name == "chat").expect("it was asked").1;
        let said = match chat {
            Ok(report) => Ok(report.notes.join("; ")),
            Err(error) => Err(error.to_string()),
        };
        match (&said, expected) {
            (Ok(said), Ok(words)) => assert!(said.contains(words), "{channel:?} {said}"),
            (Err(said), Err(words)) => {
                assert!(said.contains(words) && said.contains("inbox_id"), "{channel:?} {said}");
            }
            _ => panic!("{channel:?} {said:?}"),
        }
    }
}

/// Given somebody without the address that the channel needs, and no other way, then the message waits with the reason, asks no
/// more, and goes out when they write.
#[tokio::test]
async fn who_cannot_be_written_to_first_is_when_they_write() {
    let lab = ana_never_wrote(&[("channel", "WebWidget")], None).await;
    lab.ana_orders();
    lab.work().await;
    let calls = |lab: &Lab| lab.sandbox.log().iter().filter(|call| call.path.ends_with("/contactable_inboxes")).count();
    assert_eq!(calls(&lab), 1);
    let held = lab.intents().await.remove(0);
    let reason = held.reason.clone().unwrap_or_default();
    assert!(held.state == MessageState::Held && reason.contains("does not offer inbox 1"), "{held:?}");
    lab.clock.advance(HOUR);
    lab.work().await;
    assert_eq!((calls(&lab), lab.intents().await.remove(0).reason), (0, Some(reason)));
    let person = lab.person("chat", "ana@example.test").id;
    lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Where is my order?"));
    lab.clock.advance(HOUR);
    assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
}

/// Given an inbox that is not there, then `check` says which setting is wrong.
#[tokio::test]
async fn an_inbox_that_is_not_there_is_told_of() {
    let mut lab = ana_never_wrote(&[], None).await;
    lab.set("chat", "inbox_id", serde_json::json!("7"));
    let checked = lab.engine(lab.network()).check_online().await.expect("the store answers");
    let said = checked.into_iter().find(|(name, _)| name == "chat").expect("it was asked").1.expect_err("no inbox");
    assert!(said.to_string().contains("no inbox 7") && said.to_string().contains("inbox_id"), "{said}");
}
