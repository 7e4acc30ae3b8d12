//! The laws of merging over generated people: any number of sides, any edits, far ends that rewrite what they get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use counterpart_core::merge::{Merged, Side, merge};
use counterpart_core::{
    Agreed, AgreedSlot, FieldName, Fields, Golden, Mapping, PersonName, Policies, Policy, Slot, Value, agree,
};
use proptest::prelude::*;

/// What a far end does to a text it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FarEnd {
    Faithful,
    LowerCases,
    DropsCompany,
}

/// One system's record of the person.
#[derive(Clone, Debug)]
struct System {
    name: &'static str,
    mapping: &'static Mapping,
    far_end: FarEnd,
    shows: Fields,
    agreed: Agreed,
    changed_at: i64,
}

static MAPPINGS: LazyLock<[Mapping; 3]> = LazyLock::new(|| {
    let file = |fields: &str| {
        let text = format!("format = 1\nkind = \"contact\"\nconnector = \"x\"\n[fields]\n{fields}");
        Mapping::parse(&text, "generated").expect("a valid mapping")
    };
    [
        file("name = { remote = \"/name\" }\nemail = { remote = \"/email\" }\ncompany = { remote = \"/company\" }\n"),
        file(
            "name = { given = \"/first\", family = \"/last\" }\nemail = { remote = \"/email\" }\n\
             company = { remote = \"/company\", max_length = 6 }\n\"address.city\" = { remote = \"/city\" }\n",
        ),
        file(
            "name = { given = \"/g\", family = \"/f\" }\ncompany = { remote = \"/c\" }\n\"address.city\" = { remote = \"/city\" }\n",
        ),
    ]
});

const NAMES: [&str; 3] = ["chat", "crm", "shop"];

fn field(name: &str) -> FieldName {
    FieldName::parse(name).expect("a known field")
}

fn text(value: &str) -> Slot {
    Slot::Set(Value::Text(value.to_owned()))
}

fn slot_of(name: &str) -> BoxedStrategy<Slot> {
    match name {
        "name" => prop_oneof![
            1 => Just(Slot::Cleared),
            3 => prop::sample::select(vec!["Ana Lind", "Ana Maria Lind", "Bo Berg", "Bo van der Berg"])
                .prop_map(|full| Slot::Set(Value::Name(PersonName::whole(full)))),
        ]
        .boxed(),
        "email" => prop::sample::select(vec!["ana@example.test", "bo@example.test"]).prop_map(text).boxed(),
        _ => prop_oneof![
            1 => Just(Slot::Cleared),
            3 => prop::sample::select(vec!["Alpha", "Beta Company", "Gamma"]).prop_map(text),
        ]
        .boxed(),
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let one = |name: &'static str| prop::option::weighted(0.7, slot_of(name)).prop_map(move |slot| (name, slot));
    (one("name"), one("email"), one("company"), one("address.city")).prop_map(|(a, b, c, d)| {
        [a, b, c, d].into_iter().filter_map(|(name, slot)| Some((field(name), slot?))).collect()
    })
}

/// Fields as the system can show them.
fn held(mapping: &Mapping, fields: &Fields) -> Fields {
    fields
        .iter()
        .filter(|(name, _)| mapping.provides(name))
        .map(|(name, slot)| (name.clone(), mapping.project(name, slot, None)))
        .collect()
}

fn system(index: usize) -> impl Strategy<Value = System> {
    let far_end =
        prop::sample::select(vec![FarEnd::Faithful, FarEnd::Faithful, FarEnd::LowerCases, FarEnd::DropsCompany]);
    (fields(), far_end, 0i64..4).prop_map(move |(shows, far_end, changed_at)| {
        let mapping = &MAPPINGS[index];
        System { name: NAMES[index], mapping, far_end, shows: held(mapping, &shows), agreed: Agreed::new(), changed_at }
    })
}

fn systems() -> impl Strategy<Value = Vec<System>> {
    at_least(1)
}

fn at_least(fewest: usize) -> impl Strategy<Value = Vec<System>> {
    (system(0), system(1), system(2), fewest..=3)
        .prop_map(|(a, b, c, count)| [a, b, c].into_iter().take(count).collect())
}

/// An edit: which system, which field, what.
fn edits() -> impl Strategy<Value = Vec<(usize, &'static str, Slot)>> {
    let names = vec!["name", "company", "address.city"];
    let edit = (0usize..3, prop::sample::select(names))
        .prop_flat_map(|(at, name)| slot_of(name).prop_map(move |slot| (at, name, slot)));
    prop::collection::vec(edit, 0..5)
}

fn policy() -> impl Strategy<Value = Policies> {
    prop_oneof![
        Just(Policy::Latest),
        Just(Policy::Review),
        Just(Policy::Order(vec!["shop".to_owned(), "chat".to_owned()])),
    ]
    .prop_map(|default| Policies { default, fields: BTreeMap::new() })
}

fn sides(systems: &[System]) -> Vec<Side<'_>> {
    systems
        .iter()
        .map(|system| Side {
            connection: system.name,
            external_id: "1",
            observed: &system.shows,
            agreed: &system.agreed,
            changed_at: Some(system.changed_at),
            observed_at: 10,
            mapping: system.mapping,
            remote: None,
        })
        .collect()
}

/// Carries a merge out the way the engine does: writes, sees what the far end made of it, takes that as the base.
fn carry_out(systems: &mut [System], golden: &mut Golden, merged: Merged) -> usize {
    let mut writes = 0;
    if let Some(new) = merged.golden {
        *golden = new;
    }
    for (system, result) in systems.iter_mut().zip(merged.sides) {
        if let Some(agreed) = result.agreed {
            system.agreed = agreed;
        }
        for (name, slot) in result.write {
            writes += 1;
            let sent = system.mapping.project(&name, &slot, None);
            let here = match (system.far_end, &sent) {
                (FarEnd::LowerCases, Slot::Set(Value::Text(text))) => Slot::Set(Value::Text(text.to_lowercase())),
                (FarEnd::DropsCompany, _) if name.as_str() == "company" => Slot::Cleared,
                _ => sent,
            };
            system.shows.insert(name.clone(), here.clone());
            system.agreed.insert(name, AgreedSlot { here, means: slot });
        }
    }
    writes
}

/// Merges until nothing is written; fails when that takes more than one extra pass.
fn settle(systems: &mut [System], golden: &mut Golden, policies: &Policies) {
    for pass in 0..3 {
        let merged = merge(golden, &sides(systems), policies);
        let writes = carry_out(systems, golden, merged);
        if writes == 0 {
            return;
        }
        assert!(pass < 2, "still writing after two passes: {systems:#?} {golden:#?}");
    }
}

/// Whether every system shows golden values, or what it made of them.
fn assert_agreement(systems: &[System], golden: &Golden, waiting: &BTreeSet<FieldName>) {
    for system in systems {
        for (name, golden) in golden.iter().filter(|(name, _)| !waiting.contains(*name)) {
            if !system.mapping.accepts(name) {
                continue;
            }
            let shown = system.shows.get(name).unwrap_or(&Slot::Cleared);
            let wanted = system.mapping.project(name, &golden.slot, None);
            let made_of_it = system.agreed.get(name).is_some_and(|base| agree(&base.means, &golden.slot));
            assert!(agree(shown, &wanted) || made_of_it, "{} shows {name} {shown:?}, golden {golden:?}", system.name);
        }
    }
}

fn waiting(systems: &[System], golden: &Golden, policies: &Policies) -> BTreeSet<FieldName> {
    let merged = merge(golden, &sides(systems), policies);
    merged.conflicts.into_iter().filter(|conflict| conflict.winner.is_none()).map(|conflict| conflict.field).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// L1 and L2: after the last edit everybody agrees within one extra pass, and the pass after that writes nothing.
    #[test]
    fn people_settle(mut systems in systems(), edits in edits(), policies in policy()) {
        let mut golden = Golden::new();
        settle(&mut systems, &mut golden, &policies);
        for (at, name, slot) in edits {
            let count = systems.len();
            let system = &mut systems[at % count];
            if system.mapping.provides(&field(name)) {
                system.shows.insert(field(name), system.mapping.project(&field(name), &slot, None));
                system.changed_at += 5;
            }
        }
        settle(&mut systems, &mut golden, &policies);
        let waiting = waiting(&systems, &golden, &policies);
        assert_agreement(&systems, &golden, &waiting);
        let again = merge(&golden, &sides(&systems), &policies);
        prop_assert!(again.sides.iter().all(|side| side.write.is_empty()));
        prop_assert!(policies.default == Policy::Review || waiting.is_empty());
    }

    /// L9: the order in which sides come does not matter.
    #[test]
    fn order_does_not_matter(systems in systems(), policies in policy(), turn in 0usize..3) {
        let golden = Golden::new();
        let forward = merge(&golden, &sides(&systems), &policies);
        let mut turned = systems.clone();
        let count = turned.len();
        turned.rotate_left(turn % count);
        turned.reverse();
        let other = merge(&golden, &sides(&turned), &policies);
        prop_assert_eq!(&forward.golden, &other.golden);
        prop_assert_eq!(&forward.conflicts, &other.conflicts);
        for (system, result) in systems.iter().zip(&forward.sides) {
            let same = turned.iter().position(|other| other.name == system.name).expect("the same systems");
            prop_assert_eq!(result, &other.sides[same]);
        }
    }

    /// L3: a value that its own system replaced before it got anywhere else is no opinion any more, whoever edits there.
    #[test]
    fn what_was_replaced_where_it_was_known_is_gone(mut systems in at_least(2), first in 0usize..3) {
        for system in &mut systems {
            system.far_end = FarEnd::Faithful;
        }
        let policies = Policies {
            default: Policy::Order(systems.iter().map(|system| system.name.to_owned()).collect()),
            fields: BTreeMap::new(),
        };
        let mut golden = Golden::new();
        settle(&mut systems, &mut golden, &policies);
        let (one, other) = (first % systems.len(), (first + 1) % systems.len());
        systems[one].shows.insert(field("company"), text("One"));
        // The program dies before anything is written.
        let mut merged = merge(&golden, &sides(&systems), &policies);
        merged.sides.iter_mut().for_each(|side| side.write.clear());
        carry_out(&mut systems, &mut golden, merged);
        systems[one].shows.insert(field("company"), text("Two"));
        systems[other].shows.insert(field("company"), text("Three"));
        settle(&mut systems, &mut golden, &policies);
        for system in &systems {
            prop_assert_ne!(&system.shows[&field("company")], &text("One"));
        }
    }

    /// L3: a one-sided edit arrives everywhere it can, and an edit of another field elsewhere survives it.
    #[test]
    fn one_sided_edits_arrive(mut systems in at_least(2), policies in policy()) {
        for system in &mut systems {
            system.far_end = FarEnd::Faithful;
        }
        let mut golden = Golden::new();
        let order = Policies { default: Policy::Order(Vec::new()), fields: BTreeMap::new() };
        settle(&mut systems, &mut golden, &order);
        let last = systems.len() - 1;
        systems[0].shows.insert(field("company"), text("Delta"));
        systems[last].shows.insert(field("name"), Slot::Set(Value::Name(PersonName::parts("Cy", "Dahl"))));
        settle(&mut systems, &mut golden, &policies);
        prop_assert_eq!(&golden[&field("company")].slot, &text("Delta"));
        for system in &systems {
            prop_assert_eq!(&system.shows[&field("company")], &text("Delta"));
            let name = &system.shows[&field("name")];
            prop_assert!(agree(name, &Slot::Set(Value::Name(PersonName::whole("Cy Dahl")))), "{:?}", name);
        }
    }

    /// L4: golden values were shown by somebody, and a clear was somebody's clear.
    #[test]
    fn nothing_is_invented(mut systems in systems(), edits in edits(), policies in policy()) {
        let mut shown: BTreeSet<(FieldName, Slot)> = BTreeSet::new();
        let note = |systems: &[System], shown: &mut BTreeSet<(FieldName, Slot)>| {
            shown.extend(systems.iter().flat_map(|s| s.shows.iter().map(|(name, slot)| (name.clone(), slot.clone()))));
        };
        let mut golden = Golden::new();
        note(&systems, &mut shown);
        for (at, name, slot) in edits {
            let merged = merge(&golden, &sides(&systems), &policies);
            carry_out(&mut systems, &mut golden, merged);
            let count = systems.len();
            let system = &mut systems[at % count];
            if system.mapping.provides(&field(name)) {
                system.shows.insert(field(name), system.mapping.project(&field(name), &slot, None));
            }
            note(&systems, &mut shown);
        }
        let merged = merge(&golden, &sides(&systems), &policies);
        for (name, golden) in merged.golden.as_ref().unwrap_or(&golden) {
            prop_assert!(shown.contains(&(name.clone(), golden.slot.clone())), "{} {:?}", name, golden);
        }
    }

    /// Under review nothing is written for the field in question.
    #[test]
    fn review_writes_nothing(systems in systems()) {
        let policies = Policies { default: Policy::Review, fields: BTreeMap::new() };
        let merged = merge(&Golden::new(), &sides(&systems), &policies);
        for conflict in &merged.conflicts {
            prop_assert!(conflict.winner.is_none());
            prop_assert!(merged.golden.as_ref().is_none_or(|golden| !golden.contains_key(&conflict.field)));
            prop_assert!(merged.sides.iter().all(|side| !side.write.contains_key(&conflict.field)));
        }
    }
}

/// R40: clear, absent and empty on either side, all nine, against a base where both showed the same value.
#[test]
fn r40_clear_absent_and_empty_on_two_sides() {
    let company = field("company");
    let base = AgreedSlot { here: text("Alpha"), means: text("Alpha") };
    let golden = Golden::from([(
        company.clone(),
        counterpart_core::GoldenSlot {
            slot: text("Alpha"),
            from: "chat".to_owned(),
            at: 1,
            clock: counterpart_core::Clock::Vendor,
            rule: "test".to_owned(),
        },
    )]);
    // An empty text is read as cleared: three ways to show nothing, two of which say something.
    let ways = [
        Some(Slot::Cleared),
        None,
        Some(MAPPINGS[0].read(&serde_json::json!({ "company": "" }), None).fields[&company].clone()),
    ];
    for (i, left) in ways.iter().enumerate() {
        for (j, right) in ways.iter().enumerate() {
            let mut systems: Vec<System> = [left, right]
                .iter()
                .enumerate()
                .map(|(index, shown)| System {
                    name: NAMES[index],
                    mapping: &MAPPINGS[index],
                    far_end: FarEnd::Faithful,
                    shows: shown.iter().map(|slot| (company.clone(), slot.clone())).collect(),
                    agreed: Agreed::from([(company.clone(), base.clone())]),
                    changed_at: 1,
                })
                .collect();
            let merged = merge(&golden, &sides(&systems), &Policies::default());
            let both_absent = left.is_none() && right.is_none();
            let expected = if both_absent { text("Alpha") } else { Slot::Cleared };
            assert_eq!(merged.golden.as_ref().unwrap_or(&golden)[&company].slot, expected, "ways {i} and {j}");
            assert!(merged.conflicts.is_empty(), "ways {i} and {j}");
            let mut after = golden.clone();
            carry_out(&mut systems, &mut after, merged);
        }
    }
}
