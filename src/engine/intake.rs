//! Received webhooks: each is a hint, and the record it points at is read again through the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart_connectors::{ConnectorError, ErrorKind, Hint, Lane, Millis, PullMode, RemoteRecord};

use super::EngineError;
use super::session::{STREAM, Source, Wired};
use super::worker::{Pass, Worker};
use crate::mutation::{self, Mutation};
use crate::store::{Hook, Incoming};

/// Deliveries taken at once.
const BATCH: u64 = 200;
/// How often a delivery's records are asked for before it is left to a person.
const MAX_ATTEMPTS: i32 = 10;
/// The first pause after a failure; it doubles.
const BACKOFF_MS: Millis = 5_000;

/// Why a record was not read.
#[derive(Clone)]
enum Missed {
    /// The work ends; that is no failure of the delivery.
    Stopped,
    Failed(String),
}

impl From<ConnectorError> for Missed {
    fn from(error: ConnectorError) -> Missed {
        if error.kind == ErrorKind::Stopped { Missed::Stopped } else { Missed::Failed(error.message) }
    }
}

impl Worker<'_> {
    /// Reads what the deliveries to one connection pointed at. Several that point at one record cost one call.
    pub(super) async fn intake(&self, wired: &Arc<Wired>, pass: &mut Pass) -> Result<(), EngineError> {
        loop {
            let now = self.engine.clock.now();
            let hooks = self.engine.store.next_hooks(&wired.name, now, BATCH).await?;
            if hooks.is_empty() || self.engine.is_stopped() {
                return Ok(());
            }
            let mut outcomes: BTreeMap<(String, String), Result<(), Missed>> = BTreeMap::new();
            let mut done = Vec::new();
            for hook in &hooks {
                match self.take_in(wired, hook, &mut outcomes).await? {
                    Ok(()) => done.push(hook.id),
                    // Whoever works next finds it as it is.
                    Err(Missed::Stopped) => {
                        self.engine.store.hooks_done(&done, self.engine.clock.now()).await?;
                        return Ok(());
                    }
                    Err(Missed::Failed(why)) => {
                        let again = hook.attempts + 1 < MAX_ATTEMPTS;
                        let pause = BACKOFF_MS << hook.attempts.clamp(0, 10);
                        let not_before = again.then(|| self.engine.clock.now() + pause);
                        self.engine.store.hook_failed(hook.id, &why, not_before).await?;
                    }
                }
            }
            self.engine.store.hooks_done(&done, self.engine.clock.now()).await?;
            pass.hooks += done.len() as u64;
        }
    }

    async fn take_in(
        &self,
        wired: &Arc<Wired>,
        hook: &Hook,
        outcomes: &mut BTreeMap<(String, String), Result<(), Missed>>,
    ) -> Result<Result<(), Missed>, EngineError> {
        let hints: Vec<Hint> = serde_json::from_value(hook.hints.clone()).unwrap_or_default();
        for hint in hints {
            // A message tells that its conversation changed.
            let (stream, id) = match hint.parent {
                Some(parent) if hint.stream == "message" => ("conversation".to_owned(), parent),
                _ => (hint.stream, hint.external_id),
            };
            let key = match hint.delivery_id.filter(|_| mutation::is_planted(Mutation::HooksAreOneByDelivery)) {
                Some(delivery) => (String::new(), delivery),
                None => (stream.clone(), id.clone()),
            };
            if !outcomes.contains_key(&key) {
                let outcome = self.fetch(wired, &stream, &id).await?;
                outcomes.insert(key.clone(), outcome);
            }
            if let Some(Err(why)) = outcomes.get(&key) {
                return Ok(Err(why.clone()));
            }
        }
        Ok(Ok(()))
    }

    /// Reads one record again; streams that nothing here lives on are left alone.
    async fn fetch(&self, wired: &Arc<Wired>, stream: &str, id: &str) -> Result<Result<(), Missed>, EngineError> {
        let own = self.sources.iter().find(|source| source.wired.name == wired.name && source.stream == stream);
        let has_people = wired.connection.capabilities_of(STREAM).is_some();
        let contacts = (stream == STREAM && has_people).then(|| Source::contacts(wired));
        let Some(source) = own.or(contacts.as_ref()) else { return Ok(Ok(())) };
        if !source.capabilities.fetch {
            return self.read_head(source).await;
        }
        let row = match wired.connection.fetch(Lane::Repair, stream, id).await {
            Ok(record) => source.observe(record).row,
            Err(error) if error.kind == ErrorKind::NotFound => {
                let body = serde_json::Value::Null;
                let record = RemoteRecord { id: id.to_owned(), body, updated_at: None, version: None, deleted: true };
                Incoming { deleted: true, ..source.observe(record).row }
            }
            Err(error) => return Ok(Err(error.into())),
        };
        let now = self.engine.clock.now();
        self.engine.store.observe_one(&wired.name, stream, &row, now).await?;
        Ok(Ok(()))
    }

    /// Where single records cannot be read, the newest page is.
    async fn read_head(&self, source: &Source) -> Result<Result<(), Missed>, EngineError> {
        let mode = if source.capabilities.head { PullMode::Head } else { PullMode::Full };
        let request = counterpart_connectors::PullRequest { stream: &source.stream, mode, cursor: None, parent: None };
        match source.wired.connection.pull(Lane::Repair, request).await {
            Ok(page) => {
                let now = self.engine.clock.now();
                for record in page.records {
                    let row = source.observe(record).row;
                    self.engine.store.observe_one(&source.wired.name, &source.stream, &row, now).await?;
                }
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}
