//! Webhook subscriptions from facts alone: what is asked, what is read from the answers, and which facts are mistakes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{
    Connection, ConnectionSpec, ErrorKind, Lane, Manifest, OpenGate, Subscription, manifest_source,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{START, open, spec};

const BASE: &str = "https://sync.example/hooks/house";
const SECRET: &str = "s3cret/of the house";

/// Both examples of the documentation, on the example CRM.
fn documented() -> String {
    let text = include_str!("../../../docs/rest-connector.md");
    let blocks = text.split("```toml\n").skip(1).filter_map(|block| block.split("```").next());
    let hooks: Vec<&str> = blocks.filter(|block| block.contains("[hooks")).collect();
    assert_eq!(hooks.len(), 2);
    format!("{}\n{}", manifest_source("crm").unwrap(), hooks.concat())
}

/// Method, path and body of what was asked.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A system of the operator's own that answers every list with these rows; with another one each time without them.
fn house(manifest: &str, secret: Option<(&str, &str)>, rows: Value) -> (Connection, Asked) {
    let asked = Asked::default();
    let noted = asked.clone();
    let script = Script::new(move |request| {
        let body = serde_json::from_slice(request.body()).unwrap_or_default();
        let mut noted = noted.lock().unwrap();
        noted.push((request.method().to_string(), request.uri().path().to_owned(), body));
        let rows = match rows.is_null() {
            true => {
                json!([{ "id": noted.len(), "url": "https://elsewhere.example/", "event": "x", "status": "enabled" }])
            }
            false => rows.clone(),
        };
        Ok(http::Response::new(Bytes::from(json!({ "webhooks": rows, "next": "more" }).to_string())))
    });
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let at = COUNT.fetch_add(1, Ordering::SeqCst);
    let folder = std::env::temp_dir().join(format!("counterpart-subscriptions-{}-{at}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("crm.toml"), manifest).unwrap();
    let mut spec = ConnectionSpec { manifest_dirs: vec![folder.clone()], ..spec("crm") };
    spec.secrets.extend(secret.map(|(name, secret)| (name.to_owned(), SecretString::from(secret))));
    let clock = Arc::new(JumpClock::at(START));
    let connection = Connection::open(spec, Arc::new(script), Arc::new(OpenGate), clock);
    std::fs::remove_dir_all(folder).unwrap();
    (connection.expect("the spec is complete"), asked)
}

/// What the documentation shows lists, makes, changes and deletes webhooks.
#[tokio::test]
async fn the_example_in_the_documentation_subscribes() {
    let rows = json!([
        { "id": 7, "url": "https://SYNC.example:443/hooks/house/", "event": "person.created", "status": "enabled" },
        { "id": 8, "url": BASE, "event": "person.changed", "status": "failing" },
        { "id": 9, "url": format!("{BASE}/an-old-secret"), "event": "person.changed", "status": "enabled" },
        { "id": 10, "url": "https://sync.example/hooks/household", "event": "person.changed", "status": "enabled" },
        { "id": 11, "url": "no address", "event": "person.changed", "status": "enabled" },
    ]);
    let (house, asked) = house(&documented(), Some(("webhook_secret", SECRET)), rows);
    let found = house.subscriptions(Lane::Repair, BASE).await.unwrap();
    let ours = |id: &str, topic: &str, state: &str, at_address| Subscription {
        id: id.to_owned(),
        topics: vec![topic.to_owned()],
        state: Some(state.to_owned()),
        active: state == "enabled",
        at_address,
        verifiable: true,
        by_rule: false,
    };
    let expected = [
        ours("7", "person.created", "enabled", true),
        ours("8", "person.changed", "failing", true),
        ours("9", "person.changed", "enabled", false),
    ];
    assert_eq!(found, expected);
    let topic = ["person.deleted".to_owned()];
    house.subscribe(Lane::Repair, BASE, None, &topic).await.unwrap();
    house.subscribe(Lane::Repair, BASE, Some("8/1"), &topic).await.unwrap();
    house.unsubscribe(Lane::Repair, "9").await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].1, "/api/webhooks");
    let created = json!({ "url": BASE, "event": "person.deleted", "secret": SECRET });
    assert_eq!(asked[1], ("POST".to_owned(), "/api/webhooks".to_owned(), created));
    assert_eq!(asked[2], ("PATCH".to_owned(), "/api/webhooks/8%2F1".to_owned(), json!({ "status": "enabled" })));
    assert_eq!((asked[3].0.as_str(), asked[3].1.as_str()), ("DELETE", "/api/webhooks/9"));
}

/// A secret at the end of the address is written as an address needs it, compared, and not shown.
#[tokio::test]
async fn an_address_may_end_in_the_secret() {
    let signed = "kind = \"hmac_sha256\"";
    let start = documented().find("[[hooks.verify]]").unwrap();
    let end = start + documented()[start..].find("[hooks.topics]").unwrap();
    assert!(documented()[start..end].contains(signed));
    let mut manifest = documented();
    manifest.replace_range(start..end, "[[hooks.verify]]\nkind = \"secret_in_path\"\nsecrets = [\"webhook_secret\"]\n");
    let address = format!("{BASE}/s3cret%2Fof%20the%20house");
    let rows = json!([{ "id": 7, "url": address, "event": "person.created", "status": "enabled" },
        { "id": 8, "url": BASE, "event": "person.created", "status": "enabled" }]);
    let (house, asked) = house(&manifest, Some(("webhook_secret", SECRET)), rows);
    let found = house.subscriptions(Lane::Repair, BASE).await.unwrap();
    assert_eq!(found.iter().map(|one| one.at_address).collect::<Vec<_>>(), [true, false]);
    house.subscribe(Lane::Repair, BASE, None, &["person.created".to_owned()]).await.unwrap();
    assert_eq!(asked.lock().unwrap()[1].2["url"], address);
    assert_eq!(house.shown_hook_address(BASE), format!("{BASE}/…"));
}

/// A list that cannot be read, or has no end, is no list without our webhooks: they would be made again.
#[tokio::test]
async fn a_list_that_cannot_be_trusted_is_an_error() {
    for row in [json!({ "id": 7, "event": "person.created" }), json!({ "id": 7, "url": BASE }), json!({ "url": BASE })]
    {
        let (house, _) = house(&documented(), None, json!([row]));
        let error = house.subscriptions(Lane::Repair, BASE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Contract, "{error}");
    }
    let (broken, _) = house(&documented(), None, json!("none"));
    assert_eq!(broken.subscriptions(Lane::Repair, BASE).await.unwrap_err().kind, ErrorKind::Contract);
    let endless = documented().replace("page = { kind = \"link\" }", "page = { kind = \"page\", send = \"page\" }");
    let (endless, asked) = house(&endless, None, Value::Null);
    let error = endless.subscriptions(Lane::Repair, BASE).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unsupported && error.message.contains("delete what is no longer used"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 20);
}

/// Where there is no secret to sign with yet, that is said before anything is made.
#[test]
fn a_secret_is_asked_for_first() {
    let (without, _) = house(&documented(), None, json!([]));
    assert_eq!(without.secret_before_subscribing(), ["webhook_secret"]);
    let (with, _) = house(&documented(), Some(("webhook_secret", SECRET)), json!([]));
    assert!(with.secret_before_subscribing().is_empty());
    let (made_there, _) = house(
        &documented().replace("state = \"/status\"", "secret = \"/secret\"\nstate = \"/status\""),
        None,
        json!([]),
    );
    assert!(made_there.secret_before_subscribing().is_empty());
    assert!(made_there.hook_secret_help().contains("`webhook_secret`"));
}

#[test]
fn subscription_facts_are_checked() {
    let good = documented();
    assert!(Manifest::parse(&good, "c.toml").is_ok());
    for (good, bad, says) in [
        ("per = \"topic\"", "per = \"stream\"", "unknown variant `stream`"),
        ("id = \"/id\"\naddress", "id = \"id\"\naddress", "`id` is no pointer"),
        ("address = \"/url\"", "adress = \"/url\"", "unknown field `adress`"),
        ("active = \"enabled\"\n", "", "`state` and `active` belong together"),
        ("url = \"{url}\", ", "", "the body does not hold {url}"),
        ("event = \"{topic}\"", "event = \"{topics}\"", "`{topics}` is not known here"),
        ("event = \"{topic}\", ", "", "the body does not hold {topic}"),
        ("per = \"topic\"", "per = \"all\"", "the body does not hold {topics}"),
        ("secret = \"{secret}\"", "secret = \"{webhook_secret}\"", "is a secret"),
        ("\"PATCH /webhooks/{id}\"", "\"PATCH /webhooks\"", "the path does not say which record"),
        ("\"DELETE /webhooks/{id}\"", "\"DELETE\"", "is no call"),
        ("records = \"/webhooks\"", "records = \"webhooks\"", "`webhooks` is no pointer"),
        ("[hooks]\n", "[hooks]\nby_hand = \"ask them\"\n", "there are [hooks.subscriptions]"),
    ] {
        let text = documented();
        assert!(text.contains(good), "the example no longer has {good}");
        let problems = Manifest::parse(&text.replace(good, bad), "c.toml").expect_err(says);
        assert!(problems.iter().any(|problem| problem.message.contains(says)), "{says}: {problems:#?}");
        let hooks = text.lines().position(|line| line == "[hooks]").unwrap();
        assert!(problems.iter().all(|problem| problem.line > hooks), "{says}: {problems:#?}");
    }
}

/// Every shipped connector with webhooks is subscribed to by its API, or says how it is done by hand.
#[test]
fn every_shipped_connector_with_webhooks_says_how() {
    for name in counterpart_connectors::registry() {
        let manifest = Manifest::parse(manifest_source(name).unwrap(), name).unwrap();
        let Some(hooks) = manifest.hooks else { continue };
        assert!(hooks.subscriptions.is_some() != hooks.by_hand.is_some(), "{name}");
    }
}

/// Webhooks of an account over two pages, ours among them; `secret` answers for ours.
fn zendesk(secret: (u16, Value), configured: Option<&str>) -> (Connection, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let script = Script::new(move |request: &http::Request<Bytes>| {
        let address = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let row = |id: &str, endpoint: &str, topic: &str| json!({ "id": id, "status": "active", "subscriptions": [topic], "endpoint": endpoint });
        let (status, body) = match address.as_str() {
            "/api/v2/webhooks?page%5Bsize%5D=100" => {
                let rows = [row("01A", "https://elsewhere.example/", "zen:event-type:user.deleted")];
                (200, json!({ "meta": { "has_more": true, "after_cursor": "MDE=" }, "webhooks": rows }))
            }
            "/api/v2/webhooks?page%5Bsize%5D=100&page%5Bafter%5D=MDE%3D" => {
                let rows =
                    [row("01B", BASE, "zen:event-type:ticket.created"), row("01C", BASE, "conditional_ticket_events")];
                (200, json!({ "meta": { "has_more": false }, "webhooks": rows }))
            }
            path if path.ends_with("/signing_secret") => secret.clone(),
            _ => (204, Value::Null),
        };
        noted.lock().unwrap().push(format!(
            "{} {address} {}",
            request.method(),
            String::from_utf8_lossy(request.body())
        ));
        let answer = http::Response::builder().status(status);
        Ok(answer.body(Bytes::from(if body.is_null() { String::new() } else { body.to_string() })).unwrap())
    });
    let mut spec = spec("zendesk");
    spec.settings.insert("base_url".to_owned(), json!("https://house.example/api/v2"));
    spec.secrets.extend(configured.map(|secret| ("webhook_secret".to_owned(), SecretString::from(secret))));
    (open(spec, Arc::new(script)), asked)
}

/// Zendesk shows a secret only to who asks for it: that is done for webhooks at our address, where there is one to compare.
#[tokio::test]
async fn a_secret_that_is_not_listed_is_asked_for() {
    let shown = || (200, json!({ "signing_secret": { "secret": SECRET, "algorithm": "SHA256" } }));
    for (configured, verifiable) in [(None, false), (Some("of another one"), false), (Some(SECRET), true)] {
        let (desk, asked) = zendesk(shown(), configured);
        assert!(desk.secret_before_subscribing().is_empty(), "Zendesk makes it");
        let found = desk.subscriptions(Lane::Repair, BASE).await.unwrap();
        let told: Vec<_> = found.iter().map(|one| (one.id.as_str(), one.by_rule, one.verifiable)).collect();
        assert_eq!(told, [("01B", false, verifiable), ("01C", true, verifiable)]);
        let secrets = asked.lock().unwrap().iter().filter(|call| call.contains("signing_secret")).count();
        assert_eq!(secrets, if configured.is_some() { 2 } else { 0 });
    }
    // Somebody deleted it meanwhile.
    let (desk, _) = zendesk((404, json!({})), Some(SECRET));
    assert!(desk.subscriptions(Lane::Repair, BASE).await.unwrap().iter().all(|one| !one.verifiable));
    for (status, kind) in [(200, ErrorKind::Contract), (403, ErrorKind::Forbidden)] {
        let (desk, _) = zendesk((status, json!({ "signing_secret": {} })), Some(SECRET));
        let error = desk.subscriptions(Lane::Repair, BASE).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(!error.message.contains(SECRET));
    }
}

/// Only events are subscribed to, and what was switched off is switched on with what it has.
#[tokio::test]
async fn zendesk_is_asked_for_events() {
    let (desk, asked) = zendesk((404, Value::Null), None);
    let topics: Vec<String> = desk.hook_topics(&["ticket".to_owned()].into()).into_iter().collect();
    assert!(topics.len() == 13 && topics.iter().all(|topic| topic.starts_with("zen:event-type:ticket.")), "{topics:?}");
    desk.subscribe(Lane::Repair, BASE, None, &topics[..1]).await.unwrap();
    desk.subscribe(Lane::Repair, BASE, Some("01B"), &topics[..1]).await.unwrap();
    desk.unsubscribe(Lane::Repair, "01B").await.unwrap();
    let asked = asked.lock().unwrap();
    let sent = |at: usize| -> Value { serde_json::from_str(asked[at].splitn(3, ' ').nth(2).unwrap()).unwrap() };
    assert!(asked[0].starts_with("POST /api/v2/webhooks {"), "{asked:?}");
    let created = json!({ "webhook": {
        "name": "Counterpart", "status": "active", "endpoint": BASE, "http_method": "POST", "request_format": "json",
        "subscriptions": [&topics[0]],
    } });
    assert_eq!(sent(0), created);
    assert!(asked[1].starts_with("PATCH /api/v2/webhooks/01B {"), "{asked:?}");
    assert_eq!(sent(1), json!({ "webhook": { "status": "active", "subscriptions": [&topics[0]] } }));
    assert_eq!(asked[2], "DELETE /api/v2/webhooks/01B ");
}
