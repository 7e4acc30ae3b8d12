//! What a vendor may write and nobody takes: half a character, a NUL inside a text, and an id that is longer than an index holds.

use serde_json::Value;

/// Bytes of the longest text that is taken for an id; the vendors' own have some dozens.
pub(crate) const LONGEST_ID: usize = 500;

/// How JSON writes a NUL; there is no other way.
const NUL: &[u8] = b"\\u0000";

/// Whether an id can be kept and found again.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() <= LONGEST_ID
}

/// Reads JSON, without the NULs that its texts may hold, and with U+FFFD for each half of a character: JavaScript leaves
/// those where it cuts a text in the middle of an emoji, and one product's name must not make a whole page unreadable.
pub(crate) fn read(json: &[u8]) -> Result<Value, serde_json::Error> {
    let mut value = match serde_json::from_slice(json) {
        Ok(value) => value,
        Err(error) => match whole(json) {
            Some(json) => serde_json::from_slice(&json)?,
            None => return Err(error),
        },
    };
    // Nearly nothing holds one, and to look through the bytes is cheap.
    if json.windows(NUL.len()).any(|part| part == NUL) {
        clean(&mut value);
    }
    Ok(value)
}

/// The same JSON without halves of characters; none where it holds none.
fn whole(json: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut out, mut at, mut found) = (Vec::with_capacity(json.len()), 0, false);
    while at < json.len() {
        let step = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                found = true;
                out.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            // What follows a backslash begins no escape of its own.
            _ if json[at] == b'\\' => 2,
            _ => 1,
        };
        out.extend_from_slice(&json[at..json.len().min(at + step)]);
        at += step;
    }
    found.then_some(out)
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
        assert_eq!(
            read(json).expect("JSON"),
            serde_json::json!({ "name": "Ann", "more": ["", { "in": "B" }, 7], "plain": "\\u0000" })
        );
    }

    #[test]
    fn half_a_character_costs_no_page() {
        let json = br#"["cut \ud83d", "\ude00 cut", "\ud83d\ude00", "\\ud83d", "\ud83d\ud83d\ude00", "\u00e9\n"]"#;
        let wanted = ["cut \u{fffd}", "\u{fffd} cut", "\u{1f600}", "\\ud83d", "\u{fffd}\u{1f600}", "\u{e9}\n"];
        assert_eq!(read(json).expect("JSON"), serde_json::json!(wanted));
        for broken in [&br#"["\ud83d"#[..], b"[\"\\", b"\\ud83d", b"{", b"[\"\\u"] {
            assert!(read(broken).is_err());
        }
    }
}
