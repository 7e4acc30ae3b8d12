//! How a run tells what it is doing while it does it.

/// Something worth showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A stream is being read.
    Pulling {
        /// Name of the connection.
        connection: &'a str,
        /// Name of the stream.
        stream: &'a str,
        /// Rows read so far.
        done: u64,
        /// Rows the vendor announced.
        total: Option<u64>,
        /// How long the rest takes inside the budget.
        eta_ms: Option<i64>,
    },
    /// Changed records are being merged and planned.
    Reconciling {
        /// Records done.
        done: u64,
        /// Records that were due at the start.
        total: u64,
    },
    /// Planned writes are being carried out.
    Pushing {
        /// Name of the connection.
        connection: &'a str,
        /// Operations done.
        done: u64,
        /// Operations planned.
        total: u64,
        /// How long the rest takes inside the budget.
        eta_ms: Option<i64>,
    },
    /// A sentence for the operator.
    Note(&'a str),
}

/// Where events go: a progress bar, log lines, or nowhere.
pub trait Progress: Send + Sync {
    /// Takes one event; must return at once.
    fn event(&self, event: Event<'_>);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
