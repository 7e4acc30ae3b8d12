//! The whole way with a real Request Tracker 5 from Debian: run with `COUNTERPART_REAL_RT=1`, as root, on a machine that may be
//! changed. Installs it when it is not there, listens on loopback only, ends what it started.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::config::FlowConfig;
use counterpart::engine::Pass;
use counterpart_connectors::conformance::{Target, run};
use counterpart_connectors::{
    ActKind, Clock, ConnectionSpec, LiveOptions, LiveTransport, SystemClock, Transport, TransportError,
};
use counterpart_core::business::EventKind;
use counterpart_sandbox::{Author, Vendor};
use serde_json::{Value, json};

use crate::flows::flow;
use crate::flows_acts::write_text;
use crate::requirements::lab::{Lab, someone};
use crate::sim::InProcess;

const ADDRESS: &str = "http://127.0.0.1:8083/REST/2.0";
const SETTINGS: &str = "Set($WebPath,''); Set($WebDomain,'127.0.0.1'); Set($WebPort,8083); \
    Set($WebBaseURL,'http://127.0.0.1:8083'); Set($RestrictReferrer,0); Set($MailCommand,'testfile'); 1;\n";
/// A field for the chat on every queue, root's password, and Ola, who may do everything. Safe to run twice: what an earlier run
/// left is deleted.
const SETUP: &str = r#"
    use RT; RT::LoadConfig(); RT::Init();
    my $root = RT::User->new(RT->SystemUser); $root->Load("root"); $root->SetPassword("rtpw12345");
    my $cf = RT::CustomField->new(RT->SystemUser); $cf->LoadByCols(Name => "Chat");
    unless ($cf->Id) {
        $cf->Create(Name => "Chat", Type => "FreeformSingle", LookupType => "RT::Queue-RT::Ticket");
        $cf->AddToObject(RT::Queue->new(RT->SystemUser));
    }
    my $ola = RT::User->new(RT->SystemUser); $ola->Load("ola");
    unless ($ola->Id) {
        $ola->Create(Name => "ola", Privileged => 1, EmailAddress => 'ola@example.test');
        $ola->PrincipalObj->GrantRight(Right => "SuperUser", Object => RT->System);
    }
    $ola->SetPassword("rtpw12345");
    my $left = RT::Tickets->new(RT->SystemUser);
    $left->FromSQL("Requestor.EmailAddress = 'ana\@example.test'");
    while (my $ticket = $left->Next) { $ticket->Delete }
"#;

/// Runs to its end and must succeed.
fn sh(command: &mut Command) {
    let done = command.env("DEBIAN_FRONTEND", "noninteractive").output().expect("it starts");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A running Request Tracker; ends with it.
struct Server(Child);

impl Server {
    fn start() -> Server {
        const HOME: &str = "/usr/share/request-tracker5";
        if !std::path::Path::new(HOME).join("libexec/rt-server").exists() {
            sh(Command::new("apt-get").arg("update"));
            let packages = ["request-tracker5", "rt5-db-sqlite", "rt5-standalone"];
            sh(Command::new("apt-get").args(["install", "-y", "--no-install-recommends"]).args(packages));
        }
        std::fs::write("/etc/request-tracker5/RT_SiteConfig.d/99-local.pm", SETTINGS).expect("it is writable");
        sh(Command::new("perl").args(["-I", &format!("{HOME}/lib"), "-e", SETUP]));
        let mut server = Command::new(format!("{HOME}/libexec/rt-server"));
        server.args(["--server", "Starlet", "--host", "127.0.0.1", "--port", "8083", "--max-workers", "2"]);
        Server(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end, it ends its workers too.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The desk is real, the chat is not.
struct Both {
    chat: Arc<InProcess>,
    desk: LiveTransport,
}

#[async_trait]
impl Transport for Both {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        match request.uri().port_u16() {
            Some(8083) => self.desk.send(request).await,
            _ => self.chat.send(request).await,
        }
    }
}

impl Both {
    /// What somebody does at the desk.
    async fn rt(&self, user: &str, method: &str, path: &str, body: &Value) -> Value {
        // Both with the password `rtpw12345`.
        let pair = if user == "root" { "cm9vdDpydHB3MTIzNDU=" } else { "b2xhOnJ0cHcxMjM0NQ==" };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{ADDRESS}{path}"))
            .header("authorization", format!("Basic {pair}"))
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .expect("a request");
        let answer = self.desk.send(request).await.expect("it answers");
        assert!(answer.status().is_success(), "{method} {path}: {answer:?}");
        serde_json::from_slice(answer.body()).unwrap_or_default()
    }

    async fn is_up(&self) -> bool {
        let request = http::Request::get(format!("{ADDRESS}/rt")).body(Bytes::new()).expect("a request");
        self.desk.send(request).await.is_ok()
    }
}

/// The desk of the lab becomes the real one, and its queue that of new tickets.
fn real_desk(lab: &mut Lab) -> ConnectionSpec {
    let desk = lab.config.connections.get_mut("desk").expect("a desk");
    let settings = json!({ "base_url": ADDRESS, "auth": "basic", "user": "root", "queue": "General" });
    desk.settings = settings.as_object().cloned().expect("an object");
    desk.secrets = [("password".to_owned(), "rtpw12345".into())].into();
    ConnectionSpec {
        name: "desk".to_owned(),
        connector: "rt".to_owned(),
        settings: desk.settings.clone(),
        secrets: desk.secrets.clone(),
        manifest_dirs: Vec::new(),
    }
}

async fn work(lab: &Lab, both: &Arc<Both>) -> Pass {
    // The desk lives in real time.
    lab.clock.advance(SystemClock.now() - lab.clock.now());
    let engine = lab.engine(both.clone());
    let worker = engine.worker().await.expect("nobody else works");
    let reports = worker.read().await.expect("it reads");
    assert!(reports.iter().all(|report| report.why.is_none() || report.complete), "{reports:?}");
    let pass = worker.pass().await.expect("it works");
    worker.close().await.expect("it ends");
    pass
}

/// Given a chat from which a flow opened a ticket in a real Request Tracker, when somebody else closes it there, then the chat is
/// resolved; not while another ticket of the chat is open, and a ticket that opens again opens the chat.
#[tokio::test]
async fn a_real_request_tracker_resolves_a_chat() {
    if std::env::var_os("COUNTERPART_REAL_RT").is_none_or(|value| value != "1") {
        println!("not run: COUNTERPART_REAL_RT=1 installs and starts a Request Tracker");
        return;
    }
    let _server = Server::start();
    let mut lab = Lab::new(&[("chat", Vendor::Chatwoot), ("desk", Vendor::Rt)]).await;
    lab.clock.advance(SystemClock.now() - lab.clock.now());
    let spec = real_desk(&mut lab);
    let on = |kind, from: &str, act| FlowConfig { from: from.to_owned(), ..flow(kind, act, None) };
    let open = on(EventKind::ConversationResolved, "chat", ActKind::OpenTicket);
    write_text(
        &mut lab,
        "from-chat",
        "conversation.resolved",
        "Chat with {{ conversation.contact.name | default(\"somebody\") }}\n\nPlease look after it.",
    );
    lab.config.flows = vec![
        FlowConfig { to: "desk".to_owned(), template: Some("from-chat".to_owned()), ..open },
        on(EventKind::TicketClosed, "desk", ActKind::Resolve),
        on(EventKind::TicketReopened, "desk", ActKind::Reopen),
    ];
    let both =
        Arc::new(Both { chat: lab.network(), desk: LiveTransport::new(LiveOptions::default()).expect("a transport") });
    for _ in 0..100 {
        if both.is_up().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
    let chat = lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("My widget is broken."));
    lab.sandbox.say(lab.clock.now(), "chat", &chat, Author::Agent, "We will have a look.");
    work(&lab, &both).await;
    let resolved = |wanted: bool| lab.sandbox.chats("chat").iter().any(|c| c.id == chat && c.resolved == wanted);

    println!("an agent resolves chat {chat}");
    lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, true);
    let pass = work(&lab, &both).await;
    assert_eq!(pass.tickets, 1, "{pass:?} {:?}", lab.intents().await);
    let made = lab.intents().await.into_iter().find_map(|intent| intent.remote_id).expect("a ticket was opened");
    let first = format!("/ticket/{made}");
    let ticket = both.rt("root", "GET", &first, &Value::Null).await;
    println!(
        "  the flow opens ticket {made}: {} \"{}\" {}",
        ticket["Status"], ticket["Subject"], ticket["CustomFields"]
    );
    assert_eq!(ticket["CustomFields"][0]["values"][0], chat.as_str(), "{ticket}");
    let other = json!({ "Queue": "General", "Subject": "Another", "Requestor": "ana@example.test", "Content": "by hand",
        "ContentType": "text/plain", "CustomFields": { "Chat": chat } });
    let other = both.rt("root", "POST", "/ticket", &other).await["id"].clone();
    let second = format!("/ticket/{}", other.as_str().map_or_else(|| other.to_string(), str::to_owned));
    lab.sandbox.resolve_chat(lab.clock.now(), "chat", &chat, false);
    let pass = work(&lab, &both).await;
    assert!(pass.events >= 1 && pass.resolved == 0 && resolved(false), "{pass:?}");
    println!("the agent opens the chat again, and another ticket for it is made by hand: {other}");

    for (path, status, acts, ends) in [
        (&second, "resolved", 0, false),
        (&first, "resolved", 1, true),
        (&first, "open", 1, false),
        (&first, "resolved", 1, true),
    ] {
        both.rt("ola", "PUT", path, &json!({ "Status": status })).await;
        let pass = work(&lab, &both).await;
        assert!(pass.resolved == acts && resolved(ends), "{path} {status}: {pass:?} {:?}", lab.intents().await);
        let state = if ends { "resolved" } else { "open" };
        println!("Ola sets {path} to {status}: acts done in the chat {}, it is {state}", pass.resolved);
    }
    assert_eq!(work(&lab, &both).await, Pass::default());
    let report = run(Target::new(spec, both, Arc::new(SystemClock))).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
