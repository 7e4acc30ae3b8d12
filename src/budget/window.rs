//! How much of a window a call may use.

use counterpart_connectors::{Lane, Millis};

use crate::store::Window;

/// Good answers before a lowered limit is tried one higher.
const ANSWERS_TO_RAISE: i64 = 200;
/// Windows without a refusal before that.
const WINDOWS_TO_RAISE: i64 = 10;

/// Whether a call may use the reserve and go unpaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A customer waits for it.
    Urgent,
    /// It can wait.
    Background,
}

impl From<Lane> for Urgency {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Customer | Lane::Resolve | Lane::Repair => Urgency::Urgent,
            Lane::Incremental | Lane::Audit | Lane::Backfill => Urgency::Background,
        }
    }
}

/// What background calls leave free of a limit.
pub fn reserve(limit: i64) -> i64 {
    if limit > 1 { (limit / 15).max(1) } else { 0 }
}

/// How many paced calls may come at once.
pub fn burst(limit: i64) -> i64 {
    (limit / 10).max(1)
}

/// How many calls of this urgency a limit allows per window.
pub fn allowance(limit: i64, urgency: Urgency) -> i64 {
    match urgency {
        Urgency::Urgent => limit,
        Urgency::Background => limit - reserve(limit),
    }
}

impl Window {
    /// Calls it allows, as far as is known.
    pub fn limit(&self) -> i64 {
        let known = self.learned.unwrap_or(self.configured);
        known.min(self.configured).max(1)
    }

    /// Lowers the limit; what was learned counts from now.
    pub fn lower(&mut self, limit: i64, now: Millis) {
        self.learned = Some(limit.max(1));
        self.learned_at = now;
        self.answers = 0;
    }

    /// Takes back what a clock that was ahead has written; true when it had.
    pub fn set_right(&mut self, now: Millis) -> bool {
        const NANOS: i64 = 1_000_000;
        let before = (self.paced_until, self.learned_at);
        // The pace never runs more than a window ahead.
        self.paced_until = self.paced_until.min((now + self.per_ms).saturating_mul(NANOS));
        self.learned_at = self.learned_at.min(now);
        before != (self.paced_until, self.learned_at)
    }

    /// Tries one call more when the vendor has been content for long enough; true when it did.
    pub fn raise(&mut self, now: Millis) -> bool {
        let Some(learned) = self.learned else {
            return false;
        };
        let quiet = now - self.learned_at >= WINDOWS_TO_RAISE * self.per_ms;
        if self.answers < ANSWERS_TO_RAISE || !quiet {
            return false;
        }
        self.learned = (learned + 1 < self.configured).then_some(learned + 1);
        self.learned_at = now;
        self.answers = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatways_fifteen_keep_one_for_the_customer() {
        assert_eq!(allowance(15, Urgency::Urgent), 15);
        assert_eq!(allowance(15, Urgency::Background), 14);
        assert_eq!(allowance(1, Urgency::Background), 1);
        assert_eq!(burst(15), 1);
    }
}
