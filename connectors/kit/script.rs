//! A transport that answers from a function: for the conformance suite and for tests.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::transport::{Transport, TransportError};

type Answer = dyn Fn(&http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> + Send + Sync;

/// Answers every request by a function and remembers what was asked.
pub struct Script {
    answer: Box<Answer>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    /// Answers by `answer`.
    pub fn new(
        answer: impl Fn(&http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> + Send + Sync + 'static,
    ) -> Script {
        Script { answer: Box::new(answer), asked: Mutex::default() }
    }

    /// Gives the same answer every time.
    pub fn always(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Script {
        let headers: Vec<(String, String)> = headers.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let body = Bytes::from(body.into());
        Script::new(move |_| {
            let mut answer = http::Response::builder().status(status);
            for (name, value) in &headers {
                answer = answer.header(name, value);
            }
            answer.body(body.clone()).map_err(|error| TransportError::NotSent { reason: error.to_string() })
        })
    }

    /// Method, path and query of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let line = format!("{} {target}", request.method());
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        (self.answer)(&request)
    }
}
