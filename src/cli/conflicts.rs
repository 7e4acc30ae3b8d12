//! `counterpart conflicts`

use std::path::Path;

use serde_json::json;

use super::app;
use super::output::{Failure, Listing, Output, Part, time};
use crate::engine::Decision;
use crate::store::{Conflict, ConflictFilter, ConflictState, Store};

/// The kinds of entries.
const KINDS: [&str; 9] =
    ["field", "invalid", "identity", "possible", "duplicate", "refused", "unknown", "deletion", "moved"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// What waits; --all shows what rules and people have settled too.
    List {
        /// Settled ones too.
        #[arg(long)]
        all: bool,
        /// Only one kind: field, invalid, identity, possible, duplicate, refused, unknown, deletion, moved.
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// One entry whole.
    Show {
        /// Its number.
        id: i64,
    },
    /// Decide one entry; the next run writes what follows.
    Resolve {
        /// Its number.
        id: i64,
        #[command(flatten)]
        decision: DecisionArgs,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct DecisionArgs {
    /// Take what this connection shows.
    #[arg(long, value_name = "CONNECTION")]
    take: Option<String>,
    /// Take this text.
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    /// Clear the field.
    #[arg(long)]
    clear: bool,
    /// The records are one person.
    #[arg(long)]
    same: bool,
    /// The records are different people.
    #[arg(long)]
    different: bool,
    /// It is dealt with; what was refused is tried again.
    #[arg(long)]
    done: bool,
}

impl DecisionArgs {
    fn decision(self) -> Decision {
        match self {
            DecisionArgs { take: Some(connection), .. } => Decision::Take(connection),
            DecisionArgs { value: Some(text), .. } => Decision::Value(Some(text)),
            DecisionArgs { clear: true, .. } => Decision::Value(None),
            DecisionArgs { same: true, .. } => Decision::Same,
            DecisionArgs { different: true, .. } => Decision::Different,
            _ => Decision::Done,
        }
    }
}

pub(super) async fn run(out: &Output, config: &Path, args: Args) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    match args.action.unwrap_or(Action::List { all: false, kind: None, part: Part::default() }) {
        Action::List { all, kind, part } => {
            if let Some(kind) = kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
                let help = format!("take one of {}", KINDS.join(", "));
                return Err(Failure::usage(format!("there is no kind `{kind}`"), help));
            }
            let limit = out.limit(part.limit);
            list(out, &store, ConflictFilter { open_only: !all, kind, limit, after: part.after }).await
        }
        Action::Show { id } => {
            let found = store
                .conflict(id)
                .await?
                .ok_or_else(|| Failure::usage(format!("there is no entry {id}"), "`counterpart conflicts list`"))?;
            out.document(&entry(&found))?;
            Ok(0)
        }
        Action::Resolve { id, decision } => {
            let engine = app::engine(out, config, store)?;
            engine.decide(id, &decision.decision()).await?;
            if out.json {
                out.document(&json!({ "entry": id, "decided": true }))?;
            } else {
                out.line(format!("entry {id} is decided; the next run writes what follows"));
            }
            Ok(0)
        }
    }
}

fn entry(conflict: &Conflict) -> serde_json::Value {
    json!({
        "id": conflict.id, "kind": conflict.kind, "field": conflict.field, "person": conflict.entity_id,
        "records": conflict.record_ids, "detail": conflict.detail, "settled_by": conflict.settled,
        "open": conflict.state == ConflictState::Open, "resolution": conflict.resolution,
        "opened_at": conflict.opened_at, "closed_at": conflict.closed_at,
    })
}

async fn list(out: &Output, store: &Store, filter: ConflictFilter) -> Result<u8, Failure> {
    let found = store.conflicts(&filter).await?;
    let last = found.last().map_or(filter.after, |conflict| Some(conflict.id));
    let more = store.count_conflicts(&ConflictFilter { after: last, ..filter }).await?;
    let listing = Listing {
        name: "conflicts",
        none: "nothing waits",
        header: &["entry", "kind", "about", "what", "since"],
        found: &found,
        last: last.unwrap_or_default(),
        more,
    };
    out.listing(&listing, entry, |conflict| {
        vec![conflict.id.to_string(), conflict.kind.clone(), about(conflict), what(conflict), time(conflict.opened_at)]
    })?;
    if !out.json && !found.is_empty() {
        out.line(
            "`counterpart conflicts resolve ENTRY` with --take, --value, --clear, --same, --different or --done decides",
        );
    }
    Ok(0)
}

fn about(conflict: &Conflict) -> String {
    match (&conflict.field, conflict.entity_id) {
        (Some(field), Some(person)) => format!("person {person}, {field}"),
        (None, Some(person)) => format!("person {person}"),
        _ => String::new(),
    }
}

/// The gist of an entry in one line.
fn what(conflict: &Conflict) -> String {
    let detail = &conflict.detail;
    if let Some(candidates) = detail["candidates"].as_array() {
        let shown: Vec<String> = candidates
            .iter()
            .map(|c| format!("{}: {}", c["connection"].as_str().unwrap_or_default(), c["slot"]))
            .collect();
        return shown.join("; ");
    }
    if let Some(records) = detail["records"].as_array() {
        let names: Vec<&str> = records.iter().filter_map(|name| name.as_str()).collect();
        return format!("{} ({})", names.join(", "), detail["why"].as_str().unwrap_or_default());
    }
    let why = detail["why"].as_str().or(detail["consequence"].as_str()).unwrap_or_default();
    format!("{} {why}", detail["connection"].as_str().unwrap_or_default())
}
