//! What an application tells its user when it stops, and the exit code.

use streampay_core::session::CloseCode;
use streampay_core::store::StoreError;
use streampay_core::units::Msat;

use crate::exit::Exit;
use crate::report::plain;
use crate::wallet::WalletError;

/// Why a command stopped. The message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The session store.
    #[error("{}", of_store(.0))]
    Store(#[from] StoreError),
    /// A file, a socket, the terminal.
    #[error("{what}: {source}{}", of_disk(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}; choose another with --listen")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// Metrics cannot be served at the address.
    #[error("cannot serve metrics at {0}: {1}; choose another with --metrics")]
    Metrics(std::net::SocketAddr, #[source] std::io::Error),
    /// A file that the user named.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A setting, where it was said.
    #[error("{origin}: {why}")]
    Setting {
        /// Where: a line of the settings file, a variable, a place of a secret.
        origin: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// Reading the media.
    #[error("the media cannot be used: {0}")]
    Media(#[from] streampay_media::source::SourceError),
    /// Connecting.
    #[error("cannot connect: {0}")]
    Connect(#[from] streampay_media::peer::PeerError),
    /// Asking what a stream costs.
    #[error("cannot ask the streamer for its price: {0}")]
    Signalling(#[from] streampay_media::whep::ClientError),
    /// Writing the recording.
    #[error("the recording cannot be written: {0}")]
    Record(#[from] streampay_media::record::RecordError),
    /// The embedded mint.
    #[error("the mint cannot start: {0}")]
    Mint(#[from] crate::mint::MintError),
    /// Bitcoin's chain.
    #[error(transparent)]
    Chain(#[from] streampay_btc::chain::ChainError),
    /// Looking at bitcoin's chain, or keeping what was decided.
    #[error(transparent)]
    Look(#[from] streampay_btc::runner::SyncError),
    /// The payment parameters.
    #[error("the mint's address cannot be used: {0}")]
    Params(#[from] streampay_cashu::ParamsError),
    /// The terms cannot be offered.
    #[error(transparent)]
    Terms(#[from] streampay_core::session::BadConfig),
    /// A payout's shares.
    #[error(transparent)]
    Share(#[from] crate::split::BadShare),
    /// The user's own input.
    #[error("{0}")]
    Usage(&'static str),
    /// A part of a payout may have been paid by the folder that was lost.
    #[error(
        "{to} may have been paid since the backup from which this folder was restored: ask them. Then \
         say `split --was-paid {to}` or `split --not-paid {to}`; until then this part is not paid",
        to = plain(to)
    )]
    Doubtful {
        /// The receiver.
        to: String,
    },
    /// Something of our own.
    #[error("{0}")]
    Failed(&'static str),
    /// The streamer is not who the link says.
    #[error(
        "what answers is not the streamer of this link: its terms are not signed with the \
         link's key; get the link again from the streamer, and pay nothing here"
    )]
    WrongSigner,
    /// The price was not agreed to.
    #[error("not agreed; nothing was paid")]
    Declined,
    /// No payment fits into the budget.
    #[error("a budget of {budget} is too small: one payment with its fees takes {needs}")]
    SmallBudget {
        /// The user's budget.
        budget: Msat,
        /// What one payment takes.
        needs: Msat,
    },
    /// One payment buys more than a minute.
    #[error(
        "the streamer wants {tick} at once, and a minute costs {minute}: more than a minute \
         would be at stake; nothing was paid"
    )]
    LongTick {
        /// One payment.
        tick: Msat,
        /// The price of a minute.
        minute: Msat,
    },
    /// The stream costs more than the user allows.
    #[error("the stream costs {asks} a minute, and --max-price allows {allows}; nothing was paid")]
    TooDear {
        /// The stream's price.
        asks: Msat,
        /// The user's.
        allows: Msat,
    },
    /// Each payment's fee is more than the user allows.
    #[error(
        "{what} of a payment of {payment} goes to the mint, and --max-fee-share allows {share} % \
         of it; nothing was paid. Watch at a mint with smaller fees, or allow more",
        what = fee.map_or("nobody knows how much".to_owned(), |fee| fee.to_string())
    )]
    DearPayments {
        /// What comes on top of each payment, where the mint said.
        fee: Option<Msat>,
        /// One payment.
        payment: Msat,
        /// The user's, in percent.
        share: u64,
    },
    /// A withdrawal's fees are more than the user allows.
    #[error(
        "the fees may come to {fees}, and {allowed} are allowed; nothing was paid. Allow more with \
         --max-fee"
    )]
    DearFee {
        /// The most that they may come to.
        fees: Msat,
        /// The user's.
        allowed: Msat,
    },
    /// A mint that should not be used.
    #[error("do not use this mint for what it cannot do: see above")]
    BadMint,
    /// A mint at which no session should be paid.
    #[error(
        "the mint at {mint} is not used: {fault}; no session was paid there. Use another mint{why}",
        why = allowance(*fault)
    )]
    UnfitMint {
        /// The mint.
        mint: String,
        /// What is wrong with it.
        fault: streampay_cashu::MintFault,
    },
    /// The session ended in another way than asked.
    #[error("the session ended: {code}{why}", code = .0, why = advice(*.0))]
    Closed(CloseCode),
    /// Money is not home yet.
    #[error(
        "some money is not home yet: the lines above say what it waits for, and what brings it home"
    )]
    Unsettled,
    /// What was earned is not all home yet.
    #[error(
        "not all that was earned is home yet, see above: `serve` goes on with it, and so does `recover`, \
         which closes what viewers would come back to; once the mint answers, or the chain has gone on"
    )]
    Earned,
    /// The sums of a demo, or of the books, do not fit together.
    #[error("the sums do not balance")]
    Unbalanced,
    /// `doctor` found something that will not work.
    #[error("something has to be mended: see above")]
    Unwell,
    /// A receipt that nobody signed so.
    #[error("not every receipt holds: see above")]
    Forged,
}

impl AppError {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.exit().code()
    }

    /// What the process says by its end.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Closed(CloseCode::BudgetSpent) => Exit::BudgetSpent,
            Self::Connect(_)
            | Self::Signalling(_)
            | Self::Wallet(WalletError::Unreachable(..) | WalletError::Unasked(_)) => {
                Exit::Unreachable
            }
            Self::Unsettled
            | Self::Earned
            | Self::Doubtful { .. }
            | Self::Wallet(WalletError::Unsettled | WalletError::DepositPending(_)) => {
                Exit::Unsettled
            }
            Self::Closed(CloseCode::OverPolicy)
            | Self::Declined
            | Self::Wallet(WalletError::Declined)
            | Self::DearFee { .. }
            | Self::DearPayments { .. }
            | Self::TooDear { .. }
            | Self::LongTick { .. } => Exit::Refused,
            Self::Unbalanced => Exit::Unbalanced,
            Self::Forged => Exit::Forged,
            Self::Usage(_)
            | Self::Share(_)
            | Self::File { .. }
            | Self::Setting { .. }
            | Self::SmallBudget { .. }
            | Self::Params(_)
            | Self::Wallet(
                WalletError::MintUrl(_)
                | WalletError::Token
                | WalletError::Amount
                | WalletError::Destination
                | WalletError::WithoutAmount
                | WalletError::OtherAmount
                | WalletError::Expired
                | WalletError::Request
                | WalletError::RequestUnit
                | WalletError::RequestTransport
                | WalletError::RequestTarget,
            ) => Exit::Unusable,
            _ => Exit::Failed,
        }
    }

    /// About a file that the user named.
    #[must_use]
    pub fn file(path: &std::path::Path, why: &str) -> Self {
        Self::File {
            path: path.to_owned(),
            why: why.to_owned(),
        }
    }

    /// Wraps what the system says.
    pub fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// A store that failed is one that failed earlier too: what to do is the same, and where the money is.
fn of_store(error: &StoreError) -> String {
    match error {
        StoreError::Failed | StoreError::Poisoned => {
            "the store failed: check the disk's space and health. What \
            is not home is kept; once there is space, `recover` goes on with it"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// What to do where there is no room.
fn of_disk(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ". Free some space, and do it again; what is not home is kept, and `recover` goes on with it"
        }
        _ => "",
    }
}

/// What to do after a session that ended so.
const fn advice(code: CloseCode) -> &'static str {
    match code {
        CloseCode::BudgetSpent => "; all else is home. Watch on with another --budget",
        CloseCode::InsufficientFunds => "; deposit more, at a mint that the stream takes",
        CloseCode::OverPolicy => "; nothing more was paid. Allow more with --max-price",
        CloseCode::NoCommonMethod => "; is the streamer's program another version?",
        CloseCode::TimedOut => "; is the streamer still there? Watch again to go on",
        CloseCode::MediaStalled => "; the stream may have ended. Watch again to try",
        CloseCode::Misbehaved => "; do not pay this streamer again",
        CloseCode::StoreFailed => "; check the disk's space, then run `viewer recover`",
        CloseCode::Drift | CloseCode::PaymentLost => "; all else is home",
        _ => "",
    }
}

fn allowance(fault: streampay_cashu::MintFault) -> &'static str {
    match fault {
        streampay_cashu::MintFault::Fee { .. } => ", or allow more with --max-fee-ppk",
        streampay_cashu::MintFault::Skew { .. } => ", or set this computer's clock",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn failed_store_says_what_to_do_whenever_it_failed() {
        for error in [StoreError::Failed, StoreError::Poisoned] {
            let said = AppError::Store(error).to_string();
            assert!(said.contains("space") && said.contains("recover"), "{said}");
        }
        let fenced = AppError::Store(StoreError::Fenced).to_string();
        assert_eq!(fenced, StoreError::Fenced.to_string());
    }

    #[test]
    fn where_there_is_no_room_it_says_what_to_do() {
        for (kind, says) in [
            (ErrorKind::StorageFull, true),
            (ErrorKind::QuotaExceeded, true),
            (ErrorKind::PermissionDenied, false),
        ] {
            let error = AppError::io("the link cannot be kept")(kind.into());
            let told = error.to_string();
            assert!(told.starts_with("the link cannot be kept: "), "{told}");
            assert_eq!(told.contains("Free some space"), says, "{told}");
        }
    }
}
