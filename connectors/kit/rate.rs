//! What an answer says about the vendor's limit.

use http::HeaderMap;

use super::capabilities::BudgetFacts;
use super::clock::Millis;
use super::gate::RateSignal;
use super::manifest::{RateHeaders, ResetForm};
use super::time;

/// A vendor that answers 429 and says nothing else counts in full minutes, unless its window is shorter.
const FALLBACK_WINDOW: Millis = 60_000;

/// Reads the signal of an answer that arrived at `now`.
pub(crate) fn read(
    status: u16,
    headers: &HeaderMap,
    names: &RateHeaders,
    window: Option<Millis>,
    now: Millis,
) -> RateSignal {
    // Absolute times are the vendor's; its clock and ours may differ by minutes.
    let ahead = server_time(headers).map_or(0, |server| server - now);
    let number = |name: &Option<String>| text(headers, name.as_deref()?)?.parse::<f64>().ok();
    let reset_at = names.reset.as_deref().and_then(|name| reset(text(headers, name)?, names.reset_is, now, ahead));
    let mut retry_at = retry_after(headers, now, ahead);
    if status == 429 && retry_at.is_none() {
        retry_at = reset_at.filter(|at| *at > now).or_else(|| Some(next_window(now + ahead, window) - ahead));
    }
    RateSignal {
        status: Some(status),
        limit: number(&names.limit).map(|limit| limit as u32),
        remaining: number(&names.remaining).map(|remaining| remaining as u32),
        reset_at,
        retry_at,
        surely_unsent: false,
    }
}

/// The shortest window that counts calls of `class`.
pub(crate) fn shortest_window(budgets: &[BudgetFacts], class: &str) -> Option<Millis> {
    let of = |class: &str| budgets.iter().filter(|b| b.class == class).map(|b| b.per_ms).min();
    of(class).or_else(|| of("all"))
}

/// The vendor's clock when it answered.
pub(crate) fn server_time(headers: &HeaderMap) -> Option<Millis> {
    time::parse_http_date(text(headers, "date")?)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn reset(text: &str, form: ResetForm, now: Millis, ahead: Millis) -> Option<Millis> {
    let seconds = || text.parse::<f64>().ok();
    match form {
        ResetForm::Seconds => Some(now + (seconds()? * 1_000.0).ceil() as Millis),
        ResetForm::Epoch => Some((seconds()? * 1_000.0).ceil() as Millis - ahead),
        ResetForm::EpochMs => Some(seconds()? as Millis - ahead),
        ResetForm::HttpDate => Some(time::parse_http_date(text)? - ahead),
    }
}

fn retry_after(headers: &HeaderMap, now: Millis, ahead: Millis) -> Option<Millis> {
    let value = text(headers, "retry-after")?;
    match value.parse::<f64>() {
        Ok(seconds) if seconds >= 0.0 => Some(now + (seconds * 1_000.0).ceil() as Millis),
        Ok(_) => None,
        Err(_) => Some(time::parse_http_date(value)? - ahead),
    }
}

fn next_window(now: Millis, window: Option<Millis>) -> Millis {
    let window = window.unwrap_or(FALLBACK_WINDOW).clamp(1_000, FALLBACK_WINDOW);
    (now.div_euclid(window) + 1) * window
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_772_615_710_500; // ten and a half seconds past a minute

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn names(reset_is: ResetForm) -> RateHeaders {
        RateHeaders {
            limit: Some("x-limit".into()),
            remaining: Some("x-left".into()),
            reset: Some("x-reset".into()),
            reset_is,
        }
    }

    #[test]
    fn a_bare_429_waits_for_the_next_window() {
        let none = HeaderMap::new();
        let plain = RateHeaders::default();
        assert_eq!(read(429, &none, &plain, None, NOW).retry_at, Some(1_772_615_760_000));
        assert_eq!(read(429, &none, &plain, Some(1_000), NOW).retry_at, Some(1_772_615_711_000));
        assert_eq!(read(429, &none, &plain, Some(86_400_000), NOW).retry_at, Some(1_772_615_760_000));
        assert_eq!(read(200, &none, &plain, None, NOW).retry_at, None);
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date_on_the_vendors_clock() {
        let plain = RateHeaders::default();
        let seconds = headers(&[("retry-after", "7")]);
        assert_eq!(read(503, &seconds, &plain, None, NOW).retry_at, Some(NOW + 7_000));
        // The vendor's clock is ten minutes ahead of ours; it means half a minute.
        let date =
            headers(&[("date", "Wed, 04 Mar 2026 09:25:10 GMT"), ("retry-after", "Wed, 04 Mar 2026 09:25:40 GMT")]);
        assert_eq!(read(429, &date, &plain, None, NOW).retry_at, Some(NOW + 30_000));
    }

    #[test]
    fn every_form_of_reset() {
        for (form, value) in
            [(ResetForm::Seconds, "5"), (ResetForm::Epoch, "1772615715.5"), (ResetForm::EpochMs, "1772615715500")]
        {
            let signal =
                read(200, &headers(&[("x-reset", value), ("x-left", "0"), ("x-limit", "15")]), &names(form), None, NOW);
            assert_eq!(signal.reset_at, Some(NOW + 5_000), "{form:?}");
            assert_eq!((signal.remaining, signal.limit), (Some(0), Some(15)));
        }
        let date = headers(&[("x-reset", "Wed, 04 Mar 2026 09:15:16 GMT")]);
        assert_eq!(read(200, &date, &names(ResetForm::HttpDate), None, NOW).reset_at, Some(1_772_615_716_000));
    }
}
