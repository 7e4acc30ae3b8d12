//! A clock that only moves when somebody waits for it, and an in-process network that fails on demand.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::{Clock, Millis, Transport, TransportError};
use counterpart_sandbox::{Reply, Sandbox};

/// Called with the new time whenever the clock moves.
type Tick = Box<dyn FnMut(Millis) + Send>;

/// Virtual time: waiting is free and moves the clock.
pub struct SimClock {
    now: AtomicI64,
    tick: Mutex<Option<Tick>>,
}

impl SimClock {
    pub fn at(now: Millis) -> Arc<SimClock> {
        Arc::new(SimClock { now: AtomicI64::new(now), tick: Mutex::new(None) })
    }

    /// What happens in the world while time passes.
    pub fn on_tick(&self, tick: impl FnMut(Millis) + Send + 'static) {
        *self.tick.lock().expect("no tick panics") = Some(Box::new(tick));
    }

    pub fn advance(&self, by: Millis) {
        self.advance_to(self.now() + by);
    }

    fn advance_to(&self, at: Millis) {
        let now = self.now.fetch_max(at, Ordering::SeqCst).max(at);
        if let Some(tick) = self.tick.lock().expect("no tick panics").as_mut() {
            tick(now);
        }
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Millis {
        self.now.load(Ordering::SeqCst)
    }

    async fn sleep_until(&self, at: Millis) {
        self.advance_to(at);
    }
}

/// When the process dies: before the n-th call reaches the vendor, or after it did and before the answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    pub at_call: u64,
    pub after_effect: bool,
}

/// Calls the sandbox in process.
pub struct InProcess {
    pub sandbox: Arc<Sandbox>,
    pub clock: Arc<SimClock>,
    calls: AtomicU64,
    death: Mutex<Option<Death>>,
    dead: AtomicBool,
    pub died: tokio::sync::Notify,
}

impl InProcess {
    pub fn new(sandbox: Arc<Sandbox>, clock: Arc<SimClock>, death: Option<Death>) -> Arc<InProcess> {
        Arc::new(InProcess {
            sandbox,
            clock,
            calls: AtomicU64::new(0),
            death: Mutex::new(death),
            dead: AtomicBool::new(false),
            died: tokio::sync::Notify::new(),
        })
    }

    async fn die(&self) -> ! {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        if self.dead.load(Ordering::SeqCst) {
            self.die().await;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let death = *self.death.lock().expect("held for a copy only");
        let dies = death.is_some_and(|death| death.at_call == call);
        if dies && death.is_some_and(|death| !death.after_effect) {
            self.die().await;
        }
        let request = request.map(|body| body.to_vec());
        let reply = self.sandbox.handle(self.clock.now(), request);
        if dies {
            self.die().await;
        }
        match reply {
            Reply::Answer { response, delay_ms } => {
                self.clock.advance(delay_ms as Millis);
                Ok(response.map(Bytes::from))
            }
            Reply::Cut { after_effect: _, delay_ms } => {
                self.clock.advance(delay_ms as Millis);
                Err(TransportError::NoAnswer { reason: "the connection was cut".to_owned() })
            }
        }
    }
}
