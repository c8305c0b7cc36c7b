//! One session, as it is seen.

use std::time::Instant;

use streampay_core::session::Event;
use streampay_core::units::Msat;

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stands {
    /// Connected, and nothing was paid over this connection yet.
    Connected,
    /// Paying.
    Streaming,
    /// Nothing flows.
    Paused,
    /// The connection is gone; it may come back.
    Away,
    /// Closed, and its money is on the way.
    Closing,
    /// Closed, and some money could not be brought home yet.
    Unsettled,
    /// All money is where it belongs.
    Settled,
}

impl Stands {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Connected,
        Self::Streaming,
        Self::Paused,
        Self::Away,
        Self::Closing,
        Self::Unsettled,
        Self::Settled,
    ];

    /// A word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Streaming => "streaming",
            Self::Paused => "paused",
            Self::Away => "away",
            Self::Closing => "closing",
            Self::Unsettled => "unsettled",
            Self::Settled => "settled",
        }
    }

    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Settled)
    }
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How it stands.
    pub stands: Stands,
    /// Why it waits or ended.
    pub why: Option<String>,
    /// All that it has paid; none while that is not known again after a restart.
    pub paid: Option<Msat>,
    /// What it gave beside the media.
    pub tips: Msat,
    /// Payments since the process began.
    pub ticks: u64,
    /// When it was first seen by this process.
    pub since: Instant,
    /// When something last happened.
    pub last: Instant,
}

impl Row {
    pub(super) const fn new(resumed: bool, now: Instant) -> Self {
        Self {
            stands: Stands::Connected,
            why: None,
            // What was paid before the process began is told by the next payment.
            paid: if resumed { None } else { Some(Msat::ZERO) },
            tips: Msat::ZERO,
            ticks: 0,
            since: now,
            last: now,
        }
    }

    /// What this brought in.
    pub(super) fn note(&mut self, event: &Event, now: Instant) -> Msat {
        self.last = now;
        let mut received = Msat::ZERO;
        let (stands, why) = match event {
            Event::Bound { .. } => (Stands::Connected, None),
            Event::TickReceived { total, .. } => {
                received = total.saturating_minus(self.paid.unwrap_or(*total));
                self.paid = Some(*total);
                self.ticks = self.ticks.saturating_add(1);
                match self.stands {
                    // A late one changes nothing.
                    Stands::Connected | Stands::Streaming => (Stands::Streaming, None),
                    stands => (stands, self.why.take()),
                }
            }
            Event::TipReceived { tips, .. } => {
                self.tips = *tips;
                return received;
            }
            Event::Paused { reason, .. } => (Stands::Paused, Some(reason.to_string())),
            Event::Resumed => (Stands::Streaming, None),
            Event::LinkDown => (Stands::Away, None),
            Event::Closed { code, .. } => (Stands::Closing, Some(code.to_string())),
            Event::Unsettled { error, .. } => (Stands::Unsettled, Some(error.to_string())),
            Event::Settled { .. } => (Stands::Settled, self.why.take()),
            _ => return received,
        };
        // What is closed is not opened by a word that comes late.
        let ends = stands >= Stands::Closing;
        if ends || self.stands < Stands::Closing {
            self.stands = stands;
            self.why = why;
        }
        received
    }
}
