//! The laws over generated worlds. `COUNTERPART_WORLDS` says how many (1,000 without it), `COUNTERPART_SEED` replays one.

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

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn every_world_keeps_the_laws() {
    let seeds = match from_env("COUNTERPART_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("COUNTERPART_WORLDS").unwrap_or(1000),
    };
    each(seeds, run);
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
