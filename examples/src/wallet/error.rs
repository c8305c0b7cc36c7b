//! What can go wrong with a wallet.

use std::path::PathBuf;

use cdk::mint_url::MintUrl;
use cdk_common::database::Error as DatabaseError;
use streampay_cashu::ParamsError;
use streampay_core::units::Msat;

use crate::report::plain;

/// What went wrong with a wallet, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// Another process has the folder.
    #[error("another process uses the folder {0}; wait until it ends, or stop it")]
    InUse(PathBuf),
    /// The folder cannot be read or written.
    #[error("cannot use the folder {0}: {1}; check that it can be written")]
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
    /// Somebody has redeemed the token before.
    #[error("this token is spent: somebody has redeemed it before; ask its sender for another")]
    Spent,
    /// The wallet holds less than asked.
    #[error("the wallet holds {0} that can be spent{1}, and fees come on top; ask for less")]
    InsufficientFunds(Msat, AtMint),
    /// The deposit was not paid in time. It is kept, and `recover` takes it up again.
    #[error("the deposit is not paid yet; pay the invoice, then run recover: {}", plain(.0))]
    DepositPending(String),
    /// The mint cannot be reached.
    #[error("the mint at {0} cannot be reached: is it running, and is the address right?")]
    Unreachable(MintUrl, #[source] cdk::Error),
    /// The mint did not do it.
    #[error(
        "the mint at {0} did not do it ({why}); what was begun is kept: run recover, try again",
        why = plain(&.1.to_string())
    )]
    Mint(MintUrl, #[source] cdk::Error),
}

impl WalletError {
    /// What a mint's error means.
    pub(super) fn of_mint(mint: &MintUrl, error: cdk::Error) -> Self {
        match error {
            cdk::Error::TokenAlreadySpent => Self::Spent,
            cdk::Error::Timeout | cdk::Error::HttpError(None, _) => {
                Self::Unreachable(mint.clone(), error)
            }
            error => Self::Mint(mint.clone(), error),
        }
    }
}

/// " at URL", or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtMint(pub Option<String>);

impl core::fmt::Display for AtMint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.0 {
            Some(mint) => write!(f, " at {mint}"),
            None => Ok(()),
        }
    }
}
