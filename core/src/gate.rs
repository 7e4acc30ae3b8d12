//! The gate before a customer: whether a committed message goes out now, later, or never.
//!
//! [`decide`] is a pure function of the intent, the recipient, the policy and the time. What it answers carries the rule
//! that decided and a sentence for people, both kept with the intent. Times are Unix milliseconds.
//!
//! The rules, first one wins: consent, overtaken, age, session window, then quiet hours and the cap together. Those two
//! only hold, and never beyond the age at which the message would be dropped, so that every intent ends.

mod decision;
mod policy;
mod quiet;

use serde::{Deserialize, Serialize};

pub use decision::{Decision, DropReason, HoldReason, Place, Rule};
pub use policy::{Cap, Period, PeriodError, Policy};
pub use quiet::{Quiet, QuietHours, QuietHoursError, Zone, ZoneError};

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It happened while we were watching.
    Live,
    /// It was found when history was read: a first run, an import, a repair.
    Backfill,
}

/// An event that may reach a customer; there is no other way to one than [`LiveEvent::new`].
///
/// A backfill has none, and without one there is no [`Intent`] to decide on:
///
/// ```
/// use counterpart_core::gate::{LiveEvent, Origin};
/// assert!(LiveEvent::new(Origin::Live, 1_000, 2_000).is_ok());
/// assert!(LiveEvent::new(Origin::Backfill, 1_000, 2_000).is_err());
/// ```
///
/// ```compile_fail,E0451
/// use counterpart_core::gate::LiveEvent;
/// let forged = LiveEvent { happened_at: 1_000 };
/// ```
// No `Default` and no `Deserialize`: either would be a way around the constructor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveEvent {
    happened_at: i64,
}

/// History was offered as news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event comes from a backfill, and history never reaches a customer")]
pub struct NotLive;

impl LiveEvent {
    /// Takes what happened at `happened_at`, by the far end's clock, and was first seen by us at `seen_at`.
    ///
    /// [`NotLive`] for a backfill.
    pub fn new(origin: Origin, happened_at: i64, seen_at: i64) -> Result<LiveEvent, NotLive> {
        match origin {
            // Nothing is seen before it happens: a clock that runs ahead must not make an event that never ages.
            Origin::Live => Ok(LiveEvent { happened_at: happened_at.min(seen_at) }),
            Origin::Backfill => Err(NotLive),
        }
    }

    /// When it happened; never later than it was seen.
    pub fn happened_at(self) -> i64 {
        self.happened_at
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It belongs to what the customer ordered or asked.
    Transactional,
    /// Anything else; never without consent.
    Marketing,
}

impl Purpose {
    /// The purpose of a message on an event: `order.*`, `shipment.*` and `ticket.*` are transactional.
    pub fn of(event: &str) -> Purpose {
        match event.split_once('.') {
            Some(("order" | "shipment" | "ticket", _)) => Purpose::Transactional,
            _ => Purpose::Marketing,
        }
    }
}

/// A message that is committed and not yet sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What it tells of.
    pub event: LiveEvent,
    /// What it is for.
    pub purpose: Purpose,
    /// The later milestone that makes this one old news, `delivered` for `shipped`.
    pub overtaken_by: Option<String>,
}

/// What a recipient said about being written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Yes.
    Given,
    /// Nothing.
    #[default]
    Unknown,
    /// No; wins over everything said before.
    OptedOut,
}

/// A channel that takes free text only for a while after the customer's last message. How long, and for whom, is the
/// vendor's to know: it says whether it takes one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Free text is taken now.
    Open,
    /// It would not reach the customer.
    Closed,
}

/// What is known of the person a message is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// What they said about messages.
    pub consent: Consent,
    /// Their time zone as it was found, hopefully an IANA name.
    pub zone: Option<String>,
    /// The session of the channel; none where free text is always taken, or the vendor does not say.
    pub session: Option<Session>,
    /// When messages went out to them, in any order. Those within the cap's period suffice.
    pub sent_at: Vec<i64>,
}

/// Decides on a message at `now`.
pub fn decide(intent: &Intent, recipient: &Recipient, policy: &Policy, now: i64) -> Decision {
    let consent_needed = policy.consent_required || intent.purpose == Purpose::Marketing;
    match recipient.consent {
        Consent::OptedOut => return Decision::Drop(DropReason::OptedOut),
        Consent::Unknown if consent_needed => return Decision::Drop(DropReason::NoConsent),
        Consent::Unknown | Consent::Given => {}
    }
    if let Some(by) = &intent.overtaken_by {
        return Decision::Drop(DropReason::Overtaken { by: by.clone() });
    }
    let max_age = policy.max_age;
    let happened_at = intent.event.happened_at();
    let latest = happened_at.saturating_add(max_age.ms());
    if now > latest {
        return Decision::Drop(DropReason::TooOld { happened_at, max_age });
    }
    if recipient.session == Some(Session::Closed) {
        return Decision::Drop(DropReason::SessionClosed);
    }
    // The customer may write again while it is held: whether the window is open is asked anew at `until`.
    match held(recipient, policy, now, latest) {
        None => Decision::Pass,
        Some((Some(until), reason)) => Decision::Hold { until, reason },
        Some((None, by)) => Decision::Drop(DropReason::HeldTooLong { by, max_age }),
    }
}

/// The first moment that quiet hours and cap allow, if it comes by `latest`, and the later of the two to hold it.
///
/// The cap, once it allows, goes on allowing: so the first minute outside quiet hours from then on is the answer.
fn held(recipient: &Recipient, policy: &Policy, now: i64, latest: i64) -> Option<(Option<i64>, HoldReason)> {
    let capped = policy.cap.and_then(|cap| Some((cap, cap.free_at(&recipient.sent_at, now)?)));
    let free_at = capped.map_or(now, |(_, at)| at);
    if let Some(quiet) = &policy.quiet {
        let place = quiet.place(recipient.zone.as_deref());
        if let Some(reason) = quiet.closed(&place, free_at) {
            return Some((quiet.first_open(place.zone, free_at, latest), reason));
        }
    }
    capped.map(|(cap, at)| ((at <= latest).then_some(at), HoldReason::Cap(cap)))
}
