//! Which chat the tickets of a desk belong to. A ticket names a conversation by its number and does not say of which chat, so
//! that the tickets of one desk may name those of one chat only: another chat has a conversation of the same number, with
//! somebody else in it.

use std::collections::BTreeSet;

use counterpart_connectors::ActKind;
use counterpart_core::business::{EventKind, TicketStatus, Topic};

use super::load::Problems;
use super::{Config, FlowConfig, Link};

impl Config {
    /// The chat connection whose conversations the tickets of a desk name; none where the flows do not tell.
    pub fn chat_of(&self, desk: &str) -> Option<&str> {
        let desks = sharing(&self.flows, desk);
        let of = |explicit: bool| -> BTreeSet<&str> {
            let links = self.flows.iter().filter_map(link);
            links.filter(|link| link.explicit == explicit && desks.contains(link.desk)).map(|link| link.chat).collect()
        };
        let named = of(true);
        let chats = if named.is_empty() { of(false) } else { named };
        chats.first().copied().filter(|_| chats.len() == 1)
    }
}

/// That a flow leads from tickets to conversations, or the other way round.
struct Linked<'a> {
    desk: &'a str,
    chat: &'a str,
    /// By the number that the ticket names; else by the person.
    explicit: bool,
}

fn link(flow: &FlowConfig) -> Option<Linked<'_>> {
    match (flow.on.topic(), flow.act.is_at_desk()) {
        (Topic::Ticket, false) => {
            Some(Linked { desk: &flow.from, chat: &flow.to, explicit: flow.link == Link::Explicit })
        }
        (Topic::Conversation, true) => Some(Linked { desk: &flow.to, chat: &flow.from, explicit: true }),
        _ => None,
    }
}

/// The desks whose tickets name conversations of the same chat as those of this one: a flow leads from one to the other.
fn sharing<'a>(flows: &'a [FlowConfig], desk: &'a str) -> BTreeSet<&'a str> {
    let mut desks = BTreeSet::from([desk]);
    loop {
        let before = desks.len();
        for flow in flows.iter().filter(|flow| flow.on.topic() == Topic::Ticket && flow.act == ActKind::SetTicket) {
            if desks.contains(flow.from.as_str()) || desks.contains(flow.to.as_str()) {
                desks.extend([flow.from.as_str(), flow.to.as_str()]);
            }
        }
        if desks.len() == before {
            return desks;
        }
    }
}

/// What is wrong with all flows together; they stand in the order of the file.
pub(super) fn check(flows: &[FlowConfig], problems: &mut Problems<'_>) {
    for (index, flow) in flows.iter().enumerate() {
        let before = &flows[..index];
        let place = index.to_string();
        if let Some(other) = other_chat(flow, before, flows) {
            let key = if flow.on.topic() == Topic::Ticket { "from" } else { flow.act.word() };
            let message = format!(
                "the tickets of one desk lead to conversations of `{other}` and, here, of another chat: a ticket says the \
                 number of its conversation and not of which chat, so a stranger's of the same number would be meant"
            );
            let help = "give each chat a desk connection of its own, or, for `resolve` and `reopen`, go by the person: \
                        `link = \"person\"`";
            problems.at(&["flows", &place, key], message, help);
        }
        if let Some(other) = before.iter().find(|other| are_circle(flow, other) || are_circle(other, flow)) {
            let message = format!("this and the flow `{}` would close and open the same ticket for ever", other.name);
            problems.at(&["flows", &place, "fields"], message, "leave one of them out, or set something else");
        }
    }
}

/// Another chat to which an earlier flow links the tickets of this flow's desk.
fn other_chat<'a>(flow: &FlowConfig, before: &'a [FlowConfig], all: &[FlowConfig]) -> Option<&'a str> {
    let here = link(flow).filter(|link| link.explicit)?;
    let desks = sharing(all, here.desk);
    let mut earlier = before.iter().filter_map(link).filter(|link| link.explicit && desks.contains(link.desk));
    earlier.find(|link| link.chat != here.chat).map(|link| link.chat)
}

/// Whether one opens each ticket that is closed, and the other closes each that is opened.
fn are_circle(opens: &FlowConfig, closes: &FlowConfig) -> bool {
    let at_one_desk = [opens, closes].iter().all(|flow| flow.act == ActKind::SetTicket && flow.from == flow.to);
    let events = (opens.on, closes.on) == (EventKind::TicketClosed, EventKind::TicketReopened);
    let ends = |flow: &FlowConfig| {
        let word = flow.fields.get("status")?;
        serde_json::from_value::<TicketStatus>(word.as_str().into()).ok().map(TicketStatus::is_closed)
    };
    let unconditional = opens.when.is_none() && closes.when.is_none();
    at_one_desk
        && events
        && unconditional
        && opens.from == closes.from
        && (ends(opens), ends(closes)) == (Some(false), Some(true))
}
