//! What both sides trust with the money: two accounts, and sums that are set aside for a purse.
//! A real method has a mint, a node or a bank's API in its place, and a client of it here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use streampay_core::backend::{BackendError, Effect, EffectResult, RefusalCode};
use streampay_core::driver::EffectRunner;
use streampay_core::session::TaggedHash;
use streampay_core::units::{Msat, PurseKey, Unix};

/// The word before this one: the words of a purse are a hash chain, paid from its end.
pub(crate) fn before(word: &[u8; 32], steps: u64) -> [u8; 32] {
    (0..steps).fold(*word, |word, _| {
        TaggedHash::new("payword/word").bytes32(&word).finish().0
    })
}

/// What a purse is, as the payer names it and the bank keeps it. 32 + 3 * 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Escrow {
    /// The last word hashed `count` times: whoever knows the word at `n` knows that `n` ticks
    /// were paid.
    pub(crate) root: [u8; 32],
    /// One tick, in millisatoshi.
    pub(crate) step: u64,
    /// Ticks that are set aside.
    pub(crate) count: u64,
    /// From then on the payer alone can have it.
    pub(crate) until: u64,
}

impl Escrow {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.step, self.count, self.until].map(u64::to_be_bytes);
        [&self.root[..], numbers.as_flattened()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (root, rest) = bytes.split_first_chunk::<32>()?;
        let ([step, count, until], []) = rest.as_chunks::<8>() else {
            return None;
        };
        let [step, count, until] = [step, count, until].map(|n| u64::from_be_bytes(*n));
        Some(Self {
            root: *root,
            step,
            count,
            until,
        })
    }

    /// What `ticks` come to. None where no such sum exists.
    pub(crate) fn worth(&self, ticks: u64) -> Option<Msat> {
        Msat::new(self.step).ok()?.times(ticks).ok()
    }
}

/// What the bank is asked. Each can be asked again and is answered the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Payer: set this aside.
    Deposit(Escrow),
    /// Payee: is this set aside for me?
    Look(Escrow),
    /// Payee: so many ticks are mine, by this word; the rest goes back.
    Redeem { ticks: u64, word: [u8; 32] },
    /// Payer: what is not the payee's comes home.
    Refund,
}

impl Call {
    pub(crate) fn to_bytes(self) -> Bytes {
        let (kind, body) = match self {
            Self::Deposit(escrow) => (1, escrow.to_bytes()),
            Self::Look(escrow) => (2, escrow.to_bytes()),
            Self::Redeem { ticks, word } => (3, [&ticks.to_be_bytes()[..], &word].concat()),
            Self::Refund => (4, Vec::new()),
        };
        [&[kind][..], &body].concat().into()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, body) = bytes.split_first()?;
        Some(match (kind, body) {
            (1, body) => Self::Deposit(Escrow::from_bytes(body)?),
            (2, body) => Self::Look(Escrow::from_bytes(body)?),
            (3, body) => {
                let (ticks, word) = body.split_first_chunk::<8>()?;
                Self::Redeem {
                    ticks: u64::from_be_bytes(*ticks),
                    word: word.try_into().ok()?,
                }
            }
            (4, []) => Self::Refund,
            _ => return None,
        })
    }
}

#[derive(Debug)]
enum Entry {
    Open(Escrow),
    /// What the payee took, and what went back to the payer.
    Over {
        taken: Msat,
        back: Msat,
    },
}

#[derive(Debug, Default)]
struct Books {
    payer: Msat,
    payee: Msat,
    now: Unix,
    entries: BTreeMap<PurseKey, Entry>,
}

/// The bank, shared by all who use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bank(Arc<Mutex<Books>>);

impl Bank {
    /// A bank whose payer has so much, at a time of day.
    pub(crate) fn new(payer: Msat, now: Unix) -> Self {
        let books = Books {
            payer,
            now,
            ..Books::default()
        };
        Self(Arc::new(Mutex::new(books)))
    }

    /// What is in the payer's account, and in the payee's.
    pub(crate) fn accounts(&self) -> (Msat, Msat) {
        self.with(|books| (books.payer, books.payee))
    }

    pub(crate) fn set_time(&self, now: Unix) {
        self.with(|books| books.now = now);
    }

    pub(crate) fn now(&self) -> Unix {
        self.with(|books| books.now)
    }

    /// What a client of the bank does: makes the call and says how it ended.
    pub(crate) fn run(&self, effect: &Effect) -> EffectResult {
        let call = Call::from_bytes(&effect.body).ok_or(BackendError::Unknown);
        let result = call.and_then(|call| self.with(|books| books.answer(effect.purse, call)));
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: result.map(|msat| Bytes::copy_from_slice(&msat.msat().to_be_bytes())),
        }
    }

    fn with<T>(&self, what: impl FnOnce(&mut Books) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl EffectRunner for Bank {
    async fn run(&self, effect: Effect) -> EffectResult {
        Self::run(self, &effect)
    }
}

impl Books {
    fn answer(&mut self, purse: PurseKey, call: Call) -> Result<Msat, BackendError> {
        let unknown = BackendError::Fatal(RefusalCode::BadProof);
        match (call, self.entries.get(&purse)) {
            (Call::Deposit(escrow), None) => self.deposit(purse, escrow),
            (Call::Deposit(escrow), Some(Entry::Open(open))) if *open == escrow => Ok(Msat::ZERO),
            (Call::Look(escrow), Some(Entry::Open(open))) if *open == escrow => Ok(Msat::ZERO),
            (Call::Redeem { ticks, word }, Some(Entry::Open(open))) => {
                let escrow = *open;
                let is_true = ticks <= escrow.count && before(&word, ticks) == escrow.root;
                let taken = escrow.worth(ticks).filter(|_| is_true).ok_or(unknown)?;
                self.divide(purse, escrow, taken)?;
                Ok(taken)
            }
            (Call::Redeem { .. }, Some(Entry::Over { taken, .. })) => Ok(*taken),
            (Call::Refund, Some(Entry::Over { back, .. })) => Ok(*back),
            (Call::Refund, Some(Entry::Open(open))) if self.now.0 < open.until => {
                Err(BackendError::Fatal(RefusalCode::WrongLock))
            }
            (Call::Refund, Some(Entry::Open(open))) => {
                let escrow = *open;
                self.divide(purse, escrow, Msat::ZERO)
            }
            // Called off: a deposit that is still on its way comes too late.
            (Call::Refund, None) => {
                let (taken, back) = (Msat::ZERO, Msat::ZERO);
                self.entries.insert(purse, Entry::Over { taken, back });
                Ok(back)
            }
            _ => Err(unknown),
        }
    }

    fn deposit(&mut self, purse: PurseKey, escrow: Escrow) -> Result<Msat, BackendError> {
        let poor = BackendError::Fatal(RefusalCode::InsufficientFunds);
        let sum = escrow.worth(escrow.count).ok_or(poor)?;
        self.payer = self.payer.minus(sum).map_err(|_| poor)?;
        self.entries.insert(purse, Entry::Open(escrow));
        Ok(Msat::ZERO)
    }

    /// Ends a purse. What went back is the answer.
    fn divide(&mut self, purse: PurseKey, of: Escrow, taken: Msat) -> Result<Msat, BackendError> {
        let unknown = BackendError::Unknown;
        let back = of.worth(of.count).and_then(|sum| sum.minus(taken).ok());
        let back = back.ok_or(unknown)?;
        self.payee = self.payee.plus(taken).map_err(|_| unknown)?;
        self.payer = self.payer.plus(back).map_err(|_| unknown)?;
        self.entries.insert(purse, Entry::Over { taken, back });
        Ok(back)
    }
}
