//! Who is who: keys that records share, and what may be concluded from them.
//!
//! An explicit external id and an e-mail address are strong. A phone number may be shared in a household, so it links
//! only where the names do not contradict. Everything doubtful goes to review; nothing here ever guesses.
//!
//! A value that cannot be anybody's own is no key: one that is not valid in its kind (a calling code that nobody has), an
//! address at no domain of the world, a number of one digit repeated or that only works in its own town. Numbers are compared without their extension.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::field::{FieldName, Fields, Slot, Value};
use crate::merge::is_valid;
use crate::normalize;

/// Records above this in one component are never linked without a person.
const TOO_MANY: usize = 50;
/// Similarity of two names from which they may be one person's.
const SIMILAR: f64 = 0.88;

/// What kind of key two records share, strongest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// An id that both systems keep for the same outside thing, with its namespace.
    External(String),
    /// An e-mail address.
    Email,
    /// A phone number.
    Phone,
    /// Name and birthday: only ever leads to review.
    NameBirthday,
    /// Name and postcode: only ever leads to review.
    NamePostcode,
}

impl KeyKind {
    fn is_weak(&self) -> bool {
        matches!(self, KeyKind::NameBirthday | KeyKind::NamePostcode)
    }

    fn is_strong(&self) -> bool {
        matches!(self, KeyKind::External(_) | KeyKind::Email)
    }
}

/// A normalised key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What kind.
    pub kind: KeyKind,
    /// Its value; equal values mean the same key.
    pub value: String,
}

impl Key {
    /// Kind and value as two texts, for storing.
    pub fn to_parts(&self) -> (String, String) {
        let kind = match &self.kind {
            KeyKind::External(namespace) => format!("external.{namespace}"),
            KeyKind::Email => "email".to_owned(),
            KeyKind::Phone => "phone".to_owned(),
            KeyKind::NameBirthday => "name+birthday".to_owned(),
            KeyKind::NamePostcode => "name+postcode".to_owned(),
        };
        (kind, self.value.clone())
    }
}

/// Which keys count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRules {
    /// Use `external.*` fields.
    pub external: bool,
    /// Use e-mail addresses.
    pub email: bool,
    /// Use phone numbers.
    pub phone: bool,
    /// Ask a person where only name and birthday or postcode agree.
    pub weak: bool,
}

impl Default for IdentityRules {
    fn default() -> IdentityRules {
        IdentityRules { external: true, email: true, phone: true, weak: true }
    }
}

/// All keys of a record.
pub fn keys(fields: &Fields, rules: &IdentityRules) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for (field, slot) in fields {
        let Some(text) = slot.text().filter(|_| is_valid(field, slot)) else { continue };
        let key = match field.as_str() {
            "email" if rules.email => normalize::is_global_email(text).then(|| (KeyKind::Email, text.to_owned())),
            "phone" | "mobile_phone" if rules.phone => {
                normalize::is_global_phone(text).then(|| (KeyKind::Phone, phone_key(text)))
            }
            name => name
                .strip_prefix("external.")
                .filter(|_| rules.external)
                .map(|namespace| (KeyKind::External(namespace.to_owned()), text.to_owned())),
        };
        keys.extend(key.map(|(kind, value)| Key { kind, value }));
    }
    if rules.weak
        && let Some(name) = folded_name(fields)
    {
        let weak = [("birthday", KeyKind::NameBirthday), ("address.postcode", KeyKind::NamePostcode)];
        for (field, kind) in weak {
            if let Some(text) = text_of(fields, field) {
                keys.insert(Key { kind, value: format!("{name}|{}", fold(text)) });
            }
        }
    }
    keys
}

/// The number without its extension, which one system keeps and the next one drops: two records of one person would not
/// meet. Two different extensions still speak against it, see [`extensions_differ`].
///
/// Brazilian mobile numbers are written with and without their ninth digit: one key for both.
fn phone_key(normal: &str) -> String {
    let number = normalize::phone_parts(normal).0;
    match number.strip_prefix("+55") {
        Some(rest) if rest.len() == 11 && rest.as_bytes()[2] == b'9' => format!("+55{}{}", &rest[..2], &rest[3..]),
        _ => number.to_owned(),
    }
}

/// Whether two records have the same number with different extensions: two desks behind one switchboard.
fn extensions_differ(a: &Fields, b: &Fields) -> bool {
    let numbers = |fields: &Fields| -> Vec<(String, String)> {
        let phones = ["phone", "mobile_phone"].into_iter().filter_map(|name| text_of(fields, name));
        let parts = phones.map(|phone| (phone_key(phone), normalize::phone_parts(phone).1));
        parts.filter_map(|(number, extension)| Some((number, extension?.to_owned()))).collect()
    };
    let theirs = numbers(b);
    numbers(a).iter().any(|(number, extension)| {
        let mut same = theirs.iter().filter(|(other, _)| other == number).peekable();
        same.peek().is_some() && same.all(|(_, other)| other != extension)
    })
}

fn text_of<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    FieldName::parse(name).ok().and_then(|name| fields.get(&name)).and_then(Slot::text)
}

fn folded_name(fields: &Fields) -> Option<String> {
    let name = FieldName::parse("name").ok().and_then(|name| fields.get(&name))?;
    match name {
        Slot::Set(Value::Name(name)) => Some(fold(&name.full)).filter(|folded| folded.contains(' ')),
        _ => None,
    }
}

/// Lower case, without diacritics and punctuation: for comparing, never for storing.
fn fold(text: &str) -> String {
    let plain: String = text.nfkd().filter(|character| !is_combining_mark(*character)).collect();
    let words: String = plain.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One record in a component.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its number.
    pub id: i64,
    /// Its connection.
    pub connection: &'a str,
    /// Its id there.
    pub external_id: &'a str,
    /// The entity it stands for already.
    pub entity: Option<i64>,
    /// What it shows.
    pub fields: &'a Fields,
    /// Entities that a person said it is not.
    pub apart: &'a BTreeSet<i64>,
}

/// Why a record was linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Keys it shares with others of the same person; none when it was the first.
    pub keys: Vec<Key>,
    /// `rule`, or who decided.
    pub by: String,
}

/// Records that stand for one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their numbers, sorted.
    pub members: Vec<i64>,
    /// The entity that some of them stand for already.
    pub entity: Option<i64>,
    /// Why each newly linked one is in it.
    pub evidence: BTreeMap<i64, Evidence>,
}

/// Why records wait for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewReason {
    /// Several records of one connection share a key.
    Duplicate,
    /// The records lead to several entities.
    SeveralEntities,
    /// One key says the same person, another says not.
    KeysDisagree,
    /// Only a weak key is shared.
    Possible,
    /// More records than any person has.
    TooMany,
}

/// Records that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Their numbers, sorted.
    pub members: Vec<i64>,
    /// Why.
    pub why: ReviewReason,
    /// The keys that bring them together.
    pub keys: Vec<Key>,
}

/// What follows for one component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Records that stand for one person each.
    pub groups: Vec<Group>,
    /// Records that wait.
    pub reviews: Vec<Review>,
}

/// Decides one component: records that share keys, directly or through others. The order of members does not matter.
pub fn resolve(component: &[Member<'_>], rules: &IdentityRules) -> Resolution {
    let mut members: Vec<Member<'_>> = component.to_vec();
    members.sort_by_key(|member| (member.connection, member.external_id, member.id));
    let keys: Vec<BTreeSet<Key>> = members.iter().map(|member| keys(member.fields, rules)).collect();
    let mut resolution = Resolution::default();
    for part in connect(&keys, |key| !key.kind.is_weak()) {
        decide_part(&members, &keys, &part, &mut resolution);
    }
    hold_possible(&members, &keys, &mut resolution);
    resolution.groups.sort_by(|a, b| a.members.cmp(&b.members));
    resolution.reviews.sort_by(|a, b| a.members.cmp(&b.members));
    resolution
}

/// One set of records that are tied together by keys that count.
fn decide_part(members: &[Member<'_>], keys: &[BTreeSet<Key>], part: &[usize], resolution: &mut Resolution) {
    let shared = shared_keys(keys, part, |key| !key.kind.is_weak());
    let ids = sorted_ids(members, part);
    match objection(members, keys, part) {
        Some(why) => {
            resolution.reviews.push(Review { members: ids, why, keys: shared });
            // Those that stand for somebody already go on standing for them.
            let mut by_entity: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
            for &index in part {
                if let Some(entity) = members[index].entity {
                    by_entity.entry(entity).or_default().push(index);
                }
            }
            for (entity, own) in by_entity {
                let members = sorted_ids(members, &own);
                resolution.groups.push(Group { members, entity: Some(entity), evidence: BTreeMap::new() });
            }
        }
        None => {
            let entity = part.iter().find_map(|&index| members[index].entity);
            let evidence = part
                .iter()
                .filter(|&&index| members[index].entity.is_none())
                .map(|&index| {
                    let own = shared.iter().filter(|key| keys[index].contains(key)).cloned().collect();
                    (members[index].id, Evidence { keys: own, by: "rule".to_owned() })
                })
                .collect();
            resolution.groups.push(Group { members: ids, entity, evidence });
        }
    }
}

/// Why these records must not be linked without a person.
fn objection(members: &[Member<'_>], keys: &[BTreeSet<Key>], part: &[usize]) -> Option<ReviewReason> {
    let entities: BTreeSet<i64> = part.iter().filter_map(|&index| members[index].entity).collect();
    let loose = part.iter().any(|&index| members[index].entity.is_none());
    if !loose && entities.len() <= 1 {
        return None;
    }
    if part.len() > TOO_MANY {
        return Some(ReviewReason::TooMany);
    }
    // Within one entity a person may have put several records of one connection together; that is not asked again.
    let mut seen: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for &index in part {
        let member = &members[index];
        if let Some(other) = seen.insert(member.connection, member.entity)
            && (other.is_none() || member.entity.is_none() || other != member.entity)
        {
            return Some(ReviewReason::Duplicate);
        }
    }
    if entities.len() > 1 {
        return Some(ReviewReason::SeveralEntities);
    }
    if part.iter().any(|&index| members[index].apart.iter().any(|entity| entities.contains(entity))) {
        return Some(ReviewReason::KeysDisagree);
    }
    let pairs = part.iter().enumerate().flat_map(|(at, &a)| part[at + 1..].iter().map(move |&b| (a, b)));
    for (a, b) in pairs {
        if disagree(&members[a], &keys[a], &members[b], &keys[b]) {
            return Some(ReviewReason::KeysDisagree);
        }
    }
    None
}

/// Whether two records that are tied together contradict each other.
fn disagree(a: &Member<'_>, a_keys: &BTreeSet<Key>, b: &Member<'_>, b_keys: &BTreeSet<Key>) -> bool {
    if a.entity.is_some() && a.entity == b.entity {
        return false;
    }
    // A strong key that both have and that differs speaks against, whatever else they share.
    let contradicts = a_keys
        .iter()
        .filter(|key| key.kind.is_strong())
        .any(|key| b_keys.iter().any(|other| other.kind == key.kind && other.value != key.value));
    let shares_strong = a_keys.intersection(b_keys).any(|key| key.kind.is_strong());
    // Without a strong key in common the names must be able to be one person's, and the desks one desk.
    contradicts || (!shares_strong && (!names_fit(a.fields, b.fields) || extensions_differ(a.fields, b.fields)))
}

/// Whether two names can be the same person's: a blank, or similar enough.
fn names_fit(a: &Fields, b: &Fields) -> bool {
    match (whole_name(a), whole_name(b)) {
        (Some(a), Some(b)) => a == b || strsim::jaro_winkler(&a, &b) >= SIMILAR,
        _ => true,
    }
}

fn whole_name(fields: &Fields) -> Option<String> {
    match FieldName::parse("name").ok().and_then(|name| fields.get(&name)) {
        Some(Slot::Set(Value::Name(name))) => Some(fold(&name.full)).filter(|folded| !folded.is_empty()),
        _ => None,
    }
}

/// Groups that share only a weak key wait for a person, when they could be completed by each other.
fn hold_possible(members: &[Member<'_>], keys: &[BTreeSet<Key>], resolution: &mut Resolution) {
    let index_of: BTreeMap<i64, usize> = members.iter().enumerate().map(|(index, member)| (member.id, index)).collect();
    let group_keys: Vec<BTreeSet<Key>> = resolution
        .groups
        .iter()
        .map(|group| group.members.iter().flat_map(|id| keys[index_of[id]].iter().cloned()).collect())
        .collect();
    let mut held = BTreeSet::new();
    let mut reviews = Vec::new();
    for part in connect(&group_keys, |key| key.kind.is_weak()) {
        if part.len() < 2 || !possible(members, &index_of, &part, resolution) {
            continue;
        }
        let ids: BTreeSet<i64> = part.iter().flat_map(|&at| resolution.groups[at].members.iter().copied()).collect();
        let shared = shared_keys(&group_keys, &part, |key| key.kind.is_weak());
        reviews.push(Review { members: ids.into_iter().collect(), why: ReviewReason::Possible, keys: shared });
        held.extend(part.into_iter().filter(|&at| resolution.groups[at].entity.is_none()));
    }
    let mut at = 0;
    resolution.groups.retain(|_| {
        at += 1;
        !held.contains(&(at - 1))
    });
    resolution.reviews.extend(reviews);
}

/// Whether groups with a weak key in common might be one person: somebody is not linked yet, they stand in different
/// connections, and nobody said they are different.
fn possible(members: &[Member<'_>], index_of: &BTreeMap<i64, usize>, part: &[usize], resolution: &Resolution) -> bool {
    let mut connections = BTreeSet::new();
    let mut loose = false;
    for &at in part {
        let group = &resolution.groups[at];
        loose |= group.entity.is_none();
        for id in &group.members {
            let member = &members[index_of[id]];
            let others = part.iter().filter(|&&other| other != at).filter_map(|&other| resolution.groups[other].entity);
            if others.into_iter().any(|entity| member.apart.contains(&entity)) {
                return false;
            }
            connections.insert(member.connection);
        }
    }
    loose && connections.len() > 1
}

fn sorted_ids(members: &[Member<'_>], part: &[usize]) -> Vec<i64> {
    let mut ids: Vec<i64> = part.iter().map(|&index| members[index].id).collect();
    ids.sort_unstable();
    ids
}

/// Keys of `part` that at least two of it have.
fn shared_keys(keys: &[BTreeSet<Key>], part: &[usize], counts: impl Fn(&Key) -> bool) -> Vec<Key> {
    let mut holders: BTreeMap<&Key, usize> = BTreeMap::new();
    for &index in part {
        for key in keys[index].iter().filter(|key| counts(key)) {
            *holders.entry(key).or_default() += 1;
        }
    }
    holders.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key.clone()).collect()
}

/// Connected components of items that share keys that count; each sorted, in the order of their first item.
pub fn connect(keys: &[BTreeSet<Key>], counts: impl Fn(&Key) -> bool) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..keys.len()).collect();
    fn root(parent: &mut [usize], mut at: usize) -> usize {
        while parent[at] != at {
            parent[at] = parent[parent[at]];
            at = parent[at];
        }
        at
    }
    let mut holder: BTreeMap<&Key, usize> = BTreeMap::new();
    for (index, own) in keys.iter().enumerate() {
        for key in own.iter().filter(|key| counts(key)) {
            let other = *holder.entry(key).or_insert(index);
            let (a, b) = (root(&mut parent, other), root(&mut parent, index));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..keys.len() {
        let root = root(&mut parent, index);
        parts.entry(root).or_default().push(index);
    }
    parts.into_values().collect()
}
