//! The call budget: one durable ledger per vendor account, whatever process asks.
//!
//! Calls are the scarce thing. Every call of every process draws from the account's ledger in the state
//! store before it is made, so that cron, daemon and several workers together stay inside the limit, also
//! right after a crash:
//!
//! - A draw counts from the moment it is granted until one full window after its answer: the vendor may
//!   count the call anywhere in between. A call whose answer is never recorded (kill -9) counts as answered
//!   as late as an answer can come. So no sliding window of the vendor ever sees more than the limit.
//! - Urgent lanes may use all of a window. The others leave a reserve and are paced, evenly over the window
//!   and across processes (governor decides, its state lives in the ledger), so that an urgent call waits
//!   for at most one token however long the backfill behind it is.
//! - Callers of one process that wait for the same tokens are served by urgency, then in order of arrival.
//! - What the vendor says (429, `Retry-After`, rate headers) lowers the limit at once and raises it slowly.
//!
//! All waiting goes through the [`Clock`](counterpart_connectors::Clock), and nothing is held while waiting.

mod draw;
mod forecast;
mod learn;
mod ledger;
mod pace;
mod pool;
mod queue;
mod standing;
mod window;

pub use forecast::forecast;
pub use ledger::{AccountBudget, Ledger};
pub use standing::{Standing, standing};

/// The class of windows that count every call, whatever its own class.
pub(crate) const EVERY_CALL: &str = "all";
