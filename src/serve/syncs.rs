//! Syncs by their schedules: what was missed while nobody was there is caught up once, and one run of a sync ends before
//! the next one begins.

use std::sync::Arc;

use chrono::DateTime;
use counterpart_connectors::Millis;

use super::Desk;
use crate::config::SyncConfig;
use crate::engine::EngineError;
use crate::schedule::Schedule;
use crate::store::StoreError;

/// The longest sleep: the machine may have slept meanwhile, or its clock may have been set.
const NAP_MS: Millis = 30_000;
/// When a sync is tried again whose connections another run holds.
const BUSY_MS: Millis = 10_000;

/// Runs one sync whenever it is due, until the engine is asked to stop.
pub(super) async fn run(desk: Arc<Desk>, sync: SyncConfig) {
    // A run that could not even begin leaves nothing in the store.
    let mut tried = Millis::MIN;
    let mut anchor = Anchor::default();
    while !desk.engine.is_stopped() {
        let now = desk.now();
        let due = match last(&desk, &sync).await {
            // Whoever began that run is dead, or holds the connections still.
            Ok(Last { at, ended: false }) if at > tried => Some(at.min(now)),
            Ok(Last { at, .. }) => after(&sync, anchor.of(at.max(tried), now)),
            Err(error) => {
                tracing::error!(%error, sync = sync.name, "its last run cannot be looked up");
                None
            }
        };
        let wake = match due {
            Some(due) if due <= now => match go(&desk, &sync).await {
                true => {
                    // What came due during the run is done with it.
                    tried = desk.now();
                    continue;
                }
                false => now + BUSY_MS,
            },
            Some(due) => due.min(now + NAP_MS),
            None => now + NAP_MS,
        };
        desk.wait_until(wake).await;
    }
}

/// One run; false when another one holds a connection.
async fn go(desk: &Desk, sync: &SyncConfig) -> bool {
    let name = sync.name.as_str();
    tracing::info!(sync = name, "begins");
    match desk.engine.sync(&[name.to_owned()]).await {
        Ok(report) => {
            let verdict = report.verdict.as_str();
            let done: Vec<_> = report.syncs.iter().map(|sync| sync.operations).collect();
            tracing::info!(sync = name, run = report.run, verdict, ?done, "ended");
            // People may have become known for whom messages wait.
            desk.bells.ring_all();
        }
        Err(EngineError::Busy { connection, holder, .. }) => {
            tracing::info!(sync = name, connection, holder, "waits for another run");
            return false;
        }
        Err(error) => tracing::error!(sync = name, %error, "failed"),
    }
    true
}

/// From when a schedule counts.
#[derive(Default)]
struct Anchor {
    /// Since when what was done last lies ahead of the clock, which was set back.
    set_back: Option<Millis>,
}

impl Anchor {
    /// Something that was done in the future counts from when that was first seen.
    fn of(&mut self, done: Millis, now: Millis) -> Millis {
        if done <= now {
            self.set_back = None;
            return done;
        }
        let seen = self.set_back.map_or(now, |seen| seen.min(now));
        self.set_back = Some(seen);
        seen
    }
}

/// When a sync was last dealt with.
struct Last {
    at: Millis,
    ended: bool,
}

/// Its last run, or when it was first seen with a schedule: what it missed before that is no loss.
async fn last(desk: &Desk, sync: &SyncConfig) -> Result<Last, StoreError> {
    let store = desk.engine.store();
    if let Some(run) = store.last_run_of(&sync.name).await? {
        return Ok(Last { at: run.finished_at.unwrap_or(run.started_at), ended: run.finished_at.is_some() });
    }
    let key = format!("scheduled_since:{}", sync.name);
    if let Some(at) = store.meta_get(&key).await?.and_then(|text| text.parse().ok()) {
        return Ok(Last { at, ended: true });
    }
    let now = desk.now();
    store.meta_set(&key, &now.to_string()).await?;
    Ok(Last { at: now, ended: true })
}

/// When a sync is due next, which may be in the past.
pub(super) async fn next(desk: &Desk, sync: &SyncConfig) -> Result<Option<Millis>, StoreError> {
    Ok(after(sync, last(desk, sync).await?.at.min(desk.now())))
}

fn after(sync: &SyncConfig, at: Millis) -> Option<Millis> {
    let zone = sync.timezone.as_deref().unwrap_or("UTC");
    let schedule = Schedule::parse(sync.schedule.as_deref()?, zone).ok()?;
    Some(schedule.next_after(DateTime::from_timestamp_millis(at)?)?.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::Anchor;

    #[test]
    fn a_schedule_goes_on_when_the_clock_is_set_back() {
        let mut anchor = Anchor::default();
        assert_eq!(anchor.of(100, 200), 100);
        // What was done at 500 counts from 300, also a while later, and from 250 when the clock is set back once more.
        assert_eq!(
            [anchor.of(500, 300), anchor.of(500, 310), anchor.of(500, 250), anchor.of(500, 400)],
            [300, 300, 250, 250]
        );
        assert_eq!([anchor.of(500, 600), anchor.of(700, 650)], [500, 650]);
    }
}
