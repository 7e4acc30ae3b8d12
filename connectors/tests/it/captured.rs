//! Deliveries of real servers, as they were captured.
//!
//! The data is read from `COUNTERPART_TEST_DATA` (default `../shared/data`, from the repository's root) and is not part
//! of the project. Absent data is said loudly; with `COUNTERPART_REQUIRE_DATA=1` it is a failure.

#![expect(clippy::print_stderr, reason = "what was not tested is said")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use counterpart_connectors::{Connection, Delivery, Intake, RefusalKind};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::START;
use crate::hooks::{headers, own, post, shipped};

const SIGNATURE: &str = "X-WC-Webhook-Signature";

struct Captured {
    headers: HeaderMap,
    body: String,
}

fn captured(file: &str) -> Option<Vec<Captured>> {
    let root = std::env::var_os("COUNTERPART_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = root.join("captured").join(file);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("*** NOT TESTED: {} is not there ({error}); set COUNTERPART_TEST_DATA ***", path.display());
            assert!(std::env::var_os("COUNTERPART_REQUIRE_DATA").is_none(), "the test data is required and absent");
            return None;
        }
    };
    let delivery = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let pairs = line["headers"].as_object().unwrap().iter();
        let headers = headers(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        Captured { headers, body: line["body"].as_str().unwrap().to_owned() }
    };
    Some(text.lines().map(delivery).collect())
}

/// WooCommerce with the secret the deliveries were signed with (`captured/SOURCE.md`).
fn shop() -> Connection {
    shipped("woocommerce", &[("webhook_secret", "s3cr3t")])
}

#[test]
fn every_woocommerce_delivery_verifies_and_every_ping_is_nothing() {
    let Some(deliveries) = captured("woocommerce_11.0.1.jsonl") else { return };
    let shop = shop();
    let (mut pings, mut topics, mut ids) = (0, BTreeMap::new(), BTreeSet::new());
    for delivery in &deliveries {
        let intake = shop.hook(&post(&delivery.headers, delivery.body.as_bytes()), START).unwrap();
        if !delivery.headers.contains_key(SIGNATURE) {
            assert_eq!(intake, Intake::default());
            pings += 1;
            continue;
        }
        let hint = &intake.hints[0];
        let body: Value = serde_json::from_str(&delivery.body).unwrap();
        assert_eq!((intake.hints.len(), intake.skipped.len()), (1, 0));
        assert_eq!(hint.external_id, body["id"].to_string());
        assert_eq!(hint.stream, if hint.topic.starts_with("order.") { "order" } else { "contact" });
        assert_eq!(hint.deleted, hint.topic == "order.deleted");
        assert_eq!(hint.occurred_at.is_some(), !hint.deleted, "a deletion carries the id only");
        ids.extend(hint.delivery_id.clone());
        *topics.entry(hint.topic.clone()).or_insert(0) += 1;
    }
    let expected = [
        ("customer.created", 1),
        ("customer.updated", 2),
        ("order.created", 12),
        ("order.deleted", 1),
        ("order.updated", 21),
    ];
    assert_eq!(topics, expected.map(|(topic, count)| (topic.to_owned(), count)).into());
    assert_eq!((deliveries.len(), pings), (42, 5));
    assert_eq!(ids.len(), 18, "37 deliveries share 18 delivery ids: never drop one by its id");
}

#[test]
fn a_flipped_byte_is_refused() {
    let Some(deliveries) = captured("woocommerce_11.0.1.jsonl") else { return };
    let shop = shop();
    let refused = |headers: &HeaderMap, body: &[u8]| {
        let kind = shop.hook(&post(headers, body), START).map_err(|refusal| refusal.kind);
        assert_eq!(kind, Err(RefusalKind::WrongSignature));
    };
    let mut flips = 0;
    for (at, delivery) in deliveries.iter().filter(|delivery| delivery.headers.contains_key(SIGNATURE)).enumerate() {
        let body = delivery.body.as_bytes();
        // Every 13th byte, beginning elsewhere in every delivery, and the last.
        for place in (at % 13..body.len()).step_by(13).chain([body.len() - 1]) {
            let mut other = body.to_vec();
            other[place] ^= 1 << (place % 8);
            refused(&delivery.headers, &other);
            flips += 1;
        }
        refused(&delivery.headers, &body[..body.len() - 1]);
        refused(&delivery.headers, &[body, b" "].concat());
        let signature = delivery.headers[SIGNATURE].as_bytes();
        for place in 0..signature.len() {
            for bit in [1, 2, 4, 8, 16] {
                let mut other = signature.to_vec();
                other[place] ^= bit;
                let Ok(value) = HeaderValue::from_bytes(&other) else { continue };
                let mut headers = delivery.headers.clone();
                headers.insert(SIGNATURE, value);
                refused(&headers, body);
                flips += 1;
            }
        }
    }
    assert!(flips > 10_000, "{flips}");
}

#[test]
fn equal_json_with_other_bytes_is_refused() {
    let Some(deliveries) = captured("woocommerce_11.0.1.jsonl") else { return };
    let (shop, mut checked) = (shop(), 0);
    for delivery in deliveries.iter().filter(|delivery| delivery.headers.contains_key(SIGNATURE)) {
        let body: Value = serde_json::from_str(&delivery.body).unwrap();
        for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
            // `{"id":12}` is written the same by everybody.
            if text == delivery.body {
                continue;
            }
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), body);
            let refusal = shop.hook(&post(&delivery.headers, text.as_bytes()), START).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::WrongSignature);
            checked += 1;
        }
    }
    assert_eq!(checked, 73);
}

#[test]
fn another_secret_or_no_signature_is_refused() {
    let Some(deliveries) = captured("woocommerce_11.0.1.jsonl") else { return };
    let other = shipped("woocommerce", &[("webhook_secret", "s3cr3T")]);
    for delivery in deliveries.iter().filter(|delivery| delivery.headers.contains_key(SIGNATURE)) {
        let refusal = other.hook(&post(&delivery.headers, delivery.body.as_bytes()), START).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::WrongSignature);
        let mut headers = delivery.headers.clone();
        headers.remove(SIGNATURE);
        let refusal = shop().hook(&post(&headers, delivery.body.as_bytes()), START).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::MissingSignature);
    }
}

const PRETIX: &str = r#"
[hooks]
topic = "/action"
event_id = "/notification_id"
id = "/code"
[[hooks.verify]]
kind = "secret_in_path"
secrets = ["hook_secret"]
[hooks.topics]
"pretix.event.order.placed" = { stream = "order" }
"pretix.event.order.contact.changed" = { stream = "order" }
"pretix.event.order.paid" = { stream = "order" }
"#;
const HELPDESK: &str = r#"
[hooks]
id = "/ticket/id"
[[hooks.verify]]
kind = "secret_in_path"
secrets = ["hook_secret"]
[hooks.topics]
ticket = { stream = "ticket" }
"#;
/// Systems that cannot sign are refused as unsigned, and taken with a secret in the address.
#[test]
fn unsigned_systems_need_a_secret_in_the_path() {
    let own = |hooks| own(hooks, &[("hook_secret", "in-the-path")]).unwrap();
    let medusa = shipped("medusa", &[("webhook_secret", "in-the-path")]);
    for (file, system, first) in [
        ("pretix_2026.8.0.jsonl", own(PRETIX), ("order", "AADRK")),
        ("django-helpdesk_2.6.1.jsonl", own(HELPDESK), ("ticket", "2")),
        ("medusa_2.21.2_eventbus.jsonl", medusa, ("contact", "cus_01M7X73VP5H1PA42GHEN4QDHV6")),
    ] {
        let Some(deliveries) = captured(file) else { return };
        let mut hints = Vec::new();
        for delivery in &deliveries {
            let bare = post(&delivery.headers, delivery.body.as_bytes());
            for connection in [&system, &shop()] {
                let refusal = connection.hook(&bare, START).unwrap_err();
                assert_eq!(refusal.kind, RefusalKind::MissingSignature, "{file}");
            }
            let wrong = Delivery { path_secret: Some("in-the-pat"), ..bare };
            assert_eq!(system.hook(&wrong, START).unwrap_err().kind, RefusalKind::WrongSignature);
            let right = Delivery { path_secret: Some("in-the-path"), ..bare };
            hints.extend(system.hook(&right, START).unwrap().hints);
        }
        assert_eq!(hints.len(), deliveries.len(), "{file}");
        assert_eq!((hints[0].stream.as_str(), hints[0].external_id.as_str()), first);
    }
}
