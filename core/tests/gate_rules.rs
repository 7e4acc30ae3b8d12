//! The gate before a customer, rule by rule: examples, exact borders, and the words that are kept.

use chrono::DateTime;
use counterpart_core::gate::{
    Cap, Consent, Decision, DropReason, HoldReason, Intent, LiveEvent, NotLive, Origin, Period, Policy, Purpose,
    QuietHours, Recipient, Rule, Session, Zone, decide,
};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn at(time: &str) -> i64 {
    DateTime::parse_from_rfc3339(time).expect("a time").timestamp_millis()
}

fn policy(text: &str) -> Policy {
    toml::from_str(text).expect("a policy")
}

fn intent(happened_at: i64) -> Intent {
    let event = LiveEvent::new(Origin::Live, happened_at, happened_at).expect("it is live");
    Intent { event, purpose: Purpose::Transactional, overtaken_by: None }
}

fn lives_in(zone: &str) -> Recipient {
    Recipient { zone: Some(zone.to_owned()), ..Recipient::default() }
}

/// When a message on an event of `now` is allowed to somebody in a zone.
fn until(policy: &Policy, zone: &str, now: &str) -> String {
    match decide(&intent(at(now)), &lives_in(zone), policy, at(now)) {
        Decision::Pass => "now".to_owned(),
        Decision::Hold { until, .. } => DateTime::from_timestamp_millis(until).expect("a time").to_rfc3339(),
        Decision::Drop(reason) => panic!("dropped: {reason}"),
    }
}

#[test]
fn history_never_reaches_a_customer() {
    assert_eq!(LiveEvent::new(Origin::Backfill, 0, 0), Err(NotLive));
    assert_eq!(LiveEvent::new(Origin::Backfill, i64::MAX, i64::MIN), Err(NotLive));
    assert_eq!(LiveEvent::new(Origin::Live, 5, 9).map(LiveEvent::happened_at), Ok(5));
}

#[test]
fn a_clock_that_runs_ahead_makes_no_event_that_never_ages() {
    let event = LiveEvent::new(Origin::Live, 1000 * DAY, DAY).expect("it is live");
    let intent = Intent { event, ..intent(0) };
    assert_eq!(decide(&intent, &Recipient::default(), &Policy::default(), 2 * DAY), Decision::Pass);
    assert_eq!(decide(&intent, &Recipient::default(), &Policy::default(), 2 * DAY + 1).reason(), "too_old");
}

#[test]
fn consent_is_asked_for_as_the_purpose_and_the_policy_need_it() {
    let cases = [
        (Consent::Given, Purpose::Transactional, false, "clear"),
        (Consent::Unknown, Purpose::Transactional, false, "clear"),
        (Consent::OptedOut, Purpose::Transactional, false, "opted_out"),
        (Consent::Given, Purpose::Transactional, true, "clear"),
        (Consent::Unknown, Purpose::Transactional, true, "no_consent"),
        (Consent::OptedOut, Purpose::Transactional, true, "opted_out"),
        (Consent::Given, Purpose::Marketing, false, "clear"),
        (Consent::Unknown, Purpose::Marketing, false, "no_consent"),
        (Consent::OptedOut, Purpose::Marketing, false, "opted_out"),
    ];
    for (consent, purpose, consent_required, reason) in cases {
        let decision = decide(
            &Intent { purpose, ..intent(0) },
            &Recipient { consent, ..Recipient::default() },
            &Policy { consent_required, ..Policy::default() },
            0,
        );
        assert_eq!(decision.reason(), reason, "{consent:?} {purpose:?} {consent_required}");
    }
}

#[test]
fn what_belongs_to_an_order_is_no_marketing() {
    for event in ["order.completed", "order.refunded", "shipment.created", "ticket.closed"] {
        assert_eq!(Purpose::of(event), Purpose::Transactional, "{event}");
    }
    for event in ["cart.abandoned", "order", "orders.completed", "newsletter.order.x", ""] {
        assert_eq!(Purpose::of(event), Purpose::Marketing, "{event}");
    }
}

#[test]
fn an_event_may_be_exactly_as_old_as_allowed() {
    let policy = policy("max_age = \"36h\"");
    for (age, reason) in [
        (0, "clear"),
        (36 * HOUR - 1, "clear"),
        (36 * HOUR, "clear"),
        (36 * HOUR + 1, "too_old"),
        (i64::MAX, "too_old"),
    ] {
        assert_eq!(decide(&intent(0), &Recipient::default(), &policy, age).reason(), reason, "{age}");
    }
}

#[test]
fn overtaken_news_is_not_told() {
    let old = Intent { overtaken_by: Some("delivered".to_owned()), ..intent(0) };
    let decision = decide(&old, &Recipient::default(), &Policy::default(), 0);
    assert_eq!(decision, Decision::Drop(DropReason::Overtaken { by: "delivered".to_owned() }));
    // Held in the night, overtaken by the morning.
    let policy = policy("quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\" }");
    assert_eq!(decide(&intent(0), &Recipient::default(), &policy, 0).name(), "hold");
    assert_eq!(decide(&old, &Recipient::default(), &policy, 8 * HOUR).reason(), "overtaken");
}

#[test]
fn a_closed_session_takes_no_message_and_not_every_channel_has_one() {
    let asked = |session| {
        let recipient = Recipient { session, ..Recipient::default() };
        decide(&intent(0), &recipient, &Policy::default(), 0)
    };
    assert_eq!(asked(Some(Session::Closed)), Decision::Drop(DropReason::SessionClosed));
    assert_eq!(asked(Some(Session::Open)), Decision::Pass);
    assert_eq!(asked(None), Decision::Pass);
}

#[test]
fn a_session_that_ends_in_the_night_is_asked_for_again_in_the_morning() {
    let policy = policy("quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\" }");
    let now = at("2026-03-10T23:00:00Z");
    let morning = at("2026-03-11T08:00:00Z");
    let mut recipient = Recipient { session: Some(Session::Open), ..Recipient::default() };
    assert!(matches!(decide(&intent(now), &recipient, &policy, now), Decision::Hold { until, .. } if until == morning));
    recipient.session = Some(Session::Closed);
    assert_eq!(decide(&intent(now), &recipient, &policy, morning).reason(), "session_closed");
    recipient.session = Some(Session::Open);
    assert_eq!(decide(&intent(now), &recipient, &policy, morning).reason(), "clear");
}

#[test]
fn quiet_hours_end_to_the_minute_and_begin_to_the_minute() {
    let policy = policy("quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\" }");
    let cases = [
        // Berlin is two hours ahead in summer.
        ("Europe/Berlin", "2026-07-01T18:59:59.999Z", "now"),
        ("Europe/Berlin", "2026-07-01T19:00:00Z", "2026-07-02T06:00:00+00:00"),
        ("Europe/Berlin", "2026-07-02T01:00:00Z", "2026-07-02T06:00:00+00:00"),
        ("Europe/Berlin", "2026-07-02T05:59:59.999Z", "2026-07-02T06:00:00+00:00"),
        ("Europe/Berlin", "2026-07-02T06:00:00Z", "now"),
        ("Asia/Kathmandu", "2026-07-02T02:14:59Z", "2026-07-02T02:15:00+00:00"),
        ("Asia/Kathmandu", "2026-07-02T02:15:00Z", "now"),
        ("Asia/Kathmandu", "2026-07-02T15:15:00Z", "2026-07-03T02:15:00+00:00"),
    ];
    for (zone, now, expected) in cases {
        assert_eq!(until(&policy, zone, now), expected, "{zone} {now}");
    }
}

#[test]
fn the_night_of_a_clock_change_ends_by_the_clock_on_the_wall() {
    let hours = |hours: &str| policy(&format!("quiet = {{ hours = \"{hours}\", fallback_zone = \"UTC\" }}"));
    let cases = [
        // The ordinary night, an hour shorter and an hour longer.
        ("21:00-08:00", "Europe/Berlin", "2026-03-28T21:00:00Z", "2026-03-29T06:00:00+00:00"),
        ("21:00-08:00", "Europe/Berlin", "2026-10-24T21:00:00Z", "2026-10-25T07:00:00+00:00"),
        ("21:00-08:00", "America/New_York", "2026-03-08T03:00:00Z", "2026-03-08T12:00:00+00:00"),
        // 02:30 does not exist: 03:00 is the first minute after it.
        ("21:00-02:30", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T01:00:00+00:00"),
        ("21:00-02:30", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-08T07:00:00+00:00"),
        // Half an hour is lost on Lord Howe: 02:00 becomes 02:30.
        ("21:00-02:15", "Australia/Lord_Howe", "2026-10-03T14:00:00Z", "2026-10-03T15:30:00+00:00"),
        // 02:30 comes twice: the first is allowed, and after 03:00 has become 02:00 it is night again.
        ("21:00-02:30", "Europe/Berlin", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00+00:00"),
        ("21:00-02:30", "Europe/Berlin", "2026-10-25T00:59:59Z", "now"),
        ("21:00-02:30", "Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00+00:00"),
        // A quiet time that the gap swallows whole.
        ("02:10-02:50", "Europe/Berlin", "2026-03-29T00:59:59Z", "now"),
        ("02:10-02:50", "Europe/Berlin", "2026-03-29T01:00:00Z", "now"),
        // Midnight itself does not exist in Cairo that night.
        ("21:00-00:00", "Africa/Cairo", "2026-04-23T20:00:00Z", "2026-04-23T22:00:00+00:00"),
    ];
    for (quiet, zone, now, expected) in cases {
        assert_eq!(until(&hours(quiet), zone, now), expected, "{quiet} {zone} {now}");
    }
}

#[test]
fn beyond_the_calendar_it_is_always_night() {
    let policy = policy("quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\" }");
    for now in [i64::MIN, i64::MAX - DAY, i64::MAX] {
        assert_eq!(decide(&intent(now), &lives_in("Europe/Berlin"), &policy, now).reason(), "held_too_long", "{now}");
    }
}

#[test]
fn rest_days_and_holidays_are_quiet_from_midnight_to_midnight() {
    let policy = policy(
        "max_age = \"14d\"\n[quiet]\nhours = \"21:00-08:00\"\nfallback_zone = \"UTC\"\n\
         days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nholidays = [\"2026-12-25\", \"2026-12-28\"]",
    );
    // Christmas is a Friday, the Monday after it is off too.
    let christmas_eve = "2026-12-24T20:30:00+01:00";
    assert_eq!(until(&policy, "Europe/Berlin", "2026-12-24T20:30:00+01:00"), "now");
    assert_eq!(until(&policy, "Europe/Berlin", "2026-12-24T21:30:00+01:00"), "2026-12-29T07:00:00+00:00");
    assert_eq!(until(&policy, "Europe/Berlin", "2026-12-25T12:00:00+01:00"), "2026-12-29T07:00:00+00:00");
    let reason = |now: &str| decide(&intent(at(now)), &lives_in("Europe/Berlin"), &policy, at(now)).reason();
    assert_eq!(reason(christmas_eve), "clear");
    assert_eq!(reason("2026-12-24T21:00:00+01:00"), "quiet_hours");
    assert_eq!(reason("2026-12-25T00:00:00+01:00"), "holiday");
    assert_eq!(reason("2026-12-26T00:00:00+01:00"), "rest_day");
}

#[test]
fn an_unknown_zone_is_the_fallback_and_says_so() {
    let policy = policy("quiet = { hours = \"21:00-08:00\", fallback_zone = \"Asia/Tokyo\" }");
    let now = at("2026-07-01T12:00:00Z");
    let sentence = |zone: Option<&str>| {
        let recipient = Recipient { zone: zone.map(str::to_owned), ..Recipient::default() };
        decide(&intent(now), &recipient, &policy, now).to_string()
    };
    let held = "held until 2026-07-01T23:00:00Z: quiet hours 21:00-08:00 in Asia/Tokyo";
    assert_eq!(sentence(None), format!("{held} (the fallback: the recipient's zone is not known)"));
    assert_eq!(
        sentence(Some("Mars/Olympus")),
        format!("{held} (the fallback: the recipient's zone `Mars/Olympus` does not exist)")
    );
    assert_eq!(sentence(Some(" Asia/Tokyo ")), held);
    assert_eq!(sentence(Some("Europe/Berlin")), "sent: nothing stands in the way");
}

#[test]
fn the_cap_slides() {
    let policy = policy("max_age = \"3d\"\ncap = { messages = 2, per = \"24h\" }");
    let asked = |sent_at: &[i64], now: i64| {
        let recipient = Recipient { sent_at: sent_at.to_vec(), ..Recipient::default() };
        match decide(&intent(now), &recipient, &policy, now) {
            Decision::Pass => now,
            Decision::Hold { until, reason } => {
                assert!(matches!(reason, HoldReason::Cap(_)));
                until
            }
            Decision::Drop(reason) => panic!("dropped: {reason}"),
        }
    };
    assert_eq!(asked(&[], 100), 100);
    assert_eq!(asked(&[99], 100), 100);
    assert_eq!(asked(&[99, 50], 100), 50 + DAY);
    // To the millisecond: a message of a day ago counts no more.
    assert_eq!(asked(&[0, 50], DAY - 1), DAY);
    assert_eq!(asked(&[0, 50], DAY), DAY);
    // More than the cap went out, by hand for instance: all but one have to be over.
    assert_eq!(asked(&[10, 40, 20, 30], 100), 30 + DAY);
    assert_eq!(asked(&[10, 10, 10], 100), 10 + DAY);
}

#[test]
fn the_cap_holds_up_to_the_age_and_not_beyond() {
    let capped = |max_age: i64| Policy {
        max_age: Period::from_ms(max_age).expect("above 0"),
        cap: Some(Cap { messages: std::num::NonZeroU32::MIN, per: Period::DAY }),
        ..Policy::default()
    };
    let recipient = Recipient { sent_at: vec![0], ..Recipient::default() };
    assert!(
        matches!(decide(&intent(HOUR), &recipient, &capped(23 * HOUR), HOUR), Decision::Hold { until, .. } if until == DAY)
    );
    let decision = decide(&intent(HOUR), &recipient, &capped(23 * HOUR - 1), HOUR);
    assert_eq!((decision.reason(), decision.rule()), ("held_too_long", Some(Rule::Cap)));
}

#[test]
fn the_later_of_cap_and_night_names_the_rule() {
    let policy = policy(
        "max_age = \"3d\"\ncap = { messages = 1, per = \"12h\" }\n\
         quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\" }",
    );
    let decided = |sent: &str, now: &str| {
        let recipient = Recipient { sent_at: vec![at(sent)], ..Recipient::default() };
        let decision = decide(&intent(at(now)), &recipient, &policy, at(now));
        (decision.rule(), decision.to_string())
    };
    // The cap is over in the night.
    assert_eq!(
        decided("2026-07-01T12:00:00Z", "2026-07-01T13:00:00Z"),
        (
            Some(Rule::Quiet),
            "held until 2026-07-02T08:00:00Z: quiet hours 21:00-08:00 in UTC \
             (the fallback: the recipient's zone is not known)"
                .to_owned()
        )
    );
    // The night is over before the cap.
    assert_eq!(
        decided("2026-07-01T20:30:00Z", "2026-07-01T22:00:00Z"),
        (
            Some(Rule::Cap),
            "held until 2026-07-02T08:30:00Z: the cap on messages to the person is reached (1 in 12h)".to_owned()
        )
    );
}

#[test]
fn a_night_that_outlasts_the_age_drops_at_once() {
    let policy = policy("max_age = \"2h\"\nquiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\" }");
    let five = at("2026-07-01T05:59:59.999Z");
    assert_eq!(decide(&intent(five), &Recipient::default(), &policy, five).reason(), "held_too_long");
    assert_eq!(decide(&intent(five + 1), &Recipient::default(), &policy, five + 1).name(), "hold");
}

#[test]
fn what_is_kept_is_flat_and_in_stable_words() {
    let kept = |decision: &Decision| serde_json::to_value(decision).expect("plain values");
    let policy = policy("quiet = { hours = \"21:00-8:00\", fallback_zone = \"UTC\" }");
    assert_eq!(
        kept(&decide(&intent(0), &lives_in("UTC"), &policy, 0)),
        serde_json::json!({
            "decision": "hold", "reason": "quiet_hours", "rule": "quiet", "until": 28_800_000,
            "message": "held until 1970-01-01T08:00:00Z: quiet hours 21:00-08:00 in UTC",
        })
    );
    assert_eq!(
        kept(&Decision::Pass),
        serde_json::json!({ "decision": "pass", "reason": "clear", "rule": null, "message": "sent: nothing stands in the way" })
    );
    let dropped = [
        (DropReason::OptedOut, "opted_out", "consent", "not sent: the person has opted out"),
        (DropReason::NoConsent, "no_consent", "consent", "not sent: consent is needed, and none is known"),
        (
            DropReason::Overtaken { by: "delivered".to_owned() },
            "overtaken",
            "overtaken",
            "not sent: `delivered` has come since",
        ),
        (
            DropReason::TooOld { happened_at: 1, max_age: Period::DAY },
            "too_old",
            "age",
            "not sent: the event of 1970-01-01T00:00:00.001Z is older than 24h",
        ),
        (
            DropReason::SessionClosed,
            "session_closed",
            "session",
            "not sent: the channel takes messages only for a while after the customer's last one, and that is over",
        ),
        (
            DropReason::HeldTooLong {
                by: HoldReason::Cap(Cap { messages: std::num::NonZeroU32::MIN, per: Period::DAY }),
                max_age: Period::DAY,
            },
            "held_too_long",
            "cap",
            "not sent: it would be older than 24h when it is allowed: the cap on messages to the person is reached \
             (1 in 24h)",
        ),
    ];
    for (reason, word, rule, message) in dropped {
        assert_eq!(
            kept(&Decision::Drop(reason)),
            serde_json::json!({ "decision": "drop", "reason": word, "rule": rule, "message": message })
        );
    }
}

#[test]
fn a_policy_has_defaults_and_knows_its_keys() {
    let default = policy("");
    assert_eq!(default, Policy::default());
    assert_eq!(default, Policy { max_age: Period::DAY, consent_required: false, quiet: None, cap: None });
    let text = "max_age = \"3d\"\nconsent_required = true\n[quiet]\nhours = \"21:00-08:00\"\n\
                fallback_zone = \"Europe/Berlin\"\ndays = [\"Mon\", \"Sat\"]\nholidays = [\"2026-12-25\"]\n\
                [cap]\nmessages = 3\nper = \"90m\"\n";
    let full = policy(text);
    assert_eq!(policy(&toml::to_string(&full).expect("it can be written")), full);
    for (text, problem) in [
        ("max_ages = \"1d\"", "unknown field `max_ages`"),
        ("quiet = { hours = \"21:00-08:00\" }", "missing field `fallback_zone`"),
        ("quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\", on = 1 }", "unknown field `on`"),
        ("quiet = { hours = \"21:00-08:00\", fallback_zone = \"UTC\", days = [] }", "name a day, or leave `days` out"),
        ("quiet = { hours = \"21:00-08:00\", fallback_zone = \"Berlin\" }", "there is no time zone `Berlin`"),
        ("quiet = { hours = \"21:00\", fallback_zone = \"UTC\" }", "`21:00` is not two times"),
        ("cap = { messages = 0, per = \"1h\" }", "nonzero"),
        ("cap = { messages = 1, per = \"0h\" }", "`0h` is no length of time"),
    ] {
        let error = toml::from_str::<Policy>(text).expect_err(text).to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn quiet_hours_are_read_as_they_are_written() {
    for (text, written) in [
        ("21:00-08:00", "21:00-08:00"),
        (" 21:00 - 8:00 ", "21:00-08:00"),
        ("00:00-23:59", "00:00-23:59"),
        ("22:00-00:00", "22:00-00:00"),
    ] {
        assert_eq!(text.parse::<QuietHours>().map(|hours| hours.to_string()), Ok(written.to_owned()));
    }
    for (text, problem) in [
        ("", "`` is not two times with a `-` between them; write for instance `21:00-08:00`"),
        ("21:00", "`21:00` is not two times with a `-` between them; write for instance `21:00-08:00`"),
        ("21:00–08:00", "`21:00–08:00` is not two times with a `-` between them; write for instance `21:00-08:00`"),
        ("21-08", "`21` is no time of the day; write 00:00 to 23:59"),
        ("21:00-24:00", "`24:00` is no time of the day; write 00:00 to 23:59"),
        ("21:60-08:00", "`21:60` is no time of the day; write 00:00 to 23:59"),
        ("21:0-08:00", "`21:0` is no time of the day; write 00:00 to 23:59"),
        ("21:00-08:00-09:00", "`08:00-09:00` is no time of the day; write 00:00 to 23:59"),
        ("+1:00-08:00", "`+1:00` is no time of the day; write 00:00 to 23:59"),
        (":00-08:00", "`:00` is no time of the day; write 00:00 to 23:59"),
        ("9 pm-8 am", "`9 pm` is no time of the day; write 00:00 to 23:59"),
        ("08:00-8:00", "`08:00-8:00` is either all day or never; write two different times, or leave quiet hours out"),
    ] {
        let error = text.parse::<QuietHours>().expect_err(text);
        assert_eq!(error.to_string(), problem, "{text}");
    }
}

#[test]
fn periods_and_zones_are_read_as_they_are_written() {
    for (text, ms, written) in [
        ("90s", 90_000, "90s"),
        ("60s", 60_000, "1m"),
        ("60m", HOUR, "1h"),
        ("1d", DAY, "24h"),
        ("24h", DAY, "24h"),
        ("48h", 2 * DAY, "2d"),
    ] {
        let period: Period = text.parse().expect("a period");
        assert_eq!((period.ms(), period.to_string().as_str()), (ms, written));
    }
    for text in
        ["", "h", "0s", "-1h", "+1h", "1", "1.5h", "1 h", "1w", "9223372036854775807d", "99999999999999999999s", "é"]
    {
        assert!(text.parse::<Period>().is_err(), "{text}");
    }
    assert_eq!((Period::from_ms(0), Period::from_ms(-1)), (None, None));
    assert_eq!(Period::from_ms(1500).map(|period| period.to_string()).as_deref(), Some("1500ms"));
    assert_eq!("Europe/Berlin".parse::<Zone>().map(|zone| zone.to_string()).as_deref(), Ok("Europe/Berlin"));
    assert!("".parse::<Zone>().is_err() && "europe".parse::<Zone>().is_err());
}
