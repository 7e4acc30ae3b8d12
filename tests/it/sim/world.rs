//! One generated world: vendors, people, edits while the engine works, faults, deaths; all from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use counterpart::config::{Config, ConnectionConfig, StoreConfig, SyncConfig, WriteCheck};
use counterpart::engine::{Engine, EngineError, Pace, RunReport, Silent};
use counterpart::store::{Store, StoreOptions};
use counterpart_connectors::{Clock, Millis};
use counterpart_core::guard::Guards;
use counterpart_core::identity::IdentityRules;
use counterpart_core::merge::{Policies, Policy};
use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, Vendor};
use tokio_util::sync::CancellationToken;

use super::clock::{Death, InProcess, SimClock};

/// Midnight of some day.
const START: Millis = 1_790_000_000_000;
const HOUR: Millis = 3_600_000;
/// Rounds of the engine after the last outside change in which everything must have settled.
const SETTLING_RUNS: usize = 8;

/// A small generator: the same seed gives the same world on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// One outside change.
#[derive(Clone, Debug)]
pub struct Edit {
    pub at: Millis,
    pub instance: String,
    /// Which person of that instance, counted at the time of the edit.
    pub nth: u64,
    pub field: &'static str,
    pub value: String,
}

/// An edit as it really happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub at: Millis,
    pub instance: String,
    pub id: String,
    pub email: String,
    pub field: &'static str,
    pub value: String,
}

/// What kind of world a seed stands for.
#[derive(Clone, Debug)]
pub struct WorldPlan {
    pub seed: u64,
    pub instances: Vec<(String, Vendor)>,
    pub ring: bool,
    pub people: usize,
    pub faults: &'static str,
    pub edits: Vec<Edit>,
    pub runs: usize,
    pub deaths: Vec<Option<Death>>,
}

impl WorldPlan {
    pub fn from_seed(seed: u64) -> WorldPlan {
        let mut dice = Dice::new(seed);
        let mut pool = vec![
            ("chat", Vendor::Chatway),
            ("support", Vendor::Chatwoot),
            ("crm", Vendor::Hubspot),
            ("shop", Vendor::Woocommerce),
            ("house", Vendor::Crm),
        ];
        let count = 2 + dice.below(2) as usize;
        let mut instances = Vec::new();
        for _ in 0..count {
            let index = dice.below(pool.len() as u64) as usize;
            let (name, vendor) = pool.remove(index);
            instances.push((name.to_owned(), vendor));
        }
        instances.sort_by(|a, b| a.0.cmp(&b.0));
        let ring = count == 3 && dice.chance(40);
        let people = 2 + dice.below(5) as usize;
        let runs = 2 + dice.below(2) as usize;
        let faults = *dice.pick(&["none", "some", "some", "hostile"]);
        let mut edits = Vec::new();
        for number in 0..dice.below(8) {
            let instance = dice.pick(&instances).0.clone();
            let field = *dice.pick(&["company", "company", "city", "full_name", "given", "phone"]);
            let at = START + dice.below(runs as u64 * 6) as i64 * HOUR / 2 + dice.below(60_000) as i64;
            let value = match field {
                "phone" => format!("+4670174{:04}", seed % 97 * 10 + number),
                "full_name" => format!("Edited{number} Person{}", seed % 89),
                "given" => format!("Given{number}"),
                _ => format!("{field} {number} of {seed}"),
            };
            edits.push(Edit { at, instance, nth: dice.below(people as u64), field, value });
        }
        edits.sort_by_key(|edit| edit.at);
        let deaths = (0..runs)
            .map(|_| dice.chance(35).then(|| Death { at_call: dice.below(25), after_effect: dice.chance(60) }))
            .collect();
        WorldPlan { seed, instances, ring, people, faults, edits, runs, deaths }
    }
}

/// A violated law, with what a person needs to look into it.
#[derive(Debug)]
pub struct Violation {
    pub law: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.law, self.what)
    }
}

/// A world under way.
pub struct World {
    pub plan: WorldPlan,
    pub clock: Arc<SimClock>,
    pub sandbox: Arc<Sandbox>,
    pub store: Store,
    pub config: Arc<Config>,
    pub made: Arc<Mutex<Vec<Made>>>,
    pub initial: BTreeMap<String, BTreeSet<String>>,
    /// When everybody met everybody, from and to: edits after that are changes against a base.
    pub met_at: Option<(Millis, Millis)>,
}

impl World {
    pub async fn new(plan: WorldPlan) -> World {
        let clock = SimClock::at(START);
        let mut options = Options { seed: plan.seed, ..Options::default() };
        options.faults = Faults::parse(plan.faults).expect("a known preset");
        options.instances = plan
            .instances
            .iter()
            .map(|(name, vendor)| InstanceSpec { name: name.clone(), vendor: *vendor, settings: BTreeMap::new() })
            .collect();
        let sandbox = Arc::new(Sandbox::new(options));
        for (index, (name, _)) in plan.instances.iter().enumerate() {
            sandbox.seed_people(START - 48 * HOUR, name, plan.people, index * plan.people / 3);
        }
        let initial = values(&sandbox, &plan);
        let store = Store::open(&StoreOptions { url: "sqlite::memory:".to_owned(), tenant: "default".to_owned() })
            .await
            .expect("an embedded store opens");
        store.migrate().await.expect("the schema applies");
        let config = Arc::new(config(&plan));
        let made = Arc::new(Mutex::new(Vec::new()));
        schedule_edits(&plan, &clock, &sandbox, &made);
        World { plan, clock, sandbox, store, config, made, initial, met_at: None }
    }

    pub fn engine(&self, transport: Arc<InProcess>) -> Engine {
        Engine::new(
            self.config.clone(),
            self.store.clone(),
            self.clock.clone(),
            transport,
            Arc::new(Silent),
            CancellationToken::new(),
        )
        .expect("the generated configuration is valid")
        .with_pace(Pace::OneByOne)
    }

    /// One process: starts, syncs, and dies on the way when told to.
    pub async fn run(&mut self, death: Option<Death>) -> Result<Option<RunReport>, EngineError> {
        let transport = InProcess::new(self.sandbox.clone(), self.clock.clone(), death);
        let started = self.clock.now();
        let engine = self.engine(transport.clone());
        let outcome = tokio::select! {
            biased;
            () = transport.died.notified() => None,
            outcome = engine.sync(&[]) => Some(outcome),
        };
        self.trace(&outcome).await;
        match outcome {
            None => {
                // The dead process's leases run out.
                self.clock.advance(HOUR);
                Ok(None)
            }
            Some(outcome) => {
                let report = outcome?;
                let whole = report.syncs.iter().all(|sync| {
                    let counts = &sync.operations;
                    sync.streams.iter().all(|stream| stream.complete)
                        && counts.failed + counts.unknown + counts.held == 0
                });
                if whole && self.met_at.is_none() {
                    self.met_at = Some((started, self.clock.now()));
                }
                Ok(Some(report))
            }
        }
    }

    /// When one seed is replayed: what each process did.
    async fn trace(&self, outcome: &Option<Result<RunReport, EngineError>>) {
        if std::env::var_os("COUNTERPART_SEED").is_none() {
            return;
        }
        match outcome {
            None => eprintln!("--- {}: the process died", self.clock.now()),
            Some(Err(error)) => eprintln!("--- {}: {error}", self.clock.now()),
            Some(Ok(report)) => {
                eprintln!("--- {}: run {} {:?} {:?}", self.clock.now(), report.run, report.verdict, report.notes);
                for entry in self
                    .store
                    .conflicts(&counterpart::store::ConflictFilter { limit: 1000, ..Default::default() })
                    .await
                    .unwrap_or_default()
                {
                    eprintln!("    queue {:?} {} {:?} {}", entry.state, entry.key, entry.settled, entry.detail);
                }
                for row in self.store.ops(report.run, None, 1000).await.unwrap_or_default() {
                    eprintln!("    {:?} {:?} {}", row.state, row.error, row.op.line());
                }
            }
        }
    }

    /// Lets the world happen, then lets it settle. Returns the last report.
    pub async fn live(&mut self) -> Result<RunReport, Violation> {
        for index in 0..self.plan.runs {
            let death = self.plan.deaths[index];
            self.run(death).await.map_err(|error| Violation { law: "run", what: error.to_string() })?;
            self.clock.advance(3 * HOUR);
        }
        // The last outside change has happened; from here on only the engine acts, and the vendors behave.
        self.clock.advance(24 * HOUR);
        self.sandbox.set_faults(Faults::none());
        let mut quiet = None;
        for _ in 0..SETTLING_RUNS {
            self.sandbox.clear_log();
            let report = self.run(None).await.map_err(|error| Violation { law: "run", what: error.to_string() })?;
            let report = report.expect("nobody kills a settling run");
            self.clock.advance(24 * HOUR);
            if self.writes() == 0 && report.syncs.iter().all(|sync| sync.streams.iter().all(|stream| stream.complete)) {
                quiet = Some(report);
                break;
            }
        }
        quiet.ok_or_else(|| Violation {
            law: "L2",
            what: "still writing after eight runs without outside change".to_owned(),
        })
    }

    /// Writes that took effect at a vendor since the log was cleared.
    pub fn writes(&self) -> usize {
        self.sandbox.log().iter().filter(|call| call.effect).count()
    }
}

/// Every value that people show at the start, by instance.
fn values(sandbox: &Sandbox, plan: &WorldPlan) -> BTreeMap<String, BTreeSet<String>> {
    plan.instances
        .iter()
        .map(|(name, _)| {
            let mut seen = BTreeSet::new();
            for person in sandbox.people(name) {
                seen.extend([person.given, person.family, person.full_name]);
                seen.extend([person.email, person.phone, person.company, person.city].into_iter().flatten());
            }
            (name.clone(), seen)
        })
        .collect()
}

fn schedule_edits(plan: &WorldPlan, clock: &SimClock, sandbox: &Arc<Sandbox>, made: &Arc<Mutex<Vec<Made>>>) {
    let mut waiting: Vec<Edit> = plan.edits.iter().rev().cloned().collect();
    let (sandbox, made) = (sandbox.clone(), made.clone());
    let vendors: BTreeMap<String, Vendor> = plan.instances.iter().cloned().collect();
    clock.on_tick(move |now| {
        while waiting.last().is_some_and(|edit| edit.at <= now) {
            let Some(edit) = waiting.pop() else { return };
            let people = sandbox.people(&edit.instance);
            if people.is_empty() {
                continue;
            }
            if vendors[&edit.instance] == Vendor::Chatway && matches!(edit.field, "company" | "city") {
                // This vendor has no such field: nobody can edit it there.
                continue;
            }
            let person = &people[(edit.nth % people.len() as u64) as usize];
            sandbox.edit(edit.at, &edit.instance, &person.id, edit.field, Some(&edit.value));
            made.lock().expect("nobody panics holding it").push(Made {
                at: edit.at,
                instance: edit.instance.clone(),
                id: person.id.clone(),
                email: person.email.clone().unwrap_or_default(),
                field: edit.field,
                value: edit.value.clone(),
            });
        }
    });
}

fn config(plan: &WorldPlan) -> Config {
    let connections = plan.instances.iter().map(|(name, vendor)| (name.clone(), connection(name, *vendor))).collect();
    let names: Vec<String> = plan.instances.iter().map(|(name, _)| name.clone()).collect();
    let pairs: Vec<Vec<String>> = if plan.ring {
        (0..names.len()).map(|i| vec![names[i].clone(), names[(i + 1) % names.len()].clone()]).collect()
    } else {
        vec![names.clone()]
    };
    let syncs = pairs
        .into_iter()
        .enumerate()
        .map(|(index, between)| SyncConfig {
            name: format!("people{index}"),
            kind: "contact".to_owned(),
            between,
            create: None,
            conflict: Policies { default: Policy::Order(names.clone()), fields: BTreeMap::new() },
            guard: Guards::default(),
            identity: IdentityRules::default(),
            schedule: None,
            timezone: None,
        })
        .collect();
    Config {
        store: StoreConfig { url: "sqlite::memory:".to_owned(), keep_ms: None },
        tenant: "default".to_owned(),
        serve: counterpart::config::ServeConfig::default(),
        telemetry: None,
        connections,
        syncs,
        connectors_dir: None,
        mappings_dir: None,
        flows: Vec::new(),
    }
}

/// A connection to the fake of that name, with the fake's own credentials.
pub fn connection(name: &str, vendor: Vendor) -> ConnectionConfig {
    let (connector, settings, secrets) = vendor.connection(&format!("http://127.0.0.1:9/{name}"));
    ConnectionConfig {
        connector: connector.to_owned(),
        settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        secrets: secrets.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
        mapping: None,
        region: Some("SE".to_owned()),
        deep_pages: None,
        write_check: WriteCheck::Read,
        trust_clock: true,
        read_only: false,
        settle_ms: 120_000,
        keep_hooks: false,
    }
}
