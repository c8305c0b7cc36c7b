//! Signalling: WHEP, an offer for an answer over HTTP. Source: draft-ietf-wish-whep-04.
//!
//! [`Server`] is a router for the streamer; it hands every viewer whose data channel has opened
//! to the embedder. [`Client`] is the viewer's side. Any bytes on HTTP give a bounded, typed
//! outcome on both.

mod address;
mod client;
mod limits;
mod paywall;
mod previews;
mod rate;
mod seats;
mod server;

pub use address::TrustedProxy;
pub(crate) use client::is_local;
pub use client::{Accepted, Client, ClientError};
pub use limits::{Full, Place, Places};
pub use paywall::{Kept, PaymentError, Paywall};
pub use previews::{Preview, Previews};
pub use rate::Rate;
pub use seats::{Seat, Seats};
pub use server::{Arrival, Server, ServerConfig, UnboundPlace};
