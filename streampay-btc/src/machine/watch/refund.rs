//! When an output of the payer's is taken back, and what that may cost: its channel's, and what was paid
//! to the channel's address besides.

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction};
use streampay_core::units::PurseKey;

use super::build::rate_of;
use super::{
    BUMP_PERCENT, LATE, REFUND_EVERY, REFUND_PART, REFUND_PART_MAX, REFUND_TARGET, WatchEvent,
    is_refund, percent, persist,
};
use crate::chain::{Seen, Spend};
use crate::keys::ChannelSecret;
use crate::machine::payer::Payer;
use crate::machine::{Action, Chain, Inner, Side};
use crate::tx::{Contract, RefundError, fee_for, refund_tx};

/// An output that only its payer can spend once its time is over.
pub(super) struct Due<'a> {
    pub(super) contract: &'a Contract,
    pub(super) secret: &'a ChannelSecret,
    pub(super) seen: Option<&'a Seen>,
    pub(super) refunding: &'a Refunding,
}

/// What was done so far to take an output back, and what the user knows of it.
#[derive(Default)]
pub(in crate::machine) struct Refunding {
    /// The height at which something was broadcast for it last.
    tried: Option<u32>,
    /// The rate of the last refund that was broadcast over one that waits.
    bid: Option<FeeRate>,
    /// The highest rate that was told since the chain showed one last: a refund that no node takes is
    /// broadcast at each block.
    told: Option<FeeRate>,
    /// What it should cost, where that is more than it may: told when it comes to that.
    short: Option<Amount>,
}

impl Refunding {
    /// Takes what a view shows of the output, and what the one before did.
    pub(super) fn look(&mut self, old: Option<&Seen>, new: Option<&Seen>) {
        let is_spent = |seen: Option<&Seen>| seen.is_some_and(|seen| seen.spend.is_some());
        if is_spent(new) {
            return;
        }
        self.bid = None;
        if is_spent(old) {
            self.told = None;
        }
    }

    /// True where a refund was broadcast.
    pub(in crate::machine) const fn is_under_way(&self) -> bool {
        self.bid.is_some()
    }

    /// What it should cost, where that is more than it may.
    pub(in crate::machine) const fn short(&self) -> Option<Amount> {
        self.short
    }

    /// Does what is due at this height.
    fn take(
        &mut self,
        key: PurseKey,
        output: (OutPoint, Amount),
        step: Step,
        actions: &mut Vec<Action>,
    ) {
        let (outpoint, claim) = output;
        let known = core::mem::replace(&mut self.short, step.short);
        if let Some(fee) = step.short.filter(|_| known.is_none()) {
            let event = WatchEvent::Uneconomic {
                outpoint,
                claim,
                fee,
            };
            actions.push(Action::Event(key, event));
        }
        let Some((tx, rate)) = step.refund else {
            return;
        };
        self.bid = Some(rate);
        if self.told.is_none_or(|told| rate > told) {
            self.told = Some(rate);
            let txid = tx.compute_txid();
            let event = WatchEvent::Refunding { outpoint, txid };
            actions.push(Action::Event(key, event));
        }
        actions.push(Action::Broadcast(tx));
    }

    /// Nothing is due at `tip`: where nothing was done there, what was told is over.
    fn rest(&mut self, tip: u32) {
        if self.tried != Some(tip) {
            self.short = None;
        }
    }
}

/// What is done about such an output at one height.
struct Step {
    /// The refund, and its rate.
    refund: Option<(Transaction, FeeRate)>,
    /// What it should cost, where that is more than it may, or a close that waits gives back more.
    short: Option<Amount>,
}

impl Step {
    const fn short(fee: Amount) -> Self {
        Self {
            refund: None,
            short: Some(fee),
        }
    }
}

impl Inner {
    /// Broadcasts the refunds whose time has come.
    pub(super) fn refund_due(&mut self, chain: &Chain, actions: &mut Vec<Action>) {
        let home = self.config.payer.home.clone();
        for (key, channel) in &mut self.channels {
            let Side::Payer(payer) = &mut channel.role else {
                continue;
            };
            payer.refund(*key, &home, chain, actions);
            payer.refund_strays(*key, &home, chain, actions);
        }
    }
}

impl Payer {
    fn refund(
        &mut self,
        key: PurseKey,
        home: &ScriptBuf,
        chain: &Chain,
        actions: &mut Vec<Action>,
    ) {
        let Some(due) = self.due().filter(|_| self.decided.settled.is_none()) else {
            return;
        };
        let output = (due.contract.outpoint(), due.contract.value());
        let Some(step) = due.step(home, chain) else {
            return self.refunding.rest(chain.tip);
        };
        self.refunding.tried = Some(chain.tip);
        if step.refund.is_some() && !self.decided.closing {
            self.decided.closing = true;
            actions.push(persist(key, self.decided));
        }
        self.refunding.take(key, output, step, actions);
    }

    fn due(&self) -> Option<Due<'_>> {
        Some(Due {
            contract: self.contract.as_ref()?,
            secret: &self.secret,
            seen: self.seen.as_ref(),
            refunding: &self.refunding,
        })
    }

    fn refund_strays(
        &mut self,
        key: PurseKey,
        home: &ScriptBuf,
        chain: &Chain,
        actions: &mut Vec<Action>,
    ) {
        for stray in &mut self.strays {
            let due = Due {
                contract: &stray.contract,
                secret: &self.secret,
                seen: stray.seen.as_ref(),
                refunding: &stray.refunding,
            };
            let output = (stray.contract.outpoint(), stray.contract.value());
            let step = due.step(home, chain).filter(|_| stray.back.is_none());
            let Some(step) = step else {
                stray.refunding.rest(chain.tip);
                continue;
            };
            let stuck = step.short.is_some() && step.refund.is_none();
            stray.aside = stuck && !due.is_worth(home, chain);
            stray.refunding.tried = Some(chain.tip);
            stray.refunding.take(key, output, step, actions);
        }
    }
}

impl Due<'_> {
    /// What to do now; none where it is not time, or all that can be done was.
    fn step(&self, home: &ScriptBuf, chain: &Chain) -> Option<Step> {
        let wanted = self.rate(chain)?;
        let step = self.within(home, wanted, chain);
        let Some((tx, _)) = &step.refund else {
            return Some(step);
        };
        let out = tx.output.iter().map(|output| output.value.to_sat()).sum();
        let worse = self.close_returns().is_some_and(|returns| returns > out);
        if worse {
            let value = self.contract.value();
            let fee = value.checked_sub(Amount::from_sat(out));
            return Some(Step::short(fee.unwrap_or(value)));
        }
        Some(step)
    }

    /// The rate of the refund to broadcast now; none where there is none.
    fn rate(&self, chain: &Chain) -> Option<FeeRate> {
        let expiry = self.contract.output().expiry();
        let seen = self.seen?;
        if chain.tip < expiry || self.refunding.tried == Some(chain.tip) || seen.height.is_none() {
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
            chain.tip >= expiry.saturating_add(LATE)
        };
        let last = self.refunding.bid.unwrap_or(old).max(old);
        let more = || wanted.max(percent(last, BUMP_PERCENT));
        (height.is_none() && bump).then(more)
    }

    /// The refund at `wanted`, within what it may cost now. None where that is less than nodes relay, or
    /// no more than what waits.
    fn within(&self, home: &ScriptBuf, wanted: FeeRate, chain: &Chain) -> Step {
        let none = Step {
            refund: None,
            short: None,
        };
        let made = |rate| refund_tx(self.contract, self.secret, home, rate, chain.tip);
        let weight = match made(chain.fees.floor) {
            Ok(draft) => draft.weight(),
            Err(RefundError::Uneconomic { fee, .. }) => return Step::short(fee),
            Err(_) => return none,
        };
        let most = rate_of(self.fee_max(chain.tip), weight);
        let short = (wanted > most).then(|| fee_for(weight, wanted).unwrap_or(Amount::MAX_MONEY));
        let rate = wanted.min(most);
        let waits = self.waiting_rate();
        if rate < chain.fees.floor || waits.is_some_and(|waits| rate <= waits) {
            return Step { short, ..none };
        }
        match made(rate) {
            Ok(tx) => {
                let fee = self.fee_of(&tx);
                let paid = fee.map_or(rate, |fee| rate_of(fee, tx.weight()));
                Step {
                    refund: Some((tx, paid)),
                    short,
                }
            }
            Err(RefundError::Uneconomic { fee, .. }) => Step::short(fee),
            Err(_) => none,
        }
    }

    /// The most that a refund may cost at this height: estimates may be false, and a refund that waits
    /// can be raised.
    fn fee_max(&self, tip: u32) -> Amount {
        let value = self.contract.value().to_sat();
        let steps = tip.saturating_sub(self.contract.output().expiry()) / REFUND_EVERY;
        let most = (value / REFUND_PART).saturating_mul(u64::from(steps).saturating_add(1));
        Amount::from_sat(most.min(value / REFUND_PART_MAX))
    }

    /// True where half of it pays what nodes relay for now: it comes to that by itself.
    fn is_worth(&self, home: &ScriptBuf, chain: &Chain) -> bool {
        let half = Amount::from_sat(self.contract.value().to_sat() / REFUND_PART_MAX);
        let draft = refund_tx(
            self.contract,
            self.secret,
            home,
            chain.fees.floor,
            chain.tip,
        );
        draft.is_ok_and(|tx| rate_of(half, tx.weight()) >= chain.fees.floor)
    }

    /// The rate of a refund that waits for a block.
    fn waiting_rate(&self) -> Option<FeeRate> {
        let Spend { tx, height } = self.spent_by()?;
        let waits = height.is_none() && is_refund(tx);
        let fee = self.fee_of(tx).filter(|_| waits)?;
        Some(rate_of(fee, tx.weight()))
    }

    /// What a close that waits gives back: a refund that replaces it is worth more.
    fn close_returns(&self) -> Option<u64> {
        let spend = self.spent_by()?;
        (!is_refund(&spend.tx)).then(|| returned(self.contract, &spend.tx))
    }

    /// What spends it, where a signature of ours stands in it, also one that an older disk does not know
    /// of: anything else is made up, and keeps no refund back.
    fn spent_by(&self) -> Option<&Spend> {
        let spend = self.seen?.spend.as_ref()?;
        let signed = self.contract.is_signed_in(&spend.tx, self.contract.value());
        signed.then_some(spend)
    }

    /// What a transaction that spends it alone pays.
    fn fee_of(&self, tx: &Transaction) -> Option<Amount> {
        if tx.input.len() != 1 {
            return None;
        }
        let mut out = tx.output.iter().map(|output| output.value);
        let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
        self.contract.value().checked_sub(out)
    }
}

/// What a transaction that spends `contract` gives back: of a close the output at its input's index. A
/// refund has the payer's signature alone: all of it is the payer's, wherever it pays to, such as to a
/// home that was another one then.
pub(super) fn returned(contract: &Contract, tx: &Transaction) -> u64 {
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
