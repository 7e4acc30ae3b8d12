//! The seam to the network: one request in, one answer out.

use async_trait::async_trait;
use bytes::Bytes;

/// Performs one HTTP exchange; retries, limits and credentials are not its business.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `request` and returns the whole answer.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError>;
}

/// Why an exchange gave no answer; the difference decides whether a write may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request surely never reached the other end (name look-up, refused connection, TLS).
    #[error("not sent: {reason}")]
    NotSent {
        /// What went wrong.
        reason: String,
    },
    /// The request left, but no whole answer came back: it may have been processed.
    #[error("no answer: {reason}")]
    NoAnswer {
        /// What went wrong.
        reason: String,
    },
}
