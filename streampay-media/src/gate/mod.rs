//! What lets paid packets through and nothing else.
//!
//! A viewer has one [`Gate`] for picture and sound together. It prices its own meter by the
//! newest [`Grant`]: a packet passes only where what is used, that packet included, stays within
//! the limit. It asks nobody, so it holds when the session is slow, stuck or dead; where the
//! sender of the grants is gone it is shut for good.
//!
//! The only writer of a viewer's RTP tracks is this module's `MeteredTrack`, and it writes only
//! what the gate has passed.
//!
//! # Opening
//! Shut at its limit or paused, a viewer keeps its place in the source's ring. Opened again within
//! a fifth of a second it goes on where it stopped, and what came meanwhile is sent at once. Later, and
//! at the first opening, it goes on with the last key frame, or where it stopped if that is newer,
//! picture and sound at the pace at which they came and stamped with when they are sent, half a second
//! after it stopped at the earliest: to a
//! decoder nothing is ever late. What lies before is left out and not counted. Where there is no
//! key frame of the last two seconds the picture waits for the next one; sound goes on at once.

mod deliver;
mod track;

use streampay_core::meter::{Grant, Reading};
use tokio::sync::watch;

pub(crate) use deliver::{Shown, Tracks, deliver};
pub(crate) use track::MeteredTrack;

#[cfg(feature = "e2ee")]
use crate::seal::Release;
use crate::{
    meter::Meter,
    packet::{Kind, MediaPacket},
};

/// Decides packet by packet. Pure apart from looking at the newest grant.
#[derive(Debug)]
pub struct Gate {
    grants: watch::Receiver<Grant>,
    /// The newest, unless `grants` has a newer one.
    grant: Grant,
    meter: Meter,
    need_key: bool,
    /// The frame of the packet that passed last: what others of it cover is covered.
    passed: Option<(Kind, u64, u32)>,
    /// Of a sealed stream: the keys that leave with what passes.
    #[cfg(feature = "e2ee")]
    release: Option<Release>,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is counted and must be sent now.
    Pass,
    /// Not now: offer it again when the grant has changed.
    Hold,
    /// Never: no decoder could use it before the next key frame.
    Skip,
    /// Nothing passes any more: the session is gone.
    Dead,
}

impl Gate {
    /// A gate that goes on from the session's reading. It is shut until a grant opens it, and
    /// the picture begins with a key frame.
    #[must_use]
    pub fn new(mut grants: watch::Receiver<Grant>, initial: Reading) -> Self {
        let grant = *grants.borrow_and_update();
        Self {
            grants,
            grant,
            meter: Meter::new(initial),
            need_key: true,
            passed: None,
            #[cfg(feature = "e2ee")]
            release: None,
        }
    }

    /// A gate for a sealed stream.
    #[cfg(feature = "e2ee")]
    pub(crate) fn sealed(
        grants: watch::Receiver<Grant>,
        initial: Reading,
        release: Release,
    ) -> Self {
        Self {
            release: Some(release),
            ..Self::new(grants, initial)
        }
    }

    /// Decides about one packet and, where it passes, counts it.
    pub fn offer(&mut self, packet: &MediaPacket) -> Verdict {
        // `borrow` would still show the last grant of a session that is gone.
        match self.grants.has_changed() {
            Ok(false) => {}
            Ok(true) => self.grant = *self.grants.borrow_and_update(),
            Err(_) => return Verdict::Dead,
        }
        let grant = &self.grant;
        if !matches!(grant, Grant::Open { .. }) {
            return Verdict::Hold;
        }
        let picture = packet.kind == Kind::Video;
        if picture && self.need_key && !packet.key_start {
            return Verdict::Skip;
        }
        let bytes = packet.payload_bytes();
        let frame = Some((packet.kind, packet.ticks, packet.span));
        // Another packet of the same frame adds bytes alone: most packets are such.
        if self.passed == frame && !self.is_sealed() {
            if !grant.admits(self.meter.reading_with_bytes(bytes)) {
                return Verdict::Hold;
            }
            self.meter.add_bytes(bytes);
            return Verdict::Pass;
        }
        #[cfg(feature = "e2ee")]
        if self.release.is_some() && !Release::prices(grant) {
            return Verdict::Hold;
        }
        let span = self.covers_us(packet);
        if !grant.admits(self.meter.reading_with(span, bytes)) {
            return Verdict::Hold;
        }
        self.meter.add(span, bytes);
        #[cfg(feature = "e2ee")]
        if let Some(release) = &mut self.release {
            release.passed(packet);
        }
        self.need_key &= !picture;
        self.passed = frame;
        Verdict::Pass
    }

    #[cfg(not(feature = "e2ee"))]
    #[allow(clippy::unused_self, reason = "what is sealed depends on it")]
    const fn is_sealed(&self) -> bool {
        false
    }

    #[cfg(feature = "e2ee")]
    const fn is_sealed(&self) -> bool {
        self.release.is_some()
    }

    /// What a packet brings the meter to cover.
    #[cfg(not(feature = "e2ee"))]
    #[allow(clippy::unused_self, reason = "what is sealed depends on it")]
    const fn covers_us(&self, packet: &MediaPacket) -> (u64, u64) {
        packet.covers_us()
    }

    /// What a packet brings the meter to cover; sealed, all of an epoch whose key leaves with it.
    #[cfg(feature = "e2ee")]
    fn covers_us(&self, packet: &MediaPacket) -> (u64, u64) {
        let release = self.release.as_ref();
        release.map_or_else(|| packet.covers_us(), |release| release.covers_us(packet))
    }

    /// Hands the session the key of what was passed last, where it has not got it. False where
    /// the session is gone.
    #[cfg(feature = "e2ee")]
    pub(crate) async fn hand_over(&mut self) -> bool {
        match &mut self.release {
            Some(release) => release.hand_over().await.is_ok(),
            None => true,
        }
    }

    /// Whether a packet that is not larger than most could pass now.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        let Reading { media_ms, bytes } = self.meter.reading();
        let next = Reading {
            media_ms: media_ms.saturating_add(1),
            bytes: bytes.saturating_add(1),
        };
        self.grants.has_changed().is_ok() && self.grants.borrow().admits(next)
    }

    /// Packets were left out: the picture has to begin again with a key frame.
    pub const fn resync(&mut self) {
        self.need_key = true;
        self.passed = None;
    }

    /// What was passed so far.
    #[must_use]
    pub const fn reading(&self) -> Reading {
        self.meter.reading()
    }
}

#[cfg(test)]
mod tests;
