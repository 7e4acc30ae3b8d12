//! Simulated worlds: real engine, real store, real connectors, fake vendors that lie, virtual time, one seed.

mod clock;
mod laws;
mod world;

pub use clock::{Death, InProcess, SimClock};
pub use laws::check;
pub use world::{Dice, World, WorldPlan, connection};
