//! Texts that a database refuses: one record that holds such a text keeps nothing else from going on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::config::Link;
use counterpart_connectors::{ActKind, Clock, Transport, TransportError};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, NewPerson, NewShipment, NewTicket, Vendor};

use crate::flows::{flow, order};
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone};
use crate::sim::{Dice, InProcess};
use crate::store_databases::{Home, Kind};

/// A shop, a chat and a desk on a store of this kind, and Ana with her chat.
async fn shop_chat_and_desk(home: &Home) -> (Lab, String) {
    let systems = [("chat", Vendor::Chatwoot), ("shop", Vendor::Shopify), ("desk", Vendor::Zendesk)];
    let mut lab = Lab::new(&systems).await;
    lab.store = home.open().await;
    let mut resolve = flow(EventKind::TicketClosed, ActKind::Resolve, None);
    (resolve.from, resolve.link) = ("desk".to_owned(), Link::Explicit);
    lab.config.flows = vec![
        flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation")),
        flow(EventKind::ShipmentCreated, ActKind::Send, Some("shipped")),
        resolve,
    ];
    let chat = lab.ana().await;
    (lab, chat)
}

/// Letters without a pattern, which no database packs into less.
fn noise(letters: usize) -> String {
    let mut dice = Dice::new(7);
    (0..letters).map(|_| char::from(b'a' + u8::try_from(dice.below(26)).expect("a letter"))).collect()
}

impl Lab {
    fn closed_ticket(&self, chat: &str) {
        let new = NewTicket {
            subject: "Bro\0ken".to_owned(),
            email: Some("ana@example.test".into()),
            chat: Some(chat.into()),
        };
        let ticket = self.sandbox.open_ticket(self.clock.now(), "desk", &new);
        self.sandbox.set_ticket(self.clock.now(), "desk", &ticket, "solved");
    }
}

/// Given a NUL in the texts of people, orders, tickets and chats, and a tracking number and a chat's number at a desk that are
/// longer than any index takes, then what is beside them is read, written and told of, and they are as well.
#[tokio::test]
async fn a_text_that_no_database_takes_stops_nothing() {
    for kind in [Kind::Memory, Kind::Postgres] {
        let home = Home::new(kind).await;
        let (lab, chat) = shop_chat_and_desk(&home).await;
        let odd = NewPerson { company: Some("Nu\0ll".to_owned()), ..someone("Ni\0ls", "Berg", "nils@example.test") };
        lab.add("chat", &odd);
        lab.add("chat", &someone("Bo", "Ek", "bo@example.test"));
        lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Customer, "Where\0 is it?");
        lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Agent, "Under\0way");
        let mut bought = order("ana@example.test", "pending");
        bought.given = "A\0na".to_owned();
        let id = lab.sandbox.place_order(lab.clock.now(), "shop", &bought);
        let parcel =
            NewShipment { number: Some(noise(5_000)), carrier: Some("Po\0st".into()), ..NewShipment::default() };
        lab.sandbox.ship_order(lab.clock.now(), "shop", &id, &parcel);
        for named in ["999\0", &noise(5_000), &chat] {
            lab.closed_ticket(named);
        }
        lab.clock.advance(MINUTE);
        lab.run().await;
        let pass = lab.work().await;
        assert_eq!(lab.told("chat").len(), 3, "{kind:?} {pass:?} {:?}", lab.intents().await);
        assert!(lab.sandbox.chats("chat").iter().any(|known| known.id == chat && known.resolved), "{kind:?} {pass:?}");
        for email in ["nils@example.test", "bo@example.test"] {
            assert_eq!(lab.person("shop", email).email.as_deref(), Some(email), "{kind:?}");
        }
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        let history = worker.history(10).await.expect("it reads on");
        worker.close().await.expect("it ends");
        assert_eq!((history.conversations, history.failed), (1, 0), "{kind:?}");
        lab.clock.advance(HOUR);
        lab.run().await;
        assert_eq!((lab.writes(), lab.work().await.sent), (0, 0), "{kind:?}");
    }
}

/// A way on which an id becomes longer than any index takes.
struct Lengthening {
    network: Arc<InProcess>,
    from: String,
    to: String,
}

#[async_trait]
impl Transport for Lengthening {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let answer = self.network.send(request).await?;
        let change = |body: Bytes| Bytes::from(String::from_utf8_lossy(&body).replace(&self.from, &self.to));
        Ok(answer.map(change))
    }
}

/// Given a record whose id is longer than any index takes, then all others of its list are read, and nothing counts as missing.
#[tokio::test]
async fn an_id_that_no_index_takes_is_left_out() {
    for kind in [Kind::Memory, Kind::Postgres] {
        let home = Home::new(kind).await;
        let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("crm", Vendor::Hubspot)]).await;
        lab.store = home.open().await;
        lab.add("chat", &someone("Bo", "Ek", "bo@example.test"));
        let odd = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
        let network = Lengthening {
            network: lab.network(),
            from: format!("\"id\":{odd},"),
            to: format!("\"id\":\"{}\",", noise(5_000)),
        };
        let report = lab.engine(Arc::new(network)).sync(&[]).await.expect("the run ends");
        let streams: Vec<_> = report.syncs.iter().flat_map(|sync| &sync.streams).collect();
        assert!(streams.iter().all(|stream| stream.complete), "{kind:?} {report:?}");
        assert_eq!(streams.iter().map(|stream| stream.problems).sum::<u64>(), 1, "{kind:?} {report:?}");
        assert_eq!(lab.people("crm").len(), 1, "{kind:?}");
    }
}
