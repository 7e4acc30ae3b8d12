//! The conformance suite on a configured connection: under its lease, out of its budget, and never leaving silently what
//! it created there.

use std::collections::BTreeSet;
use std::sync::Arc;

use counterpart_connectors::kit::conformance::{self, Report, Target};
use tokio_util::sync::CancellationToken;

use super::holder::holder;
use super::session::lease_name;
use super::{Engine, EngineError, Verdict};
use crate::budget::Ledger;
use crate::config::ConnectionConfig;

impl Engine {
    /// Runs the suite on a connection. It creates contacts of its own and deletes them, also when it is stopped.
    pub async fn conformance(&self, name: &str) -> Result<Report, EngineError> {
        let config = self.config.connections.get(name).ok_or_else(|| EngineError::NoSuchConnection(name.to_owned()))?;
        let holder = holder();
        self.take_lease(name, &holder).await?;
        let outcome = self.conformance_inner(name, config, &holder).await;
        self.release(&[name.to_owned()], &holder).await?;
        outcome
    }

    async fn conformance_inner(
        &self,
        name: &str,
        config: &ConnectionConfig,
        holder: &str,
    ) -> Result<Report, EngineError> {
        // No sync takes part; the name lets the next test find a run whose process died.
        let about = [format!("connection {name}")];
        let started_at = self.clock.now();
        self.store.fail_orphaned_runs(&about, started_at).await?;
        let active = BTreeSet::from([name.to_owned()]);
        let budgets = self.budgets(&active)?;
        let run = self.store.start_run("conformance", &about, "", started_at).await?;
        let ledger = Arc::new(Ledger::new(self.store.clone(), self.clock.clone(), budgets, run, holder.to_owned()));
        let mut target = Target::new(self.spec(name, config), self.transport.clone(), self.clock.clone());
        target.gate = Arc::new(self.gate(&ledger, vec![lease_name(name)], holder, self.stop.clone()));
        // Whoever asks to stop wants the contacts gone all the same.
        target.cleanup = Some(Arc::new(self.gate(&ledger, vec![lease_name(name)], holder, CancellationToken::new())));
        if config.read_only {
            target.samples = None;
        }
        let report = conformance::run(target).await;
        ledger.close().await?;
        let verdict = match (report.passed(), report.interrupted) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Partial,
            (true, false) => Verdict::Ok,
        };
        let summary = serde_json::to_value(&report).map_err(std::io::Error::other)?;
        self.store.finish_run(run, verdict.as_str(), &summary, self.clock.now()).await?;
        Ok(report)
    }
}
