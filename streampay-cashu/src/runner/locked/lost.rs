//! Fundings that failed by the mint's word: whether it has made them after all.

use std::time::Duration;

use cdk::wallet::Wallet;
use minicbor::bytes::ByteVec;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::units::{Msat, PurseKey, Unix};

use super::fund::{note, outputs_of, store};
use super::redeem::{Redeem, redeem};
use crate::chain::{Funded, PIECE, Piece};
use crate::figures::RETURNED;
use crate::job::Done;
use crate::locked::drain::{Cut, Drain};
use crate::locked::job::{LockedDone, Right, Secret32};
use crate::locked::payer::{locked_of, secrets::Secrets};
use crate::locked::record::{Meta, Planned, Records, Stage};
use crate::locked::{REFUND_AFTER_S, pieces_of};
use crate::runner::finish::ledger_sum;
use crate::runner::{MANY, Runner};

/// What has become of a payer's purse that was never opened: its funding was asked for, its inputs are
/// spent, and the mint knew nothing of what they were to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostFunding {
    /// The mint still knows nothing of it. Its records keep all that it takes to ask again.
    Unknown,
    /// The mint has made it: it is the payer's from then on, by the mint's clock.
    Locked(Unix),
    /// It is home. This much came with this call, nothing where an earlier one brought it.
    Home(Msat),
}

impl Runner {
    /// For the records of a payer's purse: where its funding is lost, asks the mint for it again
    /// (NUT-09), and brings it home once its locks have given way. None for any other purse.
    ///
    /// # Errors
    /// Those of the mint and of the wallet's store: ask again later.
    pub async fn find_lost(
        &self,
        key: PurseKey,
        records: &RestoredPurse,
    ) -> Result<Option<LostFunding>, BackendError> {
        let records = Records::read(records).map_err(|_| BackendError::Unknown)?;
        let Some(Meta::Payer(meta)) = records.meta else {
            return Ok(None);
        };
        let Stage::Lost(planned) = &meta.stage else {
            return Ok(None);
        };
        let (plan, unknown) = (&planned.plan, BackendError::Unknown);
        let wallet = self.wallet(&plan.place).await?;
        let locked = locked_of(key, &meta, planned).ok_or(unknown)?;
        let funded = locked.funded().map_err(|_| unknown)?;
        let (outputs, of_purse) = outputs_of(&wallet, plan, &funded).await?;
        let Some(mut proofs) = outputs.restore(&wallet).await? else {
            return Ok(Some(LostFunding::Unknown));
        };
        let change = proofs.split_off(of_purse);
        store(&wallet, plan, change, true).await?;
        note(&wallet, plan, &proofs).await?;
        let until = planned.locktime.saturating_add(REFUND_AFTER_S);
        if self.time_at(&wallet).await? < until {
            return Ok(Some(LostFunding::Locked(Unix(until))));
        }
        let pieces: Option<Vec<[u8; PIECE]>> = proofs.iter().map(Piece::of).collect();
        let pieces = pieces.ok_or(unknown)?.concat();
        let before = returned(&wallet, planned).await?;
        let limit = self.limit.saturating_mul(MANY);
        refund(&wallet, planned, &funded, &pieces, limit).await?;
        let home = returned(&wallet, planned).await?.saturating_sub(before);
        let home = Msat::from_sat(home).map_err(|_| unknown)?;
        Ok(Some(LostFunding::Home(home)))
    }
}

async fn returned(wallet: &Wallet, planned: &Planned) -> Result<u64, BackendError> {
    match ledger_sum(wallet, planned.plan.place.operation(), RETURNED).await? {
        Done::Sum(sum) => Ok(sum),
        _ => Err(BackendError::Unknown),
    }
}

/// All of it, by the payer's own key. Run again it makes the same batches, and finds what is home.
async fn refund(
    wallet: &Wallet,
    planned: &Planned,
    funded: &Funded,
    pieces: &[u8],
    limit: Duration,
) -> Result<(), BackendError> {
    let plan = &planned.plan;
    let key = Secrets(&plan.seed).refund().ok_or(BackendError::Unknown)?;
    let cut = Cut {
        until: funded.proofs(),
        ppk: planned.ppk,
        all: true,
    };
    let mut drain = Drain::default();
    let amount = |number| funded.amount(number);
    while drain.batch.is_some() || drain.begin(cut, amount, &plan.keyset) {
        let Some(batch) = drain.batch.clone() else {
            break;
        };
        let pieces = pieces_of(pieces, &batch.numbers).ok_or(BackendError::Unknown)?;
        let job = Redeem {
            place: plan.place.clone(),
            funded: funded.clone(),
            batch,
            pieces,
            right: Right::Refund {
                key: Secret32::new(key.to_secret_bytes()),
            },
            seed: plan.seed.clone(),
            again: true,
        };
        match redeem(wallet, job, limit).await? {
            LockedDone::Swapped => drain.home(),
            LockedDone::SomeSpent(spent) => drain.some_spent(&spent),
            LockedDone::OtherKeysets(keysets) => {
                let other: Option<ByteVec> = keysets.active();
                if !drain.other_keyset(other) {
                    return Err(BackendError::Transient);
                }
            }
            _ => return Err(BackendError::Unknown),
        }
    }
    Ok(())
}
