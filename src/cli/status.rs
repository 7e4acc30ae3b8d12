//! `counterpart status`

use std::collections::BTreeMap;
use std::path::Path;

use counterpart_connectors::{Clock, Connection, Millis, SystemClock};
use serde::Serialize;

use super::app;
use super::output::{Failure, Output, Tone, duration, time, window};
use crate::budget::{Standing, standing};
use crate::config::{Config, SyncConfig};
use crate::engine::{
    Audit, EngineError, Lost, OperationCounts, RunReport, Silence, StreamReport, Unread, last_audits, message_worker,
    silent_streams, streams_for_flows, unread_stream, worker,
};
use crate::schedule::Schedule;
use crate::store::{HookState, Run, Store};

/// The stream that the syncs read.
const STREAM: &str = "contact";
/// Runs looked at in one go, and how often at most.
const PAGE: u64 = 20;
const PAGES: usize = 50;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask every system, by address, for up to so many people that the others know, and tell how many of those it has are
    /// known here.
    #[arg(long, value_name = "PEOPLE", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    audit: Option<u32>,
}

/// Everything that is shown; the names are those of the document.
#[derive(Serialize)]
struct Status {
    connections: Vec<ConnectionStatus>,
    syncs: Vec<SyncStatus>,
    /// What waits for a person, by kind.
    queue: BTreeMap<String, u64>,
    messages: Messages,
    hooks: Hooks,
    /// Streams in which nothing has happened for longer than is usual.
    silent: Vec<Silence>,
    /// The last coverage audit of each connection.
    audits: Vec<AuditStatus>,
    /// The latest run of any kind.
    last_run: Option<RunStatus>,
    /// Why things are not as they should be; empty when they are.
    degraded: Vec<String>,
}

#[derive(Serialize)]
struct AuditStatus {
    #[serde(flatten)]
    audit: Audit,
    /// The share of what was found there that is known here, and where it lies with a probability of 95 %.
    share: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl From<Audit> for AuditStatus {
    fn from(audit: Audit) -> AuditStatus {
        let share = audit.share();
        AuditStatus {
            share: share.map(|(share, ..)| share),
            low: share.map(|(_, low, _)| low),
            high: share.map(|(.., high)| high),
            audit,
        }
    }
}

#[derive(Serialize)]
struct ConnectionStatus {
    connection: String,
    records: u64,
    missing: u64,
    linked: u64,
    unlinked: u64,
    /// Waiting for reconciling.
    due: u64,
    #[serde(flatten)]
    reading: Reading,
    #[serde(rename = "yield")]
    brought: Option<Yield>,
    queue: BTreeMap<String, u64>,
    budget: Vec<Standing>,
    in_use_by: Option<String>,
    /// What is read here for the flows.
    streams: Vec<StreamStatus>,
}

/// A stream that flows live on.
#[derive(Serialize)]
struct StreamStatus {
    stream: String,
    records: u64,
    missing: u64,
    #[serde(flatten)]
    reading: Reading,
    /// Why the last try to read it did not go as far as was due.
    unread: Option<Unread>,
}

/// How far a stream was read, and when.
#[derive(Serialize)]
struct Reading {
    coverage: Coverage,
    last_read: Option<Millis>,
    /// When a reading that surely saw everything ended, and how long ago that is.
    last_complete: Option<Millis>,
    age_ms: Option<i64>,
}

/// What is done in chats because of events.
#[derive(Serialize)]
struct Messages {
    /// How many stand in each state; states with none are left out.
    states: BTreeMap<&'static str, u64>,
    /// When the oldest was stored that is neither sent nor given up.
    oldest_waiting: Option<Millis>,
    /// The process that does the work now.
    worker: Option<String>,
}

/// Webhooks that came in.
#[derive(Serialize)]
struct Hooks {
    pending: u64,
    failed: u64,
    /// When the oldest pending one came.
    oldest_pending: Option<Millis>,
}

/// How much of the stream is known.
#[derive(Serialize)]
struct Coverage {
    complete: bool,
    /// Different records in the last complete reading, or so far in the one that is under way.
    seen: Option<i64>,
    /// As many as the vendor announced.
    announced: Option<i64>,
}

/// What the last run that read the connection got out of it.
#[derive(Serialize)]
struct Yield {
    run: i64,
    read: u64,
    changed: u64,
    calls: u64,
    complete: bool,
    why: Option<String>,
}

#[derive(Serialize)]
struct SyncStatus {
    sync: String,
    last_run: Option<RunStatus>,
    wrote: Option<OperationCounts>,
    queue: BTreeMap<String, u64>,
    next_at: Option<Millis>,
    /// Whether a time on the schedule went by without a run, and the one after it too.
    missed: bool,
}

#[derive(Clone, Serialize)]
struct RunStatus {
    run: i64,
    kind: String,
    /// None while it works.
    verdict: Option<String>,
    started_at: Millis,
    finished_at: Option<Millis>,
}

impl From<&Run> for RunStatus {
    fn from(run: &Run) -> RunStatus {
        RunStatus {
            run: run.id,
            kind: run.kind.clone(),
            verdict: run.verdict.clone(),
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    if let Some(size) = args.audit {
        app::engine(out, config.clone(), store.clone())?.audit(size as usize).await?;
    }
    let now = SystemClock.now();
    let status = look(&config, &store, now).await?;
    if out.json {
        out.document(&status)?;
    } else {
        show(out, &config, &status, now);
    }
    Ok(if status.degraded.is_empty() { 0 } else { 3 })
}

async fn look(config: &Config, store: &Store, now: Millis) -> Result<Status, Failure> {
    let runs = last_runs(config, store).await?;
    let transport = app::transport()?;
    let mut connections = Vec::new();
    for name in config.connections.keys() {
        let open = app::connection(config, name, transport.clone()).map_err(EngineError::from)?;
        let mut streams = Vec::new();
        for stream in streams_for_flows(config, &open) {
            streams.push(flow_stream(store, name, stream, now).await?);
        }
        connections.push(connection(&open, store, &runs, streams, now).await?);
    }
    let mut syncs = Vec::new();
    for sync in &config.syncs {
        let last = runs.get(&sync.name);
        let run = last.map(|last| &last.run);
        let (next_at, missed) = schedule(sync, run.map(|run| run.started_at), now);
        syncs.push(SyncStatus {
            sync: sync.name.clone(),
            last_run: run.map(RunStatus::from),
            wrote: last.and_then(|last| last.told.as_ref()).and_then(|(_, report)| {
                report.syncs.iter().find(|entry| entry.name == sync.name).map(|entry| entry.operations)
            }),
            queue: store.count_open_kinds_at(&sync.between).await?,
            next_at,
            missed,
        });
    }
    let last_run = store.runs(1).await?.first().map(RunStatus::from);
    let states = store.count_messages().await?.into_iter().map(|(state, n)| (state.as_str(), n)).collect();
    let messages =
        Messages { states, oldest_waiting: store.oldest_message().await?, worker: message_worker(store, now).await? };
    let hooks = Hooks {
        pending: store.count_hooks(HookState::Pending).await?,
        failed: store.count_hooks(HookState::Failed).await?,
        oldest_pending: store.oldest_hook().await?,
    };
    let queue = store.count_open().await?;
    let silent = silent_streams(store, config, now).await?;
    let audits = last_audits(store, config).await?.into_iter().map(AuditStatus::from).collect();
    let degraded = Vec::new();
    let mut status = Status { connections, syncs, queue, messages, hooks, silent, audits, last_run, degraded };
    status.degraded = reasons(config, &status, &runs);
    Ok(status)
}

/// The last run of a sync that was to write, and the last one that lived to tell what it did.
struct Last {
    run: Run,
    told: Option<(i64, RunReport)>,
}

async fn last_runs(config: &Config, store: &Store) -> Result<BTreeMap<String, Last>, Failure> {
    let mut found: BTreeMap<String, Last> = BTreeMap::new();
    let mut before = i64::MAX;
    for _ in 0..PAGES {
        let page = store.runs_before(before, PAGE).await?;
        let Some(oldest) = page.last() else { break };
        before = oldest.id;
        for run in page.iter().filter(|run| matches!(run.kind.as_str(), "sync" | "apply")) {
            // None when it failed before it could say anything.
            let told = serde_json::from_value(run.summary.clone()).ok().map(|report: RunReport| (run.id, report));
            for sync in config.syncs.iter().filter(|sync| run.syncs.contains(&sync.name)) {
                let last = found.entry(sync.name.clone()).or_insert_with(|| Last { run: run.clone(), told: None });
                last.told = last.told.take().or_else(|| told.clone());
            }
        }
        if config.syncs.iter().all(|sync| found.get(&sync.name).is_some_and(|last| last.told.is_some())) {
            break;
        }
    }
    Ok(found)
}

/// How far a stream was read, by the last reading that saw all of it or else the one that is under way.
async fn reading(store: &Store, connection: &str, stream: &str, now: Millis) -> Result<Reading, Failure> {
    let state = store.stream_state(connection, stream).await?;
    let whole = match state.last_complete_scan {
        Some(id) => store.scan(id).await?,
        None => None,
    };
    let under_way = match state.open_scan {
        Some(id) => store.scan(id).await?,
        None => None,
    };
    let last_complete = whole.as_ref().and_then(|scan| scan.finished_at);
    let shown = whole.as_ref().or(under_way.as_ref());
    let coverage = Coverage {
        complete: whole.is_some(),
        seen: shown.map(|scan| scan.distinct),
        announced: shown.and_then(|scan| scan.total),
    };
    Ok(Reading { coverage, last_read: state.last_pull_at, last_complete, age_ms: last_complete.map(|at| now - at) })
}

async fn flow_stream(store: &Store, connection: &str, stream: String, now: Millis) -> Result<StreamStatus, Failure> {
    let counts = store.counts(connection, &stream).await?;
    Ok(StreamStatus {
        records: counts.live,
        missing: counts.missing,
        reading: reading(store, connection, &stream, now).await?,
        unread: unread_stream(store, connection, &stream).await?,
        stream,
    })
}

async fn connection(
    open: &Connection,
    store: &Store,
    runs: &BTreeMap<String, Last>,
    streams: Vec<StreamStatus>,
    now: Millis,
) -> Result<ConnectionStatus, Failure> {
    let name = open.name();
    let counts = store.counts(name, STREAM).await?;
    Ok(ConnectionStatus {
        connection: name.to_owned(),
        records: counts.live,
        missing: counts.missing,
        linked: counts.live - counts.unlinked.min(counts.live),
        unlinked: counts.unlinked,
        due: counts.dirty,
        reading: reading(store, name, STREAM, now).await?,
        brought: runs.values().filter_map(|last| brought(last, name)).max_by_key(|brought| brought.run),
        queue: store.count_open_kinds_at(&[name.to_owned()]).await?,
        budget: standing(store, &open.account(), open.budgets(), now).await?,
        in_use_by: worker(store, name, now).await?,
        streams,
    })
}

fn brought(last: &Last, name: &str) -> Option<Yield> {
    let (run, report) = last.told.as_ref()?;
    let sync = report.syncs.iter().find(|sync| sync.streams.iter().any(|stream| stream.connection == name))?;
    let StreamReport { pulled, changed, complete, why, .. } =
        sync.streams.iter().find(|stream| stream.connection == name)?.clone();
    let calls = sync.calls.get(name).copied().unwrap_or(0);
    Some(Yield { run: *run, read: pulled, changed, calls, complete, why })
}

/// The next time on the schedule, and whether more than one whole interval went by without a run.
fn schedule(sync: &SyncConfig, last: Option<Millis>, now: Millis) -> (Option<Millis>, bool) {
    let zone = sync.timezone.as_deref().unwrap_or("UTC");
    let Some(schedule) = sync.schedule.as_deref().and_then(|text| Schedule::parse(text, zone).ok()) else {
        return (None, false);
    };
    let after = |at: Millis| {
        let next = schedule.next_after(chrono::DateTime::from_timestamp_millis(at)?)?;
        Some(next.timestamp_millis())
    };
    let second = last.and_then(after).and_then(after);
    (after(now), second.is_some_and(|second| now > second))
}

fn synced(config: &Config, name: &str) -> bool {
    config.syncs.iter().any(|sync| sync.between.iter().any(|other| other == name))
}

impl StreamStatus {
    /// What is not as it should be about it.
    fn trouble(&self, connection: &str) -> Option<String> {
        match &self.unread {
            Some(unread) => Some(format!("{unread}; so it has been since {}", time(unread.since))),
            None if self.reading.coverage.complete => None,
            None => Some(format!("{} of {connection} has never been read completely", self.stream)),
        }
    }
}

/// Everything that is not as it should be, a sentence each.
fn reasons(config: &Config, status: &Status, runs: &BTreeMap<String, Last>) -> Vec<String> {
    let mut reasons = Vec::new();
    for entry in status.connections.iter().filter(|entry| synced(config, &entry.connection)) {
        let name = &entry.connection;
        match &entry.brought {
            Some(Yield { complete: false, run, why, .. }) => {
                let why = why.as_deref().unwrap_or("no reason is known");
                reasons.push(format!("{name} was not read completely in run {run}: {why}"));
            }
            _ if !entry.reading.coverage.complete => reasons.push(format!("{name} has never been read completely")),
            _ => {}
        }
    }
    for entry in &status.connections {
        reasons.extend(entry.streams.iter().filter_map(|stream| stream.trouble(&entry.connection)));
    }
    for entry in &status.syncs {
        let Some(Last { run, .. }) = runs.get(&entry.sync) else { continue };
        let between = config.syncs.iter().find(|sync| sync.name == entry.sync).map(|sync| sync.between.as_slice());
        let works = status
            .connections
            .iter()
            .any(|c| c.in_use_by.is_some() && between.is_some_and(|names| names.contains(&c.connection)));
        match run.verdict.as_deref() {
            Some("ok") => {}
            Some(verdict) => {
                let why = run.summary["error"].as_str().map_or_else(String::new, |error| format!(": {error}"));
                reasons.push(format!("the last run of {}, {}, ended {verdict}{why}", entry.sync, run.id));
            }
            None if works => {}
            None => {
                reasons.push(format!("run {} of {} ended without a word; the next one goes on", run.id, entry.sync))
            }
        }
        if entry.missed {
            let last = time(run.started_at);
            reasons.push(format!("{} has missed its schedule: its last run was at {last}", entry.sync));
        }
    }
    for Silence { connection, stream, since, usual_ms } in &status.silent {
        let (last, hours) = (time(*since), usual_ms / 3_600_000);
        reasons.push(format!(
            "{connection} has fallen silent: nothing happened to any {stream} since {last}, where {hours} h was the longest quiet"
        ));
    }
    for AuditStatus { audit, .. } in status.audits.iter().filter(|entry| !entry.audit.lost.is_empty()) {
        let (lost, there) = (audit.lost.len(), audit.known + audit.lost.len() as u64);
        let at = time(audit.at);
        reasons.push(format!(
            "{} has people whom its lists do not show: {lost} of {there} that the audit of {at} found are not known here",
            audit.connection
        ));
    }
    for (kind, count) in &status.queue {
        reasons.push(format!("waiting for a person: {count} {kind}; `counterpart conflicts list`"));
    }
    for (state, what) in [("unknown", "may have arrived or not"), ("refused", "were refused by the vendor")] {
        if let Some(count) = status.messages.states.get(state) {
            reasons.push(format!("{count} messages {what}; `counterpart outbox list --state {state}`"));
        }
    }
    if status.hooks.failed > 0 {
        let failed = status.hooks.failed;
        reasons.push(format!("{failed} webhooks led to nothing; `counterpart inbox list --state failed`"));
    }
    reasons
}

fn show(out: &Output, config: &Config, status: &Status, now: Millis) {
    let ago = |at: Option<Millis>| at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", duration(now - at)));
    let mut rows =
        out.table(&["connection", "records", "linked", "due", "coverage", "complete reading", "brought", "queue"]);
    let mut streams = out.table(&["connection", "stream", "records", "coverage", "complete reading", "last read"]);
    let mut budgets = out.table(&["connection", "calls left", "of", "in", "for"]);
    for entry in &status.connections {
        // A system that only flows use has no people to tell of.
        if entry.records > 0 || entry.streams.is_empty() || synced(config, &entry.connection) {
            rows.add_row([
                entry.connection.clone(),
                records(entry.records, entry.missing),
                entry.linked.to_string(),
                entry.due.to_string(),
                entry.reading.coverage.text(),
                ago(entry.reading.last_complete),
                entry.brought.as_ref().map_or_else(
                    || "nothing yet".to_owned(),
                    |brought| format!("{} changed of {} read, {} calls", brought.changed, brought.read, brought.calls),
                ),
                queue(&entry.queue),
            ]);
        }
        for StreamStatus { stream, records: live, missing, reading, .. } in &entry.streams {
            streams.add_row([
                entry.connection.clone(),
                stream.clone(),
                records(*live, *missing),
                reading.coverage.text(),
                ago(reading.last_complete),
                ago(reading.last_read),
            ]);
        }
        for budget in &entry.budget {
            let silent = budget.silent_until.map_or_else(String::new, |at| format!(", silent until {}", time(at)));
            budgets.add_row([
                entry.connection.clone(),
                format!("{}{silent}", budget.left),
                budget.limit.to_string(),
                window(budget.per_ms),
                if budget.class == "all" { "every call".to_owned() } else { budget.class.clone() },
            ]);
        }
    }
    out.line(rows.to_string());
    if !streams.is_empty() {
        out.line(streams.to_string());
    }
    if !budgets.is_empty() {
        out.line(budgets.to_string());
    }
    for entry in &status.connections {
        if let Some(holder) = &entry.in_use_by {
            out.line(format!("{} is in use by {holder}", entry.connection));
        }
    }
    let mut rows = out.table(&["sync", "last run", "verdict", "wrote", "queue", "next run"]);
    for entry in &status.syncs {
        let run = entry.last_run.as_ref();
        let wrote = entry.wrote.as_ref().map_or_else(String::new, |done| {
            format!("{} created, {} updated, {} deleted", done.created, done.updated, done.deleted)
        });
        rows.add_row([
            entry.sync.clone(),
            run.map_or_else(|| "never".to_owned(), |run| format!("{}, {}", run.run, ago(Some(run.started_at)))),
            run.map_or("", |run| run.verdict.as_deref().unwrap_or("under way")).to_owned(),
            wrote,
            queue(&entry.queue),
            entry.next_at.map_or_else(|| "no schedule".to_owned(), time),
        ]);
    }
    out.line(rows.to_string());
    if !status.messages.states.is_empty() {
        let states: Vec<String> = status.messages.states.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let oldest = status.messages.oldest_waiting.map(|at| format!("; the oldest waits for {}", duration(now - at)));
        out.line(format!("messages: {}{}", states.join(", "), oldest.unwrap_or_default()));
    }
    if status.hooks.pending + status.hooks.failed > 0 {
        let oldest = status.hooks.oldest_pending.map(|at| format!("; the oldest waits for {}", duration(now - at)));
        let Hooks { pending, failed, .. } = status.hooks;
        out.line(format!("webhooks: {pending} pending, {failed} failed{}", oldest.unwrap_or_default()));
    }
    for entry in &status.audits {
        show_audit(out, entry, now);
    }
    if let Some(worker) = &status.messages.worker {
        out.line(format!("messages are sent by {worker}"));
    }
    if status.last_run.is_none() {
        out.line("nothing has run yet: `counterpart sync`");
    }
    for reason in &status.degraded {
        out.line(format!("{} {reason}", out.paint(Tone::Doubtful, "degraded:")));
    }
    if status.degraded.is_empty() {
        out.line(out.paint(Tone::Good, "all is well"));
    }
}

fn show_audit(out: &Output, entry: &AuditStatus, now: Millis) {
    let Audit { connection, at, asked, there, not_due, lost, why_not, .. } = &entry.audit;
    let mut parts = Vec::new();
    if let (Some(share), Some(low), Some(high)) = (entry.share, entry.low, entry.high) {
        let (share, low, high) = (share * 100.0, low * 100.0, high * 100.0);
        parts.push(format!(
            "asked for {asked} people it has {there} records, of which {share:.1} % are known here ({low:.0} to {high:.0} % of all)"
        ));
    } else if why_not.is_none() {
        parts.push(format!("asked for {asked} people it has none"));
    }
    if *not_due > 0 {
        parts.push(format!("{not_due} changed since the last reading"));
    }
    parts.extend(why_not.clone());
    out.line(format!("audit of {connection}, {} ago: {}", duration(now - at), parts.join("; ")));
    for Lost { external_id, by } in lost {
        out.line(format!("not known here: {connection}/{external_id}, found by the address of {by}"));
    }
}

impl Coverage {
    fn text(&self) -> String {
        match (self.complete, self.seen, self.announced) {
            (true, Some(seen), _) => format!("whole, {seen}"),
            (false, Some(seen), Some(announced)) => format!("{seen} of {announced}"),
            (false, Some(seen), None) => format!("{seen} so far"),
            _ => "none".to_owned(),
        }
    }
}

fn records(live: u64, missing: u64) -> String {
    if missing > 0 { format!("{live} ({missing} missing)") } else { live.to_string() }
}

fn queue(open: &BTreeMap<String, u64>) -> String {
    open.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}
