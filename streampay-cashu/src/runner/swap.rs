//! One swap, brought to an end that is known.

use std::time::Duration;

use cdk::nuts::{Proof, State, SwapRequest};
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RefusalCode};

use super::fault::{self, Fault};
use super::outputs::{Outputs, states};

/// How a swap ended.
pub(crate) enum Swapped {
    /// The mint signed our outputs, now or in an earlier run (`before`).
    Ours { proofs: Vec<Proof>, before: bool },
    /// The inputs are spent, and not into our outputs.
    SpentElsewhere,
    /// The outputs' keyset is not signed with any more; nothing happened.
    OtherKeyset,
}

/// Swaps `inputs` into `outputs`. With `again`, an earlier run may have done so: the mint is asked
/// for our outputs before anything is swapped.
pub(crate) async fn swap(
    wallet: &Wallet,
    inputs: Vec<Proof>,
    outputs: &Outputs,
    again: bool,
    limit: Duration,
) -> Result<Swapped, BackendError> {
    let ys: Vec<_> = inputs.iter().filter_map(|input| input.y().ok()).collect();
    if again {
        match outputs.restore(wallet).await {
            Ok(Some(proofs)) => {
                return Ok(Swapped::Ours {
                    proofs,
                    before: true,
                });
            }
            Ok(None) => {}
            // It cannot say. While nothing that goes in is spent, the same swap once more does no harm:
            // it is done once, however often it is asked for.
            Err(error) => {
                let states = states(wallet, ys.clone()).await.map_err(|_| error)?;
                if states.iter().any(|state| *state != State::Unspent) {
                    return Err(error);
                }
            }
        }
    }
    let request = SwapRequest::new(inputs, outputs.messages());
    let connector = wallet.mint_connector();
    // A lost answer must leave time to ask for it.
    let answer = tokio::time::timeout(limit / 2, connector.post_swap(request)).await;
    let fault = match answer {
        Ok(Ok(answer)) => {
            let proofs = outputs.unblind(answer.signatures);
            let proofs = proofs.ok_or(BackendError::Unknown)?;
            return Ok(Swapped::Ours {
                proofs,
                before: false,
            });
        }
        Ok(Err(error)) => fault::of_swap(&error),
        Err(_) => Fault::Unclear,
    };
    match fault {
        Fault::Keyset => Ok(Swapped::OtherKeyset),
        // A mint that takes another fee now may say so of inputs that are spent, too.
        Fault::Used | Fault::Unclear | Fault::Refused(RefusalCode::WrongAmount) => {
            match (find_out(wallet, ys, outputs, fault).await?, fault) {
                // Who else but this very swap? It is asked for again, later, before anybody else is blamed.
                (Some(Swapped::SpentElsewhere), Fault::Unclear) => Err(BackendError::Unknown),
                (Some(end), _) => Ok(end),
                (None, Fault::Refused(_)) => Err(fault.error()),
                // Not yet done. Should it be done later by the first request, the next run finds it.
                (None, _) => Err(BackendError::Transient),
            }
        }
        Fault::Away | Fault::Refused(_) => Err(fault.error()),
    }
}

/// None where nothing that goes in is spent.
async fn find_out(
    wallet: &Wallet,
    ys: Vec<cdk::nuts::PublicKey>,
    outputs: &Outputs,
    fault: Fault,
) -> Result<Option<Swapped>, BackendError> {
    let restored = outputs.restore(wallet).await;
    if let Some(proofs) = restored.map_err(|_| fault.error())? {
        return Ok(Some(Swapped::Ours {
            proofs,
            before: true,
        }));
    }
    let states = states(wallet, ys).await.map_err(|_| fault.error())?;
    if !states.contains(&State::Spent) {
        return Ok(None);
    }
    // Asked in this order, a swap of ours in between would read as somebody else's.
    let restored = outputs.restore(wallet).await;
    Ok(Some(match restored.map_err(|_| fault.error())? {
        Some(proofs) => Swapped::Ours {
            proofs,
            before: true,
        },
        None => Swapped::SpentElsewhere,
    }))
}
