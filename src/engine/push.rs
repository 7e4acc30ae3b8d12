//! Carrying out planned operations, one call after the other for each connection, and learning what the far end shows.
//!
//! A row is marked `sending` before its call and settled after it. Whoever finds a row still `sending` knows that the
//! process died in between, so the outcome is unknown: updates are derived again from what is observed, a create is first
//! looked for.

use std::collections::BTreeMap;

use counterpart_connectors::{ConnectorError, ErrorKind, Lane, MatchKey, Push, RemoteRecord, Written};
use counterpart_core::merge::{Agreed, AgreedSlot, Golden};
use counterpart_core::plan::Action;
use counterpart_core::{FieldName, Fields, Slot, Value, agree};
use serde_json::json;

use super::observe::{Observed, observe, observe_answer};
use super::progress::Event;
use super::session::{STREAM, Session, Wired};
use super::{Engine, EngineError};
use crate::config::WriteCheck;
use crate::mutation::{self, Mutation};
use crate::store::{NewConflict, OpResult, OpState, OutboxRow, Reconciled, RecordUpdate};

/// Operations loaded at once.
const BATCH: u64 = 50;
/// Calls that may fail one after the other before a connection is left alone for this run.
const MAX_FAILURES: u32 = 3;
/// How long a far end may take to show what was created before "not found" means that it is not there.
const SETTLE_MS: i64 = 60_000;

/// What one operation came to.
struct Outcome {
    state: OpState,
    error: Option<String>,
    seen: Option<RemoteRecord>,
    conflict: Option<NewConflict>,
    /// Fields that were really sent.
    sent: Fields,
    /// The vendor said that there is no such record.
    absent: bool,
}

impl Outcome {
    fn of(state: OpState, error: impl Into<String>) -> Outcome {
        Outcome { state, error: Some(error.into()), seen: None, conflict: None, sent: Fields::new(), absent: false }
    }

    fn dropped(why: &str) -> Outcome {
        Outcome::of(OpState::Dropped, why)
    }

    fn absent() -> Outcome {
        Outcome { absent: true, ..Outcome::dropped("not there any more") }
    }
}

impl Engine {
    /// Carries out this run's pending operations at one connection. Returns false when the connection was given up.
    pub(super) async fn push_all(&self, session: &Session, wired: &Wired, total: u64) -> Result<bool, EngineError> {
        let mut done = 0;
        let mut failures = 0;
        loop {
            let rows = self.store.next_ops(session.run, &wired.name, BATCH).await?;
            if rows.is_empty() {
                self.settle_unknown(wired, i64::MIN).await?;
                return Ok(true);
            }
            for row in rows {
                if self.stop.is_cancelled() {
                    return Ok(false);
                }
                match self.push_one(wired, &row).await? {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        self.note(&format!("{}: {}", wired.name, error.message));
                        failures += 1;
                        let hopeless =
                            matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::Stopped);
                        if hopeless || failures >= MAX_FAILURES {
                            return Ok(false);
                        }
                    }
                }
                done += 1;
                self.progress.event(Event::Pushing {
                    connection: &wired.name,
                    done,
                    total,
                    eta_ms: Some(self.eta(wired, total.saturating_sub(done), Lane::Incremental)),
                });
            }
        }
    }

    /// One operation: `Err` inside means that nothing happened and the operation stays pending.
    async fn push_one(&self, wired: &Wired, row: &OutboxRow) -> Result<Result<(), ConnectorError>, EngineError> {
        self.store.mark_sending(&row.id, self.clock.now()).await?;
        let outcome = match &row.op.action {
            Action::Update { external_id } => self.update(wired, row, external_id).await?,
            Action::Create => self.create(wired, row).await,
            Action::Delete { external_id } => self.delete(wired, row, external_id).await,
        };
        match outcome {
            Ok(outcome) => {
                self.settle(wired, row, outcome).await?;
                Ok(Ok(()))
            }
            Err(error) => {
                let text = Some(error.message.as_str());
                self.store.set_op(&row.id, OpState::Pending, text, None, self.clock.now()).await?;
                Ok(Err(error))
            }
        }
    }

    // ---- the three kinds of write ----------------------------------------------------------------------------------

    async fn update(
        &self,
        wired: &Wired,
        row: &OutboxRow,
        external_id: &str,
    ) -> Result<Result<Outcome, ConnectorError>, EngineError> {
        let known = self.store.record(&wired.name, STREAM, external_id).await?;
        let (mut remote, mut version) = known.map(|record| (record.remote, record.version)).unwrap_or_default();
        if wired.config.write_check == WriteCheck::Read && wired.capabilities().fetch {
            let current = match wired.connection.fetch(Lane::Incremental, STREAM, external_id).await {
                Ok(current) => current,
                Err(error) => return Ok(self.unwritten(wired, row, error)),
            };
            if current.id != external_id {
                self.store.set_alias(&wired.name, STREAM, external_id, &current.id, self.clock.now()).await?;
                return Ok(Ok(Outcome { seen: Some(current), ..Outcome::dropped("merged into another record") }));
            }
            let now = wired.mapping.read(&current.body, wired.region()).fields;
            if row.op.before.iter().any(|(name, before)| moved(now.get(name), before)) {
                return Ok(Ok(Outcome { seen: Some(current), ..Outcome::dropped("changed there meanwhile") }));
            }
            (remote, version) = (current.body, current.version);
        }
        match self.send_update(wired, row, external_id, &row.op.fields, &remote, version.as_deref()).await {
            Ok(written) => Ok(self.read_back(wired, external_id, written, row.op.fields.clone()).await),
            Err(error) if matches!(error.kind, ErrorKind::Invalid { .. }) && row.op.fields.len() > 1 => {
                self.update_singly(wired, row, external_id, remote, version).await
            }
            Err(error) => Ok(self.unwritten(wired, row, error)),
        }
    }

    /// One refused field must not hold back the others: each goes by itself, and only the refused ones wait.
    async fn update_singly(
        &self,
        wired: &Wired,
        row: &OutboxRow,
        external_id: &str,
        mut remote: serde_json::Value,
        mut version: Option<String>,
    ) -> Result<Result<Outcome, ConnectorError>, EngineError> {
        let mut sent = Fields::new();
        let mut refused = Fields::new();
        let mut seen = None;
        let mut why = String::new();
        for (name, slot) in &row.op.fields {
            let one = Fields::from([(name.clone(), slot.clone())]);
            match self.send_update(wired, row, external_id, &one, &remote, version.as_deref()).await {
                Ok(written) => {
                    if let Some(record) = written.record {
                        remote.clone_from(&record.body);
                        version.clone_from(&record.version);
                        seen = Some(record);
                    }
                    sent.extend(one);
                }
                Err(error) if matches!(error.kind, ErrorKind::Invalid { .. }) => {
                    why = error.message;
                    refused.extend(one);
                }
                Err(error) => return Ok(self.unwritten(wired, row, error)),
            }
        }
        let conflict = Some(refusal(row, &refused, &why));
        let state = if sent.is_empty() { OpState::Refused } else { OpState::Done };
        Ok(Ok(Outcome { state, error: Some(why), seen, conflict, sent, absent: false }))
    }

    async fn send_update(
        &self,
        wired: &Wired,
        row: &OutboxRow,
        external_id: &str,
        fields: &Fields,
        remote: &serde_json::Value,
        version: Option<&str>,
    ) -> Result<Written, ConnectorError> {
        let body = wired.mapping.write(fields, Some(remote));
        let push = Push::Update { id: external_id, body: &body, current: Some(remote), version };
        wired.connection.push(Lane::Incremental, STREAM, push, &row.id).await
    }

    async fn create(&self, wired: &Wired, row: &OutboxRow) -> Result<Outcome, ConnectorError> {
        let body = wired.mapping.write(&row.op.fields, None);
        match wired.connection.push(Lane::Incremental, STREAM, Push::Create { body: &body }, &row.id).await {
            Ok(written) => {
                let id = written.id.clone();
                self.read_back(wired, &id, written, row.op.fields.clone()).await
            }
            Err(error) => match &error.kind {
                ErrorKind::Conflict { holder: Some(holder), .. } => {
                    let seen = wired.connection.fetch(Lane::Incremental, STREAM, holder).await.ok();
                    let conflict = Some(refusal(row, &row.op.fields, &error.message));
                    Ok(Outcome { seen, conflict, ..Outcome::of(OpState::Refused, error.message) })
                }
                ErrorKind::OutcomeUnknown => Ok(self.probe(wired, row, &error.message).await),
                _ => self.unwritten(wired, row, error),
            },
        }
    }

    async fn delete(&self, wired: &Wired, row: &OutboxRow, external_id: &str) -> Result<Outcome, ConnectorError> {
        match wired.connection.push(Lane::Incremental, STREAM, Push::Delete { id: external_id }, &row.id).await {
            Ok(_) => Ok(Outcome { error: None, ..Outcome::of(OpState::Done, "") }),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Ok(Outcome { error: None, ..Outcome::of(OpState::Done, "") })
            }
            Err(error) => self.unwritten(wired, row, error),
        }
    }

    /// What the far end shows after a write: its answer, or the record read again when it answered without one.
    async fn read_back(
        &self,
        wired: &Wired,
        external_id: &str,
        written: Written,
        sent: Fields,
    ) -> Result<Outcome, ConnectorError> {
        // An answer that leaves out something that was sent does not tell what became of it.
        let tells = |record: &RemoteRecord| {
            let shown = wired.mapping.read(&record.body, wired.region()).fields;
            sent.keys().all(|name| !wired.mapping.provides(name) || shown.contains_key(name))
        };
        let seen = match written.record {
            Some(record) if tells(&record) || !wired.capabilities().fetch => Some(record),
            _ if wired.capabilities().fetch => {
                wired.connection.fetch(Lane::Incremental, STREAM, external_id).await.ok()
            }
            _ => None,
        };
        Ok(Outcome { state: OpState::Done, error: None, seen, conflict: None, sent, absent: false })
    }

    /// A create may have happened or not: the far end is asked where it can be asked. Not found so soon after the try
    /// proves nothing where listings lag, so the row then waits as `unknown`.
    async fn probe(&self, wired: &Wired, row: &OutboxRow, why: &str) -> Outcome {
        match self.look_for(wired, row).await {
            Ok(Some(found)) => Outcome {
                state: OpState::Done,
                error: None,
                seen: Some(found),
                conflict: None,
                sent: row.op.fields.clone(),
                absent: false,
            },
            _ => Outcome { conflict: Some(unknown(row, why)), ..Outcome::of(OpState::Unknown, why) },
        }
    }

    /// Looks for the person of a create by its strong keys. `None` when exactly nobody has them.
    async fn look_for(&self, wired: &Wired, row: &OutboxRow) -> Result<Option<RemoteRecord>, ConnectorError> {
        let searchable = &wired.capabilities().find;
        let mut asked = false;
        // It is found by what it can hold, such as a number without its extension.
        let held: Fields =
            row.op.fields.iter().map(|(name, slot)| (name.clone(), wired.mapping.project(name, slot, None))).collect();
        for key in match_keys(&held).into_iter().filter(|key| searchable.iter().any(|kind| kind == kind_of(key))) {
            asked = true;
            let mut found = wired.connection.find(Lane::Incremental, STREAM, &key).await?;
            if found.len() == 1 {
                return Ok(found.pop());
            }
        }
        if asked { Ok(None) } else { Err(ConnectorError::unsupported("no key to look for")) }
    }

    /// Sorts an error of a write into what is settled and what stays pending.
    fn unwritten(&self, wired: &Wired, row: &OutboxRow, error: ConnectorError) -> Result<Outcome, ConnectorError> {
        let message = error.message.clone();
        match error.kind {
            ErrorKind::NotFound => {
                match &row.op.action {
                    Action::Update { external_id } => {
                        self.note(&format!("{}/{external_id} is not there any more", wired.name));
                    }
                    _ => self.note(&format!("{}: {message}", wired.name)),
                }
                Ok(Outcome { conflict: Some(gone(row)), ..Outcome::absent() })
            }
            ErrorKind::Invalid { .. } | ErrorKind::Unsupported => Ok(Outcome {
                conflict: Some(refusal(row, &row.op.fields, &message)),
                ..Outcome::of(OpState::Refused, message)
            }),
            ErrorKind::Conflict { ref keys, .. } if keys.is_empty() => Ok(Outcome::dropped("changed there meanwhile")),
            ErrorKind::Conflict { .. } => Ok(Outcome {
                conflict: Some(refusal(row, &row.op.fields, &message)),
                ..Outcome::of(OpState::Refused, message)
            }),
            ErrorKind::OutcomeUnknown => Ok(Outcome::of(OpState::Unknown, message)),
            _ => Err(error),
        }
    }

    // ---- afterwards ------------------------------------------------------------------------------------------------

    /// Stores the operation's end, the record as seen, and the new base, at once.
    async fn settle(&self, wired: &Wired, row: &OutboxRow, outcome: Outcome) -> Result<(), EngineError> {
        let golden = self.store.entities(&[row.entity_id]).await?.pop().map(|entity| entity.golden).unwrap_or_default();
        let known = match &row.op.action {
            Action::Create => None,
            Action::Update { external_id } | Action::Delete { external_id } => {
                self.store.record(&wired.name, STREAM, external_id).await?
            }
        };
        let seen = outcome.seen.map(|record| match &known {
            Some(known) => observe_answer(wired, record, known, &outcome.sent),
            None => observe(wired, record),
        });
        let mut agreed = known.map(|record| record.agreed).unwrap_or_default();
        let dirty = match &seen {
            Some(seen) => agree_on(&mut agreed, seen, &outcome.sent, &golden),
            None => true,
        };
        if outcome.state == OpState::Dropped && matches!(row.op.action, Action::Create) {
            self.make_due(row.entity_id).await?;
        }
        let linked = outcome.state == OpState::Done || matches!(row.op.action, Action::Update { .. });
        // What was not done is planned again from what is there; what may have been done is left alone until that is known.
        let dirty = (dirty || outcome.state == OpState::Dropped) && outcome.state != OpState::Unknown;
        let now = self.clock.now();
        self.store
            .finish_push(
                &OpResult {
                    op_id: row.id.clone(),
                    state: outcome.state,
                    error: outcome.error,
                    answer: seen.as_ref().map(|seen| json!(seen.fields)),
                    connection: wired.name.clone(),
                    stream: STREAM.to_owned(),
                    record: seen.map(|seen| seen.row),
                    entity_id: linked.then_some(row.entity_id),
                    absent: outcome.absent,
                    deleted: matches!(row.op.action, Action::Delete { .. }) && outcome.state == OpState::Done,
                    agreed: linked.then_some(agreed),
                    dirty,
                    conflict: outcome.conflict,
                },
                now,
            )
            .await?;
        Ok(())
    }

    /// Lets the next round plan for a person again.
    async fn make_due(&self, entity: i64) -> Result<(), EngineError> {
        let records = self.store.records_of_entities(STREAM, &[entity]).await?;
        let records = records.iter().map(|record| RecordUpdate::due(record.id)).collect();
        let out = Reconciled { records, ..Reconciled::default() };
        Ok(self.store.save_reconciled(&out, self.clock.now()).await?)
    }

    /// At the start of a run: rows that a dead process left in `sending` may have happened.
    pub(super) async fn recover(&self, session: &Session) -> Result<(), EngineError> {
        let names: Vec<String> = session.wired.keys().cloned().collect();
        for row in self.store.sending_left(&names).await? {
            let wired = &session.wired[&row.op.connection];
            let why = "the process ended while this was being sent";
            let outcome = match self.look_after(wired, &row, i64::MIN).await {
                Some(known) => known,
                None if row.op.action == Action::Create => {
                    Outcome { conflict: Some(unknown(&row, why)), ..Outcome::of(OpState::Unknown, why) }
                }
                None => Outcome::of(OpState::Unknown, why),
            };
            self.settle(wired, &row, outcome).await?;
        }
        for wired in session.wired.values() {
            self.settle_unknown(wired, i64::MIN).await?;
        }
        Ok(())
    }

    /// Settles writes whose outcome is unknown by looking at the far end. What shows the values that were sent counts as
    /// our own doing, never as somebody's edit.
    ///
    /// `complete_since` is when a complete reading of the connection began: what that reading did not show is not there.
    pub(super) async fn settle_unknown(&self, wired: &Wired, complete_since: i64) -> Result<(), EngineError> {
        for row in self.store.open_unknown(std::slice::from_ref(&wired.name)).await? {
            if let Some(outcome) = self.look_after(wired, &row, complete_since).await {
                self.store.close_conflicts(&[unknown_key(&row)], self.clock.now()).await?;
                self.settle(wired, &row, outcome).await?;
            }
        }
        Ok(())
    }

    /// What became of a write whose outcome is unknown; `None` when that cannot be said yet.
    async fn look_after(&self, wired: &Wired, row: &OutboxRow, complete_since: i64) -> Option<Outcome> {
        match &row.op.action {
            Action::Create => self.look_again(wired, row, complete_since).await,
            Action::Update { external_id } => self.compare(wired, row, external_id).await,
            Action::Delete { external_id } => match wired.connection.fetch(Lane::Repair, STREAM, external_id).await {
                Err(error) if error.kind == ErrorKind::NotFound => {
                    Some(Outcome { error: None, ..Outcome::of(OpState::Done, "") })
                }
                Ok(found) => Some(Outcome { seen: Some(found), ..Outcome::dropped("still there") }),
                Err(_) => None,
            },
        }
    }

    /// A create: found, it is done; surely not there, it is planned again.
    async fn look_again(&self, wired: &Wired, row: &OutboxRow, complete_since: i64) -> Option<Outcome> {
        let old_enough = self.clock.now() - row.updated_at >= SETTLE_MS;
        let covered = complete_since >= row.updated_at;
        match self.look_for(wired, row).await {
            Ok(Some(found)) => {
                let sent = row.op.fields.clone();
                Some(Outcome {
                    state: OpState::Done,
                    error: None,
                    seen: Some(found),
                    conflict: None,
                    sent,
                    absent: false,
                })
            }
            Ok(None) if old_enough => Some(Outcome::dropped("not there; planned again")),
            Err(error) if error.kind == ErrorKind::Unsupported && covered => {
                Some(Outcome::dropped("a complete reading has been made since; planned again if still wanted"))
            }
            _ => None,
        }
    }

    /// An update: the fields that show what was sent were written.
    async fn compare(&self, wired: &Wired, row: &OutboxRow, external_id: &str) -> Option<Outcome> {
        let found = match wired.connection.fetch(Lane::Repair, STREAM, external_id).await {
            Ok(found) => found,
            Err(error) if error.kind == ErrorKind::NotFound => return Some(Outcome::absent()),
            Err(error) if error.kind == ErrorKind::Unsupported => {
                return Some(Outcome::dropped("this vendor cannot be asked; derived again from what is there"));
            }
            Err(_) => return None,
        };
        let shown = wired.mapping.read(&found.body, wired.region()).fields;
        let took = |name: &FieldName, slot: &Slot| {
            let wanted = wired.mapping.project(name, slot, Some(&found.body));
            agree(shown.get(name).unwrap_or(&Slot::Cleared), &wanted)
        };
        let sent: Fields =
            row.op.fields.iter().filter(|(name, slot)| took(name, slot)).map(|(n, s)| (n.clone(), s.clone())).collect();
        let state = if sent.len() == row.op.fields.len() { OpState::Done } else { OpState::Dropped };
        let error = (state == OpState::Dropped).then(|| "did not take effect; derived again".to_owned());
        Some(Outcome { state, error, seen: Some(found), conflict: None, sent, absent: false })
    }
}

/// Takes what the far end shows as the new base of the fields that were sent. Returns whether something else changed.
fn agree_on(agreed: &mut Agreed, seen: &Observed, sent: &Fields, golden: &Golden) -> bool {
    if mutation::is_planted(Mutation::PushForgetsTheBase) {
        return false;
    }
    for (name, slot) in sent {
        let here = seen.fields.get(name).cloned().unwrap_or(Slot::Cleared);
        // What was sent is not the golden value where a run is taken back, or a person has decided meanwhile.
        let golden = golden.get(name).filter(|golden| agree(&golden.slot, slot));
        let means = golden.map_or_else(|| slot.clone(), |golden| golden.slot.clone());
        agreed.insert(name.clone(), AgreedSlot { here, means });
    }
    seen.fields.iter().any(|(name, slot)| agreed.get(name).is_none_or(|base| !agree(&base.here, slot)))
}

/// Whether a field no longer shows what the plan was made from.
fn moved(now: Option<&Slot>, before: &Slot) -> bool {
    match now {
        Some(now) => !agree(now, before),
        None => *before != Slot::Cleared,
    }
}

fn match_keys(fields: &Fields) -> Vec<MatchKey> {
    let mut keys = BTreeMap::new();
    for (name, slot) in fields {
        let Slot::Set(Value::Text(text)) = slot else { continue };
        let text = text.clone();
        match name.as_str().split_once('.') {
            Some(("external", namespace)) => {
                keys.insert(0, MatchKey::External { namespace: namespace.to_owned(), value: text });
            }
            None if name.as_str() == "email" => {
                keys.insert(1, MatchKey::Email(text));
            }
            None if name.as_str() == "phone" => {
                keys.insert(2, MatchKey::Phone(text));
            }
            _ => {}
        }
    }
    keys.into_values().collect()
}

fn kind_of(key: &MatchKey) -> &'static str {
    match key {
        MatchKey::Email(_) => "email",
        MatchKey::Phone(_) => "phone",
        MatchKey::External { .. } => "external",
    }
}

fn refusal(row: &OutboxRow, fields: &Fields, why: &str) -> NewConflict {
    let names: Vec<&str> = fields.keys().map(FieldName::as_str).collect();
    NewConflict {
        kind: "refused".to_owned(),
        key: format!("refused:{}:{}:{}", row.entity_id, row.op.connection, names.join(",")),
        entity_id: Some(row.entity_id),
        record_ids: row.record_id.into_iter().collect(),
        field: Some(row.op.connection.clone()),
        detail: json!({ "connection": row.op.connection, "fields": fields, "why": why }),
        settled: None,
    }
}

fn unknown_key(row: &OutboxRow) -> String {
    format!("unknown:{}", row.id)
}

fn unknown(row: &OutboxRow, why: &str) -> NewConflict {
    NewConflict {
        kind: "unknown".to_owned(),
        key: unknown_key(row),
        entity_id: Some(row.entity_id),
        record_ids: Vec::new(),
        field: Some(row.op.connection.clone()),
        detail: json!({ "connection": row.op.connection, "operation": row.id, "fields": row.op.fields, "why": why }),
        settled: None,
    }
}

fn gone(row: &OutboxRow) -> NewConflict {
    NewConflict {
        kind: "moved".to_owned(),
        key: format!("gone:{}", row.id),
        entity_id: Some(row.entity_id),
        record_ids: row.record_id.into_iter().collect(),
        field: None,
        detail: json!({ "connection": row.op.connection, "operation": row.id, "why": "the record is not there any more" }),
        settled: Some("the next run asks for it again, and then takes it as deleted".to_owned()),
    }
}
