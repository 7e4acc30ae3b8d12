//! Recorded traffic: scrubbed when recorded, matched strictly when replayed, and nothing may be left over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redact::Redactor;
use super::transport::{Transport, TransportError};

/// A list of exchanges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Where it comes from.
    pub note: String,
    /// What was sent and answered, in order.
    pub exchanges: Vec<Exchange>,
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Method, path and query: `GET /contacts?page=1`.
    pub request: String,
    /// The JSON that was sent.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub sent: Value,
    /// Status of the answer.
    pub status: u16,
    /// Headers that matter: type, date, paging, limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The JSON that was answered, or a text when it was no JSON.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
}

impl Exchange {
    fn of(request: &http::Request<Bytes>, answer: &http::Response<Bytes>, redactor: &Redactor) -> Exchange {
        let headers = answer.headers().iter().filter(|(name, _)| matters(name.as_str()));
        let headers =
            headers.filter_map(|(name, value)| Some((name.to_string(), redactor.clean(value.to_str().ok()?))));
        Exchange {
            request: line(request, redactor),
            sent: json_or_text(request.body(), redactor),
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: json_or_text(answer.body(), redactor),
        }
    }

    fn answer(&self) -> Result<http::Response<Bytes>, String> {
        let mut answer = http::Response::builder().status(self.status);
        for (name, value) in &self.headers {
            answer = answer.header(name, value);
        }
        let body = match &self.body {
            Value::Null => Bytes::new(),
            Value::String(text) => Bytes::from(text.clone()),
            json => Bytes::from(json.to_string()),
        };
        answer.body(body).map_err(|error| error.to_string())
    }
}

/// Passes everything on and keeps a scrubbed copy.
pub struct Recorder {
    inner: Arc<dyn Transport>,
    redactor: Redactor,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Recorder {
    /// Records what goes through `inner`, without `secrets`.
    pub fn new<'a>(inner: Arc<dyn Transport>, secrets: impl IntoIterator<Item = &'a SecretString>) -> Recorder {
        Recorder { inner, redactor: Redactor::new(secrets), exchanges: Mutex::default() }
    }

    /// What was recorded so far.
    pub fn recording(&self, note: impl Into<String>) -> Recording {
        let exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Recording { note: note.into(), exchanges }
    }
}

#[async_trait]
impl Transport for Recorder {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let copy = request.clone();
        let answer = self.inner.send(request).await?;
        let exchange = Exchange::of(&copy, &answer, &self.redactor);
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        Ok(answer)
    }
}

/// Answers from a recording: every request must be the next one recorded.
pub struct Replay {
    redactor: Redactor,
    left: Mutex<VecDeque<Exchange>>,
}

impl Replay {
    /// Replays `recording` to a connection with these secrets.
    pub fn new<'a>(recording: Recording, secrets: impl IntoIterator<Item = &'a SecretString>) -> Replay {
        Replay { redactor: Redactor::new(secrets), left: Mutex::new(recording.exchanges.into()) }
    }

    /// An error when something recorded was never asked for.
    pub fn finish(&self) -> Result<(), String> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.front() {
            None => Ok(()),
            Some(next) => {
                Err(format!("{} recorded exchanges were not asked for, the first is {}", left.len(), next.request))
            }
        }
    }
}

#[async_trait]
impl Transport for Replay {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let asked = line(&request, &self.redactor);
        let sent = json_or_text(request.body(), &self.redactor);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match left.front() {
            None => format!("nothing is recorded any more, but {asked} was sent"),
            Some(next) if next.request != asked => format!("recorded is {}, but {asked} was sent", next.request),
            Some(next) if next.sent != sent => format!("{asked}: recorded is {}, but {sent} was sent", next.sent),
            Some(next) => match next.answer() {
                Ok(answer) => {
                    left.pop_front();
                    return Ok(answer);
                }
                Err(reason) => reason,
            },
        };
        Err(TransportError::NotSent { reason })
    }
}

fn line(request: &http::Request<Bytes>, redactor: &Redactor) -> String {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    redactor.clean(&format!("{} {target}", request.method()))
}

fn json_or_text(body: &Bytes, redactor: &Redactor) -> Value {
    let text = redactor.clean(&String::from_utf8_lossy(body));
    if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// Cookies and the like stay out of recordings.
fn matters(name: &str) -> bool {
    ["content-type", "date", "link", "location", "retry-after"].contains(&name) || name.starts_with("x-")
}
