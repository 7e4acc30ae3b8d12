//! What is printed, where, and how failures look.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ColorChoice;
use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use counterpart_core::mapping::Diagnostic;
use serde::Serialize;
use serde_json::json;

use crate::config::ConfigError;
use crate::engine::EngineError;
use crate::serve::ServeError;
use crate::store::StoreError;

/// What a coloured word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Doubtful,
    Bad,
    Hint,
}

/// Where results go.
pub(super) struct Output {
    pub json: bool,
    pub quiet: bool,
    results_in_color: bool,
    errors_in_color: bool,
    /// Where spans go.
    #[cfg(feature = "otlp")]
    pub traces: super::traces::Traces,
    /// With `--json` there is one document, whatever happens after it.
    documented: AtomicBool,
    /// The first failure of a write to standard output.
    unwritten: OnceLock<std::io::Error>,
}

impl Output {
    pub fn new(json: bool, quiet: bool, color: ColorChoice) -> Output {
        let wanted = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !crate::config::is_color_refused(),
        };
        Output {
            json,
            quiet,
            results_in_color: wanted(std::io::stdout().is_terminal()),
            errors_in_color: wanted(std::io::stderr().is_terminal()),
            #[cfg(feature = "otlp")]
            traces: super::traces::Traces::default(),
            documented: AtomicBool::new(false),
            unwritten: OnceLock::new(),
        }
    }

    /// Whether what goes to standard error may have colours.
    pub fn colors_errors(&self) -> bool {
        self.errors_in_color
    }

    /// One line of a result.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut out = std::io::stdout().lock();
        self.note(writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()));
    }

    /// Remembers whether something that was printed arrived.
    pub fn note(&self, written: std::io::Result<()>) {
        if let Err(error) = written {
            let _ = self.unwritten.set(error);
        }
    }

    /// What kept results from being written; whoever closes the pipe has read enough, and that is nobody's failure.
    pub fn unwritten(&self) -> Option<Failure> {
        let error = self.unwritten.get().filter(|error| error.kind() != ErrorKind::BrokenPipe)?;
        let help = "the work itself is done, `counterpart runs list` shows it; check where standard output goes";
        Some(Failure::failed(format!("the result could not be written: {error}"), help))
    }

    /// Text of a result as it is; with `--json` as a document.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            return self.document(&json!({ "text": text }));
        }
        self.raw(text.as_bytes());
        Ok(())
    }

    /// Bytes of a result; with `--json` they are the document.
    pub fn raw(&self, bytes: &[u8]) {
        self.documented.store(true, Ordering::Relaxed);
        let mut out = std::io::stdout().lock();
        self.note(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// A result as one JSON document.
    pub fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed(error.to_string(), "this is a mistake in the program: report it"))?;
        self.documented.store(true, Ordering::Relaxed);
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

    /// How much of a list is shown: a document holds all of it, a screen the first hundred.
    pub fn limit(&self, asked: Option<u64>) -> u64 {
        // The databases count with signed numbers.
        const ALL: u64 = i64::MAX as u64;
        asked.unwrap_or(if self.json { ALL } else { 100 }).min(ALL)
    }

    /// A list as one document or as a table, with what is said of it when it is empty or was cut.
    pub fn listing<T>(
        &self,
        listing: &Listing<'_, T>,
        entry: impl Fn(&T) -> serde_json::Value,
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        let Listing { name, none, header, found, last, more } = listing;
        if self.json {
            let entries: Vec<_> = found.iter().map(entry).collect();
            return self.document(&serde_json::json!({ *name: entries, "more": more }));
        }
        if found.is_empty() && *more == 0 {
            self.line(none);
            return Ok(());
        }
        let mut rows = self.table(header);
        rows.add_rows(found.iter().map(row));
        self.line(rows.to_string());
        if *more > 0 {
            self.line(rest(*more, last));
        }
        Ok(())
    }

    /// A table with these columns.
    pub fn table(&self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if self.results_in_color {
            table.enforce_styling();
            table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        } else {
            table.set_header(header.iter().copied());
        }
        table
    }

    /// A word of a result in its colour. Not for table cells: their width is counted.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.results_in_color, tone, text)
    }

    /// A verdict in the colour of how good it is.
    pub fn verdict(&self, word: &str) -> String {
        let tone = match word {
            "ok" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Doubtful,
        };
        self.paint(tone, word)
    }

    /// Prints a failure and gives its exit code.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        if self.json && !self.documented.swap(true, Ordering::Relaxed) {
            self.line(format!("{:#}", failure.document()));
        }
        let color = self.errors_in_color;
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{} {}", paint(color, Tone::Bad, "error:"), failure.message);
        let help = paint(color, Tone::Hint, "help:");
        for problem in &failure.problems {
            let _ = writeln!(err, "\n{}", problem.place());
            let _ = problem.excerpt(&mut err, color);
            let _ = writeln!(err, "  {help} {}", problem.at.help);
        }
        if let Some(text) = &failure.help {
            let _ = writeln!(err, "{help} {text}");
        }
        ExitCode::from(failure.code)
    }
}

fn paint(color: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        _ if !color => return text.to_owned(),
        Tone::Good => "32",
        Tone::Doubtful => "33",
        Tone::Bad => "1;31",
        Tone::Hint => "36",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
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
        0 => "under 1 s".to_owned(),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        7200..=172_799 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The length of a budget's window: `60 s`, `24 h`, `500 ms`.
pub(super) fn window(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        _ if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        _ if ms % 1000 == 0 => format!("{} s", ms / 1000),
        _ => format!("{:.1} s", ms as f64 / 1000.0),
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Part {
    /// At most this many; 100 as text, all with --json.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on after the entry with this number.
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<i64>,
}

/// Entries of a list, which may have been cut.
pub(super) struct Listing<'a, T> {
    /// What they are called in a document.
    pub name: &'a str,
    /// What is said when there are none.
    pub none: &'a str,
    /// The columns of the table.
    pub header: &'a [&'a str],
    pub found: &'a [T],
    /// The last one that is shown.
    pub last: i64,
    /// How many come after it.
    pub more: u64,
}

/// The state that `--state` names, if it does.
pub(super) fn state<T>(
    given: Option<&str>,
    named: fn(&str) -> Option<T>,
    names: &[&str],
) -> Result<Option<T>, Failure> {
    let Some(name) = given else { return Ok(None) };
    let help = || format!("take one of {}", names.join(", "));
    named(name).map(Some).ok_or_else(|| Failure::usage(format!("there is no state `{name}`"), help()))
}

/// A list that was cut says how to see the rest.
pub(super) fn rest(more: u64, last: impl std::fmt::Display) -> String {
    format!("{more} more; --limit N shows more at once, --after {last} goes on from here")
}

/// A mistake in a file, with the line it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mistake {
    at: Diagnostic,
    text: Option<String>,
}

impl Mistake {
    fn place(&self) -> String {
        let Diagnostic { file, line, column, message, .. } = &self.at;
        format!("{file}:{line}:{column}: {message}")
    }

    /// The line, and a caret under the column.
    fn excerpt(&self, out: &mut impl Write, color: bool) -> std::io::Result<()> {
        let Some(line) = &self.text else { return Ok(()) };
        let margin = self.at.line.to_string();
        // A tab is as wide as the terminal makes it; the same tab below it is as wide.
        let pad: String =
            line.chars().take(self.at.column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let caret = paint(color, Tone::Bad, "^");
        writeln!(out, "  {margin} | {line}\n  {} | {pad}{caret}", " ".repeat(margin.len()))
    }
}

/// Why a command ended early, and the way out.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// None only where every problem has its own.
    help: Option<String>,
    problems: Vec<Mistake>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), help: Some(help.into()), problems: Vec::new() }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::new(1, message, help)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::new(2, message, help)
    }

    /// Mistakes in `what`, which are in the files they name.
    pub fn mistakes(what: &str, problems: Vec<Diagnostic>) -> Failure {
        Failure::with_lines(what, problems, |problem| std::fs::read_to_string(&problem.file).ok())
    }

    fn with_lines(what: &str, problems: Vec<Diagnostic>, text: impl Fn(&Diagnostic) -> Option<String>) -> Failure {
        let message = match problems.len() {
            1 => format!("the {what} has a mistake"),
            count => format!("the {what} has {count} mistakes"),
        };
        let problems = problems
            .into_iter()
            .map(|at| {
                let text = text(&at).and_then(|text| text.lines().nth(at.line.checked_sub(1)?).map(str::to_owned));
                Mistake { at, text }
            })
            .collect();
        Failure { code: 2, message, help: None, problems }
    }

    /// What a program reads instead of the text.
    pub(super) fn document(&self) -> serde_json::Value {
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|problem| {
                let Diagnostic { file, line, column, message, help } = &problem.at;
                json!({ "file": file, "line": line, "column": column, "message": message, "help": help })
            })
            .collect();
        json!({ "error": { "code": self.code, "message": self.message, "help": self.help, "problems": problems } })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let ConfigError { problems, file, source_text } = error;
        Failure::with_lines("configuration", problems, |problem| {
            // What is wrong may be a connector's own file.
            if problem.file == file { Some(source_text.clone()) } else { std::fs::read_to_string(&problem.file).ok() }
        })
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let message = error.to_string();
        let (code, help) = match error {
            StoreError::BadUrl { .. } => (2, "correct `url` in [store]; docs/configuration.md says how it is written"),
            StoreError::NoDirectory { folder } => {
                return Failure::usage(message, format!("`mkdir -p {folder}`, or change `url` in [store]"));
            }
            StoreError::NotADatabase { .. } => (2, "`url` in [store] must name a file of its own"),
            StoreError::Newer { .. } => (2, "install the newer program, or take the store from before it was updated"),
            StoreError::Refused { .. } => (1, "check `url` in [store], and that the database runs and lets you in"),
            StoreError::Locked => (1, "wait until the other process is done; a backup that holds the file counts too"),
            StoreError::NotMigrated => (1, "`counterpart migrate`"),
            StoreError::NotFound { .. } => {
                (2, "`counterpart conflicts list` and `counterpart runs list` show the numbers")
            }
            StoreError::Corrupt { .. } => (1, "restore the store from a backup, and report this"),
            StoreError::Damaged(_) => {
                (1, "restore the store from a backup; SQLite's `.recover` saves what can be read")
            }
            StoreError::Db(_) => (1, "check that the database is there, has space, and lets you write"),
        };
        Failure::new(code, message, help)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        match error {
            ServeError::Engine(error) => error.into(),
            ServeError::Ended(_) => Failure::failed(error.to_string(), "start it again, and report what the log says"),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let message = error.to_string();
        let (code, help) = match error {
            EngineError::Store(error) => return error.into(),
            EngineError::NoSuchSync { .. } => (2, "name one of those, or none for all of them"),
            EngineError::NoSyncs => (2, "`counterpart init --config FILE` writes one to copy from"),
            EngineError::NoSuchConnection(_) => (2, "name one of [connections]"),
            EngineError::Busy { until, .. } => {
                let help = format!(
                    "`counterpart runs list` shows what is under way; if it died on another machine, this ends at {}",
                    time(until)
                );
                return Failure::failed(message, help);
            }
            EngineError::Working { .. } => (1, "let that process go on, or end it first"),
            EngineError::Templates { .. } => (2, "`counterpart check` shows the places"),
            EngineError::Mapping { .. } => (2, "`counterpart check` shows the places"),
            EngineError::Open(_) => (2, "correct that connection; `counterpart connectors` lists its settings"),
            EngineError::Vendor { .. } => (1, "`counterpart check --online` tells whether the connection works at all"),
            EngineError::Moved { .. } => (1, "`counterpart plan --out FILE` makes a plan of the world as it is"),
            EngineError::WroteNobody { .. } => (2, "`counterpart runs list` shows the runs of kind `sync` and `apply`"),
            EngineError::NoSuch { what: "run", .. } => (2, "`counterpart runs list` shows them"),
            EngineError::NoSuch { .. } => (2, "`counterpart conflicts list --all` shows them"),
            EngineError::Decision(_) => (2, "`counterpart conflicts show ENTRY` shows what it is about"),
            EngineError::Hooks { help, .. } => return Failure::usage(message, help),
            EngineError::Write(_) => (1, "check the space and the rights in that folder"),
        };
        Failure::new(code, message, help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(line: &str, column: usize) -> String {
        let at = Diagnostic { file: "f".into(), line: 12, column, message: String::new(), help: String::new() };
        let mut out = Vec::new();
        Mistake { at, text: Some(line.to_owned()) }.excerpt(&mut out, false).expect("a Vec takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_caret_stands_below_its_column() {
        assert_eq!(excerpt("kind = 7", 8), "  12 | kind = 7\n     |        ^\n");
        assert_eq!(excerpt("\tkind\t= 7", 9), "  12 | \tkind\t= 7\n     | \t    \t  ^\n");
        assert_eq!(excerpt("", 1), "  12 | \n     | ^\n");
    }

    #[test]
    fn lengths_of_time_say_something() {
        for (ms, text) in [
            (0, "under 1 s"),
            (999, "under 1 s"),
            (61_000, "61 s"),
            (150_000, "2 min 30 s"),
            (7_260_000, "2 h 01 min"),
            (200_000_000, "2 days 7 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
        for (ms, text) in [(500, "500 ms"), (1500, "1.5 s"), (60_000, "60 s"), (86_400_000, "24 h")] {
            assert_eq!(window(ms), text);
        }
    }
}
