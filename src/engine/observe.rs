//! From a vendor's record to what the store keeps of it.

use counterpart_connectors::RemoteRecord;
use counterpart_core::{Document, Fields};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::session::Wired;
use crate::store::{Incoming, Record};

/// A record as read, with what could not be read.
pub(super) struct Observed {
    pub row: Incoming,
    pub fields: Fields,
    pub problems: u64,
}

/// Maps one vendor record into the canonical model and takes its fingerprint.
pub(super) fn observe(wired: &Wired, record: RemoteRecord) -> Observed {
    let read = wired.mapping.read(&record.body, wired.region());
    keep(record, read.fields, read.problems.len() as u64)
}

/// The same for the answer to a write, which at some vendors shows only a part of the record: what it leaves out, and
/// was not written, is as it was.
pub(super) fn observe_answer(wired: &Wired, mut record: RemoteRecord, known: &Record, sent: &Fields) -> Observed {
    let read = wired.mapping.read(&record.body, wired.region());
    let mut fields = read.fields;
    let mut partial = false;
    for (name, slot) in &known.fields {
        // An old value does not stand in for one that cannot be read any more.
        let unreadable = || wired.mapping.is_unreadable(name, &record.body);
        if !fields.contains_key(name) && !sent.contains_key(name) && !unreadable() {
            fields.insert(name.clone(), slot.clone());
            partial = true;
        }
    }
    if partial {
        complete(&mut record.body, &known.remote);
    }
    keep(record, fields, read.problems.len() as u64)
}

/// The same for a business record.
pub(super) fn observe_document(document: &Document, record: RemoteRecord) -> Observed {
    let text = document.value(&record.id, &record.body).to_string();
    let row = Incoming {
        external_id: record.id,
        remote: serde_json::to_string(&record.body).expect("a JSON value is JSON"),
        fingerprint: fingerprint(&text, record.deleted),
        fields: text,
        remote_updated_at: record.updated_at,
        version: record.version,
        deleted: record.deleted,
    };
    Observed { row, fields: Fields::new(), problems: 0 }
}

fn keep(record: RemoteRecord, fields: Fields, problems: u64) -> Observed {
    let text = serde_json::to_string(&fields).expect("canonical fields have text keys and plain values");
    let row = Incoming {
        external_id: record.id,
        remote: serde_json::to_string(&record.body).expect("a JSON value is JSON"),
        fingerprint: fingerprint(&text, record.deleted),
        fields: text,
        remote_updated_at: record.updated_at,
        version: record.version,
        deleted: record.deleted,
    };
    Observed { row, fields, problems }
}

/// Adds what is known of a record to an answer that shows only a part of it.
fn complete(answer: &mut Value, known: &Value) {
    if let (Some(answer), Some(known)) = (answer.as_object_mut(), known.as_object()) {
        for (name, value) in known {
            match answer.get_mut(name) {
                Some(present) => complete(present, value),
                None => {
                    answer.insert(name.clone(), value.clone());
                }
            }
        }
    }
}

/// Equal for two readings with the same canonical content, whatever else the vendor's record says. Key order, number
/// and text forms are gone by then, so noise at the vendor is no change here.
pub(super) fn fingerprint(fields: &str, deleted: bool) -> String {
    let mut hash = Sha256::new();
    hash.update(fields.as_bytes());
    hash.update([u8::from(deleted)]);
    hash.finalize().iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        for half in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(half), 16).expect("half a byte is one hexadecimal digit"));
        }
        text
    })
}
