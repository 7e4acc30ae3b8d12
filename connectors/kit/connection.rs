//! One configured account of a connector.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::Url;

use super::act::{Act, ActKind, Acted, NewTicket};
use super::auth::Auth;
use super::clock::{Clock, Millis};
use super::connector::{CheckReport, Connector, Cx, MatchKey, Page, PullRequest, Push, RemoteRecord, Written};
use super::error::ConnectorError;
use super::gate::{Gate, Lane};
use super::hook::facts::SubscriptionFacts;
use super::hook::subscription::{self, Subscribe, Subscription};
use super::hook::{Delivery, HookRefusal, Hooks, Intake, RefusalKind};
use super::http::Http;
use super::manifest::{BudgetFacts, Capabilities, Manifest, ManifestProblem};
use super::odd;
use super::problems::duration_ms;
use super::redact::Redactor;
use super::rest;
use super::settings::Settings;
use super::transport::Transport;

/// What a connection is opened from.
#[derive(Clone, Debug)]
pub struct ConnectionSpec {
    /// Name the operator chose.
    pub name: String,
    /// Name of the connector.
    pub connector: String,
    /// Settings without secrets.
    pub settings: Map<String, Value>,
    /// Secrets by setting name.
    pub secrets: BTreeMap<String, SecretString>,
    /// Folders with manifests of the operator's own (`<folder>/<connector>/connector.toml` or
    /// `<folder>/<connector>.toml`), looked through before the shipped ones.
    pub manifest_dirs: Vec<PathBuf>,
}

/// Why a connection cannot be opened: every problem, a sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection `{connection}`: {}", problems.join("; "))]
pub struct OpenError {
    /// Name of the connection.
    pub connection: String,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Connection({}, {})", self.name, self.account)
    }
}

/// An open connection.
#[derive(Clone)]
pub struct Connection {
    name: String,
    account: String,
    connector: Arc<dyn Connector>,
    capabilities: Capabilities,
    budgets: Vec<BudgetFacts>,
    settings: Arc<Settings>,
    http: Arc<Http>,
    hooks: Option<Arc<Hooks>>,
    clock: Arc<dyn Clock>,
}

impl Connection {
    /// Checks everything that can be checked without the network.
    pub fn open(
        spec: ConnectionSpec,
        transport: Arc<dyn Transport>,
        gate: Arc<dyn Gate>,
        clock: Arc<dyn Clock>,
    ) -> Result<Connection, OpenError> {
        let name = spec.name.clone();
        let fail = |problems: Vec<String>| OpenError { connection: name.clone(), problems };
        let manifest = find_manifest(&spec).map_err(fail)?;
        let settings = Arc::new(Settings::open(&manifest, &spec.settings, &spec.secrets).map_err(fail)?);
        let base = base_url(&settings).map_err(|problem| fail(vec![problem]))?;
        let chosen = settings.text("auth");
        let auth = manifest.auth.iter().find(|auth| auth.kind.word() == chosen);
        let auth = auth.ok_or_else(|| fail(vec![format!("no way to authenticate is called `{chosen}`")]))?;
        let auth = Auth::new(auth, &settings, &spec.secrets).map_err(|problem| fail(vec![problem]))?;
        let hooks = manifest.hooks.as_ref().map(|facts| Hooks::open(facts, &spec.secrets)).transpose().map_err(fail)?;
        let budgets = manifest.budgets_with(&settings);
        let http = Arc::new(Http {
            connection: spec.name.clone(),
            redactor: Redactor::new(spec.secrets.values()),
            base,
            auth,
            manifest: manifest.clone(),
            settings: settings.clone(),
            budgets: budgets.clone(),
            transport,
            gate,
            clock: clock.clone(),
        });
        let capabilities = manifest.capabilities_of("contact", &settings).unwrap_or_default();
        let account = account(&http);
        let connector = crate::connector(manifest);
        let hooks = hooks.map(Arc::new);
        Ok(Connection { name: spec.name, account, connector, capabilities, budgets, settings, http, hooks, clock })
    }

    /// Name the operator chose.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The facts of its connector.
    pub fn manifest(&self) -> &Manifest {
        self.connector.manifest()
    }

    /// What it can do with contacts.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What it can do with a stream; none when the connector has no such stream.
    pub fn capabilities_of(&self, stream: &str) -> Option<Capabilities> {
        self.manifest().capabilities_of(stream, &self.settings)
    }

    /// The vendor's limits, after settings.
    pub fn budgets(&self) -> &[BudgetFacts] {
        &self.budgets
    }

    /// Key of the account whose limit it uses: address and a hash of the credentials.
    pub fn account(&self) -> String {
        self.account.clone()
    }

    /// Removes this connection's secrets from `text`.
    pub fn redact(&self, text: &str) -> String {
        self.http.redactor.clean(text)
    }

    /// Its settings, defaults filled in.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Probes credentials, version and capabilities.
    pub async fn check(&self, lane: Lane) -> Result<CheckReport, ConnectorError> {
        self.connector.check(&self.cx(lane)).await
    }

    /// Reads one page. A record with an id that nothing can keep is left out, and counted.
    pub async fn pull(&self, lane: Lane, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        let mut page = self.connector.pull(&self.cx(lane), request).await?;
        let shown = page.records.len();
        page.records.retain(|record| odd::is_id(&record.id));
        page.left_out = (shown - page.records.len()) as u64;
        if page.left_out > 0 {
            let (records, longest) = (page.left_out, odd::LONGEST_ID);
            tracing::warn!(connection = %self.name, stream = request.stream, records, "left out: ids of more than {longest} bytes");
        }
        Ok(page)
    }

    /// Reads one record; under another id than asked for when the vendor merged it.
    pub async fn fetch(&self, lane: Lane, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let record = self.connector.fetch(&self.cx(lane), stream, id).await?;
        match odd::is_id(&record.id) {
            true => Ok(record),
            false => Err(ConnectorError::contract(format!(
                "{}: the record has an id of more than {} bytes",
                self.name,
                odd::LONGEST_ID
            ))),
        }
    }

    /// Records that match `key` exactly.
    pub async fn find(&self, lane: Lane, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let mut found = self.connector.find(&self.cx(lane), stream, key).await?;
        found.retain(|record| odd::is_id(&record.id));
        Ok(found)
    }

    /// How late a look-up shows what was written, at the latest.
    pub fn find_lag(&self, stream: &str, key: &MatchKey) -> Millis {
        let facts = self.manifest().stream(stream).and_then(|stream| stream.find.get(key.kind()));
        facts.and_then(|find| duration_ms(find.lag.as_deref()?)).unwrap_or(0)
    }

    /// Writes; `idempotency_key` is the same for every attempt of one operation.
    pub async fn push(
        &self,
        lane: Lane,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        self.connector.push(&self.cx(lane), stream, push, idempotency_key).await
    }

    /// Whether it can do something in conversations: the connector can, and the settings it takes are there.
    pub fn can(&self, kind: ActKind) -> bool {
        let facts = self.manifest().actions.get(&kind);
        facts.is_some_and(|facts| facts.settings().iter().all(|name| !self.settings.text(name).is_empty()))
    }

    /// Does something in a conversation, once.
    pub async fn act(&self, lane: Lane, act: Act<'_>) -> Result<Acted, ConnectorError> {
        self.connector.act(&self.cx(lane), act).await
    }

    /// Opens a ticket, once.
    pub async fn open_ticket(&self, lane: Lane, new: NewTicket<'_>) -> Result<Acted, ConnectorError> {
        self.connector.open_ticket(&self.cx(lane), new).await
    }

    /// Sets fields of a ticket, named and valued as flows do. Again it changes nothing.
    pub async fn set_ticket(
        &self,
        lane: Lane,
        id: &str,
        fields: &BTreeMap<String, String>,
    ) -> Result<Acted, ConnectorError> {
        self.connector.set_ticket(&self.cx(lane), id, &self.in_own_words(fields)?).await
    }

    /// Whether a ticket that was read says already what `set_ticket` would set.
    pub fn is_ticket_set(
        &self,
        ticket: &RemoteRecord,
        fields: &BTreeMap<String, String>,
    ) -> Result<bool, ConnectorError> {
        let own = self.in_own_words(fields)?;
        let facts = self.manifest().actions.get(&ActKind::SetTicket);
        Ok(facts.is_some_and(|facts| super::ticket::differing(facts, ticket, &own).is_empty()))
    }

    /// A ticket that says nothing but what `set_ticket` would set, as the vendor would show it.
    pub fn ticket_saying(&self, fields: &BTreeMap<String, String>) -> Result<Value, ConnectorError> {
        let own = self.in_own_words(fields)?;
        let facts = self.manifest().actions.get(&ActKind::SetTicket);
        Ok(facts.map(|facts| super::ticket::saying(facts, &own)).unwrap_or_default())
    }

    /// The values of a ticket's fields as the vendor calls them.
    fn in_own_words(&self, fields: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ConnectorError> {
        let known = self.manifest().actions.get(&ActKind::SetTicket).map(|facts| &facts.fields);
        let mut own = BTreeMap::new();
        for (name, word) in fields {
            let value = known.and_then(|known| known.get(name)).and_then(|field| field.value(word));
            let value = value.ok_or_else(|| {
                ConnectorError::unsupported(format!("{}: `{name}` cannot be set to `{word}`", self.name))
            })?;
            own.insert(name.clone(), value.to_owned());
        }
        Ok(own)
    }

    /// Whether webhooks can be taken: the connector knows some, and there is a secret to verify them with.
    pub fn takes_hooks(&self) -> bool {
        self.hooks.as_ref().is_some_and(|hooks| hooks.configured())
    }

    /// Verifies a webhook over its raw bytes and reads which records it says have changed. Pure: it does not wait, send
    /// or remember; a delivery that comes twice is read twice. `now` is what its time of signing is compared with.
    pub fn hook(&self, delivery: &Delivery<'_>, now: Millis) -> Result<Intake, HookRefusal> {
        let Some(hooks) = &self.hooks else {
            let message = format!("the connector {} takes no webhooks", self.manifest().name);
            return Err(HookRefusal::new(RefusalKind::Unsupported, message));
        };
        hooks.take(delivery, now, &self.http.redactor)
    }

    /// How its webhooks are subscribed to; what to do instead where the vendor's API does not offer it.
    pub fn subscribes(&self) -> Result<&SubscriptionFacts, ConnectorError> {
        subscription::facts(self.manifest())
    }

    /// The secrets of which one has to be set before a subscription is of any use; none where one is, or where the vendor
    /// makes the secret with the subscription.
    pub fn secret_before_subscribing(&self) -> Vec<&str> {
        let made_there = self.subscribes().is_ok_and(|facts| facts.secret.is_some());
        let ways =
            self.manifest().hooks.iter().flat_map(|facts| &facts.verify).filter(|_| !made_there && !self.takes_hooks());
        ways.flat_map(|way| &way.secrets).map(String::as_str).collect()
    }

    /// The vendor's topics about those streams that can be subscribed to.
    pub fn hook_topics(&self, streams: &BTreeSet<String>) -> BTreeSet<String> {
        let topics = self.manifest().hooks.iter().flat_map(|facts| &facts.topics);
        let topics = topics.filter(|(name, facts)| streams.contains(&facts.stream) && !self.connector.by_rule(name));
        topics.map(|(name, _)| name.clone()).collect()
    }

    /// The subscriptions whose address is `base` or below it: our own. Addresses stay here, as some end in a secret.
    pub async fn subscriptions(&self, lane: Lane, base: &str) -> Result<Vec<Subscription>, ConnectorError> {
        let current = subscription::plain(&self.hook_address(base)?);
        let secret = self.hooks.as_ref().and_then(|hooks| hooks.secret_in_path());
        let with_secret = secret.map(|secret| ending_in(base, secret)).transpose()?.map(|it| subscription::plain(&it));
        let base = subscription::plain(base);
        let mut own = Vec::new();
        // Nobody's secret is asked for unless there is one to compare it with.
        let made_there = self.subscribes().is_ok_and(|facts| facts.secret.is_some());
        let asks = made_there && self.hooks.as_ref().is_some_and(|hooks| hooks.signing_secret().is_some());
        for mut listed in self.connector.subscriptions(&self.cx(lane)).await? {
            let address = subscription::plain(&listed.address);
            if !address.strip_prefix(&base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                continue;
            }
            // A right secret at the end is enough, also where deliveries are signed.
            let by_path = with_secret.as_ref() == Some(&address);
            if asks && !by_path && listed.secret.is_none() {
                listed.secret = self.connector.subscription_secret(&self.cx(lane), &listed.id).await?;
            }
            let verifiable = by_path || self.hooks.as_ref().is_some_and(|hooks| hooks.verifies(&listed));
            let at_address = by_path || address == current;
            let by_rule = listed.topics.iter().any(|topic| self.connector.by_rule(topic));
            let subscription::Listed { id, topics, state, active, .. } = listed;
            own.push(Subscription { id, topics, state, active, at_address, verifiable, by_rule });
        }
        Ok(own)
    }

    /// Makes a subscription of `topics`, or changes the one with `id` so that it delivers them. A failure after which it
    /// may be there is [`OutcomeUnknown`](super::error::ErrorKind::OutcomeUnknown).
    pub async fn subscribe(
        &self,
        lane: Lane,
        base: &str,
        id: Option<&str>,
        topics: &[String],
    ) -> Result<(), ConnectorError> {
        let address = self.hook_address(base)?;
        let secret = self.hooks.as_ref().and_then(|hooks| hooks.signing_secret());
        self.connector.subscribe(&self.cx(lane), Subscribe { id, address: &address, topics, secret }).await
    }

    /// Deletes a subscription.
    pub async fn unsubscribe(&self, lane: Lane, id: &str) -> Result<(), ConnectorError> {
        self.connector.unsubscribe(&self.cx(lane), id).await
    }

    /// Which secret verifies signatures, and where it comes from: for a person.
    pub fn hook_secret_help(&self) -> String {
        let facts = self.manifest();
        let ways = facts.hooks.iter().flat_map(|hooks| &hooks.verify).filter(|way| way.kind.signs());
        let told = ways.flat_map(|way| &way.secrets).filter_map(|name| Some((name, facts.settings.get(name)?)));
        told.map(|(name, setting)| format!("set `{name}`: {}", setting.help)).collect::<Vec<_>>().join("; or ")
    }

    /// The address that vendors are given, without the secret that may stand at its end.
    pub fn shown_hook_address(&self, base: &str) -> String {
        let secret = self.hooks.as_ref().and_then(|hooks| hooks.path_secret());
        format!("{base}{}", if secret.is_some() { "/…" } else { "" })
    }

    /// `base`, with the secret at its end where deliveries are verified by that.
    fn hook_address(&self, base: &str) -> Result<String, ConnectorError> {
        match self.hooks.as_ref().and_then(|hooks| hooks.path_secret()) {
            Some(secret) => ending_in(base, secret),
            None => Ok(base.to_owned()),
        }
    }

    fn cx(&self, lane: Lane) -> Cx {
        Cx { http: self.http.clone(), settings: self.settings.clone(), lane, clock: self.clock.clone() }
    }
}

fn ending_in(base: &str, secret: &SecretString) -> Result<String, ConnectorError> {
    Ok(format!("{base}/{}", rest::segment(secret.expose_secret())?))
}

/// The manifest of the spec's connector: the operator's own before the shipped one.
pub(crate) fn find_manifest(spec: &ConnectionSpec) -> Result<Arc<Manifest>, Vec<String>> {
    let told = |problems: Vec<ManifestProblem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    // The name becomes part of a path.
    if !is_name(&spec.connector) {
        return Err(vec![format!("`{}` is no connector name: use letters, digits, - and _", spec.connector)]);
    }
    let places = spec.manifest_dirs.iter().flat_map(|folder| {
        [folder.join(&spec.connector).join("connector.toml"), folder.join(format!("{}.toml", spec.connector))]
    });
    if let Some(path) = places.into_iter().find(|path| path.is_file()) {
        let file = path.display().to_string();
        let source = std::fs::read_to_string(&path).map_err(|error| vec![format!("{file}: {error}")])?;
        let manifest = Manifest::parse(&source, &file).map_err(told)?;
        if manifest.name != spec.connector {
            return Err(vec![format!("{file} is called `{}`, not `{}`", manifest.name, spec.connector)]);
        }
        return Ok(Arc::new(manifest));
    }
    let shipped = crate::shipped_manifest(&spec.connector).ok_or_else(|| {
        vec![format!(
            "there is no connector `{}`; shipped are {}; your own stand in the connectors folder",
            spec.connector,
            crate::registry().join(", ")
        )]
    })?;
    shipped.map_err(told)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// The base address, refused when credentials would travel in clear.
fn base_url(settings: &Settings) -> Result<Url, String> {
    let text = settings.text("base_url");
    let url = Url::parse(&text).map_err(|why| format!("`base_url` is not an address ({why})"))?;
    let local = match url.host() {
        Some(url::Host::Domain(host)) => host == "localhost" || host.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !local && !settings.is_on("allow_http") {
        return Err(
            "`base_url` is plain http: anyone on the way could read the credentials. Use https, or set allow_http = \
                    true if the network in between is yours"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Address and a hash of the credentials. The path belongs to the address: several systems can stand behind one host and
/// take the same credentials. Connections to one host with the same `budget_account` share one whatever their paths.
fn account(http: &Http) -> String {
    let host = http.base.host_str().unwrap_or_default();
    let port = http.base.port().map(|port| format!(":{port}")).unwrap_or_default();
    let chosen = http.settings.text("budget_account");
    if !chosen.is_empty() {
        return format!("{host}{port}/{chosen}");
    }
    let path = http.base.path().trim_end_matches('/');
    format!("{host}{port}{path}/{}", http.auth.fingerprint())
}
