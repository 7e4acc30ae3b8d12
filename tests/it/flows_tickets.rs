//! Tickets that close elsewhere: the chat is resolved, and only when nobody in it waits.

use std::sync::Arc;

use counterpart::config::{Config, FlowConfig, Link};
use counterpart::engine::Pass;
use counterpart::store::{MessageState, NewHook};
use counterpart_connectors::{ActKind, Clock, Connection, ConnectionSpec, Delivery, OpenGate};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, NewTicket, Vendor};

use crate::flows::flow;
use crate::flows_acts::write_text;
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone, zendesk_names_chats};

/// Every chat system with every desk.
pub const PAIRS: [(Vendor, Vendor); 4] = [
    (Vendor::Chatway, Vendor::Zendesk),
    (Vendor::Chatway, Vendor::Rt),
    (Vendor::Chatwoot, Vendor::Zendesk),
    (Vendor::Chatwoot, Vendor::Rt),
];

pub fn on(kind: EventKind, act: ActKind) -> FlowConfig {
    FlowConfig { from: "desk".to_owned(), ..flow(kind, act, None) }
}

/// A desk whose closed tickets resolve chats.
pub async fn chat_and_desk(chat: Vendor, desk: Vendor) -> Lab {
    let mut lab = Lab::new(&[("chat", chat), ("desk", desk)]).await;
    lab.config.flows = vec![on(EventKind::TicketClosed, ActKind::Resolve)];
    lab
}

impl Lab {
    /// Ana's chat, answered, while the desk is watched.
    pub async fn answered_chat(&self) -> String {
        let chat = self.ana().await;
        self.says(&chat, Author::Agent);
        chat
    }

    pub fn ticket(&self, chat: Option<&str>) -> String {
        let new = NewTicket {
            subject: "Broken widget".to_owned(),
            email: Some("ana@example.test".to_owned()),
            chat: chat.map(str::to_owned),
        };
        self.sandbox.open_ticket(self.clock.now(), "desk", &new)
    }

    /// Somebody at the desk sets the status; `solved` in the desk's own word.
    pub fn desk(&self, id: &str, status: &str) {
        let rt = self.config.connections["desk"].connector == "rt";
        let status = if rt && status == "solved" { "resolved" } else { status };
        self.sandbox.set_ticket(self.clock.now(), "desk", id, status);
    }

    pub fn says(&self, chat: &str, author: Author) {
        self.sandbox.say(self.clock.now(), "chat", chat, author, "Well?");
    }

    /// A pass after the minute in which a desk does not yet show what changed.
    pub async fn later(&self) -> Pass {
        self.clock.advance(3 * MINUTE);
        self.work().await
    }

    pub fn is_resolved(&self, chat: &str) -> bool {
        self.sandbox.chats("chat").iter().any(|known| known.id == chat && known.resolved)
    }

    /// What became of the last intent.
    pub async fn last(&self) -> (MessageState, Option<String>) {
        let last = self.intents().await.pop().expect("an intent");
        (last.state, last.reason)
    }

    pub async fn assert_dropped(&self, reason: &str) {
        assert_eq!(self.last().await, (MessageState::Dropped, Some(reason.to_owned())));
    }
}

/// Given a ticket that names a chat, when somebody closes it, then the chat is resolved, once.
#[tokio::test]
async fn a_closed_ticket_resolves_its_chat() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.answered_chat().await;
        let other = lab.sandbox.chats("chat")[0].person.clone();
        let bystander = lab.sandbox.open_chat(lab.clock.now(), "chat", &other, None);
        let ticket = lab.ticket(Some(&chat));
        let pass = lab.later().await;
        assert_eq!((pass.events, pass.resolved), (1, 0), "{chat_is:?} {desk_is:?} {pass:?}");
        lab.desk(&ticket, "solved");
        let pass = lab.later().await;
        assert_eq!(pass.resolved, 1, "{chat_is:?} {desk_is:?} {pass:?} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat) && !lab.is_resolved(&bystander));
        lab.clock.advance(HOUR);
        lab.work().await;
        assert_eq!(lab.later().await, Pass::default());
    }
}

/// Given tickets that were closed before the desk was connected, then no chat is touched.
#[tokio::test]
async fn old_tickets_resolve_nothing() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        let chat = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, None);
        let ticket = lab.ticket(Some(&chat));
        lab.desk(&ticket, "solved");
        lab.clock.advance(HOUR);
        lab.run().await;
        lab.later().await;
        assert!(lab.intents().await.is_empty() && !lab.is_resolved(&chat));
    }
}

/// A text of the operator's own beside a configuration with `mappings_dir = "own"`.
pub fn write_own_text(folder: &std::path::Path, name: &str, event: &str) {
    let texts = folder.join("own/messages");
    std::fs::create_dir_all(&texts).expect("it is writable");
    let text = format!("event = \"{event}\"\n---\nHello\n");
    std::fs::write(texts.join(format!("{name}.en.txt")), text).expect("it is writable");
}

/// R60. Given an inbox with a survey, then a flow that resolves is refused until somebody says that the survey is meant.
#[tokio::test]
async fn r60_a_survey_is_never_sent_unasked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("token"), "x").expect("it is writable");
    write_own_text(folder.path(), "x", "ticket.created");
    zendesk_names_chats(folder.path());
    let check = |more: &str| {
        let path = folder.path().join("counterpart.toml");
        let text = format!(
            r#"
            mappings_dir = "own"
            connectors_dir = "own"
            [connections.chat]
            connector = "chatwoot"
            base_url = "https://chat.example.test"
            account_id = 1
            api_access_token = {{ file = "{token}" }}
            [connections.desk]
            connector = "zendesk"
            base_url = "https://desk.example.test/api/v2"
            email = "sync@example.test"
            api_token = {{ file = "{token}" }}
            {more}"#,
            token = folder.path().join("token").display(),
        );
        std::fs::write(&path, text).expect("it is writable");
        Config::load(&path).map(|config| config.flows.len()).map_err(|error| error.problems)
    };
    let flow = "[[flows]]\non = \"ticket.closed\"\nfrom = \"desk\"\nresolve = \"chat\"\n";
    let refused = check(flow).expect_err("the survey was not accepted");
    assert!(refused.len() == 1 && refused[0].message.contains("survey"), "{refused:?}");
    assert!(refused[0].help.contains("accept_effects"), "{refused:?}");
    assert_eq!(check(&format!("{flow}accept_effects = true\n")), Ok(1));
    // A desk has nobody to keep in agreement.
    let sync = "[[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"chat\", \"desk\"]\n";
    let refused = check(sync).expect_err("a desk knows no people");
    assert!(refused.len() == 1 && refused[0].message.contains("`desk` (zendesk) knows no people"), "{refused:?}");
    let odd = "[[flows]]\non = \"ticket.created\"\nfrom = \"desk\"\nnote = \"x\"\nto = \"chat\"\nlink = \"person\"\n";
    assert!(check(odd).expect_err("a note has no use for it")[0].message.contains("`link`"));
    assert_eq!(check(&format!("{flow}accept_effects = true\nlink = \"person\"\n")), Ok(1));

    // Accepted, it is sent: that is the vendor's way.
    let mut lab = Lab::with_fakes(&[("chat", Vendor::Chatwoot), ("desk", Vendor::Rt)], &[("chat", "csat", "1")]).await;
    lab.config.flows = vec![on(EventKind::TicketClosed, ActKind::Resolve)];
    let chat = lab.answered_chat().await;
    let ticket = lab.ticket(Some(&chat));
    lab.later().await;
    let before = lab.sandbox.chat_messages("chat").len();
    lab.desk(&ticket, "solved");
    lab.later().await;
    let surveys = lab.sandbox.chat_messages("chat").into_iter().skip(before).filter(|m| m.author == Author::Bot);
    assert!(lab.is_resolved(&chat) && surveys.count() >= 1);
}

/// Given a customer who waits for an answer and gets a message of a flow meanwhile, whatever becomes of its answer, then they
/// still wait when the ticket closes; after an agent's answer, and another message of a flow, they do not.
#[tokio::test]
async fn what_a_flow_writes_is_no_answer() {
    for (chat_is, desk_is) in PAIRS {
        for faults in ["none", "cut_after=1"] {
            let mut lab = chat_and_desk(chat_is, desk_is).await;
            write_text(&mut lab, "taken", "ticket.created", "We have your ticket {{ ticket.number }}");
            lab.config
                .flows
                .push(FlowConfig { template: Some("taken".to_owned()), ..on(EventKind::TicketCreated, ActKind::Send) });
            let chat = lab.ana().await;
            let ticket = lab.ticket(Some(&chat));
            lab.clock.advance(MINUTE);
            lab.ailing(faults).await;
            assert_eq!(lab.told("chat").len(), 1, "{faults} {:?}", lab.intents().await);
            lab.desk(&ticket, "solved");
            lab.later().await;
            assert!(!lab.is_resolved(&chat), "{chat_is:?} {desk_is:?} {faults} {:?}", lab.intents().await);
            lab.assert_dropped("unanswered").await;
            lab.says(&chat, Author::Agent);
            let ticket = lab.ticket(Some(&chat));
            lab.later().await;
            assert_eq!(lab.told("chat").len(), 3, "{faults} {:?}", lab.intents().await);
            lab.desk(&ticket, "solved");
            lab.later().await;
            assert!(lab.is_resolved(&chat), "{chat_is:?} {desk_is:?} {faults} {:?}", lab.intents().await);
        }
    }
}

/// Given a customer who waits for an answer, when the ticket closes, then the chat stays open; after an answer and another
/// close it is resolved.
#[tokio::test]
async fn nobody_who_waits_is_resolved_away() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.ana().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.desk(&ticket, "solved");
        let pass = lab.later().await;
        assert_eq!((pass.resolved, pass.dropped), (0, 1), "{chat_is:?} {desk_is:?} {:?}", lab.intents().await);
        lab.assert_dropped("unanswered").await;
        lab.says(&chat, Author::Agent);
        lab.desk(&ticket, "open");
        lab.later().await;
        lab.desk(&ticket, "solved");
        assert_eq!(lab.later().await.resolved, 1);
        assert!(lab.is_resolved(&chat));
    }
}

/// Given a close that could not be carried out yet, when the ticket is opened again meanwhile, then it never is; the next
/// close is.
#[tokio::test]
async fn a_ticket_that_opens_again_in_time_keeps_its_chat() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        // The chat cannot be asked, the desk can.
        lab.clock.advance(3 * MINUTE);
        lab.desk(&ticket, "solved");
        lab.clock.advance(3 * MINUTE);
        {
            let engine = lab.engine(lab.network());
            let worker = engine.worker().await.expect("nobody else works");
            worker.read().await.expect("it reads");
            lab.faults("5xx=1");
            let pass = worker.pass().await.expect("it works");
            assert_eq!((pass.events, pass.resolved), (1, 0), "{pass:?}");
            lab.sandbox.set_faults(counterpart_sandbox::Faults::none());
            worker.close().await.expect("it ends");
        }
        assert_eq!(lab.last().await.0, MessageState::Held);
        lab.desk(&ticket, "open");
        lab.later().await;
        lab.assert_dropped("overtaken by ticket.reopened").await;
        assert!(!lab.is_resolved(&chat));
        lab.desk(&ticket, "solved");
        assert_eq!(lab.later().await.resolved, 1);
        // Once more, and the customer's word in between opens the chat.
        lab.says(&chat, Author::Customer);
        assert!(!lab.is_resolved(&chat));
        lab.desk(&ticket, "open");
        lab.later().await;
        lab.says(&chat, Author::Agent);
        lab.desk(&ticket, "solved");
        assert_eq!(lab.later().await.resolved, 1);
        assert!(lab.is_resolved(&chat));
    }
}

/// Given a resolved chat, when its customer writes again, then it stays open: a ticket that is closed already says nothing.
#[tokio::test]
async fn who_writes_after_closing_is_heard() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.desk(&ticket, "solved");
        assert_eq!(lab.later().await.resolved, 1);
        lab.says(&chat, Author::Customer);
        if desk_is == Vendor::Zendesk {
            lab.desk(&ticket, "closed");
        }
        for _ in 0..3 {
            assert_eq!(lab.later().await.resolved, 0);
            lab.clock.advance(DAY);
        }
        assert!(!lab.is_resolved(&chat));
    }
}

/// Given merged and deleted tickets, then they count as closed.
#[tokio::test]
async fn merged_and_deleted_tickets_count_as_closed() {
    for (desk_is, status, days) in [
        (Vendor::Zendesk, "closed", 0),
        (Vendor::Zendesk, "deleted", 0),
        (Vendor::Rt, "rejected", 0),
        // It is in no search any more: two whole readings without it are needed.
        (Vendor::Rt, "deleted", 2),
    ] {
        let lab = chat_and_desk(Vendor::Chatwoot, desk_is).await;
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        let keeper = lab.ticket(None);
        lab.later().await;
        lab.desk(&ticket, status);
        let mut resolved = 0;
        for _ in 0..days {
            resolved += lab.later().await.resolved;
            lab.clock.advance(DAY);
        }
        resolved += lab.later().await.resolved;
        assert_eq!(resolved, 1, "{desk_is:?} {status} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat) && keeper != ticket);
    }
}

/// Given several tickets about one chat, then it is resolved when the last of them closes.
#[tokio::test]
async fn the_last_of_many_tickets_resolves() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.answered_chat().await;
        let tickets = [0; 3].map(|_| lab.ticket(Some(&chat)));
        lab.later().await;
        for ticket in &tickets[..2] {
            lab.desk(ticket, "solved");
            assert_eq!(lab.later().await.resolved, 0, "{chat_is:?} {desk_is:?}");
            lab.assert_dropped("another ticket is open").await;
        }
        lab.desk(&tickets[0], "open");
        lab.desk(&tickets[2], "solved");
        assert_eq!(lab.later().await.resolved, 0);
        lab.desk(&tickets[0], "solved");
        assert_eq!(lab.later().await.resolved, 1);
        assert!(lab.is_resolved(&chat));
    }
}

/// Given a chat that an agent resolved by hand, then there is nothing to do.
#[tokio::test]
async fn resolved_already_is_nothing() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
        lab.desk(&ticket, "solved");
        let pass = lab.later().await;
        assert_eq!((pass.resolved, pass.dropped), (0, 1));
        lab.assert_dropped("resolved already").await;
    }
}

/// Given a ticket that names no chat, then its requester's is resolved only where the flow says so.
#[tokio::test]
async fn a_person_leads_to_a_chat_only_by_rule() {
    for (chat_is, desk_is) in PAIRS {
        for link in [Link::Explicit, Link::Person] {
            let mut lab = chat_and_desk(chat_is, desk_is).await;
            lab.config.flows[0].link = link;
            let chat = lab.answered_chat().await;
            let ticket = lab.ticket(None);
            let second = lab.ticket(None);
            lab.later().await;
            lab.desk(&second, "solved");
            assert_eq!(lab.later().await.resolved, 0, "{chat_is:?} {desk_is:?}");
            lab.desk(&ticket, "solved");
            let pass = lab.later().await;
            assert_eq!(pass.resolved, u64::from(link == Link::Person), "{desk_is:?} {:?}", lab.intents().await);
            assert_eq!(lab.is_resolved(&chat), link == Link::Person);
            if link == Link::Explicit {
                let (state, reason) = lab.last().await;
                assert!(state == MessageState::Dropped && reason.is_some_and(|why| why.starts_with("no link")));
            }
        }
    }
}

/// Given a link to a chat that is not there, then the intent ends with a reason.
#[tokio::test]
async fn a_link_into_nothing_ends() {
    for (chat_is, desk_is) in PAIRS {
        let lab = chat_and_desk(chat_is, desk_is).await;
        lab.answered_chat().await;
        let ticket = lab.ticket(Some("424242"));
        lab.later().await;
        lab.desk(&ticket, "solved");
        lab.later().await;
        lab.clock.advance(2 * DAY);
        lab.work().await;
        let (state, reason) = lab.last().await;
        assert!(state == MessageState::Dropped && reason.is_some(), "{chat_is:?}: {state:?} {reason:?}");
    }
}

/// Given a flow that opens chats again, then a ticket that opens again opens its resolved chat, and leaves an open one alone.
#[tokio::test]
async fn an_opened_ticket_opens_its_chat() {
    for desk_is in [Vendor::Zendesk, Vendor::Rt] {
        let mut lab = chat_and_desk(Vendor::Chatwoot, desk_is).await;
        lab.config.flows.push(on(EventKind::TicketReopened, ActKind::Reopen));
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.desk(&ticket, "solved");
        lab.later().await;
        assert!(lab.is_resolved(&chat));
        lab.desk(&ticket, "open");
        assert_eq!(lab.later().await.resolved, 1, "{:?}", lab.intents().await);
        assert!(!lab.is_resolved(&chat));
        lab.desk(&ticket, "solved");
        lab.later().await;
        lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, false);
        lab.desk(&ticket, "open");
        assert_eq!(lab.later().await.resolved, 0);
        lab.assert_dropped("open already").await;
    }
}

/// A note's text of this lab.
pub fn write_note(lab: &mut Lab, event: &str) {
    let folder = lab.folder.path().join("messages");
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let text = format!(
        "event = \"{event}\"\n---\nTicket {{{{ ticket.number }}}}: {{{{ ticket.subject | default(\"-\") }}}}\n"
    );
    std::fs::write(folder.join("desk-note.en.txt"), text).expect("the temporary folder is writable");
    lab.config.mappings_dir = Some(lab.folder.path().to_owned());
}

/// Given a flow that notes new tickets, then the agents in the chat see the note, and the customer does not.
#[tokio::test]
async fn a_new_ticket_is_noted() {
    for (chat_is, desk_is) in PAIRS {
        let mut lab = chat_and_desk(chat_is, desk_is).await;
        let note = on(EventKind::TicketCreated, ActKind::Note);
        lab.config.flows = vec![FlowConfig { template: Some("desk-note".to_owned()), ..note }];
        write_note(&mut lab, "ticket.created");
        let chat = lab.answered_chat().await;
        let told = lab.told("chat").len();
        let ticket = lab.ticket(Some(&chat));
        assert_eq!(lab.later().await.sent, 1, "{:?}", lab.intents().await);
        assert_eq!(lab.later().await.sent, 0);
        let notes: Vec<_> = lab.sandbox.chat_messages("chat").into_iter().filter(|m| m.private).collect();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].chat == chat && notes[0].text.contains(&format!("Ticket {ticket}: Broken widget")));
        assert_eq!(lab.told("chat").len(), told);
    }
}

/// R61. Given a note that opens the ticket again at the desk, which closes it again, then there is one note, and the chat is
/// resolved in the end.
#[tokio::test]
async fn r61_our_own_note_does_not_go_in_circles() {
    for (chat_is, desk_is) in PAIRS {
        let mut lab = chat_and_desk(chat_is, desk_is).await;
        let note = on(EventKind::TicketClosed, ActKind::Note);
        lab.config.flows.insert(0, FlowConfig { template: Some("desk-note".to_owned()), ..note });
        write_note(&mut lab, "ticket.closed");
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.desk(&ticket, "solved");
        let notes = || lab.sandbox.chat_messages("chat").iter().filter(|message| message.private).count();
        let mut seen = 0;
        for _ in 0..6 {
            lab.later().await;
            if notes() > seen {
                seen = notes();
                // The desk takes what is written in the chat for news, and somebody closes the ticket again.
                lab.desk(&ticket, "open");
                lab.later().await;
                lab.clock.advance(HOUR);
                lab.desk(&ticket, "solved");
            }
        }
        assert_eq!(notes(), 1, "{chat_is:?} {desk_is:?} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat));
        assert_eq!(lab.later().await, Pass::default());
    }
}

/// The next number of a row that looks random (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// R64. Given any order of close, open again, customer's message and answer, then no chat is resolved in which the customer
/// waits; and who closes last, after an answer, gets the chat resolved.
#[tokio::test]
async fn r64_no_order_resolves_a_waiting_customer_away() {
    let mut resolved = 0;
    for seed in 0..24_u64 {
        let (chat_is, desk_is) = PAIRS[usize::try_from(seed % 4).expect("a small number")];
        let lab = chat_and_desk(chat_is, desk_is).await;
        let chat = lab.answered_chat().await;
        let tickets = [lab.ticket(Some(&chat)), lab.ticket(Some(&chat))];
        lab.later().await;
        let (mut random, mut story) = (seed, Vec::new());
        let waits = || {
            let all = lab.sandbox.chat_messages("chat");
            let last = all.iter().rfind(|m| m.chat == chat && !m.private && m.author != Author::Bot);
            last.is_some_and(|message| message.author == Author::Customer)
        };
        for _ in 0..30 {
            let ticket = &tickets[usize::try_from(next(&mut random) % 2).expect("0 or 1")];
            let step = next(&mut random) % 5;
            match step {
                0 | 1 => lab.desk(ticket, "solved"),
                2 => lab.desk(ticket, "open"),
                3 => lab.says(&chat, Author::Customer),
                _ => lab.says(&chat, Author::Agent),
            }
            story.push((ticket.clone(), step));
            lab.clock.advance(MINUTE);
            if next(&mut random).is_multiple_of(2) {
                let pass = lab.later().await;
                resolved += pass.resolved;
                assert!(pass.resolved == 0 || !waits(), "{chat_is:?} {desk_is:?} seed {seed}: {story:?}");
            }
        }
        lab.says(&chat, Author::Agent);
        for status in ["open", "solved"] {
            tickets.iter().for_each(|ticket| lab.desk(ticket, status));
            lab.later().await;
        }
        assert!(lab.is_resolved(&chat), "{chat_is:?} {desk_is:?} seed {seed}: {story:?} {:?}", lab.intents().await);
    }
    assert!(resolved > 10, "the worlds are too quiet: {resolved}");
}

/// Given a desk that tells of its changes, then a close resolves the chat at once, before any reading could show it; so does a
/// deletion, after which the ticket cannot be read any more.
#[tokio::test]
async fn a_webhook_is_faster_than_the_export() {
    for status in ["solved", "deleted"] {
        let systems = [("chat", Vendor::Chatwoot), ("desk", Vendor::Zendesk)];
        let mut lab = Lab::with_fakes(&systems, &[("desk", "webhook_secret", "s3")]).await;
        lab.config.flows = vec![on(EventKind::TicketClosed, ActKind::Resolve)];
        let desk = lab.config.connections.get_mut("desk").expect("a desk");
        desk.secrets.insert("webhook_secret".to_owned(), "s3".into());
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.later().await;
        lab.sandbox.take_hooks();
        lab.clock.advance(DAY);
        lab.desk(&ticket, status);
        lab.receive_hooks("desk").await;
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        let pass = worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
        assert_eq!((pass.hooks, pass.resolved), (1, 1), "{status} {pass:?} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat));
        lab.later().await;
        assert_eq!(lab.later().await, Pass::default());
    }
}

/// Given a desk whose webhook `hooks register` made, then the close of a ticket by somebody else is told of and resolves the
/// chat, before any reading could show it; deliveries signed with another secret than the one that is set are refused.
#[tokio::test]
async fn a_registered_webhook_tells_of_a_close() {
    for status in ["solved", "deleted"] {
        let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Zendesk).await;
        lab.config.serve.public_url = Some("https://hooks.example.test".to_owned());
        assert_eq!(lab.register("desk").await.done.len(), 1);
        let secret = lab.ours("desk")[0].secret.clone();
        lab.secret("desk", "webhook_secret", &secret);
        assert!(lab.register("desk").await.is_well());
        let chat = lab.answered_chat().await;
        let ticket = lab.ticket(Some(&chat));
        lab.receive_hooks("desk").await;
        lab.later().await;
        assert!(!lab.is_resolved(&chat));
        lab.clock.advance(DAY);
        lab.desk(&ticket, status);
        lab.receive_hooks("desk").await;
        let pass = lab.work().await;
        assert_eq!((pass.hooks, pass.resolved), (1, 1), "{status} {pass:?} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat));
        lab.later().await;
        assert_eq!(lab.later().await, Pass::default());
    }
}

impl Lab {
    /// Verifies and stores what one system tells of, as whoever listens for webhooks does.
    async fn receive_hooks(&self, system: &str) {
        let config = &self.config.connections[system];
        let spec = ConnectionSpec {
            name: system.to_owned(),
            connector: config.connector.clone(),
            settings: config.settings.clone(),
            secrets: config.secrets.clone(),
            manifest_dirs: Vec::new(),
        };
        let connection =
            Connection::open(spec, self.network(), Arc::new(OpenGate), self.clock.clone()).expect("it opens");
        let mut stored = Vec::new();
        for told in self.sandbox.take_hooks().into_iter().filter(|told| told.instance == system) {
            let pairs = told.headers.iter().map(|(name, value)| {
                let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header");
                (name, http::HeaderValue::from_str(value).expect("a value"))
            });
            let headers: http::HeaderMap = pairs.collect();
            let delivery = Delivery {
                method: "POST",
                url: "http://localhost/",
                headers: &headers,
                body: &told.body,
                path_secret: None,
            };
            let intake = connection.hook(&delivery, self.clock.now()).expect("it is signed");
            stored.push(NewHook {
                connection: system.to_owned(),
                hints: serde_json::to_value(&intake.hints).expect("hints are JSON"),
                body: String::from_utf8_lossy(&told.body).into_owned(),
            });
        }
        self.store.receive(&stored, self.clock.now()).await.expect("the store answers");
    }
}
