//! Closing together by the key path: one signature for both, and what is left of the reserve comes
//! back. Source: BIP 327. Spec: bitcoin 5.6.
//!
//! Only the payer sends a partial signature: whoever holds both can broadcast, and the payee never
//! lets the other part out of its hands. Secret nonces are in memory alone and used up by value.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, PublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::TapTweakHash;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, Witness};
use secp256k1_musig::musig::{
    AggregatedNonce, KeyAggCache, PartialSignature, PublicNonce, SecretNonce, Session,
    SessionSecretRand,
};
use secp256k1_musig::{Keypair, Scalar};
use streampay_core::session::Entropy;

use super::contract::is_standard;
use super::{Contract, Refusal, SEQUENCE, TRUC};
use crate::keys::{ChannelSecret, key_sort, secp};

/// What both sides sign: everything else follows from the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutualTerms {
    /// What the best update pays, settle reserve included.
    pub paid: Amount,
    /// Where the payee's money goes.
    pub payout: ScriptBuf,
    /// The fee. It comes out of the settle reserve; what it takes beyond that is the payee's.
    pub fee: Amount,
}

/// Why there is no mutual close. The close with both signatures stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MutualError {
    /// A channel without a key path.
    #[error("the channel's output has no key path")]
    NoKeyPath,
    /// The amount does not fit the channel.
    #[error(transparent)]
    Update(#[from] Refusal),
    /// The payee's output would be too small, or not standard.
    #[error("the payee's output is not one that is relayed")]
    Output,
    /// A key is not that of its side.
    #[error("the key is not that of this side")]
    Key,
    /// Not a nonce, or not a partial signature, of the other side's for this transaction.
    #[error("the other side's part does not fit")]
    Part,
}

/// What the payer sends: its nonce, and its part of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayerPart {
    /// 66 bytes. Source: BIP 327.
    pub nonce: [u8; 66],
    /// 32 bytes. Source: BIP 327.
    pub partial: [u8; 32],
}

/// A payee's mutual close that waits for the payer's part. Dropping it ends the attempt; another
/// one needs other entropy.
pub struct MutualClose {
    shared: Shared,
    secret: Keypair,
    nonce: SecretNonce,
    public_nonce: PublicNonce,
}

struct Shared {
    tx: Transaction,
    digest: [u8; 32],
    cache: KeyAggCache,
    contract: Contract,
}

impl Contract {
    /// The transaction that closes the channel by the key path, unsigned. Both sides compute it.
    ///
    /// # Errors
    /// [`MutualError`] where there is none.
    pub fn mutual_tx(&self, terms: &MutualTerms) -> Result<Transaction, MutualError> {
        let change = self.change(terms.paid)?.unwrap_or(Amount::ZERO);
        let unused = self.reserve().checked_sub(terms.fee);
        let beyond = terms.fee.checked_sub(self.reserve());
        let change = change
            .checked_add(unused.unwrap_or(Amount::ZERO))
            .ok_or(MutualError::Output)?;
        let due = terms
            .paid
            .checked_sub(self.reserve())
            .and_then(|due| due.checked_sub(beyond.unwrap_or(Amount::ZERO)))
            .filter(|due| *due >= terms.payout.minimal_non_dust())
            .ok_or(MutualError::Output)?;
        if !is_standard(&terms.payout) {
            return Err(MutualError::Output);
        }
        let mut output = Vec::with_capacity(2);
        // Less than an output can hold goes to the fee.
        if change >= self.dust() {
            output.push(TxOut {
                value: change,
                script_pubkey: self.change_script().clone(),
            });
        }
        output.push(TxOut {
            value: due,
            script_pubkey: terms.payout.clone(),
        });
        Ok(Transaction {
            version: TRUC,
            lock_time: LockTime::ZERO,
            input: vec![bitcoin::TxIn {
                sequence: SEQUENCE,
                ..self.input()
            }],
            output,
        })
    }
}

impl Shared {
    fn new(contract: &Contract, terms: &MutualTerms) -> Result<Self, MutualError> {
        let output = contract.output();
        let (Some(internal), Some(root)) = (output.internal_key(), output.merkle_root()) else {
            return Err(MutualError::NoKeyPath);
        };
        let tx = contract.mutual_tx(terms)?;
        let funding = [contract.funding()];
        let digest = SighashCache::new(&tx)
            .taproot_key_spend_signature_hash(0, &Prevouts::All(&funding), TapSighashType::Default)
            .map_err(|_| MutualError::Output)?
            .to_byte_array();
        let keys = key_sort(vec![*output.payer(), *output.payee()]);
        let keys: Result<Vec<_>, _> = keys.iter().map(crossed).collect();
        let keys = keys?;
        let mut cache = KeyAggCache::new(&keys.iter().collect::<Vec<_>>());
        let tweak = TapTweakHash::from_key_and_tweak(internal, Some(root));
        let tweak =
            Scalar::from_be_bytes(tweak.to_byte_array()).map_err(|_| MutualError::NoKeyPath)?;
        cache
            .pubkey_xonly_tweak_add(&tweak)
            .map_err(|_| MutualError::NoKeyPath)?;
        Ok(Self {
            tx,
            digest,
            cache,
            contract: contract.clone(),
        })
    }

    fn nonce(
        &self,
        secret: &ChannelSecret,
        entropy: &Entropy,
    ) -> Result<(SecretNonce, PublicNonce), MutualError> {
        let random = entropy.derive("streampay/btc/mutual/nonce");
        let extra = entropy.derive("streampay/btc/mutual/extra");
        Ok(self.cache.nonce_gen_with_uniform_randomness(
            SessionSecretRand::assume_uniformly_random(random),
            crossed(&secret.public())?,
            &self.digest,
            extra,
        ))
    }

    fn session(&self, payer: &PublicNonce, payee: &PublicNonce) -> Session {
        let all = AggregatedNonce::new(&[payer, payee]);
        Session::new(&self.cache, all, &self.digest)
    }
}

impl MutualClose {
    /// Begins, on the payee's side. `entropy` is fresh: the same a second time, for whatever,
    /// gives away the key.
    ///
    /// # Errors
    /// [`MutualError`].
    pub fn begin(
        contract: &Contract,
        secret: &ChannelSecret,
        terms: &MutualTerms,
        entropy: Entropy,
    ) -> Result<Self, MutualError> {
        if secret.public() != *contract.output().payee() {
            return Err(MutualError::Key);
        }
        let shared = Shared::new(contract, terms)?;
        let (nonce, public_nonce) = shared.nonce(secret, &entropy)?;
        drop(entropy);
        Ok(Self {
            secret: pair(secret)?,
            shared,
            nonce,
            public_nonce,
        })
    }

    /// What the payer needs besides the terms.
    #[must_use]
    pub fn public_nonce(&self) -> [u8; 66] {
        self.public_nonce.serialize()
    }

    /// Completes the transaction, ready to broadcast.
    ///
    /// # Errors
    /// [`MutualError::Part`] where the payer's part does not fit.
    pub fn complete(self, part: &PayerPart) -> Result<Transaction, MutualError> {
        let Self {
            shared,
            secret,
            nonce,
            public_nonce,
        } = self;
        let bad = |_| MutualError::Part;
        let payer_nonce = PublicNonce::from_byte_array(&part.nonce).map_err(bad)?;
        let theirs = PartialSignature::from_byte_array(&part.partial).map_err(bad)?;
        let session = shared.session(&payer_nonce, &public_nonce);
        let payer = crossed(shared.contract.output().payer())?;
        if !session.partial_verify(&shared.cache, &theirs, &payer_nonce, payer) {
            return Err(MutualError::Part);
        }
        let ours = session.partial_sign(nonce, &secret, &shared.cache);
        let whole = session.partial_sig_agg(&[&theirs, &ours]).assume_valid();
        let signature = schnorr::Signature::from_slice(&whole.to_byte_array())
            .map_err(|_| MutualError::Part)?;
        // Its own check, with the library that ticks use.
        let output = bitcoin::key::TapTweak::tap_tweak(
            shared
                .contract
                .output()
                .internal_key()
                .ok_or(MutualError::NoKeyPath)?,
            secp(),
            shared.contract.output().merkle_root(),
        );
        let key = output.0.to_x_only_public_key();
        secp()
            .verify_schnorr(&signature, &Message::from_digest(shared.digest), &key)
            .map_err(|_| MutualError::Part)?;
        let mut tx = shared.tx;
        for input in &mut tx.input {
            input.witness = Witness::from_slice(&[signature.serialize()]);
        }
        Ok(tx)
    }
}

/// The payer's part. `terms` are the payee's proposal, to be checked before: `paid` is at most what
/// was signed. `entropy` is fresh, as in [`MutualClose::begin`].
///
/// # Errors
/// [`MutualError`].
pub fn cosign(
    contract: &Contract,
    secret: &ChannelSecret,
    terms: &MutualTerms,
    payee_nonce: &[u8; 66],
    entropy: Entropy,
) -> Result<PayerPart, MutualError> {
    if secret.public() != *contract.output().payer() {
        return Err(MutualError::Key);
    }
    let shared = Shared::new(contract, terms)?;
    let theirs = PublicNonce::from_byte_array(payee_nonce).map_err(|_| MutualError::Part)?;
    let (nonce, public_nonce) = shared.nonce(secret, &entropy)?;
    drop(entropy);
    let session = shared.session(&public_nonce, &theirs);
    let partial = session.partial_sign(nonce, &pair(secret)?, &shared.cache);
    Ok(PayerPart {
        nonce: public_nonce.serialize(),
        partial: partial.serialize(),
    })
}

impl core::fmt::Debug for MutualClose {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MutualClose").finish_non_exhaustive()
    }
}

/// A key of the other version of the library.
fn crossed(key: &PublicKey) -> Result<secp256k1_musig::PublicKey, MutualError> {
    secp256k1_musig::PublicKey::from_slice(&key.serialize()).map_err(|_| MutualError::Key)
}

fn pair(secret: &ChannelSecret) -> Result<Keypair, MutualError> {
    Keypair::from_secret_bytes(secret.dangerous_bytes()).map_err(|_| MutualError::Key)
}
