//! The fee wallet: coins of the streamer's own that help to close channels where these may not pay
//! what a block asks. Said once, kept with the rest.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};
use streampay_btc::bitcoin::{Address, FeeRate};
use streampay_btc::keys::Seed;
use streampay_core::units::Msat;
use zeroize::Zeroizing;

use super::{Channels, sat};
use crate::error::AppError;
use crate::price::amount;
use crate::report::{Report, show_code};
use crate::secret::SecretPlace;

/// The most for one close where the user says nothing, in satoshi.
const MAX_SAT: u64 = 20_000;
/// Blocks in which emptying it should be in one.
pub(super) const SWEEP_TARGET: u32 = 6;

/// What a user says of it on the command line.
#[derive(Args, Clone, Debug, Default)]
pub struct FeeWalletArgs {
    /// Keep coins that help to close channels in time when a block asks for more than these may pay.
    /// Their key comes from `own`, this folder's identity, or from 64 hexadecimal digits in
    /// file:PATH or env:NAME. The address to pay to is shown. Kept for next time; `off` ends it.
    #[arg(long, value_name = "SEED")]
    fee_wallet: Option<SeedFrom>,
    /// The most that the fee wallet pays for one close, such as 20000sat, which it is where nothing
    /// is said.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    fee_wallet_max: Option<Msat>,
}

/// Where the key of a fee wallet comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SeedFrom {
    Off,
    Own,
    File(PathBuf),
    Env(String),
}

impl FromStr for SeedFrom {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.split_once(':')) {
            ("off", _) => Ok(Self::Off),
            ("own", _) => Ok(Self::Own),
            (_, Some(("file", path))) if !path.is_empty() => Ok(Self::File(path.into())),
            (_, Some(("env", name))) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            _ => Err("expected own, file:PATH, env:NAME or off"),
        }
    }
}

impl core::fmt::Display for SeedFrom {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Own => f.write_str("own"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl SeedFrom {
    /// The seed; none where it is the folder's own.
    fn read(&self) -> Result<Option<Seed>, AppError> {
        const BAD: AppError = AppError::Usage("a fee wallet's seed is 64 hexadecimal digits");
        let text = match self {
            Self::Off | Self::Own => return Ok(None),
            Self::File(path) => SecretPlace::File(path.clone()).read()?,
            Self::Env(name) => SecretPlace::Environment(name.clone()).read()?,
        };
        let text = text.trim();
        if text.len() != 64 {
            return Err(BAD);
        }
        let mut seed = Zeroizing::new([0; 32]);
        for (byte, pair) in seed.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = core::str::from_utf8(pair).map_err(|_| BAD)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BAD)?;
        }
        Ok(Some(Seed(*seed)))
    }
}

/// As it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FeeWallet {
    seed: SeedFrom,
    max_sat: u64,
    /// Its coins are looked for from this height on; none before the chain was seen.
    pub(super) since: Option<u32>,
}

impl FeeWallet {
    /// What the user says now, on top of what was said before.
    pub(super) fn from(
        args: &FeeWalletArgs,
        known: Option<Self>,
    ) -> Result<Option<Self>, AppError> {
        let seed = match (&args.fee_wallet, &known) {
            (Some(SeedFrom::Off), _) => return Ok(None),
            (Some(seed), _) => seed.clone(),
            (None, Some(known)) => known.seed.clone(),
            (None, None) if args.fee_wallet_max.is_some() => {
                return Err(AppError::Usage(
                    "--fee-wallet-max goes with --fee-wallet: say where its key comes from",
                ));
            }
            (None, None) => return Ok(None),
        };
        let known = known.filter(|known| known.seed == seed);
        let before = known.as_ref().map_or(MAX_SAT, |known| known.max_sat);
        let max_sat = args.fee_wallet_max.map_or(before, Msat::sat_floor);
        let wallet = Self {
            max_sat,
            since: known.and_then(|known| known.since),
            seed,
        };
        // Nothing is kept that cannot be used.
        wallet.seed.read()?;
        Ok(Some(wallet))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "seed": self.seed.to_string(), "max_sat": self.max_sat, "since": self.since,
        })
    }

    pub(super) fn parse(value: &Value) -> Option<Self> {
        let since = match value.get("since")? {
            Value::Null => None,
            since => Some(u32::try_from(since.as_u64()?).ok()?),
        };
        Some(Self {
            seed: value.get("seed")?.as_str()?.parse().ok()?,
            max_sat: value.get("max_sat")?.as_u64()?,
            since,
        })
    }

    /// What a home needs of it.
    pub(super) fn setup(&self, tip: u32) -> Result<FeeWalletSetup, AppError> {
        Ok(FeeWalletSetup {
            seed: self.seed.read()?,
            max: sat(self.max_sat),
            since: self.since.unwrap_or(tip),
        })
    }

    /// That there is one, for a home that does nothing with it.
    pub(super) fn unseen(&self) -> FeeWalletSetup {
        FeeWalletSetup {
            seed: None,
            max: sat(self.max_sat),
            since: u32::MAX,
        }
    }
}

/// A fee wallet for a home.
#[derive(Clone, Debug)]
pub struct FeeWalletSetup {
    /// Where its key comes from; none takes the home's own identity.
    pub seed: Option<Seed>,
    /// The most that it pays for one close.
    pub max: Msat,
    /// Its coins are looked for from this height on.
    pub since: u32,
}

/// How a fee wallet stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeWalletReport {
    /// Where coins are paid to.
    pub address: Address,
    /// What could help a close now.
    pub balance: Msat,
    /// The most that it pays for one close.
    pub max: Msat,
}

/// The same of a home that may have one; as of before, where the chain cannot be seen now.
pub async fn tell_of(channels: Option<&Channels>, report: Report) {
    let Some(channels) = channels.filter(|channels| channels.fee_wallet().is_some()) else {
        return;
    };
    if let Err(error) = channels.look().await {
        report.tell(&format!("the chain cannot be seen now: {error}"));
    }
    channels
        .fee_wallet()
        .iter()
        .for_each(|wallet| tell(report, wallet));
}

/// Tells the address, and what is there.
pub fn tell(report: Report, wallet: &FeeWalletReport) {
    let FeeWalletReport {
        address,
        balance,
        max,
    } = wallet;
    report.say(
        "fee_wallet",
        json!({
            "address": address.to_string(), "balance_msat": balance.msat(), "max_msat": max.msat(),
        }),
    );
    report.tell(&format!(
        "the fee wallet holds {balance} and pays at most {max} for a close; pay to {address} what \
         is to help, of any amount, and it counts once it is in a block"
    ));
}

/// Looks at the chain, and tells how the fee wallet stands; with `empty`, sends all of it to the
/// payout.
///
/// # Errors
/// [`AppError`]: there is none, the chain cannot be seen, or there is nothing to send.
pub async fn show(
    channels: Option<&Channels>,
    empty: bool,
    report: Report,
) -> Result<(), AppError> {
    const NONE: AppError =
        AppError::Usage("there is no fee wallet: begin one with `serve --fee-wallet own`");
    let channels = channels.ok_or(NONE)?;
    channels.look().await?;
    let wallet = channels.fee_wallet().ok_or(NONE)?;
    tell(report, &wallet);
    if !empty {
        show_code(
            report,
            &wallet.address.to_string(),
            &wallet.address.to_qr_uri(),
        );
        return Ok(());
    }
    let (tx, rate) = channels.empty_fee_wallet().await?;
    let (txid, out) = (tx.compute_txid(), tx.output.first());
    let sent = sat(out.map_or(0, |out| out.value.to_sat()));
    report.say(
        "fee_wallet_emptied",
        json!({"txid": txid.to_string(), "sent_msat": sent.msat()}),
    );
    report.tell(&format!(
        "{sent} are on their way to your payout by {txid}, at {} sat/vB",
        per_vbyte(rate)
    ));
    Ok(())
}

/// Rounded up, for people.
fn per_vbyte(rate: FeeRate) -> u64 {
    rate.to_sat_per_vb_ceil()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(seed: Option<&str>, max: Option<u64>) -> FeeWalletArgs {
        FeeWalletArgs {
            fee_wallet: seed.map(|text| text.parse().unwrap()),
            fee_wallet_max: max.map(sat),
        }
    }

    #[test]
    fn what_is_said_once_is_kept_until_it_is_off() {
        let none = FeeWallet::from(&args(None, None), None).unwrap();
        assert_eq!(none, None);
        assert!(FeeWallet::from(&args(None, Some(1)), None).is_err());
        let mut own = FeeWallet::from(&args(Some("own"), None), None).unwrap();
        assert_eq!(own.as_ref().unwrap().max_sat, MAX_SAT);
        own.as_mut().unwrap().since = Some(7);
        let kept = FeeWallet::parse(&own.as_ref().unwrap().to_json());
        assert_eq!(kept, own);
        let more = FeeWallet::from(&args(None, Some(5)), kept.clone()).unwrap();
        assert_eq!(more.as_ref().unwrap().max_sat, 5);
        assert_eq!(more.unwrap().since, Some(7));
        assert_eq!(
            FeeWallet::from(&args(Some("off"), None), kept).unwrap(),
            None
        );
    }

    #[test]
    fn a_seed_is_64_digits_in_a_file_and_another_one_is_another_wallet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let text = format!("file:{}", path.display());
        let own = FeeWallet {
            seed: SeedFrom::Own,
            max_sat: 9,
            since: Some(7),
        };
        assert!(
            FeeWallet::from(&args(Some(&text), None), None).is_err(),
            "no file"
        );
        for bad in ["", "00", &"0g".repeat(32), &"00".repeat(33)] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                FeeWallet::from(&args(Some(&text), None), None).is_err(),
                "{bad}"
            );
        }
        std::fs::write(&path, format!("{}\n", "0a".repeat(32))).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |mode| {
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            };
            mode(0o644);
            let open = FeeWallet::from(&args(Some(&text), None), None);
            assert!(open.is_err(), "others can read it");
            mode(0o600);
        }
        let other = FeeWallet::from(&args(Some(&text), None), Some(own))
            .unwrap()
            .unwrap();
        assert_eq!((other.max_sat, other.since), (MAX_SAT, None));
        assert_eq!(other.setup(3).unwrap().seed.unwrap().0, [10; 32]);
        for bad in ["", "file:", "env:", "on", "00"] {
            assert!(bad.parse::<SeedFrom>().is_err(), "{bad}");
        }
    }
}
