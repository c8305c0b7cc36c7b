//! The payer's transaction: all of it back, after the expiry, alone.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction, TxOut, Witness, ecdsa, taproot};

use super::Contract;
use super::close::LOW_R_SIGNATURE;
use super::contract::is_standard;
use super::fee::{FeeOverflow, fee_for};
use crate::keys::{ChannelSecret, secp};
use crate::script::{OutputType, Signatures};

/// Why there is no such refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefundError {
    /// The key is not the payer's.
    #[error("the key is not the payer's")]
    Key,
    /// An output that nodes do not relay.
    #[error("the refund must go to a standard address")]
    Output,
    /// The fee leaves less than an output can hold.
    #[error("the refund costs {fee}, and there is {value}")]
    Uneconomic {
        /// What the channel holds.
        value: Amount,
        /// The fee at this rate.
        fee: Amount,
    },
    /// A fee out of range.
    #[error(transparent)]
    Fee(#[from] FeeOverflow),
}

/// The refund to `script` at `rate`, signed. `tip` is the height of the chain; a block above the
/// later of it and the expiry can hold the transaction. Spec: bitcoin 6.
///
/// # Errors
/// [`RefundError`].
pub fn refund_tx(
    contract: &Contract,
    secret: &ChannelSecret,
    script: &ScriptBuf,
    rate: FeeRate,
    tip: u32,
) -> Result<Transaction, RefundError> {
    let output = contract.output();
    if secret.public() != *output.payer() {
        return Err(RefundError::Key);
    }
    if !is_standard(script) {
        return Err(RefundError::Output);
    }
    let height = output.expiry().max(tip);
    let lock_time = LockTime::from_height(height)
        .or_else(|_| LockTime::from_height(output.expiry()))
        .map_err(|_| RefundError::Output)?;
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time,
        input: vec![contract.input()],
        output: vec![TxOut {
            value: contract.value(),
            script_pubkey: script.clone(),
        }],
    };
    let dummy = sign(contract, secret, &tx, true)?;
    for input in &mut tx.input {
        input.witness = dummy.clone();
    }
    let fee = fee_for(tx.weight(), rate)?;
    let value = contract.value();
    let left = value.checked_sub(fee).unwrap_or(Amount::ZERO);
    if left < script.minimal_non_dust() {
        return Err(RefundError::Uneconomic { value, fee });
    }
    for output in &mut tx.output {
        output.value = left;
    }
    let witness = sign(contract, secret, &tx, false)?;
    for input in &mut tx.input {
        input.witness = witness.clone();
    }
    Ok(tx)
}

/// The witness of the refund, or one of its size.
fn sign(
    contract: &Contract,
    secret: &ChannelSecret,
    tx: &Transaction,
    dummy: bool,
) -> Result<Witness, RefundError> {
    let output = contract.output();
    let mut cache = SighashCache::new(tx);
    let witness = match (output.output_type(), output.leaf_hash()) {
        (OutputType::Taproot, Some(leaf_hash)) => {
            let funding = [contract.funding()];
            let digest = cache
                .taproot_script_spend_signature_hash(
                    0,
                    &Prevouts::All(&funding),
                    leaf_hash,
                    TapSighashType::Default,
                )
                .map_err(|_| RefundError::Output)?;
            let digest = Message::from_digest(digest.to_byte_array());
            let signature = if dummy {
                schnorr::Signature::from_slice(&[0; 64]).map_err(|_| RefundError::Output)?
            } else {
                secp().sign_schnorr_no_aux_rand(&digest, secret.keypair())
            };
            let payer = &taproot::Signature {
                signature,
                sighash_type: TapSighashType::Default,
            };
            let payee = None;
            output.witness(Signatures::Taproot { payer, payee }, tx.lock_time)
        }
        _ => {
            let digest = cache
                .p2wsh_signature_hash(0, output.script(), contract.value(), EcdsaSighashType::All)
                .map_err(|_| RefundError::Output)?;
            let digest = Message::from_digest(digest.to_byte_array());
            let payer = &ecdsa::Signature {
                signature: secp().sign_ecdsa_low_r(&digest, &secret.keypair().secret_key()),
                sighash_type: EcdsaSighashType::All,
            };
            let payee = None;
            output.witness(Signatures::Wsh { payer, payee }, tx.lock_time)
        }
    };
    let witness = witness.ok_or(RefundError::Key)?;
    if !dummy || output.output_type() == OutputType::Taproot {
        return Ok(witness);
    }
    let mut stack: Vec<Vec<u8>> = witness.to_vec();
    if let Some(signature) = stack.first_mut() {
        *signature = vec![0; LOW_R_SIGNATURE];
    }
    Ok(Witness::from_slice(&stack))
}
