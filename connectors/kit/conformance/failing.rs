//! Tests with a far end that misbehaves; none of them touches the real one.

use std::sync::Arc;

use super::report::{Stop, Test, fail, skip};
use super::samples::filled;
use super::{Lab, Suite, told};
use crate::kit::clock::{Clock, JumpClock};
use crate::kit::script::Script;
use crate::{Connection, ConnectorError, ErrorKind, Lane, PullMode, PullRequest, Push, TransportError};

const CANARY: &str = "canary/Secret+7f3a=";

pub(super) async fn run(suite: &mut Suite<'_>) {
    let lab = suite.lab;
    suite.note("errors_have_the_right_kind", kinds(lab).await);
    suite.note("an_html_page_is_explained", html(lab).await);
    suite.note("redirects_are_not_followed", redirect(lab).await);
    suite.note("limits_are_waited_for", limited(lab).await);
    let result = unprocessed(suite).await;
    suite.note("writes_are_not_repeated_blindly", result);
    suite.note("a_list_in_circles_ends", circles(lab).await);
    suite.note("secrets_stay_secret", canary(lab).await);
}

fn clock(lab: &Lab) -> Arc<JumpClock> {
    Arc::new(JumpClock::at(lab.target.clock.now()))
}

fn scripted(lab: &Lab, script: &Arc<Script>) -> Result<Connection, Stop> {
    lab.over(script.clone(), clock(lab)).map_err(Stop::Fail)
}

async fn first_page(lab: &Lab, connection: &Connection) -> Result<crate::Page, ConnectorError> {
    let request = PullRequest { stream: &lab.target.stream, mode: PullMode::Full, cursor: None, parent: None };
    connection.pull(Lane::Audit, request).await
}

async fn kinds(lab: &Lab) -> Test {
    for (status, name) in
        [(401, "unauthorized"), (403, "forbidden"), (404, "not_found"), (429, "rate_limited"), (503, "unavailable")]
    {
        let script = Arc::new(Script::always(status, &[], "{}"));
        let connection = scripted(lab, &script)?;
        // Where every read is posted to one address, a 404 is about that address and must not look like a missing record.
        let get = connection.manifest().stream(&lab.target.stream).and_then(|facts| facts.get.as_deref());
        let name = if status == 404 && get.is_some_and(|get| get.starts_with("POST ")) { "contract" } else { name };
        let result = connection.fetch(Lane::Audit, &lab.target.stream, "1").await;
        match &result {
            Err(error) if error.kind == ErrorKind::Unsupported && script.asked().is_empty() => {
                return skip("it cannot read single records");
            }
            Err(error) if error.kind.name() == name => {}
            _ => return fail(format!("status {status} leads to {}, not to {name}", told(&result))),
        }
    }
    let script = Arc::new(Script::new(|_| Err(TransportError::NoAnswer { reason: "cut".to_owned() })));
    let result = first_page(lab, &scripted(lab, &script)?).await;
    match &result {
        Err(error) if error.kind == ErrorKind::Unavailable && script.asked().len() > 1 => Ok(()),
        _ => fail(format!("a cut line leads to {} after {} tries", told(&result), script.asked().len())),
    }
}

async fn html(lab: &Lab) -> Test {
    let page = "<!DOCTYPE html><html><body>Please sign in</body></html>";
    let script = Arc::new(Script::always(200, &[("content-type", "text/html")], page));
    let result = first_page(lab, &scripted(lab, &script)?).await;
    match &result {
        Err(error) if error.kind == ErrorKind::Contract && error.message.contains("base_url") => Ok(()),
        _ => fail(format!("an HTML page leads to {}", told(&result))),
    }
}

async fn redirect(lab: &Lab) -> Test {
    let script = Arc::new(Script::always(302, &[("location", "https://elsewhere.example/login")], ""));
    let result = first_page(lab, &scripted(lab, &script)?).await;
    match &result {
        Err(error) if error.kind == ErrorKind::Contract && script.asked().len() == 1 => Ok(()),
        _ => fail(format!("a redirect leads to {}", told(&result))),
    }
}

async fn limited(lab: &Lab) -> Test {
    let script = Arc::new(Script::always(429, &[("retry-after", "7")], ""));
    let clock = clock(lab);
    let start = clock.now();
    let connection = lab.over(script.clone(), clock.clone()).map_err(Stop::Fail)?;
    let result = first_page(lab, &connection).await;
    let waited = clock.now() - start;
    let tries = script.asked().len() as i64;
    match &result {
        Err(error)
            if matches!(error.kind, ErrorKind::RateLimited { until: Some(_) }) && waited >= 7_000 * (tries - 1) =>
        {
            Ok(())
        }
        _ => fail(format!("{tries} tries in {waited} ms lead to {}", told(&result))),
    }
}

async fn unprocessed(suite: &Suite<'_>) -> Test {
    let lab = suite.lab;
    if !suite.can().create {
        return skip("it cannot create");
    }
    let body = filled(&lab.samples()?.create, lab.number());
    for (reason, sent) in [("not sent", false), ("cut", true)] {
        let script = Arc::new(Script::new(move |_| {
            let reason = reason.to_owned();
            Err(if sent { TransportError::NoAnswer { reason } } else { TransportError::NotSent { reason } })
        }));
        let connection = scripted(lab, &script)?;
        let result = connection.push(Lane::Audit, &lab.target.stream, Push::Create { body: &body }, "k").await;
        let writes = script.asked().len();
        match (&result, sent) {
            (Err(error), true) if error.kind == ErrorKind::OutcomeUnknown && writes == 1 => {}
            (Err(error), false) if error.kind == ErrorKind::Unavailable && writes > 1 => {}
            _ => return fail(format!("a create that is {reason}: {writes} tries, {}", told(&result))),
        }
    }
    Ok(())
}

/// The first page, again and again, whatever is asked for.
async fn circles(lab: &Lab) -> Test {
    let recorder =
        Arc::new(crate::kit::recording::Recorder::new(lab.target.transport.clone(), lab.target.spec.secrets.values()));
    let live = lab.through(recorder.clone()).map_err(Stop::Fail)?;
    if first_page(lab, &live).await?.next.is_none() {
        return skip("there is only one page");
    }
    let recording = recorder.recording("first page");
    let Some(page) = recording.exchanges.into_iter().next_back() else { return skip("nothing was sent") };
    let headers: Vec<(&str, &str)> = page.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let script = Arc::new(Script::always(page.status, &headers, page.body.to_string()));
    let connection = scripted(lab, &script)?;
    let mut cursor: Option<String> = None;
    for _ in 0..20 {
        let request =
            PullRequest { stream: &lab.target.stream, mode: PullMode::Full, cursor: cursor.as_deref(), parent: None };
        match connection.pull(Lane::Audit, request).await {
            Err(error) if error.kind == ErrorKind::Contract => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(page) if page.next.is_none() => return Ok(()),
            Ok(page) => cursor = page.next,
        }
    }
    fail("a server that repeats its first page is read for ever")
}

/// A far end that throws the credentials back in every way it can.
async fn canary(lab: &Lab) -> Test {
    for status in [200, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503] {
        let script = Arc::new(Script::new(move |request| {
            let echoed = format!("{:?} {} {CANARY}", request.headers().values().collect::<Vec<_>>(), request.uri());
            let raw: Vec<u8> = request.headers().values().flat_map(|value| value.as_bytes().to_vec()).collect();
            let body =
                serde_json::json!({ "message": format!("{echoed} {}", String::from_utf8_lossy(&raw)) }).to_string();
            http::Response::builder()
                .status(status)
                .header("location", format!("https://{}/?k=x", "elsewhere.example"))
                .header("x-echo", CANARY)
                .body(body.into())
                .map_err(|error| TransportError::NotSent { reason: error.to_string() })
        }));
        judge_canary(lab, script, &format!("status {status}")).await?;
    }
    let script = Arc::new(Script::new(|request| {
        Err(TransportError::NotSent { reason: format!("could not reach {} with {CANARY}", request.uri()) })
    }));
    judge_canary(lab, script, "an unreachable host").await
}

async fn judge_canary(lab: &Lab, script: Arc<Script>, what: &str) -> Test {
    let secret = secrecy::SecretString::from(CANARY);
    let recorder = Arc::new(crate::kit::recording::Recorder::new(script, [&secret]));
    let connection = lab.with_secret(CANARY, recorder.clone(), clock(lab)).map_err(Stop::Fail)?;
    let stream = &lab.target.stream;
    let mut texts = vec![format!("{connection:?}"), connection.account()];
    let page = first_page(lab, &connection).await;
    texts.push(format!("{:?}", page.err()));
    texts.push(format!("{:?}", connection.fetch(Lane::Audit, stream, "1").await.err()));
    texts.push(format!("{:?}", connection.check(Lane::Audit).await.err()));
    let body = serde_json::json!({ "name": "x", "email": "x@y.example" });
    texts.push(format!("{:?}", connection.push(Lane::Audit, stream, Push::Create { body: &body }, "k").await.err()));
    texts.push(serde_json::to_string(&recorder.recording("canary")).unwrap_or_default());
    // `redact` knows every form a secret can take; what it would still change is a leak.
    match texts.iter().find(|text| text.contains(CANARY) || connection.redact(text) != **text) {
        None => Ok(()),
        Some(_) => fail(format!("{what}: the secret shows in a message, a log line or a recording")),
    }
}
