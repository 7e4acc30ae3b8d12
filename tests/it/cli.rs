//! The real binary against a served sandbox: what it prints, what it writes, and its exit codes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, TOKEN, Vendor};
use serde_json::Value;

/// A CRM and a shop behind HTTP, and a folder with a configuration for them.
struct Place {
    folder: tempfile::TempDir,
    sandbox: Arc<Sandbox>,
    address: String,
    _runtime: tokio::runtime::Runtime,
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
        let place = Place { folder: tempfile::tempdir().expect("a folder"), sandbox, address, _runtime: runtime };
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterpart"));
    command.current_dir(folder).env_remove("SANDBOX_TOKEN").arg("--quiet");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shop = place.sandbox.people("shop").into_iter().find(|other| other.email == person.email);
    assert_eq!(shop.expect("known there").company, before);
    assert_eq!(writes(&place.json(&["sync"]).0), 0);
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
    assert_eq!(place.run(&["plan", "--out", "plan.json"]).status.code(), Some(0));
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
        (good.replace("SANDBOX_TOKEN", "NOT_SET_ANYWHERE"), "the environment variable NOT_SET_ANYWHERE is not set"),
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
        (format!("{good}surprise = 1\n"), "surprise"),
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
