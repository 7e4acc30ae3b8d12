//! WooCommerce REST API v3: customers, as version 11.0.1 was seen to behave.

use http::{Method, Response};
use serde_json::{Map, Value, json};

use crate::answer::{self, Query, base64, header, with_header};
use crate::faults::Fate;
use crate::instance::{Instance, stored};
use crate::people::Person;
use crate::{Millis, TOKEN, time};

const BILLING: [(&str, &str); 4] =
    [("company", "company"), ("city", "city"), ("country", "country"), ("postcode", "postcode")];
const BILLING_ASIDE: [&str; 5] = ["first_name", "last_name", "address_1", "address_2", "state"];

fn customer(person: &Person) -> Value {
    let mut billing = Map::new();
    for name in BILLING_ASIDE {
        let value = person.more.get(&format!("billing_{name}")).cloned().unwrap_or_default();
        billing.insert(name.to_owned(), json!(value));
    }
    let shown = [&person.company, &person.city, &person.country, &person.postcode];
    for ((name, _), value) in BILLING.iter().zip(shown) {
        billing.insert((*name).to_owned(), json!(value.clone().unwrap_or_default()));
    }
    billing.insert("phone".to_owned(), json!(person.phone.clone().unwrap_or_default()));
    billing.insert("email".to_owned(), json!(person.more.get("billing_email").cloned().unwrap_or_default()));
    let meta: Vec<Value> = person
        .custom
        .iter()
        .enumerate()
        .map(|(at, (key, value))| json!({ "id": at + 1, "key": key, "value": value }))
        .collect();
    json!({
        "id": person.id.parse::<u64>().unwrap_or(0),
        "date_created": time::naive(person.created_at), "date_created_gmt": time::naive(person.created_at),
        "date_modified": time::naive(person.updated_at), "date_modified_gmt": time::naive(person.updated_at),
        "email": person.email.clone().unwrap_or_default(), "first_name": person.given, "last_name": person.family,
        "role": "customer", "username": person.email.clone().unwrap_or_default(), "billing": billing,
        "shipping": {}, "is_paying_customer": false, "avatar_url": "", "meta_data": meta,
    })
}

fn error(status: u16, code: &str, message: &str) -> Response<Vec<u8>> {
    answer::json(status, &json!({ "code": code, "message": message, "data": { "status": status } }))
}

fn authorised(request: &http::Request<Vec<u8>>, query: &Query) -> bool {
    let basic = header(request, "authorization")
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(base64)
        .is_some_and(|pair| pair == format!("{TOKEN}:{TOKEN}"));
    basic || (query.get("consumer_key") == Some(TOKEN) && query.get("consumer_secret") == Some(TOKEN))
}

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    let Some(path) = path.strip_prefix("wp-json/wc/v3/") else {
        return error(404, "rest_no_route", "No route was found matching the URL and request method.");
    };
    if !authorised(request, query) {
        return error(401, "woocommerce_rest_cannot_view", "Sorry, you cannot list resources.");
    }
    let id = path.strip_prefix("customers/").and_then(|id| id.parse::<u64>().ok());
    match (request.method(), path, id) {
        (&Method::GET, "customers", _) => list(instance, query, fate),
        (&Method::POST, "customers", _) => save(instance, now, None, request, fate),
        (_, _, Some(id)) if !instance.people.contains_key(&id) => {
            error(404, "woocommerce_rest_invalid_id", "Invalid resource ID.")
        }
        (&Method::GET, _, Some(id)) => answer::json(200, &customer(&instance.people[&id])),
        (&Method::PUT | &Method::PATCH | &Method::POST, _, Some(id)) => save(instance, now, Some(id), request, fate),
        (&Method::DELETE, _, Some(_)) if query.get("force") != Some("true") => {
            error(501, "woocommerce_rest_trash_not_supported", "Customers do not support trashing.")
        }
        (&Method::DELETE, _, Some(id)) => {
            let gone = customer(&instance.people[&id]);
            instance.delete(now, &id.to_string());
            answer::json(200, &gone)
        }
        _ => error(404, "rest_no_route", "No route was found matching the URL and request method."),
    }
}

fn list(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let size = query.number("per_page").unwrap_or(10);
    if !(1..=100).contains(&size) {
        return error(400, "rest_invalid_param", "Invalid parameter(s): per_page");
    }
    let page = query.number("page").unwrap_or(1).max(1);
    // `modified_after` is accepted and ignored on customers.
    let mut ids: Vec<u64> = match query.get("email") {
        Some(email) => instance.holder_of(email, None).into_iter().collect(),
        None => instance.people.keys().copied().collect(),
    };
    let descending =
        query.get("order").unwrap_or(if query.get("orderby").is_some() { "desc" } else { "asc" }) == "desc";
    if descending {
        ids.reverse();
    }
    instance.shift(&mut ids, fate);
    let total = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    let from = ((page - 1) * size) as usize;
    let rows: Vec<Value> = ids.iter().skip(from).take(size as usize).map(|id| customer(&instance.people[id])).collect();
    let response = answer::json(200, &Value::Array(rows));
    let response = with_header(response, "x-wp-total", &total.to_string());
    with_header(response, "x-wp-totalpages", &total.div_ceil(size).to_string())
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
        return error(400, "rest_invalid_json", "Invalid JSON body passed.");
    };
    match members.get("email").and_then(Value::as_str) {
        None if id.is_none() => return error(400, "rest_missing_callback_param", "Missing parameter(s): email"),
        Some(email) if !email.contains('@') => {
            return error(400, "rest_invalid_param", "Invalid parameter(s): email");
        }
        Some(email) if instance.holder_of(email, id).is_some() => {
            let message = "An account is already registered with your email address.";
            return error(400, "registration-error-email-exists", message);
        }
        _ => {}
    }
    let mut changes = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("first_name", value) => changes.push(("given".to_owned(), stored(value))),
            ("last_name", value) => changes.push(("family".to_owned(), stored(value))),
            ("email", value) => changes.push(("email".to_owned(), stored(value))),
            ("billing", Value::Object(billing)) => {
                for (part, value) in billing {
                    let field = match part.as_str() {
                        "phone" | "company" | "city" | "country" | "postcode" => part.clone(),
                        other => format!("more.billing_{other}"),
                    };
                    changes.push((field, stored(value)));
                }
            }
            ("meta_data", Value::Array(list)) => {
                for entry in list {
                    let Some(key) = entry["key"].as_str() else { continue };
                    changes.push((format!("custom.{key}"), stored(&entry["value"])));
                }
            }
            _ => {}
        }
    }
    let person = instance.store(now, id, changes, fate);
    answer::json(if id.is_some() { 200 } else { 201 }, &customer(&person))
}
