//! What a close may cost, and the close at that.

use std::collections::BTreeSet;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Weight};
use streampay_core::units::PurseKey;

use super::groups::Group;
use super::percent;
use crate::kit::TowerEntry;
use crate::machine::payee::Payee;
use crate::machine::{Chain, Inner, Side};
use crate::tx::{Carried, CloseError, FeeCoin, fee_for, fee_with, virtual_size};

/// What a replacement pays on top for each of its own virtual bytes, in satoshi: the incremental
/// relay fee of older nodes. Source: BIP 125, rule 4.
const INCREMENTAL: u64 = 1;
/// What a member adds to a batch beside the script of its change, in vB. Spec: bitcoin 5.3.
const MEMBER: u64 = 112;
/// The most coins of the fee wallet in one close.
const COINS_MAX: usize = 4;

/// A close, as far as it may be paid for.
#[derive(Default)]
pub(super) struct Attempt {
    /// The transaction and its fee; none where it would be no more than what waits already, or less
    /// than nodes relay.
    pub(super) close: Option<(Transaction, Amount)>,
    /// What it should cost, where that is more than it may.
    pub(super) short: Option<Amount>,
}

impl Attempt {
    fn rate(&self) -> FeeRate {
        let rate = |(tx, fee): &(Transaction, Amount)| rate_of(*fee, tx.weight());
        self.close.as_ref().map_or(FeeRate::ZERO, rate)
    }
}

impl Inner {
    /// The close of a group within what it may cost, as dear as it may be where more is asked. Where
    /// the channels may not pay enough, coins of the fee wallet help, those in `used` left out.
    pub(super) fn build(&self, group: &Group, chain: &Chain, used: &BTreeSet<OutPoint>) -> Attempt {
        let most = (group.members.iter())
            .filter_map(|key| self.payee(*key))
            .map(|payee| payee.fee_max(chain))
            .fold(0, u64::saturating_add);
        let mut best = self.attempt(group, chain, &[], most);
        // A close never costs more than it collects: the coins in it come back whole.
        let claim = self.claim(&group.members);
        let room = claim.to_sat().saturating_sub(most);
        let cap = self.config.payee.wallet_fee_max.to_sat().min(room);
        if best.short.is_some() && cap > 0 {
            let coins = self.wallet.usable(chain, group.replaces, used);
            for count in 1..=coins.len().min(COINS_MAX) {
                let coins = coins.get(..count).unwrap_or_default();
                let sum = coins.iter().map(|coin| coin.value.to_sat());
                let sum = sum.fold(0, u64::saturating_add);
                let most = most.saturating_add(sum.min(cap));
                let next = self.attempt(group, chain, coins, most);
                if next.rate() > best.rate() {
                    best = next;
                }
                if best.short.is_none() {
                    break;
                }
            }
        }
        best
    }

    /// The close with these coins, for at most `most` satoshi of fee.
    fn attempt(&self, group: &Group, chain: &Chain, coins: &[FeeCoin<'_>], most: u64) -> Attempt {
        let short = |fee| Attempt {
            close: None,
            short: Some(fee),
        };
        let weight = match self.close(&group.members, coins, chain.fees.floor) {
            Ok(draft) => draft.weight(),
            Err(CloseError::Uneconomic { fee, .. }) => return short(fee),
            Err(_) => return Attempt::default(),
        };
        let most = rate_of(Amount::from_sat(most), weight);
        let least = group.over.map(|over| {
            let more = virtual_size(weight).saturating_mul(INCREMENTAL);
            let fee = Amount::from_sat(over.to_sat().saturating_add(more));
            percent(rate_of(fee, weight), 101)
        });
        let Ok(own) = fee_with(weight, group.rate, self.carried_by(&group.members)) else {
            return Attempt::default();
        };
        let own = group.rate.max(rate_for(own, weight)).max(group.more);
        let wanted = own.max(least.unwrap_or(FeeRate::ZERO));
        let dear = wanted > most;
        let rate = if dear { most } else { wanted };
        let missing = dear.then(|| fee_for(weight, wanted).unwrap_or(Amount::MAX_MONEY));
        if rate < chain.fees.floor || least.is_some_and(|least| rate < least) {
            return Attempt {
                close: None,
                short: missing,
            };
        }
        match self.close(&group.members, coins, rate) {
            Ok(tx) => Attempt {
                close: self
                    .fee_with(&tx, &group.members, coins)
                    .map(|fee| (tx, fee)),
                short: missing,
            },
            Err(CloseError::Uneconomic { fee, .. }) => short(fee),
            Err(_) => Attempt::default(),
        }
    }

    /// A funding that a close pays for too: it is a close of that channel alone.
    pub(super) fn carried_by(&self, members: &[PurseKey]) -> Option<Carried> {
        match members {
            [key] => self.payee(*key)?.carried(),
            _ => None,
        }
    }

    pub(in crate::machine) fn tower_entry(
        &self,
        key: PurseKey,
        rates: &[FeeRate],
    ) -> Option<TowerEntry> {
        let watch = self.channels.get(&key)?.look_at()?;
        let payee = self.payee(key)?;
        let mut closes: Vec<_> = (rates.iter())
            .filter_map(|rate| Some((*rate, self.close(&[key], &[], *rate).ok()?)))
            .collect();
        closes.sort_by_key(|(rate, _)| *rate);
        // The tower keeps to what the owner would spend.
        let paid = payee.best.as_ref().map_or(0, |best| best.paid);
        let most = payee.cost_max(paid);
        closes.retain(|(_, tx)| payee.fee_of(tx).to_sat() <= most.max(paid / 2));
        let within = closes.iter();
        let within = within.take_while(|(_, tx)| payee.fee_of(tx).to_sat() <= most);
        let early = within.count();
        (!closes.is_empty()).then_some(TowerEntry {
            watch,
            expiry: payee.meta.deed.expiry,
            margin: payee.meta.deed.margin,
            closes,
            early,
        })
    }

    pub(super) fn claim(&self, members: &[PurseKey]) -> Amount {
        let payees = members.iter().filter_map(|key| self.payee(*key));
        let paid = payees
            .filter_map(|payee| payee.best.as_ref())
            .map(|best| best.paid);
        Amount::from_sat(paid.fold(0, u64::saturating_add))
    }

    /// What a close pays, by what it was made of.
    pub(super) fn fee_with(
        &self,
        tx: &Transaction,
        members: &[PurseKey],
        coins: &[FeeCoin<'_>],
    ) -> Option<Amount> {
        let channels = members.iter().filter_map(|key| self.payee(*key));
        let channels = channels.map(|payee| payee.contract.value());
        let mut spent = channels.chain(coins.iter().map(|coin| coin.value));
        let spent = spent.try_fold(Amount::ZERO, Amount::checked_add)?;
        let mut out = tx.output.iter().map(|output| output.value);
        let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
        spent.checked_sub(out)
    }

    /// What a transaction on the chain pays; none where it spends something that is not ours.
    pub(super) fn fee_of(&self, tx: &Transaction) -> Option<Amount> {
        let mut spent = Amount::ZERO;
        for input in &tx.input {
            let outpoint = input.previous_output;
            let channel = self.payee_of(outpoint);
            let channel = channel.map(|payee| payee.contract.value());
            let value = channel.or_else(|| self.wallet.value_of(outpoint))?;
            spent = spent.checked_add(value)?;
        }
        let mut out = tx.output.iter().map(|output| output.value);
        let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
        spent.checked_sub(out)
    }

    /// True where what a member of a batch brings is more than what its input and change cost there.
    pub(super) fn pays_its_part(&self, key: PurseKey, rate: FeeRate) -> bool {
        let Some(payee) = self.payee(key) else {
            return false;
        };
        let script = payee.contract.change_script().len();
        let size = u64::try_from(script).map_or(u64::MAX, |script| script.saturating_add(MEMBER));
        let cost = rate.fee_vb(size).unwrap_or(Amount::MAX_MONEY);
        self.claim(&[key]) > cost
    }

    /// The part of its fee that one of its channels bears: as the claim on it is of all claims that
    /// it collects. The parts come to the fee; beyond all claims it was the fee wallet's. None where
    /// it spends something that is not ours.
    pub(super) fn fee_part(&self, tx: &Transaction, of: OutPoint) -> Option<Amount> {
        self.part_of(tx, of, self.fee_of(tx)?)
    }

    /// The part of `whole` that one of its channels has: as the claim on it is of all claims that it collects.
    /// The parts come to the whole, or to all claims where those are less.
    pub(super) fn part_of(&self, tx: &Transaction, of: OutPoint, whole: Amount) -> Option<Amount> {
        let mut claims = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = input.previous_output;
            let payee = self.payee_of(outpoint);
            let claim = payee.map_or(0, |payee| payee.paid_by(tx));
            claims.push((outpoint, u128::from(claim)));
        }
        let all: u128 = claims.iter().map(|(_, claim)| claim).sum();
        let whole = u128::from(whole.to_sat()).min(all);
        let part = |claims: u128| whole.saturating_mul(claims).checked_div(all).unwrap_or(0);
        let mut before = 0_u128;
        for (outpoint, claim) in claims {
            let with = before.saturating_add(claim);
            if outpoint == of {
                let part = part(with).saturating_sub(part(before));
                return u64::try_from(part).ok().map(Amount::from_sat);
            }
            before = with;
        }
        None
    }

    /// True where a close gives its payer a change for this channel.
    pub(super) fn has_change(&self, tx: &Transaction, outpoint: OutPoint) -> bool {
        let payee = self.payee_of(outpoint);
        payee.is_some_and(|payee| payee.paid_by(tx) < payee.contract.value().to_sat())
    }

    /// The accepted channel with this output: there is never another one.
    fn payee_of(&self, outpoint: OutPoint) -> Option<&Payee> {
        self.channels.values().find_map(|known| match &known.role {
            Side::Payee(payee) => {
                let own = payee.meta.accepted && payee.contract.outpoint() == outpoint;
                own.then_some(&**payee)
            }
            Side::Payer(_) => None,
        })
    }
}

/// The least rate at which a transaction of `weight` pays `fee`.
pub(super) fn rate_for(fee: Amount, weight: Weight) -> FeeRate {
    let size = virtual_size(weight).saturating_mul(4).max(1);
    FeeRate::from_sat_per_kwu(fee.to_sat().saturating_mul(1000).div_ceil(size))
}

/// A fee as a rate over the virtual size, rounded down.
pub(crate) fn rate_of(fee: Amount, weight: Weight) -> FeeRate {
    let size = virtual_size(weight).saturating_mul(4);
    let rate = fee.to_sat().saturating_mul(1000).checked_div(size);
    FeeRate::from_sat_per_kwu(rate.unwrap_or_default())
}
