//! Brakes: what makes a plan wait for a person before anything is written.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Below this many operations a share of the records says nothing.
const FEW: u64 = 10;

/// A cap on operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many.
    Count(u64),
    /// So many of a hundred known records.
    Percent(f64),
}

/// A text that is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a number (`500`) nor a share (`1%`, at most `100%`)")]
pub struct LimitError(String);

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Limit, LimitError> {
        let wrong = || LimitError(text.to_owned());
        match text.trim().strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.trim().parse().map_err(|_| wrong())?;
                if (0.0..=100.0).contains(&share) { Ok(Limit::Percent(share)) } else { Err(wrong()) }
            }
            None => text.trim().parse().map(Limit::Count).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Count(count) => write!(out, "{count}"),
            Limit::Percent(share) => write!(out, "{share}%"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        deserializer.deserialize_any(LimitVisitor)
    }
}

/// Takes `500` as well as `"500"`.
struct LimitVisitor;

impl Visitor<'_> for LimitVisitor {
    type Value = Limit;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number such as 500 or a share such as \"5%\"")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Limit, E> {
        Ok(Limit::Count(count))
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Limit, E> {
        count.to_string().parse().map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Limit, E> {
        text.parse().map_err(E::custom)
    }
}

impl Limit {
    /// Operations allowed where `known` records are.
    pub fn allows(self, known: u64) -> u64 {
        match self {
            Limit::Count(count) => count,
            Limit::Percent(share) => ((known as f64 * share / 100.0).floor() as u64).max(FEW),
        }
    }
}

/// The brakes of a sync.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guards {
    /// Cap on new records; none by default, a first run creates many.
    pub max_creates: Option<Limit>,
    /// Cap on updates; none by default, a first meeting fills many blanks.
    pub max_updates: Option<Limit>,
    /// Cap on deletions, and on records taken as deleted.
    pub max_deletes: Option<Limit>,
    /// Stop when a side that had records shows none.
    pub emptied: bool,
}

impl Default for Guards {
    fn default() -> Guards {
        Guards { max_creates: None, max_updates: None, max_deletes: Some(Limit::Percent(1.0)), emptied: true }
    }
}

/// What a plan would do at one connection, and what is known there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The connection.
    pub connection: String,
    /// Records known there, those that are missing now included.
    pub known: u64,
    /// Of those, the ones that were seen when last looked for.
    pub live_now: u64,
    /// Planned creates.
    pub creates: u64,
    /// Planned updates.
    pub updates: u64,
    /// Planned deletions.
    pub deletes: u64,
    /// Records that were not there often enough to be taken as gone.
    pub departures: u64,
}

/// A brake that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tripped {
    /// The connection.
    pub connection: String,
    /// `max_creates`, `max_updates`, `max_deletes` or `emptied`.
    pub guard: String,
    /// How many there are.
    pub found: u64,
    /// How many would pass.
    pub allowed: u64,
    /// The same in words, with the way on.
    pub message: String,
}

/// Checks a whole plan; an empty answer lets it go on.
pub fn check(guards: &Guards, counts: &[Counts]) -> Vec<Tripped> {
    let mut tripped = Vec::new();
    for count in counts {
        let at = &count.connection;
        let written = |done: &str, found: u64| format!("{found} records at {at} would be {done}");
        let caps = [
            ("max_creates", guards.max_creates, count.creates, written("created", count.creates)),
            ("max_updates", guards.max_updates, count.updates, written("updated", count.updates)),
            ("max_deletes", guards.max_deletes, count.deletes, written("deleted", count.deletes)),
            (
                "max_deletes",
                guards.max_deletes,
                count.departures,
                format!("{} records have gone at {at} and would be unlinked", count.departures),
            ),
        ];
        for (guard, limit, found, what) in caps {
            let Some(limit) = limit else { continue };
            let allowed = limit.allows(count.known);
            if found > allowed {
                let message = format!(
                    "{what}, {guard} = \"{limit}\" of {} known allows {allowed}; \
                     look at `counterpart plan --out FILE` and apply that file if it is right",
                    count.known
                );
                let connection = count.connection.clone();
                tripped.push(Tripped { connection, guard: guard.to_owned(), found, allowed, message });
            }
        }
        if guards.emptied && count.known > 0 && count.live_now == 0 {
            tripped.push(Tripped {
                connection: count.connection.clone(),
                guard: "emptied".to_owned(),
                found: 0,
                allowed: 1,
                message: format!(
                    "{} shows no records where {} are known; is it the right account?",
                    count.connection, count.known
                ),
            });
        }
    }
    tripped
}
