//! L7: the storefront's night. A chat history is read at the vendor's fifteen calls a minute while orders come in, and
//! every customer is told within one token. `COUNTERPART_NIGHT_HOURS` says how long the night is (3 without it; the
//! README's number is for 12, with 200 orders).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::engine::{Engine, Silent};
use counterpart::store::{MessageState, NewHook};
use counterpart_connectors::{ActKind, Clock, Hint, Millis, Transport, TransportError};
use counterpart_core::business::EventKind;
use counterpart_core::{Slot, Value};
use counterpart_sandbox::{Author, Reply, Sandbox, Vendor};
use tokio_util::sync::CancellationToken;

use crate::budget_world::{Task, WorldClock, run};
use crate::flows::{flow, order, shop_and_chat};
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone};
use crate::sim::Dice;

/// One token at fifteen calls a minute.
const TOKEN_MS: Millis = 4_000;

struct Wire {
    sandbox: Arc<Sandbox>,
    clock: Arc<WorldClock>,
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        match self.sandbox.handle(self.clock.now(), request.map(|body| body.to_vec())) {
            Reply::Answer { response, .. } => Ok(response.map(Bytes::from)),
            Reply::Cut { .. } => Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() }),
        }
    }
}

/// An engine in a time of its own, which begins a minute from now.
fn engine(lab: &Lab) -> (Arc<WorldClock>, Engine) {
    let clock = WorldClock::at(lab.clock.now() + MINUTE);
    let wire = Arc::new(Wire { sandbox: lab.sandbox.clone(), clock: clock.clone() });
    let config = Arc::new(lab.config.clone());
    let stop = CancellationToken::new();
    let engine = Engine::new(config, lab.store.clone(), clock.clone(), wire, Arc::new(Silent), stop).expect("sound");
    (clock, engine)
}

/// As many conversations as take the night to read: ten on a page of the list, one call for the messages of each.
async fn full_chat(hours: u64) -> Lab {
    let lab = shop_and_chat(Vendor::Chatway).await;
    let conversations = hours * 15 * 60 * 10 / 11;
    // Twenty people have written again and again.
    let people: Vec<String> =
        (0..20).map(|n| lab.add("chat", &someone("Ana", &format!("Lind{n}"), &address(n)))).collect();
    for number in 0..conversations {
        let person = &people[(number % 20) as usize];
        let chat = lab.sandbox.open_chat(lab.clock.now(), "chat", person, Some("Hello?"));
        lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Agent, "Hello!");
    }
    lab.run().await;
    lab
}

fn address(number: u64) -> String {
    format!("ana{number}@example.test")
}

pub fn hook(connection: &str, stream: &str, id: &str) -> NewHook {
    let hint = Hint {
        stream: stream.to_owned(),
        external_id: id.to_owned(),
        parent: None,
        topic: "changed".to_owned(),
        delivery_id: None,
        event_id: None,
        deleted: false,
        changed: None,
        occurred_at: None,
    };
    NewHook { connection: connection.to_owned(), hints: serde_json::json!([hint]), body: String::new() }
}

#[tokio::test]
async fn r14_orders_are_told_of_within_a_token_while_history_is_read() {
    let hours: u64 = std::env::var("COUNTERPART_NIGHT_HOURS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let orders = hours * 200 / 12;
    let lab = full_chat(hours).await;
    // What the night begins with: the list of conversations.
    lab.work().await;
    let (clock, engine) = engine(&lab);
    let worker = engine.worker().await.expect("nobody else works");
    lab.sandbox.clear_log();
    let dusk = clock.now();
    let mut dice = Dice::new(14);
    let mut times: Vec<Millis> =
        (0..orders).map(|_| dusk + dice.below(hours * HOUR as u64 * 9 / 10) as Millis).collect();
    times.sort_unstable();
    let mut told = Vec::new();
    let backfill = async { while worker.history(20).await.expect("it reads").conversations > 0 {} };
    let storefront = async {
        for &at in &times {
            clock.sleep_until(at).await;
            let id = lab.sandbox.place_order(clock.now(), "shop", &order(&address(dice.below(20)), "on-hold"));
            lab.store.receive(&[hook("shop", "order", &id)], clock.now()).await.expect("on disk");
            worker.pass().await.expect("it works");
            told.push((at, clock.now() - at));
        }
    };
    let dawn = dusk + 100 * HOUR;
    run(&clock, vec![Task::until(dawn, backfill), Task::until(dawn, storefront)]).await;

    let log = lab.sandbox.log();
    assert!(log.iter().all(|call| call.status != 429), "the limit is kept");
    let intents = lab.intents().await;
    assert_eq!(intents.iter().filter(|intent| intent.state == MessageState::Sent).count() as u64, orders);
    let worst = told.iter().map(|(_, waited)| *waited).max().unwrap_or(0);
    let mean = told.iter().map(|(_, waited)| *waited).sum::<Millis>() / told.len().max(1) as Millis;
    let history = lab.store.history("chat").await.expect("a count");
    assert_eq!(history.covered, history.conversations);
    assert!(history.messages >= history.conversations * 2, "{history:?}");
    let at_chat = log.iter().filter(|call| call.instance == "chat").count() as u64;
    let lost = at_chat - orders - history.conversations;
    println!(
        "{hours} h, {} conversations, {orders} orders: told after {mean} ms on average, {worst} ms at most; \
         {at_chat} calls, {lost} more than messages and conversations; the night lasted {} min",
        history.conversations,
        (clock.now() - dusk) / MINUTE
    );
    assert!(worst <= TOKEN_MS, "a customer waited {worst} ms");
}

/// Given thousands of conversations whose messages are still to be read, when somebody edits people meanwhile, then the
/// edits overtake all of that, and of several edits of one person the last one stands.
#[tokio::test]
async fn r15_a_live_change_overtakes_the_backfill() {
    let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("shop", Vendor::Woocommerce)]).await;
    lab.set("chat", "requests_per_minute", 3_000.into());
    lab.config.flows = vec![flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"))];
    let people: Vec<String> =
        (0..20).map(|n| lab.add("chat", &someone("Ana", &format!("Lind{n}"), &address(n)))).collect();
    for number in 0..2_000 {
        lab.sandbox.open_chat(lab.clock.now(), "chat", &people[number % 20], Some("Hello?"));
    }
    lab.run().await;
    lab.work().await;
    lab.clock.advance(MINUTE);
    lab.set("chat", "requests_per_minute", 15.into());
    let (clock, engine) = engine(&lab);
    let worker = engine.worker().await.expect("nobody else works");
    lab.sandbox.clear_log();
    let dusk = clock.now();
    let dawn = dusk + HOUR;
    let backfill = async { while worker.history(20).await.expect("it reads").conversations > 0 {} };
    let mut waited = Vec::new();
    let edits = async {
        for number in 0..100 {
            let at = dusk + MINUTE + number * 30_000;
            clock.sleep_until(at).await;
            let person = &people[number as usize % 7];
            let company = format!("Company {number}");
            lab.sandbox.edit(clock.now(), "chat", person, "company", Some(&company));
            lab.store.receive(&[hook("chat", "contact", person)], clock.now()).await.expect("on disk");
            worker.pass().await.expect("it works");
            waited.push(clock.now() - at);
            let record = lab.record("chat", person).await;
            let seen = record.fields.iter().find(|(name, _)| name.as_str() == "company").map(|(_, slot)| slot);
            assert_eq!(seen, Some(&Slot::Set(Value::Text(company))), "edit {number}");
        }
    };
    run(&clock, vec![Task::until(dawn, backfill), Task::until(dawn, edits)]).await;
    let log = lab.sandbox.log();
    assert!(log.iter().all(|call| call.status != 429), "the limit is kept");
    assert!(log.len() > 600, "the backfill goes on beside the edits: {} calls", log.len());
    assert_eq!(waited.len(), 100);
    assert!(waited.iter().all(|ms| *ms <= TOKEN_MS), "{waited:?}");
}
