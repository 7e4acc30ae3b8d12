//! Messages to customers: a text for each occasion and language, checked before it is used, filled with an event.
//!
//! A text is a file `NAME.LANGUAGE.txt`; the shipped ones stand in `mappings/messages/`, files of the user's own come
//! over them one by one. The result is plain text: what strangers wrote (a name, a product) cannot add lines, turn
//! the direction of text around, or be read as part of the template.

mod check;
mod condition;
pub mod fields;
mod file;
mod locale;
mod render;
mod shipped;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono_tz::Tz;
use counterpart_core::business::{EventKind, Party, Subject, Topic};
use counterpart_core::mapping::Diagnostic;
use icu_locale_core::LanguageIdentifier;

pub use condition::{Condition, ConditionError};
use file::File;
use locale::{Formats, tag};
use render::Prepared;
pub use written::{Misfit, written};

/// Where a text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is part of the program.
    Shipped,
    /// A file of the user's own.
    Own,
}

/// One template, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name: `order-confirmation`.
    pub name: &'a str,
    /// An event it is for; every event about the same kind of thing will do.
    pub event: EventKind,
    /// Its languages, each with where the text comes from.
    pub languages: Vec<(&'a str, Origin)>,
}

/// Who reads a message, as far as language and clock go. Each may be missing; wrong ones count as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The person's language, BCP 47.
    pub language: Option<String>,
    /// The person's time zone, IANA.
    pub timezone: Option<String>,
    /// The connection's language, for people whose own is not known or has no text.
    pub fallback_language: Option<String>,
    /// The connection's time zone.
    pub fallback_timezone: Option<String>,
}

impl Reader {
    /// The person an event concerns.
    pub fn of(party: &Party) -> Reader {
        Reader { language: party.language.clone(), timezone: party.timezone.clone(), ..Reader::default() }
    }

    fn zone(&self) -> Option<Tz> {
        [&self.timezone, &self.fallback_timezone].into_iter().flatten().find_map(|zone| zone.parse().ok())
    }
}

/// A message ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Plain text, at most 64 KB, without an empty line at either end.
    pub text: String,
    /// The language of the text, as its file is called.
    pub language: String,
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing is called so.
    #[error("there is no message template `{name}`; there are {known}")]
    NoTemplate {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// It is about another kind of thing.
    #[error("the message template `{name}` is for `{event}` and does not fit this event")]
    WrongEvent {
        /// The template.
        name: String,
        /// An event it is for.
        event: EventKind,
    },
    /// The event does not fill it.
    #[error("{}:{}:{}: {}", .0.file, .0.line, .0.column, .0.message)]
    Failed(Box<Diagnostic>),
}

#[derive(Clone, Debug)]
struct Text {
    file: File,
    origin: Origin,
}

/// All templates, checked.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// By name, then by language.
    texts: BTreeMap<String, BTreeMap<String, Text>>,
}

impl Templates {
    /// The shipped templates.
    pub fn shipped() -> Templates {
        let mut templates = Templates::default();
        for (name, language, text) in shipped::TEXTS {
            // That every shipped text reads and checks clean is a test.
            if let Ok(file) = File::parse(&format!("mappings/messages/{name}.{language}.txt"), text) {
                templates.insert(name, language, Text { file, origin: Origin::Shipped });
            }
        }
        templates
    }

    /// The shipped templates under the files `NAME.LANGUAGE.txt` of a folder; a folder that is not there has none. All
    /// mistakes come at once.
    pub fn load(folder: Option<&Path>) -> Result<Templates, Vec<Diagnostic>> {
        let mut files = Vec::new();
        let mut found = Vec::new();
        if let Some(folder) = folder.filter(|folder| folder.exists()) {
            let unreadable = |path: &Path, error: std::io::Error| Diagnostic {
                file: path.display().to_string(),
                line: 1,
                column: 1,
                message: format!("this cannot be read: {error}"),
                help: "messages are text files in UTF-8".to_owned(),
            };
            let mut paths = Vec::new();
            match std::fs::read_dir(folder) {
                Ok(entries) => paths.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) => found.push(unreadable(folder, error)),
            }
            paths.sort();
            for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "txt")) {
                match std::fs::read_to_string(path) {
                    Ok(text) => files.push((path.display().to_string(), text)),
                    Err(error) => found.push(unreadable(path, error)),
                }
            }
        }
        let (templates, wrong) = Templates::with(files);
        found.extend(wrong);
        if found.is_empty() { Ok(templates) } else { Err(found) }
    }

    /// The shipped templates under these files (path and text), and what is wrong with them.
    fn with(files: Vec<(String, String)>) -> (Templates, Vec<Diagnostic>) {
        let mut templates = Templates::shipped();
        let mut found = Vec::new();
        for (path, text) in files {
            let stem = Path::new(&path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let named = stem.rsplit_once('.').filter(|(name, _)| is_name(name));
            let Some((name, language)) = named.and_then(|(name, language)| Some((name, tag(language)?))) else {
                let message = "the file is not called NAME.LANGUAGE.txt".to_owned();
                let help =
                    "call it as `order-confirmation.de.txt` is called: small letters, digits and hyphens".to_owned();
                found.push(Diagnostic { file: path, line: 1, column: 1, message, help });
                continue;
            };
            match parse(&path, &text, &language) {
                Ok(file) => {
                    let (name, language) = (name.to_owned(), language.to_string());
                    templates.insert(&name, &language, Text { file, origin: Origin::Own });
                }
                Err(wrong) => found.extend(wrong),
            }
        }
        found.extend(templates.differing());
        (templates, found)
    }

    /// Own texts whose other languages are about another kind of thing.
    fn differing(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for texts in self.texts.values() {
            let topics: BTreeSet<Topic> = texts.values().map(|text| text.file.event.topic()).collect();
            let (Some(first), true) = (texts.values().next(), topics.len() > 1) else { continue };
            let reference = texts.values().find(|text| text.origin == Origin::Shipped).unwrap_or(first);
            let wrong = texts.values().filter(|text| text.file.event.topic() != reference.file.event.topic());
            found.extend(wrong.map(|text| Diagnostic {
                file: text.file.name.clone(),
                line: 1,
                column: 1,
                message: format!(
                    "this is for `{}`, the other languages for `{}`",
                    text.file.event, reference.file.event
                ),
                help: format!("make them fit, or give this another name; {} is one of the others", reference.file.name),
            }));
        }
        found
    }

    fn insert(&mut self, name: &str, language: &str, text: Text) {
        self.texts.entry(name.to_owned()).or_default().insert(language.to_owned(), text);
    }

    /// What there is, by name.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.texts.iter().filter_map(|(name, texts)| {
            let event = texts.values().next()?.file.event;
            let languages = texts.iter().map(|(language, text)| (language.as_str(), text.origin)).collect();
            Some(Entry { name, event, languages })
        })
    }

    /// The template of a name.
    pub fn get(&self, name: &str) -> Result<Entry<'_>, MessageError> {
        self.entries().find(|entry| entry.name == name).ok_or_else(|| MessageError::NoTemplate {
            name: name.to_owned(),
            known: self.texts.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether an event has what a template asks for.
    pub fn fits(&self, name: &str, event: EventKind) -> Result<(), MessageError> {
        let entry = self.get(name)?;
        if entry.event.topic() == event.topic() {
            Ok(())
        } else {
            Err(MessageError::WrongEvent { name: name.to_owned(), event: entry.event })
        }
    }

    /// The message for a reader: in their language, else the connection's, else English, else the first there is. Amounts
    /// and dates follow the reader's region (`de-AT`) where the text is in their language.
    pub fn render(&self, name: &str, subject: &Subject, reader: &Reader) -> Result<Message, MessageError> {
        let entry = self.get(name)?;
        let wrong_event = || MessageError::WrongEvent { name: name.to_owned(), event: entry.event };
        let (language, formats) = choose(&self.texts[name], reader).ok_or_else(wrong_event)?;
        let file = &self.texts[name][&language].file;
        if subject.topic() != file.event.topic() {
            return Err(wrong_event());
        }
        let mut values = fields::json(subject);
        render::harmless(&mut values);
        let prepared = Prepared::new(file.body());
        let engine = render::engine(&formats, reader.zone());
        match render::fill(&engine, &prepared, &values) {
            Ok(text) if text.is_empty() => {
                let wrong = file.mistake(0, "the message is empty", "leave some text that is always there");
                Err(MessageError::Failed(Box::new(wrong)))
            }
            Ok(text) => Ok(Message { text, language }),
            Err(error) => Err(MessageError::Failed(Box::new(check::mistake(file, &prepared, &error)))),
        }
    }
}

/// Everything that is wrong with the text of a message file, each with its place; `file` names it.
pub fn check(source: &str, file: &str) -> Vec<Diagnostic> {
    parse(file, source, &english()).err().unwrap_or_default()
}

fn parse(path: &str, text: &str, language: &LanguageIdentifier) -> Result<File, Vec<Diagnostic>> {
    let file = File::parse(path, text).map_err(|wrong| vec![wrong])?;
    let found = check::check(&file, &Formats::new(language));
    if found.is_empty() { Ok(file) } else { Err(found) }
}

/// The text's language, and the formats to fill it with.
fn choose(texts: &BTreeMap<String, Text>, reader: &Reader) -> Option<(String, Formats)> {
    let asked = [&reader.language, &reader.fallback_language];
    for wanted in asked.into_iter().flatten().filter_map(|text| tag(text)).chain([english()]) {
        let mut narrower = vec![wanted.clone()];
        // de-Latn-AT, de-AT, de-Latn, de.
        narrower.push(LanguageIdentifier { variants: Default::default(), script: None, ..wanted.clone() });
        narrower.push(LanguageIdentifier { variants: Default::default(), region: None, ..wanted.clone() });
        narrower.push(wanted.language.into());
        if let Some(found) = narrower.iter().map(LanguageIdentifier::to_string).find(|name| texts.contains_key(name)) {
            return Some((found, Formats::new(&wanted)));
        }
    }
    let first = texts.keys().next()?;
    Some((first.clone(), Formats::new(&tag(first)?)))
}

fn english() -> LanguageIdentifier {
    icu_locale_core::langid!("en")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests;
