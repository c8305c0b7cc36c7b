//! A payee's channel: checked on the own chain source, ticked, closed.

use bitcoin::{Amount, FeeRate, Network, Transaction, Txid};
use streampay_core::backend::{
    Answer, BackendError, Consumed, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, PurseKey, Seq};

use super::mutual::Attempt;
use super::record::{self, Best, Decided, Deed, Meta, Part, PayeeMeta};
use super::{Chain, ChannelMachine, Env, OUT_OF_ORDER, Reply, failed, msat, settled};
use crate::chain::Seen;
use crate::job::Job;
use crate::keys::{ChannelSecret, NodeKeys};
use crate::tx::{Contract, Refusal, UpdateSignature, fee_with};
use crate::wire::{Opening, PAYLOAD_MAX};

/// A block's reward can be spent at this depth. Source: Bitcoin Core, `COINBASE_MATURITY`.
pub(super) const COINBASE_DEPTH: u32 = 100;
/// Of what is due, closing may cost this part beyond the reserve. Spec: bitcoin 5.4.
const COST_PART: u64 = 3;

pub(super) struct Payee {
    pub(super) meta: PayeeMeta,
    pub(super) secret: ChannelSecret,
    pub(super) contract: Contract,
    pub(super) best: Option<Update>,
    pub(super) seen: Option<Seen>,
    /// The newest view left it out: good for closing, and for no tick.
    pub(super) stale: bool,
    /// Of one that is not accepted: the height at which its funding was looked at for the request
    /// under way.
    looked: Option<u32>,
    /// Of one that is not accepted: when its payer showed it last, in milliseconds.
    pub(super) asked: u64,
    pub(super) decided: Decided,
    /// The height at which something was broadcast for it last.
    pub(super) tried: Option<u32>,
    /// The rate of the last close that was broadcast over one that waits: where that still waits, it
    /// was too low.
    pub(super) bid: Option<FeeRate>,
    /// What closing should cost, where that is more than it may: told when it comes to that.
    pub(super) short: Option<Amount>,
    /// The height from which on it waits to be closed with others.
    pub(super) pooled: Option<u32>,
    /// The attempt to close together.
    pub(super) attempt: Attempt,
    /// The funding transaction, kept where ticks are taken before a block has it: nodes may forget it.
    pub(super) parent: Option<Transaction>,
    /// That one was broadcast by itself since the chain knew it last: still unknown, it was refused.
    pub(super) offered: bool,
    /// The close that was broadcast with it, and its fee, until the chain shows it.
    pub(super) carried: Option<(Txid, Amount)>,
    /// What of its close went to others, once that is buried.
    pub(super) split: Vec<Part>,
}

/// The most that closing may cost where ticks of `due` sat are due. Spec: bitcoin 5.4.
pub(super) const fn cost_max(reserve: u64, due: u64) -> u64 {
    reserve.saturating_add(due / COST_PART)
}

/// The best update, decoded and verified.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) paid: u64,
    seq: u64,
    pub(super) signature: UpdateSignature,
}

impl Payee {
    pub(super) fn begin(
        env: &Env<'_>,
        key: PurseKey,
        offer: &PurseOffer,
        opening: &[u8],
    ) -> Result<Self, BackendError> {
        let (params, contract) = Opening::decode(key, offer, opening).map_err(refused)?;
        let own = env.keys.payee_base();
        if params.payee != own || params.network != env.config.network {
            return Err(refused(RefusalCode::NoCommonMethod));
        }
        let depth = params.depth_for(contract.value());
        let depth = depth.ok_or_else(|| refused(RefusalCode::WrongAmount))?;
        let output = contract.output();
        let secret = env.keys.payee(output.payer(), key);
        let secret = secret.map_err(|_| refused(RefusalCode::WrongLock))?;
        let step = offer.tick.sat_ceil();
        if contract.capacity(Amount::from_sat(step)) == Amount::ZERO {
            return Err(refused(RefusalCode::WrongAmount));
        }
        let deed = Deed {
            kind: output.output_type().code(),
            payer: output.payer().serialize().into(),
            payee: output.payee().serialize().into(),
            expiry: output.expiry(),
            value: contract.value().to_sat(),
            reserve: contract.reserve().to_sat(),
            change: contract.change_script().to_bytes().into(),
            margin: params.margin,
            step,
            depth,
            // Of a stranger's output only what is unspent is looked for.
            since: u32::MAX,
        };
        Ok(Self {
            meta: PayeeMeta {
                deed,
                place: contract.outpoint().into(),
                accepted: false,
                settling: false,
                life_min: params.life_min,
                life_max: params.life_max,
            },
            secret,
            contract,
            best: None,
            seen: None,
            stale: false,
            looked: None,
            asked: env.now.mono.0,
            decided: Decided::default(),
            tried: None,
            bid: None,
            short: None,
            pooled: None,
            attempt: Attempt::None,
            parent: None,
            offered: false,
            carried: None,
            split: Vec::new(),
        })
    }

    pub(super) fn restore(
        keys: &NodeKeys,
        network: Network,
        key: PurseKey,
        meta: PayeeMeta,
        best: Option<Best>,
        decided: Decided,
    ) -> Option<Self> {
        let contract = meta.deed.contract(network, &meta.place)?;
        let best = match best {
            Some(best) => {
                let paid = Amount::from_sat(best.paid);
                let signature = contract.verify_update(&best.signature, paid).ok()?;
                Some(Update {
                    paid: best.paid,
                    seq: best.seq,
                    signature,
                })
            }
            None => None,
        };
        Some(Self {
            secret: keys.payee(contract.output().payer(), key).ok()?,
            contract,
            best,
            seen: None,
            stale: false,
            looked: None,
            asked: 0,
            decided,
            tried: None,
            bid: None,
            short: None,
            pooled: None,
            attempt: Attempt::None,
            parent: None,
            offered: false,
            carried: None,
            split: Vec::new(),
            meta,
        })
    }

    pub(super) fn request(&mut self, env: &Env<'_>, key: PurseKey, request: &Request) -> Reply {
        match request {
            Request::Accept { offer, opening } => self.accept(env, key, offer, opening),
            Request::Receive {
                seq,
                amount,
                cumulative,
                payload,
            } => self.receive(env, *seq, *amount, *cumulative, payload),
            Request::Settle { .. } => self.settle(env, key),
            _ => failed(OUT_OF_ORDER),
        }
    }

    fn accept(
        &mut self,
        env: &Env<'_>,
        key: PurseKey,
        offer: &PurseOffer,
        opening: &[u8],
    ) -> Reply {
        match Self::begin(env, key, offer, opening) {
            Ok(same) if same.contract == self.contract => {}
            Ok(_) => return failed(refused(RefusalCode::OutOfOrder)),
            Err(error) => return failed(error),
        }
        let mut answer = Answer::default();
        if !self.meta.accepted {
            // Nothing is written before it is a channel: a stranger's word costs no disk.
            if !env.fresh {
                (self.seen, self.looked, self.asked) = (None, None, env.now.mono.0);
                return Reply::First(answer, Job::Look);
            }
            let Some(tip) = self.looked else {
                return failed(BackendError::Transient);
            };
            if let Err(error) = self.check_funding(tip) {
                return failed(error);
            }
            self.meta.accepted = true;
            let height = self.seen.as_ref().and_then(|seen| seen.height);
            // No spend is below the funding: sources need not read further back.
            self.meta.deed.since = height.unwrap_or(tip);
            self.put_meta(&mut answer.delta);
            if let Some(parent) = self.new_parent() {
                record::put_parent(&mut answer.delta, &parent);
                self.parent = Some(parent);
            }
        }
        let capacity = self
            .contract
            .capacity(Amount::from_sat(self.meta.deed.step));
        answer.outcome = Some(Outcome::Accepted {
            capacity: msat(capacity.to_sat()),
            quantum: ChannelMachine::QUANTUM,
        });
        Reply::Answer(answer)
    }

    /// Everything that only the own chain source can tell. Spec: bitcoin 3.5.
    fn check_funding(&self, tip: u32) -> Result<(), BackendError> {
        let deed = &self.meta.deed;
        let Some(seen) = &self.seen else {
            return Err(BackendError::Transient);
        };
        if seen.output.script_pubkey != self.contract.output().script_pubkey() {
            return Err(refused(RefusalCode::WrongLock));
        }
        if seen.output.value != self.contract.value() {
            return Err(refused(RefusalCode::WrongAmount));
        }
        if seen.spend.is_some() {
            return Err(BackendError::Rejected(
                RefusalCode::AlreadySpent,
                Consumed::Yes,
            ));
        }
        let left = deed.expiry.saturating_sub(tip);
        if left < self.meta.life_min || left > self.meta.life_max {
            return Err(refused(RefusalCode::WrongLock));
        }
        let depth = if seen.coinbase {
            deed.depth.max(COINBASE_DEPTH)
        } else {
            deed.depth
        };
        if seen.depth(tip) < depth || !can_follow(seen) {
            return Err(BackendError::Transient);
        }
        Ok(())
    }

    fn receive(
        &mut self,
        env: &Env<'_>,
        seq: Seq,
        amount: Msat,
        cumulative: Msat,
        payload: &[u8],
    ) -> Reply {
        let deed = &self.meta.deed;
        let whole = cumulative.msat().is_multiple_of(1000) && amount.msat().is_multiple_of(1000);
        let Some(paid) = cumulative.sat_floor().checked_add(deed.reserve) else {
            return failed(refused(RefusalCode::WrongAmount));
        };
        if !whole || amount.is_zero() || amount > cumulative {
            return failed(refused(RefusalCode::WrongAmount));
        }
        if payload.len() > PAYLOAD_MAX {
            return failed(refused(RefusalCode::Malformed));
        }
        if let Some(best) = &self.best
            && best.paid == paid
        {
            // It is ours already: a repeat, or the same amount under a new number.
            return match *payload == best.signature.to_bytes() || seq.0 == best.seq {
                true => Reply::Answer(Answer::outcome(Outcome::Credited)),
                false => self.take(paid, seq, payload),
            };
        }
        if self.best.as_ref().is_some_and(|best| best.paid > paid) {
            return failed(refused(RefusalCode::OutOfOrder));
        }
        let capacity = self.contract.capacity(Amount::from_sat(deed.step)).to_sat();
        if cumulative.sat_floor() > capacity || self.meta.settling || self.decided.closing {
            return failed(refused(RefusalCode::PurseEmpty));
        }
        let Some(chain) = env.chain.filter(|_| self.meta.accepted) else {
            return look_or_later(env);
        };
        match self.serves(chain, paid) {
            Ok(()) => self.take(paid, seq, payload),
            Err(BackendError::Transient) => look_or_later(env),
            Err(error) => failed(error),
        }
    }

    /// True where a tick up to `paid` could be collected in time.
    fn serves(&self, chain: &Chain, paid: u64) -> Result<(), BackendError> {
        let deed = &self.meta.deed;
        if deed.expiry.saturating_sub(chain.tip) <= deed.margin {
            return Err(refused(RefusalCode::PurseEmpty));
        }
        match &self.seen {
            _ if self.stale => return Err(BackendError::Transient),
            Some(seen) if seen.spend.is_some() => {
                return Err(refused(RefusalCode::AlreadySpent));
            }
            Some(seen) if seen.depth(chain.tip) >= deed.depth && can_follow(seen) => {}
            _ => return Err(BackendError::Transient),
        }
        let cost = self.close_cost(chain);
        if cost.is_none_or(|cost| cost > self.cost_max(paid)) {
            return Err(refused(RefusalCode::FeeTooHigh));
        }
        Ok(())
    }

    /// What closing this channel alone costs now, to be in a block well before the margin ends, with what
    /// is missing of a funding that waits.
    pub(super) fn close_cost(&self, chain: &Chain) -> Option<u64> {
        let target = self.target(chain.tip);
        let weight = super::watch::close_weight(self.contract.output().output_type());
        let fee = fee_with(weight, chain.fees.rate(target), self.carried()).ok()?;
        Some(fee.to_sat())
    }

    /// The most that closing may cost where `paid` is due, settle reserve included.
    pub(super) const fn cost_max(&self, paid: u64) -> u64 {
        let reserve = self.meta.deed.reserve;
        cost_max(reserve, paid.saturating_sub(reserve))
    }

    /// Blocks to wait for a close at most: half of what is left.
    pub(super) const fn target(&self, tip: u32) -> u32 {
        let half = self.meta.deed.expiry.saturating_sub(tip) / 2;
        if half == 0 { 1 } else { half }
    }

    fn take(&mut self, paid: u64, seq: Seq, payload: &[u8]) -> Reply {
        let verified = self.contract.verify_update(payload, Amount::from_sat(paid));
        let signature = match verified {
            Ok(signature) => signature,
            Err(refusal) => return failed(refused(code(refusal))),
        };
        let mut answer = Answer::outcome(Outcome::Credited);
        record::put_best(
            &mut answer.delta,
            &Best {
                paid,
                seq: seq.0,
                signature: payload.to_vec().into(),
            },
        );
        self.best = Some(Update {
            paid,
            seq: seq.0,
            signature,
        });
        Reply::Answer(answer)
    }

    fn settle(&mut self, env: &Env<'_>, key: PurseKey) -> Reply {
        let mut answer = Answer::default();
        if !self.meta.accepted {
            return Reply::Answer(settled(0));
        }
        if !self.meta.settling {
            self.meta.settling = true;
            self.put_meta(&mut answer.delta);
        }
        if self.best.is_none() {
            return Reply::Answer(super::merge(answer, settled(0)));
        }
        if let Some(sat) = self.decided.settled {
            return Reply::Answer(super::merge(answer, settled(sat)));
        }
        if env.fresh {
            return Reply::Answer(super::merge(
                answer,
                Answer::failed(BackendError::Transient),
            ));
        }
        if self.begin_mutual(env) {
            answer.effects.push(super::draw(key));
        }
        Reply::First(answer, Job::Look)
    }

    /// What the chain says of a funding that a payer showed and that is not accepted.
    pub(super) fn show(&mut self, tip: u32, seen: Option<Seen>) {
        (self.looked, self.seen) = (Some(tip), seen);
    }

    fn put_meta(&self, delta: &mut ChangeSet) {
        record::put_meta(delta, &Meta::Payee(self.meta.clone()));
    }
}

/// A close of version 3 cannot follow an unconfirmed parent of another version, nor a child of one.
pub(super) const fn can_follow(seen: &Seen) -> bool {
    seen.height.is_some() || seen.parent.is_some()
}

fn look_or_later(env: &Env<'_>) -> Reply {
    if env.fresh {
        failed(BackendError::Transient)
    } else {
        Reply::First(Answer::default(), Job::Look)
    }
}

const fn refused(code: RefusalCode) -> BackendError {
    BackendError::Rejected(code, Consumed::No)
}

const fn code(refusal: Refusal) -> RefusalCode {
    match refusal {
        Refusal::OverCapacity => RefusalCode::PurseEmpty,
        Refusal::UnderReserve | Refusal::ChangeIsDust => RefusalCode::WrongAmount,
        Refusal::Malformed => RefusalCode::Malformed,
        Refusal::SighashType => RefusalCode::WrongLock,
        Refusal::Signature => RefusalCode::BadProof,
    }
}
