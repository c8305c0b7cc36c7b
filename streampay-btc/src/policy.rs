//! What each side wants of a channel, whatever the other asks.

use bitcoin::{Amount, FeeRate, ScriptBuf, Weight};

use crate::chain::FeeTable;
use crate::keys::PayeeBase;
use crate::params::{ChannelParams, DepthRule, ParamFields, ParamsError};
use crate::script::OutputType;
use crate::tx::fee_for;

/// The weight of a close of one Taproot channel. Spec: bitcoin 5.3.
const CLOSE_WEIGHT: Weight = Weight::from_wu(199 * 4);
/// What is left for an output once the reserve has paid a close at the rate it is made for.
const DUST: Amount = Amount::from_sat(330);

/// The payer's limits, and where its money comes home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayerPolicy {
    /// Where change and refunds go: P2PKH, P2SH, P2WPKH, P2WSH or P2TR.
    pub home: ScriptBuf,
    /// The most that the first payment may bring on top.
    pub reserve_max: Amount,
    /// The most blocks of margin that the payee may ask.
    pub margin_max: u32,
    /// The most confirmations that the payee may ask.
    pub depth_max: u32,
    /// The life of a channel in blocks: how long the payee may keep the money locked.
    pub life: u32,
    /// Set aside of the budget for the fee of the funding transaction.
    pub funding_fee_max: Amount,
    /// The most that one channel may hold.
    pub value_max: Amount,
}

impl PayerPolicy {
    /// The defaults, with `home` for change and refunds.
    #[must_use]
    pub const fn new(home: ScriptBuf) -> Self {
        Self {
            home,
            reserve_max: Amount::from_sat(20_000),
            margin_max: 72,
            depth_max: 6,
            life: 432,
            funding_fee_max: Amount::from_sat(10_000),
            value_max: Amount::from_sat(10_000_000),
        }
    }
}

/// The most shares: with as many outputs more a full batch has to leave out some channels.
pub const SHARES_MAX: usize = 16;

/// A part of what the payee earns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutShare {
    /// Where it goes: another script than the payout and any other share.
    pub script: ScriptBuf,
    /// How much, in thousandths of what the channels of a close bring, less its fee; all together below 1 000.
    pub permille: u16,
}

/// What the payee asks, and how it closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayeePolicy {
    /// Where its money goes.
    pub payout: ScriptBuf,
    /// Who gets a part of it in each close; the payout has the rest, and any part below 1 000 sat. With shares no
    /// mutual close is asked for, which has one output for the payee. At most [`SHARES_MAX`].
    pub shares: Vec<PayoutShare>,
    /// The least settle reserve: see [`PayeePolicy::reserve_at`].
    pub reserve: Amount,
    /// New terms ask for [`PayeePolicy::reserve_at`] the estimate for so many blocks in the newest view
    /// of the chain, where that is more than the least; 0 for the least alone. Spec: bitcoin 4.5.
    pub reserve_target: u32,
    /// Blocks before the expiry in which it takes no tick and closes.
    pub margin: u32,
    /// The least life of a channel when it is accepted, in blocks.
    pub life_min: u32,
    /// The most.
    pub life_max: u32,
    /// Depths by value, ascending.
    pub depths: Vec<DepthRule>,
    /// Takes unconfirmed fundings up to this; none while zero. Such money can be taken back until
    /// it confirms.
    pub zero_conf_max: Amount,
    /// Output types that it takes, best first.
    pub types: Vec<OutputType>,
    /// Blocks that a closed channel may wait for others to be closed with.
    pub batch_wait: u32,
    /// How long a payer may take to sign a mutual close, in milliseconds; 0 asks for none. Needs the
    /// feature `musig2`. Spec: bitcoin 5.7.
    pub mutual_ms: u64,
    /// The most that the [fee wallet](crate::machine::ChannelMachine::add_fee_coins) pays for one
    /// close, beyond what its channels may cost; zero uses no wallet. Spec: bitcoin 5.4.
    pub wallet_fee_max: Amount,
}

impl PayeePolicy {
    /// The defaults, with `payout` for what is earned and a reserve for closing at 2 sat/vB.
    #[must_use]
    pub fn new(payout: ScriptBuf) -> Self {
        let rate = FeeRate::from_sat_per_vb_u32(2);
        Self {
            payout,
            shares: Vec::new(),
            reserve: Self::reserve_at(rate),
            reserve_target: 6,
            margin: 36,
            life_min: 108,
            life_max: 2_016,
            depths: vec![
                DepthRule {
                    value_max: 100_000,
                    depth: 1,
                },
                DepthRule {
                    value_max: 1_000_000,
                    depth: 3,
                },
                DepthRule {
                    value_max: 10_000_000,
                    depth: 6,
                },
            ],
            zero_conf_max: Amount::ZERO,
            types: vec![OutputType::Taproot, OutputType::Wsh],
            batch_wait: 6,
            mutual_ms: 10_000,
            wallet_fee_max: Amount::ZERO,
        }
    }

    /// A reserve that makes every channel worth closing: one and a half times a close of one
    /// channel at `rate`, and an output's worth. Spec: bitcoin 4.5.
    #[must_use]
    pub fn reserve_at(rate: FeeRate) -> Amount {
        let fee = fee_for(CLOSE_WEIGHT, rate).unwrap_or(Amount::ONE_BTC);
        let half = Amount::from_sat(fee.to_sat().div_ceil(2));
        let sum = fee.checked_add(half).and_then(|sum| sum.checked_add(DUST));
        sum.unwrap_or(Amount::ONE_BTC)
    }

    /// The reserve to ask for where fees are such.
    pub(crate) fn reserve_now(&self, fees: &FeeTable) -> Amount {
        match self.reserve_target {
            0 => self.reserve,
            target => self.reserve.max(Self::reserve_at(fees.rate(target))),
        }
    }

    /// What stands in the terms.
    ///
    /// # Errors
    /// [`ParamsError`] where the policy is not one.
    pub fn params(
        &self,
        network: bitcoin::Network,
        payee: PayeeBase,
    ) -> Result<ChannelParams, ParamsError> {
        let mut depths = self.depths.clone();
        if self.zero_conf_max > Amount::ZERO {
            depths.retain(|rule| rule.value_max > self.zero_conf_max.to_sat());
            let rule = DepthRule {
                value_max: self.zero_conf_max.to_sat(),
                depth: 0,
            };
            depths.insert(0, rule);
        }
        ChannelParams::new(&ParamFields {
            network,
            payee,
            types: self.types.clone(),
            reserve: self.reserve,
            margin: self.margin,
            life_min: self.life_min,
            life_max: self.life_max,
            depths,
        })
    }
}
