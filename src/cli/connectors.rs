//! `counterpart connectors`

use std::path::Path;

use counterpart_connectors::{Manifest, ManifestProblem};
use counterpart_core::mapping::Diagnostic;
use serde_json::json;

use super::app;
use super::output::{Failure, Output};
use crate::config::{Config, own_manifest, own_manifests};

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
        (Some(name), _) => list(out, vec![described(config, name)?]),
        (None, _) => {
            let all =
                counterpart_connectors::registry().iter().map(|name| shipped(name)).collect::<Result<Vec<_>, _>>()?;
            let (own, broken) = own(out, config);
            let all = all.into_iter().filter(|facts| !own.iter().any(|mine| mine.name == facts.name));
            let code = list(out, all.chain(own.iter().cloned()).collect())?;
            if broken.is_empty() { Ok(code) } else { Err(Failure::mistakes("connectors", broken)) }
        }
    }
}

/// The facts of a shipped connector.
fn shipped(name: &str) -> Result<Manifest, Failure> {
    let source = counterpart_connectors::manifest_source(name).unwrap_or_default();
    Manifest::parse(source, name).map_err(|problems| {
        let message = format!("{name}: {} mistakes in its facts", problems.len());
        Failure::failed(message, "this is a mistake in the program: report it")
    })
}

/// The operator's own connectors in folders of their names, and what is wrong with those that cannot be read.
fn own(out: &Output, path: &Path) -> (Vec<Manifest>, Vec<Diagnostic>) {
    if !path.exists() {
        return (Vec::new(), Vec::new());
    }
    match Config::load(path) {
        Ok(config) => read_own(&config),
        Err(_) => {
            out.remark(format!(
                "{} has mistakes, see `counterpart check`: only shipped connectors are shown",
                path.display()
            ));
            (Vec::new(), Vec::new())
        }
    }
}

fn read_own(config: &Config) -> (Vec<Manifest>, Vec<Diagnostic>) {
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    for path in config.connectors_dir.iter().flat_map(|dir| own_manifests(dir).into_values()) {
        match std::fs::read_to_string(&path) {
            Ok(source) => match Manifest::parse(&source, &path.display().to_string()) {
                Ok(manifest) => sound.push(manifest),
                Err(found) => broken.extend(found.into_iter().map(mistake)),
            },
            Err(error) => broken.push(Diagnostic {
                file: path.display().to_string(),
                line: 1,
                column: 1,
                message: format!("it cannot be read: {error}"),
                help: "check the rights of that file".to_owned(),
            }),
        }
    }
    (sound, broken)
}

/// What is wrong with connectors that no connection may use yet.
pub(super) fn unused_problems(config: &Config) -> Vec<Diagnostic> {
    read_own(config).1
}

/// The facts of one connector: the operator's own before the shipped one.
fn described(config: &Path, name: &str) -> Result<Manifest, Failure> {
    let is_shipped = counterpart_connectors::registry().contains(&name);
    let dir = match Config::load(config) {
        Ok(config) => config.connectors_dir,
        // What is shipped can be looked at before there is a configuration.
        Err(_) if is_shipped || !config.exists() => None,
        Err(error) => return Err(error.into()),
    };
    match dir.and_then(|dir| own_manifest(&dir, name)) {
        Some(path) => {
            let file = path.display().to_string();
            let source = std::fs::read_to_string(&path).map_err(|error| {
                Failure::usage(format!("{file} cannot be read: {error}"), "check the rights of that file")
            })?;
            Manifest::parse(&source, &file)
                .map_err(|found| Failure::mistakes("connector", found.into_iter().map(mistake).collect()))
        }
        None if is_shipped => shipped(name),
        None => {
            let known = counterpart_connectors::registry().join(", ");
            let help = format!("there are {known}, and yours in the folder that `connectors_dir` names");
            Err(Failure::usage(format!("there is no connector `{name}`"), help))
        }
    }
}

fn mistake(found: ManifestProblem) -> Diagnostic {
    let ManifestProblem { file, line, column, message, help } = found;
    Diagnostic { file, line, column, message, help }
}

fn list(out: &Output, manifests: Vec<Manifest>) -> Result<u8, Failure> {
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
    for manifest in manifests {
        let name = manifest.name.as_str();
        let can = manifest.capabilities();
        let yes = |can: bool| if can { "yes" } else { "no" }.to_owned();
        let settings: Vec<&str> = manifest.settings.keys().map(String::as_str).collect();
        rows.add_row([
            name.to_owned(),
            manifest.first_stream().to_owned(),
            can.find.join(", "),
            yes(can.create),
            yes(can.update),
            yes(can.delete),
            yes(can.since),
            can.page_size.to_string(),
            settings.join(", "),
        ]);
        document.push(json!({
            "name": name, "stream": manifest.first_stream(), "capabilities": can, "settings": settings,
        }));
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
