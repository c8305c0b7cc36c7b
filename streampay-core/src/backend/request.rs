use bytes::Bytes;

use crate::units::{Msat, Seq, XOnlyKey};

/// What both sides know of a purse before it opens: from the signed terms, never from a hint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PurseOffer {
    /// The method's own part of the signed terms: mints and units, a chain, reserves.
    pub params: Bytes,
    /// One tick in millisatoshi, as in the terms: the method rounds it up to its quantum.
    pub tick: Msat,
    /// The payer's session key: what a lock names as the way back. Source: BIP 340.
    pub payer_key: XOnlyKey,
    /// The payee's session key: what a lock names as the receiver. Source: BIP 340.
    pub payee_key: XOnlyKey,
}

/// What a session asks of its backend. `seq` counts the ticks of one purse from 1; `amount` is
/// the tick's own, `cumulative` all ticks of the purse with it.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Payer: open a purse for at most `capacity` of ticks. Ends in
    /// [`Opened`](crate::backend::Outcome::Opened).
    Open {
        /// What was agreed.
        offer: PurseOffer,
        /// The most that ticks of this purse may come to.
        capacity: Msat,
        /// The most that may leave the wallet for it, all fees included.
        budget: Msat,
    },
    /// Payer: a payment of exactly `amount`. Ends in
    /// [`Paid`](crate::backend::Outcome::Paid). The same `seq` again gives the same payload.
    Pay {
        /// Which tick.
        seq: Seq,
        /// What this tick is worth.
        amount: Msat,
        /// All ticks of the purse up to and with it.
        cumulative: Msat,
    },
    /// Payer: the tick `seq` was acknowledged, and all up to it is the payee's for good. It may come
    /// again, also after a restart and while another request is under way, which it leaves as it is;
    /// and it may be one that this machine does not know, where its records are an old backup, or the
    /// payee lies: nothing may be shown, paid or given up that rests on it alone, nor on a
    /// [`Pay`](Self::Pay) whose `cumulative` leaps over what was paid here. No outcome, whatever the purse: one that is not known has nothing to note.
    Acked {
        /// Which tick.
        seq: Seq,
        /// All that was acknowledged of the purse.
        cumulative: Msat,
    },
    /// Payer: find out what became of the refused or unanswered tick `seq`, and take it back if
    /// it can be. Ends in [`Reclaimed`](crate::backend::Outcome::Reclaimed),
    /// [`Outstanding`](crate::backend::Outcome::Outstanding),
    /// [`Spent`](crate::backend::Outcome::Spent) or a failure.
    Reclaim {
        /// Which tick.
        seq: Seq,
    },
    /// Payer: no tick comes any more; take back what was not acknowledged. Ends in
    /// [`Released`](crate::backend::Outcome::Released).
    ///
    /// It may come while an `Open` is under way or was put off: then nothing more leaves the wallet
    /// for it, as far as that is in the machine's hands; what has left, or may have, comes home, and
    /// is not forgotten before that is sure. The `Open` has no outcome after this.
    Release,
    /// The other side's machine left a [note](crate::backend::Answer::note) on this purse; the
    /// payee's comes first, and the payer's answers it while the purse settles. A hint until the
    /// machine has checked it. No outcome of its own.
    Note {
        /// The purse frames, joined.
        bytes: Bytes,
    },
    /// Payee: a payer wants to open a purse with these bytes. Ends in
    /// [`Accepted`](crate::backend::Outcome::Accepted) or a refusal.
    Accept {
        /// What was agreed.
        offer: PurseOffer,
        /// The payer's purse frames, joined.
        opening: Bytes,
    },
    /// Payee: a tick arrived. Ends in [`Credited`](crate::backend::Outcome::Credited) or a
    /// refusal.
    Receive {
        /// Which tick.
        seq: Seq,
        /// What it must be worth.
        amount: Msat,
        /// All ticks of the purse up to and with it.
        cumulative: Msat,
        /// The payment, as the method encodes it.
        payload: Bytes,
    },
    /// Payee: no tick comes any more; make what was credited one's own. Ends in
    /// [`Settled`](crate::backend::Outcome::Settled). It may come again with more, where a payer has
    /// brought a session forward that was restored from a backup.
    Settle {
        /// All that the session credited of the purse: nothing of it may be given back, also where
        /// this machine's records are an old backup and know less.
        cumulative: Msat,
    },
}

/// Payments are secrets: their bytes are not printed.
impl core::fmt::Debug for Request {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Open { capacity, .. } => write!(f, "Open({capacity})"),
            Self::Pay { seq, amount, .. } => write!(f, "Pay({}, {amount})", seq.0),
            Self::Acked { seq, cumulative } => write!(f, "Acked({}, {cumulative})", seq.0),
            Self::Reclaim { seq } => write!(f, "Reclaim({})", seq.0),
            Self::Release => write!(f, "Release"),
            Self::Note { bytes } => write!(f, "Note({} bytes)", bytes.len()),
            Self::Accept { opening, .. } => write!(f, "Accept({} bytes)", opening.len()),
            Self::Receive {
                seq,
                amount,
                payload,
                ..
            } => {
                write!(f, "Receive({}, {amount}, {} bytes)", seq.0, payload.len())
            }
            Self::Settle { cumulative } => write!(f, "Settle({cumulative})"),
        }
    }
}
