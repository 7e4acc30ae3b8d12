//! Loading: the file, the environment on top, and every mistake with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use counterpart_connectors::kit::settings::KIT_SETTINGS;
use counterpart_connectors::{ActKind, Manifest};
use counterpart_core::business::{EventKind, PARCELS, Topic};
use counterpart_core::field::FieldName;
use counterpart_core::guard::Guards;
use counterpart_core::identity::IdentityRules;
use counterpart_core::mapping::{Diagnostic, alike};
use counterpart_core::merge::{Policies, Policy};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::extract::{extract, variable};
use super::file::{
    ConnectionFile, FallbackFile, File, FlowFile, HooksFile, LinkFile, PolicyFile, ServeFile, StoreFile, SyncFile,
    TelemetryFile, WriteCheckFile,
};
use super::places::Places;
use super::quote::{quotable, secret_at, value_in_line, without_credentials};
use super::secret::Reference;
use super::{
    Config, ConnectionConfig, Fallback, FlowConfig, Link, ServeConfig, StoreConfig, SyncConfig, TelemetryConfig,
    WriteCheck,
};
use crate::schedule::Schedule;
use crate::templates::Condition;

/// Keys that every connection has, for who slips.
const CONNECTION_KEYS: [&str; 9] =
    ["connector", "deep_pages", "hooks", "mapping", "read_only", "region", "settle", "trust_clock", "write_check"];

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The mistakes, in the order of the file.
    pub problems: Vec<Diagnostic>,
    /// The configuration; a mistake may stand in another file that it names.
    pub file: String,
    /// Its text, for showing the lines; without the secrets that stand in it.
    pub source_text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(
                out,
                "{line_break}{}:{}:{}: {} ({})",
                problem.file, problem.line, problem.column, problem.message, problem.help
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects mistakes and finds their places.
pub(super) struct Problems<'a> {
    file: String,
    text: &'a str,
    tree: Option<toml::Spanned<DeTable<'a>>>,
    found: Vec<Diagnostic>,
    /// Where values stand that no mistake may quote.
    hidden: Vec<Range<usize>>,
}

impl Problems<'_> {
    /// A mistake at a key path such as `["connections", "chat", "api_key"]`; what is not in the file stands at the
    /// nearest part of the path that is.
    pub(super) fn at(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        if let Some(variable) = variable(path) {
            let (message, help, file) = (message.into(), help.into(), format!("environment variable {variable}"));
            self.found.push(Diagnostic { file, line: 1, column: 1, message, help });
            return;
        }
        let offset = self.tree.as_ref().map_or(0, |tree| locate(tree.get_ref(), path));
        self.at_offset(offset, message, help);
    }

    /// A mistake at a key whose value is a secret, or may be one.
    pub(super) fn at_secret(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        self.hidden.extend(self.tree.as_ref().and_then(|tree| secret_at(tree.get_ref(), path)));
        self.at(path, message, help);
    }

    fn at_offset(&mut self, offset: usize, message: impl Into<String>, help: impl Into<String>) {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let file = self.file.clone();
        self.found.push(Diagnostic { file, line, column, message: message.into(), help: help.into() });
    }
}

/// Line and column of a key path in a configuration, or of the part of it that is there.
pub(super) fn place(path: &Path, keys: &[&str]) -> (usize, usize) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let tree = DeTable::parse(&text).ok();
    let mut problems = Problems { file: String::new(), text: &text, tree, found: Vec::new(), hidden: Vec::new() };
    problems.at(keys, "", "");
    problems.found.pop().map_or((1, 1), |found| (found.line, found.column))
}

/// Where the last part of a path that exists begins.
fn locate(tree: &DeTable<'_>, path: &[&str]) -> usize {
    let mut found = 0;
    let mut table = Some(tree);
    let mut list: Option<&toml::de::DeArray<'_>> = None;
    for part in path {
        let next = if let Some(inside) = table {
            inside.iter().find(|(key, _)| key.get_ref() == part).map(|(key, value)| (key.span().start, value))
        } else if let (Some(inside), Ok(index)) = (list, part.parse::<usize>()) {
            inside.get(index).map(|value| (value.span().start, value))
        } else {
            None
        };
        let Some((start, value)) = next else { return found };
        found = start;
        (table, list) = match value.get_ref() {
            DeValue::Table(inside) => (Some(inside), None),
            DeValue::Array(inside) => (None, Some(inside)),
            _ => (None, None),
        };
    }
    found
}

/// Mistakes that were found after the file itself was found sound, for quoting its lines.
pub(super) fn mistaken(path: &Path, problems: Vec<Diagnostic>) -> ConfigError {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    ConfigError { problems, file: path.display().to_string(), source_text: quotable(&text, &[]) }
}

pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("the configuration cannot be read: {error}");
            let help = "`counterpart init` writes one; `--config FILE` names another".to_owned();
            let problem = Diagnostic { file: file.clone(), line: 1, column: 1, message, help };
            return Err(ConfigError { problems: vec![problem], file, source_text: String::new() });
        }
    };
    let mut problems = Problems { file: file.clone(), text: &text, tree: None, found: Vec::new(), hidden: Vec::new() };
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let config = read(&text, &folder, &mut problems);
    let mut found = problems.found;
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => {
            found.sort_by_key(|problem| (problem.line, problem.column));
            let source_text = quotable(&text, &problems.hidden);
            Err(ConfigError { problems: found, file, source_text })
        }
    }
}

fn read<'a>(text: &'a str, folder: &Path, problems: &mut Problems<'a>) -> Option<Config> {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let offset = toml::de::Error::span(&error).map_or(0, |span| span.start);
            problems.hidden.extend(value_in_line(text, offset));
            problems.at_offset(offset, error.message().to_owned(), "this is not TOML yet");
            return None;
        }
    };
    problems.tree = DeTable::parse(text).ok();
    let file = extract(table, problems)?;
    let places = Places::of(folder);
    let connectors_dir = file.connectors_dir.as_ref().map(|dir| places.path(&["connectors_dir"], dir));
    if connectors_dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
        problems.at(&["connectors_dir"], "there is no such folder", "make it, or leave `connectors_dir` out");
    }
    let mut connections = BTreeMap::new();
    for (name, connection) in file.connections {
        let place = ["connections", name.as_str()];
        if !is_connection_name(&name) {
            let help =
                "take letters, digits, `-`, `_` and `.`, the first a letter or digit: its webhooks come to /hooks/NAME";
            problems.at(&place, format!("`{name}` is no name of a connection"), help);
        }
        let config = connection_config(&place, connection, &places, connectors_dir.as_deref(), problems);
        connections.insert(name.clone(), config);
    }
    let facts = |connection: &ConnectionConfig| facts_of(&connection.connector, connectors_dir.as_deref());
    let manifests: BTreeMap<String, Arc<Manifest>> =
        connections.iter().filter_map(|(name, connection)| Some((name.clone(), facts(connection)?))).collect();
    let mut names = BTreeSet::new();
    let mut syncs = Vec::new();
    for (index, sync) in file.syncs.into_iter().enumerate() {
        let index = index.to_string();
        if !names.insert(sync.name.clone()) {
            problems.at(&["syncs", &index, "name"], format!("two syncs are called `{}`", sync.name), "rename one");
        }
        syncs.push(sync_config(&index, sync, &connections, &manifests, problems));
    }
    let mappings_dir = file.mappings_dir.map(|dir| places.path(&["mappings_dir"], &dir));
    if mappings_dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
        problems.at(&["mappings_dir"], "there is no such folder", "make it, or leave `mappings_dir` out");
    }
    // What is wrong inside of texts is told by `check`, with their own places.
    let texts = match file.flows.is_empty() {
        true => None,
        false => super::templates_in(mappings_dir.as_deref()).ok(),
    };
    let mut flows: Vec<FlowConfig> = Vec::new();
    let asked = file.flows.len();
    for (index, flow) in file.flows.into_iter().enumerate() {
        let index = index.to_string();
        let Some(flow) = flow_config(&index, flow, &connections, &manifests, connectors_dir.as_deref(), problems)
        else {
            continue;
        };
        if flows.iter().any(|other| other.name == flow.name) {
            let message = format!("two flows are called `{}`", flow.name);
            problems.at(&["flows", &index], message, "give one of them another `name`");
        }
        if let (Some(texts), Some(name)) = (&texts, &flow.template)
            && let Err(error) = texts.fits(name, flow.on)
        {
            let key = if flow.act == ActKind::OpenTicket { "text" } else { flow.act.word() };
            let fitting = texts.entries().filter(|entry| entry.event.topic() == flow.on.topic());
            let fitting: Vec<&str> = fitting.map(|entry| entry.name).collect();
            let help = match fitting.is_empty() {
                true => "write one (docs/messages.md) into the folder `messages` of your mappings_dir".to_owned(),
                false => format!("for `{}` there are {}", flow.on, fitting.join(", ")),
            };
            problems.at(&["flows", &index, key], error.to_string(), help);
        }
        flows.push(flow);
    }
    // What a flow that could not be read belongs to is not known.
    if flows.len() == asked {
        super::links::check(&flows, problems);
    }
    let store = store_config(file.store, &places, problems);
    let serve = serve_config(file.serve, problems);
    let telemetry = file.telemetry.map(|file| telemetry_config(file, &places, problems));
    for (name, connection) in connections.iter().filter(|(_, connection)| connection.keep_hooks) {
        kept_hooks(name, connection, manifests.get(name).map(Arc::as_ref), &serve, problems);
    }
    Some(Config {
        store,
        tenant: file.tenant,
        serve,
        telemetry,
        connections,
        syncs,
        flows,
        connectors_dir,
        mappings_dir,
    })
}

/// Whether `serve` can keep the webhooks of this connection.
fn kept_hooks(
    name: &str,
    connection: &ConnectionConfig,
    manifest: Option<&Manifest>,
    serve: &ServeConfig,
    problems: &mut Problems<'_>,
) {
    let at = ["connections", name, "hooks"];
    let leave = "leave `hooks` out";
    if manifest.is_some_and(|facts| facts.hooks.as_ref().is_none_or(|hooks| hooks.subscriptions.is_none())) {
        let message = format!("connector `{}` cannot subscribe to webhooks", connection.connector);
        problems.at(&at, message, format!("{leave}; `counterpart hooks list {name}` says what to do instead"));
    }
    if serve.public_url.is_none() {
        let message = format!("there is no address for the webhooks of connection `{name}`");
        problems.at(&at, message, "set `public_url` in [serve] to how vendors reach this machine");
    }
    if connection.read_only {
        problems.at(&at, format!("connection `{name}` is read_only, and keeping webhooks writes there"), leave);
    }
}

/// How the address of a store is written.
pub const STORE_ADDRESS: &str = "write `sqlite://counterpart.db` or `postgres://user@host/database`";

/// Whether an address begins as that of a store does.
pub fn is_store_address(url: &str) -> bool {
    ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme))
}

fn store_config(file: StoreFile, places: &Places<'_>, problems: &mut Problems<'_>) -> StoreConfig {
    let url = file.url;
    if !is_store_address(&url) {
        problems.at(&["store", "url"], "this is no address of a store", STORE_ADDRESS);
    }
    let keep_ms = match file.keep.parse::<counterpart_core::gate::Period>() {
        _ if file.keep == "forever" => None,
        Ok(period) if period < counterpart_core::gate::Period::DAY => {
            problems.at(&["store", "keep"], format!("{period} is less than a reading may take"), "write `1d` or more");
            None
        }
        Ok(period) => Some(period.ms()),
        Err(error) => {
            problems.at(&["store", "keep"], error.to_string(), "write `180d`, or `forever`");
            None
        }
    };
    StoreConfig { url: places.store(&url), keep_ms }
}

fn serve_config(file: ServeFile, problems: &mut Problems<'_>) -> ServeConfig {
    let mut config = ServeConfig { listen: file.listen, public_url: None, ..ServeConfig::default() };
    match file.poll.parse::<counterpart_core::gate::Period>() {
        Ok(period) => config.poll_ms = period.ms(),
        Err(error) => problems.at(&["serve", "poll"], error.to_string(), "write `1m`"),
    }
    match file.check_hooks.parse::<counterpart_core::gate::Period>() {
        Ok(period) => config.check_hooks_ms = period.ms(),
        Err(error) => problems.at(&["serve", "check_hooks"], error.to_string(), "write `1h`"),
    }
    let port = config.listen.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    if port.is_none_or(|port| port.parse::<u16>().is_err()) {
        let message = format!("`{}` is no address with a port", config.listen);
        problems.at(&["serve", "listen"], message, "write `127.0.0.1:8787`");
    }
    if let Some(url) = file.public_url {
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', ' '])) {
            let message = format!("`{}` is no address that a vendor can call", without_credentials(&url));
            problems.at(&["serve", "public_url"], message, "write `https://hooks.example.com`");
        }
        config.public_url = Some(url.trim_end_matches('/').to_owned());
    }
    config
}

fn telemetry_config(file: TelemetryFile, places: &Places<'_>, problems: &mut Problems<'_>) -> TelemetryConfig {
    let at = ["telemetry", "otlp"];
    if !cfg!(feature = "otlp") {
        let help = "build it with `cargo build --release --features otlp`, or leave [telemetry] out";
        problems.at(&at, "this build sends no traces", help);
    }
    let host = file.otlp.strip_prefix("https://").or_else(|| file.otlp.strip_prefix("http://"));
    let is_address = host.is_some_and(|host| !host.is_empty() && !host.contains(['?', '#', '@', ' ']));
    if !is_address || file.otlp.parse::<http::Uri>().is_err() {
        let message = format!("`{}` is no address of a collector", without_credentials(&file.otlp));
        problems.at(&at, message, "write `http://localhost:4318`; what it is to be told in secret goes into `headers`");
    }
    let mut headers = BTreeMap::new();
    for (name, value) in file.headers {
        let at = ["telemetry", "headers", name.as_str()];
        if name.parse::<http::HeaderName>().is_err() {
            problems.at(&at, format!("`{name}` is no name of a header"), "write `authorization`");
        }
        match Reference::from_value(&value).map(|reference| reference.read(places.base(&at))) {
            Some(Ok(secret)) => {
                headers.insert(name, secret);
            }
            Some(Err(why)) => {
                problems.at(&at, format!("header `{name}`: {why}"), "set it before starting, or name another place");
            }
            None if value.is_object() => problems.at(&at, format!("header `{name}`: {ONE_PLACE}"), one_place(&name)),
            None => {
                let message = format!("header `{name}` may be a secret and stands here in clear");
                problems.at_secret(&at, message, one_place(&name));
            }
        }
    }
    let otlp = file.otlp.trim_end_matches('/').to_owned();
    TelemetryConfig { otlp, service_name: file.service_name, headers }
}

/// What is wrong with a reference that is none.
const ONE_PLACE: &str = "a secret stands in one place, `env` or `file`";

/// How a reference is written.
fn one_place(name: &str) -> String {
    format!("write `{name} = {{ env = \"NAME\" }}` or `{name} = {{ file = \"PATH\" }}`")
}

fn connection_config(
    place: &[&str; 2],
    file: ConnectionFile,
    places: &Places<'_>,
    connectors_dir: Option<&Path>,
    problems: &mut Problems<'_>,
) -> ConnectionConfig {
    let manifest = manifest(place, &file.connector, connectors_dir, problems);
    let is_secret = |key: &str| manifest.as_ref().and_then(|facts| facts.settings.get(key)).is_some_and(|s| s.secret);
    let mut settings = serde_json::Map::new();
    let mut secrets = BTreeMap::new();
    for (key, value) in file.settings {
        let at = [place[0], place[1], key.as_str()];
        if let Some(known) = &manifest
            && !known.settings.contains_key(&key)
            && !KIT_SETTINGS.contains(&key.as_str())
        {
            let names: Vec<&str> = known.settings.keys().map(String::as_str).collect();
            let message = format!("connector `{}` has no setting `{key}`", file.connector);
            let help = match alike(&key, names.iter().copied().chain(CONNECTION_KEYS)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("it has {}", names.join(", ")),
            };
            // It may be a secret whose name was mistyped.
            problems.at_secret(&at, message, help);
            continue;
        }
        match Reference::from_value(&value) {
            Some(reference) => match reference.read(places.base(&at)) {
                Ok(secret) => {
                    secrets.insert(key, secret);
                }
                Err(why) => {
                    let message = format!("`{key}` of connection `{}`: {why}", place[1]);
                    problems.at(&at, message, "set it before starting, or name another place");
                }
            },
            None if is_secret(&key) && value.is_object() => {
                problems.at(&at, format!("`{key}` of connection `{}`: {ONE_PLACE}", place[1]), one_place(&key));
            }
            None if is_secret(&key) => {
                problems.at_secret(&at, format!("`{key}` is a secret and stands here in clear"), one_place(&key));
            }
            None => {
                settings.insert(key, value);
            }
        }
    }
    if let Some(region) = &file.region
        && !(region.len() == 2 && region.bytes().all(|byte| byte.is_ascii_alphabetic()))
    {
        let at = [place[0], place[1], "region"];
        problems.at(&at, format!("`{region}` is no country code"), "write two letters, such as \"SE\"");
    }
    let settle = file.settle.parse::<counterpart_core::gate::Period>();
    if let Err(error) = &settle {
        problems.at(&[place[0], place[1], "settle"], error.to_string(), "write `2m`");
    }
    ConnectionConfig {
        connector: file.connector,
        settings,
        secrets,
        mapping: file.mapping.map(|path| places.path(&[place[0], place[1], "mapping"], &path)),
        region: file.region.map(|region| region.to_ascii_uppercase()),
        deep_pages: file.deep_pages,
        write_check: match file.write_check {
            WriteCheckFile::Read => WriteCheck::Read,
            WriteCheckFile::Trust => WriteCheck::Trust,
        },
        trust_clock: file.trust_clock,
        read_only: file.read_only,
        settle_ms: settle.map_or(0, |period| period.ms()),
        keep_hooks: file.hooks == HooksFile::Keep,
    }
}

/// Whether a name can be part of the address of webhooks as it is.
pub fn is_connection_name(name: &str) -> bool {
    name.starts_with(char::is_alphanumeric)
        && name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

/// The files NAME/connector.toml of all connectors of the operator's own, used or not, by name.
pub fn own_manifests(connectors_dir: &Path) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(connectors_dir).into_iter().flatten().flatten();
    let folders = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    folders.map(|(name, path)| (name, path.join("connector.toml"))).filter(|(_, path)| path.is_file()).collect()
}

/// The file of a connector of the operator's own.
pub fn own_manifest(connectors_dir: &Path, connector: &str) -> Option<PathBuf> {
    let places =
        [connectors_dir.join(connector).join("connector.toml"), connectors_dir.join(format!("{connector}.toml"))];
    places.into_iter().find(|path| path.is_file())
}

/// The connector's facts; a connector that is not there is a mistake.
fn manifest(
    place: &[&str; 2],
    connector: &str,
    connectors_dir: Option<&Path>,
    problems: &mut Problems<'_>,
) -> Option<Arc<Manifest>> {
    let own = connectors_dir.and_then(|dir| own_manifest(dir, connector));
    let parsed = match (&own, counterpart_connectors::shipped_manifest(connector)) {
        (Some(path), _) => {
            let source = std::fs::read_to_string(path).unwrap_or_default();
            Manifest::parse(&source, &path.display().to_string()).map(Arc::new)
        }
        (None, Some(shipped)) => shipped,
        (None, None) => {
            let known = counterpart_connectors::registry().join(", ");
            let message = format!("there is no connector `{connector}`");
            let help = format!("take one of {known}, or put your own into `connectors_dir` (docs/rest-connector.md)");
            problems.at(&[place[0], place[1], "connector"], message, help);
            return None;
        }
    };
    match parsed {
        Ok(manifest) => Some(manifest),
        Err(wrong) => {
            problems.found.extend(wrong.into_iter().map(|problem| Diagnostic {
                file: problem.file,
                line: problem.line,
                column: problem.column,
                message: problem.message,
                help: problem.help,
            }));
            None
        }
    }
}

/// The facts of a connector that was found sound before.
pub(super) fn facts_of(connector: &str, connectors_dir: Option<&Path>) -> Option<Arc<Manifest>> {
    match connectors_dir.and_then(|dir| own_manifest(dir, connector)) {
        Some(path) => Manifest::parse(&std::fs::read_to_string(path).ok()?, connector).ok().map(Arc::new),
        None => counterpart_connectors::shipped_manifest(connector)?.ok(),
    }
}

fn sync_config(
    index: &str,
    file: SyncFile,
    connections: &BTreeMap<String, ConnectionConfig>,
    manifests: &BTreeMap<String, Arc<Manifest>>,
    problems: &mut Problems<'_>,
) -> SyncConfig {
    if file.kind != "contact" {
        problems.at(&["syncs", index, "kind"], format!("`{}` is no kind of record", file.kind), "write \"contact\"");
    }
    if file.between.iter().collect::<BTreeSet<_>>().len() < 2 {
        let message = format!("sync `{}` needs two different connections", file.name);
        problems.at(&["syncs", index, "between"], message, "name at least two of [connections]");
    }
    let known: Vec<&str> = connections.keys().map(String::as_str).collect();
    for (key, list) in [("between", Some(&file.between)), ("create", file.create.as_ref())] {
        for (at, name) in list.into_iter().flatten().enumerate() {
            if !connections.contains_key(name) {
                let message = format!("there is no connection `{name}`");
                let help = format!("the configuration has: {}", known.join(", "));
                problems.at(&["syncs", index, key, &at.to_string()], message, help);
            }
            if let Some(manifest) = manifests.get(name).filter(|facts| facts.stream("contact").is_none()) {
                let message = format!("`{name}` ({}) knows no people that could be kept in agreement", manifest.name);
                let streams: Vec<&str> = manifest.streams.keys().map(String::as_str).collect();
                let help = format!("leave it out; its {} are for [[flows]]", streams.join(", "));
                problems.at(&["syncs", index, key, &at.to_string()], message, help);
            }
        }
    }
    if let Some(schedule) = &file.schedule {
        let mut wrong = Schedule::parse(schedule, file.timezone.as_deref().unwrap_or("UTC")).err();
        if let Some(error) = wrong.take_if(|error| error.is_zone()) {
            problems.at(&["syncs", index, "timezone"], error.to_string(), error.help());
            wrong = Schedule::parse(schedule, "UTC").err();
        }
        if let Some(error) = wrong {
            problems.at(&["syncs", index, "schedule"], error.to_string(), error.help());
        }
    }
    let conflict = policies(index, &file, problems);
    let guard = Guards {
        max_creates: file.guard.max_creates,
        max_updates: file.guard.max_updates,
        max_deletes: file.guard.max_deletes,
        emptied: file.guard.emptied,
    };
    let identity = IdentityRules {
        external: file.identity.external,
        email: file.identity.email,
        phone: file.identity.phone,
        weak: file.identity.weak,
    };
    SyncConfig {
        name: file.name,
        kind: file.kind,
        between: file.between,
        create: file.create,
        conflict,
        guard,
        identity,
        schedule: file.schedule,
        timezone: file.timezone,
    }
}

fn flow_config(
    index: &str,
    file: FlowFile,
    connections: &BTreeMap<String, ConnectionConfig>,
    manifests: &BTreeMap<String, Arc<Manifest>>,
    connectors_dir: Option<&Path>,
    problems: &mut Problems<'_>,
) -> Option<FlowConfig> {
    let at = |key: &'static str| ["flows", index, key];
    let Ok(on) = file.on.parse::<EventKind>() else {
        let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        problems.at(&at("on"), format!("there is no event `{}`", file.on), format!("known are {}", known.join(", ")));
        return None;
    };
    let acts = [
        (ActKind::Send, "send", &file.send, &file.to),
        (ActKind::Note, "note", &file.note, &file.to),
        (ActKind::Resolve, "resolve", &file.resolve, &file.resolve),
        (ActKind::Reopen, "reopen", &file.reopen, &file.reopen),
        (ActKind::OpenTicket, "open_ticket", &file.open_ticket, &file.open_ticket),
        (ActKind::SetTicket, "set_ticket", &file.set_ticket, &file.set_ticket),
    ];
    let mut chosen = acts.into_iter().filter(|(_, _, given, _)| given.is_some());
    let (Some((act, key, Some(given), to)), None) = (chosen.next(), chosen.next()) else {
        let help = "write exactly one of `send`, `note`, `resolve`, `reopen`, `open_ticket` and `set_ticket`";
        problems.at(&["flows", index], "a flow does one thing", help);
        return None;
    };
    let Some(to) = to else {
        problems.at(&at(key), "it is not said where the message goes", "add `to = \"CONNECTION\"`, a chat system");
        return None;
    };
    let known: Vec<&str> = connections.keys().map(String::as_str).collect();
    let place = if matches!(act, ActKind::Send | ActKind::Note) { "to" } else { key };
    for (key, name) in [("from", &file.from), (place, to)] {
        if !connections.contains_key(name) {
            let help = format!("the configuration has: {}", known.join(", "));
            problems.at(&at(key), format!("there is no connection `{name}`"), help);
        }
    }
    let topic = on.topic().as_str();
    if let Some(manifest) = manifests.get(&file.from)
        && !tells_of(manifest, connections.get(&file.from), on.topic(), connectors_dir)
    {
        let message = format!("`{}` ({}) tells of no {topic}", file.from, manifest.name);
        let streams: Vec<&str> = manifest.streams.keys().map(String::as_str).collect();
        let help = match manifest.stream("order") {
            Some(_) if on.topic() == Topic::Shipment => {
                "say in the connector's order.toml where an order lists its parcels: [lists.shipments]".to_owned()
            }
            _ => format!("its streams are {}", streams.join(", ")),
        };
        problems.at(&at("from"), message, help);
    }
    can_do(&at(place), act, to, file.accept_effects, manifests, problems);
    may_write(&at(place), to, connections, problems);
    let fallback = file.fallback.as_ref().filter(|_| {
        if act != ActKind::Send {
            let message = "`fallback` is another way to the customer, and this flow sends nothing";
            problems.at(&at("fallback"), message, "leave it out");
        }
        act == ActKind::Send
    });
    let fallback =
        fallback.and_then(|fallback| fallback_config(index, fallback, &file, to, connections, manifests, problems));
    ticket_keys(index, &file, act, on, to, manifests, problems);
    if act == ActKind::OpenTicket
        && let (Some(manifest), Some(connection)) = (manifests.get(to), connections.get(to))
    {
        for setting in manifest.unset(act, &connection.settings) {
            let message = format!("`{to}` ({}) opens tickets only where its setting `{setting}` is set", manifest.name);
            problems.at(&at(place), message, format!("add `{setting} = …` to [connections.{to}]"));
        }
    }
    if file.link.is_some() && !(topic == "ticket" && matches!(act, ActKind::Resolve | ActKind::Reopen)) {
        let message = "`link` says which chat a ticket resolves or opens again, and this flow does neither";
        problems.at(&at("link"), message, "leave it out");
    }
    let link = match file.link {
        Some(LinkFile::Person) => Link::Person,
        Some(LinkFile::Explicit) | None => Link::Explicit,
    };
    // Its tickets lead to chats, or chats to its tickets, by what they name.
    let desk = match (act, on.topic(), link) {
        (ActKind::Resolve | ActKind::Reopen, Topic::Ticket, Link::Explicit) => Some(&file.from),
        (ActKind::SetTicket, Topic::Conversation, _) => Some(to),
        _ => None,
    };
    if let Some((desk, connection)) = desk.and_then(|desk| Some((desk, connections.get(desk)?)))
        && !names_chats(connection, connectors_dir)
    {
        let connector = &connection.connector;
        let message = format!(
            "it is not known where a ticket of `{desk}` ({connector}) names its chat: this flow would find none"
        );
        let or_else = if act == ActKind::SetTicket { "" } else { ", or write `link = \"person\"`" };
        let help = format!(
            "say where in `{connector}/ticket.toml` of your connectors_dir (`conversation = …`, docs/configuration.md){or_else}"
        );
        problems.at(&at(key), message, help);
    }
    let when = file.when.as_deref().and_then(|text| match Condition::parse(text, on) {
        Ok(condition) => Some(condition),
        Err(found) => {
            for wrong in found {
                problems.at(&at("when"), wrong.message, wrong.help);
            }
            None
        }
    });
    let name = file.name.clone().unwrap_or_else(|| format!("{}/{}/{}/{}", file.from, file.on, act.word(), to));
    let template = match act {
        ActKind::Send | ActKind::Note => Some(given.clone()),
        _ => file.text.clone(),
    };
    Some(FlowConfig {
        name,
        on,
        from: file.from.clone(),
        act,
        to: to.clone(),
        fields: file.fields,
        template,
        link,
        fallback,
        when,
        gate: file.gate,
    })
}

fn fallback_config(
    index: &str,
    fallback: &FallbackFile,
    flow: &FlowFile,
    first: &str,
    connections: &BTreeMap<String, ConnectionConfig>,
    manifests: &BTreeMap<String, Arc<Manifest>>,
    problems: &mut Problems<'_>,
) -> Option<Fallback> {
    let at = |key: &'static str| ["flows", index, "fallback", key];
    let (act, key, to) = match (&fallback.to, &fallback.note) {
        (Some(to), None) => (ActKind::Send, "to", to),
        (None, Some(note)) => (ActKind::Note, "note", note),
        _ => {
            let help = "write `fallback = { to = \"CONNECTION\" }` or `fallback = { note = \"CONNECTION\" }`";
            problems.at(&["flows", index, "fallback"], "a fallback is one way", help);
            return None;
        }
    };
    if !connections.contains_key(to) {
        let known: Vec<&str> = connections.keys().map(String::as_str).collect();
        let help = format!("the configuration has: {}", known.join(", "));
        problems.at(&at(key), format!("there is no connection `{to}`"), help);
    }
    can_do(&at(key), act, to, flow.accept_effects, manifests, problems);
    may_write(&at(key), to, connections, problems);
    match (act, &fallback.conversation) {
        (ActKind::Send, Some(_)) => {
            let message = "the customer is not in a conversation that is the same for all";
            problems.at(&at("conversation"), message, "leave it out, or write `note`");
        }
        (ActKind::Send, None) if to == first => {
            problems.at(&at("to"), format!("`{to}` is the way that is missing"), "name another chat system");
        }
        (_, None) if to == first => {
            let message = format!("who has no conversation at `{to}` has none for a note either");
            problems.at(&at("note"), message, "add `conversation = \"ID\"`, one that agents watch");
        }
        _ => {}
    }
    let after = fallback.after.parse::<counterpart_core::gate::Period>();
    match &after {
        Err(error) => problems.at(&at("after"), error.to_string(), "write `1h`"),
        Ok(after) if *after >= flow.gate.max_age => {
            let message = format!("after {after} the message is too old already");
            problems.at(
                &at("after"),
                message,
                format!("take less than {}, the `max_age` of its gate", flow.gate.max_age),
            );
        }
        Ok(_) => {}
    }
    let after_ms = after.map_or(0, |after| after.ms());
    Some(Fallback { act, to: to.clone(), conversation: fallback.conversation.clone(), after_ms })
}

/// Whether a connection can do something, and what it would do besides.
fn can_do(
    place: &[&str],
    act: ActKind,
    to: &str,
    accepted: bool,
    manifests: &BTreeMap<String, Arc<Manifest>>,
    problems: &mut Problems<'_>,
) {
    let Some(manifest) = manifests.get(to) else { return };
    match manifest.actions.get(&act) {
        None => {
            let message = format!("`{to}` ({}) has no way to {}", manifest.name, phrase(act));
            let can: Vec<&str> = manifest.actions.keys().map(|act| act.word()).collect();
            let help = match can.is_empty() {
                true => "it is neither a chat system nor a desk".to_owned(),
                false => format!("it can {}", can.join(", ")),
            };
            problems.at(place, message, help);
        }
        Some(facts) if !facts.effects.is_empty() && !accepted => {
            let message = format!("to {} at `{to}` also {}", phrase(act), facts.effects.join("; "));
            problems.at(place, message, "write `accept_effects = true` if that is meant");
        }
        Some(_) => {}
    }
}

/// A connection that is never to be written to is no end of a flow.
fn may_write(place: &[&str], to: &str, connections: &BTreeMap<String, ConnectionConfig>, problems: &mut Problems<'_>) {
    if connections.get(to).is_some_and(|connection| connection.read_only) {
        let message = format!("`{to}` is `read_only`, and this flow writes there");
        problems.at(place, message, format!("take `read_only` out of [connections.{to}], or leave the flow out"));
    }
}

fn phrase(act: ActKind) -> String {
    match act {
        ActKind::OpenTicket => "open a ticket".to_owned(),
        ActKind::SetTicket => "set fields of a ticket".to_owned(),
        _ => format!("{} in a conversation", act.word()),
    }
}

/// The keys that belong to what is done at a desk: there where they are needed, and nowhere else.
fn ticket_keys(
    index: &str,
    file: &FlowFile,
    act: ActKind,
    on: EventKind,
    to: &str,
    manifests: &BTreeMap<String, Arc<Manifest>>,
    problems: &mut Problems<'_>,
) {
    let at = |key: &'static str| ["flows", index, key];
    match (act, &file.text) {
        (ActKind::OpenTicket, None) => {
            let help = "add `text = \"TEMPLATE\"`, a text of docs/messages.md; its first line is the subject";
            problems.at(&at("open_ticket"), "it is not said what the ticket says", help);
        }
        (ActKind::OpenTicket, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            problems.at(&at("text"), "`text` is what a new ticket says, and this flow opens none", "leave it out")
        }
    }
    if act == ActKind::OpenTicket && on.topic() == Topic::Ticket {
        let message = "a ticket that opens a ticket would go on for ever";
        problems.at(&at("on"), message, "take an event of a shop or of a chat system");
    }
    if act != ActKind::SetTicket {
        if !file.fields.is_empty() {
            problems.at(&at("fields"), "`fields` are those of a ticket, and this flow sets none", "leave them out");
        }
        return;
    }
    if !matches!(on.topic(), Topic::Ticket | Topic::Conversation) {
        let message = format!("`{on}` leads to no ticket");
        problems.at(&at("on"), message, "take an event of a desk or of a chat system");
    }
    if file.fields.is_empty() {
        problems.at(&at("set_ticket"), "it is not said what is set", "add `fields = { status = \"solved\" }`");
    }
    let facts = manifests.get(to).and_then(|manifest| manifest.actions.get(&ActKind::SetTicket));
    for (name, word) in file.fields.iter().filter(|_| facts.is_some()) {
        let at = ["flows", index, "fields", name.as_str()];
        let known = facts.into_iter().flat_map(|facts| facts.fields.keys());
        match facts.and_then(|facts| facts.fields.get(name)) {
            None => {
                let known: Vec<&str> = known.map(String::as_str).collect();
                let message = format!("no field `{name}` of a ticket can be set at `{to}`");
                problems.at(&at, message, format!("it has {}", known.join(", ")));
            }
            Some(field) if field.value(word).is_none() => {
                let known: Vec<&str> = field.values.keys().map(String::as_str).collect();
                let message = format!("`{name}` of a ticket cannot be set to `{word}` at `{to}`");
                problems.at(&at, message, format!("take one of {}", known.join(", ")));
            }
            Some(_) => {}
        }
    }
}

/// Whether there are events about a topic; parcels may be parts of orders.
fn tells_of(
    manifest: &Manifest,
    connection: Option<&ConnectionConfig>,
    topic: Topic,
    connectors_dir: Option<&Path>,
) -> bool {
    if manifest.stream(topic.as_str()).is_some() {
        return true;
    }
    let Some(connection) = connection.filter(|_| topic == Topic::Shipment && manifest.stream("order").is_some()) else {
        return false;
    };
    match super::document(connectors_dir, &connection.connector, "order") {
        Ok(document) => document.is_some_and(|document| document.lists(PARCELS)),
        // Its mistakes are told where it is loaded.
        Err(_) => true,
    }
}

/// Whether the reading file of a desk says where a ticket names its conversation.
fn names_chats(connection: &ConnectionConfig, connectors_dir: Option<&Path>) -> bool {
    match super::document(connectors_dir, &connection.connector, "ticket") {
        Ok(document) => document.is_none_or(|document| document.reads("conversation")),
        // Its mistakes are told where it is loaded.
        Err(_) => true,
    }
}

fn policies(index: &str, file: &SyncFile, problems: &mut Problems<'_>) -> Policies {
    let mut policies = Policies::default();
    for (field, policy) in &file.conflict {
        let at = ["syncs", index, "conflict", field.as_str()];
        let policy = match policy {
            PolicyFile::Word(word) if word == "latest" => Policy::Latest,
            PolicyFile::Word(word) if word == "review" => Policy::Review,
            PolicyFile::Word(word) => {
                let help = "write \"latest\", \"review\", or a list of connections";
                problems.at(&at, format!("`{word}` is no policy"), help);
                continue;
            }
            PolicyFile::Order(list) => {
                if let Some(stranger) = list.iter().find(|name| !file.between.contains(name)) {
                    let help = format!("name connections of this sync: {}", file.between.join(", "));
                    problems.at(&at, format!("`{stranger}` is not part of sync `{}`", file.name), help);
                }
                Policy::Order(list.clone())
            }
        };
        if field == "default" {
            policies.default = policy;
            continue;
        }
        match FieldName::parse(field) {
            Ok(field) => {
                policies.fields.insert(field, policy);
            }
            Err(error) => problems.at(&at, error.to_string(), "correct the field's name"),
        }
    }
    policies
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> Value {
    schemars::schema_for!(File).to_value()
}

#[cfg(test)]
mod tests {
    /// The published schema is the one the types give; `UPDATE=1` writes it.
    #[test]
    fn the_published_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counterpart.schema.json");
        let current = format!("{:#}\n", super::schema());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &current).expect("the schema is written");
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert!(published == current, "docs/counterpart.schema.json is not current: UPDATE=1 cargo test --lib schema");
    }
}
