//! Errors of a connector, by what the caller will do about them.

use super::clock::Millis;

/// A failed call, with a message that says what to do and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorError {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// For a person: what happened and what to do.
    pub message: String,
    /// The vendor's status, when there was an answer.
    pub status: Option<u16>,
}

/// What a failed call means for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The credentials are missing or wrong.
    Unauthorized,
    /// The credentials are right, but may not do this.
    Forbidden,
    /// There is no such record.
    NotFound,
    /// The vendor refuses the content.
    Invalid {
        /// Remote names of the refused fields, as far as the vendor says.
        fields: Vec<String>,
    },
    /// Another record holds a value that must be unique.
    Conflict {
        /// Id of that record, when it could be found exactly.
        holder: Option<String>,
        /// Remote names of the fields that clash.
        keys: Vec<String>,
    },
    /// Too many calls.
    RateLimited {
        /// When to try again.
        until: Option<Millis>,
    },
    /// The vendor cannot answer now; nothing was changed.
    Unavailable,
    /// A write may or may not have happened.
    OutcomeUnknown,
    /// The connector cannot do this.
    Unsupported,
    /// The answer is not what the vendor promises.
    Contract,
    /// The program is shutting down, or its own budget ledger failed.
    Stopped,
}

impl ErrorKind {
    /// Short stable name.
    pub fn name(&self) -> &'static str {
        match self {
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Forbidden => "forbidden",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Invalid { .. } => "invalid",
            ErrorKind::Conflict { .. } => "conflict",
            ErrorKind::RateLimited { .. } => "rate_limited",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::OutcomeUnknown => "outcome_unknown",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Contract => "contract",
            ErrorKind::Stopped => "stopped",
        }
    }

    /// Whether it says something about the vendor and the moment, and nothing about what was asked for: anything else
    /// would fail alike now.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            ErrorKind::Unauthorized | ErrorKind::RateLimited { .. } | ErrorKind::Unavailable | ErrorKind::Stopped
        )
    }
}

impl ConnectorError {
    /// An error without a status.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ConnectorError { kind, message: message.into(), status: None }
    }

    /// The connector cannot do `what`.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    /// The answer is not what the vendor promises.
    pub fn contract(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Contract, what)
    }
}
