//! Shopify: GraphQL, whose refusals come inside a success, and a limit of points instead of calls (see BEHAVIOR.md).

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::{Map, Value, json};

use crate::kit::act::{Act, Acted};
use crate::kit::clock::Millis;
use crate::kit::connector::{
    CheckReport, Connector, Cx, MatchKey, Page, PullMode, PullRequest, Push, RemoteRecord, Written,
};
use crate::kit::error::{ConnectorError, ErrorKind};
use crate::kit::gate::Purpose;
use crate::kit::hook::subscription::{Listed, Subscribe};
use crate::kit::http::{Answer, Ask};
use crate::kit::manifest::{Manifest, StreamFacts};
use crate::kit::matching;
use crate::kit::paging::{Walk, text_mark};
use crate::kit::rest::{self, Rest};
use crate::kit::time;

/// Tries of one operation, the first included.
const TRIES: u32 = 4;
/// A wait longer than this is the caller's decision.
const LONGEST_WAIT: Millis = 60_000;
/// Other apps use points too, so what is just enough now may not be enough then.
const SHORTEST_WAIT: Millis = 500;

/// What of an order comes with it; an order with more of anything is read once more on its own.
const FEW: Sizes = Sizes { lines: 10, parcels: 2, contents: 10 };
/// As much as one query may ask for, and as a budget of 1000 points leaves to what can wait.
const MANY: Sizes = Sizes { lines: 150, parcels: 10, contents: 20 };
// Points, counted as Shopify counts: one for each object, two for a list with pages.
const ORDER_COST: u32 = 15 + 2;
/// A parcel, its tracking number, and the list of what is in it.
const PARCEL_COST: u32 = 2 + 2;
const CONTENT_COST: u32 = 2;
const LINE_COST: u32 = 3;
const CUSTOMER_COST: u32 = 3;
const MUTATION_COST: u32 = 10 + CUSTOMER_COST;
const SUBSCRIPTIONS: u32 = 100;
/// Pages of subscriptions that are read at most; there are fewer topics than that.
const SUBSCRIPTION_PAGES: usize = 10;

/// How many lines and parcels of an order, and how many lines of each parcel.
struct Sizes {
    lines: u32,
    parcels: u32,
    contents: u32,
}

impl Sizes {
    const fn cost(&self) -> u32 {
        ORDER_COST + self.lines * LINE_COST + self.parcels * (PARCEL_COST + self.contents * CONTENT_COST)
    }

    fn put(&self, variables: &mut Value) {
        for (name, size) in [("items", self.lines), ("parcels", self.parcels), ("contents", self.contents)] {
            variables[name] = json!(size);
        }
    }

    /// Whether an order that was asked for in these sizes has more.
    fn cut(&self, order: &Value) -> bool {
        let more = |list: &Value| list.pointer("/pageInfo/hasNextPage") == Some(&Value::Bool(true));
        let parcels = order["fulfillments"].as_array().map(Vec::as_slice).unwrap_or_default();
        more(&order["lineItems"])
            || parcels.iter().any(|parcel| more(&parcel["fulfillmentLineItems"]))
            || order.pointer("/fulfillmentsCount/count").and_then(Value::as_u64) > Some(u64::from(self.parcels))
    }
}

macro_rules! order {
    () => {
        "id legacyResourceId name email phone note customerLocale createdAt updatedAt cancelledAt statusPageUrl \
         currencyCode displayFinancialStatus displayFulfillmentStatus \
         customer { id firstName lastName defaultEmailAddress { emailAddress } } \
         billingAddress { firstName lastName phone countryCodeV2 } \
         totalPriceSet { shopMoney { amount } } subtotalPriceSet { shopMoney { amount } } \
         totalShippingPriceSet { shopMoney { amount } } totalTaxSet { shopMoney { amount } } \
         totalRefundedSet { shopMoney { amount } } \
         lineItems(first: $items) { nodes { name sku quantity originalUnitPriceSet { shopMoney { amount } } } \
         pageInfo { hasNextPage } } fulfillmentsCount { count } \
         fulfillments(first: $parcels) { legacyResourceId status displayStatus createdAt inTransitAt deliveredAt \
         trackingInfo(first: 1) { company number url } \
         fulfillmentLineItems(first: $contents) { nodes { quantity lineItem { name sku } } pageInfo { hasNextPage } } }"
    };
}
macro_rules! customer {
    () => {
        "id legacyResourceId firstName lastName locale note createdAt updatedAt \
         defaultEmailAddress { emailAddress } defaultPhoneNumber { phoneNumber }"
    };
}

const SHOP: &str = "query Shop { shop { name myshopifyDomain } }";
const ORDERS: &str = concat!(
    "query Orders($first: Int!, $after: String, $query: String, $sort: OrderSortKeys!, $items: Int!, $parcels: Int!, ",
    "$contents: Int!) { ",
    "orders(first: $first, after: $after, query: $query, sortKey: $sort) { nodes { ",
    order!(),
    " } pageInfo { hasNextPage endCursor } } }"
);
const ORDER: &str = concat!(
    "query Order($id: ID!, $items: Int!, $parcels: Int!, $contents: Int!) { order(id: $id) { ",
    order!(),
    " } }"
);
const CUSTOMERS: &str = concat!(
    "query Customers($first: Int!, $after: String, $query: String, $sort: CustomerSortKeys!) { ",
    "customers(first: $first, after: $after, query: $query, sortKey: $sort) { nodes { ",
    customer!(),
    " } pageInfo { hasNextPage endCursor } } }"
);
const CUSTOMER: &str = concat!("query Customer($id: ID!) { customer(id: $id) { ", customer!(), " } }");
/// Unlike search, this sees a customer the moment it was written.
const CUSTOMER_BY: &str = concat!(
    "query CustomerBy($key: CustomerIdentifierInput!) { customerByIdentifier(identifier: $key) { ",
    customer!(),
    " } }"
);
const CREATE: &str = concat!(
    "mutation CustomerCreate($input: CustomerInput!) { customerCreate(input: $input) { customer { ",
    customer!(),
    " } userErrors { field message } } }"
);
const UPDATE: &str = concat!(
    "mutation CustomerUpdate($input: CustomerInput!) { customerUpdate(input: $input) { customer { ",
    customer!(),
    " } userErrors { field message } } }"
);
const DELETE: &str = "mutation CustomerDelete($input: CustomerDeleteInput!) { customerDelete(input: $input) { \
                      deletedCustomerId userErrors { field message } } }";

const WEBHOOKS: &str = "query WebhookSubscriptions($first: Int!, $after: String) { webhookSubscriptions(first: $first, \
                        after: $after) { nodes { legacyResourceId topic uri } pageInfo { hasNextPage endCursor } } }";
const SUBSCRIBE: &str = "mutation WebhookSubscriptionCreate($topic: WebhookSubscriptionTopic!, $webhookSubscription: \
                         WebhookSubscriptionInput!) { webhookSubscriptionCreate(topic: $topic, webhookSubscription: \
                         $webhookSubscription) { webhookSubscription { legacyResourceId } userErrors { field message } } }";
const UNSUBSCRIBE: &str = "mutation WebhookSubscriptionDelete($id: ID!) { webhookSubscriptionDelete(id: $id) { \
                           deletedWebhookSubscriptionId userErrors { field message } } }";

/// The Shopify connector.
pub(crate) struct Shopify {
    rest: Rest,
}

/// One operation and what it is sent with.
struct Operation<'a> {
    purpose: Purpose,
    query: &'static str,
    variables: Value,
    cost: u32,
    idempotency_key: &'a str,
}

impl Operation<'_> {
    fn read(purpose: Purpose, query: &'static str, variables: Value, cost: u32) -> Self {
        Operation { purpose, query, variables, cost, idempotency_key: "" }
    }
}

impl Shopify {
    pub(crate) fn new(manifest: Arc<Manifest>) -> Shopify {
        Shopify { rest: Rest::new(manifest) }
    }

    /// Sends an operation and returns its `data`; waits where the bucket of points is empty and fills soon.
    async fn run(&self, cx: &Cx, operation: &Operation<'_>) -> Result<(Value, Answer), ConnectorError> {
        let body = json!({ "query": operation.query, "variables": operation.variables });
        let path = cx.settings.render("/admin/api/{api_version}/graphql.json", &[]);
        let ask = Ask::new(operation.purpose, Method::POST, path)
            .body(&body)
            .cost(operation.cost)
            .idempotency_key(operation.idempotency_key);
        let mut attempt = 1;
        loop {
            let (mut reply, answer) = cx.http.json(cx.lane, &ask).await.map_err(wrong_address)?;
            let error = match failure(cx, &ask, operation.purpose, &reply) {
                None => return Ok((reply["data"].take(), answer)),
                Some(error) => error,
            };
            let now = cx.clock.now();
            match error.kind {
                // It was refused before anything happened, so a write may be sent again too.
                ErrorKind::RateLimited { until: Some(at) } if attempt < TRIES && at - now <= LONGEST_WAIT => {
                    tracing::debug!(attempt, wait_ms = at - now, "the bucket of points is empty");
                    cx.clock.sleep_until(at).await;
                    attempt += 1;
                }
                _ => return Err(error),
            }
        }
    }

    async fn list(&self, cx: &Cx, facts: &StreamFacts, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        let walk = Walk::resume(request.cursor)?;
        let mut variables = json!({ "after": walk.as_ref().map(|walk| &walk.at), "query": null, "sort": "ID" });
        match request.mode {
            PullMode::Full => {}
            PullMode::Since(at) => {
                // Shopify's times have whole seconds.
                let since = time::to_iso(at.div_euclid(1_000) * 1_000);
                let search = facts.list.since.get("query").map(|query| cx.settings.render(query, &[("since", &since)]));
                variables["query"] = json!(search);
                variables["sort"] = json!("UPDATED_AT");
            }
            mode => return Err(ConnectorError::unsupported(format!("shopify cannot list by {mode:?}"))),
        }
        let orders = request.stream == "order";
        let size = cx.settings.number(if orders { "orders_per_page" } else { "page_size" });
        variables["first"] = json!(size);
        let (query, each) = match orders {
            true => {
                FEW.put(&mut variables);
                (ORDERS, FEW.cost())
            }
            false => (CUSTOMERS, CUSTOMER_COST),
        };
        let cost = 2 + u32::try_from(size).unwrap_or(u32::MAX).saturating_mul(each);
        let (mut data, answer) = self.run(cx, &Operation::read(Purpose::Pull, query, variables, cost)).await?;
        let mut list = data[if orders { "orders" } else { "customers" }].take();
        let Value::Array(rows) = list["nodes"].take() else {
            return Err(ConnectorError::contract(format!("shopify: the answer holds no list of {}s", request.stream)));
        };
        let mut records = Vec::new();
        for row in rows {
            let mut record = record(facts, orders, row)?;
            if orders && FEW.cut(&record.body) {
                record = self.order(cx, facts, &record.id, MANY, Purpose::Pull).await?;
            }
            records.push(record);
        }
        let next = match (list.pointer("/pageInfo/hasNextPage"), list.pointer("/pageInfo/endCursor")) {
            (Some(Value::Bool(true)), Some(Value::String(end))) => {
                Some(Walk::step(walk.as_ref(), end.clone(), text_mark(end))?.cursor())
            }
            (Some(Value::Bool(false)), _) => None,
            _ => return Err(ConnectorError::contract("shopify: the answer does not say how the list goes on")),
        };
        // A cursor is the place of the last row in the order, not a number of rows.
        Ok(Page { records, next, server_time: answer.server_time, steady: true, ..Page::default() })
    }

    async fn order(
        &self,
        cx: &Cx,
        facts: &StreamFacts,
        id: &str,
        sizes: Sizes,
        purpose: Purpose,
    ) -> Result<RemoteRecord, ConnectorError> {
        let mut variables = json!({ "id": gid("Order", id)? });
        sizes.put(&mut variables);
        let (mut data, _) = self.run(cx, &Operation::read(purpose, ORDER, variables, sizes.cost())).await?;
        match data["order"].take() {
            Value::Null => Err(not_found(id)),
            row => record(facts, true, row),
        }
    }

    /// Sends a mutation and returns what stands under `root` when nothing was refused.
    async fn mutate(&self, cx: &Cx, root: &str, operation: Operation<'_>) -> Result<Value, ConnectorError> {
        let (mut data, _) = self.run(cx, &operation).await?;
        let done = data[root].take();
        match done["userErrors"].as_array().map(Vec::as_slice) {
            Some([]) => Ok(done),
            Some(errors) => Err(refused(cx, root, errors)),
            None => {
                let message = format!("shopify: {root} was answered without a result");
                Err(ConnectorError::new(ErrorKind::OutcomeUnknown, message))
            }
        }
    }

    /// A subscription as it is listed, its topic in the word of deliveries where that is known here.
    fn listed(&self, row: &Value) -> Result<Listed, ConnectorError> {
        let (Some(id), Some(word)) = (row["legacyResourceId"].as_str(), row["topic"].as_str()) else {
            return Err(ConnectorError::contract("shopify: a webhook subscription has no id or no topic"));
        };
        let mut known = self.rest.manifest().hooks.iter().flat_map(|facts| facts.topics.keys());
        let topic = known.find(|topic| topic_word(topic) == word).map_or(word, String::as_str);
        // Those for other places than an address have one that never is ours.
        let address = row["uri"].as_str().unwrap_or_default().to_owned();
        let (id, topics) = (id.to_owned(), vec![topic.to_owned()]);
        Ok(Listed { id, address, topics, state: None, active: true, secret: None })
    }

    async fn write(&self, cx: &Cx, push: &Push<'_>, key: &str) -> Result<Written, ConnectorError> {
        let facts = self.rest.facts("contact")?;
        let operation = |purpose, query, input: Value| Operation {
            purpose,
            query,
            variables: json!({ "input": input }),
            cost: MUTATION_COST,
            idempotency_key: key,
        };
        let (root, operation) = match *push {
            Push::Create { body } => ("customerCreate", operation(Purpose::Create, CREATE, body.clone())),
            Push::Update { id, body, .. } => {
                let mut input = body.as_object().cloned().unwrap_or_default();
                input.insert("id".to_owned(), json!(gid("Customer", id)?));
                ("customerUpdate", operation(Purpose::Update, UPDATE, Value::Object(input)))
            }
            Push::Delete { id } => {
                let input = json!({ "id": gid("Customer", id)? });
                self.mutate(cx, "customerDelete", operation(Purpose::Delete, DELETE, input)).await?;
                return Ok(Written { record: None, id: id.to_owned(), calls: 1 });
            }
        };
        let mut done = self.mutate(cx, root, operation).await?;
        // It happened, so an answer without the customer leaves open which one it is.
        let record = record(facts, false, done["customer"].take())
            .map_err(|error| ConnectorError::new(ErrorKind::OutcomeUnknown, error.message))?;
        Ok(Written { id: record.id.clone(), record: Some(record), calls: 1 })
    }
}

#[async_trait]
impl Connector for Shopify {
    fn manifest(&self) -> &Manifest {
        self.rest.manifest()
    }

    async fn check(&self, cx: &Cx) -> Result<CheckReport, ConnectorError> {
        let (data, answer) = self.run(cx, &Operation::read(Purpose::Check, SHOP, json!({}), 1)).await?;
        let asked = cx.settings.text("api_version");
        let version = answer.header("x-shopify-api-version").map(str::to_owned);
        let mut notes = Vec::new();
        if let Some(version) = version.as_ref().filter(|version| **version != asked) {
            notes.push(format!("api_version {asked} is asked for, and the shop answers as {version}"));
        }
        let identity = data.pointer("/shop/myshopifyDomain").and_then(Value::as_str).map(str::to_owned);
        Ok(CheckReport { version, identity, notes })
    }

    async fn pull(&self, cx: &Cx, request: PullRequest<'_>) -> Result<Page, ConnectorError> {
        self.list(cx, self.rest.facts(request.stream)?, request).await
    }

    async fn fetch(&self, cx: &Cx, stream: &str, id: &str) -> Result<RemoteRecord, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        if stream == "order" {
            let order = self.order(cx, facts, id, FEW, Purpose::Fetch).await?;
            return match FEW.cut(&order.body) {
                true => self.order(cx, facts, id, MANY, Purpose::Fetch).await,
                false => Ok(order),
            };
        }
        let variables = json!({ "id": gid("Customer", id)? });
        let operation = Operation::read(Purpose::Fetch, CUSTOMER, variables, CUSTOMER_COST);
        let (mut data, _) = self.run(cx, &operation).await?;
        match data["customer"].take() {
            Value::Null => Err(not_found(id)),
            row => record(facts, false, row),
        }
    }

    async fn find(&self, cx: &Cx, stream: &str, key: &MatchKey) -> Result<Vec<RemoteRecord>, ConnectorError> {
        let facts = self.rest.facts(stream)?;
        let find = facts.find.get(key.kind()).ok_or_else(|| {
            ConnectorError::unsupported(format!("shopify cannot look a {stream} up by {}", key.kind()))
        })?;
        let value = key.value().trim().to_lowercase();
        let members = find
            .params
            .iter()
            .map(|(name, template)| (name.clone(), json!(cx.settings.render(template, &[("value", &value)]))));
        let variables = json!({ "key": members.collect::<Map<_, _>>() });
        let operation = Operation::read(Purpose::Find, CUSTOMER_BY, variables, CUSTOMER_COST);
        let (mut data, _) = self.run(cx, &operation).await?;
        let found = match data["customerByIdentifier"].take() {
            Value::Null => None,
            row => Some(record(facts, false, row)?),
        };
        Ok(found.into_iter().filter(|record| matching::holds(record, &find.pointer, key)).collect())
    }

    async fn push(
        &self,
        cx: &Cx,
        stream: &str,
        push: Push<'_>,
        idempotency_key: &str,
    ) -> Result<Written, ConnectorError> {
        if stream != "contact" {
            return Err(ConnectorError::unsupported(format!("shopify: a {stream} is only read here")));
        }
        match self.write(cx, &push, idempotency_key).await {
            Err(error) if matches!(error.kind, ErrorKind::Conflict { holder: None, .. }) => {
                Err(matching::with_holder(self, cx, stream, &push, error).await)
            }
            other => other,
        }
    }

    async fn act(&self, cx: &Cx, act: Act<'_>) -> Result<Acted, ConnectorError> {
        self.rest.act(cx, act).await
    }

    async fn subscriptions(&self, cx: &Cx) -> Result<Vec<Listed>, ConnectorError> {
        let mut found = Vec::new();
        let mut after = Value::Null;
        for _ in 0..SUBSCRIPTION_PAGES {
            let variables = json!({ "first": SUBSCRIPTIONS, "after": after });
            let operation = Operation::read(Purpose::Pull, WEBHOOKS, variables, 2 + SUBSCRIPTIONS);
            let (mut data, _) = self.run(cx, &operation).await?;
            let list = data["webhookSubscriptions"].take();
            let rows = list["nodes"].as_array().ok_or_else(|| {
                ConnectorError::contract("shopify: the answer holds no list of webhook subscriptions")
            })?;
            for row in rows {
                found.push(self.listed(row)?);
            }
            if list["pageInfo"]["hasNextPage"] != true {
                return Ok(found);
            }
            after = list["pageInfo"]["endCursor"].clone();
        }
        let message = format!("shopify shows more than {} webhook subscriptions of this app", found.len());
        Err(ConnectorError::unsupported(message))
    }

    async fn subscribe(&self, cx: &Cx, subscribe: Subscribe<'_>) -> Result<(), ConnectorError> {
        let topic = subscribe.topics.first().map(|topic| topic_word(topic)).unwrap_or_default();
        let operation = Operation {
            purpose: Purpose::Create,
            query: SUBSCRIBE,
            variables: json!({ "topic": topic, "webhookSubscription": { "uri": subscribe.address } }),
            cost: MUTATION_COST,
            idempotency_key: "",
        };
        self.mutate(cx, "webhookSubscriptionCreate", operation).await.map(drop).map_err(|mut error| {
            // Shopify does not say which scope a refused topic lacks.
            if topic.starts_with("FULFILLMENT") && matches!(error.kind, ErrorKind::Invalid { .. }) {
                error.message.push_str("; topics of parcels need the scope read_fulfillments");
            }
            error
        })
    }

    async fn unsubscribe(&self, cx: &Cx, id: &str) -> Result<(), ConnectorError> {
        let operation = Operation {
            purpose: Purpose::Delete,
            query: UNSUBSCRIBE,
            variables: json!({ "id": gid("WebhookSubscription", id)? }),
            cost: MUTATION_COST,
            idempotency_key: "",
        };
        self.mutate(cx, "webhookSubscriptionDelete", operation).await.map(drop)
    }
}

/// A topic as GraphQL writes it: `ORDERS_CREATE`, where deliveries say `orders/create`.
fn topic_word(topic: &str) -> String {
    topic.replace('/', "_").to_uppercase()
}

/// The global id of a record; webhooks have the number in it, which is the id here.
fn gid(kind: &str, id: &str) -> Result<String, ConnectorError> {
    let number = id.strip_prefix("gid://shopify/").and_then(|rest| rest.strip_prefix(kind)?.strip_prefix('/'));
    let number = number.unwrap_or(id);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_found(id));
    }
    Ok(format!("gid://shopify/{kind}/{number}"))
}

fn not_found(id: &str) -> ConnectorError {
    ConnectorError::new(ErrorKind::NotFound, format!("shopify has no record `{id}`"))
}

/// A row as it is kept: a customer has the members that a customer is written with.
fn record(facts: &StreamFacts, order: bool, mut row: Value) -> Result<RemoteRecord, ConnectorError> {
    if let Some(members) = row.as_object_mut().filter(|_| !order) {
        for (flat, nested, inner) in
            [("email", "defaultEmailAddress", "emailAddress"), ("phone", "defaultPhoneNumber", "phoneNumber")]
        {
            let value = members.remove(nested).map(|mut value| value[inner].take());
            members.insert(flat.to_owned(), value.unwrap_or_default());
        }
    }
    rest::record(facts, row).ok_or_else(|| ConnectorError::contract("shopify: a record has no legacyResourceId"))
}

/// There is one address for everything, so a 404 never says that a record is missing.
fn wrong_address(mut error: ConnectorError) -> ConnectorError {
    if error.kind == ErrorKind::NotFound {
        error.kind = ErrorKind::Contract;
        error.message.push_str(". There is no such address: are base_url and api_version right?");
    }
    error
}

/// What a success that holds errors, or nothing, means.
fn failure(cx: &Cx, ask: &Ask<'_>, purpose: Purpose, reply: &Value) -> Option<ConnectorError> {
    let errors = reply.get("errors").filter(|errors| !errors.is_null());
    if errors.is_none() && reply.get("data").is_some_and(Value::is_object) {
        return None;
    }
    let code = errors.and_then(|errors| errors.pointer("/0/extensions/code")).and_then(Value::as_str);
    let words = errors.and_then(|errors| errors.pointer("/0/message").or(Some(errors))?.as_str()).unwrap_or_default();
    // Whether the write happened is not known; only what is refused before it runs is sure.
    let unsure = if purpose.writes() { ErrorKind::OutcomeUnknown } else { ErrorKind::Unavailable };
    let (kind, help) = match code {
        Some("THROTTLED") => (ErrorKind::RateLimited { until: Some(cx.clock.now() + wait(reply)) }, ""),
        Some("MAX_COST_EXCEEDED") => (ErrorKind::Unsupported, "Lower page_size or orders_per_page"),
        Some("ACCESS_DENIED") => (
            ErrorKind::Forbidden,
            "Give the app the scopes read_orders, read_customers and write_customers (for webhooks about parcels \
             read_fulfillments too), and access to protected customer data",
        ),
        Some("SHOP_INACTIVE") => (ErrorKind::Forbidden, "The shop is not active"),
        Some("INTERNAL_SERVER_ERROR" | "TIMEOUT") => (unsure, ""),
        // A query that is not understood is refused as a whole.
        Some(_) if reply.get("data").is_none_or(Value::is_null) => (ErrorKind::Contract, "Is api_version right?"),
        _ if purpose.writes() => (ErrorKind::OutcomeUnknown, "it may have been processed"),
        _ => (ErrorKind::Contract, "Is base_url the address of a Shopify shop?"),
    };
    let words = match words {
        "" => "no data".to_owned(),
        words => cx.http.redactor.quote(words, 300),
    };
    let message = format!("{}: the answer holds {words}. {help}", cx.http.what(ask));
    Some(ConnectorError::new(kind, message.trim_end_matches([' ', '.'])))
}

/// How long until the bucket holds what was asked for.
fn wait(reply: &Value) -> Millis {
    let number = |place: &str| reply.pointer(&format!("/extensions/cost/{place}")).and_then(Value::as_f64);
    let asked = number("requestedQueryCost").unwrap_or(100.0);
    let there = number("throttleStatus/currentlyAvailable").unwrap_or(0.0);
    let restored = number("throttleStatus/restoreRate").filter(|rate| *rate >= 1.0).unwrap_or(50.0);
    let missing = ((asked - there).max(0.0) * 1_000.0 / restored).ceil();
    (missing as Millis).max(SHORTEST_WAIT)
}

/// What the `userErrors` of a mutation mean; nothing was changed.
fn refused(cx: &Cx, root: &str, errors: &[Value]) -> ConnectorError {
    let said = |error: &Value| error["message"].as_str().unwrap_or_default().to_owned();
    let words = errors.iter().map(said).collect::<Vec<_>>().join(" ");
    let field = |error: &Value| Some(error["field"].as_array()?.last()?.as_str()?.to_owned());
    let fields: Vec<String> = errors.iter().filter_map(field).collect();
    let lower = words.to_lowercase();
    let kind = if lower.contains("already been taken") {
        let taken = errors.iter().filter(|error| said(error).to_lowercase().contains("already been taken"));
        ErrorKind::Conflict { holder: None, keys: taken.filter_map(field).collect() }
    } else if lower.contains("does not exist") || lower.contains("can't be found") {
        ErrorKind::NotFound
    } else {
        ErrorKind::Invalid { fields }
    };
    let words = cx.http.redactor.quote(&words, 300);
    ConnectorError::new(kind, format!("shopify refuses {root}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_global_ids_name_the_same_record() {
        assert_eq!(gid("Order", "450789469").unwrap(), "gid://shopify/Order/450789469");
        assert_eq!(gid("Order", "gid://shopify/Order/450789469").unwrap(), "gid://shopify/Order/450789469");
        for wrong in ["", "gid://shopify/Customer/1", "#1001", "1\" }", "gid://shopify/Order/"] {
            assert_eq!(gid("Order", wrong).unwrap_err().kind, ErrorKind::NotFound, "{wrong}");
        }
    }

    #[test]
    fn no_query_asks_for_more_than_may_be_asked_for() {
        assert!(2 + 9 * FEW.cost() <= 930, "a page costs {}", 2 + 9 * FEW.cost());
        assert!(MANY.cost() <= 930, "one order costs {}", MANY.cost());
    }

    #[test]
    fn an_order_with_more_of_anything_is_read_again() {
        let more = json!({ "pageInfo": { "hasNextPage": true } });
        assert!(FEW.cut(&json!({ "lineItems": more })));
        assert!(FEW.cut(&json!({ "fulfillments": [{ "fulfillmentLineItems": more }] })));
        assert!(FEW.cut(&json!({ "fulfillmentsCount": { "count": 3 } })));
        assert!(!FEW.cut(&json!({ "fulfillmentsCount": { "count": 2 }, "fulfillments": [{}] })));
    }

    #[test]
    fn the_wait_is_what_the_bucket_needs() {
        let reply = |asked: f64, there: f64, rate: f64| {
            json!({ "extensions": { "cost": { "requestedQueryCost": asked,
                "throttleStatus": { "currentlyAvailable": there, "restoreRate": rate } } } })
        };
        assert_eq!(wait(&reply(922.0, 122.0, 100.0)), 8_000);
        assert_eq!(wait(&reply(922.0, 122.0, 1000.0)), 800);
        assert_eq!(wait(&reply(10.0, 50.0, 100.0)), SHORTEST_WAIT);
        assert_eq!(wait(&reply(100.0, 0.0, 0.0)), 2_000);
        assert_eq!(wait(&json!({})), 2_000);
    }
}
