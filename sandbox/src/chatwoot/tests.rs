use serde_json::{Value, json};

use crate::hooks::{hex, sign};
use crate::testing::Fake;
use crate::{Author, Faults, HookDelivery, TOKEN, Vendor};

const BASE: &str = "/api/v1/accounts/1";

fn fake(settings: &[(&str, &str)]) -> Fake {
    Fake::new(Vendor::Chatwoot, settings).header("api-access-token", TOKEN)
}

fn at(path: &str) -> String {
    format!("{BASE}/{path}")
}

fn body(delivery: &HookDelivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

/// A fake with one contact and one conversation.
fn chatting(settings: &[(&str, &str)]) -> (Fake, String, String) {
    let fake = fake(settings);
    let person = fake.person("Rosa", "rosa@example.test");
    let chat = fake.sandbox.open_chat(10_000, "it", &person, Some("Where is my parcel?"));
    (fake, person, chat)
}

#[test]
fn the_list_shows_open_ones_by_default_and_all_at_once_with_updated_within() {
    let (fake, person, chat) = chatting(&[]);
    for n in 1..30 {
        fake.sandbox.open_chat(10_000 + n * 1000, "it", &person, Some("Hi"));
    }
    fake.sandbox.resolve_chat(60_000, "it", &chat, true);
    let first = fake.get(70_000, &at("conversations")).body;
    assert_eq!(first["data"]["payload"].as_array().unwrap().len(), 25);
    assert_eq!(first["data"]["meta"]["all_count"], 29);
    assert_eq!(first["data"]["payload"][0]["id"], 30, "newest activity first");
    assert_eq!(fake.get(70_000, &at("conversations?page=2")).body["data"]["payload"].as_array().unwrap().len(), 4);
    assert_eq!(fake.get(70_000, &at("conversations?status=all")).body["data"]["meta"]["all_count"], 30);
    let fresh = fake.get(70_000, &at("conversations?status=all&updated_within=59")).body;
    assert_eq!(fresh["data"]["payload"].as_array().unwrap().len(), 29, "one response, later than 59 s ago");
    assert_eq!(fake.get(70_000, &at("conversations?status=odd")).body["data"]["payload"], json!([]));
}

#[test]
fn a_conversation_has_its_display_id_and_times_as_seconds() {
    let (fake, person, chat) = chatting(&[]);
    let shown = fake.get(20_000, &at(&format!("conversations/{chat}"))).body;
    assert_eq!(shown["id"], 1);
    assert_eq!(shown["meta"]["sender"]["id"].to_string(), person);
    assert_eq!(shown["meta"]["channel"], "Channel::Api");
    assert_eq!(shown["updated_at"], 10.0);
    assert!(shown["updated_at"].is_f64());
    assert_eq!(shown["first_reply_created_at"], 0);
    assert_eq!(shown["waiting_since"], 10);
    assert_eq!(shown["messages"][0]["content"], "Where is my parcel?");
    assert_eq!(shown["messages"][0]["conversation_id"], 1);
    assert_eq!(shown["messages"][0]["updated_at"], "1970-01-01T00:00:10.000Z");
    assert!(shown["meta"].get("assignee").is_none());
    assert_eq!(fake.get(20_000, &at("conversations/9")).status, 404);
}

#[test]
fn messages_are_read_by_id_oldest_first() {
    let (fake, _, chat) = chatting(&[]);
    let ids: Vec<u64> = (0..130)
        .map(|n| fake.sandbox.say(20_000 + n, "it", &chat, Author::Agent, &n.to_string()).parse().unwrap())
        .collect();
    let read = |query: &str| {
        let rows = fake.get(90_000, &at(&format!("conversations/{chat}/messages{query}"))).body["payload"].clone();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read(""), ids[110..]);
    assert_eq!(read(&format!("?before={}", ids[50])), ids[30..50]);
    assert_eq!(read(&format!("?after={}", ids[0])), ids[1..101]);
    assert_eq!(read(&format!("?after={}&before={}", ids[2], ids[129])), ids[2..129]);
}

#[test]
fn a_send_answers_the_message_keeps_marks_and_does_not_open() {
    let (fake, _, chat) = chatting(&[]);
    fake.sandbox.resolve_chat(20_000, "it", &chat, true);
    let path = at(&format!("conversations/{chat}/messages"));
    let wanted = json!({
        "content": "Your parcel left", "content_attributes": { "sync": { "k": "o-1" } }, "source_id": "o-1", "echo_id": "e",
    });
    let sent = fake.post(30_000, &path, &wanted);
    assert_eq!(sent.status, 200);
    assert_eq!(sent.body["message_type"], 1);
    assert_eq!(sent.body["created_at"], 30);
    assert_eq!(sent.body["content_attributes"]["sync"]["k"], "o-1");
    assert_eq!((&sent.body["source_id"], &sent.body["echo_id"]), (&json!("o-1"), &json!("e")));
    assert_eq!(sent.body["sender"]["type"], "user");
    let again = fake.post(30_000, &path, &wanted);
    assert_ne!(again.body["id"], sent.body["id"], "no key makes a send safe to repeat");
    assert!(fake.sandbox.chats("it")[0].resolved);
    assert_eq!(fake.get(31_000, &path).body["payload"][1].get("echo_id"), None);
    let note = fake.post(31_000, &path, &json!({ "content": "VIP", "private": true }));
    assert_eq!(note.body["private"], true);
    assert!(fake.sandbox.chat_messages("it").iter().any(|said| said.private && said.text == "VIP"));
    fake.sandbox.say(40_000, "it", &chat, Author::Customer, "Thanks");
    assert!(!fake.sandbox.chats("it")[0].resolved);
}

#[test]
fn what_may_be_posted_depends_on_the_inbox() {
    let (fake, _, chat) = chatting(&[]);
    let path = at(&format!("conversations/{chat}/messages"));
    let incoming = json!({ "content": "Hi", "message_type": "incoming" });
    assert_eq!(fake.post(20_000, &path, &incoming).body["message_type"], 0);
    let odd = fake.post(20_000, &path, &json!({ "content": "Hi", "message_type": "shout" }));
    assert_eq!(odd.status, 422);
    let long = fake.post(20_000, &path, &json!({ "content": "x".repeat(150_001) }));
    assert_eq!(long.status, 422);
    let (mail, _, chat) = chatting(&[("channel", "Email")]);
    let refused = mail.post(20_000, &at(&format!("conversations/{chat}/messages")), &incoming);
    assert_eq!((refused.status, refused.body["error"].as_str().unwrap().starts_with("Incoming")), (422, true));
}

#[test]
fn outside_its_window_a_channel_takes_messages_and_delivers_none() {
    const HOUR: i64 = 3_600_000;
    let settings = [("channel", "Whatsapp"), ("webhook_topics", "message_updated"), ("webhook_secret", "x")];
    let (fake, _, chat) = chatting(&settings);
    let (whole, path) = (at(&format!("conversations/{chat}")), at(&format!("conversations/{chat}/messages")));
    fake.sandbox.say(20_000, "it", &chat, Author::Customer, "Hello?");
    assert_eq!(fake.get(20_000 + 24 * HOUR - 1, &whole).body["can_reply"], true);
    let late = 20_000 + 24 * HOUR;
    assert_eq!(fake.get(late, &whole).body["can_reply"], false);
    fake.sandbox.take_hooks();
    let sent = fake.post(late, &path, &json!({ "content": "x", "content_attributes": { "k": 1 } }));
    assert_eq!((sent.status, &sent.body["status"]), (200, &json!("sent")), "it fails a moment later");
    let note = fake.post(late, &path, &json!({ "content": "for us", "private": true }));
    let rows = fake.get(late, &format!("{path}?after=0")).body["payload"].as_array().unwrap().clone();
    let of = |id: &Value| rows.iter().find(|row| row["id"] == *id).unwrap().clone();
    let failed = of(&sent.body["id"]);
    assert_eq!((&failed["status"], &failed["content_attributes"]["k"]), (&json!("failed"), &json!(1)));
    assert!(failed["content_attributes"]["external_error"].is_string());
    assert_eq!(of(&note.body["id"])["status"], "sent");
    let told = fake.sandbox.take_hooks();
    assert_eq!(told.iter().filter(|delivery| body(delivery)["event"] == "message_updated").count(), 1);
}

#[test]
fn two_hundred_messages_a_minute_are_enough() {
    let (fake, _, chat) = chatting(&[]);
    let path = at(&format!("conversations/{chat}/messages"));
    for n in 0..199 {
        assert_eq!(fake.post(20_000 + n, &path, &json!({ "content": "x" })).status, 200);
    }
    assert_eq!(fake.post(21_000, &path, &json!({ "content": "x" })).status, 422);
    assert_eq!(fake.post(90_000, &path, &json!({ "content": "x" })).status, 200);
}

#[test]
fn one_call_makes_a_conversation_with_its_first_message_or_nothing() {
    let fake = fake(&[]);
    let person = fake.person("Rosa", "rosa@example.test");
    let wanted = |source: &str| {
        json!({
            "inbox_id": 1, "contact_id": person, "source_id": source, "status": "resolved",
            "custom_attributes": { "order": "11" }, "message": { "content": "Your order is on its way" },
        })
    };
    let made = fake.post(1000, &at("conversations"), &wanted("crm:1"));
    assert_eq!((made.status, made.body["status"].as_str()), (200, Some("resolved")));
    assert_eq!(made.body["custom_attributes"]["order"], "11");
    assert_eq!(made.body["messages"][0]["content"], "Your order is on its way");
    assert_eq!(made.body["messages"][0]["conversation"]["contact_inbox"]["source_id"], "crm:1");
    assert_ne!(fake.post(1000, &at("conversations"), &wanted("crm:1")).body["id"], made.body["id"], "a repeat doubles");

    let other = fake.person("Otto", "otto@example.test");
    let taken = json!({ "inbox_id": 1, "contact_id": other, "source_id": "crm:1" });
    let refused = fake.post(1000, &at("conversations"), &taken);
    assert_eq!((refused.status, refused.body["error"].as_str()), (422, Some("source_id should be unique")));
    let count = fake.sandbox.chats("it").len();
    let mut wrong = wanted("crm:2");
    wrong["message"]["content"] = json!("x".repeat(150_001));
    assert_eq!(fake.post(1000, &at("conversations"), &wrong).status, 422);
    wrong = wanted("crm:2");
    wrong["status"] = json!("shut");
    assert_eq!(fake.post(1000, &at("conversations"), &wrong).status, 500);
    wrong["contact_id"] = json!(999);
    assert_eq!(fake.post(1000, &at("conversations"), &wrong).status, 404);
    assert_eq!(fake.sandbox.chats("it").len(), count);
}

#[test]
fn a_locked_inbox_gives_the_last_conversation_even_a_resolved_one() {
    let fake = fake(&[("lock_to_single_conversation", "true")]);
    let person = fake.person("Rosa", "rosa@example.test");
    let wanted = json!({
        "inbox_id": 1, "contact_id": person, "source_id": "crm:1", "status": "resolved", "message": { "content": "One" },
    });
    let first = fake.post(1000, &at("conversations"), &wanted);
    let second = fake.post(2000, &at("conversations"), &wanted);
    assert_eq!(first.body["id"], second.body["id"]);
    assert_eq!(second.body["status"], "resolved");
    assert_eq!(fake.sandbox.chat_messages("it").len(), 2);
}

#[test]
fn source_ids_lead_to_contacts_and_an_api_inbox_offers_new_ones() {
    let fake = fake(&[]);
    let person = fake.person("Rosa", "rosa@example.test");
    let path = at(&format!("contacts/{person}/contactable_inboxes"));
    let offered = fake.get(1000, &path).body["payload"][0]["source_id"].clone();
    assert_ne!(fake.get(1000, &path).body["payload"][0]["source_id"], offered);
    fake.post(
        1000,
        &at(&format!("contacts/{person}/contact_inboxes")),
        &json!({ "inbox_id": 1, "source_id": "crm:7" }),
    );
    assert_eq!(fake.get(1000, &path).body["payload"][0]["source_id"], "crm:7");
    let by =
        |source: &str| fake.post(1000, &at("contact_inboxes/filter"), &json!({ "inbox_id": 1, "source_id": source }));
    assert_eq!(by("crm:7").body["email"], "rosa@example.test");
    assert_eq!(by("crm:8").status, 404);
}

#[test]
fn toggle_status_answers_what_became_of_it() {
    let (fake, _, chat) = chatting(&[]);
    let path = at(&format!("conversations/{chat}/toggle_status"));
    let resolved = fake.post(20_000, &path, &json!({ "status": "resolved" }));
    assert_eq!(
        resolved.body["payload"],
        json!({ "success": true, "conversation_id": 1, "current_status": "resolved", "snoozed_until": null })
    );
    assert_eq!(fake.post(21_000, &path, &json!({})).body["payload"]["current_status"], "open");
    assert_eq!(fake.post(21_000, &path, &json!({ "status": "closed" })).status, 500);
    let snoozed = fake.post(22_000, &path, &json!({ "status": "snoozed", "snoozed_until": "100" }));
    assert_eq!(snoozed.body["payload"]["snoozed_until"], "1970-01-01T00:01:40.000Z");
    assert_eq!(fake.post(22_000, &path, &json!({ "status": "snoozed", "snoozed_until": "2026-01-01" })).status, 500);
}

#[test]
fn a_resolve_may_fire_a_survey() {
    let (fake, _, chat) = chatting(&[("csat", "true")]);
    fake.post(20_000, &at(&format!("conversations/{chat}/toggle_status")), &json!({ "status": "resolved" }));
    let said = fake.sandbox.chat_messages("it");
    assert_eq!(said.last().map(|said| said.author), Some(Author::Bot));
    let shown = fake.get(21_000, &at(&format!("conversations/{chat}/messages"))).body;
    assert_eq!(
        (&shown["payload"][1]["message_type"], &shown["payload"][1]["content_type"]),
        (&json!(3), &json!("input_csat"))
    );
}

#[test]
fn labels_and_attributes_are_replaced_as_a_whole() {
    let (fake, _, chat) = chatting(&[]);
    let labels = at(&format!("conversations/{chat}/labels"));
    fake.post(20_000, &labels, &json!({ "labels": ["vip", "late"] }));
    fake.post(21_000, &labels, &json!({ "labels": ["late"] }));
    assert_eq!(fake.get(22_000, &labels).body["payload"], json!(["late"]));
    assert_eq!(fake.sandbox.chats("it")[0].labels, ["late"]);
    let custom = at(&format!("conversations/{chat}/custom_attributes"));
    fake.post(22_000, &custom, &json!({ "custom_attributes": { "a": 1, "b": 2 } }));
    let left = fake.post(22_000, &custom, &json!({ "custom_attributes": { "b": 3 } }));
    assert_eq!(left.body["custom_attributes"], json!({ "b": 3 }));
}

#[test]
fn deliveries_are_signed_over_time_and_body_and_show_the_later_state() {
    let fake = fake(&[("webhook_secret", "s3cr3t")]);
    let person = fake.person("Rosa", "rosa@example.test");
    let chat = fake.sandbox.open_chat(10_000, "it", &person, Some("Hi\n"));
    fake.sandbox.resolve_chat(11_000, "it", &chat, true);
    let told = fake.sandbox.take_hooks();
    let events: Vec<String> = told.iter().map(|one| body(one)["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        events,
        [
            "contact_created",
            "conversation_created",
            "message_created",
            "conversation_updated",
            "contact_updated",
            "conversation_status_changed",
            "conversation_updated",
        ]
    );
    for delivery in &told {
        let stamp = delivery.header("x-chatwoot-timestamp").unwrap();
        assert_eq!(stamp, "11");
        let signed = [format!("{stamp}.").as_bytes(), &delivery.body].concat();
        let signature = format!("sha256={}", hex(&sign("s3cr3t", &signed)));
        assert_eq!(delivery.header("x-chatwoot-signature"), Some(signature.as_str()));
    }
    assert_ne!(told[0].header("x-chatwoot-delivery"), told[1].header("x-chatwoot-delivery"));
    assert_eq!(body(&told[1])["status"], "resolved", "built when it is sent");
    let message = body(&told[2]);
    assert_eq!(message["message_type"], "incoming");
    assert_eq!(message["created_at"], "1970-01-01T00:00:10.000Z");
    assert_eq!(message["content"], "Hi");
    assert_eq!(message["conversation"]["id"], 1);
    assert!(message.get("status").is_none() && message.get("conversation_id").is_none());
    assert!(body(&told[4])["changed_attributes"][0]["last_activity_at"].is_object());
    assert!(body(&told[5])["changed_attributes"].is_null());
    assert_eq!(
        body(&told[6])["changed_attributes"],
        json!([{ "status": { "previous_value": "open", "current_value": "resolved" } }])
    );
}

#[test]
fn own_writes_come_back_and_nothing_says_who_caused_them() {
    let (fake, person, chat) =
        chatting(&[("webhook_topics", "message_created,contact_updated"), ("webhook_secret", "x")]);
    fake.sandbox.take_hooks();
    fake.post(20_000, &at(&format!("conversations/{chat}/messages")), &json!({ "content": "VIP", "private": true }));
    fake.put(21_000, &at(&format!("contacts/{person}")), &json!({ "name": "Rosa Lind" }));
    fake.put(21_000, &at(&format!("contacts/{person}")), &json!({ "name": "Rosa Lind" }));
    fake.sandbox.delete(22_000, "it", "99");
    let told = fake.sandbox.take_hooks();
    assert_eq!(told.len(), 2, "an update that changes nothing is not told");
    assert_eq!((&body(&told[0])["private"], &body(&told[0])["sender"]["type"]), (&json!(true), &json!("user")));
    assert_eq!(
        body(&told[1])["changed_attributes"],
        json!([{ "name": { "previous_value": "Rosa", "current_value": "Rosa Lind" } }])
    );
}

#[test]
fn webhooks_are_made_by_administrators_and_have_a_secret_of_the_servers() {
    let fake = fake(&[]);
    let wanted = json!({ "url": "https://counterpart.example.test/", "subscriptions": ["message_created"] });
    let made = fake.post(1000, &at("webhooks"), &wanted);
    let hook = &made.body["payload"]["webhook"];
    assert_eq!((made.status, hook["subscriptions"].clone()), (200, json!(["message_created"])));
    assert!(!hook["secret"].as_str().unwrap().is_empty());
    let again = fake.post(1000, &at("webhooks"), &wanted);
    assert_eq!(again.body, json!({ "message": "Url has already been taken", "attributes": ["url"] }));
    let odd = fake.post(1000, &at("webhooks"), &json!({ "url": "https://a.example.test/", "subscriptions": ["x"] }));
    assert_eq!(odd.body["message"], "Subscriptions Invalid events");
    let usual = fake.post(1000, &at("webhooks"), &json!({ "url": "https://b.example.test/" }));
    assert_eq!(usual.body["payload"]["webhook"]["subscriptions"].as_array().unwrap().len(), 8);
    assert_eq!(fake.get(1000, &at("webhooks")).body["payload"]["webhooks"].as_array().unwrap().len(), 2);
    assert_eq!(fake.call(1000, "DELETE", &at("webhooks/1"), &[], None).status, 200);
    let agent = Fake::new(Vendor::Chatwoot, &[("role", "agent")]).header("api_access_token", TOKEN);
    assert_eq!(agent.get(0, &at("webhooks")).status, 401);
}

#[test]
fn old_versions_do_not_sign() {
    let (fake, ..) = chatting(&[("webhook_secret", "x"), ("version", "4.11.2")]);
    let told = fake.sandbox.take_hooks();
    assert!(told.iter().all(|one| one.header("x-chatwoot-signature").is_none()));
    assert!(told.iter().all(|one| body(one)["event"] != "conversation_created" || body(one).get("account").is_none()));
}

#[test]
fn conversations_follow_a_merge_and_go_with_a_deleted_contact() {
    let (fake, person, chat) = chatting(&[]);
    let heir = fake.person("Rosa", "rosa@shop.example.test");
    fake.sandbox.merge(20_000, "it", &heir, &person);
    assert_eq!(fake.sandbox.chats("it")[0].person, heir);
    assert_eq!(
        fake.get(21_000, &at(&format!("contacts/{heir}/conversations"))).body["payload"][0]["id"].to_string(),
        chat
    );
    fake.sandbox.delete(22_000, "it", &heir);
    assert_eq!((fake.sandbox.chats("it").len(), fake.sandbox.chat_messages("it").len()), (0, 0));
}

#[test]
fn a_send_that_was_cut_off_may_have_happened() {
    let (fake, _, chat) = chatting(&[]);
    let path = at(&format!("conversations/{chat}/messages"));
    for (faults, stored) in [("cut_before=1", 0), ("cut_after=1", 1), ("error_after=1", 1), ("429=1", 0)] {
        fake.sandbox.set_faults(Faults::parse(faults).unwrap());
        let before = fake.sandbox.chat_messages("it").len();
        let seen = fake.post(20_000, &path, &json!({ "content": "Shipped" }));
        assert!(seen.status == 0 || seen.status >= 400, "{faults}");
        assert_eq!(fake.sandbox.chat_messages("it").len() - before, stored, "{faults}");
    }
}
