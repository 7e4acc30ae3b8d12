//! The log: lines on standard error that name records and connections, and neither secrets nor people.

use std::io::{self, Write};

use counterpart_connectors::kit::{TRACES, redact};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::output::Output;

/// Starts the log of this process; `serves` when nobody looks at its screen, so that its log is what there is.
pub(super) fn start(verbose: u8, serves: bool, out: &Output) {
    let level = match (out.quiet, verbose) {
        (true, _) => "error",
        (false, 0) if serves => "counterpart=info,warn",
        (false, 0) => "warn",
        (false, 1) => "counterpart=info,warn",
        (false, _) => "counterpart=trace,counterpart_connectors=trace,info",
    };
    let lines = fmt::layer()
        .with_writer(|| Masked(io::stderr()))
        .with_ansi(out.colors_errors())
        // Spans would stand before every line that is written within them.
        .with_filter(EnvFilter::new(format!("{level},{TRACES}=off")));
    let registry = tracing_subscriber::registry();
    #[cfg(feature = "otlp")]
    let registry = registry.with(out.traces.layer());
    let _ = registry.with(lines).try_init();
}

/// Writes lines without what may name a person. Every line of a log comes whole, in one piece.
struct Masked<W>(W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(redact::for_log(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
