//! Field-level merge of any number of records of one person against what each of them last agreed on.
//!
//! Pure: the same inputs give the same result, whatever order the sides come in. Nothing is decided here about sending;
//! the result says what every side should be written, what its new base is, and which values were in conflict.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::{FieldName, Fields, Slot, Value, agree};
use crate::mapping::Mapping;
use crate::normalize;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Per record and field: what the record showed when it and the engine last agreed, and the golden value that stood for.
///
/// The two differ only where the far end rewrote the value or cannot hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedSlot {
    /// What the record showed.
    pub here: Slot,
    /// The golden value that it stood for.
    pub means: Slot,
}

/// The base of one record.
pub type Agreed = BTreeMap<FieldName, AgreedSlot>;

/// Whose clock a time was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The vendor's: when the change was made.
    Vendor,
    /// Ours: when it was read, or decided here. It says nothing about when the change was made.
    #[default]
    Ours,
}

/// One golden value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenSlot {
    /// The value.
    pub slot: Slot,
    /// Connection that it came from.
    pub from: String,
    /// When it changed there, else when it was first seen.
    pub at: Millis,
    /// Which of the two `at` is.
    #[serde(default)]
    pub clock: Clock,
    /// The rule that made it golden.
    pub rule: String,
}

/// What all records of one person should show.
pub type Golden = BTreeMap<FieldName, GoldenSlot>;

/// Who wins when several sides changed one field differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The latest change by vendor time; a person decides where one of the values has no such time. Times of ours are never
    /// compared: what is read later was not changed later.
    Latest,
    /// The first connection in this list; unlisted ones come last, by name.
    Order(Vec<String>),
    /// A person decides.
    Review,
}

/// The policies of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// For fields without their own.
    pub default: Policy,
    /// By field.
    pub fields: BTreeMap<FieldName, Policy>,
}

impl Policies {
    /// The policy of one field.
    pub fn of(&self, field: &FieldName) -> &Policy {
        self.fields.get(field).unwrap_or(&self.default)
    }
}

impl Default for Policies {
    fn default() -> Policies {
        Policies { default: Policy::Latest, fields: BTreeMap::new() }
    }
}

/// One record taking part in a merge.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its connection.
    pub connection: &'a str,
    /// Its id there.
    pub external_id: &'a str,
    /// What it shows.
    pub observed: &'a Fields,
    /// Its base.
    pub agreed: &'a Agreed,
    /// When the vendor says it changed; none when that time cannot be trusted.
    pub changed_at: Option<Millis>,
    /// When it was read.
    pub observed_at: Millis,
    /// How its vendor's fields and the canonical ones correspond.
    pub mapping: &'a Mapping,
    /// The vendor's record as last read.
    pub remote: Option<&'a serde_json::Value>,
}

/// One value in a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who holds it.
    pub connection: String,
    /// The record that shows it; empty for the golden value.
    pub external_id: String,
    /// The value.
    pub slot: Slot,
    /// When it changed there, by the vendor's clock.
    pub changed_at: Option<Millis>,
}

/// A field that several sides hold differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldConflict {
    /// The field.
    pub field: FieldName,
    /// The values, in the order of connections.
    pub candidates: Vec<Candidate>,
    /// What policy chose; none when it waits for a person.
    pub winner: Option<Slot>,
    /// The rule that chose, or why nothing was chosen.
    pub rule: String,
}

/// Why a field of a side is left as it is, although it does not show the golden value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftAlone {
    /// Its mapping has no such field.
    NotMapped,
    /// Its mapping reads the field and never writes it.
    OnlyRead,
    /// What it shows is not valid in its kind, and why.
    Invalid(String),
    /// What stands there cannot be read.
    Unreadable,
    /// It shows the value as far as it can hold it.
    AsFarAsItCan,
    /// It cannot hold the value.
    CannotHold,
    /// It made another value of it.
    Rewritten,
    /// A person has to decide which value is golden.
    Waits,
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            LeftAlone::NotMapped => "its mapping has no such field",
            LeftAlone::OnlyRead => "its mapping reads it and never writes it",
            LeftAlone::Invalid(why) => return write!(out, "what it shows is not valid and not written over: {why}"),
            LeftAlone::Unreadable => "what stands there cannot be read and is not written over",
            LeftAlone::AsFarAsItCan => "it shows the value as far as it can hold it",
            LeftAlone::CannotHold => "it cannot hold the value",
            LeftAlone::Rewritten => "it made another value of the one it was given, and is not argued with",
            LeftAlone::Waits => "it waits for a person to decide",
        })
    }
}

/// What follows for one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideResult {
    /// Golden values to write there.
    pub write: Fields,
    /// What those fields show now.
    pub before: Fields,
    /// The new base, where it differs from the old one.
    pub agreed: Option<Agreed>,
    /// Fields whose value here is not valid in its kind, with why: they have no say and are not written over.
    pub invalid: BTreeMap<FieldName, String>,
}

/// The result of a merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The new golden values; none when they are the old ones.
    pub golden: Option<Golden>,
    /// One result for each side, in the order they were given.
    pub sides: Vec<SideResult>,
    /// Conflicts, those that policy settled included: the losing values are in them.
    pub conflicts: Vec<FieldConflict>,
}

/// What a field's sides say about its golden value.
enum Outcome {
    /// Nothing new.
    Keep,
    /// This slot becomes golden.
    New(GoldenSlot),
    /// A person has to decide; nothing is written for this field.
    Wait,
}

/// Merges the records of one person.
pub fn merge(golden: &Golden, sides: &[Side<'_>], policies: &Policies) -> Merged {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|&index| (sides[index].connection, sides[index].external_id));
    let mut merged = Merged { golden: None, sides: vec![SideResult::default(); sides.len()], conflicts: Vec::new() };
    let mut fields: Vec<&FieldName> = golden.keys().chain(sides.iter().flat_map(|side| side.observed.keys())).collect();
    fields.sort_unstable();
    fields.dedup();
    for field in fields {
        let decision = decide(field, golden.get(field), sides, &order, policies, &mut merged);
        match decision {
            Outcome::Wait => continue,
            Outcome::Keep => {}
            Outcome::New(slot) => {
                tell_left_behind(field, &slot, sides, &order, &mut merged.conflicts);
                merged.golden.get_or_insert_with(|| golden.clone()).insert(field.clone(), slot);
            }
        }
        if let Some(wanted) = merged.golden.as_ref().unwrap_or(golden).get(field) {
            for (side, result) in sides.iter().zip(&mut merged.sides) {
                follow(field, &wanted.slot, side, result);
            }
        }
    }
    merged
}

/// A side that shows another value and cannot be written stays different from now on: that is told, once.
fn tell_left_behind(
    field: &FieldName,
    golden: &GoldenSlot,
    sides: &[Side<'_>],
    order: &[usize],
    conflicts: &mut Vec<FieldConflict>,
) {
    let stays = |side: &Side<'_>| {
        let shown = side.observed.get(field).filter(|slot| **slot != Slot::Cleared)?;
        let differs = !agree(shown, &golden.slot) && side.mapping.provides(field) && !side.mapping.accepts(field);
        differs.then(|| candidate(side, shown))
    };
    let mut candidates: Vec<Candidate> = order.iter().filter_map(|&index| stays(&sides[index])).collect();
    if candidates.is_empty() || conflicts.iter().any(|conflict| conflict.field == *field) {
        return;
    }
    let rule = format!("{} is not written, and stays different", candidates[0].connection);
    candidates.push(Candidate {
        connection: golden.from.clone(),
        external_id: String::new(),
        slot: golden.slot.clone(),
        changed_at: (golden.clock == Clock::Vendor).then_some(golden.at),
    });
    let winner = Some(golden.slot.clone());
    conflicts.push(FieldConflict { field: field.clone(), candidates, winner, rule });
}

/// What one side brings to the question which value of a field is golden.
enum Voice<'a> {
    /// Nothing, or nothing new.
    Silent,
    /// A value that it shows without a base: the two meet for the first time.
    New(&'a Slot),
    /// A value that is not what it last agreed on.
    Changed(&'a Slot),
    /// A value that is not valid, and why.
    Invalid(String),
}

fn voice<'a>(field: &FieldName, side: &Side<'a>) -> Voice<'a> {
    let Some(observed) = side.observed.get(field) else { return Voice::Silent };
    let base = side.agreed.get(field);
    if base.is_some_and(|base| agree(observed, &base.here)) || !side.mapping.provides(field) {
        return Voice::Silent;
    }
    if let Some(why) = verdict(field, observed) {
        return Voice::Invalid(why);
    }
    if base.is_some() { Voice::Changed(observed) } else { Voice::New(observed) }
}

/// Whether this is all that the side can show of another value: then it holds no other opinion.
fn is_all_it_can_show(field: &FieldName, slot: &Slot, side: &Side<'_>, other: &Slot) -> bool {
    !agree(slot, other) && agree(slot, &side.mapping.project(field, other, side.remote))
}

/// Whether a side with a base has been given the golden value; an edit there was made knowing of it, and replaces it.
fn knows(field: &FieldName, side: &Side<'_>, golden: &GoldenSlot) -> Option<bool> {
    side.agreed.get(field).map(|base| agree(&base.means, &golden.slot))
}

fn decide(
    field: &FieldName,
    golden: Option<&GoldenSlot>,
    sides: &[Side<'_>],
    order: &[usize],
    policies: &Policies,
    merged: &mut Merged,
) -> Outcome {
    let mut candidates: Vec<(usize, &Slot)> = Vec::new();
    let mut newcomers = 0;
    let mut changed = 0;
    for &index in order {
        match voice(field, &sides[index]) {
            // At a first meeting a blank has no say: it is filled from the others.
            Voice::Silent | Voice::New(Slot::Cleared) => {}
            Voice::New(slot) => {
                newcomers += 1;
                candidates.push((index, slot));
            }
            Voice::Changed(slot) => {
                changed += 1;
                candidates.push((index, slot));
            }
            Voice::Invalid(why) => {
                merged.sides[index].invalid.insert(field.clone(), why);
            }
        }
    }
    if newcomers > 0 && (candidates.len() > 1 || golden.is_some()) {
        // A newcomer that shows a value as far as it can hold it agrees with it: a text cut short, a number without its
        // extension.
        let all: Vec<&Slot> = candidates.iter().map(|(_, slot)| *slot).chain(golden.map(|held| &held.slot)).collect();
        candidates.retain(|&(index, slot)| {
            let side = &sides[index];
            let met = side.agreed.contains_key(field);
            let stays = met || !all.iter().any(|other| is_all_it_can_show(field, slot, side, other));
            newcomers -= usize::from(!stays);
            stays
        });
    }
    let Some(&(first, slot)) = candidates.first() else { return Outcome::Keep };
    // Newcomers meet the golden value as one more opinion, and so does an edit that was made before the golden value got
    // there; unless somebody who had it has just replaced it.
    let held = golden.filter(|golden| {
        let known: Vec<_> = candidates.iter().map(|&(index, _)| knows(field, &sides[index], golden)).collect();
        let is_met = newcomers > 0 && golden.slot != Slot::Cleared;
        !known.contains(&Some(true)) && (is_met || known.contains(&Some(false)))
    });
    // Every two of them: a whole name agrees with splits that do not agree with each other.
    let same = candidates.iter().enumerate().all(|(at, (_, one))| {
        candidates[at + 1..].iter().all(|(_, other)| agree(one, other))
            && held.is_none_or(|held| agree(one, &held.slot))
    });
    if same {
        let (index, slot) = fullest(&candidates).unwrap_or((first, slot));
        let rule = match (changed, newcomers) {
            (0, _) => "first seen here",
            (1, _) => "changed here",
            _ => "changed to the same value in several places",
        };
        return adopt(golden, slot, &sides[index], rule);
    }
    let mut all: Vec<Candidate> = candidates.iter().map(|&(index, slot)| candidate(&sides[index], slot)).collect();
    if let Some(held) = held
        && !candidates.iter().any(|&(index, slot)| sides[index].connection == held.from && agree(slot, &held.slot))
    {
        all.push(Candidate {
            connection: held.from.clone(),
            external_id: String::new(),
            slot: held.slot.clone(),
            changed_at: (held.clock == Clock::Vendor).then_some(held.at),
        });
        all.sort_by(|a, b| (&a.connection, &a.external_id).cmp(&(&b.connection, &b.external_id)));
    }
    settle(field, golden, sides, all, policies.of(field), &mut merged.conflicts)
}

fn settle(
    field: &FieldName,
    golden: Option<&GoldenSlot>,
    sides: &[Side<'_>],
    all: Vec<Candidate>,
    policy: &Policy,
    conflicts: &mut Vec<FieldConflict>,
) -> Outcome {
    let (winner, rule) = match policy {
        Policy::Review => (None, "a person decides"),
        Policy::Latest if all.iter().all(|candidate| candidate.changed_at.is_some()) => {
            // Of several at the same instant the first in the order of connections wins.
            (all.iter().rev().max_by_key(|candidate| candidate.changed_at), "the latest change wins")
        }
        Policy::Latest => (None, "the latest change would win, and a trustworthy time is missing"),
        Policy::Order(list) => {
            let rank = |c: &Candidate| list.iter().position(|name| *name == c.connection).unwrap_or(list.len());
            (all.iter().min_by_key(|candidate| rank(candidate)), "the order of connections decides")
        }
    };
    let outcome = match winner {
        None => Outcome::Wait,
        Some(winner) => {
            match sides.iter().find(|s| s.connection == winner.connection && s.external_id == winner.external_id) {
                Some(side) => adopt(golden, &winner.slot, side, rule),
                None => Outcome::Keep,
            }
        }
    };
    let winner = winner.map(|winner| winner.slot.clone());
    conflicts.push(FieldConflict { field: field.clone(), candidates: all, winner, rule: rule.to_owned() });
    outcome
}

/// Of agreeing names the one that is kept in parts says most.
fn fullest<'a>(candidates: &[(usize, &'a Slot)]) -> Option<(usize, &'a Slot)> {
    candidates.iter().copied().find(|(_, slot)| matches!(slot, Slot::Set(Value::Name(name)) if name.given.is_some()))
}

fn adopt(golden: Option<&GoldenSlot>, slot: &Slot, side: &Side<'_>, rule: &str) -> Outcome {
    if let Some(golden) = golden
        && agree(&golden.slot, slot)
        && !says_more(slot, &golden.slot)
    {
        return Outcome::Keep;
    }
    Outcome::New(GoldenSlot {
        slot: slot.clone(),
        from: side.connection.to_owned(),
        at: side.changed_at.unwrap_or(side.observed_at),
        clock: if side.changed_at.is_some() { Clock::Vendor } else { Clock::Ours },
        rule: rule.to_owned(),
    })
}

fn says_more(slot: &Slot, than: &Slot) -> bool {
    match (slot, than) {
        (Slot::Set(Value::Name(a)), Slot::Set(Value::Name(b))) => a.given.is_some() && b.given.is_none(),
        _ => false,
    }
}

fn candidate(side: &Side<'_>, slot: &Slot) -> Candidate {
    Candidate {
        connection: side.connection.to_owned(),
        external_id: side.external_id.to_owned(),
        slot: slot.clone(),
        changed_at: side.changed_at,
    }
}

/// What is done about one field of one side.
enum Step {
    /// It shows what it is to show, or all that it ever will: that is its new base.
    Settle(Option<LeftAlone>),
    /// Nothing.
    Leave(LeftAlone),
    /// It is written.
    Write,
}

fn step(field: &FieldName, wanted: &Slot, side: &Side<'_>) -> Step {
    let observed = side.observed.get(field);
    let unreadable = || side.remote.is_some_and(|remote| side.mapping.is_unreadable(field, remote));
    match observed.map(|observed| verdict(field, observed)) {
        Some(Some(why)) => return Step::Leave(LeftAlone::Invalid(why)),
        None if unreadable() => return Step::Leave(LeftAlone::Unreadable),
        _ => {}
    }
    let here = observed.unwrap_or(&Slot::Cleared);
    if !side.mapping.accepts(field) {
        return match side.mapping.provides(field) {
            true => Step::Settle((!agree(here, wanted)).then_some(LeftAlone::OnlyRead)),
            false => Step::Leave(LeftAlone::NotMapped),
        };
    }
    let projected = side.mapping.project(field, wanted, side.remote);
    // A vendor that cannot hold the value at all is not argued with.
    let unholdable = projected == Slot::Cleared && *wanted != Slot::Cleared;
    if agree(here, &projected) {
        let short = if unholdable { LeftAlone::CannotHold } else { LeftAlone::AsFarAsItCan };
        return Step::Settle((!agree(here, wanted)).then_some(short));
    }
    let base = side.agreed.get(field);
    if base.is_some_and(|base| agree(&base.means, wanted) && agree(&base.here, here)) {
        return Step::Leave(LeftAlone::Rewritten);
    }
    match unholdable {
        true => Step::Leave(LeftAlone::CannotHold),
        false if unreadable() => Step::Leave(LeftAlone::Unreadable),
        false => Step::Write,
    }
}

/// Brings one side to the golden value: a new base where it shows it already, else a write.
fn follow(field: &FieldName, wanted: &Slot, side: &Side<'_>, result: &mut SideResult) {
    let observed = side.observed.get(field);
    let base = side.agreed.get(field);
    if let (Some(observed), Some(base)) = (observed, base)
        && base.here == *observed
        && base.means == *wanted
    {
        return;
    }
    match step(field, wanted, side) {
        Step::Leave(_) => {}
        Step::Settle(_) => {
            if let Some(observed) = observed {
                note(field, observed, wanted, side, result);
            }
        }
        Step::Write => {
            let here = observed.unwrap_or(&Slot::Cleared);
            // What it shows has been taken into account: should the write be lost, it must not count as an edit the next
            // time.
            if observed.is_some() && base.is_none_or(|base| !agree(&base.here, here)) {
                note(field, here, here, side, result);
            }
            result.write.insert(field.clone(), wanted.clone());
            result.before.insert(field.clone(), here.clone());
        }
    }
}

/// Why each side's fields are left as they are where they do not show the golden value, as [`merge`] decided it: one map for
/// each side, in the order they were given. What is to be written is not among them.
pub fn left_alone(golden: &Golden, sides: &[Side<'_>], merged: &Merged) -> Vec<BTreeMap<FieldName, LeftAlone>> {
    let golden = merged.golden.as_ref().unwrap_or(golden);
    let waiting: Vec<&FieldName> =
        merged.conflicts.iter().filter(|found| found.winner.is_none()).map(|found| &found.field).collect();
    let of_side = |side: &Side<'_>| {
        let mut left = BTreeMap::new();
        for field in golden.keys().chain(waiting.iter().copied()) {
            let is_mapped = side.mapping.accepts(field) || side.mapping.provides(field);
            let why = match golden.get(field) {
                _ if waiting.contains(&field) && is_mapped => Some(LeftAlone::Waits),
                Some(wanted) => match step(field, &wanted.slot, side) {
                    Step::Settle(why) => why,
                    Step::Leave(why) => Some(why),
                    Step::Write => None,
                },
                None => Some(LeftAlone::NotMapped),
            };
            left.extend(why.map(|why| (field.clone(), why)));
        }
        left
    };
    sides.iter().map(of_side).collect()
}

/// Takes `here` as the base for `wanted`.
fn note(field: &FieldName, here: &Slot, wanted: &Slot, side: &Side<'_>, result: &mut SideResult) {
    if side.agreed.get(field).is_some_and(|base| base.here == *here && base.means == *wanted) {
        return;
    }
    let slot = AgreedSlot { here: here.clone(), means: wanted.clone() };
    result.agreed.get_or_insert_with(|| side.agreed.clone()).insert(field.clone(), slot);
}

/// Whether a value is one that other systems may be given.
///
/// [`verdict`] says why not.
pub fn is_valid(field: &FieldName, slot: &Slot) -> bool {
    match slot {
        Slot::Set(Value::Text(text)) => normalize::is_valid(field.kind(), text),
        // One bad item holds the whole list back: without it the list would be another one.
        Slot::Set(Value::Set(items)) => items.iter().all(|item| normalize::is_valid(field.kind(), item)),
        _ => true,
    }
}

/// Why a value is not one that other systems may be given, for people; none when it is.
pub fn verdict(field: &FieldName, slot: &Slot) -> Option<String> {
    if is_valid(field, slot) {
        return None;
    }
    let texts: Vec<&str> = match slot {
        Slot::Set(Value::Text(text)) => vec![text],
        Slot::Set(Value::Set(items)) => items.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let wrong = texts.into_iter().find(|text| !normalize::is_valid(field.kind(), text)).unwrap_or_default();
    Some(normalize::objection(field.kind(), wrong))
}
