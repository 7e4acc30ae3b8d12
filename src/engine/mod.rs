//! The drivers around the core: read, reconcile, write, and tell what happened.
//!
//! A run holds the leases of its connections, reads them, plans everything in the store, lets the guards look at the
//! whole plan, and only then writes. Whatever a far end answers is observed and becomes the new base, so that an echo is
//! no change. When answers changed something, the run goes round again until nothing is left to do.

mod aftermath;
mod audit;
mod check;
mod conformance;
mod decide;
mod deletion;
mod deliver;
mod echo;
mod explain;
mod happen;
mod history;
mod holder;
mod intake;
mod observe;
mod planfile;
mod progress;
mod prune;
mod pull;
mod push;
mod reconcile;
mod report;
mod reread;
mod revert;
mod route;
mod run;
mod session;
mod silence;
mod subscribe;
mod tickets;
mod unread;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use counterpart_connectors::{Clock, ConnectorError, Lane, Millis, OpenError, Transport};
use counterpart_core::Document;
use counterpart_core::identity::IdentityRules;
use counterpart_core::mapping::{Diagnostic, Mapping};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

pub use audit::{Audit, Lost, last_audits};
pub use decide::Decision;
pub use explain::LeftAlone;
pub use history::History;
pub use planfile::PlanFileError;
pub use progress::{Event, Progress, Silent};
pub use report::{
    Departed, Forecast, OperationCounts, PlanHeader, PlanReport, PlannedCount, RunReport, SpentReport, StreamReport,
    SyncReport, Verdict,
};
pub use silence::{Silence, silent_streams};
pub use subscribe::{HookEntry, HookReport, HookStep, HookWish, Standing};
pub use unread::{Unread, streams_for_flows, unread_stream, unread_streams};
pub use worker::{Pass, Worker, message_worker};

use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::templates::Templates;
pub use session::worker;
use session::{Source, Wired};

/// Whether the connections of a run are worked on side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Every connection goes at its own speed.
    #[default]
    SideBySide,
    /// One connection after the other: slower, and the same calls come in the same order every time.
    OneByOne,
}

/// Everything a run needs from outside: configuration, store, clock, network.
pub struct Engine {
    config: Arc<Config>,
    store: Store,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
    mappings: BTreeMap<String, Arc<Mapping>>,
    /// How business records are read, by connection and stream.
    documents: BTreeMap<(String, String), Arc<Document>>,
    templates: Arc<Templates>,
    pace: Pace,
}

/// Why a run could not be made or had to end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A name on the command line that no sync has.
    #[error("there is no sync `{name}`; the configuration has: {}", known.join(", "))]
    NoSuchSync {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The configuration has no syncs.
    #[error("the configuration has no [[syncs]]; add one that says which connections to keep in agreement")]
    NoSyncs,
    /// A connection that the configuration does not have.
    #[error("there is no connection `{0}` in the configuration")]
    NoSuchConnection(String),
    /// Another run has the connection.
    #[error("connection `{connection}` is in use by another run ({holder}); wait for it to end, or try again later")]
    Busy {
        /// The connection.
        connection: String,
        /// Host, process and number of the other run.
        holder: String,
        /// When its lease ends if it shows no sign of life.
        until: Millis,
    },
    /// Another process does what the flows ask for.
    #[error("messages are being sent by another process ({holder}); it does what this one would")]
    Working {
        /// Host, process and number of the other.
        holder: String,
        /// When its lease ends if it shows no sign of life.
        until: Millis,
    },
    /// A mapping file with mistakes.
    #[error("mapping of connection `{connection}`: {}", problems.join("; "))]
    Mapping {
        /// The connection.
        connection: String,
        /// One line for each mistake, with file, line and column.
        problems: Vec<String>,
    },
    /// Message texts with mistakes.
    #[error("message texts: {}", problems.join("; "))]
    Templates {
        /// One line for each mistake, with file, line and column.
        problems: Vec<String>,
    },
    /// A connection whose settings do not fit.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A vendor answered in a way that ends the work on its connection.
    #[error("{connection}: {error}")]
    Vendor {
        /// The connection.
        connection: String,
        /// What it said.
        error: ConnectorError,
    },
    /// The plan to apply is not what the present world gives.
    #[error("the world has moved since this plan was made (its hash is {planned}, now it is {found}); make a new plan")]
    Moved {
        /// Hash in the file.
        planned: String,
        /// Hash now.
        found: String,
    },
    /// Something asked for by number that is not there.
    #[error("there is no {what} {id}")]
    NoSuch {
        /// `run` or `conflict`.
        what: &'static str,
        /// Its number.
        id: i64,
    },
    /// A run of a kind that writes no people, so that nothing of it can be taken back.
    #[error("run {run} is one of kind `{kind}`: it wrote to nobody, so there is nothing to take back")]
    WroteNobody {
        /// Its number.
        run: i64,
        /// `plan`, `messages` or another one.
        kind: String,
    },
    /// A decision that does not fit the question.
    #[error("{0}")]
    Decision(String),
    /// Webhooks cannot be subscribed to as things are configured.
    #[error("{message}")]
    Hooks {
        /// The keys of the configuration that it is about; none when no key would change it.
        keys: Vec<String>,
        /// What is wrong.
        message: String,
        /// The way out.
        help: String,
    },
    /// The plan could not be written to its file.
    #[error("the plan could not be written: {0}")]
    Write(#[from] std::io::Error),
}

fn lines(problems: &[Diagnostic]) -> Vec<String> {
    let line = |p: &Diagnostic| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message);
    problems.iter().map(line).collect()
}

/// The reading files that the flows need.
fn documents(config: &Config) -> Result<BTreeMap<(String, String), Arc<Document>>, EngineError> {
    let mut found = BTreeMap::new();
    for (name, stream) in flow_streams(config) {
        let Some(connection) = config.connections.get(&name) else { continue };
        let document = crate::config::load_document(config, connection, &stream)
            .map_err(|problems| EngineError::Mapping { connection: name.clone(), problems: lines(&problems) })?;
        let document = document.ok_or_else(|| EngineError::Mapping {
            connection: name.clone(),
            problems: vec![format!(
                "connector `{}` has no reading file for {stream}; write {stream}.toml beside its connector.toml",
                connection.connector
            )],
        })?;
        found.insert((name, stream), Arc::new(document));
    }
    Ok(found)
}

/// The streams that the flows live on: what happens at one end, conversations and their messages, or tickets, at the other.
fn flow_streams(config: &Config) -> BTreeSet<(String, String)> {
    let mut streams = BTreeSet::new();
    for flow in &config.flows {
        let from = config.connections.get(&flow.from);
        let stream =
            from.map_or(flow.on.topic().as_str(), |from| crate::config::stream_of(config, from, flow.on.topic()));
        streams.insert((flow.from.clone(), stream.to_owned()));
        let there: &[&str] = if flow.act.is_at_desk() { &["ticket"] } else { &["conversation", "message"] };
        let ways = std::iter::once(&flow.to).chain(flow.fallback.iter().map(|fallback| &fallback.to));
        for to in ways {
            streams.extend(there.iter().map(|stream| (to.clone(), (*stream).to_owned())));
        }
    }
    streams
}

/// The streams of a connection that the syncs and flows live on.
fn used_streams(config: &Config, connection: &str) -> BTreeSet<String> {
    let flows = flow_streams(config).into_iter().filter(|(name, _)| name == connection).map(|(_, stream)| stream);
    let syncs = config.syncs.iter().filter(|sync| sync.between.iter().any(|name| name == connection));
    flows.chain(syncs.map(|sync| sync.kind.clone())).collect()
}

impl Engine {
    /// How records of a kind are read at a connection; none where nothing says so.
    fn document(&self, connection: &str, kind: &str) -> Option<&Arc<Document>> {
        self.documents.get(&(connection.to_owned(), kind.to_owned()))
    }

    /// Whether messages read at a connection show our mark.
    fn reads_marks(&self, connection: &str) -> bool {
        self.document(connection, "message").is_some_and(|document| document.reads("mark"))
    }

    /// Loads the mappings of all configured connections and gets ready; opens nothing yet.
    pub fn new(
        config: Arc<Config>,
        store: Store,
        clock: Arc<dyn Clock>,
        transport: Arc<dyn Transport>,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Engine, EngineError> {
        let mut mappings = BTreeMap::new();
        for (name, connection) in &config.connections {
            let mapping = crate::config::load_mapping(&config, connection)
                .map_err(|problems| EngineError::Mapping { connection: name.clone(), problems: lines(&problems) })?;
            mappings.insert(name.clone(), Arc::new(mapping));
        }
        let documents = documents(&config)?;
        let templates = crate::config::load_templates(&config)
            .map_err(|problems| EngineError::Templates { problems: lines(&problems) })?;
        Ok(Engine {
            config,
            store,
            clock,
            transport,
            progress,
            stop,
            mappings,
            documents,
            templates: Arc::new(templates),
            pace: Pace::default(),
        })
    }

    /// The same engine, working on its connections as `pace` says.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Engine {
        self.pace = pace;
        self
    }

    /// Works on each of several connections, as its pace says.
    async fn each<T, F: Future>(&self, all: impl IntoIterator<Item = T>, work: impl Fn(T) -> F) -> Vec<F::Output> {
        match self.pace {
            Pace::SideBySide => join_all(all.into_iter().map(work)).await,
            Pace::OneByOne => {
                let mut done = Vec::new();
                for one in all {
                    done.push(work(one).await);
                }
                done
            }
        }
    }

    /// Whether somebody asked the engine to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The configuration it works by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Cancelled when somebody asks the engine to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Resolves when somebody asks the engine to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// All syncs share one set of people, so they share the rules by which people are recognised.
    fn identity_rules(&self) -> &IdentityRules {
        &self.config.syncs[0].identity
    }

    fn note(&self, text: &str) {
        tracing::info!("{text}");
        self.progress.event(Event::Note(text));
    }

    /// How long `calls` more calls last inside the connection's budget.
    fn eta(&self, wired: &Wired, calls: u64, lane: Lane) -> i64 {
        crate::budget::forecast(wired.connection.budgets(), calls, lane)
    }

    fn pull_eta(&self, source: &Source, rows: u64) -> i64 {
        let page = u64::from(source.capabilities.page_size.max(1));
        self.eta(&source.wired, rows.div_ceil(page), Lane::Backfill)
    }
}
