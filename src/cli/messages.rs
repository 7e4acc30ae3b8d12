//! `counterpart messages`

use std::path::{Path, PathBuf};

use counterpart_core::business::{EventKind, NoSuchEvent, Subject, Topic};
use counterpart_core::mapping::Diagnostic;
use serde_json::{Map, Value, json};

use super::output::{Failure, Output};
use crate::config::{Config, load_templates};
use crate::templates::{MessageError, Misfit, Origin, Reader, Templates, fields, written};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// The texts there are, with their languages.
    List,
    /// How a text looks, filled with an event.
    Preview {
        /// Name of the template.
        template: String,
        /// A JSON file such as `{"order": {"number": "1007"}}`, `-` for standard input; without it an example.
        #[arg(long, value_name = "FILE")]
        event: Option<PathBuf>,
        /// The reader's language instead of the one in the event: `de`, `pt-BR`.
        #[arg(long)]
        language: Option<String>,
    },
}

/// An event file: what it tells about, and which event it is if that is to be checked.
struct EventFile {
    event: Option<EventKind>,
    subject: Subject,
}

pub(super) fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    let templates = templates(out, config)?;
    match &args.action {
        Action::List => list(out, &templates),
        Action::Preview { template, event, language } => {
            preview(out, &templates, template, event.as_deref(), language.as_deref())
        }
    }
}

/// What is wrong with the operator's own texts.
pub(super) fn problems(config: &Config) -> Vec<Diagnostic> {
    load_templates(config).err().unwrap_or_default()
}

fn line(wrong: &Diagnostic) -> String {
    format!("{}:{}:{}: {} ({})", wrong.file, wrong.line, wrong.column, wrong.message, wrong.help)
}

/// The configured templates; the shipped ones where nothing is configured yet.
fn templates(out: &Output, path: &Path) -> Result<Templates, Failure> {
    if !path.exists() {
        out.remark(format!("{} is not there: these are the shipped texts", path.display()));
        return Ok(Templates::shipped());
    }
    load_templates(&Config::load(path)?).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(line).collect();
        Failure::usage(lines.join("\n"), "correct these; docs/messages.md shows how texts are written")
    })
}

fn list(out: &Output, templates: &Templates) -> Result<u8, Failure> {
    let mut rows = out.table(&["template", "event", "languages", "own"]);
    let mut document = Vec::new();
    for entry in templates.entries() {
        let of = |origin: Origin| -> Vec<&str> {
            entry.languages.iter().filter(|(_, from)| *from == origin).map(|(language, _)| *language).collect()
        };
        let all: Vec<&str> = entry.languages.iter().map(|(language, _)| *language).collect();
        rows.add_row([entry.name.to_owned(), entry.event.to_string(), all.join(", "), of(Origin::Own).join(", ")]);
        document.push(json!({
            "name": entry.name, "event": entry.event, "languages": all, "own": of(Origin::Own),
        }));
    }
    if out.json {
        out.document(&document)?;
    } else {
        out.line(rows.to_string());
    }
    Ok(0)
}

fn preview(
    out: &Output,
    templates: &Templates,
    name: &str,
    event: Option<&Path>,
    language: Option<&str>,
) -> Result<u8, Failure> {
    let entry = templates.get(name).map_err(failure)?;
    let subject = match event {
        None => fields::full(entry.event.topic()),
        Some(path) => {
            let read = read(path)?;
            if let Some(event) = read.event {
                templates.fits(name, event).map_err(failure)?;
            }
            read.subject
        }
    };
    let mut reader = Reader::of(subject.party());
    // The example's person is Swedish; nobody asked for that.
    reader.language = match (language, event) {
        (Some(language), _) => Some(language.to_owned()),
        (None, None) => None,
        (None, Some(_)) => reader.language,
    };
    let message = templates.render(name, &subject, &reader).map_err(failure)?;
    if out.json {
        out.document(&json!({ "template": name, "language": message.language, "text": message.text }))?;
    } else {
        out.line(message.text);
    }
    Ok(0)
}

fn read(path: &Path) -> Result<EventFile, Failure> {
    let name = path.display();
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| Failure::usage(format!("{name} cannot be read: {error}"), "name a JSON file"))?;
    let told: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{name} is no JSON object: {error}"), ABOUT))?;
    understood(told).map_err(|wrong| Failure::usage(format!("{name}: {}", wrong.message), wrong.help))
}

const ABOUT: &str =
    "write `{\"order\": {…}}`, or `shipment`, `ticket`, `conversation`; docs/messages.md lists the fields";

/// What the members of an event file say.
fn understood(mut told: Map<String, Value>) -> Result<EventFile, Misfit> {
    let wrong = |message: String, help: String| Misfit { message, help };
    let event = match told.remove("event") {
        None | Some(Value::Null) => None,
        Some(event) => {
            let known = || EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            let word = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
            Some(
                word.parse()
                    .map_err(|error: NoSuchEvent| wrong(error.to_string(), format!("there are {}", known())))?,
            )
        }
    };
    let topics = [Topic::Order, Topic::Shipment, Topic::Ticket, Topic::Conversation];
    let mut members = told.into_iter();
    let (Some((key, subject)), None) = (members.next(), members.next()) else {
        return Err(wrong("an event is about one thing".to_owned(), ABOUT.to_owned()));
    };
    let topic = topics.into_iter().find(|topic| topic.as_str() == key);
    let topic = topic.ok_or_else(|| wrong(format!("no event is about `{key}`"), ABOUT.to_owned()))?;
    Ok(EventFile { event, subject: written(topic, subject)? })
}

fn failure(error: MessageError) -> Failure {
    let help = match &error {
        MessageError::NoTemplate { .. } => "`counterpart messages list` shows them".to_owned(),
        MessageError::WrongEvent { .. } => "take an event about the same kind of thing".to_owned(),
        MessageError::Failed(wrong) => wrong.help.clone(),
    };
    Failure::usage(error.to_string(), help)
}
