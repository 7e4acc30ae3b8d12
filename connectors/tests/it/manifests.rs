//! Manifests of the operator's own.

use std::sync::Arc;

use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{Connection, ConnectionSpec, OpenGate, manifest_source};

use crate::{START, spec};

fn open(spec: ConnectionSpec) -> Result<Connection, Vec<String>> {
    let script = Arc::new(Script::always(200, &[], "{}"));
    Connection::open(spec, script, Arc::new(OpenGate), Arc::new(JumpClock::at(START))).map_err(|error| error.problems)
}

#[test]
fn a_file_in_the_operators_folder_is_a_connector() {
    let folder = std::env::temp_dir().join(format!("counterpart-manifests-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("acme")).unwrap();
    let source = manifest_source("crm").unwrap();
    std::fs::write(folder.join("acme/connector.toml"), source.replace("name = \"crm\"", "name = \"acme\"")).unwrap();
    std::fs::write(folder.join("broken.toml"), source.replace("format = 1", "format = 1\ncolour = \"red\"")).unwrap();
    std::fs::write(folder.join("other.toml"), source).unwrap();

    let with =
        |name: &str| ConnectionSpec { connector: name.to_owned(), manifest_dirs: vec![folder.clone()], ..spec("crm") };
    assert_eq!(open(with("acme")).unwrap().manifest().name, "acme");
    let broken = open(with("broken")).unwrap_err();
    assert!(broken[0].contains("broken.toml:3:1: unknown field `colour`"), "{broken:?}");
    assert!(open(with("other")).unwrap_err()[0].contains("is called `crm`"));
    assert!(open(with("nothing")).unwrap_err()[0].contains("shipped are chatway"));
    assert!(open(with("../crm")).unwrap_err()[0].contains("no connector name"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn capabilities_follow_the_settings() {
    let chatway = open(spec("chatway")).unwrap();
    assert!(!chatway.capabilities().head && !chatway.capabilities().delete && chatway.capabilities().find.is_empty());
    let newest = crate::spec_with("chatway", serde_json::json!({ "list_order": "newest_first" }));
    assert!(open(newest).unwrap().capabilities().head);

    let hubspot = open(spec("hubspot")).unwrap();
    assert_eq!(hubspot.capabilities().find, ["email", "phone"]);
    assert!(hubspot.capabilities().since && hubspot.capabilities().stable_pages && !hubspot.capabilities().head);
    let external = crate::spec_with("hubspot", serde_json::json!({ "external_property": "shop_id" }));
    assert_eq!(open(external).unwrap().capabilities().find, ["email", "external", "phone"]);

    let shop = open(spec("woocommerce")).unwrap();
    assert!(!shop.capabilities().since, "modified_after is ignored on customers");
    assert_eq!(shop.capabilities().required_for_create, ["email"]);
    assert!(shop.capabilities().side_effects["create"][0].contains("mails the customer"));
    assert!(open(spec("chatwoot")).unwrap().capabilities().head);
}
