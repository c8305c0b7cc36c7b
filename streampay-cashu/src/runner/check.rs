//! Whether a mint is fit: what it says of itself, and what its keys say. What it does with a wrong
//! witness is for the [`canary`].

mod canary;

use cdk::nuts::{KeySetInfo, MintInfo};
use cdk::wallet::Wallet;
use cdk::wallet::types::KeysetLoadPolicy;
use streampay_core::backend::BackendError;

pub use self::canary::{canary, canary_home};
use super::locked::mint_info;
use super::{Runner, Wallets, fault};
use crate::job::Listed;
use crate::verify::TrustedKeyset;

/// What is asked of a mint before money is entrusted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MintPolicy {
    /// The NUTs that it must have.
    pub nuts: &'static [u8],
    /// The most that an input may cost, in thousandths of the unit.
    pub max_fee_ppk: u64,
    /// By how much its time may differ from ours, in seconds. A difference hurts nobody, but says
    /// that something is wrong.
    pub max_skew_s: u64,
}

impl MintPolicy {
    /// What `cashu-chain` needs: states, restoring, conditions, keys, DLEQ, hashes.
    pub const CHAIN: &'static [u8] = &[7, 9, 10, 11, 12, 14];
    /// What `cashu-p2pk` needs.
    pub const P2PK: &'static [u8] = &[7, 9, 10, 11, 12];
    /// What `cashu-swap` needs.
    pub const SWAP: &'static [u8] = &[7, 9];
    /// All that a mint can say it has, and that an owner may ask of it besides ([`Wallets::needed_nuts`]).
    pub const ANNOUNCED: &'static [u8] =
        &[4, 5, 7, 8, 9, 10, 11, 12, 14, 15, 17, 19, 20, 21, 22, 29];

    /// The default for these NUTs.
    #[must_use]
    pub fn with_nuts(nuts: &'static [u8]) -> Self {
        Self {
            nuts,
            ..Self::default()
        }
    }
}

impl Default for MintPolicy {
    fn default() -> Self {
        Self {
            nuts: Self::CHAIN,
            max_fee_ppk: 1_000,
            max_skew_s: 3_600,
        }
    }
}

/// What is wrong with a mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintFault {
    /// It does not say that it has a NUT that is needed.
    #[error("it lacks NUT-{0:02}")]
    Lacks(u8),
    /// It does not tell its time.
    #[error("it does not tell its time")]
    NoTime,
    /// Its time and ours differ by more than the policy allows.
    #[error("its clock and this one are {seconds} s apart, and {most} s are allowed")]
    Skew {
        /// How far apart.
        seconds: u64,
        /// The policy's.
        most: u64,
    },
    /// It signs nothing in the unit at present.
    #[error("it has no active keyset in the unit")]
    NoKeyset,
    /// The id of an active keyset is not that of its keys. An end of 0 stands for none, and is no part
    /// of the id: nutshell 0.21 adds it where it is given a keyset without an end by hand.
    #[error("its keyset has an id that is not that of its keys")]
    KeysetId,
    /// Its fee is above the policy's.
    #[error("its fee is {ppk} ppk, and {most} ppk are allowed")]
    Fee {
        /// Of an input, in thousandths of the unit.
        ppk: u64,
        /// The policy's.
        most: u64,
    },
    /// It took a locked proof with a wrong witness: its locks are worth nothing.
    #[error("it does not enforce locks")]
    Locks,
}

/// Looks at what the mint of `wallet` says, at its time, for which `wallets` may be asked, and at its
/// active keysets as they are now. What its owner asks of this mint besides ([`Wallets::needed_nuts`]) it must
/// have too. Costs nothing. Source: NUT-02, NUT-06.
///
/// # Errors
/// [`BackendError::Transient`] where the mint does not answer.
pub async fn check_mint(
    wallets: &dyn Wallets,
    wallet: &Wallet,
    policy: MintPolicy,
) -> Result<Vec<MintFault>, BackendError> {
    let info = mint_info(wallet).await?;
    let mut needed = policy.nuts.to_vec();
    needed.extend(wallets.needed_nuts(&wallet.mint_url));
    needed.sort_unstable();
    needed.dedup();
    let mut faults: Vec<MintFault> = lacking(&info, &needed).map(MintFault::Lacks).collect();
    let time = match info.time {
        Some(time) => Some(time),
        None => wallets.mint_time(&wallet.mint_url).await,
    };
    let skew = time.map(|time| time.abs_diff(cdk::util::unix_time()));
    match skew {
        None => faults.push(MintFault::NoTime),
        Some(seconds) if seconds > policy.max_skew_s => faults.push(MintFault::Skew {
            seconds,
            most: policy.max_skew_s,
        }),
        Some(_) => {}
    }
    faults.extend(fault_of_keys(wallet, policy.max_fee_ppk).await?);
    Ok(faults)
}

/// What is wrong with the active keysets.
async fn fault_of_keys(wallet: &Wallet, most: u64) -> Result<Option<MintFault>, BackendError> {
    let listed = wallet.mint_connector().get_mint_keysets().await;
    let listed = listed.map_err(fault::of_reading)?.keysets;
    let active = |set: &&KeySetInfo| set.active && set.unit == wallet.unit;
    let active: Vec<&KeySetInfo> = listed.iter().filter(active).collect();
    // The wallet locks, and redeems into, the cheapest.
    let Some(ppk) = active.iter().map(|set| set.input_fee_ppk).min() else {
        return Ok(Some(MintFault::NoKeyset));
    };
    // A wallet that cannot load what the mint has now goes on with what it had.
    let known = wallet.keysets(KeysetLoadPolicy::Refresh).await;
    let known = known.unwrap_or_default();
    for set in active {
        let keys = match known.iter().find(|known| known.id == set.id) {
            Some(keys) => keys.clone(),
            None => {
                let keys = wallet.mint_connector().get_mint_keyset(set.id).await;
                keys.map_err(fault::of_reading)?
            }
        };
        if keys.id != set.id || TrustedKeyset::new(keys).is_err() {
            return Ok(Some(MintFault::KeysetId));
        }
    }
    Ok((ppk > most).then_some(MintFault::Fee { ppk, most }))
}

/// Those of `nuts` that a mint does not say it has.
pub(super) fn lacking<'a>(info: &MintInfo, nuts: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    let has = announced_nuts(info);
    nuts.iter().copied().filter(move |nut| !has.contains(nut))
}

/// The NUTs that a mint says it has, of those that it can say: [`MintPolicy::ANNOUNCED`]. Source: NUT-06.
#[must_use]
pub fn announced_nuts(info: &MintInfo) -> Vec<u8> {
    let of = &info.nuts;
    let has = |nut: &u8| match nut {
        4 => !of.nut04.disabled && !of.nut04.methods.is_empty(),
        5 => !of.nut05.disabled && !of.nut05.methods.is_empty(),
        7 => of.nut07.supported,
        8 => of.nut08.supported,
        9 => of.nut09.supported,
        10 => of.nut10.supported,
        11 => of.nut11.supported,
        12 => of.nut12.supported,
        14 => of.nut14.supported,
        15 => !of.nut15.is_empty(),
        17 => !of.nut17.supported.is_empty(),
        19 => !of.nut19.cached_endpoints.is_empty(),
        20 => of.nut20.supported,
        21 => of.nut21.is_some(),
        22 => of.nut22.is_some(),
        29 => of.nut29.max_batch_size.is_some() || of.nut29.methods.is_some(),
        _ => false,
    };
    let all = MintPolicy::ANNOUNCED.iter();
    all.copied().filter(has).collect()
}

impl Runner {
    /// False where the mint lacks what its owner asks of it, whichever the way to pay. It is asked only
    /// where that is something.
    pub(super) async fn is_as_its_owner_asks(&self, wallet: &Wallet) -> Result<bool, BackendError> {
        let needed = self.wallets.needed_nuts(&wallet.mint_url);
        if needed.is_empty() {
            return Ok(true);
        }
        let info = mint_info(wallet).await?;
        Ok(lacking(&info, &needed).next().is_none())
    }

    /// Whether a mint that says this of itself has what locked ecash needs, and what its owner asks.
    pub(super) fn fits(&self, wallet: &Wallet, info: &MintInfo, chain: bool) -> bool {
        let of_method = match chain {
            true => MintPolicy::CHAIN,
            false => MintPolicy::P2PK,
        };
        let own = self.wallets.needed_nuts(&wallet.mint_url);
        lacking(info, of_method)
            .chain(lacking(info, &own))
            .next()
            .is_none()
    }

    /// Those of `mints` that have what their owner asks of each, or of which that cannot be said.
    pub(super) async fn as_their_owner_asks(
        &self,
        mints: Vec<Listed>,
    ) -> Result<Vec<Listed>, BackendError> {
        let (mut fit, mut away) = (Vec::new(), None);
        for listed in mints {
            let asked = match self.wallet(&listed.place).await {
                Ok(wallet) => self.is_as_its_owner_asks(&wallet).await,
                // Nothing is paid without a wallet.
                Err(_) => Ok(true),
            };
            match asked {
                Ok(true) => fit.push(listed),
                Ok(false) => {}
                // It may be fit once it answers.
                Err(error) => away = Some(error),
            }
        }
        match away {
            Some(error) if fit.is_empty() => Err(error),
            _ => Ok(fit),
        }
    }
}
