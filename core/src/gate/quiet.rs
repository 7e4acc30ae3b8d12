//! Quiet hours on the recipient's wall clock, clock changes included.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{HoldReason, Place};

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: u16 = 24 * 60;

/// When a person is not written to. The wall clock of their zone counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// The hours of every day.
    pub hours: QuietHours,
    /// The zone that counts where the recipient's is not known.
    pub fallback_zone: Zone,
    /// Days with messages; all where none is named.
    #[serde(default, deserialize_with = "some_days", skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
    /// Dates without messages.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub holidays: BTreeSet<NaiveDate>,
}

/// Refuses an empty list: read as "every day" it would be the opposite of what it looks like.
fn some_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weekday>, D::Error> {
    let days = Vec::deserialize(deserializer)?;
    if days.is_empty() { Err(serde::de::Error::custom("name a day, or leave `days` out for all")) } else { Ok(days) }
}

impl Quiet {
    /// The zone that counts for a recipient.
    pub(super) fn place(&self, named: Option<&str>) -> Place {
        match named.map(|name| name.trim().parse()) {
            Some(Ok(zone)) => Place { zone, instead_of: None },
            _ => Place { zone: self.fallback_zone, instead_of: Some(named.map(str::to_owned)) },
        }
    }

    /// What forbids a message at an instant.
    pub(super) fn closed(&self, place: &Place, at: i64) -> Option<HoldReason> {
        let place = place.clone();
        let quiet_hours = |place| HoldReason::QuietHours { hours: self.hours, place };
        let Some(wall) = place.zone.wall(at) else {
            // No calendar reaches that far, and no message should.
            return Some(quiet_hours(place));
        };
        let (date, day) = (wall.date(), wall.weekday());
        if self.holidays.contains(&date) {
            Some(HoldReason::Holiday { date, place })
        } else if !self.days.is_empty() && !self.days.contains(&day) {
            Some(HoldReason::RestDay { day, place })
        } else if self.hours.contains(minute_of_day(&wall)) {
            Some(quiet_hours(place))
        } else {
            None
        }
    }

    /// The first instant from `from` to `latest`, both included, that allows a message.
    ///
    /// What is closed opens only where the wall clock reaches the end of the hours or midnight, or is put forward or
    /// back: the search goes from one such moment to the next.
    pub(super) fn first_open(&self, zone: Zone, from: i64, latest: i64) -> Option<i64> {
        let place = Place { zone, instead_of: None };
        let mut at = from;
        while at <= latest {
            if self.closed(&place, at).is_none() {
                return Some(at);
            }
            let next = at.checked_add(self.to_next_opening(&zone.wall(at)?))?;
            at = zone.clock_change(at, next)?.unwrap_or(next);
        }
        None
    }

    /// Milliseconds, above 0, until the wall clock reaches the end of the hours or midnight.
    fn to_next_opening(&self, wall: &NaiveDateTime) -> i64 {
        let minute = minute_of_day(wall);
        let next = if minute < self.hours.to { self.hours.to } else { DAY_MINUTES };
        let into_minute = i64::from(wall.second()) * 1000 + i64::from(wall.nanosecond() / 1_000_000);
        i64::from(next - minute) * MINUTE_MS - into_minute
    }
}

fn minute_of_day(wall: &NaiveDateTime) -> u16 {
    // At most 23 * 60 + 59.
    (wall.hour() * 60 + wall.minute()) as u16
}

/// Hours of the day as `21:00-08:00`: from the first minute up to, not including, the second. May run over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuietHours {
    /// Minutes of the day, not equal.
    from: u16,
    to: u16,
}

/// A text that is no quiet hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuietHoursError {
    /// There are not two times.
    #[error("`{0}` is not two times with a `-` between them; write for instance `21:00-08:00`")]
    Form(String),
    /// One of them is none.
    #[error("`{0}` is no time of the day; write 00:00 to 23:59")]
    Time(String),
    /// Both are the same.
    #[error("`{0}` is either all day or never; write two different times, or leave quiet hours out")]
    Same(String),
}

impl QuietHours {
    fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Minutes of the day of `8:00` or `08:00`.
fn time_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) || hour.len() > 2 || minute.len() != 2 {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

impl FromStr for QuietHours {
    type Err = QuietHoursError;

    fn from_str(text: &str) -> Result<QuietHours, QuietHoursError> {
        let (from, to) = text.split_once('-').ok_or_else(|| QuietHoursError::Form(text.to_owned()))?;
        let time = |part: &str| time_of_day(part).ok_or_else(|| QuietHoursError::Time(part.trim().to_owned()));
        let (from, to) = (time(from)?, time(to)?);
        if from == to { Err(QuietHoursError::Same(text.to_owned())) } else { Ok(QuietHours { from, to }) }
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(out, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Serialize for QuietHours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<QuietHours, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A time zone by its IANA name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

/// A name that no zone has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone `{0}`; write a name such as `Europe/Berlin`")]
pub struct ZoneError(String);

impl Zone {
    /// What the clock on the wall shows; none beyond the calendar.
    fn wall(self, at: i64) -> Option<NaiveDateTime> {
        let utc = DateTime::from_timestamp_millis(at)?.naive_utc();
        utc.checked_add_signed(TimeDelta::seconds(i64::from(self.offset(at)?)))
    }

    /// Seconds that the wall clock is ahead of UTC.
    fn offset(self, at: i64) -> Option<i32> {
        let utc = DateTime::from_timestamp_millis(at)?.naive_utc();
        Some(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }

    /// The instant after `from` and up to `to`, at most a day later, from which the clock is another one.
    ///
    /// `Some(None)` where it is not changed, none beyond the calendar. Clocks are not changed twice in a day.
    fn clock_change(self, from: i64, to: i64) -> Option<Option<i64>> {
        let before = self.offset(from)?;
        if self.offset(to)? == before {
            return Some(None);
        }
        let (mut same, mut changed) = (from, to);
        while changed - same > 1 {
            let middle = same + (changed - same) / 2;
            if self.offset(middle)? == before { same = middle } else { changed = middle }
        }
        Some(Some(changed))
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Zone, ZoneError> {
        text.parse().map(Zone).map_err(|_| ZoneError(text.to_owned()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
