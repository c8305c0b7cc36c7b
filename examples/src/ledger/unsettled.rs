//! What is told at the start, and at the end of a streamer: money that is not home, and until when.

use std::collections::BTreeMap;

use serde_json::json;
use streampay_cashu::{LockedMachine, PurseLock, add_line, purse_name};
use streampay_core::backend::RestoredPurse;
use streampay_core::session::{PayerSession, Policy, Role, SessionLedger};
use streampay_core::store::{Key, purse_prefix};
use streampay_core::units::{Msat, PurseKey, Unix};

use super::Ledger;
use super::history::{Sums, date};
use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;
use crate::viewer::locked::locked_until;

/// So many are told one by one; programs hear of all.
const LINES: usize = 5;

/// A session whose money is not home.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// What the books have of it.
    pub session: SessionLedger,
    /// What is not home, beside a purse that was being opened: of that nobody told what it has cost.
    pub out: Msat,
    /// A payer's: when the last of its locks gives way.
    pub locked_until: Option<Unix>,
    /// A payee's: when the first of its viewer's locks gives way under which something is paid and not
    /// redeemed.
    pub redeem_by: Option<Unix>,
}

impl Unsettled {
    /// Until when, for a person.
    fn words(&self) -> String {
        match (self.locked_until, self.redeem_by) {
            (Some(until), _) => format!(
                "; what is locked comes home after {} UTC at the latest",
                date(until)
            ),
            (_, Some(by)) => format!(
                "; what was paid must be redeemed before {} UTC, or the viewer can take it back",
                date(by)
            ),
            (None, None) => String::new(),
        }
    }
}

/// Every session whose money is not home, by what the records say.
///
/// # Errors
/// [`AppError`] where they cannot be read.
pub async fn list(home: &Home) -> Result<Vec<Unsettled>, AppError> {
    of(home, super::sessions(home).await?).await
}

async fn of(home: &Home, sessions: Vec<SessionLedger>) -> Result<Vec<Unsettled>, AppError> {
    let mut all = Vec::new();
    for session in sessions {
        if session.settled {
            continue;
        }
        let out = Sums::of(&session).out;
        let records = home.node.records_of(session.session).await?;
        let lock = |purse| LockedMachine::lock_of(&of_purse(&records, purse));
        if out.is_zero() && !is_opening(&session, lock) {
            continue;
        }
        all.push(Unsettled {
            locked_until: locked(home, &session).await?,
            redeem_by: redeem_by(home, &session).await?,
            session,
            out,
        });
    }
    Ok(all)
}

/// True where a payer's mint was asked to lock something for a purse that was never opened: what it cost, nobody
/// told. A lock alone does not say so: of a purse that is wholly paid it holds too, and nothing in it is the payer's.
fn is_opening(session: &SessionLedger, lock: impl Fn(PurseKey) -> Option<PurseLock>) -> bool {
    let rows = session.purses.iter();
    let unopened = rows.filter(|row| !row.home && !row.opened);
    let mut keys = unopened.map(|row| PurseKey {
        session: session.session,
        purse: row.purse,
    });
    keys.any(|purse| lock(purse).is_some())
}

/// Tells every session whose money is not home. Asks nobody, changes nothing. True where there is none, and
/// none that cannot be read: of those others tell.
///
/// # Errors
/// [`AppError`] where the store fails.
pub async fn tell(home: &Home, report: Report) -> Result<bool, AppError> {
    let Ledger {
        sessions,
        unreadable,
        ..
    } = super::read(home).await?;
    let all = of(home, sessions).await?;
    for (at, of) in all.iter().enumerate() {
        let (id, out) = (of.session.session.to_string(), of.out);
        report.say(
            "unsettled",
            json!({
                "session": id, "out_msat": (!out.is_zero()).then_some(out.msat()),
                "locked_until_unix_s": of.locked_until.map(|until| until.0),
                "redeem_by_unix_s": of.redeem_by.map(|by| by.0),
            }),
        );
        if at < LINES {
            let (id, words) = (id.get(..8).unwrap_or_default(), of.words());
            let what = match out.is_zero() {
                true => "a purse that was being opened is".to_owned(),
                false => out.to_string(),
            };
            report.tell(&format!(
                "session [{id}] is not settled: {what} not home{words}"
            ));
        }
    }
    tell_unsaved(home, &all, report).await?;
    if all.len() > LINES {
        let more = all.len().saturating_sub(LINES);
        report.tell(&format!("and {more} more sessions: `history` shows them"));
    }
    let any = |role| all.iter().any(|of| of.session.role == role);
    if any(Role::Payer) {
        report.tell("`recover` brings home what can come now");
    }
    if any(Role::Payee) {
        report.tell(
            "what viewers have paid there is yours: it comes home when they come back and leave, or by \
             `recover` while nothing is served",
        );
    }
    Ok(all.is_empty() && unreadable.is_empty())
}

/// A backup is due where something is locked that none knows.
async fn tell_unsaved(home: &Home, all: &[Unsettled], report: Report) -> Result<(), AppError> {
    let (amount, since) = unsaved(home, all).await?;
    let Some(since) = since else {
        return Ok(());
    };
    report.say(
        "backup_due",
        json!({ "amount_msat": amount.msat(), "since_unix_s": since.0 }),
    );
    report.tell(&format!(
        "{amount} of what is not home is in no backup, since {} UTC: it is lost with this folder; \
         `backup FILE` saves it",
        date(since)
    ));
    Ok(())
}

/// What a payer has locked in purses that were funded after the last backup, and when the first of them was.
async fn unsaved(home: &Home, all: &[Unsettled]) -> Result<(Msat, Option<Unix>), AppError> {
    let mut funded = BTreeMap::new();
    for line in &home.wallet.book().await?.0 {
        let mut one = BTreeMap::new();
        let added = add_line(&mut one, line);
        added.map_err(|_| AppError::Failed("the wallet's book has more than there can be"))?;
        let left = one.into_iter().filter(|(_, of)| !of.left.is_zero());
        funded.extend(left.map(|(purse, _)| (purse, Unix(line.timestamp))));
    }
    let (mut sum, mut since) = (Msat::ZERO, None);
    for of in all.iter().filter(|of| of.session.role == Role::Payer) {
        for row in of.session.purses.iter().filter(|row| !row.home) {
            let (session, purse) = (of.session.session, row.purse);
            let at = funded.get(&purse_name(PurseKey { session, purse }));
            let out = row.cost.saturating_minus(row.acknowledged);
            let new = at.filter(|at| home.saved.is_none_or(|saved| **at >= saved));
            if let Some(at) = new.filter(|_| is_locked(&row.method) && !out.is_zero()) {
                sum = sum.saturating_plus(out);
                since = Some(since.map_or(*at, |since: Unix| since.min(*at)));
            }
        }
    }
    Ok((sum, since))
}

fn is_locked(method: &str) -> bool {
    [LockedMachine::CHAIN, LockedMachine::P2PK].contains(&method)
}

/// When the first lock gives way under which a payee's session has something that is not home.
async fn redeem_by(home: &Home, session: &SessionLedger) -> Result<Option<Unix>, AppError> {
    if session.role != Role::Payee {
        return Ok(None);
    }
    let records = home.node.records_of(session.session).await?;
    let rows = session.purses.iter();
    let rows = rows.filter(|row| is_locked(&row.method) && !row.home);
    let ends = rows.filter_map(|row| {
        let purse = PurseKey {
            session: session.session,
            purse: row.purse,
        };
        LockedMachine::redeem_by(&of_purse(&records, purse))
    });
    Ok(ends.min())
}

fn of_purse(records: &[(Key, Vec<u8>)], purse: PurseKey) -> RestoredPurse {
    let prefix = purse_prefix(purse);
    let own = records.iter().filter_map(|(key, value)| {
        let sub = key.strip_prefix(prefix.as_slice())?;
        Some((sub.to_vec(), value.clone()))
    });
    own.collect()
}

/// What the records say is locked in a payer's purses that are not home.
fn locks<'a>(
    session: &'a PayerSession,
    records: &'a [(Key, Vec<u8>)],
) -> impl Iterator<Item = PurseLock> + 'a {
    session.purses_out().into_iter().filter_map(|(purse, _)| {
        let session = session.session();
        LockedMachine::lock_of(&of_purse(records, PurseKey { session, purse }))
    })
}

/// When the last lock of a payer's session gives way, by its purses' own records too: of one that was called off
/// while it was being opened the session was never told.
pub(crate) async fn last_lock(
    home: &Home,
    session: &PayerSession,
) -> Result<Option<Unix>, AppError> {
    let records = home.node.records_of(session.session()).await?;
    let made = locks(session, &records).filter(|lock| lock.is_made);
    let made = made.map(|lock| lock.until).max();
    Ok(made.max(locked_until(session)))
}

/// When the last lock of a payer's session gives way.
async fn locked(home: &Home, session: &SessionLedger) -> Result<Option<Unix>, AppError> {
    if session.role != Role::Payer {
        return Ok(None);
    }
    let (id, now) = (session.session, home.node.clock().now());
    let records = home.node.records_of(id).await?;
    let identity = home.identity.clone();
    let session = PayerSession::restore(identity, Policy::nothing(), now, id, &records);
    Ok(session.ok().and_then(|session| {
        // Also what the mint was asked to lock: whether it did is not known.
        let asked = locks(&session, &records).map(|lock| lock.until).max();
        asked.max(locked_until(&session))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::called_off_session;

    #[test]
    fn purse_that_is_wholly_paid_is_not_one_that_is_being_opened_though_its_lock_holds() {
        let lock = PurseLock {
            until: Unix(1_709_164_800),
            is_made: true,
        };
        let mut session = called_off_session(Role::Payer);
        for (opened, home, lock, expect) in [
            (true, false, Some(lock), false),
            (false, false, Some(lock), true),
            // Only planned.
            (false, false, None, false),
            (false, true, Some(lock), false),
        ] {
            (session.purses[0].opened, session.purses[0].home) = (opened, home);
            let asked = session.purses[0].purse;
            let of = |purse: PurseKey| lock.filter(|_| purse.purse == asked);
            assert_eq!(is_opening(&session, of), expect, "{opened} {home} {lock:?}");
        }
    }
}
