//! What an answer means: the JSON of a good one, the kind and the words of a bad one.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::clock::Millis;
use super::error::{ConnectorError, ErrorKind};
use super::gate::Purpose;
use super::manifest::{ErrorFacts, ErrorWord, Manifest};
use super::odd;
use super::redact::Redactor;
use super::settings::Settings;

const EXCERPT: usize = 80;
const MESSAGE: usize = 300;

/// A good answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as it came.
    pub body: Bytes,
    /// The vendor's clock when it answered.
    pub server_time: Option<Millis>,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What is needed to judge an answer.
pub(crate) struct Judge<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) settings: &'a Settings,
    pub(crate) redactor: &'a Redactor,
    /// `GET /contacts of connection chat`, for messages.
    pub(crate) what: String,
    pub(crate) purpose: Purpose,
}

impl Judge<'_> {
    /// The JSON of a good answer; nothing becomes null.
    pub(crate) fn json(&self, answer: &Answer) -> Result<Value, ConnectorError> {
        let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        odd::read(body).map_err(|_| self.not_json(answer))
    }

    fn not_json(&self, answer: &Answer) -> ConnectorError {
        let form = if looks_like_html(&answer.body) { "an HTML page" } else { "no JSON" };
        let start = self.redactor.quote(&String::from_utf8_lossy(&answer.body), EXCERPT);
        let message = format!(
            "{} answered {} with {form} ({start}): is base_url right, and is no login page or proxy in between?",
            self.what, answer.status
        );
        // A write that was answered 2xx most likely happened, whatever the answer looks like.
        let kind = if self.purpose.writes() { ErrorKind::OutcomeUnknown } else { ErrorKind::Contract };
        ConnectorError { kind, message, status: Some(answer.status) }
    }

    /// The error that an answer without success means.
    pub(crate) fn error(
        &self,
        status: u16,
        headers: &HeaderMap,
        body: &Bytes,
        until: Option<Millis>,
    ) -> ConnectorError {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let words = self.words(&json, body);
        let facts = self.manifest.errors.iter().find(|facts| self.matches(facts, status, &json, body));
        let kind = match facts {
            Some(facts) => self.declared(facts, &json, until),
            None => self.by_status(status, &json, until),
        };
        let mut message = format!("{} answered {status}", self.what);
        if !words.is_empty() {
            message.push_str(": ");
            message.push_str(&words);
        }
        let location = headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let help = facts.and_then(|facts| facts.help.clone()).or_else(|| self.help(&kind, status, location));
        if let Some(help) = help {
            let said = words.trim_end_matches('”');
            message.push_str(if said.ends_with(['.', '!', '?', '…']) { " " } else { ". " });
            message.push_str(&self.settings.render(&help, &[]));
        }
        ConnectorError { kind, message: self.redactor.clean(&message), status: Some(status) }
    }

    fn matches(&self, facts: &ErrorFacts, status: u16, json: &Value, body: &Bytes) -> bool {
        if self.settings.resolve(&facts.status) != u64::from(status) {
            return false;
        }
        let found = match &facts.pointer {
            Some(pointer) => match json.pointer(pointer) {
                Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                None => return false,
            },
            None => String::from_utf8_lossy(body).into_owned(),
        };
        facts.text.as_ref().is_none_or(|text| found.to_lowercase().contains(&text.to_lowercase()))
    }

    fn declared(&self, facts: &ErrorFacts, json: &Value, until: Option<Millis>) -> ErrorKind {
        let mut fields = Vec::new();
        for field in &facts.fields {
            match field.starts_with('/') {
                true => fields.extend(json.pointer(field).map(names).unwrap_or_default()),
                false => fields.push(field.clone()),
            }
        }
        match facts.kind {
            ErrorWord::Unauthorized => ErrorKind::Unauthorized,
            ErrorWord::Forbidden => ErrorKind::Forbidden,
            ErrorWord::NotFound => self.missing(true),
            ErrorWord::Invalid => ErrorKind::Invalid { fields },
            ErrorWord::Conflict => {
                let holder = facts.holder.as_ref().and_then(|pointer| last_word(json.pointer(pointer)?));
                ErrorKind::Conflict { holder, keys: fields }
            }
            ErrorWord::RateLimited => ErrorKind::RateLimited { until },
            ErrorWord::Unavailable => ErrorKind::Unavailable,
            ErrorWord::Unsupported => ErrorKind::Unsupported,
        }
    }

    fn by_status(&self, status: u16, json: &Value, until: Option<Millis>) -> ErrorKind {
        match status {
            401 => ErrorKind::Unauthorized,
            402 | 403 => ErrorKind::Forbidden,
            // The system itself says so, in JSON: no proxy, and no other program behind a wrong address.
            404 | 410 => self.missing(json.is_object()),
            405 | 501 => ErrorKind::Unsupported,
            409 | 412 => ErrorKind::Conflict { holder: None, keys: field_names(json) },
            429 => ErrorKind::RateLimited { until },
            408 | 425 | 500.. if self.purpose.writes() => ErrorKind::OutcomeUnknown,
            408 | 425 | 500.. => ErrorKind::Unavailable,
            400..=499 => ErrorKind::Invalid { fields: field_names(json) },
            _ => ErrorKind::Contract,
        }
    }

    /// What it means that there is no such thing: of one record that it is missing, if the system itself said so. A proxy says
    /// the same while the system restarts.
    fn missing(&self, said_by_the_system: bool) -> ErrorKind {
        match self.purpose {
            Purpose::Fetch | Purpose::Update | Purpose::Delete | Purpose::Act => match said_by_the_system {
                true => ErrorKind::NotFound,
                false => ErrorKind::Unavailable,
            },
            Purpose::Pull | Purpose::Find | Purpose::Create | Purpose::Check => ErrorKind::Contract,
        }
    }

    fn help(&self, kind: &ErrorKind, status: u16, location: Option<&str>) -> Option<String> {
        let secrets = || {
            let names = self.manifest.auth.iter().flat_map(|auth| &auth.secrets);
            names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
        };
        match kind {
            ErrorKind::Unauthorized => Some(format!("Check {}: wrong, expired or revoked", secrets())),
            ErrorKind::Forbidden => {
                Some("The credentials are valid but may not do this: check the plan and the role".into())
            }
            ErrorKind::Contract if status == 404 => Some("There is no such address: is base_url right?".into()),
            ErrorKind::Unavailable if matches!(status, 404 | 410) => {
                Some("A proxy may have answered while the system was away; else: is base_url right?".into())
            }
            ErrorKind::Contract if (300..400).contains(&status) => {
                let host = location
                    .and_then(|text| url::Url::parse(text).ok())
                    .and_then(|url| url.host_str().map(str::to_owned));
                let to = host.map(|host| format!(" to {host}")).unwrap_or_default();
                Some(format!(
                    "It redirects{to}; redirects are not followed with credentials: set base_url to the final address"
                ))
            }
            _ => None,
        }
    }

    /// The vendor's own words, from the shapes in use.
    fn words(&self, json: &Value, body: &Bytes) -> String {
        const PLACES: [&str; 8] = [
            "/message",
            "/error/message",
            "/error",
            "/errors/0/detail",
            "/errors/0/title",
            "/errors/0/message",
            "/errors/0",
            "/detail",
        ];
        let text = PLACES.iter().find_map(|place| json.pointer(place)?.as_str());
        if let Some(text) = text {
            return self.redactor.quote(text, MESSAGE);
        }
        if let Some(errors) = json.get("errors").and_then(Value::as_object) {
            let all: Vec<&str> = errors.values().filter_map(|v| v.as_str().or_else(|| v.get(0)?.as_str())).collect();
            return self.redactor.quote(&all.join(" "), MESSAGE);
        }
        if looks_like_html(body) {
            return "an HTML page".to_owned();
        }
        self.redactor.quote(&String::from_utf8_lossy(body), EXCERPT)
    }
}

/// Remote names of the fields an error is about, from the shapes in use.
fn field_names(json: &Value) -> Vec<String> {
    if let Some(attributes) = json.get("attributes") {
        return names(attributes);
    }
    match json.get("errors") {
        Some(errors @ Value::Object(_)) => return names(errors),
        Some(Value::Array(list)) => {
            let pointed = |error: &Value| {
                let name = error.pointer("/source/pointer").or_else(|| error.get("field"))?.as_str()?;
                Some(name.rsplit('/').next().unwrap_or(name).to_owned())
            };
            return list.iter().filter_map(pointed).collect();
        }
        _ => {}
    }
    json.pointer("/data/params").or_else(|| json.get("fields")).map(names).unwrap_or_default()
}

/// Names in a text, a list of texts, or the keys of an object.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Object(object) => object.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// An id that stands alone or at the end of a sentence (`Existing ID: 123`).
fn last_word(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => {
            let word = text.split_whitespace().next_back()?.trim_end_matches(['.', ',', '"']);
            Some(word.to_owned()).filter(|word| !word.is_empty())
        }
        _ => None,
    }
}

fn looks_like_html(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(200)]).trim_start().to_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head")
}
