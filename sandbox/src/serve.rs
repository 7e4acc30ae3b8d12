//! The fakes behind HTTP, by the machine's own clock.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::{Millis, Reply, Sandbox};

/// Bodies above this are refused.
const MAX_BODY: usize = 4 << 20;

/// Serves until `stop` is done.
pub async fn serve(
    sandbox: Arc<Sandbox>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new().fallback(answer).with_state(sandbox);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

#[expect(clippy::disallowed_methods, reason = "a served sandbox lives by the machine's clock")]
fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as Millis)
}

async fn answer(State(sandbox): State<Arc<Sandbox>>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        let mut response = Response::new(Body::from("the body is too large"));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    };
    match sandbox.handle(now(), Request::from_parts(head, body.to_vec())) {
        Reply::Answer { response, delay_ms } => {
            wait(delay_ms).await;
            response.map(Body::from)
        }
        Reply::Cut { delay_ms, .. } => {
            wait(delay_ms).await;
            // A body that fails before its first byte makes the server drop the connection.
            let cut = futures_util::stream::once(async { Err::<Vec<u8>, _>(io::Error::other("cut")) });
            Response::new(Body::from_stream(cut))
        }
    }
}

async fn wait(delay_ms: u64) {
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
}
