//! One fake system: its people, its limits, its settings.

use std::collections::BTreeMap;

use http::Response;
use serde_json::{Value, json};

use crate::answer::{self, Query, with_header};
use crate::chats::{Author, Chats};
use crate::faults::{Dice, Fate, FaultAnswer};
use crate::hooks::{HookDelivery, Hooks};
use crate::limit::{Limiter, Window};
use crate::orders::{NewOrder, NewShipment, Order, Orders};
use crate::people::{self, NewPerson, Person};
use crate::tickets::{NewTicket, Tickets};
use crate::{Millis, TOKEN, chatway, chatwoot, crm, hubspot, medusa, rt, shopify, woocommerce, zendesk};

/// Which vendor a fake plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    /// Chatway's Public API.
    Chatway,
    /// Chatwoot's Application API.
    Chatwoot,
    /// HubSpot's CRM API v3.
    Hubspot,
    /// WooCommerce's REST API v3.
    Woocommerce,
    /// Medusa's Admin API, version 2.
    Medusa,
    /// A plain in-house CRM.
    Crm,
    /// Zendesk's Ticketing API.
    Zendesk,
    /// Request Tracker 5 with REST 2.
    Rt,
    /// Shopify's GraphQL Admin API.
    Shopify,
}

impl Vendor {
    /// All of them, with the names they have on the command line.
    pub const ALL: [(&'static str, Vendor); 9] = [
        ("chatway", Vendor::Chatway),
        ("chatwoot", Vendor::Chatwoot),
        ("hubspot", Vendor::Hubspot),
        ("woocommerce", Vendor::Woocommerce),
        ("medusa", Vendor::Medusa),
        ("crm", Vendor::Crm),
        ("zendesk", Vendor::Zendesk),
        ("rt", Vendor::Rt),
        ("shopify", Vendor::Shopify),
    ];

    /// The vendor of that name.
    pub fn named(name: &str) -> Option<Vendor> {
        Vendor::ALL.iter().find(|(known, _)| *known == name).map(|(_, vendor)| *vendor)
    }

    /// What somebody who connects to the fake at `base` (its address with the instance) has to set: the connector's name,
    /// settings, and secrets.
    #[expect(clippy::type_complexity, reason = "three plain lists read better than a type for each")]
    pub fn connection(self, base: &str) -> (&'static str, Vec<(&'static str, Value)>, Vec<(&'static str, String)>) {
        let at = |path: &str| json!(format!("{base}{path}"));
        let secret = || TOKEN.to_owned();
        match self {
            Vendor::Chatway => ("chatway", vec![("base_url", at("/api/v1"))], vec![("api_key", secret())]),
            Vendor::Chatwoot => {
                ("chatwoot", vec![("base_url", at("")), ("account_id", json!(1))], vec![("api_access_token", secret())])
            }
            Vendor::Hubspot => ("hubspot", vec![("base_url", at(""))], vec![("access_token", secret())]),
            Vendor::Woocommerce => (
                "woocommerce",
                vec![("base_url", at(""))],
                vec![("consumer_key", secret()), ("consumer_secret", secret())],
            ),
            Vendor::Medusa => ("medusa", vec![("base_url", at(""))], vec![("api_key", secret())]),
            Vendor::Crm => ("crm", vec![("base_url", at(""))], vec![("token", secret())]),
            Vendor::Zendesk => (
                "zendesk",
                vec![("base_url", at("/api/v2")), ("email", json!("sync@example.test"))],
                vec![("api_token", secret())],
            ),
            Vendor::Rt => ("rt", vec![("base_url", at("/REST/2.0"))], vec![("token", secret())]),
            Vendor::Shopify => ("shopify", vec![("base_url", at(""))], vec![("access_token", secret())]),
        }
    }
}

/// What a fake is made of.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// The first segment of its paths.
    pub name: String,
    /// Whom it plays.
    pub vendor: Vendor,
    /// What is different from the vendor's usual ways: `rate`, `rate_window_ms`, `page_size`, `latency_ms`,
    /// `search_lag_ms`, `search_cap`, `duplicate_contact`, `order`, `send_retry_after`, `virtual_people`, `webhook_secret`,
    /// `webhook_topics`, and what the module of the vendor names.
    pub settings: BTreeMap<String, String>,
}

pub(crate) struct Instance {
    pub spec: InstanceSpec,
    pub people: BTreeMap<u64, Person>,
    /// Ids that were merged away, and into whom.
    pub merged: BTreeMap<u64, u64>,
    pub chats: Chats,
    pub shop: Orders,
    pub desk: Tickets,
    pub points: shopify::Bucket,
    pub hooks: Hooks,
    pub calls: u64,
    next_id: u64,
    limiters: Vec<(&'static str, Limiter)>,
}

impl Instance {
    pub fn new(spec: InstanceSpec) -> Instance {
        let vendor = spec.vendor;
        let first_id = match vendor {
            Vendor::Chatway => 55_001,
            Vendor::Hubspot => 100_001,
            Vendor::Zendesk => 20_014_192,
            Vendor::Shopify => 207_119_551,
            _ => 1,
        };
        let mut instance = Instance {
            spec,
            people: BTreeMap::new(),
            merged: BTreeMap::new(),
            chats: match vendor {
                Vendor::Chatway => Chats::new(90_001, 7_700_001),
                _ => Chats::new(1, 9001),
            },
            shop: match vendor {
                Vendor::Medusa => Orders::from(1),
                Vendor::Shopify => Orders::starting(450_789_469, 1001),
                _ => Orders::default(),
            },
            desk: Tickets::default(),
            points: shopify::Bucket::default(),
            hooks: Hooks::default(),
            calls: 0,
            next_id: first_id,
            limiters: Vec::new(),
        };
        instance.next_id += instance.virtual_people();
        instance.limiters = instance.usual_limits();
        instance.first_hooks();
        instance
    }

    fn usual_limits(&self) -> Vec<(&'static str, Limiter)> {
        let rate = |usual: u64| self.number("rate").unwrap_or(usual) as usize;
        let per = |usual: u64| self.number("rate_window_ms").unwrap_or(usual) as Millis;
        match self.spec.vendor {
            Vendor::Chatway => vec![("all", Limiter::new(rate(15), per(60_000), Window::Sliding))],
            Vendor::Chatwoot => vec![("all", Limiter::new(rate(3000), per(60_000), Window::Fixed))],
            Vendor::Hubspot => vec![
                ("all", Limiter::new(rate(100), per(10_000), Window::Sliding)),
                ("search", Limiter::new(5, 1000, Window::Sliding)),
            ],
            Vendor::Zendesk => vec![
                ("all", Limiter::new(rate(700), per(60_000), Window::Sliding)),
                ("export", Limiter::new(10, 60_000, Window::Sliding)),
                ("update", Limiter::new(100, 60_000, Window::Sliding)),
            ],
            Vendor::Shopify => Vec::new(),
            Vendor::Woocommerce | Vendor::Medusa | Vendor::Crm | Vendor::Rt if self.number("rate").is_none() => {
                Vec::new()
            }
            Vendor::Woocommerce | Vendor::Medusa | Vendor::Crm | Vendor::Rt => {
                vec![("all", Limiter::new(rate(0), per(60_000), Window::Sliding))]
            }
        }
    }

    pub fn setting(&self, name: &str) -> Option<&str> {
        self.spec.settings.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.setting(name).and_then(|value| value.parse().ok())
    }

    pub fn latency_ms(&self) -> u64 {
        self.number("latency_ms").unwrap_or(0)
    }

    /// People that exist without being stored: they are generated from their number.
    pub fn virtual_people(&self) -> u64 {
        self.number("virtual_people").unwrap_or(0)
    }

    pub fn page_size(&self, usual: u64) -> u64 {
        self.number("page_size").unwrap_or(usual)
    }

    // ---- people ----------------------------------------------------------------------------------------------------

    pub fn people(&self) -> Vec<Person> {
        self.people.values().filter(|person| !person.deleted).cloned().collect()
    }

    pub fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// A person's id as the vendor writes it.
    fn written(&self, id: u64) -> String {
        match self.spec.vendor {
            Vendor::Medusa => medusa::customer_id(id),
            _ => id.to_string(),
        }
    }

    /// The number behind an id that the vendor wrote.
    fn number_of(&self, id: &str) -> Option<u64> {
        match self.spec.vendor {
            Vendor::Medusa => medusa::number(id),
            _ => id.parse().ok(),
        }
    }

    /// Whether the vendor keeps given and family name apart.
    pub fn splits_names(&self) -> bool {
        !matches!(self.spec.vendor, Vendor::Chatway | Vendor::Chatwoot | Vendor::Zendesk | Vendor::Rt)
    }

    /// Stores somebody as this vendor would, and tells of it.
    pub fn add(&mut self, now: Millis, new: &NewPerson) -> String {
        let id = self.admit(now, new);
        self.person_changed(id, "created", None);
        self.written(id)
    }

    /// Stores somebody as this vendor would.
    pub fn admit(&mut self, now: Millis, new: &NewPerson) -> u64 {
        let id = self.take_id();
        let mut person = as_person(id, now, new);
        if !self.splits_names() {
            (person.given, person.family) = (String::new(), String::new());
        }
        person.id = self.written(id);
        if self.spec.vendor == Vendor::Medusa {
            // Addresses are records of their own.
            (person.city, person.country, person.postcode) = (None, None, None);
        }
        if matches!(self.spec.vendor, Vendor::Chatway) {
            (person.company, person.city, person.country, person.postcode) = (None, None, None, None);
        }
        if self.spec.vendor == Vendor::Hubspot {
            person.custom.clear();
            person.country = person.country.map(|code| hubspot::country_name(&code));
        }
        self.people.insert(id, person);
        id
    }

    /// Tells the webhooks of somebody.
    fn person_changed(&mut self, id: u64, event: &str, before: Option<&Person>) {
        match self.spec.vendor {
            Vendor::Woocommerce => woocommerce::happened(self, "customer", id, event),
            Vendor::Medusa => medusa::happened(self, &format!("customer.{event}"), id),
            Vendor::Chatwoot => chatwoot::hooks::contact_changed(self, id, event, before),
            Vendor::Shopify => shopify::person_changed(self, id, event),
            _ => {}
        }
    }

    pub fn edit(&mut self, now: Millis, id: &str, field: &str, value: Option<&str>) {
        let splits = self.splits_names();
        let Some(id) = self.number_of(id) else { return };
        let before = self.person(id);
        let Some(person) = self.people.get_mut(&id) else { return };
        match field {
            "given" | "family" if !splits => {
                let (given, family) = person.full_name.rsplit_once(' ').unwrap_or((&person.full_name, ""));
                let value = value.unwrap_or_default();
                person.full_name = match field {
                    "given" => Person::joined(value, family),
                    _ => Person::joined(given, value),
                };
            }
            field => person.set(field, value),
        }
        person.updated_at = now;
        self.person_changed(id, "updated", before.as_ref());
    }

    pub fn delete(&mut self, now: Millis, id: &str) {
        let Some(id) = self.number_of(id) else { return };
        if self.spec.vendor == Vendor::Hubspot {
            if let Some(person) = self.people.get_mut(&id) {
                person.deleted = true;
                person.updated_at = now;
            }
        } else {
            self.people.remove(&id);
            match self.spec.vendor {
                // Conversations go with their contact.
                Vendor::Chatwoot => self.chats.forget(id),
                _ => self.chats.hand_over(id, None),
            }
            self.person_changed(id, "deleted", None);
        }
    }

    pub fn merge(&mut self, now: Millis, keep: &str, gone: &str) {
        let (Some(keep), Some(gone)) = (self.number_of(keep), self.number_of(gone)) else { return };
        if keep == gone {
            return;
        }
        let Some(lost) = self.people.remove(&gone) else { return };
        let before = self.person(keep);
        if let Some(person) = self.people.get_mut(&keep) {
            let blank = |mine: &mut Option<String>, theirs: Option<String>| *mine = mine.take().or(theirs);
            blank(&mut person.email, lost.email);
            blank(&mut person.phone, lost.phone);
            blank(&mut person.company, lost.company);
            blank(&mut person.external_id, lost.external_id);
            person.updated_at = now;
        }
        self.merged.insert(gone, keep);
        self.chats.hand_over(gone, Some(keep));
        self.person_changed(keep, "updated", before.as_ref());
    }

    /// Somebody by id, a generated one included.
    pub fn person(&self, id: u64) -> Option<Person> {
        match self.people.get(&id) {
            Some(person) => Some(person.clone()),
            None if id >= 1 && id <= self.virtual_people() => Some(as_person(id, 0, &people::generated(id))),
            None => None,
        }
    }

    /// Who else has this e-mail address, in any letter case.
    pub fn holder_of(&self, email: &str, except: Option<u64>) -> Option<u64> {
        let email = email.to_lowercase();
        let mut people = self.people.iter().filter(|(id, person)| Some(**id) != except && !person.deleted);
        people.find(|(_, p)| p.email.as_deref().is_some_and(|known| known.to_lowercase() == email)).map(|(id, _)| *id)
    }

    /// Applies a write, with whatever goes wrong on the way. Returns the person as the answer shows them.
    pub fn store(
        &mut self,
        now: Millis,
        id: Option<u64>,
        changes: Vec<(String, Option<String>)>,
        fate: &Fate,
    ) -> Person {
        let event = if id.is_some() { "updated" } else { "created" };
        let id = id.unwrap_or_else(|| self.take_id());
        let mut sent =
            self.person(id).unwrap_or_else(|| Person { id: self.written(id), created_at: now, ..Person::default() });
        let before = sent.clone();
        let mut kept = sent.clone();
        let dropped = fate.drop_field.map(|roll| (roll % changes.len().max(1) as u64) as usize);
        for (index, (field, value)) in changes.iter().enumerate() {
            sent.set(field, value.as_deref());
            if dropped == Some(index) && field != "email" {
                continue;
            }
            let rewritten = match value {
                Some(text) if fate.rewrite && field == "company" => Some(text.to_lowercase()),
                value => value.clone(),
            };
            kept.set(field, rewritten.as_deref());
        }
        (sent.updated_at, kept.updated_at) = (now, now);
        self.people.insert(id, kept.clone());
        self.person_changed(id, event, Some(&before));
        if fate.drop_field.is_some() && fate.answer_lies { sent } else { kept }
    }

    // ---- chats -----------------------------------------------------------------------------------------------------

    /// A customer begins a conversation. Nothing where the vendor has none.
    pub fn open_chat(&mut self, now: Millis, person: &str, first: Option<&str>) -> String {
        let Ok(person) = person.parse::<u64>() else { return String::new() };
        let id = match self.spec.vendor {
            Vendor::Chatway => self.chats.open(now, person).id,
            Vendor::Chatwoot => chatwoot::conversations::open(self, now, person),
            _ => return String::new(),
        };
        let id = id.to_string();
        if let Some(text) = first {
            self.say(now, &id, Author::Customer, text);
        }
        id
    }

    /// Somebody writes into a conversation, without the API.
    pub fn say(&mut self, now: Millis, chat: &str, author: Author, text: &str) -> String {
        let Ok(chat) = chat.parse::<u64>() else { return String::new() };
        let said = match self.spec.vendor {
            Vendor::Chatway => chatway::say(self, now, chat, author, text),
            Vendor::Chatwoot => chatwoot::conversations::say(self, now, chat, author, text),
            _ => None,
        };
        said.map(|id| id.to_string()).unwrap_or_default()
    }

    /// Somebody of the staff closes or opens a conversation.
    pub fn resolve_chat(&mut self, now: Millis, chat: &str, resolved: bool) {
        let Ok(chat) = chat.parse::<u64>() else { return };
        let status = if resolved { "resolved" } else { "open" };
        match self.spec.vendor {
            Vendor::Chatway => chatway::set_status(self, now, chat, status),
            Vendor::Chatwoot => chatwoot::conversations::set_status(self, now, chat, status),
            _ => {}
        }
    }

    // ---- orders ----------------------------------------------------------------------------------------------------

    /// A customer buys. Nothing where the vendor has no orders.
    pub fn place_order(&mut self, now: Millis, order: &NewOrder) -> String {
        if self.spec.vendor == Vendor::Medusa {
            return medusa::place(self, now, order);
        }
        if !matches!(self.spec.vendor, Vendor::Woocommerce | Vendor::Shopify) {
            return String::new();
        }
        let id = self.shop.place(now, order);
        if self.spec.vendor == Vendor::Shopify {
            shopify::placed(self, id);
        } else {
            woocommerce::placed(self, id);
        }
        id.to_string()
    }

    /// All orders, by id.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders = self.shop.list();
        if self.spec.vendor == Vendor::Medusa {
            orders.iter_mut().for_each(medusa::as_written);
        }
        orders
    }

    /// Somebody of the shop gives a part of the money back.
    pub fn refund_order(&mut self, now: Millis, id: &str, amount: &str) {
        match self.spec.vendor {
            Vendor::Medusa => medusa::refund(self, now, id, amount),
            Vendor::Shopify => shopify::refund(self, now, id, amount),
            _ => woocommerce::refund(self, now, id, amount),
        }
    }

    /// A parcel leaves. Nothing where the vendor has no parcels.
    pub fn ship_order(&mut self, now: Millis, id: &str, parcel: &NewShipment) -> String {
        let shipped = match self.spec.vendor {
            Vendor::Medusa => medusa::ship(self, now, id, parcel),
            Vendor::Shopify => shopify::ship(self, now, id, parcel),
            Vendor::Woocommerce => woocommerce::ship(self, now, id, parcel),
            _ => None,
        };
        shipped.unwrap_or_default()
    }

    /// Sets how far a parcel is.
    pub fn set_shipment(&mut self, now: Millis, order: &str, parcel: &str, state: &str) {
        match self.spec.vendor {
            Vendor::Medusa => medusa::set_shipment(self, now, order, parcel, state),
            Vendor::Shopify => shopify::set_shipment(self, now, order, parcel, state),
            _ => woocommerce::set_shipment(self, now, order, parcel, state),
        }
    }

    /// Somebody of the shop sets an order's status.
    pub fn set_order(&mut self, now: Millis, id: &str, status: &str) {
        if self.spec.vendor == Vendor::Medusa {
            return medusa::set_status(self, now, id, status);
        }
        let Ok(id) = id.parse::<u64>() else { return };
        match self.spec.vendor {
            Vendor::Shopify => shopify::set_status(self, now, id, status),
            _ => woocommerce::set_status(self, now, id, status),
        }
    }

    // ---- tickets ---------------------------------------------------------------------------------------------------

    /// A customer opens a ticket. Nothing where the vendor has none.
    pub fn open_ticket(&mut self, now: Millis, ticket: &NewTicket) -> String {
        match self.spec.vendor {
            Vendor::Zendesk => zendesk::open(self, now, ticket).to_string(),
            Vendor::Rt => rt::open(self, now, ticket).to_string(),
            _ => String::new(),
        }
    }

    /// Somebody of the staff sets a ticket's status.
    pub fn set_ticket(&mut self, now: Millis, id: &str, status: &str) {
        let Ok(id) = id.parse::<u64>() else { return };
        match self.spec.vendor {
            Vendor::Zendesk => zendesk::set_status(self, now, id, status),
            Vendor::Rt => rt::set_status(self, now, id, status),
            _ => {}
        }
    }

    // ---- webhooks --------------------------------------------------------------------------------------------------

    /// What the settings say is registered from the beginning; its greeting was sent before the beginning.
    fn first_hooks(&mut self) {
        let listed = self.setting("webhook_topics").map(str::to_owned);
        let secret = self.setting("webhook_secret").map(str::to_owned);
        if listed.is_none() && secret.is_none() {
            return;
        }
        let topics: Vec<String> = listed
            .unwrap_or_default()
            .split(',')
            .map(|topic| topic.trim().to_owned())
            .filter(|topic| !topic.is_empty())
            .collect();
        let secret = secret.unwrap_or_default();
        match self.spec.vendor {
            Vendor::Woocommerce => woocommerce::first_hooks(self, topics, &secret),
            Vendor::Medusa => medusa::first_hooks(self, topics, &secret),
            Vendor::Chatwoot => chatwoot::hooks::first_hooks(self, topics, &secret),
            Vendor::Zendesk => zendesk::hooks::first_hooks(self, topics, &secret),
            Vendor::Shopify => shopify::first_hooks(self, topics, &secret),
            _ => {}
        }
    }

    /// Everything that waits to be told, told now.
    pub fn take_hooks(&mut self, now: Millis) -> Vec<HookDelivery> {
        let pending = std::mem::take(&mut self.hooks.pending);
        let deliver = |pending| match self.spec.vendor {
            Vendor::Woocommerce => woocommerce::deliver(self, now, &pending),
            Vendor::Medusa => medusa::deliver(self, now, &pending),
            Vendor::Chatwoot => chatwoot::hooks::deliver(self, now, &pending),
            Vendor::Zendesk => zendesk::hooks::deliver(self, now, &pending),
            Vendor::Shopify => shopify::deliver(self, now, &pending),
            _ => None,
        };
        pending.into_iter().filter_map(deliver).collect()
    }

    /// What the receiver answered to a delivery.
    pub fn hook_answered(&mut self, delivery: &HookDelivery, status: u16) {
        match self.spec.vendor {
            Vendor::Woocommerce => woocommerce::answered(self, delivery, status),
            Vendor::Shopify => shopify::answered(self, delivery, status),
            _ => {}
        }
    }

    // ---- answering -------------------------------------------------------------------------------------------------

    pub fn answer(
        &mut self,
        now: Millis,
        request: &http::Request<Vec<u8>>,
        path: &str,
        query: &Query,
        fate: &mut Fate,
    ) -> Response<Vec<u8>> {
        let response = match self.spec.vendor {
            Vendor::Chatway => chatway::answer(self, now, request, path, query, fate),
            Vendor::Chatwoot => chatwoot::answer(self, now, request, path, query, fate),
            Vendor::Hubspot => hubspot::answer(self, now, request, path, query, fate),
            Vendor::Woocommerce => woocommerce::answer(self, now, request, path, query, fate),
            Vendor::Medusa => medusa::answer(self, now, request, path, query, fate),
            Vendor::Crm => crm::answer(self, now, request, path, query, fate),
            Vendor::Zendesk => zendesk::answer(self, now, request, path, query, fate),
            Vendor::Rt => rt::answer(self, now, request, path, query, fate),
            Vendor::Shopify => shopify::answer(self, now, request, path, fate),
        };
        let response = self.rate_headers(now, path, response);
        with_header(response, "date", &crate::time::http_date(now))
    }

    fn rate_headers(&self, now: Millis, path: &str, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        let Some((_, limiter)) = self.limiters.first() else { return response };
        let (limit, left) = (limiter.requests.to_string(), limiter.remaining().to_string());
        match self.spec.vendor {
            Vendor::Chatway if self.setting("send_x_ratelimit") != Some("false") => {
                with_header(with_header(response, "x-ratelimit-limit", &limit), "x-ratelimit-remaining", &left)
            }
            Vendor::Hubspot if !path.ends_with("/search") => {
                let response = with_header(response, "x-hubspot-ratelimit-max", &limit);
                let response = with_header(response, "x-hubspot-ratelimit-interval-milliseconds", "10000");
                with_header(response, "x-hubspot-ratelimit-remaining", &left)
            }
            Vendor::Zendesk => {
                let response = with_header(response, "x-rate-limit", &limit);
                let response = with_header(response, "x-rate-limit-remaining", &left);
                let response = with_header(response, "ratelimit-limit", &limit);
                let response = with_header(response, "ratelimit-remaining", &left);
                with_header(response, "ratelimit-reset", &(60 - now.div_euclid(1000).rem_euclid(60)).to_string())
            }
            _ => response,
        }
    }

    /// Counts a call; the refusal when it is one too many.
    pub fn limit(&mut self, now: Millis, method: &http::Method, path: &str) -> Option<Response<Vec<u8>>> {
        let mut wait_until = None;
        for (class, limiter) in &mut self.limiters {
            let counts = match *class {
                "search" => path.ends_with("/search"),
                "export" => path.contains("/incremental/"),
                "update" => method == http::Method::PUT && path.contains("/tickets/"),
                _ => true,
            };
            if counts {
                wait_until = wait_until.max(limiter.admit(now).err());
            }
        }
        wait_until.map(|until| self.too_many(Some((until - now + 999) / 1000)))
    }

    fn too_many(&self, retry_after_s: Option<Millis>) -> Response<Vec<u8>> {
        match self.spec.vendor {
            Vendor::Chatway => {
                let response = answer::json(429, &json!({ "message": "Too Many Attempts." }));
                match retry_after_s.filter(|_| self.setting("send_retry_after") != Some("false")) {
                    Some(seconds) => with_header(response, "retry-after", &seconds.to_string()),
                    None => response,
                }
            }
            // A whole query's worth is missing.
            Vendor::Shopify => shopify::throttled(self, 300, 0),
            Vendor::Chatwoot => answer::raw(429, "text/plain", b"Retry later\n".to_vec()),
            Vendor::Hubspot => answer::json(
                429,
                &json!({
                    "status": "error", "message": "You have reached your ten_secondly_rolling limit.",
                    "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING",
                    "correlationId": "00000000-0000-4000-8000-000000000000",
                }),
            ),
            Vendor::Zendesk => {
                let description = "Number of allowed API requests per minute exceeded";
                let body = json!({ "error": "APIRateLimitExceeded", "description": description });
                match retry_after_s {
                    Some(seconds) => with_header(answer::json(429, &body), "retry-after", &seconds.to_string()),
                    None => answer::json(429, &body),
                }
            }
            Vendor::Woocommerce | Vendor::Medusa | Vendor::Crm | Vendor::Rt => {
                let response = answer::json(429, &json!({ "error": "too many requests" }));
                match retry_after_s {
                    Some(seconds) => with_header(response, "retry-after", &seconds.to_string()),
                    None => response,
                }
            }
        }
    }

    pub fn fault_answer(&self, kind: FaultAnswer) -> Response<Vec<u8>> {
        match kind {
            FaultAnswer::TooMany { retry_after } => self.too_many(retry_after.then_some(3)),
            FaultAnswer::ServerError(status) => answer::json(status, &json!({ "message": "Server Error" })),
            FaultAnswer::Html => {
                let page = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>Back soon</body></html>";
                answer::raw(200, "text/html", page.to_vec())
            }
        }
    }

    /// Lets a row jump to the front of a list that is about to be cut into pages, as a touched row does.
    pub fn shift(&self, ids: &mut [u64], fate: &Fate) {
        if let Some(roll) = fate.shift
            && !ids.is_empty()
        {
            let at = (Dice(roll).roll() % ids.len() as u64) as usize;
            ids[..=at].rotate_right(1);
        }
    }
}

fn as_person(id: u64, now: Millis, new: &NewPerson) -> Person {
    Person {
        id: id.to_string(),
        given: new.given.clone(),
        family: new.family.clone(),
        full_name: Person::joined(&new.given, &new.family),
        email: new.email.clone(),
        phone: new.phone.clone(),
        company: new.company.clone(),
        city: new.city.clone(),
        country: new.country.clone(),
        postcode: new.postcode.clone(),
        tags: new.tags.clone(),
        custom: new.custom.clone(),
        more: BTreeMap::new(),
        external_id: new.external_id.clone(),
        created_at: now,
        updated_at: now,
        deleted: false,
    }
}

/// A JSON value as a fake stores it: texts as they are, numbers written out, null and nothing as nothing.
pub(crate) fn stored(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
