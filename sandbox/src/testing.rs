//! One fake with a short way to call it, for the tests of this crate.

use serde_json::Value;

use crate::{Faults, InstanceSpec, Millis, NewPerson, Options, Reply, Sandbox, Vendor};

pub(crate) struct Fake {
    pub sandbox: Sandbox,
    headers: Vec<(String, String)>,
}

/// An answer; the status is 0 where the connection was cut.
pub(crate) struct Seen {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Fake {
    /// An instance `it`.
    pub fn new(vendor: Vendor, settings: &[(&str, &str)]) -> Fake {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let spec = InstanceSpec { name: "it".to_owned(), vendor, settings };
        let options = Options { seed: 7, faults: Faults::none(), instances: vec![spec] };
        Fake { sandbox: Sandbox::new(options), headers: Vec::new() }
    }

    /// Sends this with every call.
    pub fn header(mut self, name: &str, value: &str) -> Fake {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn person(&self, given: &str, email: &str) -> String {
        let person = NewPerson { given: given.to_owned(), email: Some(email.to_owned()), ..NewPerson::default() };
        self.sandbox.create(0, "it", &person)
    }

    pub fn get(&self, now: Millis, path: &str) -> Seen {
        self.call(now, "GET", path, &[], None)
    }

    pub fn post(&self, now: Millis, path: &str, body: &Value) -> Seen {
        self.call(now, "POST", path, &[], Some(body))
    }

    pub fn put(&self, now: Millis, path: &str, body: &Value) -> Seen {
        self.call(now, "PUT", path, &[], Some(body))
    }

    pub fn call(&self, now: Millis, method: &str, path: &str, more: &[(&str, &str)], body: Option<&Value>) -> Seen {
        let mut request = http::Request::builder().method(method).uri(format!("/it{path}"));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        match self.sandbox.handle(now, request.body(body).unwrap()) {
            Reply::Answer { response, .. } => {
                let (head, body) = response.into_parts();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                Seen { status: head.status.as_u16(), headers: head.headers, body }
            }
            Reply::Cut { .. } => Seen { status: 0, headers: http::HeaderMap::new(), body: Value::Null },
        }
    }
}
