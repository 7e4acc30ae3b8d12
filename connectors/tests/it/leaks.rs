//! Secrets and personal data stay out of what is logged.

use std::sync::Arc;

use counterpart_connectors::kit::script::Script;
use counterpart_connectors::{Lane, MatchKey, PullMode, PullRequest, Push};
use serde_json::json;

use crate::{open, spec, spec_with};

#[tokio::test]
async fn messages_name_no_person() {
    let body = r#"{"message": "An account is registered with rosa@shop.example", "code": "x"}"#;
    for connector in counterpart_connectors::registry() {
        for status in [400, 401, 403, 404, 409, 422, 500] {
            let connection = open(spec(connector), Arc::new(Script::always(status, &[], body)));
            let pull = PullRequest { stream: "contact", mode: PullMode::Full, cursor: None };
            let person = json!({ "email": "rosa@shop.example", "properties": { "email": "rosa@shop.example" } });
            let key = MatchKey::Email("rosa@shop.example".into());
            let errors = [
                connection.pull(Lane::Audit, pull).await.err(),
                connection.find(Lane::Audit, "contact", &key).await.err(),
                connection.push(Lane::Audit, "contact", Push::Create { body: &person }, "k").await.err(),
            ];
            for error in errors.into_iter().flatten() {
                assert!(!error.message.contains("rosa"), "{connector} {status}: {}", error.message);
            }
        }
    }
}

#[tokio::test]
async fn credentials_in_the_query_stay_out_of_cursors_and_messages() {
    let script = Arc::new(Script::always(401, &[], "{}"));
    let shop = open(spec_with("woocommerce", json!({ "auth": "query" })), script.clone());
    let pull = PullRequest { stream: "contact", mode: PullMode::Full, cursor: None };
    let error = shop.pull(Lane::Audit, pull).await.unwrap_err();
    assert!(script.asked()[0].contains("consumer_secret=s3cret"), "{:?}", script.asked());
    assert!(!format!("{error:?}").contains("s3cret"), "{error}");
}
