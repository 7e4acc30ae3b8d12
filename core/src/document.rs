//! Reading files: where a vendor's record says what an order, a parcel, a ticket, a conversation or a message needs.
//!
//! One way only: business records are read here and changed by actions, so there is no inverse to promise. Reading never
//! fails: what is missing or of another type is left out, and an unknown word of a table counts as the kind's first state.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::business::{Attachment, Conversation, Item, Message, Order, PARCELS, Shipment, Ticket};
use crate::mapping::Diagnostic;
use crate::path::RemotePath;

/// How a value is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum As {
    /// Texts, numbers and booleans, as text.
    #[default]
    Text,
    /// A moment: ISO 8601 (UTC where no zone is said), or seconds or milliseconds since 1970.
    Time,
    /// A decimal amount without its sign.
    Amount,
    /// A code of letters, such as a currency or a country, in capital letters.
    Code,
    /// Whether there is anything: `true`, a text, a number other than 0.
    Flag,
    /// Every text of a list.
    Texts,
    /// The decimal amounts at `item` of every item of a list, added up, without the sign.
    Sum,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: Spanned<i64>,
    kind: Spanned<String>,
    connector: String,
    fields: BTreeMap<Spanned<String>, Spanned<Entry>>,
    #[serde(default)]
    lists: BTreeMap<Spanned<String>, ListEntry>,
}

/// A path; a path with how it is read; or several of those, of which the first that says something counts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Path(String),
    Full(FullEntry),
    Several(Vec<FullEntry>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullEntry {
    from: String,
    #[serde(default)]
    r#as: As,
    #[serde(default)]
    table: BTreeMap<String, String>,
    item: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListEntry {
    from: Spanned<String>,
    fields: BTreeMap<Spanned<String>, Spanned<Entry>>,
    #[serde(default)]
    lists: BTreeMap<Spanned<String>, ListEntry>,
}

/// One value of the result.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: Vec<String>,
    /// The first that says something counts.
    sources: Vec<Source>,
}

#[derive(Clone, Debug, PartialEq)]
struct Source {
    from: RemotePath,
    how: As,
    table: BTreeMap<String, String>,
    /// What is added up of each item of a list.
    item: Option<RemotePath>,
}

/// A list of the result, whose items may have lists of their own.
#[derive(Clone, Debug, PartialEq)]
struct List {
    name: String,
    from: RemotePath,
    lines: Vec<Line>,
    lists: Vec<List>,
}

/// A loaded reading file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    kind: String,
    connector: String,
    lines: Vec<Line>,
    lists: Vec<List>,
}

/// What a kind of record can say: every name with an empty value.
fn blank(kind: &str) -> Option<Value> {
    let blank = match kind {
        "order" => {
            let mut order = json!(Order::default());
            order[PARCELS] = json!([]);
            order
        }
        "shipment" => json!(Shipment::default()),
        "ticket" => json!(Ticket::default()),
        "conversation" => json!(Conversation::default()),
        "message" => json!(Message::default()),
        _ => return None,
    };
    Some(blank)
}

/// Bytes of the longest text that is taken for an id: what is longer can be kept by no index, and is nobody's.
const LONGEST_ID: usize = 500;

/// Names whose values are ids, of whatever kind of record.
const IDS: &[&str] = &["id", "conversation"];

/// The lists whose items are texts; they are read as fields.
const TEXTS: &[&str] = &["labels"];

fn blank_item(list: &str) -> Value {
    match list {
        "attachments" => json!(Attachment::default()),
        PARCELS => json!(Shipment::default()),
        _ => json!(Item::default()),
    }
}

impl Document {
    /// Loads a reading file; `file` names it in mistakes, all of which are told at once.
    pub fn parse(source: &str, file: &str) -> Result<Document, Vec<Diagnostic>> {
        let mut problems = Problems { source, file, found: Vec::new() };
        let parsed: File = match toml::from_str(source) {
            Ok(parsed) => parsed,
            Err(error) => {
                let help = "see the shipped files in mappings/ for the keys there are";
                problems.add(error.span().unwrap_or(0..0), error.message(), help);
                return Err(problems.found);
            }
        };
        if *parsed.format.get_ref() != 1 {
            problems.add(parsed.format.span(), "this program reads format 1", "write `format = 1`");
        }
        let Some(blank) = blank(parsed.kind.get_ref()) else {
            let help = "use order, shipment, ticket, conversation or message";
            problems.add(parsed.kind.span(), "there is no such kind", help);
            return Err(problems.found);
        };
        let lines = problems.lines(parsed.fields, &blank);
        let lists = problems.lists(parsed.lists, &blank);
        if problems.found.is_empty() {
            Ok(Document { kind: parsed.kind.into_inner(), connector: parsed.connector, lines, lists })
        } else {
            problems.found.sort_by_key(|problem| (problem.line, problem.column));
            Err(problems.found)
        }
    }

    /// The kind of record it reads.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The connector it is for.
    pub fn connector(&self) -> &str {
        &self.connector
    }

    /// Whether it says where `name` stands.
    pub fn reads(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.name.len() == 1 && line.name[0] == name)
    }

    /// Whether it says where the list `name` stands.
    pub fn lists(&self, name: &str) -> bool {
        self.lists.iter().any(|list| list.name == name)
    }

    /// The item of a list in which `name` stands: the number or name of a custom field.
    pub fn item(&self, name: &str) -> Option<&str> {
        let line = self.lines.iter().find(|line| line.name.len() == 1 && line.name[0] == name)?;
        line.sources.iter().find_map(|source| source.from.item())
    }

    /// Reads a vendor's record as `T`, which is the type of its kind.
    pub fn read<T: DeserializeOwned + Default>(&self, id: &str, remote: &Value) -> T {
        serde_json::from_value(self.value(id, remote)).unwrap_or_default()
    }

    /// The same as JSON, with every name of the kind that has a value.
    pub fn value(&self, id: &str, remote: &Value) -> Value {
        let mut out = object(&self.lines, &self.lists, remote);
        out.insert("id".to_owned(), json!(id));
        if matches!(self.kind.as_str(), "order" | "ticket") {
            out.entry("number").or_insert_with(|| json!(id));
        }
        Value::Object(out)
    }
}

fn object(lines: &[Line], lists: &[List], remote: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    for list in lists {
        let rows = list.from.get(remote).and_then(Value::as_array);
        let rows = rows.into_iter().flatten().map(|row| Value::Object(object(&list.lines, &list.lists, row)));
        out.insert(list.name.clone(), rows.collect());
    }
    for line in lines {
        let Some(value) = line.sources.iter().find_map(|source| source.read(source.from.get(remote)?)) else {
            continue;
        };
        let mut place = &mut out;
        let Some((last, way)) = line.name.split_last() else { continue };
        if IDS.contains(&last.as_str()) && value.as_str().is_some_and(|id| id.len() > LONGEST_ID) {
            continue;
        }
        for step in way {
            let inner = place.entry(step.clone()).or_insert_with(|| json!({}));
            let Value::Object(object) = inner else { unreachable!("only objects are put on the way") };
            place = object;
        }
        place.insert(last.clone(), value);
    }
    out
}

impl Source {
    /// None where there is nothing to say.
    fn read(&self, value: &Value) -> Option<Value> {
        if self.how == As::Flag {
            let there = match value {
                Value::Null => false,
                Value::Bool(flag) => *flag,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(_) => true,
            };
            let word = if there { "true" } else { "false" };
            return if self.table.is_empty() {
                Some(json!(there))
            } else {
                self.table.get(word).map(|word| typed(word))
            };
        }
        if let Some(item) = &self.item {
            let parts = value.as_array()?.iter().filter_map(|row| plain(item.get(row)?));
            return sum(parts).map(|total| json!(total));
        }
        if self.how == As::Texts {
            return Some(value.as_array()?.iter().filter_map(plain).collect());
        }
        let text = plain(value)?;
        if !self.table.is_empty() {
            return self.table.get(&text).map(|word| typed(word));
        }
        match self.how {
            As::Text | As::Texts | As::Flag | As::Sum => Some(json!(text)),
            As::Code => Some(json!(text.to_ascii_uppercase())),
            As::Time => moment(&text).map(|at| json!(at)),
            As::Amount => {
                let text = text.trim_start_matches('-');
                crate::normalize::number(text).filter(|number| number != "0").map(|_| json!(text))
            }
        }
    }
}

/// What stands there as text; none where nothing does.
fn plain(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Decimal amounts added up, without the sign; none where that is nothing, or one of them is no amount.
fn sum(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    let places = parts.iter().filter_map(|part| part.split_once('.')).map(|(_, fraction)| fraction.len()).max();
    let places = places.unwrap_or(0);
    let mut total: i128 = 0;
    for part in &parts {
        let (whole, fraction) = part.split_once('.').unwrap_or((part, ""));
        total = total.checked_add(format!("{whole}{fraction:0<places$}").parse().ok()?)?;
    }
    let digits = format!("{:0>width$}", total.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    match (total, places) {
        (0, _) => None,
        (_, 0) => Some(whole.to_owned()),
        _ => Some(format!("{whole}.{fraction}")),
    }
}

/// The words of a table that are no texts.
fn typed(word: &str) -> Value {
    match word {
        "true" => json!(true),
        "false" => json!(false),
        word => json!(word),
    }
}

/// Unix milliseconds of a moment as vendors write one.
fn moment(text: &str) -> Option<i64> {
    use chrono::{DateTime, NaiveDateTime};
    if let Ok(number) = text.parse::<f64>() {
        // Whatever is smaller would be before 1973 in milliseconds.
        let millis = if number.abs() < 1e11 { number * 1000.0 } else { number };
        return (millis > 0.0 && millis < 1e15).then_some(millis as i64);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        // The beginning of 1970 is how some write "never".
        return Some(at.timestamp_millis()).filter(|at| *at > 0);
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let naive = naive.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    naive.map(|at| at.and_utc().timestamp_millis()).filter(|at| *at > 0)
}

/// Names of a blank record whose value is of some type, for people.
fn names(blank: &Value, is: fn(&str, &Value) -> bool) -> String {
    let members = blank.as_object().into_iter().flatten();
    members.filter(|(name, value)| is(name, value)).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

struct Problems<'a> {
    source: &'a str,
    file: &'a str,
    found: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn add(&mut self, span: std::ops::Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let before = &self.source[..span.start.min(self.source.len())];
        self.found.push(Diagnostic {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            message: message.into(),
            help: help.into(),
        });
    }

    fn lists(&mut self, entries: BTreeMap<Spanned<String>, ListEntry>, blank: &Value) -> Vec<List> {
        let mut lists = Vec::new();
        for (name, entry) in entries {
            let is_list = blank.get(name.get_ref()).is_some_and(Value::is_array);
            if !is_list || TEXTS.contains(&name.get_ref().as_str()) {
                let known = names(blank, |name, value| value.is_array() && !TEXTS.contains(&name));
                self.add(name.span(), format!("`{}` is no list here", name.get_ref()), format!("known: {known}"));
                continue;
            }
            let inner = blank_item(name.get_ref());
            let lines = self.lines(entry.fields, &inner);
            let below = self.lists(entry.lists, &inner);
            let span = entry.from.span();
            match RemotePath::parse(entry.from.get_ref()) {
                Ok(from) => lists.push(List { name: name.into_inner(), from, lines, lists: below }),
                Err(error) => self.add(span, error.to_string(), "write the path to the list"),
            }
        }
        lists
    }

    fn lines(&mut self, entries: BTreeMap<Spanned<String>, Spanned<Entry>>, blank: &Value) -> Vec<Line> {
        let mut lines = Vec::new();
        for (name, entry) in entries {
            let pointer = format!("/{}", name.get_ref().replace('.', "/"));
            let is_texts = TEXTS.contains(&name.get_ref().as_str());
            if !blank.pointer(&pointer).is_some_and(|value| !value.is_object() && (is_texts || !value.is_array())) {
                let known = names(blank, |name, value| !value.is_array() || TEXTS.contains(&name));
                let message = format!("there is no `{}` here", name.get_ref());
                self.add(name.span(), message, format!("known are {known}, and their parts with a dot"));
                continue;
            }
            let span = entry.span();
            let plain = |from| FullEntry { from, r#as: As::Text, table: BTreeMap::new(), item: None };
            let entries = match entry.into_inner() {
                Entry::Path(path) => vec![plain(path)],
                Entry::Full(entry) => vec![entry],
                Entry::Several(entries) => entries,
            };
            let mut sources = Vec::new();
            for FullEntry { from, r#as: how, table, item } in entries {
                if (how == As::Texts) != is_texts {
                    let help = "write `{ from = \"/list\", as = \"texts\" }` for a list of texts, and for nothing else";
                    self.add(span.clone(), format!("`{}` and how it is read do not fit", name.get_ref()), help);
                }
                if (how == As::Sum) != item.is_some() {
                    let help = "write both: `{ from = \"/list\", as = \"sum\", item = \"/amount\" }`";
                    self.add(
                        span.clone(),
                        "`item` says what `as = \"sum\"` adds up, and one is without the other",
                        help,
                    );
                }
                let item = item.map(|item| RemotePath::parse(&item)).transpose();
                match item.and_then(|item| Ok((RemotePath::parse(&from)?, item))) {
                    Ok((from, item)) => sources.push(Source { from, how, table, item }),
                    Err(error) => self.add(span.clone(), error.to_string(), "write a path such as `/billing/email`"),
                }
            }
            let name = name.get_ref().split('.').map(str::to_owned).collect();
            lines.push(Line { name, sources });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::business::OrderStatus;

    const SHOP: &str = r#"
        format = 1
        kind = "order"
        connector = "shop"
        [fields]
        number = "/number"
        status = { from = "/state", table = { done = "completed" } }
        currency = { from = "/currency", as = "code" }
        "customer.email" = [{ from = "/email" }, { from = "/billing/email" }]
        placed_at = { from = "/at", as = "time" }
        refunded_total = { from = "/back", as = "amount" }
        [lists.items]
        from = "/lines"
        fields = { name = "/title", quantity = "/n" }
    "#;

    #[test]
    fn a_record_is_read_and_what_is_odd_is_left_out() {
        let document = Document::parse(SHOP, "shop.toml").expect("a sound file");
        let remote = json!({
            "number": 1007, "state": "done", "billing": { "email": "ann@example.test" }, "email": "",
            "currency": "eur", "at": "2026-03-04T09:15:00", "back": "-3.50",
            "lines": [{ "title": "Cup", "n": 2 }, { "title": null }],
        });
        let order: Order = document.read("7", &remote);
        assert_eq!((order.id.as_str(), order.number.as_str(), order.status), ("7", "1007", OrderStatus::Completed));
        assert_eq!(order.customer.email.as_deref(), Some("ann@example.test"));
        assert_eq!((order.currency.as_deref(), order.placed_at), (Some("EUR"), Some(1_772_615_700_000)));
        assert_eq!(order.refunded_total.as_deref(), Some("3.50"));
        assert_eq!((order.items.len(), order.items[0].quantity.as_deref()), (2, Some("2")));
        for odd in
            [json!(null), json!([]), json!("x"), json!({ "number": {}, "state": "new", "lines": 4, "at": "soon" })]
        {
            let order: Order = document.read("8", &odd);
            assert_eq!((order.number.as_str(), order.status, order.placed_at), ("8", OrderStatus::Created, None));
        }
    }

    #[test]
    fn what_is_too_long_for_an_id_is_none() {
        let source = "format = 1\nkind = \"ticket\"\nconnector = \"desk\"\n[fields]\nconversation = \"/chat\"\nsubject = \"/chat\"";
        let document = Document::parse(source, "desk.toml").expect("a sound file");
        let named = |chat: &str| document.value("7", &json!({ "chat": chat }))["conversation"].clone();
        assert_eq!((named(&"1".repeat(500)).is_null(), named(&"1".repeat(501))), (false, Value::Null));
        let ticket: Ticket = document.read("7", &json!({ "chat": "1".repeat(501) }));
        assert_eq!((ticket.subject.map(|subject| subject.len()), ticket.conversation), (Some(501), None));
    }

    #[test]
    fn lists_have_lists_and_amounts_add_up() {
        let source = SHOP.replace("as = \"amount\"", "as = \"sum\", item = \"/total\"")
            + r#"
        [lists.shipments]
        from = "/parcels"
        fields = { id = "/id", "status" = { from = "/gone", as = "flag", table = { true = "cancelled" } } }
        [lists.shipments.lists.items]
        from = "/contents"
        fields = { name = "/title" }
        "#;
        let document = Document::parse(&source, "shop.toml").expect("a sound file");
        assert!(document.lists("shipments") && !document.lists("attachments"));
        let back = |refunds: Value| document.read::<Order>("7", &json!({ "back": refunds })).refunded_total;
        assert_eq!(back(json!([{ "total": "-3.50" }, { "total": -4 }, {}])).as_deref(), Some("7.50"));
        assert_eq!(back(json!([{ "total": "-0.05" }])).as_deref(), Some("0.05"));
        assert_eq!(back(json!([{ "total": 30 }])).as_deref(), Some("30"));
        for nothing in [json!([]), json!(null), json!([{ "total": "some" }]), json!([{ "total": "1e3" }])] {
            assert_eq!(back(nothing), None);
        }
        let parcels = json!([{ "id": 1, "contents": [{ "title": "Cup" }] }, { "id": 2, "gone": "today" }]);
        let shown = document.value("7", &json!({ "parcels": parcels }));
        assert_eq!(shown["shipments"][0], json!({ "id": "1", "items": [{ "name": "Cup" }] }));
        assert_eq!(shown["shipments"][1], json!({ "id": "2", "items": [], "status": "cancelled" }));
        for wrong in [", item = \"/total\"", "as = \"sum\", "] {
            let problems = Document::parse(&source.replace(wrong, ""), "shop.toml").expect_err("half of it");
            assert!(problems[0].message.contains("adds up"), "{problems:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_with_their_places() {
        let source = SHOP.replace("number = \"/number\"", "numbr = \"/number\"").replace("\"/email\"", "\"email\"");
        let problems = Document::parse(&source, "shop.toml").expect_err("two mistakes");
        assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [6, 9]);
        assert!(problems[0].message.contains("numbr") && problems[0].help.contains("number"));
    }

    #[test]
    fn moments_are_read_as_vendors_write_them() {
        for text in [
            "1772615700",
            "1772615700.0",
            "1772615700000",
            "2026-03-04T09:15:00Z",
            "2026-03-04T10:15:00+01:00",
            "2026-03-04 09:15:00",
        ] {
            assert_eq!(moment(text), Some(1_772_615_700_000), "{text}");
        }
        for text in ["0", "soon", "-5", "1e300", "NaN", "1970-01-01T00:00:00Z"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn labels_are_texts_and_a_message_says_how_far_it_got() {
        let chat = r#"
            format = 1
            kind = "conversation"
            connector = "chat"
            [fields]
            labels = { from = "/tags", as = "texts" }
            can_reply = { from = "/open", as = "flag" }
        "#;
        let document = Document::parse(chat, "chat.toml").expect("it loads");
        let read: Conversation = document.read("1", &json!({ "tags": ["vip", 7, {}, ""], "open": false }));
        assert_eq!((read.labels, read.can_reply), (vec!["vip".to_owned(), "7".to_owned()], Some(false)));
        for wrong in ["labels = \"/tags\"", "channel = { from = \"/tags\", as = \"texts\" }"] {
            let file = format!("format = 1\nkind = \"conversation\"\nconnector = \"chat\"\n[fields]\n{wrong}\n");
            let found = Document::parse(&file, "chat.toml").expect_err(wrong);
            assert!(found[0].message.contains("how it is read do not fit") && found[0].line == 5, "{found:?}");
        }
        let message = r#"
            format = 1
            kind = "message"
            connector = "chat"
            [fields]
            delivery = { from = "/state", table = { gone = "failed", there = "delivered" } }
            delivery_error = "/why"
        "#;
        let document = Document::parse(message, "message.toml").expect("it loads");
        let told = |body| document.read::<Message>("1", &body).undelivered();
        assert_eq!(told(json!({ "state": "gone", "why": "no phone" })).as_deref(), Some("not delivered: no phone"));
        assert_eq!(told(json!({ "state": "there", "why": "no phone" })), None);
        assert_eq!(told(json!({ "state": "odd" })), None);
    }
}
