//! Mistakes in a mapping file: all of them at once, each with its place and a way out.

use counterpart_core::{Diagnostic, Mapping};

fn mistakes(source: &str) -> Vec<Diagnostic> {
    Mapping::parse(source, "m.toml").expect_err("there is something wrong")
}

/// What is said of a file with these fields, as `line:column message`.
fn said(fields: &str) -> Vec<String> {
    let found = mistakes(&format!("format = 1\nkind = \"contact\"\nconnector = \"x\"\n[fields]\n{fields}"));
    assert!(found.iter().all(|mistake| !mistake.help.is_empty() && mistake.file == "m.toml"), "{found:#?}");
    found.iter().map(|mistake| format!("{}:{} {}", mistake.line - 4, mistake.column, mistake.message)).collect()
}

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let source = "\
format = 2
kind = \"person\"
conector = \"x\"
[fields]
name = { remote = 3, max_length = \"long\" }
email = { remote = \"/email\", transfrom = \"email\" }
emial = { remote = \"/email2\" }
phone = { remote = \"phone\", direction = \"inn\" }
company = { remote = \"/company\", transform = \"shout\" }
\"custom.plan\" = { remote = \"/plan\", transform = \"table\", table = { a = 1, b = \"x\", c = 2 } }
birthday = \"/birthday\"
tags = { item = \"/name\" }
";
    let found = mistakes(source);
    let all: Vec<String> =
        found.iter().map(|m| format!("{}:{}:{}: {} -> {}", m.file, m.line, m.column, m.message, m.help)).collect();
    let expected = [
        ("m.toml:1:1:", "`connector` is missing", "write `connector"),
        ("m.toml:1:10:", "format 1", "write `format = 1`"),
        ("m.toml:2:8:", "the only kind is `contact`", "write `kind"),
        ("m.toml:3:1:", "no key `conector`", "did you mean `connector`?"),
        ("m.toml:5:19:", "expected a string", "write a path in quotes"),
        ("m.toml:5:35:", "invalid type: string \"long\"", "how many characters"),
        ("m.toml:6:30:", "no key `transfrom`", "did you mean `transform`?"),
        ("m.toml:7:1:", "`emial` is no canonical field", "did you mean `email`?"),
        ("m.toml:8:20:", "`phone` is no path", "start with `/`"),
        ("m.toml:8:41:", "unknown variant `inn`", "\"in\", \"out\" or \"both\""),
        ("m.toml:9:46:", "unknown variant `shout`, expected one of `text`", "leave it out"),
        ("m.toml:10:72:", "expected a string", "write `table"),
        ("m.toml:10:88:", "expected a string", "write `table"),
        ("m.toml:11:12:", "`birthday` is not a table", "write `birthday = { remote"),
        ("m.toml:12:1:", "`tags` does not say where it stands", "write `remote"),
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (said, (place, message, help)) in all.iter().zip(expected) {
        assert!(
            said.starts_with(place) && said.contains(message) && said.contains(help),
            "{said}\n{place} {message} {help}"
        );
    }
}

#[test]
fn broken_syntax_has_a_place_and_a_way_out() {
    let found = mistakes("format = 1\nkind = \n[fields\nname = { remote = \"/name\" }\n");
    assert!(found.len() > 1, "{found:#?}");
    assert!(found.iter().all(|mistake| !mistake.help.is_empty()));
    assert_eq!((found[0].line, found[0].file.as_str()), (2, "m.toml"));
}

#[test]
fn a_file_of_something_else_is_told_what_is_missing() {
    let messages: Vec<String> = mistakes("").into_iter().map(|mistake| mistake.message).collect();
    assert_eq!(messages, ["`connector` is missing", "`fields` is missing", "`format` is missing", "`kind` is missing"]);
    assert!(mistakes("fields = 3").iter().any(|mistake| mistake.message == "`fields` is not a table"));
}

#[test]
fn one_mistake_is_not_said_twice() {
    assert_eq!(said("email = { remoet = \"/email\" }"), ["1:11 there is no key `remoet`"]);
    assert_eq!(said("tags = { remote = 1, item = \"/name\" }").len(), 1);
    assert_eq!(said("language = { remote = \"/l\", transform = \"table\", table = 3 }").len(), 1);
}

#[test]
fn keys_that_do_nothing_are_mistakes() {
    let table = said("language = { remote = \"/l\", table = { sv = \"Swedish\" } }");
    assert_eq!(table, ["1:37 `table` does nothing here"]);
    assert_eq!(said("email = { remote = \"/e\", item = \"/x\", yes = \"Y\" }").len(), 2);
    assert_eq!(said("company = { remote = \"/c\", max_length = 0 }"), ["1:41 nothing at all can be held"]);
    assert_eq!(said("\"consent.marketing\" = { remote = \"/c\", yes = \"Y\" }"), ["1:46 `no` is missing"]);
    assert_eq!(said("\"consent.marketing\" = { remote = \"/c\", yes = \"Y\", no = \"y\" }").len(), 1);
}

#[test]
fn two_fields_at_one_place_are_a_mistake() {
    let found = said("email = { remote = \"/x\" }\ncompany = { remote = \"/x\" }");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("is written by `"), "{found:?}");
}

/// What cannot be read without a guess is refused; only writing several words as one is fine.
#[test]
fn a_table_must_be_readable_where_it_is_read() {
    let table = |direction: &str| {
        format!(
            "language = {{ remote = \"/l\", transform = \"table\", table = {{ sv = \"N\", da = \"N\" }}{direction} }}"
        )
    };
    let whole = |fields: &str| format!("format = 1\nkind = \"contact\"\nconnector = \"x\"\n[fields]\n{fields}");
    assert_eq!(said(&table("")).len(), 1);
    assert_eq!(said(&table(", direction = \"in\"")).len(), 1);
    Mapping::parse(&whole(&table(", direction = \"out\"")), "m.toml").expect("writing it is clear");
    let empty = "language = { remote = \"/l\", transform = \"table\", table = { none = \"\" } }";
    assert_eq!(said(empty), ["1:58 an empty word cannot be told from no value"]);
}

/// Columns count characters, whatever their width: who puts a mark below the line repeats its tabs.
#[test]
fn tabs_and_wide_letters_are_one_column_each() {
    let source = "format = 1\nkind = \"contact\"\nconnector = \"x\"\n[fields]\n\t\"custom.\u{540d}\u{e9}\"\t= { remote = \"no path\" }\n";
    let found = mistakes(source);
    assert_eq!((found[0].line, found[0].column), (5, 27));
    let line = source.lines().nth(4).expect("five lines");
    assert_eq!(line.chars().nth(26), Some('"'));
    assert_eq!(line.chars().skip(26).collect::<String>(), "\"no path\" }");
}
