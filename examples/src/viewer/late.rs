//! Payments that the streamer may have, and never acknowledged: the money of their session came home without
//! it, and it is asked for its receipt until it can be thought gone.

use std::time::Duration;

use serde_json::json;
use streampay_core::driver::{Ports, SessionTask};
use streampay_core::session::{Role, SessionLedger};
use streampay_core::units::{Msat, SessionId, Unix};

use super::recover::{Limits, ask_the_streamer, restore};
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::history::date;
use crate::link::StreamLink;
use crate::progress::within;
use crate::report::Report;

/// What is not acknowledged of a settled session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// So much was paid.
    pub amount: Msat,
    /// Until then the streamer is asked.
    pub until: Unix,
}

impl Unheard {
    /// None of a session that is not settled, and where all was acknowledged. Its streamer is asked for as
    /// long as it keeps a session for who comes back.
    fn of(session: &SessionLedger) -> Option<Self> {
        let made = session.purses.iter().map(|row| row.made);
        let made = made.fold(Msat::ZERO, Msat::saturating_plus);
        let amount = made.saturating_minus(session.acknowledged());
        let is_over = session.role == Role::Payer && session.settled;
        let for_s = u64::from(session.terms.resumable_s);
        (is_over && !amount.is_zero()).then(|| Self {
            amount,
            until: session.ended.unwrap_or_default().after_s(for_s),
        })
    }

    /// For a person.
    #[must_use]
    pub fn words(&self) -> String {
        format!(
            "{} of it was paid and not acknowledged: the streamer may have it, and only its receipt would say \
             so. It is asked by each `recover` and `watch` until {} UTC; your money waits for nothing",
            self.amount,
            date(self.until)
        )
    }
}

/// What is not acknowledged of a settled session that its streamer can still be asked for; its link is kept
/// for that, and else forgotten.
pub(super) async fn unheard(home: &Home, id: SessionId) -> Result<Option<Unheard>, AppError> {
    let records = home.node.records_of(id).await?;
    let session = SessionLedger::read(id, &records)?;
    let now = home.node.clock().now().unix;
    let unheard = Unheard::of(&session).filter(|of| now < of.until);
    let unheard = unheard.filter(|_| home.links.of(id).is_some());
    if session.settled && unheard.is_none() {
        home.links.forget(id);
    }
    Ok(unheard)
}

/// Asks the streamer of each such session but for those that were `tried` a moment ago.
pub(super) async fn ask(
    home: &Home,
    report: Report,
    limits: Limits,
    tried: &[SessionId],
) -> Result<(), AppError> {
    for id in home.links.all() {
        if tried.contains(&id) {
            continue;
        }
        let Some(link) = home.links.of(id) else {
            continue;
        };
        // One that cannot be read is told of elsewhere.
        let Ok(Some(before)) = unheard(home, id).await else {
            continue;
        };
        let answered = ask_one(home, report, id, &link, limits).await?;
        let now = unheard(home, id).await?;
        if answered {
            home.links.forget(id);
        }
        tell(report, id, answered, before, now);
    }
    Ok(())
}

/// True where it has answered.
async fn ask_one(
    home: &Home,
    report: Report,
    id: SessionId,
    link: &StreamLink,
    limits: Limits,
) -> Result<bool, AppError> {
    let records = home.node.records_of(id).await?;
    let session = restore(home, id, &records)?.asking_for_receipt();
    let (ports, user) = Ports::pair();
    let mut task = SessionTask::new(home.node.clone(), session, ports);
    let most: Duration = limits.reach.saturating_add(limits.asked);
    let asking = ask_the_streamer(&mut task, user, link, limits);
    let name = id.to_string();
    let what = format!("asking for a receipt of session {}", short(&name));
    within(report, &what, most, asking).await;
    Ok(task.session().is_ended())
}

fn tell(report: Report, id: SessionId, answered: bool, before: Unheard, now: Option<Unheard>) {
    let name = id.to_string();
    let left = now.map_or(Msat::ZERO, |now| now.amount);
    let heard = before.amount.saturating_minus(left);
    report.say(
        "receipt_asked",
        json!({
            "session": name, "answered": answered, "acknowledged_msat": heard.msat(),
            "unacknowledged_msat": left.msat(),
            "ask_until_unix_s": (!answered).then_some(before.until.0),
        }),
    );
    let short = short(&name);
    let line = match (answered, heard.is_zero()) {
        (false, _) => before.words(),
        (true, false) => format!("{heard} that were not acknowledged are: the streamer has them"),
        (true, true) => {
            format!("the streamer says that it never got the {left} that it did not acknowledge")
        }
    };
    report.tell(&format!("session [{short}]: {line}"));
}

fn short(name: &str) -> &str {
    name.get(..8).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use streampay_core::units::PurseId;

    fn session() -> SessionLedger {
        let sat = |sat| Msat::from_sat(sat).unwrap();
        let mut session = crate::ledger::tests::called_off_session(Role::Payer);
        session.ended = Some(Unix(1_000));
        session.terms.resumable_s = 60;
        session.purses = vec![streampay_core::session::PurseLedger {
            purse: PurseId(0),
            opened: true,
            made: sat(5),
            acknowledged: sat(4),
            ..session.purses[0].clone()
        }];
        session
    }

    #[test]
    fn payment_that_was_not_acknowledged_is_asked_for_as_long_as_a_session_is_kept() {
        let unheard = Unheard::of(&session()).unwrap();
        let amount = Msat::from_sat(1).unwrap();
        assert_eq!(
            unheard,
            Unheard {
                amount,
                until: Unix(1_060)
            }
        );
        assert!(
            unheard.words().contains("1970-01-01 00:17"),
            "{}",
            unheard.words()
        );
        let mut open = session();
        open.settled = false;
        let mut earned = session();
        earned.role = Role::Payee;
        let mut whole = session();
        whole.purses[0].acknowledged = whole.purses[0].made;
        for other in [open, earned, whole] {
            assert_eq!(Unheard::of(&other), None);
        }
    }
}
