//! `[hooks]` of a `connector.toml`: how the vendor's webhooks are verified and read.
//!
//! A *place* is a header name, or a pointer into the event when it starts with `/`. Where deliveries come in several forms,
//! a list of places says where each has it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::kit::manifest::ListFacts;

/// How webhooks are verified, and where a delivery says what changed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookFacts {
    /// Ways to verify a delivery. A way counts when its secrets are set; one that holds is enough.
    pub verify: Vec<VerifyFacts>,
    /// Place of the topic. When not given, every event is of the one topic listed.
    pub topic: Option<Places>,
    /// Place of the vendor's id of this delivery; a pointer goes into the whole body.
    pub delivery_id: Option<String>,
    /// Place of the vendor's id of the event, which several deliveries may share.
    pub event_id: Option<String>,
    /// Place of the record's id.
    pub id: Places,
    /// Place of the time of the change (ISO 8601, seconds or milliseconds since 1970).
    pub occurred_at: Option<Places>,
    /// Pointer to the list of events in a body; the whole body is one event when not given.
    pub events: Option<String>,
    /// The vendor announces itself with an unsigned form whose only field has this name and holds a number.
    pub ping: Option<String>,
    /// What each topic is about.
    pub topics: BTreeMap<String, TopicFacts>,
    /// How webhooks are subscribed to by the vendor's API.
    pub subscriptions: Option<SubscriptionFacts>,
    /// What the operator does instead where that cannot be done: a sentence.
    pub by_hand: Option<String>,
}

/// A place, or several of which the first counts that holds something.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a place, or a list of places")]
pub enum Places {
    /// The only one.
    One(String),
    /// In this order.
    Several(Vec<String>),
}

/// One way to tell that a delivery comes from the vendor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyFacts {
    /// The scheme.
    pub kind: VerifyKind,
    /// The secret settings: one or more of which any may hold, or user and password (`basic`).
    pub secrets: Vec<String>,
    /// The header with the signature.
    pub header: Option<String>,
    /// How the signature is written.
    pub encoding: Option<SignatureEncoding>,
    /// What stands before the signature: `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// What is signed, in this order.
    #[serde(default = "body_only")]
    pub signed: Vec<SignedPart>,
    /// The header with the time of signing.
    pub timestamp: Option<String>,
    /// How that is written.
    #[serde(default)]
    pub timestamp_is: TimestampForm,
    /// How far that time may be from now, to either side: a whole number and `s`, `m`, `h` or `d`.
    #[serde(default = "five_minutes")]
    pub tolerance: String,
}

/// The schemes of verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyKind {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-1.
    HmacSha1,
    /// The vendor cannot sign: the address it calls ends in the secret.
    SecretInPath,
    /// The vendor cannot sign: it sends `Authorization: Basic`.
    Basic,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureEncoding {
    /// Base64 with padding.
    Base64,
    /// Hexadecimal digits.
    Hex,
}

/// Part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignedPart {
    /// The time of signing, as its header has it.
    Timestamp,
    /// The body, byte by byte.
    Body,
    /// The method in capital letters.
    Method,
    /// The whole address the vendor called.
    Url,
    /// This text.
    Text(String),
}

/// How the time of signing is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampForm {
    /// Seconds since 1970.
    #[default]
    Epoch,
    /// Milliseconds since 1970.
    EpochMs,
    /// ISO 8601.
    Iso,
}

/// What a topic is about.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicFacts {
    /// The stream of the record.
    pub stream: String,
    /// Place of the record's id, when this topic has it elsewhere.
    pub id: Option<String>,
    /// Place of the id of the record it belongs to: the conversation of a message.
    pub parent: Option<String>,
    /// Pointer to what changed: a name, a list of names, or an object (or a list of objects) whose keys are names.
    pub changed: Option<String>,
    /// The record is gone, as the vendor says.
    #[serde(default)]
    pub deleted: bool,
}

/// Subscribing by the vendor's API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionFacts {
    /// How many topics one subscription has.
    pub per: Per,
    /// The subscriptions there are, whoever made them.
    pub list: ListFacts,
    /// The id inside a subscription as it is listed.
    pub id: String,
    /// Pointer to the address it calls.
    pub address: String,
    /// Pointer to its topic, or to the list of its topics.
    pub topics: String,
    /// Pointer to its state, where it can be switched off.
    pub state: Option<String>,
    /// The state in which it delivers.
    pub active: Option<String>,
    /// Pointer to the secret that the vendor made for it, in the list or where code asks for it; without it the secret is
    /// chosen here, or belongs to the account.
    pub secret: Option<String>,
    /// Making one.
    pub create: SubscribeFacts,
    /// Switching it on again and setting its topics; without it, it is deleted and made anew.
    pub update: Option<SubscribeFacts>,
    /// Deleting one: `DELETE /webhooks/{id}`.
    pub delete: String,
}

/// How many topics one subscription has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One: there is a subscription for each topic.
    Topic,
    /// All that are wanted.
    All,
}

/// A call that makes or changes a subscription.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeFacts {
    /// `POST /webhooks`; for a change with `{id}`.
    pub call: String,
    /// The body; its texts know `{url}`, `{topic}` (the only one), `{topics}` (as a text of its own: the list) and
    /// `{secret}`.
    #[serde(default)]
    pub body: serde_json::Map<String, serde_json::Value>,
}

fn body_only() -> Vec<SignedPart> {
    vec![SignedPart::Body]
}

fn five_minutes() -> String {
    "5m".to_owned()
}

impl Places {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Places::One(place) => std::slice::from_ref(place).iter(),
            Places::Several(places) => places.iter(),
        }
    }
}

impl VerifyKind {
    /// The word the manifest uses.
    pub fn word(self) -> &'static str {
        match self {
            VerifyKind::HmacSha256 => "hmac_sha256",
            VerifyKind::HmacSha1 => "hmac_sha1",
            VerifyKind::SecretInPath => "secret_in_path",
            VerifyKind::Basic => "basic",
        }
    }

    /// Whether deliveries are signed.
    pub fn signs(self) -> bool {
        matches!(self, VerifyKind::HmacSha256 | VerifyKind::HmacSha1)
    }
}
