//! Webhook subscriptions at the vendors: what the configuration needs is there once and delivers, and what is not ours is
//! not touched.
//!
//! Everything begins with a look: what is missing is made, what was switched off is switched on again, what is there twice
//! is deleted. After every change it is looked again, so that a change whose answer was lost is found before anything is
//! repeated.

use std::collections::BTreeSet;
use std::sync::Arc;

use counterpart_connectors::{Connection, ConnectorError, ErrorKind, Lane, Millis, Per, Subscription};
use serde::Serialize;
use serde_json::json;

use super::holder::holder;
use super::session::{LEASE_MS, Wired};
use super::worker::Worker;
use super::{Engine, EngineError, Verdict, used_streams};
use crate::budget::Ledger;

/// Rounds of changes at one connection; more are of no use when the vendor does not answer.
const ROUNDS: usize = 4;
/// A list shows what was made at the latest after this time, whatever else settles later.
const SETTLE_MS: Millis = 30_000;

/// What to do about webhook subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookWish {
    /// Look only.
    Look,
    /// Make what is missing, switch on what is off, delete what is there twice.
    Keep,
    /// Delete our own.
    Remove,
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It delivers.
    Active,
    /// The vendor has switched it off.
    Off,
    /// It lacks topics that are needed.
    Incomplete,
    /// There is none.
    Missing,
    /// There is another one for the same, or its address is an old one.
    Surplus,
    /// It delivers what the configuration does not need, and is left alone.
    Unused,
    /// It delivers, and the vendor signs with a secret that is not known here.
    Unverifiable,
}

impl Standing {
    /// Whether it is as it should be.
    pub fn is_well(self) -> bool {
        matches!(self, Standing::Active | Standing::Unused)
    }

    /// In words.
    pub fn in_words(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Off => "switched off",
            Standing::Incomplete => "lacks topics",
            Standing::Missing => "missing",
            Standing::Surplus => "surplus",
            Standing::Unused => "not needed",
            Standing::Unverifiable => "signed with another secret",
        }
    }
}

/// A subscription that is there, or should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookEntry {
    /// Its topics.
    pub topics: Vec<String>,
    /// Topics that are needed and that it does not have; all of them where there is none.
    pub lacks: Vec<String>,
    /// How it stands.
    pub state: Standing,
    /// The vendor's id.
    pub id: Option<String>,
    /// The vendor's word for its state.
    pub said: Option<String>,
    /// Whether a rule that somebody made by hand at the vendor sends through it: it is left alone.
    pub by_rule: bool,
}

/// Something done at the vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "did")]
pub enum HookStep {
    /// Made.
    Subscribed {
        /// Its topics.
        topics: Vec<String>,
    },
    /// Switched on again, or given the topics it lacked.
    Restored {
        /// The vendor's id.
        id: String,
        /// Its topics.
        topics: Vec<String>,
    },
    /// Deleted.
    Deleted {
        /// The vendor's id.
        id: String,
        /// Its topics.
        topics: Vec<String>,
    },
}

impl HookStep {
    /// The topics it is about.
    pub fn topics(&self) -> &[String] {
        match self {
            HookStep::Subscribed { topics } | HookStep::Restored { topics, .. } | HookStep::Deleted { topics, .. } => {
                topics
            }
        }
    }

    /// Short stable name.
    pub fn word(&self) -> &'static str {
        match self {
            HookStep::Subscribed { .. } => "subscribed",
            HookStep::Restored { .. } => "restored",
            HookStep::Deleted { .. } => "deleted",
        }
    }

    /// What was done, in words.
    pub fn in_words(&self) -> String {
        let (word, id) = match self {
            HookStep::Subscribed { .. } => ("subscribed to", None),
            HookStep::Restored { id, .. } => ("restored", Some(id)),
            HookStep::Deleted { id, .. } => ("deleted", Some(id)),
        };
        let id = id.map(|id| format!(" (webhook {id})")).unwrap_or_default();
        format!("{word} {}{id}", self.topics().join(", "))
    }
}

/// The webhooks of one connection.
#[derive(Clone, Debug, Serialize)]
pub struct HookReport {
    /// The connection.
    pub connection: String,
    /// The address that the vendor calls; a secret at its end is not shown.
    pub address: String,
    /// Our own subscriptions, and those that are missing.
    pub subscriptions: Vec<HookEntry>,
    /// What was done.
    pub done: Vec<HookStep>,
    /// Why this cannot be done by the vendor's API, and what to do instead.
    pub why_not: Option<String>,
    /// What kept it from being done.
    pub error: Option<String>,
    /// What the operator has to do now.
    pub notes: Vec<String>,
}

impl HookReport {
    /// Whether all is as it should be, as far as it can be told.
    pub fn is_well(&self) -> bool {
        self.error.is_none() && self.subscriptions.iter().all(|entry| entry.state.is_well())
    }

    fn empty(connection: &str, address: String) -> HookReport {
        HookReport {
            connection: connection.to_owned(),
            address,
            subscriptions: Vec::new(),
            done: Vec::new(),
            why_not: None,
            error: None,
            notes: Vec::new(),
        }
    }
}

impl Engine {
    /// Does what is wished at the named connections, or at all. Calls come out of the budget; changes are made under a lease
    /// of their own, which no sync holds up. What cannot be done at one connection does not keep it from the others; at the
    /// only one, and at one that was named and lacks something, it is an error.
    pub async fn hooks(&self, names: &[String], wish: HookWish) -> Result<Vec<HookReport>, EngineError> {
        let named: BTreeSet<String> = names.iter().cloned().collect();
        let all: BTreeSet<String> = match named.is_empty() {
            true => self.config.connections.keys().cloned().collect(),
            false => named.clone(),
        };
        let receivers = self.receivers()?;
        let mut reports = Vec::new();
        let mut active = BTreeSet::new();
        for name in &all {
            let connection = receivers.get(name).ok_or_else(|| EngineError::NoSuchConnection(name.clone()))?;
            match self.obstacle(name, connection, wish) {
                None => drop(active.insert(name.clone())),
                Some(error) if named.contains(name) && wish != HookWish::Look => return Err(error),
                Some(error) => reports.push(self.left_alone(name, error)),
            }
        }
        if !active.is_empty() {
            self.hook_base("")?;
            reports.extend(self.hooks_run(&active, wish).await?);
        }
        reports.sort_by(|one, other| one.connection.cmp(&other.connection));
        Ok(reports)
    }

    async fn hooks_run(&self, active: &BTreeSet<String>, wish: HookWish) -> Result<Vec<HookReport>, EngineError> {
        let holder = holder();
        let mut held = Vec::new();
        let outcome: Result<_, EngineError> = async {
            for name in active.iter().filter(|_| wish != HookWish::Look) {
                if let Some((holder, until)) = self.take(&hooks_lease(name), &holder).await? {
                    return Err(EngineError::Busy { connection: name.clone(), holder, until });
                }
                held.push(hooks_lease(name));
            }
            self.hooks_budgeted(active, wish, &holder, held.clone()).await
        }
        .await;
        for lease in &held {
            self.store.release_lease(lease, &holder).await?;
        }
        outcome
    }

    async fn hooks_budgeted(
        &self,
        active: &BTreeSet<String>,
        wish: HookWish,
        holder: &str,
        leases: Vec<String>,
    ) -> Result<Vec<HookReport>, EngineError> {
        // Under the leases, whoever began such a run and did not end it is dead.
        let about: Vec<String> = active.iter().map(|name| format!("webhooks of {name}")).collect();
        let about = if leases.is_empty() { Vec::new() } else { about };
        self.store.fail_orphaned_runs(&about, self.clock.now()).await?;
        let budgets = self.budgets(active)?;
        let run = self.store.start_run("hooks", &about, "", self.clock.now()).await?;
        let ledger = Arc::new(Ledger::new(self.store.clone(), self.clock.clone(), budgets, run, holder.to_owned()));
        let gate = Arc::new(self.gate(&ledger, leases, holder, self.stop.clone()));
        let outcome: Result<Vec<HookReport>, EngineError> = async {
            let mut reports = Vec::new();
            for name in active {
                let held = (wish != HookWish::Look).then_some(holder);
                match self.tend(&self.wire(name, gate.clone())?, wish, held).await {
                    Ok(report) => reports.push(report),
                    Err(error @ EngineError::Vendor { .. }) if active.len() > 1 && !self.is_stopped() => {
                        reports.push(self.left_alone(name, error));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(reports)
        }
        .await;
        ledger.close().await?;
        let verdict = match &outcome {
            Ok(reports) if reports.iter().all(HookReport::is_well) => Verdict::Ok,
            Ok(reports) if reports.iter().all(|report| report.error.is_some()) => Verdict::Failed,
            Ok(_) => Verdict::Partial,
            Err(_) => Verdict::Failed,
        };
        let done: Vec<&HookStep> = outcome.iter().flatten().flat_map(|report| &report.done).collect();
        self.store.finish_run(run, verdict.as_str(), &json!({ "done": done }), self.clock.now()).await?;
        outcome
    }

    /// Why the wish cannot be fulfilled at a connection.
    fn obstacle(&self, name: &str, connection: &Connection, wish: HookWish) -> Option<EngineError> {
        let error = |keys: &[&str], message: String, help: String| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            Some(EngineError::Hooks { keys, message, help })
        };
        if let Err(unsupported) = connection.subscribes() {
            return error(&[], unsupported.message, format!("`{name}` has nothing to register here; leave it out"));
        }
        if wish != HookWish::Look && self.config.connections[name].read_only {
            let message = format!("connection `{name}` is read_only: its webhooks are not changed");
            return error(&["connections", name, "read_only"], message, "make them at the vendor by hand".to_owned());
        }
        let secrets = connection.secret_before_subscribing();
        if wish == HookWish::Keep && !secrets.is_empty() {
            let secrets = secrets.join("` or `");
            let message = format!("connection `{name}` has no secret to verify webhooks with: all would be refused");
            return error(&["connections", name], message, format!("set `{secrets}` first"));
        }
        None
    }

    fn left_alone(&self, name: &str, why: EngineError) -> HookReport {
        let mut report = HookReport::empty(name, self.hook_base(name).unwrap_or_default());
        match why {
            EngineError::Hooks { keys, message, .. } if keys.is_empty() => report.why_not = Some(message),
            EngineError::Hooks { message, help, .. } => report.error = Some(format!("{message}; {help}")),
            EngineError::Vendor { error, .. } => report.error = Some(error.message),
            other => report.error = Some(other.to_string()),
        }
        report
    }

    /// Where the webhooks of a connection come in.
    fn hook_base(&self, name: &str) -> Result<String, EngineError> {
        let url = self.config.serve.public_url.as_ref().ok_or_else(|| EngineError::Hooks {
            keys: vec!["serve".to_owned(), "public_url".to_owned()],
            message: "there is no address that vendors can call".to_owned(),
            help: "set `public_url` in [serve]: `https://hooks.example.com`".to_owned(),
        })?;
        Ok(format!("{url}/hooks/{name}"))
    }

    /// Looks, changes what the wish asks for, and looks again until nothing is left to do. `held` is who holds the lease.
    async fn tend(&self, wired: &Wired, wish: HookWish, held: Option<&str>) -> Result<HookReport, EngineError> {
        let (name, connection) = (&wired.name, &wired.connection);
        let base = self.hook_base(name)?;
        let vendor = |error| self.vendor(wired, error);
        let facts = connection.subscribes().map_err(vendor)?;
        let wanted = connection.hook_topics(&used_streams(&self.config, name));
        let mut report = HookReport::empty(name, connection.shown_hook_address(&base));
        let mut changes = Changes::default();
        for round in 0.. {
            let found = connection.subscriptions(Lane::Repair, &base).await.map_err(vendor)?;
            report.subscriptions = judge(facts.per, &wanted, &found);
            let open = changes.open(steps(wish, &report.subscriptions));
            match changes.trouble.take() {
                Some(error) if round == ROUNDS && !open.is_empty() => return Err(vendor(error)),
                _ if round == ROUNDS || open.is_empty() => break,
                _ => {}
            }
            for step in open {
                self.still_held(name, held).await?;
                changes.make(connection, &base, step, facts.update.is_some()).await.map_err(vendor)?;
            }
            if changes.may_have_made() {
                self.let_settle(wired.config.settle_ms.min(SETTLE_MS)).await;
            }
            self.still_held(name, held).await?;
        }
        report.notes = changes.refused.iter().map(|(_, why)| format!("`{name}`: {why}")).collect();
        let late = steps(wish, &report.subscriptions).into_iter().filter(|step| changes.done.contains(step));
        let late =
            late.map(|step| format!("`{name}`: the vendor said yes and does not show it yet: {}", step.in_words()));
        report.notes.extend(late);
        report.notes.extend(notes(connection, &wanted, &report.subscriptions));
        if wish == HookWish::Remove && wired.config.keep_hooks {
            let undone =
                "a running `serve` makes them again, as the connection says hooks = \"keep\": take that out first";
            report.notes.push(format!("`{name}`: {undone}"));
        }
        if wish == HookWish::Remove {
            report.subscriptions.retain(|entry| entry.id.is_some());
        }
        report.done = changes.done;
        Ok(report)
    }

    /// Keeps the lease: whoever waits long for a vendor may not lose it to another one who then makes everything twice.
    async fn still_held(&self, name: &str, held: Option<&str>) -> Result<(), EngineError> {
        let (Some(holder), lease) = (held, hooks_lease(name)) else { return Ok(()) };
        if self.store.renew_lease(&lease, holder, self.clock.now(), LEASE_MS).await? {
            return Ok(());
        }
        let (holder, until) = self.store.lease_holder(&lease).await?.unwrap_or_default();
        Err(EngineError::Busy { connection: name.to_owned(), holder, until })
    }

    /// A list that lags does not show yet what was made without an answer.
    async fn let_settle(&self, pause: Millis) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.clock.sleep_until(self.clock.now() + pause) => {}
        }
    }
}

/// What became of the changes at one connection.
#[derive(Default)]
struct Changes {
    done: Vec<HookStep>,
    /// Those whose answer was lost.
    unsure: Vec<HookStep>,
    trouble: Option<ConnectorError>,
    /// Those that the vendor refused, and why.
    refused: Vec<(HookStep, String)>,
}

impl Changes {
    /// What is left to do of what a look shows to be needed. What the vendor said yes or no to is never repeated; what it
    /// did without saying so shows by now.
    fn open(&mut self, needed: Vec<HookStep>) -> Vec<HookStep> {
        self.done.extend(self.unsure.drain(..).filter(|step| !needed.contains(step) && !is_lost(step, &needed)));
        let told = |step: &HookStep| self.done.contains(step) || self.refused.iter().any(|(other, _)| other == step);
        needed.into_iter().filter(|step| !told(step)).collect()
    }

    /// Whether something may have been made whose answer was lost.
    fn may_have_made(&self) -> bool {
        self.unsure.iter().any(|step| !matches!(step, HookStep::Deleted { .. }))
    }

    async fn make(
        &mut self,
        connection: &Connection,
        base: &str,
        step: HookStep,
        can_change: bool,
    ) -> Result<(), ConnectorError> {
        match carry_out(connection, base, &step, can_change).await {
            Ok(()) => {
                tracing::info!(connection = connection.name(), "{}", step.in_words());
                self.done.push(step);
            }
            Err(error) if may_be_done(&step, &error) => {
                tracing::warn!(connection = connection.name(), %error, "whether that happened is looked up");
                self.unsure.push(step);
                self.trouble = Some(error);
            }
            Err(error) if is_refusal(&error) => {
                let why = format!("{}: {error}", step.topics().join(", "));
                self.refused.push((step, why));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whether what was to be restored is gone instead, so that it has to be made.
fn is_lost(step: &HookStep, needed: &[HookStep]) -> bool {
    let HookStep::Restored { topics: meant, .. } = step else { return false };
    let anew = |other: &HookStep| matches!(other, HookStep::Subscribed { topics } if topics.iter().all(|topic| meant.contains(topic)));
    needed.iter().any(anew)
}

impl Worker<'_> {
    /// Restores what vendors dropped at connections whose webhooks are kept; one entry for each of them. One that another
    /// process is at is left to it.
    pub async fn keep_hooks(&self) -> Result<Vec<(String, Result<HookReport, EngineError>)>, EngineError> {
        let mut kept = Vec::new();
        for (name, wired) in self.wired.iter().filter(|(_, wired)| wired.config.keep_hooks) {
            let lease = hooks_lease(name);
            let holder = holder();
            if self.engine.take(&lease, &holder).await?.is_some() {
                continue;
            }
            let outcome = match self.engine.obstacle(name, &wired.connection, HookWish::Keep) {
                Some(error) => Err(error),
                None => self.engine.tend(wired, HookWish::Keep, Some(&holder)).await,
            };
            self.engine.store.release_lease(&lease, &holder).await?;
            kept.push((name.clone(), outcome));
        }
        self.ledger.flush().await?;
        Ok(kept)
    }
}

fn hooks_lease(connection: &str) -> String {
    format!("hooks:{connection}")
}

/// How every subscription of ours stands, and what is missing. One that a rule made by hand sends through is judged as it is;
/// none is made beside it while it delivers, as the two would be signed with different secrets.
fn judge(per: Per, wanted: &BTreeSet<String>, found: &[Subscription]) -> Vec<HookEntry> {
    let groups: Vec<Vec<String>> = match per {
        Per::Topic => wanted.iter().map(|topic| vec![topic.clone()]).collect(),
        Per::All if wanted.is_empty() => Vec::new(),
        Per::All => vec![wanted.iter().cloned().collect()],
    };
    let (by_rule, found): (Vec<_>, Vec<_>) = found.iter().partition(|one| one.by_rule);
    let delivers = |one: &Subscription| one.at_address && one.active;
    let mut taken = BTreeSet::new();
    let mut entries = Vec::new();
    for group in groups {
        let lacks = |one: &Subscription| group.iter().filter(|topic| !one.topics.contains(topic)).cloned().collect();
        let meant = |one: &&&Subscription| one.at_address && (per == Per::All || one.topics.contains(&group[0]));
        // Of several, one that delivers what is taken stays; of equals, the first in the list.
        let best = found.iter().filter(meant).min_by_key(|one| {
            let lacks: Vec<String> = lacks(one);
            (!one.active, !one.verifiable, lacks.len())
        });
        let Some(best) = best else {
            if by_rule.iter().any(|one| delivers(one)) {
                continue;
            }
            let (lacks, topics) = (group, Vec::new());
            let (state, by_rule) = (Standing::Missing, false);
            entries.push(HookEntry { topics, lacks, state, id: None, said: None, by_rule });
            continue;
        };
        taken.insert(&best.id);
        let lacks: Vec<String> = lacks(best);
        let state = match (best.active, lacks.is_empty(), best.verifiable) {
            (false, _, _) => Standing::Off,
            (true, false, _) => Standing::Incomplete,
            (true, true, false) => Standing::Unverifiable,
            (true, true, true) => Standing::Active,
        };
        entries.push(entry(best, state, lacks));
    }
    for one in found.iter().filter(|one| !taken.contains(&one.id)) {
        let needed = one.topics.iter().any(|topic| wanted.contains(topic));
        let state = if one.at_address && !needed { Standing::Unused } else { Standing::Surplus };
        entries.push(entry(one, state, Vec::new()));
    }
    entries.extend(by_rule.into_iter().map(|one| {
        let state = match (delivers(one), one.verifiable) {
            (false, _) => Standing::Unused,
            (true, false) => Standing::Unverifiable,
            (true, true) => Standing::Active,
        };
        entry(one, state, Vec::new())
    }));
    entries
}

fn entry(one: &Subscription, state: Standing, lacks: Vec<String>) -> HookEntry {
    let (id, said) = (Some(one.id.clone()), one.state.clone());
    HookEntry { topics: one.topics.clone(), lacks, state, id, said, by_rule: one.by_rule }
}

/// What is to be done; deletions last, so that there is no moment without a webhook.
fn steps(wish: HookWish, entries: &[HookEntry]) -> Vec<HookStep> {
    let delete = |entry: &HookEntry| {
        let id = entry.id.clone().filter(|_| !entry.by_rule)?;
        Some(HookStep::Deleted { id, topics: entry.topics.clone() })
    };
    let make = |entry: &HookEntry| {
        let topics: Vec<String> = entry.topics.iter().chain(&entry.lacks).cloned().collect();
        match (entry.state, &entry.id) {
            (Standing::Missing, _) => Some(HookStep::Subscribed { topics }),
            (Standing::Off | Standing::Incomplete, Some(id)) => Some(HookStep::Restored { id: id.clone(), topics }),
            _ => None,
        }
    };
    // What delivers in the place of another stays until that one does.
    let replaced = |entry: &HookEntry| {
        let shares = |other: &&HookEntry| {
            entry.topics.iter().any(|topic| other.topics.contains(topic) || other.lacks.contains(topic))
        };
        let kept = entries.iter().filter(|other| !matches!(other.state, Standing::Surplus | Standing::Unused));
        kept.filter(shares).all(|other| other.state == Standing::Active)
    };
    let surplus = |entry: &&HookEntry| entry.state == Standing::Surplus && replaced(entry);
    match wish {
        HookWish::Look => Vec::new(),
        HookWish::Remove => entries.iter().filter_map(delete).collect(),
        HookWish::Keep => {
            let gone = entries.iter().filter(surplus).filter_map(delete);
            entries.iter().filter_map(make).chain(gone).collect()
        }
    }
}

async fn carry_out(
    connection: &Connection,
    base: &str,
    step: &HookStep,
    can_change: bool,
) -> Result<(), ConnectorError> {
    let lane = Lane::Repair;
    match step {
        HookStep::Subscribed { topics } => connection.subscribe(lane, base, None, topics).await,
        HookStep::Restored { id, topics } if can_change => connection.subscribe(lane, base, Some(id), topics).await,
        HookStep::Restored { id, topics } => {
            connection.unsubscribe(lane, id).await?;
            connection.subscribe(lane, base, None, topics).await
        }
        HookStep::Deleted { id, .. } => connection.unsubscribe(lane, id).await,
    }
}

/// Whether only a look can tell: the answer was lost, or what was to be changed is gone already.
fn may_be_done(step: &HookStep, error: &ConnectorError) -> bool {
    match error.kind {
        ErrorKind::OutcomeUnknown => true,
        ErrorKind::NotFound => !matches!(step, HookStep::Subscribed { .. }),
        _ => false,
    }
}

/// Whether the vendor refuses this one change, which says nothing about the others.
fn is_refusal(error: &ConnectorError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Invalid { .. } | ErrorKind::Conflict { .. } | ErrorKind::Forbidden | ErrorKind::NotFound
    )
}

/// What is left for the operator.
fn notes(connection: &Connection, wanted: &BTreeSet<String>, entries: &[HookEntry]) -> Vec<String> {
    let mut notes = Vec::new();
    let name = connection.name();
    if wanted.is_empty() {
        notes.push(format!("`{name}`: no sync and no flow uses anything that it tells of by webhook"));
    }
    let secrets = connection.secret_before_subscribing();
    if !secrets.is_empty() {
        notes.push(format!("`{name}`: set `{}`; without it all deliveries are refused", secrets.join("` or `")));
    }
    for id in entries
        .iter()
        .filter(|entry| entry.by_rule && entry.state != Standing::Unused)
        .filter_map(|one| one.id.as_ref())
    {
        notes.push(format!(
            "`{name}`: a rule that somebody made at the vendor calls this address (webhook {id}): it is left alone, and none is \
             made beside it; to have one made here, delete it there first"
        ));
    }
    if entries.iter().any(|entry| entry.state == Standing::Unverifiable) {
        notes.push(format!(
            "`{name}`: the vendor made a secret for this webhook, which is not set here, so that deliveries are refused: {}",
            connection.hook_secret_help()
        ));
    }
    notes
}
