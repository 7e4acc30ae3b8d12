//! Cases that once went wrong: each states what must hold.

use counterpart_core::identity::{self, IdentityRules, Member};
use counterpart_core::merge::{LeftAlone, Merged, Side, left_alone, merge};
use counterpart_core::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

fn f(n: &str) -> FieldName {
    FieldName::parse(n).unwrap()
}
fn t(v: &str) -> Slot {
    Slot::Set(Value::Text(v.into()))
}
fn map(lines: &str) -> Mapping {
    Mapping::parse(&format!("format = 1\nkind = \"contact\"\nconnector = \"x\"\n[fields]\n{lines}"), "x").unwrap()
}
fn plain() -> Mapping {
    map(
        "name = { remote = \"/name\" }\ncompany = { remote = \"/company\" }\nphone = { remote = \"/phone\" }\nemail = { remote = \"/email\" }",
    )
}
fn gold(n: &str, s: Slot, from: &str, at: i64) -> Golden {
    Golden::from([(f(n), GoldenSlot { slot: s, from: from.into(), at, clock: Clock::Vendor, rule: "r".into() })])
}
fn base(n: &str, s: Slot) -> Agreed {
    Agreed::from([(f(n), AgreedSlot { here: s.clone(), means: s })])
}
fn one(n: &str, s: Slot) -> Fields {
    Fields::from([(f(n), s)])
}
fn side<'a>(c: &'a str, o: &'a Fields, a: &'a Agreed, m: &'a Mapping, at: Option<i64>) -> Side<'a> {
    Side {
        connection: c,
        external_id: "1",
        observed: o,
        agreed: a,
        changed_at: at,
        observed_at: 100,
        mapping: m,
        remote: None,
    }
}
fn policy(p: Policy) -> Policies {
    Policies { default: p, fields: BTreeMap::new() }
}
fn order() -> Policies {
    policy(Policy::Order(vec!["a".into(), "b".into()]))
}
/// The golden values after a second merge that may have kept those of the first.
fn golden_of<'a>(second: &'a Merged, first: &'a Merged) -> &'a Golden {
    second.golden.as_ref().or(first.golden.as_ref()).expect("the first one changed")
}
fn next(old: &Agreed, m: &Merged, i: usize) -> Agreed {
    m.sides[i].agreed.clone().unwrap_or_else(|| old.clone())
}

#[test]
fn a_loser_does_not_win_when_its_write_was_lost() {
    let m = plain();
    let x = base("company", t("x"));
    let (oa, ob) = (one("company", t("A")), one("company", t("B")));
    let first = merge(
        &gold("company", t("x"), "a", 1),
        &[side("a", &oa, &x, &m, Some(1)), side("b", &ob, &x, &m, Some(2))],
        &order(),
    );
    assert_eq!(first.golden.as_ref().expect("changed")[&f("company")].slot, t("A"));
    let (aa, ab) = (next(&x, &first, 0), next(&x, &first, 1)); // The process dies: nothing is sent.
    let second = merge(
        first.golden.as_ref().expect("changed"),
        &[side("a", &oa, &aa, &m, Some(1)), side("b", &ob, &ab, &m, Some(2))],
        &order(),
    );
    assert_eq!(golden_of(&second, &first)[&f("company")].slot, t("A"), "the policy's loser overwrote the winner");
}

#[test]
fn an_edit_at_a_side_that_is_behind_is_a_conflict() {
    let m = plain();
    let x = base("company", t("x"));
    let (oa, ob) = (one("company", t("A")), one("company", t("x")));
    let first = merge(
        &gold("company", t("x"), "a", 1),
        &[side("a", &oa, &x, &m, Some(1)), side("b", &ob, &x, &m, Some(1))],
        &order(),
    );
    let (aa, ab) = (next(&x, &first, 0), next(&x, &first, 1));
    let ob = one("company", t("B")); // Edited before A's edit got there.
    let second = merge(
        first.golden.as_ref().expect("changed"),
        &[side("a", &oa, &aa, &m, Some(1)), side("b", &ob, &ab, &m, Some(2))],
        &order(),
    );
    assert_eq!(second.conflicts.len(), 1, "A's edit was dropped without a conflict");
}

#[test]
fn an_unreadable_value_is_not_written_over() {
    let m = plain();
    let remote = json!({"company": ["list", "now"]});
    let read = m.read(&remote, None);
    assert_eq!(read.problems.len(), 1);
    let none = Agreed::new();
    let oa = one("company", t("A"));
    let a = base("company", t("A"));
    let b = Side { remote: Some(&remote), ..side("b", &read.fields, &none, &m, Some(1)) };
    let out = merge(&gold("company", t("A"), "a", 1), &[side("a", &oa, &a, &m, Some(1)), b], &order());
    assert!(out.sides[1].write.is_empty(), "would overwrite a value that could not be read: {:?}", out.sides[1].write);
}

#[test]
fn names_that_are_split_differently_are_a_conflict() {
    let (w, p) = (map("name = { remote = \"/n\" }"), map("name = { given = \"/g\", family = \"/f\" }"));
    let none = Agreed::new();
    let n = |name| one("name", Slot::Set(Value::Name(name)));
    let (o1, o2, o3) = (
        n(PersonName::whole("Mary Ann Smith")),
        n(PersonName::parts("Mary", "Ann Smith")),
        n(PersonName::parts("Mary Ann", "Smith")),
    );
    let out = merge(
        &Golden::new(),
        &[side("a", &o1, &none, &w, Some(1)), side("b", &o2, &none, &p, Some(1)), side("c", &o3, &none, &p, Some(1))],
        &policy(Policy::Review),
    );
    assert_eq!(out.conflicts.len(), 1, "one split is overwritten without a conflict: {:?}", out.sides[2].write);
}

#[test]
fn an_invalid_phone_is_never_sent() {
    assert_eq!(plain().write(&one("phone", t("call me")), None), json!({}));
}

#[test]
fn r42_a_renamed_custom_field_blanks_nothing() {
    let m = Mapping::parse(
        &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../mappings/contact/chatwoot.toml")).unwrap(),
        "cw",
    )
    .unwrap();
    let now = m.read(&json!({"custom_attributes": {"plan_v2": "gold"}}), None).fields;
    let now = one("custom.plan", now.get(&f("custom.plan")).cloned().unwrap_or(t("gold")));
    assert_ne!(now[&f("custom.plan")], Slot::Cleared, "reads as a clear, which is then propagated");
}

#[test]
fn one_mailbox_with_different_external_ids_goes_to_review() {
    let rec = |id: &str, name: &str| {
        Fields::from([
            (f("email"), t("info@firm.test")),
            (f("external.ref"), t(id)),
            (f("name"), Slot::Set(Value::Name(PersonName::whole(name)))),
        ])
    };
    let (a, b, none) = (rec("1001", "Ana Lind"), rec("2002", "Bo Berg"), BTreeSet::new());
    let mem = |id, c, fields| Member { id, connection: c, external_id: "1", entity: None, fields, apart: &none };
    let r = identity::resolve(&[mem(1, "a", &a), mem(2, "b", &b)], &IdentityRules::default());
    assert!(r.groups.iter().all(|g| g.members.len() == 1) && !r.reviews.is_empty(), "{r:?}");
}

#[test]
fn a_one_sided_edit_wins() {
    let m = plain();
    let x = base("company", t("x"));
    let (oa, ob) = (one("company", t("A")), one("company", t("x")));
    let out = merge(
        &gold("company", t("x"), "a", 1),
        &[side("a", &oa, &x, &m, Some(1)), side("b", &ob, &x, &m, Some(1))],
        &order(),
    );
    assert_eq!(out.golden.as_ref().expect("changed")[&f("company")].slot, t("A"));
    assert_eq!(out.sides[1].write, one("company", t("A")));
    assert!(out.conflicts.is_empty());
}

#[test]
fn the_same_external_id_links() {
    let rec = |id: &str| Fields::from([(f("email"), t("ana@firm.test")), (f("external.ref"), t(id))]);
    let (a, b, none) = (rec("1"), rec("1"), BTreeSet::new());
    let mem = |id, c, fields| Member { id, connection: c, external_id: "1", entity: None, fields, apart: &none };
    let r = identity::resolve(&[mem(1, "a", &a), mem(2, "b", &b)], &IdentityRules::default());
    assert_eq!(r.groups.len(), 1);
    assert!(r.reviews.is_empty());
}

fn with_table() -> Mapping {
    map("language = { remote = \"/language\", transform = \"table\", table = { sv = \"Swedish\", en = \" sv \" } }")
}

#[test]
fn a_word_that_the_table_does_not_know_is_not_taken() {
    let m = with_table();
    for raw in ["Klingon", "en", "SWEDISH"] {
        let remote = json!({ "language": raw });
        let read = m.read(&remote, None);
        assert!(read.fields.is_empty(), "{raw} was taken as {:?}", read.fields);
        assert!(read.problems[0].why.contains(raw), "{:?}", read.problems);
        assert!(m.is_unreadable(&f("language"), &remote));
    }
    // The vendor's `sv` is the table's `en`, whatever blanks stand around it.
    assert_eq!(m.read(&json!({ "language": "sv" }), None).fields, one("language", t("en")));
    assert_eq!(m.write(&one("language", t("en")), None), json!({ "language": " sv " }));
}

#[test]
fn a_word_that_the_table_does_not_know_is_not_written_over() {
    let m = with_table();
    let plain = map("language = { remote = \"/language\" }");
    let remote = json!({ "language": "Klingon" });
    let read = m.read(&remote, None);
    let (oa, a) = (one("language", t("en")), base("language", t("sv")));
    // Also where the engine still goes by what was shown before.
    for shown in [read.fields, one("language", t("sv"))] {
        let b = Side { remote: Some(&remote), ..side("b", &shown, &a, &m, Some(1)) };
        let golden = gold("language", t("sv"), "a", 1);
        let out = merge(&golden, &[side("a", &oa, &a, &plain, Some(2)), b], &order());
        assert_eq!(out.golden.as_ref().expect("a changed it")[&f("language")].slot, t("en"));
        assert!(out.sides[1].write.is_empty(), "{:?}", out.sides[1].write);
        assert!(out.conflicts.is_empty());
    }
}

#[test]
fn a_word_that_the_table_cannot_say_blanks_nothing() {
    let m = with_table();
    assert_eq!(m.write(&one("language", t("tlh")), Some(&json!({ "language": "Swedish" }))), json!({}));
    assert_eq!(m.write(&one("language", Slot::Cleared), None), json!({ "language": null }));
    assert!(m.creation(&gold("language", t("tlh"), "a", 1)).is_empty());
    let (oa, ob) = (one("language", t("tlh")), one("language", t("sv")));
    let x = base("language", t("sv"));
    let plain = map("language = { remote = \"/language\" }");
    let sides = [side("a", &oa, &x, &plain, Some(2)), side("b", &ob, &x, &m, Some(1))];
    let out = merge(&gold("language", t("sv"), "a", 1), &sides, &order());
    assert!(out.sides[1].write.is_empty(), "{:?}", out.sides[1].write);
}

#[test]
fn an_address_is_never_cut_into_another_one() {
    let m = map(
        "email = { remote = \"/email\", max_length = 10 }\n\"external.ref\" = { remote = \"/ref\", max_length = 3 }\n\
         company = { remote = \"/company\", max_length = 4 }",
    );
    let all =
        Fields::from([(f("email"), t("ana@firm.test")), (f("external.ref"), t("12345")), (f("company"), t("Alpha"))]);
    assert_eq!(m.write(&all, None), json!({ "company": "Alph" }));
    assert_eq!(m.project(&f("email"), &t("a@b.test"), None), t("a@b.test"));
}

/// The groups that two records of two systems end in, and what waits.
fn meet(a: &Fields, b: &Fields) -> identity::Resolution {
    let none = BTreeSet::new();
    let mem = |id, c, fields| Member { id, connection: c, external_id: "1", entity: None, fields, apart: &none };
    let rules = IdentityRules::default();
    let keys = [identity::keys(a, &rules), identity::keys(b, &rules)];
    let mut all = identity::Resolution::default();
    for part in identity::connect(&keys, |_| true) {
        let members: Vec<Member<'_>> =
            part.iter().map(|&at| if at == 0 { mem(1, "a", a) } else { mem(2, "b", b) }).collect();
        let found = identity::resolve(&members, &rules);
        all.groups.extend(found.groups);
        all.reviews.extend(found.reviews);
    }
    all
}

#[test]
fn what_cannot_be_anybodys_own_is_no_key() {
    let cases = [
        ("phone", "+99912345678"),
        ("phone", "+4612"),
        ("phone", "+15552368"),
        ("mobile_phone", "+46700000000"),
        ("email", "not an address"),
        ("email", "root@localhost"),
        ("email", "info@printer.local"),
        ("email", "nobody@example.invalid"),
        ("email", "ana@[127.0.0.1]"),
    ];
    for (name, value) in cases {
        let record = one(name, t(value));
        assert!(identity::keys(&record, &IdentityRules::default()).is_empty(), "{name} {value}");
        assert_eq!(meet(&record, &record).groups.len(), 2, "{name} {value} tied two records together");
    }
    let good = Fields::from([(f("phone"), t("+46701740605")), (f("email"), t("ana@firm.test"))]);
    assert_eq!(identity::keys(&good, &IdentityRules::default()).len(), 2);
}

#[test]
fn an_extension_does_not_keep_records_apart_and_two_different_ones_do() {
    let rec = |phone: &str, name: &str| {
        Fields::from([(f("phone"), t(phone)), (f("name"), Slot::Set(Value::Name(PersonName::whole(name))))])
    };
    let (none, twelve, thirteen) = ("+46812345678", "+46812345678;ext=12", "+46812345678;ext=13");
    assert_eq!(meet(&rec(none, "Ana Lind"), &rec(twelve, "Ana Lind")).groups.len(), 1);
    assert_eq!(meet(&rec(twelve, "Ana Lind"), &rec(twelve, "Ana Lind")).groups.len(), 1);
    let desks = meet(&rec(twelve, "Ana Lind"), &rec(thirteen, "Ana Lind"));
    assert_eq!((desks.groups.len(), desks.reviews.len()), (0, 1), "{desks:?}");
    assert!(meet(&rec(none, "Ana Lind"), &rec(twelve, "Bo Berg")).groups.is_empty(), "the names contradict");
}

#[test]
fn other_addresses_and_numbers_are_normalised_and_checked() {
    let m = map("other_emails = { remote = \"/emails\", item = \"/value\" }\nother_phones = { remote = \"/phones\" }");
    let remote = json!({
        "emails": [{ "value": " ANA@Firm.Test " }, { "value": "ana@firm.test" }],
        "phones": ["070-174 06 05", "+46 8 123 456 78 ext 3"],
    });
    let set = |items: &[&str]| Slot::Set(Value::Set(items.iter().map(|item| (*item).to_owned()).collect()));
    let read = m.read(&remote, Some("SE"));
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    assert_eq!(read.fields[&f("other_emails")], set(&["ana@firm.test"]));
    assert_eq!(read.fields[&f("other_phones")], set(&["+46701740605", "+46812345678;ext=3"]));
    assert_eq!(Value::parse(f("other_emails").kind(), "A@b.test, c@d.test"), {
        Value::Set(["a@b.test".to_owned(), "c@d.test".to_owned()].into())
    });

    // A bad item holds the list back on its own side.
    let bad = m.read(&json!({ "emails": [{ "value": "ana@firm.test" }, { "value": "call me" }] }), Some("SE"));
    assert_eq!(bad.problems.len(), 1);
    assert_eq!(m.write(&bad.fields, None), json!({}));
    let x = base("other_emails", set(&["old@firm.test"]));
    let good = one("other_emails", set(&["new@firm.test"]));
    let golden = gold("other_emails", set(&["old@firm.test"]), "a", 1);
    let out = merge(&golden, &[side("a", &good, &x, &m, Some(2)), side("b", &bad.fields, &x, &m, Some(3))], &order());
    assert_eq!(out.golden.as_ref().expect("a changed it")[&f("other_emails")].slot, set(&["new@firm.test"]));
    assert!(out.sides[1].write.is_empty() && out.conflicts.is_empty(), "{out:?}");
}

#[test]
fn writing_a_list_keeps_what_else_its_items_hold() {
    let m = map("tags = { remote = \"/labels/all\", item = \"/name\", cleared = \"empty\" }\n\
         other_phones = { remote = \"/phones\", item = \"/number\" }");
    let set = |items: &[&str]| Slot::Set(Value::Set(items.iter().map(|item| (*item).to_owned()).collect()));
    let remote = json!({
        "labels": { "all": [
            { "id": 7, "name": " vip ", "color": "red" },
            { "id": 8, "name": "old" },
            { "id": 9, "name": "", "kept": true },
            { "id": 10, "name": "e\u{301}lite", "by": { "user": 3 } },
        ] },
        "phones": [{ "number": "070-174 06 05", "kind": "home" }, { "number": "08-123 456 78", "kind": "work" }],
    });
    let wanted = Fields::from([
        (f("tags"), set(&["a new one", "vip", "\u{e9}lite"])),
        (f("other_phones"), set(&["+46701740605", "+4512345678"])),
    ]);
    let body = m.write(&wanted, Some(&remote));
    assert_eq!(
        body,
        json!({
            "labels": { "all": [
                { "id": 7, "name": " vip ", "color": "red" },
                { "id": 9, "name": "", "kept": true },
                { "id": 10, "name": "e\u{301}lite", "by": { "user": 3 } },
                { "name": "a new one" },
            ] },
            "phones": [{ "number": "070-174 06 05", "kind": "home" }, { "number": "+4512345678" }],
        })
    );
    assert_eq!(m.read(&body, Some("SE")).fields, wanted);
    assert_eq!(m.write(&one("tags", Slot::Cleared), Some(&remote)), json!({ "labels": { "all": [] } }));

    // Plain texts stay as the vendor wrote them; without a reading there is nothing to keep.
    let plain = map("tags = { remote = \"/tags\" }");
    let tags = one("tags", set(&["b", "a"]));
    assert_eq!(plain.write(&tags, Some(&json!({ "tags": ["b ", "c"] }))), json!({ "tags": ["b ", "a"] }));
    assert_eq!(plain.write(&tags, None), json!({ "tags": ["a", "b"] }));
}

fn latest() -> Policies {
    policy(Policy::Latest)
}

#[test]
fn the_time_of_our_reading_is_no_time_of_a_change() {
    let m = plain();
    let none = Agreed::new();
    // Chat has no modification time, so the golden value carries the time at which it was read (100).
    let oa = one("company", t("A"));
    let first = merge(&Golden::new(), &[side("chat", &oa, &none, &m, None)], &latest());
    let golden = first.golden.clone().expect("first seen");
    assert_eq!((golden[&f("company")].at, golden[&f("company")].clock), (100, Clock::Ours));
    let aa = next(&none, &first, 0);
    // The CRM's value is newer or older than that reading; when the chat's was made is not known in either case.
    for changed_at in [1, 1000] {
        let ob = one("company", t("B"));
        let out = merge(
            &golden,
            &[side("chat", &oa, &aa, &m, None), side("crm", &ob, &none, &m, Some(changed_at))],
            &latest(),
        );
        assert_eq!(out.conflicts.len(), 1);
        assert_eq!(out.conflicts[0].winner, None, "a time of ours was compared with a vendor's");
        assert!(out.conflicts[0].candidates.iter().all(|c| c.changed_at.is_none() || c.connection == "crm"));
        assert!(out.golden.is_none() && out.sides.iter().all(|side| side.write.is_empty()));
    }
}

#[test]
fn two_vendor_times_are_compared() {
    let m = plain();
    let none = Agreed::new();
    let oa = one("company", t("A"));
    let first = merge(&Golden::new(), &[side("chat", &oa, &none, &m, Some(50))], &latest());
    let golden = first.golden.clone().expect("first seen");
    assert_eq!((golden[&f("company")].at, golden[&f("company")].clock), (50, Clock::Vendor));
    let aa = next(&none, &first, 0);
    for (changed_at, winner) in [(49, "A"), (51, "B")] {
        let ob = one("company", t("B"));
        let sides = [side("chat", &oa, &aa, &m, Some(50)), side("crm", &ob, &none, &m, Some(changed_at))];
        let out = merge(&golden, &sides, &latest());
        assert_eq!(out.conflicts[0].winner, Some(t(winner)));
        let now = out.golden.as_ref().unwrap_or(&golden);
        assert_eq!(now[&f("company")].slot, t(winner));
    }
}

/// Golden values that were stored before the clock was noted are not trusted either.
#[test]
fn a_stored_time_without_a_clock_is_ours() {
    let old = json!({ "slot": "A", "from": "chat", "at": 7, "rule": "r" });
    let slot: GoldenSlot = serde_json::from_value(old).expect("as it was stored");
    assert_eq!(slot.clock, Clock::Ours);
}

#[test]
fn an_invalid_value_gets_a_visible_verdict() {
    let m = map(
        "phone = { remote = \"/phone\" }\nemail = { remote = \"/email\" }\n\"address.country\" = { remote = \"/country\" }\n\
         birthday = { remote = \"/birthday\" }\nother_emails = { remote = \"/emails\" }",
    );
    let remote = json!({
        "phone": "+99912345678", "email": "call me", "country": "ZZ", "birthday": "soon",
        "emails": ["ana@firm.test", "ana at firm"],
    });
    let read = m.read(&remote, None);
    let said: BTreeMap<String, String> = read.problems.iter().map(|p| (p.field.to_string(), p.why.clone())).collect();
    assert_eq!(said.len(), 5, "{said:#?}");
    for (name, why) in [
        ("phone", "`+99912345678` begins with no calling code"),
        ("email", "`call me` is no e-mail address: "),
        ("address.country", "`ZZ` is no country"),
        ("birthday", "`soon` is no day"),
        ("other_emails", "`ana at firm` is no e-mail address"),
    ] {
        assert!(said[name].contains(why), "{name}: {}", said[name]);
    }
    // The merge says the same, writes nothing over them, and gives them to nobody.
    let none = Agreed::new();
    let good = Fields::from([(f("phone"), t("+46701740605")), (f("email"), t("ana@firm.test"))]);
    let out = merge(
        &Golden::new(),
        &[side("a", &good, &none, &m, Some(1)), side("b", &read.fields, &none, &m, Some(2))],
        &latest(),
    );
    let verdicts: BTreeMap<String, String> =
        out.sides[1].invalid.iter().map(|(name, why)| (name.to_string(), why.clone())).collect();
    assert_eq!(verdicts, said);
    assert!(out.sides[0].invalid.is_empty() && out.sides.iter().all(|side| side.write.is_empty()));
    assert_eq!(out.golden.expect("the good ones").len(), 2);
    assert!(out.conflicts.is_empty());
    // An edit into something invalid says so too; one that is corrected says nothing any more.
    let (b, bad) = (base("phone", t("+46701740605")), one("phone", t("+4612")));
    let edited = merge(&gold("phone", t("+46701740605"), "a", 1), &[side("b", &bad, &b, &m, Some(2))], &latest());
    assert!(edited.sides[0].invalid[&f("phone")].contains("too short"));
    let right = one("phone", t("+46701740605"));
    let corrected = merge(&gold("phone", t("+46701740605"), "a", 1), &[side("b", &right, &b, &m, Some(3))], &latest());
    assert!(corrected.sides[0].invalid.is_empty());
}

#[test]
fn what_a_side_cannot_hold_is_no_other_opinion_at_a_first_meeting() {
    let (m, e164) = (
        plain(),
        map("phone = { remote = \"/phone\", form = \"e164\" }\ncompany = { remote = \"/c\", max_length = 5 }"),
    );
    let none = Agreed::new();
    let crm = Fields::from([(f("phone"), t("+46812345678;ext=12")), (f("company"), t("Alpha Company"))]);
    let chat = Fields::from([(f("phone"), t("+46812345678")), (f("company"), t("Alpha"))]);
    let sides = [side("chat", &chat, &none, &e164, Some(9)), side("crm", &crm, &none, &m, Some(1))];
    let out = merge(&Golden::new(), &sides, &policy(Policy::Review));
    assert!(out.conflicts.is_empty(), "{:?}", out.conflicts);
    let golden = out.golden.clone().expect("first seen");
    assert_eq!(golden[&f("phone")].slot, t("+46812345678;ext=12"));
    assert_eq!(golden[&f("company")].slot, t("Alpha Company"));
    assert!(out.sides.iter().all(|side| side.write.is_empty()));
    // The same when the chat comes later, and an edit there is an edit.
    let (ab, bb) = (next(&none, &out, 1), next(&none, &out, 0));
    let late =
        merge(&golden, &[side("chat", &chat, &none, &e164, Some(9)), side("crm", &crm, &ab, &m, Some(1))], &latest());
    assert!(late.golden.is_none() && late.conflicts.is_empty() && late.sides.iter().all(|side| side.write.is_empty()));
    let edited = Fields::from([(f("phone"), t("+46701740605")), (f("company"), t("Alpha"))]);
    let sides = [side("chat", &edited, &bb, &e164, Some(20)), side("crm", &crm, &ab, &m, Some(1))];
    let out = merge(&golden, &sides, &latest());
    assert_eq!(out.sides[1].write, one("phone", t("+46701740605")));
}

#[test]
fn every_field_that_is_left_alone_has_its_reason() {
    let golden: Golden = [
        ("company", t("A long company name")),
        ("email", t("ana@example.test")),
        ("phone", t("+46701234567")),
        ("language", t("sv")),
        ("address.city", t("Lund")),
    ]
    .into_iter()
    .flat_map(|(name, slot)| gold(name, slot, "crm", 1))
    .collect();
    let mapping = map(
        "company = { remote = \"/company\", max_length = 6 }\nemail = { remote = \"/email\", direction = \"in\" }\n\
         phone = { remote = \"/phone\" }\n\
         language = { remote = \"/lang\", transform = \"table\", table = { en = \"English\" } }",
    );
    let shown: Fields = [("company", t("A long")), ("email", t("other@example.test")), ("phone", t("call me"))]
        .into_iter()
        .flat_map(|(name, slot)| one(name, slot))
        .collect();
    let agreed: Agreed = [("company", t("A long")), ("email", t("other@example.test")), ("phone", t("call me"))]
        .into_iter()
        .flat_map(|(name, slot)| base(name, slot))
        .collect();
    let sides = [side("chat", &shown, &agreed, &mapping, Some(1))];
    let merged = merge(&golden, &sides, &order());
    assert!(merged.sides[0].write.is_empty(), "{merged:?}");
    let left = left_alone(&golden, &sides, &merged).remove(0);
    assert_eq!(left.len(), 5, "{left:?}");
    assert_eq!(left[&f("company")], LeftAlone::AsFarAsItCan);
    assert_eq!(left[&f("email")], LeftAlone::OnlyRead);
    assert!(matches!(&left[&f("phone")], LeftAlone::Invalid(why) if why.contains("call me")), "{left:?}");
    assert_eq!(left[&f("language")], LeftAlone::CannotHold);
    assert_eq!(left[&f("address.city")], LeftAlone::NotMapped);
}

#[test]
fn a_field_that_waits_and_one_that_was_rewritten_say_so() {
    let golden = gold("company", t("Alpha"), "crm", 1);
    let plain = plain();
    let (beta, gamma) = (one("company", t("Beta")), one("company", t("Gamma")));
    let agreed = base("company", t("Alpha"));
    let sides = [side("chat", &beta, &agreed, &plain, None), side("crm", &gamma, &agreed, &plain, None)];
    let merged = merge(&golden, &sides, &policy(Policy::Review));
    for left in left_alone(&golden, &sides, &merged) {
        assert_eq!(left.get(&f("company")), Some(&LeftAlone::Waits));
    }
    let rewritten: Agreed = [(f("company"), AgreedSlot { here: t("ALPHA!"), means: t("Alpha") })].into();
    let shown = one("company", t("ALPHA!"));
    let sides = [side("chat", &shown, &rewritten, &plain, None)];
    let merged = merge(&golden, &sides, &order());
    assert_eq!(left_alone(&golden, &sides, &merged)[0].get(&f("company")), Some(&LeftAlone::Rewritten));
    let sides = [side("chat", &beta, &rewritten, &plain, None)];
    let merged = merge(&golden, &sides, &order());
    assert!(left_alone(&golden, &sides, &merged)[0].is_empty(), "its own edit wins");
}
