//! Retries, limits, and what a failure means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{
    Call, Clock, Connection, ErrorKind, Gate, GateError, Lane, PullMode, PullRequest, Purpose, Push, RateSignal,
    TransportError,
};
use serde_json::json;

use crate::{START, open, open_at, spec, spec_with};

const PULL: PullRequest<'static> = PullRequest { stream: "contact", mode: PullMode::Full, cursor: None, parent: None };

type Outcome = Result<http::Response<Bytes>, TransportError>;

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    Ok(answer.body(Bytes::from(body.to_owned())).unwrap())
}

/// Gives each outcome once, then the last for ever.
fn sequence(outcomes: Vec<Outcome>) -> Arc<Script> {
    let at = AtomicUsize::new(0);
    Arc::new(Script::new(move |_| outcomes[at.fetch_add(1, Ordering::SeqCst).min(outcomes.len() - 1)].clone()))
}

const EMPTY: &str = r#"{"people": [], "total": 0}"#;

#[tokio::test]
async fn a_read_survives_a_short_outage() {
    let cut = || Err(TransportError::NoAnswer { reason: "cut".into() });
    let script =
        sequence(vec![cut(), answer(502, &[], "<html>bad gateway"), answer(503, &[], ""), answer(200, &[], EMPTY)]);
    let page = open(spec("crm"), script.clone()).pull(Lane::Audit, PULL).await.unwrap();
    assert_eq!((page.total, script.asked().len()), (Some(0), 4));
}

#[tokio::test]
async fn waits_are_what_the_vendor_says_and_the_same_every_time() {
    let mut ends = Vec::new();
    for _ in 0..2 {
        let script =
            sequence(vec![answer(429, &[("retry-after", "11")], ""), answer(503, &[], ""), answer(200, &[], EMPTY)]);
        let clock = Arc::new(JumpClock::at(START));
        open_at(spec("crm"), script, clock.clone()).pull(Lane::Audit, PULL).await.unwrap();
        ends.push(clock.now());
    }
    assert_eq!(ends[0], ends[1]);
    assert!((START + 11_500..START + 12_500).contains(&ends[0]), "{}", ends[0] - START);
}

#[tokio::test]
async fn a_long_wait_is_the_callers_decision() {
    let script = sequence(vec![answer(429, &[("retry-after", "3600")], "")]);
    let clock = Arc::new(JumpClock::at(START));
    let error = open_at(spec("crm"), script.clone(), clock.clone()).pull(Lane::Audit, PULL).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited { until: Some(START + 3_600_000) });
    assert_eq!((clock.now(), script.asked().len()), (START, 1));
}

#[tokio::test]
async fn a_plain_text_429_waits_for_the_next_minute() {
    let page = r#"{"payload": [], "meta": {"count": 0}}"#;
    let script =
        sequence(vec![answer(429, &[("content-type", "text/plain")], "Retry later\n"), answer(200, &[], page)]);
    let clock = Arc::new(JumpClock::at(START + 10_500));
    open_at(spec("chatwoot"), script, clock.clone()).pull(Lane::Audit, PULL).await.unwrap();
    assert_eq!(clock.now(), START + 60_000);
}

#[tokio::test]
async fn a_write_is_repeated_only_when_it_surely_did_not_happen() {
    let body = json!({ "name": "Rosa" });
    let person = r#"{"person": {"id": "7", "name": "Rosa"}}"#;
    let not_sent = || Err(TransportError::NotSent { reason: "refused".into() });

    let script = sequence(vec![not_sent(), answer(429, &[("retry-after", "1")], ""), answer(201, &[], person)]);
    let written =
        open(spec("crm"), script.clone()).push(Lane::Audit, "contact", Push::Create { body: &body }, "k").await;
    assert_eq!((written.unwrap().id.as_str(), script.asked().len()), ("7", 3));

    for bad in [
        Err(TransportError::NoAnswer { reason: "cut".into() }),
        answer(500, &[], ""),
        answer(502, &[], ""),
        answer(200, &[], "<html>"),
    ] {
        let script = sequence(vec![bad.clone()]);
        let error = open(spec("crm"), script.clone())
            .push(Lane::Audit, "contact", Push::Create { body: &body }, "k")
            .await
            .unwrap_err();
        assert_eq!((error.kind, script.asked().len()), (ErrorKind::OutcomeUnknown, 1), "{bad:?}");
    }
}

#[tokio::test]
async fn a_create_without_an_id_is_not_taken_for_done() {
    let body = json!({ "name": "Rosa" });
    let push = || Push::Create { body: &body };
    let error = open(spec("crm"), sequence(vec![answer(201, &[], "")])).push(Lane::Audit, "contact", push(), "k").await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::OutcomeUnknown);
    let located = sequence(vec![answer(201, &[("location", "https://crm.example/api/people/a%2Fb")], "")]);
    let written = open(spec("crm"), located).push(Lane::Audit, "contact", push(), "k").await.unwrap();
    assert_eq!((written.id.as_str(), written.record), ("a/b", None));
}

#[tokio::test]
async fn a_404_of_a_proxy_is_no_missing_record() {
    let body = json!({ "name": "Rosa" });
    for (said, kind) in [
        ("404 page not found\n", ErrorKind::Unavailable),
        ("<html><head><title>404 Not Found</title></head></html>", ErrorKind::Unavailable),
        ("", ErrorKind::Unavailable),
        ("[]", ErrorKind::Unavailable),
        (r#"{"error":"there is no such person"}"#, ErrorKind::NotFound),
    ] {
        for status in [404, 410] {
            let crm = open(spec("crm"), Arc::new(Script::always(status, &[], said)));
            let update = || Push::Update { id: "7", body: &body, current: None, version: None };
            let error = crm.fetch(Lane::Audit, "contact", "7").await.unwrap_err();
            assert_eq!(error.kind, kind, "{said}: {error}");
            assert!(kind == ErrorKind::NotFound || error.message.contains("base_url"), "{error}");
            assert_eq!(crm.push(Lane::Audit, "contact", update(), "k").await.unwrap_err().kind, kind, "{said}");
            let delete = crm.push(Lane::Audit, "contact", Push::Delete { id: "7" }, "k").await;
            assert_eq!(delete.unwrap_err().kind, kind, "{said}");
        }
    }
    // HubSpot says so in HTML, and is nobody's own server behind a proxy of theirs.
    let hub = open(spec("hubspot"), Arc::new(Script::always(404, &[], "<html></html>")));
    assert_eq!(hub.fetch(Lane::Audit, "contact", "7").await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(hub.pull(Lane::Audit, PULL).await.unwrap_err().kind, ErrorKind::Contract, "of a list it is no record");
}

#[tokio::test]
async fn ids_cannot_leave_their_path() {
    let script = Arc::new(Script::always(404, &[], "{}"));
    let crm = open(spec("crm"), script.clone());
    for id in ["..", ".", "", "a/../b", "7?x=1", "ä"] {
        let error = crm.fetch(Lane::Audit, "contact", id).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{id}");
    }
    assert_eq!(script.asked(), ["GET /api/people/a%2F..%2Fb", "GET /api/people/7%3Fx%3D1", "GET /api/people/%C3%A4"]);
}

/// A gate that counts, and stops on request.
#[derive(Default)]
struct Counter {
    acquired: AtomicUsize,
    settled: std::sync::Mutex<Vec<(String, Purpose, RateSignal)>>,
    stop: bool,
}

#[async_trait]
impl Gate for Counter {
    async fn acquire(&self, _: &Call<'_>) -> Result<u64, GateError> {
        if self.stop {
            return Err(GateError::Stopped);
        }
        Ok(self.acquired.fetch_add(1, Ordering::SeqCst) as u64)
    }

    async fn settle(&self, _: u64, call: &Call<'_>, signal: &RateSignal) {
        self.settled.lock().unwrap().push((call.class.to_owned(), call.purpose, signal.clone()));
    }
}

#[tokio::test]
async fn every_request_passes_the_gate_once_and_is_settled() {
    let gate = Arc::new(Counter::default());
    let script = sequence(vec![
        Err(TransportError::NotSent { reason: "refused".into() }),
        answer(429, &[("X-RateLimit-Limit", "10"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "5")], ""),
        answer(200, &[], EMPTY),
    ]);
    let clock = Arc::new(JumpClock::at(START));
    let crm = Connection::open(spec("crm"), script.clone(), gate.clone(), clock).unwrap();
    crm.pull(Lane::Backfill, PULL).await.unwrap();
    assert_eq!((gate.acquired.load(Ordering::SeqCst), script.asked().len()), (3, 3));
    let settled = gate.settled.lock().unwrap().clone();
    assert!(settled.iter().all(|(class, purpose, _)| class == "all" && *purpose == Purpose::Pull));
    assert!(settled[0].2.surely_unsent && settled[0].2.status.is_none());
    let limited = &settled[1].2;
    assert_eq!((limited.status, limited.limit, limited.remaining), (Some(429), Some(10), Some(0)));
    assert_eq!(limited.retry_at, limited.reset_at);
    assert_eq!(settled[2].2.status, Some(200));
}

#[tokio::test]
async fn searches_are_counted_in_a_class_of_their_own() {
    let gate = Arc::new(Counter::default());
    let script = Arc::new(Script::always(200, &[], r#"{"total": 0, "results": []}"#));
    let hubspot = Connection::open(spec("hubspot"), script, gate.clone(), Arc::new(JumpClock::at(START))).unwrap();
    let since = PullRequest { mode: PullMode::Since(START), ..PULL };
    hubspot.pull(Lane::Incremental, since).await.unwrap();
    assert_eq!(gate.settled.lock().unwrap()[0].0, "search");
    let windows: Vec<_> = hubspot.budgets().iter().map(|b| (b.class.as_str(), b.requests, b.per_ms)).collect();
    assert_eq!(windows, [("all", 100, 10_000), ("all", 250_000, 86_400_000), ("search", 5, 1_000)]);
}

#[tokio::test]
async fn a_stopped_gate_sends_nothing() {
    let script = Arc::new(Script::always(200, &[], EMPTY));
    let gate = Arc::new(Counter { stop: true, ..Counter::default() });
    let crm = Connection::open(spec("crm"), script.clone(), gate, Arc::new(JumpClock::at(START))).unwrap();
    assert_eq!(crm.pull(Lane::Audit, PULL).await.unwrap_err().kind, ErrorKind::Stopped);
    assert!(script.asked().is_empty());
}

#[test]
fn settings_are_checked_all_at_once() {
    let mut bad =
        spec_with("chatway", json!({ "requests_per_minute": 20, "page_sise": 5, "list_order": "up", "api_key": "x" }));
    bad.secrets.clear();
    let open = |spec| {
        let script = Arc::new(Script::always(200, &[], ""));
        Connection::open(spec, script, Arc::new(counterpart_connectors::OpenGate), Arc::new(JumpClock::at(START)))
    };
    let error = open(bad).unwrap_err();
    assert_eq!(error.problems.len(), 5, "{error}");
    for says in [
        "documents 15",
        "`page_sise` is not a setting",
        "newest_first, oldest_first",
        "is a secret",
        "`api_key` is missing",
    ] {
        assert!(error.problems.iter().any(|problem| problem.contains(says)), "{says}: {error}");
    }
    // What the operator runs, the operator limits.
    for (connector, setting) in [("chatwoot", 3000), ("woocommerce", 5000), ("crm", 100_000)] {
        assert!(open(spec_with(connector, json!({ "requests_per_minute": setting }))).is_ok(), "{connector}");
    }
    assert!(open(spec_with("hubspot", json!({ "requests_per_10s": 190 }))).is_ok());
    assert!(open(spec_with("hubspot", json!({ "requests_per_10s": 191 }))).is_err());
}

#[test]
fn plain_http_is_refused_except_at_home() {
    let open = |settings| {
        let script = Arc::new(Script::always(200, &[], ""));
        let spec = spec_with("crm", settings);
        Connection::open(spec, script, Arc::new(counterpart_connectors::OpenGate), Arc::new(JumpClock::at(START)))
    };
    for good in ["https://crm.lan/api", "http://127.0.0.1:8080/api", "http://[::1]/api", "http://localhost/api"] {
        assert!(open(json!({ "base_url": good })).is_ok(), "{good}");
    }
    for bad in
        ["http://crm.lan/api", "http://127.0.0.1.evil.example", "ftp://crm.lan", "crm.lan", "https://u:p@crm.lan"]
    {
        assert!(open(json!({ "base_url": bad })).is_err(), "{bad}");
    }
    assert!(open(json!({ "base_url": "http://crm.lan/api", "allow_http": true })).is_ok());
}

#[test]
fn the_budget_account_names_no_secret() {
    let account = |connector, settings| {
        let script = Arc::new(Script::always(200, &[], ""));
        open(spec_with(connector, settings), script).account()
    };
    let one = account("crm", json!({}));
    assert!(one.starts_with("crm.example/") && !one.contains("s3cret"), "{one}");
    assert_eq!(one, account("crm", json!({ "page_size": 3 })));
    assert_ne!(one, account("crm", json!({ "base_url": "https://other.example" })));
    assert_eq!(account("crm", json!({ "budget_account": "shared" })), "crm.example/shared");
}
