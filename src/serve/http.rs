//! What is answered over HTTP. Addresses are never logged: some end in a secret.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode, request::Parts};
use axum::routing::{get, post};
use counterpart_connectors::{Delivery, Millis};
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use super::inbox::Unstored;
use super::{Desk, health, metrics};
use crate::store::NewHook;

/// Bytes of a body.
const MAX_BODY: usize = 1 << 20;
/// Bytes of a body that is too large which are still read, so that its sender hears the answer.
const MAX_DRAINED: usize = 16 << 20;
/// How long a body may take to come.
const BODY_MS: Millis = 30_000;
/// After how many seconds a vendor may try again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/hooks/{connection}", post(signed))
        .route("/hooks/{connection}/{secret}", post(with_secret))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(desk)
}

async fn signed(State(desk): State<Arc<Desk>>, Path(name): Path<String>, request: Request) -> Response<Body> {
    hook(&desk, &name, None, request).await
}

async fn with_secret(
    State(desk): State<Arc<Desk>>,
    Path((name, secret)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    hook(&desk, &name, Some(&secret), request).await
}

async fn ready(State(desk): State<Arc<Desk>>) -> Response<Body> {
    let reasons = health::unready(&desk).await;
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let degraded = health::degraded(&desk).await;
    let document = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons, "degraded": degraded });
    typed(status, "application/json", format!("{document}\n"))
}

async fn show_metrics(State(desk): State<Arc<Desk>>) -> Response<Body> {
    match metrics::text(&desk).await {
        Ok(text) => typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be read");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer")
        }
    }
}

/// Verifies a delivery, stores it, and only then says so.
async fn hook(desk: &Desk, name: &str, secret: Option<&str>, request: Request) -> Response<Body> {
    let Some((name, connection)) = desk.connections.get_key_value(name) else {
        desk.tally.count("", "unknown_connection");
        return plain(StatusCode::NOT_FOUND, "there is no such connection");
    };
    let (head, body) = request.into_parts();
    let (body, held) = match read(desk, body).await {
        Ok(read) => read,
        Err(unread) => {
            desk.tally.count(name, unread.word());
            return unread.answer();
        }
    };
    let delivery = Delivery {
        method: head.method.as_str(),
        url: &called(desk, &head),
        headers: &head.headers,
        path_secret: secret,
        body: &body,
    };
    let intake = match connection.hook(&delivery, desk.now()) {
        Ok(intake) => intake,
        Err(refusal) => {
            desk.tally.count(name, refusal.kind.name());
            tracing::info!(connection = name, kind = refusal.kind.name(), "webhook refused: {}", refusal.message);
            let status = StatusCode::from_u16(refusal.kind.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return plain(status, &refusal.message);
        }
    };
    for why in &intake.skipped {
        tracing::info!(connection = name, "an event of a webhook was skipped: {why}");
    }
    if intake.hints.is_empty() {
        desk.tally.count(name, "nothing_to_do");
        return plain(StatusCode::OK, "nothing to do");
    }
    let hook = NewHook {
        connection: name.clone(),
        hints: serde_json::to_value(&intake.hints).unwrap_or_default(),
        // It was JSON, so it is text.
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    match desk.inbox.store(hook, held).await {
        Ok(()) => {
            desk.tally.count(name, "stored");
            plain(StatusCode::OK, "stored")
        }
        Err(Unstored::Full) => {
            desk.tally.count(name, "busy");
            later("too many webhooks at once")
        }
        Err(Unstored::Failed) => {
            desk.tally.count(name, "not_stored");
            later("the store does not answer")
        }
    }
}

/// The address as the vendor called it. Without `public_url` it is a guess that fits where there is no proxy.
fn called(desk: &Desk, head: &Parts) -> String {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    match &desk.engine.config().serve.public_url {
        Some(url) => format!("{url}{path}"),
        None => {
            let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            format!("http://{host}{path}")
        }
    }
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    TooSlow,
    Broken,
    Busy,
}

impl Unread {
    fn word(&self) -> &'static str {
        match self {
            Unread::TooLarge => "too_large",
            Unread::TooSlow => "too_slow",
            Unread::Broken => "broken",
            Unread::Busy => "busy",
        }
    }

    fn answer(&self) -> Response<Body> {
        match self {
            Unread::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE, "a webhook has at most 1 MiB"),
            Unread::TooSlow => plain(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Unread::Broken => plain(StatusCode::BAD_REQUEST, "the body broke off"),
            Unread::Busy => later("too many webhooks at once"),
        }
    }
}

type ReadBody = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// The whole body, with the memory that it takes: all bodies together are bounded too.
async fn read(desk: &Desk, body: Body) -> Result<ReadBody, Unread> {
    let whole = async {
        let mut chunks = body.into_data_stream();
        let (mut bytes, mut held, mut length) = (Vec::new(), None::<OwnedSemaphorePermit>, 0);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Unread::Broken)?;
            length += chunk.len();
            if length > MAX_DRAINED {
                break;
            }
            if length > MAX_BODY || chunk.is_empty() {
                continue;
            }
            let size = u32::try_from(chunk.len()).map_err(|_| Unread::TooLarge)?;
            let permit = desk.memory.clone().try_acquire_many_owned(size).map_err(|_| Unread::Busy)?;
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            bytes.extend_from_slice(&chunk);
        }
        if length > MAX_BODY { Err(Unread::TooLarge) } else { Ok((bytes, held)) }
    };
    tokio::select! {
        read = whole => read,
        () = desk.engine.clock().sleep_until(desk.now() + BODY_MS) => Err(Unread::TooSlow),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// Never 2xx without a row: the vendor keeps it and comes again.
fn later(text: &str) -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    response
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
