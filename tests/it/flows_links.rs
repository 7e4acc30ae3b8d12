//! Which chat a ticket belongs to, connections that flows leave, and fields of tickets that others set too.

use counterpart::config::{Config, FlowConfig, Link};
use counterpart::engine::Pass;
use counterpart::store::MessageState;
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, NewTicket, Vendor};

use crate::flows::{order, shop_and_chat};
use crate::flows_acts::setting;
use crate::flows_tickets::{chat_and_desk, on};
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone, zendesk_names_chats};

/// The mistakes of a configuration with two chats and two desks.
fn mistakes(flows: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "x").expect("it is writable");
    let mut text = format!("connectors_dir = {:?}\n", zendesk_names_chats(folder.path()));
    for name in ["chat", "chat2"] {
        text += &format!(
            "[connections.{name}]\nconnector = \"chatwoot\"\naccount_id = 1\napi_access_token = {{ file = {token:?} }}\n"
        );
    }
    for name in ["desk", "desk2"] {
        text += &format!(
            "[connections.{name}]\nconnector = \"zendesk\"\nbase_url = \"https://{name}.example.test/api/v2\"\n\
             email = \"sync@example.test\"\napi_token = {{ file = {token:?} }}\n"
        );
    }
    for flow in flows {
        text += &format!("[[flows]]\naccept_effects = true\n{flow}\n");
    }
    let path = folder.path().join("counterpart.toml");
    std::fs::write(&path, text).expect("it is writable");
    let found = Config::load(&path).err().map(|error| error.problems).unwrap_or_default();
    found.into_iter().map(|problem| format!("{} ({})", problem.message, problem.help)).collect()
}

/// Given one desk whose tickets would lead to conversations of two chats, then that is refused with what to do; a desk for each
/// chat, or going by the person, is fine.
#[test]
fn one_desk_leads_to_one_chat() {
    let closed = "on = \"ticket.closed\"\nfrom = \"desk\"\nresolve = \"chat\"";
    let closed2 = "on = \"ticket.closed\"\nfrom = \"desk\"\nresolve = \"chat2\"";
    let made2 = "on = \"conversation.resolved\"\nfrom = \"chat2\"\nopen_ticket = \"desk\"\ntext = \"chat-ticket\"";
    let set2 =
        "on = \"conversation.resolved\"\nfrom = \"chat2\"\nset_ticket = \"desk\"\nfields = { status = \"solved\" }";
    let other2 = "on = \"ticket.closed\"\nfrom = \"desk2\"\nresolve = \"chat2\"";
    let across = "on = \"ticket.closed\"\nfrom = \"desk2\"\nset_ticket = \"desk\"\nfields = { status = \"solved\" }";
    for flows in [vec![closed, closed2], vec![closed, set2], vec![closed, other2, across]] {
        let found = mistakes(&flows);
        assert!(found.len() == 1 && found[0].contains("not of which chat"), "{flows:?} {found:?}");
        assert!(found[0].contains("link = \"person\"") && found[0].contains("of its own"), "{found:?}");
    }
    let told = mistakes(&[closed, made2]);
    assert!(told.iter().any(|mistake| mistake.contains("not of which chat")), "{told:?}");
    let person = format!("{closed2}\nlink = \"person\"");
    for flows in [vec![closed, &person], vec![closed, other2]] {
        assert_eq!(mistakes(&flows), Vec::<String>::new(), "{flows:?}");
    }
}

/// Given a desk of whose tickets it is not said where they name their chat, then flows that go by that are refused with what to do.
#[test]
fn tickets_that_name_no_chat_lead_to_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "x").expect("it is writable");
    let found = |flow: &str| {
        let text = format!(
            "[connections.chat]\nconnector = \"chatwoot\"\naccount_id = 1\napi_access_token = {{ file = {token:?} }}\n\
             [connections.desk]\nconnector = \"zendesk\"\nbase_url = \"https://desk.example.test/api/v2\"\n\
             email = \"sync@example.test\"\napi_token = {{ file = {token:?} }}\n[[flows]]\naccept_effects = true\n{flow}\n"
        );
        let path = folder.path().join("counterpart.toml");
        std::fs::write(&path, text).expect("it is writable");
        Config::load(&path).err().map(|error| error.problems).unwrap_or_default()
    };
    let resolve = "on = \"ticket.closed\"\nfrom = \"desk\"\nresolve = \"chat\"";
    let reopen = "on = \"ticket.reopened\"\nfrom = \"desk\"\nreopen = \"chat\"";
    let set =
        "on = \"conversation.resolved\"\nfrom = \"chat\"\nset_ticket = \"desk\"\nfields = { status = \"solved\" }";
    for flow in [resolve, reopen, set] {
        let problems = found(flow);
        assert_eq!(problems.len(), 1, "{flow} {problems:?}");
        assert!(problems[0].message.contains("names its chat") && problems[0].help.contains("zendesk/ticket.toml"));
        assert_eq!(problems[0].line, 14, "{flow} {problems:?}");
    }
    assert_eq!(found(&format!("{resolve}\nlink = \"person\"")), Vec::new());
}

/// Given flows that close and open one ticket for ever, then they are refused; what ends is not.
#[test]
fn a_circle_at_one_desk_is_refused() {
    let closed = |status: &str| {
        format!("on = \"ticket.closed\"\nfrom = \"desk\"\nset_ticket = \"desk\"\nfields = {{ status = \"{status}\" }}")
    };
    let reopened = "on = \"ticket.reopened\"\nfrom = \"desk\"\nset_ticket = \"desk\"\nfields = { status = \"solved\" }";
    for flows in [[closed("open").as_str(), reopened], [reopened, closed("pending").as_str()]] {
        let found = mistakes(&flows);
        assert!(found.len() == 1 && found[0].contains("for ever"), "{found:?}");
    }
    assert_eq!(mistakes(&[&closed("closed"), reopened]), Vec::<String>::new());
}

impl Lab {
    fn ticket_at(&self, desk: &str, chat: Option<&str>) -> String {
        let new = NewTicket {
            subject: "Broken widget".to_owned(),
            email: Some("ana@example.test".to_owned()),
            chat: chat.map(str::to_owned),
        };
        self.sandbox.open_ticket(self.clock.now(), desk, &new)
    }
}

/// Given two chats that a ticket of one desk leads to by its person, then the number that it names is nobody's, and a stranger's
/// conversation of that number stays open.
#[tokio::test]
async fn a_number_is_not_a_strangers_conversation() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("chat2", Vendor::Chatwoot), ("desk", Vendor::Zendesk)]).await;
    let by_person = |to: &str| {
        let close = on(EventKind::TicketClosed, ActKind::Resolve);
        FlowConfig { name: to.to_owned(), to: to.to_owned(), link: Link::Person, ..close }
    };
    lab.config.flows = vec![by_person("chat"), by_person("chat2")];
    let stranger = lab.add("chat2", &someone("Bob", "Berg", "bob@example.test"));
    let theirs = lab.sandbox.open_chat(lab.clock.now(), "chat2", &stranger, Some("Hello?"));
    lab.sandbox.say(lab.clock.now(), "chat2", &theirs, Author::Agent, "Well?");
    let chat = lab.answered_chat().await;
    assert_eq!(chat, theirs, "the numbers are the same");
    let ticket = lab.ticket_at("desk", Some(&chat));
    lab.later().await;
    lab.desk(&ticket, "solved");
    lab.later().await;
    assert!(lab.sandbox.chats("chat2").iter().all(|chat| !chat.resolved), "{:?}", lab.intents().await);
    assert!(lab.is_resolved(&chat));
}

/// Given two desks with a chat each, then an open ticket at one keeps no conversation of the other's chat from its end.
#[tokio::test]
async fn tickets_of_another_desk_are_of_another_chat() {
    let systems = [
        ("chat", Vendor::Chatwoot),
        ("chat2", Vendor::Chatwoot),
        ("desk", Vendor::Zendesk),
        ("desk2", Vendor::Zendesk),
    ];
    let mut lab = Lab::new(&systems).await;
    let close = on(EventKind::TicketClosed, ActKind::Resolve);
    let second = FlowConfig { name: "2".to_owned(), from: "desk2".to_owned(), to: "chat2".to_owned(), ..close.clone() };
    lab.config.flows = vec![close, second];
    let chat = lab.answered_chat().await;
    let ticket = lab.ticket_at("desk", Some(&chat));
    lab.ticket_at("desk2", Some(&chat));
    lab.later().await;
    lab.desk(&ticket, "solved");
    assert_eq!(lab.later().await.resolved, 1, "{:?}", lab.intents().await);
    assert!(lab.is_resolved(&chat));
}

/// Given what waits for a connection that no flow uses any more, then it is judged as ever; where the connection is not even
/// configured, it ends with that reason, and of what may have arrived nobody will know.
#[tokio::test]
async fn what_waits_for_a_connection_that_is_left_is_not_lost() {
    for configured in [true, false] {
        for state in [MessageState::Pending, MessageState::Held, MessageState::Sending, MessageState::Unknown] {
            let mut lab = shop_and_chat(Vendor::Chatway).await;
            lab.run().await;
            lab.work().await;
            lab.clock.advance(HOUR);
            lab.sandbox.place_order(lab.clock.now(), "shop", &order("nobody@example.test", "pending"));
            lab.work().await;
            let id = lab.intents().await[0].id;
            let now = lab.clock.now();
            lab.store.set_message(id, state, None, now, None, now).await.expect("the store answers");
            lab.config.flows.clear();
            lab.config.syncs.clear();
            if !configured {
                lab.config.connections.remove("chat");
            }
            lab.clock.advance(HOUR);
            lab.work().await;
            lab.clock.advance(HOUR);
            lab.work().await;
            let row = lab.intents().await.remove(0);
            let waits = matches!(state, MessageState::Pending | MessageState::Held);
            let reason = match (configured, waits) {
                (true, true) => Some("the flow is gone"),
                (true, false) => None,
                (false, _) => Some("the connection is gone"),
            };
            let what = format!("{configured} {state:?} {row:?}");
            if waits {
                assert_eq!(row.state, MessageState::Dropped, "{what}");
            } else if !configured {
                assert_eq!(row.state, MessageState::Unknown, "{what}");
            } else {
                assert_ne!(row.state, MessageState::Sending, "{what}");
            }
            assert!(reason.is_none_or(|reason| row.reason.as_deref() == Some(reason)), "{what}");
        }
    }
}

/// Given several tickets of a chat of which the first is gone, then the others are set all the same, and the refusal is told.
#[tokio::test]
async fn one_bad_ticket_does_not_stop_the_others() {
    let mut lab = chat_and_desk(Vendor::Chatwoot, Vendor::Zendesk).await;
    lab.config.flows = vec![setting("chat", EventKind::ConversationResolved, &[("status", "solved")])];
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
    let pass = worker.pass().await.expect("it works");
    worker.close().await.expect("it ends");
    assert_eq!((pass.tickets, pass.refused), (0, 1), "{:?}", lab.intents().await);
    let tickets = lab.sandbox.tickets("desk");
    let solved: Vec<&String> = tickets.iter().filter(|t| t.status == "solved").map(|t| &t.id).collect();
    assert_eq!(solved, [&linked[1], &linked[2]]);
}

/// Given flows of which one opens what the other closes, then they come to rest.
#[tokio::test]
async fn setting_a_status_does_not_go_in_circles() {
    for desk in [Vendor::Zendesk, Vendor::Rt] {
        let mut lab = chat_and_desk(Vendor::Chatway, desk).await;
        lab.config.flows = vec![
            setting("desk", EventKind::TicketClosed, &[("status", "open")]),
            setting("desk", EventKind::TicketReopened, &[("status", "solved")]),
        ];
        lab.run().await;
        lab.work().await;
        lab.clock.advance(HOUR);
        let ticket = lab.ticket(None);
        lab.later().await;
        lab.desk(&ticket, "solved");
        let mut quiet = 0;
        for _ in 0..12 {
            quiet = if lab.later().await == Pass::default() { quiet + 1 } else { 0 };
        }
        assert!(quiet >= 3, "{desk:?} {:?}", lab.intents().await);
    }
}

/// Given an attempt to set a ticket of which nobody knows, then what is there is settled without a call more, what an agent
/// changed meanwhile stays theirs, and what surely is not there is set.
#[tokio::test]
async fn an_unknown_setting_does_not_undo_an_agent() {
    for desk in [Vendor::Zendesk, Vendor::Rt] {
        for story in ["there", "changed", "not there"] {
            let mut lab = chat_and_desk(Vendor::Chatway, desk).await;
            lab.config.flows = vec![FlowConfig {
                from: "desk".to_owned(),
                ..setting("desk", EventKind::TicketCreated, &[("status", "pending")])
            }];
            lab.run().await;
            lab.work().await;
            lab.clock.advance(HOUR);
            let ticket = lab.ticket(None);
            lab.clock.advance(3 * MINUTE);
            let engine = lab.engine(lab.network());
            let worker = engine.worker().await.expect("nobody else works");
            worker.read().await.expect("it reads");
            lab.faults("5xx=1");
            worker.pass().await.expect("it works");
            lab.faults("none");
            worker.close().await.expect("it ends");
            let row = lab.intents().await.remove(0);
            assert!(row.attempted_at.is_some(), "{desk:?} {story} {row:?}");
            let pending = if desk == Vendor::Rt { "stalled" } else { "pending" };
            if story != "not there" {
                // As if the attempt had worked, and its answer had been lost.
                lab.desk(&ticket, pending);
            }
            let now = lab.clock.now();
            lab.store.set_message(row.id, MessageState::Unknown, None, now, None, now).await.expect("it answers");
            lab.clock.advance(3 * MINUTE);
            if story == "changed" {
                lab.desk(&ticket, "open");
            }
            lab.work().await;
            let writes = lab.writes();
            let (state, reason) = lab.last().await;
            let status = lab.sandbox.tickets("desk").remove(0).status;
            let what = format!("{desk:?} {story} {state:?} {reason:?}");
            let expected = match story {
                "there" => (MessageState::Sent, Some("found at the vendor".to_owned()), pending, 0),
                "changed" => {
                    let why = format!("somebody changed ticket {ticket} meanwhile");
                    (MessageState::Dropped, Some(why), "open", 0)
                }
                _ => (MessageState::Sent, None, pending, 1),
            };
            assert_eq!((state, reason, status.as_str(), writes), expected, "{what}");
        }
    }
}
