//! A few systems, one sync, and everything a Given/When/Then needs to reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use counterpart::config::{Config, StoreConfig, SyncConfig};
use counterpart::engine::{Engine, Pace, RunReport, Silent};
use counterpart::store::{Conflict, ConflictFilter, Record, Store, StoreOptions};
use counterpart_connectors::{Clock, Millis, Transport};
use counterpart_core::guard::Guards;
use counterpart_core::identity::IdentityRules;
use counterpart_core::merge::{Policies, Policy};
use counterpart_sandbox::{Faults, InstanceSpec, NewPerson, Options, Person, Sandbox, Vendor};
use tokio_util::sync::CancellationToken;

use crate::sim::{Death, InProcess, SimClock, connection};

pub const MINUTE: Millis = 60_000;
pub const HOUR: Millis = 60 * MINUTE;
pub const DAY: Millis = 24 * HOUR;
/// When every lab opens.
pub const START: Millis = 1_790_000_000_000;

pub struct Lab {
    pub clock: Arc<SimClock>,
    pub sandbox: Arc<Sandbox>,
    pub store: Store,
    pub config: Config,
    /// How far the engine's own clock is ahead of everybody else's.
    pub skew: Millis,
    /// Files of this lab: mappings, and the database where it is one.
    pub folder: tempfile::TempDir,
}

impl Lab {
    /// Systems with nobody in them, kept in agreement by one sync in which the first named wins.
    pub async fn new(systems: &[(&str, Vendor)]) -> Lab {
        Lab::with_fakes(systems, &[]).await
    }

    /// The same; `settings` are system, name and value of what is unusual about a fake.
    pub async fn with_fakes(systems: &[(&str, Vendor)], settings: &[(&str, &str, &str)]) -> Lab {
        // A desk knows no people.
        let people = systems.iter().filter(|(_, vendor)| !matches!(vendor, Vendor::Zendesk | Vendor::Rt));
        let names: Vec<String> = people.map(|(name, _)| (*name).to_owned()).collect();
        let of = |system: &str| {
            let own = settings.iter().filter(|(name, _, _)| *name == system);
            own.map(|(_, key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let instances = systems
            .iter()
            .map(|(name, vendor)| InstanceSpec { name: (*name).to_owned(), vendor: *vendor, settings: of(name) })
            .collect();
        let config = Config {
            store: StoreConfig { url: "sqlite::memory:".to_owned(), keep_ms: None },
            tenant: "default".to_owned(),
            serve: counterpart::config::ServeConfig::default(),
            telemetry: None,
            connections: systems.iter().map(|(name, v)| ((*name).to_owned(), connection(name, *v))).collect(),
            syncs: vec![SyncConfig {
                name: "people".to_owned(),
                kind: "contact".to_owned(),
                between: names.clone(),
                create: None,
                conflict: Policies { default: Policy::Order(names), fields: BTreeMap::new() },
                guard: Guards::default(),
                identity: IdentityRules::default(),
                schedule: None,
                timezone: None,
            }],
            connectors_dir: None,
            mappings_dir: None,
            flows: Vec::new(),
        };
        let options = StoreOptions { url: config.store.url.clone(), tenant: config.tenant.clone() };
        let store = Store::open(&options).await.expect("an embedded store opens");
        store.migrate().await.expect("the schema applies");
        let sandbox = Arc::new(Sandbox::new(Options { seed: 7, faults: Faults::none(), instances }));
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let mut lab = Lab { clock: SimClock::at(START), sandbox, store, config, skew: 0, folder };
        if systems.iter().any(|(_, vendor)| *vendor == Vendor::Zendesk) {
            lab.config.connectors_dir = Some(zendesk_names_chats(lab.folder.path()));
        }
        lab
    }

    /// Records of a kind are read with this file from now on.
    pub fn read_with(&mut self, connector: &str, kind: &str, reading: &str) {
        self.config.connectors_dir = Some(write_reading(self.folder.path(), connector, kind, reading));
    }

    // ---- given -----------------------------------------------------------------------------------------------------

    /// Generated people number `first` to `first + n - 1`, who have been there for two days.
    pub fn people_at(&self, system: &str, n: usize, first: usize) {
        self.sandbox.seed_people(START - 2 * DAY, system, n, first);
    }

    pub fn add(&self, system: &str, person: &NewPerson) -> String {
        self.sandbox.create(self.clock.now(), system, person)
    }

    pub fn edit(&self, system: &str, id: &str, field: &str, value: Option<&str>) {
        self.sandbox.edit(self.clock.now(), system, id, field, value);
    }

    /// A connector's setting of one connection.
    pub fn set(&mut self, system: &str, name: &str, value: serde_json::Value) {
        let connection = self.config.connections.get_mut(system).expect("a configured system");
        connection.settings.insert(name.to_owned(), value);
    }

    /// A mapping of one's own for one connection.
    pub fn map(&mut self, system: &str, mapping: &str) {
        let path = self.folder.path().join(format!("{system}.toml"));
        std::fs::write(&path, mapping).expect("the temporary folder is writable");
        self.config.connections.get_mut(system).expect("a configured system").mapping = Some(path);
    }

    pub fn faults(&self, faults: &str) {
        self.sandbox.set_faults(Faults::parse(faults).expect("faults by their names"));
    }

    // ---- when ------------------------------------------------------------------------------------------------------

    /// One run; the log then holds its calls.
    pub async fn run(&self) -> RunReport {
        self.sandbox.clear_log();
        self.engine(self.network()).sync(&[]).await.expect("the run ends")
    }

    /// The way to the fakes, in process.
    pub fn network(&self) -> Arc<InProcess> {
        InProcess::new(self.sandbox.clone(), self.clock.clone(), None)
    }

    /// A run that may die on the way; none when it did.
    pub async fn run_and_die(&self, death: Death) -> Option<RunReport> {
        let transport = InProcess::new(self.sandbox.clone(), self.clock.clone(), Some(death));
        let engine = self.engine(transport.clone());
        tokio::select! {
            biased;
            () = transport.died.notified() => None,
            outcome = engine.sync(&[]) => Some(outcome.expect("the run ends")),
        }
    }

    /// A dead process's leases end at once where its host knows that it is dead.
    pub async fn bury(&self) {
        for name in self.config.connections.keys() {
            let lease = format!("connection:{name}");
            if let Some((holder, _)) = self.store.lease_holder(&lease).await.expect("the store answers") {
                self.store.release_lease(&lease, &holder).await.expect("the store answers");
            }
        }
    }

    /// Runs a day apart.
    pub async fn run_days(&self, days: usize) {
        for _ in 0..days {
            self.clock.advance(DAY);
            self.run().await;
        }
    }

    pub fn engine(&self, transport: Arc<dyn Transport>) -> Engine {
        let clock = Arc::new(Skewed { clock: self.clock.clone(), by: self.skew });
        let config = Arc::new(self.config.clone());
        Engine::new(config, self.store.clone(), clock, transport, Arc::new(Silent), CancellationToken::new())
            .expect("the configuration is valid")
            .with_pace(Pace::OneByOne)
    }

    // ---- then ------------------------------------------------------------------------------------------------------

    pub fn people(&self, system: &str) -> Vec<Person> {
        self.sandbox.people(system)
    }

    /// The one with this address there.
    pub fn person(&self, system: &str, email: &str) -> Person {
        let mut found = self.people(system);
        found.retain(|person| person.email.as_deref() == Some(email));
        assert_eq!(found.len(), 1, "{email} at {system}: {found:?}");
        found.remove(0)
    }

    pub fn company(&self, system: &str, email: &str) -> Option<String> {
        self.person(system, email).company
    }

    /// Writes that took effect since the last run began.
    pub fn writes(&self) -> usize {
        self.sandbox.log().iter().filter(|call| call.effect).count()
    }

    pub async fn record(&self, system: &str, id: &str) -> Record {
        self.store.record(system, "contact", id).await.expect("the store answers").expect("a known record")
    }

    /// Everything that was ever put into the queue, settled or waiting.
    pub async fn queue(&self) -> Vec<Conflict> {
        let all = ConflictFilter { limit: 10_000, ..ConflictFilter::default() };
        self.store.conflicts(&all).await.expect("the store answers")
    }

    /// Two more days write nothing.
    pub async fn assert_quiet(&self) {
        for _ in 0..2 {
            self.clock.advance(DAY);
            self.run().await;
            let writes: Vec<_> = self.sandbox.log().into_iter().filter(|call| call.effect).collect();
            assert!(writes.is_empty(), "{writes:?}");
        }
    }
}

/// Writes a reading file of the operator's own; returns the `connectors_dir`.
fn write_reading(folder: &Path, connector: &str, kind: &str, reading: &str) -> PathBuf {
    let own = folder.join("own");
    std::fs::create_dir_all(own.join(connector)).expect("the temporary folder is writable");
    std::fs::write(own.join(connector).join(format!("{kind}.toml")), reading)
        .expect("the temporary folder is writable");
    own
}

/// Says, as an operator has to, which field of a Zendesk ticket names its chat; returns the `connectors_dir`.
pub fn zendesk_names_chats(folder: &Path) -> PathBuf {
    let shipped = include_str!("../../../mappings/ticket/zendesk.toml");
    write_reading(folder, "zendesk", "ticket", &shipped.replace("# conversation = ", "conversation = "))
}

/// Somebody with a name and an address.
pub fn someone(given: &str, family: &str, email: &str) -> NewPerson {
    NewPerson {
        given: given.to_owned(),
        family: family.to_owned(),
        email: Some(email.to_owned()),
        ..NewPerson::default()
    }
}

/// A clock that is set wrong.
struct Skewed {
    clock: Arc<SimClock>,
    by: Millis,
}

#[async_trait]
impl Clock for Skewed {
    fn now(&self) -> Millis {
        self.clock.now() + self.by
    }

    async fn sleep_until(&self, at: Millis) {
        self.clock.sleep_until(at - self.by).await;
    }
}
