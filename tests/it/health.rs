//! What the program says of itself is never better than the facts: streams that flows live on and that cannot be read.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use counterpart::engine::Verdict;
use counterpart::store::{MessageState, RecordState, Store, StoreOptions};
use counterpart_connectors::{Clock, SystemClock};
use counterpart_sandbox::{Sandbox, TOKEN, Vendor};
use serde_json::{Value, json};

use crate::flows::order;
use crate::requirements::lab::{HOUR, Lab};
use crate::serve::{live, until};

/// A chat, a shop and a desk behind HTTP, and a folder with a configuration for them.
struct Office {
    lab: Lab,
    address: String,
}

impl Office {
    async fn new() -> Office {
        let systems = [("chat", Vendor::Chatwoot), ("shop", Vendor::Woocommerce), ("desk", Vendor::Zendesk)];
        let lab = Lab::new(&systems).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(counterpart_sandbox::serve(lab.sandbox.clone(), listener, std::future::pending()));
        let office = Office { lab, address };
        office.write("SANDBOX_TOKEN");
        office
    }

    fn folder(&self) -> PathBuf {
        self.lab.folder.path().to_owned()
    }

    async fn store(&self) -> Store {
        let url = format!("sqlite://{}/health.db", self.folder().display());
        Store::open(&StoreOptions { url, tenant: "default".to_owned() }).await.expect("it opens")
    }

    fn sandbox(&self) -> Arc<Sandbox> {
        self.lab.sandbox.clone()
    }

    /// The configuration; the desk takes its token from this variable.
    fn write(&self, desk: &str) {
        let (address, secret) = (&self.address, "{ env = \"SANDBOX_TOKEN\" }");
        let config = format!(
            "[store]\nurl = \"sqlite://health.db\"\n[serve]\nlisten = \"127.0.0.1:0\"\npoll = \"1s\"\n\
             [connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://{address}/chat\"\naccount_id = 1\n\
             api_access_token = {secret}\nrequests_per_minute = 100000\n\
             [connections.shop]\nconnector = \"woocommerce\"\nbase_url = \"http://{address}/shop\"\n\
             consumer_key = {secret}\nconsumer_secret = {secret}\nrequests_per_minute = 100000\n\
             [connections.desk]\nconnector = \"zendesk\"\nbase_url = \"http://{address}/desk/api/v2\"\n\
             email = \"sync@example.test\"\napi_token = {{ env = \"{desk}\" }}\nexports_per_minute = 30\n\
             [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"chat\", \"shop\"]\n\
             [[flows]]\non = \"order.created\"\nfrom = \"shop\"\nsend = \"order-confirmation\"\nto = \"chat\"\n\
             [[flows]]\non = \"ticket.closed\"\nfrom = \"desk\"\nresolve = \"chat\"\nlink = \"person\"\n\
             accept_effects = true\n"
        );
        std::fs::write(self.folder().join("counterpart.toml"), config).expect("the configuration is written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterpart"));
        command.current_dir(self.folder()).env_remove("NO_COLOR").args(arguments);
        command.env("SANDBOX_TOKEN", TOKEN).env("REVOKED_TOKEN", "revoked");
        command
    }

    /// What a command prints, and its exit code.
    async fn text(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("it starts");
        let all = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&all).into_owned(), output.status.code())
    }

    async fn json(&self, arguments: &[&str]) -> (Value, Option<i32>) {
        let (said, code) = self.text(&[&["--quiet", "--json"], arguments].concat()).await;
        (serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}")), code)
    }
}

/// Given a desk that refuses our credentials and that no sync names, then the run, its verdict and the status say so until it is
/// read again.
#[tokio::test(flavor = "multi_thread")]
async fn r70_a_flows_system_that_cannot_be_read_is_told_of() {
    let office = Office::new().await;
    office.write("REVOKED_TOKEN");
    let (report, code) = office.json(&["sync"]).await;
    assert_eq!((code, &report["verdict"]), (Some(3), &json!("partial")), "{report:#}");
    let (runs, _) = office.json(&["runs", "list"]).await;
    let verdicts: Vec<_> = runs["runs"].as_array().expect("a list").iter().map(|run| &run["verdict"]).collect();
    assert_eq!(verdicts, ["partial", "partial"], "{runs:#}");
    let (status, code) = office.json(&["status"]).await;
    let reasons = status["degraded"].to_string();
    assert!(code == Some(3) && reasons.contains("ticket of desk") && reasons.contains("401"), "{status:#}");
    let desk = &status["connections"][1];
    assert_eq!((&desk["connection"], &desk["streams"][0]["stream"]), (&json!("desk"), &json!("ticket")), "{desk:#}");
    assert!(desk["streams"][0]["unread"]["since"].is_i64(), "{desk:#}");
    let since = desk["streams"][0]["unread"]["since"].clone();
    assert_eq!(office.json(&["sync"]).await.1, Some(3));
    let (status, _) = office.json(&["status"]).await;
    assert_eq!(status["connections"][1]["streams"][0]["unread"]["since"], since, "it began when it began");

    office.write("SANDBOX_TOKEN");
    let (report, code) = office.json(&["sync"]).await;
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("ok")), "{report:#}");
    let (status, code) = office.json(&["status"]).await;
    assert_eq!((code, &status["degraded"]), (Some(0), &json!([])), "{status:#}");
    let desk = &status["connections"][1]["streams"][0];
    assert_eq!((&desk["coverage"]["complete"], &desk["unread"]), (&json!(true), &Value::Null), "{desk:#}");
    let (said, _) = office.text(&["status"]).await;
    let of_desk: Vec<_> = said.lines().filter(|line| line.contains("desk") && line.contains("ticket")).collect();
    assert!(of_desk.len() == 1 && of_desk[0].contains("whole, 0"), "{said}");
    assert!(!said.contains("nothing yet"), "{said}");
}

/// Given the same under `serve`, then the log warns of it once, and says once that it is over; readiness says it as well.
#[tokio::test(flavor = "multi_thread")]
async fn r70_a_daemon_warns_once_of_what_it_cannot_read() {
    let office = Office::new().await;
    office.write("REVOKED_TOKEN");
    let log = std::fs::File::create(office.folder().join("serve.log")).expect("a log");
    let mut command = office.command(&["--json", "serve"]);
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
    let out = child.stdout.take().expect("it is piped");
    let said = tokio::task::spawn_blocking(move || {
        let mut documents = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
        documents.next().expect("it says where it listens").expect("a document")
    });
    let said = said.await.expect("it is read");
    let address = said["listening"].as_str().expect("an address").to_owned();
    let live = live();
    let get = async |path: &str| {
        let request =
            http::Request::get(format!("http://{address}{path}")).body(bytes::Bytes::new()).expect("a request");
        let answer = counterpart_connectors::Transport::send(&live, request).await.expect("an answer");
        String::from_utf8_lossy(answer.body()).into_owned()
    };
    let ready = until("the readiness", async || {
        let ready: Value = serde_json::from_str(&get("/readyz").await).expect("a document");
        (ready["degraded"].as_array().is_some_and(|reasons| !reasons.is_empty())).then_some(ready)
    })
    .await;
    assert!(ready["ready"] == true && ready["degraded"][0].as_str().unwrap().contains("ticket of desk"), "{ready}");
    let metric = "counterpart_stream_unread{connection=\"desk\",stream=\"ticket\"} 1";
    until("the metric", async || get("/metrics").await.contains(metric).then_some(())).await;
    // Two more times it was tried.
    let tries = || std::fs::read_to_string(office.folder().join("serve.log")).expect("a log").matches("401").count();
    until("more tries", async || (tries() >= 4).then_some(())).await;
    assert_eq!(office.json(&["status"]).await.1, Some(3));
    child.kill().expect("it is still ours to kill");
    child.wait().expect("it is dead");
    let log = std::fs::read_to_string(office.folder().join("serve.log")).expect("a log");
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN") && line.contains("desk")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("ticket"), "{log}");
}

/// Given a message of an earlier run of which nobody knows whether it arrived, then a run does not say that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn r71_a_message_that_may_have_arrived_is_no_agreement() {
    let office = Office::new().await;
    let sandbox = office.sandbox();
    assert_eq!(office.json(&["sync"]).await.1, Some(0));
    // Nobody in the chat has this address, so that it waits.
    sandbox.place_order(SystemClock.now(), "shop", &order("ana@example.test", "pending"));
    assert_eq!(office.json(&["sync"]).await.1, Some(0));
    let store = office.store().await;
    let (now, why) = (SystemClock.now(), Some("nobody knows"));
    // As a killed process leaves it, and long before it is looked for.
    store.set_message(1, MessageState::Unknown, why, now + HOUR, None, now).await.expect("the store answers");
    let (report, code) = office.json(&["sync"]).await;
    assert_eq!((code, &report["verdict"]), (Some(3), &json!("partial")), "{report:#}");
    assert_eq!(report["messages_waiting"], json!({ "unknown": 1 }), "{report:#}");
    let (said, _) = office.text(&["sync"]).await;
    assert!(said.contains("1 unknown") && said.contains("`counterpart outbox list` shows"), "{said}");
    assert!(!said.contains("everything agrees"), "{said}");
    assert_eq!(office.json(&["outbox", "drop", "1"]).await.1, Some(0));
    let (report, code) = office.json(&["sync"]).await;
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("ok")), "{report:#}");
}

/// A system that tells what changed, and so is read as a whole once a day only, and a shop that lists everything each time.
async fn crm_and_shop(people: usize) -> Lab {
    let lab = Lab::new(&[("crm", Vendor::Crm), ("shop", Vendor::Woocommerce)]).await;
    lab.people_at("crm", people, 0);
    lab.run().await;
    lab
}

/// Given somebody whose record was deleted behind our back, when an edit is to be written to it, then the run asks once, says that
/// it is not there and that not everything agrees; the second run that does not find it takes it as gone.
#[tokio::test]
async fn r72_an_update_of_what_is_gone_is_told_of() {
    let lab = crm_and_shop(3).await;
    let gone = lab.people("crm")[0].clone();
    let customer = lab.person("shop", gone.email.as_deref().expect("an address"));
    lab.clock.advance(HOUR);
    lab.sandbox.delete(lab.clock.now(), "crm", &gone.id);
    lab.edit("shop", &customer.id, "city", Some("Lund"));
    lab.clock.advance(HOUR);
    let first = lab.run().await;
    let told = serde_json::to_value(&first).expect("a report");
    assert_eq!(told["verdict"], "partial", "{told:#}");
    assert_eq!(told["syncs"][0]["operations"]["dropped"], 1, "{told:#}");
    let named = format!("crm/{}", gone.id);
    assert!(first.notes.iter().any(|note| note.contains(&named)), "{told:#}");
    let asked = || lab.sandbox.log().iter().filter(|call| call.instance == "crm" && call.status == 404).count();
    assert_eq!(asked(), 1, "once");
    assert_eq!(lab.record("crm", &gone.id).await.state, RecordState::Missing);

    // One that comes back within the day is written as ever, and one that does not is gone.
    lab.clock.advance(HOUR);
    let second = lab.run().await;
    assert_eq!(second.verdict, Verdict::Ok, "{:?}", second.notes);
    assert_eq!(lab.record("crm", &gone.id).await.state, RecordState::Deleted);
    assert!(
        lab.person("shop", gone.email.as_deref().expect("an address")).city.as_deref() == Some("Lund"),
        "it is kept"
    );
    lab.assert_quiet().await;
}

/// Given more of them than may go in one run, then none goes, and the guard says what would become of them.
#[tokio::test]
async fn r73_the_guard_says_what_would_become_of_what_is_gone() {
    let lab = crm_and_shop(30).await;
    lab.clock.advance(HOUR);
    for person in lab.people("crm").iter().take(20) {
        lab.sandbox.delete(lab.clock.now(), "crm", &person.id);
    }
    for _ in 0..2 {
        lab.clock.advance(25 * HOUR);
        lab.run().await;
    }
    let plan = lab.engine(lab.network()).plan(&[]).await.expect("a plan");
    let said = &plan.guards[0].message;
    assert!(said.contains("20 records have gone at crm and would be unlinked"), "{said}");
    let told = serde_json::to_value(&plan).expect("a plan");
    assert_eq!(told["departures"], json!([{ "connection": "crm", "records": 20 }]), "{told:#}");
    assert!(plan.counts.iter().all(|count| count.action != "delete"), "{:?}", plan.counts);
    // A plan shows and does nothing; whoever applies it has read it.
    assert_eq!(lab.run().await.verdict, Verdict::Guarded);
    let text = told.to_string();
    lab.engine(lab.network()).apply(&serde_json::from_str(&text).expect("a head")).await.expect("it is carried out");
    assert_eq!(lab.run().await.verdict, Verdict::Ok);
    assert_eq!(lab.people("shop").len(), 30, "they are kept");
}
