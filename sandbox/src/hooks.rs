//! Webhooks: who asked to be told what, and what is still to be told.
//!
//! Bodies are built when a delivery is taken, not when the event happened: vendors do so too, and a receiver then sees a
//! later state than the event was about.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Millis;

/// One delivery that a vendor would make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookDelivery {
    /// The instance that sends it.
    pub instance: String,
    /// The address that it is sent to, as it was registered.
    pub url: String,
    /// Its headers, in the letter case the vendor uses.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte as signed.
    pub body: Vec<u8>,
    /// When it is sent.
    pub at: Millis,
    /// Secret at the end of the address it is sent to, from systems that cannot sign.
    pub path_secret: Option<String>,
}

impl HookDelivery {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A webhook as it is registered at a vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its number.
    pub id: u64,
    /// The address it calls.
    pub url: String,
    /// Its topics.
    pub topics: Vec<String>,
    /// `active`, or the vendor's word for why not.
    pub status: String,
    /// The secret that it is signed with.
    pub secret: String,
}

/// A registered webhook.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub id: u64,
    pub name: String,
    pub url: String,
    pub topics: Vec<String>,
    pub secret: String,
    pub status: String,
    pub failures: u64,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// Something that a webhook is going to tell.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub hook: u64,
    pub topic: String,
    pub resource: u64,
    /// What only the moment of the event knows.
    pub detail: Value,
}

/// Topic of the greeting that a new webhook gets.
pub(crate) const PING: &str = "ping";

#[derive(Clone, Debug, Default)]
pub(crate) struct Hooks {
    pub registered: BTreeMap<u64, Hook>,
    pub pending: Vec<Pending>,
    last: u64,
    taken: u64,
}

impl Hooks {
    pub fn register(&mut self, now: Millis, name: &str, url: &str, topics: Vec<String>, secret: &str) -> u64 {
        self.last += 1;
        let hook = Hook {
            id: self.last,
            name: name.to_owned(),
            url: url.to_owned(),
            topics,
            secret: secret.to_owned(),
            status: "active".to_owned(),
            failures: 0,
            created_at: now,
            updated_at: now,
        };
        self.registered.insert(self.last, hook);
        self.last
    }

    /// Notes an event for everybody who asked for it. With `absorb`, a delivery that still waits stands for this one too.
    pub fn happened(&mut self, topic: &str, resource: u64, detail: &Value, absorb: bool) {
        for hook in self.registered.values() {
            if hook.status != "active" || !hook.topics.iter().any(|wanted| wanted == topic) {
                continue;
            }
            let waits = |other: &Pending| other.hook == hook.id && other.topic == topic && other.resource == resource;
            if absorb && self.pending.iter().any(waits) {
                continue;
            }
            let (topic, detail) = (topic.to_owned(), detail.clone());
            self.pending.push(Pending { hook: hook.id, topic, resource, detail });
        }
    }

    /// All of them, by number.
    pub fn list(&self) -> Vec<Webhook> {
        let shown = |hook: &Hook| Webhook {
            id: hook.id,
            url: hook.url.clone(),
            topics: hook.topics.clone(),
            status: hook.status.clone(),
            secret: hook.secret.clone(),
        };
        self.registered.values().map(shown).collect()
    }

    /// A number that no other delivery has had.
    pub fn serial(&mut self) -> u64 {
        self.taken += 1;
        self.taken
    }
}

/// HMAC-SHA256.
pub(crate) fn sign(secret: &str, text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// The first 16 bytes of a digest, as vendors make ids.
pub(crate) fn digest(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes())[..16].to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest that looks like a random UUID.
pub(crate) fn uuid(text: &str) -> String {
    let mut bytes = digest(text);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
