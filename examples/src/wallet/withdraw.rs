//! Money out by Lightning: the mint pays an invoice for ecash. Source: NUT-05, NUT-08, NUT-23,
//! BOLT 11, LUD-06, LUD-16.
//!
//! cdk keeps what a payment began with in the store, so that one that is cut short is finished or
//! undone by the next withdrawal or by `recover`: never paid twice, never half.

use std::collections::HashMap;
use std::str::FromStr;

use cdk::mint_url::MintUrl;
use cdk::nuts::{MeltOptions, MeltQuoteState, PaymentMethod};
use cdk::wallet::{MeltConfirmOptions, MeltQuote, PreparedMelt, Wallet};
use cdk::{Amount, Bolt11Invoice};
use cdk_common::database::{Error as DatabaseError, WalletDatabase};
use streampay_core::units::Msat;

use super::{AtMint, WalletError, WalletFolder, sum, whole_sat};
use crate::ledger::notes::Note;
use crate::price::amount;

/// Where money goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A BOLT 11 invoice.
    Invoice(Box<Bolt11Invoice>),
    /// A Lightning address, such as `name@example.com`.
    Address(String),
    /// Nowhere yet: a token of so much.
    Token(Msat),
}

impl FromStr for To {
    type Err = WalletError;

    fn from_str(text: &str) -> Result<Self, WalletError> {
        let text = text.trim();
        let scheme = text.get(..10).unwrap_or_default();
        let text = if scheme.eq_ignore_ascii_case("lightning:") {
            text.get(10..).unwrap_or_default()
        } else {
            text
        };
        if let Ok(amount) = amount(text) {
            return Ok(Self::Token(amount));
        }
        if text.contains('@') {
            return Ok(Self::Address(text.to_owned()));
        }
        // Any case is fine, for a QR code has capitals.
        let invoice = Bolt11Invoice::from_str(&text.to_ascii_lowercase());
        let invoice = invoice.map_err(|_| WalletError::Destination)?;
        Ok(Self::Invoice(Box::new(invoice)))
    }
}

/// What a withdrawal costs, before it is agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawQuote {
    /// The mint's name for it.
    pub id: String,
    /// Whose ecash pays.
    pub mint: String,
    /// What arrives.
    pub amount: Msat,
    /// The most that the Lightning network may take. What it does not take comes back.
    pub fee_reserve: Msat,
    /// What the mint takes for the ecash.
    pub mint_fee: Msat,
}

impl WithdrawQuote {
    /// The most that leaves the wallet for good.
    #[must_use]
    pub const fn total(&self) -> Msat {
        self.amount
            .saturating_plus(self.fee_reserve)
            .saturating_plus(self.mint_fee)
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Has arrived.
    pub amount: Msat,
    /// Everything else that has left the wallet.
    pub fees: Msat,
    /// The Lightning payment's preimage, in hex, where the mint gives it.
    pub preimage: Option<String>,
}

/// What became of a payment that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payment {
    /// It has arrived.
    Paid {
        /// Everything else that has left the wallet.
        fees: Msat,
        /// As in [`Withdrawn`].
        preimage: Option<String>,
    },
    /// Nothing has left the wallet.
    NotPaid,
    /// It may be under way.
    Unclear,
}

impl WalletFolder {
    /// What became of the payment of a quote, once what was cut short is finished.
    ///
    /// # Errors
    /// [`WalletError`] where the mint does not answer.
    pub(crate) async fn payment_of(&self, mint: &str, quote: &str) -> Result<Payment, WalletError> {
        let wallet = self.wallet_at(mint).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        wallet.recover_incomplete_sagas().await.map_err(failed)?;
        self.payment_known(quote).await
    }

    /// The same where the store may be older than the payment: the mint is asked whatever the store says.
    ///
    /// # Errors
    /// As [`Self::payment_of`].
    pub(crate) async fn payment_asked(
        &self,
        mint: &str,
        quote: &str,
    ) -> Result<Payment, WalletError> {
        let became = self.payment_of(mint, quote).await?;
        if became != Payment::NotPaid {
            return Ok(became);
        }
        let wallet = self.wallet_at(mint).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let asked = wallet.check_melt_quote_status(quote).await;
        asked.map_err(failed)?;
        self.payment_known(quote).await
    }

    async fn payment_known(&self, quote: &str) -> Result<Payment, WalletError> {
        let found = self.store.get_melt_quote(quote).await;
        let Some(found) = found.map_err(WalletError::Store)? else {
            return Ok(Payment::Unclear);
        };
        match found.state {
            MeltQuoteState::Paid => {}
            MeltQuoteState::Unpaid | MeltQuoteState::Failed
                if found.used_by_operation.is_none() =>
            {
                return Ok(Payment::NotPaid);
            }
            _ => return Ok(Payment::Unclear),
        }
        let (lines, _) = self.book().await?;
        let mut lines = lines.iter();
        let line = lines.find(|line| line.quote_id.as_deref() == Some(quote));
        Ok(Payment::Paid {
            fees: sum(line.map(|line| line.fee))?,
            preimage: found.payment_proof.filter(|proof| !proof.is_empty()),
        })
    }

    /// Pays `to` from `mint`, or from where there is most, if `agree` says so to what it costs.
    /// `amount` is for what names none itself: an address, or an invoice without one.
    ///
    /// # Errors
    /// [`WalletError::Declined`] where `agree` says no: nothing is paid. [`WalletError::Unsettled`]
    /// where the payment may be under way. [`WalletError::NotPaid`] where it was asked for, and nothing has
    /// left the wallet; no more has it at any other error.
    pub async fn withdraw(
        &self,
        to: &To,
        amount: Option<Msat>,
        mint: Option<&str>,
        agree: impl FnOnce(&WithdrawQuote) -> bool,
    ) -> Result<Withdrawn, WalletError> {
        let wallet = self.wallet_at(&self.source(mint).await?).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        // What was cut short is finished first, or its ecash would be missing now.
        Self::name_sent(&wallet).await?;
        wallet.recover_incomplete_sagas().await.map_err(failed)?;
        let quote = self.quote_for(&wallet, to, amount).await?;
        let spendable = self.spendable_at(&wallet.mint_url).await?;
        let poor = |error| match error {
            cdk::Error::InsufficientFunds => {
                let at = AtMint(Some(wallet.mint_url.to_string()));
                WalletError::InsufficientFunds(spendable, at)
            }
            error => WalletError::of_mint(&wallet.mint_url, error),
        };
        let prepared = wallet.prepare_melt(&quote.id, HashMap::new()).await;
        let prepared = prepared.map_err(poor)?;
        let options = options(&wallet).await.map_err(failed)?;
        let fee = if options.skip_swap {
            prepared.input_fee_without_swap()
        } else {
            prepared.total_fee()
        };
        let shown = shown(&wallet, &prepared, fee)?;
        if !agree(&shown) {
            prepared.cancel().await.map_err(failed)?;
            return Err(WalletError::Declined);
        }
        let operation = prepared.operation_id();
        // cdk leaves out what making the exact amount has cost before.
        let swap_fee = if options.skip_swap {
            Amount::ZERO
        } else {
            prepared.swap_fee()
        };
        if swap_fee > Amount::ZERO {
            let noted = Note::SwapFee.write(&wallet, operation, swap_fee).await;
            noted.map_err(WalletError::Store)?;
        }
        // cdk asks for a payment that is under way for ever. Dropping it is a crash, which it is
        // made for.
        let confirmed = prepared.confirm_with_options(options);
        let confirmed = tokio::time::timeout(self.limits.payment, confirmed).await;
        match confirmed.unwrap_or(Err(cdk::Error::Timeout)) {
            Ok(done) if done.state() == MeltQuoteState::Paid => {
                let amounts = sum([done.amount()]).and_then(|amount| {
                    let fees = sum([done.fee_paid(), swap_fee])?;
                    Ok((amount, fees))
                });
                // Paid: no error from here on may say that it is not.
                let (amount, fees) = amounts.map_err(|_| WalletError::Unsettled)?;
                let preimage = done.payment_proof().filter(|proof| !proof.is_empty());
                Ok(Withdrawn {
                    amount,
                    fees,
                    preimage: preimage.map(str::to_owned),
                })
            }
            Ok(_) => Err(WalletError::Unsettled),
            Err(error) => {
                let saga = self.store.get_saga(&operation).await;
                let left = saga.map(|saga| saga.is_some());
                Err(failed_payment(left, &wallet.mint_url, error))
            }
        }
    }

    async fn quote_for(
        &self,
        wallet: &Wallet,
        to: &To,
        amount: Option<Msat>,
    ) -> Result<MeltQuote, WalletError> {
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let (invoice, options) = match to {
            To::Token(_) => return Err(WalletError::Destination),
            To::Address(address) => {
                let amount = amount.ok_or(WalletError::WithoutAmount)?;
                whole_sat(amount)?;
                let quote = wallet.melt_lightning_address_quote(address, amount.msat());
                return quote.await.map_err(|error| match error {
                    cdk::Error::LightningAddressParse(why) => WalletError::Address(why),
                    cdk::Error::LightningAddressRequest(why) => WalletError::Address(why),
                    error => WalletError::of_mint(&wallet.mint_url, error),
                });
            }
            To::Invoice(invoice) => (invoice, melt_options(invoice, amount)?),
        };
        if invoice.is_expired() {
            return Err(WalletError::Expired);
        }
        self.check_unpaid(invoice).await?;
        let method = PaymentMethod::BOLT11;
        let quote = wallet.melt_quote(method, invoice, options, None).await;
        quote.map_err(failed)
    }

    /// An invoice is paid once. A second payment, from another mint too, would be the payee's gain.
    async fn check_unpaid(&self, invoice: &Bolt11Invoice) -> Result<(), WalletError> {
        let request = invoice.to_string();
        let quotes = self.store.get_melt_quotes().await;
        for quote in quotes.map_err(WalletError::Store)? {
            match quote.state {
                _ if quote.request != request => {}
                MeltQuoteState::Paid => return Err(WalletError::PaidBefore),
                MeltQuoteState::Pending => return Err(WalletError::Unsettled),
                _ if quote.used_by_operation.is_some() => return Err(WalletError::Unsettled),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a payment that failed is, once it was asked for: with nothing `left` of it under way it is not
/// paid. Where the store does not say, it may be.
fn failed_payment(
    left: Result<bool, DatabaseError>,
    mint: &MintUrl,
    error: cdk::Error,
) -> WalletError {
    match left {
        Ok(false) => WalletError::NotPaid(mint.clone(), error),
        Ok(true) => WalletError::Unsettled,
        Err(failed) => {
            tracing::error!(%failed, "what became of a payment cannot be read");
            WalletError::Unsettled
        }
    }
}

/// An invoice's own amount is paid; one without is given `amount`. Source: NUT-23.
fn melt_options(
    invoice: &Bolt11Invoice,
    amount: Option<Msat>,
) -> Result<Option<MeltOptions>, WalletError> {
    match (invoice.amount_milli_satoshis(), amount) {
        (Some(_), None) => Ok(None),
        (Some(own), Some(amount)) if own == amount.msat() => Ok(None),
        (Some(_), Some(_)) => Err(WalletError::OtherAmount),
        (None, Some(amount)) => {
            whole_sat(amount)?;
            Ok(Some(MeltOptions::new_amountless(amount.msat())))
        }
        (None, None) => Err(WalletError::WithoutAmount),
    }
}

/// Ecash goes into the payment as it is, and what is too much comes back with the unused fee: one
/// request, one fee. A mint that returns nothing (NUT-08) is given the exact amount, after a swap.
async fn options(wallet: &Wallet) -> Result<MeltConfirmOptions, cdk::Error> {
    let info = wallet.load_mint_info().await?;
    Ok(if info.nuts.nut08.supported {
        MeltConfirmOptions::skip_swap()
    } else {
        MeltConfirmOptions::new()
    })
}

fn shown(
    wallet: &Wallet,
    prepared: &PreparedMelt<'_>,
    mint_fee: Amount,
) -> Result<WithdrawQuote, WalletError> {
    let msat = |amount: Amount| sum([amount]);
    Ok(WithdrawQuote {
        id: prepared.quote().id.clone(),
        mint: wallet.mint_url.to_string(),
        amount: msat(prepared.amount())?,
        fee_reserve: msat(prepared.quote().fee_reserve)?,
        mint_fee: msat(mint_fee)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a store that can be read, and has nothing of it any more, says that it was not paid.
    #[test]
    fn payment_that_failed_may_be_under_way_unless_the_store_says_that_it_is_not() {
        let mint: MintUrl = "https://mint.example.com".parse().unwrap();
        let of = |left| failed_payment(left, &mint, cdk::Error::Timeout);
        assert!(matches!(of(Ok(false)), WalletError::NotPaid(..)));
        assert!(matches!(of(Ok(true)), WalletError::Unsettled));
        let torn = DatabaseError::Internal("input/output error".into());
        assert!(matches!(of(Err(torn)), WalletError::Unsettled));
    }
}
