//! Money in by Lightning: an invoice of the mint, then ecash for it. Source: NUT-04, NUT-23.
//!
//! cdk writes the quote to the store before its invoice is shown, so a deposit that is cut short at
//! any moment goes on with the next one, or with `recover`.

use std::time::Duration;

use cdk::Amount;
use cdk::amount::SplitTarget;
use cdk::mint_url::MintUrl;
use cdk::nuts::nut00::KnownMethod;
use cdk::nuts::{MintQuoteState, PaymentMethod};
use cdk::wallet::{MintQuote, Wallet};
use cdk_common::database::WalletDatabase;
use cdk_common::util::unix_time;
use streampay_core::units::Msat;
use tokio::time::Instant;

use super::{WalletError, WalletFolder, sum, whole_sat};

/// What a deposit waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// The mint's name for it.
    quote: String,
    /// To be paid: BOLT 11.
    pub request: String,
    /// The ecash that it buys.
    pub amount: Msat,
    /// Seconds from now on in which it can be paid; none where the mint does not say.
    pub expires_in: Option<u64>,
    /// An earlier deposit of this amount made it, and was cut short.
    pub resumed: bool,
}

/// How a deposit begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Begun {
    /// An earlier deposit of this amount was paid meanwhile: it is done.
    Arrived(Msat),
    /// This is to be paid.
    Waits(Invoice),
}

/// What earlier deposits have become.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    /// Paid, and ecash now.
    pub(super) arrived: Msat,
    /// Their invoices are not paid yet.
    pub(super) awaited: Msat,
    /// The mint could not say, or not sign.
    pub(super) unclear: usize,
    /// Those of them that nobody can pay any more.
    pub(super) unheard: Vec<Unheard>,
}

/// An invoice that was over long ago, of which the mint does not say whether it was paid in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    quote: String,
    /// The ecash that it would have bought.
    pub amount: Msat,
}

/// How long after its end an unpaid invoice is still asked for, in seconds: a Lightning payment
/// may be under way for some time, a day at the very most.
const FORGET_AFTER_S: u64 = 86_400;
/// How often the mint is asked: at first, and after a while. A streamer's test mint pays at once,
/// a person takes a minute.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

impl WalletFolder {
    /// Asks `mint` for an invoice of `amount`, or goes on with one of an earlier run.
    ///
    /// # Errors
    /// [`WalletError`]: the amount will not do, or the mint did not answer.
    pub async fn begin_deposit(&self, mint: &str, amount: Msat) -> Result<Begun, WalletError> {
        let sat = whole_sat(amount)?;
        let wallet = self.wallet_at(mint).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        for quote in self.open_quotes(&wallet).await? {
            if quote.amount != Some(Amount::from(sat)) {
                continue;
            }
            match collect(&wallet, &quote).await {
                Ok(Some(arrived)) => return Ok(Begun::Arrived(arrived)),
                Ok(None) if seconds_left(&quote) != Some(0) => {
                    return Ok(Begun::Waits(invoice(quote, amount, true)));
                }
                // Another invoice will do; `recover` looks after this one.
                Ok(None) | Err(_) => {}
            }
        }
        let method = PaymentMethod::Known(KnownMethod::Bolt11);
        let quote = wallet.mint_quote(method, Some(Amount::from(sat)), None, None);
        Ok(Begun::Waits(invoice(
            quote.await.map_err(failed)?,
            amount,
            false,
        )))
    }

    /// Waits until `invoice` is paid, and takes the ecash: what arrived.
    ///
    /// # Errors
    /// [`WalletError::DepositPending`] with the invoice where it is not paid within `wait`, or the
    /// mint stopped answering: the next [`Self::begin_deposit`] or `recover` goes on with it.
    pub async fn finish_deposit(
        &self,
        mint: &str,
        invoice: &Invoice,
        wait: Duration,
    ) -> Result<Msat, WalletError> {
        let wallet = self.wallet_at(mint).await?;
        let pending = || WalletError::DepositPending(invoice.request.clone());
        let deadline = Instant::now() + wait;
        let (mut poll, slowest) = POLL;
        loop {
            let quote = self.store.get_mint_quote(&invoice.quote).await;
            let quote = quote.map_err(WalletError::Store)?.ok_or_else(pending)?;
            match collect(&wallet, &quote).await {
                Ok(Some(arrived)) => return Ok(arrived),
                Ok(None) => {}
                // A mint that is away for a moment is asked again until the time is up.
                Err(error) => tracing::debug!(%error, "a deposit's quote could not be asked for"),
            }
            if Instant::now() + poll >= deadline {
                return Err(pending());
            }
            tokio::time::sleep(poll).await;
            poll = poll.saturating_mul(2).min(slowest);
        }
    }

    /// Both in one, for an invoice that somebody else pays: what arrived.
    ///
    /// # Errors
    /// As [`Self::begin_deposit`] and [`Self::finish_deposit`] within [`Self::DEPOSIT_WAIT`].
    pub async fn deposit(&self, mint: &str, amount: Msat) -> Result<Msat, WalletError> {
        match self.begin_deposit(mint, amount).await? {
            Begun::Arrived(arrived) => Ok(arrived),
            Begun::Waits(invoice) => {
                let wait = Self::DEPOSIT_WAIT;
                self.finish_deposit(mint, &invoice, wait).await
            }
        }
    }

    /// Takes the ecash of every deposit at this mint that is paid.
    pub(super) async fn collect_deposits(&self, wallet: &Wallet) -> Result<Collected, WalletError> {
        let mut collected = Collected::default();
        let mut quotes = self.open_quotes(wallet).await?.into_iter();
        while let Some(quote) = quotes.next() {
            let amount = sum(quote.amount)?;
            let long_over = is_long_over(&quote);
            match collect(wallet, &quote).await {
                Ok(Some(arrived)) => {
                    collected.arrived = collected.arrived.saturating_plus(arrived);
                }
                // Nobody has paid it, and nobody can any more. No error says so: one that refuses to sign, or
                // that somebody else answers in the mint's place, comes for an invoice that was paid too.
                Ok(None) if quote.expiry > 0 && long_over => self.forget(&quote).await?,
                Ok(None) => collected.awaited = collected.awaited.saturating_plus(amount),
                Err(error) => {
                    tracing::debug!(%error, "a deposit's quote could not be asked for");
                    self.leave(&mut collected, &quote).await?;
                    let error = WalletError::of_mint(&wallet.mint_url, error);
                    if matches!(error, WalletError::Unreachable(..)) {
                        // Each further one would wait as long.
                        for quote in quotes {
                            self.leave(&mut collected, &quote).await?;
                        }
                        break;
                    }
                }
            }
        }
        Ok(collected)
    }

    async fn forget(&self, quote: &MintQuote) -> Result<(), WalletError> {
        let removed = self.store.remove_mint_quote(&quote.id).await;
        removed.map_err(WalletError::Store)
    }

    /// The mint does not say what became of it, or does not sign for it.
    async fn leave(&self, to: &mut Collected, quote: &MintQuote) -> Result<(), WalletError> {
        to.unclear = to.unclear.saturating_add(1);
        // As far as it was heard until now: one that is paid is waited for, however long.
        let known = self.store.get_mint_quote(&quote.id).await;
        let Some(known) = known.map_err(WalletError::Store)? else {
            return Ok(());
        };
        let is_unpaid = known.state == MintQuoteState::Unpaid && known.amount_paid == Amount::ZERO;
        let is_over = known.expiry > 0 && is_long_over(&known);
        if is_unpaid && known.used_by_operation.is_none() && is_over {
            to.unheard.push(Unheard {
                amount: sum(known.amount)?,
                quote: known.id,
            });
        }
        Ok(())
    }

    /// Asks for these no more: nobody has paid them, by the user's word.
    ///
    /// # Errors
    /// [`WalletError::Store`].
    pub async fn forget_unheard(&self, unheard: &[Unheard]) -> Result<(), WalletError> {
        for of in unheard {
            let removed = self.store.remove_mint_quote(&of.quote).await;
            removed.map_err(WalletError::Store)?;
        }
        Ok(())
    }

    /// The mints of deposits that are not ecash yet, and whether any of them may still be paid.
    pub(super) async fn quoted_now(&self) -> Result<Vec<(MintUrl, bool)>, WalletError> {
        let quotes = self.store.get_unissued_mint_quotes().await;
        let quotes = quotes.map_err(WalletError::Store)?;
        let is_new = |quote: &MintQuote| quote.expiry == 0 || !is_long_over(quote);
        let now = |quote: MintQuote| (quote.mint_url.clone(), is_new(&quote));
        Ok(quotes.into_iter().map(now).collect())
    }

    async fn open_quotes(&self, wallet: &Wallet) -> Result<Vec<MintQuote>, WalletError> {
        let quotes = self.store.get_unissued_mint_quotes().await;
        let mut quotes = quotes.map_err(WalletError::Store)?;
        quotes.retain(|quote| quote.mint_url == wallet.mint_url && quote.unit == wallet.unit);
        Ok(quotes)
    }
}

/// The ecash of a quote, if it is paid. What an earlier run asked for is restored first.
async fn collect(wallet: &Wallet, quote: &MintQuote) -> Result<Option<Msat>, cdk::Error> {
    let in_msat =
        |amount: Amount| Msat::from_sat(amount.to_u64()).map_err(|_| cdk::Error::AmountOverflow);
    let now = wallet.check_mint_quote_status(&quote.id).await?;
    match now.state {
        MintQuoteState::Unpaid => Ok(None),
        MintQuoteState::Issued => in_msat(now.amount_issued).map(Some),
        MintQuoteState::Paid => {
            let minted = wallet.mint(&quote.id, SplitTarget::default(), None).await?;
            let minted = Amount::try_sum(minted.iter().map(|proof| proof.amount));
            in_msat(minted.map_err(|_| cdk::Error::AmountOverflow)?).map(Some)
        }
    }
}

/// True where nobody can pay it any more, or its mint did not say until when.
fn is_long_over(quote: &MintQuote) -> bool {
    unix_time() > quote.expiry.saturating_add(FORGET_AFTER_S)
}

fn invoice(quote: MintQuote, amount: Msat, resumed: bool) -> Invoice {
    Invoice {
        expires_in: seconds_left(&quote),
        quote: quote.id,
        request: quote.request,
        amount,
        resumed,
    }
}

fn seconds_left(quote: &MintQuote) -> Option<u64> {
    (quote.expiry > 0).then(|| quote.expiry.saturating_sub(unix_time()))
}
