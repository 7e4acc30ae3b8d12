//! The built-in connector: runs from the facts of a manifest alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::act::{Act, Acted};
use super::connector::{
    CheckReport, Connector, Cx, MatchKey, Page, PullMode, PullRequest, Push, RemoteRecord, Written,
};
use super::error::{ConnectorError, ErrorKind};
use super::gate::Purpose;
use super::http::{Answer, Ask};
use super::manifest::{ActionFacts, Manifest, PageKind, StreamFacts};
use super::matching;
use super::paging::{self, Walk};
use super::time;

/// Pages a look-up reads at most: some vendors answer an exact question with everything similar.
const FIND_PAGES: usize = 5;

/// A connector that is facts only.
#[derive(Clone, Debug)]
pub struct Rest {
    manifest: Arc<Manifest>,
}

impl Rest {
    /// The connector that `manifest` describes.
    pub fn new(manifest: Arc<Manifest>) -> Rest {
        Rest { manifest }
    }

    /// The facts of a stream.
    pub fn facts(&self, stream: &str) -> Result<&StreamFacts, ConnectorError> {
        self.manifest
            .stream(stream)
            .ok_or_else(|| ConnectorError::unsupported(format!("{} has no stream `{stream}`", self.manifest.name)))
    }

    /// One page of the list with `extra` query parameters over those of the manifest.
    pub async fn page(
        cx: &Cx,
        facts: &StreamFacts,
        purpose: Purpose,
        params: &BTreeMap<String, String>,
        values: &[(&str, &str)],
        walk: Option<&Walk>,
    ) -> Result<Page, ConnectorError> {
        let ask = list_ask(cx, facts, purpose, params, values, walk)?;
        let (mut body, answer) = cx.http.json(cx.lane, &ask).await?;
        let mut announced = paging::announced(&facts.list.page, &cx.http, &ask, &answer, &body)?;
        let total = facts.list.total.as_deref().and_then(|place| total(place, &answer, &body));
        let rows =
            take_rows(&mut body, &facts.list.records).ok_or_else(|| wrong_shape(cx, &ask, &facts.list.records))?;
        if facts.list.page.kind == PageKind::Keyset {
            let place = facts.list.page.read.as_deref().unwrap_or(&facts.id);
            announced = rows.last().and_then(|row| paging::text_of(row.pointer(place)?));
        }
        let records = rows
            .into_iter()
            .map(|row| record(facts, row).ok_or_else(|| without_id(cx, &ask, &facts.id)))
            .collect::<Result<Vec<_>, _>>()?;
        let next = paging::next(&facts.list.page, walk, announced, &records)?;
        let next = next.map(|walk| walk.cursor());
        let steady = facts.list.page.kind == PageKind::Keyset;
        Ok(Page { records, next, total, server_time: answer.server_time, capped: false, steady, left_out: 0 })
    }

    /// Sends one write and reads the record in its answer.
    async fn write(&self, cx: &Cx, facts: &StreamFacts, write: Write<'_>) -> Result<Written, ConnectorError> {
        let encoded = write.id.map(segment).transpose()?.unwrap_or_default();
        let (method, target) = request_line(cx, &write.action.call, &[("id", &encoded)])?;
        let wrapped = write.body.map(|body| wrap(body, &cx.settings.render(&write.action.wrap, &[])));
        let mut ask = Ask::new(write.purpose, method, target);
        if let Some(body) = &wrapped {
            ask = ask.body(body);
        }
        if write.purpose == Purpose::Create {
            ask = ask.idempotency_key(write.idempotency_key);
        }
        if write.purpose == Purpose::Delete {
            cx.http.send(cx.lane, &ask).await?;
            return Ok(Written { record: None, id: write.id.unwrap_or_default().to_owned(), calls: 1 });
        }
        let (body, answer) = cx.http.json(cx.lane, &ask).await?;
        let record = single(facts, body);
        let id = record.as_ref().map(|record| record.id.clone()).or_else(|| write.id.map(str::to_owned));
        let id = id.or_else(|| location_id(&answer)).ok_or_else(|| {
            let message = format!("{} succeeded but does not say the new record's id", cx.http.what(&ask));
            ConnectorError::new(ErrorKind::OutcomeUnknown, message)
        })?;
        Ok(Written { record, id, calls: 1 })
    }
}

/// One write, resolved from a push.
struct Write<'a> {
    action: &'a ActionFacts,
    purpose: Purpose,
    id: Option<&'a str>,
    body: Option<&'a Value>,
    idempotency_key: &'a str,
}

impl<'a> Write<'a> {
    fn of(facts: &'a StreamFacts, push: &Push<'a>, idempotency_key: &'a str) -> Result<Write<'a>, ConnectorError> {
        let (action, purpose, id, body) = match *push {
            Push::Create { body } => (&facts.create, Purpose::Create, None, Some(body)),
            Push::Update { id, body, .. } => (&facts.update, Purpose::Update, Some(id), Some(body)),
            Push::Delete { id } => (&facts.delete, Purpose::Delete, Some(id), None),
        };
        let action = action.as_ref().ok_or_else(|| {
            ConnectorError::unsupported(format!("this connector cannot {purpose:?} here").to_lowercase())
        })?;
        Ok(Write { action, purpose, id, body, idempotency_key })
    }
}

#[async_trait]
impl Connector for Rest {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError> {
        let mut report = CheckReport::default();
        // One stream tells whether the address and the credentials are right.
        let name = self.manifest.first_stream();
        if let Some(facts) = self.manifest.stream(name) {
            let page = Rest::page(cx, facts, Purpose::Check, &BTreeMap::new(), &[], None).await?;
            report.notes.push(match (page.total, page.records.len()) {
                (Some(total), _) => format!("stream {name}: {total} records announced"),
                (None, 0) => format!("stream {name}: readable, and empty as far as these credentials can see"),
                (None, rows) => format!("stream {name}: readable, {rows} records on the first page"),
            });
        }
        Ok(report)
    }

    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        let facts = self.facts(request.stream)?;
        let capable = self.manifest.capabilities_of(request.stream, &cx.settings).unwrap_or_default();
        let none = BTreeMap::new();
        let since;
        let parent = request.parent.map(segment).transpose()?;
        let (params, mut values) = match request.mode {
            PullMode::Full => (&none, Vec::new()),
            PullMode::Head if capable.head => (&facts.list.head, Vec::new()),
            PullMode::Since(at) if capable.since => {
                since = [time::to_iso(at), at.div_euclid(1_000).to_string(), at.to_string()];
                let names = ["since", "since_seconds", "since_ms"];
                (&facts.list.since, names.into_iter().zip(since.iter().map(String::as_str)).collect::<Vec<_>>())
            }
            mode => return Err(ConnectorError::unsupported(format!("{} cannot list by {mode:?}", self.manifest.name))),
        };
        match (&facts.parent, &parent) {
            (Some(_), Some(parent)) => values.push(("parent", parent)),
            (Some(of), None) => {
                let message = format!("{} lists {} only of one {of}", self.manifest.name, request.stream);
                return Err(ConnectorError::unsupported(message));
            }
            (None, _) => {}
        }
        let walk = Walk::resume(request.cursor)?;
        Rest::page(cx, facts, Purpose::Pull, params, &values, walk.as_ref()).await
    }

    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let facts = self.facts(stream)?;
        let get = facts.get.as_deref().ok_or_else(|| {
            ConnectorError::unsupported(format!("{} cannot read a single {stream}", self.manifest.name))
        })?;
        let (method, target) = request_line(cx, get, &[("id", &segment(id)?)])?;
        let ask = Ask::new(Purpose::Fetch, method, target);
        let (body, _) = cx.http.json(cx.lane, &ask).await?;
        single(facts, body).ok_or_else(|| without_id(cx, &ask, &facts.id))
    }

    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let facts = self.facts(stream)?;
        let find = facts.find.get(key.kind()).filter(|find| !find.params.is_empty()).ok_or_else(|| {
            ConnectorError::unsupported(format!("{} cannot look a {stream} up by {}", self.manifest.name, key.kind()))
        })?;
        let pointer = cx.settings.render(&find.pointer, &[]);
        let mut found = Vec::new();
        let mut walk = None;
        for _ in 0..FIND_PAGES {
            let values = [("value", key.value())];
            let page = Rest::page(cx, facts, Purpose::Find, &find.params, &values, walk.as_ref()).await?;
            found.extend(page.records.into_iter().filter(|record| matching::holds(record, &pointer, key)));
            walk = Walk::resume(page.next.as_deref())?;
            if walk.is_none() || !found.is_empty() {
                return Ok(found);
            }
        }
        let told = format!("{} lists too many of stream {stream}", self.manifest.name);
        // Whoever takes what was not found for what is not there makes it twice.
        Err(ConnectorError::unsupported(format!(
            "{told} when asked for one {}: {FIND_PAGES} pages hold no match, and there are more, so that it may be there",
            key.kind()
        )))
    }

    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        let facts = self.facts(stream)?;
        match self.write(cx, facts, Write::of(facts, &push, idempotency_key)?).await {
            Err(error) if matches!(error.kind, ErrorKind::Conflict { holder: None, .. }) => {
                Err(matching::with_holder(self, cx, stream, &push, error).await)
            }
            other => other,
        }
    }

    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        self.act_with(cx, act, Map::new()).await
    }
}

impl Rest {
    /// An act, with members of its body that facts cannot say.
    pub(crate) async fn act_with(
        &self,
        cx: &Cx,
        act: Act<'_>,
        own: Map<String, Value>,
    ) -> Result<Acted, ConnectorError> {
        let facts = self.manifest.actions.get(&act.kind).ok_or_else(|| {
            let kind = act.kind.word();
            ConnectorError::unsupported(format!("{} has no way to {kind} in a conversation", self.manifest.name))
        })?;
        let (method, target) = request_line(cx, &facts.call, &[("conversation", &segment(act.conversation)?)])?;
        let values = [("conversation", act.conversation), ("text", act.text), ("mark", act.mark)];
        let mut body = facts.body.clone();
        body.extend(own);
        let body = filled(cx, &Value::Object(body), &values);
        let ask = Ask::new(Purpose::Act, method, target).body(&body).idempotency_key(act.mark);
        let (answer, _) = cx.http.json(cx.lane, &ask).await?;
        let made = facts.answer_id.as_deref().and_then(|place| paging::text_of(answer.pointer(place)?));
        Ok(Acted { made })
    }
}

/// The body of an act, its texts with placeholders filled.
pub(crate) fn filled(cx: &Cx, value: &Value, values: &[(&str, &str)]) -> Value {
    match value {
        Value::String(text) => Value::String(cx.settings.render(text, values)),
        Value::Array(list) => list.iter().map(|item| filled(cx, item, values)).collect(),
        Value::Object(object) => {
            object.iter().map(|(name, item)| (name.clone(), filled(cx, item, values))).collect::<Map<_, _>>().into()
        }
        plain => plain.clone(),
    }
}

fn list_ask<'a>(
    cx: &Cx,
    facts: &StreamFacts,
    purpose: Purpose,
    params: &BTreeMap<String, String>,
    values: &[(&str, &str)],
    walk: Option<&Walk>,
) -> Result<Ask<'a>, ConnectorError> {
    let page = &facts.list.page;
    let (method, target) = match walk {
        Some(walk) if matches!(page.kind, PageKind::NextUrl | PageKind::Link) => {
            return Ok(Ask::new(purpose, Method::GET, walk.at.clone()));
        }
        _ => request_line(cx, &facts.list.call, values)?,
    };
    let mut ask = Ask::new(purpose, method, target);
    // A parameter with the name of the cursor is where the walk begins.
    let asked = |name: &String| walk.is_some() && page.send.as_ref() == Some(name);
    let own = facts.list.params.iter().filter(|(name, _)| !params.contains_key(*name) && !asked(name));
    for (name, value) in own.chain(params) {
        ask = ask.query(cx.settings.render(name, values), cx.settings.render(value, values));
    }
    match (page.kind, walk, page.send.as_deref()) {
        (_, Some(walk), Some(send)) => ask = ask.query(send, walk.at.clone()),
        (PageKind::Page, None, Some(send)) => ask = ask.query(send, "1"),
        _ => {}
    }
    Ok(ask)
}

/// Method and path of `GET /contacts/{id}`, placeholders filled.
pub(crate) fn request_line(cx: &Cx, call: &str, values: &[(&str, &str)]) -> Result<(Method, String), ConnectorError> {
    let (method, path) = call.split_once(' ').unwrap_or(("GET", call));
    let method = method.parse().map_err(|_| ConnectorError::contract(format!("`{method}` is no HTTP method")))?;
    Ok((method, cx.settings.render(path.trim(), values)))
}

/// An id as one path segment.
pub(crate) fn segment(id: &str) -> Result<String, ConnectorError> {
    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@');
    // Such a segment would climb up the path, however it is encoded.
    if id.is_empty() || id == "." || id == ".." {
        return Err(ConnectorError::new(ErrorKind::NotFound, format!("`{id}` is no id")));
    }
    Ok(utf8_percent_encode(id, SEGMENT).to_string())
}

/// The record in an answer that holds one.
pub(crate) fn single(facts: &StreamFacts, mut body: Value) -> Option<RemoteRecord> {
    for place in &facts.record {
        if body.pointer(place).is_some_and(Value::is_object) {
            return record(facts, body.pointer_mut(place)?.take());
        }
    }
    record(facts, body)
}

/// A record from the list's shape; none without an id.
pub(crate) fn record(facts: &StreamFacts, mut row: Value) -> Option<RemoteRecord> {
    let id = row.pointer(&facts.id).and_then(paging::text_of).filter(|id| !id.is_empty())?;
    let updated_at = facts.updated_at.as_deref().and_then(|place| time::parse(row.pointer(place)?));
    let body = if facts.body.is_empty() { row } else { row.pointer_mut(&facts.body)?.take() };
    Some(RemoteRecord { id, body, updated_at, version: None, deleted: false })
}

fn take_rows(body: &mut Value, place: &str) -> Option<Vec<Value>> {
    match body.pointer_mut(place)?.take() {
        Value::Array(rows) => Some(rows),
        _ => None,
    }
}

fn total(place: &str, answer: &Answer, body: &Value) -> Option<u64> {
    let text = match place.starts_with('/') {
        true => paging::text_of(body.pointer(place)?)?,
        false => answer.header(place)?.to_owned(),
    };
    text.trim().parse().ok()
}

/// Puts `body` under `place`, building the objects on the way.
pub(super) fn wrap(body: &Value, place: &str) -> Value {
    let steps = place.split('/').filter(|step| !step.is_empty());
    steps.rev().fold(body.clone(), |inner, step| Value::Object([(step.to_owned(), inner)].into_iter().collect()))
}

fn location_id(answer: &Answer) -> Option<String> {
    let location = answer.header("location")?.split(['?', '#']).next()?;
    let last = location.trim_end_matches('/').rsplit('/').next()?;
    Some(percent_encoding::percent_decode_str(last).decode_utf8().ok()?.replace('\0', "")).filter(|id| !id.is_empty())
}

fn wrong_shape(cx: &Cx, ask: &Ask<'_>, place: &str) -> ConnectorError {
    let place = if place.is_empty() { "the answer itself".to_owned() } else { format!("`{place}` in the answer") };
    let message = format!("{}: {place} is not a list of records; is base_url right?", cx.http.what(ask));
    ConnectorError { status: Some(200), ..ConnectorError::contract(message) }
}

fn without_id(cx: &Cx, ask: &Ask<'_>, place: &str) -> ConnectorError {
    let message = format!("{}: a record has no id at `{place}`", cx.http.what(ask));
    ConnectorError { status: Some(200), ..ConnectorError::contract(message) }
}
