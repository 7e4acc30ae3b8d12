//! `counterpart init`

use std::path::Path;

use counterpart_connectors::Manifest;

use super::output::{Failure, Output};
use crate::config::{STORE_ADDRESS, is_connection_name, is_store_address};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An account, `NAME=CONNECTOR`; two or more.
    #[arg(long, value_name = "NAME=CONNECTOR")]
    connection: Vec<String>,
    /// Where the state is kept; a relative path begins at the configuration's folder.
    #[arg(long, default_value = "sqlite://counterpart.db")]
    store: String,
    /// Take the answers from the flags.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(out: &Output, path: &Path, args: &Args) -> Result<u8, Failure> {
    if path.exists() {
        let message = format!("{} is there already and is not written over", path.display());
        return Err(Failure::usage(message, "name another with `--config FILE`"));
    }
    if !is_store_address(&args.store) {
        return Err(Failure::usage("--store is no address of a store", STORE_ADDRESS));
    }
    let known = counterpart_connectors::registry().join(", ");
    let chosen: Vec<String> = match (args.connection.is_empty(), args.yes) {
        (false, _) => args.connection.clone(),
        (true, true) => vec!["chat=chatwoot".to_owned(), "crm=hubspot".to_owned()],
        (true, false) => ask(out, &known)?,
    };
    let mut accounts = Vec::new();
    for text in &chosen {
        let wrong =
            || Failure::usage(format!("`{text}` is no account"), format!("write NAME=CONNECTOR; connectors: {known}"));
        let (name, connector) = text.split_once('=').ok_or_else(wrong)?;
        let source = counterpart_connectors::manifest_source(connector.trim()).ok_or_else(wrong)?;
        let manifest = Manifest::parse(source, connector).map_err(|_| wrong())?;
        if !is_connection_name(name.trim()) {
            return Err(wrong());
        }
        accounts.push((name.trim().to_owned(), manifest));
    }
    if accounts.iter().filter(|(_, facts)| has_people(facts)).count() < 2 {
        let message = "two accounts or more that know people are kept in agreement";
        return Err(Failure::usage(message, "add --connection NAME=CONNECTOR"));
    }
    std::fs::write(path, document(&args.store, &accounts)).map_err(|error| {
        let message = format!("{} cannot be written: {error}", path.display());
        Failure::failed(message, "name a file in a folder that you may write to with `--config FILE`")
    })?;
    if out.json {
        let connections: Vec<&str> = accounts.iter().map(|(name, _)| name.as_str()).collect();
        out.document(&serde_json::json!({ "written": path, "connections": connections }))?;
        return Ok(0);
    }
    out.line(format!("{} is written; set the secrets it names, then `counterpart check --online`", path.display()));
    Ok(0)
}

/// Whether people can be kept in agreement with it; a desk is for flows.
fn has_people(facts: &Manifest) -> bool {
    facts.stream("contact").is_some()
}

fn ask(out: &Output, known: &str) -> Result<Vec<String>, Failure> {
    out.remark(format!("Which accounts? One NAME=CONNECTOR a line, an empty line ends. Connectors: {known}"));
    let mut chosen = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| {
            Failure::usage(
                format!("the answers cannot be read: {error}"),
                "`--yes --connection NAME=CONNECTOR` asks nothing",
            )
        })?;
        if line.trim().is_empty() {
            break;
        }
        chosen.push(line.trim().to_owned());
    }
    Ok(chosen)
}

fn document(store: &str, accounts: &[(String, Manifest)]) -> String {
    let mut text = format!(
        "# Counterpart. `counterpart check` tells what is wrong with this file, docs/configuration.md lists every key.\n\n\
         # Relative paths in this file begin at its folder.\n[store]\nurl = \"{store}\"\n"
    );
    for (name, manifest) in accounts {
        text.push_str(&format!("\n[connections.{name}]\nconnector = \"{}\"\n", manifest.name));
        for (key, setting) in &manifest.settings {
            let variable = format!("{}_{}", name.to_uppercase(), key.to_uppercase());
            let line = match (&setting.default, setting.secret) {
                (_, true) if manifest.requires(key) => format!("{key} = {{ env = \"{variable}\" }}"),
                (_, true) => format!("# {key} = {{ env = \"{variable}\" }}"),
                (None, false) => format!("{key} = \"\"   # required"),
                (Some(default), false) => format!("# {key} = {default}"),
            };
            text.push_str(&format!("# {}\n{line}\n", setting.help));
        }
    }
    let people = accounts.iter().filter(|(_, facts)| has_people(facts));
    let names: Vec<String> = people.map(|(name, _)| format!("\"{name}\"")).collect();
    text.push_str(&format!(
        "\n[[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [{}]\n\
         # Where people who are missing are created; everywhere without this line.\n# create = [{}]\n\
         # When `serve` runs it, and in which zone.\n# schedule = \"0 2 * * *\"\n# timezone = \"Europe/Stockholm\"\n\
         # Who wins when both sides changed: \"latest\", \"review\" (a person decides), or an order of connections.\n\
         conflict = {{ default = \"latest\" }}\n\
         # What makes a plan wait for a person.\nguard = {{ max_deletes = \"1%\", max_updates = \"30%\" }}\n",
        names.join(", "),
        names.join(", ")
    ));
    text
}
