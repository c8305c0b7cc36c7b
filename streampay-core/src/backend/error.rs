/// Why a backend could not do what it was asked.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error,
)]
#[non_exhaustive]
pub enum BackendError {
    /// The mint or the chain is away, slow or busy. Nothing is lost; the same again later.
    #[error("the mint or the chain does not answer")]
    Transient,
    /// The payment is not good, for this reason; what became of its money is said too.
    #[error("the payment is refused: {0}")]
    Rejected(RefusalCode, Consumed),
    /// It cannot be told what happened. Never treated as failed: the same bytes again, or
    /// recovery.
    #[error("the outcome is unknown")]
    Unknown,
    /// This purse cannot go on; what it holds is recovered, not lost.
    #[error("the purse cannot go on: {0}")]
    Fatal(RefusalCode),
}

impl BackendError {
    /// Who has to do something about it.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            Self::Transient | Self::Unknown => Blame::Service,
            Self::Rejected(..) => Blame::Peer,
            Self::Fatal(_) => Blame::Own,
        }
    }
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Blame {
    /// The other side of the session.
    Peer,
    /// The mint or the chain.
    Service,
    /// This side: its wallet, its configuration.
    Own,
}

/// What a refusal says of the payment's money. Towards the payer it is a hint only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Consumed {
    /// It is spent.
    Yes,
    /// It is not spent.
    No,
    /// It cannot be told.
    Unknown,
}

impl Consumed {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Yes => 1,
            Self::Unknown => 2,
        }
    }

    /// From the number on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::No),
            1 => Some(Self::Yes),
            2 => Some(Self::Unknown),
            _ => None,
        }
    }
}

crate::codes::coded! {
    /// Why a payment or a purse is refused. Spec: registry, refusal codes.
    RefusalCode;
    /// Nothing more exact is known.
    Other = 0, "no reason given";
    /// The bytes do not decode.
    Malformed = 1, "it does not decode";
    /// The payment is worth less, or more, than the tick.
    WrongAmount = 2, "it is not worth exactly one tick";
    /// The mint is not one that the terms list.
    WrongMint = 3, "it is of a mint that the terms do not list";
    /// The unit is not that of the terms.
    WrongUnit = 4, "it is in another unit";
    /// The money was spent before.
    AlreadySpent = 5, "it is already spent";
    /// The payment was made for another session or purse.
    WrongSession = 6, "it belongs to another session";
    /// The payment is locked in a way that the payee cannot collect.
    WrongLock = 7, "it is locked in a way that cannot be collected";
    /// A keyset that the mint does not have, or does not sign with any more.
    UnknownKeyset = 8, "its keyset is unknown to the mint";
    /// A mint's signature does not verify.
    BadProof = 9, "the mint's signature does not verify";
    /// The purse holds less than was asked.
    PurseEmpty = 10, "the purse is empty";
    /// The wallet holds less than was asked.
    InsufficientFunds = 11, "the wallet holds too little; deposit more";
    /// No method or mint that both sides have.
    NoCommonMethod = 12, "the two sides share no mint or method";
    /// Fees would eat more than the policy allows.
    FeeTooHigh = 13, "fees are too high for this now; pay in another way, or come back when they have fallen";
    /// The request does not fit what the purse has done so far.
    OutOfOrder = 14, "it does not follow what came before";
    /// What the payer may still spend does not cover a payment and its fees.
    OverBudget = 15, "the budget does not cover another payment and its fees";
    /// The lock may be given back to the payer soon: it is not taken any more.
    TooLate = 16, "the time in which it can be taken is over";
}
