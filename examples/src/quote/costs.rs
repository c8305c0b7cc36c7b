//! What each way to pay costs beyond the price: from the mint's fees and the wallet as they are now.

use streampay_cashu::chain::STEPS_MAX;
use streampay_cashu::{LockedParams, LockedPolicy, PurseQuote, best_mint, purse_quote};
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
    /// One payment, at the mint's price.
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
    quote: PurseQuote,
}

/// The most tokens of a purse of plain tokens. Spec: cashu-swap.
const TOKENS_MAX: u64 = 64;

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
    let (most, lock_s) = match pay {
        Pay::Btc => return None,
        Pay::Swap => (TOKENS_MAX, 0),
        Pay::Chain | Pay::P2pk => {
            let lock_s = LockedParams::decode(&method.params).ok()?.lock_s();
            (LockedPolicy::default().steps_max.min(STEPS_MAX), lock_s)
        }
    };
    let mut mints = mints_of(method);
    // As the session will choose.
    if pay != Pay::Swap {
        mints.retain(|mint| home.wallet.trusts_locks_at(mint.url()));
    }
    let ticks = (payment, most);
    let best = best_mint(&*home.wallet, &mints, ticks, budget).await;
    let mint = best.ok().flatten()?;
    let report = home.wallet.report_on(mint.url(), false).await.ok()?;
    let mut modes = report.modes.iter();
    if !modes.any(|mode| mode.runs && mode.name == pay.name()) {
        return None;
    }
    let wallet = home.wallet.wallet_of(mint.url()).await.ok()?;
    let quote = purse_quote(&wallet, mint, pay != Pay::Swap, ticks, budget).await;
    let quote = quote.ok()?;
    Some(Costs {
        pay,
        mint: mint.url().to_owned(),
        payment: quote.tick,
        payments: quote.ticks,
        opening: quote.opening,
        fee: quote.fee,
        redeeming: quote.redeem(quote.ticks),
        refund: quote.refund(quote.ticks),
        lock_s,
        quote,
    })
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
        let unused = self.payments.saturating_sub(payments);
        let on_top = self.fee.times(payments).unwrap_or(Msat::MAX);
        let home = self
            .quote
            .redeem(payments)
            .saturating_plus(self.quote.refund(unused));
        self.opening.saturating_plus(on_top).saturating_plus(home)
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
