//! A few people behind the example CRM's interface, with faults to order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use counterpart_connectors::conformance::Laboratory;
use counterpart_connectors::{Transport, TransportError};
use serde_json::{Value, json};

/// What the fake does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The last row of every full page is left out.
    SkipsRows,
    /// The first row of a page is the last one of the page before.
    RepeatsRows,
    /// An update empties everything it does not carry.
    Clobbers,
    /// A taken e-mail address is not noticed.
    TakesTwins,
    /// A look-up finds whatever contains the text.
    FindsSimilar,
    /// Any token is good.
    NoLock,
    /// A single read leaves a field out.
    ThinReads,
    /// An unknown id is answered with the first person.
    AnyoneWillDo,
    /// Deleting does nothing.
    Keeps,
}

pub struct FakeCrm {
    pub fault: Fault,
    people: Mutex<BTreeMap<u64, Value>>,
}

impl FakeCrm {
    pub fn new(fault: Fault) -> FakeCrm {
        FakeCrm { fault, people: Mutex::default() }
    }

    fn answer(&self, request: &http::Request<Bytes>) -> (u16, Value) {
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if token != Some("Bearer s3cret") && self.fault != Fault::NoLock {
            return (401, json!({ "error": "bad token" }));
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let query = request.uri().query().unwrap_or_default();
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let id = request.uri().path().strip_prefix("/api/people/").and_then(|id| id.parse::<u64>().ok());
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        match (request.method().as_str(), id) {
            ("GET", None) => (200, self.list(&people, &query)),
            ("POST", None) => self.create(&mut people, body),
            (_, Some(id)) if !people.contains_key(&id) && self.fault != Fault::AnyoneWillDo => {
                (404, json!({ "error": "not found" }))
            }
            ("GET", Some(id)) => {
                let mut person = people.get(&id).or(people.values().next()).cloned().unwrap_or_default();
                if self.fault == Fault::ThinReads {
                    person.as_object_mut().unwrap().remove("phone");
                }
                (200, json!({ "person": person }))
            }
            ("PATCH", Some(id)) => {
                let Some(person) = people.get_mut(&id).and_then(Value::as_object_mut) else {
                    return (404, json!({ "error": "not found" }));
                };
                if self.fault == Fault::Clobbers {
                    person.retain(|name, _| ["id", "email", "updated_at"].contains(&name.as_str()));
                }
                person.extend(body.as_object().cloned().unwrap_or_default());
                (200, json!({ "person": person }))
            }
            ("DELETE", Some(id)) => {
                if self.fault != Fault::Keeps {
                    people.remove(&id);
                }
                (204, Value::Null)
            }
            _ => (405, json!({ "error": "no" })),
        }
    }

    fn list(&self, people: &BTreeMap<u64, Value>, query: &BTreeMap<String, String>) -> Value {
        let limit: usize = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10);
        let after: u64 = query.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let exact = self.fault != Fault::FindsSimilar;
        let matching = |person: &&Value| {
            query.get("email").is_none_or(|wanted| {
                let has = person["email"].as_str().unwrap_or_default().to_lowercase();
                if exact { has == wanted.to_lowercase() } else { has.contains(&wanted.to_lowercase()) }
            })
        };
        let rows: Vec<(&u64, &Value)> =
            people.range(after + 1..).filter(|(_, person)| matching(person)).take(limit + 1).collect();
        let more = rows.len() > limit;
        let mut shown: Vec<Value> = rows.iter().take(limit).map(|(_, person)| (*person).clone()).collect();
        let next = more.then(|| rows[limit - 1].0.to_string());
        if more && self.fault == Fault::SkipsRows {
            shown.pop();
        }
        if after > 0 && self.fault == Fault::RepeatsRows {
            shown.insert(0, people[&after].clone());
        }
        json!({ "people": shown, "next": next, "total": people.len() })
    }

    fn create(&self, people: &mut BTreeMap<u64, Value>, mut body: Value) -> (u16, Value) {
        let holder = people.iter().find(|(_, person)| person["email"] == body["email"]).map(|(id, _)| *id);
        if let Some(holder) = holder.filter(|_| self.fault != Fault::TakesTwins) {
            return (409, json!({ "error": "email is in use", "fields": ["email"], "holder": holder }));
        }
        let id = people.keys().next_back().map_or(101, |last| last + 1);
        body["id"] = json!(id.to_string());
        body["updated_at"] = json!("2026-03-04T09:15:00Z");
        people.insert(id, body.clone());
        (201, json!({ "person": body }))
    }
}

#[async_trait]
impl Transport for FakeCrm {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let (status, body) = self.answer(&request);
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        Ok(http::Response::builder().status(status).body(body).expect("a status and a body"))
    }
}

#[async_trait]
impl Laboratory for FakeCrm {
    async fn populate(&self, records: usize) {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..records as u64 {
            let person = json!({ "given_name": format!("Person {number}"), "email": format!("p{number}@people.example"), "phone": "+4640123456" });
            self.create(&mut people, person);
        }
    }

    async fn ids(&self) -> Option<Vec<String>> {
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        Some(people.keys().map(u64::to_string).collect())
    }
}
