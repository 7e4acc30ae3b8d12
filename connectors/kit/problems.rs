//! Reading a manifest and saying everything that is wrong with it, each with its place.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::clock::Millis;
use super::manifest::Manifest;
use super::validate;

/// More problems than this are one problem: the file is something else.
const MOST: usize = 40;

/// One thing wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestProblem {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(out, " ({})", self.help) }
    }
}

/// A text with the name it has in messages.
#[derive(Clone, Copy)]
struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl Source<'_> {
    fn problem(self, span: Option<Range<usize>>, message: String, help: String) -> ManifestProblem {
        let at = span.map_or(0, |span| span.start).min(self.text.len());
        let before = &self.text.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        ManifestProblem { file: self.file.to_owned(), line, column, message, help }
    }
}

pub(crate) fn parse(text: &str, file: &str) -> Result<Manifest, Vec<ManifestProblem>> {
    let source = Source { text, file };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let told = |error: &toml::de::Error| source.problem(error.span(), error.message().to_owned(), String::new());
        return Err(sorted(errors.iter().map(told).collect()));
    }
    let manifest = typed(source, &table)?;
    let found = validate::problems(&manifest);
    if found.is_empty() {
        return Ok(manifest);
    }
    let place = |path: &[String]| locate(table.get_ref(), path);
    Err(sorted(found.into_iter().map(|found| source.problem(place(&found.path), found.message, found.help)).collect()))
}

/// The typed manifest. The deserialiser stops at its first error, so the entry that caused it is taken out and the rest
/// is tried again, until everything wrong was seen.
fn typed(source: Source<'_>, table: &Spanned<DeTable<'_>>) -> Result<Manifest, Vec<ManifestProblem>> {
    let mut rest = table.clone();
    let mut problems = Vec::new();
    let mut removed = BTreeSet::new();
    loop {
        let error = match Manifest::deserialize(toml::de::Deserializer::from(rest.clone())) {
            Ok(manifest) if problems.is_empty() => return Ok(manifest),
            Ok(_) => return Err(sorted(problems)),
            Err(error) => error,
        };
        let message = error.message().to_owned();
        // An entry we took out ourselves is not missing.
        let own_doing = missing_field(&message).is_some_and(|name| removed.contains(name));
        if !own_doing {
            problems.push(source.problem(error.span(), message, String::new()));
        }
        let span = error.span().unwrap_or_default();
        match take_out(rest.get_mut(), &span) {
            Some(name) if problems.len() < MOST => drop(removed.insert(name)),
            _ => return Err(sorted(problems)),
        }
    }
}

fn sorted(mut problems: Vec<ManifestProblem>) -> Vec<ManifestProblem> {
    problems.sort();
    problems.dedup();
    problems
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// Removes the innermost entry at `span` and returns its name.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (_, value) in table.iter_mut() {
        if let Some(name) = take_out_of_value(value, span) {
            return Some(name);
        }
    }
    let hit = table.iter().find(|(key, value)| covers(&key.span(), span) || covers(&value.span(), span));
    let name = hit.map(|(key, _)| key.get_ref().to_string())?;
    table.remove(name.as_str());
    Some(name)
}

fn take_out_of_value(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(inner) => take_out(inner, span),
        DeValue::Array(items) => {
            if let Some(name) = items.iter_mut().find_map(|item| take_out_of_value(item, span)) {
                return Some(name);
            }
            let at = items.iter().position(|item| covers(&item.span(), span))?;
            *items = items.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, item)| item.clone()).collect();
            Some(String::new())
        }
        _ => None,
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The span of the key at `path`, or of its closest parent that is there.
fn locate(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == first.as_str())?;
    Some(locate_in(value, rest).unwrap_or_else(|| key.span()))
}

fn locate_in(value: &Spanned<DeValue<'_>>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    match value.get_ref() {
        DeValue::Table(table) => locate(table, path),
        DeValue::Array(items) => {
            let item = items.get(first.parse::<usize>().ok()?)?;
            Some(locate_in(item, rest).unwrap_or_else(|| item.span()))
        }
        _ => None,
    }
}

/// Milliseconds of `60s`, `1m`, `2h` or `1d`.
pub(crate) fn duration_ms(text: &str) -> Option<Millis> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let scale: Millis = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<Millis>().ok().filter(|number| *number > 0)?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../crm/connector.toml");

    fn lines(text: &str) -> Vec<String> {
        let problems = parse(text, "c.toml").expect_err("there is something wrong");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_place() {
        let text = GOOD
            .replace("kind = \"bearer\"", "kind = \"baerer\"")
            .replace("page_size]\ntype = \"integer\"", "page_size]\ntype = \"integer\"\nmaximum = 3")
            .replace("holder = \"/holder\"", "holder = 3")
            .replace("records = \"/people\"", "recrods = \"/people\"");
        let problems = parse(&text, "c.toml").unwrap_err();
        let at: Vec<(&str, &str)> = problems
            .iter()
            .map(|problem| (text.lines().nth(problem.line - 1).unwrap_or_default(), problem.message.as_str()))
            .collect();
        assert_eq!(at.len(), 4, "{at:#?}");
        assert!(at[0].0.contains("baerer") && at[0].1.contains("unknown variant `baerer`"), "{at:#?}");
        assert!(at[1].0.contains("maximum") && at[1].1.contains("unknown field `maximum`"));
        assert!(at[2].0.contains("holder = 3"));
        assert!(at[3].0.contains("recrods") && at[3].1.contains("unknown field `recrods`"));
        assert_eq!(problems[3].column, 1);
    }

    #[test]
    fn a_missing_key_is_named() {
        let text = GOOD.replace("id = \"/id\"\n", "").replace("per = \"60s\"", "");
        let lines = lines(&text);
        assert!(lines.iter().any(|line| line.contains("missing field `id`")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("missing field `per`")), "{lines:#?}");
    }

    #[test]
    fn broken_syntax_has_a_place() {
        let lines = lines("format = 1\nname = \n[settings\n");
        assert!(lines[0].starts_with("c.toml:2:"), "{lines:#?}");
    }

    #[test]
    fn rules_beyond_types() {
        for (good, bad, says) in [
            ("format = 1", "format = 2", "format 2 is not known"),
            ("name = \"crm\"", "name = \"C R M\"", "small letters"),
            ("secrets = [\"token\"]", "secrets = [\"tocen\"]", "`tocen` is not a secret setting"),
            ("per = \"60s\"", "per = \"60\"", "no length of time"),
            ("requests = \"{requests_per_minute}\"", "requests = \"{rpm}\"", "`{rpm}` is not a number"),
            ("get = \"GET /people/{id}\"", "get = \"GET /people\"", "which record"),
            ("get = \"GET /people/{id}\"", "get = \"GET /people/{id}/{token}\"", "is a secret"),
            ("call = \"POST /people\"", "call = \"POST /people/{id}\"", "`{id}` is not known here"),
            ("call = \"POST /people\"", "call = \"FETCH /people\"", "is no call"),
            ("updated_since = \"{since}\"", "updated_since = \"x\"", "no parameter holds"),
            ("email = { params", "fax = { params", "no kind of key"),
            ("records = \"/people\"", "records = \"people.list\"", "is no pointer"),
            ("send = \"cursor\", ", "", "needs `send`"),
            ("status = 409", "status = 200", "from 300 to 599"),
            ("[settings.page_size]", "[settings.per_page]", "`page_size` of type integer is missing"),
            ("[settings.requests_per_minute]", "[settings.mapping]", "a meaning of its own"),
            ("default = 600", "default = 600\nmax = 15", "the vendor documents 15"),
            ("limit = \"X-RateLimit-Limit\"", "limit = \"X RateLimit\"", "not a header name"),
        ] {
            assert!(GOOD.contains(good), "the example no longer has {good}");
            let lines = lines(&GOOD.replacen(good, bad, 1));
            assert!(lines.iter().any(|line| line.contains(says)), "{bad}: {lines:#?}");
            assert!(lines.iter().all(|line| !line.starts_with("c.toml:1:1:") || bad.contains("format")), "{lines:#?}");
        }
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration_ms("60s"), Some(60_000));
        assert_eq!(duration_ms("1d"), Some(86_400_000));
        for bad in ["", "s", "0s", "-1s", "1w", "9999999999999999d", "é"] {
            assert_eq!(duration_ms(bad), None, "{bad}");
        }
    }
}
