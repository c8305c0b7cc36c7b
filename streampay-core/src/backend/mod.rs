//! Payment backends as data: requests, outcomes, effects, and the sync machine that turns one
//! into the other.
//!
//! One [`BackendMachine`] per method and process owns all purses of that method, by
//! [`PurseKey`](crate::units::PurseKey). It does no I/O. It answers a request with an [`Answer`]:
//!
//! ```text
//! session --Request--> machine --Answer{outcome?, delta, node_delta, effects}--> session
//! session: Persist(delta + its own)   -- durable -->   effects run   --EffectResult--> machine
//! machine --Answer{outcome?, ..}--> session
//! ```
//!
//! Every request ends in exactly one outcome, at once or after effects. An effect is a network
//! call, named by its id; running it twice must be harmless, for after a crash it runs again.

mod answer;
mod error;
mod machine;
mod request;

pub use answer::{Answer, Effect, EffectResult, Opened, Outcome};
pub use error::{BackendError, Blame, Consumed, RefusalCode};
pub use machine::{BackendMachine, RestoredPurse};
pub use request::{PurseOffer, Request};
