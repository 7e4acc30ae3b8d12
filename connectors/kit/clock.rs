//! Time comes from outside, so that a test or a simulation can drive it.

use async_trait::async_trait;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// The only source of time, and the only way to wait.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Millis;
    /// Waits until the clock shows at least `at`.
    async fn sleep_until(&self, at: Millis);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Millis {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        chrono::Utc::now().timestamp_millis()
    }

    async fn sleep_until(&self, at: Millis) {
        let wait = at - self.now();
        if let Ok(wait @ 1..) = u64::try_from(wait) {
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        }
    }
}

/// A clock that never waits: to sleep sets it forward.
#[derive(Debug)]
pub struct JumpClock(std::sync::atomic::AtomicI64);

impl JumpClock {
    /// A clock that shows `now`.
    pub fn at(now: Millis) -> JumpClock {
        JumpClock(now.into())
    }
}

#[async_trait]
impl Clock for JumpClock {
    fn now(&self) -> Millis {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }

    async fn sleep_until(&self, at: Millis) {
        self.0.fetch_max(at, std::sync::atomic::Ordering::SeqCst);
    }
}
