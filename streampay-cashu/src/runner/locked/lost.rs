//! What a payee redeemed that its backup does not know. Each batch has outputs of its own, named by
//! what is in it (NUT-13), and a mint tells what it has signed (NUT-09): so batches are guessed.

use cdk::nuts::{Id, RestoreRequest};
use cdk::wallet::Wallet;
use minicbor::bytes::ByteVec;
use streampay_core::backend::{BackendError, RestoredPurse};
use streampay_core::units::Msat;

use super::STATES_MAX;
use crate::coin::Seed;
use crate::fee::{fee_of, split};
use crate::locked::drain::{BATCH_MAX, Batch, Drain};
use crate::locked::record::{Meta, PayeeMeta, Records};
use crate::runner::outputs::{Outputs, premints};
use crate::runner::swap_in::{self, Into};
use crate::runner::{OWN_STORE, Runner, fault, keysets};

impl Runner {
    /// For the records of a payee's purse of locked ecash that were restored from a backup: asks the
    /// mint for what was redeemed of it since, and puts that into the wallet. What was found that is
    /// not spent, nothing for other purses. Asked again, it finds nothing more.
    ///
    /// # Errors
    /// Those of the mint and of the wallet's store: ask again later.
    pub async fn find_redeemed(&self, records: &RestoredPurse) -> Result<Msat, BackendError> {
        let records = Records::read(records).map_err(|_| BackendError::Unknown)?;
        let (Some(Meta::Payee(meta)), Some(locked)) = (records.meta, records.locked) else {
            return Ok(Msat::ZERO);
        };
        let funded = locked.funded().map_err(|_| BackendError::Unknown)?;
        let wallet = self.wallet(&meta.place).await?;
        let amounts = (0..funded.proofs()).map(|number| funded.amount(number));
        let amounts: Option<Vec<u64>> = amounts.collect();
        let lost = Lost {
            wallet: &wallet,
            meta: &meta,
            amounts: amounts.ok_or(BackendError::Unknown)?,
            keysets: keysets(&wallet, false).await?.ids(),
        };
        lost.find(records.drain).await
    }
}

struct Lost<'a> {
    wallet: &'a Wallet,
    meta: &'a PayeeMeta,
    /// Of all proofs of the purse.
    amounts: Vec<u64>,
    /// Those whose outputs are looked for.
    keysets: Vec<Id>,
}

impl Lost<'_> {
    async fn find(&self, mut drain: Drain) -> Result<Msat, BackendError> {
        // One under way is the machine's, which makes the same again.
        drain.home();
        let mut found = 0_u64;
        while let Some(batch) = self.next(&drain).await? {
            found = found.saturating_add(self.keep(&batch).await?);
            drain.batches = batch.no;
            drain.batch = Some(batch);
            drain.home();
        }
        Msat::from_sat(found).map_err(|_| BackendError::Unknown)
    }

    /// The batch that was made next, if the mint has signed one.
    async fn next(&self, drain: &Drain) -> Result<Option<Batch>, BackendError> {
        for keyset in &self.keysets {
            let guesses = self.guesses(drain, *keyset).await?;
            for some in guesses.chunks(STATES_MAX) {
                let outputs = some.iter().map(|(_, output)| output.clone()).collect();
                let request = RestoreRequest { outputs };
                let answer = self.wallet.mint_connector().post_restore(request).await;
                let answer = answer.map_err(fault::of_reading)?;
                let signed = some.iter().find(|(_, guess)| {
                    let blinded = answer.outputs.iter().map(|output| output.blinded_secret);
                    blinded.into_iter().any(|of| of == guess.blinded_secret)
                });
                if let Some((batch, _)) = signed {
                    return Ok(Some(batch.clone()));
                }
            }
        }
        Ok(None)
    }

    /// Every batch that could come next, with the first of its outputs.
    async fn guesses(
        &self,
        drain: &Drain,
        keyset: Id,
    ) -> Result<Vec<(Batch, cdk::nuts::BlindedMessage)>, BackendError> {
        let denominations = self.denominations(keyset).await?;
        let total = u64::try_from(self.amounts.len()).unwrap_or(u64::MAX);
        let left = (drain.next..total).filter(|number| !drain.spent.contains(number));
        let (mut numbers, mut sum, mut guesses) = (Vec::new(), 0_u64, Vec::new());
        for number in left.take(usize::try_from(BATCH_MAX).unwrap_or(usize::MAX)) {
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            sum = sum.saturating_add(self.amounts.get(index).copied().unwrap_or_default());
            numbers.push(number);
            let count = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
            let fee = fee_of(count.saturating_mul(self.meta.ppk));
            let net = sum.checked_sub(fee).filter(|net| *net > 0);
            let split = net.and_then(|net| split(net, &denominations));
            let (Some(net), Some(split)) = (net, split) else {
                continue;
            };
            let batch = Batch {
                no: drain.batches.saturating_add(1),
                numbers: numbers.clone(),
                keyset: ByteVec::from(keyset.to_bytes()),
                net,
            };
            let first = split.get(..1).unwrap_or_default();
            let made = premints(&self.seed(&batch), keyset, first)?;
            let output = made.into_iter().next().map(|made| made.blinded_message);
            guesses.extend(output.map(|output| (batch, output)));
        }
        Ok(guesses)
    }

    /// What of it is not spent and was not in the wallet.
    async fn keep(&self, batch: &Batch) -> Result<u64, BackendError> {
        let keyset = Id::from_bytes(&batch.keyset).map_err(|_| BackendError::Unknown)?;
        let denominations = self.denominations(keyset).await?;
        let amounts = split(batch.net, &denominations).ok_or(BackendError::Unknown)?;
        let seed = self.seed(batch);
        let outputs = Outputs::derive(self.wallet, &seed, keyset, &amounts).await?;
        let ys = outputs.ys()?;
        let stored = self.wallet.localstore.get_proofs_by_ys(ys.clone()).await;
        if !stored.map_err(|_| OWN_STORE)?.is_empty() {
            return Ok(0);
        }
        let proofs = outputs.restore(self.wallet).await?;
        let proofs = proofs.ok_or(BackendError::Transient)?;
        let numbers = batch.numbers.iter();
        let sum = numbers.filter_map(|number| self.amounts.get(usize::try_from(*number).ok()?));
        let sum = sum.fold(0, |sum: u64, amount| sum.saturating_add(*amount));
        let into = Into {
            place: &self.meta.place,
            seed: &seed,
            keyset,
            net: batch.net,
            fee: sum.saturating_sub(batch.net),
            again: true,
            own: false,
        };
        let unspent = swap_in::unspent(self.wallet, &ys).await?;
        let here = proofs.iter().zip(unspent).filter(|(_, unspent)| *unspent);
        let here = here.map(|(proof, _)| proof.amount.to_u64());
        let here = here.fold(0, u64::saturating_add);
        swap_in::keep(self.wallet, &into, (proofs, ys), &[], true).await?;
        Ok(here)
    }

    fn seed(&self, batch: &Batch) -> Seed {
        self.meta.seed.child(batch.no, &batch.name())
    }

    async fn denominations(&self, keyset: Id) -> Result<Vec<u64>, BackendError> {
        let set = self.wallet.keyset(keyset).await;
        let set = set.map_err(fault::of_reading)?;
        Ok(set.keys.iter().map(|(amount, _)| amount.to_u64()).collect())
    }
}
