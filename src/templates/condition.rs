//! Conditions on events: one expression of the language that texts are written in.

use counterpart_core::business::{Subject, Topic};
use minijinja::{Environment, UndefinedBehavior};

use super::fields;

/// Steps of the engine at most.
const FUEL: u64 = 10_000;
/// Longer conditions are refused, in bytes.
const MAX_SOURCE: usize = 1_000;

/// A condition on an event, such as `order.total|float > 50`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(String);

impl Condition {
    /// Takes an expression that can be asked of every event about `topic`; an error says what is wrong with it.
    pub fn parse(text: &str, topic: Topic) -> Result<Condition, String> {
        if text.len() > MAX_SOURCE {
            return Err(format!("a condition has at most {MAX_SOURCE} characters"));
        }
        let condition = Condition(text.to_owned());
        for subject in [fields::full(topic), fields::minimal(topic)] {
            condition.holds(&subject)?;
        }
        Ok(condition)
    }

    /// Whether it holds; an error where the event has no answer to it.
    pub fn holds(&self, subject: &Subject) -> Result<bool, String> {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(FUEL));
        engine.add_filter("float", |value: minijinja::value::Value| -> f64 {
            value.as_str().and_then(|text| text.parse().ok()).or_else(|| f64::try_from(value).ok()).unwrap_or_default()
        });
        let told = |error: minijinja::Error| format!("the condition cannot be read: {error:#}");
        let expression = engine.compile_expression(&self.0).map_err(told)?;
        let value = expression.eval(minijinja::value::Serde(fields::json(subject))).map_err(told)?;
        Ok(value.is_true())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_ask_what_events_have() {
        for (text, full, minimal) in [
            ("order.total|float > 50", true, false),
            ("order.currency == 'EUR' and order.customer.country != 'DE'", true, false),
            ("order.note", true, false),
        ] {
            let condition = Condition::parse(text, Topic::Order).expect("a sound condition");
            assert_eq!(condition.holds(&fields::full(Topic::Order)), Ok(full), "{text}");
            assert_eq!(condition.holds(&fields::minimal(Topic::Order)), Ok(minimal), "{text}");
        }
        for wrong in ["order.totl > 5", "ticket.status", "order.total >", "range(1000000000)|list|length > 1", "a|nope"]
        {
            assert!(Condition::parse(wrong, Topic::Order).is_err(), "{wrong}");
        }
    }
}
