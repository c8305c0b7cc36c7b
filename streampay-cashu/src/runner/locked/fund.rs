//! A payer's purse of locked ecash: money reserved in the wallet, then swapped into locked proofs.

use cdk::nuts::{MintInfo, Proof, PublicKey, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::ProofInfo;
use streampay_core::backend::{BackendError, RefusalCode};

use super::{keyset, mint_info};
use crate::chain::{Funded, Piece};
use crate::figures::{self, LEFT};
use crate::job::{Listed, Plan};
use crate::locked::REFUND_WINDOW_S;
use crate::locked::job::{Agreed, LockedDone};
use crate::runner::fund::{Tick, forget_spent, is_held, planned_inputs, planned_ys, reserved};
use crate::runner::outputs::{Outputs, premint_of, premints, states};
use crate::runner::swap::{Swapped, swap};
use crate::runner::swap_in::unspent;
use crate::runner::{MANY, OWN_STORE, Runner, keysets};

const UNFIT: BackendError = BackendError::Fatal(RefusalCode::NoCommonMethod);

impl Runner {
    /// The mints that there is money at and that do what is needed, with what they say of
    /// themselves. Where none does, why.
    async fn fit_mints(
        &self,
        mints: &[Listed],
        agreed: Agreed,
    ) -> Result<Vec<(Listed, MintInfo)>, BackendError> {
        let mut fit = Vec::new();
        let mut why = None;
        for listed in mints {
            let place = &listed.place;
            let Ok(wallet) = self.wallet(place).await else {
                continue;
            };
            if !self.wallets.trusts_locks(&wallet.mint_url) {
                why = why.or(Some(UNFIT));
                continue;
            }
            let balance = wallet.total_balance().await.map_err(|_| OWN_STORE)?;
            if balance.to_u64() == 0 && reserved(&wallet, place).await?.is_empty() {
                continue;
            }
            match mint_info(&wallet).await {
                Ok(info) if self.fits(&wallet, &info, agreed.chain) => {
                    fit.push((listed.clone(), info))
                }
                Ok(_) => why = why.or(Some(UNFIT)),
                // It may be fit once it answers.
                Err(error) => why = Some(error),
            }
        }
        match (fit.is_empty(), why) {
            (true, Some(why)) => Err(why),
            (true, None) if mints.is_empty() => Err(UNFIT),
            (true, None) => Err(BackendError::Fatal(RefusalCode::InsufficientFunds)),
            (false, _) => Ok(fit),
        }
    }

    pub(super) async fn plan_locked(
        &self,
        mints: &[Listed],
        budget: u64,
        agreed: Agreed,
    ) -> Result<LockedDone, BackendError> {
        let fit = self.fit_mints(mints, agreed).await?;
        let listed: Vec<Listed> = fit.iter().map(|(listed, _)| listed.clone()).collect();
        let plan = self.plan(&listed, Tick::Face, budget).await?;
        let wallet = self.wallet(&plan.place).await?;
        let chosen = fit.iter().find(|(listed, _)| listed.place == plan.place);
        let (_, info) = chosen.ok_or(BackendError::Unknown)?;
        let time_s = self.time_of(&wallet, info).await?;
        let id = plan.keyset().map_err(|_| BackendError::Unknown)?;
        let set = keyset(&wallet, id).await?;
        if set.input_fee_ppk > self.max_fee_ppk(&wallet, agreed) {
            return Err(BackendError::Fatal(RefusalCode::FeeTooHigh));
        }
        if set.verify_id().is_err() {
            return Err(BackendError::Fatal(RefusalCode::UnknownKeyset));
        }
        let needed = time_s
            .saturating_add(agreed.lock_s)
            .saturating_add(REFUND_WINDOW_S);
        match set.final_expiry {
            Some(expiry) if expiry != 0 && expiry < needed => Err(UNFIT),
            _ => Ok(LockedDone::Planned {
                plan,
                time_s,
                ppk: set.input_fee_ppk,
            }),
        }
    }
}

impl Runner {
    /// Swaps what the plan reserved. Run again it finds what the first run did: the mint's signatures
    /// on the same outputs. `latest` is the mint's time from which the plan is stale.
    pub(super) async fn fund_locked(
        &self,
        wallet: &Wallet,
        plan: &Plan,
        funded: &Funded,
        (again, latest): (bool, u64),
    ) -> Result<LockedDone, BackendError> {
        let limit = self.limit.saturating_mul(MANY);
        let (outputs, locked) = outputs_of(wallet, plan, funded).await?;

        // Where the inputs are gone from the wallet an earlier run has swapped them: look at the mint
        // before at them.
        let inputs = planned_inputs(wallet, plan).await;
        let again = again || inputs.is_err();
        let before = match again {
            true => outputs.restore(wallet).await?,
            false => None,
        };
        let end = match (before, inputs) {
            (Some(proofs), _) => Fate::Ours(proofs),
            (None, Err(_)) => self.fate_of_gone(wallet, plan, &outputs, latest).await?,
            (None, Ok(_)) if again && self.time_at(wallet).await? > latest => {
                fate(wallet, plan, &outputs).await?
            }
            (None, Ok(inputs)) => match swap(wallet, inputs, &outputs, again, limit).await? {
                Swapped::Ours { proofs, .. } => Fate::Ours(proofs),
                Swapped::OtherKeyset => {
                    keysets(wallet, true).await?;
                    match again {
                        true => fate(wallet, plan, &outputs).await?,
                        false => Fate::Undone,
                    }
                }
                Swapped::SpentElsewhere => Fate::Lost,
            },
        };
        let mut proofs = match end {
            Fate::Ours(proofs) => proofs,
            Fate::Undone => return Ok(LockedDone::PlanAgain),
            Fate::Lost => return Err(BackendError::Fatal(RefusalCode::AlreadySpent)),
        };
        let change = proofs.split_off(locked);
        store(wallet, plan, change, again).await?;
        let pieces: Option<Vec<[u8; crate::chain::PIECE]>> = proofs.iter().map(Piece::of).collect();
        // A mint that leaves out its proof makes money that no payee takes: it comes home again.
        let pieces = pieces.ok_or(BackendError::Unknown)?;
        note(wallet, plan, &proofs).await?;
        Ok(LockedDone::Funded(pieces.concat().into()))
    }
}

impl Runner {
    /// What became of a plan whose inputs are not reserved any more: an earlier run has swapped them, or
    /// somebody else has let them go. What the wallet still has and the mint calls unspent was not swapped.
    /// What is spent is ours by the mint's next answer, or once it is late, lost by its word. What is
    /// neither, for the wallet has forgotten it, is asked for until then.
    async fn fate_of_gone(
        &self,
        wallet: &Wallet,
        plan: &Plan,
        outputs: &Outputs,
        latest: u64,
    ) -> Result<Fate, BackendError> {
        let is_held = is_held(wallet, plan).await?;
        let is_late = self.time_at(wallet).await? > latest;
        match fate(wallet, plan, outputs).await? {
            Fate::Undone if is_held => Ok(Fate::Undone),
            Fate::Undone | Fate::Lost if is_late => Ok(Fate::Lost),
            Fate::Undone | Fate::Lost => Err(BackendError::Unknown),
            end => Ok(end),
        }
    }
}

/// The outputs of a plan, those of the purse first, and how many they are.
pub(super) async fn outputs_of(
    wallet: &Wallet,
    plan: &Plan,
    funded: &Funded,
) -> Result<(Outputs, usize), BackendError> {
    let set = keyset(wallet, funded.keyset).await?;
    let mut all = (0..funded.proofs())
        .map(|number| {
            let secret = funded.secret(number)?;
            let blinding = funded.blinding(number)?;
            premint_of(secret, blinding, funded.keyset, funded.amount(number)?).ok()
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(BackendError::Unknown)?;
    let locked = all.len();
    let change_seed = plan.seed.child(0, b"change");
    all.extend(premints(&change_seed, funded.keyset, &plan.change)?);
    Ok((Outputs::of(all, set), locked))
}

/// What became of a plan that an earlier run may have carried out.
pub(in crate::runner) enum Fate {
    Ours(Vec<Proof>),
    /// Nothing happened.
    Undone,
    /// Its inputs are spent, and the mint restores none of its outputs.
    Lost,
}

/// Of a plan whose outputs the mint has just said it did not sign: that alone is no proof.
pub(in crate::runner) async fn fate(
    wallet: &Wallet,
    plan: &Plan,
    outputs: &Outputs,
) -> Result<Fate, BackendError> {
    let states = states(wallet, planned_ys(plan)?).await?;
    if states.iter().all(|state| *state == State::Unspent) {
        return Ok(Fate::Undone);
    }
    if !states.contains(&State::Spent) {
        return Err(BackendError::Transient);
    }
    let restored = outputs.restore(wallet).await?;
    Ok(restored.map_or(Fate::Lost, Fate::Ours))
}

/// After a funding that failed for good, and once that is durable: inputs that are spent leave the
/// wallet, the others are spendable again. How many were spent, or are gone.
pub(super) async fn forget(wallet: &Wallet, plan: &Plan) -> Result<LockedDone, BackendError> {
    let states = states(wallet, planned_ys(plan)?).await?;
    let spent = states.iter().filter(|state| **state == State::Spent);
    // What the wallet does not have any more is not back either, whatever the mint calls it.
    let held = wallet.localstore.get_proofs_by_ys(planned_ys(plan)?).await;
    let gone = states
        .len()
        .saturating_sub(held.map_err(|_| OWN_STORE)?.len());
    let spent = u64::try_from(spent.count().max(gone)).unwrap_or(u64::MAX);
    forget_spent(wallet, plan).await?;
    Ok(LockedDone::Sum(spent))
}

/// Change spendable, inputs gone: in one write. The locked proofs are in our own records.
pub(in crate::runner) async fn store(
    wallet: &Wallet,
    plan: &Plan,
    change: Vec<Proof>,
    again: bool,
) -> Result<(), BackendError> {
    let ys = change
        .iter()
        .map(|proof| proof.y().ok())
        .collect::<Option<Vec<PublicKey>>>()
        .ok_or(BackendError::Unknown)?;
    // An earlier run may have stored it, and the user may have spent it since, or be about to: what the
    // wallet knows stays as it is.
    let keep = match again && !ys.is_empty() {
        true => {
            let known = wallet.localstore.get_proofs_by_ys(ys.clone()).await;
            let known = known.map_err(|_| OWN_STORE)?;
            let unspent = unspent(wallet, &ys).await?;
            let new = |y: &PublicKey| known.iter().all(|info| info.y != *y);
            let both = ys.iter().zip(unspent);
            both.map(|(y, unspent)| unspent && new(y)).collect()
        }
        false => vec![true; change.len()],
    };
    let added = (change.into_iter().zip(keep))
        .filter(|(_, keep)| *keep)
        .map(|(proof, _)| {
            let operation = Some(plan.place.operation());
            let (mint, unit) = (wallet.mint_url.clone(), wallet.unit.clone());
            ProofInfo::new_with_operations(proof, mint, State::Unspent, unit, None, operation)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BackendError::Unknown)?;
    let update = wallet
        .localstore
        .update_proofs(added, planned_ys(plan)?)
        .await;
    update.map_err(|_| OWN_STORE)
}

pub(super) async fn note(
    wallet: &Wallet,
    plan: &Plan,
    proofs: &[Proof],
) -> Result<(), BackendError> {
    let ys = proofs
        .iter()
        .map(|proof| proof.y().ok())
        .collect::<Option<Vec<PublicKey>>>()
        .ok_or(BackendError::Unknown)?;
    let face = proofs.iter().fold(0_u64, |sum, proof| {
        sum.saturating_add(proof.amount.to_u64())
    });
    let left = face.saturating_add(plan.fee);
    figures::note(wallet, plan.place.operation(), LEFT, left, plan.fee, ys)
        .await
        .map_err(|_| OWN_STORE)
}
