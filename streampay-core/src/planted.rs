//! Wrong variants of the machines, each a small change that a tired engineer could make: what
//! finds them shows that the judge of the simulator can see. With the feature `planted` one is
//! chosen for a thread by [`dangerous_plant`]; without the feature all of this compiles to
//! nothing.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::backend::BackendError;
#[cfg(feature = "planted")]
use crate::backend::RefusalCode;
use crate::session::Output;

macro_rules! planted {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(
            dead_code,
            unreachable_pub,
            reason = "public, and all of it used, with the feature alone"
        )]
        #[non_exhaustive]
        pub enum Planted {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "planted")]
        impl Planted {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on a command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

planted! {
    /// The payee says what is only in memory.
    AckBeforePersist = "ack-before-persist",
    /// The payer sends a payment that is only in memory.
    PaymentBeforePersist = "payment-before-persist",
    /// A network call runs before what it needs is durable.
    EffectBeforePersist = "effect-before-persist",
    /// What is sent counts as acknowledged.
    CreditOnSend = "credit-on-send",
    /// A payment counts before the mint has said so.
    CreditBeforeMint = "credit-before-mint",
    /// A payment whose fate is unknown counts.
    CreditOnUnknown = "credit-on-unknown",
    /// A refused tick that comes again is tried again.
    ReplayNacked = "replay-nacked",
    /// The number of a tick that was taken back is used for the next.
    SeqReuse = "seq-reuse",
    /// The payee's word is the payer's reading after a reconnect.
    ResumeByHint = "resume-by-hint",
    /// The price is rounded at each reading, not once.
    RoundingPerTick = "rounding-per-tick",
    /// A nack is proof: the tick is back without asking the mint.
    NackBelieved = "nack-believed",
    /// What is in flight is not counted as ahead, and each purse may have one.
    TwoPursesAhead = "two-purses-ahead",
    /// The gate goes on without a durable lease.
    LeaseNotDurable = "lease-not-durable",
    /// A slow peer makes the lead longer than a fifth of a tick.
    LeadUnbounded = "lead-unbounded",
    /// The payee's reading counts without a tolerance.
    DriftUnbounded = "drift-unbounded",
    /// An older receipt replaces a newer one.
    ReceiptNotMonotone = "receipt-not-monotone",
    /// A close does not wait for the payment that is being checked.
    CloseForgetsChecking = "close-forgets-checking",
    /// The session is over once its purses were told to come home.
    ReleaseNotAwaited = "release-not-awaited",
    /// What fees cost is not counted against the budget.
    BudgetIgnoresFees = "budget-ignores-fees",
    /// A hello with another root resumes the session.
    OtherRoot = "other-root",
    /// After a restart the payment under way is sent with another payload.
    PendingChanged = "pending-changed",
    /// A write-off counts twice.
    WriteOffTwice = "write-off-twice",
    /// The payer agrees to a price from an amount that it has paid already.
    PriceFromPaid = "price-from-paid",
    /// The payer takes "unknown" for "failed".
    UnknownIsFailed = "unknown-is-failed",
    /// A store that failed is written and sent past.
    StoreFailureIgnored = "store-failure-ignored",
    /// The gate opens for a payment that is being checked.
    GateBeforeCredit = "gate-before-credit",
    /// Each connection has the preview anew.
    PreviewAgain = "preview-again",
    /// The gate opens for what was given as a tip.
    TipBuysMedia = "tip-buys-media",
    /// The payee offers other terms though the payer may not have heard that its consent is confirmed.
    OfferReplacesAgreed = "offer-replaces-agreed",
    /// A refused payment that stays out counts as taken back.
    OutstandingPaidAgain = "outstanding-paid-again",
    /// The payer's meter counts all that comes while nothing flows.
    MeterRunsWhilePaused = "meter-runs-while-paused",
    /// A pause begins anew with each connection: what may come late in it may come late with each.
    PauseAnew = "pause-anew",
    /// After a restart the payer's backend is not told again what was acknowledged last.
    AckedNotTold = "acked-not-told",
    /// After a restart a tick older than the last one counts as a gap.
    OldTickIsGap = "old-tick-is-gap",
    /// After a restart an older receipt replaces a newer one.
    OldReceiptTaken = "old-receipt-taken",
    /// After a restart an old nack is taken for one of the tick under way.
    OldNackTaken = "old-nack-taken",
    /// After a restart a purse that is shown again is a new one.
    PurseTakenAnew = "purse-taken-anew",
    /// After a restart a backend's machine gives the outcome of a repeated result again. Planted in
    /// the simulator's machine.
    AnswerRepeated = "answer-repeated",
}

#[cfg(feature = "planted")]
mod chosen {
    use core::cell::Cell;

    use super::Planted;

    std::thread_local! {
        static CHOSEN: Cell<Option<Planted>> = const { Cell::new(None) };
        static RESTARTED: Cell<bool> = const { Cell::new(false) };
    }

    /// Plants a bug, or none, in all sessions of this thread.
    pub fn dangerous_plant(planted: Option<Planted>) {
        CHOSEN.set(planted);
    }

    /// Whether the process whose session is driven next has been restarted: what it kept in
    /// memory alone is gone.
    pub fn dangerous_set_restarted(restarted: bool) {
        RESTARTED.set(restarted);
    }

    /// True in a process that has been restarted, where this bug is planted: for bugs that are
    /// planted outside this crate.
    #[must_use]
    pub fn is_planted_after_restart(planted: Planted) -> bool {
        after_restart(planted)
    }

    pub(crate) fn is(planted: Planted) -> bool {
        CHOSEN.get() == Some(planted)
    }

    pub(crate) fn after_restart(planted: Planted) -> bool {
        is(planted) && RESTARTED.get()
    }
}

#[cfg(feature = "planted")]
pub(crate) use chosen::{after_restart, is};
#[cfg(feature = "planted")]
pub use chosen::{dangerous_plant, dangerous_set_restarted, is_planted_after_restart};
#[cfg(feature = "planted")]
pub use fake::dangerous_fake_crypto;

#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Planted) -> bool {
    false
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn after_restart(_: Planted) -> bool {
    false
}

/// True where either bug that takes an older receipt is planted.
pub(crate) fn takes_old_receipt() -> bool {
    is(Planted::ReceiptNotMonotone) || after_restart(Planted::OldReceiptTaken)
}

/// The payment as it is sent.
pub(crate) fn payload(payload: &[u8]) -> Bytes {
    if after_restart(Planted::PendingChanged) {
        return payload.iter().chain(&[0]).copied().collect();
    }
    Bytes::copy_from_slice(payload)
}

/// What a failure is taken for.
pub(crate) fn fate(error: BackendError) -> BackendError {
    #[cfg(feature = "planted")]
    if is(Planted::UnknownIsFailed) && error == BackendError::Unknown {
        return BackendError::Fatal(RefusalCode::Other);
    }
    error
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn reorder(_: &mut VecDeque<Output>, _: bool) {}

/// Moves outputs across the barrier, where a bug that does so is planted.
#[cfg(feature = "planted")]
pub(crate) fn reorder(out: &mut VecDeque<Output>, payer: bool) {
    let early = |output: &Output| match output {
        Output::Send(_) if payer => is(Planted::PaymentBeforePersist),
        Output::Send(_) => is(Planted::AckBeforePersist),
        Output::Effect { .. } => is(Planted::EffectBeforePersist),
        _ => false,
    };
    if !out.iter().any(early) {
        return;
    }
    let mut barriers = out.iter();
    let Some(barrier) = barriers.rposition(|output| matches!(output, Output::Persist(_))) else {
        return;
    };
    let late = out.split_off(barrier);
    let (early, rest): (VecDeque<_>, VecDeque<_>) = late.into_iter().partition(early);
    out.extend(early);
    out.extend(rest);
}

/// Signatures that protect nothing and cost next to nothing: whoever knows the public key can
/// make them.
pub(crate) mod fake {
    #[cfg(feature = "planted")]
    std::thread_local! {
        static ON: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
    }

    /// All keys and signatures of this thread are pretended, or real again.
    #[cfg(feature = "planted")]
    pub fn dangerous_fake_crypto(on: bool) {
        ON.set(on);
    }

    #[cfg(feature = "planted")]
    pub(crate) fn is_on() -> bool {
        ON.get()
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) const fn is_on() -> bool {
        false
    }

    pub(crate) fn public(secret: &[u8; 32]) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(&seal(secret, &[0x55; 32])[..32]);
        key
    }

    /// A keyed hash that no attacker is up against. Source: FNV-1a, over words.
    pub(crate) fn seal(key: &[u8; 32], message: &[u8; 32]) -> [u8; 64] {
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        let mut sealed = [0; 64];
        let (keys, messages) = (key.as_chunks().0, message.as_chunks().0);
        for word in keys.iter().chain(messages) {
            state = (state ^ u64::from_be_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
            state ^= state >> 32;
        }
        for chunk in sealed.chunks_exact_mut(8) {
            state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            chunk.copy_from_slice(&state.to_be_bytes());
        }
        sealed
    }
}
