//! Which channels are closed together, when, and what replaces a close that waits.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use streampay_core::units::PurseKey;

use super::build::{Attempt, rate_for, rate_of};
use super::{BUMP_PERCENT, REFUND_TARGET, WatchEvent, is_refund, percent, persist};
use crate::chain::{Seen, Spend};
use crate::machine::payee::{Payee, can_follow};
use crate::machine::{Action, Chain, Inner, Side};
use crate::policy::SHARES_MAX;
use crate::tx::{CLOSE_INPUTS_MAX, fee_with};

/// Channels to be closed in one transaction.
pub(super) struct Group {
    pub(super) members: Vec<PurseKey>,
    /// What it pays at least, with a funding that it pays for too.
    pub(super) rate: FeeRate,
    /// What it pays at least by itself.
    pub(super) more: FeeRate,
    /// The least fee: what it replaces paid so much.
    pub(super) over: Option<Amount>,
    /// What it replaces: coins of the fee wallet in there are free again.
    pub(super) replaces: Option<Txid>,
}

/// What is done about channels that are to be closed.
pub(super) struct Plan {
    /// Each of them a close. The first makes room for the others, where they replace one.
    groups: Vec<Group>,
    /// What is done where the first one cannot pay for that, or has bid all that it may in vain.
    otherwise: Option<Group>,
}

impl From<Group> for Plan {
    fn from(group: Group) -> Self {
        Self {
            groups: vec![group],
            otherwise: None,
        }
    }
}

impl Group {
    /// Channels that nothing spends yet.
    const fn new(members: Vec<PurseKey>, rate: FeeRate) -> Self {
        Self {
            members,
            rate,
            more: FeeRate::ZERO,
            over: None,
            replaces: None,
        }
    }
}

impl Inner {
    /// Broadcasts what has to be closed.
    pub(super) fn close_due(&mut self, chain: &Chain, actions: &mut Vec<Action>) {
        // Each coin of the fee wallet helps one close.
        let mut used: BTreeSet<OutPoint> = BTreeSet::new();
        for plan in self.plans(chain, actions) {
            let whole = plan.otherwise.filter(|_| {
                let first = plan.groups.first();
                !first.is_some_and(|group| self.makes_room(group, chain, &used))
            });
            for group in whole.map_or(plan.groups, |whole| vec![whole]) {
                self.close_group(&group, chain, &mut used, actions);
            }
        }
        // Where nothing had to be tried, nothing is too dear.
        for channel in self.channels.values_mut() {
            if let Side::Payee(payee) = &mut channel.role
                && payee.is_due(chain)
            {
                payee.short = None;
            }
        }
    }

    /// True where a close pays enough to replace what waits, and more than what was refused.
    fn makes_room(&self, group: &Group, chain: &Chain, used: &BTreeSet<OutPoint>) -> bool {
        let Some((tx, fee)) = self.build(group, chain, used).close else {
            return false;
        };
        let bids = group.members.iter().filter_map(|key| self.payee(*key)?.bid);
        let rate = rate_of(fee, tx.weight());
        bids.max().is_none_or(|last| rate > last)
    }

    fn close_group(
        &mut self,
        group: &Group,
        chain: &Chain,
        used: &mut BTreeSet<OutPoint>,
        actions: &mut Vec<Action>,
    ) {
        let Attempt {
            close: built,
            short,
        } = self.build(group, chain, used);
        let claim = self.claim(&group.members);
        for key in &group.members {
            if let Some(payee) = self.payee_mut(*key) {
                payee.tried = Some(chain.tip);
                actions.extend(payee.note_short(*key, claim, short));
                let bid = built.as_ref().map(|(tx, fee)| rate_of(*fee, tx.weight()));
                payee.bid = bid.or(payee.bid);
            }
        }
        let Some((tx, fee)) = built else { return };
        used.extend(tx.input.iter().map(|input| input.previous_output));
        let txid = tx.compute_txid();
        if let [key] = group.members.as_slice()
            && let Some(payee) = self.payee_mut(*key)
            && let Some(parent) = payee.stranded().cloned()
        {
            // It may be refused for ever: it is told of once the chain shows it.
            payee.carried = Some((txid, fee));
            actions.push(Action::Package(vec![parent, tx]));
            return;
        }
        for key in &group.members {
            actions.push(Action::Event(*key, WatchEvent::Closing { txid, fee }));
        }
        actions.push(Action::Broadcast(tx));
    }

    /// Which channels are closed together now, and at which rate.
    fn plans(&mut self, chain: &Chain, actions: &mut Vec<Action>) -> Vec<Plan> {
        let wait = self.config.payee.batch_wait;
        let (mut pool, mut groups) = (Vec::new(), Vec::new());
        let mut waiting: BTreeMap<Txid, (Transaction, Vec<PurseKey>)> = BTreeMap::new();
        for (key, channel) in &mut self.channels {
            let Side::Payee(payee) = &mut channel.role else {
                continue;
            };
            if let Some(parent) = payee.offer_parent() {
                actions.push(Action::Broadcast(parent));
                continue;
            }
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
            let free = |seen: &Seen| seen.spend.is_none() && can_follow(seen);
            let unspent = payee.seen.as_ref().is_some_and(free);
            // Its fee was set before the margin: what has to be in time goes at today's.
            if payee.is_urgent(chain) {
                payee.give_up_mutual();
            }
            // Whole, it is kept until it can be broadcast.
            if unspent && let Some(tx) = payee.take_mutual() {
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
                Some(seen) if seen.parent.is_none() => continue,
                Some(_) => true,
                None => payee.is_urgent(chain),
            };
            match payee.seen.as_ref().map(|seen| &seen.spend) {
                Some(None) if alone && payee.is_due(chain) => {
                    let rate = chain.fees.rate(payee.target(chain.tip));
                    groups.push(Group::new(vec![*key], rate));
                }
                Some(None) if alone => {}
                Some(None) => {
                    let since = *payee.pooled.get_or_insert(chain.tip);
                    let ripe = payee.is_rising(chain) || chain.tip.saturating_sub(since) >= wait;
                    pool.push((*key, ripe, payee.is_due(chain)));
                }
                // Whatever spends a channel and is no refund has our signature, to an earlier payout too.
                Some(Some(Spend { tx, height: None })) if !is_refund(tx) => {
                    let group = waiting.entry(tx.compute_txid());
                    group
                        .or_insert_with(|| (tx.clone(), Vec::new()))
                        .1
                        .push(*key);
                }
                // A close that brings its funding along. Spec: bitcoin 5.4.
                None if payee.is_due(chain) && payee.stranded().is_some() => {
                    let rate = chain.fees.rate(payee.target(chain.tip));
                    groups.push(Group::new(vec![*key], rate));
                }
                _ => {}
            }
        }
        // Who waits while fees rise may come to cost more than it is worth.
        let ripe = pool.len() >= CLOSE_INPUTS_MAX || pool.iter().any(|(_, ripe, _)| *ripe);
        pool.retain(|(.., due)| *due);
        if ripe {
            // A channel weighs as much as three further outputs at least.
            let outputs = self.config.payee.shares.len().min(SHARES_MAX);
            let most = CLOSE_INPUTS_MAX.saturating_sub(outputs.div_ceil(2));
            for chunk in pool.chunks(most.max(1)) {
                let members: Vec<_> = chunk.iter().map(|(key, ..)| *key).collect();
                let rate = chain.fees.rate(self.target(&members, chain));
                // Whoever would cost the others more than it brings is closed alone, as dear as it may.
                let worth = |key: &PurseKey| self.pays_its_part(*key, rate);
                let (together, alone): (Vec<_>, Vec<_>) = members.into_iter().partition(worth);
                let together = Some(together).filter(|members| !members.is_empty());
                for members in together
                    .into_iter()
                    .chain(alone.into_iter().map(|key| vec![key]))
                {
                    groups.push(Group::new(members, rate));
                }
            }
        }
        let mut plans: Vec<Plan> = groups.into_iter().map(Plan::from).collect();
        for (tx, members) in waiting.into_values() {
            plans.extend(self.bumps(chain, &tx, members));
        }
        plans
    }

    /// What replaces a close that waits for a block: the same at a higher rate, or without the
    /// members whose margin has come. Where that is all of them, or those that are left cannot pay for
    /// what all have paid so far, it stays whole: no member could pay for it alone.
    fn bumps(&self, chain: &Chain, tx: &Transaction, members: Vec<PurseKey>) -> Vec<Plan> {
        let Some(fee) = self.fee_of(tx) else {
            let bids = self.outbids(chain, tx, &members);
            return bids.into_iter().map(Plan::from).collect();
        };
        let wanted = chain.fees.rate(self.target(&members, chain));
        let urgent = |key: &PurseKey| self.payee(*key).is_some_and(|of| of.is_urgent(chain));
        let due = |key: &PurseKey| self.payee(*key).is_some_and(|of| of.is_due(chain));
        if !members.iter().all(due) {
            return Vec::new();
        }
        let old = rate_of(fee, tx.weight());
        let least = fee_with(tx.weight(), wanted, self.carried_by(&members));
        let enough = least.is_ok_and(|least| rate_for(least, tx.weight()) <= old);
        let (hurried, rest): (Vec<_>, Vec<_>) = members.iter().copied().partition(urgent);
        if hurried.is_empty() && enough {
            return Vec::new();
        }
        let replaces = Some(tx.compute_txid());
        // What hangs on the old one, such as on a change, is to be paid for as well, and not known: what
        // was refused is raised.
        let group = |members: Vec<PurseKey>, over| {
            let bids = members.iter().filter_map(|key| self.payee(*key)?.bid);
            let last = bids.max().unwrap_or(old).max(old);
            Group {
                rate: wanted,
                more: percent(last, BUMP_PERCENT),
                members,
                over,
                replaces,
            }
        };
        let whole = group(members, Some(fee));
        if hurried.is_empty() || rest.is_empty() {
            return vec![whole.into()];
        }
        let alone = hurried.into_iter().map(|key| group(vec![key], None));
        vec![Plan {
            groups: core::iter::once(group(rest, Some(fee)))
                .chain(alone)
                .collect(),
            otherwise: Some(whole),
        }]
    }

    /// What replaces a close that waits and spends what this node does not know, such as after its
    /// disk was an older one: within their margin the members alone. What it paid is not known: what
    /// was refused is raised. Before that nothing does: the others are in that close alone.
    fn outbids(&self, chain: &Chain, tx: &Transaction, members: &[PurseKey]) -> Vec<Group> {
        let bid = |key: &PurseKey| {
            let payee = self.payee(*key)?;
            let wanted = chain.fees.rate(payee.target(chain.tip));
            let more = payee
                .bid
                .map_or(FeeRate::ZERO, |last| percent(last, BUMP_PERCENT));
            (payee.is_urgent(chain) && payee.is_due(chain)).then(|| Group {
                members: vec![*key],
                rate: wanted,
                more,
                over: None,
                replaces: Some(tx.compute_txid()),
            })
        };
        members.iter().filter_map(bid).collect()
    }

    /// The shortest wait of the members.
    fn target(&self, members: &[PurseKey], chain: &Chain) -> u32 {
        let payees = members.iter().filter_map(|key| self.payee(*key));
        let targets = payees.map(|payee| payee.target(chain.tip));
        targets.min().unwrap_or(REFUND_TARGET)
    }

    pub(super) fn payee(&self, key: PurseKey) -> Option<&Payee> {
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
}
