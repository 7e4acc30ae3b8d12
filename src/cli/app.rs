//! What most commands begin with: configuration, store, engine, and a way to stop.

use std::path::Path;
use std::sync::Arc;

use counterpart_connectors::kit::redact;
use counterpart_connectors::{
    Connection, ConnectionSpec, LiveOptions, LiveTransport, OpenError, OpenGate, SystemClock,
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::{Failure, Output, duration};
use crate::config::{Config, load_mapping};
use crate::engine::{Engine, Event, Progress};
use crate::store::Store;

/// Loads the configuration and opens its store with the schema up to date.
pub(super) async fn open(config: &Path) -> Result<(Arc<Config>, Store), Failure> {
    let config = Config::load(config)?;
    // Where messages go out, a power cut must not make the store forget that one was being sent.
    let durable = !config.flows.is_empty();
    ready(config, durable).await
}

/// The same for a process that answers for what it has stored.
pub(super) async fn open_durable(config: &Path) -> Result<(Arc<Config>, Store), Failure> {
    ready(Config::load(config)?, true).await
}

async fn ready(config: Config, durable: bool) -> Result<(Arc<Config>, Store), Failure> {
    let options = config.store_options();
    let store = if durable { Store::open_durable(&options).await? } else { Store::open(&options).await? };
    store.migrate().await?;
    Ok((Arc::new(config), store))
}

/// An engine on the real network and the real clock, which stops between calls at the first Ctrl-C, SIGTERM or SIGHUP.
pub(super) fn engine(out: &Output, config: Arc<Config>, store: Store) -> Result<Engine, Failure> {
    engine_with(out, config, store, Arc::new(Bars::new(out)))
}

/// The same, telling its progress elsewhere.
pub(super) fn engine_with(
    out: &Output,
    config: Arc<Config>,
    store: Store,
    progress: Arc<dyn Progress>,
) -> Result<Engine, Failure> {
    let problems: Vec<_> = config
        .connections
        .values()
        .filter_map(|connection| load_mapping(&config, connection).err())
        .flatten()
        .collect();
    if !problems.is_empty() {
        return Err(Failure::mistakes("mapping", problems));
    }
    #[cfg(feature = "otlp")]
    if let Some(telemetry) = &config.telemetry {
        out.traces.start(telemetry)?;
    }
    let stop = CancellationToken::new();
    stop_on_ctrl_c(out, stop.clone());
    Ok(Engine::new(config, store, Arc::new(SystemClock), transport()?, progress, stop)?)
}

/// The real network.
pub(super) fn transport() -> Result<Arc<LiveTransport>, Failure> {
    let wrong = "check the machine's certificates and the limit of open files";
    let opened = LiveTransport::new(LiveOptions::default()).map(Arc::new);
    opened.map_err(|error| Failure::failed(error.to_string(), wrong))
}

/// A connection for what it knows without asking anybody; its calls would not come out of a budget.
pub(super) fn connection(config: &Config, name: &str, transport: Arc<LiveTransport>) -> Result<Connection, OpenError> {
    let connection = &config.connections[name];
    let spec = ConnectionSpec {
        name: name.to_owned(),
        connector: connection.connector.clone(),
        settings: connection.settings.clone(),
        secrets: connection.secrets.clone(),
        manifest_dirs: config.connectors_dir.iter().cloned().collect(),
    };
    Connection::open(spec, transport, Arc::new(OpenGate), Arc::new(SystemClock))
}

/// The first Ctrl-C, SIGTERM or SIGHUP stops cleanly between calls, the second Ctrl-C or SIGTERM at once.
pub(super) fn stop_on_ctrl_c(out: &Output, stop: CancellationToken) {
    let quiet = out.quiet;
    tokio::spawn(async move {
        let mut interrupt = signal(SignalKind::interrupt()).ok();
        let mut term = signal(SignalKind::terminate()).ok();
        // `nohup` has asked not to be told.
        let mut hangup = if ignores_hangup() { None } else { signal(SignalKind::hangup()).ok() };
        loop {
            let is_hangup = tokio::select! {
                () = heard(&mut interrupt) => false,
                () = heard(&mut term) => false,
                () = heard(&mut hangup) => true,
            };
            // A terminal that closes tells more than once: by itself, and through its shell.
            if stop.is_cancelled() && !is_hangup {
                std::process::exit(130);
            }
            if !stop.is_cancelled() && !quiet {
                let text = format_args!("stopping after the call that is under way; once more ends at once\n");
                let _ = std::io::Write::write_fmt(&mut std::io::stderr().lock(), text);
            }
            stop.cancel();
        }
    });
}

/// The next of these signals; never where they cannot be listened to.
async fn heard(signals: &mut Option<Signal>) {
    let told = match signals {
        Some(signals) => signals.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending().await
    }
}

/// Whether whoever started this process has it ignore SIGHUP, as `nohup` does. Listening would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Progress bars on a terminal, plain lines elsewhere.
struct Bars {
    quiet: bool,
    terminal: bool,
    all: MultiProgress,
    bars: std::sync::Mutex<std::collections::BTreeMap<String, ProgressBar>>,
}

impl Bars {
    fn new(out: &Output) -> Bars {
        Bars {
            quiet: out.quiet,
            terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()),
            all: MultiProgress::new(),
            bars: std::sync::Mutex::default(),
        }
    }

    fn show(&self, name: String, done: u64, total: Option<u64>, eta_ms: Option<i64>) {
        if self.quiet || !self.terminal {
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bar = bars.entry(name.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:24} {bar:30} {pos}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            self.all.add(ProgressBar::new(0).with_style(style).with_prefix(name))
        });
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
        match eta_ms {
            Some(left) if left > 1000 => bar.set_message(format!("about {} left", duration(left))),
            _ => bar.set_message(""),
        }
        if total.is_some_and(|total| done >= total) {
            bar.finish();
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Pulling { connection, done, total, eta_ms, .. } => {
                self.show(format!("reading {connection}"), done, total, eta_ms);
            }
            Event::Reconciling { done, total } => self.show("reconciling".to_owned(), done, Some(total), None),
            Event::Pushing { connection, done, total, eta_ms } => {
                self.show(format!("writing {connection}"), done, Some(total), eta_ms);
            }
            Event::Note(text) if !self.quiet => {
                // It goes where the log goes; the result says it in full.
                let text = redact::for_log(text);
                let _ = self.all.println(&text);
                if !self.terminal {
                    let mut err = std::io::stderr().lock();
                    let _ = std::io::Write::write_fmt(&mut err, format_args!("{text}\n"));
                }
            }
            Event::Note(_) => {}
        }
    }
}

/// `counterpart migrate`
pub(super) async fn migrate(out: &Output, config: &Path) -> Result<u8, Failure> {
    let config = Config::load(config)?;
    let store = Store::open(&config.store_options()).await?;
    let applied = store.migrate().await?;
    if out.json {
        out.document(&serde_json::json!({ "applied": applied }))?;
    } else if applied.is_empty() {
        out.line("the store is up to date");
    } else {
        for name in applied {
            out.line(format!("applied {name}"));
        }
    }
    Ok(0)
}
