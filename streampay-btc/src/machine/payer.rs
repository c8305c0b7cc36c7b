//! A payer's channel: planned, funded, deep enough, paid from, home again.

use bitcoin::{Amount, Network, OutPoint};
use streampay_core::backend::{
    Answer, BackendError, Opened, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, PurseKey};

use super::mutual::Asked;
use super::record::{self, Best, Decided, Deed, Meta, PayerMeta};
use super::strays::Stray;
use super::watch::Refunding;
use super::{ChannelMachine, Env, OUT_OF_ORDER, Reply, failed, msat, released};
use crate::chain::Seen;
use crate::codec;
use crate::job::{Job, Place};
use crate::keys::{ChannelSecret, NodeKeys};
use crate::tx::Contract;
use crate::wire::Opening;

/// Seconds a block takes on average.
const BLOCK_S: u64 = 600;
/// So many blocks after the expiry a funding may still come, or come back. Source: Bitcoin Core,
/// `DEFAULT_MEMPOOL_EXPIRY_HOURS`, 336.
pub(super) const FORGOTTEN: u32 = 2_016;

pub(super) struct Payer {
    pub(super) meta: PayerMeta,
    pub(super) secret: ChannelSecret,
    /// The highest amount that a signature exists for, settle reserve included.
    pub(super) signed: u64,
    pub(super) contract: Option<Contract>,
    pub(super) seen: Option<Seen>,
    /// The newest view left it out: good for a refund, and for no tick.
    pub(super) stale: bool,
    pub(super) decided: Decided,
    /// What was done to take it back.
    pub(super) refunding: Refunding,
    /// The payee's proposal to close together.
    pub(super) asked: Option<Asked>,
    /// The chain does not know the funding, and another one would do as well.
    pub(super) adrift: bool,
    /// What was paid to its address besides.
    pub(super) strays: Vec<Stray>,
    /// The height of the view after which that was looked for last.
    pub(super) searched: Option<u32>,
    /// That is to be looked for once, also long after its time.
    pub(super) sought: bool,
}

impl Payer {
    pub(super) fn begin(env: &Env<'_>, key: PurseKey) -> Result<Self, BackendError> {
        let secret = env.keys.payer(key);
        let secret = secret.map_err(|_| BackendError::Fatal(RefusalCode::Other))?;
        Ok(Self {
            meta: PayerMeta {
                deed: None,
                place: None,
                fee: 0,
                closing: false,
                opened: false,
            },
            secret,
            signed: 0,
            contract: None,
            seen: None,
            stale: false,
            decided: Decided::default(),
            refunding: Refunding::default(),
            asked: None,
            adrift: false,
            strays: Vec::new(),
            searched: None,
            sought: false,
        })
    }

    pub(super) fn restore(
        keys: &NodeKeys,
        network: Network,
        key: PurseKey,
        meta: PayerMeta,
        best: Option<Best>,
        decided: Decided,
    ) -> Option<Self> {
        let contract = match (&meta.deed, &meta.place) {
            (Some(deed), Some(place)) => Some(deed.contract(network, place)?),
            _ => None,
        };
        Some(Self {
            secret: keys.payer(key).ok()?,
            signed: best.map_or(0, |best| best.paid),
            contract,
            seen: None,
            stale: false,
            decided,
            refunding: Refunding::default(),
            asked: None,
            adrift: false,
            strays: Vec::new(),
            searched: None,
            sought: false,
            meta,
        })
    }

    pub(super) fn request(&mut self, env: &Env<'_>, key: PurseKey, request: &Request) -> Reply {
        match request {
            Request::Open { .. } if self.meta.closing => failed(OUT_OF_ORDER),
            Request::Open {
                offer,
                capacity,
                budget,
            } => self.open(env, key, offer, *capacity, *budget),
            Request::Pay {
                amount, cumulative, ..
            } => self.pay(env, *amount, *cumulative),
            // A later tick of the same amount gives out nothing that is not out already.
            Request::Reclaim { .. } => Reply::Answer(Answer::outcome(Outcome::Outstanding)),
            Request::Release => self.release(env),
            _ => failed(OUT_OF_ORDER),
        }
    }

    fn open(
        &mut self,
        env: &Env<'_>,
        key: PurseKey,
        offer: &PurseOffer,
        capacity: Msat,
        budget: Msat,
    ) -> Reply {
        let mut answer = Answer::default();
        let Some(deed) = &self.meta.deed else {
            return match env.chain {
                None if env.fresh => failed(BackendError::Transient),
                None => Reply::First(answer, Job::Look),
                Some(chain) => match self.plan(env, key, offer, capacity.min(budget), chain) {
                    Ok(deed) => {
                        let job = fund(&deed);
                        self.meta.deed = Some(deed);
                        // Keys, script and expiry are durable before anybody pays to them.
                        self.put_meta(&mut answer.delta);
                        job.map_or_else(|| failed(OUT_OF_ORDER), |job| Reply::First(answer, job))
                    }
                    Err(code) => failed(BackendError::Fatal(code)),
                },
            };
        };
        let Some(contract) = &self.contract else {
            return fund(deed).filter(|_| !env.fresh).map_or_else(
                || failed(BackendError::Transient),
                |job| Reply::First(answer, job),
            );
        };
        let Some(chain) = env.chain else {
            return look_or_later(env);
        };
        if !self.meta.opened {
            let deep = !self.stale
                && self.seen.as_ref().is_some_and(|seen| {
                    seen.output == contract.funding() && seen.depth(chain.tip) >= deed.depth
                });
            if !deep {
                return look_or_later(env);
            }
            self.meta.opened = true;
        }
        let left = deed.expiry.saturating_sub(deed.margin);
        let left = u64::from(left.saturating_sub(chain.tip)).saturating_mul(BLOCK_S);
        let capacity = contract.capacity(Amount::from_sat(deed.step)).to_sat();
        let opened = Opened {
            opening: codec::encode(&Opening::new(key, contract)).into(),
            capacity: msat(capacity),
            cost: msat(deed.value.saturating_add(self.meta.fee)),
            quantum: ChannelMachine::QUANTUM,
            usable_until: Some(env.now.unix.after_s(left)),
        };
        answer.outcome = Some(Outcome::Opened(opened));
        self.put_meta(&mut answer.delta);
        Reply::Answer(answer)
    }

    fn pay(&mut self, env: &Env<'_>, amount: Msat, cumulative: Msat) -> Reply {
        let (Some(deed), Some(contract)) = (&self.meta.deed, &self.contract) else {
            return failed(OUT_OF_ORDER);
        };
        let whole = |amount: Msat| amount.msat().is_multiple_of(1000);
        if !whole(amount) || !whole(cumulative) || amount > cumulative || amount.is_zero() {
            return failed(BackendError::Fatal(RefusalCode::WrongAmount));
        }
        let empty = BackendError::Fatal(RefusalCode::PurseEmpty);
        let capacity = contract.capacity(Amount::from_sat(deed.step)).to_sat();
        if cumulative.sat_floor() > capacity || self.meta.closing || self.decided.closing {
            return failed(empty);
        }
        let Some(chain) = env.chain else {
            return look_or_later(env);
        };
        if deed.expiry.saturating_sub(chain.tip) <= deed.margin {
            return failed(empty);
        }
        match &self.seen {
            _ if self.stale => return look_or_later(env),
            Some(seen) if seen.spend.is_some() => return failed(empty),
            Some(seen) if seen.depth(chain.tip) >= deed.depth => {}
            // The funding is gone, or not looked at since a restart.
            _ => return look_or_later(env),
        }
        let Some(paid) = cumulative.sat_floor().checked_add(deed.reserve) else {
            return failed(BackendError::Fatal(RefusalCode::WrongAmount));
        };
        // A session takes more for paid after a restart, where the payee's receipt says so, and an update
        // pays all that is below it: one that leaps would give away what was never paid.
        let before = cumulative.sat_floor().saturating_sub(amount.sat_floor());
        let known = self.signed.saturating_sub(deed.reserve);
        if before > known {
            return failed(empty);
        }
        let signature = match contract.sign_update(&self.secret, Amount::from_sat(paid)) {
            Ok(signature) => signature,
            Err(_) => return failed(empty),
        };
        let mut answer = Answer::outcome(Outcome::Paid {
            payload: signature.to_bytes().into(),
        });
        if paid > self.signed {
            self.signed = paid;
            record::put_best(
                &mut answer.delta,
                &Best {
                    paid,
                    seq: 0,
                    signature: Vec::new().into(),
                },
            );
        }
        Reply::Answer(answer)
    }

    fn release(&mut self, env: &Env<'_>) -> Reply {
        let mut answer = Answer::default();
        if !self.meta.closing {
            self.meta.closing = true;
            self.put_meta(&mut answer.delta);
        }
        if let Some(refunded) = self.decided.settled {
            return Reply::Answer(super::merge(answer, released(refunded)));
        }
        // No address was ever shown.
        let Some(deed) = &self.meta.deed else {
            return Reply::Answer(super::merge(answer, released(0)));
        };
        if self.contract.is_none() || self.adrift {
            let Some(job) = find(deed).filter(|_| !env.fresh) else {
                let over = deed.expiry.saturating_add(FORGOTTEN);
                let over = env.chain.is_some_and(|chain| chain.tip >= over);
                return Reply::Answer(super::merge(answer, self.unpaid(over)));
            };
            return Reply::First(answer, job);
        }
        if env.fresh {
            return Reply::Answer(super::merge(
                answer,
                Answer::failed(BackendError::Transient),
            ));
        }
        Reply::First(answer, Job::Look)
    }

    /// Nobody has paid to the address, as far as is known: whoever was shown it may have, as long as
    /// nodes could keep that waiting.
    fn unpaid(&mut self, over: bool) -> Answer {
        if !over {
            return Answer::failed(BackendError::Transient);
        }
        self.decided.settled = Some(0);
        let mut answer = released(0);
        record::put_decided(&mut answer.delta, self.decided);
        answer
    }

    /// True where nothing is to be done or seen any more.
    pub(super) const fn is_over(&self) -> bool {
        self.decided.settled.is_some() || self.meta.closing && self.meta.deed.is_none()
    }

    /// The payee wants to close together: no tick is paid any more. True where randomness is needed.
    pub(super) fn on_note(&mut self, bytes: &[u8], delta: &mut ChangeSet) -> bool {
        if !self.proposed(bytes) {
            return false;
        }
        if !self.meta.closing {
            self.meta.closing = true;
            self.put_meta(delta);
        }
        true
    }

    /// The wallet has paid, or the chain knew that it had: for the first time, or by another
    /// transaction than the one that was known.
    pub(super) fn funded(
        &mut self,
        network: Network,
        place: Place,
        fee: u64,
        delta: &mut ChangeSet,
    ) {
        let moved = self.contract.is_some();
        let Some(deed) = (self.meta.deed.as_ref())
            .filter(|_| !moved || self.adrift && self.outpoint() != Some(place.outpoint()))
        else {
            return;
        };
        let Some(contract) = deed.contract(network, &place) else {
            return;
        };
        if moved {
            self.decided.unspent = None;
            (self.seen, self.asked) = (None, None);
            self.refunding = Refunding::default();
            self.adrift = false;
            // The payee was shown the other one, and takes ticks of no other: it only comes home.
            if self.meta.opened && !self.decided.closing {
                self.decided.closing = true;
                record::put_decided(delta, self.decided);
            }
        }
        self.is_no_stray(contract.outpoint(), delta);
        self.contract = Some(contract);
        self.meta.place = Some(place);
        self.meta.fee = fee;
        self.put_meta(delta);
    }

    pub(super) fn outpoint(&self) -> Option<OutPoint> {
        self.contract.as_ref().map(Contract::outpoint)
    }

    fn put_meta(&self, delta: &mut ChangeSet) {
        record::put_meta(delta, &Meta::Payer(self.meta.clone()));
    }
}

fn fund(deed: &Deed) -> Option<Job> {
    Some(Job::Fund {
        script: deed.output()?.script_pubkey().to_bytes().into(),
        value: deed.value,
        since: deed.since,
    })
}

fn find(deed: &Deed) -> Option<Job> {
    Some(Job::Find {
        script: deed.output()?.script_pubkey().to_bytes().into(),
        value: deed.value,
        since: deed.since,
    })
}

fn look_or_later(env: &Env<'_>) -> Reply {
    if env.fresh {
        failed(BackendError::Transient)
    } else {
        Reply::First(Answer::default(), Job::Look)
    }
}
