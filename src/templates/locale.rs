//! How a language writes amounts, numbers, dates and plurals, from CLDR data; currencies from a small table by hand.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use icu_calendar::{Date, Gregorian};
use icu_datetime::FixedCalendarDateTimeFormatter;
use icu_datetime::fieldsets::YMD;
use icu_datetime::input::{DateTime as LocalTime, Time};
use icu_decimal::DecimalFormatter;
use icu_decimal::input::Decimal;
use icu_locale_core::LanguageIdentifier;
use icu_plurals::{PluralCategory, PluralRules};

/// Between a number and its currency: a space at which no line breaks.
const NO_BREAK: char = '\u{a0}';

/// Longer texts are no amounts.
const MAX_DIGITS: usize = 40;

/// A BCP 47 tag; `de_AT` is read too, extensions are left out.
pub(super) fn tag(text: &str) -> Option<LanguageIdentifier> {
    let text = text.trim().replace('_', "-");
    LanguageIdentifier::try_from_locale_bytes(text.as_bytes()).ok().filter(|tag| !tag.language.is_unknown())
}

/// The formats of one language. The data is compiled in: making a formatter is a look-up.
#[derive(Clone)]
pub(super) struct Formats {
    language: LanguageIdentifier,
}

impl Formats {
    /// The formats of a language; one without data of its own is written as its nearest relative, or in a general way.
    pub fn new(language: &LanguageIdentifier) -> Formats {
        Formats { language: language.clone() }
    }

    fn decimal(&self, number: &Decimal) -> Option<String> {
        let formatter = DecimalFormatter::try_new((&self.language).into(), Default::default()).ok()?;
        Some(formatter.format_to_string(number))
    }

    /// Decimal text as the language writes it, without zeros at its end.
    pub fn number(&self, text: &str) -> Option<String> {
        let mut number = parse(text)?;
        number.absolute.trim_end();
        self.decimal(&number)
    }

    /// The plural category of decimal text: `one`, `few`, `other`, …
    pub fn plural(&self, text: &str) -> Option<&'static str> {
        let mut number = parse(text)?;
        number.absolute.trim_end();
        let rules = PluralRules::try_new_cardinal((&self.language).into()).ok()?;
        Some(match rules.category_for(&number) {
            PluralCategory::Zero => "zero",
            PluralCategory::One => "one",
            PluralCategory::Two => "two",
            PluralCategory::Few => "few",
            PluralCategory::Many => "many",
            PluralCategory::Other => "other",
        })
    }

    /// Decimal text as an amount: with the digits and the symbol of its currency (ISO 4217), or without both.
    pub fn money(&self, text: &str, currency: Option<&str>) -> Option<String> {
        let mut amount = parse(text)?;
        let Some(currency) = currency else { return self.decimal(&amount) };
        let code = currency.trim().to_ascii_uppercase();
        if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let digits = digits(&code);
        amount.absolute.round(-digits);
        amount.absolute.trim_end();
        amount.absolute.pad_end(-digits);
        if amount.absolute.is_zero() {
            amount.sign = Default::default();
        }
        let symbol = symbol(&code, &self.language);
        let number = self.decimal(&amount)?;
        Some(match side(&self.language) {
            Side::After => format!("{number}{NO_BREAK}{symbol}"),
            Side::Before { space } => {
                amount.sign = Default::default();
                let bare = self.decimal(&amount)?;
                // The sign stands before the symbol: -€5.00.
                let sign = number.strip_suffix(bare.as_str()).unwrap_or_default();
                let space = space || symbol.ends_with(|last: char| last.is_alphabetic());
                format!("{sign}{symbol}{}{bare}", if space { NO_BREAK.to_string() } else { String::new() })
            }
        })
    }

    /// A day, Unix milliseconds: `4. März 2026`.
    pub fn date(&self, at: i64, zone: Tz) -> Option<String> {
        let (date, _) = local(at, zone)?;
        let formatter = FixedCalendarDateTimeFormatter::try_new((&self.language).into(), YMD::long()).ok()?;
        Some(formatter.format(&date).to_string())
    }

    /// A day and a time, Unix milliseconds: `4. März 2026 um 09:15`.
    pub fn datetime(&self, at: i64, zone: Tz) -> Option<String> {
        let (date, time) = local(at, zone)?;
        let fields = YMD::long().with_time_hm();
        let formatter = FixedCalendarDateTimeFormatter::try_new((&self.language).into(), fields).ok()?;
        Some(formatter.format(&LocalTime { date, time }).to_string())
    }
}

fn local(at: i64, zone: Tz) -> Option<(Date<Gregorian>, Time)> {
    let local = DateTime::from_timestamp_millis(at)?.with_timezone(&zone);
    let small = |number: u32| u8::try_from(number).ok();
    let date = Date::try_new_gregorian(local.year(), small(local.month())?, small(local.day())?).ok()?;
    let time = Time::try_new(small(local.hour())?, small(local.minute())?, small(local.second())?, 0).ok()?;
    Some((date, time))
}

/// `-1234.5`; no exponents, which would let a short text become a long one.
fn parse(text: &str) -> Option<Decimal> {
    let text = text.trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+'));
    if plain && text.len() <= MAX_DIGITS { Decimal::try_from_str(text).ok() } else { None }
}

/// Digits after the point, ISO 4217.
fn digits(currency: &str) -> i16 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// What stands for a currency where it is read; a sign that several countries share is told apart.
fn symbol<'a>(code: &'a str, language: &LanguageIdentifier) -> Cow<'a, str> {
    let region = language.region.map(|region| region.to_string()).unwrap_or_default();
    let at_home = !region.is_empty() && code.starts_with(&region);
    let symbol = match (code, language.language.as_str()) {
        ("EUR", _) => "€",
        ("GBP", _) => "£",
        ("BRL", _) => "R$",
        ("INR", _) => "₹",
        ("ILS", _) => "₪",
        ("KRW", _) => "₩",
        ("VND", _) => "₫",
        ("CNY", "zh") => "¥",
        ("CNY", _) => "CN¥",
        ("JPY", "zh") => "JP¥",
        ("JPY", _) => "¥",
        ("SEK", "sv") | ("NOK", "nb" | "nn" | "no") => "kr",
        ("DKK", "da") | ("ISK", "is") => "kr.",
        ("PLN", "pl") => "zł",
        ("CZK", "cs") => "Kč",
        ("HUF", "hu") => "Ft",
        ("TRY", "tr") => "₺",
        ("UAH", "uk") => "₴",
        ("USD" | "CAD" | "AUD" | "NZD" | "MXN" | "SGD" | "HKD" | "ARS" | "CLP" | "COP", _) if at_home => "$",
        ("USD", "en") if matches!(region.as_str(), "CA" | "AU" | "NZ" | "SG" | "HK") => "US$",
        ("USD", "en" | "de" | "it" | "ja" | "fi") => "$",
        ("USD", "fr") => "$US",
        ("CAD", "fr") => "$CA",
        ("AUD", "fr") => "$AU",
        ("USD", _) => "US$",
        ("CAD", _) => "CA$",
        ("AUD", _) => "A$",
        ("NZD", _) => "NZ$",
        ("MXN", _) => "MX$",
        ("HKD", _) => "HK$",
        _ => return Cow::Borrowed(code),
    };
    Cow::Borrowed(symbol)
}

/// On which side of the number a currency stands.
enum Side {
    Before { space: bool },
    After,
}

fn side(language: &LanguageIdentifier) -> Side {
    let region = language.region.map(|region| region.to_string()).unwrap_or_default();
    match (language.language.as_str(), region.as_str()) {
        ("en" | "ja" | "zh" | "ko" | "th" | "hi" | "tr", _) => Side::Before { space: false },
        ("pt", "" | "BR") | ("nl", _) | ("de", "AT" | "CH" | "LI") | ("it", "CH") => Side::Before { space: true },
        ("es", "" | "ES" | "GQ") => Side::After,
        ("es", "AR" | "CO" | "PY" | "UY") => Side::Before { space: true },
        ("es", _) => Side::Before { space: false },
        _ => Side::After,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(language: &str) -> Formats {
        Formats::new(&tag(language).expect("a tag"))
    }

    /// Spaces that do not break shown as `_`.
    fn money(language: &str, amount: &str, currency: &str) -> String {
        let text = formats(language).money(amount, Some(currency)).expect("an amount");
        text.replace(['\u{a0}', '\u{202f}'], "_")
    }

    #[test]
    fn amounts_look_as_each_language_writes_them() {
        for (language, euro, krona, yen, dollar) in [
            ("en", "€1,234.50", "SEK_1,234.50", "¥1,235", "-$1,234.50"),
            ("de", "1.234,50_€", "1.234,50_SEK", "1.235_¥", "-1.234,50_$"),
            ("es", "1234,50_€", "1234,50_SEK", "1235_¥", "-1234,50_US$"),
            ("fr", "1_234,50_€", "1_234,50_SEK", "1_235_¥", "-1_234,50_$US"),
            ("pt", "€_1.234,50", "SEK_1.234,50", "¥_1.235", "-US$_1.234,50"),
            ("sv", "1_234,50_€", "1_234,50_kr", "1_235_¥", "−1_234,50_US$"),
        ] {
            assert_eq!(money(language, "1234.5", "EUR"), euro, "{language}");
            assert_eq!(money(language, "1234.50", "SEK"), krona, "{language}");
            assert_eq!(money(language, "1234.6", "JPY"), yen, "{language}");
            assert_eq!(money(language, "-1234.50", "usd"), dollar, "{language}");
        }
    }

    #[test]
    fn regions_differ_from_their_language() {
        assert_eq!(money("pt-PT", "12345.5", "EUR"), "12_345,50_€");
        assert_eq!(money("es-MX", "1234.5", "MXN"), "$1,234.50");
        assert_eq!(money("en-CA", "5", "USD"), "US$5.00");
        assert_eq!(money("de-CH", "1234.5", "CHF"), "CHF_1'234.50");
        assert_eq!(money("de_AT", "5", "EUR"), "€_5,00");
    }

    #[test]
    fn digits_follow_the_currency_and_odd_amounts_are_refused() {
        assert_eq!(money("en", "0.1234", "KWD"), "KWD_0.123");
        assert_eq!(money("en", "1234567.00", "JPY"), "¥1,234,567");
        assert_eq!(money("en", "-0.001", "EUR"), "€0.00");
        let english = formats("en");
        assert_eq!(english.money("12.5", None).as_deref(), Some("12.5"));
        for amount in ["", "12,50", "1e30000", "NaN", "twelve", &"9".repeat(41)] {
            assert_eq!(english.money(amount, Some("EUR")), None, "{amount}");
        }
        for currency in ["", "EURO", "E€", "12E"] {
            assert_eq!(english.money("1", Some(currency)), None, "{currency}");
        }
    }

    #[test]
    fn days_and_times_stand_in_their_zone() {
        // 2026-03-04 23:30 UTC is the fifth in Stockholm.
        let at = 1_772_667_000_000;
        let zone = chrono_tz::Europe::Stockholm;
        for (language, date, datetime) in [
            ("en", "March 5, 2026", "March 5, 2026 at 12:30_AM"),
            ("en-GB", "5 March 2026", "5 March 2026 at 00:30"),
            ("de", "5. März 2026", "5. März 2026 um 00:30"),
            ("es", "5 de marzo de 2026", "5 de marzo de 2026 a las 00:30"),
            ("fr", "5 mars 2026", "5 mars 2026 à 00:30"),
            ("pt", "5 de março de 2026", "5 de março de 2026 às 00:30"),
            ("sv", "5 mars 2026", "5 mars 2026 kl. 00:30"),
        ] {
            let formats = formats(language);
            assert_eq!(formats.date(at, zone).as_deref(), Some(date));
            assert_eq!(formats.datetime(at, zone).map(|text| text.replace('\u{202f}', "_")).as_deref(), Some(datetime));
        }
        assert_eq!(formats("en").date(at, chrono_tz::UTC).as_deref(), Some("March 4, 2026"));
        assert_eq!(formats("en").date(i64::MAX, zone), None);
    }

    #[test]
    fn plurals_follow_the_language() {
        let category = |language: &str, number: &str| formats(language).plural(number);
        assert_eq!(category("en", "1"), Some("one"));
        assert_eq!(category("en", "1.00"), Some("one"));
        assert_eq!(category("en", "0"), Some("other"));
        assert_eq!(category("fr", "0"), Some("one"));
        assert_eq!(category("fr", "1.5"), Some("one"));
        assert_eq!(category("de", "1.5"), Some("other"));
        assert_eq!(category("pl", "3"), Some("few"));
        assert_eq!(category("en", "many"), None);
        assert_eq!(formats("de").number("1234.50").as_deref(), Some("1.234,5"));
    }

    #[test]
    fn tags_of_every_writing_are_read() {
        assert_eq!(tag("de_at").map(|tag| tag.to_string()).as_deref(), Some("de-AT"));
        assert_eq!(tag(" sv ").map(|tag| tag.to_string()).as_deref(), Some("sv"));
        assert_eq!(tag("de-u-nu-arab").map(|tag| tag.to_string()).as_deref(), Some("de"));
        for nonsense in ["", "und", "*", "german please"] {
            assert_eq!(tag(nonsense), None, "{nonsense}");
        }
    }
}
