//! Connectors: the kit and one folder per vendor.
//!
//! A [`Connection`] is one configured account of a connector. It is opened from a [`ConnectionSpec`], a
//! [`Transport`], a [`Gate`] (the rate budget) and a [`Clock`], so that the network, the limit and the time all come
//! from outside.

mod chatwoot;
mod hubspot;
pub mod kit;
mod rt;
mod shopify;
mod zendesk;

use std::sync::{Arc, OnceLock};

use chatwoot::Chatwoot;
use hubspot::Hubspot;
pub use kit::act::{Act, ActFacts, ActKind, Acted, FieldFacts, NewTicket};
pub use kit::clock::{Clock, Millis, SystemClock};
pub use kit::conformance;
pub use kit::connection::{Connection, ConnectionSpec, OpenError};
pub use kit::connector::{
    CheckReport, Connector, Cx, MatchKey, Page, PullMode, PullRequest, Push, RemoteRecord, Written,
};
pub use kit::error::{ConnectorError, ErrorKind};
pub use kit::gate::{Call, Gate, GateError, Lane, OpenGate, Purpose, RateSignal};
pub use kit::hook::facts::Per;
pub use kit::hook::subscription::Subscription;
pub use kit::hook::{Delivery, Hint, HookRefusal, Intake, RefusalKind};
pub use kit::live::{LiveOptions, LiveTransport};
pub use kit::manifest::{BudgetFacts, Capabilities, Manifest, ManifestProblem, StreamFacts};
pub use kit::rest::Rest;
pub use kit::transport::{Transport, TransportError};
use rt::Rt;
use shopify::Shopify;
use zendesk::Zendesk;

/// A shipped connector: its name, its facts, and the behaviour that facts cannot say, if any.
struct Shipped {
    name: &'static str,
    source: &'static str,
    behaviour: fn(Arc<Manifest>) -> Arc<dyn Connector>,
}

/// Every shipped connector, sorted by name; a vendor is one line here.
const SHIPPED: [Shipped; 9] = [
    Shipped { name: "chatway", source: include_str!("chatway/connector.toml"), behaviour: facts_only },
    Shipped {
        name: "chatwoot",
        source: include_str!("chatwoot/connector.toml"),
        behaviour: |m| Arc::new(Chatwoot::new(m)),
    },
    Shipped { name: "crm", source: include_str!("crm/connector.toml"), behaviour: facts_only },
    Shipped {
        name: "hubspot",
        source: include_str!("hubspot/connector.toml"),
        behaviour: |m| Arc::new(Hubspot::new(m)),
    },
    Shipped { name: "medusa", source: include_str!("medusa/connector.toml"), behaviour: facts_only },
    Shipped { name: "rt", source: include_str!("rt/connector.toml"), behaviour: |m| Arc::new(Rt::new(m)) },
    Shipped {
        name: "shopify",
        source: include_str!("shopify/connector.toml"),
        behaviour: |m| Arc::new(Shopify::new(m)),
    },
    Shipped { name: "woocommerce", source: include_str!("woocommerce/connector.toml"), behaviour: facts_only },
    Shipped {
        name: "zendesk",
        source: include_str!("zendesk/connector.toml"),
        behaviour: |m| Arc::new(Zendesk::new(m)),
    },
];

/// Names of the shipped connectors, sorted.
pub fn registry() -> &'static [&'static str] {
    const NAMES: [&str; SHIPPED.len()] = {
        let mut names = [""; SHIPPED.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = SHIPPED[at].name;
            at += 1;
        }
        names
    };
    &NAMES
}

/// The `connector.toml` of a shipped connector.
pub fn manifest_source(name: &str) -> Option<&'static str> {
    shipped(name).map(|shipped| shipped.source)
}

/// The facts of a shipped connector; they are read once.
pub fn shipped_manifest(name: &str) -> Option<Result<Arc<Manifest>, Vec<ManifestProblem>>> {
    static READ: [OnceLock<Arc<Manifest>>; SHIPPED.len()] = [const { OnceLock::new() }; SHIPPED.len()];
    let at = SHIPPED.iter().position(|shipped| shipped.name == name)?;
    if let Some(manifest) = READ[at].get() {
        return Some(Ok(manifest.clone()));
    }
    let parsed = Manifest::parse(SHIPPED[at].source, &format!("connectors/{name}/connector.toml"));
    Some(parsed.map(|manifest| READ[at].get_or_init(|| Arc::new(manifest)).clone()))
}

/// The connector that runs on `manifest`: the vendor's own code where there is some, else the built-in `rest`.
pub(crate) fn connector(manifest: Arc<Manifest>) -> Arc<dyn Connector> {
    let behaviour = shipped(&manifest.name).map_or(facts_only as fn(_) -> _, |shipped| shipped.behaviour);
    behaviour(manifest)
}

fn shipped(name: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| shipped.name == name)
}

fn facts_only(manifest: Arc<Manifest>) -> Arc<dyn Connector> {
    Arc::new(Rest::new(manifest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_shipped_manifest_is_sound_and_carries_its_own_name() {
        for name in registry() {
            let source = manifest_source(name).unwrap();
            let manifest = Manifest::parse(source, name).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
            assert_eq!(manifest.name, *name);
            assert!(!manifest.budgets_with(&kit::settings::Settings::defaults(&manifest)).is_empty(), "{name}");
        }
        assert!(manifest_source("nothing").is_none());
    }

    #[test]
    fn no_folder_is_forgotten() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = BTreeSet::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            if path.join("connector.toml").is_file() {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(path.join("BEHAVIOR.md").is_file(), "{name} has no BEHAVIOR.md");
                folders.insert(name);
            }
        }
        assert_eq!(folders, registry().iter().map(|name| (*name).to_owned()).collect());
    }

    /// The vocabulary stays small: a new key needs an old one to go, or a vendor gets code.
    #[test]
    fn the_vocabulary_stays_closed() {
        let schema = serde_json::to_value(schemars::schema_for!(Manifest)).unwrap();
        let keys = |definition: &serde_json::Value| definition["properties"].as_object().map_or(0, |keys| keys.len());
        let (mut calls, mut hooks, mut subscriptions, mut tickets) = (keys(&schema), 0, 0, 0);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            match name.as_str() {
                "HookFacts" | "VerifyFacts" | "TopicFacts" => hooks += keys(definition),
                "SubscriptionFacts" | "SubscribeFacts" => subscriptions += keys(definition),
                "FieldFacts" => tickets += keys(definition),
                _ => calls += keys(definition),
            }
        }
        // `hooks` and `fields` are of the first; what stands below them is a vocabulary of its own.
        assert!(tickets <= 2, "{tickets} keys for fields of tickets");
        assert!(calls <= 69, "{calls} keys for calls, acts among them");
        assert!(hooks <= 25, "{hooks} keys for webhooks");
        assert!(subscriptions <= 13, "{subscriptions} keys for subscribing to them");
        for (file, text) in
            [("manifest", include_str!("kit/manifest.rs")), ("hook/facts", include_str!("kit/hook/facts.rs"))]
        {
            let lines = text.lines().count();
            assert!(lines < 400, "{lines} lines of types in {file}.rs");
        }
    }

    /// `UPDATE=1 cargo test` writes the schema anew.
    #[test]
    fn the_published_schema_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/connector.schema.json");
        let schema = schemars::schema_for!(Manifest);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(published, text, "docs/connector.schema.json is not current: run with UPDATE=1");
    }
}
