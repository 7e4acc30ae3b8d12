//! Places inside a vendor's record: a JSON pointer that can also choose an item of a list by one of its members.
//!
//! `/billing/phone` is a member; `/meta_data[key=plan]/value` is the member `value` of the item of `meta_data` whose
//! member `key` is `plan`.

use std::fmt;

use serde_json::{Map, Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Item { key: String, value: String },
}

/// A place inside a vendor's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePath {
    text: String,
    steps: Vec<Step>,
}

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path; write `/member/member`, or `/list[key=value]/member` to choose an item of a list")]
pub struct RemotePathError(String);

impl RemotePath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<RemotePath, RemotePathError> {
        let wrong = || RemotePathError(text.to_owned());
        let rest = text.strip_prefix('/').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        for part in split_outside_brackets(rest) {
            let (member, selector) = match part.split_once('[') {
                Some((member, selector)) => (member, Some(selector.strip_suffix(']').ok_or_else(wrong)?)),
                None => (part, None),
            };
            if member.is_empty() {
                return Err(wrong());
            }
            steps.push(Step::Member(member.replace("~1", "/").replace("~0", "~")));
            if let Some(selector) = selector {
                let (key, value) = selector.split_once('=').ok_or_else(wrong)?;
                if key.is_empty() || value.is_empty() {
                    return Err(wrong());
                }
                steps.push(Step::Item { key: key.to_owned(), value: value.to_owned() });
            }
        }
        Ok(RemotePath { text: text.to_owned(), steps })
    }

    /// The value by which it chooses an item of a list; none where it chooses none.
    pub fn item(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match step {
            Step::Item { value, .. } => Some(value.as_str()),
            Step::Member(_) => None,
        })
    }

    /// The value there; none when any part of the way is missing.
    pub fn get<'a>(&self, record: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(record, |place, step| match step {
            Step::Member(name) => match place {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?),
                place => place.get(name),
            },
            Step::Item { key, value } => place.as_array()?.iter().find(|item| is_item(item, key, value)),
        })
    }

    /// Puts a value there, making what is missing on the way.
    pub fn set(&self, record: &mut Value, new: Value) {
        let mut place = record;
        for (index, step) in self.steps.iter().enumerate() {
            let next_is_item = matches!(self.steps.get(index + 1), Some(Step::Item { .. }));
            place = match step {
                Step::Member(name) => {
                    if !place.is_object() {
                        *place = Value::Object(Map::new());
                    }
                    let empty = if next_is_item { json!([]) } else { Value::Null };
                    let member = place.as_object_mut().expect("made above").entry(name.clone()).or_insert(empty);
                    if next_is_item && !member.is_array() {
                        *member = json!([]);
                    }
                    member
                }
                Step::Item { key, value } => {
                    let list = place.as_array_mut().expect("the step before made it");
                    let found = list.iter().position(|item| is_item(item, key, value));
                    let at = found.unwrap_or_else(|| {
                        list.push(json!({ key: value }));
                        list.len() - 1
                    });
                    &mut list[at]
                }
            };
        }
        *place = new;
    }

    /// The member of the record that holds the place.
    pub fn root(&self) -> &str {
        match self.steps.first() {
            Some(Step::Member(name)) => name,
            _ => "",
        }
    }

    /// The list that the place chooses an item of, when it does.
    pub fn list(&self) -> Option<RemotePath> {
        let at = self.steps.iter().position(|step| matches!(step, Step::Item { .. }))?;
        let text = self.text.split('[').next().unwrap_or_default().to_owned();
        Some(RemotePath { text, steps: self.steps[..at].to_vec() })
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn is_item(item: &Value, key: &str, value: &str) -> bool {
    match item.get(key) {
        Some(Value::String(text)) => text == value,
        // Some vendors number what they list.
        Some(Value::Number(number)) => number.to_string() == value,
        _ => false,
    }
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (index, character) in text.char_indices() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            '/' if !inside => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
