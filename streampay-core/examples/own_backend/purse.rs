//! One purse, as its record has it.

use streampay_core::backend::{Opened, Outcome};
use streampay_core::units::{EffectId, Msat, Now, Unix};

use super::bank::{Call, Escrow};

/// How long before a purse's end nothing is paid or credited any more, in seconds: so long the
/// bank can be away. Chosen arbitrarily.
const MARGIN_S: u64 = 600;

/// What the session has asked and waits for. Not durable: it asks again after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Open,
    Accept,
    Settle,
    Release,
}

/// How far a purse is. The number is the record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Payer: the deposit is, or may be, under way.
    Planned = 1,
    /// Ticks flow.
    Open = 2,
    /// Payee: being redeemed. Payer: being brought home.
    Ending = 3,
    /// At the bank it is over; `result` is what this side got.
    Over = 4,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Purse {
    pub(crate) escrow: Escrow,
    pub(crate) phase: Phase,
    /// Payee: what was credited, by which word and under which number.
    pub(crate) ticks: u64,
    pub(crate) word: [u8; 32],
    pub(crate) seq: u64,
    pub(crate) result: Msat,
    pub(crate) is_payer: bool,
    pub(crate) asked: Option<Asked>,
    /// When to ask the bank again by oneself.
    pub(crate) again: u64,
}

impl Purse {
    pub(crate) const fn new(escrow: Escrow, phase: Phase) -> Self {
        Self {
            escrow,
            phase,
            ticks: 0,
            word: escrow.root,
            seq: 0,
            result: Msat::ZERO,
            is_payer: false,
            asked: None,
            again: 0,
        }
    }

    /// From then on no tick is paid or credited, and the payee takes what it has.
    pub(crate) const fn usable_until(&self) -> Unix {
        Unix(self.escrow.until.saturating_sub(MARGIN_S))
    }

    /// Whole ticks, or none.
    pub(crate) fn ticks_of(&self, cumulative: Msat) -> Option<u64> {
        let ticks = cumulative.msat().checked_div(self.escrow.step)?;
        (self.escrow.worth(ticks) == Some(cumulative)).then_some(ticks)
    }

    /// True where the purse's time is nearly over.
    pub(crate) const fn is_late(&self, now: Now) -> bool {
        now.unix.0 >= self.usable_until().0
    }

    pub(crate) fn capacity(&self) -> Msat {
        self.escrow.worth(self.escrow.count).unwrap_or_default()
    }

    pub(crate) fn opened(&self) -> Outcome {
        Outcome::Opened(Opened {
            opening: self.escrow.to_bytes().into(),
            capacity: self.capacity(),
            cost: self.capacity(),
            quantum: quantum(),
            usable_until: Some(self.usable_until()),
        })
    }

    pub(crate) fn accepted(&self) -> Outcome {
        Outcome::Accepted {
            capacity: self.capacity(),
            quantum: quantum(),
        }
    }

    pub(crate) const fn ended(&self) -> Outcome {
        match self.is_payer {
            true => Outcome::Released {
                refunded: self.result,
            },
            false => Outcome::Settled {
                settled: self.result,
            },
        }
    }

    /// True where this is what the session waits for; it then waits no more.
    pub(crate) fn take(&mut self, what: Asked) -> bool {
        let is_it = self.asked == Some(what);
        if is_it {
            self.asked = None;
        }
        is_it
    }

    pub(crate) const fn redeem(&self) -> Call {
        Call::Redeem {
            ticks: self.ticks,
            word: self.word,
        }
    }

    /// What is under way, or may be.
    pub(crate) const fn next_call(&self) -> Option<Call> {
        match (self.phase, self.is_payer) {
            (Phase::Planned, true) => Some(Call::Deposit(self.escrow)),
            (Phase::Planned, false) => Some(Call::Look(self.escrow)),
            (Phase::Ending, true) => Some(Call::Refund),
            (Phase::Ending, false) => Some(self.redeem()),
            (Phase::Open | Phase::Over, _) => None,
        }
    }

    /// Which call has this id: a purse makes each of them once, or the same again.
    pub(crate) const fn call_of(&self, id: EffectId) -> Option<Call> {
        Some(match id.0 {
            1 => Call::Deposit(self.escrow),
            2 => Call::Look(self.escrow),
            3 => self.redeem(),
            4 => Call::Refund,
            _ => return None,
        })
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let phase = match self.phase {
            Phase::Planned => 1,
            Phase::Open => 2,
            Phase::Ending => 3,
            Phase::Over => 4,
        };
        let numbers = [self.ticks, self.seq, self.result.msat()].map(u64::to_be_bytes);
        let flags = [phase, u8::from(self.is_payer)];
        let escrow = self.escrow.to_bytes();
        [&flags[..], &self.word, numbers.as_flattened(), &escrow].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([phase, is_payer], rest) = bytes.split_first_chunk::<2>()?;
        let (word, rest) = rest.split_first_chunk::<32>()?;
        let (numbers, escrow) = rest.split_first_chunk::<24>()?;
        let phase = match phase {
            1 => Phase::Planned,
            2 => Phase::Open,
            3 => Phase::Ending,
            4 => Phase::Over,
            _ => return None,
        };
        let ([ticks, seq, result], []) = numbers.as_chunks::<8>() else {
            return None;
        };
        let [ticks, seq, result] = [ticks, seq, result].map(|n| u64::from_be_bytes(*n));
        Some(Self {
            ticks,
            word: *word,
            seq,
            result: Msat::new(result).ok()?,
            is_payer: *is_payer == 1,
            ..Self::new(Escrow::from_bytes(escrow)?, phase)
        })
    }
}

/// The bank knows whole satoshi.
pub(crate) fn quantum() -> Msat {
    Msat::from_sat(1).unwrap_or_default()
}
