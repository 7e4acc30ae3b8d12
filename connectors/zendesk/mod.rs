//! Zendesk: tickets through the incremental export (see BEHAVIOR.md).

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::kit::act::{Act, Acted};
use crate::kit::clock::Millis;
use crate::kit::connector::{
    CheckReport, Connector, Cx, MatchKey, Page, PullMode, PullRequest, Push, RemoteRecord, Written,
};
use crate::kit::error::{ConnectorError, ErrorKind};
use crate::kit::gate::Purpose;
use crate::kit::http::Ask;
use crate::kit::manifest::{Manifest, StreamFacts};
use crate::kit::matching;
use crate::kit::paging::{self, Walk};
use crate::kit::rest::{self, Rest};

/// The class of the export's own limit.
const EXPORT: &str = "export";
/// A start within the last minute is refused; a second more, for clocks that differ.
const TOO_RECENT_MS: Millis = 61_000;
/// What the names of events begin with; all else that a webhook tells of comes from a trigger or an automation.
const EVENT: &str = "zen:event-type:";

/// The Zendesk connector.
pub(crate) struct Zendesk {
    rest: Rest,
}

impl Zendesk {
    pub(crate) fn new(manifest: Arc<Manifest>) -> Zendesk {
        Zendesk { rest: Rest::new(manifest) }
    }

    /// One page of the export: from a time at first, then from the cursor.
    async fn export(
        &self,
        cx: &Cx,
        facts: &StreamFacts,
        from: Millis,
        walk: Option<&Walk>,
    ) -> Result<Page, ConnectorError> {
        let (method, target) = rest::request_line(cx, &facts.list.call, &[])?;
        let mut ask = Ask::new(Purpose::Pull, method, target).class(EXPORT);
        for (name, value) in &facts.list.params {
            ask = ask.query(name, cx.settings.render(value, &[]));
        }
        let latest = cx.clock.now() - TOO_RECENT_MS;
        ask = match walk {
            Some(walk) => ask.query("cursor", walk.at.clone()),
            None => ask.query("start_time", from.min(latest).max(0).div_euclid(1_000).to_string()),
        };
        let (mut body, answer) = cx.http.json(cx.lane, &ask).await?;
        let wrong = |what: &str| ConnectorError::contract(format!("{}: {what}", cx.http.what(&ask)));
        let Value::Array(rows) = body["tickets"].take() else {
            return Err(wrong("there is no list `tickets` in the answer; is base_url right?"));
        };
        let mut records = Vec::new();
        for mut row in rows {
            name_requester(&mut row, &body["users"]);
            records.push(rest::record(facts, row).ok_or_else(|| wrong("a ticket has no id"))?);
        }
        // The cursor goes on for ever; whether there is more now is said apart.
        let over = body["end_of_stream"].as_bool().ok_or_else(|| wrong("it does not say `end_of_stream`"))?;
        let cursor = paging::text_of(&body["after_cursor"]).filter(|_| !over);
        let next = paging::next(&facts.list.page, walk, cursor, &records)?.map(|walk| walk.cursor());
        Ok(Page { records, next, server_time: answer.server_time, steady: true, ..Page::default() })
    }
}

#[async_trait]
impl Connector for Zendesk {
    fn manifest(&self) -> &Manifest {
        self.rest.manifest()
    }

    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError> {
        let ask = Ask::new(Purpose::Check, Method::GET, "/users/me");
        let (body, _) = cx.http.json(cx.lane, &ask).await?;
        let user = &body["user"];
        // Wrong credentials may be answered with 200 and nobody.
        let Some(id) = paging::text_of(&user["id"]) else {
            let message = "zendesk takes these credentials for nobody: check `email` and `api_token`";
            return Err(ConnectorError::new(ErrorKind::Unauthorized, message));
        };
        let name = user["name"].as_str().unwrap_or("somebody");
        let mut report = CheckReport { identity: Some(format!("{name} (user {id})")), ..CheckReport::default() };
        report.notes.push(match user["role"].as_str() {
            Some("admin") => "administrator: tickets can be exported".to_owned(),
            role => format!("the role is {}; the incremental export is for administrators", role.unwrap_or("not told")),
        });
        Ok(report)
    }

    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        let facts = self.rest.facts(request.stream)?;
        let from = match request.mode {
            PullMode::Full => 0,
            PullMode::Since(at) => at,
            PullMode::Head => return self.rest.pull(cx, request).await,
        };
        let walk = Walk::resume(request.cursor)?;
        self.export(cx, facts, from, walk.as_ref()).await
    }

    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        let call = facts.get.as_deref().unwrap_or_default();
        let (method, target) = rest::request_line(cx, call, &[("id", &rest::segment(id)?)])?;
        let ask = Ask::new(Purpose::Fetch, method, target);
        let (mut body, _) = cx.http.json(cx.lane, &ask).await?;
        let users = body["users"].take();
        name_requester(&mut body["ticket"], &users);
        let message = format!("{}: there is no ticket in the answer", cx.http.what(&ask));
        rest::single(facts, body).ok_or_else(|| ConnectorError::contract(message))
    }

    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        let Some(find) = facts.find.get(key.kind()) else { return self.rest.find(cx, stream, key).await };
        let mut ask = Ask::new(Purpose::Find, Method::GET, "/tickets");
        for (name, value) in &find.params {
            ask = ask.query(name, cx.settings.render(value, &[("value", key.value())]));
        }
        let (mut body, _) = cx.http.json(cx.lane, &ask).await?;
        let Value::Array(rows) = body["tickets"].take() else {
            let message = format!("{}: there is no list `tickets` in the answer", cx.http.what(&ask));
            return Err(ConnectorError::contract(message));
        };
        let records = rows.into_iter().filter_map(|row| rest::record(facts, row));
        Ok(records.filter(|record| matching::holds(record, &find.pointer, key)).collect())
    }

    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        self.rest.push(cx, stream, push, idempotency_key).await
    }

    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        self.rest.act(cx, act).await
    }

    async fn subscription_secret(&self, cx: &Cx, id: &str) -> Result<Option<SecretString>, ConnectorError> {
        let target = format!("/webhooks/{}/signing_secret", rest::segment(id)?);
        let ask = Ask::new(Purpose::Fetch, Method::GET, target);
        let body = match cx.http.json(cx.lane, &ask).await {
            Ok((body, _)) => body,
            // Somebody deleted it since it was listed.
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let place = self.manifest().hooks.as_ref().and_then(|hooks| hooks.subscriptions.as_ref()?.secret.as_deref());
        let secret = place.and_then(|place| body.pointer(place)?.as_str()).filter(|secret| !secret.is_empty());
        match secret {
            Some(secret) => Ok(Some(SecretString::from(secret))),
            None => Err(ConnectorError::contract(format!("{}: there is no secret in the answer", cx.http.what(&ask)))),
        }
    }

    fn by_rule(&self, topic: &str) -> bool {
        !topic.starts_with(EVENT)
    }
}

/// A ticket has its requester's id only; who that is comes beside the tickets.
fn name_requester(ticket: &mut Value, users: &Value) {
    let id = ticket["requester_id"].clone();
    let users = users.as_array().map(Vec::as_slice).unwrap_or_default();
    if let (Some(user), Some(ticket)) = (users.iter().find(|user| user["id"] == id), ticket.as_object_mut()) {
        let part = |name: &str| user.get(name).cloned().unwrap_or_default();
        let known = ["id", "name", "email", "phone", "locale", "iana_time_zone"];
        let requester: serde_json::Map<String, Value> =
            known.into_iter().map(|name| (name.to_owned(), part(name))).collect();
        ticket.insert("requester".to_owned(), json!(requester));
    }
}
