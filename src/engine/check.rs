//! Asking every vendor whether a connection works.

use std::collections::BTreeSet;
use std::sync::Arc;

use counterpart_connectors::{CheckReport, ErrorKind, Lane};
use serde_json::json;

use super::holder::holder;
use super::session::LeasedGate;
use super::{Engine, EngineError, Verdict};
use crate::budget::Ledger;

impl Engine {
    /// Probes every connection: reachable, credentials accepted, capabilities as configured. It needs no lease, as it
    /// changes nothing, but its calls come out of the budget; who asks to stop gets what was found so far.
    pub async fn check_online(&self) -> Result<Vec<(String, Result<CheckReport, EngineError>)>, EngineError> {
        let names = self.config.connections.keys().cloned().collect();
        let (run, ledger, gate) = self.ask("check", &names).await?;
        let mut results = Vec::new();
        for name in self.config.connections.keys() {
            let result = match self.wire(name, gate.clone()) {
                Ok(wired) => {
                    wired.connection.check(Lane::Incremental).await.map_err(|error| self.vendor(&wired, error))
                }
                Err(error) => Err(error),
            };
            results.push((name.clone(), result));
        }
        ledger.close().await?;
        let stopped = |error: &EngineError| matches!(error, EngineError::Vendor { error, .. } if error.kind == ErrorKind::Stopped);
        let verdict = if results.iter().all(|(_, result)| result.is_ok()) {
            Verdict::Ok
        } else if results.iter().any(|(_, result)| result.as_ref().is_err_and(stopped)) {
            Verdict::Partial
        } else {
            Verdict::Failed
        };
        let reached: Vec<&String> = results.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| name).collect();
        self.store.finish_run(run, verdict.as_str(), &json!({ "reached": reached }), self.clock.now()).await?;
        Ok(results)
    }

    /// A run that asks vendors without changing anything: its number, and the way to the budgets of these connections.
    pub(super) async fn ask(
        &self,
        kind: &str,
        names: &BTreeSet<String>,
    ) -> Result<(i64, Arc<Ledger>, Arc<LeasedGate>), EngineError> {
        let mut budgets = Vec::new();
        for name in names {
            // One that cannot be opened is told by whoever opens it.
            budgets.extend(self.budgets(&BTreeSet::from([name.clone()])).unwrap_or_default());
        }
        let holder = holder();
        let run = self.store.start_run(kind, &[], "", self.clock.now()).await?;
        let ledger = Arc::new(Ledger::new(self.store.clone(), self.clock.clone(), budgets, run, holder.clone()));
        let gate = Arc::new(self.gate(&ledger, Vec::new(), &holder, self.stop.clone()));
        Ok((run, ledger, gate))
    }
}
