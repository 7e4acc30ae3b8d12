//! Times as vendors write them.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

use crate::Millis;

fn utc(at: Millis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap_or_default()
}

/// `2026-03-04T09:15:00Z`
pub(crate) fn iso(at: Millis) -> String {
    utc(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `2026-03-04T09:15:00.123Z`
pub(crate) fn iso_millis(at: Millis) -> String {
    utc(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `2026-03-04T09:15:00`: no zone.
pub(crate) fn naive(at: Millis) -> String {
    utc(at).format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// `Wed, 04 Mar 2026 09:15:00 GMT`
pub(crate) fn http_date(at: Millis) -> String {
    utc(at).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Milliseconds from an RFC 3339 text, or from a number of milliseconds.
pub(crate) fn parse(text: &str) -> Option<Millis> {
    let from_iso = DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis());
    from_iso.or_else(|| text.parse().ok())
}

/// Milliseconds from a date and a time of day, with a zone or without; without one it is UTC.
pub(crate) fn parse_naive(text: &str) -> Option<Millis> {
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis());
    let bare = || NaiveDateTime::parse_from_str(&text.replace(' ', "T"), "%Y-%m-%dT%H:%M:%S%.f").ok();
    zoned.or_else(|| bare().map(|time| time.and_utc().timestamp_millis()))
}
