//! The laws of telling who is who, over generated records with few values, so that many of them meet.

use std::collections::BTreeSet;

use counterpart_core::identity::{self, IdentityRules, Key, Member, Resolution};
use counterpart_core::{FieldName, Fields, PersonName, Slot, Value};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Record {
    id: i64,
    connection: &'static str,
    external_id: String,
    entity: Option<i64>,
    fields: Fields,
    apart: BTreeSet<i64>,
}

fn text(field: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Option<(FieldName, Slot)>> {
    prop::option::weighted(0.5, prop::sample::select(values)).prop_map(move |value| {
        let name = FieldName::parse(field).expect("a known field");
        value.map(|value| (name, Slot::Set(Value::Text(value.to_owned()))))
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    let name = prop::option::weighted(
        0.8,
        prop::sample::select(vec!["Ana Lind", "Ana Lindh", "A\u{301}na Lind", "Bo Berg", "Cy"]),
    )
    .prop_map(|name| {
        let field = FieldName::parse("name").expect("a known field");
        name.map(|name| (field, Slot::Set(Value::Name(PersonName::whole(name)))))
    });
    (
        name,
        text("email", &["ana@a.test", "bo@b.test", "not an address"]),
        text("phone", &["+46701740605", "+46701740606", "+46812345678;ext=1", "+46812345678;ext=2", "+99912345678"]),
        text("mobile_phone", &["+46701740605", "+5511961234567", "+551161234567"]),
        text("external.ref", &["1", "2"]),
        text("birthday", &["1980-01-02", "1990-03-04"]),
        text("address.postcode", &["21115", "211 15"]),
    )
        .prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g].into_iter().flatten().collect())
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (
        prop::sample::select(vec!["chat", "crm", "shop"]),
        prop::option::weighted(0.3, 1i64..4),
        fields(),
        prop::collection::btree_set(1i64..4, 0..2),
    );
    prop::collection::vec(one, 0..9).prop_map(|all| {
        let number = |(at, (connection, entity, fields, apart)): (usize, (_, Option<i64>, _, BTreeSet<i64>))| Record {
            id: at as i64 + 1,
            connection,
            external_id: format!("x{at}"),
            entity,
            fields,
            apart: apart.into_iter().filter(|other| Some(*other) != entity).collect(),
        };
        all.into_iter().enumerate().map(number).collect()
    })
}

/// Resolves the way the engine does: components first, then each of them.
fn resolve(records: &[Record], rules: &IdentityRules) -> Resolution {
    let keys: Vec<BTreeSet<Key>> = records.iter().map(|record| identity::keys(&record.fields, rules)).collect();
    let mut all = Resolution::default();
    for part in identity::connect(&keys, |_| true) {
        let members: Vec<Member<'_>> = part
            .iter()
            .map(|&at| Member {
                id: records[at].id,
                connection: records[at].connection,
                external_id: &records[at].external_id,
                entity: records[at].entity,
                fields: &records[at].fields,
                apart: &records[at].apart,
            })
            .collect();
        let found = identity::resolve(&members, rules);
        all.groups.extend(found.groups);
        all.reviews.extend(found.reviews);
    }
    all.groups.sort_by(|a, b| a.members.cmp(&b.members));
    all.reviews.sort_by(|a, b| (&a.members, a.why).cmp(&(&b.members, b.why)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// L9: who is who does not depend on the order in which the records came.
    #[test]
    fn order_does_not_matter(
        (records, shuffled) in records().prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
    ) {
        let rules = IdentityRules::default();
        prop_assert_eq!(resolve(&records, &rules), resolve(&shuffled, &rules));
    }

    /// Nobody is lost and nobody is two people: every record is in at most one group, and in a group or in a review.
    #[test]
    fn everybody_is_somewhere_once(records in records()) {
        let found = resolve(&records, &IdentityRules::default());
        let grouped: Vec<i64> = found.groups.iter().flat_map(|group| group.members.iter().copied()).collect();
        let distinct: BTreeSet<i64> = grouped.iter().copied().collect();
        prop_assert_eq!(grouped.len(), distinct.len());
        let waiting: BTreeSet<i64> = found.reviews.iter().flat_map(|review| review.members.iter().copied()).collect();
        for record in &records {
            prop_assert!(distinct.contains(&record.id) || waiting.contains(&record.id), "{:?}", record);
            if let Some(entity) = record.entity {
                let group = found.groups.iter().find(|group| group.members.contains(&record.id));
                prop_assert_eq!(group.and_then(|group| group.entity), Some(entity), "a link was lost");
            }
        }
    }

    /// What is not linked yet is put together only where it shares a key that counts, and never over a strong one that differs.
    #[test]
    fn links_have_reasons(records in records()) {
        let rules = IdentityRules::default();
        let found = resolve(&records, &rules);
        let by_id = |id: i64| records.iter().find(|record| record.id == id).expect("one of them");
        for group in found.groups.iter().filter(|group| group.members.len() > 1) {
            for id in group.members.iter().filter(|id| by_id(**id).entity.is_none()) {
                prop_assert!(!group.evidence[id].keys.is_empty(), "{:?}", group);
                let own = identity::keys(&by_id(*id).fields, &rules);
                prop_assert!(group.evidence[id].keys.iter().all(|key| own.contains(key)));
                let email = FieldName::parse("email").expect("a known field");
                let mine = by_id(*id).fields.get(&email).filter(|slot| counterpart_core::merge::is_valid(&email, slot));
                for other in &group.members {
                    let theirs = by_id(*other).fields.get(&email).filter(|slot| counterpart_core::merge::is_valid(&email, slot));
                    prop_assert!(mine.is_none() || theirs.is_none() || mine == theirs, "{:?}", group);
                }
            }
        }
    }
}
