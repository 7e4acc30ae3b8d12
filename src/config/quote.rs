//! The configuration as mistakes quote it: errors go to journals and to logs of builds, where no secret belongs.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// What stands in place of a secret.
const BLANK: &str = "…";

/// The text without what stands at `hidden` and without the credentials in addresses; every line keeps its number.
pub(super) fn quotable(text: &str, hidden: &[Range<usize>]) -> String {
    let mut hidden: Vec<&Range<usize>> = hidden.iter().collect();
    hidden.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for range in hidden {
        let Some(secret) = text.get(range.start.max(at)..range.end) else { continue };
        shown.push_str(text.get(at..range.start.max(at)).unwrap_or_default());
        shown.push_str(BLANK);
        shown.extend(secret.chars().filter(|letter| *letter == '\n'));
        at = range.end;
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    without_credentials(&shown)
}

/// The text with nothing before the `@` of an address.
pub(super) fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.extend([before, "://"]);
        let end = after.find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`'));
        let address = end.map_or(after, |end| &after[..end]);
        rest = after;
        if let Some(end) = address.rfind('@') {
            shown.push_str(BLANK);
            rest = &after[end..];
        }
    }
    shown + rest
}

/// Where the value at a key path stands, when it may be a secret: a table or a yes or no is none.
pub(super) fn secret_at(tree: &DeTable<'_>, path: &[&str]) -> Option<Range<usize>> {
    let (last, parents) = path.split_last()?;
    let mut table = tree;
    let mut list: Option<&toml::de::DeArray<'_>> = None;
    for part in parents {
        let inside = match (list.take(), part.parse::<usize>()) {
            (Some(list), Ok(index)) => list.get(index)?,
            _ => table.iter().find(|(key, _)| key.get_ref() == part)?.1,
        };
        match inside.get_ref() {
            DeValue::Table(inside) => table = inside,
            DeValue::Array(inside) => list = Some(inside),
            _ => return None,
        }
    }
    let (_, value) = table.iter().find(|(key, _)| key.get_ref() == last)?;
    let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_) | DeValue::Boolean(_));
    let is_plain = match value.get_ref() {
        DeValue::Array(items) => !items.iter().any(|item| is_table(item.get_ref())),
        other => !is_table(other),
    };
    is_plain.then(|| value.span())
}

/// The value in the line at an offset of a text that is no TOML yet, whatever it is.
pub(super) fn value_in_line(text: &str, offset: usize) -> Option<Range<usize>> {
    let before = text.get(..offset.min(text.len()))?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].split('\n').next()?;
    let value = line.find('=')? + 1;
    Some(start + value..start + line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_addresses_are_blanked_out() {
        for (text, shown) in [
            ("base_url = \"http://user:hunter3@host/x\" # at@home", "base_url = \"http://…@host/x\" # at@home"),
            ("a = 'postgres://ann:p@ss/w@host/db'", "a = 'postgres://…@host/db'"),
            ("`https://a.example` and `https://b@c`", "`https://a.example` and `https://…@c`"),
            ("no address @ all://", "no address @ all://"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn hidden_values_keep_their_lines() {
        let text = "[a]\ntoken = \"\"\"x\ny\"\"\"\nlist = [\"s\"]\nb = { c = 7, on = true }\n[[d]]\ne = \"f\"\n";
        let tree = DeTable::parse(text).expect("it is TOML");
        let at = |path: &[&str]| secret_at(tree.get_ref(), path);
        let hidden: Vec<Range<usize>> = [&["a", "token"][..], &["a", "list"], &["a", "b", "c"], &["d", "0", "e"]]
            .iter()
            .filter_map(|path| at(path))
            .collect();
        assert_eq!(quotable(text, &hidden), "[a]\ntoken = …\n\nlist = …\nb = { c = …, on = true }\n[[d]]\ne = …\n");
        for nothing in [&["a", "b"][..], &["a", "b", "on"], &["d"], &["a", "none"], &["x", "y"], &[]] {
            assert_eq!(at(nothing), None, "{nothing:?}");
        }
        let broken = "[a]\ntoken = \"x\nb = 1\n";
        assert_eq!(quotable(broken, &[value_in_line(broken, 14).expect("a value")]), "[a]\ntoken =…\nb = 1\n");
        assert_eq!(value_in_line("[store\n", 3), None);
    }
}
