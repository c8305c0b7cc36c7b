//! Whether the payer has signed what is said to spend its channel: whoever shows a chain can make up a
//! transaction, and no signature. The payee's is not looked at: in a close of several channels it covers
//! outputs that the payer does not know, and a payee that signs can have it mined.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, XOnlyPublicKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{Amount, Transaction, TxOut, ecdsa, taproot};

use super::Contract;
use crate::keys::secp;
use crate::script::OutputType;

/// The sighash type of an update with change, and of one without.
const SINGLE: u8 = 0x83;
const NONE: u8 = 0x82;

impl Contract {
    /// True where a signature of the payer's stands in its input there: under an update of at most
    /// `signed`, a refund or a close by the key path.
    pub(crate) fn is_signed_in(&self, tx: &Transaction, signed: Amount) -> bool {
        let mut inputs = tx.input.iter();
        let own = |input: &bitcoin::TxIn| input.previous_output == self.outpoint();
        let Some(index) = inputs.position(own) else {
            return false;
        };
        let Some(input) = tx.input.get(index) else {
            return false;
        };
        let Some(signature) = input.witness.nth(0) else {
            return false;
        };
        let taproot = self.output().output_type() == OutputType::Taproot;
        match (signature.last(), input.witness.len()) {
            (_, 1) => taproot && self.is_key_spend(tx, signature),
            (Some(&SINGLE), _) if is_update(tx) => {
                let change = tx.output.get(index);
                change.is_some_and(|change| self.is_update(signature, change, signed))
            }
            (Some(&NONE), _) if is_update(tx) => {
                self.value() <= signed && self.verify_update(signature, self.value()).is_ok()
            }
            _ if taproot => self.is_leaf_spend(tx, signature),
            _ => self.is_wsh_spend(tx, index, signature),
        }
    }

    fn is_update(&self, signature: &[u8], change: &TxOut, signed: Amount) -> bool {
        let paid = self.value().checked_sub(change.value);
        change.script_pubkey == *self.change_script()
            && paid
                .is_some_and(|paid| paid <= signed && self.verify_update(signature, paid).is_ok())
    }

    /// Of this channel alone: what else goes in is signed as well, and not known.
    fn is_key_spend(&self, tx: &Transaction, signature: &[u8]) -> bool {
        let script = self.output().script_pubkey();
        let key = script.as_bytes().get(2..).map(XOnlyPublicKey::from_slice);
        let (Some(Ok(key)), Ok(signature)) = (key, taproot::Signature::from_slice(signature))
        else {
            return false;
        };
        let funding = [self.funding()];
        let digest = SighashCache::new(tx).taproot_key_spend_signature_hash(
            0,
            &Prevouts::All(&funding),
            signature.sighash_type,
        );
        tx.input.len() == 1
            && signature.sighash_type == TapSighashType::Default
            && digest.is_ok_and(|digest| {
                let digest = Message::from_digest(digest.to_byte_array());
                let signature = &signature.signature;
                secp().verify_schnorr(signature, &digest, &key).is_ok()
            })
    }

    fn is_leaf_spend(&self, tx: &Transaction, signature: &[u8]) -> bool {
        let Ok(signature) = taproot::Signature::from_slice(signature) else {
            return false;
        };
        let Some(leaf) = self.output().leaf_hash() else {
            return false;
        };
        let whole = [TapSighashType::Default, TapSighashType::All];
        let funding = [self.funding()];
        let digest = SighashCache::new(tx).taproot_script_spend_signature_hash(
            0,
            &Prevouts::All(&funding),
            leaf,
            signature.sighash_type,
        );
        let key = self.output().payer().x_only_public_key().0;
        tx.input.len() == 1
            && whole.contains(&signature.sighash_type)
            && digest.is_ok_and(|digest| {
                let digest = Message::from_digest(digest.to_byte_array());
                let signature = &signature.signature;
                secp().verify_schnorr(signature, &digest, &key).is_ok()
            })
    }

    fn is_wsh_spend(&self, tx: &Transaction, index: usize, signature: &[u8]) -> bool {
        let Ok(signature) = ecdsa::Signature::from_slice(signature) else {
            return false;
        };
        let digest = SighashCache::new(tx).p2wsh_signature_hash(
            index,
            self.output().script(),
            self.value(),
            signature.sighash_type,
        );
        signature.sighash_type == EcdsaSighashType::All
            && digest.is_ok_and(|digest| {
                let digest = Message::from_digest(digest.to_byte_array());
                let payer = self.output().payer();
                let signature = &signature.signature;
                secp().verify_ecdsa(&digest, signature, payer).is_ok()
            })
    }
}

/// As the one that the payer signs: any other version or lock time makes the signature false.
fn is_update(tx: &Transaction) -> bool {
    tx.version == super::TRUC && tx.lock_time == bitcoin::absolute::LockTime::ZERO
}
