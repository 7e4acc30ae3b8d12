//! What counts as a change, and which way a field goes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::{Transport, TransportError};
use counterpart_sandbox::Vendor;
use serde_json::Value;

use super::lab::{DAY, HOUR, Lab};

const HOUSE_AND_SHOP: [(&str, Vendor); 2] = [("house", Vendor::Crm), ("shop", Vendor::Woocommerce)];
const HOUSE_MAPPING: &str = include_str!("../../../mappings/contact/crm.toml");
const SHOP_MAPPING: &str = include_str!("../../../mappings/contact/woocommerce.toml");

/// Given a field that goes one way, when somebody edits it on the wrong side, then the value that belongs there is put
/// back; the run counts that, and its log names the field and keeps what was overwritten.
#[tokio::test]
async fn r41_a_one_way_field_edited_on_the_wrong_side_is_restored() {
    let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
    let out = "company = { remote = \"/billing/company\", cleared = \"empty\", direction = \"out\" }";
    lab.map("shop", &SHOP_MAPPING.replace("company = { remote = \"/billing/company\", cleared = \"empty\" }", out));
    lab.map(
        "house",
        &HOUSE_MAPPING.replace("{ remote = \"/company\" }", "{ remote = \"/company\", direction = \"in\" }"),
    );
    lab.people_at("house", 8, 0);
    lab.run().await;
    let person = lab.people("shop")[4].clone();
    let email = person.email.clone().expect("everybody has one");
    for wrong in [Some("Typed in the shop"), None] {
        lab.clock.advance(HOUR);
        lab.edit("shop", &person.id, "company", wrong);
        let report = lab.run().await;
        assert_eq!(lab.company("shop", &email), person.company, "{wrong:?}");
        assert_eq!(lab.company("house", &email), person.company, "{wrong:?}");
        assert_eq!((report.syncs[0].operations.updated, lab.writes()), (1, 1), "{report:?}");
        let done = lab.store.ops(report.run, None, 10).await.expect("the store answers");
        let line = done[0].op.line();
        assert!(line.contains("company") && line.contains(wrong.unwrap_or("before")), "{line}");
    }
    lab.assert_quiet().await;
}

/// Says the same in other words: members in reverse order, numbers with a fraction of nothing, letters with their
/// accents apart.
struct Respelled(Arc<dyn Transport>);

#[async_trait]
impl Transport for Respelled {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let answer = self.0.send(request).await?;
        Ok(answer.map(|body| match serde_json::from_slice(&body) {
            Ok(value) => {
                let mut text = String::new();
                respell(&value, None, &mut text);
                Bytes::from(text)
            }
            Err(_) => body,
        }))
    }
}

fn respell(value: &Value, member: Option<&str>, out: &mut String) {
    match value {
        Value::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().rev().enumerate() {
                out.push_str(if index > 0 { " ,\n" } else { "" });
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push_str(" : ");
                respell(value, Some(name), out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                respell(item, None, out);
            }
            out.push(']');
        }
        // The fakes keep custom fields as texts; the score is a number.
        Value::String(text) if matches!(member, Some("score" | "value")) && text.parse::<u32>().is_ok() => {
            out.push_str(&format!("{text}.0"));
        }
        Value::String(text) => out.push_str(&Value::from(apart(text)).to_string()),
        other => out.push_str(&other.to_string()),
    }
}

/// Some letters as a letter and its accent.
fn apart(text: &str) -> String {
    const LETTERS: [(&str, &str); 8] = [
        ("ö", "o\u{308}"),
        ("ü", "u\u{308}"),
        ("Ü", "U\u{308}"),
        ("Å", "A\u{30a}"),
        ("é", "e\u{301}"),
        ("í", "i\u{301}"),
        ("á", "a\u{301}"),
        ("ó", "o\u{301}"),
    ];
    LETTERS.iter().fold(text.to_owned(), |text, (together, apart)| text.replace(together, apart))
}

/// Given records whose members come in another order, whose numbers say 1.0 for 1, and whose accents stand apart from
/// their letters, then nothing counts as changed, and no update is produced.
#[tokio::test]
async fn r43_another_spelling_is_no_change() {
    let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
    let score = "\"custom.score\" = { remote = \"/custom/score\", transform = \"number\" }\n";
    lab.map("house", &format!("{HOUSE_MAPPING}{score}"));
    let score = "\"custom.score\" = { remote = \"/meta_data[key=score]/value\", transform = \"number\" }\n";
    lab.map("shop", &format!("{SHOP_MAPPING}{score}"));
    lab.people_at("house", 30, 0);
    for person in lab.people("house").iter().take(6) {
        lab.edit("house", &person.id, "custom.score", Some("7"));
    }
    lab.run().await;
    assert_eq!(lab.people("shop").iter().filter(|person| person.custom.contains_key("score")).count(), 6);
    lab.assert_quiet().await;
    // The vendors spell differently: everything is read again after a day.
    lab.clock.advance(DAY);
    lab.sandbox.clear_log();
    let report = lab.engine(Arc::new(Respelled(lab.network()))).sync(&[]).await.expect("the run ends");
    assert_eq!((report.verdict.exit_code(), lab.writes()), (0, 0), "{report:?}");
    let read: Vec<_> = report.syncs[0].streams.iter().map(|stream| (stream.pulled, stream.changed)).collect();
    assert_eq!(read, [(30, 0), (30, 0)]);
    // Somebody types the same in another spelling.
    lab.clock.advance(HOUR);
    for (index, person) in lab.people("house").iter().enumerate() {
        lab.edit("house", &person.id, "given", Some(&apart(&person.given)));
        if index < 6 {
            lab.edit("house", &person.id, "custom.score", Some(["7.0", "07", "+7", "7.000", " 7 ", "7."][index]));
        }
    }
    let report = lab.run().await;
    assert_eq!((report.syncs[0].streams[0].changed, lab.writes()), (0, 0), "{report:?}");
    assert!(report.syncs[0].streams[0].pulled >= 30);
    lab.assert_quiet().await;
}

/// Given a field that only one side's mapping calls one-way, when the other side edits it, then the two stay different,
/// and the queue's log says so.
#[tokio::test]
async fn r41_a_side_that_cannot_follow_is_told_of() {
    let mut lab = Lab::new(&HOUSE_AND_SHOP).await;
    let one_way = HOUSE_MAPPING.replace("{ remote = \"/company\" }", "{ remote = \"/company\", direction = \"in\" }");
    assert_ne!(one_way, HOUSE_MAPPING);
    lab.map("house", &one_way);
    lab.people_at("house", 8, 0);
    lab.run().await;
    let person = lab.people("shop")[4].clone();
    let email = person.email.clone().expect("everybody has one");
    lab.clock.advance(HOUR);
    lab.edit("shop", &person.id, "company", Some("Typed in the shop"));
    lab.run().await;
    assert_ne!(lab.company("shop", &email), lab.company("house", &email));
    let told: Vec<_> = lab.queue().await.into_iter().filter(|found| found.kind == "field").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].settled.as_deref(), Some("house is not written, and stays different"));
    lab.assert_quiet().await;
}
