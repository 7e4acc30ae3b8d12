//! From the file and its environment to typed values: what cannot be read is told and taken out, and the rest is read again, so
//! that no mistake hides another one.

use std::collections::BTreeSet;

use counterpart_core::mapping::alike;
use figment::Figment;
use figment::error::{Error, Kind};
use figment::providers::{Env, Serialized};
use toml::Value;

use super::file::File;
use super::load::Problems;

/// Variables that override the file: `COUNTERPART__STORE__URL` for `store.url`.
const PREFIX: &str = "COUNTERPART__";

/// What the environment says.
pub(super) fn environment() -> Env {
    Env::prefixed(PREFIX).split("__")
}

/// The variable that gives the value at a key path instead of the file.
pub(super) fn variable(path: &[&str]) -> Option<String> {
    let given = Figment::from(environment()).find_value(&path.join(".")).ok()?;
    given.as_dict().is_none().then(|| format!("{PREFIX}{}", path.join("__").to_ascii_uppercase()))
}

/// The file's values under those of the environment. None when something that is needed, or of another type than it is, leaves
/// too little to look further; keys that nobody knows are told and left out.
pub(super) fn extract(mut table: toml::Table, problems: &mut Problems<'_>) -> Option<File> {
    let (mut taken_out, mut told) = (BTreeSet::new(), BTreeSet::new());
    let mut is_sound = true;
    loop {
        let layered = Figment::from(Serialized::defaults(&table)).merge(environment());
        let errors = match layered.extract() {
            Ok(file) => return is_sound.then_some(file),
            Err(errors) => errors,
        };
        let mut goes_on = false;
        for error in errors {
            let place = written_at(&error.path, &taken_out);
            // What stands in the environment stays, and comes up again.
            if !is_consequence(&error, &place, &taken_out) && told.insert((place.clone(), error.kind.to_string())) {
                tell(&error, &place, problems);
            }
            is_sound &= matches!(error.kind, Kind::UnknownField(..));
            if take_out(&mut table, &error.path) {
                taken_out.insert(place);
                goes_on = true;
            }
        }
        if !goes_on {
            return None;
        }
    }
}

fn tell(error: &Error, place: &[String], problems: &mut Problems<'_>) {
    let path: Vec<&str> = place.iter().map(String::as_str).collect();
    let name = if path.is_empty() { String::new() } else { format!("`{}`: ", path.join(".")) };
    match &error.kind {
        Kind::UnknownField(key, known) => {
            let help = match alike(key, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here are {}", known.join(", ")),
            };
            problems.at_secret(&path, format!("{name}unknown field"), help);
        }
        kind => {
            // figment puts quotes around names that have some.
            let kind = kind.to_string().replace("``", "`");
            problems.at(&path, format!("{name}{kind}"), "docs/configuration.md lists every key");
        }
    }
}

/// Whether something is missing only because it was taken out.
fn is_consequence(error: &Error, place: &[String], taken_out: &BTreeSet<Vec<String>>) -> bool {
    let Kind::MissingField(name) = &error.kind else { return false };
    let mut key = place.to_vec();
    key.push(name.to_string());
    taken_out.contains(&key)
}

/// Where the value at `path` stands in the file: items of a list that were taken out count.
fn written_at(path: &[String], taken_out: &BTreeSet<Vec<String>>) -> Vec<String> {
    let mut place: Vec<String> = Vec::new();
    for part in path {
        let mut written = part.clone();
        if let Ok(index) = part.parse::<usize>() {
            let is_there = |n: &usize| {
                let mut item = place.clone();
                item.push(n.to_string());
                !taken_out.contains(&item)
            };
            written = (0..).filter(is_there).nth(index).map_or(written, |n: usize| n.to_string());
        }
        place.push(written);
    }
    place
}

/// Takes the value at a path out; false when there is none, or when it is all there is.
fn take_out(table: &mut toml::Table, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let Some((first, parents)) = parents.split_first() else { return table.remove(last).is_some() };
    let mut inside = table.get_mut(first);
    for part in parents {
        inside = match inside {
            Some(Value::Table(table)) => table.get_mut(part),
            Some(Value::Array(list)) => part.parse::<usize>().ok().and_then(|index| list.get_mut(index)),
            _ => None,
        };
    }
    match (inside, last.parse::<usize>()) {
        (Some(Value::Table(table)), _) => table.remove(last).is_some(),
        (Some(Value::Array(list)), Ok(index)) if index < list.len() => {
            list.remove(index);
            true
        }
        _ => false,
    }
}
