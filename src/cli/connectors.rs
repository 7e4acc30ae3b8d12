//! `counterpart connectors`

use std::path::Path;

use std::sync::Arc;

use counterpart_connectors::kit::conformance::{self, Target};
use counterpart_connectors::{
    Clock, Connection, LiveOptions, LiveTransport, Manifest, OpenGate, SystemClock, Transport,
};
use serde_json::json;

use super::app;
use super::output::{Failure, Output, table};
use crate::budget::{AccountBudget, Ledger};

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
    let mut rows = table(&[
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
        let manifest = Manifest::parse(source, name)
            .map_err(|problems| Failure::failed(format!("{name}: {} mistakes in its facts", problems.len())))?;
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
    let connection = config
        .connections
        .get(name)
        .ok_or_else(|| Failure::usage(format!("there is no connection `{name}`"), "name one of [connections]"))?;
    let spec = counterpart_connectors::ConnectionSpec {
        name: name.to_owned(),
        connector: connection.connector.clone(),
        settings: connection.settings.clone(),
        secrets: connection.secrets.clone(),
        manifest_dirs: config.connectors_dir.iter().cloned().collect(),
    };
    out.remark(format!("this creates, changes and deletes one contact of its own at `{name}`"));
    let transport: Arc<dyn Transport> =
        Arc::new(LiveTransport::new(LiveOptions::default()).map_err(|error| Failure::failed(error.to_string()))?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // The suite stays inside the same budget as every other call to this account.
    let open = Connection::open(spec.clone(), transport.clone(), Arc::new(OpenGate), clock.clone())
        .map_err(|error| Failure::usage(error.to_string(), "correct the connection"))?;
    let budgets = open.budgets().iter().map(|facts| AccountBudget {
        connection: name.to_owned(),
        account: open.account(),
        class: facts.class.clone(),
        requests: facts.requests,
        per_ms: facts.per_ms,
    });
    let run = store.start_run("conformance", &[], "", clock.now()).await?;
    let ledger =
        Arc::new(Ledger::new(store.clone(), clock.clone(), budgets.collect(), run, format!("conformance:{run}")));
    let mut target = Target::new(spec, transport, clock.clone());
    target.gate = ledger.clone();
    let report = conformance::run(target).await;
    ledger.close().await?;
    let verdict = if report.passed() { "ok" } else { "failed" };
    store.finish_run(run, verdict, &json!({ "conformance": report.to_string() }), clock.now()).await?;
    out.line(report.to_string());
    Ok(if report.passed() { 0 } else { 1 })
}
