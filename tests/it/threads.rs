//! Reading the messages of conversations: none of them keeps the others from being read.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart::engine::History;
use counterpart_connectors::{Clock, Transport, TransportError};
use counterpart_sandbox::{Author, Vendor};

use crate::flows::shop_and_chat;
use crate::requirements::lab::{HOUR, Lab, MINUTE, someone};
use crate::sim::InProcess;

/// A chat system with this many conversations, oldest first, that are known and not read yet; only some pages of its lists are
/// looked at from here on.
async fn chats(n: usize) -> (Lab, Vec<String>) {
    let mut lab = shop_and_chat(Vendor::Chatwoot).await;
    lab.config.connections.get_mut("chat").expect("it is configured").deep_pages = Some(1);
    let person = lab.add("chat", &someone("Ana", "Lind", "ana@example.test"));
    let mut chats = Vec::new();
    for _ in 0..n {
        chats.push(lab.sandbox.open_chat(lab.clock.now(), "chat", &person, Some("Hello?")));
        lab.clock.advance(MINUTE);
    }
    lab.run().await;
    lab.work().await;
    (lab, chats)
}

impl Lab {
    /// Conversations and failures of one look at `most` conversations.
    async fn threads(&self, most: u64) -> (u64, u64) {
        let History { conversations, failed, .. } = self.threads_through(self.network(), most).await;
        (conversations, failed)
    }

    async fn threads_through(&self, network: Arc<dyn Transport>, most: u64) -> History {
        self.sandbox.clear_log();
        let engine = self.engine(network);
        let worker = engine.worker().await.expect("nobody else works");
        let history = worker.history(most).await.expect("it reads");
        worker.close().await.expect("it ends");
        history
    }

    /// Which conversations' messages were asked for in the last look, in order.
    fn asked(&self) -> Vec<String> {
        let log = self.sandbox.log();
        let chat =
            |path: &str| path.strip_suffix("/messages").and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        let mut asked: Vec<_> =
            log.iter().filter_map(|call| chat(call.path.split('?').next().unwrap_or_default())).collect();
        // The page after the last one is asked for too.
        asked.dedup();
        asked
    }
}

/// Given conversations that were deleted at the vendor, which tells nobody, then those behind them are read, and the deleted
/// ones are asked for once.
#[tokio::test]
async fn deleted_conversations_keep_nobody_waiting() {
    let (lab, chats) = chats(3).await;
    for chat in &chats[..2] {
        lab.sandbox.delete_chat(lab.clock.now(), "chat", chat);
    }
    assert_eq!(lab.threads(2).await, (0, 2));
    assert_eq!(lab.threads(2).await, (1, 0), "{:?}", lab.asked());
    assert_eq!(lab.asked(), chats[2..]);
    lab.clock.advance(2 * HOUR);
    assert_eq!(lab.threads(2).await, (0, 0), "{:?}", lab.asked());
    let counts = lab.store.history("chat").await.expect("the store answers");
    assert_eq!((counts.conversations, counts.covered), (1, 1));
}

/// A way on which the messages of some conversations are refused.
struct Refusing {
    network: Arc<InProcess>,
    chats: Vec<String>,
}

#[async_trait]
impl Transport for Refusing {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let path = request.uri().path();
        if !self.chats.iter().any(|chat| path.ends_with(&format!("/{chat}/messages"))) {
            return self.network.send(request).await;
        }
        let answer = http::Response::builder().status(403).header("content-type", "application/json");
        Ok(answer.body(Bytes::from_static(b"{\"error\":\"no\"}")).expect("an answer"))
    }
}

/// Given conversations that cannot be read, then those behind them are, and they are tried again an hour later.
#[tokio::test]
async fn conversations_that_cannot_be_read_are_tried_again_later() {
    let (lab, chats) = chats(3).await;
    let refused = || Arc::new(Refusing { network: lab.network(), chats: chats[..2].to_vec() });
    let mut seen = Vec::new();
    for _ in 0..3 {
        let history = lab.threads_through(refused(), 2).await;
        seen.push((history.conversations, history.failed));
    }
    assert_eq!(seen, [(0, 2), (1, 0), (0, 0)]);
    lab.clock.advance(HOUR);
    assert_eq!(lab.threads(2).await, (2, 0));
}

/// Given an old conversation in which somebody writes all the time, then newer ones are read before it is read again.
#[tokio::test]
async fn a_busy_conversation_does_not_come_before_those_never_read() {
    let (lab, chats) = chats(2).await;
    assert_eq!(lab.threads(1).await, (1, 0));
    assert_eq!(lab.asked(), chats[..1]);
    lab.sandbox.say(lab.clock.now(), "chat", &chats[0], Author::Customer, "And another thing");
    lab.work().await;
    assert_eq!(lab.threads(1).await, (1, 0));
    assert_eq!(lab.asked(), chats[1..]);
    assert_eq!(lab.threads(1).await, (1, 0));
    assert_eq!(lab.asked(), chats[..1]);
}

/// Given a long conversation that was read, when somebody writes on, then only its end is read again, and all of it is known.
#[tokio::test]
async fn a_long_conversation_is_read_on_from_where_it_was_read_to() {
    let (lab, chats) = chats(1).await;
    for number in 0..450 {
        lab.sandbox.say(lab.clock.now(), "chat", &chats[0], Author::Customer, &format!("Line {number}"));
    }
    lab.work().await;
    lab.threads(1).await;
    assert!(lab.sandbox.log().len() > 4);
    lab.sandbox.say(lab.clock.now(), "chat", &chats[0], Author::Agent, "I see");
    lab.clock.advance(MINUTE);
    lab.work().await;
    assert_eq!(lab.threads(1).await, (1, 0));
    assert!(lab.sandbox.log().len() <= 3, "{:?}", lab.sandbox.log());
    let counts = lab.store.history("chat").await.expect("the store answers");
    let said = lab.sandbox.chat_messages("chat").len() as u64;
    assert_eq!((counts.covered, counts.messages), (1, said));
}
