//! Forgetting what is over, once a day, a little at a time.

use counterpart_connectors::Millis;

use super::Engine;
use crate::store::{Result, Store};

const EVERY_MS: Millis = 86_400_000;
/// When the store was pruned last.
const PRUNED_AT: &str = "pruned_at";
/// Batches in one go; what is left over is for the next time.
const BATCHES: usize = 10;

impl Engine {
    /// Forgets what was over before the time that `[store] keep` says. A failure is told in the log and nowhere else: it is tried
    /// again at the end of the next run.
    pub(crate) async fn prune(&self) {
        let Some(keep_ms) = self.config.store.keep_ms else { return };
        if let Err(error) = prune(&self.store, keep_ms, self.clock.now()).await {
            tracing::warn!(%error, "what is over could not be forgotten");
        }
    }
}

async fn prune(store: &Store, keep_ms: Millis, now: Millis) -> Result<()> {
    let last = store.meta_get(PRUNED_AT).await?.and_then(|at| at.parse::<Millis>().ok());
    if last.is_some_and(|last| now - last < EVERY_MS) {
        return Ok(());
    }
    for _ in 0..BATCHES {
        if !store.prune(now - keep_ms).await?.is_cut() {
            return store.meta_set(PRUNED_AT, &now.to_string()).await;
        }
    }
    Ok(())
}
