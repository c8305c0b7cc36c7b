//! What must hold in a run, whatever happens.

use bitcoin::Amount;

use super::{Channel, PAYER, STEP, Tally, World};
use crate::machine::ChannelReport;
use crate::sim::{Reject, home};

/// As in the payee's defaults: for closing at 2 sat/vB.
const RESERVE: u64 = 927;

impl World {
    /// What holds at every moment.
    pub(super) fn judge(&self) -> Result<(), String> {
        if self.deceived {
            return Err("a changed payment was credited".into());
        }
        for node in [&self.payer, &self.payee] {
            for (tx, reject) in &node.refused {
                let benign = matches!(reject, Reject::Missing | Reject::Replacement | Reject::Fee);
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
            if !self.forgot && channel.acked > 0 && held < channel.acked.saturating_mul(STEP) {
                return Err(format!("{held} held, {} ticks acked", channel.acked));
            }
            if channel.acked > channel.signed {
                return Err(format!("{} of {}", channel.acked, channel.signed));
            }
        }
        Ok(())
    }

    /// What holds once everything is settled.
    pub(super) fn judge_end(&self) -> Result<Tally, String> {
        let mut tally = Tally::default();
        let reports = self.payer.machine.report();
        for channel in &self.channels {
            let report = reports.iter().find(|report| report.purse == channel.purse);
            if let Some(report) = report {
                self.judge_channel(channel, report, &mut tally)?;
            }
        }
        Ok(tally)
    }

    fn judge_channel(
        &self,
        channel: &Channel,
        report: &ChannelReport,
        tally: &mut Tally,
    ) -> Result<(), String> {
        tally.ticks = tally.ticks.saturating_add(channel.acked);
        let Some(outpoint) = report.outpoint else {
            tally.unfunded = tally.unfunded.saturating_add(1);
            return Ok(());
        };
        let Some((tx, height)) = self.chain.spender(outpoint) else {
            // A refund that is not worth its fee, or a funding that was never mined.
            let funded = self.chain.transaction(outpoint.txid);
            let mined = funded.is_some_and(|(_, height)| height.is_some());
            return if mined {
                Err(format!("still unspent: {report:?}"))
            } else {
                Ok(())
            };
        };
        if height.is_none() || report.settled.is_none() {
            return Err(format!("not settled: {report:?}"));
        }
        let index = tx.input.iter().position(|i| i.previous_output == outpoint);
        let came = index
            .and_then(|index| tx.output.get(index))
            .filter(|output| output.script_pubkey == home(PAYER))
            .map_or(Amount::ZERO, |output| output.value);
        let refund = tx.lock_time.to_consensus_u32() > 0;
        let lost = refund && channel.acked > 0;
        let count = if refund {
            &mut tally.refunded
        } else {
            &mut tally.closed
        };
        *count = count.saturating_add(1);
        let own = index.and_then(|index| tx.input.get(index));
        let mutual = own.is_some_and(|input| input.witness.len() == 1);
        tally.mutual = tally.mutual.saturating_add(u32::from(mutual));
        tally.lost = tally.lost.saturating_add(u32::from(lost));
        let reserve = if channel.signed > 0 { RESERVE } else { 0 };
        let most = channel.signed.saturating_mul(STEP).saturating_add(reserve);
        let fee = if refund { 200 * 320 } else { 0 };
        let least = report.value.to_sat().saturating_sub(most);
        if !refund && came.to_sat() < least || refund && came.to_sat().saturating_add(fee) < least {
            return Err(format!("payer got {came} of at least {least}"));
        }
        if report.settled != Some(came) {
            return Err(format!("{:?} booked, {came} came", report.settled));
        }
        let excused = self.forgot || self.spike || channel.uneconomic || !channel.watched;
        if lost && !excused {
            return Err(format!("the payee lost {} ticks", channel.acked));
        }
        let paid = report.value.to_sat().saturating_sub(came.to_sat());
        let due = channel.acked.saturating_mul(STEP);
        if !refund && !self.forgot && paid < due {
            return Err(format!("the payee closed at {paid}, {due} were due"));
        }
        Ok(())
    }
}
