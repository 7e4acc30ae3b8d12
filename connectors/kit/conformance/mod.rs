//! The conformance suite: what every connector must hold, run against a fake, a recording or a live account.
//!
//! A connector declares what it can do; the suite tries exactly that. What it fails for now is a [`Waiver`] with a
//! reason, and a waiver for a test that passes is itself a failure.

mod failing;
mod reading;
mod report;
mod samples;
mod writing;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;

pub use self::report::{Outcome, Report, Verdict, Waiver};
use self::report::{Stop, Test, skip};
pub use self::samples::Samples;
use super::clock::Clock;
use super::connection::{Connection, ConnectionSpec, find_manifest};
use super::error::ConnectorError;
use super::gate::{Call, Gate, GateError, OpenGate, RateSignal};
use super::manifest::Capabilities;
use super::transport::{Transport, TransportError};

/// What the suite cannot do through the connector itself; every hook is optional.
#[async_trait]
pub trait Laboratory: Send + Sync {
    /// Makes sure that at least `records` records exist.
    async fn populate(&self, _records: usize) {}

    /// The ids of all records that exist, in any order.
    async fn ids(&self) -> Option<Vec<String>> {
        None
    }
}

/// A laboratory that can do nothing: a live account.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLaboratory;

impl Laboratory for NoLaboratory {}

/// What is tested, and how far the suite may go.
pub struct Target {
    /// The connection.
    pub spec: ConnectionSpec,
    /// The stream.
    pub stream: String,
    /// The way to the far end.
    pub transport: Arc<dyn Transport>,
    /// The budget. When it says that it is stopped the rest of the tests is left out.
    pub gate: Arc<dyn Gate>,
    /// The budget for deleting what was created, which goes on when `gate` is stopped; `gate` without it.
    pub cleanup: Option<Arc<dyn Gate>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Hooks.
    pub laboratory: Arc<dyn Laboratory>,
    /// What may be written; none reads only.
    pub samples: Option<Samples>,
    /// Pages a walk reads at most; a longer list is not read to its end.
    pub most_pages: usize,
    /// Tests that may fail.
    pub waivers: Vec<Waiver>,
}

impl Target {
    /// A target that reads and, for a shipped connector with samples, writes: contacts, or what else there is.
    pub fn new(spec: ConnectionSpec, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Target {
        // A manifest with mistakes is told of when the suite opens the connection.
        let stream =
            find_manifest(&spec).map_or_else(|_| "contact".to_owned(), |facts| facts.first_stream().to_owned());
        Target {
            samples: Samples::of(&spec.connector),
            spec,
            stream,
            transport,
            gate: Arc::new(OpenGate),
            cleanup: None,
            clock,
            laboratory: Arc::new(NoLaboratory),
            most_pages: 50,
            waivers: Vec::new(),
        }
    }
}

/// Runs the suite.
pub async fn run(target: Target) -> Report {
    let connector = target.spec.connector.clone();
    let lab = Lab::new(target);
    let mut outcomes = Vec::new();
    match lab.open() {
        Err(problem) => outcomes.push(Outcome { name: "opens", verdict: Verdict::Failed(problem) }),
        Ok(connection) => {
            let can = connection.capabilities_of(&lab.target.stream).unwrap_or_default();
            lab.target.laboratory.populate(3 * can.page_size as usize / 2 + 1).await;
            let mut suite = Suite { lab: &lab, connection: &connection, can, outcomes: &mut outcomes };
            reading::run(&mut suite).await;
            writing::run(&mut suite).await;
            failing::run(&mut suite).await;
            lab.sweep().await;
        }
    }
    let ids = lab.created().clone().into_iter();
    let left_behind = ids.chain(lab.attempted().iter().map(|email| format!("{email} (its id is not known)"))).collect();
    Report { connector, outcomes, left_behind, interrupted: lab.is_interrupted() }
}

/// The running suite: where results go.
struct Suite<'a> {
    lab: &'a Lab,
    connection: &'a Connection,
    can: Capabilities,
    outcomes: &'a mut Vec<Outcome>,
}

impl Suite<'_> {
    fn can(&self) -> &Capabilities {
        &self.can
    }

    fn note(&mut self, name: &'static str, result: Test) {
        // What a test found that was cut short says nothing about the connector.
        let result = match result {
            Err(_) if self.lab.is_interrupted() => skip("interrupted"),
            result => result,
        };
        let waiver = self.lab.target.waivers.iter().find(|waiver| waiver.test == name);
        let verdict = match (result, waiver) {
            (Ok(()), None) => Verdict::Passed,
            (Ok(()), Some(waiver)) => Verdict::Failed(format!("passes, so the waiver must go: {}", waiver.reason)),
            (Err(Stop::Fail(_)), Some(waiver)) => Verdict::Waived(waiver.reason.clone()),
            (Err(Stop::Fail(why)), None) => Verdict::Failed(self.connection.redact(&why)),
            (Err(Stop::Skip(why)), _) => Verdict::Skipped(why),
        };
        self.outcomes.push(Outcome { name, verdict });
    }
}

/// Opens connections to the target in all the ways the tests need.
struct Lab {
    target: Target,
    gate: Arc<Watched>,
    next: AtomicU64,
    /// Ids of records to delete.
    created: Mutex<Vec<String>>,
    /// Addresses of records that may have been created without an answer that says so.
    attempted: Mutex<Vec<String>>,
}

impl Lab {
    fn new(target: Target) -> Lab {
        // Runs against one account must not clash with what an earlier run left behind.
        let start = u64::try_from(target.clock.now()).unwrap_or_default();
        let gate = Arc::new(Watched { gate: target.gate.clone(), stopped: AtomicBool::new(false) });
        Lab { target, gate, next: AtomicU64::new(start), created: Mutex::default(), attempted: Mutex::default() }
    }

    fn is_interrupted(&self) -> bool {
        self.gate.stopped.load(Ordering::Relaxed)
    }

    fn open(&self) -> Result<Connection, String> {
        self.through(self.target.transport.clone())
    }

    /// A connection over a transport that ends at the account: its calls come out of the account's budget.
    fn through(&self, transport: Arc<dyn Transport>) -> Result<Connection, String> {
        let clock = self.target.clock.clone();
        let opened = Connection::open(self.target.spec.clone(), transport, self.gate.clone(), clock);
        opened.map_err(|error| error.to_string())
    }

    /// A connection whose answers are scripted. Invented refusals among them must neither cost the account's budget
    /// anything nor teach it anything.
    fn over(&self, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Result<Connection, String> {
        let opened = Connection::open(self.target.spec.clone(), transport, Arc::new(OpenGate), clock);
        opened.map_err(|error| error.to_string())
    }

    fn gate(&self, transport: &Arc<dyn Transport>) -> Arc<dyn Gate> {
        if Arc::ptr_eq(transport, &self.target.transport) { self.gate.clone() } else { Arc::new(OpenGate) }
    }

    /// The same connection with every secret replaced.
    fn with_secret(
        &self,
        secret: &str,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Connection, String> {
        let mut spec = self.target.spec.clone();
        for value in spec.secrets.values_mut() {
            *value = SecretString::from(secret);
        }
        let gate = self.gate(&transport);
        Connection::open(spec, transport, gate, clock).map_err(|error| error.to_string())
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn samples(&self) -> Result<&Samples, Stop> {
        match &self.target.samples {
            Some(samples) => Ok(samples),
            None => skip(
                "nothing is written: there are no sample records for what this connector reads, or it is read_only",
            ),
        }
    }

    fn created(&self) -> MutexGuard<'_, Vec<String>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempted(&self) -> MutexGuard<'_, Vec<String>> {
        self.attempted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, id: &str) {
        self.created().push(id.to_owned());
    }

    fn forget(&self, id: &str) {
        self.created().retain(|known| known != id);
    }

    /// Notes the address of a record that is about to be created.
    fn attempt(&self, email: &str) {
        self.attempted().push(email.to_owned());
    }

    /// It is known by its id now, or surely not there.
    fn settle(&self, email: &str) {
        self.attempted().retain(|known| known != email);
    }

    /// Deletes what the tests created, as far as the connector can.
    async fn sweep(&self) {
        let gate = self.target.cleanup.clone().unwrap_or_else(|| self.gate.clone());
        let (spec, transport) = (self.target.spec.clone(), self.target.transport.clone());
        let Ok(connection) = Connection::open(spec, transport, gate, self.target.clock.clone()) else { return };
        let stream = &self.target.stream;
        let attempted = self.attempted().clone();
        for email in attempted {
            let key = crate::MatchKey::Email(email.clone());
            if let Ok(found) = connection.find(crate::Lane::Audit, stream, &key).await {
                found.iter().for_each(|record| self.remember(&record.id));
                self.settle(&email);
            }
        }
        let created = self.created().clone();
        for id in created {
            let push = crate::Push::Delete { id: &id };
            if connection.push(crate::Lane::Audit, stream, push, "").await.is_ok() {
                self.forget(&id);
            }
        }
    }
}

/// A gate, and whether it has been stopped.
struct Watched {
    gate: Arc<dyn Gate>,
    stopped: AtomicBool,
}

#[async_trait]
impl Gate for Watched {
    async fn acquire(&self, call: &Call<'_>) -> Result<u64, GateError> {
        let permit = self.gate.acquire(call).await;
        if permit == Err(GateError::Stopped) {
            self.stopped.store(true, Ordering::Relaxed);
        }
        permit
    }

    async fn settle(&self, permit: u64, call: &Call<'_>, signal: &RateSignal) {
        self.gate.settle(permit, call, signal).await;
    }
}

/// Passes the request on and loses the answer.
struct Severed(Arc<dyn Transport>);

#[async_trait]
impl Transport for Severed {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        self.0.send(request).await?;
        Err(TransportError::NoAnswer { reason: "the line was cut after the request".to_owned() })
    }
}

/// A short name for an outcome in a message.
fn told<T>(result: &Result<T, ConnectorError>) -> String {
    match result {
        Ok(_) => "success".to_owned(),
        Err(error) => format!("{} ({error})", error.kind.name()),
    }
}
