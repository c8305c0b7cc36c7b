//! Sealed media: frames that a carrier can pass on and not play. Feature `e2ee`.
//!
//! A source seals every frame with SFrame (RFC 9605) before it is packetized, once for all
//! viewers. Keys change every [`EPOCH_MS`] of the source's time. The key of an epoch goes to a viewer
//! as a grant on an ack of its session, and only once its gate finds the whole epoch within the
//! credit, whereupon all of the epoch counts as delivered. So who stops paying holds no key of
//! the next epoch, and who only carries packets holds none. It does not stop a viewer who paid
//! from passing on what it opened.
//!
//! VP8 and Opus. Other codecs are refused with [`Unsealable`]. The price has to be one of time: what
//! an epoch will come to in bytes is not known when its key is due, so that a gate with a rate of
//! bytes stays shut. So do terms with a preview or a window: before the first ack there is nothing
//! that a key could ride on. Spec: media 4.
//!
//! | part | is |
//! |---|---|
//! | `StreamSecret`, `FrameSealer` | the payee's: keys from one secret, frames sealed |
//! | `Release` | in a viewer's gate: which keys have left |
//! | [`Opener`] | the payer's, pure: grants in, frames opened, each at most once |
//! | [`Keyring`] | the handle between a session and its connections |
//! | `Intake` | packets in, opened frames out, and only those counted |
//!
//! # A streamer
//! The session is made with `requiring(SEALED_MEDIA)`; its commands carry the keys.
//! ```no_run
//! use std::path::Path;
//! use streampay_core::{driver::Ports, meter::Reading};
//! use streampay_media::{source::{FileOptions, Source}, whep::Arrival};
//!
//! # async fn streamer(mut viewer: Arrival) -> Result<(), Box<dyn std::error::Error>> {
//! let source = Source::open_sealed(Path::new("clip.ivf"), FileOptions::default()).await?;
//! // For each viewer, `ports` going to its session:
//! let (ports, user) = Ports::pair();
//! let reading =
//!     viewer.connection.start_sealed(user.gate, Reading::default(), user.commands)?;
//! # let _ = (source, ports, reading);
//! # Ok(())
//! # }
//! ```
//!
//! # A viewer
//! The session is made with `offering(SEALED_MEDIA)`.
//! ```no_run
//! use streampay_core::{meter::Reading, session::Event};
//! use streampay_media::{peer::{PeerConfig, ViewerPeer}, seal::Keyring, whep::Client};
//!
//! # async fn viewer(event: Event) -> Result<(), Box<dyn std::error::Error>> {
//! let (keys, url) = (Keyring::new(), "http://127.0.0.1:8080/whep");
//! let config = PeerConfig::for_viewer();
//! let stream =
//!     ViewerPeer::connect_sealable(&Client, url, &config, Reading::default(), &keys).await?;
//! // With every event of the session:
//! keys.note(&event)?;
//! # let _ = stream;
//! # Ok(())
//! # }
//! ```

mod epoch;
mod frame;
mod intake;
mod keyring;
mod opener;
mod release;

pub use epoch::{BadGrant, EPOCH_MS, EpochGrant, EpochKey};
pub(crate) use epoch::{StreamSecret, epoch_of_us};
pub(crate) use frame::FrameSealer;
pub use frame::{SealError, Unsealable};
pub(crate) use intake::Intake;
pub use keyring::Keyring;
pub use opener::{OpenError, Opener};
pub(crate) use release::Release;

/// Refuses a codec that cannot be sealed.
///
/// # Errors
/// [`Unsealable`] for all but VP8 and Opus.
pub const fn sealable(codec: crate::packet::Codec) -> Result<(), Unsealable> {
    match frame::codec_number(codec) {
        Some(_) => Ok(()),
        None => Err(Unsealable(codec)),
    }
}

#[cfg(test)]
mod bad_frames;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod gate_vectors;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_flow;
#[cfg(test)]
mod vectors;
