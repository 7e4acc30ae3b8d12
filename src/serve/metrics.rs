//! Numbers for Prometheus, in its text format. What is in the store is read when it is asked for.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use counterpart_connectors::Millis;

use super::{Desk, syncs};
use crate::store::{HookState, MessageState, StoreError};

/// What became of deliveries, by connection and word.
#[derive(Default)]
pub(super) struct Tally(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Tally {
    pub fn count(&self, connection: &str, outcome: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((connection.to_owned(), outcome)).or_default() += 1;
    }

    fn all(&self) -> BTreeMap<(String, &'static str), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) async fn text(desk: &Desk) -> Result<String, StoreError> {
    let (store, now) = (desk.engine.store(), desk.now());
    let age = |at: Millis| (now - at).max(0) / 1000;
    let mut page = Page::default();

    page.name("counterpart_hooks_total", "counter", "Webhooks by what became of them, since the start");
    for ((connection, outcome), n) in desk.tally.all() {
        page.line(&[("connection", &connection), ("outcome", outcome)], n);
    }
    page.name(
        "counterpart_hook_subscriptions_total",
        "counter",
        "Webhooks kept at vendors, by what was done about them",
    );
    for ((connection, outcome), n) in desk.kept.all() {
        page.line(&[("connection", &connection), ("outcome", outcome)], n);
    }
    page.name("counterpart_inbox_waiting", "gauge", "Webhooks that wait for their commit");
    page.line(&[], desk.inbox.waiting());
    page.name("counterpart_hooks", "gauge", "Stored webhooks by state");
    for state in [HookState::Pending, HookState::Done, HookState::Failed] {
        page.line(&[("state", state.as_str())], store.count_hooks(state).await?);
    }
    page.name("counterpart_hook_oldest_pending_seconds", "gauge", "How long the oldest pending webhook waits");
    page.line(&[], store.oldest_hook().await?.map_or(0, age));

    page.name("counterpart_messages", "gauge", "Messages by state");
    let messages = store.count_messages().await?;
    for state in MessageState::ALL {
        page.line(&[("state", state.as_str())], messages.get(&state).copied().unwrap_or(0));
    }
    page.name("counterpart_message_oldest_waiting_seconds", "gauge", "How long the oldest unsettled message waits");
    page.line(&[], store.oldest_message().await?.map_or(0, age));
    page.name("counterpart_events", "gauge", "Events that are stored");
    page.line(&[], store.count_events().await?);

    page.name("counterpart_calls_total", "counter", "Calls to vendors, by connection");
    for (connection, n) in store.spent_by_connection().await? {
        page.line(&[("connection", &connection)], n);
    }
    let streams = store.stream_ages().await?;
    page.name("counterpart_stream_read_age_seconds", "gauge", "Since a page of a stream was read");
    for stream in &streams {
        if let Some(at) = stream.read {
            page.line(&[("connection", &stream.connection), ("stream", &stream.stream)], age(at));
        }
    }
    page.name("counterpart_stream_complete_age_seconds", "gauge", "Since a stream was read as a whole");
    for stream in &streams {
        if let Some(at) = stream.whole {
            page.line(&[("connection", &stream.connection), ("stream", &stream.stream)], age(at));
        }
    }
    page.name("counterpart_stream_silent", "gauge", "Streams in which nothing has happened for longer than is usual");
    for silence in desk.silent.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        page.line(&[("connection", &silence.connection), ("stream", &silence.stream)], 1);
    }
    page.name("counterpart_stream_unread", "gauge", "Streams that could not be read as far as was due");
    for unread in desk.unread.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        page.line(&[("connection", &unread.connection), ("stream", &unread.stream)], 1);
    }
    page.name("counterpart_worker_passes_total", "counter", "Passes of the worker in this process");
    page.line(&[], desk.passes.load(Ordering::Relaxed));
    page.name("counterpart_worker", "gauge", "Whether this process is the worker");
    page.line(&[], u8::from(desk.working.load(Ordering::Relaxed)));
    page.name("counterpart_sync_late_seconds", "gauge", "For how long a sync should have begun");
    for sync in desk.engine.config().syncs.iter().filter(|sync| sync.schedule.is_some()) {
        let due = syncs::next(desk, sync).await?;
        page.line(&[("sync", &sync.name)], due.map_or(0, age));
    }
    Ok(page.text)
}

#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn name(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A value of the name that was written last.
    fn line(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn lines_are_in_the_text_format() {
        let mut page = Page::default();
        page.name("a_total", "counter", "How many");
        page.line(&[], 1);
        page.name("b", "gauge", "Which");
        page.line(&[("name", "x\"\\\n"), ("other", "y")], 2);
        page.line(&[("name", "# TYPE c")], 3);
        let expected = "# HELP a_total How many\n# TYPE a_total counter\na_total 1\n# HELP b Which\n# TYPE b gauge\n\
                        b{name=\"x\\\"\\\\\\n\",other=\"y\"} 2\nb{name=\"# TYPE c\"} 3\n";
        assert_eq!(page.text, expected);
    }
}
