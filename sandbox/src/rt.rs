//! Request Tracker 5, REST 2: tickets by TicketSQL, conditional updates, history; as version 5 was seen to behave.
//!
//! There is one queue, `General`. The link to a conversation is a custom field; its name is the setting `chat_field`
//! (`Chat`). Times are UTC with whole seconds.

use http::{Method, Response};
use serde_json::{Map, Value, json};

use crate::answer::{self, Query, base64, header, to_base64, with_header};
use crate::faults::Fate;
use crate::instance::{Instance, stored};
use crate::tickets::{Entry, NewTicket, Row};
use crate::{Millis, TOKEN, time};

const STATUSES: [&str; 6] = ["new", "open", "stalled", "resolved", "rejected", "deleted"];
/// A time that was never set.
const NEVER: &str = "1970-01-01T00:00:00Z";

fn chat_field(instance: &Instance) -> String {
    instance.setting("chat_field").unwrap_or("Chat").to_owned()
}

fn message(status: u16, text: &str) -> Response<Vec<u8>> {
    answer::json(status, &json!({ "message": text }))
}

fn authorised(request: &http::Request<Vec<u8>>) -> bool {
    let given = header(request, "authorization").unwrap_or_default();
    let basic = given.strip_prefix("Basic ").and_then(base64).is_some_and(|pair| pair == format!("root:{TOKEN}"));
    basic || given.strip_prefix("token ") == Some(TOKEN)
}

// ---- shapes --------------------------------------------------------------------------------------------------------

/// How RT refers to one thing from another: the ids are texts.
fn reference(base: &str, kind: &str, id: &str) -> Value {
    json!({ "type": kind, "id": id, "_url": format!("{base}{kind}/{id}") })
}

fn custom_fields(instance: &Instance, row: &Row, base: &str) -> Value {
    let mut names: Vec<String> = row.fields.keys().cloned().collect();
    let chat = chat_field(instance);
    if !names.contains(&chat) {
        names.insert(0, chat);
    }
    let shown = names.iter().enumerate().map(|(at, name)| {
        let mut shown = reference(base, "customfield", &(at + 1).to_string());
        shown["name"] = json!(name);
        shown["values"] = match row.fields.get(name) {
            None | Some(Value::Null) => json!([]),
            Some(Value::Array(list)) => json!(list),
            Some(value) => json!([value]),
        };
        shown
    });
    shown.collect()
}

fn ticket(instance: &Instance, row: &Row, base: &str) -> Value {
    let id = row.id.to_string();
    let requestors: Vec<Value> = row.email.iter().map(|email| reference(base, "user", email)).collect();
    let root = || reference(base, "user", "root");
    let mut own = reference(base, "ticket", &id);
    own["ref"] = json!("self");
    let link = |name: &str| json!({ "ref": name, "_url": format!("{base}ticket/{id}/{name}") });
    let mut shown = json!({
        "id": row.id, "EffectiveId": reference(base, "ticket", &id), "Type": "ticket",
        "Queue": reference(base, "queue", "1"), "Owner": reference(base, "user", "Nobody"), "Creator": root(),
        "LastUpdatedBy": root(), "Subject": row.subject, "Status": row.status,
        "Priority": stored(&row.priority).unwrap_or_else(|| "0".to_owned()), "InitialPriority": "0",
        "FinalPriority": "0", "TimeWorked": "0", "TimeLeft": "0", "TimeEstimated": "0",
    });
    let rest = json!({
        "Created": time::iso(row.created_at), "LastUpdated": time::iso(row.updated_at),
        "Resolved": row.resolved_at.map_or(NEVER.to_owned(), time::iso), "Started": NEVER, "Starts": NEVER,
        "Due": NEVER, "Requestor": requestors, "Cc": [], "AdminCc": [],
        "CustomFields": custom_fields(instance, row, base),
        "_hyperlinks": [own, link("history"), link("correspond"), link("comment")],
    });
    if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
        shown.extend(rest);
    }
    shown
}

fn transaction(entry: &Entry, base: &str) -> Value {
    let id = entry.id.to_string();
    let mut links = vec![reference(base, "transaction", &id)];
    links[0]["ref"] = json!("self");
    if entry.text.is_some() {
        links.push(json!({ "ref": "attachment", "_url": format!("{base}attachment/{id}") }));
    }
    json!({
        "id": entry.id, "Type": entry.kind, "Creator": reference(base, "user", "root"),
        "Created": time::iso(entry.at), "Object": reference(base, "ticket", &entry.ticket.to_string()),
        "Field": entry.field, "OldValue": entry.old, "NewValue": entry.new, "Data": null, "TimeTaken": 0,
        "_hyperlinks": links,
    })
}

fn etag(instance: &Instance, ticket: u64) -> String {
    instance.desk.of(ticket).next_back().map(|entry| entry.id.to_string()).unwrap_or_default()
}

// ---- what happens --------------------------------------------------------------------------------------------------

/// A customer opens a ticket.
pub(crate) fn open(instance: &mut Instance, now: Millis, new: &NewTicket) -> u64 {
    let mut row = Row { subject: new.subject.clone(), status: "new".to_owned(), ..Row::default() };
    row.email = new.email.clone();
    if let Some(chat) = &new.chat {
        row.fields.insert(chat_field(instance), json!(chat));
    }
    let id = instance.desk.open(now, row);
    instance.desk.note(now, id, "Create").text = Some(new.subject.clone());
    instance.desk.note(now, id, "EmailRecord");
    id
}

/// Somebody sets a status; the same again is nothing.
pub(crate) fn set_status(instance: &mut Instance, now: Millis, id: u64, status: &str) {
    change(instance, now, id, "Status", &json!(status));
}

/// Changes one field and says so, as RT does to whoever reads its pages. Nothing when there is nothing to change.
fn change(instance: &mut Instance, now: Millis, id: u64, field: &str, value: &Value) -> Option<String> {
    let new = stored(value).unwrap_or_default();
    let row = instance.desk.rows.get_mut(&id)?;
    let (kind, old) = match field {
        "Subject" => ("Set", std::mem::replace(&mut row.subject, new.clone())),
        "Priority" => {
            let old = stored(&row.priority).unwrap_or_else(|| "0".to_owned());
            row.priority = json!(new);
            ("Set", old)
        }
        "Status" => {
            // Refused, and yet the answer is 200.
            if !STATUSES.contains(&new.as_str()) {
                return Some(format!("Status '{new}' isn't a valid status for this ticket."));
            }
            ("Status", std::mem::replace(&mut row.status, new.clone()))
        }
        _ => return None,
    };
    if old == new {
        return None;
    }
    if kind == "Status" {
        row.resolved_at = (new == "resolved" || new == "rejected").then_some(now);
    }
    let entry = instance.desk.note(now, id, kind);
    let shown = |text: &str| if text.is_empty() { "(no value)".to_owned() } else { format!("'{text}'") };
    let said = format!("{field} changed from {} to {}", shown(&old), shown(&new));
    (entry.field, entry.old, entry.new) = (Some(field.to_owned()), Some(old), Some(new));
    Some(said)
}

fn change_custom(instance: &mut Instance, now: Millis, id: u64, fields: &Map<String, Value>) -> Vec<String> {
    let mut said = Vec::new();
    for (name, value) in fields {
        let Some(row) = instance.desk.rows.get_mut(&id) else { continue };
        let old = row.fields.get(name).and_then(stored);
        let new = stored(value).filter(|text| !text.is_empty());
        if old == new {
            continue;
        }
        match &new {
            Some(_) => row.fields.insert(name.clone(), value.clone()),
            None => row.fields.remove(name),
        };
        said.push(match (&old, &new) {
            (Some(old), Some(new)) => format!("{name} {old} changed to {new}"),
            (None, Some(new)) => format!("{name} {new} added"),
            (old, _) => format!("{} is no longer a value for custom field {name}", old.clone().unwrap_or_default()),
        });
        let entry = instance.desk.note(now, id, "CustomField");
        (entry.field, entry.old, entry.new) = (Some(name.clone()), old, new);
    }
    said
}

// ---- the API -------------------------------------------------------------------------------------------------------

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if !authorised(request) {
        return message(401, "Unauthorized");
    }
    let Some(path) = path.strip_prefix("REST/2.0/") else { return message(404, "Not Found") };
    let base = format!("{}REST/2.0/", answer::base(request, &instance.spec.name));
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["rt"]) => answer::json(200, &json!({ "Version": "5.0.3", "Plugins": [] })),
        (&Method::GET, ["tickets"]) => search(instance, query, fate, &base),
        (&Method::POST, ["tickets"]) => {
            let form = Query::parse(&String::from_utf8_lossy(request.body()));
            search(instance, &form, fate, &base)
        }
        (&Method::POST, ["ticket"]) => create(instance, now, request, &base),
        (method, ["ticket", id, rest @ ..]) => {
            let Some(id) = id.parse().ok().filter(|id| instance.desk.rows.contains_key(id)) else {
                return message(404, "Not Found");
            };
            match (method, rest) {
                (&Method::GET, []) => show(instance, id, request, &base),
                (&Method::PUT, []) => update(instance, now, id, request),
                (&Method::DELETE, []) => {
                    set_status(instance, now, id, "deleted");
                    answer::raw(204, "application/json", Vec::new())
                }
                (&Method::GET, ["history"]) => {
                    let ids: Vec<u64> = instance.desk.of(id).map(|entry| entry.id).collect();
                    collection(&ids, query, fate, &format!("{base}ticket/{id}/history"), |id, fields| {
                        let entry = &instance.desk.entries[&id];
                        with_fields(
                            reference(&base, "transaction", &id.to_string()),
                            &transaction(entry, &base),
                            fields,
                        )
                    })
                }
                (&Method::POST, ["correspond"]) => reply(instance, now, id, true, request, &base),
                (&Method::POST, ["comment"]) => reply(instance, now, id, false, request, &base),
                _ => message(404, "Not Found"),
            }
        }
        (&Method::GET, [kind @ ("transaction" | "attachment"), id]) => {
            match (*kind, id.parse().ok().and_then(|id: u64| instance.desk.entries.get(&id))) {
                ("transaction", Some(entry)) => answer::json(200, &transaction(entry, &base)),
                ("attachment", Some(Entry { id, text: Some(text), at, .. })) => answer::json(
                    200,
                    &json!({
                        "id": id, "Content": format!("{}\n", to_base64(text.as_bytes())), "ContentType": "text/plain",
                        "Created": time::iso(*at), "TransactionId": reference(&base, "transaction", &id.to_string()),
                    }),
                ),
                _ => message(404, "Not Found"),
            }
        }
        _ => message(404, "Not Found"),
    }
}

/// A reference and whatever else was asked for by name.
fn with_fields(mut shown: Value, whole: &Value, fields: &[&str]) -> Value {
    for field in fields {
        if let Some(value) = whole.get(field) {
            shown[*field] = value.clone();
        }
    }
    shown
}

/// A page of references. Sizes that will not do are put right without a word.
fn collection(
    ids: &[u64],
    query: &Query,
    fate: &Fate,
    at: &str,
    show: impl Fn(u64, &[&str]) -> Value,
) -> Response<Vec<u8>> {
    let size = query.number("per_page").filter(|size| *size > 0).unwrap_or(20).min(100);
    let page = query.number("page").filter(|page| *page > 0).unwrap_or(1);
    let fields = query.list("fields");
    let from = (page - 1).saturating_mul(size).min(ids.len() as u64) as usize;
    let items: Vec<Value> = match fate.empty_page && page > 1 {
        true => Vec::new(),
        false => ids.iter().skip(from).take(size as usize).map(|id| show(*id, &fields)).collect(),
    };
    let total = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    let pages = total.div_ceil(size);
    let mut answer = json!({
        "count": items.len(), "total": total, "per_page": size, "page": page, "pages": pages, "items": items,
    });
    let link = |page: u64| {
        let kept = ["query", "fields", "orderby", "order"].iter().filter_map(|name| Some((*name, query.get(name)?)));
        let kept: String = kept.map(|(name, value)| format!("{name}={}&", encode(value))).collect();
        json!(format!("{at}?{kept}per_page={size}&page={page}"))
    };
    if page < pages {
        answer["next_page"] = link(page + 1);
    }
    if page > 1 {
        answer["prev_page"] = link((page - 1).min(pages.max(1)));
    }
    answer::json(200, &answer)
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn search(instance: &Instance, query: &Query, fate: &Fate, base: &str) -> Response<Vec<u8>> {
    let wanted = query.get("query").unwrap_or_default();
    let Some(condition) = sql::parse(wanted) else {
        return message(400, &format!("Could not parse the query: {wanted}"));
    };
    // Deleted tickets are in no search.
    let rows = instance.desk.rows.values().filter(|row| row.status != "deleted");
    let mut rows: Vec<&Row> = rows.filter(|row| condition.holds(row)).collect();
    match query.get("orderby").unwrap_or("id") {
        "LastUpdated" => rows.sort_by_key(|row| row.updated_at.div_euclid(1000)),
        "Created" => rows.sort_by_key(|row| row.created_at.div_euclid(1000)),
        "Subject" => rows.sort_by(|one, other| one.subject.cmp(&other.subject)),
        _ => {}
    }
    if query.get("order").is_some_and(|order| order.eq_ignore_ascii_case("desc")) {
        rows.reverse();
    }
    let mut ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    instance.shift(&mut ids, fate);
    collection(&ids, query, fate, &format!("{base}tickets"), |id, fields| {
        let whole = ticket(instance, &instance.desk.rows[&id], base);
        with_fields(reference(base, "ticket", &id.to_string()), &whole, fields)
    })
}

fn show(instance: &Instance, id: u64, request: &http::Request<Vec<u8>>, base: &str) -> Response<Vec<u8>> {
    let etag = etag(instance, id);
    let same = header(request, "if-none-match").is_some_and(|known| known.trim_matches('"') == etag);
    let response = match same {
        true => answer::raw(304, "application/json", Vec::new()),
        false => answer::json(200, &ticket(instance, &instance.desk.rows[&id], base)),
    };
    with_header(response, "etag", &format!("\"{etag}\""))
}

fn update(instance: &mut Instance, now: Millis, id: u64, request: &http::Request<Vec<u8>>) -> Response<Vec<u8>> {
    let current = etag(instance, id);
    if header(request, "if-match").is_some_and(|known| known != "*" && known.trim_matches('"') != current) {
        return message(412, "Precondition Failed");
    }
    let body = answer::body(request);
    let Some(members) = body.as_object() else { return message(400, "JSON object must be a HASH") };
    let mut said: Vec<String> = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("CustomFields", Value::Object(fields)) => said.extend(change_custom(instance, now, id, fields)),
            _ => said.extend(change(instance, now, id, name, value).map(|said| format!("Ticket {id}: {said}"))),
        }
    }
    answer::json(200, &json!(said))
}

fn create(instance: &mut Instance, now: Millis, request: &http::Request<Vec<u8>>, base: &str) -> Response<Vec<u8>> {
    let body = answer::body(request);
    match body["Queue"].as_str() {
        None | Some("") => return message(400, "Could not create ticket. Queue not set"),
        Some("General" | "1") => {}
        Some(_) => return message(400, "Could not create ticket. Queue not set"),
    }
    let status = body["Status"].as_str().unwrap_or("new");
    if !STATUSES.contains(&status) {
        return message(400, &format!("Status '{status}' isn't a valid status for tickets in this queue."));
    }
    let email = match &body["Requestor"] {
        Value::Array(list) => list.first().and_then(stored),
        value => stored(value),
    };
    let row = Row {
        subject: body["Subject"].as_str().unwrap_or_default().to_owned(),
        status: status.to_owned(),
        email,
        fields: body["CustomFields"].as_object().cloned().unwrap_or_default().into_iter().collect(),
        priority: body["Priority"].clone(),
        ..Row::default()
    };
    let id = instance.desk.open(now, row);
    instance.desk.note(now, id, "Create").text = Some(body["Content"].as_str().unwrap_or_default().to_owned());
    instance.desk.note(now, id, "EmailRecord");
    let made = reference(base, "ticket", &id.to_string());
    with_header(answer::json(201, &made), "location", &format!("{base}ticket/{id}"))
}

/// `correspond` goes to the customer, `comment` does not; both take the same body.
fn reply(
    instance: &mut Instance,
    now: Millis,
    id: u64,
    public: bool,
    request: &http::Request<Vec<u8>>,
    base: &str,
) -> Response<Vec<u8>> {
    let kind = header(request, "content-type").unwrap_or("application/json");
    let (text, status) = match kind.starts_with("text/plain") {
        true => (String::from_utf8_lossy(request.body()).into_owned(), None),
        false => {
            let body = answer::body(request);
            if !body.is_object() {
                return message(400, "JSON object must be a HASH");
            }
            (body["Content"].as_str().unwrap_or_default().to_owned(), stored(&body["Status"]))
        }
    };
    let entry = instance.desk.note(now, id, if public { "Correspond" } else { "Comment" });
    entry.public = public;
    entry.text = Some(text);
    let made = entry.id;
    let mut said = vec![if public { "Correspondence added" } else { "Comments added" }.to_owned()];
    if public {
        // The mail to the customer is noted too, and a new ticket opens.
        instance.desk.note(now, id, "EmailRecord");
        if instance.desk.rows[&id].status == "new" {
            set_status(instance, now, id, "open");
        }
    }
    if let Some(status) = status {
        said.extend(change(instance, now, id, "Status", &json!(status)));
    }
    with_header(answer::json(201, &json!(said)), "location", &format!("{base}transaction/{made}"))
}

/// TicketSQL, as far as a program needs it: comparisons joined by AND, OR and brackets.
mod sql {
    use super::Row;
    use crate::tickets::Row as Ticket;
    use crate::{Millis, time};

    pub(super) enum Condition {
        All(Vec<Condition>),
        Any(Vec<Condition>),
        Compare { field: String, operator: String, value: String },
    }

    impl Condition {
        pub fn holds(&self, row: &Row) -> bool {
            match self {
                Condition::All(parts) => parts.iter().all(|part| part.holds(row)),
                Condition::Any(parts) => parts.iter().any(|part| part.holds(row)),
                Condition::Compare { field, operator, value } => compare(row, field, operator, value),
            }
        }
    }

    fn compare(row: &Ticket, field: &str, operator: &str, value: &str) -> bool {
        use std::cmp::Ordering;
        let ordered = |order: Ordering| match operator {
            "=" => order == Ordering::Equal,
            "!=" => order != Ordering::Equal,
            ">" => order == Ordering::Greater,
            "<" => order == Ordering::Less,
            ">=" => order != Ordering::Less,
            "<=" => order != Ordering::Greater,
            _ => false,
        };
        let text = |shown: &str| {
            let (shown, wanted) = (shown.to_lowercase(), value.to_lowercase());
            match operator {
                "like" => shown.contains(&wanted),
                "not like" => !shown.contains(&wanted),
                _ => ordered(shown.cmp(&wanted)),
            }
        };
        // Whole seconds on both sides.
        let moment = |at: Millis| moment(value).is_some_and(|wanted| ordered(at.div_euclid(1000).cmp(&wanted)));
        match field {
            "id" | "Id" => value.parse::<u64>().is_ok_and(|wanted| ordered(row.id.cmp(&wanted))),
            "LastUpdated" | "Updated" => moment(row.updated_at),
            "Created" => moment(row.created_at),
            "Status" if value == "__Active__" => {
                ordered(u8::from(["new", "open", "stalled"].contains(&row.status.as_str())).cmp(&1))
            }
            "Status" => text(&row.status),
            "Queue" => text("General") || value == "1",
            "Subject" => text(&row.subject),
            // Addresses are compared without regard to letter case.
            "Requestor" | "Requestor.EmailAddress" | "Requestor.Name" | "Requestors" => {
                text(row.email.as_deref().unwrap_or_default())
            }
            field => {
                let name = field.trim_start_matches("CustomField.").trim_start_matches("CF.");
                let name = name.trim_matches(|c| "{}'\"".contains(c));
                text(row.fields.get(name).and_then(|value| value.as_str()).unwrap_or_default())
            }
        }
    }

    fn moment(text: &str) -> Option<Millis> {
        let day = || time::parse_naive(&format!("{text} 00:00:00"));
        time::parse_naive(text).or_else(day).map(|at| at.div_euclid(1000))
    }

    /// None when it is not TicketSQL.
    pub(super) fn parse(text: &str) -> Option<Condition> {
        let tokens = tokens(text)?;
        let mut rest = tokens.as_slice();
        let parsed = any(&mut rest)?;
        rest.is_empty().then_some(parsed)
    }

    fn is_word(token: Option<&String>, word: &str) -> bool {
        token.is_some_and(|token| token.eq_ignore_ascii_case(word))
    }

    fn any(rest: &mut &[String]) -> Option<Condition> {
        let mut parts = vec![all(rest)?];
        while is_word(rest.first(), "or") {
            *rest = &rest[1..];
            parts.push(all(rest)?);
        }
        Some(Condition::Any(parts))
    }

    fn all(rest: &mut &[String]) -> Option<Condition> {
        let mut parts = vec![one(rest)?];
        while is_word(rest.first(), "and") {
            *rest = &rest[1..];
            parts.push(one(rest)?);
        }
        Some(Condition::All(parts))
    }

    fn one(rest: &mut &[String]) -> Option<Condition> {
        if is_word(rest.first(), "(") {
            *rest = &rest[1..];
            let inner = any(rest)?;
            let closed = is_word(rest.first(), ")");
            *rest = rest.get(1..)?;
            return closed.then_some(inner);
        }
        let field = rest.first()?.clone();
        let mut operator = rest.get(1)?.to_lowercase();
        let mut taken = 2;
        if operator == "not" {
            operator = format!("not {}", rest.get(2)?.to_lowercase());
            taken = 3;
        }
        if !["=", "!=", ">", "<", ">=", "<=", "like", "not like"].contains(&operator.as_str()) {
            return None;
        }
        let value = rest.get(taken)?;
        let value = value.strip_prefix('\0').unwrap_or(value).to_owned();
        *rest = &rest[taken + 1..];
        Some(Condition::Compare { field, operator, value })
    }

    /// Words, operators, brackets and quoted texts; the latter begin with a zero byte, so that they are never taken for a
    /// word.
    fn tokens(text: &str) -> Option<Vec<String>> {
        let mut found = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '\'' | '"' => {
                    let mut value = String::from("\0");
                    let mut escaped = false;
                    let mut end = None;
                    for (at, c) in rest.char_indices().skip(1) {
                        match c {
                            _ if escaped => {
                                value.push(c);
                                escaped = false;
                            }
                            '\\' => escaped = true,
                            c if c == first => {
                                end = Some(at + 1);
                                break;
                            }
                            c => value.push(c),
                        }
                    }
                    found.push(value);
                    end?
                }
                '(' | ')' => {
                    found.push(first.to_string());
                    1
                }
                '=' | '!' | '<' | '>' => {
                    let length = if rest[1..].starts_with('=') { 2 } else { 1 };
                    found.push(rest[..length].to_owned());
                    length
                }
                _ => {
                    // A name in braces may hold anything.
                    let mut depth = 0;
                    let end = rest.find(|c: char| {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        depth == 0 && (c.is_whitespace() || "()=!<>'\"".contains(c))
                    });
                    let length = end.unwrap_or(rest.len());
                    found.push(rest[..length].to_owned());
                    length
                }
            };
            rest = rest[length..].trim_start();
        }
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::encode;
    use crate::testing::{Fake, Seen};
    use crate::{Faults, NewTicket, TOKEN, Vendor};

    const BASE: &str = "/REST/2.0";

    fn fake() -> Fake {
        Fake::new(Vendor::Rt, &[]).header("authorization", &format!("token {TOKEN}"))
    }

    fn new(subject: &str) -> NewTicket {
        NewTicket {
            subject: subject.to_owned(),
            email: Some("Ana@example.test".to_owned()),
            chat: Some("90001".to_owned()),
        }
    }

    fn search(fake: &Fake, query: &str) -> Seen {
        fake.get(100_000, &format!("{BASE}/tickets?query={}&fields=Status,LastUpdated", encode(query)))
    }

    fn ids(seen: &Seen) -> Vec<&str> {
        seen.body["items"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
    }

    fn kinds(fake: &Fake, id: &str) -> Vec<String> {
        let shown = fake.get(100_000, &format!("{BASE}/ticket/{id}/history?fields=Type&per_page=100")).body;
        let items = shown["items"].as_array().unwrap();
        items.iter().map(|one| one["Type"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn ticket_sql_finds_by_time_status_and_requestor() {
        let fake = fake();
        for (at, subject) in [(10_000, "One"), (10_900, "Two"), (12_000, "Three")] {
            fake.sandbox.open_ticket(at, "it", &new(subject));
        }
        fake.sandbox.set_ticket(20_000, "it", "1", "resolved");
        assert_eq!(ids(&search(&fake, "LastUpdated > '1970-01-01 00:00:10'")), ["1", "3"], "strict, in whole seconds");
        assert_eq!(ids(&search(&fake, "LastUpdated >= '1970-01-01T00:00:10Z' AND Status = 'new'")), ["2", "3"]);
        assert_eq!(ids(&search(&fake, "Requestor.EmailAddress = 'ana@EXAMPLE.test'")), ["1", "2", "3"]);
        assert_eq!(ids(&search(&fake, "Queue = 'General' AND (Subject LIKE 'thr' OR id = 1)")), ["1", "3"]);
        assert_eq!(ids(&search(&fake, "CF.{Chat} = '90001' AND id < 2")), ["1"]);
        let row = &search(&fake, "id = 1").body["items"][0];
        assert_eq!((&row["Status"], &row["LastUpdated"]), (&json!("resolved"), &json!("1970-01-01T00:00:20Z")));
        for wrong in ["", "Status", "Status ~ 'new'", "(id = 1", "id = 1 AND", "Subject = 'open"] {
            assert_eq!(search(&fake, wrong).status, 400, "{wrong}");
        }
        fake.sandbox.set_ticket(30_000, "it", "2", "deleted");
        assert_eq!(ids(&search(&fake, "id > 0")), ["1", "3"], "deleted ones are in no search");
    }

    #[test]
    fn pages_have_twenty_rows_and_a_link_to_the_next() {
        let fake = fake();
        for at in 0..45 {
            fake.sandbox.open_ticket(at, "it", &new("x"));
        }
        let first = search(&fake, "id > 0");
        assert_eq!(
            (&first.body["count"], &first.body["total"], &first.body["pages"]),
            (&json!(20), &json!(45), &json!(3))
        );
        let next = first.body["next_page"].as_str().unwrap().strip_prefix("http://localhost/it").unwrap();
        let second = fake.get(100_000, next);
        assert_eq!(second.body["items"][0]["id"], "21");
        assert_eq!(second.body["items"][0]["Status"], "new");
        let last = fake.get(100_000, &format!("{BASE}/tickets?query=id%3E0&per_page=500"));
        assert_eq!((&last.body["per_page"], last.body.get("next_page")), (&json!(100), None));
    }

    #[test]
    fn a_stale_write_is_412_and_a_write_of_the_same_is_nothing() {
        let fake = fake();
        let id = fake.sandbox.open_ticket(1000, "it", &new("Broken"));
        let path = format!("{BASE}/ticket/{id}");
        let shown = fake.get(2000, &path);
        let etag = shown.header("etag").to_owned();
        assert_eq!(shown.body["Requestor"][0]["id"], "Ana@example.test");
        assert_eq!(shown.body["CustomFields"][0]["values"], json!(["90001"]));
        assert_eq!(shown.body["Resolved"], "1970-01-01T00:00:00Z");
        let put = |at: i64, etag: &str, body: Value| fake.call(at, "PUT", &path, &[("if-match", etag)], Some(&body));
        assert_eq!(put(3000, &etag, json!({ "Subject": "Broken", "Status": "new" })).body, json!([]));
        assert_eq!(fake.get(4000, &path).header("etag"), etag);
        assert_eq!(fake.sandbox.tickets("it")[0].updated_at, 1000);
        let done = put(5000, &etag, json!({ "Status": "resolved" }));
        assert_eq!(done.body, json!(["Ticket 1: Status changed from 'new' to 'resolved'"]));
        let stale = put(6000, &etag, json!({ "Status": "open" }));
        assert_eq!((stale.status, stale.body), (412, json!({ "message": "Precondition Failed" })));
        assert_eq!(fake.sandbox.tickets("it")[0].status, "resolved");
        let fresh = fake.get(7000, &path).header("etag").to_owned();
        assert_eq!(fake.call(7000, "GET", &path, &[("if-none-match", &fresh)], None).status, 304);
        let odd = put(8000, &fresh, json!({ "Status": "gone" }));
        assert_eq!(odd.status, 200, "refused with a 200");
        assert_eq!(fake.sandbox.tickets("it")[0].status, "resolved");
        put(9000, &fresh, json!({ "CustomFields": { "Chat": "90002" } }));
        assert_eq!(fake.get(9500, &path).body["CustomFields"][0]["values"], json!(["90002"]));
    }

    #[test]
    fn one_reply_is_three_transactions_and_a_comment_stays_inside() {
        let fake = fake();
        let id = fake.sandbox.open_ticket(1000, "it", &new("Broken"));
        let body = json!({ "Content": "On its way", "ContentType": "text/plain" });
        let done = fake.post(2000, &format!("{BASE}/ticket/{id}/correspond"), &body);
        assert_eq!((done.status, done.body.clone()), (201, json!(["Correspondence added"])));
        let kinds_then = kinds(&fake, &id);
        assert_eq!(kinds_then, ["Create", "EmailRecord", "Correspond", "EmailRecord", "Status"]);
        let at = done.header("location").strip_prefix("http://localhost/it").unwrap().to_owned();
        let shown = fake.get(3000, &at).body;
        assert_eq!((&shown["Type"], &shown["Object"]["id"]), (&json!("Correspond"), &json!("1")));
        let text = fake.get(3000, &format!("{BASE}/attachment/{}", shown["id"])).body;
        assert_eq!(text["Content"], "T24gaXRzIHdheQ==\n");
        fake.post(
            4000,
            &format!("{BASE}/ticket/{id}/comment"),
            &json!({ "Content": "VIP", "ContentType": "text/plain" }),
        );
        assert_eq!(kinds(&fake, &id).last().map(String::as_str), Some("Comment"));
    }

    #[test]
    fn a_ticket_needs_a_queue_and_no_key_makes_creation_safe() {
        let fake = fake();
        let wanted =
            json!({ "Queue": "General", "Subject": "Broken", "Requestor": "ana@example.test", "Content": "x" });
        let made = fake.post(1000, &format!("{BASE}/ticket"), &wanted);
        assert_eq!((made.status, made.body["id"].as_str()), (201, Some("1")));
        assert!(made.header("location").ends_with("/REST/2.0/ticket/1"));
        let refused = fake.post(1000, &format!("{BASE}/ticket"), &json!({ "Subject": "Broken" }));
        assert_eq!(
            (refused.status, refused.body["message"].as_str()),
            (400, Some("Could not create ticket. Queue not set"))
        );
        assert_eq!(fake.get(1000, &format!("{BASE}/ticket/9")).status, 404);
        fake.sandbox.set_faults(Faults::parse("cut_after=1").unwrap());
        fake.sandbox.clear_log();
        assert_eq!(fake.post(2000, &format!("{BASE}/ticket"), &wanted).status, 0);
        assert_eq!((fake.sandbox.tickets("it").len(), fake.sandbox.log()[0].effect), (2, true));
        assert_eq!(Fake::new(Vendor::Rt, &[]).get(0, &format!("{BASE}/rt")).status, 401);
    }
}
