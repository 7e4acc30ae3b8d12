//! The command line: a contract that scripts rely on. One file for each command.
//!
//! Exit codes: 0 done; 1 failed; 2 configuration or usage; 3 partial or degraded; 4 stopped by a guard. Results go to
//! standard output, everything else to standard error. With `--json` standard output is one document, an error included.

mod app;
mod check;
mod conflicts;
mod connectors;
mod demo;
mod explain;
mod hooks;
mod inbox;
mod init;
mod logging;
mod messages;
mod outbox;
mod output;
mod plan;
mod revert;
mod runs;
mod sandbox;
mod serve;
mod status;
mod sync;
#[cfg(feature = "otlp")]
mod traces;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use output::Failure;
use output::Output;

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
    /// Results and errors only: no progress, no remarks, no warnings.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Colours in results, errors and logs; auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
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
    /// Run until stopped: take webhooks, send messages, run syncs by their schedules.
    Serve(serve::Args),
    /// Coverage, freshness, queue and budget of every connection.
    Status(status::Args),
    /// Every field of a person: value, who wrote it, when, under which rule.
    Explain(explain::Args),
    /// What waits for a person.
    Conflicts(conflicts::Args),
    /// The texts that customers get, and how one looks.
    Messages(messages::Args),
    /// Messages to customers and what became of them.
    Outbox(outbox::Args),
    /// Webhooks that came in.
    Inbox(inbox::Args),
    /// Our webhooks at the vendors: list, register, remove.
    Hooks(hooks::Args),
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
    let (json, color) = wishes();
    let cli = match Cli::command().color(color).try_get_matches().and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            if json {
                // The text is there already; what reads documents gets one as well.
                let text = error.render().to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
                let failure = Failure::usage(text, "`counterpart --help`");
                Output::new(json, false, color).line(format!("{:#}", failure.document()));
            }
            return ExitCode::from(2);
        }
        Err(help) => {
            let out = Output::new(json, false, color);
            out.note(help.print());
            return out.unwritten().map_or(ExitCode::SUCCESS, |failure| out.fail(&failure));
        }
    };
    let out = Output::new(cli.json, cli.quiet, cli.color);
    let serves = matches!(cli.command, Command::Serve(_));
    logging::start(cli.verbose, serves, &out);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("the runtime does not start: {error}");
            return out.fail(&Failure::failed(message, "raise the limits of processes and open files"));
        }
    };
    let outcome = runtime.block_on(run(&out, cli));
    #[cfg(feature = "otlp")]
    out.traces.finish();
    match outcome {
        Ok(code) => out.unwritten().map_or(ExitCode::from(code), |failure| out.fail(&failure)),
        Err(failure) => out.fail(&failure),
    }
}

/// `--json` and `--color`, read before the rest so that help and usage errors keep to them too.
fn wishes() -> (bool, ColorChoice) {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let after =
        words.iter().zip(words.iter().skip(1)).find(|(word, _)| *word == "--color").map(|(_, next)| next.as_str());
    let color = words.iter().find_map(|word| word.strip_prefix("--color=")).or(after);
    let color = color.and_then(|text| text.parse().ok()).unwrap_or(ColorChoice::Auto);
    (words.iter().any(|word| word == "--json"), color)
}

async fn run(out: &Output, cli: Cli) -> Result<u8, Failure> {
    let config = cli.config;
    match cli.command {
        Command::Demo(args) => demo::run(out, args).await,
        Command::Init(args) => init::run(out, &config, &args),
        Command::Check(args) => check::run(out, &config, &args).await,
        Command::Connectors(args) => connectors::run(out, &config, &args).await,
        Command::Plan(args) => plan::run(out, &config, &args).await,
        Command::Apply(args) => plan::apply(out, &config, &args).await,
        Command::Sync(args) => sync::run(out, &config, &args).await,
        Command::Serve(args) => serve::run(out, &config, &args).await,
        Command::Status(args) => status::run(out, &config, &args).await,
        Command::Explain(args) => explain::run(out, &config, &args).await,
        Command::Conflicts(args) => conflicts::run(out, &config, args).await,
        Command::Messages(args) => messages::run(out, &config, &args),
        Command::Outbox(args) => outbox::run(out, &config, args).await,
        Command::Inbox(args) => inbox::run(out, &config, args).await,
        Command::Hooks(args) => hooks::run(out, &config, args).await,
        Command::Runs(args) => runs::run(out, &config, &args).await,
        Command::Revert(args) => revert::run(out, &config, &args).await,
        Command::Sandbox(args) => sandbox::run(out, args).await,
        Command::Migrate => app::migrate(out, &config).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "counterpart", &mut text);
            out.text(&String::from_utf8_lossy(&text))?;
            Ok(0)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut text)
                .map_err(|error| Failure::failed(error.to_string(), "`counterpart --help` says the same"))?;
            out.text(&String::from_utf8_lossy(&text))?;
            Ok(0)
        }
    }
}
