//! Every shipped connector against its fake, which was written from the vendor's documentation alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::conformance::{Laboratory, Target, run};
use counterpart_connectors::kit::clock::JumpClock;
use counterpart_connectors::{
    Clock, Connection, ConnectionSpec, ConnectorError, ErrorKind, Lane, PullMode, PullRequest, Transport,
    TransportError,
};
use counterpart_sandbox::{
    Faults, InstanceSpec, NewOrder, NewShipment, NewTicket, Options, Reply, Sandbox, TOKEN, Vendor,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{START, open_at, spec_with};

/// The sandbox without a socket in between.
struct InProcess {
    sandbox: Sandbox,
    clock: Arc<JumpClock>,
    /// Whether the records are tickets; else they are people.
    tickets: bool,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        match self.sandbox.handle(self.clock.now(), request.map(Vec::from)) {
            Reply::Answer { response, delay_ms } => {
                self.clock.sleep_until(self.clock.now() + delay_ms as i64).await;
                Ok(response.map(Bytes::from))
            }
            Reply::Cut { .. } => Err(TransportError::NoAnswer { reason: "cut".to_owned() }),
        }
    }
}

#[async_trait]
impl Laboratory for InProcess {
    async fn populate(&self, records: usize) {
        match self.tickets {
            true => (0..records).for_each(|n| {
                let ticket = NewTicket { subject: format!("Number {n}"), email: None, chat: Some(n.to_string()) };
                self.sandbox.open_ticket(self.clock.now(), "it", &ticket);
            }),
            false => self.sandbox.seed_people(self.clock.now(), "it", records, 0),
        }
        self.clock.sleep_until(self.clock.now() + 60_000).await;
    }

    async fn ids(&self) -> Option<Vec<String>> {
        Some(match self.tickets {
            true => self.sandbox.tickets("it").into_iter().map(|ticket| ticket.id).collect(),
            false => self.sandbox.people("it").into_iter().map(|person| person.id).collect(),
        })
    }
}

const VENDORS: [(&str, Vendor, &str); 9] = [
    ("chatway", Vendor::Chatway, "http://localhost/it/api/v1"),
    ("chatwoot", Vendor::Chatwoot, "http://localhost/it"),
    ("crm", Vendor::Crm, "http://localhost/it"),
    ("hubspot", Vendor::Hubspot, "http://localhost/it"),
    ("woocommerce", Vendor::Woocommerce, "http://localhost/it"),
    ("rt", Vendor::Rt, "http://localhost/it/REST/2.0"),
    ("zendesk", Vendor::Zendesk, "http://localhost/it/api/v2"),
    ("medusa", Vendor::Medusa, "http://localhost/it"),
    ("shopify", Vendor::Shopify, "http://localhost/it"),
];

fn world(vendor: Vendor, faults: Faults, seed: u64) -> Arc<InProcess> {
    let instances = vec![InstanceSpec { name: "it".to_owned(), vendor, settings: BTreeMap::new() }];
    let sandbox = Sandbox::new(Options { seed, faults, instances });
    let tickets = matches!(vendor, Vendor::Rt | Vendor::Zendesk);
    Arc::new(InProcess { sandbox, clock: Arc::new(JumpClock::at(START)), tickets })
}

fn spec(connector: &str, base_url: &str) -> ConnectionSpec {
    let mut spec = spec_with(connector, json!({ "base_url": base_url }));
    for secret in spec.secrets.values_mut() {
        *secret = SecretString::from(TOKEN);
    }
    spec
}

async fn hold(at: usize) {
    let (connector, vendor, base_url) = VENDORS[at];
    let world = world(vendor, Faults::none(), 7);
    let target = Target {
        laboratory: world.clone(),
        ..Target::new(spec(connector, base_url), world.clone(), world.clock.clone())
    };
    let report = run(target).await;
    assert!(report.passed(), "{connector}\n{report}");
}

#[tokio::test]
async fn chatway_holds() {
    hold(0).await;
}

#[tokio::test]
async fn chatwoot_holds() {
    hold(1).await;
}

#[tokio::test]
async fn the_example_crm_holds() {
    hold(2).await;
}

#[tokio::test]
async fn hubspot_holds() {
    hold(3).await;
}

#[tokio::test]
async fn woocommerce_holds() {
    hold(4).await;
}

#[tokio::test]
async fn request_tracker_holds() {
    hold(5).await;
}

#[tokio::test]
async fn zendesk_holds() {
    hold(6).await;
}

/// A ticket that changes is told of from then on, with whole seconds and after the export's minute.
#[tokio::test]
async fn tickets_are_read_by_what_changed() {
    for (connector, vendor, base_url) in &VENDORS[5..7] {
        let world = world(*vendor, Faults::none(), 1);
        world.populate(120).await;
        let settings = json!({ "base_url": base_url, "page_size": 50 });
        let mut spec = spec(connector, base_url);
        spec.settings.extend(settings.as_object().cloned().unwrap_or_default());
        let connection = open_at(spec, world.clone(), world.clock.clone());
        assert_eq!(walked(&connection, PullMode::Full).await.unwrap().len(), 120, "{connector}");
        world.clock.sleep_until(START + 3_600_000).await;
        let at = world.clock.now();
        for id in ["7", "77"] {
            world.sandbox.set_ticket(at, "it", id, if *connector == "rt" { "resolved" } else { "solved" });
        }
        world.clock.sleep_until(at + 120_000).await;
        let seen = walked(&connection, PullMode::Since(at - 900)).await.unwrap();
        assert_eq!(seen, ["7", "77"].map(str::to_owned).into(), "{connector}");
        let record = connection.fetch(Lane::Repair, "ticket", "7").await.unwrap();
        assert_eq!(record.updated_at, Some(at), "{connector}");
        assert_eq!(record.version.is_some(), *connector == "rt");
    }
}

#[tokio::test]
async fn medusa_holds() {
    hold(7).await;
}

#[tokio::test]
async fn shopify_holds() {
    hold(8).await;
}

/// The ids of a whole walk.
async fn walked(connection: &Connection, mode: PullMode) -> Result<BTreeSet<String>, ConnectorError> {
    let (mut ids, mut cursor) = (BTreeSet::new(), None::<String>);
    loop {
        let stream = connection.manifest().first_stream();
        let request = PullRequest { stream, mode, cursor: cursor.as_deref(), parent: None };
        let page = connection.pull(Lane::Backfill, request).await?;
        ids.extend(page.records.into_iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(ids);
        }
    }
}

#[tokio::test]
async fn a_bad_line_loses_nobody() {
    let mut complete = 0;
    for (connector, vendor, base_url) in VENDORS {
        for seed in 0..8 {
            let faults = Faults::parse("429=0.05,5xx=0.05,cut_before=0.03,cut_after=0.03,slow=0.05").unwrap();
            let world = world(vendor, faults, seed);
            world.populate(250).await;
            let connection = open_at(spec(connector, base_url), world.clone(), world.clock.clone());
            let everybody: BTreeSet<String> = world.ids().await.into_iter().flatten().collect();
            match walked(&connection, PullMode::Full).await {
                Ok(ids) => {
                    assert_eq!(ids, everybody, "{connector}, seed {seed}");
                    complete += 1;
                }
                // Four bad answers in a row end the call, and say so.
                Err(error) => assert!(
                    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited { .. }),
                    "{connector}, seed {seed}: {error}"
                ),
            }
        }
    }
    assert!(complete > 48, "only {complete} of 72 walks came to their end");
}

#[tokio::test]
async fn merged_people_are_found_under_the_new_id_where_the_vendor_tells() {
    for (at, tells) in [(3, true), (1, false)] {
        let (connector, vendor, base_url) = VENDORS[at];
        let world = world(vendor, Faults::none(), 1);
        world.populate(2).await;
        let ids = world.ids().await.unwrap();
        world.sandbox.merge(world.clock.now(), "it", &ids[0], &ids[1]);
        let connection = open_at(spec(connector, base_url), world.clone(), world.clock.clone());
        match connection.fetch(Lane::Repair, "contact", &ids[1]).await {
            Ok(record) => assert!(tells && record.id == ids[0], "{connector} gave {}", record.id),
            Err(error) => assert!(!tells && error.kind == ErrorKind::NotFound, "{connector}: {error}"),
        }
    }
}

#[tokio::test]
async fn one_time_for_everybody_hides_nobody_from_search() {
    let (connector, vendor, base_url) = VENDORS[3];
    let world = world(vendor, Faults::none(), 1);
    world.populate(450).await;
    let connection = open_at(spec(connector, base_url), world.clone(), world.clock.clone());
    let everybody: BTreeSet<String> = world.ids().await.into_iter().flatten().collect();
    let seen = walked(&connection, PullMode::Since(START - 60_000)).await.unwrap();
    assert_eq!(seen, everybody);
}

/// The ids of Shopify's orders.
async fn orders(connection: &Connection, mode: PullMode) -> Result<Vec<String>, ConnectorError> {
    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let request = PullRequest { stream: "order", mode, cursor: cursor.as_deref(), parent: None };
        let page = connection.pull(Lane::Incremental, request).await?;
        ids.extend(page.records.into_iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(ids);
        }
    }
}

fn shop(settings: &[(&str, &str)], orders: usize, lines: usize) -> Arc<InProcess> {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let instances = vec![InstanceSpec { name: "it".to_owned(), vendor: Vendor::Shopify, settings }];
    let sandbox = Sandbox::new(Options { seed: 7, faults: Faults::none(), instances });
    let items = vec![("Cup".to_owned(), 2, "12.50".to_owned()); lines];
    let order = NewOrder { status: "pending".to_owned(), items, ..NewOrder::default() };
    for at in 0..orders {
        sandbox.place_order(START - 3_600_000 + at as i64, "it", &order);
    }
    Arc::new(InProcess { sandbox, clock: Arc::new(JumpClock::at(START)), tickets: false })
}

/// Shopify's refusals come in a success: they are waited out for as long as the bucket needs, and then handed on.
#[tokio::test]
async fn an_empty_bucket_of_points_is_waited_out() {
    let world = shop(&[("points_bucket", "1000"), ("points_restore", "50")], 20, 1);
    let connection = open_at(spec("shopify", "http://localhost/it"), world.clone(), world.clock.clone());
    let ids = orders(&connection, PullMode::Full).await.unwrap();
    assert_eq!(ids.len(), 20);
    let since = orders(&connection, PullMode::Since(START - 3_600_000)).await.unwrap();
    assert_eq!(since, ids, "many orders of one second are one order after another");
    let waited = world.clock.now() - START;
    assert!((10_000..90_000).contains(&waited), "{waited} ms");
    let calls = world.sandbox.log().len();
    assert!(calls <= 12, "{calls} calls for six pages: the wait is computed, not tried out");

    let empty = shop(&[("points_bucket", "1"), ("points_restore", "0")], 1, 1);
    let connection = open_at(spec("shopify", "http://localhost/it"), empty.clone(), empty.clock.clone());
    let error = connection.fetch(Lane::Repair, "order", "450789469").await.unwrap_err();
    let ErrorKind::RateLimited { until: Some(until) } = error.kind else { panic!("{error}") };
    assert!(until >= empty.clock.now() && empty.sandbox.log().len() == 4, "{until}");
}

/// A page asks for few lines of each order; an order with more of them is read again alone.
#[tokio::test]
async fn no_line_of_a_long_order_is_lost() {
    let world = shop(&[], 2, 34);
    let connection = open_at(spec("shopify", "http://localhost/it"), world.clone(), world.clock.clone());
    let request = PullRequest { stream: "order", mode: PullMode::Full, cursor: None, parent: None };
    let page = connection.pull(Lane::Incremental, request).await.unwrap();
    for listed in page.records {
        assert_eq!(listed.body["lineItems"]["nodes"].as_array().unwrap().len(), 34);
        for id in [listed.id.clone(), format!("gid://shopify/Order/{}", listed.id)] {
            assert_eq!(connection.fetch(Lane::Repair, "order", &id).await.unwrap(), listed);
        }
    }
    for unknown in ["1", "gid://shopify/Customer/450789469", "#1001"] {
        let error = connection.fetch(Lane::Repair, "order", unknown).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{unknown}");
    }
}

/// The same for parcels and what is in them.
#[tokio::test]
async fn no_parcel_of_an_order_is_lost() {
    let world = shop(&[], 3, 12);
    let ids: Vec<String> = world.sandbox.orders("it").into_iter().map(|order| order.id).collect();
    let sent = |order: &str, items: Vec<(usize, u32)>| {
        let parcel = NewShipment { number: Some("A1".to_owned()), items, ..NewShipment::default() };
        world.sandbox.ship_order(START - 1000, "it", order, &parcel)
    };
    sent(&ids[0], vec![]);
    (0..3).for_each(|line| drop(sent(&ids[1], vec![(line, 2)])));
    (0..2).for_each(|line| drop(sent(&ids[2], vec![(line, 2)])));
    let connection = open_at(spec("shopify", "http://localhost/it"), world.clone(), world.clock.clone());
    let request = PullRequest { stream: "order", mode: PullMode::Full, cursor: None, parent: None };
    let page = connection.pull(Lane::Incremental, request).await.unwrap();
    let shown = |at: usize| {
        let parcels = page.records[at].body["fulfillments"].as_array().unwrap();
        let lines = |parcel: &Value| parcel["fulfillmentLineItems"]["nodes"].as_array().map(Vec::len);
        parcels.iter().filter_map(lines).collect::<Vec<_>>()
    };
    assert_eq!((shown(0), shown(1), shown(2)), (vec![12], vec![1, 1, 1], vec![1, 1]));
    for listed in &page.records {
        assert_eq!(&connection.fetch(Lane::Repair, "order", &listed.id).await.unwrap(), listed);
    }
}
