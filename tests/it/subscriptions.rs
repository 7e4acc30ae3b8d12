//! Webhooks at the vendors: what is needed is there once and delivers, whatever the vendor or the network does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::engine::{EngineError, HookReport, HookStep, HookWish, Standing};
use counterpart::store::Store;
use counterpart_connectors::{ActKind, Clock, Transport, TransportError};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{NewOrder, Vendor, Webhook};

use crate::flows::{flow, order};
use crate::flows_tickets::on;
use crate::requirements::lab::{HOUR, Lab, MINUTE};
use crate::sim::InProcess;

const URL: &str = "https://hooks.example.test";
const SECRET: &str = "s3cr3t-of-the-shop";
const PATH_SECRET: &str = "a-long-random-text";
/// What somebody else has registered.
const FOREIGN: &str = "http://localhost/";

/// A shop that another program hears of too, and a chat that tells of its orders.
async fn site(shop: Vendor) -> Lab {
    let foreign = match shop {
        Vendor::Shopify => "orders/create",
        _ => "order.created",
    };
    site_with(shop, &[("shop", "webhook_topics", foreign)]).await
}

async fn site_with(shop: Vendor, unusual: &[(&str, &str, &str)]) -> Lab {
    let fakes = [unusual, &[("shop", "webhook_secret", SECRET)]].concat();
    let mut lab = Lab::with_fakes(&[("chat", Vendor::Chatwoot), ("shop", shop)], &fakes).await;
    lab.config.flows = vec![flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"))];
    lab.config.serve.public_url = Some(URL.to_owned());
    lab.secret("shop", "webhook_secret", SECRET);
    lab
}

/// Cuts the connection of some changes, before or after they took effect.
struct Cutting {
    network: Arc<InProcess>,
    after_effect: bool,
    left: AtomicU64,
}

#[async_trait]
impl Transport for Cutting {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let text = String::from_utf8_lossy(request.body()).into_owned();
        let change = request.method() != http::Method::GET && !text.contains("\"query\":\"query");
        let cut = change && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if cut && !self.after_effect {
            return Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() });
        }
        let answer = self.network.send(request).await;
        if cut { Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() }) } else { answer }
    }
}

/// A desk whose closed tickets resolve chats, with webhooks of others over more than one page.
async fn desk_site(unusual: &[(&str, &str, &str)]) -> Lab {
    let mut lab = Lab::with_fakes(&[("chat", Vendor::Chatwoot), ("desk", Vendor::Zendesk)], unusual).await;
    lab.config.flows = vec![on(EventKind::TicketClosed, ActKind::Resolve)];
    lab.config.serve.public_url = Some(URL.to_owned());
    for n in 0..120 {
        let topics = if n % 2 == 0 { "zen:event-type:user.deleted" } else { TRIGGER };
        lab.sandbox.add_webhook(lab.clock.now(), "desk", &format!("{FOREIGN}{n}"), &[topics]);
    }
    lab
}

fn desk_topics() -> BTreeMap<String, usize> {
    DESK.iter().map(|name| (format!("zen:event-type:ticket.{name}"), 1)).collect()
}

impl Lab {
    pub fn secret(&mut self, connection: &str, name: &str, value: &str) {
        let config = self.config.connections.get_mut(connection).expect("a configured system");
        config.secrets.insert(name.to_owned(), value.into());
    }

    async fn hooks(&self, name: &str, wish: HookWish) -> Result<HookReport, EngineError> {
        self.sandbox.clear_log();
        let mut reports = self.engine(self.network()).hooks(&[name.to_owned()], wish).await?;
        assert_eq!(reports.len(), 1);
        Ok(reports.remove(0))
    }

    /// Registers at a connection, and says whether all is well then.
    pub async fn register(&self, name: &str) -> HookReport {
        self.hooks(name, HookWish::Keep).await.expect("it registers")
    }

    async fn register_cut(&self, name: &str, after_effect: bool, cuts: u64) -> Result<HookReport, EngineError> {
        let network = Arc::new(Cutting { network: self.network(), after_effect, left: AtomicU64::new(cuts) });
        let mut reports = self.engine(network).hooks(&[name.to_owned()], HookWish::Keep).await?;
        Ok(reports.remove(0))
    }

    pub fn ours(&self, name: &str) -> Vec<Webhook> {
        let mut all = self.sandbox.webhooks(name);
        all.retain(|hook| hook.url.starts_with(URL));
        all
    }

    fn others(&self, name: &str) -> Vec<Webhook> {
        let mut all = self.sandbox.webhooks(name);
        all.retain(|hook| !hook.url.starts_with(URL));
        all
    }

    /// Every topic of ours with how often it is there.
    fn topics(&self, name: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.ours(name)
            .iter()
            .flat_map(|hook| &hook.topics)
            .for_each(|topic| *counts.entry(topic.clone()).or_default() += 1);
        counts
    }

    /// Every delivery fails until the vendor has had enough.
    fn fail_deliveries(&self, orders: usize) {
        self.sandbox.take_hooks();
        for _ in 0..orders {
            self.sandbox.place_order(self.clock.now(), "shop", &new_order());
            self.clock.advance(1000);
            for delivery in self.sandbox.take_hooks().iter().filter(|delivery| delivery.url.starts_with(URL)) {
                self.sandbox.hook_answered(delivery, 503);
            }
        }
    }
}

fn new_order() -> NewOrder {
    order("ana@example.test", "pending")
}

fn once(topics: &[&str]) -> BTreeMap<String, usize> {
    topics.iter().map(|topic| ((*topic).to_owned(), 1)).collect()
}

fn states(report: &HookReport) -> BTreeSet<Standing> {
    report.subscriptions.iter().map(|entry| entry.state).collect()
}

const WOO: [&str; 7] = [
    "customer.created",
    "customer.deleted",
    "customer.updated",
    "order.created",
    "order.deleted",
    "order.restored",
    "order.updated",
];
const SHOPIFY: [&str; 15] = [
    "customers/create",
    "customers/delete",
    "customers/update",
    "orders/cancelled",
    "orders/create",
    "orders/delete",
    "orders/edited",
    "orders/fulfilled",
    "orders/paid",
    "orders/partially_fulfilled",
    "orders/updated",
    "refunds/create",
    "fulfillments/create",
    "fulfillments/update",
    "fulfillment_events/create",
];
/// What a desk's webhook tells of, after `zen:event-type:ticket.`.
const DESK: [&str; 13] = [
    "created",
    "custom_field_changed",
    "custom_status_changed",
    "external_id_changed",
    "marked_as_spam",
    "merged",
    "permanently_deleted",
    "priority_changed",
    "requester_changed",
    "soft_deleted",
    "status_changed",
    "subject_changed",
    "undeleted",
];
const TRIGGER: &str = "conditional_ticket_events";
const CHAT: [&str; 7] = [
    "contact_created",
    "contact_updated",
    "conversation_created",
    "conversation_status_changed",
    "conversation_updated",
    "message_created",
    "message_updated",
];

/// Given a provider that drops our subscription after failures, then it is noticed and restored, never doubled.
#[tokio::test]
async fn r26_a_dropped_subscription_is_restored_and_never_doubled() {
    for (vendor, topics) in [(Vendor::Woocommerce, WOO.as_slice()), (Vendor::Shopify, SHOPIFY.as_slice())] {
        let mut lab = site(vendor).await;
        lab.config.connections.get_mut("shop").expect("the shop").keep_hooks = true;
        let keep = async |lab: &Lab| {
            let engine = lab.engine(lab.network());
            let worker = engine.worker().await.expect("nobody else works");
            let mut kept = worker.keep_hooks().await.expect("it looks");
            worker.close().await.expect("it ends");
            assert_eq!(kept.len(), 1, "the chat's are left alone");
            kept.remove(0).1.expect("the vendor answers")
        };
        let first = keep(&lab).await;
        assert_eq!((first.done.len(), lab.topics("shop")), (topics.len(), once(topics)));
        let others = lab.others("shop");
        // WooCommerce disables after seven failures in a row, Shopify removes after nine.
        lab.fail_deliveries(9);
        let dropped = lab.hooks("shop", HookWish::Look).await.expect("it looks");
        assert!(!dropped.is_well(), "{dropped:?}");
        let off = dropped.subscriptions.iter().filter(|entry| !entry.state.is_well()).count();
        assert_eq!(off, 2, "an order tells of its creation and of a change: {dropped:?}");
        assert!(states(&dropped).is_subset(&BTreeSet::from([Standing::Active, Standing::Off, Standing::Missing])));
        lab.clock.advance(HOUR);
        let restored = keep(&lab).await;
        assert_eq!((restored.done.len(), restored.is_well()), (2, true), "{restored:?}");
        assert_eq!(lab.topics("shop"), once(topics));
        assert!(lab.ours("shop").iter().all(|hook| hook.status == "active"));
        for _ in 0..3 {
            lab.clock.advance(HOUR);
            assert_eq!(keep(&lab).await.done, []);
        }
        assert_eq!((lab.topics("shop"), lab.others("shop")), (once(topics), others));
        lab.sandbox.take_hooks();
        lab.sandbox.place_order(lab.clock.now(), "shop", &new_order());
        let told = lab.sandbox.take_hooks();
        assert_eq!(told.iter().filter(|delivery| delivery.url == format!("{URL}/hooks/shop")).count(), 2);
    }
}

/// Registered twice: the second time changes nothing, and what is not ours stays as it is.
#[tokio::test]
async fn registering_again_changes_nothing() {
    for (vendor, topics) in [(Vendor::Woocommerce, WOO.as_slice()), (Vendor::Shopify, SHOPIFY.as_slice())] {
        let lab = site(vendor).await;
        let others = lab.others("shop");
        assert_eq!(
            states(&lab.hooks("shop", HookWish::Look).await.expect("it looks")),
            BTreeSet::from([Standing::Missing])
        );
        assert!(lab.sandbox.log().iter().all(|call| !call.effect));
        let first = lab.register("shop").await;
        assert_eq!((first.done.len(), first.is_well(), first.notes.len()), (topics.len(), true, 0), "{first:?}");
        assert_eq!(first.address, format!("{URL}/hooks/shop"));
        let before = lab.ours("shop");
        assert!(before.iter().all(|hook| hook.secret == SECRET));
        let second = lab.register("shop").await;
        assert_eq!((second.done, lab.sandbox.log().iter().filter(|call| call.effect).count()), (vec![], 0));
        assert_eq!((lab.ours("shop"), lab.others("shop")), (before, others.clone()));
        let removed = lab.hooks("shop", HookWish::Remove).await.expect("it removes");
        assert_eq!((removed.done.len(), removed.subscriptions.len(), removed.is_well()), (topics.len(), 0, true));
        assert_eq!((lab.ours("shop"), lab.others("shop")), (vec![], others));
    }
}

/// Only topics whose stream a sync or a flow uses are subscribed to; what else of ours is there stays.
#[tokio::test]
async fn only_what_is_used_is_subscribed_to() {
    let mut lab = site(Vendor::Woocommerce).await;
    lab.config.flows.clear();
    lab.register("shop").await;
    assert_eq!(lab.topics("shop"), once(&WOO[..3]));
    lab.config.flows = vec![flow(EventKind::OrderCreated, ActKind::Send, Some("order-confirmation"))];
    lab.config.syncs.clear();
    let report = lab.register("shop").await;
    assert_eq!((report.done.len(), lab.topics("shop")), (4, once(&WOO)));
    assert_eq!(states(&report), BTreeSet::from([Standing::Active, Standing::Unused]));
    assert!(report.is_well());
    lab.config.flows.clear();
    assert!(lab.hooks("shop", HookWish::Look).await.expect("it looks").notes[0].contains("no sync and no flow"));
}

/// The answer to a change is lost: it is looked up before anything is tried again.
#[tokio::test]
async fn a_change_without_an_answer_is_looked_up() {
    for vendor in [Vendor::Woocommerce, Vendor::Shopify] {
        for after_effect in [true, false] {
            for cuts in [1, 3] {
                let lab = site(vendor).await;
                let report = lab.register_cut("shop", after_effect, cuts).await.expect("it registers");
                let topics = lab.topics("shop");
                assert!(topics.values().all(|n| *n == 1), "{topics:?}");
                assert_eq!((report.done.len(), report.is_well()), (topics.len(), true), "{report:?}");
                let made: BTreeSet<_> = report.done.iter().flat_map(HookStep::topics).cloned().collect();
                assert_eq!(made, topics.into_keys().collect());
            }
        }
        let lab = site(vendor).await;
        let failed = lab.register_cut("shop", false, 1_000).await;
        assert!(matches!(failed, Err(EngineError::Vendor { .. })), "{failed:?}");
        assert!(lab.ours("shop").is_empty());
        let lab = site(vendor).await;
        let report = lab.register_cut("shop", true, 1_000).await.expect("every look shows what was made");
        assert!(report.is_well() && lab.topics("shop").values().all(|n| *n == 1));
    }
}

/// Given a desk whose webhook was switched off, lost topics or was deleted, then it is restored and never doubled, also where
/// answers are lost; whose are many more stay as they are.
#[tokio::test]
async fn r26_a_desks_webhook_is_restored_and_never_doubled() {
    let mut lab = desk_site(&[]).await;
    lab.config.connections.get_mut("desk").expect("the desk").keep_hooks = true;
    let first = lab.register("desk").await;
    assert_eq!((first.done.len(), lab.topics("desk")), (1, desk_topics()));
    assert!(lab.sandbox.log().iter().all(|call| !call.path.contains("signing_secret")), "there is none to compare");
    assert_eq!(states(&first), BTreeSet::from([Standing::Unverifiable]));
    let secret = lab.ours("desk")[0].secret.clone();
    let note = &first.notes[0];
    assert!(note.contains("set `webhook_secret`") && note.contains("Admin Center"), "{first:?}");
    assert!(!secret.is_empty() && !format!("{first:?}").contains(&secret));
    // The newest are listed first: ours goes to the second page.
    for n in 0..110 {
        lab.sandbox.add_webhook(
            lab.clock.now(),
            "desk",
            &format!("{FOREIGN}more/{n}"),
            &["zen:event-type:user.created"],
        );
    }
    let others = lab.others("desk");
    lab.secret("desk", "webhook_secret", "of-another-webhook");
    assert_eq!(states(&lab.register("desk").await), BTreeSet::from([Standing::Unverifiable]));
    lab.secret("desk", "webhook_secret", &secret);
    let settled = lab.register("desk").await;
    assert_eq!((settled.done.len(), settled.is_well(), settled.notes.len()), (0, true, 0), "{settled:?}");
    let asked: Vec<_> = lab.sandbox.log().into_iter().filter(|call| call.path.contains("signing_secret")).collect();
    assert_eq!(asked.len(), 1, "nobody else's is asked for");
    let keep = async |lab: &Lab| {
        let engine = lab.engine(lab.network());
        let worker = engine.worker().await.expect("nobody else works");
        let mut kept = worker.keep_hooks().await.expect("it looks");
        worker.close().await.expect("it ends");
        kept.remove(0).1.expect("the vendor answers")
    };
    let id = lab.ours("desk")[0].id;
    lab.sandbox.switch_webhook(lab.clock.now(), "desk", id, "inactive");
    let off = lab.hooks("desk", HookWish::Look).await.expect("it looks");
    assert_eq!(
        (states(&off), off.subscriptions[0].said.as_deref()),
        (BTreeSet::from([Standing::Off]), Some("inactive"))
    );
    let restored = keep(&lab).await;
    assert!(matches!(restored.done.as_slice(), [HookStep::Restored { .. }]) && restored.is_well(), "{restored:?}");
    assert_eq!((lab.ours("desk")[0].status.as_str(), lab.topics("desk")), ("active", desk_topics()));
    assert_eq!(keep(&lab).await.done, []);
    for after_effect in [true, false] {
        lab.sandbox.delete_webhook(lab.clock.now(), "desk", lab.ours("desk")[0].id);
        let some = ["zen:event-type:ticket.tags_changed", "zen:event-type:ticket.created"];
        lab.sandbox.add_webhook(lab.clock.now(), "desk", &format!("{URL}/hooks/desk"), &some);
        let filled = lab.register_cut("desk", after_effect, 1).await.expect("it registers");
        assert!(matches!(filled.done.as_slice(), [HookStep::Restored { .. }]), "{filled:?}");
        assert_eq!(lab.ours("desk")[0].topics.len(), 14, "what somebody added stays");
        lab.sandbox.delete_webhook(lab.clock.now(), "desk", lab.ours("desk")[0].id);
        let again = lab.register_cut("desk", after_effect, 1).await.expect("it registers");
        assert_eq!((again.done.len(), lab.topics("desk")), (1, desk_topics()), "{again:?}");
    }
    let removed = lab.hooks("desk", HookWish::Remove).await.expect("it removes");
    assert_eq!((removed.done.len(), removed.is_well()), (1, true), "{removed:?}");
    assert_eq!((lab.ours("desk"), lab.others("desk")), (vec![], others));
}

/// Given a trigger that somebody made by hand for our address, then it is left as it is, and nothing is made beside it while it
/// delivers: the two would be signed with different secrets.
#[tokio::test]
async fn what_hangs_on_a_trigger_is_left_alone() {
    let mut lab = desk_site(&[]).await;
    let now = lab.clock.now();
    lab.sandbox.add_webhook(now, "desk", &format!("{URL}/hooks/desk"), &[TRIGGER]);
    let before = lab.ours("desk");
    let report = lab.register("desk").await;
    assert_eq!((report.done.len(), states(&report)), (0, BTreeSet::from([Standing::Unverifiable])), "{report:?}");
    lab.secret("desk", "webhook_secret", &before[0].secret);
    for wish in [HookWish::Look, HookWish::Keep, HookWish::Remove] {
        let report = lab.hooks("desk", wish).await.expect("it looks");
        assert_eq!((report.done.len(), report.is_well(), report.subscriptions.len()), (0, true, 1), "{report:?}");
        assert!(report.subscriptions[0].by_rule && report.subscriptions[0].topics == [TRIGGER], "{report:?}");
        assert!(
            report.notes[0].contains("left alone") && report.notes[0].contains("delete it there first"),
            "{report:?}"
        );
        assert_eq!(lab.ours("desk"), before);
    }
    // Who switches it off wants another one.
    lab.sandbox.switch_webhook(now, "desk", before[0].id, "inactive");
    let report = lab.register("desk").await;
    assert!(matches!(report.done.as_slice(), [HookStep::Subscribed { .. }]), "{report:?}");
    assert!(report.subscriptions.iter().any(|entry| entry.by_rule && entry.state == Standing::Unused), "{report:?}");
    lab.secret("desk", "webhook_secret", &lab.ours("desk")[1].secret.clone());
    assert!(lab.register("desk").await.is_well());
    // Switched on again, it does not cost ours its place.
    lab.sandbox.switch_webhook(now, "desk", before[0].id, "active");
    assert_eq!((lab.register("desk").await.done.len(), lab.ours("desk").len()), (0, 2));
    lab.hooks("desk", HookWish::Remove).await.expect("it removes");
    assert_eq!(lab.ours("desk"), before);
}

/// Webhooks are for administrators: whoever is none is told so.
#[tokio::test]
async fn an_agent_cannot_make_a_webhook() {
    let lab = desk_site(&[("desk", "role", "agent")]).await;
    let refused = lab.hooks("desk", HookWish::Keep).await;
    let Err(EngineError::Vendor { error, .. }) = refused else { panic!("{refused:?}") };
    assert!(error.message.contains("webhooks are for administrators"), "{error}");
}

/// Two for the same: one stays, the one that delivers.
#[tokio::test]
async fn of_two_for_the_same_one_stays() {
    let lab = site(Vendor::Woocommerce).await;
    let now = lab.clock.now();
    let address = format!("{URL}/hooks/shop");
    lab.register("shop").await;
    let first = lab.ours("shop").iter().find(|hook| hook.topics == ["order.created"]).expect("it is there").id;
    lab.sandbox.add_webhook(now, "shop", &format!("{address}/"), &["order.created"]);
    // Those only look like ours.
    lab.sandbox.add_webhook(now, "shop", &format!("{address}ping"), &["order.created"]);
    lab.sandbox.add_webhook(now, "shop", &format!("{URL}/hooks/other"), &["order.created"]);
    let look = lab.hooks("shop", HookWish::Look).await.expect("it looks");
    assert_eq!(look.subscriptions.iter().filter(|entry| entry.state == Standing::Surplus).count(), 1);
    let report = lab.register("shop").await;
    assert!(matches!(report.done.as_slice(), [HookStep::Deleted { .. }]), "{report:?}");
    let urls: Vec<_> = lab
        .ours("shop")
        .into_iter()
        .filter(|hook| hook.topics == ["order.created"])
        .map(|hook| (hook.id, hook.url))
        .collect();
    assert_eq!(urls.len(), 3);
    assert!(urls.contains(&(first, address.clone())));
    // Now the vendor has switched the first one off.
    lab.sandbox.add_webhook(now, "shop", &format!("{address}/"), &["order.created"]);
    let second = lab.ours("shop").last().expect("it is there").id;
    for _ in 0..7 {
        lab.sandbox.place_order(lab.clock.now(), "shop", &new_order());
        for delivery in lab.sandbox.take_hooks().iter().filter(|delivery| delivery.url == address) {
            lab.sandbox.hook_answered(delivery, 500);
        }
    }
    let report = lab.register("shop").await;
    assert!(matches!(report.done.last(), Some(HookStep::Deleted { id, .. }) if *id == first.to_string()), "{report:?}");
    assert!(report.is_well() && lab.ours("shop").iter().any(|hook| hook.id == second));
}

/// Chatwoot makes the secret itself: the operator is told to set it, and it is shown nowhere.
#[tokio::test]
async fn a_secret_that_the_vendor_makes_is_asked_for_and_not_shown() {
    let mut lab = site(Vendor::Woocommerce).await;
    lab.sandbox.add_webhook(lab.clock.now(), "chat", FOREIGN, &["message_created"]);
    let report = lab.register("chat").await;
    assert_eq!((lab.topics("chat"), states(&report)), (once(&CHAT), BTreeSet::from([Standing::Unverifiable])));
    let secret = lab.ours("chat")[0].secret.clone();
    assert!(!secret.is_empty());
    assert!(report.notes.iter().any(|note| note.contains("webhook_secret")), "{report:?}");
    assert!(!format!("{report:?}").contains(&secret) && !report.is_well());
    lab.secret("chat", "webhook_secret", &secret);
    let report = lab.register("chat").await;
    assert_eq!((report.done.len(), report.is_well(), report.notes.len()), (0, true, 0), "{report:?}");
    assert_eq!(lab.others("chat").len(), 1);
    // Somebody of the staff deletes it; the new one has a new secret.
    lab.sandbox.delete_webhook(lab.clock.now(), "chat", lab.ours("chat")[0].id);
    lab.clock.advance(HOUR);
    let report = lab.register("chat").await;
    assert_eq!((lab.topics("chat"), states(&report)), (once(&CHAT), BTreeSet::from([Standing::Unverifiable])));
}

/// Given two webhooks for our address, of which one is signed with the secret that is set here, then that one stays and gets what
/// it lacks, wherever it stands in the list, and the other one goes.
#[tokio::test]
async fn of_two_webhooks_the_one_that_can_be_verified_stays() {
    for known in [0, 1] {
        for topics in [&CHAT[..], &CHAT[..3]] {
            let mut lab = site(Vendor::Woocommerce).await;
            let address = format!("{URL}/hooks/chat");
            // To Chatwoot a slash more makes another address.
            for (at, url) in [address.clone(), format!("{address}/")].iter().enumerate() {
                let topics = if at == known { topics } else { &CHAT[..] };
                lab.sandbox.add_webhook(lab.clock.now(), "chat", url, topics);
            }
            let ours = lab.ours("chat");
            let (kept, other) = (&ours[known], &ours[1 - known]);
            assert!(kept.secret != other.secret && !other.secret.is_empty());
            lab.secret("chat", "webhook_secret", &kept.secret);
            let what = format!("{known} {} topics", topics.len());
            let look = lab.hooks("chat", HookWish::Look).await.expect("it looks");
            let standing = |id: u64| look.subscriptions.iter().find(|entry| entry.id == Some(id.to_string()));
            assert_eq!(standing(other.id).map(|entry| entry.state), Some(Standing::Surplus), "{what} {look:?}");
            let report = lab.register("chat").await;
            assert!(report.is_well() && report.notes.is_empty(), "{what} {report:?}");
            let left = lab.ours("chat");
            assert_eq!((left.len(), left[0].id, &left[0].secret), (1, kept.id, &kept.secret), "{what} {report:?}");
            assert_eq!(lab.topics("chat"), once(&CHAT), "{what}");
            assert_eq!(lab.register("chat").await.done, [], "{what}");
        }
    }
}

/// Given two webhooks for our address and a secret that is neither's, then nothing is deleted: whether one of them delivers to
/// somebody cannot be told, and the operator is told what to set.
#[tokio::test]
async fn of_two_webhooks_that_nobody_can_verify_none_is_deleted() {
    let mut lab = site(Vendor::Woocommerce).await;
    let address = format!("{URL}/hooks/chat");
    for url in [address.clone(), format!("{address}/")] {
        lab.sandbox.add_webhook(lab.clock.now(), "chat", &url, &CHAT);
    }
    lab.secret("chat", "webhook_secret", "the-secret-of-another-webhook");
    let before = lab.ours("chat");
    let report = lab.register("chat").await;
    assert_eq!((report.done.len(), report.is_well()), (0, false), "{report:?}");
    assert!(states(&report).contains(&Standing::Unverifiable), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("webhook_secret")), "{report:?}");
    assert_eq!(lab.ours("chat"), before);
}

/// One webhook has all topics: those that it lacks are added, and the address may end in a secret.
#[tokio::test]
async fn one_webhook_for_all_gets_what_it_lacks() {
    let mut lab = site(Vendor::Woocommerce).await;
    lab.secret("chat", "webhook_path_secret", PATH_SECRET);
    let now = lab.clock.now();
    let address = format!("{URL}/hooks/chat/{PATH_SECRET}");
    lab.sandbox.add_webhook(now, "chat", &address, &["webwidget_triggered", "contact_created"]);
    lab.sandbox.add_webhook(now, "chat", &format!("{URL}/hooks/chat/an-older-text"), &CHAT);
    let look = lab.hooks("chat", HookWish::Look).await.expect("it looks");
    assert_eq!(states(&look), BTreeSet::from([Standing::Incomplete, Standing::Surplus]));
    let report = lab.register("chat").await;
    assert!(matches!(report.done.as_slice(), [HookStep::Restored { .. }, HookStep::Deleted { .. }]), "{report:?}");
    assert_eq!((report.address.as_str(), report.is_well()), ("https://hooks.example.test/hooks/chat/…", true));
    let ours = lab.ours("chat");
    assert_eq!((ours.len(), ours[0].url.as_str(), ours[0].topics.len()), (1, address.as_str(), 8));
    assert!(!format!("{report:?}").contains(PATH_SECRET));
    assert_eq!(lab.register("chat").await.done, []);
    // Restored after a deletion with a cut, still once.
    lab.sandbox.delete_webhook(now, "chat", ours[0].id);
    assert!(lab.register_cut("chat", true, 1).await.expect("it registers").is_well());
    assert_eq!(lab.topics("chat"), once(&CHAT));
    assert!(lab.hooks("chat", HookWish::Remove).await.expect("it removes").is_well());
    assert!(lab.ours("chat").is_empty());
}

/// What cannot be done says what to do instead.
#[tokio::test]
async fn what_cannot_be_done_says_what_to_do() {
    let systems = [
        ("chatway", Vendor::Chatway),
        ("crm", Vendor::Crm),
        ("hubspot", Vendor::Hubspot),
        ("medusa", Vendor::Medusa),
        ("rt", Vendor::Rt),
        ("shop", Vendor::Woocommerce),
    ];
    let mut lab = Lab::new(&systems).await;
    let refused = |outcome: Result<HookReport, EngineError>| match outcome {
        Err(EngineError::Hooks { keys, message, help }) => (keys.join("."), format!("{message}; {help}")),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(lab.hooks("shop", HookWish::Look).await).0, "serve.public_url");
    lab.config.serve.public_url = Some(URL.to_owned());
    let (keys, words) = refused(lab.hooks("shop", HookWish::Keep).await);
    assert!(keys == "connections.shop" && words.contains("`webhook_secret`"), "{words}");
    for (name, words) in [
        ("chatway", "takes no webhooks"),
        ("crm", "takes no webhooks"),
        ("hubspot", "app's settings"),
        ("medusa", "add the subscriber"),
        ("rt", "takes no webhooks"),
    ] {
        let (keys, told) = refused(lab.hooks(name, HookWish::Keep).await);
        assert!(keys.is_empty() && told.contains(words), "{name}: {told}");
    }
    lab.config.connections.get_mut("shop").expect("the shop").read_only = true;
    assert_eq!(refused(lab.hooks("shop", HookWish::Remove).await).0, "connections.shop.read_only");
    // Together they are told of, and nothing is changed.
    let reports = lab.engine(lab.network()).hooks(&[], HookWish::Keep).await.expect("it tells");
    assert_eq!(reports.iter().filter(|report| report.why_not.is_some()).count(), 5);
    let lacking: Vec<_> = reports.iter().filter_map(|report| report.error.as_deref()).collect();
    assert!(matches!(lacking.as_slice(), [words] if words.contains("read_only")), "{lacking:?}");
    assert!(lab.sandbox.log().is_empty());
    assert!(matches!(lab.hooks("nowhere", HookWish::Look).await, Err(EngineError::NoSuchConnection(_))));
}

/// A topic that the vendor refuses does not cost the others, and one vendor that does not answer costs no other one.
#[tokio::test]
async fn a_refusal_costs_nothing_else() {
    let denied = ("shop", "denied_topics", "customers/create,refunds/create");
    let mut lab = site_with(Vendor::Shopify, &[("shop", "webhook_topics", "app/uninstalled"), denied]).await;
    lab.secret("chat", "api_access_token", "wrong");
    let reports = lab.engine(lab.network()).hooks(&[], HookWish::Keep).await.expect("it registers");
    let [chat, shop] = reports.as_slice() else { panic!("{reports:?}") };
    assert!(chat.error.is_some() && !chat.is_well(), "{chat:?}");
    assert_eq!((shop.done.len(), shop.notes.len(), shop.is_well()), (13, 2, false), "{shop:?}");
    assert!(shop.notes[0].contains("customers/create") && shop.notes[0].contains("cannot create"), "{shop:?}");
    let missing = shop.subscriptions.iter().filter(|entry| entry.state == Standing::Missing).count();
    assert_eq!((missing, lab.topics("shop").len()), (2, 13));
    assert!(matches!(lab.hooks("chat", HookWish::Look).await, Err(EngineError::Vendor { .. })));
}

/// Two that register at once would make everything twice: the second one is told who is at it.
#[tokio::test]
async fn one_registers_at_a_time() {
    let lab = site(Vendor::Woocommerce).await;
    let now = lab.clock.now();
    lab.store.lease("hooks:shop", "elsewhere:1:0", now, HOUR).await.expect("the store answers").expect("free");
    let refused = lab.hooks("shop", HookWish::Keep).await;
    assert!(matches!(refused, Err(EngineError::Busy { .. })), "{refused:?}");
    assert!(lab.hooks("shop", HookWish::Look).await.is_ok());
    lab.store.release_lease("hooks:shop", "elsewhere:1:0").await.expect("the store answers");
    // A sync that holds the connection is not in the way.
    lab.store.lease("connection:shop", "elsewhere:1:0", now, HOUR).await.expect("the store answers").expect("free");
    assert!(lab.register("shop").await.is_well());
}

/// A webhook whose address ends in the right secret is taken, also where a signing secret is set.
#[tokio::test]
async fn a_right_secret_in_the_address_is_enough() {
    let mut lab = site(Vendor::Woocommerce).await;
    lab.secret("chat", "webhook_secret", "the-secret-of-another-webhook");
    lab.secret("chat", "webhook_path_secret", PATH_SECRET);
    let now = lab.clock.now();
    lab.sandbox.add_webhook(now, "chat", &format!("{URL}/hooks/chat/{PATH_SECRET}"), &CHAT);
    let before = lab.ours("chat");
    let report = lab.register("chat").await;
    assert!(report.done.is_empty() && report.is_well(), "{report:?}");
    assert_eq!(lab.ours("chat"), before);
}

/// What delivers at an old address stays as long as its replacement is refused.
#[tokio::test]
async fn nothing_is_deleted_before_its_replacement_delivers() {
    let denied = ("shop", "denied_topics", "customers/create,fulfillments/create");
    let lab = site_with(Vendor::Shopify, &[("shop", "webhook_topics", "app/uninstalled"), denied]).await;
    let now = lab.clock.now();
    let old = format!("{URL}/hooks/shop/an-older-text");
    lab.sandbox.add_webhook(now, "shop", &old, &["customers/create"]);
    lab.sandbox.add_webhook(now, "shop", &old, &["orders/create"]);
    let report = lab.register("shop").await;
    let left: Vec<_> = lab.ours("shop").into_iter().filter(|hook| hook.url == old).collect();
    assert!(left.len() == 1 && left[0].topics == ["customers/create"], "{left:?}");
    assert!(!report.is_well() && lab.topics("shop")["orders/create"] == 1, "{report:?}");
    let fulfilled = report.notes.iter().find(|note| note.contains("fulfillments/create")).expect("it is told of");
    assert!(fulfilled.contains("read_fulfillments"), "{fulfilled}");
    let people = report.notes.iter().find(|note| note.contains("customers/create")).expect("it is told of");
    assert!(!people.contains("read_fulfillments"), "{people}");
}

/// The answer to the first webhook that is made is lost, and the list shows what was made only some seconds later.
struct Lagging {
    network: Arc<InProcess>,
    seen: Mutex<BTreeMap<String, http::Response<Bytes>>>,
    until: AtomicI64,
}

#[async_trait]
impl Transport for Lagging {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let (method, address) = (request.method().clone(), request.uri().to_string());
        let now = self.network.clock.now();
        if method == http::Method::GET && now < self.until.load(Ordering::SeqCst) {
            let old = self.seen.lock().expect("no panic").get(&address).cloned();
            return Ok(old.expect("the list was read before"));
        }
        let answer = self.network.send(request).await?;
        if method == http::Method::GET {
            self.seen.lock().expect("no panic").insert(address, answer.clone());
        } else if self.until.load(Ordering::SeqCst) == 0 {
            self.until.store(now + 20_000, Ordering::SeqCst);
            return Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() });
        }
        Ok(answer)
    }
}

/// Given a list that lags, then a webhook whose making was not answered is waited for before it is made again.
#[tokio::test]
async fn a_webhook_that_shows_late_is_not_made_twice() {
    let lab = site(Vendor::Woocommerce).await;
    let (seen, until) = (Mutex::default(), AtomicI64::new(0));
    let network = Arc::new(Lagging { network: lab.network(), seen, until });
    let reports = lab.engine(network).hooks(&["shop".to_owned()], HookWish::Keep).await.expect("it registers");
    assert_eq!(lab.topics("shop"), once(&WOO));
    assert!(reports[0].is_well() && reports[0].done.len() == WOO.len(), "{reports:?}");
}

/// Somebody deletes a webhook just before it is to be switched on; every change takes ten minutes, and another process
/// tries to get at it meanwhile.
struct Slow {
    network: Arc<InProcess>,
    store: Store,
    lost: AtomicU64,
}

#[async_trait]
impl Transport for Slow {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        if request.method() == http::Method::GET {
            return self.network.send(request).await;
        }
        if request.method() == http::Method::PUT {
            let (parts, _) = request.clone().into_parts();
            let mut gone = http::Request::from_parts(parts, Bytes::new());
            *gone.method_mut() = http::Method::DELETE;
            *gone.uri_mut() = format!("{}?force=true", request.uri()).parse().expect("an address");
            self.network.send(gone).await?;
        }
        self.network.clock.advance(10 * MINUTE);
        let now = self.network.clock.now();
        let taken = self.store.lease("hooks:shop", "elsewhere:1:0", now, HOUR).await.expect("the store answers");
        self.lost.fetch_add(u64::from(taken.is_some()), Ordering::SeqCst);
        self.network.send(request).await
    }
}

/// Given a vendor that takes long, then nobody else comes in between; what is gone instead of off is reported once, as made.
#[tokio::test]
async fn whoever_keeps_webhooks_keeps_the_lease() {
    let mut lab = site(Vendor::Woocommerce).await;
    lab.config.connections.get_mut("shop").expect("the shop").keep_hooks = true;
    let keep = async |lab: &Lab| {
        let network = Arc::new(Slow { network: lab.network(), store: lab.store.clone(), lost: AtomicU64::new(0) });
        let engine = lab.engine(network.clone());
        let worker = engine.worker().await.expect("nobody else works");
        let kept = worker.keep_hooks().await.expect("it looks").remove(0).1.expect("the vendor answers");
        worker.close().await.expect("it ends");
        assert_eq!(network.lost.load(Ordering::SeqCst), 0);
        kept
    };
    assert_eq!(keep(&lab).await.done.len(), WOO.len());
    lab.fail_deliveries(9);
    let again = keep(&lab).await;
    let made = again.done.iter().filter(|step| matches!(step, HookStep::Subscribed { .. })).count();
    assert_eq!((again.done.len(), made, again.is_well()), (2, 2, true), "{again:?}");
    assert_eq!(lab.topics("shop"), once(&WOO));
    // What is removed by hand comes back, which is said.
    let removed = lab.hooks("shop", HookWish::Remove).await.expect("it removes");
    assert!(removed.notes.iter().any(|note| note.contains("hooks = \"keep\"")), "{removed:?}");
}
