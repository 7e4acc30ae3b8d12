//! The log: lines on standard error that name records and connections, and neither secrets nor people.

use std::io::{self, Write};

use counterpart_connectors::kit::redact;
use tracing_subscriber::EnvFilter;

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
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(|| Masked(io::stderr()))
        .with_ansi(out.colors_errors())
        .try_init();
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
