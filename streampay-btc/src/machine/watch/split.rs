//! What of a close goes to others than the payout: each its share of what the channels bring, less the fee.

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxOut};
use minicbor::bytes::ByteVec;
use streampay_core::units::PurseKey;

use crate::machine::Inner;
use crate::machine::payee::Payee;
use crate::machine::record::Part;
use crate::policy::PayoutShare;
use crate::tx::{CloseError, ClosePlan, FeeCoin, close_tx, is_standard};

/// A share of less, in satoshi, stays with the payout: it would hardly be worth spending. Chosen arbitrarily,
/// above what nodes call dust.
const LEAST: u64 = 1_000;
const WHOLE: u128 = 1_000;

impl Inner {
    /// The close of these channels at this rate. Where a share is too small, or with it the close too heavy or
    /// more than the channels bring, that stays with the payout.
    pub(in crate::machine) fn close(
        &self,
        members: &[PurseKey],
        coins: &[FeeCoin<'_>],
        rate: FeeRate,
    ) -> Result<Transaction, CloseError> {
        let mut shares: Vec<&PayoutShare> = (self.config.payee.shares.iter())
            .filter(|share| is_standard(&share.script))
            .collect();
        loop {
            // Its fee is that of the whole, whatever is in the outputs.
            let small = shares.iter().map(|share| TxOut {
                value: share.script.minimal_non_dust(),
                script_pubkey: share.script.clone(),
            });
            let draft = match self.close_with(members, coins, rate, &small.collect::<Vec<_>>()) {
                Err(CloseError::Uneconomic { .. } | CloseError::Weight) if !shares.is_empty() => {
                    shares.pop();
                    continue;
                }
                other => other?,
            };
            if shares.is_empty() {
                return Ok(draft);
            }
            let fee = self.fee_with(&draft, members, coins);
            let net = fee.and_then(|fee| self.claim(members).checked_sub(fee));
            let net = net.unwrap_or(Amount::ZERO);
            let before = shares.len();
            shares.retain(|share| share.of(net) >= share.least());
            if shares.len() < before {
                continue;
            }
            let extra = shares.iter().map(|share| TxOut {
                value: share.of(net),
                script_pubkey: share.script.clone(),
            });
            match self.close_with(members, coins, rate, &extra.collect::<Vec<_>>()) {
                Err(CloseError::Uneconomic { .. }) => {
                    shares.pop();
                }
                other => return other,
            }
        }
    }

    fn close_with(
        &self,
        members: &[PurseKey],
        coins: &[FeeCoin<'_>],
        rate: FeeRate,
        extra: &[TxOut],
    ) -> Result<Transaction, CloseError> {
        let payees = members.iter().filter_map(|key| self.payee(*key));
        let channels: Vec<_> = payees.filter_map(Payee::close_input).collect();
        close_tx(&ClosePlan {
            channels: &channels,
            coins,
            payout: &self.config.payee.payout,
            extra,
            rate,
        })
    }

    /// What of a close went to others for one of its channels: as the claim on it is of all claims. The parts of
    /// all channels come to the outputs.
    pub(super) fn split_part(&self, tx: &Transaction, of: OutPoint) -> Vec<Part> {
        let payee = &self.config.payee;
        let shared = |output: &&TxOut| {
            let mut shares = payee.shares.iter();
            output.script_pubkey != payee.payout
                && shares.any(|share| share.script == output.script_pubkey)
        };
        // The changes of the channels come first, and may go to anybody.
        let changes = tx
            .input
            .iter()
            .filter(|input| self.has_change(tx, input.previous_output));
        let outputs = tx.output.iter().skip(changes.count()).filter(shared);
        let part = |output: &TxOut| Part {
            script: ByteVec::from(output.script_pubkey.to_bytes()),
            sat: self.part_of(tx, of, output.value).map_or(0, Amount::to_sat),
        };
        outputs.map(part).filter(|part| part.sat > 0).collect()
    }
}

impl PayoutShare {
    /// In whole satoshi, rounded down.
    fn of(&self, net: Amount) -> Amount {
        let part = u128::from(net.to_sat()).saturating_mul(self.permille.into()) / WHOLE;
        Amount::from_sat(u64::try_from(part).unwrap_or_default())
    }

    fn least(&self) -> Amount {
        Amount::from_sat(LEAST).max(self.script.minimal_non_dust())
    }
}
