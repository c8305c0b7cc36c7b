//! What a mint's errors mean for a swap.

use cdk::Error;
use streampay_core::backend::{BackendError, Consumed, RefusalCode};

/// Why a swap has no answer to unblind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It did not reach the mint, or the mint had no time for it.
    Away,
    /// It may have reached the mint, or be under way there.
    Unclear,
    /// Inputs are spent, or outputs signed: by an earlier run, or by somebody else.
    Used,
    /// The mint signs with other keysets now.
    Keyset,
    /// The mint looked at it and refused, changing nothing.
    Refused(RefusalCode),
}

pub(crate) fn of_swap(error: &Error) -> Fault {
    note(error);
    match error {
        Error::HttpError(Some(429 | 503), _) => Fault::Away,
        // The transport keeps the kind of an I/O error only in its text.
        Error::HttpError(None, text) if text.contains("refused") => Fault::Away,
        Error::TokenAlreadySpent | Error::BlindedMessageAlreadySigned | Error::DuplicateOutputs => {
            Fault::Used
        }
        Error::InactiveKeyset | Error::ExpiredKeyset => Fault::Keyset,
        Error::UnknownKeySet | Error::KeysetUnknown(_) => {
            Fault::Refused(RefusalCode::UnknownKeyset)
        }
        Error::DHKE(_) => Fault::Refused(RefusalCode::BadProof),
        Error::TransactionUnbalanced(..) => Fault::Refused(RefusalCode::WrongAmount),
        Error::SignatureMissingOrInvalid | Error::NUT11(_) | Error::NUT14(_) => {
            Fault::Refused(RefusalCode::WrongLock)
        }
        Error::UnsupportedUnit | Error::UnitMismatch | Error::MultipleUnits => {
            Fault::Refused(RefusalCode::WrongUnit)
        }
        error if error.is_definitive_failure() => Fault::Refused(RefusalCode::Other),
        _ => Fault::Unclear,
    }
}

impl Fault {
    /// What the machine is told where nothing more can be found out.
    pub(crate) const fn error(self) -> BackendError {
        match self {
            Self::Away | Self::Keyset => BackendError::Transient,
            Self::Unclear | Self::Used => BackendError::Unknown,
            Self::Refused(code) => BackendError::Rejected(code, Consumed::No),
        }
    }
}

/// A failed call that changes nothing at the mint can simply be made again.
pub(crate) fn of_reading(error: Error) -> BackendError {
    note(&error);
    tracing::debug!(
        definitive = error.is_definitive_failure(),
        "mint call failed"
    );
    BackendError::Transient
}

/// A mint that has had too many calls is left alone for a while.
fn note(error: &Error) {
    if matches!(error, Error::HttpError(Some(429), _)) {
        super::budget::note_busy();
    }
}
