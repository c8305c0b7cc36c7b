//! How a connection ends: with what was said last, or at once.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// How long what was said last may take to leave. Spec: transports 1.
const FLUSH: Duration = Duration::from_secs(2);

/// How far the end has come. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Ending(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nothing can be said yet.
    Silent,
    /// There is a link.
    Linked,
    /// What was said last leaves.
    Leaving,
    Closed,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Silent))
    }

    /// There is a link now, whose task [cuts](Self::cut) once what was said last has left.
    pub(super) fn linked(&self) {
        self.0.send_if_modified(|phase| {
            let comes = *phase == Phase::Silent;
            if comes {
                *phase = Phase::Linked;
            }
            comes
        });
    }

    /// Nothing more is to be said.
    pub(super) fn leave(&self) {
        self.0.send_if_modified(|phase| {
            let next = match *phase {
                Phase::Silent => Phase::Closed,
                Phase::Linked => Phase::Leaving,
                Phase::Leaving | Phase::Closed => return false,
            };
            *phase = next;
            true
        });
    }

    /// Whatever was said. False where it is closed already.
    pub(super) fn cut(&self) -> bool {
        self.0.send_replace(Phase::Closed) != Phase::Closed
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.0.borrow() == Phase::Closed
    }

    /// Ends when nothing more is to be said, or could be.
    pub(super) async fn left(&self) {
        self.reached(Phase::Leaving).await;
    }

    /// Ends when the connection is closed by either side or lost.
    pub(super) async fn closed(&self) {
        self.reached(Phase::Closed).await;
    }

    /// Ends when it is closed, or has to be.
    pub(super) async fn due(&self) {
        self.left().await;
        let _ = timeout(FLUSH, self.closed()).await;
    }

    async fn reached(&self, wanted: Phase) {
        // The sender is in here: it cannot be gone.
        let _ = self.0.subscribe().wait_for(|phase| *phase >= wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_said_last_has_two_seconds() {
        let ending = Ending::new();
        ending.linked();
        ending.leave();
        ending.linked();
        ending.left().await;
        assert!(!ending.is_closed());
        let began = Instant::now();
        ending.due().await;
        assert_eq!(began.elapsed(), FLUSH);
        assert!(ending.cut());
        assert!(!ending.cut(), "twice");
        ending.leave();
        ending.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_was_said_nothing_is_waited_for() {
        let began = Instant::now();
        let silent = Ending::new();
        silent.leave();
        silent.due().await;
        assert!(silent.is_closed());
        silent.linked();
        assert!(silent.is_closed(), "a link that comes too late");
        let said = Ending::new();
        said.linked();
        said.leave();
        let other = said.clone();
        tokio::join!(said.due(), async { other.cut() });
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
