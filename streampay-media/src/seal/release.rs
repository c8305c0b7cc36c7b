//! Which keys of a sealed stream have left, for one viewer's gate.

use std::{collections::VecDeque, sync::Arc};

use streampay_core::{
    meter::{Grant, Tariff},
    session::Command,
};
use tokio::sync::mpsc;

use super::{
    StreamSecret,
    epoch::{epoch_of_us, span_us},
};
use crate::packet::MediaPacket;

/// The viewer's session, and what of the source's keys it was given on this connection.
///
/// Whose key has left is delivered: a carrier may have handed the viewer its packets. So a packet
/// of an epoch whose key has not left is priced as the whole epoch, and counted so.
#[derive(Debug)]
pub(crate) struct Release {
    secret: Arc<StreamSecret>,
    session: mpsc::Sender<Command>,
    /// Newest last, so many as both kinds can be apart.
    left: VecDeque<u64>,
    due: Option<u64>,
}

/// The session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionGone;

impl Release {
    /// Epochs that are remembered to be released once: over three seconds. An older one would be
    /// released again, which changes nothing.
    const LEFT_MAX: usize = 64;

    pub(crate) const fn new(secret: Arc<StreamSecret>, session: mpsc::Sender<Command>) -> Self {
        Self {
            secret,
            session,
            left: VecDeque::new(),
            due: None,
        }
    }

    /// Whether a key may leave under this grant at all: a rate of bytes prices what nobody knows
    /// yet.
    pub(crate) fn prices(grant: &Grant) -> bool {
        let of_time = |tariff: &Tariff| tariff.bytes.is_none();
        match grant {
            Grant::Open { schedule, .. } => {
                of_time(&schedule.tariff)
                    && schedule
                        .next
                        .as_ref()
                        .is_none_or(|next| of_time(&next.tariff))
            }
            Grant::Paused(_) | Grant::Closed => false,
        }
    }

    /// What a packet covers in all, in microseconds: with its epoch, where that is not released.
    pub(crate) fn covers_us(&self, packet: &MediaPacket) -> (u64, u64) {
        let (from, to) = packet.covers_us();
        let epoch = epoch_of_us(from);
        if self.left.contains(&epoch) {
            return (from, to);
        }
        let (begin, end) = span_us(epoch);
        (begin, to.max(end))
    }

    /// The packet is within the credit, with all that it covers: its key is due.
    pub(crate) fn passed(&mut self, packet: &MediaPacket) {
        let epoch = epoch_of_us(packet.covers_us().0);
        if self.left.contains(&epoch) {
            return;
        }
        if self.left.len() >= Self::LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back(epoch);
        self.due = Some(epoch);
    }

    /// Hands the session the key that is due, if one is.
    pub(crate) async fn hand_over(&mut self) -> Result<(), SessionGone> {
        let Some(epoch) = self.due.take() else {
            return Ok(());
        };
        let grant = self.secret.grant(epoch).to_media_grant();
        let sent = self.session.send(Command::Grant(grant)).await;
        sent.map_err(|_| SessionGone)
    }
}
