//! The whole way with a real Medusa 2 from the npm registry: run with `COUNTERPART_REAL_MEDUSA=1`, on a machine with Node.js
//! and PostgreSQL. Installs it into a temporary folder, or takes the `node_modules` of the folder that
//! `COUNTERPART_MEDUSA_DIR` names; listens on loopback only, and ends what it started.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use counterpart::store::{HookState, MessageState, Store, StoreOptions};
use counterpart_connectors::conformance::{Target, run};
use counterpart_connectors::{Clock, ConnectionSpec, LiveTransport, SystemClock, Transport};
use counterpart_sandbox::{TOKEN, Vendor};
use serde_json::{Value, json};

use crate::postgres::{TestDatabase, database, free_port};
use crate::requirements::lab::{Lab, someone};
use crate::serve::{live, until};

/// Says where an installed Medusa is.
const INSTALLED: &str = "COUNTERPART_MEDUSA_DIR";
/// Ends the address that the shop's subscriber posts to.
const SECRET: &str = "a-long-random-text";
/// What a shop is made of, as its documentation says.
const PACKAGE: &str = r#"{
  "name": "shop", "version": "1.0.0", "private": true,
  "dependencies": {
    "@medusajs/medusa": "2.21.2", "@medusajs/framework": "2.21.2", "@medusajs/cli": "2.21.2",
    "@medusajs/admin-sdk": "2.21.2", "@medusajs/js-sdk": "2.21.2", "@swc/core": "*", "typescript": "*"
  }
}"#;
const SETTINGS: &str = r#"const { defineConfig } = require("@medusajs/framework/utils")
module.exports = defineConfig({
  admin: { disable: true },
  projectConfig: {
    databaseUrl: process.env.DATABASE_URL,
    http: { storeCors: "*", adminCors: "*", authCors: "*", jwtSecret: "jwt", cookieSecret: "cookie" },
  },
})
"#;
/// Runs a program until its own input ends, which it does when the test goes away for whatever reason.
const KEEPER: &str = r#"
"$@" </dev/null & kept=$!
read -r _
kill -9 "$kept"
wait "$kept"
"#;

/// A program that ends with this.
struct Kept(Child);

impl Kept {
    fn start(program: &Path, arguments: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Kept {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(program).args(arguments).current_dir(folder);
        keeper.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Kept(keeper.spawn().expect("sh is there"))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Runs to its end and must succeed.
fn finish(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().expect("it starts");
    let said = [String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)].concat();
    assert!(done.status.success(), "{command:?}: {said}");
}

/// The subscriber, word for word as it is documented.
fn documented_subscriber() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/medusa/BEHAVIOR.md");
    let text = std::fs::read_to_string(path).expect("the documentation is there");
    let (_, rest) = text.split_once("```js\n").expect("it shows the subscriber");
    rest.split_once("```").expect("which ends").0.to_owned()
}

/// A shop of one region, one stock and one way to ship.
struct Shop {
    // What runs ends before what it runs on.
    server: Option<Kept>,
    folder: tempfile::TempDir,
    database: TestDatabase,
    port: u16,
    hook: String,
    live: LiveTransport,
    token: String,
    /// The secret key of the connection.
    key: String,
    region: String,
    channel: String,
    location: String,
    shipping: String,
}

impl Shop {
    async fn open(hook: String) -> Shop {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("src/subscribers")).expect("it is writable");
        for (name, text) in [
            ("package.json", PACKAGE),
            ("medusa-config.js", SETTINGS),
            ("src/subscribers/counterpart.js", &documented_subscriber()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("it is writable");
        }
        let mut shop = Shop {
            folder,
            database: database().await,
            port: free_port(),
            hook,
            server: None,
            live: live(),
            token: String::new(),
            key: String::new(),
            region: String::new(),
            channel: String::new(),
            location: String::new(),
            shipping: String::new(),
        };
        shop.install();
        finish(&mut shop.command(&["db:migrate"]));
        finish(&mut shop.command(&["user", "-e", "admin@example.test", "-p", "supersecret"]));
        shop.start().await;
        shop.furnish().await;
        shop
    }

    fn install(&self) {
        let modules = self.folder.path().join("node_modules");
        match std::env::var_os(INSTALLED) {
            Some(folder) => {
                let installed = PathBuf::from(folder).join("node_modules");
                assert!(installed.join("@medusajs/medusa").is_dir(), "{INSTALLED} has no Medusa: {installed:?}");
                std::os::unix::fs::symlink(installed, modules).expect("it is writable");
            }
            None => {
                println!("installing Medusa; this takes minutes, set {INSTALLED} to keep it");
                let mut npm = Command::new("npm");
                finish(
                    npm.args(["install", "--no-audit", "--no-fund", "--legacy-peer-deps"]).current_dir(&self.folder),
                );
            }
        }
    }

    fn cli(&self) -> String {
        self.folder.path().join("node_modules/@medusajs/cli/cli.js").display().to_string()
    }

    fn environment(&self) -> [(&str, &str); 4] {
        [
            ("MEDUSA_DISABLE_TELEMETRY", "true"),
            ("NODE_ENV", "development"),
            ("DATABASE_URL", &self.database.url),
            ("COUNTERPART_HOOK", &self.hook),
        ]
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut node = Command::new("node");
        node.arg(self.cli()).args(arguments).current_dir(&self.folder).envs(self.environment());
        node
    }

    async fn start(&mut self) {
        let (cli, port) = (self.cli(), self.port.to_string());
        let arguments = [&cli, "start", "-H", "127.0.0.1", "-p", &port];
        self.server = Some(Kept::start(Path::new("node"), &arguments, self.folder.path(), &self.environment()));
        until("Medusa", async || {
            let request = http::Request::get(format!("{}/health", self.address())).body(Bytes::new()).unwrap();
            self.live.send(request).await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Ends it as a power cut would: its events are in memory.
    fn kill(&mut self) {
        self.server = None;
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn ask(&self, method: &str, path: &str, body: &Value, authorization: &str) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address()))
            .header("content-type", "application/json")
            .header("authorization", authorization)
            .body(if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) })
            .expect("a request");
        let answer = self.live.send(request).await.expect("it answers");
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    /// What somebody of the shop does.
    async fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body, &format!("Bearer {}", self.token)).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.admin("POST", path, &body).await
    }

    async fn furnish(&mut self) {
        let login = json!({ "email": "admin@example.test", "password": "supersecret" });
        let (_, answer) = self.ask("POST", "/auth/user/emailpass", &login, "").await;
        self.token = id(&answer["token"]);
        let key = self.post("/admin/api-keys", json!({ "title": "Counterpart", "type": "secret" })).await;
        self.key = id(&key["api_key"]["token"]);
        let region = json!({
            "name": "EU", "currency_code": "eur", "countries": ["se"], "payment_providers": ["pp_system_default"],
        });
        self.region = id(&self.post("/admin/regions", region).await["region"]["id"]);
        let channel = self.post("/admin/sales-channels", json!({ "name": "web" })).await;
        self.channel = id(&channel["sales_channel"]["id"]);
        let stock = self.post("/admin/stock-locations", json!({ "name": "here" })).await;
        self.location = id(&stock["stock_location"]["id"]);
        let at = format!("/admin/stock-locations/{}", self.location);
        self.post(&format!("{at}/fulfillment-providers"), json!({ "add": ["manual_manual"] })).await;
        let sets = format!("{at}/fulfillment-sets?fields=*fulfillment_sets");
        let set = self.post(&sets, json!({ "name": "parcels", "type": "shipping" })).await;
        let set = id(&set["stock_location"]["fulfillment_sets"][0]["id"]);
        let zone = json!({ "name": "SE", "geo_zones": [{ "type": "country", "country_code": "se" }] });
        let zone = self.post(&format!("/admin/fulfillment-sets/{set}/service-zones"), zone).await;
        let profiles = self.admin("GET", "/admin/shipping-profiles", &Value::Null).await;
        let option = json!({
            "name": "Post", "service_zone_id": zone["fulfillment_set"]["service_zones"][0]["id"],
            "shipping_profile_id": profiles["shipping_profiles"][0]["id"], "provider_id": "manual_manual",
            "price_type": "flat", "type": { "label": "Post", "description": "Post", "code": "post" },
            "prices": [{ "currency_code": "eur", "amount": 0 }],
        });
        self.shipping = id(&self.post("/admin/shipping-options", option).await["shipping_option"]["id"]);
    }

    /// Somebody buys two cups.
    async fn order(&self, email: &str) -> String {
        let draft = json!({
            "email": email, "region_id": self.region, "sales_channel_id": self.channel,
            "shipping_address": { "first_name": "Ana", "last_name": "Lind", "country_code": "se" },
            "items": [{ "title": "Cup", "quantity": 2, "unit_price": 12.5 }],
        });
        let order = id(&self.post("/admin/draft-orders", draft).await["draft_order"]["id"]);
        self.post(&format!("/admin/draft-orders/{order}/convert-to-order"), Value::Null).await;
        order
    }

    /// The order as a single read tells it, and whose it is.
    async fn read(&self, order: &str) -> Value {
        self.admin("GET", &format!("/admin/orders/{order}?fields=%2Bemail"), &Value::Null).await["order"].take()
    }

    /// Both cups in one parcel, which has not left.
    async fn pack(&self, order: &str) -> String {
        let line = self.read(order).await["items"][0]["id"].take();
        let parcel = json!({
            "items": [{ "id": line, "quantity": 2 }], "location_id": self.location, "shipping_option_id": self.shipping,
        });
        self.post(&format!("/admin/orders/{order}/fulfillments"), parcel).await;
        id(&self.read(order).await["fulfillments"][0]["id"])
    }

    async fn send(&self, order: &str, parcel: &str, number: &str) {
        let line = self.read(order).await["items"][0]["id"].take();
        // The admin writes `#` where there is no address.
        let label = json!({ "tracking_number": number, "tracking_url": "#", "label_url": "#" });
        let shipment = json!({ "items": [{ "id": line, "quantity": 2 }], "labels": [label] });
        self.post(&format!("/admin/orders/{order}/fulfillments/{parcel}/shipments"), shipment).await;
    }

    async fn deliver(&self, order: &str, parcel: &str) {
        self.post(&format!("/admin/orders/{order}/fulfillments/{parcel}/mark-as-delivered"), json!({})).await;
    }

    /// Paid in full; the payment.
    async fn pay(&self, order: &str) -> String {
        let debt = self.post("/admin/payment-collections", json!({ "order_id": order, "amount": 25 })).await;
        let debt = id(&debt["payment_collection"]["id"]);
        let by_hand = format!("/admin/payment-collections/{debt}/mark-as-paid");
        self.post(&by_hand, json!({ "order_id": order })).await;
        id(&self.read(order).await["payment_collections"][0]["payments"][0]["id"])
    }

    async fn refund(&self, payment: &str, amount: u32) {
        self.post(&format!("/admin/payments/{payment}/refund"), json!({ "amount": amount })).await;
    }

    async fn cancel(&self, order: &str) {
        self.post(&format!("/admin/orders/{order}/cancel"), json!({})).await;
    }

    /// When the order changed, as it says itself.
    async fn changed_at(&self, order: &str) -> String {
        id(&self.read(order).await["updated_at"])
    }
}

fn id(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The chat, the configuration and the program.
struct Site {
    daemon: Option<Kept>,
    lab: Lab,
    folder: tempfile::TempDir,
    store: Store,
    key: String,
    /// Messages that were looked at.
    heard: usize,
}

impl Site {
    async fn open(shop: &Shop, port: u16) -> Site {
        let lab = Lab::new(&[("chat", Vendor::Chatwoot)]).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let chat = listener.local_addr().expect("an address");
        tokio::spawn(counterpart_sandbox::serve(lab.sandbox.clone(), listener, std::future::pending()));
        let flows = [
            ("order.created", "order-confirmation"),
            ("order.paid", "payment-received"),
            ("order.refunded", "order-refunded"),
            ("order.cancelled", "order-cancelled"),
            ("shipment.created", "shipped"),
            ("shipment.delivered", "delivered"),
        ];
        let flow =
            |(on, text)| format!("[[flows]]\non = \"{on}\"\nfrom = \"shop\"\nsend = \"{text}\"\nto = \"chat\"\n");
        // Nothing but a webhook tells what happens after the first reading.
        let config = format!(
            "[serve]\nlisten = \"127.0.0.1:{port}\"\npoll = \"1h\"\n[store]\nurl = \"sqlite://serve.db\"\n\
             [connections.chat]\nconnector = \"chatwoot\"\nbase_url = \"http://{chat}/chat\"\naccount_id = 1\n\
             api_access_token = {{ env = \"CHAT_TOKEN\" }}\nrequests_per_minute = 3000\n\
             [connections.shop]\nconnector = \"medusa\"\nbase_url = \"{}\"\nauth = \"basic\"\n\
             api_key = {{ env = \"SHOP_KEY\" }}\nwebhook_secret = {{ env = \"SHOP_SECRET\" }}\n\
             requests_per_minute = 3000\n\
             [[syncs]]\nname = \"people\"\nkind = \"contact\"\nbetween = [\"chat\", \"shop\"]\n{}",
            shop.address(),
            flows.map(flow).concat()
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("counterpart.toml"), config).expect("the configuration is written");
        let url = format!("sqlite://{}/serve.db", folder.path().display());
        let options = StoreOptions { url, tenant: "default".to_owned() };
        let store = Store::open(&options).await.expect("the store opens");
        store.migrate().await.expect("the schema applies");
        Site { lab, folder, store, key: shop.key.clone(), daemon: None, heard: 0 }
    }

    fn environment(&self) -> [(&str, &str); 3] {
        [("CHAT_TOKEN", TOKEN), ("SHOP_KEY", &self.key), ("SHOP_SECRET", SECRET)]
    }

    /// Runs a command of the program.
    fn program(&self, arguments: &[&str]) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_counterpart"));
        finish(program.args(arguments).current_dir(&self.folder).envs(self.environment()));
    }

    /// Starts the daemon and waits until it has read what there is.
    async fn serve(&mut self) {
        let program = Path::new(env!("CARGO_BIN_EXE_counterpart"));
        let started = SystemClock.now();
        self.daemon = Some(Kept::start(program, &["--quiet", "serve"], self.folder.path(), &self.environment()));
        for (connection, stream) in [("shop", "order"), ("chat", "conversation")] {
            until("the first reading", async || {
                let state = self.store.stream_state(connection, stream).await.expect("the store answers");
                state.last_pull_at.filter(|at| *at >= started)
            })
            .await;
        }
    }

    fn kill(&mut self) {
        self.daemon = None;
    }

    /// What comes into the chat after a step: exactly these messages, of which each has its words.
    async fn hears(&mut self, step: &str, expected: &[&[&str]]) {
        println!("\n== {step}");
        let wanted = self.heard + expected.len();
        until("the message", async || (self.lab.told("chat").len() >= wanted).then_some(())).await;
        until("the end of the inbox", async || {
            (self.store.count_hooks(HookState::Pending).await.expect("the store answers") == 0).then_some(())
        })
        .await;
        // Whoever is killed before the answer came looks for the message later, and says that it is unknown until then.
        until("the answers to the messages", async || {
            let counts = self.store.count_messages().await.expect("the store answers");
            (!counts.contains_key(&MessageState::Sending)).then_some(())
        })
        .await;
        let said = self.lab.told("chat").split_off(self.heard);
        said.iter().for_each(|text| println!("   chat: {}", text.replace('\n', "\n         ")));
        assert_eq!(said.len(), expected.len(), "{step}");
        for words in expected {
            assert!(said.iter().any(|text| words.iter().all(|word| text.contains(word))), "{step}: {words:?}");
        }
        self.heard = wanted;
    }

    /// How often the shop's subscriber was heard.
    async fn events(&self) -> Vec<String> {
        let rows = self.store.hooks(None, 0, 10_000).await.expect("the store answers");
        let name = |body: &str| serde_json::from_str::<Value>(body).map(|body| id(&body["name"]));
        rows.iter().map(|row| name(&row.body).expect("a forwarded event")).collect()
    }
}

/// Secret keys are for basic authentication only, and publishable ones for nothing here.
async fn check_keys(shop: &Shop) {
    let publishable = shop.post("/admin/api-keys", json!({ "title": "web", "type": "publishable" })).await;
    for (name, authorization, expected) in [
        ("secret key, basic", format!("Basic {}", shop.key), 200),
        ("secret key, bearer", format!("Bearer {}", shop.key), 401),
        ("publishable key, basic", format!("Basic {}", id(&publishable["api_key"]["token"])), 401),
    ] {
        let (status, answer) = shop.ask("GET", "/admin/customers?limit=1", &Value::Null, &authorization).await;
        println!("{name}: {status} {}", answer["message"]);
        assert_eq!(status, expected, "{name}");
    }
}

/// Given a real Medusa with the documented subscriber, then whatever happens to an order reaches the customer once: by the
/// subscriber at once, and by reading where its events were lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_medusa_tells_the_customer() {
    if std::env::var_os("COUNTERPART_REAL_MEDUSA").is_none_or(|value| value != "1") {
        println!("not run: COUNTERPART_REAL_MEDUSA=1 installs and starts a Medusa");
        return;
    }
    let port = free_port();
    let mut shop = Shop::open(format!("http://127.0.0.1:{port}/hooks/shop/{SECRET}")).await;
    check_keys(&shop).await;
    let mut site = Site::open(&shop, port).await;
    let sandbox = site.lab.sandbox.clone();
    let ana = sandbox.create(SystemClock.now(), "chat", &someone("Ana", "Lind", "ana@example.test"));
    sandbox.open_chat(SystemClock.now(), "chat", &ana, Some("Hello?"));
    site.program(&["sync"]);
    let customers = shop.admin("GET", "/admin/customers?fields=id,email,first_name", &Value::Null).await;
    println!("after `sync` the shop has {}", customers["customers"]);
    assert_eq!((&customers["count"], &customers["customers"][0]["first_name"]), (&json!(1), &json!("Ana")));
    site.serve().await;

    let first = shop.order("ana@example.test").await;
    site.hears("an order is placed", &[&["Ana", "25.00"]]).await;
    let placed = shop.changed_at(&first).await;
    let parcel = shop.pack(&first).await;
    let packed = shop.changed_at(&first).await;
    shop.send(&first, &parcel, "SE-4711").await;
    site.hears("it is packed, then shipped", &[&["SE-4711"]]).await;
    let shipped = shop.changed_at(&first).await;
    let payment = shop.pay(&first).await;
    site.hears("it is paid", &[&["25.00"]]).await;
    let paid = shop.changed_at(&first).await;
    shop.refund(&payment, 5).await;
    site.hears("a part goes back", &[&["5.00"]]).await;
    let refunded = shop.changed_at(&first).await;
    println!("updated_at: placed {placed}, packed {packed}, shipped {shipped}, paid {paid}, refunded {refunded}");
    assert!(placed < packed && packed < shipped && shipped == paid && paid < refunded);
    assert_eq!(shop.read(&first).await["total"], 20, "what went back is no part of the total");

    println!("\nnobody listens, the shop goes on, and loses its events");
    let before = site.events().await;
    site.kill();
    shop.deliver(&first, &parcel).await;
    let second = shop.order("Ana@Example.test").await;
    shop.kill();
    shop.start().await;
    site.serve().await;
    site.hears("both are back: what was lost is read", &[&["was delivered"], &["25.00"]]).await;
    assert_eq!(site.events().await, before, "no event told of it");
    assert_eq!(shop.read(&second).await["email"], "Ana@Example.test");
    shop.cancel(&second).await;
    site.hears("the second order is cancelled", &[&["cancelled"]]).await;
    println!("\nevents that came: {:?}", site.events().await);

    site.kill();
    site.program(&["sync"]);
    site.hears("another look finds nothing new", &[]).await;
    let spec = ConnectionSpec {
        name: "shop".to_owned(),
        connector: "medusa".to_owned(),
        settings: json!({ "base_url": shop.address(), "auth": "basic" }).as_object().cloned().expect("an object"),
        secrets: [("api_key".to_owned(), shop.key.as_str().into())].into(),
        manifest_dirs: Vec::new(),
    };
    let report = run(Target::new(spec, Arc::new(live()), Arc::new(SystemClock))).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
