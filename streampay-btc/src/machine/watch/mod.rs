//! The watch over all channels: what a new view of the chain asks for. It closes in time, batches,
//! bumps until buried, refunds after the expiry, and broadcasts again what a restart or a
//! reorganisation has dropped.

mod payee;
mod payer;

use std::collections::BTreeMap;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid, Weight};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Now, PurseKey};

use super::payee::Payee;
use super::record::{self, Decided};
use super::{Action, Chain, Inner, Side};
use crate::chain::{ChainView, Seen, Spend};
use crate::kit::TowerEntry;
use crate::script::OutputType;
use crate::tx::{
    CLOSE_INPUTS_MAX, CloseError, ClosePlan, Contract, close_tx, fee_for, refund_tx, virtual_size,
};

/// Blocks under which a transaction counts as final. Source: LDK, `ANTI_REORG_DELAY`.
pub(crate) const FINAL_DEPTH: u32 = 6;
/// So many blocks before the expiry half of the claim may go into fees.
const LAST_BLOCKS: u32 = 6;
/// Blocks that a refund may take.
const REFUND_TARGET: u32 = 6;
/// A bump is at least this much more, in percent of the old rate.
const BUMP_PERCENT: u64 = 125;
/// What a replacement pays on top for each of its own virtual bytes, in satoshi: the incremental
/// relay fee of older nodes. Source: BIP 125, rule 4.
const INCREMENTAL: u64 = 1;

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
        /// The transaction.
        txid: Txid,
    },
    /// At today's fees collecting costs more than it may.
    Uneconomic {
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

/// The weight of a close of this channel alone. Spec: bitcoin 5.3.
pub(super) fn close_weight(contract: &Contract) -> Weight {
    Weight::from_wu(match contract.output().output_type() {
        OutputType::Taproot => 199 * 4,
        OutputType::Wsh => 194 * 4,
    })
}

/// What a view says of one channel.
struct Looked<'a> {
    seen: Option<&'a Seen>,
    /// What the transaction that spends it pays, where that is known.
    fee: Option<Amount>,
}

/// Channels to be closed in one transaction.
struct Group {
    members: Vec<PurseKey>,
    rate: FeeRate,
    /// The least fee: what it replaces paid so much.
    over: Option<Amount>,
    /// Part of a batch that must not stay as it is: what that costs is paid.
    split: bool,
}

impl Inner {
    pub(super) fn take_view(&mut self, now: Now, view: &ChainView) -> Vec<Action> {
        let chain = Chain {
            tip: view.tip,
            fees: view.fees.clone(),
            at: now.mono.0,
        };
        let mut actions = Vec::new();
        let seen: BTreeMap<OutPoint, Looked<'_>> = (view.outputs.iter())
            .map(|state| {
                let spend = state.seen.as_ref().and_then(|seen| seen.spend.as_ref());
                let fee = spend.and_then(|spend| self.fee_of(&spend.tx));
                let seen = state.seen.as_ref();
                (state.outpoint, Looked { seen, fee })
            })
            .collect();
        for (key, channel) in &mut self.channels {
            let outpoint = match &channel.role {
                Side::Payer(payer) => payer.outpoint(),
                Side::Payee(payee) => Some(payee.contract.outpoint()),
            };
            let Some(new) = outpoint.and_then(|outpoint| seen.get(&outpoint)) else {
                continue;
            };
            match &mut channel.role {
                Side::Payer(payer) => payer.look(*key, new, &chain, &mut actions),
                Side::Payee(payee) => payee.look(*key, new, &chain, &mut actions),
            }
        }
        self.close_due(&chain, &mut actions);
        self.refund_due(&chain, &mut actions);
        self.chain = Some(chain);
        actions
    }

    /// Broadcasts what has to be closed.
    fn close_due(&mut self, chain: &Chain, actions: &mut Vec<Action>) {
        for group in self.groups(chain, actions) {
            let built = self.build(&group, chain, actions);
            for key in &group.members {
                if let Some(payee) = self.payee_mut(*key) {
                    payee.tried = Some(chain.tip);
                }
            }
            let Some((tx, fee)) = built else {
                continue;
            };
            let txid = tx.compute_txid();
            for key in &group.members {
                actions.push(Action::Event(*key, WatchEvent::Closing { txid, fee }));
            }
            actions.push(Action::Broadcast(tx));
        }
    }

    /// Which channels are closed together now, and at which rate.
    fn groups(&mut self, chain: &Chain, actions: &mut Vec<Action>) -> Vec<Group> {
        let wait = self.config.payee.batch_wait;
        let payout = self.config.payee.payout.clone();
        let (mut pool, mut groups) = (Vec::new(), Vec::new());
        let mut waiting: BTreeMap<Txid, (Transaction, Vec<PurseKey>)> = BTreeMap::new();
        for (key, channel) in &mut self.channels {
            let Side::Payee(payee) = &mut channel.role else {
                continue;
            };
            if !payee.wants_close(chain) {
                continue;
            }
            if !payee.decided.closing {
                payee.decided.closing = true;
                actions.push(persist(*key, payee.decided));
            }
            if payee.awaits_cosigning(chain) {
                continue;
            }
            let unspent = payee.seen.as_ref().is_some_and(|seen| seen.spend.is_none());
            if let Some(tx) = payee.take_mutual().filter(|_| unspent) {
                payee.tried = Some(chain.tip);
                let txid = tx.compute_txid();
                let fee = payee.fee_of(&tx);
                actions.push(Action::Event(*key, WatchEvent::Closing { txid, fee }));
                actions.push(Action::Broadcast(tx));
                continue;
            }
            let waits = payee.seen.as_ref().filter(|seen| seen.height.is_none());
            let alone = match waits {
                // One close of version 3 may follow one such parent, and nothing else may.
                Some(parent) if !parent.truc => continue,
                Some(_) => true,
                None => payee.is_urgent(chain),
            };
            match payee.seen.as_ref().map(|seen| &seen.spend) {
                Some(None) if alone && payee.is_due(chain) => {
                    groups.push(Group {
                        members: vec![*key],
                        rate: chain.fees.rate(payee.target(chain.tip)),
                        over: None,
                        split: false,
                    });
                }
                Some(None) if alone => {}
                Some(None) => {
                    let since = *payee.pooled.get_or_insert(chain.tip);
                    pool.push((*key, chain.tip.saturating_sub(since), payee.is_due(chain)));
                }
                Some(Some(Spend { tx, height: None }))
                    if tx.output.iter().any(|out| out.script_pubkey == payout) =>
                {
                    let group = waiting.entry(tx.compute_txid());
                    group
                        .or_insert_with(|| (tx.clone(), Vec::new()))
                        .1
                        .push(*key);
                }
                _ => {}
            }
        }
        let ripe = pool.len() >= CLOSE_INPUTS_MAX || pool.iter().any(|(_, age, _)| *age >= wait);
        pool.retain(|(.., due)| *due);
        if ripe {
            for chunk in pool.chunks(CLOSE_INPUTS_MAX) {
                let members: Vec<_> = chunk.iter().map(|(key, ..)| *key).collect();
                let rate = chain.fees.rate(self.target(&members, chain));
                groups.push(Group {
                    members,
                    rate,
                    over: None,
                    split: false,
                });
            }
        }
        for (tx, members) in waiting.into_values() {
            groups.extend(self.bumps(chain, &tx, members));
        }
        groups
    }

    /// What replaces a close that waits for a block: the same at a higher rate, or without the
    /// members whose margin has come.
    fn bumps(&self, chain: &Chain, tx: &Transaction, members: Vec<PurseKey>) -> Vec<Group> {
        let Some(fee) = self.fee_of(tx) else {
            return Vec::new();
        };
        let wanted = chain.fees.rate(self.target(&members, chain));
        let urgent = |key: &PurseKey| self.payee(*key).is_some_and(|of| of.is_urgent(chain));
        let due = |key: &PurseKey| self.payee(*key).is_some_and(|of| of.is_due(chain));
        if !members.iter().all(due) {
            return Vec::new();
        }
        let old = rate_of(fee, tx.weight());
        let more = percent(old, BUMP_PERCENT);
        let (hurried, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(urgent);
        let split = !hurried.is_empty() && tx.input.len() > 1;
        if !split && hurried.is_empty() && wanted <= old {
            return Vec::new();
        }
        let rate = wanted.max(more);
        let mut over = Some(fee);
        let mut groups = Vec::new();
        if !rest.is_empty() {
            groups.push(Group {
                members: rest,
                rate,
                over: over.take(),
                split,
            });
        }
        for key in hurried {
            groups.push(Group {
                members: vec![key],
                rate,
                over: over.take(),
                split,
            });
        }
        groups
    }

    /// The close of a group within what it may cost, as dear as it may be where more is asked; none
    /// where that is not more than what waits already, or less than nodes relay.
    fn build(
        &self,
        group: &Group,
        chain: &Chain,
        actions: &mut Vec<Action>,
    ) -> Option<(Transaction, Amount)> {
        let draft = self.close(&group.members, chain.fees.floor);
        let weight = match &draft {
            Ok(tx) => tx.weight(),
            Err(CloseError::Uneconomic { fee, .. }) => {
                self.tell_uneconomic(group, *fee, actions);
                return None;
            }
            Err(_) => return None,
        };
        let most = (group.members.iter())
            .filter_map(|key| self.payee(*key))
            .map(|payee| payee.fee_max(chain))
            .fold(0, u64::saturating_add);
        let most = rate_of(Amount::from_sat(most), weight);
        let least = group.over.map(|over| {
            let more = virtual_size(weight).saturating_mul(INCREMENTAL);
            let fee = Amount::from_sat(over.to_sat().saturating_add(more));
            percent(rate_of(fee, weight), 101)
        });
        let wanted = group.rate.max(least.unwrap_or(FeeRate::ZERO));
        let dear = wanted > most && !group.split;
        if dear {
            let fee = fee_for(weight, wanted).unwrap_or(Amount::MAX_MONEY);
            self.tell_uneconomic(group, fee, actions);
        }
        let rate = if dear { most } else { wanted };
        if rate < chain.fees.floor || least.is_some_and(|least| rate < least) {
            return None;
        }
        match self.close(&group.members, rate) {
            Ok(tx) => {
                let fee = self.fee_of(&tx)?;
                Some((tx, fee))
            }
            Err(CloseError::Uneconomic { fee, .. }) => {
                self.tell_uneconomic(group, fee, actions);
                None
            }
            Err(_) => None,
        }
    }

    fn tell_uneconomic(&self, group: &Group, fee: Amount, actions: &mut Vec<Action>) {
        let claim = self.claim(&group.members);
        for key in &group.members {
            let event = WatchEvent::Uneconomic { claim, fee };
            actions.push(Action::Event(*key, event));
        }
    }

    fn close(&self, members: &[PurseKey], rate: FeeRate) -> Result<Transaction, CloseError> {
        let payees = members.iter().filter_map(|key| self.payee(*key));
        let channels: Vec<_> = payees.filter_map(Payee::close_input).collect();
        close_tx(&ClosePlan {
            channels: &channels,
            coins: &[],
            payout: &self.config.payee.payout,
            extra: &[],
            rate,
        })
    }

    pub(super) fn tower_entry(&self, key: PurseKey, rates: &[FeeRate]) -> Option<TowerEntry> {
        let watch = self.channels.get(&key)?.watch()?;
        let payee = self.payee(key)?;
        let mut closes: Vec<_> = (rates.iter())
            .filter_map(|rate| Some((*rate, self.close(&[key], *rate).ok()?)))
            .collect();
        closes.sort_by_key(|(rate, _)| *rate);
        (!closes.is_empty()).then_some(TowerEntry {
            watch,
            expiry: payee.meta.deed.expiry,
            margin: payee.meta.deed.margin,
            closes,
        })
    }

    fn claim(&self, members: &[PurseKey]) -> Amount {
        let payees = members.iter().filter_map(|key| self.payee(*key));
        let paid = payees
            .filter_map(|payee| payee.best.as_ref())
            .map(|best| best.paid);
        Amount::from_sat(paid.fold(0, u64::saturating_add))
    }

    /// What a transaction pays; none where it spends something that is not ours.
    fn fee_of(&self, tx: &Transaction) -> Option<Amount> {
        let mut spent = Amount::ZERO;
        for input in &tx.input {
            let mut payees = self.channels.values();
            let value = payees.find_map(|channel| {
                let contract = channel.contract()?;
                (contract.outpoint() == input.previous_output).then(|| contract.value())
            })?;
            spent = spent.checked_add(value)?;
        }
        let mut out = tx.output.iter().map(|output| output.value);
        let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
        spent.checked_sub(out)
    }

    /// The shortest wait of the members.
    fn target(&self, members: &[PurseKey], chain: &Chain) -> u32 {
        let payees = members.iter().filter_map(|key| self.payee(*key));
        let targets = payees.map(|payee| payee.target(chain.tip));
        targets.min().unwrap_or(REFUND_TARGET)
    }

    fn payee(&self, key: PurseKey) -> Option<&Payee> {
        match &self.channels.get(&key)?.role {
            Side::Payee(payee) => Some(payee),
            Side::Payer(_) => None,
        }
    }

    fn payee_mut(&mut self, key: PurseKey) -> Option<&mut Payee> {
        match &mut self.channels.get_mut(&key)?.role {
            Side::Payee(payee) => Some(payee),
            Side::Payer(_) => None,
        }
    }

    /// Broadcasts the refunds whose time has come.
    fn refund_due(&mut self, chain: &Chain, actions: &mut Vec<Action>) {
        let home = self.config.payer.home.clone();
        for (key, channel) in &mut self.channels {
            let Side::Payer(payer) = &mut channel.role else {
                continue;
            };
            let Some(rate) = payer.refund_rate(chain) else {
                continue;
            };
            let Some(contract) = &payer.contract else {
                continue;
            };
            let tx = match refund_tx(contract, &payer.secret, &home, rate, chain.tip) {
                Ok(tx) => tx,
                Err(crate::tx::RefundError::Uneconomic { value, fee }) => {
                    let claim = value;
                    actions.push(Action::Event(*key, WatchEvent::Uneconomic { claim, fee }));
                    continue;
                }
                Err(_) => continue,
            };
            payer.tried = Some(chain.tip);
            if !payer.decided.closing {
                payer.decided.closing = true;
                actions.push(persist(*key, payer.decided));
            }
            let txid = tx.compute_txid();
            actions.push(Action::Event(*key, WatchEvent::Refunding { txid }));
            actions.push(Action::Broadcast(tx));
        }
    }
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

/// A fee as a rate over the virtual size, rounded down.
fn rate_of(fee: Amount, weight: Weight) -> FeeRate {
    let size = virtual_size(weight).saturating_mul(4);
    let rate = fee.to_sat().saturating_mul(1000).checked_div(size);
    FeeRate::from_sat_per_kwu(rate.unwrap_or_default())
}

fn percent(rate: FeeRate, percent: u64) -> FeeRate {
    let more = rate.to_sat_per_kwu().saturating_mul(percent).div_ceil(100);
    FeeRate::from_sat_per_kwu(more)
}
