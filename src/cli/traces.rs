//! Spans for an OpenTelemetry collector, where `[telemetry]` names one. Whatever becomes of them, the work goes on: they
//! wait in a queue of bounded length, and what the collector does not take is dropped.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::kit::TRACES;
use counterpart_connectors::{LiveOptions, LiveTransport, Transport};
use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, Registry, reload};

use super::output::Failure;
use crate::config::TelemetryConfig;

/// How long the end of the program waits for the collector.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How patient one export is, and how much of an answer it reads.
const PATIENCE: LiveOptions =
    LiveOptions { connect: Duration::from_secs(2), total: Duration::from_secs(5), max_body: 64 * 1024 };

type Export = Option<OpenTelemetryLayer<Registry, SdkTracer>>;

/// Where spans go: nowhere, until a configuration says where.
#[derive(Default)]
pub(super) struct Traces {
    slot: OnceLock<reload::Handle<Export, Registry>>,
    provider: OnceLock<SdkTracerProvider>,
}

impl Traces {
    /// The part of the log that takes spans, and nothing but spans: an event may hold a vendor's words.
    pub fn layer(&self) -> impl Layer<Registry> + use<> {
        let (layer, slot) = reload::Layer::new(None);
        let _ = self.slot.set(slot);
        layer.with_filter(Targets::new().with_target(TRACES, LevelFilter::INFO))
    }

    /// Sends spans from here on to the collector of `config`.
    pub fn start(&self, config: &TelemetryConfig) -> Result<(), Failure> {
        let help = "correct `otlp` in [telemetry], or leave it out";
        let network = LiveTransport::new(PATIENCE).map_err(|error| Failure::failed(error.to_string(), help))?;
        let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Post { network, runtime: Handle::current(), is_told: AtomicBool::new(false) })
            .with_endpoint(format!("{}/v1/traces", config.otlp))
            .with_headers(headers.collect::<HashMap<_, _>>())
            .with_timeout(PATIENCE.total)
            .build()
            .map_err(|error| Failure::failed(error.to_string(), help))?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Worthwhile(BatchSpanProcessor::builder(exporter).build()))
            .with_resource(Resource::builder().with_service_name(config.service_name.clone()).build())
            .build();
        let layer = OpenTelemetryLayer::new(provider.tracer("counterpart"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false);
        if let Some(slot) = self.slot.get() {
            let _ = slot.reload(Some(layer));
        }
        let _ = self.provider.set(provider);
        Ok(())
    }

    /// Hands over what is still in the queue, within a few seconds.
    pub fn finish(&self) {
        if let Some(provider) = self.provider.get() {
            // Who takes no spans has been told of.
            let _ = provider.shutdown_with_timeout(LAST_WORDS);
        }
    }
}

/// Leaves out passes of the worker that found nothing to do: there is one every few seconds.
#[derive(Debug)]
struct Worthwhile(BatchSpanProcessor);

impl SpanProcessor for Worthwhile {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.attributes.iter().any(|attribute| attribute.key.as_str() == "idle") {
            self.0.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// The way to the collector: the network that everything else uses.
#[derive(Debug)]
struct Post {
    network: LiveTransport,
    runtime: Handle,
    is_told: AtomicBool,
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let network = self.network.clone();
        // The queue has a thread of its own, outside the runtime that the network needs.
        let outcome = self.runtime.spawn(async move { network.send(request).await }).await?;
        match &outcome {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.tell(&format!("it answered {}", answer.status().as_u16())),
            Err(error) => self.tell(&error.to_string()),
        }
        Ok(outcome?)
    }
}

impl Post {
    /// Says once that the collector fails: spans are lost when it goes on failing.
    fn tell(&self, why: &str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the collector of [telemetry] fails: {why}; traces that it does not take are dropped, and this is said once"
            );
        }
    }
}
