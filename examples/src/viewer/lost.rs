//! Purses that a mint said it had never made: asked for again whenever money is looked for.

use serde_json::json;
use streampay_cashu::{LockedMachine, LostFunding, SwapMachine};
use streampay_core::session::{PayerSession, Policy};
use streampay_core::store::purse_prefix;
use streampay_core::units::{Msat, PurseKey};

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
        let ecash = [
            LockedMachine::CHAIN,
            LockedMachine::P2PK,
            SwapMachine::METHOD,
        ];
        for (purse, method) in session.purses() {
            if !ecash.contains(&method.as_str()) {
                continue;
            }
            let key = PurseKey { session: id, purse };
            let prefix = purse_prefix(key);
            let own = records.iter().filter_map(|(key, value)| {
                let sub = key.strip_prefix(prefix.as_slice())?;
                Some((sub.to_vec(), value.clone()))
            });
            let own: Vec<_> = own.collect();
            let error = match home.runner.find_lost(key, &own).await {
                Ok(None) => continue,
                Ok(Some(found)) => {
                    // Told before it is written: should this be cut short, it is told once more.
                    all &= tell(report, key, found);
                    let end = found.end(&own).within_purse(key);
                    if !end.is_empty() {
                        home.store.append(end).await?;
                    }
                    continue;
                }
                Err(error) => error,
            };
            all = false;
            let short = short(key);
            report.tell(&format!(
                "session [{short}]: a purse that the mint had denied cannot be asked for: {error}"
            ));
        }
    }
    Ok(all)
}

fn short(key: PurseKey) -> String {
    key.session.to_string().chars().take(8).collect()
}

/// True where it has come to its end.
fn tell(report: Report, key: PurseKey, found: LostFunding) -> bool {
    let (name, short) = (key.session.to_string(), short(key));
    let came = match found {
        LostFunding::Home(came) | LostFunding::Part(came) => came,
        LostFunding::GivenUp { came, .. } => came,
        _ => Msat::ZERO,
    };
    if !came.is_zero() {
        let fields = json!({
            "session": name, "purse": key.purse.0, "amount_msat": came.msat(),
        });
        report.say("found_again", fields);
        report.tell(&format!(
            "session [{short}]: {came} found that the mint had denied"
        ));
    }
    match found {
        LostFunding::Home(_) => return true,
        LostFunding::GivenUp { lost, .. } => {
            let fields = json!({
                "session": name, "purse": key.purse.0, "amount_msat": lost.msat(),
            });
            report.say("funding_lost", fields);
            report.tell(&format!(
                "session [{short}]: {lost} are lost: the mint took them to fund a purse, and more than a \
                 day after it should have it does not give them back; each `recover` asks it once more"
            ));
            return true;
        }
        LostFunding::Locked(_) => report.tell(&format!(
            "session [{short}]: the mint has a purse after all that it had denied; it is \
             yours after its locktime: run `recover` again then"
        )),
        LostFunding::Part(_) => report.tell(&format!(
            "session [{short}]: the mint says that somebody else has spent the rest of a purse that it had \
             denied; `recover` asks it again"
        )),
        _ => report.tell(&format!(
            "session [{short}]: the mint took what was to fund a purse and denies the \
             purse; `recover` asks it again"
        )),
    }
    false
}
