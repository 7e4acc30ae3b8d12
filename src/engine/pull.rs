//! Reading one stream: which kind of reading is due, the page walk, and what can be said about it afterwards.
//!
//! A vendor with a change cursor is asked for what changed since the watermark, less an overlap for rows that become
//! visible late. A vendor without one is read from the newest down to what is known (head scan), and from a rolling
//! position through everything (deep scan). Once in a while everything is read in one go: only such a full scan, with a
//! certificate that nothing was cut, can say that a record is missing.

use std::sync::Arc;

use counterpart_connectors::kit::TRACES;
use counterpart_connectors::{Clock, ConnectorError, ErrorKind, Lane, Millis, PullMode, PullRequest};
use futures_util::future::join;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use tracing::field::Empty;

use super::progress::Event;
use super::report::StreamReport;
use super::session::{STREAM, Source, Wired};
use super::{Engine, EngineError};
use crate::store::{Incoming, PageOutcome, Scan, StreamState};

/// How far behind the newest known change a `since` reading starts again: covers rows that become visible late,
/// equal timestamps and whole-second clocks.
const OVERLAP_MS: Millis = 10 * 60_000;
/// A full scan of a vendor that has a change cursor is due again after this long; it finds deletions.
const FULL_SCAN_EVERY_MS: Millis = 20 * 3_600_000;
/// Newest pages that are read between two portions of everything, where the vendor does not say what changed.
const HEAD_PAGES: u64 = 2;
/// Walks over one stream that are tried until two agree.
const MAX_PASSES: i64 = 3;

/// What a report says of a reading that was asked to stop.
const STOPPED: &str = "stopped; the next run goes on from there";

/// Names of the readings, as kept in the store.
const FULL: &str = "full";
const HEAD: &str = "head";
const SINCE: &str = "since";
const DEEP: &str = "deep";

/// After a page with more rows than this the next one is fetched and mapped in a task of its own, on another core; for
/// less it is not worth waking one.
const ASIDE: usize = 100;

/// A page, read through the mapping and not yet stored.
#[derive(Default)]
struct Sheet {
    rows: Vec<Incoming>,
    problems: u64,
    next: Option<String>,
    total: Option<u64>,
    capped: bool,
    steady: bool,
    left_out: u64,
    /// The newest change on it, in the vendor's own time, so that no clock of ours can make a reading skip a row.
    newest: Option<Millis>,
    clock_offset: Option<Millis>,
}

/// What one walk has met so far.
struct Walk {
    capped: bool,
    /// Rows that nothing can keep: they are not waited for.
    left_out: u64,
    /// No row can have slipped between two pages.
    steady: bool,
    /// The newest change of a reading of everything.
    newest: Option<Millis>,
}

/// Why a walk ended before its last page.
enum Ended {
    AtEnd,
    AtKnown,
    PageLimit,
    Stopped,
}

impl Engine {
    /// Reads one stream as far as is due; of a reading of everything only so many pages, and what changed since the last time
    /// before them, so that a long one keeps no news waiting.
    pub(super) async fn pull(&self, source: &Source, pages: Option<u64>) -> Result<StreamReport, EngineError> {
        let mut report = StreamReport {
            connection: source.wired.name.clone(),
            stream: source.stream.clone(),
            ..StreamReport::default()
        };
        let span = tracing::info_span!(target: TRACES, "reading", connection = report.connection, stream = report.stream, rows = Empty,
            complete = Empty);
        match self.pull_due(source, pages, &mut report).instrument(span.clone()).await {
            Ok(()) => report.ended = report.complete || report.why.as_deref() != Some(STOPPED),
            Err(EngineError::Vendor { error, .. }) if error.kind == ErrorKind::Stopped => {
                report.complete = false;
                report.why = Some(STOPPED.to_owned());
            }
            Err(EngineError::Vendor { error, .. }) => {
                report.complete = false;
                report.why = Some(error.message.clone());
                self.note(&format!("{}: {}", source.wired.name, error.message));
            }
            Err(other) => return Err(other),
        }
        if report.more || report.why.as_deref() != Some(STOPPED) {
            self.keep_outcome(&report).await?;
        }
        span.record("rows", i64::try_from(report.pulled).ok()).record("complete", report.complete);
        Ok(report)
    }

    async fn pull_due(
        &self,
        source: &Source,
        portion: Option<u64>,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let mut state = self.store.stream_state(&source.wired.name, &source.stream).await?;
        let capabilities = &source.capabilities;
        let interrupted = match state.open_scan {
            Some(id) => self.store.scan(id).await?.filter(|scan| scan.mode == FULL),
            None => None,
        };
        let last_full = match state.last_complete_scan {
            Some(id) => self.store.scan(id).await?,
            None => None,
        };
        let full_due = match &last_full {
            None => true,
            Some(scan) => capabilities.since && self.clock.now() - scan.started_at >= FULL_SCAN_EVERY_MS,
        };
        if full_due || interrupted.is_some() {
            let lane = if last_full.is_none() { Lane::Backfill } else { Lane::Audit };
            if portion.is_some()
                && let Some(scan) = &interrupted
            {
                self.keep_up(source, scan, &mut state, report).await?;
            }
            let stale = interrupted.as_ref().filter(|scan| {
                let is_old = self.clock.now() - scan.started_at > OVERLAP_MS;
                scan.pages > 0 && !capabilities.since && is_old && portion.is_none()
            });
            let mut hours = stale.map(|scan| (self.clock.now() - scan.started_at).div_euclid(3_600_000));
            let resumes = interrupted.as_ref().is_some_and(|scan| scan.cursor.is_some());
            let pulled = report.pulled;
            match self.full_scan(source, lane, &mut state, interrupted, portion, report).await {
                Err(error) if resumes && report.pulled == pulled && forgot_the_place(&error) => {
                    self.note_forgotten(source, &error);
                    hours = None;
                    self.full_scan(source, lane, &mut state, None, portion, report).await?;
                }
                outcome => outcome?,
            }
            if let Some(hours) = hours.filter(|_| report.complete) {
                // Nothing else would tell what changed there since; the next run reads all of it again.
                report.complete = false;
                report.why = Some(format!("an interrupted reading was ended: its first pages are {hours} h old"));
            }
            return Ok(());
        }
        if capabilities.since {
            let from = state.watermark.unwrap_or(0);
            return self.since_scan(source, from, &mut state, report).await;
        }
        let Some(pages) = source.wired.config.deep_pages else {
            return self.full_scan(source, Lane::Audit, &mut state, None, portion, report).await;
        };
        if capabilities.head {
            self.head_scan(source, None, &mut state, report).await?;
        }
        if pages > 0 {
            self.deep_scan(source, pages, &mut state, report).await?;
        }
        Ok(())
    }

    /// What changed while everything is being read, where the vendor says.
    async fn keep_up(
        &self,
        source: &Source,
        everything: &Scan,
        state: &mut StreamState,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        if source.capabilities.since {
            let from = state.watermark.unwrap_or_else(|| began(everything, state));
            self.since_scan(source, from, state, report).await
        } else if source.capabilities.head {
            // What was there when everything began to be read is met by that.
            self.head_scan(source, Some(HEAD_PAGES), state, report).await
        } else {
            Ok(())
        }
    }

    /// Walks the whole stream, again when pages moved meanwhile, and sweeps for missing records when it was whole.
    async fn full_scan(
        &self,
        source: &Source,
        lane: Lane,
        state: &mut StreamState,
        interrupted: Option<Scan>,
        portion: Option<u64>,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let mut scan = match interrupted {
            Some(scan) => scan,
            None => self.store.begin_scan(&source.wired.name, &source.stream, FULL, self.clock.now()).await?,
        };
        state.open_scan = Some(scan.id);
        let mut newest = None;
        let verdict = loop {
            let before = scan.distinct;
            // What a second walk meets is compared with what the first one did: it is made in one go.
            let most = portion.filter(|_| scan.passes == 0);
            let (walk, ended) = self.walk(source, lane, PullMode::Full, &mut scan, state, most, report).await?;
            newest = newest.max(walk.newest);
            if !matches!(ended, Ended::AtEnd) {
                report.complete = false;
                report.why = Some(STOPPED.to_owned());
                report.more = matches!(ended, Ended::PageLimit);
                return Ok(());
            }
            scan.passes += 1;
            match certify(source, &scan, &walk, before) {
                Coverage::Whole => break Ok(()),
                Coverage::Cut(why) => break Err(why),
                Coverage::Doubtful(why) if scan.passes >= MAX_PASSES => break Err(why),
                Coverage::Doubtful(_) => {}
            }
        };
        // What changed behind the walk while it went on is left to the next reading of changes.
        let began = began(&scan, state);
        state.watermark = state.watermark.max(newest.map(|newest| newest.min(began)));
        scan.finished_at = Some(self.clock.now());
        scan.cursor = None;
        scan.complete = verdict.is_ok();
        scan.why = verdict.clone().err();
        self.store.finish_scan(&scan).await?;
        state.open_scan = None;
        if scan.complete {
            state.last_complete_scan = Some(scan.id);
        }
        state.last_pull_at = scan.finished_at;
        report.complete = scan.complete;
        report.why = scan.why.clone();
        self.judge_silence(source, &scan, state, report).await?;
        self.store.save_stream_state(&source.wired.name, &source.stream, state).await?;
        if report.complete {
            self.store.sweep_missing(scan.id, self.clock.now()).await?;
            if source.stream == STREAM {
                self.settle_unknown(&source.wired, scan.started_at).await?;
            }
        }
        Ok(())
    }

    /// A stream that shows nothing where there used to be plenty is not a success, whatever its pages say.
    async fn judge_silence(
        &self,
        source: &Source,
        scan: &Scan,
        state: &mut StreamState,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let usual = state.typical_rows.unwrap_or(0);
        if scan.distinct == 0 && usual > 0 {
            report.complete = false;
            report.why = Some(format!("silent: no rows where {usual} are usual"));
            self.note(&format!(
                "{}: the stream is silent, {usual} rows are usual; nothing is taken as deleted",
                source.wired.name
            ));
        } else {
            state.typical_rows = Some(scan.distinct);
        }
        Ok(())
    }

    async fn since_scan(
        &self,
        source: &Source,
        from: Millis,
        state: &mut StreamState,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let from = from.saturating_sub(OVERLAP_MS).max(0);
        let mut scan = self.store.begin_scan(&source.wired.name, &source.stream, SINCE, self.clock.now()).await?;
        let (walk, ended) = loop {
            let (pages, changed) = (scan.pages, report.changed);
            let (walk, ended) =
                self.walk(source, Lane::Incremental, PullMode::Since(from), &mut scan, state, None, report).await?;
            scan.passes += 1;
            // A row that changes again while one reads moves to the end, and its neighbour may slip between two pages: the
            // walk is made again until it brings nothing new.
            let sure = walk.steady || scan.pages - pages <= 1;
            let settled = scan.passes > 1 && report.changed == changed;
            if sure || settled || scan.passes >= MAX_PASSES || !matches!(ended, Ended::AtEnd) {
                break (walk, ended);
            }
        };
        self.close_partial(source, scan, &walk, &ended, state, report).await
    }

    async fn head_scan(
        &self,
        source: &Source,
        pages: Option<u64>,
        state: &mut StreamState,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let mut scan = self.store.begin_scan(&source.wired.name, &source.stream, HEAD, self.clock.now()).await?;
        let (walk, ended) =
            self.walk(source, Lane::Incremental, PullMode::Head, &mut scan, state, pages, report).await?;
        self.close_partial(source, scan, &walk, &ended, state, report).await
    }

    /// Reads on for some pages from where the last deep scan stopped, and starts over at the end.
    async fn deep_scan(
        &self,
        source: &Source,
        pages: u64,
        state: &mut StreamState,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let mut scan = self.store.begin_scan(&source.wired.name, &source.stream, DEEP, self.clock.now()).await?;
        scan.cursor = state.deep_cursor.clone();
        let walked = self.walk(source, Lane::Audit, PullMode::Full, &mut scan, state, Some(pages), report).await;
        let (walk, ended) = match walked {
            Err(error) if scan.pages == 0 && scan.cursor.is_some() && forgot_the_place(&error) => {
                self.note_forgotten(source, &error);
                scan.cursor = None;
                self.walk(source, Lane::Audit, PullMode::Full, &mut scan, state, Some(pages), report).await?
            }
            walked => walked?,
        };
        state.deep_cursor = match ended {
            Ended::AtEnd => None,
            _ => scan.cursor.clone(),
        };
        self.close_partial(source, scan, &walk, &ended, state, report).await
    }

    fn note_forgotten(&self, source: &Source, error: &EngineError) {
        self.note(&format!("{error}; a reading of {} stopped there before, so that it begins anew", source.stream));
    }

    async fn close_partial(
        &self,
        source: &Source,
        mut scan: Scan,
        walk: &Walk,
        ended: &Ended,
        state: &mut StreamState,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        scan.finished_at = Some(self.clock.now());
        scan.why = Some(format!("a {} reading does not cover the stream", scan.mode));
        self.store.finish_scan(&scan).await?;
        state.last_pull_at = scan.finished_at;
        self.store.save_stream_state(&source.wired.name, &source.stream, state).await?;
        report.complete = !walk.capped && !matches!(ended, Ended::Stopped);
        if walk.capped {
            report.why = Some("the vendor's cap was reached; more rows exist".to_owned());
        }
        if matches!(ended, Ended::Stopped) {
            report.why = Some(STOPPED.to_owned());
        }
        Ok(())
    }

    /// Reads page after page. While one page is being stored the next one is already fetched and mapped, except where what
    /// the page holds decides whether another is wanted.
    #[expect(clippy::too_many_arguments, reason = "one walk, described by what it reads and what it reports to")]
    async fn walk(
        &self,
        source: &Source,
        lane: Lane,
        mode: PullMode,
        scan: &mut Scan,
        state: &mut StreamState,
        page_limit: Option<u64>,
        report: &mut StreamReport,
    ) -> Result<(Walk, Ended), EngineError> {
        let mut walk = Walk { capped: false, left_out: 0, steady: true, newest: None };
        let mut pages = 0;
        let mut page = self.page(source, lane, mode, scan.cursor.clone()).await?;
        loop {
            pages += 1;
            walk.capped |= page.capped;
            walk.steady &= page.steady;
            walk.left_out += page.left_out;
            scan.total = page.total.map(|total| total.saturating_sub(walk.left_out) as i64).or(scan.total);
            state.clock_offset = page.clock_offset.or(state.clock_offset);
            match mode {
                // Rows come in any order, and what changed before the newest of them may still be to come.
                PullMode::Full => walk.newest = walk.newest.max(page.newest),
                PullMode::Head | PullMode::Since(_) => state.watermark = state.watermark.max(page.newest),
            }
            report.problems += page.problems;
            let (rows, next) = (page.rows, page.next);
            scan.cursor.clone_from(&next);
            let look_ahead = next.is_some()
                && mode != PullMode::Head
                && page_limit.is_none_or(|limit| pages < limit)
                && !self.stop.is_cancelled();
            let now = self.clock.now();
            let store = self.store.observe_page(&source.wired.name, &source.stream, &rows, scan, state, now);
            let (outcome, ahead) = if look_ahead {
                let fetch = read_page(source.clone(), self.clock.clone(), lane, mode, next.clone());
                let (outcome, ahead) = if rows.len() > ASIDE {
                    let fetch = AbortOnDropHandle::new(tokio::spawn(fetch.in_current_span()));
                    let outcome = store.await;
                    let ahead = fetch.await;
                    (outcome, ahead.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic())))
                } else {
                    join(store, fetch).await
                };
                (outcome?, Some(ahead.map_err(|error| self.vendor(&source.wired, error))))
            } else {
                (store.await?, None)
            };
            let all_known = outcome.new == 0 && outcome.changed == 0;
            self.tally(source, &outcome, rows.len() as u64, scan, report);
            page = match (ahead, next) {
                (Some(ahead), _) => ahead?,
                (None, None) => return Ok((walk, Ended::AtEnd)),
                (None, Some(_)) if self.stop.is_cancelled() => return Ok((walk, Ended::Stopped)),
                (None, Some(_)) if mode == PullMode::Head && all_known => return Ok((walk, Ended::AtKnown)),
                (None, Some(_)) if page_limit.is_some_and(|limit| pages >= limit) => {
                    return Ok((walk, Ended::PageLimit));
                }
                (None, next) => self.page(source, lane, mode, next).await?,
            };
        }
    }

    fn tally(&self, source: &Source, outcome: &PageOutcome, rows: u64, scan: &Scan, report: &mut StreamReport) {
        report.pulled += rows;
        report.changed += outcome.new + outcome.changed;
        let total = scan.total.and_then(|total| u64::try_from(total).ok());
        self.progress.event(Event::Pulling {
            connection: &source.wired.name,
            stream: &source.stream,
            done: report.pulled,
            total,
            eta_ms: total.map(|total| self.pull_eta(source, total.saturating_sub(report.pulled))),
        });
    }

    async fn page(
        &self,
        source: &Source,
        lane: Lane,
        mode: PullMode,
        cursor: Option<String>,
    ) -> Result<Sheet, EngineError> {
        let page = read_page(source.clone(), self.clock.clone(), lane, mode, cursor);
        page.await.map_err(|error| self.vendor(&source.wired, error))
    }

    pub(super) fn vendor(&self, wired: &Wired, error: ConnectorError) -> EngineError {
        EngineError::Vendor { connection: wired.name.clone(), error }
    }
}

/// When a reading began, by the vendor's clock.
fn began(scan: &Scan, state: &StreamState) -> Millis {
    scan.started_at + state.clock_offset.unwrap_or(0)
}

/// Whether an answer to a stored cursor says that nobody can go on from there: the vendor refuses it or knows no such page, or
/// it cannot be read. What else is wrong will pass.
fn forgot_the_place(error: &EngineError) -> bool {
    let EngineError::Vendor { error, .. } = error else { return false };
    match error.kind {
        ErrorKind::Invalid { .. } => true,
        ErrorKind::Contract => matches!(error.status, None | Some(404 | 410)),
        _ => false,
    }
}

/// Fetches one page and reads it through the mapping.
async fn read_page(
    source: Source,
    clock: Arc<dyn Clock>,
    lane: Lane,
    mode: PullMode,
    cursor: Option<String>,
) -> Result<Sheet, ConnectorError> {
    let page = source
        .wired
        .connection
        .pull(lane, PullRequest { stream: &source.stream, mode, cursor: cursor.as_deref(), parent: None })
        .await?;
    let mut sheet = Sheet {
        newest: page.records.iter().filter_map(|record| record.updated_at).max(),
        clock_offset: page.server_time.map(|server| server - clock.now()),
        next: page.next,
        total: page.total,
        capped: page.capped,
        steady: page.steady,
        left_out: page.left_out,
        problems: page.left_out,
        ..Sheet::default()
    };
    for record in page.records {
        let observed = source.observe(record);
        sheet.problems += observed.problems;
        sheet.rows.push(observed.row);
    }
    Ok(sheet)
}

/// What a finished walk says about the stream as a whole.
enum Coverage {
    /// Every row was seen.
    Whole,
    /// Rows may have slipped between pages; another walk can tell.
    Doubtful(String),
    /// Rows are known to be missing and another walk would not show them.
    Cut(String),
}

fn certify(source: &Source, scan: &Scan, walk: &Walk, distinct_before: i64) -> Coverage {
    if walk.capped {
        return Coverage::Cut("the vendor's cap was reached; more rows exist".to_owned());
    }
    // A second walk that meets nothing new shows that the first one missed nothing the vendor would show.
    let walks_agree = scan.passes > 1 && scan.distinct == distinct_before;
    match scan.total {
        Some(total) if scan.distinct >= total => Coverage::Whole,
        Some(total) => {
            let why = format!("{total} rows announced, {} seen", scan.distinct);
            if walks_agree { Coverage::Cut(why) } else { Coverage::Doubtful(why) }
        }
        None if source.capabilities.stable_pages || walks_agree => Coverage::Whole,
        None => Coverage::Doubtful("no total to compare with, and rows may move between pages".to_owned()),
    }
}
