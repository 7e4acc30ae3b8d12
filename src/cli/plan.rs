//! `counterpart plan` and `counterpart apply`

use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::app;
use super::output::{Failure, Output, duration, time};
use crate::engine::{Engine, PlanFileError, PlanHeader, PlanReport, Verdict};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of syncs; all without any.
    syncs: Vec<String>,
    /// Write the plan to a file that `apply` takes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// A file written by `plan --out` or `revert --out`.
    file: PathBuf,
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    let engine = app::engine(out, config, store)?;
    let plan = engine.plan(&args.syncs).await?;
    deliver(out, &engine, &plan, args.out.as_deref()).await?;
    Ok(exit_code(&plan))
}

/// A script that goes on to `apply` after a plan that a guard would stop has read nothing.
fn exit_code(plan: &PlanReport) -> u8 {
    let verdict = match plan.streams.iter().all(|stream| stream.complete) {
        _ if !plan.guards.is_empty() => Verdict::Guarded,
        true => Verdict::Ok,
        false => Verdict::Partial,
    };
    verdict.exit_code()
}

/// Prints a plan, and writes it to a file when one is named.
pub(super) async fn deliver(
    out: &Output,
    engine: &Engine,
    plan: &PlanReport,
    file: Option<&Path>,
) -> Result<(), Failure> {
    if let Some(path) = file {
        // It names people: others on this machine are not to read it.
        let mut open = std::fs::OpenOptions::new();
        let target = open.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(|error| {
            let message = format!("{} cannot be written: {error}", path.display());
            Failure::failed(message, "name a file in a folder that you may write to")
        })?;
        engine.write_plan(plan, &mut BufWriter::new(target)).await?;
    }
    if out.json {
        let mut text = Vec::new();
        engine.write_plan(plan, &mut text).await?;
        out.raw(&text);
        return Ok(());
    }
    let mut counts = out.table(&["sync", "at", "operation", "how many"]);
    for count in &plan.counts {
        counts.add_row([&count.sync, &count.connection, &count.action, &count.operations.to_string()]);
    }
    for gone in &plan.departures {
        let records = format!("{} (nothing is written)", gone.records);
        counts.add_row([&plan.syncs.join(", "), &gone.connection, "gone", &records]);
    }
    if !counts.is_empty() {
        out.line(counts.to_string());
    }
    if plan.counts.is_empty() {
        out.line(match plan.kind.strip_prefix("revert:") {
            None if plan.departures.is_empty() => "nothing to write: everything agrees".to_owned(),
            None => "nothing to write".to_owned(),
            Some(run) if plan.notes.is_empty() => format!("nothing to write: run {run} wrote nothing"),
            Some(run) => format!("nothing to write: nothing of run {run} can be taken back"),
        });
    } else {
        let mut cost = out.table(&["at", "calls", "takes"]);
        for forecast in &plan.forecast {
            cost.add_row([&forecast.connection, &forecast.calls.to_string(), &duration(forecast.duration_ms)]);
        }
        out.line(cost.to_string());
        out.line(format!("started now it would be done at {}", time(plan.finish_at)));
    }
    for guard in &plan.guards {
        out.line(format!("trips {}: {}", guard.guard, guard.message));
    }
    for note in &plan.notes {
        out.line(note);
    }
    if plan.conflicts > 0 {
        out.line(format!("{} entries wait for a person: `counterpart conflicts list`", plan.conflicts));
    }
    match file {
        Some(path) if plan.counts.is_empty() => {
            out.line(format!("written to {}, without an operation", path.display()))
        }
        Some(path) => out.line(format!("written to {0}; `counterpart apply {0}` does exactly this", path.display())),
        None if !plan.counts.is_empty() => out.line("`--out FILE` keeps it for `counterpart apply`"),
        None => {}
    }
    Ok(())
}

pub(super) async fn apply(out: &Output, config: &Path, args: &ApplyArgs) -> Result<u8, Failure> {
    let name = args.file.display();
    let file = std::fs::File::open(&args.file)
        .map_err(|error| Failure::usage(format!("{name} cannot be read: {error}"), "name a plan file"))?;
    let header = PlanHeader::read(BufReader::new(file)).map_err(|error| {
        let help = match error {
            PlanFileError::NoPlan(_) => "`counterpart plan --out FILE` writes one",
            PlanFileError::Changed { .. } => "a plan is carried out whole: take it as `--out FILE` has written it",
        };
        Failure::usage(format!("{name}: {error}"), help)
    })?;
    let (config, store) = app::open(config).await?;
    let engine = app::engine(out, config, store)?;
    let report = engine.apply(&header).await?;
    super::sync::show(out, &report)?;
    Ok(report.verdict.exit_code())
}
