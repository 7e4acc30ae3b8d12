//! What is printed, where, and how failures look.

use std::io::Write;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::config::ConfigError;
use crate::engine::EngineError;
use crate::store::StoreError;

/// Where results go.
pub(super) struct Output {
    pub json: bool,
    pub quiet: bool,
}

impl Output {
    /// One line of a result. A closed pipe is not our failure.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}", text.as_ref());
    }

    /// Bytes of a result.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// A result as one JSON document.
    pub fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
        self.line(text);
        Ok(())
    }

    /// A remark beside the result.
    pub fn remark(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "{}", text.as_ref());
        }
    }
}

/// A table with these columns.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table
}

/// `2026-03-04 09:15:00 UTC`
pub(super) fn time(at: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at)
        .map_or_else(|| "never".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A length of time in the largest units that say enough.
pub(super) fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0 => format!("{} ms", ms.max(0)),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    help: Option<String>,
}

impl Failure {
    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure { code: 1, message: message.into(), help: None }
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure { code: 2, message: message.into(), help: Some(help.into()) }
    }

    /// The same with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let mut message = String::new();
        for problem in &error.problems {
            message.push_str(&format!("\n{}:{}:{}: {}\n", problem.file, problem.line, problem.column, problem.message));
            if let Some(line) = error.source_text.lines().nth(problem.line - 1) {
                let margin = problem.line.to_string();
                let pad = " ".repeat(problem.column.saturating_sub(1));
                message.push_str(&format!("  {margin} | {line}\n  {} | {pad}^\n", " ".repeat(margin.len())));
            }
            message.push_str(&format!("  help: {}\n", problem.help));
        }
        let count = error.problems.len();
        let head = if count == 1 {
            "the configuration has a mistake".to_owned()
        } else {
            format!("the configuration has {count} mistakes")
        };
        Failure { code: 2, message: format!("{head}\n{}", message.trim_end()), help: None }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = match error {
            StoreError::Newer { .. }
            | StoreError::BadUrl { .. }
            | StoreError::NoDirectory { .. }
            | StoreError::NotADatabase { .. } => 2,
            _ => 1,
        };
        Failure { code, message: error.to_string(), help: None }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::NoSuchSync { .. }
            | EngineError::NoSyncs
            | EngineError::NoSuchConnection(_)
            | EngineError::Mapping { .. }
            | EngineError::Open(_)
            | EngineError::NoSuch { .. }
            | EngineError::Decision(_) => Failure { code: 2, message: error.to_string(), help: None },
            other => Failure::failed(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::failed(error.to_string())
    }
}

/// Prints a failure and gives its exit code.
pub(super) fn fail(failure: &Failure) -> ExitCode {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "error: {}", failure.message);
    if let Some(help) = &failure.help {
        let _ = writeln!(err, "help: {help}");
    }
    ExitCode::from(failure.code)
}
