//! The coverage audit: whether what a vendor has is known here, found out without trusting its lists.
//!
//! A list that leaves rows out looks like a whole one: its own total leaves them out as well. So people are taken who are known
//! from the other systems, and the vendor is asked for each of them by address. Whom it finds it has; whether they are known
//! here is then a sample of how much of it is.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use counterpart_connectors::{ErrorKind, Gate, Lane, MatchKey, Millis};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::progress::Event;
use super::session::{STREAM, Wired};
use super::{Engine, EngineError, Verdict};
use crate::config::Config;
use crate::store::{RecordState, Result, Store};

/// The kind of key that people are looked up by.
const KEY: &str = "email";
/// Keys read at once.
const PAGE: u64 = 1000;
/// The normal distribution's share of 95 %.
const Z: f64 = 1.96;

/// How much of a connection is known here, as far as a sample tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The connection.
    pub connection: String,
    /// When it was made.
    pub at: Millis,
    /// People of other systems that it was asked for.
    pub asked: u64,
    /// Records that it has of them.
    pub there: u64,
    /// Of those, how many are known here.
    pub known: u64,
    /// Of those, how many are not known and have changed since the last reading: they are not due yet.
    pub not_due: u64,
    /// Of those, which are not known although a reading should have shown them.
    pub lost: Vec<Lost>,
    /// Why it was not asked, or not for all of them.
    pub why_not: Option<String>,
}

/// A record that a vendor has and no reading has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The vendor's id.
    pub external_id: String,
    /// Whom it was found by: `connection/id` of a record with the same address.
    pub by: String,
}

impl Audit {
    /// The share that is known, and where it lies with a probability of 95 %; none where nothing was found.
    pub fn share(&self) -> Option<(f64, f64, f64)> {
        let n = (self.known + self.lost.len() as u64) as f64;
        if n == 0.0 {
            return None;
        }
        let p = self.known as f64 / n;
        // Wilson's interval: right at the ends too, where a sample of ten without a loss does not prove that nothing is lost.
        let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some((p, (centre - half).max(0.0), (centre + half).min(1.0)))
    }
}

/// Some of the people that other systems know, drawn so that everybody is as likely and memory does not grow with them.
struct Sample {
    size: usize,
    seed: u64,
    drawn: BTreeMap<(u64, String), String>,
}

impl Sample {
    fn offer(&mut self, address: &str, by: impl FnOnce() -> String) {
        let mut hasher = DefaultHasher::new();
        (self.seed, address).hash(&mut hasher);
        let place = (hasher.finish(), address.to_owned());
        if self.drawn.len() >= self.size && self.drawn.last_key_value().is_some_and(|(last, _)| place >= *last) {
            return;
        }
        self.drawn.entry(place).or_insert_with(by);
        if self.drawn.len() > self.size {
            self.drawn.pop_last();
        }
    }
}

impl Engine {
    /// Asks every connection of the syncs for up to `size` people that the others know. It needs no lease, as it changes nothing,
    /// but its calls come out of the budget, in the lane of audits.
    pub async fn audit(&self, size: usize) -> std::result::Result<Vec<Audit>, EngineError> {
        let names: BTreeSet<String> = self.config.syncs.iter().flat_map(|sync| sync.between.iter().cloned()).collect();
        let (run, ledger, gate) = self.ask("audit", &names).await?;
        let outcome = self.audit_all(&names, size, gate).await;
        ledger.close().await?;
        let is_whole = |audit: &Audit| audit.lost.is_empty() && audit.why_not.is_none();
        let (verdict, summary) = match &outcome {
            Ok(audits) if audits.iter().all(is_whole) => (Verdict::Ok, json!({ "audits": audits })),
            Ok(audits) => (Verdict::Partial, json!({ "audits": audits })),
            Err(error) => (Verdict::Failed, json!({ "error": error.to_string() })),
        };
        self.store.finish_run(run, verdict.as_str(), &summary, self.clock.now()).await?;
        outcome
    }

    async fn audit_all(
        &self,
        names: &BTreeSet<String>,
        size: usize,
        gate: Arc<dyn Gate>,
    ) -> std::result::Result<Vec<Audit>, EngineError> {
        let mut samples = self.samples(names, size).await?;
        let mut audits = Vec::new();
        for name in names {
            let wired = Arc::new(self.wire(name, gate.clone())?);
            let sample = samples.remove(name).unwrap_or_default();
            let audit = self.audit_one(&wired, sample).await?;
            self.store.meta_set(&kept_as(name), &json!(audit).to_string()).await?;
            audits.push(audit);
        }
        Ok(audits)
    }

    /// For each connection the addresses it is to be asked for, with who is known by them elsewhere.
    async fn samples(
        &self,
        names: &BTreeSet<String>,
        size: usize,
    ) -> std::result::Result<BTreeMap<String, Vec<(String, String)>>, EngineError> {
        let seed = self.clock.now().unsigned_abs();
        let mut samples: BTreeMap<&String, (BTreeSet<String>, Sample)> = BTreeMap::new();
        for name in names {
            let mut others = self.group_of(&BTreeSet::from([name.clone()]));
            others.remove(name);
            samples.insert(name, (others, Sample { size, seed, drawn: BTreeMap::new() }));
        }
        let mut after = String::new();
        loop {
            let page = self.store.key_holders(STREAM, KEY, &after, PAGE).await?;
            let Some(last) = page.last else { break };
            after = last;
            for holder in page.holders {
                for (others, sample) in samples.values_mut() {
                    if others.contains(&holder.connection) {
                        sample.offer(&holder.value, || format!("{}/{}", holder.connection, holder.external_id));
                    }
                }
            }
        }
        let drawn = |sample: Sample| sample.drawn.into_iter().map(|((_, address), by)| (address, by)).collect();
        Ok(samples.into_iter().map(|(name, (_, sample))| (name.clone(), drawn(sample))).collect())
    }

    async fn audit_one(&self, wired: &Wired, sample: Vec<(String, String)>) -> std::result::Result<Audit, EngineError> {
        let mut audit = Audit { connection: wired.name.clone(), at: self.clock.now(), ..Audit::default() };
        let state = self.store.stream_state(&wired.name, STREAM).await?;
        if !wired.capabilities().find.iter().any(|kind| kind == KEY) {
            audit.why_not = Some("it cannot be asked for anybody by address".to_owned());
            return Ok(audit);
        }
        // Who came while the last reading was under way may have come behind it.
        let read_at = self.store.last_reading(&wired.name, STREAM).await?;
        let (Some(read_at), Some(_)) = (read_at, state.last_complete_scan) else {
            audit.why_not = Some("it has never been read completely".to_owned());
            return Ok(audit);
        };
        let read_at = read_at + state.clock_offset.unwrap_or(0);
        let total = sample.len() as u64;
        for (address, by) in sample {
            let found = match wired.connection.find(Lane::Audit, STREAM, &MatchKey::Email(address)).await {
                Ok(found) => found,
                Err(error) => {
                    audit.why_not = Some(match error.kind {
                        ErrorKind::Stopped => format!("stopped after {} of {total}", audit.asked),
                        _ => format!("ended after {} of {total}: {}", audit.asked, error.message),
                    });
                    return Ok(audit);
                }
            };
            audit.asked += 1;
            self.progress.event(Event::Pulling {
                connection: &wired.name,
                stream: STREAM,
                done: audit.asked,
                total: Some(total),
                eta_ms: Some(self.eta(wired, total - audit.asked, Lane::Audit)),
            });
            for record in found.into_iter().filter(|record| !record.deleted) {
                audit.there += 1;
                if is_known(&self.store, &wired.name, &record.id).await? {
                    audit.known += 1;
                } else if record.updated_at.is_some_and(|at| at > read_at) {
                    audit.not_due += 1;
                } else {
                    audit.lost.push(Lost { external_id: record.id, by: by.clone() });
                }
            }
        }
        Ok(audit)
    }
}

/// The last audit of every connection of the syncs; what has become known since is no longer among the lost.
pub async fn last_audits(store: &Store, config: &Config) -> Result<Vec<Audit>> {
    let names: BTreeSet<&String> = config.syncs.iter().flat_map(|sync| &sync.between).collect();
    let mut audits = Vec::new();
    for name in names {
        let Some(text) = store.meta_get(&kept_as(name)).await? else { continue };
        // Written by a program that counts otherwise: there was none, as far as this one can tell.
        let Ok(mut audit) = serde_json::from_str::<Audit>(&text) else { continue };
        let mut lost = Vec::new();
        for record in std::mem::take(&mut audit.lost) {
            match is_known(store, name, &record.external_id).await? {
                true => audit.known += 1,
                false => lost.push(record),
            }
        }
        audit.lost = lost;
        audits.push(audit);
    }
    Ok(audits)
}

fn kept_as(connection: &str) -> String {
    format!("audit:{connection}")
}

/// A record that the last readings did not show, or that was taken as gone, is as good as unknown.
async fn is_known(store: &Store, connection: &str, external_id: &str) -> Result<bool> {
    let record = store.record(connection, STREAM, external_id).await?;
    Ok(record.is_some_and(|record| matches!(record.state, RecordState::Live | RecordState::Merged)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_as_likely_and_nobody_twice() {
        let mut times = BTreeMap::new();
        for seed in 0..400 {
            let mut sample = Sample { size: 10, seed, drawn: BTreeMap::new() };
            for number in (0..40).chain(0..40) {
                sample.offer(&format!("{number:02}"), String::new);
            }
            assert_eq!(sample.drawn.len(), 10);
            for ((_, address), _) in sample.drawn {
                *times.entry(address).or_insert(0) += 1;
            }
        }
        // A quarter of four hundred each, give or take five times the deviation.
        assert!(times.len() == 40 && times.values().all(|n| (57..=143).contains(n)), "{times:?}");
    }

    #[test]
    fn a_share_says_how_sure_it_is() {
        let lost = |n: usize| vec![Lost { external_id: String::new(), by: String::new() }; n];
        let audit = |known, n| Audit { known, lost: lost(n), ..Audit::default() };
        assert_eq!(audit(0, 0).share(), None);
        let (share, low, high) = audit(80, 20).share().expect("a hundred");
        assert!(share == 0.8 && (0.71..0.72).contains(&low) && (0.86..0.87).contains(&high), "{low} {high}");
        let (share, low, high) = audit(10, 0).share().expect("ten");
        assert!(share == 1.0 && (0.72..0.73).contains(&low) && high == 1.0, "{low} {high}");
    }
}
