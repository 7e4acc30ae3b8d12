//! A plain in-house CRM: what a small company's own REST API looks like.

use http::{Method, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::{self, Query, header};
use crate::faults::Fate;
use crate::instance::{Instance, stored};
use crate::people::Person;
use crate::{Millis, TOKEN, time};

/// Rows of one page at most.
const MAX_PAGE: u64 = 1000;

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    given_name: &'a str,
    family_name: &'a str,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    company: Option<&'a str>,
    address: Address<'a>,
    birthday: Option<&'a str>,
    tags: &'a [String],
    custom: &'a std::collections::BTreeMap<String, String>,
    external_id: Option<&'a str>,
    updated_at: String,
}

#[derive(Serialize)]
struct Address<'a> {
    line1: Option<&'a str>,
    line2: Option<&'a str>,
    city: Option<&'a str>,
    region: Option<&'a str>,
    postcode: Option<&'a str>,
    country: Option<&'a str>,
}

fn row(person: &Person) -> Row<'_> {
    let more = |name: &str| person.more.get(name).map(String::as_str);
    Row {
        id: &person.id,
        given_name: &person.given,
        family_name: &person.family,
        email: person.email.as_deref(),
        phone: person.phone.as_deref(),
        company: person.company.as_deref(),
        address: Address {
            line1: more("line1"),
            line2: more("line2"),
            city: person.city.as_deref(),
            region: more("region"),
            postcode: person.postcode.as_deref(),
            country: person.country.as_deref(),
        },
        birthday: more("birthday"),
        tags: &person.tags,
        custom: &person.custom,
        external_id: person.external_id.as_deref(),
        updated_at: time::iso_millis(person.updated_at),
    }
}

fn one(status: u16, person: &Person) -> Response<Vec<u8>> {
    let mut body = b"{\"person\":".to_vec();
    write(&mut body, person);
    body.push(b'}');
    answer::raw(status, "application/json", body)
}

fn write(body: &mut Vec<u8>, person: &Person) {
    serde_json::to_writer(body, &row(person)).expect("plain values go into memory");
}

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if header(request, "authorization") != Some(&format!("Bearer {TOKEN}")) {
        return answer::json(401, &json!({ "error": "the token is missing or wrong" }));
    }
    let id = path.strip_prefix("people/").and_then(|id| id.parse::<u64>().ok());
    match (request.method(), path, id) {
        (&Method::GET, "people", _) => list(instance, query, fate),
        (&Method::POST, "people", _) => save(instance, now, None, request, fate),
        (&Method::GET, _, Some(id)) => match instance.person(id) {
            Some(person) => one(200, &person),
            None => not_found(),
        },
        (&Method::PATCH, _, Some(id)) if instance.person(id).is_some() => save(instance, now, Some(id), request, fate),
        (&Method::DELETE, _, Some(id)) if instance.people.remove(&id).is_some() => {
            answer::raw(204, "text/plain", Vec::new())
        }
        _ => not_found(),
    }
}

fn not_found() -> Response<Vec<u8>> {
    answer::json(404, &json!({ "error": "there is no such person" }))
}

fn list(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let limit = query.number("limit").unwrap_or(100).clamp(1, MAX_PAGE) as usize;
    let after = query.number("cursor").unwrap_or(0);
    let wanted = ["email", "phone", "external_id"].into_iter().find_map(|name| Some((name, query.get(name)?)));
    if let Some((name, value)) = wanted {
        let has = |person: &Person| match name {
            "email" => person.email.as_deref().is_some_and(|email| email.eq_ignore_ascii_case(value)),
            "phone" => person.phone.as_deref() == Some(value),
            _ => person.external_id.as_deref() == Some(value),
        };
        let found: Vec<Person> = instance.people.values().filter(|person| has(person)).cloned().collect();
        return page(&found, None, found.len() as u64);
    }
    let is_listed = |person: &Person| !fate.is_omitted(person.id.parse().unwrap_or(0));
    if let Some(since) = query.get("updated_since").and_then(time::parse) {
        let mut changed: Vec<&Person> =
            instance.people.values().filter(|p| p.updated_at >= since && is_listed(p)).collect();
        changed.sort_by_key(|person| (person.updated_at, person.id.parse::<u64>().unwrap_or(0)));
        let rows: Vec<Person> =
            changed.iter().skip(after as usize).take(limit).map(|person| (*person).clone()).collect();
        let next = (after as usize + rows.len() < changed.len()).then(|| after + rows.len() as u64);
        return page(&rows, next, changed.len() as u64);
    }
    let virtual_people = instance.virtual_people();
    let generated = (after + 1..=virtual_people).filter(|id| !instance.people.contains_key(id)).take(limit + 1);
    let mut rows: Vec<Person> = generated.filter_map(|id| instance.person(id)).collect();
    let stored = |after: u64| instance.people.range(after + 1..).map(|(_, person)| person).filter(|p| is_listed(p));
    rows.extend(stored(after).take(limit + 1).cloned());
    rows.sort_by_key(|person| person.id.parse::<u64>().unwrap_or(0));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = more.then(|| rows.last().and_then(|person| person.id.parse().ok()).unwrap_or(0));
    let stored_beside = stored(virtual_people).count() as u64;
    page(&rows, next, virtual_people + stored_beside + fate.total_lies.unwrap_or(0))
}

fn page(rows: &[Person], next: Option<u64>, total: u64) -> Response<Vec<u8>> {
    let mut body = Vec::with_capacity(rows.len() * 400 + 64);
    body.extend_from_slice(b"{\"people\":[");
    for (index, person) in rows.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write(&mut body, person);
    }
    let next = next.map_or(Value::Null, |next| json!(next.to_string()));
    body.extend_from_slice(format!("],\"next\":{next},\"total\":{total}}}").as_bytes());
    answer::raw(200, "application/json", body)
}

fn save(
    instance: &mut Instance,
    now: Millis,
    id: Option<u64>,
    request: &http::Request<Vec<u8>>,
    fate: &Fate,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let Some(members) = body.as_object() else {
        return answer::json(400, &json!({ "error": "an object was expected" }));
    };
    if let Some(email) = members.get("email").and_then(Value::as_str)
        && let Some(holder) = instance.holder_of(email, id)
    {
        let refusal = json!({ "error": "email is in use", "fields": ["email"], "holder": holder.to_string() });
        return answer::json(409, &refusal);
    }
    let mut changes = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("given_name", value) => changes.push(("given".to_owned(), stored(value))),
            ("family_name", value) => changes.push(("family".to_owned(), stored(value))),
            ("email" | "phone" | "company" | "external_id", value) => changes.push((name.clone(), stored(value))),
            ("birthday", value) => changes.push(("more.birthday".to_owned(), stored(value))),
            ("address", Value::Object(address)) => {
                for (part, value) in address {
                    let field = match part.as_str() {
                        "line1" => "more.line1",
                        "line2" => "more.line2",
                        "region" => "more.region",
                        other => other,
                    };
                    changes.push((field.to_owned(), stored(value)));
                }
            }
            ("custom", Value::Object(custom)) => {
                changes.extend(custom.iter().map(|(key, value)| (format!("custom.{key}"), stored(value))));
            }
            _ => {}
        }
    }
    let known_tags = members.get("tags").and_then(Value::as_array);
    let tags = known_tags.map(|tags| tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect());
    let mut person = instance.store(now, id, changes, fate);
    if let Some(tags) = tags
        && let Some(kept) = person.id.parse().ok().and_then(|id: u64| instance.people.get_mut(&id))
    {
        kept.tags = tags;
        person.tags.clone_from(&kept.tags);
    }
    one(if id.is_some() { 200 } else { 201 }, &person)
}
