//! The mapping file as it is written, and everything that can be wrong with it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{Cleared, Diagnostic, Direction, Line, Mapping, Missing, Place, Transform};
use crate::field::{FieldKind, FieldName};
use crate::path::RemotePath;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: Spanned<i64>,
    kind: Spanned<String>,
    connector: Spanned<String>,
    fields: BTreeMap<Spanned<String>, Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    remote: Option<Spanned<String>>,
    given: Option<Spanned<String>>,
    family: Option<Spanned<String>>,
    transform: Option<Spanned<TransformName>>,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    missing: Missing,
    #[serde(default)]
    cleared: Cleared,
    max_length: Option<usize>,
    item: Option<String>,
    yes: Option<String>,
    no: Option<String>,
    form: Option<CountryForm>,
    table: Option<Spanned<BTreeMap<String, String>>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
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
enum CountryForm {
    Code,
    Name,
}

struct Problems<'a> {
    source: &'a str,
    file: &'a str,
    found: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn add(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let before = &self.source[..span.start.min(self.source.len())];
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
}

pub(super) fn parse(source: &str, file: &str) -> Result<Mapping, Vec<Diagnostic>> {
    let mut problems = Problems { source, file, found: Vec::new() };
    let parsed: File = match toml::from_str(source) {
        Ok(parsed) => parsed,
        Err(error) => {
            let help = "see the shipped files in mappings/contact/ for the keys there are";
            problems.add(error.span().unwrap_or(0..0), error.message(), help);
            return Err(problems.found);
        }
    };
    if *parsed.format.get_ref() != 1 {
        problems.add(parsed.format.span(), "this program reads format 1", "write `format = 1`");
    }
    if parsed.kind.get_ref() != "contact" {
        problems.add(parsed.kind.span(), "the only kind is `contact`", "write `kind = \"contact\"`");
    }
    let mut lines = BTreeMap::new();
    let mut places: BTreeMap<String, FieldName> = BTreeMap::new();
    for (key, entry) in parsed.fields {
        let name = match FieldName::parse(key.get_ref()) {
            Ok(name) => name,
            Err(error) => {
                problems.add(key.span(), error.to_string(), "take one of those, or `custom.` and a name of your own");
                continue;
            }
        };
        if let Some(line) = line(&name, entry, &mut places, &mut problems) {
            lines.insert(name, line);
        }
    }
    if problems.found.is_empty() {
        let (connector, kind) = (parsed.connector.into_inner(), parsed.kind.into_inner());
        Ok(Mapping { connector, kind, lines })
    } else {
        problems.found.sort_by_key(|problem| (problem.line, problem.column));
        Err(problems.found)
    }
}

fn line(
    name: &FieldName,
    entry: Spanned<Entry>,
    places: &mut BTreeMap<String, FieldName>,
    problems: &mut Problems<'_>,
) -> Option<Line> {
    let span = entry.span();
    let entry = entry.into_inner();
    let place = place(name, &entry, &span, problems)?;
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
    let transform = transform(name, &entry, &span, problems)?;
    Some(Line {
        place,
        transform,
        direction: entry.direction,
        missing: entry.missing,
        cleared: entry.cleared,
        max_length: entry.max_length,
    })
}

fn place(name: &FieldName, entry: &Entry, span: &Range<usize>, problems: &mut Problems<'_>) -> Option<Place> {
    let mut path = |text: &Spanned<String>| match RemotePath::parse(text.get_ref()) {
        Ok(path) => Some(path),
        Err(error) => {
            problems.add(text.span(), error.to_string(), "paths start with `/`");
            None
        }
    };
    match (&entry.remote, &entry.given, &entry.family) {
        (Some(remote), None, None) => Some(Place::One(path(remote)?)),
        (None, Some(given), Some(family)) if name.kind() == FieldKind::Name => {
            let (given, family) = (path(given), path(family));
            Some(Place::Parts { given: given?, family: family? })
        }
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
    let chosen = entry.transform.as_ref().map(|chosen| *chosen.get_ref()).unwrap_or(match kind {
        FieldKind::Text => TransformName::Text,
        FieldKind::Name => TransformName::FullName,
        FieldKind::Email => TransformName::Email,
        FieldKind::Phone => TransformName::Phone,
        FieldKind::Date => TransformName::Date,
        FieldKind::Bool => TransformName::Bool,
        FieldKind::Number => TransformName::Number,
        FieldKind::Country => TransformName::Country,
        FieldKind::Set => TransformName::Tags,
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
        TransformName::Tags => kind == FieldKind::Set,
    };
    if !fits {
        let message = format!("this transform does not give what `{name}` holds ({kind:?})");
        problems.add(at, message, "leave `transform` out to get the one that fits");
        return None;
    }
    Some(match chosen {
        TransformName::Text => Transform::Text,
        TransformName::FullName => Transform::FullName,
        TransformName::Email => Transform::Email,
        TransformName::Phone => Transform::Phone,
        TransformName::Date => Transform::Date,
        TransformName::Number => Transform::Number,
        TransformName::Country => Transform::Country { name: entry.form == Some(CountryForm::Name) },
        TransformName::Bool => Transform::Bool { yes: entry.yes.clone(), no: entry.no.clone() },
        TransformName::Tags => {
            Transform::Tags { item: entry.item.as_ref().map(|item| item.trim_start_matches('/').to_owned()) }
        }
        TransformName::Table => return table(name, entry, at, problems),
    })
}

fn table(name: &FieldName, entry: &Entry, at: Range<usize>, problems: &mut Problems<'_>) -> Option<Transform> {
    let Some(table) = &entry.table else {
        problems.add(at, format!("`{name}` has no table"), "write `table = { canonical = \"vendor\" }`");
        return None;
    };
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (canonical, vendor) in table.get_ref() {
        if let Some(other) = taken.insert(vendor, canonical)
            && entry.direction != Direction::In
        {
            let message = format!("`{vendor}` stands for both `{other}` and `{canonical}`, so there is no way back");
            problems.add(table.span(), message, "make the table one to one, or the field `direction = \"in\"`");
            return None;
        }
    }
    Some(Transform::Table(table.get_ref().clone()))
}
