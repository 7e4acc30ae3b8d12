//! Linking and normalising real and realistic data: FEBRL people, names of the world, hostile strings, phone numbers.
//!
//! The data is read from `COUNTERPART_TEST_DATA` (default `../shared/data`, from the repository's root) and is not part
//! of the project. Absent data is said loudly; with `COUNTERPART_REQUIRE_DATA=1` it is a failure.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what was measured is the result")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use counterpart_core::identity::{self, IdentityRules, Member};
use counterpart_core::{FieldName, Fields, Mapping, PersonName, Slot, Value, agree, normalize};
use serde_json::{Value as Json, json};

fn data(path: &str) -> Option<String> {
    let root = std::env::var_os("COUNTERPART_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let file = root.join("real").join(path);
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("*** NOT TESTED: {} is not there ({error}); set COUNTERPART_TEST_DATA ***", file.display());
            assert!(std::env::var_os("COUNTERPART_REQUIRE_DATA").is_none(), "the test data is required and absent");
            None
        }
    }
}

fn field(name: &str) -> FieldName {
    FieldName::parse(name).expect("a known field")
}

/// One row of a FEBRL file. Its first column is the record's id, its last the number that a person's records share.
struct Row {
    id: String,
    person: String,
    fields: Fields,
}

fn febrl(path: &str) -> Option<Vec<Row>> {
    let text = data(path)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next()?.split(',').map(str::trim).collect();
    let rows = lines.filter(|line| !line.trim().is_empty()).map(|line| {
        let cells: BTreeMap<&str, &str> = header.iter().copied().zip(line.split(',').map(str::trim)).collect();
        let mut fields = Fields::new();
        let name = PersonName::parts(cells["given_name"], cells["surname"]);
        if !name.full.is_empty() {
            fields.insert(field("name"), Slot::Set(Value::Name(name)));
        }
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                fields.insert(field(name), Slot::Set(Value::Text(value)));
            }
        };
        put("phone", normalize::phone(cells["phone_number"], Some("AU")).ok());
        put("birthday", normalize::date(cells["date_of_birth"]));
        put("address.postcode", Some(cells["postcode"].to_owned()));
        put("external.ssn", Some(cells["soc_sec_id"].to_owned()));
        Row { id: cells["rec_id"].to_owned(), person: person_of(&cells), fields }
    });
    Some(rows.collect())
}

/// Record ids are the person's number times ten, plus the number of the duplicate (0 for the original).
fn person_of(cells: &BTreeMap<&str, &str>) -> String {
    let id = cells["rec_id"];
    id[..id.len() - 1].to_owned()
}

/// What linking made of two files.
#[derive(Debug, Default)]
struct Linked {
    right: usize,
    wrong: usize,
    true_pairs_in_review: usize,
    reviews: usize,
}

fn link(files: &[(&str, &[Row])]) -> Linked {
    let rows: Vec<(&str, &Row)> =
        files.iter().flat_map(|(connection, rows)| rows.iter().map(move |row| (*connection, row))).collect();
    let rules = IdentityRules::default();
    let none = BTreeSet::new();
    let keys: Vec<_> = rows.iter().map(|(_, row)| identity::keys(&row.fields, &rules)).collect();
    let mut linked = Linked::default();
    for part in identity::connect(&keys, |_| true) {
        let members: Vec<Member<'_>> = part
            .iter()
            .map(|&at| Member {
                id: at as i64,
                connection: rows[at].0,
                external_id: &rows[at].1.id,
                entity: None,
                fields: &rows[at].1.fields,
                apart: &none,
            })
            .collect();
        let resolution = identity::resolve(&members, &rules);
        for group in &resolution.groups {
            let (right, pairs) = pairs(&group.members, &rows);
            linked.right += right;
            linked.wrong += pairs - right;
        }
        linked.reviews += resolution.reviews.len();
        let mut seen = BTreeSet::new();
        for review in &resolution.reviews {
            for pair in true_pairs(&review.members, &rows) {
                seen.insert(pair);
            }
        }
        linked.true_pairs_in_review += seen.len();
    }
    linked
}

fn true_pairs(members: &[i64], rows: &[(&str, &Row)]) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    for (index, &a) in members.iter().enumerate() {
        for &b in &members[index + 1..] {
            if rows[a as usize].1.person == rows[b as usize].1.person {
                found.push((a, b));
            }
        }
    }
    found
}

fn pairs(members: &[i64], rows: &[(&str, &Row)]) -> (usize, usize) {
    let all = members.len() * (members.len().saturating_sub(1)) / 2;
    (true_pairs(members, rows).len(), all)
}

/// 2,500 people in one system, 2,500 corrupted doubles in another: no wrong link, and what is doubtful in review.
#[test]
fn febrl_d_links_without_a_wrong_one() {
    let (Some(originals), Some(doubles)) =
        (febrl("febrl/dataset_D_org_5000.csv"), febrl("febrl/dataset_D_dup_5000.csv"))
    else {
        return;
    };
    let known: BTreeSet<&str> = originals.iter().map(|row| row.person.as_str()).collect();
    let truth = doubles.iter().filter(|row| known.contains(row.person.as_str())).count();
    let linked = link(&[("chat", &originals), ("crm", &doubles)]);
    let precision = linked.right as f64 / (linked.right + linked.wrong).max(1) as f64;
    let recall = linked.right as f64 / truth as f64;
    let found = (linked.right + linked.true_pairs_in_review) as f64 / truth as f64;
    println!(
        "FEBRL D: {truth} true pairs; linked {} right, {} wrong; precision {precision:.4}, recall {recall:.4}; \
         {} reviews hold {} true pairs more; {found:.4} found in all",
        linked.right, linked.wrong, linked.reviews, linked.true_pairs_in_review
    );
    assert_eq!(truth, 2500, "the truth is in the ids");
    assert_eq!(linked.wrong, 0);
    assert!(recall > 0.5, "most doubles keep a strong key");
}

/// One system with doubles inside: they are reported, never put together.
#[test]
fn febrl_a_reports_doubles_within_one_system() {
    let Some(rows) = febrl("febrl/dataset_A_10000.csv") else { return };
    let mut by_person: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *by_person.entry(&row.person).or_default() += 1;
    }
    let truth: usize = by_person.values().map(|count| count * (count - 1) / 2).sum();
    let linked = link(&[("crm", &rows)]);
    println!(
        "FEBRL A: {truth} true pairs in one system; {} reported in {} reviews, {} linked",
        linked.true_pairs_in_review,
        linked.reviews,
        linked.right + linked.wrong
    );
    assert_eq!((linked.right, linked.wrong), (0, 0));
    assert!(linked.true_pairs_in_review * 2 > truth);
}

fn mapping(name: &str) -> Mapping {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../mappings/contact/{name}.toml"));
    Mapping::parse(&std::fs::read_to_string(path).expect("a shipped mapping"), name).expect("a valid mapping")
}

/// chat -> store -> CRM -> store -> chat: what the chat then shows is what it showed.
fn round_trip(remote: &Json) {
    let (chat, crm) = (mapping("chatway"), mapping("hubspot"));
    let read = chat.read(remote, Some("SE"));
    let at_crm = crm.write(&read.fields, None);
    let back = crm.read(&at_crm, Some("SE"));
    for (name, slot) in &back.fields {
        let Some(original) = read.fields.get(name) else { continue };
        if counterpart_core::merge::is_valid(name, original) {
            let projected = chat.project(name, slot, Some(remote));
            assert!(agree(&projected, original), "{name}: {original:?} came back as {projected:?}");
        }
    }
    let again = chat.read(&chat.write(&read.fields, Some(remote)), Some("SE"));
    for (name, slot) in &read.fields {
        if counterpart_core::merge::is_valid(name, slot)
            && let Some(seen) = again.fields.get(name)
        {
            assert!(agree(seen, slot), "{name}: {slot:?} was written and read as {seen:?}");
        }
    }
}

#[test]
fn names_of_the_world_survive_a_round_trip() {
    let (Some(forenames), Some(surnames)) = (
        data("names_by_country/common-forenames-by-country.csv"),
        data("names_by_country/common-surnames-by-country.csv"),
    ) else {
        return;
    };
    let last = |text: &str, column: usize| -> Vec<String> {
        text.lines().skip(1).filter_map(|line| line.split(',').nth(column)).map(str::to_owned).collect()
    };
    let (given, family) = (last(&forenames, 10), last(&surnames, 4));
    assert!(given.len() > 2000 && family.len() > 2000);
    for (index, given) in given.iter().enumerate() {
        let name = format!("{given} {}", family[index % family.len()]);
        round_trip(&json!({ "name": name, "email": "a@b.example", "phone": null }));
        assert_eq!(normalize::spaces(&normalize::spaces(&name)), normalize::spaces(&name));
    }
}

#[test]
fn hostile_strings_survive_a_round_trip() {
    let Some(text) = data("blns/blns.json") else { return };
    let strings: Vec<String> = serde_json::from_str(&text).expect("a list of texts");
    assert!(strings.len() > 500);
    for hostile in strings {
        round_trip(&json!({
            "name": hostile, "email": hostile, "phone": hostile,
            "custom_fields": [{ "name": "plan", "value": hostile }],
        }));
        for normal in [normalize::text, normalize::spaces, normalize::email] {
            let once = normal(&hostile);
            assert_eq!(normal(&once), once, "{hostile:?}");
        }
        for normal in [normalize::date, normalize::number, normalize::country] {
            if let Some(once) = normal(&hostile) {
                assert_eq!(normal(&once).as_deref(), Some(once.as_str()), "{hostile:?}");
            }
        }
    }
}

#[test]
fn every_example_phone_number_survives_a_round_trip() {
    let Some(text) = data("libphonenumber/PhoneNumberMetadata.xml") else { return };
    let mut region = String::new();
    let mut seen = 0;
    for line in text.lines() {
        if let Some(id) = between(line, "<territory id=\"", "\"") {
            region = id.to_owned();
        }
        // `001` stands for numbers that belong to no country.
        let Some(example) = between(line, "<exampleNumber>", "</exampleNumber>").filter(|_| region != "001") else {
            continue;
        };
        seen += 1;
        let Ok(e164) = normalize::phone(example, Some(&region)) else {
            panic!("{example} of {region} was not read");
        };
        assert_eq!(normalize::phone(&e164, None).as_deref(), Ok(e164.as_str()), "{example} of {region}");
        round_trip(&json!({ "name": "Ana Lind", "email": null, "phone": e164 }));
    }
    println!("{seen} example numbers");
    assert!(seen > 1000);
}

#[test]
fn every_isemail_case_gets_a_verdict() {
    let Some(text) = data("isemail/tests.xml") else { return };
    let mut counts: BTreeMap<bool, usize> = BTreeMap::new();
    for part in text.split("<address>").skip(1) {
        let raw = part.split("</address>").next().unwrap_or_default();
        let raw = raw.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let valid = normalize::email_verdict(&raw) == normalize::EmailVerdict::Valid;
        *counts.entry(valid).or_default() += 1;
        assert_eq!(normalize::email(&normalize::email(&raw)), normalize::email(&raw));
    }
    println!("isemail: {counts:?}");
    assert!(counts.values().sum::<usize>() > 150);
}

fn between<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let at = line.find(start)? + start.len();
    let rest = &line[at..];
    Some(&rest[..rest.find(end)?])
}
