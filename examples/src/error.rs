//! What an application tells its user when it stops, and the exit code.

use streampay_core::session::CloseCode;
use streampay_core::store::StoreError;

use crate::wallet::WalletError;

/// Why a command stopped. The message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The session store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file, a socket, the terminal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// Reading the media.
    #[error("the media cannot be used: {0}")]
    Media(#[from] streampay_media::source::SourceError),
    /// Connecting.
    #[error("cannot connect: {0}; is the streamer running, and is the link whole?")]
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
    /// The payment parameters.
    #[error("the mint's address cannot be used: {0}")]
    Params(#[from] streampay_cashu::ParamsError),
    /// The user's own input.
    #[error("{0}")]
    Usage(&'static str),
    /// The price was not agreed to.
    #[error("not agreed; nothing was paid")]
    Declined,
    /// The session ended in another way than asked.
    #[error("the session ended: {0}")]
    Closed(CloseCode),
    /// Money is not home yet.
    #[error("some money is not home yet; run `viewer recover`")]
    Unsettled,
    /// The sums of a demo do not fit together.
    #[error("the sums do not balance")]
    Unbalanced,
}

impl AppError {
    /// The process's exit code. Documented in the README and in `--help`.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Closed(CloseCode::BudgetSpent) => 3,
            Self::Connect(_) | Self::Signalling(_) => 4,
            Self::Unsettled => 5,
            Self::Closed(CloseCode::OverPolicy) | Self::Declined => 6,
            Self::Unbalanced => 7,
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Wraps what the system says.
    pub fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The table of exit codes, for `--help`.
pub const EXIT_CODES: &str = "Exit codes:\n  0  done, and all money is where it belongs\n  1  something failed; the message says what to do\n  2  the command was not understood\n  3  the budget is used up (settled, the rest is back)\n  4  the streamer or the mint cannot be reached\n  5  some money is not home yet: run `viewer recover`\n  6  the price was refused; nothing was paid\n  7  the demo's sums do not balance";
