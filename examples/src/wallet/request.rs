//! Payment requests: asking for ecash, and paying one. Source: NUT-18, NUT-26.

use std::str::FromStr;

use cdk::Amount;
use cdk::nuts::nut10::SpendingConditions;
use cdk::nuts::nut18::TransportType;
use cdk::nuts::{CurrencyUnit, Nut10Secret, PaymentRequest, PaymentRequestPayload, Token};
use cdk::wallet::{SendOptions, Wallet};
use streampay_cashu::check_mint_url;
use streampay_core::units::Msat;

use url::{Host, Url};

use super::tokens::proofs_of;
use super::{AtMint, WalletError, WalletFolder, sum, whole_sat};
use crate::report::plain;

/// The longest request that is read, in characters. Chosen: one with ten mints has 700.
const REQUEST_MAX: usize = 16 * 1024;
/// How long handing a payment over may take.
const DELIVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// Somebody's request for ecash in satoshi: `creqA...` or `creqB...`.
#[derive(Clone, Debug)]
pub struct Request(PaymentRequest);

impl FromStr for Request {
    type Err = WalletError;

    fn from_str(text: &str) -> Result<Self, WalletError> {
        let text = text.trim();
        if text.len() > REQUEST_MAX {
            return Err(WalletError::Request);
        }
        let request = PaymentRequest::from_str(text).map_err(|_| WalletError::Request)?;
        match request.unit {
            None | Some(CurrencyUnit::Sat) => Ok(Self(request)),
            Some(_) => Err(WalletError::RequestUnit),
        }
    }
}

impl Request {
    /// A request for `amount` in ecash of one of `mints`. The payer hands the token over by any
    /// way at all.
    ///
    /// # Errors
    /// [`WalletError::MintUrl`], [`WalletError::Amount`].
    pub fn new(amount: Msat, mints: &[String], memo: Option<String>) -> Result<Self, WalletError> {
        let sat = whole_sat(amount)?;
        let mints = mints.iter().map(|mint| check_mint_url(mint));
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut request = PaymentRequest::builder()
            .payment_id(id.get(..8).unwrap_or_default())
            .amount(sat)
            .unit(CurrencyUnit::Sat)
            .single_use(true)
            .mints(mints.collect::<Result<_, _>>()?)
            .build();
        request.description = memo;
        Ok(Self(request))
    }

    /// What it asks for, where it says.
    #[must_use]
    pub fn amount(&self) -> Option<Msat> {
        let sat = self.0.amount?.to_u64();
        Msat::from_sat(sat).ok()
    }

    /// The `creqB` form, shorter as a QR code. Source: NUT-26.
    #[must_use]
    pub fn bech32(&self) -> Option<String> {
        self.0.to_bech32_string().ok()
    }

    fn takes(&self, wallet: &Wallet) -> bool {
        let any = self.0.mints.is_empty() || self.0.mint_preferred == Some(true);
        any || self.0.mints.contains(&wallet.mint_url)
    }

    /// What comes on top for ecash of this mint; none where it takes no mint of its methods.
    fn method_fee(&self, wallet: &Wallet) -> Option<Amount> {
        let methods = &self.0.supported_methods;
        let preferred = self.0.mints.contains(&wallet.mint_url);
        if methods.is_empty() {
            return Some(Amount::ZERO);
        }
        // Every mint of these wallets pays and takes Lightning invoices.
        let bolt11 = methods.iter().find(|method| method.method == "bolt11")?;
        let fee = bolt11.fee.unwrap_or_default();
        Some(if preferred { Amount::ZERO } else { fee })
    }

    fn lock(&self) -> Result<Option<SpendingConditions>, WalletError> {
        let wanted = self.0.nut10.clone().map(Nut10Secret::from);
        let lock = wanted.map(SpendingConditions::try_from).transpose();
        lock.map_err(|_| WalletError::Request)
    }

    /// Where the payment is posted; none where the payer hands it over.
    fn target(&self) -> Result<Option<String>, WalletError> {
        let transports = &self.0.transports;
        let mut by_http = transports
            .iter()
            .filter(|transport| transport._type == TransportType::HttpPost)
            .map(|transport| transport.target.as_str());
        match by_http.next() {
            // A token is money: it goes only where nobody can read it.
            Some(url) if is_private(url) => Ok(Some(url.to_owned())),
            Some(_) => Err(WalletError::RequestTarget),
            None if transports.is_empty() => Ok(None),
            None => Err(WalletError::RequestTransport),
        }
    }
}

impl core::fmt::Display for Request {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// What paying a request costs, before it is agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayQuote {
    /// Whose ecash pays.
    pub mint: String,
    /// What the receiver nets.
    pub amount: Msat,
    /// What the mint takes.
    pub fees: Msat,
    /// What the receiver says it is for.
    pub memo: Option<String>,
    /// The ecash is locked to a key of the receiver: it cannot be taken back.
    pub locked: bool,
    /// Where it is posted; none where a token is shown.
    pub target: Option<String>,
}

/// How a payment is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handover {
    /// It was posted, and taken.
    Delivered,
    /// The user hands this token over.
    Token(String),
    /// It could not be posted, or its answer was lost: this token is to be handed over.
    Undelivered(String),
}

impl WalletFolder {
    /// Pays `request` from `mint`, or from where there is most that it takes, if `agree` says so.
    ///
    /// # Errors
    /// [`WalletError`]: nothing has left the wallet, or what has is a sent token that
    /// [`Self::take_back`] brings home.
    pub async fn pay_request(
        &self,
        request: &Request,
        amount: Option<Msat>,
        mint: Option<&str>,
        agree: impl FnOnce(&PayQuote) -> bool,
    ) -> Result<(PayQuote, Handover), WalletError> {
        let amount = match (request.amount(), amount) {
            (Some(wanted), Some(amount)) if wanted != amount => {
                return Err(WalletError::OtherAmount);
            }
            (Some(amount), _) | (None, Some(amount)) => amount,
            (None, None) => return Err(WalletError::WithoutAmount),
        };
        whole_sat(amount)?;
        let target = request.target()?;
        let wallet = self.wallet_at(&self.payer_of(request, mint).await?).await?;
        let fee = request.method_fee(&wallet);
        let amount = amount.saturating_plus(sum(Some(fee.ok_or(WalletError::RequestMethod)?))?);
        let spendable = self.spendable_at(&wallet.mint_url).await?;
        let failed = |error| match error {
            cdk::Error::InsufficientFunds => {
                let at = AtMint(Some(wallet.mint_url.to_string()));
                WalletError::InsufficientFunds(spendable, at)
            }
            error => WalletError::of_mint(&wallet.mint_url, error),
        };
        let options = SendOptions {
            conditions: request.lock()?,
            include_fee: true,
            ..SendOptions::default()
        };
        let locked = options.conditions.is_some();
        let sat = Amount::from(whole_sat(amount)?);
        let prepared = wallet.prepare_send(sat, options).await.map_err(failed)?;
        let quote = PayQuote {
            mint: wallet.mint_url.to_string(),
            amount,
            fees: sum([prepared.swap_fee(), prepared.send_fee()])?,
            memo: request.0.description.as_deref().map(plain),
            locked,
            target,
        };
        if !agree(&quote) {
            prepared.cancel().await.map_err(failed)?;
            return Err(WalletError::Declined);
        }
        let token = prepared.confirm(None).await.map_err(failed)?;
        let Some(url) = &quote.target else {
            return Ok((quote, Handover::Token(token.to_string())));
        };
        let handover = match post(&wallet, request, url, &token).await {
            Ok(()) => Handover::Delivered,
            Err(why) => {
                tracing::debug!(why, "a payment could not be posted");
                Handover::Undelivered(token.to_string())
            }
        };
        Ok((quote, handover))
    }

    /// The mint that pays: the named one if it is taken, else the one of those taken with most.
    async fn payer_of(&self, request: &Request, mint: Option<&str>) -> Result<String, WalletError> {
        let wanted = mint.map(check_mint_url).transpose()?;
        let mut best: Option<(String, Msat)> = None;
        let (mut held, mut taken, mut unasked) = (false, false, None);
        for at in self.balance().await? {
            let wallet = self.wallet_of(&at.mint.to_string()).await?;
            held |= !at.spendable.is_zero();
            if wanted.as_ref().is_some_and(|wanted| *wanted != at.mint) || !request.takes(&wallet) {
                continue;
            }
            taken |= !at.spendable.is_zero();
            if self.holds(&at.mint) && wanted.is_none() {
                unasked = Some(at.mint);
                continue;
            }
            if best.as_ref().is_none_or(|(_, most)| at.spendable > *most) {
                best = Some((at.mint.to_string(), at.spendable));
            }
        }
        match best {
            Some((mint, _)) if taken => Ok(mint),
            _ if unasked.is_some() => {
                Err(unasked.map_or(WalletError::Amount, WalletError::Unasked))
            }
            _ if held => Err(WalletError::RequestMints(mints_of(request))),
            _ => Err(WalletError::InsufficientFunds(Msat::ZERO, AtMint(None))),
        }
    }
}

/// https, or http to this very machine.
fn is_private(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

fn mints_of(request: &Request) -> String {
    let mints = request.0.mints.iter().map(ToString::to_string);
    plain(&mints.collect::<Vec<_>>().join(" or "))
}

/// Posts the payment. An answer that says anything but success leaves it to the user.
async fn post(
    wallet: &Wallet,
    request: &Request,
    url: &str,
    token: &Token,
) -> Result<(), &'static str> {
    let proofs = proofs_of(wallet, token).await;
    let payload = PaymentRequestPayload {
        id: request.0.payment_id.clone(),
        memo: None,
        mint: wallet.mint_url.clone(),
        unit: wallet.unit.clone(),
        proofs: proofs.map_err(|_| "the token's proofs")?,
    };
    let body = serde_json::to_vec(&payload).map_err(|_| "the payload")?;
    let sent = bitreq::post(url)
        .with_header("Content-Type", "application/json")
        .with_body(body)
        .with_timeout(DELIVERY.as_secs())
        .with_max_redirects(0)
        .with_max_headers_size(16 * 1024)
        .with_max_status_line_length(1024)
        .with_max_body_size(64 * 1024)
        .send_async();
    let sent = tokio::time::timeout(DELIVERY, sent).await;
    let answer = sent.map_err(|_| "no answer")?.map_err(|_| "not reached")?;
    if (200..300).contains(&answer.status_code) {
        Ok(())
    } else {
        Err("refused")
    }
}
