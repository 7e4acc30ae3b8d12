//! `counterpart demo`: fake systems on this machine, a store in a folder, and everything the real thing does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use counterpart_connectors::{Clock, SystemClock};
use counterpart_sandbox::{Faults, InstanceSpec, NewPerson, Options, Sandbox, TOKEN, Vendor};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::app;
use super::output::{Failure, Output};
use crate::engine::Verdict;

/// People in the shop and the CRM; neighbours share 70 % of them.
const PEOPLE: usize = 40;
/// People who have chatted: few, because Chatway's API hands out ten in a call and allows 15 calls a minute.
const CHATTERS: usize = 20;
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the first run that finds nothing to write.
    #[arg(long)]
    once: bool,
    /// Folder for the configuration and the store; a temporary one without it.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The same seed gives the same people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) async fn run(out: &Output, args: Args) -> Result<u8, Failure> {
    let sandbox = systems(args.seed);
    let refused = |error: std::io::Error| {
        Failure::failed(format!("127.0.0.1 cannot be listened on: {error}"), "the demo needs one free port there")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let stop = CancellationToken::new();
    let served = stop.clone();
    let server =
        tokio::spawn(counterpart_sandbox::serve(sandbox.clone(), listener, async move { served.cancelled().await }));
    let temporary = args.dir.is_none();
    let folder =
        args.dir.unwrap_or_else(|| std::env::temp_dir().join(format!("counterpart-demo-{}", std::process::id())));
    let config = prepare(&folder, &address.to_string()).map_err(|error| {
        let message = format!("the folder {} cannot be used: {error}", folder.display());
        Failure::failed(message, "name one that you may write to with --dir")
    })?;
    introduce(out, &address.to_string(), &config);
    let result = rounds(out, &sandbox, &config, args.once).await;
    stop.cancel();
    let _ = server.await;
    if temporary {
        let _ = std::fs::remove_dir_all(&folder);
        out.remark("The demo's store is deleted; with `--dir FOLDER` it stays, and other commands can look into it.");
    }
    result
}

/// A chat, a CRM and a shop that know many of the same people, not all of them by the same values.
fn systems(seed: u64) -> Arc<Sandbox> {
    let instance = |name: &str, vendor| InstanceSpec { name: name.to_owned(), vendor, settings: BTreeMap::new() };
    let instances = vec![
        instance("chat", Vendor::Chatway),
        instance("crm", Vendor::Hubspot),
        instance("shop", Vendor::Woocommerce),
    ];
    let sandbox = Arc::new(Sandbox::new(Options { seed, faults: Faults::none(), instances }));
    let before = SystemClock.now() - 3_600_000;
    sandbox.seed_people(before, "chat", CHATTERS, 0);
    sandbox.seed_people(before, "crm", PEOPLE, CHATTERS * 3 / 10);
    sandbox.seed_people(before, "shop", PEOPLE, PEOPLE * 3 / 10);
    // Two who moved to another company in one system only, and one who may or may not be somebody else's twin.
    for (system, company) in [("crm", "Nordlicht Shipping"), ("shop", "Azul Imports")] {
        if let Some(person) = sandbox.people(system).get(15) {
            sandbox.edit(before, system, &person.id, "company", Some(company));
        }
    }
    if let Some(person) = sandbox.people("shop").get(20) {
        let twin = NewPerson {
            given: "Wilhelmina".to_owned(),
            family: "Achterberg".to_owned(),
            email: Some("w.achterberg@example.test".to_owned()),
            phone: person.phone.clone(),
            ..NewPerson::default()
        };
        sandbox.create(before, "crm", &twin);
    }
    sandbox
}

/// Makes the folder and a configuration in it that works from wherever it is named.
fn prepare(folder: &Path, address: &str) -> std::io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    std::fs::create_dir_all(&folder)?;
    let token = folder.join("token");
    std::fs::write(&token, TOKEN)?;
    let path = folder.join("counterpart.toml");
    let quoted = |text: String| toml::Value::String(text).to_string();
    let secret = format!("{{ file = {} }}", quoted(token.display().to_string()));
    let text = format!(
        r#"[store]
url = {store}

[connections.chat]
connector = "chatway"
base_url = "http://{address}/chat/api/v1"
api_key = {secret}

[connections.crm]
connector = "hubspot"
base_url = "http://{address}/crm"
access_token = {secret}

[connections.shop]
connector = "woocommerce"
base_url = "http://{address}/shop"
consumer_key = {secret}
consumer_secret = {secret}

[[syncs]]
name = "people"
kind = "contact"
between = ["chat", "crm", "shop"]
create = ["crm", "shop"]
conflict = {{ default = "latest", phone = "review" }}
"#,
        store = quoted(format!("sqlite://{}", folder.join("counterpart.db").display())),
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

fn introduce(out: &Output, address: &str, config: &Path) {
    out.remark(format!(
        "Three systems on http://{address}: a chat (Chatway), a CRM (HubSpot) and a shop (WooCommerce).\n\
         They are fakes that keep to what the vendors document, their rate limits included: the chat allows 15 calls a\n\
         minute and hands out ten people in a call. People who are missing are created in the CRM and the shop.\n\
         Configuration and store: {}\n",
        config.display()
    ));
}

async fn rounds(out: &Output, sandbox: &Sandbox, path: &Path, once: bool) -> Result<u8, Failure> {
    let (config, store) = app::open(path).await?;
    let engine = app::engine(out, config, store.clone())?;
    let mut round = 0u64;
    loop {
        round += 1;
        if !out.json {
            out.line(format!("── round {round} ──"));
        }
        let report = engine.sync(&[]).await?;
        let writes: u64 = report.syncs.iter().map(|sync| sync.operations.writes()).sum();
        let settled = once && writes == 0;
        if !out.json {
            super::sync::show(out, &report)?;
        } else if settled || engine.is_stopped() {
            // The one document: how it ended.
            out.document(&serde_json::json!({ "rounds": round, "last": report }))?;
        } else {
            out.remark(format!("round {round}: {writes} writes, {}", report.verdict.as_str()));
        }
        if engine.is_stopped() {
            return Ok(Verdict::Partial.exit_code());
        }
        if settled {
            let waiting: u64 = store.count_open().await?.values().sum();
            if !out.json {
                out.line(format!(
                    "\nNothing left to write: the second look at the same world costs reads only. {waiting} doubtful\n\
                     cases wait for a person; nothing was guessed."
                ));
            }
            return Ok(if report.verdict == Verdict::Failed { 1 } else { 0 });
        }
        if !once {
            out.remark(format!(
                "the next round comes in {} s; somebody edits people meanwhile; Ctrl-C ends",
                ROUND.as_secs()
            ));
            meddle(sandbox, round);
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = engine.stopped() => {
                    if out.json {
                        out.document(&serde_json::json!({ "rounds": round, "last": report }))?;
                    }
                    return Ok(0);
                }
            }
        }
    }
}

/// Somebody works in the systems meanwhile.
fn meddle(sandbox: &Sandbox, round: u64) {
    let now = SystemClock.now();
    for (system, field, value) in
        [("crm", "company", format!("Company of round {round}")), ("shop", "city", format!("City of round {round}"))]
    {
        let people = sandbox.people(system);
        if let Some(person) = people.get((round * 7) as usize % people.len().max(1)) {
            sandbox.edit(now, system, &person.id, field, Some(&value));
        }
    }
}
