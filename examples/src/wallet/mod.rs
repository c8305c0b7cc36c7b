//! One folder a user: a seed, the ecash, and the wallets over it.

mod begun;
mod check;
mod deposit;
mod error;
mod find_again;
mod held;
mod locks;
mod recover;
mod request;
mod sent;
mod till;
mod tokens;
mod transport;
mod withdraw;

pub use self::begun::Finished;
pub use self::check::{Canary, KeysetReport, MintReport, Mode, Refused};
pub use self::deposit::{Begun, Invoice, Unheard};
pub use self::error::{AtMint, WalletError};
pub use self::locks::{LockKind, Tried};
pub use self::recover::Recovered;
pub use self::request::{Handover, PayQuote, Request};
pub(crate) use self::till::Unproven;
pub use self::transport::{LimitsAt, MintLimits};
pub(crate) use self::withdraw::Payment;
pub use self::withdraw::{To, WithdrawQuote, Withdrawn};

use self::held::Since;
use self::locks::Known;
use self::transport::{Dates, Routes, Transport, origin};

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use cdk::Amount;
use cdk::mint_url::MintUrl;
use cdk::nuts::{CurrencyUnit, State};
use cdk::wallet::types::{ProofInfo, Transaction};
use cdk::wallet::{BaseHttpClient, Wallet, WalletBuilder};
use cdk_common::database::{Error as DatabaseError, WalletDatabase};
use cdk_redb::WalletRedbDatabase;
use streampay_cashu::{CallBudget, Wallets, check_mint_url};
use streampay_core::units::Msat;
use zeroize::Zeroizing;

use crate::home::{lock, private_file};
use crate::seed_file;
use crate::seed_words::{self, SeedWords};

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

impl MintBalance {
    const fn empty(mint: MintUrl) -> Self {
        Self {
            mint,
            spendable: Msat::ZERO,
            pending: Msat::ZERO,
        }
    }
}

/// A user's wallet folder. One process at a time.
pub struct WalletFolder {
    folder: PathBuf,
    seed: Zeroizing<[u8; 64]>,
    store: Arc<WalletRedbDatabase>,
    wallets: tokio::sync::Mutex<HashMap<MintUrl, Arc<Wallet>>>,
    limits: MintLimits,
    dates: Dates,
    routes: Routes,
    known: Mutex<Known>,
    /// In a folder that was restored, where nothing is paid or made yet.
    since: Mutex<Option<Since>>,
    /// Held while the locks of a mint are tried: one at a time.
    trying: tokio::sync::Mutex<()>,
    _lock: File,
}

impl WalletFolder {
    /// How long [`Self::deposit`] waits for its payment.
    pub const DEPOSIT_WAIT: Duration = Duration::from_secs(20);
    /// The most proofs of a token that is received. NUT-07 answers for that many at once.
    const TOKEN_PROOFS_MAX: usize = 1_000;
    /// How many proofs a mint is asked for at once.
    const CHECKED_AT_ONCE: usize = 100;

    /// Opens the wallet in `folder`, which is made on the first call: a seed drawn and stored for
    /// its owner's eyes only, an empty store.
    ///
    /// # Errors
    /// [`WalletError::InUse`], [`WalletError::Folder`], [`WalletError::Store`].
    pub fn open(folder: &Path) -> Result<Self, WalletError> {
        Self::open_with(folder, MintLimits::default())
    }

    /// The same with other limits for its mints.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(folder: &Path, limits: MintLimits) -> Result<Self, WalletError> {
        let failed = |error| WalletError::Folder(folder.to_owned(), error);
        let lock = lock(folder, "wallet.lock")?;
        SeedWords::begin(folder).map_err(failed)?;
        let seed = seed_file::load_or_derive(folder, seed_words::WALLET).map_err(failed)?;
        let path = folder.join("wallet.redb");
        private_file(&path).map_err(failed)?;
        let store = WalletRedbDatabase::new(&path);
        let known = Known::read(folder).map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            seed,
            store: Arc::new(store.map_err(|error| WalletError::Store(error.into()))?),
            wallets: tokio::sync::Mutex::default(),
            limits,
            dates: Dates::default(),
            routes: Routes::default(),
            known: Mutex::new(known),
            since: Mutex::default(),
            trying: tokio::sync::Mutex::default(),
            _lock: lock,
        })
    }

    /// The wallet for satoshi at `mint`. Its requests are not paced: sessions pace themselves.
    ///
    /// # Errors
    /// [`WalletError::MintUrl`] for a URL that will not do; [`WalletError::Unasked`].
    pub async fn wallet_at(&self, mint: &str) -> Result<Arc<Wallet>, WalletError> {
        let url = check_mint_url(mint)?;
        self.ask_at_first(&url).await?;
        self.check_asked(&url)?;
        self.wallet_of(mint).await
    }

    /// The same to look at it alone, or to bring purses home: nothing is paid, and no number is used.
    pub(crate) async fn wallet_of(&self, mint: &str) -> Result<Arc<Wallet>, WalletError> {
        let mint = check_mint_url(mint)?;
        let mut wallets = self.wallets.lock().await;
        if let Some(wallet) = wallets.get(&mint) {
            return Ok(wallet.clone());
        }
        let store: Arc<dyn WalletDatabase<DatabaseError> + Send + Sync> = self.store.clone();
        let transport = Transport::new(self.limits, self.dates.clone(), self.routes.clone());
        let wallet = WalletBuilder::new()
            .client(BaseHttpClient::with_transport(
                mint.clone(),
                transport,
                None,
            ))
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

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes it, and keeps others away while the file lives.
    pub(crate) fn into_lock(self) -> File {
        self._lock
    }

    /// What its mints may take.
    #[must_use]
    pub const fn limits(&self) -> MintLimits {
        self.limits
    }

    /// Asks whether there is a mint that answers.
    ///
    /// # Errors
    /// [`WalletError::Unreachable`], or the mint's.
    pub async fn check_mint(&self, mint: &str) -> Result<(), WalletError> {
        let wallet = self.wallet_of(mint).await?;
        let asked = wallet.mint_connector().get_mint_info().await;
        let answer = asked.map_err(|error| WalletError::of_mint(&wallet.mint_url, error));
        answer.map(|_| ())
    }

    /// Requests for `origin`, such as `https://example.com`, go to `real` instead. For tests.
    pub fn route_for_testing(&self, origin: &str, real: &str) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(origin.to_owned(), real.to_owned());
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
                spendable: sum(spendable)?,
                pending: sum(pending)?,
            })
        });
        balances.collect()
    }

    /// Every line of the wallet's book and all ecash in it, of every mint.
    pub(crate) async fn book(&self) -> Result<(Vec<Transaction>, Vec<ProofInfo>), WalletError> {
        let unit = Some(CurrencyUnit::Sat);
        let lines = self.store.list_transactions(None, None, unit).await;
        let lines = lines.map_err(WalletError::Store)?;
        Ok((lines, self.proofs(None).await?))
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
        self.wallet_of(&mint.to_string()).await.ok()
    }

    fn holds_back(&self, mint: &MintUrl) -> bool {
        self.holds(mint)
    }

    async fn mint_time(&self, mint: &MintUrl) -> Option<u64> {
        let host = origin(&mint.join("v1").ok()?);
        // An answer of its own: what the last one said may be long ago.
        self.check_mint(&mint.to_string()).await.ok()?;
        let dates = self.dates.lock().unwrap_or_else(PoisonError::into_inner);
        let since = dates.get(&host)?.duration_since(SystemTime::UNIX_EPOCH);
        since.ok().map(|since| since.as_secs())
    }

    fn trusts_locks(&self, mint: &MintUrl) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        !known.is_broken(mint)
    }

    fn max_fee_ppk(&self, mint: &MintUrl) -> u64 {
        self.limits.max_fee_ppk_at(&mint.to_string())
    }

    fn needed_nuts(&self, mint: &MintUrl) -> Vec<u8> {
        self.limits.nuts_at(&mint.to_string())
    }

    fn budget(&self, mint: &MintUrl) -> Option<CallBudget> {
        let ours = mint.join("v1").is_ok_and(|url| url.scheme() == "http");
        // Plain http is for this very machine alone.
        (!ours).then_some(self.limits.calls)
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

fn sum<I: IntoIterator<Item = Amount>>(amounts: I) -> Result<Msat, WalletError> {
    let total = Amount::try_sum(amounts).map_err(|_| WalletError::Amount)?;
    Msat::from_sat(total.to_u64()).map_err(|_| WalletError::Amount)
}
