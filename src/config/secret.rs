//! Secrets: references to the environment or to a file, read when the configuration is loaded.

use std::path::Path;

use secrecy::SecretString;
use serde_json::Value;

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A variable of the environment.
    Env(String),
    /// A file whose content, without the line break at its end, is the secret.
    File(String),
}

impl Reference {
    /// A table with exactly one of `env` and `file`; anything else is a plain setting.
    pub fn from_value(value: &Value) -> Option<Reference> {
        let table = value.as_object().filter(|table| table.len() == 1)?;
        match (table.get("env"), table.get("file")) {
            (Some(Value::String(name)), None) => Some(Reference::Env(name.clone())),
            (None, Some(Value::String(path))) => Some(Reference::File(path.clone())),
            _ => None,
        }
    }

    /// Reads the secret, from a file that begins at `base` unless its path is whole; the error says what is not there, never
    /// what is.
    pub fn read(&self, base: &Path) -> Result<SecretString, String> {
        let text = match self {
            #[expect(clippy::disallowed_methods, reason = "secrets are read here and nowhere else")]
            Reference::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?
            }
            Reference::File(path) => {
                let path = base.join(path);
                let wrong = |error| format!("the file {} cannot be read: {error}", path.display());
                std::fs::read_to_string(&path).map_err(wrong)?
            }
        };
        match text.trim_end_matches(['\n', '\r']) {
            "" => Err(match self {
                Reference::Env(name) => format!("the environment variable {name} is empty"),
                Reference::File(path) => format!("the file {path} is empty"),
            }),
            secret => Ok(secret.to_owned().into()),
        }
    }
}
