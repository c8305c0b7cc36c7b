//! The machine of the methods with locked ecash, `cashu-chain` and `cashu-p2pk`: all purses of
//! this node, payer's and payee's.
//!
//! ```text
//! payer   Open --> Planning --plan--> Funding --swap--> Open --Pay: the next preimage
//!                     ^                  |                |
//!                     +--plan is stale---+                | Release
//!                                                         v
//!                     payee's release, else the locktime: the rest comes home --> Released
//!
//! payee   Accept --verify--> open: Receive, a hash a tick --Settle--> the rest is signed over,
//!                              | 64 ticks, exposure, margin           what was paid is redeemed
//!                              +--> a batch is redeemed
//! ```
//!
//! A tick calls no mint. The mint is asked at the opening (keys, time, NUT-07), for a redemption,
//! and for its time again after a restart or where wall and monotonic clock part.
//!
//! - A preimage that was shown cannot be taken back before the locktime. A tick that was refused is
//!   shown again with the same preimage: what is paid grows with the newest preimage alone. So
//!   `Reclaim` is answered at once, by `Outstanding`: the session pays from no other purse, of
//!   whichever method, before that.
//! - No tick is credited or shown from the margin before the locktime on, by the mint's clock.
//! - Steps are redeemed in ascending order, the rest is released only above the durable closing
//!   cumulative, and a refund's witness has no preimage.
//! - Records may be an old backup. `Settle` says what the session knows, which a receipt brought forward:
//!   nothing up to there is signed over. `Acked` is the payee's word: it counts as far as these records
//!   have shown, for it may be a lie. A payee that lacks the newest
//!   preimage is shown it with the next tick, or asks for it in its release. After a start the mint is
//!   asked for outputs of batches that the records do not know, before another is made.

pub(crate) mod clock;
pub(crate) mod drain;
mod exposure;
pub(crate) mod job;
mod payee;
pub(crate) mod payer;
pub(crate) mod record;

use std::collections::BTreeMap;

use streampay_core::backend::{
    Answer, BackendError, BackendMachine, EffectResult, Outcome, RefusalCode, Request,
    RestoredPurse,
};
use streampay_core::units::{Msat, Now, PurseKey, RequestId, Unix};

use self::exposure::Exposure;
use self::job::{LockedDone, LockedJob};
use self::payee::PayeePurse;
use self::payer::PayerPurse;
use self::record::{Meta, Records, Stage};
use crate::chain::{PIECE, PROOFS_MAX, ReceiverKey, STEPS_MAX, first_proof};
use crate::codec;
use crate::job::{Done, Job};
use crate::machine::OUT_OF_ORDER;

/// For how long after the locktime a keyset must live on, in seconds: the payer's time to come
/// back.
pub(crate) const REFUND_WINDOW_S: u64 = 24 * 3600;
/// How long after the locktime the payer asks for its refund, in seconds: the mint's clock is
/// known to a few.
pub(crate) const REFUND_AFTER_S: u64 = 5;
/// When a mint that did not answer is asked again, in seconds.
pub(crate) const RETRY_S: u64 = 30;
/// How much earlier a purse may have been opened than its locktime says, in seconds: the slack of both
/// sides' clocks, and ours against the mint's.
const RESTORED_SLACK_S: u64 = 2 * 3600;
/// By how much the payer's and the payee's reading of the mint's clock may differ, in seconds.
pub(crate) const CLOCK_SLACK_S: u64 = 600;

/// What this node wants of its purses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockedPolicy {
    /// Payer: the most steps of a purse. More steps, fewer openings; all of them are locked at
    /// once.
    pub steps_max: u64,
    /// Payer: the longest lock that it agrees to, in seconds.
    pub lock_s_max: u64,
    /// Payer: the highest price of a mint's ecash that it goes along with, in thousandths of the
    /// tariff.
    pub price_max_permille: u64,
    /// Payee: how many credited ticks make it redeem.
    pub redeem_ticks: u64,
    /// Payee: the most that may be credited and not redeemed at one mint, over all purses of this
    /// machine and those [beside](LockedMachine::beside) it. A purse
    /// that is credited while half of it is open redeems at once; beyond it no tick is credited, save
    /// where nothing is open, until the mint has taken some.
    pub exposure: Msat,
    /// Both: the most that redeeming may cost of what is redeemed, in thousandths. A purse of which
    /// more would go to the mint is not opened.
    pub max_fee_permille: u64,
    /// Payee: openings that are being checked at the same time, over all sessions.
    pub checking_max: usize,
    /// Payee: when the records were made again from a backup, by our own clock. A purse of before may have
    /// been signed over to its payer by a self that they do not know: each of its ticks is redeemed
    /// before another is credited, and none is once one was found spent. Where redeeming one would cost
    /// more than `max_fee_permille`, the fewest of which it does not.
    pub restored: Option<Unix>,
}

impl Default for LockedPolicy {
    fn default() -> Self {
        Self {
            steps_max: 256,
            lock_s_max: 24 * 3600,
            price_max_permille: crate::params::PRICE_MAX_DEFAULT,
            redeem_ticks: 64,
            exposure: Msat::MAX,
            max_fee_permille: 250,
            checking_max: 16,
            restored: None,
        }
    }
}

impl LockedPolicy {
    /// True where redeeming a step of `step` in `proofs` at `ppk` each, in full batches, costs no
    /// more than its share.
    fn allows_fee(&self, ppk: u64, proofs: usize, step: u64) -> bool {
        let proofs = u64::try_from(proofs).unwrap_or(u64::MAX);
        let share = step.saturating_mul(self.max_fee_permille);
        ppk.saturating_mul(proofs) <= share
    }
}

/// The sync machine of one method with locked ecash, both roles. Its effects are for a
/// [`Runner`](crate::Runner).
pub struct LockedMachine {
    chain: bool,
    policy: LockedPolicy,
    receiver: Option<ReceiverKey>,
    purses: BTreeMap<PurseKey, Purse>,
    exposed: Exposure,
}

/// What a payer's purse has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurseLock {
    /// From then on the payer can take it back, whatever the payee does, by the mint's clock.
    pub until: Unix,
    /// The mint is known to have made it; else it was asked to.
    pub is_made: bool,
}

enum Purse {
    Payer(Box<PayerPurse>),
    Payee(Box<PayeePurse>),
}

impl LockedMachine {
    /// The method of streams: a step of a hash chain a tick.
    pub const CHAIN: &'static str = "cashu-chain";
    /// The method of single payments, and of mints without NUT-14: a locked token a tick.
    pub const P2PK: &'static str = "cashu-p2pk";
    /// What amounts due are rounded up to.
    pub const QUANTUM: Msat = crate::SwapMachine::QUANTUM;

    /// The machine of [`CHAIN`](Self::CHAIN). `receiver` is the payee's key; a payer needs none.
    #[must_use]
    pub fn chain(policy: LockedPolicy, receiver: Option<ReceiverKey>) -> Self {
        Self {
            chain: true,
            policy,
            receiver,
            purses: BTreeMap::new(),
            exposed: Exposure::default(),
        }
    }

    /// The machine of [`P2PK`](Self::P2PK). `receiver` is the payee's key; a payer needs none.
    #[must_use]
    pub fn p2pk(policy: LockedPolicy, receiver: Option<ReceiverKey>) -> Self {
        Self {
            chain: false,
            policy,
            receiver,
            purses: BTreeMap::new(),
            exposed: Exposure::default(),
        }
    }

    /// By these records of a payee's purse: until when what it has credited and not redeemed must be home,
    /// by the mint's clock. From then on its payer can take it back. None where nothing is at stake.
    #[must_use]
    pub fn redeem_by(records: &RestoredPurse) -> Option<Unix> {
        let records = Records::read(records).ok()?;
        let Some(Meta::Payee(_)) = records.meta else {
            return None;
        };
        let funded = records.locked?.funded().ok()?;
        let credited = records.credited.step;
        let until = first_proof(credited.saturating_add(1), funded.per_step());
        let spent = |number: &u64| records.drain.spent.contains(number);
        let left = (records.drain.next..until).any(|number| !spent(&number));
        left.then_some(Unix(funded.funding.locktime))
    }

    /// What these records of a payer's purse say is locked: none where nothing was asked for yet, and where all is
    /// home.
    #[must_use]
    pub fn lock_of(records: &RestoredPurse) -> Option<PurseLock> {
        let Some(Meta::Payer(meta)) = Records::read(records).ok()?.meta else {
            return None;
        };
        let (planned, is_made) = match meta.stage {
            Stage::Funding(planned) => (planned, false),
            Stage::Open(planned) => (planned, true),
            Stage::Planning | Stage::Released(_) | Stage::Lost(..) => return None,
        };
        let until = Unix(planned.locktime);
        Some(PurseLock { until, is_made })
    }

    /// Counts what is open at a mint together with `other`, so that the limit of
    /// [`LockedPolicy::exposure`] is one for both methods of a node. Before it has any purse.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        self.exposed = other.exposed.clone();
        self
    }

    /// Another limit than [`LockedPolicy::exposure`] for one mint, by its address as it is in the terms: also
    /// for machines beside this one. Before any of them has a purse.
    #[must_use]
    pub fn with_exposure_at(self, mint: &str, most: Msat) -> Self {
        self.exposed.limit(mint, most);
        self
    }

    fn open(&mut self, now: Now, key: PurseKey, request: Request) -> Answer {
        match request {
            Request::Open {
                offer,
                capacity,
                budget,
            } => {
                let steps_max = self.policy.steps_max.clamp(1, STEPS_MAX.min(PROOFS_MAX));
                let limits = payer::Limits {
                    capacity: capacity.min(budget),
                    budget,
                    steps_max,
                    policy: self.policy,
                };
                match PayerPurse::open(key, self.chain, &offer, limits) {
                    Ok((purse, answer)) => {
                        self.purses.insert(key, Purse::Payer(Box::new(purse)));
                        answer
                    }
                    Err(code) => Answer::failed(BackendError::Fatal(code)),
                }
            }
            Request::Accept { offer, opening } => {
                let checking = self.purses.values().filter(|purse| match purse {
                    Purse::Payee(payee) => payee.is_checking(),
                    Purse::Payer(_) => false,
                });
                if checking.count() >= self.policy.checking_max {
                    return Answer::failed(BackendError::Transient);
                }
                let receiver = self.receiver.as_ref();
                let accepted =
                    PayeePurse::accept(key, self.chain, self.policy, receiver, &offer, &opening);
                match accepted {
                    Ok((purse, answer)) => {
                        self.purses.insert(key, Purse::Payee(Box::new(purse)));
                        answer
                    }
                    Err(error) => Answer::failed(error),
                }
            }
            // A purse that never was has nothing to give back.
            Request::Release => Answer::outcome(Outcome::Released {
                refunded: Msat::ZERO,
            }),
            Request::Settle { .. } => Answer::outcome(Outcome::Settled {
                settled: Msat::ZERO,
            }),
            // Nor has it anything to note.
            Request::Note { .. } | Request::Acked { .. } => Answer::default(),
            _ => {
                let _ = now;
                Answer::failed(OUT_OF_ORDER)
            }
        }
    }

    fn tidy(&mut self, key: PurseKey) {
        let gone = match self.purses.get(&key) {
            Some(Purse::Payer(payer)) => payer.is_gone(),
            Some(Purse::Payee(payee)) => payee.is_gone(),
            None => false,
        };
        if gone {
            self.purses.remove(&key);
        }
    }
}

impl BackendMachine for LockedMachine {
    fn method(&self) -> &'static str {
        if self.chain { Self::CHAIN } else { Self::P2PK }
    }

    fn request(&mut self, now: Now, purse: PurseKey, _: RequestId, request: Request) -> Answer {
        let accept = matches!(request, Request::Accept { .. });
        let answer = match self.purses.get_mut(&purse) {
            Some(Purse::Payee(payee)) if accept && payee.is_unchecked() => {
                self.open(now, purse, request)
            }
            Some(Purse::Payer(payer)) => payer.request(now, request),
            Some(Purse::Payee(payee)) => self
                .exposed
                .watch(payee, |payee| payee.request(now, request)),
            None => self.open(now, purse, request),
        };
        self.tidy(purse);
        answer
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        let done = result.result.and_then(|body| {
            codec::decode::<Done>(&body, usize::MAX).map_err(|_| BackendError::Unknown)
        });
        let id = result.id.0;
        let answer = match self.purses.get_mut(&result.purse) {
            Some(Purse::Payer(payer)) => payer.effect_done(now, id, done),
            Some(Purse::Payee(payee)) => self
                .exposed
                .watch(payee, |payee| payee.effect_done(now, id, locked(done))),
            None => return Answer::default(),
        };
        self.tidy(result.purse);
        answer
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, _: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        // Restored again within one process, it counts once.
        self.forget(purse);
        let Ok(mut records) = Records::read(&records) else {
            return Answer::failed(BackendError::Fatal(RefusalCode::Malformed));
        };
        let (restored, answer) = match records.meta.take() {
            Some(Meta::Payer(meta)) => {
                let (payer, answer) = PayerPurse::restore(purse, self.policy, meta, records);
                (Purse::Payer(Box::new(payer)), answer)
            }
            Some(Meta::Payee(meta)) => {
                match PayeePurse::restore(purse, self.policy, meta, records) {
                    Some((payee, answer)) => {
                        self.exposed.add(&payee);
                        (Purse::Payee(Box::new(payee)), answer)
                    }
                    None => return Answer::failed(BackendError::Fatal(RefusalCode::Malformed)),
                }
            }
            None => return Answer::default(),
        };
        self.purses.insert(purse, restored);
        answer
    }

    fn wake_at(&self, purse: PurseKey) -> Option<Unix> {
        match self.purses.get(&purse)? {
            Purse::Payer(payer) => payer.wake_at(),
            Purse::Payee(payee) => payee.wake_at(),
        }
    }

    fn wake(&mut self, now: Now, purse: PurseKey) -> Answer {
        match self.purses.get_mut(&purse) {
            Some(Purse::Payer(payer)) => payer.wake(now),
            Some(Purse::Payee(payee)) => {
                let answer = self.exposed.watch(payee, |payee| payee.wake(now));
                self.tidy(purse);
                answer
            }
            None => Answer::default(),
        }
    }

    fn forget(&mut self, purse: PurseKey) {
        if let Some(Purse::Payee(payee)) = self.purses.remove(&purse) {
            self.exposed.remove(&payee);
        }
    }
}

impl core::fmt::Debug for LockedMachine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LockedMachine")
            .field("method", &self.method())
            .field("policy", &self.policy)
            .field("purses", &self.purses.len())
            .finish_non_exhaustive()
    }
}

/// A result of this method's own; another is as good as none.
fn locked(done: Result<Done, BackendError>) -> Result<LockedDone, BackendError> {
    match done? {
        Done::Locked(done) => Ok(done),
        _ => Err(BackendError::Unknown),
    }
}

fn job(job: LockedJob) -> Job {
    Job::Locked(Box::new(job))
}

/// Both, one after the other; what `then` says goes before what `first` said.
pub(crate) fn merge(mut first: Answer, then: Answer) -> Answer {
    first.delta.merge(then.delta);
    first.effects.extend(then.effects);
    first.outcome = then.outcome.or(first.outcome);
    first.note = then.note.or(first.note);
    first.trouble = then.trouble.or(first.trouble);
    first
}

/// The proofs' own bytes of these numbers, one after the other.
pub(crate) fn pieces_of(all: &[u8], numbers: &[u64]) -> Option<Vec<u8>> {
    let pieces = numbers.iter().map(|number| {
        let from = usize::try_from(*number).ok()?.checked_mul(PIECE)?;
        all.get(from..from.checked_add(PIECE)?)
    });
    Some(pieces.collect::<Option<Vec<_>>>()?.concat())
}

/// A step's number for a cumulative amount that is a whole number of steps.
fn whole_steps(cumulative: Msat, step: u64) -> Option<u64> {
    let step_msat = step.checked_mul(1000)?;
    let whole = cumulative.msat().checked_rem(step_msat)? == 0;
    let steps = cumulative.msat().checked_div(step_msat)?;
    (whole && steps > 0).then_some(steps)
}
