//! What the watch does with one channel of the payer's.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint, Transaction};
use streampay_core::store::ChangeSet;
use streampay_core::units::PurseKey;

use super::refund::returned;
use super::{FINAL_DEPTH, Looked, WatchEvent, is_refund, persist, tell};
use crate::machine::payer::{FORGOTTEN, Payer};
use crate::machine::record::Decided;
use crate::machine::strays::Stray;
use crate::machine::{Action, Chain};

impl Payer {
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
        self.refunding.look(self.seen.as_ref(), new.seen);
        self.seen = new.seen.cloned();
        // Signatures commit to the output. Where there are any, the other one only comes home.
        let expiry = self.meta.deed.as_ref().map_or(u32::MAX, |deed| deed.expiry);
        self.adrift = new.seen.is_none() && (self.signed == 0 || chain.tip >= expiry);
        let Some(spend) = self.seen.as_ref().and_then(|seen| seen.spend.as_ref()) else {
            self.note_unspent(key, chain, actions);
            return;
        };
        let mut decided = self.decided;
        decided.closing = true;
        let buried = spend.depth(chain.tip) >= FINAL_DEPTH;
        if decided.settled.is_none() && buried && self.is_certain(&spend.tx, chain) {
            let amount = self.returned(&spend.tx);
            decided.settled = Some(amount);
            decided.refunded = Some(is_refund(&spend.tx));
            let amount = Amount::from_sat(amount);
            actions.push(Action::Event(key, WatchEvent::Settled { amount }));
        }
        if decided != self.decided {
            self.decided = decided;
            actions.push(persist(key, decided));
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

    /// What was paid to its address besides: it is the payer's alone.
    pub(super) fn look_strays(
        &mut self,
        key: PurseKey,
        seen: &BTreeMap<OutPoint, Looked<'_>>,
        chain: &Chain,
        actions: &mut Vec<Action>,
    ) {
        let known = self.strays.len();
        // Nodes have long forgotten it, or one view was wrong: then a search finds it again.
        self.strays.retain(|stray| {
            let new = seen.get(&stray.contract.outpoint());
            let gone = new.is_some_and(|new| new.seen.is_none()) && stray.is_forgotten(chain.tip);
            stray.back.is_some() || !gone
        });
        let mut changed = self.strays.len() < known;
        for stray in self.strays.iter_mut().filter(|of| of.back.is_none()) {
            let Some(new) = seen.get(&stray.contract.outpoint()) else {
                continue;
            };
            stray.refunding.look(stray.seen.as_ref(), new.seen);
            stray.seen = new.seen.cloned();
            changed |= stray.note_unspent(chain.tip);
            let Some(back) = stray.came_back(chain) else {
                continue;
            };
            (stray.back, changed) = (Some(back), true);
            let (outpoint, amount) = (stray.contract.outpoint(), Amount::from_sat(back));
            let event = WatchEvent::Returned { outpoint, amount };
            actions.push(Action::Event(key, event));
        }
        if changed {
            self.forget_returned();
            let mut delta = ChangeSet::new();
            self.put_strays(&mut delta);
            actions.push(Action::Persist(delta.within_purse(key)));
        }
    }

    /// True where no chain source can have made up this spend: we have signed it. One that cannot be
    /// judged counts some blocks after the expiry, where nothing is left to be refunded.
    fn is_certain(&self, tx: &Transaction, chain: &Chain) -> bool {
        let signed = Amount::from_sat(self.signed);
        let expiry = self.meta.deed.as_ref().map_or(u32::MAX, |deed| deed.expiry);
        let over = chain.tip >= expiry.saturating_add(FINAL_DEPTH);
        let contract = self.contract.as_ref();
        over || contract.is_some_and(|contract| contract.is_signed_in(tx, signed))
    }

    fn returned(&self, tx: &Transaction) -> u64 {
        let contract = self.contract.as_ref();
        contract.map_or(0, |contract| returned(contract, tx))
    }

    /// What comes back by the transaction that spends the channel, where there is one.
    pub(in crate::machine) fn coming(&self) -> Option<u64> {
        let spend = self.seen.as_ref()?.spend.as_ref()?;
        Some(self.returned(&spend.tx))
    }
}

impl Stray {
    /// Seen unspent, it need not be looked for further back after a restart. True where that is to be
    /// made durable.
    fn note_unspent(&mut self, tip: u32) -> bool {
        let seen = self.seen.as_ref().filter(|seen| seen.spend.is_none());
        let Some(height) = seen.and_then(|seen| seen.height) else {
            return false;
        };
        let since = Decided::default().with_unspent(height.max(self.since), tip);
        let Some(since) = since.unspent else {
            return false;
        };
        self.since = since;
        true
    }

    fn is_forgotten(&self, tip: u32) -> bool {
        tip >= self.contract.output().expiry().saturating_add(FORGOTTEN)
    }

    /// What it brought, once that is buried.
    fn came_back(&self, chain: &Chain) -> Option<u64> {
        let expiry = self.contract.output().expiry();
        let spend = self.seen.as_ref()?.spend.as_ref()?;
        let signed = || self.contract.is_signed_in(&spend.tx, self.contract.value());
        let certain = chain.tip >= expiry.saturating_add(FINAL_DEPTH) || signed();
        let buried = spend.depth(chain.tip) >= FINAL_DEPTH && certain;
        buried.then(|| returned(&self.contract, &spend.tx))
    }
}
