//! Tests that only read.

use std::collections::BTreeSet;
use std::sync::Arc;

use secrecy::SecretString;

use super::report::{Stop, Test, fail, skip};
use super::{Lab, Suite};
use crate::kit::clock::JumpClock;
use crate::kit::recording::{Recorder, Replay};
use crate::{Connection, ErrorKind, Lane, Page, PullMode, PullRequest, RemoteRecord};

pub(super) async fn run(suite: &mut Suite<'_>) {
    let (lab, connection) = (suite.lab, suite.connection);
    let result = match connection.check(Lane::Audit).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Stop::from(error)),
    };
    suite.note("check_passes", result);
    suite.note("check_refuses_a_wrong_secret", wrong_secret(lab).await);
    let walk = walk(lab, connection, PullMode::Full, None).await;
    match walk {
        Err(stop) => suite.note("walk_ends", Err(stop)),
        Ok(walk) => {
            suite.note("walk_ends", if walk.ended { Ok(()) } else { skip("the list is longer than the suite reads") });
            suite.note("ids_are_unique_over_pages", unique(&walk));
            suite.note("walk_is_complete", complete(lab, &walk).await);
            suite.note("resuming_loses_nothing", resume(lab, &walk).await);
            suite.note("fetch_equals_pull", fetch_equals(suite, &walk).await);
            suite.note("unknown_id_is_not_found", unknown_id(suite, &walk).await);
        }
    }
    suite.note("recordings_replay", replay(lab).await);
}

/// A walk over the pages of a list.
pub(super) struct Walk {
    pub(super) pages: Vec<Page>,
    pub(super) ended: bool,
}

impl Walk {
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.pages.iter().flat_map(|page| &page.records).map(|record| record.id.as_str())
    }

    fn first(&self) -> Option<&RemoteRecord> {
        self.pages.iter().flat_map(|page| &page.records).find(|record| !record.deleted)
    }
}

/// Walks from `cursor` to the end, or as far as the suite reads.
pub(super) async fn walk(
    lab: &Lab,
    connection: &Connection,
    mode: PullMode,
    cursor: Option<&str>,
) -> Result<Walk, Stop> {
    let mut walk = Walk { pages: Vec::new(), ended: false };
    let mut cursor = cursor.map(str::to_owned);
    while walk.pages.len() < lab.target.most_pages {
        let request = PullRequest { stream: &lab.target.stream, mode, cursor: cursor.as_deref(), parent: None };
        let page = connection.pull(Lane::Audit, request).await?;
        cursor.clone_from(&page.next);
        walk.pages.push(page);
        if cursor.is_none() {
            walk.ended = true;
            break;
        }
    }
    Ok(walk)
}

async fn wrong_secret(lab: &Lab) -> Test {
    let connection = lab
        .with_secret("counterpart-wrong-secret", lab.target.transport.clone(), lab.target.clock.clone())
        .map_err(Stop::Fail)?;
    let result = connection.check(Lane::Audit).await;
    match &result {
        Err(error) if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Forbidden) => Ok(()),
        _ => fail(format!("a wrong secret leads to {}", super::told(&result))),
    }
}

fn unique(walk: &Walk) -> Test {
    let mut seen = BTreeSet::new();
    match walk.ids().find(|id| !seen.insert(*id)) {
        None => Ok(()),
        Some(id) => fail(format!("{id} is on two pages although nothing changed in between")),
    }
}

async fn complete(lab: &Lab, walk: &Walk) -> Test {
    if !walk.ended {
        return skip("the list is longer than the suite reads");
    }
    let seen: BTreeSet<&str> = walk.ids().collect();
    if let Some(ids) = lab.target.laboratory.ids().await {
        let missing: Vec<&String> = ids.iter().filter(|id| !seen.contains(id.as_str())).collect();
        if !missing.is_empty() {
            return fail(format!("{} of {} records were not read, {} for one", missing.len(), ids.len(), missing[0]));
        }
    }
    match walk.pages.last().and_then(|page| page.total) {
        Some(total) if total != seen.len() as u64 => fail(format!("{total} are announced, {} were read", seen.len())),
        _ => Ok(()),
    }
}

async fn resume(lab: &Lab, walk: &Walk) -> Test {
    let middle = walk.pages.len() / 2;
    let Some(cursor) = middle.checked_sub(1).and_then(|before| walk.pages[before].next.as_deref()) else {
        return skip("there is only one page");
    };
    let again = lab.open().map_err(Stop::Fail)?;
    let rest = super::reading::walk(lab, &again, PullMode::Full, Some(cursor)).await?;
    let seen: BTreeSet<&str> = rest.ids().collect();
    let expected = walk.pages[middle..].iter().flat_map(|page| &page.records);
    match expected.map(|record| record.id.as_str()).find(|id| !seen.contains(id)) {
        None => Ok(()),
        Some(id) => fail(format!("a new connection that goes on at page {} misses {id}", middle + 1)),
    }
}

async fn fetch_equals(suite: &Suite<'_>, walk: &Walk) -> Test {
    if !suite.can().fetch {
        return skip("it cannot read single records");
    }
    let Some(pulled) = walk.first() else { return skip("there is no record") };
    let fetched = suite.connection.fetch(Lane::Audit, &suite.lab.target.stream, &pulled.id).await?;
    if fetched.id != pulled.id {
        return fail(format!("asked for {}, got {}", pulled.id, fetched.id));
    }
    match differing(&pulled.body, &fetched.body) {
        names if names.is_empty() => Ok(()),
        names => fail(format!("list and single read differ in {}", names.join(", "))),
    }
}

fn differing(a: &serde_json::Value, b: &serde_json::Value) -> Vec<String> {
    let (Some(left), Some(right)) = (a.as_object(), b.as_object()) else {
        return if a == b { Vec::new() } else { vec!["the whole".to_owned()] };
    };
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    names.into_iter().filter(|name| left.get(*name) != right.get(*name)).cloned().collect()
}

async fn unknown_id(suite: &Suite<'_>, walk: &Walk) -> Test {
    if !suite.can().fetch {
        return skip("it cannot read single records");
    }
    let known: BTreeSet<&str> = walk.ids().collect();
    let shape = walk.first().map_or("1", |record| record.id.as_str());
    let mut id: String = shape.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    while id.len() < 9 || known.contains(id.as_str()) {
        id.push('9');
    }
    let result = suite.connection.fetch(Lane::Audit, &suite.lab.target.stream, &id).await;
    match &result {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        _ => fail(format!("reading {id} leads to {}", super::told(&result))),
    }
}

/// One page, recorded and replayed: the same page, nothing left over, no secret kept.
async fn replay(lab: &Lab) -> Test {
    let secrets: Vec<SecretString> = lab.target.spec.secrets.values().cloned().collect();
    let recorder = Arc::new(Recorder::new(lab.target.transport.clone(), &secrets));
    let live = lab.through(recorder.clone()).map_err(Stop::Fail)?;
    let request = PullRequest { stream: &lab.target.stream, mode: PullMode::Full, cursor: None, parent: None };
    let page = live.pull(Lane::Audit, request).await?;
    let recording = recorder.recording("conformance");
    let text = serde_json::to_string(&recording).map_err(|error| Stop::Fail(error.to_string()))?;
    if lab.open().map_err(Stop::Fail)?.redact(&text) != text {
        return fail("the recording holds a secret");
    }
    let replay = Arc::new(Replay::new(recording, &secrets));
    let clock = Arc::new(JumpClock::at(lab.target.clock.now()));
    let again = lab.over(replay.clone(), clock).map_err(Stop::Fail)?;
    if again.pull(Lane::Audit, request).await? != page {
        return fail("the replayed page differs from the recorded one");
    }
    replay.finish().map_err(Stop::Fail)
}
