//! What is told at the start, and at the end of a streamer: money that is not home, and until when.

use serde_json::json;
use streampay_core::session::{PayerSession, Policy, Role, SessionLedger};
use streampay_core::units::Unix;

use super::history::{Sums, date};
use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;
use crate::viewer::locked::locked_until;

/// So many are told one by one; programs hear of all.
const LINES: usize = 5;

/// Tells every session whose money is not home. Asks nobody, changes nothing. True where there is none.
///
/// # Errors
/// [`AppError`] where the records cannot be read.
pub async fn tell(home: &Home, report: Report) -> Result<bool, AppError> {
    let mut all = super::sessions(home).await?;
    all.retain(|session| !session.settled && !Sums::of(session).out.is_zero());
    for (at, session) in all.iter().enumerate() {
        let until = locked(home, session).await?;
        let out = Sums::of(session).out;
        let id = session.session.to_string();
        report.say(
            "unsettled",
            json!({
                "session": id, "out_msat": out.msat(),
                "locked_until_unix_s": until.map(|until| until.0),
            }),
        );
        if at < LINES {
            let until = until.map_or(String::new(), |until| {
                format!(
                    "; what is locked comes home after {} UTC at the latest",
                    date(until)
                )
            });
            let id = id.get(..8).unwrap_or_default();
            report.tell(&format!(
                "session [{id}] is not settled: {out} not home{until}"
            ));
        }
    }
    if all.len() > LINES {
        let more = all.len().saturating_sub(LINES);
        report.tell(&format!("and {more} more sessions: `history` shows them"));
    }
    if all.iter().any(|session| session.role == Role::Payer) {
        report.tell("`recover` brings home what can come now");
    }
    if all.iter().any(|session| session.role == Role::Payee) {
        report.tell(
            "what viewers have paid there is yours: it comes home when they come back and leave, or by \
             `recover` while nothing is served",
        );
    }
    Ok(all.is_empty())
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
    Ok(session.ok().and_then(|session| locked_until(&session)))
}
