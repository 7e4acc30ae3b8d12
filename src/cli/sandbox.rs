//! `counterpart sandbox`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, TOKEN, Vendor, read_people};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::app;
use super::output::{Failure, Output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The same seed gives the same people and the same faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// People in each system; neighbours share 70 % of them.
    #[arg(long, default_value_t = 50)]
    scale: usize,
    /// People from a CSV file instead: given,family,email,phone,company,city,country,custom.KEY.
    #[arg(long, value_name = "FILE.csv")]
    from: Option<PathBuf>,
    /// What goes wrong: none, some, hostile, or a list like `429=0.05,cut_after=0.01`.
    #[arg(long, default_value = "none")]
    faults: String,
    /// Address to listen on; loopback only unless you say otherwise.
    #[arg(long, default_value = "127.0.0.1:8900")]
    listen: String,
    /// A system, `NAME=VENDOR[,key=value…]`; without any, one of each vendor.
    #[arg(long, value_name = "NAME=VENDOR")]
    instance: Vec<String>,
}

pub(super) async fn run(out: &Output, args: Args) -> Result<u8, Failure> {
    let faults = Faults::parse(&args.faults).map_err(|error| Failure::usage(error.to_string(), "see --help"))?;
    let instances = instances(&args.instance)?;
    let sandbox = Arc::new(Sandbox::new(Options { seed: args.seed, faults, instances: instances.clone() }));
    populate(&sandbox, &instances, &args)?;
    let refused = |error: std::io::Error| {
        Failure::failed(format!("{} cannot be listened on: {error}", args.listen), "name another address with --listen")
    };
    let listener = TcpListener::bind(&args.listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    show(out, &instances, &address.to_string())?;
    out.remark(format!("\nlistening on {address}; Ctrl-C ends it"));
    let stop = CancellationToken::new();
    app::stop_on_ctrl_c(out, stop.clone());
    counterpart_sandbox::serve(sandbox, listener, async move { stop.cancelled().await }).await.map_err(refused)?;
    Ok(0)
}

/// The configuration that reaches these systems.
fn show(out: &Output, instances: &[InstanceSpec], address: &str) -> Result<(), Failure> {
    let mut document = serde_json::Map::new();
    for instance in instances {
        let (connector, settings, secrets) = instance.vendor.connection(&format!("http://{address}/{}", instance.name));
        if out.json {
            let mut entry = serde_json::Map::from_iter([("connector".to_owned(), connector.into())]);
            entry.extend(settings.into_iter().map(|(key, value)| (key.to_owned(), value)));
            let secret = serde_json::json!({ "env": "SANDBOX_TOKEN" });
            entry.extend(secrets.into_iter().map(|(key, _)| (key.to_owned(), secret.clone())));
            document.insert(instance.name.clone(), entry.into());
            continue;
        }
        out.line(format!("\n[connections.{}]\nconnector = \"{connector}\"", instance.name));
        for (key, value) in settings {
            out.line(format!("{key} = {value}"));
        }
        for (key, _) in secrets {
            out.line(format!("{key} = {{ env = \"SANDBOX_TOKEN\" }}   # {TOKEN}"));
        }
    }
    if out.json {
        let whole = serde_json::json!({ "listening": address, "token": TOKEN, "connections": document });
        out.document(&whole)?;
    }
    Ok(())
}

fn instances(texts: &[String]) -> Result<Vec<InstanceSpec>, Failure> {
    if texts.is_empty() {
        return Ok(Vendor::ALL
            .iter()
            .map(|(name, vendor)| InstanceSpec { name: (*name).to_owned(), vendor: *vendor, settings: BTreeMap::new() })
            .collect());
    }
    texts.iter().map(|text| instance(text)).collect()
}

fn instance(text: &str) -> Result<InstanceSpec, Failure> {
    let wrong = |why: &str| {
        let vendors: Vec<&str> = Vendor::ALL.iter().map(|(name, _)| *name).collect();
        Failure::usage(
            format!("--instance {text}: {why}"),
            format!("write NAME=VENDOR[,key=value…]; vendors: {}", vendors.join(", ")),
        )
    };
    let mut parts = text.split(',');
    let (name, vendor) = parts.next().and_then(|part| part.split_once('=')).ok_or_else(|| wrong("no vendor"))?;
    let vendor = Vendor::named(vendor).ok_or_else(|| wrong("no such vendor"))?;
    let settings = parts
        .map(|part| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect::<Option<BTreeMap<_, _>>>()
        .ok_or_else(|| wrong("settings are key=value"))?;
    Ok(InstanceSpec { name: name.to_owned(), vendor, settings })
}

fn populate(sandbox: &Sandbox, instances: &[InstanceSpec], args: &Args) -> Result<(), Failure> {
    let now = chrono_now();
    match &args.from {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("{} cannot be read: {error}", path.display()), "name a CSV file")
            })?;
            let people = read_people(&text)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "correct that line"))?;
            for instance in instances {
                for person in &people {
                    sandbox.create(now, &instance.name, person);
                }
            }
        }
        None => {
            for (index, instance) in instances.iter().enumerate() {
                if !instance.settings.contains_key("virtual_people") && !instance.settings.contains_key("empty") {
                    sandbox.seed_people(now, &instance.name, args.scale, index * args.scale * 3 / 10);
                }
            }
        }
    }
    Ok(())
}

fn chrono_now() -> i64 {
    counterpart_connectors::Clock::now(&counterpart_connectors::SystemClock)
}
