//! What is done at desks, from facts alone: a ticket is opened once, and fields of a ticket are set.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::act::{ActFacts, ActKind, Acted, NewTicket};
use super::connector::{Connector, Cx, RemoteRecord};
use super::error::{ConnectorError, ErrorKind};
use super::gate::Purpose;
use super::http::Ask;
use super::manifest::Manifest;
use super::paging;
use super::rest::{self, filled, request_line, segment};

const STREAM: &str = "ticket";
/// Letters of a vendor's sentences that are repeated.
const SENTENCES: usize = 300;

fn facts(manifest: &Manifest, kind: ActKind) -> Result<&ActFacts, ConnectorError> {
    let known = manifest.actions.get(&kind);
    known.ok_or_else(|| ConnectorError::unsupported(format!("{} has no `{}`", manifest.name, kind.word())))
}

/// Opens a ticket, once: a failure after which it may be there is an unknown outcome, and its mark finds it.
pub(super) async fn open(manifest: &Manifest, cx: &Cx, new: NewTicket<'_>) -> Result<Acted, ConnectorError> {
    let facts = facts(manifest, ActKind::OpenTicket)?;
    let (method, target) = request_line(cx, &facts.call, &[])?;
    let values = [
        ("subject", new.subject),
        ("text", new.text),
        ("requester", new.requester),
        ("requester_name", new.requester_name),
        ("mark", new.mark),
        ("conversation", new.conversation.unwrap_or_default()),
        ("field", new.field.unwrap_or_default()),
    ];
    let body = without_gaps(cx, &Value::Object(facts.body.clone()), &values).unwrap_or_default();
    let ask = Ask::new(Purpose::Act, method, target).body(&body).idempotency_key(new.mark);
    let (answer, _) = cx.http.json(cx.lane, &ask).await?;
    Ok(Acted { made: facts.answer_id.as_deref().and_then(|place| paging::text_of(answer.pointer(place)?)) })
}

/// Puts `more` over `base`, member by member.
fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (name, value) in more {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

/// Sets fields of a ticket (in the vendor's words) where they say something else; says its id when they did. Where the vendor refuses a stale write, the
/// ticket is read once more; after that the refusal stands.
pub(crate) async fn set<C: Connector + ?Sized>(
    connector: &C,
    cx: &Cx,
    id: &str,
    fields: &BTreeMap<String, String>,
) -> Result<Acted, ConnectorError> {
    let facts = facts(connector.manifest(), ActKind::SetTicket)?;
    match write(connector, cx, facts, id, fields).await {
        Err(error) if matches!(error.kind, ErrorKind::Conflict { .. }) => write(connector, cx, facts, id, fields).await,
        other => other,
    }
}

async fn write<C: Connector + ?Sized>(
    connector: &C,
    cx: &Cx,
    facts: &ActFacts,
    id: &str,
    fields: &BTreeMap<String, String>,
) -> Result<Acted, ConnectorError> {
    let before = connector.fetch(cx, STREAM, id).await?;
    if before.id != id {
        let message = format!("ticket {id} became part of ticket {}", before.id);
        return Err(ConnectorError::new(ErrorKind::NotFound, message));
    }
    if differing(facts, &before, fields).is_empty() {
        return Ok(Acted::default());
    }
    let (method, target) = request_line(cx, &facts.call, &[("ticket", &segment(id)?)])?;
    let mut body = filled(cx, &Value::Object(facts.body.clone()), &[]);
    let record = connector.manifest().stream(STREAM).and_then(|stream| stream.record.first());
    merge(&mut body, rest::wrap(&saying(facts, fields), record.map(String::as_str).unwrap_or_default()));
    let ask = Ask::new(Purpose::Act, method, target).body(&body).if_match(before.version.as_deref());
    let (answer, _) = cx.http.json(cx.lane, &ask).await?;
    let shown = connector.manifest().stream(STREAM).and_then(|stream| rest::single(stream, answer.clone()));
    let after = match shown {
        Some(record) => record,
        None => connector.fetch(cx, STREAM, id).await?,
    };
    match differing(facts, &after, fields) {
        refused if refused.is_empty() => Ok(Acted { made: Some(id.to_owned()) }),
        // Some refuse with a success and a sentence.
        refused => {
            let said = match words(&answer) {
                words if words.is_empty() => words,
                words => format!(": {}", cx.http.redactor.quote(&words, SENTENCES)),
            };
            let message =
                format!("{} was answered, and {} did not change{said}", cx.http.what(&ask), refused.join(", "));
            Err(ConnectorError::new(ErrorKind::Invalid { fields: refused }, message))
        }
    }
}

/// A ticket that says these fields and nothing else.
pub(super) fn saying(facts: &ActFacts, fields: &BTreeMap<String, String>) -> Value {
    let mut ticket = Value::Object(Map::new());
    for (name, value) in fields {
        let place = facts.fields.get(name).map(|field| field.at.as_str()).unwrap_or_default();
        merge(&mut ticket, rest::wrap(&Value::String(value.clone()), place));
    }
    ticket
}

/// The fields that say something else than they should.
pub(super) fn differing(facts: &ActFacts, ticket: &RemoteRecord, fields: &BTreeMap<String, String>) -> Vec<String> {
    let says = |name: &str| paging::text_of(ticket.body.pointer(&facts.fields.get(name)?.at)?);
    fields.iter().filter(|(name, value)| says(name).as_ref() != Some(value)).map(|(name, _)| name.clone()).collect()
}

/// The sentences of an answer that is a list of them.
fn words(answer: &Value) -> String {
    let all: Vec<&str> = answer.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    all.join(" ")
}

/// The body with its placeholders filled; none of a text that comes out empty, of a member without name or text, and of an item
/// of a list that lacks one.
fn without_gaps(cx: &Cx, value: &Value, values: &[(&str, &str)]) -> Option<Value> {
    match value {
        Value::String(text) => {
            let filled = cx.settings.render(text, values);
            // An id that is a number is sent as one.
            let number = filled.parse::<u64>().ok().filter(|_| text == "{field}");
            number.map(Value::from).or_else(|| (!filled.is_empty()).then_some(Value::String(filled)))
        }
        Value::Array(items) => {
            let whole = |item: &Value| {
                let filled = without_gaps(cx, item, values)?;
                (filled.as_object().map(Map::len) == item.as_object().map(Map::len)).then_some(filled)
            };
            Some(items.iter().filter_map(whole).collect())
        }
        Value::Object(members) => {
            let fill = |(name, item): (&String, &Value)| {
                let name = cx.settings.render(name, values);
                Some((name, without_gaps(cx, item, values)?)).filter(|(name, _)| !name.is_empty())
            };
            Some(members.iter().filter_map(fill).collect::<Map<_, _>>().into())
        }
        plain => Some(plain.clone()),
    }
}
