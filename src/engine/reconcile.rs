//! From changed records to planned operations: identify, merge, plan, in batches whose effects are stored at once.
//!
//! Nothing is sent here. What earlier runs planned and did not send has been thrown away before, so that the plan comes
//! from what was observed, never from what was once intended.

use std::collections::{BTreeMap, BTreeSet};

use counterpart_connectors::Millis;
use counterpart_core::guard::Tripped;
use counterpart_core::identity::{self, Evidence, IdentityRules, Key, Member, Review, ReviewReason};
use counterpart_core::merge::{self, Merged, Side};
use counterpart_core::plan::{Action, Lane, Operation};
use counterpart_core::{Agreed, Fields, Golden};

use serde_json::json;

use super::deletion::{Departing, Departures};
use super::progress::Event;
use super::session::{STREAM, Session, Wired};
use super::{Engine, EngineError};
use crate::config::{SyncConfig, WriteCheck};
use crate::mutation::{self, Mutation};
use crate::store::{
    Conflict, ConflictState, Entity, NewConflict, PlannedOp, Reconciled, Record, RecordState, RecordUpdate,
};

/// Records taken at once. Bounds memory; everything that belongs together is loaded on top.
const BATCH: u64 = 500;
/// Rounds of following shared keys before a component counts as too many.
const MAX_HOPS: usize = 6;

/// The records of one person, and what is to become of them.
#[derive(Default)]
struct Person {
    records: Vec<Record>,
    golden: counterpart_core::merge::Golden,
    created_at: Millis,
}

/// Everything one batch needs, loaded once.
struct Batch {
    /// Ids of the records that made this batch due.
    due: BTreeSet<i64>,
    people: BTreeMap<i64, Person>,
    /// Records that wait for a person's word on who they are.
    doubtful: BTreeSet<i64>,
    evidence: BTreeMap<i64, Evidence>,
    open: Vec<Conflict>,
    out: Reconciled,
}

impl Engine {
    /// Plans everything that is due in this session's group of connections. Returns the guards that the records which
    /// are gone have tripped, and counts those that go in `departed`.
    pub(super) async fn reconcile(
        &self,
        session: &Session,
        departing: Departing,
        departed: &mut BTreeMap<String, u64>,
    ) -> Result<Vec<Tripped>, EngineError> {
        let tripped = self.guard_departures(session).await?;
        let held: BTreeSet<String> = match departing {
            Departing::Capped => tripped.iter().map(|guard| guard.connection.clone()).collect(),
            Departing::Shown | Departing::Approved => BTreeSet::new(),
        };
        let group: Vec<String> = session.group.iter().cloned().collect();
        let total = self.store.count_dirty(STREAM, &group).await?;
        self.index_keys(&group).await?;
        let mut done = 0;
        let mut after = 0;
        loop {
            let as_of = self.store.revision().await?;
            let due = self.store.dirty_records(STREAM, &group, after, BATCH).await?;
            let Some(last) = due.last() else { return Ok(tripped) };
            after = last.id;
            done += due.len() as u64;
            let mut out = self.reconcile_batch(session, &held, &group, due, departed).await?;
            departing.restrain(&mut out);
            out.as_of = Some(as_of);
            self.store.save_reconciled(&out, self.clock.now()).await?;
            self.progress.event(Event::Reconciling { done, total });
        }
    }

    /// Writes the identity keys of all changed records first: only then does the order in which records came not matter.
    async fn index_keys(&self, group: &[String]) -> Result<(), EngineError> {
        let rules = self.identity_rules();
        let mut after = 0;
        loop {
            let due = self.store.dirty_records(STREAM, group, after, BATCH).await?;
            let Some(last) = due.last() else { return Ok(()) };
            after = last.id;
            let rows: Vec<_> = due
                .iter()
                .map(|record| {
                    let keys = match record.state {
                        RecordState::Live | RecordState::Missing => identity::keys(&record.fields, rules),
                        RecordState::Deleted | RecordState::Merged => BTreeSet::new(),
                    };
                    (record.id, keys.iter().map(Key::to_parts).collect())
                })
                .collect();
            self.store.replace_keys(&rows).await?;
        }
    }

    async fn reconcile_batch(
        &self,
        session: &Session,
        held: &BTreeSet<String>,
        group: &[String],
        due: Vec<Record>,
        departed: &mut BTreeMap<String, u64>,
    ) -> Result<Reconciled, EngineError> {
        let mut batch = Batch {
            due: due.iter().map(|record| record.id).collect(),
            people: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            evidence: BTreeMap::new(),
            open: Vec::new(),
            out: Reconciled::default(),
        };
        let known = self.identify(&mut batch, group, due).await?;
        self.load_people(&mut batch, group, known).await?;
        let departures =
            self.departures(session, held, &batch.due, batch.people.values().flat_map(|p| &p.records)).await?;
        let people = std::mem::take(&mut batch.people);
        for record in people.values().flat_map(|person| &person.records) {
            if record.state != RecordState::Deleted && departures.leaves_now(record) {
                *departed.entry(record.connection.clone()).or_default() += 1;
            }
        }
        let unsettled = self.unsettled(group).await?;
        for (entity, person) in people {
            if unsettled.contains(&entity) {
                // What one of the records shows may be our own write: it is not compared before that is known.
                let due = person.records.iter().filter(|record| batch.due.contains(&record.id));
                batch.out.records.extend(due.map(|record| RecordUpdate::due(record.id)));
                continue;
            }
            self.reconcile_person(session, &mut batch, entity, person, &departures);
        }
        // A due record that ended in no person (it waits in review, or is gone) is settled for now.
        let written: BTreeSet<i64> = batch.out.records.iter().map(|update| update.id).collect();
        let rest: Vec<i64> = batch.due.difference(&written).copied().collect();
        batch.out.records.extend(rest.into_iter().map(RecordUpdate::settled));
        Ok(batch.out)
    }

    /// People with an update whose outcome is not known.
    async fn unsettled(&self, group: &[String]) -> Result<BTreeSet<i64>, EngineError> {
        let rows = self.store.open_unknown(group).await?;
        let updates = rows.into_iter().filter(|row| matches!(row.op.action, Action::Update { .. }));
        Ok(updates.map(|row| row.entity_id).collect())
    }

    // ---- who is who ------------------------------------------------------------------------------------------------

    /// Links what can be linked, queues what is doubtful, and returns the records by person.
    async fn identify(
        &self,
        batch: &mut Batch,
        group: &[String],
        due: Vec<Record>,
    ) -> Result<BTreeMap<i64, Vec<Record>>, EngineError> {
        let mut by_person: BTreeMap<i64, Vec<Record>> = BTreeMap::new();
        let (linked, loose): (Vec<Record>, Vec<Record>) =
            due.into_iter().partition(|record| record.entity_id.is_some());
        for record in linked {
            let entity = record.entity_id.expect("partitioned by it");
            by_person.entry(entity).or_default().push(record);
        }
        let loose: Vec<Record> = loose.into_iter().filter(|record| record.state == RecordState::Live).collect();
        if loose.is_empty() {
            return Ok(by_person);
        }
        let rules = self.identity_rules();
        let components = self.components(group, loose).await?;
        let ids: Vec<i64> = components.iter().flatten().map(|record| record.id).collect();
        let entities: Vec<i64> = components.iter().flatten().filter_map(|record| record.entity_id).collect();
        batch.open = self.store.open_conflicts_of(&entities, &ids).await?;
        let mut resolved = Vec::with_capacity(components.len());
        for component in components {
            let gone: BTreeMap<i64, String> = component
                .iter()
                .filter(|record| record.state != RecordState::Live)
                .map(|record| (record.id, format!("{} (gone)", record.connection)))
                .collect();
            let members: Vec<Member<'_>> = component
                .iter()
                .map(|record| Member {
                    id: record.id,
                    // A record that is gone still tells who its person is, and leaves room for its successor.
                    connection: gone.get(&record.id).unwrap_or(&record.connection),
                    external_id: &record.external_id,
                    entity: record.entity_id,
                    fields: &record.fields,
                    apart: &record.apart,
                })
                .collect();
            let resolution = identity::resolve(&members, rules);
            let records: BTreeMap<i64, Record> = component.into_iter().map(|record| (record.id, record)).collect();
            let mut reviews = BTreeSet::new();
            for review in &resolution.reviews {
                let conflict = review_conflict(review, &records);
                reviews.insert(conflict.key.clone());
                batch.doubtful.extend(review.members.iter().copied());
                batch.out.conflicts.push(conflict);
            }
            batch.out.closed_conflicts.extend(stale_reviews(&batch.open, &records, &reviews));
            resolved.push((records, resolution.groups));
        }
        let unnamed = resolved.iter().flat_map(|(_, groups)| groups).filter(|found| found.entity.is_none()).count();
        let mut fresh = self.store.new_entity_ids(unnamed as u64).await?.into_iter();
        for (mut records, groups) in resolved {
            for found in groups {
                let entity = match found.entity {
                    Some(entity) => entity,
                    None => fresh.next().expect("one id was asked for each unnamed group"),
                };
                batch.evidence.extend(found.evidence);
                for id in found.members {
                    if let Some(record) = records.remove(&id) {
                        by_person.entry(entity).or_default().push(record);
                    }
                }
            }
        }
        Ok(by_person)
    }

    /// The records that share keys with `loose`, directly or through others, sorted into connected components.
    async fn components(&self, group: &[String], loose: Vec<Record>) -> Result<Vec<Vec<Record>>, EngineError> {
        let rules = self.identity_rules();
        let mut records: BTreeMap<i64, Record> = BTreeMap::new();
        let mut asked: BTreeSet<(String, String)> = BTreeSet::new();
        let mut fresh = loose;
        for _ in 0..MAX_HOPS {
            let mut keys = Vec::new();
            for record in &fresh {
                for key in identity::keys(&record.fields, rules) {
                    let parts = key.to_parts();
                    if asked.insert(parts.clone()) {
                        keys.push(parts);
                    }
                }
            }
            records.extend(fresh.drain(..).map(|record| (record.id, record)));
            if keys.is_empty() {
                break;
            }
            fresh = self
                .store
                .records_by_keys(STREAM, &keys)
                .await?
                .into_iter()
                .filter(|record| {
                    !records.contains_key(&record.id)
                        && group.contains(&record.connection)
                        && matches!(record.state, RecordState::Live | RecordState::Missing)
                })
                .collect();
        }
        records.extend(fresh.into_iter().map(|record| (record.id, record)));
        Ok(connected(records, rules))
    }

    // ---- what becomes of a person ----------------------------------------------------------------------------------

    /// Completes every person with the records that are not due themselves, and the golden values.
    async fn load_people(
        &self,
        batch: &mut Batch,
        group: &[String],
        known: BTreeMap<i64, Vec<Record>>,
    ) -> Result<(), EngineError> {
        let ids: Vec<i64> = known.keys().copied().collect();
        for entity in self.store.entities(&ids).await? {
            let person = batch.people.entry(entity.id).or_default();
            person.golden = entity.golden;
            person.created_at = entity.created_at;
        }
        let mut records: BTreeMap<i64, (i64, Record)> = BTreeMap::new();
        for record in self.store.records_of_entities(STREAM, &ids).await? {
            if let Some(entity) = record.entity_id
                && group.contains(&record.connection)
            {
                records.insert(record.id, (entity, record));
            }
        }
        for (entity, found) in known {
            batch.people.entry(entity).or_default();
            records.extend(found.into_iter().map(|record| (record.id, (entity, record))));
        }
        let record_ids: Vec<i64> = records.keys().copied().collect();
        batch.open.extend(self.store.open_conflicts_of(&ids, &record_ids).await?);
        for (entity, record) in records.into_values() {
            batch.people.entry(entity).or_default().records.push(record);
        }
        Ok(())
    }

    fn reconcile_person(
        &self,
        session: &Session,
        batch: &mut Batch,
        entity: i64,
        mut person: Person,
        departures: &Departures,
    ) {
        person.records.sort_by(|a, b| (&a.connection, &a.external_id).cmp(&(&b.connection, &b.external_id)));
        let now = self.clock.now();
        let sides: Vec<usize> = (0..person.records.len())
            .filter(|&index| {
                departures.is_present(&person.records[index]) && self.mapping(&person.records[index]).is_some()
            })
            .collect();
        let connections: BTreeSet<&str> =
            sides.iter().map(|&index| person.records[index].connection.as_str()).collect();
        let policy = session.policy_for(&connections);
        let merged = self.merge_person(&person, &sides, policy);

        let sources: Vec<String> = sides
            .iter()
            .map(|&index| format!("{}/{}", person.records[index].connection, person.records[index].external_id))
            .collect();
        let mut planner = Planner {
            session,
            batch,
            entity,
            sources: &sources,
            connections: &connections,
            elsewhere: false,
            refused: BTreeSet::new(),
        };
        planner.departures(&person, departures);
        for (&index, side) in sides.iter().zip(&merged.sides) {
            planner.update(&person.records[index], side);
        }
        planner.creates(self, &person, &merged);
        planner.close_refusals(&person);
        let waits_elsewhere = planner.elsewhere;
        self.save_person(batch, entity, &person, &sides, merged, departures, waits_elsewhere, now);
    }

    fn merge_person(&self, person: &Person, sides: &[usize], policy: &SyncConfig) -> Merged {
        let nothing = Agreed::new();
        let mut sides: Vec<Side<'_>> = sides.iter().filter_map(|&index| self.side(&person.records[index])).collect();
        if mutation::is_planted(Mutation::MergeForgetsTheBase) {
            sides.iter_mut().for_each(|side| side.agreed = &nothing);
        }
        merge::merge(&person.golden, &sides, &policy.conflict)
    }

    /// A record as it takes part in a merge; none where the configuration knows its connection no more.
    pub(super) fn side<'a>(&'a self, record: &'a Record) -> Option<Side<'a>> {
        let config = self.config.connections.get(&record.connection);
        Some(Side {
            connection: &record.connection,
            external_id: &record.external_id,
            observed: &record.fields,
            agreed: &record.agreed,
            changed_at: record.remote_updated_at.filter(|_| config.is_none_or(|config| config.trust_clock)),
            observed_at: record.observed_at,
            mapping: self.mapping(record)?,
            remote: Some(&record.remote),
        })
    }

    fn mapping(&self, record: &Record) -> Option<&counterpart_core::mapping::Mapping> {
        self.mappings.get(&record.connection).map(|mapping| &**mapping)
    }

    #[expect(clippy::too_many_arguments, reason = "the pieces of one person's outcome, gathered in one place")]
    fn save_person(
        &self,
        batch: &mut Batch,
        entity: i64,
        person: &Person,
        sides: &[usize],
        merged: Merged,
        departures: &Departures,
        waits_elsewhere: bool,
        now: Millis,
    ) {
        for conflict in &merged.conflicts {
            batch.out.conflicts.push(field_conflict(entity, conflict));
        }
        batch.out.closed_conflicts.extend(settled_fields(&batch.open, entity, &merged));
        let mut invalid = BTreeSet::new();
        for (&index, side) in sides.iter().zip(&merged.sides) {
            for (field, why) in &side.invalid {
                let conflict = invalid_conflict(entity, &person.records[index], field.as_str(), why);
                invalid.insert(conflict.key.clone());
                batch.out.conflicts.push(conflict);
            }
        }
        let over =
            |open: &&Conflict| open.kind == "invalid" && open.entity_id == Some(entity) && !invalid.contains(&open.key);
        batch.out.closed_conflicts.extend(batch.open.iter().filter(over).map(|open| open.id));
        let created_at = if person.created_at == 0 { now } else { person.created_at };
        if person.created_at == 0 || merged.golden.is_some() {
            let golden = merged.golden.unwrap_or_else(|| person.golden.clone());
            batch.out.entities.push(Entity { id: entity, kind: "contact".to_owned(), golden, created_at });
        }
        let mut agreed: BTreeMap<usize, _> =
            sides.iter().copied().zip(merged.sides.into_iter().map(|side| side.agreed)).collect();
        for (index, record) in person.records.iter().enumerate() {
            let agreed = agreed.remove(&index).flatten();
            let state = departures.state_of(record);
            let newly_linked = record.entity_id.is_none();
            // What another run's connections still need is found again by leaving the record due.
            let dirty = waits_elsewhere && record.state == RecordState::Live || departures.waits(record);
            let due = batch.due.contains(&record.id);
            if agreed.is_none() && state.is_none() && !newly_linked && dirty == record.dirty && !due {
                continue;
            }
            batch.out.records.push(RecordUpdate {
                id: record.id,
                entity_id: Some(entity),
                agreed,
                evidence: batch.evidence.remove(&record.id),
                linked_at: newly_linked.then_some(now),
                state,
                apart: None,
                dirty,
            });
        }
    }
}

/// Turns one person's merge into operations.
struct Planner<'a> {
    session: &'a Session,
    batch: &'a mut Batch,
    entity: i64,
    sources: &'a [String],
    connections: &'a BTreeSet<&'a str>,
    /// Something is due at a connection that this run does not write to.
    elsewhere: bool,
    /// Refusals, and questions about runs that were taken back, that still hold something back.
    refused: BTreeSet<i64>,
}

impl Planner<'_> {
    fn update(&mut self, record: &Record, side: &merge::SideResult) {
        if side.write.is_empty() {
            return;
        }
        let mut fields = Fields::new();
        for (name, slot) in &side.write {
            if !self.is_refused(&record.connection, name.as_str(), slot) && !self.is_taken_back(name.as_str(), slot) {
                fields.insert(name.clone(), slot.clone());
            }
        }
        if fields.is_empty() {
            return;
        }
        let Some(wired) = self.target(&record.connection) else { return };
        if !wired.capabilities().update || wired.config.read_only {
            return;
        }
        let before = side.before.iter().filter(|(name, _)| fields.contains_key(*name));
        let before = before.map(|(name, slot)| (name.clone(), slot.clone())).collect();
        let names: Vec<&str> = fields.keys().map(|name| name.as_str()).collect();
        let reason = format!("{} differ from the agreed value", names.join(", "));
        let read_first = u32::from(wired.config.write_check == WriteCheck::Read && wired.capabilities().fetch);
        let cost = wired.capabilities().calls_per_update + read_first;
        let action = Action::Update { external_id: record.external_id.clone() };
        self.push(&wired, action, fields, before, cost, reason, Some(record.id));
    }

    /// Creates the person where it is wanted and nothing of it is known.
    fn creates(&mut self, engine: &Engine, person: &Person, merged: &Merged) {
        let in_doubt = person.records.iter().any(|record| self.batch.doubtful.contains(&record.id))
            || self.batch.open.iter().any(|conflict| {
                conflict.kind == "identity"
                    && conflict.record_ids.iter().any(|id| person.records.iter().any(|r| r.id == *id))
            });
        if self.connections.is_empty() || in_doubt {
            return;
        }
        let known: BTreeSet<&str> = person.records.iter().map(|record| record.connection.as_str()).collect();
        let targets: BTreeSet<&String> = engine
            .config
            .syncs
            .iter()
            .filter(|sync| sync.between.iter().any(|name| self.connections.contains(name.as_str())))
            .flat_map(|sync| sync.create.as_ref().unwrap_or(&sync.between))
            .filter(|name| !known.contains(name.as_str()))
            .collect();
        for name in targets {
            let Some(wired) = self.target(name) else { continue };
            if !self.session.is_read(name) {
                self.elsewhere = true;
                continue;
            }
            self.create(&wired, merged, &person.golden);
        }
    }

    fn create(&mut self, wired: &Wired, merged: &Merged, golden: &Golden) {
        let capabilities = wired.capabilities();
        if !capabilities.create || wired.config.read_only {
            return;
        }
        let fields = wired.mapping.creation(merged.golden.as_ref().unwrap_or(golden));
        let has = |name: &String| fields.keys().any(|field| field.as_str() == name);
        if fields.is_empty() || !capabilities.required_for_create.iter().all(has) {
            return;
        }
        let refused =
            fields.iter().filter(|(name, slot)| self.is_refused(&wired.name, name.as_str(), slot)).count() > 0;
        let unsettled = self.batch.open.iter().any(|conflict| {
            conflict.kind == "unknown"
                && conflict.entity_id == Some(self.entity)
                && conflict.field.as_deref() == Some(&wired.name)
        });
        if refused || unsettled {
            return;
        }
        let reason = format!("known at {} and not here", self.sources.join(", "));
        let cost = capabilities.calls_per_create;
        self.push(wired, Action::Create, fields, Fields::new(), cost, reason, None);
    }

    /// Tells of records that are gone. Nothing is deleted elsewhere for it.
    fn departures(&mut self, person: &Person, departures: &Departures) {
        for record in person.records.iter().filter(|record| departures.leaves_now(record)) {
            self.batch.out.conflicts.push(departures.notice(self.entity, record));
        }
    }

    /// The connection, when this run writes there; else remembers that something is left for another run.
    fn target(&mut self, name: &str) -> Option<std::sync::Arc<Wired>> {
        let found = self.session.wired.get(name).cloned();
        self.elsewhere |= found.is_none();
        found
    }

    /// Whether the vendor has refused exactly this value here and nobody has looked at it yet.
    fn is_refused(&mut self, connection: &str, field: &str, slot: &counterpart_core::Slot) -> bool {
        let found = refusal(&self.batch.open, self.entity, connection, field, slot);
        self.refused.extend(found.map(|conflict| conflict.id));
        found.is_some()
    }

    /// Whether a run that gave this value was taken back and nobody has said yet which one is to stand.
    fn is_taken_back(&mut self, field: &str, slot: &counterpart_core::Slot) -> bool {
        let found = taken_back(&self.batch.open, self.entity, field, slot);
        self.refused.extend(found.map(|conflict| conflict.id));
        found.is_some()
    }

    /// Refusals and questions that hold nothing back any more are over. A record that is not seen now may show the difference
    /// again when it is.
    fn close_refusals(&mut self, person: &Person) {
        let unseen = person.records.iter().any(|record| record.state == RecordState::Missing);
        let over = self.batch.open.iter().filter(|conflict| {
            (conflict.kind == "refused" || (is_question_of_revert(conflict) && !unseen))
                && conflict.entity_id == Some(self.entity)
                && !self.refused.contains(&conflict.id)
        });
        let over: Vec<i64> = over.map(|conflict| conflict.id).collect();
        self.batch.out.closed_conflicts.extend(over);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one operation")]
    fn push(
        &mut self,
        wired: &Wired,
        action: Action,
        fields: Fields,
        before: Fields,
        cost: u32,
        reason: String,
        record_id: Option<i64>,
    ) {
        let side_effects = wired.capabilities().side_effects.get(action.name()).cloned().unwrap_or_default();
        let sync = self
            .session
            .sync_for(&wired.name, self.connections)
            .map_or_else(|| self.session.syncs[0].name.clone(), |sync| sync.name.clone());
        let sources = self.sources.to_vec();
        let op = Operation::new(
            wired.name.clone(),
            STREAM.to_owned(),
            action,
            fields,
            before,
            cost,
            Lane::Incremental,
            reason,
            side_effects,
            sources,
        );
        self.batch.out.operations.push(PlannedOp {
            op,
            entity_id: self.entity,
            record_id,
            sync,
            run_id: self.session.run,
        });
    }
}

/// The entry that says that the vendor has refused this value of a person, and that nobody has looked at yet.
pub(super) fn refusal<'a>(
    open: &'a [Conflict],
    entity: i64,
    connection: &str,
    field: &str,
    slot: &counterpart_core::Slot,
) -> Option<&'a Conflict> {
    open.iter().find(|conflict| {
        conflict.kind == "refused"
            && conflict.state == ConflictState::Open
            && conflict.entity_id == Some(entity)
            && conflict.detail["connection"] == connection
            && conflict.detail["fields"].get(field).is_some_and(|value| *value == json!(slot))
    })
}

/// The entry that asks whether this value or the one before it is to stand.
pub(super) fn taken_back<'a>(
    open: &'a [Conflict],
    entity: i64,
    field: &str,
    slot: &counterpart_core::Slot,
) -> Option<&'a Conflict> {
    open.iter().find(|conflict| {
        is_question_of_revert(conflict)
            && conflict.state == ConflictState::Open
            && conflict.entity_id == Some(entity)
            && conflict.field.as_deref() == Some(field)
            && conflict.detail["taken_back"] == json!(slot)
    })
}

/// Whether an entry asks which value is to stand after a run was taken back.
pub(super) fn is_question_of_revert(conflict: &Conflict) -> bool {
    conflict.kind == "field" && conflict.detail.get("taken_back").is_some()
}

// ---- the queue -----------------------------------------------------------------------------------------------------

fn review_conflict(review: &Review, records: &BTreeMap<i64, Record>) -> NewConflict {
    let mut names: Vec<String> = review
        .members
        .iter()
        .filter_map(|id| records.get(id))
        .map(|record| format!("{}/{}", record.connection, record.external_id))
        .collect();
    names.sort();
    let kind = match review.why {
        ReviewReason::Possible => "possible",
        ReviewReason::Duplicate => "duplicate",
        ReviewReason::SeveralEntities | ReviewReason::KeysDisagree | ReviewReason::TooMany => "identity",
    };
    NewConflict {
        kind: kind.to_owned(),
        key: format!("{kind}:{}", names.join(" ")),
        entity_id: None,
        record_ids: review.members.clone(),
        field: None,
        detail: json!({ "why": review.why, "keys": review.keys, "records": names }),
        settled: None,
    }
}

/// Open reviews of these records that nothing speaks for any more.
fn stale_reviews(open: &[Conflict], records: &BTreeMap<i64, Record>, found: &BTreeSet<String>) -> Vec<i64> {
    open.iter()
        .filter(|conflict| matches!(conflict.kind.as_str(), "identity" | "possible" | "duplicate"))
        .filter(|conflict| {
            conflict.record_ids.iter().any(|id| records.contains_key(id)) && !found.contains(&conflict.key)
        })
        .map(|conflict| conflict.id)
        .collect()
}

/// The key of the question which value of a person's field is to stand.
pub(super) fn field_key(entity: i64, field: &str) -> String {
    format!("field:{entity}:{field}")
}

fn field_conflict(entity: i64, conflict: &merge::FieldConflict) -> NewConflict {
    NewConflict {
        kind: "field".to_owned(),
        key: field_key(entity, conflict.field.as_str()),
        entity_id: Some(entity),
        record_ids: Vec::new(),
        field: Some(conflict.field.to_string()),
        detail: json!({ "candidates": conflict.candidates, "winner": conflict.winner, "rule": conflict.rule }),
        settled: conflict.winner.as_ref().map(|_| conflict.rule.clone()),
    }
}

/// A value that is not one of its kind is left where it is; who keeps that system in order is told.
fn invalid_conflict(entity: i64, record: &Record, field: &str, why: &str) -> NewConflict {
    NewConflict {
        kind: "invalid".to_owned(),
        key: format!("invalid:{}/{}:{field}", record.connection, record.external_id),
        entity_id: Some(entity),
        record_ids: vec![record.id],
        field: Some(field.to_owned()),
        detail: json!({ "connection": record.connection, "external_id": record.external_id, "why": why }),
        settled: None,
    }
}

/// Open field conflicts of a person that this merge has not found again.
fn settled_fields(open: &[Conflict], entity: i64, merged: &Merged) -> Vec<i64> {
    open.iter()
        .filter(|conflict| conflict.kind == "field" && conflict.entity_id == Some(entity))
        .filter(|conflict| !is_question_of_revert(conflict))
        .filter(|open| {
            let waits = |found: &merge::FieldConflict| {
                found.winner.is_none() && open.field.as_deref() == Some(found.field.as_str())
            };
            !merged.conflicts.iter().any(waits)
        })
        .map(|conflict| conflict.id)
        .collect()
}

/// Sorts records into sets that are tied together by keys, weak ones included.
fn connected(records: BTreeMap<i64, Record>, rules: &IdentityRules) -> Vec<Vec<Record>> {
    let records: Vec<Record> = records.into_values().collect();
    let keys: Vec<BTreeSet<Key>> = records.iter().map(|record| identity::keys(&record.fields, rules)).collect();
    let parts = identity::connect(&keys, |_| true);
    let mut slots: Vec<Option<Record>> = records.into_iter().map(Some).collect();
    parts.into_iter().map(|part| part.into_iter().filter_map(|index| slots[index].take()).collect()).collect()
}
