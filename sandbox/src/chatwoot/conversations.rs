//! Conversations and messages of the Application API.

use std::cmp::Reverse;

use http::{Method, Response};
use serde_json::{Map, Value, json};

use super::{contact, hooks as events, not_found};
use crate::answer::{self, Query};
use crate::chats::{Author, Said, Thread};
use crate::faults::Fate;
use crate::hooks::uuid;
use crate::instance::Instance;
use crate::people::Person;
use crate::{Millis, time};

/// Rows of one page of conversations.
const PAGE: u64 = 25;
/// The one inbox there is.
pub(super) const INBOX: u64 = 1;
/// Messages that a conversation takes in a minute.
const FLOOD: usize = 200;

const INCOMING: u64 = 0;
const OUTGOING: u64 = 1;
const ACTIVITY: u64 = 2;
const TEMPLATE: u64 = 3;

/// `Channel::Api`, or what `channel` says.
pub(super) fn channel(instance: &Instance) -> String {
    format!("Channel::{}", instance.setting("channel").unwrap_or("Api"))
}

fn is_api(instance: &Instance) -> bool {
    instance.setting("channel").unwrap_or("Api") == "Api"
}

/// Which of the two a Twilio inbox is.
fn medium(instance: &Instance) -> &str {
    instance.setting("medium").unwrap_or("sms")
}

/// Why the channel does not take a source id.
fn invalid_source(instance: &Instance, source: &str) -> Option<Response<Vec<u8>>> {
    let (inbox, prefix) = match (instance.setting("channel").unwrap_or("Api"), medium(instance)) {
        ("Whatsapp", _) => ("whatsapp", ""),
        ("TwilioSms", "whatsapp") => ("twilio whatsapp", "whatsapp:+"),
        ("TwilioSms", _) => ("twilio sms", "+"),
        _ => return None,
    };
    let digits = source.strip_prefix(prefix).unwrap_or_default();
    let fits = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let message = format!("Source invalid source id for {inbox} inbox. valid Regex (?-mix:^{prefix}\\d{{1,15}}\\z)");
    (!fits).then(|| answer::json(422, &json!({ "message": message, "attributes": ["source_id"] })))
}

/// The source id that a channel has for somebody by itself.
fn natural_source(instance: &Instance, id: u64) -> Option<String> {
    let person = instance.person(id)?;
    match (instance.setting("channel").unwrap_or("Api"), medium(instance)) {
        ("Email", _) => person.email,
        ("Whatsapp", _) => person.phone.map(|phone| phone.replace('+', "")),
        ("TwilioSms", "whatsapp") => person.phone.map(|phone| format!("whatsapp:{phone}")),
        ("TwilioSms" | "Sms", _) => person.phone,
        _ => None,
    }
}

/// For how long after the customer's last message the channel takes text; none where that never ends.
fn window(instance: &Instance) -> Option<Millis> {
    let hours = match instance.setting("channel").unwrap_or("Api") {
        "Whatsapp" | "FacebookPage" | "Instagram" => 24,
        "TwilioSms" if medium(instance) == "whatsapp" => 24,
        "Tiktok" => 48,
        "Api" => instance.setting("agent_reply_time_window").and_then(|hours| hours.parse().ok())?,
        _ => return None,
    };
    Some(hours * 3_600_000)
}

fn can_reply(instance: &Instance, thread: &Thread, now: Millis) -> bool {
    let last = || instance.chats.of(thread).rfind(|said| kind(said) == INCOMING);
    window(instance).is_none_or(|window| last().is_some_and(|said| now < said.at + window))
}

/// What cannot be delivered is taken, and fails a moment later. Of an API inbox that is its owner's business.
fn deliver(instance: &mut Instance, now: Millis, id: u64) {
    let Some(said) = instance.chats.said.get(&id) else { return };
    let Some(thread) = instance.chats.threads.get(&said.chat) else { return };
    let goes_out = kind(said) == OUTGOING && !said.private;
    if !goes_out || is_api(instance) {
        return;
    }
    let has_written = || instance.chats.of(thread).any(|said| kind(said) == INCOMING);
    let error = match (can_reply(instance, thread, now), instance.setting("unsubscribed")) {
        (false, _) => "131047: Re-engagement message",
        (true, Some(_)) if !has_written() => "21610 - Attempt to send to unsubscribed recipient",
        (true, _) => return,
    };
    let chat = said.chat;
    if let Some(said) = instance.chats.said.get_mut(&id) {
        said.more.insert("status".to_owned(), json!("failed"));
        let attributes = said.more.entry("content_attributes").or_insert_with(|| json!({}));
        attributes["external_error"] = json!(error);
    }
    if let Some(thread) = instance.chats.threads.get_mut(&chat) {
        thread.updated_at = now;
    }
    events::message_updated(instance, id);
}

fn server_error() -> Response<Vec<u8>> {
    answer::json(500, &json!({ "status": 500, "error": "Internal Server Error" }))
}

fn refused(message: &str) -> Response<Vec<u8>> {
    answer::json(422, &json!({ "error": message }))
}

fn missing(name: &str) -> Response<Vec<u8>> {
    refused(&format!("param is missing or the value is empty: {name}"))
}

fn inbox(instance: &Instance) -> Value {
    json!({
        "id": INBOX, "avatar_url": "", "channel_id": 1, "name": "Shop", "channel_type": channel(instance),
        "provider": null,
    })
}

pub(super) fn person(instance: &Instance, thread: &Thread) -> Option<Person> {
    thread.person.and_then(|id| instance.person(id))
}

// ---- shapes --------------------------------------------------------------------------------------------------------

pub(super) fn kind(said: &Said) -> u64 {
    said.more.get("message_type").and_then(Value::as_u64).unwrap_or(match said.author {
        Author::Customer => INCOMING,
        Author::Agent => OUTGOING,
        Author::Bot => TEMPLATE,
    })
}

fn contact_as_sender(person: &Person) -> Value {
    let mut shown = contact(person);
    if let Some(members) = shown.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "availability_status" | "created_at" | "last_activity_at"));
        members.insert("type".to_owned(), json!("contact"));
    }
    shown
}

/// Who wrote: the contact, an agent, a bot; nobody where the system did.
fn sender(instance: &Instance, said: &Said) -> Option<Value> {
    match kind(said) {
        OUTGOING => said.more.get("sender").cloned(),
        TEMPLATE if said.author == Author::Bot => None,
        _ => {
            let thread = instance.chats.threads.get(&said.chat)?;
            person(instance, thread).map(|person| contact_as_sender(&person))
        }
    }
}

fn member(said: &Said, name: &str, usual: Value) -> Value {
    said.more.get(name).cloned().unwrap_or(usual)
}

fn message(instance: &Instance, said: &Said) -> Value {
    let mut shown = json!({
        "id": said.id, "content": said.text, "inbox_id": INBOX, "conversation_id": said.chat,
        "message_type": kind(said), "content_type": member(said, "content_type", json!("text")),
        "status": member(said, "status", json!("sent")),
        "content_attributes": member(said, "content_attributes", json!({})), "created_at": said.at / 1000,
        "private": said.private, "source_id": member(said, "source_id", Value::Null),
    });
    if let Some(sender) = sender(instance, said) {
        shown["sender"] = sender;
    }
    shown
}

/// The form inside conversations: every column, and some of the conversation.
pub(super) fn wide(instance: &Instance, said: &Said) -> Value {
    let mut shown = message(instance, said);
    let (sender_type, sender_id) = match kind(said) {
        OUTGOING => {
            let sender = said.more.get("sender");
            let bot = sender.is_some_and(|sender| sender["type"] == "agent_bot");
            (json!(if bot { "AgentBot" } else { "User" }), sender.map_or(Value::Null, |sender| sender["id"].clone()))
        }
        TEMPLATE => (Value::Null, Value::Null),
        _ => {
            let thread = instance.chats.threads.get(&said.chat);
            (json!("Contact"), json!(thread.and_then(|thread| thread.person)))
        }
    };
    let more = json!({
        "account_id": 1, "updated_at": time::iso_millis(said.at), "sender_type": sender_type, "sender_id": sender_id,
        "external_source_ids": {}, "additional_attributes": {}, "processed_message_content": said.text,
        "sentiment": {},
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    if let Some(thread) = instance.chats.threads.get(&said.chat) {
        shown["conversation"] = json!({
            "assignee_id": null, "unread_count": thread.unread.min(10), "last_activity_at": thread.active_at / 1000,
            "contact_inbox": { "source_id": thread.source },
        });
    }
    shown
}

fn seconds(at: Option<Millis>) -> Millis {
    at.map_or(0, |at| at / 1000)
}

pub(super) fn conversation(instance: &Instance, now: Millis, thread: &Thread) -> Value {
    let last = instance.chats.of(thread).next_back();
    let spoken = instance.chats.of(thread).rfind(|said| kind(said) != ACTIVITY);
    let mut shown = json!({
        "id": thread.id, "uuid": uuid(&format!("{} conversation {}", instance.spec.name, thread.id)), "account_id": 1,
        "inbox_id": INBOX, "status": thread.status, "priority": thread.priority, "labels": thread.labels,
        "custom_attributes": thread.custom, "additional_attributes": thread.additional,
        "meta": {
            "sender": person(instance, thread).map(|person| contact(&person)), "channel": channel(instance),
            "hmac_verified": false,
        },
        "messages": last.map(|said| wide(instance, said)).into_iter().collect::<Vec<_>>(),
        "last_non_activity_message": spoken.map(|said| wide(instance, said)), "muted": false,
        "can_reply": can_reply(instance, thread, now),
        "unread_count": thread.unread.min(10), "snoozed_until": thread.snoozed_until.map(time::iso_millis),
    });
    let times = json!({
        "created_at": thread.created_at / 1000, "timestamp": thread.active_at / 1000,
        "last_activity_at": thread.active_at / 1000, "updated_at": thread.updated_at as f64 / 1000.0,
        "agent_last_seen_at": 0, "assignee_last_seen_at": 0, "contact_last_seen_at": 0,
        "first_reply_created_at": seconds(thread.first_reply_at), "waiting_since": seconds(thread.waiting_since),
        "sla_policy_id": null,
    });
    if let (Value::Object(shown), Value::Object(times)) = (&mut shown, times) {
        shown.extend(times);
    }
    shown
}

// ---- what happens --------------------------------------------------------------------------------------------------

/// What a message is made of.
#[derive(Default)]
struct Draft {
    text: String,
    kind: u64,
    private: bool,
    bot: bool,
    more: Map<String, Value>,
}

fn write(instance: &mut Instance, now: Millis, chat: u64, draft: Draft) -> Option<u64> {
    let author = match draft.kind {
        INCOMING => Author::Customer,
        OUTGOING if !draft.bot => Author::Agent,
        _ => Author::Bot,
    };
    let said = instance.chats.write(now, chat, author, draft.private, &draft.text)?;
    said.more = draft.more;
    said.more.insert("message_type".to_owned(), json!(draft.kind));
    let id = said.id;
    let thread = instance.chats.threads.get_mut(&chat)?;
    thread.active_at = now;
    let (waited, replied) = (thread.waiting_since, thread.first_reply_at);
    let public = draft.kind == OUTGOING && !draft.private;
    if draft.kind == INCOMING {
        thread.waiting_since = thread.waiting_since.or(Some(now));
    } else if public {
        thread.waiting_since = None;
        if !draft.bot {
            thread.first_reply_at = thread.first_reply_at.or(Some(now));
        }
    }
    let (waits, has_reply) = (thread.waiting_since, thread.first_reply_at);
    let (status, person) = (thread.status.clone(), thread.person);
    if draft.kind != ACTIVITY {
        events::message_created(instance, id);
    }
    let pair = |old: Option<Millis>, new: Option<Millis>| json!({ "previous_value": old.map(time::iso_millis), "current_value": new.map(time::iso_millis) });
    let mut changed = Vec::new();
    if waited != waits {
        changed.push(json!({ "waiting_since": pair(waited, waits) }));
    }
    if replied != has_reply {
        changed.push(json!({ "first_reply_created_at": pair(replied, has_reply) }));
    }
    if !changed.is_empty() {
        events::conversation(instance, "conversation_updated", chat, json!(changed));
    }
    if draft.kind == INCOMING {
        if let Some(person) = person {
            let before = instance.chats.seen.insert(person, now);
            events::contact_seen(instance, person, before, now);
        }
        if matches!(status.as_str(), "resolved" | "snoozed") {
            let bot = instance.setting("active_bot").is_some() && status == "resolved";
            set_status(instance, now, chat, if bot { "pending" } else { "open" });
        }
    }
    Some(id)
}

/// Somebody writes, not through the API.
pub(crate) fn say(instance: &mut Instance, now: Millis, chat: u64, author: Author, text: &str) -> Option<u64> {
    let mut more = Map::new();
    let kind = match author {
        Author::Customer => INCOMING,
        Author::Agent => {
            more.insert("sender".to_owned(), agent(2, "Ola"));
            OUTGOING
        }
        Author::Bot => TEMPLATE,
    };
    write(
        instance,
        now,
        chat,
        Draft { text: text.to_owned(), kind, bot: author == Author::Bot, more, ..Draft::default() },
    )
}

fn agent(id: u64, name: &str) -> Value {
    json!({
        "id": id, "name": name, "available_name": name, "avatar_url": "", "type": "user",
        "availability_status": "online", "thumbnail": "",
    })
}

/// A customer begins a conversation.
pub(crate) fn open(instance: &mut Instance, now: Millis, person: u64) -> u64 {
    let source = instance.chats.source_of(person).unwrap_or_else(|| usual_source(instance, person));
    begin(instance, now, person, &source, None)
}

/// The source id that the channel makes for somebody.
fn usual_source(instance: &mut Instance, person: u64) -> String {
    let Some(source) = natural_source(instance, person) else { return fresh_source(instance, person) };
    instance.chats.sources.insert(source.clone(), person);
    source
}

/// A source id that nothing had before.
fn fresh_source(instance: &mut Instance, person: u64) -> String {
    let source = uuid(&format!("{} contact inbox {}", instance.spec.name, instance.chats.sources.len()));
    instance.chats.sources.insert(source.clone(), person);
    source
}

fn begin(instance: &mut Instance, now: Millis, person: u64, source: &str, status: Option<&str>) -> u64 {
    let status = match instance.setting("active_bot") {
        Some(_) => "pending",
        None => status.unwrap_or("open"),
    }
    .to_owned();
    let thread = instance.chats.open(now, person);
    thread.source = source.to_owned();
    thread.status = status;
    let id = thread.id;
    events::conversation(instance, "conversation_created", id, Value::Null);
    id
}

/// A change of status makes two events, and may ask the customer for an opinion.
pub(crate) fn set_status(instance: &mut Instance, now: Millis, chat: u64, status: &str) {
    let Some(thread) = instance.chats.threads.get_mut(&chat) else { return };
    if thread.status == status {
        return;
    }
    let before = std::mem::replace(&mut thread.status, status.to_owned());
    thread.updated_at = now;
    if status != "snoozed" {
        thread.snoozed_until = None;
    }
    if status == "resolved" {
        thread.waiting_since = None;
    }
    events::conversation(instance, "conversation_status_changed", chat, Value::Null);
    let changed = json!([{ "status": { "previous_value": before, "current_value": status } }]);
    events::conversation(instance, "conversation_updated", chat, changed);
    if status == "resolved" && instance.setting("csat").is_some() {
        let more = Map::from_iter([("content_type".to_owned(), json!("input_csat"))]);
        let text = "Please rate the conversation".to_owned();
        write(instance, now, chat, Draft { text, kind: TEMPLATE, bot: true, more, ..Draft::default() });
    }
}

// ---- the API -------------------------------------------------------------------------------------------------------

/// Everything below `conversations`.
pub(super) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &Fate,
) -> Response<Vec<u8>> {
    let Some(rest) = path.strip_prefix("conversations/") else {
        return match *request.method() {
            Method::GET => list(instance, now, query, fate),
            Method::POST => create(instance, now, &answer::body(request)),
            _ => not_found(),
        };
    };
    if rest == "meta" {
        return answer::json(200, &json!({ "meta": counts(found(instance, now, query).len()) }));
    }
    let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(id) = id.parse().ok().filter(|id| instance.chats.threads.contains_key(id)) else { return not_found() };
    let body = answer::body(request);
    match (request.method(), action) {
        (&Method::GET, "") => answer::json(200, &conversation(instance, now, &instance.chats.threads[&id])),
        (&Method::GET, "messages") => messages(instance, id, query),
        (&Method::POST, "messages") => send(instance, now, id, &body),
        (&Method::POST, again) if again.starts_with("messages/") && again.ends_with("/retry") => {
            retry(instance, now, id, again)
        }
        (&Method::POST, "toggle_status") => toggle_status(instance, now, id, &body),
        (&Method::GET, "labels") => answer::json(200, &json!({ "payload": instance.chats.threads[&id].labels })),
        (&Method::POST, "labels") => {
            let wanted = body["labels"].as_array().cloned().unwrap_or_default();
            let labels: Vec<String> = wanted.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            let Some(thread) = instance.chats.threads.get_mut(&id) else { return not_found() };
            let before = std::mem::replace(&mut thread.labels, labels.clone());
            if before != labels {
                thread.updated_at = now;
                let changed = json!([{ "label_list": { "previous_value": before, "current_value": labels } }]);
                events::conversation(instance, "conversation_updated", id, changed);
            }
            answer::json(200, &json!({ "payload": labels }))
        }
        (&Method::POST, "custom_attributes") => {
            // The whole object is replaced.
            let custom = body["custom_attributes"].as_object().cloned().unwrap_or_default();
            let Some(thread) = instance.chats.threads.get_mut(&id) else { return not_found() };
            let before = std::mem::replace(&mut thread.custom, custom.clone());
            if before != custom {
                thread.updated_at = now;
                let changed = json!([{ "custom_attributes": { "previous_value": before, "current_value": custom } }]);
                events::conversation(instance, "conversation_updated", id, changed);
            }
            answer::json(200, &json!({ "custom_attributes": custom }))
        }
        _ => not_found(),
    }
}

fn counts(all: usize) -> Value {
    json!({ "mine_count": 0, "assigned_count": 0, "unassigned_count": all, "all_count": all })
}

fn found<'a>(instance: &'a Instance, now: Millis, query: &Query) -> Vec<&'a Thread> {
    let wanted = query.get("status").unwrap_or("open");
    let labels = query.list("labels");
    let within = query.number("updated_within").map(|seconds| now - seconds as Millis * 1000);
    let says = |thread: &Thread, text: &str| instance.chats.of(thread).any(|said| said.text.contains(text));
    let threads = instance.chats.threads.values();
    threads
        .filter(|thread| query.get("q").is_some() || wanted == "all" || thread.status == wanted)
        .filter(|thread| query.get("q").is_none_or(|text| says(thread, text)))
        .filter(|_| query.number("inbox_id").is_none_or(|inbox| inbox == INBOX))
        .filter(|thread| query.get("source_id").is_none_or(|source| thread.source == source))
        .filter(|thread| labels.is_empty() || thread.labels.iter().any(|label| labels.contains(&label.as_str())))
        .filter(|thread| within.is_none_or(|from| thread.updated_at > from))
        .collect()
}

fn list(instance: &Instance, now: Millis, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let mut threads = found(instance, now, query);
    match query.get("sort_by").unwrap_or_default() {
        "last_activity_at_asc" => threads.sort_by_key(|thread| thread.active_at),
        "created_at_asc" => threads.sort_by_key(|thread| thread.created_at),
        "created_at_desc" | "sort_on_created_at" => threads.sort_by_key(|thread| Reverse(thread.created_at)),
        _ => threads.sort_by_key(|thread| Reverse(thread.active_at)),
    }
    let all = threads.len();
    // Nobody is ever assigned.
    if matches!(query.get("assignee_type"), Some("me" | "assigned")) {
        threads.clear();
    }
    let mut ids: Vec<u64> = threads.iter().map(|thread| thread.id).collect();
    instance.shift(&mut ids, fate);
    let page = query.number("page").unwrap_or(1).max(1);
    let size = instance.page_size(PAGE);
    let (from, size) = match query.get("updated_within") {
        // Everything at once.
        Some(_) => (0, ids.len()),
        None => ((page - 1).saturating_mul(size).min(ids.len() as u64) as usize, size as usize),
    };
    let rows: Vec<Value> = match fate.empty_page && page > 1 {
        true => Vec::new(),
        false => ids
            .iter()
            .skip(from)
            .take(size)
            .map(|id| conversation(instance, now, &instance.chats.threads[id]))
            .collect(),
    };
    let meta = counts(all + fate.total_lies.unwrap_or(0) as usize);
    answer::json(200, &json!({ "data": { "meta": meta, "payload": rows } }))
}

fn messages(instance: &Instance, chat: u64, query: &Query) -> Response<Vec<u8>> {
    let thread = &instance.chats.threads[&chat];
    let internal = query.get("filter_internal_messages").is_some();
    let shown: Vec<&Said> =
        instance.chats.of(thread).filter(|said| !internal || !(said.private || kind(said) == ACTIVITY)).collect();
    let (before, after) = (query.number("before"), query.number("after"));
    let last = |found: Vec<&Said>, most: usize| -> Vec<Value> {
        found[found.len().saturating_sub(most)..].iter().map(|said| message(instance, said)).collect()
    };
    let first = |found: Vec<&Said>, most: usize| -> Vec<Value> {
        found.iter().take(most).map(|said| message(instance, said)).collect()
    };
    let pick = |keep: &dyn Fn(u64) -> bool| shown.iter().copied().filter(|said| keep(said.id)).collect::<Vec<_>>();
    let rows = match (before, after) {
        (None, None) => last(shown, 20),
        (Some(before), None) => last(pick(&|id| id < before), 20),
        (None, Some(after)) => first(pick(&|id| id > after), 100),
        (Some(before), Some(after)) => first(pick(&|id| id >= after && id < before), 1000),
    };
    let meta = json!({
        "labels": thread.labels, "additional_attributes": thread.additional,
        "contact": person(instance, thread).map(|person| contact(&person)), "agent_last_seen_at": null,
        "assignee_last_seen_at": null,
    });
    answer::json(200, &json!({ "meta": meta, "payload": rows }))
}

/// Reads and checks a message; the refusal when it will not do.
fn draft(instance: &Instance, now: Millis, chat: Option<u64>, body: &Value) -> Result<Draft, Box<Response<Vec<u8>>>> {
    let truthy = |value: &Value| value == true || value == "true" || value == 1;
    let text = body["content"].as_str().unwrap_or_default().to_owned();
    if text.chars().count() > 150_000 {
        return Err(Box::new(refused("Validation failed: Content is too long (maximum is 150000 characters)")));
    }
    let kind = match body["message_type"].as_str().unwrap_or("outgoing") {
        "outgoing" => OUTGOING,
        "incoming" if is_api(instance) => INCOMING,
        "incoming" if chat.is_none() => return Err(Box::new(server_error())),
        "incoming" => return Err(Box::new(refused("Incoming messages are only allowed in Api inboxes"))),
        "activity" => ACTIVITY,
        "template" => TEMPLATE,
        _ if chat.is_none() => return Err(Box::new(server_error())),
        other => return Err(Box::new(refused(&format!("'{other}' is not a valid message_type")))),
    };
    if let Some(thread) = chat.and_then(|chat| instance.chats.threads.get(&chat)) {
        let recent = instance.chats.of(thread).rev().take_while(|said| said.at > now - 60_000).count();
        if recent >= FLOOD {
            return Err(Box::new(refused("Validation failed: Too many messages")));
        }
    }
    let attributes = match &body["content_attributes"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or(json!({})),
        Value::Object(members) => json!(members),
        _ => json!({}),
    };
    let bot = body["sender_type"] == "AgentBot" && !body["sender_id"].is_null();
    let sender = match bot {
        true => json!({ "id": body["sender_id"], "name": "Notices", "avatar_url": "", "type": "agent_bot" }),
        false => agent(1, "Sync"),
    };
    let mut more = Map::new();
    more.insert("content_attributes".to_owned(), attributes);
    more.insert("source_id".to_owned(), body["source_id"].clone());
    more.insert("sender".to_owned(), sender);
    if let Some(content_type) = body["content_type"].as_str() {
        more.insert("content_type".to_owned(), json!(content_type));
    }
    Ok(Draft { text, kind, private: truthy(&body["private"]), bot: bot && kind == OUTGOING, more })
}

fn send(instance: &mut Instance, now: Millis, chat: u64, body: &Value) -> Response<Vec<u8>> {
    let draft = match draft(instance, now, Some(chat), body) {
        Ok(draft) => draft,
        Err(refusal) => return *refusal,
    };
    // Nothing is unique, so that a repeated call makes a second message.
    let Some(id) = write(instance, now, chat, draft) else { return not_found() };
    let mut shown = message(instance, &instance.chats.said[&id]);
    if !body["echo_id"].is_null() {
        shown["echo_id"] = body["echo_id"].clone();
    }
    deliver(instance, now, id);
    answer::json(200, &shown)
}

/// The same message once more: it forgets what it was told besides its text.
fn retry(instance: &mut Instance, now: Millis, chat: u64, path: &str) -> Response<Vec<u8>> {
    let Some(id) = path.split('/').nth(1).and_then(|id| id.parse().ok()) else { return not_found() };
    let Some(said) = instance.chats.said.get_mut(&id).filter(|said| said.chat == chat) else { return not_found() };
    said.more.insert("status".to_owned(), json!("sent"));
    said.more.insert("content_attributes".to_owned(), json!({}));
    if let Some(thread) = instance.chats.threads.get_mut(&chat) {
        thread.updated_at = now;
    }
    events::message_updated(instance, id);
    let shown = message(instance, &instance.chats.said[&id]);
    deliver(instance, now, id);
    answer::json(200, &shown)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

fn create(instance: &mut Instance, now: Millis, body: &Value) -> Response<Vec<u8>> {
    let source = body["source_id"].as_str().filter(|source| !source.is_empty()).map(str::to_owned);
    let (contact, inbox) = (number(&body["contact_id"]), number(&body["inbox_id"]));
    let known = source.as_ref().and_then(|source| instance.chats.sources.get(source).copied());
    let person = match (contact, inbox, known) {
        (Some(contact), Some(_), _) => contact,
        (_, _, Some(person)) => person,
        (None, Some(_), None) => return missing("contact_id"),
        _ => return not_found(),
    };
    if !instance.people.contains_key(&person) || inbox.is_some_and(|inbox| inbox != INBOX) {
        return not_found();
    }
    let status = body["status"].as_str().filter(|status| !status.is_empty());
    if status.is_some_and(|status| !["open", "resolved", "pending", "snoozed"].contains(&status)) {
        return server_error();
    }
    if known.is_some_and(|holder| holder != person) {
        return refused("source_id should be unique");
    }
    if let Some(invalid) = source.as_deref().and_then(|source| invalid_source(instance, source)) {
        return invalid;
    }
    // All or nothing: a message that will not do leaves no conversation behind.
    let first = match &body["message"] {
        Value::Object(_) => match draft(instance, now, None, &body["message"]) {
            Ok(draft) => Some(draft),
            Err(refusal) => return *refusal,
        },
        _ => None,
    };
    let source = match source {
        Some(source) => {
            instance.chats.sources.insert(source.clone(), person);
            source
        }
        None => usual_source(instance, person),
    };
    let locked = instance.setting("lock_to_single_conversation").is_some();
    let last = instance.chats.threads.values().rfind(|thread| thread.source == source).map(|thread| thread.id);
    let id = match last.filter(|_| locked) {
        Some(id) => id,
        None => {
            let id = begin(instance, now, person, &source, status);
            if let Some(thread) = instance.chats.threads.get_mut(&id) {
                thread.custom = body["custom_attributes"].as_object().cloned().unwrap_or_default();
                thread.additional = body["additional_attributes"].as_object().cloned().unwrap_or_default();
            }
            id
        }
    };
    if let Some(draft) = first {
        write(instance, now, id, draft);
    }
    let shown = conversation(instance, now, &instance.chats.threads[&id]);
    let first = instance.chats.of(&instance.chats.threads[&id]).next_back().map(|said| said.id);
    if let Some(first) = first {
        deliver(instance, now, first);
    }
    answer::json(200, &shown)
}

fn toggle_status(instance: &mut Instance, now: Millis, chat: u64, body: &Value) -> Response<Vec<u8>> {
    let thread = &instance.chats.threads[&chat];
    let wanted = match body["status"].as_str().filter(|status| !status.is_empty()) {
        Some(status) if ["open", "resolved", "pending", "snoozed"].contains(&status) => status.to_owned(),
        Some(_) => return server_error(),
        None if thread.status == "open" => "resolved".to_owned(),
        None => "open".to_owned(),
    };
    let until = match &body["snoozed_until"] {
        Value::Null => None,
        value => match number(value) {
            Some(seconds) => Some(seconds as Millis * 1000),
            None => return server_error(),
        },
    };
    set_status(instance, now, chat, &wanted);
    let Some(thread) = instance.chats.threads.get_mut(&chat) else { return not_found() };
    if thread.status == "snoozed" {
        thread.snoozed_until = until;
    }
    let payload = json!({
        "success": true, "conversation_id": chat, "current_status": thread.status,
        "snoozed_until": thread.snoozed_until.map(time::iso_millis),
    });
    answer::json(200, &json!({ "meta": {}, "payload": payload }))
}

// ---- contacts in inboxes -------------------------------------------------------------------------------------------

/// `contacts/{id}/conversations`: the twenty newest, no paging.
pub(super) fn of_contact(instance: &Instance, now: Millis, id: u64) -> Response<Vec<u8>> {
    let mut threads: Vec<&Thread> =
        instance.chats.threads.values().filter(|thread| thread.person == Some(id)).collect();
    threads.sort_by_key(|thread| Reverse(thread.active_at));
    let rows: Vec<Value> = threads.iter().take(20).map(|thread| conversation(instance, now, thread)).collect();
    answer::json(200, &json!({ "payload": rows }))
}

/// Where somebody can be written to. An API inbox takes any source id, and offers a new one each time where there is none.
pub(super) fn contactable(instance: &Instance, id: u64) -> Response<Vec<u8>> {
    let known = instance.chats.source_of(id);
    let is_used = |source: &String| instance.chats.threads.values().any(|thread| thread.source == *source);
    let source = match instance.setting("channel").unwrap_or("Api") {
        "Api" => known.or_else(|| Some(uuid(&format!("{} offer {}", instance.spec.name, instance.calls)))),
        "WebWidget" => known.filter(|source| !is_used(source)),
        _ => natural_source(instance, id),
    };
    let rows: Vec<Value> =
        source.iter().map(|source| json!({ "inbox": inbox(instance), "source_id": source })).collect();
    answer::json(200, &json!({ "payload": rows }))
}

/// `contacts/{id}/contact_inboxes`.
pub(super) fn add_source(instance: &mut Instance, id: u64, body: &Value) -> Response<Vec<u8>> {
    if number(&body["inbox_id"]) != Some(INBOX) {
        return not_found();
    }
    let source = match body["source_id"].as_str().filter(|source| !source.is_empty()) {
        None => fresh_source(instance, id),
        Some(source) => {
            if let Some(invalid) = invalid_source(instance, source) {
                return invalid;
            }
            if instance.chats.sources.get(source).is_some_and(|holder| *holder != id) {
                return server_error();
            }
            instance.chats.sources.insert(source.to_owned(), id);
            source.to_owned()
        }
    };
    answer::json(200, &json!({ "source_id": source, "inbox": inbox(instance) }))
}

/// `inboxes` and `inboxes/{id}`.
pub(super) fn inboxes(instance: &Instance, path: &str) -> Response<Vec<u8>> {
    let mut inbox = inbox(instance);
    if instance.setting("channel") == Some("TwilioSms") {
        inbox["medium"] = json!(medium(instance));
    }
    match path.strip_prefix("inboxes/").map(str::parse) {
        None => answer::json(200, &json!({ "payload": [inbox] })),
        Some(Ok(INBOX)) => answer::json(200, &inbox),
        Some(_) => not_found(),
    }
}

/// `contact_inboxes/filter`.
pub(super) fn by_source(instance: &Instance, body: &Value) -> Response<Vec<u8>> {
    let source = body["source_id"].as_str().unwrap_or_default();
    let person = instance.chats.sources.get(source).and_then(|id| instance.person(*id));
    match person.filter(|_| number(&body["inbox_id"]) == Some(INBOX)) {
        Some(person) => answer::json(200, &contact(&person)),
        None => answer::raw(404, "application/json", Vec::new()),
    }
}
