//! Orders of a shop, as WooCommerce keeps and shows them; other shops show them in their own way.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{Millis, hooks, time};

/// What is known of an order before the shop gives a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewOrder {
    /// E-mail address of the bill.
    pub email: Option<String>,
    /// Phone number of the bill.
    pub phone: Option<String>,
    /// Given name of the bill.
    pub given: String,
    /// Family name of the bill.
    pub family: String,
    /// The shop's id of the customer; none for a guest.
    pub customer: Option<String>,
    /// Status, such as `pending` or `processing`.
    pub status: String,
    /// ISO currency.
    pub currency: String,
    /// Name, quantity and unit price as decimal text.
    pub items: Vec<(String, u32, String)>,
    /// Country of the bill, ISO alpha-2.
    pub country: Option<String>,
}

/// What is known of a parcel before the shop gives a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewShipment {
    /// The carrier's number for it.
    pub number: Option<String>,
    /// Who carries it.
    pub carrier: Option<String>,
    /// Where it can be followed.
    pub url: Option<String>,
    /// Which lines of the order are in it, counted from 0, and how many of each; all of the order where it is empty.
    pub items: Vec<(usize, u32)>,
    /// It is packed and waits for its carrier (Medusa).
    pub packed: bool,
}

/// An order as the shop holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The shop's id.
    pub id: String,
    /// The number the customer sees.
    pub number: String,
    /// Status.
    pub status: String,
    /// What it costs, as decimal text.
    pub total: String,
    /// When it was placed.
    pub created_at: Millis,
    /// When it changed last.
    pub updated_at: Millis,
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub id: u64,
    pub name: String,
    pub quantity: u32,
    /// Of the whole line, in hundredths.
    pub total: i128,
}

/// A parcel with everything the shop keeps of it.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub id: u64,
    pub number: Option<String>,
    pub carrier: Option<String>,
    pub url: Option<String>,
    /// Lines of the order, and how many of each.
    pub items: Vec<(usize, u32)>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub shipped_at: Option<Millis>,
    pub delivered_at: Option<Millis>,
    pub cancelled_at: Option<Millis>,
}

/// An order with everything the shop keeps of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub id: u64,
    pub status: String,
    pub currency: String,
    pub customer: u64,
    pub billing: Map<String, Value>,
    pub note: String,
    pub items: Vec<Item>,
    pub meta: Vec<(u64, String, Value)>,
    /// Id and amount in hundredths of every refund.
    pub refunds: Vec<(u64, i128)>,
    pub parcels: Vec<Parcel>,
    pub via: &'static str,
    /// How far the payment is, where the vendor tells that apart from the status.
    pub payment: String,
    pub paid_at: Option<Millis>,
    pub completed_at: Option<Millis>,
    pub cancelled_at: Option<Millis>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub rows: BTreeMap<u64, Row>,
    next: u64,
    next_part: u64,
    /// What an id is above the number that customers see.
    above: u64,
}

impl Default for Orders {
    fn default() -> Orders {
        // Pages and products took the first ids.
        Orders { rows: BTreeMap::new(), next: 11, next_part: 1, above: 0 }
    }
}

impl Orders {
    /// A shop whose first order has this number.
    pub fn from(first: u64) -> Orders {
        Orders { next: first, ..Orders::default() }
    }

    /// Orders whose ids and numbers begin there.
    pub fn starting(id: u64, number: u64) -> Orders {
        Orders { next: id, above: id - number, ..Orders::default() }
    }

    /// What customers call an order, where that is not its id.
    pub fn name(&self, id: u64) -> String {
        format!("#{}", id - self.above)
    }

    pub fn take_id(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// An id for a line, a piece of meta data or a refund.
    pub fn take_part(&mut self) -> u64 {
        self.next_part += 1;
        self.next_part - 1
    }

    pub fn place(&mut self, now: Millis, new: &NewOrder) -> u64 {
        let id = self.take_id();
        let items = new
            .items
            .iter()
            .map(|(name, quantity, price)| Item {
                id: self.take_part(),
                name: name.clone(),
                quantity: *quantity,
                total: line_total(price, *quantity),
            })
            .collect();
        let mut billing = Map::new();
        for (name, value) in [
            ("first_name", Some(&new.given)),
            ("last_name", Some(&new.family)),
            ("email", new.email.as_ref()),
            ("phone", new.phone.as_ref()),
            ("country", new.country.as_ref()),
        ] {
            billing.insert(name.to_owned(), json!(value.cloned().unwrap_or_default()));
        }
        let mut row = Row {
            id,
            status: "pending".to_owned(),
            currency: if new.currency.is_empty() { "USD".to_owned() } else { new.currency.clone() },
            customer: new.customer.as_deref().and_then(|id| id.parse().ok()).unwrap_or(0),
            billing,
            note: String::new(),
            items,
            meta: Vec::new(),
            refunds: Vec::new(),
            parcels: Vec::new(),
            via: "checkout",
            payment: "not_paid".to_owned(),
            paid_at: None,
            completed_at: None,
            cancelled_at: None,
            created_at: now,
            updated_at: now,
        };
        if !new.status.is_empty() {
            row.enter(now, &new.status);
        }
        self.rows.insert(id, row);
        id
    }

    pub fn list(&self) -> Vec<Order> {
        let shown = |row: &Row| Order {
            id: row.id.to_string(),
            number: (row.id - self.above).to_string(),
            status: row.status.clone(),
            total: decimal(row.total()),
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        self.rows.values().map(shown).collect()
    }

    /// Sets a status; false when it was that already, which leaves the order untouched.
    pub fn set_status(&mut self, now: Millis, id: u64, status: &str) -> bool {
        if self.rows.get(&id).is_none_or(|row| row.status == status) {
            return false;
        }
        let refund = self.take_part();
        if let Some(row) = self.rows.get_mut(&id) {
            row.enter(now, status);
            row.updated_at = now;
            if status == "refunded" {
                // A refund of what is left appears by itself.
                row.refunds.push((refund, row.total() - row.refunded()));
            }
        }
        true
    }

    /// Gives a part of the money back; none where there is no such order.
    pub fn refund(&mut self, id: u64, amount: &str) -> Option<&mut Row> {
        let refund = self.take_part();
        let row = self.rows.get_mut(&id)?;
        row.refunds.push((refund, line_total(amount, 1)));
        Some(row)
    }

    /// Packs a parcel, and sends it unless it is only packed; the parcel's id.
    pub fn ship(&mut self, now: Millis, id: u64, new: &NewShipment) -> Option<u64> {
        let parcel = self.take_part();
        let row = self.rows.get_mut(&id)?;
        let all = || row.items.iter().enumerate().map(|(at, item)| (at, item.quantity)).collect();
        row.parcels.push(Parcel {
            id: parcel,
            number: new.number.clone(),
            carrier: new.carrier.clone(),
            url: new.url.clone(),
            items: if new.items.is_empty() { all() } else { new.items.clone() },
            created_at: now,
            updated_at: now,
            shipped_at: (!new.packed).then_some(now),
            delivered_at: None,
            cancelled_at: None,
        });
        Some(parcel)
    }

    /// Sets how far a parcel is; `number=…` gives it another number. False where nothing changes.
    pub fn set_shipment(&mut self, now: Millis, id: u64, parcel: u64, state: &str) -> bool {
        let parcels = self.rows.get_mut(&id).map(|row| &mut row.parcels);
        let Some(parcel) = parcels.and_then(|all| all.iter_mut().find(|one| one.id == parcel)) else { return false };
        let place = match state {
            "shipped" => &mut parcel.shipped_at,
            "delivered" => &mut parcel.delivered_at,
            "cancelled" => &mut parcel.cancelled_at,
            _ => match state.strip_prefix("number=") {
                Some(number) => {
                    parcel.number = Some(number.to_owned());
                    parcel.updated_at = now;
                    return true;
                }
                None => return false,
            },
        };
        let changes = place.is_none();
        if changes {
            *place = Some(now);
            parcel.updated_at = now;
        }
        changes
    }
}

impl Row {
    fn enter(&mut self, now: Millis, status: &str) {
        self.status = status.to_owned();
        if matches!(status, "processing" | "completed") {
            self.paid_at = self.paid_at.or(Some(now));
        }
        if status == "completed" {
            self.completed_at = Some(now);
        }
        if status == "cancelled" {
            self.cancelled_at = Some(now);
        }
    }

    pub fn total(&self) -> i128 {
        self.items.iter().map(|item| item.total).sum()
    }

    pub fn refunded(&self) -> i128 {
        self.refunds.iter().map(|(_, amount)| amount).sum()
    }

    /// How many of each line are in parcels that were not called off.
    pub fn packed(&self, line: usize) -> u32 {
        let kept = self.parcels.iter().filter(|parcel| parcel.cancelled_at.is_none());
        kept.flat_map(|parcel| &parcel.items).filter(|(at, _)| *at == line).map(|(_, quantity)| quantity).sum()
    }

    pub fn is_fully_packed(&self) -> bool {
        let mut lines = self.items.iter().enumerate();
        !self.parcels.is_empty() && lines.all(|(at, item)| self.packed(at) >= item.quantity)
    }

    /// As the API shows it; `base` is the address of the site.
    pub fn show(&self, base: &str) -> Value {
        let address = |names: &[&str], from: &Map<String, Value>| -> Value {
            names.iter().map(|name| ((*name).to_owned(), from.get(*name).cloned().unwrap_or(json!("")))).collect()
        };
        const PLACE: [&str; 9] =
            ["first_name", "last_name", "company", "address_1", "address_2", "city", "state", "postcode", "country"];
        let billing = address(&[&PLACE[..], &["email", "phone"]].concat(), &self.billing);
        let shipping = address(&[&PLACE[..], &["phone"]].concat(), &Map::new());
        let items: Vec<Value> = self.items.iter().map(Item::show).collect();
        let meta: Vec<Value> =
            self.meta.iter().map(|(id, key, value)| json!({ "id": id, "key": key, "value": value })).collect();
        let total = decimal(self.total());
        let refund = |(id, amount): &(u64, i128)| json!({ "id": id, "reason": "", "total": decimal(-amount) });
        let refunds: Vec<Value> = self.refunds.iter().map(refund).collect();
        let at = |time: Option<Millis>| time.map(time::naive);
        let key = format!("wc_order_{}", &hooks::hex(&hooks::digest(&format!("order {}", self.id)))[..13]);
        let link = |path: String| json!([{ "href": format!("{base}wp-json/wc/v3/{path}") }]);
        let mut links = json!({ "self": link(format!("orders/{}", self.id)), "collection": link("orders".to_owned()) });
        if self.customer != 0 {
            links["customer"] = link(format!("customers/{}", self.customer));
        }
        let mut shown = json!({
            "id": self.id, "parent_id": 0, "status": self.status, "currency": self.currency, "version": "11.0.1",
            "prices_include_tax": false, "date_created": time::naive(self.created_at),
            "date_modified": time::naive(self.updated_at), "discount_total": "0.00", "discount_tax": "0.00",
            "shipping_total": "0.00", "shipping_tax": "0.00", "cart_tax": "0.00", "total": total, "total_tax": "0.00",
            "customer_id": self.customer, "order_key": key, "billing": billing, "shipping": shipping,
            "payment_method": "", "payment_method_title": "", "transaction_id": "", "customer_ip_address": "",
            "customer_user_agent": "", "created_via": self.via, "customer_note": self.note,
            "date_completed": at(self.completed_at), "date_paid": at(self.paid_at), "cart_hash": "",
            "number": self.id.to_string(), "meta_data": meta, "line_items": items, "tax_lines": [],
            "shipping_lines": [], "fee_lines": [], "coupon_lines": [], "refunds": refunds,
        });
        // In two steps, since one literal of all members is more than the macro can take.
        let rest = json!({
            "payment_url": format!("{base}checkout/order-pay/{}/?pay_for_order=true&key={key}", self.id),
            "is_editable": matches!(self.status.as_str(), "pending" | "on-hold" | "auto-draft"),
            "needs_payment": matches!(self.status.as_str(), "pending" | "failed") && self.total() > 0,
            "needs_processing": !self.items.is_empty(), "date_created_gmt": time::naive(self.created_at),
            "date_modified_gmt": time::naive(self.updated_at), "date_completed_gmt": at(self.completed_at),
            "date_paid_gmt": at(self.paid_at), "currency_symbol": symbol(&self.currency), "_links": links,
        });
        if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
            shown.extend(rest);
        }
        shown
    }
}

impl Item {
    fn show(&self) -> Value {
        let total = decimal(self.total);
        let price = self.total as f64 / 100.0 / f64::from(self.quantity.max(1));
        json!({
            "id": self.id, "name": self.name, "product_id": 0, "variation_id": 0, "quantity": self.quantity,
            "tax_class": "", "subtotal": total, "subtotal_tax": "0.00", "total": total, "total_tax": "0.00",
            "taxes": [], "meta_data": [], "sku": "", "global_unique_id": "", "price": price,
            "image": { "id": "", "src": "" }, "parent_name": null,
        })
    }
}

/// Hundredths of so many at that price, rounded half up.
pub(crate) fn line_total(price: &str, quantity: u32) -> i128 {
    let price = price.trim();
    let (sign, digits) = price.strip_prefix('-').map_or((1, price), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let millionths: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let parsed = whole.parse::<i128>().unwrap_or(0) * 1_000_000 + millionths.parse::<i128>().unwrap_or(0);
    sign * ((parsed * i128::from(quantity) + 5000) / 10_000)
}

pub(crate) fn decimal(hundredths: i128) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100)
}

fn symbol(currency: &str) -> &str {
    match currency {
        "USD" | "AUD" | "CAD" => "$",
        "EUR" => "€",
        "GBP" => "£",
        "SEK" | "NOK" => "kr",
        "DKK" => "kr.",
        "JPY" => "¥",
        other => other,
    }
}
