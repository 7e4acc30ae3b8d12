//! What the gate says, and how it is kept and told.

use std::fmt;

use chrono::{DateTime, NaiveDate, SecondsFormat, Weekday};
use serde::{Deserialize, Serialize, Serializer};

use super::{Cap, Period, QuietHours, Zone};

/// What the gate says.
///
/// Serialises flat, to be kept: `decision` (`pass`, `hold`, `drop`), `reason` and `rule` in stable words, `until` for a
/// hold, and `message`, which is the sentence that `Display` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it now.
    Pass,
    /// Ask again at `until`, which is later than now. It passes then unless the facts have changed.
    Hold {
        /// The first moment that is allowed.
        until: i64,
        /// What holds it.
        reason: HoldReason,
    },
    /// Never send it.
    Drop(DropReason),
}

/// Why a message waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// It is night at the recipient's.
    QuietHours {
        /// The hours.
        hours: QuietHours,
        /// Where.
        place: Place,
    },
    /// A day of the week without messages.
    RestDay {
        /// The day.
        day: Weekday,
        /// Where.
        place: Place,
    },
    /// A holiday.
    Holiday {
        /// The date there.
        date: NaiveDate,
        /// Where.
        place: Place,
    },
    /// The person has had enough messages.
    Cap(Cap),
}

/// The zone whose wall clock counts, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The zone.
    pub zone: Zone,
    /// Where the policy's fallback stands in: what the recipient's zone was said to be, if anything.
    pub instead_of: Option<Option<String>>,
}

/// Why a message is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The person wants no messages.
    OptedOut,
    /// Consent is needed and not known.
    NoConsent,
    /// A later milestone was reached.
    Overtaken {
        /// Which.
        by: String,
    },
    /// The event is older than the policy allows.
    TooOld {
        /// When it happened.
        happened_at: i64,
        /// The policy's age.
        max_age: Period,
    },
    /// The channel takes free text only for a while after the customer's last message, and that is over.
    SessionClosed,
    /// It would be too old when it is allowed at last.
    HeldTooLong {
        /// What would hold it.
        by: HoldReason,
        /// The policy's age.
        max_age: Period,
    },
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Consent and opt-out.
    Consent,
    /// A later milestone.
    Overtaken,
    /// `max_age`.
    Age,
    /// The channel's session window.
    Session,
    /// `quiet`: hours, days and holidays.
    Quiet,
    /// `cap`: messages to one person.
    Cap,
}

impl Decision {
    /// `pass`, `hold` or `drop`.
    pub fn name(&self) -> &'static str {
        match self {
            Decision::Pass => "pass",
            Decision::Hold { .. } => "hold",
            Decision::Drop(_) => "drop",
        }
    }

    /// The reason as one stable word: `clear`, `quiet_hours`, `rest_day`, `holiday`, `cap`, `opted_out`,
    /// `no_consent`, `overtaken`, `too_old`, `session_closed`, `held_too_long`.
    pub fn reason(&self) -> &'static str {
        match self {
            Decision::Pass => "clear",
            Decision::Hold { reason, .. } => reason.word(),
            Decision::Drop(reason) => reason.word(),
        }
    }

    /// The rule that decided; none where nothing stood in the way.
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Decision::Pass => None,
            Decision::Hold { reason, .. } => Some(reason.rule()),
            Decision::Drop(reason) => Some(reason.rule()),
        }
    }
}

impl HoldReason {
    fn word(&self) -> &'static str {
        match self {
            HoldReason::QuietHours { .. } => "quiet_hours",
            HoldReason::RestDay { .. } => "rest_day",
            HoldReason::Holiday { .. } => "holiday",
            HoldReason::Cap(_) => "cap",
        }
    }

    fn rule(&self) -> Rule {
        match self {
            HoldReason::QuietHours { .. } | HoldReason::RestDay { .. } | HoldReason::Holiday { .. } => Rule::Quiet,
            HoldReason::Cap(_) => Rule::Cap,
        }
    }
}

impl DropReason {
    fn word(&self) -> &'static str {
        match self {
            DropReason::OptedOut => "opted_out",
            DropReason::NoConsent => "no_consent",
            DropReason::Overtaken { .. } => "overtaken",
            DropReason::TooOld { .. } => "too_old",
            DropReason::SessionClosed => "session_closed",
            DropReason::HeldTooLong { .. } => "held_too_long",
        }
    }

    fn rule(&self) -> Rule {
        match self {
            DropReason::OptedOut | DropReason::NoConsent => Rule::Consent,
            DropReason::Overtaken { .. } => Rule::Overtaken,
            DropReason::TooOld { .. } => Rule::Age,
            DropReason::SessionClosed => Rule::Session,
            DropReason::HeldTooLong { by, .. } => by.rule(),
        }
    }
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Kept {
            decision: &'static str,
            reason: &'static str,
            rule: Option<Rule>,
            #[serde(skip_serializing_if = "Option::is_none")]
            until: Option<i64>,
            message: String,
        }
        let until = match self {
            Decision::Hold { until, .. } => Some(*until),
            Decision::Pass | Decision::Drop(_) => None,
        };
        let message = self.to_string();
        Kept { decision: self.name(), reason: self.reason(), rule: self.rule(), until, message }.serialize(serializer)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Pass => write!(out, "sent: nothing stands in the way"),
            Decision::Hold { until, reason } => write!(out, "held until {}: {reason}", utc(*until)),
            Decision::Drop(reason) => write!(out, "not sent: {reason}"),
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldReason::QuietHours { hours, place } => write!(out, "quiet hours {hours} in {place}"),
            HoldReason::RestDay { day, place } => write!(out, "no messages on {day} in {place}"),
            HoldReason::Holiday { date, place } => write!(out, "{date} is a holiday in {place}"),
            HoldReason::Cap(cap) => {
                write!(out, "the cap on messages to the person is reached ({} in {})", cap.messages, cap.per)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.zone)?;
        match &self.instead_of {
            None => Ok(()),
            Some(None) => write!(out, " (the fallback: the recipient's zone is not known)"),
            Some(Some(name)) => write!(out, " (the fallback: the recipient's zone `{name}` does not exist)"),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropReason::OptedOut => write!(out, "the person has opted out"),
            DropReason::NoConsent => write!(out, "consent is needed, and none is known"),
            DropReason::Overtaken { by } => write!(out, "`{by}` has come since"),
            DropReason::TooOld { happened_at, max_age } => {
                write!(out, "the event of {} is older than {max_age}", utc(*happened_at))
            }
            DropReason::SessionClosed => {
                write!(
                    out,
                    "the channel takes messages only for a while after the customer's last one, and that is over"
                )
            }
            DropReason::HeldTooLong { by, max_age } => {
                write!(out, "it would be older than {max_age} when it is allowed: {by}")
            }
        }
    }
}

/// An instant for people, `2026-03-29T06:00:00Z`.
fn utc(ms: i64) -> String {
    match DateTime::from_timestamp_millis(ms) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{ms} ms"),
    }
}
