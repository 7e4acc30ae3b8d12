//! Whether the program can do its work.

use super::Desk;
use crate::engine::{Unread, message_worker, unread_streams};

/// Why not, a sentence each; empty when it can.
pub(super) async fn unready(desk: &Desk) -> Vec<String> {
    let mut reasons = Vec::new();
    if desk.engine.is_stopped() {
        reasons.push("it is stopping".to_owned());
    }
    if let Err(error) = desk.engine.store().require_schema().await {
        reasons.push(error.to_string());
        return reasons;
    }
    match message_worker(desk.engine.store(), desk.now()).await {
        Ok(Some(_)) => {}
        Ok(None) => reasons.push("nobody does the work: no process holds its lease".to_owned()),
        Err(error) => reasons.push(error.to_string()),
    }
    reasons
}

/// What is not as it should be although the program does its work: to send webhooks elsewhere because a vendor refuses us would
/// only lose them.
pub(super) async fn degraded(desk: &Desk) -> Vec<String> {
    match unread_streams(desk.engine.store(), desk.engine.config()).await {
        Ok(unread) => unread.iter().map(Unread::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}
