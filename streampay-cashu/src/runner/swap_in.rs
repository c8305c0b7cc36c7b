//! Coins that somebody else has seen become coins of this wallet alone.

use std::time::Duration;

use cdk::nuts::{PublicKey, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::ProofInfo;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};

use super::outputs::{Outputs, states};
use super::swap::{Swapped, swap};
use super::{OWN_STORE, fault, keysets};
use crate::coin;
use crate::fee;
use crate::figures::{self, RECEIVED, RETURNED};
use crate::job::{Done, SwapIn};

const MALFORMED: BackendError = BackendError::Rejected(RefusalCode::Malformed, Consumed::No);

pub(crate) async fn swap_in(
    wallet: &Wallet,
    job: &SwapIn,
    limit: Duration,
) -> Result<Done, BackendError> {
    let keyset = job.keyset().map_err(|_| MALFORMED)?;
    let inputs = coin::to_proofs(&job.coins).map_err(|_| MALFORMED)?;
    let input_ys: Vec<_> = inputs.iter().filter_map(|input| input.y().ok()).collect();
    let set = wallet.keyset(keyset).await.map_err(fault::of_reading)?;
    let denominations: Vec<u64> = set.keys.iter().map(|(amount, _)| amount.to_u64()).collect();
    let amounts = fee::split(job.net, &denominations).ok_or(MALFORMED)?;
    let outputs = Outputs::derive(wallet, &job.seed, keyset, &amounts).await?;
    let ys = outputs.ys()?;

    let stored = wallet.localstore.get_proofs_by_ys(ys.clone()).await;
    if !stored.map_err(|_| OWN_STORE)?.is_empty() {
        // An earlier run got as far as the wallet, which may have spent some since.
        note(wallet, job, &ys, &input_ys).await?;
        return Ok(Done::Swapped);
    }
    let (proofs, before) = match swap(wallet, inputs, &outputs, job.again, limit).await? {
        Swapped::Ours { proofs, before } => (proofs, before),
        Swapped::SpentElsewhere => return Ok(Done::SpentElsewhere),
        Swapped::OtherKeyset => {
            return Ok(Done::OtherKeysets(keysets(wallet, true).await?));
        }
    };
    let keep = if before || job.again {
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
                Some(job.place.operation()),
            )
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BackendError::Unknown)?;
    let removed = if job.own {
        input_ys.clone()
    } else {
        Vec::new()
    };
    let update = wallet.localstore.update_proofs(added, removed).await;
    update.map_err(|_| OWN_STORE)?;
    note(wallet, job, &ys, &input_ys).await?;
    Ok(Done::Swapped)
}

/// An output that is spent already was in the wallet before and must not come back.
async fn unspent(wallet: &Wallet, ys: &[PublicKey]) -> Result<Vec<bool>, BackendError> {
    let states = states(wallet, ys.to_vec()).await?;
    Ok(states.iter().map(|state| *state != State::Spent).collect())
}

async fn note(
    wallet: &Wallet,
    job: &SwapIn,
    ys: &[PublicKey],
    input_ys: &[PublicKey],
) -> Result<(), BackendError> {
    let fee = coin::sum(&job.coins).and_then(|sum| sum.checked_sub(job.net));
    let (kind, ys) = if job.own {
        (RETURNED, input_ys)
    } else {
        (RECEIVED, ys)
    };
    figures::note(
        wallet,
        job.place.operation(),
        kind,
        job.net,
        fee.unwrap_or_default(),
        ys.to_vec(),
    )
    .await
    .map_err(|_| OWN_STORE)
}
