//! Reading a plan file: its head, and whether its operations are those that the head stands for.

use std::fmt;
use std::io::Read;

use counterpart_core::plan::{Operation, PlanHasher};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::report::PlanHeader;

/// Why a file is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// It is something else, or cut off.
    #[error("it is no plan: {0}")]
    NoPlan(#[from] serde_json::Error),
    /// Its operations are others than those that were planned.
    #[error("its operations were changed since it was written (its hash is {named}, theirs is {found})")]
    Changed {
        /// Hash in the file.
        named: String,
        /// Hash over the operations in the file.
        found: String,
    },
}

#[derive(Deserialize)]
struct PlanFile {
    kind: String,
    syncs: Vec<String>,
    hash: String,
    operations: Hashed,
}

/// The hash over operations that are read one after the other and kept nowhere: a plan may be larger than memory.
struct Hashed(String);

impl<'de> Deserialize<'de> for Hashed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Hashed, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Hashed;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of operations")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hashed, A::Error> {
                let mut hasher = PlanHasher::default();
                while let Some(op) = list.next_element::<Operation>()? {
                    hasher.feed(&op);
                }
                Ok(Hashed(hasher.finish()))
            }
        }
        from.deserialize_seq(Each)
    }
}

impl PlanHeader {
    /// Reads a plan as [`Engine::write_plan`](super::Engine::write_plan) writes it; fails where it is not whole.
    pub fn read(from: impl Read) -> Result<PlanHeader, PlanFileError> {
        let PlanFile { kind, syncs, hash, operations: Hashed(found) } = serde_json::from_reader(from)?;
        if found != hash {
            return Err(PlanFileError::Changed { named: hash, found });
        }
        Ok(PlanHeader { kind, syncs, hash })
    }
}
