//! What the watch does with one channel of the payee's.

use bitcoin::{Amount, Transaction};
use streampay_core::store::ChangeSet;
use streampay_core::units::PurseKey;

use super::{FINAL_DEPTH, LAST_BLOCKS, Looked, WatchEvent, is_refund, persist, tell};
use crate::machine::payee::Payee;
use crate::machine::payer::FORGOTTEN;
use crate::machine::record::{self, Part};
use crate::machine::{Action, Chain};
use crate::tx::{Carried, CloseInput};

/// The sighash type of an update without change: `NONE|ANYONECANPAY`.
const FULLY_SPENT: u8 = 0x82;

impl Payee {
    pub(super) fn look(
        &mut self,
        key: PurseKey,
        new: Option<&Looked<'_>>,
        chain: &Chain,
        actions: &mut Vec<Action>,
    ) {
        self.stale = new.is_none();
        let Some(new) = new else { return };
        tell(key, self.seen.as_ref(), new.seen, actions);
        self.seen = new.seen.cloned();
        self.offered &= self.seen.is_none();
        self.keep_parent(key, actions);
        let Some(spend) = self.seen.as_ref().and_then(|seen| seen.spend.as_ref()) else {
            self.bid = None;
            self.note_unspent(key, chain, actions);
            self.give_up(key, chain, actions);
            return;
        };
        if let Some((txid, fee)) = self.carried.take()
            && spend.tx.compute_txid() == txid
        {
            actions.push(Action::Event(key, WatchEvent::Closing { txid, fee }));
        }
        let mut decided = self.decided;
        decided.closing = true;
        let known = new.cost.is_some() || chain.is_complete() || !self.shares_cost(&spend.tx);
        if decided.settled.is_none() && spend.depth(chain.tip) >= FINAL_DEPTH && known {
            let amount = self.share(&spend.tx, new.cost);
            decided.settled = Some(amount);
            let amount = Amount::from_sat(amount);
            actions.push(Action::Event(key, WatchEvent::Settled { amount }));
            self.keep_split(key, &new.split, actions);
        }
        if decided != self.decided {
            self.decided = decided;
            actions.push(persist(key, decided));
        }
    }

    /// What went to others of what came of it, for the books.
    fn keep_split(&mut self, key: PurseKey, split: &[Part], actions: &mut Vec<Action>) {
        if !split.is_empty() {
            let mut delta = ChangeSet::new();
            record::put_split(&mut delta, split);
            actions.push(Action::Persist(delta.within_purse(key)));
            self.split = split.to_vec();
        }
    }

    fn note_unspent(&mut self, key: PurseKey, chain: &Chain, actions: &mut Vec<Action>) {
        let height = self.seen.as_ref().and_then(|seen| seen.height);
        let decided = height.map(|height| self.decided.with_unspent(height, chain.tip));
        if let Some(decided) = decided.filter(|decided| *decided != self.decided) {
            self.decided = decided;
            actions.push(persist(key, decided));
        }
    }

    /// Where ticks are taken before a block has the funding, nodes may forget it while fees are high: that
    /// one, where it was not kept yet.
    pub(in crate::machine) fn new_parent(&self) -> Option<Transaction> {
        let parent = self.seen.as_ref().and_then(|seen| seen.parent.as_ref());
        let parent = parent
            .map(|of| &of.tx)
            .filter(|_| self.meta.deed.depth == 0)?;
        let is_new = self.parent.as_ref() != Some(parent)
            && parent.compute_txid() == self.contract.outpoint().txid;
        is_new.then(|| parent.clone())
    }

    fn keep_parent(&mut self, key: PurseKey, actions: &mut Vec<Action>) {
        if let Some(parent) = self.new_parent() {
            let mut delta = ChangeSet::new();
            record::put_parent(&mut delta, &parent);
            actions.push(Action::Persist(delta.within_purse(key)));
            self.parent = Some(parent);
        }
    }

    /// Nodes have long forgotten a funding that is in no block by now: there is nothing to close, and
    /// its payer could take it back at once.
    fn give_up(&mut self, key: PurseKey, chain: &Chain, actions: &mut Vec<Action>) {
        let over = self.meta.deed.expiry.saturating_add(FORGOTTEN);
        if self.seen.is_some() || self.decided.settled.is_some() || chain.tip < over {
            return;
        }
        self.decided.settled = Some(0);
        actions.push(persist(key, self.decided));
        let amount = Amount::ZERO;
        actions.push(Action::Event(key, WatchEvent::Settled { amount }));
    }

    /// The funding that was kept, where the newest view says that no node holds it.
    fn missing(&self) -> Option<&Transaction> {
        let gone = self.seen.is_none() && !self.stale;
        self.parent.as_ref().filter(|_| gone)
    }

    /// That funding, to be broadcast by itself first: it may pay for itself.
    pub(super) fn offer_parent(&mut self) -> Option<Transaction> {
        if self.offered || self.best.is_none() || self.decided.settled.is_some() {
            return None;
        }
        let parent = self.missing().cloned()?;
        self.offered = true;
        Some(parent)
    }

    /// The funding, where no node takes it by itself any more: a close has to bring it along.
    pub(super) fn stranded(&self) -> Option<&Transaction> {
        self.missing().filter(|_| self.offered)
    }

    /// The funding, where a close pays for it too: it waits for a block, or a close brings it along, which
    /// pays for it as if it paid nothing.
    pub(in crate::machine) fn carried(&self) -> Option<Carried> {
        if let Some(parent) = self.stranded() {
            return Some((parent.weight(), Amount::ZERO));
        }
        let parent = self.seen.as_ref()?.parent.as_ref()?;
        Some((parent.tx.weight(), parent.fee))
    }

    /// What a transaction that spends the channel leaves of it for the payee: what its update pays,
    /// which may be an older one of a watchtower's, less `cost`, the channel's part of the fee; nothing
    /// of a refund.
    pub(super) fn share(&self, tx: &Transaction, cost: Option<Amount>) -> u64 {
        if self.best.is_none() || is_refund(tx) {
            return 0;
        }
        if self.is_mutual(tx) {
            return tx.output.last().map_or(0, |output| output.value.to_sat());
        }
        // Where what went into it is not known any more, it cost what it may at most.
        let paid = self.paid_by(tx);
        let cost = cost.map_or_else(|| self.cost_max(paid), Amount::to_sat);
        paid.saturating_sub(cost)
    }

    /// True where what it leaves depends on what else went into the transaction.
    fn shares_cost(&self, tx: &Transaction) -> bool {
        self.best.is_some() && !is_refund(tx) && !self.is_mutual(tx)
    }

    /// What the update in a close pays: all but the change at the index of the channel's input, of
    /// which a channel that is fully spent has none.
    pub(super) fn paid_by(&self, tx: &Transaction) -> u64 {
        let mut inputs = tx.input.iter().enumerate();
        let own = inputs.find(|(_, input)| input.previous_output == self.contract.outpoint());
        let Some((index, input)) = own else { return 0 };
        let kind = input.witness.nth(0).and_then(<[u8]>::last);
        let change = match kind {
            Some(&FULLY_SPENT) => None,
            _ => tx.output.get(index).map(|output| output.value),
        };
        let paid = self
            .contract
            .value()
            .checked_sub(change.unwrap_or(Amount::ZERO));
        paid.map_or(0, Amount::to_sat)
    }

    /// True where it spends this channel alone, by the key path: one signature. The payee's output is
    /// the last one then. Spec: bitcoin 5.6.
    fn is_mutual(&self, tx: &Transaction) -> bool {
        matches!(tx.input.as_slice(), [input]
            if input.previous_output == self.contract.outpoint() && input.witness.len() == 1)
    }

    /// What a transaction that spends this channel alone pays for its way.
    pub(super) fn fee_of(&self, tx: &Transaction) -> Amount {
        let mut out = tx.output.iter().map(|output| output.value);
        let out = out.try_fold(Amount::ZERO, Amount::checked_add);
        let fee = out.and_then(|out| self.contract.value().checked_sub(out));
        fee.unwrap_or(Amount::ZERO)
    }

    /// True where the channel is to be closed: asked for, under way, its margin reached, or fees on
    /// their way to what it is worth.
    pub(super) fn wants_close(&self, chain: &Chain) -> bool {
        if self.best.is_none() || self.decided.settled.is_some() {
            return false;
        }
        let asked = self.meta.settling || self.decided.closing || self.stranded().is_some();
        asked || self.is_urgent(chain) || self.is_rising(chain)
    }

    /// True where closing comes to four fifths of what it may cost: fees rise faster than blocks come.
    /// One that holds hardly more than the reserve is never worth the hurry. Spec: bitcoin 5.2.
    pub(super) fn is_rising(&self, chain: &Chain) -> bool {
        let Some(best) = &self.best else { return false };
        let limit = self.cost_max(best.paid).saturating_mul(4) / 5;
        let rising = self.close_cost(chain).is_none_or(|cost| cost > limit);
        rising && best.paid > self.meta.deed.reserve.saturating_mul(2)
    }

    pub(in crate::machine) const fn is_urgent(&self, chain: &Chain) -> bool {
        self.meta.deed.expiry.saturating_sub(chain.tip) <= self.meta.deed.margin
    }

    /// What collecting should cost, where that is more than it may: an event, when it comes to that.
    pub(super) fn note_short(
        &mut self,
        key: PurseKey,
        claim: Amount,
        short: Option<Amount>,
    ) -> Option<Action> {
        let known = core::mem::replace(&mut self.short, short);
        let fee = short.filter(|_| known.is_none())?;
        let outpoint = self.contract.outpoint();
        let event = WatchEvent::Uneconomic {
            outpoint,
            claim,
            fee,
        };
        Some(Action::Event(key, event))
    }

    /// True where nothing was broadcast for it at this height.
    pub(super) fn is_due(&self, chain: &Chain) -> bool {
        self.tried != Some(chain.tip)
    }

    /// The most that closing may cost now, settle reserve included.
    pub(super) fn fee_max(&self, chain: &Chain) -> u64 {
        let paid = self.best.as_ref().map_or(0, |best| best.paid);
        let left = self.meta.deed.expiry.saturating_sub(chain.tip);
        let last = if left <= LAST_BLOCKS { paid / 2 } else { 0 };
        self.cost_max(paid).max(last)
    }

    pub(super) fn close_input(&self) -> Option<CloseInput<'_>> {
        let best = self.best.as_ref()?;
        Some(CloseInput {
            contract: &self.contract,
            paid: Amount::from_sat(best.paid),
            signature: &best.signature,
            secret: &self.secret,
        })
    }
}
