//! The watch over all channels: what a new view of the chain asks for. It closes in time, batches,
//! bumps until buried, refunds after the expiry, and broadcasts again what a restart or a
//! reorganisation has dropped.

mod build;
mod groups;
mod payee;
mod payer;
mod refund;
mod split;
mod wallet;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid, Weight};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Now, PurseKey};

pub(crate) use self::build::rate_of;
pub(super) use self::refund::Refunding;
pub(super) use self::wallet::FeeWallet;
pub use self::wallet::{TooManyCoins, WalletCoin};
use super::record::{self, Decided, Deed, Part};
use super::{Action, Chain, Inner, Side};
use crate::chain::{ChainView, OutputState, Seen, Spend};
use crate::script::OutputType;
use crate::tx::Contract;

/// Blocks under which a transaction counts as final. Source: LDK, `ANTI_REORG_DELAY`.
pub(crate) const FINAL_DEPTH: u32 = 6;
/// So many blocks before the expiry half of the claim may go into fees.
pub(crate) const LAST_BLOCKS: u32 = 6;
/// Blocks that a refund may take.
const REFUND_TARGET: u32 = 6;
/// A refund may cost this part of the value at first, the same again every so many blocks, and this part
/// at most. Spec: bitcoin 6.
const REFUND_PART: u64 = 20;
const REFUND_EVERY: u32 = 6;
const REFUND_PART_MAX: u64 = 2;
/// So many blocks after the expiry a close that waits may still get into one.
const LATE: u32 = 6;
/// A bump is at least this much more, in percent of the old rate.
const BUMP_PERCENT: u64 = 125;

/// What the watch tells the user of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The funding is in no block and waits for none: a reorganisation, or it was replaced.
    FundingGone,
    /// Somebody's transaction spends it.
    Spent {
        /// The transaction.
        txid: Txid,
        /// Its block, where it is in one.
        height: Option<u32>,
    },
    /// A close is on its way.
    Closing {
        /// The transaction, with the channels closed together.
        txid: Txid,
        /// What it costs in all.
        fee: Amount,
    },
    /// A refund is on its way.
    Refunding {
        /// What it spends: the channel, or what was paid to its address besides.
        outpoint: OutPoint,
        /// The transaction.
        txid: Txid,
    },
    /// Something else was paid to a channel's address: it opens nothing, and comes back after the
    /// expiry.
    PaidBesides {
        /// The output.
        outpoint: OutPoint,
        /// What it is worth.
        value: Amount,
    },
    /// Buried: such an output came back.
    Returned {
        /// The output.
        outpoint: OutPoint,
        /// Net of fees.
        amount: Amount,
    },
    /// At today's fees collecting costs more than it may.
    Uneconomic {
        /// The channel, or what was paid to its address besides. It is said once, until it changes:
        /// [`ChannelReport::short`](super::ChannelReport::short).
        outpoint: OutPoint,
        /// What is due.
        claim: Amount,
        /// What collecting it would cost.
        fee: Amount,
    },
    /// Buried: this came to us.
    Settled {
        /// Net of fees.
        amount: Amount,
    },
}

/// The weight of a close of one such channel alone. Spec: bitcoin 5.3.
pub(super) fn close_weight(kind: OutputType) -> Weight {
    Weight::from_wu(match kind {
        OutputType::Taproot => 199 * 4,
        OutputType::Wsh => 194 * 4,
    })
}

/// What a view says of one channel.
struct Looked<'a> {
    seen: Option<&'a Seen>,
    /// Its part of what the transaction that spends it pays, where that is known.
    cost: Option<Amount>,
    /// What of that transaction went to others for it.
    split: Vec<Part>,
}

impl Inner {
    pub(super) fn take_view(&mut self, now: Now, view: &ChainView) -> Vec<Action> {
        let chain = Chain {
            tip: view.tip,
            fees: view.fees.clone(),
            at: now.mono.0,
            first: self.chain.as_ref().map_or(view.tip, |chain| chain.first),
        };
        let mut actions = Vec::new();
        self.wallet.look(view);
        let besides = self.spent_besides(view);
        let seen: BTreeMap<OutPoint, Looked<'_>> = (view.outputs.iter().chain(&besides))
            .map(|state| {
                let spend = state.seen.as_ref().and_then(|seen| seen.spend.as_ref());
                let cost = spend.and_then(|of| self.fee_part(&of.tx, state.outpoint));
                let seen = state.seen.as_ref();
                let split = spend.filter(|of| of.depth(chain.tip) >= FINAL_DEPTH);
                let split = split.map(|of| self.split_part(&of.tx, state.outpoint));
                let split = split.unwrap_or_default();
                (state.outpoint, Looked { seen, cost, split })
            })
            .collect();
        for (key, channel) in &mut self.channels {
            let outpoint = channel.contract().map(Contract::outpoint);
            let new = outpoint.and_then(|outpoint| seen.get(&outpoint));
            match &mut channel.role {
                Side::Payee(payee) if !payee.meta.accepted => {
                    if let Some(new) = new {
                        payee.show(chain.tip, new.seen.cloned());
                    }
                }
                Side::Payer(payer) => {
                    payer.look(*key, new, &chain, &mut actions);
                    payer.look_strays(*key, &seen, &chain, &mut actions);
                }
                Side::Payee(payee) => payee.look(*key, new, &chain, &mut actions),
            }
        }
        let mut actions = at_once(actions);
        self.close_due(&chain, &mut actions);
        self.refund_due(&chain, &mut actions);
        let spent = self.forget_spent(&chain);
        if !spent.is_empty() {
            actions.push(Action::Persist(spent));
        }
        self.chain = Some(chain);
        actions
    }

    /// The payee's channels that the view leaves out, and that a buried transaction in it spends: what
    /// is closed together is booked together, while all of it is known.
    fn spent_besides(&self, view: &ChainView) -> Vec<OutputState> {
        let spends = view.outputs.iter().filter_map(|state| {
            let spend = state.seen.as_ref()?.spend.as_ref()?;
            (spend.depth(view.tip) >= FINAL_DEPTH).then_some(spend)
        });
        let mut spent: BTreeMap<OutPoint, &Spend> = BTreeMap::new();
        for spend in spends {
            let inputs = spend.tx.input.iter();
            spent.extend(inputs.map(|input| (input.previous_output, spend)));
        }
        for state in &view.outputs {
            spent.remove(&state.outpoint);
        }
        let channels = self.channels.values().filter_map(|channel| {
            let Side::Payee(payee) = &channel.role else {
                return None;
            };
            let outpoint = payee.contract.outpoint();
            let spend = *spent.get(&outpoint)?;
            let known = payee.seen.as_ref().and_then(|seen| seen.height);
            payee.meta.accepted.then(|| OutputState {
                outpoint,
                seen: Some(Seen {
                    output: payee.contract.funding(),
                    height: known.or(spend.height),
                    coinbase: false,
                    parent: None,
                    spend: Some(spend.clone()),
                }),
            })
        });
        channels.collect()
    }
}

impl Inner {
    /// What may be done of these though nothing can be made durable any more: what spends a channel on
    /// which no tick is taken by its height alone. Spec: bitcoin 5.2.
    pub(super) fn without_disk(&self, actions: VecDeque<Action>) -> VecDeque<Action> {
        let may = |tx: &Transaction| {
            let mut inputs = tx.input.iter().map(|input| input.previous_output);
            inputs.any(|outpoint| self.is_late(outpoint))
        };
        let left_out: BTreeSet<Txid> = (actions.iter())
            .filter_map(|action| match action {
                Action::Broadcast(tx) => Some(tx),
                Action::Package(package) => package.last(),
                Action::Persist(_) | Action::Event(..) => None,
            })
            .filter(|tx| !may(tx))
            .map(Transaction::compute_txid)
            .collect();
        let stays = |action: &Action| match action {
            Action::Persist(_) => false,
            Action::Broadcast(tx) => may(tx),
            Action::Package(package) => package.last().is_some_and(may),
            // Told again once it is durable.
            Action::Event(_, WatchEvent::Settled { .. } | WatchEvent::Returned { .. }) => false,
            Action::Event(
                _,
                WatchEvent::Closing { txid, .. } | WatchEvent::Refunding { txid, .. },
            ) => !left_out.contains(txid),
            Action::Event(..) => true,
        };
        actions.into_iter().filter(stays).collect()
    }

    /// True where a channel with this output is within its margin, or beyond.
    fn is_late(&self, outpoint: OutPoint) -> bool {
        let tip = self.chain.as_ref().map_or(0, |chain| chain.tip);
        self.channels.values().any(|channel| {
            let deed = match &channel.role {
                Side::Payer(payer) => payer.meta.deed.as_ref(),
                Side::Payee(payee) => payee.meta.accepted.then_some(&payee.meta.deed),
            };
            let mut strays = match &channel.role {
                Side::Payer(payer) => payer.strays.iter(),
                Side::Payee(_) => [].iter(),
            };
            let own = channel.contract().map(Contract::outpoint) == Some(outpoint)
                || strays.any(|stray| stray.contract.outpoint() == outpoint);
            let late = |deed: &Deed| deed.expiry.saturating_sub(tip) <= deed.margin;
            own && deed.is_some_and(late)
        })
    }
}

/// The same with all that is to be made durable in one, and first: what is booked together is durable
/// together.
fn at_once(actions: Vec<Action>) -> Vec<Action> {
    let (mut all, mut rest) = (ChangeSet::new(), Vec::with_capacity(actions.len()));
    for action in actions {
        match action {
            Action::Persist(changes) => all.merge(changes),
            other => rest.push(other),
        }
    }
    if !all.is_empty() {
        rest.insert(0, Action::Persist(all));
    }
    rest
}

/// A refund has a height in it, a close has none.
fn is_refund(tx: &Transaction) -> bool {
    tx.lock_time != bitcoin::absolute::LockTime::ZERO
}

fn persist(key: PurseKey, decided: Decided) -> Action {
    let mut delta = ChangeSet::new();
    record::put_decided(&mut delta, decided);
    Action::Persist(delta.within_purse(key))
}

fn tell(key: PurseKey, old: Option<&Seen>, new: Option<&Seen>, actions: &mut Vec<Action>) {
    if old.is_some() && new.is_none() {
        actions.push(Action::Event(key, WatchEvent::FundingGone));
    }
    let place = |seen: Option<&Seen>| {
        let spend = seen?.spend.as_ref()?;
        Some((spend.tx.compute_txid(), spend.height))
    };
    let (old, new) = (place(old), place(new));
    if let Some((txid, height)) = new.filter(|_| old != new) {
        actions.push(Action::Event(key, WatchEvent::Spent { txid, height }));
    }
}

fn percent(rate: FeeRate, percent: u64) -> FeeRate {
    let more = rate.to_sat_per_kwu().saturating_mul(percent).div_ceil(100);
    FeeRate::from_sat_per_kwu(more)
}
