//! `counterpart explain`

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use counterpart_core::{FieldName, Slot};
use serde_json::json;

use super::app;
use super::output::{Failure, Output, time};
use crate::config::Config;
use crate::engine::LeftAlone;
use crate::store::{Entity, OutboxRow, Record, Store};

/// The one stream that is read.
const STREAM: &str = "contact";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `person`.
    kind: String,
    /// The person's number, `CONNECTION/ID`, or an e-mail address.
    id: String,
}

pub(super) async fn run(out: &Output, config: &Path, args: &Args) -> Result<u8, Failure> {
    if !matches!(args.kind.as_str(), "person" | "contact") {
        return Err(Failure::usage(format!("`{}` cannot be explained", args.kind), "`counterpart explain person ID`"));
    }
    let (config, store) = app::open(config).await?;
    let Some((entity, records)) = find(&config, &store, &args.id).await? else {
        let help = "give a person's number, CONNECTION/ID, or an e-mail address that some system shows";
        return Err(Failure::usage(format!("nobody is known as `{}`", args.id), help));
    };
    let ids: Vec<i64> = records.iter().map(|record| record.id).collect();
    let open = store.open_conflicts_of(&entity.iter().map(|entity| entity.id).collect::<Vec<_>>(), &ids).await?;
    let writes = match &entity {
        Some(entity) => store.last_writes(entity.id).await?,
        None => Vec::new(),
    };
    let left: BTreeMap<i64, Vec<LeftAlone>> = match &entity {
        Some(entity) => {
            let engine = app::engine(out, config, store)?;
            engine.why_left_alone(entity, &records, &open).await?.into_iter().collect()
        }
        None => BTreeMap::new(),
    };
    if out.json {
        let records: Vec<_> = records.iter().map(|record| record_document(record, left.get(&record.id))).collect();
        let waiting: Vec<_> = open.iter().map(|c| json!({ "id": c.id, "kind": c.kind, "detail": c.detail })).collect();
        out.document(&json!({
            "person": entity.as_ref().map(|entity| entity.id),
            "fields": entity.as_ref().map(|entity| &entity.golden), "records": records, "waiting": waiting,
            "writes": writes.iter().map(write_document).collect::<Vec<_>>(),
        }))?;
        return Ok(0);
    }
    show(out, entity.as_ref(), &records, &left);
    for conflict in &open {
        out.line(format!("waits: entry {} ({}) {}", conflict.id, conflict.kind, conflict.detail));
    }
    for row in &writes {
        let fields: Vec<String> = row.op.fields.keys().map(ToString::to_string).collect();
        let error = row.error.as_ref().map_or_else(String::new, |error| format!(", {error}"));
        let action = row.op.action.name();
        out.line(format!(
            "run {}: {action} at {} ({}): {}{error}",
            row.run_id,
            row.op.connection,
            fields.join(", "),
            row.state.as_str()
        ));
    }
    Ok(0)
}

fn write_document(row: &OutboxRow) -> serde_json::Value {
    json!({
        "run": row.run_id, "action": row.op.action.name(), "connection": row.op.connection, "fields": row.op.fields,
        "state": row.state.as_str(), "error": row.error,
    })
}

async fn find(config: &Config, store: &Store, id: &str) -> Result<Option<(Option<Entity>, Vec<Record>)>, Failure> {
    let record = match id.split_once('/') {
        Some((connection, external_id)) => store.record(connection, STREAM, external_id).await?,
        None if id.contains('@') => {
            let key = ("email".to_owned(), counterpart_core::normalize::email(id));
            store
                .records_by_keys(STREAM, &[key])
                .await?
                .into_iter()
                .find(|r| config.connections.contains_key(&r.connection))
        }
        None => None,
    };
    let entity = match (&record, id.parse::<i64>()) {
        (Some(record), _) => record.entity_id,
        (None, Ok(number)) => Some(number),
        _ => return Ok(None),
    };
    let Some(entity) = entity else { return Ok(record.map(|record| (None, vec![record]))) };
    let Some(found) = store.entities(&[entity]).await?.pop() else { return Ok(None) };
    Ok(Some((Some(found), store.records_of_entities(STREAM, &[entity]).await?)))
}

fn show(out: &Output, entity: Option<&Entity>, records: &[Record], left: &BTreeMap<i64, Vec<LeftAlone>>) {
    match entity {
        Some(entity) => {
            let mut fields = out.table(&["field", "value", "from", "when", "rule"]);
            for (name, golden) in &entity.golden {
                fields.add_row([
                    name.to_string(),
                    text(&golden.slot),
                    golden.from.clone(),
                    time(golden.at),
                    golden.rule.clone(),
                ]);
            }
            out.line(format!("person {}, known since {}\n{fields}", entity.id, time(entity.created_at)));
        }
        None => out.line("not linked to a person yet"),
    }
    for record in records {
        let linked = record.evidence.as_ref().map_or_else(String::new, |evidence| {
            let keys: Vec<String> =
                evidence.keys.iter().map(|key| key.to_parts()).map(|(kind, value)| format!("{kind} {value}")).collect();
            format!(
                ", linked by {} ({})",
                evidence.by,
                if keys.is_empty() { "first seen".to_owned() } else { keys.join(", ") }
            )
        });
        let mut fields = out.table(&["field", "shows", "agreed on", "standing for"]);
        let names: BTreeSet<&FieldName> = record.fields.keys().chain(record.agreed.keys()).collect();
        for name in names {
            let base = record.agreed.get(name);
            fields.add_row([
                name.to_string(),
                record.fields.get(name).map_or_else(|| "(absent)".to_owned(), text),
                base.map_or_else(|| "(not yet)".to_owned(), |base| text(&base.here)),
                base.filter(|base| base.here != base.means).map_or_else(String::new, |base| text(&base.means)),
            ]);
        }
        out.line(format!("{}/{} ({:?}{linked})\n{fields}", record.connection, record.external_id, record.state));
        for left in left.get(&record.id).into_iter().flatten() {
            let entry = left.conflict.map_or_else(String::new, |id| format!(" (entry {id})"));
            out.line(format!("left alone: {}: {}{entry}", left.field, left.why));
        }
    }
}

fn text(slot: &Slot) -> String {
    match slot {
        Slot::Cleared => "(cleared)".to_owned(),
        Slot::Set(counterpart_core::Value::Text(text)) => text.clone(),
        Slot::Set(counterpart_core::Value::Name(name)) => name.full.clone(),
        Slot::Set(counterpart_core::Value::Bool(flag)) => flag.to_string(),
        Slot::Set(counterpart_core::Value::Set(set)) => set.iter().cloned().collect::<Vec<_>>().join(", "),
    }
}

fn record_document(record: &Record, left: Option<&Vec<LeftAlone>>) -> serde_json::Value {
    json!({
        "connection": record.connection, "external_id": record.external_id,
        "state": format!("{:?}", record.state).to_lowercase(), "shows": record.fields, "agreed": record.agreed,
        "evidence": record.evidence, "linked_at": record.linked_at, "observed_at": record.observed_at,
        "left_alone": left.map_or(&[][..], Vec::as_slice),
    })
}
