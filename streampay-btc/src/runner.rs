//! Makes the machine's calls: looks at the chain, has channels funded, broadcasts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use streampay_core::backend::{BackendError, Effect, EffectResult};
use streampay_core::driver::{Clock, EffectRunner, StoreWriter, entropy};
use streampay_core::store::StoreError;
use streampay_core::units::PurseKey;
use tokio::sync::Mutex;

use crate::chain::{ChainError, ChainSource};
use crate::codec;
use crate::job::{Done, Drawn, Job};
use crate::machine::{Action, ChannelMachine, TooManyCoins, WalletCoin, WatchEvent};

/// What a wallet is asked to pay: exactly `value` to `script`, in one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingOrder {
    /// The channel.
    pub purse: PurseKey,
    /// The script of its output.
    pub script: ScriptBuf,
    /// Exactly so much.
    pub value: Amount,
}

/// What a wallet did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Funded {
    /// It has broadcast a transaction with this output.
    Paid {
        /// The output.
        outpoint: OutPoint,
        /// What the transaction cost, as far as is known.
        fee: Amount,
    },
    /// Somebody has been shown the address and amount, and may pay.
    Asked,
    /// It will not.
    Declined,
}

/// Whoever pays for channels: a wallet of one's own, or a user who is shown an address. Asked again
/// for the same order until the output is on the chain: it must not pay twice.
#[async_trait]
pub trait FundingWallet: Send + Sync + 'static {
    /// Pays, or has it paid.
    async fn fund(&self, order: &FundingOrder) -> Funded;
}

#[async_trait]
impl<W: FundingWallet + ?Sized> FundingWallet for Arc<W> {
    async fn fund(&self, order: &FundingOrder) -> Funded {
        (**self).fund(order).await
    }
}

/// Why the chain could not be looked at.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The chain source.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store failed: until the process is started anew no tick is taken, and nothing is broadcast
    /// but closes within the margin, and refunds.
    #[error("the store failed: {0}")]
    Store(StoreError),
    /// The fee wallet is full.
    #[error(transparent)]
    Coins(#[from] TooManyCoins),
}

/// The newest look.
struct Looking {
    /// False once the store has failed.
    sound: bool,
    /// It began after this many had been asked for.
    upto: u64,
    /// What came of it.
    last: Result<(), SyncError>,
}

/// The effects of [`ChannelMachine`], and its watch.
pub struct Runner<C, W> {
    machine: ChannelMachine,
    chain: C,
    wallet: W,
    store: StoreWriter,
    clock: Clock,
    /// One look at a time, in order.
    looking: Mutex<Looking>,
    /// Looks that were asked for.
    asked: AtomicU64,
    /// One look at a channel that is not accepted at a time.
    candidates: Mutex<()>,
    /// The height from which on coins for the fee wallet are looked for, where they are.
    fee_coins_since: Option<u32>,
    /// What the user has not been told yet.
    news: std::sync::Mutex<Vec<(PurseKey, WatchEvent)>>,
}

/// Coins of less help no close: each costs 58 vB to spend.
const FEE_COIN_MIN: Amount = Amount::from_sat(1_000);
/// News that may wait for the user; the newest are dropped.
const NEWS_MAX: usize = 1024;

impl<C: ChainSource, W: FundingWallet> Runner<C, W> {
    /// A runner for `machine`, whose clone is the node's method. `clock` is the node's.
    pub fn new(
        machine: ChannelMachine,
        chain: C,
        wallet: W,
        store: StoreWriter,
        clock: Clock,
    ) -> Self {
        Self {
            machine,
            chain,
            wallet,
            store,
            clock,
            looking: Mutex::new(Looking {
                sound: true,
                upto: 0,
                last: Ok(()),
            }),
            asked: AtomicU64::new(0),
            candidates: Mutex::new(()),
            fee_coins_since: None,
            news: std::sync::Mutex::default(),
        }
    }

    /// The same runner, which also gives the fee wallet every coin of worth that is paid to
    /// [`ChannelMachine::fee_script`] in a block from `since` on.
    #[must_use]
    pub fn with_fee_wallet(self, since: u32) -> Self {
        Self {
            fee_coins_since: Some(since),
            ..self
        }
    }

    /// The chain source.
    pub const fn chain(&self) -> &C {
        &self.chain
    }

    /// Looks at the chain and does what the machine says, each thing once the one before is
    /// durable. Once the store has failed, only what cannot wait for it. A transaction that the chain refuses is tried again at the next block. Whoever asks
    /// while a look is under way shares the next one with all others.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn sync(&self) -> Result<(), SyncError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let mut looking = self.looking.lock().await;
        if looking.upto >= ticket {
            return looking.last.clone();
        }
        // This look begins now: it is as good for all who have asked so far.
        let upto = self.asked.load(Ordering::SeqCst);
        let last = self.sync_once(&mut looking.sound).await;
        (looking.upto, looking.last) = (upto, last.clone());
        last
    }

    /// Where the store has failed, nothing is looked for or decided any more, and no tick can be made
    /// durable; channels are closed and refunded all the same where no tick can follow.
    async fn sync_once(&self, sound: &mut bool) -> Result<(), SyncError> {
        let mut done = match *sound {
            true => self.look_for_money(sound).await,
            false => Err(SyncError::Store(StoreError::Poisoned)),
        };
        let view = self.chain.view(&self.machine.watched()).await?;
        let mut actions = VecDeque::from(self.machine.chain(self.clock.now(), &view));
        if done.is_err() {
            actions = self.machine.without_disk(actions);
        }
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Persist(changes) => {
                    if let Err(error) = self.store.append(changes).await {
                        *sound = false;
                        tracing::error!(%error, "the store failed: only what cannot wait is broadcast");
                        done = Err(SyncError::Store(error));
                        actions = self.machine.without_disk(actions);
                    }
                }
                Action::Broadcast(tx) => self.broadcast(&[tx]).await,
                Action::Package(package) => self.broadcast(&package).await,
                Action::Event(purse, event) => self.tell(purse, event),
            }
        }
        done?;
        self.look_besides(sound).await
    }

    /// Looks for what was paid to channels' addresses besides, once a block. An error is that of the store.
    async fn look_besides(&self, sound: &mut bool) -> Result<(), SyncError> {
        for of in self.machine.besides() {
            let (coins, whole) = match self.chain.coins(&of.script, of.since).await {
                Ok(coins) => (coins, true),
                // Those are as good; the others are looked for again at the next look.
                Err(ChainError::Pruned(coins)) => (coins, false),
                Err(error) => {
                    // Looked for again at the next look.
                    tracing::warn!(%error, "what else was paid to an address is not looked for");
                    continue;
                }
            };
            for action in self.machine.paid_besides(of.purse, &coins, whole) {
                match action {
                    Action::Persist(changes) => {
                        if let Err(error) = self.store.append(changes).await {
                            *sound = false;
                            return Err(SyncError::Store(error));
                        }
                    }
                    Action::Event(purse, event) => self.tell(purse, event),
                    Action::Broadcast(_) | Action::Package(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Looks for payments to addresses that were shown, and for coins. An error is that of the store.
    async fn look_for_money(&self, sound: &mut bool) -> Result<(), SyncError> {
        for of in self.machine.unpaid() {
            let found = self.chain.find(&of.script, of.value, of.since).await;
            let found = found.unwrap_or_else(|error| {
                // Looked for again at the next look; channels are closed and refunded all the same.
                tracing::warn!(%error, "a payment to an address is not looked for");
                Vec::new()
            });
            if let Some(outpoint) = found.first() {
                let changes = self.machine.paid_late(of.purse, *outpoint);
                if let Err(error) = self.store.append(changes).await {
                    *sound = false;
                    return Err(SyncError::Store(error));
                }
            }
        }
        match self.new_fee_coins().await {
            Ok(coins) => self.take_coins(sound, &coins).await,
            Err(error) => {
                // Channels are closed all the same.
                tracing::warn!(%error, "no coins are looked for");
                Ok(())
            }
        }
    }

    /// Gives the fee wallet coins: see [`ChannelMachine::add_fee_coins`].
    ///
    /// # Errors
    /// [`SyncError::Coins`] where they are too many; [`SyncError::Store`].
    pub async fn add_fee_coins(&self, coins: &[WalletCoin]) -> Result<(), SyncError> {
        let mut looking = self.looking.lock().await;
        if !looking.sound {
            return Err(SyncError::Store(StoreError::Poisoned));
        }
        self.take_coins(&mut looking.sound, coins).await
    }

    async fn take_coins(&self, sound: &mut bool, coins: &[WalletCoin]) -> Result<(), SyncError> {
        if let Action::Persist(changes) = self.machine.add_fee_coins(coins)?
            && !changes.is_empty()
            && let Err(error) = self.store.append(changes).await
        {
            *sound = false;
            return Err(SyncError::Store(error));
        }
        Ok(())
    }

    /// Coins that the fee wallet does not know, the largest first, as many as it can take.
    async fn new_fee_coins(&self) -> Result<Vec<WalletCoin>, ChainError> {
        let Some(since) = self.fee_coins_since else {
            return Ok(Vec::new());
        };
        let mut coins = match self.chain.coins(&self.machine.fee_script(), since).await {
            Err(ChainError::Pruned(coins)) => coins,
            coins => coins?,
        };
        let known = self.machine.fee_coins();
        let is_known = |coin: &WalletCoin| known.iter().any(|of| of.outpoint == coin.outpoint);
        coins.retain(|coin| coin.value >= FEE_COIN_MIN && !is_known(coin));
        coins.sort_by_key(|coin| core::cmp::Reverse(coin.value));
        coins.truncate(ChannelMachine::FEE_COINS_MAX.saturating_sub(known.len()));
        Ok(coins)
    }

    /// What the user should know and was not told.
    pub fn news(&self) -> Vec<(PurseKey, WatchEvent)> {
        let news = self.news.lock();
        core::mem::take(&mut *news.unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, purse: PurseKey, event: WatchEvent) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.len() < NEWS_MAX {
            news.push((purse, event));
        }
    }

    /// Looks every so often, for ever, and tells `on_event`. Run it in a task of its own.
    pub async fn watch(&self, every: Duration, on_event: impl Fn(PurseKey, WatchEvent) + Send) {
        loop {
            if let Err(error) = self.sync().await {
                tracing::warn!(%error, "the chain could not be looked at");
            }
            let news = self.news().into_iter();
            news.for_each(|(purse, event)| on_event(purse, event));
            tokio::time::sleep(every).await;
        }
    }

    /// One transaction, or one with the parents that it pays for.
    async fn broadcast(&self, txs: &[Transaction]) {
        let Some(tx) = txs.last() else { return };
        let txid = tx.compute_txid();
        let done = match txs {
            [tx] => self.chain.broadcast(tx).await,
            package => self.chain.broadcast_package(package).await,
        };
        match done {
            Ok(()) => tracing::info!(%txid, "broadcast"),
            Err(error) => tracing::warn!(%txid, %error, "not broadcast"),
        }
    }

    /// A channel that is not accepted is looked at by itself, one at a time: what a stranger names
    /// costs no other channel anything.
    async fn look(&self, purse: PurseKey) -> Result<Done, BackendError> {
        let looked = match self.machine.candidate(purse) {
            Some(watch) => {
                let _one = self.candidates.lock().await;
                let found = self.chain.output(&watch).await;
                found
                    .map(|(tip, seen)| self.machine.show(purse, &watch, tip, seen))
                    .map_err(SyncError::Chain)
            }
            None if self.machine.knows(purse) => self.sync().await,
            // Refused or forgotten meanwhile: a stranger's word costs no look at all channels.
            None => Ok(()),
        };
        looked.map_or(Err(BackendError::Transient), |()| Ok(Done::Looked))
    }

    /// Where the channel was funded, if it was.
    async fn find(
        &self,
        script: &ScriptBuf,
        value: Amount,
        since: u32,
    ) -> Result<Done, BackendError> {
        let found = self.chain.find(script, value, since).await;
        let found = found.map_err(|_| BackendError::Transient)?;
        Ok(found.first().map_or(Done::Looked, |outpoint| Done::Funded {
            outpoint: (*outpoint).into(),
            fee: 0,
        }))
    }

    async fn fund(
        &self,
        purse: PurseKey,
        script: ScriptBuf,
        value: Amount,
        since: u32,
    ) -> Result<Done, BackendError> {
        match self.chain.find(&script, value, since).await {
            Ok(found) => {
                if let Some(outpoint) = found.first() {
                    let (outpoint, fee) = ((*outpoint).into(), 0);
                    return Ok(Done::Funded { outpoint, fee });
                }
            }
            // A full mempool takes long to read. The wallet knows what it has paid.
            Err(ChainError::Reading(_)) => {}
            Err(_) => return Err(BackendError::Transient),
        }
        let order = FundingOrder {
            purse,
            script,
            value,
        };
        match self.wallet.fund(&order).await {
            Funded::Paid { outpoint, fee } => Ok(Done::Funded {
                outpoint: outpoint.into(),
                fee: fee.to_sat(),
            }),
            Funded::Asked => Err(BackendError::Transient),
            Funded::Declined => Err(BackendError::Fatal(
                streampay_core::backend::RefusalCode::InsufficientFunds,
            )),
        }
    }
}

#[async_trait]
impl<C: ChainSource, W: FundingWallet> EffectRunner for Runner<C, W> {
    async fn run(&self, effect: Effect) -> EffectResult {
        let done = match codec::decode::<Job>(&effect.body, usize::MAX) {
            Ok(Job::Look) => self.look(effect.purse).await,
            Ok(Job::Fund {
                script,
                value,
                since,
            }) => {
                let script = ScriptBuf::from_bytes(script.to_vec());
                self.fund(effect.purse, script, Amount::from_sat(value), since)
                    .await
            }
            Ok(Job::Find {
                script,
                value,
                since,
            }) => {
                let script = ScriptBuf::from_bytes(script.to_vec());
                self.find(&script, Amount::from_sat(value), since).await
            }
            Ok(Job::Draw) => match entropy() {
                Ok(entropy) => Ok(Done::Drawn(Drawn(entropy.0.into()))),
                Err(_) => Err(BackendError::Transient),
            },
            Err(_) => Err(BackendError::Unknown),
        };
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: done.map(|done| codec::encode(&done).into()),
        }
    }
}

impl<C, W> core::fmt::Debug for Runner<C, W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Runner")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
