//! Coins that somebody else has seen become coins of this wallet alone.

use std::time::Duration;

use cdk::nuts::{Id, Proof, PublicKey, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::ProofInfo;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};

use super::outputs::{Outputs, states};
use super::swap::{Swapped, swap};
use super::{OWN_STORE, fault, keysets};
use crate::coin::{self, Seed};
use crate::fee;
use crate::figures::{self, RECEIVED, RETURNED};
use crate::job::{Done, Place, SwapIn};

const MALFORMED: BackendError = BackendError::Rejected(RefusalCode::Malformed, Consumed::No);

pub(crate) async fn swap_in(
    wallet: &Wallet,
    job: &SwapIn,
    limit: Duration,
) -> Result<Done, BackendError> {
    let inputs = coin::to_proofs(&job.coins).map_err(|_| MALFORMED)?;
    let fee = coin::sum(&job.coins).and_then(|sum| sum.checked_sub(job.net));
    let into = Into {
        place: &job.place,
        seed: &job.seed,
        keyset: job.keyset().map_err(|_| MALFORMED)?,
        net: job.net,
        fee: fee.unwrap_or_default(),
        again: job.again,
        own: job.own,
    };
    let end = match swap_inputs(wallet, inputs, &into, limit).await {
        // What our own token gives is what the mint leaves of it; a payment gives what it should, or is none.
        Err(BackendError::Rejected(RefusalCode::WrongAmount, _)) if job.own => {
            return Ok(Done::OtherFee(keysets(wallet, true).await?));
        }
        end => end?,
    };
    match end {
        End::Ours => Ok(Done::Swapped),
        End::SpentElsewhere => Ok(Done::SpentElsewhere),
        End::OtherKeyset => Ok(Done::OtherKeysets(keysets(wallet, true).await?)),
    }
}

/// Whether the mint has signed the outputs of such a swap for another one.
pub(crate) async fn outputs_are_used(
    wallet: &Wallet,
    into: &Into<'_>,
) -> Result<bool, BackendError> {
    outputs_of(wallet, into).await?.are_of_another(wallet).await
}

async fn outputs_of(wallet: &Wallet, into: &Into<'_>) -> Result<Outputs, BackendError> {
    let set = wallet
        .keyset(into.keyset)
        .await
        .map_err(fault::of_reading)?;
    let denominations: Vec<u64> = set.keys.iter().map(|(amount, _)| amount.to_u64()).collect();
    let amounts = fee::split(into.net, &denominations).ok_or(MALFORMED)?;
    Outputs::derive(wallet, into.seed, into.keyset, &amounts).await
}

/// What coins become.
pub(crate) struct Into<'a> {
    pub(crate) place: &'a Place,
    /// Root of the outputs; every run has the same outputs.
    pub(crate) seed: &'a Seed,
    pub(crate) keyset: Id,
    /// What the outputs come to, in the unit.
    pub(crate) net: u64,
    pub(crate) fee: u64,
    /// True where it may have reached the mint before.
    pub(crate) again: bool,
    /// True for the payer's own coins coming back, false for a payment.
    pub(crate) own: bool,
}

/// How it ended.
pub(crate) enum End {
    Ours,
    SpentElsewhere,
    OtherKeyset,
}

pub(crate) async fn swap_inputs(
    wallet: &Wallet,
    inputs: Vec<Proof>,
    into: &Into<'_>,
    limit: Duration,
) -> Result<End, BackendError> {
    let input_ys: Vec<_> = inputs.iter().filter_map(|input| input.y().ok()).collect();
    let outputs = outputs_of(wallet, into).await?;
    let ys = outputs.ys()?;

    let stored = wallet.localstore.get_proofs_by_ys(ys.clone()).await;
    let stored = stored.map_err(|_| OWN_STORE)?;
    let is_other = |info: &ProofInfo| outputs.amount_of(&ys, info.y) != Some(info.proof.amount);
    if stored.iter().any(is_other) {
        // What an output derives from does not tell its amount: another swap had the same ones.
        return Err(BackendError::Unknown);
    }
    if !stored.is_empty() {
        // An earlier run got as far as the wallet, which may have spent some since.
        note(wallet, into, &ys, &input_ys).await?;
        return Ok(End::Ours);
    }
    let (proofs, before) = match swap(wallet, inputs, &outputs, into.again, limit).await? {
        Swapped::Ours { proofs, before } => (proofs, before),
        Swapped::SpentElsewhere => return Ok(End::SpentElsewhere),
        Swapped::OtherKeyset => return Ok(End::OtherKeyset),
    };
    let keep = if before || into.again {
        unspent(wallet, &ys).await?
    } else {
        vec![true; proofs.len()]
    };
    let added = proofs
        .into_iter()
        .zip(keep)
        .filter(|(_, keep)| *keep)
        .map(|(proof, _)| {
            ProofInfo::new_with_operations(
                proof,
                wallet.mint_url.clone(),
                State::Unspent,
                wallet.unit.clone(),
                None,
                Some(into.place.operation()),
            )
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BackendError::Unknown)?;
    let removed = if into.own {
        input_ys.clone()
    } else {
        Vec::new()
    };
    let update = wallet.localstore.update_proofs(added, removed).await;
    update.map_err(|_| OWN_STORE)?;
    note(wallet, into, &ys, &input_ys).await?;
    Ok(End::Ours)
}

/// An output that is spent already was in the wallet before and must not come back.
pub(crate) async fn unspent(wallet: &Wallet, ys: &[PublicKey]) -> Result<Vec<bool>, BackendError> {
    let states = states(wallet, ys.to_vec()).await?;
    Ok(states.iter().map(|state| *state != State::Spent).collect())
}

async fn note(
    wallet: &Wallet,
    into: &Into<'_>,
    ys: &[PublicKey],
    input_ys: &[PublicKey],
) -> Result<(), BackendError> {
    let (kind, ys) = if into.own {
        (RETURNED, input_ys)
    } else {
        (RECEIVED, ys)
    };
    figures::note(
        wallet,
        into.place.operation(),
        kind,
        into.net,
        into.fee,
        ys.to_vec(),
    )
    .await
    .map_err(|_| OWN_STORE)
}
