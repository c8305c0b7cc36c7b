use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, TxOut};

use super::digest::Digest;
use crate::keys::tagged;
use crate::script::FundingOutput;

/// Why a channel cannot be as it is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// Only P2PKH, P2SH, P2WPKH, P2WSH and P2TR: what every node relays, at most 34 bytes.
    #[error("the change must go to a standard address")]
    ChangeScript,
    /// The value holds no reserve and no payment beside it.
    #[error("the channel's value is out of range")]
    Value,
}

/// A funded channel: everything that its transactions follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    network: Network,
    output: FundingOutput,
    outpoint: OutPoint,
    value: Amount,
    reserve: Amount,
    change: ScriptBuf,
    /// Of type 0.
    digest: Option<Digest>,
}

impl Contract {
    /// The channel in `outpoint` of `value`, whose change goes to `change`. `reserve` is what the
    /// first payment brings on top, for the payee's cost of closing.
    ///
    /// # Errors
    /// [`ContractError`] for the first thing wrong.
    pub fn new(
        network: Network,
        output: FundingOutput,
        outpoint: OutPoint,
        value: Amount,
        reserve: Amount,
        change: ScriptBuf,
    ) -> Result<Self, ContractError> {
        if !is_standard(&change) {
            return Err(ContractError::ChangeScript);
        }
        if value > Amount::MAX_MONEY || reserve >= value {
            return Err(ContractError::Value);
        }
        let mut contract = Self {
            network,
            output,
            outpoint,
            value,
            reserve,
            change,
            digest: None,
        };
        if let Some(leaf) = contract.output.leaf_hash() {
            let leaf = leaf.to_byte_array();
            contract.digest = Digest::new(outpoint, &contract.funding(), leaf);
        }
        Ok(contract)
    }

    pub(super) const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Which chain.
    #[must_use]
    pub const fn network(&self) -> Network {
        self.network
    }

    /// Who can spend it.
    #[must_use]
    pub const fn output(&self) -> &FundingOutput {
        &self.output
    }

    /// Where the money is.
    #[must_use]
    pub const fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// All that is in it.
    #[must_use]
    pub const fn value(&self) -> Amount {
        self.value
    }

    /// What every update pays the payee besides the ticks.
    #[must_use]
    pub const fn reserve(&self) -> Amount {
        self.reserve
    }

    /// Where the payer's rest goes.
    #[must_use]
    pub const fn change_script(&self) -> &ScriptBuf {
        &self.change
    }

    /// The least change that nodes relay. Source: Bitcoin Core, dust relay fee of 3 sat/vB.
    #[must_use]
    pub fn dust(&self) -> Amount {
        self.change.minimal_non_dust()
    }

    /// The output as the chain has it.
    #[must_use]
    pub fn funding(&self) -> TxOut {
        TxOut {
            value: self.value,
            script_pubkey: self.output.script_pubkey(),
        }
    }

    /// What ticks of `step` can come to: the most that is paid out without a change between
    /// nothing and dust at any tick. Spec: bitcoin 4.4.
    #[must_use]
    pub fn capacity(&self, step: Amount) -> Amount {
        capacity(self.value, self.reserve, self.dust(), step)
    }

    /// The channel's name: a tagged hash over all its fields. Spec: bitcoin 3.4.
    #[must_use]
    pub fn channel_id(&self) -> [u8; 32] {
        let chain = bitcoin::constants::ChainHash::using_genesis_block_const(self.network);
        let mut engine = tagged("streampay/btc/channel/v1");
        engine.input(chain.as_bytes());
        engine.input(&[self.output.output_type().code()]);
        engine.input(&self.output.payer().serialize());
        engine.input(&self.output.payee().serialize());
        engine.input(&self.output.expiry().to_be_bytes());
        engine.input(self.outpoint.txid.as_byte_array());
        engine.input(&self.outpoint.vout.to_be_bytes());
        engine.input(&self.value.to_sat().to_be_bytes());
        engine.input(&self.reserve.to_sat().to_be_bytes());
        engine.input(sha256::Hash::hash(self.change.as_bytes()).as_byte_array());
        sha256::Hash::from_engine(engine).to_byte_array()
    }
}

pub(crate) fn is_standard(script: &bitcoin::Script) -> bool {
    script.is_p2pkh()
        || script.is_p2sh()
        || script.is_p2wpkh()
        || script.is_p2wsh()
        || script.is_p2tr()
}

/// See [`Contract::capacity`].
pub(crate) fn capacity(value: Amount, reserve: Amount, dust: Amount, step: Amount) -> Amount {
    let (step, dust) = (step.to_sat(), dust.to_sat());
    let ticks = value.to_sat().saturating_sub(reserve.to_sat());
    let whole = ticks.checked_rem(step) == Some(0);
    if whole && step >= dust {
        return Amount::from_sat(ticks);
    }
    let steps = ticks.saturating_sub(dust).checked_div(step);
    Amount::from_sat(steps.unwrap_or_default().saturating_mul(step))
}
