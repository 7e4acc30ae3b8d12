//! Whole runs: `sync`, `plan`, `apply`.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::PoisonError;

use counterpart_connectors::Lane;
use counterpart_connectors::kit::TRACES;
use counterpart_core::guard::{self, Counts, Tripped};
use counterpart_core::plan::PlanHasher;
use tracing::{Instrument, Span};

use super::deletion::Departing;
use super::report::{
    Departed, Forecast, OperationCounts, PlanHeader, PlanReport, PlannedCount, RunReport, SpentReport, StreamReport,
    SyncReport, Verdict,
};
use super::session::{STREAM, Session, Source, Wired};
use super::{Engine, EngineError};
use crate::store::{OpCount, OpState};

/// Rounds of planning and writing in one run. Two settle what a far end rewrote; more happen only while others edit.
const MAX_ROUNDS: u32 = 4;
/// Operations read at once when a plan is hashed or written.
const PAGE: u64 = 500;

/// What a run has learned so far.
#[derive(Default)]
struct Progressed {
    streams: Vec<StreamReport>,
    guards: Vec<Tripped>,
    notes: Vec<String>,
    /// A connection was given up, or reading it failed.
    broken: bool,
    /// Nothing at all could be read.
    dead: bool,
    /// What the last round planned was not all carried out, and is to be planned anew.
    undone: bool,
    /// Records that were taken as gone, by connection.
    departed: BTreeMap<String, u64>,
}

/// What a run does, for those who look at traces.
fn run_span(kind: &'static str, session: &Session) -> Span {
    let syncs = session.syncs.iter().map(|sync| sync.name.as_str()).collect::<Vec<_>>().join(", ");
    tracing::info_span!(target: TRACES, "run", kind, run = session.run, syncs)
}

impl Engine {
    /// Reads, reconciles and writes once.
    pub async fn sync(&self, names: &[String]) -> Result<RunReport, EngineError> {
        let session = self.begin("sync", names).await?;
        let outcome = self.sync_inner(&session).instrument(run_span("sync", &session)).await;
        self.finish(session, outcome).await
    }

    async fn sync_inner(&self, session: &Session) -> Result<Progressed, EngineError> {
        let mut progressed = self.read_all(session).await?;
        let mut dropped = 0;
        for round in 0..MAX_ROUNDS {
            self.store.discard_unsent(&group(session)).await?;
            let tripped = self.reconcile(session, Departing::Capped, &mut progressed.departed).await?;
            let planned = self.planned(session).await?;
            progressed.undone = false;
            if round == 0 {
                progressed.guards = tripped;
                progressed.guards.extend(self.guards(session, &planned).await?);
                progressed.guards.dedup();
            }
            if planned.is_empty() || !progressed.guards.is_empty() {
                break;
            }
            self.store.promote(session.run).await?;
            if !self.write_all(session, &planned).await? {
                progressed.broken = true;
                break;
            }
            let dropped_now = self.dropped(session).await?;
            progressed.undone = dropped_now > dropped;
            dropped = dropped_now;
        }
        Ok(progressed)
    }

    /// Reads and nothing else.
    pub async fn read(&self, names: &[String]) -> Result<Vec<StreamReport>, EngineError> {
        let session = self.begin("read", names).await?;
        let outcome = self.read_all(&session).instrument(run_span("read", &session)).await;
        let (verdict, result) = match outcome {
            Ok(progressed) => (Verdict::Ok, Ok(progressed.streams)),
            Err(error) => (Verdict::Failed, Err(error)),
        };
        let summary = serde_json::json!({ "read": result.is_ok() });
        self.store.finish_run(session.run, verdict.as_str(), &summary, self.clock.now()).await?;
        self.close(session).await?;
        result
    }

    /// Reads and plans; writes nothing outside.
    pub async fn plan(&self, names: &[String]) -> Result<PlanReport, EngineError> {
        let session = self.begin("plan", names).await?;
        let outcome = self.plan_inner(&session).instrument(run_span("plan", &session)).await;
        self.finish_plan(session, "sync", outcome).await
    }

    async fn plan_inner(&self, session: &Session) -> Result<Progressed, EngineError> {
        let mut progressed = self.read_all(session).await?;
        self.store.discard_unsent(&group(session)).await?;
        progressed.guards = self.reconcile(session, Departing::Shown, &mut progressed.departed).await?;
        let planned = self.planned(session).await?;
        progressed.guards.extend(self.guards(session, &planned).await?);
        progressed.guards.dedup();
        Ok(progressed)
    }

    /// Carries out exactly the plan that `header` names, or nothing when the world gives another one now.
    pub async fn apply(&self, header: &PlanHeader) -> Result<RunReport, EngineError> {
        let session = self.begin("apply", &header.syncs).await?;
        let outcome = self.apply_inner(&session, header).instrument(run_span("apply", &session)).await;
        self.finish(session, outcome).await
    }

    async fn apply_inner(&self, session: &Session, header: &PlanHeader) -> Result<Progressed, EngineError> {
        let mut progressed = self.read_all(session).await?;
        self.store.discard_unsent(&group(session)).await?;
        let taken_back = header.kind.strip_prefix("revert:").and_then(|run| run.parse().ok());
        match taken_back {
            Some(run) => progressed.notes = self.plan_revert(session, run).await?,
            None => {
                self.reconcile(session, Departing::Approved, &mut progressed.departed).await?;
            }
        }
        let found = self.hash(session.run).await?;
        if found != header.hash {
            return Err(EngineError::Moved { planned: header.hash.clone(), found });
        }
        let planned = self.planned(session).await?;
        if let Some(run) = taken_back {
            self.ask_about_revert(session, run).await?;
        }
        self.store.promote(session.run).await?;
        progressed.broken |= !self.write_all(session, &planned).await?;
        Ok(progressed)
    }

    /// Writes a plan as one JSON document: its head, then its operations in order.
    pub async fn write_plan(&self, plan: &PlanReport, out: &mut (dyn Write + Send)) -> Result<(), EngineError> {
        let head = serde_json::to_string(plan).map_err(std::io::Error::other)?;
        let head = head.strip_suffix('}').unwrap_or(&head);
        write!(out, "{head},\"operations\":[")?;
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.ops(plan.run, after.as_deref(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            let next = Some(last.id.clone());
            for row in &rows {
                let comma = if after.is_none() && row.id == rows[0].id { "" } else { "," };
                write!(out, "{comma}\n{}", row.op.line())?;
            }
            after = next;
        }
        writeln!(out, "\n]}}")?;
        out.flush()?;
        Ok(())
    }

    /// Does what the flows ask for and adds it to the report of a run that has ended, and to what the store says of it. The
    /// contacts are written: that is told whatever becomes of the messages.
    pub async fn work_after(&self, report: &mut RunReport) {
        match self.work().await {
            Ok((streams, pass)) => report.tell(&streams, pass),
            Err(error @ EngineError::Working { .. }) => report.notes.push(error.to_string()),
            Err(error) => report.cut(format!("messages: {error}")),
        }
        if let Err(error) = self.restate(report).await {
            report.cut(format!("what was done for the flows is not in the store: {error}"));
        }
    }

    async fn restate(&self, report: &mut RunReport) -> Result<(), EngineError> {
        report.wait(self.store.count_messages().await?);
        let summary = serde_json::to_value(&*report).map_err(std::io::Error::other)?;
        Ok(self.store.finish_run(report.run, report.verdict.as_str(), &summary, self.clock.now()).await?)
    }

    // ---- stages ----------------------------------------------------------------------------------------------------

    async fn read_all(&self, session: &Session) -> Result<Progressed, EngineError> {
        self.recover(session).await?;
        self.ask_again(session).await?;
        let mut progressed = Progressed::default();
        let sources: Vec<Source> = session.wired.values().map(Source::contacts).collect();
        let results = self.each(&sources, |source| self.pull(source, None)).await;
        for result in results {
            progressed.streams.push(result?);
        }
        let unread = progressed.streams.iter().filter(|stream| !stream.ended).map(|stream| stream.connection.clone());
        session.unread.lock().unwrap_or_else(PoisonError::into_inner).extend(unread);
        progressed.broken = progressed.streams.iter().any(|stream| !stream.complete);
        progressed.dead = progressed.streams.iter().all(|stream| !stream.complete && stream.pulled == 0);
        progressed.notes = progressed
            .streams
            .iter()
            .filter_map(|s| s.why.as_ref().map(|why| format!("{}: {why}", s.connection)))
            .collect();
        Ok(progressed)
    }

    /// Returns whether every connection was worked through.
    async fn write_all(&self, session: &Session, planned: &[OpCount]) -> Result<bool, EngineError> {
        let total = |wired: &Wired| planned.iter().filter(|count| count.connection == wired.name).map(|c| c.n).sum();
        let results = self.each(session.wired.values(), |wired| self.push_all(session, wired, total(wired))).await;
        let mut whole = true;
        for result in results {
            whole &= result?;
        }
        Ok(whole)
    }

    async fn planned(&self, session: &Session) -> Result<Vec<OpCount>, EngineError> {
        let counts = self.store.op_counts(session.run).await?;
        Ok(counts.into_iter().filter(|count| count.state == OpState::Planned).collect())
    }

    /// Operations of this run that were given up: their record had changed or gone meanwhile.
    async fn dropped(&self, session: &Session) -> Result<u64, EngineError> {
        let counts = self.store.op_counts(session.run).await?;
        Ok(counts.iter().filter(|count| count.state == OpState::Dropped).map(|count| count.n).sum())
    }

    async fn guards(&self, session: &Session, planned: &[OpCount]) -> Result<Vec<Tripped>, EngineError> {
        let mut tripped = Vec::new();
        for sync in &session.syncs {
            let mut counts = Vec::new();
            for name in &sync.between {
                let known = self.store.counts(name, STREAM).await?;
                let of = |action: &str| {
                    planned
                        .iter()
                        .filter(|c| c.sync == sync.name && c.connection == *name && c.action == action)
                        .map(|c| c.n)
                        .sum()
                };
                counts.push(Counts {
                    connection: name.clone(),
                    known: known.live + known.missing,
                    live_now: known.live,
                    creates: of("create"),
                    updates: of("update"),
                    deletes: of("delete"),
                    ..Counts::default()
                });
            }
            tripped.extend(guard::check(&sync.guard, &counts));
        }
        Ok(tripped)
    }

    pub(super) async fn hash(&self, run: i64) -> Result<String, EngineError> {
        let mut hasher = PlanHasher::default();
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.ops(run, after.as_deref(), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(hasher.finish()) };
            after = Some(last.id.clone());
            for row in &rows {
                hasher.feed(&row.op);
            }
        }
    }

    // ---- endings ---------------------------------------------------------------------------------------------------

    async fn finish(
        &self,
        session: Session,
        outcome: Result<Progressed, EngineError>,
    ) -> Result<RunReport, EngineError> {
        let result = match outcome {
            Ok(progressed) => self.report(&session, progressed).await,
            Err(error) => Err(error),
        };
        let now = self.clock.now();
        match &result {
            Ok(report) => {
                let summary = serde_json::to_value(report).map_err(std::io::Error::other)?;
                self.store.finish_run(session.run, report.verdict.as_str(), &summary, now).await?;
            }
            Err(error) => {
                let summary = serde_json::json!({ "error": error.to_string() });
                self.store.finish_run(session.run, Verdict::Failed.as_str(), &summary, now).await?;
            }
        }
        self.close(session).await?;
        self.prune().await;
        result
    }

    pub(super) async fn close(&self, session: Session) -> Result<(), EngineError> {
        session.ledger.close().await?;
        let names: Vec<String> = session.wired.keys().cloned().collect();
        self.release(&names, &session.holder).await
    }

    async fn report(&self, session: &Session, progressed: Progressed) -> Result<RunReport, EngineError> {
        session.ledger.flush().await?;
        let counts = self.store.op_counts(session.run).await?;
        let spent: Vec<SpentReport> = self
            .store
            .spent(session.run)
            .await?
            .into_iter()
            .map(|row| SpentReport { connection: row.connection, lane: row.lane, purpose: row.purpose, calls: row.n })
            .collect();
        let limited = self.store.rate_limited(session.run).await?;
        let waiting = self.store.count_open_at(&group(session)).await?;
        let duration_ms = self.clock.now() - session.started_at;
        let mut syncs = Vec::new();
        for sync in &session.syncs {
            let within = |name: &String| sync.between.contains(name);
            let calls = sync
                .between
                .iter()
                .map(|name| (name.clone(), spent.iter().filter(|s| s.connection == *name).map(|s| s.calls).sum()))
                .collect();
            syncs.push(SyncReport {
                name: sync.name.clone(),
                streams: progressed.streams.iter().filter(|s| within(&s.connection)).cloned().collect(),
                operations: operations(&counts, &sync.name),
                conflicts: waiting,
                calls,
                rate_limited: sync.between.iter().map(|n| (n.clone(), limited.get(n).copied().unwrap_or(0))).collect(),
                duration_ms,
            });
        }
        let unsettled = syncs.iter().any(|s| s.operations.failed + s.operations.unknown + s.operations.held > 0);
        let absent = self.absences(session).await?;
        let verdict = if progressed.dead {
            Verdict::Failed
        } else if !progressed.guards.is_empty() {
            Verdict::Guarded
        } else if progressed.broken
            || progressed.undone
            || !absent.is_empty()
            || unsettled
            || waiting > 0
            || self.stop.is_cancelled()
        {
            Verdict::Partial
        } else {
            Verdict::Ok
        };
        Ok(RunReport {
            run: session.run,
            verdict,
            syncs,
            guards: progressed.guards,
            spent,
            messages: None,
            messages_waiting: BTreeMap::new(),
            notes: progressed.notes.into_iter().chain(absent).collect(),
        })
    }

    pub(super) async fn plan_report(
        &self,
        session: &Session,
        kind: &str,
        streams: Vec<StreamReport>,
        guards: Vec<Tripped>,
        notes: Vec<String>,
    ) -> Result<PlanReport, EngineError> {
        let planned = self.planned(session).await?;
        let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
        for count in &planned {
            *calls.entry(&count.connection).or_default() += count.cost;
        }
        let forecast: Vec<Forecast> = calls
            .into_iter()
            .map(|(name, calls)| Forecast {
                connection: name.to_owned(),
                calls,
                duration_ms: self.eta(&session.wired[name], calls, Lane::Incremental),
            })
            .collect();
        let longest = forecast.iter().map(|forecast| forecast.duration_ms).max().unwrap_or(0);
        Ok(PlanReport {
            run: session.run,
            kind: kind.to_owned(),
            syncs: session.syncs.iter().map(|sync| sync.name.clone()).collect(),
            hash: self.hash(session.run).await?,
            counts: planned
                .iter()
                .map(|c| PlannedCount {
                    sync: c.sync.clone(),
                    connection: c.connection.clone(),
                    action: c.action.clone(),
                    operations: c.n,
                })
                .collect(),
            forecast,
            finish_at: self.clock.now() + longest,
            departures: Vec::new(),
            guards,
            streams,
            conflicts: self.store.count_open_at(&group(session)).await?,
            notes,
        })
    }

    async fn finish_plan(
        &self,
        session: Session,
        kind: &str,
        outcome: Result<Progressed, EngineError>,
    ) -> Result<PlanReport, EngineError> {
        let result = match outcome {
            Ok(progressed) => {
                let Progressed { streams, guards, mut notes, departed, .. } = progressed;
                notes.extend(self.absences(&session).await?);
                let departed = departed.into_iter().map(|(connection, records)| Departed { connection, records });
                let report = self.plan_report(&session, kind, streams, guards, notes).await;
                report.map(|report| PlanReport { departures: departed.collect(), ..report })
            }
            Err(error) => Err(error),
        };
        self.end_plan(session, result).await
    }

    /// Notes how a planning run ended and lets go of its connections.
    pub(super) async fn end_plan(
        &self,
        session: Session,
        result: Result<PlanReport, EngineError>,
    ) -> Result<PlanReport, EngineError> {
        let now = self.clock.now();
        let (verdict, summary) = match &result {
            Ok(report) => {
                let whole = report.streams.iter().all(|stream| stream.complete);
                let verdict = match (report.guards.is_empty(), whole) {
                    (false, _) => Verdict::Guarded,
                    (true, false) => Verdict::Partial,
                    (true, true) => Verdict::Ok,
                };
                (verdict, serde_json::to_value(report).map_err(std::io::Error::other)?)
            }
            Err(error) => (Verdict::Failed, serde_json::json!({ "error": error.to_string() })),
        };
        self.store.finish_run(session.run, verdict.as_str(), &summary, now).await?;
        self.close(session).await?;
        result
    }
}

fn group(session: &Session) -> Vec<String> {
    session.group.iter().cloned().collect()
}

fn operations(counts: &[OpCount], sync: &str) -> OperationCounts {
    let mut result = OperationCounts::default();
    for count in counts.iter().filter(|count| count.sync == sync) {
        match (count.state, count.action.as_str()) {
            (OpState::Done, "create") => result.created += count.n,
            (OpState::Done, "update") => {
                result.updated += count.n;
                result.cleared += count.cleared;
            }
            (OpState::Done, "delete") => result.deleted += count.n,
            (OpState::Done, _) => {}
            (OpState::Unknown | OpState::Sending, _) => result.unknown += count.n,
            (OpState::Refused, _) => result.failed += count.n,
            (OpState::Planned | OpState::Pending, _) => result.held += count.n,
            (OpState::Dropped, _) => result.dropped += count.n,
        }
    }
    result
}
