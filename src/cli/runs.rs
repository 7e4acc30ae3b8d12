//! `counterpart runs`

use std::path::Path;

use serde_json::json;

use super::app;
use super::output::{Failure, Listing, Output, Part, duration, rest, time};
use crate::store::{OutboxRow, Run, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Runs, the latest first.
    List {
        #[command(flatten)]
        part: Part,
    },
    /// One run with its operations.
    Show {
        /// Its number.
        run: i64,
        /// At most this many operations; 100 as text, all with --json.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Go on after this operation.
        #[arg(long, value_name = "OPERATION")]
        after: Option<String>,
    },
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (_, store) = app::open(config).await?;
    match &args.action {
        None => list(out, &store, None, None).await,
        Some(Action::List { part }) => list(out, &store, part.limit, part.after).await,
        Some(Action::Show { run, limit, after }) => show(out, &store, *run, *limit, after.as_deref()).await,
    }
}

fn entry(run: &Run) -> serde_json::Value {
    json!({
        "run": run.id, "kind": run.kind, "syncs": run.syncs, "started_at": run.started_at,
        "finished_at": run.finished_at, "verdict": run.verdict, "summary": run.summary,
    })
}

fn took(run: &Run) -> String {
    run.finished_at.map_or_else(|| "under way".to_owned(), |at| duration(at - run.started_at))
}

async fn list(out: &Output, store: &Store, limit: Option<u64>, after: Option<i64>) -> Result<u8, Failure> {
    let runs = store.runs_before(after.unwrap_or(i64::MAX), out.limit(limit)).await?;
    let last = runs.last().map(|run| run.id).or(after).unwrap_or(i64::MAX);
    let more = store.count_runs_before(last).await?;
    let listing = Listing {
        name: "runs",
        none: "there are no runs",
        header: &["run", "kind", "syncs", "started", "took", "verdict"],
        found: &runs,
        last,
        more,
    };
    out.listing(&listing, entry, |run| {
        vec![
            run.id.to_string(),
            run.kind.clone(),
            run.syncs.join(", "),
            time(run.started_at),
            took(run),
            run.verdict.clone().unwrap_or_default(),
        ]
    })?;
    Ok(0)
}

async fn show(out: &Output, store: &Store, id: i64, limit: Option<u64>, after: Option<&str>) -> Result<u8, Failure> {
    let run = store
        .run(id)
        .await?
        .ok_or_else(|| Failure::usage(format!("there is no run {id}"), "`counterpart runs list` shows them"))?;
    let ops = store.ops(id, after, out.limit(limit)).await?;
    let last = ops.last().map(|row| row.id.as_str()).or(after);
    let more = store.count_ops(id, last).await?;
    if out.json {
        let operations: Vec<_> = ops.iter().map(operation).collect();
        out.document(&json!({ "run": entry(&run), "operations": operations, "more": more }))?;
        return Ok(0);
    }
    let verdict = run.verdict.as_deref().unwrap_or("under way");
    let syncs = run.syncs.join(", ");
    out.line(format!(
        "run {}: {} {syncs}, started {}, took {}: {}",
        run.id,
        run.kind,
        time(run.started_at),
        took(&run),
        out.verdict(verdict)
    ));
    if let Some(error) = run.summary["error"].as_str() {
        out.line(error);
    }
    if ops.is_empty() && more == 0 {
        out.line("it planned nothing");
        return Ok(0);
    }
    let mut rows = out.table(&["operation", "at", "does", "fields", "state"]);
    for row in &ops {
        let fields: Vec<String> = row.op.fields.keys().map(ToString::to_string).collect();
        rows.add_row([
            row.id.clone(),
            row.op.connection.clone(),
            row.op.action.name().to_owned(),
            fields.join(", "),
            row.state.as_str().to_owned(),
        ]);
    }
    out.line(rows.to_string());
    for row in &ops {
        if let Some(error) = &row.error {
            out.line(format!("{}: {error}", row.id));
        }
    }
    if more > 0 {
        out.line(rest(more, last.unwrap_or_default()));
    }
    Ok(0)
}

fn operation(row: &OutboxRow) -> serde_json::Value {
    json!({ "id": row.id, "operation": row.op, "state": row.state.as_str(), "error": row.error })
}
