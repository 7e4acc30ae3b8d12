//! One run's hold on its connections: leases, open connections with their budget, and what an earlier run left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use counterpart_connectors::{
    Call, Capabilities, Connection, ConnectionSpec, Gate, GateError, Millis, RateSignal, RemoteRecord,
};
use counterpart_core::Document;
use counterpart_core::mapping::Mapping;
use tokio_util::sync::CancellationToken;

use super::holder::{holder, readable, surely_dead};
use super::observe::{Observed, observe, observe_document};
use super::{Engine, EngineError};
use crate::budget::{AccountBudget, Ledger};
use crate::config::{ConnectionConfig, SyncConfig};
use crate::store::{Store, StoreError};

/// How long a lease lasts without a sign of life; longer than any wait for the budget that is not given up.
pub(super) const LEASE_MS: i64 = 15 * 60_000;

/// The one stream that contacts are read from.
pub(super) const STREAM: &str = "contact";

/// One connection as a run uses it.
pub(super) struct Wired {
    pub name: String,
    pub config: ConnectionConfig,
    pub connection: Connection,
    pub mapping: Arc<Mapping>,
}

impl Wired {
    pub fn capabilities(&self) -> &Capabilities {
        self.connection.capabilities()
    }

    pub fn region(&self) -> Option<&str> {
        self.config.region.as_deref()
    }
}

/// One stream of one connection, and how its records are read.
#[derive(Clone)]
pub(super) struct Source {
    pub wired: Arc<Wired>,
    pub stream: String,
    pub capabilities: Capabilities,
    /// How business records are read; contacts have the connection's mapping.
    pub document: Option<Arc<Document>>,
}

impl Source {
    /// The connection's contacts.
    pub fn contacts(wired: &Arc<Wired>) -> Source {
        let capabilities = wired.capabilities().clone();
        Source { wired: wired.clone(), stream: STREAM.to_owned(), capabilities, document: None }
    }

    pub fn observe(&self, record: RemoteRecord) -> Observed {
        match &self.document {
            Some(document) => observe_document(document, record),
            None => observe(&self.wired, record),
        }
    }
}

/// One run: which syncs, which connections, who holds them.
pub(super) struct Session {
    pub run: i64,
    pub started_at: Millis,
    pub syncs: Vec<SyncConfig>,
    /// Connections that this run reads and writes, by name.
    pub wired: BTreeMap<String, Arc<Wired>>,
    /// Connections that share people with those, directly or through other syncs; their records take part in merges.
    pub group: BTreeSet<String>,
    pub ledger: Arc<Ledger>,
    pub holder: String,
    /// Connections whose reading broke off in this run: who is there is not known, so nobody is created there.
    pub unread: Mutex<BTreeSet<String>>,
}

impl Session {
    /// The sync that an operation at `target` for a person known at `sources` belongs to.
    pub fn sync_for(&self, target: &str, sources: &BTreeSet<&str>) -> Option<&SyncConfig> {
        self.syncs.iter().find(|sync| {
            sync.between.iter().any(|name| name == target)
                && sync.between.iter().any(|name| name != target && sources.contains(name.as_str()))
        })
    }

    /// Whether people may be created at a connection: its reading went as far as was due.
    pub fn is_read(&self, name: &str) -> bool {
        !self.unread.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// The sync whose policies decide for a person known at `connections`.
    pub fn policy_for(&self, connections: &BTreeSet<&str>) -> &SyncConfig {
        policy_for(&self.syncs, connections).unwrap_or(&self.syncs[0])
    }
}

/// The first of the syncs that ties two of these connections together.
pub(super) fn policy_for<'a>(syncs: &'a [SyncConfig], connections: &BTreeSet<&str>) -> Option<&'a SyncConfig> {
    syncs.iter().find(|sync| sync.between.iter().filter(|name| connections.contains(name.as_str())).count() > 1)
}

/// The ledger, renewing all of the run's leases on the way: whoever still calls is still there.
pub(super) struct LeasedGate {
    ledger: Arc<Ledger>,
    store: Store,
    leases: Vec<String>,
    holder: String,
    clock: Arc<dyn counterpart_connectors::Clock>,
    renewed_at: std::sync::atomic::AtomicI64,
    stop: CancellationToken,
}

#[async_trait]
impl Gate for LeasedGate {
    async fn acquire(&self, call: &Call<'_>) -> Result<u64, GateError> {
        use std::sync::atomic::Ordering;
        let now = self.clock.now();
        if now - self.renewed_at.load(Ordering::Relaxed) > LEASE_MS / 30 {
            for lease in &self.leases {
                let kept = self.store.renew_lease(lease, &self.holder, now, LEASE_MS).await;
                if !kept.map_err(|error| GateError::Store(error.to_string()))? {
                    return Err(GateError::Stopped);
                }
            }
            self.renewed_at.store(now, Ordering::Relaxed);
        }
        // Whoever asks to stop does not wait for a token first.
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(GateError::Stopped),
            permit = self.ledger.acquire(call) => permit,
        }
    }

    async fn settle(&self, permit: u64, call: &Call<'_>, signal: &RateSignal) {
        self.ledger.settle(permit, call, signal).await;
    }
}

pub(super) fn lease_name(connection: &str) -> String {
    format!("connection:{connection}")
}

/// Who works on a connection now, as far as can be told from here.
pub async fn worker(store: &Store, connection: &str, now: Millis) -> Result<Option<String>, StoreError> {
    let found = store.lease_holder(&lease_name(connection)).await?;
    Ok(found.filter(|(other, until)| *until > now && !surely_dead(other)).map(|(other, _)| readable(&other)))
}

impl Engine {
    /// Selects the syncs, takes their connections' leases in one order for all processes, and opens them.
    pub(super) async fn begin(&self, kind: &str, names: &[String]) -> Result<Session, EngineError> {
        let syncs = self.select(names)?;
        let active: BTreeSet<String> = syncs.iter().flat_map(|sync| sync.between.iter().cloned()).collect();
        let holder = holder();
        let mut held: Vec<String> = Vec::new();
        for name in &active {
            match self.take_lease(name, &holder).await {
                Ok(()) => held.push(name.clone()),
                Err(error) => {
                    self.release(&held, &holder).await?;
                    return Err(error);
                }
            }
        }
        match self.open(kind, syncs, active, &holder).await {
            Ok(session) => Ok(session),
            Err(error) => {
                self.release(&held, &holder).await?;
                Err(error)
            }
        }
    }

    pub(super) async fn take_lease(&self, connection: &str, holder: &str) -> Result<(), EngineError> {
        match self.take(&lease_name(connection), holder).await? {
            None => Ok(()),
            Some((holder, until)) => Err(EngineError::Busy { connection: connection.to_owned(), holder, until }),
        }
    }

    /// Takes a lease, from a process that is surely dead at once; else says who has it, and until when.
    pub(super) async fn take(&self, lease: &str, holder: &str) -> Result<Option<(String, Millis)>, EngineError> {
        let now = self.clock.now();
        if self.store.lease(lease, holder, now, LEASE_MS).await?.is_some() {
            return Ok(None);
        }
        let (other, until) = self.store.lease_holder(lease).await?.unwrap_or_default();
        if surely_dead(&other) {
            self.store.release_lease(lease, &other).await?;
            if self.store.lease(lease, holder, now, LEASE_MS).await?.is_some() {
                return Ok(None);
            }
        }
        Ok(Some((readable(&other), until)))
    }

    async fn open(
        &self,
        kind: &str,
        syncs: Vec<SyncConfig>,
        active: BTreeSet<String>,
        holder: &str,
    ) -> Result<Session, EngineError> {
        let started_at = self.clock.now();
        let names: Vec<String> = syncs.iter().map(|sync| sync.name.clone()).collect();
        self.store.fail_orphaned_runs(&names, started_at).await?;
        let run = self.store.start_run(kind, &names, "", started_at).await?;
        let budgets = self.budgets(&active)?;
        let ledger = Arc::new(Ledger::new(self.store.clone(), self.clock.clone(), budgets, run, holder.to_owned()));
        let mut wired = BTreeMap::new();
        let leases = active.iter().map(|name| lease_name(name)).collect();
        let gate = Arc::new(self.gate(&ledger, leases, holder, self.stop.clone()));
        for name in &active {
            wired.insert(name.clone(), Arc::new(self.wire(name, gate.clone())?));
        }
        let group = self.group_of(&active);
        Ok(Session {
            run,
            started_at,
            syncs,
            wired,
            group,
            ledger,
            holder: holder.to_owned(),
            unread: Mutex::default(),
        })
    }

    /// A gate for the holder of these leases.
    pub(super) fn gate(
        &self,
        ledger: &Arc<Ledger>,
        leases: Vec<String>,
        holder: &str,
        stop: CancellationToken,
    ) -> LeasedGate {
        LeasedGate {
            ledger: ledger.clone(),
            store: self.store.clone(),
            leases,
            holder: holder.to_owned(),
            clock: self.clock.clone(),
            renewed_at: std::sync::atomic::AtomicI64::new(self.clock.now()),
            stop,
        }
    }

    /// Budgets of all connections, as their manifests and settings say.
    pub(super) fn budgets(&self, active: &BTreeSet<String>) -> Result<Vec<AccountBudget>, EngineError> {
        let mut budgets = Vec::new();
        for name in active {
            let open = self.wire(name, Arc::new(counterpart_connectors::OpenGate))?;
            for facts in open.connection.budgets() {
                budgets.push(AccountBudget {
                    connection: name.clone(),
                    account: open.connection.account(),
                    class: facts.class.clone(),
                    requests: facts.requests,
                    per_ms: facts.per_ms,
                });
            }
        }
        Ok(budgets)
    }

    pub(super) fn spec(&self, name: &str, config: &ConnectionConfig) -> ConnectionSpec {
        ConnectionSpec {
            name: name.to_owned(),
            connector: config.connector.clone(),
            settings: config.settings.clone(),
            secrets: config.secrets.clone(),
            manifest_dirs: self.config.connectors_dir.iter().cloned().collect(),
        }
    }

    pub(super) fn wire(&self, name: &str, gate: Arc<dyn Gate>) -> Result<Wired, EngineError> {
        let config = self.config.connections.get(name).ok_or_else(|| EngineError::NoSuchConnection(name.to_owned()))?;
        let spec = self.spec(name, config);
        let connection = Connection::open(spec, self.transport.clone(), gate, self.clock.clone())?;
        let mapping = self.mappings.get(name).cloned().ok_or_else(|| EngineError::NoSuchConnection(name.to_owned()))?;
        Ok(Wired { name: name.to_owned(), config: config.clone(), connection, mapping })
    }

    fn select(&self, names: &[String]) -> Result<Vec<SyncConfig>, EngineError> {
        if let Some(unknown) = names.iter().find(|name| !self.config.syncs.iter().any(|sync| sync.name == **name)) {
            return Err(EngineError::NoSuchSync {
                name: unknown.clone(),
                known: self.config.syncs.iter().map(|sync| sync.name.clone()).collect(),
            });
        }
        let chosen: Vec<SyncConfig> =
            self.config.syncs.iter().filter(|sync| names.is_empty() || names.contains(&sync.name)).cloned().collect();
        if chosen.is_empty() { Err(EngineError::NoSyncs) } else { Ok(chosen) }
    }

    /// All connections that are tied to `active` through any configured sync.
    pub(super) fn group_of(&self, active: &BTreeSet<String>) -> BTreeSet<String> {
        let mut group = active.clone();
        loop {
            let before = group.len();
            for sync in &self.config.syncs {
                if sync.between.iter().any(|name| group.contains(name)) {
                    group.extend(sync.between.iter().cloned());
                }
            }
            if group.len() == before {
                return group;
            }
        }
    }

    pub(super) async fn release(&self, connections: &[String], holder: &str) -> Result<(), EngineError> {
        for name in connections {
            self.store.release_lease(&lease_name(name), holder).await?;
        }
        Ok(())
    }
}
