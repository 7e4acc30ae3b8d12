//! Speed and memory, as ratios within one run: `cargo bench --bench throughput [-- PART]`.
//!
//! Parts: `pull` (100,000 contacts over loopback into SQLite against a minimal hand-written loop), `noop` (a sync of
//! 100,000 known contacts), `hooks` (webhooks at 500 a second against a bare handler), `memory` (peak memory of
//! `counterpart sync` with 10,000 and 1,000,000 contacts). Everything is printed, reached or not; nothing here fails a build.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark measures the machine and prints")]

mod hooks;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use counterpart_sandbox::{Faults, InstanceSpec, Options, Sandbox, Vendor};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// People of the `pull` and `noop` parts.
const PEOPLE: u64 = 100_000;
/// Rounds of the `pull` part; the medians are compared.
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    if wanted("pull") {
        runtime.block_on(pull())?;
    }
    if wanted("noop") {
        noop()?;
    }
    if wanted("hooks") {
        runtime.block_on(hooks::hooks())?;
    }
    if wanted("memory") {
        memory()?;
    }
    Ok(())
}

/// A fake in-house CRM with `people` generated contacts, listening on loopback.
async fn crm(people: u64) -> Result<String, Failure> {
    let settings = BTreeMap::from([
        ("virtual_people".to_owned(), people.to_string()),
        ("page_size".to_owned(), "1000".to_owned()),
    ]);
    let other = InstanceSpec { name: "other".to_owned(), vendor: Vendor::Crm, settings: BTreeMap::new() };
    let instances = vec![InstanceSpec { name: "house".to_owned(), vendor: Vendor::Crm, settings }, other];
    let sandbox = Arc::new(Sandbox::new(Options { seed: 1, faults: Faults::none(), instances }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/house", listener.local_addr()?);
    tokio::spawn(counterpart_sandbox::serve(sandbox, listener, std::future::pending()));
    Ok(base)
}

async fn pull() -> Result<(), Failure> {
    let base = crm(PEOPLE).await?;
    let (mut hand, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        hand.push(by_hand(&base, folder.path()).await?);
        let folder = tempfile::tempdir()?;
        ours.push(by_counterpart(&base, folder.path()).await?);
    }
    let (hand, ours) = (median(hand), median(ours));
    let rate = |time: Duration| PEOPLE as f64 / time.as_secs_f64();
    println!("pull: {PEOPLE} contacts over loopback into SQLite, median of {ROUNDS}");
    println!("  hand-written loop  {:>9.0} contacts/s", rate(hand));
    println!("  counterpart        {:>9.0} contacts/s", rate(ours));
    verdict("ratio", rate(ours) / rate(hand), 0.7, "at least");
    Ok(())
}

/// The least one could write: fetch a page, parse it, upsert row by row with a prepared statement, next page.
async fn by_hand(base: &str, folder: &std::path::Path) -> Result<Duration, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("hand.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    sqlx::query("create table contact (id text primary key, body text not null, updated_at text)")
        .execute(&pool)
        .await?;
    let client = reqwest::Client::new();
    let started = Instant::now();
    let mut after: Option<String> = None;
    loop {
        let mut url = format!("{base}/people?limit=1000");
        if let Some(after) = &after {
            url.push_str(&format!("&cursor={after}"));
        }
        let answer = client.get(url).bearer_auth(counterpart_sandbox::CRM_TOKEN).send().await?.error_for_status()?;
        let page: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
        let mut transaction = pool.begin().await?;
        for record in page["people"].as_array().ok_or("no people")? {
            let id = record["id"].as_str().map_or_else(|| record["id"].to_string(), str::to_owned);
            sqlx::query(
                "insert into contact (id, body, updated_at) values (?, ?, ?) \
                 on conflict (id) do update set body = excluded.body, updated_at = excluded.updated_at",
            )
            .bind(id)
            .bind(record.to_string())
            .bind(record["updated_at"].as_str())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        after = match &page["next"] {
            serde_json::Value::String(next) => Some(next.clone()),
            serde_json::Value::Number(next) => Some(next.to_string()),
            _ => return Ok(started.elapsed()),
        };
    }
}

/// The same through the real engine: budget, mapping, normalisation, fingerprints, scan marks, certificate.
async fn by_counterpart(base: &str, folder: &std::path::Path) -> Result<Duration, Failure> {
    let config = write_config(folder, base)?;
    let config = Arc::new(counterpart::config::Config::load(&config)?);
    let store = counterpart::store::Store::open(&config.store_options()).await?;
    store.migrate().await?;
    let engine = counterpart::engine::Engine::new(
        config,
        store,
        Arc::new(counterpart_connectors::SystemClock),
        Arc::new(counterpart_connectors::LiveTransport::new(counterpart_connectors::LiveOptions::default())?),
        Arc::new(counterpart::engine::Silent),
        tokio_util::sync::CancellationToken::new(),
    )?;
    let started = Instant::now();
    let streams = engine.read(&[]).await?;
    let elapsed = started.elapsed();
    let pulled: u64 = streams.iter().map(|stream| stream.pulled).sum();
    assert_eq!(pulled, PEOPLE, "every contact was read");
    Ok(elapsed)
}

/// Two in-house CRMs; nobody is created at the second one, so that only reading and reconciling are measured.
fn write_config(folder: &std::path::Path, base: &str) -> Result<std::path::PathBuf, Failure> {
    let path = folder.join("counterpart.toml");
    let secret = folder.join("token");
    std::fs::write(&secret, counterpart_sandbox::CRM_TOKEN)?;
    let empty = base.rsplit_once('/').map_or(base, |(host, _)| host);
    let text = format!(
        "[store]\nurl = \"sqlite://{db}\"\n\n\
         [connections.house]\nconnector = \"crm\"\nbase_url = \"{base}\"\npage_size = 1000\nrequests_per_minute = 1000000\ntoken = {{ file = \"{secret}\" }}\n\n\
         [connections.other]\nconnector = \"crm\"\nbase_url = \"{empty}/other\"\npage_size = 1000\nrequests_per_minute = 1000000\ntoken = {{ file = \"{secret}\" }}\n\n\
         [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"house\", \"other\"]\ncreate = []\n",
        db = folder.join("counterpart.db").display(),
        secret = secret.display(),
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

/// `counterpart sandbox` with two in-house CRMs, one of them empty; ended when dropped.
struct SandboxProcess {
    child: Child,
    base: String,
}

impl SandboxProcess {
    fn start(people: u64) -> Result<SandboxProcess, Failure> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let child = Command::new(env!("CARGO_BIN_EXE_counterpart"))
            .args(["sandbox", "--seed", "1", "--listen", &listen])
            .args(["--instance", &format!("house=crm,virtual_people={people},page_size=1000")])
            .args(["--instance", "other=crm,empty=1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&listen).is_err() {
            if Instant::now() > deadline {
                return Err("the sandbox did not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(SandboxProcess { child, base: format!("http://{listen}/house") })
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `counterpart sync` and returns its peak resident memory in KiB and how long it took.
fn sync(config: &std::path::Path) -> Result<(u64, Duration), Failure> {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_counterpart"))
        .args(["--config", &config.display().to_string(), "sync", "--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let code = child.wait()?.code();
    if !matches!(code, Some(0 | 3)) {
        return Err(format!("sync ended with {code:?}").into());
    }
    Ok((peak, started.elapsed()))
}

fn noop() -> Result<(), Failure> {
    let sandbox = SandboxProcess::start(PEOPLE)?;
    let folder = tempfile::tempdir()?;
    let config = write_config(folder.path(), &sandbox.base)?;
    let (_, first) = sync(&config)?;
    let before = record_rows(folder.path())?;
    let (_, second) = sync(&config)?;
    let after = record_rows(folder.path())?;
    println!("noop: {PEOPLE} known contacts");
    println!("  first sync {:.1} s, second sync {:.1} s", first.as_secs_f64(), second.as_secs_f64());
    println!(
        "  record rows {}, changed by the second sync: {}",
        before.0,
        if before == after { "none" } else { "SOME" }
    );
    Ok(())
}

/// Number of record rows and a digest over everything in them.
fn record_rows(folder: &std::path::Path) -> Result<(i64, i64), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(folder.join("counterpart.db"));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        let row: (i64, i64) = sqlx::query_as(
            "select count(*), coalesce(sum(observed_at % 1000003 + revision * 7 + id * dirty), 0) from record",
        )
        .fetch_one(&pool)
        .await?;
        Ok(row)
    })
}

fn memory() -> Result<(), Failure> {
    let mut peaks = Vec::new();
    println!("memory: peak resident memory of `counterpart sync`, first run");
    for people in [10_000, 1_000_000] {
        let sandbox = SandboxProcess::start(people)?;
        let folder = tempfile::tempdir()?;
        let config = write_config(folder.path(), &sandbox.base)?;
        let (peak, time) = sync(&config)?;
        println!("  {people:>9} contacts {:>6.1} MiB in {:.1} s", peak as f64 / 1024.0, time.as_secs_f64());
        peaks.push(peak);
    }
    verdict("growth", peaks[1] as f64 / peaks[0] as f64, 1.3, "less than");
    verdict("MiB at 1,000,000", peaks[1] as f64 / 1024.0, 96.0, "less than");
    Ok(())
}

fn verdict(what: &str, reached: f64, goal: f64, relation: &str) {
    let met = if relation == "at least" { reached >= goal } else { reached < goal };
    println!("  {what} {reached:.2}, goal {relation} {goal}: {}", if met { "reached" } else { "NOT reached" });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
