//! Outputs of batches that a purse's records do not know: they are an old backup. The outputs of a batch
//! come from its number alone, so they are there to be asked for whatever went into it. Source: NUT-09.

use cdk::nuts::{Id, Proof, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::ProofInfo;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::units::Msat;

use crate::coin::Seed;
use crate::fee::PROOFS_MAX;
use crate::figures::{self, RECEIVED, RETURNED};
use crate::job::Place;
use crate::locked::drain::{BLIND, Drain, FIND_LAST, FIND_MAX, FIND_WINDOW};
use crate::locked::record::{Meta, Records, Stage};
use crate::runner::outputs::{Outputs, premints};
use crate::runner::swap_in::unspent;
use crate::runner::{OWN_STORE, Runner, keysets};

impl Runner {
    /// For the records of a purse of locked ecash that were restored from a backup: asks the mint for what
    /// came home from it since, and puts that into the wallet, as the machine does before its next
    /// batch. What was found that is not spent, nothing for other purses. Asked again, it finds nothing
    /// more.
    ///
    /// # Errors
    /// Those of the mint and of the wallet's store: ask again later.
    pub async fn find_redeemed(&self, records: &RestoredPurse) -> Result<Msat, BackendError> {
        let records = Records::read(records).map_err(|_| BackendError::Unknown)?;
        let (place, seed, payer) = match records.meta {
            Some(Meta::Payee(meta)) => (meta.place, meta.seed, false),
            Some(Meta::Payer(meta)) => match meta.stage {
                Stage::Open(planned) => (planned.plan.place, planned.plan.seed, true),
                _ => return Ok(Msat::ZERO),
            },
            None => return Ok(Msat::ZERO),
        };
        let wallet = self.wallet(&place).await?;
        let mut drain = records.drain;
        let sum = find_all(&wallet, &place, (&seed, payer), &mut drain).await?;
        Msat::from_sat(sum).map_err(|_| BackendError::Unknown)
    }
}

/// Looks for all batches that `drain` does not know, and notes there how many there are. What of them was not
/// in the wallet.
pub(super) async fn find_all(
    wallet: &Wallet,
    place: &Place,
    (seed, payer): (&Seed, bool),
    drain: &mut Drain,
) -> Result<u64, BackendError> {
    let mut sum = 0_u64;
    loop {
        let from = drain.first_sought();
        let (last, blind, new) = find(wallet, place, seed, (from, payer)).await?;
        sum = sum.saturating_add(new);
        if drain.found(last, blind) {
            return Ok(sum);
        }
    }
}

/// Looks from batch `from` on, in all keysets of the mint, until so many in a row are unsigned, or
/// [`FIND_MAX`] were asked for, or there can be none; also for those that were made blindly. With
/// `payer` it is the payer's money that came back. Gives the newest batch, 0 where there is none, how many
/// blind ones there are, and what was not in the wallet.
pub(super) async fn find(
    wallet: &Wallet,
    place: &Place,
    seed: &Seed,
    (from, payer): (u64, bool),
) -> Result<(u64, u64, u64), BackendError> {
    let ids = keysets(wallet, true).await?.ids();
    let (mut first, mut last, mut blind, mut sum) = (from, 0, 0, 0_u64);
    let end = from.saturating_add(FIND_MAX);
    let mut beside: Vec<u64> = (BLIND..BLIND.saturating_add(FIND_WINDOW)).collect();
    while first < end && first <= FIND_LAST {
        let until = first.saturating_add(FIND_WINDOW);
        let numbers: Vec<u64> = (first..until).chain(beside).collect();
        // The word of a mint that nothing is left ends a search: it is asked for twice.
        for _ in 0..2 {
            for id in &ids {
                let (found, new) = signed(wallet, (place, payer), (seed, *id), &numbers).await?;
                for no in found {
                    match no.checked_sub(FIND_LAST) {
                        Some(made) if no >= BLIND => blind = made.max(blind),
                        _ => last = no.max(last),
                    }
                }
                sum = sum.saturating_add(new);
            }
            if last >= first {
                break;
            }
        }
        if last < first {
            break;
        }
        (first, beside) = (until, Vec::new());
    }
    Ok((last, blind, sum))
}

/// The batches among `numbers` of which the mint has signed something in this keyset, and what of that
/// is new in the wallet.
async fn signed(
    wallet: &Wallet,
    (place, payer): (&Place, bool),
    (seed, id): (&Seed, Id),
    numbers: &[u64],
) -> Result<(Vec<u64>, u64), BackendError> {
    // What the outputs come to is not part of them.
    let amounts = [1; PROOFS_MAX];
    let mut all = Vec::new();
    for no in numbers {
        let premints = premints(&seed.child(*no, b"drain"), id, &amounts)?;
        all.extend(premints.into_iter().map(|premint| (*no, premint)));
    }
    let (of, premints): (Vec<u64>, Vec<_>) = all.into_iter().unzip();
    let outputs = Outputs::of_any(wallet, id, premints).await?;
    let found = outputs.signed(wallet).await?;
    let batches = found.iter().filter_map(|(at, _)| of.get(*at).copied());
    let batches = batches.collect();
    let proofs = found.into_iter().map(|(_, proof)| proof).collect();
    let new = keep(wallet, (place, payer), proofs).await?;
    Ok((batches, new))
}

/// Unspent ones that the wallet does not have come in, with a line in its book.
async fn keep(
    wallet: &Wallet,
    (place, payer): (&Place, bool),
    proofs: Vec<Proof>,
) -> Result<u64, BackendError> {
    if proofs.is_empty() {
        return Ok(0);
    }
    let ys = proofs.iter().map(Proof::y).collect::<Result<Vec<_>, _>>();
    let ys = ys.map_err(|_| BackendError::Unknown)?;
    let known = wallet.localstore.get_proofs_by_ys(ys.clone()).await;
    let known = known.map_err(|_| OWN_STORE)?;
    let unspent = unspent(wallet, &ys).await?;
    let mut added = Vec::new();
    for ((proof, y), unspent) in proofs.into_iter().zip(&ys).zip(unspent) {
        if unspent && known.iter().all(|info| info.y != *y) {
            added.push(proof);
        }
    }
    if added.is_empty() {
        return Ok(0);
    }
    let sum = added.iter().map(|proof| proof.amount.to_u64());
    let sum = sum.fold(0, u64::saturating_add);
    let ys = added.iter().map(Proof::y).collect::<Result<Vec<_>, _>>();
    let ys = ys.map_err(|_| BackendError::Unknown)?;
    let infos = added.into_iter().map(|proof| {
        let (mint, unit) = (wallet.mint_url.clone(), wallet.unit.clone());
        let operation = Some(place.operation());
        ProofInfo::new_with_operations(proof, mint, State::Unspent, unit, None, operation)
    });
    let infos = infos.collect::<Result<Vec<_>, _>>();
    let infos = infos.map_err(|_| BackendError::Unknown)?;
    let update = wallet.localstore.update_proofs(infos, Vec::new()).await;
    update.map_err(|_| OWN_STORE)?;
    tracing::info!(amount = sum, "ecash found that is newer than the records");
    let kind = if payer { RETURNED } else { RECEIVED };
    // What it cost is not known any more.
    let noted = figures::note(wallet, place.operation(), kind, sum, 0, ys).await;
    noted.map_err(|_| OWN_STORE)?;
    Ok(sum)
}
