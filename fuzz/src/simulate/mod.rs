//! The simulator: worlds of sessions in virtual time, in weather that no network has, judged
//! after everything that happens. A seed replays exactly.
//!
//! A world is one streamer and two viewers, each a process with a store of its own; three
//! sessions at a time, each with purses of three methods at a mint that misbehaves; an hour of
//! faults, then none, then everybody settles. The bin `simulate` runs many.

#![allow(
    clippy::indexing_slicing,
    reason = "slots, ends and nodes are made before anything runs; a simulator that errs must stop"
)]

mod deaths;
mod drive;
mod judge;
mod kinds;
mod life;
mod link;
mod machine;
mod media;
mod messages;
mod mint;
mod mint_faults;
mod pause;
mod plan;
mod points;
mod restore;
mod run;
mod store;
mod strike;
#[cfg(test)]
mod tests;
mod truth;
mod world;

pub use deaths::{Death, How, Moment, Part, Step};
pub use judge::Violation;
pub use kinds::{Counts, Kind};
pub use messages::{MESSAGES, MessageCounts};
pub use plan::{Found, PLAN, SEEDS, options, search};
pub use points::{Point, PointReport, points, points_of, replay_point, run_points};
pub use run::{FAULTS_MIN, Options, Report, TICKS_MIN, run_world, run_worlds};
pub use streampay_core::planted::Planted;
pub use world::Switches;
