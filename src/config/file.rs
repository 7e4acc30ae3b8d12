//! The file as it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use counterpart_core::guard::Limit;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `counterpart.toml`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where the state is kept.
    #[serde(default)]
    pub store: StoreFile,
    /// Whose data this is; one installation can serve several.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Folder with connectors of your own, one subfolder with a connector.toml each.
    pub connectors_dir: Option<PathBuf>,
    /// Folder with mapping data of your own; its subfolder `messages` holds texts NAME.LANGUAGE.txt.
    pub mappings_dir: Option<PathBuf>,
    /// How `counterpart serve` works.
    #[serde(default)]
    pub serve: ServeFile,
    /// Where traces go; nowhere without it.
    pub telemetry: Option<TelemetryFile>,
    /// The accounts, by the name you choose.
    #[serde(default)]
    pub connections: BTreeMap<String, ConnectionFile>,
    /// The syncs.
    #[serde(default)]
    pub syncs: Vec<SyncFile>,
    /// What is done in chats when something happens in a business system.
    #[serde(default)]
    pub flows: Vec<FlowFile>,
}

fn default_tenant() -> String {
    "default".to_owned()
}

/// `[store]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreFile {
    /// `sqlite://FILE`, beside this file unless its path is whole, or `postgres://…` when several machines share the work.
    #[serde(default = "default_url")]
    pub url: String,
    /// How long readings, runs that wrote nothing and settled conflicts are remembered after they ended: `180d`, `forever`.
    #[serde(default = "default_keep")]
    pub keep: String,
}

fn default_keep() -> String {
    "180d".to_owned()
}

fn default_url() -> String {
    "sqlite://counterpart.db".to_owned()
}

impl Default for StoreFile {
    fn default() -> StoreFile {
        StoreFile { url: default_url(), keep: default_keep() }
    }
}

/// `[serve]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeFile {
    /// Address and port for webhooks, health and metrics. A proxy with TLS stands before it.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// How often the streams are read that the flows live on, whatever webhooks say: `30s`, `1m`, `1h`.
    #[serde(default = "default_poll")]
    pub poll: String,
    /// How vendors reach it: `https://hooks.example.com`. Some sign the address that they call.
    pub public_url: Option<String>,
    /// How often the webhooks of connections with `hooks = "keep"` are looked after: `30m`, `1h`, `1d`.
    #[serde(default = "default_check_hooks")]
    pub check_hooks: String,
}

fn default_listen() -> String {
    "127.0.0.1:8787".to_owned()
}

fn default_poll() -> String {
    "1m".to_owned()
}

fn default_check_hooks() -> String {
    "1h".to_owned()
}

impl Default for ServeFile {
    fn default() -> ServeFile {
        ServeFile {
            listen: default_listen(),
            poll: default_poll(),
            public_url: None,
            check_hooks: default_check_hooks(),
        }
    }
}

/// `[telemetry]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryFile {
    /// An OpenTelemetry collector that takes traces over HTTP: `http://localhost:4318`. Needs a build with `--features otlp`.
    pub otlp: String,
    /// How the collector's users know this installation.
    #[serde(default = "default_service_name")]
    pub service_name: String,
    /// Headers that the collector asks for, each `{ env = "NAME" }` or `{ file = "PATH" }`.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
}

fn default_service_name() -> String {
    "counterpart".to_owned()
}

/// `[connections.NAME]`: these keys, and the settings of the connector.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct ConnectionFile {
    /// Name of the connector; `counterpart connectors` lists them.
    pub connector: String,
    /// A mapping file instead of the shipped one.
    pub mapping: Option<PathBuf>,
    /// Where phone numbers without a country code belong, ISO alpha-2.
    pub region: Option<String>,
    /// Pages of the deep scan in one run, for vendors without a change cursor; without it everything is read.
    pub deep_pages: Option<u64>,
    /// `read` (the default) reads a record once more before it is written to, `trust` does not.
    #[serde(default)]
    pub write_check: WriteCheckFile,
    /// Whether the vendor's modification times may decide who was later.
    #[serde(default = "default_true")]
    pub trust_clock: bool,
    /// Never write there.
    #[serde(default)]
    pub read_only: bool,
    /// How long a message may take to show up there: one that nobody knows of is looked for after that, and sent again
    /// when it is not there.
    #[serde(default = "default_settle")]
    pub settle: String,
    /// `leave` (the default) leaves the webhooks at the vendor alone; `keep` lets `serve` subscribe to what is needed and
    /// restore what the vendor dropped.
    #[serde(default)]
    pub hooks: HooksFile,
    /// The connector's own settings.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

fn default_true() -> bool {
    true
}

fn default_settle() -> String {
    "2m".to_owned()
}

/// What `serve` does about the webhooks at a vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HooksFile {
    /// Nothing.
    #[default]
    Leave,
    /// It keeps them as they are needed.
    Keep,
}

/// See [`super::WriteCheck`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteCheckFile {
    /// Read before writing.
    #[default]
    Read,
    /// Write.
    Trust,
}

/// `[[syncs]]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncFile {
    /// Its name.
    pub name: String,
    /// The kind of record: `contact`.
    pub kind: String,
    /// Two or more connections.
    pub between: Vec<String>,
    /// Where people who are missing are created; everywhere without it.
    pub create: Option<Vec<String>>,
    /// Who wins, by field; `default` for the rest.
    #[serde(default)]
    pub conflict: BTreeMap<String, PolicyFile>,
    /// What makes a plan wait for a person.
    #[serde(default)]
    pub guard: GuardFile,
    /// Which keys tell who is who.
    #[serde(default)]
    pub identity: IdentityFile,
    /// Five cron fields: when `serve` runs it.
    pub schedule: Option<String>,
    /// The zone of the schedule; UTC without it.
    pub timezone: Option<String>,
}

/// `"latest"`, `"review"`, or a list of connections, the first wins.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PolicyFile {
    /// One of the words.
    Word(String),
    /// An order of connections.
    Order(Vec<String>),
}

/// `guard = { … }`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardFile {
    /// A number or a share, `500` or `"5%"`.
    #[serde(default)]
    #[schemars(schema_with = "number_or_share")]
    pub max_creates: Option<Limit>,
    /// A number or a share.
    #[serde(default)]
    #[schemars(schema_with = "number_or_share")]
    pub max_updates: Option<Limit>,
    /// A number or a share; `"1%"` without it.
    #[serde(default = "default_max_deletes")]
    #[schemars(schema_with = "number_or_share")]
    pub max_deletes: Option<Limit>,
    /// Stop when a side that had records shows none.
    #[serde(default = "default_true")]
    pub emptied: bool,
}

fn number_or_share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "string", "null"], "minimum": 0 })
}

fn default_max_deletes() -> Option<Limit> {
    Some(Limit::Percent(1.0))
}

impl Default for GuardFile {
    fn default() -> GuardFile {
        GuardFile { max_creates: None, max_updates: None, max_deletes: default_max_deletes(), emptied: true }
    }
}

/// `identity = { … }`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// Use `external.*` fields.
    #[serde(default = "default_true")]
    pub external: bool,
    /// Use e-mail addresses.
    #[serde(default = "default_true")]
    pub email: bool,
    /// Use phone numbers, where names do not contradict.
    #[serde(default = "default_true")]
    pub phone: bool,
    /// Ask a person where only name and birthday or postcode agree.
    #[serde(default = "default_true")]
    pub weak: bool,
}

impl Default for IdentityFile {
    fn default() -> IdentityFile {
        IdentityFile { external: true, email: true, phone: true, weak: true }
    }
}

/// See [`super::Link`].
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkFile {
    /// By what the ticket names.
    Explicit,
    /// By its requester.
    Person,
}

/// `fallback = { … }`: exactly one of `to` and `note`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FallbackFile {
    /// Another chat connection in which the customer is written to.
    pub to: Option<String>,
    /// The chat connection in which agents get it as a note.
    pub note: Option<String>,
    /// The conversation of that note; the customer's own without it.
    pub conversation: Option<String>,
    /// How long there may be no way before this one is taken: `1h`.
    #[serde(default = "default_after")]
    pub after: String,
}

fn default_after() -> String {
    "1h".to_owned()
}

/// `[[flows]]`: exactly one of `send`, `note`, `resolve`, `reopen`, `open_ticket` and `set_ticket`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowFile {
    /// Its name; made from the rest without it. It is part of what makes a message the same one: a flow that gets
    /// another name may send again what the old one has sent.
    pub name: Option<String>,
    /// The event: `order.created`, `order.paid`, `shipment.created`, `ticket.closed`, …
    pub on: String,
    /// The connection in which it happens.
    pub from: String,
    /// The template of a message to the customer; `to` says where.
    pub send: Option<String>,
    /// The template of a note for agents; `to` says where.
    pub note: Option<String>,
    /// The connection whose conversation is closed.
    pub resolve: Option<String>,
    /// The connection whose conversation is opened again.
    pub reopen: Option<String>,
    /// The desk connection in which a ticket is opened; `text` says what it says.
    pub open_ticket: Option<String>,
    /// The template of that ticket: its first line is the subject.
    pub text: Option<String>,
    /// The desk connection in which `fields` of a ticket are set: of the one that the event is about, or of those that name
    /// its conversation.
    pub set_ticket: Option<String>,
    /// The fields, such as `{ status = "solved" }`.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The chat connection that a message or note goes to.
    pub to: Option<String>,
    /// With `send`: what is done instead when there is no way to the customer.
    pub fallback: Option<FallbackFile>,
    /// With a ticket's event and `resolve` or `reopen`: `explicit` (without it) takes the conversation that the ticket names,
    /// `person` goes by the requester's e-mail address where the ticket names none.
    pub link: Option<LinkFile>,
    /// A condition on the event: `order.total|float > 50`; docs/flows.md says what it can ask.
    pub when: Option<String>,
    /// Accept what else the vendor does, such as a survey when a conversation is resolved.
    #[serde(default)]
    pub accept_effects: bool,
    /// When a message may reach the customer: `max_age`, `consent_required`, `quiet`, `cap`.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    pub gate: counterpart_core::gate::Policy,
}
