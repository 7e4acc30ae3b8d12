//! A reading file that changes: what is stored is read anew with it, without a call, and what that shows is history. Otherwise
//! the parcels of old orders would be news on the day on which somebody says where an order lists them, and old tickets would
//! not be found by the chat that they name until each of them changes.

use counterpart_core::business::{PARCELS, Topic};
use counterpart_core::document::Document;
use sha2::{Digest, Sha256};

use super::EngineError;
use super::observe::fingerprint;
use super::session::Source;
use super::worker::{GRACE_MS, Pass, Worker};
use crate::store::{Changed, Restated};

/// Records looked at at once.
const BATCH: u64 = 200;

impl Worker<'_> {
    /// Looks at what is stored of a stream once for every change of its reading file, before anything is read with it.
    pub(super) async fn reread(&self, source: &Source) -> Result<(), EngineError> {
        let Some(document) = &source.document else { return Ok(()) };
        let store = &self.engine.store;
        let key = format!("reading:{}:{}", source.wired.name, source.stream);
        let (known, reading) = (store.meta_get(&key).await?, identity(document));
        if known.as_ref() == Some(&reading) {
            return Ok(());
        }
        let live_since = self.live_since(source).await?;
        if document.lists(PARCELS) {
            // With the first reading file they are as new as their orders.
            let since = if known.is_none() { live_since } else { self.engine.clock.now() - GRACE_MS };
            self.since(&source.wired.name, Topic::Shipment.as_str(), since).await?;
        }
        // What was read with the old file and not looked at yet is news as ever.
        self.derive(source, &mut Pass::default()).await?;
        match self.remember(source, document).await? {
            true => Ok(store.meta_set(&key, &reading).await?),
            false => Ok(()),
        }
    }

    /// False when it was stopped on the way: the next worker begins anew.
    async fn remember(&self, source: &Source, document: &Document) -> Result<bool, EngineError> {
        let store = &self.engine.store;
        let connection = source.wired.name.as_str();
        let mut after = 0;
        loop {
            if self.engine.is_stopped() {
                return Ok(false);
            }
            self.keep().await?;
            let as_of = store.revision().await?;
            let rows = store.as_last_shown(connection, &source.stream, after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(true) };
            after = last.id;
            let read = |row: Changed| Changed { value: document.value(&row.external_id, &row.value), ..row };
            let rows: Vec<Changed> = rows.into_iter().map(read).collect();
            let restated: Vec<Restated> = rows.iter().map(restated).collect();
            store.restate(&restated, as_of).await?;
            self.index(&source.stream, &rows).await?;
            let now = self.engine.clock.now();
            let events = self.events(source, &rows, true, now).await?;
            store.save_events(connection, &events, &[], as_of, now).await?;
        }
    }
}

fn restated(row: &Changed) -> Restated {
    let fields = row.value.to_string();
    Restated { id: row.id, fingerprint: fingerprint(&fields, false), fields }
}

/// Another one for every change; that another version of the program may have another one for the same file costs a look.
fn identity(document: &Document) -> String {
    Sha256::digest(format!("{document:?}")).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
