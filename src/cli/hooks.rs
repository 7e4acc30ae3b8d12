//! `counterpart hooks`

use std::path::Path;

use counterpart_core::mapping::Diagnostic;
use serde_json::json;

use super::app;
use super::output::{Failure, Output, Tone};
use crate::config::Config;
use crate::engine::{EngineError, HookReport, HookWish};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Our webhooks at the vendors, and which are missing or switched off.
    List {
        /// Only these connections.
        connections: Vec<String>,
    },
    /// Make the webhooks that are missing, and switch on those that the vendor switched off. `serve` should be running.
    Register {
        /// Only these connections.
        connections: Vec<String>,
    },
    /// Delete our webhooks at the vendors; those of others stay.
    Remove {
        /// Only these connections.
        #[arg(required = true)]
        connections: Vec<String>,
    },
}

pub(super) async fn run(out: &Output, path: &Path, args: Args) -> Result<u8, Failure> {
    let (wish, names) = match args.action.unwrap_or(Action::List { connections: Vec::new() }) {
        Action::List { connections } => (HookWish::Look, connections),
        Action::Register { connections } => (HookWish::Keep, connections),
        Action::Remove { connections } => (HookWish::Remove, connections),
    };
    let (config, store) = app::open(path).await?;
    let engine = app::engine(out, config, store)?;
    let reports = engine.hooks(&names, wish).await.map_err(|error| failure(path, error))?;
    if out.json {
        out.document(&json!({ "connections": reports }))?;
    } else {
        reports.iter().for_each(|report| show(out, report));
    }
    let mut asked = reports.iter().filter(|report| report.why_not.is_none());
    Ok(match (reports.iter().all(HookReport::is_well), asked.all(|report| report.error.is_some())) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 3,
    })
}

/// What the configuration lacks is shown at its place.
fn failure(path: &Path, error: EngineError) -> Failure {
    let EngineError::Hooks { keys, message, help } = error else { return error.into() };
    if keys.is_empty() {
        return Failure::usage(message, help);
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (line, column) = Config::place(path, &keys);
    Failure::mistakes(
        "configuration",
        vec![Diagnostic { file: path.display().to_string(), line, column, message, help }],
    )
}

fn show(out: &Output, report: &HookReport) {
    let name = &report.connection;
    if let Some(why) = &report.why_not {
        return out.line(format!("{name}: {why}"));
    }
    if let Some(error) = &report.error {
        return out.line(out.paint(Tone::Bad, &format!("{name}: {error}")));
    }
    out.line(format!("{name}: {}", report.address));
    if !report.subscriptions.is_empty() {
        let mut rows = out.table(&["webhook", "topics", "state", "the vendor says", "lacks"]);
        for entry in &report.subscriptions {
            rows.add_row([
                entry.id.clone().unwrap_or_default(),
                entry.topics.join(", "),
                entry.state.in_words().to_owned(),
                entry.said.clone().unwrap_or_default(),
                entry.lacks.join(", "),
            ]);
        }
        out.line(rows.to_string());
    }
    for step in &report.done {
        out.line(step.in_words());
    }
    for note in &report.notes {
        out.line(out.paint(Tone::Doubtful, note));
    }
}
