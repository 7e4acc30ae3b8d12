//! What the gate is told to do: the settings of a flow.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quiet::Quiet;

/// The rules for the messages of a flow.
///
/// ```toml
/// max_age = "24h"
/// consent_required = false
/// quiet = { hours = "21:00-08:00", fallback_zone = "Europe/Berlin" }
/// cap = { messages = 3, per = "24h" }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// An event older than this is not told any more.
    pub max_age: Period,
    /// Drop where consent is not known, also what is transactional.
    pub consent_required: bool,
    /// When not to write; none by default.
    pub quiet: Option<Quiet>,
    /// How much to write; no cap by default.
    pub cap: Option<Cap>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { max_age: Period::DAY, consent_required: false, quiet: None, cap: None }
    }
}

/// At most so many messages to one person within any period of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// How many.
    pub messages: NonZeroU32,
    /// Within which time.
    pub per: Period,
}

impl Cap {
    /// When the next message is allowed; none where it is allowed at `now`.
    ///
    /// A message counts until its period is over, and not at that moment any more.
    pub(super) fn free_at(&self, sent_at: &[i64], now: i64) -> Option<i64> {
        let messages = usize::try_from(self.messages.get()).unwrap_or(usize::MAX);
        let mut counted: Vec<i64> =
            sent_at.iter().map(|at| at.saturating_add(self.per.ms())).filter(|over| *over > now).collect();
        counted.sort_unstable();
        // All but the last `messages - 1` have to be over.
        let over = counted.len().checked_sub(messages)?;
        counted.get(over).copied()
    }
}

/// A length of time, written as a number with a unit: `90s`, `15m`, `24h`, `3d`. Never nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(i64);

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no length of time; write a number above 0 with a unit, such as `90s`, `15m`, `24h` or `3d`")]
pub struct PeriodError(String);

const UNITS: [(&str, i64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

impl Period {
    /// 24 hours.
    pub const DAY: Period = Period(86_400_000);

    /// A length in milliseconds; none unless above 0.
    pub fn from_ms(ms: i64) -> Option<Period> {
        (ms > 0).then_some(Period(ms))
    }

    /// In milliseconds, above 0.
    pub fn ms(self) -> i64 {
        self.0
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Period, PeriodError> {
        let parsed = UNITS.iter().find_map(|(unit, ms)| {
            let number = text.trim().strip_suffix(unit)?;
            // `parse` would take a sign.
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| number.parse::<i64>().ok()?.checked_mul(*ms).and_then(Period::from_ms)).flatten()
        });
        parsed.ok_or_else(|| PeriodError(text.to_owned()))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One day is written as people say it, `24h`.
        let fits = |(_, ms): &&(&str, i64)| self.0 % ms == 0 && (self.0, *ms) != (Period::DAY.0, Period::DAY.0);
        match UNITS.iter().find(fits) {
            Some((unit, ms)) => write!(out, "{}{unit}", self.0 / ms),
            None => write!(out, "{}ms", self.0),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
