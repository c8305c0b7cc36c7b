//! Effects as the machine writes and the runner reads them.

use cdk::nuts::Id;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::units::PurseKey;

use crate::codec::Undecodable;
use crate::coin::{Coin, Seed};
use crate::keysets::Keysets;
use crate::locked::job::{LockedDone, LockedJob};
use crate::params::AcceptedMint;

/// Where a purse's money is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Place {
    #[n(0)]
    pub(crate) mint: String,
    #[n(1)]
    pub(crate) unit: String,
    /// What the wallet's records name the purse by.
    #[n(2)]
    pub(crate) operation: ByteArray<16>,
}

impl Place {
    pub(crate) fn new(key: PurseKey, mint: &str, unit: &str) -> Self {
        Self {
            mint: mint.to_owned(),
            unit: unit.to_owned(),
            operation: operation(key).into_bytes().into(),
        }
    }

    pub(crate) fn operation(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(*self.operation)
    }
}

/// A mint of the payee's list that the payer goes along with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Listed {
    #[n(0)]
    pub(crate) place: Place,
    /// What a tick is there, in the unit.
    #[n(1)]
    pub(crate) tick: u64,
    /// The most ticks of a purse there.
    #[n(2)]
    pub(crate) count: u64,
}

impl Listed {
    /// Those where a tick of `tick` costs at most `price_max` thousandths of it, rounded up to the
    /// unit as it is paid, for up to `count` of them.
    pub(crate) fn all(
        key: PurseKey,
        mints: &[AcceptedMint],
        (tick, count): (u64, u64),
        price_max: u64,
    ) -> Vec<Self> {
        let mints = mints.iter();
        let most = u128::from(tick).saturating_mul(u128::from(price_max));
        let cost = |mint: &AcceptedMint| u128::from(mint.price_of(tick)).saturating_mul(1_000);
        let fit = mints.filter(|mint| cost(mint) <= most);
        let listed = fit.map(|mint| Self {
            place: Place::new(key, mint.url(), mint.unit()),
            tick: mint.price_of(tick),
            count: count.min(mint.ticks_max(tick)),
        });
        listed.filter(|listed| listed.count > 0).collect()
    }
}

pub(crate) fn places(listed: &[Listed]) -> Vec<Place> {
    listed.iter().map(|listed| listed.place.clone()).collect()
}

/// The purse's name in a cdk wallet: proofs reserved by it and transactions carry it.
pub(crate) fn operation(key: PurseKey) -> uuid::Uuid {
    use bitcoin_hashes::{Hash, HashEngine, sha256};
    let mut engine = sha256::Hash::engine();
    engine.input(b"streampay/cashu-swap/operation/v1");
    engine.input(&key.session.0);
    engine.input(&key.purse.0.to_be_bytes());
    let digest = sha256::Hash::from_engine(engine).to_byte_array();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    uuid::Uuid::from_bytes(bytes)
}

/// How a purse is going to be split: durable before the mint hears of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Plan {
    #[n(0)]
    pub(crate) place: Place,
    #[n(1)]
    pub(crate) keyset: ByteVec,
    #[n(2)]
    pub(crate) seed: Seed,
    /// The wallet's proofs that go in, by their Y. They are reserved in the wallet.
    #[n(3)]
    pub(crate) inputs: Vec<ByteArray<33>>,
    /// The amounts of one token's proofs; every token has the same.
    #[n(4)]
    pub(crate) token: Vec<u64>,
    #[n(5)]
    pub(crate) count: u64,
    /// The amounts that go back into the wallet at once.
    #[n(6)]
    pub(crate) change: Vec<u64>,
    /// The fee of splitting, in the unit.
    #[n(7)]
    pub(crate) fee: u64,
}

impl Plan {
    /// The amounts of all that it makes: the tokens, then the change.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = u64> {
        let tokens = (0..self.count).flat_map(|_| self.token.iter().copied());
        tokens.chain(self.change.iter().copied())
    }

    pub(crate) fn keyset(&self) -> Result<Id, Undecodable> {
        Id::from_bytes(&self.keyset).map_err(|_| Undecodable)
    }
}

/// A swap of coins, seen by somebody else too, for coins that only this wallet knows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SwapIn {
    #[n(0)]
    pub(crate) place: Place,
    #[n(1)]
    pub(crate) coins: Vec<Coin>,
    /// Root of the outputs; every run has the same outputs.
    #[n(2)]
    pub(crate) seed: Seed,
    #[n(3)]
    pub(crate) keyset: ByteVec,
    /// What the outputs come to, in the unit.
    #[n(4)]
    pub(crate) net: u64,
    /// True where it may have reached the mint before: look first, then swap.
    #[n(5)]
    pub(crate) again: bool,
    /// True for the payer's own coins coming back, false for a payment.
    #[n(6)]
    pub(crate) own: bool,
}

impl SwapIn {
    pub(crate) fn keyset(&self) -> Result<Id, Undecodable> {
        Id::from_bytes(&self.keyset).map_err(|_| Undecodable)
    }
}

/// The body of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Job {
    /// Payer: reserve money in a wallet and draw the purse's seed.
    #[n(0)]
    Plan {
        #[n(0)]
        mints: Vec<Listed>,
        /// What may leave the wallet in all.
        #[n(1)]
        budget: u64,
        /// The most of a tick that its token may cost on top, in thousandths.
        #[n(2)]
        max_fee_permille: u64,
    },
    /// Payer: split what is reserved into tokens.
    #[n(1)]
    Fund {
        #[n(0)]
        plan: Plan,
        #[n(1)]
        again: bool,
    },
    /// Payee: learn the mint's keysets and draw the purse's seed.
    #[n(2)]
    Keysets {
        #[n(0)]
        place: Place,
        #[n(1)]
        refresh: bool,
    },
    /// Either: swap coins into the wallet.
    #[n(3)]
    SwapIn {
        #[n(0)]
        swap: SwapIn,
    },
    /// Payer: unsent tokens go back to the wallet, spent ones out of it.
    #[n(4)]
    Finish {
        #[n(0)]
        place: Place,
        #[n(1)]
        unsent: Vec<Coin>,
        #[n(2)]
        gone: Vec<Coin>,
    },
    /// Payee: what the wallet says it received from this purse.
    #[n(5)]
    Received {
        #[n(0)]
        place: Place,
    },
    /// Payer: a purse that never came to a mint; frees what any listed mint's wallet reserves.
    #[n(6)]
    Abandon {
        #[n(0)]
        mints: Vec<Place>,
    },
    /// Of the methods with locked ecash.
    #[n(7)]
    Locked(#[n(0)] Box<LockedJob>),
}

impl Job {
    /// True where it brings home what a purse has earned, before its lock runs out.
    pub(crate) fn is_redeeming(&self) -> bool {
        match self {
            Self::Locked(job) => job.is_redeeming(),
            _ => false,
        }
    }

    /// The mint that it asks, where that is known beforehand.
    pub(crate) fn mint(&self) -> Option<&str> {
        let place = match self {
            Self::Fund { plan, .. } => &plan.place,
            Self::Keysets { place, .. } => place,
            Self::SwapIn { swap } => &swap.place,
            Self::Locked(job) => job.place()?,
            // Of our own store alone, or of a mint yet to be chosen.
            Self::Plan { .. }
            | Self::Finish { .. }
            | Self::Received { .. }
            | Self::Abandon { .. } => return None,
        };
        Some(&place.mint)
    }
}

/// The good end of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Done {
    #[n(0)]
    Planned(#[n(0)] Plan),
    /// The tokens' coins in order, `token.len()` for each token.
    #[n(1)]
    Funded(#[n(0)] Vec<Coin>, #[n(1)] Keysets),
    /// The mint did not take the plan's keyset any more: plan again.
    #[n(2)]
    PlanAgain,
    #[n(3)]
    Keysets(#[n(0)] Keysets, #[n(1)] Seed),
    #[n(4)]
    Swapped,
    /// Somebody else spent the coins.
    #[n(5)]
    SpentElsewhere,
    /// The mint does not take the outputs' keyset any more; it has these.
    #[n(6)]
    OtherKeysets(#[n(0)] Keysets),
    /// A sum from the wallet's own ledger, in the unit.
    #[n(7)]
    Sum(#[n(0)] u64),
    /// Of the methods with locked ecash.
    #[n(8)]
    Locked(#[n(0)] LockedDone),
    /// The coins do not come to what the outputs do: the mint takes another fee. It has these.
    #[n(9)]
    OtherFee(#[n(0)] Keysets),
}

#[cfg(test)]
mod tests {
    use streampay_core::units::{PurseId, SessionId};

    use super::*;

    #[test]
    fn mint_is_within_the_cap_by_what_a_tick_costs_there() {
        let key = PurseKey {
            session: SessionId([1; 32]),
            purse: PurseId(0),
        };
        let mint = AcceptedMint::sat("https://mint.example").unwrap();
        for (price, tick, within) in [
            (1_000, 1, true),
            (1_001, 1, false),
            (1_001, 9, false),
            (1_001, 10, true),
            (1_100, 10, true),
            (1_101, 1_000, false),
            (900, 1, true),
        ] {
            let priced = mint.clone().with_price_permille(price).unwrap();
            let listed = Listed::all(key, &[priced], (tick, 5), 1_100);
            assert_eq!(listed.len(), usize::from(within), "{price} {tick}");
        }
    }
}
