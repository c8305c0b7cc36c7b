//! A payee's checks of what a payer shows.

use std::collections::BTreeSet;

use cdk::nuts::CurrencyUnit;
use cdk::wallet::Wallet;
use cdk::wallet::types::KeysetLoadPolicy;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};

use super::{blocking, keyset, mint_info, spent_from};
use crate::chain::{Funded, PIECE, Piece, first_proof, step_of};
use crate::job::Place;
use crate::locked::job::{Agreed, LockedDone};
use crate::locked::{CLOCK_SLACK_S, REFUND_WINDOW_S};
use crate::runner::fund::denominations;
use crate::runner::{Runner, keysets, random_seed};
use crate::verify::{Dleq, TrustedKeyset, VerifyError, Wanted, verify_proof};

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

/// What is to be found out about an opening.
pub(super) struct Opening {
    pub(super) place: Place,
    pub(super) funded: Funded,
    pub(super) agreed: Agreed,
    /// Why it is refused whatever its proofs are.
    pub(super) misfit: Option<u16>,
}

impl Runner {
    /// Everything about an opening. First what can be told without anybody: each proof, by keys that
    /// were fetched before. Only then is the mint asked, within what strangers may use of its budget:
    /// what it is, its time, and whether it has seen any of them spent.
    pub(super) async fn verify_opening(
        &self,
        opening: Opening,
    ) -> Result<LockedDone, BackendError> {
        let is_chain = opening.funded.funding.is_chain();
        let misfit = opening.misfit.map(RefusalCode::from_code);
        let wallet = self.wallet(&opening.place).await?;
        let judged = match self.judge_offline(&wallet, &opening).await {
            // Neither a mint that is away nor bad proofs change why it is refused.
            Err(error) => return Err(misfit.map_or(error, refused)),
            Ok(judged) => judged,
        };
        let enforced = self.wallets.trusts_locks(&wallet.mint_url);
        let distrusted = (!enforced).then_some(RefusalCode::WrongMint);
        if let Some(code) = misfit.or_else(|| judged.err()).or(distrusted) {
            return not_taken(is_chain, refused(code));
        }
        let mint = opening.place.mint.clone();
        let asked = self.of_stranger(&mint, self.ask_about(&wallet, opening));
        match asked.await {
            Err(BackendError::Transient | BackendError::Unknown) if is_chain => {
                Ok(LockedDone::Proven)
            }
            Err(error @ BackendError::Rejected(..)) => not_taken(is_chain, error),
            asked => asked,
        }
    }

    /// An error where the proofs are not what they must be; else whether all else fits.
    async fn judge_offline(
        &self,
        wallet: &Wallet,
        opening: &Opening,
    ) -> Result<Result<(), RefusalCode>, BackendError> {
        let funded = opening.funded.clone();
        let known = wallet.keyset_with_policy(funded.keyset, KeysetLoadPolicy::CacheOnly);
        let set = match known.await {
            Ok(set) => set,
            Err(_) => {
                let asked = keyset(wallet, funded.keyset);
                self.of_stranger(&opening.place.mint, asked).await?
            }
        };
        let numbers = match funded.funding.is_chain() {
            true => 0..funded.proofs(),
            false => 0..0,
        };
        let unit = wallet.unit.clone();
        let most = self.max_fee_ppk(wallet, opening.agreed);
        let check = move || {
            let pieces = funded.funding.pieces.to_vec();
            check(&funded, set, &unit, numbers, &pieces, most)
        };
        blocking(check).await?.map_err(refused)
    }

    async fn ask_about(
        &self,
        wallet: &Wallet,
        opening: Opening,
    ) -> Result<LockedDone, BackendError> {
        let (funded, agreed) = (opening.funded, opening.agreed);
        let info = mint_info(wallet).await?;
        if !self.fits(wallet, &info, agreed.chain) {
            return Err(refused(RefusalCode::WrongMint));
        }
        let time_s = self.time_of(wallet, &info).await?;
        if !is_in_time(funded.terms.locktime, time_s, agreed) {
            return Err(refused(RefusalCode::WrongLock));
        }
        if !spent_from(wallet, &funded, 0).await?.is_empty() {
            let code = RefusalCode::AlreadySpent;
            return Err(BackendError::Rejected(code, Consumed::Yes));
        }
        Ok(LockedDone::Verified {
            time_s,
            ppk: keyset(wallet, funded.keyset).await?.input_fee_ppk,
            keysets: keysets(wallet, false).await?,
            seed: random_seed(),
        })
    }

    /// The most that an input may cost: as agreed, and as the embedder allows.
    pub(super) fn max_fee_ppk(&self, wallet: &Wallet, agreed: Agreed) -> u64 {
        let own = self.wallets.max_fee_ppk(&wallet.mint_url);
        agreed.max_fee_ppk.min(own)
    }
}

/// The end of an opening that is refused. Of proofs that were shown and are unspent its payer is
/// told more: they can be signed over to it.
const fn not_taken(is_chain: bool, error: BackendError) -> Result<LockedDone, BackendError> {
    match error {
        BackendError::Rejected(code, Consumed::No) if is_chain => {
            Ok(LockedDone::Refused(code.code()))
        }
        error => Err(error),
    }
}

/// The proofs of one step.
pub(super) async fn step(
    wallet: &Wallet,
    funded: Funded,
    step: u64,
    pieces: Vec<u8>,
    max_fee_ppk: u64,
) -> Result<LockedDone, BackendError> {
    let set = keyset(wallet, funded.keyset).await?;
    let per_step = funded.per_step();
    let numbers = first_proof(step, per_step)..first_proof(step.saturating_add(1), per_step);
    let unit = wallet.unit.clone();
    let checks = move || check(&funded, set, &unit, numbers, &pieces, max_fee_ppk)?;
    blocking(checks).await?.map_err(refused)?;
    Ok(LockedDone::Good)
}

/// An error where a proof is not what it must be; else whether its keyset is as agreed.
fn check(
    funded: &Funded,
    set: cdk::nuts::KeySet,
    unit: &CurrencyUnit,
    numbers: core::ops::Range<u64>,
    pieces: &[u8],
    max_fee_ppk: u64,
) -> Result<Result<(), RefusalCode>, RefusalCode> {
    let is_shortest = funded.funding.is_shortest(&denominations(&set));
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
    // The proofs by themselves first, whatever their keyset costs and for how long it lives: where that
    // is not up to the locktime, what is refused cannot wait for it.
    let mut seen = BTreeSet::new();
    for (proof, amount, kind) in &proofs {
        let y = verify_proof(proof, *amount, *kind, &wanted, &seen, &Dleq).map_err(code_of)?;
        seen.insert(y.to_bytes());
    }
    // The payer chooses them, and the payee pays for each.
    if !is_shortest {
        return Ok(Err(RefusalCode::WrongAmount));
    }
    Ok(wanted.check_keyset().map_err(code_of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;
    use crate::verify::tests::keyset;

    #[test]
    fn step_in_more_proofs_than_it_takes_is_refused() {
        let judged = |amounts: &[u64]| {
            let mut funding = vectors::funded().funding;
            funding.amounts = amounts.to_vec();
            (funding.locks, funding.pieces) = (Vec::new().into(), Vec::new().into());
            let funded = funding.with_receiver(vectors::receiver()).unwrap();
            let set = keyset(CurrencyUnit::Sat, 100, None);
            check(&funded, set, &CurrencyUnit::Sat, 0..0, &[], 1_000)
        };
        assert_eq!(judged(&[8, 2]), Ok(Ok(())));
        for amounts in [&[4, 4, 2][..], &[8, 1, 1], &[2; 5], &[1; 10], &[10]] {
            let refused = Ok(Err(RefusalCode::WrongAmount));
            assert_eq!(judged(amounts), refused, "{amounts:?}");
        }
    }

    /// It has paid for them: they are signed over to it.
    #[test]
    fn proofs_of_such_a_step_are_looked_at_all_the_same() {
        let funded = vectors::funded();
        let (set, all) = (keyset(CurrencyUnit::Sat, 100, None), funded.proofs());
        let pieces = funded.funding.pieces.to_vec();
        let of = |pieces: &[u8]| {
            let set = set.clone();
            check(&funded, set, &CurrencyUnit::Sat, 0..all, pieces, 1_000)
        };
        assert_eq!(of(&pieces), Ok(Ok(())));
        let mut forged = pieces.clone();
        forged[40] ^= 1;
        assert_eq!(of(&forged), Err(RefusalCode::BadProof));
    }
}
