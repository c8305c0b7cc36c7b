//! What a purse knows of its mint's keysets.

use cdk::nuts::{Id, KeySet};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use streampay_core::backend::RefusalCode;

use crate::coin::Coin;
use crate::fee::fee_of;

/// One keyset: its full id, its input fee in parts per thousand of the unit. Source: NUT-02.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Known {
    #[n(0)]
    id: ByteVec,
    #[n(1)]
    ppk: u64,
}

/// A mint's keysets of one unit, the active one with the lowest fee first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Keysets {
    #[n(0)]
    known: Vec<Known>,
}

impl Keysets {
    /// The most that are remembered; a mint has one or two of a unit, more after years.
    const MAX: usize = 64;
    /// No honest fee is higher: a whole unit a proof is 1000.
    const PPK_MAX: u64 = 1_000_000;

    /// From what the mint says; none where no keyset is active.
    pub(crate) fn new(mut sets: Vec<KeySet>) -> Option<Self> {
        sets.retain(|set| set.input_fee_ppk <= Self::PPK_MAX);
        sets.sort_by_key(|set| (!set.active.unwrap_or(false), set.input_fee_ppk));
        sets.first().filter(|first| first.active.unwrap_or(false))?;
        let known = sets.iter().take(Self::MAX).map(|set| Known {
            id: set.id.to_bytes().into(),
            ppk: set.input_fee_ppk,
        });
        Some(Self {
            known: known.collect(),
        })
    }

    /// The keyset for new outputs.
    pub(crate) fn active(&self) -> Option<ByteVec> {
        self.known.first().map(|known| known.id.clone())
    }

    /// The ids, those of active keysets first.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let ids = self.known.iter();
        ids.filter_map(|known| Id::from_bytes(&known.id).ok())
            .collect()
    }

    /// What it costs to redeem `coins` together, in the unit.
    ///
    /// # Errors
    /// [`RefusalCode::UnknownKeyset`], or [`RefusalCode::WrongAmount`] of a sum that no fee is.
    pub(crate) fn fee_of(&self, coins: &[Coin]) -> Result<u64, RefusalCode> {
        let ppk = coins.iter().try_fold(0_u64, |total, coin| {
            let ppk = self.ppk_of(coin.keyset_bytes());
            let ppk = ppk.ok_or(RefusalCode::UnknownKeyset)?;
            total.checked_add(ppk).ok_or(RefusalCode::WrongAmount)
        })?;
        Ok(fee_of(ppk))
    }

    pub(crate) fn ppk_of(&self, id: &[u8]) -> Option<u64> {
        self.known
            .iter()
            .find(|known| known.id.as_slice() == id)
            .map(|known| known.ppk)
    }
}
