//! How long calls will take inside a budget, before the first one is made.

use counterpart_connectors::{BudgetFacts, Lane};

use super::EVERY_CALL;
use super::window::{Urgency, allowance, burst};

/// How long a usual answer takes: a call is counted until a window after its answer.
const USUAL_ANSWER_MS: i128 = 200;

/// How many milliseconds `calls` calls of this lane take when nothing but the budget slows them down.
///
/// What the ledger does, computed: background calls leave the reserve and are paced. The windows that count
/// every call decide, or all of them when there is none of that kind.
pub fn forecast(budgets: &[BudgetFacts], calls: u64, lane: Lane) -> i64 {
    let every = |budget: &&BudgetFacts| budget.class == EVERY_CALL;
    let general = budgets.iter().any(|budget| every(&budget));
    budgets
        .iter()
        .filter(|budget| !general || every(budget))
        .map(|budget| one_window(budget, calls, lane.into()))
        .max()
        .unwrap_or(0)
}

fn one_window(budget: &BudgetFacts, calls: u64, urgency: Urgency) -> i64 {
    let limit = i64::from(budget.requests).max(1);
    let allowed = i128::from(allowance(limit, urgency));
    let per = i128::from(budget.per_ms);
    // The first call goes at once: what counts is how many come before the last one.
    let earlier = i128::from(calls.saturating_sub(1));
    let paced = |earlier: i128| match urgency {
        Urgency::Urgent => 0,
        Urgency::Background => (earlier + 1 - i128::from(burst(limit))).max(0) * per / allowed,
    };
    let by_window = earlier / allowed * (per + USUAL_ANSWER_MS) + paced(earlier % allowed);
    i64::try_from(by_window.max(paced(earlier))).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chatway() -> Vec<BudgetFacts> {
        vec![BudgetFacts { class: "all".into(), requests: 15, per_ms: 60_000 }]
    }

    #[test]
    fn ten_thousand_conversations_take_a_night() {
        let pages = forecast(&chatway(), 1_000, Lane::Backfill);
        assert_eq!(pages / 60_000, 71);
        let all = forecast(&chatway(), 11_000, Lane::Backfill);
        assert!((12..14).contains(&(all / 3_600_000)));
    }

    #[test]
    fn one_call_and_no_limit_take_no_time() {
        assert_eq!(forecast(&chatway(), 1, Lane::Backfill), 0);
        assert_eq!(forecast(&[], 1_000_000, Lane::Backfill), 0);
    }

    #[test]
    fn the_tightest_window_decides() {
        let day = BudgetFacts { class: "all".into(), requests: 1_500, per_ms: 86_400_000 };
        let both = [chatway(), vec![day]].concat();
        assert!(forecast(&both, 3_000, Lane::Backfill) > 86_400_000);
        assert!(forecast(&both, 3_000, Lane::Customer) >= 86_400_000);
    }
}
