//! Traces of the real binary at a collector on loopback: every run, reading, call and message, and nobody's name. Without
//! a collector the work is the same.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;

use crate::logs::{HIDDEN, Place, assert_masked};

const TOKEN: &str = "c0llector-token";

/// What a collector was sent, as text: names and values stand in a protobuf message as they are.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<String>>>);

impl Taken {
    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }
}

async fn take(State(taken): State<Taken>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(parts.headers["authorization"], TOKEN);
    taken.0.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&body).into_owned());
    StatusCode::OK
}

async fn collector() -> (String, Taken) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let taken = Taken::default();
    let router = axum::Router::new().fallback(take).with_state(taken.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, taken)
}

fn telemetry(address: &str) -> String {
    format!(
        "[telemetry]\notlp = \"http://{address}\"\nservice_name = \"at-rosenbad\"\n\
         headers = {{ authorization = {{ env = \"COLLECTOR_TOKEN\" }} }}\n"
    )
}

async fn traced(address: &str) -> Place {
    let place = Place::new().await.with_variable("COLLECTOR_TOKEN", TOKEN);
    place.configure(&telemetry(address));
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_is_told_to_the_collector_without_people() {
    let (address, taken) = collector().await;
    let place = traced(&address).await;
    let (code, report) = place.run("sync.log", &["sync"]).await;
    assert_eq!(code, Some(3), "two shops cannot be read: {report}");
    place.orders();
    let (_, report) = place.run("again.log", &["sync"]).await;
    assert!(report.contains("\"sent\": 1"), "{report}");
    let text = taken.text();
    let spans = ["run", "reading", "call", "pass", "message"];
    let values =
        ["at-rosenbad", "people, closed", "house", "incremental", "customer", "wait_ms", "GET", "POST", "sent"];
    for part in spans.into_iter().chain(values) {
        assert!(text.contains(part), "{part} is not in the traces");
    }
    for hidden in HIDDEN.into_iter().chain([TOKEN, "tell nobody", "not acceptable", "/wp-json"]) {
        assert!(!text.contains(hidden), "{hidden} is in the traces");
    }
    let log = place.log("again.log");
    assert_masked(&log);
    assert!(!log.contains("collector of [telemetry] fails") && !log.contains("reading{"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_changes_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let place = traced(&address).await;
    let (code, report) = place.run("sync.log", &["sync"]).await;
    assert_eq!(code, Some(3), "as with a collector: {report}");
    place.orders();
    let (_, report) = place.run("again.log", &["sync"]).await;
    assert!(report.contains("\"sent\": 1"), "{report}");
    let log = place.log("again.log");
    assert_eq!(log.matches("collector of [telemetry] fails").count(), 1, "{log}");
    assert_masked(&log);
}
