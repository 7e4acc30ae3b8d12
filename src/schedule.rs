//! When a sync is due: the usual five cron fields in a time zone, with clock changes done right.
//!
//! The expression is evaluated on the naive wall clock; each local time is then placed in the zone. A time in a spring
//! gap runs at the first instant after it, a time in an autumn overlap runs once, and times strictly increase.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// Why a schedule is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The expression.
    Expression(String),
    /// An expression that never comes true, the 31st of February for instance.
    Never(String),
    /// The zone.
    Zone(String),
}

impl ScheduleError {
    /// Whether it is the zone that is wrong.
    pub fn is_zone(&self) -> bool {
        matches!(self, ScheduleError::Zone(_))
    }

    /// What to do.
    pub fn help(&self) -> &'static str {
        match self {
            ScheduleError::Expression(_) => {
                "write five fields: minute hour day-of-month month day-of-week, `0 2 * * *`"
            }
            ScheduleError::Never(_) => "choose a day that exists",
            ScheduleError::Zone(_) => "write a name such as `Europe/Stockholm`",
        }
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduleError::Expression(why) => write!(out, "this is no schedule: {why}"),
            ScheduleError::Never(text) => write!(out, "`{text}` never comes"),
            ScheduleError::Zone(name) => write!(out, "there is no time zone `{name}`"),
        }
    }
}

impl std::error::Error for ScheduleError {}

/// A schedule in a zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Two where day of month and day of week are both given: crontab means either.
    parts: Vec<cron::Schedule>,
    zone: Tz,
}

impl Schedule {
    /// Reads five cron fields and the name of a zone.
    pub fn parse(text: &str, zone: &str) -> Result<Schedule, ScheduleError> {
        let zone = zone.parse().map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Expression(format!("it has {} fields", fields.len())));
        };
        let weekday = weekdays(weekday)?;
        let both = !day.starts_with('*') && weekday != "*";
        let expressions = if both {
            vec![format!("0 {minute} {hour} {day} {month} *"), format!("0 {minute} {hour} * {month} {weekday}")]
        } else {
            vec![format!("0 {minute} {hour} {day} {month} {weekday}")]
        };
        let parts = expressions
            .iter()
            .map(|expression| {
                cron::Schedule::from_str(expression).map_err(|error| ScheduleError::Expression(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let schedule = Schedule { parts, zone };
        match schedule.next_naive(NaiveDateTime::default()) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(text.to_owned())),
        }
    }

    /// The first time after `after`.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Far enough back that a wall clock which was put back cannot hide a time.
        let mut naive = after.with_timezone(&self.zone).naive_local() - Duration::hours(3);
        loop {
            naive = self.next_naive(naive)?;
            let instant = self.place(naive)?;
            if instant > after {
                return Some(instant);
            }
        }
    }

    fn next_naive(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = after.and_utc();
        self.parts.iter().filter_map(|part| part.after(&after).next()).min().map(|next| next.naive_utc())
    }

    fn place(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&local) {
            LocalResult::Single(time) => Some(time.to_utc()),
            LocalResult::Ambiguous(first, _) => Some(first.to_utc()),
            LocalResult::None => {
                // The clock jumps over this time: the first minute that exists again.
                let mut later = local;
                for _ in 0..24 * 60 {
                    later += Duration::minutes(1);
                    if let Some(time) = self.zone.from_local_datetime(&later).earliest() {
                        return Some(time.to_utc());
                    }
                }
                None
            }
        }
    }
}

/// A schedule as people say it: `every day at 02:00 (Europe/Stockholm)`. What is too involved for that stays as it is.
pub fn in_words(text: &str, zone: &str) -> String {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let said = match fields[..] {
        [minute, hour, day, month, weekday] => say(minute, hour, day, month, weekday),
        _ => None,
    };
    format!("{} ({zone})", said.unwrap_or_else(|| format!("at `{text}`")))
}

fn say(minute: &str, hour: &str, day: &str, month: &str, weekday: &str) -> Option<String> {
    const DAYS: [&str; 8] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    // Steps that do not divide the whole are not even.
    let every = |field: &str, unit: &str, whole: u32| match field {
        "*" => Some(format!("every {unit}")),
        _ => {
            let step = field.strip_prefix("*/")?.parse::<u32>().ok()?;
            (step > 1 && whole.is_multiple_of(step)).then(|| format!("every {step} {unit}s"))
        }
    };
    let weekday_name = |text: &str| {
        let short = |day: &&&str| day[..3].eq_ignore_ascii_case(text);
        let number = text.parse::<usize>().ok().and_then(|n| DAYS.get(n));
        number.or_else(|| DAYS.iter().find(short)).copied()
    };
    let on = match (day, month, weekday) {
        ("*", "*", "*") => None,
        ("*", "*", _) => Some(match weekday.split_once('-') {
            Some((from, to)) => format!("{} to {}", weekday_name(from)?, weekday_name(to)?),
            None => weekday.split(',').map(weekday_name).collect::<Option<Vec<_>>>()?.join(" and "),
        }),
        (_, "*", "*") => Some(format!("day {} of every month", day.parse::<u32>().ok()?)),
        _ => return None,
    };
    let at = match (minute.parse::<u32>(), hour.parse::<u32>()) {
        (Ok(minute), Ok(hour)) => {
            let at = format!("at {hour:02}:{minute:02}");
            return Some(on.map_or_else(|| format!("every day {at}"), |on| format!("{at} on {on}")));
        }
        (Ok(minute), Err(_)) => format!("{} at minute {minute}", every(hour, "hour", 24)?),
        (Err(_), Err(_)) if hour == "*" => every(minute, "minute", 60)?,
        _ => return None,
    };
    Some(on.map_or_else(|| at.clone(), |on| format!("{at} on {on}")))
}

/// Weekday numbers as crontab counts them (0 and 7 are Sunday), as names that leave no doubt.
fn weekdays(field: &str) -> Result<String, ScheduleError> {
    const NAMES: [&str; 8] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
    let name = |text: &str| match text.parse::<usize>() {
        Ok(number) => NAMES
            .get(number)
            .map(|name| (*name).to_owned())
            .ok_or_else(|| ScheduleError::Expression(format!("there is no day of the week {number}"))),
        Err(_) => Ok(text.to_owned()),
    };
    let mut parts = Vec::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let days: Vec<String> = match range.split_once('-') {
            // A range that ends on Sunday, or wraps, is written out day by day.
            Some((from, to)) if from.parse::<usize>().is_ok() && to.parse::<usize>().is_ok() => {
                let (from, to) = (number(from)?, number(to)?);
                let last = if to < from { to + 7 } else { to };
                let step = step.map_or(Ok(1), number)?.max(1);
                (from..=last).step_by(step).map(|day| NAMES[day % 7].to_owned()).collect()
            }
            Some((from, to)) => vec![with_step(format!("{}-{}", name(from)?, name(to)?), step)],
            None => vec![with_step(name(range)?, step)],
        };
        parts.extend(days);
    }
    Ok(parts.join(","))
}

fn with_step(range: String, step: Option<&str>) -> String {
    step.map_or(range.clone(), |step| format!("{range}/{step}"))
}

fn number(text: &str) -> Result<usize, ScheduleError> {
    text.parse().map_err(|_| ScheduleError::Expression(format!("`{text}` is no number")))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use chrono::{DateTime, TimeZone, Utc};
    use chrono_tz::Tz;

    use super::{Schedule, ScheduleError};

    /// Against another implementation, over years and clock changes of all kinds.
    #[test]
    fn the_same_times_as_croner() {
        for zone in ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
            for text in
                ["0 2 * * *", "30 2 * * *", "15 3 * * 0", "0 12 1 * *", "30 1 * * 1-5", "5 4 13 * 5", "0 0 29 2 *"]
            {
                let ours = Schedule::parse(text, zone).expect("a schedule");
                let theirs = croner::Cron::from_str(text).expect("a schedule");
                let zone: Tz = zone.parse().expect("a zone");
                let mut after: DateTime<Utc> = Utc.with_ymd_and_hms(2024, 1, 1, 0, 0, 0).unwrap();
                let mut other = after.with_timezone(&zone);
                let end = Utc.with_ymd_and_hms(2029, 6, 1, 0, 0, 0).unwrap();
                while after < end {
                    let next = ours.next_after(after).expect("there is always a next time");
                    other = theirs.find_next_occurrence(&other, false).expect("there is always a next time");
                    assert_eq!(next, other.to_utc(), "{text} in {zone} after {after}");
                    assert!(next > after);
                    after = next;
                }
            }
        }
    }

    #[test]
    fn schedules_are_said_in_words() {
        for (text, words) in [
            ("0 2 * * *", "every day at 02:00 (UTC)"),
            ("5 14 * * 1-5", "at 14:05 on Monday to Friday (UTC)"),
            ("0 6 * * 0,WED", "at 06:00 on Sunday and Wednesday (UTC)"),
            ("0 6 1 * *", "at 06:00 on day 1 of every month (UTC)"),
            ("*/15 * * * *", "every 15 minutes (UTC)"),
            ("* * * * *", "every minute (UTC)"),
            ("30 * * * *", "every hour at minute 30 (UTC)"),
            ("0 */6 * * 7", "every 6 hours at minute 0 on Sunday (UTC)"),
            ("*/25 * * * *", "at `*/25 * * * *` (UTC)"),
            ("0 2 13 * 5", "at `0 2 13 * 5` (UTC)"),
            ("1,2 3 * * *", "at `1,2 3 * * *` (UTC)"),
        ] {
            assert_eq!(super::in_words(text, "UTC"), words);
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert!(matches!(Schedule::parse("0 0 31 2 *", "UTC"), Err(ScheduleError::Never(_))));
        assert!(matches!(Schedule::parse("0 2 * *", "UTC"), Err(ScheduleError::Expression(_))));
        assert!(matches!(Schedule::parse("0 2 * * 9", "UTC"), Err(ScheduleError::Expression(_))));
        assert!(matches!(Schedule::parse("0 2 * * *", "Mars"), Err(ScheduleError::Zone(_))));
    }
}
