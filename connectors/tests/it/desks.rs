//! What is done at desks: stale writes, refusals inside a success, and facts that do not fit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{Connection, ErrorKind, Lane, Manifest};
use serde_json::json;

use crate::{open, spec};

const HIGH: &str = "50";

/// Request Tracker with one ticket, whose writes are stale so many times and then do what `does` says.
fn tracker(stale: usize, does: &'static str) -> (Connection, Arc<Script>) {
    let (writes, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let script = Arc::new(Script::new(move |request: &http::Request<Bytes>| {
        let answer = |status: u16, body: serde_json::Value| {
            let tag = format!("\"{}\"", 7 + writes.load(Ordering::SeqCst));
            Ok(http::Response::builder()
                .status(status)
                .header("etag", tag)
                .body(Bytes::from(body.to_string()))
                .unwrap())
        };
        if request.method() == http::Method::GET {
            let priority = if written.load(Ordering::SeqCst) > 0 { HIGH } else { "0" };
            return answer(200, json!({ "id": 3, "Subject": "Broken", "Status": "new", "Priority": priority }));
        }
        let seen = request.headers().get("if-match").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let nth = writes.fetch_add(1, Ordering::SeqCst);
        assert_eq!(seen, Some(format!("\"{}\"", 7 + nth)), "the newest version is named");
        match (nth < stale, does) {
            (true, _) => answer(412, json!({ "message": "Precondition Failed" })),
            (false, "refuses") => answer(200, json!(["Ticket 3: Permission Denied"])),
            (false, _) => {
                written.fetch_add(1, Ordering::SeqCst);
                answer(200, json!(["Ticket 3: Priority changed from '0' to '50'"]))
            }
        }
    }));
    (open(spec("rt"), script.clone()), script)
}

fn fields(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

#[tokio::test]
async fn a_stale_write_is_read_again_once() {
    let (desk, script) = tracker(1, "takes");
    desk.set_ticket(Lane::Resolve, "3", &fields("priority", HIGH)).await.unwrap();
    let methods: Vec<String> = script.asked().iter().map(|line| line[..3].to_owned()).collect();
    assert_eq!(methods, ["GET", "PUT", "GET", "PUT", "GET"]);
    desk.set_ticket(Lane::Resolve, "3", &fields("priority", HIGH)).await.unwrap();
    assert_eq!(script.asked().len(), 6, "what is set already is not written");

    let (desk, script) = tracker(9, "takes");
    let error = desk.set_ticket(Lane::Resolve, "3", &fields("priority", HIGH)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Conflict { .. }), "{error:?}");
    assert!(error.message.contains("412") && error.message.contains("Precondition Failed"), "{error}");
    assert_eq!(script.asked().len(), 4);
}

#[tokio::test]
async fn a_refusal_inside_a_success_is_told_in_the_vendors_words() {
    let (desk, _) = tracker(0, "refuses");
    let error = desk.set_ticket(Lane::Resolve, "3", &fields("priority", HIGH)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid { fields: vec!["priority".to_owned()] });
    assert!(error.message.ends_with("priority did not change: “Ticket 3: Permission Denied”"), "{error}");
    let error = desk.set_ticket(Lane::Resolve, "3", &fields("status", "gone")).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unsupported && error.message.contains("`status`"), "{error}");
}

#[test]
fn facts_of_a_desk_must_fit_together() {
    let source = counterpart_connectors::manifest_source("rt").unwrap();
    let (before, _) = source.split_once("# No list but the search").unwrap();
    let wrong = |actions: &str| {
        let problems = Manifest::parse(&format!("{before}{actions}"), "rt").unwrap_err();
        problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
    };
    let open = wrong("[actions.open_ticket]\ncall = \"POST /ticket\"\nbody = { Subject = \"{subject}\" }\n");
    for part in ["what the ticket says is sent nowhere", "our mark is sent nowhere", "cannot be looked for by our mark"]
    {
        assert!(open.contains(part), "{open}");
    }
    let set = wrong("[actions.set_ticket]\ncall = \"PUT /ticket\"\n");
    assert!(set.contains("which ticket") && set.contains("no field can be set"), "{set}");
    let place =
        "[actions.set_ticket]\ncall = \"PUT /t/{ticket}\"\nfields = { a = { at = \"a\" }, b = { at = \"\" } }\n";
    let place = wrong(place);
    assert!(place.contains("`a` is no pointer") && place.contains("the whole ticket is no field"), "{place}");
    let misplaced = "[actions.send]\ncall = \"POST /m/{conversation}\"\nbody = { t = \"{text}\", s = \"{subject}\" }\n";
    assert!(wrong(misplaced).contains("`{subject}` is not known here"));
}

/// Request Tracker with one ticket of this subject, which can be changed.
fn named(subject: &str) -> (Connection, Arc<Mutex<String>>) {
    let kept = Arc::new(Mutex::new(subject.to_owned()));
    let shown = kept.clone();
    let script = Script::new(move |request: &http::Request<Bytes>| {
        let mut subject = shown.lock().unwrap();
        let body = match request.method() == http::Method::GET {
            true => json!({ "id": 3, "Subject": *subject, "Status": "new" }),
            false => {
                let sent: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
                *subject = sent["Subject"].as_str().unwrap().to_owned();
                json!(["Ticket 3: Subject changed"])
            }
        };
        Ok(http::Response::new(Bytes::from(body.to_string())))
    });
    (open(spec("rt"), Arc::new(script)), kept)
}

#[tokio::test]
async fn a_new_subject_keeps_our_mark() {
    const MARK: &str = "[0123456789abcdef01234567]";
    let long = "x".repeat(300);
    for (before, new, after) in [
        (format!("Broken {MARK}"), "Done", format!("Done {MARK}")),
        (format!("Broken {MARK}"), long.as_str(), format!("{} {MARK}", &long[..150])),
        ("Broken [urgent]".to_owned(), "Done", "Done".to_owned()),
        (format!("{MARK} is what they see"), "Done", "Done".to_owned()),
    ] {
        let (desk, subject) = named(&before);
        desk.set_ticket(Lane::Resolve, "3", &fields("subject", new)).await.unwrap();
        assert_eq!(*subject.lock().unwrap(), after, "{before}");
    }
}

#[tokio::test]
async fn a_refused_act_says_which_right_it_takes() {
    for (desk, right) in [("zendesk", "scope write"), ("rt", "ModifyTicket")] {
        let script = Script::new(|request: &http::Request<Bytes>| {
            let get = request.method() == http::Method::GET;
            let ticket = json!({ "ticket": { "id": 3, "status": "new" }, "id": 3, "Status": "new" });
            let body = if get { ticket } else { json!({ "message": "Forbidden" }) };
            let answer = http::Response::builder().status(if get { 200 } else { 403 });
            Ok(answer.body(Bytes::from(body.to_string())).unwrap())
        });
        let desk = open(spec(desk), Arc::new(script));
        let error = desk.set_ticket(Lane::Resolve, "3", &fields("status", "open")).await.unwrap_err();
        assert!(error.kind == ErrorKind::Forbidden && error.message.contains(right), "{error}");
    }
}
