use alloc::vec::Vec;

use crate::backend::BackendError;
use crate::units::PurseId;

crate::codes::coded! {
    /// Why a session ends. Spec: registry, close codes.
    CloseCode;
    /// Nothing more exact is known.
    Other = 0, "for a reason this version does not know";
    /// Somebody asked for it.
    Done = 1, "as asked";
    /// The payer's budget is used up.
    BudgetSpent = 2, "the budget is used up";
    /// The terms ask more than the payer's policy allows.
    OverPolicy = 3, "the terms ask more than the payer allows";
    /// The terms have expired.
    TermsExpired = 4, "the terms have expired";
    /// No payment method that both have.
    NoCommonMethod = 5, "the two sides share no payment method";
    /// No version or feature that both have.
    Incompatible = 6, "the two sides share no protocol version";
    /// A session to resume that the payee does not have.
    UnknownSession = 7, "the streamer does not know the session";
    /// The other side broke the protocol.
    Misbehaved = 8, "the other side broke the protocol";
    /// The other side did not answer in time.
    TimedOut = 9, "the other side did not answer in time";
    /// A backend cannot go on.
    BackendFailed = 10, "the payment backend cannot go on";
    /// No media came for too long.
    MediaStalled = 11, "no media came for too long";
    /// The store failed.
    StoreFailed = 12, "the store failed";
    /// The payee takes no more sessions now.
    Busy = 13, "the streamer takes no more viewers now";
    /// The payer's wallet holds too little.
    InsufficientFunds = 14, "the wallet holds too little";
    /// A payment was refused and could not be taken back.
    PaymentLost = 15, "a payment was refused and could not be taken back";
    /// The meters went apart too far.
    Drift = 16, "the two meters disagree";
    /// Other terms were offered and not agreed to.
    TermsChanged = 17, "the price changed and nobody agreed to it";
    /// The payee sent this payer out; it may come back.
    Removed = 18, "the streamer ended it for this viewer";
    /// The payee sent this payer out for good.
    Banned = 19, "the streamer does not let this viewer in";
    /// One side's records are an old backup, and the newest receipt does not fit them.
    OutOfDate = 20, "the records of one side are too old to go on with";
}

/// What went wrong last with each purse that is to come home.
#[derive(Default)]
pub(super) struct Troubles(Vec<(PurseId, BackendError)>);

impl Troubles {
    pub(super) fn note(&mut self, purse: PurseId, error: BackendError) {
        self.0.retain(|(of, _)| *of != purse);
        self.0.push((purse, error));
    }

    /// `Unknown` for a purse whose backend has said nothing yet.
    pub(super) fn of(&self, purse: PurseId) -> BackendError {
        let mut noted = self.0.iter().filter(|(of, _)| *of == purse);
        noted
            .next()
            .map_or(BackendError::Unknown, |(_, error)| *error)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
