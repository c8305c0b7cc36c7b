//! Paying what was planned.

use streampay_core::units::Msat;

use super::{Part, PartState, Payout};
use crate::error::AppError;
use crate::money::Consent;
use crate::wallet::{Payment, To, WalletError, WalletFolder, WithdrawQuote};

/// Goes on with the payout that was cut short, if there is one.
///
/// # Errors
/// As [`pay`].
pub async fn finish(
    wallet: &WalletFolder,
    max_fee: Option<Msat>,
) -> Result<Option<Payout>, AppError> {
    let mut all = Payout::all(wallet)?.into_iter();
    let Some(mut payout) = all.find(|payout| !payout.is_done()) else {
        return Ok(None);
    };
    pay(wallet, &mut payout, max_fee).await?;
    Ok(Some(payout))
}

/// Pays every part that is not paid, each for fees of at most `max_fee`, or else a twentieth or 10
/// sat. One that cannot be paid keeps no other waiting.
///
/// # Errors
/// [`AppError`] of the first part that is not paid; [`WalletError::Unsettled`] where it may be.
pub async fn pay(
    wallet: &WalletFolder,
    payout: &mut Payout,
    max_fee: Option<Msat>,
) -> Result<(), AppError> {
    let mut failed = None;
    for at in 0..payout.parts.len() {
        if let Err(error) = pay_part(wallet, payout, at, max_fee).await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn pay_part(
    wallet: &WalletFolder,
    payout: &mut Payout,
    at: usize,
    max_fee: Option<Msat>,
) -> Result<(), AppError> {
    let Some(part) = payout.parts.get(at).cloned() else {
        return Ok(());
    };
    let became = match &part.state {
        PartState::Planned => Payment::NotPaid,
        PartState::Paying { quote } => wallet.payment_of(&payout.mint, quote).await?,
        PartState::Doubtful { quote } => match quote {
            Some(quote) => wallet.payment_asked(&payout.mint, quote).await?,
            None => Payment::NotPaid,
        },
        PartState::Paid { .. } | PartState::Vouched | PartState::Dropped => return Ok(()),
    };
    match (became, &part.state) {
        (Payment::Paid { fees, preimage }, _) => {
            return note(wallet, payout, at, paid(fees, preimage));
        }
        (Payment::Unclear, _) => return Err(WalletError::Unsettled.into()),
        // It may have been paid by another quote since.
        (Payment::NotPaid, PartState::Doubtful { .. }) => {
            return Err(AppError::Doubtful { to: part.to });
        }
        (Payment::NotPaid, PartState::Planned) => {}
        (Payment::NotPaid, _) => note(wallet, payout, at, PartState::Planned)?,
    }
    let to = To::Address(part.to.clone());
    let amount = Msat::from_sat(part.amount_sat).map_err(|_| WalletError::Amount)?;
    let mint = payout.mint.clone();
    let mut refused = None;
    let agree = |quote: &WithdrawQuote| {
        let consent = Consent { max_fee, yes: true };
        let named = PartState::Paying {
            quote: quote.id.clone(),
        };
        // Durable before anything can be paid.
        let agreed = (consent.to(quote)).and_then(|()| note(wallet, payout, at, named));
        refused = agreed.err();
        refused.is_none()
    };
    let done = wallet.withdraw(&to, Some(amount), Some(&mint), agree).await;
    match (done, refused) {
        (Ok(done), _) => note(wallet, payout, at, paid(done.fees, done.preimage)),
        (Err(error), refused) => {
            // Else what is noted stays: a payment that has a name is asked for before another one.
            if is_not_paid(&error) {
                note(wallet, payout, at, PartState::Planned)?;
            }
            Err(refused.unwrap_or_else(|| error.into()))
        }
    }
}

/// True where a payment that may have been asked for was not, or was not made: nothing has left the
/// wallet. Every other error leaves it open.
const fn is_not_paid(error: &WalletError) -> bool {
    matches!(error, WalletError::Declined | WalletError::NotPaid(..))
}

fn paid(fees: Msat, preimage: Option<String>) -> PartState {
    let fees_msat = fees.msat();
    PartState::Paid {
        fees_msat,
        preimage,
    }
}

fn note(
    wallet: &WalletFolder,
    payout: &mut Payout,
    at: usize,
    state: PartState,
) -> Result<(), AppError> {
    let part: Option<&mut Part> = payout.parts.get_mut(at);
    if let Some(part) = part {
        part.state = state;
    }
    payout.write(wallet)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that is planned again is paid again: only what is known says so.
    #[test]
    fn part_is_planned_again_only_where_it_is_known_that_nothing_was_paid() {
        use cdk_common::database::Error;

        let mint = || "https://mint.example.com".parse().unwrap();
        let failed = || cdk::Error::Timeout;
        let torn = Error::Internal("input/output error".into());
        for open in [
            WalletError::Unsettled,
            WalletError::Store(torn),
            WalletError::Amount,
            WalletError::Unreachable(mint(), failed()),
            WalletError::Mint(mint(), failed()),
        ] {
            assert!(!is_not_paid(&open), "{open}");
        }
        assert!(is_not_paid(&WalletError::Declined));
        assert!(is_not_paid(&WalletError::NotPaid(mint(), failed())));
    }
}
