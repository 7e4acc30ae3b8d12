//! What a verified delivery says: which records changed. Nothing else of the body is handed on.

use serde_json::Value;

use super::facts::{HookFacts, Places, TopicFacts};
use super::{Delivery, Hint, HookRefusal, Intake, RefusalKind};
use crate::kit::odd;
use crate::kit::redact::Redactor;
use crate::kit::time;

/// Characters of a topic in a message.
const TOPIC: usize = 80;

/// The hints of a delivery. One event that cannot be read does not cost the others of its batch.
pub(super) fn intake(facts: &HookFacts, delivery: &Delivery<'_>, redactor: &Redactor) -> Result<Intake, HookRefusal> {
    let body = delivery.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(delivery.body);
    let read = odd::read(body).map_err(|_| {
        unreadable("the body is no JSON: does the webhook send its default payload, or one of somebody's own?")
    })?;
    let body = read;
    let events = match &facts.events {
        None => std::slice::from_ref(&body),
        Some(place) => body
            .pointer(place)
            .and_then(Value::as_array)
            .ok_or_else(|| unreadable(format!("the body holds no list of events at \"{place}\"")))?,
    };
    let mut intake = Intake::default();
    let mut first = None;
    for event in events {
        match (Reader { facts, delivery, body: &body, event, redactor }).hint() {
            Ok(hint) => intake.hints.push(hint),
            Err(refusal) => {
                intake.skipped.push(refusal.message.clone());
                first.get_or_insert(refusal);
            }
        }
    }
    match first {
        Some(refusal) if intake.hints.is_empty() => Err(refusal),
        _ => Ok(intake),
    }
}

fn unreadable(message: impl Into<String>) -> HookRefusal {
    HookRefusal::new(RefusalKind::Unreadable, message)
}

struct Reader<'a> {
    facts: &'a HookFacts,
    delivery: &'a Delivery<'a>,
    body: &'a Value,
    event: &'a Value,
    redactor: &'a Redactor,
}

impl Reader<'_> {
    fn hint(&self) -> Result<Hint, HookRefusal> {
        let (topic, about) = self.topic()?;
        let own = about.id.clone().map(Places::One);
        let places = own.as_ref().unwrap_or(&self.facts.id);
        let external_id = self.first_text(places).ok_or_else(|| {
            let topic = self.redactor.excerpt(&topic, TOPIC);
            let (places, most) = (in_words(places), odd::LONGEST_ID);
            unreadable(format!("an event of topic {topic} holds no id of at most {most} bytes at {places}"))
        })?;
        let changed = about.changed.as_ref().and_then(|place| names(self.event.pointer(place)?));
        let read = |place: &Option<String>, value| place.as_ref().and_then(|place| self.text(place, value));
        let time = |place: &String| time::parse(&self.value(place, self.event)?);
        Ok(Hint {
            stream: about.stream.clone(),
            external_id,
            parent: read(&about.parent, self.event).filter(|id| odd::is_id(id)),
            delivery_id: read(&self.facts.delivery_id, self.body),
            event_id: read(&self.facts.event_id, self.event),
            deleted: about.deleted,
            changed,
            occurred_at: self.facts.occurred_at.as_ref().and_then(|places| places.iter().find_map(time)),
            topic,
        })
    }

    fn topic(&self) -> Result<(String, &TopicFacts), HookRefusal> {
        let Some(places) = &self.facts.topic else {
            let only = self.facts.topics.iter().next();
            let (topic, about) = only.ok_or_else(|| unreadable("the manifest lists no topic"))?;
            return Ok((topic.clone(), about));
        };
        let topic = self.first_text(places).ok_or_else(|| {
            unreadable(format!("there is no topic at {}: it is no webhook of this vendor", in_words(places)))
        })?;
        match self.facts.topics.get(&topic) {
            Some(about) => Ok((topic, about)),
            None => Err(HookRefusal::new(
                RefusalKind::UnknownTopic,
                format!(
                    "the topic {} is not used here: the vendor need not send it",
                    self.redactor.excerpt(&topic, TOPIC)
                ),
            )),
        }
    }

    /// What stands in a header, or at a pointer into `value`.
    fn value(&self, place: &str, value: &Value) -> Option<Value> {
        match place.starts_with('/') {
            true => value.pointer(place).cloned(),
            false => self.delivery.header(place).map(Value::from),
        }
    }

    /// What stands at the first of these places that holds a name or an id.
    fn first_text(&self, places: &Places) -> Option<String> {
        places.iter().find_map(|place| self.text(place, self.event))
    }

    /// A name or an id: a text that is neither empty nor too long, or a whole number.
    fn text(&self, place: &str, value: &Value) -> Option<String> {
        match self.value(place, value)? {
            Value::String(text) if !text.is_empty() && odd::is_id(&text) => Some(text),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            _ => None,
        }
    }
}

fn in_words(places: &Places) -> String {
    places.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}

/// The names of what changed; none when the vendor does not say, or says it in a way not known here, since then
/// everything may have changed.
fn names(value: &Value) -> Option<Vec<String>> {
    let mut found: Vec<String> = match value {
        Value::String(name) => vec![name.clone()],
        Value::Object(object) => object.keys().cloned().collect(),
        Value::Array(items) => items.iter().map(names).collect::<Option<Vec<_>>>()?.concat(),
        _ => return None,
    };
    found.sort();
    found.dedup();
    Some(found).filter(|found| !found.is_empty())
}
