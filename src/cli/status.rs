//! `counterpart status`

use std::path::Path;

use counterpart_connectors::{Clock, SystemClock};
use serde_json::json;

use super::app;
use super::output::{Failure, Output, duration, time};

/// The one stream that is read.
const STREAM: &str = "contact";

pub(super) async fn run(out: &Output, config: &Path) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    let now = SystemClock.now();
    let mut document = Vec::new();
    let mut rows =
        out.table(&["connection", "records", "missing", "linked", "due", "last read", "last complete reading"]);
    for name in config.connections.keys() {
        let counts = store.counts(name, STREAM).await?;
        let state = store.stream_state(name, STREAM).await?;
        let complete = match state.last_complete_scan {
            Some(id) => store.scan(id).await?,
            None => None,
        };
        let ago = |at: Option<i64>| at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", duration(now - at)));
        let complete_at = complete.as_ref().and_then(|scan| scan.finished_at);
        rows.add_row([
            name.clone(),
            counts.live.to_string(),
            counts.missing.to_string(),
            (counts.live - counts.unlinked.min(counts.live)).to_string(),
            counts.dirty.to_string(),
            ago(state.last_pull_at),
            ago(complete_at),
        ]);
        document.push(json!({
            "connection": name, "records": counts.live, "missing": counts.missing, "unlinked": counts.unlinked,
            "due": counts.dirty, "last_read": state.last_pull_at, "last_complete": complete_at,
        }));
    }
    let open = store.count_open().await?;
    let last = store.runs(1).await?.into_iter().next();
    let never_read = document.iter().any(|entry| entry["last_read"].is_null());
    let bad_end = last.as_ref().and_then(|run| run.verdict.as_deref()).is_some_and(|verdict| verdict != "ok");
    if out.json {
        out.document(&json!({
            "connections": document, "queue": open,
            "last_run": last.as_ref().map(|run| json!({ "run": run.id, "kind": run.kind, "verdict": run.verdict, "started_at": run.started_at })),
        }))?;
    } else {
        out.line(rows.to_string());
        for (kind, count) in &open {
            out.line(format!("{count} {kind} wait for a person"));
        }
        match &last {
            Some(run) => out.line(format!(
                "last run: {} {} at {}, {}",
                run.id,
                run.kind,
                time(run.started_at),
                run.verdict.as_deref().unwrap_or("under way")
            )),
            None => out.line("nothing has run yet: `counterpart sync`"),
        }
    }
    Ok(if never_read || bad_end || !open.is_empty() { 3 } else { 0 })
}
