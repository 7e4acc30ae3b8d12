//! The canonical model: field names, their kinds, and values that are set, cleared or absent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::normalize;

/// Canonical values of one record. No key means absent: the system has no such field, or it was not read.
pub type Fields = BTreeMap<FieldName, Slot>;

/// What kind of value a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldKind {
    /// Any text.
    Text,
    /// A person's name, whole or in parts.
    Name,
    /// An e-mail address.
    Email,
    /// A phone number, E.164 where it can be read.
    Phone,
    /// A day, `YYYY-MM-DD`.
    Date,
    /// True or false.
    Bool,
    /// A decimal number.
    Number,
    /// A country, ISO 3166 alpha-2.
    Country,
    /// A set of texts.
    Set,
    /// A set of e-mail addresses.
    Emails,
    /// A set of phone numbers.
    Phones,
}

impl FieldKind {
    /// Whether it holds a set.
    pub fn is_set(self) -> bool {
        matches!(self, FieldKind::Set | FieldKind::Emails | FieldKind::Phones)
    }
}

/// The closed list of contact fields; `custom.*` and `external.*` are open.
const KNOWN: &[(&str, FieldKind)] = &[
    ("address.city", FieldKind::Text),
    ("address.country", FieldKind::Country),
    ("address.line1", FieldKind::Text),
    ("address.line2", FieldKind::Text),
    ("address.postcode", FieldKind::Text),
    ("address.region", FieldKind::Text),
    ("birthday", FieldKind::Date),
    ("company", FieldKind::Text),
    ("consent.marketing", FieldKind::Bool),
    ("email", FieldKind::Email),
    ("job_title", FieldKind::Text),
    ("language", FieldKind::Text),
    ("mobile_phone", FieldKind::Phone),
    ("name", FieldKind::Name),
    ("other_emails", FieldKind::Emails),
    ("other_phones", FieldKind::Phones),
    ("phone", FieldKind::Phone),
    ("tags", FieldKind::Set),
    ("timezone", FieldKind::Text),
];

/// Name of a canonical field. Cheap to clone and compare: the known names are places in a sorted list.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldName(Name);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    /// Its place in [`KNOWN`].
    Known(u8),
    Open(String),
}

impl Ord for FieldName {
    /// The order of the names as texts.
    fn cmp(&self, other: &FieldName) -> Ordering {
        match (&self.0, &other.0) {
            (Name::Known(a), Name::Known(b)) => a.cmp(b),
            _ => self.as_str().cmp(other.as_str()),
        }
    }
}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &FieldName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A name that no field has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no canonical field; known are {known}, and `custom.KEY` and `external.NAMESPACE`", known = known_names())]
pub struct FieldNameError(String);

fn known_names() -> String {
    KNOWN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl FieldName {
    /// Takes a name from the closed list, or one of the open families `custom.` and `external.`.
    pub fn parse(text: &str) -> Result<FieldName, FieldNameError> {
        if let Some(index) =
            KNOWN.binary_search_by_key(&text, |(name, _)| name).ok().and_then(|at| u8::try_from(at).ok())
        {
            return Ok(FieldName(Name::Known(index)));
        }
        let open = ["custom.", "external."].iter().find_map(|family| text.strip_prefix(family));
        match open {
            Some(rest) if !rest.is_empty() && rest.trim() == rest => Ok(FieldName(Name::Open(text.to_owned()))),
            _ => Err(FieldNameError(text.to_owned())),
        }
    }

    /// The name as it is written in files.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Known(index) => KNOWN[usize::from(*index)].0,
            Name::Open(text) => text,
        }
    }

    /// What kind of value the field holds; open fields hold text.
    pub fn kind(&self) -> FieldKind {
        match &self.0 {
            Name::Known(index) => KNOWN[usize::from(*index)].1,
            Name::Open(_) => FieldKind::Text,
        }
    }

    /// All names of the closed list.
    pub fn known() -> impl Iterator<Item = FieldName> {
        (0u8..).take(KNOWN.len()).map(|index| FieldName(Name::Known(index)))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldName, D::Error> {
        let text = String::deserialize(deserializer)?;
        FieldName::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A person's name. `full` is always there; the parts only where the system keeps them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PersonName {
    /// The whole name as one would write it.
    pub full: String,
    /// Given name or names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// Family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
}

impl PersonName {
    /// A name that is only known whole.
    pub fn whole(full: &str) -> PersonName {
        PersonName { full: normalize::spaces(full), given: None, family: None }
    }

    /// A name kept in parts; either may be empty.
    pub fn parts(given: &str, family: &str) -> PersonName {
        let (given, family) = (normalize::spaces(given), normalize::spaces(family));
        let full =
            [given.as_str(), family.as_str()].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
        PersonName { full: full.join(" "), given: Some(given), family: Some(family) }
    }

    /// The same name in parts. A present split is kept where it still fits; else the last word is the family name.
    pub fn split(&self, present: Option<&PersonName>) -> PersonName {
        if self.given.is_some() && self.family.is_some() {
            return self.clone();
        }
        if let Some(PersonName { given: Some(given), family: Some(family), .. }) = present {
            if !given.is_empty()
                && let Some(rest) = self.full.strip_prefix(given.as_str())
                && (rest.is_empty() || rest.starts_with(' '))
            {
                return PersonName::parts(given, rest);
            }
            if !family.is_empty()
                && let Some(rest) = self.full.strip_suffix(family.as_str())
                && (rest.is_empty() || rest.ends_with(' '))
            {
                return PersonName::parts(rest, family);
            }
        }
        match self.full.rsplit_once(' ') {
            Some((given, family)) => PersonName::parts(given, family),
            None => PersonName::parts(&self.full, ""),
        }
    }
}

/// A value in normal form. E-mails, phones, dates, numbers and countries are texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// Any text.
    Text(String),
    /// A set of texts.
    Set(BTreeSet<String>),
    /// A person's name.
    Name(PersonName),
}

impl Value {
    /// Reads a text that a person typed as a value of `kind`.
    pub fn parse(kind: FieldKind, text: &str) -> Value {
        match kind {
            FieldKind::Name => Value::Name(PersonName::whole(text)),
            FieldKind::Set | FieldKind::Emails | FieldKind::Phones => {
                let items = text.split(',').map(|item| normalize::item(kind, item, None));
                Value::Set(items.filter(|item| !item.is_empty()).collect())
            }
            FieldKind::Bool => normalize::boolean(text).map_or_else(|| Value::Text(normalize::text(text)), Value::Bool),
            FieldKind::Email => Value::Text(normalize::email(text)),
            FieldKind::Phone => Value::Text(normalize::phone(text, None).unwrap_or_else(|raw| raw)),
            FieldKind::Date => Value::Text(normalize::date(text).unwrap_or_else(|| normalize::text(text))),
            FieldKind::Number => Value::Text(normalize::number(text).unwrap_or_else(|| normalize::text(text))),
            FieldKind::Country => Value::Text(normalize::country(text).unwrap_or_else(|| normalize::text(text))),
            FieldKind::Text => Value::Text(normalize::text(text)),
        }
    }
}

/// What a system shows of a field it has: a value, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The field is there and empty.
    Cleared,
    /// The field holds this.
    Set(Value),
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Slot::Cleared => serializer.serialize_none(),
            Slot::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Slot, D::Error> {
        Ok(Option::<Value>::deserialize(deserializer)?.map_or(Slot::Cleared, Slot::Set))
    }
}

impl Slot {
    /// The text of a text value.
    pub fn text(&self) -> Option<&str> {
        match self {
            Slot::Set(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// Whether two slots say the same. Names agree when the whole does and, where both keep parts, the parts do.
pub fn agree(a: &Slot, b: &Slot) -> bool {
    match (a, b) {
        (Slot::Set(Value::Name(a)), Slot::Set(Value::Name(b))) => {
            let both = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
            a.full == b.full && both(&a.given, &b.given) && both(&a.family, &b.family)
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_texts() {
        assert!(KNOWN.windows(2).all(|pair| pair[0].0 < pair[1].0), "found by halving");
        let open =
            ["custom.a", "custom.z", "external.ref", "custom.\u{e9}"].map(|name| FieldName::parse(name).expect("open"));
        let mut names: Vec<FieldName> = FieldName::known().chain(open).collect();
        names.sort();
        let texts: Vec<&str> = names.iter().map(FieldName::as_str).collect();
        assert!(texts.windows(2).all(|pair| pair[0] < pair[1]), "{texts:?}");
        for name in &names {
            assert_eq!(&FieldName::parse(name.as_str()).expect("a name"), name);
        }
    }
}
