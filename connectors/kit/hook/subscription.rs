//! Webhook subscriptions at the vendor: which there are, and making, changing and deleting one.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::facts::SubscriptionFacts;
use crate::kit::connector::Cx;
use crate::kit::error::ConnectorError;
use crate::kit::gate::Purpose;
use crate::kit::http::Ask;
use crate::kit::manifest::{Manifest, StreamFacts};
use crate::kit::paging::Walk;
use crate::kit::rest::{self, Rest};

/// Pages that are read at most: whoever does not see all subscriptions would make one twice.
const MOST_PAGES: usize = 20;

/// A subscription as the vendor lists it. Its address may end in a secret.
#[derive(Clone)]
pub struct Listed {
    /// The vendor's id.
    pub id: String,
    /// The address it calls.
    pub address: String,
    /// Its topics, in the words of deliveries.
    pub topics: Vec<String>,
    /// The vendor's word for its state, where it has one.
    pub state: Option<String>,
    /// Whether it delivers.
    pub active: bool,
    /// The secret that the vendor made for it and shows.
    pub secret: Option<SecretString>,
}

/// One of our own subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The vendor's id.
    pub id: String,
    /// Its topics, in the words of deliveries.
    pub topics: Vec<String>,
    /// The vendor's word for its state, where it has one.
    pub state: Option<String>,
    /// Whether it delivers.
    pub active: bool,
    /// Whether it calls the address that deliveries are taken at now; another one ends in an old secret.
    pub at_address: bool,
    /// Whether its deliveries can be verified with what is configured here, as far as the vendor shows.
    pub verifiable: bool,
    /// Whether a rule that somebody made by hand at the vendor sends through it: it is not ours to change.
    pub by_rule: bool,
}

/// A subscription as it should be.
#[derive(Clone, Copy)]
pub struct Subscribe<'a> {
    /// The one to change; a new one without it.
    pub id: Option<&'a str>,
    /// The address to call.
    pub address: &'a str,
    /// The topics, in the words of deliveries; one where the vendor has one for each.
    pub topics: &'a [String],
    /// The secret to sign with, where it is chosen here.
    pub secret: Option<&'a SecretString>,
}

// The address may end in a secret.
impl fmt::Debug for Subscribe<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Subscribe({:?}, {})", self.id, self.topics.join(", "))
    }
}

/// The facts, or what to do where there are none.
pub(crate) fn facts(manifest: &Manifest) -> Result<&SubscriptionFacts, ConnectorError> {
    let name = &manifest.name;
    let Some(hooks) = &manifest.hooks else {
        let message = format!("the connector {name} takes no webhooks: `poll` in [serve] finds what changed");
        return Err(ConnectorError::unsupported(message));
    };
    hooks.subscriptions.as_ref().ok_or_else(|| {
        let usual = "the connector does not say how webhooks are registered there: make them at the vendor by hand";
        ConnectorError::unsupported(format!("{name}: {}", hooks.by_hand.as_deref().unwrap_or(usual)))
    })
}

/// All subscriptions, from the facts.
pub(crate) async fn list(manifest: &Manifest, cx: &Cx) -> Result<Vec<Listed>, ConnectorError> {
    let facts = facts(manifest)?;
    let stream = as_stream(facts);
    let mut found = Vec::new();
    let mut walk = None;
    for _ in 0..MOST_PAGES {
        let page = Rest::page(cx, &stream, Purpose::Pull, &BTreeMap::new(), &[], walk.as_ref()).await?;
        for record in page.records {
            found.push(listed(facts, record.id, &record.body)?);
        }
        walk = Walk::resume(page.next.as_deref())?;
        if walk.is_none() {
            return Ok(found);
        }
    }
    let message = format!("{} has more than {} webhooks: delete what is no longer used", manifest.name, found.len());
    Err(ConnectorError::unsupported(message))
}

/// Makes or changes a subscription, from the facts.
pub(crate) async fn subscribe(manifest: &Manifest, cx: &Cx, subscribe: Subscribe<'_>) -> Result<(), ConnectorError> {
    let facts = facts(manifest)?;
    let (action, purpose) = match subscribe.id {
        None => (Some(&facts.create), Purpose::Create),
        Some(_) => (facts.update.as_ref(), Purpose::Update),
    };
    let action = action.ok_or_else(|| {
        ConnectorError::unsupported(format!("{} cannot change a webhook: delete it and make it anew", manifest.name))
    })?;
    let id = subscribe.id.map(rest::segment).transpose()?.unwrap_or_default();
    let (method, target) = rest::request_line(cx, &action.call, &[("id", &id)])?;
    let secret = subscribe.secret.map(|secret| secret.expose_secret()).unwrap_or_default();
    let topic = subscribe.topics.first().map(String::as_str).unwrap_or_default();
    let body = listing(&Value::Object(action.body.clone()), subscribe.topics);
    let values = [("url", subscribe.address), ("topic", topic), ("secret", secret)];
    let body = rest::filled(cx, &body, &values);
    cx.http.send(cx.lane, &Ask::new(purpose, method, target).body(&body)).await?;
    Ok(())
}

/// Deletes a subscription, from the facts.
pub(crate) async fn unsubscribe(manifest: &Manifest, cx: &Cx, id: &str) -> Result<(), ConnectorError> {
    let facts = facts(manifest)?;
    let (method, target) = rest::request_line(cx, &facts.delete, &[("id", &rest::segment(id)?)])?;
    cx.http.send(cx.lane, &Ask::new(Purpose::Delete, method, target)).await?;
    Ok(())
}

/// A subscription is listed like any record.
fn as_stream(facts: &SubscriptionFacts) -> StreamFacts {
    StreamFacts {
        id: facts.id.clone(),
        body: String::new(),
        record: Vec::new(),
        updated_at: None,
        parent: None,
        list: facts.list.clone(),
        get: None,
        find: BTreeMap::new(),
        create: None,
        update: None,
        delete: None,
        unique: Vec::new(),
        merges: false,
    }
}

/// One that cannot be read is no subscription to count on: it would be made again.
fn listed(facts: &SubscriptionFacts, id: String, row: &Value) -> Result<Listed, ConnectorError> {
    let text = |place: &str| row.pointer(place).and_then(Value::as_str).map(str::to_owned);
    let address = text(&facts.address)
        .ok_or_else(|| ConnectorError::contract(format!("webhook {id} has no address at `{}`", facts.address)))?;
    let topics = match row.pointer(&facts.topics) {
        Some(Value::String(topic)) => vec![topic.clone()],
        Some(Value::Array(topics)) => topics.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return Err(ConnectorError::contract(format!("webhook {id} has no topic at `{}`", facts.topics))),
    };
    let state = facts.state.as_deref().and_then(text);
    let active = facts.state.is_none() || state == facts.active;
    let secret = facts.secret.as_deref().and_then(text).filter(|secret| !secret.is_empty()).map(SecretString::from);
    Ok(Listed { id, address, topics, state, active, secret })
}

/// The body with the list of topics where a text is nothing but `{topics}`.
fn listing(value: &Value, topics: &[String]) -> Value {
    match value {
        Value::String(text) if text == "{topics}" => topics.iter().map(String::as_str).collect(),
        Value::Array(items) => items.iter().map(|item| listing(item, topics)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, item)| (name.clone(), listing(item, topics)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        plain => plain.clone(),
    }
}

/// An address as it is compared: vendors write the host in small letters, and some add a slash.
pub(crate) fn plain(address: &str) -> String {
    let plain = Url::parse(address.trim()).map_or_else(|_| address.trim().to_owned(), String::from);
    plain.trim_end_matches('/').to_owned()
}
