//! The good end of an effect, in words.

use cdk::Amount;
use cdk::nuts::{CurrencyUnit, Id, KeySet, Keys, Proof, PublicKey};
use cdk::secret::Secret;
use serde::{Deserialize, Serialize};
use streampay_core::backend::EffectResult;
use streampay_core::units::{EffectId, PurseKey};

use super::call::Coins;
use super::text::{Hex, Int};
use crate::codec;
use crate::coin::{Coin, Seed, to_hex};
use crate::job::{Done, Place, Plan};
use crate::keysets::Keysets;
use crate::locked::drain::FIND_LAST;
use crate::locked::job::LockedDone;

/// How a [`Call`](super::Call) ended, where it did not fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Called {
    /// What a purse will be.
    Planned {
        /// The mint that was chosen.
        mint: String,
        /// The unit.
        unit: String,
        /// The keyset of all outputs.
        keyset: Hex,
        /// 64 random bytes: all secrets of the purse derive from them.
        seed: Hex,
        /// The Ys of the proofs that go in.
        inputs: Vec<Hex>,
        /// The amounts of one step's proofs.
        amounts: Vec<Int>,
        /// How many steps.
        count: Int,
        /// Amounts that go back into the wallet.
        change: Vec<Int>,
        /// The fee of the swap.
        fee: Int,
        /// The mint's time. Locked ecash alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<Int>,
        /// The keyset's fee for an input. Locked ecash alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ppk: Option<Int>,
    },
    /// The mint signed.
    Funded {
        /// Locked ecash: 97 bytes a proof.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proofs: Option<Hex>,
        /// Plain ecash, token by token.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        coins: Vec<Coins>,
        /// With plain ecash: what the mint has.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keysets: Vec<KeysetFee>,
    },
    /// Nothing happened, and it cannot any more: plan again.
    PlanAgain {},
    /// What the mint has, and 64 random bytes for the own outputs.
    Keysets {
        /// Active ones first.
        keysets: Vec<KeysetFee>,
        /// The seed.
        seed: Hex,
    },
    /// An opening is good.
    Verified {
        /// The mint's time.
        time: Int,
        /// The keyset's fee for an input.
        ppk: Int,
        /// What the mint has.
        keysets: Vec<KeysetFee>,
        /// 64 random bytes for the own outputs.
        seed: Hex,
    },
    /// An opening of `cashu-chain` is refused, though its proofs are the mint's and locked to the
    /// payee's key.
    Refused {
        /// Why.
        code: Int,
    },
    /// The proofs of an opening of `cashu-chain` are the mint's and locked to the payee's key; about
    /// all else the mint could not be asked.
    Proven {},
    /// What the mint knows.
    Checked {
        /// Its time.
        time: Int,
        /// The numbers of the proofs that are spent or pending.
        spent: Vec<Int>,
    },
    /// The outputs are signed.
    Swapped {},
    /// Somebody else spent all that went in.
    SpentElsewhere {},
    /// Somebody else spent these.
    SomeSpent {
        /// Their numbers.
        numbers: Vec<Int>,
    },
    /// The mint does not sign with the outputs' keyset any more.
    OtherKeysets {
        /// What it has.
        keysets: Vec<KeysetFee>,
    },
    /// A release.
    Signed {
        /// Its bytes.
        release: Hex,
    },
    /// The newest batch of which the mint has signed outputs.
    Found {
        /// Its number; 0 where there is none.
        batch: Int,
    },
    /// It verifies.
    Good {},
    /// What came home, in the unit.
    Sum {
        /// The amount.
        sum: Int,
    },
}

/// A keyset of a mint and its fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeysetFee {
    /// The full id.
    pub id: Hex,
    /// For an input, in thousandths of the unit.
    pub ppk: Int,
    /// Whether the mint signs with it.
    pub active: bool,
}

impl Called {
    /// As the machine of locked ecash takes it, or that of `cashu-swap`; none where it is no end of
    /// a call of that machine, or does not fit itself.
    #[must_use]
    pub fn result(self, purse: PurseKey, id: EffectId, locked: bool) -> Option<EffectResult> {
        let done = match locked {
            true => Done::Locked(self.locked(purse)?),
            false => self.plain(purse)?,
        };
        Some(EffectResult {
            purse,
            id,
            result: Ok(codec::encode(&done).into()),
        })
    }

    fn locked(self, purse: PurseKey) -> Option<LockedDone> {
        Some(match self {
            Self::Planned { time, ppk, .. } => {
                let (time_s, ppk) = (time?.0, ppk?.0);
                let plan = self.plan(purse)?;
                LockedDone::Planned { plan, time_s, ppk }
            }
            Self::Funded { proofs, .. } => LockedDone::Funded(proofs?.0.into()),
            Self::PlanAgain {} => LockedDone::PlanAgain,
            Self::Verified {
                time,
                ppk,
                keysets,
                seed,
            } => LockedDone::Verified {
                time_s: time.0,
                ppk: ppk.0,
                keysets: known(keysets)?,
                seed: seed_of(&seed)?,
            },
            Self::Refused { code } => LockedDone::Refused(code.0.try_into().ok()?),
            Self::Proven {} => LockedDone::Proven,
            Self::Checked { time, spent } => LockedDone::Checked {
                time_s: time.0,
                spent: numbers(spent),
            },
            Self::Swapped {} => LockedDone::Swapped,
            Self::SomeSpent { numbers: spent } => LockedDone::SomeSpent(numbers(spent)),
            Self::OtherKeysets { keysets } => LockedDone::OtherKeysets(known(keysets)?),
            Self::Signed { release } => LockedDone::Signed(release.0.into()),
            // One of those that are made blindly says nothing of the others.
            Self::Found { batch } => match batch.0.checked_sub(FIND_LAST) {
                Some(blind) if blind > 0 => LockedDone::Found(0, blind),
                _ => LockedDone::Found(batch.0, 0),
            },
            Self::Good {} => LockedDone::Good,
            Self::Sum { sum } => LockedDone::Sum(sum.0),
            Self::Keysets { .. } | Self::SpentElsewhere {} => return None,
        })
    }

    fn plain(self, purse: PurseKey) -> Option<Done> {
        Some(match self {
            Self::Planned { .. } => Done::Planned(self.plan(purse)?),
            Self::Funded { coins, keysets, .. } => {
                let coins = coins.iter().map(coin).collect::<Option<_>>()?;
                Done::Funded(coins, known(keysets)?)
            }
            Self::PlanAgain {} => Done::PlanAgain,
            Self::Keysets { keysets, seed } => Done::Keysets(known(keysets)?, seed_of(&seed)?),
            Self::Swapped {} => Done::Swapped,
            Self::SpentElsewhere {} => Done::SpentElsewhere,
            Self::OtherKeysets { keysets } => Done::OtherKeysets(known(keysets)?),
            Self::Sum { sum } => Done::Sum(sum.0),
            _ => return None,
        })
    }

    fn plan(self, purse: PurseKey) -> Option<Plan> {
        let Self::Planned {
            mint,
            unit,
            keyset,
            seed,
            inputs,
            amounts,
            count,
            change,
            fee,
            ..
        } = self
        else {
            return None;
        };
        let ys = inputs.into_iter().map(|y| {
            let y: Option<[u8; 33]> = y.0.try_into().ok();
            y.map(Into::into)
        });
        Some(Plan {
            place: Place::new(purse, &mint, &unit),
            keyset: keyset.0.into(),
            seed: seed_of(&seed)?,
            inputs: ys.collect::<Option<_>>()?,
            token: numbers(amounts),
            count: count.0,
            change: numbers(change),
            fee: fee.0,
        })
    }
}

fn numbers(ints: Vec<Int>) -> Vec<u64> {
    ints.into_iter().map(|int| int.0).collect()
}

fn seed_of(seed: &Hex) -> Option<Seed> {
    seed.0.as_slice().try_into().ok().map(Seed::new)
}

fn coin(coins: &Coins) -> Option<Coin> {
    let proof = Proof::new(
        Amount::from(coins.amount.0),
        Id::from_bytes(&coins.keyset.0).ok()?,
        Secret::new(to_hex(&coins.secret.0)),
        PublicKey::from_slice(&coins.c.0).ok()?,
    );
    Coin::from_proof(&proof)
}

fn known(keysets: Vec<KeysetFee>) -> Option<Keysets> {
    let sets = keysets.into_iter().map(|keyset| {
        Some(KeySet {
            id: Id::from_bytes(&keyset.id.0).ok()?,
            unit: CurrencyUnit::Sat,
            active: Some(keyset.active),
            keys: Keys::new(Default::default()),
            input_fee_ppk: keyset.ppk.0,
            final_expiry: None,
        })
    });
    Keysets::new(sets.collect::<Option<_>>()?)
}
