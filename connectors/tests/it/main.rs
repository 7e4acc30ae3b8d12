//! The kit and the vendors' connectors, from outside.

mod captured;
mod desks;
mod fake_crm;
mod fixtures;
mod hooks;
mod leaks;
mod live;
mod manifests;
mod paging;
mod sandbox;
mod sending;
mod subscriptions;
mod suite;

use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::{Clock, Connection, ConnectionSpec, OpenGate, Transport};
use secrecy::SecretString;
use serde_json::{Value, json};

/// Some instant, whole minute.
const START: i64 = 1_772_615_700_000;

/// A connection's settings that are enough to open it.
fn spec(connector: &str) -> ConnectionSpec {
    let (settings, secrets): (Value, &[&str]) = match connector {
        "chatway" => (json!({}), &["api_key"]),
        "chatwoot" => (json!({ "account_id": 1, "base_url": "https://desk.example" }), &["api_access_token"]),
        "hubspot" => (json!({}), &["access_token"]),
        "medusa" => (json!({ "base_url": "https://shop.example" }), &["api_key"]),
        "shopify" => (json!({ "base_url": "https://shop.example" }), &["access_token"]),
        "woocommerce" => (json!({ "base_url": "https://shop.example" }), &["consumer_key", "consumer_secret"]),
        "rt" => (json!({ "base_url": "https://rt.example/REST/2.0" }), &["token"]),
        "zendesk" => {
            (json!({ "base_url": "https://desk.example/api/v2", "email": "ann@desk.example" }), &["api_token"])
        }
        _ => (json!({ "base_url": "https://crm.example/api" }), &["token"]),
    };
    ConnectionSpec {
        name: "test".to_owned(),
        connector: connector.to_owned(),
        settings: settings.as_object().cloned().unwrap_or_default(),
        secrets: secrets
            .iter()
            .map(|name| ((*name).to_owned(), SecretString::from("s3cret")))
            .collect::<BTreeMap<_, _>>(),
        manifest_dirs: Vec::new(),
    }
}

/// The spec with some settings over it.
fn spec_with(connector: &str, settings: Value) -> ConnectionSpec {
    let mut spec = spec(connector);
    spec.settings.extend(settings.as_object().cloned().unwrap_or_default());
    spec
}

fn open_at(spec: ConnectionSpec, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Connection {
    Connection::open(spec, transport, Arc::new(OpenGate), clock).expect("the spec is complete")
}

fn open(spec: ConnectionSpec, transport: Arc<dyn Transport>) -> Connection {
    open_at(spec, transport, Arc::new(JumpClock::at(START)))
}
