//! Generated people: the same number is the same person everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Millis;

/// What is known of somebody before a vendor gives an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewPerson {
    /// Given name.
    pub given: String,
    /// Family name.
    pub family: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number in any written form.
    pub phone: Option<String>,
    /// Company.
    pub company: Option<String>,
    /// City.
    pub city: Option<String>,
    /// Country, ISO alpha-2.
    pub country: Option<String>,
    /// Postcode.
    pub postcode: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Custom fields.
    pub custom: BTreeMap<String, String>,
    /// Id in another system.
    pub external_id: Option<String>,
}

/// Somebody as a vendor holds them: the truth behind its API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The vendor's id.
    pub id: String,
    /// Given name; empty where the vendor keeps names whole.
    pub given: String,
    /// Family name; empty where the vendor keeps names whole.
    pub family: String,
    /// Whole name.
    pub full_name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number as stored.
    pub phone: Option<String>,
    /// Company.
    pub company: Option<String>,
    /// City.
    pub city: Option<String>,
    /// Country as stored.
    pub country: Option<String>,
    /// Postcode.
    pub postcode: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Custom fields.
    pub custom: BTreeMap<String, String>,
    /// Everything else the vendor stores, by its own names.
    pub more: BTreeMap<String, String>,
    /// Id in another system.
    pub external_id: Option<String>,
    /// When it was created.
    pub created_at: Millis,
    /// When it changed last, by the vendor's clock.
    pub updated_at: Millis,
    /// Whether it is deleted (archived).
    pub deleted: bool,
}

const GIVEN: &[&str] = &[
    "Ana",
    "Björn",
    "Chloé",
    "Dmitri",
    "Eszter",
    "Fatima",
    "Göran",
    "Hiroshi",
    "Ingrid",
    "José",
    "Katarzyna",
    "Luís",
    "María",
    "Nadia",
    "Øystein",
    "Priya",
    "Quentin",
    "Rosa",
    "Søren",
    "Tomáš",
    "Ulla",
    "Văn",
    "Wei",
    "Xenia",
    "Yusuf",
    "Zoë",
    "Anna Maria",
    "Jean-Luc",
];
const FAMILY: &[&str] = &[
    "Lind",
    "Müller",
    "García",
    "Nowak",
    "Østergaard",
    "Petrov",
    "Rossi",
    "Silva",
    "Tanaka",
    "Ünal",
    "van der Berg",
    "Wójcik",
    "Yılmaz",
    "Zapata",
    "O'Brien",
    "Åkesson",
    "de la Cruz",
    "Nguyễn",
    "Kovács",
    "Dubois",
    "Smith",
];
const COMPANIES: &[&str] = &["Nordlicht", "Azul", "Fjord", "Kestrel", "Lumen", "Monsoon", "Orchard", "Quarry", "Tern"];
const PLACES: &[(&str, &str, &str)] = &[
    ("Malmö", "SE", "+46701"),
    ("Berlin", "DE", "+491511"),
    ("Lyon", "FR", "+33612"),
    ("Porto", "PT", "+351912"),
    ("Sevilla", "ES", "+34612"),
    ("Leeds", "GB", "+447400"),
    ("Aarhus", "DK", "+4520"),
    ("Austin", "US", "+151255"),
];

/// Person number `number`.
pub(crate) fn generated(number: u64) -> NewPerson {
    let pick = |list: &[&'static str], salt: u64| list[((number * 7 + salt) % list.len() as u64) as usize].to_owned();
    let (city, country, prefix) = PLACES[(number % PLACES.len() as u64) as usize];
    NewPerson {
        given: GIVEN[(number % GIVEN.len() as u64) as usize].to_owned(),
        family: FAMILY[(number / 3 % FAMILY.len() as u64) as usize].to_owned(),
        email: Some(format!("person{number}@example.test")),
        phone: Some(phone(prefix, number)),
        company: (number % 4 != 3).then(|| format!("{} {}", pick(COMPANIES, 1), number % 97)),
        city: Some(city.to_owned()),
        country: Some(country.to_owned()),
        postcode: None,
        tags: Vec::new(),
        custom: if number.is_multiple_of(5) {
            BTreeMap::from([("plan".to_owned(), if number.is_multiple_of(2) { "gold" } else { "silver" }.to_owned())])
        } else {
            BTreeMap::new()
        },
        external_id: None,
    }
}

/// A number that is dialled in the country of `prefix`, of the length numbers have there.
fn phone(prefix: &str, number: u64) -> String {
    let digits = match prefix {
        "+46701" => 6,
        "+491511" => 7,
        "+33612" | "+351912" | "+34612" | "+447400" | "+4520" => 6,
        _ => 5,
    };
    let modulus = 10u64.pow(digits);
    format!("{prefix}{:0width$}", number * 7919 % modulus, width = digits as usize)
}

impl Person {
    /// The whole name from its parts.
    pub(crate) fn joined(given: &str, family: &str) -> String {
        [given, family].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
    }

    /// Sets one field by its outside name; an empty text clears.
    pub(crate) fn set(&mut self, field: &str, value: Option<&str>) {
        let filled = value.filter(|text| !text.is_empty()).map(str::to_owned);
        match field {
            "given" | "family" => {
                let text = filled.unwrap_or_default();
                if field == "given" {
                    self.given = text
                } else {
                    self.family = text
                }
                self.full_name = Person::joined(&self.given, &self.family);
            }
            "full_name" => {
                self.full_name = filled.unwrap_or_default();
                if !self.given.is_empty() || !self.family.is_empty() {
                    let (given, family) = self.full_name.rsplit_once(' ').unwrap_or((&self.full_name, ""));
                    (self.given, self.family) = (given.to_owned(), family.to_owned());
                }
            }
            "email" => self.email = filled,
            "phone" => self.phone = filled,
            "company" => self.company = filled,
            "city" => self.city = filled,
            "country" => self.country = filled,
            "postcode" => self.postcode = filled,
            "external_id" => self.external_id = filled,
            other => {
                let (map, key) = match other.strip_prefix("custom.") {
                    Some(key) => (&mut self.custom, key),
                    None => (&mut self.more, other.strip_prefix("more.").unwrap_or(other)),
                };
                match filled {
                    Some(text) => map.insert(key.to_owned(), text),
                    None => map.remove(key),
                };
            }
        }
    }
}
