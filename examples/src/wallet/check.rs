//! Looking at a mint before it is trusted: what it says it can do, and one thing that it must not.

use cdk::Amount;
use cdk::amount::SplitTarget;
use cdk::nuts::{
    Conditions, CurrencyUnit, KeySetInfo, MintInfo, PreMintSecrets, Proofs, SecretKey,
    SpendingConditions, SwapRequest,
};
use cdk::secret::Secret;
use cdk::wallet::{ReceiveOptions, SendOptions, Wallet};
use cdk_common::util::unix_time;
use serde::Serialize;
use streampay_core::units::Msat;

use super::tokens::proofs_of;
use super::{AtMint, WalletError, WalletFolder};
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
    ("chain", &[7, 9, 11, 12, 14]),
    ("p2pk", &[7, 9, 11, 12]),
    ("swap", &[7, 9]),
];
/// The least that a canary takes with it, in satoshi: two, so that a fee leaves something.
const CANARY_SAT: u64 = 2;
/// NUT-13 counters from the far end, which no wallet reaches: the canary's keys are the seed's.
const CANARY_COUNTER: u32 = 0x7fff_fff0;

impl WalletFolder {
    /// What the mint says of itself. With `canary`, ecash of this wallet is locked and offered
    /// with a wrong witness, which costs the mint's fees.
    ///
    /// # Errors
    /// [`WalletError`] where the mint does not answer, or the wallet has nothing for a canary.
    pub async fn report_on(&self, mint: &str, canary: bool) -> Result<MintReport, WalletError> {
        let wallet = self.wallet_at(mint).await?;
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
            report.canary = Some(self.canary(&wallet).await?);
        }
        Ok(report)
    }

    async fn canary(&self, wallet: &Wallet) -> Result<Canary, WalletError> {
        let before = self.spendable_at(&wallet.mint_url).await?;
        let least = Msat::from_sat(2 * CANARY_SAT).map_err(|_| WalletError::Amount)?;
        if before < least {
            let at = AtMint(Some(wallet.mint_url.to_string()));
            return Err(WalletError::InsufficientFunds(before, at));
        }
        let p2pk = self.offer_wrongly(wallet, false).await?;
        let htlc = self.offer_wrongly(wallet, true).await?;
        let after = self.spendable_at(&wallet.mint_url).await?;
        Ok(Canary {
            p2pk,
            htlc,
            cost_msat: before.saturating_minus(after).msat(),
        })
    }

    /// Locks ecash to ourselves, offers it with what somebody else could say, and takes it back.
    async fn offer_wrongly(&self, wallet: &Wallet, htlc: bool) -> Result<Refused, WalletError> {
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let set = wallet.active_keyset().await.map_err(failed)?;
        let ours = Witness::derive(&self.seed, set.id)?;
        let conditions = ours.lock(htlc)?;
        let options = SendOptions {
            conditions: Some(conditions),
            include_fee: true,
            ..SendOptions::default()
        };
        let prepared = wallet.prepare_send(Amount::from(CANARY_SAT), options).await;
        let prepared = prepared.map_err(|error| match error {
            cdk::Error::InsufficientFunds => {
                let at = AtMint(Some(wallet.mint_url.to_string()));
                WalletError::InsufficientFunds(Msat::ZERO, at)
            }
            error => WalletError::of_mint(&wallet.mint_url, error),
        })?;
        let token = prepared.confirm(None).await.map_err(failed)?;
        let proofs = proofs_of(wallet, &token).await.map_err(failed)?;
        let mut verdict = Refused::Yes;
        for wrong in ours.all_wrong(htlc) {
            let offered = wrong.sign(proofs.clone(), htlc)?;
            match try_to_take(wallet, offered).await? {
                Refused::Yes => {}
                other => verdict = other,
            }
            if verdict == Refused::No {
                return Ok(verdict);
            }
        }
        let ours = ReceiveOptions {
            p2pk_signing_keys: vec![ours.key],
            preimages: htlc.then_some(ours.preimage).into_iter().collect(),
            ..ReceiveOptions::default()
        };
        let back = wallet.receive(&token.to_string(), ours).await;
        back.map_err(failed)?;
        Ok(verdict)
    }
}

/// What opens a lock.
#[derive(Clone)]
struct Witness {
    key: SecretKey,
    preimage: String,
}

impl Witness {
    /// From the wallet's seed, so that nothing is lost where this is cut short.
    fn derive(seed: &[u8; 64], keyset: cdk::nuts::Id) -> Result<Self, WalletError> {
        let key = SecretKey::from_seed(seed, keyset, CANARY_COUNTER);
        let preimage = Secret::from_seed(seed, keyset, CANARY_COUNTER);
        match (key, preimage) {
            (Ok(key), Ok(preimage)) => Ok(Self {
                key,
                preimage: preimage.to_string(),
            }),
            _ => Err(WalletError::Amount),
        }
    }

    fn lock(&self, htlc: bool) -> Result<SpendingConditions, WalletError> {
        let key = self.key.public_key();
        if !htlc {
            return Ok(SpendingConditions::new_p2pk(key, None));
        }
        let conditions = Conditions {
            pubkeys: Some(vec![key]),
            ..Conditions::default()
        };
        SpendingConditions::new_htlc(self.preimage.clone(), Some(conditions))
            .map_err(|_| WalletError::Amount)
    }

    /// Everything that somebody else could say.
    fn all_wrong(&self, htlc: bool) -> Vec<Self> {
        let mut wrong = vec![Self {
            key: SecretKey::generate(),
            preimage: self.preimage.clone(),
        }];
        if htlc {
            wrong.push(Self {
                key: self.key.clone(),
                preimage: SecretKey::generate().to_secret_hex(),
            });
        }
        wrong
    }

    fn sign(&self, mut proofs: Proofs, htlc: bool) -> Result<Proofs, WalletError> {
        for proof in &mut proofs {
            if htlc {
                proof.add_preimage(self.preimage.clone());
            }
            let signed = proof.sign_p2pk(self.key.clone());
            signed.map_err(|_| WalletError::Token)?;
        }
        Ok(proofs)
    }
}

/// Swaps what must not be swapped. Should the mint do it, its ecash goes into the wallet.
async fn try_to_take(wallet: &Wallet, proofs: Proofs) -> Result<Refused, WalletError> {
    let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
    let set = wallet.active_keyset().await.map_err(failed)?;
    let fee = wallet.get_proofs_fee(&proofs).await.map_err(failed)?.total;
    let total = Amount::try_sum(proofs.iter().map(|proof| proof.amount));
    let worth = total.map_err(|_| WalletError::Amount)?.checked_sub(fee);
    let worth = worth.ok_or(WalletError::Amount)?;
    let fees = wallet.get_keyset_fees_and_amounts_by_id(set.id).await;
    let fees = fees.map_err(failed)?;
    let outputs = PreMintSecrets::random(set.id, worth, &SplitTarget::default(), &fees);
    let outputs = outputs.map_err(|_| WalletError::Amount)?;
    let request = SwapRequest::new(proofs, outputs.blinded_messages());
    match wallet.mint_connector().post_swap(request).await {
        Err(error) if error.is_definitive_failure() => Ok(Refused::Yes),
        // nutshell and others answer with codes that cdk has no name for.
        Err(cdk::Error::UnknownErrorResponse(_)) => Ok(Refused::Yes),
        Err(_) => Ok(Refused::Unclear),
        Ok(answer) => {
            let secrets = outputs.secrets.iter();
            let (blindings, secrets) = secrets
                .map(|output| (output.r.clone(), output.secret.clone()))
                .unzip();
            let taken =
                cdk::dhke::construct_proofs(answer.signatures, blindings, secrets, &set.keys);
            if let Ok(taken) = taken {
                let options = ReceiveOptions::default();
                let kept = wallet.receive_proofs(taken, options, None, None).await;
                kept.map_err(failed)?;
            }
            Ok(Refused::No)
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
    let nuts = supported(info);
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

fn supported(info: &MintInfo) -> Vec<u8> {
    let of = &info.nuts;
    let all = [
        (4, !of.nut04.disabled && !of.nut04.methods.is_empty()),
        (5, !of.nut05.disabled && !of.nut05.methods.is_empty()),
        (7, of.nut07.supported),
        (8, of.nut08.supported),
        (9, of.nut09.supported),
        (10, of.nut10.supported),
        (11, of.nut11.supported),
        (12, of.nut12.supported),
        (14, of.nut14.supported),
        (15, !of.nut15.is_empty()),
        (17, !of.nut17.supported.is_empty()),
        (19, !of.nut19.cached_endpoints.is_empty()),
        (20, of.nut20.supported),
        (21, of.nut21.is_some()),
        (22, of.nut22.is_some()),
        (
            29,
            of.nut29.max_batch_size.is_some() || of.nut29.methods.is_some(),
        ),
    ];
    let here = all.iter().filter(|(_, supported)| *supported);
    here.map(|(nut, _)| *nut).collect()
}
