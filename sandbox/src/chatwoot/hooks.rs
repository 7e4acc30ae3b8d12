//! Webhooks of an account: managed by administrators, signed since 4.12, sent once, without saying who caused the event.

use http::{Method, Response};
use serde_json::{Value, json};

use super::conversations::{INBOX, channel, conversation as shown_conversation, kind, person, wide};
use super::{contact, not_found, refusal};
use crate::answer;
use crate::hooks::{Hook, HookDelivery, Pending, digest, hex, sign, uuid};
use crate::instance::Instance;
use crate::people::Person;
use crate::{Millis, time};

/// What a webhook gets that names no events.
const USUAL: [&str; 8] = [
    "conversation_status_changed",
    "conversation_updated",
    "conversation_created",
    "contact_created",
    "contact_updated",
    "message_created",
    "message_updated",
    "webwidget_triggered",
];
const MORE: [&str; 4] = ["inbox_created", "inbox_updated", "conversation_typing_on", "conversation_typing_off"];

// ---- what happens --------------------------------------------------------------------------------------------------

pub(super) fn conversation(instance: &mut Instance, event: &str, chat: u64, changed: Value) {
    instance.hooks.happened(event, chat, &changed, false);
}

pub(super) fn message_created(instance: &mut Instance, id: u64) {
    instance.hooks.happened("message_created", id, &Value::Null, false);
}

pub(super) fn message_updated(instance: &mut Instance, id: u64) {
    instance.hooks.happened("message_updated", id, &Value::Null, false);
}

/// Every incoming message touches its contact.
pub(super) fn contact_seen(instance: &mut Instance, id: u64, before: Option<Millis>, now: Millis) {
    let changed = json!([
        { "last_activity_at": { "previous_value": before.map(time::iso_millis), "current_value": time::iso_millis(now) } },
        { "updated_at": { "previous_value": before.map(time::iso_millis), "current_value": time::iso_millis(now) } },
    ]);
    instance.hooks.happened("contact_updated", id, &changed, false);
}

/// A contact was made or edited; nothing is told of a deletion, nor of an edit that changed nothing.
pub(crate) fn contact_changed(instance: &mut Instance, id: u64, event: &str, before: Option<&Person>) {
    let Some(after) = instance.person(id) else { return };
    match (event, before) {
        ("created", _) => instance.hooks.happened("contact_created", id, &Value::Null, false),
        ("updated", Some(before)) => {
            let (old, new) = (contact(before), contact(&after));
            let names = ["name", "email", "phone_number", "identifier", "additional_attributes", "custom_attributes"];
            let changed: Vec<Value> = names
                .into_iter()
                .filter(|name| old[name] != new[name])
                .map(|name| json!({ name: { "previous_value": old[name], "current_value": new[name] } }))
                .collect();
            if !changed.is_empty() {
                instance.hooks.happened("contact_updated", id, &json!(changed), false);
            }
        }
        _ => {}
    }
}

/// The server makes the secret, and shows it in every list.
pub(crate) fn register(instance: &mut Instance, now: Millis, name: &str, url: &str, topics: Vec<String>) -> u64 {
    let secret = hex(&digest(&format!("{} secret {url} {now}", instance.spec.name)));
    instance.hooks.register(now, name, url, topics, &secret)
}

pub(crate) fn first_hooks(instance: &mut Instance, topics: Vec<String>, secret: &str) {
    let usual = || USUAL.map(str::to_owned).to_vec();
    let topics = if topics.is_empty() { usual() } else { topics };
    instance.hooks.register(0, "", "http://localhost/", topics, secret);
}

// ---- deliveries ----------------------------------------------------------------------------------------------------

fn account() -> Value {
    json!({ "id": 1, "name": "Shop" })
}

/// Whether the version that the fake plays is at least this one.
fn since(instance: &Instance, wanted: [u64; 3]) -> bool {
    let version = instance.setting("version").unwrap_or("4.15.1");
    let parts: Vec<u64> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    parts >= wanted.to_vec()
}

fn as_contact(person: &Person) -> Value {
    let mut shown = contact(person);
    if let Some(members) = shown.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "availability_status" | "created_at" | "last_activity_at"));
        members.insert("avatar".to_owned(), json!(""));
        members.insert("account".to_owned(), account());
    }
    shown
}

fn as_conversation(instance: &Instance, now: Millis, chat: u64) -> Option<Value> {
    let thread = instance.chats.threads.get(&chat)?;
    let mut shown = shown_conversation(instance, now, thread);
    let said = instance.chats.of(thread).rfind(|said| !said.private && kind(said) != 2);
    let sender = person(instance, thread).map(|person| {
        let mut shown = contact(&person);
        shown["type"] = json!("contact");
        shown
    });
    let members = shown.as_object_mut()?;
    for name in ["uuid", "account_id", "muted", "last_non_activity_message", "assignee_last_seen_at", "sla_policy_id"] {
        members.remove(name);
    }
    let contact_inbox = json!({
        "id": thread.id, "contact_id": thread.person, "inbox_id": INBOX, "source_id": thread.source,
        "created_at": time::iso_millis(thread.created_at), "updated_at": time::iso_millis(thread.created_at),
        "hmac_verified": false, "pubsub_token": hex(&digest(&format!("pubsub {}", thread.source))),
    });
    members.insert("contact_inbox".to_owned(), contact_inbox);
    members.insert("channel".to_owned(), json!(channel(instance)));
    members.insert("messages".to_owned(), said.iter().map(|said| wide(instance, said)).collect());
    members.insert(
        "meta".to_owned(),
        json!({ "sender": sender, "assignee": null, "assignee_type": null, "team": null, "hmac_verified": false }),
    );
    members.insert("first_reply_created_at".to_owned(), json!(thread.first_reply_at.map(time::iso_millis)));
    if since(instance, [4, 14, 2]) {
        members.insert("account".to_owned(), account());
    }
    Some(shown)
}

fn as_message(instance: &Instance, now: Millis, id: u64) -> Option<Value> {
    let said = instance.chats.said.get(&id)?;
    let wide = wide(instance, said);
    let type_name = ["incoming", "outgoing", "activity", "template"][kind(said).min(3) as usize];
    let thread = instance.chats.threads.get(&said.chat)?;
    let sender = match kind(said) {
        0 => person(instance, thread).map(|person| as_contact(&person)),
        1 => said.more.get("sender").map(|sender| match sender["type"] == "agent_bot" {
            true => json!({ "id": sender["id"], "name": sender["name"], "type": "agent_bot" }),
            false => {
                let email = "sync@example.test";
                json!({ "id": sender["id"], "name": sender["name"], "email": email, "type": "user" })
            }
        }),
        _ => None,
    };
    Some(json!({
        "id": said.id, "content": said.text.trim_end_matches('\n'), "content_type": wide["content_type"],
        "content_attributes": wide["content_attributes"], "additional_attributes": {}, "message_type": type_name,
        "private": said.private, "source_id": wide["source_id"], "created_at": time::iso_millis(said.at),
        "sender": sender, "inbox": { "id": INBOX, "name": "Shop" }, "account": account(),
        "conversation": as_conversation(instance, now, said.chat)?,
    }))
}

/// One delivery, built now from what is there now; none of what is gone.
pub(crate) fn deliver(instance: &mut Instance, now: Millis, pending: &Pending) -> Option<HookDelivery> {
    let serial = instance.hooks.serial();
    let hook = instance.hooks.registered.get(&pending.hook)?;
    let mut shown = match pending.topic.as_str() {
        topic if topic.starts_with("contact_") => as_contact(&instance.person(pending.resource)?),
        topic if topic.starts_with("conversation_") => as_conversation(instance, now, pending.resource)?,
        topic if topic.starts_with("message_") => as_message(instance, now, pending.resource)?,
        _ => return None,
    };
    shown["event"] = json!(pending.topic);
    if matches!(pending.topic.as_str(), "contact_updated" | "conversation_updated" | "conversation_status_changed") {
        shown["changed_attributes"] = pending.detail.clone();
    }
    let body = shown.to_string().into_bytes();
    let name = &instance.spec.name;
    let mut headers = vec![
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("Accept".to_owned(), "application/json".to_owned()),
    ];
    if since(instance, [4, 12, 0]) && !hook.secret.is_empty() {
        let stamp = (now / 1000).to_string();
        let signed = [format!("{stamp}.").as_bytes(), &body].concat();
        headers.push(("X-Chatwoot-Delivery".to_owned(), uuid(&format!("{name} delivery {serial}"))));
        headers.push(("X-Chatwoot-Timestamp".to_owned(), stamp));
        headers.push(("X-Chatwoot-Signature".to_owned(), format!("sha256={}", hex(&sign(&hook.secret, &signed)))));
    }
    let url = hook.url.clone();
    Some(HookDelivery { instance: name.clone(), url, headers, body, at: now, path_secret: None })
}

// ---- managing them -------------------------------------------------------------------------------------------------

fn shown(hook: &Hook) -> Value {
    json!({
        "id": hook.id, "name": hook.name, "url": hook.url, "account_id": 1, "subscriptions": hook.topics,
        "secret": hook.secret,
    })
}

pub(super) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
) -> Response<Vec<u8>> {
    if instance.setting("role") == Some("agent") {
        return answer::json(401, &json!({ "error": "You are not authorized to do this action" }));
    }
    let body = answer::body(request);
    let body = body.get("webhook").unwrap_or(&body);
    let id = path.strip_prefix("webhooks/").map(|id| id.parse::<u64>().unwrap_or(0));
    if id.is_some_and(|id| !instance.hooks.registered.contains_key(&id)) {
        return not_found();
    }
    let topics = match &body["subscriptions"] {
        Value::Null => None,
        Value::Array(list) if !list.is_empty() => {
            let names: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if names.len() != list.len()
                || names.iter().any(|name| ![&USUAL[..], &MORE[..]].concat().contains(&&**name))
            {
                return refusal("Subscriptions Invalid events", "subscriptions");
            }
            Some(names)
        }
        _ => return refusal("Subscriptions Invalid events", "subscriptions"),
    };
    let url = body["url"].as_str();
    if let Some(url) = url {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return refusal("Url is invalid", "url");
        }
        if instance.hooks.registered.values().any(|hook| Some(hook.id) != id && hook.url == url) {
            return refusal("Url has already been taken", "url");
        }
    }
    let one = |hook: &Hook| answer::json(200, &json!({ "payload": { "webhook": shown(hook) } }));
    match (request.method(), id) {
        (&Method::GET, None) => {
            let rows: Vec<Value> = instance.hooks.registered.values().map(shown).collect();
            answer::json(200, &json!({ "payload": { "webhooks": rows } }))
        }
        (&Method::POST, None) => {
            let Some(url) = url else { return refusal("Url can't be blank, Url is invalid", "url") };
            let name = body["name"].as_str().unwrap_or_default();
            let topics = topics.unwrap_or_else(|| USUAL.map(str::to_owned).to_vec());
            let id = register(instance, now, name, url, topics);
            one(&instance.hooks.registered[&id])
        }
        (&Method::PATCH | &Method::PUT, Some(id)) => {
            let Some(hook) = instance.hooks.registered.get_mut(&id) else { return not_found() };
            hook.updated_at = now;
            if let Some(url) = url {
                hook.url = url.to_owned();
            }
            if let Some(name) = body["name"].as_str() {
                hook.name = name.to_owned();
            }
            if let Some(topics) = topics {
                hook.topics = topics;
            }
            one(hook)
        }
        (&Method::DELETE, Some(id)) => {
            instance.hooks.registered.remove(&id);
            answer::raw(200, "application/json", Vec::new())
        }
        _ => not_found(),
    }
}
