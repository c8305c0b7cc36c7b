//! Calls for locked ecash: funding, checking, redeeming.

mod find;
mod fund;
mod lost;
mod redeem;
mod verify;

pub(super) use self::fund::{Fate, fate, store};
pub use self::lost::LostFunding;
pub(super) use self::lost::Word;

use cdk::nuts::{Id, KeySet, MintInfo, State};
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};

use super::finish::ledger_sum;
use super::outputs::states;
use super::{Runner, fault};
use crate::chain::{Funded, Release};
use crate::figures::{RECEIVED, RETURNED};
use crate::job::Done;
use crate::locked::job::{LockedDone, LockedJob};

pub(super) const MALFORMED: BackendError =
    BackendError::Rejected(RefusalCode::Malformed, Consumed::No);

/// The most Ys in one NUT-07 request.
const STATES_MAX: usize = 200;

impl Runner {
    pub(super) async fn run_locked(&self, job: LockedJob) -> Result<LockedDone, BackendError> {
        match job {
            LockedJob::Plan {
                mints,
                budget,
                agreed,
            } => self.plan_locked(&mints, budget, agreed).await,
            LockedJob::Fund {
                plan,
                locked,
                again,
                latest,
            } => {
                let wallet = self.wallet(&plan.place).await?;
                let funded = locked.funded().map_err(|_| BackendError::Unknown)?;
                self.fund_locked(&wallet, &plan, &funded, (again, latest))
                    .await
            }
            LockedJob::Forget { plan } => {
                let wallet = self.wallet(&plan.place).await?;
                fund::forget(&wallet, &plan).await
            }
            LockedJob::Verify {
                place,
                locked,
                agreed,
                misfit,
            } => {
                let opening = verify::Opening {
                    place,
                    funded: locked.funded().map_err(|_| MALFORMED)?,
                    agreed,
                    misfit,
                };
                self.verify_opening(opening).await
            }
            LockedJob::VerifyStep {
                place,
                locked,
                step,
                pieces,
                agreed,
            } => {
                let wallet = self.wallet(&place).await?;
                let funded = locked.funded().map_err(|_| MALFORMED)?;
                let most = self.max_fee_ppk(&wallet, agreed);
                verify::step(&wallet, funded, step, pieces.into(), most).await
            }
            LockedJob::Check {
                place,
                locked,
                from,
                ..
            } => {
                let wallet = self.wallet(&place).await?;
                let funded = locked.funded().map_err(|_| BackendError::Unknown)?;
                let spent = spent_from(&wallet, &funded, from).await?;
                let time_s = self.time_at(&wallet).await?;
                Ok(LockedDone::Checked { time_s, spent })
            }
            LockedJob::Redeem {
                place,
                locked,
                batch,
                pieces,
                right,
                seed,
                again,
            } => {
                let wallet = self.wallet(&place).await?;
                let funded = locked.funded().map_err(|_| BackendError::Unknown)?;
                let redeem = redeem::Redeem {
                    place,
                    funded,
                    batch,
                    pieces: pieces.into(),
                    right,
                    seed,
                    again,
                };
                redeem::redeem(&wallet, redeem, self.limit.saturating_mul(super::MANY)).await
            }
            LockedJob::Sign {
                locked,
                from,
                key,
                known,
            } => {
                let funded = locked.funded().map_err(|_| BackendError::Unknown)?;
                let key = key.key().map_err(|_| BackendError::Unknown)?;
                let purse = locked.funding.purse_key();
                let signed = blocking(move || Release::sign(purse, &funded, from, &key)).await?;
                let release = signed.ok_or(BackendError::Unknown)?;
                Ok(LockedDone::Signed(release.asking(known).encode().into()))
            }
            LockedJob::CheckRelease { locked, release } => {
                let funded = locked.funded().map_err(|_| BackendError::Unknown)?;
                let purse = locked.funding.purse_key();
                let check = move || {
                    let most = funded.funding.steps;
                    let release = Release::decode(purse, &funded, most, &release)?;
                    release.verify(&funded)
                };
                match blocking(check).await? {
                    Ok(()) => Ok(LockedDone::Good),
                    Err(_) => Err(MALFORMED),
                }
            }
            LockedJob::Find {
                place,
                seed,
                from,
                payer,
            } => {
                let wallet = self.wallet(&place).await?;
                let found = find::find(&wallet, &place, &seed, (from, payer));
                let (last, blind, _) = found.await?;
                Ok(LockedDone::Found(last, blind))
            }
            LockedJob::Ledger { place, payer } => {
                let wallet = self.wallet(&place).await?;
                let kind = if payer { RETURNED } else { RECEIVED };
                match ledger_sum(&wallet, place.operation(), kind).await? {
                    Done::Sum(sum) => Ok(LockedDone::Sum(sum)),
                    _ => Err(BackendError::Unknown),
                }
            }
        }
    }
}

impl Runner {
    /// The mint's time in seconds since 1970: one question for all who ask while it is under way, as
    /// all purses do after a start. Source: NUT-06.
    pub(super) async fn time_at(&self, wallet: &Wallet) -> Result<u64, BackendError> {
        let asked = async {
            let info = mint_info(wallet).await?;
            self.time_of(wallet, &info).await
        };
        self.times.ask(&wallet.mint_url.to_string(), asked).await
    }

    pub(super) async fn time_of(
        &self,
        wallet: &Wallet,
        info: &MintInfo,
    ) -> Result<u64, BackendError> {
        match info.time {
            Some(time) => Ok(time),
            None => {
                let time = self.wallets.mint_time(&wallet.mint_url).await;
                time.ok_or(BackendError::Transient)
            }
        }
    }
}

/// Arithmetic on many points, off the loop.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| BackendError::Transient)
}

/// What the mint says of itself, asked now: a wallet's copy may be hours old.
pub(super) async fn mint_info(wallet: &Wallet) -> Result<MintInfo, BackendError> {
    let info = wallet.mint_connector().get_mint_info().await;
    info.map_err(fault::of_reading)
}

/// The keyset, from the mint where the wallet does not know it.
pub(super) async fn keyset(wallet: &Wallet, id: Id) -> Result<KeySet, BackendError> {
    match wallet.keyset(id).await {
        Ok(set) => Ok(set),
        Err(_) => {
            super::keysets(wallet, true).await?;
            let set = wallet.keyset(id).await;
            set.map_err(|_| BackendError::Rejected(RefusalCode::UnknownKeyset, Consumed::No))
        }
    }
}

/// The numbers of the proofs from `from` on that the mint has seen spent, or is about to.
pub(super) async fn spent_from(
    wallet: &Wallet,
    funded: &Funded,
    from: u64,
) -> Result<Vec<u64>, BackendError> {
    let numbers: Vec<u64> = (from..funded.proofs()).collect();
    let states = states_of(wallet, funded, &numbers).await?;
    let gone = states
        .into_iter()
        .filter(|(_, state)| *state != State::Unspent);
    Ok(gone.map(|(number, _)| number).collect())
}

/// The proofs of these numbers with their states at the mint.
pub(super) async fn states_of(
    wallet: &Wallet,
    funded: &Funded,
    numbers: &[u64],
) -> Result<Vec<(u64, State)>, BackendError> {
    let mut all = Vec::new();
    for numbers in numbers.chunks(STATES_MAX) {
        let ys = numbers
            .iter()
            .map(|number| {
                let secret = funded.secret(*number)?;
                cdk::dhke::hash_to_curve(secret.as_bytes()).ok()
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(BackendError::Unknown)?;
        let found = states(wallet, ys).await?;
        all.extend(numbers.iter().copied().zip(found));
    }
    Ok(all)
}
