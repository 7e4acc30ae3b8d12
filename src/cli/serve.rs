//! `counterpart serve`

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::app;
use super::output::{Failure, Output};
use crate::engine::Silent;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port instead of `listen` in [serve].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let (config, store) = app::open_durable(config).await?;
    let listen = args.listen.as_ref().unwrap_or(&config.serve.listen).clone();
    let hint = "name another address with `--listen` or `listen` in [serve]";
    let refused = |error: std::io::Error| Failure::failed(format!("{listen} cannot be listened on: {error}"), hint);
    let listener = TcpListener::bind(&listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?.to_string();
    let engine = Arc::new(app::engine_with(out, config, store, Arc::new(Silent))?);
    if out.json {
        out.document(&serde_json::json!({ "listening": address }))?;
    }
    tracing::info!("listening on {address}");
    crate::serve::serve(engine, listener).await?;
    tracing::info!("stopped");
    Ok(0)
}
