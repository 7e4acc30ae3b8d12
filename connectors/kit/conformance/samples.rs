//! Records the suite may write.

use serde_json::{Value, json};

/// What the suite writes, in the vendor's shape; `{n}` becomes a text no other record holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// A new record with an e-mail address, a name and one more field.
    pub create: Value,
    /// A change of the name only.
    pub update: Value,
    /// The same change with one field emptied.
    pub clear: Value,
    /// Where the changed name stands.
    pub changed: &'static str,
    /// Where a field stands that `update` leaves alone and `clear` empties.
    pub untouched: &'static str,
    /// Where the e-mail address stands.
    pub email: &'static str,
}

impl Samples {
    /// Samples for a shipped connector.
    pub fn of(connector: &str) -> Option<Samples> {
        let flat = |name: &'static str, other: &str| Samples {
            create: json!({ name: "Rosa {n}", "email": "rosa-{n}@shop.example", other: "+46401{d}" }),
            update: json!({ name: "Rosa Lind {n}" }),
            clear: json!({ other: null }),
            changed: if name == "name" { "/name" } else { "/given_name" },
            untouched: "/phone",
            email: "/email",
        };
        Some(match connector {
            "chatway" => flat("name", "phone"),
            "crm" => flat("given_name", "phone"),
            "chatwoot" => Samples { untouched: "/phone_number", ..flat("name", "phone_number") },
            "hubspot" => Samples {
                create: json!({ "properties": {
                    "firstname": "Rosa {n}", "email": "rosa-{n}@shop.example", "phone": "+46401{d}" } }),
                update: json!({ "properties": { "firstname": "Rosa Lind {n}" } }),
                clear: json!({ "properties": { "phone": null } }),
                changed: "/properties/firstname",
                untouched: "/properties/phone",
                email: "/properties/email",
            },
            "medusa" => Samples {
                changed: "/first_name",
                update: json!({ "first_name": "Rosa Lind {n}" }),
                ..flat("first_name", "phone")
            },
            "shopify" => Samples {
                create: json!({ "firstName": "Rosa {n}", "email": "rosa-{n}@shop.example", "phone": "+46401{d}" }),
                update: json!({ "firstName": "Rosa Lind {n}" }),
                changed: "/firstName",
                ..flat("name", "phone")
            },
            "woocommerce" => Samples {
                create: json!({ "first_name": "Rosa {n}", "email": "rosa-{n}@shop.example",
                    "billing": { "phone": "+46401{d}" } }),
                update: json!({ "first_name": "Rosa Lind {n}" }),
                clear: json!({ "billing": { "phone": "" } }),
                changed: "/first_name",
                untouched: "/billing/phone",
                email: "/email",
            },
            _ => return None,
        })
    }
}

/// `template` with its placeholders filled: `{n}` the text, `{d}` six digits of it.
pub(super) fn filled(template: &Value, n: u64) -> Value {
    match template {
        Value::String(text) => {
            Value::String(text.replace("{n}", &format!("t{n:x}")).replace("{d}", &format!("{:06}", n % 1_000_000)))
        }
        Value::Array(items) => items.iter().map(|item| filled(item, n)).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), filled(value, n))).collect(),
        other => other.clone(),
    }
}
