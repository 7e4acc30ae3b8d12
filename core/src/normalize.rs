//! Normal forms: total functions on any text, each of them idempotent.
//!
//! What cannot be read in its kind is handed back as trimmed text, so that nothing is lost; [`is_valid`] tells the two
//! apart. An invalid value stays on its own side, is reported, and is never used as a key or given to another system.

mod country;
mod phone;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::field::FieldKind;
pub use country::{country, country_name};
pub use phone::{is_global_phone, phone, phone_parts};

/// NFC, without surrounding white space.
pub fn text(raw: &str) -> String {
    let trimmed = raw.trim();
    if is_nfc_quick(trimmed.chars()) == IsNormalized::Yes {
        return trimmed.to_owned();
    }
    let composed: String = trimmed.nfc().collect();
    match composed.trim() {
        same if same.len() == composed.len() => composed,
        shorter => shorter.to_owned(),
    }
}

/// [`text`] with every run of white space made one space: for names.
pub fn spaces(raw: &str) -> String {
    let text = text(raw);
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut line, word| {
        line.push(' ');
        line.push_str(word);
        line
    })
}

/// Trimmed, NFC and lower case. Upper and lower case in front of the `@` name one mailbox everywhere in practice.
pub fn email(raw: &str) -> String {
    let trimmed = text(raw);
    if trimmed.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return trimmed;
    }
    text(&trimmed.to_lowercase())
}

/// Whether a text is an e-mail address, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmailVerdict {
    /// It is.
    Valid,
    /// It is not, for this reason.
    Invalid(String),
}

/// Judges an e-mail address by syntax alone.
pub fn email_verdict(raw: &str) -> EmailVerdict {
    verdict_of_normal(&email(raw))
}

fn verdict_of_normal(email: &str) -> EmailVerdict {
    if is_plain_email(email) {
        return EmailVerdict::Valid;
    }
    let options = email_address::Options::default().without_display_text();
    match email_address::EmailAddress::parse_with_options(email, options) {
        Ok(_) => EmailVerdict::Valid,
        Err(why) => EmailVerdict::Invalid(why.to_string()),
    }
}

/// `YYYY-MM-DD` from ISO dates and times, `YYYYMMDD`, `DD.MM.YYYY`, and Unix milliseconds.
pub fn date(raw: &str) -> Option<String> {
    let text = text(raw);
    let day = text
        .get(..10)
        .filter(|_| text.len() == 10 || text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b' ')));
    let parsed = ["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d"]
        .iter()
        .find_map(|format| chrono::NaiveDate::parse_from_str(day.unwrap_or(&text), format).ok())
        .or_else(|| (text.len() == 8).then(|| chrono::NaiveDate::parse_from_str(&text, "%Y%m%d").ok()).flatten())
        .or_else(|| {
            let millis = (text.len() > 8).then(|| text.parse::<i64>().ok()).flatten()?;
            Some(chrono::DateTime::from_timestamp_millis(millis)?.date_naive())
        })?;
    let iso = parsed.format("%Y-%m-%d").to_string();
    (iso.len() == 10).then_some(iso)
}

/// A decimal number without exponent, leading or trailing zeros: `1.0` and `01` are `1`.
pub fn number(raw: &str) -> Option<String> {
    let text = text(raw);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(&text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !digits_only(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(match fraction.trim_end_matches('0') {
        "" if whole == "0" => "0".to_owned(),
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    })
}

/// An item of a list of this kind.
pub fn item(kind: FieldKind, raw: &str, region: Option<&str>) -> String {
    match kind {
        FieldKind::Emails => email(raw),
        FieldKind::Phones => phone(raw, region).unwrap_or_else(|raw| raw),
        _ => text(raw),
    }
}

/// Whether what a vendor shows as an item of a list is this item in its normal form. Where the vendor's country is not
/// known, a number that is written as in its own country counts.
pub fn is_item(kind: FieldKind, raw: &str, normal: &str) -> bool {
    item(kind, raw, None) == normal || (kind == FieldKind::Phones && phone::is_same_number(raw, normal))
}

/// True or false as vendors write it.
pub fn boolean(raw: &str) -> Option<bool> {
    match text(raw).to_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Some(true),
        "false" | "no" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// What is wrong with a text that is not valid in its kind, for people.
pub fn objection(kind: FieldKind, text: &str) -> String {
    match kind {
        FieldKind::Email | FieldKind::Emails => match verdict_of_normal(text) {
            EmailVerdict::Invalid(why) => format!("`{text}` is no e-mail address: {why}"),
            EmailVerdict::Valid => format!("`{text}` is not written as other systems write it"),
        },
        FieldKind::Phone | FieldKind::Phones => phone::objection(text),
        FieldKind::Date => format!("`{text}` is no day"),
        FieldKind::Number => format!("`{text}` is no decimal number"),
        FieldKind::Country => format!("`{text}` is no country of ISO 3166 and no English name of one"),
        FieldKind::Bool => format!("`{text}` is neither yes nor no"),
        FieldKind::Text | FieldKind::Name | FieldKind::Set => format!("`{text}` is not valid"),
    }
}

/// Whether this is an address as nearly all of them are, which needs no grammar: asked for every one in every merge.
fn is_plain_email(email: &str) -> bool {
    let Some((local, domain)) = email.split_once('@') else { return false };
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| word(byte) || matches!(byte, b'-' | b'_' | b'+'));
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if word(*first) && word(*last));
        ends && label.len() <= 63 && bytes.iter().all(|byte| word(*byte) || *byte == b'-')
    };
    local.len() <= 64 && domain.len() <= 254 && local.split('.').all(part) && domain.split('.').all(label)
}

/// Whether an address can be the only one of its kind in the world: its domain is a name below another one, and not one
/// that is kept for no host at all (RFC 2606, RFC 6761).
pub fn is_global_email(normal: &str) -> bool {
    let Some((_, domain)) = normal.rsplit_once('@') else { return false };
    match domain.rsplit_once('.') {
        Some((_, top)) => !matches!(top, "invalid" | "localhost" | "local") && !domain.starts_with('['),
        None => false,
    }
}

/// Whether a text in the normal form of this kind, or an item of a list of this kind, is one that other systems may be
/// given.
pub fn is_valid(kind: FieldKind, text: &str) -> bool {
    match kind {
        FieldKind::Email | FieldKind::Emails => verdict_of_normal(text) == EmailVerdict::Valid,
        FieldKind::Phone | FieldKind::Phones => phone::is_normal(text),
        FieldKind::Date => date(text).as_deref() == Some(text),
        FieldKind::Number => number(text).as_deref() == Some(text),
        FieldKind::Country => country::is_code(text),
        FieldKind::Bool => false,
        FieldKind::Text | FieldKind::Name | FieldKind::Set => true,
    }
}
