//! Which mints keep what is locked with them: tried once for each of their keysets, with a little of
//! the wallet's own money, and remembered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use cdk::mint_url::MintUrl;
use cdk::wallet::Wallet;
use cdk_common::util::unix_time;
use serde::{Deserialize, Serialize};
use streampay_cashu::{MintFault, MintPolicy, canary, canary_home, check_mint};
use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::session::TaggedHash;
use streampay_core::units::Msat;

use super::{AtMint, WalletError, WalletFolder};
use crate::{durable, seed_file};

/// A way to lock ecash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockKind {
    /// To a key. Source: NUT-11.
    P2pk,
    /// To a hash and a key. Source: NUT-14.
    Htlc,
}

impl LockKind {
    const ALL: [Self; 2] = [Self::P2pk, Self::Htlc];

    const fn name(self) -> &'static str {
        match self {
            Self::P2pk => "p2pk",
            Self::Htlc => "htlc",
        }
    }
}

/// What a mint did with a wrong witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// It refused it.
    pub hold: bool,
    /// When, in seconds of Unix time.
    pub at: u64,
    /// Its active keysets then, in hex: with others it is tried again.
    pub keysets: Vec<String>,
}

/// All that is known, by mint and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Known(BTreeMap<String, BTreeMap<LockKind, Tried>>);

const FILE: &str = "mints.json";
/// How long one step of a trial may take.
const LIMIT: Duration = Duration::from_secs(30);

impl Known {
    pub(super) fn read(folder: &Path) -> std::io::Result<Self> {
        match std::fs::read(folder.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn of(&self, mint: &MintUrl, kind: LockKind) -> Option<&Tried> {
        self.0.get(&mint.to_string())?.get(&kind)
    }

    /// True where a lock of this mint is known to be worth nothing.
    pub(super) fn is_broken(&self, mint: &MintUrl) -> bool {
        let tried = self.0.get(&mint.to_string());
        tried.is_some_and(|kinds| kinds.values().any(|tried| !tried.hold))
    }
}

impl WalletFolder {
    /// What was found out about the locks of `mint`, and is still true of its keysets.
    ///
    /// # Errors
    /// [`WalletError`] where the mint does not answer.
    pub async fn known_of(&self, mint: &str, kind: LockKind) -> Result<Option<Tried>, WalletError> {
        let wallet = self.wallet_of(mint).await?;
        let now = active_keysets(&wallet).await?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = known.of(&wallet.mint_url, kind).cloned();
        Ok(tried.filter(|tried| tried.keysets == now))
    }

    /// What came of the last trial of the locks of `mint`, whatever its keysets are by now.
    pub(crate) fn last_try_of(&self, mint: &str, kind: LockKind) -> Option<Tried> {
        let mint = streampay_cashu::check_mint_url(mint).ok()?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.of(&mint, kind).cloned()
    }

    /// Tries the locks of `mint`, with a little of the wallet's money there, and remembers what came
    /// of it. Costs the mint's fees for two swaps. What is out while it is tried is kept by a seed in
    /// the folder: [`Self::recover`] brings it home.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`] where nothing there is worth more than the fees;
    /// [`WalletError::Untried`] where the mint does not answer: it is finished by the next try, or by
    /// [`Self::recover`].
    pub async fn try_locks(&self, mint: &str, kind: LockKind) -> Result<Tried, WalletError> {
        let wallet = self.wallet_at(mint).await?;
        let keysets = active_keysets(&wallet).await?;
        let _alone = self.trying.lock().await;
        let name = seed_name(&wallet.mint_url, kind);
        let failed = |error| WalletError::Folder(self.folder.clone(), error);
        let seed = seed_file::load_or_create(&self.folder, &name).map_err(failed)?;
        let chain = kind == LockKind::Htlc;
        let tried = canary(&wallet, *seed, chain, LIMIT).await;
        // Where it is not home yet, the seed stays.
        let home = canary_home(&wallet, *seed, chain, LIMIT).await;
        if home.is_ok() {
            seed_file::remove(&self.folder, &name).map_err(failed)?;
        }
        let fault = match tried {
            Ok(fault) => fault,
            Err(BackendError::Fatal(RefusalCode::InsufficientFunds)) => {
                let held = self.spendable_at(&wallet.mint_url).await?;
                let at = AtMint(Some(wallet.mint_url.to_string()));
                return Err(WalletError::InsufficientFunds(held, at));
            }
            Err(_) => return Err(WalletError::Untried(wallet.mint_url.clone())),
        };
        let tried = Tried {
            hold: fault.is_none(),
            at: unix_time(),
            keysets,
        };
        self.remember(&wallet.mint_url, kind, &tried)?;
        Ok(tried)
    }

    fn remember(&self, mint: &MintUrl, kind: LockKind, tried: &Tried) -> Result<(), WalletError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_mint = known.0.entry(mint.to_string()).or_default();
        of_mint.insert(kind, tried.clone());
        let failed = |error| WalletError::Folder(self.folder.clone(), error);
        let bytes = serde_json::to_vec_pretty(&*known).map_err(|error| failed(error.into()))?;
        durable::write(&self.folder, FILE, &bytes)
            .map(|_| ())
            .map_err(failed)
    }

    /// Brings home what trying the locks of this mint has out.
    pub(super) async fn finish_trying(&self, wallet: &Wallet) -> Result<(), WalletError> {
        let _alone = self.trying.lock().await;
        for kind in LockKind::ALL {
            let name = seed_name(&wallet.mint_url, kind);
            if !self.folder.join(&name).exists() {
                continue;
            }
            let failed = |error| WalletError::Folder(self.folder.clone(), error);
            let seed = seed_file::load_or_create(&self.folder, &name).map_err(failed)?;
            let home = canary_home(wallet, *seed, kind == LockKind::Htlc, LIMIT).await;
            home.map_err(|_| WalletError::Untried(wallet.mint_url.clone()))?;
            seed_file::remove(&self.folder, &name).map_err(failed)?;
        }
        Ok(())
    }

    /// False where a lock of `mint` is known to be worth nothing.
    #[must_use]
    pub fn trusts_locks_at(&self, mint: &str) -> bool {
        let mint = streampay_cashu::check_mint_url(mint);
        mint.is_ok_and(|mint| streampay_cashu::Wallets::trusts_locks(self, &mint))
    }

    /// What stands against `mint`, by its own word, where the NUTs `nuts` are needed, and those that its user
    /// asks of it. Costs nothing.
    ///
    /// # Errors
    /// [`WalletError::Untried`] where it does not answer.
    pub async fn faults_of(
        &self,
        mint: &str,
        nuts: &'static [u8],
    ) -> Result<Vec<MintFault>, WalletError> {
        let wallet = self.wallet_of(mint).await?;
        let mut policy = MintPolicy::with_nuts(nuts);
        policy.max_fee_ppk = self.limits.max_fee_ppk_at(&wallet.mint_url.to_string());
        let faults = check_mint(self, &wallet, policy).await;
        faults.map_err(|_| WalletError::Untried(wallet.mint_url.clone()))
    }

    /// What the wallet has at `mint`, to tell what a trial took.
    ///
    /// # Errors
    /// [`WalletError`] of the address or the store.
    pub async fn spendable(&self, mint: &str) -> Result<Msat, WalletError> {
        let wallet = self.wallet_of(mint).await?;
        self.spendable_at(&wallet.mint_url).await
    }
}

async fn active_keysets(wallet: &Wallet) -> Result<Vec<String>, WalletError> {
    let policy = cdk::wallet::types::KeysetLoadPolicy::Refresh;
    let sets = wallet.keysets(policy).await;
    let sets = sets.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
    let active = sets.iter().filter(|set| set.active == Some(true));
    let mut ids: Vec<String> = active.map(|set| set.id.to_string()).collect();
    ids.sort();
    Ok(ids)
}

fn seed_name(mint: &MintUrl, kind: LockKind) -> String {
    let digest = TaggedHash::new("streampay/wallet/canary-file/v1")
        .text(&mint.to_string())
        .finish();
    let (first, _) = digest.0.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let number = u64::from_be_bytes(*first);
    format!("canary-{}-{number:016x}.seed", kind.name())
}
