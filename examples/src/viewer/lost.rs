//! Purses that a mint said it had never made: asked for again whenever money is looked for.

use serde_json::json;
use streampay_cashu::{LockedMachine, LostFunding};
use streampay_core::session::{PayerSession, Policy};
use streampay_core::store::purse_prefix;
use streampay_core::units::PurseKey;

use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;

/// Of every session, also of those that are settled. True where none is still on its way.
pub(super) async fn find(home: &Home, report: Report) -> Result<bool, AppError> {
    let mut all = true;
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        let (identity, now) = (home.identity.clone(), home.node.clock().now());
        let session = PayerSession::restore(identity, Policy::nothing(), now, id, &records);
        let Ok(session) = session else {
            // A streamer's, or told of above.
            continue;
        };
        let locked = [LockedMachine::CHAIN, LockedMachine::P2PK];
        for (purse, method) in session.purses() {
            if !locked.contains(&method.as_str()) {
                continue;
            }
            let key = PurseKey { session: id, purse };
            let prefix = purse_prefix(key);
            let own = records.iter().filter_map(|(key, value)| {
                let sub = key.strip_prefix(prefix.as_slice())?;
                Some((sub.to_vec(), value.clone()))
            });
            let own: Vec<_> = own.collect();
            let name = id.to_string();
            let short = name.get(..8).unwrap_or_default();
            match home.runner.find_lost(key, &own).await {
                Ok(None) => {}
                Ok(Some(LostFunding::Home(amount))) if amount.is_zero() => {}
                Ok(Some(LostFunding::Home(amount))) => {
                    let fields = json!({
                        "session": name, "purse": purse.0, "amount_msat": amount.msat(),
                    });
                    report.say("found_again", fields);
                    report.tell(&format!(
                        "session [{short}]: {amount} found that the mint had denied"
                    ));
                }
                Ok(Some(LostFunding::Locked(_))) => {
                    all = false;
                    report.tell(&format!(
                        "session [{short}]: the mint has a purse after all that it had denied; it is \
                         yours after its locktime: run `recover` again then"
                    ));
                }
                Ok(Some(_)) => {
                    all = false;
                    report.tell(&format!(
                        "session [{short}]: the mint took what was to fund a purse and denies the \
                         purse; `recover` asks it again"
                    ));
                }
                Err(error) => {
                    all = false;
                    report.tell(&format!(
                        "session [{short}]: a purse that the mint had denied cannot be asked for: {error}"
                    ));
                }
            }
        }
    }
    Ok(all)
}
