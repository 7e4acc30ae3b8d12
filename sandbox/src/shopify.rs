//! Shopify's GraphQL Admin API 2026-10: orders, customers, webhooks, and the bucket of query points.
//!
//! Operations are known by their names and variables, and only fields that a query names are answered. `points_bucket`
//! (2000) and `points_restore` (100 a second) are the plan's, `search_lag_ms` (3000) is how far search is behind.
//! `webhook_topics` and `webhook_secret` register webhooks from the beginning; to `denied_topics` the app may not subscribe.

use std::collections::BTreeSet;

use http::{Method, Response};
use serde_json::{Value, json};

use crate::answer::{self, base64, header, to_base64, with_header};
use crate::faults::Fate;
use crate::hooks::{Hook, HookDelivery, Pending, sign, uuid};
use crate::instance::{Instance, stored};
use crate::orders::{NewShipment, Parcel, Row, decimal};
use crate::people::Person;
use crate::{Millis, TOKEN, time};

const VERSION: &str = "2026-10";
/// What one query may cost, whatever the plan.
const MOST_POINTS: i64 = 1000;
/// Objects in an order beside its lines: itself, customer with address, bill, five sums of two objects each.
const ORDER: i64 = 14;
const LINE: i64 = 3;
const CUSTOMER: i64 = 3;

/// The points that are left, in thousandths, as of some time; full before the first call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    state: Option<(i64, Millis)>,
}

fn capacity(instance: &Instance) -> i64 {
    instance.number("points_bucket").unwrap_or(2000) as i64
}

fn restore(instance: &Instance) -> i64 {
    instance.number("points_restore").unwrap_or(100) as i64
}

/// Points that are there now, in thousandths: points a second are thousandths a millisecond.
fn available(instance: &Instance, now: Millis) -> i64 {
    let full = capacity(instance) * 1000;
    match instance.points.state {
        None => full,
        Some((left, at)) => (left + (now - at).max(0) * restore(instance)).min(full),
    }
}

fn status(instance: &Instance, asked: i64, actual: Option<i64>, left: i64) -> Value {
    json!({ "cost": {
        "requestedQueryCost": asked, "actualQueryCost": actual,
        "throttleStatus": {
            "maximumAvailable": capacity(instance) as f64, "currentlyAvailable": left / 1000,
            "restoreRate": restore(instance) as f64,
        },
    } })
}

/// What the vendor answers instead of data when the bucket does not hold enough: a 200.
pub(crate) fn throttled(instance: &Instance, asked: i64, left: i64) -> Response<Vec<u8>> {
    let code = json!({
        "code": "THROTTLED", "documentation": "https://shopify.dev/api/usage/rate-limits",
    });
    let extensions = status(instance, asked, None, left);
    answer::json(200, &json!({ "errors": [{ "message": "Throttled", "extensions": code }], "extensions": extensions }))
}

fn failed(code: &str, message: &str) -> Response<Vec<u8>> {
    answer::json(200, &json!({ "errors": [{ "message": message, "extensions": { "code": code } }] }))
}

/// Whether a request is a mutation: queries are posted too.
pub(crate) fn writes(request: &http::Request<Vec<u8>>) -> bool {
    answer::body(request)["query"].as_str().is_some_and(|query| query.trim_start().starts_with("mutation"))
}

fn gid(kind: &str, id: u64) -> String {
    format!("gid://shopify/{kind}/{id}")
}

/// The number in a global id of this kind.
fn number(kind: &str, value: &Value) -> Option<u64> {
    value.as_str()?.strip_prefix(&format!("gid://shopify/{kind}/"))?.parse().ok()
}

// ---- the API -------------------------------------------------------------------------------------------------------

pub(crate) fn answer(
    instance: &mut Instance,
    now: Millis,
    request: &http::Request<Vec<u8>>,
    path: &str,
    fate: &mut Fate,
) -> Response<Vec<u8>> {
    if header(request, "x-shopify-access-token") != Some(TOKEN) {
        fate.no_effect = true;
        let message = "[API] Invalid API key or access token (unrecognized login or wrong password)";
        return answer::json(401, &json!({ "errors": message }));
    }
    if request.method() != Method::POST || path != format!("admin/api/{VERSION}/graphql.json") {
        return answer::json(404, &json!({ "errors": "Not Found" }));
    }
    let body = answer::body(request);
    let Some(query) = body["query"].as_str() else {
        return answer::json(400, &json!({ "errors": { "query": "Required parameter missing or invalid" } }));
    };
    let response = with_header(run(instance, now, query, &body["variables"], fate), "x-shopify-api-version", VERSION);
    with_header(response, "x-request-id", &uuid(&format!("{} request {}", instance.spec.name, instance.calls)))
}

fn run(instance: &mut Instance, now: Millis, query: &str, variables: &Value, fate: &mut Fate) -> Response<Vec<u8>> {
    let operation = query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).nth(1);
    let operation = operation.unwrap_or_default();
    let first = variables["first"].as_i64().unwrap_or(0);
    let size = |name: &str| variables[name].as_i64().unwrap_or(0);
    let (items, parcels, contents) = (size("items"), size("parcels"), size("contents"));
    // The number of parcels is one object more. A parcel, its tracking number, and the list of what is in it, of two objects
    // each.
    let words: BTreeSet<&str> = query.split(|c: char| !c.is_alphanumeric()).collect();
    let order_cost =
        ORDER + i64::from(words.contains("fulfillmentsCount")) + 2 + items * LINE + parcels * (2 + 2 + contents * 2);
    let (each, asked) = match operation {
        "Shop" => (0, 1),
        "Orders" => (order_cost, 2 + first * order_cost),
        "Order" => (0, order_cost),
        "Customers" => (CUSTOMER, 2 + first * CUSTOMER),
        "Customer" | "CustomerBy" => (0, CUSTOMER),
        "CustomerCreate" | "CustomerUpdate" | "CustomerDelete" => (0, 10 + CUSTOMER),
        "WebhookSubscriptions" => (1, 2 + first),
        "WebhookSubscriptionCreate" | "WebhookSubscriptionDelete" => (0, 10),
        _ => return failed("undefinedField", &format!("this fake knows no operation `{operation}`")),
    };
    if [first, items, parcels, contents].into_iter().any(|size| size > 250) {
        fate.no_effect = true;
        return failed("BAD_REQUEST", "The maximum number of results is 250");
    }
    if asked > MOST_POINTS {
        let message = format!("Query cost is {asked}, which exceeds the single query max cost limit ({MOST_POINTS}).");
        return failed("MAX_COST_EXCEEDED", &message);
    }
    let left = available(instance, now);
    if left < asked * 1000 {
        fate.no_effect = true;
        return throttled(instance, asked, left);
    }
    let mut data = match operation {
        "Orders" | "Customers" => match list(instance, now, operation, variables) {
            Ok(data) => data,
            Err(message) => return failed("BAD_REQUEST", &message),
        },
        "Shop" => {
            let domain = format!("{}.myshopify.com", instance.spec.name);
            json!({ "shop": { "id": gid("Shop", 1), "name": instance.spec.name, "myshopifyDomain": domain } })
        }
        "Order" => {
            let row = number("Order", &variables["id"]).and_then(|id| instance.shop.rows.get(&id));
            json!({ "order": row.map(|row| order(instance, row, variables)) })
        }
        "Customer" => {
            let person = number("Customer", &variables["id"]).and_then(|id| instance.person(id));
            json!({ "customer": person.as_ref().map(customer) })
        }
        "CustomerBy" => {
            let key = &variables["key"];
            let email = key["emailAddress"].as_str().and_then(|email| instance.holder_of(email, None));
            let id = email.or_else(|| phone_holder(instance, key["phoneNumber"].as_str()?, None));
            json!({ "customerByIdentifier": id.and_then(|id| instance.person(id)).as_ref().map(customer) })
        }
        "CustomerDelete" => delete(instance, now, &variables["input"], fate),
        "WebhookSubscriptions" => subscriptions(instance, variables),
        "WebhookSubscriptionCreate" => match subscribe(instance, now, variables, fate) {
            Ok(data) => data,
            Err(message) => return failed("INVALID_VARIABLE", &message),
        },
        "WebhookSubscriptionDelete" => unsubscribe(instance, &variables["id"], fate),
        _ => save(instance, now, operation, &variables["input"], fate),
    };
    // The bucket gives back what was asked for and not used.
    let rows = ["/orders/nodes", "/customers/nodes", "/webhookSubscriptions/nodes"];
    let rows = rows.iter().find_map(|place| data.pointer(place));
    let actual = rows.and_then(Value::as_array).map_or(asked, |rows| 2 + rows.len() as i64 * each);
    let left = left - actual * 1000;
    instance.points = Bucket { state: Some((left, now)) };
    keep(&mut data, &words);
    answer::json(200, &json!({ "data": data, "extensions": status(instance, asked, Some(actual), left) }))
}

/// Takes out what the query does not name.
fn keep(value: &mut Value, words: &BTreeSet<&str>) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| words.contains(name.as_str()));
            members.values_mut().for_each(|member| keep(member, words));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| keep(item, words)),
        _ => {}
    }
}

/// One page by id or by the time of change. A cursor is the last row's place, so that rows which move lose nobody.
fn list(instance: &Instance, now: Millis, operation: &str, variables: &Value) -> Result<Value, String> {
    let orders = operation == "Orders";
    let mut rows: Vec<(Millis, u64)> = match orders {
        true => instance.shop.rows.values().map(|row| (row.updated_at, row.id)).collect(),
        false => {
            let made = (1..=instance.virtual_people()).map(|id| (0, id));
            let known = instance.people.iter().filter(|(_, person)| !person.deleted);
            made.chain(known.map(|(id, person)| (person.updated_at, *id))).collect()
        }
    };
    // Times have whole seconds.
    rows.iter_mut().for_each(|(at, _)| *at = at.div_euclid(1000) * 1000);
    if let Some(search) = variables["query"].as_str() {
        let since = search.strip_prefix("updated_at:>=").and_then(|at| time::parse(at.trim_matches('\'')));
        let Some(since) = since else { return Err("this fake searches by updated_at:>= only".to_owned()) };
        let lag = instance.number("search_lag_ms").unwrap_or(3000) as Millis;
        rows.retain(|(at, _)| *at >= since && *at <= now - lag);
    }
    let by_time = match variables["sort"].as_str().unwrap_or_default() {
        "UPDATED_AT" => true,
        "ID" => false,
        other => return Err(format!("there is no sortKey {other}")),
    };
    let place = |(at, id): &(Millis, u64)| (if by_time { *at } else { 0 }, *id);
    rows.sort_by_key(place);
    if let Some(after) = variables["after"].as_str() {
        let read = base64(after).and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let last = read.as_ref().and_then(|read| Some((read["last_value"].as_i64()?, read["last_id"].as_u64()?)));
        let Some(last) = last else { return Err("Invalid cursor for current pagination sort.".to_owned()) };
        rows.retain(|row| place(row) > last);
    }
    let size = variables["first"].as_u64().unwrap_or(0) as usize;
    let more = rows.len() > size;
    rows.truncate(size);
    let end = rows.last().map(|row| {
        let (at, id) = place(row);
        to_base64(json!({ "last_id": id, "last_value": at }).to_string().as_bytes())
    });
    let nodes: Vec<Value> = rows
        .iter()
        .filter_map(|(_, id)| match orders {
            true => Some(order(instance, &instance.shop.rows[id], variables)),
            false => instance.person(*id).as_ref().map(customer),
        })
        .collect();
    let page = json!({ "nodes": nodes, "pageInfo": { "hasNextPage": more, "endCursor": end } });
    Ok(if orders { json!({ "orders": page }) } else { json!({ "customers": page }) })
}

// ---- shapes --------------------------------------------------------------------------------------------------------

/// A decimal as GraphQL writes it: `25.0`, not `25.00`.
fn amount(hundredths: i128) -> String {
    let text = decimal(hundredths);
    text.strip_suffix('0').map_or(text.clone(), str::to_owned)
}

fn text(value: &str) -> Option<&str> {
    Some(value).filter(|value| !value.is_empty())
}

fn financial(row: &Row) -> &'static str {
    match row.refunded() {
        0 if row.paid_at.is_some() => "PAID",
        0 => "PENDING",
        part if part < row.total() => "PARTIALLY_REFUNDED",
        _ => "REFUNDED",
    }
}

fn fulfilled(row: &Row) -> &'static str {
    let kept = || row.parcels.iter().any(|parcel| parcel.cancelled_at.is_none());
    match row.completed_at.is_some() || row.is_fully_packed() {
        true => "FULFILLED",
        false if kept() => "PARTIALLY_FULFILLED",
        false => "UNFULFILLED",
    }
}

/// A fulfilment. What of it is not known is null, a parcel without a number has no tracking at all.
fn parcel(row: &Row, parcel: &Parcel, contents: usize) -> Value {
    let display = match (parcel.cancelled_at, parcel.delivered_at, &parcel.number) {
        (Some(_), _, _) => "CANCELED",
        (_, Some(_), _) => "DELIVERED",
        (_, _, Some(_)) => "FULFILLED",
        _ => "MARKED_AS_FULFILLED",
    };
    let tracking = |number| json!({ "company": parcel.carrier, "number": number, "url": parcel.url });
    let lines: Vec<Value> = parcel
        .items
        .iter()
        .take(contents)
        .filter_map(|(line, quantity)| {
            let item = row.items.get(*line)?;
            let shown = json!({ "id": gid("LineItem", item.id), "name": item.name, "sku": null });
            Some(json!({ "id": gid("FulfillmentLineItem", item.id), "quantity": quantity, "lineItem": shown }))
        })
        .collect();
    let more = parcel.items.len() > contents;
    json!({
        "id": gid("Fulfillment", parcel.id), "legacyResourceId": parcel.id.to_string(), "displayStatus": display,
        "status": if parcel.cancelled_at.is_some() { "CANCELLED" } else { "SUCCESS" },
        "createdAt": time::iso(parcel.created_at), "updatedAt": time::iso(parcel.updated_at),
        "deliveredAt": parcel.delivered_at.map(time::iso), "inTransitAt": null,
        "trackingInfo": parcel.number.iter().map(tracking).collect::<Vec<_>>(),
        "fulfillmentLineItems": { "nodes": lines, "pageInfo": { "hasNextPage": more, "endCursor": null } },
    })
}

fn order(instance: &Instance, row: &Row, variables: &Value) -> Value {
    let money = |sum: i128| json!({ "shopMoney": { "amount": amount(sum), "currencyCode": row.currency } });
    let billed = |name: &str| row.billing.get(name).and_then(Value::as_str).and_then(text);
    let most = variables["items"].as_u64().unwrap_or(0) as usize;
    let lines: Vec<Value> = row
        .items
        .iter()
        .take(most)
        .map(|item| {
            let each = item.total / i128::from(item.quantity.max(1));
            json!({
                "id": gid("LineItem", item.id), "name": item.name, "sku": null, "quantity": item.quantity,
                "originalUnitPriceSet": money(each), "originalTotalSet": money(item.total),
            })
        })
        .collect();
    let size = |name: &str| variables[name].as_u64().unwrap_or(0) as usize;
    let parcels: Vec<Value> =
        row.parcels.iter().take(size("parcels")).map(|one| parcel(row, one, size("contents"))).collect();
    json!({
        "id": gid("Order", row.id), "legacyResourceId": row.id.to_string(), "name": instance.shop.name(row.id),
        "email": billed("email"), "phone": billed("phone"), "note": text(&row.note), "customerLocale": "en",
        "createdAt": time::iso(row.created_at), "updatedAt": time::iso(row.updated_at),
        "cancelledAt": row.cancelled_at.map(time::iso), "closedAt": null, "currencyCode": row.currency,
        "statusPageUrl": format!("https://{}.myshopify.com/orders/{}", instance.spec.name, row.id),
        "displayFinancialStatus": financial(row),
        "displayFulfillmentStatus": fulfilled(row), "fulfillments": parcels,
        "fulfillmentsCount": { "count": row.parcels.len(), "precision": "EXACT" },
        "customer": instance.person(row.customer).as_ref().map(customer),
        "billingAddress": {
            "firstName": billed("first_name"), "lastName": billed("last_name"), "phone": billed("phone"),
            "countryCodeV2": billed("country"),
        },
        "totalPriceSet": money(row.total()), "subtotalPriceSet": money(row.total()),
        "totalShippingPriceSet": money(0), "totalTaxSet": money(0), "totalRefundedSet": money(row.refunded()),
        "lineItems": { "nodes": lines, "pageInfo": { "hasNextPage": row.items.len() > most, "endCursor": null } },
    })
}

fn customer(person: &Person) -> Value {
    let id = person.id.parse().unwrap_or(0);
    json!({
        "id": gid("Customer", id), "legacyResourceId": person.id, "firstName": text(&person.given),
        "lastName": text(&person.family), "locale": "en", "note": person.more.get("note"),
        "defaultEmailAddress": person.email.as_ref().map(|email| json!({ "emailAddress": email })),
        "defaultPhoneNumber": person.phone.as_ref().map(|phone| json!({ "phoneNumber": phone })),
        "createdAt": time::iso(person.created_at), "updatedAt": time::iso(person.updated_at),
    })
}

// ---- writing -------------------------------------------------------------------------------------------------------

fn phone_holder(instance: &Instance, phone: &str, except: Option<u64>) -> Option<u64> {
    let mut people = instance.people.iter().filter(|(id, person)| Some(**id) != except && !person.deleted);
    people.find(|(_, person)| person.phone.as_deref() == Some(phone)).map(|(id, _)| *id)
}

/// Creates or updates; refusals are `userErrors` of a success.
fn save(instance: &mut Instance, now: Millis, operation: &str, input: &Value, fate: &mut Fate) -> Value {
    let root = if operation == "CustomerCreate" { "customerCreate" } else { "customerUpdate" };
    let id = number("Customer", &input["id"]);
    let refusal = refused(instance, operation, id, input);
    if let Some((field, message)) = refusal {
        fate.no_effect = true;
        let errors = json!([{ "field": field.map(|field| [field]), "message": message }]);
        return json!({ root: { "customer": null, "userErrors": errors } });
    }
    let members = input.as_object().into_iter().flatten();
    let changes = members.filter(|(name, _)| *name != "id").map(|(name, value)| {
        let field = match name.as_str() {
            "firstName" => "given".to_owned(),
            "lastName" => "family".to_owned(),
            "email" | "phone" => name.clone(),
            other => format!("more.{other}"),
        };
        let value = stored(value).filter(|value| !value.is_empty());
        let value = if name == "email" { value.map(|email| email.to_lowercase()) } else { value };
        (field, value)
    });
    let changes = changes.collect();
    let person = instance.store(now, id, changes, fate);
    json!({ root: { "customer": customer(&person), "userErrors": [] } })
}

/// Why a write is refused, and the field it is about.
fn refused(
    instance: &Instance,
    operation: &str,
    id: Option<u64>,
    input: &Value,
) -> Option<(Option<&'static str>, &'static str)> {
    if operation == "CustomerUpdate" && id.and_then(|id| instance.person(id)).is_none() {
        return Some((Some("id"), "Customer does not exist"));
    }
    let given = |name: &str| input[name].as_str().filter(|value| !value.is_empty());
    let named = ["email", "phone", "firstName", "lastName"].into_iter().any(|name| given(name).is_some());
    if operation == "CustomerCreate" && !named {
        return Some((None, "Customer must have a name, phone number or email address"));
    }
    match given("email") {
        Some(email) if !email.contains('@') => return Some((Some("email"), "Email is invalid")),
        Some(email) if instance.holder_of(email, id).is_some() => {
            return Some((Some("email"), "Email has already been taken"));
        }
        _ => {}
    }
    match given("phone") {
        Some(phone) if !phone.starts_with('+') => Some((Some("phone"), "Phone is invalid")),
        Some(phone) if phone_holder(instance, phone, id).is_some() => {
            Some((Some("phone"), "Phone has already been taken"))
        }
        _ => None,
    }
}

fn delete(instance: &mut Instance, now: Millis, input: &Value, fate: &mut Fate) -> Value {
    let id = number("Customer", &input["id"]).filter(|id| instance.people.contains_key(id));
    let refuse = |message: &str| {
        json!({ "customerDelete": {
            "deletedCustomerId": null, "userErrors": [{ "field": ["id"], "message": message }],
        } })
    };
    match id {
        None => {
            fate.no_effect = true;
            refuse("Customer can't be found")
        }
        Some(id) if instance.shop.rows.values().any(|row| row.customer == id) => {
            fate.no_effect = true;
            refuse("Customer can't be deleted because they have associated orders")
        }
        Some(id) => {
            instance.delete(now, &id.to_string());
            json!({ "customerDelete": { "deletedCustomerId": gid("Customer", id), "userErrors": [] } })
        }
    }
}

// ---- webhook subscriptions of the app ------------------------------------------------------------------------------

/// Topics as GraphQL names them, and as deliveries do.
const TOPICS: [(&str, &str); 16] = [
    ("APP_UNINSTALLED", "app/uninstalled"),
    ("ORDERS_CREATE", "orders/create"),
    ("ORDERS_UPDATED", "orders/updated"),
    ("ORDERS_EDITED", "orders/edited"),
    ("ORDERS_PAID", "orders/paid"),
    ("ORDERS_CANCELLED", "orders/cancelled"),
    ("ORDERS_FULFILLED", "orders/fulfilled"),
    ("ORDERS_PARTIALLY_FULFILLED", "orders/partially_fulfilled"),
    ("ORDERS_DELETE", "orders/delete"),
    ("FULFILLMENTS_CREATE", "fulfillments/create"),
    ("FULFILLMENTS_UPDATE", "fulfillments/update"),
    ("FULFILLMENT_EVENTS_CREATE", "fulfillment_events/create"),
    ("REFUNDS_CREATE", "refunds/create"),
    ("CUSTOMERS_CREATE", "customers/create"),
    ("CUSTOMERS_UPDATE", "customers/update"),
    ("CUSTOMERS_DELETE", "customers/delete"),
];
/// The first try and the eight retries; then the subscription is removed.
const DELIVERY_TRIES: u64 = 9;

fn subscription(hook: &Hook) -> Value {
    let topic = TOPICS.iter().find(|(_, topic)| hook.topics.iter().any(|own| own == topic)).map(|(word, _)| *word);
    json!({
        "id": gid("WebhookSubscription", hook.id), "legacyResourceId": hook.id.to_string(), "topic": topic,
        "uri": hook.url, "format": "JSON", "includeFields": [], "createdAt": time::iso(hook.created_at),
        "updatedAt": time::iso(hook.updated_at),
    })
}

fn subscriptions(instance: &Instance, variables: &Value) -> Value {
    let after = variables["after"].as_str().and_then(base64).and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
    let size = variables["first"].as_u64().unwrap_or(0) as usize;
    let rows: Vec<&Hook> = instance.hooks.registered.values().filter(|hook| hook.id > after).collect();
    let end = rows.iter().take(size).next_back().map(|hook| to_base64(hook.id.to_string().as_bytes()));
    let nodes: Vec<Value> = rows.iter().take(size).map(|hook| subscription(hook)).collect();
    let page = json!({ "nodes": nodes, "pageInfo": { "hasNextPage": rows.len() > size, "endCursor": end } });
    json!({ "webhookSubscriptions": page })
}

/// An app has one subscription for each address and topic. A topic that does not exist is no topic of the schema.
fn subscribe(instance: &mut Instance, now: Millis, variables: &Value, fate: &mut Fate) -> Result<Value, String> {
    let word = variables["topic"].as_str().unwrap_or_default();
    let Some((_, topic)) = TOPICS.iter().find(|(known, _)| *known == word) else {
        fate.no_effect = true;
        return Err("Variable $topic of type WebhookSubscriptionTopic! was provided invalid value".to_owned());
    };
    let url = variables["webhookSubscription"]["uri"].as_str().unwrap_or_default();
    let same = |hook: &Hook| hook.url == url && hook.topics.iter().any(|own| own == topic);
    let denied = instance.setting("denied_topics").is_some_and(|denied| denied.split(',').any(|other| other == *topic));
    let refusal = if denied {
        Some("You cannot create a webhook subscription with the specified topic")
    } else if !url.starts_with("https://") {
        Some("Address protocol http:// is not supported")
    } else if instance.hooks.registered.values().any(same) {
        Some("Address for this topic has already been taken")
    } else {
        None
    };
    if let Some(message) = refusal {
        fate.no_effect = true;
        let errors = json!([{ "field": ["webhookSubscription", "uri"], "message": message }]);
        return Ok(json!({ "webhookSubscriptionCreate": { "webhookSubscription": null, "userErrors": errors } }));
    }
    // Deliveries are signed with the app's own secret.
    let secret = instance.setting("webhook_secret").unwrap_or_default().to_owned();
    let id = instance.hooks.register(now, topic, url, vec![(*topic).to_owned()], &secret);
    let made = subscription(&instance.hooks.registered[&id]);
    Ok(json!({ "webhookSubscriptionCreate": { "webhookSubscription": made, "userErrors": [] } }))
}

fn unsubscribe(instance: &mut Instance, id: &Value, fate: &mut Fate) -> Value {
    let removed = number("WebhookSubscription", id).and_then(|id| instance.hooks.registered.remove(&id));
    let (deleted, errors) = match removed {
        Some(hook) => (json!(gid("WebhookSubscription", hook.id)), json!([])),
        None => {
            fate.no_effect = true;
            (Value::Null, json!([{ "field": ["id"], "message": "Webhook subscription does not exist" }]))
        }
    };
    json!({ "webhookSubscriptionDelete": { "deletedWebhookSubscriptionId": deleted, "userErrors": errors } })
}

/// A subscription whose deliveries fail again and again is removed without a word.
pub(crate) fn answered(instance: &mut Instance, delivery: &HookDelivery, status: u16) {
    let topic = delivery.header("x-shopify-topic").unwrap_or_default();
    let told = |hook: &&mut Hook| hook.url == delivery.url && hook.topics.iter().any(|own| own == topic);
    let Some(hook) = instance.hooks.registered.values_mut().find(told) else { return };
    hook.failures = if (200..300).contains(&status) { 0 } else { hook.failures + 1 };
    if hook.failures >= DELIVERY_TRIES {
        let id = hook.id;
        instance.hooks.registered.remove(&id);
    }
}

// ---- what happens, and who is told ---------------------------------------------------------------------------------

/// A customer has placed an order.
pub(crate) fn placed(instance: &mut Instance, id: u64) {
    happened(instance, "orders/create", id);
    told_of_state(instance, id);
}

/// Somebody of the shop sets a status, in the words of all shops here.
pub(crate) fn set_status(instance: &mut Instance, now: Millis, id: u64, status: &str) {
    if instance.shop.set_status(now, id, status) {
        told_of_state(instance, id);
    }
}

fn told_of_state(instance: &mut Instance, id: u64) {
    let topic = match instance.shop.rows.get(&id).map(|row| row.status.as_str()) {
        Some("processing") => Some("orders/paid"),
        Some("completed") => Some("orders/fulfilled"),
        Some("cancelled") => Some("orders/cancelled"),
        _ => None,
    };
    if let Some(topic) = topic {
        happened(instance, topic, id);
    }
    happened(instance, "orders/updated", id);
}

/// A part of the money goes back.
pub(crate) fn refund(instance: &mut Instance, now: Millis, id: &str, amount: &str) {
    let Some(row) = id.parse().ok().and_then(|id| instance.shop.refund(id, amount)) else { return };
    row.updated_at = now;
    let id = row.id;
    let body = json!({ "id": 1, "order_id": id, "created_at": local(now) });
    told(instance, "refunds/create", id, &body);
    happened(instance, "orders/updated", id);
}

/// A parcel leaves: the order changes with it.
pub(crate) fn ship(instance: &mut Instance, now: Millis, id: &str, new: &NewShipment) -> Option<String> {
    let id = id.parse().ok()?;
    let made = instance.shop.ship(now, id, new)?;
    let row = instance.shop.rows.get_mut(&id)?;
    row.updated_at = now;
    let topic = if row.is_fully_packed() { "orders/fulfilled" } else { "orders/partially_fulfilled" };
    parcel_happened(instance, "fulfillments/create", id, made);
    happened(instance, topic, id);
    happened(instance, "orders/updated", id);
    Some(made.to_string())
}

/// A parcel changes. Whether its order's time of change moves with it is not documented, so it does not, unless the
/// parcel is called off: then there is something left to send.
pub(crate) fn set_shipment(instance: &mut Instance, now: Millis, order: &str, parcel: &str, state: &str) {
    let (Ok(order), Ok(parcel)) = (order.parse::<u64>(), parcel.parse::<u64>()) else { return };
    if !instance.shop.set_shipment(now, order, parcel, state) {
        return;
    }
    parcel_happened(instance, "fulfillments/update", order, parcel);
    if state == "cancelled" {
        if let Some(row) = instance.shop.rows.get_mut(&order) {
            row.updated_at = now;
        }
        happened(instance, "orders/updated", order);
    }
}

/// Something happened to a customer: `created`, `updated` or `deleted`.
pub(crate) fn person_changed(instance: &mut Instance, id: u64, event: &str) {
    happened(instance, &format!("customers/{}", event.trim_end_matches('d')), id);
}

/// The body is that of the moment, also when it is delivered late or again.
fn happened(instance: &mut Instance, topic: &str, id: u64) {
    let shown = match (topic.split_once('/'), instance.shop.rows.get(&id)) {
        (Some(("orders", _)), Some(row)) => rest_order(instance, row),
        (Some(("customers", "delete")), _) => json!({ "id": id, "admin_graphql_api_id": gid("Customer", id) }),
        (Some(("customers", _)), _) => match instance.person(id) {
            Some(person) => rest_customer(&person),
            None => return,
        },
        _ => return,
    };
    told(instance, topic, id, &shown);
}

/// The REST shape of a fulfilment, which names its order.
fn parcel_happened(instance: &mut Instance, topic: &str, order: u64, id: u64) {
    let Some(row) = instance.shop.rows.get(&order) else { return };
    let Some(parcel) = row.parcels.iter().find(|parcel| parcel.id == id) else { return };
    let numbers: Vec<&String> = parcel.number.iter().collect();
    let shown = json!({
        "id": id, "order_id": order, "status": if parcel.cancelled_at.is_some() { "cancelled" } else { "success" },
        "created_at": local(parcel.created_at), "updated_at": local(parcel.updated_at), "service": "manual",
        "shipment_status": parcel.delivered_at.map(|_| "delivered"), "tracking_company": parcel.carrier,
        "tracking_number": parcel.number, "tracking_numbers": numbers, "tracking_url": parcel.url,
        "name": format!("{}.1", instance.shop.name(order)), "admin_graphql_api_id": gid("Fulfillment", id),
    });
    told(instance, topic, order, &shown);
}

fn told(instance: &mut Instance, topic: &str, id: u64, shown: &Value) {
    let event = uuid(&format!("{} event {}", instance.spec.name, instance.hooks.serial()));
    instance.hooks.happened(topic, id, &json!({ "body": shown.to_string(), "event": event }), false);
}

/// A time with the shop's own offset.
fn local(at: Millis) -> String {
    format!("{}-05:00", time::naive(at - 5 * 3_600_000))
}

/// The REST shape, which webhooks still have.
fn rest_order(instance: &Instance, row: &Row) -> Value {
    let billed = |name: &str| row.billing.get(name).and_then(Value::as_str).and_then(text);
    let lines: Vec<Value> = row
        .items
        .iter()
        .map(|item| {
            let price = decimal(item.total / i128::from(item.quantity.max(1)));
            json!({ "id": item.id, "name": item.name, "quantity": item.quantity, "price": price, "sku": null })
        })
        .collect();
    let name = instance.shop.name(row.id);
    json!({
        "id": row.id, "admin_graphql_api_id": gid("Order", row.id), "name": name,
        "order_number": name.trim_start_matches('#').parse::<u64>().ok(), "email": billed("email"),
        "phone": billed("phone"), "created_at": local(row.created_at), "updated_at": local(row.updated_at),
        "cancelled_at": row.cancelled_at.map(local), "closed_at": null, "currency": row.currency,
        "financial_status": financial(row).to_lowercase(),
        "fulfillment_status": match fulfilled(row) {
            "FULFILLED" => json!("fulfilled"),
            "PARTIALLY_FULFILLED" => json!("partial"),
            _ => Value::Null,
        },
        "total_price": decimal(row.total()), "subtotal_price": decimal(row.total()), "total_tax": "0.00",
        "customer": instance.person(row.customer).as_ref().map(rest_customer),
        "billing_address": {
            "first_name": billed("first_name"), "last_name": billed("last_name"), "phone": billed("phone"),
            "country_code": billed("country"),
        },
        "line_items": lines, "test": false, "source_name": "web",
    })
}

fn rest_customer(person: &Person) -> Value {
    let id = person.id.parse().unwrap_or(0);
    json!({
        "id": id, "admin_graphql_api_id": gid("Customer", id), "email": person.email, "phone": person.phone,
        "first_name": text(&person.given), "last_name": text(&person.family), "created_at": local(person.created_at),
        "updated_at": local(person.updated_at), "note": null, "verified_email": true,
    })
}

pub(crate) fn first_hooks(instance: &mut Instance, topics: Vec<String>, secret: &str) {
    let usual = || vec!["orders/create".to_owned(), "orders/updated".to_owned()];
    for topic in if topics.is_empty() { usual() } else { topics } {
        // One subscription has one topic.
        instance.hooks.register(0, &topic, "http://localhost/", vec![topic.clone()], secret);
    }
}

pub(crate) fn deliver(instance: &mut Instance, now: Millis, pending: &Pending) -> Option<HookDelivery> {
    let serial = instance.hooks.serial();
    let hook = instance.hooks.registered.get(&pending.hook)?;
    let name = &instance.spec.name;
    let body = pending.detail["body"].as_str()?.as_bytes().to_vec();
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("X-Shopify-Topic", pending.topic.clone()),
        ("X-Shopify-Hmac-Sha256", to_base64(&sign(&hook.secret, &body))),
        ("X-Shopify-Shop-Domain", format!("{name}.myshopify.com")),
        ("X-Shopify-API-Version", VERSION.to_owned()),
        ("X-Shopify-Webhook-Id", uuid(&format!("{name} webhook {serial}"))),
        ("X-Shopify-Event-Id", pending.detail["event"].as_str()?.to_owned()),
        ("X-Shopify-Triggered-At", time::iso_millis(now)),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let url = hook.url.clone();
    Some(HookDelivery { instance: name.clone(), url, headers, body, path_secret: None, at: now })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::answer::to_base64;
    use crate::hooks::sign;
    use crate::testing::{Fake, Seen};
    use crate::{Faults, NewOrder, NewShipment, TOKEN, Vendor};

    const PATH: &str = "/admin/api/2026-10/graphql.json";

    fn fake(settings: &[(&str, &str)]) -> Fake {
        Fake::new(Vendor::Shopify, settings).header("x-shopify-access-token", TOKEN)
    }

    fn ask(fake: &Fake, now: i64, query: &str, variables: Value) -> Seen {
        fake.post(now, PATH, &json!({ "query": query, "variables": variables }))
    }

    fn orders(fake: &Fake, now: i64, variables: Value) -> Seen {
        let fields = "orders nodes id name updatedAt totalPriceSet shopMoney amount lineItems quantity";
        ask(fake, now, &format!("query Orders {fields} pageInfo hasNextPage endCursor"), variables)
    }

    fn new(status: &str) -> NewOrder {
        NewOrder {
            email: Some("ana@example.test".to_owned()),
            given: "Ana".to_owned(),
            status: status.to_owned(),
            currency: "EUR".to_owned(),
            items: vec![("Cup".to_owned(), 2, "12.50".to_owned())],
            ..NewOrder::default()
        }
    }

    #[test]
    fn an_order_has_a_global_id_a_name_and_money_as_text_and_only_what_was_asked_for() {
        let fake = fake(&[]);
        let id = fake.sandbox.place_order(1000, "it", &new("processing"));
        assert_eq!(id, "450789469");
        let seen = orders(&fake, 9000, json!({ "first": 5, "items": 5, "sort": "ID" }));
        let order = &seen.body["data"]["orders"]["nodes"][0];
        assert_eq!(order["id"], "gid://shopify/Order/450789469");
        assert_eq!(
            (order["name"].as_str(), order["updatedAt"].as_str()),
            (Some("#1001"), Some("1970-01-01T00:00:01Z"))
        );
        assert_eq!(order["totalPriceSet"]["shopMoney"], json!({ "amount": "25.0" }));
        assert_eq!(order.get("email"), None, "the query does not name it");
        assert_eq!(seen.header("x-shopify-api-version"), "2026-10");
        assert_eq!(fake.sandbox.orders("it")[0].number, "1001");
        let missing = json!({ "id": "gid://shopify/Order/9", "items": 1 });
        assert_eq!(ask(&fake, 9000, "query Order order id", missing).body["data"], json!({ "order": null }));
        let wrong = Fake::new(Vendor::Shopify, &[]).header("x-shopify-access-token", "no");
        assert_eq!(ask(&wrong, 0, "query Shop shop name", json!({})).status, 401);
        assert_eq!(fake.get(0, "/admin/api/2019-04/graphql.json").status, 404);
    }

    #[test]
    fn pages_by_time_lose_nobody_while_rows_move_and_search_lags() {
        let fake = fake(&[]);
        for at in [10_000, 11_000, 12_000] {
            fake.sandbox.place_order(at, "it", &new("pending"));
        }
        let asked = |after: Option<&str>| {
            let since = "updated_at:>='1970-01-01T00:00:11Z'";
            json!({ "first": 1, "items": 1, "sort": "UPDATED_AT", "query": since, "after": after })
        };
        let name =
            |seen: &Seen| seen.body["data"]["orders"]["nodes"][0]["name"].as_str().unwrap_or_default().to_owned();
        let first = orders(&fake, 15_000, asked(None));
        assert_eq!(name(&first), "#1002");
        let cursor = first.body["data"]["orders"]["pageInfo"]["endCursor"].as_str().unwrap().to_owned();
        fake.sandbox.set_order(16_000, "it", "450789470", "processing");
        let second = orders(&fake, 16_500, asked(Some(&cursor)));
        assert_eq!(name(&second), "#1003");
        assert_eq!(
            second.body["data"]["orders"]["pageInfo"]["hasNextPage"], false,
            "search does not show the change yet"
        );
        let cursor = second.body["data"]["orders"]["pageInfo"]["endCursor"].as_str().unwrap().to_owned();
        assert_eq!(name(&orders(&fake, 20_000, asked(Some(&cursor)))), "#1002");
        let junk = orders(&fake, 20_000, asked(Some("junk")));
        assert_eq!((junk.status, junk.body["data"].is_null()), (200, true));
    }

    #[test]
    fn an_empty_bucket_is_a_success_with_an_error_in_it() {
        let fake = fake(&[("points_bucket", "100"), ("points_restore", "10")]);
        fake.sandbox.place_order(0, "it", &new("pending"));
        let page = json!({ "first": 4, "items": 1, "sort": "ID" });
        let first = orders(&fake, 10_000, page.clone());
        let cost = &first.body["extensions"]["cost"];
        assert_eq!((cost["requestedQueryCost"].as_i64(), cost["actualQueryCost"].as_i64()), (Some(78), Some(21)));
        assert_eq!(cost["throttleStatus"]["currentlyAvailable"], 79);
        orders(&fake, 10_000, page.clone());
        let refused = orders(&fake, 10_000, page.clone());
        assert_eq!((refused.status, refused.body["data"].is_null()), (200, true));
        assert_eq!(refused.body["errors"][0]["extensions"]["code"], "THROTTLED");
        let status = &refused.body["extensions"]["cost"]["throttleStatus"];
        assert_eq!((status["currentlyAvailable"].as_i64(), status["restoreRate"].as_f64()), (Some(58), Some(10.0)));
        assert!(orders(&fake, 12_000, page).body["errors"].is_null(), "two seconds restore what was missing");
        let large = orders(&fake, 99_000, json!({ "first": 100, "items": 10, "sort": "ID" }));
        assert_eq!(large.body["errors"][0]["extensions"]["code"], "MAX_COST_EXCEEDED");
    }

    #[test]
    fn a_parcel_is_part_of_its_order_and_tells_of_it() {
        let topics =
            "fulfillments/create,fulfillments/update,orders/fulfilled,orders/partially_fulfilled,refunds/create";
        let fake = fake(&[("webhook_secret", "s3cret"), ("webhook_topics", topics)]);
        let items = ["Cup", "Pot"].map(|name| (name.to_owned(), 2, "12.50".to_owned()));
        let id = fake.sandbox.place_order(1000, "it", &NewOrder { items: items.to_vec(), ..new("processing") });
        let sent = |at, line, number: &str| {
            let number = Some(number.to_owned());
            let carrier = Some("DHL".to_owned());
            let new = NewShipment { number, carrier, items: vec![(line, 2)], ..NewShipment::default() };
            fake.sandbox.ship_order(at, "it", &id, &new)
        };
        let shown = || {
            let words = "order updatedAt displayFulfillmentStatus displayFinancialStatus fulfillments legacyResourceId \
                         status displayStatus deliveredAt trackingInfo company number fulfillmentLineItems nodes \
                         quantity lineItem name pageInfo hasNextPage";
            let id = format!("gid://shopify/Order/{id}");
            let asked = json!({ "id": id, "items": 1, "parcels": 2, "contents": 1 });
            let seen = ask(&fake, 9000, &format!("query Order {words}"), asked);
            assert_eq!(seen.body["extensions"]["cost"]["requestedQueryCost"], 14 + 2 + 3 + 2 * 6);
            seen.body["data"]["order"].clone()
        };
        let first = sent(2000, 0, "A1");
        assert_eq!(shown()["displayFulfillmentStatus"], "PARTIALLY_FULFILLED");
        sent(3000, 1, "A2");
        let order = shown();
        assert_eq!(
            (&order["displayFulfillmentStatus"], &order["updatedAt"]),
            (&json!("FULFILLED"), &json!("1970-01-01T00:00:03Z"))
        );
        let parcels = &order["fulfillments"];
        assert_eq!(
            (&parcels[0]["legacyResourceId"], &parcels[0]["displayStatus"]),
            (&json!(first), &json!("FULFILLED"))
        );
        assert_eq!(parcels[1]["trackingInfo"], json!([{ "company": "DHL", "number": "A2" }]));
        assert_eq!(
            parcels[1]["fulfillmentLineItems"]["nodes"],
            json!([{ "quantity": 2, "lineItem": { "name": "Pot" } }])
        );
        fake.sandbox.set_shipment(4000, "it", &id, &first, "delivered");
        assert_eq!(shown()["fulfillments"][0]["deliveredAt"], "1970-01-01T00:00:04Z");
        assert_eq!(shown()["updatedAt"], "1970-01-01T00:00:03Z", "the order is not touched");
        fake.sandbox.set_shipment(5000, "it", &id, &first, "cancelled");
        assert_eq!(
            (&shown()["fulfillments"][0]["status"], &shown()["displayFulfillmentStatus"]),
            (&json!("CANCELLED"), &json!("PARTIALLY_FULFILLED"))
        );
        fake.sandbox.refund_order(6000, "it", &id, "5.00");
        assert_eq!(shown()["displayFinancialStatus"], "PARTIALLY_REFUNDED");
        let told = fake.sandbox.take_hooks();
        let topics: Vec<_> = told.iter().filter_map(|delivery| delivery.header("x-shopify-topic")).collect();
        let expected = [
            "fulfillments/create",
            "orders/partially_fulfilled",
            "fulfillments/create",
            "orders/fulfilled",
            "fulfillments/update",
            "fulfillments/update",
            "refunds/create",
        ];
        assert_eq!(topics, expected);
        let body: Value = serde_json::from_slice(&told[0].body).unwrap();
        assert_eq!((body["order_id"].to_string(), body["tracking_number"].as_str()), (id, Some("A1")));
    }

    #[test]
    fn refusals_of_a_mutation_are_user_errors_and_change_nothing() {
        let fake = fake(&[]);
        let create = |input: Value| {
            let query = "mutation CustomerCreate customerCreate customer id legacyResourceId userErrors field message";
            ask(&fake, 1000, query, json!({ "input": input })).body["data"]["customerCreate"].clone()
        };
        let made = create(json!({ "email": "Ana@Example.test", "firstName": "Ana", "phone": "+4640123456" }));
        assert_eq!(made["userErrors"], json!([]));
        assert_eq!(fake.sandbox.people("it")[0].email.as_deref(), Some("ana@example.test"));
        fake.sandbox.clear_log();
        for (input, field) in [
            (json!({ "email": "ANA@example.test" }), json!(["email"])),
            (json!({ "email": "bob@example.test", "phone": "+4640123456" }), json!(["phone"])),
            (json!({ "email": "bob@example.test", "phone": "040-1" }), json!(["phone"])),
            (json!({}), Value::Null),
        ] {
            let refused = create(input);
            assert_eq!((refused["customer"].is_null(), &refused["userErrors"][0]["field"]), (true, &field));
        }
        assert!(fake.sandbox.log().iter().all(|call| !call.effect));
        fake.sandbox.set_faults(Faults::parse("429=1").unwrap());
        let limited = ask(&fake, 2000, "query Shop shop name", json!({}));
        assert_eq!((limited.status, &limited.body["errors"][0]["extensions"]["code"]), (200, &json!("THROTTLED")));
    }

    #[test]
    fn a_delivery_is_signed_over_its_body_and_shows_the_state_of_its_event() {
        let topics = "orders/create,orders/updated,orders/paid,orders/cancelled,orders/fulfilled";
        let fake = fake(&[("webhook_secret", "s3cret"), ("webhook_topics", topics)]);
        let id = fake.sandbox.place_order(1_790_000_000_000, "it", &new("pending"));
        fake.sandbox.set_order(1_790_000_060_000, "it", &id, "processing");
        fake.sandbox.set_order(1_790_000_120_000, "it", &id, "completed");
        let told = fake.sandbox.take_hooks();
        let topics: Vec<_> = told.iter().filter_map(|delivery| delivery.header("x-shopify-topic")).collect();
        let expected =
            ["orders/create", "orders/updated", "orders/paid", "orders/updated", "orders/fulfilled", "orders/updated"];
        assert_eq!(topics, expected);
        let body: Value = serde_json::from_slice(&told[0].body).unwrap();
        assert_eq!((body["id"].as_u64(), body["financial_status"].as_str()), (Some(450_789_469), Some("pending")));
        assert_eq!(body["admin_graphql_api_id"], "gid://shopify/Order/450789469");
        assert_eq!((body["total_price"].as_str(), body["customer"].is_null()), (Some("25.00"), true));
        assert_eq!(body["updated_at"], "2026-09-21T09:13:20-05:00");
        for delivery in &told {
            let signature = to_base64(&sign("s3cret", &delivery.body));
            assert_eq!(delivery.header("x-shopify-hmac-sha256"), Some(signature.as_str()));
        }
        assert_ne!(told[0].header("x-shopify-webhook-id"), told[1].header("x-shopify-webhook-id"));
        fake.sandbox.set_order(1_790_000_180_000, "it", &id, "cancelled");
        let told = fake.sandbox.take_hooks();
        let body: Value = serde_json::from_slice(&told[0].body).unwrap();
        assert_eq!(body["cancelled_at"], "2026-09-21T09:16:20-05:00");
    }

    #[test]
    fn a_subscription_is_made_once_and_removed_after_nine_failures() {
        let fake = fake(&[("webhook_secret", "s3cret"), ("webhook_topics", "app/uninstalled")]);
        let fields = "webhookSubscription legacyResourceId topic uri userErrors field message";
        let subscribe = |topic: &str, uri: &str| {
            let query = format!("mutation WebhookSubscriptionCreate webhookSubscriptionCreate {fields}");
            ask(&fake, 1000, &query, json!({ "topic": topic, "webhookSubscription": { "uri": uri } })).body
        };
        let listed = || {
            let query = format!("query WebhookSubscriptions webhookSubscriptions nodes {fields} pageInfo hasNextPage");
            ask(&fake, 2000, &query, json!({ "first": 50 })).body["data"]["webhookSubscriptions"]["nodes"].clone()
        };
        let made = subscribe("ORDERS_CREATE", "https://here.example.test/hooks/shop");
        let made = &made["data"]["webhookSubscriptionCreate"];
        assert_eq!(
            (made["userErrors"].clone(), &made["webhookSubscription"]["legacyResourceId"]),
            (json!([]), &json!("2"))
        );
        for (topic, uri, words) in [
            ("ORDERS_CREATE", "https://here.example.test/hooks/shop", "already been taken"),
            ("ORDERS_CREATE", "http://here.example.test/", "not supported"),
        ] {
            let refused = subscribe(topic, uri)["data"]["webhookSubscriptionCreate"]["userErrors"][0].clone();
            assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");
        }
        assert_eq!(
            subscribe("orders/create", "https://here.example.test/")["errors"].as_array().map(Vec::len),
            Some(1)
        );
        assert_eq!(
            (listed()[0]["topic"].as_str(), listed()[1]["topic"].as_str()),
            (Some("APP_UNINSTALLED"), Some("ORDERS_CREATE"))
        );
        for failure in 0..9 {
            assert_eq!(listed().as_array().map(Vec::len), Some(2), "failure {failure}");
            fake.sandbox.place_order(3000, "it", &new("pending"));
            let told = fake.sandbox.take_hooks();
            assert_eq!((told.len(), told[0].url.as_str()), (1, "https://here.example.test/hooks/shop"));
            let signature = to_base64(&sign("s3cret", &told[0].body));
            assert_eq!(told[0].header("x-shopify-hmac-sha256"), Some(signature.as_str()));
            fake.sandbox.hook_answered(&told[0], 503);
        }
        assert_eq!(listed().as_array().map(Vec::len), Some(1));
        let delete = |id: &str| {
            let query = "mutation WebhookSubscriptionDelete webhookSubscriptionDelete deletedWebhookSubscriptionId userErrors message";
            ask(&fake, 4000, query, json!({ "id": id })).body["data"]["webhookSubscriptionDelete"].clone()
        };
        assert_eq!(delete("gid://shopify/WebhookSubscription/1")["userErrors"], json!([]));
        assert!(delete("gid://shopify/WebhookSubscription/1")["deletedWebhookSubscriptionId"].is_null());
        assert_eq!(listed(), json!([]));
    }
}
