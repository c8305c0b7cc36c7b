//! After a crash: every session that is not settled is closed, and its money brought home.

use std::time::Duration;

use streampay_core::driver::{Ports, SessionTask, TellError};
use streampay_core::session::{CloseCode, Command, PayerSession, Policy};
use streampay_core::store::StoreError;
use streampay_core::units::SessionId;

use super::account::Account;
use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;

/// How long one session may take; a mint that is away longer is asked again next time.
const LIMIT: Duration = Duration::from_secs(60);

/// Closes every session that is not settled. True where all are settled then.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn recover(home: &Home, report: Report) -> Result<bool, AppError> {
    let (mut all_settled, mut found) = (true, false);
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        let now = home.node.clock().now();
        let identity = home.identity.clone();
        let restored = PayerSession::restore(identity, Policy::nothing(), now, id, &records);
        let session = match restored {
            Ok(session) => session,
            // This folder was a streamer's too.
            Err(StoreError::OtherRole) => continue,
            Err(error) => {
                report.tell(&format!("session {id}: {error}; its money cannot be found"));
                all_settled = false;
                continue;
            }
        };
        if session.is_settled() {
            continue;
        }
        found = true;
        let (ports, _user) = Ports::pair();
        let mut task = SessionTask::restored(home.node.clone(), session, &records, ports);
        // One that has ended already only has to settle.
        if let Err(TellError::Store(error)) = task.tell(Command::Close(CloseCode::Done)).await {
            return Err(error.into());
        }
        tokio::time::timeout(LIMIT, task.run(None)).await.ok();
        let settled = task.session().is_settled();
        all_settled &= settled;
        tell(
            report,
            id,
            settled,
            &Account::of(home, task.session()).await?,
        );
    }
    if !found {
        report.tell("no session is open");
    }
    Ok(all_settled)
}

fn tell(report: Report, id: SessionId, settled: bool, account: &Account) {
    let state = if settled {
        "settled"
    } else {
        "not settled yet; try again when the mint answers"
    };
    report.tell(&format!("session {id}: {state}; {account}"));
    report.say(
        "recovered",
        serde_json::json!({
            "session": id.to_string(), "settled": settled,
            "paid_msat": account.paid.msat(), "acknowledged_msat": account.acknowledged.msat(),
            "fees_msat": account.fees().msat(), "refunded_msat": account.refunded.msat(),
        }),
    );
}
