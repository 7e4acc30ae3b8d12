//! WooCommerce REST API v3: customers, orders, webhooks, as version 11.0.1 was seen to behave.
//!
//! The site's clock is UTC. `webhook_topics` and `webhook_secret` register webhooks from the beginning.

use http::{Method, Response};
use serde_json::{Map, Value, json};

use crate::answer::{self, Query, base64, header, with_header};
use crate::faults::Fate;
use crate::hooks::{self, Hook, HookDelivery, PING, Pending};
use crate::instance::{Instance, stored};
use crate::orders::{Item, NewOrder, NewShipment, Row, line_total};
use crate::people::Person;
use crate::{Millis, TOKEN, time};

const BILLING: [(&str, &str); 4] =
    [("company", "company"), ("city", "city"), ("country", "country"), ("postcode", "postcode")];
const BILLING_ASIDE: [&str; 5] = ["first_name", "last_name", "address_1", "address_2", "state"];

fn customer(person: &Person) -> Value {
    let mut billing = Map::new();
    for name in BILLING_ASIDE {
        let value = person.more.get(&format!("billing_{name}")).cloned().unwrap_or_default();
        billing.insert(name.to_owned(), json!(value));
    }
    let shown = [&person.company, &person.city, &person.country, &person.postcode];
    for ((name, _), value) in BILLING.iter().zip(shown) {
        billing.insert((*name).to_owned(), json!(value.clone().unwrap_or_default()));
    }
    billing.insert("phone".to_owned(), json!(person.phone.clone().unwrap_or_default()));
    billing.insert("email".to_owned(), json!(person.more.get("billing_email").cloned().unwrap_or_default()));
    let meta: Vec<Value> = person
        .custom
        .iter()
        .enumerate()
        .map(|(at, (key, value))| json!({ "id": at + 1, "key": key, "value": value }))
        .collect();
    json!({
        "id": person.id.parse::<u64>().unwrap_or(0),
        "date_created": time::naive(person.created_at), "date_created_gmt": time::naive(person.created_at),
        "date_modified": time::naive(person.updated_at), "date_modified_gmt": time::naive(person.updated_at),
        "email": person.email.clone().unwrap_or_default(), "first_name": person.given, "last_name": person.family,
        "role": "customer", "username": person.email.clone().unwrap_or_default(), "billing": billing,
        "shipping": {}, "is_paying_customer": false, "avatar_url": "", "meta_data": meta,
    })
}

fn error(status: u16, code: &str, message: &str) -> Response<Vec<u8>> {
    answer::json(status, &json!({ "code": code, "message": message, "data": { "status": status } }))
}

fn authorised(request: &http::Request<Vec<u8>>, query: &Query) -> bool {
    let basic = header(request, "authorization")
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(base64)
        .is_some_and(|pair| pair == format!("{TOKEN}:{TOKEN}"));
    basic || (query.get("consumer_key") == Some(TOKEN) && query.get("consumer_secret") == Some(TOKEN))
}

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    let Some(path) = path.strip_prefix("wp-json/wc/v3/") else {
        return error(404, "rest_no_route", "No route was found matching the URL and request method.");
    };
    if !authorised(request, query) {
        return error(401, "woocommerce_rest_cannot_view", "Sorry, you cannot list resources.");
    }
    if path == "orders" || path.starts_with("orders/") {
        return orders(instance, now, request, path, query, fate);
    }
    if path == "webhooks" || path.starts_with("webhooks/") {
        return webhooks(instance, now, request, path, query);
    }
    let id = path.strip_prefix("customers/").and_then(|id| id.parse::<u64>().ok());
    match (request.method(), path, id) {
        (&Method::GET, "customers", _) => list(instance, query, fate),
        (&Method::POST, "customers", _) => save(instance, now, None, request, fate),
        (_, _, Some(id)) if !instance.people.contains_key(&id) => {
            error(404, "woocommerce_rest_invalid_id", "Invalid resource ID.")
        }
        (&Method::GET, _, Some(id)) => answer::json(200, &customer(&instance.people[&id])),
        (&Method::PUT | &Method::PATCH | &Method::POST, _, Some(id)) => save(instance, now, Some(id), request, fate),
        (&Method::DELETE, _, Some(_)) if query.get("force") != Some("true") => {
            error(501, "woocommerce_rest_trash_not_supported", "Customers do not support trashing.")
        }
        (&Method::DELETE, _, Some(id)) => {
            let gone = customer(&instance.people[&id]);
            instance.delete(now, &id.to_string());
            answer::json(200, &gone)
        }
        _ => error(404, "rest_no_route", "No route was found matching the URL and request method."),
    }
}

fn list(instance: &Instance, query: &Query, fate: &Fate) -> Response<Vec<u8>> {
    let size = query.number("per_page").unwrap_or(10);
    if !(1..=100).contains(&size) {
        return error(400, "rest_invalid_param", "Invalid parameter(s): per_page");
    }
    let page = query.number("page").unwrap_or(1).max(1);
    // `modified_after` is accepted and ignored on customers.
    let mut ids: Vec<u64> = match query.get("email") {
        Some(email) => instance.holder_of(email, None).into_iter().collect(),
        None => instance.people.keys().copied().filter(|id| !fate.is_omitted(*id)).collect(),
    };
    let descending =
        query.get("order").unwrap_or(if query.get("orderby").is_some() { "desc" } else { "asc" }) == "desc";
    if descending {
        ids.reverse();
    }
    instance.shift(&mut ids, fate);
    let total = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    let from = ((page - 1) * size) as usize;
    let rows: Vec<Value> = ids.iter().skip(from).take(size as usize).map(|id| customer(&instance.people[id])).collect();
    let response = answer::json(200, &Value::Array(rows));
    let response = with_header(response, "x-wp-total", &total.to_string());
    with_header(response, "x-wp-totalpages", &total.div_ceil(size).to_string())
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
        return error(400, "rest_invalid_json", "Invalid JSON body passed.");
    };
    match members.get("email").and_then(Value::as_str) {
        None if id.is_none() => return error(400, "rest_missing_callback_param", "Missing parameter(s): email"),
        Some(email) if !email.contains('@') => {
            return error(400, "rest_invalid_param", "Invalid parameter(s): email");
        }
        Some(email) if instance.holder_of(email, id).is_some() => {
            let message = "An account is already registered with your email address.";
            return error(400, "registration-error-email-exists", message);
        }
        _ => {}
    }
    let mut changes = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("first_name", value) => changes.push(("given".to_owned(), stored(value))),
            ("last_name", value) => changes.push(("family".to_owned(), stored(value))),
            ("email", value) => changes.push(("email".to_owned(), stored(value))),
            ("billing", Value::Object(billing)) => {
                for (part, value) in billing {
                    let field = match part.as_str() {
                        "phone" | "company" | "city" | "country" | "postcode" => part.clone(),
                        other => format!("more.billing_{other}"),
                    };
                    changes.push((field, stored(value)));
                }
            }
            ("meta_data", Value::Array(list)) => {
                for entry in list {
                    let Some(key) = entry["key"].as_str() else { continue };
                    changes.push((format!("custom.{key}"), stored(&entry["value"])));
                }
            }
            _ => {}
        }
    }
    let person = instance.store(now, id, changes, fate);
    answer::json(if id.is_some() { 200 } else { 201 }, &customer(&person))
}

// ---- orders --------------------------------------------------------------------------------------------------------

const STATUSES: [&str; 10] = [
    "pending",
    "processing",
    "on-hold",
    "completed",
    "cancelled",
    "refunded",
    "failed",
    "checkout-draft",
    "auto-draft",
    "trash",
];

/// Whether nothing was ordered yet: the checkout page, or the page for a new order, is open somewhere.
fn is_draft(status: &str) -> bool {
    matches!(status, "checkout-draft" | "auto-draft")
}

fn orders(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
    fate: &Fate,
) -> Response<Vec<u8>> {
    let base = answer::base(request, &instance.spec.name);
    let id = path.strip_prefix("orders/").map(|id| id.parse::<u64>().unwrap_or(0));
    let method = request.method();
    match (method, id) {
        (&Method::GET, None) => list_orders(instance, query, fate, &base),
        (&Method::POST, None) => create_order(instance, now, request, &base),
        (_, Some(id)) if !instance.shop.rows.contains_key(&id) => {
            error(404, "woocommerce_rest_shop_order_invalid_id", "Invalid ID.")
        }
        (&Method::GET, Some(id)) => answer::json(200, &instance.shop.rows[&id].show(&base)),
        (&Method::PUT | &Method::PATCH | &Method::POST, Some(id)) => {
            update_order(instance, now, id, &answer::body(request));
            answer::json(200, &instance.shop.rows[&id].show(&base))
        }
        (&Method::DELETE, Some(id)) => {
            let shown = instance.shop.rows[&id].show(&base);
            if query.get("force") == Some("true") {
                instance.shop.rows.remove(&id);
                happened(instance, "order", id, "deleted");
                return answer::json(200, &shown);
            }
            if instance.shop.rows[&id].status == "trash" {
                return error(410, "woocommerce_rest_already_trashed", "The Order has already been deleted.");
            }
            set_status(instance, now, id, "trash");
            answer::json(200, &instance.shop.rows[&id].show(&base))
        }
        _ => error(404, "rest_no_route", "No route was found matching the URL and request method."),
    }
}

fn invalid(name: &str) -> Response<Vec<u8>> {
    error(400, "rest_invalid_param", &format!("Invalid parameter(s): {name}"))
}

fn list_orders(instance: &Instance, query: &Query, fate: &Fate, base: &str) -> Response<Vec<u8>> {
    let size = query.number("per_page").unwrap_or(10);
    if !(1..=100).contains(&size) {
        return invalid("per_page");
    }
    let mut bounds = [None; 4];
    for (bound, name) in bounds.iter_mut().zip(["after", "before", "modified_after", "modified_before"]) {
        let Some(text) = query.get(name) else { continue };
        let Some(at) = time::parse_naive(text) else { return invalid(name) };
        *bound = Some(at.div_euclid(1000));
    }
    let [after, before, modified_after, modified_before] = bounds;
    let wanted = query.list("status");
    if wanted.iter().any(|status| *status != "any" && !STATUSES.contains(status)) {
        return invalid("status");
    }
    let included: Vec<u64> = query.list("include").iter().filter_map(|id| id.parse().ok()).collect();
    // Times have whole seconds, and bounds are not part of what lies between them.
    let within = |at: Millis, from: Option<Millis>, to: Option<Millis>| {
        let at = at.div_euclid(1000);
        from.is_none_or(|from| at > from) && to.is_none_or(|to| at < to)
    };
    let rows = instance.shop.rows.values();
    // Shops before March 2026 list drafts under `any`.
    let lists_drafts = instance.setting("lists_drafts") == Some("true");
    let mut rows: Vec<_> = rows
        .filter(|row| match wanted.is_empty() || wanted.contains(&"any") {
            true => row.status != "trash" && (lists_drafts || !is_draft(&row.status)),
            false => wanted.contains(&row.status.as_str()),
        })
        .filter(|row| within(row.created_at, after, before) && within(row.updated_at, modified_after, modified_before))
        .filter(|row| query.number("customer").is_none_or(|customer| row.customer == customer))
        .filter(|row| included.is_empty() || included.contains(&row.id))
        .collect();
    match query.get("orderby").unwrap_or("date") {
        "modified" => rows.sort_by_key(|row| (row.updated_at.div_euclid(1000), row.id)),
        "date" => rows.sort_by_key(|row| (row.created_at.div_euclid(1000), row.id)),
        "id" | "include" | "title" | "slug" => {}
        _ => return invalid("orderby"),
    }
    match query.get("order").unwrap_or("desc") {
        "desc" => rows.reverse(),
        "asc" => {}
        _ => return invalid("order"),
    }
    let mut ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    instance.shift(&mut ids, fate);
    let page = query.number("page").unwrap_or(1).max(1);
    let shown: Vec<Value> = match fate.empty_page && page > 1 {
        true => Vec::new(),
        false => {
            let from = (page - 1).saturating_mul(size).min(ids.len() as u64) as usize;
            ids.iter().skip(from).take(size as usize).map(|id| instance.shop.rows[id].show(base)).collect()
        }
    };
    let total = ids.len() as u64 + fate.total_lies.unwrap_or(0);
    paged(&shown, total, size, page, &format!("{base}wp-json/wc/v3/orders?per_page={size}"))
}

/// A page with its totals in the headers, and links to its neighbours.
fn paged(rows: &[Value], total: u64, size: u64, page: u64, at: &str) -> Response<Vec<u8>> {
    let pages = total.div_ceil(size);
    let response = answer::json(200, &json!(rows));
    let response = with_header(response, "x-wp-total", &total.to_string());
    let response = with_header(response, "x-wp-totalpages", &pages.to_string());
    let mut links = Vec::new();
    if page > 1 {
        links.push(format!("<{at}&page={}>; rel=\"prev\"", (page - 1).min(pages.max(1))));
    }
    if page < pages {
        links.push(format!("<{at}&page={}>; rel=\"next\"", page + 1));
    }
    match links.is_empty() {
        true => response,
        false => with_header(response, "link", &links.join(", ")),
    }
}

fn create_order(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    base: &str,
) -> Response<Vec<u8>> {
    let body = answer::body(request);
    if !body.is_object() {
        return error(400, "rest_invalid_json", "Invalid JSON body passed.");
    }
    let status = body["status"].as_str().unwrap_or("pending");
    if !STATUSES.contains(&status) {
        return invalid("status");
    }
    let new = NewOrder {
        status: if body["set_paid"] == true { "processing" } else { status }.to_owned(),
        currency: body["currency"].as_str().unwrap_or_default().to_owned(),
        customer: body["customer_id"].as_u64().map(|id| id.to_string()),
        ..NewOrder::default()
    };
    let id = instance.shop.place(now, &new);
    apply(instance, id, &body);
    if let Some(row) = instance.shop.rows.get_mut(&id) {
        row.via = "rest-api";
    }
    placed(instance, id);
    answer::json(201, &instance.shop.rows[&id].show(base))
}

fn update_order(instance: &mut Instance, now: Millis, id: u64, body: &Value) {
    let touched = apply(instance, id, body);
    if let Some(status) = body["status"].as_str() {
        set_status(instance, now, id, status);
    }
    // A write of what is there already leaves the date alone.
    if touched && let Some(row) = instance.shop.rows.get_mut(&id) {
        row.updated_at = now;
        happened(instance, "order", id, "updated");
    }
}

/// Everything of a body but the status; whether anything changed.
fn apply(instance: &mut Instance, id: u64, body: &Value) -> bool {
    let shop = &mut instance.shop;
    let mut touched = false;
    let lines = body["line_items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts: Vec<u64> = (0..lines.len()).map(|_| shop.take_part()).collect();
    let metas = body["meta_data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let meta_ids: Vec<u64> = (0..metas.len()).map(|_| shop.take_part()).collect();
    let Some(row) = shop.rows.get_mut(&id) else { return false };
    if let Some(note) = body["customer_note"].as_str().filter(|note| *note != row.note) {
        row.note = note.to_owned();
        touched = true;
    }
    for (name, value) in body["billing"].as_object().into_iter().flatten() {
        touched |= row.billing.insert(name.clone(), value.clone()).as_ref() != Some(value);
    }
    for (entry, id) in metas.iter().zip(meta_ids) {
        let Some(key) = entry["key"].as_str() else { continue };
        match row.meta.iter_mut().find(|(_, known, _)| known == key) {
            Some((_, _, value)) if *value == entry["value"] => {}
            Some((_, _, value)) => {
                *value = entry["value"].clone();
                touched = true;
            }
            None => {
                row.meta.push((id, key.to_owned(), entry["value"].clone()));
                touched = true;
            }
        }
    }
    for (line, part) in lines.iter().zip(parts) {
        let quantity = line["quantity"].as_u64().unwrap_or(1) as u32;
        let total = stored(&line["total"]).or_else(|| stored(&line["subtotal"]));
        let known = line["id"].as_u64().and_then(|id| row.items.iter_mut().find(|item| item.id == id));
        match known {
            Some(item) => {
                item.quantity = quantity;
                item.total = total.map_or(item.total, |total| line_total(&total, 1));
            }
            // A line without an id is one more line, also when the same was sent before.
            None => row.items.push(Item {
                id: part,
                name: line["name"].as_str().unwrap_or("Product").to_owned(),
                quantity,
                total: total.map_or(0, |total| line_total(&total, 1)),
            }),
        }
        touched = true;
    }
    touched
}

/// An order appears at the shop. Of a draft only its being saved is told.
pub(crate) fn placed(instance: &mut Instance, id: u64) {
    if !instance.shop.rows.get(&id).is_some_and(|row| is_draft(&row.status)) {
        happened(instance, "order", id, "created");
    }
    happened(instance, "order", id, "updated");
}

pub(crate) fn set_status(instance: &mut Instance, now: Millis, id: u64, status: &str) {
    let was_draft = instance.shop.rows.get(&id).is_some_and(|row| is_draft(&row.status));
    if instance.shop.set_status(now, id, status) {
        let event = match status {
            "trash" => "deleted",
            // A draft becomes an order, which keeps the date of the draft.
            _ if was_draft && !is_draft(status) => "created",
            _ => "updated",
        };
        happened(instance, "order", id, event);
    }
}

/// Gives a part of the money back; the order of which all went back is `refunded`.
pub(crate) fn refund(instance: &mut Instance, now: Millis, id: &str, amount: &str) {
    let Some(row) = id.parse().ok().and_then(|id| instance.shop.refund(id, amount)) else { return };
    row.updated_at = now;
    if row.refunded() >= row.total() {
        "refunded".clone_into(&mut row.status);
    }
    let id = row.id;
    happened(instance, "order", id, "updated");
}

// ---- parcels, as the extension Shipment Tracking keeps them: in a piece of the order's meta data --------------------

const TRACKING: &str = "_wc_shipment_tracking_items";

/// The parcels of an order; an order has the list once it had one.
fn tracked(row: &mut Row, part: u64) -> &mut Vec<Value> {
    let at = row.meta.iter().position(|(_, key, _)| key == TRACKING).unwrap_or_else(|| {
        row.meta.push((part, TRACKING.to_owned(), json!([])));
        row.meta.len() - 1
    });
    let list = &mut row.meta[at].2;
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut().expect("it is a list now")
}

fn tracking(parcel: &NewShipment, id: &str, now: Millis) -> Value {
    const DAY: Millis = 86_400_000;
    // Carriers that the extension knows have a short name and no link in the meta data.
    let (known, own) = if parcel.url.is_some() { (None, &parcel.carrier) } else { (parcel.carrier.as_ref(), &None) };
    json!({
        "tracking_provider": known.map(|name| name.to_lowercase()).unwrap_or_default(),
        "custom_tracking_provider": own.clone().unwrap_or_default(),
        "custom_tracking_link": parcel.url.clone().unwrap_or_default(),
        "tracking_number": parcel.number.clone().unwrap_or_default(), "tracking_id": id,
        "date_shipped": (now.div_euclid(DAY) * DAY / 1000).to_string(),
    })
}

/// Somebody adds a tracking number.
pub(crate) fn ship(instance: &mut Instance, now: Millis, id: &str, parcel: &NewShipment) -> Option<String> {
    let id = id.parse().ok()?;
    let (part, number) = (instance.shop.take_part(), instance.shop.take_part());
    let tracking_id = hooks::hex(&hooks::digest(&format!("parcel {number}")));
    let row = instance.shop.rows.get_mut(&id)?;
    tracked(row, part).push(tracking(parcel, &tracking_id, now));
    row.updated_at = now;
    happened(instance, "order", id, "updated");
    Some(tracking_id)
}

/// A tracking number can only be taken away; a corrected one is a new one. Nobody tells that a parcel arrived.
pub(crate) fn set_shipment(instance: &mut Instance, now: Millis, order: &str, parcel: &str, state: &str) {
    let Ok(id) = order.parse::<u64>() else { return };
    let number = state.strip_prefix("number=");
    if state != "cancelled" && number.is_none() {
        return;
    }
    let part = instance.shop.take_part();
    let Some(row) = instance.shop.rows.get_mut(&id) else { return };
    tracked(row, part).retain(|known| known["tracking_id"] != parcel);
    row.updated_at = now;
    match number {
        Some(number) => {
            let corrected = NewShipment { number: Some(number.to_owned()), ..NewShipment::default() };
            ship(instance, now, order, &corrected);
        }
        None => happened(instance, "order", id, "updated"),
    }
}

// ---- webhooks ------------------------------------------------------------------------------------------------------

/// Something happened to an order or a customer. A delivery that still waits absorbs further events of its topic.
pub(crate) fn happened(instance: &mut Instance, resource: &str, id: u64, event: &str) {
    instance.hooks.happened(&format!("{resource}.{event}"), id, &Value::Null, true);
}

pub(crate) fn first_hooks(instance: &mut Instance, topics: Vec<String>, secret: &str) {
    let usual = || vec!["order.created".to_owned(), "order.updated".to_owned()];
    for topic in if topics.is_empty() { usual() } else { topics } {
        // One webhook has one topic.
        instance.hooks.register(0, &topic, "http://localhost/", vec![topic.clone()], secret);
    }
}

/// One delivery, built now.
pub(crate) fn deliver(instance: &mut Instance, now: Millis, pending: &Pending) -> Option<HookDelivery> {
    let hook = instance.hooks.registered.get(&pending.hook)?;
    let mut headers = vec![
        ("User-Agent".to_owned(), "WooCommerce/11.0.1 Hookshot (WordPress/7.0.4)".to_owned()),
        ("Accept".to_owned(), "*/*".to_owned()),
    ];
    let mut put = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    let (instance_name, url) = (instance.spec.name.clone(), hook.url.clone());
    if pending.topic == PING {
        put("Content-Type", "application/x-www-form-urlencoded");
        let body = format!("webhook_id={}", hook.id).into_bytes();
        return Some(HookDelivery { instance: instance_name, url, headers, body, at: now, path_secret: None });
    }
    if hook.status != "active" {
        return None;
    }
    let source = format!("http://localhost/{instance_name}/");
    let (resource, event) = pending.topic.split_once('.')?;
    let shown = match (resource, event) {
        (_, "deleted") => json!({ "id": pending.resource }),
        ("order", _) => instance.shop.rows.get(&pending.resource)?.show(&source),
        ("customer", _) => customer(&instance.person(pending.resource)?),
        _ => return None,
    };
    let body = shown.to_string().into_bytes();
    // Made from the webhook and the second, so that a burst carries one id many times over.
    let delivery = hooks::digest(&format!("{instance_name} {} {}", hook.id, now.div_euclid(1000)));
    put("Content-Type", "application/json");
    put("X-WC-Webhook-Source", &source);
    put("X-WC-Webhook-Topic", &pending.topic);
    put("X-WC-Webhook-Resource", resource);
    put("X-WC-Webhook-Event", event);
    put("X-WC-Webhook-Signature", &answer::to_base64(&hooks::sign(&hook.secret, &body)));
    put("X-WC-Webhook-ID", &hook.id.to_string());
    put("X-WC-Webhook-Delivery-ID", &hooks::hex(&delivery));
    Some(HookDelivery { instance: instance_name, url, headers, body, at: now, path_secret: None })
}

/// A delivery that fails is never repeated; the seventh in a row disables its webhook.
pub(crate) fn answered(instance: &mut Instance, delivery: &HookDelivery, status: u16) {
    let id = delivery.header("x-wc-webhook-id").and_then(|id| id.parse::<u64>().ok());
    let Some(hook) = id.and_then(|id| instance.hooks.registered.get_mut(&id)) else { return };
    if (200..300).contains(&status) {
        hook.failures = 0;
        return;
    }
    if hook.failures >= 6 {
        hook.status = "disabled".to_owned();
    }
    hook.failures += 1;
}

fn webhook(hook: &Hook, base: &str) -> Value {
    let topic = hook.topics.first().map(String::as_str).unwrap_or_default();
    let (resource, event) = topic.split_once('.').unwrap_or((topic, ""));
    json!({
        "id": hook.id, "name": hook.name, "status": hook.status, "topic": topic, "resource": resource, "event": event,
        "hooks": [], "delivery_url": hook.url, "date_created": time::naive(hook.created_at),
        "date_created_gmt": time::naive(hook.created_at), "date_modified": time::naive(hook.updated_at),
        "date_modified_gmt": time::naive(hook.updated_at),
        "_links": {
            "self": [{ "href": format!("{base}wp-json/wc/v3/webhooks/{}", hook.id) }],
            "collection": [{ "href": format!("{base}wp-json/wc/v3/webhooks") }],
        },
    })
}

fn is_topic(topic: &str) -> bool {
    let known = topic.split_once('.').is_some_and(|(resource, event)| {
        ["coupon", "customer", "order", "product"].contains(&resource)
            && ["created", "updated", "deleted", "restored"].contains(&event)
    });
    known || topic.strip_prefix("action.").is_some_and(|hook| !hook.is_empty())
}

fn webhooks(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    query: &Query,
) -> Response<Vec<u8>> {
    let base = answer::base(request, &instance.spec.name);
    let id = path.strip_prefix("webhooks/").map(|id| id.parse::<u64>().unwrap_or(0));
    let body = answer::body(request);
    let given = |name: &str| body[name].as_str();
    let bad_topic = || {
        let message = "Webhook topic is required and must be valid.";
        error(400, "woocommerce_rest_webhook_invalid_topic", message)
    };
    let bad_url = || {
        let message = "Webhook delivery URL must be a valid URL starting with http:// or https://.";
        error(400, "woocommerce_rest_webhook_invalid_delivery_url", message)
    };
    let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    match (request.method(), id) {
        (&Method::GET, None) => {
            let size = query.number("per_page").unwrap_or(10);
            if !(1..=100).contains(&size) {
                return invalid("per_page");
            }
            let page = query.number("page").unwrap_or(1).max(1);
            let mut hooks: Vec<&Hook> = instance.hooks.registered.values().collect();
            if query.get("order") != Some("asc") {
                hooks.reverse();
            }
            let from = (page - 1).saturating_mul(size).min(usize::MAX as u64) as usize;
            let shown = hooks.into_iter().skip(from).take(size as usize);
            let rows: Vec<Value> = shown.map(|hook| webhook(hook, &base)).collect();
            let total = instance.hooks.registered.len() as u64;
            paged(&rows, total, size, page, &format!("{base}wp-json/wc/v3/webhooks?per_page={size}"))
        }
        (&Method::POST, None) => {
            let Some(topic) = given("topic").filter(|topic| is_topic(topic)) else { return bad_topic() };
            let Some(url) = given("delivery_url").filter(|url| is_url(url)) else { return bad_url() };
            let name = given("name").unwrap_or("Webhook created");
            // Left out, the secret is made from the user.
            let secret = given("secret").map_or_else(|| hooks::hex(&hooks::digest("1|admin")), str::to_owned);
            let id = instance.hooks.register(now, name, url, vec![topic.to_owned()], &secret);
            let ping = Pending { hook: id, topic: PING.to_owned(), resource: id, detail: Value::Null };
            instance.hooks.pending.push(ping);
            answer::json(201, &webhook(&instance.hooks.registered[&id], &base))
        }
        (_, Some(id)) if !instance.hooks.registered.contains_key(&id) => {
            error(404, "woocommerce_rest_shop_webhook_invalid_id", "Invalid ID.")
        }
        (&Method::GET, Some(id)) => answer::json(200, &webhook(&instance.hooks.registered[&id], &base)),
        (&Method::PUT | &Method::PATCH | &Method::POST, Some(id)) => {
            if given("topic").is_some_and(|topic| !is_topic(topic)) {
                return bad_topic();
            }
            if given("delivery_url").is_some_and(|url| !is_url(url)) {
                return bad_url();
            }
            let status = given("status");
            if status.is_some_and(|status| !["active", "paused", "disabled"].contains(&status)) {
                return invalid("status");
            }
            let Some(hook) = instance.hooks.registered.get_mut(&id) else { return bad_topic() };
            let text = |name: &str, into: &mut String| {
                if let Some(value) = given(name) {
                    value.clone_into(into);
                }
            };
            text("name", &mut hook.name);
            text("delivery_url", &mut hook.url);
            text("secret", &mut hook.secret);
            text("status", &mut hook.status);
            if let Some(topic) = given("topic") {
                hook.topics = vec![topic.to_owned()];
            }
            if status == Some("active") {
                hook.failures = 0;
            }
            hook.updated_at = now;
            answer::json(200, &webhook(hook, &base))
        }
        (&Method::DELETE, Some(_)) if query.get("force") != Some("true") => {
            error(501, "woocommerce_rest_trash_not_supported", "Webhooks do not support trashing.")
        }
        (&Method::DELETE, Some(id)) => match instance.hooks.registered.remove(&id) {
            Some(hook) => answer::json(200, &webhook(&hook, &base)),
            None => error(404, "woocommerce_rest_shop_webhook_invalid_id", "Invalid ID."),
        },
        _ => error(404, "rest_no_route", "No route was found matching the URL and request method."),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::hooks;
    use crate::answer::to_base64;
    use crate::testing::Fake;
    use crate::{Faults, HookDelivery, NewOrder, NewShipment, TOKEN, Vendor};

    const ORDERS: &str = "/wp-json/wc/v3/orders";
    const HOOKS: &str = "/wp-json/wc/v3/webhooks";

    fn fake(settings: &[(&str, &str)]) -> Fake {
        let pair = to_base64(format!("{TOKEN}:{TOKEN}").as_bytes());
        Fake::new(Vendor::Woocommerce, settings).header("authorization", &format!("Basic {pair}"))
    }

    fn new(status: &str) -> NewOrder {
        NewOrder {
            email: Some("ana@example.test".to_owned()),
            given: "Ana".to_owned(),
            status: status.to_owned(),
            currency: "USD".to_owned(),
            items: vec![("Widget".to_owned(), 2, "19.9".to_owned())],
            ..NewOrder::default()
        }
    }

    fn body(delivery: &HookDelivery) -> Value {
        serde_json::from_slice(&delivery.body).unwrap()
    }

    #[test]
    fn an_order_has_the_members_of_the_captured_one() {
        let captured = json!({
            "id": 11, "parent_id": 0, "status": "processing", "currency": "USD", "total": "39.80", "customer_id": 0,
            "date_paid_gmt": "2026-11-20T19:29:32", "date_completed": null, "number": "11", "currency_symbol": "$",
        });
        let fake = fake(&[]);
        let id = fake.sandbox.place_order(1_795_202_972_000, "it", &new("processing"));
        assert_eq!(id, "11");
        let shown = fake.get(1_795_202_973_000, &format!("{ORDERS}/{id}")).body;
        for (name, value) in captured.as_object().unwrap() {
            assert_eq!(&shown[name], value, "{name}");
        }
        assert_eq!(shown.as_object().unwrap().len(), 47);
        assert_eq!(shown["line_items"][0]["price"], 19.9);
        assert_eq!(shown["line_items"][0]["total"], "39.80");
        assert_eq!(shown["billing"].as_object().unwrap().len(), 11);
        let missing = fake.get(1_795_202_973_000, &format!("{ORDERS}/99"));
        assert_eq!(
            (missing.status, missing.body["code"].as_str()),
            (404, Some("woocommerce_rest_shop_order_invalid_id"))
        );
    }

    #[test]
    fn tracking_numbers_are_meta_data_and_refunds_are_negative() {
        let fake = fake(&[("webhook_topics", "order.updated")]);
        let id = fake.sandbox.place_order(1000, "it", &new("processing"));
        fake.sandbox.take_hooks();
        let parcel =
            NewShipment { number: Some("A1".to_owned()), carrier: Some("DHL".to_owned()), ..Default::default() };
        let first = fake.sandbox.ship_order(2000, "it", &id, &parcel);
        fake.sandbox.set_shipment(3000, "it", &id, &first, "delivered");
        fake.sandbox.set_shipment(4000, "it", &id, &first, "number=A2");
        fake.sandbox.refund_order(5000, "it", &id, "9.80");
        let shown = || fake.get(9000, &format!("{ORDERS}/{id}")).body;
        let order = shown();
        let meta = &order["meta_data"][0];
        assert_eq!(
            (meta["key"].as_str(), meta["value"].as_array().map(Vec::len)),
            (Some("_wc_shipment_tracking_items"), Some(1))
        );
        assert_eq!(
            (&meta["value"][0]["tracking_number"], &meta["value"][0]["date_shipped"]),
            (&json!("A2"), &json!("0"))
        );
        assert_ne!(meta["value"][0]["tracking_id"], first, "a corrected number is another entry");
        assert_eq!((&order["status"], &order["refunds"][0]["total"]), (&json!("processing"), &json!("-9.80")));
        assert_eq!(order["date_modified_gmt"], "1970-01-01T00:00:05");
        fake.sandbox.refund_order(6000, "it", &id, "30.00");
        assert_eq!(shown()["status"], "refunded");
        assert_eq!(fake.sandbox.take_hooks().len(), 1, "what waits absorbs the rest");
    }

    #[test]
    fn modified_after_is_strict_and_has_whole_seconds() {
        let fake = fake(&[]);
        for at in [10_000, 10_900, 11_000, 12_500] {
            fake.sandbox.place_order(at, "it", &new("pending"));
        }
        let ids = |after: &str| {
            let path =
                format!("{ORDERS}?modified_after={after}&dates_are_gmt=true&orderby=modified&order=asc&per_page=100");
            let rows = fake.get(20_000, &path).body;
            rows.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ids("1970-01-01T00:00:10"), [13, 14], "the second of the watermark is left out, whole");
        assert_eq!(ids("1970-01-01T00:00:10.950Z"), [13, 14]);
        assert_eq!(ids("1970-01-01T00:00:09Z"), [11, 12, 13, 14]);
        let refused = fake.get(20_000, &format!("{ORDERS}?modified_after=yesterday"));
        assert_eq!((refused.status, refused.body["code"].as_str()), (400, Some("rest_invalid_param")));
    }

    #[test]
    fn pages_say_how_many_there_are_and_hold_a_hundred_at_most() {
        let fake = fake(&[]);
        for at in 0..5 {
            fake.sandbox.place_order(at * 1000, "it", &new("pending"));
        }
        let second = fake.get(9000, &format!("{ORDERS}?per_page=2&page=2"));
        assert_eq!((second.header("x-wp-total"), second.header("x-wp-totalpages")), ("5", "3"));
        assert_eq!(second.body[0]["id"], 13, "newest first by default");
        assert!(second.header("link").contains("page=1>; rel=\"prev\"") && second.header("link").contains("page=3>"));
        assert_eq!(fake.get(9000, &format!("{ORDERS}?page=9")).body, json!([]));
        assert_eq!(fake.get(9000, &format!("{ORDERS}?per_page=101")).status, 400);
        assert_eq!(fake.get(9000, &format!("{ORDERS}?orderby=total")).status, 400);
        assert_eq!(Fake::new(Vendor::Woocommerce, &[]).get(0, ORDERS).status, 401);
    }

    #[test]
    fn a_status_sets_its_dates_and_the_trash_is_hidden() {
        let fake = fake(&[]);
        let id = fake.sandbox.place_order(1000, "it", &new("pending"));
        fake.sandbox.set_order(2000, "it", &id, "completed");
        let shown = fake.get(3000, &format!("{ORDERS}/{id}")).body;
        assert_eq!(shown["date_completed_gmt"], "1970-01-01T00:00:02");
        assert_eq!(shown["date_paid_gmt"], "1970-01-01T00:00:02");
        fake.sandbox.set_order(4000, "it", &id, "completed");
        assert_eq!(fake.sandbox.orders("it")[0].updated_at, 2000, "the same status again is no change");
        fake.sandbox.set_order(5000, "it", &id, "refunded");
        assert_eq!(fake.get(5000, &format!("{ORDERS}/{id}")).body["refunds"][0]["total"], "-39.80");
        assert_eq!(fake.call(6000, "DELETE", &format!("{ORDERS}/{id}"), &[], None).body["status"], "trash");
        assert_eq!(fake.get(7000, ORDERS).body, json!([]));
        assert_eq!(fake.get(7000, &format!("{ORDERS}?status=trash")).body[0]["id"], 11);
        assert_eq!(fake.get(7000, &format!("{ORDERS}/{id}")).body["status"], "trash");
    }

    #[test]
    fn a_draft_is_told_of_when_it_is_saved_and_listed_by_older_shops_only() {
        for (settings, listed) in [(&[][..], 0), (&[("lists_drafts", "true")][..], 1)] {
            let fake = fake(&[&[("webhook_topics", "order.created,order.updated")][..], settings].concat());
            let id = fake.sandbox.place_order(1000, "it", &new("checkout-draft"));
            let topics = || {
                let told = fake.sandbox.take_hooks();
                let topic = |told: &HookDelivery| told.header("x-wc-webhook-topic").unwrap_or_default().to_owned();
                told.iter().map(topic).collect::<Vec<_>>()
            };
            assert_eq!(topics(), ["order.updated"]);
            assert_eq!(fake.get(2000, ORDERS).body.as_array().map(Vec::len), Some(listed));
            assert_eq!(fake.get(2000, &format!("{ORDERS}?status=checkout-draft")).body[0]["id"], 11);
            fake.sandbox.set_order(9000, "it", &id, "pending");
            assert_eq!(topics(), ["order.created"]);
            let shown = fake.get(9000, ORDERS).body;
            assert_eq!(shown[0]["date_created_gmt"], "1970-01-01T00:00:01");
        }
    }

    #[test]
    fn a_write_of_the_same_leaves_the_date_alone_and_lines_without_ids_add_up() {
        let fake = fake(&[]);
        let id = fake.sandbox.place_order(1000, "it", &new("pending"));
        let path = format!("{ORDERS}/{id}");
        fake.put(2000, &path, &json!({ "status": "pending", "customer_note": "" }));
        assert_eq!(fake.sandbox.orders("it")[0].updated_at, 1000);
        fake.put(3000, &path, &json!({ "meta_data": [{ "key": "_ext_id", "value": "cw-1" }] }));
        fake.put(4000, &path, &json!({ "meta_data": [{ "key": "_ext_id", "value": "cw-2" }] }));
        let line = json!({ "line_items": [{ "name": "Widget", "quantity": 1, "total": "19.90" }] });
        fake.put(5000, &path, &line);
        let shown = fake.put(6000, &path, &line).body;
        assert_eq!(shown["meta_data"].as_array().unwrap().len(), 1);
        assert_eq!(shown["meta_data"][0]["value"], "cw-2");
        assert_eq!(shown["line_items"].as_array().unwrap().len(), 3);
        assert_eq!(shown["total"], "79.60");
    }

    #[test]
    fn a_new_webhook_is_greeted_and_a_signed_delivery_shows_the_state_of_its_own_time() {
        let fake = fake(&[]);
        let hook = |topic: &str| {
            let wanted =
                json!({ "topic": topic, "delivery_url": "https://counterpart.example.test/", "secret": "s3cr3t" });
            fake.post(1000, HOOKS, &wanted)
        };
        let created = hook("order.created");
        assert_eq!((created.status, created.body["status"].as_str()), (201, Some("active")));
        assert!(created.body.get("secret").is_none());
        hook("order.updated");
        let pings = fake.sandbox.take_hooks();
        assert_eq!(pings[0].body, b"webhook_id=1");
        assert_eq!(pings[0].header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(pings[0].header("x-wc-webhook-signature"), None);

        let id = fake.sandbox.place_order(2000, "it", &new("pending"));
        fake.sandbox.set_order(2100, "it", &id, "processing");
        fake.sandbox.set_order(2200, "it", &id, "completed");
        let told = fake.sandbox.take_hooks();
        let topics: Vec<_> = told.iter().filter_map(|delivery| delivery.header("x-wc-webhook-topic")).collect();
        assert_eq!(topics, ["order.created", "order.updated"], "what waits absorbs what follows");
        assert_eq!(told[0].body, told[1].body);
        assert_eq!(body(&told[0])["status"], "completed");
        for delivery in &told {
            let signature = to_base64(&hooks::sign("s3cr3t", &delivery.body));
            assert_eq!(delivery.header("x-wc-webhook-signature"), Some(signature.as_str()));
        }
        assert_eq!(fake.sandbox.take_hooks(), []);
    }

    #[test]
    fn the_signature_is_that_of_a_captured_delivery() {
        // `{"id":12}` with the secret `s3cr3t`, recorded from WooCommerce 11.0.1.
        let signature = to_base64(&hooks::sign("s3cr3t", b"{\"id\":12}"));
        assert_eq!(signature, "ChJEkNHQmCFNT5zGPM0ppg9koRIDiNfHNwV8vO4N64Q=");
    }

    #[test]
    fn the_delivery_id_of_a_burst_is_one_id() {
        let fake = fake(&[("webhook_secret", "s3cr3t"), ("webhook_topics", "order.created,order.deleted")]);
        for _ in 0..20 {
            fake.sandbox.place_order(2000, "it", &new("pending"));
        }
        let told = fake.sandbox.take_hooks();
        let ids: BTreeSet<_> = told.iter().map(|delivery| delivery.header("x-wc-webhook-delivery-id")).collect();
        assert_eq!((told.len(), ids.len()), (20, 1));
        fake.sandbox.set_order(4000, "it", "11", "trash");
        let gone = fake.sandbox.take_hooks();
        assert_eq!(body(&gone[0]), json!({ "id": 11 }));
        assert!(!ids.contains(&gone[0].header("x-wc-webhook-delivery-id")));
    }

    #[test]
    fn the_seventh_failure_disables_a_webhook_until_somebody_revives_it() {
        let fake = fake(&[("webhook_secret", "s3cr3t"), ("webhook_topics", "order.created")]);
        for failure in 0..7 {
            fake.sandbox.place_order(failure * 1000, "it", &new("pending"));
            let told = fake.sandbox.take_hooks();
            assert_eq!(told.len(), 1, "failure {failure}");
            fake.sandbox.hook_answered(&told[0], 500);
        }
        assert_eq!(fake.get(8000, &format!("{HOOKS}/1")).body["status"], "disabled");
        fake.sandbox.place_order(9000, "it", &new("pending"));
        assert_eq!(fake.sandbox.take_hooks(), []);
        fake.put(9500, &format!("{HOOKS}/1"), &json!({ "status": "active" }));
        assert_eq!(fake.sandbox.take_hooks(), [], "what was missed is gone");
        fake.sandbox.place_order(10_000, "it", &new("pending"));
        assert_eq!(fake.sandbox.take_hooks().len(), 1);
        assert_eq!(fake.call(11_000, "DELETE", &format!("{HOOKS}/1"), &[], None).status, 501);
        assert_eq!(fake.call(11_000, "DELETE", &format!("{HOOKS}/1?force=true"), &[], None).status, 200);
    }

    #[test]
    fn customers_are_told_of_too_and_own_writes_come_back() {
        let fake = fake(&[("webhook_topics", "customer.created,customer.updated")]);
        let made = fake.post(1000, "/wp-json/wc/v3/customers", &json!({ "email": "ana@example.test" }));
        assert_eq!(made.status, 201);
        let told = fake.sandbox.take_hooks();
        assert_eq!(body(&told[0])["email"], "ana@example.test");
        assert_eq!(told[0].header("x-wc-webhook-topic"), Some("customer.created"));
    }

    #[test]
    fn an_order_that_was_stored_before_the_cut_is_there() {
        let fake = fake(&[("webhook_topics", "order.created")]);
        fake.sandbox.set_faults(Faults::parse("cut_after=1").unwrap());
        assert_eq!(fake.post(1000, ORDERS, &json!({ "status": "pending" })).status, 0);
        assert_eq!((fake.sandbox.orders("it").len(), fake.sandbox.take_hooks().len()), (1, 1));
        assert!(fake.sandbox.log()[0].effect);
    }
}
