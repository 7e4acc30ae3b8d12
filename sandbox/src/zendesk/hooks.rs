//! Webhooks of an account: managed by administrators, signed with a secret that Zendesk makes and shows apart, and connected
//! either to events or to a trigger, for good.
//!
//! Every webhook of a trigger has one here, on created and changed tickets; what it sends is what somebody wrote into its
//! template. What one action changes is told as a sequence of events in no particular order.

use http::{Method, Response};
use serde_json::{Value, json};

use super::{AGENT, error};
use crate::answer::{self, Query, base64, to_base64};
use crate::hooks::{Hook, HookDelivery, Pending, digest, hex, sign, uuid};
use crate::instance::Instance;
use crate::tickets::Row;
use crate::{Millis, time};

/// The only subscription of a webhook that is connected to a trigger or an automation.
const TRIGGER: &str = "conditional_ticket_events";
const EVENT: &str = "zen:event-type:";
/// What is told of a ticket, after `zen:event-type:ticket.`.
const TICKET: [&str; 29] = [
    "agent_assignment_changed",
    "attachment_linked_to_comment",
    "attachment_redacted_from_comment",
    "brand_changed",
    "comment_added",
    "comment_made_private",
    "comment_redacted",
    "created",
    "custom_field_changed",
    "custom_status_changed",
    "description_changed",
    "email_ccs_changed",
    "external_id_changed",
    "followers_changed",
    "form_changed",
    "group_assignment_changed",
    "marked_as_spam",
    "merged",
    "organization_changed",
    "permanently_deleted",
    "priority_changed",
    "problem_link_changed",
    "requester_changed",
    "soft_deleted",
    "status_changed",
    "subject_changed",
    "tags_changed",
    "type_changed",
    "undeleted",
];
/// Webhooks on a page of their list, unless less are asked for.
const PAGE: u64 = 100;
const ACCOUNT: u64 = 22_129_848;

// ---- what happens --------------------------------------------------------------------------------------------------

/// A ticket changed: what triggers say of it, and the events with what they hold.
pub(super) fn told(instance: &mut Instance, now: Millis, id: u64, trigger: &str, events: Vec<(&'static str, Value)>) {
    instance.hooks.happened(trigger, id, &Value::Null, false);
    instance.hooks.happened(TRIGGER, id, &json!(trigger), false);
    let sequence = hex(&digest(&format!("{} sequence {id} {now}", instance.spec.name))).to_uppercase();
    // Zendesk does not promise the order; the last one first is as good as any.
    for (at, (name, mut event)) in events.into_iter().enumerate().rev() {
        event["meta"] = json!({ "sequence": { "id": sequence, "position": at + 1 } });
        let detail = json!({ "event": event, "at": now });
        instance.hooks.happened(&format!("{EVENT}ticket.{name}"), id, &detail, false);
    }
}

/// An event that says what was and what is.
pub(super) fn from_to(previous: &Value, current: &Value) -> Value {
    json!({ "previous": previous, "current": current })
}

/// Statuses and priorities are written in capitals in events.
pub(super) fn loud(word: &str) -> Value {
    if word.is_empty() { Value::Null } else { json!(word.to_uppercase()) }
}

/// What changed in the fields of a ticket but its status.
pub(super) fn changes(before: &Row, after: &Row) -> Vec<(&'static str, Value)> {
    let shout = |value: &Value| value.as_str().map_or(Value::Null, loud);
    let mut found = Vec::new();
    if before.subject != after.subject {
        found.push(("subject_changed", from_to(&json!(before.subject), &json!(after.subject))));
    }
    if before.external_id != after.external_id {
        found.push(("external_id_changed", from_to(&json!(before.external_id), &json!(after.external_id))));
    }
    if before.priority != after.priority {
        found.push(("priority_changed", from_to(&shout(&before.priority), &shout(&after.priority))));
    }
    if before.tags != after.tags {
        let lacking = |of: &[String], from: &[String]| -> Value {
            of.iter().filter(|tag| !from.contains(tag)).map(String::as_str).collect()
        };
        let (added, removed) = (lacking(&after.tags, &before.tags), lacking(&before.tags, &after.tags));
        found.push(("tags_changed", json!({ "tags_added": added, "tags_removed": removed })));
    }
    for (id, value) in after.fields.iter().filter(|(id, value)| before.fields.get(*id) != Some(value)) {
        let mut event = from_to(before.fields.get(id).unwrap_or(&Value::Null), value);
        event["field"] = json!({ "id": id, "type": "text", "is_system_field": false });
        found.push(("custom_field_changed", event));
    }
    found
}

/// The trigger that the settings ask for.
pub(crate) fn first_hooks(instance: &mut Instance, topics: Vec<String>, secret: &str) {
    let usual = || vec!["ticket.created".to_owned(), "ticket.updated".to_owned()];
    let topics = if topics.is_empty() { usual() } else { topics };
    instance.hooks.register(0, "Trigger", "http://localhost/", topics, secret);
}

/// Zendesk makes the secret.
pub(crate) fn register(instance: &mut Instance, now: Millis, name: &str, url: &str, topics: Vec<String>) -> u64 {
    let serial = instance.hooks.serial();
    let secret = to_base64(&digest(&format!("{} secret {serial}", instance.spec.name)));
    instance.hooks.register(now, name, url, topics, &secret)
}

// ---- deliveries ----------------------------------------------------------------------------------------------------

/// What somebody wrote into a trigger's template.
fn template(row: &Row, event: &str) -> Value {
    json!({
        "ticket": {
            "id": row.id.to_string(), "status": row.status, "external_id": row.external_id,
            "updated_at": time::iso(row.updated_at),
        },
        "event": event,
    })
}

/// What an event holds: ids as texts, statuses in capitals, times to the billionth of a second.
fn event(instance: &Instance, row: &Row, pending: &Pending, id: &str) -> Value {
    let requester = row.requester.unwrap_or(AGENT).to_string();
    let first = instance.desk.of(row.id).find_map(|entry| entry.text.clone()).unwrap_or_default();
    let public = instance.desk.of(row.id).any(|entry| entry.text.is_some() && entry.public);
    let at = pending.detail["at"].as_i64().unwrap_or_default();
    let tags = if row.tags.is_empty() { Value::Null } else { json!(row.tags) };
    json!({
        "account_id": ACCOUNT,
        "detail": {
            "actor_id": AGENT.to_string(), "assignee_id": null, "brand_id": "5446", "custom_status": null,
            "created_at": time::iso(row.created_at), "description": first, "external_id": row.external_id,
            "form_id": null, "group_id": null, "id": row.id.to_string(), "is_public": public, "organization_id": null,
            "priority": row.priority.as_str().map_or(Value::Null, loud), "requester_id": requester,
            "status": loud(&row.status), "subject": row.subject, "submitter_id": requester, "tags": tags, "type": null,
            "updated_at": time::iso(row.updated_at), "via": { "channel": "web_service" },
        },
        "event": pending.detail["event"],
        "id": id,
        "subject": format!("zen:ticket:{}", row.id),
        "time": time::iso_millis(at).replace('Z', "000000Z"),
        "type": pending.topic,
        "zendesk_event_version": "2022-11-06",
    })
}

/// One delivery, signed over time and body without anything between.
pub(crate) fn deliver(instance: &mut Instance, now: Millis, pending: &Pending) -> Option<HookDelivery> {
    let serial = instance.hooks.serial();
    let hook = instance.hooks.registered.get(&pending.hook)?;
    let row = instance.desk.rows.get(&pending.resource)?;
    let name = &instance.spec.name;
    let shown = match pending.topic.as_str() {
        TRIGGER => template(row, pending.detail.as_str().unwrap_or_default()),
        topic if topic.starts_with(EVENT) => event(instance, row, pending, &uuid(&format!("{name} event {serial}"))),
        topic => template(row, topic),
    };
    let body = shown.to_string().into_bytes();
    let stamp = time::iso(now);
    let signature = to_base64(&sign(&hook.secret, &[stamp.as_bytes(), &body].concat()));
    let headers = [
        ("Content-Type", "application/json; charset=utf-8".to_owned()),
        ("User-Agent", "Zendesk Webhook".to_owned()),
        ("X-Zendesk-Account-Id", ACCOUNT.to_string()),
        ("X-Zendesk-Webhook-Id", written(hook.id)),
        ("X-Zendesk-Webhook-Invocation-Id", uuid(&format!("{name} invocation {serial}"))),
        ("X-Zendesk-Webhook-Signature-Timestamp", stamp),
        ("X-Zendesk-Webhook-Signature", signature),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let url = hook.url.clone();
    Some(HookDelivery { instance: name.clone(), url, headers, body, at: now, path_secret: None })
}

// ---- managing them -------------------------------------------------------------------------------------------------

/// An id as Zendesk writes it.
fn written(id: u64) -> String {
    format!("01HANAHF{id:018}")
}

fn read(id: &str) -> Option<u64> {
    id.strip_prefix("01HANAHF")?.parse().ok()
}

fn shown(hook: &Hook) -> Value {
    let on_trigger = hook.topics.iter().any(|topic| !topic.starts_with(EVENT));
    let subscriptions = if on_trigger { json!([TRIGGER]) } else { json!(hook.topics) };
    json!({
        "id": written(hook.id), "name": hook.name, "status": hook.status, "subscriptions": subscriptions,
        "created_at": time::iso(hook.created_at), "created_by": AGENT.to_string(), "endpoint": hook.url,
        "http_method": "POST", "request_format": "json",
    })
}

fn refused(status: u16, code: &str, title: &str) -> Response<Vec<u8>> {
    answer::json(status, &json!({ "errors": [{ "code": code, "title": title }] }))
}

fn done() -> Response<Vec<u8>> {
    answer::raw(204, "application/json", Vec::new())
}

/// What a webhook is to be subscribed to, and why not.
fn subscriptions(wanted: &Value) -> Result<Option<Vec<String>>, &'static str> {
    let Some(list) = wanted.as_array() else {
        return if wanted.is_null() { Ok(None) } else { Err("subscriptions is not a list") };
    };
    let names: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let is_event = |name: &String| {
        let name = name.strip_prefix(EVENT);
        let ticket = name.and_then(|name| name.strip_prefix("ticket."));
        ticket.is_some_and(|ticket| TICKET.contains(&ticket))
            || name.is_some_and(|name| name.starts_with("user.") || name.starts_with("organization."))
    };
    match names.as_slice() {
        [] => Err("subscriptions is empty"),
        [only] if only == TRIGGER => Ok(Some(names)),
        _ if names.len() == list.len() && names.iter().all(is_event) => Ok(Some(names)),
        _ => Err("subscriptions holds an invalid event type"),
    }
}

/// What is wrong with what somebody wants to be written.
fn mistake(wanted: &Value, all: bool) -> Option<&'static str> {
    let allowed: [(&str, &[&str]); 3] = [
        ("status", &["active", "inactive"]),
        ("http_method", &["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ("request_format", &["json", "xml", "form_encoded"]),
    ];
    let missing = ["name", "endpoint", "status", "http_method", "request_format"];
    if all && missing.iter().any(|name| wanted[*name].as_str().unwrap_or_default().is_empty()) {
        return Some("name, endpoint, status, http_method and request_format are required");
    }
    let known = |(name, words): &(&str, &[&str])| {
        wanted.get(*name).is_none_or(|value| value.as_str().is_some_and(|word| words.contains(&word)))
    };
    if !allowed.iter().all(known) {
        return Some("status, http_method or request_format is invalid");
    }
    let is_address = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    if wanted["endpoint"].as_str().is_some_and(|url| !is_address(url)) {
        return Some("endpoint is not a valid URL");
    }
    let of_events = wanted["subscriptions"].as_array().is_some_and(|list| list.iter().any(|name| name != TRIGGER));
    let other = |name: &str, word: &str| wanted[name].as_str().is_some_and(|given| given != word);
    (of_events && (other("http_method", "POST") || other("request_format", "json")))
        .then_some("webhooks that subscribe to events send JSON by POST")
}

/// Newest first, with a cursor as long as there is more.
fn list(instance: &Instance, query: &Query, base: &str) -> Response<Vec<u8>> {
    let size = query.number("page[size]").unwrap_or(PAGE).clamp(1, PAGE) as usize;
    let before = match query.get("page[after]").map(|cursor| base64(cursor).as_deref().and_then(read)) {
        None => u64::MAX,
        Some(Some(id)) => id,
        Some(None) => return refused(400, "InvalidCursor", "The cursor is not valid"),
    };
    let named = query.get("filter[name_contains]").unwrap_or_default();
    let rows = instance.hooks.registered.values().rev();
    let mut rows: Vec<&Hook> = rows.filter(|hook| hook.id < before && hook.name.contains(named)).collect();
    let more = rows.len() > size;
    rows.truncate(size);
    let mut body =
        json!({ "meta": { "has_more": more }, "webhooks": rows.iter().map(|hook| shown(hook)).collect::<Vec<_>>() });
    if let Some(last) = rows.last().filter(|_| more) {
        let cursor = to_base64(written(last.id).as_bytes());
        body["links"] = json!({ "next": format!("{base}api/v2/webhooks?page[after]={cursor}") });
        body["meta"]["after_cursor"] = json!(cursor);
    }
    answer::json(200, &body)
}

fn create(instance: &mut Instance, now: Millis, wanted: &Value) -> Response<Vec<u8>> {
    if let Some(why) = mistake(wanted, true) {
        return refused(400, "InvalidParam", why);
    }
    let topics = match subscriptions(&wanted["subscriptions"]) {
        Ok(topics) => topics.unwrap_or_else(|| vec![TRIGGER.to_owned()]),
        Err(why) => return refused(400, "InvalidParam", why),
    };
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let id = register(instance, now, text("name"), text("endpoint"), topics);
    let Some(hook) = instance.hooks.registered.get_mut(&id) else { return refused(500, "InternalError", "") };
    text("status").clone_into(&mut hook.status);
    answer::json(201, &json!({ "webhook": shown(hook) }))
}

/// A part of it, or with `all` the whole: nothing is answered but that it is done.
fn update(hook: &mut Hook, now: Millis, wanted: &Value, all: bool) -> Response<Vec<u8>> {
    if let Some(why) = mistake(wanted, all) {
        return refused(400, "InvalidParam", why);
    }
    let topics = match subscriptions(&wanted["subscriptions"]) {
        Ok(topics) => topics,
        Err(why) => return refused(400, "InvalidParam", why),
    };
    let on_trigger = |topics: &[String]| topics.iter().any(|topic| !topic.starts_with(EVENT));
    if topics.as_ref().is_some_and(|topics| on_trigger(topics) != on_trigger(&hook.topics)) {
        return refused(400, "InvalidParam", "the connection method of a webhook cannot be changed");
    }
    for (name, into) in [("name", &mut hook.name), ("endpoint", &mut hook.url), ("status", &mut hook.status)] {
        if let Some(text) = wanted[name].as_str() {
            text.clone_into(into);
        }
    }
    if let Some(topics) = topics.filter(|topics| !on_trigger(topics)) {
        hook.topics = topics;
    }
    hook.updated_at = now;
    done()
}

/// Only administrators come near them. `role` (admin) is what the user of the token is.
pub(super) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &[&str],
    query: &Query,
    base: &str,
) -> Response<Vec<u8>> {
    if instance.setting("role") == Some("agent") {
        return error(403, "Forbidden", "You do not have access to this page. Please contact the account owner");
    }
    let wanted = &answer::body(request)["webhook"];
    let (method, id) = (request.method(), path.first().map(|id| read(id).unwrap_or_default()));
    let missing = || refused(404, "WebhookNotFound", "Webhook not found");
    match (method, id, path.get(1)) {
        (&Method::GET, None, _) => return list(instance, query, base),
        (&Method::POST, None, _) => return create(instance, now, wanted),
        (&Method::DELETE, Some(id), None) => {
            return if instance.hooks.registered.remove(&id).is_some() { done() } else { missing() };
        }
        _ => {}
    }
    let name = instance.spec.name.clone();
    let Some(hook) = id.and_then(|id| instance.hooks.registered.get_mut(&id)) else { return missing() };
    let secret = |hook: &Hook| json!({ "signing_secret": { "secret": hook.secret, "algorithm": "SHA256" } });
    match (method, path.get(1).copied()) {
        (&Method::GET, None) => answer::json(200, &json!({ "webhook": shown(hook) })),
        (&Method::PUT, None) => update(hook, now, wanted, true),
        (&Method::PATCH, None) => update(hook, now, wanted, false),
        (&Method::GET, Some("signing_secret")) => answer::json(200, &secret(hook)),
        (&Method::POST, Some("signing_secret")) => {
            hook.secret = to_base64(&digest(&format!("{name} another secret {} {now}", hook.id)));
            answer::json(201, &secret(hook))
        }
        _ => error(404, "InvalidEndpoint", "Not found"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use crate::answer::to_base64;
    use crate::hooks::sign;
    use crate::testing::Fake;
    use crate::{HookDelivery, NewTicket, TOKEN, Vendor};

    const HOOKS: &str = "/api/v2/webhooks";
    const EVENTS: [&str; 2] = ["zen:event-type:ticket.created", "zen:event-type:ticket.status_changed"];

    fn fake(settings: &[(&str, &str)]) -> Fake {
        Fake::new(Vendor::Zendesk, settings).header("authorization", &format!("Bearer {TOKEN}"))
    }

    fn wanted(subscriptions: &[&str]) -> Value {
        json!({ "webhook": {
            "name": "Sync", "status": "active", "endpoint": "https://sync.example/hooks", "http_method": "POST",
            "request_format": "json", "subscriptions": subscriptions,
        } })
    }

    /// A webhook for these, and its path.
    fn make(fake: &Fake, subscriptions: &[&str]) -> String {
        let made = fake.post(1000, HOOKS, &wanted(subscriptions));
        assert_eq!((made.status, made.body["webhook"]["subscriptions"].clone()), (201, json!(subscriptions)));
        assert!(made.body["webhook"].get("signing_secret").is_none(), "the secret is shown apart");
        format!("{HOOKS}/{}", made.body["webhook"]["id"].as_str().unwrap())
    }

    fn patch(fake: &Fake, path: &str, part: &Value) -> u16 {
        fake.call(2000, "PATCH", path, &[], Some(&json!({ "webhook": part }))).status
    }

    fn body(delivery: &HookDelivery) -> Value {
        serde_json::from_slice(&delivery.body).unwrap()
    }

    #[test]
    fn webhooks_are_made_changed_and_deleted() {
        let fake = fake(&[]);
        let path = make(&fake, &EVENTS);
        assert_eq!(patch(&fake, &path, &json!({ "status": "inactive" })), 204);
        assert_eq!(patch(&fake, &path, &json!({ "status": "paused" })), 400);
        let shown = fake.get(3000, &path).body["webhook"].clone();
        assert_eq!((shown["status"].clone(), shown["subscriptions"].clone()), (json!("inactive"), json!(EVENTS)));
        let incomplete = json!({ "webhook": { "status": "active" } });
        assert_eq!(fake.put(3000, &path, &incomplete).status, 400, "PUT wants the whole");
        assert_eq!(fake.put(3000, &path, &wanted(&EVENTS[..1])).status, 204);
        assert_eq!(fake.get(3000, &path).body["webhook"]["subscriptions"], json!(EVENTS[..1]));
        assert_eq!(fake.call(4000, "DELETE", &path, &[], None).status, 204);
        assert_eq!((fake.get(4000, &path).status, fake.call(4000, "DELETE", &path, &[], None).status), (404, 404));
    }

    #[test]
    fn a_webhook_is_of_events_or_of_a_trigger_for_good() {
        let fake = fake(&[]);
        for bad in [&["conditional_ticket_events", EVENTS[0]][..], &["zen:event-type:ticket.updated"], &[]] {
            assert_eq!(fake.post(1000, HOOKS, &wanted(bad)).status, 400, "{bad:?}");
        }
        let mut by_get = wanted(&EVENTS);
        by_get["webhook"]["http_method"] = json!("GET");
        assert_eq!(fake.post(1000, HOOKS, &by_get).status, 400);
        let (events, trigger) = (make(&fake, &EVENTS), make(&fake, &["conditional_ticket_events"]));
        assert_eq!(patch(&fake, &events, &json!({ "subscriptions": ["conditional_ticket_events"] })), 400);
        assert_eq!(patch(&fake, &trigger, &json!({ "subscriptions": EVENTS })), 400);
        assert_eq!(patch(&fake, &trigger, &json!({ "status": "inactive" })), 204);
    }

    #[test]
    fn the_list_has_pages_and_its_cursor_ends_with_them() {
        let fake = fake(&[]);
        let made: BTreeSet<String> = (0..5).map(|_| make(&fake, &EVENTS)).collect();
        let (mut seen, mut path) = (Vec::new(), format!("{HOOKS}?page%5Bsize%5D=2"));
        loop {
            let page = fake.get(2000, &path).body;
            let ids = page["webhooks"].as_array().unwrap().iter().map(|hook| hook["id"].as_str().unwrap());
            seen.extend(ids.map(|id| format!("{HOOKS}/{id}")));
            assert_eq!(page["meta"]["has_more"], json!(page["meta"].get("after_cursor").is_some()));
            let Some(cursor) = page["meta"]["after_cursor"].as_str() else { break };
            path = format!("{HOOKS}?page%5Bsize%5D=2&page%5Bafter%5D={cursor}");
        }
        assert_eq!((seen.len(), seen.iter().cloned().collect()), (5, made));
        assert!(seen.is_sorted_by(|one, other| one > other), "the newest comes first");
        assert_eq!(fake.get(2000, &format!("{HOOKS}?filter%5Bname_contains%5D=other")).body["webhooks"], json!([]));
    }

    #[test]
    fn every_webhook_has_a_secret_of_its_own_and_agents_see_none() {
        let fake = fake(&[]);
        let secret = |path: &str| fake.get(2000, &format!("{path}/signing_secret")).body["signing_secret"].clone();
        let (one, other) = (make(&fake, &EVENTS), make(&fake, &EVENTS));
        assert!(secret(&one)["secret"].is_string() && secret(&one) != secret(&other));
        let before = secret(&one);
        assert_eq!(fake.post(2000, &format!("{one}/signing_secret"), &Value::Null).status, 201);
        assert_ne!(secret(&one), before);
        let agent = self::fake(&[("role", "agent")]);
        assert_eq!((agent.get(1000, HOOKS).status, agent.post(1000, HOOKS, &wanted(&EVENTS)).status), (403, 403));
        assert_eq!(agent.get(1000, "/api/v2/users/me").body["user"]["role"], "agent");
    }

    #[test]
    fn events_tell_what_was_and_what_is_in_no_order() {
        let fake = fake(&[]);
        let all =
            ["created", "status_changed", "custom_field_changed", "priority_changed", "soft_deleted", "undeleted"];
        let names = all.map(|name| format!("zen:event-type:ticket.{name}"));
        let path = make(&fake, &names.each_ref().map(String::as_str));
        let new = NewTicket { subject: "Broken widget".to_owned(), email: None, chat: Some("90001".to_owned()) };
        let id = fake.sandbox.open_ticket(2000, "it", &new);
        fake.sandbox.take_hooks();
        let change = json!({ "ticket": {
            "status": "solved", "priority": "high", "custom_fields": [{ "id": 900_001, "value": "90002" }],
            "comment": { "body": "Done" },
        } });
        fake.put(3_500, &format!("/api/v2/tickets/{id}"), &change);
        let told = fake.sandbox.take_hooks();
        let types: Vec<_> = told.iter().map(|delivery| body(delivery)["type"].clone()).collect();
        assert_eq!(types, [1, 2, 3].map(|at| json!(names[at])), "the comment was not asked for");
        let seen = body(&told[0]);
        assert_eq!((&seen["event"]["previous"], &seen["event"]["current"]), (&json!("NEW"), &json!("SOLVED")));
        assert_eq!((&seen["detail"]["id"], &seen["detail"]["status"]), (&json!(id), &json!("SOLVED")));
        assert_eq!(
            (&seen["subject"], &seen["time"]),
            (&json!("zen:ticket:1"), &json!("1970-01-01T00:00:03.500000000Z"))
        );
        assert_eq!(body(&told[2])["event"]["meta"]["sequence"]["id"], seen["event"]["meta"]["sequence"]["id"]);
        let secret = fake.get(4000, &format!("{path}/signing_secret")).body["signing_secret"]["secret"].clone();
        let stamp = told[0].header("x-zendesk-webhook-signature-timestamp").unwrap();
        let signature = to_base64(&sign(secret.as_str().unwrap(), &[stamp.as_bytes(), &told[0].body].concat()));
        assert_eq!(told[0].header("x-zendesk-webhook-signature"), Some(signature.as_str()));
        fake.sandbox.set_ticket(5000, "it", &id, "deleted");
        fake.sandbox.set_ticket(6000, "it", &id, "open");
        let told: Vec<Value> = fake.sandbox.take_hooks().iter().map(|one| body(one)["type"].clone()).collect();
        assert_eq!(told, [json!(names[4]), json!(names[5])]);
        // Who is switched off hears nothing.
        patch(&fake, &path, &json!({ "status": "inactive" }));
        fake.sandbox.set_ticket(7000, "it", &id, "solved");
        assert!(fake.sandbox.take_hooks().is_empty());
    }

    #[test]
    fn a_trigger_made_by_hand_sends_its_template() {
        let fake = fake(&[]);
        fake.sandbox.add_webhook(1000, "it", "https://sync.example/hooks", &["conditional_ticket_events"]);
        let id = fake.sandbox.open_ticket(2000, "it", &NewTicket::default());
        fake.sandbox.set_ticket(3000, "it", &id, "solved");
        let told: Vec<Value> = fake.sandbox.take_hooks().iter().map(|one| body(one)["event"].clone()).collect();
        assert_eq!(told, [json!("ticket.created"), json!("ticket.updated")]);
    }
}
