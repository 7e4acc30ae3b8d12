//! Real orders through the flows, and real conversations as history. The data is not part of the repository: it is looked
//! for at `COUNTERPART_TEST_DATA` (default `../shared/data`), and its absence is said, or is a failure where it is required.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use counterpart::engine::Pass;
use counterpart::store::MessageState;
use counterpart_connectors::Clock;
use counterpart_sandbox::{Author, NewOrder, Vendor};
use serde_json::Value;

use crate::flows::shop_and_chat;
use crate::requirements::lab::{DAY, HOUR, Lab, someone};

pub fn data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("COUNTERPART_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("COUNTERPART_REQUIRE_DATA").is_none(), "{} is required and not there", path.display());
    eprintln!("*** NOT TESTED: {} is not there; set COUNTERPART_TEST_DATA ***", path.display());
    None
}

/// An invoice of the UCI Online Retail set.
#[derive(Default)]
struct Invoice {
    customer: Option<String>,
    items: Vec<(String, u32, String)>,
}

fn invoices(text: &str) -> BTreeMap<String, Invoice> {
    let mut found: BTreeMap<String, Invoice> = BTreeMap::new();
    // Lines end in a lone carriage return, and no description holds a quoted comma that matters here.
    for line in text.split(['\r', '\n']).skip(1).filter(|line| !line.is_empty()) {
        let fields = split(line);
        let [number, _, description, quantity, _, price, customer, _] = fields.as_slice() else { continue };
        let invoice = found.entry(number.clone()).or_default();
        invoice.customer = Some(customer.clone()).filter(|customer| !customer.is_empty());
        let quantity = quantity.trim_start_matches('-').parse().unwrap_or(1);
        invoice.items.push((description.clone(), quantity, price.trim_start_matches('-').to_owned()));
    }
    found
}

/// The fields of a CSV line, quotes taken off.
fn split(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => fields.last_mut().expect("never empty").push(letter),
        }
    }
    fields
}

fn address(customer: &str) -> String {
    format!("customer{customer}@example.test")
}

#[tokio::test]
async fn real_orders_are_told_of_once_and_history_never() {
    let Some(path) = data("real/uci_online_retail/online_retail_dec2010.csv") else { return };
    let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
    let invoices = invoices(&text);
    let cancelled = invoices.keys().filter(|number| number.starts_with('C')).count();
    assert_eq!((invoices.len(), cancelled), (699, 70));

    let mut lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.config.flows.retain(|flow| flow.on.as_str() != "order.paid");
    let customers: BTreeSet<&String> = invoices.values().filter_map(|invoice| invoice.customer.as_ref()).collect();
    for customer in &customers {
        let person = lab.add("chat", &someone("Customer", customer, &address(customer)));
        lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?"));
    }
    let place = |lab: &Lab, number: &str, invoice: &Invoice, at| {
        let order = NewOrder {
            email: invoice.customer.as_deref().map(address),
            given: "Customer".to_owned(),
            family: invoice.customer.clone().unwrap_or_default(),
            status: if number.starts_with('C') { "cancelled" } else { "on-hold" }.to_owned(),
            currency: "GBP".to_owned(),
            items: invoice.items.clone(),
            country: Some("GB".to_owned()),
            ..NewOrder::default()
        };
        lab.sandbox.place_order(at, "shop", &order)
    };
    let (old, new): (Vec<_>, Vec<_>) = invoices.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    for (_, (number, invoice)) in &old {
        place(&lab, number, invoice, lab.clock.now() - DAY);
    }
    lab.run().await;
    let first = lab.work().await;
    let old_cancelled = old.iter().filter(|(_, (number, _))| number.starts_with('C')).count();
    assert_eq!((first.events as usize, first.sent), (old.len() + old_cancelled, 0), "history reaches nobody");
    assert!(lab.told("chat").is_empty() && lab.intents().await.is_empty());

    lab.clock.advance(HOUR);
    for (_, (number, invoice)) in &new {
        place(&lab, number, invoice, lab.clock.now());
    }
    let second = lab.work().await;
    let new_cancelled = new.iter().filter(|(_, (number, _))| number.starts_with('C')).count();
    let guests = new.iter().filter(|(_, (_, invoice))| invoice.customer.is_none()).count();
    assert_eq!(second.events as usize, new.len() + new_cancelled);
    let intents = lab.intents().await;
    assert_eq!(intents.len(), new.len() + new_cancelled);
    // A cancelled order is not confirmed any more; who has no address waits with a reason.
    let count = |state, reason: Option<&str>| {
        intents.iter().filter(|m| m.state == state && (reason.is_none() || m.reason.as_deref() == reason)).count()
    };
    assert_eq!(count(MessageState::Dropped, Some("overtaken")), new_cancelled, "{second:?}");
    let sent = count(MessageState::Sent, None);
    let waiting = count(MessageState::Held, Some("no_route"));
    assert_eq!(sent + waiting + new_cancelled, intents.len());
    assert_eq!((sent, lab.told("chat").len()), (new.len() - guests, new.len() - guests));
    println!(
        "{} invoices: {} as history told to nobody, {sent} messages, {waiting} guests wait for a route, {new_cancelled} \
         confirmations overtaken by their cancellation",
        invoices.len(),
        old.len()
    );
    assert_eq!(lab.work().await, Pass::default(), "the second run writes nothing");
    assert_eq!(lab.writes(), 0);
}

/// Speaker and words of every dialogue.
fn dialogues() -> Option<Vec<Vec<(Author, String)>>> {
    let mut found = Vec::new();
    for name in ["dialogues_010.json", "dialogues_011.json", "dialogues_034.json"] {
        let text = std::fs::read_to_string(data(&format!("real/sgd/{name}"))?).expect("readable");
        let dialogues: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        for dialogue in &dialogues {
            let turns = dialogue["turns"].as_array().expect("turns").iter();
            let said = turns.map(|turn| {
                let author = if turn["speaker"] == "USER" { Author::Customer } else { Author::Agent };
                (author, turn["utterance"].as_str().expect("words").to_owned())
            });
            found.push(said.collect());
        }
    }
    // Who speaks first asks; everybody else helps.
    for entry in std::fs::read_dir(data("real/ubuntu_irc/dev")?).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.to_string_lossy().ends_with(".raw.txt") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
        let mut asking: Option<String> = None;
        let mut said = Vec::new();
        for line in text.lines() {
            let Some((nick, words)) = line.split_once("] <").and_then(|(_, rest)| rest.split_once("> ")) else {
                continue;
            };
            let asks = asking.get_or_insert_with(|| nick.to_owned()) == nick;
            if !words.trim().is_empty() {
                said.push((if asks { Author::Customer } else { Author::Agent }, words.to_owned()));
            }
        }
        found.push(said);
    }
    Some(found)
}

#[tokio::test]
async fn real_conversations_are_kept_whole() {
    let Some(dialogues) = dialogues() else { return };
    for vendor in [Vendor::Chatway, Vendor::Chatwoot] {
        let lab = shop_and_chat(vendor).await;
        let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        let mut chats = Vec::new();
        for dialogue in &dialogues {
            let chat = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, None);
            for (author, words) in dialogue {
                lab.clock.advance(1_000);
                lab.sandbox.say(lab.clock.now(), "chat", &chat, *author, words);
            }
            chats.push(chat);
        }
        lab.run().await;
        lab.work().await;
        lab.sandbox.clear_log();
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        let read = worker.history(u64::MAX >> 1).await.expect("it reads");
        let said: usize = dialogues.iter().map(Vec::len).sum();
        assert_eq!((read.conversations, read.messages), (dialogues.len() as u64, said as u64), "{vendor:?} {read:?}");
        for (chat, dialogue) in chats.iter().zip(&dialogues) {
            let mut kept = lab.store.documents_by_key("chat", "message", "conversation", chat).await.expect("messages");
            kept.sort_by_key(|(_, message)| message["created_at"].as_i64());
            let kept: Vec<_> = kept.iter().map(|(_, m)| (m["author"].as_str(), m["text"].as_str())).collect();
            let expected: Vec<_> = dialogue
                .iter()
                .map(|(author, words)| {
                    (Some(if *author == Author::Customer { "customer" } else { "agent" }), Some(words.trim()))
                })
                .collect();
            assert_eq!(kept, expected, "{vendor:?} {chat}");
        }
        let again = worker.history(u64::MAX >> 1).await.expect("it reads");
        assert_eq!((again.conversations, lab.writes()), (0, 0), "the second run reads and writes nothing");
        worker.close().await.expect("it ends");
        println!("{vendor:?}: {} conversations, {said} messages", dialogues.len());
    }
}
