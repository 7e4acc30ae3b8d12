//! `counterpart check`

use std::path::Path;

use counterpart_connectors::{Clock, SystemClock};
use counterpart_core::mapping::{Diagnostic, Direction};
use serde_json::{Value, json};

use super::app;
use super::output::{Failure, Output, Tone, duration, time, window};
use crate::config::{Config, FlowConfig, SyncConfig, load_mapping};
use crate::engine::EngineError;
use crate::schedule::Schedule;
use crate::store::StoreError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask the vendors: credentials, versions, capabilities.
    #[arg(long)]
    online: bool,
}

pub(super) async fn run(out: &Output, path: &Path, args: &Args) -> Result<u8, Failure> {
    let config = Config::load(path)?;
    let transport = app::transport()?;
    let mut mistakes = Vec::new();
    let mut connections = out.table(&["connection", "connector", "calls allowed", "reading 1,000 records takes"]);
    let mut document = Vec::new();
    for (name, connection) in &config.connections {
        match load_mapping(&config, connection) {
            Ok(mapping) => document.push(fields(name, &mapping)),
            Err(found) => mistakes.extend(found),
        }
        match app::connection(&config, name, transport.clone()) {
            Ok(open) => {
                let limits: Vec<String> =
                    open.budgets().iter().map(|b| format!("{} in {}", b.requests, window(b.per_ms))).collect();
                let can = open.capabilities_of(open.manifest().first_stream()).unwrap_or_default();
                let pages = 1000u64.div_ceil(u64::from(can.page_size.max(1)));
                let takes = crate::budget::forecast(open.budgets(), pages, counterpart_connectors::Lane::Backfill);
                let limits = if limits.is_empty() { "no limit".to_owned() } else { limits.join(", ") };
                connections.add_row([name.clone(), connection.connector.clone(), limits, duration(takes)]);
            }
            Err(error) => mistakes.extend(error.problems.iter().map(|problem| misset(path, name, problem))),
        }
    }
    mistakes.extend(super::messages::problems(&config));
    mistakes.extend(super::connectors::unused_problems(&config));
    mistakes.extend(crate::store::inspect(&config.store.url).err().map(|error| unopened(path, &error)));
    if !mistakes.is_empty() {
        return Err(Config::mistaken(path, mistakes).into());
    }
    let schedules = schedules(&config);
    if !out.json {
        out.line(connections.to_string());
        show_fields(out, &config, &document);
        for flow in &config.flows {
            out.line(flow_in_words(flow));
        }
        for (sync, runs) in &schedules {
            let words = config.syncs.iter().find(|entry| entry.name == *sync).map(in_words).unwrap_or_default();
            out.line(format!("{sync} runs {words}; next at {}", runs.join(", ")));
        }
    }
    let online = if args.online { Some(online(out, path).await?) } else { None };
    let code = online.as_ref().is_some_and(|found| found.iter().any(|entry| entry["reached"] == false)).into();
    if out.json {
        let mut whole = json!({ "connections": document, "schedules": schedules });
        if let Some(online) = online {
            whole["online"] = online.into();
        }
        out.document(&whole)?;
    }
    Ok(code)
}

/// What a flow does, in a line.
fn flow_in_words(flow: &FlowConfig) -> String {
    let text = flow.template.as_ref().map_or_else(String::new, |text| format!(" `{text}`"));
    let condition = if flow.when.is_some() { ", where its condition holds" } else { "" };
    format!("{} at {}: {}{text} at {}{condition}", flow.on, flow.from, flow.act.word().replace('_', " "), flow.to)
}

/// Why the store will not open, at its address.
fn unopened(path: &Path, error: &StoreError) -> Diagnostic {
    let (line, column) = Config::place(path, &["store", "url"]);
    let help = match error {
        StoreError::NoDirectory { folder } => format!("`mkdir -p {folder}`, or change `url` in [store]"),
        _ => "name a file that can be written, as in `sqlite://counterpart.db`".to_owned(),
    };
    Diagnostic { file: path.display().to_string(), line, column, message: error.to_string(), help }
}

/// What a connector says about its settings, at the setting that it names first.
fn misset(path: &Path, name: &str, problem: &str) -> Diagnostic {
    let setting = problem.split('`').nth(1).unwrap_or_default();
    let (line, column) = Config::place(path, &["connections", name, setting]);
    Diagnostic {
        file: path.display().to_string(),
        line,
        column,
        message: format!("connection `{name}`: {problem}"),
        help: "correct it; `counterpart connectors` lists the settings of each connector".to_owned(),
    }
}

fn fields(name: &str, mapping: &counterpart_core::Mapping) -> serde_json::Value {
    let fields: serde_json::Map<String, serde_json::Value> = mapping
        .fields()
        .filter_map(|field| {
            let (place, direction) = mapping.describe(field)?;
            let direction = match direction {
                Direction::In => "in",
                Direction::Out => "out",
                Direction::Both => "both",
            };
            Some((field.to_string(), json!({ "at": place, "direction": direction })))
        })
        .collect();
    json!({ "connection": name, "fields": fields })
}

fn show_fields(out: &Output, config: &Config, document: &[serde_json::Value]) {
    for sync in &config.syncs {
        let mut header = vec!["field"];
        header.extend(sync.between.iter().map(String::as_str));
        let mut directions = out.table(&header);
        let names: std::collections::BTreeSet<&String> = document
            .iter()
            .filter(|entry| sync.between.iter().any(|name| entry["connection"] == name.as_str()))
            .filter_map(|entry| entry["fields"].as_object())
            .flat_map(|fields| fields.keys())
            .collect();
        for field in names {
            let mut row = vec![field.clone()];
            for name in &sync.between {
                let entry = document.iter().find(|entry| entry["connection"] == name.as_str());
                let direction = entry.map_or("", |entry| entry["fields"][field]["direction"].as_str().unwrap_or(""));
                row.push(direction.to_owned());
            }
            directions.add_row(row);
        }
        out.line(format!("sync {}\n{directions}", sync.name));
    }
}

fn schedules(config: &Config) -> std::collections::BTreeMap<String, Vec<String>> {
    let now = chrono::DateTime::from_timestamp_millis(SystemClock.now()).unwrap_or_default();
    let mut all = std::collections::BTreeMap::new();
    for sync in &config.syncs {
        let Some(text) = &sync.schedule else { continue };
        let Ok(schedule) = Schedule::parse(text, sync.timezone.as_deref().unwrap_or("UTC")) else { continue };
        let mut runs = Vec::new();
        let mut after = now;
        while let Some(next) = schedule.next_after(after).filter(|_| runs.len() < 3) {
            runs.push(time(next.timestamp_millis()));
            after = next;
        }
        all.insert(sync.name.clone(), runs);
    }
    all
}

fn in_words(sync: &SyncConfig) -> String {
    let zone = sync.timezone.as_deref().unwrap_or("UTC");
    crate::schedule::in_words(sync.schedule.as_deref().unwrap_or_default(), zone)
}

/// Asks every vendor; one entry for each connection.
async fn online(out: &Output, path: &Path) -> Result<Vec<Value>, Failure> {
    let (config, store) = app::open(path).await?;
    let engine = app::engine(out, config, store)?;
    let mut found = Vec::new();
    for (name, result) in engine.check_online().await? {
        let (entry, line) = match result {
            Ok(report) => {
                let mut parts = vec![out.paint(Tone::Good, "reached")];
                parts.extend(report.version.iter().map(|version| format!("version {version}")));
                parts.extend(report.identity.iter().map(|identity| format!("as {identity}")));
                parts.extend(report.notes.iter().cloned());
                let entry = json!({
                    "connection": name, "reached": true, "version": report.version, "identity": report.identity,
                    "notes": report.notes,
                });
                (entry, format!("{name}: {}", parts.join(", ")))
            }
            Err(error) => {
                let kind = match &error {
                    EngineError::Vendor { error, .. } => error.kind.name(),
                    _ => "settings",
                };
                let entry = json!({
                    "connection": name, "reached": false, "error": { "kind": kind, "message": error.to_string() },
                });
                (entry, out.paint(Tone::Bad, &error.to_string()))
            }
        };
        if !out.json {
            out.line(line);
        }
        found.push(entry);
    }
    Ok(found)
}
