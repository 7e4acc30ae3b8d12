//! What an answer teaches about the vendor's real limit.

use counterpart_connectors::{Millis, RateSignal};

use crate::store::Window;

/// A vendor that asks for more patience than this is not believed.
const MAX_PATIENCE_MS: i64 = 24 * 60 * 60 * 1000;
/// What a vendor that only says "too fast" usually counts in.
const MINUTE_MS: i64 = 60_000;
/// The status that means "too fast".
pub const TOO_FAST: u16 = 429;

/// Whether a signal says anything but "fine".
pub fn is_lesson(signal: &RateSignal, lowest: i64) -> bool {
    signal.status == Some(TOO_FAST)
        || signal.remaining == Some(0)
        || signal.retry_at.is_some()
        || signal.limit.is_some_and(|limit| i64::from(limit) < lowest)
}

/// Takes in what the answer to a call of `class`, granted at `granted_at`, says. `used` is how many calls
/// each window counts now. Returns which windows changed.
pub fn learn(
    windows: &mut [Window],
    used: &[i64],
    class: &str,
    signal: &RateSignal,
    granted_at: Millis,
    now: Millis,
) -> Vec<bool> {
    let before = windows.to_vec();
    let shortest = shortest(windows, class);
    // Vendors announce the window they count first; a longer one has headers of its own.
    if let (Some(index), Some(limit)) = (shortest, signal.limit) {
        let limit = i64::from(limit);
        if (1..windows[index].limit()).contains(&limit) {
            windows[index].lower(limit, now);
        }
    }
    if signal.status == Some(TOO_FAST)
        && let Some(index) = fullest(windows, used)
        // Calls that were under way when the limit fell say nothing about the new one.
        && granted_at >= windows[index].learned_at
    {
        let limit = windows[index].limit();
        windows[index].lower((limit * 8 / 10).min(limit - 1), now);
    }
    if let (Some(index), Some(at)) = (shortest, patience(signal, now)) {
        let window = &mut windows[index];
        let most = match signal.status {
            Some(TOO_FAST) => MAX_PATIENCE_MS,
            // Calls are left again in the next window at the latest.
            _ if signal.remaining == Some(0) => window.per_ms,
            _ => MAX_PATIENCE_MS,
        };
        window.not_before = window.not_before.max(at.min(now + most));
    }
    windows.iter().zip(&before).map(|(after, before)| after != before).collect()
}

/// When the vendor wants to hear from us again, if it said anything about it.
fn patience(signal: &RateSignal, now: Millis) -> Option<Millis> {
    let at = match signal.status {
        Some(TOO_FAST) => signal.retry_at.or(signal.reset_at).or(Some((now.div_euclid(MINUTE_MS) + 1) * MINUTE_MS)),
        _ => signal.retry_at.or(signal.reset_at.filter(|_| signal.remaining == Some(0))),
    };
    at.filter(|&at| at > now)
}

/// The shortest window of the class itself, or of those that count every call.
fn shortest(windows: &[Window], class: &str) -> Option<usize> {
    let of = |class: &str| {
        (0..windows.len()).filter(|&index| windows[index].class == class).min_by_key(|&index| windows[index].per_ms)
    };
    of(class).or_else(|| of(super::EVERY_CALL))
}

/// The window that is nearest to its limit: most likely the one the vendor refused for.
fn fullest(windows: &[Window], used: &[i64]) -> Option<usize> {
    (0..windows.len()).max_by_key(|&index| {
        let share = used[index] * 1_000_000 / windows[index].limit();
        (share, -windows[index].per_ms)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Millis = 1_790_000_000_000 - 1_790_000_000_000 % MINUTE_MS;

    fn window(per_ms: i64, limit: i64) -> Window {
        Window {
            class: "all".into(),
            per_ms,
            configured: limit,
            learned: None,
            paced_until: 0,
            not_before: 0,
            learned_at: 0,
            answers: 0,
        }
    }

    fn too_fast() -> RateSignal {
        RateSignal { status: Some(TOO_FAST), ..RateSignal::default() }
    }

    #[test]
    fn a_bare_refusal_lowers_the_fullest_window_and_waits_for_the_next_minute() {
        let mut windows = [window(60_000, 15), window(86_400_000, 10_000)];
        learn(&mut windows, &[14, 20], "all", &too_fast(), NOON, NOON + 1);
        assert_eq!(windows[0].limit(), 12);
        assert_eq!(windows[1].limit(), 10_000);
        assert_eq!(windows[0].not_before, NOON + MINUTE_MS);
    }

    #[test]
    fn several_refusals_of_one_burst_lower_it_once() {
        let mut windows = [window(60_000, 15)];
        for after in 1..5 {
            learn(&mut windows, &[9], "all", &too_fast(), NOON - 1, NOON + after);
        }
        assert_eq!(windows[0].limit(), 12);
    }

    #[test]
    fn it_never_falls_below_one() {
        let mut windows = [window(60_000, 2)];
        for after in 1..9 {
            learn(&mut windows, &[1], "all", &too_fast(), NOON + after, NOON + after);
        }
        assert_eq!(windows[0].limit(), 1);
    }

    #[test]
    fn an_announced_limit_counts_at_once_and_only_downwards() {
        let mut windows = [window(60_000, 15)];
        let announced = |limit| RateSignal { status: Some(200), limit: Some(limit), ..RateSignal::default() };
        learn(&mut windows, &[1], "all", &announced(10), NOON, NOON);
        assert_eq!(windows[0].limit(), 10);
        learn(&mut windows, &[1], "all", &announced(100), NOON, NOON);
        assert_eq!(windows[0].limit(), 10);
    }

    #[test]
    fn nothing_left_means_waiting_for_the_reset_but_not_for_ever() {
        let mut windows = [window(60_000, 15)];
        let empty = |reset_at| RateSignal {
            status: Some(200),
            remaining: Some(0),
            reset_at: Some(reset_at),
            ..RateSignal::default()
        };
        learn(&mut windows, &[1], "all", &empty(NOON + 5_000), NOON, NOON);
        assert_eq!(windows[0].not_before, NOON + 5_000);
        learn(&mut windows, &[1], "all", &empty(NOON * 1000), NOON, NOON);
        assert_eq!(windows[0].not_before, NOON + 60_000);
    }
}
