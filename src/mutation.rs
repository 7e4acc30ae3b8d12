//! Faults that are planted on purpose, so that a test can prove that the tests of the laws catch them.
//!
//! Without the feature `mutants` nothing can be planted, and every question here is answered with a constant.
//! A fault holds for the thread that planted it: tests run side by side.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A call under way counts as over, so that a crash, or a slow answer, makes the ledger forget it.
    LedgerForgetsCallsUnderWay,
    /// A write that succeeded leaves the base as it was.
    PushForgetsTheBase,
    /// A merge does not look at what a record last agreed on.
    MergeForgetsTheBase,
    /// A send of which nobody knows whether it arrived is made again at once.
    UnknownIsSentAgain,
    /// A send is stored when it is over, so that a crash forgets it.
    SendsAreStoredAfterwards,
    /// Received webhooks with one delivery id count as one.
    HooksAreOneByDelivery,
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in this thread, or takes it out again.
#[cfg(feature = "mutants")]
pub fn plant(mutation: Option<Mutation>) {
    PLANTED.set(mutation);
}

/// Whether this fault is planted here.
#[cfg(feature = "mutants")]
pub(crate) fn is_planted(mutation: Mutation) -> bool {
    PLANTED.get() == Some(mutation)
}

/// Whether this fault is planted here: never.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_planted(_mutation: Mutation) -> bool {
    false
}
