//! What goes on beside the syncs: received webhooks, events, and what is done about them in chats.
//!
//! There is one worker at a time, whatever the number of processes: it holds a lease of its own, so that messages go out
//! while a long sync holds its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;

use counterpart_connectors::kit::TRACES;
use counterpart_connectors::{Connection, Millis, OpenGate};
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use tracing::field::Empty;

use super::holder::{holder, readable, surely_dead};
use super::report::{StreamReport, Verdict};
use super::session::{LEASE_MS, Source, Wired};
use super::unread::{is_read, unread_stream};
use super::{Engine, EngineError};
use crate::budget::Ledger;
use crate::store::{Store, StoreError};

/// The lease of the one worker.
const WORK: &str = "messages";
/// Why nothing more is done for a message.
const GONE: &str = "the connection is gone";
/// A vendor's clock may be behind ours by this much when a stream is first read: what happened just before is still news.
pub(super) const GRACE_MS: Millis = 60_000;

/// Does what the flows ask for. Made by [`Engine::worker`]; [`Worker::close`] lets go of it.
pub struct Worker<'e> {
    pub(super) engine: &'e Engine,
    pub(super) wired: BTreeMap<String, Arc<Wired>>,
    /// Streams that are read as a whole, by connection and stream.
    pub(super) sources: Vec<Source>,
    pub(super) ledger: Arc<Ledger>,
    holder: String,
    run: i64,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Received webhooks whose records were read.
    pub hooks: u64,
    /// Events that were new.
    pub events: u64,
    /// Messages and notes that are known to have arrived.
    pub sent: u64,
    /// Conversations closed or opened.
    pub resolved: u64,
    /// Tickets opened, or fields of them set.
    pub tickets: u64,
    /// Messages that will not be sent, each with its reason in the store.
    pub dropped: u64,
    /// Messages that the vendor refused.
    pub refused: u64,
    /// Attempts whose outcome is not known yet.
    pub unknown: u64,
}

impl AddAssign for Pass {
    fn add_assign(&mut self, other: Pass) {
        self.hooks += other.hooks;
        self.events += other.events;
        self.sent += other.sent;
        self.resolved += other.resolved;
        self.tickets += other.tickets;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }
}

/// What one turn did: some of what is due, so that nothing urgent waits long for what is not.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What was done.
    pub pass: Pass,
    /// There is more to be done at once.
    pub more: bool,
    /// Messages that were looked at, whatever became of them.
    pub(super) tried: u64,
    /// Connections whose vendor is not to be asked for now.
    pub(super) resting: BTreeSet<String>,
}

impl Turn {
    fn is_idle(&self) -> bool {
        self.tried == 0 && self.pass == Pass::default()
    }

    fn add(&mut self, other: Turn) {
        self.pass += other.pass;
        self.more |= other.more;
        self.tried += other.tried;
        self.resting.extend(other.resting);
    }
}

/// Who does what the flows ask for now, this process or another; none when nobody does, as far as can be told from here.
pub async fn message_worker(store: &Store, now: Millis) -> Result<Option<String>, StoreError> {
    let found = store.lease_holder(WORK).await?;
    Ok(found.filter(|(other, until)| *until > now && !surely_dead(other)).map(|(other, _)| readable(&other)))
}

/// Pages of a reading of everything that are read before what changed is looked for again.
const PORTION: u64 = 20;
/// Conversations at each connection that `sync` reads again to see what became of messages.
const FOLLOW_UP: u64 = 50;

impl Engine {
    /// Becomes the worker; [`EngineError::Working`] when another process is.
    pub async fn worker(&self) -> Result<Worker<'_>, EngineError> {
        let holder = holder();
        if let Some((holder, until)) = self.take(WORK, &holder).await? {
            return Err(EngineError::Working { holder, until });
        }
        match self.make_worker(&holder).await {
            Ok(worker) => Ok(worker),
            Err(error) => {
                self.store.release_lease(WORK, &holder).await?;
                Err(error)
            }
        }
    }

    /// Reads the streams that the flows live on and does what is due, once: what `sync` does beside its contacts.
    pub async fn work(&self) -> Result<(Vec<StreamReport>, Pass), EngineError> {
        let worker = self.worker().await?;
        let outcome: Result<_, EngineError> = async {
            let done = (worker.read().await?, worker.pass().await?);
            worker.follow_up(FOLLOW_UP).await?;
            Ok(done)
        }
        .await;
        let closed = worker.close().await;
        let done = outcome?;
        closed?;
        Ok(done)
    }

    /// Every connection, open for webhooks: to verify one makes no call, so that no budget is asked.
    pub fn receivers(&self) -> Result<BTreeMap<String, Connection>, EngineError> {
        let open = |name: &String| Ok((name.clone(), self.wire(name, Arc::new(OpenGate))?.connection));
        self.config.connections.keys().map(open).collect()
    }

    /// The connections for which something waits, whatever the flows of today say. What waits for one that is not
    /// configured any more is given up, or, where an attempt may have arrived, left to a person.
    async fn still_asked(&self, now: Millis) -> Result<Vec<String>, EngineError> {
        let (there, gone): (Vec<String>, Vec<String>) = self
            .store
            .open_message_connections()
            .await?
            .into_iter()
            .partition(|name| self.config.connections.contains_key(name));
        for name in gone {
            self.store.message_connection_gone(&name, GONE, now).await?;
        }
        Ok(there)
    }

    async fn make_worker(&self, holder: &str) -> Result<Worker<'_>, EngineError> {
        let now = self.clock.now();
        let streams = super::flow_streams(&self.config);
        let mut names: BTreeSet<String> = streams.iter().map(|(name, _)| name.clone()).collect();
        // Webhooks come to connections without flows too.
        let receivers = self.receivers()?.into_iter().filter(|(_, connection)| connection.takes_hooks());
        names.extend(receivers.map(|(name, _)| name));
        let kept = self.config.connections.iter().filter(|(_, connection)| connection.keep_hooks);
        names.extend(kept.map(|(name, _)| name.clone()));
        names.extend(self.still_asked(now).await?);
        // The lease is ours: whoever began those is dead.
        self.store.fail_orphaned_kind(WORK, now).await?;
        let run = self.store.start_run("messages", &[], "", now).await?;
        let budgets = self.budgets(&names)?;
        let ledger = Arc::new(Ledger::new(self.store.clone(), self.clock.clone(), budgets, run, holder.to_owned()));
        let gate = Arc::new(self.gate(&ledger, vec![WORK.to_owned()], holder, self.stop.clone()));
        let mut wired = BTreeMap::new();
        for name in &names {
            wired.insert(name.clone(), Arc::new(self.wire(name, gate.clone())?));
        }
        let mut sources = Vec::new();
        for (name, stream) in streams {
            let wired: &Arc<Wired> = &wired[&name];
            let Some(capabilities) = wired.connection.capabilities_of(&stream) else { continue };
            if is_read(&wired.connection, &stream) {
                let document = self.document(&name, &stream).cloned();
                sources.push(Source { wired: wired.clone(), stream, capabilities, document });
            }
        }
        let worker = Worker { engine: self, wired, sources, ledger, holder: holder.to_owned(), run };
        for source in &worker.sources {
            worker.reread(source).await?;
        }
        Ok(worker)
    }
}

impl Worker<'_> {
    /// Reads every stream that the flows live on, as far as is due.
    pub async fn read(&self) -> Result<Vec<StreamReport>, EngineError> {
        let mut reports = Vec::new();
        let all: Vec<&Arc<Wired>> = self.wired.values().collect();
        for one in self.engine.each(all, |wired| self.read_streams(wired)).await {
            reports.extend(one?);
        }
        Ok(reports)
    }

    /// Reads streams of one connection, a long reading of everything only for some pages: what changed meanwhile comes first.
    /// Returns the streams of which there is more to be read at once; `these` are to be read then, and without it all.
    pub async fn read_some(&self, connection: &str, these: Option<&[String]>) -> Result<Vec<String>, EngineError> {
        let Some(wired) = self.wired.get(connection) else { return Ok(Vec::new()) };
        let mut more = Vec::new();
        for source in self.sources_of(wired).filter(|source| these.is_none_or(|these| these.contains(&source.stream))) {
            if self.read_stream(source, Some(PORTION)).await?.more {
                more.push(source.stream.clone());
            }
        }
        Ok(more)
    }

    async fn read_streams(&self, wired: &Arc<Wired>) -> Result<Vec<StreamReport>, EngineError> {
        let mut reports = Vec::new();
        for source in self.sources_of(wired) {
            reports.push(self.read_stream(source, None).await?);
        }
        Ok(reports)
    }

    async fn read_stream(&self, source: &Source, pages: Option<u64>) -> Result<StreamReport, EngineError> {
        self.live_since(source).await?;
        self.engine.pull(source, pages).await
    }

    /// Reads what webhooks pointed at, derives events, and does what is due in chats, until nothing more is due.
    pub async fn pass(&self) -> Result<Pass, EngineError> {
        let mut all: Vec<&Arc<Wired>> = self.wired.values().collect();
        let mut pass = Pass::default();
        loop {
            let turn = self.turn_at(&all).await?;
            pass += turn.pass;
            all.retain(|wired| !turn.resting.contains(&wired.name));
            if !turn.more || self.engine.is_stopped() {
                return Ok(pass);
            }
        }
    }

    /// Some of that for one connection, whatever the others wait for.
    pub async fn turn(&self, connection: &str) -> Result<Turn, EngineError> {
        let Some(wired) = self.wired.get(connection) else { return Ok(Turn::default()) };
        self.turn_at(&[wired]).await
    }

    /// The connections it works at.
    pub fn connections(&self) -> impl Iterator<Item = &str> {
        self.wired.keys().map(String::as_str)
    }

    async fn turn_at(&self, all: &[&Arc<Wired>]) -> Result<Turn, EngineError> {
        let span = tracing::info_span!(target: TRACES, "pass", run = self.run, idle = Empty);
        let turn = self.turn_inner(all).instrument(span.clone()).await?;
        if turn.is_idle() {
            span.record("idle", true);
        }
        Ok(turn)
    }

    async fn turn_inner(&self, all: &[&Arc<Wired>]) -> Result<Turn, EngineError> {
        let mut turn = Turn::default();
        for one in self.engine.each(all, |wired| self.intake(wired)).await {
            turn.add(one?);
        }
        for source in all.iter().flat_map(|wired| self.sources_of(wired)) {
            self.derive(source, &mut turn.pass).await?;
        }
        for one in self.engine.each(all, |wired| self.deliver(wired)).await {
            turn.add(one?);
        }
        self.ledger.flush().await?;
        Ok(turn)
    }

    fn sources_of(&self, wired: &Wired) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.wired.name == wired.name)
    }

    /// When something that waits at a connection is due, whatever comes in until then.
    pub async fn next_at(&self, connection: &str) -> Result<Option<Millis>, EngineError> {
        Ok(self.engine.store.next_message_at(connection).await?)
    }

    /// Shows that it is still there; false when another process has taken over.
    pub async fn renew(&self) -> Result<bool, EngineError> {
        Ok(self.engine.store.renew_lease(WORK, &self.holder, self.engine.clock.now(), LEASE_MS).await?)
    }

    /// Keeps the work through what takes long before the first pass; an error when another process has taken over.
    pub(super) async fn keep(&self) -> Result<(), EngineError> {
        match self.engine.take(WORK, &self.holder).await? {
            Some((holder, until)) => Err(EngineError::Working { holder, until }),
            None => Ok(()),
        }
    }

    /// Lets go of the work.
    pub async fn close(self) -> Result<(), EngineError> {
        self.ledger.close().await?;
        let mut unread = Vec::new();
        for source in &self.sources {
            unread.extend(unread_stream(&self.engine.store, &source.wired.name, &source.stream).await?);
        }
        let verdict = if unread.is_empty() { Verdict::Ok } else { Verdict::Partial };
        let (summary, now) = (serde_json::json!({ "unread": unread }), self.engine.clock.now());
        self.engine.store.finish_run(self.run, verdict.as_str(), &summary, now).await?;
        Ok(self.engine.store.release_lease(WORK, &self.holder).await?)
    }

    /// Since when what happens in a stream is news: nothing that was there before the first look ever reaches a customer.
    pub(super) async fn live_since(&self, source: &Source) -> Result<Millis, EngineError> {
        self.since(&source.wired.name, &source.stream, self.engine.clock.now() - GRACE_MS).await
    }

    /// The same of one kind of thing that a connection tells of; `first` where nobody asked before.
    pub(super) async fn since(&self, connection: &str, kind: &str, first: Millis) -> Result<Millis, EngineError> {
        let key = format!("live_since:{connection}:{kind}");
        if let Some(known) = self.engine.store.meta_get(&key).await?.and_then(|text| text.parse().ok()) {
            return Ok(known);
        }
        self.engine.store.meta_set(&key, &first.to_string()).await?;
        Ok(first)
    }
}
