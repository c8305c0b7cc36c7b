//! The payee's transaction: many channels at once, its own outputs, its own fee, signed last.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{Message, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Weight, Witness, ecdsa, taproot,
};

use super::contract::is_standard;
use super::fee::{FeeOverflow, fee_for};
use super::{Contract, Refusal, SEQUENCE, TRUC, UpdateSignature};
use crate::keys::{ChannelSecret, secp};
use crate::script::Signatures;

/// The most channels of one close: with one more it could be above [`WEIGHT_MAX`].
pub const CLOSE_INPUTS_MAX: usize = 68;

/// The heaviest close, 10 000 virtual bytes. Source: BIP 431.
pub const WEIGHT_MAX: Weight = Weight::from_wu(40_000);

/// One channel of a close: the payer's best update, and the payee's key.
#[derive(Clone, Copy, Debug)]
pub struct CloseInput<'a> {
    /// The channel.
    pub contract: &'a Contract,
    /// What the update pays, settle reserve included.
    pub paid: Amount,
    /// The payer's signature for it.
    pub signature: &'a UpdateSignature,
    /// The payee's key.
    pub secret: &'a ChannelSecret,
}

/// A coin of the payee's own that helps to pay the fee: a confirmed P2TR output of `secret`'s key
/// without scripts. Source: BIP 86.
#[derive(Clone, Copy, Debug)]
pub struct FeeCoin<'a> {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is worth.
    pub value: Amount,
    /// Whose it is.
    pub secret: &'a ChannelSecret,
}

/// What a close is to be.
#[derive(Clone, Debug)]
pub struct ClosePlan<'a> {
    /// 1 to [`CLOSE_INPUTS_MAX`] channels.
    pub channels: &'a [CloseInput<'a>],
    /// Coins that help with the fee.
    pub coins: &'a [FeeCoin<'a>],
    /// Where the payee's money goes.
    pub payout: &'a ScriptBuf,
    /// Outputs of the payee's own choice besides, in whole: shares, reserves given back.
    pub extra: &'a [TxOut],
    /// The fee a virtual byte.
    pub rate: FeeRate,
}

/// Why there is no such close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// No channel, or more than [`CLOSE_INPUTS_MAX`]; no coin to send.
    #[error("a close takes 1 to 68 channels, and a sweep at least one coin")]
    Count,
    /// An update does not fit its channel.
    #[error(transparent)]
    Update(#[from] Refusal),
    /// A key is not that of its channel, or the same channel is there twice.
    #[error("a channel's key or outpoint does not fit")]
    Channel,
    /// An output that nodes do not relay.
    #[error("an output is not standard")]
    Output,
    /// Heavier than [`WEIGHT_MAX`].
    #[error("the close is too heavy")]
    Weight,
    /// The fee leaves the payee less than an output can hold.
    #[error("closing costs {fee}, and there is {claim}")]
    Uneconomic {
        /// What the channels and coins bring.
        claim: Amount,
        /// What the fee and the other outputs take.
        fee: Amount,
    },
    /// A fee out of range.
    #[error(transparent)]
    Fee(#[from] FeeOverflow),
}

/// The transaction that closes the channels, signed and ready to broadcast. Inputs that have a
/// change come first, each at the index of its change; then those that are fully spent; then the
/// coins. Spec: bitcoin 5.
///
/// # Errors
/// [`CloseError`].
pub fn close_tx(plan: &ClosePlan<'_>) -> Result<Transaction, CloseError> {
    if plan.channels.is_empty() || plan.channels.len() > CLOSE_INPUTS_MAX {
        return Err(CloseError::Count);
    }
    signed(plan)
}

/// The transaction that sends all of these coins, less its fee, to `payout`.
///
/// # Errors
/// [`CloseError`]: no coin, or they are worth less than that costs.
pub fn sweep_tx(
    coins: &[FeeCoin<'_>],
    payout: &ScriptBuf,
    rate: FeeRate,
) -> Result<Transaction, CloseError> {
    if coins.is_empty() {
        return Err(CloseError::Count);
    }
    signed(&ClosePlan {
        channels: &[],
        coins,
        payout,
        extra: &[],
        rate,
    })
}

fn signed(plan: &ClosePlan<'_>) -> Result<Transaction, CloseError> {
    let mut draft = Draft::new(plan)?;
    let fee = fee_for(draft.dummy_weight()?, plan.rate)?;
    draft.pay_out(fee)?;
    draft.sign()?;
    if draft.tx.weight() > WEIGHT_MAX {
        return Err(CloseError::Weight);
    }
    Ok(draft.tx)
}

struct Draft<'a> {
    plan: &'a ClosePlan<'a>,
    /// The channels in the order of their inputs.
    channels: Vec<CloseInput<'a>>,
    prevouts: Vec<TxOut>,
    tx: Transaction,
    /// The index of the payee's output.
    payout: usize,
}

impl<'a> Draft<'a> {
    fn new(plan: &'a ClosePlan<'a>) -> Result<Self, CloseError> {
        let mut channels = plan.channels.to_vec();
        let mut output = Vec::new();
        let spent = |channel: &CloseInput<'_>| channel.contract.value() == channel.paid;
        // Stable: the caller's order within both kinds.
        channels.sort_by_key(spent);
        for channel in &channels {
            if channel.secret.public() != *channel.contract.output().payee() {
                return Err(CloseError::Channel);
            }
            output.extend(channel.contract.change_output(channel.paid)?);
        }
        let payout = output.len();
        output.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: plan.payout.clone(),
        });
        output.extend(plan.extra.iter().cloned());
        let mut outpoints: Vec<OutPoint> =
            (channels.iter().map(|channel| channel.contract.outpoint()))
                .chain(plan.coins.iter().map(|coin| coin.outpoint))
                .collect();
        let input = outpoints.iter().map(|outpoint| input(*outpoint)).collect();
        outpoints.sort_unstable();
        if outpoints.windows(2).any(|pair| pair.first() == pair.get(1)) {
            return Err(CloseError::Channel);
        }
        let standard = |out: &TxOut| {
            is_standard(&out.script_pubkey) && out.value >= out.script_pubkey.minimal_non_dust()
        };
        if !is_standard(plan.payout) || !plan.extra.iter().all(standard) {
            return Err(CloseError::Output);
        }
        let prevouts = (channels.iter().map(|channel| channel.contract.funding()))
            .chain(plan.coins.iter().map(coin_output))
            .collect();
        let tx = Transaction {
            version: TRUC,
            lock_time: LockTime::ZERO,
            input,
            output,
        };
        Ok(Self {
            plan,
            channels,
            prevouts,
            tx,
            payout,
        })
    }

    /// The weight once signed; for P2WSH with the payee's signature as long as it can be.
    fn dummy_weight(&self) -> Result<Weight, CloseError> {
        let mut dummy = self.tx.clone();
        for (input, channel) in dummy.input.iter_mut().zip(&self.channels) {
            input.witness = dummy_witness(channel).ok_or(CloseError::Channel)?;
        }
        for input in dummy.input.iter_mut().skip(self.channels.len()) {
            input.witness = Witness::from_slice(&[[0; 64]]);
        }
        Ok(dummy.weight())
    }

    /// What is left after the fee is the payee's.
    fn pay_out(&mut self, fee: Amount) -> Result<(), CloseError> {
        let channels = self.channels.iter().map(|channel| channel.paid);
        let claim = sum(channels.chain(self.plan.coins.iter().map(|coin| coin.value)));
        let extra = self.plan.extra.iter().map(|output| output.value);
        let costs = sum(extra.chain(core::iter::once(fee)));
        let (claim, costs) = claim.zip(costs).ok_or(FeeOverflow)?;
        let left = claim.checked_sub(costs).unwrap_or(Amount::ZERO);
        if left < self.plan.payout.minimal_non_dust() {
            return Err(CloseError::Uneconomic { claim, fee: costs });
        }
        if let Some(output) = self.tx.output.get_mut(self.payout) {
            output.value = left;
        }
        Ok(())
    }

    fn sign(&mut self) -> Result<(), CloseError> {
        let mut witnesses = Vec::with_capacity(self.tx.input.len());
        let mut cache = SighashCache::new(&self.tx);
        let prevouts = Prevouts::All(&self.prevouts);
        for (index, channel) in self.channels.iter().enumerate() {
            witnesses.push(sign_channel(&mut cache, &prevouts, index, channel)?);
        }
        for (at, coin) in self.plan.coins.iter().enumerate() {
            let index = self.channels.len().saturating_add(at);
            let digest = cache
                .taproot_key_spend_signature_hash(index, &prevouts, TapSighashType::Default)
                .map_err(|_| CloseError::Channel)?;
            let pair = coin.secret.keypair().tap_tweak(secp(), None).to_keypair();
            let digest = Message::from_digest(digest.to_byte_array());
            let signature = secp().sign_schnorr_no_aux_rand(&digest, &pair);
            witnesses.push(Witness::from_slice(&[signature.serialize()]));
        }
        for (input, witness) in self.tx.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        Ok(())
    }
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Option<Amount> {
    amounts.try_fold(Amount::ZERO, Amount::checked_add)
}

fn sign_channel(
    cache: &mut SighashCache<&Transaction>,
    prevouts: &Prevouts<'_, TxOut>,
    index: usize,
    channel: &CloseInput<'_>,
) -> Result<Witness, CloseError> {
    let output = channel.contract.output();
    let witness = match channel.signature {
        UpdateSignature::Taproot(payer) => {
            let leaf_hash = output.leaf_hash().ok_or(CloseError::Channel)?;
            let digest = cache
                .taproot_script_spend_signature_hash(
                    index,
                    prevouts,
                    leaf_hash,
                    TapSighashType::Default,
                )
                .map_err(|_| CloseError::Channel)?;
            let digest = Message::from_digest(digest.to_byte_array());
            let payee = taproot::Signature {
                signature: secp().sign_schnorr_no_aux_rand(&digest, channel.secret.keypair()),
                sighash_type: TapSighashType::Default,
            };
            let payee = Some(&payee);
            output.witness(Signatures::Taproot { payer, payee }, LockTime::ZERO)
        }
        UpdateSignature::Wsh(payer) => {
            let value = channel.contract.value();
            let digest = cache
                .p2wsh_signature_hash(index, output.script(), value, EcdsaSighashType::All)
                .map_err(|_| CloseError::Channel)?;
            let digest = Message::from_digest(digest.to_byte_array());
            let secret = channel.secret.keypair().secret_key();
            let payee = ecdsa::Signature {
                signature: secp().sign_ecdsa_low_r(&digest, &secret),
                sighash_type: EcdsaSighashType::All,
            };
            let payee = Some(&payee);
            output.witness(Signatures::Wsh { payer, payee }, LockTime::ZERO)
        }
    };
    witness.ok_or(CloseError::Channel)
}

/// A witness of the right size.
fn dummy_witness(channel: &CloseInput<'_>) -> Option<Witness> {
    let output = channel.contract.output();
    match channel.signature {
        UpdateSignature::Taproot(payer) => {
            let payee = taproot::Signature {
                signature: schnorr::Signature::from_slice(&[0; 64]).ok()?,
                sighash_type: TapSighashType::Default,
            };
            let payee = Some(&payee);
            output.witness(Signatures::Taproot { payer, payee }, LockTime::ZERO)
        }
        // The payee grinds for a low R: its signature is never longer than the longest such.
        UpdateSignature::Wsh(payer) => {
            let payee = Some(payer);
            let mut witness = output.witness(Signatures::Wsh { payer, payee }, LockTime::ZERO)?;
            let stack: Vec<Vec<u8>> = witness
                .iter()
                .enumerate()
                .map(|(at, item)| match at {
                    1 => vec![0; LOW_R_SIGNATURE],
                    _ => item.to_vec(),
                })
                .collect();
            witness = Witness::from_slice(&stack);
            Some(witness)
        }
    }
}

/// DER with a low R and a low S, and the sighash type.
pub(super) const LOW_R_SIGNATURE: usize = 71;

fn input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: SEQUENCE,
        witness: Witness::new(),
    }
}

fn coin_output(coin: &FeeCoin<'_>) -> TxOut {
    let key = coin.secret.public().x_only_public_key().0;
    TxOut {
        value: coin.value,
        script_pubkey: ScriptBuf::new_p2tr(secp(), key, None),
    }
}
