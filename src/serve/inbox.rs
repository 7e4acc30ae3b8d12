//! From verified deliveries to rows: many in one commit, and nobody is answered before his is on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Bells;
use crate::engine::Engine;
use crate::store::{NewHook, Store, StoreError};

/// Deliveries that may wait for their commit; more are asked to come again.
const QUEUE: usize = 4_096;
/// Deliveries in one commit.
const BATCH: usize = 500;

/// Why a delivery was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unstored {
    /// Too many wait already.
    Full,
    /// The store failed; the log says how.
    Failed,
}

struct Waiting {
    hook: NewHook,
    answer: oneshot::Sender<bool>,
    /// The memory its body takes.
    _held: Option<OwnedSemaphorePermit>,
}

/// Where deliveries are handed in.
pub(super) struct Inbox(mpsc::Sender<Waiting>);

impl Inbox {
    /// Returns when the delivery is stored, or will not be.
    pub async fn store(&self, hook: NewHook, held: Option<OwnedSemaphorePermit>) -> Result<(), Unstored> {
        let (answer, stored) = oneshot::channel();
        self.0.try_send(Waiting { hook, answer, _held: held }).map_err(|_| Unstored::Full)?;
        if stored.await.unwrap_or(false) { Ok(()) } else { Err(Unstored::Failed) }
    }

    /// How many wait for their commit.
    pub fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }
}

/// An inbox, and the task that stores what comes into it until `closing`, and then what is still in it.
pub(super) fn open(
    engine: Arc<Engine>,
    bells: Arc<Bells>,
    closing: CancellationToken,
) -> (Inbox, impl Future<Output = ()> + Send) {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let writer = async move {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                biased;
                taken = receiver.recv_many(&mut batch, BATCH) => taken,
                () = closing.cancelled(), if !receiver.is_closed() => {
                    receiver.close();
                    continue;
                }
            };
            if taken == 0 {
                return;
            }
            write(&engine, &bells, &mut batch).await;
        }
    };
    (Inbox(sender), writer)
}

async fn write(engine: &Engine, bells: &Bells, batch: &mut Vec<Waiting>) {
    let (hooks, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|one| (one.hook, (one.answer, one._held))).unzip();
    let stored = receive(engine.store(), &hooks, engine.clock().now()).await;
    for ((answer, _held), stored) in answers.into_iter().zip(stored) {
        // Whoever no longer listens gets it again from the vendor, and reads the record twice.
        let _ = answer.send(stored);
    }
    let connections: BTreeSet<&str> = hooks.iter().map(|hook| hook.connection.as_str()).collect();
    connections.into_iter().for_each(|connection| bells.ring(connection));
}

/// Stores deliveries together; where the database refuses them, one by one, so that one that cannot be stored does not
/// cost the others.
async fn receive(store: &Store, hooks: &[NewHook], now: i64) -> Vec<bool> {
    match store.receive(hooks, now).await {
        Ok(()) => return vec![true; hooks.len()],
        Err(StoreError::Db(error)) if hooks.len() > 1 => {
            tracing::warn!(%error, "{} webhooks could not be stored together", hooks.len());
        }
        Err(error) => {
            tracing::error!(%error, "{} webhooks could not be stored", hooks.len());
            return vec![false; hooks.len()];
        }
    }
    let mut stored = Vec::with_capacity(hooks.len());
    for hook in hooks {
        let outcome = store.receive(std::slice::from_ref(hook), now).await;
        if let Err(error) = &outcome {
            tracing::error!(%error, connection = hook.connection, "a webhook could not be stored");
        }
        stored.push(outcome.is_ok());
    }
    stored
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::{Inbox, Unstored};
    use crate::store::NewHook;

    /// Whoever comes when the queue is full is told so at once, and nobody before him is forgotten.
    #[test]
    fn a_full_inbox_says_so() {
        let (sender, mut receiver) = mpsc::channel(2);
        let inbox = Inbox(sender);
        let hook = || NewHook { connection: "shop".to_owned(), hints: serde_json::json!([]), body: String::new() };
        for _ in 0..2 {
            assert_eq!(inbox.store(hook(), None).now_or_never(), None);
        }
        assert_eq!(inbox.waiting(), 2);
        assert_eq!(inbox.store(hook(), None).now_or_never(), Some(Err(Unstored::Full)));
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok() && receiver.try_recv().is_err());
    }
}
