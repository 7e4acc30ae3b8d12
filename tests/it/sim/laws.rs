//! What must be true of a world that has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use counterpart::engine::RunReport;
use counterpart::store::{Conflict, ConflictFilter, RecordState};
use counterpart_core::agree;
use counterpart_sandbox::{Person, Vendor};

use super::world::{Made, Violation, World};

/// Everybody in the world, by e-mail address and instance.
type People = BTreeMap<String, BTreeMap<String, Vec<Person>>>;

/// Checks every law that can be seen from outside, and quiescence by running once more.
pub async fn check(world: &mut World, quiet: &RunReport) -> Result<(), Violation> {
    let people = people(world);
    no_doubles(&people)?;
    nobody_lost(world, &people).await?;
    nothing_invented(world, &people)?;
    last_edits_arrived(world, &people)?;
    records_agree(world).await?;
    budget_kept(world)?;
    honest(world, quiet).await?;
    quiescent(world).await
}

fn people(world: &World) -> People {
    let mut people = People::new();
    for (instance, _) in &world.plan.instances {
        for person in world.sandbox.people(instance) {
            if person.deleted {
                continue;
            }
            let email = person.email.clone().unwrap_or_default().to_lowercase();
            people.entry(email).or_default().entry(instance.clone()).or_default().push(person);
        }
    }
    people
}

/// Never two far-end records for one person.
fn no_doubles(people: &People) -> Result<(), Violation> {
    for (email, places) in people {
        for (instance, found) in places {
            if found.len() > 1 {
                let ids: Vec<&str> = found.iter().map(|person| person.id.as_str()).collect();
                let what = format!("{email} stands {} times in {instance}: {ids:?}", found.len());
                return Err(Violation { law: "L5 one record for each person", what });
            }
        }
    }
    Ok(())
}

/// L1: everybody is known everywhere, or waits in a visible queue.
async fn nobody_lost(world: &World, people: &People) -> Result<(), Violation> {
    let open = open_conflicts(world).await?;
    for (email, places) in people {
        for (instance, _) in &world.plan.instances {
            if !places.contains_key(instance) && !waits(world, &open, places).await? {
                let what = format!("{email} is missing in {instance}; waiting: {open:#?}");
                return Err(Violation { law: "L1", what });
            }
        }
    }
    Ok(())
}

async fn open_conflicts(world: &World) -> Result<Vec<Conflict>, Violation> {
    let filter = ConflictFilter { open_only: true, limit: 1000, ..ConflictFilter::default() };
    world.store.conflicts(&filter).await.map_err(|error| Violation { law: "store", what: error.to_string() })
}

/// Whether something about one of these people's records waits for a person.
async fn waits(world: &World, open: &[Conflict], places: &BTreeMap<String, Vec<Person>>) -> Result<bool, Violation> {
    for (instance, found) in places {
        for person in found {
            let record = world.store.record(instance, "contact", &person.id).await;
            let record = record.map_err(|error| Violation { law: "store", what: error.to_string() })?;
            if let Some(record) = record
                && open.iter().any(|entry| {
                    entry.record_ids.contains(&record.id)
                        || (entry.entity_id.is_some() && entry.entity_id == record.entity_id)
                })
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What a vendor can hold of a person, as the outside world names it.
fn shown(vendor: Vendor, person: &Person) -> BTreeMap<&'static str, String> {
    let mut shown = BTreeMap::new();
    shown.insert("full_name", squeeze(&person.full_name));
    if let Some(phone) = &person.phone {
        shown.insert("phone", digits(phone));
    }
    if vendor != Vendor::Chatway {
        shown.insert("company", person.company.clone().unwrap_or_default());
        shown.insert("city", person.city.clone().unwrap_or_default());
    }
    shown
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last digits identify a generated number in every written form.
fn digits(phone: &str) -> String {
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    digits[digits.len().saturating_sub(8)..].to_owned()
}

/// L4: whatever stands anywhere stood somewhere at the start or was put there by somebody.
fn nothing_invented(world: &World, people: &People) -> Result<(), Violation> {
    let made = world.made.lock().expect("nobody panics holding it");
    let mut known: BTreeSet<String> = world.initial.values().flatten().cloned().collect();
    known.extend(made.iter().map(|edit| edit.value.clone()));
    let phones: BTreeSet<String> = known.iter().map(|value| digits(value)).collect();
    for places in people.values() {
        for (instance, found) in places {
            let vendor = world.plan.instances.iter().find(|(name, _)| name == instance).expect("its own instance").1;
            for person in found {
                for (field, value) in shown(vendor, person) {
                    let fine = match field {
                        _ if value.is_empty() => true,
                        "phone" => phones.contains(&value),
                        // A name may be put together anew from parts that different people edited.
                        "full_name" => value.split(' ').all(|word| known.iter().any(|known| known.contains(word))),
                        // A far end may have made lower case of it; that is its doing.
                        _ => known.iter().any(|known| *known == value || known.to_lowercase() == value),
                    };
                    if !fine {
                        let what = format!("{field} `{value}` of {:?} in {instance} was never there", person.email);
                        return Err(Violation { law: "L4", what });
                    }
                }
            }
        }
    }
    Ok(())
}

/// L3: where only one side changed a field, its last edit stands everywhere; where several did, one of their last edits.
fn last_edits_arrived(world: &World, people: &People) -> Result<(), Violation> {
    let made = world.made.lock().expect("nobody panics holding it");
    let mut last: BTreeMap<(String, &str), BTreeMap<&str, &Made>> = BTreeMap::new();
    // What was edited before the first meeting is one of the values that meet there, and policy chooses among those; of
    // what was edited while they met nobody can say on which side of that it falls.
    let (from, to) = world.met_at.unwrap_or((i64::MAX, i64::MAX));
    let doubtful: BTreeSet<(String, &str)> = made
        .iter()
        .filter(|edit| edit.at > from.saturating_sub(10_000) && edit.at <= to)
        .map(|edit| (edit.email.to_lowercase(), edit.field))
        .collect();
    for edit in made.iter().filter(|edit| edit.at > to && matches!(edit.field, "company" | "city")) {
        let by_side = last.entry((edit.email.to_lowercase(), edit.field)).or_default();
        by_side.insert(&edit.instance, edit);
    }
    for ((email, field), sides) in last.into_iter().filter(|(key, _)| !doubtful.contains(key)) {
        let Some(places) = people.get(&email) else { continue };
        let wanted: BTreeSet<&str> = sides.values().map(|edit| edit.value.as_str()).collect();
        for (instance, found) in places {
            let vendor = world.plan.instances.iter().find(|(name, _)| name == instance).expect("its own instance").1;
            let Some(value) = shown(vendor, &found[0]).get(field).cloned() else { continue };
            if !wanted.contains(value.as_str()) {
                let what = format!("{field} of {email} in {instance} is `{value}`, edits were {wanted:?}");
                return Err(Violation { law: "L3", what });
            }
        }
    }
    Ok(())
}

/// L1 by the store's own record: every field of every linked record shows the golden value, or what the far end made of
/// it, or waits in a visible queue.
async fn records_agree(world: &World) -> Result<(), Violation> {
    let violation = |what: String| Violation { law: "L1", what };
    let open = open_conflicts(world).await?;
    for (instance, _) in &world.plan.instances {
        for person in world.sandbox.people(instance).into_iter().filter(|person| !person.deleted) {
            let record = world
                .store
                .record(instance, "contact", &person.id)
                .await
                .map_err(|error| violation(error.to_string()))?
                .ok_or_else(|| violation(format!("{} of {instance} is not known", person.id)))?;
            if record.state != RecordState::Live {
                return Err(violation(format!("{} of {instance} is {:?}", person.id, record.state)));
            }
            let waits = open.iter().any(|entry| {
                entry.record_ids.contains(&record.id)
                    || (entry.entity_id.is_some() && entry.entity_id == record.entity_id)
            });
            let Some(entity) = record.entity_id else {
                if waits {
                    continue;
                }
                return Err(violation(format!("{} of {instance} belongs to nobody and waits nowhere", person.id)));
            };
            let golden = world.store.entities(&[entity]).await.map_err(|error| violation(error.to_string()))?;
            let Some(golden) = golden.first() else {
                return Err(violation(format!("{} of {instance} points at no entity", person.id)));
            };
            for (field, agreed) in &record.agreed {
                let Some(golden) = golden.golden.get(field) else { continue };
                if !agree(&agreed.means, &golden.slot) && !waits {
                    let what = format!("{field} of {} in {instance}: {agreed:?} against {golden:?}", person.id);
                    return Err(violation(what));
                }
            }
        }
    }
    Ok(())
}

/// L6: in every sliding window no vendor saw more calls than it allows.
pub fn budget_kept(world: &World) -> Result<(), Violation> {
    for (instance, vendor) in &world.plan.instances {
        let (limit, window) = match vendor {
            Vendor::Chatway => (15, 60_000),
            Vendor::Chatwoot => (3000, 60_000),
            Vendor::Hubspot => (100, 10_000),
            _ => continue,
        };
        let times: Vec<i64> =
            world.sandbox.log().iter().filter(|call| call.instance == *instance).map(|call| call.at).collect();
        for (index, start) in times.iter().enumerate() {
            let seen = times[index..].iter().take_while(|at| **at < start + window).count();
            if seen > limit {
                let what = format!("{seen} calls at {instance} within {window} ms from {start}");
                return Err(Violation { law: "L6", what });
            }
        }
    }
    Ok(())
}

/// L10: the verdict is never better than the facts.
async fn honest(world: &World, quiet: &RunReport) -> Result<(), Violation> {
    let open = open_conflicts(world).await?;
    let code = quiet.verdict.exit_code();
    if code == 0 && !open.is_empty() {
        return Err(Violation { law: "L10", what: format!("exit code 0 with {} entries waiting", open.len()) });
    }
    Ok(())
}

/// L2: one more run writes nothing.
async fn quiescent(world: &mut World) -> Result<(), Violation> {
    world.sandbox.clear_log();
    let violation = |what: String| Violation { law: "L2", what };
    let report = world.run(None).await.map_err(|error| violation(error.to_string()))?;
    match world.writes() {
        0 => Ok(()),
        writes => {
            let run = report.expect("nobody kills it").run;
            let rows = world.store.ops(run, None, 20).await.expect("the store answers");
            let calls: Vec<String> = rows.iter().map(|row| row.op.line()).collect();
            Err(violation(format!("{writes} writes after everything had settled: {}", calls.join(", "))))
        }
    }
}
