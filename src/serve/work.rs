//! The worker's loop: passes, readings, and the lease that makes this process the one that works.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use counterpart_connectors::Millis;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::Desk;
use crate::engine::{EngineError, HookReport, Pass, Worker, silent_streams, unread_streams};

/// How often a process that is not the worker tries to become it.
const RETRY_MS: Millis = 3_000;
/// The longest time without a pass.
const IDLE_MS: Millis = 5_000;
/// Conversations whose messages are read before it is looked again which are due.
const HISTORY: u64 = 20;
/// The shortest time between two passes that nothing new has asked for.
const PAUSE_MS: Millis = 1_000;
/// How often the lease is renewed, whatever a pass waits for.
const RENEW_MS: Millis = 30_000;
/// How often deliveries are forgotten that were done long ago, and how long ago that is.
const PRUNE_EVERY_MS: Millis = 3_600_000;
const KEEP_MS: Millis = 30 * 86_400_000;

/// Works, or waits for whoever does, until the engine is asked to stop.
pub(super) async fn run(desk: Arc<Desk>) {
    let mut told: Option<String> = None;
    while !desk.engine.is_stopped() {
        match desk.engine.worker().await {
            Ok(worker) => {
                told = None;
                tracing::info!("this process does the work");
                desk.working.store(true, Ordering::Relaxed);
                work(&desk, &worker).await;
                desk.working.store(false, Ordering::Relaxed);
                if let Err(error) = worker.close().await {
                    tracing::error!(%error, "the work could not be handed back");
                }
            }
            Err(EngineError::Working { holder, .. }) => {
                if told.as_ref() != Some(&holder) {
                    tracing::info!("{holder} does the work; this process takes over when it ends");
                    told = Some(holder);
                }
            }
            Err(error) => tracing::error!(%error, "the work cannot begin"),
        }
        desk.wait_until(desk.now() + RETRY_MS).await;
    }
}

/// Turns and readings side by side, each connection at its own speed: neither a long first reading nor a vendor that does not
/// answer holds up a message elsewhere. All of it ends between two calls.
async fn work(desk: &Desk, worker: &Worker<'_>) {
    let until = desk.engine.stop().child_token();
    tokio::join!(
        join_all(worker.connections().map(|name| turns(desk, worker, name, &until))),
        join_all(worker.connections().map(|name| readings(desk, worker, name, &until))),
        histories(desk, worker, &until),
        subscriptions(desk, worker, &until),
        silence(desk, &until),
        lease(desk, worker, &until)
    );
}

async fn turns(desk: &Desk, worker: &Worker<'_>, connection: &str, until: &CancellationToken) {
    while !until.is_cancelled() {
        let soonest = match worker.turn(connection).await {
            Ok(turn) => {
                desk.passes.fetch_add(1, Ordering::Relaxed);
                if turn.pass != Pass::default() {
                    tracing::info!(connection, pass = ?turn.pass, "worked");
                }
                if turn.pass.events > 0 {
                    // What happened here is told elsewhere.
                    desk.bells.ring_all();
                }
                if turn.more {
                    continue;
                }
                PAUSE_MS
            }
            Err(error) => {
                tracing::error!(connection, %error, "a pass failed; the next one goes on");
                IDLE_MS
            }
        };
        let now = desk.now();
        let due = worker.next_at(connection).await.ok().flatten();
        let next = due.map_or(now + IDLE_MS, |due| due.clamp(now + soonest, now + IDLE_MS));
        tokio::select! {
            biased;
            () = until.cancelled() => {}
            () = desk.bells.heard(connection) => {}
            () = desk.engine.clock().sleep_until(next) => {}
        }
    }
}

async fn readings(desk: &Desk, worker: &Worker<'_>, connection: &str, until: &CancellationToken) {
    let mut begun: Option<Vec<String>> = None;
    while !until.is_cancelled() {
        let more = worker.read_some(connection, begun.as_deref()).await.unwrap_or_else(|error| {
            tracing::error!(connection, %error, "a reading failed; the next one goes on");
            Vec::new()
        });
        desk.bells.ring(connection);
        begun = Some(more).filter(|more| !more.is_empty());
        if begun.is_some() {
            continue;
        }
        pause(desk, desk.now() + desk.engine.config().serve.poll_ms, until).await;
    }
}

/// Tells of streams in which nothing happens any more.
async fn silence(desk: &Desk, until: &CancellationToken) {
    while !until.is_cancelled() {
        match silent_streams(desk.engine.store(), desk.engine.config(), desk.now()).await {
            Ok(silent) => desk.tell_silence(silent),
            Err(error) => tracing::error!(%error, "whether a stream has fallen silent is not known"),
        }
        match unread_streams(desk.engine.store(), desk.engine.config()).await {
            Ok(unread) => desk.tell_unread(unread),
            Err(error) => tracing::error!(%error, "whether every stream could be read is not known"),
        }
        pause(desk, desk.now() + desk.engine.config().serve.poll_ms, until).await;
    }
}

/// Reads the messages of conversations with whatever calls are left.
async fn histories(desk: &Desk, worker: &Worker<'_>, until: &CancellationToken) {
    while !until.is_cancelled() {
        match worker.history(HISTORY).await {
            Ok(read) if read.conversations > 0 => continue,
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "reading history failed; it goes on later"),
        }
        pause(desk, desk.now() + desk.engine.config().serve.poll_ms, until).await;
    }
}

/// Looks at the start and every so often whether vendors still have the webhooks that are to be kept.
async fn subscriptions(desk: &Desk, worker: &Worker<'_>, until: &CancellationToken) {
    let config = desk.engine.config();
    if !config.connections.values().any(|connection| connection.keep_hooks) {
        return;
    }
    while !until.is_cancelled() {
        match worker.keep_hooks().await {
            Ok(kept) => kept.iter().for_each(|(name, outcome)| tell_kept(desk, name, outcome)),
            Err(error) => tracing::error!(%error, "webhooks could not be looked after; it is tried again later"),
        }
        pause(desk, desk.now() + config.serve.check_hooks_ms, until).await;
    }
}

/// What was done is in the log already; this counts it, and tells what is left to a person.
fn tell_kept(desk: &Desk, name: &str, outcome: &Result<HookReport, EngineError>) {
    match outcome {
        Ok(report) => {
            report.done.iter().for_each(|step| desk.kept.count(name, step.word()));
            if !report.is_well() {
                desk.kept.count(name, "not_well");
            }
            report.notes.iter().for_each(|note| tracing::warn!("{note}"));
        }
        Err(error) => {
            desk.kept.count(name, "failed");
            tracing::error!(%error, connection = %name, "its webhooks could not be looked after; it is tried again later");
        }
    }
}

/// Shows that this process is still there, and ends the work when another one has taken it over.
async fn lease(desk: &Desk, worker: &Worker<'_>, until: &CancellationToken) {
    let mut pruned_at = 0;
    while !until.is_cancelled() {
        match worker.renew().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("another process has taken over the work");
                return until.cancel();
            }
            // Whoever cannot renew makes no call either; the lease outlives a short failure.
            Err(error) => tracing::error!(%error, "the lease of the work could not be renewed"),
        }
        let now = desk.now();
        if now - pruned_at >= PRUNE_EVERY_MS {
            pruned_at = now;
            if let Err(error) = desk.engine.store().prune_hooks(now - KEEP_MS).await {
                tracing::error!(%error, "old webhooks could not be forgotten");
            }
            desk.engine.prune().await;
        }
        pause(desk, now + RENEW_MS, until).await;
    }
}

/// Waits for a time on the clock, or for the end of the work.
async fn pause(desk: &Desk, at: Millis, until: &CancellationToken) {
    tokio::select! {
        biased;
        () = until.cancelled() => {}
        () = desk.engine.clock().sleep_until(at) => {}
    }
}
