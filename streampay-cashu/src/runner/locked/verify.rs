//! A payee's checks of what a payer shows.

use std::collections::BTreeSet;

use cdk::nuts::CurrencyUnit;
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};

use super::{blocking, fits, keyset, mint_info, spent_from};
use crate::chain::{Funded, PIECE, Piece, first_proof, step_of};
use crate::locked::job::{Agreed, LockedDone};
use crate::locked::{CLOCK_SLACK_S, REFUND_WINDOW_S};
use crate::runner::{Runner, keysets, random_seed};
use crate::verify::{Dleq, TrustedKeyset, VerifyError, Wanted, verify_funding};

fn refused(code: RefusalCode) -> BackendError {
    BackendError::Rejected(code, Consumed::No)
}

fn code_of(error: VerifyError) -> RefusalCode {
    match error {
        VerifyError::KeysetId | VerifyError::Keyset | VerifyError::FinalExpiry => {
            RefusalCode::UnknownKeyset
        }
        VerifyError::Unit => RefusalCode::WrongUnit,
        VerifyError::Fee => RefusalCode::FeeTooHigh,
        VerifyError::Denomination | VerifyError::WrongAmount => RefusalCode::WrongAmount,
        VerifyError::NoDleq | VerifyError::Dleq => RefusalCode::BadProof,
        VerifyError::Seen => RefusalCode::AlreadySpent,
        _ => RefusalCode::WrongLock,
    }
}

/// The locktime is as far away as agreed, by the mint's clock, as the payer read it a little
/// before.
pub(super) const fn is_in_time(locktime: u64, time_s: u64, agreed: Agreed) -> bool {
    let wanted = time_s.saturating_add(agreed.lock_s);
    // A short lock cannot be ten minutes late.
    let slack = if CLOCK_SLACK_S < agreed.lock_s / 4 {
        CLOCK_SLACK_S
    } else {
        agreed.lock_s / 4
    };
    locktime.saturating_add(slack) >= wanted && locktime <= wanted.saturating_add(slack)
}

impl Runner {
    /// Everything about an opening: the mint first, then the mint's keys, then each proof, then that
    /// the mint has seen none of them spent.
    pub(super) async fn verify_opening(
        &self,
        wallet: &Wallet,
        funded: Funded,
        agreed: Agreed,
    ) -> Result<LockedDone, BackendError> {
        let info = mint_info(wallet).await?;
        if !fits(&info, agreed.chain) {
            return Err(refused(RefusalCode::WrongMint));
        }
        let time_s = self.time_of(wallet, &info).await?;
        if !is_in_time(funded.terms.locktime, time_s, agreed) {
            return Err(refused(RefusalCode::WrongLock));
        }
        let set = keyset(wallet, funded.keyset).await?;
        let ppk = set.input_fee_ppk;
        let numbers = match agreed.chain {
            true => 0..funded.proofs(),
            false => 0..0,
        };
        let pieces = funded.funding.pieces.to_vec();
        let unit = wallet.unit.clone();
        let checked = funded.clone();
        let checks = move || check(&checked, set, &unit, numbers, &pieces, agreed.max_fee_ppk);
        blocking(checks).await?.map_err(refused)?;
        if !spent_from(wallet, &funded, 0).await?.is_empty() {
            let code = RefusalCode::AlreadySpent;
            return Err(BackendError::Rejected(code, Consumed::Yes));
        }
        Ok(LockedDone::Verified {
            time_s,
            ppk,
            keysets: keysets(wallet, false).await?,
            seed: random_seed(),
        })
    }
}

/// The proofs of one step.
pub(super) async fn step(
    wallet: &Wallet,
    funded: Funded,
    step: u64,
    pieces: Vec<u8>,
    agreed: Agreed,
) -> Result<LockedDone, BackendError> {
    let set = keyset(wallet, funded.keyset).await?;
    let per_step = funded.per_step();
    let numbers = first_proof(step, per_step)..first_proof(step.saturating_add(1), per_step);
    let unit = wallet.unit.clone();
    let checks = move || check(&funded, set, &unit, numbers, &pieces, agreed.max_fee_ppk);
    blocking(checks).await?.map_err(refused)?;
    Ok(LockedDone::Good)
}

fn check(
    funded: &Funded,
    set: cdk::nuts::KeySet,
    unit: &CurrencyUnit,
    numbers: core::ops::Range<u64>,
    pieces: &[u8],
    max_fee_ppk: u64,
) -> Result<(), RefusalCode> {
    let keyset = TrustedKeyset::new(set).map_err(code_of)?;
    let wanted = Wanted {
        keyset: &keyset,
        unit,
        terms: funded.terms,
        refund_window_s: REFUND_WINDOW_S,
        max_fee_ppk,
    };
    let (bytes, rest) = pieces.as_chunks::<PIECE>();
    if !rest.is_empty() {
        return Err(RefusalCode::Malformed);
    }
    let proofs = numbers
        .zip(bytes)
        .map(|(number, bytes)| {
            let proof = funded.proof(number, Piece(bytes))?;
            let kind = funded.kind(step_of(number, funded.per_step()))?;
            Some((proof, funded.amount(number)?, kind))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(RefusalCode::BadProof)?;
    let all = proofs
        .iter()
        .map(|(proof, amount, kind)| (proof, *amount, *kind));
    verify_funding(all, &wanted, &BTreeSet::new(), &Dleq).map_err(code_of)?;
    Ok(())
}
