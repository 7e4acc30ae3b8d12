//! Events that somebody wrote by hand, to see what a text makes of them.

use chrono::DateTime;
use counterpart_core::business::{Subject, Topic};
use serde_json::{Value as Json, json};

use super::check::suggestion;
use super::fields;

/// What is wrong with a written event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What `told` tells about `topic`. Times may be RFC 3339; a number that is left out is the id, as it is where a vendor has no
/// other.
pub fn written(topic: Topic, mut told: Json) -> Result<Subject, Misfit> {
    let name = topic.as_str();
    let example = fields::json(&fields::full(topic));
    fit(name, &mut told, &example[name])?;
    if let (Some(members), true) = (told.as_object_mut(), example[name]["number"].is_string()) {
        let filled = |key: &str| members.get(key).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()));
        match filled("number").or_else(|| filled("id")).cloned() {
            Some(number) => drop(members.insert("number".to_owned(), number)),
            None => {
                return Err(misfit(format!("`{name}` has no `number`"), "each has one: add `\"number\": \"1007\"`"));
            }
        }
    }
    serde_json::from_value(json!({ name: told }))
        .map_err(|error| misfit(format!("`{name}`: {error}"), "docs/messages.md lists the fields"))
}

fn misfit(message: impl Into<String>, help: impl Into<String>) -> Misfit {
    Misfit { message: message.into(), help: help.into() }
}

/// Holds a value against the example of it: no field that the example has not, nothing of another kind.
fn fit(place: &str, told: &mut Json, example: &Json) -> Result<(), Misfit> {
    match (&mut *told, example) {
        (Json::Null, _) => Ok(()),
        (Json::Object(members), Json::Object(known)) => {
            for (key, value) in members {
                let Some(example) = known.get(key) else {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    return Err(misfit(format!("`{place}` has no field `{key}`"), suggestion(key, &names)));
                };
                fit(&format!("{place}.{key}"), value, example)?;
            }
            Ok(())
        }
        (Json::Array(items), Json::Array(known)) => {
            let Some(example) = known.first() else { return Ok(()) };
            items.iter_mut().enumerate().try_for_each(|(nth, item)| fit(&format!("{place}.{nth}"), item, example))
        }
        (Json::String(text), Json::Number(_)) => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => {
                *told = time.timestamp_millis().into();
                Ok(())
            }
            Err(_) => {
                let help = "write `\"2026-03-04T09:15:00Z\"`, or milliseconds since 1970: `1772615700000`";
                Err(misfit(format!("`{place}` is no time"), help))
            }
        },
        (Json::String(_), Json::String(_)) | (Json::Number(_), Json::Number(_)) | (Json::Bool(_), Json::Bool(_)) => {
            Ok(())
        }
        (_, example) => {
            let example = match example {
                Json::Object(_) => "{…}".to_owned(),
                Json::Array(_) => "[…]".to_owned(),
                plain => plain.to_string(),
            };
            Err(misfit(format!("`{place}` is of another kind"), format!("write it as in `{example}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_events_are_those_of_vendors() {
        let told =
            json!({ "id": "7", "placed_at": "2026-03-04T10:15:00+01:00", "paid_at": 5, "customer": { "name": null } });
        let Ok(Subject::Order(order)) = written(Topic::Order, told) else { panic!("an order") };
        assert_eq!((order.number.as_str(), order.placed_at, order.paid_at), ("7", Some(1_772_615_700_000), Some(5)));
        for topic in [Topic::Order, Topic::Shipment, Topic::Ticket, Topic::Conversation] {
            let full = fields::full(topic);
            assert_eq!(written(topic, fields::json(&full)[topic.as_str()].clone()), Ok(full));
        }
        for (told, message, help) in [
            (json!({ "id": "7", "foo": 1 }), "`order` has no field `foo`", "there are completed_at"),
            (json!({ "id": "7", "totl": "1" }), "`order` has no field `totl`", "did you mean `total`?"),
            (json!({ "items": [{ "nam": "Cup" }] }), "`order.items.0` has no field `nam`", "did you mean `name`?"),
            (json!({ "total": 12.5 }), "`order.total` is of another kind", "write it as in `\"1234.50\"`"),
            (json!({ "items": {} }), "`order.items` is of another kind", "write it as in `[…]`"),
            (json!({ "paid_at": "yesterday" }), "`order.paid_at` is no time", "write `\"2026-03-04T09:15:00Z\"`"),
            (json!({ "total": "1" }), "`order` has no `number`", "each has one"),
            (json!({ "id": "7", "status": "payed" }), "`order`: unknown variant `payed`", "docs/messages.md"),
            (json!([]), "`order` is of another kind", "write it as in `{…}`"),
        ] {
            let wrong = written(Topic::Order, told).expect_err(message);
            assert!(wrong.message.starts_with(message) && wrong.help.starts_with(help), "{wrong:?}");
        }
    }
}
