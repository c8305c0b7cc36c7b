//! What the two sides do to each other: fundings, ticks, and messages of a mutual close, which arrive,
//! are lost, come again or changed.

use bitcoin::{Amount, FeeRate, OutPoint};
use bytes::Bytes;
use streampay_core::backend::{Outcome, PurseOffer, Request};
use streampay_core::units::{Seq, XOnlyKey};

use super::{FUNDING_FEES, PAYEE, RATES, STEP, World, sat};
use crate::chain::Seen;
use crate::codec;
use crate::params::{ChannelParams, ParamFields};
use crate::script::FundingOutput;
use crate::sim::Payment;
use crate::tx::Contract;
use crate::wire::Opening;

/// What the payer's own transactions on waiting outputs pay, in satoshi.
const CHILD_FEES: [u64; 4] = [400, 1_000, 3_000, 9_000];

impl World {
    /// The payee's terms, with the output type that this channel is to have.
    fn offer(&self, at: usize) -> PurseOffer {
        let params = self
            .payee
            .machine
            .params(self.payee.now)
            .map(|params| params.encode());
        let fields = params.and_then(|params| ChannelParams::decode(&params));
        let params = fields.and_then(|fields| {
            let kind = self.channels.get(at).map(|channel| channel.kind);
            ChannelParams::new(&ParamFields {
                types: kind.into_iter().collect(),
                ..fields
            })
        });
        PurseOffer {
            params: params.map(|params| params.encode()).unwrap_or_default(),
            tick: sat(STEP),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        }
    }

    pub(super) fn open(&mut self, at: usize, how: u8) {
        self.payer.payment = match how >> 1 & 7 ^ self.payments {
            0..=2 => Payment::Prompt,
            3 => Payment::After,
            fee => {
                let fee = FUNDING_FEES.get(usize::from(fee & 3)).copied();
                Payment::For(Amount::from_sat(fee.unwrap_or_default()))
            }
        };
        let offer = self.offer(at);
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        // Where no block need have the funding, it is asked for again at once.
        for _ in 0..=u8::from(self.zero_conf_max > 0) {
            if channel.opened.is_some() {
                continue;
            }
            let request = Request::Open {
                offer: offer.clone(),
                capacity: sat(60_000),
                budget: sat(60_000),
            };
            if let Some(Outcome::Opened(opened)) = self.payer.request(channel.purse, request) {
                channel.opened = Some(opened);
            }
        }
        if let Some(opened) = &channel.opened {
            let opening = opened.opening.clone();
            let accepted = self
                .payee
                .request(channel.purse, Request::Accept { offer, opening });
            let accepted = matches!(accepted, Some(Outcome::Accepted { .. }));
            if accepted && !channel.accepted {
                channel.accepted = true;
                self.accepted(at);
            }
        }
    }

    /// The payee has just looked at the funding, and takes the channel.
    fn accepted(&mut self, at: usize) {
        let seen = self.funding(at);
        let waits = seen.as_ref().is_some_and(|seen| seen.height.is_none());
        let good = seen.is_some_and(|seen| self.can_pay_from(&seen));
        self.deceived |= !good;
        if let Some(channel) = self.channels.get_mut(at) {
            channel.unconfirmed = waits;
        }
    }

    /// The output that the payee knows a channel by, as the chain has it.
    fn funding(&self, at: usize) -> Option<Seen> {
        let purse = self.channels.get(at)?.purse;
        let mut reports = self.payee.machine.report().into_iter();
        let outpoint = reports.find(|report| report.purse == purse)?.outpoint?;
        self.chain.seen(outpoint)
    }

    /// True where a block has it and nothing spends it; or it waits, may, and can be followed by a close.
    fn can_pay_from(&self, seen: &Seen) -> bool {
        let small = seen.output.value.to_sat() <= self.zero_conf_max;
        let waits = small && seen.parent.is_some();
        seen.spend.is_none() && (seen.height.is_some() || waits)
    }

    /// Somebody shows the payee what is no channel, or another one, of an output that is known: before the
    /// payer shows the real one, or after.
    pub(super) fn lie(&mut self, at: usize, how: u8) {
        let offer = self.offer(at);
        let other = self.channels.iter().map(|channel| channel.purse);
        let other = other.rev().nth(at);
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let opening = channel.opened.as_ref().map(|opened| &opened.opening);
        let real = opening.and_then(|bytes| Opening::decode(channel.purse, &offer, bytes).ok());
        let (Some((params, real)), Some(other)) = (real, other) else {
            return;
        };
        let (mut purse, mut outpoint) = (channel.purse, real.outpoint());
        let output = real.output();
        let (mut payee, mut expiry) = (*output.payee(), output.expiry());
        match how >> 1 & 3 {
            0 => outpoint.vout = outpoint.vout.saturating_add(u32::from(how)),
            1 => expiry = expiry.saturating_add(1),
            2 => outpoint.vout = u32::MAX >> 1,
            _ => {
                // The output of one channel, for the keys of the other one.
                purse = other;
                let own = params.payee.channel_key(output.payer(), purse);
                payee = own.unwrap_or(payee);
            }
        }
        if outpoint == real.outpoint() && expiry == output.expiry() && purse == channel.purse {
            return;
        }
        let kind = output.output_type();
        let Ok(output) = FundingOutput::new(kind, *output.payer(), payee, expiry) else {
            return;
        };
        let (network, change) = (params.network, real.change_script().clone());
        let (value, reserve) = (real.value(), real.reserve());
        let Ok(lie) = Contract::new(network, output, outpoint, value, reserve, change) else {
            return;
        };
        let opening = codec::encode(&Opening::new(purse, &lie)).into();
        let accepted = self
            .payee
            .request(purse, Request::Accept { offer, opening });
        self.deceived |= matches!(accepted, Some(Outcome::Accepted { .. }));
    }

    /// The payer signs so many ticks more than were acknowledged, and the payee gets it or not.
    pub(super) fn tick(&mut self, at: usize, ticks: u64, arrives: bool) {
        let Some(channel) = self.channels.get_mut(at).filter(|channel| channel.accepted) else {
            return;
        };
        let total = channel.acked.saturating_add(ticks);
        let request = Request::Pay {
            seq: Seq(channel.seq.saturating_add(1)),
            amount: sat(ticks.saturating_mul(STEP)),
            cumulative: sat(total.saturating_mul(STEP)),
        };
        let Some(Outcome::Paid { payload }) = self.payer.request(channel.purse, request) else {
            return;
        };
        channel.signed = channel.signed.max(total);
        channel.seq = channel.seq.saturating_add(1);
        channel.sent.push((total, payload.clone()));
        if arrives {
            self.deliver(at, total, payload);
        }
    }

    fn deliver(&mut self, at: usize, total: u64, payload: Bytes) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let amount = total.saturating_sub(channel.acked).max(1);
        let request = Request::Receive {
            seq: Seq(channel.seq),
            amount: sat(amount.saturating_mul(STEP)),
            cumulative: sat(total.saturating_mul(STEP)),
            payload,
        };
        if self.payee.request(channel.purse, request) != Some(Outcome::Credited) {
            return;
        }
        let new = total > channel.acked;
        channel.acked = channel.acked.max(total);
        let seen = self.funding(at);
        if new && self.current && !self.forgot {
            self.deceived |= !seen.is_some_and(|seen| self.can_pay_from(&seen));
        }
    }

    /// An old payment again, or a changed one.
    pub(super) fn replay(&mut self, at: usize, how: u8, corrupt: bool) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let count = channel.sent.len();
        let pick = usize::from(how).checked_rem(count).unwrap_or_default();
        let Some((total, payload)) = channel.sent.get(pick).cloned() else {
            return;
        };
        if !corrupt {
            return self.deliver(at, total, payload);
        }
        let before = channel.acked;
        let mut bytes = payload.to_vec();
        if let Some(byte) = bytes.get_mut(usize::from(how) % 65) {
            *byte ^= 1 << (how % 8);
        }
        // The same amount may be credited already; then the bytes do not matter.
        self.deliver(at, total.max(before.saturating_add(1)), bytes.into());
        let after = self.channels.get(at).map(|channel| channel.acked);
        self.deceived |= after != Some(before);
    }

    /// The payer hangs something on its output of a spend that waits, to keep it from being replaced.
    pub(super) fn hang(&self, at: usize, how: u8) {
        let outpoints = self.channels.get(at).map(|channel| &channel.outpoints);
        for outpoint in outpoints.into_iter().flatten() {
            let Some((tx, None)) = self.chain.spender(*outpoint) else {
                continue;
            };
            let index = tx.input.iter().position(|i| i.previous_output == *outpoint);
            let vout = index.and_then(|index| u32::try_from(index).ok());
            let fee = CHILD_FEES.get(usize::from(how >> 1) % CHILD_FEES.len());
            if let (Some(vout), Some(fee)) = (vout, fee) {
                let on = OutPoint::new(tx.compute_txid(), vout);
                let outputs = usize::from(how >> 4).saturating_add(1);
                // Refused where it has one, or the output is another's.
                let _ = self.chain.hang(on, Amount::from_sat(*fee), outputs);
            }
        }
    }

    /// The user pays to a channel's address once more, or another value.
    pub(super) fn pay_besides(&mut self, at: usize, how: u8) {
        let reports = self.payer.machine.report();
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(own) = reports.iter().find(|own| own.purse == channel.purse) else {
            return;
        };
        let values = [Amount::from_sat(3_000), Amount::from_sat(30_000), own.value];
        let value = values.get(usize::from(how) % values.len());
        let script = own.address.as_ref().map(|address| address.script_pubkey());
        if let (Some(value), Some(script)) = (value, script) {
            let paid = self.chain.pay(&script, *value);
            channel.besides.extend(paid.ok());
        }
    }

    /// The payer's wallet replaces what funded the channel, where that waits.
    pub(super) fn bump(&mut self, at: usize) {
        let channel = self.channels.get(at);
        if let Some(outpoint) = channel.and_then(|channel| channel.outpoints.last()) {
            // Refused where it is in a block, or gone.
            let _ = self.chain.bump(*outpoint);
        }
        self.look();
    }

    /// Mempools are full: what pays less is forgotten, and not taken again until there is room.
    pub(super) fn full(&mut self, how: u8) {
        let floor = RATES.get(usize::from(how) % RATES.len());
        let floor = floor.copied().unwrap_or(1);
        self.chain.set_floor(FeeRate::from_sat_per_vb_u32(floor));
        self.look();
    }

    /// Nodes forget what funded the channel, where that waits.
    pub(super) fn forget(&mut self, at: usize) {
        let channel = self.channels.get(at);
        if let Some(outpoint) = channel.and_then(|channel| channel.outpoints.last()) {
            self.chain.forget(outpoint.txid);
        }
        self.look();
    }

    /// One side's backend shows the other's something of a mutual close, old or new, whole or not.
    pub(super) fn show(&mut self, from: u8, how: u8) {
        let (from, to) = match from {
            PAYEE => (&self.payee, &mut self.payer),
            _ => (&self.payer, &mut self.payee),
        };
        let pick = usize::from(how >> 2).checked_rem(from.notes.len());
        let Some((purse, note)) = pick.and_then(|pick| from.notes.iter().rev().nth(pick)) else {
            return;
        };
        let mut bytes = note.to_vec();
        if how % 4 == 3
            && let Some(byte) = bytes.get_mut(usize::from(how))
        {
            *byte ^= 1;
        }
        let bytes = bytes.into();
        to.request(*purse, Request::Note { bytes });
    }
}
