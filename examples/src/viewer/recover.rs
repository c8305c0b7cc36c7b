//! After a crash: every session that is not settled is closed, and its money brought home.

use std::time::Duration;

use streampay_core::driver::{Ports, SessionTask};
use streampay_core::session::{CloseCode, Command, PayerConfig, PayerSession, Policy};
use streampay_core::units::{Msat, XOnlyKey};

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
    let mut all_settled = true;
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        let now = home.node.clock().now();
        let Ok(session) = PayerSession::restore(config(home), now, id, &records) else {
            // A payee's session: this folder was a streamer's too.
            continue;
        };
        if session.is_settled() {
            continue;
        }
        let (ports, _user) = Ports::pair();
        let mut task = SessionTask::restored(home.node.clone(), id, session, &records, ports);
        task.tell(Command::Close(CloseCode::Done)).await?;
        tokio::time::timeout(LIMIT, task.run(None)).await.ok();
        let settled = task.session().is_settled();
        all_settled &= settled;
        let state = if settled {
            "settled"
        } else {
            "not settled yet"
        };
        let acknowledged = task.session().acknowledged();
        report.tell(&format!(
            "session {id}: {state}; {acknowledged} went to the streamer"
        ));
        report.say("recovered", serde_json::json!({
            "session": id.to_string(), "settled": settled, "acknowledged_msat": acknowledged.msat(),
        }));
    }
    Ok(all_settled)
}

/// A session that only closes needs no limits.
fn config(home: &Home) -> PayerConfig {
    PayerConfig {
        identity: home.identity.clone(),
        payee: XOnlyKey([0; 32]),
        policy: Policy {
            budget: Msat::ZERO,
            max_tariff: streampay_core::meter::Tariff::default(),
            max_tick: Msat::ZERO,
            methods: Vec::new(),
            stall_close_ms: u64::MAX,
        },
    }
}
