//! What flows do themselves fires no flow; what people do afterwards does.

use counterpart::config::FlowConfig;
use counterpart::engine::Pass;
use counterpart::store::{Message, MessageState};
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, Vendor};
use serde_json::json;

use crate::flows::flow;
use crate::flows_acts::{setting, write_text};
use crate::flows_tickets::{PAIRS, chat_and_desk, on, write_note};
use crate::requirements::lab::{HOUR, Lab, MINUTE};

const FAULTS: [&str; 3] = ["none", "cut_after=1", "error_after=1"];

impl Lab {
    /// A pass in which the first write goes through `faults`.
    async fn faulty(&self, faults: &str) {
        self.clock.advance(3 * MINUTE);
        let engine = self.engine(self.network());
        let worker = engine.worker().await.expect("nobody else works");
        worker.read().await.expect("it reads");
        self.faults(faults);
        worker.pass().await.expect("it works");
        self.faults("none");
        worker.close().await.expect("it ends");
    }

    /// Works until nothing happens any more.
    async fn settled(&self) {
        for _ in 0..6 {
            self.clock.advance(10 * MINUTE);
            self.work().await;
        }
        assert_eq!(self.later().await, Pass::default(), "{:?}", self.intents().await);
    }

    async fn of(&self, action: ActKind) -> Vec<Message> {
        self.intents().await.into_iter().filter(|intent| intent.action == action).collect()
    }
}

/// Whether a flow was kept from answering what we did ourselves.
pub fn is_echo(intent: &Message) -> bool {
    intent.state == MessageState::Dropped
        && intent.reason.as_deref().is_some_and(|why| why.starts_with("an echo: message "))
}

/// Given a flow on new tickets, then one that another flow opened fires nothing, also when the call had no answer, and one that
/// somebody opens does.
#[tokio::test]
async fn a_ticket_of_ours_is_no_news() {
    for (chat_is, desk_is) in PAIRS {
        for faults in FAULTS {
            let what = format!("{chat_is:?} {desk_is:?} {faults}");
            let mut lab = chat_and_desk(chat_is, desk_is).await;
            if desk_is == Vendor::Rt {
                lab.set("desk", "queue", json!("General"));
            }
            write_note(&mut lab, "ticket.created");
            write_text(&mut lab, "from-chat", "conversation.resolved", "A chat\n\nIt was resolved.");
            let open = flow(EventKind::ConversationResolved, ActKind::OpenTicket, Some("from-chat"));
            let note = on(EventKind::TicketCreated, ActKind::Note);
            lab.config.flows = vec![
                FlowConfig { from: "chat".to_owned(), to: "desk".to_owned(), ..open },
                FlowConfig { template: Some("desk-note".to_owned()), name: "note".to_owned(), ..note },
            ];
            lab.run().await;
            lab.work().await;
            lab.clock.advance(HOUR);
            let chat = lab.answered_chat().await;
            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
            lab.faulty(faults).await;
            lab.settled().await;
            assert_eq!(lab.sandbox.tickets("desk").len(), 1, "{what}");
            let notes = lab.of(ActKind::Note).await;
            assert!(notes.len() == 1 && is_echo(&notes[0]), "{what} {notes:?}");
            lab.ticket(Some(&chat));
            lab.settled().await;
            let notes = lab.of(ActKind::Note).await;
            assert_eq!(notes.len(), 2, "{what} {notes:?}");
            assert_eq!(notes[1].state, MessageState::Sent, "{what} {notes:?}");
        }
    }
}

/// Two flows that could answer each other: a resolved chat solves its tickets, a closed ticket resolves its chat.
async fn ring(chat: Vendor, desk: Vendor) -> Lab {
    let mut lab = chat_and_desk(chat, desk).await;
    let solve = setting("chat", EventKind::ConversationResolved, &[("status", "solved")]);
    lab.config.flows = vec![
        FlowConfig { name: "solve".to_owned(), ..solve },
        FlowConfig { name: "resolve".to_owned(), ..on(EventKind::TicketClosed, ActKind::Resolve) },
    ];
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    lab
}

/// Given the ring, when somebody resolves the chat, then the ticket is solved and that is all; what people do afterwards counts.
#[tokio::test]
async fn a_solved_ticket_of_ours_resolves_nothing() {
    for (chat_is, desk_is) in PAIRS {
        for faults in FAULTS {
            let what = format!("{chat_is:?} {desk_is:?} {faults}");
            let lab = ring(chat_is, desk_is).await;
            let chat = lab.answered_chat().await;
            let ticket = lab.ticket(Some(&chat));
            lab.later().await;
            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
            lab.faulty(faults).await;
            lab.settled().await;
            let solved = lab.of(ActKind::SetTicket).await;
            assert_eq!((solved.len(), solved[0].state), (1, MessageState::Sent), "{what} {solved:?}");
            let resolves = lab.of(ActKind::Resolve).await;
            assert!(resolves.len() == 1 && is_echo(&resolves[0]), "{what} {resolves:?}");

            // Somebody opens both again and closes the ticket.
            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, false);
            lab.desk(&ticket, "open");
            lab.settled().await;
            lab.desk(&ticket, "solved");
            lab.settled().await;
            assert!(lab.is_resolved(&chat), "{what} {:?}", lab.intents().await);
            let resolves = lab.of(ActKind::Resolve).await;
            assert_eq!((resolves.len(), resolves[1].state), (2, MessageState::Sent), "{what} {resolves:?}");
        }
    }
}

/// Given the ring, when somebody closes the ticket, then the chat is resolved and that is all; when somebody opens the chat and
/// resolves it, then its new ticket is solved.
#[tokio::test]
async fn a_resolved_chat_of_ours_solves_nothing() {
    for (chat_is, desk_is) in PAIRS {
        for faults in FAULTS {
            let what = format!("{chat_is:?} {desk_is:?} {faults}");
            let lab = ring(chat_is, desk_is).await;
            let chat = lab.answered_chat().await;
            let ticket = lab.ticket(Some(&chat));
            lab.later().await;
            lab.desk(&ticket, "solved");
            lab.faulty(faults).await;
            lab.settled().await;
            assert!(lab.is_resolved(&chat), "{what} {:?}", lab.intents().await);
            let solved = lab.of(ActKind::SetTicket).await;
            assert!(solved.len() == 1 && is_echo(&solved[0]), "{what} {:?}", lab.intents().await);
            let resolves = lab.of(ActKind::Resolve).await;
            assert_eq!((resolves.len(), resolves[0].state), (1, MessageState::Sent), "{what} {resolves:?}");

            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, false);
            lab.settled().await;
            lab.says(&chat, Author::Agent);
            let second = lab.ticket(Some(&chat));
            lab.settled().await;
            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
            lab.settled().await;
            let solved = lab.of(ActKind::SetTicket).await;
            assert_eq!((solved.len(), solved[1].state), (2, MessageState::Sent), "{what} {solved:?}");
            assert_eq!(solved[1].remote_id.as_deref(), Some(second.as_str()), "{what} {solved:?}");
            assert_eq!(lab.of(ActKind::Resolve).await.iter().filter(|intent| !is_echo(intent)).count(), 1, "{what}");
        }
    }
}
