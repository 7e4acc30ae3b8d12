//! The mapping file as it is written, and everything that can be wrong with it.
//!
//! Every value is read on its own, so that a mistake in one hides no mistake in another.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{Cleared, Diagnostic, Direction, Line, Mapping, Missing, Place, TooLong, Transform, Words};
use crate::field::{FieldKind, FieldName};
use crate::normalize;
use crate::path::RemotePath;

/// Keys of the file.
const FILE_KEYS: [&str; 4] = ["connector", "fields", "format", "kind"];
/// Keys of a field, each with what to write there.
const ENTRY_KEYS: [(&str, &str); 13] = [
    ("cleared", "write \"null\" or \"empty\""),
    ("direction", "write \"in\", \"out\" or \"both\""),
    ("family", "write a path in quotes, such as \"/last_name\""),
    ("form", "write \"code\" or \"name\" for a country, \"e164\" for a phone number without extension"),
    ("given", "write a path in quotes, such as \"/first_name\""),
    ("item", "write the member in quotes, such as \"/name\""),
    ("max_length", "write how many characters the vendor holds, from 1"),
    ("missing", "write \"absent\" or \"cleared\""),
    ("no", "write the vendor's word in quotes"),
    ("remote", "write a path in quotes, such as \"/email\""),
    ("table", "write `{ canonical = \"vendor\" }`"),
    ("transform", "leave it out to get the one that fits the field"),
    ("yes", "write the vendor's word in quotes"),
];
/// Names this alike are taken for a slip.
const ALIKE: f64 = 0.85;

/// One field of the file, with what of it could be read.
#[derive(Default)]
struct Entry {
    remote: Option<Spanned<String>>,
    given: Option<Spanned<String>>,
    family: Option<Spanned<String>>,
    transform: Option<Spanned<TransformName>>,
    direction: Direction,
    missing: Missing,
    cleared: Cleared,
    max_length: Option<Spanned<usize>>,
    item: Option<Spanned<String>>,
    yes: Option<Spanned<String>>,
    no: Option<Spanned<String>>,
    form: Option<Spanned<Form>>,
    table: Option<Spanned<BTreeMap<String, String>>>,
    /// Keys that are there and could not be read: what follows from them is not said as well.
    unread: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum TransformName {
    Text,
    FullName,
    Email,
    Phone,
    Date,
    Number,
    Country,
    Bool,
    Tags,
    Table,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// A country's code.
    Code,
    /// A country's English name.
    Name,
    /// A phone number without its extension.
    E164,
}

struct Problems<'a> {
    source: &'a str,
    file: &'a str,
    found: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn add(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let before = self.source.get(..span.start).unwrap_or(self.source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.found.push(Diagnostic {
            file: self.file.to_owned(),
            line,
            column,
            message: message.into(),
            help: help.into(),
        });
    }

    /// Reads one value; what is wrong with it is said.
    fn value<'de, T: Deserialize<'de>>(&mut self, value: Spanned<DeValue<'de>>, help: &str) -> Option<Spanned<T>> {
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(read) => Some(Spanned::new(span, read)),
            Err(error) => {
                self.add(error.span().unwrap_or(span), error.message(), help);
                None
            }
        }
    }

    fn unknown_key(&mut self, span: Range<usize>, key: &str, known: &[&str]) {
        let help = match alike(key, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here are {}", known.join(", ")),
        };
        self.add(span, format!("there is no key `{key}`"), help);
    }
}

/// The known name that a mistyped one was probably meant to be.
pub fn alike<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::jaro_winkler(name, known), known));
    scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

pub(super) fn parse(source: &str, file: &str) -> Result<Mapping, Vec<Diagnostic>> {
    let mut problems = Problems { source, file, found: Vec::new() };
    let (tree, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        problems.add(error.span().unwrap_or(0..0), error.message(), "this is not TOML yet");
    }
    let mapping = if errors.is_empty() { read(tree.into_inner(), &mut problems) } else { None };
    match mapping {
        Some(mapping) if problems.found.is_empty() => Ok(mapping),
        _ => {
            problems.found.sort_by_key(|problem| (problem.line, problem.column));
            Err(problems.found)
        }
    }
}

fn read(tree: DeTable<'_>, problems: &mut Problems<'_>) -> Option<Mapping> {
    let mut absent = FILE_KEYS.to_vec();
    let (mut connector, mut lines) = (None, None);
    for (key, value) in tree {
        absent.retain(|name| *name != key.get_ref());
        match key.get_ref().as_ref() {
            "format" => {
                let help = "write `format = 1`";
                if let Some(format) = problems.value::<i64>(value, help)
                    && *format.get_ref() != 1
                {
                    problems.add(format.span(), "this program reads format 1", help);
                }
            }
            "kind" => {
                let help = "write `kind = \"contact\"`";
                if let Some(kind) = problems.value::<String>(value, help)
                    && kind.get_ref() != "contact"
                {
                    problems.add(kind.span(), "the only kind is `contact`", help);
                }
            }
            "connector" => connector = problems.value::<String>(value, "write `connector = \"NAME\"`"),
            "fields" => lines = fields(value, problems),
            other => problems.unknown_key(key.span(), other, &FILE_KEYS),
        }
    }
    for name in absent {
        let help = match name {
            "fields" => "write `[fields]`, and below it `email = { remote = \"/email\" }` and so on",
            "format" => "write `format = 1`",
            "kind" => "write `kind = \"contact\"`",
            _ => "write `connector = \"NAME\"`",
        };
        problems.add(0..0, format!("`{name}` is missing"), help);
    }
    Some(Mapping { connector: connector?.into_inner(), kind: "contact".to_owned(), lines: lines? })
}

fn fields(value: Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<BTreeMap<FieldName, Line>> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        problems.add(span, "`fields` is not a table", "write `[fields]`, and below it one line for each field");
        return None;
    };
    let mut lines = BTreeMap::new();
    let mut places: BTreeMap<String, FieldName> = BTreeMap::new();
    for (key, value) in table {
        let whole = key.span().start..value.span().end;
        let entry = entry(key.get_ref(), value, problems);
        let name = match FieldName::parse(key.get_ref()) {
            Ok(name) => name,
            Err(error) => {
                let known: Vec<FieldName> = FieldName::known().collect();
                let help = match alike(key.get_ref(), known.iter().map(FieldName::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "take one of those, or `custom.` and a name of your own".to_owned(),
                };
                problems.add(key.span(), error.to_string(), help);
                continue;
            }
        };
        if let Some(line) = entry.and_then(|entry| line(&name, entry, whole, &mut places, problems)) {
            lines.insert(name, line);
        }
    }
    Some(lines)
}

fn entry(name: &str, value: Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<Entry> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        let help = format!("write `{name} = {{ remote = \"/path\" }}`");
        problems.add(span, format!("`{name}` is not a table"), help);
        return None;
    };
    let mut entry = Entry::default();
    for (key, value) in table {
        let found = problems.found.len();
        let help = ENTRY_KEYS.iter().find(|(known, _)| known == key.get_ref()).map_or("", |(_, help)| help);
        match key.get_ref().as_ref() {
            "remote" => entry.remote = problems.value(value, help),
            "given" => entry.given = problems.value(value, help),
            "family" => entry.family = problems.value(value, help),
            "transform" => entry.transform = problems.value(value, help),
            "direction" => entry.direction = problems.value(value, help).map(Spanned::into_inner).unwrap_or_default(),
            "missing" => entry.missing = problems.value(value, help).map(Spanned::into_inner).unwrap_or_default(),
            "cleared" => entry.cleared = problems.value(value, help).map(Spanned::into_inner).unwrap_or_default(),
            "max_length" => entry.max_length = problems.value(value, help),
            "item" => entry.item = problems.value(value, help),
            "yes" => entry.yes = problems.value(value, help),
            "no" => entry.no = problems.value(value, help),
            "form" => entry.form = problems.value(value, help),
            "table" => entry.table = words(value, problems),
            other => {
                let known: Vec<&str> = ENTRY_KEYS.iter().map(|(known, _)| *known).collect();
                problems.unknown_key(key.span(), other, &known);
            }
        }
        if problems.found.len() > found {
            entry.unread.push(key.get_ref().to_string());
        }
    }
    Some(entry)
}

/// A table of canonical and vendor words, each of them read on its own.
fn words(value: Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<Spanned<BTreeMap<String, String>>> {
    let span = value.span();
    let help = "write `table = { canonical = \"vendor\" }`, both in quotes where they are not plain words";
    let DeValue::Table(table) = value.into_inner() else {
        problems.add(span, "`table` is not a table", help);
        return None;
    };
    let mut all = BTreeMap::new();
    for (canonical, vendor) in table {
        if let Some(vendor) = problems.value::<String>(vendor, help) {
            all.insert(canonical.get_ref().to_string(), vendor.into_inner());
        }
    }
    Some(Spanned::new(span, all))
}

fn line(
    name: &FieldName,
    entry: Entry,
    span: Range<usize>,
    places: &mut BTreeMap<String, FieldName>,
    problems: &mut Problems<'_>,
) -> Option<Line> {
    let place = place(name, &entry, &span, problems);
    let transform = transform(name, &entry, &span, problems);
    if let Some(max) = entry.max_length.as_ref().filter(|max| *max.get_ref() == 0) {
        problems.add(max.span(), "nothing at all can be held", "write how many characters the vendor holds, from 1");
    }
    let is_table = matches!(transform, Some(Transform::Table(_)));
    let place = place?;
    let written: Vec<String> = match &place {
        Place::One(path) => vec![path.to_string()],
        Place::Parts { given, family } => vec![given.to_string(), family.to_string()],
    };
    if entry.direction != Direction::In {
        for path in written {
            if let Some(other) = places.insert(path.clone(), name.clone()) {
                let message = format!("`{path}` is written by `{other}` already");
                problems.add(span.clone(), message, "give one of them `direction = \"in\"`");
            }
        }
    }
    Some(Line {
        place,
        transform: transform?,
        direction: entry.direction,
        missing: entry.missing,
        cleared: entry.cleared,
        max_length: entry.max_length.map(Spanned::into_inner),
        too_long: match name.kind() {
            FieldKind::Text if !name.as_str().starts_with("external.") && !is_table => TooLong::Cut,
            FieldKind::Name => TooLong::Cut,
            _ => TooLong::Unholdable,
        },
    })
}

fn place(name: &FieldName, entry: &Entry, span: &Range<usize>, problems: &mut Problems<'_>) -> Option<Place> {
    let mut path = |text: &Option<Spanned<String>>| {
        let text = text.as_ref()?;
        match RemotePath::parse(text.get_ref()) {
            Ok(path) => Some(path),
            Err(error) => {
                problems.add(text.span(), error.to_string(), "paths start with `/`");
                None
            }
        }
    };
    let (remote, given, family) = (path(&entry.remote), path(&entry.given), path(&entry.family));
    if entry.unread.iter().any(|key| matches!(key.as_str(), "remote" | "given" | "family")) {
        return None;
    }
    match (&entry.remote, &entry.given, &entry.family) {
        (Some(_), None, None) => Some(Place::One(remote?)),
        (None, Some(_), Some(_)) if name.kind() == FieldKind::Name => {
            Some(Place::Parts { given: given?, family: family? })
        }
        // A key that is there under a wrong name has been told of; it may be this one.
        (None, None, None) if !entry.unread.is_empty() => None,
        _ => {
            let help = match name.kind() {
                FieldKind::Name => "write `remote = \"/path\"`, or `given` and `family` with a path each",
                _ => "write `remote = \"/path\"`",
            };
            problems.add(span.clone(), format!("`{name}` does not say where it stands"), help);
            None
        }
    }
}

fn transform(name: &FieldName, entry: &Entry, span: &Range<usize>, problems: &mut Problems<'_>) -> Option<Transform> {
    let kind = name.kind();
    if entry.unread.iter().any(|key| key == "transform") {
        return None;
    }
    let chosen = entry.transform.as_ref().map(|chosen| *chosen.get_ref()).unwrap_or(match kind {
        FieldKind::Text => TransformName::Text,
        FieldKind::Name => TransformName::FullName,
        FieldKind::Email => TransformName::Email,
        FieldKind::Phone => TransformName::Phone,
        FieldKind::Date => TransformName::Date,
        FieldKind::Bool => TransformName::Bool,
        FieldKind::Number => TransformName::Number,
        FieldKind::Country => TransformName::Country,
        FieldKind::Set | FieldKind::Emails | FieldKind::Phones => TransformName::Tags,
    });
    let at = entry.transform.as_ref().map_or(span.clone(), Spanned::span);
    let fits = match chosen {
        TransformName::Text | TransformName::Date | TransformName::Number | TransformName::Table => {
            matches!(kind, FieldKind::Text | FieldKind::Date | FieldKind::Number)
        }
        TransformName::FullName => kind == FieldKind::Name,
        TransformName::Email => matches!(kind, FieldKind::Email | FieldKind::Text),
        TransformName::Phone => matches!(kind, FieldKind::Phone | FieldKind::Text),
        TransformName::Country => matches!(kind, FieldKind::Country | FieldKind::Text),
        TransformName::Bool => kind == FieldKind::Bool,
        TransformName::Tags => kind.is_set(),
    };
    if !fits {
        let message = format!("this transform does not give what `{name}` holds ({kind:?})");
        problems.add(at, message, "leave `transform` out to get the one that fits");
        return None;
    }
    without_effect(chosen, entry, problems);
    let is_form = |wanted: Form| entry.form.as_ref().is_some_and(|form| *form.get_ref() == wanted);
    Some(match chosen {
        TransformName::Text => Transform::Text,
        TransformName::FullName => Transform::FullName,
        TransformName::Email => Transform::Email,
        TransformName::Phone => Transform::Phone { extension: !is_form(Form::E164) },
        TransformName::Date => Transform::Date,
        TransformName::Number => Transform::Number,
        TransformName::Country => Transform::Country { name: is_form(Form::Name) },
        TransformName::Bool => return yes_and_no(entry, problems),
        TransformName::Tags => {
            let item = entry.item.as_ref().map(|item| item.get_ref().trim_start_matches('/').to_owned());
            Transform::Tags { item, of: kind }
        }
        TransformName::Table => return table(name, entry, at, problems),
    })
}

/// Keys that the chosen transform does not look at: the file's author believes that they do something.
fn without_effect(chosen: TransformName, entry: &Entry, problems: &mut Problems<'_>) {
    let text = |key: &Option<Spanned<String>>| key.as_ref().map(Spanned::span);
    let form = |any: &[Form]| entry.form.as_ref().filter(|form| any.contains(form.get_ref())).map(Spanned::span);
    let keys = [
        ("item", text(&entry.item), TransformName::Tags, "a list"),
        ("yes", text(&entry.yes), TransformName::Bool, "true or false"),
        ("no", text(&entry.no), TransformName::Bool, "true or false"),
        ("form", form(&[Form::Code, Form::Name]), TransformName::Country, "a country"),
        ("form", form(&[Form::E164]), TransformName::Phone, "a phone number"),
        ("table", entry.table.as_ref().map(Spanned::span), TransformName::Table, "`transform = \"table\"`"),
    ];
    for (key, span, with, what) in keys {
        if let Some(span) = span.filter(|_| chosen != with) {
            problems.add(span, format!("`{key}` does nothing here"), format!("it goes with {what}; take it out"));
        }
    }
}

fn yes_and_no(entry: &Entry, problems: &mut Problems<'_>) -> Option<Transform> {
    let help = "give a word for each: `yes = \"Y\", no = \"N\"`";
    let word = |word: &Option<Spanned<String>>| word.as_ref().map(|word| word.get_ref().clone());
    let one_of_them = match (&entry.yes, &entry.no) {
        (Some(yes), Some(no)) if yes.get_ref().eq_ignore_ascii_case(no.get_ref()) => {
            Some((no, "`yes` and `no` are one word"))
        }
        (Some(yes), None) if !entry.unread.iter().any(|key| key == "no") => Some((yes, "`no` is missing")),
        (None, Some(no)) if !entry.unread.iter().any(|key| key == "yes") => Some((no, "`yes` is missing")),
        _ => None,
    };
    if let Some((at, message)) = one_of_them {
        problems.add(at.span(), message, help);
        return None;
    }
    Some(Transform::Bool { yes: word(&entry.yes), no: word(&entry.no) })
}

fn table(name: &FieldName, entry: &Entry, at: Range<usize>, problems: &mut Problems<'_>) -> Option<Transform> {
    if entry.unread.iter().any(|key| key == "table") {
        return None;
    }
    let Some(table) = &entry.table else {
        problems.add(at, format!("`{name}` has no table"), "write `table = { canonical = \"vendor\" }`");
        return None;
    };
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for (canonical, vendor) in table.get_ref() {
        if canonical.trim().is_empty() || vendor.trim().is_empty() {
            let help = "leave the entry out: a cleared field is written as `cleared` says";
            problems.add(table.span(), "an empty word cannot be told from no value", help);
            return None;
        }
        if let Some(other) = taken.insert(normalize::text(vendor), canonical)
            && entry.direction != Direction::Out
        {
            let message = format!("`{vendor}` stands for both `{other}` and `{canonical}`, so it cannot be read");
            problems.add(table.span(), message, "make the table one to one, or the field `direction = \"out\"`");
            return None;
        }
    }
    Some(Transform::Table(Words::new(table.get_ref())))
}
