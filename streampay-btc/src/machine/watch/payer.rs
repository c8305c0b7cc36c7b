//! What the watch does with one channel of the payer's.

use bitcoin::{Amount, FeeRate, Transaction};
use streampay_core::units::PurseKey;

use super::build::rate_of;
use super::{
    BUMP_PERCENT, FINAL_DEPTH, LATE, Looked, REFUND_EVERY, REFUND_PART, REFUND_PART_MAX,
    REFUND_TARGET, WatchEvent, is_refund, percent, persist, tell,
};
use crate::chain::Spend;
use crate::machine::payer::Payer;
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
        self.seen = new.seen.cloned();
        // Signatures commit to the output. Where there are any, the other one only comes home.
        let expiry = self.meta.deed.as_ref().map_or(u32::MAX, |deed| deed.expiry);
        self.adrift = new.seen.is_none() && (self.signed == 0 || chain.tip >= expiry);
        let Some(spend) = self.seen.as_ref().and_then(|seen| seen.spend.as_ref()) else {
            self.bid = None;
            self.note_unspent(key, chain, actions);
            return;
        };
        let mut decided = self.decided;
        decided.closing = true;
        let buried = spend.depth(chain.tip) >= FINAL_DEPTH;
        if decided.settled.is_none() && buried && self.is_certain(&spend.tx, chain) {
            let amount = self.returned(&spend.tx);
            decided.settled = Some(amount);
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

    /// True where no chain source can have made up this spend: we have signed it. One that cannot be
    /// judged counts some blocks after the expiry, where nothing is left to be refunded.
    fn is_certain(&self, tx: &Transaction, chain: &Chain) -> bool {
        let signed = Amount::from_sat(self.signed);
        let expiry = self.meta.deed.as_ref().map_or(u32::MAX, |deed| deed.expiry);
        let over = chain.tip >= expiry.saturating_add(FINAL_DEPTH);
        let contract = self.contract.as_ref();
        over || contract.is_some_and(|contract| contract.is_signed_in(tx, signed))
    }

    /// What a transaction that spends the channel gives back: of a close the output at its input's
    /// index. A refund has our signature alone: all of it is ours, wherever it pays to, such as to a
    /// home that was another one then.
    pub(super) fn returned(&self, tx: &Transaction) -> u64 {
        let Some(contract) = &self.contract else {
            return 0;
        };
        if is_refund(tx) {
            let out = tx.output.iter().map(|output| output.value.to_sat());
            let out = out.fold(0, u64::saturating_add);
            return out.min(contract.value().to_sat());
        }
        let mut inputs = tx.input.iter().zip(&tx.output);
        let own = inputs.find(|(input, _)| input.previous_output == contract.outpoint());
        own.filter(|(_, output)| output.script_pubkey == *contract.change_script())
            .map_or(0, |(_, output)| output.value.to_sat())
    }

    /// What comes back by the transaction that spends the channel, where there is one.
    pub(in crate::machine) fn coming(&self) -> Option<u64> {
        let spend = self.seen.as_ref()?.spend.as_ref()?;
        Some(self.returned(&spend.tx))
    }

    /// The rate of the refund to broadcast now; none where there is none.
    pub(super) fn refund_rate(&self, chain: &Chain) -> Option<FeeRate> {
        let deed = self.meta.deed.as_ref()?;
        let seen = self.seen.as_ref()?;
        if chain.tip < deed.expiry || self.tried == Some(chain.tip) || seen.height.is_none() {
            return None;
        }
        let wanted = chain.fees.rate(REFUND_TARGET);
        let Some(Spend { tx, height }) = self.spent_by() else {
            return Some(wanted);
        };
        let fee = self.fee_of(tx);
        let old = fee.map_or(FeeRate::ZERO, |fee| rate_of(fee, tx.weight()));
        // Our own is bumped where fees have risen. The payee's had its time; what a close of several
        // channels pays, or what hangs on it, is not known: what was refused is raised.
        let bump = if is_refund(tx) {
            wanted > old
        } else {
            chain.tip >= deed.expiry.saturating_add(LATE)
        };
        let last = self.bid.unwrap_or(old).max(old);
        let more = || wanted.max(percent(last, BUMP_PERCENT));
        (height.is_none() && bump).then(more)
    }

    /// The most that a refund may cost at this height: estimates may be false, and a refund that waits
    /// can be raised.
    pub(super) fn refund_fee_max(&self, tip: u32) -> Amount {
        let value = self.contract.as_ref().map_or(0, |of| of.value().to_sat());
        let expiry = self.meta.deed.as_ref().map_or(tip, |deed| deed.expiry);
        let steps = tip.saturating_sub(expiry) / REFUND_EVERY;
        let most = (value / REFUND_PART).saturating_mul(u64::from(steps).saturating_add(1));
        Amount::from_sat(most.min(value / REFUND_PART_MAX))
    }

    /// The rate of a refund that waits for a block.
    pub(super) fn waiting_refund_rate(&self) -> Option<FeeRate> {
        let Spend { tx, height } = self.spent_by()?;
        let waits = height.is_none() && is_refund(tx);
        let fee = self.fee_of(tx).filter(|_| waits)?;
        Some(rate_of(fee, tx.weight()))
    }

    /// What a close that waits gives back: a refund that replaces it is worth more.
    pub(super) fn close_returns(&self) -> Option<u64> {
        let spend = self.spent_by()?;
        (!is_refund(&spend.tx)).then(|| self.returned(&spend.tx))
    }

    /// What spends it, where a signature of ours stands in it, also one that an older disk does not know
    /// of: anything else is made up, and keeps no refund back.
    fn spent_by(&self) -> Option<&Spend> {
        let spend = self.seen.as_ref()?.spend.as_ref()?;
        let contract = self.contract.as_ref()?;
        let signed = contract.is_signed_in(&spend.tx, contract.value());
        signed.then_some(spend)
    }

    /// What a transaction that spends the channel alone pays.
    fn fee_of(&self, tx: &Transaction) -> Option<Amount> {
        let alone = tx.input.len() == 1;
        let contract = self.contract.as_ref().filter(|_| alone)?;
        let mut out = tx.output.iter().map(|output| output.value);
        let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
        contract.value().checked_sub(out)
    }
}
