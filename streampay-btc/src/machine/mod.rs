//! The machine of the method `btc-cltv`: all channels of this node, payer's and payee's.
//!
//! ```text
//! payer   Open --look--> planned --fund--> funded --look, depth--> open: Pay ... Release
//! payee   Accept --look, checks, depth--> open: Receive ... Settle
//! both    every view of the chain: close in time, refund after the expiry, bump, until buried
//! ```
//!
//! What a channel is follows from the terms, the seed and the opening; what it holds from one
//! signature. So the chain part keeps almost nothing: a view of the chain and the durable fact
//! "no tick any more" decide anew, at every view, what to broadcast.

mod candidates;
mod inner;
#[cfg_attr(not(feature = "musig2"), path = "mutual_none.rs")]
mod mutual;
mod payee;
mod payer;
mod plan;
mod record;
mod strays;
mod unpaid;
mod view;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::{FeeRate, Network, Transaction};
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Effect, EffectResult, Outcome, RefusalCode, Request,
    RestoredPurse,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{EffectId, Msat, Now, PurseKey, RequestId};

use self::payee::Payee;
use self::payer::Payer;
pub use self::strays::Besides;
pub use self::view::{ChannelReport, ChannelState, PaidBesides, PaidOut, Role};
use self::watch::FeeWallet;
pub(crate) use self::watch::{FINAL_DEPTH, LAST_BLOCKS, rate_of};
pub use self::watch::{TooManyCoins, WalletCoin, WatchEvent};
use crate::chain::{ChainView, FeeTable, Watch};
use crate::codec;
use crate::job::Job;
use crate::keys::{KeyError, NodeKeys, Seed};
use crate::kit::{RescueKit, TowerEntry};
use crate::params::{ChannelParams, ParamsError};
use crate::policy::{PayeePolicy, PayerPolicy};

/// So long a view of the chain is good for ticks, in milliseconds. Far less than the margin.
const STALE_MS: u64 = 60 * 60 * 1000;

/// What a node wants of its channels.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Which chain. Mainnet only where the embedder says so.
    pub network: Network,
    /// Limits as payer.
    pub payer: PayerPolicy,
    /// What is asked as payee.
    pub payee: PayeePolicy,
}

/// Something to do, in order, after a view of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Make this durable before anything after it.
    Persist(ChangeSet),
    /// Broadcast this transaction. Broadcasting it again is harmless.
    Broadcast(Transaction),
    /// Broadcast these together: a funding that no node holds any more, and the close that pays for it.
    /// Broadcasting them again is harmless.
    Package(Vec<Transaction>),
    /// Tell the user.
    Event(PurseKey, WatchEvent),
}

/// The sync machine of `btc-cltv`, both roles. Clones share one state: one is the node's
/// [`BackendMachine`], another is told views of the chain.
#[derive(Clone)]
pub struct ChannelMachine {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    config: ChannelConfig,
    keys: NodeKeys,
    wallet: FeeWallet,
    channels: BTreeMap<PurseKey, Channel>,
    chain: Option<Chain>,
}

/// The newest view's height and fees.
#[derive(Clone, Debug)]
struct Chain {
    tip: u32,
    fees: FeeTable,
    at: u64,
    /// The height of the first view since the start.
    first: u32,
}

impl Chain {
    /// True some blocks after the start. A restart gives channels back one after the other, and looks
    /// at the chain in between: until then, what is not known may be known yet.
    const fn is_complete(&self) -> bool {
        self.tip >= self.first.saturating_add(FINAL_DEPTH)
    }
}

struct Channel {
    role: Side,
    /// The request that waits for an effect.
    waiting: Option<Request>,
    /// The effect that is under way.
    running: bool,
}

enum Side {
    Payer(Box<Payer>),
    Payee(Box<Payee>),
}

/// What a side says to a request: an answer, or an effect first.
enum Reply {
    Answer(Answer),
    First(Answer, Job),
}

/// What both sides need besides their own state.
struct Env<'a> {
    config: &'a ChannelConfig,
    keys: &'a NodeKeys,
    /// None where there is no view, or it is too old for money.
    chain: Option<&'a Chain>,
    now: Now,
    /// True where the chain was just looked at for this request.
    fresh: bool,
}

impl ChannelMachine {
    /// The method's name in terms and in the store.
    pub const METHOD: &'static str = "btc-cltv";
    /// What amounts due are rounded up to.
    pub const QUANTUM: Msat = match Msat::from_sat(1) {
        Ok(sat) => sat,
        Err(_) => Msat::ZERO,
    };

    /// A machine without channels, its keys from `seed`.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn new(config: ChannelConfig, seed: &Seed) -> Result<Self, KeyError> {
        let keys = NodeKeys::new(seed, config.network)?;
        let inner = Inner {
            config,
            wallet: FeeWallet::new(&keys)?,
            keys,
            channels: BTreeMap::new(),
            chain: None,
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// What the payee puts into its terms: ask anew for each offer, for the reserve goes with the fees of
    /// the newest view.
    ///
    /// # Errors
    /// [`ParamsError`] where the policy is not one; [`ParamsError::NoView`] where the reserve goes with fees
    /// and no view [is good](ChannelMachine::has_view): it is not what closing asks today.
    pub fn params(&self, now: Now) -> Result<ChannelParams, ParamsError> {
        let inner = self.lock();
        let base = inner.keys.payee_base();
        let mut policy = inner.config.payee.clone();
        if policy.reserve_target > 0 {
            let chain = Inner::chain_at(inner.chain.as_ref(), now).ok_or(ParamsError::NoView)?;
            policy.reserve = policy.reserve_now(&chain.fees);
        }
        policy.params(inner.config.network, base)
    }

    /// True where the newest view of the chain is good for money: none is before the first look, and none is
    /// an hour old.
    #[must_use]
    pub fn has_view(&self, now: Now) -> bool {
        Inner::chain_at(self.lock().chain.as_ref(), now).is_some()
    }

    /// The outputs that the next view should hold: those of all channels that are not settled, each
    /// once. A channel that is not accepted is looked at apart.
    #[must_use]
    pub fn watched(&self) -> Vec<Watch> {
        let inner = self.lock();
        let channels = inner.channels.values();
        let channels = channels.flat_map(Channel::watches);
        channels.chain(inner.wallet.watched()).collect()
    }

    /// Takes a view of the chain and says what to do.
    #[must_use]
    pub fn chain(&self, now: Now, view: &ChainView) -> Vec<Action> {
        self.lock().take_view(now, view)
    }

    /// What may be done of these where the disk has failed. All that is to be made durable is left out.
    pub(crate) fn without_disk(&self, actions: VecDeque<Action>) -> VecDeque<Action> {
        self.lock().without_disk(actions)
    }

    /// How every channel stands.
    #[must_use]
    pub fn report(&self) -> Vec<ChannelReport> {
        let inner = self.lock();
        let tip = inner.chain.as_ref().map(|chain| chain.tip);
        let channels = inner.channels.iter();
        channels
            .filter_map(|(key, channel)| channel.report(*key, tip, inner.config.network))
            .collect()
    }

    /// How a channel stands by its records on disk, which may be one that is settled and not in
    /// memory any more; none where they hold no channel.
    #[must_use]
    pub fn report_of(&self, purse: PurseKey, records: &RestoredPurse) -> Option<ChannelReport> {
        let inner = self.lock();
        let tip = inner.chain.as_ref().map(|chain| chain.tip);
        match inner.channels.get(&purse) {
            Some(known) => known.report(purse, tip, inner.config.network),
            None => {
                let channel = inner.read(purse, records).ok()??;
                channel.report(purse, tip, inner.config.network)
            }
        }
    }

    /// A payer's channel on paper: from the moment its keys and expiry are durable.
    #[must_use]
    pub fn rescue_kit(&self, purse: PurseKey) -> Option<RescueKit> {
        let inner = self.lock();
        let Side::Payer(payer) = &inner.channels.get(&purse)?.role else {
            return None;
        };
        let deed = payer.meta.deed.as_ref()?;
        Some(RescueKit::new(
            inner.config.network,
            &deed.output()?,
            bitcoin::Amount::from_sat(deed.value),
            payer.contract.as_ref(),
            &payer.secret,
            inner.keys.payer_path(purse),
            &inner.config.payer.home,
        ))
    }

    /// A payee's channel for a watchtower: closes at each of these rates, as far as they pay; none
    /// where nothing is due.
    #[must_use]
    pub fn tower_entry(&self, purse: PurseKey, rates: &[FeeRate]) -> Option<TowerEntry> {
        self.lock().tower_entry(purse, rates)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// An effect, unless one is under way.
    fn start(&mut self, purse: PurseKey, job: &Job) -> Vec<Effect> {
        if core::mem::replace(&mut self.running, true) {
            return Vec::new();
        }
        vec![Effect {
            purse,
            id: CALL,
            body: codec::encode(job).into(),
        }]
    }
}

impl BackendMachine for ChannelMachine {
    fn method(&self) -> &'static str {
        Self::METHOD
    }

    fn request(&mut self, now: Now, purse: PurseKey, _: RequestId, request: Request) -> Answer {
        self.lock().request(now, purse, request, false)
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        self.lock().effect_done(now, result)
    }

    fn restore_node(&mut self, records: RestoredPurse) {
        self.lock().wallet.restore(&records);
    }

    fn restore(&mut self, _: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        self.lock().restore(purse, &records)
    }

    /// Keeps a channel whose money is not settled on the chain: it is still watched.
    fn forget(&mut self, purse: PurseKey) {
        let mut inner = self.lock();
        let over = |channel: &Channel| channel.is_over() || channel.is_candidate();
        if inner.channels.get(&purse).is_some_and(over) {
            inner.channels.remove(&purse);
        }
    }
}

impl core::fmt::Debug for ChannelMachine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let inner = self.lock();
        f.debug_struct("ChannelMachine")
            .field("network", &inner.config.network)
            .field("channels", &inner.channels.len())
            .finish_non_exhaustive()
    }
}

/// A purse's call to chain or wallet, one at a time.
const CALL: EffectId = EffectId(1);
/// Randomness for a mutual close: beside that call.
const DRAW: EffectId = EffectId(2);

fn draw(purse: PurseKey) -> Effect {
    Effect {
        purse,
        id: DRAW,
        body: codec::encode(&Job::Draw).into(),
    }
}

const OUT_OF_ORDER: BackendError = BackendError::Fatal(RefusalCode::OutOfOrder);

fn failed(error: BackendError) -> Reply {
    Reply::Answer(Answer::failed(error))
}

fn released(sat: u64) -> Answer {
    Answer::outcome(Outcome::Released {
        refunded: msat(sat),
    })
}

fn settled(sat: u64) -> Answer {
    Answer::outcome(Outcome::Settled { settled: msat(sat) })
}

/// An amount of the chain's in the core's unit; beyond all bitcoin it is all bitcoin.
fn msat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}

fn merge(mut first: Answer, then: Answer) -> Answer {
    first.delta.merge(then.delta);
    first.effects.extend(then.effects);
    first.outcome = then.outcome.or(first.outcome);
    first
}
