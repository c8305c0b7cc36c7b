//! The mint's keys, and what is signed: by it, and by the payee to sign a purse over.

use std::collections::BTreeMap;

use cdk::dhke::{blind_message, construct_proofs, sign_message};
use cdk::nuts::{BlindSignature, CurrencyUnit, Id, KeySet, Keys, Proof, PublicKey, SecretKey};
use cdk::secp256k1::schnorr::Signature;
use cdk::secp256k1::{Keypair, Message};
use cdk::secret::Secret;
use cdk::{Amount, SECP256K1};
use streampay_core::units::PurseKey;

use super::{Answered, Called, DENOMINATIONS, Hex, Int, KeysetFee, Mint, digest};
use crate::chain::{PurseKeys, Release};

impl Mint {
    pub(super) fn key(epoch: u8, amount: u64) -> Result<SecretKey, String> {
        let amount = u8::try_from(amount).map_err(|_| "a large amount")?;
        let byte = amount
            .saturating_add(100)
            .saturating_add(epoch.saturating_mul(20));
        SecretKey::from_slice(&[byte; 32]).map_err(|error| error.to_string())
    }

    pub(super) fn keyset_of(&self, epoch: u8) -> Result<KeySet, String> {
        let mut keys = BTreeMap::new();
        for amount in DENOMINATIONS {
            let key = Self::key(epoch, amount)?.public_key();
            keys.insert(Amount::from(amount), key);
        }
        let keys = Keys::new(keys);
        let unit = CurrencyUnit::Sat;
        Ok(KeySet {
            id: Id::v2_from_data(&keys, &unit, self.ppk, None),
            unit,
            active: Some(epoch == self.epoch),
            keys,
            input_fee_ppk: self.ppk,
            final_expiry: None,
        })
    }

    pub(super) fn keysets(&self) -> Vec<KeysetFee> {
        let all = (0..=self.epoch).rev();
        let all = all.filter_map(|epoch| self.keyset_of(epoch).ok());
        all.map(|set| KeysetFee {
            id: Hex(set.id.to_bytes()),
            ppk: Int(set.input_fee_ppk),
            active: set.active.unwrap_or_default(),
        })
        .collect()
    }

    pub(super) fn active_id(&self) -> Result<Hex, String> {
        let set = self.keyset_of(self.epoch)?;
        Ok(Hex(set.id.to_bytes()))
    }

    /// The mint's signature on an output, as its wallet makes a proof of it.
    pub(super) fn signed(
        &self,
        keyset: &Hex,
        amount: u64,
        secret: Secret,
        r: SecretKey,
    ) -> Result<Proof, String> {
        let epochs = (0..=self.epoch).map(|epoch| (epoch, self.keyset_of(epoch)));
        let mut sets = epochs.filter_map(|(epoch, set)| Some((epoch, set.ok()?)));
        let (epoch, set) = sets
            .find(|(_, set)| set.id.to_bytes() == keyset.0)
            .ok_or("no such keyset")?;
        let key = Self::key(epoch, amount)?;
        let say = |error: &dyn core::fmt::Display| error.to_string();
        let (blinded, r) = blind_message(secret.as_bytes(), Some(r)).map_err(|e| say(&e))?;
        let c = sign_message(&key, &blinded).map_err(|e| say(&e))?;
        let signature = BlindSignature::new(Amount::from(amount), c, set.id, &blinded, &key);
        let signature = signature.map_err(|e| say(&e))?;
        let proofs = construct_proofs(vec![signature], vec![r], vec![secret], &set.keys);
        proofs
            .map_err(|e| say(&e))?
            .pop()
            .ok_or_else(|| "no proof".into())
    }

    /// Signs without randomness, so that a transcript stays as it is. BIP 340 with 32 zero bytes.
    pub(super) fn sign(
        &self,
        purse: PurseKey,
        (from, known): (u64, Option<Int>),
        secrets: &[String],
    ) -> Answered {
        let keys = PurseKeys {
            payer: self.keys.payer,
            payee: self.keys.payee,
            purse,
        };
        let key = self.keys.root.of_purse(&keys).ok_or("no such key")?;
        let pair = Keypair::from_seckey_slice(&SECP256K1, &key.to_secret_bytes());
        let pair = pair.map_err(|error| error.to_string())?;
        let signed = secrets.iter().flat_map(|secret| {
            let message = Message::from_digest(digest(secret));
            let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &pair);
            signature.serialize()
        });
        let release = Release::of_signatures(purse, from, signed.collect());
        let release = release.asking(known.map(|known| known.0));
        Ok(Called::Signed {
            release: Hex(release.encode()),
        })
    }
}

pub(super) fn check_release(release: &Hex, receiver: &Hex, secrets: &[String]) -> Answered {
    let key = PublicKey::from_slice(&receiver.0).map_err(|error| error.to_string())?;
    let length = secrets.len().saturating_mul(64);
    let from = release.0.len().saturating_sub(length);
    let signatures = release
        .0
        .get(from..)
        .unwrap_or_default()
        .as_chunks::<64>()
        .0;
    for (secret, signature) in secrets.iter().zip(signatures) {
        let signature = Signature::from_slice(signature).map_err(|error| error.to_string())?;
        let verified = key.verify(secret.as_bytes(), &signature);
        verified.map_err(|error| error.to_string())?;
    }
    Ok(Called::Good {})
}
