//! What a session says to a peer that may be slow.

use alloc::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep};

use super::LinkEnd;

/// How long a message may wait until the peer takes it: 30 seconds, whatever else it takes meanwhile. Chosen
/// above what megabytes take on a poor connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that may wait. Chosen above what a session has to say at its end: notes of 400 purses, of four parts
/// each.
const MOST: usize = 2_048;

/// Messages that found no room in [`LinkEnd::QUEUE`]. They hold up nothing but what is said after them: effects,
/// the gate and the disk go on, so that a slow peer delays no settlement.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Each with the time at which it was said.
    waiting: VecDeque<(Instant, Bytes)>,
    /// How many messages left since one waits.
    sent: usize,
    /// How many came since.
    heard: usize,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It left, or waits, or there is no peer to whom it could be said.
    Yes,
    /// Nobody takes it any more, or too many wait.
    Gone,
}

/// What a session waits for whose messages wait.
pub(super) struct Room<'a>(Option<(&'a mpsc::Sender<Bytes>, Instant)>);

impl Outgoing {
    /// Says it, after what waits.
    pub(super) fn send(&mut self, link: Option<&LinkEnd>, bytes: Bytes) -> Sent {
        if link.is_none() {
            return Sent::Yes;
        }
        if self.waiting.len() >= MOST {
            return Sent::Gone;
        }
        self.waiting.push_back((Instant::now(), bytes));
        self.flush(link)
    }

    /// Says what waits, as far as there is room; over no connection it is forgotten.
    pub(super) fn flush(&mut self, link: Option<&LinkEnd>) -> Sent {
        let Some(link) = link else {
            *self = Self::default();
            return Sent::Yes;
        };
        while let Some((said, bytes)) = self.waiting.pop_front() {
            match link.outgoing.try_send(bytes) {
                Ok(()) => self.sent = self.sent.saturating_add(1),
                Err(TrySendError::Full(bytes)) => {
                    self.waiting.push_front((said, bytes));
                    return Sent::Yes;
                }
                Err(TrySendError::Closed(_)) => return Sent::Gone,
            }
        }
        *self = Self::default();
        Sent::Yes
    }

    /// Waits until more of what an ended session has to say can leave: false where nothing is left to be said, or
    /// nobody takes it. Nothing else is waited for: what comes of an effect such a session would not keep.
    pub(super) async fn last_words(&self, link: Option<&mut LinkEnd>) -> bool {
        let Some(LinkEnd { outgoing, incoming }) = link.filter(|_| self.is_waiting()) else {
            return false;
        };
        let mut room = core::pin::pin!(self.room(Some(outgoing)).comes());
        loop {
            tokio::select! {
                biased;
                there_is = &mut room => return there_is,
                // A peer that could not say anything would take nothing either.
                message = incoming.recv() => if message.is_none() {
                    return false;
                },
            }
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A message of the peer's is being taken.
    pub(super) const fn heard(&mut self) {
        self.heard = self.heard.saturating_add(1);
    }

    /// False where the peer says more than it takes: what it is answered waits, too. One that answers all that it is
    /// told is listened to, so that two who have much to say do not wait for each other.
    pub(super) fn listens(&self) -> bool {
        !self.is_waiting() || self.heard < LinkEnd::QUEUE.saturating_add(self.sent)
    }

    pub(super) fn room<'a>(&self, link: Option<&'a mpsc::Sender<Bytes>>) -> Room<'a> {
        let since = self.waiting.front().map(|(said, _)| *said);
        Room(link.zip(since))
    }
}

impl Room<'_> {
    /// True once there is some; false where the peer is gone, or did not take what was said in time. Never where nothing
    /// waits.
    pub(super) async fn comes(self) -> bool {
        let Some((outgoing, since)) = self.0 else {
            return std::future::pending().await;
        };
        let left = PATIENCE.saturating_sub(since.elapsed());
        tokio::select! {
            biased;
            () = sleep(left) => false,
            room = outgoing.reserve() => room.is_ok(),
        }
    }
}
