//! Planted faults: the laws must catch each of them, or they are no laws. `--features mutants` brings them in.

use counterpart::mutation::{Mutation, plant};

use crate::worlds::run;

/// Worlds that are tried until the fault shows.
const WORLDS: u64 = 400;

/// The first law that the fault breaks.
fn caught(mutation: Mutation) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    plant(Some(mutation));
    let caught = (0..WORLDS).find_map(|seed| runtime.block_on(run(seed)).err());
    plant(None);
    caught
}

#[test]
fn a_push_that_forgets_the_base_is_caught() {
    let law = caught(Mutation::PushForgetsTheBase);
    println!("{law:?}");
    assert!(law.is_some());
}

#[test]
fn a_merge_that_forgets_the_base_is_caught() {
    let law = caught(Mutation::MergeForgetsTheBase);
    println!("{law:?}");
    assert!(law.is_some());
}
