//! Effects of locked ecash, as the machine writes and the runner reads them.

use cdk::nuts::{PublicKey, SecretKey};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use super::drain::Batch;
use crate::chain::{Funded, Funding};
use crate::codec::Undecodable;
use crate::coin::Seed;
use crate::job::{Listed, Place, Plan};
use crate::keysets::Keysets;

/// A funding and the key that its proofs name as receiver.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Locked {
    #[n(0)]
    pub(crate) funding: Funding,
    #[n(1)]
    receiver: ByteArray<33>,
}

impl Locked {
    pub(crate) fn new(funding: Funding, receiver: PublicKey) -> Self {
        Self {
            funding,
            receiver: receiver.to_bytes().into(),
        }
    }

    pub(crate) fn funded(&self) -> Result<Funded, Undecodable> {
        let receiver = PublicKey::from_slice(&*self.receiver).map_err(|_| Undecodable)?;
        let funding = self.funding.clone();
        funding.with_receiver(receiver).ok_or(Undecodable)
    }
}

/// 32 bytes that are as good as money.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Secret32(#[n(0)] ByteArray<32>);

impl Secret32 {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn key(&self) -> Result<SecretKey, Undecodable> {
        SecretKey::from_slice(&*self.0).map_err(|_| Undecodable)
    }
}

impl core::fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret32(..)")
    }
}

impl Drop for Secret32 {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut *self.0);
    }
}

/// What a purse is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Agreed {
    /// `cashu-chain`, else `cashu-p2pk`.
    #[n(0)]
    pub(crate) chain: bool,
    #[n(1)]
    pub(crate) lock_s: u64,
    #[n(2)]
    pub(crate) margin_s: u64,
    #[n(3)]
    pub(crate) max_fee_ppk: u64,
}

/// Who spends, by what right.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Right {
    /// The payee: with its key, and the preimage of a step from which it derives the older ones.
    #[n(0)]
    Receive {
        #[n(0)]
        key: Secret32,
        #[n(1)]
        step: u64,
        #[n(2)]
        preimage: Option<Secret32>,
    },
    /// The payer: with the payee's signatures and its own preimages.
    #[n(1)]
    Release {
        #[n(0)]
        release: ByteVec,
        #[n(1)]
        top: Secret32,
    },
    /// The payer, after the locktime: with its refund key.
    #[n(2)]
    Refund {
        #[n(0)]
        key: Secret32,
    },
}

impl Right {
    pub(crate) const fn is_payer(&self) -> bool {
        matches!(self, Self::Release { .. } | Self::Refund { .. })
    }
}

/// The body of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum LockedJob {
    /// Payer: reserve money in a wallet, draw the purse's seed, learn the mint's time.
    #[n(0)]
    Plan {
        #[n(0)]
        mints: Vec<Listed>,
        #[n(1)]
        budget: u64,
        #[n(2)]
        agreed: Agreed,
    },
    /// Payer: swap what is reserved into locked proofs.
    #[n(1)]
    Fund {
        #[n(0)]
        plan: Plan,
        /// Without its pieces.
        #[n(1)]
        locked: Locked,
        #[n(2)]
        again: bool,
        /// By the mint's clock: later it is planned anew.
        #[n(3)]
        latest: u64,
    },
    /// Payee: check an opening, and draw the purse's seed.
    #[n(2)]
    Verify {
        #[n(0)]
        place: Place,
        #[n(1)]
        locked: Locked,
        #[n(2)]
        agreed: Agreed,
        /// Why it is refused at first sight: then it is only asked whether its proofs are the
        /// mint's.
        #[n(3)]
        misfit: Option<u16>,
    },
    /// Either: learn the mint's time, and which proofs from a number on are spent.
    #[n(3)]
    Check {
        #[n(0)]
        place: Place,
        #[n(1)]
        locked: Locked,
        #[n(2)]
        from: u64,
        /// A payee's, of a purse from which something was credited and is not home.
        #[n(3)]
        earned: bool,
    },
    /// Either: swap locked proofs into the wallet.
    #[n(4)]
    Redeem {
        #[n(0)]
        place: Place,
        #[n(1)]
        locked: Locked,
        #[n(2)]
        batch: Batch,
        /// The proofs' own bytes, in the batch's order.
        #[n(3)]
        pieces: ByteVec,
        #[n(4)]
        right: Right,
        #[n(5)]
        seed: Seed,
        /// True where it may have reached the mint before: look first, then swap.
        #[n(6)]
        again: bool,
    },
    /// Payee: sign the rest over to the payer.
    #[n(5)]
    Sign {
        #[n(0)]
        locked: Locked,
        #[n(1)]
        from: u64,
        #[n(2)]
        key: Secret32,
        /// The last step whose preimage is known, where the payer has to show a newer one.
        #[n(3)]
        known: Option<u64>,
    },
    /// Payer: check the payee's signatures.
    #[n(6)]
    CheckRelease {
        #[n(0)]
        locked: Locked,
        #[n(1)]
        release: ByteVec,
    },
    /// Payee, `cashu-p2pk`: check the proofs of one step.
    #[n(7)]
    VerifyStep {
        #[n(0)]
        place: Place,
        #[n(1)]
        locked: Locked,
        #[n(2)]
        step: u64,
        #[n(3)]
        pieces: ByteVec,
        #[n(4)]
        agreed: Agreed,
    },
    /// Either: what the wallet's ledger says came home from this purse.
    #[n(8)]
    Ledger {
        #[n(0)]
        place: Place,
        #[n(1)]
        payer: bool,
    },
    /// Either: outputs of batches that our records do not know, for they were restored from a backup.
    /// What of them is unspent comes into the wallet.
    #[n(9)]
    Find {
        #[n(0)]
        place: Place,
        #[n(1)]
        seed: Seed,
        /// The first batch that is looked for.
        #[n(2)]
        from: u64,
        #[n(3)]
        payer: bool,
    },
    /// Payer: a funding failed for good, and that is durable. What of its inputs is unspent goes back.
    #[n(10)]
    Forget {
        #[n(0)]
        plan: Plan,
    },
}

impl LockedJob {
    /// True where it brings home what a purse has earned, or has to come before that.
    pub(crate) const fn is_redeeming(&self) -> bool {
        match self {
            Self::Redeem { .. } => true,
            Self::Check { earned, .. } => *earned,
            // A payee looks only for what was credited.
            Self::Find { payer, .. } => !*payer,
            _ => false,
        }
    }

    /// Where it asks the mint; none where it asks nobody, the mint is yet to be chosen, or its calls
    /// are paced one by one.
    pub(crate) const fn place(&self) -> Option<&Place> {
        match self {
            Self::Fund { plan, .. } | Self::Forget { plan } => Some(&plan.place),
            Self::Check { place, .. } | Self::Redeem { place, .. } | Self::Find { place, .. } => {
                Some(place)
            }
            // Of a stranger's opening most is found out without the mint.
            Self::Verify { .. }
            | Self::Plan { .. }
            | Self::Sign { .. }
            | Self::CheckRelease { .. }
            | Self::VerifyStep { .. }
            | Self::Ledger { .. } => None,
        }
    }
}

/// The good end of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum LockedDone {
    #[n(0)]
    Planned {
        #[n(0)]
        plan: Plan,
        #[n(1)]
        time_s: u64,
        #[n(2)]
        ppk: u64,
    },
    /// The proofs' own bytes, in order.
    #[n(1)]
    Funded(#[n(0)] ByteVec),
    /// The plan cannot be carried out any more, and nothing happened: plan again.
    #[n(2)]
    PlanAgain,
    #[n(3)]
    Verified {
        #[n(0)]
        time_s: u64,
        #[n(1)]
        ppk: u64,
        #[n(2)]
        keysets: Keysets,
        #[n(3)]
        seed: Seed,
    },
    #[n(4)]
    Checked {
        #[n(0)]
        time_s: u64,
        #[n(1)]
        spent: Vec<u64>,
    },
    #[n(5)]
    Swapped,
    /// These of the batch were spent by somebody else.
    #[n(6)]
    SomeSpent(#[n(0)] Vec<u64>),
    /// The mint does not take the outputs' keyset any more; it has these.
    #[n(7)]
    OtherKeysets(#[n(0)] Keysets),
    #[n(8)]
    Signed(#[n(0)] ByteVec),
    #[n(9)]
    Good,
    #[n(10)]
    Sum(#[n(0)] u64),
    /// It is refused, for this reason, though its proofs are locked to us and the mint's.
    #[n(11)]
    Refused(#[n(0)] u16),
    /// Its proofs are locked to us and the mint's; about all else the mint could not be asked.
    #[n(12)]
    Proven,
    /// The newest batch of which the mint has signed outputs, 0 where there is none; and how many were
    /// made blindly.
    #[n(13)]
    Found(#[n(0)] u64, #[n(1)] u64),
    /// The batch does not come to what its outputs do: the mint takes another fee. It has these.
    #[n(14)]
    OtherFee(#[n(0)] Keysets),
    /// The mint has signed the batch's outputs for another one: its number was used before.
    #[n(15)]
    NumberUsed,
}
