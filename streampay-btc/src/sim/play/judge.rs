//! What must hold in a run, whatever happens.

use std::collections::BTreeMap;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxIn, Txid};

use super::{Channel, PAYEE, RATES, STEP, Tally, World};
use crate::machine::ChannelReport;
use crate::policy::PayeePolicy;
use crate::sim::{Reject, home, open_home};

/// As in the payee's defaults: for closing at 2 sat/vB.
const RESERVE: u64 = 927;
/// As in the payer's defaults.
const RESERVE_MAX: u64 = 20_000;

impl World {
    /// What holds at every moment.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        if self.deceived {
            return Err("a changed payment was credited, or a false opening accepted".into());
        }
        while let Some(tx) = self.payee.broadcast.get(self.judged) {
            self.judge_close(tx)?;
            self.judged = self.judged.saturating_add(1);
        }
        for node in [&self.payer, &self.payee] {
            for (tx, reject) in &node.refused {
                let benign = matches!(reject, Reject::Missing | Reject::Replacement | Reject::Fee);
                // One whose funding is gone is told again at each block, for that may come back.
                let again = (node.refused.iter())
                    .filter(|(other, why)| *why == Reject::Replacement && other == tx);
                if again.count() > 2 && !self.is_capped(tx) {
                    return Err(format!("{} is bid again and again", tx.compute_txid()));
                }
                if !benign {
                    let (ins, outs) = (tx.input.len(), tx.output.len());
                    return Err(format!(
                        "{reject}: {} with {ins} in, {outs} out",
                        tx.compute_txid()
                    ));
                }
            }
        }
        let reports = self.payee.machine.report();
        for channel in &self.channels {
            let report = reports.iter().find(|report| report.purse == channel.purse);
            let held = report.map_or(0, |report| report.paid.to_sat());
            let reserve = report.and_then(|report| channel.reserve(report.outpoint?));
            if !self.forgot && held < due(channel, reserve.unwrap_or(RESERVE)) {
                return Err(format!("{held} held, {} ticks acked", channel.acked));
            }
            self.judge_reserves(channel)?;
            if channel.acked > channel.signed {
                return Err(format!("{} of {}", channel.acked, channel.signed));
            }
        }
        Ok(())
    }

    /// What the terms ask, or, where that did not cover a close when the channel was planned, what one and a
    /// half cost then: up to the payer's limit.
    fn judge_reserves(&self, channel: &Channel) -> Result<(), String> {
        for reserve in channel.reserves.values() {
            let today = |rate: &u32| {
                let today = PayeePolicy::reserve_at(FeeRate::from_sat_per_vb_u32(*rate));
                *reserve == today.to_sat().min(RESERVE_MAX)
            };
            if *reserve != RESERVE && !RATES.iter().any(today) {
                return Err(format!("a reserve of {reserve}"));
            }
        }
        Ok(())
    }

    /// What the payee signs for a channel leaves the payer what it never paid, and is never older than
    /// what the payee acknowledged. Whether it gets into a block does not matter.
    fn judge_close(&self, tx: &Transaction) -> Result<(), String> {
        for channel in &self.channels {
            let own = |input: &TxIn| channel.outpoints.contains(&input.previous_output);
            let Some(index) = tx.input.iter().position(own) else {
                continue;
            };
            let Some(input) = tx.input.get(index) else {
                continue;
            };
            let funding = self.chain.transaction(input.previous_output.txid);
            let funding = funding.and_then(|(tx, _)| tx.output.first().cloned());
            let Some(value) = funding.map(|output| output.value.to_sat()) else {
                continue;
            };
            let change = (tx.output.get(index))
                .filter(|output| output.script_pubkey == open_home())
                .map_or(0, |output| output.value.to_sat());
            let paid = value.saturating_sub(change);
            let reserve = channel.reserve(input.previous_output).unwrap_or(RESERVE);
            let most = channel.signed.saturating_mul(STEP).saturating_add(reserve);
            let least = match input.witness.len() {
                1 => channel.acked.saturating_mul(STEP),
                _ => due(channel, reserve),
            };
            if paid > most || paid < least && !self.forgot {
                return Err(format!("a close takes {paid}, of {least} to {most}"));
            }
        }
        Ok(())
    }

    /// A close of which was said that it may cost no more.
    fn is_capped(&self, tx: &Transaction) -> bool {
        let mut inputs = tx.input.iter().map(|input| input.previous_output);
        inputs.any(|input| {
            let mut channels = self.channels.iter();
            channels.any(|channel| channel.capped.contains(&input))
        })
    }

    /// What holds once everything is settled, of every output that was a channel's.
    pub(super) fn judge_end(&self) -> Result<Tally, String> {
        let mut tally = Tally::default();
        let of_payer = self.payer.machine.report();
        let of_payee = self.payee.machine.report();
        for channel in &self.channels {
            tally.ticks = tally.ticks.saturating_add(channel.acked);
            tally.unconfirmed = (tally.unconfirmed).saturating_add(u32::from(channel.unconfirmed));
            if channel.outpoints.is_empty() {
                tally.unfunded = tally.unfunded.saturating_add(1);
            }
            for outpoint in &channel.outpoints {
                let at = |reports: &[ChannelReport]| {
                    let mut reports = reports.iter();
                    let own = |report: &&ChannelReport| {
                        report.purse == channel.purse && report.outpoint == Some(*outpoint)
                    };
                    reports.find(own).cloned()
                };
                let end = End {
                    channel,
                    outpoint: *outpoint,
                    payer: at(&of_payer),
                    payee: at(&of_payee),
                };
                self.judge_output(&end, &mut tally)?;
            }
        }
        self.judge_besides(&of_payer, &mut tally)?;
        self.judge_book(&of_payee)?;
        Ok(tally)
    }

    /// What was paid to a channel's address besides is the payer's again, at half of it at least.
    fn judge_besides(&self, reports: &[ChannelReport], tally: &mut Tally) -> Result<(), String> {
        for channel in &self.channels {
            for outpoint in &channel.besides {
                let funding = self.chain.transaction(outpoint.txid);
                let Some((Some(output), Some(_))) =
                    funding.map(|(tx, height)| (tx.output.first().cloned(), height))
                else {
                    continue;
                };
                // The channel itself after all; or of an address that no disk knows any more.
                let knows = |own: &ChannelReport| {
                    let address = own.address.as_ref();
                    let script = address.map(|address| address.script_pubkey());
                    own.purse == channel.purse && script.as_ref() == Some(&output.script_pubkey)
                };
                if channel.outpoints.contains(outpoint) || !reports.iter().any(knows) {
                    continue;
                }
                let Some((tx, Some(_))) = self.chain.spender(*outpoint) else {
                    return Err(format!("{} was paid besides and is out", output.value));
                };
                let came = tx.output.iter();
                let came = came.filter(|output| output.script_pubkey == open_home());
                let came: u64 = came.map(|output| output.value.to_sat()).sum();
                if came < output.value.to_sat() / 2 || tx.lock_time.to_consensus_u32() == 0 {
                    return Err(format!("{came} of {} paid besides came back", output.value));
                }
                let booked = reports.iter().flat_map(|own| &own.besides);
                let mut booked = booked.filter(|own| own.outpoint == *outpoint);
                if booked.next().and_then(|own| own.back) != Some(Amount::from_sat(came)) {
                    return Err(format!("{came} paid besides came back and are not booked"));
                }
                tally.besides = tally.besides.saturating_add(1);
            }
        }
        Ok(())
    }

    fn judge_output(&self, end: &End<'_>, tally: &mut Tally) -> Result<(), String> {
        let End {
            channel,
            outpoint,
            payer,
            payee,
        } = end;
        let Some((tx, height)) = self.chain.spender(*outpoint) else {
            // A funding that was never mined, or one that no disk knows any more: its kit is for that.
            let funded = self.chain.transaction(outpoint.txid);
            let mined = funded.is_some_and(|(_, height)| height.is_some());
            let claimed = payee.is_some() && !self.forgot && channel.acked > 0;
            return if mined && (payer.is_some() || claimed) {
                Err(format!("still unspent: {payer:?} {payee:?}"))
            } else {
                Ok(())
            };
        };
        let settled =
            |report: &ChannelReport| report.settled.is_some() || report.paid == Amount::ZERO;
        let booked = payer.as_ref().is_none_or(|report| report.settled.is_some())
            && payee.as_ref().is_none_or(settled);
        if height.is_none() || !booked {
            return Err(format!("not settled: {payer:?} {payee:?}"));
        }
        let (Some(index), Some((funding, _))) = (
            tx.input.iter().position(|i| i.previous_output == *outpoint),
            self.chain.transaction(outpoint.txid),
        ) else {
            return Err(format!("{outpoint} is not there"));
        };
        let value = funding
            .output
            .first()
            .map_or(0, |output| output.value.to_sat());
        let came = (tx.output.get(index))
            .filter(|output| output.script_pubkey == open_home())
            .map_or(0, |output| output.value.to_sat());
        let refund = tx.lock_time.to_consensus_u32() > 0;
        let mutual = tx.input.get(index);
        let mutual = mutual.is_some_and(|input| input.witness.len() == 1);
        let lost = refund && payee.is_some() && channel.acked > 0;
        let count = if refund {
            &mut tally.refunded
        } else {
            &mut tally.closed
        };
        *count = count.saturating_add(1);
        tally.mutual = tally.mutual.saturating_add(u32::from(mutual));
        tally.lost = tally.lost.saturating_add(u32::from(lost));
        let reserve = channel.reserve(*outpoint).unwrap_or(RESERVE);
        let first = if channel.signed > 0 { reserve } else { 0 };
        let most = channel.signed.saturating_mul(STEP).saturating_add(first);
        let fee = if refund { 200 * 320 } else { 0 };
        let least = value.saturating_sub(most);
        if came.saturating_add(fee) < least {
            return Err(format!("payer got {came} of at least {least}"));
        }
        let own = payer.as_ref().and_then(|report| report.settled);
        if own.is_some_and(|own| own.to_sat() != came) {
            return Err(format!("{own:?} booked, {came} came"));
        }
        let excused = self.forgot || channel.uneconomic || !channel.watched;
        if lost && !excused {
            return Err(format!("the payee lost {} ticks", channel.acked));
        }
        // A mutual close gives the payer what is left of the reserve.
        let due = if mutual {
            channel.acked.saturating_mul(STEP)
        } else {
            due(channel, reserve)
        };
        let paid = value.saturating_sub(came);
        if !refund && payee.is_some() && !self.forgot && paid < due {
            return Err(format!("the payee closed at {paid}, {due} were due"));
        }
        Ok(())
    }

    /// What the payee booked of each transaction is what it brought: all that came to the payout, less
    /// the coins of the fee wallet that went into it.
    fn judge_book(&self, reports: &[ChannelReport]) -> Result<(), String> {
        let mut book: BTreeMap<Txid, u64> = BTreeMap::new();
        // Who lost its records may not know what went in.
        for report in reports.iter().filter(|_| !self.forgot) {
            let spent = report.outpoint.and_then(|of| self.chain.spender(of));
            let (Some((tx, _)), Some(settled)) = (spent, report.settled) else {
                continue;
            };
            let booked = book.entry(tx.compute_txid()).or_default();
            *booked = booked.saturating_add(settled.to_sat());
        }
        for (txid, booked) in book {
            let Some((tx, _)) = self.chain.transaction(txid) else {
                continue;
            };
            let (mut came, mut coins) = (0_u64, 0_u64);
            for output in &tx.output {
                if output.script_pubkey == home(PAYEE) {
                    came = came.saturating_add(output.value.to_sat());
                }
            }
            for input in &tx.input {
                let outpoint = input.previous_output;
                let coin = self.chain.transaction(outpoint.txid);
                let output = coin.as_ref().and_then(|(tx, _)| tx.output.first());
                let script = self.payee.machine.fee_script();
                if let Some(output) = output.filter(|output| output.script_pubkey == script) {
                    coins = coins.saturating_add(output.value.to_sat());
                }
            }
            if booked != came.saturating_sub(coins) {
                return Err(format!("{booked} booked, {came} came, {coins} in coins"));
            }
        }
        Ok(())
    }
}

/// An output that was a channel's, and what each side knows of it.
struct End<'a> {
    channel: &'a Channel,
    outpoint: OutPoint,
    payer: Option<ChannelReport>,
    payee: Option<ChannelReport>,
}

/// What the payee has a right to: what was acknowledged, and the reserve with the first tick.
const fn due(channel: &Channel, reserve: u64) -> u64 {
    match channel.acked {
        0 => 0,
        ticks => ticks.saturating_mul(STEP).saturating_add(reserve),
    }
}

impl Channel {
    /// The reserve of the channel in this output.
    fn reserve(&self, outpoint: OutPoint) -> Option<u64> {
        self.reserves.get(&outpoint).copied()
    }
}
