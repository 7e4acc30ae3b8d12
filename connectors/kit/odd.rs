//! What a vendor may write and no store takes: a NUL inside a text, and an id that is longer than an index holds.

use serde_json::Value;

/// Bytes of the longest text that is taken for an id; the vendors' own have some dozens.
pub(crate) const LONGEST_ID: usize = 500;

/// How JSON writes a NUL; there is no other way.
const NUL: &[u8] = b"\\u0000";

/// Whether an id can be kept and found again.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() <= LONGEST_ID
}

/// Takes every NUL out of the texts of `value`, which was read from `json`.
pub(crate) fn without_nul(json: &[u8], value: &mut Value) {
    // Nearly nothing holds one, and to look through the bytes is cheap.
    if json.windows(NUL.len()).any(|part| part == NUL) {
        clean(value);
    }
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => text.retain(|letter| letter != '\0'),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(members) => members.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_keeps_a_nul() {
        let json = br#"{"name":"A\u0000nn","more":["\u0000",{"in":"B\u0000"},7],"plain":"\\u0000"}"#;
        let mut value: Value = serde_json::from_slice(json).expect("JSON");
        without_nul(json, &mut value);
        assert_eq!(value, serde_json::json!({ "name": "Ann", "more": ["", { "in": "B" }, 7], "plain": "\\u0000" }));
    }
}
