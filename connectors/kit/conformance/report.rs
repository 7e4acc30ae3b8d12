//! The suite's result.

use std::fmt;

use serde::Serialize;

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed(String),
    /// It does not hold, and a waiver says why that is accepted for now.
    Waived(String),
    /// It does not apply, or could not be tried here.
    Skipped(String),
}

/// One test and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Name of the test, as waivers refer to it.
    pub name: &'static str,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A test a connector may fail for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// Name of the test.
    pub test: String,
    /// Why.
    pub reason: String,
}

/// The result of a run; prints as a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The connector.
    pub connector: String,
    /// Every test, in the order they ran.
    pub outcomes: Vec<Outcome>,
    /// Ids of records that were created and could not be deleted again.
    pub left_behind: Vec<String>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl Report {
    /// Whether no test failed.
    pub fn passed(&self) -> bool {
        !self.outcomes.iter().any(|outcome| matches!(outcome.verdict, Verdict::Failed(_)))
    }

    /// The verdict of one test.
    pub fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.outcomes.iter().find(|outcome| outcome.name == name).map(|outcome| &outcome.verdict)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or_default();
        for outcome in &self.outcomes {
            let (word, why) = match &outcome.verdict {
                Verdict::Passed => ("passed", ""),
                Verdict::Failed(why) => ("FAILED", why.as_str()),
                Verdict::Waived(why) => ("waived", why.as_str()),
                Verdict::Skipped(why) => ("skipped", why.as_str()),
            };
            writeln!(out, "{:width$}  {word:7}  {why}", outcome.name)?;
        }
        match (self.left_behind.as_slice(), self.interrupted) {
            ([], false) => {}
            ([], true) => writeln!(out, "interrupted; nothing is left behind")?,
            (left, interrupted) => {
                let interrupted = if interrupted { "interrupted; " } else { "" };
                writeln!(out, "{interrupted}left behind, delete by hand: {}", left.join(", "))?;
            }
        }
        Ok(())
    }
}

/// How a single test ends before it has passed.
#[derive(Debug)]
pub(super) enum Stop {
    Fail(String),
    Skip(String),
}

pub(super) type Test = Result<(), Stop>;

/// A failure.
pub(super) fn fail<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(why.into()))
}

/// Not applicable.
pub(super) fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(why.into()))
}

impl From<crate::ConnectorError> for Stop {
    fn from(error: crate::ConnectorError) -> Stop {
        Stop::Fail(format!("{}: {error}", error.kind.name()))
    }
}
