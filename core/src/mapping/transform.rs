//! Transforms: a closed list of pure functions, each with its inverse.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::field::{FieldKind, PersonName, Slot, Value};
use crate::normalize;

/// How a vendor's value and the canonical one correspond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Text as it is.
    Text,
    /// A whole name.
    FullName,
    /// An e-mail address.
    Email,
    /// A phone number; E.164 when written, with `;ext=` behind it where there is an extension.
    Phone {
        /// Whether the vendor can hold one.
        extension: bool,
    },
    /// A day; ISO when written.
    Date,
    /// A decimal number, written as a text.
    Number,
    /// A country, written as its code or its English name.
    Country {
        /// Written as a name.
        name: bool,
    },
    /// True or false, written with these words; as JSON booleans without words.
    Bool {
        /// The word for true.
        yes: Option<String>,
        /// The word for false.
        no: Option<String>,
    },
    /// A list of texts, or of objects with the text in one member.
    Tags {
        /// The member.
        item: Option<String>,
        /// What the texts are.
        of: FieldKind,
    },
    /// Canonical word to vendor word, one to one.
    Table(Words),
}

/// Words of a table, for both ways. A word that is not in it has no meaning here: the vendor's is not taken and never
/// written over, the canonical one is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    to_vendor: BTreeMap<String, String>,
    to_canonical: BTreeMap<String, String>,
}

impl Words {
    /// The words by canonical one; of several canonical ones for one vendor word the first is read.
    pub fn new(words: &BTreeMap<String, String>) -> Words {
        let mut table = Words::default();
        for (canonical, vendor) in words {
            let canonical = normalize::text(canonical);
            table.to_canonical.entry(normalize::text(vendor)).or_insert_with(|| canonical.clone());
            table.to_vendor.insert(canonical, vendor.clone());
        }
        table
    }
}

impl Transform {
    /// Reads the vendor's value; an error is one that has no meaning here: nothing is known of the field then.
    pub fn read(&self, value: &Json, region: Option<&str>) -> Result<Slot, String> {
        if value.is_null() {
            return Ok(Slot::Cleared);
        }
        if let Transform::Tags { item, of } = self {
            return tags(value, item.as_deref(), *of, region);
        }
        if let (Transform::Bool { yes: None, .. }, Json::Bool(flag)) = (self, value) {
            return Ok(Slot::Set(Value::Bool(*flag)));
        }
        let raw = match value {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Bool(flag) => flag.to_string(),
            other => return Err(format!("a text was expected, not {}", type_of(other))),
        };
        let text = normalize::text(&raw);
        if text.is_empty() {
            return Ok(Slot::Cleared);
        }
        Ok(Slot::Set(match self {
            Transform::Text => match value {
                Json::Number(_) => Value::Text(normalize::number(&text).unwrap_or(text)),
                _ => Value::Text(text),
            },
            Transform::FullName => Value::Name(PersonName::whole(&text)),
            Transform::Email => Value::Text(normalize::email(&text)),
            Transform::Phone { extension } => match normalize::phone(&text, region) {
                Ok(number) if !extension => Value::Text(normalize::phone_parts(&number).0.to_owned()),
                Ok(number) => Value::Text(number),
                Err(raw) => Value::Text(raw),
            },
            Transform::Date => Value::Text(normalize::date(&text).unwrap_or(text)),
            Transform::Number => Value::Text(normalize::number(&text).unwrap_or(text)),
            Transform::Country { .. } => Value::Text(normalize::country(&text).unwrap_or(text)),
            Transform::Bool { yes, no } => {
                let is = |word: &Option<String>| word.as_deref().is_some_and(|word| word.eq_ignore_ascii_case(&text));
                let flag = if is(yes) {
                    Some(true)
                } else if is(no) {
                    Some(false)
                } else {
                    normalize::boolean(&text)
                };
                flag.map(Value::Bool).ok_or_else(|| "neither yes nor no".to_owned())?
            }
            // Handed on as it is it could be taken for another entry's word, and come back as something else.
            Transform::Table(words) => {
                let known = words.to_canonical.get(&text).cloned();
                Value::Text(known.ok_or_else(|| format!("`{text}` is not in the table"))?)
            }
            Transform::Tags { .. } => return Err("a list was expected".to_owned()),
        }))
    }

    /// Writes a canonical value the vendor's way. `present` is what the vendor shows there: items of a list that stay
    /// are sent as they are, with everything that the vendor keeps beside their text.
    pub fn write(&self, value: &Value, present: Option<&Json>) -> Json {
        match (self, value) {
            (Transform::Tags { item, of }, Value::Set(set)) => list(set, item.as_deref(), *of, present),
            (Transform::Bool { yes, no }, Value::Bool(flag)) => match if *flag { yes } else { no } {
                Some(word) => Json::String(word.clone()),
                None => Json::Bool(*flag),
            },
            (Transform::Country { name: true }, Value::Text(code)) => {
                Json::String(normalize::country_name(code).map_or_else(|| code.clone(), str::to_owned))
            }
            (Transform::Table(words), Value::Text(text)) => {
                Json::String(words.to_vendor.get(text).cloned().unwrap_or_default())
            }
            (_, Value::Text(text)) => Json::String(text.clone()),
            (_, Value::Name(name)) => Json::String(name.full.clone()),
            (_, Value::Bool(flag)) => Json::Bool(*flag),
            (_, Value::Set(set)) => set.iter().cloned().map(Json::String).collect(),
        }
    }

    /// The canonical value as it comes back from the vendor; cleared where the vendor cannot hold it.
    pub fn project(&self, value: Value) -> Slot {
        match value {
            Value::Text(text) if matches!(self, Transform::Table(words) if !words.to_vendor.contains_key(&text)) => {
                Slot::Cleared
            }
            Value::Set(set) if set.is_empty() => Slot::Cleared,
            Value::Text(text) if text.is_empty() => Slot::Cleared,
            Value::Text(text) if matches!(self, Transform::Phone { extension: false }) => {
                Slot::Set(Value::Text(normalize::phone_parts(&text).0.to_owned()))
            }
            Value::Name(name) if name.full.is_empty() => Slot::Cleared,
            value => Slot::Set(value),
        }
    }
}

fn tags(value: &Json, item: Option<&str>, of: FieldKind, region: Option<&str>) -> Result<Slot, String> {
    let list = value.as_array().ok_or_else(|| format!("a list was expected, not {}", type_of(value)))?;
    let mut set = BTreeSet::new();
    for entry in list {
        let text = item.map_or(Some(entry), |member| entry.get(member));
        let text = text.and_then(Json::as_str).ok_or("every item of the list was expected to be a text")?;
        set.insert(normalize::item(of, text, region));
    }
    set.remove("");
    Ok(if set.is_empty() { Slot::Cleared } else { Slot::Set(Value::Set(set)) })
}

/// The items that are there already, in their order, then the new ones.
fn list(set: &BTreeSet<String>, item: Option<&str>, of: FieldKind, present: Option<&Json>) -> Json {
    let mut new: BTreeSet<&str> = set.iter().map(String::as_str).collect();
    let mut items = Vec::with_capacity(set.len());
    for entry in present.and_then(Json::as_array).into_iter().flatten() {
        let text = item.map_or(Some(entry), |member| entry.get(member)).and_then(Json::as_str);
        // An item without a text stands for none of the values, so it is not ours to remove.
        let Some(text) = text.filter(|text| !normalize::text(text).is_empty()) else {
            items.push(entry.clone());
            continue;
        };
        if let Some(known) = set.iter().find(|known| normalize::is_item(of, text, known)) {
            new.remove(known.as_str());
            items.push(entry.clone());
        }
    }
    items.extend(new.into_iter().map(|text| match item {
        Some(member) => serde_json::json!({ member: text }),
        None => Json::String(text.to_owned()),
    }));
    Json::Array(items)
}

pub(super) fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
