//! A reading file that says more than before: what was there already is history.

use std::sync::Arc;

use counterpart::engine::{Engine, Pass, Silent};
use counterpart_connectors::{ActKind, Clock};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{NewShipment, Vendor};
use tokio_util::sync::CancellationToken;

use crate::flows::{flow, order};
use crate::flows_tickets::chat_and_desk;
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

/// Given tickets that were read before somebody said where they name their chat, when the reading file says it, then they are found
/// by their chat at once, without a call: the close of one of them leaves the chat to the other.
#[tokio::test]
async fn tickets_from_before_they_named_their_chat_are_found_by_it() {
    let shipped = include_str!("../../mappings/ticket/zendesk.toml");
    for chat_is in [Vendor::Chatway, Vendor::Chatwoot] {
        let mut lab = chat_and_desk(chat_is, Vendor::Zendesk).await;
        lab.read_with("zendesk", "ticket", shipped);
        let chat = lab.answered_chat().await;
        let (one, other) = (lab.ticket(Some(&chat)), lab.ticket(Some(&chat)));
        lab.later().await;
        let read = lab.store.document("desk", "ticket", &one).await.expect("it answers").expect("it was read");
        assert_eq!(read.get("conversation"), None, "{chat_is:?}");

        lab.read_with("zendesk", "ticket", &shipped.replace("# conversation = ", "conversation = "));
        let key = "reading:desk:ticket";
        let before = lab.store.meta_get(key).await.expect("it answers");
        {
            // Who is told to stop leaves it to the next.
            let stop = CancellationToken::new();
            stop.cancel();
            let config = Arc::new(lab.config.clone());
            let (store, clock) = (lab.store.clone(), lab.clock.clone());
            let engine = Engine::new(config, store, clock, lab.network(), Arc::new(Silent), stop).expect("it is valid");
            engine.worker().await.expect("nobody else works").close().await.expect("it ends");
        }
        assert_eq!(lab.store.meta_get(key).await.expect("it answers"), before, "{chat_is:?}");
        lab.desk(&one, "solved");
        let pass = lab.later().await;
        assert_eq!((pass.resolved, pass.dropped), (0, 1), "{chat_is:?} {:?}", lab.intents().await);
        lab.assert_dropped("another ticket is open").await;
        assert!(!lab.is_resolved(&chat), "{chat_is:?}");
        lab.desk(&other, "solved");
        assert_eq!(lab.later().await.resolved, 1, "{chat_is:?} {:?}", lab.intents().await);
        assert!(lab.is_resolved(&chat), "{chat_is:?}");
        lab.later().await;
        assert_eq!(lab.later().await, Pass::default(), "{chat_is:?}");
    }
}
