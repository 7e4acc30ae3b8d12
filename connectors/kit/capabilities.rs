//! What a connection can do and how often it may call, after its settings were applied.

use std::collections::BTreeMap;

use serde::Serialize;

use super::clock::Millis;
use super::manifest::{BudgetLine, Manifest, PageKind};
use super::problems;
use super::settings::Settings;

/// A limit after settings were applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BudgetFacts {
    /// Class of endpoint; `all` counts every call.
    pub class: String,
    /// Calls per window.
    pub requests: u32,
    /// Length of the window.
    pub per_ms: Millis,
}

/// What a connection can do with one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Lists records.
    pub list: bool,
    /// Reads one record.
    pub fetch: bool,
    /// Kinds of keys it can look up: `email`, `phone`, `external`.
    pub find: Vec<String>,
    /// Creates.
    pub create: bool,
    /// Updates.
    pub update: bool,
    /// Deletes.
    pub delete: bool,
    /// Lists what changed since a time.
    pub since: bool,
    /// Lists newest first.
    pub head: bool,
    /// Pages do not shift while one reads them.
    pub stable_pages: bool,
    /// Announces how many records there are.
    pub total: bool,
    /// Says when a record changed.
    pub updated_at: bool,
    /// Canonical fields a create must carry.
    pub required_for_create: Vec<String>,
    /// Canonical fields no two records may share.
    pub unique: Vec<String>,
    /// What else happens, by action (`create`, `update`, `delete`).
    pub side_effects: BTreeMap<String, Vec<String>>,
    /// Records per page.
    pub page_size: u32,
    /// Calls a create takes.
    pub calls_per_create: u32,
    /// Calls an update takes.
    pub calls_per_update: u32,
    /// Records can be merged at the vendor.
    pub merges: bool,
}

impl Manifest {
    /// The stream that tells whether a connection works: contacts where there are any, else the first that hangs on no
    /// other.
    pub fn first_stream(&self) -> &str {
        let apart = || self.streams.iter().find(|(_, facts)| facts.parent.is_none());
        let contacts = self.streams.get_key_value("contact");
        contacts.or_else(apart).map_or("contact", |(name, _)| name)
    }

    /// What a connection with default settings can do with its [`first_stream`](Manifest::first_stream).
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities_of(self.first_stream(), &Settings::defaults(self)).unwrap_or_default()
    }

    /// What a connection with `settings` can do with `stream`; none when there is no such stream.
    pub fn capabilities_of(&self, stream: &str, settings: &Settings) -> Option<Capabilities> {
        let facts = self.stream(stream)?;
        let effects = [("create", &facts.create), ("update", &facts.update), ("delete", &facts.delete)];
        let find = facts.find.iter().filter(|(_, find)| settings.filled(&find.pointer));
        Some(Capabilities {
            list: true,
            fetch: facts.get.is_some(),
            find: find.map(|(kind, _)| kind.clone()).collect(),
            create: facts.create.is_some(),
            update: facts.update.is_some(),
            delete: facts.delete.is_some(),
            since: !facts.list.since.is_empty(),
            head: !facts.list.head.is_empty() || settings.render(&facts.list.order, &[]) == "newest_first",
            stable_pages: matches!(facts.list.page.kind, PageKind::Cursor | PageKind::Keyset),
            total: facts.list.total.is_some(),
            updated_at: facts.updated_at.is_some(),
            required_for_create: facts.create.as_ref().map(|create| create.required.clone()).unwrap_or_default(),
            unique: facts.unique.clone(),
            side_effects: effects
                .into_iter()
                .filter_map(|(name, action)| Some((name.to_owned(), action.as_ref()?.effects.clone())))
                .collect(),
            page_size: u32::try_from(settings.number("page_size")).unwrap_or(u32::MAX),
            calls_per_create: 1,
            calls_per_update: 1,
            merges: facts.merges,
        })
    }

    /// The limits with `settings` applied.
    pub fn budgets_with(&self, settings: &Settings) -> Vec<BudgetFacts> {
        let facts = |line: &BudgetLine| {
            let requests = u32::try_from(settings.resolve(&line.requests)).unwrap_or(u32::MAX);
            let per_ms = problems::duration_ms(&line.per)?;
            Some(BudgetFacts { class: line.class.clone(), requests, per_ms })
        };
        self.budgets.iter().filter_map(facts).collect()
    }
}
