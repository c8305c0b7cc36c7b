//! A payer's purse: money reserved in the wallet, then split into tokens.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cdk::Amount;
use cdk::nuts::{KeySet, Proof, ProofsMethods, PublicKey, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::ProofInfo;
use streampay_core::backend::{BackendError, RefusalCode};

use super::locked::{Fate, fate};
use super::outputs::Outputs;
use super::swap::{Swapped, swap};
use super::{NO_MINT, OWN_STORE, Runner, fault, keysets, random_seed};
use crate::chain::STEP_PROOFS_MAX;
use crate::coin::Coin;
use crate::fee::{fee_of, split, token_amounts};
use crate::figures::{self, LEFT};
use crate::job::{Done, Listed, Place, Plan};

/// The most outputs of one swap; mints refuse more than 1000.
const OUTPUTS_MAX: usize = 768;
const POOR: BackendError = BackendError::Fatal(RefusalCode::InsufficientFunds);
const DEAR: BackendError = BackendError::Fatal(RefusalCode::FeeTooHigh);

impl Runner {
    /// Reserves money for tokens of one tick each, at the listed mint where there is enough for the
    /// most of them; where there is for as many, at the cheaper one, else the first. All of it costs
    /// at most `budget`.
    pub(crate) async fn plan(
        &self,
        mints: &[Listed],
        tick: impl Fn(u64) -> Tick,
        budget: u64,
    ) -> Result<Plan, BackendError> {
        let mut best: Option<(Arc<Wallet>, &Listed, Rank)> = None;
        let mut dear = false;
        for listed in mints {
            let place = &listed.place;
            let Ok(wallet) = self.wallet(place).await else {
                continue;
            };
            if self.wallets.holds_back(&wallet.mint_url) {
                continue;
            }
            let (tick, limit) = (tick(listed.tick), listed.limit(budget));
            let reserved = reserved(&wallet, place).await?;
            if !reserved.is_empty() {
                let plan = draw(&wallet, place, reserved, tick, limit).await?;
                return Ok(plan);
            }
            let most = self.wallets.max_fee_ppk(&wallet.mint_url);
            let set = wallet.active_keyset().await;
            if set.is_ok_and(|set| set.input_fee_ppk > most) {
                dear = true;
                continue;
            }
            let balance = wallet.total_balance().await.map_err(|_| OWN_STORE)?;
            let balance = balance.to_u64();
            let rank = rank(balance, (listed.tick, listed.count), budget);
            if balance > 0 && best.as_ref().is_none_or(|(_, _, known)| rank > *known) {
                best = Some((wallet, listed, rank));
            }
        }
        let Some((wallet, listed, _)) = best else {
            return Err(match (mints.is_empty(), dear) {
                (true, _) => NO_MINT,
                (false, true) => DEAR,
                (false, false) => POOR,
            });
        };
        let (tick, limit) = (tick(listed.tick), listed.limit(budget));
        let place = &listed.place;
        for _ in 0..RESERVE_TRIES {
            let inputs = select(&wallet, tick, limit).await?;
            let ys = inputs.ys().map_err(|_| OWN_STORE)?;
            let operation = place.operation();
            // Another purse may have been quicker; the store reserves all of them or none.
            if wallet
                .localstore
                .reserve_proofs(ys, &operation)
                .await
                .is_ok()
            {
                let plan = draw(&wallet, place, inputs, tick, limit).await?;
                return Ok(plan);
            }
        }
        Err(BackendError::Transient)
    }
}

const RESERVE_TRIES: usize = 4;

/// How good a mint is for a purse: how many ticks there is money for, then how cheap one is.
pub(super) type Rank = (u64, Reverse<u64>);

pub(super) fn rank(balance: u64, (tick, count): (u64, u64), budget: u64) -> Rank {
    let ticks = balance.min(budget).checked_div(tick);
    (ticks.unwrap_or_default().min(count), Reverse(tick))
}

impl Listed {
    const fn limit(&self, budget: u64) -> Limit {
        Limit {
            count: self.count,
            budget,
        }
    }
}

pub(super) async fn reserved(wallet: &Wallet, place: &Place) -> Result<Vec<Proof>, BackendError> {
    let operation = place.operation();
    let infos = wallet.localstore.get_reserved_proofs(&operation).await;
    let infos = infos.map_err(|_| OWN_STORE)?;
    let here = infos.into_iter().filter(|info| {
        info.mint_url == wallet.mint_url
            && info.unit == wallet.unit
            && info.state == State::Reserved
    });
    Ok(here.map(|info| info.proof).collect())
}

/// Proofs for as many tokens as the wallet can pay for, at most `count`.
pub(super) async fn select(
    wallet: &Wallet,
    tick: Tick,
    limit: Limit,
) -> Result<Vec<Proof>, BackendError> {
    let set = wallet.active_keyset().await.map_err(fault::of_reading)?;
    let token = token_of(&set, tick)?;
    let face: u64 = token.iter().sum();
    let unspent = wallet.get_unspent_proofs().await.map_err(|_| OWN_STORE)?;
    let total = unspent.total_amount().map_err(|_| OWN_STORE)?.to_u64();
    let fees = wallet.get_keyset_fees_and_amounts().await;
    let fees = fees.map_err(fault::of_reading)?;
    let affordable = total.min(limit.budget).checked_div(face);
    let affordable = affordable.unwrap_or_default();
    let mut tokens = limit.count.min(affordable).min(tokens_max(&token));
    while tokens > 0 {
        let (all, wanted) = (unspent.clone(), Amount::from(face.saturating_mul(tokens)));
        let chosen = Wallet::select_proofs(wanted, all, &vec![set.id], &fees, true);
        // Of proofs whose keyset is not active any more it leaves out the fee.
        if let Ok(inputs) = chosen
            && limit.tokens_from(wallet, &inputs, face).await? >= tokens
        {
            return Ok(inputs);
        }
        if let Some(inputs) = largest(wallet, &unspent, (limit, face, tokens)).await? {
            return Ok(inputs);
        }
        tokens = tokens.saturating_sub(1);
    }
    Err(limit.poor(total))
}

/// The fewest proofs that pay for so many tokens of `face` and for themselves, of whatever keyset; none where
/// all do not.
async fn largest(
    wallet: &Wallet,
    unspent: &[Proof],
    (limit, face, tokens): (Limit, u64, u64),
) -> Result<Option<Vec<Proof>>, BackendError> {
    let mut left = unspent.to_vec();
    left.sort_by_key(|proof| Reverse(proof.amount));
    let wanted = face.saturating_mul(tokens);
    let (mut chosen, mut sum) = (Vec::new(), 0_u64);
    for proof in left {
        sum = sum.saturating_add(proof.amount.to_u64());
        chosen.push(proof);
        if sum >= wanted && limit.tokens_from(wallet, &chosen, face).await? >= tokens {
            return Ok(Some(chosen));
        }
    }
    Ok(None)
}

/// What one tick's proofs come to, in the unit.
#[derive(Clone, Copy)]
pub(crate) enum Tick {
    /// The tick, after the fee of redeeming them by themselves, and the most that may be.
    Net(u64, u64),
    /// The tick, before any fee: they are redeemed together with others.
    Face(u64),
}

impl Tick {
    /// For a fee of at most so many thousandths of it, and never more than it.
    pub(super) fn net(net: u64, max_fee_permille: u64) -> Self {
        let most = u128::from(net) * u128::from(max_fee_permille.min(1_000)) / 1_000;
        Self::Net(net, u64::try_from(most).unwrap_or(net))
    }
}

pub(super) fn token_of(set: &KeySet, tick: Tick) -> Result<Vec<u64>, BackendError> {
    let denominations = denominations(set);
    match tick {
        Tick::Net(tick, most) => token_amounts(tick, set.input_fee_ppk, &denominations, most),
        Tick::Face(tick) => {
            split(tick, &denominations).filter(|amounts| amounts.len() <= STEP_PROOFS_MAX)
        }
    }
    .ok_or(DEAR)
}

pub(super) fn denominations(set: &KeySet) -> Vec<u64> {
    set.keys.iter().map(|(amount, _)| amount.to_u64()).collect()
}

pub(super) fn tokens_max(token: &[u64]) -> u64 {
    let fit = OUTPUTS_MAX.checked_div(token.len()).unwrap_or_default();
    u64::try_from(fit).unwrap_or_default()
}

/// How many tokens at most, and what they may cost in all, the fee of splitting included.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) count: u64,
    pub(super) budget: u64,
}

impl Limit {
    /// Why a wallet with so much pays for no token: it holds too little, or may not spend more.
    const fn poor(self, total: u64) -> BackendError {
        if total > self.budget {
            BackendError::Fatal(RefusalCode::OverBudget)
        } else {
            POOR
        }
    }

    /// How many tokens of `face` the inputs pay for, after the fee of splitting them.
    pub(super) async fn tokens_from(
        self,
        wallet: &Wallet,
        inputs: &[Proof],
        face: u64,
    ) -> Result<u64, BackendError> {
        let worth = worth(wallet, inputs).await?;
        let total = inputs.iter().map(|input| input.amount.to_u64());
        let fee = total.fold(0, u64::saturating_add).saturating_sub(worth);
        let payable = worth.min(self.budget.saturating_sub(fee));
        Ok(payable
            .checked_div(face)
            .unwrap_or_default()
            .min(self.count))
    }
}

pub(super) async fn worth(wallet: &Wallet, inputs: &[Proof]) -> Result<u64, BackendError> {
    let mut sum = 0_u64;
    let mut ppk = 0_u64;
    for input in inputs {
        let of_input = wallet.get_keyset_fees_by_id(input.keyset_id).await;
        ppk = ppk.saturating_add(of_input.map_err(fault::of_reading)?);
        sum = sum.saturating_add(input.amount.to_u64());
    }
    Ok(sum.saturating_sub(fee_of(ppk)))
}

/// The plan for `inputs`, which are reserved.
async fn draw(
    wallet: &Wallet,
    place: &Place,
    inputs: Vec<Proof>,
    tick: Tick,
    limit: Limit,
) -> Result<Plan, BackendError> {
    let set = wallet.active_keyset().await.map_err(fault::of_reading)?;
    let token = token_of(&set, tick)?;
    let face: u64 = token.iter().sum();
    let worth = worth(wallet, &inputs).await?;
    let total = inputs.total_amount().map_err(|_| OWN_STORE)?.to_u64();
    let affordable = limit.tokens_from(wallet, &inputs, face).await?;
    let count = affordable.min(tokens_max(&token));
    if count == 0 {
        return Err(limit.poor(total));
    }
    let rest = worth.saturating_sub(count.saturating_mul(face));
    let change = split(rest, &denominations(&set)).ok_or(DEAR)?;
    let ys = inputs.ys().map_err(|_| OWN_STORE)?;
    Ok(Plan {
        place: place.clone(),
        keyset: set.id.to_bytes().into(),
        seed: random_seed(),
        inputs: ys.iter().map(|y| y.to_bytes().into()).collect(),
        token,
        count,
        change,
        fee: total.saturating_sub(worth),
    })
}

/// Splits what the plan reserved. Run again it finds what the first run did: the tokens in the
/// wallet, or the mint's signatures on the same outputs.
pub(crate) async fn fund(
    wallet: &Wallet,
    plan: &Plan,
    again: bool,
    limit: Duration,
) -> Result<Done, BackendError> {
    let keyset = plan.keyset().map_err(|_| BackendError::Unknown)?;
    let tokens = usize::try_from(plan.count).unwrap_or_default();
    let mut amounts: Vec<u64> = Vec::new();
    (0..tokens).for_each(|_| amounts.extend(&plan.token));
    let token_outputs = amounts.len();
    amounts.extend(&plan.change);
    let outputs = Outputs::derive(wallet, &plan.seed, keyset, &amounts).await?;
    let ys = outputs.ys()?;

    let token_ys = ys.get(..token_outputs).unwrap_or_default().to_vec();
    let stored = wallet.localstore.get_proofs_by_ys(token_ys.clone()).await;
    let stored = stored.map_err(|_| OWN_STORE)?;
    if stored.len() == token_outputs {
        let proofs: Option<Vec<Proof>> = token_ys
            .iter()
            .map(|y| stored.iter().find(|info| info.y == *y))
            .map(|info| info.map(|info| info.proof.clone()))
            .collect();
        let proofs = proofs.ok_or(OWN_STORE)?;
        return funded(wallet, plan, &proofs, token_ys).await;
    }
    let fate = match planned_inputs(wallet, plan).await {
        Ok(inputs) => match swap(wallet, inputs, &outputs, again, limit).await? {
            Swapped::Ours { proofs, .. } => Fate::Ours(proofs),
            Swapped::OtherKeyset => {
                keysets(wallet, true).await?;
                Fate::Undone
            }
            Swapped::SpentElsewhere => Fate::Lost,
        },
        // Whoever let go of them: what an earlier run did, the mint knows.
        Err(_) => match outputs.restore(wallet).await? {
            Some(proofs) => Fate::Ours(proofs),
            None => match fate(wallet, plan, &outputs).await? {
                // What the wallet has lost cannot be planned with again, and may be in the tokens after all.
                Fate::Undone if !is_held(wallet, plan).await? => return Err(BackendError::Unknown),
                fate => fate,
            },
        },
    };
    let mut proofs = match fate {
        Fate::Ours(proofs) => proofs,
        Fate::Undone => return Ok(Done::PlanAgain),
        Fate::Lost => return Err(BackendError::Fatal(RefusalCode::AlreadySpent)),
    };
    let change = proofs.split_off(token_outputs);
    store(wallet, plan, &proofs, change).await?;
    funded(wallet, plan, &proofs, token_ys).await
}

pub(super) async fn planned_inputs(
    wallet: &Wallet,
    plan: &Plan,
) -> Result<Vec<Proof>, BackendError> {
    let wanted: HashSet<_> = plan.inputs.iter().map(|y| **y).collect();
    let mut inputs = reserved(wallet, &plan.place).await?;
    inputs.retain(|proof| proof.y().is_ok_and(|y| wanted.contains(&y.to_bytes())));
    if inputs.len() == wanted.len() {
        // The same request byte for byte, whatever order the store gives.
        inputs.sort_by_key(|proof| proof.secret.to_bytes());
        Ok(inputs)
    } else {
        Err(BackendError::Fatal(RefusalCode::InsufficientFunds))
    }
}

/// Tokens reserved, change spendable, inputs gone: in one write.
async fn store(
    wallet: &Wallet,
    plan: &Plan,
    tokens: &[Proof],
    change: Vec<Proof>,
) -> Result<(), BackendError> {
    let operation = plan.place.operation();
    let info = |proof: Proof, state, used_by| {
        ProofInfo::new_with_operations(
            proof,
            wallet.mint_url.clone(),
            state,
            wallet.unit.clone(),
            used_by,
            Some(operation),
        )
    };
    let tokens = tokens.iter().cloned();
    let added = tokens
        .map(|proof| info(proof, State::Reserved, Some(operation)))
        .chain(
            change
                .into_iter()
                .map(|proof| info(proof, State::Unspent, None)),
        )
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BackendError::Unknown)?;
    let removed = planned_ys(plan)?;
    let update = wallet.localstore.update_proofs(added, removed).await;
    update.map_err(|_| OWN_STORE)
}

async fn funded(
    wallet: &Wallet,
    plan: &Plan,
    proofs: &[Proof],
    token_ys: Vec<PublicKey>,
) -> Result<Done, BackendError> {
    let coins: Option<Vec<Coin>> = proofs.iter().map(Coin::from_proof).collect();
    let coins = coins.ok_or(BackendError::Unknown)?;
    let face = crate::coin::sum(&coins).ok_or(BackendError::Unknown)?;
    let keysets = keysets(wallet, false).await?;
    let operation = plan.place.operation();
    let left = face.saturating_add(plan.fee);
    let noted = figures::note(wallet, operation, LEFT, left, plan.fee, token_ys).await;
    noted.map_err(|_| OWN_STORE)?;
    Ok(Done::Funded(coins, keysets))
}

/// Inputs that somebody else spent leave the wallet, the others become spendable again.
pub(super) async fn forget_spent(wallet: &Wallet, plan: &Plan) -> Result<(), BackendError> {
    let ys = planned_ys(plan)?;
    let states = super::outputs::states(wallet, ys.clone()).await?;
    let spent = ys.into_iter().zip(states);
    let spent = spent.filter(|(_, state)| *state == State::Spent);
    let spent = spent.map(|(y, _)| y).collect();
    let store = &wallet.localstore;
    let update = store.update_proofs(Vec::new(), spent).await;
    update.map_err(|_| OWN_STORE)?;
    let freed = store.release_proofs(&plan.place.operation()).await;
    freed.map_err(|_| OWN_STORE)
}

/// True where the wallet has all that was to go in.
pub(super) async fn is_held(wallet: &Wallet, plan: &Plan) -> Result<bool, BackendError> {
    let ys = planned_ys(plan)?;
    let held = wallet.localstore.get_proofs_by_ys(ys.clone()).await;
    Ok(held.map_err(|_| OWN_STORE)?.len() == ys.len())
}

pub(super) fn planned_ys(plan: &Plan) -> Result<Vec<PublicKey>, BackendError> {
    let ys = plan.inputs.iter().map(|y| PublicKey::from_slice(&**y));
    ys.collect::<Result<_, _>>()
        .map_err(|_| BackendError::Unknown)
}
