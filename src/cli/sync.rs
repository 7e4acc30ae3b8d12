//! `counterpart sync`

use std::path::Path;

use super::app;
use super::output::{Failure, Output, duration};
use crate::engine::{RunReport, Verdict};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of syncs; all without any.
    syncs: Vec<String>,
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    let has_flows = !config.flows.is_empty();
    let engine = app::engine(out, config, store)?;
    let mut report = engine.sync(&args.syncs).await?;
    if has_flows && !engine.is_stopped() {
        engine.work_after(&mut report).await;
    }
    show(out, &report)?;
    Ok(report.verdict.exit_code())
}

/// Prints what a run did.
pub(super) fn show(out: &Output, report: &RunReport) -> Result<(), Failure> {
    if out.json {
        return out.document(report);
    }
    for sync in &report.syncs {
        out.line(format!("sync {} (run {}, {})", sync.name, report.run, duration(sync.duration_ms)));
        let mut read = out.table(&["connection", "read", "changed", "complete", "calls", "429"]);
        for stream in &sync.streams {
            // Why not stands below the table: it may be long.
            let complete = if stream.complete { "yes" } else { "no" }.to_owned();
            read.add_row([
                stream.connection.clone(),
                stream.pulled.to_string(),
                stream.changed.to_string(),
                complete,
                sync.calls.get(&stream.connection).copied().unwrap_or(0).to_string(),
                sync.rate_limited.get(&stream.connection).copied().unwrap_or(0).to_string(),
            ]);
        }
        out.line(read.to_string());
        for stream in &sync.streams {
            let why = stream.why.as_ref().map(|why| format!("{}: {why}", stream.connection));
            if let Some(why) = why.filter(|why| !report.notes.contains(why)) {
                out.line(why);
            }
        }
        let done = &sync.operations;
        out.line(format!(
            "created {}, updated {} ({} fields cleared), deleted {}; failed {}, unknown {}, held {}, dropped {}; {} waiting for a person",
            done.created, done.updated, done.cleared, done.deleted, done.failed, done.unknown, done.held, done.dropped, sync.conflicts
        ));
    }
    if let Some(pass) = report.messages {
        out.line(format!(
            "messages: {} webhooks read, {} events, {} sent, {} resolved, {} tickets, {} dropped, {} refused, {} unknown",
            pass.hooks, pass.events, pass.sent, pass.resolved, pass.tickets, pass.dropped, pass.refused, pass.unknown
        ));
    }
    if !report.messages_waiting.is_empty() {
        let states: Vec<_> = report.messages_waiting.iter().map(|(state, n)| format!("{n} {state}")).collect();
        out.line(format!("messages that wait for a person: {}", states.join(", ")));
    }
    if !report.spent.is_empty() {
        let mut spent = out.table(&["calls", "at", "for", "lane"]);
        for row in &report.spent {
            spent.add_row([row.calls.to_string(), row.connection.clone(), row.purpose.clone(), row.lane.clone()]);
        }
        out.line(spent.to_string());
    }
    for guard in &report.guards {
        out.line(format!("stopped by {}: {}", guard.guard, guard.message));
    }
    for note in &report.notes {
        out.line(note);
    }
    let next = match report.verdict {
        Verdict::Ok => "everything agrees".to_owned(),
        Verdict::Partial if report.syncs.iter().any(|sync| sync.conflicts > 0) => {
            format!("{}: `counterpart conflicts list` shows what waits", out.verdict("partial"))
        }
        Verdict::Partial if !report.messages_waiting.is_empty() => {
            format!("{}: `counterpart outbox list` shows the messages", out.verdict("partial"))
        }
        Verdict::Partial => format!("{}: the next run goes on where this one stopped", out.verdict("partial")),
        Verdict::Guarded => format!(
            "{}: nothing was written: look at `counterpart plan --out plan.json`, then `counterpart apply plan.json`",
            out.verdict("guarded")
        ),
        Verdict::Failed => {
            format!("{}: nothing could be read; `counterpart check --online` tells why", out.verdict("failed"))
        }
    };
    out.line(next);
    Ok(())
}
