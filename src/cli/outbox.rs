//! `counterpart outbox`

use std::path::Path;

use counterpart_connectors::{ActKind, Clock, SystemClock};
use serde_json::json;

use super::app;
use super::output::{Failure, Listing, Output, Part, state as named_state, time};
use crate::config::Config;
use crate::store::{Message, MessageState, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Messages, oldest first, with why they stand where they stand.
    List {
        /// Only those that are pending, held, sending, sent, unknown, refused or dropped.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// One message whole.
    Show {
        /// Its number.
        id: i64,
    },
    /// Try one again that was refused, dropped, held, or is unknown.
    Retry {
        /// Its number.
        id: i64,
        /// Also when the customer may have it already.
        #[arg(long)]
        yes: bool,
    },
    /// Give one up.
    Drop {
        /// Its number.
        id: i64,
    },
}

const LIST: &str = "`counterpart outbox list` shows them";

pub(super) async fn run(out: &Output, config: &Path, args: Args) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    match args.action.unwrap_or(Action::List { state: None, part: Part::default() }) {
        Action::List { state, part } => list(out, &store, state.as_deref(), part.limit, part.after).await,
        Action::Show { id } => {
            let message = find(&store, id).await?;
            let mut shown = entry(&message);
            shown["fallback"] = fallback(&config, &message);
            out.document(&shown)?;
            Ok(0)
        }
        Action::Retry { id, yes } => retry(out, &store, id, yes).await,
        Action::Drop { id } => drop_it(out, &store, id).await,
    }
}

async fn find(store: &Store, id: i64) -> Result<Message, Failure> {
    store.message(id).await?.ok_or_else(|| Failure::usage(format!("there is no message {id}"), LIST))
}

fn entry(message: &Message) -> serde_json::Value {
    json!({
        "id": message.id, "state": message.state.as_str(), "reason": message.reason, "flow": message.flow,
        "action": message.action.word(), "connection": message.connection, "conversation": message.conversation,
        "party": message.party, "text": message.text, "mark": message.mark, "intent": message.key, "fell_back": message.fell_back,
        "event": message.event_id, "attempts": message.attempts, "attempted_at": message.attempted_at,
        "until": (message.until > 0).then_some(message.until), "remote_id": message.remote_id,
        "created_at": message.created_at,
    })
}

/// The other way that the message's flow names, and whether it was taken.
fn fallback(config: &Config, message: &Message) -> serde_json::Value {
    let flow = config.flow(&message.flow);
    let Some(other) = flow.and_then(|flow| flow.fallback.as_ref()) else {
        return serde_json::Value::Null;
    };
    json!({
        "action": other.act.word(), "connection": other.to, "conversation": other.conversation,
        "after_ms": other.after_ms, "taken": message.fell_back,
    })
}

async fn list(
    out: &Output,
    store: &Store,
    state: Option<&str>,
    limit: Option<u64>,
    after: Option<i64>,
) -> Result<u8, Failure> {
    let state = named_state(state, MessageState::named, &MessageState::ALL.map(MessageState::as_str))?;
    let found = store.messages(state, after.unwrap_or(0), out.limit(limit)).await?;
    let last = found.last().map_or(after.unwrap_or(0), |message| message.id);
    let more = store.count_messages_after(state, last).await?;
    let listing = Listing {
        name: "messages",
        none: "there are no messages",
        header: &["message", "flow", "at", "to", "state", "why", "since"],
        found: &found,
        last,
        more,
    };
    out.listing(&listing, entry, |message| {
        vec![
            message.id.to_string(),
            message.flow.clone(),
            message.connection.clone(),
            to(message),
            message.state.as_str().to_owned(),
            message.reason.clone().unwrap_or_default(),
            time(message.created_at),
        ]
    })?;
    Ok(0)
}

/// Whom a message is for, as far as that is known.
fn to(message: &Message) -> String {
    let party = &message.party;
    let known = party.email.as_ref().or(party.phone.as_ref()).cloned();
    known.or_else(|| message.conversation.as_ref().map(|id| format!("conversation {id}"))).unwrap_or_default()
}

async fn retry(out: &Output, store: &Store, id: i64, yes: bool) -> Result<u8, Failure> {
    let message = find(store, id).await?;
    let show = format!("`counterpart outbox show {id}` shows it");
    if matches!(message.action, ActKind::Send | ActKind::Note | ActKind::OpenTicket) && message.text.is_none() {
        let message = format!("message {id} has no text: its template could not be filled");
        return Err(Failure::usage(message, show));
    }
    let means = match message.state {
        MessageState::Unknown if !yes => {
            let doubt = doubt(message.action);
            return Err(Failure::usage(
                format!("message {id} {}", doubt.may),
                format!("{}, then add --yes", doubt.look),
            ));
        }
        MessageState::Unknown => doubt(message.action).again,
        MessageState::Refused => "is tried again; the vendor refuses it again unless something changed there",
        MessageState::Dropped => "is judged again: what made it drop may still hold, such as its age",
        MessageState::Held => "is judged again now",
        state => {
            let message = format!("message {id} is {}: there is nothing to try again", state.as_str());
            return Err(Failure::usage(message, show));
        }
    };
    decide(store, &message, &[message.state], MessageState::Pending, "tried again by hand").await?;
    say(out, id, MessageState::Pending, &format!("message {id} {means}"))
}

/// What may have happened already, what a person looks at, and what follows when it is tried again.
struct Doubt {
    may: &'static str,
    look: &'static str,
    again: &'static str,
}

fn doubt(action: ActKind) -> Doubt {
    match action {
        ActKind::Send | ActKind::Open => Doubt {
            may: "may have reached the customer already: it would go out a second time",
            look: "look into the conversation",
            again: "goes out again, although the customer may have it already",
        },
        ActKind::Note => Doubt {
            may: "may stand in the conversation already: it would stand there a second time",
            look: "look into the conversation",
            again: "is written again, although it may be there already",
        },
        ActKind::Resolve | ActKind::Reopen => Doubt {
            may: "may have been done already: whoever changed the conversation meanwhile would be overruled",
            look: "look into the conversation",
            again: "is done again, although it may be done already",
        },
        ActKind::OpenTicket => Doubt {
            may: "may have opened its ticket already: there would be a second one",
            look: "look for the ticket at the desk",
            again: "opens its ticket again, although there may be one already",
        },
        ActKind::SetTicket => Doubt {
            may: "may have set the ticket already: whoever changed it meanwhile would be overruled",
            look: "look at the ticket at the desk",
            again: "sets the ticket again, although it may be set already",
        },
    }
}

async fn drop_it(out: &Output, store: &Store, id: i64) -> Result<u8, Failure> {
    let message = find(store, id).await?;
    let open = [MessageState::Pending, MessageState::Held, MessageState::Unknown, MessageState::Refused];
    if !open.contains(&message.state) {
        let text = format!("message {id} is {}: it cannot be dropped", message.state.as_str());
        return Err(Failure::usage(text, format!("`counterpart outbox show {id}` shows it")));
    }
    decide(store, &message, &open, MessageState::Dropped, "dropped by hand").await?;
    say(out, id, MessageState::Dropped, &format!("message {id} is given up"))
}

async fn decide(
    store: &Store,
    message: &Message,
    from: &[MessageState],
    state: MessageState,
    reason: &str,
) -> Result<(), Failure> {
    if store.decide_message(message.id, from, state, reason, SystemClock.now()).await? {
        return Ok(());
    }
    let text = format!("message {} has moved on meanwhile; nothing was changed", message.id);
    Err(Failure::failed(text, format!("`counterpart outbox show {}` shows where it stands", message.id)))
}

fn say(out: &Output, id: i64, state: MessageState, text: &str) -> Result<u8, Failure> {
    if out.json {
        out.document(&json!({ "message": id, "state": state.as_str() }))?;
    } else {
        out.line(text);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_about_what_would_be_done() {
        for action in ActKind::ALL {
            let doubt = doubt(action);
            assert_eq!(doubt.look.contains("conversation"), !action.is_at_desk(), "{action:?}");
            let reaches = matches!(action, ActKind::Send | ActKind::Open);
            assert_eq!(doubt.may.contains("customer"), reaches, "{action:?}");
        }
    }
}
