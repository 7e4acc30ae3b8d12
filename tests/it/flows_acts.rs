//! What flows do at desks, what counts as news of a ticket or a conversation, and what is done when there is no way.

use std::collections::BTreeMap;

use counterpart::config::{Config, Fallback, FlowConfig};
use counterpart::engine::Pass;
use counterpart::store::MessageState;
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, Vendor};
use serde_json::json;

use crate::flows::{flow, order};
use crate::flows_echoes::is_echo;
use crate::flows_tickets::{PAIRS, chat_and_desk, on, write_note, write_own_text};
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone, zendesk_names_chats};

/// A message's text of this lab, called `NAME.en.txt`.
pub fn write_text(lab: &mut Lab, name: &str, event: &str, text: &str) {
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

const TICKET: &str = "Chat with {{ conversation.contact.name | default(\"somebody\") }}\n\nIt was resolved.";

/// A chat whose resolved conversations open tickets at a desk.
async fn chat_opens_tickets(chat: Vendor, desk: Vendor) -> Lab {
    let mut lab = chat_and_desk(chat, desk).await;
    if desk == Vendor::Rt {
        lab.set("desk", "queue", json!("General"));
    }
    opening_tickets(lab).await
}

async fn opening_tickets(mut lab: Lab) -> Lab {
    write_text(&mut lab, "from-chat", "conversation.resolved", TICKET);
    let open = flow(EventKind::ConversationResolved, ActKind::OpenTicket, Some("from-chat"));
    lab.config.flows.push(FlowConfig { from: "chat".to_owned(), to: "desk".to_owned(), ..open });
    // Only what begins from here on is news.
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    lab
}

impl Lab {
    /// Ana's chat, answered and resolved.
    async fn resolved_chat(&self) -> String {
        let chat = self.answered_chat().await;
        self.sandbox.resolve_chat(self.clock.now(), "chat", &chat, true);
        chat
    }

    /// Tickets that were made at the desk, calls that may have made one included.
    fn made(&self) -> usize {
        self.sandbox.tickets("desk").len()
    }
}

/// Given a conversation that is resolved, then one ticket is opened for its contact, which names it, whatever the network does
/// to the call; and when the chat is open again, the ticket's close resolves it.
#[tokio::test]
async fn a_ticket_is_made_from_a_chat_once_and_leads_back_to_it() {
    for (chat_is, desk_is) in PAIRS {
        for faults in ["none", "cut_after=1", "cut_before=1", "error_after=1", "5xx=1"] {
            let lab = chat_opens_tickets(chat_is, desk_is).await;
            let what = format!("{chat_is:?} {desk_is:?} {faults}");
            let chat = lab.resolved_chat().await;
            lab.faulty(faults).await;
            let after = lab.intents().await.remove(0);
            let known = if faults == "none" { MessageState::Sent } else { MessageState::Unknown };
            assert_eq!(after.state, known, "{what} {after:?}");
            lab.clock.advance(10 * MINUTE);
            lab.work().await;
            lab.work().await;
            let tickets = lab.sandbox.tickets("desk");
            assert_eq!(tickets.len(), 1, "{what} {:?}", lab.intents().await);
            assert!(tickets[0].subject.starts_with("Chat with"), "{what} {tickets:?}");
            assert!(tickets[0].fields.values().any(|value| *value == chat), "{what} {tickets:?}");
            let intent = lab.intents().await.remove(0);
            assert_eq!((intent.state, intent.remote_id.as_deref()), (MessageState::Sent, Some("1")), "{what}");
            lab.later().await;
            let read = lab.store.document("desk", "ticket", "1").await.expect("the store answers").expect("a ticket");
            assert_eq!(read["requester"]["email"], "ana@example.test", "{what}");
            assert_eq!(read["conversation"], json!(chat), "{what}");

            lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, false);
            lab.later().await;
            lab.desk("1", "solved");
            assert_eq!(lab.later().await.resolved, 1, "{what} {:?}", lab.intents().await);
            assert!(lab.is_resolved(&chat));
            lab.later().await;
            assert_eq!((lab.later().await, lab.made()), (Pass::default(), 1), "{what}");
        }
    }
}

/// Given a desk whose look-ups lag behind, when the call that opens a ticket has no answer, then that the ticket does not show yet
/// is no reason to open another; when it still does not show after the time that the desk takes, the attempt is made again, with
/// one effect, also where the desk lags longer than it says.
#[tokio::test]
async fn a_ticket_that_shows_late_is_not_opened_twice() {
    for (lag, faults) in [(5, "cut_after=1"), (5, "cut_before=1"), (20, "cut_after=1"), (20, "error_after=1")] {
        let what = format!("{lag} minutes, {faults}");
        let millis = (lag * MINUTE).to_string();
        let fakes = [("desk", "search_lag_ms", millis.as_str())];
        let systems = [("chat", Vendor::Chatwoot), ("desk", Vendor::Zendesk)];
        let lab = opening_tickets(Lab::with_fakes(&systems, &fakes).await).await;
        lab.resolved_chat().await;
        let (made, shows_in_time) = (faults != "cut_before=1", lag < 10);
        lab.faulty(faults).await;
        assert_eq!(lab.made(), usize::from(made), "{what}");
        for _ in 0..3 {
            lab.later().await;
            let waiting = lab.intents().await.remove(0);
            let found = made && shows_in_time && waiting.state == MessageState::Sent;
            assert!(waiting.state == MessageState::Unknown || found, "{what} {waiting:?}");
            assert_eq!((waiting.attempts, lab.made()), (1, usize::from(made)), "{what} {waiting:?}");
        }
        for _ in 0..3 {
            lab.clock.advance(10 * MINUTE);
            lab.work().await;
        }
        let done = lab.intents().await.remove(0);
        assert_eq!((done.state, lab.made()), (MessageState::Sent, 1), "{what} {done:?}");
        let attempts = if made && shows_in_time { 1 } else { 2 };
        assert_eq!(done.attempts, attempts, "{what} {done:?}");
        // And hours later there is still one.
        lab.clock.advance(3 * HOUR);
        lab.work().await;
        assert_eq!((lab.later().await, lab.made()), (Pass::default(), 1), "{what}");
    }
}

/// Given an order of somebody without an e-mail address, then the ticket waits, and is given up when it is old.
#[tokio::test]
async fn a_ticket_needs_a_requester() {
    let mut lab =
        Lab::new(&[("chat", Vendor::Chatway), ("shop", Vendor::Woocommerce), ("desk", Vendor::Zendesk)]).await;
    write_text(&mut lab, "refund", "order.refunded", "Refund of order {{ order.number }}");
    let open = flow(EventKind::OrderCreated, ActKind::OpenTicket, Some("refund"));
    lab.config.flows = vec![FlowConfig { to: "desk".to_owned(), ..open }];
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    let nobody = counterpart_sandbox::NewOrder { email: None, ..order("", "pending") };
    lab.sandbox.place_order(lab.clock.now(), "shop", &nobody);
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("bob@example.test", "pending"));
    assert_eq!(lab.work().await.tickets, 1);
    let intents = lab.intents().await;
    assert_eq!((intents[0].state, intents[0].reason.as_deref()), (MessageState::Held, Some("no_route")));
    lab.clock.advance(2 * DAY);
    lab.work().await;
    assert_eq!(lab.intents().await[0].state, MessageState::Dropped);
    assert_eq!(lab.made(), 1);
}

pub fn setting(from: &str, on: EventKind, fields: &[(&str, &str)]) -> FlowConfig {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    FlowConfig {
        from: from.to_owned(),
        to: "desk".to_owned(),
        fields: fields.collect::<BTreeMap<_, _>>(),
        ..flow(on, ActKind::SetTicket, None)
    }
}

/// Given a conversation that is resolved, then the open tickets that name it get their fields set, each once; those that are done
/// and those of other chats stay as they are.
#[tokio::test]
async fn tickets_of_a_resolved_chat_are_set() {
    for (chat_is, desk_is) in PAIRS {
        let mut lab = chat_and_desk(chat_is, desk_is).await;
        let flow = setting("chat", EventKind::ConversationResolved, &[("status", "solved"), ("subject", "Done")]);
        lab.config.flows = vec![flow];
        lab.run().await;
        lab.work().await;
        lab.clock.advance(HOUR);
        let chat = lab.answered_chat().await;
        let linked = [lab.ticket(Some(&chat)), lab.ticket(Some(&chat))];
        lab.ticket(None);
        lab.ticket(Some("424242"));
        let done = lab.ticket(Some(&chat));
        lab.sandbox.set_ticket(
            lab.clock.now(),
            "desk",
            &done,
            if desk_is == Vendor::Rt { "rejected" } else { "closed" },
        );
        lab.later().await;
        lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
        let pass = lab.later().await;
        assert_eq!(pass.tickets, 1, "{chat_is:?} {desk_is:?} {pass:?} {:?}", lab.intents().await);
        let solved = if desk_is == Vendor::Rt { "resolved" } else { "solved" };
        let changed: Vec<String> = lab
            .sandbox
            .tickets("desk")
            .into_iter()
            .filter(|ticket| ticket.status == solved && ticket.subject == "Done")
            .map(|ticket| ticket.id)
            .collect();
        assert_eq!(changed, linked, "{chat_is:?} {desk_is:?}");
        let intent = lab.intents().await.remove(0);
        assert_eq!(intent.remote_id.as_deref().map(|ids| ids.split(',').count()), Some(2), "{intent:?}");
        lab.later().await;
        assert_eq!(lab.later().await, Pass::default());
    }
}

/// Given a flow that answers each change of a ticket with a change, then it comes to rest; a cut connection changes nothing about it.
#[tokio::test]
async fn setting_what_is_set_already_is_nothing() {
    for desk_is in [Vendor::Zendesk, Vendor::Rt] {
        for faults in ["none", "cut_after=1", "cut_before=1"] {
            let mut lab = chat_and_desk(Vendor::Chatway, desk_is).await;
            lab.config.flows = vec![setting("desk", EventKind::TicketUpdated, &[("priority", "high")])];
            if desk_is == Vendor::Rt {
                lab.config.flows[0].fields.insert("priority".to_owned(), "50".to_owned());
            }
            lab.run().await;
            lab.work().await;
            lab.clock.advance(HOUR);
            let ticket = lab.ticket(None);
            lab.later().await;
            lab.desk(&ticket, if desk_is == Vendor::Rt { "stalled" } else { "pending" });
            lab.clock.advance(3 * MINUTE);
            lab.faulty(faults).await;
            for _ in 0..4 {
                lab.clock.advance(10 * MINUTE);
                lab.work().await;
            }
            let shown = lab.sandbox.tickets("desk").remove(0);
            let high = if desk_is == Vendor::Rt { "50" } else { "high" };
            assert_eq!(shown.priority.as_deref(), Some(high), "{desk_is:?} {faults} {:?}", lab.intents().await);
            // What was set is another change of the ticket, and ours.
            let intents = lab.intents().await;
            assert!(
                intents.iter().all(|intent| intent.state == MessageState::Sent || is_echo(intent)),
                "{desk_is:?} {faults} {intents:?}"
            );
            assert_eq!(lab.later().await, Pass::default(), "{desk_is:?} {faults}");
            assert_eq!(lab.writes(), 0);
        }
    }
}

/// A flow that writes to whom a ticket names; its next line is the fifth.
const ORDER: &str = "on = \"ticket.created\"\nfrom = \"desk\"\nsend = \"x\"\nto = \"chat\"\n";

/// Given keys that do not fit, then `check` says so, each at its place.
#[test]
fn what_a_desk_cannot_do_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("token"), "x").expect("it is writable");
    write_own_text(folder.path(), "x", "conversation.resolved");
    zendesk_names_chats(folder.path());
    let check = |flow: &str| {
        let path = folder.path().join("counterpart.toml");
        let text = format!(
            r#"mappings_dir = "own"
connectors_dir = "own"
[connections.chat]
connector = "chatwoot"
account_id = 1
api_access_token = {{ file = "{token}" }}
[connections.desk]
connector = "zendesk"
base_url = "https://desk.example.test/api/v2"
email = "sync@example.test"
api_token = {{ file = "{token}" }}
[connections.closed]
connector = "chatwoot"
account_id = 2
read_only = true
api_access_token = {{ file = "{token}" }}
[connections.rt]
connector = "rt"
base_url = "https://rt.example.test/REST/2.0"
token = {{ file = "{token}" }}
[[flows]]
{flow}
"#,
            token = folder.path().join("token").display(),
        );
        std::fs::write(&path, text).expect("it is writable");
        Config::load(&path).map(|config| config.flows.len()).map_err(|error| error.problems)
    };
    let chat = "on = \"conversation.resolved\"\nfrom = \"chat\"\n";
    assert_eq!(check(&format!("{chat}open_ticket = \"desk\"\ntext = \"x\"")), Ok(1));
    assert_eq!(
        check(&format!("{chat}set_ticket = \"desk\"\naccept_effects = true\nfields = {{ status = \"solved\" }}")),
        Ok(1)
    );
    let wrong = [
        (format!("{chat}open_ticket = \"desk\""), "it is not said what the ticket says", 24),
        (format!("{chat}open_ticket = \"chat\"\ntext = \"x\""), "`chat` (chatwoot) has no way to open a ticket", 24),
        (
            format!("{chat}open_ticket = \"rt\"\ntext = \"x\"\naccept_effects = true"),
            "`rt` (rt) opens tickets only where its setting `queue` is set",
            24,
        ),
        (format!("{chat}open_ticket = \"rt\"\ntext = \"x\""), "automatic reply", 24),
        (format!("{chat}resolve = \"chat\"\naccept_effects = true\ntext = \"x\""), "opens none", 26),
        (format!("{chat}resolve = \"chat\"\naccept_effects = true\nfields = {{ a = \"b\" }}"), "sets none", 26),
        (format!("{chat}set_ticket = \"desk\"\naccept_effects = true"), "it is not said what is set", 24),
        (
            format!("{chat}set_ticket = \"desk\"\naccept_effects = true\nfields = {{ owner = \"me\" }}"),
            "no field `owner` of a ticket can be set at `desk`",
            26,
        ),
        (
            format!("{chat}set_ticket = \"desk\"\naccept_effects = true\nfields = {{ status = \"done\" }}"),
            "`status` of a ticket cannot be set to `done` at `desk`",
            26,
        ),
        (format!("{ORDER}fallback = {{ to = \"closed\" }}"), "`closed` is `read_only`", 26),
        (format!("{ORDER}fallback = {{}}"), "a fallback is one way", 26),
        (format!("{ORDER}fallback = {{ to = \"chat\" }}"), "`chat` is the way that is missing", 26),
        (format!("{ORDER}fallback = {{ note = \"chat\" }}"), "has none for a note either", 26),
        (format!("{ORDER}fallback = {{ to = \"desk\" }}"), "`desk` (zendesk) has no way to send in a conversation", 26),
        (format!("{ORDER}fallback = {{ to = \"chat3\" }}"), "there is no connection `chat3`", 26),
        (format!("{ORDER}fallback = {{ note = \"chat\", conversation = \"7\", after = \"soon\" }}"), "soon", 26),
        (
            format!("{ORDER}fallback = {{ note = \"chat\", conversation = \"7\", after = \"24h\" }}"),
            "after 24h the message is too old already",
            26,
        ),
        (format!("{chat}resolve = \"chat\"\naccept_effects = true\nfallback = {{ to = \"x\" }}"), "sends nothing", 26),
        (
            "on = \"ticket.created\"\nfrom = \"desk\"\nopen_ticket = \"desk\"\ntext = \"x\"".to_owned(),
            "would go on for ever",
            22,
        ),
    ];
    for (flow, message, line) in wrong {
        let found = check(&flow).expect_err(&flow);
        let told = found.iter().find(|problem| problem.message.contains(message));
        assert_eq!(told.map(|problem| problem.line), Some(line), "{flow}: {found:?}");
    }
}

/// Given a conversation that is deleted at the vendor, then the message for it goes into another one, once; where there is none it
/// waits; and the deleted one is not tried again.
#[tokio::test]
async fn a_message_for_a_deleted_conversation_is_routed_anew() {
    for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
        let lab = crate::flows::shop_and_chat(vendor).await;
        let chat = lab.ana().await;
        let person = lab.sandbox.chats("chat")[0].person.clone();
        let older = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("An older matter"));
        lab.sandbox.resolve_chat(lab.clock.now(), "chat", &older, true);
        lab.work().await;
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "on-hold"));
        worker.read().await.expect("it reads");
        lab.sandbox.delete_chat(lab.clock.now(), "chat", &chat);
        let pass = worker.pass().await.expect("it works");
        let intent = lab.intents().await.remove(0);
        assert_eq!((pass.sent, pass.refused, intent.attempts), (1, 0, 2), "{vendor:?} {intent:?}");
        assert_eq!(intent.conversation.as_deref(), Some(older.as_str()), "{vendor:?}");
        // The last conversation goes too: the message waits for one.
        lab.sandbox.delete_chat(lab.clock.now(), "chat", &older);
        let id = lab.sandbox.orders("shop")[0].id.clone();
        lab.clock.advance(MINUTE);
        lab.sandbox.set_order(lab.clock.now(), "shop", &id, "processing");
        worker.read().await.expect("it reads");
        worker.pass().await.expect("it works");
        worker.close().await.expect("it ends");
        let intent = lab.intents().await.remove(1);
        assert_eq!((intent.state, intent.reason.as_deref()), (MessageState::Held, Some("no_route")), "{vendor:?}");
        let new = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Where is it?"));
        lab.clock.advance(HOUR);
        assert_eq!(lab.work().await.sent, 1, "{vendor:?} {:?}", lab.intents().await);
        assert_eq!(lab.intents().await[1].conversation.as_deref(), Some(new.as_str()));
    }
}

/// Given a ticket that names a deleted conversation, then the note for it is refused with its reason.
#[tokio::test]
async fn a_named_conversation_that_is_gone_is_a_refusal() {
    for (chat_is, desk_is) in PAIRS {
        let mut lab = chat_and_desk(chat_is, desk_is).await;
        let note = on(EventKind::TicketCreated, ActKind::Note);
        lab.config.flows = vec![FlowConfig { template: Some("desk-note".to_owned()), ..note }];
        write_note(&mut lab, "ticket.created");
        let chat = lab.answered_chat().await;
        let person = lab.sandbox.chats("chat")[0].person.clone();
        lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Another matter"));
        lab.sandbox.delete_chat(lab.clock.now(), "chat", &chat);
        lab.ticket(Some(&chat));
        assert_eq!(lab.later().await.refused, 1, "{chat_is:?} {desk_is:?} {:?}", lab.intents().await);
        assert!(lab.last().await.1.is_some_and(|why| why.contains("404")));
        assert!(lab.sandbox.chat_messages("chat").iter().all(|message| !message.private));
    }
}

/// A shop, and two chats of which the second is the way that is left.
async fn two_chats(fallback: Fallback) -> Lab {
    let systems = [("chat", Vendor::Chatwoot), ("chat2", Vendor::Chatway), ("shop", Vendor::Woocommerce)];
    let mut lab = Lab::new(&systems).await;
    let send = flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"));
    lab.config.flows = vec![FlowConfig { fallback: Some(fallback), ..send }];
    lab
}

/// Given no way to the customer, then after the time that the flow says, and not before, the message takes the other way, once,
/// whatever the network does; a way that comes later is not taken besides.
#[tokio::test]
async fn a_message_without_a_way_takes_the_other_one() {
    for act in [ActKind::Send, ActKind::Note] {
        for faults in ["none", "cut_after=1", "cut_before=1"] {
            let fallback = Fallback { act, to: "chat2".to_owned(), conversation: None, after_ms: HOUR };
            let lab = two_chats(fallback).await;
            // Not to be copied into the first chat, where nobody is known.
            let person = lab.add("chat2", &someone("Ana", "Lind", "ana@example.test"));
            lab.sandbox.open_chat(lab.clock.now(), "chat2", &person, Some("Hello?"));
            lab.run().await;
            lab.work().await;
            lab.clock.advance(HOUR);
            lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
            lab.work().await;
            lab.clock.advance(59 * MINUTE);
            lab.work().await;
            let waiting = lab.intents().await.remove(0);
            assert_eq!(
                (waiting.connection.as_str(), waiting.state),
                ("chat", MessageState::Held),
                "{act:?} {waiting:?}"
            );
            lab.clock.advance(MINUTE);
            lab.faulty(faults).await;
            let moved = lab.intents().await.remove(0);
            assert_eq!((moved.connection.as_str(), moved.action), ("chat2", act), "{moved:?}");
            // Somebody writes in the first chat after all.
            let late = lab.sandbox.people("chat").remove(0).id;
            lab.sandbox.open_chat(lab.clock.now(), "chat", &late, Some("Hello?"));
            for _ in 0..3 {
                lab.clock.advance(10 * MINUTE);
                lab.work().await;
            }
            let ours = |system: &str| {
                let said = lab.sandbox.chat_messages(system).into_iter();
                said.filter(|m| m.author != Author::Customer).map(|m| m.private).collect::<Vec<_>>()
            };
            let what = format!("{act:?} {faults} {:?}", lab.intents().await);
            assert_eq!((ours("chat"), ours("chat2")), (vec![], vec![act == ActKind::Note]), "{what}");
            assert_eq!(lab.intents().await[0].state, MessageState::Sent, "{what}");
        }
    }
}

/// Given a conversation that agents watch, then it gets the note of whom nobody can reach, also in the same chat system.
#[tokio::test]
async fn a_fallback_can_be_a_conversation_that_agents_watch() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("shop", Vendor::Woocommerce)]).await;
    let team = lab.add("chat", &someone("The", "Team", "team@example.test"));
    let room = lab.sandbox.open_chat(lab.clock.now(), "chat", &team, Some("Watch this"));
    let fallback =
        Fallback { act: ActKind::Note, to: "chat".to_owned(), conversation: Some(room.clone()), after_ms: HOUR };
    let send = flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"));
    lab.config.flows = vec![FlowConfig { fallback: Some(fallback), ..send }];
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    lab.work().await;
    lab.clock.advance(HOUR);
    lab.work().await;
    lab.work().await;
    let notes: Vec<_> = lab.sandbox.chat_messages("chat").into_iter().filter(|message| message.private).collect();
    assert_eq!(notes.len(), 1, "{:?}", lab.intents().await);
    assert_eq!(notes[0].chat, room);
}

/// Given a flow whose `to` is edited while a message waits, then the message did not fall back by that: it still does when it is
/// due, once, and says so from then on.
#[tokio::test]
async fn an_edited_flow_does_not_make_a_message_a_fallback() {
    let systems = [("chat", Vendor::Chatwoot), ("chat2", Vendor::Chatway), ("shop", Vendor::Woocommerce)];
    let mut lab = Lab::new(&[&systems[..], &[("chat3", Vendor::Chatwoot)]].concat()).await;
    let fallback = Fallback { act: ActKind::Send, to: "chat2".to_owned(), conversation: None, after_ms: HOUR };
    let send = flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"));
    lab.config.flows = vec![FlowConfig { fallback: Some(fallback), ..send }];
    let person = lab.add("chat2", &someone("Ana", "Lind", "ana@example.test"));
    lab.sandbox.open_chat(lab.clock.now(), "chat2", &person, Some("Hello?"));
    lab.run().await;
    lab.work().await;
    lab.clock.advance(HOUR);
    lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "pending"));
    lab.work().await;
    lab.config.flows[0].to = "chat3".to_owned();
    lab.clock.advance(30 * MINUTE);
    lab.work().await;
    let waiting = lab.intents().await.remove(0);
    assert_eq!((waiting.connection.as_str(), waiting.state), ("chat", MessageState::Held), "{waiting:?}");
    assert!(!waiting.fell_back, "{waiting:?}");
    lab.clock.advance(30 * MINUTE);
    assert_eq!(lab.work().await.sent, 1, "{:?}", lab.intents().await);
    let moved = lab.intents().await.remove(0);
    assert_eq!((moved.connection.as_str(), moved.state), ("chat2", MessageState::Sent), "{moved:?}");
    assert!(moved.fell_back, "{moved:?}");
    // The name of its way does not make it a message of the first way either.
    lab.config.flows[0].to = "chat2".to_owned();
    lab.clock.advance(DAY);
    lab.work().await;
    assert!(lab.intents().await.iter().all(|message| message.fell_back && message.attempts == 1));
}
