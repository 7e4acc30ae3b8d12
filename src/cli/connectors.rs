//! `counterpart connectors`

use std::path::Path;

use counterpart_connectors::Manifest;
use serde_json::json;

use super::app;
use super::output::{Failure, Output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A connector; or `test` and the name of a connection to run the conformance suite on.
    name: Option<String>,
    /// With `test`: the connection.
    connection: Option<String>,
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    match (args.name.as_deref(), args.connection.as_deref()) {
        (Some("test"), Some(connection)) => test(out, config, connection).await,
        (Some("test"), None) => Err(Failure::usage("test what?", "`counterpart connectors test CONNECTION`")),
        (name, _) => list(out, name),
    }
}

fn list(out: &Output, only: Option<&str>) -> Result<u8, Failure> {
    let names: Vec<&str> = counterpart_connectors::registry()
        .iter()
        .copied()
        .filter(|name| only.is_none_or(|only| only == *name))
        .collect();
    if names.is_empty() {
        let known = counterpart_connectors::registry().join(", ");
        return Err(Failure::usage(
            format!("there is no connector `{}`", only.unwrap_or_default()),
            format!("there are {known}"),
        ));
    }
    let mut rows = out.table(&[
        "connector",
        "reads",
        "finds by",
        "creates",
        "updates",
        "deletes",
        "changes since",
        "page",
        "settings",
    ]);
    let mut document = Vec::new();
    for name in names {
        let source = counterpart_connectors::manifest_source(name).unwrap_or_default();
        let manifest = Manifest::parse(source, name).map_err(|problems| {
            let message = format!("{name}: {} mistakes in its facts", problems.len());
            Failure::failed(message, "this is a mistake in the program: report it")
        })?;
        let can = manifest.capabilities();
        let yes = |can: bool| if can { "yes" } else { "no" }.to_owned();
        let settings: Vec<&str> = manifest.settings.keys().map(String::as_str).collect();
        rows.add_row([
            name.to_owned(),
            "contact".to_owned(),
            can.find.join(", "),
            yes(can.create),
            yes(can.update),
            yes(can.delete),
            yes(can.since),
            can.page_size.to_string(),
            settings.join(", "),
        ]);
        document.push(json!({ "name": name, "capabilities": can, "settings": settings }));
    }
    if out.json {
        out.document(&document)?;
    } else {
        out.line(rows.to_string());
    }
    Ok(0)
}

async fn test(out: &Output, path: &Path, name: &str) -> Result<u8, Failure> {
    let (config, store) = app::open(path).await?;
    let engine = app::engine(out, config, store)?;
    out.remark(format!(
        "this creates, changes and deletes contacts of its own at `{name}`; Ctrl-C stops it and deletes them first"
    ));
    let report = engine.conformance(name).await?;
    if out.json {
        out.document(&report)?;
    } else {
        out.line(report.to_string());
    }
    Ok(match (report.passed(), report.interrupted) {
        (false, _) => 1,
        (true, true) => 3,
        (true, false) => 0,
    })
}
