//! Received webhooks: each is a hint, and the record it points at is read again through the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart_connectors::{ConnectorError, ErrorKind, Hint, Lane, Millis, PullMode, RemoteRecord};

use super::EngineError;
use super::session::{STREAM, Source, Wired};
use super::worker::{Turn, Worker};
use crate::mutation::{self, Mutation};
use crate::store::{DueHook, Incoming};

/// Deliveries taken at once: more than calls, because many may point at one record.
const BATCH: u64 = 200;
/// How often a delivery's records are asked for before it is left to a person.
const MAX_ATTEMPTS: i32 = 10;
/// The first pause after a failure; it doubles.
const BACKOFF_MS: Millis = 5_000;
/// A vendor that answers nothing at all is asked again after this long at most, and for this long.
const PAUSE_MS: Millis = 5 * 60_000;
const PATIENCE_MS: Millis = 86_400_000;
/// Records asked for in one turn: what they lead to does not wait for the others.
const CALLS: usize = 20;

/// Whether the records that a delivery points at were read.
type Taken = Result<(), ConnectorError>;
/// What was asked for in one turn, by stream and id.
type Outcomes = BTreeMap<(String, String), Taken>;

impl Worker<'_> {
    /// Reads what some of the deliveries to one connection pointed at. Several that point at one record cost one call. Ends
    /// where the vendor is not to be asked for now.
    pub(super) async fn intake(&self, wired: &Arc<Wired>) -> Result<Turn, EngineError> {
        let hooks = self.engine.store.next_hooks(&wired.name, self.engine.clock.now(), BATCH).await?;
        let mut outcomes = Outcomes::new();
        let mut done = Vec::new();
        let mut turn = Turn { more: hooks.len() as u64 == BATCH, ..Turn::default() };
        for hook in &hooks {
            let hints = hints(hook);
            let asks = hints.iter().filter(|hint| !outcomes.contains_key(&key(hint))).count();
            if self.engine.is_stopped() || (outcomes.len() + asks > CALLS && !outcomes.is_empty()) {
                turn.more = true;
                break;
            }
            let Err(error) = self.take_in(wired, hints, &mut outcomes).await? else {
                done.push(hook.id);
                continue;
            };
            let (is_stopped, is_passing) = (error.kind == ErrorKind::Stopped, error.kind.is_passing());
            // Whoever works after a stop finds it as it is.
            if !is_stopped {
                let now = self.engine.clock.now();
                let again = hook.attempts + 1 < MAX_ATTEMPTS || (is_passing && now - hook.received_at < PATIENCE_MS);
                let pause = BACKOFF_MS << hook.attempts.clamp(0, 10);
                let pause = if is_passing { pause.min(PAUSE_MS) } else { pause };
                self.engine.store.hook_failed(hook.id, &error.message, again.then_some(now + pause)).await?;
            }
            if is_stopped || is_passing {
                turn.more = false;
                turn.resting.insert(wired.name.clone());
                break;
            }
        }
        self.engine.store.hooks_done(&done, self.engine.clock.now()).await?;
        turn.pass.hooks = done.len() as u64;
        Ok(turn)
    }

    async fn take_in(
        &self,
        wired: &Arc<Wired>,
        hints: Vec<Hint>,
        outcomes: &mut Outcomes,
    ) -> Result<Taken, EngineError> {
        for hint in hints {
            let key = key(&hint);
            if !outcomes.contains_key(&key) {
                let outcome = self.fetch(wired, &hint.stream, &hint.external_id).await?;
                outcomes.insert(key.clone(), outcome);
            }
            if let Some(Err(error)) = outcomes.get(&key) {
                return Ok(Err(error.clone()));
            }
        }
        Ok(Ok(()))
    }

    /// Reads one record again; streams that nothing here lives on are left alone.
    async fn fetch(&self, wired: &Arc<Wired>, stream: &str, id: &str) -> Result<Taken, EngineError> {
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
            Err(error) => return Ok(Err(error)),
        };
        let now = self.engine.clock.now();
        self.engine.store.observe_one(&wired.name, stream, &row, now).await?;
        Ok(Ok(()))
    }

    /// Where single records cannot be read, the newest page is.
    async fn read_head(&self, source: &Source) -> Result<Taken, EngineError> {
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
            Err(error) => Ok(Err(error)),
        }
    }
}

/// The records a delivery points at. A message tells that its conversation changed.
fn hints(hook: &DueHook) -> Vec<Hint> {
    let mut hints: Vec<Hint> = serde_json::from_value(hook.hints.clone()).unwrap_or_default();
    for hint in hints.iter_mut().filter(|hint| hint.stream == "message") {
        if let Some(parent) = hint.parent.take() {
            hint.stream = "conversation".to_owned();
            hint.external_id = parent;
        }
    }
    hints
}

/// What makes two hints one.
fn key(hint: &Hint) -> (String, String) {
    match hint.delivery_id.as_ref().filter(|_| mutation::is_planted(Mutation::HooksAreOneByDelivery)) {
        Some(delivery) => (String::new(), delivery.clone()),
        None => (hint.stream.clone(), hint.external_id.clone()),
    }
}
