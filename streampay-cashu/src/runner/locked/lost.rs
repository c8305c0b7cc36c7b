//! Fundings that failed by the mint's word: whether it has made them after all.

use std::time::Duration;

use cdk::nuts::{Proof, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::Transaction;
use minicbor::bytes::ByteVec;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, PurseKey, Unix};

use super::find::{find, find_all};
use super::fund::{Fate, fate, note, outputs_of, store};
use super::redeem::{Redeem, redeem};
use super::states_of;
use crate::chain::{Funded, PIECE, Piece};
use crate::figures::{self, KIND, PURSE, RETURNED};
use crate::job::Plan;
use crate::locked::drain::{Cut, Drain, total_fee};
use crate::locked::job::{LockedDone, Right, Secret32};
use crate::locked::payer::{locked_of, secrets::Secrets};
use crate::locked::record::{Meta, Planned, Records, Stage, put_meta};
use crate::locked::{REFUND_AFTER_S, REFUND_WINDOW_S, pieces_of};
use crate::machine::msat;
use crate::machine::record::Sought;
use crate::runner::fund::is_held;
use crate::runner::lost_split::{end_of_split, is_of_tokens, lost_split};
use crate::runner::outputs::Outputs;
use crate::runner::{MANY, OWN_STORE, Runner, keysets};

/// What has become of a payer's purse that was never opened: its funding was asked for, its inputs are
/// spent, and the mint knew nothing of what they were to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostFunding {
    /// The mint still knows nothing of it, at this time of its clock. Its records keep all that it takes to
    /// ask again.
    Unknown(Unix),
    /// The mint has made it: it is the payer's from then on, by the mint's clock.
    Locked(Unix),
    /// This much came home with this call. Of the rest the mint says that somebody else spent it: it is
    /// asked again.
    Part(Msat),
    /// It is home. This much came with this call, nothing where an earlier one brought it.
    Home(Msat),
    /// A day after its locks gave way, or the first time that it denied tokens when it was asked for them
    /// again, the mint still does not give it back, as it said before. Asked for again, it may be found yet.
    GivenUp {
        /// This much came home with this call.
        came: Msat,
        /// What is lost, by the mint's word: all that left the wallet for the purse and did not come back.
        lost: Msat,
    },
}

impl LostFunding {
    /// What to write into the [records](RestoredPurse) of its purse, so that it comes to an end: nothing
    /// where they know.
    #[must_use]
    pub fn end(self, records: &RestoredPurse) -> ChangeSet {
        let found = match self {
            Self::Unknown(at) => Sought::Denied(at.0),
            Self::Part(_) => Sought::Denied(0),
            Self::Locked(_) => return ChangeSet::new(),
            Self::Home(_) => Sought::Home,
            Self::GivenUp { .. } => Sought::GivenUp,
        };
        let mut delta = end_of_split(records, found);
        if is_of_tokens(records) {
            return delta;
        }
        if let Ok(Some(Meta::Payer(mut meta))) = Records::read(records).map(|records| records.meta)
            && let Stage::Lost(_, sought) = &mut meta.stage
            && let Some(found) = found.after(*sought)
        {
            *sought = Some(found);
            put_meta(&mut delta, &Meta::Payer(meta));
        }
        delta
    }
}

/// What a mint says in the end of a funding that it has denied.
pub(in crate::runner) enum Word {
    Ours(Vec<Proof>),
    /// None where nothing is new.
    Other(Option<LostFunding>),
}

/// How often one run makes its batches anew for what the mint says of its keysets. Chosen: a sound one
/// says another thing once.
const ANEW_MAX: u8 = 3;

impl Runner {
    /// For the records of a payer's purse: where its funding is lost, asks the mint for it again
    /// (NUT-09), and brings it home: what is locked once its locks have given way. None for any other purse,
    /// where it is [written](LostFunding::end) that it is home, and where one that was given up is still
    /// denied.
    ///
    /// # Errors
    /// Those of the mint and of the wallet's store: ask again later.
    pub async fn find_lost(
        &self,
        key: PurseKey,
        records: &RestoredPurse,
    ) -> Result<Option<LostFunding>, BackendError> {
        if let Some((plan, sought)) = lost_split(records) {
            return self.find_split(&plan, sought).await;
        }
        if is_of_tokens(records) {
            return Ok(None);
        }
        let records = Records::read(records).map_err(|_| BackendError::Unknown)?;
        let Some(Meta::Payer(meta)) = records.meta else {
            return Ok(None);
        };
        let Stage::Lost(planned, sought) = &meta.stage else {
            return Ok(None);
        };
        if *sought == Some(Sought::Home) {
            return Ok(None);
        }
        let (plan, unknown) = (&planned.plan, BackendError::Unknown);
        let wallet = self.wallet(&plan.place).await?;
        let locked = locked_of(key, &meta, planned).ok_or(unknown)?;
        let funded = locked.funded().map_err(|_| unknown)?;
        let (outputs, of_purse) = outputs_of(&wallet, plan, &funded).await?;
        let day_after = planned.locktime.saturating_add(REFUND_WINDOW_S);
        let asked = match outputs.restore(&wallet).await? {
            Some(proofs) => Word::Ours(proofs),
            None => {
                let until = (*sought, day_after);
                self.word_on(&wallet, plan, &outputs, until).await?
            }
        };
        let mut proofs = match asked {
            Word::Ours(proofs) => proofs,
            Word::Other(found) => return Ok(found),
        };
        let change = proofs.split_off(of_purse);
        store(&wallet, plan, change, true).await?;
        note(&wallet, plan, &proofs).await?;
        let until = planned.locktime.saturating_add(REFUND_AFTER_S);
        let time = self.time_at(&wallet).await?;
        if time < until {
            return Ok(Some(LostFunding::Locked(Unix(until))));
        }
        let (came, missing) = self.bring_home(&wallet, planned, &funded, &proofs).await?;
        if missing == 0 {
            return Ok(Some(LostFunding::Home(msat(came))));
        }
        Ok(match sought {
            Some(Sought::GivenUp) if came == 0 => None,
            // That somebody else has spent it is believed at the second time.
            Some(_) if time >= day_after => Some(LostFunding::GivenUp {
                came: msat(came),
                lost: msat(missing),
            }),
            _ => Some(LostFunding::Part(msat(came))),
        })
    }

    /// How much of it comes with this run, and how much is missing then.
    async fn bring_home(
        &self,
        wallet: &Wallet,
        planned: &Planned,
        funded: &Funded,
        proofs: &[Proof],
    ) -> Result<(u64, u64), BackendError> {
        let pieces: Option<Vec<[u8; PIECE]>> = proofs.iter().map(Piece::of).collect();
        let pieces = pieces.ok_or(BackendError::Unknown)?.concat();
        let (before, _) = returned(wallet, planned).await?;
        let limit = self.limit.saturating_mul(MANY);
        let unknown_fees = refund(wallet, planned, funded, &pieces, limit).await?;
        let (after, fees) = returned(wallet, planned).await?;
        let face = proofs.iter().map(|proof| proof.amount.to_u64());
        let face = face.fold(0, u64::saturating_add);
        let gap = face.saturating_sub(after);
        let missing = gap.saturating_sub(fees);
        // Of a batch whose answer was lost, and that was found, the ledger has no fee.
        let ppk = keysets(wallet, false).await?.ppk_of(&planned.plan.keyset);
        let is_fee = |ppk| after > 0 && gap == total_fee(funded.proofs(), ppk);
        let came = after.saturating_sub(before);
        if missing > unknown_fees && !ppk.is_some_and(is_fee) {
            return Ok((came, missing));
        }
        if missing > 0 {
            let ys: Option<Vec<_>> = proofs.iter().map(|proof| proof.y().ok()).collect();
            let ys = ys.ok_or(BackendError::Unknown)?;
            let operation = planned.plan.place.operation();
            let noted = figures::note(wallet, operation, RETURNED, 0, missing, ys).await;
            noted.map_err(|_| OWN_STORE)?;
        }
        Ok((came, 0))
    }

    /// Of a funding whose outputs the mint has just said it did not sign. That is believed for good from
    /// `until` on, where it said so at an earlier time too, says of what went in that it is spent, and
    /// restores nothing when asked after that.
    pub(in crate::runner) async fn word_on(
        &self,
        wallet: &Wallet,
        plan: &Plan,
        outputs: &Outputs,
        (sought, until): (Option<Sought>, u64),
    ) -> Result<Word, BackendError> {
        if sought == Some(Sought::GivenUp) {
            return Ok(Word::Other(None));
        }
        let time = self.time_at(wallet).await?;
        if sought.is_none() || time < until {
            return Ok(Word::Other(Some(LostFunding::Unknown(Unix(time)))));
        }
        let lost = plan.outputs().fold(0, u64::saturating_add);
        let found = match fate(wallet, plan, outputs).await? {
            Fate::Ours(proofs) => return Ok(Word::Ours(proofs)),
            Fate::Lost => LostFunding::GivenUp {
                came: Msat::ZERO,
                lost: msat(lost),
            },
            // It was never asked for, or the mint has gone back in time.
            Fate::Undone if is_held(wallet, plan).await? => LostFunding::Home(Msat::ZERO),
            Fate::Undone => LostFunding::Unknown(Unix(time)),
        };
        Ok(Word::Other(Some(found)))
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
