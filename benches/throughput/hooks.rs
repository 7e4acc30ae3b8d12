//! Webhooks that come at a steady pace, whatever is still unanswered: how long until each is on disk and answered, against
//! the least that could do it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use counterpart::engine::{Engine, Silent};
use counterpart::store::Store;
use counterpart_sandbox::{Faults, HookDelivery, InstanceSpec, NewOrder, Options, Sandbox, Vendor};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Failure, verdict};

/// Webhooks a second.
const PACE: u32 = 500;
/// Webhooks in all.
const HOOKS: usize = 5_000;
/// Of so many webhooks one may take longer than what is measured.
const ONE_IN: usize = 100;
const SECRET: &str = "s3cr3t";

pub async fn hooks() -> Result<(), Failure> {
    let (base, deliveries) = shop().await?;
    let bare = {
        let folder = tempfile::tempdir()?;
        let address = bare(folder.path()).await?;
        paced(&format!("http://{address}/hooks/shop"), &deliveries).await?
    };
    let ours = {
        let folder = tempfile::tempdir()?;
        let (address, stop, task) = counterpart(&base, folder.path()).await?;
        let ours = paced(&format!("http://{address}/hooks/shop"), &deliveries).await?;
        stop.cancel();
        task.await??;
        ours
    };
    println!(
        "hooks: {HOOKS} signed WooCommerce deliveries at {PACE} a second into SQLite, each on disk before its answer"
    );
    for (what, times) in [("bare axum handler", &bare), ("counterpart serve", &ours)] {
        let at = |share: usize| times[times.len() - 1 - times.len() / share].as_secs_f64() * 1e3;
        let most = times[times.len() - 1].as_secs_f64() * 1e3;
        println!("  {what}  median {:>6.2} ms, 99th percentile {:>6.2} ms, most {most:>6.2} ms", at(2), at(ONE_IN));
    }
    let p99 = |times: &[Duration]| times[times.len() - 1 - times.len() / ONE_IN].as_secs_f64() * 1e3;
    println!("  99th percentile, ratio to the bare handler {:.2}", p99(&ours) / p99(&bare));
    verdict("99th percentile in ms", p99(&ours), 10.0, "less than");
    Ok(())
}

/// A shop over loopback, and what it tells of its orders.
async fn shop() -> Result<(String, Vec<HookDelivery>), Failure> {
    let settings = [("webhook_secret", SECRET), ("webhook_topics", "order.created")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let shop =
        InstanceSpec { name: "shop".to_owned(), vendor: Vendor::Woocommerce, settings: BTreeMap::from(settings) };
    let sandbox = Arc::new(Sandbox::new(Options { seed: 1, faults: Faults::none(), instances: vec![shop] }));
    for number in 0..HOOKS {
        let order = NewOrder {
            email: Some(format!("customer{number}@example.test")),
            phone: None,
            given: "Ana".to_owned(),
            family: "Lind".to_owned(),
            customer: None,
            status: "processing".to_owned(),
            currency: "EUR".to_owned(),
            items: vec![("Cup".to_owned(), 2, "12.50".to_owned())],
            country: Some("SE".to_owned()),
        };
        sandbox.place_order(1_700_000_000_000, "shop", &order);
    }
    let deliveries = sandbox.take_hooks().into_iter().filter(|hook| hook.body.len() > 100).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/shop", listener.local_addr()?);
    tokio::spawn(counterpart_sandbox::serve(sandbox, listener, std::future::pending()));
    Ok((base, deliveries))
}

/// The daemon as it is, its worker included, which reads the orders again at the pace that the shop allows.
async fn counterpart(
    base: &str,
    folder: &std::path::Path,
) -> Result<(String, CancellationToken, tokio::task::JoinHandle<Result<(), counterpart::serve::ServeError>>), Failure> {
    std::fs::write(folder.join("token"), counterpart_sandbox::TOKEN)?;
    std::fs::write(folder.join("secret"), SECRET)?;
    let file = |name: &str| format!("{{ file = \"{}\" }}", folder.join(name).display());
    let text = format!(
        "[store]\nurl = \"sqlite://{}\"\n\n[connections.shop]\nconnector = \"woocommerce\"\nbase_url = \"{base}\"\n\
         consumer_key = {token}\nconsumer_secret = {token}\nwebhook_secret = {secret}\n\
         [connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://127.0.0.1:9\"\naccount_id = 1\n\
         api_access_token = {token}\n\
         [[flows]]\non = \"order.created\"\nfrom = \"shop\"\nsend = \"order-confirmation\"\nto = \"chat\"\n",
        folder.join("counterpart.db").display(),
        token = file("token"),
        secret = file("secret"),
    );
    let path = folder.join("counterpart.toml");
    std::fs::write(&path, text)?;
    let config = Arc::new(counterpart::config::Config::load(&path)?);
    let store = Store::open_durable(&config.store_options()).await?;
    store.migrate().await?;
    let stop = CancellationToken::new();
    let network = Arc::new(counterpart_connectors::LiveTransport::new(counterpart_connectors::LiveOptions::default())?);
    let clock = Arc::new(counterpart_connectors::SystemClock);
    let engine = Arc::new(Engine::new(config, store, clock, network, Arc::new(Silent), stop.clone())?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    Ok((address, stop, tokio::spawn(counterpart::serve::serve(engine, listener))))
}

/// The least that could do it: the body becomes a row, and the row is on disk when the answer goes out. It verifies
/// nothing.
async fn bare(folder: &std::path::Path) -> Result<String, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    sqlx::query("create table hook (id integer primary key, body text not null)").execute(&pool).await?;
    async fn store(State(pool): State<SqlitePool>, body: String) -> axum::http::StatusCode {
        match sqlx::query("insert into hook (body) values (?)").bind(body).execute(&pool).await {
            Ok(_) => axum::http::StatusCode::OK,
            Err(_) => axum::http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }
    let router = Router::new().route("/hooks/shop", post(store)).with_state(pool);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Posts every delivery at its time and returns how long after that time each was answered, sorted.
async fn paced(url: &str, deliveries: &[HookDelivery]) -> Result<Vec<Duration>, Failure> {
    let client = reqwest::Client::new();
    let started = Instant::now() + Duration::from_millis(100);
    let mut under_way = tokio::task::JoinSet::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        let at = started + Duration::from_secs(1) * u32::try_from(number)? / PACE;
        let mut request = client.post(url).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(name, value);
        }
        under_way.spawn(answered(at, request));
    }
    let mut times = Vec::with_capacity(deliveries.len());
    while let Some(done) = under_way.join_next().await {
        times.push(done??);
    }
    times.sort();
    Ok(times)
}

async fn answered(at: Instant, request: reqwest::RequestBuilder) -> Result<Duration, Failure> {
    tokio::time::sleep_until(at.into()).await;
    request.send().await?.error_for_status()?;
    Ok(at.elapsed())
}
