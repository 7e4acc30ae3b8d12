//! Medusa 2, Admin API: customers and orders as version 2.21.2 was seen to behave, and its events as a subscriber of the
//! shop forwards them. Medusa itself has no webhooks and cannot sign.
//!
//! `webhook_topics` names the events that the subscriber forwards, `webhook_secret` the end of the address it posts to.

use std::collections::BTreeSet;

use http::{Method, Response};
use serde_json::{Map, Value, json};

use crate::answer::{self, Query, base64, header};
use crate::faults::Fate;
use crate::hooks::{self, HookDelivery, Pending};
use crate::instance::{Instance, stored};
use crate::orders::{Item, NewOrder, NewShipment, Order, Parcel, Row, decimal};
use crate::people::{NewPerson, Person};
use crate::{Millis, TOKEN, time};

/// What ids begin with after their kind; the rest is a number, so that they sort by age as the real ones do.
const AGE: &str = "01M7X";

fn written(kind: &str, number: u64) -> String {
    format!("{kind}_{AGE}{number:021}")
}

/// A customer's id.
pub(crate) fn customer_id(number: u64) -> String {
    written("cus", number)
}

/// The number behind a customer's id or an order's.
pub(crate) fn number(id: &str) -> Option<u64> {
    let (_, rest) = id.split_once('_')?;
    rest.strip_prefix(AGE).filter(|digits| digits.len() == 21)?.parse().ok()
}

/// An order as whoever drives the sandbox sees it.
pub(crate) fn as_written(order: &mut Order) {
    order.id = written("order", order.id.parse().unwrap_or(0));
}

/// A user's token as bearer, or a secret API key as the user of basic authentication: bare, or in base64 with or without
/// the colon.
fn authorised(request: &http::Request<Vec<u8>>) -> bool {
    match header(request, "authorization").and_then(|value| value.split_once(' ')) {
        Some(("Bearer", token)) => token == TOKEN,
        Some(("Basic", key)) => {
            let decoded = base64(key).unwrap_or_default();
            key == TOKEN || decoded.strip_suffix(':').unwrap_or(&decoded) == TOKEN
        }
        _ => false,
    }
}

fn error(status: u16, kind: &str, message: &str) -> Response<Vec<u8>> {
    answer::json(status, &json!({ "type": kind, "message": message }))
}

fn invalid(message: &str) -> Response<Vec<u8>> {
    error(400, "invalid_data", &format!("Invalid request: {message}"))
}

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if !authorised(request) {
        return answer::json(401, &json!({ "message": "Unauthorized" }));
    }
    let method = request.method();
    if let Some(rest) = path.strip_prefix("admin/customers") {
        let Some(id) = rest.strip_prefix('/') else {
            return match *method {
                Method::GET => list_customers(instance, query, fate),
                Method::POST => save(instance, now, None, request, fate),
                _ => nowhere(method, path),
            };
        };
        let Some(known) = number(id).filter(|known| instance.people.contains_key(known)) else {
            return match *method {
                // Whoever is not there can be deleted, and that is told of as well.
                Method::DELETE => {
                    instance.hooks.happened("customer.deleted", 0, &json!({ "id": id }), false);
                    answer::json(200, &json!({ "id": id, "object": "customer", "deleted": true }))
                }
                Method::POST => error(404, "not_found", &format!("Customer with id \"{id}\" not found")),
                _ => error(404, "not_found", &format!("Customer with id: {id} not found")),
            };
        };
        return match *method {
            Method::GET => answer::json(200, &json!({ "customer": customer(&instance.people[&known]) })),
            Method::POST => save(instance, now, Some(known), request, fate),
            Method::DELETE => {
                instance.delete(now, id);
                answer::json(200, &json!({ "id": id, "object": "customer", "deleted": true }))
            }
            _ => nowhere(method, path),
        };
    }
    match (method, path.strip_prefix("admin/orders").map(|rest| rest.strip_prefix('/'))) {
        (&Method::GET, Some(None)) => list_orders(instance, query, fate),
        (&Method::GET, Some(Some(id))) => match number(id).and_then(|id| instance.shop.rows.get(&id)) {
            Some(row) => answer::json(200, &json!({ "order": chosen(order(row), query, &RETRIEVED) })),
            None => error(404, "not_found", &format!("Order id not found: {id}")),
        },
        _ => nowhere(method, path),
    }
}

/// What the database refuses is nobody's fault in particular.
fn unknown_error() -> Response<Vec<u8>> {
    let body = json!({ "code": "unknown_error", "type": "unknown_error", "message": "An unknown error occurred." });
    answer::json(500, &body)
}

fn nowhere(method: &Method, path: &str) -> Response<Vec<u8>> {
    let page = format!("<!DOCTYPE html><html><body><pre>Cannot {method} /{path}</pre></body></html>");
    answer::raw(404, "text/html; charset=utf-8", page.into_bytes())
}

// ---- lists ---------------------------------------------------------------------------------------------------------

/// An answer that refuses; boxed, since it is rare and large.
type Refusal = Box<Response<Vec<u8>>>;

/// What of a record a list looks at.
struct Listed {
    number: u64,
    created_at: Millis,
    updated_at: Millis,
}

/// Filters by time, sorts and cuts; ids of the page and the count. The error is an answer.
fn paged(
    instance: &Instance,
    mut rows: Vec<Listed>,
    query: &Query,
    fate: &Fate,
    usual: u64,
) -> Result<(Vec<u64>, Value), Refusal> {
    for field in ["created_at", "updated_at"] {
        for (operator, holds) in [
            ("$gt", Millis::gt as fn(&Millis, &Millis) -> bool),
            ("$gte", Millis::ge),
            ("$lt", Millis::lt),
            ("$lte", Millis::le),
        ] {
            let Some(text) = query.get(&format!("{field}[{operator}]")) else { continue };
            let Some(bound) = time::parse_naive(text) else {
                return Err(Box::new(unknown_error()));
            };
            rows.retain(|row| holds(if field == "created_at" { &row.created_at } else { &row.updated_at }, &bound));
        }
    }
    let order = query.get("order").unwrap_or("id");
    let (field, descending) = order.strip_prefix('-').map_or((order, false), |field| (field, true));
    match field {
        "id" | "display_id" => rows.sort_by_key(|row| row.number),
        "created_at" => rows.sort_by_key(|row| (row.created_at, row.number)),
        "updated_at" => rows.sort_by_key(|row| (row.updated_at, row.number)),
        // Two fields are no field either.
        _ => return Err(Box::new(unknown_error())),
    }
    if descending {
        rows.reverse();
    }
    let mut ids: Vec<u64> = rows.iter().map(|row| row.number).collect();
    instance.shift(&mut ids, fate);
    let (limit, offset) = (query.number("limit").unwrap_or(usual), query.number("offset").unwrap_or(0));
    let count = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    let shown = match fate.empty_page && offset > 0 {
        true => Vec::new(),
        false => ids.into_iter().skip(offset as usize).take(limit as usize).collect(),
    };
    Ok((shown, json!({ "count": count, "offset": offset, "limit": limit })))
}

fn list_customers(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    const KNOWN: [&str; 11] = [
        "limit",
        "offset",
        "order",
        "fields",
        "q",
        "id",
        "email",
        "has_account",
        "created_at",
        "updated_at",
        "first_name",
    ];
    let foreign = query.names().find(|name| !KNOWN.contains(&name.split('[').next().unwrap_or_default()));
    if let Some(name) = foreign {
        return invalid(&format!("Unrecognized fields: '{name}'"));
    }
    // A search looks into every text in any letter case; the filter by address wants it letter for letter.
    let found = |person: &Person, text: &str| {
        let texts = [Some(&person.given), Some(&person.family), person.email.as_ref(), person.phone.as_ref()];
        let mut texts = texts.into_iter().chain([person.company.as_ref()]).flatten();
        texts.any(|value| value.to_lowercase().contains(&text.to_lowercase()))
    };
    let people = instance.people.iter();
    let rows = people
        .filter(|(_, person)| query.get("q").is_none_or(|text| found(person, text)))
        .filter(|(_, person)| query.get("id").is_none_or(|id| person.id == id))
        .filter(|(_, person)| query.get("email").is_none_or(|email| person.email.as_deref() == Some(email)))
        .filter(|(_, person)| query.get("first_name").is_none_or(|name| person.given == name))
        .filter(|(_, person)| query.get("has_account").is_none_or(|has| has == has_account(person).to_string()))
        .map(|(id, person)| Listed { number: *id, created_at: person.created_at, updated_at: person.updated_at })
        .collect();
    match paged(instance, rows, query, fate, 50) {
        Ok((ids, mut page)) => {
            page["customers"] = ids.iter().map(|id| customer(&instance.people[id])).collect();
            answer::json(200, &page)
        }
        Err(refusal) => *refusal,
    }
}

/// Unlike the list of customers this one says nothing about a parameter that it does not know, `email` among them.
fn list_orders(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let statuses = query.list("status");
    let rows = instance.shop.rows.values();
    let rows = rows
        .filter(|row| query.get("id").is_none_or(|id| number(id) == Some(row.id)))
        .filter(|row| query.get("customer_id").is_none_or(|id| number(id) == Some(row.customer)))
        .filter(|row| statuses.is_empty() || statuses.contains(&row.status.as_str()))
        .map(|row| Listed { number: row.id, created_at: row.created_at, updated_at: row.updated_at })
        .collect();
    match paged(instance, rows, query, fate, 15) {
        Ok((ids, mut page)) => {
            let shown = ids.iter().map(|id| chosen(order(&instance.shop.rows[id]), query, &LISTED));
            page["orders"] = shown.collect();
            answer::json(200, &page)
        }
        Err(refusal) => *refusal,
    }
}

// ---- customers -----------------------------------------------------------------------------------------------------

fn has_account(person: &Person) -> bool {
    person.more.get("has_account").is_some_and(|has| has == "true")
}

fn customer(person: &Person) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let metadata = if person.custom.is_empty() { Value::Null } else { json!(person.custom) };
    json!({
        "id": person.id, "company_name": person.company, "first_name": text(&person.given),
        "last_name": text(&person.family), "email": person.email, "phone": person.phone, "metadata": metadata,
        "has_account": has_account(person), "created_by": null, "created_at": time::iso_millis(person.created_at),
        "updated_at": time::iso_millis(person.updated_at), "deleted_at": null,
    })
}

/// Who holds exactly this address, among those with an account or among those without.
fn holder(instance: &Instance, email: &str, account: bool) -> Option<u64> {
    let same = |person: &Person| person.email.as_deref() == Some(email) && has_account(person) == account;
    instance.people.iter().find(|(_, person)| same(person)).map(|(id, _)| *id)
}

fn save(
    instance: &mut Instance,
    now: Millis,
    id: Option<u64>,
    request: &http::Request<Vec<u8>>,
    fate: &Fate,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    let Some(members) = body.as_object() else {
        return invalid("Field '' is required");
    };
    let before = id.and_then(|id| instance.person(id));
    let mut changes = Vec::new();
    for (name, value) in members {
        let field = match name.as_str() {
            "first_name" => "given",
            "last_name" => "family",
            "company_name" => "company",
            "email" | "phone" => name,
            // What the new object leaves out stays; an empty text takes a value away, and nothing at all takes all of them.
            "metadata" => {
                if value.is_null() {
                    let known = before.iter().flat_map(|person| person.custom.keys());
                    changes.extend(known.map(|key| (format!("custom.{key}"), None)));
                }
                let given = value.as_object().into_iter().flatten();
                let kept = |value: &Value| stored(value).filter(|text| !text.is_empty());
                changes.extend(given.map(|(key, value)| (format!("custom.{key}"), kept(value))));
                continue;
            }
            other => return invalid(&format!("Unrecognized fields: '{other}'")),
        };
        if !value.is_null() && !value.is_string() {
            return invalid(&format!("Expected type: 'string' for field '{name}', got: '{value}'"));
        }
        changes.push((field.to_owned(), stored(value)));
    }
    if let Some(email) = members.get("email").and_then(Value::as_str) {
        if !email.contains('@') {
            return invalid("Invalid email address");
        }
        let account = before.as_ref().is_some_and(has_account);
        if holder(instance, email, account).is_some_and(|holder| Some(holder) != id) {
            let message = format!("Customer with email: {email}, has_account: {account}, already exists.");
            return error(400, "invalid_data", &message);
        }
    }
    let mut after = before.clone();
    if let Some(after) = &mut after {
        changes.iter().for_each(|(field, value)| after.set(field, value.as_deref()));
    }
    if let (Some(known), true) = (id, after.is_some() && after == before) {
        // A write of what is there already is told of, and leaves the time alone.
        happened(instance, "customer.updated", known);
        return answer::json(200, &json!({ "customer": customer(&instance.people[&known]) }));
    }
    let person = instance.store(now, id, changes, fate);
    answer::json(200, &json!({ "customer": customer(&person) }))
}

// ---- orders --------------------------------------------------------------------------------------------------------

/// What a list shows when nothing is asked for: neither the address of the customer nor the currency.
const LISTED: [&str; 11] = [
    "id",
    "display_id",
    "custom_display_id",
    "status",
    "version",
    "summary",
    "total",
    "metadata",
    "locale",
    "created_at",
    "updated_at",
];
/// What a single read shows; the currency is not in it either.
const RETRIEVED: [&str; 22] = [
    "id",
    "display_id",
    "custom_display_id",
    "status",
    "version",
    "summary",
    "total",
    "metadata",
    "locale",
    "created_at",
    "updated_at",
    "region_id",
    "original_total",
    "credit_line_total",
    "subtotal",
    "tax_total",
    "discount_total",
    "shipping_total",
    "item_total",
    "shipping_address",
    "billing_address",
    "shipping_methods",
];
/// What is always there, since the state of payment and delivery is made from more than the order.
const ALWAYS: [&str; 6] = ["id", "status", "version", "items", "payment_status", "fulfillment_status"];

/// The members that `fields` asks for: a bare name replaces what is usual, `+name` and `*relation` add, `-name` removes.
fn chosen(full: Value, query: &Query, usual: &[&str]) -> Value {
    let asked = query.list("fields");
    let replaced = asked.iter().any(|field| !field.starts_with(['+', '-', '*', ' ']));
    let mut names: BTreeSet<&str> = if replaced { BTreeSet::new() } else { usual.iter().copied().collect() };
    for field in &asked {
        let name = field.trim_start_matches(['+', '-', '*', ' ']).split('.').next().unwrap_or_default();
        match field.starts_with('-') {
            true => names.remove(name),
            false => names.insert(name),
        };
    }
    names.extend(ALWAYS);
    let Value::Object(mut full) = full else { return full };
    // What hangs on a parcel comes only where it is asked for by its own name.
    for parcel in full["fulfillments"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let hangs = |name: &String| matches!(name.as_str(), "labels" | "items");
        parcel.retain(|name, _| !hangs(name) || asked.contains(&format!("*fulfillments.{name}").as_str()));
    }
    full.into_iter().filter(|(name, _)| names.contains(name.as_str())).collect::<Map<_, _>>().into()
}

/// Hundredths as JavaScript writes the number.
fn amount(hundredths: i128) -> Value {
    match hundredths % 100 {
        0 => json!((hundredths / 100) as i64),
        _ => json!(hundredths as f64 / 100.0),
    }
}

/// The exact value beside a number.
fn raw(hundredths: i128) -> Value {
    let text = decimal(hundredths);
    json!({ "value": text.trim_end_matches('0').trim_end_matches('.'), "precision": 20 })
}

fn order(row: &Row) -> Value {
    let id = written("order", row.id);
    let total = row.total();
    let (created, updated) = (time::iso_millis(row.created_at), time::iso_millis(row.updated_at));
    let paid = if matches!(row.payment.as_str(), "captured" | "refunded" | "partially_refunded") { total } else { 0 };
    let refunded = if row.payment == "refunded" { total } else { row.refunded() };
    // What went back is credited, and a credit is no part of the total.
    let left = total - refunded;
    let text = |name: &str| row.billing.get(name).filter(|value| *value != "").cloned().unwrap_or(Value::Null);
    let address = |kind: &str| {
        json!({
            "id": format!("{kind}_{id}"), "customer_id": null, "company": null, "first_name": text("first_name"),
            "last_name": text("last_name"), "address_1": null, "address_2": null, "city": null,
            "country_code": text("country").as_str().map(str::to_lowercase), "province": null, "postal_code": null,
            "phone": text("phone"), "metadata": null, "created_at": created, "updated_at": created, "deleted_at": null,
        })
    };
    let items: Vec<Value> = row.items.iter().map(|item| line(item, &id, &created)).collect();
    let parcels: Vec<Value> = row.parcels.iter().map(|parcel| fulfillment(row, parcel)).collect();
    json!({
        "id": id, "display_id": row.id, "custom_display_id": null, "locale": null, "status": row.status, "version": 1,
        "email": text("email"), "region_id": "reg_01M7X74M76VGDQY34JQP8CBB84",
        "currency_code": row.currency.to_lowercase(),
        "customer_id": (row.customer != 0).then(|| customer_id(row.customer)),
        "summary": {
            "paid_total": amount(paid), "raw_paid_total": raw(paid), "refunded_total": amount(refunded),
            "raw_refunded_total": raw(refunded), "pending_difference": amount(total - paid),
            "raw_pending_difference": raw(total - paid), "current_order_total": amount(left),
            "raw_current_order_total": raw(left), "original_order_total": amount(total),
            "raw_original_order_total": raw(total),
        },
        "total": amount(left), "original_total": amount(total), "credit_line_total": amount(refunded),
        "subtotal": amount(total), "item_total": amount(total), "tax_total": 0,
        "discount_total": 0, "shipping_total": 0, "metadata": null, "created_at": created, "updated_at": updated,
        "items": items, "shipping_address": address("ordaddr"), "billing_address": address("ordbill"),
        "shipping_methods": [], "payment_status": row.payment, "fulfillment_status": fulfillment_status(row),
        "fulfillments": parcels,
    })
}

fn fulfillment_status(row: &Row) -> String {
    let kept: Vec<&Parcel> = row.parcels.iter().filter(|parcel| parcel.cancelled_at.is_none()).collect();
    let word = match kept.is_empty() {
        true => return if row.parcels.is_empty() { "not_fulfilled" } else { "canceled" }.to_owned(),
        _ if kept.iter().all(|parcel| parcel.delivered_at.is_some()) => "delivered",
        _ if kept.iter().all(|parcel| parcel.shipped_at.is_some()) => "shipped",
        false => "fulfilled",
    };
    if row.is_fully_packed() { word.to_owned() } else { format!("partially_{word}") }
}

fn fulfillment(row: &Row, parcel: &Parcel) -> Value {
    let id = written("ful", parcel.id);
    let at = |time: Option<Millis>| time.map(time::iso_millis);
    let label = |number: &String| {
        json!({
            "id": written("fulla", parcel.id), "tracking_number": number, "label_url": "#",
            "tracking_url": parcel.url.clone().unwrap_or_else(|| "#".to_owned()), "fulfillment_id": id,
        })
    };
    let item = |(line, quantity): &(usize, u32)| {
        let item = row.items.get(*line)?;
        Some(json!({
            "id": written("fulit", parcel.id * 100 + *line as u64), "title": item.name, "sku": "", "barcode": "",
            "quantity": quantity, "raw_quantity": { "value": quantity.to_string(), "precision": 20 },
            "line_item_id": written("ordli", item.id), "inventory_item_id": null, "fulfillment_id": id,
        }))
    };
    json!({
        "id": id, "location_id": null, "packed_at": time::iso_millis(parcel.created_at), "shipped_at": at(parcel.shipped_at),
        "delivered_at": at(parcel.delivered_at), "canceled_at": at(parcel.cancelled_at), "data": {}, "metadata": null,
        "provider_id": "manual_manual", "shipping_option_id": null, "requires_shipping": true,
        "created_at": time::iso_millis(parcel.created_at), "updated_at": time::iso_millis(parcel.updated_at),
        // A label comes with the shipping.
        "labels": parcel.number.iter().filter(|_| parcel.shipped_at.is_some()).map(label).collect::<Vec<_>>(),
        "items": parcel.items.iter().filter_map(item).collect::<Vec<_>>(),
    })
}

fn line(item: &Item, order: &str, created: &str) -> Value {
    let quantity = i128::from(item.quantity.max(1));
    let price = item.total / quantity;
    let (line, counted) = (written("ordli", item.id), json!({ "value": quantity.to_string(), "precision": 20 }));
    json!({
        "id": line, "title": item.name, "subtitle": null, "variant_id": null, "product_id": null, "product_title": null,
        "variant_sku": null, "variant_title": null, "requires_shipping": false, "metadata": {},
        "unit_price": amount(price), "raw_unit_price": raw(price), "quantity": item.quantity, "raw_quantity": counted,
        "detail": {
            "id": written("orditem", item.id), "version": 1, "order_id": order, "item_id": line,
            "quantity": item.quantity, "raw_quantity": counted, "fulfilled_quantity": 0, "shipped_quantity": 0,
            "delivered_quantity": 0, "return_requested_quantity": 0, "unit_price": null, "raw_unit_price": null,
        },
        "subtotal": amount(item.total), "raw_subtotal": raw(item.total), "total": amount(item.total),
        "raw_total": raw(item.total), "tax_total": 0, "discount_total": 0, "tax_lines": [], "adjustments": [],
        "created_at": created, "updated_at": created, "deleted_at": null,
    })
}

/// A customer buys. Whoever is not known under the small letters of the address becomes a customer without account, which
/// no event tells of.
pub(crate) fn place(instance: &mut Instance, now: Millis, new: &NewOrder) -> String {
    let named = new.customer.as_deref().and_then(number);
    let known = |email: &str| holder(instance, email, true).or_else(|| holder(instance, email, false));
    let customer = match (named, new.email.as_ref().map(|email| email.to_lowercase())) {
        (None, Some(email)) => known(&email).or_else(|| {
            let guest = NewPerson { email: Some(email), ..NewPerson::default() };
            Some(instance.admit(now, &guest))
        }),
        (named, _) => named,
    };
    let customer = customer.map(|id| id.to_string());
    let id = instance.shop.place(now, &NewOrder { customer, status: String::new(), ..new.clone() });
    happened(instance, "order.placed", id);
    let id = written("order", id);
    set_status(instance, now, &id, &new.status);
    id
}

/// Sets the status of an order, or of its payment: `captured`, `refunded` and the like.
pub(crate) fn set_status(instance: &mut Instance, now: Millis, id: &str, status: &str) {
    let Some(row) = number(id).and_then(|id| instance.shop.rows.get_mut(&id)) else { return };
    let event = match status {
        // A payment is a record of its own: its order is not touched, and only the payment's event tells. Giving money back
        // makes a credit of the order, which touches it.
        "not_paid" | "authorized" | "captured" | "partially_refunded" | "refunded" => {
            status.clone_into(&mut row.payment);
            if status.ends_with("refunded") {
                row.updated_at = now;
            }
            let id = row.id;
            match status {
                "captured" => paid(instance, "payment.captured", id),
                "partially_refunded" | "refunded" => paid(instance, "payment.refunded", id),
                _ => {}
            }
            return;
        }
        // What was completed, or has a parcel, is not called off.
        "canceled" if row.status == "completed" || row.parcels.iter().any(|parcel| parcel.cancelled_at.is_none()) => {
            return;
        }
        "pending" | "completed" | "archived" | "canceled" if row.status != status => match status {
            "pending" => "order.updated",
            "completed" => "order.completed",
            "archived" => "order.archived",
            _ => {
                // What was paid goes back, without an event of its own; where nobody began to pay nothing changes.
                match row.payment.as_str() {
                    "captured" | "partially_refunded" => "refunded".clone_into(&mut row.payment),
                    "authorized" => "canceled".clone_into(&mut row.payment),
                    _ => {}
                }
                "order.canceled"
            }
        },
        _ => return,
    };
    status.clone_into(&mut row.status);
    row.updated_at = now;
    let id = row.id;
    happened(instance, event, id);
}

/// Gives a part of the money back.
pub(crate) fn refund(instance: &mut Instance, now: Millis, id: &str, amount: &str) {
    let Some(row) = number(id).and_then(|id| instance.shop.refund(id, amount)) else { return };
    let all = row.refunded() >= row.total();
    if all { "refunded" } else { "partially_refunded" }.clone_into(&mut row.payment);
    row.updated_at = now;
    let id = row.id;
    paid(instance, "payment.refunded", id);
}

/// Whatever happens to a parcel makes another version of its order.
fn touch(instance: &mut Instance, now: Millis, order: u64) {
    if let Some(row) = instance.shop.rows.get_mut(&order) {
        row.updated_at = now;
    }
}

/// Somebody packs a parcel, and hands it over unless it is only packed.
pub(crate) fn ship(instance: &mut Instance, now: Millis, id: &str, new: &NewShipment) -> Option<String> {
    let order = number(id)?;
    let made = instance.shop.ship(now, order, new)?;
    touch(instance, now, order);
    let parcel = written("ful", made);
    let data = json!({ "order_id": id, "fulfillment_id": parcel });
    instance.hooks.happened("order.fulfillment_created", order, &data, false);
    if !new.packed {
        parcel_happened(instance, "shipment.created", order, &parcel);
    }
    Some(parcel)
}

/// Sets how far a parcel is. What was shipped cannot be called off any more.
pub(crate) fn set_shipment(instance: &mut Instance, now: Millis, id: &str, parcel: &str, state: &str) {
    let (Some(order), Some(made)) = (number(id), number(parcel)) else { return };
    let parcels = instance.shop.rows.get(&order).map(|row| row.parcels.as_slice()).unwrap_or_default();
    let shipped = parcels.iter().any(|one| one.id == made && one.shipped_at.is_some());
    if (state == "cancelled" && shipped) || !instance.shop.set_shipment(now, order, made, state) {
        return;
    }
    touch(instance, now, order);
    match state {
        "shipped" => parcel_happened(instance, "shipment.created", order, parcel),
        "delivered" => parcel_happened(instance, "delivery.created", order, parcel),
        "cancelled" => {
            let data = json!({ "order_id": id, "fulfillment_id": parcel });
            instance.hooks.happened("order.fulfillment_canceled", order, &data, false);
        }
        _ => {}
    }
}

// ---- events --------------------------------------------------------------------------------------------------------

/// Something happened. Nothing is absorbed, and nothing is kept: whoever does not listen never hears of it.
pub(crate) fn happened(instance: &mut Instance, event: &str, id: u64) {
    instance.hooks.happened(event, id, &Value::Null, false);
}

/// The event has the parcel's id alone; whose order it is the subscriber looks up in the shop.
fn parcel_happened(instance: &mut Instance, event: &str, order: u64, parcel: &str) {
    let data = json!({ "id": parcel, "order_id": written("order", order) });
    instance.hooks.happened(event, order, &data, false);
}

/// The same for a payment.
fn paid(instance: &mut Instance, event: &str, order: u64) {
    let data = json!({ "id": written("pay", order), "order_id": written("order", order) });
    instance.hooks.happened(event, order, &data, false);
}

pub(crate) fn first_hooks(instance: &mut Instance, topics: Vec<String>, secret: &str) {
    let usual = [
        "order.placed",
        "order.updated",
        "order.canceled",
        "order.completed",
        "order.fulfillment_canceled",
        "shipment.created",
        "delivery.created",
        "payment.captured",
        "payment.refunded",
        "customer.created",
        "customer.updated",
        "customer.deleted",
    ];
    let topics = if topics.is_empty() { usual.map(str::to_owned).to_vec() } else { topics };
    instance.hooks.register(0, "subscriber", "http://localhost/", topics, secret);
}

/// What the subscriber posts: the event as it got it, with nothing of the record but its id, and the order's.
pub(crate) fn deliver(instance: &mut Instance, now: Millis, pending: &Pending) -> Option<HookDelivery> {
    let serial = instance.hooks.serial();
    let hook = instance.hooks.registered.get(&pending.hook)?;
    let (secret, url) = (hook.secret.clone(), hook.url.clone());
    let name = instance.spec.name.clone();
    let data = match (&pending.detail, pending.topic.split_once('.')?) {
        (Value::Object(_), _) => pending.detail.clone(),
        (_, ("order", _)) => json!({ "id": written("order", pending.resource) }),
        _ => json!({ "id": customer_id(pending.resource) }),
    };
    let group = hooks::hex(&hooks::digest(&format!("{name} event {serial}"))).to_uppercase();
    let at = time::iso_millis(now);
    let body = json!({
        "name": pending.topic, "data": data,
        "metadata": { "eventGroupId": format!("{AGE}{}", &group[..21]), "created_at": at, "published_at": at },
    });
    let headers = [("content-type", "application/json"), ("accept", "*/*"), ("user-agent", "node")];
    Some(HookDelivery {
        instance: name,
        url,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: body.to_string().into_bytes(),
        at: now,
        path_secret: (!secret.is_empty()).then_some(secret),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::answer::to_base64;
    use crate::testing::Fake;
    use crate::{NewOrder, NewShipment, TOKEN, Vendor};

    const CUSTOMERS: &str = "/admin/customers";
    const ORDERS: &str = "/admin/orders";

    fn fake(settings: &[(&str, &str)]) -> Fake {
        Fake::new(Vendor::Medusa, settings).header("authorization", &format!("Bearer {TOKEN}"))
    }

    fn new(email: &str) -> NewOrder {
        NewOrder {
            email: Some(email.to_owned()),
            phone: Some("+55 11 91234-5678".to_owned()),
            given: "Ana".to_owned(),
            currency: "BRL".to_owned(),
            country: Some("BR".to_owned()),
            items: vec![("Widget".to_owned(), 2, "19.9".to_owned())],
            ..NewOrder::default()
        }
    }

    fn emails(body: &Value) -> Vec<&str> {
        body["customers"].as_array().unwrap().iter().filter_map(|row| row["email"].as_str()).collect()
    }

    #[test]
    fn a_secret_key_is_the_user_of_basic_authentication() {
        let bare = Fake::new(Vendor::Medusa, &[]);
        let status = |value: &str| bare.call(0, "GET", CUSTOMERS, &[("authorization", value)], None).status;
        for good in [
            format!("Bearer {TOKEN}"),
            format!("Basic {TOKEN}"),
            format!("Basic {}", to_base64(TOKEN.as_bytes())),
            format!("Basic {}", to_base64(format!("{TOKEN}:").as_bytes())),
        ] {
            assert_eq!(status(&good), 200, "{good}");
        }
        for bad in ["Bearer x", "Basic x", "Basic eDo=", ""] {
            assert_eq!(status(bad), 401, "{bad}");
        }
        assert_eq!(bare.get(0, CUSTOMERS).body, json!({ "message": "Unauthorized" }));
    }

    #[test]
    fn addresses_are_compared_letter_for_letter() {
        let fake = fake(&[]);
        let first = fake.post(1000, CUSTOMERS, &json!({ "email": "Ana@example.test", "first_name": "Ana" }));
        assert_eq!((first.status, &first.body["customer"]["has_account"]), (200, &json!(false)));
        assert_eq!(fake.post(1000, CUSTOMERS, &json!({ "email": "ana@example.test" })).status, 200);
        let twin = fake.post(1000, CUSTOMERS, &json!({ "email": "ana@example.test" }));
        assert_eq!(twin.status, 400);
        assert_eq!(twin.body["message"], "Customer with email: ana@example.test, has_account: false, already exists.");
        let exact = fake.get(1000, &format!("{CUSTOMERS}?email=ana%40example.test"));
        assert_eq!((emails(&exact.body), &exact.body["count"]), (vec!["ana@example.test"], &json!(1)));
        let search = fake.get(1000, &format!("{CUSTOMERS}?q=ANA%40example"));
        assert_eq!(emails(&search.body), ["Ana@example.test", "ana@example.test"]);
        // Somebody with an account may have the address of somebody without.
        let id = first.body["customer"]["id"].as_str().unwrap();
        fake.sandbox.edit(1000, "it", id, "more.has_account", Some("true"));
        assert_eq!(fake.post(1000, CUSTOMERS, &json!({ "email": "Ana@example.test" })).status, 200);
    }

    #[test]
    fn lists_are_cut_sorted_and_filtered_by_time() {
        let fake = fake(&[]);
        fake.sandbox.seed_people(10_000, "it", 5, 0);
        let page = fake.get(20_000, &format!("{CUSTOMERS}?limit=2&offset=1&order=-updated_at")).body;
        assert_eq!(emails(&page), ["person3@example.test", "person2@example.test"]);
        assert_eq!((&page["count"], &page["limit"], &page["offset"]), (&json!(5), &json!(2), &json!(1)));
        assert_eq!(page["customers"][0]["updated_at"], "1970-01-01T00:00:10.003Z");
        let since = "updated_at%5B%24gt%5D=1970-01-01T00:00:10.003Z";
        assert_eq!(emails(&fake.get(20_000, &format!("{CUSTOMERS}?{since}")).body), ["person4@example.test"]);
        let since = since.replace("gt", "gte");
        assert_eq!(emails(&fake.get(20_000, &format!("{CUSTOMERS}?{since}")).body).len(), 2);
        assert_eq!(fake.get(20_000, &format!("{CUSTOMERS}?modified_after=1")).status, 400);
        for bad in ["order=total", "order=updated_at,id", "updated_at[$gt]=soon"] {
            let refused = fake.get(20_000, &format!("{CUSTOMERS}?{bad}"));
            assert_eq!((refused.status, &refused.body["type"]), (500, &json!("unknown_error")), "{bad}");
        }
    }

    #[test]
    fn a_write_that_changes_nothing_leaves_the_time_alone() {
        let fake = fake(&[]);
        let id = fake.person("Ana", "ana@example.test");
        let at = format!("{CUSTOMERS}/{id}");
        let same = fake.post(5000, &at, &json!({ "first_name": "Ana", "email": "ana@example.test" }));
        assert_eq!(same.body["customer"]["updated_at"], "1970-01-01T00:00:00.000Z");
        let other = fake.post(5000, &at, &json!({ "first_name": null, "phone": "+4640123" }));
        let shown = &other.body["customer"];
        assert_eq!((&shown["first_name"], &shown["phone"]), (&Value::Null, &json!("+4640123")));
        assert_eq!(shown["updated_at"], "1970-01-01T00:00:05.000Z");
        assert_eq!(fake.post(5000, &at, &json!({ "name": "Ana" })).status, 400);
        let gone = fake.call(6000, "DELETE", &at, &[], None);
        assert_eq!(gone.body, json!({ "id": id, "object": "customer", "deleted": true }));
        let (read, written) = (fake.get(6000, &at), fake.post(6000, &at, &json!({})));
        assert_eq!((read.status, &read.body["message"]), (404, &json!(format!("Customer with id: {id} not found"))));
        assert_eq!(
            (written.status, &written.body["message"]),
            (404, &json!(format!("Customer with id \"{id}\" not found")))
        );
        assert_eq!(fake.call(7000, "DELETE", &at, &[], None).status, 200, "whoever is gone can be deleted again");
    }

    #[test]
    fn metadata_is_added_and_an_empty_text_takes_away() {
        let fake = fake(&[]);
        let at = format!("{CUSTOMERS}/{}", fake.person("Ana", "ana@example.test"));
        let written = |metadata: Value| {
            let answer = fake.post(5000, &at, &json!({ "metadata": metadata }));
            answer.body["customer"]["metadata"].clone()
        };
        written(json!({ "a": "1", "b": "2" }));
        assert_eq!(written(json!({ "c": "3" })), json!({ "a": "1", "b": "2", "c": "3" }));
        assert_eq!(written(json!({ "a": "" })), json!({ "b": "2", "c": "3" }));
        assert_eq!(written(Value::Null), Value::Null);
    }

    #[test]
    fn the_list_of_orders_does_not_mind_what_it_does_not_know() {
        let fake = fake(&[]);
        fake.sandbox.place_order(1000, "it", &new("ana@example.test"));
        let listed = |query: &str| fake.get(2000, &format!("{ORDERS}?{query}")).body;
        for silent in ["foo=1", "email=nobody@example.test"] {
            assert_eq!(listed(silent)["count"], 1, "{silent}");
        }
        assert_eq!((&listed("")["limit"], &listed("customer_id=cus_1")["count"]), (&json!(15), &json!(0)));
    }

    #[test]
    fn an_order_has_the_members_of_the_captured_one() {
        let fake = fake(&[]);
        let id = fake.sandbox.place_order(1000, "it", &new("ana@example.test"));
        let shown = fake.get(2000, &format!("{ORDERS}/{id}?fields=%2Bemail,%2Bcurrency_code")).body["order"].clone();
        for (place, value) in [
            ("/display_id", json!(1)),
            ("/status", json!("pending")),
            ("/email", json!("ana@example.test")),
            ("/currency_code", json!("brl")),
            ("/total", json!(39.8)),
            ("/summary/raw_current_order_total", json!({ "value": "39.8", "precision": 20 })),
            ("/items/0/title", json!("Widget")),
            ("/items/0/unit_price", json!(19.9)),
            ("/items/0/raw_unit_price/value", json!("19.9")),
            ("/items/0/detail/quantity", json!(2)),
            ("/items/0/detail/raw_quantity/value", json!("2")),
            ("/shipping_address/phone", json!("+55 11 91234-5678")),
            ("/shipping_address/country_code", json!("br")),
            ("/created_at", json!("1970-01-01T00:00:01.000Z")),
        ] {
            assert_eq!(shown.pointer(place), Some(&value), "{place}");
        }
        // A list tells neither who nor in which currency, unless it is asked to.
        let listed = |fields: &str| fake.get(2000, &format!("{ORDERS}?{fields}")).body["orders"][0].clone();
        assert!(listed("").get("email").is_none() && listed("").get("shipping_address").is_none());
        let asked = listed("fields=id,email,*shipping_address");
        assert!(asked["email"].is_string() && asked["shipping_address"].is_object() && asked.get("total").is_none());
        assert_eq!(fake.get(2000, &format!("{ORDERS}/order_1")).status, 404);
    }

    #[test]
    fn an_order_makes_a_customer_in_small_letters_and_tells_nobody() {
        let fake = fake(&[("webhook_secret", "s")]);
        let known = fake.person("Ana", "Ana@example.test");
        fake.sandbox.take_hooks();
        fake.sandbox.place_order(1000, "it", &new("Ana@example.test"));
        fake.sandbox.place_order(1000, "it", &new("ANA@example.test"));
        let people = fake.sandbox.people("it");
        assert_eq!((people.len(), people[1].email.as_deref()), (2, Some("ana@example.test")));
        assert_ne!(known, people[1].id);
        let orders = fake.get(2000, &format!("{ORDERS}?fields=email,customer_id")).body["orders"].clone();
        assert_eq!(
            (&orders[0]["email"], &orders[1]["email"]),
            (&json!("Ana@example.test"), &json!("ANA@example.test"))
        );
        assert!(orders.as_array().unwrap().iter().all(|order| order["customer_id"] == people[1].id), "{orders}");
        let names = fake.sandbox.take_hooks();
        let names = names.iter().map(|told| serde_json::from_slice::<Value>(&told.body).unwrap()["name"].clone());
        assert_eq!(names.collect::<Vec<_>>(), ["order.placed", "order.placed"]);
    }

    #[test]
    fn a_payment_leaves_its_order_untouched_and_a_refund_does_not() {
        let fake = fake(&[("webhook_secret", "s")]);
        let id = fake.sandbox.place_order(1000, "it", &new("ana@example.test"));
        fake.sandbox.take_hooks();
        fake.sandbox.set_order(2000, "it", &id, "captured");
        let shown = fake.get(2000, &format!("{ORDERS}/{id}")).body["order"].clone();
        assert_eq!((&shown["status"], &shown["payment_status"]), (&json!("pending"), &json!("captured")));
        assert_eq!(shown["updated_at"], "1970-01-01T00:00:01.000Z");
        let told = fake.sandbox.take_hooks();
        let body: Value = serde_json::from_slice(&told[0].body).unwrap();
        assert_eq!((body["name"].as_str(), &body["data"]["order_id"]), (Some("payment.captured"), &json!(id)));
        fake.sandbox.refund_order(2500, "it", &id, "9.8");
        let part = fake.get(2500, &format!("{ORDERS}/{id}")).body["order"].clone();
        assert_eq!(
            (&part["payment_status"], &part["summary"]["refunded_total"]),
            (&json!("partially_refunded"), &json!(9.8))
        );
        let credited = (&part["updated_at"], &part["total"], &part["original_total"]);
        assert_eq!(credited, (&json!("1970-01-01T00:00:02.500Z"), &json!(30), &json!(39.8)));
        fake.sandbox.set_order(2600, "it", &id, "captured");
        fake.sandbox.set_order(3000, "it", &id, "canceled");
        assert_eq!(fake.get(3000, &format!("{ORDERS}/{id}")).body["order"]["payment_status"], "refunded");
    }

    #[test]
    fn a_parcel_is_packed_then_shipped_then_delivered_and_its_order_moves_with_it() {
        let fake = fake(&[("webhook_secret", "s")]);
        let id = fake.sandbox.place_order(1000, "it", &new("ana@example.test"));
        fake.sandbox.take_hooks();
        let new = NewShipment { number: Some("A1".to_owned()), packed: true, ..NewShipment::default() };
        let parcel = fake.sandbox.ship_order(2000, "it", &id, &new);
        let asked = "fields=id,updated_at,*fulfillments,*fulfillments.labels,*fulfillments.items";
        let shown = || fake.get(9000, &format!("{ORDERS}/{id}?{asked}")).body["order"].clone();
        let order = shown();
        assert_eq!(
            (&order["fulfillment_status"], &order["updated_at"]),
            (&json!("fulfilled"), &json!("1970-01-01T00:00:02.000Z"))
        );
        assert_eq!(order["fulfillments"][0]["labels"], json!([]));
        fake.sandbox.set_order(2500, "it", &id, "canceled");
        assert_eq!(shown()["status"], "pending", "there is a parcel");
        assert!(order["fulfillments"][0]["shipped_at"].is_null() && order["fulfillments"][0]["id"] == parcel);
        assert!(fake.sandbox.take_hooks().is_empty(), "the subscriber does not ask for what is only packed");
        fake.sandbox.set_shipment(3000, "it", &id, &parcel, "shipped");
        fake.sandbox.set_shipment(3500, "it", &id, &parcel, "cancelled");
        fake.sandbox.set_shipment(4000, "it", &id, &parcel, "delivered");
        let order = shown();
        let one = &order["fulfillments"][0];
        assert_eq!((&order["fulfillment_status"], &one["canceled_at"]), (&json!("delivered"), &Value::Null));
        assert_eq!(order["updated_at"], "1970-01-01T00:00:04.000Z");
        assert_eq!((&one["labels"][0]["tracking_number"], &one["items"][0]["title"]), (&json!("A1"), &json!("Widget")));
        let bare = fake.get(9000, &format!("{ORDERS}/{id}?fields=id,*fulfillments")).body["order"].clone();
        assert!(bare["fulfillments"][0].get("labels").is_none());
        let told = fake.sandbox.take_hooks();
        let bodies: Vec<Value> = told.iter().map(|told| serde_json::from_slice(&told.body).unwrap()).collect();
        let names: Vec<&str> = bodies.iter().filter_map(|body| body["name"].as_str()).collect();
        assert_eq!(names, ["shipment.created", "delivery.created"]);
        assert_eq!((&bodies[0]["data"]["id"], &bodies[0]["data"]["order_id"]), (&json!(parcel), &json!(id)));
    }

    #[test]
    fn events_hold_an_id_and_go_to_an_address_with_a_secret() {
        let fake = fake(&[("webhook_secret", "in-the-path")]);
        let customer = fake.person("Ana", "ana@example.test");
        let order = fake.sandbox.place_order(1000, "it", &new("ana@example.test"));
        let told = fake.sandbox.take_hooks();
        let bodies: Vec<Value> = told.iter().map(|told| serde_json::from_slice(&told.body).unwrap()).collect();
        let names: Vec<&str> = bodies.iter().filter_map(|body| body["name"].as_str()).collect();
        assert_eq!(names, ["customer.created", "order.placed"]);
        assert_eq!((&bodies[0]["data"], &bodies[1]["data"]), (&json!({ "id": customer }), &json!({ "id": order })));
        assert!(bodies[0]["metadata"]["created_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(told[0].path_secret.as_deref(), Some("in-the-path"));
        assert_eq!(fake.sandbox.take_hooks().len(), 0);
    }
}
