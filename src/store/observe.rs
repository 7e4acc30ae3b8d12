//! Taking in what a vendor showed: new and changed records are stored, unchanged ones cost nothing.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use super::record::MAX_MERGES;
use super::sequence::{Sequence, draw, hold_records};
use super::tables::{body, record};
use super::{BATCH, Millis, RecordState, Result, Scan, Store, StreamState, of_tenant, scan, stream};

/// One row of a page, read through the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The vendor's id.
    pub external_id: String,
    /// What the vendor sent, as JSON.
    pub remote: String,
    /// What it says in the common model, as canonical JSON.
    pub fields: String,
    /// Hash of what it says.
    pub fingerprint: String,
    /// When the vendor says it changed.
    pub remote_updated_at: Option<Millis>,
    /// The vendor's token for this state of it.
    pub version: Option<String>,
    /// Whether the vendor says that it is gone.
    pub deleted: bool,
}

/// What a page brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOutcome {
    /// Records never seen before.
    pub new: u64,
    /// Known records that differ from what was stored.
    pub changed: u64,
    /// Known records that do not.
    pub same: u64,
    /// Records this scan had not seen before.
    pub first_seen: u64,
    /// Numbers of the new and changed records.
    pub changed_ids: Vec<i64>,
}

/// What a stored record says when it is read in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restated {
    /// Number of the record.
    pub id: i64,
    /// What it says in the common model, as JSON.
    pub fields: String,
    /// Hash of what it says.
    pub fingerprint: String,
}

/// Whether changed records wait for reconciling afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Yes: somebody else changed them.
    Reconcile,
    /// No: they show what we wrote ourselves.
    Rest,
}

/// Two sightings are needed before a missing record is acted on; the vendor's own word counts as two.
pub(super) const ENOUGH_SCANS: i32 = 2;

impl Store {
    /// Takes in one page: records, marks, counters, cursor and state of the stream are one commit.
    ///
    /// `scan` comes with the cursor of the next page set and goes back with its counters raised. A record
    /// that was missing or deleted and shows up again is live again. A row under the id of a merged record
    /// counts as a sighting of the survivor; its content is old and is left alone.
    pub async fn observe_page(
        &self,
        connection: &str,
        stream: &str,
        rows: &[Incoming],
        scan: &mut Scan,
        state: &StreamState,
        now: Millis,
    ) -> Result<PageOutcome> {
        let tx = self.begin().await?;
        let place = Place { store: self, connection, stream, now };
        let seen = place.take_in(&tx, rows, Then::Reconcile).await?;
        let ids: BTreeSet<i64> = seen.ids.values().copied().collect();
        let mut outcome = seen.outcome;
        outcome.first_seen = scan::mark(&tx, self.tenant(), scan.id, &ids).await?;
        let mut after = scan.clone();
        after.pages += 1;
        after.rows += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        after.distinct += i64::try_from(outcome.first_seen).unwrap_or(i64::MAX);
        self.save_scan(&tx, &after).await?;
        stream::save(&tx, self.tenant(), connection, stream, state).await?;
        tx.commit().await?;
        *scan = after;
        Ok(outcome)
    }

    /// Takes in one record that was fetched or found, outside any scan, and returns its number.
    pub async fn observe_one(&self, connection: &str, stream: &str, row: &Incoming, now: Millis) -> Result<i64> {
        let tx = self.begin().await?;
        let place = Place { store: self, connection, stream, now };
        let id = place.take_in_one(&tx, row, Then::Reconcile).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Keeps what records say when they are read anew. Nobody looks at them again for it, and what changed since a
    /// [`revision`](Store::revision) stays as it is.
    pub async fn restate(&self, rows: &[Restated], as_of: i64) -> Result<()> {
        let tx = self.begin().await?;
        hold_records(&tx).await?;
        for row in rows {
            let done = record::Entity::update_many()
                .col_expr(record::Column::Fingerprint, Expr::value(row.fingerprint.as_str()))
                .filter(of_tenant(record::Column::Tenant, self.tenant()))
                .filter(record::Column::Id.eq(row.id))
                .filter(record::Column::Revision.lte(as_of))
                .filter(record::Column::Fingerprint.ne(row.fingerprint.as_str()))
                .exec(&tx)
                .await?;
            if done.rows_affected == 1 {
                body::Entity::update_many()
                    .col_expr(body::Column::Fields, Expr::value(row.fields.as_str()))
                    .filter(of_tenant(body::Column::Tenant, self.tenant()))
                    .filter(body::Column::RecordId.eq(row.id))
                    .exec(&tx)
                    .await?;
            }
        }
        Ok(tx.commit().await?)
    }
}

/// Where rows belong.
pub(super) struct Place<'a> {
    pub store: &'a Store,
    pub connection: &'a str,
    pub stream: &'a str,
    pub now: Millis,
}

/// Record numbers by the vendor's id, and what was new.
struct Seen<'a> {
    ids: BTreeMap<&'a str, i64>,
    outcome: PageOutcome,
}

/// What is known of a record when its row comes in.
#[derive(Clone, Debug)]
struct Known {
    id: i64,
    fingerprint: String,
    state: RecordState,
    missing_scans: i32,
    version: Option<String>,
    merged_into: Option<String>,
    remote_updated_at: Option<Millis>,
}

/// What a row does to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// Same content under another token: stored, not worth reconciling.
    Refresh,
    Change,
}

impl Known {
    /// Whether the row shows a state that the vendor itself says is older than the one that is known: a page that was on
    /// its way while a webhook's record was read again must not put it back.
    fn is_newer_than(&self, row: &Incoming) -> bool {
        let times = self.remote_updated_at.zip(row.remote_updated_at);
        self.state == RecordState::Live && !row.deleted && times.is_some_and(|(known, shown)| shown < known)
    }

    fn effect(&self, row: &Incoming) -> Effect {
        if row.deleted {
            let accepted = self.state == RecordState::Deleted
                || (self.state == RecordState::Missing && self.missing_scans >= ENOUGH_SCANS);
            return if accepted { Effect::Nothing } else { Effect::Change };
        }
        if self.fingerprint != row.fingerprint || self.state != RecordState::Live {
            Effect::Change
        } else if row.version.is_some() && self.version != row.version {
            Effect::Refresh
        } else {
            Effect::Nothing
        }
    }
}

impl Place<'_> {
    /// Takes in one row and returns its record's number.
    pub async fn take_in_one<C: ConnectionTrait>(&self, tx: &C, row: &Incoming, then: Then) -> Result<i64> {
        let seen = self.take_in(tx, std::slice::from_ref(row), then).await?;
        if let Some(&id) = seen.ids.get(row.external_id.as_str()) {
            return Ok(id);
        }
        // A merged record whose survivor was never seen: the old number is all there is.
        let old = self.store.find(tx, self.connection, self.stream, &row.external_id).await?;
        old.map(|old| old.id).ok_or(super::StoreError::NotFound { what: "record", id: row.external_id.clone() })
    }

    /// Takes in rows outside any scan and returns their numbers.
    pub async fn keep<C: ConnectionTrait>(&self, tx: &C, rows: &[Incoming], then: Then) -> Result<Vec<i64>> {
        let seen = self.take_in(tx, rows, then).await?;
        Ok(seen.ids.into_values().collect())
    }

    async fn take_in<'r, C: ConnectionTrait>(&self, tx: &C, rows: &'r [Incoming], then: Then) -> Result<Seen<'r>> {
        let rows = last_of_each(rows);
        hold_records(tx).await?;
        let known = self.known(tx, &rows).await?;
        let mut seen = Seen { ids: BTreeMap::new(), outcome: PageOutcome::default() };
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for row in rows {
            let Some(known) = known.get(row.external_id.as_str()) else {
                new.push(row);
                continue;
            };
            if known.state == RecordState::Merged {
                if let Some(survivor) = self.survivor(tx, known).await? {
                    seen.ids.insert(&row.external_id, survivor);
                }
                seen.outcome.same += 1;
                continue;
            }
            seen.ids.insert(&row.external_id, known.id);
            // People are merged from what every side shows, and a side that goes back is a change like any other.
            if self.stream != "contact" && known.is_newer_than(row) {
                seen.outcome.same += 1;
                continue;
            }
            match known.effect(row) {
                Effect::Nothing => seen.outcome.same += 1,
                effect => {
                    if effect == Effect::Change {
                        seen.outcome.changed += 1;
                        seen.outcome.changed_ids.push(known.id);
                    } else {
                        seen.outcome.same += 1;
                    }
                    changed.push((known.id, effect, row));
                }
            }
        }
        if !new.is_empty() {
            let n = i64::try_from(new.len()).expect("a page fits into memory");
            let first = draw(tx, Sequence::Record, n).await?;
            let new: Vec<_> = (first..).zip(new).collect();
            self.insert(tx, &new, then).await?;
            seen.outcome.new = n.unsigned_abs();
            for (id, row) in new {
                seen.ids.insert(&row.external_id, id);
                seen.outcome.changed_ids.push(id);
            }
        }
        changed.sort_by_key(|(id, ..)| *id);
        self.update(tx, &changed, then).await?;
        seen.outcome.changed_ids.sort_unstable();
        Ok(seen)
    }

    async fn known<C: ConnectionTrait>(&self, tx: &C, rows: &[&Incoming]) -> Result<BTreeMap<String, Known>> {
        use record::Column;
        type Row = (String, i64, String, RecordState, i32, Option<String>, Option<String>, Option<Millis>);
        let mut known = BTreeMap::new();
        for part in rows.chunks(BATCH) {
            let found: Vec<Row> = record::Entity::find()
                .select_only()
                .columns([
                    Column::ExternalId,
                    Column::Id,
                    Column::Fingerprint,
                    Column::State,
                    Column::MissingScans,
                    Column::Version,
                    Column::MergedInto,
                    Column::RemoteUpdatedAt,
                ])
                .filter(Column::Tenant.eq(self.store.tenant()))
                .filter(Column::Connection.eq(self.connection))
                .filter(Column::Stream.eq(self.stream))
                .filter(Column::ExternalId.is_in(part.iter().map(|row| row.external_id.as_str())))
                .into_tuple()
                .all(tx)
                .await?;
            for (external_id, id, fingerprint, state, missing_scans, version, merged_into, remote_updated_at) in found {
                let row = Known { id, fingerprint, state, missing_scans, version, merged_into, remote_updated_at };
                known.insert(external_id, row);
            }
        }
        Ok(known)
    }

    /// The record a merged one lives on in, if that was seen.
    async fn survivor<C: ConnectionTrait>(&self, tx: &C, merged: &Known) -> Result<Option<i64>> {
        let mut next = merged.merged_into.clone();
        for _ in 0..MAX_MERGES {
            let Some(external_id) = next else { break };
            let row = self.store.find(tx, self.connection, self.stream, &external_id).await?;
            match row {
                Some(row) if row.state == RecordState::Merged => next = row.merged_into,
                Some(row) => return Ok(Some(row.id)),
                None => break,
            }
        }
        Ok(None)
    }

    async fn insert<C: ConnectionTrait>(&self, tx: &C, rows: &[(i64, &Incoming)], then: Then) -> Result<()> {
        let revision = match then {
            Then::Reconcile => Some(draw(tx, Sequence::Revision, 1).await?),
            Then::Rest => None,
        };
        for part in rows.chunks(BATCH) {
            let narrow = part.iter().map(|(id, row)| {
                let mut narrow = self.narrow(*id, row, revision);
                // A tombstone of something never seen is remembered, and nothing is to be done about it.
                if row.deleted {
                    narrow.state = Set(RecordState::Deleted);
                    narrow.dirty = Set(false);
                }
                narrow
            });
            record::Entity::insert_many(narrow).exec_without_returning(tx).await?;
            body::Entity::insert_many(part.iter().map(|(id, row)| self.body(*id, row)))
                .exec_without_returning(tx)
                .await?;
        }
        Ok(())
    }

    async fn update<C: ConnectionTrait>(&self, tx: &C, rows: &[(i64, Effect, &Incoming)], then: Then) -> Result<()> {
        use record::Column;
        for effect in [Effect::Change, Effect::Refresh] {
            let rows: Vec<_> = rows.iter().filter(|row| row.1 == effect).collect();
            if rows.is_empty() {
                continue;
            }
            let revision = match (effect, then) {
                (Effect::Change, Then::Reconcile) => Some(draw(tx, Sequence::Revision, 1).await?),
                _ => None,
            };
            let mut on_conflict = OnConflict::column(Column::Id);
            on_conflict.update_columns([
                Column::State,
                Column::MissingScans,
                Column::Fingerprint,
                Column::ObservedAt,
                Column::RemoteUpdatedAt,
                Column::Version,
            ]);
            if revision.is_some() {
                on_conflict.update_columns([Column::Dirty, Column::Revision]);
            }
            for part in rows.chunks(BATCH) {
                let narrow = part.iter().map(|(id, _, row)| self.narrow(*id, row, revision));
                record::Entity::insert_many(narrow).on_conflict(on_conflict.clone()).exec_without_returning(tx).await?;
                // What a tombstone carries is not what the record said.
                let bodies: Vec<_> =
                    part.iter().filter(|(_, _, row)| !row.deleted).map(|(id, _, row)| self.body(*id, row)).collect();
                if bodies.is_empty() {
                    continue;
                }
                body::Entity::insert_many(bodies)
                    .on_conflict(
                        OnConflict::column(body::Column::RecordId)
                            .update_columns([body::Column::Fields, body::Column::Remote])
                            .to_owned(),
                    )
                    .exec_without_returning(tx)
                    .await?;
            }
        }
        Ok(())
    }

    /// The narrow row; dirty when it gets a revision.
    fn narrow(&self, id: i64, row: &Incoming, revision: Option<i64>) -> record::ActiveModel {
        record::ActiveModel {
            id: Set(id),
            tenant: Set(self.store.tenant().to_owned()),
            connection: Set(self.connection.to_owned()),
            stream: Set(self.stream.to_owned()),
            external_id: Set(row.external_id.clone()),
            state: Set(if row.deleted { RecordState::Missing } else { RecordState::Live }),
            dirty: Set(revision.is_some()),
            revision: Set(revision.unwrap_or_default()),
            missing_scans: Set(if row.deleted { ENOUGH_SCANS } else { 0 }),
            fingerprint: Set(row.fingerprint.clone()),
            observed_at: Set(self.now),
            remote_updated_at: Set(row.remote_updated_at),
            version: Set(row.version.clone()),
            ..Default::default()
        }
    }

    fn body(&self, id: i64, row: &Incoming) -> body::ActiveModel {
        body::ActiveModel {
            record_id: Set(id),
            tenant: Set(self.store.tenant().to_owned()),
            fields: Set(row.fields.clone()),
            remote: Set(row.remote.clone()),
        }
    }
}

/// One row per id, the last one shown, in the order in which the ids came first.
fn last_of_each(rows: &[Incoming]) -> Vec<&Incoming> {
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kept: Vec<&Incoming> = Vec::with_capacity(rows.len());
    for row in rows {
        match at.get(row.external_id.as_str()) {
            Some(&index) => kept[index] = row,
            None => {
                at.insert(&row.external_id, kept.len());
                kept.push(row);
            }
        }
    }
    kept
}
