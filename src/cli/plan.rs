//! `counterpart plan` and `counterpart apply`

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::app;
use super::output::{Failure, Output, duration, time};
use crate::engine::{Engine, PlanHeader, PlanReport, Verdict};

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
        let target = std::fs::File::create(path).map_err(|error| {
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
        out.line(if plan.departures.is_empty() { "nothing to write: everything agrees" } else { "nothing to write" });
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
        Some(path) => out.line(format!("written to {0}; `counterpart apply {0}` does exactly this", path.display())),
        None if !plan.counts.is_empty() => out.line("`--out FILE` keeps it for `counterpart apply`"),
        None => {}
    }
    Ok(())
}

pub(super) async fn apply(out: &Output, config: &Path, args: &ApplyArgs) -> Result<u8, Failure> {
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::usage(format!("{} cannot be read: {error}", args.file.display()), "name a plan file")
    })?;
    let header: PlanHeader = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(
            format!("{} is no plan: {error}", args.file.display()),
            "`counterpart plan --out FILE` writes one",
        )
    })?;
    let (config, store) = app::open(config).await?;
    let engine = app::engine(out, config, store)?;
    let report = engine.apply(&header).await?;
    super::sync::show(out, &report)?;
    Ok(report.verdict.exit_code())
}
