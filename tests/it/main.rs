//! The one integration binary: a further one would link the whole tree again.

mod budget;
mod budget_world;
mod postgres;
mod sim;
mod store;
mod store_concurrency;
mod store_databases;
mod store_errors;
mod worlds;
