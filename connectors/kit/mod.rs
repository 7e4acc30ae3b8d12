//! The kit: everything vendors have in common.
//!
//! Facts about a vendor are data ([`manifest`]); the built-in [`rest`] connector runs from them alone. A vendor
//! that needs a branch gets Rust code that wraps it and shares the same [`http`] client, budget and recordings.

pub mod act;
mod answer;
mod auth;
pub mod capabilities;
pub mod clock;
pub mod conformance;
pub mod connection;
pub mod connector;
pub mod error;
pub mod gate;
pub mod hook;
pub mod http;
pub mod live;
pub mod manifest;
pub(crate) mod matching;
mod odd;
pub mod paging;
mod problems;
mod rate;
pub mod recording;
pub mod redact;
pub mod rest;
pub mod script;
pub mod settings;
pub(crate) mod ticket;
pub mod time;
pub mod transport;
mod validate;

/// The target of spans. They say which run, stream, call or message it was, and hold no person and nothing that was sent.
pub const TRACES: &str = "traces";
