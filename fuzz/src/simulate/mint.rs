//! A mint, and all the money of one session.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};
use streampay_core::units::{EffectId, PurseId};

/// What an opening costs besides, in millisatoshi.
pub(super) const FEE: u64 = 100;
/// How long the money of a deferred purse is the payee's to take, in milliseconds.
const LOCK_MS: u64 = 14_400_000;

/// A network call, as machine and mint understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Payer: so many tokens of so much.
    Issue { nonce: u64, count: u64, amount: u64 },
    /// Payee: this token, now.
    Redeem { nonce: u64, seq: u64 },
    /// Payee: all tokens up to this one; no more will be wanted.
    RedeemAll { nonce: u64, upto: u64 },
    /// Payer: this token back.
    Reclaim { nonce: u64, seq: u64 },
    /// Payer: all tokens back.
    ReclaimAll { nonce: u64 },
    /// Something that changes nothing.
    Look { what: u64, amount: u64 },
}

impl Call {
    pub(super) fn to_bytes(self) -> Bytes {
        let (kind, a, b, c) = match self {
            Self::Issue {
                nonce,
                count,
                amount,
            } => (1, nonce, count, amount),
            Self::Redeem { nonce, seq } => (2, nonce, seq, 0),
            Self::RedeemAll { nonce, upto } => (3, nonce, upto, 0),
            Self::Reclaim { nonce, seq } => (4, nonce, seq, 0),
            Self::ReclaimAll { nonce } => (5, nonce, 0, 0),
            Self::Look { what, amount } => (6, what, amount, 0),
        };
        [kind, a, b, c]
            .into_iter()
            .flat_map(u64::to_be_bytes)
            .collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let at = |at: usize| read_u64(bytes, at);
        let (kind, a, b, c) = (at(0)?, at(8)?, at(16)?, at(24)?);
        Some(match kind {
            1 => Self::Issue {
                nonce: a,
                count: b,
                amount: c,
            },
            2 => Self::Redeem { nonce: a, seq: b },
            3 => Self::RedeemAll { nonce: a, upto: b },
            4 => Self::Reclaim { nonce: a, seq: b },
            5 => Self::ReclaimAll { nonce: a },
            6 => Self::Look { what: a, amount: b },
            _ => return None,
        })
    }
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Bearer,
    Payee,
    Payer,
    Thief,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    amount: u64,
    holder: Holder,
    shown: bool,
}

#[derive(Debug, Default)]
struct Batch {
    tokens: Vec<Token>,
    /// The payee wants no more of a deferred purse.
    closed: bool,
    /// When the payer first asked for a locked batch.
    asked: Option<u64>,
}

/// One session's money.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) wallet: u64,
    pub(super) payee: u64,
    pub(super) thief: u64,
    pub(super) fees: u64,
    /// What was shown to the payee and can still be taken by it.
    pub(super) at_large: u64,
    /// What of it nobody else can take.
    pub(super) collectable: u64,
    batches: BTreeMap<(PurseId, u64), Batch>,
    refused: BTreeSet<(usize, PurseId, EffectId)>,
}

/// True for what is issued to one payee alone: nobody else can spend it.
pub(super) const fn is_locked(nonce: u64) -> bool {
    nonce % 2 == 1
}

/// What the answers "yes" and "no" look like.
const YES: &[u8] = &[1];
const NO: &[u8] = &[0];

impl Account {
    pub(super) fn new(wallet: u64) -> Self {
        Self {
            wallet,
            ..Self::default()
        }
    }

    /// All money there is.
    pub(super) fn total(&self) -> u64 {
        let tokens = self.batches.values().flat_map(|batch| &batch.tokens);
        let bearer = tokens.filter(|token| token.holder == Holder::Bearer);
        let unspent: u64 = bearer.map(|token| token.amount).sum();
        unspent + self.wallet + self.payee + self.thief + self.fees
    }

    /// Makes a call. The same again has the same answer and no further effect.
    pub(super) fn run(
        &mut self,
        now: u64,
        purse: PurseId,
        call: Call,
    ) -> Result<Bytes, BackendError> {
        match call {
            Call::Issue {
                nonce,
                count,
                amount,
            } => self.issue(purse, nonce, count, amount),
            Call::Redeem { nonce, seq } => Ok(self.take(purse, nonce, seq, Holder::Payee)),
            Call::Reclaim { nonce, seq } => Ok(self.take(purse, nonce, seq, Holder::Payer)),
            Call::RedeemAll { nonce, upto } => {
                let taken = self.take_all(purse, nonce, upto, Holder::Payee);
                if let Some(batch) = self.batches.get_mut(&(purse, nonce)) {
                    batch.closed = true;
                }
                Ok(taken)
            }
            Call::ReclaimAll { nonce } => {
                let Some(batch) = self.batches.get_mut(&(purse, nonce)) else {
                    return Ok(Bytes::copy_from_slice(&0_u64.to_be_bytes()));
                };
                let since = *batch.asked.get_or_insert(now);
                // What was never shown is released by the payee's word, which is not simulated.
                let shown = batch.tokens.iter().any(|token| token.shown);
                if is_locked(nonce) && shown && !batch.closed && now.saturating_sub(since) < LOCK_MS
                {
                    return Err(BackendError::Transient);
                }
                Ok(self.take_all(purse, nonce, u64::MAX, Holder::Payer))
            }
            Call::Look { .. } => Ok(Bytes::from_static(YES)),
        }
    }

    /// The refusal of a call is for good.
    pub(super) fn refuse(
        &mut self,
        side: usize,
        purse: PurseId,
        id: EffectId,
        call: Call,
        now: bool,
    ) -> Option<BackendError> {
        let error = match call {
            Call::Issue { nonce, .. } if !self.batches.contains_key(&(purse, nonce)) => {
                BackendError::Fatal(RefusalCode::UnknownKeyset)
            }
            Call::Redeem { nonce, seq } if self.is_bearer(purse, nonce, seq) => {
                BackendError::Rejected(RefusalCode::BadProof, Consumed::No)
            }
            // An opening that the payee looks after.
            Call::Look { what: u64::MAX, .. } => {
                BackendError::Rejected(RefusalCode::UnknownKeyset, Consumed::No)
            }
            _ => return None,
        };
        if now {
            self.refused.insert((side, purse, id));
        }
        self.refused.contains(&(side, purse, id)).then_some(error)
    }

    /// A payment left the payer.
    pub(super) fn show(&mut self, purse: PurseId, nonce: u64, seq: u64) {
        if let Some(token) = self.token(purse, nonce, seq)
            && !token.shown
        {
            token.shown = true;
            if token.holder == Holder::Bearer {
                let amount = token.amount;
                self.at_large += amount;
                self.collectable += if is_locked(nonce) { amount } else { 0 };
            }
        }
    }

    /// Somebody else spends a payment under way. True where there is one.
    pub(super) fn steal(&mut self) -> bool {
        let shown = |token: &Token| token.shown && token.holder == Holder::Bearer;
        let found = self.batches.iter().find_map(|(key, batch)| {
            let mut tokens = batch.tokens.iter().filter(|_| !is_locked(key.1));
            let at = tokens.position(shown)?;
            Some((*key, u64::try_from(at).ok()? + 1))
        });
        let Some(((purse, nonce), seq)) = found else {
            return false;
        };
        self.take(purse, nonce, seq, Holder::Thief);
        true
    }

    fn token(&mut self, purse: PurseId, nonce: u64, seq: u64) -> Option<&mut Token> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.batches.get_mut(&(purse, nonce))?.tokens.get_mut(at)
    }

    fn is_bearer(&mut self, purse: PurseId, nonce: u64, seq: u64) -> bool {
        let token = self.token(purse, nonce, seq);
        token.is_some_and(|token| token.holder == Holder::Bearer)
    }

    fn issue(
        &mut self,
        purse: PurseId,
        nonce: u64,
        count: u64,
        amount: u64,
    ) -> Result<Bytes, BackendError> {
        let known = self.batches.get(&(purse, nonce));
        let mut issued = known.map(|batch| batch.tokens.len()).unwrap_or_default();
        if known.is_none() {
            let affordable = self.wallet.saturating_sub(FEE) / amount.max(1);
            let count = count.min(affordable);
            if count == 0 {
                return Err(BackendError::Fatal(RefusalCode::InsufficientFunds));
            }
            self.wallet -= count * amount + FEE;
            self.fees += FEE;
            let token = Token {
                amount,
                holder: Holder::Bearer,
                shown: false,
            };
            let mut batch = Batch::default();
            batch.tokens.extend((0..count).map(|_| token));
            issued = batch.tokens.len();
            self.batches.insert((purse, nonce), batch);
        }
        Ok(Bytes::copy_from_slice(&issued.to_be_bytes()))
    }

    fn take_all(&mut self, purse: PurseId, nonce: u64, upto: u64, to: Holder) -> Bytes {
        let batch = self.batches.get(&(purse, nonce));
        let count = batch.map(|batch| batch.tokens.len()).unwrap_or_default();
        let count = u64::try_from(count).unwrap_or_default().min(upto);
        let mut sum = 0_u64;
        for seq in 1..=count {
            if *self.take(purse, nonce, seq, to) == *YES
                && let Some(token) = self.token(purse, nonce, seq)
            {
                sum += token.amount;
            }
        }
        Bytes::copy_from_slice(&sum.to_be_bytes())
    }

    fn take(&mut self, purse: PurseId, nonce: u64, seq: u64, to: Holder) -> Bytes {
        let Some(token) = self.token(purse, nonce, seq) else {
            return Bytes::from_static(NO);
        };
        if token.holder == Holder::Bearer {
            token.holder = to;
            let (amount, shown) = (token.amount, token.shown);
            let shown = if shown { amount } else { 0 };
            self.at_large -= shown;
            self.collectable -= if is_locked(nonce) { shown } else { 0 };
            match to {
                Holder::Payee => self.payee += amount,
                Holder::Thief => self.thief += amount,
                Holder::Payer | Holder::Bearer => self.wallet += amount,
            }
            return Bytes::from_static(YES);
        }
        let yes = token.holder == to;
        Bytes::from_static(if yes { YES } else { NO })
    }
}
