//! A session meets the fault twice while it opens, and twice at its second tick.
//!
//! It asks what became of a swap only where that is in doubt: so those endpoints come with a swap
//! whose answer is lost, or that was never done.

use streampay_examples::mint::faults_for_testing::{Fault, FaultSwitch};

use super::outcomes;
use crate::cashu_node::mint;
use crate::live::{Mode, Party, Plan, all_is_fair, play, recover_both};

const FUNDS: u64 = 100;

fn arm(faults: &FaultSwitch, endpoint: &str, fault: Fault) {
    match endpoint {
        "/v1/restore" => faults.set("/v1/swap", Fault::LoseAnswer, 1),
        "/v1/checkstate" => faults.set("/v1/swap", Fault::Fail, 1),
        _ => {}
    }
    faults.set(endpoint, fault, 2);
}

pub(super) async fn run(mode: Mode, endpoint: &str, fault: Fault) -> Result<String, String> {
    let mint = mint(100).await;
    let payer = Party::with(&mint.url(), FUNDS).await;
    let mut payee = Party::new().await;
    let plan = Plan::new(mode, &mint.url());
    let faults = mint.faults_for_testing().clone();
    arm(&faults, endpoint, fault);
    let later = faults.clone();
    let at = endpoint.to_owned();
    let played = play(&payer, &payee, &plan, move |tick| {
        if tick == 2 {
            arm(&later, &at, fault);
        }
    })
    .await;
    if played.stuck {
        return Err(format!("stuck: {:?}", played.troubles()));
    }
    // Not those that brought a swap into doubt.
    let met = faults.met_for(endpoint);
    faults.clear();
    if met == 0 {
        return Err("no request met the fault".to_owned());
    }
    outcomes::say_what_happens_next(&plan, &played)
        .map_err(|why| format!("{why}: {:?}", played.troubles()))?;
    payee.restart().await;
    if !recover_both(&payer, &payee).await {
        return Err(format!("something is left to do: {:?}", played.troubles()));
    }
    let ledger = mint.ledger().await.map_err(|error| error.to_string())?;
    let (owed, fees) = (ledger.outstanding(), ledger.fees);
    all_is_fair(&plan, &played, (&payer, FUNDS), &payee, owed, fees)
        .await
        .map_err(|why| format!("{why}: {:?}", played.troubles()))?;
    let paid = played.acknowledged;
    Ok(format!("{met} met, {paid} paid; {:?}", played.troubles()))
}
