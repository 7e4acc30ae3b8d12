//! Normal forms: total functions on any text, each of them idempotent.
//!
//! What cannot be read in its kind is handed back as trimmed text, so that nothing is lost; [`is_valid`] tells the two
//! apart. An invalid value stays on its own side, is reported, and is never used as a key or given to another system.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::field::FieldKind;

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
    let options = email_address::Options::default().without_display_text();
    match email_address::EmailAddress::parse_with_options(&email(raw), options) {
        Ok(_) => EmailVerdict::Valid,
        Err(why) => EmailVerdict::Invalid(why.to_string()),
    }
}

/// E.164, or the trimmed text when it cannot be read as a number. `region` (ISO alpha-2) is where a number without a
/// country code is dialled.
pub fn phone(raw: &str, region: Option<&str>) -> Result<String, String> {
    let trimmed = text(raw);
    let dialled =
        trimmed.strip_prefix("00").filter(|rest| rest.len() > 6).map(|rest| format!("+{}", rest.trim_start()));
    let region = region.and_then(|code| code.to_ascii_uppercase().parse::<Region>().ok());
    let number = dialled.as_deref().unwrap_or(&trimmed);
    match PHONE_NUMBER_UTIL.parse(number, region) {
        Ok(parsed) if PHONE_NUMBER_UTIL.is_possible_number(&parsed) => {
            Ok(PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164).into_owned())
        }
        _ => Err(trimmed),
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

/// True or false as vendors write it.
pub fn boolean(raw: &str) -> Option<bool> {
    match text(raw).to_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Some(true),
        "false" | "no" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// ISO 3166 alpha-2 from a code or an English name.
pub fn country(raw: &str) -> Option<String> {
    let text = text(raw);
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(text.to_ascii_uppercase());
    }
    let lower = text.to_lowercase();
    COUNTRIES.iter().find(|(_, name)| name.to_lowercase() == lower).map(|(code, _)| (*code).to_owned())
}

/// The English name of a country code, where it is one that people write out.
pub fn country_name(code: &str) -> Option<&'static str> {
    COUNTRIES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// Whether a text of this kind is one that other systems may be given.
pub fn is_valid(kind: FieldKind, text: &str) -> bool {
    match kind {
        FieldKind::Email => email_verdict(text) == EmailVerdict::Valid,
        FieldKind::Phone => {
            text.starts_with('+') && text.len() > 6 && text[1..].bytes().all(|byte| byte.is_ascii_digit())
        }
        FieldKind::Date => date(text).as_deref() == Some(text),
        FieldKind::Number => number(text).as_deref() == Some(text),
        FieldKind::Country => text.len() == 2,
        FieldKind::Bool => false,
        FieldKind::Text | FieldKind::Name | FieldKind::Set => true,
    }
}

/// Countries as forms and free-text fields write them.
const COUNTRIES: &[(&str, &str)] = &[
    ("AR", "Argentina"),
    ("AT", "Austria"),
    ("AU", "Australia"),
    ("BE", "Belgium"),
    ("BG", "Bulgaria"),
    ("BR", "Brazil"),
    ("CA", "Canada"),
    ("CH", "Switzerland"),
    ("CL", "Chile"),
    ("CN", "China"),
    ("CO", "Colombia"),
    ("CZ", "Czech Republic"),
    ("CZ", "Czechia"),
    ("DE", "Germany"),
    ("DK", "Denmark"),
    ("EE", "Estonia"),
    ("EG", "Egypt"),
    ("ES", "Spain"),
    ("FI", "Finland"),
    ("FR", "France"),
    ("GB", "United Kingdom"),
    ("GR", "Greece"),
    ("HK", "Hong Kong"),
    ("HR", "Croatia"),
    ("HU", "Hungary"),
    ("ID", "Indonesia"),
    ("IE", "Ireland"),
    ("IL", "Israel"),
    ("IN", "India"),
    ("IS", "Iceland"),
    ("IT", "Italy"),
    ("JP", "Japan"),
    ("KE", "Kenya"),
    ("KR", "South Korea"),
    ("LT", "Lithuania"),
    ("LU", "Luxembourg"),
    ("LV", "Latvia"),
    ("MA", "Morocco"),
    ("MX", "Mexico"),
    ("MY", "Malaysia"),
    ("NG", "Nigeria"),
    ("NL", "Netherlands"),
    ("NO", "Norway"),
    ("NZ", "New Zealand"),
    ("PE", "Peru"),
    ("PH", "Philippines"),
    ("PL", "Poland"),
    ("PT", "Portugal"),
    ("RO", "Romania"),
    ("RS", "Serbia"),
    ("SA", "Saudi Arabia"),
    ("SE", "Sweden"),
    ("SG", "Singapore"),
    ("SI", "Slovenia"),
    ("SK", "Slovakia"),
    ("TH", "Thailand"),
    ("TR", "Turkey"),
    ("TW", "Taiwan"),
    ("UA", "Ukraine"),
    ("AE", "United Arab Emirates"),
    ("US", "United States"),
    ("US", "United States of America"),
    ("VN", "Vietnam"),
    ("ZA", "South Africa"),
];
