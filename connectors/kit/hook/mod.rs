//! Webhooks: verified over their raw bytes and read as hints, without a server and without any state.
//!
//! A delivery says only *that* a record changed. What it changed to is read from the vendor again, so that an old,
//! repeated or reordered delivery can do no harm.

pub mod facts;
mod read;
pub mod subscription;
mod verify;

use std::collections::BTreeMap;
use std::fmt;

use http::HeaderMap;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use self::facts::HookFacts;
use self::subscription::Listed;
use self::verify::Proof;
use super::clock::Millis;
use super::redact::Redactor;

/// A webhook as it arrived.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// The method in capital letters.
    pub method: &'a str,
    /// The whole address as the vendor called it, with scheme, public host and query; some vendors sign it.
    pub url: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The secret at the end of the address, for vendors that cannot sign.
    pub path_secret: Option<&'a str>,
    /// The body, byte by byte as it came; the server bounds its size.
    pub body: &'a [u8],
}

// Headers, address and body may hold secrets and people.
impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Delivery({}, {} bytes)", self.method, self.body.len())
    }
}

impl<'a> Delivery<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What a delivery led to. Both lists are empty for a ping: it is answered 2xx and nothing is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// One for each event, in the order of the body.
    pub hints: Vec<Hint>,
    /// Events of a batch that are no hints, a sentence each on why.
    pub skipped: Vec<String>,
}

/// The vendor says that a record changed. It holds no business data: the record is read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The stream of the record. The connector may have no such stream (yet).
    pub stream: String,
    /// The vendor's id of the record.
    pub external_id: String,
    /// The vendor's id of the record it belongs to: the conversation of a message.
    pub parent: Option<String>,
    /// The vendor's word for what happened.
    pub topic: String,
    /// The vendor's id of the delivery. Not unique at every vendor: never the only key to drop a delivery by.
    pub delivery_id: Option<String>,
    /// The vendor's id of the event. Not unique at every vendor either.
    pub event_id: Option<String>,
    /// The vendor says the record is gone; reading it tells whether it is.
    pub deleted: bool,
    /// Remote names of what changed, sorted; none when the vendor does not say. Where no name is mapped, nothing need
    /// be read.
    pub changed: Option<Vec<String>>,
    /// When it happened, as the vendor says; deliveries come in any order.
    pub occurred_at: Option<Millis>,
}

/// Why a delivery is not taken, with a message that says what to do and holds nothing of what was not verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HookRefusal {
    /// What is wrong.
    pub kind: RefusalKind,
    /// For a person: what happened and what to do.
    pub message: String,
}

/// What is wrong with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The connector knows no webhooks.
    Unsupported,
    /// The connection has no secret to verify webhooks with.
    NotConfigured,
    /// There is nothing to verify it by.
    MissingSignature,
    /// The signature or secret does not fit.
    WrongSignature,
    /// It was signed too long ago, or in the future.
    Stale,
    /// It is the vendor's, and not in a form known here.
    Unreadable,
    /// It is the vendor's, about something that is not read here.
    UnknownTopic,
}

impl RefusalKind {
    /// Short stable name.
    pub fn name(self) -> &'static str {
        match self {
            RefusalKind::Unsupported => "unsupported",
            RefusalKind::NotConfigured => "not_configured",
            RefusalKind::MissingSignature => "missing_signature",
            RefusalKind::WrongSignature => "wrong_signature",
            RefusalKind::Stale => "stale",
            RefusalKind::Unreadable => "unreadable",
            RefusalKind::UnknownTopic => "unknown_topic",
        }
    }

    /// The HTTP status to answer with.
    pub fn status(self) -> u16 {
        match self {
            RefusalKind::Unsupported => 404,
            // The vendor may try again after the secret was set.
            RefusalKind::NotConfigured => 503,
            RefusalKind::MissingSignature | RefusalKind::WrongSignature | RefusalKind::Stale => 401,
            RefusalKind::Unreadable => 400,
            // Nothing is lost, and vendors switch webhooks off whose deliveries fail.
            RefusalKind::UnknownTopic => 200,
        }
    }
}

impl HookRefusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> HookRefusal {
        HookRefusal { kind, message: message.into() }
    }
}

/// The webhooks of one connection: the facts and the secrets.
#[derive(Clone)]
pub(crate) struct Hooks {
    facts: HookFacts,
    proofs: Vec<Proof>,
}

impl Hooks {
    /// Every problem is a sentence without the secret.
    pub(crate) fn open(facts: &HookFacts, secrets: &BTreeMap<String, SecretString>) -> Result<Hooks, Vec<String>> {
        let mut proofs = Vec::new();
        let mut problems = Vec::new();
        for way in &facts.verify {
            match Proof::open(way, secrets) {
                Ok(proof) => proofs.extend(proof),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Hooks { facts: facts.clone(), proofs }) } else { Err(problems) }
    }

    /// Whether there is a secret to verify deliveries with.
    pub(crate) fn configured(&self) -> bool {
        !self.proofs.is_empty()
    }

    /// The secret that the address ends in: where deliveries are not verified otherwise, and there is one.
    pub(crate) fn path_secret(&self) -> Option<&SecretString> {
        let otherwise = self.proofs.iter().any(|proof| !proof.in_path());
        if otherwise { None } else { self.proofs.first().map(Proof::first_secret) }
    }

    /// The secret that an address may end in, whatever else verifies deliveries.
    pub(crate) fn secret_in_path(&self) -> Option<&SecretString> {
        self.proofs.iter().find(|proof| proof.in_path()).map(Proof::first_secret)
    }

    /// The secret that a vendor is to sign with.
    pub(crate) fn signing_secret(&self) -> Option<&SecretString> {
        self.proofs.iter().find(|proof| proof.signs()).map(Proof::first_secret)
    }

    /// Whether the deliveries of a listed subscription can be verified, as far as the vendor shows.
    pub(crate) fn verifies(&self, listed: &Listed) -> bool {
        let shown = self.facts.subscriptions.as_ref().is_some_and(|facts| facts.secret.is_some());
        if !shown || self.path_secret().is_some() {
            return self.configured();
        }
        let known = |secret| self.proofs.iter().any(|proof| proof.signs() && proof.knows(secret));
        listed.secret.as_ref().is_some_and(known)
    }

    /// Verifies `delivery`, then reads it.
    pub(crate) fn take(
        &self,
        delivery: &Delivery<'_>,
        now: Millis,
        redactor: &Redactor,
    ) -> Result<Intake, HookRefusal> {
        if self.configured() && self.facts.ping.as_ref().is_some_and(|field| is_ping(field, delivery)) {
            return Ok(Intake::default());
        }
        self.verify(delivery, now)?;
        read::intake(&self.facts, delivery, redactor)
    }

    /// One way that holds is enough, and none is not; of several that do not, the one that was tried at all tells most.
    fn verify(&self, delivery: &Delivery<'_>, now: Millis) -> Result<(), HookRefusal> {
        let mut told = self.unconfigured();
        for proof in &self.proofs {
            let Err(refusal) = proof.check(delivery, now) else { return Ok(()) };
            let absent = refusal.kind == RefusalKind::MissingSignature;
            if told.kind == RefusalKind::NotConfigured || told.kind == RefusalKind::MissingSignature && !absent {
                told = refusal;
            }
        }
        Err(told)
    }

    fn unconfigured(&self) -> HookRefusal {
        let names: Vec<&str> = self.facts.verify.iter().flat_map(|way| &way.secrets).map(String::as_str).collect();
        let message = format!("there is no secret to verify webhooks with: set `{}`", names.join("` or `"));
        HookRefusal::new(RefusalKind::NotConfigured, message)
    }
}

/// A form whose only field is `field` and holds a number. It is unsigned, so it must not be able to say anything.
fn is_ping(field: &str, delivery: &Delivery<'_>) -> bool {
    let kind = delivery.header(http::header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return false;
    }
    let mut pairs = url::form_urlencoded::parse(delivery.body);
    let numbered = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    pairs.next().is_some_and(|(name, value)| name == field && numbered(&value)) && pairs.next().is_none()
}
