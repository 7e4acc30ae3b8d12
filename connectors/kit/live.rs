//! The transport that really sends.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::transport::{Transport, TransportError};

/// How patient the live transport is and how much it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    /// Longest time to connect.
    pub connect: Duration,
    /// Longest time for a whole exchange.
    pub total: Duration,
    /// Largest answer in bytes, unpacked.
    pub max_body: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        LiveOptions { connect: Duration::from_secs(10), total: Duration::from_secs(30), max_body: 32 * 1024 * 1024 }
    }
}

/// Sends over the network; follows no redirect, because it would carry the credentials elsewhere.
#[derive(Clone, Debug)]
pub struct LiveTransport {
    client: reqwest::Client,
    options: LiveOptions,
}

impl LiveTransport {
    /// A transport with a connection pool of its own.
    pub fn new(options: LiveOptions) -> Result<LiveTransport, TransportError> {
        // An error means that some provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that sends")]
        let client = reqwest::Client::builder()
            .user_agent(concat!("counterpart/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect)
            .timeout(options.total)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| TransportError::NotSent { reason: reason(error) })?;
        Ok(LiveTransport { client, options })
    }

    async fn body(&self, response: &mut reqwest::Response) -> Result<Bytes, TransportError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > self.options.max_body {
                let reason = format!("the answer is larger than {} bytes", self.options.max_body);
                return Err(TransportError::NoAnswer { reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

#[async_trait]
impl Transport for LiveTransport {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let request = reqwest::Request::try_from(request).map_err(failure)?;
        let mut response = self.client.execute(request).await.map_err(failure)?;
        let body = self.body(&mut response).await?;
        let mut answer = http::Response::new(body);
        *answer.status_mut() = response.status();
        std::mem::swap(answer.headers_mut(), response.headers_mut());
        Ok(answer)
    }
}

fn failure(error: reqwest::Error) -> TransportError {
    if error.is_connect() || error.is_builder() {
        TransportError::NotSent { reason: reason(error) }
    } else {
        TransportError::NoAnswer { reason: reason(error) }
    }
}

/// The whole chain of causes, without the address: its query may hold credentials.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
