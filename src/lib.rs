//! Counterpart.

pub mod budget;
pub mod store;
