//! What a manifest must obey beyond its types.

use std::collections::BTreeMap;

use super::act::{ActFacts, ActKind};
use super::hook::facts::{
    HookFacts, Per, Places, SignedPart, SubscribeFacts, SubscriptionFacts, TopicFacts, VerifyFacts, VerifyKind,
};
use super::manifest::{
    ActionFacts, AuthFacts, AuthKind, ListFacts, Manifest, Number, PageKind, SettingFacts, SettingType, StreamFacts,
};
use super::problems::duration_ms;
use super::settings::{self, KIT_SETTINGS, Piece};

/// Names the application gives to every connection, and placeholders with a meaning of their own.
const RESERVED: [&str; 28] = [
    "connector",
    "mapping",
    "region",
    "deep_pages",
    "write_check",
    "trust_clock",
    "read_only",
    "settle",
    "hooks",
    "id",
    "value",
    "since",
    "since_seconds",
    "since_ms",
    "page",
    "parent",
    "conversation",
    "text",
    "mark",
    "url",
    "topic",
    "topics",
    "secret",
    "subject",
    "requester",
    "requester_name",
    "field",
    "ticket",
];
const SINCE: [&str; 3] = ["since", "since_seconds", "since_ms"];
const ORDERS: [&str; 3] = ["newest_first", "oldest_first", "unknown"];
/// Streams a topic may name although the connector does not read them (yet).
const KINDS: [&str; 7] = ["contact", "conversation", "message", "order", "shipment", "ticket", "agent"];
const KEYS: [&str; 3] = ["email", "phone", "external"];

/// One thing wrong, at a path of keys.
pub(crate) struct Found {
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Everything wrong with `manifest`.
pub(crate) fn problems(manifest: &Manifest) -> Vec<Found> {
    let mut check = Check { manifest, found: Vec::new() };
    check.head();
    check.auth();
    check.settings();
    check.limits();
    check.errors();
    for (name, facts) in &manifest.streams {
        check.stream(&["streams", name], facts);
    }
    for (kind, facts) in &manifest.actions {
        check.act(*kind, facts);
    }
    if let Some(facts) = &manifest.hooks {
        check.hooks(facts);
    }
    check.found
}

struct Check<'a> {
    manifest: &'a Manifest,
    found: Vec<Found>,
}

impl Check<'_> {
    fn say(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let path = path.iter().map(|step| (*step).to_owned()).collect();
        self.found.push(Found { path, message: message.into(), help: help.into() });
    }

    fn head(&mut self) {
        if self.manifest.format != 1 {
            self.say(&["format"], format!("format {} is not known", self.manifest.format), "write format = 1");
        }
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if self.manifest.name.is_empty() || !self.manifest.name.chars().all(good) {
            self.say(&["name"], "a name has small letters, digits, - and _ only", "");
        }
        if self.manifest.streams.is_empty() {
            self.say(&["streams"], "there is no stream", "describe at least [streams.contact]");
        }
    }

    fn auth(&mut self) {
        if self.manifest.auth.is_empty() {
            self.say(&["auth"], "there is no way to authenticate", "add [[auth]]");
        }
        for (at, auth) in self.manifest.auth.iter().enumerate() {
            let at = at.to_string();
            if let Some(message) = auth_shape(auth) {
                self.say(&["auth", &at], message, "");
            }
            if self.manifest.auth.iter().filter(|other| other.kind == auth.kind).count() > 1 {
                self.say(
                    &["auth", &at, "kind"],
                    "this kind stands here twice; the setting `auth` could not tell them apart",
                    "",
                );
            }
            for name in &auth.secrets {
                self.secret(&["auth", &at, "secrets"], name);
            }
            for name in &auth.names {
                match auth.kind {
                    // Neither a scheme nor a header has anything but such characters.
                    AuthKind::Header | AuthKind::Bearer => self.header(&["auth", &at, "names"], name),
                    AuthKind::Basic => self.placeholders(&["auth", &at, "names"], name, &[]),
                    AuthKind::Query => {}
                }
            }
        }
    }

    fn secret(&mut self, path: &[&str], name: &str) {
        if !self.manifest.settings.get(name).is_some_and(|facts| facts.secret) {
            let help = format!("add [settings.{name}] with secret = true");
            self.say(path, format!("`{name}` is not a secret setting"), help);
        }
    }

    fn header(&mut self, path: &[&str], name: &str) {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            self.say(path, format!("`{name}` is not a header name"), "");
        }
    }

    fn settings(&mut self) {
        for (name, r#type) in [("base_url", SettingType::Url), ("page_size", SettingType::Integer)] {
            if self.manifest.settings.get(name).is_none_or(|facts| facts.r#type != r#type) {
                let word = format!("{type:?}").to_lowercase();
                self.say(
                    &["settings", name],
                    format!("the setting `{name}` of type {word} is missing"),
                    "every connector needs it",
                );
            }
        }
        for (name, facts) in &self.manifest.settings {
            let path = ["settings", name.as_str()];
            let snake = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if name.is_empty() || !snake {
                self.say(&path, format!("`{name}` is no setting name"), "use small letters, digits and _");
            }
            if KIT_SETTINGS.contains(&name.as_str()) || RESERVED.contains(&name.as_str()) {
                self.say(&path, format!("`{name}` has a meaning of its own"), "choose another name");
            }
            if let Some(message) = setting_shape(name, facts) {
                self.say(&path, message, "");
            }
        }
    }

    fn limits(&mut self) {
        for (at, line) in self.manifest.budgets.iter().enumerate() {
            let at = at.to_string();
            self.number(&["budgets", &at, "requests"], &line.requests);
            if duration_ms(&line.per).is_none() {
                self.say(
                    &["budgets", &at, "per"],
                    format!("`{}` is no length of time", line.per),
                    "write 60s, 1m, 2h or 1d",
                );
            }
        }
        let names = &self.manifest.rate_headers;
        for (key, name) in [("limit", &names.limit), ("remaining", &names.remaining), ("reset", &names.reset)] {
            if let Some(name) = name {
                self.header(&["rate_headers", key], name);
            }
        }
    }

    fn errors(&mut self) {
        for (at, facts) in self.manifest.errors.iter().enumerate() {
            let at = at.to_string();
            let at = at.as_str();
            self.number(&["errors", at, "status"], &facts.status);
            if matches!(facts.status, Number::Fixed(status) if !(300..=599).contains(&status)) {
                self.say(&["errors", at, "status"], "an error has a status from 300 to 599", "");
            }
            for (key, place) in [("pointer", &facts.pointer), ("holder", &facts.holder)] {
                if let Some(place) = place {
                    self.pointer(&["errors", at, key], place);
                }
            }
            if let Some(help) = &facts.help {
                self.placeholders(&["errors", at, "help"], help, &[]);
            }
        }
    }

    fn stream(&mut self, path: &[&str; 2], facts: &StreamFacts) {
        let at = |key: &'static str| [path[0], path[1], key];
        self.pointer(&at("id"), &facts.id);
        self.pointer(&at("body"), &facts.body);
        for place in &facts.record {
            self.pointer(&at("record"), place);
        }
        if let Some(place) = &facts.updated_at {
            self.pointer(&at("updated_at"), place);
        }
        if let Some(get) = &facts.get {
            self.call(&at("get"), get, &["id"], true);
        }
        if let Some(parent) = facts.parent.as_ref().filter(|parent| !self.manifest.streams.contains_key(*parent)) {
            self.say(&at("parent"), format!("there is no stream `{parent}`"), "describe it as a stream of its own");
        }
        let parent: &[&str] = if facts.parent.is_some() { &["parent"] } else { &[] };
        self.list(path, &facts.list, parent);
        for (kind, find) in &facts.find {
            let path = [path[0], path[1], "find", kind.as_str()];
            if !KEYS.contains(&kind.as_str()) {
                self.say(&path, format!("`{kind}` is no kind of key"), "use email, phone or external");
            }
            self.params(&path, &find.params, &["value"]);
            self.pointer(&path, &find.pointer);
            if let Some(lag) = find.lag.as_ref().filter(|lag| duration_ms(lag).is_none()) {
                let at = [path[0], path[1], path[2], path[3], "lag"];
                self.say(&at, format!("`{lag}` is no length of time"), "write 30s or 10m");
            }
        }
        for (key, action, with_id) in
            [("create", &facts.create, false), ("update", &facts.update, true), ("delete", &facts.delete, true)]
        {
            if let Some(action) = action {
                self.action(&[path[0], path[1], key], action, with_id);
            }
        }
    }

    fn list(&mut self, path: &[&str; 2], list: &ListFacts, parent: &[&str]) {
        let at = |key: &'static str| [path[0], path[1], "list", key];
        self.call(&at("call"), &list.call, parent, false);
        self.params(&at("params"), &list.params, &[]);
        self.params(&at("head"), &list.head, &[]);
        self.params(&at("since"), &list.since, &SINCE);
        self.pointer(&at("records"), &list.records);
        if let Some(place) = &list.total {
            self.place(&at("total"), place);
        }
        let (needs_send, needs_read) = match list.page.kind {
            PageKind::Page | PageKind::Offset => (true, false),
            PageKind::Cursor | PageKind::Keyset => (true, true),
            PageKind::NextUrl => (false, true),
            PageKind::Link => (false, false),
        };
        for (needed, key, value) in [(needs_send, "send", &list.page.send), (needs_read, "read", &list.page.read)] {
            if needed && value.is_none() {
                self.say(&at("page"), format!("this kind of paging needs `{key}`"), "");
            }
        }
        if let Some(place) = &list.page.read {
            self.place(&at("page"), place);
        }
        let choice =
            |name: &str| self.manifest.settings.get(name).is_some_and(|facts| facts.r#type == SettingType::Choice);
        let named = list.order.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).is_some_and(choice);
        if !named && !ORDERS.contains(&list.order.as_str()) {
            self.say(
                &at("order"),
                format!("`{}` is no order", list.order),
                format!("use {} or a choice setting", ORDERS.join(", ")),
            );
        }
    }

    fn action(&mut self, path: &[&str; 3], action: &ActionFacts, with_id: bool) {
        let ids: &[&str] = if with_id { &["id"] } else { &[] };
        self.call(&[path[0], path[1], path[2], "call"], &action.call, ids, with_id);
        let wrap = [path[0], path[1], path[2], "wrap"];
        self.placeholders(&wrap, &action.wrap, &[]);
        if !action.wrap.starts_with('{') {
            self.pointer(&wrap, &action.wrap);
        }
    }

    fn act(&mut self, kind: ActKind, facts: &ActFacts) {
        let path = &["actions", kind.word()];
        let (call, body): (&[&str], &[&str]) = match kind {
            ActKind::OpenTicket => {
                (&[], &["subject", "text", "mark", "requester", "requester_name", "conversation", "field"])
            }
            ActKind::SetTicket => (&["ticket"], &[]),
            _ => (&["conversation"], &["conversation", "text", "mark"]),
        };
        self.call(&[path[0], path[1], "call"], &facts.call, call, false);
        if let Some(place) = &facts.answer_id {
            self.pointer(&[path[0], path[1], "answer_id"], place);
        }
        self.body(&[path[0], path[1], "body"], &serde_json::Value::Object(facts.body.clone()), body);
        if kind != ActKind::SetTicket && !facts.fields.is_empty() {
            self.say(&[path[0], path[1], "fields"], "`fields` belong to set_ticket", "leave them out");
        }
        match kind {
            ActKind::OpenTicket => self.opens(facts),
            ActKind::SetTicket => self.sets(facts),
            _ => self.speaks(path, facts),
        }
    }

    /// A ticket carries a mark by which it is found again, or nobody would know whether an attempt made it.
    fn opens(&mut self, facts: &ActFacts) {
        let path = ["actions", ActKind::OpenTicket.word(), "body"];
        let body = serde_json::Value::Object(facts.body.clone()).to_string();
        for (name, what) in [("text", "what the ticket says"), ("mark", "our mark")] {
            if !body.contains(&format!("{{{name}}}")) {
                self.say(&path, format!("{what} is sent nowhere"), format!("put {{{name}}} into the body"));
            }
        }
        if self.manifest.streams.get("ticket").is_none_or(|stream| !stream.find.contains_key("external")) {
            let help = "add [streams.ticket.find] external = { … }";
            self.say(&path[..2], "a ticket cannot be looked for by our mark", help);
        }
    }

    fn sets(&mut self, facts: &ActFacts) {
        let path = ["actions", ActKind::SetTicket.word()];
        if !facts.call.contains("{ticket}") {
            self.say(&path, "the call does not say which ticket", "put {ticket} into the path");
        }
        if facts.fields.is_empty() {
            self.say(&path, "no field can be set", "add [actions.set_ticket.fields.NAME]");
        }
        for (name, field) in &facts.fields {
            let path = ["actions", ActKind::SetTicket.word(), "fields", name, "at"];
            self.pointer(&path, &field.at);
            if field.at.is_empty() {
                self.say(&path, "the whole ticket is no field", "write a pointer such as \"/status\"");
            }
        }
        if self.manifest.streams.get("ticket").is_none_or(|stream| stream.get.is_none()) {
            self.say(&path, "a ticket is read before it is changed", "add `get` to [streams.ticket]");
        }
    }

    fn speaks(&mut self, path: &[&str; 2], facts: &ActFacts) {
        let whole = format!("{} {}", facts.call, serde_json::Value::Object(facts.body.clone()));
        if !whole.contains("{conversation}") {
            self.say(path, "the call does not say which conversation", "put {conversation} into the path or the body");
        }
        if matches!(path[1], "send" | "open" | "note") && !whole.contains("{text}") {
            self.say(path, "the message's text is sent nowhere", "put {text} into the body");
        }
    }

    fn body(&mut self, path: &[&str], value: &serde_json::Value, known: &[&str]) {
        match value {
            serde_json::Value::String(text) => self.placeholders(path, text, known),
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.body(path, item, known)),
            serde_json::Value::Object(members) => members.iter().for_each(|(name, item)| {
                self.placeholders(path, name, known);
                self.body(path, item, known);
            }),
            _ => {}
        }
    }

    fn hooks(&mut self, hooks: &HookFacts) {
        if hooks.verify.is_empty() {
            self.say(&["hooks"], "there is no way to verify a delivery", "add [[hooks.verify]]");
        }
        for (at, verify) in hooks.verify.iter().enumerate() {
            self.verify(&at.to_string(), verify);
        }
        for (key, place) in [("delivery_id", &hooks.delivery_id), ("event_id", &hooks.event_id)] {
            if let Some(place) = place {
                self.place(&["hooks", key], place);
            }
        }
        let places =
            [("topic", hooks.topic.as_ref()), ("id", Some(&hooks.id)), ("occurred_at", hooks.occurred_at.as_ref())];
        for (key, places) in places {
            self.places(&["hooks", key], places);
        }
        if let Some(place) = &hooks.events {
            self.pointer(&["hooks", "events"], place);
        }
        if hooks.ping.as_ref().is_some_and(String::is_empty) {
            self.say(&["hooks", "ping"], "a ping has a field with a name", "leave `ping` out if there are none");
        }
        match (&hooks.topic, hooks.topics.len()) {
            (Some(_), 1..) | (None, 1) => {}
            (Some(_), _) => self.say(&["hooks", "topics"], "there is no topic", "list at least one"),
            (None, _) => self.say(
                &["hooks", "topics"],
                "without `topic` there is exactly one topic",
                "say where a delivery names its topic, or list one",
            ),
        }
        for (name, facts) in &hooks.topics {
            self.topic(name, facts);
        }
        match (&hooks.subscriptions, &hooks.by_hand) {
            (Some(_), Some(_)) => {
                self.say(&["hooks", "by_hand"], "there are [hooks.subscriptions]", "leave one of the two out");
            }
            (Some(facts), None) => self.subscriptions(facts),
            (None, _) => {}
        }
    }

    fn subscriptions(&mut self, facts: &SubscriptionFacts) {
        let at = |key: &'static str| ["hooks", "subscriptions", key];
        self.list(&["hooks", "subscriptions"], &facts.list, &[]);
        let places = [
            ("id", Some(&facts.id)),
            ("address", Some(&facts.address)),
            ("topics", Some(&facts.topics)),
            ("state", facts.state.as_ref()),
            ("secret", facts.secret.as_ref()),
        ];
        for (key, place) in places {
            if let Some(place) = place {
                self.pointer(&at(key), place);
            }
        }
        if facts.state.is_some() != facts.active.is_some() {
            self.say(&at("active"), "`state` and `active` belong together", "write both, or neither");
        }
        self.subscribe("create", &facts.create, facts.per, false);
        if let Some(update) = &facts.update {
            self.subscribe("update", update, facts.per, true);
        }
        self.call(&at("delete"), &facts.delete, &["id"], true);
    }

    fn subscribe(&mut self, key: &'static str, facts: &SubscribeFacts, per: Per, with_id: bool) {
        let ids: &[&str] = if with_id { &["id"] } else { &[] };
        self.call(&["hooks", "subscriptions", key, "call"], &facts.call, ids, with_id);
        let path = ["hooks", "subscriptions", key, "body"];
        let topics = match per {
            Per::Topic => "topic",
            Per::All => "topics",
        };
        let body = serde_json::Value::Object(facts.body.clone());
        self.body(&path, &body, &["url", topics, "secret"]);
        let text = body.to_string();
        // A GraphQL operation stands in code, and its call has no body.
        if with_id || facts.body.is_empty() {
            return;
        }
        for name in ["url", topics] {
            if !text.contains(&format!("{{{name}}}")) {
                self.say(&path, format!("the body does not hold {{{name}}}"), "the vendor must be told");
            }
        }
    }

    fn verify(&mut self, at: &str, verify: &VerifyFacts) {
        let path = |key: &'static str| ["hooks", "verify", at, key];
        if let Some(message) = verify_shape(verify) {
            self.say(&["hooks", "verify", at], message, "");
        }
        for name in &verify.secrets {
            self.secret(&path("secrets"), name);
        }
        for (key, name) in [("header", &verify.header), ("timestamp", &verify.timestamp)] {
            if let Some(name) = name {
                self.header(&path(key), name);
            }
        }
        if duration_ms(&verify.tolerance).is_none() {
            self.say(&path("tolerance"), format!("`{}` is no length of time", verify.tolerance), "write 300s or 5m");
        }
        // What is not signed can be changed on the way, and a time that is not signed can be renewed.
        if !verify.signed.contains(&SignedPart::Body) {
            self.say(&path("signed"), "the body is not signed", "without it a signature proves nothing");
        }
        if verify.signed.contains(&SignedPart::Timestamp) != verify.timestamp.is_some() {
            self.say(
                &path("timestamp"),
                "the time of signing has a header, and is signed",
                "write both `timestamp` and \"timestamp\" in `signed`, or neither",
            );
        }
    }

    fn topic(&mut self, name: &str, facts: &TopicFacts) {
        let path = |key: &'static str| ["hooks", "topics", name, key];
        if !self.manifest.streams.contains_key(&facts.stream) && !KINDS.contains(&facts.stream.as_str()) {
            self.say(&path("stream"), format!("there is no stream `{}`", facts.stream), KINDS.join(", "));
        }
        for (key, place) in [("id", &facts.id), ("parent", &facts.parent)] {
            if let Some(place) = place {
                self.place(&path(key), place);
            }
        }
        if let Some(place) = &facts.changed {
            self.pointer(&path("changed"), place);
        }
    }

    /// `GET /contacts/{id}`.
    fn call(&mut self, path: &[&str], call: &str, extra: &[&str], needs_id: bool) {
        let (method, target) = call.split_once(' ').unwrap_or_default();
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method);
        if !known || !target.starts_with(['/', '{']) {
            self.say(path, format!("`{call}` is no call"), "write a method, a space and a path: \"GET /contacts\"");
        }
        if needs_id && !call.contains("{id}") {
            self.say(path, "the path does not say which record", "put {id} into it");
        }
        self.placeholders(path, call, extra);
    }

    fn params(&mut self, path: &[&str], params: &BTreeMap<String, String>, needed: &[&str]) {
        for (name, value) in params {
            self.placeholders(path, name, &[]);
            self.placeholders(path, value, needed);
        }
        let has = |name: &str| params.values().any(|value| value.contains(&format!("{{{name}}}")));
        if !needed.is_empty() && !params.is_empty() && !needed.iter().any(|name| has(name)) {
            self.say(path, format!("no parameter holds {{{}}}", needed.join("}, {")), "");
        }
    }

    fn placeholders(&mut self, path: &[&str], template: &str, extra: &[&str]) {
        for piece in settings::pieces(template) {
            let Piece::Placeholder(name) = piece else { continue };
            match self.manifest.settings.get(name) {
                Some(facts) if facts.secret => {
                    self.say(path, format!("`{{{name}}}` is a secret"), "secrets travel by [[auth]] only");
                }
                None if !extra.contains(&name) => {
                    let known: Vec<&str> =
                        extra.iter().copied().chain(self.manifest.settings.keys().map(String::as_str)).collect();
                    self.say(
                        path,
                        format!("`{{{name}}}` is not known here"),
                        format!("known are {}", known.join(", ")),
                    );
                }
                _ => {}
            }
        }
    }

    fn number(&mut self, path: &[&str], number: &Number) {
        let Number::Setting(text) = number else { return };
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let integer = |name: &str| self.manifest.settings.get(name).is_some_and(|f| f.r#type == SettingType::Integer);
        if !name.is_some_and(integer) {
            self.say(
                path,
                format!("`{text}` is not a number"),
                "write a number, or the name of an integer setting in braces",
            );
        }
    }

    fn places(&mut self, path: &[&str], places: Option<&Places>) {
        let Some(places) = places else { return };
        if places.iter().next().is_none() {
            self.say(path, "there is no place in the list", "write at least one, or leave it out");
        }
        places.iter().for_each(|place| self.place(path, place));
    }

    /// A pointer or a header name.
    fn place(&mut self, path: &[&str], place: &str) {
        if !place.starts_with('/') {
            self.header(path, place);
        }
    }

    fn pointer(&mut self, path: &[&str], pointer: &str) {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            self.say(path, format!("`{pointer}` is no pointer"), format!("write \"/{}\"", pointer.replace('.', "/")));
        }
    }
}

fn auth_shape(auth: &AuthFacts) -> Option<&'static str> {
    match (auth.kind, auth.names.len(), auth.secrets.len()) {
        (AuthKind::Header, 1.., 1) | (AuthKind::Bearer, 0 | 1, 1) => None,
        (AuthKind::Basic, 0, 1 | 2) | (AuthKind::Basic, 1, 1) => None,
        (AuthKind::Query, names @ 1.., secrets) if names == secrets => None,
        (AuthKind::Header, ..) => Some("`header` needs names and one secret"),
        (AuthKind::Bearer, ..) => Some("`bearer` needs one secret, and at most one name: the word before it"),
        (AuthKind::Basic, ..) => {
            Some("`basic` needs user and password in secrets, or the user in names and the password in secrets")
        }
        (AuthKind::Query, ..) => Some("`query` needs as many names as secrets"),
    }
}

fn verify_shape(verify: &VerifyFacts) -> Option<&'static str> {
    let signs = verify.kind.signs();
    if signs != verify.header.is_some() || signs != verify.encoding.is_some() {
        return Some("a signature needs `header` and `encoding`, and nothing else does");
    }
    if !signs && (!verify.prefix.is_empty() || verify.timestamp.is_some()) {
        return Some("`prefix` and `timestamp` belong to a signature");
    }
    match (verify.kind, verify.secrets.len()) {
        (VerifyKind::Basic, 2) => None,
        (VerifyKind::Basic, _) => Some("`basic` needs user and password in secrets"),
        (_, 0) => Some("`secrets` is empty"),
        _ => None,
    }
}

fn setting_shape(name: &str, facts: &SettingFacts) -> Option<String> {
    if (facts.r#type == SettingType::Choice) == facts.choices.is_empty() {
        return Some("`choices` belong to type choice, and to no other".to_owned());
    }
    if facts.max.is_some() && facts.r#type != SettingType::Integer {
        return Some("`max` belongs to type integer".to_owned());
    }
    match &facts.default {
        Some(_) if facts.secret => Some("a secret has no default".to_owned()),
        Some(default) => settings::check(name, facts, default).err(),
        None => None,
    }
}
