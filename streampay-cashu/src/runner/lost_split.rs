//! Purses of tokens whose split failed by the mint's word: whether it was done after all.

use cdk::nuts::PublicKey;
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::store::ChangeSet;

use super::locked::{LostFunding, store};
use super::outputs::Outputs;
use super::{OWN_STORE, Runner};
use crate::figures::{self, LEFT, RETURNED};
use crate::job::Plan;
use crate::locked::REFUND_WINDOW_S;
use crate::machine::msat;
use crate::machine::record::{self, Kind, Meta, PayerMeta, PayerStage};

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

/// What was to be split and failed, and when; none of any other purse, and where its end is written.
pub(super) fn lost_split(records: &RestoredPurse) -> Option<(Plan, u64)> {
    match meta_of(records)?.stage {
        PayerStage::Lost(plan, since, None) => Some((plan, since)),
        _ => None,
    }
}

/// Its end, for its records; nothing for any other purse.
pub(super) fn end_of_split(records: &RestoredPurse) -> ChangeSet {
    let mut delta = ChangeSet::new();
    if let Some(mut meta) = meta_of(records)
        && let PayerStage::Lost(_, _, ended) = &mut meta.stage
    {
        *ended = Some(true);
        record::put_meta(&mut delta, &Meta::Payer(meta));
    }
    delta
}

impl Runner {
    /// Asks the mint for it again. Nobody has seen the tokens: they are the wallet's own.
    pub(super) async fn find_split(
        &self,
        plan: &Plan,
        since: u64,
    ) -> Result<LostFunding, BackendError> {
        let wallet = self.wallet(&plan.place).await?;
        let keyset = plan.keyset().map_err(|_| BackendError::Unknown)?;
        let amounts: Vec<u64> = plan.outputs().collect();
        let outputs = Outputs::derive(&wallet, &plan.seed, keyset, &amounts).await?;
        let Some(proofs) = outputs.restore(&wallet).await? else {
            let until = since.saturating_add(REFUND_WINDOW_S);
            if self.time_at(&wallet).await? < until {
                return Ok(LostFunding::Unknown);
            }
            let lost = amounts.into_iter().fold(0, u64::saturating_add);
            let (came, lost) = (msat(0), msat(lost));
            return Ok(LostFunding::GivenUp { came, lost });
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
        Ok(LostFunding::Home(msat(came)))
    }
}

/// What the wallet knows of these.
async fn held(wallet: &Wallet, ys: &[PublicKey]) -> Result<u64, BackendError> {
    let known = wallet.localstore.get_proofs_by_ys(ys.to_vec()).await;
    let known = known.map_err(|_| OWN_STORE)?;
    let amounts = known.iter().map(|info| info.proof.amount.to_u64());
    Ok(amounts.fold(0, u64::saturating_add))
}
