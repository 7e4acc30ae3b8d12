//! Times as vendors write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value;

use super::clock::Millis;

/// A time in a body: ISO 8601 with or without zone (then UTC), seconds or milliseconds since 1970, as number or text.
pub fn parse(value: &Value) -> Option<Millis> {
    match value {
        Value::Number(number) => number.as_i64().map(scale).or_else(|| Some(from_seconds(number.as_f64()?))),
        Value::String(text) => parse_text(text.trim()),
        _ => None,
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn parse_http_date(text: &str) -> Option<Millis> {
    DateTime::parse_from_rfc2822(text.trim()).ok().map(|time| time.timestamp_millis())
}

/// ISO 8601 in UTC with milliseconds.
pub fn to_iso(at: Millis) -> String {
    DateTime::from_timestamp_millis(at)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
        .unwrap_or_default()
}

fn parse_text(text: &str) -> Option<Millis> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(scale(number));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f %z"] {
        if let Ok(time) = DateTime::parse_from_str(text, form) {
            return Some(time.timestamp_millis());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

// Seconds reach this bound in the year 5138, milliseconds passed it in 1973.
const FIRST_MILLISECOND_VALUE: i64 = 100_000_000_000;

fn scale(number: i64) -> Millis {
    if number.saturating_abs() < FIRST_MILLISECOND_VALUE { number * 1_000 } else { number }
}

fn from_seconds(seconds: f64) -> Millis {
    (seconds * 1_000.0).round() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_instant_in_many_forms() {
        for form in [
            json!("2026-03-04T09:15:00Z"),
            json!("2026-03-04T10:15:00+01:00"),
            json!("2026-03-04T10:15:00+0100"),
            json!("2026-03-04T09:15:00"),
            json!("2026-03-04 09:15:00"),
            json!("2026-03-04T09:15:00.000Z"),
            json!(1_772_615_700),
            json!(1_772_615_700.0),
            json!("1772615700"),
            json!(1_772_615_700_000_i64),
            json!("1772615700000"),
        ] {
            assert_eq!(parse(&form), Some(1_772_615_700_000), "{form}");
        }
        assert_eq!(to_iso(1_772_615_700_000), "2026-03-04T09:15:00.000Z");
        assert_eq!(parse_http_date("Wed, 04 Mar 2026 09:15:00 GMT"), Some(1_772_615_700_000));
        assert_eq!(parse(&json!("soon")), None);
        assert_eq!(parse(&json!(null)), None);
    }
}
