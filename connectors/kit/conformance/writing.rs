//! Tests that write, with sample records that are deleted again where the vendor can.

use serde_json::Value;

use super::report::{Stop, Test, fail, skip};
use super::samples::filled;
use super::{Severed, Suite, told};
use crate::{ConnectorError, ErrorKind, Lane, MatchKey, PullMode, Push, Written};

pub(super) async fn run(suite: &mut Suite<'_>) {
    let result = round_trip(suite).await;
    suite.note("create_fetch_update_clear_delete", result);
    let result = survives(suite).await;
    suite.note("other_fields_survive_an_update", result);
    let result = second_create(suite).await;
    suite.note("second_create_names_the_holder", result);
    let result = exact(suite).await;
    suite.note("find_is_exact", result);
    let result = newest(suite).await;
    suite.note("new_records_come_first_or_since", result);
    let result = severed(suite).await;
    suite.note("a_lost_answer_is_outcome_unknown", result);
    let result = missing(suite).await;
    suite.note("writing_an_unknown_id_is_not_found", result);
}

impl Suite<'_> {
    fn sample(&self) -> Result<(Value, u64), Stop> {
        if !self.can().create {
            return skip("it cannot create");
        }
        let number = self.lab.number();
        Ok((filled(&self.lab.samples()?.create, number), number))
    }

    async fn create(&self, body: &Value) -> Result<Written, ConnectorError> {
        let key = format!("conformance-{}", self.lab.number());
        let email = self.email(body);
        self.lab.attempt(email);
        let result = self.connection.push(Lane::Audit, &self.lab.target.stream, Push::Create { body }, &key).await;
        if let Ok(written) = &result {
            self.lab.remember(&written.id);
        }
        if !matches!(&result, Err(error) if error.kind == ErrorKind::OutcomeUnknown) {
            self.lab.settle(email);
        }
        result
    }

    /// The address of a sample record.
    fn email<'b>(&self, body: &'b Value) -> &'b str {
        let place = self.lab.target.samples.as_ref().map_or("", |samples| samples.email);
        body.pointer(place).and_then(Value::as_str).unwrap_or_default()
    }

    async fn update(&self, id: &str, body: &Value) -> Result<Written, Stop> {
        let current = self.read(id).await?;
        let push = Push::Update { id, body, current: Some(&current), version: None };
        Ok(self.connection.push(Lane::Audit, &self.lab.target.stream, push, "conformance").await?)
    }

    /// The record's body as the vendor shows it now.
    async fn read(&self, id: &str) -> Result<Value, Stop> {
        if !self.can().fetch {
            return skip("it cannot read single records");
        }
        Ok(self.connection.fetch(Lane::Audit, &self.lab.target.stream, id).await?.body)
    }
}

async fn round_trip(suite: &Suite<'_>) -> Test {
    let samples = suite.lab.samples()?.clone();
    let (body, number) = suite.sample()?;
    let id = suite.create(&body).await?.id;
    let created = suite.read(&id).await?;
    for place in [samples.email, samples.changed] {
        if created.pointer(place) != body.pointer(place) {
            return fail(format!(
                "{place} was created as {:?} and reads {:?}",
                body.pointer(place),
                created.pointer(place)
            ));
        }
    }
    if suite.can().update {
        let change = filled(&samples.update, number);
        let written = suite.update(&id, &change).await?;
        let read = suite.read(&id).await?;
        if read.pointer(samples.changed) != change.pointer(samples.changed) {
            return fail(format!("{} did not change", samples.changed));
        }
        if let Some(answered) = written.record
            && answered.body.pointer(samples.changed) != read.pointer(samples.changed)
        {
            return fail("an update's answer differs from what is read afterwards");
        }
        suite.update(&id, &filled(&samples.clear, number)).await?;
        let cleared = suite.read(&id).await?;
        if !cleared.pointer(samples.untouched).is_none_or(|value| value.is_null() || value == "") {
            return fail(format!(
                "{} was emptied and reads {:?}",
                samples.untouched,
                cleared.pointer(samples.untouched)
            ));
        }
    }
    if suite.can().delete {
        let stream = &suite.lab.target.stream;
        suite.connection.push(Lane::Audit, stream, Push::Delete { id: &id }, "conformance").await?;
        suite.lab.forget(&id);
        let gone = suite.connection.fetch(Lane::Audit, stream, &id).await;
        if !matches!(&gone, Err(error) if error.kind == ErrorKind::NotFound) && !gone.as_ref().is_ok_and(|r| r.deleted)
        {
            return fail(format!("reading a deleted record leads to {}", told(&gone)));
        }
    }
    Ok(())
}

async fn survives(suite: &Suite<'_>) -> Test {
    if !suite.can().update {
        return skip("it cannot update");
    }
    let samples = suite.lab.samples()?.clone();
    let (body, number) = suite.sample()?;
    let id = suite.create(&body).await?.id;
    let before = suite.read(&id).await?;
    suite.update(&id, &filled(&samples.update, number)).await?;
    let after = suite.read(&id).await?;
    match before.pointer(samples.untouched) == after.pointer(samples.untouched) {
        true => Ok(()),
        false => fail(format!("an update of {} changed {} too", samples.changed, samples.untouched)),
    }
}

async fn second_create(suite: &Suite<'_>) -> Test {
    if !suite.can().unique.iter().any(|field| field == "email") {
        return skip("e-mail addresses need not be unique there");
    }
    let (body, number) = suite.sample()?;
    let first = suite.create(&body).await?.id;
    let mut twin = filled(&suite.lab.samples()?.create, suite.lab.number());
    let email = suite.lab.samples()?.email;
    if let (Some(place), Some(value)) = (twin.pointer_mut(email), body.pointer(email)) {
        *place = value.clone();
    }
    let result = suite.create(&twin).await;
    let Err(ConnectorError { kind: ErrorKind::Conflict { holder, .. }, .. }) = &result else {
        return fail(format!("a second record {number} with the same e-mail address leads to {}", told(&result)));
    };
    let can_tell = suite.can().find.iter().any(|kind| kind == "email");
    match holder {
        Some(holder) if *holder == first => Ok(()),
        None if !can_tell => Ok(()),
        other => fail(format!("{first} holds the address, but the connector says {other:?}")),
    }
}

async fn exact(suite: &Suite<'_>) -> Test {
    if !suite.can().find.iter().any(|kind| kind == "email") {
        return skip("it cannot look up by e-mail address");
    }
    let (body, _) = suite.sample()?;
    let id = suite.create(&body).await?.id;
    let email = suite.email(&body);
    let stream = &suite.lab.target.stream;
    let found = suite.connection.find(Lane::Audit, stream, &MatchKey::Email(email.to_uppercase())).await?;
    if found.len() != 1 || found[0].id != id {
        return fail(format!("{} records are found, expected the one just created", found.len()));
    }
    // A part of the address, which a substring search would match.
    let part = email[1..].to_owned();
    match suite.connection.find(Lane::Audit, stream, &MatchKey::Email(part)).await?.as_slice() {
        [] => Ok(()),
        some => fail(format!("a part of the address finds {} records", some.len())),
    }
}

async fn newest(suite: &Suite<'_>) -> Test {
    let mode = match (suite.can().since, suite.can().head) {
        (true, _) => PullMode::Since(suite.lab.target.clock.now() - 120_000),
        (_, true) => PullMode::Head,
        _ => return skip("it lists neither newest first nor by time of change"),
    };
    let (body, _) = suite.sample()?;
    let id = suite.create(&body).await?.id;
    // Indexes lag behind writes by some seconds.
    for _ in 0..5 {
        let walk = super::reading::walk(suite.lab, suite.connection, mode, None).await?;
        let found = match mode {
            PullMode::Head => walk.pages.first().is_some_and(|page| page.records.iter().any(|record| record.id == id)),
            _ => walk.ids().any(|seen| seen == id),
        };
        if found {
            return Ok(());
        }
        suite.lab.target.clock.sleep_until(suite.lab.target.clock.now() + 3_000).await;
    }
    fail(format!("{id} was just created and is not listed by {mode:?}"))
}

async fn severed(suite: &Suite<'_>) -> Test {
    let (body, _) = suite.sample()?;
    let severed = std::sync::Arc::new(Severed(suite.lab.target.transport.clone()));
    let connection = suite.lab.through(severed).map_err(Stop::Fail)?;
    let stream = &suite.lab.target.stream;
    let email = suite.email(&body);
    suite.lab.attempt(email);
    let result = connection.push(Lane::Audit, stream, Push::Create { body: &body }, "conformance-cut").await;
    if !matches!(&result, Err(error) if error.kind == ErrorKind::OutcomeUnknown) {
        if matches!(&result, Err(error) if error.kind == ErrorKind::Stopped) {
            suite.lab.settle(email);
        }
        return fail(format!("a create whose answer is lost leads to {}", told(&result)));
    }
    if !suite.can().find.iter().any(|kind| kind == "email") {
        return Ok(());
    }
    let found = suite.connection.find(Lane::Audit, stream, &MatchKey::Email(email.to_owned())).await?;
    found.iter().for_each(|record| suite.lab.remember(&record.id));
    suite.lab.settle(email);
    match found.len() {
        1 => Ok(()),
        n => fail(format!("the create happened once, but {n} records are found by its address")),
    }
}

async fn missing(suite: &Suite<'_>) -> Test {
    if !suite.can().update || !suite.can().delete {
        return skip("it cannot both update and delete");
    }
    let samples = suite.lab.samples()?.clone();
    let (body, number) = suite.sample()?;
    let id = suite.create(&body).await?.id;
    let stream = &suite.lab.target.stream;
    suite.connection.push(Lane::Audit, stream, Push::Delete { id: &id }, "conformance").await?;
    suite.lab.forget(&id);
    let change = filled(&samples.update, number);
    let push = Push::Update { id: &id, body: &change, current: None, version: None };
    let result = suite.connection.push(Lane::Audit, stream, push, "conformance").await;
    match &result {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        _ => fail(format!("updating a deleted record leads to {}", told(&result))),
    }
}
