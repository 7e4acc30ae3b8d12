//! Webhooks: what is taken, what is refused, and that nothing of it panics.
//!
//! The signatures written out here were made with another implementation (Python's `hmac`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{
    Connection, ConnectionSpec, Delivery, Hint, HookRefusal, Intake, Manifest, OpenError, OpenGate, RefusalKind,
    manifest_source,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{START, spec};

pub(crate) const URL: &str = "https://sync.example/hooks/test";

/// A connection that sends nothing.
pub(crate) fn quiet(spec: ConnectionSpec) -> Result<Connection, OpenError> {
    let script = Arc::new(Script::always(200, &[], "{}"));
    Connection::open(spec, script, Arc::new(OpenGate), Arc::new(JumpClock::at(START)))
}

/// A shipped connector with webhook secrets.
pub(crate) fn shipped(connector: &str, secrets: &[(&str, &str)]) -> Connection {
    let mut spec = spec(connector);
    spec.secrets.extend(secrets.iter().map(|(name, secret)| ((*name).to_owned(), SecretString::from(*secret))));
    quiet(spec).expect("the spec is complete")
}

/// The example CRM with `[hooks]` of its own and the secrets `hook_secret` and `hook_user`.
fn manifest_with(hooks: &str) -> String {
    let settings = ["hook_secret", "hook_user"]
        .map(|name| format!("[settings.{name}]\ntype = \"text\"\nsecret = true\nhelp = \"of the webhook\"\n"));
    format!("{}\n{}\n{hooks}", manifest_source("crm").unwrap(), settings.concat())
}

/// A system described in a file of the operator's own.
pub(crate) fn own(hooks: &str, secrets: &[(&str, &str)]) -> Result<Connection, OpenError> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let at = COUNT.fetch_add(1, Ordering::SeqCst);
    let folder = std::env::temp_dir().join(format!("counterpart-hooks-{}-{at}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("crm.toml"), manifest_with(hooks)).unwrap();
    let mut spec = ConnectionSpec { manifest_dirs: vec![folder.clone()], ..spec("crm") };
    spec.secrets.extend(secrets.iter().map(|(name, secret)| ((*name).to_owned(), SecretString::from(*secret))));
    let connection = quiet(spec);
    std::fs::remove_dir_all(folder).unwrap();
    connection
}

pub(crate) fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let pair = |(name, value): (&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    pairs.into_iter().map(pair).collect()
}

pub(crate) fn post<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> Delivery<'a> {
    Delivery { method: "POST", url: URL, headers, path_secret: None, body }
}

fn kind(result: Result<Intake, HookRefusal>) -> RefusalKind {
    result.expect_err("it is refused").kind
}

fn mac(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Headers as Chatwoot sends them, signed at `seconds`.
fn chatwoot_headers(body: &[u8], seconds: i64) -> HeaderMap {
    let stamp = seconds.to_string();
    let signature = format!("sha256={}", hex(&mac("s3cret", &[stamp.as_bytes(), b".", body])));
    headers([
        ("X-Chatwoot-Delivery", "5a8c8b1e"),
        ("X-Chatwoot-Timestamp", &stamp),
        ("X-Chatwoot-Signature", &signature),
    ])
}

fn chatwoot() -> Connection {
    shipped("chatwoot", &[("webhook_secret", "s3cret")])
}

fn from_chatwoot(connection: &Connection, body: &Value) -> Result<Intake, HookRefusal> {
    let body = body.to_string();
    connection.hook(&post(&chatwoot_headers(body.as_bytes(), START / 1_000), body.as_bytes()), START)
}

const CONTACT_UPDATED: &str = r#"{"event":"contact_updated","id":71,"name":"Ana","account":{"id":1},"changed_attributes":[{"name":{"previous_value":"A","current_value":"Ana"}},{"updated_at":{"previous_value":1,"current_value":2}}]}"#;

#[test]
fn chatwoot_signs_timestamp_and_body() {
    let signature = "sha256=a77c797b8fd8c66aa96de6d67b311f7aaa1c0b4cbe6aaa52cb0f2f93ef0c5291";
    let headers = headers([("x-chatwoot-timestamp", "1772615700"), ("x-chatwoot-signature", signature)]);
    let chat = chatwoot();
    let delivery = post(&headers, CONTACT_UPDATED.as_bytes());
    let intake = chat.hook(&delivery, START).unwrap();
    let hint = Hint {
        stream: "contact".into(),
        external_id: "71".into(),
        parent: None,
        topic: "contact_updated".into(),
        delivery_id: None,
        event_id: None,
        deleted: false,
        changed: Some(vec!["name".into(), "updated_at".into()]),
        occurred_at: None,
    };
    assert_eq!(intake, Intake { hints: vec![hint], skipped: Vec::new() });
    assert_eq!(chat.hook(&delivery, START).unwrap(), intake, "reading remembers nothing");
}

#[test]
fn chatwoot_topics() {
    let chat = chatwoot();
    let conversation = json!({ "event": "conversation_updated", "id": 12, "updated_at": 1_772_615_699.25,
        "changed_attributes": [{ "status": { "previous_value": "open", "current_value": "resolved" } }] });
    let hint = from_chatwoot(&chat, &conversation).unwrap().hints.remove(0);
    assert_eq!((hint.stream.as_str(), hint.external_id.as_str()), ("conversation", "12"));
    assert_eq!((hint.occurred_at, hint.changed), (Some(1_772_615_699_250), Some(vec!["status".to_owned()])));
    assert_eq!(hint.delivery_id.as_deref(), Some("5a8c8b1e"));

    let message = json!({ "event": "message_created", "id": 9001, "content": "hello", "conversation": { "id": 12 } });
    let hint = from_chatwoot(&chat, &message).unwrap().hints.remove(0);
    assert_eq!(
        (hint.stream.as_str(), hint.external_id.as_str(), hint.parent.as_deref()),
        ("message", "9001", Some("12"))
    );
    let kept = serde_json::to_string(&hint).unwrap();
    assert!(!kept.contains("hello"), "a hint holds no business data: {kept}");

    // Null and shapes not known here mean that everything may have changed.
    for changed in [json!(null), json!([]), json!([1]), json!([{}]), json!(true)] {
        let body = json!({ "event": "conversation_status_changed", "id": 12, "changed_attributes": changed });
        assert_eq!(from_chatwoot(&chat, &body).unwrap().hints[0].changed, None, "{changed}");
    }
    let typing = json!({ "event": "conversation_typing_on", "user": {} });
    let refusal = from_chatwoot(&chat, &typing).unwrap_err();
    assert_eq!((refusal.kind, refusal.kind.status()), (RefusalKind::UnknownTopic, 200));
    assert!(refusal.message.contains("conversation_typing_on"), "{refusal}");
}

#[test]
fn old_and_future_signatures_are_refused() {
    let chat = chatwoot();
    let body = CONTACT_UPDATED.as_bytes();
    let signed_at = |away: i64| chatwoot_headers(body, START / 1_000 + away);
    for away in [-300, -1, 0, 1, 300] {
        assert!(chat.hook(&post(&signed_at(away), body), START).is_ok(), "{away} s");
    }
    for away in [-301, 301, -86_400, 86_400, -START / 1_000] {
        let refusal = chat.hook(&post(&signed_at(away), body), START).unwrap_err();
        assert_eq!((refusal.kind, refusal.kind.status()), (RefusalKind::Stale, 401), "{away} s");
        assert!(
            refusal.message.contains(&format!("{} s", away.abs())) && refusal.message.contains("clock"),
            "{refusal}"
        );
    }
    // A time that was renewed on the way no longer fits the signature.
    let mut renewed = signed_at(-3_600);
    renewed.insert("X-Chatwoot-Timestamp", HeaderValue::from(START / 1_000));
    assert_eq!(kind(chat.hook(&post(&renewed, body), START)), RefusalKind::WrongSignature);
    renewed.remove("X-Chatwoot-Timestamp");
    assert_eq!(kind(chat.hook(&post(&renewed, body), START)), RefusalKind::MissingSignature);
    // Signed nonsense is no time, however large.
    for stamp in ["soon", "", "9223372036854775807", "-9223372036854775808", "1e9"] {
        let signature = format!("sha256={}", hex(&mac("s3cret", &[stamp.as_bytes(), b".", body])));
        let headers = headers([("X-Chatwoot-Timestamp", stamp), ("X-Chatwoot-Signature", &signature)]);
        assert_eq!(kind(chat.hook(&post(&headers, body), START)), RefusalKind::Unreadable, "{stamp}");
    }
}

#[test]
fn only_the_whole_signature_over_the_raw_bytes_passes() {
    let chat = chatwoot();
    let good = chatwoot_headers(CONTACT_UPDATED.as_bytes(), START / 1_000);
    let spaced = CONTACT_UPDATED.replace(",\"id\"", ", \"id\"");
    assert_eq!(
        serde_json::from_str::<Value>(&spaced).unwrap(),
        serde_json::from_str::<Value>(CONTACT_UPDATED).unwrap()
    );
    assert_eq!(kind(chat.hook(&post(&good, spaced.as_bytes()), START)), RefusalKind::WrongSignature);
    let text = good["X-Chatwoot-Signature"].to_str().unwrap().to_owned();
    let bare = text.strip_prefix("sha256=").unwrap();
    for bad in
        ["", "sha256=", bare, &text[..text.len() - 1], &text[..text.len() - 32], &format!("{text}00"), "sha256=zz"]
    {
        let mut headers = good.clone();
        headers.insert("X-Chatwoot-Signature", HeaderValue::from_str(bad).unwrap());
        let refusal = chat.hook(&post(&headers, CONTACT_UPDATED.as_bytes()), START).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::WrongSignature, "{bad}");
        assert!(refusal.message.contains("`webhook_secret`") && !refusal.message.contains("s3cret"), "{refusal}");
    }
}

#[test]
fn chatwoot_without_signatures_takes_a_secret_in_the_path() {
    let chat = shipped("chatwoot", &[("webhook_path_secret", "long-random-text")]);
    let none = HeaderMap::new();
    let with = |secret| Delivery { path_secret: secret, ..post(&none, CONTACT_UPDATED.as_bytes()) };
    assert_eq!(chat.hook(&with(Some("long-random-text")), START).unwrap().hints[0].external_id, "71");
    for (secret, why) in [
        (None, RefusalKind::MissingSignature),
        (Some(""), RefusalKind::MissingSignature),
        (Some("long-random-tex"), RefusalKind::WrongSignature),
        (Some("long-random-text2"), RefusalKind::WrongSignature),
    ] {
        assert_eq!(kind(chat.hook(&with(secret), START)), why, "{secret:?}");
    }
    // With both set, one that holds is enough, and the one that was tried is the one told about.
    let both = shipped("chatwoot", &[("webhook_secret", "s3cret"), ("webhook_path_secret", "long-random-text")]);
    assert!(both.hook(&with(Some("long-random-text")), START).is_ok());
    let signed = chatwoot_headers(CONTACT_UPDATED.as_bytes(), START / 1_000 - 900);
    assert_eq!(kind(both.hook(&post(&signed, CONTACT_UPDATED.as_bytes()), START)), RefusalKind::Stale);
    assert_eq!(kind(both.hook(&with(None), START)), RefusalKind::MissingSignature);
    // A secret in the path says nothing where only signatures count.
    assert_eq!(kind(chatwoot().hook(&with(Some("s3cret")), START)), RefusalKind::MissingSignature);
}

const HUBSPOT_BATCH: &str = r#"[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1772615699123,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":123,"propertyName":"email","propertyValue":"ana@shop.example","changeSource":"CRM_UI"},{"eventId":2,"occurredAt":1772615699500,"subscriptionType":"contact.deletion","objectId":124},{"eventId":3,"subscriptionType":"company.creation","objectId":9},{"eventId":4,"subscriptionType":"contact.merge","objectId":1,"primaryObjectId":5,"mergedObjectIds":[6],"newObjectId":7}]"#;

#[test]
fn hubspot_signs_method_address_body_and_timestamp() {
    let hub = shipped("hubspot", &[("webhook_secret", "s3cret")]);
    let headers = headers([
        ("X-HubSpot-Signature-v3", "/giEyEvcLxS3CnIH0fFC7O0zw0WZBIcGreburao6eBQ="),
        ("X-HubSpot-Request-Timestamp", "1772615700000"),
    ]);
    let url = "https://sync.example/hooks/crm";
    let delivery = Delivery { url, ..post(&headers, HUBSPOT_BATCH.as_bytes()) };
    let intake = hub.hook(&delivery, START + 299_000).unwrap();
    let told: Vec<(&str, &str, bool)> =
        intake.hints.iter().map(|hint| (hint.topic.as_str(), hint.external_id.as_str(), hint.deleted)).collect();
    assert_eq!(
        told,
        [("contact.propertyChange", "123", false), ("contact.deletion", "124", true), ("contact.merge", "7", false)]
    );
    assert_eq!(intake.hints[0].changed, Some(vec!["email".to_owned()]));
    assert_eq!(intake.hints[0].event_id.as_deref(), Some("1"));
    assert_eq!((intake.hints[0].occurred_at, intake.hints[2].occurred_at), (Some(1_772_615_699_123), None));
    assert_eq!(intake.skipped.len(), 1);
    assert!(intake.skipped[0].contains("company.creation"), "{:?}", intake.skipped);

    for (method, url) in
        [("PUT", url), ("POST", "https://sync.example/hooks/crm?x=1"), ("POST", "http://sync.example/hooks/crm")]
    {
        let refusal = hub.hook(&Delivery { method, url, ..delivery }, START).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::WrongSignature, "{method} {url}");
        assert!(refusal.message.contains("address"), "{refusal}");
    }
    assert_eq!(kind(hub.hook(&delivery, START + 300_001)), RefusalKind::Stale);
    assert_eq!(kind(hub.hook(&delivery, START - 300_001)), RefusalKind::Stale);
}

#[test]
fn a_batch_is_refused_only_when_nothing_of_it_is_of_use() {
    let hub = shipped("hubspot", &[("webhook_secret", "s3cret")]);
    let send = |body: &str| {
        let signature = base64(&mac("s3cret", &[b"POST", URL.as_bytes(), body.as_bytes(), b"1772615700000"]));
        let headers =
            headers([("X-HubSpot-Signature-v3", &*signature), ("X-HubSpot-Request-Timestamp", "1772615700000")]);
        hub.hook(&post(&headers, body.as_bytes()), START)
    };
    assert_eq!(send("[]"), Ok(Intake::default()));
    let mixed =
        send(r#"[{"subscriptionType":"contact.creation"},3,{"subscriptionType":"contact.creation","objectId":5}]"#);
    let mixed = mixed.unwrap();
    assert_eq!((mixed.hints.len(), mixed.skipped.len()), (1, 2), "{mixed:?}");
    for (body, why) in [
        (r#"[{"subscriptionType":"company.creation","objectId":5}]"#, RefusalKind::UnknownTopic),
        (r#"[{"subscriptionType":"contact.creation","objectId":null}]"#, RefusalKind::Unreadable),
        (r#"[{"subscriptionType":"contact.creation","objectId":1.5}]"#, RefusalKind::Unreadable),
        (r#"[{"subscriptionType":"contact.creation","objectId":""}]"#, RefusalKind::Unreadable),
        (r#"[{"objectId":5}]"#, RefusalKind::Unreadable),
        (r#"{"subscriptionType":"contact.creation","objectId":5}"#, RefusalKind::Unreadable),
        ("", RefusalKind::Unreadable),
        ("[", RefusalKind::Unreadable),
    ] {
        assert_eq!(kind(send(body)), why, "{body}");
    }
    // An id goes into an address: what is longer than any vendor's is none.
    let of_length = |n: usize| format!(r#"[{{"subscriptionType":"contact.creation","objectId":"{}"}}]"#, "7".repeat(n));
    assert_eq!(send(&of_length(500)).unwrap().hints.len(), 1);
    assert_eq!(kind(send(&of_length(501))), RefusalKind::Unreadable);
}

/// Events of a parcel hold the order's id under another name than events of the order itself.
#[test]
fn medusa_tells_of_an_order_under_several_names() {
    let shop = shipped("medusa", &[("webhook_secret", "s3cret")]);
    for body in [
        r#"{"name":"order.placed","data":{"id":"order_01"},"metadata":{"created_at":"2026-03-04T09:15:00.120Z"}}"#,
        r#"{"name":"order.fulfillment_created","data":{"order_id":"order_01","fulfillment_id":"ful_01"},"metadata":{}}"#,
        r#"{"name":"shipment.created","data":{"id":"ful_01","order_id":"order_01"},"metadata":{}}"#,
        r#"{"name":"payment.refunded","data":{"id":"pay_01","order_id":"order_01"},"metadata":{}}"#,
    ] {
        let none = HeaderMap::new();
        let delivery = Delivery { path_secret: Some("s3cret"), ..post(&none, body.as_bytes()) };
        let hint = shop.hook(&delivery, START).unwrap().hints.remove(0);
        assert_eq!((hint.stream.as_str(), hint.external_id.as_str()), ("order", "order_01"), "{body}");
    }
}

const ZENDESK: &str = r#"
[hooks]
topic = "/type"
delivery_id = "X-Zendesk-Webhook-Invocation-Id"
event_id = "/id"
id = "/detail/id"
occurred_at = "/time"
[[hooks.verify]]
kind = "hmac_sha256"
secrets = ["hook_secret"]
header = "X-Zendesk-Webhook-Signature"
encoding = "base64"
signed = ["timestamp", "body"]
timestamp = "X-Zendesk-Webhook-Signature-Timestamp"
timestamp_is = "iso"
[hooks.topics]
"zen:event-type:ticket.status_changed" = { stream = "ticket" }
"#;
const ZAMMAD: &str = r#"
[hooks]
delivery_id = "X-Zammad-Delivery"
id = "/ticket/id"
[[hooks.verify]]
kind = "hmac_sha1"
secrets = ["hook_secret"]
header = "X-Hub-Signature"
encoding = "hex"
prefix = "sha1="
[hooks.topics]
trigger = { stream = "ticket" }
"#;
const BASIC: &str = r#"
[hooks]
topic = "/meta/action"
id = "/data/id"
[[hooks.verify]]
kind = "basic"
secrets = ["hook_user", "hook_secret"]
[hooks.topics]
change = { stream = "contact", changed = "/previous" }
"#;

#[test]
fn other_vendors_need_no_code() {
    let desk = own(ZENDESK, &[("hook_secret", "s3cret")]).unwrap();
    let body = br#"{"type":"zen:event-type:ticket.status_changed","detail":{"id":"35436"},"id":"cbe4028c-7239-495d-b020-f22348516046","time":"2026-03-04T09:14:59Z"}"#;
    let signed = headers([
        ("X-Zendesk-Webhook-Signature", "hGqCLi57pvDCF3s8dY3Fa7Z/IsGBNxxE3ZtXcsiysdQ="),
        ("X-Zendesk-Webhook-Signature-Timestamp", "2026-03-04T09:15:00Z"),
        ("X-Zendesk-Webhook-Invocation-Id", "01GM"),
    ]);
    let hint = desk.hook(&post(&signed, body), START).unwrap().hints.remove(0);
    assert_eq!((hint.stream.as_str(), hint.external_id.as_str()), ("ticket", "35436"));
    assert_eq!((hint.delivery_id.as_deref(), hint.occurred_at), (Some("01GM"), Some(START - 1_000)));
    assert_eq!(kind(desk.hook(&post(&signed, body), START + 301_000)), RefusalKind::Stale);

    let zammad = own(ZAMMAD, &[("hook_secret", "s3cret")]).unwrap();
    let body = br#"{"ticket":{"id":81,"number":"61001"},"article":{"id":123}}"#;
    let signed =
        headers([("X-Hub-Signature", "sha1=18b4a097f606cb23bd7ca5cc5ac7131833b0152d"), ("X-Zammad-Delivery", "d-1")]);
    let hint = zammad.hook(&post(&signed, body), START).unwrap().hints.remove(0);
    assert_eq!((hint.topic.as_str(), hint.external_id.as_str()), ("trigger", "81"));
    assert_eq!(kind(zammad.hook(&post(&signed, b"{\"ticket\":{\"id\":82}}"), START)), RefusalKind::WrongSignature);

    let crm = own(BASIC, &[("hook_user", "sync"), ("hook_secret", "s3:cret")]).unwrap();
    let body = br#"{"meta":{"action":"change"},"data":{"id":3},"previous":{"name":"A","email":"a@shop.example"}}"#;
    let with = |text: &str| headers([("Authorization", text)]);
    let good = with(&format!("basic {}", base64(b"sync:s3:cret")));
    let hint = crm.hook(&post(&good, body), START).unwrap().hints.remove(0);
    assert_eq!((hint.external_id.as_str(), hint.changed), ("3", Some(vec!["email".to_owned(), "name".to_owned()])));
    for (text, why) in [
        (format!("Basic {}", base64(b"sync:s3:cre")), RefusalKind::WrongSignature),
        (format!("Basic {}", base64(b"sync")), RefusalKind::WrongSignature),
        ("Basic %%%".to_owned(), RefusalKind::WrongSignature),
        ("Bearer s3:cret".to_owned(), RefusalKind::MissingSignature),
        ("Basic".to_owned(), RefusalKind::MissingSignature),
    ] {
        assert_eq!(kind(crm.hook(&post(&with(&text), body), START)), why, "{text}");
    }
}

#[test]
fn a_secret_can_be_replaced_without_a_gap() {
    let hooks = ZAMMAD.replace("[\"hook_secret\"]", "[\"hook_secret\", \"hook_user\"]");
    let body = br#"{"ticket":{"id":81,"number":"61001"},"article":{"id":123}}"#;
    let signed = headers([("X-Hub-Signature", "sha1=18b4a097f606cb23bd7ca5cc5ac7131833b0152d")]);
    let rotating = own(&hooks, &[("hook_secret", "the new one"), ("hook_user", "s3cret")]).unwrap();
    assert!(rotating.hook(&post(&signed, body), START).is_ok());
    let done = own(&hooks, &[("hook_secret", "the new one")]).unwrap();
    assert_eq!(kind(done.hook(&post(&signed, body), START)), RefusalKind::WrongSignature);
}

#[test]
fn without_a_secret_nothing_is_taken() {
    let none = HeaderMap::new();
    for connector in ["woocommerce", "chatwoot", "hubspot", "medusa", "shopify", "zendesk"] {
        let connection = shipped(connector, &[]);
        assert!(!connection.takes_hooks());
        let refusal = connection.hook(&post(&none, b"{}"), START).unwrap_err();
        assert_eq!((refusal.kind, refusal.kind.status()), (RefusalKind::NotConfigured, 503));
        assert!(refusal.message.contains("`webhook_secret"), "{refusal}");
        assert!(shipped(connector, &[("webhook_secret", "x")]).takes_hooks());
    }
    let form = headers([("Content-Type", "application/x-www-form-urlencoded")]);
    assert_eq!(
        kind(shipped("woocommerce", &[]).hook(&post(&form, b"webhook_id=1"), START)),
        RefusalKind::NotConfigured
    );
    for connector in ["chatway", "crm"] {
        let connection = shipped(connector, &[]);
        assert!(!connection.takes_hooks());
        assert_eq!(kind(connection.hook(&post(&none, b"{}"), START)), RefusalKind::Unsupported);
    }
    // Everybody can sign with an empty key.
    for blank in ["", " \t"] {
        let mut spec = spec("chatwoot");
        spec.secrets.insert("webhook_secret".into(), SecretString::from(blank));
        let problems = quiet(spec).unwrap_err().problems;
        assert!(problems[0].contains("`webhook_secret` is empty"), "{problems:?}");
    }
    let half = own(BASIC, &[("hook_secret", "s3cret")]).unwrap_err().problems;
    assert!(half[0].contains("`hook_user` and `hook_secret`"), "{half:?}");
}

#[test]
fn only_a_bare_number_is_a_ping() {
    let shop = shipped("woocommerce", &[("webhook_secret", "s3cret")]);
    let form = headers([("Content-Type", "Application/X-WWW-Form-URLEncoded; charset=UTF-8")]);
    assert_eq!(shop.hook(&post(&form, b"webhook_id=15"), START), Ok(Intake::default()));
    for body in
        ["webhook_id=", "webhook_id=1&id=2", "webhook_id=1&webhook_id=2", "webhook_id=x", "id=1", "", "{\"id\":1}"]
    {
        assert_eq!(kind(shop.hook(&post(&form, body.as_bytes()), START)), RefusalKind::MissingSignature, "{body}");
    }
    let json = headers([("Content-Type", "application/json")]);
    assert_eq!(kind(shop.hook(&post(&json, b"webhook_id=15"), START)), RefusalKind::MissingSignature);
    // Where the manifest names no ping there is none.
    assert_eq!(kind(chatwoot().hook(&post(&form, b"webhook_id=15"), START)), RefusalKind::MissingSignature);
}

#[test]
fn refusals_name_nobody_and_no_secret() {
    let body = json!({ "event": "rosa@shop.example s3cret", "id": 1 });
    let refusal = from_chatwoot(&chatwoot(), &body).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::UnknownTopic);
    assert!(!refusal.message.contains("rosa") && !refusal.message.contains("s3cret"), "{refusal}");
    let none = headers([("Authorization", "Basic cm9zYQ==")]);
    let delivery = Delivery { path_secret: Some("guess"), ..post(&none, b"{\"email\":\"rosa@shop.example\"}") };
    let shown = format!("{delivery:?} {:?}", chatwoot().hook(&delivery, START));
    for hidden in ["rosa", "cm9zYQ", "guess", "s3cret"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

#[test]
fn hook_facts_are_checked() {
    assert!(Manifest::parse(&manifest_with(ZENDESK), "c.toml").is_ok());
    for (good, bad, says) in [
        ("kind = \"hmac_sha256\"", "kind = \"hmac_md5\"", "unknown variant `hmac_md5`"),
        ("event_id = \"/id\"", "evnt_id = \"/id\"", "unknown field `evnt_id`"),
        ("signed = [\"timestamp\", \"body\"]", "signed = [\"timestamp\", \"bdy\"]", "unknown variant `bdy`"),
        ("signed = [\"timestamp\", \"body\"]", "signed = [\"timestamp\"]", "the body is not signed"),
        (
            "signed = [\"timestamp\", \"body\"]",
            "signed = [\"body\"]",
            "the time of signing has a header, and is signed",
        ),
        (
            "timestamp = \"X-Zendesk-Webhook-Signature-Timestamp\"\n",
            "",
            "the time of signing has a header, and is signed",
        ),
        ("timestamp_is = \"iso\"", "timestamp_is = \"iso\"\ntolerance = \"5 minutes\"", "no length of time"),
        ("header = \"X-Zendesk-Webhook-Signature\"", "header = \"X Zendesk\"", "not a header name"),
        ("header = \"X-Zendesk-Webhook-Signature\"\n", "", "needs `header` and `encoding`"),
        ("encoding = \"base64\"\n", "", "needs `header` and `encoding`"),
        ("secrets = [\"hook_secret\"]", "secrets = [\"base_url\"]", "`base_url` is not a secret setting"),
        ("secrets = [\"hook_secret\"]", "secrets = []", "`secrets` is empty"),
        ("stream = \"ticket\"", "stream = \"tiket\"", "there is no stream `tiket`"),
        ("stream = \"ticket\"", "stream = \"ticket\", changed = \"x\"", "`x` is no pointer"),
        ("stream = \"ticket\"", "stream = \"ticket\", parent = \"x y\"", "not a header name"),
        ("topic = \"/type\"", "topic = \"a b\"", "not a header name"),
        ("topic = \"/type\"", "topic = [\"/type\", \"a b\"]", "not a header name"),
        ("topic = \"/type\"", "topic = []", "there is no place in the list"),
        ("topic = \"/type\"", "topic = 1", "a place, or a list of places"),
        ("id = \"/detail/id\"", "id = [\"detail id\"]", "not a header name"),
        ("occurred_at = \"/time\"", "occurred_at = []", "there is no place in the list"),
        ("topic = \"/type\"", "topic = \"/type\"\nevents = \"list\"", "`list` is no pointer"),
        ("topic = \"/type\"", "topic = \"/type\"\nping = \"\"", "a field with a name"),
        ("[hooks.topics]\n", "[hooks.topics]\nother = { stream = \"ticket\" }\n[hooks.none]\n", "unknown field `none`"),
    ] {
        assert!(ZENDESK.contains(good), "the example no longer has {good}");
        let text = manifest_with(&ZENDESK.replacen(good, bad, 1));
        let problems = Manifest::parse(&text, "c.toml").expect_err(says);
        assert!(problems.iter().any(|problem| problem.message.contains(says)), "{says}: {problems:#?}");
        let hooks = text.lines().position(|line| line == "[hooks]").unwrap();
        assert!(problems.iter().all(|problem| problem.line > hooks), "{says}: {problems:#?}");
    }
    for (hooks, says) in [
        (ZAMMAD.replace("[hooks.topics]", "[hooks.topics]\nother = { stream = \"ticket\" }"), "exactly one topic"),
        (
            ZENDESK.replace("\"zen:event-type:ticket.status_changed\" = { stream = \"ticket\" }", ""),
            "there is no topic",
        ),
        (BASIC.replace("\"hook_user\", ", ""), "needs user and password"),
        (BASIC.replace("kind = \"basic\"", "kind = \"basic\"\nprefix = \"x\""), "belong to a signature"),
        (
            BASIC.replace(
                "[[hooks.verify]]\nkind = \"basic\"\nsecrets = [\"hook_user\", \"hook_secret\"]",
                "verify = []",
            ),
            "no way to verify",
        ),
    ] {
        let problems = Manifest::parse(&manifest_with(&hooks), "c.toml").expect_err(says);
        assert!(problems.iter().any(|problem| problem.message.contains(says)), "{says}: {problems:#?}");
    }
}

/// What the documentation shows is what the program reads.
#[test]
fn the_example_in_the_documentation_works() {
    let text = include_str!("../../../docs/rest-connector.md");
    let example =
        text.split("```toml\n").find(|block| block.contains("[[hooks.verify]]")).expect("there is an example");
    let example = example.split("```").next().unwrap();
    let manifest = format!("{}\n{example}", manifest_source("crm").unwrap());
    let manifest = Manifest::parse(&manifest, "crm.toml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(manifest.hooks.is_some() && !manifest.requires("webhook_secret") && manifest.requires("token"));
}

/// What events send and what a trigger's template sends are both read, each from its own places.
#[test]
fn zendesk_tells_in_two_forms() {
    let desk = shipped("zendesk", &[("webhook_secret", "s3cret")]);
    let from = |body: &str| {
        let stamp = "2026-03-04T09:15:00Z";
        let signature = base64(&mac("s3cret", &[stamp.as_bytes(), body.as_bytes()]));
        let headers = headers([
            ("X-Zendesk-Webhook-Signature", &*signature),
            ("X-Zendesk-Webhook-Signature-Timestamp", stamp),
            ("X-Zendesk-Webhook-Invocation-Id", "8350205582"),
        ]);
        desk.hook(&post(&headers, body.as_bytes()), START)
    };
    let event = |name: &str| {
        json!({
            "account_id": 22_129_848, "detail": { "id": "5158", "status": "SOLVED", "subject": "Broken widget" },
            "event": { "previous": "OPEN", "current": "SOLVED", "meta": { "sequence": { "id": "CE4A", "position": 1 } } },
            "id": "cbe4028c-7239-495d-b020-f22348516046", "subject": "zen:ticket:5158",
            "time": "2026-03-04T09:14:59.672717030Z", "type": format!("zen:event-type:ticket.{name}"),
            "zendesk_event_version": "2022-11-06",
        })
        .to_string()
    };
    let hint = from(&event("status_changed")).unwrap().hints.remove(0);
    assert_eq!((hint.stream.as_str(), hint.external_id.as_str(), hint.deleted), ("ticket", "5158", false));
    assert_eq!(hint.topic, "zen:event-type:ticket.status_changed");
    assert_eq!(hint.event_id.as_deref(), Some("cbe4028c-7239-495d-b020-f22348516046"));
    assert_eq!((hint.delivery_id.as_deref(), hint.occurred_at), (Some("8350205582"), Some(START - 328)));
    assert!(from(&event("soft_deleted")).unwrap().hints[0].deleted);
    assert_eq!(kind(from(&event("comment_added"))), RefusalKind::UnknownTopic);
    assert_eq!(kind(from(&event("status_changed").replace("\"id\":\"5158\",", ""))), RefusalKind::Unreadable);

    // Whatever else the template's author wrote into it.
    let template = r#"{"event":"ticket.updated","type":"incident","ticket":{"id":"81","status":"Solved","updated_at":"2026-03-04T09:14:58Z"}}"#;
    let hint = from(template).unwrap().hints.remove(0);
    assert_eq!((hint.topic.as_str(), hint.external_id.as_str()), ("ticket.updated", "81"));
    assert_eq!((hint.event_id, hint.occurred_at), (None, Some(START - 2_000)));
    let refusal = from(r#"{"ticket":{"id":"81"}}"#).unwrap_err();
    assert!(refusal.message.contains("no topic at /event or /type"), "{refusal}");
}

/// JSON that looks like what vendors send, and JSON that does not.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "event",
        "id",
        "subscriptionType",
        "objectId",
        "changed_attributes",
        "conversation",
        "occurredAt",
        "updated_at",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["contact_updated", "message_created", "contact.merge"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

#[test]
fn shopify_signs_the_body_and_names_records_by_number() {
    let shop = shipped("shopify", &[("webhook_secret", "s3cret")]);
    let from = |topic: &str, body: &str| {
        let signature = base64(&mac("s3cret", &[body.as_bytes()]));
        let headers = headers([
            ("X-Shopify-Topic", topic),
            ("X-Shopify-Hmac-Sha256", &signature),
            ("X-Shopify-Webhook-Id", "b54557e4"),
            ("X-Shopify-Event-Id", "98880550"),
        ]);
        shop.hook(&post(&headers, body.as_bytes()), START)
    };
    let body = r#"{"id":450789469,"admin_graphql_api_id":"gid://shopify/Order/450789469","updated_at":"2026-03-04T04:15:00-05:00"}"#;
    let hint = from("orders/updated", body).unwrap().hints.remove(0);
    assert_eq!((hint.stream.as_str(), hint.external_id.as_str()), ("order", "450789469"));
    assert_eq!((hint.delivery_id.as_deref(), hint.event_id.as_deref()), (Some("b54557e4"), Some("98880550")));
    assert_eq!(hint.occurred_at, Some(1_772_615_700_000));
    let hint = from("refunds/create", r#"{"id":5,"order_id":450789469}"#).unwrap().hints.remove(0);
    assert_eq!((hint.stream.as_str(), hint.external_id.as_str()), ("order", "450789469"));
    for topic in ["fulfillments/create", "fulfillments/update", "fulfillment_events/create"] {
        let body = r#"{"id":255858046,"order_id":450789469,"updated_at":"2026-03-04T04:15:00-05:00"}"#;
        let hint = from(topic, body).unwrap().hints.remove(0);
        assert_eq!((hint.stream.as_str(), hint.external_id.as_str()), ("order", "450789469"), "{topic}");
    }
    assert!(from("customers/delete", r#"{"id":7}"#).unwrap().hints[0].deleted);
    assert_eq!(kind(from("products/update", r#"{"id":7}"#)), RefusalKind::UnknownTopic);
}

fn signed_everywhere(body: &[u8]) -> Vec<Result<Intake, HookRefusal>> {
    let hub = shipped("hubspot", &[("webhook_secret", "s3cret")]);
    let shop = shipped("woocommerce", &[("webhook_secret", "s3cret")]);
    let v3 = base64(&mac("s3cret", &[b"POST", URL.as_bytes(), body, b"1772615700000"]));
    let v3 = headers([("X-HubSpot-Signature-v3", &*v3), ("X-HubSpot-Request-Timestamp", "1772615700000")]);
    let plain = base64(&mac("s3cret", &[body]));
    let plain = headers([("X-WC-Webhook-Signature", &*plain), ("X-WC-Webhook-Topic", "order.updated")]);
    let store = shipped("shopify", &[("webhook_secret", "s3cret")]);
    let mine = base64(&mac("s3cret", &[body]));
    let mine = headers([("X-Shopify-Hmac-Sha256", &*mine), ("X-Shopify-Topic", "orders/updated")]);
    vec![
        store.hook(&post(&mine, body), START),
        chatwoot().hook(&post(&chatwoot_headers(body, START / 1_000), body), START),
        hub.hook(&post(&v3, body), START),
        shop.hook(&post(&plain, body), START),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn signed_bytes_of_any_kind_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for result in signed_everywhere(&body) {
            let verified = matches!(result.as_ref().map_err(|refusal| refusal.kind),
                Ok(_) | Err(RefusalKind::Unreadable | RefusalKind::UnknownTopic));
            prop_assert!(verified, "{result:?}");
        }
    }

    #[test]
    fn signed_json_of_any_shape_is_read_or_refused(body in any_json()) {
        for result in signed_everywhere(body.to_string().as_bytes()) {
            match result {
                Ok(intake) => prop_assert!(intake.hints.iter().all(|hint| !hint.external_id.is_empty())),
                Err(refusal) =>
                    prop_assert!(matches!(refusal.kind, RefusalKind::Unreadable | RefusalKind::UnknownTopic), "{refusal}"),
            }
        }
    }

    #[test]
    fn what_nobody_signed_is_never_taken(
        body in prop::collection::vec(any::<u8>(), 0..100),
        values in prop::collection::vec(prop::collection::vec(0x20_u8..=0xff, 0..80), 7),
        path in prop::option::of("\\PC{0,20}"),
        now in any::<i64>(),
    ) {
        let names = ["X-Shopify-Hmac-Sha256", "X-Chatwoot-Signature", "X-Chatwoot-Timestamp", "X-HubSpot-Signature-v3",
            "X-HubSpot-Request-Timestamp", "X-WC-Webhook-Signature", "Authorization"];
        let headers: HeaderMap = names.iter().zip(&values)
            .filter_map(|(name, value)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?)))
            .collect();
        for connector in ["chatwoot", "hubspot", "medusa", "shopify", "woocommerce"] {
            let delivery = Delivery { path_secret: path.as_deref(), ..post(&headers, &body) };
            let kind = shipped(connector, &[("webhook_secret", "s3cret")]).hook(&delivery, now).map_err(|refusal| refusal.kind);
            prop_assert!(matches!(kind, Err(RefusalKind::MissingSignature | RefusalKind::WrongSignature)), "{kind:?}");
        }
    }
}
