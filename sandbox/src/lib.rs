//! Hostile fakes of the vendors: state in memory, faults on demand, a clock one can drive.
//!
//! Every fake follows the vendor's documentation and what real servers were seen to do, never a connector's code; this
//! crate depends on no other crate of the project so that it cannot share a connector's misunderstanding.
//!
//! [`Sandbox::handle`] answers one request at a given time, in process; [`serve`] puts the same behind HTTP. The first
//! segment of a path names the instance: `/chat/contacts` is `/contacts` of the instance called `chat`.

mod answer;
mod chats;
mod chatway;
mod chatwoot;
mod crm;
mod csv;
mod faults;
mod hooks;
mod hubspot;
mod instance;
mod limit;
mod medusa;
mod orders;
mod people;
mod rt;
mod serve;
mod shopify;
#[cfg(test)]
mod testing;
mod tickets;
mod time;
mod woocommerce;
mod zendesk;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use chats::{Author, Chat, ChatMessage};
pub use csv::{CsvError, read_people};
pub use faults::{Faults, FaultsError};
pub use hooks::{HookDelivery, Webhook};
pub use instance::{InstanceSpec, Vendor};
pub use orders::{NewOrder, NewShipment, Order};
pub use people::{NewPerson, Person};
pub use serve::serve;
pub use tickets::{NewTicket, Ticket};

use answer::Query;
use faults::Fate;
use instance::Instance;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Credential that every fake accepts, as API key, token, consumer key and consumer secret.
pub const TOKEN: &str = "sandbox-token";

/// The same, for the in-house CRM.
pub const CRM_TOKEN: &str = TOKEN;

/// What a sandbox is made of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The same seed and calls give the same answers.
    pub seed: u64,
    /// What goes wrong, and how often.
    pub faults: Faults,
    /// The systems there are.
    pub instances: Vec<InstanceSpec>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer {
        /// The answer.
        response: http::Response<Vec<u8>>,
        /// How long it took.
        delay_ms: u64,
    },
    /// The connection was cut without an answer.
    Cut {
        /// Whether the request had taken effect before.
        after_effect: bool,
        /// How long it took.
        delay_ms: u64,
    },
}

/// One request in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// When it arrived.
    pub at: Millis,
    /// At which instance.
    pub instance: String,
    /// Method.
    pub method: String,
    /// Path below the instance, with its query.
    pub path: String,
    /// Status of the answer, also where the answer was cut off.
    pub status: u16,
    /// Whether it changed something, or would have.
    pub effect: bool,
}

#[derive(Default)]
struct World {
    instances: BTreeMap<String, Instance>,
    faults: Faults,
    seed: u64,
    /// The latest time that anything happened at.
    now: Millis,
    log: Vec<CallRecord>,
}

/// All fakes together. Shared freely between threads; every call is atomic.
pub struct Sandbox(Mutex<World>);

impl Sandbox {
    /// Makes the systems, without people.
    pub fn new(options: Options) -> Sandbox {
        let instances = options.instances.into_iter().map(|spec| (spec.name.clone(), Instance::new(spec))).collect();
        Sandbox(Mutex::new(World { instances, faults: options.faults, seed: options.seed, ..World::default() }))
    }

    /// Answers one request that arrives at `now`.
    pub fn handle(&self, now: Millis, request: http::Request<Vec<u8>>) -> Reply {
        self.world().handle(now, &request)
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// Everybody in an instance, by id; deleted ones are left out.
    pub fn people(&self, instance: &str) -> Vec<Person> {
        self.world().instances.get(instance).map(Instance::people).unwrap_or_default()
    }

    /// Somebody new, as if typed in at the vendor. Returns the id.
    pub fn create(&self, now: Millis, instance: &str, person: &NewPerson) -> String {
        self.touch(now, instance, |at| at.add(now, person))
    }

    /// Somebody edits a field at the vendor: `given`, `family`, `full_name`, `email`, `phone`, `company`, `city`,
    /// `country`, `postcode`, `external_id` or `custom.KEY`.
    pub fn edit(&self, now: Millis, instance: &str, id: &str, field: &str, value: Option<&str>) {
        self.touch(now, instance, |at| at.edit(now, id, field, value));
    }

    /// Somebody deletes a person at the vendor.
    pub fn delete(&self, now: Millis, instance: &str, id: &str) {
        self.touch(now, instance, |at| at.delete(now, id));
    }

    /// Somebody merges `gone` into `keep` at the vendor.
    pub fn merge(&self, now: Millis, instance: &str, keep: &str, gone: &str) {
        self.touch(now, instance, |at| at.merge(now, keep, gone));
    }

    /// Puts generated people number `first` to `first + n - 1` into an instance; the same number is the same person
    /// everywhere.
    pub fn seed_people(&self, now: Millis, instance: &str, n: usize, first: usize) {
        self.touch(now, instance, |at| {
            for number in first..first + n {
                at.add(now + (number - first) as Millis, &people::generated(number as u64));
            }
        });
    }

    /// All conversations of an instance, by id.
    pub fn chats(&self, instance: &str) -> Vec<Chat> {
        self.world().instances.get(instance).map(|at| at.chats.list()).unwrap_or_default()
    }

    /// All messages of an instance, by id: what customers and staff see.
    pub fn chat_messages(&self, instance: &str) -> Vec<ChatMessage> {
        self.world().instances.get(instance).map(|at| at.chats.messages()).unwrap_or_default()
    }

    /// A customer begins a conversation, with a first message or without. Returns its id; empty where the vendor has no
    /// conversations.
    pub fn open_chat(&self, now: Millis, instance: &str, person: &str, first: Option<&str>) -> String {
        self.touch(now, instance, |at| at.open_chat(now, person, first))
    }

    /// Somebody writes a public message, not through the API. Returns its id; empty when there is no such conversation.
    pub fn say(&self, now: Millis, instance: &str, chat: &str, author: Author, text: &str) -> String {
        self.touch(now, instance, |at| at.say(now, chat, author, text))
    }

    /// Somebody of the staff resolves a conversation or opens it again.
    pub fn resolve_chat(&self, now: Millis, instance: &str, chat: &str, resolved: bool) {
        self.touch(now, instance, |at| at.resolve_chat(now, chat, resolved));
    }

    /// Somebody of the staff deletes a conversation. Neither vendor tells of it.
    pub fn delete_chat(&self, now: Millis, instance: &str, chat: &str) {
        self.touch(now, instance, |at| at.chats.delete(chat.parse().unwrap_or_default()));
    }

    /// A customer places an order, at the shop itself. Returns its id; empty where the vendor has no orders.
    pub fn place_order(&self, now: Millis, instance: &str, order: &NewOrder) -> String {
        self.touch(now, instance, |at| at.place_order(now, order))
    }

    /// Somebody of the shop sets an order's status, in the vendor's words; `trash` throws it away (WooCommerce).
    pub fn set_order(&self, now: Millis, instance: &str, id: &str, status: &str) {
        self.touch(now, instance, |at| at.set_order(now, id, status));
    }

    /// Somebody of the shop gives a part of an order's money back, as decimal text.
    pub fn refund_order(&self, now: Millis, instance: &str, id: &str, amount: &str) {
        self.touch(now, instance, |at| at.refund_order(now, id, amount));
    }

    /// A parcel of an order leaves. Returns its id; empty where the vendor has no parcels.
    pub fn ship_order(&self, now: Millis, instance: &str, id: &str, parcel: &NewShipment) -> String {
        self.touch(now, instance, |at| at.ship_order(now, id, parcel))
    }

    /// Sets how far a parcel is: `shipped`, `delivered`, `cancelled`; `number=…` gives it another tracking number.
    pub fn set_shipment(&self, now: Millis, instance: &str, order: &str, parcel: &str, state: &str) {
        self.touch(now, instance, |at| at.set_shipment(now, order, parcel, state));
    }

    /// All orders of an instance, by id; those in the trash too.
    pub fn orders(&self, instance: &str) -> Vec<Order> {
        self.world().instances.get(instance).map(Instance::orders).unwrap_or_default()
    }

    /// A customer opens a ticket, not through the API. Returns its id; empty where the vendor has no tickets.
    pub fn open_ticket(&self, now: Millis, instance: &str, ticket: &NewTicket) -> String {
        self.touch(now, instance, |at| at.open_ticket(now, ticket))
    }

    /// Somebody of the staff sets a ticket's status, in the vendor's words; `deleted` deletes.
    pub fn set_ticket(&self, now: Millis, instance: &str, id: &str, status: &str) {
        self.touch(now, instance, |at| at.set_ticket(now, id, status));
    }

    /// All tickets of an instance, by id; deleted ones too.
    pub fn tickets(&self, instance: &str) -> Vec<Ticket> {
        self.world().instances.get(instance).map(|at| at.desk.list()).unwrap_or_default()
    }

    /// The webhook deliveries that are due since the last call, as the instances would send them at the latest time that
    /// anything happened at. Whoever drives the sandbox posts them, or loses, doubles and reorders them.
    pub fn take_hooks(&self) -> Vec<HookDelivery> {
        let mut world = self.world();
        let now = world.now;
        world.instances.values_mut().flat_map(|at| at.take_hooks(now)).collect()
    }

    /// The webhooks that are registered at an instance, by number.
    pub fn webhooks(&self, instance: &str) -> Vec<Webhook> {
        self.world().instances.get(instance).map(|at| at.hooks.list()).unwrap_or_default()
    }

    /// Somebody of the staff registers a webhook of their own, in the vendor's words.
    pub fn add_webhook(&self, now: Millis, instance: &str, url: &str, topics: &[&str]) {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.touch(now, instance, |at| {
            match at.spec.vendor {
                Vendor::Chatwoot => chatwoot::hooks::register(at, now, "by hand", url, topics),
                Vendor::Zendesk => zendesk::hooks::register(at, now, "by hand", url, topics),
                _ => at.hooks.register(now, "by hand", url, topics, ""),
            };
        });
    }

    /// Somebody of the staff switches a webhook off or on, in the vendor's words.
    pub fn switch_webhook(&self, now: Millis, instance: &str, id: u64, status: &str) {
        self.touch(now, instance, |at| {
            if let Some(hook) = at.hooks.registered.get_mut(&id) {
                status.clone_into(&mut hook.status);
            }
        });
    }

    /// Somebody of the staff deletes a webhook.
    pub fn delete_webhook(&self, now: Millis, instance: &str, id: u64) {
        self.touch(now, instance, |at| {
            at.hooks.registered.remove(&id);
        });
    }

    /// What the receiver of a delivery answered, 0 for nothing: vendors give up on a webhook that fails too often. Need not
    /// be called.
    pub fn hook_answered(&self, delivery: &HookDelivery, status: u16) {
        if let Some(at) = self.world().instances.get_mut(&delivery.instance) {
            at.hook_answered(delivery, status);
        }
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<CallRecord> {
        self.world().log.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.world().log.clear();
    }

    /// Something happens at an instance; nothing does where there is no such instance.
    fn touch<R: Default>(&self, now: Millis, instance: &str, act: impl FnOnce(&mut Instance) -> R) -> R {
        let mut world = self.world();
        world.now = world.now.max(now);
        world.instances.get_mut(instance).map(act).unwrap_or_default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn handle(&mut self, now: Millis, request: &http::Request<Vec<u8>>) -> Reply {
        self.now = self.now.max(now);
        let path = request.uri().path().trim_start_matches('/');
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        let Some(instance) = self.instances.get_mut(name) else {
            let response = answer::json(404, &serde_json::json!({ "error": format!("no instance `{name}` here") }));
            return Reply::Answer { response, delay_ms: 0 };
        };
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let write = match instance.spec.vendor {
            Vendor::Shopify => shopify::writes(request),
            _ => is_write(request.method(), rest),
        };
        instance.calls += 1;
        let mut fate = Fate::cast(&self.faults, self.seed, name, instance.calls, write);
        let limited = instance.limit(now, request.method(), rest);
        let (response, effect) = match (limited, fate.instead_of_effect.take()) {
            (Some(refusal), _) => (refusal, false),
            (None, Some(kind)) => (instance.fault_answer(kind), false),
            (None, None) => {
                let response = instance.answer(now, request, rest, &query, &mut fate);
                let effect = write && response.status().is_success() && !fate.no_effect;
                (response, effect)
            }
        };
        let path = match request.uri().query() {
            Some(query) => format!("/{rest}?{query}"),
            None => format!("/{rest}"),
        };
        let status = response.status().as_u16();
        self.log.push(CallRecord {
            at: now,
            instance: name.to_owned(),
            method: request.method().to_string(),
            path,
            status,
            effect,
        });
        let delay_ms = instance.latency_ms() + fate.slow_ms;
        if fate.cut {
            return Reply::Cut { after_effect: effect, delay_ms };
        }
        let response = match fate.instead_of_answer {
            Some(kind) => instance.fault_answer(kind),
            None => response,
        };
        Reply::Answer { response, delay_ms }
    }
}

/// Whether a request means to change something: searches are posted too.
fn is_write(method: &http::Method, path: &str) -> bool {
    let searches = path.ends_with("/search")
        || path.ends_with("/filter")
        || path.ends_with("batch/read")
        || path == "REST/2.0/tickets";
    *method != http::Method::GET && !searches
}
