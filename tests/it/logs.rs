//! What the real binary says on standard error with `-vv`: records and connections by name, never a secret or a person,
//! however hard the systems try.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use counterpart_connectors::{Clock, LiveOptions, LiveTransport, SystemClock, Transport};
use counterpart_sandbox::{Author, Faults, HookDelivery, InstanceSpec, Options, Reply, Sandbox, TOKEN, Vendor};
use serde_json::Value;

use crate::flows::order;
use crate::requirements::lab::someone;

const SIGNS: &str = "s1gning-s3cret";
const PATH_SECRET: &str = "p4th-s3cret";
const GUESSED: &str = "gu3ssed-s3cret";
const REVOKED: &str = "r3voked-token";
const MAIL: &str = "rosa.blomgren@people.example";
const QUESTION: &str = "Where do my slippers stay?";
const TEMPLATE: &str = "your slippers were ordered";

/// What no line may hold. Names and numbers are such that nothing else is written like them.
pub const HIDDEN: [&str; 15] = [
    TOKEN,
    SIGNS,
    PATH_SECRET,
    GUESSED,
    REVOKED,
    MAIL,
    "rosa.blomgren",
    "rosa%2Eblomgren",
    "Blomgren",
    "Rosa",
    "7012345",
    "701 23 45",
    "slippers",
    "Hägersten",
    "Cup",
];

/// The systems over HTTP, by the machine's clock. At `wall` nothing is allowed, and what is written in `shop` is refused;
/// both say why in the words of the person that it is about.
async fn answer(State(sandbox): State<Arc<Sandbox>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let path = parts.uri.path();
    if path.starts_with("/wall/") {
        let words = format!("Rosa Blomgren <{MAIL}>, +46 70 701 23 45, asked us to tell nobody");
        return refusal(403, &words);
    }
    if path.starts_with("/shop/") && parts.method != "GET" {
        return refusal(400, &format!("not acceptable: {}", String::from_utf8_lossy(&body)));
    }
    match sandbox.handle(SystemClock.now(), http::Request::from_parts(parts, body.to_vec())) {
        Reply::Answer { response, .. } => response.map(Body::from),
        Reply::Cut { .. } => refusal(503, "cut"),
    }
}

fn refusal(status: u16, words: &str) -> Response {
    let body = serde_json::json!({ "code": "refused", "message": words, "data": { "status": status } });
    Response::builder().status(status).body(Body::from(body.to_string())).expect("an answer")
}

/// A place with people, and a folder with a configuration for it.
pub struct Place {
    sandbox: Arc<Sandbox>,
    folder: tempfile::TempDir,
    /// More of the program's environment.
    variables: Vec<(&'static str, &'static str)>,
}

impl Place {
    pub async fn new() -> Place {
        let instance = |name: &str, vendor, settings: &[(&str, &str)]| InstanceSpec {
            name: name.to_owned(),
            vendor,
            settings: settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        };
        let hooks = [("webhook_secret", SIGNS), ("webhook_topics", "order.created,order.updated")];
        let instances = vec![
            instance("house", Vendor::Crm, &[]),
            instance("shop", Vendor::Woocommerce, &hooks),
            instance("lost", Vendor::Woocommerce, &[]),
            instance("chat", Vendor::Chatwoot, &[]),
        ];
        let sandbox = Arc::new(Sandbox::new(Options { seed: 11, faults: Faults::none(), instances }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let router = axum::Router::new().fallback(answer).with_state(sandbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let place = Place { sandbox, folder: tempfile::tempdir().expect("a folder"), variables: Vec::new() };
        place.populate();
        write_site(place.folder.path(), &address);
        place
    }

    /// The same with one more variable in the program's environment.
    #[cfg(feature = "otlp")]
    pub fn with_variable(mut self, name: &'static str, value: &'static str) -> Place {
        self.variables.push((name, value));
        self
    }

    /// Adds to the configuration.
    #[cfg(feature = "otlp")]
    pub fn configure(&self, more: &str) {
        let path = self.folder.path().join("counterpart.toml");
        let config = std::fs::read_to_string(&path).expect("it was written");
        std::fs::write(path, config + more).expect("it is written");
    }

    fn populate(&self) {
        let now = SystemClock.now();
        let mut rosa = someone("Rosa", "Blomgren", MAIL);
        rosa.phone = Some("+46 70 701 23 45".to_owned());
        rosa.city = Some("Hägersten".to_owned());
        self.sandbox.create(now, "house", &rosa);
        let person = self.sandbox.create(now, "chat", &rosa);
        let chat = self.sandbox.open_chat(now, "chat", &person, Some(QUESTION));
        self.sandbox.say(now, "chat", &chat, Author::Customer, QUESTION);
    }

    /// Somebody orders.
    pub fn orders(&self) -> String {
        let mut wanted = order(MAIL, "pending");
        (wanted.given, wanted.family) = ("Rosa".to_owned(), "Blomgren".to_owned());
        wanted.phone = Some("+46707012345".to_owned());
        self.sandbox.place_order(SystemClock.now(), "shop", &wanted)
    }

    /// The program with everything it has to say, in the file `log`.
    fn program(&self, log: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterpart"));
        command.current_dir(self.folder.path()).env("SANDBOX_TOKEN", TOKEN).env("HOOK_SECRET", SIGNS);
        command.env("PATH_SECRET", PATH_SECRET).env("REVOKED", REVOKED).envs(self.variables.iter().copied());
        command.stderr(File::create(self.folder.path().join(log)).expect("a file for the log"));
        command.args(["-vv", "--json"]).args(arguments);
        command
    }

    pub async fn run(&self, log: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = self.program(log, arguments);
        let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("it is waited for");
        let ended = ended.expect("the program starts");
        (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("there is a log")
    }
}

fn write_site(folder: &Path, address: &str) {
    let texts = folder.join("own/messages");
    std::fs::create_dir_all(&texts).expect("a folder for texts");
    let text = format!("event = \"order.created\"\n---\n{TEMPLATE}, {{{{ order.number | default(\"-\") }}}}\n");
    std::fs::write(texts.join("placed.en.txt"), text).expect("a text is written");
    let shop = |name: &str, token: &str| {
        format!(
            "[connections.{name}]\nconnector = \"woocommerce\"\nbase_url = \"http://{address}/{name}\"\n\
             consumer_key = {{ env = \"{token}\" }}\nconsumer_secret = {{ env = \"{token}\" }}\n\
             webhook_secret = {{ env = \"HOOK_SECRET\" }}\nrequests_per_minute = 1000000\n"
        )
    };
    let flow = |from: &str| {
        format!("[[flows]]\non = \"order.created\"\nfrom = \"{from}\"\nsend = \"placed\"\nto = \"chat\"\n")
    };
    let config = format!(
        "mappings_dir = \"own\"\n[serve]\nlisten = \"127.0.0.1:0\"\npoll = \"1s\"\n\
         {}{}{}\
         [connections.house]\nconnector = \"crm\"\nbase_url = \"http://{address}/house\"\n\
         token = {{ env = \"SANDBOX_TOKEN\" }}\n\
         [connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://{address}/chat\"\naccount_id = 1\n\
         api_access_token = {{ env = \"SANDBOX_TOKEN\" }}\nwebhook_path_secret = {{ env = \"PATH_SECRET\" }}\n\
         requests_per_minute = 1000000\nsettle = \"1s\"\n\
         [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"house\", \"shop\", \"chat\"]\n\
         [[syncs]]\nname = \"closed\"\nkind = \"contact\"\nbetween = [\"lost\", \"wall\"]\n\
         {}{}{}",
        shop("shop", "SANDBOX_TOKEN"),
        shop("lost", "REVOKED"),
        shop("wall", "SANDBOX_TOKEN"),
        flow("shop"),
        flow("lost"),
        flow("wall"),
    );
    std::fs::write(folder.join("counterpart.toml"), config).expect("the configuration is written");
}

pub fn assert_masked(log: &str) {
    for hidden in HIDDEN {
        let line = log.lines().find(|line| line.contains(hidden));
        assert!(line.is_none(), "{hidden} is in the log: {}", line.unwrap_or_default());
    }
}

/// Looks again and again, for as long as anything may take on a slow machine.
async fn until(mut so: impl FnMut() -> bool) -> bool {
    for _ in 0..12_000 {
        if so() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

/// The daemon's address, and a way to post to it.
struct Door {
    address: String,
    live: LiveTransport,
}

impl Door {
    async fn post(&self, path: &str, headers: &[(String, String)], body: impl Into<Bytes>) -> u16 {
        let mut request = http::Request::post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body.into()).expect("a request");
        self.live.send(request).await.expect("an answer").status().as_u16()
    }

    async fn deliver(&self, delivery: &HookDelivery) -> u16 {
        self.post(&format!("/hooks/{}", delivery.instance), &delivery.headers, delivery.body.clone()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_names_records_and_no_person() {
    let place = Place::new().await;
    let (code, report) = place.run("sync.log", &["sync"]).await;
    assert_eq!(code, Some(3), "two shops cannot be read: {report}");
    place.orders();
    // The result is for the operator: it says what the log does not.
    assert!(report.contains("asked us to tell nobody"), "{report}");
    let (_, refused) = place.run("runs.log", &["runs", "show", "1"]).await;
    assert!(refused.contains("not acceptable"), "{refused}");
    let (_, report) = place.run("again.log", &["sync"]).await;
    assert!(report.contains("\"sent\": 1"), "{report}");
    let log = place.log("sync.log") + &place.log("runs.log") + &place.log("again.log");
    assert_masked(&log);
    for readable in [
        "connection=house",
        "connection=chat",
        "answered 403: “…”",
        "path=\"/wp-json/wc/v3/orders\"",
        "of connection lost",
    ] {
        assert!(log.contains(readable), "{readable} is missing:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_names_records_and_no_person() {
    let place = Place::new().await;
    place.run("sync.log", &["sync"]).await;
    let mut child = place.program("serve.log", &["serve"]).stdout(Stdio::piped()).spawn().expect("the program starts");
    let out = child.stdout.take().expect("it is piped");
    let said = tokio::task::spawn_blocking(move || {
        let mut documents = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
        documents.next().expect("it says where it listens").expect("a document")
    });
    let said = said.await.expect("it is read");
    let live = LiveTransport::new(LiveOptions::default()).expect("a client");
    let door = Door { address: said["listening"].as_str().expect("an address").to_owned(), live };
    let id = place.orders();
    let deliveries = place.sandbox.take_hooks();
    assert!(!deliveries.is_empty(), "the shop tells of the order");
    for delivery in &deliveries {
        assert_eq!(door.deliver(delivery).await, 200);
        let mut forged = delivery.clone();
        forged.body = format!("{{\"id\": 1, \"billing\": {{\"email\": \"{MAIL}\"}}}}").into();
        assert_eq!(door.deliver(&forged).await, 401);
    }
    let chat = format!("/hooks/chat/{PATH_SECRET}");
    let told = format!(
        "{{\"event\": \"message_created\", \"id\": 1, \"content\": \"{QUESTION}\", \"conversation\": {{\"id\": 1}}}}"
    );
    assert_eq!(door.post(&chat, &[], told.clone()).await, 200);
    assert_eq!(door.post(&format!("/hooks/chat/{GUESSED}"), &[], told).await, 401);
    assert_eq!(door.post(&chat, &[], format!("{{\"email\": \"{MAIL}\", \"name\": \"Rosa Blomgren\"")).await, 400);
    assert_eq!(door.post(&chat, &[], format!("{{\"event\": \"{MAIL}\", \"id\": 1}}")).await, 200);
    assert_eq!(door.post(&format!("/hooks/nobody/{GUESSED}"), &[], "{}").await, 404);
    let whole = ["sent: 1", "of connection wall answered 403: “…”", "of connection lost answered 401"];
    let complete = until(|| whole.iter().all(|part| place.log("serve.log").contains(part))).await;
    child.kill().expect("it is still ours to kill");
    child.wait().expect("it is dead");
    let log = place.log("serve.log");
    assert!(complete, "{log}");
    assert_masked(&log);
    let order = format!("/wp-json/wc/v3/orders/{id}");
    for readable in
        ["connection=\"shop\" kind=\"wrong_signature\"", "kind=\"unreadable\"", "the body is no JSON", &order]
    {
        assert!(log.contains(readable), "{readable} is missing:\n{log}");
    }
}
