//! Who lets nothing flow, and why. Every cause of a pause ends by itself: a mint that is back does
//! not end the user's pause, and the user does not end the mint's.

use alloc::vec::Vec;

use super::pace::Pace;
use crate::meter::PauseReason;
use crate::units::Mono;
use crate::wire::{Message, Pause, Resume, Terms};

/// How often a peer may say that it pauses, or that it does not: one in so many milliseconds on average, and so
/// many at once. What comes beyond was never said; a pause is said again each heartbeat. Spec: session 6.2.
const WORD_EVERY_MS: u64 = 50;
const WORDS: u64 = 128;

/// A pause is over once it has flowed for so long, in milliseconds. Spec: session 6.1.
const FLOWS_MS: u64 = 2_000;

/// The pauses of both sides.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Causes on this side, the oldest first: that one is said to the peer.
    own: Vec<PauseReason>,
    peer: Option<PauseReason>,
    own_epoch: u64,
    peer_epoch: u64,
    /// How often the peer said so on this connection.
    words: Pace,
    /// Since when nothing flows, as far as it was looked at; it has not flowed for long since.
    still_since: Option<Mono>,
    /// Since when it flows, likewise.
    flows_since: Option<Mono>,
}

impl Flow {
    /// A new connection: epochs begin anew, and what the peer said on the last one is gone. Own
    /// causes stay, but for an ack that the old connection owed.
    pub(super) fn reconnect(&mut self) {
        self.own.retain(|cause| *cause != PauseReason::AckOverdue);
        self.own_epoch = u64::from(!self.own.is_empty());
        (self.peer, self.peer_epoch, self.words) = (None, 0, Pace::default());
    }

    /// True where nothing has flowed for as long as the terms let a session be resumed: a pause
    /// is no longer than an absence. A word between two pauses does not make them two.
    pub(super) fn is_still_too_long(&mut self, now: Mono, terms: &Terms) -> bool {
        if self.flows() {
            let since = *self.flows_since.get_or_insert(now);
            if now.since_ms(since) >= FLOWS_MS {
                self.still_since = None;
            }
            return false;
        }
        self.flows_since = None;
        let since = *self.still_since.get_or_insert(now);
        now.since_ms(since) >= u64::from(terms.resumable_s).saturating_mul(1_000)
    }

    pub(super) const fn flows(&self) -> bool {
        self.own.is_empty() && self.peer.is_none()
    }

    pub(super) fn has(&self, cause: PauseReason) -> bool {
        self.own.contains(&cause)
    }

    /// What the gate is told.
    pub(super) fn pause(&self) -> Option<PauseReason> {
        self.own.first().copied().or(self.peer)
    }

    /// Adds a cause. True where it is new.
    pub(super) fn add(&mut self, cause: PauseReason) -> bool {
        if self.has(cause) {
            return false;
        }
        if self.own.is_empty() {
            self.own_epoch = self.own_epoch.saturating_add(1);
        }
        self.own.push(cause);
        true
    }

    /// Ends a cause. True where it was there.
    pub(super) fn remove(&mut self, cause: PauseReason) -> bool {
        let first = self.own.first().copied();
        let before = self.own.len();
        self.own.retain(|own| *own != cause);
        if self.own.first().copied() != first {
            self.own_epoch = self.own_epoch.saturating_add(1);
        }
        self.own.len() != before
    }

    /// Takes what the peer says. True where it changes anything.
    pub(super) fn hear(&mut self, now: Mono, epoch: u64, pause: Option<PauseReason>) -> bool {
        if epoch <= self.peer_epoch || !self.words.take(now, WORD_EVERY_MS, WORDS) {
            return false;
        }
        self.peer_epoch = epoch;
        let changed = self.peer != pause;
        self.peer = pause;
        changed
    }

    /// How things stand on this side; none where nothing was ever paused.
    pub(super) fn message(&self) -> Option<Message> {
        let epoch = self.own_epoch;
        match self.own.first() {
            Some(&reason) => Some(Message::Pause(Pause { epoch, reason })),
            None if epoch == 0 => None,
            None => Some(Message::Resume(Resume { epoch })),
        }
    }
}
