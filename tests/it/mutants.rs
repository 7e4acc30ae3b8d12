//! Planted faults: the laws must catch each of them, or they are no laws. `--features mutants` brings them in.

use counterpart::mutation::{Mutation, plant};

use crate::{message_worlds, worlds::run};

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

/// The same in the worlds of messages.
fn caught_in_chats(mutation: Mutation) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    plant(Some(mutation));
    let caught = (0..WORLDS).find_map(|seed| runtime.block_on(message_worlds::run(seed)).err());
    plant(None);
    caught
}

#[test]
fn a_send_that_is_retried_on_a_timeout_is_caught() {
    let law = caught_in_chats(Mutation::UnknownIsSentAgain);
    println!("{law:?}");
    assert!(law.is_some_and(|law| law.contains("L5")));
}

#[test]
fn a_send_that_is_stored_afterwards_is_caught() {
    let law = caught_in_chats(Mutation::SendsAreStoredAfterwards);
    println!("{law:?}");
    assert!(law.is_some_and(|law| law.contains("L5")));
}

#[test]
fn deliveries_dropped_by_their_id_are_caught() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    plant(Some(Mutation::HooksAreOneByDelivery));
    let caught = runtime.block_on(message_worlds::burst());
    plant(None);
    println!("{caught:?}");
    assert!(caught.is_err());
}
