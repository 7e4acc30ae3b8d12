//! `counterpart revert`

use std::path::{Path, PathBuf};

use super::app;
use super::output::{Failure, Output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run to take back.
    run: i64,
    /// Write the plan to a file that `apply` takes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (config, store) = app::open(config).await?;
    let engine = app::engine(out, config, store)?;
    let plan = engine.revert_plan(args.run).await?;
    super::plan::deliver(out, &engine, &plan, args.out.as_deref()).await?;
    Ok(if plan.notes.is_empty() { 0 } else { 3 })
}
