//! The command line: a contract that scripts rely on. One file for each command.
//!
//! Exit codes: 0 done; 1 failed; 2 configuration or usage; 3 partial or degraded; 4 stopped by a guard. Results go to
//! standard output, everything else to standard error.

mod app;
mod check;
mod conflicts;
mod connectors;
mod demo;
mod explain;
mod init;
mod messages;
mod output;
mod plan;
mod revert;
mod runs;
mod sandbox;
mod status;
mod sync;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use output::Failure;
use output::{Output, fail};

/// Keeps chat systems and business systems in agreement.
#[derive(Debug, Parser)]
#[command(name = "counterpart", version, about, max_term_width = 100)]
struct Cli {
    /// The configuration.
    #[arg(long, global = true, default_value = "counterpart.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Say more; twice says everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only what is wrong.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it at work on this machine: fake systems, an embedded store, no account needed.
    Demo(demo::Args),
    /// Write a commented configuration.
    Init(init::Args),
    /// Check the configuration, mappings and message texts; --online asks the vendors too.
    Check(check::Args),
    /// What each connector can do, or test one.
    Connectors(connectors::Args),
    /// Read, and show what would be written, its cost and its time; writes nothing outside.
    Plan(plan::Args),
    /// Do exactly what a plan file says, or nothing when the world has moved.
    Apply(plan::ApplyArgs),
    /// Read, reconcile and write once: what cron runs.
    Sync(sync::Args),
    /// Coverage, freshness, queue and budget of every connection.
    Status,
    /// Every field of a person: value, who wrote it, when, under which rule.
    Explain(explain::Args),
    /// What waits for a person.
    Conflicts(conflicts::Args),
    /// The texts that customers get, and how one looks.
    Messages(messages::Args),
    /// Earlier runs.
    Runs(runs::Args),
    /// Plan to take a run back.
    Revert(revert::Args),
    /// The fake systems alone.
    Sandbox(sandbox::Args),
    /// Bring the store's schema up to date.
    Migrate,
    /// Completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page.
    Man,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    logging(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::failed(format!("the runtime does not start: {error}"))),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure),
    }
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let out = Output { json: cli.json, quiet: cli.quiet };
    let config = cli.config;
    match cli.command {
        Command::Demo(args) => demo::run(&out, args).await,
        Command::Init(args) => init::run(&out, &config, &args),
        Command::Check(args) => check::run(&out, &config, &args).await,
        Command::Connectors(args) => connectors::run(&out, &config, &args).await,
        Command::Plan(args) => plan::run(&out, &config, &args).await,
        Command::Apply(args) => plan::apply(&out, &config, &args).await,
        Command::Sync(args) => sync::run(&out, &config, &args).await,
        Command::Status => status::run(&out, &config).await,
        Command::Explain(args) => explain::run(&out, &config, &args).await,
        Command::Conflicts(args) => conflicts::run(&out, &config, args).await,
        Command::Messages(args) => messages::run(&out, &config, &args),
        Command::Runs(args) => runs::run(&out, &config, &args).await,
        Command::Revert(args) => revert::run(&out, &config, &args).await,
        Command::Sandbox(args) => sandbox::run(&out, args).await,
        Command::Migrate => app::migrate(&out, &config).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "counterpart", &mut text);
            out.raw(&text);
            Ok(0)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut text)
                .map_err(|error| Failure::failed(error.to_string()))?;
            out.raw(&text);
            Ok(0)
        }
    }
}

/// Logs go to standard error; what they may say is decided where they are written, secrets never.
fn logging(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "counterpart=info,warn",
        (false, _) => "counterpart=trace,counterpart_connectors=trace,info",
    };
    let ansi = match cli.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).try_init();
}
