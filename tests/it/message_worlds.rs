//! L5, one effect, and L8, the same end after any death: generated worlds in which orders are placed, webhooks come twice,
//! late, in any order or never, messages and new tickets are cut off before and after they took effect, people have no chat and
//! what they should read falls back to the team, and the program dies anywhere.
//! `COUNTERPART_MESSAGE_WORLDS` says how many (500 without it) or which (`20000..40000`), `COUNTERPART_MESSAGE_SEED` replays one.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterpart::config::{Fallback, FlowConfig};
use counterpart::engine::Pass;
use counterpart::store::{Message, MessageState, NewHook};
use counterpart_connectors::{ActKind, Clock, Connection, ConnectionSpec, Delivery, Millis, OpenGate};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, ChatMessage, HookDelivery, Ticket, Vendor};
use secrecy::SecretString;

use crate::flows::{flow, order};
use crate::flows_acts::write_text;
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE, someone};
use crate::sim::{Death, Dice, InProcess};
use crate::worlds::{each, seeds};

const SECRET: &str = "hook-secret";
const FAULTS: [&str; 5] = [
    "none",
    "cut_after=0.4",
    "cut_before=0.3,cut_after=0.3",
    "error_after=0.4,5xx=0.1",
    "cut_before=0.15,cut_after=0.15,error_after=0.15,5xx=0.1,429=0.1,slow=0.1,html=0.03",
];

/// One world and everything that is going to be asked of it.
struct Night {
    dice: Dice,
    lab: Lab,
    shop: Connection,
    orders: Vec<String>,
    chats: Vec<String>,
    people: u64,
    /// Deliveries on their way.
    under_way: Vec<HookDelivery>,
}

/// Runs one world; a violation names the law.
pub async fn run(seed: u64) -> Result<(), String> {
    lived(seed).await.map(drop)
}

async fn lived(seed: u64) -> Result<Night, String> {
    let mut night = Night::new(seed).await;
    for _ in 0..12 + night.dice.below(20) {
        night.step().await;
    }
    night.calm().await;
    let checked = night.check().await;
    checked.map_err(|what| format!("seed {seed}: {what}\n  replay with COUNTERPART_MESSAGE_SEED={seed}"))?;
    Ok(night)
}

impl Night {
    async fn new(seed: u64) -> Night {
        let mut dice = Dice::new(seed);
        let vendor = if dice.below(2) == 0 { Vendor::Chatway } else { Vendor::Chatwoot };
        let desk = if dice.below(2) == 0 { Vendor::Zendesk } else { Vendor::Rt };
        let systems = [("chat", vendor), ("desk", desk), ("shop", Vendor::Woocommerce)];
        let topics = "order.created,order.updated";
        let settings = [("shop", "webhook_secret", SECRET), ("shop", "webhook_topics", topics)];
        let mut lab = Lab::with_fakes(&systems, &settings).await;
        lab.config.flows = flows();
        if desk == Vendor::Rt {
            lab.set("desk", "queue", serde_json::json!("General"));
        }
        write_text(&mut lab, "cancelled", "order.cancelled", "Order {{ order.number }} was cancelled");
        let mut people = 1 + dice.below(3);
        let mut chats = Vec::new();
        for number in 0..people {
            let person = lab.add("chat", &someone("Ana", &format!("Lind{number}"), &address(number)));
            chats.push(lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?")));
        }
        if vendor == Vendor::Chatwoot && dice.below(2) == 0 {
            // Somebody who never wrote: a conversation is begun.
            lab.set("chat", "inbox_id", serde_json::json!("1"));
            lab.add("chat", &someone("Ana", "Silent", &address(people)));
            people += 1;
        } else if dice.below(2) == 0 {
            // Somebody whom nobody can reach: the team gets to know what they should.
            fall_back(&mut lab);
            people += 1;
        }
        // History, of which nobody is ever told.
        for _ in 0..dice.below(3) {
            let status = *dice.pick(&["pending", "processing", "completed"]);
            lab.sandbox.place_order(lab.clock.now() - DAY, "shop", &order(&address(dice.below(people)), status));
        }
        lab.run().await;
        lab.work().await;
        lab.sandbox.take_hooks();
        lab.clock.advance(HOUR);
        let faults = *dice.pick(&FAULTS);
        lab.faults(faults);
        let shop = receiver(&lab);
        Night { dice, lab, shop, orders: Vec::new(), chats, people, under_way: Vec::new() }
    }

    async fn step(&mut self) {
        match self.dice.below(10) {
            0 | 1 => {
                let email = address(self.dice.below(self.people));
                let status = *self.dice.pick(&["pending", "processing", "on-hold"]);
                self.orders.push(self.lab.sandbox.place_order(self.lab.clock.now(), "shop", &order(&email, status)));
            }
            2 | 3 if !self.orders.is_empty() => {
                let at = self.dice.below(self.orders.len() as u64) as usize;
                let status = *self.dice.pick(&["pending", "processing", "completed", "cancelled", "processing"]);
                self.lab.sandbox.set_order(self.lab.clock.now(), "shop", &self.orders[at], status);
            }
            4 => {
                let chat = self.dice.pick(&self.chats).clone();
                self.lab.sandbox.say(self.lab.clock.now(), "chat", &chat, Author::Customer, "And my order?");
            }
            5 | 6 => self.deliver_hooks().await,
            _ => self.work().await,
        }
        let wait = *self.dice.pick(&[0, 1_000, 30 * 1_000, MINUTE, 10 * MINUTE]);
        self.lab.clock.advance(wait);
    }

    /// Some of what is under way arrives, up to five times, in any order; some of it is lost.
    async fn deliver_hooks(&mut self) {
        self.under_way.extend(self.lab.sandbox.take_hooks());
        let mut arriving = Vec::new();
        for delivery in std::mem::take(&mut self.under_way) {
            match self.dice.below(6) {
                0 => {}
                1 => self.under_way.push(delivery),
                times => arriving.extend(std::iter::repeat_n(delivery, times as usize - 1)),
            }
        }
        for at in (1..arriving.len()).rev() {
            arriving.swap(at, self.dice.below(at as u64 + 1) as usize);
        }
        let now = self.lab.clock.now();
        let hooks: Vec<NewHook> = arriving.iter().filter_map(|delivery| self.verified(delivery, now)).collect();
        self.lab.store.receive(&hooks, now).await.expect("the store takes it");
    }

    fn verified(&self, delivery: &HookDelivery, now: Millis) -> Option<NewHook> {
        let mut headers = http::HeaderMap::new();
        for (name, value) in &delivery.headers {
            let name: http::HeaderName = name.parse().expect("a header");
            headers.insert(name, value.parse().expect("a value"));
        }
        let url = "https://counterpart.example/hooks/shop";
        let taken = Delivery { method: "POST", url, headers: &headers, path_secret: None, body: &delivery.body };
        let intake = self.shop.hook(&taken, now).expect("the fake signs as the vendor does");
        let hints = serde_json::to_value(&intake.hints).expect("hints are JSON");
        let body = String::from_utf8_lossy(&delivery.body).into_owned();
        (!intake.hints.is_empty()).then(|| NewHook { connection: "shop".to_owned(), hints, body })
    }

    /// A pass of the worker, which may die at any call.
    async fn work(&mut self) {
        let death = (self.dice.below(3) == 0)
            .then(|| Death { at_call: self.dice.below(12), after_effect: self.dice.below(2) == 0 });
        let read = self.dice.below(2) == 0;
        let transport = InProcess::new(self.lab.sandbox.clone(), self.lab.clock.clone(), death);
        let engine = self.lab.engine(transport.clone());
        let work = async {
            let worker = engine.worker().await.expect("nobody else works");
            if read {
                worker.read().await.expect("it reads");
            }
            worker.pass().await.expect("it works");
            worker.close().await.expect("it ends");
        };
        tokio::select! {
            biased;
            () = transport.died.notified() => {}
            () = work => {}
        }
        // A dead process's lease ends at once where its host knows that it is dead.
        if let Some((holder, _)) = self.lab.store.lease_holder("messages").await.expect("the store answers") {
            self.lab.store.release_lease("messages", &holder).await.expect("the store answers");
        }
    }

    /// Nothing goes wrong any more, and everything that waits gets its time.
    async fn calm(&mut self) {
        self.lab.faults("none");
        for round in 0..30 {
            self.lab.clock.advance(5 * MINUTE);
            if self.lab.work().await != Pass::default() || round <= 2 {
                continue;
            }
            // What could not be looked up for hours is asked for rarely, and what left nothing is tried later each time.
            let tried = [MessageState::Unknown, MessageState::Pending];
            let waits = self.lab.intents().await.into_iter().filter(|intent| tried.contains(&intent.state));
            let Some(asked_at) = waits.map(|intent| intent.until).min() else { break };
            self.lab.clock.advance((asked_at - self.lab.clock.now()).max(0));
        }
    }

    async fn check(&self) -> Result<(), String> {
        let intents = self.lab.intents().await;
        let said = self.lab.sandbox.chat_messages("chat");
        let ours: Vec<&ChatMessage> = said.iter().filter(|message| message.author != Author::Customer).collect();
        let tickets = self.lab.sandbox.tickets("desk");
        let (mut explained, mut opened) = (0, 0);
        for intent in &intents {
            match intent.action {
                ActKind::OpenTicket => opened += one_ticket(intent, &tickets)?,
                _ => explained += one_effect(intent, &ours)?,
            }
        }
        if opened != tickets.len() {
            return Err(format!("L5: {} tickets and {opened} intents behind them: {tickets:#?}", tickets.len()));
        }
        if explained != ours.len() {
            return Err(format!("L5: {} messages and {explained} intents behind them: {ours:#?}", ours.len()));
        }
        self.nothing_is_lost(&intents)?;
        if self.lab.store.count_hooks(counterpart::store::HookState::Pending).await.expect("a count") > 0 {
            return Err("L8: webhooks are still waiting".to_owned());
        }
        Ok(())
    }

    /// Every milestone that an order stands at now has its intent.
    fn nothing_is_lost(&self, intents: &[Message]) -> Result<(), String> {
        let by_key: BTreeMap<&str, &Message> = intents.iter().map(|intent| (intent.key.as_str(), intent)).collect();
        for order in self.lab.sandbox.orders("shop").iter().filter(|order| self.orders.contains(&order.id)) {
            let kinds: &[EventKind] = match order.status.as_str() {
                "processing" => &[EventKind::OrderCreated, EventKind::OrderPaid],
                "completed" => &[EventKind::OrderCreated, EventKind::OrderPaid, EventKind::OrderCompleted],
                "cancelled" => &[EventKind::OrderCreated, EventKind::OrderCancelled],
                _ => &[EventKind::OrderCreated],
            };
            let sends = kinds.iter().map(|kind| (kind, ActKind::Send));
            let ticket = kinds.iter().filter(|kind| **kind == EventKind::OrderCancelled);
            for (kind, act) in sends.chain(ticket.map(|kind| (kind, ActKind::OpenTicket))) {
                let key = format!("{kind} {}|shop/order/{}|{kind}|", act.word(), order.id);
                let intent = by_key.get(key.as_str()).ok_or_else(|| format!("L5: {key} is lost"))?;
                // What is surely not there after the last attempt waits for a person.
                let given_up = intent.reason.as_deref() == Some("not there after several attempts");
                let ended = matches!(intent.state, MessageState::Sent | MessageState::Dropped) || given_up;
                if !ended || (intent.state == MessageState::Dropped && intent.reason.is_none()) {
                    return Err(format!("L5: {key} ended as {:?} ({:?})", intent.state, intent.reason));
                }
            }
        }
        Ok(())
    }
}

/// How many tickets at the desk an intent explains; an error where there are two, or none.
fn one_ticket(intent: &Message, tickets: &[Ticket]) -> Result<usize, String> {
    let text = intent.text.as_deref().unwrap_or_default();
    // Where the desk has no place of its own for our mark, the subject ends with it.
    let marked = format!("{text} [{}]", intent.mark);
    let seen = tickets.iter().filter(|ticket| ticket.subject == text || ticket.subject == marked).count();
    judged(intent, seen)
}

/// How many messages at the vendor an intent explains; an error where the customer saw it twice, or not at all.
fn one_effect(intent: &Message, ours: &[&ChatMessage]) -> Result<usize, String> {
    let seen = ours.iter().filter(|message| Some(message.text.as_str()) == intent.text.as_deref()).count();
    judged(intent, seen)
}

fn judged(intent: &Message, seen: usize) -> Result<usize, String> {
    let good = match intent.state {
        MessageState::Sent => seen == 1,
        MessageState::Unknown => seen <= 1,
        _ => seen == 0,
    };
    let what = format!("L5: {} is {:?} ({:?}) and was seen {seen} times", intent.key, intent.state, intent.reason);
    if good { Ok(seen) } else { Err(what) }
}

/// Everything without a way becomes a note in a conversation of the team.
fn fall_back(lab: &mut Lab) {
    let team = lab.add("chat", &someone("The", "Team", "team@example.test"));
    let room = lab.sandbox.open_chat(lab.clock.now(), "chat", &team, Some("Watch this"));
    let other = Fallback { act: ActKind::Note, to: "chat".to_owned(), conversation: Some(room), after_ms: 10 * MINUTE };
    for flow in lab.config.flows.iter_mut().filter(|flow| flow.act == ActKind::Send) {
        flow.fallback = Some(other.clone());
    }
}

fn flows() -> Vec<FlowConfig> {
    let ticket = flow(EventKind::OrderCancelled, ActKind::OpenTicket, Some("cancelled"));
    let ticket = FlowConfig { to: "desk".to_owned(), ..ticket };
    let sends = [
        (EventKind::OrderCreated, "order-confirmation"),
        (EventKind::OrderPaid, "payment-received"),
        (EventKind::OrderCompleted, "order-refunded"),
        (EventKind::OrderCancelled, "order-cancelled"),
    ]
    .into_iter()
    .map(|(kind, template)| {
        let mut flow = flow(kind, ActKind::Send, Some(template));
        flow.gate.max_age = counterpart_core::gate::Period::from_ms(30 * DAY).expect("a length of time");
        flow
    });
    std::iter::once(ticket).chain(sends).collect()
}

fn address(number: u64) -> String {
    format!("ana{number}@example.test")
}

/// What receives the shop's webhooks.
fn receiver(lab: &Lab) -> Connection {
    let config = &lab.config.connections["shop"];
    let mut secrets = config.secrets.clone();
    secrets.insert("webhook_secret".to_owned(), SecretString::from(SECRET));
    let spec = ConnectionSpec {
        name: "shop".to_owned(),
        connector: config.connector.clone(),
        settings: config.settings.clone(),
        secrets,
        manifest_dirs: Vec::new(),
    };
    Connection::open(spec, lab.network(), Arc::new(OpenGate), lab.clock.clone()).expect("the shop opens")
}

#[test]
fn every_customer_is_told_once() {
    each(seeds("COUNTERPART_MESSAGE_SEED", "COUNTERPART_MESSAGE_WORLDS", 500), run);
}

/// The worlds are not too quiet: tickets are opened and looked for, and the team gets what nobody else could.
#[tokio::test]
async fn the_worlds_hold_tickets_and_fallbacks() {
    let (mut opened, mut found, mut fell_back) = (0, 0, 0);
    for seed in 0..30 {
        let night = lived(seed).await.expect("the laws hold");
        for intent in night.lab.intents().await.iter().filter(|intent| intent.state == MessageState::Sent) {
            let is_ticket = intent.action == ActKind::OpenTicket;
            opened += usize::from(is_ticket);
            found += usize::from(is_ticket && intent.reason.is_some());
            fell_back += usize::from(intent.action == ActKind::Note);
        }
    }
    assert!(opened > 10 && found > 2 && fell_back > 5, "{opened} opened, {found} found, {fell_back} fell back");
}

/// Several orders within one second, whose deliveries the shop gives one delivery id: each of them is told of, from the
/// deliveries alone.
pub async fn burst() -> Result<(), String> {
    let mut night = Night::new(2).await;
    night.lab.faults("none");
    let now = night.lab.clock.now();
    for _ in 0..5 {
        night.orders.push(night.lab.sandbox.place_order(now, "shop", &order(&address(0), "on-hold")));
    }
    let deliveries = night.lab.sandbox.take_hooks();
    let hooks: Vec<NewHook> = deliveries.iter().filter_map(|delivery| night.verified(delivery, now)).collect();
    night.lab.store.receive(&hooks, now).await.expect("the store takes it");
    let engine = night.lab.engine(night.lab.network());
    let worker = engine.worker().await.expect("nobody else works");
    let pass = worker.pass().await.expect("it works");
    worker.close().await.expect("it ends");
    if pass.sent == 5 { Ok(()) } else { Err(format!("L5: {} deliveries, 5 orders, {pass:?}", hooks.len())) }
}

#[tokio::test]
async fn deliveries_that_share_an_id_all_count() {
    burst().await.expect("every order is told of");
}
