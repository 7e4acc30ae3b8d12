//! The laws over generated worlds. `COUNTERPART_WORLDS` says how many (1,000 without it) or which (`20000..40000`),
//! `COUNTERPART_SEED` replays one.

use crate::sim::{World, WorldPlan, check};

/// Runs one world from its seed; a violation names the law.
pub async fn run(seed: u64) -> Result<(), String> {
    let plan = WorldPlan::from_seed(seed);
    let shown = format!("{plan:?}");
    let mut world = World::new(plan).await;
    let outcome = match world.live().await {
        Ok(quiet) => check(&mut world, &quiet).await,
        Err(violation) => Err(violation),
    };
    outcome.map_err(|violation| format!("seed {seed}: {violation}\n  replay with COUNTERPART_SEED={seed}\n  {shown}"))
}

/// The seeds to go through: the one that `one` names, those that `many` names by their number or as `FROM..TO`, or as
/// many as are usual. A value that cannot be read fails: it would pass for a long run.
pub fn seeds(one: &str, many: &str, usual: u64) -> std::ops::Range<u64> {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{one} and {many} take numbers: {text:?}"));
    if let Ok(seed) = std::env::var(one) {
        return number(&seed)..number(&seed) + 1;
    }
    match std::env::var(many) {
        Ok(range) => match range.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&range),
        },
        Err(_) => 0..usual,
    }
}

#[test]
fn every_world_keeps_the_laws() {
    each(seeds("COUNTERPART_SEED", "COUNTERPART_WORLDS", 1000), run);
}

/// Runs worlds on all cores; the first few violations are told together.
pub fn each<F: Future<Output = Result<(), String>>>(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> F + Sync) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().expect("nobody panics holding it").len() >= 5 {
                        return;
                    }
                    if let Err(failure) = runtime.block_on(run(seed)) {
                        failures.lock().expect("nobody panics holding it").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics holding it");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
