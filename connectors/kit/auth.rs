//! Credentials: where they go in a request.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::manifest::{AuthFacts, AuthKind};
use super::settings::Settings;

/// The credentials of one connection, ready to be put into requests.
pub(crate) struct Auth {
    kind: AuthKind,
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(String, SecretString)>,
    fingerprint: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Auth({})", self.kind.word())
    }
}

impl Auth {
    /// Puts `secrets` where `facts` say; the problem is a sentence without the secret.
    pub(crate) fn new(
        facts: &AuthFacts,
        settings: &Settings,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Auth, String> {
        let values: Vec<&str> =
            facts.secrets.iter().filter_map(|name| Some(secrets.get(name)?.expose_secret())).collect();
        let one = || values.first().copied().unwrap_or_default();
        let mut headers = Vec::new();
        let mut query = Vec::new();
        match facts.kind {
            AuthKind::Header => {
                for name in &facts.names {
                    headers.push((header_name(name)?, header_value(one(), facts)?));
                }
            }
            AuthKind::Bearer => {
                let word = facts.names.first().map_or("Bearer", String::as_str);
                headers.push((http::header::AUTHORIZATION, header_value(&format!("{word} {}", one()), facts)?));
            }
            AuthKind::Basic => {
                let (user, password) = match facts.names.first() {
                    Some(user) => {
                        if !settings.filled(user) {
                            return Err(format!("the user name is not set: fill what `{user}` names"));
                        }
                        (settings.render(user, &[]), one())
                    }
                    None => (one().to_owned(), values.get(1).copied().unwrap_or_default()),
                };
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                headers.push((http::header::AUTHORIZATION, header_value(&format!("Basic {pair}"), facts)?));
            }
            AuthKind::Query => {
                let pairs = facts.names.iter().zip(&values);
                query.extend(pairs.map(|(name, value)| (name.clone(), SecretString::from(*value))));
            }
        }
        Ok(Auth { kind: facts.kind, headers, query, fingerprint: fingerprint(&values) })
    }

    /// Adds the credentials to a request.
    pub(crate) fn apply(&self, url: &mut url::Url, headers: &mut http::HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        if !self.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.query {
                pairs.append_pair(name, value.expose_secret());
            }
        }
    }

    /// Removes credentials that the vendor echoed in an address.
    pub(crate) fn strip(&self, url: &mut url::Url) {
        if self.query.is_empty() {
            return;
        }
        let echoed = |name: &str| self.query.iter().any(|(own, _)| own == name);
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| !echoed(name))
            .map(|(a, b)| (a.into_owned(), b.into_owned()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
    }

    /// A hash that tells accounts apart and does not give the secret away.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))
}

fn header_value(text: &str, facts: &AuthFacts) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        format!("the secret `{}` holds characters a header cannot carry (a line break?)", facts.secrets.join("`, `"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn fingerprint(values: &[&str]) -> String {
    let mut hash = Sha256::new();
    for value in values {
        hash.update((value.len() as u64).to_le_bytes());
        hash.update(value.as_bytes());
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
