//! What flows do themselves fires no flow; what people do afterwards does.

use counterpart::config::FlowConfig;
use counterpart::engine::Pass;
use counterpart::store::{Incoming, Message, MessageState};
use counterpart_connectors::{ActKind, Clock, Millis};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, Vendor};
use serde_json::json;

use crate::flows::flow;
use crate::flows_acts::{setting, write_text};
use crate::flows_tickets::{PAIRS, chat_and_desk, on, write_note};
use crate::requirements::lab::{HOUR, Lab, MINUTE};

const FAULTS: [&str; 3] = ["none", "cut_after=1", "error_after=1"];

impl Lab {
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
            lab.clock.advance(3 * MINUTE);
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
            lab.clock.advance(3 * MINUTE);
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
            lab.clock.advance(3 * MINUTE);
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

impl Lab {
    /// A pass a few seconds later.
    async fn soon(&self) -> Pass {
        self.clock.advance(10_000);
        self.work().await
    }

    /// How many events of a kind are known of a ticket.
    async fn known(&self, ticket: &str, kind: EventKind) -> usize {
        let known = self.store.known_events("desk", "ticket", &[ticket]).await.expect("the store answers");
        known.get(ticket).into_iter().flatten().filter(|event| event.kind == kind).count()
    }
}

/// Given a flow that sets new tickets to `pending`, when somebody solves such a ticket in the very minute, then that is no echo: its
/// chat is resolved.
#[tokio::test]
async fn what_opens_a_ticket_closes_none() {
    for (chat_is, desk_is) in PAIRS {
        let mut lab = chat_and_desk(chat_is, desk_is).await;
        lab.config.flows.push(setting("desk", EventKind::TicketCreated, &[("status", "pending")]));
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        assert_eq!(lab.later().await.tickets, 1, "{chat_is:?} {desk_is:?} {:?}", lab.intents().await);
        lab.clock.advance(MINUTE / 2);
        lab.desk(&ticket, "solved");
        assert_eq!(lab.later().await.resolved, 1, "{chat_is:?} {desk_is:?} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat), "{chat_is:?} {desk_is:?}");
    }
}

/// Given a ticket that a flow solved, when somebody opens it again in the very minute, then that is no echo: its chat is opened.
#[tokio::test]
async fn what_closes_a_ticket_opens_none() {
    let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Rt).await;
    lab.config.flows = vec![
        setting("chat", EventKind::ConversationResolved, &[("status", "solved")]),
        FlowConfig { name: "open".to_owned(), ..on(EventKind::TicketReopened, ActKind::Reopen) },
    ];
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    let chat = lab.answered_chat().await;
    let ticket = lab.ticket(Some(&chat));
    lab.later().await;
    lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
    assert_eq!(lab.later().await.tickets, 1, "{:?}", lab.intents().await);
    lab.soon().await;
    assert_eq!(lab.known(&ticket, EventKind::TicketClosed).await, 1, "it was read at once");
    lab.clock.advance(MINUTE / 3);
    lab.desk(&ticket, "open");
    assert_eq!(lab.soon().await.resolved, 1, "{:?}", lab.intents().await);
    assert!(!lab.is_resolved(&chat));
}

/// Given a ticket that a flow set, and that was read, then whatever else happens to it in the very minute is somebody's doing.
#[tokio::test]
async fn one_setting_is_one_echo() {
    let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Rt).await;
    lab.config.flows = vec![
        setting("desk", EventKind::TicketCreated, &[("status", "pending")]),
        FlowConfig { name: "open".to_owned(), ..on(EventKind::TicketReopened, ActKind::Reopen) },
    ];
    let chat = lab.answered_chat().await;
    let ticket = lab.ticket(Some(&chat));
    assert_eq!(lab.later().await.tickets, 1, "{:?}", lab.intents().await);
    lab.soon().await;
    assert_eq!(lab.known(&ticket, EventKind::TicketUpdated).await, 1, "the echo was read at once");
    lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
    lab.desk(&ticket, "solved");
    lab.soon().await;
    lab.desk(&ticket, "open");
    assert_eq!(lab.soon().await.resolved, 1, "{:?}", lab.intents().await);
    assert!(!lab.is_resolved(&chat));
}

/// Given three tickets of a chat of which one refuses what a flow sets, then the close of the others is ours, and that of the one
/// is not, although it comes in the very minute.
#[tokio::test]
async fn what_refused_caused_nothing() {
    let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Zendesk).await;
    write_note(&mut lab, "ticket.closed");
    let note = on(EventKind::TicketClosed, ActKind::Note);
    lab.config.flows = vec![
        setting("chat", EventKind::ConversationResolved, &[("status", "solved")]),
        FlowConfig { template: Some("desk-note".to_owned()), name: "note".to_owned(), ..note },
    ];
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    let chat = lab.answered_chat().await;
    let linked = [0; 3].map(|_| lab.ticket(Some(&chat)));
    lab.later().await;
    lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
    lab.clock.advance(3 * MINUTE);
    let engine = lab.engine(lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    worker.read().await.expect("it reads");
    lab.desk(&linked[0], "deleted");
    assert_eq!(worker.pass().await.expect("it works").refused, 1, "{:?}", lab.intents().await);
    worker.close().await.expect("it ends");
    // Somebody restores it, and solves it.
    lab.clock.advance(MINUTE / 2);
    lab.desk(&linked[0], "solved");
    lab.settled().await;
    let set = lab.of(ActKind::SetTicket).await;
    // The newest first.
    let changed = format!("{},{}", linked[2], linked[1]);
    assert_eq!((set[0].state, set[0].remote_id.as_deref()), (MessageState::Refused, Some(changed.as_str())));
    let notes = lab.of(ActKind::Note).await;
    let (ours, theirs): (Vec<&Message>, Vec<&Message>) = notes.iter().partition(|note| is_echo(note));
    assert_eq!((ours.len(), theirs.len()), (2, 1), "{notes:?}");
    assert_eq!(theirs[0].state, MessageState::Sent, "{notes:?}");
}

/// Given several tickets of a chat, when the desk is out of order after the first of them was set, then those that were set before
/// and after the pause are all ours, whether they are read in between or not.
#[tokio::test]
async fn what_was_set_before_a_pause_is_ours_too() {
    for is_read_between in [true, false] {
        let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Zendesk).await;
        write_note(&mut lab, "ticket.closed");
        let note = on(EventKind::TicketClosed, ActKind::Note);
        lab.config.flows = vec![
            setting("chat", EventKind::ConversationResolved, &[("status", "solved")]),
            FlowConfig { template: Some("desk-note".to_owned()), name: "note".to_owned(), ..note },
        ];
        lab.run().await;
        lab.work().await;
        lab.clock.advance(HOUR);
        let chat = lab.answered_chat().await;
        let linked = [0; 2].map(|_| lab.ticket(Some(&chat)));
        lab.later().await;
        lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
        lab.clock.advance(3 * MINUTE);
        lab.faulty("5xx=1").await;
        // As if the first had been set just before the desk went out of order.
        let set = lab.of(ActKind::SetTicket).await.remove(0);
        let now = lab.clock.now();
        lab.desk(&linked[0], "solved");
        lab.store.tickets_changed(set.id, &linked[0]).await.expect("the store answers");
        lab.store.set_message(set.id, MessageState::Held, None, now, None, now).await.expect("it answers");
        lab.clock.advance(3 * MINUTE);
        if !is_read_between {
            lab.pass_alone().await;
        }
        lab.settled().await;
        let set = lab.of(ActKind::SetTicket).await.remove(0);
        let both = format!("{},{}", linked[0], linked[1]);
        assert_eq!((set.state, set.remote_id.as_deref()), (MessageState::Sent, Some(both.as_str())));
        let notes = lab.of(ActKind::Note).await;
        assert!(notes.len() == 2 && notes.iter().all(is_echo), "{is_read_between} {notes:?}");
    }
}

/// Given a chat that a flow resolved, when a reading that was under way shows it as it was just before, then it still is as we left
/// it; when somebody opened it a few seconds later, then the next resolve is theirs.
#[tokio::test]
async fn a_reading_beside_a_resolve_undoes_nothing() {
    // The clocks are compared by whole seconds.
    for (later, is_undone) in [(-5_000, false), (900, false), (5_000, true)] {
        let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Zendesk).await;
        write_text(&mut lab, "done", "conversation.resolved", "Done.");
        let note = flow(EventKind::ConversationResolved, ActKind::Note, Some("done"));
        lab.config.flows.push(FlowConfig { from: "chat".to_owned(), name: "note".to_owned(), ..note });
        lab.run().await;
        lab.work().await;
        lab.clock.advance(HOUR);
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.desk(&ticket, "solved");
        assert_eq!(lab.later().await.resolved, 1, "{:?}", lab.intents().await);
        let resolve = lab.of(ActKind::Resolve).await.remove(0);
        lab.shows_open(&chat, resolve.updated_at + later).await;
        lab.later().await;
        let notes = lab.of(ActKind::Note).await;
        assert_eq!(notes.len(), 1, "{later} {notes:?}");
        assert_eq!(is_echo(&notes[0]), !is_undone, "{later} {notes:?}");
    }
}

impl Lab {
    /// A reading shows a chat as it was before, changed at a time, and is looked at.
    async fn shows_open(&self, chat: &str, at: Millis) {
        let known = self.store.document("chat", "conversation", chat).await.expect("the store answers");
        let mut open = known.expect("it was read");
        assert_eq!(open["resolved"], json!(false));
        open["updated_at"] = json!(at);
        let shown = Incoming {
            external_id: chat.to_owned(),
            remote: "{}".to_owned(),
            fields: open.to_string(),
            fingerprint: "of another state".to_owned(),
            remote_updated_at: None,
            version: None,
            deleted: false,
        };
        self.store.observe_one("chat", "conversation", &shown, self.clock.now()).await.expect("the store answers");
        self.pass_alone().await;
    }

    /// A pass that looks at what was read before.
    async fn pass_alone(&self) {
        let engine = self.engine(self.network());
        let worker = engine.worker().await.expect("nobody else works");
        worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
    }
}
