//! Zendesk's Ticketing API: tickets with their comments, the incremental export, users as far as tickets need them.
//!
//! The link to a conversation is a custom field; its id is the setting `chat_field` (900001). `webhook_secret` makes a
//! trigger tell of every created and changed ticket, our own changes too; `webhook_topics` narrows that to
//! `ticket.created` or `ticket.updated`. `search_lag_ms` (0) is how late a list by external id shows a new ticket. `role`
//! (admin) is what the user of the token is: an `agent` may not manage webhooks.

pub(crate) mod hooks;

use http::{Method, Response};
use serde_json::{Map, Value, json};

use self::hooks::{changes, from_to, loud, told};
use crate::answer::{self, Query, base64, header, to_base64, with_header};
use crate::faults::Fate;
use crate::instance::{Instance, stored};
use crate::people::Person;
use crate::tickets::{Kept, NewTicket, Row};
use crate::{Millis, TOKEN, time};

/// What changed within this time is not exported yet.
const UNSETTLED: Millis = 60_000;
/// How long a key protects from a second ticket.
const KEPT: Millis = 2 * 3_600_000;
const STATUSES: [&str; 6] = ["new", "open", "pending", "hold", "solved", "closed"];
/// The agent whose token it is.
const AGENT: u64 = 20_014_182;

fn chat_field(instance: &Instance) -> String {
    instance.setting("chat_field").unwrap_or("900001").to_owned()
}

fn error(status: u16, error: &str, description: &str) -> Response<Vec<u8>> {
    answer::json(status, &json!({ "error": error, "description": description }))
}

fn invalid(field: &str, description: &str) -> Response<Vec<u8>> {
    answer::json(
        422,
        &json!({
            "error": "RecordInvalid", "description": "Record validation errors",
            "details": { field: [{ "description": description, "error": null }] },
        }),
    )
}

fn not_found() -> Response<Vec<u8>> {
    error(404, "RecordNotFound", "Not found")
}

fn authorised(request: &http::Request<Vec<u8>>) -> bool {
    let given = header(request, "authorization").unwrap_or_default();
    let basic = given.strip_prefix("Basic ").and_then(base64);
    let basic = basic.is_some_and(|pair| pair.split_once('/').is_some_and(|(_, end)| end == format!("token:{TOKEN}")));
    basic || given.strip_prefix("Bearer ") == Some(TOKEN)
}

// ---- shapes --------------------------------------------------------------------------------------------------------

fn ticket(instance: &Instance, row: &Row, base: &str) -> Value {
    let first = instance.desk.of(row.id).find_map(|entry| entry.text.clone()).unwrap_or_default();
    let mut fields = row.fields.clone();
    fields.entry(chat_field(instance)).or_insert(Value::Null);
    let fields: Vec<Value> =
        fields.iter().map(|(id, value)| json!({ "id": id.parse::<u64>().unwrap_or(0), "value": value })).collect();
    let requester = row.requester.unwrap_or(AGENT);
    let public = instance.desk.of(row.id).any(|entry| entry.text.is_some() && entry.public);
    json!({
        "url": format!("{base}api/v2/tickets/{}.json", row.id), "id": row.id, "external_id": row.external_id,
        "via": { "channel": "api", "source": { "from": {}, "to": {}, "rel": null } },
        "created_at": time::iso(row.created_at), "updated_at": time::iso(row.updated_at),
        "generated_timestamp": row.updated_at / 1000, "type": null, "subject": row.subject,
        "raw_subject": row.subject, "description": first, "priority": row.priority, "status": row.status,
        "recipient": null, "requester_id": requester, "submitter_id": requester, "assignee_id": null,
        "organization_id": null, "group_id": null, "collaborator_ids": [], "follower_ids": [], "problem_id": null,
        "has_incidents": false, "is_public": public, "due_at": null, "tags": row.tags,
        "custom_fields": fields, "fields": fields, "satisfaction_rating": { "score": "unoffered" },
        "brand_id": 5446,
    })
}

fn user(person: &Person, base: &str) -> Value {
    json!({
        "id": person.id.parse::<u64>().unwrap_or(0), "url": format!("{base}api/v2/users/{}.json", person.id),
        "name": person.full_name, "email": person.email, "phone": person.phone,
        "created_at": time::iso(person.created_at), "updated_at": time::iso(person.updated_at), "role": "end-user",
        "verified": false, "external_id": person.external_id, "tags": person.tags, "active": true,
        "suspended": false, "organization_id": null, "time_zone": "UTC", "locale": "en-US", "user_fields": {},
    })
}

// ---- what happens --------------------------------------------------------------------------------------------------

/// Whose address this is, made when nobody has it.
fn requester(instance: &mut Instance, now: Millis, email: &str, name: &str) -> u64 {
    if let Some(id) = instance.holder_of(email, None) {
        return id;
    }
    let name = if name.is_empty() { email.split('@').next().unwrap_or_default() } else { name };
    let changes =
        vec![("full_name".to_owned(), Some(name.to_owned())), ("email".to_owned(), Some(email.to_lowercase()))];
    let made = instance.store(now, None, changes, &Fate::default());
    made.id.parse().unwrap_or(0)
}

/// A customer opens a ticket.
pub(crate) fn open(instance: &mut Instance, now: Millis, new: &NewTicket) -> u64 {
    let mut row = Row { subject: new.subject.clone(), status: "new".to_owned(), ..Row::default() };
    row.requester = new.email.as_ref().map(|email| requester(instance, now, email, ""));
    row.email = new.email.clone();
    if let Some(chat) = &new.chat {
        row.fields.insert(chat_field(instance), json!(chat));
    }
    let id = instance.desk.open(now, row);
    instance.desk.note(now, id, "Create").text = Some(new.subject.clone());
    told(instance, now, id, "ticket.created", vec![("created", json!({}))]);
    id
}

/// Somebody of the staff sets a status; `deleted` deletes.
pub(crate) fn set_status(instance: &mut Instance, now: Millis, id: u64, status: &str) {
    if let Some(event) = change_status(instance, now, id, status) {
        told(instance, now, id, "ticket.updated", vec![event]);
    }
}

/// The event that tells of it; none when the status is that already.
fn change_status(instance: &mut Instance, now: Millis, id: u64, status: &str) -> Option<(&'static str, Value)> {
    let row = instance.desk.rows.get_mut(&id)?;
    if row.status == status {
        return None;
    }
    let old = std::mem::replace(&mut row.status, status.to_owned());
    let entry = instance.desk.note(now, id, "Status");
    let event = match (old.as_str(), status) {
        (_, "deleted") => ("soft_deleted", json!({})),
        ("deleted", _) => ("undeleted", json!({})),
        _ => ("status_changed", from_to(&loud(&old), &loud(status))),
    };
    (entry.old, entry.new) = (Some(old), Some(status.to_owned()));
    Some(event)
}

// ---- the API -------------------------------------------------------------------------------------------------------

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if !authorised(request) {
        return answer::json(401, &json!({ "error": "Couldn't authenticate you" }));
    }
    let Some(path) = path.strip_prefix("api/v2/") else { return not_found() };
    let path = path.strip_suffix(".json").unwrap_or(path);
    let base = answer::base(request, &instance.spec.name);
    let parts: Vec<&str> = path.split('/').collect();
    let id = |text: &str| text.parse::<u64>().ok();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["incremental", "tickets", "cursor"]) => {
            let rows = instance.desk.rows.values();
            let rows = rows.map(|row| (row.updated_at, row.id, ticket(instance, row, &base))).collect();
            beside(instance, export(now, query, fate, &base, "tickets", rows), query, &base)
        }
        (&Method::GET, ["incremental", "users", "cursor"]) => {
            let people = instance.people.iter();
            let rows = people.map(|(id, person)| (person.updated_at, *id, user(person, &base))).collect();
            export(now, query, fate, &base, "users", rows)
        }
        (&Method::GET, ["tickets"]) => list(instance, now, query, fate, &base),
        (&Method::POST, ["tickets"]) => create(instance, now, request, fate, &base),
        (method, ["tickets", ticket_id, rest @ ..]) => {
            let Some(row) = id(ticket_id).and_then(|id| instance.desk.rows.get(&id)) else { return not_found() };
            if row.status == "deleted" {
                return not_found();
            }
            let row_id = row.id;
            match (method, rest) {
                (&Method::GET, []) => {
                    let shown = answer::json(200, &json!({ "ticket": ticket(instance, row, &base) }));
                    beside(instance, shown, query, &base)
                }
                (&Method::GET, ["comments"]) => comments(instance, row),
                (&Method::PUT, []) => update(instance, now, row_id, &answer::body(request)["ticket"], &base),
                (&Method::DELETE, []) => {
                    set_status(instance, now, row_id, "deleted");
                    answer::raw(204, "application/json", Vec::new())
                }
                _ => not_found(),
            }
        }
        (_, ["webhooks", rest @ ..]) => hooks::answer(instance, now, request, rest, query, &base),
        (&Method::GET, ["users", "me"]) => {
            let role = instance.setting("role").unwrap_or("admin");
            let me = json!({ "id": AGENT, "name": "Sync", "email": "sync@example.test", "role": role });
            answer::json(200, &json!({ "user": me }))
        }
        (&Method::GET, ["users", "search"]) => {
            let wanted = query.get("query").unwrap_or_default();
            let wanted = wanted.strip_prefix("email:").unwrap_or(wanted).trim_matches('"').to_lowercase();
            let found = instance.people.values().filter(|person| {
                person.email.as_deref() == Some(wanted.as_str())
                    || (query.get("external_id").is_some() && person.external_id.as_deref() == query.get("external_id"))
            });
            let rows: Vec<Value> = found.map(|person| user(person, &base)).collect();
            answer::json(200, &json!({ "users": rows, "next_page": null, "previous_page": null, "count": rows.len() }))
        }
        (&Method::GET, ["users", user_id]) => match id(user_id).and_then(|id| instance.people.get(&id)) {
            Some(person) => answer::json(200, &json!({ "user": user(person, &base) })),
            None => not_found(),
        },
        (&Method::POST, ["users", "create_or_update"]) => upsert(instance, now, request, fate, &base),
        _ => error(404, "InvalidEndpoint", "Not found"),
    }
}

/// The answer with the users its tickets name, when they were asked for.
fn beside(instance: &Instance, shown: Response<Vec<u8>>, query: &Query, base: &str) -> Response<Vec<u8>> {
    if query.get("include") != Some("users") || shown.status() != 200 {
        return shown;
    }
    let mut body: Value = serde_json::from_slice(shown.body()).unwrap_or_default();
    let tickets = body["tickets"].as_array().cloned().unwrap_or_else(|| vec![body["ticket"].clone()]);
    let ids: std::collections::BTreeSet<u64> = tickets.iter().filter_map(|t| t["requester_id"].as_u64()).collect();
    body["users"] = ids.iter().filter_map(|id| instance.people.get(id)).map(|person| user(person, base)).collect();
    answer::json(200, &body)
}

/// What changed since a time or a cursor, by the second of the change and then by id, but not in the last minute.
fn export(
    now: Millis,
    query: &Query,
    fate: &Fate,
    base: &str,
    name: &str,
    mut rows: Vec<(Millis, u64, Value)>,
) -> Response<Vec<u8>> {
    let decoded = query.get("cursor").map(|cursor| {
        let text = base64(cursor)?;
        let mut parts = text.split('|');
        let second = parts.next()?.split('.').next()?.parse::<Millis>().ok()?;
        let id = parts.nth(1)?.parse::<u64>().ok()?;
        Some((second, id))
    });
    let from = match (decoded, query.number("start_time")) {
        (Some(Some(from)), _) => from,
        (Some(None), _) => return error(400, "InvalidCursor", "The cursor is not valid"),
        (None, Some(start)) if start as Millis * 1000 > now - UNSETTLED => {
            return error(400, "StartTimeTooRecent", "Too recent start_time. Use a start_time older than 1 minute");
        }
        // What changed in the second of the start itself is part of the answer.
        (None, Some(start)) => (start as Millis, 0),
        (None, None) => return error(400, "InvalidParameter", "start_time or cursor is required"),
    };
    let size = query.number("per_page").unwrap_or(1000).clamp(1, 1000) as usize;
    rows.retain(|(at, id, _)| (at.div_euclid(1000), *id) > from && *at <= now - UNSETTLED);
    rows.sort_by_key(|(at, id, _)| (at.div_euclid(1000), *id));
    let more = rows.len() > size;
    rows.truncate(size);
    let (second, id) = rows.last().map_or(from, |(at, id, _)| (at.div_euclid(1000), *id));
    let cursor = to_base64(format!("{second}.0||{id}|").as_bytes());
    let mut shown: Vec<Value> = rows.into_iter().map(|(_, _, row)| row).collect();
    // Rows may repeat.
    if fate.shift.is_some()
        && let Some(first) = shown.first().cloned()
    {
        shown.push(first);
    }
    answer::json(
        200,
        &json!({
            name: shown, "after_url": format!("{base}api/v2/incremental/{name}/cursor.json?cursor={cursor}"),
            "before_url": null, "after_cursor": cursor, "before_cursor": null, "end_of_stream": !more,
        }),
    )
}

fn list(instance: &Instance, now: Millis, query: &Query, fate: &Fate, base: &str) -> Response<Vec<u8>> {
    let size = query.number("per_page").unwrap_or(100).clamp(1, 100);
    let page = query.number("page").unwrap_or(1).max(1);
    let rows = instance.desk.rows.values().filter(|row| row.status != "deleted");
    // The external id need not be unique, and its index is behind.
    let lag = instance.number("search_lag_ms").unwrap_or(0) as Millis;
    let is_found = |row: &&Row, id: &str| row.external_id.as_deref() == Some(id) && row.created_at <= now - lag;
    let rows = rows.filter(|row| query.get("external_id").is_none_or(|id| is_found(row, id)));
    let mut ids: Vec<u64> = rows.map(|row| row.id).collect();
    instance.shift(&mut ids, fate);
    let from = (page - 1).saturating_mul(size).min(ids.len() as u64) as usize;
    let shown: Vec<Value> =
        ids.iter().skip(from).take(size as usize).map(|id| ticket(instance, &instance.desk.rows[id], base)).collect();
    let link = |page: u64| format!("{base}api/v2/tickets.json?page={page}&per_page={size}");
    let next = (from + shown.len() < ids.len()).then(|| link(page + 1));
    let previous = (page > 1).then(|| link(page - 1));
    let count = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    answer::json(200, &json!({ "tickets": shown, "next_page": next, "previous_page": previous, "count": count }))
}

fn comments(instance: &Instance, row: &Row) -> Response<Vec<u8>> {
    let shown: Vec<Value> = instance
        .desk
        .of(row.id)
        .filter_map(|entry| {
            let text = entry.text.as_ref()?;
            let author = if entry.kind == "Create" { row.requester.unwrap_or(AGENT) } else { AGENT };
            Some(json!({
                "id": entry.id, "type": "Comment", "author_id": author, "body": text, "plain_body": text,
                "html_body": format!("<div class=\"zd-comment\"><p>{text}</p></div>"), "public": entry.public,
                "attachments": [], "audit_id": entry.id, "created_at": time::iso(entry.at),
            }))
        })
        .collect();
    let count = shown.len();
    answer::json(200, &json!({ "comments": shown, "next_page": null, "previous_page": null, "count": count }))
}

fn create(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    fate: &mut Fate,
    base: &str,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let key = header(request, "idempotency-key").map(str::to_owned);
    if let Some(key) = &key {
        if key.chars().count() > 255 {
            return error(400, "IdempotencyRequestError", "The idempotency key is longer than 255 characters");
        }
        instance.desk.keys.retain(|_, kept| now - kept.at < KEPT);
        if let Some(kept) = instance.desk.keys.get(key) {
            fate.no_effect = true;
            if kept.request != body {
                return error(400, "IdempotencyRequestError", "The idempotency key was used with other parameters");
            }
            return with_header(answer::json(201, &kept.answer), "x-idempotency-lookup", "hit");
        }
    }
    let wanted = &body["ticket"];
    let comment = &wanted["comment"];
    let text =
        stored(&comment["body"]).or_else(|| stored(&comment["value"])).or_else(|| stored(&wanted["description"]));
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return invalid("base", "Description: cannot be blank");
    };
    let status = wanted["status"].as_str().unwrap_or("new");
    if !STATUSES.contains(&status) {
        return invalid("status", "Status is not valid");
    }
    let mut row = Row { subject: wanted["subject"].as_str().unwrap_or_default().to_owned(), ..Row::default() };
    row.status = status.to_owned();
    if let Some(email) = wanted["requester"]["email"].as_str() {
        let name = wanted["requester"]["name"].as_str().unwrap_or_default();
        row.requester = Some(requester(instance, now, email, name));
    } else if let Some(id) = wanted["requester_id"].as_u64() {
        if !instance.people.contains_key(&id) {
            return invalid("requester", "Requester: is not a user");
        }
        row.requester = Some(id);
    }
    let id = instance.desk.open(now, row);
    apply(instance, id, wanted);
    let entry = instance.desk.note(now, id, "Create");
    entry.text = Some(text);
    entry.public = comment["public"] != false;
    told(instance, now, id, "ticket.created", vec![("created", json!({}))]);
    let shown = ticket(instance, &instance.desk.rows[&id], base);
    let body_shown = json!({ "ticket": shown, "audit": { "id": id, "ticket_id": id, "events": [] } });
    let location = format!("{base}api/v2/tickets/{id}.json");
    let response = with_header(answer::json(201, &body_shown), "location", &location);
    match key {
        Some(key) => {
            instance.desk.keys.insert(key, Kept { at: now, request: body, answer: body_shown });
            with_header(response, "x-idempotency-lookup", "miss")
        }
        None => response,
    }
}

/// Fields of a ticket but status and comment; whether any of them changed.
fn apply(instance: &mut Instance, id: u64, wanted: &Value) -> bool {
    let Some(row) = instance.desk.rows.get_mut(&id) else { return false };
    let mut touched = false;
    let mut put = |into: &mut String, value: &Value| {
        if let Some(text) = value.as_str().filter(|text| *text != into.as_str()) {
            text.clone_into(into);
            touched = true;
        }
    };
    put(&mut row.subject, &wanted["subject"]);
    if let Some(value) = wanted.get("external_id") {
        touched |= row.external_id != stored(value);
        row.external_id = stored(value);
    }
    if let Some(value) = wanted.get("priority") {
        touched |= row.priority != *value;
        row.priority = value.clone();
    }
    if let Some(tags) = wanted["tags"].as_array() {
        let tags: Vec<String> = tags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        touched |= row.tags != tags;
        row.tags = tags;
    }
    for field in wanted["custom_fields"].as_array().into_iter().flatten() {
        let Some(id) = stored(&field["id"]) else { continue };
        touched |= row.fields.insert(id, field["value"].clone()).as_ref() != Some(&field["value"]);
    }
    touched
}

fn update(instance: &mut Instance, now: Millis, id: u64, wanted: &Value, base: &str) -> Response<Vec<u8>> {
    let row = &instance.desk.rows[&id];
    if row.status == "closed" {
        return invalid("status", "Status: closed prevents ticket update");
    }
    if wanted["safe_update"] == true {
        let stamp = wanted["updated_stamp"].as_str().and_then(time::parse_naive);
        if stamp.is_none_or(|stamp| stamp.div_euclid(1000) < row.updated_at.div_euclid(1000)) {
            return error(409, "UpdateConflict", "Safe Update prevented the update due to outdated ticket data.");
        }
    }
    let status = wanted["status"].as_str();
    if status.is_some_and(|status| !STATUSES.contains(&status)) {
        return invalid("status", "Status is not valid");
    }
    let before = row.clone();
    let mut events = Vec::new();
    let mut hooks = Vec::new();
    if apply(instance, id, wanted) {
        instance.desk.note(now, id, "Set");
        events.push(json!({ "type": "Change" }));
        hooks.extend(changes(&before, &instance.desk.rows[&id]));
    }
    let comment = &wanted["comment"];
    if let Some(text) = stored(&comment["body"]).filter(|text| !text.trim().is_empty()) {
        // Public unless it says otherwise: the customer gets a mail. Nothing protects from saying it twice.
        let public = comment["public"] != false;
        let entry = instance.desk.note(now, id, if public { "Correspond" } else { "Comment" });
        entry.public = public;
        entry.text = Some(text.clone());
        let told = json!({ "comment": { "id": entry.id.to_string(), "body": text, "is_public": public } });
        events.push(json!({ "id": entry.id, "type": "Comment", "body": text, "public": public }));
        hooks.push(("comment_added", told));
    }
    if let Some(status) = status
        && let Some(event) = change_status(instance, now, id, status)
    {
        hooks.push(event);
        events.push(json!({ "type": "Change", "field_name": "status", "value": status }));
    }
    if !events.is_empty() {
        told(instance, now, id, "ticket.updated", hooks);
    }
    let shown = ticket(instance, &instance.desk.rows[&id], base);
    answer::json(200, &json!({ "ticket": shown, "audit": { "ticket_id": id, "events": events } }))
}

fn upsert(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    fate: &Fate,
    base: &str,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let blank = Map::new();
    let wanted = body["user"].as_object().unwrap_or(&blank);
    let text = |name: &str| wanted.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if text("name").is_none() {
        return invalid("name", "Name: is too short (minimum one character)");
    }
    if text("email").is_some_and(|email| !email.contains('@')) {
        return invalid("email", "Email: is not properly formatted");
    }
    let by_external = |wanted: &str| {
        instance.people.iter().find(|(_, p)| p.external_id.as_deref() == Some(wanted)).map(|(id, _)| *id)
    };
    let known = text("external_id").and_then(by_external);
    let known = known.or_else(|| text("email").and_then(|email| instance.holder_of(email, None)));
    let mut changes = Vec::new();
    for (name, field) in [("name", "full_name"), ("email", "email"), ("phone", "phone"), ("external_id", "external_id")]
    {
        if let Some(value) = wanted.get(name) {
            let value = stored(value);
            let value = if name == "email" { value.map(|text| text.to_lowercase()) } else { value };
            changes.push((field.to_owned(), value));
        }
    }
    let person = instance.store(now, known, changes, fate);
    answer::json(if known.is_some() { 200 } else { 201 }, &json!({ "user": user(&person, base) }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::answer::to_base64;
    use crate::hooks::sign;
    use crate::testing::{Fake, Seen};
    use crate::{Faults, NewTicket, TOKEN, Vendor};

    fn fake(settings: &[(&str, &str)]) -> Fake {
        let pair = to_base64(format!("sync@example.test/token:{TOKEN}").as_bytes());
        Fake::new(Vendor::Zendesk, settings).header("authorization", &format!("Basic {pair}"))
    }

    fn new(chat: Option<&str>) -> NewTicket {
        NewTicket {
            subject: "Broken widget".to_owned(),
            email: Some("Ana@example.test".to_owned()),
            chat: chat.map(str::to_owned),
        }
    }

    fn ids(seen: &Seen) -> Vec<u64> {
        seen.body["tickets"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    }

    #[test]
    fn the_export_leaves_out_the_last_minute_and_goes_on_from_its_cursor() {
        let fake = fake(&[]);
        fake.sandbox.open_ticket(1_000_000, "it", &new(None));
        fake.sandbox.open_ticket(1_050_000, "it", &new(None));
        let start = fake.get(1_090_000, "/api/v2/incremental/tickets/cursor.json?start_time=900");
        assert_eq!(ids(&start), [1], "the second is not a minute old");
        assert_eq!(start.body["end_of_stream"], true);
        let cursor = start.body["after_cursor"].as_str().unwrap();
        let path = format!("/api/v2/incremental/tickets/cursor.json?cursor={cursor}");
        assert_eq!(ids(&fake.get(1_090_000, &path)), [] as [u64; 0]);
        assert_eq!(ids(&fake.get(1_110_000, &path)), [2]);
        fake.sandbox.set_ticket(1_120_000, "it", "1", "solved");
        let later = fake.get(1_180_000, &path);
        assert_eq!(ids(&later), [2, 1]);
        assert_eq!(later.body["tickets"][1]["status"], "solved");
        let first = fake.get(1_180_000, "/api/v2/incremental/tickets/cursor.json?start_time=900&per_page=1");
        assert_eq!((ids(&first), first.body["end_of_stream"].clone()), (vec![2], json!(false)));
        assert_eq!(fake.get(1_180_000, "/api/v2/incremental/tickets/cursor.json?start_time=1150").status, 400);
    }

    #[test]
    fn ten_exports_a_minute_pass() {
        let fake = fake(&[]);
        let path = "/api/v2/incremental/tickets/cursor.json?start_time=1";
        let statuses: Vec<u16> = (0..11).map(|n| fake.get(1_000_000 + n, path).status).collect();
        assert_eq!((statuses[9], statuses[10]), (200, 429));
        assert_eq!(fake.get(1_000_020, path).header("retry-after"), "60");
        assert_eq!(fake.get(1_000_020, "/api/v2/tickets.json").status, 200);
    }

    #[test]
    fn a_key_protects_a_creation_for_two_hours() {
        let fake = fake(&[]);
        let wanted = json!({ "ticket": {
            "subject": "Order 11", "comment": { "body": "Where is it?" }, "external_id": "o-11",
            "requester": { "name": "Ana", "email": "ana@example.test" },
        } });
        let create = |at: i64, body: &Value| {
            fake.call(at, "POST", "/api/v2/tickets.json", &[("idempotency-key", "k-1")], Some(body))
        };
        fake.sandbox.set_faults(Faults::parse("cut_after=1").unwrap());
        assert_eq!(create(1000, &wanted).status, 0);
        fake.sandbox.set_faults(Faults::none());
        let again = create(2000, &wanted);
        assert_eq!((again.status, again.header("x-idempotency-lookup")), (201, "hit"));
        assert_eq!(fake.sandbox.tickets("it").len(), 1);
        let effects: Vec<bool> = fake.sandbox.log().iter().map(|call| call.effect).collect();
        assert_eq!(effects, [true, false]);
        let mut other = wanted.clone();
        other["ticket"]["subject"] = json!("Order 12");
        assert_eq!(create(3000, &other).status, 400);
        let late = create(2 * 3_600_000 + 2000, &wanted);
        assert_eq!((late.status, late.header("x-idempotency-lookup")), (201, "miss"));
        assert_eq!(fake.get(9_000_000, "/api/v2/tickets.json?external_id=o-11").body["count"], 2);
    }

    #[test]
    fn a_list_by_external_id_can_be_behind() {
        let fake = fake(&[("search_lag_ms", "300000")]);
        let wanted = json!({ "ticket": { "subject": "A", "comment": { "body": "B" }, "external_id": "o-11" } });
        assert_eq!(fake.post(1000, "/api/v2/tickets.json", &wanted).status, 201);
        let found = |at: i64| fake.get(at, "/api/v2/tickets.json?external_id=o-11").body["count"].clone();
        assert_eq!((found(300_999), found(301_000)), (json!(0), json!(1)));
        assert_eq!(fake.get(2000, "/api/v2/tickets.json").body["count"], 1, "only the index is behind");
        assert_eq!(fake.get(2000, "/api/v2/tickets/1.json").status, 200);
    }

    #[test]
    fn a_comment_is_public_unless_it_says_otherwise() {
        let fake = fake(&[]);
        let id = fake.sandbox.open_ticket(1000, "it", &new(None));
        let path = format!("/api/v2/tickets/{id}.json");
        let put = |comment: Value| fake.put(2000, &path, &json!({ "ticket": { "comment": comment } }));
        put(json!({ "body": "On its way" }));
        put(json!({ "body": "VIP", "public": false }));
        let shown = fake.get(3000, &format!("/api/v2/tickets/{id}/comments.json")).body;
        let public: Vec<bool> =
            shown["comments"].as_array().unwrap().iter().map(|one| one["public"].as_bool().unwrap()).collect();
        assert_eq!(public, [true, true, false]);
    }

    #[test]
    fn updates_can_be_conditional_and_closed_tickets_stay_as_they_are() {
        let fake = fake(&[]);
        let id = fake.sandbox.open_ticket(1000, "it", &new(Some("90001")));
        let path = format!("/api/v2/tickets/{id}.json");
        let shown = fake.get(2000, &path).body["ticket"].clone();
        assert_eq!(shown["custom_fields"], json!([{ "id": 900_001, "value": "90001" }]));
        fake.sandbox.set_ticket(5000, "it", &id, "open");
        let safe = json!({ "ticket": {
            "status": "solved", "safe_update": true, "updated_stamp": shown["updated_at"],
        } });
        assert_eq!(fake.put(6000, &path, &safe).status, 409);
        assert_eq!(fake.put(6000, &path, &json!({ "ticket": { "status": "open" } })).status, 200);
        assert_eq!(fake.sandbox.tickets("it")[0].updated_at, 5000, "nothing changed, no new time");
        assert_eq!(fake.put(7000, &path, &json!({ "ticket": { "status": "gone" } })).status, 422);
        fake.put(8000, &path, &json!({ "ticket": { "status": "closed" } }));
        let refused = fake.put(9000, &path, &json!({ "ticket": { "status": "open" } }));
        assert_eq!((refused.status, refused.body["error"].as_str()), (422, Some("RecordInvalid")));
    }

    #[test]
    fn requesters_are_users_with_lower_case_addresses() {
        let fake = fake(&[]);
        let id = fake.sandbox.open_ticket(1000, "it", &new(None));
        let requester = fake.get(2000, &format!("/api/v2/tickets/{id}")).body["ticket"]["requester_id"].clone();
        let user = fake.get(2000, &format!("/api/v2/users/{requester}.json")).body;
        assert_eq!(user["user"]["email"], "ana@example.test");
        let wanted = json!({ "user": { "name": "Ana", "email": "ANA@example.test", "external_id": "crm-1" } });
        let known = fake.post(3000, "/api/v2/users/create_or_update.json", &wanted);
        assert_eq!((known.status, known.body["user"]["id"].clone()), (200, requester));
        assert_eq!(fake.get(3000, "/api/v2/users/search.json?query=email:ana@example.test").body["count"], 1);
        assert_eq!(Fake::new(Vendor::Zendesk, &[]).get(0, "/api/v2/users/me.json").status, 401);
    }

    #[test]
    fn deleted_tickets_are_gone_but_exported() {
        let fake = fake(&[]);
        let id = fake.sandbox.open_ticket(1000, "it", &new(None));
        let path = format!("/api/v2/tickets/{id}.json");
        assert_eq!(fake.call(2000, "DELETE", &path, &[], None).status, 204);
        assert_eq!(fake.get(3000, &path).status, 404);
        let export = fake.get(90_000, "/api/v2/incremental/tickets/cursor.json?start_time=0");
        assert_eq!(export.body["tickets"][0]["status"], "deleted");
    }

    #[test]
    fn a_trigger_tells_of_own_changes_too_and_signs_time_and_body() {
        let fake = fake(&[("webhook_secret", "s3cr3t")]);
        let id = fake.sandbox.open_ticket(1000, "it", &new(None));
        fake.put(2000, &format!("/api/v2/tickets/{id}.json"), &json!({ "ticket": { "status": "solved" } }));
        let told = fake.sandbox.take_hooks();
        assert_eq!(told.len(), 2);
        let stamp = told[1].header("x-zendesk-webhook-signature-timestamp").unwrap();
        let signature = to_base64(&sign("s3cr3t", &[stamp.as_bytes(), &told[1].body].concat()));
        assert_eq!(told[1].header("x-zendesk-webhook-signature"), Some(signature.as_str()));
    }
}
