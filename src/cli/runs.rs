//! `counterpart runs`

use std::path::Path;

use serde_json::json;

use super::app;
use super::output::{Failure, Output, duration, table, time};
use crate::store::Run;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// The latest runs.
    List {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// One run with its operations.
    Show {
        /// Its number.
        run: i64,
    },
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (_, store) = app::open(config).await?;
    match &args.action {
        None => list(out, store.runs(20).await?),
        Some(Action::List { limit }) => list(out, store.runs(*limit).await?),
        Some(Action::Show { run }) => {
            let found = store.run(*run).await?.ok_or_else(|| {
                Failure::usage(format!("there is no run {run}"), "`counterpart runs list` shows them")
            })?;
            let ops = store.ops(*run, None, 1000).await?;
            let lines: Vec<_> = ops
                .iter()
                .map(|row| json!({ "operation": row.op, "state": format!("{:?}", row.state).to_lowercase(), "error": row.error }))
                .collect();
            out.document(&json!({ "run": entry(&found), "operations": lines }))?;
            Ok(0)
        }
    }
}

fn entry(run: &Run) -> serde_json::Value {
    json!({
        "run": run.id, "kind": run.kind, "syncs": run.syncs, "started_at": run.started_at,
        "finished_at": run.finished_at, "verdict": run.verdict, "summary": run.summary,
    })
}

fn list(out: &Output, runs: Vec<Run>) -> Result<u8, Failure> {
    if out.json {
        out.document(&runs.iter().map(entry).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let mut rows = table(&["run", "kind", "syncs", "started", "took", "verdict"]);
    for run in runs {
        rows.add_row([
            run.id.to_string(),
            run.kind,
            run.syncs.join(", "),
            time(run.started_at),
            run.finished_at.map_or_else(|| "under way".to_owned(), |at| duration(at - run.started_at)),
            run.verdict.unwrap_or_default(),
        ]);
    }
    out.line(rows.to_string());
    Ok(0)
}
