//! What a run says afterwards: counts, calls, what waits, and one honest verdict.

use std::collections::BTreeMap;

use counterpart_core::guard::Tripped;
use serde::{Deserialize, Serialize};

use super::worker::Pass;
use crate::store::MessageState;

/// How a run ended, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything read, everything written, nothing waits.
    Ok,
    /// Something is in a queue, a page walk was cut, or a stream was silent.
    Partial,
    /// A guard stopped the writes; a person must approve the plan.
    Guarded,
    /// Nothing useful could be done on at least one sync.
    Failed,
}

impl Verdict {
    /// The exit code of the command line contract.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Failed => 1,
            Verdict::Partial => 3,
            Verdict::Guarded => 4,
        }
    }

    /// The word used in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Partial => "partial",
            Verdict::Guarded => "guarded",
            Verdict::Failed => "failed",
        }
    }
}

/// What reading one stream of one connection gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Name of the connection.
    pub connection: String,
    /// Name of the stream.
    pub stream: String,
    /// Rows the vendor handed out, repeats included.
    pub pulled: u64,
    /// Records that were new or differed from what was known.
    pub changed: u64,
    /// Values that could not be read in the kind their field has; kept at their own side, never pushed on. Rows with an id that
    /// nothing can keep, which are left out, count here too.
    pub problems: u64,
    /// Whether the reading went as far as was due, whatever it then showed.
    pub ended: bool,
    /// Whether the reading that was due ended as it should.
    pub complete: bool,
    /// Why it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether only a portion of what is due was wanted, and went well.
    #[serde(skip)]
    pub more: bool,
}

/// Operations of one sync by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCounts {
    /// Records created.
    pub created: u64,
    /// Records updated, clears included.
    pub updated: u64,
    /// Fields cleared by those updates.
    pub cleared: u64,
    /// Records deleted.
    pub deleted: u64,
    /// Messages sent.
    pub sent: u64,
    /// Conversations resolved.
    pub resolved: u64,
    /// Refused by the vendor, or not reachable.
    pub failed: u64,
    /// Sent, but whether it worked is not known yet.
    pub unknown: u64,
    /// Planned and not carried out (a guard or a stop).
    pub held: u64,
    /// Given up, because the record had changed or gone meanwhile; what is still wanted is planned anew.
    #[serde(default)]
    pub dropped: u64,
}

impl OperationCounts {
    /// Writes that reached a vendor.
    pub fn writes(&self) -> u64 {
        self.created + self.updated + self.deleted + self.sent + self.resolved
    }
}

/// One sync's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Name of the sync.
    pub name: String,
    /// One entry for each stream that was read.
    pub streams: Vec<StreamReport>,
    /// What was written.
    pub operations: OperationCounts,
    /// Conflicts and reviews that wait for a person.
    pub conflicts: u64,
    /// Calls by connection.
    pub calls: BTreeMap<String, u64>,
    /// Answers 429 by connection.
    pub rate_limited: BTreeMap<String, u64>,
    /// From the start of the run to its end, by the engine's clock.
    pub duration_ms: i64,
}

/// Calls by what they were for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentReport {
    /// Name of the connection.
    pub connection: String,
    /// The lane they were drawn from.
    pub lane: String,
    /// What they did.
    pub purpose: String,
    /// How many.
    pub calls: u64,
}

/// The result of `sync` and `apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Number of the run in the store.
    pub run: i64,
    /// The worst that is true.
    pub verdict: Verdict,
    /// One entry for each sync.
    pub syncs: Vec<SyncReport>,
    /// Guards that tripped.
    pub guards: Vec<Tripped>,
    /// What each call was spent on.
    pub spent: Vec<SpentReport>,
    /// What was done for the flows beside the contacts; none where there are no flows, or another process does it. What
    /// was sent and resolved is counted in the operations of the first sync as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Pass>,
    /// Messages that wait for a person, by state: `unknown` ones may have arrived or not, `refused` ones did not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub messages_waiting: BTreeMap<String, u64>,
    /// What a person should know, in the order it happened.
    pub notes: Vec<String>,
}

impl RunReport {
    /// Adds what was done for the flows.
    pub fn tell(&mut self, streams: &[StreamReport], pass: Pass) {
        if let Some(first) = self.syncs.first_mut() {
            first.operations.sent += pass.sent;
            first.operations.resolved += pass.resolved;
        }
        let cut: Vec<&StreamReport> = streams.iter().filter(|stream| !stream.complete).collect();
        for stream in &cut {
            let why = stream.why.as_deref().unwrap_or("no reason is known");
            self.notes.push(format!("{}: {} was not read completely: {why}", stream.connection, stream.stream));
        }
        if !cut.is_empty() || pass.refused + pass.unknown > 0 {
            self.verdict = self.verdict.max(Verdict::Partial);
        }
        self.messages = Some(pass);
    }

    /// Adds something that kept the run from doing all that was due.
    pub fn cut(&mut self, why: String) {
        self.notes.push(why);
        self.verdict = self.verdict.max(Verdict::Partial);
    }

    /// Adds the messages that wait for a person, those of earlier runs included.
    pub fn wait(&mut self, states: BTreeMap<MessageState, u64>) {
        let waits = |state: &MessageState| matches!(state, MessageState::Unknown | MessageState::Refused);
        self.messages_waiting = states
            .into_iter()
            .filter(|(state, n)| waits(state) && *n > 0)
            .map(|(s, n)| (s.as_str().to_owned(), n))
            .collect();
        if !self.messages_waiting.is_empty() {
            self.verdict = self.verdict.max(Verdict::Partial);
        }
    }
}

/// Calls and time for one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Name of the connection.
    pub connection: String,
    /// Calls that the planned writes take, reads before writing included.
    pub calls: u64,
    /// How long the budget makes them last.
    pub duration_ms: i64,
}

/// Planned operations of one connection and action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCount {
    /// Name of the sync.
    pub sync: String,
    /// Name of the connection.
    pub connection: String,
    /// `create`, `update` or `delete`.
    pub action: String,
    /// How many.
    pub operations: u64,
}

/// Records of a connection that are taken as gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// Name of the connection.
    pub connection: String,
    /// How many.
    pub records: u64,
}

/// The result of `plan`: the head of a plan; its operations stay in the store under `run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Number of the run that holds the operations.
    pub run: i64,
    /// `sync`, or `revert:N`.
    pub kind: String,
    /// The syncs planned.
    pub syncs: Vec<String>,
    /// Hash over all operations in order: the same world gives the same hash.
    pub hash: String,
    /// How many of what.
    pub counts: Vec<PlannedCount>,
    /// Records that have gone, and what is left of their people is kept: nothing is written for it.
    #[serde(default)]
    pub departures: Vec<Departed>,
    /// Cost and time by connection.
    pub forecast: Vec<Forecast>,
    /// When the last write would be done if it started now.
    pub finish_at: i64,
    /// Guards that this plan trips: `sync` would stop, `apply` goes ahead because a person read it.
    pub guards: Vec<Tripped>,
    /// What was read for it.
    pub streams: Vec<StreamReport>,
    /// Conflicts and reviews that wait for a person.
    pub conflicts: u64,
    /// What cannot be done, and why.
    pub notes: Vec<String>,
}

/// What `apply` needs to know of a plan file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHeader {
    /// `sync`, or `revert:N`.
    pub kind: String,
    /// The syncs planned.
    pub syncs: Vec<String>,
    /// Hash over all operations.
    pub hash: String,
}
