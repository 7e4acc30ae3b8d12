//! Records read through a mapping a second, on one core: `cargo run --release -p counterpart-core --example read_throughput`.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark measures the machine and prints")]

use counterpart_core::Mapping;
use serde_json::{Value, json};
use std::time::Instant;

fn main() {
    let address = json!({"line1": "Storgatan 1", "city": "Malm\u{f6}", "postcode": "21115", "country": "SE"});
    let crm = json!({
        "given_name": "Ana", "family_name": "Lind", "email": "Ana@example.test", "phone": "+46701740605",
        "company": "Alpha", "address": address, "tags": ["vip", "newsletter"],
    });
    let hubspot = json!({"properties": {
        "firstname": "Ana", "lastname": "Lind", "email": "ana@example.test", "phone": "070-174 06 05",
        "company": "Alpha", "address": "Storgatan 1", "city": "Malm\u{f6}", "zip": "21115", "country": "Sweden",
    }});
    let chat = json!({"name": "Ana Lind", "email": "ana@example.test", "phone_number": "+46701740605"});
    for (name, remote) in [("crm", crm), ("hubspot", hubspot), ("chatwoot", chat)] {
        measure(name, &remote);
    }
}

fn measure(name: &str, remote: &Value) {
    let file = format!("{}/../mappings/contact/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let mapping = Mapping::parse(&std::fs::read_to_string(&file).expect("it is shipped"), name).expect("it is valid");
    let fields = mapping.read(remote, Some("SE")).fields.len();
    let count = 100_000;
    let start = Instant::now();
    for _ in 0..count {
        std::hint::black_box(mapping.read(std::hint::black_box(remote), Some("SE")));
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("{name}: {fields} fields, {rate:.0} records read a second");
}
