//! Exact look-ups: what counts as the same key, and who holds a value that must be unique.

use super::connector::{Connector, Cx, MatchKey, Push, RemoteRecord};
use super::error::{ConnectorError, ErrorKind};
use super::manifest::StreamFacts;
use super::paging::text_of;

/// Whether the record holds exactly this key at `pointer`.
pub(crate) fn holds(record: &RemoteRecord, pointer: &str, key: &MatchKey) -> bool {
    let Some(found) = record.body.pointer(pointer).and_then(text_of) else { return false };
    same(key, &found)
}

/// Whether `found` is the key, in the way vendors compare: e-mail in any letter case, phone by its digits.
fn same(key: &MatchKey, found: &str) -> bool {
    match key {
        MatchKey::Email(email) => found.trim().to_lowercase() == email.trim().to_lowercase(),
        MatchKey::Phone(phone) => {
            let digits = phone_digits(phone);
            !digits.is_empty() && phone_digits(found) == digits
        }
        MatchKey::External { value, .. } => found == value,
    }
}

fn phone_digits(phone: &str) -> String {
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    digits.strip_prefix("00").map(str::to_owned).unwrap_or(digits)
}

/// Turns a conflict without a holder into one with it, by looking the sent values up exactly.
pub(crate) async fn with_holder(
    connector: &dyn Connector,
    cx: &Cx,
    stream: &str,
    push: &Push<'_>,
    mut error: ConnectorError,
) -> ConnectorError {
    let ErrorKind::Conflict { holder, keys } = &mut error.kind else { return error };
    match holder_of(connector, cx, stream, push, keys).await {
        Ok(found) => *holder = found,
        Err(failed) => {
            error.message = format!("{} (and its holder could not be looked up: {})", error.message, failed.message);
        }
    }
    error
}

/// The id of the one other record that holds a value of `push` in one of the remote fields `keys` (any, when empty).
pub(crate) async fn holder_of(
    connector: &dyn Connector,
    cx: &Cx,
    stream: &str,
    push: &Push<'_>,
    keys: &[String],
) -> Result<Option<String>, ConnectorError> {
    let Some(facts) = connector.manifest().stream(stream) else { return Ok(None) };
    let own = match push {
        Push::Update { id, .. } => Some(*id),
        _ => None,
    };
    for key in sent_keys(cx, facts, push, keys) {
        match connector.find(cx, stream, &key).await {
            Ok(found) => {
                let mut others = found.into_iter().filter(|record| Some(record.id.as_str()) != own);
                if let (Some(one), None) = (others.next(), others.next()) {
                    return Ok(Some(one.id));
                }
            }
            Err(error) if error.kind == ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The keys among the sent values that can be looked up.
pub(crate) fn sent_keys(cx: &Cx, facts: &StreamFacts, push: &Push<'_>, keys: &[String]) -> Vec<MatchKey> {
    let body = match push {
        Push::Create { body } | Push::Update { body, .. } => *body,
        Push::Delete { .. } => return Vec::new(),
    };
    let mut sent = Vec::new();
    for (kind, find) in &facts.find {
        let pointer = cx.settings.render(&find.pointer, &[]);
        let concerned = keys.is_empty() || keys.iter().any(|key| pointer.split('/').any(|step| step == key));
        let Some(value) = body.pointer(&pointer).and_then(text_of).filter(|value| concerned && !value.is_empty())
        else {
            continue;
        };
        sent.push(match kind.as_str() {
            "email" => MatchKey::Email(value),
            "phone" => MatchKey::Phone(value),
            _ => MatchKey::External { namespace: String::new(), value },
        });
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_not_the_same() {
        let email = MatchKey::Email("ann@shop.example".into());
        assert!(same(&email, " Ann@Shop.example"));
        assert!(!same(&email, "joann@shop.example"));
        let phone = MatchKey::Phone("+4640123456".into());
        assert!(same(&phone, "0046 40-123 456"));
        assert!(!same(&phone, "+46401234567"));
        assert!(!same(&MatchKey::Phone("+".into()), "-"));
        let id = MatchKey::External { namespace: "shop".into(), value: "a1".into() };
        assert!(!same(&id, "A1"));
    }
}
