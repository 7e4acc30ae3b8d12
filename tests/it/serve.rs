//! The daemon: what is answered is on disk, what is refused is not, and a webhook reaches the customer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::config::Config;
use counterpart::engine::{Engine, Silent};
use counterpart::serve::{ServeError, serve};
use counterpart::store::{HookState, MessageState, Store, StoreOptions};
use counterpart_connectors::{Clock, LiveOptions, LiveTransport, SystemClock, Transport, TransportError};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{HookDelivery, Reply, Sandbox, TOKEN, Vendor};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::flows::{flow, order};
use crate::requirements::lab::{HOUR, Lab, someone};

/// What `captured/SOURCE.md` says.
const SECRET: &str = "s3cr3t";
/// Ends the address of webhooks that are not signed.
const PATH_SECRET: &str = "a-long-random-text";

/// The fakes in process, by the machine's clock.
struct Direct(Arc<Sandbox>);

#[async_trait]
impl Transport for Direct {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        match self.0.handle(SystemClock.now(), request.map(|body| body.to_vec())) {
            Reply::Answer { response, .. } => Ok(response.map(Bytes::from)),
            Reply::Cut { .. } => Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() }),
        }
    }
}

/// A shop that sends webhooks, a chat, and a store in a file.
struct Site {
    lab: Lab,
    config: Config,
    store: Store,
}

/// One process that serves.
struct Serving {
    address: String,
    live: LiveTransport,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Site {
    async fn new() -> Site {
        let systems = [("chat", Vendor::Chatwoot), ("shop", Vendor::Woocommerce)];
        let settings = [("shop", "webhook_secret", SECRET), ("shop", "webhook_topics", "order.created,order.updated")];
        let mut lab = Lab::with_fakes(&systems, &settings).await;
        lab.set("chat", "requests_per_minute", 3000.into());
        lab.set("shop", "requests_per_minute", 100_000.into());
        let mut config = lab.config.clone();
        config.store.url = format!("sqlite://{}/serve.db", lab.folder.path().display());
        config.connections.get_mut("shop").unwrap().secrets.insert("webhook_secret".to_owned(), SECRET.into());
        let chat = config.connections.get_mut("chat").unwrap();
        chat.secrets.insert("webhook_path_secret".to_owned(), PATH_SECRET.into());
        // Nothing but a webhook tells what happens after the first reading.
        config.serve.poll_ms = HOUR;
        let store = Store::open_durable(&config.store_options()).await.expect("an embedded store opens");
        store.migrate().await.expect("the schema applies");
        Site { lab, config, store }
    }

    fn engine(&self, stop: CancellationToken) -> Arc<Engine> {
        let network = Arc::new(Direct(self.lab.sandbox.clone()));
        let config = Arc::new(self.config.clone());
        let engine = Engine::new(config, self.store.clone(), Arc::new(SystemClock), network, Arc::new(Silent), stop);
        Arc::new(engine.expect("the configuration is valid"))
    }

    async fn serve(&self) -> Serving {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(self.engine(stop.clone()), listener));
        Serving { address, live: live(), stop, task }
    }

    async fn rows(&self) -> Vec<counterpart::store::Hook> {
        self.store.hooks(None, 0, 100_000).await.expect("the store answers")
    }
}

impl Serving {
    async fn post(&self, path: &str, headers: &[(String, String)], body: impl Into<Bytes>) -> Answer {
        post(&self.live, &self.address, path, headers, body.into()).await
    }

    async fn deliver(&self, delivery: &HookDelivery) -> u16 {
        let path = format!("/hooks/{}", delivery.instance);
        self.post(&path, &delivery.headers, delivery.body.clone()).await.status
    }

    async fn get(&self, path: &str) -> Answer {
        ask(&self.live, http::Request::get(format!("http://{}{path}", self.address)).body(Bytes::new()).unwrap()).await
    }

    /// The value of a line of the metrics.
    async fn metric(&self, name: &str) -> Option<u64> {
        let text = self.get("/metrics").await.text;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it does not panic").expect("it ends well");
    }
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

async fn post(live: &LiveTransport, address: &str, path: &str, headers: &[(String, String)], body: Bytes) -> Answer {
    let mut request = http::Request::post(format!("http://{address}{path}"));
    // Those are between the two ends of a connection.
    let own = ["host", "content-length", "connection", "accept-encoding"];
    for (name, value) in headers.iter().filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str())) {
        request = request.header(name, value);
    }
    ask(live, request.body(body).unwrap()).await
}

pub fn live() -> LiveTransport {
    LiveTransport::new(LiveOptions::default()).expect("a client")
}

async fn ask(live: &LiveTransport, request: http::Request<Bytes>) -> Answer {
    let answer = live.send(request).await.expect("an answer");
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: String::from_utf8_lossy(answer.body()).into_owned(),
    }
}

/// Looks again and again, for as long as anything may take on a slow machine.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..12_000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{what} never came");
}

/// A delivery's headers and body.
type Delivered = (Vec<(String, String)>, String);

fn captured() -> Option<Vec<Delivered>> {
    let root = std::env::var_os("COUNTERPART_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = root.join("captured/woocommerce_11.0.1.jsonl");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("*** NOT TESTED: {} is not there ({error}); set COUNTERPART_TEST_DATA ***", path.display());
            assert!(std::env::var_os("COUNTERPART_REQUIRE_DATA").is_none(), "the test data is required and absent");
            return None;
        }
    };
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let pairs = line["headers"].as_object().unwrap().iter();
        let headers = pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        (headers, line["body"].as_str().unwrap().to_owned())
    };
    Some(text.lines().map(read).collect())
}

/// A webhook of the chat, which is not signed.
fn told(id: usize) -> Vec<u8> {
    json!({ "event": "conversation_updated", "id": id }).to_string().into_bytes()
}

const CHAT_HOOKS: &str = "/hooks/chat/a-long-random-text";

/// Given real deliveries, of which 37 share 18 delivery ids, then each has a row, byte for byte; a changed one has none.
#[tokio::test(flavor = "multi_thread")]
async fn every_captured_delivery_has_a_row() {
    let Some(deliveries) = captured() else { return };
    let site = Site::new().await;
    let serving = site.serve().await;
    let mut expected = Vec::new();
    for (headers, body) in &deliveries {
        let answer = serving.post("/hooks/shop", headers, body.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let signature = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-wc-webhook-signature"));
        if signature.is_none() {
            continue;
        }
        expected.push(body.clone());
        let mut other = body.clone().into_bytes();
        other[body.len() / 2] ^= 1;
        assert_eq!(serving.post("/hooks/shop", headers, other).await.status, 401);
    }
    assert_eq!(expected.len(), 37);
    let rows = site.rows().await;
    assert_eq!(rows.iter().map(|row| row.body.clone()).collect::<Vec<_>>(), expected);
    assert!(rows.iter().all(|row| row.connection == "shop"));
    assert_eq!(serving.metric("counterpart_hooks_total{connection=\"shop\",outcome=\"stored\"}").await, Some(37));
    assert_eq!(
        serving.metric("counterpart_hooks_total{connection=\"shop\",outcome=\"wrong_signature\"}").await,
        Some(37)
    );
    serving.stop().await;
}

/// What is not a webhook of ours has no row, and is told what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_has_no_row() {
    let site = Site::new().await;
    let serving = site.serve().await;
    let refused = |path: &'static str, body: Vec<u8>| {
        let serving = &serving;
        async move { serving.post(path, &[], body).await.status }
    };
    assert_eq!(refused("/hooks/nobody", told(1)).await, 404);
    assert_eq!(refused("/hooks/shop", told(1)).await, 401);
    assert_eq!(refused("/hooks/chat/wrong", told(1)).await, 401);
    assert_eq!(refused("/hooks/chat", told(1)).await, 401);
    assert_eq!(refused(CHAT_HOOKS, b"{".to_vec()).await, 400);
    assert_eq!(refused(CHAT_HOOKS, vec![b' '; (1 << 20) + 1]).await, 413);
    assert_eq!(refused(CHAT_HOOKS, br#"{"event":"something_new","id":1}"#.to_vec()).await, 200);
    assert_eq!(serving.get(CHAT_HOOKS).await.status, 405);
    assert_eq!(serving.get("/healthz").await.status, 200);
    assert!(site.rows().await.is_empty());
    // The largest body there may be.
    let mut largest = told(1);
    largest.resize(1 << 20, b' ');
    assert_eq!(serving.post(CHAT_HOOKS, &[], largest).await.status, 200);
    assert_eq!(site.rows().await.len(), 1);
    serving.stop().await;
}

/// Given 1,000 events at once, then 1,000 rows.
#[tokio::test(flavor = "multi_thread")]
async fn r25_a_burst_loses_nothing() {
    const EVENTS: usize = 1_000;
    let site = Site::new().await;
    let serving = site.serve().await;
    let answers: Vec<u16> = stream::iter(0..EVENTS)
        .map(|id| {
            let serving = &serving;
            async move { serving.post(CHAT_HOOKS, &[], told(id)).await.status }
        })
        .buffer_unordered(200)
        .collect()
        .await;
    assert!(answers.iter().all(|status| *status == 200));
    let rows = site.rows().await;
    let ids: BTreeSet<String> =
        rows.iter().map(|row| row.hints[0]["external_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((rows.len(), ids.len()), (EVENTS, EVENTS));
    serving.stop().await;
}

/// Given a store that does not take it, then the vendor is asked to come again, and does not hear 2xx.
#[tokio::test(flavor = "multi_thread")]
async fn r75_nothing_is_accepted_that_is_not_stored() {
    use sqlx::Connection;
    let site = Site::new().await;
    let serving = site.serve().await;
    until("the worker", async || (serving.get("/readyz").await.status == 200).then_some(())).await;
    let mut raw = sqlx::SqliteConnection::connect(&site.config.store.url).await.expect("the file opens");
    sqlx::query("ALTER TABLE hook RENAME TO gone").execute(&mut raw).await.expect("it is renamed");
    let answer = serving.post(CHAT_HOOKS, &[], told(1)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    sqlx::query("ALTER TABLE gone RENAME TO hook").execute(&mut raw).await.expect("it is renamed back");
    assert_eq!(serving.post(CHAT_HOOKS, &[], told(1)).await.status, 200);
    assert_eq!(site.rows().await.len(), 1);
    serving.stop().await;
}

/// Given kill -9 right after the 200, then the delivery is in the store.
#[tokio::test(flavor = "multi_thread")]
async fn r24_what_was_answered_survives_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[serve]\nlisten = \"127.0.0.1:0\"\n[connections.chat]\nconnector = \"chatwoot\"\n\
         base_url = \"http://127.0.0.1:9\"\naccount_id = 1\napi_access_token = { env = \"SANDBOX_TOKEN\" }\n\
         webhook_path_secret = { env = \"SANDBOX_TOKEN\" }\n";
    std::fs::write(folder.path().join("counterpart.toml"), config).expect("the configuration is written");
    let (live, mut ids, mut last) = (live(), BTreeSet::new(), 0);
    for _ in 0..3 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_counterpart"))
            .current_dir(folder.path())
            .env("SANDBOX_TOKEN", TOKEN)
            .args(["--quiet", "--json", "serve"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = child.stdout.take().expect("it is piped");
        let said: Value = tokio::task::spawn_blocking(move || {
            let mut documents = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
            documents.next().expect("it says where it listens").expect("a document")
        })
        .await
        .expect("it is read");
        let address = said["listening"].as_str().expect("an address").to_owned();
        for _ in 0..5 {
            last += 1;
            let body = Bytes::from(told(last));
            assert_eq!(post(&live, &address, &format!("/hooks/chat/{TOKEN}"), &[], body).await.status, 200);
            ids.insert(last.to_string());
        }
        child.kill().expect("it is still ours to kill");
        child.wait().expect("it is dead");
        let url = format!("sqlite://{}/counterpart.db", folder.path().display());
        let store = Store::open(&StoreOptions { url, tenant: "default".to_owned() }).await.expect("the store opens");
        let rows = store.hooks(None, 0, 100).await.expect("the store answers");
        let stored: BTreeSet<String> =
            rows.iter().map(|row| row.hints[0]["external_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(stored, ids);
        store.close().await.expect("it closes");
    }
}

/// Given an order at a shop that sends a webhook, then the customer reads of it, once, without any poll.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_reaches_the_customer() {
    let mut site = Site::new().await;
    let act = counterpart_connectors::ActKind::Send;
    site.config.flows = vec![flow(EventKind::OrderCreated, act, Some("order-confirmation"))];
    let sandbox = site.lab.sandbox.clone();
    let person = sandbox.create(SystemClock.now(), "chat", &someone("Ana", "Lind", "ana@example.test"));
    sandbox.open_chat(SystemClock.now(), "chat", &person, Some("Hello?"));
    site.engine(CancellationToken::new()).sync(&[]).await.expect("it runs");
    let serving = site.serve().await;
    for (connection, stream) in [("shop", "order"), ("chat", "conversation")] {
        until("the first reading", async || {
            let state = site.store.stream_state(connection, stream).await.expect("the store answers");
            state.last_complete_scan
        })
        .await;
    }
    sandbox.place_order(SystemClock.now(), "shop", &order("ana@example.test", "pending"));
    let deliveries = sandbox.take_hooks();
    assert!(!deliveries.is_empty());
    for delivery in deliveries.iter().chain(&deliveries) {
        assert_eq!(serving.deliver(delivery).await, 200);
    }
    until("the message", async || {
        let counts = site.store.count_messages().await.expect("the store answers");
        (counts.get(&MessageState::Sent) == Some(&1)).then_some(())
    })
    .await;
    until("the end of the inbox", async || {
        (site.store.count_hooks(HookState::Pending).await.expect("the store answers") == 0).then_some(())
    })
    .await;
    assert_eq!(site.lab.told("chat").len(), 1);
    serving.stop().await;
    // Whatever was under way at the stop has ended, and nothing was done twice.
    assert_eq!(site.lab.told("chat").len(), 1);
}

/// Given two processes, then one works and the other takes webhooks and waits; it takes over when the first one ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_waits_for_the_work() {
    let site = Site::new().await;
    let first = site.serve().await;
    until("the first worker", async || first.metric("counterpart_worker ").await.filter(|on| *on == 1)).await;
    let second = site.serve().await;
    assert_eq!(second.get("/readyz").await.status, 200);
    assert_eq!(second.post(CHAT_HOOKS, &[], told(7)).await.status, 200);
    // The first one reads what the second one took.
    until("the hook", async || {
        (site.store.count_hooks(HookState::Pending).await.expect("the store answers") == 0).then_some(())
    })
    .await;
    assert_eq!(second.metric("counterpart_worker ").await, Some(0));
    assert_eq!(second.metric("counterpart_worker_passes_total ").await, Some(0));
    first.stop().await;
    until("the second worker", async || second.metric("counterpart_worker ").await.filter(|on| *on == 1)).await;
    second.stop().await;
}

/// Given webhooks that are to be kept, then `serve` makes them, and makes anew what the vendor drops.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_kept() {
    let mut site = Site::new().await;
    site.config.serve.public_url = Some("https://hooks.example.test".to_owned());
    site.config.serve.check_hooks_ms = 50;
    site.config.connections.get_mut("shop").expect("the shop").keep_hooks = true;
    let sandbox = site.lab.sandbox.clone();
    let ours = || {
        let all = sandbox.webhooks("shop").into_iter();
        all.filter(|hook| hook.url == "https://hooks.example.test/hooks/shop").collect::<Vec<_>>()
    };
    let serving = site.serve().await;
    until("the webhooks", async || (ours().len() == 3).then_some(())).await;
    let subscribed = "counterpart_hook_subscriptions_total{connection=\"shop\",outcome=\"subscribed\"}";
    until("the count", async || serving.metric(subscribed).await.filter(|n| *n == 3)).await;
    sandbox.delete_webhook(SystemClock.now(), "shop", ours()[1].id);
    until("what was dropped", async || serving.metric(subscribed).await.filter(|n| *n == 4)).await;
    assert_eq!(ours().len(), 3);
    serving.stop().await;
    assert_eq!(sandbox.webhooks("shop").len(), 5, "two are somebody else's");
}

/// Given a stop, then the lease is given back, the run has ended, and nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_clean() {
    let site = Site::new().await;
    let serving = site.serve().await;
    until("the worker", async || (serving.get("/readyz").await.status == 200).then_some(())).await;
    let address = serving.address.clone();
    serving.stop().await;
    let held = counterpart::engine::message_worker(&site.store, SystemClock.now()).await.expect("the store answers");
    assert_eq!(held, None);
    let runs = site.store.runs(10).await.expect("the store answers");
    assert!(!runs.is_empty() && runs.iter().all(|run| run.verdict.as_deref() == Some("ok")), "{runs:?}");
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

/// Given a schedule that was missed for days, then it is caught up, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_missed_run_is_caught_up_once() {
    let mut site = Site::new().await;
    let now = SystemClock.now();
    // Once a day, and not while this test runs.
    site.config.syncs[0].schedule = Some(format!("0 {} * * *", (now / HOUR + 12) % 24));
    let ago = now - 72 * HOUR;
    let old = site.store.start_run("sync", &["people".to_owned()], "", ago).await.expect("the store answers");
    site.store.finish_run(old, "ok", &Value::Null, ago).await.expect("the store answers");
    let serving = site.serve().await;
    let ended = until("the run", async || {
        let run = site.store.last_run_of("people").await.expect("the store answers")?;
        (run.id != old && run.finished_at.is_some()).then_some(run)
    })
    .await;
    assert_eq!(ended.verdict.as_deref(), Some("ok"));
    until("the schedule", async || {
        serving.metric("counterpart_sync_late_seconds{sync=\"people\"}").await.filter(|s| *s == 0)
    })
    .await;
    serving.stop().await;
    let runs = site.store.runs(100).await.expect("the store answers");
    assert_eq!(runs.iter().filter(|run| run.kind == "sync").count(), 2);
}

/// What a command of the program prints, and its exit code.
fn run(folder: &std::path::Path, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_counterpart"))
        .current_dir(folder)
        .env("SANDBOX_TOKEN", TOKEN)
        .args(["--quiet", "--json"])
        .args(arguments)
        .output()
        .expect("the program starts");
    let printed = serde_json::from_slice(&output.stdout);
    (printed.unwrap_or_else(|error| panic!("{arguments:?}: {error}, {output:?}")), output.status.code())
}

/// Given cron and no daemon, then `sync` tells the customer; what waits is listed, tried again and given up by hand.
#[tokio::test(flavor = "multi_thread")]
async fn messages_by_the_command_line() {
    let site = Site::new().await;
    let sandbox = site.lab.sandbox.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(counterpart_sandbox::serve(sandbox.clone(), listener, std::future::pending()));
    let secret = "{ env = \"SANDBOX_TOKEN\" }";
    let config = format!(
        "[store]\nurl = \"sqlite://serve.db\"\n\
         [connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://{address}/chat\"\naccount_id = 1\n\
         api_access_token = {secret}\nrequests_per_minute = 3000\n\
         [connections.shop]\nconnector = \"woocommerce\"\nbase_url = \"http://{address}/shop\"\n\
         consumer_key = {secret}\nconsumer_secret = {secret}\nrequests_per_minute = 100000\n\
         [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"chat\", \"shop\"]\n\
         [[flows]]\non = \"order.created\"\nfrom = \"shop\"\nsend = \"order-confirmation\"\nto = \"chat\"\n\
         fallback = {{ note = \"chat\", conversation = \"1\" }}\n"
    );
    let folder = site.lab.folder.path().to_owned();
    std::fs::write(folder.join("counterpart.toml"), config).expect("the configuration is written");
    let person = sandbox.create(SystemClock.now(), "chat", &someone("Ana", "Lind", "ana@example.test"));
    sandbox.open_chat(SystemClock.now(), "chat", &person, Some("Hello?"));
    let call = async |arguments: &'static [&'static str]| {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || run(&folder, arguments)).await.expect("it runs")
    };
    let (first, code) = call(&["sync"]).await;
    assert_eq!((code, &first["messages"]["sent"]), (Some(0), &json!(0)), "{first}");
    for email in ["ana@example.test", "bob@example.test"] {
        sandbox.place_order(SystemClock.now(), "shop", &order(email, "pending"));
    }
    let (second, code) = call(&["sync"]).await;
    assert_eq!((code, &second["messages"]["sent"]), (Some(0), &json!(1)), "{second}");
    assert_eq!(second["syncs"][0]["operations"]["sent"], 1);
    assert_eq!(site.lab.told("chat").len(), 1);

    let (listed, _) = call(&["outbox", "list", "--limit", "1"]).await;
    assert_eq!((&listed["messages"][0]["state"], &listed["more"]), (&json!("sent"), &json!(1)));
    let (held, _) = call(&["outbox", "list", "--state", "held"]).await;
    assert_eq!(held["messages"][0]["reason"], "no_route");
    let id = held["messages"][0]["id"].as_i64().expect("a number");
    assert_eq!(id, 2);
    let (shown, _) = call(&["outbox", "show", "2"]).await;
    assert_eq!(shown["party"]["email"], "bob@example.test");
    let other = json!({
        "action": "note", "connection": "chat", "conversation": "1", "after_ms": 3_600_000, "taken": false,
    });
    assert_eq!(shown["fallback"], other, "{shown}");
    assert_eq!(call(&["outbox", "retry", "1"]).await.1, Some(2), "it is sent");
    assert_eq!(call(&["outbox", "retry", "99"]).await.1, Some(2));
    assert_eq!(call(&["outbox", "list", "--state", "gone"]).await.1, Some(2));
    let (retried, code) = call(&["outbox", "retry", "2"]).await;
    assert_eq!((code, &retried["state"]), (Some(0), &json!("pending")));
    let (now, why) = (SystemClock.now(), Some("nobody knows"));
    site.store.set_message(id, MessageState::Unknown, why, now, None, now).await.expect("the store answers");
    let (status, code) = call(&["status"]).await;
    assert_eq!((code, &status["messages"]["states"]["unknown"]), (Some(3), &json!(1)), "{status}");
    assert_eq!(call(&["outbox", "retry", "2"]).await.1, Some(2), "the customer may have it");
    assert_eq!(call(&["outbox", "retry", "2", "--yes"]).await.1, Some(0));
    assert_eq!(call(&["outbox", "drop", "2"]).await.1, Some(0));
    assert_eq!(call(&["outbox", "drop", "2"]).await.1, Some(2));
    assert_eq!(call(&["outbox", "show", "2"]).await.0["reason"], "dropped by hand");
    assert_eq!(call(&["status"]).await.1, Some(0));

    let hook = |id: &str| counterpart::store::NewHook {
        connection: "shop".to_owned(),
        hints: json!([{ "stream": "order", "external_id": id, "topic": "order.updated", "deleted": false }]),
        body: "{}".to_owned(),
    };
    site.store.receive(&[hook("1"), hook("2")], now).await.expect("the store answers");
    site.store.hook_failed(1, "the vendor is away", None).await.expect("the store answers");
    let (failed, _) = call(&["inbox", "list", "--state", "failed"]).await;
    assert_eq!(failed["hooks"][0]["error"], "the vendor is away");
    let (status, code) = call(&["status"]).await;
    assert_eq!((code, &status["hooks"]["failed"], &status["hooks"]["pending"]), (Some(3), &json!(1), &json!(1)));
    assert_eq!(call(&["inbox", "replay", "99"]).await.1, Some(2));
    assert_eq!(call(&["inbox", "replay", "1"]).await.1, Some(0));
    let (all, _) = call(&["inbox", "list", "--after", "0"]).await;
    assert_eq!((&all["hooks"][0]["state"], &all["hooks"][0]["attempts"]), (&json!("pending"), &json!(0)));
    // Nothing that was sent or given up goes out for it.
    let (third, _) = call(&["sync"]).await;
    assert_eq!((&third["messages"]["sent"], site.lab.told("chat").len()), (&json!(0), 1), "{third}");
}

/// Given systemd, then it hears when the program is ready and when it stops; SIGTERM is a clean end, and so is SIGHUP, however
/// often it comes, unless whoever started the program wants it to be ignored.
#[test]
fn systemd_is_told() {
    told_of_the_end_by(&["-TERM"], "exec");
    // The test itself may run under `nohup`.
    told_of_the_end_by(&["-HUP"], "exec env --default-signal=HUP");
    told_of_the_end_by(&["-HUP", "-HUP"], "exec env --default-signal=HUP");
    told_of_the_end_by(&["-HUP", "-TERM"], "trap '' HUP; exec");
}

fn told_of_the_end_by(signals: &[&str], start: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("counterpart.toml"), "[serve]\nlisten = \"127.0.0.1:0\"\n").expect("written");
    let socket = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a socket option");
    let mut child = Command::new("sh")
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", &socket)
        .args(["-c", &format!("{start} {} --quiet serve", env!("CARGO_BIN_EXE_counterpart"))])
        .spawn()
        .expect("the program starts");
    let heard = || {
        let mut line = [0; 64];
        let length = manager.recv(&mut line).expect("a datagram");
        String::from_utf8_lossy(&line[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    for signal in signals {
        // The first may have ended it already.
        let _ = Command::new("kill").args([*signal, &child.id().to_string()]).output().expect("kill is there");
    }
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
