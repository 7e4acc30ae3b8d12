//! `connector.toml`: the facts of a connector, a closed vocabulary.
//!
//! No expressions, no conditions, no inheritance. A placeholder in braces names a setting (`{page_size}`); paths also
//! know `{id}`, look-ups `{value}`, and lists with a change filter `{since}`, `{since_seconds}` and `{since_ms}`.
//! A query parameter whose name or value comes out empty is not sent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::act::{ActFacts, ActKind};
pub use super::capabilities::{BudgetFacts, Capabilities};
pub use super::hook::facts::HookFacts;
use super::problems;
pub use super::problems::ManifestProblem;

/// The facts of one connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this vocabulary; 1.
    pub format: u32,
    /// Name of the connector, as connections refer to it.
    pub name: String,
    /// Ways to authenticate; the first is the default, the setting `auth` chooses another by its kind.
    pub auth: Vec<AuthFacts>,
    /// Every setting a connection may carry. `base_url` and `page_size` must be among them.
    pub settings: BTreeMap<String, SettingFacts>,
    /// The vendor's limits. Class `all` counts every call; a call of another class counts in both.
    #[serde(default)]
    pub budgets: Vec<BudgetLine>,
    /// Headers in which the vendor tells where its limit stands.
    #[serde(default)]
    pub rate_headers: RateHeaders,
    /// How this vendor's error answers differ from what their status says; the first that matches decides.
    #[serde(default)]
    pub errors: Vec<ErrorFacts>,
    /// The streams, `contact` for example.
    pub streams: BTreeMap<String, StreamFacts>,
    /// What can be done in a conversation.
    #[serde(default)]
    pub actions: BTreeMap<ActKind, ActFacts>,
    /// The vendor's webhooks, when it has any that are of use.
    pub hooks: Option<HookFacts>,
}

/// One way to authenticate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthFacts {
    /// Where the credentials go.
    pub kind: AuthKind,
    /// Header or query parameter names (kinds `header` and `query`); another word than `Bearer` (`bearer`); the user, in
    /// whom a placeholder names a setting, when only the password is a secret (`basic`).
    #[serde(default)]
    pub names: Vec<String>,
    /// The secret settings: one, or user and password (`basic`), or one per name (`query`).
    pub secrets: Vec<String>,
}

/// Where credentials go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// The secret in every header named.
    Header,
    /// `Authorization: Bearer`, or the word in `names`.
    Bearer,
    /// `Authorization: Basic`, user and password.
    Basic,
    /// Query parameters.
    Query,
}

/// One setting of a connection.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingFacts {
    /// What it holds.
    pub r#type: SettingType,
    /// The documented value; a setting without a default must be given.
    pub default: Option<serde_json::Value>,
    /// One sentence for the operator.
    pub help: String,
    /// Must come from a secret reference and is never printed.
    #[serde(default)]
    pub secret: bool,
    /// The allowed values (type `choice`).
    #[serde(default)]
    pub choices: Vec<String>,
    /// The vendor's documented maximum; settings may only go below it.
    pub max: Option<u64>,
}

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingType {
    /// Any text.
    Text,
    /// An `http` or `https` address.
    Url,
    /// A whole number, zero or more.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// One of `choices`.
    Choice,
    /// A list of texts; a placeholder joins them with commas.
    List,
}

/// A whole number, or the placeholder of the setting that holds it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Number {
    /// The number itself.
    Fixed(u64),
    /// `"{setting}"`.
    Setting(String),
}

/// One window of the vendor's limit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetLine {
    /// Class of endpoint; `all` counts every call.
    pub class: String,
    /// Calls per window.
    pub requests: Number,
    /// Length of the window: a whole number and `s`, `m`, `h` or `d`.
    pub per: String,
}

/// Names of rate headers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateHeaders {
    /// Calls per window.
    pub limit: Option<String>,
    /// Calls left.
    pub remaining: Option<String>,
    /// When the window starts anew.
    pub reset: Option<String>,
    /// How that is written.
    #[serde(default)]
    pub reset_is: ResetForm,
}

/// How a reset header is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetForm {
    /// Seconds from now.
    #[default]
    Seconds,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMs,
    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    HttpDate,
}

/// One error answer that means something else, or more, than its status.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorFacts {
    /// The status it applies to.
    pub status: Number,
    /// The value in the body that must be there.
    pub pointer: Option<String>,
    /// A text that value (or the whole body) must contain, in any letter case.
    pub text: Option<String>,
    /// What it means.
    pub kind: ErrorWord,
    /// Where the body names the record that holds the value.
    pub holder: Option<String>,
    /// Remote names of the fields concerned; an entry that starts with `/` is a pointer to names in the body.
    #[serde(default)]
    pub fields: Vec<String>,
    /// What the operator should do.
    pub help: Option<String>,
}

/// What an error answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorWord {
    /// Wrong credentials.
    Unauthorized,
    /// Right credentials that may not do this.
    Forbidden,
    /// No such record.
    NotFound,
    /// Refused content.
    Invalid,
    /// Another record holds a unique value.
    Conflict,
    /// Too many calls.
    RateLimited,
    /// Try later.
    Unavailable,
    /// The vendor cannot do this.
    Unsupported,
}

/// One kind of record.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamFacts {
    /// The id inside a record as it is listed.
    pub id: String,
    /// The part of a record that holds its fields; the whole record when not given.
    #[serde(default)]
    pub body: String,
    /// Where a single record stands in the answer of `get`, `create` and `update`; the first that is there counts.
    #[serde(default)]
    pub record: Vec<String>,
    /// When the record changed last (ISO 8601, seconds or milliseconds since 1970).
    pub updated_at: Option<String>,
    /// The stream whose records this one hangs on: `conversation` for messages. Its calls know `{parent}`.
    pub parent: Option<String>,
    /// The list.
    pub list: ListFacts,
    /// One record: `GET /contacts/{id}`.
    pub get: Option<String>,
    /// Exact look-ups by key kind: `email`, `phone`, `external`.
    #[serde(default)]
    pub find: BTreeMap<String, FindFacts>,
    /// Creating.
    pub create: Option<ActionFacts>,
    /// Changing.
    pub update: Option<ActionFacts>,
    /// Deleting.
    pub delete: Option<ActionFacts>,
    /// Canonical names of fields whose value no two records may share.
    #[serde(default)]
    pub unique: Vec<String>,
    /// Records can be merged at the vendor.
    #[serde(default)]
    pub merges: bool,
}

/// How a stream is listed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFacts {
    /// `GET /contacts`.
    pub call: String,
    /// Query parameters of every page.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// The list inside the answer; the whole answer when not given.
    #[serde(default)]
    pub records: String,
    /// The announced number of records: a pointer (`/meta/total`) or a header name.
    pub total: Option<String>,
    /// How one gets from page to page.
    pub page: PageFacts,
    /// The order of the list, or the setting that says it.
    #[serde(default = "unknown_order")]
    pub order: String,
    /// Query parameters (over `params`) that list the newest records first.
    #[serde(default)]
    pub head: BTreeMap<String, String>,
    /// Query parameters (over `params`) that list what changed since a time, oldest change first.
    #[serde(default)]
    pub since: BTreeMap<String, String>,
}

/// How one gets from page to page.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageFacts {
    /// The scheme.
    pub kind: PageKind,
    /// The query parameter that asks for a page.
    pub send: Option<String>,
    /// Where the answer says how it goes on: the number of pages (`page`, pointer or header), the cursor, the next
    /// address, or for `keyset` the value inside the last record.
    pub read: Option<String>,
}

/// The schemes of paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// Page numbers from 1.
    Page,
    /// Number of records to skip.
    Offset,
    /// An opaque text in the body.
    Cursor,
    /// A whole address in the body.
    NextUrl,
    /// A `Link` header with `rel="next"`.
    Link,
    /// After the last record's key.
    Keyset,
}

/// An exact look-up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindFacts {
    /// Query parameters of the list that narrow it down; `{value}` is the value looked for.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Where the value stands in a record's body; only records that hold exactly it are handed on.
    pub pointer: String,
    /// How late it shows what was written at the latest: a whole number and `s`, `m`, `h` or `d`. What it does not show is taken
    /// for missing only after that.
    #[serde(default)]
    pub lag: Option<String>,
}

/// A write.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionFacts {
    /// `POST /contacts`, `PATCH /contacts/{id}`.
    pub call: String,
    /// Pointer under which the fields are put in the request; at the top when empty.
    #[serde(default)]
    pub wrap: String,
    /// Canonical names of fields that must be set.
    #[serde(default)]
    pub required: Vec<String>,
    /// What else happens at the vendor, a sentence each.
    #[serde(default)]
    pub effects: Vec<String>,
}

fn unknown_order() -> String {
    "unknown".to_owned()
}

impl Manifest {
    /// Reads and checks a manifest; all problems at once, each with its place.
    pub fn parse(source: &str, file: &str) -> Result<Manifest, Vec<ManifestProblem>> {
        problems::parse(source, file)
    }

    /// Whether a connection must carry this setting: it has no default, and if it is a secret, the first way to
    /// authenticate needs it.
    pub fn requires(&self, setting: &str) -> bool {
        self.settings.get(setting).is_some_and(|facts| match facts.secret {
            true => self.auth.first().is_some_and(|auth| auth.secrets.iter().any(|name| name == setting)),
            false => facts.default.is_none(),
        })
    }

    /// The facts of a stream.
    pub fn stream(&self, name: &str) -> Option<&StreamFacts> {
        self.streams.get(name)
    }
}

impl AuthKind {
    /// The word the manifest and the setting `auth` use.
    pub fn word(self) -> &'static str {
        match self {
            AuthKind::Header => "header",
            AuthKind::Bearer => "bearer",
            AuthKind::Basic => "basic",
            AuthKind::Query => "query",
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Number;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a whole number or \"{setting}\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Number, E> {
                u64::try_from(number).map(Number::Fixed).map_err(|_| E::custom("must not be negative"))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number::Fixed(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number::Setting(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
