//! The machine of the method `cashu-swap`: all purses of this node, payer's and payee's.
//!
//! ```text
//! payer   Open --> Planning --plan--> Funding --split--> Open --Release--> Released
//!                     ^                  |                 | Pay, Acked, Reclaim
//!                     +--keysets moved---+                 |
//! payee   Accept --> asking for keysets --> ready: Receive each tick, Settle
//! ```
//!
//! Requests are recognised by what they ask, so a repeat gets the same answer whether or not the
//! machine was restarted in between. An effect runs once at a time; after a failure that is not
//! final the next same request makes it run again, with the order to look at the mint first.

mod doubt;
mod payee;
mod payer;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Effect, EffectResult, Outcome, RefusalCode, Request,
    RestoredPurse,
};
use streampay_core::units::{EffectId, Msat, Now, PurseKey, RequestId};

use self::payee::PayeePurse;
use self::payer::PayerPurse;
use self::record::{Kind, Meta};
use crate::codec;
use crate::job::{Done, Job};
use crate::wire::TOKENS_MAX;

/// What this node wants of its purses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwapPolicy {
    /// The most tokens a purse is split into, 1 to 64. More tokens, fewer openings; all of them
    /// leave the spendable balance at once.
    pub tokens_max: u64,
    /// The highest price of a mint's ecash that a payer goes along with, in thousandths of the
    /// tariff.
    pub price_max_permille: u64,
    /// The most that the mint's fee for a token may come to, on top of what it is worth to the payee, in
    /// thousandths of that. A purse of which more would go to the mint is not opened.
    pub max_fee_permille: u64,
}

impl Default for SwapPolicy {
    fn default() -> Self {
        Self {
            tokens_max: TOKENS_MAX,
            price_max_permille: crate::params::PRICE_MAX_DEFAULT,
            max_fee_permille: 500,
        }
    }
}

/// The sync machine of `cashu-swap`, both roles. Its effects are for a
/// [`Runner`](crate::Runner).
///
/// - A purse's ticks are all of one amount, a whole number of satoshi.
/// - `Open` gives at most [`SwapPolicy::tokens_max`] ticks and at most what the wallet can pay.
/// - After `Reclaimed` a new `Pay` of the same tick takes another token.
/// - `Release` and `Settle` also end what is still under way.
#[derive(Default)]
pub struct SwapMachine {
    policy: SwapPolicy,
    purses: BTreeMap<PurseKey, Purse>,
}

enum Purse {
    Payer(PayerPurse),
    Payee(PayeePurse),
}

impl SwapMachine {
    /// The method's name in terms and in the store.
    pub const METHOD: &'static str = "cashu-swap";
    /// What amounts due are rounded up to.
    pub const QUANTUM: Msat = match Msat::from_sat(1) {
        Ok(sat) => sat,
        Err(_) => Msat::ZERO,
    };

    /// A machine without purses.
    #[must_use]
    pub const fn new(policy: SwapPolicy) -> Self {
        Self {
            policy,
            purses: BTreeMap::new(),
        }
    }

    fn open(&mut self, key: PurseKey, request: Request) -> Answer {
        match request {
            Request::Open {
                offer,
                capacity,
                budget,
            } => match PayerPurse::open(key, &offer, capacity.min(budget), budget, self.policy) {
                Ok((purse, answer)) => {
                    self.purses.insert(key, Purse::Payer(purse));
                    answer
                }
                Err(code) => Answer::failed(BackendError::Fatal(code)),
            },
            Request::Accept { offer, opening } => match PayeePurse::accept(key, &offer, &opening) {
                Ok((purse, answer)) => {
                    self.purses.insert(key, Purse::Payee(purse));
                    answer
                }
                Err(error) => Answer::failed(error),
            },
            // A purse that never was has nothing to give back.
            Request::Release => Answer::outcome(Outcome::Released {
                refunded: Msat::ZERO,
            }),
            Request::Settle { .. } => Answer::outcome(Outcome::Settled {
                settled: Msat::ZERO,
            }),
            // What a payee's backend shows without being asked: this method shows nothing. And an ack
            // of a purse that never was, or is gone.
            Request::Note { .. } | Request::Acked { .. } => Answer::default(),
            _ => Answer::failed(OUT_OF_ORDER),
        }
    }
}

impl BackendMachine for SwapMachine {
    fn method(&self) -> &'static str {
        Self::METHOD
    }

    fn request(&mut self, now: Now, purse: PurseKey, _: RequestId, request: Request) -> Answer {
        match self.purses.get_mut(&purse) {
            Some(Purse::Payer(payer)) => payer.request(now, request),
            Some(Purse::Payee(payee)) => payee.request(now, request),
            None => self.open(purse, request),
        }
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        let done = result.result.and_then(|body| {
            codec::decode::<Done>(&body, usize::MAX).map_err(|_| BackendError::Unknown)
        });
        let answer = match self.purses.get_mut(&result.purse) {
            Some(Purse::Payer(payer)) => payer.effect_done(now, result.id.0, done),
            Some(Purse::Payee(payee)) => payee.effect_done(now, result.id.0, done),
            None => return Answer::default(),
        };
        let gone = match self.purses.get(&result.purse) {
            Some(Purse::Payer(payer)) => payer.is_gone(),
            _ => false,
        };
        if gone {
            self.purses.remove(&result.purse);
        }
        answer
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, now: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        let mut meta = None;
        let mut tokens = BTreeMap::new();
        let (mut receipts, mut denied) = (BTreeMap::new(), BTreeMap::new());
        for (sub_key, value) in &records {
            let read = match record::kind(sub_key) {
                Some(Kind::Meta) => record::read(value).map(|found: Meta| meta = Some(found)),
                Some(Kind::Token(index)) => record::read(value).map(|token| {
                    tokens.insert(index, token);
                }),
                Some(Kind::Receipt(seq)) => record::read(value).map(|receipt| {
                    receipts.insert(seq, receipt);
                }),
                Some(Kind::Denied(at)) => record::read(value).map(|found| {
                    denied.insert(at, found);
                }),
                None => continue,
            };
            if read.is_err() {
                return Answer::failed(BackendError::Fatal(RefusalCode::Malformed));
            }
        }
        let (restored, answer) = match meta {
            Some(Meta::Payer(meta)) => {
                let (payer, answer) = PayerPurse::restore(purse, meta, tokens);
                (Purse::Payer(payer), answer)
            }
            Some(Meta::Payee(meta)) => {
                let (payee, answer) = PayeePurse::restore(now, purse, meta, (receipts, denied));
                (Purse::Payee(payee), answer)
            }
            None => return Answer::default(),
        };
        self.purses.insert(purse, restored);
        answer
    }

    fn forget(&mut self, purse: PurseKey) {
        self.purses.remove(&purse);
    }
}

impl core::fmt::Debug for SwapMachine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SwapMachine")
            .field("policy", &self.policy)
            .field("purses", &self.purses.len())
            .finish()
    }
}

pub(crate) const OUT_OF_ORDER: BackendError = BackendError::Fatal(RefusalCode::OutOfOrder);

/// Effects under way, so that a repeated request does not run one twice at the same time.
#[derive(Debug, Default)]
pub(crate) struct Running(BTreeSet<u64>);

impl Running {
    /// The effect, unless it is under way.
    pub(crate) fn start(
        &mut self,
        purse: PurseKey,
        id: u64,
        job: impl FnOnce() -> Job,
    ) -> Vec<Effect> {
        if !self.0.insert(id) {
            return Vec::new();
        }
        vec![Effect {
            purse,
            id: EffectId(id),
            body: codec::encode(&job()).into(),
        }]
    }

    /// False where it does not run: its end was told before.
    pub(crate) fn ended(&mut self, id: u64) -> bool {
        self.0.remove(&id)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.0.contains(&id)
    }
}

/// An amount of the wallet's in the core's unit; beyond all bitcoin it is all bitcoin.
pub(crate) fn msat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}

/// A tick as whole satoshi, rounded up; none for zero.
pub(crate) fn whole_sat(amount: Msat) -> Option<u64> {
    (!amount.is_zero()).then_some(amount.sat_ceil())
}
