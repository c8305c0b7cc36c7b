//! What was earned, paid out to several by shares.
//!
//! A payout is on disk before its first payment, and each payment's name before it is paid: cut
//! short anywhere, it goes on, and nobody is paid twice. Shares are whole satoshi and come to the
//! amount exactly; fees come on top.
//!
//! A folder that was made from a backup does not know what its lost self has paid since: such a part is
//! paid only where its mint says that it was not tried, or the user says that it has not arrived.

pub mod commands;
mod doubt;
mod pay;
mod shares;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use streampay_core::units::Msat;

pub use self::doubt::{Heard, answer, doubt_all, give_up};
pub use self::pay::{finish, pay};
pub use self::shares::{BadShare, Share, apportion};
use crate::durable;
use crate::error::AppError;
use crate::wallet::WalletFolder;

/// Where payouts are kept, within the data folder.
const FOLDER: &str = "payouts";
const FORM: &str = "streampay-payout/1";
/// The longest file of one, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// One amount, to several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    form: String,
    /// Its name: they count from 1.
    pub number: u64,
    /// When it began, in seconds of Unix time.
    pub began_unix_s: u64,
    /// Whose ecash pays.
    pub mint: String,
    /// In satoshi: what the parts come to.
    pub amount_sat: u64,
    /// To whom.
    pub parts: Vec<Part>,
}

/// One receiver's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// A Lightning address.
    pub to: String,
    /// Its weight.
    pub weight: u64,
    /// In satoshi.
    pub amount_sat: u64,
    /// How far it is.
    #[serde(flatten)]
    pub state: PartState,
}

/// How far one payment is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum PartState {
    /// Nothing was paid.
    Planned,
    /// May be paid: known to the mint by this quote.
    Paying {
        /// The quote's id.
        quote: String,
    },
    /// Has arrived.
    Paid {
        /// What it cost on top, in millisatoshi.
        fees_msat: u64,
        /// What proves it, in hex, where the mint gives it.
        preimage: Option<String>,
    },
    /// Not paid as far as a backup knew; what was paid since is not known here.
    Doubtful {
        /// The quote of a payment that was begun before the backup.
        quote: Option<String>,
    },
    /// Has arrived, by the user's word.
    Vouched,
    /// Nothing was paid, and nothing will be.
    Dropped,
}

impl Payout {
    /// A payout of `amount` in whole satoshi, which is on disk then.
    ///
    /// # Errors
    /// [`AppError`]: the shares do not fit, or it cannot be written.
    pub fn plan(
        wallet: &WalletFolder,
        amount: Msat,
        mint: String,
        shares: &[Share],
    ) -> Result<Self, AppError> {
        let amounts = apportion(amount.sat_floor(), shares)?;
        let number = Self::all(wallet)?.last().map_or(0, |last| last.number);
        let parts = shares.iter().zip(amounts).map(|(share, amount_sat)| Part {
            to: share.to.clone(),
            weight: share.weight,
            amount_sat,
            state: PartState::Planned,
        });
        let payout = Self {
            form: FORM.to_owned(),
            number: number.saturating_add(1),
            began_unix_s: cdk::util::unix_time(),
            mint,
            amount_sat: amount.sat_floor(),
            parts: parts.collect(),
        };
        payout.write(wallet)?;
        Ok(payout)
    }

    /// All that there ever were, the oldest first.
    ///
    /// # Errors
    /// [`AppError`] where one cannot be read.
    pub fn all(wallet: &WalletFolder) -> Result<Vec<Self>, AppError> {
        Self::all_in(wallet.folder())
    }

    fn all_in(data: &Path) -> Result<Vec<Self>, AppError> {
        let folder = data.join(FOLDER);
        let failed = |error| AppError::io("the payouts cannot be read")(error);
        let found = match fs::read_dir(&folder) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut all = Vec::new();
        for file in found {
            let path = file.map_err(failed)?.path();
            if path.extension().is_some_and(|of| of == "json") {
                all.push(Self::read(&path)?);
            }
        }
        all.sort_by_key(|payout| payout.number);
        Ok(all)
    }

    fn read(path: &Path) -> Result<Self, AppError> {
        let failed = |error: &dyn core::fmt::Display| AppError::file(path, &error.to_string());
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| failed(&error))?;
        let read = file.take(FILE_MAX).read_to_end(&mut bytes);
        read.map_err(|error| failed(&error))?;
        let payout: Self = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        match payout.form == FORM {
            true => Ok(payout),
            false => Err(failed(
                &"a later version of this program wrote it; use that one",
            )),
        }
    }

    /// True where nothing is left to pay.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.state.is_done())
    }

    fn write(&self, wallet: &WalletFolder) -> Result<(), AppError> {
        self.write_in(wallet.folder())
    }

    fn write_in(&self, data: &Path) -> Result<(), AppError> {
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        let name = format!("{:06}.json", self.number);
        let written = durable::write(&data.join(FOLDER), &name, &bytes);
        written.map_err(AppError::io("the payout cannot be written"))?;
        Ok(())
    }
}

impl PartState {
    /// True where it has arrived, or was given up.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Paid { .. } | Self::Vouched | Self::Dropped)
    }
}
