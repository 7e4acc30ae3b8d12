//! Phone numbers: E.164, and the extension behind it where there is one.

use std::sync::LazyLock;

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, Region};

/// What stands between a number and its extension, as in RFC 3966: a semicolon, and this.
const EXTENSION: &str = "ext=";
/// Digits of an extension at most, as in libphonenumber.
const LONGEST_EXTENSION: usize = 20;
/// Equal digits at the end from which a number stands for no number: `+46700000000`.
const PLACEHOLDER: usize = 7;

/// E.164, followed by `;ext=` and the extension where the text names one, or the trimmed text when it cannot be read as a
/// number. `region` (ISO alpha-2) is where a number without a country code is dialled.
pub fn phone(raw: &str, region: Option<&str>) -> Result<String, String> {
    read(raw, region.and_then(|code| code.to_ascii_uppercase().parse().ok()))
}

/// Whether somebody in the country of this normal form would dial what `raw` says to reach it.
pub(super) fn is_same_number(raw: &str, normal: &str) -> bool {
    let number = PHONE_NUMBER_UTIL.parse(normal, None);
    let region = number.ok().and_then(|number| PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code));
    read(raw, region).as_deref() == Ok(normal)
}

fn read(raw: &str, region: Option<Region>) -> Result<String, String> {
    let trimmed = super::text(raw);
    let dialled =
        trimmed.strip_prefix("00").filter(|rest| rest.len() > 6).map(|rest| format!("+{}", rest.trim_start()));
    match PHONE_NUMBER_UTIL.parse(dialled.as_deref().unwrap_or(&trimmed), region) {
        Ok(parsed) if PHONE_NUMBER_UTIL.is_possible_number(&parsed) => {
            let number = PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164);
            Ok(match parsed.extension.as_deref().map(|extension| PHONE_NUMBER_UTIL.normalize_digits_only(extension)) {
                Some(extension) if !extension.is_empty() => format!("{number};{EXTENSION}{extension}"),
                _ => number.into_owned(),
            })
        }
        _ => Err(trimmed),
    }
}

/// The number without its extension, and the extension.
pub fn phone_parts(normal: &str) -> (&str, Option<&str>) {
    match normal.split_once(';').map(|(number, rest)| (number, rest.strip_prefix(EXTENSION))) {
        Some((number, Some(extension))) => (number, Some(extension)),
        _ => (normal, None),
    }
}

/// Whether a text is the normal form of a number that can exist: a calling code that is assigned, and a length that its
/// numbers have. Asked for every phone of every merge, so it looks up and parses nothing.
pub(super) fn is_normal(text: &str) -> bool {
    let (number, extension) = phone_parts(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if extension.is_some_and(|extension| extension.len() > LONGEST_EXTENSION || !digits(extension)) {
        return false;
    }
    let number = number.strip_prefix('+').filter(|number| digits(number));
    number.and_then(lengths_of).is_some_and(|(lengths, length)| has(lengths.possible, length))
}

/// What is wrong with a text that is no normal form.
pub(super) fn objection(text: &str) -> String {
    let number = text.strip_prefix('+').filter(|number| !number.is_empty());
    match number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(number) if lengths_of(number).is_none() => format!("`{text}` begins with no calling code of a country"),
        Some(_) => format!("`{text}` is too short or too long for its country"),
        None => format!("`{text}` is no phone number that can be read"),
    }
}

/// Whether a normal form can be dialled from anywhere, and is not what forms are filled with when somebody has no number
/// to give. A number that only works within its own area, such as a seven-digit one in the USA, is another one's in the
/// next town.
pub fn is_global_phone(normal: &str) -> bool {
    let number = phone_parts(normal).0;
    let last = number.bytes().last();
    let placeholder = number.bytes().rev().take_while(|digit| Some(*digit) == last).count() >= PLACEHOLDER;
    let lengths = number.strip_prefix('+').and_then(lengths_of);
    !placeholder && lengths.is_some_and(|(lengths, length)| has(lengths.global, length))
}

/// How long the national numbers of one calling code are: bit n stands for n digits.
#[derive(Clone, Copy, Default)]
struct Lengths {
    possible: u32,
    /// Of those, the ones that can be dialled from abroad.
    global: u32,
}

fn has(lengths: u32, length: usize) -> bool {
    length < 32 && lengths >> length & 1 == 1
}

/// The lengths for the calling code that the digits begin with, and the length of what follows it. No calling code is
/// the beginning of another one.
fn lengths_of(number: &str) -> Option<(Lengths, usize)> {
    let mut code = 0;
    for (at, digit) in number.bytes().take(3).enumerate() {
        code = code * 10 + usize::from(digit.wrapping_sub(b'0'));
        if number.starts_with('0') {
            return None;
        }
        if let Some(lengths) = LENGTHS.get(code).filter(|lengths| lengths.possible != 0) {
            return Some((*lengths, number.len() - at - 1));
        }
    }
    None
}

/// By calling code. The library judges a number by its calling code and its length alone.
static LENGTHS: LazyLock<Vec<Lengths>> = LazyLock::new(|| {
    let mut all = vec![Lengths::default(); 1000];
    for code in PHONE_NUMBER_UTIL.get_supported_calling_codes() {
        let Some(lengths) = usize::try_from(code).ok().and_then(|code| all.get_mut(code)) else { continue };
        for length in 2..=17 {
            let national_number = 10u64.pow(length - 1);
            let number = PhoneNumber { country_code: code, national_number, ..PhoneNumber::default() };
            match PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number) {
                Ok(NumberLengthType::IsPossible) => {
                    lengths.possible |= 1 << length;
                    lengths.global |= 1 << length;
                }
                Ok(NumberLengthType::IsPossibleLocalOnly) => lengths.possible |= 1 << length,
                Err(_) => {}
            }
        }
    }
    all
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_kept() {
        for raw in ["+46 8 123 456 78 ext. 12", "+46812345678 x12", "+46812345678;ext=12", "08-12345678 ext 12"] {
            assert_eq!(phone(raw, Some("SE")).as_deref(), Ok("+46812345678;ext=12"), "{raw}");
        }
        assert_eq!(
            phone("+46812345678;ext=007", None).as_deref(),
            Ok("+46812345678;ext=007"),
            "an extension is no number"
        );
        assert_eq!(phone("+46812345678 ext. \u{661}\u{662}", None).as_deref(), Ok("+46812345678;ext=12"));
        assert!(is_normal("+46812345678;ext=12"));
        for wrong in ["+46812345678;ext=", "+46812345678;ext=1a", "+46812345678;ext=123456789012345678901"] {
            assert!(!is_normal(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_numbers_that_can_exist_are_valid() {
        for good in ["+46701740605", "+12125552368", "+390669812345", "+80012345678", "+4930901820", "+29022222"] {
            assert_eq!(phone(good, None).as_deref(), Ok(good));
            assert!(is_normal(good), "{good}");
        }
        for wrong in [
            "+99912345678",
            "+46",
            "+4612",
            "+4670174060512345",
            "+0123456789",
            "+",
            "",
            "46701740605",
            "+4670 1740605",
            "+\u{664}\u{666}701740605",
        ] {
            assert!(!is_normal(wrong), "{wrong}");
        }
    }

    #[test]
    fn some_numbers_tell_nobody() {
        for good in ["+46701740605", "+12125550000", "+46812345678;ext=1"] {
            assert!(is_global_phone(good), "{good}");
        }
        assert_eq!(phone("555-2368", Some("US")).as_deref(), Ok("+15552368"));
        for wrong in ["+15552368", "+46700000000", "+12222222222;ext=5", "+99912345678", "46701740605", "\u{e9}"] {
            assert!(!is_global_phone(wrong), "{wrong}");
        }
    }
}
