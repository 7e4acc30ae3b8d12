//! Conditions on events: one expression of the language that texts are written in.

use counterpart_core::business::{EventKind, Subject};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value as Json;

use super::{check, fields, render};

/// Steps of the engine at most.
const FUEL: u64 = 10_000;
/// Longer conditions are refused, in bytes.
const MAX_SOURCE: usize = 1_000;

/// A condition on an event, such as `order.total|float > 50`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(String);

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Condition {
    /// Takes an expression that can be asked of every event like `on`: its fields are those of the event, and it compares what
    /// can be compared.
    pub fn parse(text: &str, on: EventKind) -> Result<Condition, Vec<ConditionError>> {
        let one = |message: String, help: &str| Err(vec![ConditionError { message, help: help.to_owned() }]);
        if text.len() > MAX_SOURCE {
            return one(format!("a condition has at most {MAX_SOURCE} characters"), "ask less");
        }
        let found = check::condition(text, on);
        if !found.is_empty() {
            let told = |wrong: check::Wrong| ConditionError { message: wrong.message, help: wrong.help };
            return Err(found.into_iter().map(told).collect());
        }
        let condition = Condition(text.to_owned());
        let mut examples = vec![fields::json(&fields::full(on.topic()))];
        examples.extend(fields::gaps(on.topic()));
        match examples.into_iter().find_map(|example| condition.asked_of(example).err()) {
            Some(why) => {
                one(why, "a field may be missing: ask for it first, as in `order.note and \"gift\" in order.note`")
            }
            None => Ok(condition),
        }
    }

    /// Whether it holds; an error where the event has no answer to it.
    pub fn holds(&self, subject: &Subject) -> Result<bool, String> {
        self.asked_of(fields::json(subject))
    }

    fn asked_of(&self, event: Json) -> Result<bool, String> {
        let mut engine = Environment::empty();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(FUEL));
        render::add_plain_filters(&mut engine);
        let told = |error: minijinja::Error| format!("the condition cannot be answered: {error:#}");
        let expression = engine.compile_expression(&self.0).map_err(told)?;
        let value = expression.eval(Serde(event)).map_err(told)?;
        Ok(value.is_true())
    }
}

#[cfg(test)]
mod tests {
    use counterpart_core::business::Topic;

    use super::*;

    fn event(topic: Topic) -> EventKind {
        EventKind::ALL.iter().copied().find(|kind| kind.topic() == topic).expect("every topic has events")
    }

    #[test]
    fn conditions_ask_what_events_have() {
        for (text, full, minimal) in [
            ("order.total|float > 50", true, false),
            ("order.total|float > 1234.5", false, false),
            ("order.total|float >= 1234.5", true, false),
            ("order.total and order.total|float < 50", false, false),
            ("order.total|float < 50", false, true),
            ("order.currency == 'EUR' and order.customer.country != 'DE'", true, false),
            ("order.status in ['paid', 'completed'] and not order.refunded_total|float > 100", true, false),
            ("order.note", true, false),
            ("order.note and 'ring' in order.note", true, false),
            ("order.items|length > 1", true, false),
            ("order.placed_at > 1600000000000", true, false),
        ] {
            let condition = Condition::parse(text, event(Topic::Order)).expect("a sound condition");
            assert_eq!(condition.holds(&fields::full(Topic::Order)), Ok(full), "{text}");
            assert_eq!(condition.holds(&fields::minimal(Topic::Order)), Ok(minimal), "{text}");
        }
    }

    #[test]
    fn labels_and_answers_are_asked_for_too() {
        for text in ["'vip' in conversation.labels", "conversation.resolved", "conversation.can_reply == true"] {
            let condition = Condition::parse(text, event(Topic::Conversation)).expect("a sound condition");
            assert_eq!(condition.holds(&fields::full(Topic::Conversation)), Ok(true), "{text}");
        }
    }

    #[test]
    fn a_condition_that_always_or_never_holds_by_mistake_is_refused() {
        for (text, message, help) in [
            ("order.totl|float > 50", "there is no field `totl`", "did you mean `total`?"),
            ("order.totl > 5", "there is no field `totl`", "did you mean `total`?"),
            ("ticket.status == 'open'", "does not offer `ticket`", "there are order"),
            ("order.total > 50", "a text is compared with a number", "`order.total|float > 50`"),
            ("50 < order.total", "a number is compared with a text", "`order.total|float > 50`"),
            ("order.total|default(0) > 50", "a text is compared with a number", "`order.total|float > 50`"),
            ("order.total == 12", "a text is compared with a number", "`order.total|float > 50`"),
            ("10 < order.total < 50", "is compared with", "`order.total|float > 50`"),
            ("order.total > '50'", "texts have no order here", "`order.total|float > 50`"),
            ("order.total in [12, 50]", "a text is looked for in a number", "`order.total|float > 50`"),
            ("order.total|float > '50'", "a number is compared with a text", "`order.total|float > 50`"),
            ("order.items > 2", "a list is compared with a number", "order.items|length"),
            ("order.customer == 'Anna'", "a group of fields is compared with a text", "order.customer.country"),
            ("order.note|float > 1", "`Please ring twice.` is no number", "missing"),
            ("'ring' in order.note", "the condition cannot be answered", "ask for it first"),
            ("order.total|flaot > 50", "there is no filter `flaot`", "did you mean `float`?"),
            ("order.total|money > 50", "there is no filter `money`", "there are default, float, length"),
            ("order.total >", "the condition cannot be read", "docs/flows.md"),
            ("order.status = 'paid'", "the condition cannot be read", "docs/flows.md"),
            ("range(1000000000)|list|length > 1", "a call cannot be used here", "docs/flows.md"),
            ("order.total|float * 2 > 50", "nothing is calculated or joined here", "amounts come ready"),
        ] {
            let wrong = Condition::parse(text, event(Topic::Order)).expect_err(text);
            let found = wrong.iter().any(|wrong| wrong.message.contains(message) && wrong.help.contains(help));
            assert!(found, "{text}: {wrong:?}");
        }
        let wrong = Condition::parse("conversation.resolved == 'yes'", event(Topic::Conversation)).expect_err("a text");
        assert!(wrong[0].message.contains("a yes or no is compared with a text"), "{wrong:?}");
        assert!(Condition::parse(&"order.note or ".repeat(100), event(Topic::Order)).is_err());
    }
}
