//! Looking at a mint before a session rests on it: what it says of itself, and once for each of its
//! keysets what it does with ecash that somebody else tries to take.

use streampay_cashu::{AcceptedMint, MintFault, MintPolicy};
use streampay_core::units::Msat;

use crate::error::AppError;
use crate::home::Home;
use crate::pay::Pay;
use crate::quote::Costs;
use crate::report::Report;
use crate::wallet::{LockKind, WalletError};

const fn nuts(pay: Pay) -> &'static [u8] {
    match pay {
        Pay::Chain => MintPolicy::CHAIN,
        Pay::P2pk => MintPolicy::P2PK,
        Pay::Swap => MintPolicy::SWAP,
        Pay::Btc => &[],
    }
}

const fn lock(pay: Pay) -> Option<LockKind> {
    match pay {
        Pay::Chain => Some(LockKind::Htlc),
        Pay::P2pk => Some(LockKind::P2pk),
        Pay::Swap | Pay::Btc => None,
    }
}

/// Payer: before a first payment by `costs`. What trying the mint took from the wallet.
///
/// # Errors
/// [`AppError::UnfitMint`] where nothing should be paid there; those of the wallet.
pub async fn before_paying(home: &Home, costs: &Costs, report: Report) -> Result<Msat, AppError> {
    let mint = &costs.mint;
    match look(home, mint, nuts(costs.pay)).await? {
        Some(Some(fault)) => return Err(unfit(mint, fault)),
        Some(None) => {}
        // The session asks it again.
        None => return Ok(Msat::ZERO),
    }
    let Some(kind) = lock(costs.pay) else {
        return Ok(Msat::ZERO);
    };
    match tried(home, mint, kind, report).await? {
        (Some(false), _) => Err(unfit(mint, MintFault::Locks)),
        (_, cost) => Ok(cost),
    }
}

/// Payee: those of `mints` that may be offered for `pay`. It is told which are left out, and why.
///
/// # Errors
/// [`AppError::UnfitMint`] where none is left; those of the wallet.
pub async fn before_serving(
    home: &Home,
    mints: Vec<AcceptedMint>,
    pay: &[Pay],
    report: Report,
) -> Result<Vec<AcceptedMint>, AppError> {
    let ecash = pay.iter().copied().filter(|pay| pay.is_ecash());
    // What the least demanding way needs: for the others a session finds another mint, or way.
    let Some(needed) = ecash.map(nuts).min_by_key(|nuts| nuts.len()) else {
        return Ok(mints);
    };
    let (mut fit, mut last) = (Vec::new(), None);
    for mint in mints {
        match fault_of(home, mint.url(), needed, pay, report).await? {
            None => fit.push(mint),
            Some(fault) => {
                let url = mint.url();
                report.tell(&format!(
                    "{url} is left out: {fault}. Nobody can pay you there"
                ));
                report.say(
                    "mint_left_out",
                    serde_json::json!({"mint": url, "why": fault.to_string()}),
                );
                last = Some(unfit(url, fault));
            }
        }
    }
    match last {
        Some(unfit) if fit.is_empty() => Err(unfit),
        _ => Ok(fit),
    }
}

async fn fault_of(
    home: &Home,
    mint: &str,
    needed: &'static [u8],
    pay: &[Pay],
    report: Report,
) -> Result<Option<MintFault>, AppError> {
    match look(home, mint, needed).await? {
        Some(None) => {}
        Some(fault) => return Ok(fault),
        None => {
            report.tell(&format!(
                "the mint at {mint} does not answer. Until it does, nobody can pay there"
            ));
            let trusted = home.wallet.trusts_locks_at(mint);
            return Ok((!trusted).then_some(MintFault::Locks));
        }
    }
    for kind in pay.iter().copied().filter_map(lock) {
        if let (Some(false), _) = tried(home, mint, kind, report).await? {
            return Ok(Some(MintFault::Locks));
        }
    }
    Ok(None)
}

/// What is first wrong with a mint by its own word; none where it does not answer.
async fn look(
    home: &Home,
    mint: &str,
    nuts: &'static [u8],
) -> Result<Option<Option<MintFault>>, AppError> {
    match home.wallet.faults_of(mint, nuts).await {
        Ok(faults) => Ok(Some(faults.first().copied())),
        Err(WalletError::Untried(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a mint's locks hold, where that could be found out, and what finding out has cost now.
async fn tried(
    home: &Home,
    mint: &str,
    kind: LockKind,
    report: Report,
) -> Result<(Option<bool>, Msat), AppError> {
    let wallet = &home.wallet;
    if let Ok(Some(known)) = wallet.known_of(mint, kind).await {
        return Ok((Some(known.hold), Msat::ZERO));
    }
    let before = wallet.spendable(mint).await?;
    if before.is_zero() {
        report.tell(&format!(
            "whether {mint} keeps what is locked with it is not tried yet: that takes a little of \
             your own money there"
        ));
        return Ok((None, Msat::ZERO));
    }
    let tried = wallet.try_locks(mint, kind).await;
    let cost = before.saturating_minus(wallet.spendable(mint).await?);
    let hold = match tried {
        Ok(tried) => Some(tried.hold),
        Err(error @ (WalletError::Untried(_) | WalletError::InsufficientFunds(..))) => {
            report.tell(&format!("the locks of {mint} are not tried: {error}"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    if hold == Some(true) {
        report.tell(&format!(
            "{mint} keeps what is locked with it: tried once, for {cost} of its fees"
        ));
    }
    report.say(
        "locks_tried",
        serde_json::json!({"mint": mint, "hold": hold, "cost_msat": cost.msat()}),
    );
    Ok((hold, cost))
}

fn unfit(mint: &str, fault: MintFault) -> AppError {
    AppError::UnfitMint {
        mint: mint.to_owned(),
        fault,
    }
}
