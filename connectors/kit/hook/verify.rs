//! Whether a delivery comes from the vendor: signatures over the raw bytes, secrets compared in constant time.

use std::collections::BTreeMap;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::facts::{SignatureEncoding, SignedPart, TimestampForm, VerifyFacts, VerifyKind};
use super::{Delivery, HookRefusal, RefusalKind};
use crate::kit::clock::Millis;
use crate::kit::problems::duration_ms;
use crate::kit::time;

/// One way to verify, with its secrets.
#[derive(Clone)]
pub(super) struct Proof {
    facts: VerifyFacts,
    // As many as are set, in the order of the facts; never empty.
    secrets: Vec<SecretString>,
}

impl Proof {
    /// The way with those of its secrets that are set; none when none is. The problem is a sentence without the secret.
    pub(super) fn open(facts: &VerifyFacts, given: &BTreeMap<String, SecretString>) -> Result<Option<Proof>, String> {
        let mut secrets = Vec::new();
        for name in &facts.secrets {
            match given.get(name) {
                // Anybody can sign with an empty key.
                Some(secret) if secret.expose_secret().trim().is_empty() => {
                    return Err(format!("the secret `{name}` is empty: set it, or leave it out to take no webhooks"));
                }
                Some(secret) => secrets.push(secret.clone()),
                None => {}
            }
        }
        if secrets.is_empty() {
            return Ok(None);
        }
        if facts.kind == VerifyKind::Basic && secrets.len() < facts.secrets.len() {
            return Err(format!("webhooks need `{}` together", facts.secrets.join("` and `")));
        }
        Ok(Some(Proof { facts: facts.clone(), secrets }))
    }

    /// Whether the address ends in the secret.
    pub(super) fn in_path(&self) -> bool {
        self.facts.kind == VerifyKind::SecretInPath
    }

    /// Whether it verifies signatures.
    pub(super) fn signs(&self) -> bool {
        self.facts.kind.signs()
    }

    /// The secret that is given out where one is needed.
    pub(super) fn first_secret(&self) -> &SecretString {
        &self.secrets[0]
    }

    /// Whether `secret` is one of those.
    pub(super) fn knows(&self, secret: &SecretString) -> bool {
        self.secrets.iter().any(|own| same(own.expose_secret().as_bytes(), secret.expose_secret().as_bytes()))
    }

    /// Whether `delivery` is the vendor's, and of now.
    pub(super) fn check(&self, delivery: &Delivery<'_>, now: Millis) -> Result<(), HookRefusal> {
        match self.facts.kind {
            VerifyKind::HmacSha256 => self.signed::<Hmac<Sha256>>(delivery, now),
            VerifyKind::HmacSha1 => self.signed::<Hmac<Sha1>>(delivery, now),
            VerifyKind::SecretInPath => self.path(delivery),
            VerifyKind::Basic => self.basic(delivery),
        }
    }

    fn signed<M: Mac + KeyInit>(&self, delivery: &Delivery<'_>, now: Millis) -> Result<(), HookRefusal> {
        let name = self.facts.header.as_deref().unwrap_or_default();
        let text = delivery.header(name).ok_or_else(|| {
            let help = format!("set the webhook's secret at the vendor to the value of {}", self.names());
            HookRefusal::new(RefusalKind::MissingSignature, format!("the header {name} is missing: {help}"))
        })?;
        let stamp = match &self.facts.timestamp {
            Some(name) => Some(delivery.header(name).ok_or_else(|| {
                HookRefusal::new(RefusalKind::MissingSignature, format!("the header {name} is missing: it is signed"))
            })?),
            None => None,
        };
        let claimed = self.decode(text);
        let holds = claimed.is_some_and(|claimed| {
            self.secrets.iter().any(|secret| {
                let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret.expose_secret().as_bytes()) else {
                    return false;
                };
                for part in &self.facts.signed {
                    mac.update(match part {
                        SignedPart::Timestamp => stamp.unwrap_or_default().as_bytes(),
                        SignedPart::Body => delivery.body,
                        SignedPart::Method => delivery.method.as_bytes(),
                        SignedPart::Url => delivery.url.as_bytes(),
                        SignedPart::Text(text) => text.as_bytes(),
                    });
                }
                // In constant time, and over the whole length.
                mac.verify_slice(&claimed).is_ok()
            })
        });
        if !holds {
            return Err(HookRefusal::new(RefusalKind::WrongSignature, self.wrong()));
        }
        // After the signature: only the vendor learns what time it is here.
        stamp.map_or(Ok(()), |stamp| self.fresh(stamp, now))
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        let digits = text.trim().strip_prefix(&self.facts.prefix)?;
        match self.facts.encoding? {
            SignatureEncoding::Base64 => base64::engine::general_purpose::STANDARD.decode(digits).ok(),
            SignatureEncoding::Hex => unhex(digits.as_bytes()),
        }
    }

    fn wrong(&self) -> String {
        let url = match self.facts.signed.contains(&SignedPart::Url) {
            true => " Its signature covers the address too, which must arrive here as the vendor calls it.",
            false => "",
        };
        format!(
            "the signature does not fit: is {} what the vendor has, and does nothing in between change the body?{url}",
            self.names()
        )
    }

    /// The time of signing is within the tolerance; a delivery kept by a third party cannot be played again later.
    fn fresh(&self, stamp: &str, now: Millis) -> Result<(), HookRefusal> {
        let unreadable = || {
            let name = self.facts.timestamp.as_deref().unwrap_or_default();
            HookRefusal::new(RefusalKind::Unreadable, format!("{name} holds no time of the form the manifest says"))
        };
        let at = match self.facts.timestamp_is {
            TimestampForm::Epoch => stamp.trim().parse::<Millis>().ok().and_then(|at| at.checked_mul(1_000)),
            TimestampForm::EpochMs => stamp.trim().parse().ok(),
            TimestampForm::Iso => time::parse(&Value::from(stamp)),
        }
        .ok_or_else(unreadable)?;
        let tolerance = duration_ms(&self.facts.tolerance).unwrap_or_default();
        let away = now.abs_diff(at);
        if away <= tolerance.unsigned_abs() {
            return Ok(());
        }
        let side = if at < now { "ago" } else { "ahead" };
        Err(HookRefusal::new(
            RefusalKind::Stale,
            format!(
                "it was signed {} s {side}, and {} is allowed: compare this machine's clock with the vendor's; if they \
                 agree, somebody sent an old delivery again",
                away / 1_000,
                self.facts.tolerance
            ),
        ))
    }

    fn path(&self, delivery: &Delivery<'_>) -> Result<(), HookRefusal> {
        let given = delivery.path_secret.filter(|given| !given.is_empty()).ok_or_else(|| {
            let help = format!("the address set at the vendor must end in the value of {}", self.names());
            HookRefusal::new(RefusalKind::MissingSignature, format!("the address holds no secret: {help}"))
        })?;
        if self.secrets.iter().any(|secret| same(secret.expose_secret().as_bytes(), given.as_bytes())) {
            return Ok(());
        }
        let message = format!("the secret in the address is not {}", self.names());
        Err(HookRefusal::new(RefusalKind::WrongSignature, message))
    }

    fn basic(&self, delivery: &Delivery<'_>) -> Result<(), HookRefusal> {
        let given = delivery
            .header(http::header::AUTHORIZATION.as_str())
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .ok_or_else(|| {
                let help = format!("set user and password at the vendor to the values of {}", self.names());
                HookRefusal::new(RefusalKind::MissingSignature, format!("there is no basic authorization: {help}"))
            })?;
        let pair = self.secrets.iter().map(|secret| secret.expose_secret()).collect::<Vec<_>>().join(":");
        let decoded = base64::engine::general_purpose::STANDARD.decode(given.1.trim());
        if decoded.is_ok_and(|decoded| same(pair.as_bytes(), &decoded)) {
            return Ok(());
        }
        let message = format!("user and password are not {}", self.names());
        Err(HookRefusal::new(RefusalKind::WrongSignature, message))
    }

    fn names(&self) -> String {
        let link = if self.facts.kind == VerifyKind::Basic { "` and `" } else { "` or `" };
        format!("`{}`", self.facts.secrets.join(link))
    }
}

/// Equality in constant time; through a hash, so that not even the length of the secret shows.
fn same(secret: &[u8], given: &[u8]) -> bool {
    Sha256::digest(secret).as_slice().ct_eq(Sha256::digest(given).as_slice()).into()
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    /// Timing cannot be tested on a shared machine, so the source is: what is secret is compared by `verify_slice` and
    /// `ct_eq` only.
    #[test]
    fn secrets_are_compared_in_constant_time() {
        let source = include_str!("verify.rs").split("#[cfg(test)]").next().unwrap();
        assert_eq!(source.matches("verify_slice(").count(), 1);
        assert_eq!(source.matches(".ct_eq(").count(), 1);
        let compared = |line: &&str| line.contains("==") || line.contains("!=") || line.contains("eq_ignore");
        for line in source.lines().filter(compared) {
            assert!(line.contains("VerifyKind::") || line.contains("scheme"), "{line}");
        }
    }
}
