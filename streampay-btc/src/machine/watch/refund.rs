//! When an output of the payer's is taken back, and what that may cost: its channel's, and what was paid
//! to the channel's address besides.

use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction};
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
    /// The height at which something was broadcast for it last.
    pub(super) tried: Option<u32>,
    /// The rate of the last refund that was broadcast over one that waits.
    pub(super) bid: Option<FeeRate>,
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
        let (outpoint, claim) = (due.contract.outpoint(), due.contract.value());
        let Some(step) = due.step(home, chain) else {
            return;
        };
        self.tried = Some(chain.tip);
        if let Some(fee) = step.short {
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
        if !self.decided.closing {
            self.decided.closing = true;
            actions.push(persist(key, self.decided));
        }
        let txid = tx.compute_txid();
        let event = WatchEvent::Refunding { outpoint, txid };
        actions.push(Action::Event(key, event));
        actions.push(Action::Broadcast(tx));
    }

    fn due(&self) -> Option<Due<'_>> {
        Some(Due {
            contract: self.contract.as_ref()?,
            secret: &self.secret,
            seen: self.seen.as_ref(),
            tried: self.tried,
            bid: self.bid,
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
                tried: stray.tried,
                bid: stray.bid,
            };
            let step = due.step(home, chain).filter(|_| stray.back.is_none());
            let Some(step) = step else { continue };
            stray.tried = Some(chain.tip);
            let outpoint = stray.contract.outpoint();
            let (told, stuck) = (stray.told, step.short.is_some() && step.refund.is_none());
            stray.told = step.short.is_some();
            stray.aside = stuck && !due.is_worth(home, chain);
            if let Some(fee) = step.short.filter(|_| !told) {
                let claim = stray.contract.value();
                let event = WatchEvent::Uneconomic {
                    outpoint,
                    claim,
                    fee,
                };
                actions.push(Action::Event(key, event));
            }
            if let Some((tx, rate)) = step.refund {
                stray.bid = Some(rate);
                let txid = tx.compute_txid();
                let event = WatchEvent::Refunding { outpoint, txid };
                actions.push(Action::Event(key, event));
                actions.push(Action::Broadcast(tx));
            }
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
        if chain.tip < expiry || self.tried == Some(chain.tip) || seen.height.is_none() {
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
        let last = self.bid.unwrap_or(old).max(old);
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
