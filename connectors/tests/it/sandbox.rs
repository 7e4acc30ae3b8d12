//! Every shipped connector against its fake, which was written from the vendor's documentation alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::conformance::{Laboratory, Target, Waiver, run};
use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::{Clock, Transport, TransportError};
use counterpart_sandbox::{InstanceSpec, Options, Reply, Sandbox, TOKEN, Vendor};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{START, spec_with};

/// The sandbox without a socket in between.
struct InProcess {
    sandbox: Sandbox,
    clock: Arc<JumpClock>,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        match self.sandbox.handle(self.clock.now(), request.map(Vec::from)) {
            Reply::Answer { response, delay_ms } => {
                self.clock.sleep_until(self.clock.now() + delay_ms as i64).await;
                Ok(response.map(Bytes::from))
            }
            Reply::Cut { .. } => Err(TransportError::NoAnswer { reason: "cut".to_owned() }),
        }
    }
}

#[async_trait]
impl Laboratory for InProcess {
    async fn populate(&self, records: usize) {
        self.sandbox.seed_people(self.clock.now(), "it", records, 0);
        self.clock.sleep_until(self.clock.now() + 60_000).await;
    }

    async fn ids(&self) -> Option<Vec<String>> {
        Some(self.sandbox.people("it").into_iter().map(|person| person.id).collect())
    }
}

async fn hold(connector: &str, vendor: Vendor, settings: Value, waivers: &[(&str, &str)]) {
    let instances = vec![InstanceSpec { name: "it".to_owned(), vendor, settings: BTreeMap::new() }];
    let clock = Arc::new(JumpClock::at(START));
    let sandbox = Sandbox::new(Options { seed: 7, instances, ..Options::default() });
    let world = Arc::new(InProcess { sandbox, clock: clock.clone() });
    let mut spec = spec_with(connector, settings);
    for secret in spec.secrets.values_mut() {
        *secret = SecretString::from(TOKEN);
    }
    let waiver = |(test, reason): &(&str, &str)| Waiver { test: (*test).to_owned(), reason: (*reason).to_owned() };
    let target = Target {
        laboratory: world.clone(),
        waivers: waivers.iter().map(waiver).collect(),
        ..Target::new(spec, world, clock)
    };
    let report = run(target).await;
    assert!(report.passed(), "{connector}\n{report}");
}

#[tokio::test]
async fn chatway_holds() {
    hold("chatway", Vendor::Chatway, json!({ "base_url": "http://localhost/it/api/v1" }), &[]).await;
}

#[tokio::test]
async fn chatwoot_holds() {
    hold("chatwoot", Vendor::Chatwoot, json!({ "base_url": "http://localhost/it", "account_id": 1 }), &[]).await;
}

#[tokio::test]
async fn hubspot_holds() {
    hold("hubspot", Vendor::Hubspot, json!({ "base_url": "http://localhost/it" }), &[]).await;
}

#[tokio::test]
async fn woocommerce_holds() {
    hold("woocommerce", Vendor::Woocommerce, json!({ "base_url": "http://localhost/it" }), &[]).await;
}

#[tokio::test]
async fn the_example_crm_holds() {
    hold("crm", Vendor::Crm, json!({ "base_url": "http://localhost/it" }), &[]).await;
}
