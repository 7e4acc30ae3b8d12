//! What flows do at desks, what counts as news of a ticket or a conversation, and what is done when there is no way.

use counterpart::config::FlowConfig;
use counterpart::engine::Pass;
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, Vendor};

use crate::flows::flow;
use crate::flows_tickets::{PAIRS, chat_and_desk, on, write_note};
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone};

/// A message's text of this lab, called `NAME.en.txt`.
fn write_text(lab: &mut Lab, name: &str, event: &str, text: &str) {
    let folder = lab.folder.path().join("messages");
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let whole = format!("event = \"{event}\"\n---\n{text}\n");
    std::fs::write(folder.join(format!("{name}.en.txt")), whole).expect("the temporary folder is writable");
    lab.config.mappings_dir = Some(lab.folder.path().to_owned());
}

/// Given a ticket that changes without closing, then there is one note for each change, however often it is read; closing and
/// opening again are no updates.
#[tokio::test]
async fn each_change_of_a_ticket_is_told_of_once() {
    for (chat_is, desk_is) in PAIRS {
        let mut lab = chat_and_desk(chat_is, desk_is).await;
        let note = on(EventKind::TicketUpdated, ActKind::Note);
        lab.config.flows = vec![FlowConfig { template: Some("desk-note".to_owned()), ..note }];
        write_note(&mut lab, "ticket.updated");
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        assert_eq!(lab.later().await.sent, 0, "{chat_is:?} {desk_is:?}: a new ticket is no update");
        let waiting = if desk_is == Vendor::Rt { "stalled" } else { "pending" };
        for (status, notes) in [(waiting, 1), (waiting, 0), ("solved", 0), ("open", 0), (waiting, 1)] {
            lab.desk(&ticket, status);
            let pass = lab.later().await;
            assert_eq!(pass.sent, notes, "{chat_is:?} {desk_is:?} {status} {pass:?} {:?}", lab.intents().await);
            lab.clock.advance(HOUR);
            assert_eq!(lab.later().await, Pass::default());
        }
    }
}

/// Given a conversation that somebody resolves, then that is an event, once; what was resolved before it was first read is none.
#[tokio::test]
async fn a_resolved_conversation_is_an_event() {
    for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
        let mut lab = Lab::new(&[("chat", vendor), ("shop", Vendor::Woocommerce)]).await;
        write_text(&mut lab, "done", "conversation.resolved", "Done.");
        let note = flow(EventKind::ConversationResolved, ActKind::Note, Some("done"));
        lab.config.flows = vec![FlowConfig { from: "chat".to_owned(), ..note }];
        let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        let old = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?"));
        let known = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello again?"));
        lab.sandbox.resolve_chat(lab.clock.now(), "chat", &old, true);
        lab.clock.advance(HOUR);
        lab.run().await;
        lab.work().await;
        lab.clock.advance(HOUR);
        let fresh = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("And now?"));
        assert_eq!(lab.work().await.sent, 0, "{vendor:?}");
        // Of Chatway's conversations it is not known when they changed: only those that began since are news.
        let news: &[&String] = if vendor == Vendor::Chatwoot { &[&known, &fresh] } else { &[&fresh] };
        for chat in [&known, &fresh] {
            lab.clock.advance(HOUR);
            lab.sandbox.resolve_chat(lab.clock.now(), "chat", chat, true);
            let sent = lab.work().await.sent;
            assert_eq!(sent, u64::from(news.contains(&chat)), "{vendor:?} {:?}", lab.intents().await);
        }
        for resolved in [false, true] {
            lab.clock.advance(MINUTE);
            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &fresh, resolved);
            assert_eq!(lab.work().await.sent, 0, "{vendor:?}: once for each conversation");
        }
        let notes = lab.sandbox.chat_messages("chat").into_iter().filter(|m| m.private && m.author == Author::Agent);
        let chats: Vec<String> = notes.map(|note| note.chat).collect();
        assert_eq!(chats.iter().collect::<Vec<_>>(), news, "{vendor:?}");
        lab.clock.advance(DAY);
        assert_eq!(lab.work().await, Pass::default());
    }
}
