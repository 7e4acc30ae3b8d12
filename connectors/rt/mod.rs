//! Request Tracker: times with whole seconds, and one shape of a ticket wherever it comes from (see BEHAVIOR.md).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::Value;

use crate::kit::act::{Act, Acted};
use crate::kit::connector::{
    CheckReport, Connector, Cx, MatchKey, Page, PullMode, PullRequest, Push, RemoteRecord, Written,
};
use crate::kit::error::ConnectorError;
use crate::kit::gate::Purpose;
use crate::kit::http::Ask;
use crate::kit::manifest::{Manifest, StreamFacts};
use crate::kit::paging::{self, Walk};
use crate::kit::rest::{self, Rest};
use crate::kit::ticket;
use crate::kit::time;

/// Characters of a subject beside our mark: longer ones are cut, and the mark with them.
const SUBJECT: usize = 150;
/// Length of our mark, in hexadecimal digits.
const MARK: usize = 24;

/// The Request Tracker connector.
pub(crate) struct Rt {
    rest: Rest,
}

impl Rt {
    pub(crate) fn new(manifest: Arc<Manifest>) -> Rt {
        Rt { rest: Rest::new(manifest) }
    }
}

#[async_trait]
impl Connector for Rt {
    fn manifest(&self) -> &Manifest {
        self.rest.manifest()
    }

    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError> {
        let (about, _) = cx.http.json(cx.lane, &Ask::new(Purpose::Check, Method::GET, "/rt")).await?;
        let version = paging::text_of(&about["Version"]);
        Ok(CheckReport { version, ..self.rest.check(cx).await? })
    }

    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        let facts = self.rest.facts(request.stream)?;
        let mut page = match request.mode {
            PullMode::Since(at) => {
                // TicketSQL knows neither `T` and `Z` nor parts of a second.
                let since = time::to_iso(at).get(..19).unwrap_or_default().replace('T', " ");
                let walk = Walk::resume(request.cursor)?;
                let values = [("since", since.as_str())];
                Rest::page(cx, facts, Purpose::Pull, &facts.list.since, &values, walk.as_ref()).await?
            }
            PullMode::Full | PullMode::Head => self.rest.pull(cx, request).await?,
        };
        page.records.iter_mut().for_each(|record| slim(facts, record));
        Ok(page)
    }

    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        let call = facts.get.as_deref().unwrap_or_default();
        let (method, target) = rest::request_line(cx, call, &[("id", &rest::segment(id)?)])?;
        let ask = Ask::new(Purpose::Fetch, method, target);
        let (body, answer) = cx.http.json(cx.lane, &ask).await?;
        let message = format!("{}: there is no ticket in the answer", cx.http.what(&ask));
        let mut record = rest::single(facts, body).ok_or_else(|| ConnectorError::contract(message))?;
        // The last transaction's id; an `If-Match` with an older one is refused.
        record.version = answer.header("etag").map(|tag| tag.trim_matches('"').to_owned());
        slim(facts, &mut record);
        Ok(record)
    }

    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        let Some(find) = facts.find.get(key.kind()) else { return self.rest.find(cx, stream, key).await };
        let page = Rest::page(cx, facts, Purpose::Find, &find.params, &[("value", key.value())], None).await?;
        // Part of the subject: equal it never is.
        let mark = format!("[{}]", key.value());
        let is_marked = |record: &RemoteRecord| {
            record.body.pointer(&find.pointer).and_then(Value::as_str).is_some_and(|subject| subject.ends_with(&mark))
        };
        let found: Vec<RemoteRecord> = page.records.into_iter().filter(is_marked).collect();
        if found.is_empty() && page.next.is_some() {
            let message =
                format!("rt: more tickets than a page holds speak of {mark}: whether one ends in it is not sure");
            return Err(ConnectorError::unsupported(message));
        }
        Ok(found)
    }

    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        self.rest.push(cx, stream, push, idempotency_key).await
    }

    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        self.rest.act(cx, act).await
    }

    async fn set_ticket(&self, cx: &Cx, id: &str, fields: &BTreeMap<String, String>) -> Result<Acted, ConnectorError> {
        let mut fields = fields.clone();
        if let Some(subject) = fields.get_mut("subject") {
            let before = self.fetch(cx, "ticket", id).await?;
            // Without it a ticket whose making was not answered would not be found, and made once more.
            if let Some(mark) = before.body["Subject"].as_str().and_then(mark_of) {
                *subject = format!("{} {mark}", subject.chars().take(SUBJECT).collect::<String>().trim_end());
            }
        }
        ticket::set(self, cx, id, &fields).await
    }
}

/// Our mark at the end of a subject, with its brackets.
fn mark_of(subject: &str) -> Option<&str> {
    let mark = &subject[subject.rfind('[')?..];
    let inner = mark.strip_prefix('[')?.strip_suffix(']')?;
    let ours = inner.len() == MARK && inner.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ours.then_some(mark)
}

/// Keeps the fields that a list shows, and our mark beside them, so that a ticket reads the same wherever it comes from.
fn slim(facts: &StreamFacts, record: &mut RemoteRecord) {
    let fields = facts.list.params.get("fields").map(String::as_str).unwrap_or_default();
    if let Some(ticket) = record.body.as_object_mut() {
        ticket.retain(|name, _| fields.split(',').any(|field| field == name));
        ticket.insert("id".to_owned(), Value::String(record.id.clone()));
        let mark = ticket.get("Subject").and_then(Value::as_str).and_then(mark_of);
        if let Some(mark) = mark.map(|mark| mark.trim_matches(['[', ']']).to_owned()) {
            ticket.insert("Mark".to_owned(), Value::String(mark));
        }
    }
}
