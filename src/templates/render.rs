//! Filling a text: small language, bounded work, plain output.

use std::io;

use chrono_tz::Tz;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value as Json;

use super::locale::Formats;

/// Longer messages are refused, in bytes.
pub(super) const MAX_OUTPUT: usize = 64 * 1024;

/// Steps of the engine; an order of 500 lines takes about 10,000.
const FUEL: u64 = 100_000;

/// What a text can do with a value.
pub(super) const FILTERS: [&str; 8] = ["money", "number", "plural", "date", "datetime", "default", "float", "length"];

/// Those of them that need no reader: what a condition can do with a value.
pub(super) const PLAIN_FILTERS: [&str; 3] = ["default", "float", "length"];

/// A text made ready for the engine: a tag alone on its line takes the line away, any other leaves the line end.
pub(super) struct Prepared {
    pub text: String,
    /// Where a byte was added, as offsets of the text before.
    added: Vec<usize>,
}

impl Prepared {
    /// A text without tags, as it is.
    pub fn plain(text: &str) -> Prepared {
        Prepared { text: text.to_owned(), added: Vec::new() }
    }

    pub fn new(body: &str) -> Prepared {
        let mut text = String::with_capacity(body.len() + 16);
        let mut added = Vec::new();
        let mut at = 0;
        for line in body.split_inclusive('\n') {
            let end = line.trim_end_matches('\n');
            // The engine drops the line end after every tag; `+` keeps it.
            let kept = ["%}", "#}"].into_iter().find(|tag| end.ends_with(tag)).filter(|_| !tags_only(end));
            match kept {
                Some(close) if !end.ends_with(&format!("-{close}")) && !end.ends_with(&format!("+{close}")) => {
                    let cut = end.len() - close.len();
                    added.push(at + cut);
                    text.extend([&line[..cut], "+", &line[cut..]]);
                }
                _ => text.push_str(line),
            }
            at += line.len();
        }
        Prepared { text, added }
    }

    /// Where an expression begins: the engine places `a.b.c` at its second part.
    pub fn begin(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        if !self.text.get(offset..).is_some_and(|rest| rest.starts_with('.')) {
            return offset;
        }
        before.trim_end_matches(|letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.')).len()
    }

    /// The offset in the text as it was written.
    pub fn original(&self, offset: usize) -> usize {
        let before = self.added.iter().enumerate().take_while(|(index, at)| **at + index < offset).count();
        offset - before
    }
}

/// Whether a line holds nothing but tags and comments.
fn tags_only(line: &str) -> bool {
    let mut rest = line.trim();
    while !rest.is_empty() {
        let close = match rest.get(..2) {
            Some("{%") => "%}",
            Some("{#") => "#}",
            _ => return false,
        };
        let Some(end) = rest.find(close) else { return false };
        rest = rest[end + 2..].trim_start();
    }
    true
}

/// How the engine reads a text.
pub(super) fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

/// An engine that knows our filters and nothing else.
pub(super) fn engine<'a>(formats: &Formats, zone: Option<Tz>) -> Environment<'a> {
    let mut engine = Environment::empty();
    engine.set_syntax(syntax());
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_fuel(Some(FUEL));
    engine.set_formatter(|out, _, value| match value.kind() {
        ValueKind::None | ValueKind::Undefined => Err(missing()),
        ValueKind::String | ValueKind::Number | ValueKind::Bool => {
            write!(out, "{value}").map_err(|_| Error::new(ErrorKind::WriteFailure, "the message is too long"))
        }
        _ => Err(wrong("a list or a group of fields cannot be printed")),
    });
    let own = formats.clone();
    engine.add_filter("money", move |amount: Value, currency: Option<Value>| -> Result<Value, Error> {
        let Some(text) = decimal(&amount)? else { return Ok(amount) };
        let currency = currency.filter(|currency| !is_missing(currency));
        let code = currency.as_ref().and_then(|currency| currency.as_str());
        let written = own.money(&text, code);
        written.map(Value::from).ok_or_else(|| wrong(format!("`{text}` in `{}` is no amount", code.unwrap_or("?"))))
    });
    let own = formats.clone();
    engine.add_filter("number", move |number: Value| -> Result<Value, Error> {
        let Some(text) = decimal(&number)? else { return Ok(number) };
        own.number(&text).map(Value::from).ok_or_else(|| wrong(format!("`{text}` is no number")))
    });
    let own = formats.clone();
    engine.add_filter("plural", move |number: Value, forms: Kwargs| -> Result<Value, Error> {
        let Some(text) = decimal(&number)? else { return Ok(number) };
        let category = own.plural(&text).ok_or_else(|| wrong(format!("`{text}` is no number")))?;
        let form: String = match forms.get::<Option<String>>(category)? {
            Some(form) => form,
            None => forms.get("other").map_err(|_| wrong("`plural` needs `other`"))?,
        };
        Ok(Value::from(form.replace('#', &own.number(&text).unwrap_or(text))))
    });
    let own = formats.clone();
    engine.add_filter("date", move |at: Value, zone_name: Option<Value>| -> Result<Value, Error> {
        if is_missing(&at) {
            return Ok(at);
        }
        let zone = named_zone(zone_name)?.or(zone).unwrap_or(Tz::UTC);
        own.date(time(&at)?, zone).map(Value::from).ok_or_else(|| wrong("this is no time"))
    });
    let own = formats.clone();
    engine.add_filter("datetime", move |at: Value, zone_name: Option<Value>| -> Result<Value, Error> {
        if is_missing(&at) {
            return Ok(at);
        }
        let chosen = named_zone(zone_name)?.or(zone);
        let text = own.datetime(time(&at)?, chosen.unwrap_or(Tz::UTC)).ok_or_else(|| wrong("this is no time"))?;
        // Nobody chose UTC, so the reader is told.
        Ok(Value::from(if chosen.is_some() { text } else { format!("{text} UTC") }))
    });
    add_plain_filters(&mut engine);
    engine
}

/// The filters that need no reader.
pub(super) fn add_plain_filters(engine: &mut Environment<'_>) {
    engine.add_filter("default", |value: Value, other: Value| if is_missing(&value) { other } else { value });
    engine.add_filter("length", |value: Value| -> Result<usize, Error> {
        if value.kind() == ValueKind::Seq {
            value.len().ok_or_else(|| wrong("this has no length"))
        } else {
            Err(wrong("only a list has a length"))
        }
    });
    engine.add_filter("float", |value: Value| -> Result<f64, Error> {
        let Some(text) = decimal(&value)? else { return Ok(0.0) };
        let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| wrong(format!("`{text}` is no number")))
    });
}

/// A prepared text with its values in their places.
pub(super) fn fill(engine: &Environment<'_>, prepared: &Prepared, values: &Json) -> Result<String, Error> {
    let template = engine.template_from_named_str("message", &prepared.text)?;
    let mut out = Bounded(Vec::new());
    template.render_captured_to(Value::from(Serde(values)), &mut out)?;
    Ok(tidy(&String::from_utf8_lossy(&out.0)))
}

/// Whether an error says that a value was printed which a vendor may leave out.
pub(super) fn is_gap(error: &Error) -> bool {
    error.kind() == ErrorKind::UndefinedError
}

fn missing() -> Error {
    Error::new(ErrorKind::UndefinedError, "there is no value to print here")
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn is_missing(value: &Value) -> bool {
    value.is_none() || value.is_undefined() || value.as_str().is_some_and(str::is_empty)
}

/// Decimal text of a value; none where the value is missing.
fn decimal(value: &Value) -> Result<Option<String>, Error> {
    if is_missing(value) {
        return Ok(None);
    }
    match value.as_str() {
        Some(text) => Ok(Some(text.to_owned())),
        None if value.is_integer() => Ok(Some(value.to_string())),
        None => Err(wrong("this is no number")),
    }
}

fn time(value: &Value) -> Result<i64, Error> {
    value.as_i64().filter(|_| value.is_integer()).ok_or_else(|| wrong("this is no time"))
}

fn named_zone(name: Option<Value>) -> Result<Option<Tz>, Error> {
    let Some(name) = name.filter(|name| !is_missing(name)) else { return Ok(None) };
    let zone = name.as_str().and_then(|name| name.parse().ok());
    zone.map(Some).ok_or_else(|| wrong(format!("there is no time zone `{name}`")))
}

/// Output that ends at the limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("the message is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No spaces at line ends, no two empty lines in a row, none at either end.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 && !(line.is_empty() && tidy.is_empty()) {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy.truncate(tidy.trim_end().len());
    tidy
}

/// Values that people elsewhere wrote, made harmless: one line each, nothing invisible that reorders or hides text, and
/// links that are none left out.
pub(super) fn harmless(value: &mut Json) {
    match value {
        Json::String(text) => *text = plain(text),
        Json::Array(list) => list.iter_mut().for_each(harmless),
        Json::Object(members) => {
            for (key, value) in members {
                harmless(value);
                let link = key == "url" || key.ends_with("_url");
                if link && value.as_str().is_some_and(|text| !is_link(text)) {
                    *value = Json::Null;
                }
            }
        }
        _ => {}
    }
}

fn is_link(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://")) && !text.contains(char::is_whitespace)
}

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            // Line and paragraph ends, tabs: a name must not begin a line of its own.
            '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => plain.push(' '),
            // Marks that turn the direction of text around, or are not seen at all.
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {}
            '\u{ad}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => {}
            _ if letter.is_control() => {}
            _ => plain.push(letter),
        }
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_alone_on_its_line_leaves_no_line() {
        let formats = Formats::new(&super::super::locale::tag("en").expect("a tag"));
        let body =
            "Hi{% if name %} {{ name }}{% endif %}\n{% if name %}\n- yes\n{% endif %}\n{# a remark #}\nBye\n\n\n\n.";
        let prepared = Prepared::new(body);
        let text = fill(&engine(&formats, None), &prepared, &serde_json::json!({ "name": "Anna" })).expect("a text");
        assert_eq!(text, "Hi Anna\n- yes\nBye\n\n.");
        let bye = prepared.text.find("Bye").expect("it is there");
        assert_eq!(Some(prepared.original(bye)), body.find("Bye"));
        assert_eq!(prepared.original(3), 3);
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_in_its_direction() {
        let mut value = serde_json::json!({
            "name": " Eve\r\nTotal: 0\u{202e}\u{0}\u{1b}[31m\u{feff} ",
            "family": "👩\u{200d}💻",
            "url": "javascript:alert(1)",
            "tracking_url": "https://a.example/1 x",
            "items": [{ "url": "https://a.example/\n1" }, { "url": "https://a.example/1" }],
        });
        harmless(&mut value);
        assert_eq!(
            value,
            serde_json::json!({
                "name": "Eve  Total: 0[31m",
                "family": "👩\u{200d}💻",
                "url": null,
                "tracking_url": null,
                "items": [{ "url": null }, { "url": "https://a.example/1" }],
            })
        );
    }
}
