//! Purses of tokens whose split failed by the mint's word: whether it was done after all.

use cdk::nuts::PublicKey;
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::store::ChangeSet;

use super::locked::{LostFunding, Word, store};
use super::outputs::Outputs;
use super::{OWN_STORE, Runner};
use crate::figures::{self, LEFT, RETURNED};
use crate::job::Plan;
use crate::locked::REFUND_WINDOW_S;
use crate::machine::msat;
use crate::machine::record::{self, Kind, Meta, PayerMeta, PayerStage, Sought};

/// The payer's own record, where these are of tokens.
fn meta_of(records: &RestoredPurse) -> Option<PayerMeta> {
    let mut of = records.iter();
    let (_, meta) = of.find(|(key, _)| matches!(record::kind(key), Some(Kind::Meta)))?;
    match record::read(meta) {
        Ok(Meta::Payer(meta)) => Some(meta),
        _ => None,
    }
}

/// True of records of a method that this module is for.
pub(super) fn is_of_tokens(records: &RestoredPurse) -> bool {
    meta_of(records).is_some()
}

/// What was to be split and failed, and what has come of asking for it; none of any other purse, and where it
/// is written that it is home.
pub(super) fn lost_split(records: &RestoredPurse) -> Option<(Plan, Option<Sought>)> {
    match meta_of(records)?.stage {
        PayerStage::Lost(_, Some(Sought::Home)) => None,
        PayerStage::Lost(plan, sought) => Some((plan, sought)),
        _ => None,
    }
}

/// What was found of it, for its records; nothing for any other purse.
pub(super) fn end_of_split(records: &RestoredPurse, found: Sought) -> ChangeSet {
    let mut delta = ChangeSet::new();
    if let Some(mut meta) = meta_of(records)
        && let PayerStage::Lost(_, sought) = &mut meta.stage
        && let Some(found) = found.after(*sought)
    {
        *sought = Some(found);
        record::put_meta(&mut delta, &Meta::Payer(meta));
    }
    delta
}

impl Runner {
    /// Asks the mint for it again. Nobody has seen the tokens: they are the wallet's own.
    pub(super) async fn find_split(
        &self,
        plan: &Plan,
        sought: Option<Sought>,
    ) -> Result<Option<LostFunding>, BackendError> {
        let wallet = self.wallet(&plan.place).await?;
        let keyset = plan.keyset().map_err(|_| BackendError::Unknown)?;
        let amounts: Vec<u64> = plan.outputs().collect();
        let outputs = Outputs::derive(&wallet, &plan.seed, keyset, &amounts).await?;
        let asked = match outputs.restore(&wallet).await? {
            Some(proofs) => Word::Ours(proofs),
            None => {
                let since = match sought {
                    Some(Sought::Denied(since)) => since,
                    _ => 0,
                };
                let until = (sought, since.saturating_add(REFUND_WINDOW_S));
                self.word_on(&wallet, plan, &outputs, until).await?
            }
        };
        let proofs = match asked {
            Word::Ours(proofs) => proofs,
            Word::Other(found) => return Ok(found),
        };
        let ys = outputs.ys()?;
        let before = held(&wallet, &ys).await?;
        store(&wallet, plan, proofs, true).await?;
        let came = held(&wallet, &ys).await?.saturating_sub(before);
        let tokens = plan
            .token
            .iter()
            .fold(0_u64, |sum, one| sum.saturating_add(*one));
        let tokens = tokens.saturating_mul(plan.count);
        let operation = plan.place.operation();
        let left = tokens.saturating_add(plan.fee);
        let lines = [(LEFT, left, plan.fee), (RETURNED, tokens, 0)];
        for (kind, amount, fee) in lines {
            let noted = figures::note(&wallet, operation, kind, amount, fee, ys.clone()).await;
            noted.map_err(|_| OWN_STORE)?;
        }
        Ok(Some(LostFunding::Home(msat(came))))
    }
}

/// What the wallet knows of these.
async fn held(wallet: &Wallet, ys: &[PublicKey]) -> Result<u64, BackendError> {
    let known = wallet.localstore.get_proofs_by_ys(ys.to_vec()).await;
    let known = known.map_err(|_| OWN_STORE)?;
    let amounts = known.iter().map(|info| info.proof.amount.to_u64());
    Ok(amounts.fold(0, u64::saturating_add))
}
