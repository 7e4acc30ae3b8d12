//! The configuration: one file, layered with the environment, checked as a whole, every mistake with its place.
//!
//! Secrets are references to the environment or to a file; the values are read when the configuration is loaded, never
//! printed and never stored.

mod extract;
mod file;
mod links;
mod load;
mod places;
mod quote;
mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use counterpart_connectors::ActKind;
use counterpart_core::Document;
use counterpart_core::business::{EventKind, Topic};
use counterpart_core::guard::Guards;
use counterpart_core::identity::IdentityRules;
use counterpart_core::mapping::{Diagnostic, Mapping};
use counterpart_core::merge::Policies;
use secrecy::SecretString;

use crate::store::StoreOptions;
use crate::templates::{Condition, Templates};

pub use load::{ConfigError, STORE_ADDRESS, is_connection_name, is_store_address, own_manifest, own_manifests, schema};

/// Where the state is kept.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `sqlite://FILE` or `postgres://…`.
    pub url: String,
    /// How long what is over is remembered; none for ever.
    pub keep_ms: Option<i64>,
}

/// How `serve` works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Address and port to listen on.
    pub listen: String,
    /// How often the streams are read that the flows live on.
    pub poll_ms: i64,
    /// How vendors reach it, without a slash at the end.
    pub public_url: Option<String>,
    /// How often the webhooks at the vendors are looked after.
    pub check_hooks_ms: i64,
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        ServeConfig {
            listen: "127.0.0.1:8787".to_owned(),
            poll_ms: 60_000,
            public_url: None,
            check_hooks_ms: 3_600_000,
        }
    }
}

/// Where traces go.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Address of an OpenTelemetry collector, without a slash at the end.
    pub otlp: String,
    /// How the collector's users know this installation.
    pub service_name: String,
    /// Headers that the collector asks for.
    pub headers: BTreeMap<String, SecretString>,
}

/// Whether a record is read once more right before it is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteCheck {
    /// It is: an edit made meanwhile is seen and not written over. One more call for each update.
    #[default]
    Read,
    /// It is not.
    Trust,
}

/// One configured account.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Name of the connector.
    pub connector: String,
    /// The connector's own settings.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Its secrets, by setting.
    pub secrets: BTreeMap<String, SecretString>,
    /// A mapping file instead of the shipped one.
    pub mapping: Option<PathBuf>,
    /// Where phone numbers without a country code belong, ISO alpha-2.
    pub region: Option<String>,
    /// Pages of the deep scan in one run, for vendors without a change cursor; none reads everything.
    pub deep_pages: Option<u64>,
    /// Whether records are read once more before they are written to.
    pub write_check: WriteCheck,
    /// Whether the vendor's modification times may decide who was later.
    pub trust_clock: bool,
    /// Whether nothing is ever written there.
    pub read_only: bool,
    /// How long a message may take to show up there.
    pub settle_ms: i64,
    /// Whether `serve` keeps the webhooks there as they are needed.
    pub keep_hooks: bool,
}

/// One set of connections kept in agreement.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Its name.
    pub name: String,
    /// The kind of record: `contact`.
    pub kind: String,
    /// The connections.
    pub between: Vec<String>,
    /// Where people who are missing are created; everywhere without it.
    pub create: Option<Vec<String>>,
    /// Who wins.
    pub conflict: Policies,
    /// What makes a plan wait for a person.
    pub guard: Guards,
    /// Which keys tell who is who.
    pub identity: IdentityRules,
    /// When it runs, as a cron expression.
    pub schedule: Option<String>,
    /// The zone of the schedule.
    pub timezone: Option<String>,
}

/// How a ticket leads to its conversation, where something is closed or opened there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// The ticket names it.
    #[default]
    Explicit,
    /// A ticket that names none leads to its requester's open conversation, else their newest.
    Person,
}

/// Another way for a message that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Write to the customer, or a note for agents.
    pub act: ActKind,
    /// In which chat connection.
    pub to: String,
    /// In which conversation; the customer's own without it.
    pub conversation: Option<String>,
    /// How long there may be no way first.
    pub after_ms: i64,
}

/// What a flow does.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowConfig {
    /// Its name, part of every intent it leads to.
    pub name: String,
    /// The event it waits for.
    pub on: EventKind,
    /// The connection in which that happens.
    pub from: String,
    /// What it does there.
    pub act: ActKind,
    /// The chat or desk connection in which it does it.
    pub to: String,
    /// The fields of a ticket that it sets, and their values.
    pub fields: BTreeMap<String, String>,
    /// The template of what it writes.
    pub template: Option<String>,
    /// How a ticket leads to the conversation that is resolved or opened again.
    pub link: Link,
    /// What is done instead of a `send` without a way.
    pub fallback: Option<Fallback>,
    /// A condition on the event.
    pub when: Option<Condition>,
    /// When a message may reach the customer.
    pub gate: counterpart_core::gate::Policy,
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the state is kept.
    pub store: StoreConfig,
    /// Whose data this is.
    pub tenant: String,
    /// How `serve` works.
    pub serve: ServeConfig,
    /// Where traces go, if anywhere.
    pub telemetry: Option<TelemetryConfig>,
    /// The accounts, by the name the operator chose.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// The syncs, in order.
    pub syncs: Vec<SyncConfig>,
    /// The flows, in order.
    pub flows: Vec<FlowConfig>,
    /// Folder with connectors of the operator's own, one subfolder each.
    pub connectors_dir: Option<PathBuf>,
    /// Folder with the operator's own mapping data; message texts are in its subfolder `messages`.
    pub mappings_dir: Option<PathBuf>,
}

impl Config {
    /// Loads and checks a file and its environment. All mistakes come at once.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        load::load(path)
    }

    /// The flow of a name.
    pub fn flow(&self, name: &str) -> Option<&FlowConfig> {
        self.flows.iter().find(|flow| flow.name == name)
    }

    /// Line and column of a key path in the file, or of the part of it that is there.
    pub fn place(path: &Path, keys: &[&str]) -> (usize, usize) {
        load::place(path, keys)
    }

    /// Mistakes in the file at `path` that were found after it was loaded.
    pub fn mistaken(path: &Path, problems: Vec<Diagnostic>) -> ConfigError {
        load::mistaken(path, problems)
    }

    /// What the store needs to know.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions { url: self.store.url.clone(), tenant: self.tenant.clone() }
    }
}

/// The message templates: the shipped ones under those in `mappings_dir`. All mistakes come at once.
pub fn load_templates(config: &Config) -> Result<Templates, Vec<Diagnostic>> {
    templates_in(config.mappings_dir.as_deref())
}

fn templates_in(mappings_dir: Option<&Path>) -> Result<Templates, Vec<Diagnostic>> {
    Templates::load(mappings_dir.map(|folder| folder.join("messages")).as_deref())
}

/// Whether the environment asks for no colours (no-color.org).
pub fn is_color_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Where systemd waits to be told that the program is ready, if it does.
pub fn notify_socket() -> Option<std::ffi::OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// The mapping of a connection: its own file, else the shipped one, else the one beside the operator's connector; a blank
/// one where the connector knows no people.
pub fn load_mapping(config: &Config, connection: &ConnectionConfig) -> Result<Mapping, Vec<Diagnostic>> {
    let facts = load::facts_of(&connection.connector, config.connectors_dir.as_deref());
    if facts.is_some_and(|facts| facts.stream("contact").is_none()) {
        return Ok(Mapping::blank(&connection.connector));
    }
    let (source, file) = mapping_source(config, connection)?;
    Mapping::parse(&source, &file)
}

/// How a connection's business records are read; none where nothing says so.
pub fn load_document(
    config: &Config,
    connection: &ConnectionConfig,
    kind: &str,
) -> Result<Option<Document>, Vec<Diagnostic>> {
    document(config.connectors_dir.as_deref(), &connection.connector, kind)
}

fn document(connectors_dir: Option<&Path>, connector: &str, kind: &str) -> Result<Option<Document>, Vec<Diagnostic>> {
    let beside = connectors_dir.map(|dir| dir.join(connector).join(format!("{kind}.toml")));
    if let Some(path) = beside.filter(|path| path.exists()) {
        let source = std::fs::read_to_string(&path).unwrap_or_default();
        return Document::parse(&source, &path.display().to_string()).map(Some);
    }
    let shipped = DOCUMENTS.iter().find(|(of, name, _)| (*of, *name) == (kind, connector));
    let parsed =
        shipped.map(|(kind, connector, source)| Document::parse(source, &format!("mappings/{kind}/{connector}.toml")));
    parsed.transpose()
}

/// The stream in which a connection tells of a topic: parcels are parts of their orders, unless they are a stream there.
pub fn stream_of(config: &Config, connection: &ConnectionConfig, topic: Topic) -> &'static str {
    if topic == Topic::Shipment {
        let facts = load::facts_of(&connection.connector, config.connectors_dir.as_deref());
        if facts.is_none_or(|facts| facts.stream(topic.as_str()).is_none()) {
            return Topic::Order.as_str();
        }
    }
    topic.as_str()
}

/// The shipped reading files: kind, connector, text.
const DOCUMENTS: &[(&str, &str, &str)] = &[
    ("order", "medusa", include_str!("../../mappings/order/medusa.toml")),
    ("order", "shopify", include_str!("../../mappings/order/shopify.toml")),
    ("order", "woocommerce", include_str!("../../mappings/order/woocommerce.toml")),
    ("conversation", "chatway", include_str!("../../mappings/conversation/chatway.toml")),
    ("conversation", "chatwoot", include_str!("../../mappings/conversation/chatwoot.toml")),
    ("message", "chatway", include_str!("../../mappings/message/chatway.toml")),
    ("message", "chatwoot", include_str!("../../mappings/message/chatwoot.toml")),
    ("ticket", "rt", include_str!("../../mappings/ticket/rt.toml")),
    ("ticket", "zendesk", include_str!("../../mappings/ticket/zendesk.toml")),
];

fn mapping_source(config: &Config, connection: &ConnectionConfig) -> Result<(String, String), Vec<Diagnostic>> {
    let beside = config.connectors_dir.as_ref().map(|dir| dir.join(&connection.connector).join("contact.toml"));
    if let Some(path) = connection.mapping.clone().or(beside.filter(|path| path.exists())) {
        let file = path.display().to_string();
        return match std::fs::read_to_string(&path) {
            Ok(source) => Ok((source, file)),
            Err(error) => {
                let message = format!("the mapping file cannot be read: {error}");
                let help = "correct `mapping` in the connection, or leave it out to use the shipped file";
                Err(vec![Diagnostic { file, line: 1, column: 1, message, help: help.to_owned() }])
            }
        };
    }
    let shipped = match connection.connector.as_str() {
        "chatway" => include_str!("../../mappings/contact/chatway.toml"),
        "chatwoot" => include_str!("../../mappings/contact/chatwoot.toml"),
        "crm" => include_str!("../../mappings/contact/crm.toml"),
        "hubspot" => include_str!("../../mappings/contact/hubspot.toml"),
        "medusa" => include_str!("../../mappings/contact/medusa.toml"),
        "shopify" => include_str!("../../mappings/contact/shopify.toml"),
        "woocommerce" => include_str!("../../mappings/contact/woocommerce.toml"),
        other => {
            let message = format!("connector `{other}` has no mapping");
            let help = "write one (docs/rest-connector.md) and name it with `mapping = \"FILE\"` in the connection";
            return Err(vec![Diagnostic {
                file: "configuration".to_owned(),
                line: 1,
                column: 1,
                message,
                help: help.to_owned(),
            }]);
        }
    };
    Ok((shipped.to_owned(), format!("mappings/contact/{}.toml", connection.connector)))
}
