//! The laws of the gate before a customer, against a wall clock that is read here on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Offset, TimeZone, Utc, Weekday};
use chrono_tz::{TZ_VARIANTS, Tz};
use counterpart_core::gate::{
    Cap, Consent, Decision, DropReason, Intent, LiveEvent, Origin, Period, Policy, Purpose, Quiet, Recipient, Session,
    decide,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A question to the gate, with its quiet hours as plain times for the model.
#[derive(Clone, Debug)]
struct Case {
    intent: Intent,
    recipient: Recipient,
    policy: Policy,
    now: i64,
    night: (NaiveTime, NaiveTime),
    zone: Tz,
}

impl Case {
    fn decide_at(&self, now: i64) -> Decision {
        decide(&self.intent, &self.recipient, &self.policy, now)
    }

    fn latest(&self) -> i64 {
        self.intent.event.happened_at() + self.policy.max_age.ms()
    }

    /// Whether the wall clock allows a message, read from the zone directly.
    fn is_day(&self, at: i64) -> bool {
        let Some(quiet) = &self.policy.quiet else { return true };
        is_day(self.zone, self.night, &quiet.days, &quiet.holidays, at)
    }

    /// Whether the cap allows one more message, by counting.
    fn is_under_cap(&self, at: i64) -> bool {
        self.policy.cap.is_none_or(|cap| {
            let counted = self.recipient.sent_at.iter().filter(|sent| at - **sent < cap.per.ms()).count();
            counted < cap.messages.get() as usize
        })
    }

    /// The first moment that both allow, by trying every minute and every moment at which a message stops to count.
    fn first_allowed(&self) -> Option<i64> {
        let minutes =
            (0..).map(|n| (self.now.div_euclid(MINUTE) + 1 + n) * MINUTE).take_while(|at| *at <= self.latest());
        let per = self.policy.cap.map_or(1, |cap| cap.per.ms());
        let mut ends: Vec<i64> = self.recipient.sent_at.iter().map(|at| at + per).collect();
        ends.retain(|at| (self.now..=self.latest()).contains(at));
        let allowed = |at: &i64| self.is_day(*at) && self.is_under_cap(*at);
        let by_minute = std::iter::once(self.now).chain(minutes).find(allowed);
        ends.into_iter().filter(allowed).chain(by_minute).min()
    }
}

fn is_day(zone: Tz, (from, to): (NaiveTime, NaiveTime), days: &[Weekday], off: &BTreeSet<NaiveDate>, at: i64) -> bool {
    let local = Utc.timestamp_millis_opt(at).single().expect("a time").with_timezone(&zone);
    let time = local.time();
    let night = if from < to { from <= time && time < to } else { from <= time || time < to };
    let rest = !days.is_empty() && !days.contains(&local.weekday());
    !night && !rest && !off.contains(&local.date_naive())
}

fn time_of_day() -> impl Strategy<Value = NaiveTime> {
    (0..24u32, prop::sample::select(vec![0, 0, 15, 30, 59]))
        .prop_map(|(hour, minute)| NaiveTime::from_hms_opt(hour, minute, 0).expect("a time"))
}

fn night() -> impl Strategy<Value = (NaiveTime, NaiveTime)> {
    (time_of_day(), time_of_day()).prop_filter("not equal", |(from, to)| from != to)
}

fn quiet_of((from, to): (NaiveTime, NaiveTime), zone: &str) -> Quiet {
    Quiet {
        hours: format!("{}-{}", from.format("%H:%M"), to.format("%H:%M")).parse().expect("quiet hours"),
        fallback_zone: zone.parse().expect("a zone"),
        days: Vec::new(),
        holidays: BTreeSet::new(),
    }
}

/// Any minute and millisecond from 2015 to 2035.
fn instant() -> impl Strategy<Value = i64> {
    1_420_000_000_000..2_050_000_000_000_i64
}

fn period() -> impl Strategy<Value = Period> {
    prop_oneof![1..3 * DAY, (1..72i64).prop_map(|hours| hours * HOUR)]
        .prop_map(|ms| Period::from_ms(ms).expect("above 0"))
}

fn cases() -> impl Strategy<Value = Case> {
    let quiet = (
        prop::option::weighted(0.8, night()),
        prop::sample::select(TZ_VARIANTS.to_vec()),
        prop::sample::select(vec!["own", "none", "wrong"]),
        prop::collection::vec((0..7u8).prop_map(|n| Weekday::try_from(n).expect("a day")), 0..6),
        prop::collection::vec(-1..6i64, 0..3),
    );
    let people = (
        prop_oneof![8 => Just(Consent::Given), 4 => Just(Consent::Unknown), 1 => Just(Consent::OptedOut)],
        prop::option::of(prop_oneof![3 => Just(Session::Open), 1 => Just(Session::Closed)]),
        prop::collection::vec(0..3 * DAY, 0..6),
    );
    let flow = (
        prop::option::weighted(0.05, Just("delivered".to_owned())),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        0..30 * HOUR,
    );
    let limits = (prop_oneof![period(), Just("6d".parse().expect("a period"))], prop::option::of((1..4u32, period())));
    (instant(), quiet, people, flow, limits).prop_map(|(now, quiet, people, flow, limits)| {
        let (night, zone, known, days, holidays) = quiet;
        let (consent, session, sent_ago) = people;
        let (overtaken_by, marketing, consent_required, age) = flow;
        let (max_age, cap) = limits;
        let today = DateTime::from_timestamp_millis(now).expect("a time").date_naive();
        let event = LiveEvent::new(Origin::Live, now - age, now).expect("it is live");
        let purpose = if marketing { Purpose::Marketing } else { Purpose::Transactional };
        // The zone is the recipient's own, or the fallback of one who has none.
        let (own, fallback) = match known {
            "own" => (Some(zone.name().to_owned()), "Pacific/Kiritimati"),
            "none" => (None, zone.name()),
            _ => (Some("Europe/Atlantis".to_owned()), zone.name()),
        };
        let quiet = night.map(|night| Quiet {
            days,
            holidays: holidays.into_iter().map(|days| today + chrono::TimeDelta::days(days)).collect(),
            ..quiet_of(night, fallback)
        });
        Case {
            intent: Intent { event, purpose, overtaken_by },
            recipient: Recipient {
                consent,
                zone: own,
                session,
                sent_at: sent_ago.into_iter().map(|ago| now - ago).collect(),
            },
            policy: Policy {
                max_age,
                consent_required,
                quiet,
                cap: cap.map(|(messages, per)| Cap { messages: NonZeroU32::new(messages).expect("above 0"), per }),
            },
            now,
            night: night.unwrap_or_default(),
            zone,
        }
    })
}

/// When a message goes out, if nothing changes; a dropped one never does.
fn goes_out_at(decision: &Decision, now: i64) -> i64 {
    match decision {
        Decision::Pass => now,
        Decision::Hold { until, .. } => *until,
        Decision::Drop(_) => i64::MAX,
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_passes_breaks_no_rule(case in cases()) {
        let Case { intent, recipient, policy, now, .. } = &case;
        let Decision::Pass = case.decide_at(*now) else { return Ok(()) };
        prop_assert!(case.is_day(*now), "in quiet hours");
        prop_assert!(case.is_under_cap(*now), "over the cap");
        prop_assert!(now - intent.event.happened_at() <= policy.max_age.ms(), "too old");
        prop_assert!(intent.overtaken_by.is_none(), "overtaken");
        prop_assert!(recipient.consent != Consent::OptedOut, "opted out");
        let needed = policy.consent_required || intent.purpose == Purpose::Marketing;
        prop_assert!(!needed || recipient.consent == Consent::Given, "no consent");
        prop_assert!(recipient.session != Some(Session::Closed), "no session");
    }

    #[test]
    fn who_opted_out_hears_nothing(mut case in cases()) {
        case.recipient.consent = Consent::OptedOut;
        prop_assert_eq!(case.decide_at(case.now), Decision::Drop(DropReason::OptedOut));
    }

    #[test]
    fn a_hold_ends_at_the_first_moment_that_is_allowed(case in cases()) {
        match case.decide_at(case.now) {
            Decision::Pass => prop_assert_eq!(case.first_allowed(), Some(case.now)),
            Decision::Hold { until, .. } => {
                prop_assert!(until > case.now);
                prop_assert_eq!(case.first_allowed(), Some(until));
            }
            Decision::Drop(DropReason::HeldTooLong { .. }) => prop_assert_eq!(case.first_allowed(), None),
            Decision::Drop(_) => {}
        }
    }

    #[test]
    fn asked_again_at_until_it_passes(case in cases()) {
        let Decision::Hold { until, .. } = case.decide_at(case.now) else { return Ok(()) };
        let again = case.decide_at(until);
        prop_assert!(matches!(again, Decision::Pass), "{}", again);
    }

    #[test]
    fn asked_again_before_until_the_answer_is_the_same(case in cases(), part in 0.0..1.0f64) {
        let Decision::Hold { until, .. } = case.decide_at(case.now) else { return Ok(()) };
        let between = case.now + ((until - case.now) as f64 * part) as i64;
        match case.decide_at(between.min(until - 1)) {
            Decision::Hold { until: again, .. } => prop_assert_eq!(again, until),
            other => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn time_never_brings_a_message_forward_or_back_to_life(case in cases(), later in 0..3 * DAY) {
        let now = case.decide_at(case.now);
        let then = case.decide_at(case.now + later);
        prop_assert!(goes_out_at(&then, case.now + later) >= goes_out_at(&now, case.now), "{now}; later: {then}");
    }

    #[test]
    fn a_stricter_rule_never_sends_earlier(case in cases(), sent_ago in 0..2 * DAY, shorter in 1..3 * DAY) {
        let before = goes_out_at(&case.decide_at(case.now), case.now);
        let mut busier = case.clone();
        busier.recipient.sent_at.push(case.now - sent_ago);
        let mut younger = case.clone();
        younger.policy.max_age = Period::from_ms(shorter.min(case.policy.max_age.ms())).expect("above 0");
        let mut consenting = case.clone();
        consenting.policy.consent_required = true;
        let mut silent = case.clone();
        silent.recipient.session = Some(Session::Closed);
        for stricter in [busier, younger, consenting, silent] {
            prop_assert!(goes_out_at(&stricter.decide_at(case.now), case.now) >= before);
        }
        let (mut sleepless, mut uncapped) = (case.clone(), case.clone());
        sleepless.policy.quiet = None;
        uncapped.policy.cap = None;
        for laxer in [sleepless, uncapped] {
            prop_assert!(goes_out_at(&laxer.decide_at(case.now), case.now) <= before);
        }
    }

    /// Other messages go out to the same person whenever this one asks: it is passed over, and still ends.
    #[test]
    fn no_message_is_held_for_ever(mut case in cases(), others in prop::collection::vec(any::<bool>(), 64)) {
        let capped = case.policy.cap.map_or(0, |cap| {
            i64::from(cap.messages.get()) * (case.policy.max_age.ms() / cap.per.ms() + 2)
        });
        // Each night, and each message that takes the place of this one under the cap, holds once.
        let bound = capped + 2 * (case.policy.max_age.ms() / DAY + 2);
        let (mut now, mut held) = (case.now, 0);
        while let Decision::Hold { until, .. } = case.decide_at(now) {
            prop_assert!(now < until && until <= case.latest());
            held += 1;
            prop_assert!(held <= bound, "held {} times", held);
            now = until;
            if others[held as usize % others.len()] {
                case.recipient.sent_at.push(now);
            }
        }
    }

    #[test]
    fn no_time_makes_it_panic(
        case in cases(),
        times in prop::array::uniform3(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), 8_210_000_000_000_000..8_220_000_000_000_000_i64]),
        length in prop_oneof![1..i64::MAX, Just(i64::MAX)],
    ) {
        let [happened, now, sent] = times;
        let mut case = case;
        case.intent.event = LiveEvent::new(Origin::Live, happened, i64::MAX).expect("it is live");
        case.recipient.sent_at = vec![sent, happened, now];
        let length = Period::from_ms(length).expect("above 0");
        case.policy.max_age = length;
        case.policy.cap = case.policy.cap.map(|cap| Cap { per: length, ..cap });
        let decision = case.decide_at(now);
        prop_assert!(goes_out_at(&decision, now) >= now);
        prop_assert!(!decision.to_string().is_empty());
    }
}

/// A law that no generated case is about says nothing.
#[test]
fn the_generated_cases_meet_every_reason() {
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeMap::new();
    for _ in 0..4096 {
        let case = cases().new_tree(&mut runner).expect("a case").current();
        *met.entry(case.decide_at(case.now).reason()).or_insert(0) += 1;
    }
    let common = met.iter().filter(|(_, times)| **times >= 40).map(|(reason, _)| *reason);
    let reasons = [
        "cap",
        "clear",
        "held_too_long",
        "holiday",
        "no_consent",
        "opted_out",
        "overtaken",
        "quiet_hours",
        "rest_day",
        "session_closed",
        "too_old",
    ];
    assert_eq!(common.collect::<Vec<_>>(), reasons, "{met:?}");
}

/// The instants of a year at which a zone's clock is changed, to the minute.
fn clock_changes(zone: Tz, year: i32) -> Vec<i64> {
    let start = Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single().expect("a time").timestamp_millis();
    let offset = |at: i64| {
        zone.offset_from_utc_datetime(&DateTime::from_timestamp_millis(at).expect("a time").naive_utc()).fix()
    };
    let hours = (0..366 * 24).map(|hour| start + hour * HOUR);
    let changed = hours.filter(|at| offset(*at) != offset(at + HOUR));
    changed.filter_map(|at| (1..=60).map(|n| at + n * MINUTE).find(|to| offset(*to) != offset(at))).collect()
}

/// Every minute around the clock changes of zones that make them differently, against a scan of all minutes.
#[test]
fn every_minute_of_the_nights_of_clock_changes() {
    let zones = [
        ("Europe/Berlin", 2026, 2),
        ("America/New_York", 2026, 2),
        // Half an hour.
        ("Australia/Lord_Howe", 2026, 2),
        // None, and 45 minutes off the hour.
        ("Asia/Kathmandu", 2026, 0),
        // At midnight, which is left out or comes twice.
        ("Africa/Cairo", 2026, 2),
        ("America/Sao_Paulo", 2018, 2),
        ("America/Havana", 2026, 2),
        // Summer time is taken back for Ramadan.
        ("Africa/Casablanca", 2026, 2),
        // A whole day is left out.
        ("Pacific/Apia", 2011, 3),
    ];
    let nights =
        ["21:00-08:00", "21:00-02:30", "02:15-02:45", "00:00-03:00", "23:30-00:00", "02:00-21:00", "01:45-01:30"];
    let mut asked = 0;
    for (name, year, changes) in zones {
        let zone: Tz = name.parse().expect("a zone");
        let mut around = clock_changes(zone, year);
        assert_eq!(around.len(), changes, "{name}");
        around.push(Utc.with_ymd_and_hms(year, 7, 1, 0, 0, 0).single().expect("a time").timestamp_millis());
        for (change, night) in around.iter().flat_map(|change| nights.map(|night| (*change, night))) {
            let times = night.split_once('-').map(|(from, to)| {
                let time = |text| NaiveTime::parse_from_str(text, "%H:%M").expect("a time");
                (time(from), time(to))
            });
            let times = times.expect("two times");
            let policy = Policy {
                max_age: "9d".parse().expect("a period"),
                quiet: Some(quiet_of(times, "UTC")),
                ..Policy::default()
            };
            let recipient = Recipient { zone: Some(name.to_owned()), ..Recipient::default() };
            let (start, minutes) = (change - 36 * HOUR, 4 * 24 * 60);
            let minute = |n: i64| start + n * MINUTE;
            // From the last minute back, so that each knows the next one that is allowed.
            let mut next = None;
            for n in (0..minutes).rev() {
                let day = is_day(zone, times, &[], &BTreeSet::new(), minute(n));
                let after = next;
                next = if day { Some(minute(n)) } else { next };
                // Every minute close to the change, some of the others; on the minute and within it.
                if (minute(n) - change).abs() > 4 * HOUR && n % 17 != 0 {
                    continue;
                }
                for now in [minute(n), minute(n) + 59_999] {
                    let Some(expected) = (if day { Some(now) } else { after }) else { continue };
                    let event = LiveEvent::new(Origin::Live, now, now).expect("it is live");
                    let purpose = Purpose::Transactional;
                    let intent = Intent { event, purpose, overtaken_by: None };
                    let decision = decide(&intent, &recipient, &policy, now);
                    assert_eq!(
                        goes_out_at(&decision, now),
                        expected,
                        "{name}, {night}, asked at {}: {decision}",
                        Utc.timestamp_millis_opt(now).single().expect("a time").with_timezone(&zone)
                    );
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 100_000, "{asked}");
}
