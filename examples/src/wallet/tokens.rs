//! Money in and out as text: tokens received, tokens sent. Source: NUT-00, NUT-03.

use std::str::FromStr;

use cdk::Amount;
use cdk::dhke::hash_to_curve;
use cdk::mint_url::MintUrl;
use cdk::nuts::{CheckStateRequest, CurrencyUnit, Proofs, State, Token};
use cdk::wallet::{ReceiveOptions, SendOptions, Wallet};
use streampay_core::units::Msat;

use super::{AtMint, WalletError, WalletFolder, sum, whole_sat};

impl WalletFolder {
    /// Takes a token: what arrived, net of fees.
    ///
    /// # Errors
    /// [`WalletError::Token`], [`WalletError::MintUrl`], [`WalletError::Spent`], or a mint's.
    pub async fn receive(&self, token: &str) -> Result<Msat, WalletError> {
        let parsed = Token::from_str(token.trim()).map_err(|_| WalletError::Token)?;
        if parsed.unit() != Some(CurrencyUnit::Sat) {
            return Err(WalletError::Token);
        }
        let mint = parsed.mint_url().map_err(|_| WalletError::Token)?;
        let wallet = self.wallet_at(&mint.to_string()).await?;
        Self::check_unspent(&wallet, &parsed).await?;
        Self::receive_unspent(&wallet, token).await
    }

    /// Takes a token that its mint has just called unspent.
    pub(super) async fn receive_unspent(wallet: &Wallet, token: &str) -> Result<Msat, WalletError> {
        let received = wallet.receive(token.trim(), ReceiveOptions::default());
        let received = received.await;
        let received = received.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
        sum(core::iter::once(received))
    }

    /// cdk keeps a spent token as pending, since its own answer might be lost: so it is not given
    /// one that is spent before it begins. Source: NUT-07.
    pub(super) async fn check_unspent(wallet: &Wallet, token: &Token) -> Result<(), WalletError> {
        let secrets = token.token_secrets();
        if secrets.is_empty() || secrets.len() > Self::TOKEN_PROOFS_MAX {
            return Err(WalletError::Token);
        }
        let ys = secrets
            .iter()
            .map(|secret| hash_to_curve(secret.as_bytes()));
        let ys = ys.collect::<Result<_, _>>();
        let request = CheckStateRequest {
            ys: ys.map_err(|_| WalletError::Token)?,
        };
        let states = wallet.mint_connector().post_check_state(request).await;
        let states = states.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
        let spent = |state: &cdk::nuts::ProofState| state.state == State::Spent;
        if states.states.iter().any(spent) {
            return Err(WalletError::Spent);
        }
        let unspent = |state: &&cdk::nuts::ProofState| state.state == State::Unspent;
        if states.states.iter().filter(unspent).count() != secrets.len() {
            // Somebody is paying with it, or the mint does not say.
            return Err(WalletError::of_mint(
                &wallet.mint_url,
                cdk::Error::TokenPending,
            ));
        }
        Ok(())
    }

    /// A token of which its receiver nets `amount`, from `mint` or from where there is most.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], or a mint's.
    pub async fn send(&self, amount: Msat, mint: Option<&str>) -> Result<String, WalletError> {
        let sat = whole_sat(amount)?;
        let mint = self.source(mint).await?;
        let wallet = self.wallet_at(&mint).await?;
        let spendable = self.spendable_at(&wallet.mint_url).await?;
        let too_little =
            || WalletError::InsufficientFunds(spendable, AtMint(Some(mint.to_string())));
        if spendable < amount {
            return Err(too_little());
        }
        let failed = |error| match error {
            cdk::Error::InsufficientFunds => too_little(),
            error => WalletError::of_mint(&wallet.mint_url, error),
        };
        let options = SendOptions {
            include_fee: true,
            ..SendOptions::default()
        };
        let prepared = wallet.prepare_send(Amount::from(sat), options).await;
        let token = prepared.map_err(failed)?.confirm(None).await;
        Ok(token.map_err(failed)?.to_string())
    }

    pub(crate) async fn source(&self, mint: Option<&str>) -> Result<String, WalletError> {
        if let Some(mint) = mint {
            return Ok(mint.to_owned());
        }
        let all = self.balance().await?;
        let free = all.iter().filter(|balance| !self.holds(&balance.mint));
        let most = free.max_by_key(|balance| balance.spendable);
        match (most, all.first()) {
            (Some(most), _) => Ok(most.mint.to_string()),
            (None, Some(held)) => Err(WalletError::Unasked(held.mint.clone())),
            (None, None) => Err(WalletError::InsufficientFunds(Msat::ZERO, AtMint(None))),
        }
    }

    pub(super) async fn spendable_at(&self, mint: &MintUrl) -> Result<Msat, WalletError> {
        let mut balances = self.balance().await?.into_iter();
        let at = balances.find(|balance| balance.mint == *mint);
        Ok(at.map(|balance| balance.spendable).unwrap_or_default())
    }
}

/// A token's proofs, with their full keyset ids. Source: NUT-00, token V4.
pub(super) async fn proofs_of(wallet: &Wallet, token: &Token) -> Result<Proofs, cdk::Error> {
    let known = wallet.mint_connector().get_mint_keysets().await?;
    Ok(token.proofs(&known.keysets)?)
}
