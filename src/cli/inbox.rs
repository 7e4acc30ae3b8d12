//! `counterpart inbox`

use std::path::Path;

use serde_json::json;

use super::app;
use super::output::{Failure, Listing, Output, Part, state as named_state, time};
use crate::store::{Hook, HookState, Store, StoreError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Webhooks, oldest first, with what they said has changed.
    List {
        /// Only those that are pending, done or failed.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// Read once more what one pointed at; a message that was sent is not sent again.
    Replay {
        /// Its number.
        id: i64,
    },
}

pub(super) async fn run(out: &Output, config: &Path, args: Args) -> Result<u8, Failure> {
    let (_, store) = app::open(config).await?;
    match args.action.unwrap_or(Action::List { state: None, part: Part::default() }) {
        Action::List { state, part } => list(out, &store, state.as_deref(), part.limit, part.after).await,
        Action::Replay { id } => {
            store.replay_hook(id).await.map_err(|error| match error {
                StoreError::NotFound { .. } => {
                    Failure::usage(format!("there is no webhook {id}"), "`counterpart inbox list` shows them")
                }
                other => other.into(),
            })?;
            if out.json {
                out.document(&json!({ "hook": id, "state": HookState::Pending.as_str() }))?;
            } else {
                out.line(format!(
                    "webhook {id}: what it pointed at is read again by `counterpart serve` or the next sync"
                ));
            }
            Ok(0)
        }
    }
}

fn entry(hook: &Hook) -> serde_json::Value {
    json!({
        "id": hook.id, "connection": hook.connection, "received_at": hook.received_at, "state": hook.state.as_str(),
        "attempts": hook.attempts, "error": hook.error, "hints": hook.hints, "body": hook.body,
    })
}

async fn list(
    out: &Output,
    store: &Store,
    state: Option<&str>,
    limit: Option<u64>,
    after: Option<i64>,
) -> Result<u8, Failure> {
    let state = named_state(state, HookState::named, &["pending", "done", "failed"])?;
    let found = store.hooks(state, after.unwrap_or(0), out.limit(limit)).await?;
    let last = found.last().map_or(after.unwrap_or(0), |hook| hook.id);
    let more = store.count_hooks_after(state, last).await?;
    let listing = Listing {
        name: "hooks",
        none: "there are no webhooks",
        header: &["webhook", "at", "about", "state", "attempts", "why", "came"],
        found: &found,
        last,
        more,
    };
    out.listing(&listing, entry, |hook| {
        vec![
            hook.id.to_string(),
            hook.connection.clone(),
            about(hook),
            hook.state.as_str().to_owned(),
            hook.attempts.to_string(),
            hook.error.clone().unwrap_or_default(),
            time(hook.received_at),
        ]
    })?;
    Ok(0)
}

/// The records it points at.
fn about(hook: &Hook) -> String {
    let word = |hint: &serde_json::Value, name: &str| hint[name].as_str().unwrap_or_default().to_owned();
    let hints = hook.hints.as_array().into_iter().flatten();
    let all: Vec<String> =
        hints.map(|hint| format!("{} {}", word(hint, "stream"), word(hint, "external_id"))).collect();
    all.join(", ")
}
