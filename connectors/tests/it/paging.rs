//! Every scheme of paging, on small manifests.

use std::sync::Arc;

use bytes::Bytes;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{Connection, ConnectionSpec, ErrorKind, Lane, PullMode, PullRequest, manifest_source};
use serde_json::{Value, json};

use crate::spec;

/// The example CRM with another way of paging.
fn paged(test: &str, page: &str, transport: Arc<Script>) -> Connection {
    let folder = std::env::temp_dir().join(format!("counterpart-paging-{}-{test}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = manifest_source("crm").unwrap().replace("name = \"crm\"", "name = \"paged\"");
    let source = source.replace("page = { kind = \"cursor\", send = \"cursor\", read = \"/next\" }", page);
    std::fs::write(folder.join("paged.toml"), source).unwrap();
    let spec = ConnectionSpec { connector: "paged".into(), manifest_dirs: vec![folder.clone()], ..spec("crm") };
    let connection = crate::open(spec, transport);
    std::fs::remove_dir_all(folder).unwrap();
    connection
}

fn people(ids: std::ops::Range<u64>) -> Value {
    ids.map(|id| json!({ "id": id })).collect()
}

fn answer(body: Value, headers: &[(&str, String)]) -> http::Response<Bytes> {
    let mut answer = http::Response::builder().status(200);
    for (name, value) in headers {
        answer = answer.header(*name, value);
    }
    answer.body(body.to_string().into()).unwrap()
}

fn param(request: &http::Request<Bytes>, name: &str) -> Option<u64> {
    let query = request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
}

/// The ids of a whole walk, or the kind of its error.
async fn walk(connection: &Connection) -> Result<Vec<u64>, ErrorKind> {
    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..100 {
        let request = PullRequest { stream: "contact", mode: PullMode::Full, cursor: cursor.as_deref(), parent: None };
        let page = connection.pull(Lane::Audit, request).await.map_err(|error| error.kind)?;
        ids.extend(page.records.iter().map(|record| record.id.parse::<u64>().unwrap()));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(ids);
        }
    }
    panic!("the walk does not end");
}

#[tokio::test]
async fn page_numbers_end_on_an_empty_page_or_where_the_vendor_says() {
    for (read, calls) in [("", 4), (", read = \"/pages\"", 3), (", read = \"X-Pages\"", 3)] {
        let script = Arc::new(Script::new(|request| {
            let page = param(request, "p").unwrap();
            let rows = people((page - 1) * 3..(page * 3).min(7).max((page - 1) * 3));
            Ok(answer(json!({ "people": rows, "pages": 3 }), &[("x-pages", "3".into())]))
        }));
        let page = format!("page = {{ kind = \"page\", send = \"p\"{read} }}");
        let connection = paged(&format!("number{}", read.len()), &page, script.clone());
        assert_eq!(walk(&connection).await.unwrap(), (0..7).collect::<Vec<_>>());
        assert_eq!(script.asked().len(), calls, "{read}");
    }
}

#[tokio::test]
async fn an_empty_page_in_the_middle_is_not_the_end_when_more_are_announced() {
    let script = Arc::new(Script::new(|request| {
        let rows = match param(request, "p") {
            Some(1) => people(0..2),
            Some(3) => people(2..4),
            _ => people(0..0),
        };
        Ok(answer(json!({ "people": rows, "pages": 3 }), &[]))
    }));
    let connection = paged("hole", "page = { kind = \"page\", send = \"p\", read = \"/pages\" }", script);
    assert_eq!(walk(&connection).await.unwrap(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn announced_pages_that_never_come_end_the_walk_with_an_error() {
    let body = json!({ "people": [], "pages": 1_000_000 }).to_string();
    let page = "page = { kind = \"page\", send = \"p\", read = \"/pages\" }";
    let connection = paged("promise", page, Arc::new(Script::always(200, &[], body)));
    assert_eq!(walk(&connection).await, Err(ErrorKind::Contract));
}

#[tokio::test]
async fn a_short_page_is_not_the_end() {
    let script = Arc::new(Script::new(|request| {
        let rows = match param(request, "skip") {
            None => people(0..1),
            Some(1) => people(1..4),
            Some(4) => people(4..5),
            _ => people(0..0),
        };
        Ok(answer(json!({ "people": rows }), &[]))
    }));
    let connection = paged("offset", "page = { kind = \"offset\", send = \"skip\" }", script);
    assert_eq!(walk(&connection).await.unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn cursors_may_come_with_an_empty_page() {
    let script = Arc::new(Script::new(|request| {
        let body = match param(request, "c") {
            None => json!({ "people": people(0..2), "next": 5 }),
            Some(5) => json!({ "people": [], "next": 6 }),
            _ => json!({ "people": people(2..3), "next": "" }),
        };
        Ok(answer(body, &[]))
    }));
    let connection = paged("cursor", "page = { kind = \"cursor\", send = \"c\", read = \"/next\" }", script);
    assert_eq!(walk(&connection).await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn keysets_go_on_after_the_last_record() {
    let script = Arc::new(Script::new(|request| {
        let after = param(request, "after").map_or(0, |after| after + 1);
        Ok(answer(json!({ "people": people(after..(after + 2).min(5).max(after)) }), &[]))
    }));
    let connection = paged("keyset", "page = { kind = \"keyset\", send = \"after\", read = \"/id\" }", script);
    assert_eq!(walk(&connection).await.unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn next_addresses_are_followed_at_home_only() {
    for (test, page, link) in [
        ("url", "page = { kind = \"next_url\", read = \"/next\" }", false),
        ("link", "page = { kind = \"link\" }", true),
    ] {
        for (next, good) in [
            ("https://crm.example/api/people?c=2&limit=100", true),
            ("/api/people?c=2&limit=100", true),
            ("?c=2&limit=100", true),
            ("https://crm.example.evil.example/api/people?c=2", false),
            ("http://crm.example/api/people?c=2", false),
            ("https://crm.example:444/api/people?c=2", false),
            ("//evil.example/api/people?c=2", false),
        ] {
            let script = Arc::new(Script::new(move |request| {
                if param(request, "c").is_some() {
                    return Ok(answer(json!({ "people": people(1..2) }), &[]));
                }
                let header = ("link", format!("<{next}>; rel=\"next\""));
                let body = json!({ "people": people(0..1), "next": next });
                Ok(if link { answer(body, &[header]) } else { answer(body, &[]) })
            }));
            let connection = paged(test, page, script.clone());
            match walk(&connection).await {
                Ok(ids) => assert!(good && ids == [0, 1], "{next}: {ids:?}"),
                Err(kind) => assert!(!good && kind == ErrorKind::Contract, "{next}: {kind:?}"),
            }
            let asked = script.asked();
            assert_eq!(asked.len(), if good { 2 } else { 1 });
            assert!(asked.iter().all(|asked| asked.starts_with("GET /api/people?")), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn a_cursor_that_comes_back_ends_the_walk_with_an_error() {
    let script = Arc::new(Script::new(|request| {
        let next = match param(request, "c") {
            Some(1) => 2,
            Some(2) => 3,
            _ => 1,
        };
        Ok(answer(json!({ "people": people(next..next + 1), "next": next.to_string() }), &[]))
    }));
    let connection = paged("circle", "page = { kind = \"cursor\", send = \"c\", read = \"/next\" }", script);
    assert_eq!(walk(&connection).await, Err(ErrorKind::Contract));
}

#[tokio::test]
async fn a_foreign_shape_is_explained() {
    for body in [json!({ "people": {} }), json!([]), json!({ "people": [{ "name": "no id" }] })] {
        let script = Arc::new(Script::always(200, &[], body.to_string()));
        let connection = crate::open(spec("crm"), script);
        assert_eq!(walk(&connection).await, Err(ErrorKind::Contract), "{body}");
    }
}

#[tokio::test]
async fn a_look_up_reads_on_when_the_first_page_holds_only_similar_ones() {
    let script = Arc::new(Script::new(|request| {
        let body = match param(request, "cursor") {
            None => json!({ "people": [{ "id": 1, "email": "joann@shop.example" }], "next": "2" }),
            _ => json!({ "people": [{ "id": 2, "email": "Ann@shop.example" }], "next": null }),
        };
        Ok(answer(body, &[]))
    }));
    let crm = crate::open(spec("crm"), script);
    let key = counterpart_connectors::MatchKey::Email("ann@shop.example".into());
    let found = crm.find(Lane::Audit, "contact", &key).await.unwrap();
    assert_eq!(found.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn a_look_up_that_is_cut_does_not_say_that_nobody_is_there() {
    let script = Arc::new(Script::new(|request| {
        let next = param(request, "cursor").map_or(2, |at| at + 1);
        let people = json!([{ "id": next, "email": "joann@shop.example" }]);
        Ok(answer(json!({ "people": people, "next": next.to_string() }), &[]))
    }));
    let crm = crate::open(spec("crm"), script);
    let key = counterpart_connectors::MatchKey::Email("ann@shop.example".into());
    let error = crm.find(Lane::Audit, "contact", &key).await.unwrap_err();
    assert_eq!(error.kind, counterpart_connectors::ErrorKind::Unsupported);
    assert!(error.message.contains("may be there"), "{error}");
}
