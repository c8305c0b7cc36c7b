//! Tokens of strangers: looked at before the mint is troubled, and taken once.

use std::collections::BTreeSet;

use cdk::dhke::hash_to_curve;
use cdk::nuts::{KeySet, KeySetInfo, Proof, Proofs, PublicKey, Token};
use cdk::wallet::Wallet;
use cdk::wallet::types::{KeysetLoadPolicy, Transaction, TransactionDirection, TransactionStatus};
use streampay_cashu::verify::{Dleq, SignatureVerifier, VerifyError};
use streampay_core::session::TaggedHash;
use streampay_core::units::Msat;

use super::{WalletError, WalletFolder, sum};

/// Why a token cannot be taken for the mint's own without asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// Its keys are not known here: the mint may have new ones.
    UnknownKeys,
    /// It is refused, whatever the mint would say.
    Refused(&'static str),
}

impl WalletFolder {
    /// Checks that the mint signed each proof of `token`, by the keys that this wallet knows; with
    /// `ask`, by those that the mint has now. It gives what redeeming all of it costs. Source: NUT-02,
    /// NUT-12.
    pub(crate) async fn prove(&self, token: &Token, ask: bool) -> Result<Msat, Unproven> {
        let unknown = |_| Unproven::UnknownKeys;
        let mint = token.mint_url();
        let mint = mint.map_err(|_| Unproven::Refused("not a token of one mint"))?;
        let wallet = self.wallet_of(&mint.to_string()).await;
        let wallet = wallet.map_err(|_| Unproven::Refused("not a mint's address"))?;
        let policy = match ask {
            true => KeysetLoadPolicy::Refresh,
            false => KeysetLoadPolicy::CacheOnly,
        };
        let sets = wallet.keysets(policy).await.map_err(unknown)?;
        let infos: Vec<KeySetInfo> = sets.iter().map(info).collect();
        let proofs = token.proofs(&infos).map_err(|_| Unproven::UnknownKeys)?;
        let work = tokio::task::spawn_blocking(move || prove_all(&proofs, &sets));
        let proven = work.await;
        proven.map_err(|_| Unproven::Refused("the token cannot be read"))?
    }

    /// What a token is called, however it is written: by its proofs.
    ///
    /// # Errors
    /// [`WalletError::Token`].
    pub(crate) fn name_of(token: &Token) -> Result<[u8; 32], WalletError> {
        ys_of(token).map(|ys| name_of(&ys))
    }

    /// Looks in the wallet's book, and asks the mint, whether a token was spent before: nothing of it is
    /// taken yet. What the book has of it later is of this sale, whatever any clock said meanwhile.
    ///
    /// # Errors
    /// [`WalletError::Spent`], [`WalletError::Token`], [`WalletError::MintUrl`], or a mint's.
    pub(crate) async fn ask_new(&self, token: &Token) -> Result<(), WalletError> {
        let mint = token.mint_url().map_err(|_| WalletError::Token)?;
        let wallet = self.wallet_at(&mint.to_string()).await?;
        if arrived(&wallet, &ys_of(token)?).await?.is_some() {
            return Err(WalletError::Spent);
        }
        Self::check_unspent(&wallet, token).await
    }

    /// Takes a token of which [`Self::ask_new`] has just said that it never arrived; or goes on with
    /// one that was `begun` before, and of which it is not known what became: what arrived, net of fees.
    /// It arrives once. One after the other: finishing what was begun must not meet what is being done.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(crate) async fn receive_once(
        &self,
        text: &str,
        token: &Token,
        begun: bool,
    ) -> Result<Msat, WalletError> {
        let mint = token.mint_url().map_err(|_| WalletError::Token)?;
        let wallet = self.wallet_at(&mint.to_string()).await?;
        if !begun {
            return Self::receive_unspent(&wallet, text).await;
        }
        let failed = |error| WalletError::of_mint(&mint, error);
        Self::name_sent(&wallet).await?;
        let report = wallet.recover_incomplete_sagas().await.map_err(failed)?;
        if let Some(arrived) = arrived(&wallet, &ys_of(token)?).await? {
            return Ok(arrived);
        }
        if report.skipped > 0 || report.failed > 0 {
            return Err(failed(cdk::Error::Timeout));
        }
        self.receive(text).await
    }
}

fn ys_of(token: &Token) -> Result<BTreeSet<PublicKey>, WalletError> {
    let secrets = token.token_secrets().into_iter();
    let ys: Result<_, _> = secrets
        .map(|secret| hash_to_curve(secret.as_bytes()))
        .collect();
    ys.map_err(|_| WalletError::Token)
}

fn info(set: &KeySet) -> KeySetInfo {
    KeySetInfo {
        id: set.id,
        unit: set.unit.clone(),
        active: set.active.unwrap_or(false),
        input_fee_ppk: set.input_fee_ppk,
        final_expiry: set.final_expiry,
    }
}

fn prove_all(proofs: &Proofs, sets: &[KeySet]) -> Result<Msat, Unproven> {
    let mut seen = BTreeSet::new();
    let mut ppk = 0_u64;
    for proof in proofs {
        let (y, fee_ppk) = prove_one(proof, sets)?;
        if !seen.insert(y.to_bytes()) {
            return Err(Unproven::Refused("the token has a proof twice"));
        }
        ppk = ppk.saturating_add(fee_ppk);
    }
    Msat::from_sat(ppk.div_ceil(1_000)).map_err(|_| Unproven::Refused("the mint's fee is too high"))
}

/// Its Y, and what its keyset takes for an input, in thousandths of a satoshi.
fn prove_one(proof: &Proof, sets: &[KeySet]) -> Result<(PublicKey, u64), Unproven> {
    let locked = cdk::nuts::nut10::Secret::try_from(&proof.secret).is_ok();
    if locked || proof.witness.is_some() {
        return Err(Unproven::Refused("the token is locked"));
    }
    let set = sets.iter().find(|set| set.id == proof.keyset_id);
    let set = set.ok_or(Unproven::UnknownKeys)?;
    let key = set.keys.amount_key(proof.amount);
    let key = key.ok_or(Unproven::Refused("the mint has no such amounts"))?;
    let y = proof.y();
    let y = y.map_err(|_| Unproven::Refused("the token cannot be read"))?;
    match Dleq.verify(proof, y, key) {
        Ok(()) => Ok((y, set.input_fee_ppk)),
        Err(VerifyError::NoDleq) => Err(Unproven::Refused(
            "the token is without the mint's DLEQ proofs; send it with them (NUT-12)",
        )),
        Err(_) => Err(Unproven::Refused("the mint has not signed this token")),
    }
}

fn name_of(ys: &BTreeSet<PublicKey>) -> [u8; 32] {
    let hash = TaggedHash::new("streampay/wallet/token/v1");
    ys.iter()
        .fold(hash, |hash, y| hash.blob(&y.to_bytes()))
        .finish()
        .0
}

/// What the wallet's ledger says of a token: none where it has not arrived.
async fn arrived(wallet: &Wallet, ys: &BTreeSet<PublicKey>) -> Result<Option<Msat>, WalletError> {
    let lines = wallet.list_transactions(Some(TransactionDirection::Incoming));
    let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
    let lines = lines.await.map_err(failed)?;
    let is_it = |line: &&Transaction| {
        line.status == TransactionStatus::Completed
            && line.ys.len() == ys.len()
            && line.ys.iter().all(|y| ys.contains(y))
    };
    match lines.iter().find(is_it) {
        Some(line) => sum(core::iter::once(line.amount)).map(Some),
        None => Ok(None),
    }
}
