//! What is left of a budget now, for showing: the ledger itself draws under the account's lock.

use counterpart_connectors::{BudgetFacts, Millis};
use serde::Serialize;

use super::draw::since;
use crate::store::{Store, StoreError};

/// One window of an account as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Class of endpoint it counts; `all` counts every call.
    pub class: String,
    /// Its length.
    pub per_ms: i64,
    /// Calls it allows, as far as is known: less than configured when the vendor refused or said so.
    pub limit: i64,
    /// Calls it allows as configured.
    pub configured: i64,
    /// Calls that an urgent caller could make now.
    pub left: i64,
    /// The vendor asked for silence until then.
    pub silent_until: Option<Millis>,
}

/// What is left of every window of an account.
pub async fn standing(
    store: &Store,
    account: &str,
    budgets: &[BudgetFacts],
    now: Millis,
) -> Result<Vec<Standing>, StoreError> {
    let known = store.windows_now(account).await?;
    let mut all = Vec::new();
    for facts in budgets {
        let window = known.iter().find(|window| window.class == facts.class && window.per_ms == facts.per_ms);
        let configured = i64::from(facts.requests).max(1);
        let limit = window.map_or(configured, |window| window.limit().min(configured));
        let silent_until = window.map(|window| window.not_before).filter(|&until| until > now);
        let used = store.used_now(account, &facts.class, since(now, facts.per_ms)).await?;
        let left = if silent_until.is_some() { 0 } else { (limit - used).max(0) };
        all.push(Standing { class: facts.class.clone(), per_ms: facts.per_ms, limit, configured, left, silent_until });
    }
    Ok(all)
}
