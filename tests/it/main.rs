//! The one integration binary: a further one would link the whole tree again.

#![allow(clippy::disallowed_methods, reason = "tests read their environment and live in real time where they serve")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured, and what a replayed world did")]

mod acceptance;
mod budget;
mod budget_world;
mod cli;
mod flows;
mod flows_acts;
mod flows_echoes;
mod flows_links;
mod flows_medusa;
mod flows_outages;
mod flows_people;
mod flows_readings;
mod flows_sessions;
mod flows_shopify;
mod flows_tickets;
mod health;
mod kill;
mod kill_serve;
mod logs;
mod message_worlds;
#[cfg(feature = "mutants")]
mod mutants;
mod odd_texts;
mod postgres;
mod real_conversations;
mod real_medusa;
mod real_rt;
mod requirements;
mod serve;
mod sim;
mod store;
mod store_concurrency;
mod store_databases;
mod store_errors;
mod storefront;
mod subscriptions;
#[cfg(feature = "otlp")]
mod telemetry;
mod threads;
mod worlds;
