//! Chatway's Public API: contacts, conversations, messages. JSON:API envelopes, ids as texts, small pages, no filters, no
//! deletion, no webhooks.
//!
//! The contact resource is not documented; it has the shape that the rest of the API suggests. What the documentation
//! leaves open is a setting: `msg_limit_max`, `msg_order` (`asc`, `desc`), `conversations_order` (`created`, `activity`),
//! `sender` (`owner`, `neutral`: who appears to have written a message without `agent_id`).

use http::{Method, Response};
use serde_json::{Value, json};

use crate::answer::{self, Query, header};
use crate::chats::{Author, Said, Thread};
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

fn conversation(instance: &Instance, thread: &Thread) -> Value {
    let person = thread.person.and_then(|id| instance.person(id));
    // A note is for the staff; the list shows what the customer could see.
    let latest = instance.chats.of(thread).rfind(|said| !said.private);
    json!({
        "type": "conversations",
        "id": thread.id.to_string(),
        "attributes": {
            "contact_id": person.as_ref().map(|person| &person.id), "contact_name": person.as_ref().map(|person| &person.full_name),
            "is_resolved": thread.status == "resolved", "unread_messages": thread.unread,
            "created_at": time::iso(thread.created_at),
            "latest_message": latest.map(|said| json!({ "content": said.text, "url": null })),
        },
    })
}

fn message(instance: &Instance, said: &Said) -> Value {
    let thread = instance.chats.threads.get(&said.chat);
    let contact = thread.and_then(|thread| thread.person).and_then(|id| instance.person(id));
    let contact = contact.map(|person| json!({ "id": person.id, "name": person.full_name }));
    let agent = said.more.get("agent").cloned().unwrap_or(Value::Null);
    let (agent, contact) = match said.author {
        Author::Customer => (Value::Null, contact.unwrap_or(Value::Null)),
        Author::Agent => (agent, Value::Null),
        Author::Bot => (Value::Null, Value::Null),
    };
    json!({
        "type": "messages",
        "id": said.id.to_string(),
        "attributes": {
            "content": said.text, "type": if said.private { "note" } else { "message" },
            "origin": (said.author == Author::Customer).then_some("widget"), "created_at": time::iso(said.at),
            "agent": agent, "contact": contact, "attachments": said.more.get("attachments").cloned().unwrap_or(json!([])),
        },
    })
}

/// Somebody writes, at the site or in the inbox.
pub(crate) fn say(instance: &mut Instance, now: Millis, chat: u64, author: Author, text: &str) -> Option<u64> {
    let said = instance.chats.write(now, chat, author, false, text)?;
    if author == Author::Agent {
        said.more.insert("agent".to_owned(), json!({ "id": "12", "name": "Ola" }));
    }
    let id = said.id;
    let thread = instance.chats.threads.get_mut(&chat)?;
    if author == Author::Customer {
        thread.status = "open".to_owned();
    }
    Some(id)
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
    if let Some((chat, action)) = path.strip_prefix("conversations/").and_then(|rest| rest.split_once('/')) {
        let chat = chat.parse().ok().filter(|id| instance.chats.threads.contains_key(id));
        return match (request.method(), action, chat) {
            (&Method::GET, "messages", Some(chat)) => messages(instance, chat, query, fate),
            (&Method::POST, "resolve", Some(chat)) => resolve(instance, now, chat),
            _ => not_found(),
        };
    }
    match (request.method(), path, id) {
        (&Method::GET, "conversations/all", _) => conversations(instance, query, fate),
        (&Method::POST, "messages", _) => send(instance, now, request, fate),
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
    let mut ids: Vec<u64> = instance.people.keys().rev().copied().filter(|id| !fate.is_omitted(*id)).collect();
    instance.shift(&mut ids, fate);
    paged(&ids, asked, query, fate, |id| resource(&instance.people[id]))
}

fn conversations(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let mut ids: Vec<u64> = instance.chats.threads.keys().rev().copied().collect();
    // Newest first is all that is known: whether a new message moves an old conversation up, is not.
    if instance.setting("conversations_order") == Some("activity") {
        ids.sort_by_key(|id| std::cmp::Reverse(instance.chats.threads[id].updated_at));
    }
    instance.shift(&mut ids, fate);
    paged(&ids, instance.page_size(10), query, fate, |id| conversation(instance, &instance.chats.threads[id]))
}

fn messages(instance: &Instance, chat: u64, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let most = instance.number("msg_limit_max").unwrap_or(20);
    let asked = query.number("limit").unwrap_or(most);
    if asked > most {
        return unprocessable("limit", &format!("The limit field must not be greater than {most}."));
    }
    let mut ids = instance.chats.threads[&chat].messages.clone();
    if instance.setting("msg_order") == Some("desc") {
        ids.reverse();
    }
    instance.shift(&mut ids, fate);
    paged(&ids, asked, query, fate, |id| message(instance, &instance.chats.said[id]))
}

/// One page, and what the answer says of the others.
fn paged(ids: &[u64], size: u64, query: &Query, fate: &Fate, show: impl Fn(&u64) -> Value) -> Response<Vec<u8>> {
    let size = size.max(1);
    let page = query.number("page").unwrap_or(1).max(1);
    let total = ids.len() as u64;
    let from = page.saturating_sub(1).saturating_mul(size).min(total) as usize;
    let rows: Vec<Value> = match fate.empty_page && page > 1 {
        true => Vec::new(),
        false => ids.iter().skip(from).take(size as usize).map(show).collect(),
    };
    let announced = total + fate.total_lies.unwrap_or(0);
    let pages = announced.div_ceil(size).max(1);
    answer::json(
        200,
        &json!({
            "data": rows,
            "meta": { "pagination": {
                "total": announced, "count": rows.len(), "per_page": size, "current_page": page, "total_pages": pages,
            } },
        }),
    )
}

fn resolve(instance: &mut Instance, now: Millis, chat: u64) -> Response<Vec<u8>> {
    set_status(instance, now, chat, "resolved");
    let thread = &instance.chats.threads[&chat];
    answer::json(200, &json!({ "data": conversation(instance, thread) }))
}

pub(crate) fn set_status(instance: &mut Instance, now: Millis, chat: u64, status: &str) {
    let Some(thread) = instance.chats.threads.get_mut(&chat) else { return };
    if thread.status != status {
        thread.status = status.to_owned();
        thread.updated_at = now;
    }
}

fn send(instance: &mut Instance, now: Millis, request: &http::Request<Vec<u8>>, fate: &Fate) -> Response<Vec<u8>> {
    let body = answer::body(request);
    // Ids are texts here, in what is sent too.
    let Some(chat) = body["conversation_id"].as_str() else {
        return unprocessable("conversation_id", "The conversation id field is required.");
    };
    let content = body["content"].as_str().unwrap_or_default();
    if content.trim().is_empty() {
        return unprocessable("content", "The content field is required.");
    }
    let private = match body["type"].as_str().unwrap_or("message") {
        "message" => false,
        "note" => true,
        _ => return unprocessable("type", "The selected type is invalid."),
    };
    let Some(chat) = chat.parse().ok().filter(|id| instance.chats.threads.contains_key(id)) else { return not_found() };
    let agent = match body["agent_id"].as_str() {
        Some(id) => json!({ "id": id, "name": format!("Agent {id}") }),
        None if instance.setting("sender") == Some("neutral") => Value::Null,
        None => json!({ "id": "1", "name": "Owner" }),
    };
    let text = if fate.rewrite { content.trim() } else { content };
    // No key makes this safe to repeat, and a resolved conversation stays resolved.
    let Some(said) = instance.chats.write(now, chat, Author::Agent, private, text) else { return not_found() };
    said.more.insert("agent".to_owned(), agent);
    if body["attachments"].is_array() {
        said.more.insert("attachments".to_owned(), body["attachments"].clone());
    }
    let shown = json!({
        "content": said.text, "type": if said.private { "note" } else { "message" }, "created_at": time::iso(said.at),
    });
    answer::json(201, &json!({ "data": { "type": "messages", "id": said.id.to_string(), "attributes": shown } }))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Fake;
    use crate::{Author, Faults, Vendor};

    fn fake() -> Fake {
        Fake::new(Vendor::Chatway, &[("rate", "1000")]).header("x-api-key", crate::TOKEN)
    }

    #[test]
    fn conversations_come_ten_at_a_time_newest_first() {
        let fake = fake();
        let person = fake.person("Rosa", "rosa@example.test");
        let ids: Vec<String> = (0..12).map(|n| fake.sandbox.open_chat(n, "it", &person, Some("Hi"))).collect();
        let first = fake.get(100, "/api/v1/conversations/all");
        let rows = first.body["data"].as_array().unwrap();
        assert_eq!(rows.len(), 10);
        assert_eq!(rows[0]["id"], json!(ids[11]));
        assert_eq!(
            first.body["meta"]["pagination"],
            json!({ "total": 12, "count": 10, "per_page": 10, "current_page": 1, "total_pages": 2 })
        );
        let attributes = &rows[0]["attributes"];
        assert_eq!(attributes["contact_id"], json!(person));
        assert_eq!(attributes["contact_name"], "Rosa");
        assert_eq!(attributes["is_resolved"], false);
        assert_eq!(attributes["unread_messages"], 1);
        assert_eq!(attributes["latest_message"], json!({ "content": "Hi", "url": null }));
        assert_eq!(fake.get(100, "/api/v1/conversations/all?page=2").body["data"].as_array().unwrap().len(), 2);
        let beyond = fake.get(100, "/api/v1/conversations/all?page=3");
        assert_eq!((beyond.status, beyond.body["data"].clone()), (200, json!([])));
        assert_eq!(fake.get(100, "/api/v1/conversations").status, 404);
        assert_eq!(fake.get(100, &format!("/api/v1/conversations/{}", ids[0])).status, 404);
    }

    #[test]
    fn messages_say_who_wrote_them_and_allow_twenty_a_page() {
        let fake = fake();
        let person = fake.person("Rosa", "rosa@example.test");
        let chat = fake.sandbox.open_chat(1000, "it", &person, Some("Where is my parcel?"));
        fake.sandbox.say(2000, "it", &chat, Author::Bot, "We will be back soon");
        fake.sandbox.say(3000, "it", &chat, Author::Agent, "On its way");
        let path = format!("/api/v1/conversations/{chat}/messages?limit=20");
        let body = fake.get(4000, &path).body;
        let rows = body["data"].as_array().unwrap();
        assert_eq!(rows[0]["attributes"]["contact"], json!({ "id": person, "name": "Rosa" }));
        assert_eq!(rows[0]["attributes"]["created_at"], "1970-01-01T00:00:01Z");
        assert!(rows[1]["attributes"]["contact"].is_null() && rows[1]["attributes"]["agent"].is_null());
        assert!(rows[2]["attributes"]["agent"]["id"].is_string());
        let refused = fake.get(4000, &format!("/api/v1/conversations/{chat}/messages?limit=21"));
        assert_eq!(refused.status, 422);
        assert_eq!(refused.body["message"], "The limit field must not be greater than 20.");
        assert_eq!(fake.get(4000, "/api/v1/conversations/1/messages").status, 404);
    }

    #[test]
    fn a_send_keeps_a_conversation_resolved_and_the_customer_opens_it_again() {
        let fake = fake();
        let person = fake.person("Rosa", "rosa@example.test");
        let chat = fake.sandbox.open_chat(1000, "it", &person, Some("Hi"));
        let resolved = fake.post(2000, &format!("/api/v1/conversations/{chat}/resolve"), &json!({}));
        assert_eq!((resolved.status, resolved.body["data"]["attributes"]["is_resolved"].clone()), (200, json!(true)));
        assert_eq!(fake.post(2500, &format!("/api/v1/conversations/{chat}/resolve"), &json!({})).status, 200);
        let sent = fake.post(
            3000,
            "/api/v1/messages",
            &json!({ "conversation_id": chat, "content": "Your parcel left today.", "type": "message" }),
        );
        assert_eq!(sent.status, 201);
        assert!(sent.body["data"]["id"].is_string());
        assert!(fake.sandbox.chats("it")[0].resolved);
        fake.sandbox.say(4000, "it", &chat, Author::Customer, "Thanks");
        assert!(!fake.sandbox.chats("it")[0].resolved);
    }

    #[test]
    fn a_note_is_private_and_no_key_protects_from_a_second_send() {
        let fake = fake();
        let person = fake.person("Rosa", "rosa@example.test");
        let chat = fake.sandbox.open_chat(1000, "it", &person, Some("Hi"));
        let note = json!({ "conversation_id": chat, "content": "VIP", "type": "note" });
        fake.post(2000, "/api/v1/messages", &note);
        fake.post(2000, "/api/v1/messages", &note);
        let said = fake.sandbox.chat_messages("it");
        assert_eq!(said.iter().filter(|said| said.private && said.text == "VIP").count(), 2);
        assert_eq!(
            fake.get(2000, "/api/v1/conversations/all").body["data"][0]["attributes"]["latest_message"]["content"],
            "Hi"
        );
        for wrong in [
            json!({ "content": "x", "type": "message" }),
            json!({ "conversation_id": chat, "type": "message" }),
            json!({ "conversation_id": chat, "content": "x", "type": "whisper" }),
        ] {
            assert_eq!(fake.post(2000, "/api/v1/messages", &wrong).status, 422);
        }
    }

    #[test]
    fn what_goes_wrong_with_writes_goes_wrong_with_sends() {
        let fake = fake();
        let person = fake.person("Rosa", "rosa@example.test");
        let chat = fake.sandbox.open_chat(1000, "it", &person, None);
        let sent = json!({ "conversation_id": chat, "content": "Shipped", "type": "message" });
        for (faults, stored) in [
            ("cut_before=1", false),
            ("429=1", false),
            ("5xx=1", false),
            ("cut_after=1", true),
            ("error_after=1", true),
        ] {
            fake.sandbox.set_faults(Faults::parse(faults).unwrap());
            fake.sandbox.clear_log();
            let before = fake.sandbox.chat_messages("it").len();
            let seen = fake.post(2000, "/api/v1/messages", &sent);
            assert!(seen.status == 0 || seen.status >= 400, "{faults}: {}", seen.status);
            assert_eq!(fake.sandbox.chat_messages("it").len() > before, stored, "{faults}");
            assert_eq!(fake.sandbox.log()[0].effect, stored, "{faults}");
        }
    }

    #[test]
    fn fifteen_calls_a_minute_pass() {
        let fake = Fake::new(Vendor::Chatway, &[]).header("x-api-key", crate::TOKEN);
        for call in 0..15 {
            assert_eq!(fake.get(call, "/api/v1/conversations/all").status, 200);
        }
        let refused = fake.get(15, "/api/v1/conversations/all");
        assert_eq!((refused.status, refused.header("retry-after")), (429, "60"));
        assert_eq!(Fake::new(Vendor::Chatway, &[]).get(0, "/api/v1/conversations/all").status, 401);
    }
}
