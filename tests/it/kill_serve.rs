//! The real kill -9 of the daemon: it dies at random moments while webhooks come in and the chat is slow, and in the end
//! every customer has read of everything once. `COUNTERPART_DEATHS` says how often it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use counterpart::store::{MessageState, Store, StoreOptions};
use counterpart_connectors::{Clock, LiveOptions, LiveTransport, SystemClock, Transport};
use counterpart_sandbox::{Author, Faults, HookDelivery, InstanceSpec, Options, Sandbox, TOKEN, Vendor};
use serde_json::Value;

use crate::flows::order;
use crate::requirements::lab::someone;

/// Deaths when nothing else is asked for.
const DEATHS: u64 = 20;
const CUSTOMERS: usize = 5;
const SECRET: &str = "s3cr3t";

/// A generator of choices; the same seed makes the same ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A shop and a slow chat over HTTP, and the program that stands between them.
struct Street {
    sandbox: Arc<Sandbox>,
    folder: tempfile::TempDir,
    live: LiveTransport,
    /// What every customer is to read in the end.
    expected: BTreeSet<String>,
    unpaid: Vec<String>,
    /// Deliveries that nobody took: the shop may send them again.
    waiting: Vec<HookDelivery>,
}

impl Street {
    async fn new() -> Street {
        let settings = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let hooks =
            [("webhook_secret", SECRET), ("webhook_topics", "order.created,order.updated"), ("latency_ms", "2")];
        let chat = [("latency_ms", "12")];
        let instances = vec![
            InstanceSpec { name: "shop".to_owned(), vendor: Vendor::Woocommerce, settings: settings(&hooks) },
            InstanceSpec { name: "chat".to_owned(), vendor: Vendor::Chatwoot, settings: settings(&chat) },
        ];
        let sandbox = Arc::new(Sandbox::new(Options { seed: 7, faults: Faults::none(), instances }));
        let now = SystemClock.now();
        for number in 0..CUSTOMERS {
            let person = sandbox.create(now, "chat", &someone("Ana", "Lind", &mail(number)));
            sandbox.open_chat(now, "chat", &person, Some("Hello?"));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(counterpart_sandbox::serve(sandbox.clone(), listener, std::future::pending()));
        let folder = tempfile::tempdir().expect("a folder");
        write_site(folder.path(), &address.to_string());
        let live = LiveTransport::new(LiveOptions::default()).expect("a client");
        Street { sandbox, folder, live, expected: BTreeSet::new(), unpaid: Vec::new(), waiting: Vec::new() }
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterpart"));
        command.current_dir(self.folder.path()).env("SANDBOX_TOKEN", TOKEN).env("HOOK_SECRET", SECRET);
        command.args(["--quiet", "--json"]).args(arguments).stderr(Stdio::null());
        command
    }

    async fn sync(&self) -> Option<i32> {
        let mut command = self.program(&["sync"]);
        let ended = tokio::task::spawn_blocking(move || command.stdout(Stdio::null()).status()).await;
        ended.expect("it is waited for").expect("the program starts").code()
    }

    /// Starts the daemon and waits until it listens.
    async fn daemon(&self) -> (Child, String) {
        let mut child = self.program(&["serve"]).stdout(Stdio::piped()).spawn().expect("the program starts");
        let out = child.stdout.take().expect("it is piped");
        let said = tokio::task::spawn_blocking(move || {
            let mut documents = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
            documents.next().expect("it says where it listens").expect("a document")
        });
        let said = said.await.expect("it is read");
        (child, said["listening"].as_str().expect("an address").to_owned())
    }

    /// Customers order and pay.
    fn business(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(2) {
            let customer = mail(dice.below(CUSTOMERS as u64) as usize);
            let id = self.sandbox.place_order(SystemClock.now(), "shop", &order(&customer, "pending"));
            self.expected.insert(format!("order {id} was placed"));
            self.unpaid.push(id);
        }
        if !self.unpaid.is_empty() && dice.below(2) == 0 {
            let id = self.unpaid.swap_remove(dice.below(self.unpaid.len() as u64) as usize);
            self.sandbox.set_order(SystemClock.now(), "shop", &id, "processing");
            self.expected.insert(format!("order {id} was paid"));
        }
    }

    /// The shop tells of it: up to three times, in any order, and some of it never.
    async fn tell(&mut self, address: &str, dice: &mut Dice) {
        let mut due = std::mem::take(&mut self.waiting);
        for delivery in self.sandbox.take_hooks() {
            due.extend(std::iter::repeat_n(delivery, dice.below(4) as usize));
        }
        while !due.is_empty() {
            let delivery = due.swap_remove(dice.below(due.len() as u64) as usize);
            let mut request = http::Request::post(format!("http://{address}/hooks/{}", delivery.instance));
            for (name, value) in &delivery.headers {
                request = request.header(name, value);
            }
            let request = request.body(Bytes::from(delivery.body.clone())).expect("a request");
            let taken = self.live.send(request).await.is_ok_and(|answer| answer.status().is_success());
            if !taken && dice.below(2) == 0 {
                self.waiting.push(delivery);
            }
        }
    }

    /// Public words of the team, in the order in which they were written.
    fn told(&self) -> Vec<String> {
        let all = self.sandbox.chat_messages("chat").into_iter();
        all.filter(|message| !message.private && message.author != Author::Customer)
            .map(|message| message.text)
            .collect()
    }

    async fn store(&self) -> Store {
        let url = format!("sqlite://{}/counterpart.db", self.folder.path().display());
        Store::open(&StoreOptions { url, tenant: "default".to_owned() }).await.expect("the store opens")
    }
}

fn mail(number: usize) -> String {
    format!("customer{number}@example.test")
}

fn write_site(folder: &std::path::Path, address: &str) {
    let texts = folder.join("own/messages");
    std::fs::create_dir_all(&texts).expect("a folder for texts");
    for (template, event, what) in [("placed", "order.created", "was placed"), ("paid", "order.paid", "was paid")] {
        let text = format!("event = \"{event}\"\n---\norder {{{{ order.number | default(\"-\") }}}} {what}\n");
        std::fs::write(texts.join(format!("{template}.en.txt")), text).expect("a text is written");
    }
    let token = "{ env = \"SANDBOX_TOKEN\" }";
    let config = format!(
        "mappings_dir = \"own\"\n\
         [serve]\nlisten = \"127.0.0.1:0\"\npoll = \"1s\"\n\
         [connections.shop]\nconnector = \"woocommerce\"\nbase_url = \"http://{address}/shop\"\n\
         consumer_key = {token}\nconsumer_secret = {token}\nwebhook_secret = {{ env = \"HOOK_SECRET\" }}\n\
         requests_per_minute = 1000000\n\
         [connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://{address}/chat\"\naccount_id = 1\n\
         api_access_token = {token}\nrequests_per_minute = 1000000\nsettle = \"1s\"\n\
         [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"shop\", \"chat\"]\ncreate = []\n\
         [[flows]]\non = \"order.created\"\nfrom = \"shop\"\nsend = \"placed\"\nto = \"chat\"\n\
         [[flows]]\non = \"order.paid\"\nfrom = \"shop\"\nsend = \"paid\"\nto = \"chat\"\n"
    );
    std::fs::write(folder.join("counterpart.toml"), config).expect("the configuration is written");
}

/// Waits until something is so, for as long as it may take on a slow machine.
async fn until(mut so: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..30_000 {
        if so().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_every_message_arrives_once() {
    let deaths = std::env::var("COUNTERPART_DEATHS").ok().and_then(|text| text.parse().ok()).unwrap_or(DEATHS);
    let mut street = Street::new().await;
    // The first look: what happens from here on is news.
    assert_eq!(street.sync().await, Some(0));
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let mut under_way = BTreeSet::new();
    for _ in 0..deaths {
        street.business(&mut dice);
        let (mut child, address) = street.daemon().await;
        street.sandbox.clear_log();
        // It dies a little after the systems have seen so many more calls, or so many more messages, wherever it then is.
        let (messages_only, then) = (dice.below(2) == 0, dice.below(14));
        let calls = if messages_only { 1 + dice.below(2) } else { dice.below(25) } as usize;
        street.business(&mut dice);
        let sandbox = street.sandbox.clone();
        let killer = async {
            let seen = || sandbox.log().iter().filter(|call| call.effect || !messages_only).count();
            assert!(until(async || seen() >= calls).await, "the daemon makes no calls");
            tokio::time::sleep(Duration::from_millis(then)).await;
            child.kill().expect("it is still ours to kill");
            child.wait().expect("it is dead");
        };
        tokio::join!(street.tell(&address, &mut dice), killer);
        let store = street.store().await;
        let rows = store.messages(None, 0, 100_000).await.expect("the store answers");
        under_way.extend(rows.iter().filter(|row| row.state == MessageState::Sending).map(|row| row.id));
        store.close().await.expect("it closes");
    }
    let (mut child, address) = street.daemon().await;
    street.tell(&address, &mut dice).await;
    let (wanted, store) = (street.expected.len(), street.store().await);
    let settled = until(async || {
        let rows = store.messages(None, 0, 100_000).await.expect("the store answers");
        rows.len() >= wanted && rows.iter().all(|row| row.state == MessageState::Sent)
    })
    .await;
    child.kill().expect("it is still ours to kill");
    child.wait().expect("it is dead");
    // Once more, to see that nothing else is done.
    assert_eq!(street.sync().await, Some(0));
    let told = street.told();
    let twice: Vec<&String> =
        told.iter().filter(|text| told.iter().filter(|other| other == text).count() > 1).collect();
    let told: BTreeSet<String> = told.iter().cloned().collect();
    let missing: Vec<&String> = street.expected.difference(&told).collect();
    assert!(settled && missing.is_empty(), "never told: {missing:?}");
    assert!(twice.is_empty(), "told twice: {twice:?}");
    assert_eq!(told, street.expected);
    let rows = store.messages(None, 0, 100_000).await.expect("the store answers");
    let found = rows.iter().filter(|row| row.reason.as_deref() == Some("found at the vendor")).count();
    println!(
        "{deaths} deaths, {} of them within an attempt; {} messages, each told once; {found} were found in the chat",
        under_way.len(),
        told.len()
    );
}
