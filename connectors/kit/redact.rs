//! Keeps secrets and personal data out of messages, logs and recordings.

use std::fmt;

use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

const MASK: &str = "[redacted]";
/// Where a vendor's own words begin and end in a message. They may name a person, so a log leaves them out.
const WORDS: [char; 2] = ['“', '”'];
/// Digits from which on an international number counts as somebody's phone.
const PHONE_DIGITS: usize = 7;

/// Replaces every form in which the secrets of a connection could appear.
#[derive(Clone, Default)]
pub struct Redactor {
    // Longest first: a secret that contains another must not leave its tail behind.
    needles: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Redactor({} forms)", self.needles.len())
    }
}

impl Redactor {
    /// A redactor for `secrets`, alone and as `user:password`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Redactor {
        let plain: Vec<&str> = secrets.into_iter().map(|secret| secret.expose_secret()).collect();
        let pairs = plain.iter().flat_map(|user| plain.iter().map(move |password| format!("{user}:{password}")));
        let base = base64::engine::general_purpose::STANDARD;
        let mut needles: Vec<String> = pairs.map(|pair| base.encode(pair)).collect();
        for secret in plain.iter().filter(|secret| !secret.is_empty()) {
            needles.push((*secret).to_owned());
            needles.push(utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string());
            needles.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
            needles.push(base.encode(secret));
            let json = serde_json::Value::from(*secret).to_string();
            needles.push(json[1..json.len() - 1].to_owned());
        }
        needles.retain(|needle| !needle.is_empty());
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Redactor { needles }
    }

    /// `text` without secrets, and without NUL, which no store takes.
    pub fn clean(&self, text: &str) -> String {
        let mut clean = text.replace('\0', "");
        for needle in &self.needles {
            if clean.contains(needle.as_str()) {
                clean = clean.replace(needle.as_str(), MASK);
            }
        }
        clean
    }

    /// What the vendor wrote, fit for a message: no secrets, no e-mail addresses, one line, at most `max` characters.
    pub fn excerpt(&self, text: &str, max: usize) -> String {
        let line = mask_emails(&self.clean(text)).split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(max) {
            Some((cut, _)) => format!("{}…", &line[..cut]),
            None => line,
        }
    }

    /// What the vendor wrote as an [`excerpt`](Redactor::excerpt) in quotation marks, which [`for_log`] leaves out; empty
    /// when it wrote nothing.
    pub fn quote(&self, text: &str, max: usize) -> String {
        let words = self.excerpt(&text.replace(WORDS, "\""), max);
        if words.is_empty() { words } else { format!("{}{words}{}", WORDS[0], WORDS[1]) }
    }
}

/// `text` as a log may say it: without the vendors' own words, e-mail addresses and phone numbers. Those words stand in
/// full where an operator asks for them: in reports, in the outbox and in the list of runs.
pub fn for_log(text: &str) -> String {
    mask_phones(&mask_emails(&mask_words(text)))
}

/// Hides what vendors wrote. Words that were cut off end with their line.
fn mask_words(text: &str) -> String {
    let mut parts = text.split(WORDS[0]);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.extend([WORDS[0], '…']);
        out.push_str(part.find([WORDS[1], '\n']).map_or("", |end| &part[end..]));
    }
    out
}

/// Hides phone numbers that begin with a country's code. Others cannot be told from ids.
fn mask_phones(text: &str) -> String {
    let mut parts = text.split('+');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push('+');
        let in_number = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-' | '(' | ')' | '.' | '/');
        let number = &part[..part.find(|c| !in_number(c)).unwrap_or(part.len())];
        let end = number.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
        let is_phone = number.chars().filter(char::is_ascii_digit).count() >= PHONE_DIGITS;
        out.push_str(if is_phone { "…" } else { &part[..end] });
        out.push_str(&part[end..]);
    }
    out
}

/// Hides the part of every e-mail address that names the person.
fn mask_emails(text: &str) -> String {
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
    let mut out = String::with_capacity(text.len());
    for (at, part) in text.split('@').enumerate() {
        if at > 0 {
            let kept = out.trim_end_matches(in_name).len();
            if kept < out.len() {
                out.truncate(kept);
                out.push('…');
            }
            out.push('@');
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_goes() {
        let secrets = [SecretString::from("ck_1"), SecretString::from("c/s \"2\"")];
        let redactor = Redactor::new(&secrets);
        let encoded = base64::engine::general_purpose::STANDARD.encode("ck_1:c/s \"2\"");
        let text = format!("a ck_1 b c/s \"2\" {encoded} c%2Fs%20%222%22 c%2Fs+%222%22 {{\"x\":\"c/s \\\"2\\\"\"}}");
        let clean = redactor.clean(&text);
        assert_eq!(clean, format!("a {MASK} b {MASK} {MASK} {MASK} {MASK} {{\"x\":\"{MASK}\"}}"));
        assert!(!format!("{redactor:?}").contains("ck_1"));
    }

    #[test]
    fn people_are_not_named() {
        let redactor = Redactor::default();
        assert_eq!(redactor.excerpt("rosa.lind@shop.example is\n taken @ noon", 80), "…@shop.example is taken @ noon");
        assert_eq!(redactor.excerpt("ååååå", 3), "ååå…");
    }

    #[test]
    fn a_log_leaves_out_what_vendors_wrote() {
        let redactor = Redactor::default();
        let words = redactor.quote("“Rosa Lind” is taken.", 80);
        assert_eq!(words, "“\"Rosa Lind\" is taken.”");
        let line = format!("shop: PUT /customers/7 answered 422: {words}. Twice: {words}\nnext");
        assert_eq!(for_log(&line), "shop: PUT /customers/7 answered 422: “…”. Twice: “…”\nnext");
        assert_eq!(for_log("cut off: “Rosa Li\nnext"), "cut off: “…\nnext");
        assert_eq!(redactor.quote(" ", 80), "");
    }

    #[test]
    fn a_log_keeps_ids_and_times() {
        let plain = "2026-11-21T16:02:30+00:00 record 4917012345678 of house:77:1, 3+4 calls, a + b";
        assert_eq!(for_log(plain), plain);
        assert_eq!(for_log("to +49 (170) 123-45 67, and rosa@shop.example"), "to +…, and …@shop.example");
    }
}
