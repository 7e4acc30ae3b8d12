//! The one place that sends: credentials, budget, retries, redaction.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::field::Empty;
use url::Url;

use super::TRACES;
pub use super::answer::Answer;
use super::answer::Judge;
use super::auth::Auth;
use super::capabilities::BudgetFacts;
use super::clock::{Clock, Millis};
use super::error::{ConnectorError, ErrorKind};
use super::gate::{Call, Gate, GateError, Lane, Purpose, RateSignal};
use super::manifest::Manifest;
use super::rate;
use super::redact::Redactor;
use super::settings::Settings;
use super::transport::{Transport, TransportError};

/// Tries of one call, the first included.
const TRIES: u32 = 4;
/// A wait longer than this is the caller's decision.
const LONGEST_WAIT: Millis = 5 * 60_000;
const FIRST_BACKOFF: Millis = 500;
const LONGEST_BACKOFF: Millis = 8_000;

/// The client of one connection.
pub struct Http {
    pub(crate) connection: String,
    pub(crate) base: Url,
    pub(crate) auth: Auth,
    pub(crate) redactor: Redactor,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) budgets: Vec<BudgetFacts>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Http {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Http({})", self.connection)
    }
}

/// One request, before credentials.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    purpose: Purpose,
    class: &'a str,
    cost: u32,
    method: Method,
    target: String,
    query: Vec<(String, String)>,
    body: Option<&'a Value>,
    idempotency_key: Option<&'a str>,
    if_match: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// A request for `target`: a path below the base address, or a whole address on the same host.
    pub fn new(purpose: Purpose, method: Method, target: impl Into<String>) -> Ask<'a> {
        Ask {
            purpose,
            class: "all",
            cost: 1,
            method,
            target: target.into(),
            query: Vec::new(),
            body: None,
            idempotency_key: None,
            if_match: None,
        }
    }

    /// Adds a query parameter; an empty name or value adds none.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        if !name.is_empty() && !value.is_empty() {
            self.query.push((name, value));
        }
        self
    }

    /// Sends `body` as JSON.
    pub fn body(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Counts in the limit of `class` too.
    pub fn class(mut self, class: &'a str) -> Self {
        self.class = class;
        self
    }

    /// Counts as so many calls: for vendors whose limit is in points.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// Sends `key` as `Idempotency-Key`; vendors that do not know the header ignore it.
    pub fn idempotency_key(mut self, key: &'a str) -> Self {
        self.idempotency_key = Some(key).filter(|key| !key.is_empty());
        self
    }

    /// Sends `version` as `If-Match`: the write is refused when the record has another one.
    pub fn if_match(mut self, version: Option<&'a str>) -> Self {
        self.if_match = version;
        self
    }
}

/// A failed try and what may be done about it.
struct Failure {
    error: ConnectorError,
    again: Again,
}

enum Again {
    Never,
    Backoff,
    At(Millis),
}

impl Http {
    /// Sends `ask` and returns the answer if it is a success.
    ///
    /// Reads are tried again when the vendor is unavailable, limits or does not answer; writes only when they surely
    /// were not processed.
    pub async fn send(&self, lane: Lane, ask: &Ask<'_>) -> Result<Answer, ConnectorError> {
        let call = Call { connection: &self.connection, class: ask.class, lane, purpose: ask.purpose, cost: ask.cost };
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(&call, ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let now = self.clock.now();
            let at = match failure.again {
                Again::Never => return Err(failure.error),
                Again::Backoff => now + self.backoff(ask, attempt),
                Again::At(at) => at,
            };
            if attempt == TRIES || at - now > LONGEST_WAIT {
                return Err(failure.error);
            }
            tracing::debug!(connection = %self.connection, attempt, wait_ms = at - now, kind = failure.error.kind.name(), "trying again");
            self.clock.sleep_until(at).await;
            attempt += 1;
        }
    }

    /// Sends `ask` and reads the answer as JSON, without the NULs that its texts may hold; an empty body is null.
    pub async fn json(&self, lane: Lane, ask: &Ask<'_>) -> Result<(Value, Answer), ConnectorError> {
        let answer = self.send(lane, ask).await?;
        Ok((self.judge(ask).json(&answer)?, answer))
    }

    /// A next-page address as the answer to `ask` gave it, without credentials; refused when it leads to another host.
    pub(crate) fn next_address(&self, ask: &Ask<'_>, text: &str) -> Result<String, ConnectorError> {
        let mut url = self.address(ask)?.join(text).map_err(|_| {
            ConnectorError::contract(format!("connection {}: the next page's address is no address", self.connection))
        })?;
        if url.origin() != self.base.origin() {
            return Err(ConnectorError::contract(format!(
                "connection {}: the next page is said to be at {}, not at {}; credentials are not sent there. Set base_url to \
                 the address the vendor uses",
                self.connection,
                url.origin().ascii_serialization(),
                self.base.origin().ascii_serialization()
            )));
        }
        self.auth.strip(&mut url);
        Ok(url.into())
    }

    async fn attempt(&self, call: &Call<'_>, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let never = |error| Failure { error, again: Again::Never };
        let request = self.request(ask).map_err(never)?;
        let span = tracing::info_span!(target: TRACES, "call", otel.kind = "client", connection = %self.connection, method = %ask.method,
            lane = call.lane.name(), wait_ms = Empty, status = Empty);
        let asked = self.clock.now();
        let permit = self.gate.acquire(call).await.map_err(|error| never(self.refused(&error)))?;
        span.record("wait_ms", self.clock.now() - asked);
        let outcome = self.transport.send(request).await;
        let now = self.clock.now();
        let signal = match &outcome {
            Ok(answer) => {
                let window = rate::shortest_window(&self.budgets, ask.class);
                rate::read(answer.status().as_u16(), answer.headers(), &self.manifest.rate_headers, window, now)
            }
            Err(error) => {
                RateSignal { surely_unsent: matches!(error, TransportError::NotSent { .. }), ..RateSignal::default() }
            }
        };
        // Only signed numbers arrive at a collector as numbers.
        span.record("status", signal.status.map(i64::from));
        self.gate.settle(permit, call, &signal).await;
        tracing::debug!(connection = %self.connection, method = %ask.method, path = ask.path(), status = signal.status, "call");
        match outcome {
            Ok(answer) if answer.status().is_success() => {
                let (parts, body) = answer.into_parts();
                let server_time = rate::server_time(&parts.headers);
                Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, server_time })
            }
            Ok(answer) => Err(self.unsuccessful(ask, &answer, &signal)),
            Err(error) => Err(self.unanswered(ask, &error)),
        }
    }

    fn unsuccessful(&self, ask: &Ask<'_>, answer: &http::Response<Bytes>, signal: &RateSignal) -> Failure {
        let status = answer.status().as_u16();
        let error = self.judge(ask).error(status, answer.headers(), answer.body(), signal.retry_at);
        let again = match (&error.kind, signal.retry_at) {
            (ErrorKind::RateLimited { .. } | ErrorKind::Unavailable, Some(at)) => Again::At(at),
            (ErrorKind::RateLimited { .. }, None) => Again::Backoff,
            (ErrorKind::Unavailable, None) if !ask.purpose.writes() => Again::Backoff,
            _ => Again::Never,
        };
        Failure { error, again }
    }

    fn unanswered(&self, ask: &Ask<'_>, error: &TransportError) -> Failure {
        let what = self.what(ask);
        let reason = self.redactor.clean(&error.to_string());
        let (kind, advice) = match error {
            TransportError::NotSent { .. } => (ErrorKind::Unavailable, "is base_url right and the host reachable?"),
            TransportError::NoAnswer { .. } if ask.purpose.writes() => {
                (ErrorKind::OutcomeUnknown, "it may have been processed")
            }
            TransportError::NoAnswer { .. } => (ErrorKind::Unavailable, "the far end is slow or the line is bad"),
        };
        let again = if kind == ErrorKind::OutcomeUnknown { Again::Never } else { Again::Backoff };
        Failure { error: ConnectorError::new(kind, format!("{what}: {reason}; {advice}")), again }
    }

    fn refused(&self, error: &GateError) -> ConnectorError {
        ConnectorError::new(ErrorKind::Stopped, format!("connection {}: {error}", self.connection))
    }

    /// The address of a request, before its query parameters and credentials.
    fn address(&self, ask: &Ask<'_>) -> Result<Url, ConnectorError> {
        let text = match ask.target.starts_with('/') {
            true => format!("{}{}", self.base.as_str().trim_end_matches('/'), ask.target),
            false => ask.target.clone(),
        };
        let broken = |why: String| ConnectorError::contract(format!("{}: {why}", self.what(ask)));
        let url = Url::parse(&text).map_err(|why| broken(why.to_string()))?;
        if url.origin() == self.base.origin() { Ok(url) } else { Err(broken("leads to another host".into())) }
    }

    fn request(&self, ask: &Ask<'_>) -> Result<http::Request<Bytes>, ConnectorError> {
        let mut url = self.address(ask)?;
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        self.auth.apply(&mut url, &mut headers);
        if let Some(key) = ask.idempotency_key.and_then(|key| HeaderValue::from_str(key).ok()) {
            headers.insert("idempotency-key", key);
        }
        if let Some(version) = ask.if_match.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok()) {
            headers.insert(http::header::IF_MATCH, version);
        }
        let body = match ask.body {
            Some(value) => {
                headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Bytes::from(value.to_string())
            }
            None => Bytes::new(),
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() =
            url.as_str().parse().map_err(|_| ConnectorError::contract(format!("{}: is no address", self.what(ask))))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Grows with every try; the jitter is a hash, so that a simulation repeats it.
    fn backoff(&self, ask: &Ask<'_>, attempt: u32) -> Millis {
        let step = (FIRST_BACKOFF << (attempt - 1)).min(LONGEST_BACKOFF);
        let hash = Sha256::digest(format!("{}\n{}\n{}\n{attempt}", self.connection, ask.method, ask.path()));
        let jitter = Millis::from(u16::from_le_bytes([hash[0], hash[1]])) * step / (2 * Millis::from(u16::MAX));
        step / 2 + jitter
    }

    pub(crate) fn judge(&self, ask: &Ask<'_>) -> Judge<'_> {
        Judge {
            manifest: &self.manifest,
            settings: &self.settings,
            redactor: &self.redactor,
            what: self.what(ask),
            purpose: ask.purpose,
        }
    }

    /// How messages name a request: without the query, which may hold personal data.
    pub(crate) fn what(&self, ask: &Ask<'_>) -> String {
        format!("{} {} of connection {}", ask.method, ask.path(), self.connection)
    }
}

impl Ask<'_> {
    /// The path for messages and logs; a segment that is an e-mail address is not shown.
    fn path(&self) -> String {
        let target = self.target.split(['?', '#']).next().unwrap_or_default();
        let path = match target.find("://") {
            Some(at) => target[at + 3..].find('/').map_or("/", |slash| &target[at + 3 + slash..]),
            None => target,
        };
        let names_person = |segment: &str| segment.contains('@') || segment.contains("%40");
        path.split('/').map(|segment| if names_person(segment) { "…" } else { segment }).collect::<Vec<_>>().join("/")
    }
}
