//! HubSpot CRM API v3: contacts. Properties are texts and come only when asked for; search lags behind.

use std::cmp::Ordering;

use http::{Method, Response};
use serde_json::{Map, Value, json};

use crate::answer::{self, Query, header};
use crate::faults::Fate;
use crate::instance::{Instance, stored};
use crate::people::Person;
use crate::{Millis, TOKEN, time};

/// What a search shows at most of one query, unless `search_cap` says otherwise.
const SEARCH_CAP: u64 = 10_000;
/// Properties that come without being asked for.
const USUAL: [&str; 6] = ["createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"];

/// The English name, as forms in HubSpot offer it.
pub(crate) fn country_name(code: &str) -> String {
    let name = match code {
        "SE" => "Sweden",
        "DE" => "Germany",
        "FR" => "France",
        "PT" => "Portugal",
        "ES" => "Spain",
        "GB" => "United Kingdom",
        "DK" => "Denmark",
        "US" => "United States",
        other => other,
    };
    name.to_owned()
}

fn property(person: &Person, name: &str) -> Option<String> {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match name {
        "firstname" => filled(&person.given),
        "lastname" => filled(&person.family),
        "email" => person.email.clone(),
        "phone" => person.phone.clone(),
        "company" => person.company.clone(),
        "city" => person.city.clone(),
        "country" => person.country.clone(),
        "zip" => person.postcode.clone(),
        "hs_object_id" => Some(person.id.clone()),
        "createdate" => Some(time::iso_millis(person.created_at)),
        "lastmodifieddate" | "hs_lastmodifieddate" => Some(time::iso_millis(person.updated_at)),
        other => person.more.get(other).cloned(),
    }
}

fn object(person: &Person, properties: &[&str]) -> Value {
    let mut shown = Map::new();
    for name in USUAL.iter().chain(properties) {
        shown.insert((*name).to_owned(), property(person, name).map_or(Value::Null, Value::String));
    }
    json!({
        "id": person.id, "properties": shown, "createdAt": time::iso_millis(person.created_at),
        "updatedAt": time::iso_millis(person.updated_at), "archived": person.deleted,
    })
}

fn error(status: u16, category: &str, message: &str) -> Response<Vec<u8>> {
    answer::json(
        status,
        &json!({
            "status": "error", "message": message, "category": category,
            "correlationId": "00000000-0000-4000-8000-000000000000",
        }),
    )
}

fn not_found() -> Response<Vec<u8>> {
    error(404, "OBJECT_NOT_FOUND", "resource not found")
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
        return error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found or invalid.");
    }
    let Some(path) = path.strip_prefix("crm/v3/objects/contacts") else { return not_found() };
    let wanted: Vec<&str> = query.get("properties").map(|list| list.split(',').collect()).unwrap_or_default();
    if path.is_empty() {
        return match *request.method() {
            Method::GET => list(instance, query, &wanted),
            Method::POST => save(instance, now, None, request, fate),
            _ => error(405, "VALIDATION_ERROR", "Method Not Allowed"),
        };
    }
    if path == "/search" {
        return search(instance, now, request);
    }
    let key = path.trim_start_matches('/');
    let id = match query.get("idProperty") {
        Some("email") => instance.holder_of(key, None),
        _ => key.parse::<u64>().ok().map(|id| instance.merged.get(&id).copied().unwrap_or(id)),
    };
    let Some((id, person)) = id.and_then(|id| Some((id, instance.people.get(&id)?.clone()))) else {
        return not_found();
    };
    let archived = query.get("archived") == Some("true");
    match *request.method() {
        Method::GET if person.deleted == archived => answer::json(200, &object(&person, &wanted)),
        Method::PATCH if !person.deleted => save(instance, now, Some(id), request, fate),
        Method::DELETE => {
            instance.delete(now, &id.to_string());
            answer::raw(204, "application/json", Vec::new())
        }
        _ => not_found(),
    }
}

fn list(instance: &Instance, query: &Query, wanted: &[&str]) -> Response<Vec<u8>> {
    let limit = query.number("limit").unwrap_or(10);
    if limit > 100 {
        return error(400, "VALIDATION_ERROR", "limit must be at most 100");
    }
    let after = query.number("after").unwrap_or(0);
    let archived = query.get("archived") == Some("true");
    let mut rows = instance.people.range(after + 1..).filter(|(_, person)| person.deleted == archived);
    let page: Vec<Value> = rows.by_ref().take(limit as usize).map(|(_, person)| object(person, wanted)).collect();
    let last = page.last().and_then(|row| row["id"].as_str()).map(str::to_owned);
    let mut body = json!({ "results": page });
    if rows.next().is_some()
        && let Some(last) = last
    {
        body["paging"] = json!({ "next": { "after": last, "link": format!("?after={last}") } });
    }
    answer::json(200, &body)
}

fn search(instance: &Instance, now: Millis, request: &http::Request<Vec<u8>>) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let limit = body["limit"].as_u64().unwrap_or(10) as usize;
    if limit > 200 {
        return error(400, "VALIDATION_ERROR", "limit must be at most 200");
    }
    let from = match &body["after"] {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0) as usize,
    };
    let cap = instance.number("search_cap").unwrap_or(SEARCH_CAP) as usize;
    if from + limit > cap {
        let message = format!("There was a problem with the request: paging past {cap} results");
        return error(400, "VALIDATION_ERROR", &message);
    }
    let lag = instance.number("search_lag_ms").unwrap_or(3000) as Millis;
    let groups = body["filterGroups"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<&Person> = instance
        .people
        .values()
        .filter(|person| !person.deleted && person.updated_at <= now - lag)
        .filter(|person| groups.is_empty() || groups.iter().any(|group| matches(person, group)))
        .collect();
    let sorts = body["sorts"].as_array().cloned().unwrap_or_default();
    found.sort_by(|a, b| {
        for sort in &sorts {
            let name = sort["propertyName"].as_str().or(sort.as_str()).unwrap_or_default();
            let order = compare(property(a, name).as_deref(), property(b, name).as_deref());
            let order = if sort["direction"] == "DESCENDING" { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        compare(Some(&a.id), Some(&b.id))
    });
    let wanted: Vec<&str> =
        body["properties"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    let total = found.len();
    let rows: Vec<Value> = found.into_iter().skip(from).take(limit).map(|person| object(person, &wanted)).collect();
    let mut answer = json!({ "total": total, "results": rows });
    if from + limit < total {
        answer["paging"] = json!({ "next": { "after": (from + limit).to_string() } });
    }
    answer::json(200, &answer)
}

fn matches(person: &Person, group: &Value) -> bool {
    let filters = group["filters"].as_array().cloned().unwrap_or_default();
    filters.iter().all(|filter| {
        let shown = property(person, filter["propertyName"].as_str().unwrap_or_default());
        let value = stored(&filter["value"]);
        let order = compare(shown.as_deref(), value.as_deref());
        match filter["operator"].as_str().unwrap_or_default() {
            "EQ" => shown.is_some() && order == Ordering::Equal,
            "NEQ" => order != Ordering::Equal,
            "GT" => shown.is_some() && order == Ordering::Greater,
            "GTE" => shown.is_some() && order != Ordering::Less,
            "LT" => shown.is_some() && order == Ordering::Less,
            "LTE" => shown.is_some() && order != Ordering::Greater,
            "HAS_PROPERTY" => shown.is_some(),
            "NOT_HAS_PROPERTY" => shown.is_none(),
            _ => false,
        }
    })
}

/// Compares as times or numbers where both are such, else as texts in any letter case.
fn compare(a: Option<&str>, b: Option<&str>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => match (time::parse(a), time::parse(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.to_lowercase().cmp(&b.to_lowercase()),
        },
        (a, b) => a.cmp(&b),
    }
}

fn save(
    instance: &mut Instance,
    now: Millis,
    id: Option<u64>,
    request: &http::Request<Vec<u8>>,
    fate: &Fate,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let Some(properties) = body["properties"].as_object() else {
        return error(400, "VALIDATION_ERROR", "Property values were not given");
    };
    if let Some(email) = properties.get("email").and_then(Value::as_str).filter(|email| !email.is_empty()) {
        if !email.contains('@') {
            let message = format!("Property values were not valid: Email address {email} is invalid");
            return error(400, "VALIDATION_ERROR", &message);
        }
        if let Some(holder) = instance.holder_of(email, id) {
            return error(409, "CONFLICT", &format!("Contact already exists. Existing ID: {holder}"));
        }
    }
    let changes = properties
        .iter()
        .map(|(name, value)| {
            let field = match name.as_str() {
                "firstname" => "given".to_owned(),
                "lastname" => "family".to_owned(),
                "zip" => "postcode".to_owned(),
                "email" | "phone" | "company" | "city" | "country" => name.clone(),
                other => format!("more.{other}"),
            };
            let value = stored(value).map(|text| if name == "email" { text.to_lowercase() } else { text });
            (field, value)
        })
        .collect();
    let person = instance.store(now, id, changes, fate);
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    answer::json(if id.is_some() { 200 } else { 201 }, &object(&person, &names))
}
