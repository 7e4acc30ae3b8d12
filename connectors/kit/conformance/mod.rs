//! The conformance suite: what every connector must hold, run against a fake, a recording or a live account.
//!
//! A connector declares what it can do; the suite tries exactly that. What it fails for now is a [`Waiver`] with a
//! reason, and a waiver for a test that passes is itself a failure.

mod failing;
mod reading;
mod report;
mod samples;
mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;

pub use self::report::{Outcome, Report, Verdict, Waiver};
use self::report::{Stop, Test, skip};
pub use self::samples::Samples;
use super::clock::Clock;
use super::connection::{Connection, ConnectionSpec};
use super::error::ConnectorError;
use super::gate::{Gate, OpenGate};
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
    /// The budget.
    pub gate: Arc<dyn Gate>,
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
    /// A target that reads and, for a shipped connector, writes.
    pub fn new(spec: ConnectionSpec, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Target {
        Target {
            samples: Samples::of(&spec.connector),
            spec,
            stream: "contact".to_owned(),
            transport,
            gate: Arc::new(OpenGate),
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
            lab.target.laboratory.populate(3 * connection.capabilities().page_size as usize / 2 + 1).await;
            let mut suite = Suite { lab: &lab, connection: &connection, outcomes: &mut outcomes };
            reading::run(&mut suite).await;
            writing::run(&mut suite).await;
            failing::run(&mut suite).await;
            lab.sweep(&connection).await;
        }
    }
    let left_behind = lab.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    Report { connector, outcomes, left_behind }
}

/// The running suite: where results go.
struct Suite<'a> {
    lab: &'a Lab,
    connection: &'a Connection,
    outcomes: &'a mut Vec<Outcome>,
}

impl Suite<'_> {
    fn can(&self) -> &Capabilities {
        self.connection.capabilities()
    }

    fn note(&mut self, name: &'static str, result: Test) {
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
    next: AtomicU64,
    created: std::sync::Mutex<Vec<String>>,
}

impl Lab {
    fn new(target: Target) -> Lab {
        // Runs against one account must not clash with what an earlier run left behind.
        let start = u64::try_from(target.clock.now()).unwrap_or_default();
        Lab { target, next: AtomicU64::new(start), created: std::sync::Mutex::default() }
    }

    fn open(&self) -> Result<Connection, String> {
        self.over(self.target.transport.clone(), self.target.clock.clone())
    }

    fn over(&self, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Result<Connection, String> {
        let opened = Connection::open(self.target.spec.clone(), transport.clone(), self.gate(&transport), clock);
        opened.map_err(|error| error.to_string())
    }

    /// The account's budget for calls that really go there. Scripted answers, invented refusals among them, must neither
    /// cost it anything nor teach it anything.
    fn gate(&self, transport: &Arc<dyn Transport>) -> Arc<dyn Gate> {
        if Arc::ptr_eq(transport, &self.target.transport) { self.target.gate.clone() } else { Arc::new(OpenGate) }
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
            None => skip("there are no sample records for this connector, so nothing is written"),
        }
    }

    fn remember(&self, id: &str) {
        self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(id.to_owned());
    }

    fn forget(&self, id: &str) {
        self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|known| known != id);
    }

    /// Deletes what the tests created, as far as the connector can.
    async fn sweep(&self, connection: &Connection) {
        let created = self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        for id in created {
            let push = crate::Push::Delete { id: &id };
            if connection.push(crate::Lane::Audit, &self.target.stream, push, "").await.is_ok() {
                self.forget(&id);
            }
        }
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
