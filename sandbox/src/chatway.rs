//! Chatway's Public API: contacts. JSON:API envelopes, ids as texts, small pages, no filters, no deletion.
//!
//! The contact resource is not documented; it has the shape that the rest of the API suggests.

use http::{Method, Response};
use serde_json::{Value, json};

use crate::answer::{self, Query, header};
use crate::faults::Fate;
use crate::instance::{Instance, stored};
use crate::people::Person;
use crate::{Millis, TOKEN, time};

fn resource(person: &Person) -> Value {
    let custom: Vec<Value> =
        person.custom.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let tags: Vec<Value> = person.tags.iter().map(|tag| json!({ "name": tag, "color": "#0446de" })).collect();
    json!({
        "type": "contacts",
        "id": person.id,
        "attributes": {
            "name": person.full_name, "email": person.email, "phone": person.phone, "tags": tags,
            "custom_fields": custom, "created_at": time::iso(person.created_at), "updated_at": time::iso(person.updated_at),
        },
    })
}

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if header(request, "x-api-key") != Some(TOKEN) {
        return answer::json(401, &json!({ "message": "Unauthorized" }));
    }
    let Some(path) = path.strip_prefix("api/v1/") else { return not_found() };
    let id = path.strip_prefix("contacts/").and_then(|id| id.parse::<u64>().ok());
    match (request.method(), path, id) {
        (&Method::GET, "contacts", _) => list(instance, query, fate),
        (&Method::POST, "contacts", _) => save(instance, now, None, request, fate),
        (_, "contacts", _) => answer::json(405, &json!({ "message": "Method Not Allowed" })),
        (&Method::GET, _, Some(id)) => match instance.people.get(&id) {
            Some(person) => answer::json(200, &json!({ "data": resource(person) })),
            None => not_found(),
        },
        (&Method::PATCH, _, Some(id)) if instance.people.contains_key(&id) => {
            save(instance, now, Some(id), request, fate)
        }
        (&Method::DELETE, _, Some(_)) => answer::json(405, &json!({ "message": "Method Not Allowed" })),
        _ => not_found(),
    }
}

fn not_found() -> Response<Vec<u8>> {
    answer::json(404, &json!({ "message": "Not Found" }))
}

/// Laravel's answer to a field that does not pass.
fn unprocessable(field: &str, message: &str) -> Response<Vec<u8>> {
    answer::json(422, &json!({ "message": message, "errors": { field: [message] } }))
}

fn list(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let size = instance.page_size(10);
    let asked = query.number("limit").unwrap_or(size);
    if asked > size {
        return unprocessable("limit", &format!("The limit field must not be greater than {size}."));
    }
    let page = query.number("page").unwrap_or(1).max(1);
    let mut ids: Vec<u64> = instance.people.keys().rev().copied().collect();
    instance.shift(&mut ids, fate);
    let total = ids.len() as u64;
    let from = ((page - 1) * asked) as usize;
    let rows: Vec<Value> = match fate.empty_page && page > 1 {
        true => Vec::new(),
        false => ids.iter().skip(from).take(asked as usize).map(|id| resource(&instance.people[id])).collect(),
    };
    let announced = total + fate.total_lies.unwrap_or(0);
    let pages = announced.div_ceil(asked).max(1);
    answer::json(
        200,
        &json!({
            "data": rows,
            "meta": { "pagination": {
                "total": announced, "count": rows.len(), "per_page": asked, "current_page": page, "total_pages": pages,
            } },
        }),
    )
}

fn save(
    instance: &mut Instance,
    now: Millis,
    id: Option<u64>,
    request: &http::Request<Vec<u8>>,
    fate: &Fate,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let members = body.pointer("/data/attributes").unwrap_or(&body);
    let Some(members) = members.as_object() else {
        return unprocessable("name", "The name field is required.");
    };
    if let Some(email) = members.get("email").and_then(Value::as_str) {
        if !email.contains('@') {
            return unprocessable("email", "The email field must be a valid email address.");
        }
        if let Some(holder) = instance.holder_of(email, id) {
            return match instance.setting("duplicate_contact") {
                Some("200" | "201") => answer::json(200, &json!({ "data": resource(&instance.people[&holder]) })),
                _ => unprocessable("email", "The email has already been taken."),
            };
        }
    }
    let mut changes = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("name", value) => changes.push(("full_name".to_owned(), stored(value))),
            ("email" | "phone", value) => changes.push((name.clone(), stored(value))),
            ("custom_fields", Value::Array(fields)) => {
                for field in fields {
                    let (Some(name), value) = (field["name"].as_str(), &field["value"]) else { continue };
                    if !value.is_string() && !value.is_null() {
                        return unprocessable("custom_fields", "The custom field value must be a string.");
                    }
                    changes.push((format!("custom.{name}"), stored(value)));
                }
            }
            _ => {}
        }
    }
    let person = instance.store(now, id, changes, fate);
    answer::json(if id.is_some() { 200 } else { 201 }, &json!({ "data": resource(&person) }))
}
