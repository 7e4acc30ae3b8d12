//! Mapping files: which vendor field is which canonical field, in which direction, through which transform.
//!
//! Every transform reads and writes; what one reads of what it wrote agrees with what [`Mapping::project`] promised. A
//! mistake is found when the file is loaded, all of them at once, with their places.

mod file;
mod transform;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::field::{FieldKind, FieldName, Fields, PersonName, Slot, Value};
use crate::merge::{Golden, is_valid, verdict};
use crate::path::RemotePath;
pub use file::alike;
pub use transform::{Transform, Words};

/// A mistake in a file: where, what, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; a tab is one.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Which way a field goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the vendor only.
    In,
    /// To the vendor only.
    Out,
    /// Both ways.
    #[default]
    Both,
}

/// What a missing member means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It was not read.
    #[default]
    Absent,
    /// There is no value.
    Cleared,
}

/// How a clear is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleared {
    /// As `null`.
    #[default]
    Null,
    /// As an empty text, or an empty list.
    Empty,
}

/// Where a field stands in the vendor's record.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    One(RemotePath),
    Parts { given: RemotePath, family: RemotePath },
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    place: Place,
    transform: Transform,
    direction: Direction,
    missing: Missing,
    cleared: Cleared,
    max_length: Option<usize>,
    too_long: TooLong,
}

/// What becomes of a text that is longer than the vendor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TooLong {
    /// Its beginning is kept.
    Cut,
    /// Its beginning would be something else, another address or id: it is not written.
    Unholdable,
}

/// A loaded mapping file.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    connector: String,
    kind: String,
    lines: BTreeMap<FieldName, Line>,
}

/// A value that could not be read in the kind its field has, or that is not valid in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: FieldName,
    /// Why.
    pub why: String,
}

/// What reading a vendor record gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The canonical values.
    pub fields: Fields,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl Mapping {
    /// Loads a mapping file; `file` names it in mistakes.
    pub fn parse(source: &str, file: &str) -> Result<Mapping, Vec<Diagnostic>> {
        file::parse(source, file)
    }

    /// The mapping of a connector without people: it reads and writes nothing.
    pub fn blank(connector: &str) -> Mapping {
        Mapping { connector: connector.to_owned(), kind: "contact".to_owned(), lines: BTreeMap::new() }
    }

    /// The connector it is for.
    pub fn connector(&self) -> &str {
        &self.connector
    }

    /// The kind of record it maps.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether the vendor's value of this field is taken.
    pub fn provides(&self, field: &FieldName) -> bool {
        self.lines.get(field).is_some_and(|line| line.direction != Direction::Out)
    }

    /// Whether the vendor is given this field.
    pub fn accepts(&self, field: &FieldName) -> bool {
        self.lines.get(field).is_some_and(|line| line.direction != Direction::In)
    }

    /// All fields it maps, in order.
    pub fn fields(&self) -> impl Iterator<Item = &FieldName> {
        self.lines.keys()
    }

    /// Where a field stands in the vendor's record and which way it goes, for people.
    pub fn describe(&self, field: &FieldName) -> Option<(String, Direction)> {
        let line = self.lines.get(field)?;
        let place = match &line.place {
            Place::One(path) => path.to_string(),
            Place::Parts { given, family } => format!("{given} + {family}"),
        };
        Some((place, line.direction))
    }

    /// Whether the field's place holds something that cannot be read: nothing is known of it, so it is left alone.
    pub fn is_unreadable(&self, field: &FieldName, remote: &Json) -> bool {
        self.lines.get(field).is_some_and(|line| line.read(remote, None).is_err())
    }

    /// Reads a vendor record. `region` (ISO alpha-2) is where phone numbers without a country code belong, unless the
    /// record itself names a country.
    pub fn read(&self, remote: &Json, region: Option<&str>) -> Read {
        let mut read = Read::default();
        let mut country = None;
        for (field, line) in &self.lines {
            match line.read(remote, country.as_deref().or(region)) {
                Ok(Some(slot)) => {
                    // The country comes before every field that can hold a number.
                    if field.kind() == FieldKind::Country && is_valid(field, &slot) {
                        country = slot.text().map(str::to_owned);
                    }
                    if let Some(why) = verdict(field, &slot) {
                        read.problems.push(Problem { field: field.clone(), why });
                    }
                    read.fields.insert(field.clone(), slot);
                }
                Ok(None) => {}
                Err(why) => read.problems.push(Problem { field: field.clone(), why }),
            }
        }
        read
    }

    /// What `changes` look like at this vendor: a partial record that holds changed members only. `current` is the
    /// record as last read; lists of keyed items are written whole from it.
    pub fn write(&self, changes: &Fields, current: Option<&Json>) -> Json {
        let mut body = Json::Object(Map::new());
        for (field, slot) in changes {
            let Some(line) = self.lines.get(field).filter(|line| line.direction != Direction::In) else { continue };
            if !is_valid(field, slot) {
                continue;
            }
            line.write(slot, current, &mut body);
        }
        body
    }

    /// `slot` as this vendor can hold it, in canonical form: what reading it back gives when the vendor keeps it as sent.
    pub fn project(&self, field: &FieldName, slot: &Slot, current: Option<&Json>) -> Slot {
        let Some(line) = self.lines.get(field) else { return Slot::Cleared };
        if !is_valid(field, slot) {
            return Slot::Cleared;
        }
        line.project(slot, current)
    }

    /// What a new record there gets: every accepted field that is set, valid, and can be held.
    pub fn creation(&self, golden: &Golden) -> Fields {
        let mut fields = Fields::new();
        for field in self.lines.keys().filter(|field| self.accepts(field)) {
            if let Some(golden) = golden.get(field)
                && self.project(field, &golden.slot, None) != Slot::Cleared
            {
                fields.insert(field.clone(), golden.slot.clone());
            }
        }
        fields
    }
}

impl Line {
    /// `None` is absent; an error is a value of a type that the transform cannot read.
    fn read(&self, remote: &Json, region: Option<&str>) -> Result<Option<Slot>, String> {
        match &self.place {
            Place::One(path) => match path.get(remote) {
                None if self.missing == Missing::Cleared => Ok(Some(Slot::Cleared)),
                None => Ok(None),
                Some(value) => self.transform.read(value, region).map(Some),
            },
            Place::Parts { given, family } => {
                let (given, family) = (given.get(remote), family.get(remote));
                if given.is_none() && family.is_none() {
                    return Ok(None);
                }
                let part = |value: Option<&Json>| match value {
                    None | Some(Json::Null) => Ok(String::new()),
                    Some(Json::String(text)) => Ok(text.clone()),
                    Some(other) => Err(format!("a text was expected, not {}", transform::type_of(other))),
                };
                let name = PersonName::parts(&part(given)?, &part(family)?);
                Ok(Some(if name.full.is_empty() { Slot::Cleared } else { Slot::Set(Value::Name(name)) }))
            }
        }
    }

    fn write(&self, slot: &Slot, current: Option<&Json>, body: &mut Json) {
        let projected = self.project(slot, current);
        // What the vendor cannot hold is left out: a blank in its place would be a clear that nobody made.
        if projected == Slot::Cleared && matches!(slot, Slot::Set(value) if !is_empty(value)) {
            return;
        }
        match &self.place {
            Place::One(path) => {
                let value = match projected {
                    Slot::Cleared => self.blank(),
                    Slot::Set(value) => self.transform.write(&value, current.and_then(|current| path.get(current))),
                };
                // Keyed lists are replaced as a whole by most vendors: what is there goes along.
                if let Some(list) = path.list()
                    && list.get(body).is_none()
                    && let Some(present) = current.and_then(|current| list.get(current))
                {
                    list.set(body, present.clone());
                }
                path.set(body, value);
            }
            Place::Parts { given, family } => {
                let (first, last) = match projected {
                    Slot::Set(Value::Name(name)) => (name.given.unwrap_or_default(), name.family.unwrap_or_default()),
                    _ => (String::new(), String::new()),
                };
                for (path, part) in [(given, first), (family, last)] {
                    let value = if part.is_empty() { self.blank() } else { Json::String(part) };
                    path.set(body, value);
                }
            }
        }
    }

    fn blank(&self) -> Json {
        match self.cleared {
            Cleared::Null => Json::Null,
            Cleared::Empty if matches!(self.transform, Transform::Tags { .. }) => Json::Array(Vec::new()),
            Cleared::Empty => Json::String(String::new()),
        }
    }

    fn project(&self, slot: &Slot, current: Option<&Json>) -> Slot {
        let Slot::Set(value) = slot else { return Slot::Cleared };
        let value = match (&self.place, value) {
            (Place::Parts { .. }, Value::Name(name)) => {
                let present = current.and_then(|current| self.read(current, None).ok().flatten());
                let present = match &present {
                    Some(Slot::Set(Value::Name(name))) => Some(name),
                    _ => None,
                };
                Value::Name(name.split(present))
            }
            (Place::One(_), Value::Name(name)) => Value::Name(PersonName::whole(&name.full)),
            (_, value) => value.clone(),
        };
        let value = match (self.max_length, self.too_long) {
            (Some(max), TooLong::Cut) => cut(value, max),
            (Some(max), TooLong::Unholdable) if written_length(&self.transform.write(&value, None)) > max => {
                return Slot::Cleared;
            }
            _ => value,
        };
        self.transform.project(value)
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.is_empty(),
        Value::Set(set) => set.is_empty(),
        Value::Name(name) => name.full.is_empty(),
        Value::Bool(_) => false,
    }
}

fn written_length(written: &Json) -> usize {
    written.as_str().map_or(0, |text| text.chars().count())
}

/// Cuts texts to what the vendor can hold.
fn cut(value: Value, max: usize) -> Value {
    let short = |text: String| match text.char_indices().nth(max) {
        Some((at, _)) => crate::normalize::text(&text[..at]),
        None => text,
    };
    match value {
        Value::Text(text) => Value::Text(short(text)),
        Value::Name(name) => match (name.given, name.family) {
            (Some(given), Some(family)) => Value::Name(PersonName::parts(&short(given), &short(family))),
            _ => Value::Name(PersonName::whole(&short(name.full))),
        },
        other => other,
    }
}
