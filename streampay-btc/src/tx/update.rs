//! What the payer signs at every tick: its own change alone.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, ecdsa as secp_ecdsa, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{Amount, ScriptBuf, Transaction, TxIn, TxOut, Witness, ecdsa, taproot};

use super::{Contract, SEQUENCE, TRUC};
use crate::keys::{ChannelSecret, secp};
use crate::script::OutputType;

/// Why an update is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// More than the channel holds.
    #[error("the channel holds less than that")]
    OverCapacity,
    /// Less than the settle reserve and a payment.
    #[error("the amount does not cover the settle reserve")]
    UnderReserve,
    /// What would be left is too little for an output.
    #[error("the change would be dust")]
    ChangeIsDust,
    /// Not the bytes of a signature of this output type.
    #[error("the signature does not decode")]
    Malformed,
    /// Another sighash type than this amount asks for.
    #[error("the signature has another sighash type")]
    SighashType,
    /// It is not the payer's signature over this update.
    #[error("the signature does not verify")]
    Signature,
}

/// A payer's signature over its change, as it will stand in the witness: with its sighash type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateSignature {
    /// 64 bytes and the type. Source: BIP 341.
    Taproot(taproot::Signature),
    /// DER and the type. Source: BIP 66.
    Wsh(ecdsa::Signature),
}

impl UpdateSignature {
    /// The bytes of the witness element.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Taproot(signature) => signature.to_vec(),
            Self::Wsh(signature) => signature.to_vec(),
        }
    }

    pub(crate) fn read(kind: OutputType, bytes: &[u8]) -> Result<Self, Refusal> {
        let (&flag, body) = bytes.split_last().ok_or(Refusal::Malformed)?;
        match kind {
            OutputType::Taproot => {
                let signature =
                    schnorr::Signature::from_slice(body).map_err(|_| Refusal::Malformed)?;
                let sighash_type =
                    TapSighashType::from_consensus_u8(flag).map_err(|_| Refusal::SighashType)?;
                Ok(Self::Taproot(taproot::Signature {
                    signature,
                    sighash_type,
                }))
            }
            OutputType::Wsh => {
                let signature =
                    secp_ecdsa::Signature::from_der(body).map_err(|_| Refusal::Malformed)?;
                // One encoding of one signature.
                if signature.serialize_der()[..] != *body {
                    return Err(Refusal::Malformed);
                }
                let sighash_type = EcdsaSighashType::from_standard(u32::from(flag))
                    .map_err(|_| Refusal::SighashType)?;
                Ok(Self::Wsh(ecdsa::Signature {
                    signature,
                    sighash_type,
                }))
            }
        }
    }
}

impl Contract {
    /// What is left for the payer where `paid` goes to the payee: nothing, or more than dust.
    ///
    /// # Errors
    /// [`Refusal::OverCapacity`], [`Refusal::UnderReserve`], [`Refusal::ChangeIsDust`].
    pub fn change(&self, paid: Amount) -> Result<Option<Amount>, Refusal> {
        if paid <= self.reserve() {
            return Err(Refusal::UnderReserve);
        }
        let change = self
            .value()
            .checked_sub(paid)
            .ok_or(Refusal::OverCapacity)?;
        if change == Amount::ZERO {
            Ok(None)
        } else if change < self.dust() {
            Err(Refusal::ChangeIsDust)
        } else {
            Ok(Some(change))
        }
    }

    /// The template that the payer signs: one input, its change or nothing. Never broadcast.
    ///
    /// # Errors
    /// As [`Contract::change`].
    pub fn update_tx(&self, paid: Amount) -> Result<Transaction, Refusal> {
        Ok(self.update_leaving(self.change(paid)?))
    }

    fn update_leaving(&self, change: Option<Amount>) -> Transaction {
        Transaction {
            version: TRUC,
            lock_time: LockTime::ZERO,
            input: vec![self.input()],
            output: self.output_of(change).into_iter().collect(),
        }
    }

    /// The digest that the payer signs: `SINGLE|ANYONECANPAY`, or `NONE|ANYONECANPAY` where
    /// nothing is left. Spec: bitcoin 4.2.
    ///
    /// # Errors
    /// As [`Contract::change`].
    pub fn update_sighash(&self, paid: Amount) -> Result<[u8; 32], Refusal> {
        let change = self.change(paid)?;
        self.sighash_leaving(change)
    }

    fn sighash_leaving(&self, change: Option<Amount>) -> Result<[u8; 32], Refusal> {
        let known = self.digest().zip(change);
        known
            .and_then(|(digest, change)| digest.of(change, self.change_script()))
            .map_or_else(|| self.sighash_of(&self.update_leaving(change)), Ok)
    }

    /// The digest of input 0 of this update.
    pub(super) fn sighash_of(&self, update: &Transaction) -> Result<[u8; 32], Refusal> {
        let single = !update.output.is_empty();
        let mut cache = SighashCache::new(update);
        let digest = match self.output().leaf_hash() {
            Some(leaf_hash) => cache
                .taproot_script_spend_signature_hash(
                    0,
                    &Prevouts::One(0, self.funding()),
                    leaf_hash,
                    tap_type(single),
                )
                .map_err(|_| Refusal::Malformed)?
                .to_byte_array(),
            None => cache
                .p2wsh_signature_hash(0, self.output().script(), self.value(), ecdsa_type(single))
                .map_err(|_| Refusal::Malformed)?
                .to_byte_array(),
        };
        Ok(digest)
    }

    /// The payer's signature for `paid` in all, settle reserve included. The same every time.
    ///
    /// # Errors
    /// As [`Contract::change`]; [`Refusal::Signature`] where `secret` is not the payer's.
    pub fn sign_update(
        &self,
        secret: &ChannelSecret,
        paid: Amount,
    ) -> Result<UpdateSignature, Refusal> {
        if secret.public() != *self.output().payer() {
            return Err(Refusal::Signature);
        }
        let change = self.change(paid)?;
        let single = change.is_some();
        let digest = Message::from_digest(self.sighash_leaving(change)?);
        Ok(match self.output().output_type() {
            OutputType::Taproot => UpdateSignature::Taproot(taproot::Signature {
                signature: secp().sign_schnorr_no_aux_rand(&digest, secret.keypair()),
                sighash_type: tap_type(single),
            }),
            OutputType::Wsh => UpdateSignature::Wsh(ecdsa::Signature {
                signature: secp().sign_ecdsa_low_r(&digest, &secret.keypair().secret_key()),
                sighash_type: ecdsa_type(single),
            }),
        })
    }

    /// Checks a payer's signature for `paid` in all, settle reserve included.
    ///
    /// # Errors
    /// [`Refusal`]: the first thing wrong with it.
    pub fn verify_update(&self, bytes: &[u8], paid: Amount) -> Result<UpdateSignature, Refusal> {
        let change = self.change(paid)?;
        let single = change.is_some();
        let signature = UpdateSignature::read(self.output().output_type(), bytes)?;
        let digest = Message::from_digest(self.sighash_leaving(change)?);
        let payer = self.output().payer();
        let verified = match &signature {
            UpdateSignature::Taproot(signature) => {
                if signature.sighash_type != tap_type(single) {
                    return Err(Refusal::SighashType);
                }
                let payer = payer.x_only_public_key().0;
                secp().verify_schnorr(&signature.signature, &digest, &payer)
            }
            UpdateSignature::Wsh(signature) => {
                if signature.sighash_type != ecdsa_type(single) {
                    return Err(Refusal::SighashType);
                }
                secp().verify_ecdsa(&digest, &signature.signature, payer)
            }
        };
        verified.map_err(|_| Refusal::Signature)?;
        Ok(signature)
    }

    pub(crate) fn input(&self) -> TxIn {
        TxIn {
            previous_output: self.outpoint(),
            script_sig: ScriptBuf::new(),
            sequence: SEQUENCE,
            witness: Witness::new(),
        }
    }

    pub(crate) fn change_output(&self, paid: Amount) -> Result<Option<TxOut>, Refusal> {
        Ok(self.output_of(self.change(paid)?))
    }

    fn output_of(&self, change: Option<Amount>) -> Option<TxOut> {
        change.map(|value| TxOut {
            value,
            script_pubkey: self.change_script().clone(),
        })
    }
}

const fn tap_type(single: bool) -> TapSighashType {
    if single {
        TapSighashType::SinglePlusAnyoneCanPay
    } else {
        TapSighashType::NonePlusAnyoneCanPay
    }
}

const fn ecdsa_type(single: bool) -> EcdsaSighashType {
    if single {
        EcdsaSighashType::SinglePlusAnyoneCanPay
    } else {
        EcdsaSighashType::NonePlusAnyoneCanPay
    }
}
