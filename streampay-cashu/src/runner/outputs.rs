//! Outputs derived from a seed: blinded, asked for again, unblinded.

use cdk::dhke::{blind_message, construct_proofs};
use cdk::nuts::{
    BlindSignature, BlindedMessage, CheckStateRequest, Id, KeySet, PreMint, Proof, PublicKey,
    RestoreRequest, SecretKey, State,
};
use cdk::secret::Secret;
use cdk::wallet::Wallet;
use cdk::{Amount, Error};
use streampay_core::backend::BackendError;

use super::fault;
use crate::coin::Seed;

/// The outputs of one swap; the same seed, keyset and amounts make the same outputs.
pub(crate) struct Outputs {
    premints: Vec<PreMint>,
    keyset: KeySet,
}

impl Outputs {
    /// `amounts` in order, derived as NUT-13 does from counter 0 of `seed`.
    pub(crate) async fn derive(
        wallet: &Wallet,
        seed: &Seed,
        keyset: Id,
        amounts: &[u64],
    ) -> Result<Self, BackendError> {
        let keyset = wallet.keyset(keyset).await.map_err(fault::of_reading)?;
        let premints = premints(seed, keyset.id, amounts)?;
        Ok(Self { premints, keyset })
    }

    /// Outputs that were prepared elsewhere, all of `keyset`.
    pub(crate) const fn of(premints: Vec<PreMint>, keyset: KeySet) -> Self {
        Self { premints, keyset }
    }

    /// Outputs of which nothing is known but what they derive from, their amounts included.
    pub(crate) async fn of_any(
        wallet: &Wallet,
        keyset: Id,
        premints: Vec<PreMint>,
    ) -> Result<Self, BackendError> {
        let keyset = wallet.keyset(keyset).await.map_err(fault::of_reading)?;
        Ok(Self { premints, keyset })
    }

    /// Those that the mint has signed, by their place among these, with the amounts that it signed. A
    /// signature that is none is a fault: nothing is known then. Source: NUT-09.
    pub(crate) async fn signed(
        &self,
        wallet: &Wallet,
    ) -> Result<Vec<(usize, Proof)>, BackendError> {
        let request = RestoreRequest {
            outputs: self.messages(),
        };
        let answer = wallet.mint_connector().post_restore(request).await;
        let answer = answer.map_err(fault::of_reading)?;
        let mut found = Vec::new();
        for (output, signature) in answer.outputs.iter().zip(answer.signatures) {
            let mut premints = self.premints.iter().enumerate();
            let premint = premints.find(|(_, premint)| {
                premint.blinded_message.blinded_secret == output.blinded_secret
            });
            let Some((at, premint)) = premint else {
                continue;
            };
            let mut premint = premint.clone();
            premint.blinded_message.amount = signature.amount;
            premint.amount = signature.amount;
            let one = Self::of(vec![premint], self.keyset.clone());
            let Some(proofs) = one.unblind(vec![signature]) else {
                // It may well have signed this, and others that it leaves out.
                tracing::warn!("the mint restores what it did not sign");
                return Err(BackendError::Unknown);
            };
            found.extend(proofs.into_iter().map(|proof| (at, proof)));
        }
        Ok(found)
    }

    /// True where the mint has signed some of these, and with other amounts: they were the outputs of
    /// another swap.
    pub(crate) async fn are_of_another(&self, wallet: &Wallet) -> Result<bool, BackendError> {
        let signed = self.signed(wallet).await?;
        Ok(signed.iter().any(|(at, proof)| {
            let own = self.premints.get(*at).map(|premint| premint.amount);
            own.is_some_and(|own| own != proof.amount)
        }))
    }

    pub(crate) fn messages(&self) -> Vec<BlindedMessage> {
        let messages = self.premints.iter();
        messages
            .map(|premint| premint.blinded_message.clone())
            .collect()
    }

    /// The Y of each future proof.
    pub(crate) fn ys(&self) -> Result<Vec<PublicKey>, BackendError> {
        let secrets = self.premints.iter().map(|premint| &premint.secret);
        secrets
            .map(|secret| cdk::dhke::hash_to_curve(secret.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|_| BackendError::Unknown)
    }

    /// What the output with this Y, one of [all](Self::ys), comes to.
    pub(crate) fn amount_of(&self, ys: &[PublicKey], y: PublicKey) -> Option<Amount> {
        let mut all = ys.iter().zip(&self.premints);
        let found = all.find(|(own, _)| **own == y);
        found.map(|(_, premint)| premint.amount)
    }

    /// The proofs, where every signature is on its own output, of its amount and keyset, and
    /// proven by DLEQ if there is one. Source: NUT-00, NUT-12.
    pub(crate) fn unblind(&self, signatures: Vec<BlindSignature>) -> Option<Vec<Proof>> {
        if signatures.len() != self.premints.len() {
            return None;
        }
        for (signature, premint) in signatures.iter().zip(&self.premints) {
            let message = &premint.blinded_message;
            let fits =
                signature.amount == message.amount && signature.keyset_id == message.keyset_id;
            let key = self.keyset.keys.amount_key(signature.amount)?;
            let proven = signature.dleq.is_none()
                || signature.verify_dleq(key, message.blinded_secret).is_ok();
            if !fits || !proven {
                return None;
            }
        }
        let blindings = self.premints.iter().map(|premint| premint.r.clone());
        let secrets = self.premints.iter().map(|premint| premint.secret.clone());
        construct_proofs(
            signatures,
            blindings.collect(),
            secrets.collect(),
            &self.keyset.keys,
        )
        .ok()
    }

    /// Asks whether the mint has signed these outputs before: `Some` only where it has signed all
    /// of them, which none but the holder of the seed can have asked for. Source: NUT-09.
    pub(crate) async fn restore(
        &self,
        wallet: &Wallet,
    ) -> Result<Option<Vec<Proof>>, BackendError> {
        let request = RestoreRequest {
            outputs: self.messages(),
        };
        let answer = wallet.mint_connector().post_restore(request).await;
        let answer = answer.map_err(fault::of_reading)?;
        if answer.signatures.is_empty() {
            return Ok(None);
        }
        let found: Vec<_> = answer.outputs.iter().zip(answer.signatures).collect();
        let in_order = self.premints.iter().map(|premint| {
            let wanted = premint.blinded_message.blinded_secret;
            found
                .iter()
                .find(|(output, _)| output.blinded_secret == wanted)
                .map(|(_, signature)| signature.clone())
        });
        let signatures = in_order.collect::<Option<Vec<_>>>();
        let proofs = signatures.and_then(|signatures| self.unblind(signatures));
        proofs.map(Some).ok_or(BackendError::Unknown)
    }
}

/// Those of `premints`, all of `keyset`, that the mint has signed: their place among these, the proof, and
/// what has become of it. For wallets that lost track of their outputs. Source: NUT-07, NUT-09, NUT-12.
///
/// # Errors
/// Where the mint does not answer, or not to the point: nothing is known then.
pub async fn find_signed(
    wallet: &Wallet,
    keyset: Id,
    premints: Vec<PreMint>,
) -> Result<Vec<(usize, Proof, State)>, BackendError> {
    let outputs = Outputs::of_any(wallet, keyset, premints).await?;
    let signed = outputs.signed(wallet).await?;
    if signed.is_empty() {
        return Ok(Vec::new());
    }
    let ys = signed.iter().map(|(_, proof)| proof.y());
    let ys = ys.collect::<Result<Vec<_>, _>>();
    let states = states(wallet, ys.map_err(|_| BackendError::Unknown)?).await?;
    let signed = signed.into_iter().zip(states);
    Ok(signed
        .map(|((at, proof), state)| (at, proof, state))
        .collect())
}

/// The states of `ys` at the mint, in their order. Source: NUT-07.
pub(crate) async fn states(
    wallet: &Wallet,
    ys: Vec<PublicKey>,
) -> Result<Vec<State>, BackendError> {
    let request = CheckStateRequest { ys: ys.clone() };
    let answer = wallet.mint_connector().post_check_state(request).await;
    let answer = answer.map_err(fault::of_reading)?;
    let in_order = ys.iter().map(|y| {
        let states = answer.states.iter();
        states
            .clone()
            .find(|state| state.y == *y)
            .map(|state| state.state)
    });
    in_order
        .collect::<Option<_>>()
        .ok_or(BackendError::Transient)
}

/// `amounts` in order, as NUT-13 does from counter 0 of `seed`.
pub(crate) fn premints(
    seed: &Seed,
    keyset: Id,
    amounts: &[u64],
) -> Result<Vec<PreMint>, BackendError> {
    (0_u32..)
        .zip(amounts)
        .map(|(counter, amount)| premint(seed, keyset, counter, *amount))
        .collect::<Result<_, _>>()
        .map_err(|_| BackendError::Unknown)
}

/// An output with this secret and blinding factor.
pub(crate) fn premint_of(
    secret: Secret,
    blinding: SecretKey,
    keyset: Id,
    amount: u64,
) -> Result<PreMint, Error> {
    let (blinded, r) = blind_message(secret.as_bytes(), Some(blinding))?;
    let amount = Amount::from(amount);
    Ok(PreMint {
        blinded_message: BlindedMessage::new(amount, keyset, blinded),
        secret,
        r,
        amount,
        derivation_index: None,
    })
}

fn premint(seed: &Seed, keyset: Id, counter: u32, amount: u64) -> Result<PreMint, Error> {
    let secret = Secret::from_seed(seed.bytes(), keyset, counter)?;
    let blinding = SecretKey::from_seed(seed.bytes(), keyset, counter)?;
    premint_of(secret, blinding, keyset, amount)
}
