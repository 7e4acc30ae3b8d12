//! Getting from page to page, and noticing a vendor that leads in circles.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::connector::RemoteRecord;
use super::error::ConnectorError;
use super::http::{Answer, Ask, Http};
use super::manifest::{PageFacts, PageKind};

/// Where a walk over pages stands; its JSON is the opaque cursor.
///
/// The walk remembers the page before and, after Brent, one page further back at every power of two: a vendor that
/// repeats itself is noticed whatever the length of the circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Page number, number of records to skip, or the vendor's own text.
    #[serde(rename = "a")]
    pub at: String,
    #[serde(rename = "n")]
    steps: u64,
    #[serde(rename = "m")]
    mark: String,
    #[serde(rename = "p")]
    previous: String,
}

impl Walk {
    /// The walk that `cursor` continues; none starts one.
    pub fn resume(cursor: Option<&str>) -> Result<Option<Walk>, ConnectorError> {
        let Some(cursor) = cursor else { return Ok(None) };
        let walk = serde_json::from_str(cursor);
        walk.map(Some).map_err(|_| ConnectorError::contract("the stored cursor cannot be read: start the walk anew"))
    }

    /// The walk's next step to `at`; `seen` identifies what was read or offered last.
    pub fn step(before: Option<&Walk>, at: String, seen: String) -> Result<Walk, ConnectorError> {
        let Some(before) = before else { return Ok(Walk { at, steps: 1, mark: seen.clone(), previous: seen }) };
        if seen == before.previous || seen == before.mark {
            return Err(ConnectorError::contract(
                "the vendor repeats a page it has given before, so the list cannot be read to its end",
            ));
        }
        let steps = before.steps + 1;
        let mark = if steps.is_power_of_two() { seen.clone() } else { before.mark.clone() };
        Ok(Walk { at, steps, mark, previous: seen })
    }

    /// The opaque cursor.
    pub fn cursor(&self) -> String {
        serde_json::to_string(self).expect("four texts and numbers always serialise")
    }
}

/// A short hash that identifies a page by the ids on it.
pub(crate) fn page_mark(records: &[RemoteRecord]) -> String {
    let mut hash = Sha256::new();
    for record in records {
        hash.update(record.id.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// A short hash of a text.
pub(crate) fn text_mark(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What the answer says about how it goes on, read before the records are taken out of it.
pub(crate) fn announced(
    facts: &PageFacts,
    http: &Http,
    ask: &Ask<'_>,
    answer: &Answer,
    body: &Value,
) -> Result<Option<String>, ConnectorError> {
    let read = |place: &str| match place.starts_with('/') {
        true => body.pointer(place).and_then(text_of),
        false => answer.header(place).map(str::to_owned),
    };
    let said = match facts.kind {
        PageKind::Link => answer.header("link").and_then(link_next),
        _ => facts.read.as_deref().and_then(read),
    };
    match (facts.kind, said) {
        (PageKind::NextUrl | PageKind::Link, Some(address)) => http.next_address(ask, &address).map(Some),
        (_, said) => Ok(said),
    }
}

/// The step to the next page, or none when the walk is over.
pub(crate) fn next(
    facts: &PageFacts,
    before: Option<&Walk>,
    announced: Option<String>,
    records: &[RemoteRecord],
) -> Result<Option<Walk>, ConnectorError> {
    let number = |start: u64| before.map_or(Ok(start), |walk| walk.at.parse::<u64>()).unwrap_or(start);
    match facts.kind {
        PageKind::Page => {
            let page = number(1);
            let last = announced.and_then(|pages| pages.trim().parse::<u64>().ok());
            // An empty page ends the walk, unless the vendor says that more follow.
            if last.map_or(records.is_empty(), |last| page >= last) {
                return Ok(None);
            }
            Walk::step(before, (page + 1).to_string(), page_mark(records)).map(Some)
        }
        PageKind::Offset | PageKind::Keyset if records.is_empty() => Ok(None),
        PageKind::Offset => {
            let offset = number(0) + records.len() as u64;
            Walk::step(before, offset.to_string(), page_mark(records)).map(Some)
        }
        PageKind::Cursor | PageKind::NextUrl | PageKind::Link | PageKind::Keyset => match announced {
            Some(next) if !next.is_empty() => {
                let seen = text_mark(&next);
                Walk::step(before, next, seen).map(Some)
            }
            _ => Ok(None),
        },
    }
}

/// A text or number as a text; anything else is nothing.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The address with `rel="next"` in a `Link` header (RFC 8288).
fn link_next(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some(open) = rest.find('<') {
        let close = open + rest[open..].find('>')?;
        let address = &rest[open + 1..close];
        let tail = &rest[close + 1..];
        let end = tail.find('<').unwrap_or(tail.len());
        let is_next = tail[..end].split([';', ',']).any(|param| {
            let (name, value) = param.split_once('=').unwrap_or((param, ""));
            let relations = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && relations.split_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(address.to_owned());
        }
        rest = &tail[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_of_any_length_are_noticed_within_four_rounds() {
        for tail in [0_u64, 1, 7] {
            for length in 1_u64..40 {
                let mut walk = None;
                let mut steps = 0;
                loop {
                    let position = if steps < tail { steps } else { tail + (steps - tail) % length };
                    match Walk::step(walk.as_ref(), String::new(), position.to_string()) {
                        Ok(next) => walk = Some(next),
                        Err(_) => break,
                    }
                    steps += 1;
                    assert!(steps <= 4 * (tail + length) + 4, "tail {tail} length {length}");
                }
                assert!(steps >= length, "a walk without repetition was stopped");
            }
        }
    }

    #[test]
    fn link_headers() {
        let header = r#"<https://a.example/x?page=1>; rel="prev", <https://a.example/x?page=3&a=1,2>; title="a"; rel="last next""#;
        assert_eq!(link_next(header).as_deref(), Some("https://a.example/x?page=3&a=1,2"));
        assert_eq!(link_next("<https://a.example/x>; rel=prev"), None);
        assert_eq!(link_next("<https://a.example/x>;rel=next").as_deref(), Some("https://a.example/x"));
        assert_eq!(link_next("nonsense <"), None);
    }

    #[test]
    fn a_cursor_survives_and_a_foreign_one_is_refused() {
        let walk = Walk::step(None, "2".into(), "x".into()).unwrap();
        assert_eq!(Walk::resume(Some(&walk.cursor())).unwrap(), Some(walk));
        assert_eq!(Walk::resume(None).unwrap(), None);
        assert!(Walk::resume(Some("after=3")).is_err());
    }
}
