//! Secrets and personal data stay out of what is logged.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{Lane, MatchKey, PullMode, PullRequest, Push};
use serde_json::json;

use crate::{open, spec, spec_with};

#[tokio::test]
async fn messages_name_no_person() {
    let body = r#"{"message": "An account is registered with rosa@shop.example", "code": "x"}"#;
    for connector in counterpart_connectors::registry() {
        for status in [400, 401, 403, 404, 409, 422, 500] {
            let connection = open(spec(connector), Arc::new(Script::always(status, &[], body)));
            let stream = connection.manifest().first_stream();
            let pull = PullRequest { stream, mode: PullMode::Full, cursor: None, parent: None };
            let person = json!({ "email": "rosa@shop.example", "properties": { "email": "rosa@shop.example" } });
            let key = MatchKey::Email("rosa@shop.example".into());
            let errors = [
                connection.pull(Lane::Audit, pull).await.err(),
                connection.find(Lane::Audit, stream, &key).await.err(),
                connection.push(Lane::Audit, stream, Push::Create { body: &person }, "k").await.err(),
            ];
            for error in errors.into_iter().flatten() {
                assert!(!error.message.contains("rosa"), "{connector} {status}: {}", error.message);
            }
        }
    }
}

#[tokio::test]
async fn credentials_in_the_query_stay_out_of_cursors_and_messages() {
    let script = Arc::new(Script::always(401, &[], "{}"));
    let shop = open(spec_with("woocommerce", json!({ "auth": "query" })), script.clone());
    let pull = PullRequest { stream: "contact", mode: PullMode::Full, cursor: None, parent: None };
    let error = shop.pull(Lane::Audit, pull).await.unwrap_err();
    assert!(script.asked()[0].contains("consumer_secret=s3cret"), "{:?}", script.asked());
    assert!(!format!("{error:?}").contains("s3cret"), "{error}");
}

/// Keeps every field of every event, whatever its level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        attributes.record(&mut self.clone());
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn the_log_holds_neither_secret_nor_person() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    let complete = |log: &Log| {
        let log = log.0.lock().unwrap();
        log.contains("path=") && log.contains("trying again")
    };
    // Another test that reaches an event for the first time at this moment decides that nobody listens; once it has,
    // the decision can be taken anew.
    for _ in 0..100 {
        tracing::callsite::rebuild_interest_cache();
        talk().await;
        if complete(&log) {
            break;
        }
    }
    drop(guard);
    assert!(complete(&log));
    let log = log.0.lock().unwrap().clone();
    for hidden in ["s3cret", "rosa"] {
        assert!(!log.contains(hidden), "{hidden}: {log}");
    }
}

/// Every connector against a far end that repeats secrets and names.
async fn talk() {
    for connector in counterpart_connectors::registry() {
        for status in [200, 404, 422, 429, 503] {
            let body = r#"{"message": "rosa@shop.example s3cret"}"#;
            let mut spec = spec(connector);
            if *connector == "woocommerce" {
                spec.settings.insert("auth".into(), "query".into());
            }
            let connection = open(spec, Arc::new(Script::always(status, &[("x-echo", "s3cret")], body)));
            let person = json!({ "email": "rosa@shop.example" });
            let stream = connection.manifest().first_stream();
            let _ = connection.check(Lane::Audit).await;
            let _ = connection.find(Lane::Audit, stream, &MatchKey::Email("rosa@shop.example".into())).await;
            let _ = connection.push(Lane::Audit, stream, Push::Create { body: &person }, "k").await;
        }
    }
}
