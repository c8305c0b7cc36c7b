//! Looking at a mint before it is trusted: what it says it can do, and one thing that it must not.

use cdk::Amount;
use cdk::nuts::{CurrencyUnit, KeySetInfo, MintInfo};
use cdk::wallet::Wallet;
use cdk_common::util::unix_time;
use serde::Serialize;
use streampay_cashu::{MintPolicy, announced_nuts};

use super::locks::{LockKind, Tried};
use super::{WalletError, WalletFolder};
use crate::report::plain;

/// What a mint says of itself, and what follows from it for streaming.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MintReport {
    /// Its address.
    pub mint: String,
    /// Its name for itself.
    pub name: Option<String>,
    /// Its software, such as `cdk-mintd/0.18.3`.
    pub software: Option<String>,
    /// What it has to say at the moment.
    pub notice: Option<String>,
    /// The NUTs that it supports, beside those that every mint must.
    pub nuts: Vec<u8>,
    /// The units of its ecash.
    pub units: Vec<String>,
    /// The least and the most of a deposit by Lightning in sat, where it says; none where it takes
    /// none.
    pub deposit_sat: Option<(Option<u64>, Option<u64>)>,
    /// The same of a withdrawal.
    pub withdraw_sat: Option<(Option<u64>, Option<u64>)>,
    /// The most inputs or outputs of one request, where it says.
    pub array_max: Option<u64>,
    /// How far its clock is ahead of this one, in seconds; none where it does not say.
    pub clock_ahead_s: Option<i64>,
    /// Its keysets in sat.
    pub keysets: Vec<KeysetReport>,
    /// Which ways to pay it can carry.
    pub modes: Vec<Mode>,
    /// What it did with ecash that somebody else tried to take.
    pub canary: Option<Canary>,
}

/// One keyset. Source: NUT-02.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeysetReport {
    /// Its id, in hex.
    pub id: String,
    /// Whether new ecash is signed with it.
    pub active: bool,
    /// The input fee, in thousandths of a satoshi a proof.
    pub input_fee_ppk: u64,
    /// When its ecash ends, in seconds of Unix time.
    pub final_expiry: Option<u64>,
    /// How many amounts it has a key for; none where they were not asked for.
    pub amounts: Option<usize>,
    /// Whether the id follows from the keys, as it must.
    pub id_matches: Option<bool>,
}

/// A way to pay, and what the mint lacks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mode {
    /// `chain`, `p2pk` or `swap`.
    pub name: &'static str,
    /// Whether it can run here.
    pub runs: bool,
    /// The NUTs that are missing.
    pub missing: Vec<u8>,
}

/// Whether locked ecash stays with whom it is locked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Canary {
    /// Locked to a key, offered with a wrong signature. Source: NUT-11.
    pub p2pk: Refused,
    /// Locked to a hash and a key, offered with one of them wrong. Source: NUT-14.
    pub htlc: Refused,
    /// What trying cost, in msat: the mint's fees.
    pub cost_msat: u64,
}

/// What the mint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Refused {
    /// It refused, as it must.
    Yes,
    /// It took the ecash: what is locked at this mint is not safe.
    No,
    /// It did neither.
    Unclear,
}

impl MintReport {
    /// Nothing is wrong: at least one way to pay can run, and no lock is broken.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let broken = |canary: &Canary| canary.p2pk == Refused::No || canary.htlc == Refused::No;
        let keys = self.keysets.iter().all(|set| set.id_matches != Some(false));
        keys && self.modes.iter().any(|mode| mode.runs) && !self.canary.as_ref().is_some_and(broken)
    }
}

/// What each way to pay needs: state checks, restoring, and locks with proofs that the mint signed.
const MODES: [(&str, &[u8]); 3] = [
    ("chain", MintPolicy::CHAIN),
    ("p2pk", MintPolicy::P2PK),
    ("swap", MintPolicy::SWAP),
];

impl WalletFolder {
    /// What the mint says of itself. With `canary`, ecash of this wallet is locked and offered
    /// with a wrong witness, which costs the mint's fees.
    ///
    /// # Errors
    /// [`WalletError`] where the mint does not answer, or the wallet has nothing for a canary.
    pub async fn report_on(&self, mint: &str, canary: bool) -> Result<MintReport, WalletError> {
        let wallet = self.wallet_of(mint).await?;
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let connector = wallet.mint_connector();
        let info = connector.get_mint_info().await.map_err(failed)?;
        let all = connector.get_mint_keysets().await.map_err(failed)?.keysets;
        let mut keysets = Vec::new();
        for set in all.iter().filter(|set| set.unit == CurrencyUnit::Sat) {
            keysets.push(keyset(&wallet, set).await?);
        }
        let mut report = report(&wallet, &info, keysets);
        let mut units: Vec<String> = all.iter().map(|set| plain(&set.unit.to_string())).collect();
        units.sort();
        units.dedup();
        report.units = units;
        if canary {
            report.canary = Some(self.canary(mint).await?);
        }
        Ok(report)
    }

    async fn canary(&self, mint: &str) -> Result<Canary, WalletError> {
        let before = self.spendable(mint).await?;
        let p2pk = self.verdict(mint, LockKind::P2pk).await?;
        let htlc = self.verdict(mint, LockKind::Htlc).await?;
        let after = self.spendable(mint).await?;
        Ok(Canary {
            p2pk,
            htlc,
            cost_msat: before.saturating_minus(after).msat(),
        })
    }

    async fn verdict(&self, mint: &str, kind: LockKind) -> Result<Refused, WalletError> {
        match self.try_locks(mint, kind).await {
            Ok(Tried { hold: true, .. }) => Ok(Refused::Yes),
            Ok(Tried { hold: false, .. }) => Ok(Refused::No),
            Err(WalletError::Untried(_)) => Ok(Refused::Unclear),
            Err(error) => Err(error),
        }
    }
}

async fn keyset(wallet: &Wallet, set: &KeySetInfo) -> Result<KeysetReport, WalletError> {
    let mut report = KeysetReport {
        id: set.id.to_string(),
        active: set.active,
        input_fee_ppk: set.input_fee_ppk,
        final_expiry: set.final_expiry,
        amounts: None,
        id_matches: None,
    };
    if set.active {
        let keys = wallet.mint_connector().get_mint_keyset(set.id).await;
        let keys = keys.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
        report.amounts = Some(keys.keys.iter().count());
        report.id_matches = Some(keys.id == set.id && keys.verify_id().is_ok());
    }
    Ok(report)
}

fn report(wallet: &Wallet, info: &MintInfo, keysets: Vec<KeysetReport>) -> MintReport {
    let nuts = announced_nuts(info);
    let active = keysets.iter().any(|set| set.active);
    let modes = MODES.iter().map(|(name, needed)| {
        let lacks = |nut: &&u8| !nuts.contains(nut);
        let missing: Vec<u8> = needed.iter().filter(lacks).copied().collect();
        Mode {
            name,
            runs: active && missing.is_empty(),
            missing,
        }
    });
    let modes = modes.collect();
    let limit = |amount: Option<Amount>| amount.map(|amount| amount.to_u64());
    let (sat, bolt11) = (CurrencyUnit::Sat, cdk::nuts::PaymentMethod::BOLT11);
    let deposit = info.nuts.nut04.get_settings(&sat, &bolt11);
    let withdraw = info.nuts.nut05.get_settings(&sat, &bolt11);
    let software = info.version.as_ref();
    MintReport {
        mint: wallet.mint_url.to_string(),
        name: info.name.as_deref().map(plain),
        software: software.map(|of| plain(&format!("{}/{}", of.name, of.version))),
        notice: info.motd.as_deref().map(plain),
        nuts,
        units: Vec::new(),
        deposit_sat: deposit.map(|of| (limit(of.min_amount), limit(of.max_amount))),
        withdraw_sat: withdraw.map(|of| (limit(of.min_amount), limit(of.max_amount))),
        array_max: info.max_array_length,
        clock_ahead_s: info.time.map(|time| ahead(time, unix_time())),
        keysets,
        modes,
        canary: None,
    }
}

fn ahead(theirs: u64, ours: u64) -> i64 {
    let signed = |of: u64| i64::try_from(of).unwrap_or(i64::MAX);
    signed(theirs).saturating_sub(signed(ours))
}
