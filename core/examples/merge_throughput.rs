//! Records merged and planned a second, on one core: `cargo run --release -p counterpart-core --example merge_throughput`.
//! A typical person: two records of nine fields, nothing or one field changed.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark measures the machine and prints")]

use counterpart_core::merge::{Side, merge};
use counterpart_core::plan::{Action, Lane, Operation};
use counterpart_core::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;
fn main() {
    let m = |s: &str| {
        Mapping::parse(
            &std::fs::read_to_string(format!("{}/../mappings/contact/{s}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap(),
            s,
        )
        .unwrap()
    };
    let (crm, hub) = (m("crm"), m("hubspot"));
    let a = json!({"given_name":"Ana","family_name":"Lind","email":"ana@example.test","phone":"+46701740605","company":"Alpha","address":{"line1":"Storgatan 1","city":"Malmo","postcode":"21115","country":"SE"}});
    let b = json!({"properties":{"firstname":"Ana","lastname":"Lind","email":"ana@example.test","phone":"+46701740605","company":"Alpha","address":"Storgatan 1","city":"Malmo","zip":"21115","country":"Sweden"}});
    let (ra, rb) = (crm.read(&a, Some("SE")).fields, hub.read(&b, Some("SE")).fields);
    let base = |f: &Fields| -> Agreed {
        f.iter().map(|(n, s)| (n.clone(), AgreedSlot { here: s.clone(), means: s.clone() })).collect()
    };
    let (aa, ab) = (base(&ra), base(&rb));
    let golden: Golden = ra
        .iter()
        .map(|(n, s)| {
            let (from, rule) = ("crm".into(), "r".into());
            (n.clone(), GoldenSlot { slot: s.clone(), from, at: 1, clock: Clock::Vendor, rule })
        })
        .collect();
    let mut edited = ra.clone();
    edited.insert(FieldName::parse("company").unwrap(), Slot::Set(Value::Text("Beta".into())));
    let policies = Policies { default: Policy::Latest, fields: BTreeMap::new() };
    for (label, left) in [("nothing changed", &ra), ("one field changed", &edited)] {
        let sides = [
            Side {
                connection: "crm",
                external_id: "1",
                observed: left,
                agreed: &aa,
                changed_at: Some(2),
                observed_at: 2,
                mapping: &crm,
                remote: Some(&a),
            },
            Side {
                connection: "hub",
                external_id: "2",
                observed: &rb,
                agreed: &ab,
                changed_at: Some(1),
                observed_at: 2,
                mapping: &hub,
                remote: Some(&b),
            },
        ];
        let n = 100_000;
        let start = Instant::now();
        let mut ops = 0;
        for _ in 0..n {
            let merged = merge(&golden, &sides, &policies);
            for (side, result) in sides.iter().zip(merged.sides) {
                if !result.write.is_empty() {
                    std::hint::black_box(Operation::new(
                        side.connection.into(),
                        "contact".into(),
                        Action::Update { external_id: side.external_id.into() },
                        result.write,
                        result.before,
                        1,
                        Lane::Incremental,
                        "r".into(),
                        vec![],
                        vec!["crm/1".into(), "hub/2".into()],
                    ));
                    ops += 1;
                }
            }
        }
        let secs = start.elapsed().as_secs_f64();
        let rate = 2.0 * f64::from(n) / secs;
        let met = if rate >= 500_000.0 { "reached" } else { "NOT reached" };
        println!("{label}: {} fields, {rate:.0} records/s, {ops} operations; goal 500,000: {met}", golden.len());
    }
}
