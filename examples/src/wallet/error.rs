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
    /// The deposit was not paid in time. It is kept, and the next one or `recover` takes it up.
    #[error(
        "the deposit has not arrived yet; it is kept: once the invoice is paid, run recover, or \
         deposit the same amount again. The invoice: {}",
        plain(.0)
    )]
    DepositPending(String),
    /// Not something that can be paid.
    #[error(
        "not a Lightning invoice (it begins with lnbc), nor a Lightning address (name@example.com), \
         nor an amount such as 100sat"
    )]
    Destination,
    /// The Lightning address did not lead to an invoice.
    #[error("the Lightning address cannot be paid ({}); nothing was paid", plain(.0))]
    Address(String),
    /// It names no amount itself.
    #[error("this names no amount: say after it how much, such as 100sat")]
    WithoutAmount,
    /// It names another amount itself.
    #[error("this names an amount of its own, and it is another; leave yours out")]
    OtherAmount,
    /// The invoice's time is over.
    #[error("this invoice has expired; ask for another. Nothing was paid")]
    Expired,
    /// The invoice was paid from this wallet.
    #[error("this invoice is paid: this wallet has paid it before. Nothing was paid now")]
    PaidBefore,
    /// The user did not agree.
    #[error("not agreed; nothing was paid")]
    Declined,
    /// The mint may be paying.
    #[error(
        "it is not known yet whether this payment went through; its ecash is kept for it. Run \
         recover until it is known, and do not pay this elsewhere"
    )]
    Unsettled,
    /// The mint did not pay, and the ecash is free again.
    #[error("the mint at {0} did not pay ({why}); nothing has left the wallet: try again, or elsewhere", why = plain(&.1.to_string()))]
    NotPaid(MintUrl, #[source] cdk::Error),
    /// Not a payment request.
    #[error("not a Cashu payment request: paste it whole, it begins with creqA or creqB")]
    Request,
    /// A payment request for other money.
    #[error("this request is not in sat, which is all that this wallet holds")]
    RequestUnit,
    /// A payment request that takes none of the wallet's mints.
    #[error("this request takes only ecash of {0}, and you have none there; nothing was paid")]
    RequestMints(String),
    /// A payment request for mints with other ways to pay than Lightning.
    #[error("this request takes only ecash of mints without Lightning invoices; nothing was paid")]
    RequestMethod,
    /// A payment request that wants its token by a way that we do not have.
    #[error(
        "this request wants the ecash sent by Nostr, which this program cannot; ask for one \
         without a transport, or with HTTP. Nothing was paid"
    )]
    RequestTransport,
    /// A payment request that wants its token sent in the clear.
    #[error(
        "this request wants the ecash sent over http, where anybody could take it; nothing was paid"
    )]
    RequestTarget,
    /// What a mint does could not be found out.
    #[error(
        "the mint at {0} could not be tried: it does not answer, or not to the point. What is out \
         there is kept: try again, or run recover"
    )]
    Untried(MintUrl),
    /// What was moved there since the backup is not known.
    #[error(
        "this folder was restored from a backup, and the mint at {0} has not answered since: what is \
         there may be spent by now, and is held back. Run `recover` once the mint answers"
    )]
    Unasked(MintUrl),
    /// The mint cannot be reached.
    #[error(
        "the mint at {0} cannot be reached: is it running, and is the address right? What was begun \
         is kept: try again, or run recover"
    )]
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
