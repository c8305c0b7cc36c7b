//! What went wrong, and what came back, counted by kind.

use super::messages::MessageCounts;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault, crash or recovery.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All kinds and how they are printed.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $text),)*];
        }
    };
}

kinds! {
    /// A message was lost.
    Lost = "message lost",
    /// A message came twice.
    Repeated = "message repeated",
    /// A message was overtaken, by up to 3 s.
    Reordered = "message overtaken",
    /// A message came up to 90 s late.
    Delayed = "message late by up to 90 s",
    /// A connection broke.
    Broken = "connection broken",
    /// Nothing came through though the connection stood.
    Partition = "partition",
    /// A clock on the wall jumped by up to 24 h.
    Skew = "wall clock skewed",
    /// The mint was away.
    MintAway = "mint away",
    /// The mint did it, and its answer was lost.
    AnswerLost = "answer of the mint lost",
    /// The mint did nothing, and its answer was lost.
    CallLost = "call to the mint lost",
    /// The mint refused what was good.
    MintRefused = "mint refused",
    /// The mint answered up to 90 s late.
    AnswerLate = "answer late",
    /// The mint's answer came twice.
    AnswerTwice = "answer twice",
    /// The mint's answer was nonsense.
    AnswerWrong = "answer wrong",
    /// The mint never answered; the caller gave up.
    AnswerNever = "answer never",
    /// Somebody else spent a payment under way.
    Stolen = "payment stolen",
    /// A write to a store failed.
    WriteFailed = "write failed",
    /// A stranger said hello in the payer's name.
    Stranger = "stranger",
    /// A user paused.
    UserPause = "user paused",
    /// The payee sent on through the payer's pause.
    SentOn = "payee sent on while paused",
    /// And again on the next connection of the same pause.
    SentOnAgain = "payee sent on over a reconnect",
    /// A user closed.
    UserClose = "user closed",
    /// A user gave a tip.
    UserTip = "user tipped",
    /// A user asked for a receipt.
    UserReceipt = "user asked for a receipt",
    /// Other terms were offered.
    Offer = "terms offered",
    /// And others within seconds.
    OfferAgain = "terms offered again within seconds",
    /// Payer died before a write.
    PayerPersistLost = "payer died before a write",
    /// Payer died in a write.
    PayerPersistTorn = "payer died in a write",
    /// Payer died after a write.
    PayerPersistDone = "payer died after a write",
    /// Payer died before it sent.
    PayerSend = "payer died before a send",
    /// Payer died before it asked its backend.
    PayerBackend = "payer died before a request",
    /// Payer died before a network call.
    PayerEffect = "payer died before a call",
    /// Payer died before it told its user.
    PayerEvent = "payer died before an event",
    /// Payee died before a write.
    PayeePersistLost = "payee died before a write",
    /// Payee died in a write.
    PayeePersistTorn = "payee died in a write",
    /// Payee died after a write.
    PayeePersistDone = "payee died after a write",
    /// Payee died before it sent.
    PayeeSend = "payee died before a send",
    /// Payee died before it asked its backend.
    PayeeBackend = "payee died before a request",
    /// Payee died before a network call.
    PayeeEffect = "payee died before a call",
    /// Payee died before it told its gate.
    PayeeGate = "payee died before the gate heard",
    /// Payee died before it told its user.
    PayeeEvent = "payee died before an event",
    /// Died again on the way back.
    DoubleCrash = "died again while coming back",
    /// A torn file of redb was opened again.
    TornOpened = "torn file opened again",
    /// Sessions taken up from the store by the payer.
    PayerRestored = "payer restored from its store",
    /// Sessions taken up from the store by the payee.
    PayeeRestored = "payee restored from its store",
    /// A connection resumed a session.
    Resumed = "session resumed",
    /// A refused payment came back.
    Reclaimed = "payment taken back",
    /// A refused payment cannot come back before its purse does.
    StaysOut = "refused payment stays out",
    /// A stolen payment was written off.
    WrittenOff = "payment written off",
    /// Drift was consented to.
    DriftPaused = "paused for drift",
    /// Other terms began.
    TermsBegan = "other terms began",
    /// A tip was credited.
    Tipped = "tip credited",
    /// A session that could not settle was taken up again.
    Recovered = "settled by recover",
    /// A session began.
    Begun = "session begun",
    /// A session settled.
    Settled = "session settled",
}

impl Kind {
    /// True for what counts as a fault of an hour.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        !matches!(
            self,
            Self::TornOpened
                | Self::PayerRestored
                | Self::PayeeRestored
                | Self::Resumed
                | Self::Reclaimed
                | Self::StaysOut
                | Self::WrittenOff
                | Self::DriftPaused
                | Self::TermsBegan
                | Self::Tipped
                | Self::Recovered
                | Self::Begun
                | Self::Settled
        )
    }
}

/// Counts by kind.
#[derive(Clone, Debug)]
pub struct Counts {
    kinds: Vec<u64>,
    /// The same by messages.
    pub messages: MessageCounts,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            kinds: vec![0; Kind::ALL.len()],
            messages: MessageCounts::default(),
        }
    }
}

impl Counts {
    /// One more of this kind.
    pub fn add(&mut self, kind: Kind) {
        if let Some(count) = Kind::ALL
            .iter()
            .zip(&mut self.kinds)
            .find(|((of, _), _)| *of == kind)
        {
            *count.1 = count.1.saturating_add(1);
        }
    }

    /// All of another's.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.kinds.iter_mut().zip(&other.kinds) {
            *count = count.saturating_add(*more);
        }
        self.messages.merge(&other.messages);
    }

    /// Each kind, its text and its count.
    pub fn each(&self) -> impl Iterator<Item = (Kind, &'static str, u64)> + '_ {
        let kinds = Kind::ALL.iter().zip(&self.kinds);
        kinds.map(|((kind, text), count)| (*kind, *text, *count))
    }
}
