//! After a crash: finishing what was begun, and accounting for every satoshi.

use cdk::Amount;
use cdk::mint_url::MintUrl;
use cdk::nuts::{CheckStateRequest, ProofState, PublicKey, RestoreRequest, State};
use cdk::wallet::Wallet;
use cdk::wallet::types::TransactionId;
use cdk_common::database::WalletDatabase;
use cdk_common::wallet::{OperationData, ReceiveSagaState, WalletSaga, WalletSagaState};
use streampay_core::units::Msat;
use uuid::Uuid;

use crate::ledger::notes::Note;

use super::deposit::Unheard;
use super::{MintBalance, WalletError, WalletFolder, sum};

/// Every satoshi at one mint, after [`WalletFolder::recover`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Spendable and pending now.
    pub balance: MintBalance,
    /// Deposits that were paid and are now ecash.
    pub deposited: Msat,
    /// Deposits whose invoices nobody has paid yet.
    pub awaited: Msat,
    /// Operations that a crash interrupted and that are finished or undone now.
    pub finished: usize,
    /// Operations that still wait for the mint.
    pub waiting: usize,
    /// Of these, the invoices that were over long ago: they were paid in time, or never.
    pub unheard: Vec<Unheard>,
    /// Part of pending: in sent tokens that nobody has redeemed yet. Whoever has such a token can
    /// redeem it; [`WalletFolder::take_back`] makes it worthless.
    pub sent: Msat,
    /// Part of pending: held by purses and unspent. Released with their sessions.
    pub in_purses: Msat,
    /// Part of pending: tokens of purses that the payee has spent. Booked with their sessions.
    pub spent_in_purses: Msat,
    /// Why the mint could not be asked for all of this: the other figures are what is known here.
    pub trouble: Option<String>,
}

impl WalletFolder {
    /// Finishes what a crash interrupted, collects paid deposits, and accounts for the rest. Sent
    /// tokens stay good. Purses are released with their sessions, not here.
    ///
    /// A mint that does not answer keeps no other one waiting.
    ///
    /// # Errors
    /// [`WalletError::Store`].
    pub async fn recover(&self) -> Result<Vec<Recovered>, WalletError> {
        let mut recovered = Vec::new();
        for mint in self.mints().await? {
            let wallet = self.wallet_of(&mint.to_string()).await?;
            let asked = self.check_asked(&mint);
            let recovered_at = match asked {
                Ok(()) => self.recover_at(&wallet).await,
                Err(error) => Err(error),
            };
            let at = match recovered_at {
                Err(error @ WalletError::Store(_)) => return Err(error),
                Err(error) => Recovered {
                    balance: self.balance_at(&mint).await?,
                    deposited: Msat::ZERO,
                    awaited: Msat::ZERO,
                    finished: 0,
                    waiting: self.sagas_at(&mint).await?.len(),
                    unheard: Vec::new(),
                    sent: Msat::ZERO,
                    in_purses: Msat::ZERO,
                    spent_in_purses: Msat::ZERO,
                    trouble: Some(error.to_string()),
                },
                Ok(at) => at,
            };
            recovered.push(at);
        }
        Ok(recovered)
    }

    async fn balance_at(&self, mint: &MintUrl) -> Result<MintBalance, WalletError> {
        let mut balances = self.balance().await?.into_iter();
        let at = balances.find(|balance| balance.mint == *mint);
        Ok(at.unwrap_or_else(|| MintBalance::empty(mint.clone())))
    }

    /// Takes back every sent token that nobody has redeemed: what came home, net of fees.
    ///
    /// # Errors
    /// [`WalletError`] of the first mint that does not answer; what is done stays done.
    pub async fn take_back(&self) -> Result<Msat, WalletError> {
        let mut taken = Msat::ZERO;
        for mint in self.mints().await? {
            let wallet = self.wallet_at(&mint.to_string()).await?;
            let failed = |error| WalletError::of_mint(&mint, error);
            for sent in wallet.get_pending_sends().await.map_err(failed)? {
                if !wallet.check_send_status(sent).await.map_err(failed)? {
                    Self::note_taking_back(&wallet, sent).await?;
                    let amount = wallet.revoke_send(sent).await.map_err(failed)?;
                    taken = taken.saturating_plus(sum(core::iter::once(amount))?);
                }
            }
        }
        Ok(taken)
    }

    /// For the book: what comes back is less than what was sent by the mint's fee.
    async fn note_taking_back(wallet: &Wallet, sent: Uuid) -> Result<(), WalletError> {
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let line = TransactionId::from_saga_id(sent);
        let token = wallet.get_proofs_for_transaction(line).await;
        let token = token.map_err(failed)?;
        let fee = wallet.get_proofs_fee(&token).await.map_err(failed)?.total;
        let face = Amount::try_sum(token.iter().map(|proof| proof.amount));
        let back = face.map_err(|_| WalletError::Amount)?.checked_sub(fee);
        let noted = Note::TakenBack.write(wallet, sent, back.unwrap_or(Amount::ZERO));
        noted.await.map_err(WalletError::Store)
    }

    async fn recover_at(&self, wallet: &Wallet) -> Result<Recovered, WalletError> {
        let mint = wallet.mint_url.clone();
        let failed = |error| WalletError::of_mint(&mint, error);
        Self::name_sent(wallet).await?;
        let sagas = wallet.recover_incomplete_sagas().await.map_err(failed)?;
        let deposits = self.collect_deposits(wallet).await?;
        self.forget_spent_receipts(wallet).await?;
        self.forget_spent(wallet).await?;
        for sent in wallet.get_pending_sends().await.map_err(failed)? {
            wallet.check_send_status(sent).await.map_err(failed)?;
        }
        wallet.check_all_pending_proofs().await.map_err(failed)?;
        let sends = wallet.get_pending_sends().await.map_err(failed)?;
        let left = self.sagas_at(&mint).await?;
        let waiting = left.iter().filter(|saga| !sends.contains(&saga.id));
        let mut waiting = waiting.count().saturating_add(deposits.unclear);
        if let Err(error) = self.finish_trying(wallet).await {
            tracing::warn!(%error, "what was out to try locks");
            waiting = waiting.saturating_add(1);
        }
        let sent = self.held_by(&mint, &sends).await?;
        let (in_purses, spent_in_purses) = self.in_purses(wallet).await?;
        Ok(Recovered {
            balance: self.balance_at(&mint).await?,
            deposited: deposits.arrived,
            awaited: deposits.awaited,
            finished: sagas.recovered.saturating_add(sagas.compensated),
            waiting,
            unheard: deposits.unheard,
            sent,
            in_purses,
            spent_in_purses,
            trouble: None,
        })
    }

    async fn held_by(&self, mint: &MintUrl, operations: &[Uuid]) -> Result<Msat, WalletError> {
        let held = self.proofs(Some(mint.clone())).await?;
        let by_one = held.iter().filter(|info| {
            let by = info.used_by_operation;
            info.state != State::Spent && by.is_some_and(|by| operations.contains(&by))
        });
        sum(by_one.map(|info| info.proof.amount))
    }

    /// What the wallet takes for spendable and the mint has taken: left over where an operation was
    /// cut short between two steps, or where this folder was restored from an old copy. It would
    /// make each payment fail that uses it.
    pub(super) async fn forget_spent(&self, wallet: &Wallet) -> Result<(), WalletError> {
        let mut held = self.proofs(Some(wallet.mint_url.clone())).await?;
        held.retain(|info| info.state == State::Unspent);
        for part in held.chunks(Self::CHECKED_AT_ONCE) {
            let ys: Vec<PublicKey> = part.iter().map(|info| info.y).collect();
            let request = CheckStateRequest { ys: ys.clone() };
            let answer = wallet.mint_connector().post_check_state(request).await;
            let answer = answer.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
            let spent = spent_of(&ys, &answer.states);
            if !spent.is_empty() {
                let marked = self.store.update_proofs_state(spent, State::Spent).await;
                marked.map_err(WalletError::Store)?;
            }
        }
        Ok(())
    }

    /// A token that somebody else redeemed in the moment when it was being received: spent, and
    /// the mint has signed nothing for us. cdk 0.18 keeps it as pending for ever.
    async fn forget_spent_receipts(&self, wallet: &Wallet) -> Result<(), WalletError> {
        for saga in self.sagas_at(&wallet.mint_url).await? {
            let requested = WalletSagaState::Receive(ReceiveSagaState::SwapRequested);
            if saga.state == requested && self.was_redeemed_by_another(wallet, &saga).await? {
                let ys = self.ys_of(&wallet.mint_url, saga.id).await?;
                let removed = self.store.update_proofs(Vec::new(), ys).await;
                removed.map_err(WalletError::Store)?;
                let deleted = self.store.delete_saga(&saga.id).await;
                deleted.map_err(WalletError::Store)?;
            }
        }
        Ok(())
    }

    async fn was_redeemed_by_another(
        &self,
        wallet: &Wallet,
        saga: &WalletSaga,
    ) -> Result<bool, WalletError> {
        let OperationData::Receive(data) = &saga.data else {
            return Ok(false);
        };
        let Some(outputs) = data.blinded_messages.clone() else {
            return Ok(false);
        };
        let failed = |error| WalletError::of_mint(&wallet.mint_url, error);
        let ys = self.ys_of(&wallet.mint_url, saga.id).await?;
        let mint = wallet.mint_connector();
        // Spent first, restored second: our own swap signs and spends at once, so what is spent
        // and not signed then was not ours.
        let states = mint
            .post_check_state(CheckStateRequest { ys: ys.clone() })
            .await;
        let states = states.map_err(failed)?.states;
        let spent = !spent_of(&ys, &states).is_empty();
        let restored = mint.post_restore(RestoreRequest { outputs }).await;
        let nothing = restored.map_err(failed)?.signatures.is_empty();
        Ok(states.len() == ys.len() && spent && nothing)
    }

    async fn ys_of(&self, mint: &MintUrl, operation: Uuid) -> Result<Vec<PublicKey>, WalletError> {
        let proofs = self.proofs(Some(mint.clone())).await?;
        let of_it = |info: &&cdk::wallet::types::ProofInfo| {
            info.used_by_operation == Some(operation) && info.state == State::Pending
        };
        Ok(proofs.iter().filter(of_it).map(|info| info.y).collect())
    }

    /// What purses hold, unspent and spent, by the mint's word. Changes nothing.
    async fn in_purses(&self, wallet: &Wallet) -> Result<(Msat, Msat), WalletError> {
        let sagas = self.sagas_at(&wallet.mint_url).await?;
        let mut held = self.proofs(Some(wallet.mint_url.clone())).await?;
        held.retain(|info| {
            let by = info.used_by_operation;
            info.state == State::Reserved
                && by.is_some_and(|id| sagas.iter().all(|saga| saga.id != id))
        });
        let (mut unspent, mut spent) = (Vec::new(), Vec::new());
        for part in held.chunks(Self::CHECKED_AT_ONCE) {
            let request = CheckStateRequest {
                ys: part.iter().map(|info| info.y).collect(),
            };
            let answer = wallet.mint_connector().post_check_state(request).await;
            let answer = answer.map_err(|error| WalletError::of_mint(&wallet.mint_url, error))?;
            for info in part {
                let mut states = answer.states.iter();
                let state = states.find(|state| state.y == info.y);
                let is_spent = state.is_some_and(|state| state.state == State::Spent);
                let side = if is_spent { &mut spent } else { &mut unspent };
                side.push(info.proof.amount);
            }
        }
        Ok((sum(unspent)?, sum(spent)?))
    }

    pub(super) async fn mints(&self) -> Result<Vec<MintUrl>, WalletError> {
        let proofs = self.proofs(None).await?.into_iter();
        let mut mints: Vec<MintUrl> = proofs.map(|info| info.mint_url).collect();
        let sagas = self.sagas().await?.into_iter();
        mints.extend(sagas.map(|saga| saga.mint_url));
        mints.extend(self.quoted().await?);
        mints.sort();
        mints.dedup();
        Ok(mints)
    }

    /// The mints of deposits that are not ecash yet.
    pub(super) async fn quoted(&self) -> Result<impl Iterator<Item = MintUrl>, WalletError> {
        let quotes = self.store.get_unissued_mint_quotes().await;
        let quotes = quotes.map_err(WalletError::Store)?.into_iter();
        Ok(quotes.map(|quote| quote.mint_url))
    }

    pub(super) async fn sagas(&self) -> Result<Vec<WalletSaga>, WalletError> {
        // cdk-redb 0.18 makes its table of sagas with the first change to one, and cannot read it
        // before: a wallet that only ever received has none.
        let first = self.store.delete_saga(&Uuid::nil()).await;
        first.map_err(WalletError::Store)?;
        let sagas = self.store.get_incomplete_sagas().await;
        sagas.map_err(WalletError::Store)
    }

    pub(super) async fn sagas_at(&self, mint: &MintUrl) -> Result<Vec<WalletSaga>, WalletError> {
        let mut sagas = self.sagas().await?;
        sagas.retain(|saga| saga.mint_url == *mint);
        Ok(sagas)
    }
}

/// What was asked for and is spent, by the mint's word; what it says of other proofs is not looked at.
/// Source: NUT-07.
fn spent_of(asked: &[PublicKey], states: &[ProofState]) -> Vec<PublicKey> {
    let spent = states.iter().filter(|of| of.state == State::Spent);
    let ours = spent.filter(|of| asked.contains(&of.y));
    ours.map(|of| of.y).collect()
}
