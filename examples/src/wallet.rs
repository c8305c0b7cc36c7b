//! One folder a user: a seed, the ecash, and the wallets over it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cdk::Amount;
use cdk::amount::SplitTarget;
use cdk::mint_url::MintUrl;
use cdk::nuts::nut00::KnownMethod;
use cdk::nuts::{CheckStateRequest, CurrencyUnit, MintQuoteState, PaymentMethod, State, Token};
use cdk::wallet::types::ProofInfo;
use cdk::wallet::{ReceiveOptions, SendOptions, Wallet, WalletBuilder};
use cdk_common::database::{Error as DatabaseError, WalletDatabase};
use cdk_redb::WalletRedbDatabase;
use streampay_cashu::{ParamsError, Wallets, check_mint_url};
use streampay_core::units::Msat;
use zeroize::Zeroizing;

use crate::seed_file;

/// What went wrong with a wallet, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// Another process has the folder.
    #[error("another process uses the wallet in {0}; stop it, or choose another with --data")]
    InUse(PathBuf),
    /// The folder cannot be read or written.
    #[error("cannot use the wallet's folder {0}: check that it can be written")]
    Folder(PathBuf, #[source] std::io::Error),
    /// The store of ecash failed.
    #[error("the wallet's store failed: check the disk's space, then start again")]
    Store(#[source] DatabaseError),
    /// The mint's URL will not do.
    #[error(transparent)]
    MintUrl(#[from] ParamsError),
    /// Not an amount of money.
    #[error("amounts are whole satoshi, at least 1")]
    Amount,
    /// Not a token, or not in satoshi.
    #[error("not a Cashu token in sat: paste it whole, it begins with cashuA or cashuB")]
    Token,
    /// The wallet holds less than asked.
    #[error("the wallet holds too little; deposit more, or send less")]
    InsufficientFunds,
    /// The deposit was not paid in time. It is kept, and `recover` takes it up again.
    #[error("the deposit is not paid yet; pay the invoice, then run recover: {0}")]
    DepositPending(String),
    /// The mint did not do it.
    #[error("the mint at {0} did not do it; try again, then recover")]
    Mint(MintUrl, #[source] cdk::Error),
}

/// What a user has at one mint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintBalance {
    /// Whose ecash it is.
    pub mint: MintUrl,
    /// Can be spent now.
    pub spendable: Msat,
    /// In purses, sent tokens and unfinished operations: comes back, or is spent by now.
    pub pending: Msat,
}

/// Every satoshi at one mint, after [`WalletFolder::recover`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Spendable and pending now.
    pub balance: MintBalance,
    /// Deposits that were paid and are now ecash.
    pub deposited: Msat,
    /// Sent tokens that nobody had redeemed, taken back, net of fees.
    pub taken_back: Msat,
    /// Operations that a crash interrupted and that are finished or undone now.
    pub finished: usize,
    /// Operations that still wait for the mint.
    pub waiting: usize,
    /// Part of pending: held by purses and unspent. Released with their sessions.
    pub in_purses: Msat,
    /// Part of pending: tokens of purses that the payee has spent. Booked with their sessions.
    pub spent_in_purses: Msat,
}

/// A user's wallet folder. One process at a time.
pub struct WalletFolder {
    seed: Zeroizing<[u8; 64]>,
    store: Arc<WalletRedbDatabase>,
    wallets: tokio::sync::Mutex<HashMap<MintUrl, Arc<Wallet>>>,
    _lock: File,
}

impl WalletFolder {
    /// How long a deposit waits for its payment.
    pub const DEPOSIT_WAIT: Duration = Duration::from_secs(20);

    /// Opens the wallet in `folder`, which is made on the first call: a seed drawn and stored for
    /// its owner's eyes only, an empty store.
    ///
    /// # Errors
    /// [`WalletError::InUse`], [`WalletError::Folder`], [`WalletError::Store`].
    pub fn open(folder: &Path) -> Result<Self, WalletError> {
        let failed = |error| WalletError::Folder(folder.to_owned(), error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("wallet.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(WalletError::InUse(folder.to_owned()));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let seed = seed_file::load_or_create(folder, "wallet.seed").map_err(failed)?;
        let store = WalletRedbDatabase::new(&folder.join("wallet.redb"));
        Ok(Self {
            seed,
            store: Arc::new(store.map_err(|error| WalletError::Store(error.into()))?),
            wallets: tokio::sync::Mutex::default(),
            _lock: lock,
        })
    }

    /// The wallet for satoshi at `mint`. Its requests are not paced: sessions pace themselves.
    ///
    /// # Errors
    /// [`WalletError::MintUrl`] for a URL that will not do.
    pub async fn wallet_at(&self, mint: &str) -> Result<Arc<Wallet>, WalletError> {
        let mint = check_mint_url(mint)?;
        let mut wallets = self.wallets.lock().await;
        if let Some(wallet) = wallets.get(&mint) {
            return Ok(wallet.clone());
        }
        let store: Arc<dyn WalletDatabase<DatabaseError> + Send + Sync> = self.store.clone();
        let wallet = WalletBuilder::new()
            .mint_url(mint.clone())
            .unit(CurrencyUnit::Sat)
            .localstore(store)
            .seed(*self.seed)
            .without_rate_limiting()
            .use_http_subscription()
            .build();
        let wallet = Arc::new(wallet.map_err(|error| WalletError::Mint(mint.clone(), error))?);
        wallets.insert(mint, wallet.clone());
        Ok(wallet)
    }

    /// Buys `amount` of ecash at `mint` and waits for it; in all what arrived.
    ///
    /// # Errors
    /// [`WalletError::DepositPending`] with the invoice where it is not paid within
    /// [`Self::DEPOSIT_WAIT`]; a restart or `recover` takes it up again.
    pub async fn deposit(&self, mint: &str, amount: Msat) -> Result<Msat, WalletError> {
        let sat = whole_sat(amount)?;
        let wallet = self.wallet_at(mint).await?;
        let failed = |error| WalletError::Mint(wallet.mint_url.clone(), error);
        let method = PaymentMethod::Known(KnownMethod::Bolt11);
        let quote = wallet.mint_quote(method, Some(Amount::from(sat)), None, None);
        let quote = quote.await.map_err(failed)?;
        let deadline = tokio::time::Instant::now() + Self::DEPOSIT_WAIT;
        loop {
            let state = wallet.check_mint_quote_status(&quote.id).await;
            if state.map_err(failed)?.state == MintQuoteState::Paid {
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(WalletError::DepositPending(quote.request));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let minted = wallet.mint(&quote.id, SplitTarget::default(), None).await;
        sum(minted.map_err(failed)?.iter().map(|proof| proof.amount))
    }

    /// Takes a token: what arrived, net of fees.
    ///
    /// # Errors
    /// [`WalletError::Token`], [`WalletError::MintUrl`], or [`WalletError::Mint`] where it is spent.
    pub async fn receive(&self, token: &str) -> Result<Msat, WalletError> {
        let parsed = Token::from_str(token.trim()).map_err(|_| WalletError::Token)?;
        if parsed.unit() != Some(CurrencyUnit::Sat) {
            return Err(WalletError::Token);
        }
        let mint = parsed.mint_url().map_err(|_| WalletError::Token)?;
        let wallet = self.wallet_at(&mint.to_string()).await?;
        let received = wallet
            .receive(token.trim(), ReceiveOptions::default())
            .await;
        let received = received.map_err(|error| WalletError::Mint(mint, error))?;
        sum(core::iter::once(received))
    }

    /// A token of which its receiver nets `amount`, from `mint` or from where there is most.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], [`WalletError::Mint`].
    pub async fn send(&self, amount: Msat, mint: Option<&str>) -> Result<String, WalletError> {
        let sat = whole_sat(amount)?;
        let mint = match mint {
            Some(mint) => mint.to_owned(),
            None => {
                let balances = self.balance().await?.into_iter();
                let most = balances.max_by_key(|balance| balance.spendable);
                most.ok_or(WalletError::InsufficientFunds)?.mint.to_string()
            }
        };
        let wallet = self.wallet_at(&mint).await?;
        let failed = |error| match error {
            cdk::Error::InsufficientFunds => WalletError::InsufficientFunds,
            error => WalletError::Mint(wallet.mint_url.clone(), error),
        };
        let options = SendOptions {
            include_fee: true,
            ..SendOptions::default()
        };
        let prepared = wallet.prepare_send(Amount::from(sat), options).await;
        let token = prepared.map_err(failed)?.confirm(None).await;
        Ok(token.map_err(failed)?.to_string())
    }

    /// What there is, mint by mint, from the store alone.
    ///
    /// # Errors
    /// [`WalletError::Store`].
    pub async fn balance(&self) -> Result<Vec<MintBalance>, WalletError> {
        let mut of_mint: BTreeMap<MintUrl, (Vec<Amount>, Vec<Amount>)> = BTreeMap::new();
        for info in self.proofs(None).await? {
            let (spendable, pending) = of_mint.entry(info.mint_url).or_default();
            match info.state {
                State::Unspent => spendable.push(info.proof.amount),
                State::Pending | State::Reserved | State::PendingSpent => {
                    pending.push(info.proof.amount);
                }
                State::Spent => {}
            }
        }
        let balances = of_mint.into_iter().map(|(mint, (spendable, pending))| {
            Ok(MintBalance {
                mint,
                spendable: sum(spendable.into_iter())?,
                pending: sum(pending.into_iter())?,
            })
        });
        balances.collect()
    }

    /// Finishes what a crash interrupted, takes back sent tokens that nobody redeemed, collects
    /// paid deposits, and accounts for the rest. Purses are released with their sessions, by
    /// [`recover_purses`](crate::purses::recover_purses), not here.
    ///
    /// # Errors
    /// [`WalletError`] of the first mint that does not answer; what is done stays done.
    pub async fn recover(&self) -> Result<Vec<Recovered>, WalletError> {
        // cdk-redb 0.18 makes its table of sagas with the first change to one, and cannot read it
        // before: a wallet that only ever received has none.
        let first = self.store.delete_saga(&uuid::Uuid::nil()).await;
        first.map_err(WalletError::Store)?;
        let mut recovered = Vec::new();
        for mint in self.mints().await? {
            let wallet = self.wallet_at(&mint.to_string()).await?;
            let account = self.recover_at(&wallet).await;
            recovered.push(account?);
        }
        Ok(recovered)
    }

    async fn recover_at(&self, wallet: &Wallet) -> Result<Recovered, WalletError> {
        let mint = wallet.mint_url.clone();
        let failed = |error| WalletError::Mint(mint.clone(), error);
        let sagas = wallet.recover_incomplete_sagas().await.map_err(failed)?;
        let deposited = wallet.mint_unissued_quotes().await.map_err(failed)?;
        let mut taken_back = Vec::new();
        for sent in wallet.get_pending_sends().await.map_err(failed)? {
            if !wallet.check_send_status(sent).await.map_err(failed)? {
                taken_back.push(wallet.revoke_send(sent).await.map_err(failed)?);
            }
        }
        wallet.check_all_pending_proofs().await.map_err(failed)?;
        let (in_purses, spent_in_purses) = self.in_purses(wallet).await?;
        let mut balances = self.balance().await?.into_iter();
        let empty = MintBalance {
            mint: mint.clone(),
            spendable: Msat::ZERO,
            pending: Msat::ZERO,
        };
        Ok(Recovered {
            balance: balances
                .find(|balance| balance.mint == mint)
                .unwrap_or(empty),
            deposited: sum(core::iter::once(deposited))?,
            taken_back: sum(taken_back.into_iter())?,
            finished: sagas.recovered.saturating_add(sagas.compensated),
            waiting: sagas.skipped.saturating_add(sagas.failed),
            in_purses,
            spent_in_purses,
        })
    }

    /// What purses hold, unspent and spent, by the mint's word. Changes nothing.
    async fn in_purses(&self, wallet: &Wallet) -> Result<(Msat, Msat), WalletError> {
        let sagas = self.store.get_incomplete_sagas().await;
        let sagas: Vec<_> = sagas
            .map_err(WalletError::Store)?
            .iter()
            .map(|saga| saga.id)
            .collect();
        let mut held = self.proofs(Some(wallet.mint_url.clone())).await?;
        held.retain(|info| {
            info.state == State::Reserved
                && info
                    .used_by_operation
                    .is_some_and(|id| !sagas.contains(&id))
        });
        let (mut unspent, mut spent) = (Vec::new(), Vec::new());
        for part in held.chunks(100) {
            let request = CheckStateRequest {
                ys: part.iter().map(|info| info.y).collect(),
            };
            let answer = wallet.mint_connector().post_check_state(request).await;
            let answer =
                answer.map_err(|error| WalletError::Mint(wallet.mint_url.clone(), error))?;
            for info in part {
                let mut states = answer.states.iter();
                let state = states.find(|state| state.y == info.y);
                let is_spent = state.is_some_and(|state| state.state == State::Spent);
                let side = if is_spent { &mut spent } else { &mut unspent };
                side.push(info.proof.amount);
            }
        }
        Ok((sum(unspent.into_iter())?, sum(spent.into_iter())?))
    }

    async fn mints(&self) -> Result<Vec<MintUrl>, WalletError> {
        let mut mints: Vec<MintUrl> = Vec::new();
        mints.extend(
            self.proofs(None)
                .await?
                .into_iter()
                .map(|info| info.mint_url),
        );
        let sagas = self.store.get_incomplete_sagas().await;
        mints.extend(
            sagas
                .map_err(WalletError::Store)?
                .into_iter()
                .map(|saga| saga.mint_url),
        );
        let quotes = self.store.get_unissued_mint_quotes().await;
        mints.extend(
            quotes
                .map_err(WalletError::Store)?
                .into_iter()
                .map(|quote| quote.mint_url),
        );
        mints.sort();
        mints.dedup();
        Ok(mints)
    }

    async fn proofs(&self, mint: Option<MintUrl>) -> Result<Vec<ProofInfo>, WalletError> {
        let unit = Some(CurrencyUnit::Sat);
        let proofs = self.store.get_proofs(mint, unit, None, None).await;
        proofs.map_err(WalletError::Store)
    }
}

#[async_trait]
impl Wallets for WalletFolder {
    async fn wallet(&self, mint: &MintUrl, unit: &CurrencyUnit) -> Option<Arc<Wallet>> {
        if *unit != CurrencyUnit::Sat {
            return None;
        }
        self.wallet_at(&mint.to_string()).await.ok()
    }
}

impl core::fmt::Debug for WalletFolder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WalletFolder").finish_non_exhaustive()
    }
}

fn whole_sat(amount: Msat) -> Result<u64, WalletError> {
    if amount.is_zero() || amount.sat_ceil() != amount.sat_floor() {
        return Err(WalletError::Amount);
    }
    Ok(amount.sat_floor())
}

fn sum(amounts: impl Iterator<Item = Amount>) -> Result<Msat, WalletError> {
    let total = Amount::try_sum(amounts).map_err(|_| WalletError::Amount)?;
    Msat::from_sat(total.to_u64()).map_err(|_| WalletError::Amount)
}
