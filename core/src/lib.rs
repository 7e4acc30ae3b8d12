//! The pure core: what a person's record means, whose records belong together, which value wins, and what to write.
//!
//! - A **record** is what one system shows of a person; a [`Mapping`] turns it into canonical [`Fields`].
//! - Records that stand for one person are found by [`identity`]; what is doubtful waits for a person.
//! - [`merge`](mod@merge) compares every record with what it last agreed on, field by field, and says which value is golden.
//! - The result is a list of [`Operation`]s: a value that is printed, hashed, guarded and carried out.
//!
//! Nothing here does I/O, asks for the time, or knows a vendor.

pub mod business;
pub mod document;
pub mod event;
pub mod field;
pub mod gate;
pub mod guard;
pub mod identity;
pub mod mapping;
pub mod merge;
pub mod normalize;
pub mod path;
pub mod plan;

pub use document::Document;
pub use field::{FieldKind, FieldName, Fields, PersonName, Slot, Value, agree};
pub use identity::Evidence;
pub use mapping::{Diagnostic, Mapping};
pub use merge::{Agreed, AgreedSlot, Clock, Golden, GoldenSlot, Policies, Policy};
pub use plan::{Action, Lane, Operation};
