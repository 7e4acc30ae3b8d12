//! The real binary against a served sandbox: what it prints, what it writes, and its exit codes.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use counterpart::store::{Store, StoreOptions};
use counterpart_connectors::{Clock, SystemClock};
use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, TOKEN, Vendor};
use serde_json::Value;

/// A CRM and a shop behind HTTP, and a folder with a configuration for them.
struct Place {
    folder: tempfile::TempDir,
    sandbox: Arc<Sandbox>,
    address: String,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new(people: usize) -> Place {
        let instance = |name: &str, vendor| InstanceSpec { name: name.to_owned(), vendor, settings: BTreeMap::new() };
        let instances = vec![instance("house", Vendor::Crm), instance("shop", Vendor::Woocommerce)];
        let sandbox = Arc::new(Sandbox::new(Options { seed: 3, faults: Faults::none(), instances }));
        sandbox.seed_people(1_700_000_000_000, "house", people, 0);
        sandbox.seed_people(1_700_000_000_000, "shop", people, people * 3 / 10);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        runtime.spawn(counterpart_sandbox::serve(sandbox.clone(), listener, std::future::pending()));
        let place = Place { folder: tempfile::tempdir().expect("a folder"), sandbox, address, runtime };
        place.write(&place.config());
        place
    }

    fn config(&self) -> String {
        format!(
            r#"[store]
url = "sqlite://{folder}/counterpart.db"

[connections.house]
connector = "crm"
base_url = "http://{address}/house"
token = {{ env = "SANDBOX_TOKEN" }}

[connections.shop]
connector = "woocommerce"
base_url = "http://{address}/shop"
consumer_key = {{ env = "SANDBOX_TOKEN" }}
consumer_secret = {{ env = "SANDBOX_TOKEN" }}

[[syncs]]
name = "people"
kind = "contact"
between = ["house", "shop"]
conflict = {{ default = "review" }}
"#,
            folder = self.folder.path().display(),
            address = self.address,
        )
    }

    fn write(&self, config: &str) {
        std::fs::write(self.folder.path().join("counterpart.toml"), config).expect("the configuration is written");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(self.folder.path()).env("SANDBOX_TOKEN", TOKEN).args(arguments).output().expect("the program starts")
    }

    /// Without `--quiet`: with remarks, warnings and progress.
    fn run_loud(&self, arguments: &[&str]) -> Output {
        loud(self.folder.path()).env("SANDBOX_TOKEN", TOKEN).args(arguments).output().expect("the program starts")
    }

    /// The store behind the configuration, beside the program.
    fn with_store<T>(&self, work: impl AsyncFnOnce(Store) -> T) -> T {
        let url = format!("sqlite://{}/counterpart.db", self.folder.path().display());
        self.runtime.block_on(async {
            let store = Store::open(&StoreOptions { url, tenant: "default".to_owned() }).await.expect("it opens");
            store.migrate().await.expect("the schema applies");
            work(store).await
        })
    }

    fn json(&self, arguments: &[&str]) -> (Value, i32) {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.run(&all);
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (document, output.status.code().expect("an exit code"))
    }
}

fn command(folder: &Path) -> Command {
    let mut command = loud(folder);
    command.arg("--quiet");
    command
}

fn loud(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterpart"));
    command.current_dir(folder).env_remove("SANDBOX_TOKEN").env_remove("NO_COLOR");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn writes(report: &Value) -> u64 {
    let counts = &report["syncs"][0]["operations"];
    ["created", "updated", "deleted"].iter().filter_map(|name| counts[*name].as_u64()).sum()
}

#[test]
fn a_second_sync_writes_nothing() {
    let place = Place::new(10);
    let (first, code) = place.json(&["sync"]);
    assert_eq!((first["verdict"].as_str(), code), (Some("ok"), 0), "{first:#}");
    assert_eq!(first["syncs"][0]["operations"]["created"], 6);
    for key in ["name", "streams", "operations", "conflicts", "calls", "rate_limited", "duration_ms"] {
        assert!(first["syncs"][0].get(key).is_some(), "{key}");
    }
    let (second, code) = place.json(&["sync", "people"]);
    assert_eq!((writes(&second), code), (0, 0), "{second:#}");
    let (status, code) = place.json(&["status"]);
    assert_eq!((status["connections"].as_array().map(Vec::len), code), (Some(2), 0));
    let (person, code) = place.json(&["explain", "person", "person3@example.test"]);
    assert_eq!((person["records"].as_array().map(Vec::len), code), (Some(2), 0));
}

#[test]
fn a_plan_is_applied_exactly_or_not_at_all() {
    let place = Place::new(10);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let person = place.sandbox.people("house")[4].clone();
    place.sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some("Planned"));
    let output = place.run(&["plan", "--out", "plan.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(place.sandbox.people("shop").iter().all(|person| person.company.as_deref() != Some("Planned")));
    place.sandbox.edit(1_800_000_001_000, "house", &person.id, "company", Some("Moved"));
    let output = place.run(&["apply", "plan.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the world has moved"), "{}", stderr(&output));
    assert_eq!(place.run(&["plan", "--out", "plan.json"]).status.code(), Some(0));
    let output = place.run(&["apply", "plan.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(place.sandbox.people("shop").iter().any(|person| person.company.as_deref() == Some("Moved")));
}

#[test]
fn a_run_is_taken_back() {
    let place = Place::new(6);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let person = place.sandbox.people("house")[3].clone();
    let before = person.company.clone();
    place.sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some("A mistake"));
    let (report, _) = place.json(&["sync"]);
    let run = report["run"].to_string();
    let output = place.run(&["revert", &run, "--out", "back.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = place.run(&["apply", "back.json"]);
    assert_eq!(output.status.code(), Some(3), "which of the two is to stand is for a person: {}", stderr(&output));
    let company = |at: &str| {
        let found = place.sandbox.people(at).into_iter().find(|other| other.email == person.email);
        found.expect("known there").company
    };
    assert_eq!(company("shop"), before);
    assert_eq!(writes(&place.json(&["sync"]).0), 0);
    let output = place.run(&["apply", "back.json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("the world has moved"), "{}", stderr(&output));
    let output = place.run(&["revert", &run, "--out", "again.json"]);
    assert_eq!(output.status.code(), Some(3));
    let said = stdout(&output);
    assert!(said.contains("nothing of run") && said.contains("company: it shows what it did before"), "{said}");
    assert!(!said.contains("agrees") && !said.contains("does exactly this"), "{said}");
    let (open, _) = place.json(&["conflicts", "list"]);
    let entry = open["conflicts"][0]["id"].to_string();
    assert_eq!(place.run(&["conflicts", "resolve", &entry, "--take", "shop"]).status.code(), Some(0));
    let (report, code) = place.json(&["sync"]);
    assert_eq!((writes(&report), code), (1, 0), "{report:#}");
    assert_eq!(company("house"), before);
    let (plan, _) = place.json(&["plan"]);
    let error = stderr(&place.run(&["revert", &plan["run"].to_string()]));
    assert!(error.contains("one of kind `plan`"), "{error}");
}

/// Given a plan file, when an operation is left out of it or changed, then nothing of it is carried out.
#[test]
fn a_plan_file_is_applied_whole_or_not_at_all() {
    let place = Place::new(10);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    for person in place.sandbox.people("house").iter().take(2) {
        place.sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some("Planned"));
    }
    assert_eq!(place.run(&["plan", "--out", "plan.json"]).status.code(), Some(0));
    let path = place.folder.path().join("plan.json");
    let whole = std::fs::read_to_string(&path).expect("it was written");
    let plan: Value = serde_json::from_str(&whole).expect("a document");
    assert_eq!(plan["operations"].as_array().map(Vec::len), Some(2));
    let (mut trimmed, mut altered, mut headless) = (plan.clone(), plan.clone(), plan);
    trimmed["operations"].as_array_mut().expect("a list").pop();
    altered["operations"][0]["reason"] = "because".into();
    headless.as_object_mut().expect("a document").remove("operations");
    for (changed, said) in [
        (trimmed.to_string(), "its operations were changed"),
        (altered.to_string(), "its operations were changed"),
        (headless.to_string(), "it is no plan: missing field `operations`"),
        (whole[..whole.len() - 9].to_owned(), "it is no plan"),
    ] {
        std::fs::write(&path, changed).expect("it is written");
        let output = place.run(&["apply", "plan.json"]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    assert!(place.sandbox.people("shop").iter().all(|person| person.company.as_deref() != Some("Planned")));
    std::fs::write(&path, whole).expect("it is written");
    let (report, code) = place.json(&["apply", "plan.json"]);
    assert_eq!((writes(&report), code), (2, 0), "{report:#}");
}

/// What holds names and messages is for the owner alone, whatever the mask of the shell.
#[test]
fn stores_and_plans_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(3);
    let script = format!("umask 022; {} --quiet plan --out plan.json", env!("CARGO_BIN_EXE_counterpart"));
    let mut shell = Command::new("sh");
    shell.current_dir(place.folder.path()).env("SANDBOX_TOKEN", TOKEN).args(["-c", &script]);
    let output = shell.output().expect("a shell");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    place.with_store(async |store| {
        store.revision().await.expect("the store answers");
        for name in ["counterpart.db", "counterpart.db-wal", "counterpart.db-shm", "plan.json"] {
            let meta = std::fs::metadata(place.folder.path().join(name)).expect("it is there");
            assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        }
    });
}

/// A result that does not arrive is a failure, and is told of where it can be; who closes the pipe has read enough.
#[test]
fn a_result_that_cannot_be_written_is_told() {
    let place = Place::new(3);
    for arguments in [&["--json", "plan"][..], &["--json", "runs", "list"], &["status"], &["man"], &["--help"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full");
        let mut command = command(place.folder.path());
        let output = command.env("SANDBOX_TOKEN", TOKEN).args(arguments).stdout(full).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("the result could not be written"), "{arguments:?}: {}", stderr(&output));
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command(place.folder.path()).arg("man").stdout(writer).output().expect("it starts");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn a_person_decides_a_conflict() {
    let place = Place::new(6);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let house = place.sandbox.people("house")[2].clone();
    let shop = place.sandbox.people("shop").into_iter().find(|other| other.email == house.email).expect("known there");
    place.sandbox.edit(1_800_000_000_000, "house", &house.id, "company", Some("House & Co"));
    place.sandbox.edit(1_800_000_000_000, "shop", &shop.id, "company", Some("Shop & Co"));
    let (report, code) = place.json(&["sync"]);
    assert_eq!((writes(&report), code), (0, 3), "{report:#}");
    let (open, _) = place.json(&["conflicts", "list"]);
    let id = open["conflicts"][0]["id"].to_string();
    assert_eq!(open["conflicts"][0]["field"], "company");
    let output = place.run(&["conflicts", "resolve", &id, "--same"]);
    assert_eq!(output.status.code(), Some(2), "a field takes a value");
    assert_eq!(place.run(&["conflicts", "resolve", &id, "--take", "shop"]).status.code(), Some(0));
    let (report, code) = place.json(&["sync"]);
    assert_eq!((writes(&report), code), (1, 0), "{report:#}");
    let house = place.sandbox.people("house").into_iter().find(|other| other.email == house.email);
    assert_eq!(house.expect("still there").company.as_deref(), Some("Shop & Co"));
}

#[test]
fn a_guard_stops_the_run_and_a_plan_goes_on() {
    let place = Place::new(30);
    place.write(&format!("{}guard = {{ max_updates = \"5\" }}\n", place.config()));
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    for person in place.sandbox.people("house").iter().take(12) {
        place.sandbox.edit(1_800_000_000_000, "house", &person.id, "city", Some("Everywhere"));
    }
    let (report, code) = place.json(&["sync"]);
    assert_eq!((report["verdict"].as_str(), code), (Some("guarded"), 4), "{report:#}");
    assert_eq!(writes(&report), 0);
    let planned = place.run(&["plan", "--out", "plan.json"]);
    assert_eq!(planned.status.code(), Some(4), "a script must not go on by itself");
    assert!(stdout(&planned).contains("trips max_updates"), "{}", stdout(&planned));
    // The file is there: whoever applies it has read it.
    let (report, code) = place.json(&["apply", "plan.json"]);
    assert_eq!((writes(&report), code), (12, 0), "{report:#}");
}

/// Every mistake in a configuration: its place, its exit code, and that nothing was touched.
#[test]
fn mistakes_in_the_configuration_have_a_place() {
    let place = Place::new(1);
    let good = place.config();
    let cases: Vec<(String, &str)> = vec![
        (
            good.replace("connector = \"crm\"", "connector = \"crn\""),
            "counterpart.toml:5:1: there is no connector `crn`",
        ),
        (
            good.replace("base_url = \"http", "base_ulr = \"http"),
            "counterpart.toml:6:1: connector `crm` has no setting `base_ulr`",
        ),
        (
            good.replace("{ env = \"SANDBOX_TOKEN\" }", "\"in clear\""),
            "counterpart.toml:7:1: `token` is a secret and stands here in clear",
        ),
        (
            good.replace("SANDBOX_TOKEN", "NOT_SET_ANYWHERE"),
            "counterpart.toml:7:1: `token` of connection `house`: the environment variable NOT_SET_ANYWHERE is not set",
        ),
        (
            good.replace("\"house\", \"shop\"]", "\"house\", \"shpo\"]"),
            "counterpart.toml:18:21: there is no connection `shpo`",
        ),
        (good.replace("\"house\", \"shop\"]", "\"house\"]"), "needs two different connections"),
        (good.replace("default = \"review\"", "default = \"newest\""), "`newest` is no policy"),
        (good.replace("default = \"review\"", "colour = \"review\""), "`colour` is no canonical field"),
        (format!("{good}guard = {{ max_deletes = \"200%\" }}\n"), "counterpart.toml:20:"),
        (format!("{good}schedule = \"0 25 * * *\"\n"), "counterpart.toml:20:1: this is no schedule"),
        (format!("{good}schedule = \"0 0 31 2 *\"\n"), "never comes"),
        (
            format!("{good}timezone = \"Mars/Olympus\"\nschedule = \"0 2 * * *\"\n"),
            "there is no time zone `Mars/Olympus`",
        ),
        (
            format!("{good}timezone = \"Mars/Olympus\"\nschedule = \"0 25 * * *\"\n"),
            "counterpart.toml:21:1: this is no schedule",
        ),
        (format!("{good}surprise = 1\n"), "counterpart.toml:20:1: `syncs.0.surprise`: unknown field"),
        (good.replace("[store]", "[store]\ncolour = 1"), "counterpart.toml:2:1: `store.colour`: unknown field"),
        (
            good.replace("between = [\"house\", \"shop\"]", "between = \"house\""),
            "counterpart.toml:18:1: `syncs.0.between`",
        ),
        (
            good.replace("connector = \"crm\"", "connector = \"crm\"\nrequests_per_minute = \"many\""),
            "counterpart.toml:6:1: connection `house`: `requests_per_minute` must be a whole number",
        ),
        (good.replace("kind = \"contact\"", "kind = 7"), "counterpart.toml:17:1"),
        (good.replace("url = \"sqlite:", "url = \"mysql:"), "counterpart.toml:2:1: this is no address of a store"),
        (good.replace("[store]", "[store"), "counterpart.toml:1:"),
    ];
    for (config, expected) in cases {
        place.write(&config);
        let output = place.run(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{expected}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "expected {expected}, got {}", stderr(&output));
    }
    assert!(place.sandbox.log().is_empty());
}

/// A far end that is not what it should be: a clear message, exit code 1, and everything works again afterwards.
#[test]
fn far_ends_that_refuse_are_told_clearly() {
    let place = Place::new(3);
    let wrong_key = command(place.folder.path())
        .env("SANDBOX_TOKEN", "wrong")
        .args(["check", "--online"])
        .output()
        .expect("the program starts");
    assert_eq!(wrong_key.status.code(), Some(1));
    let said = String::from_utf8_lossy(&wrong_key.stdout).into_owned();
    assert!(said.contains("401") && said.contains("house"), "{said}");
    assert!(!said.contains("wrong"), "a secret is never printed: {said}");
    place.sandbox.set_faults(Faults::parse("html=1").expect("a fault"));
    let html = place.run(&["check", "--online"]);
    assert_eq!(html.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&html.stdout).contains("is base_url right"),
        "{}",
        String::from_utf8_lossy(&html.stdout)
    );
    let (report, code) = place.json(&["sync"]);
    assert_eq!((report["verdict"].as_str(), code), (Some("failed"), 1), "{report:#}");
    place.sandbox.set_faults(Faults::none());
    assert_eq!(place.json(&["sync"]).1, 0);
}

#[test]
fn stores_that_cannot_be_opened_are_told_clearly() {
    let place = Place::new(1);
    let folder = place.folder.path().display().to_string();
    std::fs::write(place.folder.path().join("not.db"), "this is a letter, not a database, and it goes on for a while")
        .expect("a file");
    for (url, expected) in [
        (format!("sqlite://{folder}/nowhere/counterpart.db"), "nowhere"),
        (format!("sqlite://{folder}/not.db"), "not.db"),
    ] {
        place.write(&place.config().replace(&format!("sqlite://{folder}/counterpart.db"), &url));
        let output = place.run(&["sync"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn init_writes_a_configuration_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let init = |path: &Path| {
        command(path).args(["init", "--yes", "--connection", "chat=chatway", "--connection", "crm=hubspot"]).output()
    };
    let first = init(folder.path()).expect("the program starts");
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    for wrong in [["--store", "nonsense://x"], ["--connection", "x/y=crm"]] {
        let output = command(folder.path())
            .args([
                "--config",
                "other.toml",
                "init",
                "--yes",
                "--connection",
                "chat=chatway",
                "--connection",
                "crm=hubspot",
            ])
            .args(wrong)
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(!folder.path().join("other.toml").exists());
    }
    let second = init(folder.path()).expect("the program starts");
    assert_eq!(second.status.code(), Some(2));
    let check = command(folder.path())
        .env("CHAT_API_KEY", "k")
        .env("CRM_ACCESS_TOKEN", "t")
        .arg("check")
        .output()
        .expect("the program starts");
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
}

#[test]
fn help_completions_and_manual_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [vec!["--help"], vec!["completions", "bash"], vec!["man"], vec!["connectors"]] {
        let output = command(folder.path()).args(&arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stdout.len() > 200, "{arguments:?}");
    }
    assert_eq!(command(folder.path()).arg("nonsense").output().expect("the program starts").status.code(), Some(2));
}

#[test]
fn messages_are_listed_previewed_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let output = command(folder.path()).env("SANDBOX_TOKEN", TOKEN).args(arguments).output().expect("it starts");
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output), output.status.code())
    };
    let (listed, _, code) = run(&["messages", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(code, Some(0));
    assert_eq!(listed[3]["name"], "order-refunded");
    assert_eq!(listed[3]["languages"], serde_json::json!(["de", "en", "es", "fr", "pt", "sv"]));

    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("event.json", r#"{"event": "order.paid", "order": {"number": "7", "total": "1234.5", "currency": "EUR"}}"#);
    let (text, _, code) =
        run(&["messages", "preview", "payment-received", "--event", "event.json", "--language", "de"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("Ihre Zahlung von 1.234,50\u{a0}€ für die Bestellung 7"), "{text}");
    let (text, _, _) = run(&["messages", "preview", "shipped"]);
    assert!(text.starts_with("Hi Anna,"), "{text}");
    let parcel = r#"{"event": "shipment.created", "shipment": {"id": "7/1", "tracking_number": "JD1", "carrier": "DHL",
        "tracking_url": "https://track.example/JD1", "items": [{"name": "Cup", "quantity": "2"}]}}"#;
    write("parcel.json", parcel);
    let (text, error, _) = run(&["messages", "preview", "shipped", "--event", "parcel.json"]);
    for part in ["with DHL", "JD1\n", "https://track.example/JD1", "2 × Cup"] {
        assert!(text.contains(part), "{text}{error}");
    }
    let (_, error, code) = run(&["messages", "preview", "shipped", "--event", "event.json"]);
    assert!(code == Some(2) && error.contains("shipment.created"), "{error}");
    assert_eq!(run(&["messages", "preview", "nothing"]).2, Some(2));
    for (event, expected) in [
        (r#"{"order": {"id": "7", "foo": 1}}"#, "wrong.json: `order` has no field `foo`"),
        (r#"{"order": {"total": "1"}}"#, "wrong.json: `order` has no `number`"),
        (r#"{"orders": {"id": "7"}}"#, "wrong.json: no event is about `orders`"),
        (r#"{"event": "order.payed", "order": {"id": "7"}}"#, "order.payed"),
        (r#"{}"#, "wrong.json: an event is about one thing"),
        ("[1]", "wrong.json is no JSON object"),
    ] {
        write("wrong.json", event);
        let (_, error, code) = run(&["messages", "preview", "payment-received", "--event", "wrong.json"]);
        assert!(code == Some(2) && error.contains(expected), "{event}: {error}");
    }

    std::fs::create_dir_all(folder.path().join("own/messages")).expect("a folder");
    write("counterpart.toml", "mappings_dir = \"own\"\n\n[store]\nurl = \"sqlite://counterpart.db\"\n");
    write("own/messages/thanks.en.txt", "event = \"order.paid\"\n---\nThanks, {{ order.customr.name }}!\n");
    let (_, error, code) = run(&["check"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("own/messages/thanks.en.txt:3:18: there is no field `customr`"), "{error}");
    write("own/messages/thanks.en.txt", "event = \"order.paid\"\n---\nThanks for {{ order.number }}!\n");
    assert_eq!(run(&["check"]).2, Some(0));
    assert_eq!(run(&["messages", "preview", "thanks"]).0, "Thanks for 1007!\n");
}

/// Standard output is one JSON document, whatever the command and however it ends; remarks and logs go elsewhere.
#[test]
fn with_json_every_command_prints_one_document() {
    let place = Place::new(6);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    for (arguments, code) in [
        (vec!["check"], 0),
        (vec!["check", "--online"], 0),
        (vec!["connectors"], 0),
        (vec!["connectors", "crm"], 0),
        (vec!["connectors", "test", "house"], 0),
        (vec!["plan"], 0),
        (vec!["plan", "--out", "plan.json"], 0),
        (vec!["apply", "plan.json"], 0),
        (vec!["sync"], 0),
        (vec!["status"], 0),
        (vec!["explain", "person", "person3@example.test"], 0),
        (vec!["conflicts"], 0),
        (vec!["conflicts", "list", "--all"], 0),
        (vec!["outbox"], 0),
        (vec!["outbox", "show", "99"], 2),
        (vec!["inbox"], 0),
        (vec!["hooks"], 2),
        (vec!["hooks", "list", "house"], 0),
        (vec!["hooks", "register", "house"], 2),
        (vec!["runs"], 0),
        (vec!["runs", "show", "1"], 0),
        (vec!["revert", "1"], 0),
        (vec!["migrate"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["man"], 0),
        (vec!["--config", "new.toml", "init", "--yes"], 0),
        (vec!["--config", "new.toml", "init", "--yes"], 2),
        (vec!["--config", "nowhere.toml", "sync"], 2),
        (vec!["explain", "person", "nobody@example.test"], 2),
        (vec!["explain", "planet", "7"], 2),
        (vec!["conflicts", "show", "99"], 2),
        (vec!["conflicts", "resolve", "99", "--done"], 2),
        (vec!["runs", "show", "99"], 2),
        (vec!["revert", "99"], 2),
        (vec!["sync", "stars"], 2),
        (vec!["connectors", "telegraph"], 2),
        (vec!["connectors", "test", "telegraph"], 2),
        (vec!["apply", "nothing.json"], 2),
        (vec!["sandbox", "--listen", "nowhere"], 1),
        (vec!["nonsense"], 2),
    ] {
        let mut all = vec!["--json", "-vv"];
        all.extend(&arguments);
        let output = place.run_loud(&all);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", stdout(&output)));
        if code == 0 {
            assert!(document.get("error").is_none(), "{arguments:?}: {document:#}");
        } else {
            assert_eq!(document["error"]["code"], code, "{arguments:?}: {document:#}");
            assert!(stderr(&output).contains("error:"), "{arguments:?}: {}", stderr(&output));
        }
    }
}

/// Webhooks at the vendor from nothing to registered, noticed when they are gone, and removed.
#[test]
fn webhooks_are_registered_listed_and_removed() {
    const SECRET: &str = "a-secret-of-webhooks";
    let place = Place::new(3);
    let error = stderr(&place.run(&["hooks", "register", "shop"]));
    assert!(error.contains("`webhook_secret`") && error.contains("counterpart.toml:"), "{error}");
    std::fs::write(place.folder.path().join("secret"), SECRET).expect("the secret is written");
    let shop = "connector = \"woocommerce\"\n";
    let secret = format!("{shop}webhook_secret = {{ file = \"secret\" }}\n");
    place.write(&place.config().replace(shop, &secret));
    let output = place.run(&["hooks"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("set `public_url` in [serve]"), "{}", stderr(&output));
    let with_url =
        format!("{}[serve]\npublic_url = \"https://hooks.example.test\"\n", place.config().replace(shop, &secret));
    let kept = place.config().replace("connector = ", "hooks = \"keep\"\nread_only = true\nconnector = ");
    place.write(&format!("{kept}[serve]\ncheck_hooks = \"often\"\n"));
    let error = stderr(&place.run(&["check"]));
    for words in ["cannot subscribe to webhooks", "set `public_url` in [serve]", "is read_only", "write `1h`"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    place.write(&with_url);

    let (list, code) = place.json(&["hooks"]);
    assert_eq!((code, list["connections"][0]["connection"].as_str()), (3, Some("house")), "{list:#}");
    assert!(list["connections"][0]["why_not"].as_str().is_some_and(|why| why.contains("takes no webhooks")));
    assert_eq!(list["connections"][1]["subscriptions"][0]["state"], "missing");
    let (registered, code) = place.json(&["hooks", "register"]);
    assert_eq!((code, registered["connections"][1]["done"].as_array().map(Vec::len)), (0, Some(3)), "{registered:#}");
    let (again, code) = place.json(&["hooks", "register"]);
    assert_eq!((code, &again["connections"][1]["done"]), (0, &serde_json::json!([])));
    assert_eq!(place.sandbox.webhooks("shop").len(), 3);
    assert!(place.sandbox.webhooks("shop").iter().all(|hook| hook.secret == SECRET));

    place.sandbox.delete_webhook(SystemClock.now(), "shop", 2);
    let output = place.run_loud(&["-vv", "hooks", "list", "shop"]);
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("missing") && text.contains("active") && !text.contains(SECRET), "{text}");
    assert_eq!(place.run(&["hooks", "register", "shop"]).status.code(), Some(0));
    assert_eq!(place.sandbox.webhooks("shop").len(), 3);
    assert_eq!(place.run(&["hooks", "remove"]).status.code(), Some(2), "of which connection?");
    let (removed, code) = place.json(&["hooks", "remove", "shop"]);
    assert_eq!((code, removed["connections"][0]["done"][0]["did"].as_str()), (0, Some("deleted")));
    assert!(place.sandbox.webhooks("shop").is_empty());

    let wrong = "consumer_secret = { file = \"secret\" }";
    place.write(&with_url.replace("consumer_secret = { env = \"SANDBOX_TOKEN\" }", wrong));
    let (none, code) = place.json(&["hooks", "list", "house", "shop"]);
    assert_eq!((code, none["error"]["code"].as_u64()), (1, Some(1)), "the only one that can be asked: {none:#}");
}

#[test]
fn the_online_check_is_part_of_the_document() {
    let place = Place::new(3);
    let (document, code) = place.json(&["check", "--online"]);
    assert_eq!(code, 0);
    assert_eq!(document["connections"].as_array().map(Vec::len), Some(2));
    let online = document["online"].as_array().expect("a list");
    assert!(online.len() == 2 && online.iter().all(|entry| entry["reached"] == true), "{document:#}");
    assert!(place.json(&["check"]).0.get("online").is_none());
    let counted: u64 = place.with_store(async |store| {
        let run = store.runs(1).await.expect("runs").pop().expect("one");
        assert_eq!((run.kind.as_str(), run.verdict.as_deref()), ("check", Some("ok")));
        store.spent(run.id).await.expect("a count").iter().map(|row| row.n).sum()
    });
    assert_eq!(counted, place.sandbox.log().len() as u64, "every call came out of the budget");
    place.sandbox.set_faults(Faults::parse("html=1").expect("a fault"));
    let (document, code) = place.json(&["check", "--online"]);
    assert_eq!((code, &document["online"][0]["error"]["kind"]), (1, &"contract".into()), "{document:#}");
}

/// The demo ends by itself, and its configuration works from another folder, also one with an odd name.
#[test]
fn the_demo_ends_with_everything_in_agreement() {
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let output = loud(folder.path())
        .args(["--json", "demo", "--once", "--dir", "a \"demo\"/here"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(writes(&document["last"]), 0, "{document:#}");
    let config = folder.path().join("a \"demo\"/here/counterpart.toml");
    let config = config.to_str().expect("text");
    let status = command(elsewhere.path()).args(["--config", config, "runs"]).output().expect("the program starts");
    assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
    assert!(stdout(&status).contains("sync"), "{}", stdout(&status));
    let files = std::fs::read_dir(elsewhere.path()).expect("a folder").count();
    assert_eq!(files, 0, "nothing is written where it was called from");
}

/// A connection has one user at a time, whoever it is; the one who comes second is told who it is and changes nothing.
#[test]
fn a_connection_in_use_is_left_alone() {
    let place = Place::new(3);
    let now = SystemClock.now();
    place.with_store(async |store| {
        let epoch = store.lease("connection:house", "another-machine:7:0", now, 3_600_000).await.expect("it opens");
        assert_eq!(epoch, Some(1));
    });
    for arguments in [vec!["sync"], vec!["plan"], vec!["connectors", "test", "house"]] {
        let output = place.run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("`house`") && said.contains("another-machine:7") && said.contains("help:"), "{said}");
    }
    assert!(place.sandbox.log().is_empty(), "nothing was asked of anybody");
    place.with_store(async |store| {
        store.release_lease("connection:house", "another-machine:7:0").await.expect("a write")
    });
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
}

/// Passes bytes on both ways. The answer to the first request that has `held` in it stays here until it is released.
struct Proxy {
    address: String,
    /// Says when that request has come.
    came: std::sync::mpsc::Receiver<()>,
    release: std::sync::mpsc::Sender<()>,
}

impl Proxy {
    fn new(to: String, held: &'static str) -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (tell, came) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel();
        let released = Arc::new(std::sync::Mutex::new(Some((tell, released))));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&to)) else { return };
                let (mut asks, mut answers) = (client.try_clone().expect("a socket"), client);
                let (mut to_server, mut from_server) = (server.try_clone().expect("a socket"), server);
                let holding: Arc<std::sync::Mutex<Option<std::sync::mpsc::Receiver<()>>>> = Arc::default();
                let (hold, released) = (holding.clone(), released.clone());
                std::thread::spawn(move || {
                    pump(&mut asks, &mut to_server, |bytes| {
                        if bytes.windows(held.len()).any(|part| part == held.as_bytes())
                            && let Some((tell, wait)) = released.lock().expect("a lock").take()
                        {
                            *hold.lock().expect("a lock") = Some(wait);
                            let _ = tell.send(());
                        }
                    });
                });
                std::thread::spawn(move || {
                    pump(&mut from_server, &mut answers, |_| {
                        if let Some(wait) = holding.lock().expect("a lock").take() {
                            let _ = wait.recv();
                        }
                    });
                });
            }
        });
        Proxy { address, came, release }
    }
}

fn pump(from: &mut TcpStream, to: &mut TcpStream, mut look: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        look(&bytes[..n]);
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Ctrl-C while a contact is being created: no further test, and the contact is deleted all the same.
#[test]
fn an_interrupted_test_of_a_connection_cleans_up() {
    let place = Place::new(3);
    let proxy = Proxy::new(place.address.clone(), "POST /house");
    place.write(&place.config().replace(&format!("{}/house", place.address), &format!("{}/house", proxy.address)));
    let mut child = loud(place.folder.path())
        .env("SANDBOX_TOKEN", TOKEN)
        .args(["--json", "connectors", "test", "house"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    proxy.came.recv().expect("a contact is created");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(interrupt.success());
    let mut said = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    assert!(said.by_ref().lines().map_while(Result::ok).any(|line| line.starts_with("stopping")));
    proxy.release.send(()).expect("it waits");
    let output = child.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!((output.status.code(), &report["interrupted"]), (Some(3), &true.into()), "{report:#}");
    assert_eq!(report["left_behind"], serde_json::json!([]));
    assert!(report["outcomes"].as_array().expect("a list").iter().any(|outcome| outcome["why"] == "interrupted"));
    assert_eq!(place.sandbox.people("house").len(), 3, "the contact is gone");
    let effects: Vec<_> = place.sandbox.log().into_iter().filter(|call| call.effect).collect();
    assert_eq!(effects.len(), 2, "one create, one delete: {effects:?}");
    assert_eq!(place.run(&["sync"]).status.code(), Some(0), "the lease was given back");
}

/// A vendor that keeps nothing of what the suite made, whole or interrupted; the budget has every call.
#[test]
fn a_connection_is_tested_under_its_budget() {
    let place = Place::new(3);
    let (report, code) = place.json(&["connectors", "test", "house"]);
    assert_eq!((code, &report["interrupted"]), (0, &false.into()), "{report:#}");
    assert_eq!(report["left_behind"], serde_json::json!([]));
    assert_eq!(place.sandbox.people("house").len(), 3);
    let made = place.sandbox.log().iter().filter(|call| call.instance == "house").count();
    let counted: u64 = place.with_store(async |store| {
        let run = store.runs(1).await.expect("runs").pop().expect("one");
        assert_eq!((run.kind.as_str(), run.verdict.as_deref()), ("conformance", Some("ok")));
        store.spent(run.id).await.expect("a count").iter().map(|row| row.n).sum()
    });
    assert_eq!(counted, made as u64, "every call came out of the budget");
    let asked = made;
    place.write(&place.config().replace("connector = \"crm\"", "connector = \"crm\"\nread_only = true"));
    assert_eq!(place.json(&["connectors", "test", "house"]).1, 0);
    assert!(place.sandbox.log().iter().skip(asked).all(|call| !call.effect), "nothing is written where it must not be");
}

#[test]
fn lists_that_are_cut_say_so() {
    let place = Place::new(8);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let known: Vec<_> = place.sandbox.people("shop").into_iter().filter_map(|person| person.email).collect();
    let shared: Vec<_> = place
        .sandbox
        .people("house")
        .into_iter()
        .filter(|person| person.email.as_ref().is_some_and(|email| known.contains(email)))
        .take(3)
        .collect();
    for person in &shared {
        let twin = place.sandbox.people("shop").into_iter().find(|other| other.email == person.email).expect("known");
        place.sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some("House & Co"));
        place.sandbox.edit(1_800_000_000_000, "shop", &twin.id, "company", Some("Shop & Co"));
    }
    assert_eq!(place.run(&["sync"]).status.code(), Some(3));

    let (all, _) = place.json(&["conflicts", "list"]);
    let ids: Vec<i64> =
        all["conflicts"].as_array().expect("a list").iter().filter_map(|entry| entry["id"].as_i64()).collect();
    assert_eq!((ids.len(), &all["more"]), (3, &0.into()));
    let (cut, _) = place.json(&["conflicts", "list", "--limit", "2"]);
    assert_eq!((cut["conflicts"].as_array().map(Vec::len), &cut["more"]), (Some(2), &1.into()));
    let (rest, _) = place.json(&["conflicts", "list", "--limit", "2", "--after", &ids[1].to_string()]);
    assert_eq!((&rest["conflicts"][0]["id"], &rest["more"]), (&ids[2].into(), &0.into()));
    let said = stdout(&place.run(&["conflicts", "list", "--limit", "2"]));
    assert!(said.contains(&format!("1 more; --limit N shows more at once, --after {}", ids[1])), "{said}");
    assert!(!stdout(&place.run(&["conflicts", "list"])).contains("more;"));

    let said = stdout(&place.run(&["runs", "list", "--limit", "1"]));
    assert!(said.contains("1 more;") && said.contains("--after 2 "), "{said}");
    let (older, _) = place.json(&["runs", "list", "--after", "2"]);
    assert_eq!((&older["runs"][0]["run"], &older["more"]), (&1.into(), &0.into()), "{older:#}");

    let (whole, _) = place.json(&["runs", "show", "1"]);
    let operations = whole["operations"].as_array().expect("a list");
    assert_eq!((operations.len(), &whole["more"]), (4, &0.into()));
    let (cut, _) = place.json(&["runs", "show", "1", "--limit", "3"]);
    assert_eq!((cut["operations"].as_array().map(Vec::len), &cut["more"]), (Some(3), &1.into()));
    let last = operations[2]["id"].as_str().expect("text");
    let (rest, _) = place.json(&["runs", "show", "1", "--after", last]);
    assert_eq!((&rest["operations"][0]["id"], &rest["more"]), (&operations[3]["id"], &0.into()));
    let said = stdout(&place.run(&["runs", "show", "1", "--limit", "3"]));
    assert!(said.contains("1 more;") && said.contains(last), "{said}");
}

#[test]
fn quiet_leaves_results_and_errors_only() {
    let place = Place::new(6);
    let output = place.run(&["sync"]);
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
    assert!(stdout(&output).contains("created"), "{}", stdout(&output));
    let output = place.run(&["sync", "stars"]);
    assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    // A far end that is down is told by the result; the warning beside it is not.
    place.sandbox.set_faults(Faults::parse("html=1").expect("a fault"));
    let output = place.run(&["sync"]);
    assert!(output.stderr.is_empty() && output.status.code() == Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("is base_url right"), "{}", stdout(&output));
    assert!(!place.run_loud(&["sync"]).stderr.is_empty());
}

#[test]
fn colors_come_when_asked_for() {
    let place = Place::new(3);
    const ESCAPE: char = '\u{1b}';
    let colored = |arguments: &[&str]| {
        let output = place.run(arguments);
        (stdout(&output).contains(ESCAPE), stderr(&output).contains(ESCAPE))
    };
    assert_eq!(colored(&["sync"]), (false, false), "a pipe is no terminal");
    assert_eq!(colored(&["--color", "always", "sync"]), (true, false));
    assert_eq!(colored(&["--color=always", "sync", "stars"]), (false, true));
    assert_eq!(colored(&["--color", "always", "nonsense"]), (false, true), "mistakes in the arguments too");
    assert_eq!(colored(&["--color", "never", "nonsense"]), (false, false));
    assert_eq!(colored(&["--color", "always", "--json", "status"]), (false, false), "a document has none");
}

/// A failure ends with the way out.
#[test]
fn every_failure_has_a_way_out() {
    let place = Place::new(3);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    for arguments in [
        vec!["sync", "stars"],
        vec!["explain", "person", "nobody@example.test"],
        vec!["explain", "planet", "7"],
        vec!["conflicts", "show", "99"],
        vec!["conflicts", "resolve", "99", "--done"],
        vec!["runs", "show", "99"],
        vec!["revert", "99"],
        vec!["connectors", "telegraph"],
        vec!["connectors", "test"],
        vec!["connectors", "test", "telegraph"],
        vec!["apply", "nothing.json"],
        vec!["plan", "--out", "no/such/folder/plan.json"],
        vec!["init", "--yes"],
        vec!["--config", "no/such/folder/counterpart.toml", "init", "--yes"],
        vec!["--config", "nowhere.toml", "check"],
        vec!["sandbox", "--listen", "nowhere"],
        vec!["sandbox", "--faults", "gravity"],
        vec!["demo", "--once", "--dir", "counterpart.toml"],
    ] {
        let output = place.run(&arguments);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {:?}", output.status);
        let said = stderr(&output);
        assert!(said.starts_with("error: ") && said.contains("help: "), "{arguments:?}: {said}");
    }
}

/// What is shown beside a mistake: the line, and a caret below the column, tabs or not.
#[test]
fn the_line_of_a_mistake_is_shown() {
    let place = Place::new(1);
    place.write(&place.config().replace("kind = \"contact\"", "\tkind = \"planet\""));
    let said = stderr(&place.run(&["check"]));
    assert!(said.contains("counterpart.toml:17:2: "), "{said}");
    assert!(said.contains("  17 | \tkind = \"planet\"\n     | \t^\n"), "{said}");
}

/// What a connector says about its settings stands where the setting does, beside mistakes of other kinds.
#[test]
fn all_mistakes_of_a_check_have_a_place() {
    let place = Place::new(1);
    let shop = format!("http://{}/shop", place.address);
    let config = place.config().replace(&shop, "http://shop.example");
    place.write(&config.replace("connector = \"crm\"", "connector = \"crm\"\nmapping = \"none.toml\""));
    let output = place.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("has 2 mistakes") && said.contains("none.toml:1:1: "), "{said}");
    assert!(said.contains("counterpart.toml:12:1: connection `shop`: `base_url` is plain http"), "{said}");
    assert!(said.contains("  12 | base_url = \"http://shop.example\"\n     | ^\n"), "{said}");
}

/// Where traces go is checked like everything else; a build that cannot send any says so and how to get one that can.
#[test]
fn mistakes_about_traces_have_a_place() {
    let place = Place::new(1);
    let more = "[telemetry]\notlp = \"collector:4318\"\nheaders = { authorization = \"clear\", \"a b\" = { env = \"NOWHERE\" } }\n";
    place.write(&(place.config() + more));
    let output = place.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    for mistake in [
        "`collector:4318` is no address of a collector",
        "header `authorization` may be a secret and stands here in clear",
        "`a b` is no name of a header",
        "header `a b`: the environment variable NOWHERE is not set",
    ] {
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
    place.write(&(place.config() + "[telemetry]\notlp = \"http://127.0.0.1:4318\"\n"));
    let output = place.run(&["check"]);
    if cfg!(feature = "otlp") {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    } else {
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains("this build sends no traces") && said.contains("--features otlp"), "{said}");
    }
}

/// A connector of the operator's own, in either of the two places.
#[test]
fn own_connectors_are_described_and_checked() {
    for file in ["own/mine/connector.toml", "own/mine.toml"] {
        let place = Place::new(1);
        std::fs::create_dir_all(place.folder.path().join("own/mine")).expect("a folder");
        let facts = include_str!("../../connectors/crm/connector.toml").replace("name = \"crm\"", "name = \"mine\"");
        std::fs::write(place.folder.path().join(file), &facts).expect("a file");
        let mapping = include_str!("../../mappings/contact/crm.toml").replace("\"crm\"", "\"mine\"");
        std::fs::write(place.folder.path().join("mine.toml"), mapping).expect("a file");
        let config = place.config().replace("connector = \"crm\"", "connector = \"mine\"\nmapping = \"mine.toml\"");
        place.write(&format!("connectors_dir = \"own\"\n\n{config}"));
        assert_eq!(place.run(&["check"]).status.code(), Some(0), "{file}: {}", stderr(&place.run(&["check"])));
        let (described, code) = place.json(&["connectors", "mine"]);
        assert_eq!((code, &described[0]["name"]), (0, &"mine".into()), "{file}: {described:#}");
        assert_eq!(place.run(&["sync"]).status.code(), Some(0), "{file}");
        std::fs::write(place.folder.path().join(file), facts.replace("format = 1", "format = 9")).expect("a file");
        let output = place.run(&["connectors", "mine"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(&format!("{file}:")), "{}", stderr(&output));
    }
}

#[test]
fn short_times_are_told_in_words() {
    let place = Place::new(1);
    for arguments in [["check"], ["sync"]] {
        let said = stdout(&place.run(&arguments));
        assert!(!said.contains(" 0 ms") && !said.contains(" ms"), "{said}");
    }
    assert!(stdout(&place.run(&["check"])).contains("in 60 s"));
}

#[test]
fn a_long_reason_stands_below_the_table() {
    let place = Place::new(3);
    place.sandbox.set_faults(Faults::parse("html=1").expect("a fault"));
    let said = stdout(&place.run(&["sync"]));
    let table: Vec<&str> = said.lines().filter(|line| line.contains("──")).collect();
    assert!(table.iter().all(|line| line.chars().count() < 80), "{said}");
    assert_eq!(said.matches("house: ").count(), 1, "{said}");
}

#[test]
fn an_explanation_holds_the_last_writes() {
    let place = Place::new(6);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let person = place.sandbox.people("house")[4].clone();
    place.sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some("Elsewhere"));
    let (report, _) = place.json(&["sync"]);
    assert_eq!(writes(&report), 1);
    let email = person.email.expect("an address");
    let (explained, _) = place.json(&["explain", "person", &email]);
    let write = &explained["writes"][0];
    assert_eq!((&write["run"], &write["connection"]), (&report["run"], &"shop".into()), "{explained:#}");
    assert_eq!((&write["action"], &write["state"]), (&"update".into(), &"done".into()));
    assert!(write["fields"].get("company").is_some() && write["error"].is_null(), "{write:#}");
    assert!(stdout(&place.run(&["explain", "person", &email])).contains("update at shop (company): done"));
}

/// Mistakes in a mapping have a place, wherever they are met.
#[test]
fn mistakes_in_a_mapping_have_a_place() {
    let place = Place::new(1);
    let shipped = include_str!("../../mappings/contact/crm.toml");
    let mine = format!("{shipped}shoe_size = {{ remote = \"/shoe\" }}\n");
    std::fs::write(place.folder.path().join("mine.toml"), mine).expect("a file");
    let line = shipped.lines().count() + 1;
    place.write(&place.config().replace("connector = \"crm\"", "connector = \"crm\"\nmapping = \"mine.toml\""));
    for arguments in [["check"], ["sync"], ["plan"]] {
        let output = place.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(&format!("mine.toml:{line}:")) && said.contains("shoe_size"), "{said}");
        assert!(said.contains("help: ") && said.contains("^\n"), "{said}");
    }
    let (document, _) = place.json(&["check"]);
    assert_eq!(document["error"]["problems"][0]["line"], line, "{document:#}");
    assert!(place.sandbox.log().is_empty());
}

/// Far ends that are not there, are something else, or refuse: a clear word, no panic, and afterwards nothing is lost.
#[test]
fn far_ends_that_fail_cost_nothing() {
    let place = Place::new(6);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let good = place.config();
    let people = |name: &str| place.sandbox.people(name);
    let before = (people("house"), people("shop"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let shop = format!("http://{}/shop", place.address);
    let key = "consumer_key = { env = \"SANDBOX_TOKEN\" }";
    let refused = place.folder.path().join("refused");
    std::fs::write(&refused, "not the key").expect("a file");
    for (config, expected, code) in [
        (good.replace(&shop, &format!("http://{closed}/shop")), "shop: ", 3),
        (good.replace(&shop, &format!("http://{}/nobody", place.address)), "404", 3),
        (good.replace(&shop, "shop.example"), "`base_url` is not an address", 2),
        (good.replace(&shop, "http://shop.example"), "plain http", 2),
        (good.replace(key, &format!("consumer_key = {{ file = \"{}\" }}", refused.display())), "401", 3),
    ] {
        place.write(&config);
        let output = place.run(&["sync"]);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{expected}: {said}");
        assert!(said.contains(expected) && !said.contains("panicked"), "{expected}: {said}");
        let check = place.run(&["check", "--online"]);
        assert!(matches!(check.status.code(), Some(1 | 2)), "{}{}", stdout(&check), stderr(&check));
    }
    assert_eq!((people("house"), people("shop")), before);
    place.write(&good);
    let (report, code) = place.json(&["sync"]);
    assert_eq!((writes(&report), code), (0, 0), "{report:#}");
}

#[test]
fn a_store_of_a_newer_program_is_not_touched() {
    let place = Place::new(1);
    place.with_store(async |store| store.close().await.expect("it closes"));
    let url = format!("sqlite://{}/counterpart.db", place.folder.path().display());
    place.runtime.block_on(async {
        let raw = sea_orm::Database::connect(&url).await.expect("it opens");
        let newer = "INSERT INTO seaql_migrations VALUES ('m29990101_000001_from_the_future', 1)";
        sea_orm::ConnectionTrait::execute_unprepared(&raw, newer).await.expect("a row");
    });
    for arguments in [vec!["sync"], vec!["status"], vec!["migrate"]] {
        let output = place.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("newer") && said.contains("from_the_future") && said.contains("help:"), "{said}");
    }
    assert!(place.sandbox.log().is_empty());
}

/// Somebody else writes for longer than a run waits (five seconds of the program's own time).
#[test]
fn a_locked_store_is_told_clearly() {
    let place = Place::new(1);
    place.with_store(async |store| store.close().await.expect("it closes"));
    let mut options =
        sea_orm::ConnectOptions::new(format!("sqlite://{}/counterpart.db", place.folder.path().display()));
    options.max_connections(1);
    let holder = place.runtime.block_on(async {
        let raw = sea_orm::Database::connect(options).await.expect("it opens");
        sea_orm::ConnectionTrait::execute_unprepared(&raw, "BEGIN IMMEDIATE").await.expect("a lock");
        raw
    });
    let output = place.run(&["sync"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("locked") && stderr(&output).contains("help:"), "{}", stderr(&output));
    place.runtime.block_on(async {
        sea_orm::ConnectionTrait::execute_unprepared(&holder, "ROLLBACK").await.expect("no lock");
    });
    assert_eq!(place.run(&["sync"]).status.code(), Some(0), "it works again at once");
}

/// A connection whose calls are counted for a day, so that what is left does not depend on when one looks.
fn counted_by_the_day(place: &Place) {
    let own = place.folder.path().join("own/crm");
    std::fs::create_dir_all(&own).expect("a folder");
    let facts = include_str!("../../connectors/crm/connector.toml").replace("per = \"60s\"", "per = \"1d\"");
    std::fs::write(own.join("connector.toml"), facts).expect("a file");
    let config = format!("connectors_dir = \"own\"\n\n{}", place.config());
    place.write(&config.replace("connector = \"crm\"", "connector = \"crm\"\nrequests_per_minute = 100000"));
}

#[test]
fn status_tells_where_everything_stands() {
    let place = Place::new(10);
    counted_by_the_day(&place);
    let (status, code) = place.json(&["status"]);
    assert_eq!(code, 3, "nothing was ever read: {status:#}");
    assert_eq!(status["connections"][0]["coverage"]["complete"], false);
    assert!(status["connections"][0]["yield"].is_null() && status["last_run"].is_null());

    let (report, _) = place.json(&["sync"]);
    let (status, code) = place.json(&["status"]);
    assert_eq!((code, &status["degraded"]), (0, &serde_json::json!([])), "{status:#}");
    let house = &status["connections"][0];
    assert_eq!((&house["connection"], &house["records"], &house["linked"]), (&"house".into(), &13.into(), &13.into()));
    assert_eq!(house["coverage"], serde_json::json!({ "complete": true, "seen": 10, "announced": 10 }));
    assert!(house["last_complete"].is_i64() && house["age_ms"].is_i64() && house["last_read"].is_i64(), "{house:#}");
    let calls = &report["syncs"][0]["calls"]["house"];
    let brought = &house["yield"];
    assert_eq!((&brought["run"], &brought["calls"], &brought["complete"]), (&report["run"], calls, &true.into()));
    assert_eq!((&brought["read"], &brought["changed"]), (&10.into(), &10.into()));
    let budget = &house["budget"][0];
    assert_eq!(
        (&budget["class"], &budget["per_ms"], &budget["limit"]),
        (&"all".into(), &86_400_000.into(), &100_000.into())
    );
    assert_eq!(budget["left"].as_i64(), calls.as_i64().map(|calls| 100_000 - calls), "{budget:#}");
    let sync = &status["syncs"][0];
    assert_eq!((&sync["sync"], &sync["last_run"]["verdict"]), (&"people".into(), &"ok".into()));
    assert_eq!((&sync["wrote"]["created"], &sync["missed"]), (&6.into(), &false.into()), "{sync:#}");
    let said = stdout(&place.run(&["status"]));
    for word in ["whole, 10", "10 changed of 10 read", "24 h", "all is well", "no schedule"] {
        assert!(said.contains(word), "{word}: {said}");
    }

    let house = place.sandbox.people("house")[5].clone();
    let shop = place.sandbox.people("shop").into_iter().find(|other| other.email == house.email).expect("known there");
    place.sandbox.edit(1_800_000_000_000, "house", &house.id, "company", Some("House & Co"));
    place.sandbox.edit(1_800_000_000_000, "shop", &shop.id, "company", Some("Shop & Co"));
    assert_eq!(place.json(&["sync"]).1, 3);
    let (status, code) = place.json(&["status"]);
    let open = serde_json::json!({ "field": 1 });
    assert_eq!((code, &status["queue"], &status["syncs"][0]["queue"]), (3, &open, &open), "{status:#}");
    assert_eq!((&status["connections"][0]["queue"], &status["connections"][1]["queue"]), (&open, &open));
    assert!(stdout(&place.run(&["status"])).contains("degraded: waiting for a person: 1 field"));
}

#[test]
fn status_is_degraded_when_a_stream_was_cut() {
    let place = Place::new(6);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let good = place.config();
    place.write(&good.replace(&format!("{}/shop", place.address), &format!("{}/nobody", place.address)));
    assert_eq!(place.run(&["sync"]).status.code(), Some(3));
    let (status, code) = place.json(&["status"]);
    let reasons = status["degraded"].to_string();
    assert!(code == 3 && reasons.contains("shop was not read completely in run 2"), "{status:#}");
    assert_eq!(status["connections"][1]["yield"]["complete"], false);
    place.write(&good);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    assert_eq!(place.json(&["status"]).1, 0);
}

/// A schedule counts when there is one: more than one whole interval without a run is too long.
#[test]
fn r54_status_knows_a_missed_schedule() {
    let place = Place::new(3);
    let good = place.config();
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let yearly = format!("{good}schedule = \"0 0 1 1 *\"\n");
    place.write(&yearly);
    let (status, code) = place.json(&["status"]);
    assert_eq!((code, &status["syncs"][0]["missed"]), (0, &false.into()), "{status:#}");
    assert!(status["syncs"][0]["next_at"].is_i64());
    // The last run, as it was, two hours and three years ago.
    let run_at = |at: i64| {
        place.with_store(async |store| {
            let told = store.runs(1).await.expect("runs").pop().expect("one");
            let run = store.start_run("sync", &["people".to_owned()], "", at).await.expect("a run");
            store.finish_run(run, "ok", &told.summary, at + 1000).await.expect("its end");
            store.close().await.expect("it closes");
        });
    };
    run_at(SystemClock.now() - 7_200_000);
    place.write(&format!("{good}schedule = \"* * * * *\"\n"));
    let (status, code) = place.json(&["status"]);
    assert_eq!((code, &status["syncs"][0]["missed"]), (3, &true.into()), "{status:#}");
    assert!(status["degraded"].to_string().contains("missed its schedule"), "{status:#}");
    place.write(&yearly);
    assert_eq!(place.json(&["status"]).1, 0);
    run_at(SystemClock.now() - 3 * 366 * 86_400_000);
    assert_eq!(place.json(&["status"]).1, 3);
    place.write(&good);
    assert_eq!(place.json(&["status"]).1, 0, "without a schedule nothing is missed");
}

/// A run that died is told from one that works.
#[test]
fn status_tells_the_living_from_the_dead() {
    let place = Place::new(3);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let now = SystemClock.now();
    place.with_store(async |store| {
        store.start_run("sync", &["people".to_owned()], "", now).await.expect("a run");
        store.lease("connection:house", "another-machine:7:0", now, 3_600_000).await.expect("a write");
    });
    let (status, code) = place.json(&["status"]);
    assert_eq!((code, &status["connections"][0]["in_use_by"]), (0, &"another-machine:7:0".into()), "{status:#}");
    assert!(status["syncs"][0]["last_run"]["verdict"].is_null());
    assert_eq!(status["connections"][0]["yield"]["run"], 1, "what the last finished run brought");
    let said = stdout(&place.run(&["status"]));
    assert!(said.contains("house is in use by another-machine:7:0") && said.contains("under way"), "{said}");
    place.with_store(async |store| {
        store.release_lease("connection:house", "another-machine:7:0").await.expect("a write")
    });
    let (status, code) = place.json(&["status"]);
    assert!(code == 3 && status["degraded"].to_string().contains("ended without a word"), "{status:#}");
}

/// Every field that was not written to a side has its reason: what the mapping lets through, what waits, and what stands between
/// the merge and a write.
#[test]
fn an_explanation_says_why_a_field_was_left_alone() {
    let place = Place::new(6);
    let mapping = include_str!("../../mappings/contact/woocommerce.toml");
    let company = "company = { remote = \"/billing/company\", cleared = \"empty\" }";
    assert!(mapping.contains(company));
    let mapping = mapping.replace(company, "company = { remote = \"/billing/company\", direction = \"in\" }");
    std::fs::write(place.folder.path().join("shop.toml"), mapping).expect("a file");
    let config =
        place.config().replace("connector = \"woocommerce\"", "connector = \"woocommerce\"\nmapping = \"shop.toml\"");
    place.write(&config);
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let person = place.sandbox.people("house")[4].clone();
    let email = person.email.clone().expect("an address");
    let left = |place: &Place| {
        let (explained, code) = place.json(&["explain", "person", &email]);
        assert_eq!(code, 0, "{explained:#}");
        let records = explained["records"].as_array().expect("records").clone();
        let of = |record: &Value| record["left_alone"].as_array().expect("a list").clone();
        records.iter().flat_map(of).collect::<Vec<Value>>()
    };
    let why = |left: &[Value], field: &str| {
        let found = left.iter().find(|entry| entry["field"] == field);
        found.map_or(String::new(), |entry| entry["why"].as_str().expect("a reason").to_owned())
    };

    // One way only.
    place.sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some("Elsewhere"));
    place.run(&["sync"]);
    assert_eq!(why(&left(&place), "company"), "its mapping reads it and never writes it");
    let said = stdout(&place.run(&["explain", "person", &email]));
    assert!(said.contains("left alone: company: its mapping reads it and never writes it"), "{said}");

    // A guard, then a connection that is never written to: decided by the merge, and not carried out.
    place.sandbox.edit(1_800_000_100_000, "house", &person.id, "phone", Some("+46701112233"));
    place.write(&format!("{config}guard = {{ max_updates = \"0\" }}\n"));
    let (report, code) = place.json(&["sync"]);
    assert_eq!(code, 4, "{report:#}");
    assert_eq!(why(&left(&place), "phone"), format!("a guard stopped run {} before it was written", report["run"]));
    place.write(&config.replace("[connections.shop]", "[connections.shop]\nread_only = true"));
    assert_eq!(why(&left(&place), "phone"), "its connection is `read_only`");
    place.write(&config);
    place.run(&["sync"]);
    assert_eq!(why(&left(&place), "phone"), "", "it is there now");

    // Two opinions wait for a person, and the entry is named.
    let buyer = place.sandbox.people("shop").into_iter().find(|buyer| buyer.email.as_deref() == Some(&email));
    let buyer = buyer.expect("the same person");
    place.sandbox.edit(1_800_000_200_000, "house", &person.id, "phone", Some("+46701112244"));
    place.sandbox.edit(1_800_000_200_000, "shop", &buyer.id, "phone", Some("+46701112255"));
    place.run(&["sync"]);
    let waiting = left(&place);
    let (queue, _) = place.json(&["conflicts", "list"]);
    let entries: Vec<&Value> = waiting.iter().filter(|entry| entry["field"] == "phone").collect();
    assert_eq!(entries.len(), 2, "{waiting:#?}");
    for entry in entries {
        assert_eq!(entry["why"], "it waits for a person to decide");
        assert_eq!(entry["conflict"], queue["conflicts"][0]["id"], "{queue:#}");
    }
}

/// The flows that docs/flows.md begins with are taken as they stand there.
#[test]
fn the_documented_flows_are_taken() {
    let document = include_str!("../../docs/flows.md");
    let samples: Vec<&str> = document.split("```toml\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    let flows: String = samples.iter().filter(|sample| sample.starts_with("[[flows]]")).copied().collect();
    assert_eq!(flows.matches("[[flows]]").count(), 4);
    let place = Place::new(1);
    let folder = place.folder.path();
    std::fs::create_dir(folder.join("messages")).expect("a folder");
    let text = "event = \"conversation.resolved\"\n---\nChat {{ conversation.id }}\nIt ended.\n";
    std::fs::write(folder.join("messages/chat-ticket.en.txt"), text).expect("a text");
    let token = "{ env = \"SANDBOX_TOKEN\" }";
    let others = format!(
        "\n[connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://127.0.0.1:9\"\naccount_id = 1\n\
         api_access_token = {token}\n\n[connections.desk]\nconnector = \"rt\"\nbase_url = \"http://127.0.0.1:9\"\n\
         queue = \"General\"\ntoken = {token}\n\n"
    );
    place.write(&format!("mappings_dir = \".\"\n{}{others}{flows}", place.config()));
    let (report, code) = place.json(&["check"]);
    assert_eq!(code, 0, "{report:#}");
}

/// What every connection takes, whatever its connector says.
#[test]
fn settings_of_every_connection_are_taken() {
    let place = Place::new(1);
    let kit = "connector = \"crm\"\nauth = \"bearer\"\nallow_http = true\nbudget_account = \"ours\"";
    let config = place.config().replace("connector = \"crm\"", kit);
    assert!(config.contains(kit));
    place.write(&config);
    let (report, code) = place.json(&["check"]);
    assert_eq!(code, 0, "{report:#}");
}

/// Keys that nobody knows, values of the wrong type and what is missing are told together, each with its place, and so is
/// what is wrong besides.
#[test]
fn unknown_keys_come_all_at_once() {
    let place = Place::new(1);
    let config = place
        .config()
        .replace("[store]", "[store]\ncolour = 1")
        .replace("connector = \"crm\"", "connector = \"crm\"\nreadonly = true")
        .replace(
            "conflict = {",
            "shedule = \"0 2 * * *\"\nguard = { max_delete = \"1%\", emptied = false }\nconflict = {",
        )
        + "\n[[syncs]]\nname = \"more\"\nkind = \"contact\"\nbetween = [\"house\", \"shop\"]\nsurprise = 1\n\n\
           [serve]\nlisten = \"nowhere\"\n";
    let told = |config: &str| {
        place.write(config);
        let (report, code) = place.json(&["check"]);
        assert_eq!(code, 2, "{report:#}");
        let problems = report["error"]["problems"].as_array().expect("a list of problems").clone();
        let line = |p: &Value| {
            let text = |key: &str| p[key].as_str().expect("a text").to_owned();
            (format!("{}:{} {}", p["line"], p["column"], text("message")), text("help"))
        };
        problems.iter().map(line).collect::<Vec<(String, String)>>()
    };
    let found = told(&config);
    let expected = [
        ("2:1 `store.colour`: unknown field", "known here are url"),
        ("7:1 connector `crm` has no setting `readonly`", "did you mean `read_only`?"),
        ("21:1 `syncs.0.shedule`: unknown field", "did you mean `schedule`?"),
        ("22:11 `syncs.0.guard.max_delete`: unknown field", "did you mean `max_deletes`?"),
        ("29:1 `syncs.1.surprise`: unknown field", "known here are name"),
        ("32:1 `nowhere` is no address with a port", "write `127.0.0.1:8787`"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((message, help), (wanted, way_out)) in found.iter().zip(expected) {
        assert!(message == wanted && help.starts_with(way_out), "{message} ({help}), not {wanted} ({way_out})");
    }

    // What cannot be read hides none of them, and what is missing for that reason alone is not told.
    let broken = config
        .replace("name = \"people\"", "name = [\"people\"]")
        .replace("name = \"more\"\n", "")
        .replace("listen = \"nowhere\"", "poll = 60");
    let found: Vec<String> = told(&broken).into_iter().map(|(message, _)| message).collect();
    assert_eq!(found.len(), 7, "{found:#?}");
    let begins = [
        "2:1 `store.colour`",
        "18:1 `syncs.0.name`: invalid type",
        "21:1 `syncs.0.shedule`",
        "22:11 `syncs.0.guard.max_delete`",
        "25:1 `syncs.1`: missing field `name`",
        "28:1 `syncs.1.surprise`",
        "31:1 `serve.poll`: invalid type",
    ];
    for (found, begin) in found.iter().zip(begins) {
        assert!(found.starts_with(begin), "{found:?} is not {begin}");
    }
}

/// Given a configuration that is named from another folder, as cron does, then its database, secrets, mappings and texts are
/// those beside it; a path from the environment follows the working directory.
#[test]
fn relative_paths_begin_at_the_files_folder() {
    let place = Place::new(3);
    let folder = place.folder.path();
    let mapping = include_str!("../../mappings/contact/woocommerce.toml");
    for dir in ["secrets", "own/mine", "texts/messages"] {
        std::fs::create_dir_all(folder.join(dir)).expect("a folder");
    }
    let facts = counterpart_connectors::manifest_source("crm").expect("it is shipped");
    std::fs::write(folder.join("own/mine/connector.toml"), facts.replace("name = \"crm\"", "name = \"mine\""))
        .expect("a file");
    let house = include_str!("../../mappings/contact/crm.toml").replace("connector = \"crm\"", "connector = \"mine\"");
    std::fs::write(folder.join("own/mine/contact.toml"), house).expect("a file");
    std::fs::write(folder.join("secrets/token"), format!("{TOKEN}\n")).expect("a file");
    std::fs::write(folder.join("shop.toml"), mapping).expect("a file");
    let config = place
        .config()
        .replace(&format!("sqlite://{}/counterpart.db", folder.display()), "sqlite://state.db")
        .replace("{ env = \"SANDBOX_TOKEN\" }", "{ file = \"secrets/token\" }")
        .replace("connector = \"woocommerce\"", "connector = \"woocommerce\"\nmapping = \"shop.toml\"")
        .replace("connector = \"crm\"", "connector = \"mine\"");
    place.write(&format!("connectors_dir = \"own\"\nmappings_dir = \"texts\"\n{config}"));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let file = folder.join("counterpart.toml").display().to_string();
    let from = |at: &Path| {
        let mut command = command(at);
        command.args(["--config", &file]);
        command
    };
    let synced = from(elsewhere.path()).arg("sync").output().expect("the program starts");
    assert_eq!(synced.status.code(), Some(0), "{}", stderr(&synced));
    assert!(folder.join("state.db").is_file());
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("it is there").count(), 0);
    // From the folder itself, and by a relative name, it is the same database.
    let inside = command(folder).args(["--json", "runs", "list"]).output().expect("the program starts");
    let above = command(folder.parent().expect("a folder"))
        .arg("--config")
        .arg(Path::new(folder.file_name().expect("a name")).join("counterpart.toml"))
        .args(["--json", "runs", "list"])
        .output()
        .expect("the program starts");
    for output in [inside, above] {
        let runs: Value = serde_json::from_slice(&output.stdout).expect("a document");
        assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs:#}");
    }
    let mine = from(elsewhere.path())
        .env("COUNTERPART__STORE__URL", "sqlite://mine.db")
        .arg("migrate")
        .output()
        .expect("the program starts");
    assert_eq!(mine.status.code(), Some(0), "{}", stderr(&mine));
    assert!(elsewhere.path().join("mine.db").is_file() && !folder.join("mine.db").exists());
}

#[test]
fn an_audit_is_told_of_until_it_is_over() {
    let place = Place::new(40);
    place.write(&place.config().replace("conflict =", "create = []\nconflict ="));
    place.sandbox.set_faults(Faults::parse("omit=0.5").expect("a fault"));
    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let (before, code) = place.json(&["status"]);
    assert_eq!((&before["audits"], code), (&serde_json::json!([]), 0), "{before:#}");
    let (status, code) = place.json(&["status", "--audit", "10"]);
    assert_eq!(code, 3, "{status:#}");
    let shop = status["audits"].as_array().expect("a list").iter().find(|audit| audit["connection"] == "shop");
    let shop = shop.expect("an audit of the shop");
    let lost = shop["lost"].as_array().expect("a list");
    assert!(shop["asked"] == 10 && !lost.is_empty() && shop["share"].as_f64() < Some(1.0), "{shop:#}");
    assert!(
        shop["low"].as_f64() < shop["share"].as_f64() && shop["share"].as_f64() < shop["high"].as_f64(),
        "{shop:#}"
    );
    let said = stdout(&place.run(&["status"]));
    for expected in ["audit of shop", "% are known here", "not known here: shop/", "found by the address of house/"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(said.contains("degraded: shop has people whom its lists do not show"), "{said}");
    for wrong in ["0", "many", "10001"] {
        assert_eq!(place.run(&["status", "--audit", wrong]).status.code(), Some(2), "{wrong}");
    }
    place.sandbox.set_faults(Faults::none());
    let (status, code) = place.json(&["status", "--audit", "10"]);
    assert_eq!(code, 3, "who is found is not known by that: {status:#}");
}

/// The errors of a configuration go to journals: they name what is wrong with a secret and show nothing of it.
#[test]
fn a_secret_in_clear_is_not_quoted() {
    let place = Place::new(1);
    let good = place.config();
    let shop = format!("http://{}/shop", place.address);
    let reference = "consumer_key = { env = \"SANDBOX_TOKEN\" }";
    for (config, expected) in [
        (good.replace(reference, "consumer_key = \"hunter3\""), "  12 | consumer_key = …"),
        (good.replace(reference, "consumer_key = [\"hunter3\"]"), "  12 | consumer_key = …"),
        (good.replace(reference, "consumer_kye = \"hunter3\""), "  12 | consumer_kye = …"),
        (good.replace(reference, "consumer_key = \"hunter3"), "  12 | consumer_key =…"),
        (good.replace(&shop, "http://ann:hunter3@shop.example"), "  11 | base_url = \"http://…@shop.example\""),
        (good.replace("[store]", "[store]\npassword = \"hunter3\""), "  2 | password = …"),
        (good.replace("url = \"sqlite:", "url = \"mysql://ann:hunter3@host\"\n#"), "  2 | url = \"mysql://…@host\""),
        (format!("{good}[telemetry]\notlp = \"x\"\nheaders = {{ key = \"hunter3\" }}\n"), "headers = { key = … }"),
        (
            format!("{good}[telemetry]\notlp = \"http://ann:hunter3@host\"\n"),
            "`http://…@host` is no address of a collector",
        ),
    ] {
        place.write(&config);
        let output = place.run(&["check"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains("hunter3"), "{expected}: {said}");
        assert!(!place.json(&["check"]).0.to_string().contains("hunter3"));
    }
    place.write(&good.replace(reference, "consumer_key = { env = \"SANDBOX_TOKEN\", file = \"key\" }"));
    let said = stderr(&place.run(&["check"]));
    assert!(said.contains("`consumer_key` of connection `shop`: a secret stands in one place"), "{said}");
    assert!(!said.contains("in clear"), "{said}");
}

/// Numbers are taken as numbers and as texts, where both mean the same.
#[test]
fn numbers_need_no_quotation_marks() {
    let place = Place::new(1);
    let chat = "\n[connections.chat]\nconnector = \"chatwoot\"\naccount_id = 1\ninbox_id = 1\n\
                api_access_token = { env = \"SANDBOX_TOKEN\" }\n";
    for guard in ["{ max_creates = 1, max_updates = \"500\", max_deletes = \"5%\" }", "{ max_creates = \"1\" }"] {
        place.write(&format!("{}guard = {guard}\n{chat}", place.config()));
        let output = place.run(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    for (guard, expected) in [
        ("{ max_creates = -1 }", "`-1` is neither a number (`500`) nor a share"),
        ("{ max_creates = 0.5 }", "expected a number such as 500 or a share such as \"5%\""),
    ] {
        place.write(&format!("{}guard = {guard}\n", place.config()));
        let said = stderr(&place.run(&["check"]));
        assert!(said.contains("counterpart.toml:20:") && said.contains(expected), "{said}");
    }
}

/// What cannot work is said by `check`, not by the command that comes after it.
#[test]
fn check_finds_what_would_fail_later() {
    let place = Place::new(1);
    let good = place.config();
    let folder = place.folder.path().display().to_string();
    let store = format!("sqlite://{folder}/counterpart.db");
    let named =
        |name: &str| good.replace("[connections.shop]", &format!("[connections.{name}]")).replace("\"shop\"", name);
    for (config, expected) in [
        (format!("connectors_dir = \"nodir\"\n{good}"), "counterpart.toml:1:1: there is no such folder"),
        (good.replace(&store, "sqlite://"), "counterpart.toml:2:1: store.url \"sqlite://\" cannot be used"),
        (good.replace(&store, "sqlite://no/such/x.db"), "no/such for the store does not exist"),
        (named("\"\""), "`` is no name of a connection"),
        (named("\"..\""), "`..` is no name of a connection"),
        (named("\"x/y\""), "`x/y` is no name of a connection"),
    ] {
        place.write(&config);
        let output = place.run(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{expected}");
        assert!(stderr(&output).contains(expected), "{expected}: {}", stderr(&output));
    }
    place.write(&named("\"büro-2.b\""));
    assert_eq!(place.run(&["check"]).status.code(), Some(0));
}

/// A connector of the operator's own is checked before a connection uses it, and is among those that are listed.
#[test]
fn connectors_that_nobody_uses_yet_are_checked_and_listed() {
    let place = Place::new(1);
    for name in ["mine", "broken"] {
        let facts = include_str!("../../connectors/crm/connector.toml")
            .replace("name = \"crm\"", &format!("name = \"{name}\""));
        let facts = if name == "broken" { facts.replace("format = 1", "format = 9") } else { facts };
        std::fs::create_dir_all(place.folder.path().join("own").join(name)).expect("a folder");
        std::fs::write(place.folder.path().join("own").join(name).join("connector.toml"), facts).expect("a file");
    }
    place.write(&format!("connectors_dir = \"own\"\n{}", place.config()));
    for command in ["check", "connectors"] {
        let output = place.run(&[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(stderr(&output).contains("own/broken/connector.toml:"), "{command}: {}", stderr(&output));
    }
    let (listed, _) = place.json(&["connectors"]);
    let names: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"mine") && names.contains(&"crm") && !names.contains(&"broken"), "{names:?}");
    std::fs::remove_dir_all(place.folder.path().join("own/broken")).expect("it is there");
    for command in ["check", "connectors"] {
        assert_eq!(place.run(&[command]).status.code(), Some(0), "{command}");
    }
}

/// Conditions are checked as message texts are.
#[test]
fn conditions_that_always_or_never_hold_are_refused() {
    let place = Place::new(1);
    let chat = "\n[connections.chat]\nconnector = \"chatwoot\"\naccount_id = 1\n\
                api_access_token = { env = \"SANDBOX_TOKEN\" }\n";
    let flow = |send: &str, condition: &str| {
        format!(
            "{}{chat}\n[[flows]]\non = \"order.created\"\nfrom = \"shop\"\nsend = \"{send}\"\nto = \"chat\"\n\
             when = {condition:?}\n",
            place.config()
        )
    };
    place.write(&flow("order-confirmation", "order.total|float > 50"));
    let output = place.run(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for (send, condition, expected, help) in [
        ("order-confirmation", "order.totl|float > 50", "31:1: there is no field `totl`", "did you mean `total`?"),
        (
            "order-confirmation",
            "order.total > 50",
            "31:1: a text is compared with a number",
            "`order.total|float > 50`",
        ),
        (
            "order-confirmed",
            "order.note",
            "29:1: ",
            "for `order.created` there are order-cancelled, order-confirmation",
        ),
        ("shipped", "order.note", "29:1: ", "for `order.created` there are order-cancelled, order-confirmation"),
    ] {
        place.write(&flow(send, condition));
        let output = place.run(&["check"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{condition}");
        assert!(said.contains(&format!("counterpart.toml:{expected}")) && said.contains(help), "{condition}: {said}");
    }
}

/// A mistake is told where it was made: in the environment, in what was asked for, in a damaged file.
#[test]
fn mistakes_are_told_where_they_were_made() {
    let place = Place::new(1);
    let output = command(place.folder.path())
        .env("SANDBOX_TOKEN", TOKEN)
        .env("COUNTERPART__STORE__URL", "mysql://ann:hunter3@host")
        .arg("check")
        .output()
        .expect("the program starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("environment variable COUNTERPART__STORE__URL:1:1: this is no address of a store"), "{said}");
    assert!(!said.contains("counterpart.toml") && !said.contains("hunter3"), "{said}");

    assert_eq!(place.run(&["sync"]).status.code(), Some(0));
    let output = place.run(&["conflicts", "list", "--kind", "nope"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no kind `nope`"), "{}", stderr(&output));
    assert_eq!(place.run(&["conflicts", "list", "--kind", "moved"]).status.code(), Some(0));

    let file = place.folder.path().join("counterpart.db");
    let mut bytes = std::fs::read(&file).expect("the store");
    let after_the_head = bytes.len().min(200_000);
    bytes[100..after_the_head].fill(0x5a);
    std::fs::write(&file, bytes).expect("written");
    // What the last process left to be copied into the file would be read from there instead.
    let _ = std::fs::remove_file(place.folder.path().join("counterpart.db-wal"));
    let output = place.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("the database is damaged") && said.contains("from a backup"), "{said}");
}
