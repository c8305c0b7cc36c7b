//! What the user says of parts that are not paid: what a backup cannot know of them, and that one is given
//! up.

use std::path::Path;

use super::{PartState, Payout};
use crate::error::AppError;
use crate::wallet::WalletFolder;

/// What the user has heard of a receiver whose part is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has the money.
    Paid,
    /// It has not.
    NotPaid,
}

/// Every part that is not paid is in doubt from now on: the folder was made from a backup.
///
/// # Errors
/// [`AppError`] where a payout cannot be read or written.
pub fn doubt_all(data: &Path) -> Result<(), AppError> {
    for mut payout in Payout::all_in(data)? {
        if payout.is_done() {
            continue;
        }
        for part in &mut payout.parts {
            part.state = match part.state.clone() {
                PartState::Planned => PartState::Doubtful { quote: None },
                PartState::Paying { quote } => PartState::Doubtful { quote: Some(quote) },
                known => known,
            };
        }
        payout.write_in(data)?;
    }
    Ok(())
}

/// What the user has `heard` of `receivers`, of the payout that was cut short: those who were paid are
/// done, those who were not are paid next.
///
/// # Errors
/// [`AppError::Usage`] where one of them is not in doubt: nothing is noted then.
pub fn answer(wallet: &WalletFolder, receivers: &[String], heard: Heard) -> Result<(), AppError> {
    let mut all = Payout::all(wallet)?.into_iter();
    let mut payout = all.find(|payout| !payout.is_done());
    for receiver in receivers {
        let parts = payout.iter_mut().flat_map(|payout| &mut payout.parts);
        let mut doubtful = parts.filter(|part| matches!(part.state, PartState::Doubtful { .. }));
        let part = doubtful.find(|part| part.to.eq_ignore_ascii_case(receiver));
        let part = part.ok_or(AppError::Usage(
            "this receiver is not in doubt: `split --list` shows who is; nothing was paid",
        ))?;
        part.state = match heard {
            Heard::Paid => PartState::Vouched,
            Heard::NotPaid => PartState::Planned,
        };
    }
    match payout {
        Some(payout) if !receivers.is_empty() => payout.write(wallet),
        _ => Ok(()),
    }
}

/// Gives up what is planned of the payout that was cut short, such as what is for an address that is none.
/// What may be paid stays as it is. None where there is no such payout.
///
/// # Errors
/// [`AppError`] where it cannot be read or written.
pub fn give_up(wallet: &WalletFolder) -> Result<Option<Payout>, AppError> {
    let mut all = Payout::all(wallet)?.into_iter();
    let Some(mut payout) = all.find(|payout| !payout.is_done()) else {
        return Ok(None);
    };
    for part in &mut payout.parts {
        if part.state == PartState::Planned {
            part.state = PartState::Dropped;
        }
    }
    payout.write(wallet)?;
    Ok(Some(payout))
}
