//! Chatwoot: what its facts cannot say (see BEHAVIOR.md for why each of these is here).

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::{Map, Value, json};

use crate::kit::act::{Act, ActKind, Acted};
use crate::kit::connector::{CheckReport, Connector, Cx, MatchKey, Page, PullRequest, Push, RemoteRecord, Written};
use crate::kit::error::{ConnectorError, ErrorKind};
use crate::kit::gate::Purpose;
use crate::kit::http::Ask;
use crate::kit::manifest::Manifest;
use crate::kit::matching;
use crate::kit::rest::{self, Rest};

/// The remote fields Chatwoot keeps unique within an account.
const UNIQUE: [&str; 3] = ["email", "phone_number", "identifier"];

/// The channel whose owner delivers what is written.
const API: &str = "Channel::Api";
const TEMPLATES: &str = "WhatsApp takes only a template as a first message";

/// The Chatwoot connector.
pub(crate) struct Chatwoot {
    rest: Rest,
}

impl Chatwoot {
    pub(crate) fn new(manifest: Arc<Manifest>) -> Chatwoot {
        Chatwoot { rest: Rest::new(manifest) }
    }

    /// Updates what can be updated, then removes the custom attributes that were cleared.
    async fn update(
        &self,
        cx: &Cx,
        stream: &str,
        id: &str,
        body: &Value,
        key: &str,
    ) -> Result<Written, ConnectorError> {
        let (body, removed) = split_removed(prepared(body));
        let only_removals = !removed.is_empty() && body.as_object().is_some_and(Map::is_empty);
        let mut written = Written { record: None, id: id.to_owned(), calls: 0 };
        if !only_removals {
            let push = Push::Update { id, body: &body, current: None, version: None };
            written = self.rest.push(cx, stream, push, key).await?;
        }
        if !removed.is_empty() {
            written.record = self.remove_attributes(cx, stream, id, &removed).await?;
            written.calls += 1;
        }
        Ok(written)
    }

    async fn remove_attributes(
        &self,
        cx: &Cx,
        stream: &str,
        id: &str,
        keys: &[String],
    ) -> Result<Option<RemoteRecord>, ConnectorError> {
        let path = format!("{}/contacts/{}/destroy_custom_attributes", account_path(cx), rest::segment(id)?);
        let body = json!({ "custom_attributes": keys });
        let ask = Ask::new(Purpose::Update, Method::POST, path).body(&body);
        let (answer, _) = cx.http.json(cx.lane, &ask).await?;
        Ok(rest::single(self.rest.facts(stream)?, answer))
    }

    /// Begins a conversation where the inbox's channel lets the team write first, by the id that the channel has for the
    /// contact.
    async fn open(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        let contact = rest::segment(act.conversation)?;
        let path = format!("{}/contacts/{contact}/contactable_inboxes", account_path(cx));
        let ask = Ask::new(Purpose::Fetch, Method::GET, path);
        // Nothing has been sent yet: what is answered oddly here, as during maintenance, is asked for again.
        let odd = |why: String| ConnectorError::new(ErrorKind::Unavailable, why);
        let (answer, _) = cx.http.json(cx.lane, &ask).await.map_err(|error| match error.kind {
            ErrorKind::Contract => odd(error.message),
            _ => error,
        })?;
        let inbox = inbox_id(cx);
        let offers = answer["payload"].as_array();
        let offers = offers.ok_or_else(|| odd(format!("{}: there is no list at `/payload`", cx.http.what(&ask))))?;
        let Some(offer) = offers.iter().find(|offer| is_numbered(&offer["inbox"], &inbox)) else {
            return Err(ConnectorError::unsupported(format!(
                "Chatwoot does not offer inbox {inbox} for contact {contact}: its channel needs an address that they lack, or \
                 only the customer can begin there"
            )));
        };
        let channel = offer["inbox"]["channel_type"].as_str().unwrap_or_default();
        let source = offer["source_id"].as_str().unwrap_or_default();
        if let Err(why) = writes_first(channel, source.starts_with("whatsapp:")) {
            return Err(ConnectorError::unsupported(format!("inbox {inbox} is of {channel}: {why}")));
        }
        let mut own = Map::new();
        // An API inbox takes any id, and offers another one each time.
        if channel != API {
            own.insert("source_id".to_owned(), offer["source_id"].clone());
        }
        self.rest.act_with(cx, act, own).await
    }

    /// Decides what a refused or failed write really means: who holds the value, or that nobody does.
    async fn explained(&self, cx: &Cx, stream: &str, push: &Push<'_>, error: ConnectorError) -> ConnectorError {
        let creates = matches!(push, Push::Create { .. });
        match (&error.kind, error.status) {
            (ErrorKind::Invalid { fields }, Some(422))
                if fields.iter().any(|field| UNIQUE.contains(&field.as_str())) =>
            {
                let keys = fields.clone();
                self.held(cx, stream, push, keys, error).await
            }
            (ErrorKind::OutcomeUnknown, Some(500)) if creates => self.after_500(cx, stream, push, error).await,
            (ErrorKind::Invalid { .. }, Some(422)) if matches!(push, Push::Delete { .. }) => {
                let message =
                    format!("{} Chatwoot does not delete contacts that are online: try again later", error.message);
                ConnectorError { kind: ErrorKind::Unavailable, message, ..error }
            }
            _ => error,
        }
    }

    /// A 422 names the fields, but means "taken" and "malformed" alike; only a look-up tells.
    async fn held(
        &self,
        cx: &Cx,
        stream: &str,
        push: &Push<'_>,
        keys: Vec<String>,
        error: ConnectorError,
    ) -> ConnectorError {
        match matching::holder_of(self, cx, stream, push, &keys).await {
            Ok(Some(holder)) => ConnectorError { kind: ErrorKind::Conflict { holder: Some(holder), keys }, ..error },
            Ok(None) => error,
            Err(failed) => {
                let message =
                    format!("{} (and whether it is taken could not be looked up: {})", error.message, failed.message);
                ConnectorError { message, ..error }
            }
        }
    }

    /// A create that lost a race against another one ends as 500; so does one that half worked.
    async fn after_500(&self, cx: &Cx, stream: &str, push: &Push<'_>, error: ConnectorError) -> ConnectorError {
        let Ok(facts) = self.rest.facts(stream) else { return error };
        if matching::sent_keys(cx, facts, push, &[]).is_empty() {
            return error;
        }
        match matching::holder_of(self, cx, stream, push, &[]).await {
            Ok(Some(holder)) => {
                let keys = UNIQUE.map(str::to_owned).to_vec();
                ConnectorError { kind: ErrorKind::Conflict { holder: Some(holder), keys }, ..error }
            }
            Ok(None) => {
                let message = format!("{} No such contact exists afterwards, so nothing was created", error.message);
                ConnectorError { kind: ErrorKind::Unavailable, message, ..error }
            }
            Err(_) => error,
        }
    }
}

#[async_trait]
impl Connector for Chatwoot {
    fn manifest(&self) -> &Manifest {
        self.rest.manifest()
    }

    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError> {
        let (server, _) = cx.http.json(cx.lane, &Ask::new(Purpose::Check, Method::GET, "/api")).await?;
        let version = server.get("version").and_then(Value::as_str).map(str::to_owned);
        if version.is_none() {
            return Err(ConnectorError::contract(
                "`/api` below base_url does not answer like Chatwoot: base_url is the installation's address, without /api",
            ));
        }
        let (profile, _) = cx.http.json(cx.lane, &Ask::new(Purpose::Check, Method::GET, "/api/v1/profile")).await?;
        let mut report = CheckReport { version, identity: identity(&profile), notes: Vec::new() };
        report.notes.extend(membership(cx, &profile)?);
        report.notes.extend(inbox(cx).await?);
        report.notes.extend(self.rest.check(cx).await?.notes);
        Ok(report)
    }

    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        let mut page = self.rest.pull(cx, request).await?;
        page.records.iter_mut().for_each(slim);
        Ok(page)
    }

    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let mut record = self.rest.fetch(cx, stream, id).await?;
        slim(&mut record);
        Ok(record)
    }

    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        let Some(find) = facts.find.get(key.kind()) else {
            return Err(ConnectorError::unsupported(format!("chatwoot cannot look a {stream} up by {}", key.kind())));
        };
        let conditions: Vec<Value> = find
            .params
            .iter()
            .map(|(attribute, value)| {
                let value = cx.settings.render(value, &[("value", key.value())]);
                json!({ "attribute_key": attribute, "filter_operator": "equal_to", "values": [value], "query_operator": null })
            })
            .collect();
        let body = json!({ "payload": conditions });
        let path = format!("{}/contacts/filter?include_contact_inboxes=false", account_path(cx));
        let (mut answer, _) = cx.http.json(cx.lane, &Ask::new(Purpose::Find, Method::POST, path).body(&body)).await?;
        let Value::Array(rows) = answer["payload"].take() else {
            return Err(ConnectorError::contract("chatwoot: contacts/filter answered without a `payload` list"));
        };
        let mut records: Vec<RemoteRecord> = rows.into_iter().filter_map(|row| rest::record(facts, row)).collect();
        // The filter compares identifiers in any letter case; Chatwoot itself does not.
        records.retain(|record| matching::holds(record, &find.pointer, key));
        records.iter_mut().for_each(slim);
        Ok(records)
    }

    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        let outcome = match push {
            Push::Create { body } => {
                let body = prepared(body);
                visible(&body)?;
                self.rest.push(cx, stream, Push::Create { body: &body }, idempotency_key).await
            }
            Push::Update { id, body, .. } => self.update(cx, stream, id, body, idempotency_key).await,
            Push::Delete { .. } => self.rest.push(cx, stream, push, idempotency_key).await,
        };
        match outcome {
            Ok(mut written) => {
                written.record.iter_mut().for_each(slim);
                Ok(written)
            }
            Err(error) => Err(self.explained(cx, stream, &push, error).await),
        }
    }

    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        match act.kind {
            ActKind::Open => self.open(cx, act).await,
            _ => self.rest.act(cx, act).await,
        }
    }
}

fn account_path(cx: &Cx) -> String {
    cx.settings.render("/api/v1/accounts/{account_id}", &[])
}

/// The inbox in which conversations are begun; empty where none is set.
fn inbox_id(cx: &Cx) -> String {
    cx.settings.render("{inbox_id}", &[])
}

fn is_numbered(inbox: &Value, id: &str) -> bool {
    inbox["id"].as_u64().is_some_and(|number| number.to_string() == id)
}

/// To whom the team can write first in a channel, or why to nobody.
fn writes_first(channel: &str, whatsapp: bool) -> Result<&'static str, &'static str> {
    match channel {
        API => Ok("with everybody"),
        "Channel::Email" => Ok("with who has an e-mail address"),
        "Channel::Whatsapp" => Err(TEMPLATES),
        "Channel::TwilioSms" if whatsapp => Err(TEMPLATES),
        "Channel::TwilioSms" | "Channel::Sms" => Ok("with who has a phone number"),
        "Channel::WebWidget" => Ok("with who opened the chat window and never wrote"),
        _ => Err("there only the customer begins"),
    }
}

/// What is worth knowing about the inbox that is set; an error when no conversation can be begun there.
async fn inbox(cx: &Cx) -> Result<Option<String>, ConnectorError> {
    let id = inbox_id(cx);
    if id.is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| {
        let message =
            format!("{why}: set inbox_id to another inbox, or leave it out and only who has written is written to");
        ConnectorError::new(ErrorKind::Invalid { fields: vec!["inbox_id".to_owned()] }, message)
    };
    let path = format!("{}/inboxes/{}", account_path(cx), rest::segment(&id)?);
    let inbox = match cx.http.json(cx.lane, &Ask::new(Purpose::Fetch, Method::GET, path)).await {
        Ok((inbox, _)) => inbox,
        Err(error) if error.kind == ErrorKind::NotFound => {
            return Err(wrong(format!("the token's user sees no inbox {id}")));
        }
        Err(error) => return Err(error),
    };
    let channel = inbox["channel_type"].as_str().unwrap_or_default();
    match writes_first(channel, inbox["medium"] == "whatsapp") {
        Ok(whom) => Ok(Some(format!("inbox {id} ({channel}): conversations are begun {whom}"))),
        Err(why) => Err(wrong(format!("no conversation can be begun in inbox {id} ({channel}), {why}"))),
    }
}

/// An empty identifier is kept by the server, and the second one violates its index.
fn prepared(body: &Value) -> Value {
    let mut body = body.clone();
    if body.get("identifier").and_then(Value::as_str) == Some("") {
        body["identifier"] = Value::Null;
    }
    body
}

/// Takes cleared custom attributes out of an update: sent as null they would stay as empty keys.
fn split_removed(mut body: Value) -> (Value, Vec<String>) {
    let mut removed = Vec::new();
    if let Some(attributes) = body.get_mut("custom_attributes").and_then(Value::as_object_mut) {
        attributes.retain(|key, value| {
            if value.is_null() {
                removed.push(key.clone());
            }
            !value.is_null()
        });
        if attributes.is_empty()
            && let Some(object) = body.as_object_mut()
        {
            object.remove("custom_attributes");
        }
    }
    (body, removed)
}

/// A contact without any key would be created, and then appear in no list.
fn visible(body: &Value) -> Result<(), ConnectorError> {
    let filled = |field: &str| body.get(field).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
    if UNIQUE.iter().any(|field| filled(field)) {
        return Ok(());
    }
    let fields = UNIQUE.map(str::to_owned).to_vec();
    Err(ConnectorError::new(
        ErrorKind::Invalid { fields },
        "Chatwoot lists only contacts that have an e-mail address, a phone number or an identifier; this one has none",
    ))
}

/// Drops what only some answers carry, so that a record reads the same wherever it comes from.
fn slim(record: &mut RemoteRecord) {
    if let Some(object) = record.body.as_object_mut() {
        object.remove("contact_inboxes");
    }
}

fn identity(profile: &Value) -> Option<String> {
    let name = profile.get("name").and_then(Value::as_str)?;
    Some(format!("{name} (user {})", profile.get("id").map(Value::to_string).unwrap_or_default()))
}

/// What the profile says about the account; an error when the token's user does not belong to it.
fn membership(cx: &Cx, profile: &Value) -> Result<Vec<String>, ConnectorError> {
    let wanted = cx.settings.number("account_id");
    let accounts = profile.get("accounts").and_then(Value::as_array);
    let Some(accounts) = accounts else {
        return Ok(vec!["the profile does not list accounts; the token's role could not be checked".to_owned()]);
    };
    let Some(account) = accounts.iter().find(|account| account.get("id").and_then(Value::as_u64) == Some(wanted))
    else {
        let known: Vec<String> = accounts.iter().filter_map(|account| Some(account.get("id")?.to_string())).collect();
        return Err(ConnectorError::new(
            ErrorKind::Forbidden,
            format!("the token's user is no member of account {wanted}, but of {}: check account_id", known.join(", ")),
        ));
    };
    match account.get("role").and_then(Value::as_str) {
        Some("administrator") => Ok(vec![format!("account {wanted}: administrator")]),
        Some(role) => Ok(vec![format!(
            "account {wanted}: the token's user is {role}, not administrator: contacts cannot be deleted, and what an agent \
             re-opens is assigned to that agent"
        )]),
        None => Ok(Vec::new()),
    }
}
