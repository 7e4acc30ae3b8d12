//! A reading file that says more than before: what was there already is history.

use counterpart::engine::Pass;
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{NewShipment, Vendor};

use crate::flows::{flow, order};
use crate::requirements::lab::{DAY, HOUR, Lab, MINUTE};

const SHOPS: [(Vendor, &str, &str); 3] = [
    (Vendor::Woocommerce, "woocommerce", include_str!("../../mappings/order/woocommerce.toml")),
    (Vendor::Shopify, "shopify", include_str!("../../mappings/order/shopify.toml")),
    (Vendor::Medusa, "medusa", include_str!("../../mappings/order/medusa.toml")),
];

fn parcel(number: &str) -> NewShipment {
    NewShipment { number: Some(number.to_owned()), carrier: Some("Bring".to_owned()), ..NewShipment::default() }
}

impl Lab {
    async fn ship(&self, id: &str, number: &str) {
        self.sandbox.ship_order(self.clock.now(), "shop", id, &parcel(number));
        self.clock.advance(MINUTE);
    }
}

/// Given orders whose parcels nobody was told to read, when the reading file gets `[lists.shipments]`, then the parcels of before
/// reach nobody, whatever happens to their orders first; a parcel that comes afterwards does, once.
#[tokio::test]
async fn parcels_from_before_they_were_read_are_history() {
    for (vendor, connector, reading) in SHOPS {
        for touched in [false, true] {
            let what = format!("{vendor:?} touched first: {touched}");
            let mut lab = Lab::new(&[("chat", Vendor::Chatway), ("shop", vendor)]).await;
            let (blind, _) = reading.split_once("[lists.shipments]").expect("the shipped file tells of parcels");
            lab.read_with(connector, "order", blind);
            let refunds = flow(EventKind::OrderRefunded, ActKind::Send, Some("order-refunded"));
            lab.config.flows = vec![refunds];
            lab.ana().await;
            let open = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "processing"));
            let other = lab.sandbox.place_order(lab.clock.now(), "shop", &order("ana@example.test", "processing"));
            lab.ship(&open, "OLD-1").await;
            lab.work().await;
            lab.clock.advance(DAY);
            lab.work().await;
            assert_eq!(lab.told("chat"), [""; 0], "{what}");

            lab.read_with(connector, "order", reading);
            lab.config.flows.push(flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")));
            if touched {
                // The first look with the new file is at an order that changed since.
                lab.sandbox.refund_order(lab.clock.now(), "shop", &open, "1.00");
                lab.clock.advance(MINUTE);
            }
            lab.work().await;
            lab.clock.advance(HOUR);
            lab.sandbox.refund_order(lab.clock.now(), "shop", &open, "2.00");
            lab.clock.advance(MINUTE);
            lab.work().await;
            lab.work().await;
            let said = lab.told("chat");
            assert!(said.len() == 1 + usize::from(touched), "{what} {said:?}");
            assert!(said.iter().all(|text| !text.contains("OLD-1")), "{what} {said:?}");

            lab.clock.advance(HOUR);
            lab.ship(&open, "NEW-1").await;
            lab.ship(&other, "NEW-2").await;
            lab.work().await;
            lab.work().await;
            let said = lab.told("chat").split_off(said.len());
            assert_eq!(said.len(), 2, "{what} {said:?}");
            assert!(said.iter().any(|text| text.contains("NEW-1")), "{what} {said:?}");
            assert!(said.iter().any(|text| text.contains("NEW-2")), "{what} {said:?}");
            lab.clock.advance(DAY);
            lab.work().await;
            assert_eq!(lab.work().await, Pass::default(), "{what}");
        }
    }
}
