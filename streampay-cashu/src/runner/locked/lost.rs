//! Fundings that failed by the mint's word: whether it has made them after all.

use std::time::Duration;

use cdk::nuts::State;
use cdk::wallet::Wallet;
use cdk::wallet::types::Transaction;
use minicbor::bytes::ByteVec;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, PurseKey, Unix};

use super::find::{find, find_all};
use super::fund::{note, outputs_of, store};
use super::redeem::{Redeem, redeem};
use super::states_of;
use crate::chain::{Funded, PIECE, Piece};
use crate::figures::{KIND, PURSE, RETURNED};
use crate::locked::drain::{Cut, Drain, total_fee};
use crate::locked::job::{LockedDone, Right, Secret32};
use crate::locked::payer::{locked_of, secrets::Secrets};
use crate::locked::record::{Meta, Planned, Records, Stage, put_meta};
use crate::locked::{REFUND_AFTER_S, REFUND_WINDOW_S, pieces_of};
use crate::machine::msat;
use crate::runner::lost_split::{end_of_split, is_of_tokens, lost_split};
use crate::runner::{MANY, OWN_STORE, Runner};

/// What has become of a payer's purse that was never opened: its funding was asked for, its inputs are
/// spent, and the mint knew nothing of what they were to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostFunding {
    /// The mint still knows nothing of it. Its records keep all that it takes to ask again.
    Unknown,
    /// The mint has made it: it is the payer's from then on, by the mint's clock.
    Locked(Unix),
    /// This much came home with this call. Of the rest the mint says that somebody else spent it: it is
    /// asked again.
    Part(Msat),
    /// It is home. This much came with this call, nothing where an earlier one brought it.
    Home(Msat),
    /// A day after its locks gave way, or tokens were to be made, the mint still does not give it back.
    GivenUp {
        /// This much came home with this call.
        came: Msat,
        /// What is lost, by the mint's word: all that left the wallet for the purse and did not come back.
        lost: Msat,
    },
}

impl LostFunding {
    /// What to write into the [records](RestoredPurse) of its purse: where this is its end, that nobody
    /// asks for it again; else nothing.
    #[must_use]
    pub fn end(self, records: &RestoredPurse) -> ChangeSet {
        let mut delta = end_of_split(records);
        let records = match self {
            Self::Unknown | Self::Locked(_) | Self::Part(_) => return ChangeSet::new(),
            Self::Home(_) | Self::GivenUp { .. } if !delta.is_empty() => return delta,
            Self::Home(_) | Self::GivenUp { .. } => Records::read(records),
        };
        if let Ok(Some(Meta::Payer(mut meta))) = records.map(|records| records.meta)
            && let Stage::Lost(_, ended) = &mut meta.stage
        {
            *ended = Some(true);
            put_meta(&mut delta, &Meta::Payer(meta));
        }
        delta
    }
}

/// How often one run makes its batches anew for what the mint says of its keysets. Chosen: a sound one
/// says another thing once.
const ANEW_MAX: u8 = 3;

impl Runner {
    /// For the records of a payer's purse: where its funding is lost, asks the mint for it again
    /// (NUT-09), and brings it home: what is locked once its locks have given way. None for any other purse, and where
    /// its [end](LostFunding::end) is written.
    ///
    /// # Errors
    /// Those of the mint and of the wallet's store: ask again later.
    pub async fn find_lost(
        &self,
        key: PurseKey,
        records: &RestoredPurse,
    ) -> Result<Option<LostFunding>, BackendError> {
        if let Some((plan, since)) = lost_split(records) {
            return self.find_split(&plan, since).await.map(Some);
        }
        if is_of_tokens(records) {
            return Ok(None);
        }
        let records = Records::read(records).map_err(|_| BackendError::Unknown)?;
        let Some(Meta::Payer(meta)) = records.meta else {
            return Ok(None);
        };
        let Stage::Lost(planned, None) = &meta.stage else {
            return Ok(None);
        };
        let (plan, unknown) = (&planned.plan, BackendError::Unknown);
        let wallet = self.wallet(&plan.place).await?;
        let locked = locked_of(key, &meta, planned).ok_or(unknown)?;
        let funded = locked.funded().map_err(|_| unknown)?;
        let (outputs, of_purse) = outputs_of(&wallet, plan, &funded).await?;
        let Some(mut proofs) = outputs.restore(&wallet).await? else {
            let lost = plan.outputs().fold(0, u64::saturating_add);
            let given_up = self.given_up(&wallet, planned, (0, lost)).await?;
            return Ok(Some(given_up.unwrap_or(LostFunding::Unknown)));
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
        let (before, _) = returned(&wallet, planned).await?;
        let limit = self.limit.saturating_mul(MANY);
        let unknown_fees = refund(&wallet, planned, &funded, &pieces, limit).await?;
        let (after, fees) = returned(&wallet, planned).await?;
        let came = after.saturating_sub(before);
        let face = proofs.iter().map(|proof| proof.amount.to_u64());
        let face = face.fold(0, u64::saturating_add);
        let missing = face.saturating_sub(after).saturating_sub(fees);
        if missing <= unknown_fees {
            return Ok(Some(LostFunding::Home(msat(came))));
        }
        let given_up = self.given_up(&wallet, planned, (came, missing)).await?;
        Ok(Some(
            given_up.unwrap_or_else(|| LostFunding::Part(msat(came))),
        ))
    }

    /// The end of what the mint does not give back, once it is time: for as long after the locktime as the
    /// purse's keyset was to live on.
    async fn given_up(
        &self,
        wallet: &Wallet,
        planned: &Planned,
        (came, lost): (u64, u64),
    ) -> Result<Option<LostFunding>, BackendError> {
        let until = planned.locktime.saturating_add(REFUND_WINDOW_S);
        let (came, lost) = (msat(came), msat(lost));
        let is_time = self.time_at(wallet).await? >= until;
        Ok(is_time.then_some(LostFunding::GivenUp { came, lost }))
    }
}

/// What is home of the purse, and what the mint took for that, as far as it is known.
async fn returned(wallet: &Wallet, planned: &Planned) -> Result<(u64, u64), BackendError> {
    let lines = wallet.list_transactions(None).await;
    let name = planned.plan.place.operation().to_string();
    let of = |line: &Transaction, key| line.metadata.get(key).cloned();
    let (mut home, mut fees) = (0_u64, 0_u64);
    for line in lines.map_err(|_| OWN_STORE)? {
        let is_it = of(&line, PURSE).as_ref() == Some(&name);
        if is_it && of(&line, KIND).as_deref() == Some(RETURNED) {
            home = home.saturating_add(line.amount.to_u64());
            fees = fees.saturating_add(line.fee.to_u64());
        }
    }
    Ok((home, fees))
}

/// All of it, by the payer's own key. What earlier runs did is found, and what they swapped is left out; no
/// batch has a number that one of theirs had, which may have been cut otherwise. Gives the most that the mint
/// may have taken of which the wallet's ledger does not know.
async fn refund(
    wallet: &Wallet,
    planned: &Planned,
    funded: &Funded,
    pieces: &[u8],
    limit: Duration,
) -> Result<u64, BackendError> {
    let plan = &planned.plan;
    let key = Secrets(&plan.seed).refund().ok_or(BackendError::Unknown)?;
    let mut cut = Cut {
        until: funded.proofs(),
        ppk: planned.ppk,
        all: true,
    };
    let (mut drain, mut anew) = (Drain::default(), 0_u8);
    find_all(wallet, &plan.place, (&plan.seed, true), &mut drain).await?;
    let numbers: Vec<u64> = (0..cut.until).collect();
    let states = states_of(wallet, funded, &numbers).await?;
    let spent = states.iter().filter(|(_, state)| *state == State::Spent);
    drain.spent = spent.map(|(number, _)| *number).collect();
    let (mut denied, before) = (false, !drain.spent.is_empty());
    // What a mint says that it takes, and by which nothing was swapped, may be a lie.
    let mut taken = planned.ppk;
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
        let is_other = match redeem(wallet, job, limit).await? {
            LockedDone::Swapped => {
                drain.home();
                taken = taken.max(cut.ppk);
                continue;
            }
            LockedDone::SomeSpent(spent) => {
                drain.some_spent(&spent);
                denied = true;
                continue;
            }
            LockedDone::OtherKeysets(keysets) => {
                let other: Option<ByteVec> = keysets.active();
                drain.other_keyset(other)
            }
            LockedDone::OtherFee(keysets) => {
                let ppk = keysets.ppk_of(&plan.keyset);
                let other = ppk.filter(|ppk| *ppk != cut.ppk);
                cut.ppk = other.unwrap_or(cut.ppk);
                drain.remake();
                other.is_some()
            }
            // The search was told less than there is.
            LockedDone::NumberUsed => {
                drain.remake();
                true
            }
            _ => return Err(BackendError::Unknown),
        };
        anew = anew.saturating_add(1);
        if !is_other || anew > ANEW_MAX {
            return Err(BackendError::Transient);
        }
    }
    if denied {
        // Somebody did it meanwhile: another run of this, for all that is known.
        find(wallet, &plan.place, &plan.seed, (1, true)).await?;
    }
    match denied || before {
        true => Ok(total_fee(funded.proofs(), taken)),
        false => Ok(0),
    }
}
