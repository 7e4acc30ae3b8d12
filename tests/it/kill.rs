//! The real kill -9: the program dies at random moments, again and again, and in the end the world is as if it had not.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Arc;

use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, TOKEN, Vendor};

/// Deaths; each leaves the next process to find out what happened.
const DEATHS: u64 = 25;
const PEOPLE: usize = 25;

/// Everybody in a system, by what they are known by.
fn people(sandbox: &Sandbox, name: &str) -> Vec<(String, Option<String>)> {
    let mut people: Vec<_> =
        sandbox.people(name).into_iter().map(|p| (p.email.unwrap_or_default(), p.company)).collect();
    people.sort();
    people
}

#[test]
fn killed_at_any_moment_the_end_is_the_same() {
    let latency = BTreeMap::from([("latency_ms".to_owned(), "4".to_owned())]);
    let instance = |name: &str, vendor| InstanceSpec { name: name.to_owned(), vendor, settings: latency.clone() };
    let instances = vec![
        instance("house", Vendor::Crm),
        instance("shop", Vendor::Woocommerce),
        instance("support", Vendor::Chatwoot),
    ];
    let sandbox = Arc::new(Sandbox::new(Options { seed: 5, faults: Faults::none(), instances }));
    for (index, name) in ["house", "shop", "support"].iter().enumerate() {
        sandbox.seed_people(1_700_000_000_000, name, PEOPLE, index * PEOPLE * 3 / 10);
    }
    let expected: BTreeSet<String> =
        ["house", "shop", "support"].iter().flat_map(|name| people(&sandbox, name)).map(|(email, _)| email).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(counterpart_sandbox::serve(sandbox.clone(), listener, std::future::pending()));
    let folder = tempfile::tempdir().expect("a folder");
    let secret = "{ env = \"SANDBOX_TOKEN\" }";
    let config = format!(
        "[store]\nurl = \"sqlite://{folder}/counterpart.db\"\n\
         [connections.house]\nconnector = \"crm\"\nbase_url = \"http://{address}/house\"\ntoken = {secret}\nrequests_per_minute = 100000\n\
         [connections.shop]\nconnector = \"woocommerce\"\nbase_url = \"http://{address}/shop\"\n\
         consumer_key = {secret}\nconsumer_secret = {secret}\nrequests_per_minute = 100000\n\
         [connections.support]\nconnector = \"chatwoot\"\nbase_url = \"http://{address}/support\"\naccount_id = 1\n\
         api_access_token = {secret}\nrequests_per_minute = 3000\n\
         [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"house\", \"shop\", \"support\"]\n\
         conflict = {{ default = [\"house\", \"shop\", \"support\"] }}\n",
        folder = folder.path().display()
    );
    std::fs::write(folder.path().join("counterpart.toml"), config).expect("the configuration is written");
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterpart"));
        command.current_dir(folder.path()).env("SANDBOX_TOKEN", TOKEN).args(["--quiet", "--json", "sync"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut dice = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..DEATHS {
        let mut child = program().spawn().expect("the program starts");
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // It dies once the systems have seen so many more calls, wherever it then is.
        let calls = sandbox.log().len() + (dice >> 33) as usize % 40;
        while sandbox.log().len() < calls && child.try_wait().expect("it can be asked").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("it is still ours to kill");
        child.wait().expect("it is dead");
        if round % 5 == 4 {
            let person = &sandbox.people("house")[(dice >> 40) as usize % PEOPLE];
            sandbox.edit(1_800_000_000_000, "house", &person.id, "company", Some(&format!("Company {round}")));
        }
    }
    // A create of unknown outcome is looked for once the far end has had its minute: the kill left the answer open,
    // the clock of the store says when it was sent.
    let mut last = None;
    for _ in 0..6 {
        last = program().status().expect("the program starts").code();
    }
    for name in ["house", "shop", "support"] {
        let there = people(&sandbox, name);
        let emails: BTreeSet<String> = there.iter().map(|(email, _)| email.clone()).collect();
        assert_eq!(emails.len(), there.len(), "somebody stands twice in {name}");
        let missing: Vec<&String> = expected.difference(&emails).collect();
        assert!(
            missing.is_empty() || last == Some(3),
            "{missing:?} are missing in {name}, and nothing is said to wait"
        );
        assert!(emails.is_subset(&expected));
    }
    let companies = |name: &str| people(&sandbox, name).into_iter().collect::<BTreeMap<_, _>>();
    let (house, shop) = (companies("house"), companies("shop"));
    for (email, company) in &shop {
        // Who waits for the outcome of a create is checked above.
        if let Some(there) = house.get(email) {
            assert_eq!(company, there, "{email}");
        }
    }
    println!("{DEATHS} deaths, last exit code {last:?}, {} people everywhere", expected.len());
}
