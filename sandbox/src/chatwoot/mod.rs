//! Chatwoot's Application API: contacts, conversations, messages, webhooks, after the source of 4.15.1.
//!
//! There is one account with one inbox. Settings: `version`, `role`, `drops_underscores`, `channel` (`Api`, `WebWidget`,
//! `Email`, `Whatsapp`, `Sms`, `TwilioSms`, or one in which only the customer begins), `medium` (of `TwilioSms`: `sms` or
//! `whatsapp`), `unsubscribed` (nobody takes texts before they wrote), `lock_to_single_conversation`, `active_bot`, `csat` (a resolved conversation asks the customer for
//! an opinion), `webhook_topics` and `webhook_secret` (a webhook from the beginning).

pub(crate) mod conversations;
pub(crate) mod hooks;
#[cfg(test)]
mod tests;

use http::{Method, Response};
use serde_json::{Value, json};

use crate::answer::{self, Query, header};
use crate::faults::{Dice, Fate};
use crate::instance::{Instance, stored};
use crate::people::Person;
use crate::{Millis, TOKEN};

/// Rows of one page; cannot be changed.
const PAGE: u64 = 15;

fn contact(person: &Person) -> Value {
    let mut additional = serde_json::Map::new();
    for (name, value) in [("city", &person.city), ("country_code", &person.country), ("company_name", &person.company)]
    {
        if let Some(value) = value {
            additional.insert(name.to_owned(), json!(value));
        }
    }
    let custom: serde_json::Map<String, Value> =
        person.custom.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "id": person.id.parse::<u64>().unwrap_or(0), "name": person.full_name, "email": person.email,
        "phone_number": person.phone, "identifier": person.external_id, "blocked": false, "thumbnail": "",
        "availability_status": "offline", "additional_attributes": additional, "custom_attributes": custom,
        "created_at": person.created_at / 1000,
    })
}

fn refusal(message: &str, attribute: &str) -> Response<Vec<u8>> {
    answer::json(422, &json!({ "message": message, "attributes": [attribute] }))
}

fn not_found() -> Response<Vec<u8>> {
    answer::json(404, &json!({ "error": "Resource could not be found" }))
}

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if path == "api" {
        let version = instance.setting("version").unwrap_or("4.15.1");
        return answer::json(
            200,
            &json!({ "version": version, "timestamp": "2026-06-17 00:00:00", "queue_services": "ok", "data_services": "ok" }),
        );
    }
    // A proxy in front may drop headers with underscores.
    let underscore = header(request, "api_access_token").filter(|_| instance.setting("drops_underscores").is_none());
    match underscore.or_else(|| header(request, "api-access-token")) {
        None => {
            return answer::json(401, &json!({ "errors": ["You need to sign in or sign up before continuing."] }));
        }
        Some(token) if token != TOKEN => return answer::json(401, &json!({ "error": "Invalid Access Token" })),
        Some(_) => {}
    }
    if path == "api/v1/profile" {
        let role = instance.setting("role").unwrap_or("administrator");
        return answer::json(
            200,
            &json!({ "id": 1, "name": "Sync", "email": "sync@example.test", "accounts": [{ "id": 1, "name": "Shop", "role": role }] }),
        );
    }
    let Some(path) = path.strip_prefix("api/v1/accounts/1/") else { return not_found() };
    if path == "conversations" || path.starts_with("conversations/") {
        return conversations::answer(instance, now, request, path, query, fate);
    }
    if path == "webhooks" || path.starts_with("webhooks/") {
        return hooks::answer(instance, now, request, path);
    }
    if path == "inboxes" || path.starts_with("inboxes/") {
        return conversations::inboxes(instance, path);
    }
    if path == "contact_inboxes/filter" {
        return conversations::by_source(instance, &answer::body(request));
    }
    let (key, action) = match path.strip_prefix("contacts/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        Some((key, action)) => (key.parse::<u64>().ok(), action),
        None => (None, ""),
    };
    match (request.method(), path, key) {
        (&Method::GET, "contacts", _) => list(instance, query, fate),
        (&Method::POST, "contacts", _) => save(instance, now, None, request, fate),
        (&Method::GET, "contacts/search", _) => search(instance, query),
        (&Method::POST, "contacts/filter", _) => filter(instance, request),
        (&Method::POST, "actions/contact_merge", _) => merge(instance, now, request),
        (_, _, Some(id)) if !instance.people.contains_key(&id) => not_found(),
        (&Method::GET, _, Some(id)) if action == "conversations" => conversations::of_contact(instance, now, id),
        (&Method::GET, _, Some(id)) if action == "contactable_inboxes" => conversations::contactable(instance, id),
        (&Method::POST, _, Some(id)) if action == "contact_inboxes" => {
            conversations::add_source(instance, id, &answer::body(request))
        }
        (&Method::GET, _, Some(id)) => answer::json(200, &json!({ "payload": contact(&instance.people[&id]) })),
        (&Method::PUT | &Method::PATCH, _, Some(id)) => save(instance, now, Some(id), request, fate),
        (&Method::POST, _, Some(id)) if action == "destroy_custom_attributes" => {
            let keys = answer::body(request)["custom_attributes"].as_array().cloned().unwrap_or_default();
            let before = instance.person(id);
            let Some(person) = instance.people.get_mut(&id) else { return not_found() };
            for key in keys.iter().filter_map(Value::as_str) {
                person.custom.remove(key);
            }
            person.updated_at = now;
            let shown = contact(person);
            hooks::contact_changed(instance, id, "updated", before.as_ref());
            answer::json(200, &json!({ "payload": shown }))
        }
        (&Method::DELETE, _, Some(_)) if instance.setting("role") == Some("agent") => {
            answer::json(401, &json!({ "error": "You are not authorized to do this action" }))
        }
        (&Method::DELETE, _, Some(id)) => {
            instance.delete(now, &id.to_string());
            answer::raw(200, "application/json", Vec::new())
        }
        _ => not_found(),
    }
}

/// Lists show only contacts that can be told apart.
fn is_resolved(person: &Person) -> bool {
    person.email.is_some() || person.phone.is_some() || person.external_id.is_some()
}

fn list(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let mut ids: Vec<u64> =
        instance.people.iter().filter(|(_, person)| is_resolved(person)).map(|(id, _)| *id).collect();
    match query.get("sort") {
        Some("created_at") => {}
        Some("-created_at") => ids.reverse(),
        Some("email") => ids.sort_by_key(|id| instance.people[id].email.clone()),
        Some("name") => ids.sort_by_key(|id| instance.people[id].full_name.clone()),
        // Without a sort there is no order at all.
        _ => {
            let mut dice = Dice(instance.calls);
            for at in (1..ids.len()).rev() {
                ids.swap(at, (dice.roll() % (at as u64 + 1)) as usize);
            }
        }
    }
    instance.shift(&mut ids, fate);
    let page = query.number("page").unwrap_or(1);
    let from = (page.max(1) - 1) * PAGE;
    let rows: Vec<Value> =
        ids.iter().skip(from as usize).take(PAGE as usize).map(|id| contact(&instance.people[id])).collect();
    let current = query.get("page").map_or(json!(1), |page| json!(page));
    let count = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    answer::json(200, &json!({ "meta": { "count": count, "current_page": current }, "payload": rows }))
}

fn search(instance: &Instance, query: &Query) -> Response<Vec<u8>> {
    let wanted = query.get("q").unwrap_or_default().to_lowercase();
    let has = |text: &Option<String>| text.as_deref().is_some_and(|text| text.to_lowercase().contains(&wanted));
    let found: Vec<&Person> = instance
        .people
        .values()
        .filter(|p| {
            p.full_name.to_lowercase().contains(&wanted) || has(&p.email) || has(&p.phone) || has(&p.external_id)
        })
        .collect();
    let from = ((query.number("page").unwrap_or(1).max(1) - 1) * PAGE) as usize;
    let rows: Vec<Value> = found.iter().skip(from).take(PAGE as usize).map(|person| contact(person)).collect();
    let more = from + rows.len() < found.len();
    answer::json(200, &json!({ "meta": { "count": rows.len(), "current_page": 1, "has_more": more }, "payload": rows }))
}

fn filter(instance: &Instance, request: &http::Request<Vec<u8>>) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let conditions = body["payload"].as_array().cloned().unwrap_or_default();
    for condition in &conditions {
        let key = condition["attribute_key"].as_str().unwrap_or_default();
        if !["email", "phone_number", "identifier", "name", "city", "country_code"].contains(&key) {
            let message = format!(
                "Invalid attribute key - [{key}]. The key should be one of [email,phone_number,identifier,name,city,country_code]"
            );
            return answer::json(422, &json!({ "error": message }));
        }
        let operator = condition["filter_operator"].as_str().unwrap_or_default();
        if !["equal_to", "not_equal_to", "contains", "does_not_contain"].contains(&operator) {
            let message = format!(
                "Invalid operator. The allowed operators for {key} are [equal_to,not_equal_to,contains,does_not_contain]."
            );
            return answer::json(422, &json!({ "error": message }));
        }
    }
    let meets = |person: &Person, condition: &Value| {
        let shown = match condition["attribute_key"].as_str().unwrap_or_default() {
            "email" => person.email.clone(),
            "phone_number" => person.phone.clone(),
            "identifier" => person.external_id.clone(),
            "name" => Some(person.full_name.clone()),
            "city" => person.city.clone(),
            _ => person.country.clone(),
        };
        let shown = shown.unwrap_or_default().to_lowercase();
        let wanted = condition["values"][0].as_str().unwrap_or_default().to_lowercase();
        match condition["filter_operator"].as_str().unwrap_or_default() {
            "equal_to" => shown == wanted,
            "not_equal_to" => shown != wanted,
            "contains" => shown.contains(&wanted),
            _ => !shown.contains(&wanted),
        }
    };
    // AND binds stronger than OR, as in the SQL that the pieces are put together into.
    let holds = |person: &Person| {
        conditions
            .split_inclusive(|condition| {
                condition["query_operator"].as_str().is_some_and(|op| op.eq_ignore_ascii_case("or"))
            })
            .any(|all| all.iter().all(|condition| meets(person, condition)))
    };
    let found: Vec<Value> =
        instance.people.values().filter(|p| is_resolved(p)).filter(|person| holds(person)).map(contact).collect();
    let rows: Vec<&Value> = found.iter().take(PAGE as usize).collect();
    answer::json(200, &json!({ "meta": { "count": found.len(), "current_page": 1 }, "payload": rows }))
}

fn merge(instance: &mut Instance, now: Millis, request: &http::Request<Vec<u8>>) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let (Some(base), Some(gone)) = (body["base_contact_id"].as_u64(), body["mergee_contact_id"].as_u64()) else {
        let message = "param is missing or the value is empty: base_contact_id";
        return answer::json(422, &json!({ "error": message }));
    };
    if !instance.people.contains_key(&base) || !instance.people.contains_key(&gone) {
        return not_found();
    }
    instance.merge(now, &base.to_string(), &gone.to_string());
    // The mergee is destroyed: nothing leads from its id to the heir.
    instance.merged.remove(&gone);
    answer::json(200, &contact(&instance.people[&base]))
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
        return answer::json(422, &json!({ "error": "param is missing or the value is empty: contact" }));
    };
    if let Some(refused) = validate(instance, id, members) {
        return refused;
    }
    let mut changes = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("name", value) => changes.push(("full_name".to_owned(), stored(value))),
            ("email", value) => changes.push(("email".to_owned(), stored(value).map(|text| text.to_lowercase()))),
            ("phone_number", value) => changes.push(("phone".to_owned(), stored(value))),
            ("identifier", value) => changes.push(("external_id".to_owned(), stored(value))),
            ("additional_attributes", Value::Object(bag)) => {
                for (key, value) in bag {
                    let field = match key.as_str() {
                        "city" => "city",
                        "country_code" => "country",
                        "company_name" => "company",
                        _ => continue,
                    };
                    changes.push((field.to_owned(), stored(value)));
                }
            }
            ("custom_attributes", Value::Object(bag)) => {
                changes.extend(bag.iter().map(|(key, value)| (format!("custom.{key}"), stored(value))));
            }
            _ => {}
        }
    }
    let person = instance.store(now, id, changes, fate);
    let shown = contact(&person);
    match id {
        Some(_) => answer::json(200, &json!({ "payload": shown })),
        None => answer::json(
            200,
            &json!({ "payload": { "contact": shown, "contact_inbox": { "inbox": null, "source_id": null } } }),
        ),
    }
}

fn validate(
    instance: &Instance,
    id: Option<u64>,
    members: &serde_json::Map<String, Value>,
) -> Option<Response<Vec<u8>>> {
    let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let taken = |same: &dyn Fn(&Person) -> bool| instance.people.iter().any(|(other, p)| Some(*other) != id && same(p));
    if let Some(email) = text("email") {
        if !email.contains('@') {
            return Some(refusal("Email Invalid email", "email"));
        }
        if instance.holder_of(email, id).is_some() {
            return Some(refusal("Email has already been taken", "email"));
        }
    }
    if let Some(phone) = text("phone_number") {
        if !ends_like_e164(phone) {
            return Some(refusal("Phone number should be in e164 format", "phone_number"));
        }
        if taken(&|person| person.phone.as_deref() == Some(phone)) {
            return Some(refusal("Phone number has already been taken", "phone_number"));
        }
    }
    if members.get("identifier").and_then(Value::as_str) == Some("") && taken(&|p| p.external_id.as_deref() == Some(""))
    {
        // An empty text is kept and violates the index the second time.
        return Some(answer::json(500, &json!({ "status": 500, "error": "Internal Server Error" })));
    }
    if let Some(identifier) = text("identifier")
        && taken(&|person| person.external_id.as_deref() == Some(identifier))
    {
        return Some(refusal("Identifier has already been taken", "identifier"));
    }
    if text("name").is_some_and(|name| name.chars().count() > 255) {
        return Some(refusal("Name is too long (maximum is 255 characters)", "name"));
    }
    None
}

/// Plus, a digit 1 to 9, up to 14 more, anchored only at the end: leading junk passes.
fn ends_like_e164(phone: &str) -> bool {
    let digits = phone.bytes().rev().take_while(u8::is_ascii_digit).count();
    let start = phone.len() - digits;
    (2..=15).contains(&digits) && phone[..start].ends_with('+') && phone.as_bytes()[start] != b'0'
}
