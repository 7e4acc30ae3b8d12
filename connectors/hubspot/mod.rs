//! HubSpot: incremental reading through search, and values that are always text (see BEHAVIOR.md).

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::kit::act::{Act, Acted};
use crate::kit::clock::Millis;
use crate::kit::connector::{
    CheckReport, Connector, Cx, MatchKey, Page, PullMode, PullRequest, Push, RemoteRecord, Written,
};
use crate::kit::error::ConnectorError;
use crate::kit::gate::Purpose;
use crate::kit::http::{Answer, Ask};
use crate::kit::manifest::{Manifest, StreamFacts};
use crate::kit::matching;
use crate::kit::rest::{self, Rest};
use crate::kit::time;

const SEARCH: &str = "search";
const ID: &str = "hs_object_id";
const OTHER_EMAILS: &str = "hs_additional_emails";

/// The HubSpot connector.
pub(crate) struct Hubspot {
    rest: Rest,
}

/// Where an incremental walk stands.
///
/// Every page is a query of its own that starts at the last time read, never an offset: a contact that changes while
/// one reads moves to the end of the order, and an offset would then skip its neighbour. It also keeps every query
/// far below the 10,000 results at which search ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// Changed at or after this time.
    from: Millis,
    /// Among those changed exactly then, ids above this one (when one time fills a whole page).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    above: Option<String>,
}

impl Position {
    /// The position after a page of `rows` when `limit` were asked for; none when nothing is left.
    fn after(&self, rows: &[(String, Option<Millis>)], limit: usize) -> Result<Option<Position>, ConnectorError> {
        let full = rows.len() >= limit;
        if self.above.is_some() {
            let Some((last, _)) = rows.last().filter(|_| full) else {
                return Ok(Some(Position { from: self.from + 1, above: None }));
            };
            if self.above.as_ref() == Some(last) {
                return Err(ConnectorError::contract("hubspot: search ignores its id filter and repeats itself"));
            }
            return Ok(Some(Position { from: self.from, above: Some(last.clone()) }));
        }
        let Some((_, last)) = rows.last().filter(|_| full) else { return Ok(None) };
        match last {
            Some(last) if *last > self.from => Ok(Some(Position { from: *last, above: None })),
            Some(last) if *last == self.from => Ok(Some(Position { from: self.from, above: Some("0".to_owned()) })),
            _ => Err(ConnectorError::contract(
                "hubspot: search does not sort by the time of change; is lastmodifieddate among the properties?",
            )),
        }
    }
}

impl Hubspot {
    pub(crate) fn new(manifest: Arc<Manifest>) -> Hubspot {
        Hubspot { rest: Rest::new(manifest) }
    }

    async fn changed_since(
        &self,
        cx: &Cx,
        facts: &StreamFacts,
        since: Millis,
        cursor: Option<&str>,
    ) -> Result<Page, ConnectorError> {
        let position = match cursor {
            None => Position { from: since, above: None },
            Some(cursor) => serde_json::from_str(cursor)
                .map_err(|_| ConnectorError::contract("the stored cursor cannot be read: start the walk anew"))?,
        };
        let (property, template) = facts.list.since.first_key_value().ok_or_else(|| {
            ConnectorError::unsupported("hubspot: the manifest names no property for the time of change")
        })?;
        let from = cx.settings.render(template, &[("since_ms", &position.from.to_string())]);
        let limit = cx.settings.number("search_page_size");
        let (filters, sort) = match &position.above {
            None => (json!([{ "propertyName": property, "operator": "GTE", "value": from }]), property.as_str()),
            Some(above) => (
                json!([
                    { "propertyName": property, "operator": "EQ", "value": from },
                    { "propertyName": ID, "operator": "GT", "value": above },
                ]),
                ID,
            ),
        };
        let sorts = json!([{ "propertyName": sort, "direction": "ASCENDING" }]);
        let (records, answer) = self.search(cx, facts, Purpose::Pull, filters, sorts, limit).await?;
        let pointer = format!("/properties/{property}");
        let time_of = |record: &RemoteRecord| record.body.pointer(&pointer).and_then(time::parse).or(record.updated_at);
        let rows: Vec<_> = records.iter().map(|record| (record.id.clone(), time_of(record))).collect();
        let next = position.after(&rows, usize::try_from(limit).unwrap_or(usize::MAX))?;
        let next = next.map(|next| serde_json::to_string(&next).expect("a number and a text always serialise"));
        Ok(Page { records, next, server_time: answer.server_time, steady: true, ..Page::default() })
    }

    async fn search(
        &self,
        cx: &Cx,
        facts: &StreamFacts,
        purpose: Purpose,
        filters: Value,
        sorts: Value,
        limit: u64,
    ) -> Result<(Vec<RemoteRecord>, Answer), ConnectorError> {
        let mut asked = asked_properties(cx, facts);
        let filtered = filters.as_array().into_iter().flatten().filter_map(|filter| filter["propertyName"].as_str());
        for property in filtered {
            if !asked.iter().any(|known| known == property) {
                asked.push(property.to_owned());
            }
        }
        let body = json!({
            "filterGroups": [{ "filters": filters }],
            "sorts": sorts,
            "properties": asked,
            "limit": limit,
        });
        let path = cx.settings.render("{contacts_path}/search", &[]);
        let ask = Ask::new(purpose, Method::POST, path).class(SEARCH).body(&body);
        let (mut answer_body, answer) = cx.http.json(cx.lane, &ask).await?;
        let Value::Array(rows) = answer_body["results"].take() else {
            return Err(ConnectorError::contract("hubspot: search answered without a `results` list"));
        };
        Ok((rows.into_iter().filter_map(|row| record(facts, row)).collect(), answer))
    }

    /// By id property: unlike search it sees a contact the moment it was written, and it knows secondary addresses.
    async fn by_email(
        &self,
        cx: &Cx,
        facts: &StreamFacts,
        key: &MatchKey,
    ) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let path = format!("{}/{}", cx.settings.text("contacts_path"), rest::segment(key.value())?);
        let properties = asked_properties(cx, facts).join(",");
        let ask =
            Ask::new(Purpose::Find, Method::GET, path).query("idProperty", "email").query("properties", properties);
        let body = match cx.http.json(cx.lane, &ask).await {
            Ok((body, _)) => body,
            Err(error) if error.status == Some(404) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let found = record(facts, body).filter(|record| {
            let others = record.body.pointer(&format!("/properties/{OTHER_EMAILS}")).and_then(Value::as_str);
            let among = |other: &str| other.trim().eq_ignore_ascii_case(key.value().trim());
            matching::holds(record, "/properties/email", key) || others.is_some_and(|all| all.split(';').any(among))
        });
        Ok(found.into_iter().collect())
    }
}

#[async_trait]
impl Connector for Hubspot {
    fn manifest(&self) -> &Manifest {
        self.rest.manifest()
    }

    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError> {
        self.rest.check(cx).await
    }

    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        if let PullMode::Since(since) = request.mode {
            return self.changed_since(cx, self.rest.facts(request.stream)?, since, request.cursor).await;
        }
        let mut page = self.rest.pull(cx, request).await?;
        page.records.iter_mut().for_each(tombstone);
        Ok(page)
    }

    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let mut record = self.rest.fetch(cx, stream, id).await?;
        tombstone(&mut record);
        Ok(record)
    }

    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        if matches!(key, MatchKey::Email(_)) {
            return self.by_email(cx, facts, key).await;
        }
        let find = facts.find.get(key.kind()).filter(|find| cx.settings.filled(&find.pointer)).ok_or_else(|| {
            ConnectorError::unsupported(format!("hubspot cannot look a {stream} up by {} as it is set up", key.kind()))
        })?;
        let filters: Vec<Value> = find
            .params
            .iter()
            .map(|(property, value)| {
                let value = cx.settings.render(value, &[("value", key.value())]);
                json!({ "propertyName": cx.settings.render(property, &[]), "operator": "EQ", "value": value })
            })
            .collect();
        let limit = cx.settings.number("search_page_size");
        let (mut records, _) = self.search(cx, facts, Purpose::Find, Value::from(filters), json!([]), limit).await?;
        let pointer = cx.settings.render(&find.pointer, &[]);
        records.retain(|record| matching::holds(record, &pointer, key));
        Ok(records)
    }

    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        match push {
            Push::Create { body } => {
                let body = as_texts(body);
                let mut written = self.rest.push(cx, stream, Push::Create { body: &body }, idempotency_key).await?;
                let asked = asked_properties(cx, self.rest.facts(stream)?);
                written.record.iter_mut().for_each(|record| fill(record, &asked));
                Ok(written)
            }
            Push::Update { id, body, current, version } => {
                let body = as_texts(body);
                let push = Push::Update { id, body: &body, current, version };
                let mut written = self.rest.push(cx, stream, push, idempotency_key).await?;
                written.record = written.record.and_then(|record| overlay(record, current));
                Ok(written)
            }
            Push::Delete { .. } => self.rest.push(cx, stream, push, idempotency_key).await,
        }
    }

    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        self.rest.act(cx, act).await
    }
}

/// The properties of the setting, and those the connector itself relies on.
fn asked_properties(cx: &Cx, facts: &StreamFacts) -> Vec<String> {
    let mut asked = cx.settings.list("properties");
    let own = facts.list.since.keys().map(String::as_str).chain([ID, OTHER_EMAILS]);
    for property in own {
        if !asked.iter().any(|known| known == property) {
            asked.push(property.to_owned());
        }
    }
    asked
}

fn record(facts: &StreamFacts, row: Value) -> Option<RemoteRecord> {
    let mut record = rest::record(facts, row)?;
    tombstone(&mut record);
    Some(record)
}

fn tombstone(record: &mut RemoteRecord) {
    record.deleted = record.body.get("archived") == Some(&Value::Bool(true));
}

/// HubSpot stores texts; it clears with an empty one.
fn as_texts(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) {
        for value in properties.values_mut() {
            match value {
                Value::Null => *value = Value::from(""),
                Value::Bool(_) | Value::Number(_) => *value = Value::from(value.to_string()),
                _ => {}
            }
        }
    }
    body
}

/// A create's answer leaves out properties without a value; a list shows them as null.
fn fill(record: &mut RemoteRecord, asked: &[String]) {
    if let Some(properties) = record.body.get_mut("properties").and_then(Value::as_object_mut) {
        for property in asked {
            properties.entry(property.as_str()).or_insert(Value::Null);
        }
    }
}

/// An update's answer holds the changed properties only; the others are as they were last read.
fn overlay(mut record: RemoteRecord, current: Option<&Value>) -> Option<RemoteRecord> {
    let before = current?.get("properties")?.as_object()?;
    let properties = record.body.get_mut("properties").and_then(Value::as_object_mut)?;
    let answered = std::mem::take(properties);
    let mut merged: Map<String, Value> = before.clone();
    merged.extend(answered.into_iter().map(|(name, value)| match value.as_str() {
        Some("") => (name, Value::Null),
        _ => (name, value),
    }));
    *properties = merged;
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contacts sorted by (time, id), as search would return them.
    fn page(all: &[(u64, Millis)], position: &Position, limit: usize) -> Vec<(String, Option<Millis>)> {
        let above = position.above.as_ref().map(|above| above.parse::<u64>().unwrap());
        let wanted = |(id, at): &&(u64, Millis)| match above {
            None => *at >= position.from,
            Some(above) => *at == position.from && *id > above,
        };
        all.iter().filter(wanted).take(limit).map(|(id, at)| (id.to_string(), Some(*at))).collect()
    }

    fn walk(all: &[(u64, Millis)], limit: usize) -> (std::collections::BTreeSet<String>, usize) {
        let (mut seen, mut pages) = (std::collections::BTreeSet::new(), 0);
        let mut position = Some(Position { from: 0, above: None });
        while let Some(at) = position {
            let rows = page(all, &at, limit);
            pages += 1;
            assert!(pages < 20_000, "the walk does not end");
            position = at.after(&rows, limit).unwrap();
            seen.extend(rows.into_iter().map(|(id, _)| id));
        }
        (seen, pages)
    }

    #[test]
    fn equal_times_across_page_borders_lose_nothing() {
        let mut all: Vec<(u64, Millis)> = (1..=60).map(|id| (id, 5)).collect();
        all.extend((61..=70).map(|id| (id, 6)));
        assert_eq!(walk(&all, 7).0.len(), 70);
    }

    #[test]
    fn more_equal_times_than_search_returns_end() {
        let all: Vec<(u64, Millis)> = (1..=10_001).map(|id| (id, 5)).collect();
        let (seen, pages) = walk(&all, 200);
        assert_eq!(seen.len(), 10_001);
        assert!(pages < 60, "{pages} pages");
    }

    #[test]
    fn a_server_that_does_not_sort_is_noticed() {
        let at = Position { from: 10, above: None };
        assert!(at.after(&[("1".into(), Some(3))], 1).is_err());
        assert!(at.after(&[("1".into(), None)], 1).is_err());
        assert_eq!(at.after(&[("1".into(), Some(3))], 2).unwrap(), None);
    }
}
