//! What a purse would cost, from the mint's fees and the wallet as they are now: drawn as the runner
//! draws it, and nothing is reserved.

use std::str::FromStr;

use cdk::mint_url::MintUrl;
use cdk::nuts::CurrencyUnit;
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::units::Msat;

use super::fund::{Limit, Tick, rank, select, token_of, tokens_max, worth};
use super::{OWN_STORE, Wallets, fault};
use crate::fee::fee_of;
use crate::locked::drain::total_fee;
use crate::machine::{msat, whole_sat};
use crate::params::AcceptedMint;

/// What a purse costs beside what is paid from it. Source: NUT-02.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurseQuote {
    /// What is paid for each tick: the tick at this mint's price, in whole satoshi.
    pub tick: Msat,
    /// Payer: on top of each tick, so that the payee gets all of it; `cashu-swap` alone.
    pub fee: Msat,
    /// For how many ticks the purse would be.
    pub ticks: u64,
    /// Payer: splitting the wallet's ecash, once a purse.
    pub opening: Msat,
    locked: bool,
    /// Proofs of a tick.
    proofs: u64,
    ppk: u64,
}

impl PurseQuote {
    /// Payee: of redeeming so many ticks, out of them. Its batches waste least, so that only the last
    /// one's fee is rounded up. Nothing in `cashu-swap`, where each tick brings its own.
    #[must_use]
    pub fn redeem(&self, ticks: u64) -> Msat {
        let proofs = self.proofs.saturating_mul(ticks);
        match self.locked {
            true => msat(fee_of(proofs.saturating_mul(self.ppk))),
            false => Msat::ZERO,
        }
    }

    /// Payer: of bringing so many ticks home unused. Plain tokens that nobody has seen are home
    /// already.
    #[must_use]
    pub fn refund(&self, ticks: u64) -> Msat {
        if !self.locked {
            return Msat::ZERO;
        }
        let fee = msat(total_fee(self.proofs.saturating_mul(ticks), self.ppk));
        // No swap gives less than nothing: what is worth less than its fee is lost.
        fee.min(self.tick.times(ticks).unwrap_or(Msat::MAX))
    }
}

/// What a purse of up to `ticks_max` ticks of `tick`, which costs at most `budget`, would cost at
/// `mint`, whose wallet is `wallet`. `locked` for `cashu-chain` and `cashu-p2pk`. Of an empty wallet
/// it is the purse that a single proof would be split into.
///
/// # Errors
/// [`BackendError::Transient`] where the mint does not answer, [`BackendError::Fatal`] where the tick
/// is nothing, or the mint's keys or fee do not allow it.
pub async fn purse_quote(
    wallet: &Wallet,
    mint: &AcceptedMint,
    locked: bool,
    (tick, ticks_max): (Msat, u64),
    budget: Msat,
) -> Result<PurseQuote, BackendError> {
    let credited = whole_sat(tick).ok_or(BackendError::Fatal(RefusalCode::WrongAmount))?;
    let net = mint.price_of(credited);
    // What it would cost, whatever that is.
    let kind = |net| match locked {
        true => Tick::Face(net),
        false => Tick::net(net, 1_000),
    };
    let set = wallet.active_keyset().await.map_err(fault::of_reading)?;
    let token = token_of(&set, kind(net))?;
    let face: u64 = token.iter().sum();
    let fits = mint.ticks_max(credited).min(tokens_max(&token));
    let afford = budget.sat_floor().checked_div(face).unwrap_or_default();
    let limit = Limit {
        count: ticks_max.min(fits).min(afford),
        budget: budget.sat_floor(),
    };
    let (ticks, opening) = match select(wallet, kind(net), limit).await {
        Ok(inputs) => {
            let ticks = limit.tokens_from(wallet, &inputs, face).await?;
            let total = inputs.iter().map(|input| input.amount.to_u64());
            let total = total.fold(0, u64::saturating_add);
            (ticks, total.saturating_sub(worth(wallet, &inputs).await?))
        }
        Err(BackendError::Fatal(_)) => (limit.count, fee_of(set.input_fee_ppk)),
        Err(error) => return Err(error),
    };
    Ok(PurseQuote {
        tick: msat(net),
        fee: msat(face.saturating_sub(net)),
        ticks,
        opening: msat(opening),
        locked,
        proofs: u64::try_from(token.len()).unwrap_or(u64::MAX),
        ppk: set.input_fee_ppk,
    })
}

/// The mint of the payee's list where a purse would be opened: where the wallets hold the most ticks,
/// of as many the cheaper, of as cheap the first. The first of all where they hold nothing.
///
/// # Errors
/// [`BackendError::Unknown`] where a wallet's own store fails.
pub async fn best_mint<'a>(
    wallets: &dyn Wallets,
    mints: &'a [AcceptedMint],
    (tick, ticks_max): (Msat, u64),
    budget: Msat,
) -> Result<Option<&'a AcceptedMint>, BackendError> {
    let tick = whole_sat(tick).unwrap_or(1);
    let mut best = None;
    for mint in mints {
        let unit = CurrencyUnit::from_str(mint.unit());
        let (Ok(url), Ok(unit)) = (MintUrl::from_str(mint.url()), unit) else {
            continue;
        };
        let Some(wallet) = wallets.wallet(&url, &unit).await else {
            continue;
        };
        if wallets.holds_back(&url) {
            continue;
        }
        let balance = wallet.total_balance().await.map_err(|_| OWN_STORE)?;
        let (price, count) = (mint.price_of(tick), ticks_max.min(mint.ticks_max(tick)));
        let budget = budget.sat_floor();
        let rank = rank(balance.to_u64(), (price, count), budget);
        if best.as_ref().is_none_or(|(_, known)| rank > *known) {
            best = Some((mint, rank));
        }
    }
    Ok(best.map(|(mint, _)| mint))
}
