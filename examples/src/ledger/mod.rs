//! Every session's money: what was paid, what came back, what it cost, and what proves it.
//!
//! Nothing here is written by the ledger itself. Its rows are the sessions' own records, in which
//! each purse's sums become durable with the money that they tell of, and the wallet's book beside
//! them, which is written by others: see `spec/adr/0011-the-ledger-is-the-records.md`.

pub mod audit;
pub mod cash;
pub mod commands;
pub mod history;
pub(crate) mod notes;
mod purse;
pub mod receipts;
pub mod uncollected;
pub mod unsettled;

use streampay_btc::machine::ChannelReport;
use streampay_cashu::{add_line, purse_name};
use streampay_core::session::{Role, SessionLedger};
use streampay_core::units::{PurseKey, SessionId};

use self::uncollected::{Figures, may_be_uncollected};
use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;

/// What a home's records say.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The rows of every session that has records, the oldest first.
    pub sessions: Vec<SessionLedger>,
    /// Sessions whose records cannot be read: nothing is known of their money. The others go on.
    pub unreadable: Vec<SessionId>,
    /// What other books have of the purses; empty where no session's sums need it.
    pub figures: Figures,
}

/// The rows of every session that has records and can be read, the oldest first.
///
/// # Errors
/// [`AppError`] where the store fails.
pub async fn sessions(home: &Home) -> Result<Vec<SessionLedger>, AppError> {
    Ok(read(home).await?.sessions)
}

/// All that the records say.
///
/// # Errors
/// [`AppError`] where the store fails.
pub async fn read(home: &Home) -> Result<Ledger, AppError> {
    let mut ledger = Ledger::default();
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        match SessionLedger::read(id, &records) {
            Ok(session) => ledger.sessions.push(session),
            Err(_) => ledger.unreadable.push(id),
        }
    }
    let all = &mut ledger.sessions;
    all.sort_by_key(|of| (of.began, of.session));
    let needs = |of: &SessionLedger| !called_off(of).is_empty() || may_be_uncollected(of);
    if all.iter().any(needs) {
        for line in &home.wallet.book().await?.0 {
            let added = add_line(&mut ledger.figures.ecash, line);
            added.map_err(|_| AppError::Failed("the wallet's book has more than there can be"))?;
        }
        let channels = match &home.channels {
            Some(channels) => channels.book(home).await?,
            None => Vec::new(),
        };
        let refunded = channels
            .iter()
            .filter_map(|of| Some((of.purse, of.refunded?)));
        ledger.figures.refunded = refunded.collect();
        for session in all {
            tell_cost(session, &ledger.figures, &channels);
        }
    }
    Ok(ledger)
}

/// What to do about sessions that cannot be read.
pub(crate) fn tell_unreadable(unreadable: &[SessionId], report: Report) {
    for id in unreadable {
        report.tell(&format!(
            "session {id} cannot be read: nothing is known of its money, and it is left as it is. Bring it back \
             from a backup made before, with `restore` into another folder"
        ));
    }
}

/// Purses that were called off before they had opened: the session was never told what they cost, and
/// its record has what came back for it.
fn called_off(session: &SessionLedger) -> Vec<PurseKey> {
    let rows = session.purses.iter();
    let rows = rows.filter(|row| session.role == Role::Payer && row.home && !row.opened);
    rows.map(|row| PurseKey {
        session: session.session,
        purse: row.purse,
    })
    .collect()
}

/// What they cost is in the wallet's book: making and taking back what they held has its fees. Of a channel
/// its own records say what was paid to its address.
fn tell_cost(session: &mut SessionLedger, figures: &Figures, channels: &[ChannelReport]) {
    for key in called_off(session) {
        let mut rows = session.purses.iter_mut();
        let Some(row) = rows.find(|row| row.purse == key.purse) else {
            continue;
        };
        if let Some(figures) = figures.ecash.get(&purse_name(key)) {
            row.cost = figures.left;
        }
        let mut own = channels.iter().filter(|channel| channel.purse == key);
        if let Some(channel) = own.find(|channel| channel.outpoint.is_some()) {
            row.cost = uncollected::cost_of(channel);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
