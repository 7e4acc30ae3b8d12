//! The daemon: takes webhooks, does what the flows ask for, and runs the syncs by their schedules.
//!
//! Four kinds of task share one engine. The HTTP side verifies a delivery and hands it to the inbox, which
//! commits many at once; only then is it answered. The worker loop reads what deliveries pointed at and sends
//! messages; it is woken by the inbox. Each sync with a schedule has a task of its own. All of them end between
//! two calls when the engine is asked to stop; a task that ends otherwise ends the program, so that whatever keeps it
//! running notices.

mod health;
mod http;
mod inbox;
mod metrics;
mod syncs;
mod systemd;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use counterpart_connectors::{Connection, Millis};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::inbox::Inbox;
use self::metrics::Tally;
use crate::engine::{Engine, EngineError, Silence, Unread};

/// How long requests that are under way may take after a stop was asked for.
const GRACE_MS: Millis = 10_000;
/// Bytes of bodies in memory at once, over all requests.
const MEMORY: usize = 64 << 20;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The engine could not begin.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// One of the tasks ended although nobody asked for it.
    #[error("{0} ended unexpectedly; the log says more")]
    Ended(&'static str),
}

/// What all tasks share.
struct Desk {
    engine: Arc<Engine>,
    /// The connections, to verify deliveries with.
    connections: BTreeMap<String, Connection>,
    inbox: Inbox,
    memory: Arc<Semaphore>,
    bells: Arc<Bells>,
    tally: Tally,
    /// What was done about webhooks at the vendors.
    kept: Tally,
    passes: AtomicU64,
    /// Whether this process is the one that works.
    working: AtomicBool,
    /// Streams that have fallen silent, as of the last reading.
    silent: Mutex<Vec<Silence>>,
    /// Streams that could not be read, as of the last reading.
    unread: Mutex<Vec<Unread>>,
}

/// Wakes the work at a connection: a delivery was stored, a reading brought something, or something waits for it.
struct Bells(BTreeMap<String, Notify>);

impl Bells {
    fn ring(&self, connection: &str) {
        if let Some(bell) = self.0.get(connection) {
            bell.notify_one();
        }
    }

    fn ring_all(&self) {
        self.0.values().for_each(Notify::notify_one);
    }

    async fn heard(&self, connection: &str) {
        match self.0.get(connection) {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Desk {
    fn now(&self) -> Millis {
        self.engine.clock().now()
    }

    /// Says of each stream once that it has fallen silent, and once that it has not any more.
    fn tell_silence(&self, silent: Vec<Silence>) {
        let mut before = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |one: &Silence, other: &Silence| (&one.connection, &one.stream) == (&other.connection, &other.stream);
        for Silence { connection, stream, usual_ms, .. } in
            silent.iter().filter(|now| !before.iter().any(|b| same(b, now)))
        {
            let hours = usual_ms / 3_600_000;
            tracing::warn!(connection, stream, "nothing happens any more, where {hours} h was the longest quiet");
        }
        for Silence { connection, stream, .. } in before.iter().filter(|then| !silent.iter().any(|now| same(then, now)))
        {
            tracing::info!(connection, stream, "something happens again");
        }
        *before = silent;
    }

    /// Says of each stream once that it cannot be read, and once that it can be again.
    fn tell_unread(&self, unread: Vec<Unread>) {
        let mut before = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let among = |these: &[Unread], one: &Unread| {
            these.iter().any(|other| (&one.connection, &one.stream) == (&other.connection, &other.stream))
        };
        for new in unread.iter().filter(|now| !among(&before, now)) {
            tracing::warn!("{new}; it is tried again, and this is said once");
        }
        for Unread { connection, stream, .. } in before.iter().filter(|then| !among(&unread, then)) {
            tracing::info!(connection, stream, "is read completely again");
        }
        *before = unread;
    }

    /// Waits for a time on the clock; false when the engine is asked to stop before.
    async fn wait_until(&self, at: Millis) -> bool {
        tokio::select! {
            biased;
            () = self.engine.stop().cancelled() => false,
            () = self.engine.clock().sleep_until(at) => true,
        }
    }
}

/// Serves on `listener` until the engine is asked to stop; then everything ends between two calls.
pub async fn serve(engine: Arc<Engine>, listener: TcpListener) -> Result<(), ServeError> {
    let stop = engine.stop().clone();
    let bell = |name: &String| (name.clone(), Notify::new());
    let bells = Arc::new(Bells(engine.config().connections.keys().map(bell).collect()));
    let closing = CancellationToken::new();
    let (inbox, writer) = inbox::open(engine.clone(), bells.clone(), closing.clone());
    let desk = Arc::new(Desk {
        connections: engine.receivers()?,
        engine,
        inbox,
        memory: Arc::new(Semaphore::new(MEMORY)),
        bells,
        tally: Tally::default(),
        kept: Tally::default(),
        passes: AtomicU64::new(0),
        working: AtomicBool::new(false),
        silent: Mutex::default(),
        unread: Mutex::default(),
    });
    let writer = tokio::spawn(writer);
    let mut tasks = JoinSet::new();
    tasks.spawn(named("the server", answer(desk.clone(), listener)));
    tasks.spawn(named("the worker", work::run(desk.clone())));
    for sync in desk.engine.config().syncs.iter().filter(|sync| sync.schedule.is_some()) {
        tasks.spawn(named("a schedule", syncs::run(desk.clone(), sync.clone())));
    }
    systemd::tell("READY=1");
    let mut died = None;
    while let Some(ended) = tasks.join_next().await {
        if !stop.is_cancelled() || ended.is_err() {
            died = died.or(Some(ended.unwrap_or("a task")));
            stop.cancel();
        }
    }
    // Nobody hands in any more; what was handed in is stored.
    closing.cancel();
    if writer.await.is_err() {
        died = died.or(Some("the inbox"));
    }
    died.map_or(Ok(()), |name| Err(ServeError::Ended(name)))
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// Answers requests until the stop, and those that are under way a little longer.
async fn answer(desk: Arc<Desk>, listener: TcpListener) {
    let stop = desk.engine.stop().clone();
    let served =
        axum::serve(listener, http::router(desk.clone())).with_graceful_shutdown(stop.clone().cancelled_owned());
    let patience = async {
        stop.cancelled().await;
        systemd::tell("STOPPING=1");
        desk.engine.clock().sleep_until(desk.now() + GRACE_MS).await;
    };
    tokio::select! {
        // First, so that the stop is told before the server, which may have nothing under way, has ended.
        biased;
        () = patience => tracing::warn!("requests that took too long were cut off"),
        outcome = served => {
            if let Err(error) = outcome {
                tracing::error!(%error, "the server ended");
            }
        }
    }
}
