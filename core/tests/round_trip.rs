//! Every shipped mapping, over generated contacts: what is written and read back is what was meant.

use std::path::PathBuf;
use std::sync::LazyLock;

use counterpart_core::field::FieldKind;
use counterpart_core::{FieldName, Fields, Mapping, PersonName, Slot, Value, agree, merge, normalize};
use proptest::prelude::*;
use serde_json::Value as Json;

/// Every file in `mappings/contact`, and one of our own that uses the transforms which no shipped file uses.
static MAPPINGS: LazyLock<Vec<(String, Mapping)>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../mappings/contact");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the mappings are shipped")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    let mut all: Vec<(String, Mapping)> = files
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
            let source = std::fs::read_to_string(path).expect("readable");
            let mapping = Mapping::parse(&source, &name).unwrap_or_else(|wrong| panic!("{name}: {wrong:#?}"));
            (name, mapping)
        })
        .collect();
    all.push(("everything".to_owned(), Mapping::parse(EVERYTHING, "everything").expect("a valid mapping")));
    all
});

const EVERYTHING: &str = r#"
format = 1
kind = "contact"
connector = "everything"
[fields]
name = { given = "/a~1b/given", family = "/a~1b/family" }
email = { remote = "/list[key=email]/value" }
phone = { remote = "/list[key=phone]/value" }
mobile_phone = { remote = "/deep/er/mobile" }
birthday = { remote = "/birthday", cleared = "empty" }
language = { remote = "/language", transform = "table", table = { sv = "Swedish", en = "English", fr = "Français" } }
timezone = { remote = "/timezone" }
job_title = { remote = "/job", max_length = 5 }
tags = { remote = "/tags", item = "/name" }
other_emails = { remote = "/emails", item = "/address" }
other_phones = { remote = "/phones" }
"address.country" = { remote = "/country", form = "name" }
"consent.marketing" = { remote = "/consent", yes = "Y", no = "N" }
"custom.size" = { remote = "/size", transform = "number" }
"#;

/// Texts that have caused trouble somewhere: composed and decomposed, wide, invisible, right to left, case traps.
const ODD: &[&str] = &[
    "",
    " ",
    "e\u{301}",
    "\u{e9}",
    "\u{212b}ngstr\u{f6}m",
    "\u{1e9b}\u{323}",
    "I\u{307}stanbul",
    "\u{130}stanbul",
    "stra\u{df}e",
    "\u{fb01}n",
    "\u{200b}zero\u{200d}width",
    "\u{feff}mark",
    "\u{202e}right to left",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "\u{1f1f8}\u{1f1ea}",
    "\u{ac00}\u{1100}\u{1161}",
    "tab\tand\nline",
    "a\u{a0}b\u{3000}c",
    "nul\u{0}l",
    "null",
    "0",
    "-1.50",
    "true",
    "' OR 1=1 --",
    "\"quoted\\",
    "\u{10ffff}",
];

fn raw() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-zA-Z\u{e5}\u{e4}\u{f6} '-]{1,12}",
        2 => any::<String>(),
        2 => prop::sample::select(ODD).prop_map(str::to_owned),
        1 => (prop::sample::select(ODD), any::<String>(), prop::sample::select(ODD))
            .prop_map(|(a, b, c)| format!("{a}{b}{c}")),
        1 => "[a-z\u{e9}\u{4e2d} ]{250,300}",
    ]
}

fn email() -> impl Strategy<Value = String> {
    let local = prop_oneof!["[a-z0-9]{1,8}", "[a-z]{1,4}\\.[a-z]{1,4}", "[A-Z\u{e5}\u{df}\u{4e2d}+_-]{1,6}"];
    let domain = prop_oneof!["[a-z]{1,8}\\.test", "[a-zA-Z\u{e4}]{1,8}\\.example\\.test"];
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

/// Numbers as people write them, of several countries, Italian leading zeros included.
const PHONES: &[&str] = &[
    "+46 70 174 06 05",
    "+1 (212) 555-2368",
    "+39 06 6982",
    "+44 20 7946 0018",
    "+49 (0)30 901820",
    "+55 11 96123 4567",
    "+61 2 5550 1234",
    "+86 10 1234 5678",
    "+800 1234 5678",
    "+46 8 123 456 78 ext. 007",
    "+1 212-555-2368 x4",
];

fn text(kind: FieldKind, raw: &str) -> Slot {
    match Value::parse(kind, raw) {
        Value::Text(text) if text.is_empty() => Slot::Cleared,
        Value::Set(set) if set.is_empty() => Slot::Cleared,
        Value::Name(name) if name.full.is_empty() => Slot::Cleared,
        value => Slot::Set(value),
    }
}

fn phone() -> impl Strategy<Value = String> {
    prop::sample::select(PHONES).prop_map(str::to_owned)
}

/// A value that the field may hold, or that it is cleared.
fn slot(field: &FieldName) -> BoxedStrategy<Slot> {
    let kind = field.kind();
    let set = match field.as_str() {
        "language" => prop::sample::select(vec!["sv", "en", "fr"]).prop_map(|code| text(FieldKind::Text, code)).boxed(),
        "other_emails" => {
            prop::collection::vec(email(), 0..4).prop_map(|items| items.join(",")).prop_map(parse(kind)).boxed()
        }
        "other_phones" => {
            prop::collection::vec(phone(), 0..4).prop_map(|items| items.join(",")).prop_map(parse(kind)).boxed()
        }
        "custom.size" => any::<i32>()
            .prop_map(|number| Slot::Set(Value::Text(normalize::number(&format!("{number}.50")).expect("a number"))))
            .boxed(),
        _ => match kind {
            FieldKind::Name => {
                let whole = raw().prop_map(parse(kind));
                let parts =
                    (raw(), raw()).prop_map(|(given, family)| PersonName::parts(&given, &family)).prop_map(|name| {
                        if name.full.is_empty() { Slot::Cleared } else { Slot::Set(Value::Name(name)) }
                    });
                prop_oneof![whole, parts].boxed()
            }
            FieldKind::Email => email().prop_map(parse(kind)).boxed(),
            FieldKind::Phone => phone().prop_map(parse(kind)).boxed(),
            FieldKind::Date => (1i32..=9999, 1u32..=12, 1u32..=28)
                .prop_map(|(y, m, d)| text(FieldKind::Date, &format!("{y:04}-{m:02}-{d:02}")))
                .boxed(),
            FieldKind::Bool => any::<bool>().prop_map(|flag| Slot::Set(Value::Bool(flag))).boxed(),
            FieldKind::Country => prop::sample::select(vec!["SE", "UK", "el", "US", "CZ", "Curaçao", "CD", "VI", "XK"])
                .prop_map(parse(kind))
                .boxed(),
            _ => raw().prop_map(parse(kind)).boxed(),
        },
    };
    prop_oneof![1 => Just(Slot::Cleared), 6 => set]
        .prop_filter("valid in its kind", {
            let field = field.clone();
            move |slot| merge::is_valid(&field, slot)
        })
        .boxed()
}

fn parse<T: AsRef<str>>(kind: FieldKind) -> impl Fn(T) -> Slot + Clone {
    move |raw| text(kind, raw.as_ref())
}

/// A mapping by its place, and a contact and an edit of the fields it maps.
fn case() -> impl Strategy<Value = (usize, Fields, Fields)> {
    (0..MAPPINGS.len()).prop_flat_map(|at| (Just(at), contact(at, 0.8), contact(at, 0.3)))
}

fn contact(at: usize, share: f64) -> impl Strategy<Value = Fields> {
    let fields: Vec<FieldName> = MAPPINGS[at].1.fields().cloned().collect();
    let slots: Vec<_> = fields.iter().map(|field| prop::option::weighted(share, slot(field))).collect();
    slots.prop_map(move |slots| {
        fields.iter().zip(slots).filter_map(|(field, slot)| Some((field.clone(), slot?))).collect()
    })
}

/// What a vendor keeps of a partial update: objects are merged, everything else is replaced.
fn patch(record: &mut Json, body: &Json) {
    match (record, body) {
        (Json::Object(record), Json::Object(body)) => {
            for (name, value) in body {
                patch(record.entry(name.clone()).or_insert(Json::Null), value);
            }
        }
        (record, body) => *record = body.clone(),
    }
}

/// Over the wire and back.
fn sent(body: &Json) -> Json {
    serde_json::from_str(&body.to_string()).expect("what was written as JSON")
}

/// Fields that this vendor is known not to hold whole: the file says so.
fn is_limited(mapping: &str, field: &FieldName) -> bool {
    matches!((mapping, field.as_str()), ("chatwoot", "name" | "phone") | ("everything", "job_title"))
}

#[test]
fn every_shipped_mapping_parses() {
    let names: Vec<&str> = MAPPINGS.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["chatway", "chatwoot", "crm", "hubspot", "medusa", "shopify", "woocommerce", "everything"]);
    for (name, mapping) in &MAPPINGS[..7] {
        assert_eq!(mapping.connector(), name, "a mapping file is called after its connector");
    }
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/mapping.md");
    let docs = std::fs::read_to_string(docs).expect("the documentation");
    let example = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    Mapping::parse(example, "docs/mapping.md").expect("the example is right");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Canonical -> vendor -> canonical: every two-way field comes back as it was, on its own and in an update of a
    /// record that is there already, and what was not written stays.
    #[test]
    fn what_is_written_is_read_back((at, contact, edit) in case()) {
        let (name, mapping) = &MAPPINGS[at];
        let both = |field: &FieldName| mapping.provides(field) && mapping.accepts(field);
        let record = sent(&mapping.write(&contact, None));
        let read = mapping.read(&record, None);
        prop_assert!(read.problems.is_empty(), "{}: {:?}", name, read.problems);
        for (field, slot) in contact.iter().filter(|(field, _)| both(field)) {
            let back = read.fields.get(field);
            let promised = mapping.project(field, slot, None);
            prop_assert!(back.is_some_and(|back| agree(back, &promised)), "{} {}: {:?} {:?}", name, field, promised, back);
            prop_assert!(is_limited(name, field) || agree(slot, &promised), "{} {}: {:?} {:?}", name, field, slot, promised);
        }

        let mut after = record.clone();
        patch(&mut after, &sent(&mapping.write(&edit, Some(&record))));
        let second = mapping.read(&after, None);
        for field in contact.keys().chain(edit.keys()).filter(|field| both(field)) {
            let back = second.fields.get(field);
            let expected = match edit.get(field) {
                Some(slot) => mapping.project(field, slot, Some(&record)),
                None => read.fields[field].clone(),
            };
            prop_assert!(back.is_some_and(|back| agree(back, &expected)), "{} {}: {:?} {:?}", name, field, expected, back);
        }
    }

    /// Reading what a vendor holds and writing it back changes nothing there, however it is written.
    #[test]
    fn what_is_read_is_written_back((at, contact, _) in case()) {
        let (name, mapping) = &MAPPINGS[at];
        let record = sent(&mapping.write(&contact, None));
        let read = mapping.read(&record, None);
        let mut after = record.clone();
        patch(&mut after, &sent(&mapping.write(&read.fields, Some(&record))));
        prop_assert_eq!(mapping.read(&after, None), read, "{}", name);
    }

    /// Whatever a vendor shows where a word of the table is expected: it stays, and is not taken for something else.
    #[test]
    fn unknown_words_survive(raw in raw()) {
        let (_, mapping) = MAPPINGS.last().expect("our own");
        let record = serde_json::json!({ "language": raw, "timezone": "UTC" });
        let read = mapping.read(&record, None);
        let mut after = record.clone();
        patch(&mut after, &sent(&mapping.write(&read.fields, Some(&record))));
        prop_assert_eq!(after["language"].as_str().unwrap_or_default().trim(), raw.trim());
        let language = FieldName::parse("language").expect("a known field");
        let known = matches!(raw.trim(), "Swedish" | "English" | "Français" | "");
        prop_assert_eq!(read.fields.contains_key(&language), known);
        prop_assert_eq!(mapping.is_unreadable(&language, &record), !known);
    }

    /// Every normal form is its own normal form, whatever the text.
    #[test]
    fn normal_forms_are_idempotent(raw in raw()) {
        for normal in [normalize::text, normalize::spaces, normalize::email] {
            let once = normal(&raw);
            prop_assert_eq!(normal(&once), once.clone());
        }
        for normal in [normalize::date, normalize::number, normalize::country] {
            if let Some(once) = normal(&raw) {
                prop_assert_eq!(normal(&once), Some(once));
            }
        }
        if let Ok(once) = normalize::phone(&raw, Some("SE")) {
            prop_assert_eq!(normalize::phone(&once, None), Ok(once));
        }
    }

    /// What is looked up quickly is what the library says: a number is valid exactly when it could be read.
    #[test]
    fn a_phone_is_valid_when_it_could_be_read(raw in "\\+[0-9]{1,18}", extension in "(;ext=[0-9]{1,6})?") {
        let raw = raw + &extension;
        let (could, normal) = match normalize::phone(&raw, None) {
            Ok(normal) => (true, normal),
            Err(raw) => (false, raw),
        };
        prop_assert_eq!(normalize::is_valid(FieldKind::Phone, &normal), could, "{} {}", raw, normal);
    }

    /// The same for addresses: what is plain needs no grammar, and the grammar agrees.
    #[test]
    fn a_plain_address_is_one_by_the_grammar(raw in "[a-z0-9._+-]{0,6}@?[a-zA-Z0-9.-]{0,8}(@|\\.[a-z]{1,3})?") {
        let options = email_address::Options::default().without_display_text();
        let normal = normalize::email(&raw);
        let grammar = email_address::EmailAddress::parse_with_options(&normal, options).is_ok();
        prop_assert_eq!(normalize::is_valid(FieldKind::Email, &normal), grammar, "{}", raw);
    }
}
