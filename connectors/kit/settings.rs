//! The settings of a connection: checked against the manifest, all problems at once.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::manifest::{Manifest, Number, SettingFacts, SettingType};

/// Settings every connection may carry, whatever the manifest says.
pub const KIT_SETTINGS: [&str; 3] = ["allow_http", "auth", "budget_account"];

/// The checked settings of one connection, defaults filled in; secrets are kept elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    values: BTreeMap<String, Value>,
}

impl Settings {
    /// The documented values of `manifest`.
    pub fn defaults(manifest: &Manifest) -> Settings {
        let mut values = kit_defaults(manifest);
        for (name, facts) in &manifest.settings {
            if let Some(default) = &facts.default {
                values.insert(name.clone(), default.clone());
            }
        }
        Settings { values }
    }

    /// `given` over the defaults; every problem is one sentence that says what to do.
    pub fn open(
        manifest: &Manifest,
        given: &Map<String, Value>,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Settings, Vec<String>> {
        let mut settings = Settings::defaults(manifest);
        let mut problems = Vec::new();
        for (name, value) in given {
            match manifest.settings.get(name) {
                Some(facts) if facts.secret => problems.push(format!(
                    "`{name}` is a secret: write {name} = {{ env = \"…\" }} or {{ file = \"…\" }}, not its value"
                )),
                Some(facts) => match check(name, facts, value) {
                    Ok(()) => drop(settings.values.insert(name.clone(), plain(facts, value))),
                    Err(problem) => problems.push(problem),
                },
                None if KIT_SETTINGS.contains(&name.as_str()) => match check_kit(manifest, name, value) {
                    Ok(()) => drop(settings.values.insert(name.clone(), value.clone())),
                    Err(problem) => problems.push(problem),
                },
                None => problems.push(unknown(manifest, name)),
            }
        }
        for (name, facts) in &manifest.settings {
            if facts.secret || settings.values.contains_key(name) || given.contains_key(name) {
                continue;
            }
            problems.push(format!("`{name}` is missing: {}", facts.help));
        }
        problems.extend(secret_problems(manifest, &settings, secrets));
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A setting as text; empty when there is none.
    pub fn text(&self, name: &str) -> String {
        match self.values.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            Some(other) => other.to_string(),
        }
    }

    /// A whole number; 0 when there is none.
    pub fn number(&self, name: &str) -> u64 {
        self.values.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    /// Whether a boolean setting is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A list setting.
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = self.values.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The number a manifest means.
    pub fn resolve(&self, number: &Number) -> u64 {
        match number {
            Number::Fixed(number) => *number,
            Number::Setting(placeholder) => self.render(placeholder, &[]).parse().unwrap_or_default(),
        }
    }

    /// `template` with its placeholders filled from `extra` and the settings.
    pub fn render(&self, template: &str, extra: &[(&str, &str)]) -> String {
        let mut out = String::with_capacity(template.len());
        for piece in pieces(template) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Placeholder(name) => match extra.iter().find(|(key, _)| *key == name) {
                    Some((_, value)) => out.push_str(value),
                    None => out.push_str(&self.text(name)),
                },
            }
        }
        out
    }

    /// Whether every setting that `template` names holds something.
    pub fn filled(&self, template: &str) -> bool {
        pieces(template).all(|piece| match piece {
            Piece::Text(_) => true,
            Piece::Placeholder(name) => !self.text(name).is_empty(),
        })
    }
}

/// Names of the placeholders of a template. A brace of JSON is none: names have small letters, digits and _ only.
pub(crate) fn names(template: &str) -> impl Iterator<Item = &str> {
    let named = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    pieces(template)
        .filter_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name),
            Piece::Text(_) => None,
        })
        .filter(named)
}

/// Part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Literal text.
    Text(&'a str),
    /// The name between braces.
    Placeholder(&'a str),
}

/// Splits a template; a brace without partner is literal text.
pub(crate) fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix('{')
            && let Some(end) = after.find('}')
        {
            rest = &after[end + 1..];
            return Some(Piece::Placeholder(&after[..end]));
        }
        let from = usize::from(rest.starts_with('{'));
        let end = rest[from..].find('{').map_or(rest.len(), |at| at + from);
        let (text, tail) = rest.split_at(end);
        rest = tail;
        Some(Piece::Text(text))
    })
}

fn kit_defaults(manifest: &Manifest) -> BTreeMap<String, Value> {
    let auth = manifest.auth.first().map(|auth| Value::from(auth.kind.word()));
    BTreeMap::from([
        ("allow_http".to_owned(), Value::Bool(false)),
        ("auth".to_owned(), auth.unwrap_or_default()),
        ("budget_account".to_owned(), Value::from("")),
    ])
}

fn check_kit(manifest: &Manifest, name: &str, value: &Value) -> Result<(), String> {
    let kinds: Vec<String> = manifest.auth.iter().map(|auth| auth.kind.word().to_owned()).collect();
    let (r#type, choices) = match name {
        "allow_http" => (SettingType::Boolean, Vec::new()),
        "auth" => (SettingType::Choice, kinds),
        _ => (SettingType::Text, Vec::new()),
    };
    let facts = SettingFacts { r#type, default: None, help: String::new(), secret: false, choices, max: None };
    check(name, &facts, value)
}

/// A checked value as the setting holds it.
fn plain(facts: &SettingFacts, value: &Value) -> Value {
    match (facts.r#type, value) {
        (SettingType::Text, Value::Number(number)) => Value::from(number.to_string()),
        _ => value.clone(),
    }
}

/// Whether `value` is what the setting may hold.
pub(crate) fn check(name: &str, facts: &SettingFacts, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("`{name}` must be {what}"));
    match (facts.r#type, value) {
        (SettingType::Text, Value::String(_)) | (SettingType::Boolean, Value::Bool(_)) => Ok(()),
        // An id that is all digits is a text, however it is written.
        (SettingType::Text, Value::Number(number)) if !number.is_f64() => Ok(()),
        (SettingType::Text, _) => wrong("a text"),
        (SettingType::Boolean, _) => wrong("true or false"),
        (SettingType::Url, Value::String(text)) => check_url(name, text),
        (SettingType::Url, _) => wrong("an address such as \"https://example.org\""),
        (SettingType::Integer, value) => match (value.as_u64(), facts.max) {
            (None, _) => wrong("a whole number"),
            (Some(0), _) => wrong("at least 1"),
            (Some(number), Some(max)) if number > max => Err(format!(
                "`{name}` is {number}, but the vendor documents {max}; settings can lower the limit, not raise it"
            )),
            (Some(_), _) => Ok(()),
        },
        (SettingType::Choice, Value::String(text)) if facts.choices.contains(text) => Ok(()),
        (SettingType::Choice, _) => Err(format!("`{name}` must be one of {}", facts.choices.join(", "))),
        (SettingType::List, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(()),
        (SettingType::List, _) => wrong("a list of texts"),
    }
}

fn check_url(name: &str, text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|why| format!("`{name}` is not an address ({why})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{name}` must start with https:// and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("`{name}` must not carry credentials; they have settings of their own"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{name}` must not carry a query or a fragment"));
    }
    Ok(())
}

fn unknown(manifest: &Manifest, name: &str) -> String {
    let known = manifest.settings.keys().map(String::as_str).chain(KIT_SETTINGS);
    format!("`{name}` is not a setting of {}; it knows {}", manifest.name, known.collect::<Vec<_>>().join(", "))
}

fn secret_problems(manifest: &Manifest, settings: &Settings, secrets: &BTreeMap<String, SecretString>) -> Vec<String> {
    let mut problems = Vec::new();
    for name in secrets.keys() {
        if !manifest.settings.get(name).is_some_and(|facts| facts.secret) {
            problems.push(match manifest.settings.get(name) {
                Some(_) => format!("`{name}` is no secret: write its value"),
                None => unknown(manifest, name),
            });
        }
    }
    let chosen = settings.text("auth");
    let auth = manifest.auth.iter().find(|auth| auth.kind.word() == chosen);
    for name in auth.into_iter().flat_map(|auth| &auth.secrets) {
        let empty = secrets.get(name).is_none_or(|secret| {
            use secrecy::ExposeSecret;
            secret.expose_secret().trim().is_empty()
        });
        if empty {
            let help = manifest.settings.get(name).map(|facts| facts.help.as_str()).unwrap_or_default();
            problems.push(format!("the secret `{name}` is missing or empty: {help}"));
        }
    }
    problems
}
