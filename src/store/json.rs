//! JSON columns: written canonically, read with the row's name in the error.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Result, StoreError};

/// The text of a value of our own types.
pub fn to_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the store's types have text keys and finite numbers")
}

/// The value a column holds.
pub fn from_text<T: DeserializeOwned>(what: &'static str, id: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt { what, id: id.to_owned(), why: error.to_string() })
}

/// The value an optional column holds.
pub fn from_optional<T: DeserializeOwned>(what: &'static str, id: &str, text: Option<&str>) -> Result<Option<T>> {
    text.map(|text| from_text(what, id, text)).transpose()
}
