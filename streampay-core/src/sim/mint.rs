//! A mint in memory: tokens of one tick each, and who holds them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::backend::{BackendError, Effect, RefusalCode};
use crate::units::{Msat, PurseKey, Seq};

/// Where all the money is.
#[derive(Clone, Debug, Default)]
pub struct FakeMint {
    /// The payer's wallet.
    pub payer: Msat,
    /// The payee's wallet.
    pub payee: Msat,
    /// What somebody else took.
    pub thief: Msat,
    tokens: BTreeMap<(PurseKey, Seq), Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    amount: Msat,
    holder: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Bearer,
    Payee,
    PayerAgain,
    Thief,
}

impl FakeMint {
    /// A mint at which the payer holds `payer` and the payee nothing.
    #[must_use]
    pub fn new(payer: Msat) -> Self {
        Self {
            payer,
            ..Self::default()
        }
    }

    /// All money there is: wallets and tokens that nobody has spent.
    #[must_use]
    pub fn total(&self) -> Msat {
        let unspent = self
            .tokens
            .values()
            .filter(|token| token.holder == Holder::Bearer);
        let spent = [self.payee, self.thief]
            .into_iter()
            .fold(self.payer, Msat::saturating_plus);
        unspent.fold(spent, |sum, token| sum.saturating_plus(token.amount))
    }

    /// Makes a network call. The same call again has the same answer and no further effect.
    ///
    /// # Errors
    /// [`BackendError::Unknown`] for a call that it does not know; `Fatal` where the wallet holds
    /// too little.
    pub fn run(&mut self, effect: &Effect) -> Result<Bytes, BackendError> {
        let call = Call::from_bytes(&effect.body).ok_or(BackendError::Unknown)?;
        match call {
            Call::Issue { count, amount } => self.issue(effect.purse, count, amount),
            Call::Redeem { seq } => self.take(effect.purse, seq, Holder::Payee),
            Call::Reclaim { seq } => self.take(effect.purse, seq, Holder::PayerAgain),
            Call::Make { .. } | Call::Accept { .. } => Ok(Bytes::from_static(&[1])),
            Call::ReclaimAll => {
                let of_purse = self
                    .tokens
                    .keys()
                    .filter(|(purse, _)| *purse == effect.purse);
                let seqs: Vec<Seq> = of_purse.map(|(_, seq)| *seq).collect();
                let mut back = Msat::ZERO;
                for seq in seqs {
                    if self.take(effect.purse, seq, Holder::PayerAgain)?.first() == Some(&1) {
                        let token = self.tokens.get(&(effect.purse, seq));
                        back = back
                            .saturating_plus(token.map(|token| token.amount).unwrap_or_default());
                    }
                }
                Ok(Bytes::copy_from_slice(&back.msat().to_be_bytes()))
            }
        }
    }

    /// Spends a token behind everybody's back, as a thief would, or a payee who then denies it.
    pub fn steal(&mut self, purse: PurseKey, seq: Seq) {
        let _ = self.take(purse, seq, Holder::Thief);
    }

    pub(super) fn has_issued(&self, purse: PurseKey) -> bool {
        self.tokens.contains_key(&(purse, Seq(1)))
    }

    fn issue(&mut self, purse: PurseKey, count: u64, amount: Msat) -> Result<Bytes, BackendError> {
        if !self.tokens.contains_key(&(purse, Seq(1))) {
            let affordable = self
                .payer
                .msat()
                .checked_div(amount.msat())
                .unwrap_or_default();
            let count = count.min(affordable);
            if count == 0 {
                return Err(BackendError::Fatal(RefusalCode::InsufficientFunds));
            }
            let cost = amount.times(count).map_err(|_| BackendError::Unknown)?;
            self.payer = self.payer.saturating_minus(cost);
            for seq in 1..=count {
                self.tokens.insert(
                    (purse, Seq(seq)),
                    Token {
                        amount,
                        holder: Holder::Bearer,
                    },
                );
            }
        }
        let issued = self.tokens.keys().filter(|(of, _)| *of == purse).count();
        Ok(Bytes::copy_from_slice(
            &u64::try_from(issued).unwrap_or(0).to_be_bytes(),
        ))
    }

    fn take(&mut self, purse: PurseKey, seq: Seq, to: Holder) -> Result<Bytes, BackendError> {
        let Some(token) = self.tokens.get_mut(&(purse, seq)) else {
            return Ok(Bytes::from_static(&[0]));
        };
        if token.holder == Holder::Bearer {
            token.holder = to;
            let wallet = match to {
                Holder::Payee => &mut self.payee,
                Holder::Thief => &mut self.thief,
                Holder::PayerAgain | Holder::Bearer => &mut self.payer,
            };
            *wallet = wallet.saturating_plus(token.amount);
        }
        Ok(Bytes::copy_from_slice(&[u8::from(token.holder == to)]))
    }
}

#[derive(Clone, Copy)]
pub(super) enum Call {
    Issue {
        count: u64,
        amount: Msat,
    },
    Redeem {
        seq: Seq,
    },
    Reclaim {
        seq: Seq,
    },
    ReclaimAll,
    /// A payment that must be made at the mint first.
    Make {
        seq: Seq,
        amount: Msat,
    },
    /// An opening that must be checked at the mint.
    Accept {
        capacity: Msat,
    },
}

impl Call {
    pub(super) fn to_bytes(self) -> Bytes {
        let (kind, a, b) = match self {
            Self::Issue { count, amount } => (1, count, amount.msat()),
            Self::Redeem { seq } => (2, seq.0, 0),
            Self::Reclaim { seq } => (3, seq.0, 0),
            Self::ReclaimAll => (4, 0, 0),
            Self::Make { seq, amount } => (5, seq.0, amount.msat()),
            Self::Accept { capacity } => (6, capacity.msat(), 0),
        };
        [&[kind][..], &u64::to_be_bytes(a), &u64::to_be_bytes(b)]
            .concat()
            .into()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, a, b) = (bytes.first()?, read_u64(bytes, 1)?, read_u64(bytes, 9)?);
        Some(match kind {
            1 => Self::Issue {
                count: a,
                amount: Msat::new(b).ok()?,
            },
            2 => Self::Redeem { seq: Seq(a) },
            3 => Self::Reclaim { seq: Seq(a) },
            4 => Self::ReclaimAll,
            5 => Self::Make {
                seq: Seq(a),
                amount: Msat::new(b).ok()?,
            },
            6 => Self::Accept {
                capacity: Msat::new(a).ok()?,
            },
            _ => return None,
        })
    }
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}
