//! What each way to pay costs beyond the price: from the mint's fees and the wallet as they are now.

use cdk::Amount;
use cdk::nuts::{KeySet, Proof};
use cdk::wallet::Wallet;
use streampay_cashu::chain::{PROOFS_MAX, STEP_PROOFS_MAX, STEPS_MAX};
use streampay_cashu::{LockedParams, LockedPolicy, redeeming_fee};
use streampay_core::units::Msat;
use streampay_core::wire::{Method, Terms};

use super::payment;
use crate::home::Home;
use crate::pay::{Pay, mints_of};

/// What a purse of one way to pay costs, at the mint where it would be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// The way.
    pub pay: Pay,
    /// The mint.
    pub mint: String,
    /// One payment.
    pub payment: Msat,
    /// How many payments a purse is for.
    pub payments: u64,
    /// Opening it: the fee of splitting the wallet's ecash, once a purse.
    pub opening: Msat,
    /// What the payer pays on top of each payment.
    pub fee: Msat,
    /// The payee's fee for redeeming all payments of a purse, out of them.
    pub redeeming: Msat,
    /// Taking the whole purse back unused.
    pub refund: Msat,
    /// For how long it is locked at most, in seconds; 0 where it is not.
    pub lock_s: u64,
    per_payment: u64,
    ppk: u64,
}

/// The most proofs in one swap that brings locked ecash home, as streampay-cashu cuts them.
const BATCH: u64 = 200;
/// The most tokens of a purse of plain tokens. Spec: cashu-swap.
const TOKENS_MAX: u64 = 64;
/// The wallet's own limit of a purse's proofs.
const OUTPUTS_MAX: u64 = PROOFS_MAX;

/// What the ways of `wanted` that the stream takes and its mint can do would cost, in that order;
/// nothing of a mint that does not answer.
pub async fn costs(home: &Home, terms: &Terms, wanted: &[Pay], budget: Msat) -> Vec<Costs> {
    let mut all = Vec::new();
    for pay in wanted {
        let mut methods = terms.methods.iter();
        let Some(method) = methods.find(|method| method.name == pay.method()) else {
            continue;
        };
        if let Some(costs) = costs_of(home, *pay, method, payment(terms), budget).await {
            all.push(costs);
        }
    }
    all
}

async fn costs_of(
    home: &Home,
    pay: Pay,
    method: &Method,
    payment: Msat,
    budget: Msat,
) -> Option<Costs> {
    let mint = mint_of(home, method).await?;
    let report = home.wallet.report_on(&mint, false).await.ok()?;
    let mut modes = report.modes.iter();
    if !modes.any(|mode| mode.runs && mode.name == pay.name()) {
        return None;
    }
    let wallet = home.wallet.wallet_at(&mint).await.ok()?;
    let set = wallet.active_keyset().await.ok()?;
    let (fee, most, lock_s) = match pay {
        Pay::Swap => (redeeming_fee(&wallet, payment).await.ok()?, TOKENS_MAX, 0),
        Pay::Chain | Pay::P2pk => {
            let lock_s = LockedParams::decode(&method.params).ok()?.lock_s();
            let steps = LockedPolicy::default().steps_max;
            (Msat::ZERO, steps.min(STEPS_MAX), lock_s)
        }
    };
    let face = payment.saturating_plus(fee).sat_floor();
    let per_payment = proofs_in(&set, face)?;
    if pay != Pay::Swap && per_payment > u64::try_from(STEP_PROOFS_MAX).ok()? {
        return None;
    }
    let purse = Purse {
        face,
        most: most
            .min(budget.sat_floor().checked_div(payment.sat_floor())?)
            .min(OUTPUTS_MAX.checked_div(per_payment)?),
        budget: budget.sat_floor(),
    };
    let (payments, opening) = purse.drawn_from(&wallet, &set).await?;
    let mut costs = Costs {
        pay,
        mint,
        payment,
        payments,
        opening: sat(opening),
        fee,
        redeeming: Msat::ZERO,
        refund: Msat::ZERO,
        lock_s,
        per_payment,
        ppk: set.input_fee_ppk,
    };
    if pay != Pay::Swap {
        (costs.redeeming, costs.refund) = (costs.to_redeem(payments), costs.to_refund(payments));
    }
    Some(costs)
}

impl Costs {
    /// True where each payment costs at most `share` percent of itself on top.
    #[must_use]
    pub fn is_within(&self, share: u64) -> bool {
        let allowed = self.payment.msat().saturating_mul(share);
        self.fee.msat().saturating_mul(100) <= allowed
    }

    /// All fees, the payer's and the payee's, of a session with this one purse that ends after so
    /// many payments, in peace.
    #[must_use]
    pub fn after(&self, payments: u64) -> Msat {
        let ended = match self.pay {
            Pay::Swap => self.fee.times(payments).unwrap_or(Msat::MAX),
            Pay::Chain | Pay::P2pk => self
                .to_redeem(payments)
                .saturating_plus(self.to_refund(self.payments.saturating_sub(payments))),
        };
        self.opening.saturating_plus(ended)
    }

    /// The payee's fee for `payments`: its batches waste least, so that only the last is rounded.
    fn to_redeem(&self, payments: u64) -> Msat {
        sat(fee_of(payments.saturating_mul(self.per_payment), self.ppk))
    }

    /// The payer's fee for taking `payments` back. Source: NUT-02.
    fn to_refund(&self, payments: u64) -> Msat {
        let proofs = payments.saturating_mul(self.per_payment);
        let whole = proofs.checked_div(BATCH).unwrap_or_default();
        let rest = proofs.checked_rem(BATCH).unwrap_or_default();
        let fee = whole.saturating_mul(fee_of(BATCH, self.ppk));
        let fee = fee.saturating_add(fee_of(rest, self.ppk));
        // No swap gives less than nothing: what is worth less than its fee is lost.
        let worth = self.payment.times(payments).unwrap_or(Msat::MAX);
        sat(fee).min(worth)
    }
}

impl core::fmt::Display for Costs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let in_all = self.payment.saturating_plus(self.fee);
        let held = in_all.times(self.payments).unwrap_or(Msat::MAX);
        write!(f, "by {}, ", self.pay.name())?;
        match self.fee.is_zero() {
            true => write!(f, "without a fee on top of each")?,
            false => write!(f, "plus the mint's fee of {} each", self.fee)?,
        }
        let (opening, refund) = (self.opening, self.refund);
        write!(f, ". Opening a purse of {held} costs {opening}")?;
        if self.lock_s > 0 {
            let (hours, minutes) = (self.lock_s / 3600, self.lock_s % 3600 / 60);
            write!(f, " and locks it for at most {hours} h {minutes} min")?;
        }
        write!(f, "; all of it back, unused, costs {refund}")?;
        if !self.redeeming.is_zero() {
            let redeeming = self.redeeming;
            write!(f, "; redeeming all of it costs the streamer {redeeming}")?;
        }
        Ok(())
    }
}

/// The mint of the method's list where the wallet has most; the first where it has nothing.
async fn mint_of(home: &Home, method: &Method) -> Option<String> {
    let mints = mints_of(method);
    let held = home.wallet.balance().await.ok()?;
    let has = |mint: &String| {
        let mut held = held.iter();
        let at = held.find(|at| at.mint.to_string() == *mint);
        at.map_or(Msat::ZERO, |at| at.spendable)
    };
    let mut best: Option<&String> = None;
    for mint in &mints {
        if best.is_none_or(|best| has(mint) > has(best)) {
            best = Some(mint);
        }
    }
    best.cloned()
}

/// What a purse may be.
struct Purse {
    face: u64,
    most: u64,
    budget: u64,
}

impl Purse {
    /// How many payments the wallet would pay for, and the fee of its inputs: chosen as the
    /// backend chooses them.
    async fn drawn_from(&self, wallet: &Wallet, set: &KeySet) -> Option<(u64, u64)> {
        let unspent = wallet.get_unspent_proofs().await.ok()?;
        let fees = wallet.get_keyset_fees_and_amounts().await.ok()?;
        let total = sum_of(&unspent);
        let affordable = total.min(self.budget).checked_div(self.face)?;
        for payments in (1..=self.most.min(affordable)).rev() {
            let target = Amount::from(self.face.saturating_mul(payments));
            let chosen = Wallet::select_proofs(target, unspent.clone(), &vec![set.id], &fees, true);
            let Ok(inputs) = chosen else { continue };
            let mut ppk = 0_u64;
            for input in &inputs {
                let of_input = wallet.get_keyset_fees_by_id(input.keyset_id).await.ok()?;
                ppk = ppk.saturating_add(of_input);
            }
            let fee = ppk.div_ceil(1000);
            let worth = sum_of(&inputs).saturating_sub(fee);
            let payable = worth.min(self.budget.saturating_sub(fee));
            let payable = payable.checked_div(self.face)?.min(self.most);
            if payable >= payments {
                return Some((payable, fee));
            }
        }
        // An empty wallet, or one that is too small: what it would be from a single proof.
        Some((self.most, fee_of(1, set.input_fee_ppk)))
    }
}

fn sum_of(proofs: &[Proof]) -> u64 {
    let amounts = proofs.iter().map(|proof| proof.amount.to_u64());
    amounts.fold(0, u64::saturating_add)
}

/// How many proofs the shortest split of `amount` has; none where the keys cannot make it.
fn proofs_in(set: &KeySet, amount: u64) -> Option<u64> {
    let (mut rest, mut count) = (amount, 0_u64);
    let mut amounts: Vec<u64> = set.keys.iter().map(|(amount, _)| amount.to_u64()).collect();
    amounts.sort_unstable();
    for part in amounts.into_iter().rev().filter(|part| *part > 0) {
        count = count.checked_add(rest.checked_div(part)?)?;
        rest = rest.checked_rem(part)?;
    }
    (rest == 0 && count > 0).then_some(count)
}

/// Source: NUT-02, fees.
const fn fee_of(inputs: u64, ppk: u64) -> u64 {
    inputs.saturating_mul(ppk).div_ceil(1000)
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}
