//! A message file: what it is for, a line `---`, and the text.

use counterpart_core::business::{EventKind, NoSuchEvent};
use counterpart_core::mapping::Diagnostic;
use serde::Deserialize;
use toml::Spanned;

/// Longer texts are refused.
pub(super) const MAX_SOURCE: usize = 4096;

/// A file read as far as its text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    /// As it is named in mistakes.
    pub name: String,
    /// An event it is for.
    pub event: EventKind,
    /// Everything, with plain line ends.
    pub source: String,
    /// Where in `source` the text begins, in bytes.
    pub body_at: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    event: Spanned<String>,
}

impl File {
    /// Reads the head.
    pub fn parse(name: &str, text: &str) -> Result<File, Diagnostic> {
        let source = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let wrong = |offset: usize, message: String, help: String| place(name, &source, offset, message, help);
        let begin = "begin with `event = \"order.completed\"`, then a line `---`, then the text".to_owned();
        let Some((head_end, body_at)) = divide(&source) else {
            return Err(wrong(0, "the file does not say which event it is for".to_owned(), begin));
        };
        let head: Head = toml::from_str(&source[..head_end]).map_err(|error| {
            wrong(error.span().map_or(0, |span| span.start), error.message().to_owned(), begin.clone())
        })?;
        let event = head.event.get_ref().parse().map_err(|error: NoSuchEvent| {
            let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            wrong(head.event.span().start, error.to_string(), format!("there are {}", known.join(", ")))
        })?;
        if source.len() - body_at > MAX_SOURCE {
            let message = format!("the text is {} bytes long", source.len() - body_at);
            return Err(wrong(body_at, message, format!("a message has at most {MAX_SOURCE}")));
        }
        Ok(File { name: name.to_owned(), event, source, body_at })
    }

    /// The text.
    pub fn body(&self) -> &str {
        &self.source[self.body_at..]
    }

    /// A mistake at an offset of the text, in bytes.
    pub fn mistake(&self, offset: usize, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        place(&self.name, &self.source, self.body_at + offset, message.into(), help.into())
    }
}

/// Where the head ends and where the text begins.
fn divide(source: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((at, at + line.len()));
        }
        at += line.len();
    }
    None
}

fn place(file: &str, source: &str, offset: usize, message: String, help: String) -> Diagnostic {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Diagnostic { file: file.to_owned(), line, column, message, help }
}
