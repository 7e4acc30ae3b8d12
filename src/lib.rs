//! Counterpart keeps chat systems and business systems in agreement.
//!
//! See ARCHITECTURE.md for the way data goes. The library is what the `counterpart` command is made of.

pub mod budget;
pub mod cli;
pub mod config;
pub mod engine;
pub mod mutation;
pub mod schedule;
pub mod serve;
pub mod store;
pub mod templates;
